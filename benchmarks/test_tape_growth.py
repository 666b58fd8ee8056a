"""The cost of an entry as the tape grows, and of a small graph on top of a long tape that is alive: both must stay flat.

    pytest benchmarks/test_tape_growth.py
    python benchmarks/test_tape_growth.py            # the same as a table
    TAPEGRAD_BENCH_HUGE=1 python benchmarks/test_tape_growth.py    # with 10^7 entries, which need about 2 GB
"""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import pytest

import tapegrad as tg

LENGTHS = [10**3, 10**4, 10**5, 10**6] + ([10**7] if os.environ.get("TAPEGRAD_BENCH_HUGE", "0") not in ("", "0") else [])
A, X = 0.9, 0.2


def leaves():
    return [tg.tensor(v, dtype=tg.float64, requires_grad=True) for v in (A, X)]


def record(a, x, entries):
    """`y = y * a + x` from y = x: `entries` entries."""
    y = x
    for _ in range(entries // 2):
        y = y * a + x
    return y


def verify(entries):
    """Value and gradients against the recurrence and its derivatives."""
    a, x = leaves()
    y = record(a, x, entries)
    value, da, dx = X, 0.0, 1.0
    for _ in range(entries // 2):
        value, da, dx = value * A + X, da * A + value, dx * A + 1.0
    y.backward()
    np.testing.assert_allclose([float(y.detach()), float(a.grad), float(x.grad)], [value, da, dx], rtol=1e-9)


def rounds_for(entries):
    return max(3, min(200, 2_000_000 // entries))


def per_entry(entries, rounds=None):
    """Median ns per entry of recording and of backward."""
    a, x = leaves()
    samples = []
    for _ in range(rounds or rounds_for(entries)):
        a.grad = x.grad = None
        t0 = time.perf_counter()
        y = record(a, x, entries)
        t1 = time.perf_counter()
        y.backward()
        samples.append((t1 - t0, time.perf_counter() - t1))
        del y
    return np.median(samples, axis=0) * 1e9 / entries


@pytest.mark.parametrize("entries", LENGTHS)
def test_record(benchmark, entries):
    verify(entries)
    a, x = leaves()
    alive = []
    benchmark.group = "record"
    benchmark.pedantic(lambda: alive.append(record(a, x, entries)), setup=alive.clear, rounds=rounds_for(entries), warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["ns per entry"] = benchmark.stats.stats.median * 1e9 / entries


@pytest.mark.parametrize("entries", LENGTHS)
def test_backward(benchmark, entries):
    verify(entries)
    a, x = leaves()
    benchmark.group = "backward"

    def recorded():
        a.grad = x.grad = None
        return (record(a, x, entries),), {}

    benchmark.pedantic(lambda y: y.backward(), setup=recorded, rounds=rounds_for(entries), warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["ns per entry"] = benchmark.stats.stats.median * 1e9 / entries


# --- a small graph on a long tape ---------------------------------------------------------------------------------------
def small_step(a, x):
    record(a, x, 20).backward()
    a.grad = x.grad = None


@pytest.mark.parametrize("below", [0, *LENGTHS])
def test_small_graph_on_a_long_tape(benchmark, below):
    verify(20)
    held = record(*leaves(), below) if below else None
    a, x = leaves()
    benchmark.group = "20 entries on a long tape"
    benchmark(small_step, a, x)
    assert held is None or held.grad_fn is not None


def on_long_tape(below, rounds=31, number=200):
    """Median seconds of a small graph while `below` entries are alive, by one long chain."""
    held = record(*leaves(), below) if below else None
    a, x = leaves()
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(number):
            small_step(a, x)
        samples.append((time.perf_counter() - start) / number)
    del held
    return float(np.median(samples))


def table() -> str:
    heads = ["entries on the tape", "record, ns per entry", "backward, ns per entry", "20 more entries and their backward, µs"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entries in LENGTHS:
        verify(entries)
        gc.collect()
        forward, backward = per_entry(entries)
        lines.append(f"| {entries:.0e} | {forward:.1f} | {backward:.1f} | {on_long_tape(entries) * 1e6:.2f} |")
    lines.append(f"| none | | | {on_long_tape(0) * 1e6:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
