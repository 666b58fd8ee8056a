"""In-place operations on tensors that transforms follow.

Every one is its functional form, whose result is stored over the target (`Level.store`): into the memory of the values below, which takes
care of aliases and of the tape.  What has no functional form has a writer here.
"""

from __future__ import annotations

from collections.abc import Callable

from tapegrad import dispatch, geometry, modes, writing
from tapegrad.ops import index_writes, indexing

RESHAPING = ("unsqueeze_", "squeeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "as_strided_", "detach_")
REFUSED = ("resize_", "resize_as_", "set_")  # a sample has no memory of its own


def write(level, f, args, kwargs):
    """The in-place method `f` called on operands of `level`; returns the target."""
    target, *rest = args
    name = f.__name__
    if name in WRITERS:
        return WRITERS[name](level, target, *rest, **kwargs)
    if name in REFUSED:
        raise RuntimeError(f"Batching rule not implemented for aten::{name}. We could not generate a fallback.")
    if name in RESHAPING:
        return level.move(target, getattr(level.twin(target), name[:-1])(*rest, **kwargs))
    return checked_store(level, target, getattr(source_of(target, args), name[:-1])(*rest, **kwargs))


def elementwise(level, op, target, values):
    """The in-place form of an elementwise op."""
    return checked_store(level, target, dispatch.call(op, source_of(target, (target, *values)), *values))


def source_of(target, operands):
    """What an operation reads of the tensor that it overwrites: a copy, if a derivative may want it."""
    recorded = modes.is_grad_enabled() and any(getattr(t, "requires_grad", False) for t in operands)
    return target.clone() if recorded else target


def checked_store(level, target, result):
    writing.can_store(result.dtype, target.dtype)
    if tuple(result.shape) != tuple(target.shape):
        raise RuntimeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}")
    return level.store(target, result)


def copy_(level, target, src, non_blocking=False):
    if not hasattr(src, "_slot"):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    shape = geometry.broadcast_shapes(tuple(target.shape), tuple(src.shape))
    if shape != tuple(target.shape):
        raise RuntimeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(shape)}")
    return level.store(target, src)


def fill_(level, target, value):
    if hasattr(value, "_slot"):
        if value.ndim:
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    else:
        value = dispatch.number_slot(dispatch.operand("fill_", value, 2, "value"), target.dtype)
    return level.store(target, value)


def zero_(level, target):
    return fill_(level, target, 0)


def set_item(level, target, index, value):
    if isinstance(value, dispatch.NUMBERS):
        value = dispatch.number_slot(value.item() if hasattr(value, "item") else value, target.dtype)
    elif not hasattr(value, "_slot"):
        raise TypeError(f"can't assign a {type(value).__name__} to a tapegrad.{target.dtype.legacy}")
    target = level.prepared(target, value)
    item, advanced, name = indexing.split_index(target, index)
    view = target if indexing.is_whole(item, target) else indexing.basic(target, item, name)
    if any(a is not None for a in advanced):
        level.store(view, index_writes.with_elements(source_of(view, (view, value)), tuple(advanced), value.to(target.dtype)))
    else:
        extra = value.ndim - view.ndim
        if extra > 0 and all(n == 1 for n in value.shape[:extra]):
            value = value.reshape(tuple(value.shape[extra:]))
        copy_(level, view, value)
    return target


def resize_(level, target, *sizes, memory_format=None):
    if level.kind == "jvp":
        raise RuntimeError("cannot resize variables that has a forward grad")
    raise RuntimeError("Batching rule not implemented for aten::resize_; the fallback path doesn't work on out= or view ops.")


WRITERS: dict[str, Callable] = {"resize_": resize_, "copy_": copy_, "fill_": fill_, "zero_": zero_, "__setitem__": set_item}

