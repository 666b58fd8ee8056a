"""Householder reflectors, in which `geqrf` leaves Q: their product, and its product with other matrices."""

from __future__ import annotations

from tapegrad import creation
from tapegrad.autograd import underived
from tapegrad.autograd.node import record
from tapegrad.ops import lapack
from tapegrad.ops.matrix_checks import column_major, matrix, values, with_kernel, with_out
from tapegrad.ops.outputs import return_type
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural

GeqrfResult = return_type("geqrf", "a", "tau")


@function(method=True)
@with_out
def geqrf(input):
    """(a, tau): R on and above the diagonal, Householder vectors below it with their factors; not differentiable."""
    with_kernel("geqrf_cpu", matrix("torch.geqrf", input, "input"))
    packed, tau = lapack.geqrf(values(input))
    result = GeqrfResult(column_major(packed, input.dtype), creation.from_array(tau, input.dtype))
    underived.not_implemented("geqrf", [input], result)
    return result


@function(name="orgqr", method=True)
def orgqr(input, tau):
    """`tapegrad.linalg.householder_product`."""
    return householder_product(input, tau)


@with_out
def householder_product(A, tau):
    """The first n columns of the product of reflectors I - tau_i v_i v_i^H, v_i below the diagonal of A with a 1 on it."""
    matrix("torch.linalg.householder_product", A, "input")
    m, n = A.shape[-2:]
    k = tau.shape[-1]
    if m < n:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if n < k:
        raise RuntimeError("torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if A.ndim - tau.ndim != 1:
        raise RuntimeError(
            "torch.linalg.householder_product: Expected tau to have one dimension less than input, but got tau.ndim equal to "
            f"{tau.ndim} and input.ndim is equal to {A.ndim}"
        )
    if tuple(tau.shape[:-1]) != tuple(A.shape[:-2]):
        raise RuntimeError(
            "torch.linalg.householder_product: Expected batch dimensions of tau to be equal to input.shape[:-2], but got "
            f"{list(tau.shape[:-1])}"
        )
    if tau.dtype is not A.dtype:
        raise RuntimeError(f"torch.linalg.householder_product: tau dtype {tau.dtype} does not match input dtype {A.dtype}")
    result = column_major(lapack.householder(values(A), values(tau), n), A.dtype)
    record(householder_product_op, [A, tau], [result], saves=0b11)
    return result


@structural("linalg_householder_product", "LinalgHouseholderProduct")
def householder_product_op(node, g):
    """Reflector by reflector: with X' = X - t v v^H X, gt = -v^H g X^H v, gv = -conj(t) g X^H v - t X g^H v, gX = H^H g."""
    from tapegrad.ops.joining import stack

    a, tau = node.inputs
    m, n = a.shape[-2:]
    unit = a.tril(-1) + creation.eye(m, n, dtype=a.dtype)
    count = tau.shape[-1]
    reflectors = [(unit.select(-1, i).unsqueeze(-1), tau.select(-1, i).unsqueeze(-1).unsqueeze(-1)) for i in range(count)]
    states = [creation.eye(m, n, dtype=a.dtype).expand(*a.shape)]
    for v, t in reflectors[:0:-1]:
        states.append(states[-1] - t * (v @ (v.mH @ states[-1])))
    g_columns, g_tau = [], []
    conj = lambda t: t.conj_physical() if t.dtype.is_complex else t
    for (v, t), x in zip(reflectors, reversed(states)):
        projected = g @ (x.mH @ v)
        g_tau.append(-(v.mH @ projected).reshape(tau.shape[:-1]))
        g_columns.append((-conj(t) * projected - t * (x @ (g.mH @ v))).squeeze(-1))
        g = g - conj(t) * (v @ (v.mH @ g))
    rest = [a.new_zeros(tuple(a.shape[:-1]))] * (n - count)
    g_a = stack([*g_columns, *rest], -1).tril(-1) if n else a * 0
    return g_a, stack(g_tau, -1) if count else tau * 0


def reflected(A, tau, x, order, conjugate):
    """The reflectors of A applied to x one after the other."""
    unit = A.tril(-1) + creation.eye(*A.shape[-2:], dtype=A.dtype)
    for i in order:
        v, t = unit.select(-1, i).unsqueeze(-1), tau.select(-1, i).unsqueeze(-1).unsqueeze(-1)
        x = x - (t.conj_physical() if conjugate and tau.dtype.is_complex else t) * (v @ (v.mH @ x))
    return x


@function(method=True)
@with_out
def ormqr(input, tau, other, left=True, transpose=False):
    """Q other, with `transpose` Q^H other, or without `left` other Q, where the reflectors (input, tau) of `geqrf` give the square Q."""
    matrix("torch.ormqr", input, "input")
    matrix("torch.ormqr", other, "other")
    rows = other.shape[-2 if left else -1]
    if tau.shape[-1] > input.shape[-1]:
        raise RuntimeError("torch.ormqr: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if tau.shape[-1] != min(rows, input.shape[-1]):
        raise RuntimeError(f"torch.ormqr: tau.shape[-1] must be equal to min(other.shape[{-2 if left else -1}], input.shape[-1])")
    if rows != input.shape[-2]:
        raise RuntimeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]")
    if rows < tau.shape[-1]:
        raise RuntimeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be greater than or equal to tau.shape[-1]")
    if input.ndim - tau.ndim != 1:
        raise RuntimeError(
            "torch.ormqr: Expected tau to have one dimension less than input, but got tau.ndim equal to "
            f"{tau.ndim} and input.ndim is equal to {input.ndim}"
        )
    if input.ndim != other.ndim:
        raise RuntimeError(
            "torch.ormqr: Expected other to have the same number of dimensions as input, but got other.ndim equal to "
            f"{other.ndim} and input.ndim is equal to {input.ndim}"
        )
    if tuple(tau.shape[:-1]) != tuple(input.shape[:-2]):
        raise RuntimeError(f"torch.ormqr: Expected batch dimensions of tau to be equal to input.shape[:-2], but got {list(tau.shape[:-1])}")
    if tuple(other.shape[:-2]) != tuple(input.shape[:-2]):
        raise RuntimeError(f"torch.ormqr: Expected batch dimensions of other to be equal to input.shape[:-2], but got {list(other.shape[:-2])}")
    for who, x in (("tau", tau), ("other", other)):
        if x.dtype is not input.dtype:
            raise RuntimeError(
                f"torch.ormqr: Expected input and {who} to have the same dtype, but input has dtype{input.dtype.scalar_name} and {who} has dtype "
                f"{x.dtype.scalar_name}"
            )
    k = tau.shape[-1]
    A = input.narrow(-1, 0, k)
    if left:
        return reflected(A, tau, other, range(k) if transpose else range(k - 1, -1, -1), transpose)
    return reflected(A, tau, other.mH, range(k - 1, -1, -1) if transpose else range(k), not transpose).mH
