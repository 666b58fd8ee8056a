"""The programs that are timed: each is written once, for any module with torch's names.

`make(m)` returns `(forward, leaves)`: `forward()` computes the loss, `leaves` are the tensors whose gradients are compared.
"""

from __future__ import annotations

import numpy as np


def _leaf(m, array):
    return m.tensor(array, dtype=m.float64, requires_grad=True)


def chain(m):
    """40 elementwise operations on an 8-vector."""
    x = _leaf(m, np.linspace(0.1, 1.0, 8))

    def forward():
        y = x
        for _ in range(10):
            y = (y * 0.5 + x) * x - 0.25
        return y.sum()

    return forward, [x]


def ode_loop(m):
    """50 Euler steps of Lotka-Volterra on 0-d tensors."""
    alpha, beta, gamma, delta = (_leaf(m, v) for v in (0.55, 0.028, 0.8, 0.024))

    def forward():
        u, v = alpha * 60.0, beta * 200.0
        for _ in range(50):
            u, v = u + (alpha - beta * v) * u * 0.05, v + (delta * u - gamma) * v * 0.05
        return u + v

    return forward, [alpha, beta, gamma, delta]


def rosenbrock(m):
    """Rosenbrock's function of 10 variables, by slices."""
    x = _leaf(m, np.linspace(-1.0, 1.5, 10))

    def forward():
        return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()

    return forward, [x]


def mlp(m):
    """An 8-16-2 network on a batch of 4, tanh, mean squared error."""
    r = np.random.default_rng(0)
    w1, b1, w2, b2 = (_leaf(m, r.standard_normal(s) * 0.3) for s in ((8, 16), (16,), (16, 2), (2,)))
    x, y = (m.tensor(r.standard_normal(s), dtype=m.float64) for s in ((4, 8), (4, 2)))

    def forward():
        h = m.tanh(x @ w1 + b1)
        return ((h @ w2 + b2 - y) ** 2).mean()

    return forward, [w1, b1, w2, b2]


def broadcasting(m):
    """A Gaussian kernel matrix of 8 points by broadcasting (8, 1) against (1, 8)."""
    x = _leaf(m, np.linspace(-1.0, 1.0, 8).reshape(8, 1))
    scale = _leaf(m, 0.7)

    def forward():
        d = x - x.t()
        return m.exp(-(d * d) * scale).sum()

    return forward, [x, scale]


SMALL = [chain, ode_loop, rosenbrock, mlp, broadcasting]


def large_polynomial(m, n=1_000_000):
    """Elementwise arithmetic on 1e6 elements."""
    x = _leaf(m, np.linspace(-1.0, 1.0, n))

    def forward():
        return (x * x * 0.5 + x).sum()

    return forward, [x]


def large_tanh(m, n=1_000_000):
    """tanh and exp on 1e6 elements."""
    x = _leaf(m, np.linspace(-2.0, 2.0, n))

    def forward():
        return (m.tanh(x) * m.exp(-x)).sum()

    return forward, [x]


def large_sin(m, n=1_000_000):
    """sin, log1p and sqrt on 1e6 elements."""
    x = _leaf(m, np.linspace(0.1, 2.0, n))

    def forward():
        return (m.sin(x) + m.log1p(x) * m.sqrt(x)).sum()

    return forward, [x]


def large_matmul(m, n=1024):
    """A 1024 x 1024 matrix product, forward and backward."""
    r = np.random.default_rng(0)
    a, b = (_leaf(m, r.standard_normal((n, n))) for _ in range(2))

    def forward():
        return (a @ b).sum()

    return forward, [a, b]


LARGE = [large_polynomial, large_tanh, large_sin, large_matmul]
