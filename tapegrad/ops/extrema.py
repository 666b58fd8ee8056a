"""Extrema: amax and amin over dims, max and min of everything or along a dim with their indices, argmax and argmin."""

from __future__ import annotations

import numpy as np

from tapegrad import dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import into, return_type, store, stored
from tapegrad.ops.public import function
from tapegrad.ops.reductions import arg_op, dims_of, real_order, reduce, restore_dims
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument, wrap_dim


@structural("amax_op", "Amax")
def amax_op(node, g):
    """amax, amin and the full max, min: the gradient is shared evenly among ties; of the full ones, a nan's among all nan."""
    g = restore_dims(g, node)
    out = restore_dims(node.outputs[0], node)
    mask = node.inputs[0] == out
    if node.op in (OPS["Max"], OPS["Min"]):
        mask = mask | (node.inputs[0].isnan() & out.isnan())
    mask = mask.to(g.dtype)
    return g / mask.sum(node.attributes.dims, True) * mask


def extremum(name, input, dim, keepdim, graph_name):
    if input.dtype.is_complex:
        kernel = f"{name[1:]}_values_cpu" if graph_name[0] == "A" else f"{name[1:]}_all"
        raise no_kernel(kernel, input.dtype)
    dims = dims_of(dim, input.ndim)
    if any(input.shape[d] == 0 for d in dims):
        if dim is None:
            raise RuntimeError(
                f"{graph_name.lower()}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument."
            )
        if dim == ():
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument."
            )
        raise IndexError(f"{name}(): Expected reduction dim {dims[0]} to have non-zero size.")
    return reduce(OPS[graph_name], input, dims, keepdim, name, input.dtype, saves=0b11, back="share_back" if graph_name[0] == "A" else "share_back_all")


OPS = {"Amax": amax_op, "Amin": structural("amin_op", "Amin")(amax_op.derivative),
       "Max": structural("max_full", "Max")(amax_op.derivative), "Min": structural("min_full", "Min")(amax_op.derivative)}
OPS["Max"].graph_name, OPS["Min"].graph_name = "MaxBackward1", "MinBackward1"


@function(method=True)
def amax(input, dim=(), keepdim=False, *, out=None):
    """The maximum over dims; ties share the gradient."""
    return into(out, extremum("amax", input, dim, keepdim, "Amax"), "amax")


@function(method=True)
def amin(input, dim=(), keepdim=False, *, out=None):
    """The minimum over dims; ties share the gradient."""
    return into(out, extremum("amin", input, dim, keepdim, "Amin"), "amin")


MaxResult, MinResult = return_type("max", "values", "indices"), return_type("min", "values", "indices")


@structural("pick_along", "Max")
def pick_along(node, g, *_):
    """A value picked by index along a dim: the gradient goes to the element picked."""
    from tapegrad.creation import zeros

    a = node.attributes
    index = node.outputs[1]
    if not a.keepdim:
        g, index = g.unsqueeze(a.dim), index.unsqueeze(a.dim)
    return zeros(a.shape, dtype=g.dtype).scatter(a.dim, index, g) if a.shape else g.reshape(())


@transformable("along")
def with_indices(name, graph_name, result, input, dim, keepdim, pick):
    """(values, indices) along one dim by a NumPy index function."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, real_order(name, input).ndim)
    if input.ndim and input.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")
    lie = rows.of(input, (dim,) if input.ndim else ())
    if rows.usable(input, lie):
        d = input.dtype

        def make():
            outputs = [(lie.reduced(keepdim), d.code), (lie.reduced(keepdim), dtypes.int64.code)]
            return rows.plan(pick_along, input, lie, name, outputs, back="pick_back" if d.is_floating_point else "", reads=("index",), saves=0b100,
                             differentiable=1 if d.is_floating_point else 0, result_type=result, dim=dim, keepdim=keepdim, shape=tuple(input.shape),
                             graph_name=graph_name)

        return plans.run(pick_along, [input], (name, dim, keepdim), make)
    array = input.detach()._array()
    if input.ndim == 0:
        index = np.zeros((), np.int64)
        values = array
    else:
        index = np.expand_dims(pick(dtypes.from_stored(array, input.dtype), dim), dim)
        values = np.take_along_axis(array, index, dim)
        if not keepdim:
            index, values = index.squeeze(dim), values.squeeze(dim)
    outputs = from_array(values, input.dtype), from_array(index, dtypes.int64)
    plan = plans.Parameters(pick_along, dim=dim, keepdim=keepdim, shape=tuple(input.shape), graph_name=graph_name)
    record(pick_along, [input], outputs, plan, saves=0b100, differentiable=1)
    return result(*outputs)


def first_nan_or(pick, array, dim):
    """torch's extrema: a NaN wins, the first one."""
    if array.dtype.kind == "f":
        nan = np.isnan(array)
        if nan.any():
            return np.where(nan.any(dim), nan.argmax(dim), pick(array, dim))
    return pick(array, dim)


def max_or_min(name, full, binary, result, pick, input, args, kwargs):
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    dim = args[0] if args else kwargs.pop("dim", kwargs.pop("axis", kwargs.pop("other", None)))
    keepdim = args[1] if len(args) > 1 else kwargs.pop("keepdim", False)
    out = kwargs.pop("out", None)
    if kwargs or len(args) > 2:
        raise TypeError(f"{name}() received an invalid combination of arguments")
    if hasattr(dim, "_slot"):
        return dispatch.call(BY_NAME[binary], input, dim, out=out)
    if dim is None:
        return into(out, extremum("a" + name, input, None, False, full), name)
    found = with_indices(name, full + "Backward0", result, input, dim, keepdim, lambda a, d: first_nan_or(pick, a, d))
    if out is not None:
        return store(name, found, out)
    return found


@function(method=True)
def max(input, *args, **kwargs):
    """max(input): the largest element.  max(input, dim): (values, indices).  max(input, other): elementwise."""
    return max_or_min("max", "Max", "maximum", MaxResult, np.argmax, tensor_argument("max", input), args, kwargs)


@function(method=True)
def min(input, *args, **kwargs):
    """min(input): the smallest element.  min(input, dim): (values, indices).  min(input, other): elementwise."""
    return max_or_min("min", "Min", "minimum", MinResult, np.argmin, tensor_argument("min", input), args, kwargs)


def index_of_sample(level, f, name, pick, input, dim, keepdim):
    """The batch rule of argmax and argmin: without a dim each sample is flattened."""
    if dim is not None:
        return level.rule("along")(level, f, name, pick, input, dim, keepdim)
    flat = level.front(input).reshape(level.size, input.numel())
    found = f(name, pick, flat, 1, False)
    return level.wrap(found.reshape(level.size, *(1,) * input.ndim) if keepdim else found)


@transformable(index_of_sample)
def arg_extremum(name, pick, input, dim, keepdim):
    from tapegrad.creation import from_array

    if input.dtype is dtypes.bool_:
        raise RuntimeError(f"{name}(): does not support bool input")
    real_order(name, input)
    if input.numel() == 0 and (dim is None or input.shape[wrap_dim(dim, input.ndim)] == 0):
        raise IndexError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            if dim is None else f"{name}(): Expected reduction dim {wrap_dim(dim, input.ndim)} to have non-zero size."
        )
    dims = dims_of(dim, input.ndim)
    lie = rows.of(input, dims, same_shape=dim is None)
    if rows.usable(input, lie):
        make = lambda: rows.plan(arg_op, input, lie, name, [(lie.reduced(keepdim), dtypes.int64.code)], differentiable=0)  # noqa: E731
        return plans.run(arg_op, [input], (name, dims, keepdim), make)
    array = input._values()
    if dim is None:
        index = first_nan_or(pick, array.reshape(-1), 0)
        return from_array(np.asarray(index, np.int64).reshape((1,) * input.ndim if keepdim else ()), dtypes.int64)
    dim = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return from_array(np.zeros((), np.int64), dtypes.int64)
    index = np.asarray(first_nan_or(pick, array, dim), np.int64)
    return from_array(np.expand_dims(index, dim) if keepdim else index, dtypes.int64)


@function(method=True)
@stored()
def argmax(input, dim=None, keepdim=False):
    """The index of the largest element (the first of ties)."""
    return arg_extremum("argmax", np.argmax, tensor_argument("argmax", input), dim, keepdim)


@function(method=True)
@stored()
def argmin(input, dim=None, keepdim=False):
    """The index of the smallest element (the first of ties)."""
    return arg_extremum("argmin", np.argmin, tensor_argument("argmin", input), dim, keepdim)
