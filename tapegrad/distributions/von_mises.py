"""The von Mises distribution of angles."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import lazy_property, same_as

# M. Abramowitz and I. Stegun, Handbook of Mathematical Functions, 9.8.1 to 9.8.4: I_0 and I_1 below 3.75, and beyond it times sqrt(x) exp(-x).
SMALL = (
    (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.360768e-1, 0.45813e-2),
    (0.5, 0.87890594, 0.51498869, 0.15084934, 0.2658733e-1, 0.301532e-2, 0.32411e-3),
)
LARGE = (
    (0.39894228, 0.1328592e-1, 0.225319e-2, -0.157565e-2, 0.916281e-2, -0.2057706e-1, 0.2635537e-1, -0.1647633e-1, 0.392377e-2),
    (0.39894228, -0.3988024e-1, -0.362018e-2, 0.163801e-2, -0.1031555e-1, 0.2282967e-1, -0.2895312e-1, 0.1787654e-1, -0.420059e-2),
)


def polynomial(x, coefficients):
    """The polynomial with these coefficients, the constant first."""
    result = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        result = c + x * result
    return result


def log_bessel_i(x, order: int):
    """log I_order(x) for x > 0 and order 0 or 1."""
    square = (x / 3.75) * (x / 3.75)
    small = polynomial(square, SMALL[order])
    small = (x.abs() * small if order else small).log()
    large = x - 0.5 * x.log() + polynomial(3.75 / x, LARGE[order]).log()
    return tg.where(x < 3.75, small, large)


class VonMises(Distribution):
    """Angles with a density proportional to exp(concentration cos(x - loc))."""

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    has_rsample = False
    _parts = ("loc", "concentration")
    mean = mode = same_as("loc")

    def __init__(self, loc, concentration, validate_args=None):
        super().__init__(self._broadcast(loc=loc, concentration=concentration), validate_args=validate_args)

    def log_prob(self, value):
        self._checked(value)
        return self.concentration * tg.cos(value - self.loc) - math.log(2 * math.pi) - log_bessel_i(self.concentration, 0)

    @lazy_property
    def _proposal(self):
        """The parameter of the wrapped Cauchy distribution from which candidates are drawn."""
        kappa = self.concentration.to(tg.double)
        tau = 1 + (1 + 4 * kappa**2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * kappa)
        return tg.where(kappa < 1e-5, 1 / kappa + kappa, (1 + rho**2) / (2 * rho))

    def sample(self, sample_shape=()):
        """Samples in [-pi, pi), by rejection: D. Best and N. Fisher, Efficient simulation of the von Mises distribution, 1979."""
        with tg.no_grad():
            loc, kappa, r = self.loc.to(tg.double), self.concentration.to(tg.double), self._proposal
            x = tg.empty(self._extended_shape(sample_shape), dtype=tg.double)
            done = tg.zeros(x.shape, dtype=tg.bool)
            while not done.all():
                u1, u2, u3 = tg.rand((3,) + x.shape, dtype=tg.double).unbind()
                z = tg.cos(math.pi * u1)
                f = (1 + r * z) / (r + z)
                c = kappa * (r - f)
                accept = ((c * (2 - c) - u2) > 0) | ((c / u2).log() + 1 - c >= 0)
                x = tg.where(accept, (u3 - 0.5).sign() * f.acos(), x)
                done = done | accept
            return ((x + math.pi + loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    @lazy_property
    def variance(self):
        """The circular variance."""
        return 1 - (log_bessel_i(self.concentration, 1) - log_bessel_i(self.concentration, 0)).exp()
