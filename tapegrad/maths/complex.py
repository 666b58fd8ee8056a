"""Complex functions for kernels: the C library's for the elementary ones, and formulas over real functions for the rest.

A complex transcendental function is made of several real ones with many special cases (C99, annex G), so there is nothing to vectorise:
the C library is called, in double precision whatever the dtype.  `compiled(dtype)` maps a name to a numba function of complex scalars,
`PLAIN` to the same over NumPy arrays.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tapegrad.maths.library import _Lazy

C_LIBRARY = ("exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
LOG2, LOG10 = math.log(2.0), math.log(10.0)


# --- formulas: plain Python over complex numbers, compiled by numba; `exp`, `log` are the C library's -------------------
def exp2(x):
    return exp(x * LOG2)  # noqa: F821 (bound by `compiled`)


def expm1(x):
    """exp(a) (cos b + i sin b) - 1 without cancellation: cos b - 1 = -2 sin(b/2)**2."""
    a, b = x.real, x.imag
    half = math.sin(b / 2)
    return complex(math.expm1(a) * math.cos(b) - 2 * half * half, math.exp(a) * math.sin(b))


def log1p(x):
    """log|1 + x| near 0 from |1 + x|**2 - 1 = a (2 + a) + b**2."""
    a, b = x.real, x.imag
    angle = math.atan2(b, a + 1)
    if math.hypot(a, b) < 0.5:
        return complex(0.5 * math.log1p(a * (2 + a) + b * b), angle)
    return complex(math.log(math.hypot(a + 1, b)), angle)


def log2(x):
    return log(x) * (1 / LOG2)  # noqa: F821


def log10(x):
    return log(x) * (1 / LOG10)  # noqa: F821


def sigmoid(x):
    return quotient(complex(1.0, 0.0), complex(1.0, 0.0) + exp(-x))  # noqa: F821


def quotient(x, y):
    """x / y by Smith's method (CACM 5, 1962), which does not overflow on the way."""
    a, b, c, d = x.real, x.imag, y.real, y.imag
    if abs(c) >= abs(d):
        if c == 0 and d == 0:
            return complex(a / abs(c), b / abs(d))
        ratio = d / c
        scale = 1 / (c + d * ratio)
        return complex((a + b * ratio) * scale, (b - a * ratio) * scale)
    ratio = c / d
    scale = 1 / (c * ratio + d)
    return complex((a * ratio + b) * scale, (b * ratio - a) * scale)


def modulus(x):
    return math.hypot(x.real, x.imag)


def argument(x):
    return math.atan2(x.imag, x.real)


def sgn(x):
    """x / |x|, 0 at 0."""
    size = math.hypot(x.real, x.imag)
    return complex(x.real / size, x.imag / size) if size != 0 else complex(0.0, 0.0)


def log_add_exp(x, y):
    """log(exp(x) + exp(y)), with the one of the larger real part taken out."""
    low, high = (x, y) if x.real < y.real else (y, x)
    if x.real != x.real or y.real != y.real:
        return complex(math.nan, math.nan)
    if math.isinf(low.real) and low.real == high.real:
        if low.real < 0:
            return low  # exp of both is 0, whatever the imaginary parts
        return log(exp(low) + exp(high))  # noqa: F821
    return high + log1p(exp(low - high))  # noqa: F821


FORMULAS = (quotient, exp2, expm1, log1p, log2, log10, sigmoid, sgn, log_add_exp)  # each may call those before it
REAL_VALUED = (modulus, argument)
NAMES = frozenset((*C_LIBRARY, "pow", "re", "im", "conj", "pack", *(f.__name__ for f in (*FORMULAS, *REAL_VALUED))))


# --- for NumPy ------------------------------------------------------------------------------------------------------
def _quotient(x, y):
    with np.errstate(all="ignore"):
        return np.divide(x, y)


def _expm1(x):
    half = np.sin(np.imag(x) / 2)
    return np.expm1(np.real(x)) * np.cos(np.imag(x)) - 2 * half * half + 1j * (np.exp(np.real(x)) * np.sin(np.imag(x)))


PLAIN = {
    **{name: getattr(np, name.replace("a", "arc", 1) if name[0] == "a" else name) for name in C_LIBRARY},
    "pow": np.power, "exp2": lambda x: np.exp(x * LOG2), "expm1": _expm1, "log1p": np.log1p, "log2": np.log2, "log10": np.log10,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "quotient": _quotient, "modulus": np.abs, "argument": np.angle,
    "sgn": lambda x: np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x))), "log_add_exp": lambda x, y: np.log(np.exp(x) + np.exp(y)),
    "re": np.real, "im": np.imag, "conj": np.conj, "pack": lambda x, y: x + 1j * y,
}  # fmt: skip


# --- for compiled code ----------------------------------------------------------------------------------------------
def _c_function(symbol: str, arity: int):
    """A C function of double complex numbers: each is two doubles in registers, as the 64-bit calling conventions have it."""
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    double = ir.DoubleType()
    kind = ir.FunctionType(ir.LiteralStructType([double, double]), [double] * (2 * arity))

    def generate(context, builder, signature, arguments):
        parts = [builder.extract_value(a, k) for a in arguments for k in (0, 1)]
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), parts)

    z = types.complex128
    if arity == 1:
        return intrinsic(lambda typing, x: (z(z), generate))
    return intrinsic(lambda typing, x, y: (z(z, z), generate))


@lru_cache(maxsize=None)
def _elementary() -> dict:
    """Numba functions of complex128 numbers by name."""
    import types

    from numba import njit

    space = {name: _c_function("c" + name, 1) for name in C_LIBRARY}
    space["pow"] = _c_function("cpow", 2)
    for formula in (*FORMULAS, *REAL_VALUED):
        shared = {"math": math, "LOG2": LOG2, "LOG10": LOG10, **space}
        space[formula.__name__] = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(
            types.FunctionType(formula.__code__, shared, formula.__name__)
        )
    return space


@lru_cache(maxsize=None)
def compiled(dtype: str) -> dict:
    """Name -> numba function for kernels of complex64 or complex128."""
    from numba import njit, types

    narrow = dtype == "complex64"
    whole, part = (types.complex64, types.float32) if narrow else (types.complex128, types.float64)
    inline = njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)

    def make(name):
        if name in ("re", "im", "conj", "pack"):
            return inline(
                {"re": lambda x: x.real, "im": lambda x: x.imag, "conj": lambda x: x.conjugate(), "pack": lambda x, y: whole(complex(x, y))}[name]
            )
        function = _elementary()[name]
        back = part if name in ("modulus", "argument") else whole
        wide = types.complex128
        if name in ("pow", "quotient", "log_add_exp"):
            return inline(lambda x, y: back(function(wide(x), wide(y))))
        return inline(lambda x: back(function(wide(x))))

    return _Lazy(make, NAMES)
