"""What follows from order: median, kthvalue, mode, quantiles; unique values, search in sorted values, membership."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes, modes
from tapegrad.autograd import underived
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.dispatch import result_dtype
from tapegrad.ops import plan as plans
from tapegrad.ops import ranks
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.choosing import dynamic_shape
from tapegrad.ops.extrema import pick_along
from tapegrad.ops.outputs import into, return_type, store
from tapegrad.ops.public import function
from tapegrad.ops.reductions import restore_dims
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import look_at
from tapegrad.ops.views import tensor_argument, wrap_dim


def both(result, out):
    for what, o, r in zip(result._fields, out or (), result):
        if o.dtype is not r.dtype:
            raise RuntimeError(f"expected scalar type '{r.dtype.scalar_name}' but got '{o.dtype.scalar_name}' for {what} output")
    return result if out is None else store(type(result).__name__, result, out, None)


def picked(graph_name, result, x, dim, keepdim, index):
    """(values, indices) where `index` says, along `dim` of which one entry is left; the gradient goes to the element picked."""
    array = x.detach()._array()
    if not array.ndim:
        values, index = array, np.zeros((), np.int64)
    else:
        index = np.expand_dims(index, dim)
        values = np.take_along_axis(array, index, dim)
        if not keepdim:
            values, index = values.squeeze(dim), index.squeeze(dim)
    outputs = creation.from_array(values, x.dtype), creation.from_array(np.asarray(index, np.int64), dtypes.int64)
    plan = plans.Parameters(pick_along, graph_name, dim=dim, keepdim=keepdim, shape=tuple(x.shape))
    record(pick_along, [x], outputs, plan, saves=0b100, differentiable=1)
    return result(*outputs)


def no_overlap(*tensors):
    """Refuse outputs that share memory with each other or with the input."""
    spans = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in tensors if t.numel())
    if any(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:])):
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. Please clone() "
            "the tensor before performing the operation."
        )


def nonempty(name, x, dim):
    if x.ndim and x.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")


# --- medians --------------------------------------------------------------------------------------------------------
@structural("median_op", "Median")
def median_op(node, g):
    """The gradient shared by the elements that are equal to the median."""
    x, out = node.inputs[0], restore_dims(node.outputs[0], node)
    mask = ((x == out) | (x.isnan() & out.isnan())).to(g.dtype)
    return restore_dims(g, node) * (mask / mask.sum())


MedianResult, NanmedianResult = return_type("median", "values", "indices"), return_type("nanmedian", "values", "indices")


def middle(array, dim, ignore_nan):
    """The index of the median along `dim`: the lower of two middle values; a NaN wins unless it is ignored."""
    order = np.argsort(array, dim, kind="stable")  # NaN last
    size = array.shape[dim]
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    count = missing.sum(dim)
    kept = size - count if ignore_nan else np.where(count > 0, 0, size)
    place = np.where(kept > 0, (kept - 1) // 2, 0 if ignore_nan else size - count)
    place = np.minimum(place, size - 1)
    return np.take_along_axis(order, np.expand_dims(place, dim), dim).squeeze(dim)


def median_of(name, result, input, dim, keepdim, ignore_nan, out):
    tensor_argument(name, input)
    if not (input.dtype.is_floating_point or input.dtype.category == dtypes.INTEGER):
        raise no_kernel("median_cpu", input.dtype)
    graph_name = name.capitalize()
    if dim is None and input.numel():
        with modes.no_grad():
            found = ranks.ranked(result, graph_name, input.detach().reshape(-1), 0, False, -2 if ignore_nan else -1)
        if found is not None:
            plan = plans.Parameters(median_op, graph_name + "Backward0", dims=tuple(range(input.ndim)), keepdim=False, shape=tuple(input.shape))
            record(median_op, [input], [found[0]], plan, saves=0b11)
            return into(out, found[0], name)
    if dim is not None:
        dim = wrap_dim(dim, input.ndim)
        nonempty("median", input, dim)
        found = ranks.ranked(result, graph_name + "Backward1", input, dim, keepdim, -2 if ignore_nan else -1)
        if found is not None:
            return both(found, out)
    array = input.detach()._values()
    if dim is None:
        if not array.size:
            empty = float("nan") if input.dtype.is_floating_point else np.iinfo(input.dtype.numpy).min if input.dtype.itemsize > 2 else 0
            return creation.full((), empty, dtype=input.dtype)
        flat = array.reshape(-1)
        value = creation.from_array(flat[middle(flat, 0, ignore_nan)].reshape(()), input.dtype)
        plan = plans.Parameters(median_op, graph_name + "Backward0", dims=tuple(range(input.ndim)), keepdim=False, shape=tuple(input.shape))
        record(median_op, [input], [value], plan, saves=0b11)
        return into(out, value, name)
    return both(picked(graph_name + "Backward1", result, input, dim, keepdim, middle(array, dim, ignore_nan) if array.ndim else None), out)


@function(method=True)
def median(input, dim=None, keepdim=False, *, out=None):
    """The median, the lower of two middle values; with `dim`, (values, indices).  NaN if there is one."""
    return median_of("median", MedianResult, input, dim, keepdim, False, out)


@function(method=True)
def nanmedian(input, dim=None, keepdim=False, *, out=None):
    """The median of the elements that are not NaN."""
    return median_of("nanmedian", NanmedianResult, input, dim, keepdim, True, out)


# --- other elements by rank -----------------------------------------------------------------------------------------
KthvalueResult, ModeResult = return_type("kthvalue", "values", "indices"), return_type("mode", "values", "indices")


@function(method=True)
def kthvalue(input, k, dim=-1, keepdim=False, *, out=None):
    """(values, indices) of the k-th smallest element along `dim`, counted from 1."""
    dim = wrap_dim(dim, tensor_argument("kthvalue", input).ndim)
    if out is not None:
        no_overlap(input, *out)
    size = input.shape[dim] if input.ndim else 1
    if input.ndim and not size:
        nonempty("kthvalue", input, dim)
    if not 1 <= k <= size:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}")
    if input.dtype is dtypes.bool_ or input.dtype.is_complex:
        raise no_kernel("kthvalue_cpu", input.dtype)
    found = ranks.ranked(KthvalueResult, "KthvalueBackward0", input, dim, keepdim, k - 1) if type(k) is int else None
    if found is not None:
        return both(found, out)
    array = input.detach()._values()
    index = np.take(np.argsort(array, dim, kind="stable"), k - 1, dim) if array.ndim else None
    return both(picked("KthvalueBackward0", KthvalueResult, input, dim, keepdim, index), out)


@function(method=True)
def mode(input, dim=-1, keepdim=False, *, out=None):
    """(values, indices) of the commonest element along `dim`, the smallest of several, at its last place."""
    if tensor_argument("mode", input).dtype.is_complex:
        raise no_kernel("mode_cpu", input.dtype)
    dim = wrap_dim(dim, input.ndim)
    nonempty("mode", input, dim)
    array = input.detach()._values()
    index = None
    if array.ndim:
        rows = np.moveaxis(array, dim, -1)
        index = np.empty(rows.shape[:-1], np.int64)
        for at in np.ndindex(index.shape):
            values, counts = np.unique(rows[at], return_counts=True)
            best = values[counts.argmax()]
            same = rows[at] == best if best == best else rows[at] != rows[at]
            index[at] = np.flatnonzero(same)[-1]
    return both(picked("ModeBackward0", ModeResult, input, dim, keepdim, index), out)


@function(method=True)
def msort(input, *, out=None):
    """Sorted along the first dim."""
    return into(out, input.sort(0).values if input.ndim else input.clone(), "msort")


INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile_of(name, input, q, dim, keepdim, interpolation, ignore_nan, out):
    tensor_argument(name, input)
    if not hasattr(q, "_slot"):
        if not 0 <= q <= 1:
            raise RuntimeError(f"quantile() q must be in the range [0, 1] but got {q}")
        q = creation.tensor(q, dtype=input.dtype)
    if interpolation not in INTERPOLATIONS:
        raise RuntimeError(f"quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
    if not input.numel():
        raise RuntimeError("quantile() input tensor must be non-empty")
    if q.ndim > 1:
        raise RuntimeError("quantile() q must be a scalar or 1D tensor")
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError("quantile() input tensor must be either float or double dtype")
    if q.dtype is not input.dtype:
        raise RuntimeError("quantile() q tensor must be same dtype as the input tensor")
    if q.numel() and bool(((q < 0) | (q > 1)).any()):
        raise RuntimeError("quantile() q values must be in the range [0, 1]")
    whole = input.ndim
    axis = None if dim is None else wrap_dim(dim, input.ndim)
    x = input.reshape(-1) if axis is None or not input.ndim else input.movedim(axis, -1)
    ordered = x.sort(-1).values
    missing = x.isnan()
    last = (x.shape[-1] - missing.to(input.dtype).sum(-1, True) - 1).clamp(min=0) if ignore_nan else float(x.shape[-1] - 1)
    ranks = q.reshape(-1) * last
    if not ignore_nan and bool(missing.any()):
        # NaN is sorted last: a row with one has every rank there.
        ranks = ranks.expand(*x.shape[:-1], q.numel()).masked_fill(missing.any(-1, True), x.shape[-1] - 1)
    ranks = ranks.expand(*x.shape[:-1], q.numel())
    if interpolation in ("lower", "higher", "nearest"):
        ranks = {"lower": ranks.floor, "higher": ranks.ceil, "nearest": ranks.round}[interpolation]()
    below = ranks.detach().floor()
    result = ordered.gather(-1, below.to(dtypes.int64))
    if interpolation in ("linear", "midpoint"):
        weight = ranks * 0 + 0.5 if interpolation == "midpoint" else ranks - below
        above = ordered.gather(-1, ranks.detach().ceil().to(dtypes.int64))
        result = result.lerp(above, weight)
    # The quantiles come first; the reduced dim stays with keepdim.
    if keepdim:
        result = result.reshape([1] * whole + [q.numel()]) if axis is None else result.unsqueeze(-2).movedim(-2, axis) if whole else result
    return into(out, result.movedim(-1, 0) if q.ndim else result.squeeze_(-1), name)


@function(method=True)
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear", out=None):
    """The q-th quantiles along `dim`, between two elements by `interpolation`; several q give a new first dim."""
    return quantile_of("quantile", input, q, dim, keepdim, interpolation, False, out)


@function(method=True)
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear", out=None):
    """The quantiles of the elements that are not NaN."""
    return quantile_of("nanquantile", input, q, dim, keepdim, interpolation, True, out)


# --- sets -----------------------------------------------------------------------------------------------------------
@function(method=True, batch=dynamic_shape("_unique2"))
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements in order (slices of `dim`), with what asks for each element's place among them and for counts."""
    if dim is None:
        look_at("_unique2", input, sorted=sorted, return_inverse=return_inverse, return_counts=return_counts)
    else:
        look_at("unique_dim", input, dim, sorted=sorted, return_inverse=return_inverse, return_counts=return_counts)
    array = real_values(input)
    if dim is not None:
        dim = present(dim, input)
        if 0 in array.shape and array.shape[dim]:
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
    if array.dtype.kind == "f" and dim is None:
        values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, equal_nan=False)
    else:
        values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=dim)
    inverse = inverse.reshape(array.shape if dim is None else -1)
    return outcome("_unique2" if dim is None else "unique_dim", input, values, inverse, counts, return_inverse, return_counts)


def present(dim: int, input) -> int:
    """A dim that a number does not have."""
    if not input.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return wrap_dim(dim, input.ndim)


def real_values(input):
    if input.dtype.is_complex:
        raise no_kernel("unique", input.dtype)
    return input.detach()._values()


def outcome(name, input, values, inverse, counts, return_inverse, return_counts):
    result = [creation.from_array(np.asarray(values), input.dtype)]
    if return_inverse:
        result.append(creation.from_array(np.asarray(inverse, np.int64), dtypes.int64))
    if return_counts:
        result.append(creation.from_array(np.asarray(counts, np.int64), dtypes.int64))
    underived.not_implemented(name, [input], result)
    return tuple(result) if len(result) > 1 else result[0]


@function(method=True, batch=dynamic_shape("unique_consecutive"))
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """The elements (slices of `dim`) that differ from the one before."""
    look_at("~unique_consecutive", input, return_inverse=return_inverse, return_counts=return_counts, dim=dim)
    array = real_values(input)
    if dim is not None:
        dim = present(dim, input)
    length = array.size if dim is None else array.shape[dim]
    rows = (array if dim is None else np.moveaxis(array, dim, 0)).reshape(length, array.size // max(length, 1))
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(fresh)
    values = array.reshape(-1)[starts] if dim is None else np.take(array, starts, dim)
    inverse = (np.cumsum(fresh) - 1).reshape(array.shape if dim is None else -1)
    counts = np.diff(np.append(starts, len(rows)))
    return outcome("unique_consecutive", input, values, inverse, counts, return_inverse, return_counts)


@function()
def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None, out=None):
    """Where `input` would be inserted into the sorted last dim of `sorted_sequence`, to the left or right of equal elements."""
    if side is not None:
        if side not in ("left", "right"):
            raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
        if side == "left" and right:
            raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
        right = side == "right"
    scalar = not hasattr(input, "_slot")
    values = np.asarray(input) if scalar else input.detach()._values()
    keys = sorted_sequence.detach()._values()
    if not scalar and sorted_sequence.dtype is not input.dtype:  # compared as what both are promoted to
        common = result_dtype([sorted_sequence, input])
        values, keys = input.detach().to(common)._values(), sorted_sequence.detach().to(common)._values()
    if scalar and keys.ndim != 1:
        raise RuntimeError(
            "torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, but we got boundaries tensor dim("
            f"{keys.ndim}) and input value's dim(0) numel(1)"
        )
    if keys.ndim != 1 and keys.shape[:-1] != values.shape[:-1]:
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and input value tensor "
            f"must match, but we got boundaries tensor {list(keys.shape)} and input value tensor {list(values.shape)}"
        )
    common = sorted_sequence.dtype if scalar else dtypes.promote_types(sorted_sequence.dtype, input.dtype)
    if common.is_complex or common is dtypes.bool_:
        raise no_kernel("searchsorted_out_cpu", common)
    if sorter is not None:
        if tuple(sorter.shape) != keys.shape:
            raise RuntimeError(
                "torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                f"{list(keys.shape)}and got sorter tensor {list(sorter.shape)}"
            )
        if sorter.dtype is not dtypes.int64:
            raise RuntimeError(f"torch.searchsorted(): sorter must be a tensor of long dtype but got dtype {sorter.dtype.scalar_name}")
        keys = np.take_along_axis(keys, sorter.numpy(), -1)
    for what, t in (("boundary", sorted_sequence), ("input value", input)):
        if hasattr(t, "_slot") and not t.is_contiguous():
            warn_once(
                f"torch.searchsorted(): {what} tensor is non-contiguous, this will lower the performance due to extra data copy when converting "
                f"non-contiguous tensor to contiguous, please use contiguous {what} tensor if possible. This message will only appear once per program."
            )
    way = "right" if right else "left"
    if keys.ndim == 1:
        found = np.searchsorted(keys, values, way)
    else:
        found = np.empty(values.shape, np.int64)
        for at in np.ndindex(values.shape[:-1]):
            found[at] = np.searchsorted(keys[at], values[at], way)
    d = dtypes.int32 if out_int32 else dtypes.int64
    return into(out, creation.from_array(np.asarray(found, d.numpy), d), "searchsorted")


@function()
def bucketize(input, boundaries, *, out_int32=False, right=False, out=None):
    """The bucket between sorted boundaries that each element falls into."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)


@function()
def isin(elements, test_elements, *, assume_unique=False, invert=False, out=None):
    """Whether each element is among the test elements."""
    for x in (elements, test_elements):
        d = x.dtype if hasattr(x, "_slot") else dtypes.of_number(x)
        if d.is_complex or d is dtypes.bool_:
            raise RuntimeError(f"Unsupported input type encountered for isin(): {'ComplexDouble' if isinstance(x, complex) else d.scalar_name}")
    lower = lambda t: t.detach()._values() if hasattr(t, "_slot") else t
    found = np.isin(lower(elements), lower(test_elements), assume_unique=False, invert=invert)
    return into(out, creation.from_array(np.asarray(found), dtypes.bool_), "isin")
