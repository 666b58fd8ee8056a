"""Pieces: views of one tensor made at once (split, chunk, unbind), one entry with an output for each, and their copies.

An index item says what a piece picks, as in `views.pick`; the plan of the call holds the plans of the views, and the compiled sweep adds the
gradient of each into its region of the input's.  In Python the derivative joins them, zeros for those that are missing.
"""

from __future__ import annotations

import itertools

from tapegrad import core, modes
from tapegrad.autograd.node import record
from tapegrad.formats import contiguous_format
from tapegrad.ops import plan as plans
from tapegrad.ops.joining import cat, stack
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, checked, look_at
from tapegrad.ops.views import full_item, pick, pick_make, wrap_dim


# --- the derivative --------------------------------------------------------------------------------------------------
def _filled(node, gs) -> list:
    """The gradients of the pieces, zeros where there is none."""
    some = next(g for g in gs if g is not None)
    return [some.new_zeros(shape) if g is None else g for g, shape in zip(gs, node.attributes.shapes, strict=True)]


@structural("split_op", "Split")
def split_op(node, *gs):
    """Pieces that lie one behind the other."""
    return cat(_filled(node, gs), node.attributes.dim)


@structural("unbind_op", "Unbind")
def unbind_op(node, *gs):
    """Slices that have lost the dim along which they lie."""
    return stack(_filled(node, gs), node.attributes.dim)


# --- views -----------------------------------------------------------------------------------------------------------
def _cut(x, dim, sizes) -> tuple[list, list]:
    """The index items and the shapes of pieces of `sizes` elements along `dim`; None for the slices without it."""
    shape = tuple(x.shape)
    if sizes is None:
        return [full_item(x.ndim, shape, dim, k) for k in range(shape[dim])], [shape[:dim] + shape[dim + 1 :]] * shape[dim]
    spans = zip(sizes, itertools.accumulate(sizes), strict=True)
    return [full_item(x.ndim, shape, dim, (end - n, end, 1)) for n, end in spans], [(*shape[:dim], n, *shape[dim + 1 :]) for n in sizes]


def _pieces(op, x, dim, sizes, name, **parameters) -> tuple:
    """Views of `x` (see `_cut`) as the outputs of one entry."""
    if ACTIVE and x._level is not None:
        return tuple(x._level.view(pick, x, (item, name), pick_make(item, name), True) for item in _cut(x, dim, sizes)[0])
    s = plans.settled(x)
    g, d = core.get_field(s, core.GEOMETRY), core.get_field(s, core.DTYPE)
    place = (op.code, g, d, name, dim, sizes)
    plan = plans.kept(place)
    if plan is None:
        items, shapes = _cut(x, dim, sizes)
        if not items:
            return ()
        parts = [plans.view_plan(pick, g, d, (item, name), pick_make(item, name), multi=True) for item in items]
        plan = plans.keep(place, plans.Plan(op, [], parts=parts, graph_name=name, shapes=shapes, dim=dim, **parameters), ((g, d),))
    return plans.views(plan, x)


def copies(views, prefix="", suffix="") -> tuple:
    """Copies of pieces, as the outputs of an entry of their own that is named after that of the views."""
    if not views or not views[0].requires_grad or views[0]._level is not None or not modes.is_grad_enabled():
        for x in views[:1]:
            plans.chains.looked(x)  # where it requires grad the call comes down to other plans
        return tuple(x.clone(memory_format=contiguous_format) for x in views)
    made = views[0].grad_fn.attributes
    with modes.no_grad():
        found = tuple(x.detach().clone(memory_format=contiguous_format) for x in views)
    record(made.op, [views[0]._parent], found, plans.Parameters(made.op, graph_name=prefix + made.graph_name + suffix, **made.parameters))
    return found


# --- the functions ---------------------------------------------------------------------------------------------------
def _sections_of_size(tensor, piece, dim) -> tuple:
    """The sizes of pieces of `piece` elements along `dim`."""
    size = tensor.shape[dim]
    if piece < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={piece}")
    if piece == 0 and size:
        raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
    return tuple([min(piece, size - at) for at in range(0, size, piece)] if size else [0])


def _checked_sections(tensor, sections, dim) -> tuple:
    """The sizes that the caller has listed."""
    size, sections = tensor.shape[dim], tuple(map(int, sections))
    if any(s < 0 for s in sections):
        raise RuntimeError(f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={list(sections)}")
    if sum(sections) != size:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {size} (input tensor's size at dimension {dim}), but got "
            f"split_sizes={list(sections)}"
        )
    return sections


def _dim_to_split(tensor, dim) -> int:
    dim = wrap_dim(dim, tensor.ndim)
    if tensor.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    return dim


@function()
def split(tensor, split_size_or_sections, dim=0):
    """Pieces of a size (the last may be smaller), or of the sizes listed, along `dim`."""
    return tensor.split(split_size_or_sections, dim)


@method(name="split")
def split_method(self, split_size, dim=0):
    """Pieces of a size (the last may be smaller), or of the sizes listed, along `dim`."""
    if hasattr(split_size, "_slot") and split_size.numel() == 1:
        split_size = int(split_size)
    if not isinstance(split_size, int):
        return split_with_sizes(self, split_size, dim)
    look_at("~split", self, split_size, dim)
    dim = _dim_to_split(self, dim)
    return _pieces(split_op, self, dim, _sections_of_size(self, split_size, dim), "SplitBackward0", split_size=split_size)


@function(method=True)
@checked("split_with_sizes")
def split_with_sizes(tensor, split_sizes, dim=0):
    """`split` with a list of sizes."""
    dim = _dim_to_split(tensor, dim)
    sizes = _checked_sections(tensor, split_sizes, dim)
    return _pieces(split_op, tensor, dim, sizes, "SplitWithSizesBackward0", split_sizes=sizes)


@function(method=True)
def chunk(input, chunks, dim=0):
    """At most `chunks` pieces of equal size (the last may be smaller)."""
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = wrap_dim(dim, input.ndim)
    size = input.shape[dim]
    return split(input, -(-size // chunks), dim) if size else split(input, [0] * chunks, dim)


@function(method=True)
def unbind(input, dim=0):
    """The slices along `dim`, without that dim, as a tuple."""
    if input.ndim == 0:
        wrap_dim(dim, 0)
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    dim = wrap_dim(dim, input.ndim)
    return _pieces(unbind_op, input, dim, None, "UnbindBackward0")


@function(method=True)
def unsafe_chunk(input, chunks, dim=0):
    """`chunk` into pieces that may be written to, because they are copies."""
    return copies(input.chunk(chunks, dim), "Unsafe")


@function(method=True)
def unsafe_split(input, split_size, dim=0):
    """`split` into pieces that may be written to, because they are copies."""
    return copies(input.split(split_size, dim), "Unsafe")


@function(method=True)
def unsafe_split_with_sizes(input, split_sizes, dim=0):
    """`split_with_sizes` into pieces that may be written to, because they are copies."""
    return copies(input.split_with_sizes(split_sizes, dim), "Unsafe")
