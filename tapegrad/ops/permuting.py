"""The dims in another order: permute, transpose, movedim."""

from __future__ import annotations

from tapegrad.ops import plan as plans
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.views import ints, wrap_dim


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


@function(method=True, aliases=("swapdims",))
def transpose(input, dim0, dim1):
    """Two dims swapped."""
    a, b = wrap_dim(dim0, input.ndim), wrap_dim(dim1, input.ndim)
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return permuted(input, tuple(order), "TransposeBackward0")


@function(method=True)
def swapaxes(input, axis0, axis1):
    """`transpose`, by NumPy's name."""
    return transpose(input, axis0, axis1)


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
    if not input.ndim:
        return permuted(input, (), "AliasBackward0")
    order: list[int] = [-1] * input.ndim
    for s, d in zip(source, destination, strict=True):
        order[d] = s
    rest = iter(d for d in range(input.ndim) if d not in source)
    return permuted(input, tuple(next(rest) if d < 0 else d for d in order), "PermuteBackward0")
