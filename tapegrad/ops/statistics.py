"""Statistics: reductions that leave NaN out, covariances, histograms, extrema in pairs; renorm, nan_to_num, fill."""

from __future__ import annotations

import builtins

import numpy as np

from tapegrad import creation, dispatch, dtypes
from tapegrad.autograd import inplace, underived
from tapegrad.autograd.node import record
from tapegrad.cautions import warn
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.choosing import where
from tapegrad.ops.extrema import extremum
from tapegrad.ops.norms import vector_norm
from tapegrad.ops.outputs import into, laid_out_as, return_type, store
from tapegrad.ops.public import METHODS, function
from tapegrad.ops.reductions import dims_of, restore_dims, sum
from tapegrad.ops.registry import BY_NAME, structural
from tapegrad.ops.views import tensor_argument, wrap_dim

INF = float("inf")


# --- NaN left out ---------------------------------------------------------------------------------------------------
@structural("nansum_op", "Nansum")
def nansum_op(node, g):
    """The gradient goes to every element that is not NaN."""
    return restore_dims(g, node).expand(node.attributes.shape) * (~node.inputs[0].isnan()).to(g.dtype)


@function(method=True)
def nansum(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The sum of the elements that are not NaN."""
    from tapegrad import modes

    if tensor_argument("nansum", input).dtype.is_complex:
        raise RuntimeError("nansum on CPU does not support complex inputs")
    input = input if dtype is None else input.to(dtype)
    if not input.dtype.is_floating_point:
        return sum(input, dim, keepdim, dtype=dtype, out=out)
    with modes.no_grad():
        x = input.detach()
        result = x.masked_fill(x.isnan(), 0).sum(dim, keepdim)
    plan = plans.Parameters(nansum_op, dims=dims_of(dim, input.ndim), keepdim=keepdim, shape=tuple(input.shape))
    record(nansum_op, [input], [result], plan, saves=0b01)
    return into(out, result, "nansum")


@function(method=True)
def nanmean(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The mean of the elements that are not NaN."""
    if not input.dtype.is_floating_point:
        raise RuntimeError("nanmean(): expected input to have floating point or complex dtype but got " + input.dtype.scalar_name)
    count = (~input.detach().isnan()).sum(dim, keepdim)
    return into(out, nansum(input, dim, keepdim, dtype=dtype) / count, "nanmean")


@structural("nan_to_num_op", "NanToNum")
def nan_to_num_op(node, g):
    """The gradient of finite elements."""
    return g * node.inputs[0].isfinite().to(g.dtype)


@function(method=True)
def nan_to_num(input, nan=0.0, posinf=None, neginf=None, *, out=None):
    """NaN and infinities replaced: by `nan`, and by the largest and smallest number of the dtype unless others are given."""
    tensor_argument("nan_to_num", input)
    if input.dtype.is_complex:
        parts = [nan_to_num(part, nan, posinf, neginf) for part in (input.real, input.imag)]
        return into(out, dispatch.call(BY_NAME["complex"], *parts), "nan_to_num")
    if not input.dtype.is_floating_point:
        return into(out, input.clone(), "nan_to_num")
    largest = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}.get(input.dtype.name)
    low = -largest if neginf is None and largest else neginf
    array = np.nan_to_num(input.detach()._values(), nan=0.0 if nan is None else nan, posinf=largest if posinf is None else posinf, neginf=low)
    result = laid_out_as(input, creation.from_array(np.asarray(array), input.dtype))
    record(nan_to_num_op, [input], [result], saves=0b01)
    return into(out, result, "nan_to_num")


METHODS["nan_to_num_"] = inplace.by_function(nan_to_num)


# --- extrema, norms and filling -------------------------------------------------------------------------------------
AminmaxResult = return_type("aminmax", "min", "max")


@structural("aminmax_op", "Aminmax")
def aminmax_op(node, g_min, g_max):
    """Each extremum shares its gradient among ties."""
    x, total = node.inputs[0], None
    for g, out in zip((g_min, g_max), node.outputs):
        if g is not None:
            mask = (x == restore_dims(out, node)).to(g.dtype)
            part = restore_dims(g, node) / mask.sum(node.attributes.dims, True) * mask
            total = part if total is None else total + part
    return total


@function(method=True)
def aminmax(input, *, dim=None, keepdim=False, out=None):
    """(min, max) over `dim` or all elements."""
    from tapegrad import modes

    if dim is None and not input.numel():
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity.")
    if input.dtype.is_complex:
        raise no_kernel("aminmax_cpu", input.dtype)
    dims = dims_of(dim, input.ndim)
    with modes.no_grad():
        x = input.detach()
        if dim is not None and input.ndim and input.shape[dims[0]] == 0:
            raise IndexError(f"aminmax: Expected reduction dim {dims[0]} to have non-zero size.")
        low = extremum("amin", x, dims, keepdim, "Amin")
        high = extremum("amax", x, dims, keepdim, "Amax")
    record(aminmax_op, [input], [low, high], plans.Parameters(aminmax_op, dims=dims, keepdim=keepdim, shape=tuple(input.shape)), saves=0b111)
    result = AminmaxResult(low, high)
    return result if out is None else store("aminmax", result, out)


@function(method=True)
def renorm(input, p, dim, maxnorm, *, out=None):
    """Slices along `dim` whose p-norm is above `maxnorm` scaled down to it."""
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    dim = wrap_dim(dim, input.ndim)
    norm = vector_norm(input, p, tuple(d for d in range(input.ndim) if d != dim), True)
    factor = where(norm > maxnorm, maxnorm / (norm + 1e-7), norm.new_ones(()))
    return into(out, input * factor, "renorm")


METHODS["renorm_"] = inplace.by_function(renorm)


@structural("fill_op", "Fill")
def fill_op(node, g):
    """The base gets nothing, the value the sum."""
    return (g * 0, g.sum()) if node.attributes.tensor else (g * 0,)


@function()
def fill(input, value):
    """A tensor like `input` with `value`, a number or a 0-d tensor, everywhere."""
    tensor = hasattr(value, "_slot")
    if tensor and value.ndim:
        raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
    result = creation.full_like(input, value.item() if tensor else value)
    operands = [input, dispatch.convert(value, input.dtype)] if tensor else [input]
    record(fill_op, operands, [result], plans.Parameters(fill_op, tensor=tensor))
    return result


# --- covariances ----------------------------------------------------------------------------------------------------
def weights_of(name, weights, x, integer):
    if weights.ndim > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {weights.ndim} dimensions")
    if integer and weights.dtype.category != dtypes.INTEGER:
        raise RuntimeError("cov(): expected fweights to have integral dtype but got fweights with " + weights.dtype.scalar_name + " dtype")
    if not integer and not weights.dtype.is_floating_point:
        raise RuntimeError("cov(): expected aweights to have floating point dtype but got aweights with " + weights.dtype.scalar_name + " dtype")
    if weights.numel() != x.shape[1]:
        raise RuntimeError(
            f"cov(): expected {name} to have the same numel as there are observations in the input but got {weights.numel()} != {x.shape[1]}"
        )
    if weights.numel() and builtins.bool((weights < 0).any()):
        raise RuntimeError(f"cov(): {name} cannot be negative")
    return weights.reshape(-1)


@function(method=True)
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariance matrix of variables in rows, observed in columns; fweights repeat observations, aweights weigh them."""
    if input.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    if input.dtype is dtypes.bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = input.reshape(1, -1) if input.ndim < 2 else input
    weights = None if fweights is None else weights_of("fweights", fweights, x, True)
    if aweights is not None:
        aweights = weights_of("aweights", aweights, x, False)
        weights = aweights if weights is None else weights * aweights
    if x.dtype.category < dtypes.FLOAT:
        x = x.to(dtypes.default_dtype())
    if weights is None:
        total = x.shape[1]
        mean = x.sum(1, True) / total if total else x.sum(1, True) / float("nan")
        centred = x - mean
        other, norm = centred, builtins.max(total - correction, 0)
        norm = x.new_full((), norm)
        freedom = total - correction
    else:
        total = weights.sum()
        if x.shape[1] and builtins.bool(total == 0):
            raise RuntimeError("cov(): weights sum to zero, can't be normalized")
        centred = x - (x * weights).sum(1, True) / total
        other = centred * weights
        unit = (weights * aweights).sum() / total if aweights is not None and correction != 0 else 1
        freedom = total - correction * unit
        norm = freedom.clamp(min=0).to(x.dtype)
    if freedom <= 0:
        warn(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.", stacklevel=4
        )
    result = centred @ other.mH / norm
    return result.squeeze()


@function(method=True)
def corrcoef(input):
    """The matrix of correlation coefficients of variables in rows."""
    if input.ndim > 2:
        raise RuntimeError(f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    c = cov(input)
    if c.ndim == 0:
        return c / c
    scale = c.diagonal().sqrt()
    result = c / scale.unsqueeze(1) / scale.unsqueeze(0)
    if not result.dtype.is_complex:
        return result.clamp(-1, 1)
    return dispatch.call(BY_NAME["complex"], result.real.clamp(-1, 1), result.imag.clamp(-1, 1))


# --- histograms -----------------------------------------------------------------------------------------------------
def ends_of(name, array, low, high):
    """The ends of the bins: those given, or else those of the data."""
    dd = name == "torch.histogramdd"
    if array.size and (low is None if dd else low == high):
        low, high = float(array.min()), float(array.max())
    elif low is None:
        low, high = 0.0, 1.0
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"{name}: {'dimension 0' + chr(39) + 's range' if dd else 'range of'} [{low:g}, {high:g}] is not finite")
    if dd and low > high:
        raise RuntimeError(f"{name}: min should not exceed max, but got min {low:g} max {high:g} for dimension 0")
    if low > high:
        raise RuntimeError(f"{name}: max must be larger than min")
    margin = 0 if low < high else 0.5 if dd else 1
    return low - margin, high + margin


@function(method=True)
def histc(input, bins=100, min=0, max=0, *, out=None):
    """How many elements fall into each of `bins` equal bins from min to max (those of the data if the two are equal)."""
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if not input.dtype.is_floating_point:
        kernel = "linspace_cpu" if input.dtype is dtypes.bool_ else "aminmax_cpu" if input.dtype.is_complex and min == max else "histogram_cpu"
        raise no_kernel(kernel, input.dtype)
    x = input.detach().reshape(-1)
    low, high = ends_of("torch.histc", x._values(), min, max)
    low, high = creation.tensor([low, high], dtype=x.dtype)  # every step of the arithmetic rounds to the dtype, as in torch's kernel
    x = x[(x >= low) & (x <= high)]
    at = np.minimum(((x - low) * bins / (high - low))._values().astype(np.int64), bins - 1)
    return into(out, creation.tensor(np.bincount(at, minlength=bins), dtype=input.dtype), "histc")


HistogramResult = return_type("histogram", "hist", "bin_edges")


@function(method=True)
def histogram(input, bins=100, *, range=None, weight=None, density=False, out=None):
    """(hist, bin_edges) of `bins` equal bins over `range`, or of bins between the edges given; counts, or sums of weights."""
    name = "torch.histogramdd"
    if not hasattr(bins, "_slot") and bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if hasattr(bins, "_slot"):
        if bins.dtype is not input.dtype:
            raise RuntimeError(
                f"{name}: input tensor and bins tensors should have the same dtype, but got input with dtype {input.dtype.short} and bins for "
                f"dimension 0 with dtype {bins.dtype.short}"
            )
        if bins.ndim != 1:
            raise RuntimeError(f"{name}: bins tensor should have one dimension, but got {bins.ndim} dimensions in the bins tensor for dimension 0")
        if not bins.numel():
            raise RuntimeError(f"{name}: bins tensor should have at least 1 element, but got 0 elements in the bins tensor for dimension 0")
        if bins.numel() == 1:
            raise RuntimeError("torch.histogram(): bins must be > 0, but got 0 for dimension 0")
    if weight is not None:
        if weight.dtype is not input.dtype:
            raise RuntimeError(
                f"{name}: if weight tensor is provided, input tensor and weight tensor should have the same dtype, but got input({input.dtype.short}), "
                f"and weight({weight.dtype.short})"
            )
        if weight.numel() != input.numel():
            raise RuntimeError(
                f"{name}: if weight tensor is provided it should have the same shape as the input tensor excluding its innermost dimension, but got "
                f"input with shape [{input.numel()}, 1] and weight with shape [{weight.numel()}]"
            )
    if range is not None and len(range) != 2:
        raise RuntimeError(f"{name}: for a 1-dimensional histogram range should have 2 elements, but got {len(range)}")
    if not input.dtype.is_floating_point or input.dtype.reduced:
        raise no_kernel("histogramdd", input.dtype)
    for what, given, place in zip(("hist", "bin_edges"), out or (), ("", " for dimension 0"), strict=False):
        if given.dtype is not input.dtype:
            raise RuntimeError(
                f"torch.histogram: input tensor and {what} tensor should have the same dtype, but got input {input.dtype.short} and {what} "
                f"{given.dtype.short}{place}"
            )
    array = input.detach()._values().reshape(-1)
    weights = None if weight is None else weight.detach()._values().reshape(-1)
    if hasattr(bins, "_slot"):
        edges = bins.detach()._values()
    else:
        low, high = ends_of(name, array, *(range or (None, None)))
        edges = creation.linspace(low, high, bins + 1, dtype=input.dtype)._values()
    at = np.searchsorted(edges, array, "right") - 1
    at[array == edges[-1]] = len(edges) - 2  # the last bin has both of its ends
    inside = (array >= edges[0]) & (array <= edges[-1])
    counts = np.bincount(at[inside], None if weights is None else weights[inside], len(edges) - 1).astype(array.dtype)
    if density:
        counts = counts / (counts.sum() * np.diff(edges))
    result = HistogramResult(creation.from_array(counts, input.dtype), creation.from_array(np.asarray(edges, array.dtype), input.dtype))
    underived.unknown("histogram", [t for t in (input, bins, weight) if hasattr(t, "_slot")], result)
    return result if out is None else store("histogram", result, out, None)


@function(method=True)
def bincount(input, weights=None, minlength=0):
    """How often each non-negative integer occurs, or the sum of its weights."""
    if input.dtype.category != dtypes.INTEGER:
        raise no_kernel("bincount_cpu", input.dtype)
    if input.ndim != 1:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    array = input.numpy()
    if array.size and array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return creation.from_array(np.bincount(array, minlength=minlength).astype(np.int64), dtypes.int64)
    if weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    d = weights.dtype if weights.dtype is dtypes.float32 else dtypes.float64
    result = creation.from_array(np.bincount(array, weights.detach()._values(), minlength).astype(d.numpy), d)
    underived.unknown("bincount", [input, weights], [result])
    return result
