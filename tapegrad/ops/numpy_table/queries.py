"""NumPy's functions that are not differentiated: questions about arrays, and arrays like others."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapegrad.numpy_protocol import as_tensor, common, dtype_of
from tapegrad.ops.numpy_table.rows import only_numpy, row, tg


@row("x")
def shape(a):
    return tuple(as_tensor(a).shape)


@row("x")
def ndim(a):
    return as_tensor(a).ndim


@row("x", "x, 1", "t, (0, 2)")
def size(a, axis=None):
    x = as_tensor(a)
    return x.numel() if axis is None else math.prod(x.shape[d] for d in normalize_axis_tuple(axis, x.ndim))


@row("x, x + 1e-9", "x, u")
def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


@row("x, x + 1e-9", "x, u")
def isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = common([as_tensor(a), as_tensor(b)])
    return tg("isclose")(*tg("broadcast_tensors")(a, b), rtol=rtol, atol=atol, equal_nan=equal_nan)


@row("x, x", "x, u")
def array_equal(a1, a2, equal_nan=False):
    a, b = as_tensor(a1).detach().numpy(), as_tensor(a2).detach().numpy()
    return bool(np.array_equal(a, b, equal_nan=equal_nan))


@row("x")
def iscomplexobj(x):
    return as_tensor(x).is_complex()


def like(name):
    def run(a, *fill, dtype=None, order="K", subok=True, shape=None, device=None):
        only_numpy(shape)
        return tg(name)(as_tensor(a), *fill, dtype=dtype_of(dtype))

    row("x, 2.5" if name == "full_like" else "x", name=name)(run)


for _name in ("zeros_like", "ones_like", "full_like"):
    like(_name)
row(name="empty_like")(lambda prototype, dtype=None, order="K", subok=True, shape=None, device=None: tg("empty_like")(prototype, dtype=dtype_of(dtype)))
