"""Owns where NumPy's functions on Tensors differ from the plain case: no axes, orders, complex products, indices of `at`, refusals as NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

Z, Y = np.array([[1 + 2j, 3 - 1j], [0.5j, 2.0]]), np.array([[2 - 1j, 1j], [1.0, 1 + 1j]])


@pytest.mark.parametrize("name", ["vdot", "vecdot", "vecmat", "matvec", "linalg.vecdot", "inner", "dot"])
def test_products_of_complex_tensors(name):
    """NumPy's vdot, vecdot and vecmat conjugate their first operand."""
    f = eval(f"np.{name}")
    a = Z[0] if name in ("vecmat",) else Z
    b = Y[0] if name == "matvec" else Y
    np.testing.assert_allclose(f(tg.tensor(a), tg.tensor(b)).resolve_conj().numpy(), f(a, b))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "std", "var", "any", "all", "max", "count_nonzero", "average"])
def test_a_reduction_over_no_axes_keeps_the_shape(name):
    a = np.array([[1.0, 0.0, 3.0]])
    found = getattr(np, name)(tg.tensor(a), axis=())
    np.testing.assert_array_equal(found.numpy(), getattr(np, name)(a, axis=()))
    assert found.numpy().dtype.kind == np.asarray(getattr(np, name)(a, axis=())).dtype.kind


def test_at_takes_every_index():
    for index in (np.s_[1:, 0], [0, 0, 1], ([0, 0], [1, 1]), np.array([True, False]), 1, np.s_[..., 0], (None, 0)):
        a, t = np.ones((2, 3)), tg.ones(3, 2, dtype=tg.float64).t()
        np.add.at(a, index, 2.0)
        np.add.at(t, index, 2.0)
        assert t.tolist() == a.tolist(), index
    x = tg.ones(2, requires_grad=True)
    t = tg.zeros(3)
    np.subtract.at(t, [0, 0], x)
    t.sum().backward()
    assert t.tolist() == [-2.0, 0.0, 0.0] and x.grad.tolist() == [-1.0, -1.0]


def test_products_of_booleans():
    a, b = np.array([[True, False], [False, False]]), np.array([[True, True], [False, True]])
    for f in (np.matmul, np.dot, lambda p, q: np.einsum("ij,jk->ik", p, q)):
        found = f(tg.tensor(a), tg.tensor(b))
        assert found.dtype is tg.bool and found.tolist() == f(a, b).tolist()


@pytest.mark.parametrize("call", [
    "np.vander(np.ones((2, 2)) * t)", "np.diff(t, n=-1)", "np.expand_dims(t, (0, 0))", "np.vsplit(t, 2)", "np.rot90(t * np.ones((2, 2)), 1, (0, 0))", "np.rollaxis(t, 5)",
    "np.average(t * np.ones((2, 2)), axis=0, weights=[1.0, 2.0, 3.0])", "np.vecdot(t, 2.0)", "np.prod(t, axis=(0, 1))", "np.take_along_axis(t, np.array([0]), 3)",
])  # fmt: skip
def test_refusals_are_those_of_numpy(call):
    with pytest.raises(Exception) as expected:  # noqa: B017
        eval(call, {"np": np, "t": np.ones(2)})
    with pytest.raises(expected.type):
        eval(call, {"np": np, "t": tg.ones(2, dtype=tg.float64)})
