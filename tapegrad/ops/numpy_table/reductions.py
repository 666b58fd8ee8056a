"""NumPy's reductions over axes, and running sums and products."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapegrad import dtypes
from tapegrad.numpy_protocol import as_tensor, dtype_of, floating, store
from tapegrad.ops.numpy_table.rows import given, only_numpy, row, tg
from tapegrad.ops.numpy_table.ufuncs import reduce


def reduction(name, numpy_names, samples, float_only=False):
    def run(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, initial=np._NoValue, where=np._NoValue):
        x = floating(as_tensor(a)) if float_only and dtype is None else as_tensor(a)
        return store(reduce(name, x, axis, dtype, given(keepdims, False), given(initial, None), given(where, True)), out)

    run.__name__ = name
    row(*samples, name=numpy_names[0], also=numpy_names[1:])(run)


reduction("sum", ("sum",), ("x", "x, axis=0", "x, axis=(0, 1), keepdims=True", "x, axis=1, initial=2.0", "x, where=c", "x, axis=-1, dtype=np.float64"))
reduction("prod", ("prod",), ("x", "x, axis=1", "x, axis=1, keepdims=True", "x, where=c", "x, keepdims=True", "x, axis=(0, 1)"))


def extremum(name, numpy_names):
    def run(a, axis=None, out=None, keepdims=np._NoValue, initial=np._NoValue, where=np._NoValue):
        return store(reduce(name, a, axis, None, given(keepdims, False), given(initial, None), given(where, True)), out)

    row("x", "x, axis=1", "x, 0, keepdims=True", "x, axis=1, initial=0.1", name=numpy_names[0], also=numpy_names[1:])(run)


extremum("amax", ("max", "amax"))
extremum("amin", ("min", "amin"))


@row("x", "x, axis=0", "x, axis=1, keepdims=True", "i", "x, where=c", "x, axis=()")
def mean(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, *, where=np._NoValue):
    x = floating(as_tensor(a)) if dtype is None else as_tensor(a).to(dtype_of(dtype))
    if given(where, True) is not True:
        mask = as_tensor(where).expand(x.shape)
        total = reduce("sum", x, axis, None, given(keepdims, False), None, mask)
        return store(total / reduce("sum", mask, axis, None, given(keepdims, False)), out)
    return store(x.clone() if axis == () else x.mean(axis, given(keepdims, False)), out)


def deviation(name):
    def run(a, axis=None, dtype=None, out=None, ddof=0, keepdims=np._NoValue, *, where=np._NoValue, mean=np._NoValue, correction=np._NoValue):
        only_numpy(where, mean)
        x = floating(as_tensor(a)) if dtype is None else as_tensor(a).to(dtype_of(dtype))
        if axis == ():
            return store((x - x).abs(), out)
        return store(tg(name)(x, dim=axis, correction=given(correction, ddof), keepdim=given(keepdims, False)), out)

    row("x", "x, axis=0", "x, axis=1, ddof=1, keepdims=True", name=name)(run)


deviation("std")
deviation("var")


@row("x", "x, axis=1", "x, axis=0, keepdims=True")
def ptp(a, axis=None, out=None, keepdims=np._NoValue):
    keep = given(keepdims, False)
    return store(reduce("amax", a, axis, None, keep) - reduce("amin", a, axis, None, keep), out)


@row("x", "x, axis=1", "x, axis=1, weights=w", "t, axis=(2, 1), weights=x.T", "x, weights=p", "x, axis=0, weights=p, returned=True")
def average(a, axis=None, weights=None, returned=False, *, keepdims=np._NoValue):
    x, keep = floating(as_tensor(a)), given(keepdims, False)
    if weights is None:
        out = x.clone() if axis == () else x.mean(axis, keep)
        return (out, tg("full_like")(out, x.numel() // max(out.numel(), 1))) if returned else out
    weights = as_tensor(weights)
    if tuple(weights.shape) != tuple(x.shape):
        if axis is None:
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        axes = normalize_axis_tuple(axis, x.ndim)
        if tuple(weights.shape) != tuple(x.shape[d] for d in axes):
            raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
        order = sorted(range(len(axes)), key=lambda k: axes[k])
        weights = weights.permute(order).reshape([s if d in axes else 1 for d, s in enumerate(x.shape)]).expand(x.shape)
    total = reduce("sum", weights, axis, None, keep)
    out = reduce("sum", x * weights, axis, None, keep) / total
    return (out, total.expand(out.shape)) if returned else out


def truth(name):
    def run(a, axis=None, out=None, keepdims=np._NoValue, *, where=np._NoValue):
        return store(reduce(name, a, axis, None, given(keepdims, False), None, given(where, True)), out)

    row("c", "c, axis=1", "x, 0, keepdims=True", "x, axis=()", name=name)(run)


truth("any")
truth("all")


def position(name):
    def run(a, axis=None, out=None, *, keepdims=np._NoValue):
        x = as_tensor(a)
        return store(tg(name)(x.to(dtypes.uint8) if x.dtype is dtypes.bool_ else x, axis, given(keepdims, False)), out)

    row("x", "x, axis=1", "x, axis=0, keepdims=True", name=name)(run)


position("argmax")
position("argmin")


@row("c", "i, axis=1")
def count_nonzero(a, axis=None, *, keepdims=False):
    return reduce("sum", as_tensor(a) != 0, axis, None, keepdims)


def running(name, numpy_name):
    def run(a, axis=None, dtype=None, out=None):
        x = as_tensor(a)
        x = x.reshape(-1) if axis is None or not x.ndim else x
        return store(tg(name)(x, 0 if axis is None else axis, dtype=dtype_of(dtype)), out)

    row("x", "x, axis=1", "x, axis=0, dtype=np.float64", name=numpy_name)(run)


running("cumsum", "cumsum")
running("cumprod", "cumprod")


@row("x, axis=0", "v", "x, axis=1, include_initial=True")
def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    x = as_tensor(x)
    axis = 0 if axis is None and x.ndim == 1 else axis
    if axis is None:
        raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
    total = x.cumsum(axis, dtype=dtype_of(dtype))
    if include_initial:
        total = tg("cat")([total.narrow(axis, 0, 1) * 0, total], axis)
    return store(total, out)
