"""What distributions given by probabilities or logits share: whichever is not given is computed at its first use."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.categorical import Categorical
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import lazy_property, logits_to_probs, one_of, probs_to_logits, same_as


class Binary(Distribution):
    """Success with probability `probs` = sigmoid(logits)."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    _parts: tuple = ("probs", "logits", "_param")
    _new, param_shape = same_as("_param.new"), same_as("_param.shape")

    def _broadcast_given(self, probs, logits, **others) -> tg.Size:
        """As `_broadcast` the one that is given, and `others`, which take its dtype."""
        one_of(probs, logits)
        name, given = ("logits", logits) if probs is None else ("probs", probs)
        batch_shape = self._broadcast(**others, **{name: given})
        self._param = self.__dict__[name]
        for other in others:
            setattr(self, other, getattr(self, other).type_as(self._param))
        return batch_shape

    @lazy_property
    def logits(self):
        """log(probs / (1 - probs))."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self):
        """The probability of success."""
        return logits_to_probs(self.logits, is_binary=True)


class OfCategorical(Distribution):
    """A distribution over vectors that holds a `Categorical`."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _parts = ("_categorical",)
    _new, param_shape = same_as("_categorical._new"), same_as("_categorical.param_shape")
    probs, logits = same_as("_categorical.probs"), same_as("_categorical.logits")

    def __init__(self, probs=None, logits=None, validate_args=None):
        self._categorical = Categorical(probs, logits)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)
