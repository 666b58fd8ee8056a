"""Pooling over windows: maxima with their places, averages, and averages over stretches of even share."""

from __future__ import annotations

import functools
import math

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.layouts import laid_as
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable


# --- maxima ---------------------------------------------------------------------------------------------------------
@structural("max_pool", "MaxPool2DWithIndices", flat=True)
def max_pool_op(node, g, *_):
    """max_pool: the gradient is added at the places of the maxima."""
    return at_places(g, node.outputs[1], node.attributes.sizes)


def at_places(g, index, sizes):
    """Zeros of (..., *sizes) with g added at flat places of the last dims."""
    n = len(sizes)
    lead = tuple(g.shape[: g.ndim - n])
    rows, count = math.prod(lead), math.prod(g.shape[g.ndim - n :])
    base = creation.zeros((rows, math.prod(sizes)), dtype=g.dtype)
    return base.scatter_add(1, index.reshape(rows, count), g.reshape(rows, count)).reshape(*lead, *sizes)


@functools.lru_cache(256)
def places(window, sizes):
    """For each window element its flat place in an array of `sizes` (-1 in the padding), and the first place of each window."""
    index = window.cut(np.arange(math.prod(sizes), dtype=np.int64).reshape(sizes), -1)
    flat = index.reshape(math.prod(window.kernel), -1)
    return flat, np.where(flat < 0, np.iinfo(np.int64).max, flat).min(0)


@transformable("leading")
def max_pool(x, window, graph_name):
    """(maxima, flat places) of the windows over the last dims; a NaN is a maximum."""
    n = len(window.kernel)
    array = creation.numbers(x)
    sizes = tuple(array.shape[array.ndim - n :])
    lead = array.shape[: array.ndim - n]
    kind = array.dtype.kind
    lowest = -np.inf if kind == "f" else np.iinfo(array.dtype).min if kind in "iu" else False
    cut = window.cut(array, lowest)
    counts = cut.shape[cut.ndim - n :]
    rows = cut.reshape(*lead, math.prod(window.kernel), math.prod(counts))
    flat, first = places(window, sizes)
    chosen = rows.argmax(-2) if rows.size else np.zeros((*lead, rows.shape[-1]), np.int64)
    index = flat[chosen, np.arange(rows.shape[-1])]
    index = np.where(index < 0, first, index)
    values = np.take_along_axis(rows, chosen[..., None, :], -2)[..., 0, :] if rows.size else np.zeros(chosen.shape, array.dtype)
    out = laid_as(x, values.reshape(*lead, *counts))
    where = laid_as(x, index.reshape(*lead, *counts), dtypes.int64)
    record(max_pool_op, [x], [out, where], plans.Parameters(max_pool_op, sizes=sizes, graph_name=graph_name), 0b100, 1)
    return out, where


# --- averages -------------------------------------------------------------------------------------------------------
@transformable("leading", "x")
def average(x, window, divisor, graph_name):
    """The sums of windows over `divisor`, an array over the places of windows."""
    n = len(window.kernel)
    array = creation.numbers(x)
    cut = window.cut(array)
    total = cut.sum(tuple(range(cut.ndim - 2 * n, cut.ndim - n)))
    values = total / divisor if x.dtype.is_floating_point else np.trunc(total / divisor).astype(x.dtype.numpy)
    out = laid_as(x, values, images=True)
    plan = plans.Parameters(average_op, graph_name=graph_name, window=window, divisor=divisor, sizes=tuple(array.shape[array.ndim - n :]))
    record(average_op, [x], [out], plan)
    return out


@structural("avg_pool", "AvgPool2D", flat=True)
def average_op(node, g):
    """avg_pool: every element of a window gets its share."""
    return spread(g, node.attributes)


@transformable("leading", "g")
def spread(g, a):
    """The transpose of `average`."""
    n = len(a.window.kernel)
    share = creation.numbers(g) / a.divisor
    lead = share.shape[: share.ndim - n]
    cut = np.broadcast_to(share.reshape(*lead, *[1] * n, *share.shape[share.ndim - n :]), (*lead, *a.window.kernel, *share.shape[share.ndim - n :]))
    out = laid_as(g, a.window.add(cut, a.sizes))
    record(spread_op, [g], [out], plans.Parameters(spread_op, window=a.window, divisor=a.divisor, graph_name=a.graph_name))
    return out


@structural("avg_pool_transposed", "AvgPool2D")
def spread_op(node, g):
    """the transpose of avg_pool: avg_pool."""
    a = node.attributes
    return average(g, a.window, a.divisor, a.graph_name)


# --- maps along each dim --------------------------------------------------------------------------------------------
@transformable("leading", "x")
def along_dims(x, maps, graph_name):
    """Each of the last dims of x multiplied by a matrix: maps are (out, in) arrays."""
    values = creation.numbers(x)
    for k, matrix in enumerate(maps):
        d = values.ndim - len(maps) + k
        values = np.moveaxis(np.tensordot(values, matrix, (d, 1)), -1, d)
    out = laid_as(x, values, images=True)
    record(along_dims_op, [x], [out], plans.Parameters(along_dims_op, maps=maps, graph_name=graph_name))
    return out


@structural("along_dims", "AdaptiveAvgPool2D", flat=True)
def along_dims_op(node, g):
    """maps along dims: the transposed maps."""
    a = node.attributes
    return along_dims(g, [m.T for m in a.maps], a.graph_name)


def even_shares(size: int, parts: int):
    """(start, stop) of `parts` stretches that cover `size` elements, as adaptive pooling has them."""
    return [(k * size // parts, -(-(k + 1) * size // parts)) for k in range(parts)]


@functools.lru_cache(256)
def averaging(size: int, parts: int, kind: str):
    """The (parts, size) matrix that averages over even shares."""
    result = np.zeros((parts, size), kind)
    for row, (start, stop) in enumerate(even_shares(size, parts)):
        result[row, start:stop] = 1 / (stop - start)
    return result


@transformable("leading")
def adaptive_max(x, parts, graph_name):
    """(maxima, flat places) over even shares of the last dims."""
    n = len(parts)
    array = creation.numbers(x)
    sizes = tuple(array.shape[array.ndim - n :])
    lead = array.shape[: array.ndim - n]
    values, index = np.empty((*lead, *parts), array.dtype), np.empty((*lead, *parts), np.int64)
    shares = [even_shares(s, p) for s, p in zip(sizes, parts)]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    for place in np.ndindex(*parts):
        region = tuple(slice(*shares[d][k]) for d, k in enumerate(place))
        rows = array[(..., *region)]
        rows = rows.reshape(*lead, math.prod(rows.shape[len(lead) :]))
        chosen = rows.argmax(-1) if rows.size else np.zeros(lead, np.int64)
        index[(..., *place)] = numbers[region].reshape(-1)[chosen]
        if rows.size:
            values[(..., *place)] = np.take_along_axis(rows, chosen[..., None], -1)[..., 0]
    out, where = laid_as(x, values, images=True), laid_as(x, index, dtypes.int64, images=True)
    record(max_pool_op, [x], [out, where], plans.Parameters(max_pool_op, sizes=sizes, graph_name=graph_name), 0b100, 1)
    return out, where
