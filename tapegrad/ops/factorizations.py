"""Factorizations of matrices into triangular ones: LU, Cholesky, QR; their derivatives.

The derivatives are the adjoints of the differentials, after M. Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008); those of wide and tall LU and of wide QR follow by splitting the matrix into blocks.
"""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.ops import lapack
from tapegrad.ops import plan as plans
from tapegrad.ops.matrix_checks import check_info, column_major, floating, matrix, square, values, with_kernel, with_out
from tapegrad.ops.outputs import return_type
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import int32, solve_triangular
from tapegrad.ops.transformable import look_at


def plus(a, b):
    """The sum of two gradients that may be missing."""
    return b if a is None else a if b is None else a + b


def eye_like(x, n):
    return creation.eye(n, dtype=x.dtype)


# --- LU -------------------------------------------------------------------------------------------------------------
def lu_gradient(p, lower, upper, g_lower, g_upper):
    """The gradient of A = P L U from those of L (strictly lower part) and U (upper part); P None stands for the identity."""
    m, n, k = lower.shape[-2], upper.shape[-1], lower.shape[-1]
    l1, u1 = lower.narrow(-2, 0, k), upper.narrow(-1, 0, k)
    phi_l = phi_u = None
    if g_lower is not None:
        phi_l = l1.mH @ g_lower.narrow(-2, 0, k)
        if m > k:
            l2, g2 = lower.narrow(-2, k, m - k), g_lower.narrow(-2, k, m - k)
            phi_u = -(l2.mH @ g2)
    if g_upper is not None:
        phi_u = plus(phi_u, g_upper.narrow(-1, 0, k) @ u1.mH)
        if n > k:
            u2, g_u2 = upper.narrow(-1, k, n - k), g_upper.narrow(-1, k, n - k)
            phi_l = plus(phi_l, -(g_u2 @ u2.mH))
    phi = plus(None if phi_l is None else phi_l.tril(-1), None if phi_u is None else phi_u.triu())
    result = solve_triangular(u1.mH, phi, upper=False, left=False)
    result = solve_triangular(l1.mH, result, upper=True, unitriangular=True)
    if m > k:
        below = solve_triangular(u1.mH, g2, upper=False, left=False) if g_lower is not None else result.new_zeros((*result.shape[:-2], m - k, k))
        result = joined([result, below], -2)
    if n > k:
        beside = solve_triangular(l1.mH, g_u2, upper=True, unitriangular=True) if g_upper is not None else result.new_zeros((*result.shape[:-2], k, n - k))
        result = joined([result, beside], -1)
    return result if p is None else p @ result


def joined(parts, dim):
    from tapegrad.ops.joining import cat

    return cat(parts, dim)


@structural("linalg_lu", "LinalgLu")
def lu_op(node, _, g_lower, g_upper):
    """A = P L U: P L^-H (tril(L^H gL, -1) + triu(gU U^H)) U^-H for square matrices, block by block for others."""
    if g_lower is None and g_upper is None:
        return None
    p, lower, upper = node.outputs
    return lu_gradient(p if node.attributes.pivot else None, lower, upper, g_lower, g_upper)


@structural("linalg_lu_factor_ex", "LinalgLuFactorEx")
def lu_factor_op(node, g, *_):
    """The same for L and U packed in one matrix."""
    packed, pivots = node.outputs[:2]
    a = node.attributes
    lower, upper = unpacked(packed)
    p = creation.from_array(lapack.permutation(values(pivots), packed.shape[-2]), packed.dtype) if a.pivot else None
    k = lower.shape[-1]
    return lu_gradient(p, lower, upper, g.narrow(-1, 0, k).tril(-1), g.narrow(-2, 0, k).triu())


def unpacked(packed):
    """(L, U) of packed factors, differentiable."""
    m, n = packed.shape[-2:]
    k = min(m, n)
    lower = packed.narrow(-1, 0, k).tril(-1) + creation.eye(m, k, dtype=packed.dtype)
    return lower, packed.narrow(-2, 0, k).triu()


LuResult = return_type("linalg_lu", "P", "L", "U")
LuFactorResult, LuFactorExResult = return_type("linalg_lu_factor", "LU", "pivots"), return_type("linalg_lu_factor_ex", "LU", "pivots", "info")
LuUnpackResult = return_type("lu_unpack", "P", "L", "U")


def check_lu(name, A):
    if A.ndim < 2:
        raise RuntimeError(f"{name}: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead")
    return with_kernel("lu_cpu", A)


def factored(A, pivot):
    return (lapack.lu if pivot else lapack.lu_without_pivots)(values(A))


@with_out
def lu(A, *, pivot=True):
    """(P, L, U) with A = P L U; P is empty if `pivot` is False."""
    check_lu("linalg.lu", A)
    packed, pivots, _ = factored(A, pivot)
    m, n = A.shape[-2:]
    k = min(m, n)
    p = creation.from_array(lapack.permutation(pivots, m), A.dtype) if pivot else creation.empty_of((0,), A.dtype)
    lower = creation.from_array(np.tril(packed[..., :k], -1) + np.eye(m, k), A.dtype)
    upper = creation.from_array(np.triu(packed[..., :k, :]), A.dtype)
    record(lu_op, [A], [p, lower, upper], plans.Parameters(lu_op, pivot=pivot), saves=0b1110, differentiable=0b110)
    return LuResult(p, lower, upper)


@with_out
def lu_factor_ex(A, *, pivot=True, check_errors=False):
    """(LU, pivots, info): L below and U on and above the diagonal of one matrix; row i was exchanged with row pivots[i], counted from 1."""
    check_lu("torch.lu_factor", A)
    packed, pivots, info = factored(A, pivot)
    if check_errors:
        refuse_zero_pivot("torch.linalg.lu_factor_ex", info)
    outputs = column_major(packed, A.dtype), int32(pivots), int32(info)
    record(lu_factor_op, [A], outputs, plans.Parameters(lu_factor_op, pivot=pivot), saves=0b0110, differentiable=1)
    return LuFactorExResult(*outputs)


ZERO_PIVOT = (
    "U[{0},{0}] is zero and using it on lu_solve would result in a division by zero. If you still want to perform the factorization, consider "
    "calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
)


def refuse_zero_pivot(name, info):
    check_info(name, ZERO_PIVOT, info, RuntimeError)


@with_out
def lu_factor(A, *, pivot=True):
    """`lu_factor_ex` without info; a zero pivot is an error."""
    packed, pivots, info = lu_factor_ex(A, pivot=pivot)
    refuse_zero_pivot("torch.linalg.lu_factor", info._array())
    return LuFactorResult(packed, pivots)


@function(name="lu", method=True)
def lu_legacy(A, pivot=True, get_infos=False, out=None):
    """(LU, pivots) or, with `get_infos`, (LU, pivots, info).  See `tapegrad.linalg.lu_factor`."""
    warn_once(
        "torch.lu is deprecated in favor of torch.linalg.lu_factor / torch.linalg.lu_factor_ex and will be removed in a future PyTorch release.\n"
        "LU, pivots = torch.lu(A, compute_pivots)\nshould be replaced with\nLU, pivots = torch.linalg.lu_factor(A, compute_pivots)\nand\n"
        "LU, pivots, info = torch.lu(A, compute_pivots, get_infos=True)\nshould be replaced with\n"
        "LU, pivots, info = torch.linalg.lu_factor_ex(A, compute_pivots)"
    )
    look_at("_lu_with_info", A, pivot=pivot, check_errors=not get_infos)
    packed, pivots, info = lu_factor_ex(A, pivot=pivot)
    if not get_infos:
        refuse_zero_pivot("torch.linalg.lu_factor_ex", info._array())
    return (packed, pivots, info) if get_infos else (packed, pivots)


@structural("lu_unpack", "LuUnpack")
def lu_unpack_op(node, _, g_lower, g_upper):
    """The strictly lower part of gL and the upper part of gU, in one matrix."""
    a = node.attributes
    m, n = a.shape[-2:]
    k = min(m, n)
    result = None
    if g_lower is not None:
        result = g_lower.tril(-1)
        result = joined([result, result.new_zeros((*a.shape[:-1], n - k))], -1) if n > k else result
    if g_upper is not None:
        part = g_upper.triu()
        result = plus(result, joined([part, part.new_zeros((*a.shape[:-2], m - k, n))], -2) if m > k else part)
    return result, None


@function()
@with_out
def lu_unpack(LU_data, LU_pivots, unpack_data=True, unpack_pivots=True):
    """(P, L, U) from the packed factors and pivots of `lu_factor`; what is not unpacked is empty."""
    if LU_pivots.dtype is not dtypes.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\n"
            "Note: this function is intended to be used with the output produced by torch.linalg.lu_factor"
        )
    data = values(LU_data)
    m, n = data.shape[-2:]
    k = min(m, n)
    empty = lambda: creation.empty_of((0,), LU_data.dtype)
    order = values(LU_pivots)
    if unpack_pivots and not ((order > 0) & (order <= m)).all():
        raise RuntimeError("pivots passed to lu_unpack must be between 1 and LU.size(-2) inclusive.Did you properly pass the result of lu_factor?")
    p = creation.from_array(lapack.permutation(order, m), LU_data.dtype) if unpack_pivots else empty()
    lower = creation.from_array(np.tril(data[..., :k], -1) + np.eye(m, k), LU_data.dtype) if unpack_data else empty()
    upper = creation.from_array(np.triu(data[..., :k, :]), LU_data.dtype) if unpack_data else empty()
    if unpack_data:
        record(lu_unpack_op, [LU_data, LU_pivots], [p, lower, upper], plans.Parameters(lu_unpack_op, shape=tuple(LU_data.shape)), differentiable=0b110)
    return LuUnpackResult(p, lower, upper)


# --- Cholesky -------------------------------------------------------------------------------------------------------
def cholesky_gradient(lower, g):
    """L^-H Phi(L^H gL) L^-1, where Phi puts half of the lower triangle above the diagonal too."""
    phi = (lower.mH @ g).tril()
    phi = (phi + phi.tril(-1).mH) / 2
    return solve_triangular(lower, solve_triangular(lower.mH, phi, upper=True), upper=False, left=False)


@structural("linalg_cholesky_ex", "LinalgCholeskyEx")
def cholesky_ex_op(node, g, _):
    """A = L L^H: L^-H Phi(L^H gL) L^-1; the transposed for A = U^H U."""
    factor = node.outputs[0]
    return cholesky_gradient(factor.mH, g.mH) if node.attributes.upper else cholesky_gradient(factor, g)


CholeskyExResult = return_type("linalg_cholesky_ex", "L", "info")


@with_out
def cholesky_ex(A, *, upper=False, check_errors=False):
    """(L, info) with A = L L^H, or A = L^H L with `upper`; info is the order of the first minor that is not positive definite, or 0."""
    return factor_positive("linalg.cholesky_ex", A, upper, check_errors)


def factor_positive(name, A, upper, check_errors, graph_name=None):
    square("linalg.cholesky", A)
    floating("linalg.cholesky", A)
    array = values(A)
    factor, info = lapack.cholesky(array.swapaxes(-1, -2).conj() if upper else array)
    if check_errors:
        check_info(name, "cholesky", info)
    factor = column_major(factor.swapaxes(-1, -2).conj() if upper else factor, A.dtype)
    outputs = factor, int32(info)
    record(cholesky_ex_op, [A], outputs, plans.Parameters(cholesky_ex_op, graph_name, upper=upper), saves=0b10, differentiable=1)
    return CholeskyExResult(*outputs)


@with_out
def cholesky(A, *, upper=False):
    """The lower L with A = L L^H for Hermitian positive definite A, or with `upper` its Hermitian transpose.

    >>> import tapegrad as tg
    >>> tg.linalg.cholesky(tg.tensor([[4.0, 2.0], [2.0, 2.0]]))
    tensor([[2., 0.],
            [1., 1.]])
    """
    return factor_positive("linalg.cholesky", A, upper, True).L


@function(name="cholesky", method=True)
@with_out
def cholesky_legacy(input, upper=False):
    """`tapegrad.linalg.cholesky`."""
    warn_once(
        "torch.cholesky is deprecated in favor of torch.linalg.cholesky and will be removed in a future PyTorch release.\nL = torch.cholesky(A)\n"
        "should be replaced with\nL = torch.linalg.cholesky(A)\nand\nU = torch.cholesky(A, upper=True)\nshould be replaced with\n"
        "U = torch.linalg.cholesky(A).mH\nThis transform will produce equivalent results for all valid (symmetric positive definite) inputs."
    )
    if not input.numel():
        return input.clone()
    if input.ndim < 2:
        raise RuntimeError("cholesky: The input tensor A must have at least 2 dimensions.")
    with_kernel("cholesky_cpu", square("cholesky", input))
    return factor_positive("cholesky", input, upper, True, "CholeskyBackward0").L


# --- QR -------------------------------------------------------------------------------------------------------------
@structural("linalg_qr", "LinalgQr")
def qr_op(node, g_q, g_r):
    """A = Q R: (gQ + Q copyltu(triu(gR R^H - Q^H gQ))) R^-H; a wide matrix is split into its square part and the rest."""
    a = node.attributes
    if a.mode == "r":
        raise RuntimeError(
            "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use linalg.qr(A, mode='reduced') if you are "
            "going to differentiate through linalg.qr."
        )
    q, r = node.outputs
    m, n = a.shape[-2:]
    if a.mode == "complete" and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    if m >= n:
        return qr_gradient(q, r, g_q, g_r)
    # A = (X Y), R = (U V) with X = Q U and V = Q^H Y.
    u, v = r.narrow(-1, 0, m), r.narrow(-1, m, n - m)
    g_u = g_v = None
    if g_r is not None:
        g_u, g_v = g_r.narrow(-1, 0, m), g_r.narrow(-1, m, n - m)
        g_q = plus(g_q, (q @ v) @ g_v.mH)
    g_x = qr_gradient(q, u, g_q, g_u)
    g_y = q @ g_v if g_v is not None else g_x.new_zeros((*g_x.shape[:-1], n - m))
    return joined([g_x, g_y], -1)


def qr_gradient(q, r, g_q, g_r):
    inner = None
    if g_r is not None:
        inner = g_r @ r.mH
    if g_q is not None:
        inner = plus(inner, -(q.mH @ g_q))
    inner = inner.triu()
    inner = inner + inner.mH - (inner.diagonal(0, -2, -1).real.diag_embed() if not inner.dtype.is_complex else _real_diagonal(inner))
    return solve_triangular(r.mH, plus(g_q, q @ inner), upper=False, left=False)


def _real_diagonal(x):
    return x.diagonal(0, -2, -1).real.to(x.dtype).diag_embed()


QrResult = return_type("linalg_qr", "Q", "R")


@with_out
def qr(A, mode="reduced"):
    """(Q, R) with A = Q R, Q with orthonormal columns and R upper triangular; mode "complete" has a square Q, "r" an empty one."""
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    floating("linalg.qr", matrix("linalg.qr", A))
    q, r = lapack.qr(values(A), mode)
    outputs = creation.from_array(q, A.dtype) if mode == "r" else column_major(q, A.dtype), column_major(r, A.dtype)
    record(qr_op, [A], outputs, plans.Parameters(qr_op, mode=mode, shape=tuple(A.shape)), saves=0b110)
    return QrResult(*outputs)


QrLegacyResult = return_type("qr", "Q", "R")


@function(name="qr", method=True)
def qr_legacy(input, some=True, *, out=None):
    """`tapegrad.linalg.qr`, reduced if `some`, else complete."""
    warn_once(
        "torch.qr is deprecated in favor of torch.linalg.qr and will be removed in a future PyTorch release.\nThe boolean parameter 'some' has been "
        "replaced with a string parameter 'mode'.\nQ, R = torch.qr(A, some)\nshould be replaced with\n"
        "Q, R = torch.linalg.qr(A, 'reduced' if some else 'complete')"
    )
    return QrLegacyResult(*qr(input, "reduced" if some else "complete", out=out))
