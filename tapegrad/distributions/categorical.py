"""The categorical distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import lazy_property, logits_to_probs, one_of, probs_to_logits, same_as


class Categorical(Distribution):
    """Indices 0 ... K - 1 with the probabilities in the last dimension of `probs` (which need not be normalised), or exp(logits).

    >>> Categorical(tg.tensor([1.0, 3.0])).log_prob(tg.tensor(1)).exp()
    tensor(0.7500)
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True
    _parts = ("probs", "logits", "_param")
    _kept = ("_num_events",)

    def __init__(self, probs=None, logits=None, validate_args=None):
        one_of(probs, logits)
        name = "logits" if probs is None else "probs"
        if (logits if probs is None else probs).dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if probs is not None:
            self._param = self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self._param = self.logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        self._num_events = self._param.size()[-1]
        super().__init__(self._param.size()[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return constraints.integer_interval(0, self._num_events - 1)

    @lazy_property
    def logits(self):
        """The normalised logarithms of the probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self):
        """The probabilities."""
        return logits_to_probs(self.logits)

    _new, param_shape = same_as("_param.new"), same_as("_param.shape")

    @property
    def mean(self):
        return tg.full(self._extended_shape(), math.nan, dtype=self.probs.dtype)

    variance = mean

    @property
    def mode(self):
        return self.probs.argmax(dim=-1)

    def sample(self, sample_shape=()):
        rows = self.probs.reshape(-1, self._num_events)
        return tg.multinomial(rows, tg.Size(sample_shape).numel(), True).T.reshape(self._extended_shape(sample_shape))

    def log_prob(self, value):
        self._checked(value)
        value, log_pmf = tg.broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return log_pmf.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self):
        logits = tg.clamp(self.logits, min=tg.finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    def enumerate_support(self, expand=True):
        return self._enumerated(tg.arange(self._num_events), expand)
