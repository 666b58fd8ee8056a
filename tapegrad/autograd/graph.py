"""The graph as a thing to look at: nodes, edges, and hooks on several gradients at once."""

from __future__ import annotations

from collections import namedtuple

from tapegrad.autograd import node as nodes
from tapegrad.autograd.hooks import RemovableHandle
from tapegrad.autograd.node import Node

__all__ = ["GradientEdge", "Node", "get_gradient_edge", "increment_version", "register_multi_grad_hook"]


class GradientEdge(namedtuple("GradientEdge", ["node", "output_nr"])):
    """Where a gradient is computed: a node and the number of its output."""


def get_gradient_edge(tensor) -> GradientEdge:
    """The edge on which the gradient of `tensor` arrives; `tensor` must require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    slot = tensor._settle()
    return GradientEdge(nodes.gradient_node(slot), tensor.output_nr)


def increment_version(tensor) -> None:
    """Tell autograd that the values of `tensor` (or of each tensor of an iterable) were changed behind its back."""
    from tapegrad import core
    from tapegrad.tensor import Tensor

    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        core.bump_version(t._slot, 1)


class _Handle(RemovableHandle):
    """Several handles as one."""

    def __init__(self, handles):
        self.handles = tuple(handles)

    def remove(self):
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """Call `fn` when the gradients of `tensors` are known.

    mode "all": once per backward, when the last gradient that the pass computes has come, with one gradient per tensor (None where
    there is none).  mode "any": with the first gradient that comes.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors = tuple(tensors)
    own = _Pass(len(tensors))

    def hook_of(k):
        def collect(grad):
            own.enter(k)
            own.grads[k] = grad
            if mode == "any":
                if len(own.grads) == 1:
                    fn(grad)
            elif not any(j not in own.grads and engine.will_run(t._slot) for j, t in enumerate(tensors)):
                grads = [own.grads.get(j) for j in range(len(tensors))]
                own.grads = {}
                fn(grads)

        return collect

    from tapegrad.autograd import engine

    return _Handle(t.register_hook(hook_of(k)) for k, t in enumerate(tensors))


class _Pass:
    """The gradients that the backward pass under way has brought so far; it walks the tape downwards, so a step up is a new pass."""

    def __init__(self, count):
        self.position, self.grads = -1, {}

    def enter(self, k):
        from tapegrad import core

        if core.sweep_entry.value > self.position or k in self.grads:
            self.grads = {}
        self.position = core.sweep_entry.value
