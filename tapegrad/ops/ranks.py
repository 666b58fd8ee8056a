"""Row kernels of order: sorted rows, the first of them, and elements by rank, for rows so short that counting beats everything else.

NaN counts as the largest value, and elements that are equal keep their order, as in torch.
"""

from __future__ import annotations

import math

from tapegrad import dtypes, geometry
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.extrema import pick_along

SHORT = 4096  # comparisons per row up to which a kernel is used

# p: count, inner, how many are wanted, whether the largest come first.  Each element is inserted among the first ones found so far.
rows.KERNELS["sort"] = ("index", "source"), """
wanted = load_i64(p + 16)
down = load_i64(p + 24)
to = (r // inner) * wanted * inner + r % inner
for e in range(count):
    x = get_{T}(source, at + e * inner)
    place = where(e < wanted, e, wanted)
    while place > 0:
        other = load_i64(index + (to + (place - 1) * inner) * 8)
        y = get_{T}(source, at + other * inner)
        if down:
            first = (x > y) | ((x != x) & (y == y))
        else:
            first = (x < y) | ((x == x) & (y != y))
        if first == 0:
            break
        if place < wanted:
            put_int64(index, to + place * inner, other)
        place = place - 1
    if place < wanted:
        put_int64(index, to + place * inner, e)
for k in range(wanted):
    put_{T}(result, to + k * inner, get_{T}(source, at + load_i64(index + (to + k * inner) * 8) * inner))
"""
rows.KERNELS["sort_back"] = ("g", "index"), """
wanted = load_i64(p + 16)
to = (r // inner) * wanted * inner + r % inner
for k in range(count):
    put_{T}(result, at + k * inner, 0)
for k in range(wanted):
    put_{T}(result, at + load_i64(index + (to + k * inner) * 8) * inner, get_{T}(g, to + k * inner))
"""
# p: count, inner, the rank wanted, or -1 for the median where a NaN wins and -2 for that of the other elements.
rows.KERNELS["ranked"] = ("index", "source"), """
rank = load_i64(p + 16)
missing = 0
best = count
for k in range(count):
    x = get_{T}(source, at + k * inner)
    if x != x:
        missing = missing + 1
        best = where(best == count, k, best)
if missing == 0 or rank != -1:
    present = where(rank == -2, count - missing, count)
    wanted = where(rank >= 0, rank, where(present > 0, (present - 1) // 2, 0))
    for k in range(count):
        x = get_{T}(source, at + k * inner)
        before = 0
        for j in range(count):
            y = get_{T}(source, at + j * inner)
            first = (y < x) | ((y == y) & (x != x))
            alike = (y == x) | ((y != y) & (x != x))
            before = before + where(first | (alike & (j < k)), 1, 0)
        best = where(before == wanted, k, best)
put_{T}(result, r, get_{T}(source, at + best * inner))
put_int64(index, r, best)
"""


def first(result, name: str, x, dim: int, wanted: int, down: bool):
    """(values, indices) of the first `wanted` elements in order along `dim`; None if no kernel is meant for that."""
    lie = rows.of(x, (dim,) if x.ndim else (), same_shape=True)
    if not rows.usable(x, lie) or not wanted or lie.count * wanted > SHORT:
        return None
    d = x.dtype

    def make():
        shape = tuple(wanted if k == dim else n for k, n in enumerate(x.shape))
        g = geometry.geometry(shape)
        return rows.plan(pick_along, x, lie, "sort", [(g, d.code), (g, dtypes.int64.code)], back="sort_back" if d.is_floating_point else "", reads=("index",),
                         saves=0b100, args=(wanted, int(down)), cost=wanted * max(1, int(math.log2(lie.count + 1))), differentiable=1 if d.is_floating_point else 0,
                         result_type=result, dim=dim, keepdim=True, shape=tuple(x.shape), graph_name=name + "Backward0")

    return plans.run(pick_along, [x], (name, dim, wanted, down), make)


def ranked(result, graph_name: str, x, dim: int, keepdim: bool, rank: int):
    """(values, indices) of the elements of a rank (or -1, -2: medians) along `dim`; None if no kernel is meant for that."""
    lie = rows.of(x, (dim,) if x.ndim else (), same_shape=True)
    if not rows.usable(x, lie) or lie.count**2 > SHORT:
        return None
    d = x.dtype

    def make():
        outputs = [(lie.reduced(keepdim), d.code), (lie.reduced(keepdim), dtypes.int64.code)]
        return rows.plan(pick_along, x, lie, "ranked", outputs, back="pick_back" if d.is_floating_point else "", reads=("index",), saves=0b100, args=(rank,),
                         cost=lie.count, differentiable=1 if d.is_floating_point else 0, result_type=result, dim=dim, keepdim=keepdim, shape=tuple(x.shape),
                         graph_name=graph_name)

    return plans.run(pick_along, [x], (graph_name, dim, keepdim, rank), make)
