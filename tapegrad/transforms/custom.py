"""Custom autograd Functions under transforms.

At a forward-mode level the Function's own `jvp` makes the tangents.  At a vmap level its `vmap` computes the batch, or, with
`generate_vmap_rule`, a Function is made whose forward, backward and jvp are the vmaps of the given ones (`_generated`).  Reverse mode
needs nothing: the tape records the values below the levels.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from tapegrad.autograd.function import Function, FunctionCtx
from tapegrad.ops.transformable import level_in
from tapegrad.tensor import Tensor
from tapegrad.transforms.batching import VmapLevel
from tapegrad.transforms.wrappers import levels
from tapegrad.utils._pytree import broadcast_to_and_flatten, tree_flatten, tree_map, tree_unflatten

MORE = "For more details, please see https://pytorch.org/docs/main/notes/extending.func.html"
NO_SETUP = (
    "In order to use an autograd.Function with functorch transforms (vmap, grad, jvp, jacrev, ...), it must override the setup_context "
    f"staticmethod. {MORE}"
)
NOT_IN_PLACE = (
    "An inplace custom Function is not modifying the forward mode gradients inplace. If the forward is modifying an input inplace, then the "
    "jvp function must modify the corresponding gradient inplace."
)
NO_VIEW = "A custom Function's forward is returning a view (or an input as-is) but the jvp is not returning a view."
OTHER_VIEW = "A custom Function is returning a view but the jvp is not returning a view of "
VmapInfo = namedtuple("VmapInfo", ["batch_size", "randomness"])
VmapInfo.__doc__ = "What a Function's `vmap` is told: the batch size and what random operations are to do."


def has_setup(cls: type) -> bool:
    return cls.setup_context is not Function.setup_context  # type: ignore[attr-defined]


def apply(cls: Any, args: tuple, kwargs: dict) -> Any:
    """`cls.apply` while a level is alive; NotImplemented if none has to do with it."""
    if any(level.public for level in levels()) and not has_setup(cls):
        raise RuntimeError(NO_SETUP)
    level = level_in(args)
    if level is None:
        level = level_in(kwargs.values())
    if level is None or (level.kind == "jvp" and level_in(args) is None):
        return NotImplemented
    return _batched(level, cls, args, kwargs) if level.kind == "vmap" else _dual(level, cls, args, kwargs)


# --- forward mode ---------------------------------------------------------------------------------------------------
def _dual(level, cls, args, kwargs):
    from tapegrad.autograd.forward_ad import check_dual
    from tapegrad.creation import zeros_like

    values = tuple(level.value(a) for a in args)
    if has_setup(cls):
        result, ctx = cls.apply(*values, **kwargs), FunctionCtx()
        ctx.needs_input_grad = tuple(isinstance(t, Tensor) and t.requires_grad for t in values)
        cls.setup_context(ctx, values, result)
    else:
        result, ctx = cls._run(values, kwargs)
    ctx._given = ctx._for_forward
    tangents = [level.tangent(a) for a in args]
    if ctx._materialize:
        tangents = [zeros_like(v) if t is None and isinstance(v, Tensor) and v.is_floating_point() else t for t, v in zip(tangents, values, strict=True)]
    versions = [t._version if isinstance(t, Tensor) else None for t in tangents]
    found = cls.jvp(ctx, *tangents)
    found = found if isinstance(found, tuple) else (found,)
    outputs = result if isinstance(result, tuple) else (result,)
    if len(found) != len(outputs):
        raise RuntimeError(f"Function's jvp returned an invalid number of forward gradients (expected {len(outputs)} but got {len(found)})")
    duals = []
    for k, (out, t) in enumerate(zip(outputs, found, strict=True)):
        if t is not None:
            if not isinstance(t, Tensor):
                raise RuntimeError(f"expected Variable or None (got {type(t).__name__}) for grad output {k}.")
            if not isinstance(out, Tensor) or not out.dtype.differentiable or any(out is c for c in ctx._constant):
                raise RuntimeError(
                    f"Function's jvp returned a gradient at position {k}, but  the corresponding forward output is not a differentiable "
                    "Tensor.You should return None at that position instead."
                )
            check_dual(out, t)
        place = next((j for j, v in enumerate(values) if out is v), None)
        if place is not None and any(out is d for d in ctx._dirty) and level.follows(args[place]):
            if t is not tangents[place] or t._version == versions[place]:
                raise RuntimeError(NOT_IN_PLACE)
            duals.append(args[place])
            continue
        _check_view(out, t, values, tangents)
        duals.append(level.wrap(out, t))
    return tuple(duals) if isinstance(result, tuple) else duals[0]


def _check_view(out, tangent, values, tangents) -> None:
    """A result that is a view of an input must have a tangent that is a view of that input's tangent."""
    base = getattr(out, "_base", None)
    if base is None or tangent is None:
        return
    for value, given in zip(values, tangents, strict=True):
        if isinstance(value, Tensor) and given is not None and (base is value or base is value._base):
            if tangent._base is None:
                raise RuntimeError(NO_VIEW)
            if given._base is None and tangent._base is not given:
                raise RuntimeError(OTHER_VIEW + "the given grad input.")
            if given._base is not None and tangent._base is not given._base:
                raise RuntimeError(OTHER_VIEW + "the same base as the given grad input.")
            return


# --- vmap -----------------------------------------------------------------------------------------------------------
def _batched(level, cls, args, kwargs):
    if any(isinstance(v, Tensor) for v in kwargs.values()):
        raise NotImplementedError(
            "Run vmap on autograd.Function with kwarg-only Tensor args. Please do not pass kwarg-only Tensors to autograd.Function. Got: "
            f"{kwargs}"
        )
    own = cls.vmap is not Function.vmap
    if cls.generate_vmap_rule:
        if own:
            raise RuntimeError(
                f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an overridden vmap staticmethod. Please set "
                f"generate_vmap_rule=False or delete the overridden vmap staticmethod to avoid ambiguity. {MORE}"
            )
        return _generated(level, cls, args)
    if not own:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it does not have vmap support. Please override and implement the vmap staticmethod or set "
            f"generate_vmap_rule=True. {MORE}"
        )
    values, dims = _unwrapped(level, args)
    found = cls.vmap(VmapInfo(level.size, level.randomness), dims, *values, **kwargs)
    if not (isinstance(found, tuple) and len(found) == 2):
        raise RuntimeError(
            "Expected the vmap staticmethod to have two returns, an output and out_dims with pytree structure compatible with the output. Got a "
            f"{type(found)} instead"
        )
    output, out_dims = found
    leaves, spec = tree_flatten(output)
    flat = broadcast_to_and_flatten(out_dims, spec)
    if flat is None:
        raise RuntimeError(
            f"The autograd.Function's vmap staticmethod returned an incompatible (output, out_dims) tuple. Expected out_dims={out_dims} to be "
            f"compatible with the structure of `output`. out_dims has structure {tree_flatten(out_dims)[1]} but output has structure {spec}. {MORE}"
        )
    return tree_unflatten([_wrapped(level, t, d) for t, d in zip(leaves, flat, strict=True)], spec)


def _unwrapped(level, tree):
    """(the tree with values of this level, the same tree with their batch dims, None for what is not of it)."""
    value = lambda leaf: leaf._value if level.follows(leaf) else leaf
    return tree_map(value, tree), tree_map(lambda leaf: leaf._bdim if level.follows(leaf) else None, tree)


def _wrapped(level, leaf, dim):
    return leaf if dim is None else level.wrap(leaf, dim % leaf.ndim)


def _again(level, tree, dims):
    """The inverse of `_unwrapped`."""
    leaves, spec = tree_flatten(tree)
    flat = broadcast_to_and_flatten(dims, spec) or []
    return tree_unflatten([_wrapped(level, leaf, d) for leaf, d in zip(leaves, flat, strict=True)], spec)


class _SampleContext(FunctionCtx):
    """The ctx that the given methods see inside the generated ones."""


def _generated(level, cls, args):
    """The batch by a Function whose methods are the vmaps of those of `cls`."""
    values, dims = _unwrapped(level, args)
    inside = lambda: VmapLevel(level.size, level.randomness)
    known: dict[str, Any] = {}  # the out dims, and how the context is to be restored

    def forward(*operands):
        with inside() as own:
            result, known["out"] = _unwrapped(own, cls.forward(*_again(own, operands, dims)))
        return result

    def setup_context(ctx, inputs, output):
        with inside() as own:
            sample = _SampleContext()
            sample.needs_input_grad = ctx.needs_input_grad
            outputs = _again(own, output, known["out"])
            cls.setup_context(sample, _again(own, inputs, dims), outputs)
            ctx.set_materialize_grads(sample._materialize)
            plain = tree_flatten(output)[0]
            constant = [p for p, w in zip(plain, tree_flatten(outputs)[0], strict=True) if any(w is t for t in sample._constant)]
            ctx.mark_non_differentiable(*constant)
            kept, known["saved"] = _unwrapped(own, sample._to_save)
            ctx.save_for_backward(*kept)
            kept, known["forward"] = _unwrapped(own, sample._for_forward)
            ctx.save_for_forward(*kept)
            hidden = vars(FunctionCtx())
            others = {name: v for name, v in vars(sample).items() if name not in hidden}
            ctx._others, known["others"] = _unwrapped(own, others)

    def restored(own, ctx, saved, saved_dims):
        sample = _SampleContext()
        sample.needs_input_grad, sample._materialize = ctx.needs_input_grad, ctx._materialize
        sample._given = _again(own, saved, saved_dims)
        vars(sample).update(_again(own, ctx._others, known["others"]))
        return sample

    def backward(ctx, *gs):
        out_dims = known["out"] if isinstance(known["out"], tuple) else (known["out"],)
        with inside() as own:
            sample = restored(own, ctx, ctx.saved_tensors, known["saved"])
            found = cls._derivative()(sample, *_again(own, gs, tuple(None if g is None else d for g, d in zip(gs, out_dims, strict=True))))
            found = found if isinstance(found, tuple) else (found,)
            return tuple(_placed(own, g, d, total=True) for g, d in zip(found, dims, strict=True))

    def jvp(ctx, *tangents):
        with inside() as own:
            sample = restored(own, ctx, ctx._given, known["forward"])
            tangent_dims = tuple(None if t is None else d for t, d in zip(tangents, dims, strict=True))
            found = cls.jvp(sample, *_again(own, tangents, tangent_dims))
            if not isinstance(found, tuple):
                return _placed(own, found, known["out"], total=False)
            return tuple(_placed(own, t, d, total=False) for t, d in zip(found, known["out"], strict=True))

    methods = {"forward": forward, "setup_context": setup_context, "backward": backward, "jvp": jvp}
    made: Any = type(cls.__name__, (Function,), {"generate_vmap_rule": True} | {name: staticmethod(f) for name, f in methods.items()})
    result = made.apply(*values)
    return _again(level, result, known["out"])


def _placed(level, g, dim, total: bool):
    """`g` without its wrapper, the batch at `dim`; where there is none, summed over the samples if that is meant (`total`)."""
    if g is None:
        return None
    if dim is None:
        return level.front(g).sum(0) if level.follows(g) and total else level.front(g)
    return level.spread(g).movedim(0, dim)
