"""The multivariate normal distribution."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_covariance import ByCovariance, half_log_det, the_given
from tapegrad.distributions.utils import same_as, standard_normal


def batch_mv(matrix, vector):
    """Matrix times vector, batched."""
    return tg.matmul(matrix, vector.unsqueeze(-1)).squeeze(-1)


def batch_mahalanobis(tril, x):
    """x^T (L L^T)^-1 x for lower triangular L, batched; L is broadcast to x."""
    if tril.dim() == 2:  # one matrix: all vectors are columns of one right-hand side
        columns = x.reshape(-1, x.size(-1)).mT
        return tg.linalg.solve_triangular(tril, columns, upper=False).pow(2).sum(-2).reshape(x.shape[:-1])
    return tg.linalg.solve_triangular(tril, x.unsqueeze(-1), upper=False).squeeze(-1).pow(2).sum(-1)


class MultivariateNormal(ByCovariance):
    """Normal vectors with mean `loc` (..., n) and a covariance (..., n, n), given as itself, its inverse, or its lower Cholesky factor."""

    arg_constraints = {"loc": constraints.real_vector, **ByCovariance.arg_constraints}
    support = constraints.real_vector
    _parts = ("loc", *ByCovariance._parts)
    mean = mode = same_as("loc")

    def __init__(self, loc, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        name, matrix = the_given(ValueError, scale_tril=scale_tril, covariance_matrix=covariance_matrix, precision_matrix=precision_matrix)
        if matrix.dim() < 2:
            raise ValueError(
                f"{name}{' matrix' if name == 'scale_tril' else ''} must be at least two-dimensional, with optional leading batch dimensions"
            )
        batch_shape = tg.Size(tg.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1]))
        self.__dict__[name] = matrix.expand(batch_shape + (-1, -1))
        self.loc = loc.expand(batch_shape + (-1,))
        super().__init__(batch_shape, self.loc.shape[-1:], validate_args=validate_args)
        self._factorise(name, matrix)

    @property
    def variance(self):
        return self._unbroadcasted_scale_tril.pow(2).sum(-1).expand(self._batch_shape + self._event_shape)

    def rsample(self, sample_shape=()):
        return self.loc + batch_mv(self._unbroadcasted_scale_tril, standard_normal(self._extended_shape(sample_shape), self.loc))

    def log_prob(self, value):
        self._checked(value)
        distance = batch_mahalanobis(self._unbroadcasted_scale_tril, value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - half_log_det(self._unbroadcasted_scale_tril)

    def entropy(self):
        entropy = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + half_log_det(self._unbroadcasted_scale_tril)
        return entropy.expand(self._batch_shape) if self._batch_shape else entropy
