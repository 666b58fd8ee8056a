"""NumPy's quantiles, reductions without nan, covariances and gradients of samples."""

from __future__ import annotations

import numpy as np

from tapegrad.numpy_protocol import as_tensor, dtype_of, floating, lift, store
from tapegrad.ops.numpy_table.rows import NoCounterpart, given, only_numpy, row, tg

METHODS = {"linear": "linear", "lower": "lower", "higher": "higher", "midpoint": "midpoint", "nearest": "nearest"}


def quantiles(name, numpy_name, scale):
    def run(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None, interpolation=None):
        only_numpy(weights, interpolation)
        if method not in METHODS or isinstance(axis, tuple):
            raise NoCounterpart
        x = floating(as_tensor(a))
        q = as_tensor(q).to(x.dtype) / scale
        result = tg(name)(x, q.reshape(-1), axis, keepdims, interpolation=method)
        return store(result.reshape(tuple(q.shape) + tuple(result.shape[1:])), out)

    argument = "0.3" if scale == 1 else "30"
    several = "[0.2, 0.7]" if scale == 1 else "[20.0, 70.0]"
    row(f"x, {argument}", f"x, {several}, axis=1", f"x, {argument}, axis=0, keepdims=True, method='lower'", name=numpy_name)(run)


quantiles("quantile", "quantile", 1)
quantiles("nanquantile", "nanquantile", 1)
quantiles("quantile", "percentile", 100)
quantiles("nanquantile", "nanpercentile", 100)


def middle(name, numpy_name):
    def run(a, axis=None, out=None, overwrite_input=False, keepdims=False):
        if isinstance(axis, tuple):
            raise NoCounterpart
        return store(tg(name)(floating(as_tensor(a)), 0.5, axis, given(keepdims, False)), out)

    row("x", "x, axis=1", "x[:, :3], axis=-1, keepdims=True", name=numpy_name)(run)


middle("quantile", "median")
middle("nanquantile", "nanmedian")


def without_nan(name):
    def run(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, **kwargs):
        only_numpy(*kwargs.values())
        x = as_tensor(a) if name == "nansum" else floating(as_tensor(a))
        if axis == () or x.is_complex():
            raise NoCounterpart
        return store(tg(name)(x, axis, keepdim=given(keepdims, False), dtype=dtype_of(dtype)), out)

    row("x", "x, axis=1", "np.where(c, x, np.nan), axis=1, keepdims=True", name=name)(run)


without_nan("nansum")
without_nan("nanmean")


@row("np.where(c, x, np.nan)", "x", "np.where(c, x, np.inf), posinf=2.0")
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    only_numpy(None if copy else copy)
    return tg("nan_to_num")(as_tensor(x), nan, posinf, neginf)


@row("x", "x.T, rowvar=False", "x, bias=True", "x, ddof=0", "v")
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    only_numpy(y, dtype)
    x = floating(as_tensor(m))
    x = x if rowvar or x.ndim < 2 else x.t()
    weight = lambda w: None if w is None else as_tensor(w)
    return tg("cov")(x, correction=(0 if bias else 1) if ddof is None else ddof, fweights=weight(fweights), aweights=weight(aweights))


@row("x", "x.T, rowvar=False")
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    only_numpy(y, dtype)
    x = floating(as_tensor(x))
    return tg("corrcoef")(x if rowvar or x.ndim < 2 else x.t())


@row("v", "x, axis=1", "x, 0.5, axis=0", "v, np.array([0.0, 1.0, 3.0, 3.5])", "v, edge_order=2")
def gradient(f, *varargs, axis=None, edge_order=1):
    x = floating(as_tensor(f))
    dims = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    steps = [lift(v) for v in varargs] or [1.0]
    steps = steps * len(dims) if len(steps) == 1 else steps
    found = tg("gradient")(x, spacing=steps, dim=dims, edge_order=edge_order)
    return found[0] if len(dims) == 1 else found
