"""Switching requires_grad of a leaf that has been used.

An entry saves what the derivatives for those inputs read that require grad when it is recorded.  So a leaf has one slot for what is
recorded while it requires grad, and another for what is recorded while it does not: switching never changes what earlier entries want.
As in torch, a leaf that is switched off gets no gradient, and one that is switched on again gets those of the entries that know it.
"""

from __future__ import annotations

import weakref

from tapegrad import core
from tapegrad.autograd import leaf_node
from tapegrad.engine import layout

EDGES = layout.SLOT.offset["edges"]
WANTED = layout.REQUIRES_GRAD | layout.LEAF_GRAD
_switched_off: dict[int, tuple] = {}  # slot of a leaf that is off -> (weak reference to it, its slot while it was on)


def edges(slot: int) -> int:
    """How many live entries have the slot as an input."""
    return core.get_field(slot, EDGES)


def switch_on(leaf) -> None:
    """Make `leaf` ready to require grad: back in the slot that it had when it did, or in a new one if its slot has been used."""
    slot = leaf._slot
    owner, reference = _switched_off.pop(slot, (lambda: None, None))
    if reference is not None and owner() is leaf and same_memory(slot, reference._slot):
        move(leaf, reference._slot)
    elif edges(slot):
        move(leaf, core.share_slot(leaf))


def switch_off(leaf) -> None:
    """`leaf` requires grad no more."""
    slot = leaf._slot
    core.set_field(slot, core.FLAGS, core.get_field(slot, core.FLAGS) & ~WANTED)
    if edges(slot):
        reference = leaf_node.SlotReference(slot)
        move(leaf, core.share_slot(leaf))
        _switched_off[leaf._slot] = weakref.ref(leaf), reference
        weakref.finalize(leaf, forget, leaf._slot, reference)


def forget(slot: int, reference) -> None:
    found = _switched_off.get(slot)
    if found is not None and found[1] is reference:
        del _switched_off[slot]


def same_memory(a: int, b: int) -> bool:
    fields = (core.BUFFER, core.GEOMETRY, core.DTYPE)
    return core.data_of(a) == core.data_of(b) and all(core.get_field(a, f) == core.get_field(b, f) for f in fields)


def move(leaf, slot: int) -> None:
    """Let `leaf` go on in another slot over the same memory."""
    old = leaf._slot
    core.set_field(slot, core.FLAGS, core.get_field(slot, core.FLAGS) | core.get_field(old, core.FLAGS) & ~WANTED)
    core.set_field(slot, core.VERSION, core.get_field(old, core.VERSION))
    held = core.get_field(old, core.GRAD)
    core.set_field(old, core.GRAD, 0)
    core.set_field(slot, core.GRAD, held)
    core.move_handle(leaf, slot)
