"""Owns large reductions: the same values however the elements lie and whatever the number of threads, ties and nan as in the small ones."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

# (outer, count, inner): in parts, in pieces of a line, in tiles of columns, in both parts and pieces, and between all of these.
SHAPES = [(1, 200_003, 1), (3, 701, 1), (2, 9, 1030), (1, 40_001, 5), (5, 40, 37), (1, 3000, 70), (20_000, 3, 2)]
OPS = {
    "sum": (lambda x: x.sum(1), lambda a: a.sum(1)),
    "amax": (lambda x: x.amax(1), lambda a: a.max(1)),
    "prod": (lambda x: (x / 50 + 1).prod(1), lambda a: (a / 50 + 1).prod(1)),
    "var": (lambda x: x.var(1), lambda a: a.var(1, ddof=1)),
    "norm": (lambda x: tg.linalg.vector_norm(x, 2, 1), lambda a: np.sqrt((a * a).sum(1))),
    "logsumexp": (lambda x: x.logsumexp(1), lambda a: np.log(np.exp(a).sum(1))),
    "max": (lambda x: x.max(1).indices, lambda a: a.argmax(1)),
}


@pytest.fixture(params=[1, 2])
def threads(request):
    before = tg.get_num_threads()
    tg.set_num_threads(request.param)
    yield request.param
    tg.set_num_threads(before)


@pytest.mark.parametrize("op", OPS)
def test_values_however_the_elements_lie(op, threads, rng):
    ours, theirs = OPS[op]
    for shape in SHAPES:
        a = rng.standard_normal(shape)
        x = tg.tensor(a)
        turned = tg.tensor(np.ascontiguousarray(a.transpose(1, 2, 0))).permute(2, 0, 1)
        apart = tg.tensor(np.repeat(a, 2, 2))[:, :, ::2]
        for t in (x, turned, apart):
            for _ in range(2):
                np.testing.assert_allclose(ours(t).numpy(), theirs(a), rtol=1e-9, atol=1e-9, err_msg=f"{shape} {t.stride()}")


@pytest.mark.parametrize("dtype", ["float16", "int64", "uint8", "bool", "complex64"])
def test_other_dtypes(dtype, rng):
    d = getattr(tg, dtype)
    for shape in [(3, 701, 1), (5, 40, 37)]:
        a = rng.integers(0, 2 if dtype == "bool" else 5, shape)
        x = tg.tensor(a).to(d)
        np.testing.assert_array_equal(x.sum(1).to(tg.complex128).real.numpy(), a.sum(1))
        if not d.is_complex:
            np.testing.assert_array_equal(x.amax(1).to(tg.int64).numpy(), a.max(1))


def test_sums_of_columns_are_wide():
    """A running sum in float32 would stop at 2**24."""
    x = tg.ones((1 << 24) + 1024, 2)
    assert x.sum(0).tolist() == [float((1 << 24) + 1024)] * 2
    assert x[:70_000].half().mean(0).tolist() == [1.0, 1.0]


def test_the_number_of_threads_does_not_show(rng):
    before = tg.get_num_threads()
    results = []
    a = rng.standard_normal(700_001).astype(np.float32)
    try:
        for count in (1, 2, 3):
            tg.set_num_threads(count)
            x = tg.tensor(a)
            results.append([x.sum().item(), x.var().item(), x.norm().item(), x[1:].reshape(2000, 350).sum(0).sum().item()])
    finally:
        tg.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_of_equal_elements_and_of_nan(shape):
    x = tg.zeros(*shape, dtype=tg.float64)
    assert x.argmax(1).tolist() == tg.zeros(shape[0], shape[2], dtype=tg.int64).tolist()
    assert (x - float("inf")).argmax(1).max().item() == 0
    count = shape[1]
    places = sorted({count - 1, count // 2, count // 3})
    for k in places[::-1]:
        x[:, k] = 1.0
        assert (x.argmax(1) == k).all()
        assert (x.max(1).indices == k).all() and (x.max(1).values == 1).all()
    for k in places[::-1]:
        x[:, k] = float("nan")
        assert (x.argmin(1) == k).all() and x.amax(1).isnan().all() and x.sum(1).isnan().all()


def test_infinities(rng):
    x = tg.tensor(rng.standard_normal((3000, 50)))
    x[5] = float("-inf")
    assert x.logsumexp(0).isfinite().all()
    x[:, 1] = float("-inf")
    x[7, 2] = float("inf")
    found = x.logsumexp(0)
    assert found[1].item() == float("-inf") and found[2].item() == float("inf") and found[3:].isfinite().all()
    assert x.amax(0)[1].item() == float("-inf")


@pytest.mark.parametrize("shape", [(3, 701), (1, 200_003)])
def test_infinities_of_both_signs_and_nan_in_rows(shape):
    """The loop that knows nothing of nan tells them apart."""
    x = tg.zeros(*shape, dtype=tg.float32)
    x[:, 5], x[:, 300] = float("inf"), float("-inf")
    assert (x.amax(1) == float("inf")).all() and (x.amin(1) == float("-inf")).all() and x.max().item() == float("inf")
    assert x.softmax(1).isnan().all() and (x.logsumexp(1) == float("inf")).all()
    x[0, 301] = float("nan")
    assert x.amax(1)[0].isnan() and x.amin(1)[0].isnan() and x.min().isnan() and x.logsumexp(1)[0].isnan()
    assert (x.amax(1)[1:] == float("inf")).all()


@pytest.mark.parametrize("op", ["amax", "prod", "var", "norm", "logsumexp"])
def test_gradients(op, rng):
    """Against the derivative in Python, which `create_graph` uses."""
    ours = OPS[op][0]
    for shape in [(1, 5000, 1), (2, 9, 300), (1, 900, 5)]:
        x = tg.tensor(np.round(rng.standard_normal(shape), 1), requires_grad=True)
        w = tg.tensor(rng.standard_normal((shape[0], shape[2])))
        (swept,) = tg.autograd.grad((ours(x) * w).sum(), x)
        (formula,) = tg.autograd.grad((ours(x) * w).sum(), x, create_graph=True)
        np.testing.assert_allclose(swept.numpy(), formula.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_of_everything_in_another_order(rng):
    a = rng.standard_normal((60, 70))
    x = tg.tensor(a).t()
    assert x.argmax().item() == a.T.reshape(-1).argmax() and x.argmin().item() == a.T.reshape(-1).argmin()
    assert x.max().item() == a.max() and x.sum().item() == pytest.approx(a.sum())
    assert x.amax((0, 1), True).shape == (1, 1)


SAME_SHAPE = {
    "softmax": (lambda x: x.softmax(1), lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True)),
    "log_softmax": (lambda x: x.log_softmax(1), lambda a: a - np.log(np.exp(a).sum(1, keepdims=True))),
    "cumsum": (lambda x: x.cumsum(1), lambda a: a.cumsum(1)),
    "cumprod": (lambda x: (x / 50 + 1).cumprod(1), lambda a: (a / 50 + 1).cumprod(1)),
}


@pytest.mark.parametrize("op", SAME_SHAPE)
def test_columns_of_scans_and_normalisations(op, threads, rng):
    ours, theirs = SAME_SHAPE[op]
    for shape in [(3, 701, 1), (2, 9, 1030), (1, 700, 70), (40, 30, 37), (3, 5, 1000)]:
        a = rng.standard_normal(shape)
        x = tg.tensor(a)
        turned = tg.tensor(np.ascontiguousarray(a.transpose(1, 2, 0))).permute(2, 0, 1)
        for t in (x, turned):
            np.testing.assert_allclose(ours(t).numpy(), theirs(a), rtol=1e-9, atol=1e-12, err_msg=str(shape))
        w = tg.tensor(rng.standard_normal(shape))
        x.requires_grad_()
        (swept,) = tg.autograd.grad((ours(x) * w).sum(), x)
        (formula,) = tg.autograd.grad((ours(x) * w).sum(), x, create_graph=True)
        np.testing.assert_allclose(swept.numpy(), formula.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_log_softmax_of_columns_with_an_infinity():
    """As of rows: infinity less itself, and all else with it, is nan."""
    x = tg.zeros(300, 200, dtype=tg.float64)
    x[3, 5] = float("inf")
    for found in (x.log_softmax(0), x.t().contiguous().log_softmax(1).t()):
        assert found[:, 5].isnan().all() and found[:, :5].isfinite().all()


@pytest.mark.parametrize("name", ["amax", "max", "norm", "logsumexp"])
def test_gradients_of_ties_in_columns(name, rng):
    x = tg.tensor(rng.integers(0, 3, (700, 60)).astype(float), requires_grad=True)
    f = {"amax": lambda: x.amax(0), "max": lambda: x.max(0).values, "norm": lambda: tg.linalg.vector_norm(x, 1, 0), "logsumexp": lambda: x.logsumexp(0)}[name]
    w = tg.tensor(rng.standard_normal(60))
    (swept,) = tg.autograd.grad((f() * w).sum(), x)
    (formula,) = tg.autograd.grad((f() * w).sum(), x, create_graph=True)
    np.testing.assert_allclose(swept.numpy(), formula.detach().numpy(), rtol=1e-10, atol=1e-14)
