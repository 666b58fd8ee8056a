"""Parameters as one vector, and back."""

from __future__ import annotations

from tapegrad.ops.joining import cat
from tapegrad.tensor import Tensor


def parameters_to_vector(parameters):
    """The elements of all parameters as one vector."""
    return cat([p.view(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Let the parameters be the parts of a vector, whose memory they share."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected tapegrad.Tensor, but got: {type(vec)}")
    at = 0
    for p in parameters:
        p.data = vec[at : at + p.numel()].view_as(p).data
        at += p.numel()
