"""Owns the planted bugs: each check of the suite must catch the fault it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad.ops.registry import BY_NAME


class Wrong(tg.autograd.Function):
    """sin with a derivative that is slightly off."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos() * 1.0001


def test_wrong_derivative_is_caught(rng):
    with pytest.raises(AssertionError, match="first derivative"):
        support.check_against_differences(lambda m, x: Wrong.apply(x), [rng.uniform(-1, 1, 5)], rng)


def test_constant_derivative_is_caught_in_the_second_order(rng):
    with pytest.raises(AssertionError, match="second derivative"):
        support.check_against_differences(lambda m, x: DetachedGradient.apply(x), [rng.uniform(0.5, 1, 5)], rng)


class DetachedGradient(Wrong):
    """sin whose derivative forgets that it depends on x."""

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].detach().cos()


def test_wrong_text_in_a_record_is_caught(rng, monkeypatch):
    from tapegrad.ops import formulas

    monkeypatch.setattr(BY_NAME["sinh"], "grads", ("g * -cosh(x)",))
    for name in vars(formulas).values():
        if hasattr(name, "cache_clear"):
            name.cache_clear()
    try:
        # The compiled first derivative is older than the plant; the recorded one is made from the text.
        with pytest.raises(AssertionError):
            x = rng.uniform(-1, 1, 5)
            recorded = support.derivatives(tg, lambda m, t: t.sinh(), [x], [np.ones(5)], [np.ones(5)])[2][0]
            np.testing.assert_allclose(recorded, np.cosh(x))
    finally:
        for name in vars(formulas).values():
            if hasattr(name, "cache_clear"):
                name.cache_clear()


@pytest.mark.torch
@pytest.mark.parametrize("plant", [
    lambda m, x: x.double() * 2 if m is tg else x * 2,
    lambda m, x: x.unsqueeze(0) if m is tg else x,
    lambda m, x: x.t().contiguous().t() * 1 if m is tg else x * 1,
    lambda m, x: x * 1.001 if m is tg else x,
    lambda m, x: x.detach() * x if m is tg else x * x,
], ids=["dtype", "shape", "strides", "value", "gradient"])
def test_differences_from_torch_are_caught(plant, rng, torch):
    with pytest.raises(AssertionError):
        support.check_against_torch(plant, [rng.uniform(-1, 1, (2, 3)).astype(np.float32)], rng)


def test_stale_version_is_caught():
    x = tg.ones(2, requires_grad=True)
    y = x * 1.0
    z = y * y
    y.detach()[0] = 5.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_leak_is_caught():
    before = support.counts()
    leaked = tg.ones(3)
    assert support.counts() != before and leaked is not None
