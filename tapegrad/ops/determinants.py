"""Determinants and their logarithms, by LU; their derivatives, of singular matrices too."""

from __future__ import annotations

import numpy as np

from tapegrad import creation
from tapegrad.autograd.node import record
from tapegrad.ops import lapack
from tapegrad.ops.matrix_checks import floating, square, values, with_out
from tapegrad.ops.outputs import return_type, stored
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import solve_ex
from tapegrad.ops.spectra import svd


@structural("linalg_det", "LinalgDet")
def det_op(node, g):
    """g det A^-H; for a singular matrix the cofactors come from the singular values."""
    a, det = node.inputs[0], node.outputs[0]
    singular = values(det) == 0
    if not singular.any():
        return cofactors(a, det, g)
    if singular.all():
        return cofactors_of_singular(a, g)
    # Each matrix by its own formula: the other sees a matrix that it can do.
    from tapegrad.ops.choosing import where

    chosen = creation.from_array(singular)
    wide = chosen.unsqueeze(-1).unsqueeze(-1)
    n = a.shape[-1]
    regular = cofactors(where(wide, creation.eye(n, dtype=a.dtype), a), det, g)
    distinct = creation.from_array(np.diag(np.arange(1.0, n + 1)), a.dtype)
    return where(wide, cofactors_of_singular(where(wide, a, distinct), g), regular)


def cofactors(a, det, g):
    scaled = (g * det.conj_physical() if det.dtype.is_complex else g * det).unsqueeze(-1)
    return solve_ex(a.mH, scaled.expand(*a.shape[:-1]).diag_embed()).result


def cofactors_of_singular(a, g):
    """U diag(products of the other singular values) Vh, times det(U) det(Vh)."""
    from tapegrad.ops.reductions import ones_then

    u, s, vh = svd(a)
    rows = s.reshape(-1, s.shape[-1])
    others = (ones_then(rows, False) * ones_then(rows, True)).reshape(s.shape)
    sign = det(u) * det(vh)
    alpha = g * (sign.conj_physical() if sign.dtype.is_complex else sign)
    return (u * (alpha.unsqueeze(-1) * others).unsqueeze(-2)) @ vh


@function(method=True)
@with_out
def det(A):
    """The determinant of square matrices.

    >>> import tapegrad as tg
    >>> tg.linalg.det(tg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(-2.0000)
    """
    square("linalg.det", A)
    floating("linalg.det", A)
    packed, pivots, _ = lapack.lu(values(A))
    result = creation.from_array(np.asarray(parity(pivots) * diagonal(packed).prod(-1), packed.dtype))
    record(det_op, [A], [result], saves=0b11)
    return result


def parity(pivots):
    """The sign of the permutation."""
    moved = (pivots != np.arange(1, pivots.shape[-1] + 1)).sum(-1)
    return np.where(moved % 2, -1, 1)


def diagonal(packed):
    return np.diagonal(packed, axis1=-2, axis2=-1)


@structural("linalg_slogdet", "LinalgSlogdet")
def slogdet_op(node, g_sign, g_log):
    """A^-H g for log|det|; the sign of a real matrix has no derivative, that of a complex one has the phase's."""
    a = node.inputs[0]
    if a.dtype.is_complex:
        sign = node.outputs[0]
        total = g_log.to(a.dtype) if g_log is not None else 0
        if g_sign is not None:
            phase = g_sign * sign.conj_physical()
            total = total + (phase - phase.conj_physical()) / 2
    else:
        total = g_log
    if total is None:
        return a * 0
    return solve_ex(a.mH, total.unsqueeze(-1).expand(*a.shape[:-1]).diag_embed()).result


SlogdetResult, SlogdetLegacyResult = return_type("linalg_slogdet", "sign", "logabsdet"), return_type("slogdet", "sign", "logabsdet")


@with_out
def slogdet(A):
    """(sign, log|det|); sign 0 and -inf for a singular matrix."""
    square("linalg.slogdet", A)
    floating("linalg.slogdet", A)
    packed, pivots, _ = lapack.lu(values(A))
    pivot = diagonal(packed)
    with np.errstate(divide="ignore"):
        logarithm = np.log(np.abs(pivot)).sum(-1)
    sign = np.asarray(parity(pivots) * (np.sign(pivot) if pivot.dtype.kind != "c" else pivot / np.abs(pivot)).prod(-1), packed.dtype)
    outputs = creation.from_array(sign), creation.from_array(np.asarray(logarithm, np.abs(packed[..., :0, :0]).dtype))
    record(slogdet_op, [A], outputs, saves=0b011)
    return SlogdetResult(*outputs)


@function(name="slogdet", method=True)
@stored()
def slogdet_legacy(input):
    """`tapegrad.linalg.slogdet`."""
    return SlogdetLegacyResult(*slogdet(input))


@function(method=True)
def logdet(input):
    """The logarithm of the determinant; nan where it is negative."""
    from tapegrad.ops.choosing import where

    square("logdet", input)
    sign, logarithm = slogdet(input)
    if input.dtype.is_complex:
        return sign.log() + logarithm
    return where(sign == -1, creation.tensor(float("nan"), dtype=input.dtype), logarithm)
