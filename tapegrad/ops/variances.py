"""The variance and the standard deviation, alone and with the mean."""

from __future__ import annotations

from tapegrad import dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.outputs import into
from tapegrad.ops.public import function
from tapegrad.ops.reductions import dims_of, restore_dims, widened
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument


@structural("var_op", "Var")
def var_op(node, g):
    """var: 2 / (n - correction) times the centred input."""
    a = node.attributes
    x = node.inputs[0]
    centred = x - x.mean(a.dims, True)
    scale = 2.0 / (a.count - a.correction) if a.count - a.correction > 0 else float("nan") if a.count == a.correction else float("inf")
    return restore_dims(g, node) * scale * centred


@structural("std_op", "Std")
def std_op(node, g):
    """std: the variance's gradient over twice the result; 0 where the result is 0."""
    a = node.attributes
    x, out = node.inputs[0], restore_dims(node.outputs[0], node)
    g = (restore_dims(g, node) / (out * 2)).masked_fill(out == 0, 0)
    scale = 2.0 / (a.count - a.correction) if a.count - a.correction > 0 else float("nan")
    return g * scale * (x - x.mean(a.dims, True))


def spread(op, name, input, args, kwargs, root):
    dim = kwargs.pop("dim", kwargs.pop("axis", None))
    correction, keepdim = kwargs.pop("correction", 1), kwargs.pop("keepdim", False)
    unbiased = kwargs.pop("unbiased", None)
    args = list(args)
    if args and isinstance(args[0], bool):
        unbiased = args.pop(0)
    elif args:
        dim = args.pop(0)
        if args:
            unbiased = args.pop(0)
        if args:
            keepdim = args.pop(0)
    if unbiased is not None:
        correction = int(unbiased)
    correction = 1 if correction is None else correction
    if kwargs:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError("std and var only support floating point and complex dtypes")
    return spread_over(op, name, input, dims_of(dim, input.ndim), keepdim, correction, root)


@transformable("over")
def spread_over(op, name, input, dims, keepdim, correction, root):
    """The variance over normalised dims, or its root."""
    from tapegrad import modes

    count = 1
    for d in dims:
        count *= input.shape[d]
    lie = rows.of(input, dims)
    if rows.usable(input, lie) and count > correction:
        make = lambda: rows.plan(  # noqa: E731
            op, input, lie, name, [(lie.reduced(keepdim), input.dtype.code)], back=name + "_back", reads=("source", "out") if root else ("source",),
            saves=0b11 if root else 0b01, args=(rows.bits(count - correction),), shape=lie.shape, dims=dims, keepdim=keepdim, count=count,
            correction=correction,
        )
        return plans.run(op, [input], (dims, keepdim, correction), make)
    with modes.no_grad():
        x = widened(input)
        centred = x - x.mean(dims, True)
        rest = max(count - correction, 0)
        total = (centred * centred.conj()).real.sum(dims, keepdim)
        result = total / rest if rest else total * float("nan") if count <= correction and bool(count == correction) else total / 0.0
        if root:
            result = result.sqrt()
        result = result.to(input.dtype.to_real())
    plan = plans.Parameters(op, shape=tuple(input.shape), dims=dims, keepdim=keepdim, count=count, correction=correction)
    record(op, [input], [result], plan, saves=0b11 if root else 0b01)
    return result


@function(method=True)
def var(input, *args, out=None, **kwargs):
    """The variance over `dim`, divided by n - correction (1)."""
    return into(out, spread(var_op, "var", tensor_argument("var", input), args, kwargs, False), "var")


@function(method=True)
def std(input, *args, out=None, **kwargs):
    """The standard deviation over `dim`, with n - correction (1) in the divisor."""
    return into(out, spread(std_op, "std", tensor_argument("std", input), args, kwargs, True), "std")


@function()
def var_mean(input, *args, **kwargs):
    """(var, mean)."""
    dim = kwargs.get("dim", args[0] if args and not isinstance(args[0], bool) else None)
    keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    return var(input, *args, **kwargs), input.mean(dim, keepdim)


@function()
def std_mean(input, *args, **kwargs):
    """(std, mean)."""
    dim = kwargs.get("dim", args[0] if args and not isinstance(args[0], bool) else None)
    keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    return std(input, *args, **kwargs), input.mean(dim, keepdim)
