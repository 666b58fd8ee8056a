"""Kullback-Leibler divergences of normal vectors whose covariance is a matrix of low rank plus a diagonal."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.distributions.by_covariance import half_log_det
from tapegrad.distributions.kl import register_kl
from tapegrad.distributions.lowrank_multivariate_normal import LowRankMultivariateNormal
from tapegrad.distributions.multivariate_normal import MultivariateNormal, batch_mahalanobis


def check_shapes(p, q, kind: str) -> None:
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between two {kind}Normals with                          different event shapes cannot be computed")


def squares(matrix):
    """The trace of X X^T, batched."""
    return matrix.flatten(-2).pow(2).sum(-1)


def whitened(q):
    """(D^-1/2 as a column, A) with D^-1 - A^T A the inverse of the covariance of `q`."""
    A = tg.linalg.solve_triangular(q._capacitance_tril, q._weighted_factor, upper=False)
    return q._unbroadcasted_cov_diag.rsqrt().unsqueeze(-1), A


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _low_rank(p, q):
    check_shapes(p, q, "Low Rank Multivariate ")
    W, d = p._unbroadcasted_cov_factor, p._unbroadcasted_cov_diag
    roots, A = whitened(q)
    gained = (d / q._unbroadcasted_cov_diag).sum(-1) + squares(W * roots)
    trace = gained - squares(A * d.sqrt().unsqueeze(-2)) - squares(A.matmul(W))
    return 0.5 * (q._log_det() - p._log_det() + trace + q._mahalanobis(q.loc - p.loc) - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _full_to_low_rank(p, q):
    check_shapes(p, q, "(Low Rank) Multivariate ")
    L = p._unbroadcasted_scale_tril
    roots, A = whitened(q)
    trace = squares(L * roots) - squares(A.matmul(L))
    return 0.5 * (q._log_det() - 2 * half_log_det(L) + trace + q._mahalanobis(q.loc - p.loc) - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _low_rank_to_full(p, q):
    check_shapes(p, q, "(Low Rank) Multivariate ")
    L, W, d = q._unbroadcasted_scale_tril, p._unbroadcasted_cov_factor, p._unbroadcasted_cov_diag
    batch, n = tg.Size(tg.broadcast_shapes(L.shape[:-2], W.shape[:-2])), p.event_shape[0]
    L, W = L.expand(batch + (n, n)), W.expand(batch + W.shape[-2:])
    solve = lambda right: squares(tg.linalg.solve_triangular(L, right, upper=False))
    trace = solve(W) + solve(tg.diag_embed(d.sqrt()).expand(batch + (n, n)))
    return 0.5 * (2 * half_log_det(L) - p._log_det() + trace + batch_mahalanobis(L, q.loc - p.loc) - n)
