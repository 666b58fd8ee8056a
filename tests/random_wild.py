"""Owns the generator of wild random programs: what `random_programs.py` draws, and with it mixed dtypes, indexed writes, hooks, grad modes,
gradients within the program, ties, custom Functions, checkpoints, transforms, and calls that are refused.

A program is compared with PyTorch step by step: the log that it writes (hooks, refusals), its outputs with dtype and `requires_grad`, the
gradients that backward leaves in leaves and retained tensors, second derivatives, and the type and place of what is raised.

    python tests/random_wild.py --count 2000 --seed 0
"""

from __future__ import annotations

import functools
import random
import sys

import numpy as np
import random_programs
import support

import tapegrad as tg

DTYPES = ["float32", "float32", "float64", "float64", "float16", "bfloat16"]
TOLERANCE = {"float64": 1e-8, "float32": 2e-3, "float16": 0.15, "bfloat16": 0.3}
TIES = ["{x}.round().amax({d})", "{x}.round().max({d})[0]", "{x}.sign().min({d})[0]", "{x}.round().max()", "{x}.sign().amin()", "{x}.sort({d})[0]", "{x}.topk(1, {d})[0]",
        "{x}.round().cummax({d})[0]", "{x}.median({d})[0]", "{x}.round().median()", "{x}.kthvalue(1, {d})[0]", "m.linalg.vector_norm({x}.round(), float('inf'), {d})",
        "({x} * ({x} > 0)).prod({d})", "({x} * ({x} > 0)).cumprod({d})", "{x}.round().norm(1, {d})", "{x}.sign().norm(3, {d})",
        "m.maximum({x}.round(), {x}.sign())", "{x}.round().aminmax(dim={d})[1]", "{x}.relu().prod()", "{x}.round().abs()", "{x}.logcumsumexp({d})", "{x}.cumsum({d})",
        "{x}.nansum({d})", "{x}.std({d}, unbiased=False)", "{x}.argsort({d}).to({x}.dtype) * {x}", "{x}.diff(dim={d})", "{x}.roll(1, {d})", "{x}.flip({d})",
        "{x}.unfold({d}, 1, 1)", "{x}.repeat_interleave(2, {d})", "m.nn.functional.softmax({x}, {d})", "m.nn.functional.pad({x}, (1, 1))", "{x}.clamp({x}.sign() * 0.5)"]  # fmt: skip
FUNCTIONS = ["tools(m).Square.apply({x})", "tools(m).Scale.apply({x}, 0.5)", "tools(m).Parts.apply({x})[0]", "tools(m).Parts.apply({x})[1]", "tools(m).Same.apply({x})",
             "m.utils.checkpoint.checkpoint(lambda t: (t.tanh() * t).sin(), {x}, use_reentrant=False)", "m.nn.functional.gelu({x})", "m.nn.functional.softplus({x})",
             "m.utils.checkpoint.checkpoint(lambda t: t.sigmoid() * 2, {x}, use_reentrant=True)", "m.nn.functional.dropout({x}, 0.0)", "m.special.expit({x})"]  # fmt: skip
TRANSFORMS = ["m.func.grad(lambda t: (t ** 3).sum())({x})", "m.func.jvp(lambda t: t.sin() * t, ({x},), ({x}.detach(),))[1]", "m.func.vjp(lambda t: t.tanh() * t, {x})[1]({x})[0]",
              "m.func.jvp(lambda t: t.clone().mul_(t), ({x},), ({x},))[1]", "m.func.hessian(lambda t: (t.sin() * t.sum()).sum())({x}).sum() * {x}",
              "m.func.jacfwd(lambda t: t.tanh() * t.sum())({x}).sum() * {x}", "m.func.grad_and_value(lambda t: t.exp().mul(0.1).sum())({x})[0]"]  # fmt: skip
MAPPED = ["m.vmap(lambda t: t.sin() * t.sum())({x})", "m.vmap(lambda t: t.clone().mul_(t), in_dims=-1, out_dims=-1)({x})", "m.vmap(m.func.grad(lambda t: (t * t).sum()))({x})",
          "m.vmap(lambda t: m.where(t > 0, t, t.sin()), out_dims=0)({x})", "m.func.vjp(m.vmap(lambda t: t.cos() * t.mean()), {x})[1]({x})[0]",
          "m.vmap(lambda t: m.func.jvp(m.tanh, (t,), (t,))[1])({x})", "m.vmap(lambda t, u: t * u.sum(), in_dims=(0, None))({x}, {x})"]  # fmt: skip
REFUSED = ["{x}.view(-1)", "{x}.add_(m.ones(7, 5))", "{x}.numpy()", "{x}.backward()", "{x}.requires_grad_(False)", "{x}.requires_grad_()", "{x}.view(9, 9)", "{x}[99]", "{x}.item()",
           "{x}.sum(9)", "{x} @ m.ones(9, 9)", "m.cat([{x}, m.ones(9, 9, 9, 9, 9)])", "{x}.mul_({x}.to(m.complex64))", "{x}.unsqueeze(9)", "{x}.transpose(0, 8)", "{x}.long().sqrt_()",
           "m.autograd.grad({x}, {x})", "m.autograd.grad({x}.sum(), m.ones(2))", "{x}.retain_grad()", "{x}.register_hook(3)", "{x}.detach_()", "{x}.expand(9, 9, 9, 9, 9, 9)",
           "{x}.index_select(0, m.tensor([9]))", "{x}.data_ptr() and None", "bool({x})", "{x}.resize_(1)", "{x}.t_()", "{x}.scatter_(0, m.tensor([9]), 1.0)", "{x}.squeeze_()",
           "{x}.split(0)", "{x}.chunk(0)", "{x}.fill_(m.ones(2))", "{x}.copy_(m.ones(9, 8, 7))", "{x}.normal_(0, -1)"]  # fmt: skip


@functools.cache
def tools(m):
    """The custom Functions of module `m`."""

    class Square(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    class Scale(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            ctx.mark_dirty(x)
            return x.mul_(factor)

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None

    class Parts(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.sin()
            ctx.save_for_backward(x, out)
            return out, x.cos()

        @staticmethod
        def backward(ctx, g, h):
            x, out = ctx.saved_tensors
            return g * x.cos() - h * out

    class Same(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return g * 3

    return type("Tools", (), {"Square": Square, "Scale": Scale, "Parts": Parts, "Same": Same})


def attempt(log, f):
    """Log what `f` raises."""
    try:
        f()
        log.append("accepted")
    except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError, AttributeError) as error:
        log.append(type(error).__name__)


class Wild(random_programs.Program):
    """A program with more kinds of steps."""

    kinds = ["convert", "ties", "write", "write", "write", "hook", "retain", "no_grad", "detach", "gradient", "split", "product", "function", "transform", "mapped", "refused", "leaf_write"]

    def __init__(self, draw: random.Random, length: int = 8):
        self.dtypes = {name: draw.choice(DTYPES) if draw.random() < 0.3 else "float64" for name in "abc"}
        self.wide: set[str] = set()  # values that may show an element twice, whose writes torch warns of or refuses, case by case
        super().__init__(draw, length)

    def emit(self, text, shape, of=""):
        super().emit(text, shape, of)
        if ".expand(" in text or of in self.wide:
            self.wide.add(f"v{len(self.shapes) - 1}")

    def add_inplace(self):
        before = len(self.lines)
        super().add_inplace()
        if self.lines[before:] and any(self.lines[before].startswith(f"{x}{mark}") for x in self.wide for mark in (".", "[", " ")):
            del self.lines[before:]

    @property
    def text(self) -> str:
        body = "\n".join(f"    {line}" for line in [*self.lines, f"return [{', '.join(self.returned)}]"])
        return f"def program(m, log, kept, {', '.join(self.leaves)}):\n{body}\n"

    def function(self):
        space: dict = {"tools": tools, "attempt": attempt}
        exec(self.text, space)
        return space["program"]

    def step(self) -> None:
        if self.draw.random() < 0.45:
            super().step()
        else:
            getattr(self, "add_" + self.draw.choice(self.kinds))()

    def line(self, text: str) -> None:
        self.lines.append(text)

    def made(self):
        names = [name for name in self.shapes if name not in self.leaves]
        return self.draw.choice(names) if names else None

    def add_convert(self):
        x = self.pick()
        d = self.draw.choice(["float32", "float64", "float64"])
        self.emit(self.draw.choice([f"{x}.to(m.{d})", f"{x}.type(m.{d})", f"{x}.type_as({self.pick()})", f"{x}.clone().to(m.{d})", f"m.tensor(2.0, dtype=m.{d}) * {x}"]), self.shapes[x])

    def add_ties(self):
        x = self.pick(lambda s: len(s) > 0 and min(s) > 0)
        if x is None:
            return self.add_unary()
        d = self.draw.randrange(len(self.shapes[x]))
        text = self.draw.choice(TIES)
        result = eval(text.format(x="v", d=d), {"m": tg, "v": tg.ones(self.shapes[x])})
        self.emit(text.format(x=x, d=d), tuple(result.shape), x if "unfold" in text else "")

    def rows(self, n):
        return [self.draw.randrange(-n, n) for _ in range(self.draw.randint(1, 3))]

    def add_write(self):
        x = self.made()
        if x is None or x in self.wide or not self.shapes[x] or not self.shapes[x][0]:
            return self.add_inplace()
        shape = self.shapes[x]
        n, rest = shape[0], shape[1:]
        y = self.pick(lambda s: s == rest)
        value = y if y is not None and not self.overlap(x, y) and self.draw.random() < 0.6 else "0.3"
        z = self.pick(lambda s: s == shape)
        z = z if z is not None and not self.overlap(x, z) else None
        rows = self.rows(n)
        distinct = sorted({r % n for r in rows})
        picked = f"{z}[m.tensor({distinct})].to({x}.dtype)" if z else f"m.ones({(len(distinct), *rest)}, dtype={x}.dtype)"
        number = value if not rest else "0.3"
        self.line(self.draw.choice([
            f"{x}[m.tensor({distinct})] = {value}", f"{x}[m.tensor({distinct})] *= {value}", f"{x}[{x} > 0.2] = 0.3", f"{x}[{x}.detach() > 0.2] *= 0.5",
            f"{x}.index_put_((m.tensor({distinct}),), m.tensor(0.3, dtype={x}.dtype), {self.draw.random() < 0.5})", f"{x}.masked_fill_({x} > 0.1, 0.3)",
            f"{x}.index_add_(0, m.tensor({[r % n for r in distinct]}), {picked})", f"{x}.index_copy_(0, m.tensor({distinct}), {picked})",
            f"{x}.index_fill_(0, m.tensor({distinct}), {number if number == '0.3' else number + '.detach()'})",
            f"{x}.scatter_(0, m.zeros({(1, *rest)}, dtype=m.int64), 0.7)", f"{x}[..., 0] += 0.5", f"{x}[::2] = {value}", f"{x}[0].mul_(0.5)",
            f"{x}.transpose(0, -1)[0].add_(0.1)", f"{x}.view_as({x})[0:1].sin_()", f"{x}.unsqueeze(0)[:, 0].mul_(2)", f"{x}.narrow(0, 0, 1).copy_({x}.detach()[-1:].clone())",
            f"{x}.select(0, 0).fill_(0.5)", f"{x}.diagonal(0, 0, -1).mul_(0.3)" if rest else f"{x}.zero_()", f"{x}.unbind(0)[0].clone().mul_(2)",
            f"{x}.flatten()[0:1].tanh_()", f"{x}.clamp_(-1, 1)", f"{x}.lerp_({x}.detach().clone(), 0.5)", f"{x}.addcmul_({x}.detach().clone(), {z or x + '.clone()'}, value=0.1)",
        ]))  # fmt: skip

    def add_leaf_write(self):
        x = self.draw.choice(list(self.leaves))
        self.line(self.draw.choice([f"attempt(log, lambda: {x}.mul_(2))", f"attempt(log, lambda: {x}.view_as({x}).add_(1))", f"attempt(log, lambda: {x}.detach().mul_(0.9))",
                                    f"with m.no_grad(): {x}.mul_(0.9)", f"{x}.data.mul_(1.1)"]))  # fmt: skip

    def add_hook(self):
        x = self.pick()
        body = self.draw.choice(["g * 2", "log.append(g)", "g.sin()", "g.clone().mul_(0.5)", "None", "g.detach()", "g + g", "g.expand_as(g)"])
        self.line(f"if {x}.requires_grad: {x}.register_hook(lambda g: {body})")

    def add_retain(self):
        x = self.pick()
        self.line(f"if {x}.requires_grad: {x}.retain_grad(); kept.append({x})")

    def add_no_grad(self):
        x, y = self.pick(), self.made()
        kind = self.draw.randrange(5)
        if kind == 0 or y is None:
            mode = self.draw.choice(["m.no_grad()", "m.enable_grad()", "m.set_grad_enabled(False)"])
            self.lines.append(f"with {mode}:")
            before = len(self.lines)
            self.draw.choice([self.add_unary, self.add_view, self.add_binary])()
            self.lines[before:] = ["    " + line for line in self.lines[before:]]
        elif kind == 1:
            self.line(f"with m.no_grad(): {y}.mul_(0.5)")
        elif kind == 2:
            self.line(f"with m.no_grad(): {y}.copy_({y} * 0.5)")
        elif kind == 3:
            self.line(f"with m.no_grad(): attempt(log, lambda: {y}.unsqueeze(0)[0].add_(0.5))")
        else:
            self.emit(f"m.no_grad()(lambda t: t * 2)({x})", self.shapes[x])

    def add_detach(self):
        x = self.pick()
        text, of = self.draw.choice([(f"{x}.detach()", x), (f"{x}.detach().clone().requires_grad_()", ""), (f"{x}.data", x), (f"{x}.detach() * {x}", ""),
                                     (f"{x}.clone().detach_()", ""), (f"{x} - {x}.detach()", "")])  # fmt: skip
        self.emit(text, self.shapes[x], of)

    def add_gradient(self):
        x, a = self.pick(), self.draw.choice(list(self.leaves))
        create = self.draw.random() < 0.7
        name = f"g{len(self.lines)}"
        self.line(f"{name} = m.autograd.grad(({x} * {x}).sum(), {a}, create_graph={create}, retain_graph=True, allow_unused=True)[0] if {x}.requires_grad else None")
        self.emit(f"{a} * 0.5 if {name} is None else {name} * 0.5", self.shapes[a])

    def add_split(self):
        x = self.pick(lambda s: len(s) > 0 and max(s) > 1)
        if x is None:
            return self.add_view()
        shape = self.shapes[x]
        d = max(range(len(shape)), key=lambda k: shape[k])
        n = shape[d]
        first, last = (*shape[:d], 1, *shape[d + 1 :]), (*shape[:d], n - 1, *shape[d + 1 :])
        kind = self.draw.randrange(5)
        if kind == 0:
            self.emit(f"{x}.split([1, {n - 1}], {d})[1]", last, x)
        elif kind == 1:
            self.emit(f"{x}.unbind({d})[-1]", (*shape[:d], *shape[d + 1 :]), x)
        elif kind == 2:
            self.emit(f"{x}.tensor_split([1], {d})[0]", first, x)
        elif kind == 3:
            self.emit(f"{x}.chunk({n}, {d})[0]", first, x)
            self.line(f"attempt(log, lambda: v{len(self.shapes) - 1}.mul_(2))")
        else:
            self.emit(f"m.cat({x}.split(1, {d})[::-1], {d})", shape)

    def add_product(self):
        x = self.pick(lambda s: len(s) == 2)
        if x is None:
            return self.add_matmul()
        n, k = self.shapes[x]
        texts = [(f"m.mm({x}, {x}.t())", (n, n)), (f"m.addmm({x}, {x}, m.ones({k}, {k}, dtype={x}.dtype), beta=0.5)", (n, k)), (f"m.einsum('ij,kj->ik', {x}, {x})", (n, n)),
                 (f"m.nn.functional.linear({x}, {x})", (n, n)), (f"m.outer({x}[0], {x}[:, 0])", (k, n)), (f"m.dot({x}[0], {x}[-1])", ()), (f"{x}.mv({x}[0])", (n,)),
                 (f"m.bmm({x}.unsqueeze(0), {x}.t().unsqueeze(0))", (1, n, n)), (f"m.tensordot({x}, {x}, ([0], [0]))", (k, k)), (f"m.einsum('ij,ij->', {x}, {x})", ()),
                 (f"m.baddbmm({x}.unsqueeze(0), {x}.unsqueeze(0), m.ones(1, {k}, {k}, dtype={x}.dtype), alpha=0.3)", (1, n, k)),
                 (f"m.kron({x}, {x}[:1, :1])", (n, k)),
                 (f"m.einsum('ii->i', {x} @ {x}.t())", (n,)), (f"m.trace({x})", ()), (f"{x}.tril(-1)", (n, k)),
                 (f"m.linalg.inv({x} @ {x}.mT + 2 * m.eye({n}, dtype={x}.dtype))", (n, n))]  # fmt: skip
        self.emit(*self.draw.choice(texts))

    def add_function(self):
        x = self.pick()
        text = self.draw.choice(FUNCTIONS)
        self.emit(text.format(x=f"({x} * 1)" if "Scale" in text else x), self.shapes[x], x if "Same" in text or "dropout" in text else "")

    def add_transform(self):
        x = self.pick(lambda s: np.prod(s) <= 12)
        if x is None:
            return self.add_function()
        self.emit(self.draw.choice(TRANSFORMS).format(x=x), self.shapes[x])

    def add_mapped(self):
        x = self.pick(lambda s: len(s) > 0)
        if x is None:
            return self.add_transform()
        self.emit(self.draw.choice(MAPPED).format(x=x), self.shapes[x])

    def add_refused(self):
        x = self.pick()
        text = self.draw.choice(REFUSED).format(x=x)
        if text.endswith(("resize_(1)", "t_()", "squeeze_()", "detach_()", "requires_grad_(False)", "requires_grad_()")):
            text = text.replace(x, f"{x}.detach()" if "requires" in text else f"({x} * 1)", 1)
        if text.endswith(".item()") or text.startswith("bool"):
            self.line(f"if {x}.numel() != 1: attempt(log, lambda: {text})")
        else:
            self.line(f"attempt(log, lambda: {text})")


# --- running and comparing ------------------------------------------------------------------------------------------
def entry(t):
    """What is compared of a logged or returned object."""
    if not hasattr(t, "detach"):
        return t
    return str(t.dtype).rpartition(".")[2], tuple(t.shape), bool(t.requires_grad), support.value(t).astype(np.float64)


def run(m, function, arrays, dtypes, weights):
    """The record of one program: (name of the phase, entries or the exception's type) in order, and the exception."""
    leaves = [m.tensor(a).to(getattr(m, d)).requires_grad_() for a, d in zip(arrays, dtypes)]
    log, kept, record, phase = [], [], [], "forward"
    try:
        outputs = function(m, log, kept, *leaves)
        record.append(("log", [entry(t) for t in log]))
        record.append(("outputs", [entry(t) for t in outputs]))
        phase = "gradient"
        terms = [(t.to(m.float64) * w).sum() for t, w in zip(outputs, weights) if t.requires_grad]
        if terms:
            total = sum(terms[1:], terms[0])
            log.clear()
            first = m.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
            record.append(("gradient", [entry(g.detach()) if g is not None else None for g in first]))
            phase = "second"
            again = [(g.to(m.float64) * 0.7).sum() for g in first if g is not None and g.requires_grad]
            second = m.autograd.grad(sum(again[1:], again[0]), leaves, allow_unused=True, retain_graph=True) if again else [None] * len(leaves)
            record.append(("second", [entry(g) if g is not None else None for g in second]))
            phase = "backward"
            log.clear()
            for t in (*leaves, *kept):
                t.grad = None
            total.backward()
            record.append(("log", [entry(t) for t in log]))
            record.append(("backward", [None if t.grad is None else entry(t.grad) for t in (*leaves, *kept)]))
    except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError, AttributeError) as error:
        record.append((phase + " raises " + type(error).__name__, []))
        return record, error
    return record, None


def equal(a, b, tolerance) -> bool:
    """Whether two entries agree; no gradient and zeros do, and whether zeros require grad is left open."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    x, y = (np.zeros(()) if e is None else e[3] for e in (a, b))
    if not np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True):
        return False
    return a is None or b is None or a[:2] == b[:2] and (a[2] == b[2] or not y.any())


def check(program: Wild, seed: int) -> str:
    """Compare with PyTorch; 'checked', 'refused' by both, 'lenient' where only PyTorch finds a saved tensor changed."""
    torch = support.torch
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.uniform(-1.5, 1.5, shape)) for shape in program.leaves.values()]
    dtypes = [program.dtypes[name] for name in program.leaves]
    weights = [float(w) for w in rng.uniform(-1, 1, 8)]
    tolerance = max(TOLERANCE[d] for d in [*dtypes, *(["float32"] if "float32" in program.text else [])])
    function = program.function()
    expected, error = run(torch, function, arrays, dtypes, weights)
    found, own = run(tg, function, arrays, dtypes, weights)
    for k, (name, entries) in enumerate(expected):
        if k >= len(found) or found[k][0] != name:
            if error is not None and k == len(expected) - 1 and "modified by an inplace operation" in str(error):
                return "lenient"
            if "alpha=" in program.text and "a second time" in str(own):
                return "strict"  # the factor of a sum counts as a saved value
            raise AssertionError(f"{found[k][0] if k < len(found) else 'nothing'} ({own}), torch has {name} ({error})")
        others = found[k][1]
        assert len(entries) == len(others), f"{name}: {len(others)} entries, torch has {len(entries)}"
        for j, (a, b) in enumerate(zip(others, entries)):
            assert equal(a, b, tolerance), f"{name} {j} is {a}, torch has {b}"
        if not all(np.isfinite(e[3]).all() for e in entries if isinstance(e, tuple)):
            return "not finite"
    return "refused" if error is not None else "checked"


if __name__ == "__main__":
    sys.exit(random_programs.main(Wild, check))
