"""Owns expressions whose value, dtype or refusal is a detail of PyTorch's: each is evaluated with `m` tapegrad and with `m` torch."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

HALF = "m.full((2,), 5.5, dtype=m.float16)"
EXPRESSIONS = [
    # out= decides the dtype that a reduction computes in, and dtype= may not contradict it
    "m.sum(m.tensor([1.5, 2.5]), dim=0, out=m.ones((), dtype=m.int32))",
    "m.sum(m.ones(3), dim=0, out=m.ones((), dtype=m.bool))",
    "m.sum(m.ones(3, dtype=m.int64), dim=0, dtype=m.float32, out=m.ones((), dtype=m.int32))",
    "m.prod(m.ones(3, dtype=m.int64), 0, dtype=m.float32, out=m.ones((), dtype=m.int32))",
    "m.cumsum(m.tensor([1.5, 2.5]), 0, out=m.ones(2, dtype=m.int32))",
    "m.cumprod(m.ones(3, dtype=m.int64), 0, dtype=m.float32, out=m.ones(3, dtype=m.int32))",
    "m.mean(m.ones(3), 0, out=m.ones((), dtype=m.float64))",
    "m.mean(m.ones(3), 0, out=m.ones((), dtype=m.int64))",
    "m.mean(m.ones(3), 0, dtype=m.float64, out=m.ones((), dtype=m.float32))",
    # out= of another dtype
    "m.amax(m.ones(2, 3), 0, out=m.ones(3, dtype=m.float64))",
    "m.max(m.ones(2, 3), dim=0, out=(m.ones(3), m.ones(3)))",
    "m.mode(m.ones(10), -1, True, out=(m.ones(1, dtype=m.float64), m.ones(1, dtype=m.int64)))",
    "m.quantile(m.ones(3), 0.5, out=m.ones(3, dtype=m.float64))",
    "m.any(m.ones(2), out=m.ones((), dtype=m.float32))",
    "m.all(m.ones(2), 0, out=m.ones((), dtype=m.uint8))",
    "m.isposinf(m.ones(3), out=m.ones(3))",
    "m.signbit(m.ones(3), out=m.ones(3))",
    "m.nansum(m.tensor([1.0, float('nan')]), 0, out=m.ones((), dtype=m.float64))",
    "m.nansum(m.tensor([1, 2]), 0)",
    # numbers given as 0-d tensors, and torch's forms of old
    "m.isclose(m.ones(2), m.ones(2), m.tensor(1.5), m.tensor(1))",
    "m.isclose(m.ones(2), m.ones(2), m.tensor(1.5, requires_grad=True), m.tensor(1))",
    "m.addcmul(m.ones(2), 0.5, m.ones(2), m.ones(2))",
    "m.ones(2).addcdiv_(2, m.ones(2), m.ones(2))",
    "m.ones(2, dtype=m.int32).type(m.Tensor)",
    "m.gradient(m.tensor([1 + 2j, 2.0, 3j]), spacing=1 + 1j)[0]",
    "m.cov(m.tensor([1 + 2j, 2.0, 3j]), aweights=m.tensor([1.0, 1.0, 2.0])).real",
    "m.logcumsumexp(m.zeros(2, dtype=m.float64), 0, out=m.zeros(2))",
    # dtypes that an op does not know
    "m.histogram(m.tensor(1, dtype=m.int32), 1)",
    "m.bincount(m.ones(3))",
    "m.bincount(m.ones(3) > 0)",
    "m.cummax(m.ones(2, dtype=m.complex64), 0)",
    "m.frac(m.ones(2, dtype=m.int64))",
    "m.isin(m.tensor([1]), m.tensor([True]))",
    "m.isin(1j, m.tensor([1]))",
    "m.heaviside(m.tensor([1.0]), m.tensor([1 + 2j]))",
    "m.cumulative_trapezoid(m.ones(2, 3), dx=1 + 2j)",
    "m.abs(m.ones(2) > 0)",
    "(m.ones(2) > 0).ceil_()",
    "m.floor_divide(m.ones(2) > 0, m.ones(2) > 0)",
    "m.bitwise_left_shift(m.ones(2) > 0, m.ones(2) > 0)",
    "m.clamp_min(m.tensor([True, False]), m.tensor([False, False]))",
    "m.relu(m.ones(2) > 0)",
    "m.hypot(m.ones(2, dtype=m.int64), m.ones(2, dtype=m.int64))",
    "m.hypot(m.ones(2, dtype=m.int64), m.ones(2))",
    "m.logaddexp(m.ones(2, dtype=m.int64), m.ones(2) > 0)",
    # lists of tensors
    "m.broadcast_tensors(m.ones(2), 1)",
    "m.cartesian_prod(m.ones(2), [1])",
    "m.atleast_2d(m.ones(2), 'a')",
    # shapes are judged before dtypes
    "m.bitwise_left_shift(m.ones(3), m.ones(2, dtype=m.int64))",
    "m.ones(2, dtype=m.int64).bitwise_right_shift_(m.ones(2))",
    "m.atan2(m.ones(2, 3), m.ones(2, dtype=m.complex64))",
    "m.atan2(m.ones(2, 3), m.ones(3, dtype=m.complex64))",
    # dims
    "m.cummax(m.tensor(1.0), 1)",
    "m.cumsum(m.ones(3), 2**63)",
    # numbers: two of them, beyond half precision, with bools
    "m.add(True, True)",
    "m.mul(2, 3)",
    "m.div(5.0, 2, rounding_mode='floor')",
    "m.floor_divide(7, 2)",
    "m.add(m.zeros(2, dtype=m.bool), m.ones(2, dtype=m.bool), alpha=0)",
    f"{HALF} + 100000",
    f"{HALF} - 100000",
    f"{HALF} < 100000",
    f"{HALF} ** 100000",
    f"{HALF} ** (2 + 0j)",
    "m.pow(1 + 0j, m.ones(2, dtype=m.float16))",
    # complex numbers
    "m.nan_to_num(m.tensor([complex(1, float('nan')), complex(float('inf'), -float('inf'))]), nan=12, posinf=3, neginf=4)",
    "m.logcumsumexp(m.tensor([1 + 2j, 2 - 1j, -float('inf')]), 0)",
    "(lambda x: (m.logcumsumexp(x, 0).abs().sum().backward(), x.grad)[1])(m.tensor([1 + 2j, 2 - 1j, 0.5], dtype=m.complex128).requires_grad_())",
    "m.nn.functional.silu(m.tensor([1 + 2j]))",
    "m.corrcoef(m.tensor([[1 + 2j, 3 - 1j, 2], [2, 1, 1j]]))",
    # exponents
    "m.frexp(m.tensor([1.0, -3.5, 0.0, float('inf')]))",
    "m.frexp(m.tensor([1]))",
    "m.frexp(m.tensor([1.5]), out=(m.empty(0), m.empty(0)))",
    "(lambda x: (m.frexp(x).mantissa.sum().backward(), x.grad)[1])(m.tensor([3.0, -0.3]).requires_grad_())",
    "m.ones(2).ldexp_(m.tensor([2]))",
    "m.ones(2).float_power_(2)",
    "m.full((2,), 3.0, dtype=m.float64).float_power_(m.tensor([1, 2]))",
    "m.tensor([0.3, 2.0]).hardshrink()",
    # operators know what they cannot do
    "m.ones(2).__iadd__('a')",
    "m.ones(2, dtype=m.int64).__iand__('a')",
    "m.add(x1=m.ones(2), x2=m.ones(2))",
]  # fmt: skip


def outcome(expression, m):
    try:
        return eval(expression, {"m": m})
    except Exception as error:
        return type(error), str(error).splitlines()[0]


def same(found, expected):
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        return all(same(f, e) for f, e in zip(found, expected, strict=True))
    if not hasattr(expected, "numpy"):
        assert found == expected
        return True
    assert str(found.dtype).split(".")[-1] == str(expected.dtype).split(".")[-1] and tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_allclose(np.array(found.tolist()), np.array(expected.tolist()), rtol=1e-6, atol=1e-6)
    return True


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_as_torch(expression, torch):
    same(outcome(expression, tg), outcome(expression, torch))


def test_out_decides_the_dtype():
    out = tg.ones((), dtype=tg.int32)
    assert tg.sum(tg.tensor([1.5, 2.5]), dim=0, out=out) is out
    assert out.item() == 3
    with pytest.raises(RuntimeError, match="Expected out tensor to have dtype double, but got float instead"):
        tg.mean(tg.ones(3), 0, dtype=tg.float64, out=tg.ones(()))


def test_mantissas_and_exponents():
    x = tg.tensor([6.0, -0.25], requires_grad=True)
    mantissa, exponent = tg.frexp(x)
    assert mantissa.tolist() == [0.75, -0.5] and exponent.tolist() == [3, -1] and exponent.dtype is tg.int32
    mantissa.sum().backward()
    assert x.grad.tolist() == [0.125, 2.0]
