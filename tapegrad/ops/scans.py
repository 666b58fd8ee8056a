"""Scans and orderings: cumulative sums and products, sort, topk, and their derivatives."""

from __future__ import annotations

import functools

import numpy as np

from tapegrad import dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import ranks, rows
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.extrema import pick_along
from tapegrad.ops.outputs import dtype_with, into, laid_out_as, return_type, stored
from tapegrad.ops.public import function
from tapegrad.ops.reductions import sum_dtype
from tapegrad.ops.registry import structural
from tapegrad.ops.views import tensor_argument, wrap_dim


@structural("cumsum_op", "Cumsum")
def cumsum_op(node, g):
    """cumsum: the running sum from the other end."""
    dim = node.attributes.dim
    return g.flip(dim).cumsum(dim).flip(dim) if g.ndim else g


@function(method=True, batch="along", linear="input")
def cumsum(input, dim, *, dtype=None, out=None):
    """The running sum along `dim`."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, tensor_argument("cumsum", input).ndim)
    d = scanned("cumsum", sum_dtype(input, dtype_with(out, dtype)))
    input = input.to(d)
    lie = rows.of(input, (dim,) if input.ndim else (), same_shape=True)
    if rows.usable(input, lie, "cumsum"):
        make = lambda: rows.plan(cumsum_op, input, lie, "cumsum", [(lie.whole, d.code)], back="cumsum_back" if d.differentiable else "", reads=(), dim=dim,  # noqa: E731
                                 differentiable=-1 if d.differentiable else 0)
        return into(out, plans.run(cumsum_op, [input], dim, make), "cumsum")
    array = input.detach()._values()
    result = from_array(np.cumsum(array, dim, dtype=array.dtype) if array.ndim else array.copy(), d)
    record(cumsum_op, [input], [result], plans.Parameters(cumsum_op, dim=dim))
    return into(out, result, "cumsum")


@structural("cumprod_op", "Cumprod")
def cumprod_op(node, g):
    """cumprod: sum over later results of g times the result without the element, zeros included."""
    from tapegrad.ops.joining import stack

    dim = node.attributes.dim
    x = node.inputs[0].conj_physical()
    if not g.ndim:
        return g
    if not (x.detach()._values() == 0).any():
        weighted = node.outputs[0].conj_physical() * g
        return weighted.flip(dim).cumsum(dim).flip(dim) / x
    columns, gs = x.unbind(dim), g.unbind(dim)
    result = []
    before = columns[0].new_ones(tuple(columns[0].shape))
    for k in range(len(columns)):
        running, total = before, None
        for j in range(k, len(columns)):
            if j > k:
                running = running * columns[j]
            term = gs[j] * running
            total = term if total is None else total + term
        result.append(total)
        before = before * columns[k]
    return stack(result, dim)


@function(method=True, batch="along")
def cumprod(input, dim, *, dtype=None, out=None):
    """The running product along `dim`."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, tensor_argument("cumprod", input).ndim)
    d = scanned("cumprod", sum_dtype(input, dtype_with(out, dtype)))
    input = input.to(d)
    lie = rows.of(input, (dim,) if input.ndim else (), same_shape=True)
    if rows.usable(input, lie, "cumprod"):
        make = lambda: rows.plan(cumprod_op, input, lie, "cumprod", [(lie.whole, d.code)], back="cumprod_back" if d.differentiable else "", reads=("source", "out"), saves=0b11, dim=dim,  # noqa: E731
                                 differentiable=-1 if d.differentiable else 0)
        return into(out, plans.run(cumprod_op, [input], dim, make), "cumprod")
    array = input.detach()._values()
    result = from_array(np.cumprod(array, dim, dtype=array.dtype) if array.ndim else array.copy(), d)
    record(cumprod_op, [input], [result], plans.Parameters(cumprod_op, dim=dim), saves=0b11)
    return into(out, result, "cumprod")


def scanned(name, d):
    """The dtype of a scan; truth values have no kernel."""
    if d is dtypes.bool_:
        raise no_kernel(name + "_out_cpu", d)
    return d


def in_place(scan):
    """The form of a scan that is written to its own operand: in the operand's dtype."""

    @functools.wraps(scan)
    def run(input, dim, *, dtype=None):
        wrap_dim(dim, input.ndim)
        if dtype is not None and dtype is not input.dtype:
            raise RuntimeError(f"Bad in-place call: input tensor dtype {input.dtype.short} and output tensor dtype {dtype.short} should match")
        return scan(input, dim, dtype=input.dtype)

    return run


def comparable(name, x):
    if x.dtype.is_complex:
        raise RuntimeError(f" {name} does not support complex dtypes on CPU")
    return x


SortResult, TopkResult = return_type("sort", "values", "indices"), return_type("topk", "values", "indices")


def ordered(name, result, x, dim, index):
    from tapegrad.creation import from_array

    array = x.detach()._array()
    values = np.take_along_axis(array, index, dim) if array.ndim else array.copy()
    outputs = from_array(values, x.dtype), from_array(index, dtypes.int64)
    if name == "Sort":
        outputs = laid_out_as(x, outputs[0]), laid_out_as(x, outputs[1])
    plan = plans.Parameters(pick_along, dim=dim, keepdim=True, shape=tuple(x.shape), graph_name=name + "Backward0")
    record(pick_along, [x], outputs, plan, saves=0b100, differentiable=1)
    return result(*outputs)


def order(array, dim, descending):
    """A stable sorting index; NaN counts as the largest value."""
    if not array.ndim:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(array, dim, kind="stable")
    flipped = np.argsort(np.flip(array, dim), dim, kind="stable")
    return np.flip(array.shape[dim] - 1 - flipped, dim)


@function(method=True, batch="along")
@stored()
def sort(input, dim=-1, descending=False, stable=False):
    """(values, indices) in ascending (or descending) order along `dim`; ties keep their order."""
    dim = wrap_dim(dim, comparable("Sort", tensor_argument("sort", input)).ndim)
    found = None
    if input.is_contiguous():  # of another order in memory the result is laid out as the input
        found = ranks.first(SortResult, "Sort", input, dim, input.shape[dim] if input.ndim else 1, bool(descending))
    return found or ordered("Sort", SortResult, input, dim, order(input.detach()._values(), dim, descending))


@function(method=True)
def argsort(input, dim=-1, descending=False, stable=False):
    """The indices that sort along `dim`."""
    return sort(input, dim, descending).indices


@function(method=True, batch="along")
@stored()
def topk(input, k, dim=-1, largest=True, sorted=True):
    """The `k` largest (or smallest) elements along `dim`, with their indices."""
    dim = wrap_dim(dim, comparable("topk", input).ndim)
    size = input.shape[dim] if input.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError("selected index k out of range")
    if input.dtype is dtypes.bool_:
        raise RuntimeError("topk does not support bool dtypes on CPU")
    found = ranks.first(TopkResult, "Topk", input, dim, k, bool(largest))
    if found is not None:
        return found
    index = order(input.detach()._values(), dim, largest)
    return ordered("Topk", TopkResult, input, dim, np.take(index, range(k), dim) if input.ndim else index)
