"""Triangles and diagonals of matrices: tril, triu, diag, diag_embed, fill_diagonal_."""

from __future__ import annotations

import operator

import numpy as np

from tapegrad import core
from tapegrad.autograd.node import record
from tapegrad.formats import contiguous_format
from tapegrad.ops import moves
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import store, stored
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.views import wrap_dim


def _triangle(name, keep):
    @structural(name + "_op", name.capitalize())
    def derivative(node, g):
        """The same triangle of the gradient."""
        return getattr(g, name)(node.attributes.diagonal)

    derivative.doc = f"{name}: the same triangle of the gradient."

    def run(input, diagonal=0, *, out=None):
        from tapegrad.creation import from_array

        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        if moves.movable(input) and out is None:
            plans.settled(input)
            return moves.triangle(derivative, input, int(diagonal), name == "triu")
        result = from_array(keep(input.detach()._array(), diagonal), input.dtype)
        record(derivative, [input], [result], plans.Parameters(derivative, diagonal=diagonal))
        return result if out is None else store(name, result, out)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"The {'lower' if name == 'tril' else 'upper'} triangle of matrices, zeros elsewhere."
    return function(method=True, name=name, batch="matrices", linear="input")(run)


tril, triu = _triangle("tril", np.tril), _triangle("triu", np.triu)


@function(method=True)
@stored()
def diag(input, diagonal=0):
    """A vector as a diagonal matrix, or the diagonal of a matrix."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return input.diagonal(diagonal).clone(memory_format=contiguous_format)
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")


@structural("diag_embed_op", "DiagEmbed")
def diag_embed_op(node, g):
    """diag_embed: the diagonal of the gradient."""
    a = node.attributes
    return g.diagonal(a.offset, a.dim1, a.dim2)


def diag_embed_samples(level, f, input, offset=0, dim1=-2, dim2=-1):
    """The batch rule of diag_embed: the dims move up by one."""
    return level.wrap(f(level.front(input), offset, wrap_dim(dim1, input.ndim + 1) + 1, wrap_dim(dim2, input.ndim + 1) + 1))


@function(method=True, batch=diag_embed_samples, linear="input")
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Matrices with `input`'s last dim on a diagonal."""
    from tapegrad import creation

    offset = operator.index(offset)  # which may come as a tensor
    ndim = input.ndim + 1
    a, b = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    if (a, b) == (ndim - 2, ndim - 1) and moves.movable(input):
        plans.settled(input)
        return moves.on_diagonal(diag_embed_op, input, offset, dim1=a, dim2=b)
    n, shape = input.shape[-1] + abs(offset), list(input.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, n)
    from tapegrad import modes

    with modes.no_grad():
        result = creation.zeros(tuple(shape), dtype=input.dtype)
        core.assign(result.diagonal(offset, a, b), input)
    record(diag_embed_op, [input], [result], plans.Parameters(diag_embed_op, offset=offset, dim1=a, dim2=b))
    return result


@method()
def fill_diagonal_(self, fill_value, wrap=False):
    """A number written over the diagonal, in place; of a tall matrix with `wrap` also over the diagonals that begin below it."""
    if self.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if self.ndim > 2 and len(set(self.shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    height, width = self.shape[0], self.shape[1]
    steps = self.stride()
    offsets = range(0, height, width + 1) if wrap and self.ndim == 2 and width else (0,)
    for top in offsets:
        count = min(height - top, *self.shape[1:])
        self.as_strided((count,), (sum(steps),), self.storage_offset() + top * steps[0]).fill_(fill_value)
    return self
