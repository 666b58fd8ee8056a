"""The float32 functions: each argument is widened, the formula evaluated in float64 with a shorter polynomial, the result rounded once.

The formulas and sources are those of `float64`, freed of its compensation steps: float64 carries 29 bits more than the result needs,
float32's subnormals are normal numbers in it, and no intermediate overflows. Coefficients: weighted minimax (Remez) fits computed for
this file with 60-digit mpmath, approximation error below 2^-31 of the result. Names with an underscore take and return float64.
"""

from tapegrad.maths.float64 import ANGLE_LIMIT, _pow_special
from tapegrad.maths.float64 import cos_fixup as _cos_fixup
from tapegrad.maths.float64 import sin_fixup as _sin_fixup
from tapegrad.maths.float64 import tan_fixup as _tan_fixup
from tapegrad.maths.primitives import bits, copysign, fabs, from_bits, minus_product, narrow, sqrt, where, wide

INF = float("inf")
NAN = float("nan")
MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which is then in the low bits of the sum
MAGIC_BITS = 0x4338000000000000
ONE_BITS = 0x3FF0000000000000
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
LOG2_E = 1.4426950408889634
LOG10_E = 0.4342944819032518
LOG10_2 = 0.3010299956639812
LN2 = 0.6931471805599453
TWO_OVER_PI = 0.6366197723675814
HALF_PI = 1.5707963267948966
HALF_PI_2 = 6.123233995736766e-17
PI = 3.141592653589793


def _power_of_two(shifted):
    """2^k where `shifted` is k + MAGIC, |k| < 1000."""
    return from_bits((bits(shifted) << 52) + ONE_BITS)


def _exp_tail(r):
    """(e^r - 1 - r) / r^2 on |r| <= ln(2) / 2."""
    p = ((2.488309082920245e-05 * r + 0.0001990499925275756) * r + 0.001388880797156997) * r + 0.008333288904254088
    p = ((p * r + 0.041666666963911414) * r + 0.16666666754681955) * r + 0.49999999999721517
    return p


def _clamp(x, low, high):
    return where(x > high, high, where(x < low, low, x))


def _exp(v):
    """e^v for |v| < 600."""
    shifted = v * LOG2_E + MAGIC
    r = v - (shifted - MAGIC) * LN2
    return (1.0 + (r + r * r * _exp_tail(r))) * _power_of_two(shifted)


def _expm1(v):
    """e^v - 1 for |v| < 600: 2^k (e^r - 1) + (2^k - 1)."""
    shifted = v * LOG2_E + MAGIC
    r = v - (shifted - MAGIC) * LN2
    s = _power_of_two(shifted)
    return s * (r + r * r * _exp_tail(r)) + (s - 1.0)


def _exp2(v):
    """2^v for |v| < 1000."""
    shifted = v + MAGIC
    r = v - (shifted - MAGIC)
    p = ((1.531532342417253e-05 * r + 0.00015467100444697347) * r + 0.0013333428988742027) * r + 0.009618036944551097
    p = ((p * r + 0.05550410965077067) * r + 0.2402265107559071) * r + 0.6931471805407434
    return (1.0 + r * p) * _power_of_two(shifted)


def exp(x):
    """Cody-Waite: x = k ln2 + r, e^x = 2^k (1 + r + r^2 P(r))."""
    return narrow(_exp(_clamp(wide(x), -120.0, 100.0)))


def expm1(x):
    """2^k (e^r - 1) + (2^k - 1)."""
    v = wide(x)
    return narrow(copysign(_expm1(_clamp(v, -120.0, 100.0)), v))


def exp2(x):
    """x = k + r exactly, 2^x = 2^k (1 + r P(r))."""
    return narrow(_exp2(_clamp(wide(x), -160.0, 140.0)))


def sinh(x):
    """(E + E / (E + 1)) / 2 with E = e^|x| - 1."""
    v = wide(x)
    e = _expm1(_clamp(fabs(v), 0.0, 100.0))
    return narrow(copysign(0.5 * (e + e / (e + 1.0)), v))


def cosh(x):
    """(e^|x| + e^-|x|) / 2."""
    e = _exp(_clamp(fabs(wide(x)), 0.0, 100.0))
    return narrow(0.5 * e + 0.5 / e)


def tanh(x):
    """E / (E + 2) with E = e^(2|x|) - 1."""
    v = wide(x)
    e = _expm1(2.0 * _clamp(fabs(v), 0.0, 12.0))
    return narrow(copysign(e / (e + 2.0), v))


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return narrow(1.0 / (1.0 + _exp(-_clamp(wide(x), -120.0, 120.0))))


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|)."""
    v = wide(x)
    return narrow(where(v < 0.0, 0.0, v) + _log1p(_exp(_clamp(-fabs(v), -120.0, 0.0))))


def _log_near_one(f):
    """log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)]: 2 atanh(s), s = f / (2 + f)."""
    s = f / (2.0 + f)
    z = s * s
    p = ((0.23620370906387414 * z + 0.28535904244616717) * z + 0.4000034102967918) * z + 0.6666666575000377
    return s * (2.0 + z * p)


def _exponent(v):
    """The integer k for which v / 2^k is in [sqrt(1/2), sqrt(2))."""
    return (bits(v) - SQRT_HALF_BITS) >> 52


def _as_float(k):
    return from_bits(k + MAGIC_BITS) - MAGIC


def _log_domain(x, y):
    """y where 0 < x < inf, and what a logarithm is elsewhere."""
    return where(x > 0.0, where(x < INF, y, x), where(x == 0.0, -INF, NAN))


def _log1p(v):
    """log(1 + v): where the sum is near one, v itself is the reduced fraction."""
    u = 1.0 + v
    k = _exponent(u)
    f = where(k == 0, v, from_bits(bits(u) - (k << 52)) - 1.0)
    return _log_domain(u, _as_float(k) * LN2 + _log_near_one(f))


def log(x):
    """x = 2^k m: k ln2 + log m."""
    v = wide(x)
    k = _exponent(v)
    return narrow(_log_domain(v, _as_float(k) * LN2 + _log_near_one(from_bits(bits(v) - (k << 52)) - 1.0)))


def log2(x):
    """As log: k + log m / ln2."""
    v = wide(x)
    k = _exponent(v)
    return narrow(_log_domain(v, _as_float(k) + LOG2_E * _log_near_one(from_bits(bits(v) - (k << 52)) - 1.0)))


def log10(x):
    """As log: k log10(2) + log m / ln10."""
    v = wide(x)
    k = _exponent(v)
    return narrow(_log_domain(v, _as_float(k) * LOG10_2 + LOG10_E * _log_near_one(from_bits(bits(v) - (k << 52)) - 1.0)))


def log1p(x):
    """As log, with the fraction of 1 + x taken from x itself near one."""
    v = wide(x)
    return narrow(copysign(_log1p(v), v))


def _reduce(v):
    """v - n pi/2 and n + MAGIC, |v| <= ANGLE_LIMIT: two-part Cody-Waite, the first step exact."""
    shifted = v * TWO_OVER_PI + MAGIC
    n = shifted - MAGIC
    return minus_product(v, n, HALF_PI) - n * HALF_PI_2, shifted


def _sin_part(r, z):
    """sin(r) on |r| <= pi / 4, z = r^2."""
    p = ((2.717222949403514e-06 * z - 0.00019839248262730832) * z + 0.008333329289241178) * z - 0.1666666664392147
    return r + r * z * p


def _cos_part(z):
    """cos(r) on |r| <= pi / 4, z = r^2."""
    p = (2.4462724212504033e-05 * z - 0.0013887646214602528) * z + 0.04166665453219018
    return 1.0 + z * (z * p - 0.5)


def _quadrant(r, quarter):
    """sin(r + quarter * pi / 2); only the low two bits of the integer `quarter` count."""
    z = r * r
    y = where((quarter & 1) == 0, _sin_part(r, z), _cos_part(z))
    return from_bits(bits(y) ^ ((quarter & 2) << 62))


def sin(x):
    """Nearest multiple of pi/2 taken off, then one of two polynomials. For |x| > ANGLE_LIMIT only `sin_fixup` is right."""
    v = wide(x)
    r, shifted = _reduce(v)
    return narrow(where(v == 0.0, v, _quadrant(r, bits(shifted))))


def cos(x):
    """As sin, a quarter turn on. For |x| > ANGLE_LIMIT only `cos_fixup` is right."""
    r, shifted = _reduce(wide(x))
    return narrow(_quadrant(r, bits(shifted) + 1))


def tan(x):
    """Both polynomials of sin and cos, divided. For |x| > ANGLE_LIMIT only `tan_fixup` is right."""
    v = wide(x)
    r, shifted = _reduce(v)
    z = r * r
    s = _sin_part(r, z)
    c = _cos_part(z)
    even = (bits(shifted) & 1) == 0
    return narrow(where(v == 0.0, v, where(even, s, -c) / where(even, c, s)))


def sin_fixup(x, y):
    """sin(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch."""
    if ANGLE_LIMIT < fabs(wide(x)) < INF:
        y = narrow(_sin_fixup(wide(x), 0.0))
    return y


def cos_fixup(x, y):
    """cos(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch."""
    if ANGLE_LIMIT < fabs(wide(x)) < INF:
        y = narrow(_cos_fixup(wide(x), 0.0))
    return y


def tan_fixup(x, y):
    """tan(x) where |x| > ANGLE_LIMIT, else y. Scalar, with a branch."""
    if ANGLE_LIMIT < fabs(wide(x)) < INF:
        y = narrow(_tan_fixup(wide(x), 0.0))
    return y


def _asin_to_half(s, z):
    """asin(s) for |s| <= 1/2, z = s^2."""
    p = ((0.03488789286484701 * z + 0.007409727877804857) * z + 0.02459525428936741) * z + 0.03012262250695448
    p = ((p * z + 0.04465825784183647) * z + 0.07499959649999433) * z + 0.16666666974473776
    return s + s * z * p


def asin(x):
    """A polynomial to 1/2; beyond, pi/2 - 2 asin(sqrt((1 - |x|) / 2))."""
    v = wide(x)
    a = fabs(v)
    small = a <= 0.5
    z = where(small, a * a, 0.5 * (1.0 - a))
    y = _asin_to_half(where(small, a, sqrt(z)), z)
    return narrow(copysign(where(small, y, HALF_PI - 2.0 * y), v))


def acos(x):
    """pi/2 - asin(x) to |x| = 1/2; beyond, 2 asin(sqrt((1 - |x|) / 2)), taken from pi for negative x."""
    v = wide(x)
    a = fabs(v)
    small = a <= 0.5
    z = where(small, a * a, 0.5 * (1.0 - a))
    y = _asin_to_half(where(small, v, sqrt(z)), z)
    return narrow(where(small, HALF_PI - y, where(v < 0.0, PI - 2.0 * y, 2.0 * y)))


def _atan_ratio(a, b):
    """atan(a / b) for a, b >= 0: the nearest of 0, pi/4, pi/2 is taken off within the one division."""
    low_third = a < 0.41421356237309503 * b
    mid_third = a < 2.414213562373095 * b
    t = where(low_third, a, where(mid_third, a - b, -b)) / where(low_third, b, where(mid_third, a + b, a))
    z = t * t
    p = ((0.04711383927255412 * z - 0.08465291645920246) * z + 0.11043911611065396) * z - 0.14282079959827626
    p = (p * z + 0.19999913364443261) * z - 0.3333333272577483
    return where(low_third, 0.0, where(mid_third, 0.7853981633974483, HALF_PI)) + (t + t * z * p)


def atan(x):
    """atan(t) = t + t z P(z), z = t^2, after reduction to |t| <= tan(pi / 8)."""
    v = wide(x)
    return narrow(copysign(_atan_ratio(fabs(v), 1.0), v))


def atan2(y, x):
    """The reduction of atan applied to the pair. Signs and infinities as C's atan2."""
    w = wide(y)
    v = wide(x)
    a = fabs(w)
    b = fabs(v)
    both = (a == INF) & (b == INF)
    none = (a == 0.0) & (b == 0.0)
    angle = _atan_ratio(where(both, 1.0, a), where(both | none, 1.0, b))
    angle = where(bits(v) < 0, PI - angle, angle)
    return narrow(where((v == v) & (w == w), copysign(angle, w), NAN))


def asinh(x):
    """log1p(a + a^2 / (1 + sqrt(a^2 + 1)))."""
    v = wide(x)
    a = fabs(v)
    square = a * a
    y = _log1p(a + square / (1.0 + sqrt(square + 1.0)))
    return narrow(copysign(where(a == INF, a, y), v))


def acosh(x):
    """log1p(t + sqrt(t (t + 2))), t = x - 1."""
    v = wide(x)
    t = v - 1.0
    return narrow(where(v < 1.0, NAN, _log1p(t + sqrt(t * (t + 2.0)))))


def atanh(x):
    """log1p(2a / (1 - a)) / 2."""
    v = wide(x)
    a = fabs(v)
    return narrow(copysign(0.5 * _log1p(2.0 * a / (1.0 - a)), v))


def _erf_small(a):
    """erf(a) on |a| <= 5/4."""
    z = a * a
    p = ((8.260993105218631e-07 * z - 1.2791993977863347e-05) * z + 0.00011735724641339794) * z - 0.0008519614832090946
    p = ((p * z + 0.005222437946504652) * z - 0.026865701660341926) * z + 0.11283784446930767
    p = (p * z - 0.3761263847053622) * z + 0.128379167052298
    return a + a * p


def erf(x):
    """x + x P(x^2) to 5/4; beyond, 1 - e^-g with g = -log(erfc) a polynomial in |x| - 5/4."""
    v = wide(x)
    a = fabs(v)
    t = where(a > 4.0, 4.0, a) - 1.25
    small = t < 0.0
    t = where(small, 0.0, t)
    p = ((-1.6700071442035663e-06 * t + 2.9990487205478065e-05) * t - 0.0002664978113625107) * t + 0.0016175532025314145
    p = ((p * t - 0.00779389367490091) * t + 0.03268643167720952) * t + 0.8708103988029711
    p = (p * t + 3.0677239266643865) * t + 2.5626536619221367
    return narrow(copysign(where(small, _erf_small(a), 1.0 - _exp(-p)), v))


def erfc(x):
    """For |x| >= 1/2 e^(-x^2) (x + 4)^-1 P((x - 4) / (x + 4)), else 1 - erf."""
    v = wide(x)
    a = fabs(v)
    b = where(a > 10.9, 10.9, a)
    inverse = 1.0 / (b + 4.0)
    t = (b - 4.0) * inverse
    p = ((0.00012140647170448013 * t - 0.00048618551673206993) * t - 0.0002545122103135941) * t + 0.006129952452288922
    p = ((p * t - 0.026375015557332866) * t + 0.07637777421528932) * t - 0.17401049878904637
    p = ((p * t + 0.3308519125287822) * t - 0.5408538502544189) * t + 0.7732086923821947
    p = (p * t - 0.9765487287783623) * t + 1.0959956610473989
    tail = p * inverse * _exp(-b * b)
    return narrow(where(a < 0.5, 1.0 - _erf_small(v), where(v < 0.0, 2.0 - tail, tail)))


def pow(x, y):
    """2^(y log2|x|), then the special cases; log2 m = s (2 / ln2 + z P(z)), s = (m - 1) / (m + 1), z = s^2."""
    v = wide(x)
    w = wide(y)
    a = fabs(v)
    k = _exponent(a)
    f = from_bits(bits(a) - (k << 52)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = ((0.28294267812560553 * z + 0.3199161127535596) * z + 0.4122085369138821) * z + 0.577077956133406
    p = p * z + 0.9617966940306364
    # A finite y, for the sake of log 1 = 0: this large it decides between 0, 1 and inf whatever its value.
    exponent = _clamp(w, -1e30, 1e30) * (_as_float(k) + s * (2.8853900817779268 + z * p))
    return narrow(_pow_special(v, w, _exp2(_clamp(exponent, -200.0, 200.0))))
