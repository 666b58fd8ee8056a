"""What distributions share: broadcasting of parameters, probabilities against logits, values computed once, triangles as vectors."""

from __future__ import annotations

import functools
import operator
from typing import Any

import tapegrad as tg

euler_constant = 0.57721566490153286060
NUMBERS = (bool, int, float)


def broadcast_all(*values):
    """Tensors and numbers as tensors of one shape; the numbers take the dtype of the first tensor, or the default dtype.

    Raises ValueError for anything else.

    >>> broadcast_all(1.0, tg.zeros(2))
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    if not all(isinstance(v, (tg.Tensor, *NUMBERS)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__.")
    dtype = next((v.dtype for v in values if isinstance(v, tg.Tensor)), tg.get_default_dtype())
    return tg.broadcast_tensors(*(v if isinstance(v, tg.Tensor) else tg.tensor(v, dtype=dtype) for v in values))


def same_as(path: str) -> Any:
    """A property that is another attribute, perhaps of a part: `mean = same_as("loc")`, `loc = same_as("base_dist.loc")`."""
    return property(operator.attrgetter(path), doc=f"`{path}`.")


def one_of(probs, logits) -> None:
    """Refuse both and neither."""
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


def standard_normal(shape, like):
    return tg.empty(shape, dtype=like.dtype).normal_()


def sum_rightmost(value, dims: int):
    """The sum over the last `dims` dimensions."""
    return value.reshape(value.shape[:-dims] + (-1,)).sum(-1) if dims else value


def logits_to_probs(logits, is_binary=False):
    """Probabilities of logits: sigmoid (is_binary), or softmax over the last dimension."""
    return tg.sigmoid(logits) if is_binary else tg.softmax(logits, dim=-1)


def clamp_probs(probs):
    """Probabilities kept a rounding error away from 0 and 1."""
    eps = tg.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs, is_binary=False):
    """Logits of (clamped) probabilities: log p, or log p - log(1 - p)."""
    clamped = clamp_probs(probs)
    return tg.log(clamped) - tg.log1p(-clamped) if is_binary else tg.log(clamped)


class lazy_property:
    """A method whose value is computed at its first use, with gradients, and then kept as an attribute."""

    def __init__(self, wrapped):
        self.wrapped = wrapped
        functools.update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance, owner=None):
        if instance is None:
            return _lazy_property_and_property(self.wrapped)
        with tg.enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


class _lazy_property_and_property(lazy_property, property):
    """What a class shows of a lazy property: a property, for tools that look for those."""

    def __init__(self, wrapped):
        property.__init__(self, wrapped)


def tril_matrix_to_vec(mat, diag=0):
    """The elements of (..., n, n) on and below a diagonal, row by row."""
    n = mat.shape[-1]
    if diag < -n or diag >= n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    k = tg.arange(n)
    return mat[..., k < k.view(-1, 1) + (diag + 1)]


def vec_to_tril_matrix(vec, diag=0):
    """The matrices (..., n, n) with given elements on and below a diagonal, zero above."""
    size = (-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    n = round(size)
    if n - size > tg.finfo(vec.dtype).eps:
        raise ValueError(
            f"The size of last dimension is {vec.shape[-1]} which cannot be expressed as the lower triangular part of a square D x D matrix."
        )
    mat = vec.new_zeros(vec.shape[:-1] + tg.Size((n, n)))
    k = tg.arange(n)
    mat[..., k < k.view(-1, 1) + (diag + 1)] = vec
    return mat
