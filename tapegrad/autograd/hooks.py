"""Hooks: functions that see, and may replace, gradients on their way."""

from __future__ import annotations

import weakref

from tapegrad import core
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout

REPLACED = "can't replace a None gradient with a non-None value"


class RemovableHandle:
    """What a register_*_hook call returns; `remove()` takes the hook away."""

    _next = 0

    def __init__(self, hooks: dict, hook, marks=()):
        """`marks`: dicts that may hold the hook's id as well, and lose it with the hook."""
        self.hooks, self.marks = hooks, marks
        self.id = RemovableHandle._next
        RemovableHandle._next += 1
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; harmless if it is gone."""
        for place in (self.hooks, *self.marks):
            place.pop(self.id, None)

    def hooks_dict_ref(self) -> dict:
        """The hooks among which this one is, or was: by id, in the order of registration."""
        return self.hooks

    def __setstate__(self, state):
        self.__dict__.update(state)
        RemovableHandle._next = max(RemovableHandle._next, state.get("id", -1) + 1)  # hooks registered from now on have other ids

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def flag(slot: int) -> None:
    core.set_field(slot, core.FLAGS, core.get_field(slot, core.FLAGS) | layout.HOOKED)


class LeafHooks(dict):
    """The hooks of a leaf: id -> hook.  `node` keeps its AccumulateGrad, if that has hooks of its own."""

    node = None


def of_leaf(leaf) -> LeafHooks:
    if leaf._hooks is None:
        leaf._hooks = LeafHooks()
    return leaf._hooks


def register(tensor, hook) -> RemovableHandle:
    """Tensor.register_hook."""
    if not tensor.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    flag(tensor._settle())
    e = core.get_field(tensor._slot, core.ENTRY)
    if e < 0:
        return RemovableHandle(of_leaf(tensor), hook)
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


def retain(tensor) -> None:
    """Keep the gradient of a non-leaf in its `.grad`."""
    own = nodes.own_payload(core.get_field(tensor._slot, core.ENTRY))
    own.retained[core.get_field(tensor._slot, core.OUTPUT_NR)] = weakref.ref(tensor)
    flag(tensor._slot)


def move(tensor, slot: int, refreshed_later: bool = False) -> None:
    """Point `tensor` at `slot`, its new place in the graph after an in-place operation.

    As in torch, `.grad` and retain_grad go along; hooks stay where the gradient was when they were registered.  `refreshed_later`: a view
    that was changed itself gets its final place only at its next use, and its retain_grad waits for that.
    """
    old = tensor._slot
    own = nodes.payload(core.get_field(old, core.ENTRY)) if core.get_field(old, core.ENTRY) >= 0 else None
    number = core.get_field(old, core.OUTPUT_NR)
    kept = own is not None and (own.retained.pop(number, None) or own.waiting.pop(number, None)) is not None
    held = core.get_field(old, core.GRAD)
    if held:
        core.set_field(old, core.GRAD, 0)
        core.set_field(slot, core.GRAD, held)
    core.move_handle(tensor, slot)
    if kept and core.get_field(slot, core.ENTRY) >= 0:
        if refreshed_later:
            nodes.own_payload(core.get_field(slot, core.ENTRY)).waiting[core.get_field(slot, core.OUTPUT_NR)] = weakref.ref(tensor)
        else:
            retain(tensor)


def name_of(hook) -> str:
    return getattr(hook, "__name__", type(hook).__name__)


def run(hooks: dict, g):
    """Send a gradient (None if the pass has found none) through tensor hooks."""
    from tapegrad.tensor import Tensor

    for hook in list(hooks.values()):
        changed = hook(g)
        if changed is None:
            continue
        if g is None:
            raise RuntimeError(REPLACED)
        if not isinstance(changed, Tensor):
            raise TypeError(f"expected Variable, but hook returned '{type(changed).__name__}'")
        check_like(hook, changed, g)
        g = changed
    return g


def check_like(hook, changed, g) -> None:
    """A hook may not change what kind of gradient it was given."""
    if changed.dtype != g.dtype:
        raise RuntimeError(f"hook '{name_of(hook)}' has changed the type of value (was {g.dtype.type_name} got {changed.dtype.type_name})")
    if changed.shape != g.shape:
        raise RuntimeError(f"hook '{name_of(hook)}' has changed the size of value")


def run_on_node(hooks: dict, values, *more) -> list:
    """Send the gradients of a node through its hooks, which are called with `values` and `more` as tuples."""
    for hook in list(hooks.values()):
        changed = hook(tuple(values), *more)
        if changed is None:
            continue
        if not isinstance(changed, tuple):
            raise TypeError(f"expected tuple, but hook returned '{type(changed).__name__}'")
        if len(changed) != len(values):
            raise RuntimeError(
                f"hook '{name_of(hook)}' has returned an incorrect number of values (got {len(changed)}, but expected {len(values)})"
            )
        for new, old in zip(changed, values, strict=True):
            if new is None:
                continue
            if old is None:
                raise RuntimeError(REPLACED)
            if not hasattr(new, "_slot"):
                raise TypeError(f"expected Variable, but hook returned '{type(new).__name__}'")
            check_like(hook, new, old)
        values = list(changed)
    return list(values)


def shown_gradients(e: int, gs) -> list:
    """The gradients of the outputs of entry `e` as node hooks see them: None for the results of a custom Function that are no tensors."""
    call = nodes.attributes(e)
    return call.everywhere(gs) if hasattr(call, "everywhere") else list(gs[: nodes.gradients_taken(e)])


def run_before_node(hooks: dict, e: int, gs) -> list:
    """Send the gradients of the outputs of entry `e` through the prehooks of its node."""
    found, call = run_on_node(hooks, shown_gradients(e, gs)), nodes.attributes(e)
    return [found[k] for k in call.output_places] if hasattr(call, "everywhere") else [*found, *gs[len(found) :]]


def run_after_accumulation(hooks: dict, leaf) -> None:
    """Call the hooks of a leaf whose `.grad` has grown."""
    for hook in list(hooks.values()):
        returned = hook(leaf)
        if returned is not None and not hasattr(returned, "_slot"):
            raise TypeError(f"expected Variable, but hook returned '{type(returned).__name__}'")
        if returned is not None and returned is not leaf:
            raise RuntimeError("Tensor post accumulate grad hooks should return None.")
