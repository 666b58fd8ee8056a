"""grad, vjp and jacrev: reverse mode as transforms.

The function runs on aliases of its inputs, which the tape records like any tensors; `transforms/reverse.py` takes the gradients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from tapegrad import modes
from tapegrad.func.batched import chunk_sizes, vmap
from tapegrad.ops.transformable import plain
from tapegrad.tensor import Tensor
from tapegrad.transforms import reverse
from tapegrad.transforms.wrappers import GradLevel
from tapegrad.utils._pytree import sketch, tree_flatten, tree_leaves, tree_map, tree_unflatten


# --- argument numbers -----------------------------------------------------------------------------------------------
def chosen(args: tuple, argnums: Any, as_tuple: bool = True) -> Any:
    """The arguments that `argnums` names; torch's errors for bad numbers."""
    if not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    numbers = tuple(_number(n, len(args)) for n in (argnums if isinstance(argnums, tuple) else (argnums,)))
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    if len(set(numbers)) != len(numbers):
        raise RuntimeError(f"argnums elements must be unique, got {numbers}")
    if isinstance(argnums, int):
        return (args[numbers[0]],) if as_tuple else args[numbers[0]]
    return tuple(args[n] for n in numbers)


def _number(n: Any, count: int) -> int:
    if not isinstance(n, int):
        raise RuntimeError(f"argnum must be int, got: {type(n)}")
    if not -count <= n < count:
        raise RuntimeError(f"Got argnum={n}, but only {count} positional inputs")
    return n % count


def replaced(args: tuple, values: Any, argnums: Any) -> tuple:
    """`args` with those that `argnums` names replaced."""
    args = list(args)  # type: ignore[assignment]
    for n, value in zip(argnums if isinstance(argnums, tuple) else (argnums,), values, strict=True):
        args[n] = value  # type: ignore[index]
    return tuple(args)


# --- the pass under way ---------------------------------------------------------------------------------------------
class Differentiation:
    """One reverse-mode transform: aliases in, gradients out."""

    def __init__(self):
        self.connected = modes.is_grad_enabled()  # whether gradients may be part of a graph around the transform
        self.shown = self.connected  # and whether values may
        self.inside = reverse.vmap_levels()
        self.level = GradLevel()
        self.points = self.level.points
        self.outer = False

    def alias(self, tree: Any) -> Any:
        """The tensors of a tree as aliases by which will be differentiated."""

        def one(x):
            if not isinstance(x, Tensor):
                raise ValueError(f"Thing passed to transform API must be Tensor, got {type(x)}")
            point = reverse.alias(x, self.inside, self.connected)
            self.points.append(point)
            self.outer = self.outer or (self.connected and x.requires_grad)
            return point

        return tree_map(one, tree)

    def others(self, tree: Any) -> Any:
        """The arguments that are not differentiated by, as objects of the transform's own."""
        return tree_map(lambda x: reverse.another(x, self.connected) if isinstance(x, Tensor) else x, tree)

    def release(self, tree: Any) -> Any:
        """Outputs for the outside: without their graph, unless they depend on something there that requires grad."""

        only_tensors(tree)

        def one(t):
            kept = self.shown and (self.outer or reverse.depends_on_others([t], self.points + self.level.leaves))
            return t if kept else reverse.detached(t)

        return tree_map(one, tree)

    def end(self) -> None:
        """Nothing is recorded of inputs that the function has kept."""
        from tapegrad.autograd import leaves

        for point in self.points:
            if point.is_leaf:
                leaves.switch_off(plain(point))

    def gradients(self, outputs: list, cotangents: list, create: bool) -> list:
        found = reverse.pull(outputs, self.points, cotangents, create)
        return [reverse.zeros_of(p) if g is None else g if create else reverse.detached(g) for g, p in zip(found, self.points, strict=True)]


def _auxiliary(result: Any, call: str) -> tuple:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(f"{call}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return result


def refuse_complex(name: str, tree: Any, what: str) -> None:
    """Jacobians are of real functions."""
    for k, t in enumerate(tree_leaves(tree)):
        if isinstance(t, Tensor) and t.is_complex():
            raise RuntimeError(f"{name}: Expected all {what} to be real but received complex tensor at flattened input idx: {k}")


def only_tensors(tree: Any) -> None:
    """Raise for an auxiliary output that is no tensor."""
    for t in tree_leaves(tree):
        if not isinstance(t, Tensor):
            raise RuntimeError(f"Expected tensors, got unsupported type {type(t)}")


def check_outputs(output: list, api: str) -> None:
    """A function to be differentiated returns tensors, at least one."""
    if (len(output) == 1 and output[0] is None) or not output:
        raise RuntimeError(f"{api}: Expected f to be a function that has non-empty output (got output = {output})")
    for out in output:
        if not isinstance(out, Tensor):
            raise RuntimeError(f"{api}: expected f(*primals) to return only tensors, got unsupported type {type(out)}")


# --- grad -----------------------------------------------------------------------------------------------------------
def grad_and_value(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """A function that returns (gradient, value) of `func`, which returns a 0-d tensor; with `has_aux`, (gradient, (value, aux)).

    >>> import tapegrad as tg
    >>> tg.func.grad_and_value(lambda x: x ** 2)(tg.tensor(3.))
    (tensor(6.), tensor(9.))
    """

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        work = Differentiation()
        aux = None
        with work.level.given((args, kwargs)), modes.enable_grad():
            picked = work.alias(chosen(args, argnums))
            result = func(*replaced(work.others(args), picked, argnums), **work.others(kwargs))
            if has_aux:
                result, aux = _auxiliary(result, "grad_and_value(f)(*args)")
            if not isinstance(result, Tensor):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(result)}")
            if result.ndim:
                raise RuntimeError(
                    f"grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with {result.ndim} dims. Maybe you wanted "
                    "to use the vjp or jacrev APIs instead?"
                )
            if result.is_complex():
                raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {result.dtype}")
            value = work.release(result)
            aux = work.release(aux) if has_aux else None
            create = work.connected and (work.outer or result.requires_grad and reverse.depends_on_others([result], work.points + work.level.leaves))
            leaves, spec = tree_flatten(picked if isinstance(argnums, tuple) else picked[0])
            gradients = tree_unflatten(work.gradients([result], [reverse.ones_of(result)], create), spec)
        if not create:
            work.end()
        return (gradients, (value, aux)) if has_aux else (gradients, value)

    return wrapper


def grad(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """A function that returns the gradient of `func`, which returns a 0-d tensor, by the arguments `argnums` (an int or a tuple).

    Arguments may be nested tuples, lists and dicts of tensors; the gradient has their structure.  With `has_aux`, `func` returns
    (value, aux) and the result is (gradient, aux).

    >>> import tapegrad as tg
    >>> tg.func.grad(tg.func.grad(tg.sin))(tg.tensor(0.5))
    tensor(-0.4794)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


# --- vjp ------------------------------------------------------------------------------------------------------------
def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """(outputs, vjp_fn) of `func` at `primals`; with `has_aux`, (outputs, vjp_fn, aux).

    `vjp_fn(cotangents)`, which takes the structure of the outputs, returns a tuple with the cotangents times the Jacobian by each of the
    primals.  It may be called again, and vmapped.

    >>> import tapegrad as tg
    >>> out, pull = tg.func.vjp(tg.sin, tg.tensor(0.))
    >>> out, pull(tg.tensor(1.))
    (tensor(0.), (tensor(1.),))
    """
    return vjp_of(func, primals, None, has_aux)


def vjp_of(func: Callable, primals: tuple, argnums: Any, has_aux: bool) -> tuple:
    """`vjp` by some of the arguments."""
    work = Differentiation()
    work.connected = not modes.is_inference_mode_enabled()  # the pull may be called where gradients are recorded again
    aux = None
    with work.level.given(primals), modes.enable_grad():
        picked = work.alias(primals if argnums is None else chosen(primals, argnums))
        result = func(*(picked if argnums is None else replaced(work.others(primals), picked, argnums)))
        if has_aux:
            result, aux = _auxiliary(result, "vjp(f, *primals)")
            aux = work.release(aux)
        leaves, spec = tree_flatten(result)
        check_outputs(leaves, "vjp(f, *primals)")
        outputs = work.release(result)
        for out in leaves:
            if not (out.is_floating_point() or out.is_complex()):
                raise RuntimeError(
                    f"vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype {out.dtype}"
                )
        outer = work.outer or work.connected and (
            any(out.requires_grad for out in tree_flatten(outputs)[0]) if work.shown
            else reverse.depends_on_others(leaves, work.points + work.level.leaves)
        )
        _, shape = tree_flatten(picked if argnums is None or isinstance(argnums, tuple) else picked[0])

    def vjp_fn(cotangents, retain_graph=True, create_graph=None):
        given, structure = tree_flatten(cotangents)
        for v in given:
            if v is not None and not isinstance(v, Tensor):
                raise TypeError(f"gradients can be either Tensors or None, but got {type(v).__name__}")
        if structure != spec:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. cotangents: "
                f"{sketch(structure)}, primal output: {sketch(spec)}"
            )
        enabled = modes.is_grad_enabled() if create_graph is None else create_graph
        create = enabled and (outer or any(v.requires_grad for v in given))
        return tree_unflatten(work.gradients(leaves, given, create), shape)

    return (outputs, vjp_fn, aux) if has_aux else (outputs, vjp_fn)


# --- jacrev ---------------------------------------------------------------------------------------------------------
def basis(tensors: list, chunk_size: int | None = None) -> Iterator[list]:
    """The unit vectors of the space of all tensors together, in chunks: per tensor (vectors of the chunk, *shape)."""
    from tapegrad.creation import zeros

    total = sum(t.numel() for t in tensors)
    first = 0
    for size in [total] if not chunk_size or chunk_size >= total else chunk_sizes(total, chunk_size):
        parts, start = [], 0
        for t in tensors:
            part = zeros(size, t.numel(), dtype=t.dtype)
            with modes.no_grad():
                part.diagonal(first - start).fill_(1)
            parts.append(part.view(size, *t.shape))
            start += t.numel()
        yield parts
        first += size


def jacrev(func: Callable, argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None, _preallocate_and_copy: bool = False) -> Callable:
    """A function that returns the Jacobian of `func` by the arguments `argnums`, row by row: a vmap of `vjp` over the unit vectors.

    The result has the structure of the outputs, each with that of the chosen arguments; a block has shape (*output, *input).
    chunk_size: how many rows are computed at a time.

    >>> import tapegrad as tg
    >>> tg.func.jacrev(lambda x: x ** 2)(tg.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def wrapper(*args):
        from tapegrad.ops.joining import cat

        refuse_complex("jacrev", args, "inputs")
        output, pull, *aux = vjp_of(func, args, argnums, has_aux)
        outputs, out_spec = tree_flatten(output)
        refuse_complex("jacrev", outputs, "outputs")
        points, in_spec = tree_flatten(chosen(args, argnums))
        columns: list[list] = [[] for _ in points]
        for part in basis(outputs, chunk_size):
            if chunk_size == 1:
                found = pull(tree_unflatten([t.squeeze(0) for t in part], out_spec))
                rows = [g.unsqueeze(0) for g in tree_flatten(found)[0]]
            else:
                rows = tree_flatten(vmap(pull)(tree_unflatten(part, out_spec)))[0]
            for column, g in zip(columns, rows, strict=True):
                column.append(g)
        blocks = []
        for column, x in zip(columns, points, strict=True):
            whole = column[0] if len(column) == 1 else cat(column, 0)
            pieces = whole.split([out.numel() for out in outputs], 0)
            blocks.append([piece.view((*out.shape, *x.shape)) for piece, out in zip(pieces, outputs, strict=True)])
        rows_of_outputs = [tree_unflatten(row, in_spec) for row in zip(*blocks, strict=True)]
        if isinstance(argnums, int):
            rows_of_outputs = [row[0] for row in rows_of_outputs]
        result = tree_unflatten(rows_of_outputs, out_spec)
        return (result, aux[0]) if has_aux else result

    return wrapper
