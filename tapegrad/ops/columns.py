"""Columns: the loops of scans, normalisations and derivatives along rows whose elements lie apart, over a tile of neighbouring rows at a time.

A kernel is a list of passes over the tile: down its lines, up, or once.  Each row of the tile has states (a, c), kept on the stack between passes;
the text of a pass stands for one element, i its place and r its row's, and is vectorised across the tile.
"""

from __future__ import annotations

import functools

from tapegrad.ops import loops

NARROW = 8  # rows side by side from which tiles are better than one row after the other
WIDTH = 256  # rows of a tile
A, C = ("a", "own", "lowest"), ("c", "wide", "wide(0)")
TOP = ("down", "x = get_{T}(source, i)\na = where(x != x, x, where(x > a, x, a))")
ALIKE = "(x == top) | ((x != x) & (top != top))"


def shared(alike: str) -> tuple:
    """The passes that share a gradient among the elements that are `alike` the result."""
    head = "x = get_{T}(source, i)\ntop = get_{T}(out, r)\n"
    return (C,), (("down", f"{head}c = c + where({alike}, 1.0, 0.0)"),
                  ("down", f"{head}put_{{T}}(result, i, get_{{T}}(g, r) / real(c) * where({alike}, real(1), real(0)))"))  # fmt: skip


def centred(scale: str) -> tuple:
    """The passes of the derivative of a variance, by its factor."""
    return (C,), (("down", "c = c + get_{T}(source, i)"), ("once", "c = c / count"),
                  ("down", f"put_{{T}}(result, i, {scale} * (get_{{T}}(source, i) - c))"))  # fmt: skip


# name: (states, passes); the operands are those of the kernel of this name in `rows.KERNELS`.
KERNELS: dict[str, tuple] = {
    "softmax": ((A, C), (TOP, ("down", "e = exp(get_{T}(source, i) - a)\nput_{T}(result, i, e)\nc = c + e"),
                         ("down", "put_{T}(result, i, get_{T}(result, i) / real(c))"))),
    "softmax_back": ((C,), (("down", "c = c + wide(get_{T}(g, i)) * get_{T}(out, i)"),
                            ("down", "put_{T}(result, i, get_{T}(out, i) * (get_{T}(g, i) - real(c)))"))),
    "log_softmax": ((A, C), (TOP, ("down", "c = c + exp(get_{T}(source, i) - a)"), ("once", "c = log(real(c))"),
                             ("down", "put_{T}(result, i, get_{T}(source, i) - a - c)"))),
    "log_softmax_back": ((C,), (("down", "c = c + get_{T}(g, i)"),
                                ("down", "put_{T}(result, i, get_{T}(g, i) - exp(get_{T}(out, i)) * real(c))"))),
    "cumsum": ((C,), (("down", "c = c + get_{T}(source, i)\nput_{R}(result, i, c)"),)),
    "cumsum_back": ((C,), (("up", "c = c + get_{T}(g, i)\nput_{T}(result, i, c)"),)),
    "cumprod": ((("c", "wide", "wide(1)"),), (("down", "c = c * get_{T}(source, i)\nput_{R}(result, i, c)"),)),
    "logsumexp_back": ((), (("down", "put_{T}(result, i, get_{T}(g, r) * exp(get_{T}(source, i) - get_{T}(out, r)))"),)),
    "norm_1_back": ((), (("down", "put_{T}(result, i, sign(get_{T}(source, i)) * get_{T}(g, r))"),)),
    "norm_2_back": ((), (("down", "scale = where(get_{T}(out, r) == 0, real(0), get_{T}(g, r) / get_{T}(out, r))\n"
                                  "put_{T}(result, i, get_{T}(source, i) * scale)"),)),
    "var_back": centred("wide(get_{T}(g, r)) * (2 / get_float64(p, 4))"),
    "std_back": centred("where(get_{T}(out, r) == 0, wide(0), wide(get_{T}(g, r)) / get_{T}(out, r) / get_float64(p, 4))"),
    "share_back": shared("x == top"),
    "share_back_all": shared(ALIKE),
    "pick_back": ((), (("down", "put_{T}(result, i, where(load_i64(index + r * 8) == k, get_{T}(g, r), 0))"),)),
}  # fmt: skip

KERNEL = """
def kernel(args, start, stop):
    {heads}
    lanes = stack_lanes()
    for t in range(start, stop):
        left = t % tiles * width
        columns = where(left + width < inner, width, inner - left)
        row = t // tiles * inner + left
        at = t // tiles * count * inner + left
        for j in range(columns):
            {begin}
        {passes}
"""
PASS = """
for k in range({range}):
    for j in range(columns):
        r = row + j
        i = at + k * inner + j
        {load}
        {element}
        {store}
"""
RANGES = {"down": "count", "up": "count - 1, -1, -1", "once": "1"}


def work(name: str, operands: tuple, d, result, lie, args=()) -> dict:
    """What a plan needs to run the kernel `name` of `operands` on rows that lie so."""
    tiles = -(-lie.inner // WIDTH)
    return {"kernel": kernel(name, operands, d, result), "n": lie.outer * tiles, "args": (lie.count, lie.inner, tiles, -(-lie.inner // tiles), *args)}


@functools.cache
def kernel(name: str, operands: tuple, d, result) -> int:
    """The address of a kernel of tiles."""
    states, passes = KERNELS[name]
    wide = "float64" if d.is_floating_point else "int64"
    kinds = {"own": d.compute if d.is_floating_point else d.name, "wide": wide}
    put = [f"put_{kinds[kind]}(lanes, {1024 * k} + j, " for k, (_, kind, _) in enumerate(states)]
    heads = [f"{operand} = load_i64(args + {8 * k})" for k, operand in enumerate(("result", *operands, "p"))]
    heads += [f"{word} = load_i64(p + {8 * k})" for k, word in enumerate(("count", "inner", "tiles", "width"))]
    text = []
    for order, element in passes:
        own = loops.filled(PASS, load=[f"{state} = get_{kinds[kind]}(lanes, {1024 * k} + j)" for k, (state, kind, _) in enumerate(states)],
                           element=element.format(T=d.name, R=result.name).splitlines(),
                           store=[f"{start}{state})" for start, (state, _, _) in zip(put, states, strict=True) if f"{state} = " in element])  # fmt: skip
        text += own.replace("{range}", RANGES[order]).strip().splitlines()
    begin = [f"{start}{loops.start_value(d, value)})" for start, (_, _, value) in zip(put, states, strict=True)]
    return loops.compiled(loops.filled(KERNEL, heads=heads, begin=begin or ["pass"], passes=text), d, result, extra=tuple(kinds.values()))
