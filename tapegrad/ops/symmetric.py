"""Symmetric indefinite matrices: A = L D L^T with D of 1 x 1 and 2 x 2 blocks, and systems with it.  PyTorch has no derivatives for them."""

from __future__ import annotations

import numpy as np

from tapegrad import dtypes
from tapegrad.autograd import underived
from tapegrad.autograd.node import record
from tapegrad.ops import lapack
from tapegrad.ops.matrix_checks import broadcast_batches, column_major, floating, row_numbers, square, values, with_out
from tapegrad.ops.outputs import return_type
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import int32

LdlFactorResult = return_type("linalg_ldl_factor", "LD", "pivots")
LdlFactorExResult = return_type("linalg_ldl_factor_ex", "LD", "pivots", "info")


@structural("linalg_ldl_factor_ex", "LinalgLdlFactorEx")
def ldl_factor_op(node, *_):
    """Refused when it is asked for."""
    raise RuntimeError("derivative for aten::linalg_ldl_factor_ex is not implemented")


def in_blocks(pivots: np.ndarray) -> None:
    """Refuse pivots whose negative ones do not come in pairs, one for each row of a block of two: LAPACK would swap rows that are not there."""
    for row in pivots.reshape(-1, pivots.shape[-1]).tolist():
        starts = iter(row)
        if any(p < 0 and next(starts, 1) > 0 for p in starts):
            raise RuntimeError("Pivots given to ldl_solve must be negative in pairs. Did you properly pass the result of ldl_factor?")


def factored(name, A, hermitian, check_errors):
    square("torch.linalg.ldl_factor_ex", A)
    floating("torch.linalg.ldl_factor_ex", A)
    packed, pivots, info = lapack.ldl(values(A), hermitian)
    if check_errors and info.any():
        raise RuntimeError(f"{name}: Unknown error code: {int(info[info != 0][0])}.")
    outputs = column_major(packed, A.dtype), int32(pivots), int32(info)
    record(ldl_factor_op, [A], outputs, differentiable=1)
    return LdlFactorExResult(*outputs)


@with_out
def ldl_factor_ex(A, *, hermitian=False, check_errors=False):
    """(LD, pivots, info) with A = L D L^T, or L D L^H if `hermitian`, for symmetric (Hermitian) A (..., n, n), of which the lower triangle is read.

    Packed as LAPACK's sytrf leaves them; info counts from 1 the first zero block of D, else it is 0.
    """
    return factored("torch.linalg.ldl_factor_ex", A, hermitian, check_errors)


@with_out
def ldl_factor(A, *, hermitian=False):
    """`ldl_factor_ex` without info; a zero block of D is an error."""
    return LdlFactorResult(*factored("torch.linalg.ldl_factor", A, hermitian, True)[:2])


@with_out
def ldl_solve(LD, pivots, B, *, hermitian=False):
    """X (..., n, k) with A X = B for the A that `ldl_factor` gave (LD, pivots) for.

    >>> import tapegrad as tg
    >>> LD, pivots = tg.linalg.ldl_factor(tg.tensor([[0.0, 2.0], [2.0, 0.0]]))
    >>> tg.linalg.ldl_solve(LD, pivots, tg.tensor([[2.0], [4.0]]))
    tensor([[2.],
            [1.]])
    """
    name = "torch.linalg.ldl_solve"
    square(name, LD, "LD")
    floating(name, LD)
    if B.ndim < 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-max(B.ndim, 1)}, {max(B.ndim, 1) - 1}], but got -2)")
    if LD.shape[-1] != B.shape[-2]:
        raise RuntimeError(
            f"Incompatible matrix sizes for {name}: each A matrix is {LD.shape[-1]} by {LD.shape[-1]} but each b matrix is {B.shape[-2]} by {B.shape[-1]}"
        )
    if tuple(LD.shape[:-1]) != tuple(pivots.shape):
        raise RuntimeError(f"{name}: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape {list(pivots.shape)} instead")
    if pivots.dtype.category != dtypes.INTEGER:
        raise RuntimeError(f"{name}: Expected pivots to be integers. Got {pivots.dtype.scalar_name}")
    if LD.dtype is not B.dtype:
        raise RuntimeError(
            f"Expected b and A to have the same dtype, but found b of type {B.dtype.scalar_name} and A of type {LD.dtype.scalar_name} instead."
        )
    LD, B = broadcast_batches(LD, B)
    pivots = pivots.to(dtypes.int32).expand(*LD.shape[:-1])
    order = row_numbers(pivots, LD.shape[-2], "ldl_solve", "LD")
    in_blocks(order)
    x = column_major(lapack.ldl_solve(values(LD), order, values(B), hermitian), B.dtype)
    underived.unknown("linalg_ldl_solve", [LD, B], [x])
    return x
