"""The same elements in another shape: view, reshape, flatten, squeeze, unsqueeze, and expand, which repeats them."""

from __future__ import annotations

from tapegrad import core, geometry
from tapegrad.creation import elements
from tapegrad.dtypes import CONJ, NEG
from tapegrad.geometry import contiguous_strides
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.views import ints, tensor_argument, wrap_dim


def reshape_gradient(node, g):
    return g.reshape(node.attributes.input_shape)


# --- other sizes -----------------------------------------------------------------------------------------------------
@structural("view_op", "View", sweep="reshape")
def view_op(node, g):
    """view: other sizes over the same elements."""
    return reshape_gradient(node, g)


@structural("reshape_alias_op", "ReshapeAlias", sweep="reshape")
def reshape_alias_op(node, g):
    """reshape of what is not contiguous, where that is a view."""
    return reshape_gradient(node, g)


@structural("unsafe_view_op", "UnsafeView", sweep="reshape")
def unsafe_view_op(node, g):
    """Other sizes over the elements of a result that nobody else sees."""
    return reshape_gradient(node, g)


def unsafe_view(x, shape: tuple):
    """The fresh result `x` with other sizes.  Not a view to the user: nothing else shows its memory."""
    if not x.is_contiguous() and view_strides(tuple(x.shape), x.stride(), shape) is None:
        x = x.contiguous()
    return plans.view(unsafe_view_op, x, shape, _view_make(shape), fresh=True)


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
        if known == 0 and numel == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be any value and is "
                "ambiguous"
            )
        if known == 0 or numel % known:
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
    for bit, kind in ((CONJ, "conjugate view tensors"), (NEG, "tensors with negative bit set")):
        if core.get_field(self._slot, core.DTYPE) & bit:
            raise RuntimeError(f"torch.Tensor.view is not supported for {kind} when converting to a different dtype.")
    shape, steps = seen_as_dtype(self, d)
    slot = core.view_slot(plans.settled(self), geometry.geometry(shape, steps), 0)
    core.set_field(slot, core.DTYPE, d.code)
    return elements.finish(core.wrap(slot))


def seen_as_dtype(x, d) -> tuple[tuple, tuple]:
    """The shape and strides, in elements of `d`, of the bytes of `x`."""
    shape, steps = tuple(x.shape), x.stride()
    own, other = x.dtype.itemsize, d.itemsize
    if own == other:
        return shape, steps
    ending = f"to view {x.dtype.scalar_name} as {d.scalar_name} (different element sizes)"
    if not shape:
        raise RuntimeError(f"self.dim() cannot be 0 {ending}")
    n = max(1, other // own)
    for name, value in (("size(-1)", shape[-1]), ("storage_offset()", x.storage_offset())):
        if value % n:
            raise RuntimeError(f"self.{name} must be divisible by {n} {ending}, but got {value}")
    if steps[-1] != 1:
        raise RuntimeError(f"self.stride(-1) must be 1 {ending}, but got {steps[-1]}")
    for k, step in enumerate(steps[:-1]):
        if step % n:
            raise RuntimeError(f"self.stride({k}) must be divisible by {n} {ending}, but got {step}")
    return (*shape[:-1], shape[-1] * own // other), (*[step * own // other for step in steps[:-1]], 1)


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
        return unsafe_view(input.contiguous(), full)
    return plans.view(view_op if geometry.is_contiguous(g) else reshape_alias_op, input, full, _view_make(full))


@function(method=True)
def flatten(input, start_dim=0, end_dim=-1):
    """Merge the dims from `start_dim` to `end_dim` into one."""
    start, end = wrap_dim(start_dim, input.ndim), wrap_dim(end_dim, input.ndim)
    if input.ndim == 0:
        return input.reshape(1)
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
    if isinstance(dim, str):
        raise TypeError(f"unflatten(): argument 'dim' (position 1) must be int, not {type(dim).__name__}")
    dim = wrap_dim(dim, input.ndim)
    sizes = ints("unflatten", (sizes,))
    if not input.ndim and sizes:
        raise RuntimeError(f"unflatten got an unexpected error:\nDimension specified as {dim} but tensor has no dimensions")
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    if not input.ndim:
        raise RuntimeError(f"unflatten got an unexpected error:\nDimension specified as {dim} but tensor has no dimensions")
    try:
        sizes = resolve_shape(sizes, input.shape[dim])
    except RuntimeError as error:
        if not str(error).startswith("shape '"):
            raise RuntimeError(f"unflatten got an unexpected error:\n{error}") from None
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


# --- dims of size 1 --------------------------------------------------------------------------------------------------
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


def squeeze_samples(level, f, input, dim=None):
    """The batch rule of squeeze: dims of a number are refused in other words."""
    wrong = () if input.ndim or dim is None else [d for d in (dim if isinstance(dim, (tuple, list)) else (dim,)) if d]
    if wrong:
        raise RuntimeError(f"Dimension is out of range (expected to be in range of [-1, 0], but got [{wrong[0]}]")
    return f.__wrapped__(input, dim)


@function(method=True, batch=squeeze_samples)
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


# --- repeated dims ---------------------------------------------------------------------------------------------------
@structural("expand_op", "Expand", sweep="expand")
def expand_op(node, g):
    """expand: the derivative sums over what was repeated."""
    return g.sum_to_size(node.attributes.input_shape)


@method()
def expand(self, *sizes, implicit=False):
    """Dims of size 1 repeated, and new leading dims, without a copy; -1 keeps a size."""
    sizes, kind = ints("expand", sizes), self.dtype.type_name  # `make` is kept: it must not hold the tensor

    def make(shape, steps):
        lead = len(sizes) - len(shape)
        if lead < 0:
            raise RuntimeError(
                f"expand({kind}{{{list(shape)}}}, size={list(sizes)}): the number of sizes provided ({len(sizes)}) must be "
                f"greater or equal to the number of dimensions in the tensor ({len(shape)})"
            )
        result, moves = [1] * len(sizes), [1] * len(sizes)
        for k, size in reversed(list(enumerate(sizes))):
            own = shape[k - lead] if k >= lead else 1
            if size == -1 and shape:
                if k < lead:
                    raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {k}")
                size = own
            if size != own and own != 1:
                raise RuntimeError(
                    f"The expanded size of the tensor ({size}) must match the existing size ({own}) at non-singleton dimension {k}.  "
                    f"Target sizes: {list(sizes)}.  Tensor sizes: {list(shape)}"
                )
            result[k] = size
            if own != size or not shape:
                moves[k] = 0
            elif k >= lead:
                moves[k] = steps[k - lead]
            elif k + 1 < len(sizes):
                moves[k] = result[k + 1] * moves[k + 1]
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
    """The tensors expanded to their common shape; those that have it are returned as they are."""
    from tapegrad.ops.joining import sequence

    tensors = sequence("broadcast_tensors", tensors)
    shape = geometry.broadcast_shapes(*(tuple(x.shape) for x in tensors))
    return tuple(x if tuple(x.shape) == tuple(shape) else x.expand(shape) for x in tensors)


@function()
def broadcast_shapes(*shapes):
    """The common shape of shapes under broadcasting."""
    shapes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    ndim = max(map(len, shapes), default=0)
    for shape in shapes:
        for size in shape:
            if size < 0:
                raise ValueError("Attempting to broadcast a dimension with negative length!")
    result = [1] * ndim
    for number, shape in enumerate(shapes):
        for k in range(-1, -1 - len(shape), -1):
            if shape[k] == 1 or shape[k] == result[k]:
                continue
            if result[k] != 1:
                raise RuntimeError(
                    f"Attempting to broadcast a dimension of length {shape[k]} at {k}! Mismatching argument at index {number} had {shape}; but "
                    f"expected shape should be broadcastable to {result}"
                )
            result[k] = shape[k]
    return geometry.Size(result)
