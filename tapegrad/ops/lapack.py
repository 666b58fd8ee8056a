"""LAPACK on batches of NumPy matrices, (..., m, n): factorizations and solves as the linear algebra ops need them.

Nothing here knows tensors or derivatives.  Routines come from `scipy.linalg.lapack` by dtype; matrices of a batch are done one after the other.
Results are filled into arrays whose matrices are column-major, as LAPACK leaves them.  `info` is LAPACK's, per matrix: 0 is success.
"""

from __future__ import annotations

import functools

import numpy as np

LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}


@functools.cache
def routine(name: str, char: str):
    """The routine for a dtype character; `orgqr` and its kind are called `ungqr` for complex matrices."""
    from scipy.linalg import blas, lapack

    if char in "FD" and name.startswith("or"):
        name = "un" + name[2:]
    return getattr(blas if name == "trsm" else lapack, LETTERS[char] + name)


def columns(shape, dtype) -> np.ndarray:
    """An array of the shape whose matrices are column-major."""
    return np.empty((*shape[:-2], shape[-1], shape[-2]), dtype).swapaxes(-1, -2)


def lu(a):
    """(LU packed, pivots counted from 1, info) of P A = L U, by getrf."""
    m, n = a.shape[-2:]
    packed, pivots = columns(a.shape, a.dtype), np.empty((*a.shape[:-2], min(m, n)), np.int32)
    info = np.zeros(a.shape[:-2], np.int32)
    if a.size:
        getrf = routine("getrf", a.dtype.char)
        for k in np.ndindex(a.shape[:-2]):
            packed[k], p, info[k] = getrf(a[k])
            pivots[k] = p + 1
    return packed, pivots, info


def lu_without_pivots(a):
    """The same with no exchange of rows."""
    packed = columns(a.shape, a.dtype)
    packed[...] = a
    m, n = a.shape[-2:]
    info = np.zeros(a.shape[:-2], np.int32)
    with np.errstate(all="ignore"):
        for k in range(min(m, n)):
            pivot = packed[..., k, k]
            info[(pivot == 0) & (info == 0)] = k + 1
            packed[..., k + 1 :, k] /= pivot[..., None]
            packed[..., k + 1 :, k + 1 :] -= packed[..., k + 1 :, k, None] * packed[..., None, k, k + 1 :]
    pivots = np.broadcast_to(np.arange(1, min(m, n) + 1, dtype=np.int32), (*a.shape[:-2], min(m, n))).copy()
    return packed, pivots, info


def permutation(pivots, m: int):
    """The matrices P of A = P L U from getrf's pivots."""
    p = np.zeros((*pivots.shape[:-1], m, m))
    for k in np.ndindex(pivots.shape[:-1]):
        order = np.arange(m)
        for i, j in enumerate(pivots[k]):
            order[[i, j - 1]] = order[[j - 1, i]]
        p[(*k, order, np.arange(m))] = 1
    return p


def lu_solve(packed, pivots, b, trans: int = 0):
    """X of A X = B (trans 0), A^T X = B (1) or A^H X = B (2), by getrs."""
    x = columns(b.shape, b.dtype)
    if b.size:
        getrs = routine("getrs", b.dtype.char)
        for k in np.ndindex(b.shape[:-2]):
            x[k], _ = getrs(packed[k], pivots[k] - 1, b[k], trans=trans)
    return x


def triangular(a, b, upper: bool, left: bool, unit: bool):
    """X of A X = B, or of X A = B, with A triangular, by trsm: zeros on the diagonal give infinities."""
    x = columns(b.shape, b.dtype)
    if b.size:
        trsm = routine("trsm", b.dtype.char)
        for k in np.ndindex(b.shape[:-2]):
            x[k] = trsm(1.0, a[k], b[k], side=not left, lower=not upper, diag=unit)
    return x


def cholesky(a):
    """(L, info) of A = L L^H, by potrf; only the lower triangle of A is read."""
    result, info = columns(a.shape, a.dtype), np.zeros(a.shape[:-2], np.int32)
    if a.size:
        potrf = routine("potrf", a.dtype.char)
        for k in np.ndindex(a.shape[:-2]):
            result[k], info[k] = potrf(a[k], lower=1, clean=1)
    return result, info


def ldl(a, hermitian: bool):
    """(L and D packed, pivots, info) of A = L D L^T (L D L^H) by sytrf (hetrf); the lower triangle of A is read."""
    packed, pivots = columns(a.shape, a.dtype), np.zeros(a.shape[:-1], np.int32)
    info = np.zeros(a.shape[:-2], np.int32)
    if a.size:
        name = "hetrf" if hermitian and a.dtype.char in "FD" else "sytrf"
        run, size = routine(name, a.dtype.char), routine(name + "_lwork", a.dtype.char)(a.shape[-1], lower=1)[0]
        for k in np.ndindex(a.shape[:-2]):
            packed[k], pivots[k], info[k] = run(np.tril(a[k]), lower=1, lwork=int(size.real))
    return packed, pivots, info


def ldl_solve(packed, pivots, b, hermitian: bool):
    """X of A X = B with the factors of `ldl`, by sytrs (hetrs)."""
    x = columns(b.shape, b.dtype)
    if b.size:
        run = routine("hetrs" if hermitian and b.dtype.char in "FD" else "sytrs", b.dtype.char)
        for k in np.ndindex(b.shape[:-2]):
            x[k], _ = run(packed[k], pivots[k], b[k], lower=1)
    return x


def geqrf(a):
    """(reflectors below R, their factors tau)."""
    m, n = a.shape[-2:]
    packed, tau = columns(a.shape, a.dtype), np.zeros((*a.shape[:-2], min(m, n)), a.dtype)
    if a.size:
        run = routine("geqrf", a.dtype.char)
        for k in np.ndindex(a.shape[:-2]):
            packed[k], tau[k], _, _ = run(a[k])
    return packed, tau


def householder(packed, tau, count: int):
    """The first `count` columns of the product of the reflectors (m, n)."""
    m, n = packed.shape[-2:]
    q = columns((*packed.shape[:-2], m, count), packed.dtype)
    q[...] = np.eye(m, count, dtype=packed.dtype)
    if not q.size or not tau.shape[-1]:
        return q
    orgqr = routine("orgqr", packed.dtype.char)
    for k in np.ndindex(packed.shape[:-2]):
        whole = np.zeros((m, count), packed.dtype, "F")
        kept = min(n, count, tau.shape[-1])
        whole[:, :kept] = packed[k][:, :kept]
        q[k], _, _ = orgqr(whole, tau[k][:kept])
    return q


def qr(a, mode: str):
    """(Q, R), reduced or complete; Q is empty in mode "r"."""
    m, n = a.shape[-2:]
    packed, tau = geqrf(a)
    rows = m if mode == "complete" else min(m, n)
    r = columns((*a.shape[:-2], rows, n), a.dtype)
    r[...] = np.triu(packed[..., :rows, :])
    return (np.empty(0, a.dtype) if mode == "r" else householder(packed, tau, rows)), r


DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(a, b, driver: str, rcond: float):
    """(X of least |A X - B|, rank, singular values) by the LAPACK routine `driver`."""
    m, n = a.shape[-2:]
    batch, small = a.shape[:-2], min(m, n)
    x = np.zeros((*batch, n, b.shape[-1]), b.dtype)
    rank = np.zeros(batch, np.int64)
    values = np.zeros((*batch, small), np.empty(0, a.dtype).real.dtype)
    if not a.size or not b.size:
        return x, rank, values
    run = routine(driver, a.dtype.char)
    for k in np.ndindex(batch):
        right = np.zeros((max(m, n), b.shape[-1]), b.dtype, "F")
        right[:m] = b[k]
        if driver == "gels":
            _, found, _ = run(a[k], right)
            rank[k] = small
        elif driver == "gelsy":
            size = routine("gelsy_lwork", a.dtype.char)(m, n, b.shape[-1], rcond)
            _, found, _, rank[k], _ = run(a[k], right, np.zeros((n, 1), np.int32), rcond, int(size[0].real))
        elif driver == "gelss":
            size = routine("gelss_lwork", a.dtype.char)(m, n, b.shape[-1], rcond)
            _, found, values[k], rank[k], _, _ = run(a[k], right, rcond, int(size[0].real))
        else:
            found, values[k], rank[k] = by_gelsd(run, a[k], right, rcond)
        x[k] = found[:n]
    return x, rank, values


def by_gelsd(run, a, right, rcond):
    sizes = routine("gelsd_lwork", a.dtype.char)(*a.shape, right.shape[1], rcond)
    if a.dtype.char in "FD":
        found, values, rank, _ = run(a, right, int(sizes[0].real), int(sizes[1]), int(sizes[2]), rcond)
    else:
        found, values, rank, _ = run(a, right, int(sizes[0]), int(sizes[1]), rcond)
    return found, values, rank
