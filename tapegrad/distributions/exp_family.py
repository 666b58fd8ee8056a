"""Exponential families: densities h(x) exp(t(x) . theta - A(theta))."""

from __future__ import annotations

from typing import Any

import tapegrad as tg
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import sum_rightmost


class ExponentialFamily(Distribution):
    """A distribution with natural parameters theta, log-normalizer A and mean carrier measure E[log h(x)]."""

    @property
    def _natural_params(self) -> tuple:
        raise NotImplementedError

    def _log_normalizer(self, *natural_params) -> Any:
        raise NotImplementedError

    @property
    def _mean_carrier_measure(self) -> Any:
        raise NotImplementedError

    def entropy(self):
        """A(theta) - theta . grad A(theta) - E[log h(x)]."""
        parameters = [p.detach().requires_grad_() for p in self._natural_params]
        log_normalizer = self._log_normalizer(*parameters)
        gradients = tg.autograd.grad(log_normalizer.sum(), parameters, create_graph=True)
        result = -self._mean_carrier_measure + log_normalizer
        for p, g in zip(parameters, gradients):
            result = result - (p * g).reshape(self._batch_shape + (-1,)).sum(-1)
        return result


def divergence(p, q):
    """KL(p || q) within a family, the Bregman divergence of A."""
    if type(p) is not type(q):
        raise NotImplementedError(
            "The cross KL-divergence between different exponential families cannot                             be computed using Bregman divergences"
        )
    ps = [t.detach().requires_grad_() for t in p._natural_params]
    log_normalizer = p._log_normalizer(*ps)
    gradients = tg.autograd.grad(log_normalizer.sum(), ps, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - log_normalizer
    for a, b, g in zip(ps, q._natural_params, gradients):
        result = result - sum_rightmost((b - a) * g, len(q.event_shape))
    return result
