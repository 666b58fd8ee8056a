"""Eigenvalues and singular values; their derivatives (Giles 2008, as in `factorizations`)."""

from __future__ import annotations

import numpy as np

from tapegrad import creation
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.factorizations import eye_like, plus
from tapegrad.ops.matrix_checks import LinAlgError, column_major, floating, matrix, not_finite, square, values, with_out
from tapegrad.ops.outputs import return_type
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import solve


# --- eigenvalues of symmetric matrices ------------------------------------------------------------------------------
@structural("linalg_eigh", "LinalgEigh")
def eigh_op(node, g_values, g_vectors):
    """A = V diag(L) V^H: V (diag(gL) + skew(V^H gV) / E) V^H with E_ij = L_j - L_i."""
    eigenvalues, v = node.outputs
    if g_vectors is None:
        return v @ (g_values.unsqueeze(-1) * v.mH)
    inner = v.mH @ g_vectors
    if inner.dtype.is_complex:
        check_gauge("linalg.eigh", "eigenvectors", inner)
    inner = (inner - inner.mH) / 2
    gaps = eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)
    off = inner / (gaps + eye_like(gaps, gaps.shape[-1]))
    off = off - off.diagonal(0, -2, -1).diag_embed()
    if g_values is not None:
        off = off + g_values.to(off.dtype).diag_embed()
    return v @ (off @ v.mH)


def check_gauge(name, what, inner):
    """A loss that depends on the phase of complex vectors has no gradient."""
    imaginary = np.imag(np.diagonal(values(inner), axis1=-2, axis2=-1))
    if not np.allclose(imaginary, 0, atol=1e-2):
        raise RuntimeError(
            f"{name}_backward: The {what} in the complex case are specified up to multiplication by e^{{i phi}}. The specified loss function "
            "depends on this quantity, so it is ill-defined."
        )


EighResult = return_type("linalg_eigh", "eigenvalues", "eigenvectors")


def check_uplo(UPLO):
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return UPLO.upper()


@with_out
def eigh(A, UPLO="L"):
    """(eigenvalues ascending, eigenvectors in columns) of Hermitian matrices, of which one triangle is read."""
    square("linalg.eigh", A)
    UPLO = check_uplo(UPLO)
    if A.dtype.numpy.char not in "fdFD":
        raise no_kernel("linalg_eigh_cpu", A.dtype)
    array = values(A)
    not_finite("linalg.eigh", array)
    eigenvalues, v = np.linalg.eigh(array, UPLO)
    outputs = creation.from_array(eigenvalues), column_major(v, A.dtype)
    record(eigh_op, [A], outputs, plans.Parameters(eigh_op), saves=0b110)
    return EighResult(*outputs)


@with_out
def eigvalsh(A, UPLO="L"):
    """The eigenvalues of Hermitian matrices, ascending."""
    return eigh(A, UPLO).eigenvalues


# --- eigenvalues of general matrices --------------------------------------------------------------------------------
@structural("linalg_eig", "LinalgEig")
def eig_op(node, g_values, g_vectors):
    """A = V diag(L) V^-1: V^-H (diag(gL) + (V^H gV - V^H V diag(V^H gV)) / E^*) V^H off and on the diagonal, E_ij = L_j - L_i.

    The columns of V have norm 1, which takes the part of gV along them away (Boeddeker et al. 2017, with the norm of LAPACK).
    """
    eigenvalues, v = node.outputs
    inner = None if g_values is None else g_values.diag_embed()
    if g_vectors is not None:
        along = v.mH @ g_vectors
        check_gauge("linalg_eig", "eigenvectors", along)
        gaps = (eigenvalues.unsqueeze(-2) - eigenvalues.unsqueeze(-1)).conj_physical() + creation.eye(v.shape[-1], dtype=v.dtype)
        norms = along.diagonal(0, -2, -1).real.to(v.dtype)
        off = (along - (v.mH @ v) * norms.unsqueeze(-2)) / gaps
        inner = plus(inner, off - off.diagonal(0, -2, -1).diag_embed())
    result = solve(v.mH, inner @ v.mH)
    return result if node.inputs[0].dtype.is_complex else result.real


EigResult = return_type("linalg_eig", "eigenvalues", "eigenvectors")


def decomposed(name, A):
    square(name, A)
    if not (A.dtype.is_floating_point or A.dtype.is_complex):
        raise RuntimeError(f"Unknown Complex ScalarType for {A.dtype.scalar_name}")
    if A.dtype.numpy.char not in "fdFD":
        raise no_kernel("linalg_eig_out_cpu", A.dtype)
    array = values(A)
    if not np.isfinite(array).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    d = A.dtype.to_complex()
    try:
        eigenvalues, v = np.linalg.eig(array)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"{name}: The algorithm failed to converge because the input matrix is ill-conditioned.") from error
    outputs = creation.from_array(eigenvalues.astype(d.numpy), d), column_major(v.astype(d.numpy), d)
    record(eig_op, [A], outputs, saves=0b110)
    return EigResult(*outputs)


@with_out
def eig(A):
    """(eigenvalues, eigenvectors of norm 1 in columns) of square matrices (..., n, n), in no special order and always complex.

    A derivative through the eigenvectors needs distinct eigenvalues, and a loss that does not depend on the phase of each vector.

    >>> import tapegrad as tg
    >>> tg.linalg.eig(tg.tensor([[0.0, -1.0], [1.0, 0.0]])).eigenvalues
    tensor([0.+1.j, 0.-1.j])
    """
    return decomposed("linalg.eig", A)


@with_out
def eigvals(A):
    """The eigenvalues of square matrices, complex and in no special order."""
    return decomposed("linalg.eigvals", A).eigenvalues


# --- singular values ------------------------------------------------------------------------------------------------
@structural("linalg_svd", "LinalgSvd")
def svd_op(node, g_u, g_s, g_vh):
    """A = U diag(S) V^H: U (skew(U^H gU) S / E + S skew(V^H gV) / E + gS) V^H with E_ij = S_j^2 - S_i^2, and what leaves the column spaces."""
    u, s, vh = node.outputs
    k = s.shape[-1]
    m, n = u.shape[-2], vh.shape[-1]
    u, vh = u.narrow(-1, 0, k), vh.narrow(-2, 0, k)
    g_u, g_vh = None if g_u is None else g_u.narrow(-1, 0, k), None if g_vh is None else g_vh.narrow(-2, 0, k)
    if g_u is None and g_vh is None:
        return (u * g_s.unsqueeze(-2)) @ vh
    squares = s * s
    gaps = squares.unsqueeze(-2) - squares.unsqueeze(-1) + eye_like(s, k)
    inner = None
    if g_u is not None:
        x = u.mH @ g_u
        inner = (x - x.mH) / gaps * s.unsqueeze(-2)
    if g_vh is not None:
        y = vh @ g_vh.mH
        inner = plus(inner, s.unsqueeze(-1) * ((y - y.mH) / gaps))
    if inner.dtype.is_complex:
        total = (x if g_u is not None else 0) + (y if g_vh is not None else 0)
        check_gauge("linalg.svd", "singular vectors", total)
        x = x - x.mH if g_u is not None else y - y.mH
        inner = inner - inner.diagonal(0, -2, -1).diag_embed() + (x.diagonal(0, -2, -1) / (2 * s)).diag_embed() * (1 if g_u is not None else 0)
    if g_s is not None:
        inner = inner + g_s.to(inner.dtype).diag_embed()
    result = u @ inner
    if g_u is not None and m > k:
        scaled = g_u / s.unsqueeze(-2)
        result = result + scaled - u @ (u.mH @ scaled)
    result = result @ vh
    if g_vh is not None and n > k:
        scaled = g_vh / s.unsqueeze(-1)
        result = result + u @ (scaled - (scaled @ vh.mH) @ vh)
    return result


SvdResult, SvdLegacyResult = return_type("linalg_svd", "U", "S", "Vh"), return_type("svd", "U", "S", "V")


@with_out
def svd(A, full_matrices=True, *, driver=None):
    """(U, S, Vh) with A = U diag(S) Vh, S descending; without `full_matrices` U and Vh have min(m, n) columns and rows.

    The gradient through U or Vh is infinite where singular values coincide; through S it is always finite.
    """
    matrix("linalg.svd", A)
    floating("linalg.svd", A)
    if driver is not None:
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")
    array = values(A)
    not_finite("linalg.svd", array)
    u, s, vh = np.linalg.svd(array, full_matrices=full_matrices)
    outputs = column_major(u, A.dtype), creation.from_array(s), column_major(vh, A.dtype)
    record(svd_op, [A], outputs, plans.Parameters(svd_op), saves=0b1110)
    return SvdResult(*outputs)


@with_out
def svdvals(A, *, driver=None):
    """The singular values, descending."""
    return svd(A, False, driver=driver).S


@function(name="svd", method=True)
@with_out
def svd_legacy(input, some=True, compute_uv=True):
    """(U, S, V) with input = U diag(S) V^H; V is transposed against `tapegrad.linalg.svd`."""
    if input.ndim < 2:
        raise RuntimeError("linalg.svd: input should have at least 2 dimensions, but has " f"{input.ndim} dimensions instead")
    if not compute_uv:
        m, n = input.shape[-2:]
        batch = tuple(input.shape[:-2])
        return SvdLegacyResult(input.new_zeros((*batch, m, m)), svdvals(input), input.new_zeros((*batch, n, n)))
    u, s, vh = svd(input, not some)
    return SvdLegacyResult(u, s, vh.mH)
