"""Owns the gradient scaler: the factor, the steps it skips, its state and its refusals; and that training with it is training without it."""

from __future__ import annotations

import copy
import pickle

import pytest

import tapegrad as tg
from tapegrad.amp import GradScaler

INF = float("inf")


def setup(**options):
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    return w, tg.optim.SGD([w], lr=0.5), GradScaler("cpu", **{"init_scale": 8.0, **options})


def iterate(w, optimizer, scaler, factor=1.0):
    optimizer.zero_grad()
    scaler.scale((w * w).sum() * factor).backward()
    result = scaler.step(optimizer)
    scaler.update()
    return result


def test_a_step_is_the_step_without_it():
    w, optimizer, scaler = setup()
    v = w.detach().clone().requires_grad_()
    plain = tg.optim.SGD([v], lr=0.5, momentum=0.9)
    optimizer.param_groups[0]["momentum"] = 0.9
    for k in range(5):
        iterate(w, optimizer, scaler, 0.1 * k)
        plain.zero_grad()
        ((v * v).sum() * (0.1 * k)).backward()
        plain.step()
        assert tg.equal(w, v) and tg.equal(w.grad, v.grad)


def test_a_gradient_that_is_not_finite_skips_the_step():
    w, optimizer, scaler = setup(backoff_factor=0.25)
    before = w.tolist()
    for factor in (INF, float("nan")):
        assert iterate(w, optimizer, scaler, factor) is None
    assert w.tolist() == before and scaler.get_scale() == 0.5
    iterate(w, optimizer, scaler)
    assert w.tolist() == [0.0, 0.0] and scaler.get_scale() == 0.5


def test_the_factor_grows():
    w, optimizer, scaler = setup(growth_factor=3.0, growth_interval=2)
    seen = []
    for factor in (1.0, 1.0, 1.0, INF, 1.0, 1.0):
        iterate(w, optimizer, scaler, factor)
        seen.append((scaler.get_scale(), scaler._get_growth_tracker()))
    assert seen == [(8.0, 1), (24.0, 0), (24.0, 1), (12.0, 0), (12.0, 1), (36.0, 0)]
    scaler.update(5.0)
    assert scaler.get_scale() == 5.0
    scaler.update(tg.tensor(7.0))
    assert scaler.get_scale() == 7.0
    largest = GradScaler("cpu", init_scale=3e38, growth_interval=1)
    iterate(tg.zeros(1, requires_grad=True), tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=1), GradScaler(enabled=False))
    x = tg.zeros(1, requires_grad=True)
    iterate(x, tg.optim.SGD([x], lr=1), largest)
    assert largest.get_scale() == pytest.approx(3e38)  # twice of it would be infinite


def test_clipping_between_unscale_and_step():
    w, optimizer, scaler = setup()
    scaler.scale((w * w).sum()).backward()
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [2.0, 4.0]
    with pytest.raises(RuntimeError, match="already been called on this optimizer since the last"):
        scaler.unscale_(optimizer)
    w.grad.clamp_(max=3.0)
    scaler.step(optimizer)
    assert w.tolist() == [0.0, 0.5]
    with pytest.raises(RuntimeError, match=r"unscale_\(\) is being called after step\(\)"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called since the last update\(\)"):
        scaler.step(optimizer)
    scaler.update()
    scaler.unscale_(optimizer)


def test_several_outputs():
    scaler = GradScaler("cpu", init_scale=2.0)
    a, b, c = scaler.scale((tg.ones(1), [tg.ones(2), tg.zeros(1)], tg.ones(1, dtype=tg.float64)))
    assert a.tolist() == [2.0] and [t.tolist() for t in b] == [[2.0, 2.0], [0.0]] and c.dtype is tg.float64
    assert [t.item() for t in scaler.scale(tg.ones(1) for _ in range(2))] == [2.0, 2.0]
    with pytest.raises(ValueError, match="outputs must be a Tensor or an iterable of Tensors"):
        scaler.scale(1.0)


def test_state():
    w, optimizer, scaler = setup(growth_interval=5)
    iterate(w, optimizer, scaler)
    state = scaler.state_dict()
    assert state == {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 5, "_growth_tracker": 1}
    fresh = GradScaler("cpu")
    fresh.load_state_dict(state)
    started = GradScaler("cpu")
    started.scale(tg.ones(1))
    started.load_state_dict(state)
    for other in (fresh, started, pickle.loads(pickle.dumps(scaler)), copy.deepcopy(scaler)):
        assert other.state_dict() == state
    with pytest.raises(RuntimeError, match="The source state dict is empty"):
        fresh.load_state_dict({})
    scaler.scale((w * w).sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled at the beginning"):
        pickle.dumps(scaler)
    scaler.set_growth_factor(4.0), scaler.set_backoff_factor(0.1), scaler.set_growth_interval(7)
    assert (scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()) == (4.0, 0.1, 7)


def test_not_enabled():
    with pytest.warns(UserWarning, match="CUDA is not available.  Disabling"):
        cuda = GradScaler()
    for scaler in (cuda, tg.GradScaler("cpu", enabled=False)):
        w = tg.tensor([1.0, 2.0], requires_grad=True)
        iterate(w, tg.optim.SGD([w], lr=0.5), scaler)
        assert w.tolist() == [0.0, 0.0] and scaler.get_scale() == 1.0 and not scaler.is_enabled() and scaler.state_dict() == {}
        scaler.load_state_dict({})


def test_refusals():
    w, optimizer, scaler = setup()
    for name, call in (("step", lambda: scaler.step(optimizer)), ("unscale_", lambda: scaler.unscale_(optimizer)), ("update", lambda: scaler.update())):
        with pytest.raises(AssertionError, match=f"Attempted {name} but _scale is None"):
            call()
    with pytest.raises(AssertionError, match="growth factor must be > 1.0"):
        GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(AssertionError, match="backoff factor must be < 1.0"):
        GradScaler("cpu", backoff_factor=1.0)
    scaler.scale(tg.ones(1))
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)
    scaler = setup()[2]
    scaler.scale(tg.ones(1))
    with pytest.raises(AssertionError, match="No inf checks were recorded prior to update"):
        scaler.update()
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        scaler.step(optimizer, closure=lambda: None)
    with pytest.raises(AssertionError, match="new_scale should be a float or a 1-element"):
        scaler.update(tg.ones(2))
    half = tg.ones(1, dtype=tg.float16, requires_grad=True)
    half.grad = tg.ones(1, dtype=tg.float16)
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(tg.optim.SGD([half], lr=1.0))


class Own(tg.optim.SGD):
    """An optimizer that divides its gradients itself."""

    _step_supports_amp_scaling = True

    def step(self, closure=None):
        self.seen = (self.grad_scale if self.grad_scale is None else self.grad_scale.item(), self.found_inf.item())


class Older(tg.optim.SGD):
    """The same, given the scaler."""

    _step_supports_amp_scaling = True

    def step(self, closure=None, grad_scaler=None):
        self.seen = (grad_scaler.get_scale(), *[f.item() for f in grad_scaler._check_inf_per_device(self).values()])


def test_optimizers_that_scale_themselves():
    w, _, scaler = setup()
    optimizer = Own([w], lr=0.5)
    scaler.scale((w * w).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.seen == (8.0, 0.0) and w.grad.tolist() == [16.0, 32.0] and not hasattr(optimizer, "grad_scale")
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.seen == (None, 0.0) and w.grad.tolist() == [2.0, 4.0]
    w.grad[0] = INF
    older = Older([w], lr=0.5)
    with pytest.warns(FutureWarning, match="GradScaler is going to stop passing itself"):
        scaler.step(older)
    scaler.update()
    assert older.seen == (8.0, 1.0) and scaler.get_scale() == 4.0
