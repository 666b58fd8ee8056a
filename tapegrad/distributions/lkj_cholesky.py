"""The LKJ distribution of correlation matrices, by their Cholesky factors."""

from __future__ import annotations

import math

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.beta import Beta
from tapegrad.distributions.distribution import Distribution


class LKJCholesky(Distribution):
    """Lower Cholesky factors L (dim, dim) of correlation matrices with a density proportional to det(L L^T)^(concentration - 1).

    D. Lewandowski, D. Kurowicka and H. Joe, Generating random correlation matrices based on vines and extended onion method, 2009.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky
    _parts = ("concentration",)
    _kept = ("dim",)

    def __init__(self, dim, concentration=1.0, validate_args=None):
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        batch_shape = self._broadcast(concentration=concentration)
        offset = tg.arange(dim - 1, dtype=self.concentration.dtype)
        offset = tg.cat([offset.new_zeros((1,)), offset])
        self._beta = Beta(offset + 0.5, (self.concentration + 0.5 * (dim - 2)).unsqueeze(-1) - 0.5 * offset)
        super().__init__(batch_shape, tg.Size((dim, dim)), validate_args)

    def _expand_into(self, new, batch_shape):
        super()._expand_into(new, batch_shape)
        new._beta = self._beta.expand(batch_shape + (self.dim,))

    def sample(self, sample_shape=()):
        """Samples by the onion method: the length of each row below the diagonal is beta distributed, its direction uniform."""
        y = self._beta.sample(sample_shape).unsqueeze(-1)
        directions = tg.randn(self._extended_shape(sample_shape), dtype=y.dtype).tril(-1)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        directions[..., 0, :].fill_(0.0)  # which has no elements
        w = tg.sqrt(y) * directions
        rest = tg.clamp(1 - tg.sum(w**2, dim=-1), min=tg.finfo(w.dtype).tiny)
        return w + tg.diag_embed(rest.sqrt())

    def log_prob(self, value):
        self._checked(value)
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - tg.arange(2, self.dim + 1)
        density = tg.sum(order * diagonal.log(), dim=-1)
        n = self.dim - 1
        alpha = self.concentration + 0.5 * n
        return density - (0.5 * n * math.log(math.pi) + tg.mvlgamma(alpha - 0.5, n) - tg.lgamma(alpha) * n)
