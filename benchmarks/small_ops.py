"""One small operation at a time against torch eager: 8-vectors, 4x4 matrices and 0-d tensors, forward alone and with backward.

    python benchmarks/small_ops.py [REGEX] [--rounds 9] [--dtype float64] [--worst N]

One thread, both libraries in turn in one process, medians.  Before a case is timed, its values and its gradients are compared.
`forward` records nothing that backward would need to free (leaves require no grad); `both` is recording, `.sum().backward()` and
clearing the gradients.  A ratio above 1 says how many times faster tapegrad is.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings

import numpy as np
from compare import geometric_mean, interleaved

import tapegrad as tg

VECTOR = np.linspace(-0.9, 1.1, 8)
MATRIX = np.sin(np.arange(16.0)).reshape(4, 4) + 1.3
DATA = {
    "v": VECTOR, "w": np.cos(np.arange(8.0)), "m": MATRIX, "n": np.cos(np.arange(16.0)).reshape(4, 4) * 0.7, "s": np.array(0.7),
    "row": np.linspace(0.5, 1.5, 4),
}
INDEX = {"vi": np.array([1, 5, 2, 2]), "mi": np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 1, 1], [2, 0, 2, 0]]), "ri": np.array([2, 0, 3]),
         "vb": VECTOR > 0, "mb": MATRIX > 1.0, "b": np.array([True])}

# name: (operands, function of the module and the operands).  Operands named in INDEX are constants.
WITH_GRADIENT = {
    "cat((v, v))": ("v w", lambda m, a, b: m.cat((a, b))),
    "cat([m, m], 1)": ("m n", lambda m, a, b: m.cat([a, b], 1)),
    "cat of 4": ("v w v w", lambda m, *x: m.cat(x)),
    "stack((v, v))": ("v w", lambda m, a, b: m.stack((a, b))),
    "stack([v, v], dim=1)": ("v w", lambda m, a, b: m.stack([a, b], dim=1)),
    "stack of 0-d": ("s s s", lambda m, *x: m.stack(x)),
    "where(c, v, w)": ("vb v w", lambda m, c, a, b: m.where(c, a, b)),
    "where(c, v, 0.0)": ("vb v", lambda m, c, a: m.where(c, a, 0.0)),
    "where(v > 0, v, w)": ("v w", lambda m, a, b: m.where(a > 0, a, b)),
    "v.clamp(-0.5, 0.5)": ("v", lambda m, a: a.clamp(-0.5, 0.5)),
    "v.clamp(min=0)": ("v", lambda m, a: a.clamp(min=0)),
    "v.clamp(min=0.0)": ("v", lambda m, a: a.clamp(min=0.0)),
    "v.clamp_min(0.0)": ("v", lambda m, a: a.clamp_min(0.0)),
    "v.softmax(0)": ("v", lambda m, a: a.softmax(0)),
    "softmax(m, dim=-1)": ("m", lambda m, a: m.softmax(a, dim=-1)),
    "v.log_softmax(0)": ("v", lambda m, a: a.log_softmax(0)),
    "m.log_softmax(-1)": ("m", lambda m, a: a.log_softmax(-1)),
    "v.logsumexp(0)": ("v", lambda m, a: a.logsumexp(0)),
    "m.logsumexp(dim=1)": ("m", lambda m, a: a.logsumexp(dim=1)),
    "v.cumsum(0)": ("v", lambda m, a: a.cumsum(0)),
    "m.cumsum(dim=1)": ("m", lambda m, a: a.cumsum(dim=1)),
    "v.cumprod(0)": ("w", lambda m, a: a.cumprod(0)),
    "v.max()": ("v", lambda m, a: a.max()),
    "m.max(1).values": ("m", lambda m, a: a.max(1).values),
    "m.min(dim=0)[0]": ("m", lambda m, a: a.min(dim=0)[0]),
    "m.amax(1)": ("m", lambda m, a: a.amax(1)),
    "v.norm()": ("v", lambda m, a: a.norm()),
    "m.norm(dim=1)": ("m", lambda m, a: a.norm(dim=1)),
    "v.norm(1)": ("v", lambda m, a: a.norm(1)),
    "v.std()": ("v", lambda m, a: a.std()),
    "v.var()": ("v", lambda m, a: a.var()),
    "m.var(1)": ("m", lambda m, a: a.var(1)),
    "m.sum((0, 1))": ("m", lambda m, a: a.sum((0, 1))),
    "m.mean(dim=(0, 1))": ("m", lambda m, a: a.mean(dim=(0, 1))),
    "m.sum(dim=1, keepdim=True)": ("m", lambda m, a: a.sum(dim=1, keepdim=True)),
    "m.t().sum(1)": ("m", lambda m, a: a.t().sum(1)),
    "m.mean(0)": ("m", lambda m, a: a.mean(0)),
    "row.expand(4, 4).sum(0)": ("row", lambda m, a: a.expand(4, 4).sum(0)),
    "v[::2].sum()": ("v", lambda m, a: a[::2].sum()),
    "v.prod()": ("w", lambda m, a: a.prod()),
    "m.prod(1)": ("m", lambda m, a: a.prod(1)),
    "v[idx]": ("v vi", lambda m, a, i: a[i]),
    "m[idx]": ("m ri", lambda m, a, i: a[i]),
    "m[idx, idx]": ("m ri", lambda m, a, i: a[i, i]),
    "m[:, idx]": ("m ri", lambda m, a, i: a[:, i]),
    "v[[0, 3]]": ("v", lambda m, a: a[[0, 3]]),
    "v[mask]": ("v vb", lambda m, a, b: a[b]),
    "v[v > 0]": ("v", lambda m, a: a[a > 0]),
    "m[1, 2]": ("m", lambda m, a: a[1, 2]),
    "m[:, 1]": ("m", lambda m, a: a[:, 1]),
    "m[..., 0]": ("m", lambda m, a: a[..., 0]),
    "m[1:3, ::2]": ("m", lambda m, a: a[1:3, ::2]),
    "v[None]": ("v", lambda m, a: a[None]),
    "v[-1]": ("v", lambda m, a: a[-1]),
    "v[2:5]": ("v", lambda m, a: a[2:5]),
    "index_select": ("m ri", lambda m, a, i: a.index_select(0, i)),
    "gather": ("m mi", lambda m, a, i: a.gather(1, i)),
    "scatter_add": ("m mi n", lambda m, a, i, b: a.scatter_add(1, i, b)),
    "index_add": ("m ri", lambda m, a, i: a.index_add(0, i, a[:3])),
    "masked_fill": ("v vb", lambda m, a, b: a.masked_fill(b, 0.0)),
    "clone": ("v", lambda m, a: a.clone()),
    "v.flip(0)": ("v", lambda m, a: a.flip(0)),
    "m.roll(1, 0)": ("m", lambda m, a: a.roll(1, 0)),
    "m.unbind()[1]": ("m", lambda m, a: a.unbind()[1]),
    "a, b, c, d = m": ("m", lambda m, a: [*a][2]),
    "v.split(4)[1]": ("v", lambda m, a: a.split(4)[1]),
    "v.chunk(2)[0]": ("v", lambda m, a: a.chunk(2)[0]),
    "outer": ("v w", lambda m, a, b: m.outer(a, b)),
    "einsum ij,jk->ik": ("m n", lambda m, a, b: m.einsum("ij,jk->ik", a, b)),
    "einsum i,i->": ("v w", lambda m, a, b: m.einsum("i,i->", a, b)),
    "einsum bij,bj->bi": ("m n", lambda m, a, b: m.einsum("bij,bj->bi", a.view(2, 2, 4), b.view(2, 8)[:, :4])),
    "m @ n": ("m n", lambda m, a, b: a @ b),
    "m @ row": ("m row", lambda m, a, b: a @ b),
    "tril": ("m", lambda m, a: a.tril()),
    "diag": ("v", lambda m, a: m.diag(a)),
    "m.T": ("m", lambda m, a: a.T),
    "m.reshape((2, 8))": ("m", lambda m, a: a.reshape((2, 8))),
    "m.view(-1)": ("m", lambda m, a: a.view(-1)),
    "v.unsqueeze(-1)": ("v", lambda m, a: a.unsqueeze(-1)),
    "v.expand(4, 8)": ("v", lambda m, a: a.expand(4, 8)),
    "v.repeat(2)": ("v", lambda m, a: a.repeat(2)),
    "v.sum()": ("v", lambda m, a: a.sum()),
    "v * w": ("v w", lambda m, a, b: a * b),
    "s * s": ("s s", lambda m, a, b: a * b),
    "v ** 2": ("v", lambda m, a: a**2),
    "v.exp()": ("v", lambda m, a: a.exp()),
    "relu(v)": ("v", lambda m, a: m.relu(a)),
    "v.to(float32)": ("v", lambda m, a: a.to(m.float32)),
    "addmm": ("row m n", lambda m, c, a, b: m.addmm(c, a, b)),
    "lerp": ("v w", lambda m, a, b: m.lerp(a, b, 0.3)),
    "maximum": ("v w", lambda m, a, b: m.maximum(a, b)),
    "sort": ("v", lambda m, a: a.sort().values),
    "contiguous": ("m", lambda m, a: a.t().contiguous()),
    "flatten": ("m", lambda m, a: a.flatten()),
    "squeeze": ("row", lambda m, a: a.unsqueeze(0).squeeze(0)),
}

# No gradient flows: forward alone.
WITHOUT_GRADIENT = {
    "argmax": ("v", lambda m, a: a.argmax()),
    "m.argmax(1)": ("m", lambda m, a: a.argmax(1)),
    "v.any()": ("vb", lambda m, a: a.any()),
    "(v > 0).all()": ("v", lambda m, a: (a > 0).all()),
    "v > 0": ("v", lambda m, a: a > 0),
    "isnan": ("v", lambda m, a: m.isnan(a)),
    "nonzero": ("vb", lambda m, a: a.nonzero()),
    "int sum": ("mi", lambda m, a: a.sum()),
    "int index": ("mi ri", lambda m, a, i: a[i]),
    "zeros(8)": ("", lambda m: m.zeros(8)),
    "zeros(4, 4, dtype)": ("", lambda m: m.zeros(4, 4, dtype=m.float64)),
    "ones((4, 4))": ("", lambda m: m.ones((4, 4))),
    "full((8,), 2.5)": ("", lambda m: m.full((8,), 2.5)),
    "zeros_like": ("v", lambda m, a: m.zeros_like(a)),
    "ones_like": ("v", lambda m, a: m.ones_like(a)),
    "full_like": ("v", lambda m, a: m.full_like(a, 2.0)),
    "empty(8).shape": ("", lambda m: m.zeros(1) if m.empty(8).shape else None),
    "arange(8)": ("", lambda m: m.arange(8)),
    "linspace": ("", lambda m: m.linspace(0, 1, 8)),
    "tensor(1.5)": ("", lambda m: m.tensor(1.5)),
    "tensor([3 floats])": ("", lambda m: m.tensor([1.0, 2.0, 3.0])),
    "tensor([[ints]])": ("", lambda m: m.tensor([[1, 2], [3, 4]])),
    "tensor(list, float64)": ("", lambda m: m.tensor([1.0, 2.0, 3.0], dtype=m.float64)),
    "v.new_zeros(8)": ("v", lambda m, a: a.new_zeros(8)),
    "from_numpy": ("", lambda m: m.from_numpy(VECTOR)),
}


# Run under no_grad on long-lived operands: (module, v, w, m, n, vi, vb) -> what to compare.
IN_PLACE = {
    "v[2] = 1.5": lambda m, o: o["v"].__setitem__(2, 1.5),
    "v[1:3] = w[1:3]": lambda m, o: o["v"].__setitem__(slice(1, 3), o["w"][1:3]),
    "m[1, 2] = 0.5": lambda m, o: o["m"].__setitem__((1, 2), 0.5),
    "m[:, 1] = row": lambda m, o: o["m"].__setitem__((slice(None), 1), o["row"]),
    "v[idx] = 0.0": lambda m, o: o["v"].__setitem__(o["vi"], 0.0),
    "v[mask] = 0.0": lambda m, o: o["v"].__setitem__(o["vb"], 0.0),
    "v.copy_(w)": lambda m, o: o["v"].copy_(o["w"]),
    "v.fill_(0.5)": lambda m, o: o["v"].fill_(0.5),
    "v.zero_()": lambda m, o: o["v"].zero_(),
    "v -= 0.001 * w": lambda m, o: o["v"].__isub__(0.001 * o["w"]),
    "v.add_(w, alpha=0.1)": lambda m, o: o["v"].add_(o["w"], alpha=0.1),
    "v.mul_(0.5)": lambda m, o: o["v"].mul_(0.5),
    "v.clamp_(-1, 1)": lambda m, o: o["v"].clamp_(-1, 1),
    "index_add_": lambda m, o: o["v"].index_add_(0, o["vi"], o["row"]),
    "scatter_add_": lambda m, o: o["v"].scatter_add_(0, o["vi"], o["row"]),
    "v.addcmul_": lambda m, o: o["v"].addcmul_(o["w"], o["w"], value=0.1),
    "v.lerp_": lambda m, o: o["v"].lerp_(o["w"], 0.1),
    "v.masked_fill_": lambda m, o: o["v"].masked_fill_(o["vb"], 0.5),
}


def scaler(m):
    class Scale(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2.0

    return Scale


def plumbing(m):
    """name -> function of no arguments: the calls around the arithmetic."""
    x = m.tensor(VECTOR, requires_grad=True)
    plain = m.tensor(VECTOR)
    number, parameter = m.tensor(0.7, requires_grad=True), m.tensor(VECTOR, requires_grad=True)
    gradient, fixed = m.tensor(VECTOR), m.tensor(MATRIX)
    x.grad = m.tensor(VECTOR)
    Scale = scaler(m)

    def mode():
        with m.no_grad():
            pass

    def update():
        with m.no_grad():
            parameter.sub_(gradient, alpha=1e-9)

    def update_operator():
        nonlocal parameter
        with m.no_grad():
            parameter -= 1e-9 * gradient

    def custom():
        Scale.apply(x)

    def custom_backward():
        Scale.apply(x).sum().backward()
        x.grad = None

    def hooked():
        y = x * 2.0
        y.register_hook(lambda g: g)
        y.sum().backward()
        x.grad = None

    def cleared():
        x.grad = gradient
        x.grad = None

    def leaf():
        plain.detach().requires_grad_()

    def gradients():
        m.autograd.grad((x * x).sum(), x)

    def retained():
        y = x * 2.0
        y.retain_grad()
        y.sum().backward()
        x.grad = None

    return {
        "s.item()": lambda: number.item(), "float(s)": lambda: float(number), "bool(s > 0)": lambda: bool(number > 0), "x.shape": lambda: x.shape,
        "x.ndim": lambda: x.ndim, "x.dtype": lambda: x.dtype, "len(x)": lambda: len(x), "x.numel()": lambda: x.numel(), "x.size(0)": lambda: x.size(0),
        "x.requires_grad": lambda: x.requires_grad, "x.grad": lambda: x.grad, "x.is_leaf": lambda: x.is_leaf, "x.detach()": lambda: x.detach(),
        "x.numpy()": lambda: plain.numpy(), "x.detach().numpy()": lambda: x.detach().numpy(), "x.tolist()": lambda: plain.tolist(),
        "requires_grad_()": leaf, "no_grad": mode, "p.sub_(g, alpha) in no_grad": update, "p -= lr * g in no_grad": update_operator,
        "x.grad = g; x.grad = None": cleared, "x.data": lambda: x.data, "custom Function": custom, "custom Function, backward": custom_backward,
        "hook, backward": hooked, "retain_grad, backward": retained, "autograd.grad": gradients, "is_grad_enabled": lambda: m.is_grad_enabled(),
        "x is contiguous": lambda: x.is_contiguous(), "fixed.T.contiguous()": lambda: fixed.T.contiguous(), "for row in m": lambda: [r for r in fixed],
        "x.to(dtype), same": lambda: x.to(x.dtype), "len of m[0]": lambda: len(fixed[0]),
    }


def operands(m, names: str, dtype, gradient: bool):
    made = []
    for name in names.split():
        if name in INDEX:
            made.append(m.tensor(INDEX[name]))
        else:
            made.append(m.tensor(DATA[name]).to(getattr(m, dtype)).requires_grad_(gradient))
    return made


def same(a, b, what: str) -> None:
    a, b = (x.detach().numpy() if hasattr(x, "detach") else np.asarray(x) for x in (a, b))
    np.testing.assert_allclose(a, b, rtol=2e-5 if a.dtype == np.float32 else 1e-9, atol=1e-6 if a.dtype == np.float32 else 1e-12, err_msg=what)


def pair(name, names, function, modules, dtype, backward: bool):
    """The callables to be timed, one per module, once their values and gradients agree."""
    runs, found = [], []
    for m in modules:
        made = operands(m, names, dtype, backward)
        leaves = [t for t in made if t.requires_grad]
        if not backward:
            found.append([function(m, *made)])
            runs.append(lambda m=m, made=made: function(m, *made))
            continue

        def run(m=m, made=made, leaves=leaves):
            function(m, *made).sum().backward()
            for leaf in leaves:
                leaf.grad = None

        weighted = function(m, *made)
        (weighted * weighted).sum().backward()
        found.append([weighted, *(leaf.grad for leaf in leaves)])
        for leaf in leaves:
            leaf.grad = None
        runs.append(run)
    for a, b in zip(*found, strict=True):
        same(a, b, name)
    return runs


def written(name, function, modules, dtype):
    runs, found = [], []
    for m in modules:
        made = {k: m.tensor(v).to(getattr(m, dtype)) for k, v in DATA.items()} | {k: m.tensor(v) for k, v in INDEX.items()}
        guard = m.no_grad()
        with guard:
            function(m, made)
        found.append([made["v"].clone(), made["m"].clone()])
        runs.append(lambda m=m, made=made: function(m, made))
    for a, b in zip(*found, strict=True):
        same(a, b, name)
    return runs


def measure(pattern="", dtype="float64", rounds=9):
    """Rows (name, [seconds forward, ...], [seconds forward and backward, ...] or None) of tapegrad and torch."""
    try:
        import torch
    except ImportError:
        sys.exit("this benchmark compares with torch: pip install torch")
    torch.set_num_threads(1)
    tg.set_num_threads(1)
    modules = (tg, torch)
    wanted = lambda name: re.search(pattern, name)  # noqa: E731
    timed = lambda runs: interleaved(runs, rounds, 0.004)  # noqa: E731
    for name, (names, function) in WITH_GRADIENT.items():
        if wanted(name):
            yield name, timed(pair(name, names, function, modules, dtype, False)), timed(pair(name, names, function, modules, dtype, True))
    for name, (names, function) in WITHOUT_GRADIENT.items():
        if wanted(name):
            yield name, timed(pair(name, names, function, modules, dtype, False)), None
    for name, function in IN_PLACE.items():
        if wanted(name):
            yield name, timed(written(name, function, modules, dtype)), None
    ours, theirs = plumbing(tg), plumbing(torch)
    for name in ours:
        if wanted(name):
            yield name, timed([ours[name], theirs[name]]), None


def table(rows, worst=None) -> str:
    lines = ["| operation | forward | torch | ratio | forward + backward | torch | ratio |", "|---|---|---|---|---|---|---|"]
    ratio = lambda times: times[1] / times[0]  # noqa: E731
    rows = sorted(rows, key=lambda row: min(ratio(t) for t in row[1:] if t))
    for name, forward, both in rows[:worst]:
        cells = [name]
        for times in (forward, both):
            cells += [f"{times[0] * 1e6:.2f} µs", f"{times[1] * 1e6:.2f} µs", f"{ratio(times):.2f}"] if times else ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    forward = geometric_mean([ratio(row[1]) for row in rows])
    both = [ratio(row[2]) for row in rows if row[2]]
    lines.append(f"| **geometric mean** | | | **{forward:.2f}** | | | **{geometric_mean(both):.2f}** |" if both else f"| **geometric mean** | | | **{forward:.2f}** | | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", nargs="?", default="", help="only operations whose name matches")
    parser.add_argument("--rounds", type=int, default=9, help="samples per median (default: %(default)s)")
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    parser.add_argument("--worst", type=int, help="only the N worst ratios")
    chosen = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(table(list(measure(chosen.pattern, chosen.dtype, chosen.rounds)), chosen.worst))
