"""Linear systems: solve, triangular and factored systems, inverses; their derivatives.

With X = A^-1 B the differential is dX = A^-1 (dB - dA X), so gB = A^-H gX and gA = -gB X^H; the others follow from it.
"""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.ops import lapack
from tapegrad.ops import plan as plans
from tapegrad.ops.matrix_checks import (
    broadcast_batches,
    check_info,
    column_major,
    floating,
    matrix,
    row_numbers,
    same_dtype,
    square,
    values,
    with_kernel,
    with_out,
)
from tapegrad.ops.outputs import return_type
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import Unhandled, transformable


def int32(array):
    return creation.from_array(np.asarray(array, np.int32), dtypes.int32)


# --- general systems ------------------------------------------------------------------------------------------------
@structural("linalg_inv_ex", "LinalgInvEx")
def inv_ex_op(node, g, _):
    """-Y^H g Y^H for the inverse Y."""
    y = node.outputs[0].mH
    return -(y @ (g @ y))


InvExResult, SolveExResult = return_type("linalg_inv_ex", "inverse", "info"), return_type("linalg_solve_ex", "result", "info")


def inverse(name, A, check_errors):
    square("linalg.inv", A)
    floating("linalg.inv", A)
    packed, pivots, info = lapack.lu(values(A))
    if check_errors:
        check_info(name, "inv", info)
    unit = np.broadcast_to(np.eye(A.shape[-1], dtype=packed.dtype), packed.shape)
    outputs = column_major(lapack.lu_solve(packed, pivots, unit), A.dtype), int32(info)
    record(inv_ex_op, [A], outputs, saves=0b10, differentiable=1)
    return InvExResult(*outputs)


@with_out
def inv_ex(A, *, check_errors=False):
    """(inverse, info): info counts from 1 the first zero pivot of a singular matrix, else it is 0."""
    return inverse("linalg.inv_ex", A, check_errors)


@function(name="inverse", method=True)
@with_out
def inv(A):
    """The inverse of square matrices; `LinAlgError` for a singular one.

    >>> import tapegrad as tg
    >>> tg.linalg.inv(tg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return inverse("linalg.inv", A, True).inverse


@structural("linalg_solve_ex", "LinalgSolveEx")
def solve_ex_op(node, g, _):
    """A X = B: gB = A^-H g, gA = -gB X^H; X A = B: gB = g A^-H, gA = -X^H gB."""
    a, x = node.inputs[0], node.outputs[0]
    attributes = node.attributes
    if attributes.vector:
        g, x = g.unsqueeze(-1), x.unsqueeze(-1)
    g_b = solve_ex(a.mH, g, left=attributes.left).result
    g_a = None
    if a.requires_grad:
        g_a = -(g_b @ x.mH) if attributes.left else -(x.mH @ g_b)
    return g_a, g_b.squeeze(-1) if attributes.vector else g_b


def is_vector(A, B) -> bool:
    """Whether B holds right-hand sides that are vectors, one per matrix of A."""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape[:-1]))


def fitting(name, A, B, left):
    """Refuse right-hand sides whose rows (columns, for X A = B) do not match."""
    if (A.shape[-2] if left else A.shape[-1]) != (B.shape[-2] if left else B.shape[-1]):
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} ({A.shape[-2]}x{A.shape[-1]} and "
            f"{B.shape[-2]}x{B.shape[-1]})"
        )


def solution(name, A, B, left, check_errors):
    square("linalg.solve", A)
    floating("linalg.solve", A)
    same_dtype("linalg.solve", A, B)
    vector = B.ndim > 0 and is_vector(A, B)
    if vector and not left:
        raise RuntimeError(
            "linalg.solve: Vector broadcasting of the left hand side is not supported for left=False. In this case linalg.solve is equivalent to "
            "B / A.squeeze(-1)"
        )
    if vector:
        if B.shape[-1] != A.shape[-1]:
            raise RuntimeError(
                f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({A.shape[-2]}x{A.shape[-1]} and {B.shape[-1]}x1)"
            )
        A, B = broadcast_vectors(A, B)
    else:
        fitting("linalg.solve", A, matrix("linalg.solve", B, "B"), left)
        A, B = broadcast_batches(A, B)
    a, b = values(A), values(B)[..., None] if vector else values(B)
    if left:
        packed, pivots, info = lapack.lu(a)
        x = lapack.lu_solve(packed, pivots, b)
    else:
        packed, pivots, info = lapack.lu(a.swapaxes(-1, -2))
        x = lapack.lu_solve(packed, pivots, b.swapaxes(-1, -2)).swapaxes(-1, -2)
    if check_errors:
        check_info(name, "solve", info)
    result = creation.from_array(x[..., 0], A.dtype) if vector else column_major(x, A.dtype) if left else creation.from_array(x, A.dtype)
    outputs = result, int32(info)
    record(solve_ex_op, [A, B], outputs, plans.Parameters(solve_ex_op, left=left, vector=vector), saves=0b101, differentiable=1)
    return SolveExResult(*outputs)


def broadcast_vectors(A, B):
    from tapegrad.geometry import broadcast_shapes

    batch = broadcast_shapes(tuple(A.shape[:-2]), tuple(B.shape[:-1]))
    return A.expand(*batch, *A.shape[-2:]) if tuple(A.shape[:-2]) != batch else A, B.expand(*batch, B.shape[-1])


@with_out
def solve_ex(A, B, *, left=True, check_errors=False):
    """(X, info) with A X = B; info counts from 1 the first zero pivot of a singular matrix, else it is 0."""
    return solution("torch.linalg.solve_ex", A, B, left, check_errors)


def solve_samples(level, f, A, B, *, left=True, out=None):
    """The batch rule of solve: vectors as matrices of one column."""
    if is_vector(A, B) and left:
        return level.wrap(f(level.spread(A), level.spread(B).unsqueeze(-1)).squeeze(-1)) if A.ndim == 2 else f(A, B.unsqueeze(-1)).squeeze(-1)
    if A.ndim < 2 or B.ndim < 2:
        raise Unhandled
    rank = max(A.ndim, B.ndim)
    return level.wrap(f(level.aligned(A, rank), level.aligned(B, rank), left=left))


@transformable(solve_samples)
@with_out
def solve(A, B, *, left=True):
    """X with A X = B, or with X A = B if not `left`; B holds matrices or, with one dim less than A, vectors.

    >>> import tapegrad as tg
    >>> tg.linalg.solve(tg.tensor([[2.0, 0.0], [0.0, 4.0]]), tg.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    return solution("torch.linalg.solve", A, B, left, True).result


# --- triangular and factored systems --------------------------------------------------------------------------------
@structural("linalg_solve_triangular", "LinalgSolveTriangular")
def solve_triangular_op(node, g):
    """The derivative of `solve`, of which A gets the triangle that was read."""
    a, x = node.inputs[0], node.outputs[0]
    p = node.attributes
    g_b = solve_triangular(a.mH, g, upper=not p.upper, left=p.left, unitriangular=p.unit)
    g_a = None
    if a.requires_grad:
        g_a = -(g_b @ x.mH) if p.left else -(x.mH @ g_b)
        g_a = g_a.triu(int(p.unit)) if p.upper else g_a.tril(-int(p.unit))
    return g_a, g_b


@with_out
def solve_triangular(A, B, *, upper, left=True, unitriangular=False):
    """X with A X = B (X A = B if not `left`) for triangular A, whose other triangle, and diagonal if `unitriangular`, is not read.

    A zero on the diagonal is not looked for: the result has infinities.
    """
    matrix("linalg.solve_triangular", B, "B")
    same_dtype("linalg.solve_triangular", A, B)
    square("linalg.solve_triangular", A)
    fitting("linalg.solve_triangular", A, B, left)
    floating("linalg.solve_triangular", A)
    A, B = broadcast_batches(A, B)
    x = column_major(lapack.triangular(values(A), values(B), upper, left, unitriangular), A.dtype)
    plan = plans.Parameters(solve_triangular_op, upper=upper, left=left, unit=unitriangular)
    record(solve_triangular_op, [A, B], [x], plan, saves=0b101)
    return x


TriangularSolveResult = return_type("triangular_solve", "solution", "cloned_coefficient")


@function(method=True)
@with_out
def triangular_solve(b, A, upper=True, transpose=False, unitriangular=False):
    """(X, a copy of A) with A X = b.  See `tapegrad.linalg.solve_triangular`."""
    warn_once(
        "torch.triangular_solve is deprecated in favor of torch.linalg.solve_triangularand will be removed in a future PyTorch release.\n"
        "torch.linalg.solve_triangular has its arguments reversed and does not return a copy of one of the inputs.\n"
        "X = torch.triangular_solve(B, A).solution\nshould be replaced with\nX = torch.linalg.solve_triangular(A, B)."
    )
    if A.ndim < 2 or b.ndim < 2:
        which, name = (A, "A") if A.ndim < 2 else (b, "b")
        raise RuntimeError(
            f"torch.triangular_solve: Expected {name} to have at least 2 dimensions, but it has {which.ndim} dimensions instead"
        )
    with_kernel("triangular_solve_cpu", A)
    coefficient = A.mT if transpose else A
    x = solve_triangular(coefficient, b, upper=upper != transpose, unitriangular=unitriangular)
    return TriangularSolveResult(x, A.expand(*x.shape[:-2], *A.shape[-2:]).clone())


@structural("linalg_lu_solve", "LinalgLuSolve")
def lu_solve_op(node, g):
    """Through A = P L U: gB = A^-H g, G = -gB X^H, then gL = P^H G U^H below the diagonal and gU = L^H P^H G from it upwards."""
    packed, pivots = node.inputs[:2]
    x, p = node.outputs[0], node.attributes
    g_b = lu_solve(packed, pivots, g, left=p.left, adjoint=not p.adjoint)
    if not packed.requires_grad:
        return None, None, g_b
    big = -(g_b @ x.mH) if p.left else -(x.mH @ g_b)
    big = big.mH if p.adjoint else big
    order = creation.from_array(lapack.permutation(values(pivots), packed.shape[-1]), packed.dtype)
    inner = order.mH @ big
    unit = packed.tril(-1) + creation.eye(packed.shape[-1], dtype=packed.dtype)
    return (inner @ packed.triu().mH).tril(-1) + (unit.mH @ inner).triu(), None, g_b


@with_out
def lu_solve(LU, pivots, B, *, left=True, adjoint=False):
    """X with A X = B for the A that `lu_factor` gave (LU, pivots) for; with A^H if `adjoint`, X A = B if not `left`."""
    floating("torch.linalg.lu_solve", LU)
    same_dtype("linalg.lu_solve", LU, B, "LU")
    if pivots.dtype is not dtypes.int32:
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32")
    square("torch.linalg.lu_solve", LU, "LU")
    matrix("torch.linalg.lu_solve", B, "B")
    fitting("linalg.lu_solve", LU, B, left)
    if LU.shape[-1] != pivots.shape[-1]:
        raise RuntimeError("linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix")
    if tuple(LU.shape[:-2]) != tuple(pivots.shape[:-1]):
        raise RuntimeError(
            f"linalg.lu_solve: Expected LU.shape[:-1] and pivots.shape to be the same, but got pivots with shape {list(pivots.shape)} instead"
        )
    LU, B = broadcast_batches(LU, B)
    pivots = pivots.expand(*LU.shape[:-1])
    order = row_numbers(pivots, LU.shape[-2], "lu_solve", "LU")
    b = values(B) if left else values(B).swapaxes(-1, -2).conj()
    # X A = B is A^H X^H = B^H.
    trans = 2 if adjoint == left else 0
    x = lapack.lu_solve(values(LU), order, b, trans)
    x = column_major(x if left else x.swapaxes(-1, -2).conj(), LU.dtype)
    record(lu_solve_op, [LU, pivots, B], [x], plans.Parameters(lu_solve_op, left=left, adjoint=adjoint), saves=0b1011)
    return x


@function(name="lu_solve", method=True)
@with_out
def lu_solve_legacy(b, LU_data, LU_pivots):
    """`tapegrad.linalg.lu_solve` with its arguments in another order."""
    return lu_solve(LU_data, LU_pivots, b)


@structural("cholesky_solve", "CholeskySolve")
def cholesky_solve_op(node, g):
    """X = (L L^H)^-1 B: gB = (L L^H)^-1 g, gL = -(gB X^H + X gB^H) L, which takes L for triangular."""
    factor, x, upper = node.inputs[1], node.outputs[0], node.attributes.upper
    g_b = cholesky_solve(g, factor, upper)
    g_l = None
    if factor.requires_grad:
        both = g_b @ x.mH
        both = both + both.mH
        g_l = -(factor @ both) if upper else -(both @ factor)
    return g_b, g_l


@function(method=True)
@with_out
def cholesky_solve(B, L, upper=False):
    """X with A X = B for A = L L^H, or A = L^H L with `upper`."""
    matrix_b(B)
    if L.ndim < 2:
        raise RuntimeError(f"u should have at least 2 dimensions, but has {L.ndim} dimensions instead")
    if L.shape[-1] != L.shape[-2]:
        raise RuntimeError(f"A must be batches of square matrices, but they are {L.shape[-2]} by {L.shape[-1]} matrices")
    if L.shape[-2] != B.shape[-2]:
        raise RuntimeError(
            f"Incompatible matrix sizes for cholesky_solve: each A matrix is {L.shape[-1]} by {L.shape[-1]} but each b matrix is "
            f"{B.shape[-2]} by {B.shape[-1]}"
        )
    if L.dtype is not B.dtype:
        raise RuntimeError(f"Expected b and A to have the same dtype, but found b of type {B.dtype.scalar_name} and A of type {L.dtype.scalar_name} instead.")
    L, B = broadcast_batches(L, with_kernel("cholesky_solve_cpu", B))
    lower, b = values(L), values(B)
    lower = lower.swapaxes(-1, -2).conj() if upper else lower
    x = lapack.triangular(lower.swapaxes(-1, -2).conj(), lapack.triangular(lower, b, False, True, False), True, True, False)
    x = column_major(x, B.dtype)
    record(cholesky_solve_op, [B, L], [x], plans.Parameters(cholesky_solve_op, upper=upper), saves=0b110)
    return x


def matrix_b(B):
    if B.ndim < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {B.ndim} dimensions instead")


@structural("cholesky_inverse", "CholeskyInverse")
def cholesky_inverse_op(node, g):
    """X = (L L^H)^-1: gL = -X (g + g^H) X L."""
    factor, x = node.inputs[0], node.outputs[0]
    both = x @ ((g + g.mH) @ x)
    return -(factor @ both) if node.attributes.upper else -(both @ factor)


@function(method=True)
@with_out
def cholesky_inverse(L, upper=False):
    """The inverse of L L^H, or of L^H L with `upper`."""
    with_kernel("cholesky_inverse_out_cpu", square("cholesky_inverse", L))
    lower = values(L)
    lower = lower.swapaxes(-1, -2).conj() if upper else lower
    zeros = np.diagonal(lower, 0, -2, -1) == 0
    check_info("cholesky_inverse", "inv", np.where(zeros.any(-1), zeros.argmax(-1) + 1, 0) if lower.size else 0)
    unit = np.broadcast_to(np.eye(L.shape[-1], dtype=lower.dtype), lower.shape)
    x = lapack.triangular(lower.swapaxes(-1, -2).conj(), lapack.triangular(lower, unit, False, True, False), True, True, False)
    x = column_major(x, L.dtype)
    record(cholesky_inverse_op, [L], [x], plans.Parameters(cholesky_inverse_op, upper=upper), saves=0b11)
    return x
