"""Splitting, stacking, turning and repeating beyond `joining`: tensor_split, dstack, rot90, repeat_interleave, combinations."""

from __future__ import annotations

import itertools

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.creation import check_dtype
from tapegrad.formats import contiguous_format
from tapegrad.geometry import contiguous_strides
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.diagonals import diag_embed
from tapegrad.ops.joining import cat, meshgrid, sequence, stack
from tapegrad.ops.public import FUNCTIONS, function
from tapegrad.ops.registry import structural
from tapegrad.ops.views import tensor_argument, wrap_dim


# --- stacking -------------------------------------------------------------------------------------------------------
def at_least_3d(x):
    return x.reshape(1, 1, 1) if x.ndim == 0 else x.reshape(1, -1, 1) if x.ndim == 1 else x.unsqueeze(-1) if x.ndim == 2 else x


@function()
def atleast_3d(*tensors):
    """The tensors with 3 dims at least: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    found = tuple(map(at_least_3d, sequence("atleast_3d", tensors)))
    return found[0] if len(found) == 1 and not isinstance(tensors, list) else found


@function()
def dstack(tensors, *, out=None):
    """numpy.dstack for tensors."""
    tensors = sequence("dstack", tensors)
    if not tensors:
        raise RuntimeError("dstack expects a non-empty TensorList")
    return cat([at_least_3d(x) for x in tensors], 2, out=out)


@function()
def column_stack(tensors, *, out=None):
    """numpy.column_stack for tensors: vectors are columns."""
    tensors = sequence("column_stack", tensors)
    if not tensors:
        raise RuntimeError("column_stack expects a non-empty TensorList")
    return cat([x.reshape(x.numel(), 1) if x.ndim <= 1 else x for x in tensors], 1, out=out)


FUNCTIONS["row_stack"] = FUNCTIONS["vstack"]


# --- splitting ------------------------------------------------------------------------------------------------------
@function(method=True)
def tensor_split(input, indices_or_sections, dim=0):
    """Views between the indices given, or so many of nearly equal size, along `dim`."""
    if input.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    if hasattr(indices_or_sections, "_slot"):
        if indices_or_sections.dtype is not dtypes.int64:
            raise RuntimeError(
                f"tensor_split expected tensor_indices_or_sections to have dtype of long, but got {indices_or_sections.dtype.scalar_name}"
            )
        if indices_or_sections.ndim > 1:
            raise RuntimeError(
                f"tensor_split expected tensor_indices_or_sections to be a zero-dimensional or one-dimensional tensor, but got a tensor with "
                f"{indices_or_sections.ndim} dims"
            )
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (tuple, list)):
        bounds = [0, *(slice(None, b).indices(size)[1] for b in indices_or_sections), size]
    else:
        count = indices_or_sections
        if count <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {count}")
        small, extra = divmod(size, count)
        bounds = [k * small + min(k, extra) for k in range(count + 1)]
    return tuple(input.narrow(dim, a, max(a, b) - a) for a, b in zip(bounds, bounds[1:]))


def _split_along(name, dim_of, least):
    def run(input, indices_or_sections):
        if input.ndim < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor with {input.ndim} dimensions!")
        dim = dim_of(input)
        if isinstance(indices_or_sections, (str, float)):
            raise TypeError(f"{name}() received an invalid combination of arguments - got (Tensor, {type(indices_or_sections).__name__})")
        if isinstance(indices_or_sections, int):
            if indices_or_sections <= 0 or input.shape[dim] % indices_or_sections:
                raise RuntimeError(
                    f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension {input.shape[dim]} is not divisible by the "
                    f"split_size {indices_or_sections}!"
                )
        return tensor_split(input, indices_or_sections, dim)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"numpy.{name} for tensors."
    return function(method=True, name=name)(run)


_split_along("hsplit", lambda x: 0 if x.ndim == 1 else 1, 1)
_split_along("vsplit", lambda x: 0, 2)
_split_along("dsplit", lambda x: 2, 3)


# --- turning and repeating ------------------------------------------------------------------------------------------
@function(method=True)
def fliplr(input):
    """Columns in reverse order."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return input.flip(1)


@function(method=True)
def flipud(input):
    """Rows in reverse order."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return input.flip(0)


@structural("rot90_op", "Rot90")
def rot90_op(node, g):
    """Turned back."""
    return rot90(g, -node.attributes.k, node.attributes.dims)


@function(method=True)
def rot90(input, k=1, dims=(0, 1)):
    """Turned by k quarters in the plane of two dims."""
    dims = list(dims)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == input.ndim:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    for n, d in enumerate(dims):
        if not -input.ndim <= d < input.ndim:
            raise RuntimeError(f"Rotation dim{n} out of range, dim{n} = {d}")
    x = input.detach()
    turns = k % 4
    flipped = x.flip(dims) if turns == 2 else x.flip(dims[1 if turns == 1 else 0]) if turns else x.clone(memory_format=contiguous_format)
    result = flipped.transpose(*dims).detach() if turns in (1, 3) else flipped
    record(rot90_op, [input], [result], plans.Parameters(rot90_op, k=k, dims=dims))
    return result


@function(method=True)
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Every element (slice of `dim`) repeated, all as often or each as `repeats` says; of one tensor of counts, the index that does it."""
    if repeats is None:
        input, repeats = None, input
    if hasattr(repeats, "_slot") and repeats.dtype not in (dtypes.int64, dtypes.int32):
        if input is None and repeats.ndim == 1:
            raise no_kernel("repeat_interleave_cpu", repeats.dtype)
        if input is not None:
            raise RuntimeError("repeats has to be Long or Int tensor")
    counts = repeats.detach()._values() if hasattr(repeats, "_slot") else np.asarray(repeats)
    if counts.ndim > 1 or input is None and counts.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat" if input is None else "repeats must be 0-dim or 1-dim tensor")
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    if input is None:
        return creation.from_array(np.repeat(np.arange(counts.size), counts), dtypes.int64)
    x, dim = (input.reshape(-1), 0) if dim is None else (input, wrap_dim(dim, input.ndim))
    size = x.shape[dim] if x.ndim else 1
    if counts.ndim and counts.size not in (1, size):
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {counts.size} and input.size({dim}) = {size}"
        )
    index = np.repeat(np.arange(size), np.broadcast_to(counts, size))
    if isinstance(repeats, int) and x.ndim and output_size in (None, len(index)):
        shape = tuple(x.shape)
        return x.unsqueeze(dim + 1).expand(*shape[: dim + 1], repeats, *shape[dim + 1 :]).clone().reshape(*shape[:dim], len(index), *shape[dim + 1 :])
    if output_size is not None and len(index) != output_size:
        raise RuntimeError("repeat_interleave: Invalid output_size, expected " f"{len(index)} but got {output_size}")
    return (x if x.ndim else x.reshape(1)).index_select(dim, creation.from_array(index, dtypes.int64))


@function(method=True)
def diagflat(input, offset=0):
    """A matrix with the elements of `input` on a diagonal."""
    return diag_embed(input.reshape(-1), offset)


# --- products of elements -------------------------------------------------------------------------------------------
@function()
def cartesian_prod(*tensors):
    """Every choice of one element of each vector, in rows."""
    for x in sequence("cartesian_prod", tensors):
        if x.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape(-1) for g in meshgrid(*tensors, indexing="ij")], 1)


@function()
def combinations(input, r=2, with_replacement=False):
    """Every choice of r elements of a vector, in rows."""
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty((0,))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return stack([input.index_select(0, creation.from_array(column, dtypes.int64)) for column in rows.T], 1)


def _triangle_indices(name, find):
    def run(row, col, offset=0, *, dtype=None, device=None, layout=None):
        if row < 0 or col < 0:
            raise RuntimeError(f"{'row' if row < 0 else 'col'} must be non-negative, got{row if row < 0 else col}")
        d = check_dtype(dtype, name) or dtypes.int64
        if d not in (dtypes.int32, dtypes.int64):
            raise no_kernel(name, d)
        return creation.from_array(np.stack(find(row, offset, col)).astype(d.numpy), d)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"The (rows, columns) of the {'lower' if name == 'tril_indices' else 'upper'} triangle of a matrix."
    return function(name=name)(run)


_triangle_indices("tril_indices", np.tril_indices)
_triangle_indices("triu_indices", np.triu_indices)


@function()
def vander(x, N=None, increasing=False):
    """The powers of a vector's elements as columns, (n, N), from N - 1 down to 0 (up from 0 if `increasing`)."""
    if tensor_argument("vander", x, 1, "x").ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    count = x.shape[0] if N is None else N
    if count < 0:
        raise RuntimeError("N must be non-negative.")
    x = x if x.dtype.category > dtypes.INTEGER else x.to(dtypes.int64)
    ones = x.new_ones((x.shape[0], 1))
    if count < 2:
        return ones[:, :count].clone()
    powers = cat([ones, x.unsqueeze(1).expand(x.shape[0], count - 1).cumprod(1)], 1)
    return powers if increasing else powers.flip(1)


@function()
def unravel_index(indices, shape):
    """The coordinates of flat positions in a tensor of a shape, one tensor per dim."""
    if tensor_argument("unravel_index", indices).dtype.category != dtypes.INTEGER:
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    if not isinstance(shape, (int, tuple, list)):
        raise TypeError(f"expected 'shape' to be int or sequence of ints, but got {type(shape)}")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    for n in shape:
        if not isinstance(n, int):
            raise TypeError(f"expected 'shape' sequence to only contain ints, but got {type(n)}")
    if any(n < 0 for n in shape):
        raise ValueError(f"'shape' cannot have negative values, but got {shape}")
    return tuple(indices // step % max(n, 1) for n, step in zip(shape, contiguous_strides(shape), strict=True))
