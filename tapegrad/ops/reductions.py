"""Reductions over dims: what all of them share, and sum, mean, prod, any, all, count_nonzero, sum_to_size.

Each is one kernel over rows (`ops/rows.py`), where the dtype has kernels; what has none is composed of other ops or goes through NumPy.
Extrema are in `ops/extrema.py`, variances in `ops/variances.py`, norms and logsumexp in `ops/norms.py`.
"""

from __future__ import annotations

import builtins

import numpy as np

from tapegrad import core, dtypes, geometry
from tapegrad.engine.layout import SUMMED, SWEEP_VIEW
from tapegrad.ops import columns, loops, rows
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import dtype_with, into
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

    def make():
        # Running sums of several rows at a time would be kept, and rounded, in the result.
        lie, work = rows.folded(x, dims, kernel_name, [result_dtype], whole_rows=result_dtype.reduced)
        if work is None:
            work = {"kernel": loops.reduction(kernel_name, d, result_dtype), "n": lie.outer, "args": (lie.count, lie.inner), "cost": lie.numel >> 2}
        rules, scale = (), 1.0
        if op in (sum_op, mean_op) and lie.count and d is result_dtype and (op is sum_op or d.code in SUMMED):
            kept = geometry.contiguous_strides(lie.kept)
            steps = iter(kept)
            spread = tuple(0 if k in dims else next(steps) for k in range(len(shape)))
            rules, scale = [(SWEEP_VIEW, geometry.geometry(shape, spread))], 1.0 / lie.count if op is mean_op else 1.0
        elif back and d is result_dtype and d.code in SUMMED:
            rules = rows.derivative(op, d, lie if back in columns.KERNELS else rows.of(x, dims), back, ("source", "out"))
        return plans.Plan(op, [(lie.reduced(keepdim), result_dtype.code)], **work, saves=saves, rules=rules, packs=(lie.pack,), scale=scale, shape=shape, dims=dims,
                          keepdim=keepdim, count=lie.count, tag=tag, graph_name=graph_name, differentiable=-1 if result_dtype.differentiable else 0)

    return plans.run(op, [x], (dims, keepdim, kernel_name, result_dtype.code, graph_name), make)


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


@function(method=True)
def sum(input, dim=None, keepdim=False, *, axis=None, dtype=None, out=None):
    """The sum over `dim` (int, tuple or None for all); integers are summed in int64.

    >>> import tapegrad as tg
    >>> tg.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    tensor_argument("sum", input)
    d = sum_dtype(input, dtype_with(out, dtype))
    if d is not input.dtype and max(d.category, input.dtype.category) >= dtypes.FLOAT:
        input = input.to(d)
    dim = axis if dim is None else dim
    name = None if dim is None else "SumBackward1"
    return into(out, reduce(sum_op, input, dims_of(dim, input.ndim), bool(keepdim), "sum", d, graph_name=name), "sum")


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
    if out is not None and (dtype is not None or out.dtype.category >= dtypes.FLOAT):
        input = input.to(dtype_with(out, dtype))
    dim = axis if dim is None else dim
    name = None if dim is None else "MeanBackward1"
    return into(out, reduce(mean_op, input, dims_of(dim, input.ndim), bool(keepdim), "mean", input.dtype, graph_name=name), "mean")


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
        return g * (out / x).conj_physical()
    keep = [k for k in range(len(shape)) if k not in a.dims]
    order = (*keep, *a.dims)
    rows = x.permute(*order).reshape(-1, a.count)
    left = ones_then(rows, False)
    right = ones_then(rows, True)
    others = (left * right).reshape([shape[k] for k in order])
    back = [0] * len(order)
    for k, d in enumerate(order):
        back[d] = k
    return g * others.permute(*back).conj_physical()


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
    d = sum_dtype(input, dtype_with(out, dtype))
    if d is not input.dtype and max(d.category, input.dtype.category) >= dtypes.FLOAT:
        input = input.to(d)
    return into(out, reduce(prod_op, input, dims_of(dim, input.ndim), bool(keepdim), "prod", d, saves=0b11, back="prod_back",
                            graph_name=None if dim is None else "ProdBackward1"), "prod")


# --- truth ----------------------------------------------------------------------------------------------------------
@structural("arg_op")
def arg_op(node, g):
    """argmax, argmin, any, all: nothing to differentiate."""
    return (None,)


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
        if out is not None and out.dtype not in (dtypes.bool_, dtypes.uint8):
            raise RuntimeError(f"{name} only supports bool tensor for result, got: {out.dtype.scalar_name}")
        return into(out, truth_over(name, test, tensor_argument(name, input), dims_of(dim, input.ndim), keepdim), name)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Whether {name} element is nonzero, over `dim` or everywhere."
    return function(method=True, name=name)(run)


any, all = truth("any", np.any), truth("all", np.all)


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
