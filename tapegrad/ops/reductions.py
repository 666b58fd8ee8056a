"""Reductions: sum, mean, prod, extrema, norms, variance, logsumexp, any and all, and their derivatives.

Each is one kernel over rows (`ops/rows.py`), where the dtype has kernels; what has none is composed of other ops or goes through NumPy.
"""

from __future__ import annotations

import builtins
import collections

import numpy as np

from tapegrad import core, dtypes, geometry
from tapegrad.autograd.node import record
from tapegrad.engine.layout import SUMMED, SWEEP_VIEW
from tapegrad.ops import loops, rows
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import stored
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument, wrap_dim


def dims_of(dim, ndim: int) -> tuple:
    """Normalised, distinct dims; None and () mean all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not len(dim)):
        return tuple(range(ndim))
    if not isinstance(dim, (tuple, list)):
        dim = (dim,)
    result = [wrap_dim(d, ndim) for d in dim]
    if len(set(result)) != len(result):
        twice = next(d for d in result if result.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return tuple(sorted(result)) if ndim else ()


def reduced_shape(shape, dims, keepdim) -> tuple:
    if keepdim:
        return tuple(1 if k in dims else s for k, s in enumerate(shape))
    return tuple(s for k, s in enumerate(shape) if k not in dims)


def restore_dims(g, node):
    """A reduced gradient with the reduced dims back as size 1."""
    a = node.attributes
    if not a.keepdim and a.dims:
        g = g.reshape(reduced_shape(a.shape, a.dims, True))
    return g


@transformable("over", lambda named: ("x",) if named["op"] in (sum_op, mean_op) else ())
def reduce(op, x, dims, keepdim, kernel_name, result_dtype, saves=0, tag=None, back="", graph_name=None):
    """Run a reduction kernel over `dims` of `x`; `back` is the row kernel of its derivative (of the input and the output), if it has one."""
    s = plans.settled(x)
    g = core.get_field(s, core.GEOMETRY)
    shape = tuple(geometry.shapes[g])
    d = x.dtype
    if d.is_complex and kernel_name == "mean":
        kernel_name = "complex_mean"
    if len(dims) == len(shape) and geometry.numels[g] >= PARALLEL and core.threads.value > 1 and geometry.is_contiguous(g) and not d.reduced:
        chunks = next((c for c in (64, 50, 40, 32, 20, 16, 10, 8, 5, 4, 2) if geometry.numels[g] % c == 0), 1)
        if chunks > 1:
            return reduce_in_chunks(op, x, dims, keepdim, kernel_name, result_dtype, saves, tag, chunks, graph_name)

    def make():
        # Running sums of several rows at a time would be kept, and rounded, in the result.
        lie = rows.of(x, dims, whole_rows=result_dtype.reduced)
        kernel = loops.reduction(kernel_name, x.dtype, result_dtype)
        rules, scale = (), 1.0
        if op in (sum_op, mean_op) and lie.count and d is result_dtype and (op is sum_op or d.code in SUMMED):
            kept = geometry.contiguous_strides(lie.kept)
            steps = iter(kept)
            spread = tuple(0 if k in dims else next(steps) for k in range(len(shape)))
            rules, scale = [(SWEEP_VIEW, geometry.geometry(shape, spread))], 1.0 / lie.count if op is mean_op else 1.0
        elif back and d is result_dtype and d.code in SUMMED:
            rules = rows.derivative(op, d, lie, back, ("source", "out"))
        return plans.Plan(op, [(lie.reduced(keepdim), result_dtype.code)], kernel=kernel, n=lie.outer, cost=lie.numel // 2,
                          args=(lie.count, lie.inner), saves=saves, rules=rules, packs=(lie.pack,), scale=scale, shape=shape, dims=dims,
                          keepdim=keepdim, count=lie.count, tag=tag, graph_name=graph_name, differentiable=-1 if result_dtype.differentiable else 0)

    return plans.run(op, [x], (dims, keepdim, kernel_name, result_dtype.code, graph_name), make)


PARALLEL = 1 << 21  # elements from which a reduction to one value is worth sharing among threads


def reduce_in_chunks(op, x, dims, keepdim, kernel_name, result_dtype, saves, tag, chunks, graph_name):
    """A large reduction to one value: equal chunks on the threads, then their results; recorded as one op."""
    from tapegrad import modes

    with modes.no_grad():
        parts = reduce(op, x.detach().view(chunks, -1), (1,), False, kernel_name, result_dtype)
        out = reduce(op, parts, (0,), False, kernel_name, result_dtype).detach()
        out = out.reshape((1,) * x.ndim).detach() if keepdim else out
    plan = plans.Parameters(op, graph_name, shape=tuple(x.shape), dims=dims, keepdim=keepdim, count=x.numel(), tag=tag)
    record(op, [x], [out], plan, saves, -1 if result_dtype.differentiable else 0)
    return out


def sum_dtype(x, dtype):
    if dtype is not None:
        return dtype
    return x.dtype if x.dtype.category >= dtypes.FLOAT else dtypes.int64


def real_order(name, x):
    """torch's refusal of complex operands where elements are compared."""
    if x.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    return x


def widened(x):
    """`x` without its history, in the dtype it is computed in: for the inner steps of an op made of several."""
    x = x.detach()
    return x.to(dtypes.BY_NAME[x.dtype.compute]) if x.dtype.reduced else x


# --- sum, mean, prod ------------------------------------------------------------------------------------------------
@structural("sum_op", "Sum")
def sum_op(node, g):
    """sum: the gradient goes to every element."""
    return restore_dims(g, node).expand(node.attributes.shape)


def into(out, result, name="", exact=False):
    """`result`, or `out` with it; `name` is the function's, for the texts of errors; `exact` refuses an `out` of another dtype."""
    if out is None:
        return result
    from tapegrad.dispatch import check_out, write_out

    if exact and hasattr(out, "_slot") and out.dtype is not result.dtype:
        raise RuntimeError(f"Expected out tensor to have dtype {result.dtype.short}, but got {out.dtype.short} instead")
    check_out(name or "reduction", [result], out)
    return write_out(result.detach(), out)


@function(method=True)
def sum(input, dim=None, keepdim=False, *, axis=None, dtype=None, out=None):
    """The sum over `dim` (int, tuple or None for all); integers are summed in int64.

    >>> import tapegrad as tg
    >>> tg.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    tensor_argument("sum", input)
    d = sum_dtype(input, dtype)
    if d is not input.dtype and builtins.max(d.category, input.dtype.category) >= dtypes.FLOAT:
        input = input.to(d)
    dim = axis if dim is None else dim
    name = None if dim is None else "SumBackward1"
    return into(out, reduce(sum_op, input, dims_of(dim, input.ndim), builtins.bool(keepdim), "sum", d, graph_name=name), "sum")


@structural("mean_op", "Mean")
def mean_op(node, g):
    """mean: the gradient over the count."""
    return (restore_dims(g, node) / node.attributes.count).expand(node.attributes.shape)


@function(method=True)
def mean(input, dim=None, keepdim=False, *, axis=None, dtype=None, out=None):
    """The mean over `dim`; floating-point only."""
    tensor_argument("mean", input)
    if dtype is not None:
        input = input.to(dtype)
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError(
            f"mean(): could not infer output dtype. {'Input' if dtype is None else 'Optional'} dtype must be either a floating point or complex dtype. Got: {input.dtype.scalar_name}"
        )
    dim = axis if dim is None else dim
    name = None if dim is None else "MeanBackward1"
    return into(out, reduce(mean_op, input, dims_of(dim, input.ndim), builtins.bool(keepdim), "mean", input.dtype, graph_name=name), "mean")


@structural("prod_op", "Prod")
def prod_op(node, g):
    """prod: the gradient times the product of the other elements, zeros included."""
    x = node.inputs[0]
    a = node.attributes
    shape = a.shape
    if not a.dims:
        return g
    g = restore_dims(g, node)
    out = node.outputs[0].reshape(g.shape)
    if not (x.detach()._values() == 0).any():
        return g * (out / x).conj()
    keep = [k for k in range(len(shape)) if k not in a.dims]
    order = (*keep, *a.dims)
    rows = x.permute(*order).reshape(-1, a.count)
    left = ones_then(rows, False)
    right = ones_then(rows, True)
    others = (left * right).reshape([shape[k] for k in order])
    back = [0] * len(order)
    for k, d in enumerate(order):
        back[d] = k
    return g * others.permute(*back).conj()


def ones_then(rows, from_right: bool):
    """Exclusive running products along the last dim, by repeated multiplication so that it is differentiable."""
    from tapegrad import creation
    from tapegrad.ops.joining import stack

    columns = rows.unbind(1)
    columns = columns[::-1] if from_right else columns
    running = creation.ones_like(columns[0]) if columns else None
    result = []
    for column in columns:
        result.append(running)
        running = running * column
    return stack(result[::-1] if from_right else result, 1)


@function(method=True)
def prod(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The product over `dim` (one dim, or None for all)."""
    d = sum_dtype(input, dtype)
    if d is not input.dtype and builtins.max(d.category, input.dtype.category) >= dtypes.FLOAT:
        input = input.to(d)
    return into(out, reduce(prod_op, input, dims_of(dim, input.ndim), builtins.bool(keepdim), "prod", d, saves=0b11, back="prod_back",
                            graph_name=None if dim is None else "ProdBackward1"))


# --- extrema --------------------------------------------------------------------------------------------------------
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
        raise NotImplementedError(f'"{kernel}" not implemented for \'{input.dtype.scalar_name}\'')
    dims = dims_of(dim, input.ndim)
    if builtins.any(input.shape[d] == 0 for d in dims):
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


def return_type(name, *fields):
    """A named tuple that prints as torch's return types do."""
    kind = collections.namedtuple(name, fields)

    class Result(kind):
        __slots__ = ()

        def __repr__(self):
            return f"tapegrad.return_types.{name}(\n" + ",\n".join(f"{f}={v!r}" for f, v in zip(fields, self, strict=True)) + ")"

    Result.__name__ = Result.__qualname__ = name
    return Result


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
        return into(out, extremum("a" + name, input, None, False, full))
    found = with_indices(name, full + "Backward0", result, input, dim, keepdim, lambda a, d: first_nan_or(pick, a, d))
    if out is not None:
        return result(*(into(o, r) for o, r in zip(out, found, strict=True)))
    return found


@function(method=True)
def max(input, *args, **kwargs):
    """max(input): the largest element.  max(input, dim): (values, indices).  max(input, other): elementwise."""
    return max_or_min("max", "Max", "maximum", MaxResult, np.argmax, tensor_argument("max", input), args, kwargs)


@function(method=True)
def min(input, *args, **kwargs):
    """min(input): the smallest element.  min(input, dim): (values, indices).  min(input, other): elementwise."""
    return max_or_min("min", "Min", "minimum", MinResult, np.argmin, tensor_argument("min", input), args, kwargs)


@structural("arg_op")
def arg_op(node, g):
    """argmax, argmin, any, all: nothing to differentiate."""
    return (None,)


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
    array = real_order(name, input)._values()
    if array.size == 0 and (dim is None or input.shape[wrap_dim(dim, input.ndim)] == 0):
        raise IndexError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            if dim is None else f"{name}(): Expected reduction dim {dim} to have non-zero size."
        )
    dims = dims_of(dim, input.ndim)
    lie = rows.of(input, dims)
    if rows.usable(input, lie) and (dim is not None or input.is_contiguous()):
        make = lambda: rows.plan(arg_op, input, lie, name, [(lie.reduced(keepdim), dtypes.int64.code)], differentiable=0)  # noqa: E731
        return plans.run(arg_op, [input], (name, dims, keepdim), make)
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


@transformable("over")
def truth_over(name, test, input, dims, keepdim):
    """any or all over normalised dims."""
    from tapegrad.creation import from_array

    lie = rows.of(input, dims)
    result = dtypes.uint8 if input.dtype is dtypes.uint8 else dtypes.bool_
    if rows.usable(input, lie):
        make = lambda: rows.plan(arg_op, input, lie, name, [(lie.reduced(keepdim), result.code)], differentiable=0)  # noqa: E731
        return plans.run(arg_op, [input], (name, dims, keepdim), make)
    return from_array(np.asarray(test(input.detach()._values(), axis=dims, keepdims=keepdim)), result)


def truth(name, test):
    def run(input, dim=None, keepdim=False, *, out=None):
        return into(out, truth_over(name, test, tensor_argument(name, input), dims_of(dim, input.ndim), keepdim), name)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Whether {name} element is nonzero, over `dim` or everywhere."
    return function(method=True, name=name)(run)


any, all = truth("any", np.any), truth("all", np.all)


# --- composed of other ops ------------------------------------------------------------------------------------------
@structural("logsumexp_op", "Logsumexp")
def logsumexp_op(node, g):
    """logsumexp: the gradient times the softmax."""
    x, out = node.inputs[0], restore_dims(node.outputs[0], node)
    return restore_dims(g, node) * (x - out).exp().conj()


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
            saves=0b11, cost=4, shape=lie.shape, dims=dims, keepdim=keepdim,
        )
        return plans.run(logsumexp_op, [input], (dims, keepdim), make)
    with modes.no_grad():
        x = widened(input)
        if x.numel() == 0:
            result = x.exp().sum(dims, keepdim).log()
        else:
            top = x.real.amax(dims, True)
            top = top.masked_fill(top.abs() == builtins.float("inf"), 0)
            result = (x - top).exp().sum(dims, True).log() + top
            result = result.reshape(reduced_shape(tuple(x.shape), dims, keepdim)).detach()
        result = result.to(input.dtype)
    record(logsumexp_op, [input], [result], plans.Parameters(logsumexp_op, shape=tuple(input.shape), dims=dims, keepdim=keepdim), saves=0b11)
    return result


@structural("var_op", "Var")
def var_op(node, g):
    """var: 2 / (n - correction) times the centred input."""
    a = node.attributes
    x = node.inputs[0]
    centred = x - x.mean(a.dims, True)
    scale = 2.0 / (a.count - a.correction) if a.count - a.correction > 0 else builtins.float("nan") if a.count == a.correction else builtins.float("inf")
    return restore_dims(g, node) * scale * centred


@structural("std_op", "Std")
def std_op(node, g):
    """std: the variance's gradient over twice the result; 0 where the result is 0."""
    a = node.attributes
    x, out = node.inputs[0], restore_dims(node.outputs[0], node)
    g = (restore_dims(g, node) / (out * 2)).masked_fill(out == 0, 0)
    scale = 2.0 / (a.count - a.correction) if a.count - a.correction > 0 else builtins.float("nan")
    return g * scale * (x - x.mean(a.dims, True))


def spread(op, name, input, args, kwargs, root):
    dim = kwargs.pop("dim", kwargs.pop("axis", None))
    correction, keepdim = kwargs.pop("correction", 1), kwargs.pop("keepdim", False)
    unbiased = kwargs.pop("unbiased", None)
    args = list(args)
    if args and isinstance(args[0], builtins.bool):
        unbiased = args.pop(0)
    elif args:
        dim = args.pop(0)
        if args:
            unbiased = args.pop(0)
        if args:
            keepdim = args.pop(0)
    if unbiased is not None:
        correction = builtins.int(unbiased)
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
        rest = builtins.max(count - correction, 0)
        total = (centred * centred.conj()).real.sum(dims, keepdim)
        result = total / rest if rest else total * builtins.float("nan") if count <= correction and builtins.bool(count == correction) else total / 0.0
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
    dim = kwargs.get("dim", args[0] if args and not isinstance(args[0], builtins.bool) else None)
    keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    return var(input, *args, **kwargs), input.mean(dim, keepdim)


@function()
def std_mean(input, *args, **kwargs):
    """(std, mean)."""
    dim = kwargs.get("dim", args[0] if args and not isinstance(args[0], builtins.bool) else None)
    keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    return std(input, *args, **kwargs), input.mean(dim, keepdim)


@structural("norm_op", "LinalgVectorNorm")
def norm_op(node, g):
    """The p-norm; the gradient at a zero norm is 0, ties of the infinity norm share it."""
    a = node.attributes
    p = a.ord
    x, out, g = node.inputs[0], restore_dims(node.outputs[0], node), restore_dims(g, node)
    if p == 0:
        return x * 0
    if p == 1:
        return x.sgn() * g
    if p == 2:
        return (x / out).masked_fill(out == 0, 0) * g
    if p in (builtins.float("inf"), -builtins.float("inf")):
        mask = (x.abs() == out).to(g.dtype)
        return x.sgn() * (g * mask / mask.sum(a.dims, True))
    if p < 1:
        scaled = (x.sgn() * x.abs() ** (p - 1)).masked_fill(x == 0, 0)
        return scaled * g * out ** (1 - p)
    if p < 2:
        scale = (g * out ** (1 - p)).masked_fill(out == 0, 0)
        return x.sgn() * x.abs() ** (p - 1) * scale
    return x * x.abs() ** (p - 2) * (g / out ** (p - 1)).masked_fill(out == 0, 0)


def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None, out=None):
    """(sum(|x|**p))**(1/p) over `dim`; the order p may be 0 (how many are nonzero) and +-inf."""
    tensor_argument("linalg.vector_norm", x)
    if dtype is not None:
        x = x.to(dtype)
    if x.dtype.category < dtypes.FLOAT:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {x.dtype.scalar_name}")
    p = ord.item() if hasattr(ord, "_slot") else builtins.float(ord)
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
        if p == builtins.float("inf"):
            value = a.amax(dims, keepdim) if a.numel() else a.sum(dims, keepdim)
        elif p == -builtins.float("inf"):
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


@method()
def sum_to_size(self, *size):
    """Summed over what broadcasting from `size` would have repeated."""
    from tapegrad.ops.views import ints

    size = ints("sum_to_size", size)
    shape = tuple(self.shape)
    lead = len(shape) - len(size)
    if lead < 0 or builtins.any(s not in (1, t) for s, t in zip(size, shape[lead:], strict=True)):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(shape)}}}.")
    dims = (*range(lead), *(lead + k for k, s in enumerate(size) if s == 1 and shape[lead + k] != 1))
    result = self.sum(dims, True) if dims else self
    return result.reshape(size) if lead else result


@function(method=True)
def count_nonzero(input, dim=None):
    """How many elements are nonzero."""
    return (input != 0).sum(dim)
