"""Owns the generator of programs that write: items, parts, views of views and whole tensors, with values that require grad or do not.

    python tests/random_writes.py --count 1000 --seed 1

Each program runs three times here, for compiled code takes a write over from its third time on, and once in PyTorch: statements that raise,
values, gradients and gradients of their squares must agree.
"""

from __future__ import annotations

import argparse
import random

import numpy as np

import tapegrad as tg

STARTS = ("y = X * 2", "y = m.zeros(3, 4, dtype=m.float64)", "y = X * w", "y = (X * 1).t().contiguous().t()", "y = X.exp()")
PARTS = ("[0]", "[1]", "[-1]", "[0, 1]", "[:, 1]", "[1:]", "[:2]", "[1, 1:3]", "[..., 0]", "[:]", "[::2]", "[0][1]", "[1][1:3]")
SCALARS = ("s", "2.0", "s * w[0]", "w[0]", "X[1, 2]", "y[0, 0].clone()")
ROWS = ("w", "X[0]", "w * s", "y[0].clone()", "y[1] * 2")
VIEWS = ("[0]", "[1:]", "[:, 1]", "[:2]", ".t()", ".reshape(-1)", ".view(-1)", "[::2]", ".unsqueeze(0)", "[..., 1:]", ".detach()", ".clone()", ".squeeze()")
CALLS = (
    "sin_()", "exp_()", "tanh_()", "neg_()", "mul_(s)", "add_(s, alpha=2)", "clamp_(max=1.5)", "sigmoid_()", "pow_(2)", "fill_(s)", "fill_(1.5)", "zero_()",
    "copy_(s)", "abs_()", "relu_()", "lerp_(s * m.ones_like({t}), 0.3)", "masked_fill_({t}.detach() > 0.5, 0.25)", "addcmul_(s, s)", "cumsum_(0)",
)  # fmt: skip


def program(rng: random.Random) -> list[str]:
    """The statements of a program over X (3, 4), w (4) and s, which write to y and its views and add to `total`."""
    lines, views = [rng.choice(STARTS)], []
    for _ in range(rng.randint(3, 9)):
        t = rng.choice(["y", *views, *views])
        part, row, value = rng.choice(PARTS), rng.randint(0, 2), rng.choice(SCALARS)
        views_before = len(views)
        choices = [
            (22, f"{t}{part} = {value}"),
            (8, f"{t}[{row}] = {rng.choice(ROWS)}"),
            (15, f"{t}{part} {rng.choice('+*-/')}= {value}"),
            (5, f"{t}[{row}] += {rng.choice(ROWS)}"),
            (10, f"{t}.{rng.choice(CALLS).format(t=t)}"),
            (12, f"v{views_before} = {t}{rng.choice(VIEWS)}"),
            (8, f"total = total + ({t} * {t}).sum()"),
            (6, f"total = total + {t}.sum() * s"),
            (4, "y[:2] = y[1:].clone() * s"),
            (3, "y[0] = y[1]"),
            (3, f"{t} += {t}.clone()"),
            (4, f"with m.no_grad(): {t}.mul_(1.5)"),
        ]
        weights, texts = zip(*choices, strict=True)
        lines.append(rng.choices(texts, weights)[0])
        if lines[-1].startswith("v"):
            views.append(f"v{views_before}")
    return [*lines, "total = total + y.sin().sum()", *(f"total = total + ({v} * 1.5).sum()" for v in views if rng.random() < 0.5)]


def outcome(m, lines: list[str], twice: bool):
    """(what each statement raised, value, gradients or the refusal of the backward pass)."""
    values = [np.linspace(0.2, 1.3, 12).reshape(3, 4), [1.1, 0.7, 0.2, 0.6], 0.4]
    leaves = [m.tensor(v, dtype=m.float64, requires_grad=True) for v in values]
    names = dict(zip(("X", "w", "s"), leaves, strict=True), m=m, total=m.zeros((), dtype=m.float64))
    raised = []
    for line in lines:
        try:
            exec(line, names)
            raised.append("")
        except (RuntimeError, IndexError, TypeError, NameError) as error:
            raised.append(type(error).__name__ + (" leaf" if "leaf Variable" in str(error) else ""))
    try:
        if twice:
            grads = m.autograd.grad(names["total"], leaves, create_graph=True, allow_unused=True)
            grads = [g for g in grads if g is not None and g.requires_grad]
            if grads:
                m.autograd.backward(sum((g * g).sum() for g in grads))
        else:
            names["total"].backward()
        found = [None if leaf.grad is None else leaf.grad.detach().numpy().copy() for leaf in leaves]
    except RuntimeError:
        found = ["refused"]
    return raised, [names["y"].detach().numpy().copy(), float(names["total"].detach())], found


def alike(a, b) -> bool:
    if a[0] != b[0] or len(a[2]) != len(b[2]) or a[2][0] is not b[2][0] and "refused" in (str(a[2][0]), str(b[2][0])):
        return False
    pairs = [*zip(a[1], b[1], strict=True), *(zip(a[2], b[2], strict=True) if len(a[2]) > 1 else ())]
    return all((u is None) == (v is None) and (u is None or np.allclose(u, v, equal_nan=True)) for u, v in pairs)


def mismatch(torch, seed: int) -> str:
    """What differs for the program of a seed, "" if nothing does.

    PyTorch refuses to write to a view that was made before its base required grad, as a leaf, until somebody has asked for its grad_fn: such
    programs are left out.
    """
    lines = program(random.Random(seed))
    for twice in (False, True):
        theirs = outcome(torch, lines, twice)
        if any("leaf" in name for name in theirs[0]):
            return ""
        for _ in range(3):
            ours = outcome(tg, lines, twice)
            if not alike(ours, theirs):
                return "\n".join([f"seed {seed}:", *lines, f"tapegrad {ours}", f"torch {theirs}"])
    return ""


if __name__ == "__main__":
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = [text for seed in range(options.seed, options.seed + options.count) if (text := mismatch(torch, seed))]
    print("\n\n".join([*found, f"{options.count} programs, {len(found)} differ"]))
