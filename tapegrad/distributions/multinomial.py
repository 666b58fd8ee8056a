"""The multinomial distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.binomial import Binomial
from tapegrad.distributions.by_probs import OfCategorical
from tapegrad.distributions.utils import broadcast_all


class Multinomial(OfCategorical):
    """How often each event comes in `total_count` categorical draws; total_count is one number."""

    _kept = ("total_count", "_binomial")

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        super().__init__(probs, logits, validate_args=validate_args)
        self._binomial = Binomial(total_count=total_count, probs=self.probs)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        return constraints.multinomial(self.total_count)

    @property
    def mean(self):
        return self.probs * self.total_count

    @property
    def variance(self):
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape=()):
        sample_shape = tg.Size(sample_shape)
        drawn = self._categorical.sample(tg.Size((self.total_count,)) + sample_shape).movedim(0, -1)
        counts = drawn.new_zeros(self._extended_shape(sample_shape))
        return counts.scatter_add_(-1, drawn, tg.ones_like(drawn)).type_as(self.probs)

    def entropy(self):
        n = tg.tensor(self.total_count)
        first = n * self._categorical.entropy() - tg.lgamma(n + 1)
        support = self._binomial.enumerate_support(expand=False)[1:]
        second = (tg.exp(self._binomial.log_prob(support)) * tg.lgamma(support + 1)).sum([0, -1])
        return first + second

    def log_prob(self, value):
        self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        logits = logits.clone(memory_format=tg.contiguous_format)
        factorials = tg.lgamma(value.sum(-1) + 1) - tg.lgamma(value + 1).sum(-1)
        logits[(value == 0) & (logits == -math.inf)] = 0
        return factorials + (logits * value).sum(-1)
