"""Categorical draws as one-hot vectors."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_probs import OfCategorical
from tapegrad.distributions.categorical import Categorical
from tapegrad.distributions.distribution import Distribution


class OneHotCategorical(OfCategorical, Distribution):
    """One-hot vectors of categorical draws."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot
    has_enumerate_support = True
    _parts = ("_categorical",)

    def __init__(self, probs=None, logits=None, validate_args=None):
        self._categorical = Categorical(probs, logits)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    @property
    def mean(self):
        return self._categorical.probs

    @property
    def mode(self):
        return tg.nn.functional.one_hot(self.probs.argmax(dim=-1), num_classes=self.probs.shape[-1]).to(self.probs)

    @property
    def variance(self):
        return self._categorical.probs * (1 - self._categorical.probs)

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
