"""Owns the sweep's deferred passes over large tensors: they must give what the same derivatives give one at a time."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.engine.native.deferred import LEAST
from tapegrad.engine.native.tiles import CALLS, TILE

SIZES = (LEAST, LEAST + 1, LEAST + 3 * TILE - 5)
PROGRAMS = {
    "one use each": lambda x, y, c: (tg.exp(-x) * tg.sin(y)).sum(),
    "second uses are added": lambda x, y, c: (x * y + x / y + x * x).sum(),
    "shared cotangents": lambda x, y, c: ((x + y) * (x - y) + (x + y)).sum(),
    "a scalar that requires grad": lambda x, y, c: ((x * y).tanh() * c + x * c).sum(),
    "longer than the list of calls": lambda x, y, c: sum(((x * k).sin() for k in range(2, CALLS + 4)), y * x).sum(),
    "views between": lambda x, y, c: (x.reshape(1, -1) * y * c).sum() * x[3] + (x[1:] * x[:-1]).sum(),
    "reversed in the middle": lambda x, y, c: ((x.flip(0) * y).exp() * x).sum(),
    "a row against a column": lambda x, y, c: (x.reshape(-1, 1)[:300] * y[:100]).exp().sum() + (x * y).sum(),
    "two sizes": lambda x, y, c: ((x * y).sum() * (y[: LEAST - 1] * x[1:LEAST]).exp()).sum(),
    "a repeated element added to others": lambda x, y, c: (x * x * 0.5 + x).sum() + (y + y).sum(),
    "values that live for one tile": lambda x, y, c: (((x * 0.5).sin() * 2.0).exp() * y).sqrt().log().tanh().sum(),
    "in place": lambda x, y, c: (x * 1.0).mul_(y).sin_().mul_(x).sum(),
}


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = tg.get_num_threads()
    tg.set_num_threads(request.param)
    yield request.param
    tg.set_num_threads(before)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_same_gradients_as_one_pass_after_another(name, n, threads, rng):
    inputs = [tg.tensor(rng.uniform(0.5, 1.5, n), requires_grad=True) for _ in range(2)]
    inputs.append(tg.tensor(1.25, dtype=tg.float64, requires_grad=True))
    loss = PROGRAMS[name](*inputs)
    used = dict(allow_unused=True)
    wanted = tg.autograd.grad(loss, inputs, create_graph=True, **used)  # runs formulas on Tensors, one after another
    for retain in (True, False):
        found = tg.autograd.grad(loss, inputs, retain_graph=retain, **used)
        for g, w in zip(found, wanted, strict=True):
            assert (g is None) == (w is None)
            if g is not None:
                np.testing.assert_allclose(g.numpy(), w.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_hooks_and_retained_gradients_see_finished_values(rng):
    x = tg.tensor(rng.uniform(0.5, 1.5, LEAST), requires_grad=True)
    middle = x * x
    middle.retain_grad()
    seen = []
    other = middle.exp()
    other.register_hook(lambda g: seen.append(g.clone()))
    (other * x).sum().backward()
    np.testing.assert_array_equal(seen[0].numpy(), x.detach().numpy())
    np.testing.assert_allclose(middle.grad.numpy(), (x * middle.exp()).detach().numpy())


def test_memory_is_given_back(rng):
    x = tg.tensor(rng.uniform(0.5, 1.5, LEAST), requires_grad=True)

    def step():
        x.grad = None
        (x.exp() * x.sin() + x * x).sum().backward()

    step()
    before = tg.memory.statistics()
    for _ in range(50):
        step()
    after = tg.memory.statistics()
    assert {k: after[k] for k in ("bytes_live", "slots_live", "entries_live")} == {k: before[k] for k in ("bytes_live", "slots_live", "entries_live")}


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64", "complex128"])
def test_elements_of_every_size(dtype, threads):
    x = tg.linspace(0.5, 1.5, LEAST + 77, dtype=getattr(tg, dtype), requires_grad=True)
    whole = lambda v: (((v * 0.5).sin() * v).exp() * v).abs().float().sum()
    (found,) = tg.autograd.grad(whole(x), x)
    parts = [tg.autograd.grad(whole(part), part)[0] for part in x.detach().split(5000) for part in [part.requires_grad_()]]
    assert tg.equal(found, tg.cat(parts))
