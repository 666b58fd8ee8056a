"""The allocator: an allocation and its release per size class, and that a steady training loop neither grows nor asks the system.

    pytest benchmarks/test_allocator.py
"""

from __future__ import annotations

import gc
import importlib.util

import numpy as np
import pytest
import workloads
from compare import step

import tapegrad as tg
from tapegrad import memory

SIZES = [64, 256, 1024, 4096, 5120, 65536, 1 << 20, 1 << 24]  # bytes; powers of two up to 4 KiB are slab classes
MODULES = ["tapegrad", "torch", "numpy"]


def live():
    gc.collect()
    return memory.statistics()


def allocation(name, nbytes):
    """A function that allocates `nbytes` and releases them."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    module = importlib.import_module(name)
    empty, dtype, count = module.empty, module.float64, nbytes // 8

    def run():
        empty(count, dtype=dtype)

    return run


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize("name", MODULES)
def test_allocate_and_release(benchmark, name, nbytes):
    before = live()["bytes_live"]
    block = tg.empty(nbytes // 8, dtype=tg.float64)
    assert live()["bytes_live"] - before == nbytes
    block.fill_(1.5)
    assert float(block.sum()) == 1.5 * (nbytes // 8)
    del block
    assert live()["bytes_live"] == before
    benchmark.group = f"{nbytes} bytes"
    benchmark(allocation(name, nbytes))
    if name == "tapegrad":
        assert live()["bytes_live"] == before


@pytest.mark.parametrize("name", MODULES)
def test_many_at_once(benchmark, name):
    """1000 blocks of mixed sizes alive together, released in the order of their allocation."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    module = importlib.import_module(name)
    counts = [int(c) for c in np.random.default_rng(0).integers(1, 2000, 1000)]

    def run():
        blocks = [module.empty(c, dtype=module.float64) for c in counts]
        blocks.reverse()
        while blocks:
            blocks.pop()

    run()
    before = live()
    benchmark.group = "1000 blocks"
    benchmark(run)
    after = live()
    assert [after[k] for k in ("bytes_live", "slots_live")] == [before[k] for k in ("bytes_live", "slots_live")]


@pytest.mark.parametrize("make", [*workloads.SMALL, workloads.large_polynomial], ids=lambda make: make.__name__)
def test_steady_training_loop(benchmark, make):
    """What is held after a step is the same after every step."""
    forward, leaves = make(tg)
    run = step(forward, leaves)
    held = ("bytes_live", "bytes_peak", "bytes_cached", "slots_live", "entries_live", "tape_length")
    for _ in range(20):
        run()
    before = live()
    for _ in range(100):
        run()
    after = live()
    assert {k: after[k] for k in held} == {k: before[k] for k in held}
    benchmark.group = "training step"
    benchmark(run)
    after = live()
    assert {k: after[k] for k in held} == {k: before[k] for k in held}
