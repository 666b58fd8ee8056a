"""What distributions given by probabilities or logits share: whichever is not given is computed at its first use."""

from __future__ import annotations

from typing import Any

import tapegrad as tg
from tapegrad.distributions.utils import broadcast_all, lazy_property, logits_to_probs, one_of, probs_to_logits


class Binary:
    """Success with probability `probs` = sigmoid(logits)."""

    def _set_parameter(self, probs, logits, *others) -> tuple:
        """Keep the given one, broadcast with `others`, which are returned in its dtype."""
        one_of(probs, logits)
        name = "logits" if probs is None else "probs"
        *others, self._param = broadcast_all(*others, logits if probs is None else probs)
        self.__dict__[name] = self._param
        return tuple(other.type_as(self._param) for other in others)

    @lazy_property
    def logits(self):
        """log(probs / (1 - probs))."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self):
        """The probability of success."""
        return logits_to_probs(self.logits, is_binary=True)

    def _new(self, *args, **kwargs):
        return self._param.new(*args, **kwargs)

    @property
    def param_shape(self) -> tg.Size:
        """The shape of the given parameter."""
        return self._param.size()


class OfCategorical:
    """A distribution that holds a `Categorical`."""

    _categorical: Any

    def _new(self, *args, **kwargs):
        return self._categorical._new(*args, **kwargs)

    @property
    def logits(self):
        """The normalised logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def probs(self):
        """The probabilities of the events."""
        return self._categorical.probs

    @property
    def param_shape(self) -> tg.Size:
        """The shape of the given parameter."""
        return self._categorical.param_shape
