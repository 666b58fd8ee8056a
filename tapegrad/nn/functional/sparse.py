"""Look-ups of rows by number: embedding, bags of embeddings, one_hot."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import Unhandled, checked, look_at, transformable


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


@transformable(embedding_samples, "weight")
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
    if index.size and (index.min() < 0 or index.max() >= weight.shape[0]):
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


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
                  per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """Rows of a table (V, D) reduced bag by bag ("sum", "mean" or "max"): (bags, D), zeros for an empty bag.

    `input` holds a bag per row (B, N), or all bags one after the other (M,), where `offsets` says at which place each begins, and with
    include_last_offset the end too.  `per_sample_weights`, like input, multiply the rows of a sum.  padding_idx counts as not there.

    >>> import tapegrad as tg
    >>> embedding_bag(tg.tensor([0, 2, 1]), tg.eye(3), tg.tensor([0, 2]), mode="sum")
    tensor([[1., 0., 1.],
            [0., 1., 0.]])
    """
    if per_sample_weights is not None and input.shape != per_sample_weights.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the same shape as the input ({input.shape})"
        )
    if weight.dim() != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.dim()}")
    if input.dim() not in (1, 2):
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if input.dim() == 2 and offsets is not None:
        raise ValueError(
            "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. However, found offsets of "
            f"type {type(offsets)}"
        )
    if input.dim() == 1 and (offsets is None or offsets.dim() != 1):
        raise ValueError("offsets has to be a 1D Tensor" + " but got None" * (offsets is None))
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError(f"max mode does not support {'scaling the gradient by the frequency' if scale_grad_by_freq else 'sparse weights'}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'). Please open a feature request on GitHub."
        )
    look_at("embedding_bag", weight, input, input if offsets is None else offsets, scale_grad_by_freq, 0, sparse, per_sample_weights, include_last_offset, padding_idx)
    bags, of = _bags(input, offsets, include_last_offset)
    index = input.reshape(-1)
    rows = embedding(index, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if padding_idx is not None:
        there = index.detach()._array() != padding_idx % weight.shape[0]
        keep = creation.from_array(np.flatnonzero(there), dtypes.int64)
        rows, of = rows.index_select(0, keep), of[there]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1).index_select(0, keep)
    if mode == "max":
        return _largest(rows, bags, of)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    total = creation.zeros(bags, weight.shape[1], dtype=weight.dtype).index_add(0, creation.from_array(of, dtypes.int64), rows)
    if mode == "sum":
        return total
    counts = np.maximum(np.bincount(of, minlength=bags), 1).reshape(-1, 1)
    return total / creation.from_array(counts.astype(np.float64)).to(weight.dtype)


def _bags(input, offsets, include_last_offset) -> tuple[int, np.ndarray]:
    """(how many bags there are, the bag of every element)."""
    if offsets is None:
        return input.shape[0], np.repeat(np.arange(input.shape[0]), input.shape[1])
    starts, count = offsets.detach()._array().astype(np.int64), input.shape[0]
    if include_last_offset and not len(starts):
        raise RuntimeError("include_last_offset: number of offsets should be at least 1")
    if len(starts) and starts[0] != 0:
        raise RuntimeError(f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. However, got {starts[0]}")
    if len(starts) and starts[-1] > count:
        raise RuntimeError(f"offsets[-1] can not be greater than input's length {count} but got offsets[-1] of {starts[-1]}")
    starts = starts[:-1] if include_last_offset else starts
    return len(starts), np.searchsorted(starts, np.arange(count), side="right") - 1


def _largest(rows, bags, of):
    """The largest element of every column in every bag; the first of equal ones gets the gradient."""
    values, width = dtypes.from_stored(rows.detach()._array(), rows.dtype), rows.shape[1]
    chosen = np.zeros((bags, width), np.int64)
    filled = np.zeros((bags, 1), bool)
    for bag in np.unique(of):
        members = np.flatnonzero(of == bag)
        chosen[bag], filled[bag] = members[values[members].argmax(0)], True
    if not len(of):
        return creation.zeros(bags, width, dtype=rows.dtype)
    return rows.gather(0, creation.from_array(chosen, dtypes.int64)).masked_fill(creation.from_array(~filled), 0)


def _shorten(weight, rows, max_norm, norm_type) -> None:
    with modes.no_grad():
        picked = creation.from_array(rows, dtypes.int64)
        found = weight.detach()[picked]
        norms = found.norm(norm_type, 1, True)
        weight.detach()[picked] = (found * (max_norm / (norms + 1e-7))).where(norms > max_norm, found)


@checked("one_hot")
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
