"""The multivariate normal distribution whose covariance is a matrix of low rank plus a diagonal."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.by_covariance import half_log_det
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.multivariate_normal import batch_mahalanobis, batch_mv
from tapegrad.distributions.utils import lazy_property, same_as, standard_normal


def plus_identity(matrix):
    return matrix + tg.eye(matrix.shape[-1], dtype=matrix.dtype)


class LowRankMultivariateNormal(Distribution):
    """Normal vectors with mean `loc` (..., n) and covariance W W^T + diag(d), W = cov_factor (..., n, m) and d = cov_diag (..., n).

    Only matrices of m rows are factorised: det(W W^T + D) = det C det D (the determinant lemma) and
    (W W^T + D)^-1 = D^-1 - D^-1 W C^-1 W^T D^-1 (Woodbury), with the capacitance matrix C = I + W^T D^-1 W.
    """

    arg_constraints = {
        "loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }  # fmt: skip
    support = constraints.real_vector
    has_rsample = True
    _parts = ("loc", "cov_factor", "cov_diag")
    _kept = ("_unbroadcasted_cov_factor", "_unbroadcasted_cov_diag", "_capacitance_tril")
    mean = mode = same_as("loc")

    def __init__(self, loc, cov_factor, cov_diag, validate_args=None):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        event_shape = loc.shape[-1:]
        if cov_factor.dim() < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2:-1] != event_shape:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {event_shape[0]} x m")
        if cov_diag.shape[-1:] != event_shape:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {event_shape}")
        try:
            wide_loc, self.cov_factor, wide_diag = tg.broadcast_tensors(loc.unsqueeze(-1), cov_factor, cov_diag.unsqueeze(-1))
        except RuntimeError as error:
            raise ValueError(f"Incompatible batch shapes: loc {loc.shape}, cov_factor {cov_factor.shape}, cov_diag {cov_diag.shape}") from error
        self.loc, self.cov_diag = wide_loc[..., 0], wide_diag[..., 0]
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        self._capacitance_tril = tg.linalg.cholesky(plus_identity(tg.matmul(self._weighted_factor, cov_factor)))
        super().__init__(self.loc.shape[:-1], event_shape, validate_args=validate_args)

    @property
    def _weighted_factor(self):
        """W^T D^-1."""
        return self._unbroadcasted_cov_factor.mT / self._unbroadcasted_cov_diag.unsqueeze(-2)

    @property
    def _matrix_shape(self):
        return self._batch_shape + self._event_shape + self._event_shape

    @lazy_property
    def variance(self):
        return (self._unbroadcasted_cov_factor.pow(2).sum(-1) + self._unbroadcasted_cov_diag).expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self):
        """The Cholesky factor of the covariance, through I + D^-1/2 W W^T D^-1/2, whose eigenvalues are at least 1."""
        roots = self._unbroadcasted_cov_diag.sqrt().unsqueeze(-1)
        scaled = self._unbroadcasted_cov_factor / roots
        return (roots * tg.linalg.cholesky(plus_identity(tg.matmul(scaled, scaled.mT)))).expand(self._matrix_shape)

    @lazy_property
    def covariance_matrix(self):
        W = self._unbroadcasted_cov_factor
        return (tg.matmul(W, W.mT) + tg.diag_embed(self._unbroadcasted_cov_diag)).expand(self._matrix_shape)

    @lazy_property
    def precision_matrix(self):
        A = tg.linalg.solve_triangular(self._capacitance_tril, self._weighted_factor, upper=False)
        return (tg.diag_embed(self._unbroadcasted_cov_diag.reciprocal()) - A.mT @ A).expand(self._matrix_shape)

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        common = standard_normal(shape[:-1] + self.cov_factor.shape[-1:], self.loc)
        own = standard_normal(shape, self.loc)
        return self.loc + batch_mv(self._unbroadcasted_cov_factor, common) + self._unbroadcasted_cov_diag.sqrt() * own

    def _log_det(self):
        """log det of the covariance."""
        return 2 * half_log_det(self._capacitance_tril) + self._unbroadcasted_cov_diag.log().sum(-1)

    def _mahalanobis(self, x):
        """x^T covariance^-1 x."""
        weighted = batch_mv(self._weighted_factor, x)
        return (x.pow(2) / self._unbroadcasted_cov_diag).sum(-1) - batch_mahalanobis(self._capacitance_tril, weighted)

    def log_prob(self, value):
        self._checked(value)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + self._log_det() + self._mahalanobis(value - self.loc))

    def entropy(self):
        entropy = 0.5 * (self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._log_det())
        return entropy.expand(self._batch_shape) if self._batch_shape else entropy
