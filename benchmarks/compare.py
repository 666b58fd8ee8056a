"""Fair timing: verify first, then interleave the rivals in one process and take medians."""

from __future__ import annotations

import gc
import math
import time

import numpy as np


def step(forward, leaves):
    """One training step without an update: forward, backward, gradients cleared."""

    def run():
        forward().backward()
        for leaf in leaves:
            leaf.grad = None

    return run


def gradients(forward, leaves):
    loss = forward()
    loss.backward()
    result = [float(loss.detach())] + [np.asarray(leaf.grad.detach().numpy()).copy() for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    return result


def verify(make, modules, rtol=1e-9):
    """Raise unless all modules agree on the value and every gradient."""
    found = [gradients(*make(m)) for m in modules]
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


def once(run, number):
    start = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - start) / number


def interleaved(runs, rounds=15, budget=0.02, settle=0.0):
    """Median seconds per call of each of `runs`, measured in turn, each after `settle` seconds of running unmeasured."""
    numbers = []
    for run in runs:
        for _ in range(3):
            run()
        numbers.append(max(1, int(budget / max(once(run, 1), 1e-7))))
    samples: list[list[float]] = [[] for _ in runs]
    gc.disable()
    try:
        for _ in range(rounds):
            for k, run in enumerate(runs):
                since = time.perf_counter()
                while time.perf_counter() - since < settle:
                    run()
                samples[k].append(once(run, numbers[k]))
    finally:
        gc.enable()
    return [float(np.median(s)) for s in samples]


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def time_of(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
