"""Norms of vectors and logsumexp: reductions whose derivatives divide by the result."""

from __future__ import annotations

from tapegrad import dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.outputs import into
from tapegrad.ops.public import function
from tapegrad.ops.reductions import dims_of, reduced_shape, restore_dims, widened
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument


@structural("logsumexp_op", "Logsumexp")
def logsumexp_op(node, g):
    """logsumexp: the gradient times the softmax."""
    x, out = node.inputs[0], restore_dims(node.outputs[0], node)
    return restore_dims(g, node) * (x - out).exp().conj_physical()


@function(method=True)
def logsumexp(input, dim, keepdim=False, *, out=None):
    """log(sum(exp(input))) over `dim`, without overflow (the maximum is taken out first)."""
    if input.dtype.category < dtypes.FLOAT:
        input = input.to(dtypes.default_dtype())
    return into(out, logsumexp_over(input, dims_of(dim, input.ndim), keepdim), "logsumexp")


@transformable("over")
def logsumexp_over(input, dims, keepdim):
    """`logsumexp` over normalised dims."""
    from tapegrad import modes

    lie = rows.of(input, dims)
    if rows.usable(input, lie):
        make = lambda: rows.plan(  # noqa: E731
            logsumexp_op, input, lie, "logsumexp", [(lie.reduced(keepdim), input.dtype.code)], back="logsumexp_back", reads=("source", "out"),
            saves=0b11, shape=lie.shape, dims=dims, keepdim=keepdim,
        )
        return plans.run(logsumexp_op, [input], (dims, keepdim), make)
    with modes.no_grad():
        x = widened(input)
        if x.numel() == 0:
            result = x.exp().sum(dims, keepdim).log()
        else:
            top = x.real.amax(dims, True)
            top = top.masked_fill(top.abs() == float("inf"), 0)
            result = (x - top).exp().sum(dims, True).log() + top
            result = result.reshape(reduced_shape(tuple(x.shape), dims, keepdim)).detach()
        result = result.to(input.dtype)
    record(logsumexp_op, [input], [result], plans.Parameters(logsumexp_op, shape=tuple(input.shape), dims=dims, keepdim=keepdim), saves=0b11)
    return result


@structural("norm_op", "LinalgVectorNorm")
def norm_op(node, g):
    """The p-norm; the gradient at a zero norm is 0, ties of the infinity norm share it."""
    a = node.attributes
    p = a.ord
    x, out, g = node.inputs[0], restore_dims(node.outputs[0], node), restore_dims(g, node)
    if p == 0:
        return x.new_zeros(tuple(x.shape))
    if p == 1:
        return x.sgn() * g
    if p == 2:
        return x / nonzero(out) * g
    if p in (float("inf"), -float("inf")):
        mask = (x.abs() == out).to(g.dtype)
        return x.sgn() * (g * mask / mask.sum(a.dims, True))
    if p < 1:
        scaled = (x.sgn() * x.abs() ** (p - 1)).masked_fill(x == 0, 0)
        return scaled * g * out ** (1 - p)
    if p < 2:
        return x.sgn() * x.abs() ** (p - 1) * (g / nonzero(out) ** (p - 1))
    return x * x.abs() ** (p - 2) * (g / nonzero(out) ** (p - 1))


def nonzero(norm):
    """What to divide by: an infinite norm for 0, so that the quotient and all its derivatives are 0 there."""
    return norm.masked_fill(norm == 0, float("inf"))


def widened_to(dtype, x, name):
    """`x` in the dtype in which a norm is to be computed, which may be wider only, and complex for complex numbers."""
    if dtype is None:
        return x
    if dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"{name}: dtype should be floating point or complex, but got {dtype.scalar_name}")
    if dtype.is_complex is not x.dtype.is_complex:
        kind = "complex" if x.dtype.is_complex else "real"
        raise RuntimeError(f"{name}: dtype should be {kind} for {kind} inputs, but got {dtype.scalar_name}")
    if dtypes.promote_types(x.dtype, dtype) is not dtype:
        raise RuntimeError(
            f"{name}: the dtype of the input ({x.dtype.scalar_name}) should be convertible without narrowing to the specified dtype ({dtype.scalar_name})"
        )
    return x.to(dtype)


def refuse_empty(x, p: float, dim) -> None:
    """Of no elements there are only the norms that have a value to start from."""
    if (p < 0 or p == float("inf")) and not x.numel():
        what = f"linalg.vector_norm cannot compute the {p:g} norm on"
        if dim is None or dim == () or dim == []:
            raise RuntimeError(f"{what} an empty tensor because the operation does not have an identity")
        for d in dims_of(dim, x.ndim):
            if x.ndim and not x.shape[d]:
                raise RuntimeError(f"{what} the dimension {d}because this dimension is empty and the operation does not have an identity")


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None, out=None):
    """(sum(|x|**p))**(1/p) over `dim`; the order p may be 0 (how many are nonzero) and +-inf."""
    tensor_argument("linalg.vector_norm", x)
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {x.dtype.scalar_name}")
    x = widened_to(dtype, x, "linalg.vector_norm")
    p = ord.item() if hasattr(ord, "_slot") else float(ord)
    refuse_empty(x, p, dim)
    return into(out, norm_over(x, p, dims_of(dim, x.ndim), keepdim), "vector_norm")


@transformable("over")
def norm_over(x, p, dims, keepdim):
    """The p-norm over normalised dims."""
    from tapegrad import modes

    lie = rows.of(x, dims)
    if p in (1, 2) and rows.usable(x, lie):
        name = f"norm_{int(p)}"
        make = lambda: rows.plan(  # noqa: E731
            norm_op, x, lie, name, [(lie.reduced(keepdim), x.dtype.code)], back=name + "_back", reads=("source", "out") if p == 2 else ("source",),
            saves=0b11, ord=p, shape=lie.shape, dims=dims, keepdim=keepdim,
        )
        return plans.run(norm_op, [x], (p, dims, keepdim), make)
    with modes.no_grad():
        a = widened(x).abs()
        if p == float("inf"):
            value = a.amax(dims, keepdim) if a.numel() else a.sum(dims, keepdim)
        elif p == -float("inf"):
            value = a.amin(dims, keepdim)
        elif p == 0:
            value = (a != 0).to(a.dtype).sum(dims, keepdim)
        elif p == 1:
            value = a.sum(dims, keepdim)
        elif p == 2:
            value = (a * a).sum(dims, keepdim).sqrt()
        else:
            value = (a**p).sum(dims, keepdim) ** (1 / p)
        value = value.to(x.dtype.to_real())
    record(norm_op, [x], [value], plans.Parameters(norm_op, ord=p, shape=tuple(x.shape), dims=dims, keepdim=keepdim), saves=0b11)
    return value
