"""What the linear algebra ops ask of their operands, in torch's words; `LinAlgError`; results laid out as LAPACK's."""

from __future__ import annotations

import functools
import inspect

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.geometry import contiguous_strides
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import EXACT, store
from tapegrad.ops.transformable import transformable
from tapegrad.out_rules import of_linalg
from tapegrad.overriding import handle, met


class _LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or an algorithm did not converge."""


_LinAlgError.__module__ = "tapegrad.linalg"
LinAlgError = _LinAlgError


def column_major(array, d=None):
    """A tensor with a copy of `array`, each matrix column-major."""
    d = d or dtypes.BY_NUMPY[array.dtype]
    *batch, m, n = array.shape
    steps = contiguous_strides((*batch, n, m))
    t = creation.empty_of(array.shape, d, (*steps[:-2], steps[-1], steps[-2]))
    if array.size:
        t._array()[...] = array
    return t


def values(x) -> np.ndarray:
    """The elements of a tensor for LAPACK; the array keeps the memory alive, so `x` may be a temporary."""
    plans.settled(x)
    return x.detach().numpy()


def row_numbers(pivots, rows: int, name: str, packed: str) -> np.ndarray:
    """The elements of `pivots` for LAPACK, which writes to the rows that they name: from 1 to `rows`, negative in blocks of `ldl_solve`."""
    found = values(pivots)
    signed = name == "ldl_solve"
    size = np.abs(found) if signed else found
    for wrong, symbol, words, bound in ((size < 1, ">=", "greater", 1), (size > rows, "<=", "smaller", f"{packed}.size(-2)")):
        if wrong.any():
            wanted = f"satisfy |pivot| {symbol} {bound}" if signed else f"be {words} or equal to {bound}"
            raise RuntimeError(f"Pivots given to {name} must all {wanted}. Did you properly pass the result of {name[:-5]}factor?")
    return found


def matrix(name, x, who="A"):
    from tapegrad.ops.views import tensor_argument

    tensor_argument(name, x, 1, who)
    if x.ndim < 2:
        raise RuntimeError(f"{name}: {'The input tensor ' if who in ('A', 'B') else ''}{who} must have at least 2 dimensions.")
    return x


def square(name, x, who="A"):
    matrix(name, x, who)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{name}: {who} must be batches of square matrices, but they are {x.shape[-2]} by {x.shape[-1]} matrices")
    return x


# Functions that leave it to the kernel of that name to refuse half precision.
KERNELS = {"linalg.cholesky": "cholesky_cpu", "linalg.det": "lu_cpu", "linalg.qr": "geqrf_cpu", "linalg.solve": "lu_cpu", "linalg.svd": "linalg_svd_cpu",
           "torch.linalg.ldl_factor_ex": "ldl_factor_kernel_cpu"}  # fmt: skip


def with_kernel(kernel, x):
    """Refuse what LAPACK has no routine for as torch's kernel of that name does."""
    if x.dtype.numpy.char not in "fdFD" or x.dtype.foreign:
        raise no_kernel(kernel, x.dtype)
    return x


def floating(name, x):
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {x.dtype.scalar_name}")
    if x.dtype.numpy.char not in "fdFD":
        if name in KERNELS:
            raise no_kernel(KERNELS[name], x.dtype)
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {x.dtype.scalar_name}")
    return x


def same_dtype(name, a, b, first="A", second="B"):
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{name}: Expected {first} and {second} to have the same dtype, but found {first} of type {a.dtype.scalar_name} and {second} of type "
            f"{b.dtype.scalar_name} instead"
        )


FAILURES = {
    "inv": "The diagonal element {} is zero, the inversion could not be completed because the input matrix is singular.",
    "solve": "The solver failed because the input matrix is singular.",
    "cholesky": "The factorization could not be completed because the input is not positive-definite (the leading minor of order {} is not "
    "positive-definite).",
    "eigh": "The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated eigenvalues (error code: {}).",
    "svd": "The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated singular values (error code: {}).",
}


def check_info(name, kind, info, error=_LinAlgError):
    """Raise for the first matrix of a batch that LAPACK reports."""
    bad = np.argwhere(np.atleast_1d(info).reshape(-1))
    if len(bad):
        at = int(bad[0, 0])
        where = f"(Batch element {at}): " if np.ndim(info) else ""
        raise error(f"{name}: {where}{FAILURES.get(kind, kind).format(int(np.reshape(info, -1)[at]))}")


def not_finite(name, array):
    if not np.isfinite(array).all():
        raise _LinAlgError(f"{name}: The algorithm failed to converge because the input matrix contained non-finite values.")


def broadcast_batches(*tensors, dims=2):
    """The tensors expanded to a common batch shape; the last `dims` dims are their own."""
    from tapegrad.geometry import broadcast_shapes

    batch = broadcast_shapes(*(tuple(t.shape[: t.ndim - dims]) for t in tensors))
    return [t if tuple(t.shape[: t.ndim - dims]) == batch else t.expand(*batch, *t.shape[t.ndim - dims :]) for t in tensors]


UNFOLDED = ("tensorinv", "tensorsolve")  # whose dims are all of the equation


def with_out(f):
    """Give a function `out=`: a tensor, or a tuple of them for several results.

    Functions of one tensor `A`, the first argument, take any number of leading dims as they are, so a batch of vmap too.
    """

    @transformable("first_leading" if f.__name__ not in UNFOLDED and next(iter(inspect.signature(f).parameters)) == "A" else None)
    @functools.wraps(f)
    def run(*args, out=None, **kwargs):
        found = met((*args, out), kwargs)
        if found is not None:
            return handle(run, found, args, kwargs if out is None else {**kwargs, "out": out})
        result = f(*args, **kwargs)
        if out is None:
            return result
        if isinstance(result, tuple):
            return store(f.__name__, result, out, None if f.__name__ in ("eig", "geqrf", "lstsq") else EXACT)
        name = f.__name__.removesuffix("_legacy")
        name = name if name != f.__name__ else of_linalg(name)
        return store(name, result, out, None)

    return run
