"""Loops that only move elements, whatever their dtype: join, copy, take by tables of positions, triangles.

A kernel here is told sizes in bytes or compiled per element size, so one serves every dtype of that size.
"""

from __future__ import annotations

import functools

import numpy as np

from tapegrad import core, dtypes, geometry
from tapegrad.dtypes import OF_SLOT
from tapegrad.engine.layout import AS_IS, DENSE, SWEEP_APPLY, SWEEP_VIEW
from tapegrad.ops import loops
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural

# p: how many inputs, bytes of a row of the result, bytes of a row of each input.
JOIN = """
def kernel(args, start, stop):
    result = load_i64(args)
    p = load_i64(args - 8)
    inputs = load_i64(p)
    row = load_i64(p + 8)
    for o in range(start, stop):
        to = result + o * row
        for k in range(inputs):
            size = load_i64(p + 16 + k * 8)
            source = load_i64(args + 8 + k * 8) + o * size
            if size == 8:
                store_i64(to, load_i64(source))
            else:
                copy_bytes(to, source, size)
            to = to + size
"""

# p: bytes in all.  The range is over pieces of COPIED bytes.
COPIED = 1 << 14
COPY = f"""
def kernel(args, start, stop):
    size = load_i64(load_i64(args - 8))
    first = start * {COPIED}
    last = stop * {COPIED}
    last = where(last < size, last, size)
    copy_bytes(load_i64(args) + first, load_i64(args + 8) + first, last - first)
"""

# p: bytes in all.
CLEAR = f"""
def kernel(args, start, stop):
    result = load_i64(args)
    size = load_i64(load_i64(args - 8))
    last = stop * {COPIED}
    last = where(last < size, last, size)
    for k in range(start * {COPIED}, last):
        put_int8(result, k, 0)
"""

# p: elements in all, the bits of one.  The range is over pieces.
FILL = f"""
def kernel(args, start, stop):
    result = load_i64(args)
    p = load_i64(args - 8)
    size = load_i64(p)
    bits = load_i64(p + 8)
    last = stop * {COPIED}
    last = where(last < size, last, size)
    for k in range(start * {COPIED}, last):
        put_{{T}}(result, k, bits)
"""

# p: bytes, the address of what is copied.
CONSTANT = """
def kernel(args, start, stop):
    p = load_i64(args - 8)
    copy_bytes(load_i64(args), load_i64(p + 8), load_i64(p))
"""

TABLED = 1 << 16  # elements up to which tables of positions are kept
# p: how many dims, their sizes, then for each dim the position in memory (in elements) of each of its indices.  The range is over all but
# the last dim.
TAKE = """
def kernel(args, start, stop):
    result = load_i64(args)
    source = load_i64(args + 8)
    p = load_i64(args - 8)
    dims = load_i64(p)
    last = load_i64(p + dims * 8)
    tables = p + 8 + dims * 8
    for o in range(start, stop):
        end = tables
        for d in range(dims):
            end = end + load_i64(p + 8 + d * 8) * 8
        inner = end - last * 8
        end = inner
        rest = o
        position = 0
        for d in range(dims - 2, -1, -1):
            size = load_i64(p + 8 + d * 8)
            end = end - size * 8
            position = position + load_i64(end + (rest % size) * 8)
            rest = rest // size
        for k in range(last):
            put_{T}(result, o * last + k, get_{T}(source, position + load_i64(inner + k * 8)))
"""

# p: rows, columns, diagonal, 1 for the upper triangle.  The range is over rows of all matrices.
TRIANGLE = """
def kernel(args, start, stop):
    result = load_i64(args)
    source = load_i64(args + 8)
    p = load_i64(args - 8)
    rows = load_i64(p)
    columns = load_i64(p + 8)
    diagonal = load_i64(p + 16)
    upper = load_i64(p + 24)
    for r in range(start, stop):
        border = r % rows + diagonal
        for c in range(columns):
            kept = where(upper == 1, c >= border, c <= border)
            put_{T}(result, r * columns + c, where(kept, get_{T}(source, r * columns + c), 0))
"""

# p: elements of a vector, of a matrix, where its diagonal begins and how far its elements are apart.  The range is over vectors.
DIAGONAL = """
def kernel(args, start, stop):
    result = load_i64(args)
    source = load_i64(args + 8)
    p = load_i64(args - 8)
    length = load_i64(p)
    size = load_i64(p + 8)
    first = load_i64(p + 16)
    step = load_i64(p + 24)
    for o in range(start, stop):
        for k in range(size):
            put_{T}(result, o * size + k, 0)
        for k in range(length):
            put_{T}(result, o * size + first + k * step, get_{T}(source, o * length + k))
"""

TEXTS = {"join": JOIN, "diagonal": DIAGONAL, "copy": COPY, "take": TAKE, "triangle": TRIANGLE, "clear": CLEAR, "fill": FILL, "constant": CONSTANT}
WORDS = {1: dtypes.int8, 2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64}  # element size -> the integers that are moved


@functools.cache
def kernel(name: str, itemsize: int = 8) -> int:
    """The address of a kernel for elements of a size."""
    d = WORDS[itemsize]
    return loops.compiled(TEXTS[name].replace("{T}", d.name), d, d, extra=("int8",))


def own_geometry(x) -> int:
    return core.get_field(plans.settled(x), core.GEOMETRY)


def pack(x) -> int:
    """How a kernel must see `x` to find it in row-major order."""
    g = own_geometry(x)
    return AS_IS if geometry.is_contiguous(g) else g


def joined(op, tensors, shape, places, steps, **parameters):
    """Tensors of one dtype laid one after the other into rows of a tensor of `shape`.

    places: per tensor the element offset of its part; steps: per tensor the strides of its part.
    """
    d = tensors[0].dtype
    if len(tensors) > 24:
        tensors = [t if t.is_contiguous() else t.contiguous() for t in tensors]

    def make():
        target = geometry.geometry(shape)
        total = geometry.numels[target]
        parts = [t.numel() for t in tensors]
        n = parameters["outer"] if total else 0
        rules = [
            (SWEEP_VIEW, geometry.geometry(tuple(t.shape), tuple(step)), at * d.itemsize) for t, at, step in zip(tensors, places, steps, strict=True)
        ] if d.differentiable else ()
        args = (len(tensors), total * d.itemsize // max(n, 1), *(part * d.itemsize // max(n, 1) for part in parts))
        return plans.Plan(op, [(target, d.code)], kernel=kernel("join"), n=n, cost=total // 4, args=args, rules=rules, packs=[pack(t) for t in tensors],
                          differentiable=-1 if d.differentiable else 0, shape=shape, **parameters)

    return plans.run(op, tensors, (parameters["dim"],), make)


def taken(op, x, shape, tables, back=None, key=None, order=None, **parameters):
    """A tensor of `shape` whose element (i, j, ...) is that of `x` at tables[0][i] + tables[1][j] + ... elements from its first.

    `back`: the tables by which the gradient is taken from g (row-major), if that is a rearrangement too.  `order`: the dims from the slowest
    to the fastest in the memory of the result.
    """
    d = x.dtype

    def make():
        def one(tables, order, **others):
            sizes, steps = tuple(shape[k] for k in order), [0] * len(shape)
            for k, step in zip(order, geometry.contiguous_strides(sizes), strict=True):
                steps[k] = step
            target = geometry.geometry(shape, tuple(steps))
            outer = geometry.numels[target] // sizes[-1] if geometry.numels[target] else 0
            args = (len(shape), *sizes, *(place for k in order for place in tables[k]))
            return plans.Plan(op, [(target, d.code)], kernel=kernel("take", d.itemsize), n=outer, cost=geometry.numels[target], args=args, **others)

        rules = [(SWEEP_APPLY, one(back, range(len(shape)), operands=(1,)))] if back is not None and d.differentiable else ()
        return one(tables, order or range(len(shape)), rules=rules, differentiable=-1 if d.differentiable else 0, **parameters)

    return plans.run(op, [x], key, make)


def copied(op, x, g: int):
    """A copy of `x` whose geometry is `g`: row-major, or that of `x` itself, which is dense."""
    d = x.dtype

    def make():
        size = geometry.numels[g] * d.itemsize
        rules = [(SWEEP_VIEW, geometry.geometry(tuple(x.shape)))] if d.differentiable else ()
        packs = (AS_IS,) if own_geometry(x) == g else (pack(x),)
        return plans.Plan(op, [(g, d.code)], kernel=kernel("copy"), n=-(-size // COPIED), cost=size // 16, args=(size,), rules=rules, packs=packs,
                          differentiable=-1 if d.differentiable else 0)

    return plans.run(op, [x], g, make)


def copies(x, g: int) -> bool:
    """Whether `copied` serves: a copy by way of a packed one is not worth it for large tensors."""
    own = own_geometry(x)
    return own == g and bool(geometry.flags_of(g) & DENSE) or geometry.numels[g] < 1 << 12 and geometry.is_contiguous(g)


def triangle(op, x, diagonal: int, upper: bool):
    """The triangle of matrices, and the same of the gradient."""
    d = x.dtype

    def make():
        shape = tuple(x.shape)
        target = geometry.geometry(shape)

        def one(**others):
            rows = geometry.numels[target] // shape[-1] if geometry.numels[target] else 0
            return plans.Plan(op, [(target, d.code)], kernel=kernel("triangle", d.itemsize), n=rows, cost=geometry.numels[target],
                              args=(shape[-2], shape[-1], diagonal, upper), **others)

        rules = [(SWEEP_APPLY, one(operands=(1,)))] if d.differentiable else ()
        return one(rules=rules, packs=(pack(x),), diagonal=diagonal, differentiable=-1 if d.differentiable else 0)

    return plans.run(op, [x], (diagonal, upper), make)


def on_diagonal(op, x, offset: int, **parameters):
    """Matrices of zeros with the vectors of the last dim of `x` on a diagonal."""
    d = x.dtype

    def make():
        *outer, length = x.shape
        n = length + abs(offset)
        target = geometry.geometry((*outer, n, n))
        return plans.Plan(op, [(target, d.code)], kernel=kernel("diagonal", d.itemsize), n=geometry.numels[target] // max(n * n, 1),
                          cost=geometry.numels[target], args=(length, n * n, offset if offset >= 0 else -offset * n, n + 1), packs=(pack(x),),
                          differentiable=-1 if d.differentiable else 0, offset=offset, **parameters)

    return plans.run(op, [x], offset, make)


def movable(x) -> bool:
    """Whether there are kernels for elements of this size."""
    return OF_SLOT[core.get_field(x._slot, core.DTYPE)].itemsize in WORDS


def cleared(op, x) -> None:
    """Zeros written over the dense tensor `x`, unrecorded."""
    size = x.numel() * x.dtype.itemsize
    make = lambda: plans.Plan(op, [], kernel=kernel("clear"), n=-(-size // COPIED), cost=size // 16, args=(size,), writes=True)  # noqa: E731
    plans.run(op, [x], "clear", make)


@structural("made_op")
def made_op(node):
    """Tensors made from numbers: nothing to differentiate."""
    return ()


CONSTANTS = 1 << 12  # bytes up to which a made tensor is kept to be copied
_once: set = set()  # what was made once: a plan is worth it the second time


def note_made(t, like, filled: bool) -> None:
    """Let the call cache make tensors like `t` again: without elements of their own, filled with one number, or with constants.

    `like`: the tensor among the arguments, None if there is none; `filled`: all elements are the same.
    """
    g, d = core.get_field(t._slot, core.GEOMETRY), t.dtype
    count = geometry.numels[g]
    if not movable(t) or not (filled or count * d.itemsize <= CONSTANTS) or not geometry.flags_of(g) & DENSE:
        return
    array = t._array()
    content = array.tobytes() if not filled else array.reshape(-1)[:1].tobytes()
    other = like if like is None else (core.get_field(like._slot, core.GEOMETRY), core.get_field(like._slot, core.DTYPE))
    place = ("made", g, d.code, other, content, filled)
    plan = plans.kept(place)
    if plan is None:
        if place not in _once:
            if len(_once) > 1000:
                _once.clear()
            _once.add(place)
            return
        kept = np.frombuffer(content or b"\0", np.uint8).copy()
        if filled:
            bits = int.from_bytes(content, "little", signed=True)
            how = {"kernel": kernel("fill", d.itemsize), "n": -(-count // COPIED), "args": (count, bits)}
        else:
            how = {"kernel": kernel("constant"), "n": 1 if count else 0, "args": (len(content), kept.ctypes.data)}
        plan = plans.keep(place, plans.Plan(made_op, [(g, d.code)], cost=count // 4, differentiable=0, content=kept, **how), () if other is None else (other,))
    plans.note(plan, () if like is None else (like,), t)
    plans.chains.step(plan, () if like is None else (like,), t)
