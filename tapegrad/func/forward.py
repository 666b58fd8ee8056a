"""jvp, jacfwd, hessian and linearize: forward mode as transforms."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from tapegrad.func.batched import vmap
from tapegrad.func.reverse import basis, check_outputs, chosen, jacrev, only_tensors, refuse_complex, replaced
from tapegrad.tensor import Tensor
from tapegrad.transforms import reverse
from tapegrad.transforms.forward import DualLevel
from tapegrad.transforms.wrappers import GradLevel
from tapegrad.utils._pytree import tree_flatten, tree_map, tree_unflatten

JVP = "jvp(f, primals, tangents)"


def jvp(func: Callable, primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False) -> tuple:
    """(outputs, the Jacobian of `func` at `primals` times `tangents`); with `has_aux`, `func` returns (outputs, aux) and aux comes third.

    `tangents` has the structure and shapes of `primals`.  With `strict`, an output that does not depend on the primals is an error;
    else its product is zeros.

    >>> import tapegrad as tg
    >>> tg.func.jvp(tg.sin, (tg.tensor(0.),), (tg.tensor(2.),))
    (tensor(0.), tensor(2.))
    """
    return jvp_of(func, primals, tangents, None, strict, has_aux)


def _tensors(values: list, name: str) -> None:
    if not values:
        raise RuntimeError(f"{JVP}: Expected {name} to contain at least one Tensor.")
    for value in values:
        if not isinstance(value, Tensor):
            raise RuntimeError(f"{JVP}: Expected {name} to only contain Tensors, got {type(value)}")


def jvp_of(func: Callable, primals: Any, tangents: Any, argnums: Any, strict: bool, has_aux: bool) -> tuple:
    """`jvp` by some of the arguments."""
    from tapegrad.autograd import forward_ad
    from tapegrad.creation import zeros_like

    if not isinstance(primals, tuple):
        raise RuntimeError(f"{JVP}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    points, spec = tree_flatten(primals if argnums is None else chosen(primals, argnums))
    vectors, structure = tree_flatten(tangents)
    if spec != structure:
        raise RuntimeError(
            f"{JVP}: Expected primals and tangents to have the same python structure. For example, if primals is a tuple of 3 tensors, tangents "
            f"also must be. Got primals with structure {spec} and tangents with structure {structure}"
        )
    _tensors(points, "primals")
    _tensors(vectors, "tangents")
    forward_ad.refuse_nested()
    with DualLevel().given((primals, tangents)) as level, forward_ad._set_fwd_grad_enabled(True):
        for x, v in zip(points, vectors, strict=True):
            forward_ad.check_dual(x, v)
        duals = tree_unflatten([level.wrap(x, v) for x, v in zip(points, vectors, strict=True)], spec)
        result, aux = func(*(duals if argnums is None else replaced(primals, duals, argnums))), None
        if has_aux:
            if not (isinstance(result, tuple) and len(result) == 2):
                raise RuntimeError(f"{JVP}: output of function f should be a tuple: (output, aux) if has_aux is True")
            result, aux = result
            only_tensors(aux)
            aux = tree_map(level.value, aux)
        leaves, shape = tree_flatten(result)
        check_outputs(leaves, JVP)
        values, products = [], []
        for out in leaves:
            tangent = level.tangent(out)
            if tangent is None:
                if strict:
                    raise RuntimeError(
                        "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This is not allowed with "
                        "strict=True."
                    )
                tangent = zeros_like(level.value(out))
            values.append(level.value(out))
            products.append(tangent)
    found = tree_unflatten(values, shape), tree_unflatten(products, shape)
    return (*found, aux) if has_aux else found


def jacfwd(func: Callable, argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error") -> Callable:
    """A function that returns the Jacobian of `func` by the arguments `argnums`, column by column: a vmap of `jvp` over the unit vectors.

    The result has the structure of the outputs, each with that of the chosen arguments; a block has shape (*output, *input).
    randomness: as in `vmap`.

    >>> import tapegrad as tg
    >>> tg.func.jacfwd(lambda x: x ** 2)(tg.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def wrapper(*args):
        refuse_complex("jacfwd", args, "inputs")
        points, spec = tree_flatten(args if argnums is None else chosen(args, argnums))
        units = tree_unflatten(next(basis(points)), spec)

        def push(tangents):
            _, *found = jvp_of(func, args, tangents, argnums, False, has_aux)
            return tuple(found) if has_aux else found[0]

        result = vmap(push, randomness=randomness)(units)
        aux = None
        if has_aux:
            result, aux = result
            aux = tree_map(lambda t: t[0], aux)
        products, shape = tree_flatten(result)
        refuse_complex("jacfwd", products, "outputs")
        blocks = []
        for product in products:
            pieces = product.movedim(0, -1).split([x.numel() for x in points], -1)
            columns = [piece.reshape((*piece.shape[:-1], *x.shape)) for piece, x in zip(pieces, points, strict=True)]
            block = tree_unflatten(columns, spec)
            blocks.append(block[0] if isinstance(argnums, int) else block)
        jacobian = tree_unflatten(blocks, shape)
        return (jacobian, aux) if has_aux else jacobian

    return wrapper


def hessian(func: Callable, argnums: Any = 0) -> Callable:
    """A function that returns the Hessian of `func` by the arguments `argnums`: forward over reverse, `jacfwd(jacrev(func))`.

    >>> import tapegrad as tg
    >>> tg.func.hessian(lambda x: (x ** 3).sum())(tg.ones(2))
    tensor([[6., 0.],
            [0., 6.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def _refuse_levels(points: list) -> None:
    """torch linearizes by forward mode by hand, which has its limits."""
    from tapegrad.autograd import forward_ad

    forward_ad.refuse_nested()
    forward_ad.refuse_in_transforms()
    if reverse.vmap_levels(points):
        raise RuntimeError(forward_ad.NO_BATCHES)


def linearize(func: Callable, *primals: Any) -> tuple:
    """(outputs, jvp_fn): `jvp_fn(*tangents)` is the Jacobian of `func` at `primals` times the tangents, any number of times.

    `func` runs once; its linear part, u -> J^T u, is recorded, and `jvp_fn` applies the transpose of that.  A UserWarning, where PyTorch
    gives one too, reminds that values computed at the primals are constants in it.

    >>> import warnings
    >>> warnings.simplefilter("ignore")
    >>> import tapegrad as tg
    >>> out, push = tg.func.linearize(tg.sin, tg.tensor(0.))
    >>> push(tg.tensor(2.))
    tensor(2.)
    """
    from tapegrad import modes
    from tapegrad.creation import zeros_like

    points, spec = tree_flatten(primals)
    for x in points:
        if hasattr(x, "_slot") and not x.dtype.differentiable:
            raise ValueError(f"Expected primal to be floating point or complex, but got: {x.dtype}")
    inside = reverse.vmap_levels()
    connected = modes.is_grad_enabled()
    with GradLevel().given(primals) as level, modes.enable_grad():
        aliases = [reverse.alias(x, inside, connected) for x in points]
        level.points.extend(aliases)
        leaves, shape = tree_flatten(func(*tree_unflatten(aliases, spec)))
        check_outputs(leaves, "linearize(f, *primals)")
        _refuse_levels(points)
        warnings.warn(
            "linearize: values computed at the primals are constants of the linear function; it does not follow later changes of the primals",
            stacklevel=2,
        )
        outer = connected and (any(x.requires_grad for x in points) or reverse.depends_on_others(leaves, aliases + level.leaves))
        live = [k for k, out in enumerate(leaves) if out.requires_grad]
        vectors = [reverse.alias(reverse.detached(zeros_like(leaves[k])), inside, False) for k in live]
        pulled = reverse.pull([leaves[k] for k in live], aliases, vectors, True)
        outputs = [out if outer else reverse.detached(out) for out in leaves]

    def jvp_fn(*tangents):
        given, structure = tree_flatten(tangents)
        if structure != spec:
            raise RuntimeError(f"Expected the tangents {structure} to have the same argspec as the primals {spec}")
        for k, (t, x) in enumerate(zip(given, points, strict=True)):
            for what, own, other in (("shape", t.shape, x.shape), ("dtype", t.dtype, x.dtype)):
                if own != other:
                    raise RuntimeError(
                        f"tangent:{k} with {what} {own} in flattened pytree doesn't match the {what} {other} of the corresponding primal."
                    )
        create = modes.is_grad_enabled() and (outer or any(t.requires_grad for t in given))
        parts = [(g, t) for g, t in zip(pulled, given, strict=True) if g is not None]
        found = reverse.pull([g for g, _ in parts], vectors, [t for _, t in parts], create) if parts else [None] * len(live)
        products = [zeros_like(out) for out in outputs]
        for k, g in zip(live, found, strict=True):
            if g is not None:
                products[k] = g if create else reverse.detached(g)
        return tree_unflatten(products, shape)

    return tree_unflatten(outputs, shape), jvp_fn
