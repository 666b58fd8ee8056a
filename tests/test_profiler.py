"""Owns labelled ranges of time: what is collected, by whom, and that nothing is without a profile."""

import threading

import pytest

import tapegrad as tg
from tapegrad.autograd.profiler import profile, record_function


def test_without_a_profile_nothing_happens():
    with record_function("a") as label:
        y = tg.ones(1)
    assert y.tolist() == [1.0] and not label._open


def test_nested_ranges_and_decorated_functions():
    @record_function("f")
    def f(depth):
        return f(depth - 1) + 1 if depth else tg.ones(1)

    with profile() as p:
        with record_function("outer"):
            f(2)
        f(0)
    f(1)  # after the profile
    rows = {a.key: a for a in p.key_averages()}
    assert list(rows) == ["outer", "f"] and rows["f"].count == 4 and rows["outer"].count == 1
    assert rows["outer"].cpu_time_total >= p.function_events[0].cpu_time >= 0
    assert sorted(e.depth for e in p.function_events) == [0, 0, 1, 2, 3]
    assert p.total_average().count == 2
    assert p.key_averages().table("count").splitlines()[1].startswith("f ")


def test_threads_and_errors():
    def work():
        with record_function("thread"):
            pass

    with profile() as p:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with pytest.raises(ValueError), record_function("fails"):
            raise ValueError
        with pytest.raises(RuntimeError, match="not reentrant"):
            p.__enter__()
    assert [a.key for a in p.key_averages()] == ["thread", "fails"]
    assert not profile(enabled=False).__enter__().function_events
