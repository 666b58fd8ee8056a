"""The cost of one operation, recording, backward and release apart: 0-d tensors, 8-vectors and (8, 1) against (1, 8).

    pytest benchmarks/test_overhead.py --benchmark-columns=median
    python benchmarks/test_overhead.py       # the same as a table, ns per operation

The program is `y = y * a + x`, 100 times.  What is recorded is alive until it is released outside the clock, so that `record` contains
no release; `backward` frees the graph as it goes, as a training step does.  JAX (its vjp) and autograd keep the same split;
jitted JAX has none, its `both` is value and gradients.
"""

from __future__ import annotations

import functools
import importlib.util
import time

import numpy as np
import pytest

STEPS = 100
OPERATIONS = 2 * STEPS

DATA = {
    "0-d": tuple(np.array(v) for v in (0.3, 0.9, 0.2)),
    "8-vector": (np.linspace(0.1, 1.0, 8), np.linspace(0.8, 0.95, 8), np.linspace(-0.3, 0.3, 8)),
    "broadcast": (np.full((8, 8), 0.3), np.linspace(0.8, 0.95, 8).reshape(1, 8), np.linspace(-0.3, 0.3, 8).reshape(8, 1)),
}


def program(y, a, x):
    for _ in range(STEPS):
        y = y * a + x
    return y.sum()


# --- rivals: record() -> graph, backward(graph), gradients() -----------------------------------------------------------
class Eager:
    """A module of torch's names."""

    def __init__(self, module, data):
        self.leaves = [module.tensor(a, dtype=module.float64, requires_grad=True) for a in data]

    def record(self):
        return program(*self.leaves)

    def backward(self, loss):
        loss.backward()

    def clear(self):
        for leaf in self.leaves:
            leaf.grad = None

    def gradients(self):
        self.clear()
        self.record().backward()
        return [leaf.grad.detach().numpy() for leaf in self.leaves]


class Pullback:
    """A library whose recorded graph is a function from the cotangent to the gradients."""

    def clear(self):
        pass

    def backward(self, pull):
        return pull(self.one)

    def gradients(self):
        return self.backward(self.record())


class Jax(Pullback):
    def __init__(self, data):
        import jax

        jax.config.update("jax_enable_x64", True)
        self.jax, self.data, self.one = jax, [jax.numpy.asarray(a) for a in data], jax.numpy.ones(())

    def record(self):
        value, pull = self.jax.vjp(program, *self.data)
        value.block_until_ready()
        return pull

    def backward(self, pull):
        return self.jax.block_until_ready(pull(self.one))


class Jitted(Jax):
    """Value and gradients by one compiled call; `record` does nothing."""

    def __init__(self, data):
        super().__init__(data)
        self.call = self.jax.jit(self.jax.value_and_grad(program, argnums=(0, 1, 2)))

    def record(self):
        return None

    def backward(self, _):
        return self.jax.block_until_ready(self.call(*self.data))[1]


class Autograd(Pullback):
    def __init__(self, data):
        import autograd

        self.vjp, self.data, self.one = autograd.make_vjp(program, argnum=(0, 1, 2)), data, 1.0

    def record(self):
        return self.vjp(*self.data)[0]


@functools.cache
def compiled():
    import numba

    def forward(y, a, x, ys):
        rows, columns = y.shape
        ai, aj, xi, xj = min(1, a.shape[0] - 1), min(1, a.shape[1] - 1), min(1, x.shape[0] - 1), min(1, x.shape[1] - 1)
        ys[0] = y
        for k in range(STEPS):
            for i in range(rows):
                for j in range(columns):
                    ys[k + 1, i, j] = ys[k, i, j] * a[i * ai, j * aj] + x[i * xi, j * xj]
        return ys[STEPS].sum()

    def backward(y, a, x, ys):
        rows, columns = y.shape
        ai, aj, xi, xj = min(1, a.shape[0] - 1), min(1, a.shape[1] - 1), min(1, x.shape[0] - 1), min(1, x.shape[1] - 1)
        g, da, dx = np.ones(y.shape), np.zeros(a.shape), np.zeros(x.shape)
        for k in range(STEPS - 1, -1, -1):
            for i in range(rows):
                for j in range(columns):
                    da[i * ai, j * aj] += g[i, j] * ys[k, i, j]
                    dx[i * xi, j * xj] += g[i, j]
                    g[i, j] *= a[i * ai, j * aj]
        return g, da, dx

    return numba.njit(forward), numba.njit(backward)


class ByHand(Pullback):
    """Both directions written out in numba; the `graph` is the array of intermediate values."""

    def __init__(self, data):
        self.shapes = [a.shape for a in data]
        self.data = [np.atleast_2d(a) for a in data]
        self.ys = np.empty((STEPS + 1, *self.data[0].shape))

    def record(self):
        compiled()[0](*self.data, self.ys)
        return self.ys

    def backward(self, ys):
        return compiled()[1](*self.data, ys)

    def gradients(self):
        return [g.reshape(s) for g, s in zip(super().gradients(), self.shapes, strict=True)]


def make(rival, kind):
    """A rival, verified against tapegrad."""
    if importlib.util.find_spec(NEEDS[rival]) is None:
        pytest.skip(f"needs {NEEDS[rival]}")
    import tapegrad as tg

    data = DATA[kind]
    if rival in ("tapegrad", "torch"):
        module = importlib.import_module(rival)
        module.set_num_threads(1)
        made = Eager(module, data)
    else:
        made = {"JAX": Jax, "JAX, jitted": Jitted, "autograd": Autograd, "by hand in numba": ByHand}[rival](data)
    for found, expected in zip(made.gradients(), Eager(tg, data).gradients(), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-12)
    made.clear()
    return made


NEEDS = {
    "tapegrad": "tapegrad", "torch": "torch", "autograd": "autograd", "JAX": "jax", "JAX, jitted": "jax", "by hand in numba": "numba",
}  # fmt: skip


@pytest.mark.parametrize("phase", ["record", "backward", "both"])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("rival", NEEDS)
@pytest.mark.filterwarnings("ignore")
def test_operation(benchmark, rival, kind, phase):
    if rival == "JAX, jitted" and phase != "both":
        pytest.skip("a jitted gradient does not come apart")
    rounds = 5 if rival == "JAX" else 50
    made = make(rival, kind)
    alive = []
    benchmark.group = f"{phase}, {kind}, per {OPERATIONS} operations"

    def recorded():
        alive.clear()
        made.clear()
        return (made.record(),), {}

    def fresh():
        alive.clear()
        made.clear()

    def record():
        alive.append(made.record())

    def both():
        alive.append(made.backward(made.record()))

    target, setup = {"record": (record, fresh), "backward": (made.backward, recorded), "both": (both, fresh)}[phase]
    benchmark.pedantic(target, setup=setup, rounds=rounds, warmup_rounds=3)
    if benchmark.stats:
        benchmark.extra_info["ns per operation"] = benchmark.stats.stats.median * 1e9 / OPERATIONS


# --- as a table ---------------------------------------------------------------------------------------------------------
def phases(made, rounds):
    """Median ns per operation of recording, backward and release of what has been recorded."""
    samples = []
    for _ in range(rounds):
        made.clear()
        t0 = time.perf_counter()
        graph = made.record()
        t1 = time.perf_counter()
        made.backward(graph)
        t2 = time.perf_counter()
        graph = made.record()
        t3 = time.perf_counter()
        del graph
        samples.append((t1 - t0, t2 - t1, time.perf_counter() - t3))
    return np.median(samples[min(3, rounds - 2) :], axis=0) * 1e9 / OPERATIONS


def table(rounds=150) -> str:
    lines = ["| ns per operation | record | backward | release unused |", "|---|---|---|---|"]
    for kind in DATA:
        for rival in NEEDS:
            if importlib.util.find_spec(NEEDS[rival]) is None:
                continue
            record, backward, release = phases(make(rival, kind), 6 if rival == "JAX" else rounds)
            if rival == "JAX, jitted":
                lines.append(f"| {kind}: {rival} | | {backward:.1f} (both) | |")
            else:
                lines.append(f"| {kind}: {rival} | {record:.1f} | {backward:.1f} | {release:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
