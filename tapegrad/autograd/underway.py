"""The backward passes under way, and what may be asked of them while they are: hooks, derivatives and checkpoints do."""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

from tapegrad import core
from tapegrad.engine import layout

if TYPE_CHECKING:
    from tapegrad.autograd.engine import Sweep

running: list[Sweep] = []  # the sweeps under way that Python drives, innermost last; one thread has them all
numbers = itertools.count()


def current_task() -> int:
    """A number of the backward pass that this thread is in, -1 outside of all."""
    return running[-1].number if running and running[-1].thread == threading.get_ident() else -1


def is_checkpoint_valid() -> bool:
    """Whether the passes under way accumulate in all leaves, so that a derivative may call `backward` for its part."""
    return not any(sweep.capturing for sweep in running)


def will_run(slot: int) -> bool:
    """Whether the sweep under way has yet to find (or to hand to its hooks) the gradient of `slot`."""
    sweep = running[-1] if running else None
    e = core.get_field(slot, core.ENTRY)
    if e >= 0:
        if sweep is not None and e == sweep.at:  # another output of the entry whose hooks are running
            return bool(core.get_field(slot, core.COTANGENT)) or slot in sweep.cotangents
        return e <= core.sweep_entry.value and core.last_mark(e + 1) == e
    if sweep is not None and sweep.capturing and not core.get_field(slot, core.FLAGS) & layout.CAPTURED:
        return False
    if core.get_field(slot, core.COTANGENT) or (sweep is not None and slot in sweep.cotangents):
        return True
    e = sweep.at if sweep is not None and sweep.at >= 0 else core.last_mark(core.sweep_entry.value + 1)
    while e >= 0:
        if any(core.operand_slot(e, k) == slot for k in range(core.entry_field(e, core.ENTRY_INPUTS))):
            return True
        e = core.last_mark(e)
    return False


class Engine:
    """What `Variable._execution_engine` offers."""

    @staticmethod
    def queue_callback(callback) -> None:
        """Call `callback()` at the end of the backward pass under way."""
        if current_task() < 0:
            raise RuntimeError("Final callbacks can only be installed during backward pass.")
        running[-1].callbacks.append(callback)

    is_checkpoint_valid = staticmethod(is_checkpoint_valid)


def _forget() -> None:
    """In a child process: the thread whose passes were under way may not have come along."""
    if core.sweeping.value and core.sweep_owner.value != core.thread_id():
        for sweep in running:
            core.release_captured(*sweep.captured_at)
        running.clear()
        core.abandon_sweep()


os.register_at_fork(after_in_child=_forget)
