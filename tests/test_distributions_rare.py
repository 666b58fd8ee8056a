"""Owns the distributions that few programs use: densities and moments against SciPy's, samples for a seed as torch draws them, divergences, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st

import tapegrad as tg
import tapegrad.distributions as D

pytestmark = pytest.mark.filterwarnings("ignore:Singular sample detected")


def vector(*values):
    return tg.tensor(values, dtype=tg.float64)


A, B, L, P = vector(0.7, 1.5, 4.0), vector(9.0, 6.5, 12.0), vector(-1.0, 0.3, 2.0), vector(0.2, 0.5, 0.9)
M = tg.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.7]], dtype=tg.float64)
W = tg.tensor([[1.0, 0.2], [-0.5, 0.3], [0.0, 2.0]], dtype=tg.float64)
C = vector(-0.4, 1e-12, 0.3)
a, b, loc, c = (t.numpy() for t in (A, B, L, C))
REFERENCES = {
    "FisherSnedecor": (D.FisherSnedecor(A, B), st.f(a, b)), "VonMises": (D.VonMises(L * 0, A), st.vonmises(a)),
    "GeneralizedPareto": (D.GeneralizedPareto(L, A, C), st.genpareto(c, loc, a)),
}  # fmt: skip
DRAWN = {
    "FisherSnedecor": D.FisherSnedecor(A, B), "GeneralizedPareto": D.GeneralizedPareto(L, A, C), "ContinuousBernoulli": D.ContinuousBernoulli(P), "VonMises": D.VonMises(L, A),
    "LKJCholesky": D.LKJCholesky(3, A), "Wishart": D.Wishart(B, M), "LowRankMultivariateNormal": D.LowRankMultivariateNormal(L, W, A),
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
def test_densities(name):
    d, reference = REFERENCES[name]
    for q in (0.1, 0.5, 0.8):
        x = tg.tensor(reference.ppf(q), dtype=tg.float64)
        np.testing.assert_allclose(d.log_prob(x), reference.logpdf(x.numpy()), rtol=2e-6, atol=1e-7)  # I_0 is good to 1e-7
        if name == "GeneralizedPareto":
            np.testing.assert_allclose(d.cdf(x), q, rtol=1e-9)
            np.testing.assert_allclose(d.icdf(tg.tensor(q)), x, rtol=1e-6)
            np.testing.assert_allclose(d.entropy(), reference.entropy(), rtol=1e-9)
    if name == "FisherSnedecor":
        np.testing.assert_allclose(d.mean, reference.mean())
        np.testing.assert_allclose(d.variance, reference.var())


def test_a_density_on_the_unit_interval():
    d, x = D.ContinuousBernoulli(tg.cat([P, vector(0.4995)])), tg.linspace(0, 1, 20001, dtype=tg.float64)[:, None]
    density = d.log_prob(x).exp()
    np.testing.assert_allclose(tg.trapezoid(density, x[:, 0], dim=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(tg.trapezoid(density * x, x[:, 0], dim=0), d.mean, rtol=1e-6)
    np.testing.assert_allclose(tg.trapezoid(density * (x - d.mean) ** 2, x[:, 0], dim=0), d.variance, rtol=1e-5)
    np.testing.assert_allclose(-tg.trapezoid(density * density.log(), x[:, 0], dim=0), d.entropy(), rtol=1e-6)
    np.testing.assert_allclose(d.cdf(d.icdf(tg.tensor(0.3))), 0.3, rtol=1e-6)


def test_matrices():
    d, reference, X = D.Wishart(tg.tensor(4.5, dtype=tg.float64), M), st.wishart(4.5, M.numpy()), M * 2 + tg.eye(3, dtype=tg.float64)
    assert d.log_prob(X).item() == pytest.approx(reference.logpdf(X.numpy())) and d.entropy().item() == pytest.approx(reference.entropy())
    np.testing.assert_allclose(d.mean, reference.mean())
    np.testing.assert_allclose(d.variance, reference.var())
    for given in ({"precision_matrix": M.inverse()}, {"scale_tril": tg.linalg.cholesky(M)}):
        assert D.Wishart(4.5, **given).log_prob(X).item() == pytest.approx(reference.logpdf(X.numpy()))
    assert d.expand((2,)).log_prob(X).tolist() == [pytest.approx(reference.logpdf(X.numpy()))] * 2
    samples = d.sample((4000,))
    np.testing.assert_allclose(samples.mean(0), d.mean, rtol=0.1, atol=0.2)
    factors = D.LKJCholesky(3, 1.0).expand((2,)).sample((5,))
    assert factors.shape == (5, 2, 3, 3) and tg.allclose((factors @ factors.mT).diagonal(dim1=-1, dim2=-2), tg.ones(3))
    x = tg.linspace(-0.99999, 0.99999, 20001, dtype=tg.float64)  # of two rows: the correlation r has the Jacobian 1
    r = tg.stack([tg.stack([tg.ones_like(x), tg.zeros_like(x)], -1), tg.stack([x, (1 - x * x).sqrt()], -1)], -2)
    assert tg.trapezoid(D.LKJCholesky(2, tg.tensor(2.5, dtype=tg.float64)).log_prob(r).exp(), x).item() == pytest.approx(1, rel=1e-4)


def test_one_covariance_for_several_degrees_of_freedom():
    d, X = D.Wishart(vector(4.5, 6.0), M), M + tg.eye(3, dtype=tg.float64)
    wide = d.expand((4, 2))
    assert wide.batch_shape == (4, 2) and wide.covariance_matrix.shape == (4, 2, 3, 3) and wide.sample((5,)).shape == (5, 4, 2, 3, 3)
    np.testing.assert_allclose(wide.log_prob(X), d.log_prob(X).expand(4, 2))
    np.testing.assert_allclose(wide.entropy(), d.entropy().expand(4, 2))


def test_a_covariance_of_low_rank():
    full, d = D.MultivariateNormal(L, W @ W.mT + A.diag()), D.LowRankMultivariateNormal(L, W, A)
    for name in ("covariance_matrix", "precision_matrix", "scale_tril", "mean", "variance"):
        np.testing.assert_allclose(getattr(d, name), getattr(full, name), rtol=1e-9, atol=1e-12)
    x = tg.stack([P, A])
    np.testing.assert_allclose(d.log_prob(x), full.log_prob(x))
    np.testing.assert_allclose(d.entropy(), full.entropy())
    other = D.MultivariateNormal(P, M), D.LowRankMultivariateNormal(P, 2 * W, B)
    other_full = other[0], D.MultivariateNormal(P, 4 * W @ W.mT + B.diag())
    for p, q in zip(other, other_full):
        np.testing.assert_allclose(D.kl_divergence(d, p), D.kl_divergence(full, q))
        np.testing.assert_allclose(D.kl_divergence(p, d), D.kl_divergence(q, full))
    with pytest.raises(ValueError, match="Low Rank Multivariate Normals with"):
        D.kl_divergence(D.LowRankMultivariateNormal(L[:2], W[:2], A[:2]), d)


def test_divergences_of_the_continuous_bernoulli():
    p, x = D.ContinuousBernoulli(P), tg.linspace(1e-6, 1 - 1e-6, 20001, dtype=tg.float64)[:, None]
    for q in (D.ContinuousBernoulli(P.flip(0)), D.Exponential(A), D.Normal(L, A)):
        expected = tg.trapezoid(p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x)), x[:, 0], dim=0)
        np.testing.assert_allclose(D.kl_divergence(p, q), expected, rtol=1e-4, atol=1e-6)
    assert D.kl_divergence(D.Normal(L, A), p).isinf().all() and D.kl_divergence(p, D.Pareto(A, A)).isinf().all()


@pytest.mark.torch
@pytest.mark.parametrize("name", DRAWN)
def test_samples_as_torch(name, torch):
    d = DRAWN[name]
    given = {n: torch.tensor(getattr(d, n).numpy()) for n in d.arg_constraints if n in d.__dict__}
    if name == "LKJCholesky":
        given["dim"] = 3
    other = getattr(torch.distributions, name)(**given)
    for shape in ((), (3,), (2, 2)):
        tg.manual_seed(3), torch.manual_seed(3)
        x, y = d.sample(shape), other.sample(shape)
        np.testing.assert_allclose(x, y, rtol=1e-9)
        if name != "GeneralizedPareto":  # torch's takes the default dtype only
            np.testing.assert_allclose(d.log_prob(x), other.log_prob(y), rtol=1e-7)
        np.testing.assert_allclose(tg.rand(3), torch.rand(3))


@pytest.mark.parametrize("name", ["GeneralizedPareto", "ContinuousBernoulli", "LowRankMultivariateNormal"])
def test_samples_follow_their_parameters(name):
    d = DRAWN[name]
    given = [(n, getattr(d, n)) for n in d.arg_constraints if n in d.__dict__ and n != "logits"]

    def sampled(*values):
        tg.manual_seed(1)
        return getattr(D, name)(**dict(zip([n for n, _ in given], values))).rsample((2,))

    points = [v.detach().clone().requires_grad_() for _, v in given]
    if name == "GeneralizedPareto":
        points[-1] = vector(-0.4, 0.2, 0.3).requires_grad_()  # near 0 is another formula
    assert tg.autograd.gradcheck(sampled, points, rtol=1e-3, atol=1e-5)


def test_ratios_of_gamma_variables_follow_their_degrees_of_freedom():
    """E[x] = df2 / (df2 - 2), so its derivative is that of the mean of samples."""
    tg.manual_seed(0)
    df2 = vector(12.0).requires_grad_()
    D.FisherSnedecor(vector(6.0), df2).rsample((20000,)).mean().backward()
    assert df2.grad.item() == pytest.approx(-2 / 100, rel=0.2)


@pytest.mark.parametrize("make, text", [
    (lambda: D.LKJCholesky(1), "Expected dim to be an integer greater than or equal to 2. Found dim=1"),
    (lambda: D.Wishart(2.0, M), "Value of df=2.0 expected to be greater than ndim - 1 = 2"), (lambda: D.Wishart(4.0, A), "scale_tril must be at least two-dimensional"),
    (lambda: D.ContinuousBernoulli(1.5, validate_args=True), "The parameter probs has invalid values"), (lambda: D.VonMises(0.0, -1.0), "to satisfy the constraint"),
    (lambda: D.LowRankMultivariateNormal(L, W.mT, A), "cov_factor must be a batch of matrices with shape 3 x m"),
    (lambda: D.LowRankMultivariateNormal(L, W, A[:2]), "cov_diag must be a batch of vectors with shape"),
    (lambda: D.GeneralizedPareto(0.0, 1.0, -0.5).log_prob(tg.tensor(3.0)), "to be within the support"),
    (lambda: D.HalfCauchy(1.0).log_prob(2.0), "The value argument to log_prob must be a Tensor"),
])  # fmt: skip
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("family", ["Gumbel", "Kumaraswamy", "Pareto", "Weibull"])
def test_a_batch_that_does_not_fit_is_refused_by_the_parameters(family):
    with pytest.raises(RuntimeError, match=r"The expanded size of the tensor \(5\) must match the existing size \(3\)"):
        getattr(D, family)(A, B).expand((7, 5))
