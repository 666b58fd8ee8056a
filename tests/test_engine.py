"""Owns the checks of slots, buffers and tape: nothing grows, nothing recurses, nothing is released twice."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import memory


def settled():
    gc.collect()
    return support.counts()


def test_operations_without_backward_run_in_constant_memory():
    x = tg.ones(4, requires_grad=True)
    y = x * 1.0
    for _ in range(1000):
        y = y * 0.5 + x
    y = x * 1.0
    before, length = settled(), memory.statistics()["tape_length"]
    for _ in range(50_000):
        x * 0.5
    assert settled() == before
    assert memory.statistics()["tape_length"] <= length + 64


def test_training_steps_run_in_constant_memory_and_rewind_the_tape():
    w = tg.ones(3, 3, requires_grad=True)
    x = tg.ones(2, 3)

    def step():
        loss = (tg.tanh(x @ w) ** 2).mean()
        loss.backward()
        with tg.no_grad():
            w.sub_(w.grad, alpha=0.01)
        w.grad = None

    for _ in range(10):
        step()
    before, length = settled(), memory.statistics()["tape_length"]
    for _ in range(5000):
        step()
    assert settled() == before
    assert memory.statistics()["tape_length"] == length


def test_distinct_python_numbers_do_not_accumulate():
    x = tg.ones(2)
    for k in range(20_000):
        x * (k + 0.125)
    before = settled()
    for k in range(20_000):
        x * (k + 0.375)
    after = settled()
    assert after["slots_live"] <= before["slots_live"] + 4096


def test_deep_chain_backward_and_deletion_do_not_recurse():
    x = tg.ones(2, dtype=tg.float64, requires_grad=True)
    y = x * 1.0
    before = settled()
    z = y
    for _ in range(100_000):
        z = z * 1.0
    (g,) = tg.autograd.grad(z.sum(), x, retain_graph=True)
    assert g.tolist() == [1.0, 1.0]
    del z, g
    assert settled()["entries_live"] == before["entries_live"]


def test_outputs_dropped_in_random_order(rng):
    x = tg.ones(3, requires_grad=True)
    _ = x * 0.5 + 1.5
    del _
    before = settled()
    live = [x * 0.5 for _ in range(2000)]
    live += [a + b for a, b in zip(live[::2], live[1::2])]
    live += [a.view(3, 1) for a in live[:500]]
    random.Random(1).shuffle(live)
    while live:
        live.pop()
    assert settled() == before


def test_random_creation_use_and_deletion():
    draw = random.Random(7)
    x = tg.ones(4, dtype=tg.float64, requires_grad=True)
    live: list = []
    mirror: list = []
    for _ in range(5000):
        kind = draw.random()
        if kind < 0.35 or not live:
            n = draw.uniform(-1, 1)
            live.append(x.detach() * n if draw.random() < 0.5 else x * n)
            mirror.append(np.full(4, n))
        elif kind < 0.6:
            i, j = draw.randrange(len(live)), draw.randrange(len(live))
            live.append(tg.tanh(live[i] + live[j]))
            mirror.append(np.tanh(mirror[i] + mirror[j]))
        elif kind < 0.7:
            i = draw.randrange(len(live))
            live.append(live[i].flip(0)[1:3].repeat(2))
            mirror.append(np.tile(mirror[i][::-1][1:3], 2))
        elif kind < 0.75 and live[-1].requires_grad:
            tg.autograd.grad(live[-1].sum(), x, retain_graph=True)
        else:
            i = draw.randrange(len(live))
            live.pop(i), mirror.pop(i)
        if len(live) > 200:
            del live[::2], mirror[::2]
    for a, b in zip(live, mirror, strict=True):
        np.testing.assert_allclose(support.value(a), b, rtol=1e-12, atol=1e-12)


def test_tape_is_compacted_around_a_survivor():
    x = tg.ones(2, requires_grad=True)
    first = x * 2
    for k in range(20):
        for _ in range(2000):
            y = x * 0.5
        kept = y * first
    kept.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert memory.statistics()["entries_live"] < 100


def test_foreign_memory_is_shared_and_released():
    import weakref

    class Owner(np.ndarray):
        pass

    array = np.zeros(1000).view(Owner)
    watch = weakref.ref(array)
    t = tg.from_numpy(array)
    array[3] = 5
    assert t[3].item() == 5
    t[4] = 7
    assert array[4] == 7
    view = t[2:5]
    del array, t
    gc.collect()
    assert view.tolist() == [0, 5, 7]
    del view
    gc.collect()
    assert watch() is None


def test_numpy_keeps_the_tensor_alive():
    t = tg.ones(1000)
    array = t[10:20].numpy()
    del t
    gc.collect()
    junk = [tg.zeros(1000) for _ in range(50)]
    assert array.sum() == 10 and junk


def test_threads_record_and_differentiate_at_once():
    found, errors = {}, []

    def work(seed):
        try:
            x = tg.tensor([float(seed), 2.0], dtype=tg.float64, requires_grad=True)
            total = np.zeros(2)
            for _ in range(300):
                y = (tg.tanh(x * 0.5) ** 2).sum()
                total = total + support.value(tg.autograd.grad(y, x)[0])
            found[seed] = total
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for seed, total in found.items():
        x = np.array([seed, 2.0]) * 0.5
        np.testing.assert_allclose(total, 300 * np.tanh(x) * (1 - np.tanh(x) ** 2), rtol=1e-10)


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: seen.append((tg.ones(1, requires_grad=True) * 2).requires_grad))
        thread.start()
        thread.join()
        assert not (tg.ones(1, requires_grad=True) * 2).requires_grad
    assert seen == [True]


FORK = """
import os, tapegrad as tg
x = tg.ones(300_000, requires_grad=True)
(x * 2).sum().backward()
pid = os.fork()
if pid == 0:
    y = (x * 3).sum(); y.backward()
    os._exit(0 if y.item() == 900_000 and x.grad[0].item() == 5 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert x.grad[0].item() == 2
"""


def test_fork_after_use():
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("make", [lambda: tg.ones(3) * 2, lambda: tg.cat([tg.ones(3), tg.ones(2)]), lambda: tg.ones(2, 3).sum(1), lambda: tg.ones(4, 4)[1:, ::2] @ tg.ones(2)])
def test_results_are_released(make):
    make()
    before = settled()
    for _ in range(100):
        make()
    assert settled() == before


def test_cached_plans_hold_no_tensor(holds_nothing):
    """Plans outlive the calls that make them; what they remember must not keep the first tensor, and its graph, alive."""
    x = tg.ones(5, 1, 3, 1, requires_grad=True) * 2
    y = [x.expand(2, 5, 7, 3, 1), x.squeeze(), x.squeeze(1), x.unsqueeze(0), x.transpose(0, 2), x.permute(3, 2, 1, 0), x.diagonal(0, 0, 2), x[1:3],
         x.narrow(2, 1, 2), x.unfold(0, 2, 2), x.reshape(15), x.flatten(), x.sum(2), x.mean((0, 2)), x.as_strided((3,), (2,)), *x.unbind(2), *x.split(2)]  # fmt: skip
    sum(t.sum() for t in y).backward()


def test_a_sweep_over_no_elements_leaves_nothing_for_the_next():
    """A pass over 0 elements counts as made; what it spent must not be freed in a later sweep, whose entries have the same numbers."""
    empty, x = tg.zeros(0, 3, requires_grad=True), tg.full((2, 3), 2.0, requires_grad=True)
    for _ in range(3):
        (empty.exp() * empty).sum().backward()
        (g,) = tg.autograd.grad((x**3).sum(), x, create_graph=True)
        (h,) = tg.autograd.grad(g.sum(), x)
        assert h.tolist() == [[12.0] * 3] * 2


@pytest.mark.parametrize("share", [lambda x: x.data, lambda x: x.detach(), lambda x: setattr(x, "data", x.data) or x])
def test_sharing_memory_again_and_again_makes_no_chain(share):
    x = share(tg.ones(4))
    before = settled()
    for _ in range(1000):
        x = share(x)
    assert settled()["slots_live"] <= before["slots_live"] + 1
    assert x.tolist() == [1.0] * 4


def test_data_knows_the_whole_memory():
    x = tg.arange(6.0)
    y = x[2:].data
    assert (y.storage_offset(), y._version) == (2, 0)
    assert y.as_strided((2,), (1,), 0).tolist() == [0.0, 1.0]
    y.add_(1)
    del x
    assert y.data.tolist() == [3.0, 4.0, 5.0, 6.0] and y._version == 1


def test_the_memory_of_data_may_grow_but_that_of_numpy_may_not():
    x = tg.ones(2)
    y = x.data
    y.resize_(100)
    assert y[:2].tolist() == [1.0, 1.0] and x.tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="not resizable"):
        tg.from_numpy(np.ones(2)).resize_(100)
