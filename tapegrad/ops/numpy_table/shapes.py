"""NumPy's functions that reshape, join, split, repeat and rearrange."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tapegrad.numpy_protocol import as_tensor, dtype_of, store
from tapegrad.ops.numpy_table.rows import NoCounterpart, joined, row, tg


def in_c_order(order) -> None:
    if order not in ("C", "K", "A", None):
        raise NoCounterpart


@row("x, (2, 6)", "x, -1", "x, (4, -1)")
def reshape(a, /, shape, order="C", *, copy=None):
    in_c_order(order)
    out = as_tensor(a).reshape(shape)
    return out.clone() if copy else out


@row("x", "x.T", "x.T, 'F'", "t.swapaxes(0, 1), 'K'", "x.T, 'A'")
def ravel(a, order="C"):
    x = as_tensor(a)
    turned = x.permute(tuple(reversed(range(x.ndim))))
    if order == "K":  # as it lies in memory
        x = x.permute(sorted(range(x.ndim), key=lambda d: (-x.stride(d), d)))
    elif order == "F" or order == "A" and turned.is_contiguous() and not x.is_contiguous():
        x = turned
    return x.reshape(-1)


@row("x", "t, (2, 0, 1)", "t, (1, -1, 0)", also=("permute_dims",))
def transpose(a, axes=None):
    x = as_tensor(a)
    return x.permute(tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))


@row("t, 0, 2", "x, 0, -1")
def swapaxes(a, axis1, axis2):
    return as_tensor(a).transpose(axis1, axis2)


@row("t, 0, 2", "t, (0, 1), (2, 0)")
def moveaxis(a, source, destination):
    return as_tensor(a).movedim(source, destination)


@row("t, 2", "t, 2, 1", "t, 0, 3")
def rollaxis(a, axis, start=0):
    x = as_tensor(a)
    axis, start = normalize_axis_index(axis, x.ndim), start + x.ndim if start < 0 else start
    return x.movedim(axis, start - 1 if start > axis else start)


@row("x[None]", "x[None, :, None], axis=0", "x[None, :, None], axis=(0, 2)")
def squeeze(a, axis=None):
    x = as_tensor(a)
    if axis is None:
        return x.squeeze()
    for d in (axis,) if isinstance(axis, int) else axis:
        if x.shape[d] != 1:
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return x.squeeze(axis)


@row("x, 0", "x, (0, -1)")
def expand_dims(a, axis):
    x = as_tensor(a)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for d in sorted(normalize_axis_tuple(axes, x.ndim + len(axes))):
        x = x.unsqueeze(d)
    return x


@row("v, (3, 4)", "x, (2, 3, 4)")
def broadcast_to(array, shape, subok=False):
    return as_tensor(array).expand((shape,) if isinstance(shape, int) else tuple(shape))


@row("x, v")
def broadcast_arrays(*args, subok=False):
    return tg("broadcast_tensors")(*map(as_tensor, args))


def at_least(name):
    def run(*arys):
        return tg(name)(*map(as_tensor, arys))

    row("v", "x", "v, x", name=name)(run)


at_least("atleast_1d")
at_least("atleast_2d")
at_least("atleast_3d")


@row("(x, u)", "[x, u], axis=1", "[x, u, x], axis=None", also=("concat",))
def concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    tensors = joined(arrays)
    if axis is None:
        tensors, axis = [t.reshape(-1) for t in tensors], 0
    result = tg("cat")(tensors, axis)
    return store(result if dtype is None else result.to(dtype_of(dtype)), out)


@row("[x, u]", "(x, u), axis=-1")
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    result = tg("stack")(joined(arrays), axis)
    return store(result if dtype is None else result.to(dtype_of(dtype)), out)


def stacked(name, *samples):
    def run(tup, *, dtype=None, casting="same_kind"):
        result = tg(name)(joined(tup))
        return result if dtype is None else result.to(dtype_of(dtype))

    row(*samples, name=name)(run)


stacked("vstack", "[x, u]", "[v, w]")
stacked("hstack", "[x, u]", "[v, w]")
stacked("dstack", "[x, u]", "[v, w]")
stacked("column_stack", "[v, w]", "[x, v[:3]]")


@row("x, u, axis=0", "x, v")
def append(arr, values, axis=None):
    return concatenate((arr, values), axis=axis)


def pieces(x, indices_or_sections, axis, even):
    """The parts of `np.split`: of equal size, or between indices."""
    size = x.shape[axis]
    if hasattr(indices_or_sections, "__len__"):
        bounds = [0, *(int(b) + size if b < 0 else min(int(b), size) for b in indices_or_sections), size]
    else:
        count = int(indices_or_sections)
        if even and size % count:
            raise ValueError("array split does not result in an equal division")
        small, extra = divmod(size, count)
        bounds = [k * small + min(k, extra) for k in range(count + 1)]
    return [x.narrow(axis, a, max(b - a, 0)) for a, b in zip(bounds, bounds[1:])]


@row("x, 2, axis=1", "x, [1], 0", "v, [1, 3]")
def split(ary, indices_or_sections, axis=0):
    return pieces(as_tensor(ary), indices_or_sections, axis, True)


@row("v, 3", "x, 3, axis=1")
def array_split(ary, indices_or_sections, axis=0):
    return pieces(as_tensor(ary), indices_or_sections, axis, False)


@row("x, 2", "v, [1, 2]")
def hsplit(ary, indices_or_sections):
    x = as_tensor(ary)
    if not x.ndim:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return pieces(x, indices_or_sections, 1 if x.ndim > 1 else 0, True)


@row("x, 3", "x, [1]")
def vsplit(ary, indices_or_sections):
    x = as_tensor(ary)
    if x.ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return pieces(x, indices_or_sections, 0, True)


@row("t, 2", "t, [1]")
def dsplit(ary, indices_or_sections):
    x = as_tensor(ary)
    if x.ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return pieces(x, indices_or_sections, 2, True)


@row("x", "x, axis=1")
def unstack(x, /, *, axis=0):
    return as_tensor(x).unbind(axis)


@row("x, 2", "x, (2, 1)", "v, (2, 1, 2)")
def tile(A, reps):
    x, reps = as_tensor(A), (reps,) if isinstance(reps, int) else tuple(reps)
    return x.repeat((1,) * (x.ndim - len(reps)) + reps)


@row("x, 2", "x, 2, axis=1", "x, [1, 0, 2], axis=0")
def repeat(a, repeats, axis=None):
    x = as_tensor(a)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    counts = np.broadcast_to(np.asarray(repeats), x.shape[axis])
    return x.index_select(axis, as_tensor(np.repeat(np.arange(x.shape[axis]), counts)))


@row("x, 1", "x, 1, axis=0", "x, (1, 2), axis=(0, 1)", "x, (1, 2)", "x, 1, axis=(0, 1)", "x, (1, 2), axis=0")
def roll(a, shift, axis=None):
    x = as_tensor(a)
    if axis is None:
        return x.roll(int(np.sum(shift)))
    shifts, axes = np.broadcast_arrays(shift, axis)
    return x.roll([*map(int, shifts.ravel())], [*map(int, axes.ravel())])


@row("x", "x, 0", "x, (0, 1)")
def flip(m, axis=None):
    x = as_tensor(m)
    return x.flip(tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis))


@row("x")
def fliplr(m):
    return as_tensor(m).flip(1)


@row("x")
def flipud(m):
    return as_tensor(m).flip(0)


@row("x", "x, 2", "x, -1", "t, 1, (0, 2)")
def rot90(m, k=1, axes=(0, 1)):
    x = as_tensor(m)
    a, b = normalize_axis_tuple(axes, x.ndim)
    k %= 4
    if k == 2:
        return x.flip((a, b))
    return x.transpose(a, b).flip(a) if k == 1 else x.flip(a).transpose(a, b) if k == 3 else x.clone()


@row("v", "x", "v, 1", "x, k=-1")
def diag(v, k=0):
    return tg("diag")(as_tensor(v), k)


@row("x", "x, 1", "t, 0, 0, 2")
def diagonal(a, offset=0, axis1=0, axis2=1):
    return as_tensor(a).diagonal(offset, axis1, axis2)


@row("v", "x, 1")
def diagflat(v, k=0):
    return tg("diag_embed")(as_tensor(v).reshape(-1), k)


@row("x", "x, 1", "t, 0, 0, 2")
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return store(as_tensor(a).diagonal(offset, axis1, axis2).sum(-1, dtype=dtype_of(dtype)), out)


def triangle(name):
    def run(m, k=0):
        x = as_tensor(m)
        return tg(name)(x if x.ndim != 1 else x.expand(x.shape[0], x.shape[0]), k)

    row("x", "x, 1", "t, -1", "v", name=name)(run)


triangle("tril")
triangle("triu")


@row("v, w", "v, w, indexing='ij'")
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if sparse:
        raise NoCounterpart
    return tg("meshgrid")(*(as_tensor(x).reshape(-1) for x in xi), indexing=indexing)


@row("x")
def copy(a, order="K", subok=False):
    return as_tensor(a).clone()


@row("x, np.float64")
def astype(x, dtype, /, *, copy=True, device=None):
    return as_tensor(x).to(dtype_of(dtype), copy=copy)
