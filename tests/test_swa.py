"""Owns averaged models: the rules, buffers, state, and batch norms and learning rates for them."""

from __future__ import annotations

import copy
import pickle

import pytest

import tapegrad as tg
from tapegrad.optim import swa_utils


def model():
    return tg.nn.Sequential(tg.nn.Linear(2, 2, dtype=tg.float64), tg.nn.BatchNorm1d(2, dtype=tg.float64))


def updated(averaged, values):
    source = model()
    for value in values:
        with tg.no_grad():
            for t in (*source.parameters(), *source.buffers()):
                t.fill_(value)
        averaged.update_parameters(source)
    return [t.double().unique().tolist() for t in averaged.module.state_dict().values()]


RULES = {
    "none": ({}, [3.0], [6.0]),
    "swa": ({"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()}, [3.0], [6.0]),
    "swa of one": ({"avg_fn": swa_utils.get_swa_avg_fn()}, [3.0], [6.0]),
    "ema": ({"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.5)}, [3.75], [6.0]),
    "ema of one": ({"avg_fn": swa_utils.get_ema_avg_fn(0.5)}, [3.75], [6.0]),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averages(name, use_buffers):
    options, average, last = RULES[name]
    averaged = swa_utils.AveragedModel(model(), use_buffers=use_buffers, **options)
    found = updated(averaged, (1.0, 2.0, 6.0))
    assert found[:4] == [average] * 4
    assert found[4:6] == [average if use_buffers else last] * 2
    rounded = 3.0 if "ema" in name else 2.0  # the count of batches is an integer after each step
    assert found[6] == ([rounded] if use_buffers else last)
    assert averaged.n_averaged.item() == 3
    assert all(p.requires_grad and p.is_leaf for p in averaged.parameters())


def test_state_and_copies():
    averaged, other = swa_utils.AveragedModel(model()), swa_utils.AveragedModel(model())
    updated(averaged, (1.0, 2.0))
    assert other.load_state_dict(averaged.state_dict()) == ([], [])
    assert other.n_averaged.item() == 2
    assert updated(copy.deepcopy(other), (6.0,))[0] == [3.0]
    assert pickle.loads(pickle.dumps(averaged)).n_averaged.item() == 2
    assert tg.equal(averaged(tg.ones(3, 2, dtype=tg.float64)), averaged.module(tg.ones(3, 2, dtype=tg.float64)))


def test_errors():
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn should be provided"):
        swa_utils.AveragedModel(model(), avg_fn=swa_utils.get_swa_avg_fn(), multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=r"Invalid decay value 2 provided. Please provide a value in \[0,1\] range."):
            make(2)
    optimizer = tg.optim.SGD([tg.ones(1)])
    with pytest.raises(ValueError, match="anneal_strategy must be one of 'cos' or 'linear', instead got up"):
        swa_utils.SWALR(optimizer, 0.1, anneal_strategy="up")
    with pytest.raises(ValueError, match="anneal_epochs must be equal or greater than 0, got -1"):
        swa_utils.SWALR(optimizer, 0.1, anneal_epochs=-1)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x, None]])
def test_batch_norms_of_the_data(wrap):
    norm = tg.nn.BatchNorm1d(1, momentum=0.3)
    net = tg.nn.Sequential(norm).eval()
    swa_utils.update_bn([wrap(tg.tensor([[1.0], [3.0]])), wrap(tg.tensor([[4.0], [8.0]]))], net)
    assert norm.running_mean.tolist() == [4.0]
    assert norm.running_var.tolist() == [5.0]
    assert norm.momentum == 0.3
    assert not net.training


@pytest.mark.parametrize(("strategy", "half"), [("linear", 0.55), ("cos", 0.55)])
def test_rates(strategy, half):
    optimizer = tg.optim.SGD([{"params": [tg.ones(1)]}, {"params": [tg.ones(1)], "lr": 0.2}], lr=1.0)
    schedule = swa_utils.SWALR(optimizer, [0.1, 0.4], anneal_epochs=2, anneal_strategy=strategy)
    rates = [schedule.get_last_lr()]
    for _ in range(3):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    assert [r for r, _ in rates] == pytest.approx([1.0, half, 0.1, 0.1])
    assert [r for _, r in rates] == pytest.approx([0.2, 0.3, 0.4, 0.4])
    assert set(schedule.state_dict()) >= {"anneal_epochs", "_anneal_strategy", "last_epoch"}
