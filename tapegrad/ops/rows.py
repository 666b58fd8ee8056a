"""Rows: reductions, scans and normalisations along dims, each one kernel over (outer, count, inner) elements.

A row is `count` elements, `inner` apart.  `Rows` finds how the elements of a tensor lie as rows, without a copy where that can be;
`KERNELS` holds the loops over one row, forward and derivative.  The plans made here know their derivative, so a small call and its
backward run in compiled code alone.  Large reductions are folds (`ops/folds.py`); dtypes without kernels are composed of other ops where the op is.
"""

from __future__ import annotations

import functools

import numpy as np

from tapegrad import core, geometry
from tapegrad.dtypes import BY_CODE
from tapegrad.engine.layout import AS_IS, CONTIGUOUS, DENSE, SWEEP_APPLY
from tapegrad.ops import columns, folds, loops
from tapegrad.ops import plan as plans

LARGE = 1 << 15  # elements from which a strided row costs more than turning it


class Rows:
    """How the elements of geometry `g` lie as (outer, count, inner) when `dims` are taken together.

    pack: the geometry in which a kernel must see the tensor (AS_IS if it lies right); whole: the geometry of a result of the same shape
    whose memory is in that order; kept: the sizes of the other dims.
    """

    def __init__(self, g: int, dims: tuple, same_shape: bool = False, whole_rows: bool = False, columns: bool = False):
        """`same_shape`: for a row-major result of the same shape, which takes the dims as they are.  `whole_rows`: inner must be 1.  `columns`:
        it may be more, however many elements there are.
        """
        shape, steps, flags = tuple(geometry.shapes[g]), geometry.strides[g], geometry.flags_of(g)
        self.shape, self.dims, self.numel, self.same_shape = shape, dims, geometry.numels[g], same_shape
        straight = list(range(len(shape)))
        order = straight
        if not same_shape:
            if not flags & CONTIGUOUS and flags & DENSE:
                order = sorted(straight, key=lambda k: (-steps[k], k))
            if not self.adjacent(order, flags, columns) or (whole_rows and order[len(order) - len(dims) :] != [*dims]):
                order = [*(k for k in straight if k not in dims), *dims]
        self.kept = tuple(s for k, s in enumerate(shape) if k not in dims)
        self.count = self.inner = self.outer = 1
        for place, d in enumerate(order):
            if d in dims:
                self.count *= shape[d]
            elif any(other in dims for other in order[:place]):
                self.inner *= shape[d]
            else:
                self.outer *= shape[d]
        if self.numel == 0:
            self.outer, self.inner = self.outer * self.inner, 1
        self.n = self.outer * self.inner
        sizes = tuple(shape[d] for d in order)
        seen = geometry.geometry(sizes, tuple(steps[d] for d in order))
        self.pack = AS_IS if geometry.is_contiguous(seen) else seen
        back = [0] * len(shape)
        for d, step in zip(order, geometry.contiguous_strides(sizes), strict=True):
            back[d] = step
        self.whole = geometry.geometry(shape, tuple(back))

    def adjacent(self, order, flags, columns) -> bool:
        """Whether the dims lie side by side in this order of memory, and rows in the order of the other dims."""
        places = [k for k, d in enumerate(order) if d in self.dims]
        kept = [d for d in order if d not in self.dims]
        inside = 1
        for d in order[places[-1] + 1 :] if places else ():
            inside *= self.shape[d]
        side_by_side = not places or places == list(range(places[0], places[-1] + 1))
        return bool(flags & DENSE) and side_by_side and kept == sorted(kept) and (inside == 1 or columns or self.numel < LARGE)

    def reduced(self, keepdim: bool) -> int:
        """The geometry of a result with one element per row."""
        return geometry.geometry(tuple(1 if k in self.dims else s for k, s in enumerate(self.shape)) if keepdim else self.kept)


def of(x, dims: tuple, **how) -> Rows:
    """The rows of tensor `x` along `dims`."""
    return Rows(core.get_field(plans.settled(x), core.GEOMETRY), dims, **how)


HEAD = """
def kernel(args, start, stop):
    result = load_i64(args)
{operands}
    count = load_i64(p)
    inner = load_i64(p + 8)
    for r in range(start, stop):
        at = (r // inner) * count * inner + r % inner
{body}
"""

# name: (operands after the result, body).  {T} is the dtype that is read.
TOP = """
top = get_{T}(source, at)
for k in range(1, count):
    x = get_{T}(source, at + k * inner)
    top = where(x > top, x, where(x != x, x, top))
"""
ARG = """
top = get_{T}(source, at)
best = 0
for k in range(1, count):
    x = get_{T}(source, at + k * inner)
    better = ((x {sign} top) & (top == top)) | ((x != x) & (top == top))
    best = where(better, k, best)
    top = where(better, x, top)
"""
# TOP of a long row that lies in one piece: vectorised, unless there is a nan (or are infinities of both signs).
LONG_TOP = """
top = real(-inf)
loose = real(0)
for k in range(count):
    top = larger(get_{T}(source, at + k), top)
    loose = loose_sum(loose, get_{T}(source, at + k))
if loose != loose:
""" + "\n".join("    " + line for line in TOP.strip().splitlines()) + "\n"
COUNT_ZEROS = """
zeros = 0
for k in range(count):
    zeros += where(get_{T}(source, at + k * inner) == 0, 1, 0)
"""
KERNELS: dict[str, tuple[tuple[str, ...], str]] = {
    "softmax": (("source",), TOP + """
total = wide(0)
for k in range(count):
    e = exp(get_{T}(source, at + k * inner) - top)
    put_{T}(result, at + k * inner, e)
    total = total + e
for k in range(count):
    put_{T}(result, at + k * inner, get_{T}(result, at + k * inner) / real(total))
"""),
    "softmax_back": (("g", "out"), """
total = wide(0)
for k in range(count):
    total = total + wide(get_{T}(g, at + k * inner)) * get_{T}(out, at + k * inner)
for k in range(count):
    put_{T}(result, at + k * inner, get_{T}(out, at + k * inner) * (get_{T}(g, at + k * inner) - real(total)))
"""),
    "log_softmax": (("source",), TOP + """
total = wide(0)
for k in range(count):
    total = total + exp(get_{T}(source, at + k * inner) - top)
total = log(real(total))
for k in range(count):
    below = get_{T}(source, at + k * inner) - top
    # The choice keeps what may reassociate from adding top and total first, which would round small totals away beside a large top.
    put_{T}(result, at + k * inner, where(below > 0, real(0), below) - total)
"""),
    "log_softmax_back": (("g", "out"), """
total = wide(0)
for k in range(count):
    total = total + get_{T}(g, at + k * inner)
for k in range(count):
    put_{T}(result, at + k * inner, get_{T}(g, at + k * inner) - exp(get_{T}(out, at + k * inner)) * real(total))
"""),
    "logsumexp": (("source",), TOP + """
top = where(fabs(top) == inf, real(0), top)
total = wide(0)
for k in range(count):
    total = total + exp(get_{T}(source, at + k * inner) - top)
put_{T}(result, r, log(real(total)) + top)
"""),
    "logsumexp_back": (("g", "source", "out"), """
for k in range(count):
    put_{T}(result, at + k * inner, get_{T}(g, r) * exp(get_{T}(source, at + k * inner) - get_{T}(out, r)))
"""),
    "cumsum": (("source",), """
total = wide(0)
for k in range(count):
    total = total + get_{T}(source, at + k * inner)
    put_{R}(result, at + k * inner, total)
"""),
    "cumsum_back": (("g",), """
total = wide(0)
for k in range(count - 1, -1, -1):
    total = total + get_{T}(g, at + k * inner)
    put_{T}(result, at + k * inner, total)
"""),
    "cumprod": (("source",), """
total = wide(1)
for k in range(count):
    total = total * get_{T}(source, at + k * inner)
    put_{R}(result, at + k * inner, total)
"""),
    # Without a zero in the row, the running sum of g * out from the end, over x; else the products are formed again.
    "cumprod_back": (("g", "source", "out"), COUNT_ZEROS + """
total = wide(0)
if zeros == 0:
    for k in range(count - 1, -1, -1):
        total = total + wide(get_{T}(g, at + k * inner)) * get_{T}(out, at + k * inner)
        put_{T}(result, at + k * inner, total / get_{T}(source, at + k * inner))
else:
    before = wide(1)
    for k in range(count):
        total = wide(0)
        running = before
        for j in range(k, count):
            if j > k:
                running = running * get_{T}(source, at + j * inner)
            total = total + running * get_{T}(g, at + j * inner)
        put_{T}(result, at + k * inner, total)
        before = before * get_{T}(source, at + k * inner)
"""),
    "prod_back": (("g", "source", "out"), COUNT_ZEROS + """
if zeros == 0:
    for k in range(count):
        put_{T}(result, at + k * inner, get_{T}(g, r) * (get_{T}(out, r) / get_{T}(source, at + k * inner)))
else:
    before = wide(1)
    for k in range(count):
        put_{T}(result, at + k * inner, before)
        before = before * get_{T}(source, at + k * inner)
    after = wide(1)
    for k in range(count - 1, -1, -1):
        put_{T}(result, at + k * inner, get_{T}(g, r) * (get_{T}(result, at + k * inner) * after))
        after = after * get_{T}(source, at + k * inner)
"""),
    "max": (("index", "source"), ARG.replace("{sign}", ">") + "put_{T}(result, r, top)\nput_int64(index, r, best)\n"),
    "min": (("index", "source"), ARG.replace("{sign}", "<") + "put_{T}(result, r, top)\nput_int64(index, r, best)\n"),
    "argmax": (("source",), ARG.replace("{sign}", ">") + "put_int64(result, r, best)\n"),
    "argmin": (("source",), ARG.replace("{sign}", "<") + "put_int64(result, r, best)\n"),
    "pick_back": (("g", "index"), """
for k in range(count):
    put_{T}(result, at + k * inner, 0)
put_{T}(result, at + load_i64(index + r * 8) * inner, get_{T}(g, r))
"""),
    "share_back_all": (("g", "source", "out"), """
ties = 0
top = get_{T}(out, r)
for k in range(count):
    x = get_{T}(source, at + k * inner)
    ties += where((x == top) | ((x != x) & (top != top)), 1, 0)
part = get_{T}(g, r) / real(ties)
for k in range(count):
    x = get_{T}(source, at + k * inner)
    put_{T}(result, at + k * inner, part * where((x == top) | ((x != x) & (top != top)), real(1), real(0)))
"""),
    "share_back": (("g", "source", "out"), """
ties = 0
top = get_{T}(out, r)
for k in range(count):
    ties += where(get_{T}(source, at + k * inner) == top, 1, 0)
part = get_{T}(g, r) / real(ties)
for k in range(count):
    put_{T}(result, at + k * inner, part * where(get_{T}(source, at + k * inner) == top, real(1), real(0)))
"""),
    "norm_1": (("source",), """
total = wide(0)
for k in range(count):
    total = total + fabs(get_{T}(source, at + k * inner))
put_{T}(result, r, total)
"""),
    "norm_1_back": (("g", "source"), """
for k in range(count):
    put_{T}(result, at + k * inner, sign(get_{T}(source, at + k * inner)) * get_{T}(g, r))
"""),
    "norm_2": (("source",), """
total = wide(0)
for k in range(count):
    x = wide(get_{T}(source, at + k * inner))
    total = total + x * x
put_{T}(result, r, sqrt(total))
"""),
    "norm_2_back": (("g", "source", "out"), """
scale = where(get_{T}(out, r) == 0, real(0), get_{T}(g, r) / get_{T}(out, r))
for k in range(count):
    put_{T}(result, at + k * inner, get_{T}(source, at + k * inner) * scale)
"""),
}
SPREAD = """
total = wide(0)
for k in range(count):
    total = total + get_{T}(source, at + k * inner)
mean = total / count
"""
KERNELS["var"] = ("source",), SPREAD + """
total = wide(0)
for k in range(count):
    x = get_{T}(source, at + k * inner) - mean
    total = total + x * x
put_{T}(result, r, total / get_float64(p, 2))
"""
KERNELS["std"] = ("source",), KERNELS["var"][1].replace("total / get_float64(p, 2)", "sqrt(total / get_float64(p, 2))")
KERNELS["var_back"] = ("g", "source"), SPREAD + """
scale = wide(get_{T}(g, r)) * (2 / get_float64(p, 2))
for k in range(count):
    put_{T}(result, at + k * inner, scale * (get_{T}(source, at + k * inner) - mean))
"""
KERNELS["std_back"] = ("g", "source", "out"), SPREAD + """
scale = where(get_{T}(out, r) == 0, wide(0), wide(get_{T}(g, r)) / get_{T}(out, r) / get_float64(p, 2))
for k in range(count):
    put_{T}(result, at + k * inner, scale * (get_{T}(source, at + k * inner) - mean))
"""
for _name, _start, _join in (("any", "False", "|"), ("all", "True", "&")):
    KERNELS[_name] = ("source",), f"""
found = {_start}
for k in range(count):
    found = found {_join} (get_{{T}}(source, at + k * inner) != 0)
put_{{R}}(result, r, found)
"""
TOPPED = {name for name, (_, body) in KERNELS.items() if body.startswith(TOP)}
REASSOCIATE = {"norm_1", "norm_2", "var", "std", "softmax", "log_softmax", "logsumexp", "softmax_back", "log_softmax_back", "var_back", "std_back"}


@functools.cache
def kernel(name: str, dtype, result, long: bool = False) -> int:
    """The address of a row kernel; `long`: that of one for long rows in one piece only."""
    operands, body = KERNELS[name]
    body = body.replace(TOP, LONG_TOP) if long else body
    places = "\n".join(f"    {operand} = load_i64(args + {8 * k})" for k, operand in enumerate((*operands, "p"), 1))
    body = body.format(T=dtype.name, R=result.name)
    # Rows that lie in one piece have a loop of their own, which can be vectorised.
    indented = "\n".join("        " + line for line in body.splitlines() if line)
    text = HEAD.format(operands=places, body=indented)
    one = HEAD.format(operands=places, body=indented.replace(" * inner", "")).replace("(r // inner) * count + r % inner", "r * count")
    head, loop = text[: text.index("    for r in")], text[text.index("    for r in") :]
    one = one[one.index("    for r in") :]
    if long:
        return loops.compiled(head + one, dtype, result, name in REASSOCIATE)
    shift = lambda part: "\n".join("    " + line for line in part.splitlines())  # noqa: E731
    return loops.compiled(f"{head}    if inner == 1:\n{shift(one)}\n    else:\n{shift(loop)}\n", dtype, result, name in REASSOCIATE)


def usable(x, lie: Rows, name: str = "") -> bool:
    """Whether a row kernel is there for `x`, and not worse than the op composed of others."""
    return loops.serves(x.dtype) and lie.numel > 0 and (lie.inner == 1 or lie.numel < LARGE or name in columns.KERNELS)


def bits(number: float) -> int:
    """A float64 as the int64 that stands for it among a kernel's arguments."""
    return int(np.float64(number).view(np.int64))


# ns per element of the plain kernels that are far from 1
COSTS = {"softmax": 1.3, "log_softmax": 1.3, "logsumexp": 1.5, "log_softmax_back": 1.2, "logsumexp_back": 1.0, "norm_1": 0.1, "norm_2": 0.1,
         "norm_1_back": 0.3, "norm_2_back": 0.3, "var": 0.25, "std": 0.25, "var_back": 0.5, "std_back": 0.5, "any": 0.2, "all": 0.2}


def plan(op, x, lie: Rows, name: str, outputs, *, back: str = "", reads: tuple = (), saves=0, args=(), cost=None, **others):
    """The plan of a row kernel on `x`, with the kernel `back` for its derivative, which reads g and `reads` ("source", "out", "index")."""
    d, results = x.dtype, [BY_CODE[code] for _, code in outputs]
    seen, work = folded(x, lie.dims, name, results, args, lie.same_shape) if name in folds.FOLDS else (lie, None)
    rules = derivative(op, d, seen if back in columns.KERNELS else lie, back, reads, args, cost) if back and d is results[0] else ()
    return plans.Plan(op, outputs, **work or row_work(name, d, results[0], lie, args, cost), saves=saves, rules=rules, packs=(seen.pack,), **others)


def row_work(name: str, d, result, lie: Rows, args, cost) -> dict:
    """What a plan needs to run the row kernel `name`: kernel, range, arguments, cost (`cost` is in ns per element)."""
    spent = {"cost": int((COSTS.get(name, 1) if cost is None else cost) * lie.numel)}
    if name in columns.KERNELS and lie.inner >= columns.NARROW and lie.numel >= folds.SMALL:
        return columns.work(name, KERNELS[name][0], d, result, lie, args) | spent
    long = name in TOPPED and lie.inner == 1 and lie.count >= folds.SHORT
    return {"kernel": kernel(name, d, result, long), "n": lie.n if lie.numel else 0, "args": (lie.count, lie.inner, *args)} | spent


def folded(x, dims: tuple, name: str, results: list, args=(), same_shape=False, **how) -> tuple:
    """How `x` lies for the fold `name` over `dims`, and what its plan needs besides; where the plain kernels are better, how it lies for these."""
    lie = of(x, dims, same_shape=same_shape, columns=True)
    if folds.pays(name, x.dtype, lie):
        return lie, folds.work(name, x.dtype, results, lie, args)
    return of(x, dims, same_shape=same_shape, **how), None


def derivative(op, d, lie: Rows, name: str, reads: tuple, args=(), cost=None) -> list:
    """The rule that gives an input's gradient by the row kernel `name` of g and `reads`."""
    places = {"source": 2, "out": 3, "index": 4}
    packs = (AS_IS, *(lie.pack if read == "source" else AS_IS for read in reads))
    turned = plans.Plan(op, [(lie.whole, d.code)], **row_work(name, d, d, lie, args, cost), packs=packs,
                        operands=(1, *(places[read] for read in reads)))
    return [(SWEEP_APPLY, turned)]
