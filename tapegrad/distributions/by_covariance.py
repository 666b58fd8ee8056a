"""What distributions given by a covariance, its inverse or its Cholesky factor share: the two that are not given are computed at their first use."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.distribution import Distribution
from tapegrad.distributions.utils import lazy_property


def half_log_det(tril):
    """The sum of the logarithms of the diagonal."""
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def precision_to_scale_tril(P):
    """The Cholesky factor of P^-1."""
    reversed_factor = tg.linalg.cholesky(tg.flip(P, (-2, -1)))
    inverse = tg.flip(reversed_factor, (-2, -1)).mT
    return tg.linalg.solve_triangular(inverse, tg.eye(P.shape[-1], dtype=P.dtype), upper=False)


def the_given(error: type[Exception], **matrices):
    """The name and the matrix of the one that is not None."""
    given = [(name, matrix) for name, matrix in matrices.items() if matrix is not None]
    if len(given) != 1:
        raise error("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    return given[0]


class ByCovariance(Distribution):
    """A covariance S = L L^T (..., n, n), given as itself, as S^-1, or as L, which is the cheapest: the others are turned into it."""

    arg_constraints = {
        "covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky,
    }  # fmt: skip
    has_rsample = True
    _parts: tuple = ("covariance_matrix", "precision_matrix", "scale_tril")
    _kept = ("_unbroadcasted_scale_tril",)

    def _factorise(self, name: str, matrix) -> None:
        """Keep L, without the batch dimensions that come from other parameters."""
        factor = {"scale_tril": lambda m: m, "covariance_matrix": tg.linalg.cholesky, "precision_matrix": precision_to_scale_tril}[name]
        self._unbroadcasted_scale_tril = factor(matrix)

    def _over_batch(self, matrix):
        return matrix.expand(self._batch_shape + (-1, -1))

    @lazy_property
    def scale_tril(self):
        return self._over_batch(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self):
        return self._over_batch(tg.matmul(self._unbroadcasted_scale_tril, self._unbroadcasted_scale_tril.mT))

    @lazy_property
    def precision_matrix(self):
        return self._over_batch(tg.cholesky_inverse(self._unbroadcasted_scale_tril))
