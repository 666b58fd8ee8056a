"""The pseudo-inverse and least squares; the differential of the pseudo-inverse is that of Golub and Pereyra (1973)."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import lapack
from tapegrad.ops import plan as plans
from tapegrad.ops.matrix_checks import broadcast_batches, column_major, floating, square, values, with_out
from tapegrad.ops.outputs import return_type
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import broadcast_vectors, is_vector


def pinv_gradient(a, p, g):
    """dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P, transposed (Golub and Pereyra, 1973)."""
    ph, gh = p.mH, g.mH
    m, n = a.shape[-2:]
    if m <= n:  # products over the smaller dim first
        inner = gh @ p
        return -((ph @ g) @ ph) + (inner - a @ (p @ inner)) @ ph + (ph @ p) @ (gh - inner @ a)
    inner = p @ gh
    return -(ph @ (g @ ph)) + (gh - a @ inner) @ (p @ ph) + ph @ (inner - (inner @ p) @ a)


@structural("linalg_pinv", "LinalgPinv")
def pinv_op(node, g):
    """The differential of Golub and Pereyra, transposed."""
    return pinv_gradient(node.inputs[0], node.outputs[0], g)


def tolerances(name, atol, rtol, largest, shape, dtype):
    """max(atol, rtol * the largest singular value) with torch's defaults, to be compared with singular values."""
    array = lambda t: values(t) if hasattr(t, "_slot") else t
    a, r = array(atol), array(rtol)
    if r is None:
        default = np.finfo(dtype.numpy).eps * max(shape[-2:])
        r = default if a is None else np.where(np.asarray(a) > 0, 0.0, default)
    a = 0.0 if a is None else a
    for t, what in ((atol, "atol"), (rtol, "rtol")):
        if hasattr(t, "_slot") and t.dtype.is_complex:
            raise RuntimeError(f"torch.linalg.{name}: {what} tensor of complex type is not supported.")
    return np.maximum(a, np.asarray(r) * largest)


@with_out
def pinv(A, rcond=None, hermitian=False, *, atol=None, rtol=None):
    """The Moore-Penrose inverse: singular values up to max(atol, rtol * the largest) count as zero."""
    if A.ndim < 2 or A.dtype.category <= dtypes.INTEGER or A.dtype.reduced:
        raise RuntimeError(
            f"linalg.pinv({A.dtype.scalar_name}{{{list(A.shape)}}}): expected a tensor with 2 or more dimensions of float, double, cfloat or "
            "cdouble types"
        )
    rtol = rcond if rtol is None else rtol
    for t, what in ((atol, "atol"), (rtol, "rcond" if rcond is not None else "rtol")):
        if hasattr(t, "_slot") and t.dtype.is_complex:
            raise RuntimeError(f"torch.linalg.pinv: {what} tensor of complex type is not supported. Got {t.dtype.scalar_name}")
    array = values(A)
    m, n = array.shape[-2:]
    if not array.size:
        result = creation.empty_of((*A.shape[:-2], n, m), A.dtype)
    elif hermitian:
        square("linalg.pinv", A)
        s, u = np.linalg.eigh(array)
        size = np.abs(s)
        keep = size > np.asarray(tolerances("pinv", atol, rtol, size.max(-1), A.shape, A.dtype))[..., None]
        scaled = u * np.divide(1, s, out=np.zeros_like(s), where=keep)[..., None, :]
        result = creation.from_array(scaled @ u.swapaxes(-1, -2).conj(), A.dtype)
    else:
        u, s, vh = np.linalg.svd(array, full_matrices=False)
        keep = s > np.asarray(tolerances("pinv", atol, rtol, s.max(-1), A.shape, A.dtype))[..., None]
        scaled = vh.swapaxes(-1, -2).conj() * np.divide(1, s, out=np.zeros_like(s), where=keep)[..., None, :]
        result = creation.from_array(scaled @ u.swapaxes(-1, -2).conj(), A.dtype)
    record(pinv_op, [A], [result], saves=0b11)
    return result


@function(method=True)
def pinverse(input, rcond=1e-15):
    """`tapegrad.linalg.pinv`."""
    return pinv(input, rcond)


@structural("linalg_lstsq", "LinalgLstsq")
def lstsq_op(node, g, g_residuals, *_):
    """Through X = A^+ B: gB = A^+H g, and A by way of g B^H, the gradient of A^+."""
    a, b = node.inputs
    vector = node.attributes.vector
    if vector:
        b = b.unsqueeze(-1)
    p = pinv(a)
    g_a = g_b = None
    if g is not None:
        g = g.unsqueeze(-1) if vector else g
        g_b = p.mH @ g
        g_a = pinv_gradient(a, p, g @ b.mH) if a.requires_grad else None
    if g_residuals is not None and g_residuals.numel():
        # |A X - B|^2, where X is optimal: its own change does not count.
        x = p @ b
        difference = (a @ x - b) * (2 * g_residuals.unsqueeze(-2))
        g_a = difference @ x.mH if g_a is None else g_a + difference @ x.mH
        g_b = -difference if g_b is None else g_b - difference
    return g_a, g_b.squeeze(-1) if vector and g_b is not None else g_b


LstsqResult = return_type("linalg_lstsq", "solution", "residuals", "rank", "singular_values")


@with_out
def lstsq(A, B, rcond=None, *, driver=None):
    """(X of least |A X - B|, residuals, rank, singular values); residuals only for m > n and full rank.

    `driver`: "gelsy" (pivoted QR, the default), "gels" (QR, full rank), "gelsd" or "gelss" (singular values).
    """
    name = "torch.linalg.lstsq"
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if B.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype {A.dtype.scalar_name} and other's dtype {B.dtype.scalar_name}")
    gap = A.ndim - B.ndim
    if not 0 <= gap <= 1:
        raise RuntimeError(f"{name}: input.dim() must be greater or equal to other.dim() and (input.dim() - other.dim()) <= 1")
    vector = is_vector(A, B) if B.ndim == 1 else gap == 1 and tuple(B.shape) == tuple(A.shape[:-1])
    rows = -1 if vector else -2
    if gap == 1 and not vector or A.shape[-2] != B.shape[rows]:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size({-1 if gap else -2})")
    driver = "gelsy" if driver is None else driver
    if driver not in lapack.DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    floating(name, A)
    A, B = broadcast_vectors(A, B) if vector else broadcast_batches(A, B)
    m, n = A.shape[-2:]
    rcond = np.finfo(A.dtype.numpy).eps * max(m, n) if rcond is None else rcond
    a, b = values(A), values(B)[..., None] if vector else values(B)
    x, rank, s = lapack.lstsq(a, b, driver, rcond)
    residuals = np.zeros(0, s.dtype)
    if m > n and driver != "gelsy" and (rank == n).all():
        residuals = (np.abs(a @ x - b) ** 2).sum(-2)
    outputs = (
        creation.from_array(x[..., 0], A.dtype) if vector else column_major(x, A.dtype),
        creation.from_array(residuals),
        creation.from_array(rank if driver != "gels" else np.zeros(0, np.int64), dtypes.int64),
        creation.from_array(s if driver in ("gelsd", "gelss") else np.zeros(0, s.dtype)),
    )
    record(lstsq_op, [A, B], outputs, plans.Parameters(lstsq_op, vector=vector), saves=0b11, differentiable=0b11)
    return LstsqResult(*outputs)
