"""Ops that are one node in the graph and compute in other ops: the derivative computes the value once more, recorded, and differentiates that.

For ops that are too rare to have a derivative of their own, but that PyTorch's graph shows as one node.
"""

from __future__ import annotations

import functools

from tapegrad import modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE, level_of


def apart(x, recorded):
    """`x` as another tensor: with its history if the derivative is recorded, else as a leaf."""
    if not x.requires_grad:
        return x
    if recorded:
        return x.view(x.shape)
    leaf = x.detach()
    leaf._require_grad()
    return leaf


def composite(name: str, graph_name: str, zeros: bool = False):
    """Decorate `function(*tensors, **parameters)`; tensors may be None.  The result is called in the same way.

    zeros: an operand on which the outputs turn out not to depend gets a gradient of zeros instead of none.
    """

    def decorate(function):
        def derivative(node, *gs):
            from tapegrad import autograd

            a = node.attributes
            recorded = modes.is_grad_enabled()
            with modes.enable_grad():
                # Each operand gets a tensor of its own, so that one that was given twice is told apart.
                given = iter(node.inputs)
                fresh = [apart(next(given), recorded) if there else None for there in a.there]
                outputs = function(*fresh, **a.parameters)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            wanted = [t for t in fresh if t is not None and t.requires_grad]
            pairs = [(o, g) for o, g in zip(outputs, gs, strict=True) if g is not None and o.requires_grad]
            found = iter(autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=recorded, allow_unused=True))
            result = [(t, next(found)) if t.requires_grad else (t, None) for t in fresh if t is not None]
            return [t.new_zeros(t.shape) if zeros and g is None and t.requires_grad else g for t, g in result]

        derivative.__doc__ = function.__doc__
        op = structural(name, graph_name)(derivative)

        @functools.wraps(function)
        def run(*tensors, **parameters):
            if ACTIVE and level_of(tensors) is not None:
                return function(*tensors, **parameters)
            with modes.no_grad():
                outputs = function(*[None if t is None else t.detach() for t in tensors], **parameters)
            single = not isinstance(outputs, tuple)
            made = [o.detach() for o in ((outputs,) if single else outputs)]
            inputs = [t for t in tensors if t is not None]
            differentiable = sum(1 << k for k, o in enumerate(made) if o.dtype.is_floating_point)
            record(op, inputs, made, plans.Parameters(op, there=[t is not None for t in tensors], parameters=parameters),
                   (1 << len(inputs)) - 1, differentiable)
            return made[0] if single else tuple(made)

        run.op = op
        return run

    return decorate
