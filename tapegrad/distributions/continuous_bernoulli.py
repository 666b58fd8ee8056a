"""The continuous Bernoulli distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_probs import Binary
from tapegrad.distributions.exp_family import ExponentialFamily
from tapegrad.distributions.utils import broadcast_all, clamp_probs, lazy_property, logits_to_probs, one_of


class ContinuousBernoulli(Binary, ExponentialFamily):
    """Numbers in [0, 1] with a density proportional to probs^x (1 - probs)^(1 - x).

    G. Loaiza-Ganem and J. Cunningham, The continuous Bernoulli: fixing a pervasive error in variational autoencoders, 2019.
    lims: between these, where the formulas are 0 / 0, Taylor series stand in for them.
    """

    support = constraints.unit_interval
    has_rsample = True
    _mean_carrier_measure = 0
    _kept = ("_lims",)

    def __init__(self, probs=None, logits=None, lims=(0.499, 0.501), validate_args=None):
        one_of(probs, logits)
        if probs is not None:
            (given,) = broadcast_all(probs)
            if validate_args is not None and not self.arg_constraints["probs"].check(given).all():
                raise ValueError("The parameter probs has invalid values")
            self._param = self.__dict__["probs"] = clamp_probs(given)
        else:
            (self._param,) = broadcast_all(logits)
            self.__dict__["logits"] = self._param
        self._lims = lims
        super().__init__(self._param.size(), validate_args=validate_args)

    @lazy_property
    def probs(self):
        """sigmoid(logits), a rounding error away from 0 and 1."""
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    def _stable(self):
        return tg.max(tg.le(self.probs, self._lims[0]), tg.gt(self.probs, self._lims[1]))

    def _cut_probs(self):
        return tg.where(self._stable(), self.probs, self._lims[0] * tg.ones_like(self.probs))

    def _cont_bern_log_norm(self):
        """The logarithm of the normalising constant."""
        cut = self._cut_probs()
        below = tg.where(tg.le(cut, 0.5), cut, tg.zeros_like(cut))
        above = tg.where(tg.ge(cut, 0.5), cut, tg.ones_like(cut))
        width = tg.where(tg.le(cut, 0.5), tg.log1p(-2.0 * below), tg.log(2.0 * above - 1.0))
        x = tg.pow(self.probs - 0.5, 2)
        taylor = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x
        return tg.where(self._stable(), tg.log(tg.abs(tg.log1p(-cut) - tg.log(cut))) - width, taylor)

    @property
    def mean(self):
        cut = self._cut_probs()
        x = self.probs - 0.5
        taylor = 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * tg.pow(x, 2)) * x
        return tg.where(self._stable(), cut / (2.0 * cut - 1.0) + 1.0 / (tg.log1p(-cut) - tg.log(cut)), taylor)

    @property
    def variance(self):
        cut = self._cut_probs()
        x = tg.pow(self.probs - 0.5, 2)
        taylor = 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x
        return tg.where(self._stable(), cut * (cut - 1.0) / tg.pow(1.0 - 2.0 * cut, 2) + 1.0 / tg.pow(tg.log1p(-cut) - tg.log(cut), 2), taylor)

    def rsample(self, sample_shape=()):
        return self.icdf(tg.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def log_prob(self, value):
        self._checked(value)
        logits, value = broadcast_all(self.logits, value)
        return -tg.nn.functional.binary_cross_entropy_with_logits(logits, value, reduction="none") + self._cont_bern_log_norm()

    def cdf(self, value):
        self._checked(value)
        cut = self._cut_probs()
        inside = (tg.pow(cut, value) * tg.pow(1.0 - cut, 1.0 - value) + cut - 1.0) / (2.0 * cut - 1.0)
        inside = tg.where(self._stable(), inside, value)
        return tg.where(tg.le(value, 0.0), tg.zeros_like(value), tg.where(tg.ge(value, 1.0), tg.ones_like(value), inside))

    def icdf(self, prob):
        cut = self._cut_probs()
        found = (tg.log1p(-cut + prob * (2.0 * cut - 1.0)) - tg.log1p(-cut)) / (tg.log(cut) - tg.log1p(-cut))
        return tg.where(self._stable(), found, prob)

    def entropy(self):
        log_rest = tg.log1p(-self.probs)
        return self.mean * (log_rest - tg.log(self.probs)) - self._cont_bern_log_norm() - log_rest

    @property
    def _natural_params(self):
        return (self.logits,)

    def _log_normalizer(self, x):
        low, high = self._lims[0] - 0.5, self._lims[1] - 0.5
        stable = tg.max(tg.le(x, low), tg.gt(x, high))
        cut = tg.where(stable, x, low * tg.ones_like(x))
        taylor = 0.5 * x + tg.pow(x, 2) / 24.0 - tg.pow(x, 4) / 2880.0
        return tg.where(stable, tg.log(tg.abs(tg.special.expm1(cut))) - tg.log(tg.abs(cut)), taylor)
