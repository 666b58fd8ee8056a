"""Probability distributions: samples that follow their parameters with gradients, densities, entropies, divergences, as `torch.distributions`.

    from tapegrad.distributions import Normal, kl_divergence
    q = Normal(loc, scale)
    elbo = log_joint(q.rsample()) + q.entropy().sum()

A seed gives torch's samples.
"""

from tapegrad.distributions import constraints, kl, kl_between, kl_low_rank, transforms
from tapegrad.distributions.bernoulli import Bernoulli
from tapegrad.distributions.beta import Beta
from tapegrad.distributions.binomial import Binomial
from tapegrad.distributions.categorical import Categorical
from tapegrad.distributions.cauchy import Cauchy
from tapegrad.distributions.chi2 import Chi2
from tapegrad.distributions.constraint_registry import biject_to, transform_to
from tapegrad.distributions.continuous_bernoulli import ContinuousBernoulli
from tapegrad.distributions.dirichlet import Dirichlet
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.exp_family import ExponentialFamily
from tapegrad.distributions.exponential import Exponential
from tapegrad.distributions.fishersnedecor import FisherSnedecor
from tapegrad.distributions.gamma import Gamma
from tapegrad.distributions.generalized_pareto import GeneralizedPareto
from tapegrad.distributions.geometric import Geometric
from tapegrad.distributions.independent import Independent
from tapegrad.distributions.kl import kl_divergence, register_kl
from tapegrad.distributions.laplace import Laplace
from tapegrad.distributions.lkj_cholesky import LKJCholesky
from tapegrad.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from tapegrad.distributions.mixture_same_family import MixtureSameFamily
from tapegrad.distributions.multinomial import Multinomial
from tapegrad.distributions.multivariate_normal import MultivariateNormal
from tapegrad.distributions.negative_binomial import NegativeBinomial
from tapegrad.distributions.normal import Normal
from tapegrad.distributions.one_hot_categorical import OneHotCategorical, OneHotCategoricalStraightThrough
from tapegrad.distributions.poisson import Poisson
from tapegrad.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from tapegrad.distributions.scale_families import (
    Gumbel,
    HalfCauchy,
    HalfNormal,
    InverseGamma,
    Kumaraswamy,
    LogisticNormal,
    LogNormal,
    Pareto,
    Weibull,
)
from tapegrad.distributions.studentT import StudentT
from tapegrad.distributions.transformed_distribution import TransformedDistribution
from tapegrad.distributions.transforms import *  # noqa: F403
from tapegrad.distributions.uniform import Uniform
from tapegrad.distributions.von_mises import VonMises
from tapegrad.distributions.wishart import Wishart
