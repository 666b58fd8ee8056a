"""Owns the checks of what is left behind when something goes wrong in the middle: an interrupt, a failed allocation, a fork."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time

import pytest
import support

import tapegrad as tg
from tapegrad import core, geometry, kernels
from tapegrad.autograd import underway
from tapegrad.engine import bind, layout
from tapegrad.ops.registry import BY_NAME


class Double(tg.autograd.Function):
    """2 x."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Nested(tg.autograd.Function):
    """x, with a backward pass of its own in the derivative."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        with tg.enable_grad():
            y = tg.ones(3, requires_grad=True)
            (y * y).sum().backward()
        return g


def nothing_under_way() -> bool:
    return not core.sweeping.value and not underway.running and tg.is_grad_enabled()


def backward_works() -> None:
    assert nothing_under_way()
    x = tg.ones(3, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_an_exception_while_a_sweep_compiles_a_kernel_ends_the_sweep(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    x = tg.ones(3, requires_grad=True)
    y = (x.sin() * x).sum()
    rows = layout.OP.view(bind.state_cell("ops").value, bind.OPS)
    rows["derivative"][BY_NAME["sin"].code] = 0
    monkeypatch.setattr(kernels, "load_kernel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        y.backward()
    monkeypatch.undo()
    backward_works()
    assert (x * 2).requires_grad


def raising(*_):
    raise KeyboardInterrupt


@pytest.fixture
def alarm():
    """A handler of SIGALRM that raises as Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, raising)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_in_compiled_code_that_then_calls_a_hook(alarm):
    x = tg.rand(600, 600, requires_grad=True)
    y = x * 1.0
    y.register_hook(lambda g: g)
    loss = (y @ y @ y @ y).sum()
    with pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 1e-3)
        loss.backward()
        time.sleep(1)
    backward_works()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_anywhere_leave_no_pass_under_way(alarm):
    x = tg.ones(50, requires_grad=True)
    y = tg.ones(50, requires_grad=True)

    def hooked():
        z = x * y
        z.register_hook(lambda g: g * 2)
        z.sum().backward()

    programs = [
        hooked,
        lambda: Double.apply(x).sum().backward(),
        lambda: Nested.apply(x).sum().backward(),
        lambda: tg.autograd.grad((x * y).sum(), x),
        lambda: tg.autograd.grad((x * y * x).sum(), (x, y), create_graph=True)[0].sum().backward(),
    ]
    for program in programs:
        program()
    rng = random.Random(0)
    for k in range(3000):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 3e-4))
            programs[k % len(programs)]()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
        assert nothing_under_way()
        assert core.last_mark(core.entry_count.value) == -1
    backward_works()


def test_an_interrupt_while_a_geometry_is_made_is_repaired():
    tg.zeros(2, 6151)
    geometry.shapes.append(geometry.Size((1, 2)))  # as far as an interrupted one may have come
    x, y = tg.zeros(3, 6151), tg.zeros(6151, 3)
    assert tuple(x.shape) == (3, 6151) and x.stride() == (6151, 1) and x.numel() == 18453
    assert tuple(y.shape) == (6151, 3) and y.stride() == (3, 1)
    assert len(geometry.shapes) == len(geometry.strides) == len(geometry.numels) == len(geometry._ids) + 1


@pytest.fixture
def limit():
    """The cell of the allocator's limit."""
    cell = bind.state_cell("bytes_limit")
    before = cell.value
    yield cell
    cell.value = before


PROGRAMS = {
    "sums": lambda x, m: (x * x + x).tanh().sum(),
    "broadcasts": lambda x, m: (m * x + m).sum(),
    "means": lambda x, m: (m.mean() * x).sum(),
    "views": lambda x, m: (m[1:3].t() * m[2:4].t()).sum() + m[1].sum(),
    "products": lambda x, m: (m @ m.t()).sum(),
    "expands": lambda x, m: (x.expand(5, 4) * m).sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_running_out_of_memory_leaves_nothing_behind(name, limit):
    def run():
        x, m = tg.ones(4, requires_grad=True), tg.ones(5, 4, requires_grad=True)
        PROGRAMS[name](x, m).backward()
        return [None if t.grad is None else t.grad.tolist() for t in (x, m)]

    live, unlimited, expected = bind.state_cell("bytes_live"), limit.value, run()
    run()
    gc.collect()
    before, failures = support.counts(), 0
    while True:
        limit.value = live.value + 4 * failures
        try:
            result = run()
        except RuntimeError as error:
            assert "can't allocate memory" in str(error)
            failures += 1
            result = None
        limit.value = unlimited
        assert nothing_under_way()
        if result is not None:
            break
        assert support.counts() == before
    assert result == expected and failures > 10


def test_a_fork_while_another_thread_is_in_a_backward_pass():
    x = tg.ones(3, requires_grad=True)
    entered, leave = threading.Event(), threading.Event()

    def work():
        y = x * 2
        y.register_hook(lambda g: (entered.set(), leave.wait(), None)[-1])
        y.sum().backward()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    child = os.fork()
    if not child:
        signal.alarm(20)  # instead of a child that waits for ever
        try:
            backward_works()
            os._exit(0)
        except BaseException:
            os._exit(1)
    leave.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_threads_may_be_set_in_a_hook():
    before = tg.get_num_threads()
    try:
        x = tg.ones(3, requires_grad=True)
        y = x * 2
        y.register_hook(lambda g: tg.set_num_threads(before + 1))
        tg.autograd.grad(y.sum(), x)
        assert tg.get_num_threads() == before + 1
    finally:
        tg.set_num_threads(before)
