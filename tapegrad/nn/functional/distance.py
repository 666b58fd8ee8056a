"""Norms of differences, cosines, normalised vectors."""

from __future__ import annotations

from tapegrad import dispatch
from tapegrad.limits import finfo
from tapegrad.ops.transformable import checked_in_nn


@checked_in_nn("pairwise_distance")
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """|x1 - x2 + eps|_p along the last dim."""
    return (x1 - x2 + eps).norm(p, x1.ndim - 1 if x1.ndim >= x2.ndim else x2.ndim - 1, keepdim)


@checked_in_nn("cosine_similarity")
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`."""
    if eps < 0:
        raise RuntimeError(f"eps must be non-negative, got: {eps:g}")
    d = dispatch.result_dtype([x1, x2])
    if not d.is_floating_point:
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {d.scalar_name}")
    x1, x2, eps = x1.to(d), x2.to(d), min(eps, finfo(d).max)
    shape = dispatch.geometry.broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    x1, x2 = x1.expand(shape), x2.expand(shape)
    unit = lambda x: x / x.norm(2, dim, keepdim=True).clamp_min(eps)
    return (unit(x1) * unit(x2)).sum(dim)


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """input / max(|input|_p, eps) along `dim`."""
    scale = input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    return input / scale if out is None else dispatch.call(dispatch.OPS["div"], input, scale, out=out)


def pdist(input, p=2.0):
    """The p-norm distance of every two rows of a matrix; see `tapegrad.pdist`."""
    from tapegrad.ops.spellings import pdist as distances

    return distances(input, p)
