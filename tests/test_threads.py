"""Owns what several threads do at once: first calls on the same new shapes race for the caches that all threads share."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

import tapegrad as tg
from tapegrad.ops import plan as plans


@pytest.fixture
def eager_switching():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def measures(n: int) -> tuple:
    """Calls that fill the geometry, broadcast, plan and call caches for size `n`, with results that are known."""
    x = tg.ones(n, dtype=tg.float64, requires_grad=True)
    column = x.reshape(1, -1).t()
    total = (column * tg.ones(2, dtype=tg.float64)).sum() + x[1:].sum() + x.sum(0)
    (g,) = tg.autograd.grad(total, x)
    return total.item(), x[1:].sum().item(), x.sum().item(), tuple(column.shape), g[0].item(), g[-1].item()


def expected(n: int) -> tuple:
    return 4.0 * n - 1, n - 1.0, float(n), (n, 1), 3.0, 4.0


def run_together(work, count=2):
    failures = []

    def guarded(barrier):
        try:
            work(barrier)
        except Exception as error:
            failures.append(error)
            barrier.abort()

    barrier = threading.Barrier(count)
    threads = [threading.Thread(target=guarded, args=(barrier,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_first_calls_on_new_shapes_race(eager_switching):
    def work(barrier):
        for n in range(1100, 1400):
            barrier.wait()
            assert measures(n) == expected(n)

    run_together(work)
    assert all(measures(n) == expected(n) for n in range(1100, 1400))


def test_plans_are_dropped_while_others_call(eager_switching, monkeypatch):
    monkeypatch.setattr(plans, "LIMIT", 20)

    def work(barrier):
        for n in range(200):
            assert measures(2 + n % 50) == expected(2 + n % 50)

    run_together(work)


def test_calls_are_served_again_after_threads_have_taught_them(eager_switching, monkeypatch):
    """Two threads that teach the cache at once must not leave the engine in the state of teaching."""
    from tapegrad.engine.bind import state_cell

    def work(barrier):
        for n in range(300):
            measures(2 + n % 50)

    monkeypatch.setattr(plans, "LIMIT", 20)
    run_together(work)
    monkeypatch.undo()
    assert state_cell("teaching").value == 0
    x, seen = tg.ones(7), []
    remember = plans.remember
    monkeypatch.setattr(plans, "remember", lambda plan, teach: (seen.append(plan), remember(plan, teach)))
    for _ in range(5):
        x.sum()
    assert len(seen) <= 2


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads the processor time of threads from /proc")
def test_fewer_threads_work_when_fewer_are_asked_for():
    def ticks() -> dict:
        return {t: sum(map(int, Path(f"/proc/self/task/{t}/stat").read_text().rpartition(")")[2].split()[11:13])) for t in os.listdir("/proc/self/task")}

    before = tg.get_num_threads()
    x = tg.rand(1_000_000)
    try:
        tg.set_num_threads(2)
        x.sin()
        old = ticks()
        tg.set_num_threads(5)
        for _ in range(3):
            x.sin()
        tg.set_num_threads(2)
        earlier = {t: n for t, n in ticks().items() if t not in old}  # the workers that are too many now
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            x.sin()
        later = ticks()
        assert sum(later[t] - n for t, n in earlier.items()) < 15  # of 50 for one that works all the time
    finally:
        tg.set_num_threads(before)
