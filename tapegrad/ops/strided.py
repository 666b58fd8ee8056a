"""Views by explicit strides, where elements may repeat: as_strided and unfold."""

from __future__ import annotations

import numpy as np

from tapegrad import core, geometry
from tapegrad.creation import from_array
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.storages import check_sizes, sized
from tapegrad.ops.views import ints, wrap_dim


def places(shape: tuple, steps: tuple, offset: int = 0) -> np.ndarray:
    """For each element of a geometry its position in memory."""
    result = np.full(shape, offset, np.int64)
    for d, (size, step) in enumerate(zip(shape, steps, strict=True)):
        result += (np.arange(size) * step).reshape((-1,) + (1,) * (len(shape) - d - 1))
    return result


def gather_from(g, shape: tuple, seen: np.ndarray, own: np.ndarray):
    """The gradient of elements at `own` positions given that of a view which saw the positions `seen`: sums where a position repeats."""
    low = int(min(own.min(initial=0), seen.min(initial=0)))
    span = int(max(own.max(initial=-1), seen.max(initial=-1))) + 1 - low
    memory = g.new_zeros(span).index_add(0, from_array(seen.reshape(-1) - low), g.reshape(-1))
    result = memory.index_select(0, from_array(own.reshape(-1) - low)).view(shape)
    counts = np.bincount(own.reshape(-1) - low, minlength=1)[own.reshape(-1) - low].reshape(shape)
    return result / from_array(counts, g.dtype) if counts.max(initial=1) > 1 else result


@structural("as_strided_op", "AsStrided")
def as_strided_op(node, g):
    """as_strided: every position of memory collects the gradients of the elements that showed it."""
    a = node.attributes
    return gather_from(g, a.own_shape, places(a.target, a.steps, a.offset), places(a.own_shape, a.own_steps))


def as_strided_samples(level, f, input, size, stride, storage_offset=None):
    """The batch rule of as_strided: every sample's view begins as far from the sample's first element, and stays in its memory."""
    size, stride = ints("as_strided", (tuple(size),)), ints("as_strided", (tuple(stride),), "stride")
    if len(size) != len(stride):
        raise RuntimeError(
            f"Tensor.as_strided(size, stride, ...): size and stride must have the same length! Got size {list(size)} and stride {list(stride)}"
        )
    value = level.front(input)
    first = value.storage_offset()
    start = first if storage_offset is None else int(storage_offset)
    if 0 not in size:
        own, ends = tuple(input.shape), start + sized(size, stride, 1)
        call = f"result = tensor.as_strided({list(size)}, {list(stride)}, {start}) can access memory outside of `tensor`. "
        remedy = "This is not supported inside of vmap, please try to rewrite the `as_strided` call as a sequence of PyTorch view operations"
        if 0 in own:
            raise RuntimeError(f"{call}`tensor` has no storage but the passed-in (size, stride, storage_offset) imply a result with some storage. {remedy}")
        last = first + sized(own, value.stride()[1:], 1)
        if ends > last or start < first:
            raise RuntimeError(
                f"{call}`result` can access some memory in range [{start}, {ends}], but `tensor` can only access some memory in range "
                f"[{first}, {last}]. {remedy}"
            )
    return level.view(as_strided_op, input, (size, stride, start - first), _strided_make(size, stride, start - first), False)


def _strided_make(size, stride, offset):
    def make(shape, steps):
        return size, stride, offset, {"own_shape": shape, "own_steps": steps, "target": size, "steps": stride, "offset": offset}

    return make


def step(size, stride, offset: int) -> tuple:
    """(op, key, make) of the view by these sizes and strides, `offset` elements from the first of what is viewed."""
    place = tuple(size), tuple(stride), offset
    return as_strided_op, place, _strided_make(*place)


@function(method=True, batch=as_strided_samples)
def as_strided(input, size, stride, storage_offset=None):
    """A view of the memory of `input` with any sizes and strides, from element `storage_offset` of the storage."""
    size, stride = ints("as_strided", (tuple(size),)), ints("as_strided", (tuple(stride),), "stride")
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    check_sizes(size)
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    start = input.storage_offset() if storage_offset is None else int(storage_offset)
    if start < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {start}")
    if input._level is None:
        nbytes, itemsize = core.memory_of(plans.settled(input))[1], input.dtype.itemsize
        needed = sized(size, stride, itemsize, start)
        if needed > nbytes:
            raise RuntimeError(
                f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {start}, and itemsize {itemsize} requiring a storage size "
                f"of {needed} are out of bounds for storage of size {nbytes}"
            )
    else:
        as_strided(input._value, size, stride, start)  # raises if the memory is too small
    offset = start - input.storage_offset()
    return plans.view(as_strided_op, input, (size, stride, offset), _strided_make(size, stride, offset))


@structural("unfold_op", "Unfold")
def unfold_op(node, g):
    """unfold: an element collects the gradients of the windows that it is in."""
    a = node.attributes
    return gather_from(g, a.own_shape, places(a.target, a.steps), places(a.own_shape, a.own_steps))


@method()
def unfold(self, dimension, size, step):
    """Windows of `size` elements every `step` along a dim, the elements of a window in a new last dim."""
    dim = wrap_dim(dimension, self.ndim)
    extent = self.shape[dim] if self.ndim else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > extent:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {extent} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")

    def make(shape, steps):
        if not shape:
            target, moves = (size,), (1,)  # a 0-d tensor counts as one element
        else:
            target = (*shape[:dim], (shape[dim] - size) // step + 1, *shape[dim + 1 :], size)
            moves = (*steps[:dim], steps[dim] * step, *steps[dim + 1 :], steps[dim])
        own = geometry.contiguous_strides(shape)
        seen = (1,) if not shape else (*own[:dim], own[dim] * step, *own[dim + 1 :], own[dim])
        return target, moves, 0, {"own_shape": shape, "own_steps": own, "target": target, "steps": seen}

    return plans.view(unfold_op, self, (dim, size, step), make)
