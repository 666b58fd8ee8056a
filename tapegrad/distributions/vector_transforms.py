"""Transforms of vectors and matrices: simplices, Cholesky factors, other shapes, and different transforms side by side."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.elementwise_transforms import clipped_sigmoid
from tapegrad.distributions.transform import Plain, Transform
from tapegrad.distributions.utils import lazy_property, sum_rightmost, tril_matrix_to_vec, vec_to_tril_matrix

FEW = "Too few dimensions on input"


def at_least(dims: int, shape) -> None:
    if len(shape) < dims:
        raise ValueError(FEW)


class ReshapeTransform(Transform):
    """Another shape of the last dimensions."""

    bijective = True

    def __init__(self, in_shape, out_shape, cache_size=0):
        self.in_shape, self.out_shape = tg.Size(in_shape), tg.Size(out_shape)
        if self.in_shape.numel() != self.out_shape.numel():
            raise ValueError("in_shape, out_shape have different numbers of elements")
        super().__init__(cache_size=cache_size)

    def _arguments(self):
        return self.in_shape, self.out_shape

    @constraints.dependent_property
    def domain(self):
        return constraints.independent(constraints.real, len(self.in_shape))

    @constraints.dependent_property
    def codomain(self):
        return constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x):
        return x.reshape(x.shape[: x.dim() - len(self.in_shape)] + self.out_shape)

    def _inverse(self, y):
        return y.reshape(y.shape[: y.dim() - len(self.out_shape)] + self.in_shape)

    def log_abs_det_jacobian(self, x, y):
        return x.new_zeros(x.shape[: x.dim() - len(self.in_shape)])

    @staticmethod
    def _exchanged(shape, before, after):
        at_least(len(before), shape)
        cut = len(shape) - len(before)
        if shape[cut:] != before:
            raise ValueError(f"Shape mismatch: expected {shape[cut:]} but got {before}")
        return shape[:cut] + after

    def forward_shape(self, shape):
        return self._exchanged(shape, self.in_shape, self.out_shape)

    def inverse_shape(self, shape):
        return self._exchanged(shape, self.out_shape, self.in_shape)


class SoftmaxTransform(Plain):
    """y = softmax(x), whose inverse is taken to be log y."""

    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x):
        weights = (x - x.max(-1, True)[0]).exp()
        return weights / weights.sum(-1, True)

    def _inverse(self, y):
        return y.log()

    def forward_shape(self, shape):
        at_least(1, shape)
        return shape

    inverse_shape = forward_shape


class StickBreakingTransform(Plain):
    """n numbers as the n + 1 coordinates of a point of the simplex: each takes a share of what the ones before have left."""

    domain, codomain = constraints.real_vector, constraints.simplex
    bijective = True

    @staticmethod
    def _moved(x):
        """x less the logarithm of the number of coordinates after it, so that 0 is the centre."""
        return x - (x.shape[-1] + 1 - x.new_ones(x.shape[-1]).cumsum(-1)).log()

    def _call(self, x):
        pad = tg.nn.functional.pad
        share = clipped_sigmoid(self._moved(x))
        left = (1 - share).cumprod(-1)
        return pad(share, [0, 1], value=1) * pad(left, [1, 0], value=1)

    def _inverse(self, y):
        given = y[..., :-1]
        offset = y.shape[-1] - y.new_ones(given.shape[-1]).cumsum(-1)
        left = tg.clamp(1 - given.cumsum(-1), min=tg.finfo(y.dtype).tiny)
        return given.log() - left.log() + offset.log()

    def log_abs_det_jacobian(self, x, y):
        x = self._moved(x)
        return (-x + tg.nn.functional.logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape):
        at_least(1, shape)
        return shape[:-1] + (shape[-1] + 1,)

    def inverse_shape(self, shape):
        at_least(1, shape)
        return shape[:-1] + (shape[-1] - 1,)


class LowerCholeskyTransform(Plain):
    """The lower triangle of a matrix, with exp of its diagonal."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky

    def _call(self, x):
        return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y):
        return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(Plain):
    """L L^T for the lower triangle with exp of its diagonal."""

    domain, codomain = constraints.independent(constraints.real, 2), constraints.positive_definite

    def _call(self, x):
        tril = LowerCholeskyTransform()(x)
        return tril @ tril.mT

    def _inverse(self, y):
        return LowerCholeskyTransform().inv(tg.linalg.cholesky(y))


class CorrCholeskyTransform(Transform):
    """n (n - 1) / 2 numbers as the Cholesky factor of a correlation matrix (Lewandowski, Kurowicka and Joe, 2009)."""

    domain, codomain = constraints.real_vector, constraints.corr_cholesky
    bijective = True

    def _call(self, x):
        eps = tg.finfo(x.dtype).eps
        r = vec_to_tril_matrix(tg.tanh(x).clamp(min=-1 + eps, max=1 - eps), diag=-1)
        left = (1 - r**2).sqrt().cumprod(-1)
        r = r + tg.eye(r.shape[-1], dtype=r.dtype)
        return r * tg.nn.functional.pad(left[..., :-1], [1, 0], value=1)

    def _inverse(self, y):
        left = tg.nn.functional.pad((1 - tg.cumsum(y * y, dim=-1))[..., :-1], [1, 0], value=1)
        t = tril_matrix_to_vec(y, diag=-1) / tril_matrix_to_vec(left, diag=-1).sqrt()
        return (t.log1p() - t.neg().log1p()) / 2

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        left = tril_matrix_to_vec(1 - (y * y).cumsum(dim=-1), diag=-2)
        by_tanh = -2 * (x + tg.nn.functional.softplus(-2 * x) - math.log(2.0)).sum(dim=-1)
        return 0.5 * left.log().sum(-1) + by_tanh

    def forward_shape(self, shape):
        at_least(1, shape)
        n = round((0.25 + 2 * shape[-1]) ** 0.5 + 0.5)
        if n * (n - 1) // 2 != shape[-1]:
            raise ValueError("Input is not a flattened lower-diagonal number")
        return shape[:-1] + (n, n)

    def inverse_shape(self, shape):
        at_least(2, shape)
        if shape[-2] != shape[-1]:
            raise ValueError("Input is not square")
        return shape[:-2] + (shape[-1] * (shape[-1] - 1) // 2,)


class SideBySide(Transform):
    """Different transforms along a dimension."""

    transforms: list

    def __init__(self, tseq, dim, cache_size):
        if not all(isinstance(t, Transform) for t in tseq):
            raise AssertionError("All elements of tseq must be Transform instances")
        super().__init__(cache_size=cache_size)
        self.transforms, self.dim = [t.with_cache(cache_size) for t in tseq] if cache_size else list(tseq), dim

    def _check(self, value, name, size) -> None:
        if not -value.dim() <= self.dim < value.dim():
            raise AssertionError(f"dim {self.dim} out of range for {name} with {value.dim()} dimensions")
        if value.size(self.dim) != size:
            what = "length" if isinstance(self, CatTransform) else "len(transforms)"
            raise AssertionError(f"{name if name != 'tensor' else 'x'}.size({self.dim}) = {value.size(self.dim)} must equal {what} {size}")

    @property
    def bijective(self):
        return all(t.bijective for t in self.transforms)


class CatTransform(SideBySide):
    """Transforms of stretches of a dimension."""

    def __init__(self, tseq, dim=0, lengths=None, cache_size=0):
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            raise AssertionError(f"lengths ({len(self.lengths)}) must match transforms ({len(self.transforms)})")

    def _arguments(self):
        return self.transforms, self.dim, self.lengths

    @lazy_property
    def event_dim(self):
        return max(t.event_dim for t in self.transforms)

    @lazy_property
    def length(self):
        """The size of the dimension."""
        return sum(self.lengths)

    def _pieces(self, value, name):
        self._check(value, name, self.length)
        return zip(self.transforms, value.split(self.lengths, self.dim))

    def _call(self, x):
        return tg.cat([t(piece) for t, piece in self._pieces(x, "tensor")], dim=self.dim)

    def _inverse(self, y):
        return tg.cat([t.inv(piece) for t, piece in self._pieces(y, "tensor")], dim=self.dim)

    def log_abs_det_jacobian(self, x, y):
        terms = []
        for (t, before), (_, after) in zip(self._pieces(x, "x"), self._pieces(y, "y")):
            terms.append(sum_rightmost(t.log_abs_det_jacobian(before, after), self.event_dim - t.event_dim))
        dim = (self.dim - x.dim() if self.dim >= 0 else self.dim) + self.event_dim
        return tg.cat(terms, dim=dim) if dim < 0 else sum(terms)

    @constraints.dependent_property
    def domain(self):
        return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @constraints.dependent_property
    def codomain(self):
        return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)


class StackTransform(SideBySide):
    """A transform for each index of a dimension."""

    def __init__(self, tseq, dim=0, cache_size=0):
        super().__init__(tseq, dim, cache_size)

    def _arguments(self):
        return self.transforms, self.dim

    def _pieces(self, value, name):
        self._check(value, name, len(self.transforms))
        return zip(self.transforms, value.unbind(self.dim))

    def _call(self, x):
        return tg.stack([t(piece) for t, piece in self._pieces(x, "tensor")], dim=self.dim)

    def _inverse(self, y):
        return tg.stack([t.inv(piece) for t, piece in self._pieces(y, "tensor")], dim=self.dim)

    def log_abs_det_jacobian(self, x, y):
        pairs = zip(self._pieces(x, "x"), self._pieces(y, "y"))
        return tg.stack([t.log_abs_det_jacobian(before, after) for (t, before), (_, after) in pairs], dim=self.dim)

    @constraints.dependent_property
    def domain(self):
        return constraints.stack([t.domain for t in self.transforms], self.dim)

    @constraints.dependent_property
    def codomain(self):
        return constraints.stack([t.codomain for t in self.transforms], self.dim)
