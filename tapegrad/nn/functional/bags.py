"""embedding_bag: rows of a table looked up by number and reduced bag by bag."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.nn.functional.sparse import _shorten, embedding
from tapegrad.ops.composite import composite
from tapegrad.ops.transformable import look_at


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
    if sparse:
        raise RuntimeError("embedding_bag: sparse gradients are not supported; use sparse=False")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise RuntimeError(f"padding_idx must be within the number of embeddings, -{rows} through {rows - 1}, but got {padding_idx}")
        padding_idx %= rows
    check_kinds(input, weight, offsets, per_sample_weights)
    bags, of = _bags(input, offsets, include_last_offset)
    index = input.detach()._array().reshape(-1).astype(np.int64)
    wrong = np.flatnonzero((index < 0) | (index >= rows))
    if wrong.size:
        place, value = wrong[0], index[wrong[0]]
        if mode != "max" and padding_idx is None and not scale_grad_by_freq and weight.dtype is not dtypes.float64:
            raise RuntimeError(f"Index {place} of input takes value {value} which is not in the valid range [0, {rows})")
        raise RuntimeError(f"embedding_bag: Expected idx >= 0 && idx < num_embeddings but found idx to be {value}")
    if max_norm is not None:
        _shorten(weight, np.unique(index), max_norm, norm_type)
    places = None if padding_idx is None else np.flatnonzero(index != padding_idx)
    if not bags:  # no bag begins, so no element is in one
        places = np.zeros(0, np.int64)
    if places is not None:
        index, of = index[places], of[places]
    return reduced(weight, per_sample_weights, bags=bags, index=index, of=of, places=places, mode=mode, scale=bool(scale_grad_by_freq))


def check_kinds(input, weight, offsets, per_sample_weights) -> None:
    """torch's checks of the dtypes."""
    where = "(while checking arguments for embedding_bag)"
    for name, numbers in (("indices", input), ("offsets", offsets)):
        if numbers is not None and numbers.dtype not in (dtypes.int64, dtypes.int32):
            shown = f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got {numbers.type()} instead "
            raise RuntimeError(shown.replace("indices", name) + where)
    if not weight.dtype.is_floating_point:
        shown = weight.dtype.type_name
        raise RuntimeError(
            "Expected tensor for argument #1 'weight' to have one of the following scalar types: Half, BFloat16, Float, Double; but got "
            f"{shown} instead {where}"
        )
    if per_sample_weights is not None and per_sample_weights.dtype is not weight.dtype:
        raise RuntimeError(
            "Expected tensor for argument #1 'weight' to have the same type as tensor for argument #1 'per_sample_weights'; but type "
            f"{weight.type()} does not equal {per_sample_weights.type()} {where}"
        )


@composite("embedding_bag", "EmbeddingBag", zeros=True)
def reduced(weight, per_sample_weights, bags, index, of, places, mode, scale):
    """The rows `index` of the table, weighted (by the weights at `places`), reduced into the bags `of`."""
    rows = embedding(creation.from_array(index, dtypes.int64), weight, None, None, 2.0, scale)
    if mode == "max":
        return _largest(rows, bags, of)
    if per_sample_weights is not None:
        shares = per_sample_weights.reshape(-1)
        shares = shares if places is None else shares.index_select(0, creation.from_array(places, dtypes.int64))
        rows = rows * shares.reshape(-1, 1)
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
        return rows.sum(0, keepdim=True).expand(bags, width).contiguous()  # zeros that hang on the table
    return rows.gather(0, creation.from_array(chosen, dtypes.int64)).masked_fill(creation.from_array(~filled), 0)
