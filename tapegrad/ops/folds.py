"""Folds: the loops of large reductions, vectorised whichever way the elements lie, and divided among threads.

A fold keeps one state (a sum; a largest element and where it is) per *lane* of memory beside memory, and takes in a line of elements at a
time: the lanes are a tile of the columns, or, where a row is less than that, of several of its pieces, merged at the end.  The states are
wide, as in the small kernels.  Where there are few rows for much work each is cut into parts, whose states go to scratch memory until the
plan's second kernel merges them; how many parts there are does not depend on the number of threads, nor then does the result.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from tapegrad.ops import loops

SMALL = 1 << 11  # elements below which the plain kernels serve; below FEW times as many they do for
FEW = 8  # lines of columns, or less
SHORT = 1 << 6  # elements of a row that lies in one piece below which lanes are of no use to it
SPLIT = 1 << 17  # elements from which a few rows are cut into parts,
PART = 1 << 14  # of at least so many elements,
PARTS = 64  # altogether no more than these
WIDTH = 512  # lanes of a tile of columns; `elements.stack_lanes` has room for three states of so many
PIECES = 256  # lanes of a row's pieces; where the lines are longer, four at a time are read: shorter ones would hold up the prefetcher


class Fold(NamedTuple):
    """`states`: (name, dtype, value of no elements).  `step` takes in the element x at PLACE in its part, `merge` the state a2, c2, ...; `finish`
    is the value (one per result).  A dtype "own" is that of the elements, "wide" the one in which they are added up."""

    states: tuple
    step: str
    merge: str
    finish: tuple
    strict: bool = False  # whether the plain kernels take one element after the other (of integers only for their places), which is slow
    cost: int = 2  # ns per 16 elements
    row: str = ""  # the name of what takes in elements of a row in one piece in any order: "step", or see `any_order`


TOTAL = (("a", "wide", "wide(0)"),)


def extreme(sign: str, start: str) -> Fold:
    step = f"a = where(x != x, x, where(x {sign} a, x, a))"
    return Fold((("a", "own", start),), step, step.replace("x", "a2"), ("a",), True, 2, "larger" if sign == ">" else "smaller")


def extreme_and_place(sign: str, start: str, finish: tuple) -> Fold:
    """The first of the extreme elements and where it is; the first nan wins."""
    return Fold(
        (("a", "own", start), ("c", "int64", "j")),
        f"better = (x {sign} a) | ((x != x) & (a == a))\na = where(better, x, a)\nc = where(better, PLACE, c)",
        f"better = (a2 {sign} a) | ((a2 != a2) & (a == a)) | (((a2 == a) | ((a2 != a2) & (a != a))) & (c2 < c))\n"
        "a = where(better, a2, a)\nc = where(better, c2, c)",
        finish, True, 4,
    )  # fmt: skip


def spread(finish: str) -> Fold:
    """Welford's running mean and sum of squares, and Chan's rule for the states of two sets; n is known until states are merged."""
    return Fold(
        (("a", "wide", "wide(0)"), ("c", "wide", "wide(0)"), ("n", "float64", "0.0")),
        "off = x - a\na = a + off * portion\nc = c + off * (x - a)",
        "off = a2 - a\nweight = n + n2\nportion = where(n2 == 0, 0.0, n2 / weight)\nc = c + c2 + off * off * (n * portion)\na = a + off * portion\nn = weight",
        (finish,), False, 4,
    )  # fmt: skip


FOLDS = {
    "sum": Fold(TOTAL, "a = a + x", "a = a + a2", ("a",), row="step"),
    "mean": Fold(TOTAL, "a = a + x", "a = a + a2", ("a / count",), row="step"),
    "complex_mean": Fold(TOTAL, "a = a + x", "a = a + a2", ("complex(a.real / count, a.imag / count)",), row="step"),
    "prod": Fold((("a", "wide", "wide(1)"),), "a = a * x", "a = a * a2", ("a",), True, row="step"),
    "amax": extreme(">", "lowest"),
    "amin": extreme("<", "highest"),
    "max": extreme_and_place(">", "lowest", ("a", "c")),
    "min": extreme_and_place("<", "highest", ("a", "c")),
    "argmax": extreme_and_place(">", "lowest", ("c",)),
    "argmin": extreme_and_place("<", "highest", ("c",)),
    "norm_1": Fold(TOTAL, "a = a + fabs(x)", "a = a + a2", ("a",), row="step"),
    "norm_2": Fold(TOTAL, "a = a + wide(x) * wide(x)", "a = a + a2", ("sqrt(a)",), row="step"),
    "any": Fold((("a", "bool", "0"),), "a = a | (x != 0)", "a = a | a2", ("a",)),
    "all": Fold((("a", "bool", "1"),), "a = a & (x != 0)", "a = a & a2", ("a",)),
    "var": spread("c / get_float64(p, 9)"),
    "std": spread("sqrt(c / get_float64(p, 9))"),
    # The largest element so far and the sum of exp(x - it); the sum of nothing below any element is what -inf stands for.
    "logsumexp": Fold(
        (("a", "own", "lowest"), ("c", "wide", "wide(0)")),
        "e = exp(where(x == a, real(0), -fabs(x - a)))\nc = where(x > a, c * e + 1, c + e)\na = where(x > a, x, a)",
        "e = exp(where(a2 == a, real(0), -fabs(a2 - a)))\nc = where(a2 > a, c * e + c2, c + c2 * e)\na = where(a2 > a, a2, a)",
        ("log(real(c)) + a",), False, 24,
    ),
}  # fmt: skip

WORDS = ("count", "inner", "parts", "size", "tiles", "width", "pieces", "total", "outer")
KERNEL = """
def kernel(args, start, stop):
    {heads}
    lanes = stack_lanes()
    for t in range(start, stop):
        left = t % tiles * width
        part = t // tiles % parts
        o = t // tiles // parts
        first = part * size
        rows = where(first + size < count, size, count - first)
        columns = where(left + width < inner, width, inner - left)
        line = inner * pieces
        wide_columns = columns * pieces
        lines = rows // pieces
        rest = (rows - lines * pieces) * columns
        fours = where(line >= 256, lines // 4, 0)
        at = (o * count + first) * inner + left
        for j in range(wide_columns):
            {begin}
        for group in range(fours):
            here = group * 4 * line
            {portions}
            for j in range(wide_columns):
                {load}
                {four}
                {store}
            at = at + 4 * line
        for k in range(fours * 4, lines + 1):
            here = k * line
            some = where(k < lines, wide_columns, rest)
            {portion}
            for j in range(some):
                {load}
                {one}
                {store}
            at = at + line
        {count_lanes}
        half = pieces // 2
        while half > 0:
            for j in range(half * columns):
                {load_all}
                {load_other}
                {merge}
                {store_all}
            half = half // 2
        for j in range(columns):
            {load_all}
            {put}
"""
ROW = """
def kernel(args, start, stop):
    {heads}
    for t in range(start, stop):
        first = t % parts * size
        rows = where(first + size < count, size, count - first)
        at = t // parts * count + first
        {begin}
        for k in range(rows):
            x = get_{T}(source, at + k)
            {step}
        {exact}
        {put}
"""
FINISH = """
def kernel(args, start, stop):
    {heads}
    lanes = stack_lanes()
    for t in range(outer * tiles):
        o = t // tiles
        left = t % tiles * width
        columns = where(left + width < inner, width, inner - left)
        at = o * parts * inner + left
        for j in range(columns):
            {first}
            {store_all}
        for k in range(1, parts):
            at = at + inner
            for j in range(columns):
                {load_all}
                {other}
                {merge}
                {store_all}
        for j in range(columns):
            {load_all}
            {put}
"""


def pays(name: str, d, lie) -> bool:
    """Whether the fold is better than the plain kernel for elements of `d` that lie so."""
    if lie.numel < SMALL or (lie.count <= FEW and lie.numel < FEW * SMALL):
        return False
    fold = FOLDS[name]
    slow = fold.strict and (d.is_floating_point or d.is_complex or len(fold.states) > 1)
    return lie.inner > 1 or (slow and lie.count >= SHORT) or division(lie)[0] > 1


def division(lie) -> tuple[int, int, int, int]:
    """(parts of a row, rows of elements per part, tiles of columns, lanes per tile)."""
    tiles = -(-lie.inner // WIDTH)
    width = -(-lie.inner // tiles)
    units = lie.outer * tiles
    if lie.numel < SPLIT or units * 8 > PARTS:
        return 1, lie.count, tiles, width
    parts = max(1, min(PARTS // units, lie.numel // (units * PART), lie.count // 64))
    size = -(-lie.count // parts)
    return -(-lie.count // size), size, tiles, width


def work(name: str, d, results: list, lie, args=()) -> dict:
    """What a plan needs to fold rows of `d` into elements of the dtypes `results`: kernels, range, arguments, memory, cost."""
    parts, size, tiles, width = division(lie)
    pieces = 1
    while pieces * 2 * lie.inner < PIECES and pieces * 8 <= size:
        pieces *= 2
    total = lie.outer * parts * lie.inner
    fold = FOLDS[name]
    row = lie.inner == 1 and fold.row and (fold.row == "step" or d.is_floating_point)
    found = {"kernel": kernel(name, d, *results, split=parts > 1, row=bool(row)), "n": lie.outer * parts * tiles, "cost": lie.numel * fold.cost >> 4,
             "args": (lie.count, lie.inner, parts, size, tiles, width, pieces, total, lie.outer, *args)}  # fmt: skip
    if parts > 1:
        found |= {"finish": kernel(name, d, *results, finish=True), "scratch": 16 * total * len(fold.states)}
    return found


def any_order(fold: Fold, d) -> dict:
    """The lines of ROW.  The loop for the extremes knows nothing of nan; a sum beside it tells whether there may be one, and all is done again."""
    ((_, _, start),) = fold.states
    if fold.row == "step":
        return {"begin": [f"a = {start}"], "step": [fold.step], "exact": []}
    begin = f"a = real({loops.start_value(d, start)})"
    again = ["if loose != loose:", f"    {begin}", "    for k in range(rows):", f"        x = get_{d.name}(source, at + k)", f"        {fold.step}"]
    return {"begin": [begin, "loose = real(0)"], "step": [f"a = {fold.row}(x, a)", "loose = loose_sum(loose, x)"], "exact": again}


@functools.cache
def kernel(name: str, d, *results, split: bool = False, finish: bool = False, row: bool = False) -> int:
    """The address of a fold's kernel, of the one for rows in one piece in any order, or of the one that merges the states of parts."""
    fold = FOLDS[name]
    wide = "complex128" if results[0].is_complex else "float64" if d.is_floating_point or results[0].is_floating_point else "int64"
    kinds = [{"own": d.compute if d.is_floating_point else d.name, "wide": wide}.get(kind, kind) for _, kind, _ in fold.states]
    names = [state for state, _, _ in fold.states]
    weighted = "n" in names
    kept = [(state, kind, 1024 * k) for k, (state, kind) in enumerate(zip(names, kinds, strict=True)) if state != "n"]
    every = [(state, kind, 1024 * k) for k, (state, kind) in enumerate(zip(names, kinds, strict=True))]
    outputs = ["result", "index"][: len(results)]

    def load(states, suffix="", place="j"):
        return [f"{state}{suffix} = get_{kind}(lanes, {start} + {place})" for state, kind, start in states]

    def store(states):
        return [f"put_{kind}(lanes, {start} + j, {state})" for state, kind, start in states]

    def written(place):
        return [f"put_{r.name}({out}, {place}, {value})" for out, r, value in zip(outputs, results, fold.finish, strict=True)]

    def taken(k, portion="portion"):
        step = fold.step.replace("portion", portion)
        element = f"x = get_{d.name}(source, at + {k} * line + j)" if k else f"x = get_{d.name}(source, at + j)"
        return [element, *step.replace("PLACE", f"here + {k} * line + j" if k else "here + j").splitlines()]

    heads = [f"{out} = load_i64(args + {8 * k})" for k, out in enumerate((*outputs, "source", "p", "partial")) if out != "partial" or split or finish]
    heads += [f"{word} = load_i64(p + {8 * k})" for k, word in enumerate(WORDS)]
    merge, place = fold.merge.splitlines(), ["c = c // inner + first"] if "int64" in [kind for _, kind, _ in fold.states] else []
    if finish:
        first, other = ([f"{state}{s} = get_{kind}(partial + {k} * total * 16, at + j)" for k, (state, kind, _) in enumerate(every)] for s in ("", "2"))
        text = loops.filled(FINISH, heads=heads, first=first, other=other, merge=merge, load_all=load(every), store_all=store(every), put=written("o * inner + left + j"))
    elif row:
        put = [f"put_{kinds[0]}(partial, t, a)"] if split else written("t")
        text = loops.filled(ROW.replace("{T}", d.name), heads=heads, put=put, **any_order(fold, d))
    else:
        to = "(o * parts + part) * inner + left + j" if split else "o * inner + left + j"
        put = [f"put_{kind}(partial + {k} * total * 16, {to}, {state})" for k, (state, kind, _) in enumerate(every)] if split else written(to)
        text = loops.filled(
            KERNEL, heads=heads, begin=[f"put_{kind}(lanes, {at} + j, {loops.start_value(d, value)})" for (_, kind, at), (_, _, value) in zip(every, fold.states, strict=True)],
            portions=[f"portion{k} = 1.0 / (group * 4 + {k + 1})" for k in range(4)] if weighted else [], portion=["portion = 1.0 / (k + 1)"] if weighted else [],
            load=load(kept), store=store(kept), load_all=load(every), store_all=store(every), load_other=load(every, "2", "half * columns + j"),
            four=[line for k in range(4) for line in taken(k, f"portion{k}")], one=taken(0), merge=merge, put=[*place, *put],
            count_lanes=["for j in range(wide_columns):", "    put_float64(lanes, 2048 + j, lines + where(j < rest, 1, 0))"] if weighted else [],
        )  # fmt: skip
    return loops.compiled(text, d, results[0], row and fold.row == "step", extra=(*kinds, *(r.name for r in results)))
