"""Owns the checks of what optimizers and schedules are told: options that are tensors to be differentiated by, extreme options, old names."""

from __future__ import annotations

import pytest

import tapegrad as tg

OPTIONS = {
    "SGD": {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.7}, "Adam": {"lr": 0.1, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.9},
    "AdamW": {"lr": 0.1, "weight_decay": 0.3, "beta1": 0.8, "beta2": 0.9}, "Adamax": {"lr": 0.1, "weight_decay": 0.3},
    "NAdam": {"lr": 0.1, "beta1": 0.8, "beta2": 0.9}, "RAdam": {"lr": 0.1, "weight_decay": 0.3}, "Adagrad": {"lr": 0.1, "weight_decay": 0.3},
    "RMSprop": {"lr": 0.1, "weight_decay": 0.3}, "Adadelta": {"lr": 0.1, "weight_decay": 0.3},
}  # fmt: skip


@pytest.fixture
def double():
    """Counts and products of the state are of the default dtype."""
    tg.set_default_dtype(tg.float64)
    yield
    tg.set_default_dtype(tg.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_differentiable_step_has_the_gradient_of_every_option(name):
    names = list(OPTIONS[name])

    def train(start, *values):
        options = dict(zip(names, values, strict=True))
        if "beta1" in options:
            options["betas"] = (options.pop("beta1"), options.pop("beta2"))
        p = start.clone()
        optimizer = getattr(tg.optim, name)([p], differentiable=True, **options)
        for _ in range(3):
            now = p + 0  # the step writes over p itself
            loss = ((now * now).sum() - 3 * now.sum()).sin()
            (p.grad,) = tg.autograd.grad(loss, p, create_graph=True)
            optimizer.step()
        return p

    values = [tg.tensor(v, dtype=tg.float64, requires_grad=True) for v in OPTIONS[name].values()]
    assert tg.autograd.gradcheck(train, (tg.tensor([1.0, -0.3], dtype=tg.float64, requires_grad=True), *values))


def test_the_product_of_nadam_is_differentiated():
    def step(p, g, product):
        p = p.clone()
        p.grad = g
        optimizer = tg.optim.NAdam([p], lr=0.9, differentiable=True)
        ones = {name: tg.ones(2, dtype=tg.float64) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p].update(step=tg.tensor(10.0), mu_product=product.clone(), **ones)
        optimizer.step()
        return p, optimizer.state[p]["mu_product"]

    p, g = (tg.tensor(v, dtype=tg.float64, requires_grad=True) for v in ([1.0, 2.0], [0.5, -0.5]))
    assert tg.autograd.gradcheck(step, (p, g, tg.tensor(0.7, dtype=tg.float64, requires_grad=True)))


def test_options_of_a_step_that_is_not_differentiable_are_numbers():
    p = tg.tensor([1.0], requires_grad=True)
    p.grad = tg.tensor([1.0])
    lr = tg.tensor(0.5, requires_grad=True)
    tg.optim.SGD([p], lr=lr).step()
    assert p.is_leaf
    assert p.tolist() == [0.5]


def test_lbfgs_of_a_gradient_of_zero():
    p = tg.zeros(2, requires_grad=True)
    optimizer = tg.optim.LBFGS([p], tolerance_grad=-1.0)
    loss = optimizer.step(lambda: tg.tensor([10]))
    assert loss.tolist() == [10]
    assert p.tolist() == [0.0, 0.0]


def test_old_names_of_schedules():
    scheduler = tg.optim.lr_scheduler
    assert issubclass(scheduler._LRScheduler, scheduler.LRScheduler)
    optimizer = tg.optim.SGD([tg.ones(1, requires_grad=True)], lr=1.0)
    schedule = scheduler.StepLR(optimizer, 1)
    optimizer.step()
    with pytest.warns(UserWarning) as said:
        schedule.step(3)
    assert str(said[0].message) == scheduler.EPOCH_DEPRECATION_WARNING


@pytest.mark.parametrize(("mode", "factors"), [("triangular", [1.0, 1.0]), ("triangular2", [1.0, 0.5]), ("exp_range", [0.5, 0.25])])
def test_the_height_of_a_cycle_follows_the_mode_that_is_loaded(mode, factors):
    make = lambda **options: tg.optim.lr_scheduler.CyclicLR(tg.optim.Adam([tg.ones(1)]), 1, 5, cycle_momentum=False, gamma=0.5, **options)
    loaded = make()
    loaded.load_state_dict(make(mode=mode).state_dict())
    assert [loaded._scale_fn_ref(k) for k in (1, 2)] == factors
