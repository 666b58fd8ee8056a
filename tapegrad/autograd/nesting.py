"""A backward pass inside another (in a hook, a custom Function, an unpack hook): what the outer passes have under way is put away meanwhile.

The tables of the engine serve one sweep: marks of the entries to visit, cotangents in slots, which slots are captured, the leaves that have
gradients.  `put_away` takes all of it out before the inner sweep begins, `put_back` restores it.
"""

from __future__ import annotations

import ctypes
import threading
from typing import NamedTuple

from tapegrad import core
from tapegrad.autograd import saved
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell

DEPTH = 40  # passes inside one another on one thread: each is several frames of Python's stack


def in_new_thread(run):
    """`run()` on a thread of its own, which has a fresh stack, while this one waits: the sweep under way is the new thread's meanwhile."""
    word, hooks, owner, thread = core.get_mode(), saved.active_hooks(), state_cell("sweep_owner"), state_cell("thread")
    before, outcome = owner.value, {}

    def body():
        core.exchange_modes(-1, word)  # which loads this thread
        owner.value = thread.value
        saved.put_back_hooks(hooks)
        try:
            outcome["result"] = run()
        except BaseException as error:
            outcome["error"] = error

    worker = threading.Thread(target=body)
    worker.start()
    worker.join()
    owner.value = before
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


class Outer(NamedTuple):
    """The state of the sweeps under way."""

    position: int
    retain: int
    leaves: list[int]
    marks: list[int]
    cotangents: list[tuple]


def put_away(sweeps) -> Outer:
    """Take out what `sweeps`, which are under way, have in the engine's tables."""
    leaves, marks = core.leaves(), _take_marks()
    outer = Outer(core.sweep_entry.value, core.sweep_retain.value, leaves, marks, _take_cotangents(sweeps, marks, leaves))
    core.leaves_count.value = 0
    return outer


def put_back(outer: Outer) -> None:
    core.sweep_entry.value, core.sweep_retain.value = outer.position, outer.retain
    _restore_leaves(outer.leaves)
    _restore_cotangents(outer.cotangents)
    for e in outer.marks:
        core.set_mark(e)


def _take_marks() -> list[int]:
    # Entries made since the outer sweep began lie above its position and have no place in the table of marks yet.
    marks, e = [], core.last_mark(core.sweep_entry.value + 1)
    while e >= 0:
        marks.append(e)
        core.clear_mark(e)
        e = core.last_mark(e)
    return marks


def _take_cotangents(sweeps, marks, leaves) -> list[tuple]:
    """Gradients that are still to be handed on, and which slots are captured."""
    slots = {*leaves, *(slot for sweep in sweeps for slot in sweep.captured)}
    for e in marks:
        first = core.entry_field(e, core.ENTRY_INPUTS)
        slots.update(core.operand_slot(e, first + k) for k in range(core.entry_field(e, core.ENTRY_NOUT)))
    kept = []
    for slot in slots - {0}:
        flags, g = core.get_field(slot, core.FLAGS), core.get_field(slot, core.COTANGENT)
        if g or flags & layout.CAPTURED:
            kept.append((slot, g, flags & layout.CAPTURED))
            core.set_field(slot, core.COTANGENT, 0)
            core.set_field(slot, core.FLAGS, flags & ~layout.CAPTURED)
    return kept


def _restore_cotangents(kept) -> None:
    for slot, g, captured in kept:
        left = core.get_field(slot, core.COTANGENT)
        core.set_field(slot, core.COTANGENT, g)
        core.set_field(slot, core.FLAGS, core.get_field(slot, core.FLAGS) | captured)
        if left:
            core.drop(left)


def _restore_leaves(slots) -> None:
    table = (ctypes.c_int64 * max(len(slots), 1)).from_address(state_cell("leaves").value)
    for k, slot in enumerate(slots):
        table[k] = slot
    core.leaves_count.value = len(slots)
