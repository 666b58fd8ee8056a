"""Writes by index that return a copy: index_copy, index_fill, put, masked_scatter, scatter_reduce, index_reduce, take_along_dim."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, determinism, dispatch, dtypes, geometry
from tapegrad.autograd import inplace, underived
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import outside
from tapegrad.ops.choosing import where
from tapegrad.ops.gathering import along, check_index_shape, gather, index_array, part_of
from tapegrad.ops.outputs import into, laid_out_as, stored
from tapegrad.ops.public import METHODS, function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.views import wrap_dim


def with_inplace(f):
    METHODS[f.__name__ + "_"] = inplace.by_function(f, apart=True)
    return f


# --- along one dim --------------------------------------------------------------------------------------------------
@structural("index_copy_op", "IndexCopy")
def index_copy_op(node, g):
    """The base loses the rows that were overwritten, the source gets them."""
    a = node.attributes
    return g.index_fill(a.dim, a.index, 0), g.index_select(a.dim, a.index).reshape(a.shape)


@with_inplace
@function(method=True)
@stored()
def index_copy(input, dim, index, source):
    """A copy of `input` with `source` written at the entries of `dim` that `index` lists."""
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError(f"index_copy_(): Index should have dimension 1 or 0 (got {index.ndim})")
    if source.ndim == 0 and index.numel() != 1:
        raise IndexError(f"index_copy_(): When source is scalar, index should have one element (got {index.numel()})")
    if source.ndim != input.ndim and source.ndim and input.ndim:
        raise IndexError(
            f"index_copy_(): When source and destination are not scalars, their dimensionality must match. Source dimensionality ({source.ndim}), "
            f"destination dimensionality ({input.ndim})"
        )
    if index.dtype is not dtypes.int64:
        raise RuntimeError("index_copy_(): Expected a long tensor for index, but got " + index.dtype.scalar_name)
    if input.dtype is not source.dtype:
        raise RuntimeError(
            f"index_copy_(): self and source expected to have the same dtype, but got (self) {input.dtype.scalar_name} and (source) "
            f"{source.dtype.scalar_name}"
        )
    rest = lambda t: tuple(s for d, s in enumerate(t.shape) if d != dim)
    if source.ndim and rest(input) != rest(source):
        raise RuntimeError(
            f"index_copy_(): Source/destination tensor must have same slice shapes. Destination slice shape: {' '.join(map(str, rest(input)))} at "
            f"dimension {dim} and source slice shape: {' '.join(map(str, rest(source)))} at dimension 0."
        )
    if source.ndim and index.numel() != source.shape[dim]:
        raise IndexError(f"index_copy_(): Number of indices ({index.numel()}) should be equal to source.size(dim) ({source.shape[dim]})")
    where_to, size = index.detach()._array().reshape(-1), input.shape[dim] if input.ndim else 1
    bad = outside(where_to, 0, size)
    if bad is not None:
        raise IndexError(f"index_copy_(): index {bad} is out of bounds for dimension {dim} with size {size}")
    result = creation.from_array(input.detach()._array(), input.dtype)
    target, values = result._array().reshape(input.shape or (1,)), source.detach()._array()
    if target.size:
        np.moveaxis(target, dim, 0)[where_to] = np.moveaxis(values, dim, 0) if values.ndim else values
    plan = plans.Parameters(index_copy_op, dim=dim, index=index, shape=tuple(source.shape))
    record(index_copy_op, [input, source], [result], plan)
    return result


@structural("index_fill_op", "IndexFill")
def index_fill_op(node, g):
    """The base loses the rows that were overwritten; the value gets their sum."""
    a = node.attributes
    base = g.index_fill(a.dim, a.index, 0)
    return (base, g.index_select(a.dim, a.distinct).sum()) if a.tensor else (base,)


@function(method=True)
def index_fill(input, dim, index, value):
    """A copy of `input` with `value`, a number or a 0-d tensor, at the entries of `dim` that `index` lists."""
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    tensor = hasattr(value, "_slot")
    if (value.dtype.is_complex and not value.ndim if tensor else isinstance(value, complex)) and not input.dtype.is_complex:
        raise RuntimeError("index_fill_(): Converting complex Scalar to non-complex type is not supported")
    if tensor and value.ndim:
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")
    size = input.shape[dim] if input.ndim else 1
    array = index.detach()._array().reshape(-1)
    bad = outside(array, -size, size)
    if bad is not None:
        raise IndexError(f"index {bad} is out of bounds for dimension {dim} with size {size}")
    result = creation.from_array(input.detach()._array(), input.dtype)
    target = result._array().reshape(input.shape or (1,))
    filler = dispatch.convert(value.detach(), input.dtype) if tensor else creation.scalar(value, input.dtype)
    np.moveaxis(target, dim, 0)[array] = filler._array()
    result = laid_out_as(input, result)
    operands = [input, dispatch.convert(value, input.dtype)] if tensor else [input]
    normal = creation.from_array(array % size if size else array, dtypes.int64)
    distinct = creation.from_array(np.unique(normal.numpy()), dtypes.int64)
    record(index_fill_op, operands, [result], plans.Parameters(index_fill_op, f"IndexFillBackward{int(tensor)}", dim=dim, index=normal, distinct=distinct, tensor=tensor))
    return result


@method()
def index_fill_(self, dim, index, value):
    """`index_fill` in place."""
    if inplace.is_repeated(self):
        inplace.warn_of_repeated("index_fill_", "tensor[mask] = scalar")
        part, dims = inplace.once(self)
        _index_fill_(part, dim, index * 0 if wrap_dim(dim, self.ndim) in dims else index, value)
        return self
    return _index_fill_(self, dim, index, value)


_index_fill_ = inplace.by_function(index_fill, apart=True, looked=1)


@function(method=True)
def take_along_dim(input, indices, dim=None, *, out=None):
    """The elements that `indices` picks along `dim`, the other dims broadcasting; flat positions without a dim."""
    if indices.dtype is not dtypes.int64:
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got " + indices.dtype.scalar_name)
    if dim is None:
        return into(out, gather(input.reshape(-1), 0, indices.reshape(-1)), "take_along_dim", operands=(input, indices))
    if input.ndim != indices.ndim:
        raise RuntimeError(
            f"torch.take_along_dim(): input and indices should have the same number of dimensions, but got {input.ndim} dimensions for input, and "
            f"{indices.ndim} dimensions for indices"
        )
    dim = wrap_dim(dim, input.ndim)
    but = lambda t: tuple(1 if d == dim else s for d, s in enumerate(t.shape))
    shape = geometry.broadcast_shapes(but(input), but(indices))
    fit = lambda t: t.expand([t.shape[dim] if d == dim else s for d, s in enumerate(shape)])
    if indices.numel():
        indices = indices % input.shape[dim]  # however far they go, as torch
    return into(out, gather(fit(input), dim, fit(indices)), "take_along_dim", operands=(input, indices))


# --- flat positions and masks ---------------------------------------------------------------------------------------
@structural("put_op", "Put")
def put_op(node, g):
    """The source gets the gradient where it was put; the base loses it, unless the source was added."""
    a = node.attributes
    return g if a.accumulate else g.put(a.index, g.new_zeros(a.shape)), g.take(a.index).reshape(a.shape)


@with_inplace
@function(method=True)
def put(input, index, source, accumulate=False):
    """A copy of `input` with the elements of `source` written (or added) at flat positions."""
    if not accumulate:
        determinism.alert("put_")
    if index.dtype is not dtypes.int64:
        raise RuntimeError("put_(): Expected a long tensor for index, but got " + index.dtype.scalar_name)
    if input.dtype is not source.dtype:
        raise RuntimeError(
            f"put_(): self and source expected to have the same dtype, but got self.dtype = {input.dtype.scalar_name} and source.dtype = "
            f"{source.dtype.scalar_name}"
        )
    if index.numel() != source.numel():
        raise IndexError(
            f"put_(): Expected source and index to have the same number of elements, but got source.numel() = {source.numel()}, index.numel() = "
            f"{index.numel()}"
        )
    if not input.numel() and index.numel():
        raise IndexError("put_(): Expected self to have elements when index has elements")
    if accumulate and input.dtype.reduced:
        return put(input.float(), index, source.float(), True).to(input.dtype)
    array, size = index.detach()._array().reshape(-1), input.numel()
    bad = outside(array, -size, size)
    if bad is not None:
        raise IndexError(f"out of range: tried to access index {bad} on a tensor of {size} elements.")
    result = creation.from_array(input.detach()._array(), input.dtype)
    target, values = result._array().reshape(-1), source.detach()._array().reshape(-1)
    if accumulate:
        np.add.at(target, array, values)
    else:
        target[array] = values
    result = laid_out_as(input, result)
    record(put_op, [input, source], [result], plans.Parameters(put_op, index=index, shape=tuple(source.shape), accumulate=accumulate))
    return result


@structural("masked_scatter_op", "MaskedScatter")
def masked_scatter_op(node, g):
    """The base loses what was overwritten; the first elements of the source get it."""
    a = node.attributes
    picked = g.masked_select(a.mask)
    source = g.new_zeros((a.count,)).index_add(0, creation.arange(picked.shape[0]), picked).reshape(a.shape)
    return g.masked_fill(a.mask, 0), source


@function(method=True)
def masked_scatter(input, mask, source):
    """A copy of `input` in which the places where `mask` is True take the elements of `source` one after the other."""
    if input.dtype is not source.dtype:
        raise RuntimeError(
            f"masked_scatter: expected self and source to have same dtypes but got{input.dtype.scalar_name} and {source.dtype.scalar_name}"
        )
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype.scalar_name}")
    shape = geometry.broadcast_shapes(tuple(input.shape), tuple(mask.shape))
    input, mask = input.expand(shape), mask.expand(shape)
    result = creation.from_array(input.detach()._array(), input.dtype)
    chosen, values = mask.numpy(), source.detach()._array().reshape(-1)
    if values.size < chosen.sum():
        raise RuntimeError("Number of elements of source < number of ones in mask")
    result._array()[chosen] = values[: chosen.sum()]
    plan = plans.Parameters(masked_scatter_op, mask=mask, count=source.numel(), shape=tuple(source.shape))
    record(masked_scatter_op, [input, source], [result], plan)
    return result


METHODS["masked_scatter_"] = inplace.by_function(masked_scatter, apart=True, looked=1)


# --- reductions by index --------------------------------------------------------------------------------------------
@structural("scatter_reduce_op", "ScatterReduce")
def scatter_reduce_op(node, g):
    """Sum and mean pass (a share of) g on, extrema share it among those that are equal, products multiply with the others."""
    a = node.attributes
    x, src, out = node.inputs[0], node.inputs[1], node.outputs[0]
    dim, index = a.dim, a.index
    if a.reduce == "sum":
        g_x, g_src = g, g.gather(dim, index)
    elif a.reduce == "mean":
        count = g.new_ones(tuple(x.shape)) if a.include_self else g.new_zeros(tuple(x.shape))
        count = count.scatter_add(dim, index, g.new_ones(tuple(src.shape)))
        count = count.masked_fill(count == 0, 1)
        g_x, g_src = g / count, (g / count).gather(dim, index)
    elif a.reduce == "prod":
        g_x, g_src = products_of_others(a, x, src, out, g)
    else:
        equal_x, equal_src = (x == out).to(g.dtype), (src == out.gather(dim, index)).to(g.dtype)
        count = equal_x.scatter_add(dim, index, equal_src)
        share = g / count
        g_x, g_src = equal_x * share, equal_src * share.gather(dim, index)
    if not a.include_self:
        g_x = g_x.scatter(dim, index, 0)
    return g_x, g_src


DOUBLE = "{0}(): Double backward is unsupported for {1} when >1 zeros in {1} are scattered to the same position in self"


def products_of_others(a, x, src, out, g):
    """Gradients of a product by index; where one factor is zero, the product of the others is computed without it."""
    dim, index = a.dim, a.index
    masked = x.masked_fill(x == 0, 1)
    g_x = g * scatter_reduce(masked, dim, index, src, "prod", include_self=a.include_self) / masked
    zero = src == 0
    zeros = g.new_zeros(tuple(x.shape)).scatter_add(dim, index, zero.to(g.dtype))
    zeros = zeros.gather(dim, index)
    only = zero & (zeros == 1)
    others = scatter_reduce(x, dim, index, src.masked_fill(only, 1), "prod", include_self=a.include_self)
    g_src = where(only, (g * others).gather(dim, index), (g * out).gather(dim, index) / src.masked_fill(zero, 1))
    if g_src.requires_grad and bool((zeros > 1).any()):
        names = ("index_reduce", "source") if a.graph_name == "IndexReduceBackward0" else ("scatter_reduce", "src")
        (g_src,) = underived.refused([g_src], [g_src], DOUBLE.format(*names))
    return g_x, g_src


REDUCE = {"sum": np.add, "prod": np.multiply, "mean": np.add, "amax": np.maximum, "amin": np.minimum}


def start_value(reduce, d):
    if reduce in ("sum", "mean", "prod"):
        return 1 if reduce == "prod" else 0
    if d.is_floating_point:
        return -np.inf if reduce == "amax" else np.inf
    if d is dtypes.bool_:
        return reduce == "amin"
    info = np.iinfo(d.numpy)
    return info.min if reduce == "amax" else info.max


def reduced_by_index(name, graph_name, input, dim, index, src, reduce, include_self):
    if reduce not in REDUCE:
        raise RuntimeError(f"{name}(): Expected reduce to be one of {', '.join(REDUCE)} but got {reduce}" if name == "index_reduce" else
                           f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")  # fmt: skip
    dim = wrap_dim(dim, input.ndim)
    if index.dtype not in (dtypes.int64, dtypes.int32) and index.numel():
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if input.dtype is not src.dtype:
        if name == "index_reduce":
            raise RuntimeError(f"index_reduce_(): self ({input.dtype.scalar_name}) and source ({src.dtype.scalar_name}) must have the same scalar type")
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if input.dtype.reduced:
        return reduced_by_index(name, graph_name, input.float(), dim, index, src.float(), reduce, include_self).to(input.dtype)
    check_index_shape("scatter", input, dim, index, src if name != "index_reduce" else None)
    places = index_array("scatter", input, dim, index)
    result = creation.from_array(input.detach()._array(), input.dtype)
    target = result._array()
    src = part_of(src, index)
    if places.size:
        values = src.detach()._array()
        if target.ndim <= 1:  # any of them may be 0-d instead
            target, places, values = target.reshape(-1), places.reshape(-1), np.reshape(values, -1)
        at = along(places, dim)
        if not include_self:
            target[at] = start_value(reduce, input.dtype)
        REDUCE[reduce].at(target, at, values)
        if reduce == "mean":
            count = np.full(target.shape, int(include_self), np.int64)
            np.add.at(count, at, 1)
            count[count == 0] = 1
            target[...] = target / count if input.dtype.is_floating_point else target // count
    plan = plans.Parameters(scatter_reduce_op, graph_name, dim=dim, index=index, reduce=reduce, include_self=include_self)
    record(scatter_reduce_op, [input, src], [result], plan, saves=0b111 if reduce not in ("sum",) else 0b011)
    return result


@with_inplace
@function(method=True)
@stored()
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """A copy of `input` in which the elements of `src` with the same place along `dim` are reduced ("sum", "prod", "mean", "amax", "amin")."""
    return reduced_by_index("scatter", None, input, dim, index, src, reduce, include_self)


@with_inplace
@function(method=True)
@stored()
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """The same for whole entries of `dim`, listed by `index`; reduce is "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError(f"index_reduce_(): Index is supposed to be a vector, but got dim: {index.ndim}")
    if source.ndim and index.numel() != source.shape[dim]:
        raise RuntimeError(
            f"index_reduce_(): Number of indices ({index.numel()}) should be equal to source.size(dim): ({source.shape[dim]}), for dim: {dim}"
        )
    if outside(index.detach()._array(), 0, input.shape[dim] if input.ndim else 1) is not None:
        raise IndexError("index out of range in self")
    if source.ndim == 0 and input.ndim == 0:
        return reduced_by_index("index_reduce", "IndexReduceBackward0", input, dim, index.reshape(()), source, reduce, include_self)
    shape = [-1 if d == dim else 1 for d in range(source.ndim)]
    whole = index.reshape(shape).expand(source.shape)
    return reduced_by_index("index_reduce", "IndexReduceBackward0", input, dim, whole, source, reduce, include_self)
