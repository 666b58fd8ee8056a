"""Gamma, Dirichlet and binomial draws; those of gamma and Dirichlet variables follow their parameters with a derivative.

The derivative of a draw x of the distribution function F with respect to a parameter is -dF/d(parameter) / F'(x) (M. Figurnov et al., Implicit
reparameterization gradients, 2018); the expansions are torch's (Distributions.h), in float64.
"""

from __future__ import annotations

import numpy as np

from tapegrad import creation, geometry
from tapegrad.autograd import underived
from tapegrad.autograd.node import record
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.random import stream_of
from tapegrad.random.draws import finished
from tapegrad.transforms.randomness import of_tensors


def elements(t) -> np.ndarray:
    return np.ascontiguousarray(t.detach()._values())


def real_float(t, kernel: str) -> None:
    if t.dtype.numpy.char not in "fd":
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{t.dtype.scalar_name}'")


@structural("standard_gamma_grad", "StandardGammaGrad")
def gamma_grad_op(node, g):
    """The second derivative of a gamma draw: torch has none."""
    raise NotImplementedError("the derivative for '_standard_gamma_grad' is not implemented.")


@structural("standard_gamma", "StandardGamma")
def gamma_op(node, g):
    """The gradient of a gamma draw by its shape."""
    (alpha,), (x,) = node.inputs, node.outputs
    slope = creation.from_array(gamma_slope(elements(alpha).astype(np.float64), elements(x).astype(np.float64)).astype(x.dtype.numpy), x.dtype)
    record(gamma_grad_op, [alpha, x], [slope])
    return g * slope


@function(name="_standard_gamma", tensors=False)
@of_tensors
def standard_gamma(input, generator=None):
    """A standard gamma draw for each shape, at least the smallest normal number of the dtype; differentiable."""
    real_float(input, "gamma_cpu")
    alphas = elements(input)
    drawn = stream_of(generator).gamma(alphas.reshape(-1)).astype(alphas.dtype)
    result = finished(np.maximum(np.finfo(alphas.dtype).tiny, drawn), tuple(input.shape), False, None, input.dtype)
    record(gamma_op, [input], [result], saves=0b11)
    return result


@function(name="_sample_dirichlet", tensors=False)
@of_tensors
def dirichlet(input, generator=None):
    """A point of the simplex for each row of concentrations, without a derivative."""
    real_float(input, "dirichlet")
    alphas = elements(input)
    drawn = stream_of(generator).gamma(alphas.reshape(-1).astype(np.float64)).reshape(alphas.shape)
    drawn = np.maximum(np.finfo(np.float64).tiny, drawn)
    d = alphas.dtype
    total = creation.from_array(drawn).sum(-1, keepdim=True)._values()
    points = np.clip((drawn / total).astype(d), np.finfo(d).tiny, np.nextafter(d.type(1), d.type(0)))
    result = finished(points, tuple(input.shape), False, None, input.dtype)
    underived.unknown("_sample_dirichlet", [input], [result])
    return result


@function(tensors=False)
@of_tensors
def binomial(count, prob, generator=None):
    """The number of successes in `count` trials of probability `prob`; the two are broadcast.

    >>> import tapegrad as tg
    >>> tg.binomial(tg.tensor([4.0, 9.0]), tg.tensor([1.0, 0.0]))
    tensor([4., 0.])
    """
    for name, t in (("count", count), ("prob", prob)):
        if not t.dtype.is_floating_point:
            raise ValueError(f"binomial only supports floating-point dtypes for {name}, got: {t.dtype.scalar_name}")
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"Found dtype {prob.dtype.scalar_name} but expected {count.dtype.scalar_name}")
    real_float(count, "binomial_cpu")
    shape = tuple(geometry.broadcast_shapes(tuple(count.shape), tuple(prob.shape)))
    drawn = stream_of(generator).binomial(elements(count.expand(shape)).reshape(-1), elements(prob.expand(shape)).reshape(-1))
    result = finished(drawn, shape, False, None, count.dtype)
    underived.unknown("binomial", [count, prob], [result])
    return result


# --- the derivatives of draws -----------------------------------------------------------------------------------------
GAMMA_UV = np.array([
    [[0.16009398, -0.094634809, 0.025146376, -0.0030648343], [1, 0.32668115, 0.10406089, 0.0014179084]],
    [[0.53487893, 0.1298071, 0.065735949, -0.0015649758], [0.16639465, 0.020070113, -0.0035938915, -0.00058392623]],
    [[0.040121004, -0.0065914022, -0.0026286047, -0.0013441777], [0.017050642, -0.0021309326, 0.00085092367, -1.5247877e-07]],
])  # fmt: skip
NEAR, LOW, HIGH = (float(np.float32(c)) for c in (0.8, 0.9, 1.1))


def gamma_slope(alpha: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dx/dalpha of a standard gamma draw x: a series for small x, a saddle point expansion for large alpha, else a rational approximation."""
    with np.errstate(all="ignore"):
        near, large = x < NEAR, alpha > 8
        middle = large & (LOW * alpha <= x) & (x <= HIGH * alpha)
        by_expansion = np.where(middle, gamma_middle(alpha, x), gamma_saddle(alpha, x))
        return np.where(near, gamma_series(alpha, x), np.where(large, by_expansion, gamma_rational(alpha, x)))


def gamma_series(alpha, x):
    from scipy.special import psi

    numerator, denominator = np.ones_like(x), alpha.copy()
    first, second = 1 / alpha, 1 / (alpha * alpha)
    for i in range(1, 6):
        numerator = numerator * (-x / i)
        denominator = denominator + 1
        first, second = first + numerator / denominator, second + numerator / (denominator * denominator)
    power = x**alpha
    by_alpha = (np.log(x) - psi(alpha)) * (power * first) - power * second
    result = -by_alpha / (x ** (alpha - 1) * np.exp(-x))
    return np.where(np.isnan(result), 0.0, result)


def gamma_middle(alpha, x):
    first = 1 + 24 * alpha * (1 + 12 * alpha)
    second = 1440 * (alpha * alpha) + 6 * x * (53 - 120 * x) - 65 * x * x / alpha + alpha * (107 + 3600 * x)
    return first * second / (1244160 * (alpha * alpha) * (alpha * alpha))


def gamma_saddle(alpha, x):
    log_ratio, root = np.log(x / alpha), np.sqrt(8 * alpha)
    power = (x - alpha - alpha * log_ratio) ** -1.5
    gap = root / (alpha - x)
    term = log_ratio * np.where(x < alpha, gap - power, gap + power) - np.sqrt(2 / alpha) * (alpha + x) / ((alpha - x) * (alpha - x))
    stirling = 1 + 1 / (12 * alpha) * (1 + 1 / (24 * alpha))
    return -stirling * (x * term) / root


def gamma_rational(alpha, x):
    u, v = np.log(x / alpha)[..., None, None], np.log(alpha)
    c = GAMMA_UV[0] + u * (GAMMA_UV[1] + u * GAMMA_UV[2])
    p, q = (c[..., k, 0] + v * (c[..., k, 1] + v * (c[..., k, 2] + v * c[..., k, 3])) for k in range(2))
    return np.exp(p / q)


BETA_UA = np.array([
    [[[1.003668233, -0.01061107488, -0.0657888334, 0.01201642863], [0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033],
      [-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013]],
     [[0.221950385, -0.3187676331, 0.01799915743, 0.01074823814], [-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057],
      [0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05]],
     [[-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565], [0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181],
      [0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05]]],
    [[[1, -0.02924021934, -0.04438342661, 0.007285809825], [0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521],
      [-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149]],
     [[0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273], [0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956],
      [-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05]],
     [[0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05], [0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05],
      [-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06]]],
])  # fmt: skip


def dirichlet_slope(x: np.ndarray, alpha: np.ndarray, total: np.ndarray) -> np.ndarray:
    """-(dF/dalpha) / F'(x) / (1 - x) of a beta draw x with parameters alpha and total - alpha: series near 0 and 1, a saddle point expansion for
    large parameters, else a rational correction of an approximation.
    """
    with np.errstate(all="ignore"):
        beta = total - alpha
        edge = total * x * (1 - x)
        inner = np.where((alpha > 6) & (beta > 6), beta_saddle(x, alpha, beta), beta_rational(x, alpha, beta))
        inner = np.where((x >= 0.5) & (edge < 0.75), -beta_series(1 - x, beta, alpha), inner)
        return np.where((x <= 0.5) & (edge < 2.5), alpha_series(x, alpha, beta), inner)


def alpha_series(x, alpha, beta):
    from scipy.special import psi

    factor = psi(alpha) - psi(alpha + beta) - np.log(x)
    numerator, series = np.ones_like(x), 1 / alpha * (factor + 1 / alpha)
    for i in range(1, 11):
        numerator = numerator * ((i - beta) * x / i)
        series = series + numerator / (alpha + i) * (factor + 1 / (alpha + i))
    result = x * (1 - x) ** -beta * series
    return np.where(np.isnan(result), 0.0, result)


def beta_series(x, alpha, beta):
    from scipy.special import psi

    factor = psi(alpha + beta) - psi(beta)
    numerator, products, slopes, series = np.ones_like(x), np.ones_like(x), np.zeros_like(x), factor / alpha
    for i in range(1, 9):
        numerator = numerator * (-x / i)
        slopes, products = slopes * (beta - i) + products, products * (beta - i)
        series = series + numerator / (alpha + i) * (slopes + factor * products)
    result = -((1 - x) ** (1 - beta)) * series
    return np.where(np.isnan(result), 0.0, result)


def beta_saddle(x, alpha, beta):
    total = alpha + beta
    mean, spread = alpha / total, np.sqrt(alpha * beta / (total + 1)) / total
    poly = 47 * x * (beta * beta) * (beta * beta) + alpha * (
        (43 + 20 * (16 + 27 * beta) * x) * (beta * beta) * beta
        + alpha * (
            3 * (59 + 180 * beta - 90 * x) * (beta * beta)
            + alpha * ((453 + 1620 * beta * (1 - x) - 455 * x) * beta + alpha * (8 * (1 - x) * (135 * beta - 11)))
        )
    )  # fmt: skip
    at_mean = (1 + 12 * alpha) * (1 + 12 * beta) / (total * total) / (1 - x) * poly / (12960 * alpha**3 * beta * beta * (1 + 12 * total))
    stirling = (1 + 1 / (12 * alpha) + 1 / (288 * alpha * alpha)) * (1 + 1 / (12 * beta) + 1 / (288 * beta * beta))
    stirling = stirling / (1 + 1 / (12 * total) + 1 / (288 * total * total))
    away = alpha * (x - 1) + beta * x
    first = (2 * (alpha * alpha) * (x - 1) + alpha * beta * (x - 1) - x * (beta * beta)) / (np.sqrt(2 * alpha / beta) * total**1.5 * away * away)
    second = 0.5 * np.log(alpha / (total * x))
    third = np.sqrt(8 * alpha * beta / total) / away
    fourth = (beta * np.log(beta / (total * (1 - x))) + alpha * np.log(alpha / (total * x))) ** -1.5
    elsewhere = stirling * (-x / np.sqrt(2 * alpha * beta / total)) * (first + second * (third + np.where(x < mean, fourth, -fourth)))
    return np.where((mean - 0.1 * spread <= x) & (x <= mean + 0.1 * spread), at_mean, elsewhere)


def beta_rational(x, alpha, beta):
    from scipy.special import psi

    total = alpha + beta
    u = np.log(x)
    a = np.log(alpha) - u
    b = np.log(total) - a
    powers = np.stack([b**k for k in range(4)], -1)
    values = np.einsum("kijl,...i,...j,...l->k...", BETA_UA, np.stack([u**0, u, u * u], -1), np.stack([a**0, a, a * a], -1), powers)
    return values[0] / values[1] * (x * (psi(total) - psi(alpha)) / beta)
