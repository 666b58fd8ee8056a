"""`AccumulateGrad`, the node at a leaf: where its gradient is added to `.grad`.

A leaf is a slot, and here is kept which node and which Tensor object belong to it.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

from tapegrad import core, geometry
from tapegrad.device import CPU
from tapegrad.dtypes import OF_SLOT
from tapegrad.engine.bind import Handle


class SlotReference(Handle):
    """Keeps a slot, and with it the entry that made it, alive."""

    __slots__ = ("__weakref__",)  # an object without slots would be none of the garbage collector's

    def __init__(self, slot):
        core.hold(slot)
        self._slot = slot


class InputMetadata(NamedTuple):
    """What a node knows of a gradient that it takes."""

    dtype: object
    shape: object
    device: object
    is_tensor_subclass: bool = False

    @staticmethod
    def of(slot: int):
        if not slot:
            return None
        return InputMetadata(OF_SLOT[core.get_field(slot, core.DTYPE)], geometry.shapes[core.get_field(slot, core.GEOMETRY)], CPU)


_leaves: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()  # leaf slot -> its Tensor


def register_leaf(tensor) -> None:
    """Remember which Tensor object a leaf slot belongs to."""
    _leaves[tensor._slot] = tensor


def leaf_object(slot: int):
    return _leaves.get(slot)


class AccumulateGrad:
    """The node at a leaf: where its gradient is added to `.grad`."""

    next_functions = ()
    requires_grad = True

    def __init__(self, slot: int):
        self._reference = SlotReference(slot)
        self.metadata: dict = {}
        self.prehooks: dict = {}
        self.posthooks: dict = {}

    def name(self) -> str:
        return "tapegrad::autograd::AccumulateGrad"

    @property
    def variable(self):
        """The leaf."""
        found = _leaves.get(self._reference._slot)
        return core.wrap(self._reference._slot) if found is None else found

    @property
    def _input_metadata(self) -> tuple:
        return (InputMetadata.of(self._reference._slot),)

    def _sequence_nr(self) -> int:
        """Higher than that of every recorded operation: it runs as soon as its gradient is known."""
        return 2**64 - 1

    def register_hook(self, hook):
        """Call `hook((), grad_outputs)` after a gradient was added."""
        return self._register(self.posthooks, hook)

    def register_prehook(self, hook):
        """Call `hook(grad_outputs)` before a gradient is added; a returned tuple replaces it."""
        return self._register(self.prehooks, hook)

    def _register(self, hooks, hook):
        from tapegrad.autograd import hooks as hooking

        slot = self._reference._slot
        hooking.flag(slot)
        leaf = _leaves.get(slot)
        if leaf is not None:  # the node stays while the leaf does
            hooking.of_leaf(leaf).node = self
        return hooking.RemovableHandle(hooks, hook)

    def __repr__(self):
        return f"<AccumulateGrad object at {id(self):#x}>"


_accumulators: weakref.WeakValueDictionary[int, AccumulateGrad] = weakref.WeakValueDictionary()


def accumulator(slot: int) -> AccumulateGrad:
    """The node of a leaf, made if there is none."""
    found = _accumulators.get(slot)
    if found is None:
        found = _accumulators[slot] = AccumulateGrad(slot)
    return found


def hooked_leaf(slot: int) -> AccumulateGrad | None:
    """The AccumulateGrad node of a leaf, if it is kept because it has (or had) hooks."""
    return _accumulators.get(slot)
