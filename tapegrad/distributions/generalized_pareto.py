"""The generalised Pareto distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import same_as


class GeneralizedPareto(Distribution):
    """P(x > loc + scale z) = (1 + concentration z)^(-1 / concentration), exp(-z) for concentration 0: tails beyond a threshold `loc`."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True
    _parts = ("loc", "scale", "concentration")
    mode = same_as("loc")

    def __init__(self, loc, scale, concentration, validate_args=None):
        super().__init__(self._broadcast(loc=loc, scale=scale, concentration=concentration), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        upper = tg.where(self.concentration < 0, self.loc - self.scale / self.concentration, math.inf)
        return constraints.interval(self.loc, upper)

    def _cases(self):
        """Where the concentration counts as 0, and the concentration with 1 there."""
        zero = tg.isclose(self.concentration, tg.zeros_like(self.concentration))
        return zero, tg.where(zero, tg.ones_like(self.concentration), self.concentration)

    def _standardised(self, value):
        return (value - self.loc) / self.scale

    def rsample(self, sample_shape=()):
        return self.icdf(tg.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def log_prob(self, value):
        self._checked(value)
        z = self._standardised(value)
        zero, concentration = self._cases()
        power = 1 / concentration + tg.ones_like(z)
        bent = tg.where(power == 0, power, power * tg.log1p(concentration * z))
        return -self.scale.log() - tg.where(zero, z, bent)

    def log_survival_function(self, value):
        """log P(x > value)."""
        self._checked(value)
        z = self._standardised(value)
        zero, concentration = self._cases()
        return tg.where(zero, -z, -tg.log1p(concentration * z) / concentration)

    def log_cdf(self, value):
        """The logarithm of the distribution function."""
        return tg.log1p(-tg.exp(self.log_survival_function(value)))

    def cdf(self, value):
        return tg.exp(self.log_cdf(value))

    def icdf(self, prob):
        zero, concentration = self._cases()
        log_rest = tg.log1p(-prob)
        bent = self.loc + self.scale / concentration * tg.expm1(-concentration * log_rest)
        return tg.where(zero, self.loc - self.scale * log_rest, bent)

    @property
    def mean(self):
        valid = self.concentration < 1
        return tg.where(valid, self.loc + self.scale / (1 - tg.where(valid, self.concentration, 0.5)), math.nan)

    @property
    def variance(self):
        valid = self.concentration < 0.5
        concentration = tg.where(valid, self.concentration, 0.25)
        return tg.where(valid, self.scale**2 / ((1 - concentration) ** 2 * (1 - 2 * concentration)), math.nan)

    def entropy(self):
        return tg.broadcast_to(tg.log(self.scale) + self.concentration + 1, self._batch_shape)

