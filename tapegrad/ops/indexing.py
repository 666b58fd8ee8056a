"""Indexing: basic (views), advanced (integer and boolean tensors), gather and scatter, masks, and their writes.

`x[...]` with integers, slices, None and Ellipsis is one `pick` view.  With index tensors, the basic part is taken first as a view, then
one advanced step (`index_op`).  Assignment goes to the view, or through `index_put`.
"""

from __future__ import annotations

import warnings

import numpy as np

from tapegrad import core, dtypes, geometry
from tapegrad.autograd.node import record
from tapegrad.engine import layout
from tapegrad.ops import checks, picks
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import into, stored
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, Unhandled, transformable
from tapegrad.ops.views import pick, pick_make, tensor_argument, wrap_dim

_slices: dict[tuple, tuple] = {}


NON_TUPLE = (
    "Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch 2.9; use x[tuple(seq)] instead of x[seq]. "
    "In pytorch 2.9 this will be interpreted as tensor index, x[torch.tensor(seq)], which will result either in an error or a different result"
)


def is_tensor_index(part) -> bool:
    return hasattr(part, "_slot") or isinstance(part, (np.ndarray, list, tuple, np.bool_)) or isinstance(part, range)


def as_index(part):
    """An index part as a tensor of int64, uint8 or bool."""
    from tapegrad.creation import build, tensor

    if hasattr(part, "_slot"):
        index = part
    elif isinstance(part, np.ndarray):
        index = tensor(part)
    else:
        index = build(list(part), None) if len(part) else tensor([], dtype=dtypes.int64)
    if index.dtype.category > dtypes.INTEGER:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if index.dtype in (dtypes.int16, dtypes.int8):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return index


def scalar_of(part):
    """The integer of a 0-d integer tensor or NumPy integer, else None."""
    if hasattr(part, "_slot"):
        if part._level is not None and part._level.kind == "vmap":
            return None  # another number for every sample
        if part.ndim == 0 and part.dtype.category == dtypes.INTEGER and part.dtype is not dtypes.uint8:
            return part.item()
        return None
    if isinstance(part, (bool, np.bool_)):
        return None
    return part.__index__() if hasattr(part, "__index__") and not isinstance(part, np.ndarray) else None


def treat_as_tuple(index) -> tuple:
    """The parts of an index.  torch still takes a short list that holds sequences, tensors, slices, None or Ellipsis for a tuple."""
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < 32:
        if any(p is None or p is Ellipsis or isinstance(p, (list, tuple, slice)) or hasattr(p, "_slot") for p in index):
            warnings.warn(NON_TUPLE, UserWarning, stacklevel=4)
            return tuple(index)
    return (index,)


def split_index(x, index):
    """(basic item for `pick`, [advanced index or None per remaining dim], graph name).  torch's errors for bad indices."""
    parts = treat_as_tuple(index)
    used = 0
    for part in parts:
        if part is None or part is Ellipsis or isinstance(part, (bool, np.bool_)):
            continue
        if hasattr(part, "_slot") and part.dtype in (dtypes.bool_, dtypes.uint8) or isinstance(part, np.ndarray) and part.dtype == bool:
            used += part.ndim
            continue
        used += 1
    if x.ndim == 0 and used and not any(is_tensor_index(p) for p in parts):
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim tensor to a number"
        )
    if used > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    if sum(1 for p in parts if p is Ellipsis) == 0:
        parts = (*parts, Ellipsis)
    item, advanced, names = [], [], []
    d = 0
    shape = x.shape
    for part in parts:
        if part is None:
            item.append(None)
            advanced.append(None)
            names.append("UnsqueezeBackward0")
        elif part is Ellipsis:
            for _ in range(x.ndim - used):
                item.append((0, shape[d], 1))
                advanced.append(None)
                d += 1
            used = x.ndim
        elif isinstance(part, slice):
            item.append(slice_of(part, shape[d]))
            advanced.append(None)
            if item[-1] != (0, shape[d], 1):
                names.append("SliceBackward0")
            d += 1
        elif isinstance(part, (bool, np.bool_)):
            from tapegrad.creation import tensor

            item.append(None)
            advanced.append(tensor(bool(part)).reshape(1))
        else:
            number = scalar_of(part)
            if number is not None:
                size = shape[d]
                if not -size <= number < size:
                    raise IndexError(f"index {number} is out of bounds for dimension {d} with size {size}")
                item.append(number % size if size else 0)
                names.append("SelectBackward0")
                d += 1
            elif is_tensor_index(part):
                found = as_index(part)
                mask = found.dtype in (dtypes.bool_, dtypes.uint8)
                if mask and found._level is not None and found._level.kind == "vmap":
                    raise RuntimeError(
                        "vmap: We do not support batching operators that can support dynamic shape. Attempting to batch over indexing with a "
                        "boolean mask."
                    )
                span = found.ndim if mask else 1
                if mask:
                    for k, size in enumerate(found.shape):
                        if shape[d + k] != size:
                            raise IndexError(
                                f"The shape of the mask {list(found.shape)} at index {k} does not match the shape of the indexed tensor {list(shape)} "
                                f"at index {d + k}"
                            )
                    if found.ndim == 0:
                        item.append(None)
                        advanced.append(found.reshape(1))
                        continue
                    advanced.extend(found.nonzero(as_tuple=True))
                else:
                    advanced.append(found)
                for k in range(span):
                    item.append((0, shape[d + k], 1))
                d += span
            else:
                raise IndexError(
                    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got "
                    f"{type(part).__name__})"
                )
    return tuple(item), advanced, names[-1] if names else "AliasBackward0"


def slice_of(part: slice, size: int) -> tuple:
    values = []
    for v in (part.start, part.stop, part.step):
        if v is not None and not hasattr(v, "__index__"):
            raise TypeError("slice indices must be integers or None or have an __index__ method")
        values.append(None if v is None else v.__index__())
    if values[2] is not None and values[2] <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, step = slice(*values).indices(size)
    return start, max(start, stop), step


def basic(x, item, name):
    return plans.view(pick, x, (item, name), pick_make(item, name))


@method()
def __getitem__(self, index):
    """x[index]: a view for integers, slices, None and Ellipsis; a copy for index tensors and masks."""
    kind = type(index)
    if kind is int:
        s = self._slot
        shape = geometry.shapes[core.get_field(s, core.GEOMETRY)] if s > 0 else ()
        if shape:
            size = shape[0]
            if -size <= index < size:
                key = (index % size, shape)
                item = _slices.get(key)
                if item is None:
                    item = _slices[key] = (index % size, *((0, n, 1) for n in shape[1:]))
                return basic(self, item, "SelectBackward0")
    elif kind is slice and self._slot > 0:
        shape = geometry.shapes[core.get_field(self._slot, core.GEOMETRY)]
        if shape:
            try:
                key = (index.start, index.stop, index.step, shape)
                item = _slices.get(key)
            except TypeError:
                item = key = None
            if item is None:
                item = (slice_of(index, shape[0]), *((0, n, 1) for n in shape[1:]))
                if key is not None:
                    if len(_slices) > 100000:
                        _slices.clear()
                    _slices[key] = item
            return basic(self, item, "SliceBackward0")
    elif kind in plans.PLAIN and not ACTIVE and index.dtype is dtypes.bool_ and index.ndim and index.shape == self.shape:
        return take_elements(self, index.nonzero(as_tuple=True))
    item, advanced, name = split_index(self, index)
    view = self if advanced and is_whole(item, self) else basic(self, item, name)
    if any(a is not None for a in advanced):
        return take_elements(view, advanced)
    return view


def is_whole(item, x) -> bool:
    return len(item) == x.ndim and all(p == (0, n, 1) for p, n in zip(item, x.shape, strict=True))


def arrays_of(advanced, shape, name="index"):
    """The NumPy index of a list of index tensors (None: the whole dim), range-checked with torch's error."""
    result = []
    for d, index in enumerate(advanced):
        if index is None:
            result.append(slice(None))
            continue
        if index.dtype in (dtypes.bool_, dtypes.uint8):
            (positions,) = np.nonzero(index.detach()._array())
            result.append(positions)
            continue
        array = index.detach()._array()
        if array.size:
            low, high = array.min(), array.max()
            size = shape[d]
            if low < -size or high >= size:
                bad = low if low < -size else high
                raise IndexError(f"index {bad} is out of bounds for dimension {d} with size {size}")
        result.append(array)
    try:
        np.broadcast_shapes(*(a.shape for a in result if isinstance(a, np.ndarray)))
    except ValueError:
        shapes = ", ".join(str(list(a.shape)) for a in result if isinstance(a, np.ndarray))
        raise IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}") from None
    return tuple(result)


@structural("index_op", "Index")
def index_op(node, g):
    """Advanced indexing: the gradient is added where the elements came from."""
    from tapegrad.creation import zeros

    return zeros(node.attributes.shape, dtype=g.dtype).index_put(indices_of(node), g, accumulate=True)


def indices_of(node) -> tuple:
    """The index tensors of an `index_op` entry: its operands after the first, None for a whole dim."""
    operands = node.inputs
    return tuple(None if k is None else operands[k] for k in node.attributes.places)


def places_of_samples(level, x, advanced):
    """(x with the batch in front, the index of each of its dims, where the index dims of a sample's result begin).

    With index tensors of the level, the number of the sample is one more index; the result's index dims then come first, behind the batch."""
    from tapegrad.creation import arange

    given = [k for k, a in enumerate(advanced) if a is not None]
    together = given == list(range(given[0], given[-1] + 1))
    first = given[0] if together else 0
    rank = max(advanced[k].ndim for k in given)
    if not any(level.follows(a) for a in advanced):
        return level.spread(x), [None, *advanced], first, 0 if together else rank
    samples = arange(level.size).reshape((level.size,) + (1,) * rank)
    return level.spread(x), [samples, *(a if a is None else level.aligned(a, rank) for a in advanced)], first, 0


def take_samples(level, f, x, advanced):
    """The batch rule of advanced indexing."""
    value, places, first, lead = places_of_samples(level, x, advanced)
    result = f(value, places)
    if lead:  # the index dims lie apart: they are in front of the batch
        return level.wrap(result, lead)
    if places[0] is not None and first:
        rank = max(a.ndim for a in advanced if a is not None)
        result = result.movedim(tuple(range(1, rank + 1)), tuple(range(first + 1, first + rank + 1)))
    return level.wrap(result)


@transformable(take_samples, "x")
def take_elements(x, advanced):
    """The elements that index tensors pick."""
    from tapegrad.creation import from_array

    given = [i for i in advanced if i is not None]
    count = iter(range(1, len(given) + 1))
    places = tuple(None if i is None else next(count) for i in advanced)
    first = adjacent(advanced)
    if first is not None and picks.usable(x, *given):
        for i in given:
            plans.settled(i)
        shapes_agree(given)
        return picks.index(index_op, x, first, given, first, lambda: arrays_of(advanced, x.shape), places=places)
    where = arrays_of(advanced, x.shape)
    result = from_array(x.detach()._array()[where], x.dtype)
    saves = ((1 << len(given)) - 1) << 1 if len(given) < 23 else -1
    record(index_op, [x, *given], [result], plans.Parameters(index_op, shape=tuple(x.shape), places=places), saves=saves)
    return result


def adjacent(advanced) -> int | None:
    """The first dim that has an index tensor, if those that have are adjacent and the kernels can pick along them."""
    dims = [d for d, i in enumerate(advanced) if i is not None]
    return dims[0] if dims and dims == list(range(dims[0], dims[-1] + 1)) and len(dims) < 20 else None


def shapes_agree(indices) -> None:
    """torch's error for index tensors that cannot be broadcast together."""
    try:
        geometry.broadcast_shapes(*(tuple(i.shape) for i in indices))
    except RuntimeError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}") from None


# --- writing --------------------------------------------------------------------------------------------------------
@method()
def __setitem__(self, index, value):
    """x[index] = value, recorded: the gradient flows to the value, and no longer to what was overwritten."""
    from tapegrad import creation, dispatch
    from tapegrad.autograd import inplace

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
    if hasattr(index, "_slot") and index.dtype is dtypes.bool_ and fill_where(self, index, value, given):
        return
    item, advanced, name = split_index(self, index)
    whole = is_whole(item, self)
    if not any(a is not None for a in advanced):
        view = self if whole else basic(self, item, name)
        graph_name = "CopyBackwards" if given is value else "FillBackward3"
        if inplace.copy_into(view, value, graph_name) and not core.get_field(self._slot, core.FLAGS) & layout.REQUIRES_GRAD:
            offset = (core.data_of(view._slot) - core.data_of(self._slot)) // self.dtype.itemsize
            plans.note_store(inplace.copy_op, self, core.get_field(view._slot, core.GEOMETRY), offset, value, given)
        return
    view = self if whole else basic(self, item, name)
    inplace.put_into(view, advanced, value, False)
    if view is self and given is not value:
        plans.note_given(value, given)


def fill_where(target, mask, value, given) -> bool:
    """`target[mask] = value` for one value and a mask of the same shape, unrecorded; false if it is not that."""
    from tapegrad import dispatch, modes
    from tapegrad.autograd import inplace
    from tapegrad.ops.registry import BY_NAME

    if not target.ndim or mask.shape != target.shape or value.ndim or value.dtype is not target.dtype or inplace.is_recorded(target, [value]):
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


@structural("index_put_op", "IndexPut")
def index_put_op(node, g):
    """index_put: the base loses the gradient of overwritten elements, the values get it."""
    from tapegrad.creation import zeros

    a = node.attributes
    base = g if a.accumulate else g.index_put(a.indices, zeros((), dtype=g.dtype))
    values = take_elements(g, a.indices).sum_to_size(a.values_shape)
    return base, values


def add_at(array, where, values, d):
    """numpy.add.at on memory of `d`."""
    if d.reduced:
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
            add_at(array, where, values, d)
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


@function(method=True, batch=put_samples)
def index_put(input, indices, values, accumulate=False):
    """A copy of `input` with `values` written (or added) at `indices`."""
    plans.settled(input)
    result = input.clone()
    put_elements(result, indices, values, accumulate)
    return result


@method()
def index_put_(self, indices, values, accumulate=False):
    """Write (or add) `values` at `indices`, in place."""
    put_elements(self, indices, values, accumulate)
    return self


def put_elements(self, indices, values, accumulate):
    """`index_put_` on memory."""
    from tapegrad.autograd import inplace

    indices = [None if i is None else as_index(i) for i in indices]
    if len(indices) > self.ndim:
        raise IndexError(f"too many indices for tensor of dimension {self.ndim} (got {len(indices)})")
    if values.dtype is not self.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {self.dtype.scalar_name} for the destination and "
            f"{values.dtype.scalar_name} for the source."
        )
    expanded: list = []
    for i in indices:
        if i is not None and i.dtype in (dtypes.bool_, dtypes.uint8):
            expanded.extend(i.nonzero(as_tuple=True))
        else:
            expanded.append(i)
    inplace.put_into(self, expanded + [None] * (self.ndim - len(expanded)), values, accumulate)


# --- gather and scatter ---------------------------------------------------------------------------------------------
def index_array(name, x, dim, index):
    """The NumPy index of gather/scatter along `dim`, range-checked."""
    if index.dtype not in (dtypes.int64, dtypes.int32) and index.numel():
        kinds, got = "int32 or int64" if name == "index_select" else "int32/int64", f" but got: {index.dtype.scalar_name}" if name == "index_add_" else ""
        raise RuntimeError(f"{name}(): Expected dtype {kinds} for index{got}")
    if not index.numel():
        return np.empty(tuple(index.shape), np.int64)
    array = index.detach()._array()
    size = x.shape[dim] if x.ndim else 1
    if array.size and (array.min() < 0 or array.max() >= size):
        bad = array.min() if array.min() < 0 else array.max()
        if name == "index_select":
            if dim in (0, x.ndim - 1):
                raise IndexError("index out of range in self")
            raise RuntimeError(f"INDICES element is out of DATA bounds, id={bad} axis_dim={size}")
        raise RuntimeError(f"index {bad} is out of bounds for dimension {dim} with size {size}")
    return array


def check_index_shape(name, x, dim, index, src=None):
    who = "input" if name == "gather" else "self"
    if max(index.ndim, 1) != max(x.ndim, 1) and index.numel():
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {who} tensor")
    for d in range(x.ndim):
        if src is not None and (d != dim and index.shape[d] > x.shape[d] or index.ndim == src.ndim and index.shape[d] > src.shape[d]):
            raise RuntimeError(
                f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from dimension {dim} and to be no larger size than "
                f"src {list(src.shape)}"
            )
        if d != dim and index.shape[d] > x.shape[d]:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from "
                f"dimension {dim}"
            )


@structural("gather_op", "Gather")
def gather_op(node, g):
    """gather: added back where the elements came from."""
    from tapegrad.creation import zeros

    a = node.attributes
    return zeros(a.shape, dtype=g.dtype).scatter_add(a.dim, node.inputs[1], g), None


@function(method=True, batch="along", linear="input")
def gather(input, dim, index, *, sparse_grad=False, out=None):
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    dim = wrap_dim(dim, input.ndim)
    check_index_shape("gather", input, dim, index)
    refused = lambda: index_array("gather", input, dim, index)  # noqa: E731
    if input.ndim and index.ndim == input.ndim and index.numel() and picks.usable(input, index):
        return into(out, picks.along_dim(gather_op, "gather", input, dim, index, None, refused), "gather", exact=True)
    array = refused()
    from tapegrad.creation import from_array

    source = input.detach()._array()
    if not array.size:
        result = from_array(np.empty(array.shape, input.dtype.numpy), input.dtype)
    elif not input.ndim:
        result = from_array(source.reshape(1)[array.reshape(-1)].reshape(array.shape), input.dtype)
    else:
        result = from_array(source[along(array, dim)], input.dtype)
    record(gather_op, [input, index], [result], plans.Parameters(gather_op, dim=dim, shape=tuple(input.shape)), saves=0b10)
    return into(out, result, "gather", exact=True)


def along(array, dim):
    """A full NumPy index: `array` in `dim`, the positions of its own elements elsewhere."""
    grids = list(np.ogrid[tuple(slice(n) for n in array.shape)]) if array.ndim else []
    if grids:
        grids[dim] = array
    return tuple(grids)


@structural("scatter_op", "Scatter")
def scatter_op(node, g):
    """scatter: overwritten places lose the gradient, the source gets it."""
    a, index = node.attributes, node.inputs[1]
    from tapegrad.creation import zeros

    base = g.scatter(a.dim, index, zeros(tuple(index.shape), dtype=g.dtype))
    return (base, None, g.gather(a.dim, index)) if a.source else (base, None)


@structural("scatter_add_op", "ScatterAdd")
def scatter_add_op(node, g):
    """scatter_add: the base keeps the gradient, the source gets it."""
    return g, None, g.gather(node.attributes.dim, node.inputs[1])


@transformable("along")
def scattered(name, op, input, dim, index, src, add):
    from tapegrad import creation, dispatch
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    tensor = hasattr(src, "_slot")
    if tensor and input.ndim and tuple(src.shape) == tuple(index.shape) and index.numel() and index.ndim == input.ndim and src.dtype is input.dtype \
            and picks.usable(input, index):
        check_index_shape(name, input, dim, index)
        return picks.along_dim(op, "scatter_add" if add else "scatter", input, dim, index, src, lambda: index_array(name, input, dim, index))
    array = index_array(name, input, dim, index)
    if tensor and src.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if not tensor and not isinstance(src, dispatch.NUMBERS):
        raise TypeError(f"{name}(): argument 'src' must be Tensor or Number, not {type(src).__name__}")
    check_index_shape(name, input, dim, index, src if tensor else None)
    result = from_array(input.detach()._array(), input.dtype)
    target = result._array()
    if array.size:
        values = src.detach()._array() if tensor else np.asarray(creation.stored_number(creation.convert_number(src, input.dtype), input.dtype))
        if tensor:
            values = values[tuple(slice(n) for n in array.shape)] if array.ndim else values
        place = along(array, dim) if array.ndim else ()
        if not target.ndim:
            target, place, values = target.reshape(1), (array.reshape(-1),), np.reshape(values, -1)
        if add:
            add_at(target, place, values, input.dtype)
        else:
            target[place] = values
    inputs = [input, index, src] if tensor else [input, index]
    if tensor and tuple(src.shape) != tuple(index.shape):
        inputs[2] = src[tuple(slice(n) for n in index.shape)]
    record(op, inputs, [result], plans.Parameters(op, dim=dim, source=tensor), saves=0b10)
    return result


@function(method=True)
@stored()
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of `input` with `src` (a tensor or number) written at `index` along `dim`."""
    src = value if src is None else src
    if reduce == "add":
        return scattered("scatter", scatter_add_op, input, dim, index, src if hasattr(src, "_slot") else input.new_full(tuple(index.shape), src), True)
    if reduce is not None:
        raise RuntimeError("reduce argument must be either add or multiply.")
    return scattered("scatter", scatter_op, input, dim, index, src, False)


@function(method=True)
@stored()
def scatter_add(input, dim, index, src):
    """A copy of `input` with `src` added at `index` along `dim`."""
    return scattered("scatter_add", scatter_add_op, input, dim, index, src, True)


@structural("index_select_op", "IndexSelect")
def index_select_op(node, g):
    """index_select: added back at the rows picked."""
    from tapegrad.creation import zeros

    a = node.attributes
    return zeros(a.shape, dtype=g.dtype).index_add(a.dim, node.inputs[1], g), None


def select_samples(level, f, input, dim, index, *, out=None):
    """The batch rule of index_select: gather, if every sample has an index of its own."""
    dim = wrap_dim(dim, input.ndim)
    if not level.follows(index):
        value = level.front(input)
        return level.wrap(f(value, dim + 1, index) if input.ndim else f(value.unsqueeze(1), 1, index).reshape(level.size))
    if not input.ndim:
        return input.expand(index.shape).reshape(()) if index.ndim else input
    flat = index.reshape(-1)
    shape = tuple(input.shape)
    spread = flat.reshape((1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)).expand(*shape[:dim], flat.shape[0], *shape[dim + 1 :])
    return input.gather(dim, spread)


@function(method=True, batch=select_samples, linear="input")
def index_select(input, dim, index, *, out=None):
    """The entries of `dim` that `index` lists."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not input.ndim and index.numel() != 1:
        raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {index.numel()} value(s)")
    refused = lambda: index_array("index_select", input, dim, index)  # noqa: E731
    if input.ndim and index.ndim == 1 and picks.usable(input, index):
        return into(out, picks.index(index_select_op, input, dim, [index], dim, refused, "index_select", dim=dim), "index_select")
    array = refused().reshape(-1)
    source = input.detach()._array()
    result = from_array(np.take(source, array, dim) if input.ndim else source.copy(), input.dtype)
    record(index_select_op, [input, index], [result], plans.Parameters(index_select_op, dim=dim, shape=tuple(input.shape)), saves=0b10)
    return into(out, result, "index_select")


@structural("index_add_op", "IndexAdd")
def index_add_op(node, g):
    """index_add: the base keeps the gradient, the source gets its rows."""
    a = node.attributes
    picked = g.index_select(a.dim, node.inputs[1])
    return g, None, (picked * a.alpha if a.alpha != 1 else picked).reshape(a.source_shape)


def add_samples(level, f, input, dim, index, source, *, alpha=1):
    """The batch rule of index_add: scatter_add, if every sample has an index of its own."""
    dim = wrap_dim(dim, input.ndim)
    if not input.ndim or source.ndim != input.ndim:
        raise Unhandled
    if not level.follows(index):
        return level.wrap(f(level.spread(input), dim + 1, index, level.spread(source), alpha=alpha))
    shape = tuple(source.shape)
    spread = index.reshape((1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)).expand(shape)
    return input.scatter_add(dim, spread, source if alpha == 1 else source * alpha)


@function(method=True, batch=add_samples)
@stored()
def index_add(input, dim, index, source, *, alpha=1):
    """A copy of `input` with `source` added at the entries of `dim` that `index` lists."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    if source.dtype is not input.dtype:
        raise RuntimeError(f"index_add_(): self ({input.dtype.scalar_name}) and source ({source.dtype.scalar_name}) must have the same scalar type")
    if index.ndim > 1:
        raise IndexError(
            f"index_add_(): Index is supposed to be a vector, but got dim: {index.ndim} with type: {index.dtype.scalar_name} and size: {list(index.shape)}"
        )
    refused = lambda: index_array("index_add_", input, dim, index)  # noqa: E731
    shape = tuple(input.shape)
    if source.ndim and index.numel() != source.shape[dim]:
        raise RuntimeError(f"index_add_(): Number of indices ({index.numel()}) should be equal to source.size(dim): ({source.shape[dim]}), for dim: {dim}")
    if source.ndim and shape and (source.ndim != len(shape) or any(d != dim and shape[d] != source.shape[d] for d in range(len(shape)))):
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {list(shape)} source.shape = {list(source.shape)}"
        )
    if alpha == 1 and input.ndim and index.ndim == 1 and tuple(source.shape) == (*shape[:dim], index.numel(), *shape[dim + 1 :]) and picks.usable(input, index):
        return picks.index_add(index_add_op, input, dim, index, source, refused, dim=dim, alpha=1, source_shape=tuple(source.shape))
    array = refused().reshape(-1)
    result = from_array(input.detach()._array(), input.dtype)
    if alpha != 1:
        from tapegrad import modes

        with modes.no_grad():
            added = source.detach() * alpha
    target, values = result._array(), (source.detach() if alpha == 1 else added)._array()
    if not target.ndim:
        target, values = target.reshape(1), values.reshape(1)
    add_at(np.moveaxis(target, dim, 0), array, np.moveaxis(values, dim, 0), input.dtype)
    plan = plans.Parameters(index_add_op, dim=dim, alpha=alpha, source_shape=tuple(source.shape))
    record(index_add_op, [input, index, source], [result], plan, saves=0b10)
    return result


# --- masks and positions --------------------------------------------------------------------------------------------
def refuse_nonzero(level, f, *args, **kwargs):
    raise RuntimeError(
        "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over aten::nonzero. Please file an issue at "
        "https://github.com/pytorch/pytorch/issues if you need this feature."
    )


def select_where(level, f, input, mask, *, out=None):
    """The batch rule of masked_select: one mask for all samples."""
    if level.follows(mask):
        raise RuntimeError(
            "vmap: Attempted to vmap over `mask` in torch.masked_select(self, mask) We cannot support this because for each batch this would "
            "return a differently shaped Tensor. Please file an issue at https://github.com/pytorch/pytorch/issues if you need this feature."
        )
    return f.__wrapped__(input, mask)


@function(method=True, batch=refuse_nonzero)
def nonzero(input, *, out=None, as_tuple=False):
    """The positions of nonzero elements: (count, ndim) int64, or a tuple of vectors."""
    from tapegrad.creation import from_array

    array = tensor_argument("nonzero", input).detach()._values()
    if not isinstance(as_tuple, bool):
        raise TypeError(f"nonzero(): argument 'as_tuple' must be bool, not {type(as_tuple).__name__}")
    if as_tuple:
        return tuple(from_array(p.astype(np.int64, copy=False), dtypes.int64) for p in np.nonzero(array if array.ndim else array.reshape(1)))
    return into(out, from_array(np.argwhere(array).astype(np.int64, copy=False), dtypes.int64), "nonzero")


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
    return into(out, input.expand(shape)[mask.expand(shape)] if shape else input.reshape(1)[mask.reshape(1)], "masked_select")


@function(method=True)
def masked_fill(input, mask, value):
    """`value` where `mask` is True, `input` elsewhere."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    check_mask("masked_fill", input, mask, value)
    op, values = BY_NAME["masked_fill"], [mask, input, value]
    tensors = dispatch.promoted(op, values, input.dtype)
    result = dispatch.finish(op, tensors)
    dispatch.note(op, values, tensors, result)
    return result


def check_mask(name, input, mask, value):
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{name}_ only supports boolean masks, but got mask with dtype {mask.dtype.short}")
    if hasattr(value, "_slot") and value.ndim:
        raise RuntimeError(f"{name}_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")


@function()
def where(condition, input=None, other=None, *, out=None):
    """`input` where `condition` holds, else `other`; with one argument the positions that hold (`nonzero(as_tuple=True)`)."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    tensor_argument("where", condition, 1, "condition")
    if condition.dtype is not dtypes.bool_ and condition.dtype is not dtypes.uint8:
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype.scalar_name}"
        )
    if condition.dtype is dtypes.uint8:
        condition = condition.to(dtypes.bool_)
    return dispatch.call(BY_NAME["where"], condition, input, other, out=out)


@method(name="where")
def where_method(self, condition, other):
    """`self` where `condition` holds, else `other`."""
    return where(condition, self, other)


@function(method=True)
def clamp(input, min=None, max=None, *, out=None):
    """Elements limited to [min, max]; either bound may be None, a number or a tensor."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    checks.no_complex_clamp(None, [input])
    if min is None and max is None:
        raise RuntimeError("tapegrad.clamp: At least one of 'min' or 'max' must not be None")
    if min is None:
        return dispatch.call(BY_NAME["clamp_max"], input, max, out=out)
    if max is None:
        return dispatch.call(BY_NAME["clamp_min"], input, min, out=out)
    return dispatch.call(BY_NAME["clamp_both"], input, min, max, out=out)


@method()
def clamp_(self, min=None, max=None):
    """`clamp` in place."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    checks.no_complex_clamp(None, [self])
    if min is None and max is None:
        raise RuntimeError("tapegrad.clamp: At least one of 'min' or 'max' must not be None")
    if min is None:
        return dispatch.call_inplace(BY_NAME["clamp_max"], self, max)
    if max is None:
        return dispatch.call_inplace(BY_NAME["clamp_min"], self, min)
    return dispatch.call_inplace(BY_NAME["clamp_both"], self, min, max)


@function(method=True)
@stored("take(): self and out expected to have the same dtype, but got self.dtype = {want.scalar_name} and out.dtype = {got.scalar_name}")
def take(input, index):
    """The elements at flat positions."""
    size = input.numel()
    array = index.detach()._array()
    if array.size and (array.min() < -size or array.max() >= size):
        raise IndexError(f"out of range: tried to access index {array.max()} on a tensor of {size} elements.")
    if index.dtype is not dtypes.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype.scalar_name}")
    return take_elements(input.reshape(-1), [index])
