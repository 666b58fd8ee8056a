"""Derivatives that are constant in pieces, where torch's graph has them depend on the input nevertheless, with a gradient of zeros.

The derivative of a maximum over windows is an op of torch's own (MaxPool2DWithIndicesBackward), of the incoming gradient and the input.  So the
gradient of a network of such ops has a graph (`create_graph=True`), though nothing in it moves: a second derivative is zeros rather than an error.
Elementwise records say the same with `steps`.
"""

from __future__ import annotations

from tapegrad import core
from tapegrad.autograd.node import entry_name, record, stem
from tapegrad.ops.plan import Parameters
from tapegrad.ops.registry import structural


@structural("flat", "MaxPool2DWithIndicesBackwardBackward0")
def flat_op(node, g):
    """The gradient goes on to the derivative; the input gets zeros."""
    return g, g.new_zeros(node.attributes.shape)


def with_input(e: int, node, found) -> list:
    """The gradients `found` of the inputs of entry `e`, the first of which depends on its input now."""
    first, *others = found
    x = node.inputs[0]
    if first is None or first._level is not None or x._level is not None or not x.requires_grad:
        return [first, *others]
    out = core.wrap(core.share_slot(first))
    record(flat_op, [first, x], [out], Parameters(flat_op, graph_name=stem(entry_name(e)) + "BackwardBackward0", shape=tuple(x.shape)))
    return [out, *others]
