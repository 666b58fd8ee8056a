"""Owns the generator of random programs: elementwise, reductions, views, matmul, in-place, broadcasting, re-use of values.

A program is the text of a function `program(m, a, b, c)` that runs for tapegrad and for torch alike.  Its value, gradient and second
derivative are compared with finite differences and, where it is installed, with PyTorch.

    python tests/random_programs.py --count 20000 --seed 0
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time

import numpy as np
import support

import tapegrad as tg

UNARY = [
    "m.tanh({x})", "m.sin({x})", "m.cos({x})", "m.sigmoid({x})", "m.exp(-({x} * {x}))", "m.log({x} * {x} + 1.5)", "m.sqrt({x} * {x} + 1)",
    "-{x}", "{x} * 0.5", "2 - {x}", "1 / ({x} * {x} + 1)", "m.tanh({x}) ** 2", "m.atan({x})", "{x}.clone()", "m.erf({x})", "{x} / 3",
    "m.rsqrt({x} * {x} + 1)", "m.log1p({x} * {x})", "m.expm1(m.sin({x}))", "({x} * {x} + 1) ** 0.5", "m.square({x})", "m.tanh({x}) ** 3",
    "m.asinh({x})", "({x} + {x})", "{x}.to(m.float64)", "+{x}",
]  # fmt: skip
KINKED = ["{x}.abs()", "m.relu({x})", "{x}.clamp(-0.5, 0.7)", "{x}.clamp(min=0)", "m.where({x} > 0.1, {x} * {x}, m.sin({x}))", "m.sign({x}) * {x}"]
BINARY = [
    "{x} + {y}", "{x} - {y}", "m.tanh({x}) * {y}", "{x} / ({y} * {y} + 1)", "({x} * {x} + 0.5) ** m.tanh({y})", "m.atan2({x}, {y} * {y} + 1)",
    "m.hypot({x}, {y} * {y} + 1)", "m.logaddexp({x}, {y})", "m.sin({x}) * m.cos({y})", "m.add({x}, {y}, alpha=0.5)", "m.lerp({x}, {y}, 0.3)",
]  # fmt: skip
KINKED_BINARY = ["m.maximum({x}, {y})", "m.minimum({x}, {y})", "m.where({x} > {y}, {x}, m.sin({y}))", "m.fmax({x}, {y})"]
INPLACE = ["{x}.mul_(0.7)", "{x}.add_(0.3)", "{x}.tanh_()", "{x}.sin_()", "{x}.neg_()", "{x}.sigmoid_()", "{x}.zero_()", "{x}.fill_(0.4)",
           "{x}.clamp_(-2, 2)", "{x} *= 1.2", "{x}[...] = 0.25"]  # fmt: skip
INPLACE_BINARY = ["{x}.add_({y})", "{x}.mul_({y})", "{x}.sub_({y}, alpha=0.5)", "{x}.copy_({y})", "{x}.div_({y} * {y} + 1)", "{x} += {y}",
                  "{x}[...] = {y}"]  # fmt: skip


class Program:
    """A random program under construction; `choice` draws, so that hypothesis can shrink what it drew."""

    def __init__(self, draw: random.Random, length: int = 8):
        self.draw = draw
        self.lines: list[str] = []
        self.shapes: dict[str, tuple] = {}
        self.leaves = {}
        self.memory: dict[str, str] = {}  # by value: the first one whose memory it may share
        self.smooth = True
        for name in "abc"[: draw.randint(1, 3)]:
            self.leaves[name] = self.shapes[name] = tuple(draw.choice((1, 2, 3)) for _ in range(draw.randint(0, 3)))
        for _ in range(draw.randint(1, length)):
            self.step()
        last = [name for name in self.shapes if name not in self.leaves][-3:]
        self.returned = last or list(self.leaves)

    @property
    def text(self) -> str:
        body = "\n".join(f"    {line}" for line in [*self.lines, f"return [{', '.join(self.returned)}]"])
        return f"def program(m, {', '.join(self.leaves)}):\n{body}\n"

    def function(self):
        space: dict = {}
        exec(self.text, space)
        return space["program"]

    def pick(self, condition=lambda shape: True):
        names = [name for name, shape in self.shapes.items() if condition(shape)]
        # Late values more often: long chains, not bushes.
        return self.draw.choice(names[-4:] if self.draw.random() < 0.6 else names) if names else None

    def emit(self, text: str, shape: tuple, of: str = "") -> None:
        """A line for a new value, which may share memory with `of`."""
        name = f"v{len(self.shapes)}"
        self.lines.append(f"{name} = {text}")
        self.shapes[name] = tuple(shape)
        self.memory[name] = self.memory.get(of, name) if of else name

    def step(self) -> None:
        kind = self.draw.choice(["unary", "binary", "binary", "reduce", "view", "view", "matmul", "inplace", "inplace", "join", "index", "unary"])
        getattr(self, "add_" + kind)()

    def overlap(self, x, y) -> bool:
        """Whether a write to `x` may change `y` while it is read: PyTorch leaves the result open."""
        return x != y and self.memory.get(x, x) == self.memory.get(y, y)

    def add_unary(self):
        x = self.pick()
        kinked = self.draw.random() < 0.15
        self.smooth &= not kinked
        self.emit(self.draw.choice(KINKED if kinked else UNARY).format(x=x), self.shapes[x])

    def partner(self, x, onto=False):
        """A value that broadcasts with `x` (onto: without changing the shape of `x`)."""

        def fits(shape):
            try:
                both = np.broadcast_shapes(self.shapes[x], shape)
            except ValueError:
                return False
            return both == self.shapes[x] if onto else np.prod(both) <= 60

        return self.pick(fits)

    def add_binary(self):
        x = self.pick()
        y = self.partner(x) or x
        if self.draw.random() < 0.5:
            x, y = y, x
        kinked = self.draw.random() < 0.15
        self.smooth &= not kinked
        self.emit(self.draw.choice(KINKED_BINARY if kinked else BINARY).format(x=x, y=y), np.broadcast_shapes(self.shapes[x], self.shapes[y]))

    def add_reduce(self):
        x = self.pick()
        shape = self.shapes[x]
        kind = self.draw.choice(["sum", "mean", "prod", "logsumexp", "cumsum", "softmax", "norm", "var", "max", "amax", "all"])
        if not shape or kind == "all":
            self.emit(f"{x}.{self.draw.choice(['sum', 'mean'])}()", ())
            return
        dim = self.draw.randrange(len(shape))
        spelled = dim - len(shape) if self.draw.random() < 0.5 else dim
        if kind == "softmax" or kind == "cumsum":
            self.emit(f"{x}.{kind}({spelled})", shape)
            return
        keep = self.draw.random() < 0.4
        result = tuple(1 if k == dim else n for k, n in enumerate(shape) if k != dim or keep)
        more = f", keepdim={keep}"
        if kind == "norm":
            self.emit(f"({x} * {x} + 1).norm(dim={spelled}{more})", result)
        elif kind == "var":
            self.emit(f"{x}.var({spelled}, unbiased=False{more})", result)
        elif kind == "max":
            self.smooth = False
            self.emit(f"{x}.max({spelled}{more})[0]", result)
        else:
            self.smooth &= kind != "amax"
            self.emit(f"{x}.{kind}({spelled}{more})", result)

    def add_view(self):
        x = self.pick()
        shape = self.shapes[x]
        n = len(shape)
        kind = self.draw.choice(["permute", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "slice", "select", "transpose", "diagonal", "flip",
                                 "contiguous", "narrow"])  # fmt: skip
        if kind == "permute" and n > 1:
            order = list(range(n))
            self.draw.shuffle(order)
            self.emit(f"{x}.permute({', '.join(map(str, order))})", [shape[k] for k in order], x)
        elif kind == "transpose" and n > 1:
            i, j = self.draw.sample(range(n), 2)
            order = list(range(n))
            order[i], order[j] = j, i
            self.emit(f"{x}.transpose({i - n}, {j})", [shape[k] for k in order], x)
        elif kind == "reshape" and n > 1:
            self.emit(f"{x}.reshape({shape[0]}, -1)", (shape[0], int(np.prod(shape[1:]))), x)
        elif kind == "flatten":
            self.emit(f"{x}.flatten()", (int(np.prod(shape)),), x)
        elif kind == "unsqueeze" and n < 4:
            at = self.draw.randint(0, n)
            self.emit(f"{x}.unsqueeze({at})", (*shape[:at], 1, *shape[at:]), x)
        elif kind == "squeeze":
            self.emit(f"{x}.squeeze()", [k for k in shape if k != 1], x)
        elif kind == "expand" and n < 4 and np.prod(shape) < 20:
            wide = [self.draw.choice((1, 2, 3)) if k == 1 else k for k in shape]
            self.emit(f"{x}.expand({', '.join(map(str, [2, *wide]))})", [2, *wide], x)
        elif kind == "slice" and n and max(shape) > 1:
            dim = max(range(n), key=lambda k: shape[k])
            start, step = self.draw.choice([(1, 1), (0, 2), (1, 2), (0, 1)])
            length = len(range(start, shape[dim], step))
            self.emit(f"{x}[{':, ' * dim}{start}::{step}]", (*shape[:dim], length, *shape[dim + 1 :]), x)
        elif kind == "narrow" and n and shape[0] > 1:
            self.emit(f"{x}.narrow(0, 1, {shape[0] - 1})", (shape[0] - 1, *shape[1:]), x)
        elif kind == "select" and n and min(shape):
            dim = self.draw.randrange(n)
            self.emit(f"{x}.select({dim}, {self.draw.randrange(-shape[dim], shape[dim])})", (*shape[:dim], *shape[dim + 1 :]), x)
        elif kind == "diagonal" and n > 1:
            self.emit(f"{x}.diagonal(0, 0, 1)", (*shape[2:], min(shape[0], shape[1])), x)
        elif kind == "flip" and n:
            self.emit(f"{x}.flip({self.draw.randrange(n)})", shape, x)
        else:
            self.emit(f"{x}.contiguous()", shape, x)

    def add_matmul(self):
        x = self.pick(lambda s: len(s) in (1, 2))
        if x is None:
            return self.add_unary()
        inner = self.shapes[x][-1]
        y = self.pick(lambda s: len(s) in (1, 2, 3) and (s[-2] if len(s) > 1 else s[-1]) == inner)
        if y is None:
            self.emit(f"{x}.unsqueeze(0).matmul({x}.unsqueeze(-1))" if len(self.shapes[x]) == 1 else f"{x} @ {x}.mT",
                      (1, 1) if len(self.shapes[x]) == 1 else (self.shapes[x][0],) * 2)  # fmt: skip
            return
        result = np.matmul(np.zeros(self.shapes[x]), np.zeros(self.shapes[y])).shape
        self.emit(f"0.5 * ({x} @ {y})" if self.draw.random() < 0.5 else f"m.matmul({x}, {y})", result)

    def add_join(self):
        x = self.pick()
        y = self.pick(lambda s: s == self.shapes[x])
        shape = self.shapes[x]
        if np.prod(shape) > 40:
            return self.add_unary()
        if shape and self.draw.random() < 0.5:
            dim = self.draw.randrange(len(shape))
            self.emit(f"m.cat([{x}, {y}], {dim})", [2 * n if k == dim else n for k, n in enumerate(shape)])
        elif len(shape) < 4:
            dim = self.draw.randint(0, len(shape))
            self.emit(f"m.stack([{x}, {y}], {dim})", (*shape[:dim], 2, *shape[dim:]))
        else:
            self.add_unary()

    def add_index(self):
        x = self.pick(lambda s: len(s) > 0 and min(s) > 0)
        if x is None:
            return self.add_unary()
        shape = self.shapes[x]
        rows = [self.draw.randrange(-shape[0], shape[0]) for _ in range(self.draw.randint(1, 3))]
        kind = self.draw.randrange(4)
        if kind == 0:
            self.emit(f"{x}[m.tensor({rows})]", (len(rows), *shape[1:]))
        elif kind == 1:
            rows = [r % shape[0] for r in rows]
            self.emit(f"{x}.index_select(0, m.tensor({rows}))", (len(rows), *shape[1:]))
        elif kind == 2:
            self.emit(f"{x}[{rows[0]}]", shape[1:], x)
        else:
            self.emit(f"{x}[None, ..., 0]", (1, *shape[:-1]), x)

    def add_inplace(self):
        names = [name for name in self.shapes if name not in self.leaves]
        if not names:
            return self.add_unary()
        x = self.draw.choice(names)
        kind = self.draw.randrange(4)
        if kind == 0 and self.shapes[x] and self.shapes[x][0]:
            y = self.pick(lambda s: s == self.shapes[x][1:])
            value = y if y is not None and not self.overlap(x, y) and self.draw.random() < 0.7 else "0.3"
            self.lines.append(f"{x}[{self.draw.randrange(-self.shapes[x][0], self.shapes[x][0])}] {self.draw.choice(['=', '+=', '*='])} {value}")
        elif kind == 1:
            self.lines.append(self.draw.choice(INPLACE).format(x=x))
        else:
            y = self.partner(x, onto=True)
            if self.overlap(x, y):
                return self.add_unary()
            self.lines.append(self.draw.choice(INPLACE_BINARY).format(x=x, y=y))


def check(program: Program, seed: int) -> str:
    """Compare; returns what could be concluded: 'checked', or 'refused' where both libraries refuse the program."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.uniform(-1.5, 1.5, shape)) for shape in program.leaves.values()]
    function = program.function()
    try:
        gc.collect()
        gc.disable()
        held = []
        for _ in range(3):  # the first time fills caches; a reference cycle would show
            try:
                support.derivatives(tg, function, arrays, [np.ones(1)] * 3, [np.ones(1)] * 3, True)
                accepted = True
            except RuntimeError:
                accepted = False
            held.append(support.counts())
        assert held[1] == held[2], f"held after one run {held[1]}, after two {held[2]}"
        support.check_against_torch(function, arrays, rng, layout=False, tolerance=1e-8)
        if not accepted:
            return "refused"
        support.check_against_differences(function, arrays, rng, smooth=False, tolerance=1e-5)
        return "checked"
    finally:
        gc.enable()


def main(kind=Program, check=check) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    options = parser.parse_args()
    tally: dict[str, int] = {}
    failures, start = 0, time.perf_counter()
    for k in range(options.count):
        if k == 1:
            gc.freeze()  # what the first program imported, most of it torch's, need not be walked again by every collection
        seed = options.seed * 1_000_003 + k
        # The shortest of the failing prefixes would be found by hypothesis; here short programs come first.
        program = kind(random.Random(seed), 1 + k % options.length)
        try:
            outcome = check(program, seed)
        except Exception as error:
            outcome = "failed"
            failures += 1
            print(f"--- program {k}\n{program.text}leaves: {program.leaves}, seed {seed}\n{type(error).__name__}: {error}", flush=True)
        tally[outcome] = tally.get(outcome, 0) + 1
        if failures >= options.failures:
            break
    print(f"{sum(tally.values())} programs in {time.perf_counter() - start:.0f} s: {tally}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
