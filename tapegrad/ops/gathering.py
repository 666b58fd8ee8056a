"""Indexing along one dim: gather, scatter, scatter_add, index_select and index_add.  (The rarer writes of this kind are in `scattering.py`.)"""

from __future__ import annotations

import numpy as np

from tapegrad import dtypes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.creation import convert_number
from tapegrad.ops import picks
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import outside
from tapegrad.ops.index_writes import add_at
from tapegrad.ops.outputs import into, stored
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import Unhandled, transformable
from tapegrad.ops.views import wrap_dim


def check_index_dtype(name, index) -> None:
    if index.dtype not in (dtypes.int64, dtypes.int32) and index.numel():
        kinds, got = "int32 or int64" if name == "index_select" else "int32/int64", f" but got: {index.dtype.scalar_name}" if name == "index_add_" else ""
        raise RuntimeError(f"{name.removesuffix('_add') if name == 'scatter_add' else name}(): Expected dtype {kinds} for index{got}")


def index_array(name, x, dim, index):
    """The NumPy index of gather/scatter along `dim`, range-checked."""
    check_index_dtype(name, index)
    if not index.numel():
        return np.empty(tuple(index.shape), np.int64)
    array = index.detach()._array()
    size = x.shape[dim] if x.ndim else 1
    bad = outside(array, 0, size)
    if bad is not None:
        if name == "index_select" and dim != 1 or name == "index_add_" and x.ndim < 2:
            raise IndexError("index out of range in self")
        if name == "index_select":
            raise RuntimeError(f"INDICES element is out of DATA bounds, id={bad} axis_dim={size}")
        raise RuntimeError(f"index {bad} is out of bounds for dimension {dim} with size {size}")
    return array


def check_index_shape(name, x, dim, index, src=None):
    who = "input" if name == "gather" else "self"
    if max(index.ndim, 1) != max(x.ndim, 1) and index.numel():
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {who} tensor")
    if not index.numel():
        return
    if src is not None and max(src.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    size = lambda t, d: t.shape[d] if t.ndim else 1  # noqa: E731
    for d in range(max(x.ndim, 1)):
        if src is not None and (d != dim and size(index, d) > size(x, d) or size(index, d) > size(src, d)):
            raise RuntimeError(
                f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from dimension {dim} and to be no larger size than "
                f"src {list(src.shape)}"
            )
        if d != dim and size(index, d) > size(x, d):
            if who == "self":
                raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from dimension {dim}")
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart from "
                f"dimension {dim}"
            )


def part_of(src, index):
    """The elements of a source that an index of every element has places for, in its shape; one of them may be 0-d where the other has a dim."""
    if tuple(src.shape) == tuple(index.shape):
        return src
    if src.ndim != index.ndim:
        return src.reshape(-1)[: index.numel()].reshape(tuple(index.shape))
    return src[tuple(slice(n) for n in index.shape)]


def along(array, dim):
    """A full NumPy index: `array` in `dim`, the positions of its own elements elsewhere."""
    grids = list(np.ogrid[tuple(slice(n) for n in array.shape)]) if array.ndim else []
    if grids:
        grids[dim] = array
    return tuple(grids)


# --- an index of every element ---------------------------------------------------------------------------------------
@structural("gather_op", "Gather")
def gather_op(node, g):
    """gather: added back where the elements came from."""
    from tapegrad.creation import zeros

    a = node.attributes
    return zeros(a.shape, dtype=g.dtype).scatter_add(a.dim, node.inputs[1], g), None


@function(method=True, batch="along", linear="input")
def gather(input, dim, index, *, sparse_grad=False, out=None):
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    dim = wrap_dim(dim, input.ndim)
    check_index_dtype("gather", index)
    check_index_shape("gather", input, dim, index)
    refused = lambda: index_array("gather", input, dim, index)  # noqa: E731
    if input.ndim and index.ndim == input.ndim and index.numel() and picks.usable(input, index):
        return into(out, picks.along_dim(gather_op, "gather", input, dim, index, None, refused), "gather", operands=(input, index))
    array = refused()
    from tapegrad.creation import from_array

    source = input.detach()._array()
    if not array.size:
        result = from_array(np.empty(array.shape, input.dtype.numpy), input.dtype)
    elif not input.ndim or not array.ndim:
        result = from_array(source.reshape(-1)[array.reshape(-1)].reshape(array.shape), input.dtype)
    else:
        result = from_array(source[along(array, dim)], input.dtype)
    record(gather_op, [input, index], [result], plans.Parameters(gather_op, dim=dim, shape=tuple(input.shape)), saves=0b10)
    return into(out, result, "gather", operands=(input, index))


@structural("scatter_op", "Scatter")
def scatter_op(node, g):
    """scatter: overwritten places lose the gradient, the source gets it."""
    a, index = node.attributes, node.inputs[1]
    from tapegrad.creation import zeros

    base = g.scatter(a.dim, index, zeros(tuple(index.shape), dtype=g.dtype))
    return (base, None, g.gather(a.dim, index)) if a.source else (base, None)


@structural("scatter_add_op", "ScatterAdd")
def scatter_add_op(node, g):
    """scatter_add: the base keeps the gradient, the source gets it."""
    _, index, source = node.inputs
    return g, None, g.gather(node.attributes.dim, index) if source.requires_grad else None


@transformable("along")
def scattered(name, op, input, dim, index, src, add):
    from tapegrad import creation, dispatch
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    tensor = hasattr(src, "_slot")
    if tensor and input.ndim and tuple(src.shape) == tuple(index.shape) and index.numel() and index.ndim == input.ndim and src.dtype is input.dtype \
            and picks.usable(input, index) and not (add and input.dtype.reduced):  # half-precision sums are rounded at the end
        check_index_shape(name, input, dim, index, src)
        return picks.along_dim(op, "scatter_add" if add else "scatter", input, dim, index, src, lambda: index_array(name, input, dim, index))
    check_index_dtype(name, index)
    if tensor and src.dtype is not input.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    if not tensor and not isinstance(src, dispatch.NUMBERS):
        raise TypeError(f"{name}(): argument 'src' must be Tensor or Number, not {type(src).__name__}")
    check_index_shape(name, input, dim, index, src if tensor else None)
    array = index_array(name, input, dim, index)
    result = from_array(input.detach()._array(), input.dtype)
    target = result._array()
    part = part_of(src, index) if tensor else None
    if array.size:
        values = part.detach()._array() if tensor else np.asarray(creation.stored_number(creation.convert_number(src, input.dtype), input.dtype))
        if target.ndim <= 1:  # any of them may be 0-d instead
            target, array, values = target.reshape(-1), array.reshape(-1), np.reshape(values, -1)
        place = along(array, dim)
        if add:
            add_at(target, place, values, input.dtype)
        else:
            target[place] = values
    inputs = [input, index, part] if tensor else [input, index]
    record(op, inputs, [result], plans.Parameters(op, None if tensor else "ScatterBackward1", dim=dim, source=tensor), saves=0 if add else 0b10, reads=(0, 0, 0b10))
    return result


@function(method=True)
@stored()
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """A copy of `input` with `src` (a tensor or number) written at `index` along `dim`."""
    src = value if src is None else src
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise RuntimeError("reduce argument must be either add or multiply.")
        if hasattr(src, "_slot"):
            warn_once(
                "The reduce argument of torch.scatter with Tensor src is deprecated and will be removed in a future PyTorch release. Use "
                "torch.scatter_reduce instead for more reduction options."
            )
        else:
            src = input.new_full(tuple(index.shape), src)
        return input.scatter_reduce(dim, index, src, "sum" if reduce == "add" else "prod")
    return scattered("scatter", scatter_op, input, dim, index, src, False)


@function(method=True)
@stored()
def scatter_add(input, dim, index, src):
    """A copy of `input` with `src` added at `index` along `dim`."""
    return scattered("scatter_add", scatter_add_op, input, dim, index, src, True)


# --- a list of rows --------------------------------------------------------------------------------------------------
@structural("index_select_op", "IndexSelect")
def index_select_op(node, g):
    """index_select: added back at the rows picked."""
    from tapegrad.creation import zeros

    a = node.attributes
    return zeros(a.shape, dtype=g.dtype).index_add(a.dim, node.inputs[1], g), None


def select_samples(level, f, input, dim, index, *, out=None):
    """The batch rule of index_select: gather, if every sample has an index of its own."""
    dim = wrap_dim(dim, input.ndim)
    if not level.follows(index):
        value = level.front(input)
        return level.wrap(f(value, dim + 1, index) if input.ndim else f(value.unsqueeze(1), 1, index).reshape(level.size))
    if not input.ndim:
        return input.expand(index.shape).reshape(()) if index.ndim else input
    flat = index.reshape(-1)
    shape = tuple(input.shape)
    spread = flat.reshape((1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)).expand(*shape[:dim], flat.shape[0], *shape[dim + 1 :])
    return input.gather(dim, spread)


@function(method=True, batch=select_samples, linear="input")
def index_select(input, dim, index, *, out=None):
    """The entries of `dim` that `index` lists."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not input.ndim and index.numel() != 1:
        raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {index.numel()} value(s)")
    if input.ndim and not input.shape[dim] and index.numel():
        raise RuntimeError("index_select(): self indexing axis dim should be positive")
    refused = lambda: index_array("index_select", input, dim, index)  # noqa: E731
    if input.ndim and index.ndim == 1 and picks.usable(input, index):
        return into(out, picks.index(index_select_op, input, dim, [index], dim, refused, "index_select", dim=dim), "index_select", operands=(input, index))
    array = refused().reshape(-1)
    source = input.detach()._array()
    result = from_array(np.take(source, array, dim) if input.ndim else source.copy(), input.dtype)
    record(index_select_op, [input, index], [result], plans.Parameters(index_select_op, dim=dim, shape=tuple(input.shape)), saves=0b10)
    return into(out, result, "index_select", operands=(input, index))


@structural("index_add_op", "IndexAdd")
def index_add_op(node, g):
    """index_add: the base keeps the gradient, the source gets its rows."""
    a = node.attributes
    _, index, source = node.inputs
    if not source.requires_grad:
        return g, None, None
    picked = g.index_select(a.dim, index)
    return g, None, (picked * a.alpha if a.alpha != 1 else picked).reshape(a.source_shape)


def add_samples(level, f, input, dim, index, source, *, alpha=1):
    """The batch rule of index_add: scatter_add, if every sample has an index of its own."""
    dim = wrap_dim(dim, input.ndim)
    if not input.ndim or source.ndim != input.ndim:
        raise Unhandled
    if not level.follows(index):
        return level.wrap(f(level.spread(input), dim + 1, index, level.spread(source), alpha=alpha))
    shape = tuple(source.shape)
    spread = index.reshape((1,) * dim + (-1,) + (1,) * (len(shape) - dim - 1)).expand(shape)
    return input.scatter_add(dim, spread, source if alpha == 1 else source * alpha)


@function(method=True, batch=add_samples)
@stored()
def index_add(input, dim, index, source, *, alpha=1):
    """A copy of `input` with `source` added at the entries of `dim` that `index` lists."""
    from tapegrad.creation import from_array

    dim = wrap_dim(dim, input.ndim)
    if source.dtype is not input.dtype:
        raise RuntimeError(f"index_add_(): self ({input.dtype.scalar_name}) and source ({source.dtype.scalar_name}) must have the same scalar type")
    if index.ndim > 1:
        raise IndexError(
            f"index_add_(): Index is supposed to be a vector, but got dim: {index.ndim} with type: {index.dtype.scalar_name} and size: {list(index.shape)}"
        )
    refused = lambda: index_array("index_add_", input, dim, index)  # noqa: E731
    shape = tuple(input.shape)
    if not source.ndim and index.numel() != 1:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    if source.ndim and index.numel() != source.shape[dim]:
        raise RuntimeError(f"index_add_(): Number of indices ({index.numel()}) should be equal to source.size(dim): ({source.shape[dim]}), for dim: {dim}")
    if source.ndim and not shape or source.ndim and shape and (source.ndim != len(shape) or any(d != dim and shape[d] != source.shape[d] for d in range(len(shape)))):
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {list(shape)} source.shape = {list(source.shape)}"
        )
    alpha = convert_number(alpha, input.dtype)
    stepwise = input.ndim == 1 or not input.dtype.reduced  # half-precision sums of rows are rounded at the end, those of vectors at every step
    if alpha == 1 and stepwise and input.ndim and index.ndim == 1 and tuple(source.shape) == (*shape[:dim], index.numel(), *shape[dim + 1 :]) and picks.usable(input, index):
        return picks.index_add(index_add_op, input, dim, index, source, refused, dim=dim, alpha=1, source_shape=tuple(source.shape))
    array = refused().reshape(-1)
    result = from_array(input.detach()._array(), input.dtype)
    if alpha != 1:
        from tapegrad import modes

        with modes.no_grad():
            added = source.detach() * alpha
    target, values = result._array(), (source.detach() if alpha == 1 else added)._array()
    if not target.ndim:
        target, values = target.reshape(1), values.reshape(1)
    add_at(np.moveaxis(target, dim, 0), array, np.moveaxis(values, dim, 0), input.dtype)
    plan = plans.Parameters(index_add_op, dim=dim, alpha=alpha, source_shape=tuple(source.shape))
    record(index_add_op, [input, index, source], [result], plan, reads=(0, 0, 0b10))
    return result
