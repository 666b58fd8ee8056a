"""Look-ups of rows by number: embedding, one_hot."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import outside
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import Unhandled, checked_in_nn, transformable


@structural("embedding_op", "Embedding")
def embedding_op(node, g):
    """embedding: the gradient is added to the rows that were looked up; the padding row gets none."""
    a = node.attributes
    rows = g.reshape(-1, g.shape[-1])
    if a.scale is not None:
        rows = rows * a.scale
    return creation.zeros(a.shape, dtype=g.dtype).index_add(0, a.index, rows)


def embedding_samples(level, f, input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The batch rule of embedding: one table for all samples as it is; tables of their own one after the other."""
    if max_norm is not None or scale_grad_by_freq:
        raise Unhandled
    if not level.follows(weight):
        return level.wrap(f(level.front(input), weight, padding_idx))
    if padding_idx is not None or weight.dim() != 2:
        raise Unhandled
    rows = creation.arange(level.size).reshape((-1,) + (1,) * input.dim()) * weight.shape[0]
    table = level.front(weight)
    return level.wrap(f(level.spread(input) + rows, table.reshape(-1, table.shape[-1])))


@transformable(embedding_samples, lambda named: () if named["max_norm"] is not None else ("weight",))
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """weight[input]: rows of a table (V, D) by number, input (...) of ints: (..., D).

    The row padding_idx gets no gradient; rows longer than max_norm are shortened in place first; scale_grad_by_freq divides the gradient of a row
    by how often it was looked up.
    """
    if sparse:
        raise RuntimeError("embedding: sparse gradients are not supported; use sparse=False")
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= weight.shape[0]
    if weight.dim() != 2:
        raise RuntimeError("'weight' must be 2-D")
    if input.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got tapegrad.{input.dtype.legacy} "
            "instead (while checking arguments for embedding)"
        )
    index = input.detach()._array().astype(np.int64)
    if outside(index, 0, weight.shape[0]) is not None:
        raise IndexError("index out of range in self")
    if max_norm is not None:
        _shorten(weight, np.unique(index), max_norm, norm_type)
    out = creation.from_array(weight.detach()._array()[index], weight.dtype)
    flat = index.reshape(-1)
    scale = np.ones(flat.shape, weight.dtype.numpy) if scale_grad_by_freq or padding_idx is not None else None
    if scale_grad_by_freq:
        scale = (1 / np.bincount(flat, minlength=weight.shape[0])[flat]).astype(scale.dtype) if flat.size else scale
    if padding_idx is not None:
        scale = np.where(flat == padding_idx, 0, scale).astype(scale.dtype)
    plan = plans.Parameters(
        embedding_op, shape=tuple(weight.shape), index=creation.from_array(flat, dtypes.int64),
        scale=None if scale is None else creation.from_array(scale.reshape(-1, 1), weight.dtype),
    )
    record(embedding_op, [weight], [out], plan)
    return out


def _shorten(weight, rows, max_norm, norm_type) -> None:
    while weight._level is not None and weight._level.kind == "jvp":
        weight = weight._value  # its tangent stays as it is
    with modes.no_grad():
        picked = creation.from_array(rows, dtypes.int64)
        found = weight.detach()[picked]
        norms = found.norm(norm_type, 1, True)
        weight.detach()[picked] = (found * (max_norm / (norms + 1e-7))).where(norms > max_norm, found)


@checked_in_nn("one_hot")
@transformable("leading")
def one_hot(input, num_classes=-1):
    """Rows with a 1 at the place that each element says: (...) of int64 to (..., num_classes)."""
    if input.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    array = input.detach()._array()
    if not array.size:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return creation.zeros((*input.shape, num_classes), dtype=dtypes.int64)
    if array.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = int(array.max()) + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif array.max() >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    return creation.from_array((array[..., None] == np.arange(num_classes)).astype(np.int64), dtypes.int64)
