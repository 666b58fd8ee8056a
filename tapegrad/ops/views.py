"""Views: the arguments that shape ops have in common, and the views that pick elements (select, slice, diagonal) with their derivative.

A view that picks elements has `embed` for its derivative: zeros of the input's shape with the gradient written where the view looked;
embed's own derivative is the view again.  Views with all the elements are in `reshaping.py` and `permuting.py`.
"""

from __future__ import annotations

from tapegrad import core, geometry
from tapegrad.dtypes import INTEGER, bool_
from tapegrad.geometry import contiguous_strides
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable


def tensor_argument(name, x, position=1, parameter="input"):
    if not hasattr(x, "_slot"):
        raise TypeError(f"{name}(): argument '{parameter}' (position {position}) must be Tensor, not {type(x).__name__}")
    return x


def wrap_dim(dim, ndim: int, extra: int = 0) -> int:
    """A dim counted from the end made positive; torch's IndexError outside the range."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"argument 'dim' must be int, not {type(dim).__name__}")
    dim = dim.__index__()
    size = max(ndim + extra, 1)
    if not -size <= dim < size:
        if not -(2**63) <= dim < 2**63:
            raise ValueError("Overflow when unpacking long long")
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})")
    return dim % size


def ints(name, args, parameter="size") -> tuple:
    """(2, 3) or ((2, 3),) as a tuple of ints."""
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = args[0]
    result = []
    for k, a in enumerate(args):
        if type(a) is int:
            result.append(a)
            continue
        if isinstance(a, bool) or not hasattr(a, "__index__"):
            raise TypeError(f"{name}(): argument '{parameter}' must be tuple of ints, but found element of type {type(a).__name__} at pos {k}")
        if getattr(a, "dtype", None) is bool_:
            raise RuntimeError(
                "Expected scalar.isIntegral( false) to be true, but got false.  (Could this error message be improved?  If so, please report an "
                "enhancement request to PyTorch.)"
            )
        result.append(a.__index__())
    return tuple(result)


# --- the derivative --------------------------------------------------------------------------------------------------
@structural("embed")
def embed(node, g):
    """Zeros with a view of them filled; the derivative is the same view."""
    return apply_view(node.attributes.view_op, g, node.attributes.view_key, node.attributes.view_make)


def embed_gradient(node, g):
    """Zeros of the viewed tensor's shape with `g` where the view looked."""
    a = node.attributes
    return embed_into(g, a.input_shape, a.op, a.key, a.make)


def embed_samples(level, f, g, shape, view_op, key, make):
    """The batch rule of embed: the view of every sample."""
    return level.wrap(f(level.front(g), (level.size, *shape), view_op, ("batch", key), level.batched_view(view_op, make)))


@transformable(embed_samples, "g")
def embed_into(g, shape, view_op, key, make):
    """Zeros of `shape` with `g` where the view looks."""
    out = core.wrap(core.allocate_slot(geometry.geometry(shape), core.get_field(g._slot, core.DTYPE)))
    out._array()[...] = 0
    target, steps, offset, _ = make(shape, contiguous_strides(shape))
    region = core.view_slot(out._slot, geometry.geometry(tuple(target), tuple(steps)), offset * out.dtype.itemsize)
    holder = core.wrap(region)
    core.assign(holder, g)
    from tapegrad.autograd.node import record

    record(embed, [g], [out], plans.Parameters(embed, view_op=view_op, view_key=key, view_make=make))
    return out


def apply_view(op, x, key, make):
    return plans.view(op, x, key, make)


# --- picking elements ------------------------------------------------------------------------------------------------
@structural("pick", "Slice", sweep="embed")
def pick(node, g):
    """Basic indexing: integers, slices, None and Ellipsis."""
    return embed_gradient(node, g)


def pick_make(item, name, **parameters):
    """The view of a normalised index: per step (dim kind, ...) as `indexing.normalise` gives it."""

    def make(shape, steps):
        result, moves, offset, d = [], [], 0, 0
        for part in item:
            if part is None:
                result.append(1)
                moves.append(steps[d] * shape[d] if d < len(shape) else 1)
                continue
            if isinstance(part, int):
                offset += part * steps[d]
            else:
                start, stop, step = part
                result.append(max(0, -(-(stop - start) // step)))
                moves.append(steps[d] * step)
                offset += start * steps[d]
            d += 1
        return tuple(result), tuple(moves), offset, {"graph_name": name, **parameters}

    return make


def full_item(ndim, shape, dim, part):
    return tuple(part if d == dim else (0, shape[d], 1) for d in range(ndim))


@function(method=True)
def select(input, dim, index):
    """The slice at `index` along `dim`, without that dim."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    index = index.__index__()
    if not -size <= index < size:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {dim}")
    item = full_item(input.ndim, input.shape, dim, index % size)
    return plans.view(pick, input, (item, "S"), pick_make(item, "SelectBackward0"))


@function(method=True)
def narrow(input, dim, start, length):
    """`length` elements of `dim` from `start`."""
    if input.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    dim = wrap_dim(dim, input.ndim)
    if hasattr(start, "_slot") and (start.ndim or start.dtype.category != INTEGER):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    start = int(start)
    size = input.shape[dim]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= start <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but got {start})")
    start = start + size if start < 0 else start
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return sliced(input, dim, start, start + length, "SliceBackward0")


def sliced(x, dim, start, stop, name):
    item = full_item(x.ndim, x.shape, dim, (start, stop, 1))
    return plans.view(pick, x, (item, name), pick_make(item, name))


# --- diagonals -------------------------------------------------------------------------------------------------------
@structural("diagonal_op", "Diagonal", sweep="embed")
def diagonal_op(node, g):
    """The diagonal of two dims."""
    return embed_gradient(node, g)


@function(method=True)
def diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonal of dims `dim1` and `dim2` as a new last dim."""
    a, b = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")

    def make(shape, steps):
        length = max(0, min(shape[a], shape[b] - offset) if offset >= 0 else min(shape[a] + offset, shape[b]))
        start = 0 if not length else (offset * steps[b] if offset >= 0 else -offset * steps[a])
        keep = [k for k in range(len(shape)) if k not in (a, b)]
        return (*(shape[k] for k in keep), length), (*(steps[k] for k in keep), steps[a] + steps[b]), start, {}

    return plans.view(diagonal_op, input, (offset, a, b), make)
