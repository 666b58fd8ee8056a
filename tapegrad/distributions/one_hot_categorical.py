"""Categorical draws as one-hot vectors."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_probs import OfCategorical
from tapegrad.distributions.utils import same_as


class OneHotCategorical(OfCategorical):
    """One-hot vectors of categorical draws."""

    support = constraints.one_hot
    has_enumerate_support = True
    @property
    def mode(self):
        return tg.nn.functional.one_hot(self.probs.argmax(dim=-1), num_classes=self.probs.shape[-1]).to(self.probs)

    mean = same_as("probs")

    @property
    def variance(self):
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape=()):
        drawn = self._categorical.sample(tg.Size(sample_shape))
        return tg.nn.functional.one_hot(drawn, self._categorical._num_events).to(self._categorical.probs)

    def log_prob(self, value):
        self._checked(value)
        return self._categorical.log_prob(value.max(-1)[1])

    def entropy(self):
        return self._categorical.entropy()

    def enumerate_support(self, expand=True):
        n = self.event_shape[0]
        values = tg.eye(n, dtype=self._categorical._param.dtype).view((n,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((n,) + self.batch_shape + (n,)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot vectors with the gradient of the probabilities (Bengio et al., Estimating or propagating gradients, 2013)."""

    has_rsample = True

    def rsample(self, sample_shape=()):
        probs = self._categorical.probs  # kept, so that the gradient gets to the logits
        return self.sample(sample_shape) + (probs - probs.detach())
