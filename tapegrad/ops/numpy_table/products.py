"""NumPy's products of vectors, matrices and tensors."""

from __future__ import annotations

import string

import numpy as np

from tapegrad import dtypes
from tapegrad.numpy_protocol import as_tensor, common, dtype_of, lift, store
from tapegrad.ops.numpy_table.rows import joined, only_numpy, row, tg
from tapegrad.ops.numpy_table.ufuncs import matmul


@row("v, w", "x, v", "x, x.T", "t, x.T", "x, 2.0")
def dot(a, b, out=None):
    a, b = common([as_tensor(a), as_tensor(b)])
    if not a.ndim or not b.ndim:
        return store(a * b, out)
    if b.ndim == 1 or a.ndim <= 2 and b.ndim <= 2:
        return store(matmul(a, b), out)
    return store(tensordot(a, b, ([-1], [-2])), out)


@row("v, w", "x, u")
def vdot(a, b, /):
    a, b = common([as_tensor(a).reshape(-1), as_tensor(b).reshape(-1)])
    return a.conj().dot(b)


@row("v, w", "x, u", "x, 2.0")
def inner(a, b, /):
    a, b = common([as_tensor(a), as_tensor(b)])
    return tensordot(a, b, ([-1], [-1])) if a.ndim and b.ndim else a * b


@row("v, w", "x, v")
def outer(a, b, out=None):
    return store(as_tensor(a).reshape(-1, 1) * as_tensor(b).reshape(1, -1), out)


@row("x, x.T, 1", "x, u, 2", "t, x, axes=([1, 2], [0, 1])", "t, u, axes=(2, 1)")
def tensordot(a, b, axes=2):
    a, b = common([as_tensor(a), as_tensor(b)])
    if isinstance(axes, int):
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in axes)
    left, right = [d % a.ndim for d in left], [d % b.ndim for d in right]
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise ValueError("shape-mismatch for sum")
    kept_a, kept_b = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    shape = [*(a.shape[d] for d in kept_a), *(b.shape[d] for d in kept_b)]
    size = int(np.prod([a.shape[d] for d in left], dtype=np.int64))
    rows, columns = (int(np.prod([t.shape[d] for d in kept], dtype=np.int64)) for t, kept in ((a, kept_a), (b, kept_b)))
    return a.permute(*kept_a, *left).reshape(rows, size).mm(b.permute(*right, *kept_b).reshape(size, columns)).reshape(shape)


@row("'ij,kj->ik', x, u", "'ij->j', x", "'tij,ij', t, x", "'i,j', v, w", "'ii', s", "x, [0, 1], u, [0, 1], [0]", "'ij,ij->i', x, i")
def einsum(subscripts, *operands, out=None, **kwargs):
    dtype = kwargs.pop("dtype", None)
    only_numpy(*(v for k, v in kwargs.items() if k not in ("optimize", "order", "casting")))
    if not isinstance(subscripts, str):  # einsum(a, [0, 1], b, [1, 2], [0, 2])
        operands = (subscripts, *operands)
        pairs, last = len(operands) // 2, operands[-1:] if len(operands) % 2 else ()
        spell = lambda part: "".join("..." if n is Ellipsis else string.ascii_letters[n] for n in part)
        subscripts = ",".join(map(spell, operands[1 : 2 * pairs : 2])) + "".join("->" + spell(part) for part in last)
        operands = operands[: 2 * pairs : 2]
    tensors = joined(operands)
    tensors = tensors if dtype is None else [t.to(dtype_of(dtype)) for t in tensors]
    if tensors[0].dtype is dtypes.bool_:  # PyTorch has no products of them
        return store(tg("einsum")(subscripts, *(t.to(dtypes.int64) for t in tensors)) != 0, out)
    return store(tg("einsum")(subscripts, *tensors), out)


@row("x, u", "v, w")
def kron(a, b):
    a, b = common([as_tensor(a), as_tensor(b)])
    ndim = max(a.ndim, b.ndim)
    a, b = (t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in (a, b))
    pairs = [s for d in range(ndim) for s in (a.shape[d], 1)], [s for d in range(ndim) for s in (1, b.shape[d])]
    return (a.reshape(pairs[0]) * b.reshape(pairs[1])).reshape([p * q for p, q in zip(a.shape, b.shape)])


@row("v, 2.0", "v, x", "[1.0, 2.0, 3.0], v")
def polyval(p, x):
    p, x = as_tensor(p), lift(x)
    total = x * 0
    for k in range(p.shape[0]):
        total = total * x + p[k]
    return total
