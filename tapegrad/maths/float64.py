"""The float64 functions, each a branch-free formula over `primitives` that LLVM can vectorise.

All are written from the mathematics named in their docstrings. The polynomial coefficients were computed for this file: weighted
minimax (Remez) fits of the stated function on the stated interval with 60-digit mpmath, approximation error below 2^-56 of the result.
Sources referred to: J.-M. Muller, "Elementary Functions" (argument reduction, double-double steps); W. J. Cody and W. Waite,
"Software Manual for the Elementary Functions"; M. Abramowitz and I. Stegun,
"Handbook of Mathematical Functions", ch. 4 and 7; M. Shepherd and J. Laframboise 1981 (erfc on one rational variable).

A NaN argument falls through every comparison and comes out as NaN. Literals are at most int64: a larger one would turn numba's
arithmetic unsigned or floating.
"""

import math

from tapegrad.maths.primitives import (
    bits,
    copysign,
    fabs,
    from_bits,
    minus_product,
    nearest,
    product,
    sqrt,
    two_sum,
    where,
)

INF = float("inf")
NAN = float("nan")
MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which is then in the low bits of the sum
MAGIC_BITS = 0x4338000000000000
ONE_BITS = 0x3FF0000000000000
QUARTER_BITS = 0x3FD0000000000000
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
LOG2_E = 1.4426950408889634
LOG2_E_LOW = 2.0355273740931033e-17
LN2_HIGH = 0.6931471805601177  # 41 bits: a multiple by any exponent is exact
LN2_LOW = -1.7239444525614835e-13
LN2 = 0.6931471805599453
LOG10_E = 0.4342944819032518
LOG10_E_LOW = 1.098319650216765e-17
LOG10_2_HIGH = 0.3010299956640665  # 41 bits
LOG10_2_LOW = -8.532344317057107e-14
TWO_OVER_PI = 0.6366197723675814
HALF_PI = 1.5707963267948966  # pi / 2 as the sum of three float64
HALF_PI_2 = 6.123233995736766e-17
HALF_PI_3 = -1.4973849048591698e-33
PI = 3.141592653589793
PI_LOW = 1.2246467991473532e-16
ERFC_CENTRE = 1.095995661000491  # 8 e^16 erfc(4)
ERFC_CENTRE_LOW = 5.757254511326975e-17
TINY = 7.450580596923828e-09  # 2^-27: below it sin, tan, asin, ... of x are x to within rounding
ANGLE_LIMIT = 1099511627776.0  # 2^40: the three-part reduction is exact up to here


def _times_power(p, shifted):
    """p * 2^k where `shifted` is k + MAGIC: in two halves, so that results may be subnormal (rounded once) or overflow to inf."""
    u = bits(shifted)
    half = u >> 1
    return p * from_bits((half << 52) + ONE_BITS) * from_bits(((u - half) << 52) + ONE_BITS)


def _exp_tail(r):
    """(e^r - 1 - r) / r^2 on |r| <= ln(2) / 2."""
    p = ((2.092444485858478e-09 * r + 2.510908670057706e-08) * r + 2.7557242775808405e-07) * r + 2.755724407249182e-06
    p = ((p * r + 2.4801587360497847e-05) * r + 0.00019841269886256105) * r + 0.0013888888888866904
    p = ((p * r + 0.008333333333321582) * r + 0.0416666666666667) * r + 0.16666666666666677
    p = p * r + 0.5
    return p


def exp(x):
    """Cody-Waite: x = k ln2 + r, e^x = 2^k (1 + r + r^2 P(r))."""
    v = where(x > 720.0, 720.0, where(x < -760.0, -760.0, x))
    shifted = v * LOG2_E + MAGIC
    k = shifted - MAGIC
    r = (v - k * LN2_HIGH) - k * LN2_LOW
    return _times_power(1.0 + (r + r * r * _exp_tail(r)), shifted)


def _exp2_core(r, shifted):
    """2^(r + k), |r| <= 1/2, `shifted` = k + MAGIC: (2^r - 1) / r as a polynomial."""
    p = ((4.457376515073445e-10 * r + 7.073858996054259e-09) * r + 1.0178046542191376e-07) * r + 1.3215434823861938e-06
    p = ((p * r + 1.525273386730963e-05) * r + 0.0001540353045806589) * r + 0.0013333558146379348
    p = ((p * r + 0.009618129107593342) * r + 0.05550410866482174) * r + 0.24022650695910133
    p = p * r + 0.6931471805599453
    return _times_power(1.0 + r * p, shifted)


def exp2(x):
    """x = k + r exactly, 2^x = 2^k (1 + r P(r))."""
    v = where(x > 1040.0, 1040.0, where(x < -1100.0, -1100.0, x))
    shifted = v + MAGIC
    return _exp2_core(v - (shifted - MAGIC), shifted)


def _expm1_quarter(v):
    """(e^v - 1) / 4 and its rounding error, -50 <= v <= 710.6; a quarter because e^v may overflow where the caller's result does not.

    With s = 2^(k-2): s (e^r - 1) + (s - 1/4), where s - 1/4 is exact (or dwarfed) and r carries its own rounding error.
    """
    shifted = v * LOG2_E + MAGIC
    k = shifted - MAGIC
    high = v - k * LN2_HIGH
    low = k * LN2_LOW
    r = high - low
    rest = (high - r) - low
    s = from_bits((bits(shifted) << 52) + QUARTER_BITS)
    main = s * r + (s - 0.25)
    minor = s * (r * r * _exp_tail(r) + rest)
    q = main + minor
    return q, (main - q) + minor


def expm1(x):
    """Cody-Waite reduction; the 1 is subtracted before the small terms are added."""
    v = where(x > 710.6, 710.6, where(x < -50.0, -50.0, x))
    q, _ = _expm1_quarter(v)
    return where(fabs(x) < 1e-17, x, 4.0 * q)


def sinh(x):
    """With E = e^|x| - 1: (E + E / (E + 1)) / 2 (Abramowitz-Stegun 4.5)."""
    a = fabs(x)
    q, _ = _expm1_quarter(where(a > 710.6, 710.6, a))
    return copysign(where(a < TINY, a, 2.0 * q + q / (2.0 * q + 0.5)), x)


def cosh(x):
    """(e^|x| + e^-|x|) / 2 from e^|x| / 4, which does not overflow before cosh does."""
    a = fabs(x)
    v = where(a > 710.6, 710.6, a)
    shifted = v * LOG2_E + MAGIC
    k = shifted - MAGIC
    r = (v - k * LN2_HIGH) - k * LN2_LOW
    quarter = (1.0 + (r + r * r * _exp_tail(r))) * from_bits((bits(shifted) << 52) + QUARTER_BITS)
    return 2.0 * quarter + 0.125 / quarter


def tanh(x):
    """E / (E + 2) with E = e^(2|x|) - 1; the residual of the division takes in the rounding of E and of E + 2."""
    a = fabs(x)
    q, low = _expm1_quarter(2.0 * where(a > 22.0, 22.0, a))
    divisor = q + 0.5
    reciprocal = 1.0 / divisor
    y = q * reciprocal
    y = y + (minus_product(q, y, divisor) + (low - y * (q - (divisor - 0.5)))) * reciprocal
    return copysign(where(a < TINY, a, y), x)


def sigmoid(x):
    """1 / (1 + e^-x), with the exponential always of -|x| so that the far left tail keeps its digits."""
    e = exp(-fabs(x))
    return where(x < 0.0, e, 1.0) / (1.0 + e)


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    return where(x < 0.0, 0.0, x) + log1p(exp(-fabs(x)))


def _log_rest(f):
    """f - log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)]: log(1 + f) = 2 atanh(s), s = f / (2 + f), where 2 s = f - s f."""
    s = f / (2.0 + f)
    z = s * s
    p = ((0.14813717169306076 * z + 0.15312861255864227) * z + 0.18183582592174882) * z + 0.2222219889754928
    p = ((p * z + 0.2857142873092868) * z + 0.39999999999513836) * z + 0.6666666666666711
    return s * (f - z * p)


def _split(x):
    """k and m in [sqrt(1/2), sqrt(2)) with x = 2^k m; x positive, subnormals included. 2^k times an exact power is k itself."""
    small = x < 2.2250738585072014e-308
    b = bits(where(small, x * 18014398509481984.0, x))
    e = (b - SQRT_HALF_BITS) >> 52
    k = (from_bits(e + MAGIC_BITS) - MAGIC) - where(small, 54.0, 0.0)
    return k, from_bits(b - (e << 52))


def _log_domain(x, y):
    """y where 0 < x < inf, and what a logarithm is elsewhere."""
    return where(x > 0.0, where(x < INF, y, x), where(x == 0.0, -INF, NAN))


def log(x):
    """x = 2^k m: k ln2 + log m, log m = 2 atanh((m - 1) / (m + 1)) (Muller, ch. 3 and 11)."""
    k, m = _split(x)
    f = m - 1.0
    return _log_domain(x, k * LN2_HIGH + (f - (_log_rest(f) - k * LN2_LOW)))


def log1p(x):
    """log of u = 1 + x, the rounding error of that sum added to the reduced fraction."""
    u, error = two_sum(1.0, x)
    e = (bits(u) - SQRT_HALF_BITS) >> 52
    k = from_bits(e + MAGIC_BITS) - MAGIC
    scale = where(u > 1e300, 0.0, from_bits(ONE_BITS - (e << 52)))  # 2^-e is no float64 for the largest u
    f = (from_bits(bits(u) - (e << 52)) - 1.0) + error * scale
    y = k * LN2_HIGH + (f - (_log_rest(f) - k * LN2_LOW))
    return where(fabs(x) < 1e-17, x, _log_domain(u, y))


def log2(x):
    """As log, log m / ln2 in double-double steps: exact at powers of two."""
    k, m = _split(x)
    f = m - 1.0
    high, low = product(f, LOG2_E)
    total, rest = two_sum(k, high)
    return _log_domain(x, total + (rest + ((low + f * LOG2_E_LOW) - _log_rest(f) * LOG2_E)))


def log10(x):
    """As log2 with k log10(2) split in two: right to about 0.6 ulp, so exact at the powers of ten."""
    k, m = _split(x)
    f = m - 1.0
    high, low = product(f, LOG10_E)
    total, rest = two_sum(k * LOG10_2_HIGH, high)
    low = low + (k * LOG10_2_LOW + f * LOG10_E_LOW)
    return _log_domain(x, total + (rest + (low - _log_rest(f) * LOG10_E)))


def _reduce(x):
    """x - n pi/2 as a sum r + rest, and n + MAGIC. Three-part Cody-Waite with exact steps, good to |x| <= ANGLE_LIMIT."""
    shifted = x * TWO_OVER_PI + MAGIC
    n = shifted - MAGIC
    high, low = product(n, HALF_PI_2)
    r, rest = two_sum(minus_product(x, n, HALF_PI), -high)
    return r, (rest - low) - n * HALF_PI_3, shifted


def _sin_part(r, z, rest):
    """sin(r + rest) on |r| <= pi / 4, z = r^2."""
    p = ((1.5894200814787592e-10 * z - 2.5050726020552546e-08) * z + 2.7557313599708366e-06) * z - 0.0001984126983000529
    p = (p * z + 0.008333333333323511) * z - 0.1666666666666664
    return r + (r * z * p + rest * (1.0 - 0.5 * z))


def _cos_part(r, z, rest):
    """cos(r + rest) on |r| <= pi / 4, z = r^2: the rounding error of 1 - z/2 is added back."""
    p = ((-1.1367662930696193e-11 * z + 2.087589238884471e-09) * z - 2.755731570598784e-07) * z + 2.4801587294540973e-05
    p = (p * z - 0.0013888888888882744) * z + 0.04166666666666665
    half = 0.5 * z
    top = 1.0 - half
    return top + (((1.0 - top) - half) + (z * z * p - r * rest))


def _quadrant(r, rest, quarter):
    """sin(r + rest + quarter * pi / 2); only the low two bits of the integer `quarter` count."""
    z = r * r
    y = where((quarter & 1) == 0, _sin_part(r, z, rest), _cos_part(r, z, rest))
    return from_bits(bits(y) ^ ((quarter & 2) << 62))


def _tangent(r, rest, quarter):
    """tan(r + rest + quarter * pi / 2) = sin / cos or -cos / sin."""
    z = r * r
    s = _sin_part(r, z, rest)
    c = _cos_part(r, z, rest)
    even = (quarter & 1) == 0
    return where(even, s, -c) / where(even, c, s)


def sin(x):
    """Nearest multiple of pi/2 taken off, then one of two polynomials. For |x| > ANGLE_LIMIT only `sin_fixup` is right."""
    r, rest, shifted = _reduce(x)
    return where(fabs(x) < TINY, x, _quadrant(r, rest, bits(shifted)))


def cos(x):
    """As sin, a quarter turn on. For |x| > ANGLE_LIMIT only `cos_fixup` is right."""
    r, rest, shifted = _reduce(x)
    return _quadrant(r, rest, bits(shifted) + 1)


def tan(x):
    """Both polynomials of sin and cos, divided. For |x| > ANGLE_LIMIT only `tan_fixup` is right."""
    r, rest, shifted = _reduce(x)
    return where(fabs(x) < TINY, x, _tangent(r, rest, bits(shifted)))


def sin_fixup(x, y):
    """sin(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch: the C library reduces such an angle."""
    return math.sin(x) if ANGLE_LIMIT < fabs(x) < INF else y


def cos_fixup(x, y):
    """cos(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch."""
    return math.cos(x) if ANGLE_LIMIT < fabs(x) < INF else y


def tan_fixup(x, y):
    """tan(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch."""
    return math.tan(x) if ANGLE_LIMIT < fabs(x) < INF else y


def _asin_tail(z):
    """(asin(s) / s - 1) / z with z = s^2 <= 1/4."""
    p = ((0.03274148370048325 * z - 0.021060057725609364) * z + 0.021656878463960045) * z + 0.003770024441147938
    p = ((p * z + 0.010750760667860475) * z + 0.011406698306814107) * z + 0.013979523139181257
    p = ((p * z + 0.017351752625085388) * z + 0.022372205133789177) * z + 0.030381943138356467
    p = ((p * z + 0.04464285716374379) * z + 0.07499999999984425) * z + 0.16666666666666702
    return p


def asin(x):
    """A polynomial to 1/2; beyond, pi/2 - 2 asin(sqrt((1 - |x|) / 2)) (Abramowitz-Stegun 4.4)."""
    a = fabs(x)
    small = a <= 0.5
    z = where(small, a * a, 0.5 * (1.0 - a))
    s = where(small, a, sqrt(z))
    tail = s * z * _asin_tail(z)
    return copysign(where(small, a + tail, (HALF_PI - 2.0 * s) - (2.0 * tail - HALF_PI_2)), x)


def acos(x):
    """pi/2 - asin(x) to |x| = 1/2; beyond, 2 asin(sqrt((1 - |x|) / 2)), taken from pi for negative x."""
    a = fabs(x)
    small = a <= 0.5
    z = where(small, a * a, 0.5 * (1.0 - a))
    s = where(small, x, sqrt(z))
    tail = s * z * _asin_tail(z)
    twice = 2.0 * (s + tail)
    return where(small, HALF_PI - (s + (tail - HALF_PI_2)), where(x < 0.0, PI - (twice - PI_LOW), twice))


def _atan_ratio(a, b):
    """atan(a / b) for a, b >= 0 as high + low: the nearest of 0, pi/4, pi/2 is taken off within the one division."""
    low_third = a < 0.41421356237309503 * b
    mid_third = a < 2.414213562373095 * b
    t = where(low_third, a, where(mid_third, a - b, -b)) / where(low_third, b, where(mid_third, a + b, a))
    base = where(low_third, 0.0, where(mid_third, 0.7853981633974483, HALF_PI))
    base_low = where(low_third, 0.0, where(mid_third, 3.061616997868383e-17, HALF_PI_2))
    z = t * t
    p = ((-0.017818085284442176 * z + 0.03800560720125542) * z - 0.05038028825488927) * z + 0.05847881405763112
    p = ((p * z - 0.06663148070576734) * z + 0.0769206884078542) * z - 0.09090898564314451
    p = ((p * z + 0.11111110825043938) * z - 0.1428571428135741) * z + 0.199999999999691
    p = p * z - 0.3333333333333327
    return base + (t + (t * z * p + base_low))


def atan(x):
    """atan(t) = t + t z P(z), z = t^2, after reduction to |t| <= tan(pi / 8)."""
    return copysign(_atan_ratio(fabs(x), 1.0), x)


def atan2(y, x):
    """The reduction of atan applied to the pair, so that only one division rounds. Signs and infinities as C's atan2."""
    a = fabs(y)
    b = fabs(x)
    largest = where(a > b, a, b)
    scale = where(largest > 1e300, 7.888609052210118e-31, where(largest < 1e-270, 1.2676506002282294e+30, 1.0))
    both = (a == INF) & (b == INF)
    none = (a == 0.0) & (b == 0.0)
    angle = _atan_ratio(where(both, 1.0, a * scale), where(both | none, 1.0, b * scale))
    angle = where(bits(x) < 0, PI - (angle - PI_LOW), angle)
    return where((x == x) & (y == y), copysign(angle, y), NAN)


def asinh(x):
    """log1p(a + a^2 / (1 + sqrt(a^2 + 1))), and log(a) + ln2 where a^2 would swamp the 1."""
    a = fabs(x)
    big = a > 1e9
    v = where(big, 1.0, a)
    square = v * v
    inner = v + square / (1.0 + sqrt(square + 1.0))
    return copysign(where(a < TINY, a, log1p(where(big, a - 1.0, inner)) + where(big, LN2, 0.0)), x)


def acosh(x):
    """log1p(t + sqrt(t (t + 2))), t = x - 1, and log(x) + ln2 for large x."""
    big = x > 1e9
    t = where(big, 1.0, x - 1.0)
    return where(x < 1.0, NAN, log1p(where(big, x - 1.0, t + sqrt(t * (t + 2.0)))) + where(big, LN2, 0.0))


def atanh(x):
    """log1p(2a + 2a * a / (1 - a)) / 2."""
    a = fabs(x)
    y = 0.5 * log1p(2.0 * a + 2.0 * a * (a / (1.0 - a)))
    return copysign(where(a < TINY, a, where(a > 1.0, NAN, y)), x)


def _erf_small(a):
    """erf(a) / a - 1 on |a| <= 5/4, a polynomial in a^2."""
    z = a * a
    p = ((-3.261718881829974e-12 * z + 7.936649140023884e-11) * z - 1.188804613407161e-09) * z + 1.4733901366417292e-08
    p = ((p * z - 1.6356547814200574e-07) * z + 1.6461279749152327e-06) * z - 1.4925597272762156e-05
    p = ((p * z + 0.00012055330618638921) * z - 0.0008548326951790557) * z + 0.005223977624029753
    p = ((p * z - 0.026866170644963935) * z + 0.11283791670954088) * z - 0.37612638903183726
    p = p * z + 0.1283791670955126
    return p


def erf(x):
    """x + x P(x^2) to 5/4; beyond, 1 - e^-g, g = -log(erfc) a polynomial in |x| - 5/4. (Two ranges after W. J. Cody 1969.)"""
    a = fabs(x)
    v = where(a > 5.9, 5.9, a) - 1.25
    p = ((8.501465684635623e-13 * v - 2.03364261572589e-11) * v + 2.027628022531927e-10) * v - 9.357600401523618e-10
    p = ((p * v - 4.301501238236787e-10) * v + 3.761907673462162e-08) * v - 3.022920232434743e-07
    p = ((p * v + 1.5010708444241444e-06) * v - 5.210699428003033e-06) * v + 1.0856569613402406e-05
    p = ((p * v + 1.0031111999873039e-05) * v - 0.00024678103988084836) * v + 0.0016069504354553792
    p = ((p * v - 0.007791961557255681) * v + 0.03268700867984978) * v + 0.870810164058832
    p = (p * v + 3.0677239416692395) * v + 2.5626536619221256
    p = where(v < 0.0, 0.0, p)
    shifted = MAGIC - p * LOG2_E
    k = shifted - MAGIC
    r = (-p - k * LN2_HIGH) - k * LN2_LOW
    s = from_bits((bits(shifted) << 52) + ONE_BITS)
    tail = 1.0 - s * (1.0 + (r + r * r * _exp_tail(r)))
    return copysign(where(a < 1.25, a + a * _erf_small(a), tail), x)


def erfc(x):
    """For |x| >= 3/4 e^(-x^2) (x + 4)^-1 P((x - 4) / (x + 4)) (after Shepherd-Laframboise), else 1 - erf.

    The square is exact, and both quotients are corrected by their residuals over the exact divisor.
    """
    a = fabs(x)
    v = where(a > 28.0, 28.0, a)
    divisor, divisor_low = two_sum(v, 4.0)
    reciprocal = 1.0 / divisor
    numerator = v - 4.0
    t = numerator * reciprocal
    t = t + (minus_product(numerator, t, divisor) - t * divisor_low) * reciprocal
    p = ((-1.178362321360086e-08 * t + 1.34279640683939e-09) * t + 1.1845901380892248e-07) * t - 7.616532898095181e-08
    p = ((p * t - 8.413437046438507e-07) * t + 1.424631329766741e-06) * t + 4.691888363790186e-06
    p = ((p * t - 1.8861058298258722e-05) * t - 3.634336381362222e-06) * t + 0.0001768128579072046
    p = ((p * t - 0.00045505286045472094) * t - 0.00028095887065377167) * t + 0.006112055678967368
    p = ((p * t - 0.026370053339981794) * t + 0.07638151490751272) * t - 0.17401093723994215
    p = ((p * t + 0.3308515878780833) * t - 0.5408538313132352) * t + 0.773208702265236
    p = p * t - 0.976548729080882
    slope = t * p + ERFC_CENTRE_LOW
    p = ERFC_CENTRE + slope
    p_low = (ERFC_CENTRE - p) + slope
    high, low = product(v, v)
    shifted = MAGIC - high * LOG2_E
    k = shifted - MAGIC
    r = (-high - k * LN2_HIGH) - (k * LN2_LOW + low)
    y = p * reciprocal
    rest = (minus_product(p, y, divisor) + (p_low - y * divisor_low)) * reciprocal
    tail = _times_power(y + (y * (r + r * r * _exp_tail(r)) + rest), shifted)
    return where(a < 0.75, (1.0 - x) - x * _erf_small(x), where(x < 0.0, 2.0 - tail, tail))


def _pow_positive(x, y):
    """x^y for 0 < x < inf: log2(x) to about 2^-66 in double-double, times y, then 2 to that (Muller, ch. 11)."""
    k, m = _split(x)
    f = m - 1.0
    # s = f / (2 + f) = s + s_low, the residual of the division making up for both roundings.
    divisor, divisor_low = two_sum(1.0, m)
    reciprocal = 1.0 / divisor
    s = f * reciprocal
    s_low = (minus_product(f, s, divisor) - s * divisor_low) * reciprocal
    # log2(m) = s (C0 + C1 z + z^2 P(z)), z = s^2, C0 = 2 / ln2, C1 = C0 / 3.
    z, z_low = product(s, s)
    z_low = z_low + 2.0 * s * s_low
    p = ((0.1714736739751814 * z + 0.1686266643218806) * z + 0.19239197967918695) * z + 0.22195253209385055
    p = ((p * z + 0.26230819455457915) * z + 0.32059889794809276) * z + 0.4121985831111958
    p = p * z + 0.5770780163555853
    linear, linear_low = product(z, 0.9617966939259756)
    linear_low = linear_low + (z_low * 0.9617966939259756 + z * (5.0577616648125907e-17 + z * p))
    factor, factor_low = two_sum(2.8853900817779268, linear)
    factor_low = factor_low + (linear_low + 4.0710547481862066e-17)
    high, low = product(s, factor)
    low = low + (s * factor_low + s_low * factor)
    log_high, log_rest = two_sum(k, high)
    log_high, log_low = two_sum(log_high, log_rest + low)
    # An exponent this large decides between 0, 1 and inf whatever its value, and its product with the logarithm stays finite.
    v = where(fabs(y) > 1e21, copysign(1e21, y), y)
    high, low = product(v, log_high)
    far = fabs(high) > 1100.0
    low = where(far, 0.0, low + v * log_low)
    high = where(far, copysign(1100.0, high), high)
    shifted = high + MAGIC
    return _exp2_core((high - (shifted - MAGIC)) + low, shifted)


def _pow_special(x, y, r):
    """x^y from r = |x|^y: the sign and the special cases of IEEE 754 / C99 annex F."""
    a = fabs(x)
    whole = nearest(y) == y
    half = 0.5 * y
    odd = whole & (nearest(half) != half)
    r = where(a == 0.0, where(y > 0.0, 0.0, INF), r)
    r = where(a == INF, where(y > 0.0, INF, 0.0), r)
    r = where((bits(x) < 0) & odd, -r, r)
    r = where((x < 0.0) & (a < INF) & (nearest(y) != y), NAN, r)
    r = where((x == x) & (y == y), r, NAN)
    return where((x == 1.0) | (y == 0.0), 1.0, r)


def pow(x, y):
    """|x|^y through a double-double logarithm, then the special cases."""
    return _pow_special(x, y, _pow_positive(fabs(x), y))
