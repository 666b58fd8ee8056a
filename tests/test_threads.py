"""Owns what several threads do at once: first calls on the same new shapes race for the caches that all threads share."""

import ctypes
import os
import sys
import threading

import numba
import numba.extending
import pytest
from llvmlite.binding import ffi

import tapegrad as tg
from tapegrad import core, geometry, locks
from tapegrad.engine import build
from tapegrad.ops import plan as plans
from tapegrad.ops.reshaping import view_op


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
    from tapegrad import modes

    def work(barrier):
        for n in range(300):
            measures(2 + n % 50)

    monkeypatch.setattr(plans, "LIMIT", 20)
    run_together(work)
    monkeypatch.undo()
    assert not modes.word() & modes.TEACHING
    x, seen = tg.ones(7), []
    remember = plans.remember
    monkeypatch.setattr(plans, "remember", lambda plan, teach: (seen.append(plan), remember(plan, teach)))
    for _ in range(5):
        x.sum()
    assert len(seen) <= 2


def test_fewer_threads_work_when_fewer_are_asked_for():
    """A kernel that writes down which thread runs it: the workers that were started for more threads must leave its shares alone."""
    thread_of_kernel = ctypes.CDLL(None).pthread_self
    thread_of_kernel.restype, thread_of_kernel.argtypes = ctypes.c_int64, []

    @numba.cfunc(numba.void(numba.int64, numba.int64, numba.int64))
    def kernel(args, start, stop):
        out = numba.carray(address_as_void_pointer(numba.carray(address_as_void_pointer(args), 1, numba.int64)[0]), stop, numba.int64)
        for i in range(start, stop):
            out[i] = thread_of_kernel()

    n = 1 << 16
    plan = plans.Plan(view_op, [(geometry.geometry((n,)), tg.int64.code)], kernel=kernel.address, n=n, cost=1 << 40, differentiable=0)
    before, x = tg.get_num_threads(), tg.zeros(n, dtype=tg.int64)
    try:
        for count in (2, 5, 2, 1):
            tg.set_num_threads(count)
            for _ in range(20):
                assert 1 <= len(set(core.apply(plan.address, x).tolist())) <= count
    finally:
        tg.set_num_threads(before)


@numba.extending.intrinsic
def address_as_void_pointer(typing_context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba.types.voidptr(address), generate


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("lock", ["starting", "tables", "compiler", "llvm"])
def test_a_fork_waits_for_a_thread_that_holds_a_lock(lock):
    """The child's copy of a lock that another thread holds would never open: what it guards could not be used again."""
    tg.ones(2).sum()
    held = getattr(locks, lock) if lock != "llvm" else ffi.lib._lock
    holding, done = threading.Event(), threading.Event()

    def hold():
        with held:
            holding.set()
            done.wait(0.1)  # nobody sets it: the time that the fork has to be early

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    child = os.fork()
    if child == 0:
        inner = getattr(held, "_lock", held)
        os._exit(0 if inner.acquire(timeout=10) else 1)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_kernels_are_loaded_and_compiled_under_the_lock(monkeypatch):
    seen = []
    create = build.llvm.create_mcjit_compiler
    monkeypatch.setattr(build.llvm, "create_mcjit_compiler", lambda *a: seen.append(locks.compiler._is_owned()) or create(*a))
    build.load()
    assert seen == [True]
