"""Loops that pick and place elements by index tensors: the kernels and plans behind advanced indexing, gather and scatter.

A kernel that meets an index out of range refuses, before it has written anything; the caller then finds the words for the error.  What is
picked along adjacent dims of a tensor is (outer, the dims indexed, inner); index tensors are seen broadcast together.
"""

from __future__ import annotations

import functools
import math

from tapegrad import dtypes, geometry
from tapegrad.engine.layout import AS_IS, SWEEP_APPLY, SWEEP_PYTHON, SWEEP_VIEW
from tapegrad.ops import loops, moves
from tapegrad.ops import plan as plans

# p: outer, how many elements are picked, elements of inner, how many index tensors, product of the sizes indexed, those sizes.
HEAD = """
def kernel(args, start, stop):
    p = load_i64(args - 8)
    outer = load_i64(p)
    count = load_i64(p + 8)
    inner = load_i64(p + 16)
    indices = load_i64(p + 24)
    total = load_i64(p + 32)
"""
PLACE = """
        place = 0
        for d in range(indices):
            size = load_i64(p + 40 + d * 8)
            i = get_{I}(load_i64(args + 16 + d * 8), j)
            i = where(i < 0, i + size, i)
"""
NEXT = "            place = place * size + i\n"
PLAIN_PLACE = PLACE.replace("            i = where(i < 0, i + size, i)\n", "")  # where no index counts from the end
CHECK = f"""
    for j in range(start, stop):
{PLACE}
            if (i < 0) | (i >= size):
                store_i64(p - 8, 1)
                return
"""
INDEX = HEAD + CHECK + """
    result = load_i64(args)
    source = load_i64(args + 8)
    for j in range(start, stop):
""" + PLACE + NEXT + """
        for a in range(outer):
            to = (a * count + j) * inner
            at = (a * total + place) * inner
            for b in range(inner):
                put_{W}(result, to + b, get_{W}(source, at + b))
"""
INDEX_SELECT = INDEX.replace(PLACE, PLAIN_PLACE)
# The derivative: added into zeros.
INDEX_BACK = HEAD + """
    result = load_i64(args)
    g = load_i64(args + 8)
    for k in range(outer * total * inner):
        put_{T}(result, k, 0)
    for j in range(count):
""" + PLACE + NEXT + """
        for a in range(outer):
            at = (a * count + j) * inner
            to = (a * total + place) * inner
            for b in range(inner):
                put_{T}(result, to + b, get_{T}(result, to + b) + get_{T}(g, at + b))
"""
# Inputs: the target, the indices, the values (as many as are picked).
PUT = HEAD + """
    for j in range(count):
""" + PLACE.replace("args + 16", "args + 8") + """
            if (i < 0) | (i >= size):
                store_i64(p - 8, 1)
                return
    result = load_i64(args)
    source = load_i64(args + 8 + indices * 8)
    for j in range(count):
""" + PLACE.replace("args + 16", "args + 8") + NEXT + """
        for a in range(outer):
            at = (a * count + j) * inner
            to = (a * total + place) * inner
            for b in range(inner):
                put_{W}(result, to + b, get_{W}(source, at + b))
"""
# Inputs: the base, the index, what is added to a copy of it.
INDEX_ADD = HEAD + CHECK.replace(PLACE, PLAIN_PLACE).replace("range(start, stop)", "range(count)").replace("load_i64(args + 16 + d * 8)", "load_i64(args + 16)") + """
    result = load_i64(args)
    base = load_i64(args + 8)
    source = load_i64(args + 24)
    for k in range(outer * total * inner):
        put_{T}(result, k, get_{T}(base, k))
    for j in range(count):
        i = get_{I}(load_i64(args + 16), j)
        for a in range(outer):
            at = (a * count + j) * inner
            to = (a * total + i) * inner
            for b in range(inner):
                put_{T}(result, to + b, get_{T}(result, to + b) + get_{T}(source, at + b))
"""

# Along one dim.  p: how many dims, elements of the tensor, size and step of the dim, the sizes of the index, the steps (0 in the dim).
ALONG = """
def kernel(args, start, stop):
    p = load_i64(args - 8)
    dims = load_i64(p)
    total = load_i64(p + 8)
    size = load_i64(p + 16)
    step = load_i64(p + 24)
    sizes = p + 32
    steps = sizes + dims * 8
    last = load_i64(sizes + dims * 8 - 8)
    last_step = load_i64(steps + dims * 8 - 8)
    index = load_i64(args + {index})
{check}
    result = load_i64(args)
    source = load_i64(args + {source})
{before}
    for r in range(start, stop):
        rest = r
        base = 0
        for d in range(dims - 2, -1, -1):
            extent = load_i64(sizes + d * 8)
            base = base + (rest % extent) * load_i64(steps + d * 8)
            rest = rest // extent
        for k in range(last):
            at = r * last + k
            place = base + k * last_step + get_{I}(index, at) * step
            {move}
"""
IN_RANGE = """
    for k in range(start * last, stop * last):
        i = get_{I}(index, k)
        if (i < 0) | (i >= size):
            store_i64(p - 8, 1)
            return
"""
COPY_BASE = """
    base_of = load_i64(args + 8)
    for k in range(total):
        put_{T}(result, k, get_{T}(base_of, k))
"""
ZEROS = """
    for k in range(total):
        put_{T}(result, k, 0)
"""


def along(index, source, move, before="", check=IN_RANGE):
    return ALONG.replace("{index}", str(index)).replace("{source}", str(source)).replace("{move}", move).replace("{before}", before).replace("{check}", check)


TEXTS = {
    "index": INDEX, "index_select": INDEX_SELECT, "index_back": INDEX_BACK, "put": PUT, "index_add": INDEX_ADD,
    "gather": along(16, 8, "put_{W}(result, at, get_{W}(source, place))"),
    "gather_back": along(16, 8, "put_{T}(result, place, get_{T}(result, place) + get_{T}(source, at))", ZEROS, ""),
    "scatter_add": along(16, 24, "put_{T}(result, place, get_{T}(result, place) + get_{T}(source, at))", COPY_BASE),
    "scatter": along(16, 24, "put_{T}(result, place, get_{T}(source, at))", COPY_BASE),
    "scatter_back": along(16, 8, "put_{T}(result, place, 0)", COPY_BASE, ""),
}


@functools.cache
def kernel(name: str, d, index=dtypes.int64) -> int:
    """The address of a kernel for elements of dtype `d` (any of its size, for those that only move) and indices of dtype `index`."""
    text = TEXTS[name]
    if "{W}" in text:
        d = moves.WORDS[d.itemsize]
    names = {"{W}": d.name, "{T}": d.name, "{I}": index.name}
    for name, dtype in names.items():
        text = text.replace(name, dtype)
    return loops.compiled(text, d, d, extra=(index.name,))


def usable(x, *indices) -> bool:
    """Whether kernels serve the tensor and its index tensors."""
    return loops.serves(x.dtype) and all(i.dtype in (dtypes.int64, dtypes.int32) and i.dtype is indices[0].dtype for i in indices)


def picked_strides(x, advanced) -> tuple | None:
    """The strides of what index tensors (None: the whole dim) pick from `x`; None for row-major ones, as they are if all lie so.

    torch lets TensorIterator order the dims by how `x` lies, with strides of 0 where it is indexed, and then by how the indices lie.
    """
    given = [k for k, i in enumerate(advanced) if i is not None]
    if all(geometry.is_plain(moves.own_geometry(t)) for t in (x, *(advanced[k] for k in given))):
        return None
    shape, steps = tuple(x.shape), x.stride()
    common = geometry.broadcast_shapes(*(tuple(advanced[k].shape) for k in given))
    first = given[0] if given == list(range(given[0], given[-1] + 1)) else 0
    kept = [k for k in range(len(shape)) if k >= len(advanced) or advanced[k] is None]
    if len(common) + len(kept) < 2:
        return None
    before, after = kept[:first], kept[first:]
    result = (*(shape[k] for k in before), *common, *(shape[k] for k in after))
    operands = [(*(steps[k] for k in before), *(0,) * len(common), *(steps[k] for k in after))]
    for k in given:
        own = geometry.expanded_strides(common, moves.own_geometry(advanced[k]))
        operands.append((0,) * len(before) + own + (0,) * len(after))
    found = geometry.ordered_strides(result, geometry.stride_order(result, operands))
    return None if found == geometry.contiguous_strides(result) else found


class Picked:
    """How index tensors on adjacent dims `first`, ... of `x` pick: the sizes for the kernel and the shape of what is picked."""

    def __init__(self, x, first: int, indices):
        shape = tuple(x.shape)
        self.sizes = shape[first : first + len(indices)]
        self.common = geometry.broadcast_shapes(*(tuple(i.shape) for i in indices))
        self.outer, self.count, self.inner, self.total = map(math.prod, (shape[:first], self.common, shape[first + len(indices) :], self.sizes))
        self.shape = (*shape[:first], *self.common, *shape[first + len(indices) :])
        self.args = (self.outer, self.count, self.inner, len(indices), self.total, *self.sizes)
        self.packs = [seen(i, self.common) for i in indices]
        self.cost = 2 * self.outer * self.count * self.inner


def seen(x, shape: tuple) -> int:
    """The geometry in which a kernel finds `x` broadcast to `shape`, in row-major order."""
    g = moves.own_geometry(x)
    expanded = geometry.geometry(shape, geometry.expanded_strides(shape, g))
    return AS_IS if geometry.is_contiguous(expanded) else expanded


def index(op, x, first: int, indices, key, refused, name="index", **parameters):
    """x[:, ..., indices] with the index tensors on adjacent dims from `first`; "index_select" takes no index that counts from the end."""
    d, kind = x.dtype, indices[0].dtype

    def make():
        how = Picked(x, first, indices)
        rules = []
        if d.differentiable:
            operands = (1, *range(3, 3 + len(indices)))
            back = plans.Plan(op, [(geometry.geometry(tuple(x.shape)), d.code)], kernel=kernel("index_back", d, kind), n=1, args=how.args, operands=operands,
                              cost=how.cost, packs=[AS_IS, *how.packs])
            rules = [(SWEEP_APPLY, back), *[(SWEEP_PYTHON, 0)] * len(indices)]
        return plans.Plan(op, [(geometry.geometry(how.shape), d.code)], kernel=kernel(name, d, kind), n=how.count, args=how.args, cost=how.cost, rules=rules,
                          packs=[moves.pack(x), *how.packs], saves=((1 << len(indices)) - 1) << 1, differentiable=-1 if d.differentiable else 0,
                          shape=tuple(x.shape), **parameters)

    return plans.run(op, [x, *indices], key, make, refused)


def put(op, x, first: int, indices, values, key, refused):
    """x[:, ..., indices] = values, in place and unrecorded; `x` is in row-major order."""
    d, kind = x.dtype, indices[0].dtype

    def make():
        how = Picked(x, first, indices)
        return plans.Plan(op, [], kernel=kernel("put", d, kind), n=1, args=how.args, writes=True,
                          packs=[AS_IS, *how.packs, seen(values, how.shape)])

    return plans.run(op, [x, *indices, values], key, make, refused)


def index_add(op, x, at: int, index, source, refused, **parameters):
    """A copy of `x` with `source` added at the entries of dim `at` that the vector `index` lists."""
    d = x.dtype

    def make():
        how = Picked(x, at, [index])
        target = geometry.geometry(tuple(x.shape))
        rules = ()
        if d.differentiable:
            back = plans.Plan(op, [(geometry.geometry(how.shape), d.code)], kernel=kernel("index", d, index.dtype), n=how.count, args=how.args,
                              cost=how.cost, operands=(1, 3), packs=[AS_IS, *how.packs])
            rules = [(SWEEP_VIEW, target), (SWEEP_PYTHON, 0), (SWEEP_APPLY, back)]
        return plans.Plan(op, [(target, d.code)], kernel=kernel("index_add", d, index.dtype), n=1, args=how.args, rules=rules, saves=0b10,
                          reads=(0, 0, 0b10), packs=[moves.pack(x), *how.packs, moves.pack(source)], differentiable=-1 if d.differentiable else 0, **parameters)

    return plans.run(op, [x, index, source], at, make, refused)


def along_dim(op, name, x, dim: int, index, source, refused, **parameters):
    """gather (no source), scatter and scatter_add along a dim; `source` is of the index's shape."""
    d, kind = x.dtype, index.dtype
    shape, sizes = tuple(x.shape), tuple(index.shape)

    def make():
        steps = list(geometry.contiguous_strides(shape))
        step, steps[dim] = steps[dim], 0
        args = (len(shape), math.prod(shape), shape[dim], step, *sizes, *steps)
        n = math.prod(sizes) // sizes[-1] if math.prod(sizes) else 0
        own, picked = geometry.geometry(shape), geometry.geometry(sizes)
        same = lambda k, g, **others: plans.Plan(op, [(g, d.code)], kernel=kernel(k, d, kind), args=args, operands=(1, 3), packs=[AS_IS, moves.pack(index)], **others)  # noqa: E731
        rules = ()
        if d.differentiable and name == "gather":
            rules = [(SWEEP_APPLY, same("gather_back", own, n=n)), (SWEEP_PYTHON, 0)]
        elif d.differentiable:
            base = (SWEEP_VIEW, own) if name == "scatter_add" else (SWEEP_APPLY, same("scatter_back", own, n=n))
            rules = [base, (SWEEP_PYTHON, 0), (SWEEP_APPLY, same("gather", picked, n=n))]
        packs = [moves.pack(x), moves.pack(index), *([] if source is None else [moves.pack(source)])]
        return plans.Plan(op, [(picked if source is None else own, d.code)], kernel=kernel(name, d, kind), n=n, args=args, rules=rules, packs=packs,
                          cost=4 * math.prod(sizes) if source is None else 0, saves=0b10,
                          reads=(0, 0, 0b10) if name == "scatter_add" else None, differentiable=-1 if d.differentiable else 0, dim=dim, shape=shape,
                          source=source is not None, **parameters)

    return plans.run(op, [x, index] if source is None else [x, index, source], (name, dim), make, refused)
