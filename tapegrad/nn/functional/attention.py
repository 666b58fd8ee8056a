"""Attention: scaled dot products, and many heads of them with learnt projections (Vaswani et al. 2017)."""

from __future__ import annotations

import math

from tapegrad import creation, dtypes
from tapegrad.cautions import warn
from tapegrad.nn.functional.activation import softmax
from tapegrad.nn.functional.dropout import dropout as drop
from tapegrad.nn.functional.linear import linear
from tapegrad.nn.functional.padding import pad
from tapegrad.ops.choosing import where
from tapegrad.ops.joining import cat
from tapegrad.ops.transformable import checked_in_nn


@checked_in_nn("scaled_dot_product_attention")
def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(scale Q K^T + mask) V for query (..., L, E), key (..., S, E), value (..., S, F): (..., L, F); scale is 1 / sqrt(E) by default.

    `attn_mask` (..., L, S) is added, or says which pairs take part if it is of bools; a query that none takes part with gets zeros.
    `is_causal` masks keys later than the query.  `enable_gqa` repeats heads (dim -3) of key and value to as many as query has.

    >>> import tapegrad as tg
    >>> tg.nn.functional.scaled_dot_product_attention(tg.ones(2, 4), tg.ones(3, 4), tg.eye(3)).sum(-1)
    tensor([1., 1.])
    """
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise RuntimeError(
            f"Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: {query.dim()} key.dim: {key.dim()} and "
            f"value.dim: {value.dim()} instead."
        )
    if not query.dtype is key.dtype is value.dtype:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype.short} key.dtype: {key.dtype.short} and "
            f"value.dtype: {value.dtype.short} instead."
        )
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if attn_mask is not None and attn_mask.dtype not in (dtypes.bool_, query.dtype, dtypes.float32):
        raise RuntimeError(
            f"Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: {attn_mask.dtype.short} and "
            f" query.dtype: {query.dtype.short} instead."
        )
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    if is_causal:
        attn_mask = creation.ones(query.shape[-2], key.shape[-2], dtype=dtypes.bool_).tril()
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else abs(scale))  # half of the scale on either side keeps products small
    sign = -1 if scale is not None and scale < 0 else 1
    scores = (query * (sign * root)) @ (key * root).mT
    if attn_mask is not None:
        if attn_mask.dtype is dtypes.bool_:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        else:
            scores = scores + attn_mask
        weights = softmax(scores, -1)
        weights = where((scores == -math.inf).all(-1, True), creation.zeros((), dtype=weights.dtype), weights)
    else:
        weights = softmax(scores, -1)
    return (drop(weights, dropout_p) if dropout_p else weights) @ value


def check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads) -> bool:
    """Whether the arguments of many-headed attention have a batch dim; all must agree."""
    if query.dim() not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {query.dim()}-D query tensor")
    n = query.dim()
    kind = f"For {'batched (3-D)' if n == 3 else 'unbatched (2-D)'} `query`, expected"
    if key.dim() != n or value.dim() != n:
        raise AssertionError(f"{kind} `key` and `value` to be {n}-D but found {key.dim()}-D and {value.dim()}-D tensors respectively")
    if key_padding_mask is not None and key_padding_mask.ndim != n - 1:
        raise AssertionError(f"{kind} `key_padding_mask` to be `None` or {n - 1}-D but found {key_padding_mask.ndim}-D tensor instead")
    if attn_mask is not None:
        if attn_mask.ndim not in (2, 3):
            raise AssertionError(f"{kind} `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.ndim}-D tensor instead")
        expected = (num_heads, query.shape[0], key.shape[0])
        if n == 2 and attn_mask.ndim == 3 and tuple(attn_mask.shape) != expected:
            raise AssertionError(f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}")
    return n == 3


def additive(mask, name, dtype, other=None, other_name=""):
    """A mask to be added: bools, of which True leaves out, become -inf and 0."""
    if mask is None:
        return None
    if mask.dtype is not dtypes.bool_ and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and mask.dtype is not other.dtype:
        warn(f"Support for mismatched {name} and {other_name} is deprecated. Use same type for both instead.", stacklevel=3)
    return creation.zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf) if mask.dtype is dtypes.bool_ else mask


def multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn,
                                 dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True,
                                 attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None,
                                 static_k=None, static_v=None, average_attn_weights=True, is_causal=False):
    """(output (L, N, E), weights (N, L, S) or None): `num_heads` attentions on projections of query (L, N, E), key and value (S, N, ...).

    What nn.MultiheadAttention computes with its parameters; without a batch dim N everywhere for one sequence.
    """
    batched = check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    (length, count, width), d = query.shape, query.dtype
    key_padding_mask = additive(key_padding_mask, "key_padding_mask", d, attn_mask, "attn_mask")
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method `generate_square_subsequent_mask` to "
            "create this mask."
        )
    attn_mask = additive(attn_mask, "attn_mask", d)
    if width != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}")
    head = width // num_heads
    if head * num_heads != width:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    if use_separate_proj_weight:
        if tuple(key.shape[:2]) != tuple(value.shape[:2]):
            raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")
        projections = q_proj_weight, k_proj_weight, v_proj_weight
    else:
        if key.shape != value.shape:
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        projections = in_proj_weight.chunk(3)
    q, k, v = (linear(t, w, b) for t, w, b in zip((query, key, value), projections, biases, strict=True))
    if attn_mask is not None:
        wanted = (length, key.shape[0]) if attn_mask.ndim == 2 else (count * num_heads, length, key.shape[0])
        if tuple(attn_mask.shape) != wanted:
            raise RuntimeError(f"The shape of the {attn_mask.ndim}D attn_mask is {attn_mask.shape}, but should be {wanted}.")
        attn_mask = attn_mask.unsqueeze(0) if attn_mask.ndim == 2 else attn_mask
    added = 0  # keys that no mask knows: a learnt one, and one of zeros
    if bias_k is not None and bias_v is not None:
        k, v = cat([k, bias_k.repeat(1, count, 1)], 0), cat([v, bias_v.repeat(1, count, 1)], 0)
        added += 1
    q, k, v = (t.reshape(t.shape[0], count * num_heads, head).transpose(0, 1) for t in (q, k, v))
    k, v = k if static_k is None else static_k, v if static_v is None else static_v
    if add_zero_attn:
        k, v = (cat([t, t.new_zeros((count * num_heads, 1, head))], 1) for t in (k, v))
        added += 1
    if added:
        attn_mask, key_padding_mask = (None if m is None else pad(m, (0, added)) for m in (attn_mask, key_padding_mask))
    size = k.shape[1]
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (count, size):
            which, got, wanted = (0, *key_padding_mask.shape[:1], count) if key_padding_mask.shape[0] != count else (1, key_padding_mask.shape[1], size)
            raise AssertionError(f"Expected key_padded_mask.shape[{which}] to be {wanted}, but got {got}")
        whole = key_padding_mask.reshape(count, 1, 1, size).expand(-1, num_heads, -1, -1).reshape(count * num_heads, 1, size)
        attn_mask = whole if attn_mask is None else attn_mask + whole
    dropout_p = dropout_p if training else 0.0
    weights = None
    if need_weights:
        scores = (q * math.sqrt(1 / head)).bmm(k.mT)
        weights = softmax(scores if attn_mask is None else scores + attn_mask, -1)
        weights = drop(weights, dropout_p) if dropout_p else weights
        output = weights.bmm(v)
    else:
        output = scaled_dot_product_attention(q, k, v, attn_mask, dropout_p)
    output = output.transpose(0, 1).reshape(length * count, width)
    output = linear(output, out_proj_weight, out_proj_bias).reshape(length, count, out_proj_weight.shape[0])
    if weights is not None:
        weights = weights.reshape(count, num_heads, length, size)
        weights = weights.mean(1) if average_attn_weights else weights
    if batched:
        return output, weights
    return output.squeeze(1), None if weights is None else weights.squeeze(0)
