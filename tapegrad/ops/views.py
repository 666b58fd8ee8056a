"""Views: other shapes and strides over the same memory, and their derivatives.

A view that picks elements (select, slice, diagonal) has `embed` for its derivative: zeros of the input's shape with the gradient
written where the view looked; embed's own derivative is the view again.
"""

from __future__ import annotations

from tapegrad import core, geometry
from tapegrad.geometry import contiguous_strides
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function, method
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
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})")
    return dim % size


def ints(name, args, parameter="size") -> tuple:
    """(2, 3) or ((2, 3),) as a tuple of ints."""
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = args[0]
    result = []
    for k, a in enumerate(args):
        if isinstance(a, bool) or not hasattr(a, "__index__"):
            raise TypeError(f"{name}(): argument '{parameter}' must be tuple of ints, but found element of type {type(a).__name__} at pos {k}")
        result.append(a.__index__())
    return tuple(result)


# --- the derivative of views that pick elements ---------------------------------------------------------------------
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
    out = core.wrap(core.new_slot(geometry.geometry(shape), core.get_field(g._slot, core.DTYPE)))
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


def reshape_gradient(node, g):
    return g.reshape(node.attributes.input_shape)


# --- reshaping ------------------------------------------------------------------------------------------------------
@structural("view_op", "View", sweep="reshape")
def view_op(node, g):
    """view: other sizes over the same elements."""
    return reshape_gradient(node, g)


@structural("unsafe_view_op", "UnsafeView", sweep="reshape")
def unsafe_view_op(node, g):
    """Other sizes over the elements of a result that nobody else sees."""
    return reshape_gradient(node, g)


def unsafe_view(x, shape: tuple):
    """The contiguous, fresh result `x` with other sizes.  Not a view to the user: nothing else shows its memory."""
    return plans.view(unsafe_view_op, x, shape, lambda *_: (shape, contiguous_strides(shape), 0, {}), fresh=True)


def resolve_shape(shape: tuple, numel: int) -> tuple:
    """Replace one -1; torch's errors."""
    if shape.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    for size in shape:
        if size < -1:
            raise RuntimeError(f"invalid shape dimension {size} at index {shape.index(size)} of shape {list(shape)}")
    known = 1
    for size in shape:
        if size != -1:
            known *= size
    if -1 in shape:
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be any value and is "
                "ambiguous"
            )
        if numel % known:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
        shape = tuple(numel // known if size == -1 else size for size in shape)
    elif known != numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def view_strides(shape: tuple, steps: tuple, target: tuple) -> tuple | None:
    """Strides that show the same elements as `target`, None if only a copy can."""
    numel = 1
    for size in shape:
        numel *= size
    if numel == 0:
        return steps if shape == target else contiguous_strides(target)
    result = [0] * len(target)
    at = len(target) - 1
    chunk_step = steps[-1] if steps else 1
    seen = made = 1
    for k in range(len(shape) - 1, -1, -1):
        seen *= shape[k]
        if k == 0 or (shape[k - 1] != 1 and steps[k - 1] != seen * chunk_step):
            while at >= 0 and (made < seen or target[at] == 1):
                result[at] = made * chunk_step
                made *= target[at]
                at -= 1
            if made != seen:
                return None
            if k > 0:
                chunk_step = steps[k - 1]
                seen = made = 1
    if not shape:
        result = [1] * len(target)
        at = -1
    return tuple(result) if at < 0 else None


VIEW_ERROR = (
    "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). "
    "Use .reshape(...) instead."
)


def _view_make(target):
    def make(shape, steps):
        numel = 1
        for size in shape:
            numel *= size
        full = resolve_shape(target, numel)
        strides = view_strides(shape, steps, full)
        if strides is None:
            raise RuntimeError(VIEW_ERROR)
        return full, strides, 0, {}

    return make


@method()
def view(self, *shape, dtype=None):
    """The same elements in another shape, without a copy; an error where only a copy could do it.  `view(dtype)` reinterprets bytes."""
    from tapegrad.dtypes import dtype as Dtype

    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], Dtype)):
        return view_as_dtype(self, dtype or shape[0])
    shape = ints("view", shape)
    return plans.view(view_op, self, shape, _view_make(shape))


def view_as_dtype(self, d):
    """The same bytes as another dtype; the last dim grows or shrinks."""
    if d is self.dtype:
        return self
    from tapegrad.creation import share

    array = self.detach()._array()
    if d.itemsize != self.dtype.itemsize and (self.ndim == 0 or self.stride(-1) != 1):
        raise RuntimeError("self.dim() cannot be 0 to view with a different element size" if self.ndim == 0 else VIEW_ERROR)
    other = array.view(d.numpy)
    return share(self, other.ctypes.data, other.shape, tuple(s // d.itemsize for s in other.strides), d)


def reshape_samples(level, f, input, *shape, **named):
    """The batch rule of reshape: the batch stays in front."""
    shape = ints("reshape", named.get("shape", shape) if not shape else shape)
    return level.wrap(f(level.front(input), (level.size, *resolve_shape(shape, input.numel()))))


@function(method=True, batch=reshape_samples, linear="input")
def reshape(input, *shape, **named):
    """The same elements in another shape: a view where possible, else a copy."""
    tensor_argument("reshape", input)
    shape = ints("reshape", named.get("shape", shape) if not shape else shape)
    s = plans.settled(input)
    g = core.get_field(s, core.GEOMETRY)
    full = resolve_shape(shape, geometry.numels[g])
    if view_strides(tuple(geometry.shapes[g]), geometry.strides[g], full) is None:
        input = input.contiguous()
    return plans.view(view_op, input, full, _view_make(full))


@function(method=True)
def flatten(input, start_dim=0, end_dim=-1):
    """Merge the dims from `start_dim` to `end_dim` into one."""
    if input.ndim == 0:
        return input.reshape(1)
    start, end = wrap_dim(start_dim, input.ndim), wrap_dim(end_dim, input.ndim)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    shape = tuple(input.shape)
    merged = 1
    for size in shape[start : end + 1]:
        merged *= size
    return input.reshape(shape[:start] + (merged,) + shape[end + 1 :])


@function(method=True)
def ravel(input):
    """One dim with all elements."""
    return input.contiguous().view(-1)


@function(method=True)
def unflatten(input, dim, sizes):
    """Split a dim into `sizes`, one of which may be -1."""
    dim = wrap_dim(dim, input.ndim)
    sizes = ints("unflatten", (sizes,))
    try:
        sizes = resolve_shape(sizes, input.shape[dim])
    except RuntimeError:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({input.shape[dim]}) in the input tensor"
        ) from None
    shape = tuple(input.shape)
    return input.view(shape[:dim] + sizes + shape[dim + 1 :])


@method()
def view_as(self, other):
    """`self.view(other.size())`."""
    return self.view(tuple(other.shape))


@method()
def reshape_as(self, other):
    """`self.reshape(other.size())`."""
    return self.reshape(tuple(other.shape))


# --- reordering dims ------------------------------------------------------------------------------------------------
@structural("permute_op", "Permute", sweep="permute")
def permute_op(node, g):
    """permute: the derivative permutes back."""
    order = node.attributes.order
    back = [0] * len(order)
    for k, d in enumerate(order):
        back[d] = k
    return permute(g, back)


def _permute_make(order, name):
    def make(shape, steps):
        return tuple(shape[d] for d in order), tuple(steps[d] for d in order), 0, {"order": order, "graph_name": name}

    return make


def permuted(x, order, name):
    return plans.view(permute_op, x, (order, name), _permute_make(order, name))


@function(method=True)
def permute(input, *dims):
    """The dims in another order."""
    dims = ints("permute", dims, "dims")
    if len(dims) != input.ndim:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions i.e. "
            f"input.dim() = {input.ndim} is not equal to len(dims) = {len(dims)}"
        )
    order = tuple(wrap_dim(d, input.ndim) for d in dims)
    if len(set(order)) != len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permuted(input, order, "PermuteBackward0")


@function(method=True, aliases=("swapaxes", "swapdims"))
def transpose(input, dim0, dim1):
    """Two dims swapped."""
    a, b = wrap_dim(dim0, input.ndim), wrap_dim(dim1, input.ndim)
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return permuted(input, tuple(order), "TransposeBackward0")


@function(method=True)
def t(input):
    """The transpose of a matrix; tensors of fewer dims as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return permuted(input, tuple(reversed(range(input.ndim))), "TBackward0")


@function(method=True, aliases=("moveaxis",))
def movedim(input, source, destination):
    """Move dims to other places; the others keep their order."""
    source = (source,) if not isinstance(source, (tuple, list)) else source
    destination = (destination,) if not isinstance(destination, (tuple, list)) else destination
    if len(source) != len(destination):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(source)} dims) should contain the same number of dims as destination "
            f"({list(destination)} dims)"
        )
    given_source, given_destination = source, destination
    source = [wrap_dim(d, input.ndim) for d in source]
    destination = [wrap_dim(d, input.ndim) for d in destination]
    for name, dims, given in (("source", source, given_source), ("destination", destination, given_destination)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(given)})")
    order: list[int] = [-1] * input.ndim
    for s, d in zip(source, destination, strict=True):
        order[d] = s
    rest = iter(d for d in range(input.ndim) if d not in source)
    return permuted(input, tuple(next(rest) if d < 0 else d for d in order), "PermuteBackward0")


# --- adding, removing and repeating dims ----------------------------------------------------------------------------
@structural("unsqueeze_op", "Unsqueeze", sweep="reshape")
def unsqueeze_op(node, g):
    """unsqueeze: a dim of size 1 more."""
    return reshape_gradient(node, g)


@function(method=True)
def unsqueeze(input, dim):
    """A dim of size 1 at `dim`."""
    at = wrap_dim(dim, input.ndim, 1)

    def make(shape, steps):
        step = shape[at] * steps[at] if at < len(shape) else 1
        return shape[:at] + (1,) + shape[at:], steps[:at] + (step,) + steps[at:], 0, {}

    return plans.view(unsqueeze_op, input, at, make)


@structural("squeeze_op", "Squeeze", sweep="reshape")
def squeeze_op(node, g):
    """squeeze: without dims of size 1."""
    return reshape_gradient(node, g)


@function(method=True)
def squeeze(input, dim=None):
    """Without the dims of size 1 (all, or those named)."""
    name = f"SqueezeBackward{0 if dim is None else 2 if isinstance(dim, (tuple, list)) else 1}"
    if dim is None:
        dims = tuple(range(input.ndim))
    else:
        dims = tuple(wrap_dim(d, input.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
        twice = next((d for d in dims if dims.count(d) > 1), None)
        if twice is not None:
            raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")

    def make(shape, steps):
        keep = [k for k in range(len(shape)) if k not in dims or shape[k] != 1]
        return tuple(shape[k] for k in keep), tuple(steps[k] for k in keep), 0, {"graph_name": name}

    return plans.view(squeeze_op, input, (dims, name), make)


@structural("expand_op", "Expand", sweep="expand")
def expand_op(node, g):
    """expand: the derivative sums over what was repeated."""
    return g.sum_to_size(node.attributes.input_shape)


@method()
def expand(self, *sizes, implicit=False):
    """Dims of size 1 repeated, and new leading dims, without a copy; -1 keeps a size."""
    sizes, kind = ints("expand", sizes), self.dtype.legacy  # `make` is kept: it must not hold the tensor

    def make(shape, steps):
        lead = len(sizes) - len(shape)
        if lead < 0:
            raise RuntimeError(
                f"expand(tapegrad.{kind}{{{list(shape)}}}, size={list(sizes)}): the number of sizes provided ({len(sizes)}) must be "
                f"greater or equal to the number of dimensions in the tensor ({len(shape)})"
            )
        result, moves = [], []
        for k, size in enumerate(sizes):
            own = shape[k - lead] if k >= lead else 1
            if size == -1:
                if k < lead:
                    raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {k}")
                size = own
            if size != own and own != 1:
                raise RuntimeError(
                    f"The expanded size of the tensor ({size}) must match the existing size ({own}) at non-singleton dimension {k}.  "
                    f"Target sizes: {list(sizes)}.  Tensor sizes: {list(shape)}"
                )
            result.append(size)
            moves.append(steps[k - lead] if k >= lead and own == size else 0)
        return tuple(result), tuple(moves), 0, {}

    return plans.view(expand_op, self, sizes, make)


@method()
def expand_as(self, other):
    """`self.expand(other.size())`."""
    return self.expand(tuple(other.shape))


@function(method=True)
def broadcast_to(input, size):
    """`input` expanded to a shape."""
    return input.expand(size)


@function()
def broadcast_tensors(*tensors):
    """The tensors expanded to their common shape."""
    tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape = geometry.broadcast_shapes(*(tuple(x.shape) for x in tensors))
    return tuple(x.expand(shape) for x in tensors)


@function()
def broadcast_shapes(*shapes):
    """The common shape of shapes under broadcasting."""
    shapes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    ndim = max(map(len, shapes), default=0)
    for shape in shapes:
        for size in shape:
            if size < 0:
                raise RuntimeError(f"Trying to create tensor with negative dimension ({size}): ({size})")
    try:
        return geometry.Size(geometry.broadcast_shapes(*shapes))
    except RuntimeError:
        raise RuntimeError(
            "Shape mismatch: objects cannot be broadcast to a single shape: " + ", ".join(str(list(s)) for s in shapes) + f" ({ndim} dims)"
        ) from None


# --- picking elements -----------------------------------------------------------------------------------------------
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
                offset += start * steps[d] if result[-1] or start < shape[d] else 0
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


def sliced(x, dim, start, stop, name, multi=False):
    item = full_item(x.ndim, x.shape, dim, (start, stop, 1))
    return plans.view(pick, x, (item, name), pick_make(item, name), multi)


@function(method=True)
def split(tensor, split_size_or_sections, dim=0):
    """Pieces of a size (the last may be smaller), or of the sizes listed, along `dim`."""
    dim = wrap_dim(dim, tensor.ndim)
    if tensor.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    size = tensor.shape[dim]
    if isinstance(split_size_or_sections, (tuple, list)):
        sections = list(split_size_or_sections)
        if any(s < 0 for s in sections):
            raise RuntimeError(
                f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={sections}"
            )
        if sum(sections) != size:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension {dim}), but got "
                f"split_sizes={sections}"
            )
        name = "SplitWithSizesBackward0"
    else:
        piece = split_size_or_sections
        if piece < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={piece}")
        if piece == 0 and size:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
        sections = [min(piece, size - at) for at in range(0, size, piece)] if size else [0]
        name = "SplitBackward0"
    result, at = [], 0
    for section in sections:
        result.append(sliced(tensor, dim, at, at + section, name, multi=True))
        at += section
    return plans.together(tensor, result)


@function(method=True)
def split_with_sizes(tensor, split_sizes, dim=0):
    """`split` with a list of sizes."""
    return split(tensor, list(split_sizes), dim)


@function(method=True)
def chunk(input, chunks, dim=0):
    """At most `chunks` pieces of equal size (the last may be smaller)."""
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    piece = -(-size // chunks)
    if size == 0:
        return split(input, [0] * chunks, dim)
    return split(input, piece, dim)


@function(method=True)
def unbind(input, dim=0):
    """The slices along `dim`, without that dim, as a tuple."""
    if input.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    dim = wrap_dim(dim, input.ndim)
    result = []
    for k in range(input.shape[dim]):
        item = full_item(input.ndim, input.shape, dim, k)
        result.append(plans.view(pick, input, (item, "U"), pick_make(item, "UnbindBackward0", number=k), multi=True))
    return plans.together(input, result)


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
