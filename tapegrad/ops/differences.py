"""Scans beyond sums, and finite differences: cummax, cummin, logcumsumexp; diff, trapezoid, cumulative_trapezoid, gradient."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd import inplace
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_bool_sub, no_kernel
from tapegrad.ops.joining import cat
from tapegrad.ops.outputs import into, return_type, store
from tapegrad.ops.public import METHODS, function
from tapegrad.ops.registry import structural
from tapegrad.ops.views import tensor_argument, wrap_dim


@structural("cummax_op", "Cummax")
def cummax_op(node, g, _):
    """The gradient goes to the element that was the extremum."""
    a = node.attributes
    if not g.ndim:
        return g
    return g.new_zeros(a.shape).scatter_add(a.dim, node.outputs[1], g)


def running_extremum(name, result, x, dim, larger):
    if tensor_argument(name, x).dtype.is_complex:
        raise no_kernel(f"{name}_cpu", x.dtype)
    if not x.ndim and dim not in (0, -1):
        raise IndexError(f"{name}(): Expected reduction dim -1 or 0 for scalar but got {dim}")
    dim = wrap_dim(dim, x.ndim)
    array = x.detach()._values()
    if not array.ndim:
        values, index = array, np.zeros((), np.int64)
    else:
        accumulate = (np.maximum if larger else np.minimum).accumulate
        values = accumulate(array, dim) if array.shape[dim] else array
        # Ties take the later element; after a NaN, only another NaN.
        fresh = (array >= values if larger else array <= values) | (array != array)
        shape = [-1 if d == dim else 1 for d in range(array.ndim)]
        places = np.where(fresh, np.arange(array.shape[dim]).reshape(shape), 0)
        index = np.maximum.accumulate(places, dim) if array.shape[dim] else places
    outputs = creation.from_array(values, x.dtype), creation.from_array(np.asarray(index, np.int64), dtypes.int64)
    plan = plans.Parameters(cummax_op, "CummaxBackward0" if larger else "CumminBackward0", dim=dim, shape=tuple(x.shape))
    record(cummax_op, [x], outputs, plan, saves=0b100, differentiable=1)
    return result(*outputs)


CummaxResult, CumminResult = return_type("cummax", "values", "indices"), return_type("cummin", "values", "indices")


def both(result, out):
    for given, found in zip(out or (), result, strict=False):
        if given.dtype is not found.dtype:
            raise RuntimeError(f"expected scalar_type {found.dtype.scalar_name} but found {given.dtype.scalar_name}")
    return result if out is None else store(type(result).__name__, result, out)


@function(method=True)
def cummax(input, dim, *, out=None):
    """(values, indices): the largest element so far along `dim`, and where it is."""
    return both(running_extremum("cummax", CummaxResult, input, dim, True), out)


@function(method=True)
def cummin(input, dim, *, out=None):
    """(values, indices): the smallest element so far along `dim`, and where it is."""
    return both(running_extremum("cummin", CumminResult, input, dim, False), out)


@structural("logcumsumexp_op", "Logcumsumexp")
def logcumsumexp_op(node, g):
    """The sum over later results of g exp(x - out): by logarithms, which cannot overflow, or to be differentiated again by all pairs."""
    from tapegrad import modes

    x, out, dim = node.inputs[0], node.outputs[0], node.attributes.dim
    if not x.ndim:
        return g
    if modes.is_grad_enabled() or x.dtype.is_complex:
        x, out, g = x.movedim(dim, -1), out.movedim(dim, -1), g.movedim(dim, -1)
        later = creation.ones((x.shape[-1],) * 2, dtype=dtypes.bool_).triu()
        gaps = (x.unsqueeze(-1) - out.unsqueeze(-2)).masked_fill(~later | (x == -np.inf).unsqueeze(-1), -np.inf)
        return (gaps.exp().conj_physical() * g.unsqueeze(-2)).sum(-1).movedim(-1, dim)

    def part(sign):
        chosen = g * sign > 0
        logarithm = (g * sign).masked_fill(~chosen, 1).log().masked_fill(~chosen, -np.inf)
        return ((logarithm - out).flip(dim).logcumsumexp(dim).flip(dim) + x).exp()

    return part(1) - part(-1)


def complex_log_sums(array, dim):
    """The logarithms of the running sums of exponentials of complex numbers: log(e^a + e^b) = b + log(1 + e^(a - b)), b the larger by its real part.

    An infinite b takes e^a + e^b itself, or is what it is; where a part is NaN, both are from there on.
    """
    terms = np.moveaxis(array.copy(), dim, 0)
    total = np.full(terms.shape[1:], -np.inf, array.dtype)
    for k, term in enumerate(terms):
        less = term.real < total.real
        low, high = np.where(less, term, total), np.where(less, total, term)
        alike = ~np.isfinite(low.real) & (low.real == high.real)
        infinite = np.where(low.real < 0, low, np.log(np.exp(low) + np.exp(high)))
        total = np.where(alike, infinite, complex_log1p(np.exp(low - high)) + high)
        total[np.isnan(term) | np.isnan(terms[k - 1] if k else term)] = complex(np.nan, np.nan)
        terms[k] = total
    return np.moveaxis(terms, 0, dim)


def complex_log1p(z):
    """log(1 + z), exact for small z too."""
    x, y = z.real, z.imag
    size = np.where(np.abs(z) < 0.5, 0.5 * np.log1p(x * (2 + x) + y * y), np.log(np.hypot(x + 1, y)))
    result = np.empty_like(z)
    result.real, result.imag = size, np.arctan2(y, x + 1)
    return result


@function(method=True)
def logcumsumexp(input, dim, *, out=None):
    """The logarithm of the running sum of exponentials along `dim`."""
    dim = wrap_dim(dim, tensor_argument("logcumsumexp", input).ndim)
    if input.dtype.category < dtypes.FLOAT:
        raise no_kernel("logcumsumexp_out_cpu", input.dtype)
    if out is not None and out.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar_type {input.dtype.scalar_name} but found {out.dtype.scalar_name}")
    array = input.detach()._values()
    with np.errstate(all="ignore"):
        running = complex_log_sums if input.dtype.is_complex else np.logaddexp.accumulate
        value = running(array, dim) if array.ndim and array.shape[dim] else array
    result = creation.from_array(np.asarray(value), input.dtype)
    record(logcumsumexp_op, [input], [result], plans.Parameters(logcumsumexp_op, dim=dim), saves=0b11)
    return into(out, result, "logcumsumexp")


# --- differences ----------------------------------------------------------------------------------------------------
@function(method=True)
def diff(input, n=1, dim=-1, prepend=None, append=None, *, out=None):
    """Differences of neighbours along `dim`, `n` times over."""
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = wrap_dim(dim, input.ndim)
    for end in (prepend, append):
        if end is not None and end.ndim != input.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
        if end is not None:
            for d in range(input.ndim):
                if d != dim and end.shape[d] != input.shape[d]:
                    raise RuntimeError(
                        "diff expects the shape of tensor to prepend or append to match that of input except along the differencing dimension; "
                        f"input.size({d}) = {input.shape[d]}, but got tensor.size({d}) = {end.shape[d]}"
                    )
    if n == 0:  # the ends count only for differences
        return into(out, input.clone(), "diff")
    parts = [p for p in (prepend, input, append) if p is not None]
    x = cat(parts, dim) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[dim])):
        size = x.shape[dim]
        later, earlier = x.narrow(dim, min(1, size), max(size - 1, 0)), x.narrow(dim, 0, max(size - 1, 0))
        x = later.logical_xor(earlier) if x.dtype is dtypes.bool_ else later - earlier
    return into(out, x, "diff")


def steps_along(x, y, dim):
    """The spacing of sample points, shaped to be multiplied with differences of y along `dim`."""
    if x.ndim == 1:
        return (x.narrow(0, 1, x.shape[0] - 1) - x.narrow(0, 0, x.shape[0] - 1)).reshape([-1] + [1] * (y.ndim - dim - 1))
    x = x.reshape((1,) * (y.ndim - x.ndim) + tuple(x.shape)) if x.ndim < y.ndim else x
    return x.narrow(dim, 1, x.shape[dim] - 1) - x.narrow(dim, 0, x.shape[dim] - 1)


def trapezoids(name, y, x, dx, dim):
    """The areas between neighbours along `dim`, and the dim."""
    if x is not None and dx is not None:
        raise TypeError(f"{name}() takes either x or dx, not both")
    if isinstance(dx, complex):
        raise RuntimeError(f"{name}: Currently, we only support dx as a real number.")
    dim = wrap_dim(dim, y.ndim)
    if not y.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    if y.shape[dim] == 0:
        return None, dim
    if dtypes.bool_ in (y.dtype, getattr(x, "dtype", None)):
        which = "`y`" if x is None else "`x` or `y`"
        raise RuntimeError(f"{name}: received a bool input for {which}, but bool is not supported")
    if x is not None and x.ndim == 1 and x.shape[0] != y.shape[dim]:
        raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
    size = y.shape[dim]
    step = steps_along(x, y, dim) if x is not None else 1.0 if dx is None else dx
    left, right = y.narrow(dim, 0, size - 1), y.narrow(dim, 1, size - 1)
    return (left + right) * step / 2.0, dim


@function()
def trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral of y along `dim` by the trapezoidal rule, at points x or at distance dx."""
    areas, dim = trapezoids("trapezoid", y, x, dx, dim)
    if areas is None:
        return creation.zeros([s for d, s in enumerate(y.shape) if d != dim], dtype=y.dtype)
    return areas.sum(dim)


@function(name="trapz")
def trapz(y, x=None, *, dx=1, dim=-1):
    """`trapezoid`."""
    return trapezoid(y, dx=dx, dim=dim) if x is None else trapezoid(y, x, dim=dim)


@function()
def cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """The running integral of y along `dim` by the trapezoidal rule."""
    areas, dim = trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return creation.zeros(tuple(y.shape), dtype=y.dtype if y.dtype.category >= dtypes.FLOAT else dtypes.default_dtype()) if areas is None else areas.cumsum(dim)


@function()
def gradient(input, *, spacing=None, dim=None, edge_order=1):
    """Central differences along each dim (one-sided at the ends), over points at distance 1, `spacing`, or at given coordinates; a tuple."""
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if input.dtype is dtypes.uint8:
        raise RuntimeError("torch.gradient does not support uint8 input.")
    if input.dtype is dtypes.bool_:
        no_bool_sub(None, [input, input])
    dims = list(range(input.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [wrap_dim(d, input.ndim) for d in dims]
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims")
    if spacing is None or isinstance(spacing, (int, float, complex)):
        spacings = [1.0 if spacing is None else spacing] * len(dims)
    else:
        spacings = [spacing] if hasattr(spacing, "_slot") else list(spacing)
        if len(spacings) != len(dims):
            raise RuntimeError(
                "torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to have the same length, but got a "
                f"spacing argument of length {len(spacings)} and a dim argument of length {len(dims)}."
            )
    if input.dtype.category <= dtypes.INTEGER:
        input = input.to(dtypes.default_dtype())
    for d, h in zip(dims, spacings):
        if input.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
        if hasattr(h, "_slot") and h.ndim and h.shape[0] != input.shape[d]:
            raise RuntimeError("torch.gradient expected each spacing tensor to have as many elements as the dim has")
    return tuple(slope(input, d, h, edge_order) for d, h in zip(dims, spacings))


def slope(x, d, h, edge_order):
    size = x.shape[d]
    part = lambda start, length: x.narrow(d, start, length)
    uneven = hasattr(h, "_slot") and h.ndim
    if not uneven:
        inside = (part(2, size - 2) - part(0, size - 2)) / (2 * h)
        if edge_order == 1:
            first, last = (part(1, 1) - part(0, 1)) / h, (part(size - 1, 1) - part(size - 2, 1)) / h
        else:
            first = (part(0, 1) * -1.5 + part(1, 1) * 2 - part(2, 1) * 0.5) / h
            last = (part(size - 1, 1) * 1.5 - part(size - 2, 1) * 2 + part(size - 3, 1) * 0.5) / h
        return cat([first, inside, last], d)
    shape = [-1 if k == d else 1 for k in range(x.ndim)]
    steps = (h.narrow(0, 1, size - 1) - h.narrow(0, 0, size - 1)).reshape(shape)
    step = lambda start, length: steps.narrow(d, start, length)
    a, b = step(0, size - 2), step(1, size - 2)
    inside = part(0, size - 2) * (-b / (a * (a + b))) + part(1, size - 2) * ((b - a) / (a * b)) + part(2, size - 2) * (a / (b * (a + b)))
    if edge_order == 1:
        first, last = (part(1, 1) - part(0, 1)) / step(0, 1), (part(size - 1, 1) - part(size - 2, 1)) / step(size - 2, 1)
    else:
        a, b = step(0, 1), step(1, 1)
        first = part(0, 1) * (-(2 * a + b) / (a * (a + b))) + part(1, 1) * ((a + b) / (a * b)) - part(2, 1) * (a / (b * (a + b)))
        a, b = step(size - 3, 1), step(size - 2, 1)
        last = part(size - 3, 1) * (b / (a * (a + b))) - part(size - 2, 1) * ((a + b) / (a * b)) + part(size - 1, 1) * ((2 * b + a) / (b * (a + b)))
    return cat([first, inside, last], d)


METHODS["logcumsumexp_"] = inplace.by_function(logcumsumexp)
