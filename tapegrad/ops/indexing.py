"""Indexing that reads: basic (views) and advanced (integer and boolean tensors).

`x[...]` with integers, slices, None and Ellipsis is one `pick` view.  With index tensors, the basic part is taken first as a view, then
one advanced step (`index_op`).  Writing is in `index_writes.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tapegrad import core, dtypes, geometry, modes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn
from tapegrad.naming import type_name
from tapegrad.ops import chains, picks
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import outside
from tapegrad.ops.outputs import in_memory, stored
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, transformable
from tapegrad.ops.views import pick, pick_make

_slices: dict[tuple, tuple] = {}
NON_TUPLE = (
    "Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch 2.9; use x[tuple(seq)] instead of x[seq]. "
    "In pytorch 2.9 this will be interpreted as tensor index, x[torch.tensor(seq)], which will result either in an error or a different result"
)


def is_tensor_index(part) -> bool:
    return hasattr(part, "_slot") or isinstance(part, (np.ndarray, list, tuple, np.bool_)) or isinstance(part, range)


_listed: dict[tuple, Any] = {}  # lists of numbers that were indices, as tensors: making one costs several times the indexing
LISTED = 1000


def listed(part: tuple):
    """A list of Python numbers, or nested lists, as an index tensor: of truth values if all are, else of integers, to which floats are cut."""
    from tapegrad.creation import build
    from tapegrad.creation.data import infer_dtype

    plain = len(part) <= 64 and all(type(v) is int for v in part) and not modes.is_inference_mode_enabled()
    index = _listed.get(part) if plain else None
    if index is None or core.version_of(index._slot):
        inferred = infer_dtype(part)
        index = build(list(part), inferred if inferred in (dtypes.bool_, dtypes.uint8) else dtypes.int64)
        if plain:
            if len(_listed) >= LISTED:
                _listed.clear()
            _listed[part] = index
    return chains.constant(index) if plain else index


def as_index(part):
    """An index part as a tensor of int64, uint8 or bool."""
    from tapegrad.creation import tensor

    if hasattr(part, "_slot"):
        index = part
    elif isinstance(part, np.ndarray):
        index = tensor(part if part.dtype.kind in "iub" else part.astype(np.int64))
    else:
        index = listed(tuple(part)) if len(part) else tensor([], dtype=dtypes.int64)
    if index.dtype.category > dtypes.INTEGER:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if index.dtype in (dtypes.int16, dtypes.int8):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return index


def warn_of_bytes(mask) -> None:
    if mask.dtype is dtypes.uint8 and mask.ndim:
        text = "indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead."
        warn(text, stacklevel=5)


def scalar_of(part):
    """The integer of a 0-d integer tensor or NumPy integer, else None."""
    if hasattr(part, "_slot"):
        if part._level is not None and part._level.kind == "vmap":
            return None  # another number for every sample
        if part.ndim == 0 and part.dtype.category == dtypes.INTEGER and part.dtype is not dtypes.uint8:
            return part.item()
        return None
    if isinstance(part, (bool, np.bool_)) or isinstance(part, np.ndarray) and (part.ndim or part.dtype.kind not in "iu"):
        return None
    number = part.__index__() if hasattr(part, "__index__") else None
    if number is not None and not -(2**63) <= number < 2**63:
        raise ValueError("Overflow when unpacking long long")
    return number


def treat_as_tuple(index) -> tuple:
    """The parts of an index.  torch still takes a short list that holds sequences, tensors, slices, None or Ellipsis for a tuple."""
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < 32:
        if any(p is None or p is Ellipsis or isinstance(p, (list, tuple, slice)) or hasattr(p, "_slot") for p in index):
            warn(NON_TUPLE, stacklevel=4)
            return tuple(index)
    return (index,)


def refuse_of_number(part) -> None:
    """torch's errors for a 0-d tensor indexed by an integer or a slice."""
    if isinstance(part, slice):
        raise IndexError("slice() cannot be applied to a 0-dim tensor.")
    number = None if isinstance(part, (bool, np.bool_)) or hasattr(part, "_slot") else scalar_of(part)
    if number == 0:
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim tensor to a number"
        )
    if number is not None:
        raise IndexError(f"index {number} is out of bounds for dimension 0 with size 0")


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
    if x.ndim == 0 and len(parts) == 1 == used:
        refuse_of_number(parts[0])
    if used > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    if sum(1 for p in parts if p is Ellipsis) == 0:
        parts = (*parts, Ellipsis)
    item, advanced, names = [], [], []
    d = 0
    shape = x.shape
    seen = lambda: [n for n in map(size_of, item) if n is not None]  # noqa: E731 (the sizes that the parts so far leave)
    for at, part in enumerate(parts):
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
                    raise IndexError(f"index {number} is out of bounds for dimension {at} with size {size}")
                item.append(number % size if size else 0)
                names.append("SelectBackward0")
                d += 1
            elif is_tensor_index(part):
                found = as_index(part)
                mask = found.dtype in (dtypes.bool_, dtypes.uint8)
                warn_of_bytes(found)
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
                                f"The shape of the mask {list(found.shape)} at index {k} does not match the shape of the indexed tensor "
                                f"{[*seen(), *shape[d:]]} at index {len(seen()) + k}"
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
                    f"{type_name(part)})"
                )
    return tuple(item), advanced, names[-1] if names else "AliasBackward0"


def size_of(part) -> int | None:
    """The size of the dim that a part of a normalised index makes, None for an integer."""
    return 1 if part is None else None if isinstance(part, int) else max(0, -(-(part[1] - part[0]) // part[2]))


def slice_of(part: slice, size: int) -> tuple:
    values = []
    for v in (part.start, part.stop, part.step):
        if v is not None and not hasattr(v, "__index__"):
            raise TypeError("slice indices must be integers or None or have an __index__ method")
        values.append(None if v is None else v.__index__())
    if values[2] is not None and values[2] <= 0:
        raise ValueError("step must be greater than zero" if values[2] else "slice step cannot be zero")
    start, stop, step = slice(*values).indices(size)
    return start, max(start, stop), step


def basic(x, item, name):
    return plans.view(pick, x, (item, name), pick_make(item, name))


def is_whole(item, x) -> bool:
    return len(item) == x.ndim and all(p == (0, n, 1) for p, n in zip(item, x.shape, strict=True))


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
    elif kind is list and index and not ACTIVE and type(self) in plans.PLAIN and self.ndim and all(type(v) is int for v in index):
        return take_elements(self, [listed(tuple(index)), *[None] * (self.ndim - 1)])
    item, advanced, name = split_index(self, index)
    picked = any(a is not None for a in advanced)
    view = self if picked and is_whole(item, self) else basic(self, item, name)
    return take_elements(view, advanced) if picked else view


# --- advanced indices ------------------------------------------------------------------------------------------------
def arrays_of(advanced, shape, name="index"):
    """The NumPy index of a list of index tensors (None: the whole dim), range-checked with torch's error."""
    result: list[Any] = []
    for d, index in enumerate(advanced):
        if index is None:
            result.append(slice(None))
            continue
        number = sum(not isinstance(r, slice) for r in result)  # torch counts the dims that are indexed
        if index.dtype in (dtypes.bool_, dtypes.uint8):
            (positions,) = np.nonzero(index.detach()._array())
            result.append(positions)
            continue
        array, size = index.detach()._array(), shape[d]
        bad = outside(array, -size, size)
        if bad is not None:
            raise IndexError(f"index {bad} is out of bounds for dimension {number} with size {size}" if size else "index is out of bounds for dimension with size 0")
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
    from tapegrad.ops.index_writes import with_elements

    return with_elements(zeros(node.attributes.shape, dtype=g.dtype), indices_of(node), g, accumulate=True)


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
    for i in given:
        plans.settled(i)
    shapes_agree(given)
    steps = picks.picked_strides(x, advanced)
    if first is not None and steps is None and picks.usable(x, *given):
        return picks.index(index_op, x, first, given, first, lambda: arrays_of(advanced, x.shape), places=places)
    where = arrays_of(advanced, x.shape)
    result = from_array(x.detach()._array()[where], x.dtype)
    if steps is not None:
        result = in_memory(result, steps)
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


@function(method=True)
@stored("take(): self and out expected to have the same dtype, but got self.dtype = {want.scalar_name} and out.dtype = {got.scalar_name}")
def take(input, index):
    """The elements at flat positions."""
    size = input.numel()
    if not size and index.numel():
        raise IndexError("take(): tried to take from an empty tensor")
    array = index.detach()._array()
    bad = outside(array, -size, size)
    if bad is not None:
        raise IndexError(f"out of range: tried to access index {bad} on a tensor of {size} elements.")
    if index.dtype is not dtypes.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype.scalar_name}")
    return take_elements(input.reshape(-1), [index])
