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
from small_cases import DATA, IN_PLACE, INDEX, WITH_GRADIENT, WITHOUT_GRADIENT
from small_plumbing import plumbing

import tapegrad as tg


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
        found.append([weighted, *(leaf.grad for leaf in leaves if leaf.grad is not None)])
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
