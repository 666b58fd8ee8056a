"""The variance and the standard deviation, alone and with the mean."""

from __future__ import annotations

import math

from tapegrad import dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.outputs import into
from tapegrad.ops.public import function
from tapegrad.ops.reductions import dims_of, restore_dims, widened
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, transformable
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


def _with_mean(part):
    def derivative(node, g, g_mean):
        a = node.attributes
        of_mean = None if g_mean is None else (restore_dims(g_mean, node) / a.count).expand(a.shape)
        of_spread = None if g is None else part(node, g)
        return of_mean if of_spread is None else of_spread if of_mean is None else of_spread + of_mean

    derivative.__doc__ = f"{part.__doc__.partition(':')[0]}_mean: the sum of the gradients through both."
    return derivative


var_mean_op = structural("var_mean_op", "VarMean")(_with_mean(var_op.derivative))
std_mean_op = structural("std_mean_op", "StdMean")(_with_mean(std_op.derivative))


def arguments(name, input, args, kwargs):
    """(dims, keepdim, correction) of a call of var and its kind."""
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
        raise RuntimeError(f"{name if name.endswith('_mean') else 'std and var'} only support floating point and complex dtypes")
    return dims_of(dim, input.ndim), keepdim, correction


def warn_of_freedom(name, input, dims, correction):
    """torch's warning, given each time, of a divisor n - correction that is not positive."""
    if (0 if 0 in input.shape else math.prod(input.shape[d] for d in dims)) <= correction:
        warn(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor (input numel divided by output "
            "numel).", stacklevel=6,
        )  # fmt: skip


def spread(op, name, input, args, kwargs, root):
    dims, keepdim, correction = arguments(name, input, args, kwargs)
    warn_of_freedom(name, input, dims, correction)
    return spread_over(op, name, input, dims, keepdim, correction, root)


def with_mean(op, part, name, input, args, kwargs, root):
    """(var or std, mean) as the two outputs of one node."""
    input = tensor_argument(name, input)
    dims, keepdim, correction = arguments(name, input, args, kwargs)
    warn_of_freedom(name, input, dims, correction)
    if ACTIVE:
        return spread_over(part, "std" if root else "var", input, dims, keepdim, correction, root), input.mean(dims, keepdim)
    with modes.no_grad():
        result, mean = spread_over(part, "std" if root else "var", input, dims, keepdim, correction, root), input.mean(dims, keepdim)
    count = math.prod(input.shape[d] for d in dims)
    plan = plans.Parameters(op, shape=tuple(input.shape), dims=dims, keepdim=keepdim, count=count, correction=correction)
    record(op, [input], [result, mean], plan, saves=0b11 if root else 0b01)
    return result, mean


@transformable("over")
def spread_over(op, name, input, dims, keepdim, correction, root):
    """The variance over normalised dims, or its root."""
    count = math.prod(input.shape[d] for d in dims)
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
        total = (centred * centred.conj_physical()).real.sum(dims, keepdim)
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
    return with_mean(var_mean_op, var_op, "var_mean", input, args, kwargs, False)


@function()
def std_mean(input, *args, **kwargs):
    """(std, mean)."""
    return with_mean(std_mean_op, std_op, "std_mean", input, args, kwargs, True)
