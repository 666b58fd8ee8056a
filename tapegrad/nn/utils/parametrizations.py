"""Parametrizations that are often wanted: weight norm, spectral norm, orthogonal matrices."""

from __future__ import annotations

from tapegrad import creation, linalg, modes
from tapegrad.limits import finfo
from tapegrad.nn import functional as F
from tapegrad.nn.modules import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Module
from tapegrad.nn.utils.parametrize import register_parametrization
from tapegrad.ops.joining import cat
from tapegrad.ops.reflectors import geqrf
from tapegrad.random import randn
from tapegrad.tensor import Tensor

MAPS = ("matrix_exp", "cayley", "householder")


def norm_except(v, dim):
    """The norms of the slices of v along `dim`, as wide as v; one norm of all elements for dim -1."""
    if dim == -1:
        return v.norm()
    rows = v.transpose(0, dim)
    return rows.reshape(rows.size(0), -1).norm(2, 1).view(-1, *[1] * (v.dim() - 1)).transpose(0, dim)


def rescaled(v, g, dim):
    """v with the norms g."""
    return v * (g / norm_except(v, dim))


def matrix_of(weight, dim):
    """The weight as a matrix whose rows are its slices along `dim`."""
    if dim:
        weight = weight.permute(dim, *(d for d in range(weight.dim()) if d != dim))
    return weight.reshape(weight.size(0), -1)


def spectral_dim(module, dim):
    """The dim of a module's outputs in its weight, unless one is given."""
    return dim if dim is not None else 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0


def _weight_of(module, name):
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return weight


class _WeightNorm(Module):
    def __init__(self, dim=0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g, weight_v):
        return rescaled(weight_v, weight_g, self.dim)

    def right_inverse(self, weight):
        return norm_except(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """The weight as length times direction, g v / |v|, each slice along `dim` of its own length (Salimans and Kingma 2016).

    >>> import tapegrad as tg
    >>> layer = weight_norm(tg.nn.Linear(4, 3))
    >>> layer.parametrizations.weight.original0.shape
    tapegrad.Size([3, 1])
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def renamed(state_dict, prefix, *rest):
        """States of `nn.utils.weight_norm` have other names."""
        old = [f"{prefix}{name}_g", f"{prefix}{name}_v"]
        if all(key in state_dict for key in old):
            for k, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{k}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(renamed)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        n = weight.ndim
        if not -n <= dim < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim % n, eps
        if n > 1:
            self.n_power_iterations = n_power_iterations
            matrix = matrix_of(weight, self.dim)
            u, v = (matrix.new_empty(size).normal_(0, 1) for size in matrix.size())
            self.register_buffer("_u", F.normalize(u, dim=0, eps=eps))
            self.register_buffer("_v", F.normalize(v, dim=0, eps=eps))
            self._iterate(matrix, 15)

    @modes.no_grad()
    def _iterate(self, matrix, count) -> None:
        """Steps of the power method towards the first singular vectors, in place."""
        for _ in range(count):
            F.normalize(matrix.mv(self._v), dim=0, eps=self.eps, out=self._u)
            F.normalize(matrix.mH.mv(self._u), dim=0, eps=self.eps, out=self._v)

    def forward(self, weight):
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = matrix_of(weight, self.dim)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()  # a second forward pass moves the buffers before the first one's derivative is taken
        return weight / u.vdot(matrix.mv(v))

    def right_inverse(self, value):
        return value


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """The weight divided by its largest singular value, which power iterations estimate while training (Miyato et al. 2018)."""
    weight = _weight_of(module, name)
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, spectral_dim(module, dim), eps))


def _is_orthogonal(q) -> bool:
    n, k = q.shape[-2:]
    return bool((q.mH @ q - creation.eye(k, dtype=q.dtype)).abs().le(10.0 * n * finfo(q.dtype).eps + 1e-5).all())


def _made_orthogonal(a):
    """The orthogonal factor of a QR factorisation whose R has a positive diagonal: uniformly distributed for normal a."""
    x, tau = geqrf(a)
    return linalg.householder_product(x, tau) * x.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


class _Orthogonal(Module):
    def __init__(self, weight, orthogonal_map, use_trivialization=True):
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x):
        wide = x.size(-2) < x.size(-1)
        x = x.mT if wide else x
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            a = x.tril(-1)
            q = linalg.householder_product(a, 2.0 / (1.0 + (a * a).sum(-2))) * x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
        else:
            x = x.tril()
            if n != k:
                x = cat([x, x.new_zeros(n, n - k).expand(*x.shape[:-2], -1, -1)], -1)
            skew = x - x.mH
            if self.orthogonal_map == "matrix_exp":
                q = linalg.matrix_exp(skew)
            else:
                one = creation.eye(n, dtype=skew.dtype)
                q = linalg.solve(one - skew / 2, one + skew / 2)
            q = q[..., :k] if n != k else q
        if hasattr(self, "base"):
            q = self.base @ q
        return q.mT if wide else q

    @modes.no_grad()
    def right_inverse(self, q):
        if q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {q.shape}.")
        start, wide = q, q.size(-2) < q.size(-1)
        q = q.mT if wide else q
        n, k = q.shape[-2:]
        if not hasattr(self, "base"):
            if self.orthogonal_map != "householder":
                raise NotImplementedError(
                    "It is not possible to assign to the matrix exponential or the Cayley parametrizations when use_trivialization=False."
                )
            a, tau = geqrf(q)
            diagonal = a.diagonal(dim1=-2, dim2=-1)
            diagonal.sign_()
            diagonal[tau == 0.0] *= -1
            return a.mT if wide else a
        if n == k:
            q = q.clone() if _is_orthogonal(q) else _made_orthogonal(q)
        else:
            q = _made_orthogonal(cat([q, randn(*q.shape[:-2], n, n - k, dtype=q.dtype)], -1))
        self.base = q
        identity = creation.zeros_like(start)
        identity.diagonal(dim1=-2, dim2=-1).fill_(-1.0)  # so that the map gives the identity
        return identity


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """The weight as an orthogonal (or unitary) matrix, or one with orthonormal rows or columns (Lezcano-Casado 2019).

    orthogonal_map: "matrix_exp", "cayley" or "householder".  With use_trivialization the map starts from the weight that is there (made
    orthogonal), and orthogonal weights can be assigned.
    """
    weight = _weight_of(module, name)
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.size(-2) == weight.size(-1) or weight.is_complex() else "householder"
    if orthogonal_map not in MAPS:
        raise ValueError(f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}')
    return register_parametrization(module, name, _Orthogonal(weight, orthogonal_map, use_trivialization), unsafe=True)
