"""Hooks: functions that see, and may replace, gradients on their way."""

from __future__ import annotations

from tapegrad import core
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout


class RemovableHandle:
    """What a register_*_hook call returns; `remove()` takes the hook away."""

    _next = 0

    def __init__(self, hooks: dict, hook):
        self.hooks = hooks
        self.id = RemovableHandle._next
        RemovableHandle._next += 1
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; harmless if it is gone."""
        self.hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def flag(slot: int) -> None:
    core.set_field(slot, core.FLAGS, core.get_field(slot, core.FLAGS) | layout.HOOKED)


def register(tensor, hook) -> RemovableHandle:
    """Tensor.register_hook."""
    if not tensor.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    flag(tensor._slot)
    e = core.get_field(tensor._slot, core.ENTRY)
    if e < 0:
        if tensor._hooks is None:
            tensor._hooks = {}
        return RemovableHandle(tensor._hooks, hook)
    own = nodes.own_payload(e)
    return RemovableHandle(own.hooks.setdefault(core.get_field(tensor._slot, core.OUTPUT_NR), {}), hook)


def register_post_accumulate(tensor, hook) -> RemovableHandle:
    """Tensor.register_post_accumulate_grad_hook."""
    if not tensor.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not tensor.is_leaf:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    flag(tensor._slot)
    if tensor._post_hooks is None:
        tensor._post_hooks = {}
    return RemovableHandle(tensor._post_hooks, hook)


def run(hooks: dict, g):
    """Send a gradient through tensor hooks."""
    from tapegrad.tensor import Tensor

    for hook in list(hooks.values()):
        changed = hook(g)
        if changed is None:
            continue
        if not isinstance(changed, Tensor):
            raise TypeError(f"expected Variable, but hook returned '{type(changed).__name__}'")
        if changed.shape != g.shape:
            raise RuntimeError(f"hook '{getattr(hook, '__name__', type(hook).__name__)}' has changed the size of value")
        if changed.dtype != g.dtype:
            raise RuntimeError(f"hook '{getattr(hook, '__name__', type(hook).__name__)}' has changed the type of value")
        g = changed
    return g
