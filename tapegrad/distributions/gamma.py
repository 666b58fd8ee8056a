"""The gamma distribution."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.exp_family import ExponentialFamily
from tapegrad.random.gamma import standard_gamma


class Gamma(ExponentialFamily):
    """Gamma with shape `concentration` and `rate`: a density proportional to x^(concentration - 1) exp(-rate x)."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0
    _parts = ("concentration", "rate")

    def __init__(self, concentration, rate, validate_args=None):
        super().__init__(self._broadcast(concentration=concentration, rate=rate), validate_args=validate_args)

    @property
    def mean(self):
        return self.concentration / self.rate

    @property
    def mode(self):
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self):
        return self.concentration / self.rate.pow(2)

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        value = standard_gamma(self.concentration.expand(shape)) / self.rate.expand(shape)
        value.detach().clamp_(min=tg.finfo(value.dtype).tiny)  # no part of the gradient
        return value

    def log_prob(self, value):
        value = tg.as_tensor(value, dtype=self.rate.dtype)
        self._checked(value)
        powers = tg.xlogy(self.concentration, self.rate) + tg.xlogy(self.concentration - 1, value)
        return powers - self.rate * value - tg.lgamma(self.concentration)

    def cdf(self, value):
        self._checked(value)
        return tg.special.gammainc(self.concentration, self.rate * value)

    def entropy(self):
        a = self.concentration
        return a - tg.log(self.rate) + tg.lgamma(a) + (1.0 - a) * tg.digamma(a)

    @property
    def _natural_params(self):
        return (self.concentration - 1, -self.rate)

    def _log_normalizer(self, x, y):
        return tg.lgamma(x + 1) + (x + 1) * tg.log(-y.reciprocal())
