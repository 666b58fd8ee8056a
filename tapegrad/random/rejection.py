"""Samplers by rejection, one element at a time, in torch's arithmetic: gamma, binomial and Poisson.

A sampler takes the parameters as scalars of the tensor's dtype (NumPy's float32, or Python's float for float64), and draws from the functions
`uniform` and `normal`, which give float64. What torch computes in the tensor's dtype stays in it, the rest is float64.
"""

from __future__ import annotations

import math

import numpy as np

# torch's float literals are single precision
THIRD, SQUEEZE = float(np.float32(1) / np.float32(3)), float(np.float32(0.0331))
# log k! less Stirling's formula, for k < 10
STIRLING_TAIL = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211, 0.0138761288230707, 0.0118967099458917,
    0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
)  # fmt: skip


def gamma(alpha, uniform, normal) -> float:
    """A standard gamma sample of shape alpha (Marsaglia and Tsang, A simple method for generating gamma variables, 2000)."""
    one = type(alpha)(1)
    scale = 1.0
    if alpha < 1:  # the method is for larger shapes: a power of a uniform leads from there
        if alpha == 0:
            return 0.0
        scale = (1 - uniform()) ** float(one / alpha)
        alpha = alpha + one
    d = float(alpha - type(alpha)(THIRD))
    if not d > 0:
        return math.nan
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        y = 0.0
        while y <= 0:
            x = normal()
            y = 1.0 + c * x
        v = y * y * y
        u = 1 - uniform()
        xx = x * x
        if u < 1.0 - SQUEEZE * xx * xx or math.log(u) < 0.5 * xx + d * (1.0 - v + math.log(v)):
            return scale * d * v


def stirling_tail(k: float) -> float:
    """log k! less Stirling's formula."""
    if k < len(STIRLING_TAIL):
        return STIRLING_TAIL[int(k)]
    square = (k + 1) * (k + 1)
    return (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)


def binomial(count, p, uniform):
    """The number of successes in `count` trials of probability p <= 1/2 (of the complement, for larger p)."""
    kind = type(count)
    if count <= 0 or p <= 0:
        return kind(0)
    if p >= 1:
        return count
    if math.isnan(p):
        return kind(math.nan)
    fewer = p if p <= 0.5 else kind(1.0 - float(p))
    sample = by_transformed_rejection if count * fewer >= 10 else by_waiting
    return sample(count, fewer, uniform) if p <= 0.5 else count - sample(count, fewer, uniform)


def by_waiting(count, p, uniform):
    """Few successes: the trials between them are geometric."""
    kind, done, successes = type(count), 0.0, 0
    log_failure = float(kind(np.log1p(-p)))
    while True:
        u = uniform()
        done += math.ceil(math.log(u) / log_failure) if u else math.inf
        if done > count:
            return kind(successes)
        successes += 1


def by_transformed_rejection(count, p, uniform):
    """Many successes: Hoermann's BTRS (The generation of binomial random variates, 1993)."""
    kind = type(count)
    one = kind(1)
    spread = float(kind(np.sqrt(count * p * (one - p))))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * float(p)
    centre, accepted = float(count * p) + 0.5, 0.92 - 4.2 / b
    r = float(p / (one - p))
    alpha, m, n = (2.83 + 5.1 / b) * spread, float(np.floor((count + one) * p)), float(count)
    while True:
        u, v = uniform() - 0.5, uniform()
        away = 0.5 - abs(u)
        k = kind(math.floor((2 * a / away + b) * u + centre)) if away else kind(-1)
        if k < 0 or k > count:
            continue
        if away >= 0.07 and v <= accepted:
            return k
        left, k1 = float(count - k + one), float(k)
        bound = (
            (m + 0.5) * math.log((m + 1) / (r * (n - m + 1))) + float(count + one) * math.log((n - m + 1) / left)
            + (k1 + 0.5) * math.log(r * left / (k1 + 1))
            + stirling_tail(m) + stirling_tail(n - m) - stirling_tail(k1) - stirling_tail(float(count - k))
        )  # fmt: skip
        if v and math.log(v * alpha / (a / (away * away) + b)) <= bound:
            return k


def poisson(rate: float, uniform) -> int:
    """A Poisson sample: the product method for small rates, Hoermann's transformed rejection (PTRS, 1993) from 10 on."""
    if not rate >= 0:
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    if rate < 10:
        count, product, bound = 0, 1.0, math.exp(-rate)
        while rate:
            product *= uniform()
            if product <= bound:
                break
            count += 1
        return count
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    accepted = 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = uniform() - 0.5, uniform()
        away = 0.5 - abs(u)
        k = math.floor((2 * a / away + b) * u + rate + 0.43)
        if away >= 0.07 and v <= accepted:
            return k
        if k < 0 or (away < 0.013 and v > away):
            continue
        if math.log(v) + math.log(inverse_alpha) - math.log(a / (away * away) + b) <= -rate + k * math.log(rate) - math.lgamma(k + 1):
            return k
