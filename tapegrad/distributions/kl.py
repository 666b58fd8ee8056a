"""Kullback-Leibler divergences: KL(p || q) = E_p[log p(x) - log q(x)], by the pair of types.

Here: the registry, and divergences within a family; `kl_between` has those between families.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import tapegrad as tg
from tapegrad.distributions.bernoulli import Bernoulli
from tapegrad.distributions.beta import Beta
from tapegrad.distributions.binomial import Binomial
from tapegrad.distributions.by_covariance import half_log_det
from tapegrad.distributions.categorical import Categorical
from tapegrad.distributions.cauchy import Cauchy
from tapegrad.distributions.dirichlet import Dirichlet
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.exp_family import ExponentialFamily, divergence
from tapegrad.distributions.exponential import Exponential
from tapegrad.distributions.gamma import Gamma
from tapegrad.distributions.geometric import Geometric
from tapegrad.distributions.independent import Independent
from tapegrad.distributions.laplace import Laplace
from tapegrad.distributions.multivariate_normal import MultivariateNormal, batch_mahalanobis
from tapegrad.distributions.normal import Normal
from tapegrad.distributions.one_hot_categorical import OneHotCategorical
from tapegrad.distributions.poisson import Poisson
from tapegrad.distributions.scale_families import Gumbel, HalfNormal, Pareto
from tapegrad.distributions.transformed_distribution import TransformedDistribution
from tapegrad.distributions.uniform import Uniform
from tapegrad.distributions.utils import euler_constant, sum_rightmost

__all__ = ["kl_divergence", "register_kl"]
_registry: dict[tuple[type, type], Callable] = {}
_found: dict[tuple[type, type], Callable | None] = {}


def register_kl(type_p, type_q):
    """A decorator: the function gives KL(p || q) for p and q of (subclasses of) the two types; the most special function is taken."""
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not isinstance(kind, type) or not issubclass(kind, Distribution):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorate(f):
        _registry[type_p, type_q] = f
        _found.clear()
        return f

    return decorate


def most_special(pairs: list, first: int) -> tuple:
    """The pair of types below the others, the one at position `first` compared first."""
    best = pairs[0]
    for pair in pairs[1:]:
        a, b = (pair[first], pair[1 - first]), (best[first], best[1 - first])
        if issubclass(a[0], b[0]) and (a[0] is not b[0] or issubclass(a[1], b[1])):
            best = pair
    return best


def dispatched(type_p, type_q) -> Callable | None:
    pairs = [(p, q) for p, q in _registry if issubclass(type_p, p) and issubclass(type_q, q)]
    if not pairs:
        return None
    by_p, by_q = most_special(pairs, 0), most_special(pairs, 1)
    if _registry[by_p] is not _registry[by_q]:
        warnings.warn(
            f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please register_kl({by_p[0].__name__}, {by_q[1].__name__})",
            RuntimeWarning, stacklevel=3,
        )  # fmt: skip
    return _registry[by_p]


def kl_divergence(p, q):
    """KL(p || q), of the batch shape; NotImplementedError if there is no formula for the two types.

    >>> from tapegrad.distributions import Normal
    >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
    tensor(0.5000)
    """
    pair = type(p), type(q)
    if pair not in _found:
        _found[pair] = dispatched(*pair)
    f = _found[pair]
    if f is None:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}")
    return f(p, q)


register_kl(ExponentialFamily, ExponentialFamily)(divergence)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p, q):
    softplus = tg.nn.functional.softplus
    t1 = p.probs * (softplus(-q.logits) - softplus(-p.logits))
    t1[q.probs == 0] = math.inf
    t1[p.probs == 0] = 0
    t2 = (1 - p.probs) * (softplus(q.logits) - softplus(p.logits))
    t2[q.probs == 1] = math.inf
    t2[p.probs == 1] = 0
    return t1 + t2


@register_kl(Beta, Beta)
def _beta(p, q):
    p1, p0, q1, q0 = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    total_p, total_q = p1 + p0, q1 + q0
    t1 = q1.lgamma() + q0.lgamma() + total_p.lgamma()
    t2 = p1.lgamma() + p0.lgamma() + total_q.lgamma()
    return t1 - t2 + (p1 - q1) * tg.digamma(p1) + (p0 - q0) * tg.digamma(p0) + (total_q - total_p) * tg.digamma(total_p)


@register_kl(Binomial, Binomial)
def _binomial(p, q):
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    kl[p.total_count > q.total_count] = math.inf
    return kl


@register_kl(Categorical, Categorical)
def _categorical(p, q):
    t = p.probs * (p.logits - q.logits)
    t[(q.probs == 0).expand_as(t)] = math.inf
    t[(p.probs == 0).expand_as(t)] = 0
    return t.sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p, q):
    return _categorical(p._categorical, q._categorical)


@register_kl(Cauchy, Cauchy)
def _cauchy(p, q):  # F. Chyzak and F. Nielsen, 2019
    t1 = ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log()
    return t1 - (4 * p.scale * q.scale).log()


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p, q):  # W. Penny, Kullback-Leibler divergences of normal, gamma, Dirichlet and Wishart densities, 2001
    total_p, total_q = p.concentration.sum(-1), q.concentration.sum(-1)
    t2 = (p.concentration.lgamma() - q.concentration.lgamma()).sum(-1)
    t4 = p.concentration.digamma() - total_p.digamma().unsqueeze(-1)
    return total_p.lgamma() - total_q.lgamma() - t2 + ((p.concentration - q.concentration) * t4).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p, q):
    ratio = q.rate / p.rate
    return -ratio.log() + ratio - 1


@register_kl(Gamma, Gamma)
def _gamma(p, q):
    t1 = q.concentration * (p.rate / q.rate).log()
    t2 = tg.lgamma(q.concentration) - tg.lgamma(p.concentration)
    t3 = (p.concentration - q.concentration) * tg.digamma(p.concentration)
    return t1 + t2 + t3 + (q.rate - p.rate) * (p.concentration / p.rate)


@register_kl(Geometric, Geometric)
def _geometric(p, q):
    return -p.entropy() - tg.log1p(-q.probs) / p.probs - q.logits


@register_kl(Gumbel, Gumbel)
def _gumbel(p, q):
    ratio, loc_q, loc_p = p.scale / q.scale, q.loc / q.scale, p.loc / q.scale
    t1 = -ratio.log() - loc_q + loc_p
    t3 = tg.exp(loc_q + (1 + ratio).lgamma() - loc_p)
    return t1 + ratio * euler_constant + t3 - (1 + euler_constant)


@register_kl(Laplace, Laplace)
def _laplace(p, q):
    ratio, distance = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + distance / q.scale + ratio * tg.exp(-distance / p.scale) - 1


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p, q):
    if p.event_shape != q.event_shape:
        raise ValueError(
            "KL-divergence between two Multivariate Normals with                          different event shapes cannot be computed"
        )
    tril_p, tril_q = p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril
    dets = half_log_det(tril_q) - half_log_det(tril_p)
    shape = tg.Size(tg.broadcast_shapes(tril_q.shape, tril_p.shape))
    trace = tg.linalg.solve_triangular(tril_q.expand(shape), tril_p.expand(shape), upper=False).flatten(-2).pow(2).sum(-1)
    return dets + 0.5 * (trace + batch_mahalanobis(tril_q, q.loc - p.loc) - p.event_shape[0])


@register_kl(Normal, Normal)
def _normal(p, q):
    variances = (p.scale / q.scale).pow(2)
    distance = ((p.loc - q.loc) / q.scale).pow(2)
    return 0.5 * (variances + distance - 1 - variances.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p, q):
    return _normal(p.base_dist, q.base_dist)


@register_kl(Pareto, Pareto)
def _pareto(p, q):
    ratio = q.alpha / p.alpha
    result = q.alpha * (p.scale / q.scale).log() + -ratio.log() + ratio - 1
    result[p.support.lower_bound < q.support.lower_bound] = math.inf
    return result


@register_kl(Poisson, Poisson)
def _poisson(p, q):
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p, q):
    result = ((q.high - q.low) / (p.high - p.low)).log()
    result[(q.low > p.low) | (q.high < p.high)] = math.inf
    return result


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p, q):
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p, q):
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
