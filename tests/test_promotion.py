"""Owns type promotion: a table of its own, and every pair of dtypes in every class of operands against PyTorch."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import dtypes

NAMES = [d.name for d in dtypes.BY_CODE if d.name != "complex32"]
NUMBERS = {"bool": True, "int": 3, "float": 1.5, "complex": 1 + 2j}

# promote_types of a row with a column, in short: b bool, u uint8, i1..i8 integers, f2 float16, bf bfloat16, f4 f8 floats, c8 c16 complex
SHORT = {"b": "bool", "u": "uint8", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "f2": "float16", "bf": "bfloat16", "f4": "float32",
         "f8": "float64", "c4": "complex32", "c8": "complex64", "c16": "complex128"}  # fmt: skip
TABLE = """
      b    u    i1   i2   i4   i8   f2   bf   f4   f8   c4   c8   c16
b     b    u    i1   i2   i4   i8   f2   bf   f4   f8   c4   c8   c16
u     u    u    i2   i2   i4   i8   f2   bf   f4   f8   c4   c8   c16
i1    i1   i2   i1   i2   i4   i8   f2   bf   f4   f8   c4   c8   c16
i2    i2   i2   i2   i2   i4   i8   f2   bf   f4   f8   c4   c8   c16
i4    i4   i4   i4   i4   i4   i8   f2   bf   f4   f8   c4   c8   c16
i8    i8   i8   i8   i8   i8   i8   f2   bf   f4   f8   c4   c8   c16
f2    f2   f2   f2   f2   f2   f2   f2   f4   f4   f8   c4   c8   c16
bf    bf   bf   bf   bf   bf   bf   f4   bf   f4   f8   c8   c8   c16
f4    f4   f4   f4   f4   f4   f4   f4   f4   f4   f8   c8   c8   c16
f8    f8   f8   f8   f8   f8   f8   f8   f8   f8   f8   c16  c16  c16
c4    c4   c4   c4   c4   c4   c4   c4   c8   c8   c16  c4   c8   c16
c8    c8   c8   c8   c8   c8   c8   c8   c8   c8   c16  c8   c8   c16
c16   c16  c16  c16  c16  c16  c16  c16  c16  c16  c16  c16  c16  c16
"""


def test_promote_types():
    head, *lines = [line.split() for line in TABLE.strip().splitlines()]
    for row, *cells in lines:
        for column, cell in zip(head, cells, strict=True):
            a, b = dtypes.BY_NAME[SHORT[row]], dtypes.BY_NAME[SHORT[column]]
            assert tg.promote_types(a, b).name == SHORT[cell], (row, column)


@pytest.mark.parametrize(
    "dimensioned,other,expected",
    [
        ("float32", 1.5, "float32"), ("int32", 1.5, "float32"), ("float16", 1.5, "float16"), ("bfloat16", 2, "bfloat16"), ("bool", 2, "int64"),
        ("float64", 1j, "complex128"), ("float16", 1j, "complex32"), ("bfloat16", 1j, "complex64"), ("int8", 1j, "complex64"),
        ("complex64", 1.5, "complex64"), ("uint8", True, "uint8"), ("bool", 1j, "complex64"),
    ],
)  # fmt: skip
def test_numbers_count_by_category(dimensioned, other, expected):
    x = tg.ones(2, dtype=dtypes.BY_NAME[dimensioned])
    assert tg.result_type(x, other).name == (x + other).dtype.name == (other + x).dtype.name == expected


@pytest.mark.parametrize(
    "dimensioned,zero_dim,expected",
    [
        ("float32", "float64", "float32"), ("int32", "float64", "float64"), ("float16", "float32", "float16"), ("float16", "complex128", "complex32"),
        ("bfloat16", "complex64", "complex64"), ("float64", "complex64", "complex128"), ("complex64", "complex128", "complex64"),
        ("int64", "complex64", "complex64"), ("int8", "int64", "int8"), ("bool", "uint8", "uint8"),
    ],
)  # fmt: skip
def test_zero_dim_tensors_count_by_category(dimensioned, zero_dim, expected):
    x, y = tg.ones(2, dtype=dtypes.BY_NAME[dimensioned]), tg.ones((), dtype=dtypes.BY_NAME[zero_dim])
    assert tg.result_type(x, y).name == (x + y).dtype.name == (y * x).dtype.name == expected


def test_the_default_dtype_decides_what_numbers_become():
    assert tg.tensor([1j]).dtype is tg.complex64
    for default, whole in ((tg.float64, tg.complex128), (tg.float16, tg.complex32), (tg.bfloat16, tg.complex64)):
        tg.set_default_dtype(default)
        assert tg.tensor(1.5).dtype is default and tg.tensor(1j).dtype is whole and (tg.ones(2, dtype=tg.int32) / 2).dtype is default


def test_category_rules():
    assert tg.can_cast(tg.float64, tg.float16) and tg.can_cast(tg.float32, tg.complex64) and not tg.can_cast(tg.complex64, tg.float64)
    assert tg.float16.to_complex() is tg.complex32 and tg.bfloat16.to_complex() is tg.complex64 and tg.complex128.to_real() is tg.float64
    with pytest.raises(RuntimeError, match="Unknown Complex ScalarType for Long"):
        tg.int64.to_complex()


@pytest.mark.parametrize(
    "target,value,text",
    [("int64", 0.5, "Float can't be cast to the desired output type Long"), ("float32", 1j, "ComplexFloat can't be cast to the desired output type Float"),
     ("bool", 2, "Long can't be cast to the desired output type Bool")],
)  # fmt: skip
def test_a_result_must_fit_its_target(target, value, text):
    with pytest.raises(RuntimeError, match=text):
        tg.ones(2, dtype=dtypes.BY_NAME[target]).add_(value)


# --- against PyTorch ------------------------------------------------------------------------------------------------
def operand(m, name: str, shape):
    """A tensor with small values that every dtype holds; no zeros."""
    values = np.array([1, 2, 3, 1, 2, 3])[: int(np.prod(shape, dtype=int))].reshape(shape)
    return m.tensor(values.tolist(), dtype=getattr(m, name))


OPERATIONS = {
    "add": lambda x, y: x + y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y, "pow": lambda x, y: x**y, "eq": lambda x, y: x == y,
    "lt": lambda x, y: x < y,
}  # fmt: skip
INPLACE = {name: (lambda method: lambda x, y: getattr(x, method)(y))(name + "_") for name in ("add", "mul", "div", "pow", "lt")}


def outcome(f, *args):
    """(dtype, shape, values) of a result, or the type and text of an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = f(*args)
        except Exception as error:
            return type(error).__name__, str(error)
    return str(result.dtype).rpartition(".")[2], tuple(result.shape), support.value(result)


def compare(torch, f, make, rough=False):
    """The same outcome in tapegrad and torch; where torch has no kernel for half-precision complex numbers there is nothing to compare.

    rough: torch divides a number by a tensor by way of the reciprocal, which it rounds to the tensor's dtype.
    """
    found, expected = outcome(f, *make(tg)), outcome(f, *make(torch))
    if "ComplexHalf" in str(expected[1]):
        return
    assert len(found) == len(expected), (found, expected)
    assert found[:2] == expected[:2]
    if len(found) == 3:
        tolerance = {"float16": 1e-3, "bfloat16": 8e-3, "complex32": 2e-3, "float32": 1e-6, "complex64": 8e-3 if rough else 1e-5}.get(found[0], 1e-12)
        np.testing.assert_allclose(found[2], expected[2], rtol=tolerance, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3,), ()), ((), (3,)), ((), ())], ids=["dims", "right 0-d", "left 0-d", "both 0-d"])
def test_tensors_as_torch(a, shapes, torch):
    for b, f in itertools.product(NAMES, [*OPERATIONS.values(), *INPLACE.values()]):
        compare(torch, f, lambda m, b=b: (operand(m, a, shapes[0]), operand(m, b, shapes[1])))
        assert str(tg.promote_types(getattr(tg, a), getattr(tg, b)))[9:] == str(torch.promote_types(getattr(torch, a), getattr(torch, b)))[6:]
        assert tg.can_cast(getattr(tg, a), getattr(tg, b)) == torch.can_cast(getattr(torch, a), getattr(torch, b))
        x, y = operand(tg, a, shapes[0]), operand(tg, b, shapes[1])
        u, v = operand(torch, a, shapes[0]), operand(torch, b, shapes[1])
        assert str(tg.result_type(x, y))[9:] == str(torch.result_type(u, v))[6:]


@pytest.mark.torch
@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("shape", [(3,), ()], ids=["dims", "0-d"])
def test_numbers_as_torch(a, kind, shape, torch):
    number = NUMBERS[kind]
    for f in OPERATIONS.values():
        compare(torch, f, lambda m: (operand(m, a, shape), number))
        compare(torch, lambda x, n, f=f: f(n, x), lambda m: (operand(m, a, shape), number), rough=a == "bfloat16")
    for f in INPLACE.values():
        compare(torch, f, lambda m: (operand(m, a, shape), number))
