"""Geometries: interned (shape, strides), and how elementwise operands of different geometries are walked together.

Equal shape and strides are one integer everywhere, so compiled code compares shapes by comparing integers.  `fill_broadcast`
computes, once per combination of operand geometries, the output's geometry and each operand's walk; the result stays in the
engine's broadcast cache.  The output's stride order follows torch's TensorIterator: that of the first operands that decide it.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque

import numpy as np

from tapegrad import locks
from tapegrad.engine import bind, layout
from tapegrad.engine.layout import CONTIGUOUS, DENSE, DIRECT, OVERLAPS, SCALAR, STRIDED
from tapegrad.naming import known_as

MAX_NDIM = 64
LARGEST = 2**63 - 1  # what compiled code can count
_ids: dict[tuple, int] = {}
_contiguous_ids: dict[tuple, int] = {}
shapes: list[tuple] = [()]  # by id; id 0 is "no operand"
strides: list[tuple] = [()]
numels: list[int] = [0]
_memory: list = [None]  # keeps sizes alive
_room = 0
_rows: np.ndarray
lock = locks.tables


@known_as("tapegrad.Size", final=True)
class Size(tuple):
    """The shape of a tensor: a tuple of ints that prints as `tapegrad.Size([2, 3])`."""

    __slots__ = ()

    def __new__(cls, sizes=()):
        values = []
        for k, size in enumerate(sizes):
            if not hasattr(size, "__index__") or (hasattr(size, "_slot") and (size.numel() != 1 or size.dtype.category > 1)):
                kind = type(size)
                named = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
                raise TypeError(f"torch.Size() takes an iterable of 'int' (item {k} is '{named}')")
            values.append(int(size))
        return tuple.__new__(cls, values)

    def __repr__(self):
        return f"tapegrad.Size([{', '.join(map(str, self))}])"

    def numel(self) -> int:
        """The product of the sizes."""
        n = 1
        for size in self:
            n *= size
        return n

    def __getitem__(self, index):
        item = tuple.__getitem__(self, index)
        return tuple.__new__(Size, item) if isinstance(index, slice) else item

    def __add__(self, other):
        if not isinstance(other, tuple):
            reflected = getattr(type(other), "__radd__", None)
            result = NotImplemented if reflected is None else reflected(other, self)
            if result is not NotImplemented:
                return result
            raise TypeError(f"can only concatenate tuple (not {type(other).__name__}) to torch.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other):
        return Size(other + tuple(self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, count):
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def __reduce__(self):
        return Size, (tuple(self),)


def contiguous_strides(shape: tuple) -> tuple:
    """Row-major strides, in elements."""
    result, step = [], 1
    for size in reversed(shape):
        result.append(step)
        step *= max(size, 1)
    return tuple(reversed(result))


def _is_contiguous(shape, steps) -> bool:
    expected = 1
    for size, step in zip(reversed(shape), reversed(steps), strict=True):
        if size == 0:
            return True
        if size != 1:
            if step != expected:
                return False
            expected *= size
    return True


def _flags(shape: tuple, steps: tuple) -> int:
    if 0 in shape:
        return CONTIGUOUS | DENSE
    flags = CONTIGUOUS if _is_contiguous(shape, steps) else 0
    expected, dense, overlaps = 1, True, False
    for step, size in sorted((step, size) for size, step in zip(shape, steps, strict=True) if size != 1):
        if step < expected:
            overlaps = True
        dense = dense and step == expected
        expected = step * (size - 1) + expected if step >= expected else expected
    if dense:
        flags |= DENSE
    if overlaps:
        flags |= OVERLAPS
    return flags


def _whole(sizes: tuple) -> tuple:
    """Python ints for what counts as such, truth values and tensors too: what is interned stands for all that is equal to it."""
    return tuple([int(size.__index__()) for size in sizes])


def geometry(shape: tuple, steps: tuple | None = None) -> int:
    """The id of a shape with strides (row-major if None)."""
    if steps is None:
        found = _contiguous_ids.get(shape)
        if found is None:
            shape = _whole(shape)
            found = _contiguous_ids[shape] = geometry(shape, contiguous_strides(shape))
        return found
    found = _ids.get((shape, steps))
    if found is None:
        shape, steps = _whole(shape), _whole(steps)
        with lock:
            found = _ids.get((shape, steps))
            if found is None:
                found = _intern(shape, steps)
    return found


def count(shape: tuple) -> int:
    """The number of elements; torch's error where that is beyond 64 bits, as it is with a size below 0."""
    numel = 1
    for size in shape:
        numel *= size
        if not 0 <= numel <= LARGEST:
            raise RuntimeError("numel: integer multiplication overflow")
    return numel


def _intern(shape: tuple, steps: tuple) -> int:
    shape, steps = tuple(map(int, shape)), tuple(map(int, steps))
    numel, plain = count(shape), contiguous_strides(shape)
    if max(*plain, *steps, 0, 0) > LARGEST:
        raise RuntimeError("Stride calculation overflowed")
    base = geometry(shape, plain) if steps != plain else 0
    g = len(_ids) + 1
    if g >= _room:
        _grow(g)
    words = np.array([*shape, *steps, 0], np.int64)
    size = Size(shape)
    row = (min(numel, layout.MOST_ELEMENTS), words.ctypes.data, len(shape), _flags(shape, steps), base or g, 0, id(size), id(steps))
    # A KeyboardInterrupt may come between any two of these; what it leaves unfinished is written over by the next geometry.
    shapes[g:], strides[g:], numels[g:], _memory[g:] = [size], [steps], [numel], [words]
    _rows[g] = row
    _ids[shape, steps] = g
    return g


def _grow(used: int) -> None:
    """A larger table of rows; compiled code may still look into the old one, which stays."""
    global _room, _rows
    room, cell = max(1024, _room * 2), bind.state_cell("geometries")
    table = bind.allocate(room * layout.GEOMETRY.size)
    if cell.value:
        ctypes.memmove(table, cell.value, used * layout.GEOMETRY.size)
    _rows = layout.GEOMETRY.view(table, room)
    cell.value, _room = table, room


def flags_of(g: int) -> int:
    return int(_rows["flags"][g])


def is_contiguous(g: int) -> bool:
    return bool(_rows["flags"][g] & CONTIGUOUS)


def is_plain(g: int) -> bool:
    """Whether the strides are row-major ones even in dims of one element."""
    return int(_rows["contiguous"][g]) == g


def start() -> None:
    """Intern the 0-d geometry; the engine's state is ready."""
    bind.state_cell("scalar_geometry").value = geometry(())


# --- broadcasting ---------------------------------------------------------------------------------------------------
def broadcast_shapes(*operands: tuple) -> tuple:
    """The common shape of operands under broadcasting; torch's error, which is about the last dim that does not fit, if there is none."""
    result: list[int] = []
    for shape in operands:
        result[:0] = [1] * (len(shape) - len(result))
        for k in range(-1, -1 - len(shape), -1):
            size = shape[k]
            if size == 1:
                continue
            if result[k] != 1 and result[k] != size:
                raise RuntimeError(
                    f"The size of tensor a ({result[k]}) must match the size of tensor b ({size}) at non-singleton dimension {len(result) + k}"
                )
            result[k] = size
    return tuple(result)


def broadcast_shapes_or_none(*operands: tuple) -> tuple | None:
    """`broadcast_shapes`, None where there is no common shape."""
    try:
        return broadcast_shapes(*operands)
    except RuntimeError:
        return None


def stride_order(shape: tuple, operands: list[tuple]) -> list[int]:
    """Dims from the fastest to the slowest, as TensorIterator sorts them by the operands' strides (0 where broadcast)."""
    order = list(range(len(shape) - 1, -1, -1))

    def compare(d0: int, d1: int) -> int:
        for steps in operands:
            s0, s1 = steps[d0], steps[d1]
            if s0 == 0 or s1 == 0:
                continue
            if s0 != s1:
                return -1 if s0 < s1 else 1
            if shape[d0] > shape[d1]:
                return 1
        return 0

    for i in range(1, len(order)):
        at = i
        for j in range(i - 1, -1, -1):
            verdict = compare(order[j], order[at])
            if verdict > 0:
                order[j], order[at] = order[at], order[j]
                at = j
            elif verdict < 0:
                break
    return order


def ordered_strides(shape: tuple, order: list[int]) -> tuple:
    """The strides of what TensorIterator makes for dims in this order, from the fastest to the slowest."""
    steps, step = [0] * len(shape), 1
    if order == list(range(len(shape)))[::-1]:
        return contiguous_strides(shape)
    for d in order:
        steps[d] = step
        step *= shape[d]
    return tuple(steps)


def expanded_strides(shape: tuple, g: int) -> tuple:
    """The strides of geometry `g` broadcast to `shape`: 0 in dims that are repeated."""
    own_shape, own = shapes[g], strides[g]
    lead = len(shape) - len(own_shape)
    return (0,) * lead + tuple(0 if s == 1 and shape[lead + k] != 1 else own[k] for k, s in enumerate(own_shape))


def walk(shape: tuple, steps: tuple, order: list[int]) -> tuple[int, list[int], list[int]]:
    """(mode, sizes, strides) for visiting an operand in the order given (fastest dim first), adjacent dims merged."""
    sizes: list[int] = []
    moves: list[int] = []
    for d in order:
        size, step = shape[d], steps[d]
        if size == 1:
            continue
        if sizes and step == moves[-1] * sizes[-1]:
            sizes[-1] *= size
        else:
            sizes.append(size)
            moves.append(step)
    if not sizes or moves == [1] or 0 in shape:
        return DIRECT, [], []
    if moves == [0]:
        return SCALAR, [], []
    return STRIDED, sizes[::-1], moves[::-1]


_rows_in_use: dict[int, tuple] = {}  # by place in the cache: the row and the walks that it points at
_retired: deque = deque(maxlen=layout.BROADCAST_ROWS)  # replaced rows: compiled code that let another thread run may still read them


def fill_broadcast(first: int, second: int, third: int) -> None:
    """Fill the broadcast cache for operand geometries (0: none); called by compiled code on a miss."""
    with lock:
        _fill_broadcast(first, second, third)


def _fill_broadcast(first: int, second: int, third: int) -> None:
    operands = [g for g in (first, second, third) if g]
    shape = broadcast_shapes(*(shapes[g] for g in operands))
    if math.prod(shape) > LARGEST:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}")
    expanded = [expanded_strides(shape, g) for g in operands]
    order = stride_order(shape, expanded)
    alike = all(shapes[g] == shape for g in operands)
    if alike and all(flags_of(g) & CONTIGUOUS for g in operands):
        output = geometry(shape)
    elif alike and all(steps == expanded[0] for steps in expanded) and flags_of(operands[0]) & DENSE:
        output = operands[0]
    else:
        output = geometry(shape, ordered_strides(shape, order))
    n = numels[output]
    modes, addresses, kept = [], [], []
    for k in range(3):
        mode, sizes, moves = walk(shape, expanded[k], order) if k < len(operands) else (DIRECT, [], [])
        words = np.array([len(sizes), *sizes, *moves], np.int64)
        kept.append(words)
        modes.append(mode)
        addresses.append(words.ctypes.data if mode == STRIDED else 0)
    h = (first * 0x9E3779B1 + second * 0x85EBCA77 + third * 0xC2B2AE3D) >> 7
    at = h & (layout.BROADCAST_ROWS - 1)
    if at in _rows_in_use and at ^ 1 not in _rows_in_use:
        at ^= 1
    row = np.array([(first, second, third, output, n, [*modes, DIRECT], [*addresses, 0])], layout.BROADCAST.dtype)
    cell, address = ctypes.c_int64.from_address(bind.state_cell("broadcasts").value + at * 8), row.ctypes.data
    if at in _rows_in_use:
        _retired.append(_rows_in_use[at])
    _rows_in_use[at] = (row, kept)  # no call, and so no KeyboardInterrupt, between the row that is kept and the one that is pointed at
    cell.value = address
