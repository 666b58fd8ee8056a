"""The negative binomial distribution."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_probs import Binary
from tapegrad.distributions.gamma import Gamma
from tapegrad.distributions.utils import lazy_property


class NegativeBinomial(Binary):
    """The number of successes (of probability `probs`) before `total_count` failures."""

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0), "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real,
    }  # fmt: skip
    support = constraints.nonnegative_integer
    _parts = ("total_count", *Binary._parts)

    def __init__(self, total_count, probs=None, logits=None, validate_args=None):
        super().__init__(self._broadcast_given(probs, logits, total_count=total_count), validate_args=validate_args)

    @property
    def mean(self):
        return self.total_count * tg.exp(self.logits)

    @property
    def mode(self):
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self):
        return self.mean / tg.sigmoid(-self.logits)

    @lazy_property
    def _gamma(self):
        """The rates of which samples are Poisson counts."""
        return Gamma(concentration=self.total_count, rate=tg.exp(-self.logits), validate_args=False)

    def sample(self, sample_shape=()):
        with tg.no_grad():
            return tg.poisson(self._gamma.sample(sample_shape=sample_shape))

    def log_prob(self, value):
        self._checked(value)
        n, log_sigmoid = self.total_count, tg.nn.functional.logsigmoid
        powers = n * log_sigmoid(-self.logits) + value * log_sigmoid(self.logits)
        normalizer = -tg.lgamma(n + value) + tg.lgamma(1.0 + value) + tg.lgamma(n)
        return powers - normalizer.masked_fill(n + value == 0.0, 0.0)
