"""Choosing element by element: by a mask (where, masked_fill, masked_select), by what is not zero, by bounds (clamp)."""

from __future__ import annotations

from tapegrad import dtypes, geometry, modes
from tapegrad.cautions import warn_once
from tapegrad.ops import checks
from tapegrad.ops.outputs import into
from tapegrad.ops.public import function, method
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument


def dynamic_shape(name: str):
    """The batch rule of operations whose results' shapes depend on values: there is none."""

    def rule(level, f, *args, **kwargs):
        raise RuntimeError(
            f"vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over aten::{name}. Please file an issue at "
            "https://github.com/pytorch/pytorch/issues if you need this feature."
        )

    return rule


def select_where(level, f, input, mask, *, out=None):
    """The batch rule of masked_select: one mask for all samples."""
    if level.follows(mask):
        raise RuntimeError(
            "vmap: Attempted to vmap over `mask` in torch.masked_select(self, mask) We cannot support this because for each batch this would "
            "return a differently shaped Tensor. Please file an issue at https://github.com/pytorch/pytorch/issues if you need this feature."
        )
    return f.__wrapped__(input, mask)


@function(method=True, batch=dynamic_shape("nonzero"))
def nonzero(input, *, out=None, as_tuple=False):
    """The positions of nonzero elements: (count, ndim) int64, or a tuple of vectors."""
    from tapegrad.creation import empty_of

    array = tensor_argument("nonzero", input)._values()
    if not isinstance(as_tuple, bool):
        raise TypeError(f"nonzero(): argument 'as_tuple' must be bool, not {type(as_tuple).__name__}")
    if as_tuple and out is not None:
        raise RuntimeError("nonzero does not support the out kwarg when as_tuple is True")
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"nonzero: Expected out tensor to have scalar type Long but got scalar type{out.dtype.scalar_name}")
    if as_tuple and not array.ndim:
        array = array.reshape(1)
    places = array.nonzero() if array.ndim else ()
    count = len(places[0]) if places else int(bool(array))
    result = empty_of((count, array.ndim), dtypes.int64, (1, count))  # the coordinates of a dim lie together, as torch has them
    target = result._array()
    for d, place in enumerate(places):
        target[:, d] = place
    return result.unbind(1) if as_tuple else into(out, result, "nonzero")


@function(method=True)
def argwhere(input):
    """`nonzero`."""
    return nonzero(input)


@function(method=True, batch=select_where)
def masked_select(input, mask, *, out=None):
    """The elements where `mask` is True, as a vector."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = geometry.broadcast_shapes(tuple(mask.shape), tuple(input.shape))
    whole = shape or (1,)
    spread = [t if t.shape == whole else t.expand(whole) for t in (input, mask)]
    return into(out, spread[0][spread[1]], "masked_select", operands=(input, mask))


@function(method=True)
def masked_fill(input, mask, value):
    """`value` where `mask` is True, `input` elsewhere."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    check_mask("masked_fill", input, mask, value)
    op, values = BY_NAME["masked_fill"], [mask, input, value]
    tensors = dispatch.promoted(op, values, input.dtype)
    if input._level is None and mask._level is None and not (input.is_contiguous() and (mask.is_contiguous() or mask.shape != input.shape)):
        with modes.no_grad():  # torch writes into a row-major copy
            result = dispatch.finish(op, [mask.contiguous(), input.contiguous(), tensors[2].detach()]).contiguous()
        return dispatch.recorded(op, tensors, result)
    result = dispatch.finish(op, tensors)
    dispatch.note(op, values, tensors, result)
    return result


def check_mask(name, input, mask, value):
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{name}_ only supports boolean masks, but got mask with dtype {mask.dtype.short}")
    if hasattr(value, "_slot") and value.ndim:
        raise RuntimeError(f"{name}_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")


@transformable(batch=dynamic_shape("where"))
def positions(condition):
    """Where `condition` holds, a vector per dim."""
    return nonzero(condition, as_tuple=True)


@function()
def where(condition, input=None, other=None, *, out=None):
    """`input` where `condition` holds, else `other`; with one argument the positions that hold (`nonzero(as_tuple=True)`)."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if input is None and other is None:
        return positions(condition)
    tensor_argument("where", condition, 1, "condition")
    if condition.dtype is not dtypes.bool_ and condition.dtype is not dtypes.uint8:
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype.scalar_name}"
        )
    if condition.dtype is dtypes.uint8:
        warn_once(
            "where received a uint8 condition tensor. This behavior is deprecated and will be removed in a future version of PyTorch. Use a "
            "boolean condition instead."
        )
        condition = condition.to(dtypes.bool_)
    return dispatch.call(BY_NAME["where"], condition, input, other, out=out)


@method(name="where")
def where_method(self, condition, other):
    """`self` where `condition` holds, else `other`."""
    return where(condition, self, other)


@function(method=True, aliases=("clip",))
def clamp(input, min=None, max=None, *, out=None):
    """Elements limited to [min, max]; either bound may be None, a number or a tensor."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if min is None and max is None:
        raise RuntimeError("tapegrad.clamp: At least one of 'min' or 'max' must not be None")
    checks.no_complex_clamp(None, [input])
    if out is not None:
        return into(out, clamp(input, min, max), "clamp" if hasattr(min, "_slot") or hasattr(max, "_slot") else "clamp_number")
    if min is None:
        return dispatch.call(BY_NAME["clamp_above"], input, max)
    if max is None:
        return dispatch.call(BY_NAME["clamp_below"], input, min)
    refuse_bools(input, min, max)
    return dispatch.call(BY_NAME["clamp_both"], input, min, max)


def refuse_bools(*operands) -> None:
    """Between two limits there is no kernel for bools."""
    from tapegrad.dispatch import result_dtype

    if result_dtype(operands) is dtypes.bool_:
        raise checks.no_kernel("clamp_cpu" if all(hasattr(x, "_slot") for x in operands) else "clamp_scalar_cpu", dtypes.bool_)


@method(aliases=("clip_",))
def clamp_(self, min=None, max=None):
    """`clamp` in place."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if min is None and max is None:
        raise RuntimeError("tapegrad.clamp: At least one of 'min' or 'max' must not be None")
    checks.no_complex_clamp(None, [self])
    if min is None:
        return dispatch.call_inplace(BY_NAME["clamp_above"], self, max)
    if max is None:
        return dispatch.call_inplace(BY_NAME["clamp_below"], self, min)
    refuse_bools(self, min, max)
    return dispatch.call_inplace(BY_NAME["clamp_both"], self, min, max)
