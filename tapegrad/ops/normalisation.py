"""Normalisation: mean 0 and variance 1 over some dims, then a weight and a bias. Batch, layer and group norm are this op."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.layouts import laid_as
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, level_of


@structural("normalise", "NativeLayerNorm")
def normalise_op(node, g):
    """normalise: r (h - mean(h) - z mean(h z)) with z the normalised input, h = g weight and r the inverse deviation."""
    a = node.attributes
    operands = iter(node.inputs)
    x = next(operands)
    weight, bias = (next(operands) if there else None for there in a.there)
    wide = x.dtype.reduced  # half precision is computed in float32
    rows = (x.float() if wide else x).reshape(a.rows)
    g = g.float() if wide else g
    if a.frozen or not modes.is_grad_enabled():
        mean, scale = a.mean, a.scale
    else:
        mean = rows.mean(a.dims, True)
        scale = (((rows - mean) ** 2).mean(a.dims, True) + a.eps).rsqrt()
    z = (rows - mean) * scale
    h = (g if weight is None else g * weight.reshape(a.affine)).reshape(a.rows)
    gx = h * scale if a.frozen else scale * (h - h.mean(a.dims, True) - z * (h * z).mean(a.dims, True))
    result = [gx.reshape(x.shape).to(x.dtype)]
    if weight is not None:
        result.append((g * z.reshape(x.shape)).sum_to_size(a.affine).reshape(weight.shape).to(weight.dtype))
    if bias is not None:
        result.append(g.sum_to_size(a.affine).reshape(bias.shape).to(bias.dtype))
    return result


def composed(x, weight, bias, rows, dims, affine, eps, moments):
    """`normalise` in other ops, for tensors that transforms follow."""
    seen = x.reshape(rows)
    if moments is None:
        mean = seen.mean(dims, True)
        variance = ((seen - mean) ** 2).mean(dims, True)
    else:
        mean, variance = (m.to(x.dtype) for m in moments)
    out = ((seen - mean) / (variance + eps).sqrt()).reshape(x.shape)
    out = out if weight is None else out * weight.reshape(affine)
    return out if bias is None else out + bias.reshape(affine), mean, variance


def normalise(x, weight, bias, rows, dims, affine, eps, graph_name, moments=None):
    """Normalise x seen as shape `rows` over `dims`; weight and bias have the broadcast shape `affine`.

    `moments`: (mean, variance) in the shape of the rows' statistics, instead of those of x.  Returns (out, mean, variance); the last two are
    arrays, unless a transform follows one of the tensors.
    """
    if ACTIVE and level_of((x, weight, bias, *(moments or ()))) is not None:
        return composed(x, weight, bias, rows, dims, affine, eps, moments)
    array = creation.numbers(x).reshape(rows)
    if moments is None and not array.size:
        mean = variance = np.zeros([1 if d in dims else n for d, n in enumerate(array.shape)])
    elif moments is None:
        mean = array.mean(dims, dtype=np.float64, keepdims=True)
        variance = np.square(array - mean.astype(array.dtype)).mean(dims, dtype=np.float64, keepdims=True)
    else:
        mean, variance = (creation.numbers(m) for m in moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (1 / np.sqrt(variance + eps)).astype(array.dtype)
    values = ((array - mean.astype(array.dtype)) * scale).reshape(x.shape)
    if weight is not None:
        values = values * creation.numbers(weight).reshape(affine)
    if bias is not None:
        values = values + creation.numbers(bias).reshape(affine)
    out = creation.from_array(values, x.dtype) if "Layer" in graph_name else laid_as(x, values)
    constant = lambda a: creation.from_array(np.asarray(a, array.dtype))
    plan = plans.Parameters(
        normalise_op, graph_name, rows=tuple(rows), dims=tuple(dims), affine=tuple(affine), eps=eps, frozen=moments is not None,
        mean=constant(mean), scale=constant(scale), there=(weight is not None, bias is not None),
    )
    inputs = [t for t in (x, weight, bias) if t is not None]
    record(normalise_op, inputs, [out], plan, (1 << len(inputs)) - 1)
    return out, mean, variance
