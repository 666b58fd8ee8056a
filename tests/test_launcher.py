"""Owns how large work is divided: every share runs exactly once whatever the threads do, and results past the caches are the same results."""

import time

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.engine.bind import state_cell


@pytest.fixture
def any_work_is_large():
    """Two threads or more share even tiny work: shares of a few elements, and many launches."""
    tg.zeros(1)
    before, cost = tg.get_num_threads(), state_cell("parallel_cost")
    yield lambda count: (tg.set_num_threads(count), setattr(cost, "value", 1))
    tg.set_num_threads(before)


@pytest.fixture
def streamed():
    """Every result in order is written past the caches."""
    tg.zeros(1)
    cell = state_cell("streamed_bytes")
    before = cell.value
    cell.value = 1
    yield
    cell.value = before


@pytest.mark.parametrize("count", [2, 3, 7])
def test_every_share_runs_once(any_work_is_large, count):
    any_work_is_large(count)
    rng = np.random.default_rng(count)
    for n in [1, 2, 3, 5, 63, 64, 65, 1000, 2047, 2049, 4096, 100_003, *rng.integers(1, 300_000, 60)]:
        x = tg.arange(float(n), dtype=tg.float64)
        for _ in range(3):
            x.add_(1)  # an element of a share that ran twice would be one more
        assert np.array_equal(x.numpy(), np.arange(float(n)) + 3)


def test_workers_that_slept_are_woken(any_work_is_large):
    any_work_is_large(2)
    x = tg.zeros(50_000, dtype=tg.float64)
    for pause in (0, 1e-4, 1e-3, 0.02) * 5:
        time.sleep(pause)
        x.add_(1)
    assert x.eq(20).all()


def test_the_number_of_threads_may_change_between_launches(any_work_is_large):
    x = tg.zeros(100_000, dtype=tg.float64)
    counts = np.random.default_rng(0).integers(1, 7, 60)
    for k, count in enumerate(counts):
        any_work_is_large(int(count))
        x.add_(1)
        assert x.eq(k + 1).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1, 7, 127, 128, 129, 1000, 70_001])
def test_results_written_past_the_caches(any_work_is_large, streamed, n, threads):
    any_work_is_large(threads)
    a = np.linspace(-3, 3, n)
    for dtype in (tg.float64, tg.float32, tg.int8, tg.complex128, tg.float16):
        x = tg.tensor(a).to(dtype)
        v = x.numpy()
        assert np.array_equal((-x).numpy(), -v)
        assert np.array_equal((x + x).numpy(), v + v)
        assert np.array_equal((x * 2).numpy(), v * 2)
        assert np.array_equal((x == x.flip(0)).numpy(), v == v[::-1])
        y = x.clone()
        y.mul_(x)
        assert np.array_equal(y.numpy(), v * v)
        if n > 1:
            y = x.clone()
            y[1:].add_(x[1:])  # not at a boundary of 64 bytes
            assert np.array_equal(y[1:].numpy(), (v + v)[1:]) and y[0] == x[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_with_results_past_the_caches(any_work_is_large, streamed, threads):
    any_work_is_large(threads)
    x = tg.linspace(-1, 1, 40_001, dtype=tg.float64, requires_grad=True)
    (x * x * 0.5 + x).abs().sum().backward()
    v = x.detach().numpy()
    assert np.allclose(x.grad.numpy(), np.sign(v * v * 0.5 + v) * (v + 1))
