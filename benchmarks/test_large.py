"""The large programs with one thread and with two, against torch with as many, and what the second thread gains.

    pytest benchmarks/test_large.py
    python benchmarks/test_large.py      # the same as a table
"""

from __future__ import annotations

import importlib
import importlib.util

import pytest
from compare import interleaved, step, time_of, verify
from workloads import LARGE

import tapegrad as tg
from tapegrad import memory

THREADS = [1, 2]


@pytest.fixture(autouse=True)
def threads_restored():
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def modules():
    return [tg] + ([importlib.import_module("torch")] if importlib.util.find_spec("torch") else [])


def measure(make, rounds=9):
    """{threads: [seconds of a training step per module]}; values and gradients agree at each count."""
    result = {}
    for count in THREADS:
        for module in modules():
            module.set_num_threads(count)
        verify(make, modules())
        # torch's OpenMP threads go on spinning for some milliseconds after their work, on the cores that the next one measured needs, and
        # threads that have slept take some milliseconds to be spread over the cores again.
        result[count] = interleaved([step(*make(m)) for m in modules()], rounds, settle=0.04)
    return result


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("make", LARGE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["tapegrad", "torch"])
@pytest.mark.filterwarnings("ignore")
def test_large(benchmark, name, make, threads):
    if threads > memory.default_threads():
        pytest.skip(f"needs {threads} cores")
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    for module in modules():
        module.set_num_threads(threads)
    verify(make, modules())
    benchmark.group = f"{make.__name__}, {threads} threads"
    benchmark.pedantic(step(*make(importlib.import_module(name))), rounds=9, warmup_rounds=2)


def table(rounds=9) -> str:
    with_torch = len(modules()) > 1
    heads = [f"{m.__name__}, {n} thread{'s' if n > 1 else ''}" for n in THREADS for m in modules()]
    heads += [f"ratio, {n}" for n in THREADS] if with_torch else []
    heads += [f"{m.__name__}: 2 threads gain" for m in modules()]
    lines = ["| program | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for make in LARGE:
        found = measure(make, rounds)
        cells = [time_of(t) for n in THREADS for t in found[n]]
        cells += [f"{found[n][1] / found[n][0]:.1f}x" for n in THREADS] if with_torch else []
        cells += [f"{found[1][k] / found[2][k]:.2f}x" for k in range(len(modules()))]
        lines.append("| " + " | ".join([make.__doc__.strip().rstrip("."), *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    before = tg.get_num_threads()
    print(table())
    tg.set_num_threads(before)
