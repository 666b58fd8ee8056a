"""The arithmetic of random sampling: how raw 32- and 64-bit draws become samples, in the exact rounding of torch's CPU kernels.

Pure NumPy functions of arrays, then the integer ranges that each dtype holds and its names in errors; a `Stream` gives the draws.
The 16-wide normal kernel follows torch's vectorised float32 path: Box-Muller over the single-precision log, sin and cos of the
Cephes library (S. Moshier; the 8-lane form is avx_mathfun), with its multiply-adds fused.  A float32 fused multiply-add is a
float64 one rounded once more, so the float32 values are carried in float64 arrays.  Sources: the Cephes library, and torch's
DistributionTemplates.h and TransformationHelper.h.
"""

from __future__ import annotations

import array
import math
import warnings
from typing import Any

import numpy as np

_TWO_PI = 2.0 * math.pi
_BLOCK = 2048  # rows of 16 per pass, so that a pass stays in the cache
_SPLITTER = 134217729.0  # 2**27 + 1: Dekker's split of a double into halves

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


class Bfloat16:
    """What stands for NumPy's missing dtype: arrays of it are float32, rounded to 8 digits."""

    name, kind, itemsize = "bfloat16", "f", 2


BFLOAT16 = Bfloat16()
NAMES = {  # NumPy's name: the name as a scalar type, as a C++ type, as a fixed-width type
    "float16": ("Half", "c10::Half", ""),
    "bfloat16": ("BFloat16", "c10::BFloat16", ""),
    "float32": ("Float", "float", ""),
    "float64": ("Double", "double", ""),
    "int64": ("Long", "long int", "int64_t"),
    "int32": ("Int", "int", "int"),
    "int16": ("Short", "short int", "int16_t"),
    "int8": ("Char", "signed char", "int8_t"),
    "uint8": ("Byte", "unsigned char", "uint8_t"),
    "uint16": ("UInt16", "short unsigned int", "uint16_t"),
    "uint32": ("UInt32", "unsigned int", "uint32_t"),
    "uint64": ("UInt64", "long unsigned int", "uint64_t"),
    "bool": ("Bool", "bool", "bool"),
}


def kind_of(dtype):
    """The NumPy dtype of what names one; BFLOAT16 itself."""
    return dtype if dtype is BFLOAT16 else np.dtype(dtype)


def convert(values: np.ndarray, dtype) -> np.ndarray:
    """`values` rounded to a dtype."""
    if dtype is BFLOAT16:
        single = np.asarray(values, np.float32)
        bits = single.view(np.uint32)
        rounded = (bits + ((bits >> 16) & 1) + np.uint32(0x7FFF)) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(single), rounded.view(np.float32), single)
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if dtype == np.float16:
            values = values.astype(np.float32)  # torch's Half is made from a float
        return values.astype(dtype)


def _single(value: float) -> float:
    return float(np.float32(value))


_LOG = [
    _single(c)
    for c in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
]  # fmt: skip
_LN2_LOW, _LN2_HIGH = _single(-2.12194440e-4), 0.693359375
_SQRT_HALF = _single(0.707106781186547524)
_COS = [_single(c) for c in (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)]
_SIN = [_single(c) for c in (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)]
_QUARTER_PI = [_single(c) for c in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)]  # -pi/4 in three parts
_FOUR_OVER_PI = _single(4.0 / math.pi)


def libm(function, x: np.ndarray) -> np.ndarray:
    """A function of `math` over a float64 array: the C library's own rounding, which NumPy's vector code does not always share."""
    return np.fromiter(map(function, x.tolist()), np.float64, x.size)


def _round(x: np.ndarray) -> np.ndarray:
    """To float32 precision, in place."""
    x[...] = x.astype(np.float32)
    return x


def _fma32(a, b, c) -> np.ndarray:
    t = a * b
    t += c
    return _round(t)


def _polynomial(coefficients: list[float], x: np.ndarray):
    y: Any = coefficients[0]
    for c in coefficients[1:]:
        y = _fma32(y, x, c)
    return y


def _log(x: np.ndarray) -> np.ndarray:
    """The float32 log of x in (0, 1]."""
    m, exponent = np.frexp(x)
    low = m < _SQRT_HALF
    e = (exponent - low).astype(np.float64)
    np.add(m, m, out=m, where=low)
    m -= 1.0
    z = _round(m * m)
    y = _round(_polynomial(_LOG, m) * m)
    y = _fma32(y, z, _round(e * _LN2_LOW))
    y = _fma32(z, -0.5, y)
    return _fma32(e, _LN2_HIGH, _round(m + y))


def _sin_cos(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float32 sine and cosine of x in [0, 2 pi]."""
    octant = ((x * _FOUR_OVER_PI).astype(np.float32).astype(np.int32) + 1) & ~1
    y = octant.astype(np.float64)
    for part in _QUARTER_PI:
        x = _fma32(y, part, x)
    z = _round(x * x)
    c = _round(_polynomial(_COS, z) * z)
    c = _fma32(c, z, -0.5 * z)
    c = _round(c + 1.0)
    s = _round(_polynomial(_SIN, z) * z)
    s = _fma32(s, x, x)
    swap = (octant & 2) != 0
    sine, cosine = np.where(swap, c, s), np.where(swap, s, c)
    np.negative(sine, out=sine, where=(octant & 4) != 0)
    np.negative(cosine, out=cosine, where=((octant + 2) & 4) != 0)
    return sine, cosine


def box_muller32(u: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Normal samples, as float32, of rows of 16 float32 uniforms: 8 radii, then 8 angles."""
    out = np.empty(u.shape, np.float32)
    mean, std = _single(mean), _single(std)
    for start in range(0, len(u), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = u[part].astype(np.float64)
        radius = _round(np.sqrt(_round(-2.0 * _log(1.0 - block[:, :8]))))
        sine, cosine = _sin_cos(_round(_single(_TWO_PI) * block[:, 8:]))
        for target, wave in ((out[part, :8], cosine), (out[part, 8:], sine)):
            wave *= radius
            target[...] = wave + 0.0 if mean == 0.0 and std == 1.0 else _fma32(_round(wave), std, mean)
    return out


def box_muller64(u: np.ndarray, mean: float, std: float) -> np.ndarray:
    """As `box_muller32`, in float64 with the C library's functions."""
    radius = np.sqrt(-2.0 * libm(math.log, (1.0 - u[:, :8]).ravel()))
    theta = (_TWO_PI * u[:, 8:]).ravel()
    out = np.empty(u.shape)
    out[:, :8] = (radius * libm(math.cos, theta)).reshape(-1, 8)
    out[:, 8:] = (radius * libm(math.sin, theta)).reshape(-1, 8)
    return fma64(out, std, mean)


def normal_pairs(u: np.ndarray) -> np.ndarray:
    """Standard normals of float64 uniforms taken in pairs (angle, radius): torch's serial path, one cosine and one sine a pair."""
    theta = _TWO_PI * u[0::2]
    radius = np.sqrt(-2.0 * libm(math.log1p, -u[1::2]))
    out = np.empty(u.size)
    np.multiply(radius, libm(math.cos, theta), out=out[0::2])
    np.multiply(radius, libm(math.sin, theta), out=out[1::2])
    return out


def _halves(a):
    t = _SPLITTER * a
    high = t - (t - a)
    return high, a - high


def fma64(a: np.ndarray, b: float, c: float) -> np.ndarray:
    """a * b + c rounded once, by an error-free product and sum."""
    if c == 0.0:
        return a * b + 0.0
    if b == 1.0:
        return a + c
    with np.errstate(all="ignore"):
        product = a * b
        (ah, al), (bh, bl) = _halves(a), _halves(b)
        product_error = ((ah * bh - product) + ah * bl + al * bh) + al * bl
        total = product + c
        rest = total - product
        total_error = (product - (total - rest)) + (c - rest)
        result = total + (total_error + product_error)
        return np.where(np.isfinite(result), result, total)


def scale32(u: np.ndarray, low: float, high: float) -> np.ndarray:
    """u * (high - low) + low in float32, fused."""
    low32 = np.float32(low)
    return (u.astype(np.float64) * float(np.float32(high) - low32) + float(low32)).astype(np.float32)


def exponential(u: np.ndarray, rate: float, exact: bool) -> np.ndarray:
    return (-1.0 / rate) * (libm(math.log1p, -u) if exact else np.log1p(-u))


def cauchy(u: np.ndarray, median: float, sigma: float, exact: bool) -> np.ndarray:
    angle = math.pi * (u - 0.5)
    return fma64(libm(math.tan, angle) if exact else np.tan(angle), sigma, median)


def exp(x: np.ndarray, exact: bool) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        if not exact or (x > 709.0).any():  # math.exp raises where C gives inf
            return np.exp(x)
    return libm(math.exp, x)


def permute(draws: np.ndarray, n: int) -> np.ndarray:
    """The Fisher-Yates shuffle of 0 ... n - 1 by n - 1 draws (uint64), from the front; int64."""
    here = np.arange(draws.size, dtype=np.uint64)
    there = (draws % (np.uint64(n) - here) + here).view(np.int64)
    order = list(range(n)) if n < 65536 else array.array("q", range(n))  # the list is faster while its objects fit the cache
    for i, j in enumerate(there.tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def sample_rows(weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Indices drawn with replacement: each row's uniforms (float64) sought in its cumulative weights, summed in the weights' dtype."""
    out = np.empty(u.shape, np.int64)
    kind = np.float32 if weights.dtype == np.float16 else weights.dtype
    for row, uniforms, result in zip(weights.astype(kind, copy=False), u, out, strict=True):
        cumulative = np.add.accumulate(row)
        total = cumulative[-1]
        if not total > 0:
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        cumulative /= total
        cumulative[-1] = 1
        result[...] = np.searchsorted(cumulative.astype(np.float64), uniforms, side="left")
    return out


def largest(q: np.ndarray, k: int) -> np.ndarray:
    """The indices of the k largest of each row, largest first; equal ones in index order (torch: in no documented order)."""
    if k == 1:
        return q.argmax(axis=1)[:, None]
    return np.ascontiguousarray(np.argsort(-q, axis=1, kind="stable")[:, :k])


def not_implemented(dtype: np.dtype, kernel: str) -> NotImplementedError:
    return NotImplementedError(f"\"{kernel}\" not implemented for '{NAMES[dtype.name][0]}'")


def require_float(dtype: np.dtype, kernel: str) -> None:
    if dtype.kind != "f":
        raise not_implemented(dtype, kernel)


CONTINUOUS = "{} distribution is a continuous probability distribution. dtype must be a floating point but you specified {}"


def require_continuous(dtype: np.dtype, distribution: str, form: int) -> None:
    """Refuse what is no floating point dtype by one of its names."""
    if dtype.kind != "f":
        raise RuntimeError(CONTINUOUS.format(distribution, NAMES[dtype.name][form]))


def require_positive(method: str, name: str, value) -> None:
    if not value > 0.0:
        raise RuntimeError(f"{method} expects {name} > 0.0, but found {name}={value:g}")


def out_of_bounds(name: str, dtype: np.dtype) -> RuntimeError:
    return RuntimeError(f"{name} is out of bounds for {NAMES[dtype.name][1]}")


def limits(dtype: np.dtype) -> tuple:
    if dtype is BFLOAT16:
        return -3.3895313892515355e38, 3.3895313892515355e38
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), INT64_MAX)


def check_range(low: int, last: int, dtype: np.dtype) -> None:
    smallest, greatest = limits(dtype)
    for value, name in ((low, "from"), (last, "to - 1")):
        if not smallest <= value <= greatest:
            raise out_of_bounds(name, dtype)
        if dtype.kind == "f" and abs(value) > 2 ** DIGITS[dtype.name]:
            digits = DIGITS[dtype.name]
            warnings.warn(
                f"{name} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations {NAMES[dtype.name][1]} can support "
                "discrete uniform distribution only within this range. This warning will become an error in version 1.7 release, "
                "please fix the code in advance",
                stacklevel=4,
            )


def _as_integer(value: int, dtype: np.dtype) -> int | float:
    """`value` rounded to a float dtype and taken back (infinite if it does not fit)."""
    with np.errstate(over="ignore"):
        rounded = float(convert(np.array(value), dtype))
    return int(rounded) if math.isfinite(rounded) else rounded


def _step(value: int, dtype: np.dtype) -> int:
    return 1 << max(abs(value).bit_length() - DIGITS[dtype.name], 0)


def float_low(low: int, dtype: np.dtype) -> int:
    """The least representable bound that is not below `low`."""
    rounded = _as_integer(low + 1, dtype)
    return int(rounded) + _step(low + 1, dtype) if rounded < low else low


def float_high(high: int, dtype: np.dtype) -> int:
    """The bound below which every draw stays after conversion to the float dtype."""
    rounded = _as_integer(high - 1, dtype)
    return int(rounded) - _step(high - 1, dtype) if high <= rounded < math.inf else high
