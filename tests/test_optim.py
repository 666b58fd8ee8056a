"""Owns the checks of optimizers and schedules: trajectories against PyTorch, state, errors, and compiled against plain updates."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import support

import tapegrad as tg

OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}), "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}), "dampened": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.5, "nesterov": True}), "up": ("SGD", {"lr": 0.01, "maximize": True}), "adam": ("Adam", {"lr": 0.1}),
    "adam decay": ("Adam", {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}), "adamw": ("AdamW", {"lr": 0.1, "betas": (0.8, 0.9)}),
    "adam up": ("Adam", {"lr": 0.1, "maximize": True}), "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
    "rmsprop": ("RMSprop", {"lr": 0.1}), "rmsprop all": ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    "adagrad fused": ("Adagrad", {"lr": 0.1, "fused": True}), "adadelta": ("Adadelta", {"lr": 0.5}),
    "adadelta all": ("Adadelta", {"rho": 0.7, "weight_decay": 0.1, "foreach": True, "maximize": True}),
    "adamax": ("Adamax", {"lr": 0.1}), "adamax all": ("Adamax", {"betas": (0.7, 0.8), "weight_decay": 0.1, "eps": 0.1, "maximize": True}),
    "nadam": ("NAdam", {"lr": 0.1}), "nadam all": ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
    "radam": ("RAdam", {"lr": 0.1, "betas": (0.9, 0.95)}), "radam all": ("RAdam", {"betas": (0.5, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "asgd": ("ASGD", {"lr": 0.1}), "asgd all": ("ASGD", {"lambd": 0.1, "alpha": 0.5, "t0": 2, "weight_decay": 0.1}),
    "rprop": ("Rprop", {"lr": 0.1}), "rprop all": ("Rprop", {"lr": 0.3, "etas": (0.3, 2.0), "step_sizes": (0.1, 0.5), "maximize": True}),
    "adam fused": ("Adam", {"fused": True, "lr": 0.1}), "adamw foreach": ("AdamW", {"foreach": True, "amsgrad": True}),
    "lbfgs": ("LBFGS", {"lr": 0.5, "max_iter": 5}), "lbfgs search": ("LBFGS", {"line_search_fn": "strong_wolfe", "history_size": 2}),
}  # fmt: skip


def trajectory(m, name, dtype, turned=False, steps=6):
    """The parameters after each step on a small non-linear problem."""
    kind, options = OPTIMIZERS[name]
    start = np.linspace(-1, 1, 12).reshape(3, 4)
    w = m.tensor(start.T.copy() if turned else start, dtype=dtype)
    w = (w.t() if turned else w).detach().requires_grad_()
    b = m.tensor(0.5, dtype=dtype, requires_grad=True)
    optimizer = getattr(m.optim, kind)([w, b], **options)
    result = []

    def closure():
        optimizer.zero_grad()
        loss = ((w * w + b).sin() + (w - b) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        if kind == "LBFGS":
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        result.append((support.value(w), support.value(b)))
    return result, optimizer


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_as_torch(name, dtype):
    torch = pytest.importorskip("torch")
    found, mine = trajectory(tg, name, getattr(tg, dtype))
    expected, theirs = trajectory(torch, name, getattr(torch, dtype))
    tolerance = 1e-9 if dtype == "float64" else 2e-4 if "lbfgs" in name else 2e-6
    for a, b in zip(found, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert repr(mine) == repr(theirs)
    for a, b in zip(mine.state_dict()["state"].values(), theirs.state_dict()["state"].values(), strict=True):
        assert set(a) == set(b) or "lbfgs" in name
        for key in set(a) & set(b):
            if hasattr(a[key], "shape") and "lbfgs" not in name:
                np.testing.assert_allclose(support.value(a[key]), support.value(b[key]), rtol=1e-5 if dtype == "float32" else 1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "fused" not in n])
def test_complex_parameters_as_torch(name):
    """Real and imaginary parts are optimized as elements of their own."""
    torch = pytest.importorskip("torch")
    kind, options = OPTIMIZERS[name]
    results = []
    for m in (tg, torch):
        w = m.tensor([1 + 2j, -0.5 + 0.1j, 3j], dtype=m.complex128, requires_grad=True)
        optimizer = getattr(m.optim, kind)([w], **options)

        def closure(m=m, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (w - (1 - 1j)).abs().pow(2).sum() + (w * w).real.sin().sum()
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)
        results.append(np.asarray(w.tolist()))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6 if kind == "LBFGS" else 1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RAdam"])
def test_differentiable_by_the_learning_rate_as_torch(name):
    torch = pytest.importorskip("torch")
    results = []
    for m in (tg, torch):
        lr = m.tensor(0.1, dtype=m.float64, requires_grad=True)
        start = m.tensor([1.0, -2.0], dtype=m.float64, requires_grad=True)
        p = start.clone()
        p.grad = (3 * start).detach()
        optimizer = getattr(m.optim, name)([p], lr=lr, differentiable=True)
        for _ in range(2):
            optimizer.step()
        results.append([g.tolist() for g in m.autograd.grad(p.sum(), [lr, start])])
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9, atol=1e-12)


def test_options_that_cannot_be_carried_out():
    p = tg.ones(2, requires_grad=True)
    p.grad = tg.ones(2)
    with pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be on supported devices"):
        tg.optim.RAdam([p], capturable=True).step()
    with pytest.raises(AssertionError, match="_foreach ops don't support autograd"):
        tg.optim.Adamax([p], foreach=True, differentiable=True).step()
    with pytest.raises(RuntimeError, match="`fused=True` requires all the params to be floating point Tensors"):
        z = tg.ones(2, dtype=tg.complex64, requires_grad=True)
        z.abs().sum().backward()
        tg.optim.Adam([z], fused=True).step()
    with pytest.raises(ValueError, match="lr as a Tensor is not supported for capturable=False and foreach=True"):
        tg.optim.Adam([p], lr=tg.tensor(0.1), foreach=True)
    with pytest.raises(ValueError, match="Invalid eta values: 1.1, 1.2"):
        tg.optim.Rprop([p], etas=(1.1, 1.2))


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if "lbfgs" not in n])
def test_compiled_updates_are_the_plain_ones(name):
    """A transposed parameter takes the way on tensors, a contiguous one the compiled loop."""
    compiled, _ = trajectory(tg, name, tg.float64)
    plain, _ = trajectory(tg, name, tg.float64, turned=True)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-12)


def test_differentiable_steps():
    w = tg.tensor([1.0, 2.0], dtype=tg.float64, requires_grad=True)
    lr = 0.1
    inner = w * 1.0
    inner.retain_grad()
    (inner * inner).sum().backward(retain_graph=True)
    optimizer = tg.optim.SGD([inner], lr=lr, differentiable=True)
    optimizer.step()
    (g,) = tg.autograd.grad(inner.sum(), w)
    np.testing.assert_allclose(support.value(g), [1.0, 1.0])


def test_update_counts_as_a_change_in_place():
    w = tg.ones(3, requires_grad=True)
    y = (w * w).sum()
    w.grad = tg.ones(3)
    tg.optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_state_dict_goes_over(rng):
    def build():
        w = tg.tensor([1.0, -2.0], requires_grad=True)
        return w, tg.optim.Adam([w], lr=0.1)

    w, optimizer = build()
    for _ in range(3):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    other, second = build()
    other.data.copy_(w.data)
    second.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    for v, o in ((w, optimizer), (other, second)):
        o.zero_grad()
        (v * v).sum().backward()
        o.step()
    assert tg.equal(w, other) and second.state[other]["step"].item() == 4
    assert copy.deepcopy(optimizer.state_dict())["param_groups"][0]["betas"] == (0.9, 0.999)


def test_groups_and_closures():
    a, b = tg.ones(1, requires_grad=True), tg.ones(1, requires_grad=True)
    optimizer = tg.optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.1)
    (a + b).sum().backward()
    assert optimizer.step(lambda: 5) == 5
    assert a.item() == 0 and b.item() == pytest.approx(0.9)
    seen = []
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(type(o)))
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == [tg.optim.SGD]


ERRORS = {
    "empty": (lambda: tg.optim.SGD([], lr=0.1), ValueError, "optimizer got an empty parameter list"),
    "tensor": (lambda: tg.optim.SGD(tg.ones(1), lr=0.1), TypeError,
               "params argument given to the optimizer should be an iterable of Tensors or dicts, but got tapegrad.FloatTensor"),
    "negative": (lambda: tg.optim.SGD([tg.ones(1)], lr=-1), ValueError, "Invalid learning rate: -1"),
    "non-leaf": (lambda: tg.optim.SGD([tg.ones(1, requires_grad=True) * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    "set": (lambda: tg.optim.SGD([{"params": {tg.ones(1)}}]), TypeError,
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will change between runs. "
            "Please use a list instead."),
    "nesterov": (lambda: tg.optim.SGD([tg.ones(1)], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
    "beta": (lambda: tg.optim.Adam([tg.ones(1)], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    "no closure": (lambda: tg.optim.LBFGS([tg.ones(1)]).step(), TypeError, "LBFGS.step() missing 1 required positional argument: 'closure'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    support.check_error(*ERRORS[name])


SCHEDULES = {  # name: class and arguments
    "step": ("StepLR", {"step_size": 2, "gamma": 0.5}), "milestones": ("MultiStepLR", {"milestones": [2, 5]}), "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "constant": ("ConstantLR", {"total_iters": 3}), "linear": ("LinearLR", {"total_iters": 4}), "cosine": ("CosineAnnealingLR", {"T_max": 3, "eta_min": 0.01}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}), "factors": ("MultiplicativeLR", {"lr_lambda": [lambda epoch: 0.9, lambda epoch: 1 / epoch]}),
    "polynomial": ("PolynomialLR", {"total_iters": 6, "power": 2.0}), "triangles": ("CyclicLR", {"base_lr": 0.1, "max_lr": [0.5, 0.7], "step_size_up": 2}),
    "shrinking triangles": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 1, "step_size_down": 2, "mode": "triangular2"}),
    "exponential triangles": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "mode": "exp_range", "gamma": 0.9, "cycle_momentum": False}),
    "scaled triangles": ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "scale_fn": lambda x: 1 / (1 + x), "scale_mode": "iterations"}),
    "one cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 9}),
    "three phases": ("OneCycleLR", {"max_lr": [0.5, 0.2], "epochs": 2, "steps_per_epoch": 6, "three_phase": True, "anneal_strategy": "linear"}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 2}), "longer restarts": ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 2, "eta_min": 0.01}),
}  # fmt: skip


def groups(m):
    """An optimizer with two groups."""
    params = [m.ones(1, requires_grad=True) for _ in range(2)]
    return m.optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 0.1}], lr=0.3, momentum=0.9)


def rates_of(schedule, steps, *arguments):
    """What the schedule sets in so many steps: rates and momenta; its state goes over on the way."""
    optimizer, values = schedule.optimizer, []
    for n in range(steps):
        optimizer.step()
        schedule.step(*(a[n] for a in arguments))
        values.append([schedule.get_last_lr(), [(group["lr"], group["momentum"]) for group in optimizer.param_groups]])
        if n == steps // 2:
            schedule.load_state_dict(copy.deepcopy(schedule.state_dict()))
    return values


@pytest.mark.torch
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_as_torch(name):
    torch = pytest.importorskip("torch")
    kind, options = SCHEDULES[name]
    found, expected = (rates_of(getattr(m.optim.lr_scheduler, kind)(groups(m), **options), 9) for m in (tg, torch))
    assert found == expected


@pytest.mark.torch
@pytest.mark.parametrize("options", [{"T_0": 2}, {"T_0": 2, "T_mult": 3}])
def test_restarts_at_fractions_of_epochs_as_torch(options):
    torch = pytest.importorskip("torch")
    epochs = [0.3, 1.7, 2.0, 5.5, 7.25, 30]
    found, expected = (rates_of(m.optim.lr_scheduler.CosineAnnealingWarmRestarts(groups(m), **options), 6, epochs) for m in (tg, torch))
    assert found == expected


@pytest.mark.torch
def test_schedules_of_schedules_as_torch():
    torch = pytest.importorskip("torch")

    def compound(m, kind):
        optimizer, s = groups(m), m.optim.lr_scheduler
        parts = [s.ConstantLR(optimizer, 0.1, total_iters=2), s.ExponentialLR(optimizer, 0.9), s.StepLR(optimizer, 2)]
        return s.SequentialLR(optimizer, parts, milestones=[2, 5]) if kind == "sequential" else s.ChainedScheduler(parts)

    for kind in ("sequential", "chained"):
        found, expected = (rates_of(compound(m, kind), 9) for m in (tg, torch))
        assert found == expected


@pytest.mark.torch
@pytest.mark.parametrize("options", [
    {"patience": 1}, {"mode": "max", "patience": 0, "cooldown": 2, "min_lr": [0.02, 0.05]}, {"patience": 0, "threshold": 0.2, "threshold_mode": "abs"},
    {"mode": "max", "threshold": 0.1, "patience": 1, "factor": 0.5, "threshold_mode": "abs"}, {"eps": 0.05, "patience": 0},
])  # fmt: skip
def test_plateaus_as_torch(options):
    torch = pytest.importorskip("torch")
    losses = [1.0, 0.9, 0.95, 0.95, 0.95, 1.2, 0.5, 0.7, 0.7, 0.7, 0.71, 0.72]
    found, expected = (rates_of(m.optim.lr_scheduler.ReduceLROnPlateau(groups(m), **options), 12, losses) for m in (tg, torch))
    assert found == expected


def test_a_rate_that_is_a_tensor_stays_that_tensor():
    lr = tg.tensor(0.5, dtype=tg.float64)
    optimizer = tg.optim.Adam([tg.ones(1, requires_grad=True)], lr=lr)
    schedule = tg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for _ in range(2):
        optimizer.step()
        schedule.step(1.0)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.05)


def test_schedules_say_what_is_wrong():
    s, optimizer = tg.optim.lr_scheduler, groups(tg)
    plain = tg.optim.Adagrad([tg.ones(1, requires_grad=True)])
    with pytest.raises(ValueError, match="You must define either total_steps OR"):
        s.OneCycleLR(optimizer, 0.1, epochs=2)
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1 with `cycle_momentum` option enabled"):
        s.CyclicLR(plain, 0.1, 0.2)
    with pytest.raises(ValueError, match="max_lr must have the same length as optimizer.param_groups. max_lr has 3 values, param_groups has 2."):
        s.CyclicLR(optimizer, 0.1, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="SequentialLR expects all schedulers to belong to the same optimizer"):
        s.SequentialLR(optimizer, [s.StepLR(plain, 1)], [])
    with pytest.raises(ValueError, match="ChainedScheduler does not support `ReduceLROnPlateau`"):
        s.ChainedScheduler([s.ReduceLROnPlateau(optimizer)])
    with pytest.raises(TypeError, match="lr_lambda should be a function, but got int"):
        s.MultiplicativeLR(optimizer, 3)
    with pytest.raises(ValueError, match="Tried to step 3 times. The specified number of total steps is 2"):
        rates_of(s.OneCycleLR(optimizer, 0.1, total_steps=2), 3)


def test_a_schedule_before_the_optimizer_warns():
    schedule = tg.optim.lr_scheduler.StepLR(tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0), 1)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step"):
        schedule.step()
