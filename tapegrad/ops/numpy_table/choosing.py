"""NumPy's functions that choose, index, sort and round, and the differences of neighbours."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tapegrad import dtypes
from tapegrad.numpy_protocol import as_tensor, floating, lift, store
from tapegrad.ops.numpy_table.rows import NoCounterpart, given, only_numpy, row, tg
from tapegrad.ops.numpy_table.shapes import concatenate


@row("c, x, u", "c, x, 0.0", "c, 1.0, x", "x > 0, x, v")
def where(condition, *choices):
    condition = as_tensor(condition)
    condition = condition if condition.dtype is dtypes.bool_ else condition != 0
    return tg("where")(condition, *map(lift, choices))


@row("x, -0.5, 0.5", "x, None, 0.5", "x, 0.2, None", "x, v, 2.0", "x, min=-0.4, max=0.4")
def clip(a, a_min=np._NoValue, a_max=np._NoValue, out=None, *, min=np._NoValue, max=np._NoValue, **kwargs):
    only_numpy(*kwargs.values())
    low, high = given(min, given(a_min, None)), given(max, given(a_max, None))
    x = as_tensor(a)
    if low is None and high is None:
        return store(x.clone(), out)
    low, high = (None if v is None else lift(v) for v in (low, high))
    if any(hasattr(v, "_slot") for v in (low, high)):
        low, high = (v if v is None or hasattr(v, "_slot") else tg("tensor")(v) for v in (low, high))
    return store(x.clamp(low, high), out)


@row("x, [0, 2], axis=1", "x, 1", "x, [[0, 5], [11, 3]]", "x, 1, axis=0")
def take(a, indices, axis=None, out=None, mode="raise"):
    if mode != "raise":
        raise NoCounterpart
    x, index = as_tensor(a), as_tensor(indices)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
    flat = index.reshape(-1)
    picked = x.index_select(axis, tg("where")(flat < 0, flat + x.shape[axis], flat))
    return store(picked.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])), out)


@row("x, np.array([[0], [2], [1]]), axis=1", "x, np.array([[0, 1, 2, 0]]), 0")
def take_along_axis(arr, indices, axis=-1):
    x, index = as_tensor(arr), as_tensor(indices)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, normalize_axis_index(axis, x.ndim))
    shape = np.broadcast_shapes(*(tuple(1 if d == axis else s for d, s in enumerate(t.shape)) for t in (x, index)))
    index = index.expand([index.shape[axis] if d == axis else s for d, s in enumerate(shape)])
    x = x.expand([x.shape[axis] if d == axis else s for d, s in enumerate(shape)])
    return x.gather(axis, tg("where")(index < 0, index + x.shape[axis], index))


@row("[True, False, True], x, axis=0", "c.reshape(-1), x")
def compress(condition, a, axis=None, out=None):
    x = as_tensor(a)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return store(x.index_select(axis, as_tensor(condition).nonzero().reshape(-1)), out)


@row("c, x")
def extract(condition, arr):
    return as_tensor(arr).reshape(-1)[as_tensor(condition).to(dtypes.bool_).reshape(-1).nonzero().reshape(-1)]


@row("c")
def nonzero(a):
    return as_tensor(a).nonzero(as_tuple=True)


@row("c")
def argwhere(a):
    return as_tensor(a).nonzero()


@row("c")
def flatnonzero(a):
    return as_tensor(a).reshape(-1).nonzero().reshape(-1)


@row("x", "x, axis=0", "x, axis=None")
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    only_numpy(order)
    x = as_tensor(a)
    return x.reshape(-1).sort(0).values if axis is None else x.sort(axis).values


@row("x", "x, axis=0")
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    only_numpy(order)
    x = as_tensor(a)
    return x.reshape(-1).argsort(0) if axis is None else x.argsort(axis)


@row("x")
def real(val):
    return as_tensor(val).real


@row("x", "x, 2", "x, decimals=1", also=("round_", "around"))
def round_(a, decimals=0, out=None):
    return store(tg("round")(as_tensor(a), decimals=decimals), out)


@row("x")
def fix(x, out=None):
    return store(as_tensor(x).trunc(), out)


@row("x")
def sinc(x):
    return tg("sinc")(as_tensor(x))


@row("x", "x, n=2", "x, axis=0", "c", "x, n=9")
def diff(a, n=1, axis=-1, prepend=np._NoValue, append=np._NoValue):
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    x = as_tensor(a)
    if n == 0:
        return x
    axis = normalize_axis_index(axis, x.ndim)
    ends = []
    for end in (prepend, append):
        end = None if end is np._NoValue else as_tensor(end)
        if end is not None and end.ndim == 0:
            end = end.expand([1 if d == axis % x.ndim else s for d, s in enumerate(x.shape)])
        ends.append([] if end is None else [end])
    x = concatenate([*ends[0], x, *ends[1]], axis) if any(ends) else x
    for _ in range(n):
        size = max(x.shape[axis], 1)
        high, low = x.narrow(axis, min(1, x.shape[axis]), size - 1), x.narrow(axis, 0, size - 1)
        x = high != low if x.dtype is dtypes.bool_ else high - low
    return x


@row("x, dx=0.5", "x, v", "x, axis=0")
def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = floating(as_tensor(y))
    size = y.shape[axis]
    if x is not None:
        x = as_tensor(x)
        dx = diff(x) if x.ndim == 1 else diff(x, axis=axis)
        dx = dx.reshape([-1 if d == axis % y.ndim else 1 for d in range(y.ndim)]) if x.ndim == 1 else dx
    return (dx * (y.narrow(axis, 1, size - 1) + y.narrow(axis, 0, size - 1)) / 2).sum(axis)


@row("x")
def i0(x):
    return tg("i0")(floating(as_tensor(x)))
