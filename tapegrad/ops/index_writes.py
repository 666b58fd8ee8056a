"""Indexing that writes: `x[index] = value` and index_put.  Assignment goes to the view, or with index tensors through `index_put`."""

from __future__ import annotations

import numpy as np

from tapegrad import core, dtypes, geometry
from tapegrad.engine import layout
from tapegrad.ops import picks
from tapegrad.ops import plan as plans
from tapegrad.ops.indexing import (
    adjacent,
    arrays_of,
    as_index,
    basic,
    is_whole,
    places_of_samples,
    shapes_agree,
    split_index,
    take_elements,
    warn_of_bytes,
)
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import Unhandled, transformable
from tapegrad.writing import refuse_overlap


@method()
def __setitem__(self, index, value):
    """x[index] = value, recorded: the gradient flows to the value, and no longer to what was overwritten."""
    from tapegrad import creation, dispatch
    from tapegrad.autograd import inplace
    from tapegrad.autograd.bases import write_recorder

    plans.settled(self)
    given = value
    if isinstance(value, dispatch.NUMBERS):
        try:
            value = dispatch.number_slot(value.item() if hasattr(value, "item") else value, self.dtype)
        except OverflowError:
            raise ValueError("Overflow when unpacking long long") from None
    elif not hasattr(value, "_slot"):
        if isinstance(value, np.ndarray):
            value = creation.tensor(value)
        else:
            raise TypeError(f"can't assign a {type(value).__name__} to a tapegrad.{self.dtype.legacy}")
    if isinstance(index, bool):  # all of the tensor or nothing
        if index:
            inplace.copy_into(self.unsqueeze(0), value, "CopyBackwards" if given is value else "FillBackward3", assigned=True)
        return
    if hasattr(index, "_slot") and index.dtype is dtypes.bool_ and fill_where(self, index, value, given):
        return
    if hasattr(index, "_slot"):
        inplace.refuse_leaf(self)
    item, advanced, name = split_index(self, index)
    whole = is_whole(item, self)
    if not any(a is not None for a in advanced):
        view = self if whole else basic(self, item, name)
        graph_name = "CopyBackwards" if given is value else "FillBackward3"
        recorded = not inplace.copy_into(view, value, graph_name, assigned=True)
        recorder = None
        if recorded and self._base is None:
            recorder = inplace.overwrite_recorder(self, graph_name) if whole else write_recorder(self, view)
        if recorder or self._base is not None if recorded else not core.get_field(self._slot, core.FLAGS) & layout.REQUIRES_GRAD:
            offset = (core.data_of(view._slot) - core.data_of(self._slot)) // self.dtype.itemsize
            plans.note_store(inplace.copy_op, self, core.get_field(view._slot, core.GEOMETRY), offset, value, given, recorder)
        return
    view = self if whole else basic(self, item, name)
    try:
        refuse_overlap(view, [*(a for a in advanced if a is not None), value], same_too=True)
        refuse_values(view, advanced, without_leading_ones(value), given is not value or (value.numel() == 1 and is_one_mask(index)))
    except RuntimeError:
        inplace.check_writable(view, [value], repeated=True)
        raise
    inplace.put_into(view, advanced, value, False)
    if view is self and given is not value:
        plans.note_given(value, given)


def without_leading_ones(value):
    """What is assigned may have dims of size 1 in front; messages do not count them."""
    shape = tuple(value.shape)
    lead = next((k for k, n in enumerate(shape) if n != 1), len(shape))
    return value.reshape(shape[lead:]) if lead else value


def refuse_values(target, advanced, values, any_dtype: bool) -> None:
    """torch's errors for values that cannot be written at advanced indices: by shape, then by dtype."""
    given = [i.nonzero()[:, 0] if i.dtype is dtypes.bool_ else i for i in advanced if i is not None]  # a mask of one dim: 0-d ones are made so
    shapes_agree(given)
    where = [d for d, i in enumerate(advanced) if i is not None]
    kept = [n for d, n in enumerate(target.shape) if d not in where]
    at = where[0] if where and where == list(range(where[0], where[-1] + 1)) else 0
    shape = (*kept[:at], *geometry.broadcast_shapes(*(tuple(i.shape) for i in given)), *kept[at:])
    if geometry.broadcast_shapes_or_none(shape, tuple(values.shape)) != shape:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of shape {list(shape)}")
    if values.dtype is not target.dtype and not any_dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {target.dtype.scalar_name} for the destination and "
            f"{values.dtype.scalar_name} for the source."
        )


def is_one_mask(index) -> bool:
    """Whether the tensors in an index are a single mask, of whose places one value of any dtype may be written."""
    tensors = [part for part in (index if isinstance(index, tuple) else (index,)) if hasattr(part, "_slot") or isinstance(part, (list, np.ndarray))]
    return len(tensors) == 1 and getattr(tensors[0], "dtype", None) in (dtypes.bool_, dtypes.uint8)


def fill_where(target, mask, value, given) -> bool:
    """`target[mask] = value` for one value and a mask of the same shape, unrecorded; false if it is not that."""
    from tapegrad import dispatch, modes
    from tapegrad.autograd import inplace
    from tapegrad.ops.registry import BY_NAME

    if not target.ndim or mask.shape != target.shape or value.ndim or value.dtype is not target.dtype or inplace.is_recorded(target, [value]):
        return False
    if inplace.is_repeated(target):
        return False
    inplace.check_writable(target, [value])
    op = BY_NAME["masked_fill"]
    with modes.no_grad():
        result = dispatch.finish(op, [mask, target, value])
    core.assign(target, result)
    core.bump_version(target._slot, 1)
    inplace.refresh_flag(target)
    plans.note(op, [mask, target, given], target)
    return True


# --- index_put -------------------------------------------------------------------------------------------------------
@structural("index_put_op", "IndexPut")
def index_put_op(node, g):
    """index_put: the base loses the gradient of overwritten elements, the values get it."""
    from tapegrad.creation import zeros

    a = node.attributes
    base = g if a.accumulate else with_elements(g, a.indices, zeros((), dtype=g.dtype))
    values = take_elements(g, a.indices).sum_to_size(a.values_shape)
    return base, values


def put_by_kernel(target, advanced, values) -> bool:
    """`target[advanced] = values` by a kernel, unrecorded; false if there is none for these."""
    indices = [i for i in advanced if i is not None]
    first = adjacent(advanced)
    if first is None or not target.is_contiguous() or not target.numel() or not picks.usable(target, *indices) or values.dtype is not target.dtype:
        return False
    shapes_agree(indices)
    shape = picks.Picked(target, first, indices).shape
    if len(shape) < values.ndim or geometry.broadcast_shapes_or_none(shape, tuple(values.shape)) != shape:
        return False
    if any(core.get_field(t._slot, core.BUFFER) == core.get_field(target._slot, core.BUFFER) for t in (*indices, values)):
        return False
    for t in (*indices, values):
        plans.settled(t)
    picks.put(index_put_op, target, first, indices, values, first, lambda: arrays_of(advanced, target.shape))
    return True


def add_at(array, where, values, d, stepwise=False):
    """numpy.add.at on memory of `d`; sums of half-precision numbers are rounded at the end, or after every step."""
    if d.reduced and not (stepwise and d is dtypes.float16):
        sums = dtypes.from_stored(array, d)
        np.add.at(sums, where, dtypes.from_stored(values, d))
        array[...] = dtypes.to_stored(sums, d)
    else:
        np.add.at(array, where, values)


def put_array(array, advanced, shape, values, accumulate, d):
    """Write memory of `d` into a NumPy array at advanced indices."""
    where = arrays_of(advanced, shape)
    try:
        if accumulate:
            add_at(array, where, values, d, stepwise=True)
        else:
            array[where] = values
    except ValueError:
        target = array[where].shape
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of shape {list(target)}"
        ) from None


def put_samples(level, f, input, indices, values, accumulate=False):
    """The batch rule of index_put: the values are brought to the layout of the indexed result."""
    indices = [None if i is None else as_index(i) for i in indices]
    if any(i is not None and i.dtype in (dtypes.bool_, dtypes.uint8) for i in indices):
        if any(level.follows(i) for i in indices):
            return put_where(level, input, indices, values, accumulate)
        indices = [e for i in indices for e in (i.nonzero(as_tuple=True) if i is not None and i.dtype in (dtypes.bool_, dtypes.uint8) else (i,))]
    indices = indices + [None] * (input.ndim - len(indices))
    value, places, first, lead = places_of_samples(level, input, indices)
    rank = max(a.ndim for a in indices if a is not None)
    count = input.ndim - sum(a is not None for a in indices) + rank  # dims of a sample's indexed result
    values = level.aligned(values, count)
    if lead:
        values = values.unsqueeze(0) if not level.follows(values) and values.ndim <= count else values
        values = values.movedim(0, lead) if values.ndim == count + 1 else values
    elif places[0] is not None and first:
        for _ in range(count + 1 - values.ndim):
            values = values.unsqueeze(0)
        values = values.movedim(tuple(range(first + 1, first + rank + 1)), tuple(range(1, rank + 1)))
    return level.wrap(f(value, places, values, accumulate))


def put_where(level, input, indices, values, accumulate):
    """index_put with a mask of each sample: elementwise, if one value serves all places."""
    from tapegrad.ops.registry import BY_NAME

    if len(indices) != 1 or values.ndim:
        raise Unhandled
    mask = indices[0].reshape(tuple(indices[0].shape) + (1,) * (input.ndim - indices[0].ndim))
    from tapegrad import dispatch

    return dispatch.call(BY_NAME["where"], mask, input + values if accumulate else values, input)


@function(method=True)
def index_put(input, indices, values, accumulate=False):
    """A copy of `input` with `values` written (or added) at `indices`."""
    return with_elements(input, indices, values, accumulate)


@transformable(put_samples)
def with_elements(input, indices, values, accumulate=False):
    """`index_put` whose indices may be None too, for a whole dim."""
    plans.settled(input)
    result = input.clone()
    put_elements(result, indices, values, accumulate)
    return result


@method()
def __delitem__(self, index):
    """Tensors keep their elements: a TypeError."""
    raise TypeError("Tensor does not support deleting items")


@method()
def index_put_(self, indices, values, accumulate=False):
    """Write (or add) `values` at `indices`, in place."""
    put_elements(self, indices, values, accumulate)
    return self


def put_elements(self, indices, values, accumulate):
    """`index_put_` on memory."""
    from tapegrad.autograd import inplace

    if hasattr(indices, "_slot"):
        raise TypeError("index_put_(): argument 'indices' (position 1) must be tuple of Tensors, not Tensor")
    indices = [None if i is None else as_index(i) for i in indices]
    inplace.refuse_leaf(self)
    if len(indices) > self.ndim:
        raise IndexError(f"too many indices for tensor of dimension {self.ndim} (got {len(indices)})")
    one = not accumulate and values.numel() == 1 and is_one_mask(tuple(i for i in indices if i is not None))
    if any(i is not None and not i.ndim and i.dtype in (dtypes.bool_, dtypes.uint8) for i in indices):  # of all of the tensor or nothing
        self = self.unsqueeze(0)
        indices = [i if i is None or i.ndim or i.dtype not in (dtypes.bool_, dtypes.uint8) else i.reshape(1) for i in indices]
    expanded: list = []
    for i in indices:
        if i is not None and i.dtype in (dtypes.bool_, dtypes.uint8):
            warn_of_bytes(i)
            expanded.extend(i.nonzero(as_tuple=True))
        else:
            expanded.append(i)
    refuse_overlap(self, [*(i for i in expanded if i is not None), values], same_too=True)
    expanded += [None] * (self.ndim - len(expanded))
    refuse_values(self, expanded, values, one)
    inplace.put_into(self, expanded, values, accumulate)
