"""The dtype table: every element type, its code in compiled code, its NumPy twin, and torch's promotion rules.

A dtype is one row of `_ROWS`; compiled code knows it by `code` only.  Promotion follows torch: operands are sorted into
dimensioned tensors, 0-d tensors and Python numbers, and a weaker class matters only if its category (bool < integer < float <
complex) is higher.
"""

from __future__ import annotations

import numpy as np

BOOL, INTEGER, FLOAT, COMPLEX = range(4)  # categories, in promotion order


class dtype:
    """An element type, such as `tapegrad.float32`."""

    __slots__ = ("name", "code", "itemsize", "category", "numpy", "is_floating_point", "is_complex", "is_signed", "legacy", "short", "_order")

    def __init__(self, name, code, numpy_type, category, legacy, short, order):
        self.name = name
        self.code = code
        self.numpy = np.dtype(numpy_type)
        self.itemsize = self.numpy.itemsize
        self.category = category
        self.is_floating_point = category == FLOAT
        self.is_complex = category == COMPLEX
        self.is_signed = name not in ("uint8", "bool")
        self.legacy = legacy  # the legacy constructor: FloatTensor
        self.short = short  # the name in error texts of C++ origin: float, long int
        self._order = order

    def __repr__(self):
        return f"tapegrad.{self.name}"

    def __reduce__(self):
        return self.name

    @property
    def scalar_name(self) -> str:
        """The name in error texts: 'Float' for float32."""
        return self.legacy[: -len("Tensor")]

    def to_complex(self):
        raise TypeError(f"to_complex(): {self} has no complex counterpart here")


_ROWS = [
    # name, numpy, category, legacy constructor, C++ name
    ("float32", np.float32, FLOAT, "FloatTensor", "float"),
    ("float64", np.float64, FLOAT, "DoubleTensor", "double"),
    ("int64", np.int64, INTEGER, "LongTensor", "long int"),
    ("int32", np.int32, INTEGER, "IntTensor", "int"),
    ("int16", np.int16, INTEGER, "ShortTensor", "short int"),
    ("int8", np.int8, INTEGER, "CharTensor", "signed char"),
    ("uint8", np.uint8, INTEGER, "ByteTensor", "unsigned char"),
    ("bool", np.bool_, BOOL, "BoolTensor", "bool"),
]
_WIDTH = ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"]  # promotion order within and across categories

BY_CODE: list[dtype] = [
    dtype(name, code, kind, category, legacy, short, _WIDTH.index(name)) for code, (name, kind, category, legacy, short) in enumerate(_ROWS)
]
BY_NAME: dict[str, dtype] = {d.name: d for d in BY_CODE}
BY_NUMPY: dict[np.dtype, dtype] = {d.numpy: d for d in BY_CODE}
float32, float64, int64, int32, int16, int8, uint8, bool_ = BY_CODE
ALIASES = {"float": "float32", "double": "float64", "long": "int64", "int": "int32", "short": "int16"}
FLOATS = (float32, float64)

_default = float32


def default_dtype() -> dtype:
    return _default


def set_default(chosen: dtype) -> None:
    global _default
    if not isinstance(chosen, dtype):
        raise TypeError(f"invalid dtype object: only floating-point types are supported as the default type, got {chosen!r}")
    if not chosen.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = chosen


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both can be converted to (torch's table: uint8 with int8 gives int16, an int with a float the float)."""
    if a is b:
        return a
    if {a.name, b.name} == {"uint8", "int8"}:
        return int16
    return a if a._order > b._order else b


def can_cast(source: dtype, target: dtype) -> bool:
    """Whether a value may be converted without leaving its category upwards (float to int may not)."""
    if source.category > target.category:
        return False
    return True


def of_number(value) -> dtype:
    """The dtype that a Python number has as a tensor."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _default
    raise TypeError(f"new(): invalid data type '{type(value).__name__}'")


def combine(dimensioned: dtype | None, zero_dim: dtype | None, wrapped: dtype | None) -> dtype:
    """torch's result_type of the three operand classes, each already promoted within itself (None: no such operand)."""
    result = dimensioned
    for weaker in (zero_dim, wrapped):
        if weaker is None:
            continue
        if result is None:
            result = weaker
        elif weaker.category > result.category:
            result = promote_types(result, weaker)
    return result
