"""Owns `distributions`: samples as torch draws them, densities against SciPy's, derivatives, divergences, transforms, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as st

import tapegrad as tg
import tapegrad.distributions as D
from tapegrad.distributions import constraints


def vector(*values):
    return tg.tensor(values, dtype=tg.float64)


A, B, L, P = vector(0.7, 1.5, 4.0), vector(1.2, 0.5, 9.0), vector(-1.0, 0.3, 2.0), vector(0.2, 0.5, 0.9)
M = tg.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.7]], dtype=tg.float64)
a, b, loc, p = (t.numpy() for t in (A, B, L, P))
# A distribution and SciPy's
CONTINUOUS = {
    "Normal": (D.Normal(L, A), st.norm(loc, a)), "Uniform": (D.Uniform(L, L + A), st.uniform(loc, a)), "Exponential": (D.Exponential(A), st.expon(scale=1 / a)),
    "Laplace": (D.Laplace(L, A), st.laplace(loc, a)), "Cauchy": (D.Cauchy(L, A), st.cauchy(loc, a)), "Gamma": (D.Gamma(A, B), st.gamma(a, scale=1 / b)),
    "Chi2": (D.Chi2(A), st.chi2(a)), "Beta": (D.Beta(A, B), st.beta(a, b)), "StudentT": (D.StudentT(B, L, A), st.t(b, loc, a)),
    "LogNormal": (D.LogNormal(L, A), st.lognorm(a, scale=np.exp(loc))), "HalfNormal": (D.HalfNormal(A), st.halfnorm(scale=a)),
    "HalfCauchy": (D.HalfCauchy(A), st.halfcauchy(scale=a)), "Gumbel": (D.Gumbel(L, A), st.gumbel_r(loc, a)),
    "Weibull": (D.Weibull(A, B), st.weibull_min(b, scale=a)), "Pareto": (D.Pareto(A, B), st.pareto(b, scale=a)),
    "InverseGamma": (D.InverseGamma(A, B), st.invgamma(a, scale=b)),
}  # fmt: skip
DISCRETE = {
    "Bernoulli": (D.Bernoulli(P), st.bernoulli(p)), "Binomial": (D.Binomial(7, P), st.binom(7, p)), "Geometric": (D.Geometric(P), st.geom(p, loc=-1)),
    "Poisson": (D.Poisson(B), st.poisson(b)), "NegativeBinomial": (D.NegativeBinomial(A, P), st.nbinom(a, 1 - p)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_densities_and_moments(name):
    d, reference = CONTINUOUS[name]
    for q in (0.1, 0.5, 0.8):
        x = tg.tensor(reference.ppf(q), dtype=tg.float64)
        np.testing.assert_allclose(d.log_prob(x), reference.logpdf(x.numpy()), rtol=1e-9, atol=1e-12)
        if name not in ("Beta", "StudentT"):
            np.testing.assert_allclose(d.cdf(x), np.full(3, q), rtol=1e-7)
    if name not in ("Cauchy", "HalfCauchy"):
        finite = np.isfinite(reference.var()) & (reference.mean() < 1e6)
        np.testing.assert_allclose(d.mean.numpy()[finite], reference.mean()[finite], rtol=1e-9)
        np.testing.assert_allclose(d.variance.numpy()[finite], reference.var()[finite], rtol=1e-7)
        np.testing.assert_allclose(d.stddev.numpy()[finite], reference.std()[finite], rtol=1e-7)
    if name != "HalfCauchy":
        np.testing.assert_allclose(d.entropy(), reference.entropy(), rtol=1e-7)


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_and_moments(name):
    d, reference = DISCRETE[name]
    for k in (0.0, 1.0):
        np.testing.assert_allclose(d.log_prob(vector(k, k, k)), reference.logpmf(k), rtol=1e-9)
    np.testing.assert_allclose(d.mean, reference.mean(), rtol=1e-9)
    np.testing.assert_allclose(d.variance, reference.var(), rtol=1e-9)
    if name in ("Bernoulli", "Binomial"):
        np.testing.assert_allclose(d.entropy(), reference.entropy(), rtol=1e-9)
        assert d.log_prob(d.enumerate_support()).exp().sum(0).allclose(tg.ones(3, dtype=tg.float64))


def test_vectors():
    x = vector(0.3, -0.2, 0.1)
    expected = st.multivariate_normal(loc, M.numpy())
    for given in ({"covariance_matrix": M}, {"precision_matrix": M.inverse()}, {"scale_tril": tg.linalg.cholesky(M)}):
        d = D.MultivariateNormal(L, **given)
        assert d.log_prob(x).item() == pytest.approx(expected.logpdf(x.numpy())) and d.entropy().item() == pytest.approx(expected.entropy())
        assert d.covariance_matrix.allclose(M) and d.precision_matrix.allclose(M.inverse()) and d.scale_tril.allclose(tg.linalg.cholesky(M))
    batch = D.MultivariateNormal(L, tg.stack([M, 2 * M]))
    for k in range(2):
        assert batch.log_prob(x)[k].item() == pytest.approx(st.multivariate_normal(loc, (k + 1) * M.numpy()).logpdf(x.numpy()))
    assert D.Dirichlet(A).log_prob(P / P.sum()).item() == pytest.approx(st.dirichlet(a).logpdf(p / p.sum()))
    assert D.Multinomial(6, P).log_prob(vector(1, 2, 3)).item() == pytest.approx(st.multinomial(6, p / p.sum()).logpmf([1, 2, 3]))
    assert D.Categorical(P).entropy().item() == pytest.approx(st.entropy(p / p.sum()))
    assert D.OneHotCategorical(P).log_prob(vector(0, 1, 0)).exp().item() == pytest.approx(0.5 / 1.6)
    assert D.Independent(D.Normal(L, A), 1).log_prob(x).item() == pytest.approx(st.norm(loc, a).logpdf(x.numpy()).sum())


def test_a_mixture():
    d = D.MixtureSameFamily(D.Categorical(P), D.Normal(L, A))
    x = tg.tensor(0.4, dtype=tg.float64)
    weights = p / p.sum()
    assert d.log_prob(x).exp().item() == pytest.approx((weights * st.norm(loc, a).pdf(0.4)).sum())
    assert d.cdf(x).item() == pytest.approx((weights * st.norm(loc, a).cdf(0.4)).sum())
    mean = (weights * loc).sum()
    assert d.mean.item() == pytest.approx(mean) and d.variance.item() == pytest.approx((weights * (a**2 + loc**2)).sum() - mean**2)
    assert d.sample((5, 2)).shape == (5, 2)


# Samples of torch 2.13 for the seed 7
SAMPLES = {
    "gamma": (lambda: D.Gamma(tg.tensor([0.3, 2.0]), 1.0).sample(), [0.236346691847, 5.718629360199]),
    "beta": (lambda: D.Beta(A, B).sample(), [0.132751692838, 0.982095278595, 0.322239158729]),
    "student": (lambda: D.StudentT(tg.tensor([3.0, 5.0])).sample(), [-0.113316059113, 1.306250214577]),
    "binomial": (lambda: D.Binomial(100, tg.tensor([0.02, 0.3, 0.9])).sample(), [1.0, 36.0, 92.0]),
    "categorical": (lambda: D.Categorical(P).sample((6,)), [1, 1, 2, 2, 2, 2]),
    "mvn": (lambda: D.MultivariateNormal(L, M).sample(), [-1.207599617753, 1.037109577473, 2.57801438013]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_seed_gives_torchs_samples(name):
    draw, expected = SAMPLES[name]
    tg.manual_seed(7)
    np.testing.assert_allclose(draw(), expected, rtol=1e-6)


@pytest.mark.parametrize("make, reference, wanted", [
    (lambda t: D.Gamma(t, 1.0), st.gamma, A), (lambda t: D.Gamma(t, 1.0), st.gamma, vector(0.5, 30.0, 12.0)), (lambda t: D.Beta(t, 1.5), lambda t: st.beta(t, 1.5), A),
    (lambda t: D.Beta(9.0, t), lambda t: st.beta(9.0, t), vector(8.0, 20.0, 0.9)),
])  # fmt: skip
def test_draws_follow_their_parameters(make, reference, wanted):
    """The derivative of a draw is that of the quantile at which it lies."""
    tg.manual_seed(0)
    t = wanted.clone().requires_grad_()
    x = make(t).rsample((20,))
    (gradient,) = tg.autograd.grad(x.sum(), t)
    values, step = x.detach().numpy(), 1e-5 * wanted.numpy()
    slope = (reference(wanted.numpy() + step).cdf(values) - reference(wanted.numpy() - step).cdf(values)) / (2 * step)
    np.testing.assert_allclose(gradient, (-slope / reference(wanted.numpy()).pdf(values)).sum(0), rtol=2e-3)


def test_reparameterised_samples_have_gradients():
    t = L.clone().requires_grad_()
    tg.manual_seed(1)
    x = D.Normal(t, A).rsample((4,))
    assert tg.autograd.grad(x.sum(), t)[0].tolist() == [4.0] * 3
    assert not D.Normal(t, A).sample().requires_grad
    q = D.OneHotCategoricalStraightThrough(logits=t).rsample()
    assert tg.autograd.grad((q * A).sum(), t)[0].abs().sum() > 0


def pairs():
    named = {name: d for name, (d, _) in {**CONTINUOUS}.items()}
    for first in ("Normal", "Laplace", "Gumbel", "Exponential", "Gamma", "Beta", "Uniform", "Pareto", "HalfNormal", "Cauchy"):
        for second in named:
            try:
                D.kl_divergence(named[first], named[second])
            except NotImplementedError:
                continue
            yield first, second


@pytest.mark.parametrize("first, second", [*pairs()])
def test_divergences(first, second, monkeypatch):
    monkeypatch.setattr(D.Distribution, "_validate_args", False)
    (d, reference), (other, _) = CONTINUOUS[first], CONTINUOUS[second]
    kl = D.kl_divergence(d, other)
    quantiles = (np.arange(200_000) + 0.5) / 200_000  # the mean of log p - log q over the quantiles of p
    x = tg.tensor(reference.ppf(quantiles[:, None]), dtype=tg.float64)
    expected = (d.log_prob(x) - other.log_prob(x)).mean(0)
    for k in range(3):
        if math.isfinite(kl[k]) and not (first == "Pareto" and B[k] < 2):  # a tail too heavy for the quadrature
            assert kl[k].item() == pytest.approx(expected[k].item(), rel=1e-2, abs=1e-3)


def test_divergences_are_found_by_type():
    class Special(D.Normal):
        pass

    assert D.kl_divergence(Special(0.0, 1.0), D.Normal(1.0, 1.0)).item() == 0.5

    @D.register_kl(Special, D.Normal)
    def special(p, q):
        return "special"

    assert D.kl_divergence(Special(0.0, 1.0), D.Normal(1.0, 1.0)) == "special"
    with pytest.raises(NotImplementedError, match="No KL"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.StudentT(1.0))
    assert D.kl_divergence(D.Independent(D.Normal(L, A), 1), D.Independent(D.Normal(L + 1, A), 1)).item() == pytest.approx((1 / (2 * a**2)).sum())


SETS = [
    constraints.positive, constraints.greater_than(2.0), constraints.less_than(-1.0), constraints.interval(-1.0, 3.0), constraints.unit_interval,
    constraints.simplex, constraints.corr_cholesky, constraints.independent(constraints.positive, 1),
    constraints.stack([constraints.positive, constraints.real, constraints.unit_interval]),
    constraints.cat([constraints.positive, constraints.real], lengths=[1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("constraint", SETS, ids=[type(c).__name__ + str(k) for k, c in enumerate(SETS)])
def test_bijections(constraint):
    t, x = D.biject_to(constraint), vector(-1.0, 0.5, 0.8)
    y = t(x)
    assert constraint.check(y).all() and t.inv(y).allclose(x) and t.inv.inv is t
    if constraint is constraints.simplex or constraint is constraints.corr_cholesky:
        below = (lambda z: t(z)[:-1]) if constraint is constraints.simplex else (lambda z: t(z)[[1, 2, 2], [0, 0, 1]])
        jacobian = tg.autograd.functional.jacobian(below, x)
    else:
        jacobian = tg.autograd.functional.jacobian(t, x)
    assert t.log_abs_det_jacobian(x, y).sum().item() == pytest.approx(jacobian.det().abs().log().item())


def test_transformed_distributions():
    d = D.TransformedDistribution(D.Normal(L, A), [D.TanhTransform(cache_size=1), D.AffineTransform(1.0, -2.0)])
    x = d.rsample()
    assert d.support.check(x).all() and d.log_prob(x).isfinite().all()
    y = vector(0.3, 0.9, 1.5)
    assert d.icdf(d.cdf(y)).allclose(y)
    log_normal = D.TransformedDistribution(D.Normal(L, A), D.ExpTransform())
    assert log_normal.log_prob(B).allclose(D.LogNormal(L, A).log_prob(B))
    assert D.kl_divergence(D.LogNormal(L, A), D.LogNormal(L + 1, A)).allclose(1 / (2 * A**2))
    matrix = D.transform_to(constraints.positive_definite)(M)
    assert constraints.positive_definite.check(matrix).all()


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_expanded(name):
    d, _ = {**CONTINUOUS, **DISCRETE}[name]
    large = d.expand((2, 3))
    x = d.sample()
    assert large.batch_shape == (2, 3) and large.sample((4,)).shape == (4, 2, 3) and type(large) is type(d)
    assert large.log_prob(x).allclose(d.log_prob(x).expand(2, 3), equal_nan=True)


REFUSED = [
    (lambda: D.Normal(0.0, -1.0), ValueError, "Expected parameter scale (Tensor of shape ()) of distribution Normal(loc: 0.0, scale: -1.0) to satisfy the constraint "
     "GreaterThan(lower_bound=0.0), but found invalid values:\n-1.0"),
    (lambda: D.Bernoulli(0.5, logits=0.1), ValueError, "Either `probs` or `logits` must be specified, but not both."),
    (lambda: D.Categorical(tg.tensor(0.3)), ValueError, "`probs` parameter must be at least one-dimensional."),
    (lambda: D.Normal("a", 1.0), ValueError, "Input arguments must all be instances of Number"),
    (lambda: D.Exponential(1.0).log_prob(tg.tensor(-1.0)), ValueError, "to be within the support (GreaterThanEq(lower_bound=0.0)) of the distribution "
     "Exponential(rate: 1.0), but found invalid values:\n-1.0"),
    (lambda: D.Normal(0.0, 1.0).log_prob(0.3), ValueError, "The value argument to log_prob must be a Tensor"),
    (lambda: D.Normal(tg.zeros(3), 1.0).log_prob(tg.zeros(4)), ValueError, "Value is not broadcastable with batch_shape+event_shape"),
    (lambda: D.Uniform(1.0, 0.0), ValueError, "Expected parameter low"),
    (lambda: D.MultivariateNormal(tg.zeros(2)), ValueError, "Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified."),
    (lambda: D.MultivariateNormal(tg.zeros(2), -tg.eye(2)), ValueError, "PositiveDefinite()"),
    (lambda: D.Geometric(0.0), ValueError, "to be positive but found invalid values"),
    (lambda: D.Categorical(tg.ones(3)).rsample(), NotImplementedError, ""),
    (lambda: D.Independent(D.Normal(0.0, 1.0), 1), ValueError, "Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual 1 vs 0"),
    (lambda: D.biject_to(constraints.boolean), NotImplementedError, "Cannot transform _Boolean constraints"),
    (lambda: D.AffineTransform(0.0, 1.0).with_cache(3), ValueError, "cache_size must be 0 or 1"),
    (lambda: tg.binomial(tg.tensor([5]), tg.tensor([0.5])), ValueError, "binomial only supports floating-point dtypes for count, got: Long"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, text", REFUSED)
def test_what_is_refused(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_unchecked_arguments_and_repr():
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    assert repr(D.Normal(tg.zeros(2), 1.0)) == f"Normal(loc: {tg.Size([2])}, scale: {tg.Size([2])})"
    assert repr(D.Independent(D.Normal(0.0, 1.0).expand((2,)), 1)).endswith(", 1)")

    class Mine(D.Normal):
        def __init__(self, scale):
            super().__init__(0.0, scale)

    with pytest.raises(NotImplementedError, match="must also define a custom .expand"):
        Mine(1.0).expand((2,))


def test_equal_shapes_are_not_expanded():
    x, y = A.clone().requires_grad_(), B
    assert all(s is t for s, t in zip(tg.broadcast_tensors(x, y), (x, y)))
    assert D.Normal(x, y).loc is x


def test_binomial_has_no_derivative():
    with pytest.raises(RuntimeError, match="derivative for aten::binomial is not implemented"):
        tg.binomial(tg.tensor([5.0], requires_grad=True), tg.tensor([0.5])).sum().backward()
