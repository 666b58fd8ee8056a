"""Owns the story of the library in a few seconds: tensors, a gradient, training, second derivatives, an own function."""

import numpy as np
import pytest

import tapegrad as tg

pytestmark = pytest.mark.smoke


def test_gradient():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x**2).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_fit_a_line():
    xs = tg.linspace(-1, 1, 20, dtype=tg.float64)
    ys = 3 * xs - 0.5
    slope = tg.zeros((), dtype=tg.float64, requires_grad=True)
    offset = tg.zeros((), dtype=tg.float64, requires_grad=True)
    for _ in range(200):
        loss = ((slope * xs + offset - ys) ** 2).mean()
        loss.backward()
        with tg.no_grad():
            for parameter in (slope, offset):
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
    assert abs(slope.item() - 3) < 1e-6 and abs(offset.item() + 0.5) < 1e-6


def test_hidden_layer_against_numpy(rng):
    a, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    weight = tg.tensor(w, requires_grad=True)
    tg.tanh(tg.tensor(a) @ weight).sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), a.T @ (1 - np.tanh(a @ w) ** 2))


def test_second_derivative_of_a_loop():
    x = tg.tensor(0.5, dtype=tg.float64, requires_grad=True)
    y = x
    for _ in range(3):
        y = y * y  # x ** 8
    (g,) = tg.autograd.grad(y, x, create_graph=True)
    (h,) = tg.autograd.grad(g, x)
    assert abs(h.item() - 56 * 0.5**6) < 1e-12


def test_control_flow_and_views():
    x = tg.arange(6.0).reshape(2, 3).requires_grad_()
    y = x * 2
    y[0] = 1.0
    total = y.sum() if y[1, 2].item() > 5 else y.mean()
    total.backward()
    assert x.grad.tolist() == [[0, 0, 0], [2, 2, 2]]
