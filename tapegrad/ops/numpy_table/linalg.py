"""The functions of `numpy.linalg`."""

from __future__ import annotations

import numpy as np

from tapegrad.numpy_protocol import as_tensor, common, floating, store
from tapegrad.ops.numpy_table.products import outer, tensordot
from tapegrad.ops.numpy_table.rows import NoCounterpart, given, joined, row, tg
from tapegrad.ops.numpy_table.shapes import stack, trace
from tapegrad.ops.numpy_table.ufuncs import matmul, vecdot


def linalg(name, *samples, keeps_integers=False):
    """The function of `tapegrad.linalg` of that name, its operands promoted as in NumPy."""

    def run(*operands, **kwargs):
        import tapegrad.linalg

        made = as_tensor if keeps_integers else lambda v: floating(as_tensor(v))
        operands = [v if isinstance(v, (bool, int, float, str)) or v is None else made(v) for v in operands]
        tensors = iter(common([v for v in operands if hasattr(v, "_slot")]))
        return getattr(tapegrad.linalg, name)(*(next(tensors) if hasattr(v, "_slot") else v for v in operands), **kwargs)

    row(*samples, name=f"linalg.{name}")(run)


linalg("inv", "s", "np.stack([s, d])")
linalg("det", "s", "np.stack([s, d])")
linalg("slogdet", "s")
linalg("solve", "s, x", "s, v[:3]", "d, s")
linalg("tensorinv", "t[:, :2] + np.eye(4).reshape(2, 2, 4) * 3")
linalg("tensorsolve", "np.eye(4).reshape(2, 2, 4) * 3 + x[0, 0], x[:2, :2]")
linalg("matrix_power", "s, 3", "s, -2", keeps_integers=True)
linalg("svdvals", "x")
linalg("diagonal", "t", "t, offset=1", "i", keeps_integers=True)


@row("x @ x.T", name="linalg.eigvalsh")
def eigvalsh(a, UPLO="L"):
    return tg("linalg").eigvalsh(floating(as_tensor(a)), UPLO)


@row(name="linalg.eigh")
def eigh(a, UPLO="L"):
    return tg("linalg").eigh(floating(as_tensor(a)), UPLO)


@row("x @ x.T + np.eye(3)", name="linalg.cholesky")
def cholesky(a, /, *, upper=False):
    return tg("linalg").cholesky(floating(as_tensor(a)), upper=upper)


@row("x", "x, mode='r'", name="linalg.qr")
def qr(a, mode="reduced"):
    if mode == "raw":
        raise NoCounterpart
    found = tg("linalg").qr(floating(as_tensor(a)), "reduced" if mode == "r" else mode)
    return found.R if mode == "r" else found


@row("x, compute_uv=False", name="linalg.svd")
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    x = floating(as_tensor(a))
    return tg("linalg").svd(x, full_matrices) if compute_uv else tg("linalg").svdvals(x)


@row("x", "np.stack([s, d])", "x, rcond=1e-3", name="linalg.pinv")
def pinv(a, rcond=None, hermitian=False, *, rtol=np._NoValue):
    return tg("linalg").pinv(floating(as_tensor(a)), rtol=given(rtol, 1e-15 if rcond is None else rcond), hermitian=hermitian)


@row("s", "s, 'fro'", "s, 1", "s, -np.inf", name="linalg.cond")
def cond(x, p=None):
    return tg("linalg").cond(floating(as_tensor(x)), p)


@row("x", "v", "x, 'fro'", "x, 'nuc'", "x, 2", "x, np.inf", "x, axis=1", "x, 3, axis=0, keepdims=True", "t, 1, (0, 2)", "t", name="linalg.norm")
def norm(x, ord=None, axis=None, keepdims=False):
    return tg("linalg").norm(floating(as_tensor(x)), ord, axis, keepdims)


@row("x", "x, axis=1", "x, ord=3", name="linalg.vector_norm")
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    return tg("linalg").vector_norm(floating(as_tensor(x)), ord, axis, keepdims)


@row("t", "t, ord='nuc'", name="linalg.matrix_norm")
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    return tg("linalg").matrix_norm(floating(as_tensor(x)), ord, keepdim=keepdims)


@row("x", "x[:, :1] * v", name="linalg.matrix_rank")
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    if (x := as_tensor(A)).ndim < 2:
        return int((x != 0).any())
    return tg("linalg").matrix_rank(floating(as_tensor(A)), atol=tol, rtol=0.0 if tol is not None else rtol, hermitian=hermitian)


@row("[x, x.T, x]", "[v, x.T, s]", name="linalg.multi_dot")
def multi_dot(arrays, *, out=None):
    return store(tg("linalg").multi_dot(joined(arrays)), out)


@row("v[:3], w[:3]", "x.T, u.T", "s, v[:3]", name="cross", also=("linalg.cross",))
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    a, b = common([as_tensor(a), as_tensor(b)])
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = a.movedim(axisa, -1), b.movedim(axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise NoCounterpart
    ndim = max(a.ndim, b.ndim)
    a, b = (t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in (a, b))
    return tg("linalg").cross(a, b, dim=-1).movedim(-1, axisc)


@row("v", "v, 3", "v, increasing=True")
def vander(x, N=None, increasing=False):
    x = as_tensor(x)
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    count = x.shape[0] if N is None else N
    powers = stack([x**k for k in range(count)], 1) if count else x.new_zeros((x.shape[0], 0))
    return powers if increasing else powers.flip(1)


for _name, _f in (("outer", outer), ("tensordot", tensordot), ("matmul", matmul), ("trace", lambda x, /, *, offset=0, dtype=None: trace(x, offset, -2, -1, dtype)),
                  ("vecdot", vecdot), ("matrix_transpose", lambda x, /: as_tensor(x).mT)):  # fmt: skip
    row(*{"outer": ("v, w",), "trace": ("t",), "matrix_transpose": ("t",), "vecdot": ("x, u",), "tensordot": ("x, x.T, axes=1",)}.get(_name, ("x, x.T",)), name=f"linalg.{_name}")(_f)
row("t", name="matrix_transpose")(lambda x, /: as_tensor(x).mT)
