"""The small programs for the other ways to a gradient: JAX (jitted and not), HIPS autograd, and gradients written by hand in numba.

`gradient_functions(make)` gives one `run()` per rival, which returns the value and the gradient of every leaf.  The data are those of
`workloads.py`.  The hand-written gradients are the floor: no recording, no dispatch, all loops compiled.

    python benchmarks/rivals.py      # verifies that all rivals agree, times nothing
"""

from __future__ import annotations

import functools
import time

import numpy as np
import workloads


# --- the programs over any NumPy-like namespace -------------------------------------------------------------------------
def chain(xp, x):
    y = x
    for _ in range(10):
        y = (y * 0.5 + x) * x - 0.25
    return y.sum()


def ode_loop(xp, alpha, beta, gamma, delta):
    u, v = alpha * 60.0, beta * 200.0
    for _ in range(50):
        u, v = u + (alpha - beta * v) * u * 0.05, v + (delta * u - gamma) * v * 0.05
    return u + v


def rosenbrock(xp, x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def mlp(xp, w1, b1, w2, b2, x, y):
    h = xp.tanh(x @ w1 + b1)
    return ((h @ w2 + b2 - y) ** 2).mean()


def broadcasting(xp, x, scale):
    d = x - x.T
    return xp.exp(-(d * d) * scale).sum()


# --- the same by hand ---------------------------------------------------------------------------------------------------
def chain_by_hand(x):
    n, steps = x.size, 10
    total, dx = 0.0, np.empty(n)
    ys = np.empty(steps)
    for i in range(n):
        xi = y = x[i]
        for k in range(steps):
            ys[k] = y
            y = (y * 0.5 + xi) * xi - 0.25
        total += y
        g, gx = 1.0, 0.0
        for k in range(steps - 1, -1, -1):
            gx += g * (ys[k] * 0.5 + 2.0 * xi)
            g *= 0.5 * xi
        dx[i] = gx + g
    return total, dx


def ode_loop_by_hand(alpha, beta, gamma, delta):
    steps, h = 50, 0.05
    us, vs = np.empty(steps), np.empty(steps)
    u, v = alpha * 60.0, beta * 200.0
    for k in range(steps):
        us[k], vs[k] = u, v
        u, v = u + (alpha - beta * v) * u * h, v + (delta * u - gamma) * v * h
    value = u + v
    gu = gv = 1.0
    ga = gb = gc = gd = 0.0
    for k in range(steps - 1, -1, -1):
        u, v = us[k], vs[k]
        ga += gu * u * h
        gb -= gu * u * v * h
        gc -= gv * v * h
        gd += gv * u * v * h
        gu, gv = gu * (1.0 + (alpha - beta * v) * h) + gv * delta * v * h, gv * (1.0 + (delta * u - gamma) * h) - gu * beta * u * h
    return value, ga + gu * 60.0, gb + gv * 200.0, gc, gd


def rosenbrock_by_hand(x):
    value, dx = 0.0, np.zeros(x.size)
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        value += 100.0 * a * a + b * b
        dx[i + 1] += 200.0 * a
        dx[i] -= 400.0 * a * x[i] + 2.0 * b
    return value, dx


def mlp_by_hand(w1, b1, w2, b2, x, y):
    batch, wide, hidden, out = x.shape[0], x.shape[1], w1.shape[1], w2.shape[1]
    dw1, db1, dw2, db2 = np.zeros(w1.shape), np.zeros(hidden), np.zeros(w2.shape), np.zeros(out)
    h, g = np.empty(hidden), np.empty(out)
    value = 0.0
    for n in range(batch):
        for j in range(hidden):
            s = b1[j]
            for i in range(wide):
                s += x[n, i] * w1[i, j]
            h[j] = np.tanh(s)
        for k in range(out):
            s = b2[k] - y[n, k]
            for j in range(hidden):
                s += h[j] * w2[j, k]
            value += s * s
            g[k] = 2.0 * s / (batch * out)
            db2[k] += g[k]
        for j in range(hidden):
            s = 0.0
            for k in range(out):
                dw2[j, k] += h[j] * g[k]
                s += g[k] * w2[j, k]
            s *= 1.0 - h[j] * h[j]
            db1[j] += s
            for i in range(wide):
                dw1[i, j] += x[n, i] * s
    return value / (batch * out), dw1, db1, dw2, db2


def broadcasting_by_hand(x, scale):
    n = x.shape[0]
    dx, value, dscale = np.zeros((n, 1)), 0.0, 0.0
    for i in range(n):
        for j in range(n):
            d = x[i, 0] - x[j, 0]
            e = np.exp(-d * d * scale)
            value += e
            dscale -= d * d * e
            g = -2.0 * d * scale * e
            dx[i, 0] += g
            dx[j, 0] -= g
    return value, dx, dscale


PROGRAMS = {f.__name__: f for f in (chain, ode_loop, rosenbrock, mlp, broadcasting)}
BY_HAND = {
    f.__name__.removesuffix("_by_hand"): f
    for f in (chain_by_hand, ode_loop_by_hand, rosenbrock_by_hand, mlp_by_hand, broadcasting_by_hand)
}


# --- data ---------------------------------------------------------------------------------------------------------------
class _Data:
    """A module of torch's names as far as `make` needs them before `forward` runs: its tensors are arrays."""

    float64 = np.float64

    def __init__(self):
        self.constants = []

    def tensor(self, data, dtype=None, requires_grad=False):
        array = np.array(data, dtype)
        if not requires_grad:
            self.constants.append(array)
        return array


def data_of(make):
    """(leaves, constants) of a program as arrays."""
    data = _Data()
    _, leaves = make(data)
    return leaves, data.constants


# --- rivals -------------------------------------------------------------------------------------------------------------
def with_jax(make, jit):
    import jax

    jax.config.update("jax_enable_x64", True)
    leaves, constants = ([jax.numpy.asarray(a) for a in arrays] for arrays in data_of(make))
    program = PROGRAMS[make.__name__]
    gradient = jax.value_and_grad(functools.partial(program, jax.numpy), argnums=tuple(range(len(leaves))))
    if jit:
        gradient = jax.jit(gradient)

    def run():
        value, gradients = jax.block_until_ready(gradient(*leaves, *constants))
        return (value, *gradients)

    return run


def with_autograd(make):
    import autograd

    leaves, constants = data_of(make)
    leaves = [float(a) if a.ndim == 0 else a for a in leaves]  # the form that autograd is quickest with
    program = functools.partial(PROGRAMS[make.__name__], autograd.numpy)
    gradient = autograd.value_and_grad(program, argnum=tuple(range(len(leaves))))

    def run():
        value, gradients = gradient(*leaves, *constants)
        return (value, *gradients)

    return run


@functools.cache
def compiled(name):
    import numba

    return numba.njit(BY_HAND[name])


def by_hand(make):
    leaves, constants = data_of(make)
    arguments = [float(a) if a.ndim == 0 else a for a in (*leaves, *constants)]
    return functools.partial(compiled(make.__name__), *arguments)


RIVALS = {
    "autograd": with_autograd,
    "JAX": functools.partial(with_jax, jit=False),
    "JAX, jitted": functools.partial(with_jax, jit=True),
    "by hand in numba": by_hand,
}
NEEDS = {"autograd": "autograd", "JAX": "jax", "JAX, jitted": "jax", "by hand in numba": "numba"}


def available():
    """The names of the rivals that are installed."""
    import importlib.util

    return [name for name, package in NEEDS.items() if importlib.util.find_spec(package)]


def verify_run(make, run, rtol=1e-9):
    """Raise unless `run` finds what tapegrad finds; returns the seconds that its first call took."""
    from compare import gradients

    import tapegrad as tg

    start = time.perf_counter()
    found = run()
    first = time.perf_counter() - start
    for expected, value in zip(gradients(*make(tg)), found, strict=True):
        np.testing.assert_allclose(np.asarray(value), expected, rtol=rtol, atol=1e-12)
    return first


def gradient_functions(make):
    """{rival: (run, seconds of its first call)}, each verified."""
    result = {}
    for name in available():
        run = RIVALS[name](make)
        result[name] = (run, verify_run(make, run))
    return result


if __name__ == "__main__":
    for program in workloads.SMALL:
        for rival, (_, seconds) in gradient_functions(program).items():
            print(f"{program.__name__:14s} {rival:18s} agrees; first call {seconds:.2f} s")
