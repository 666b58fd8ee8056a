"""Student's t distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.chi2 import Chi2
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import same_as, standard_normal


class StudentT(Distribution):
    """Student's t with `df` degrees of freedom, moved by `loc` and scaled by `scale`."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True
    _parts = ("df", "loc", "scale", "_chi2")
    mode = same_as("loc")

    def __init__(self, df, loc=0.0, scale=1.0, validate_args=None):
        batch_shape = self._broadcast(df=df, loc=loc, scale=scale)
        self._chi2 = Chi2(self.df)
        super().__init__(batch_shape, validate_args=validate_args)

    @property
    def mean(self):
        mean = self.loc.clone(memory_format=tg.contiguous_format)
        mean[self.df <= 1] = math.nan
        return mean

    @property
    def variance(self):
        variance = self.df.clone(memory_format=tg.contiguous_format)
        finite = self.df > 2
        variance[finite] = self.scale[finite].pow(2) * self.df[finite] / (self.df[finite] - 2)
        variance[(self.df <= 2) & (self.df > 1)] = math.inf
        variance[self.df <= 1] = math.nan
        return variance

    def rsample(self, sample_shape=()):
        x = standard_normal(self._extended_shape(sample_shape), self.df)
        return self.loc + self.scale * (x * tg.rsqrt(self._chi2.rsample(sample_shape) / self.df))

    def log_prob(self, value):
        self._checked(value)
        y = (value - self.loc) / self.scale
        half = self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi)
        normalizer = half + tg.lgamma(0.5 * self.df) - tg.lgamma(0.5 * (self.df + 1.0))
        return -0.5 * (self.df + 1.0) * tg.log1p(y**2.0 / self.df) - normalizer

    def entropy(self):
        beta = tg.lgamma(0.5 * self.df) + math.lgamma(0.5) - tg.lgamma(0.5 * (self.df + 1))
        slope = 0.5 * (self.df + 1) * (tg.digamma(0.5 * (self.df + 1)) - tg.digamma(0.5 * self.df))
        return self.scale.log() + slope + 0.5 * self.df.log() + beta
