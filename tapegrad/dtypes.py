"""The dtype table: every element type, its code in compiled code, its NumPy twin, and torch's promotion rules.

A dtype is one row of `_ROWS`; compiled code knows it by `code`, its position.  An element is *stored* in one form and *computed*
with in another: `stored` is the NumPy type of the memory, `compute` the dtype whose formulas serve it (float32 for the half-precision
types, which are widened when loaded and rounded when stored).  NumPy has no bfloat16 and no half-precision complex: their memory is
seen as unsigned integers, and `from_stored` and `to_stored` translate.

Promotion follows torch: operands are sorted into dimensioned tensors, 0-d tensors and Python numbers, and a weaker class matters
only if its category (bool < integer < float < complex) is higher.
"""

from __future__ import annotations

import numpy as np

from tapegrad.naming import known_as, type_name

BOOL, INTEGER, FLOAT, COMPLEX = range(4)  # categories, in promotion order


@known_as("tapegrad.dtype", final=True)
class dtype:
    """An element type, such as `tapegrad.float32`."""

    __slots__ = (
        "name", "code", "itemsize", "category", "numpy", "compute", "is_floating_point", "is_complex", "is_signed", "legacy", "short", "kind",
    )  # fmt: skip

    def __init__(self, name, code, stored, category, legacy, short, compute):
        self.name = name
        self.code = code
        self.numpy = np.dtype(stored)  # of the memory; see `foreign`
        self.itemsize = self.numpy.itemsize
        self.category = category
        self.compute = compute or name  # the name of the dtype it is computed in
        self.kind = "BIFC"[category]  # the letter in `Elementwise.kinds`
        self.is_floating_point = category == FLOAT
        self.is_complex = category == COMPLEX
        self.is_signed = name not in ("uint8", "bool")
        self.legacy = legacy  # the legacy constructor: FloatTensor
        self.short = short  # the name in error texts of C++ origin: float, long int

    def __repr__(self):
        return f"tapegrad.{self.name}"

    def __reduce__(self):
        return by_name, (self.name,)

    @property
    def scalar_name(self) -> str:
        """The name in error texts: 'Float' for float32."""
        return self.legacy[: -len("Tensor")]

    @property
    def type_name(self) -> str:
        """The type of tensors as texts of C++ origin have it: few have an old name."""
        old = self.legacy not in ("BoolTensor", "BFloat16Tensor") and not self.is_complex
        return f"tapegrad.{self.legacy}" if old else f"CPU{self.scalar_name}Type"

    @property
    def reduced(self) -> bool:
        """Whether it is computed in a wider dtype."""
        return self.compute != self.name

    @property
    def foreign(self) -> bool:
        """Whether NumPy has no such type, so that `numpy` is one of unsigned integers of the same size."""
        return self.numpy.kind == "u" and self.category >= FLOAT

    @property
    def differentiable(self) -> bool:
        """Whether tensors of it may require grad."""
        return self.category >= FLOAT

    def to_complex(self):
        """The complex dtype whose parts hold this one; integers have none."""
        if self.is_complex:
            return self
        if self.name not in _COMPLEX_OF:
            raise RuntimeError(f"Unknown Complex ScalarType for {self.scalar_name}")
        return BY_NAME[_COMPLEX_OF[self.name]]

    def to_real(self):
        """The dtype of the parts of a complex dtype; other dtypes themselves."""
        return BY_NAME[_REAL_OF.get(self.name, self.name)]


def by_name(name: str) -> dtype:
    """The dtype of a name: how one is unpickled."""
    return BY_NAME[name]


_ROWS = [
    # name, memory, category, legacy constructor, C++ name, dtype it is computed in (its own if None)
    ("float32", np.float32, FLOAT, "FloatTensor", "float", None),
    ("float64", np.float64, FLOAT, "DoubleTensor", "double", None),
    ("int64", np.int64, INTEGER, "LongTensor", "long int", None),
    ("int32", np.int32, INTEGER, "IntTensor", "int", None),
    ("int16", np.int16, INTEGER, "ShortTensor", "short int", None),
    ("int8", np.int8, INTEGER, "CharTensor", "signed char", None),
    ("uint8", np.uint8, INTEGER, "ByteTensor", "unsigned char", None),
    ("bool", np.bool_, BOOL, "BoolTensor", "bool", None),
    ("float16", np.float16, FLOAT, "HalfTensor", "c10::Half", "float32"),
    ("bfloat16", np.uint16, FLOAT, "BFloat16Tensor", "c10::BFloat16", "float32"),
    ("complex64", np.complex64, COMPLEX, "ComplexFloatTensor", "c10::complex<float>", None),
    ("complex128", np.complex128, COMPLEX, "ComplexDoubleTensor", "c10::complex<double>", None),
    ("complex32", np.uint32, COMPLEX, "ComplexHalfTensor", "c10::complex<c10::Half>", "complex64"),
]
_COMPLEX_OF = {"float16": "complex32", "bfloat16": "complex64", "float32": "complex64", "float64": "complex128"}
_REAL_OF = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}

BY_CODE: list[dtype] = [
    dtype(name, code, stored, category, legacy, short, compute) for code, (name, stored, category, legacy, short, compute) in enumerate(_ROWS)
]
BY_NAME: dict[str, dtype] = {d.name: d for d in BY_CODE}
STORAGES = {d.name: d.legacy.replace("Tensor", "Storage") for d in BY_CODE if d.name != "complex32"}  # what torch calls vectors of a dtype
BY_NUMPY: dict[np.dtype, dtype] = {d.numpy: d for d in BY_CODE if not d.foreign}
float32, float64, int64, int32, int16, int8, uint8, bool_, float16, bfloat16, complex64, complex128, complex32 = BY_CODE

# A tensor's slot may say in the bits above the code that its value is the conjugate, or the negative, of what its memory holds.
PLAIN, CONJ, NEG, CODES = 15, 16, 32, 64
OF_SLOT: list[dtype] = [BY_CODE[code & PLAIN] if code & PLAIN < len(BY_CODE) else float32 for code in range(CODES)]


def _refuse(cls, *args, **kwargs):
    raise TypeError("cannot create 'tapegrad.dtype' instances")


dtype.__new__ = _refuse  # type: ignore[method-assign]
ALIASES = {
    "float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16", "cfloat": "complex64",
    "cdouble": "complex128", "chalf": "complex32",
}  # fmt: skip

_default = float32


def default_dtype() -> dtype:
    return _default


def set_default(chosen: dtype) -> None:
    global _default
    if not isinstance(chosen, dtype):
        raise TypeError("invalid dtype object: only floating-point types are supported as the default type")
    if not chosen.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = chosen


# --- promotion ------------------------------------------------------------------------------------------------------
_PRECISION = ["bool", "uint8", "int8", "int16", "int32", "int64", "bfloat16", "float16", "float32", "float64"]


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both can be converted to.

    torch's table: uint8 with int8 gives int16, float16 with bfloat16 float32, an integer with a float the float, and a complex
    dtype with a float the complex dtype whose parts hold both.
    """
    if a is b:
        return a
    if a.category == COMPLEX or b.category == COMPLEX:
        parts = [d.to_real() for d in (a, b) if d.category >= FLOAT]
        return (promote_types(*parts) if len(parts) == 2 else parts[0]).to_complex()
    if {a.name, b.name} == {"uint8", "int8"}:
        return int16
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return float32
    return a if _PRECISION.index(a.name) > _PRECISION.index(b.name) else b


def can_cast(source: dtype, target: dtype) -> bool:
    """Whether a value may be converted without leaving its category upwards (float to int may not)."""
    return source.category <= target.category


def of_number(value) -> dtype:
    """The dtype that a Python number has as a tensor."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _default
    if isinstance(value, (complex, np.complexfloating)):
        return _default.to_complex()
    if isinstance(value, str):
        raise TypeError("new(): invalid data type 'str'")
    raise RuntimeError(f"Could not infer dtype of {type_name(value)}")


def stronger(higher: dtype | None, lower: dtype | None) -> dtype | None:
    """What a class of operands and a weaker class give: the category of the weaker one counts only if it is higher."""
    if higher is None or lower is None:
        return higher or lower
    if higher.category >= FLOAT:
        return higher.to_complex() if lower.is_complex else higher
    return promote_types(higher, lower) if higher.category == BOOL or lower.category >= FLOAT else higher


def combine(dimensioned: dtype | None, zero_dim: dtype | None, wrapped: dtype | None) -> dtype | None:
    """torch's result_type of the three operand classes, each already promoted within itself (None: no such operand)."""
    return stronger(dimensioned, stronger(zero_dim, wrapped))


# --- elements as NumPy computes with them ---------------------------------------------------------------------------
def from_stored(array: np.ndarray, d: dtype) -> np.ndarray:
    """The elements of memory of `d` as numbers NumPy can compute with: in `d.compute`; the array itself if that is how they lie."""
    if not d.reduced:
        return array
    if d is bfloat16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if d is complex32:
        halves = np.ascontiguousarray(array).view(np.float16).reshape(*array.shape, 2).astype(np.float32)
        return halves.view(np.complex64).reshape(array.shape)
    return array.astype(BY_NAME[d.compute].numpy)


def to_stored(array: np.ndarray, d: dtype) -> np.ndarray:
    """Numbers as memory of `d` holds them: converted, or rounded to nearest even."""
    with np.errstate(all="ignore"):
        if not d.foreign:
            if array.dtype.kind == "c" and not d.is_complex and d.category != BOOL:
                array = array.real
            if d is float16 and array.dtype.itemsize > 4:
                array = array.astype(np.float32)  # in two roundings, as torch
            return array.astype(d.numpy)
        if d is bfloat16:
            values = np.ascontiguousarray(array.real, np.float32)
            bits = values.view(np.uint32).reshape(values.shape)
            rounded = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
            return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).reshape(np.shape(array))
        parts = np.ascontiguousarray(array, np.complex64).reshape(*np.shape(array), 1).view(np.float32).astype(np.float16)
        return parts.view(np.uint32).reshape(np.shape(array))
