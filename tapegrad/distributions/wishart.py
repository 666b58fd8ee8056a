"""The Wishart distribution of positive definite matrices."""

from __future__ import annotations

import math
import warnings

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_covariance import ByCovariance, half_log_det, the_given
from tapegrad.distributions.chi2 import Chi2
from tapegrad.distributions.exp_family import ExponentialFamily
from tapegrad.distributions.utils import NUMBERS

TRIES = 10  # how often samples that are singular are drawn again


def mvdigamma(x, p: int):
    """The derivative of the logarithm of the multivariate gamma function of dimension `p`."""
    if not x.gt((p - 1) / 2).all():
        raise AssertionError("Wrong domain for multivariate digamma function.")
    return tg.digamma(x.unsqueeze(-1) - tg.arange(p, dtype=x.dtype).div(2).expand(x.shape + (-1,))).sum(-1)


class Wishart(ByCovariance, ExponentialFamily):
    """The scatter matrices of `df` normal vectors of length n and mean 0, whose covariance is given as itself, its inverse or its Cholesky factor.

    `df`, which need not be whole, is greater than n - 1.
    """

    support = constraints.positive_definite
    _mean_carrier_measure = 0
    _parts = (*ByCovariance._parts, "df")

    @property
    def arg_constraints(self):
        return {**ByCovariance.arg_constraints, "df": constraints.greater_than(self.event_shape[-1] - 1)}

    def __init__(self, df, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        name, matrix = the_given(AssertionError, scale_tril=scale_tril, covariance_matrix=covariance_matrix, precision_matrix=precision_matrix)
        if matrix.dim() < 2:
            raise ValueError("scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        if isinstance(df, NUMBERS):
            batch_shape = tg.Size(matrix.shape[:-2])
            self.df = tg.tensor(df, dtype=matrix.dtype)
        else:
            batch_shape = tg.Size(tg.broadcast_shapes(matrix.shape[:-2], df.shape))
            self.df = df.expand(batch_shape)
        event_shape = matrix.shape[-2:]
        if self.df.le(event_shape[-1] - 1).any():
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {event_shape[-1] - 1}.")
        self.__dict__[name] = matrix.expand(batch_shape + (-1, -1))
        if self.df.lt(event_shape[-1]).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.", stacklevel=2)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)
        self._factorise(name, matrix)

    @property
    def mean(self):
        return self.df.view(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def mode(self):
        factor = self.df - self.covariance_matrix.shape[-1] - 1
        factor[factor <= 0] = math.nan
        return factor.view(self._batch_shape + (1, 1)) * self.covariance_matrix

    @property
    def variance(self):
        V = self.covariance_matrix
        diagonal = V.diagonal(dim1=-2, dim2=-1)
        return self.df.view(self._batch_shape + (1, 1)) * (V.pow(2) + tg.einsum("...i,...j->...ij", diagonal, diagonal))

    def _bartlett(self, sample_shape):
        """Samples by M. Bartlett's decomposition: the Cholesky factor of a sample, of which some may be singular."""
        p = self._event_shape[-1]
        chi2 = Chi2(self.df.unsqueeze(-1) - tg.arange(p, dtype=self._unbroadcasted_scale_tril.dtype).expand(self._batch_shape + (-1,)))
        noise = chi2.rsample(sample_shape).sqrt()
        noise = noise.clamp(min=tg.finfo(noise.dtype).eps).diag_embed(dim1=-2, dim2=-1)
        i, j = tg.tril_indices(p, p, offset=-1)
        noise[..., i, j] = tg.randn(tg.Size(sample_shape) + self._batch_shape + (p * (p - 1) // 2,), dtype=noise.dtype)
        factor = self._unbroadcasted_scale_tril @ noise
        return factor @ factor.mT

    def _any_of_batch(self, mask):
        return mask.amax([-(k + 1) for k in range(len(self._batch_shape))]) if self._batch_shape else mask

    def rsample(self, sample_shape=(), max_try_correction=None):
        """Samples; those that PyTorch's test picks are drawn again, at most `max_try_correction` times.

        Its first test picks the samples that are positive definite.  To give its samples for a seed, so does this one.
        """
        sample_shape = tg.Size(sample_shape)
        sample = self._bartlett(sample_shape)
        singular = self._any_of_batch(self.support.check(sample))
        if singular.any():
            warnings.warn("Singular sample detected.", stacklevel=2)
            for _ in range(TRIES if max_try_correction is None else max_try_correction):
                again = self._bartlett(singular[singular].shape)
                sample[singular] = again
                singular[singular.clone()] = self._any_of_batch(~self.support.check(again))
                if not singular.any():
                    break
        return sample

    def log_prob(self, value):
        self._checked(value)
        nu, p = self.df, self._event_shape[-1]
        trace = tg.cholesky_solve(value, self._unbroadcasted_scale_tril).diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        norm = -nu * (p * math.log(2) / 2 + half_log_det(self._unbroadcasted_scale_tril)) - tg.mvlgamma(nu / 2, p=p)
        return norm + (nu - p - 1) / 2 * tg.linalg.slogdet(value).logabsdet - trace / 2

    def entropy(self):
        nu, p = self.df, self._event_shape[-1]
        t1 = (p + 1) * (p * math.log(2) / 2 + half_log_det(self._unbroadcasted_scale_tril)) + tg.mvlgamma(nu / 2, p=p)
        return t1 - (nu - p - 1) / 2 * mvdigamma(nu / 2, p) + nu * p / 2

    @property
    def _natural_params(self):
        return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, x, y):
        p = self._event_shape[-1]
        return (y + (p + 1) / 2) * (-tg.linalg.slogdet(-2 * x).logabsdet + math.log(2) * p) + tg.mvlgamma(y + (p + 1) / 2, p=p)
