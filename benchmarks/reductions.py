"""Reductions, scans and softmax of 1000 x 1000 elements against torch, with one thread and with two.

    python benchmarks/reductions.py [REGEX]
"""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
from compare import geometric_mean, interleaved, time_of
from test_large import THREADS, modules

import tapegrad as tg

CASES = {
    "x.sum()": lambda x: x.sum(),
    "x.sum(0)": lambda x: x.sum(0),
    "x.sum(1)": lambda x: x.sum(1),
    "x.mean(0)": lambda x: x.mean(0),
    "x.amax()": lambda x: x.amax(),
    "x.amax((0,))": lambda x: x.amax((0,)),
    "x.amax((1,))": lambda x: x.amax((1,)),
    "x.max(0)": lambda x: x.max(0).values,
    "x.argmax()": lambda x: x.argmax(),
    "x.argmax(1)": lambda x: x.argmax(1),
    "x.prod()": lambda x: x.prod(),
    "x.var()": lambda x: x.var(),
    "x.var(0)": lambda x: x.var(0),
    "x.norm()": lambda x: x.norm(),
    "x.logsumexp(1)": lambda x: x.logsumexp(1),
    "x.softmax(0)": lambda x: x.softmax(0),
    "x.softmax(1)": lambda x: x.softmax(1),
    "x.cumsum(0)": lambda x: x.cumsum(0),
    "x.t().sum(0)": lambda x: x.t().sum(0),
}


def measure(f, dtype: str, threads: int, rounds=9) -> list[float]:
    """Seconds per module; the values agree."""
    array = np.random.default_rng(0).standard_normal((1000, 1000)).astype(dtype)
    runs = []
    for m in modules():
        m.set_num_threads(threads)
        runs.append(functools.partial(f, m.tensor(array)))
    found = [np.asarray(run().numpy()) for run in runs]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-9 if dtype == "float64" else 1e-4, atol=1e-9 if dtype == "float64" else 1e-3)
    return interleaved(runs, rounds, settle=0.02)  # see test_large.py


def table(pattern: str = "") -> str:
    names = [m.__name__ for m in modules()]
    lines = ["| call | dtype | " + " | ".join(f"{name}, {n} thread{'s' if n > 1 else ''}" for n in THREADS for name in [*names, "ratio"][: 3 if names[1:] else 1]) + " |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    ratios: dict[int, list[float]] = {n: [] for n in THREADS}
    for dtype in ("float64", "float32"):
        for text, f in CASES.items():
            if not re.search(pattern, text):
                continue
            cells = []
            for n in THREADS:
                found = measure(f, dtype, n)
                cells += [time_of(t) for t in found]
                if found[1:]:
                    ratios[n].append(found[1] / found[0])
                    cells.append(f"{ratios[n][-1]:.1f}x")
            lines.append("| " + " | ".join([f"`{text}`", dtype, *cells]) + " |")
    means = [f"{n} thread{'s' if n > 1 else ''} {geometric_mean(r):.2f}" for n, r in ratios.items() if r]
    return "\n".join([*lines, *(["", "Geometric means of torch's time over ours: " + ", ".join(means)] if means else [])])


if __name__ == "__main__":
    before = tg.get_num_threads()
    print(table(*sys.argv[1:2]))
    tg.set_num_threads(before)
