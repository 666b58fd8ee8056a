"""What happens right after an entry has been recorded while anomaly mode or saved-tensor hooks are on (`modes.WATCHED`)."""

from __future__ import annotations

import threading

from tapegrad import core, modes
from tapegrad.autograd import anomaly_mode, saved


class _Observers(threading.local):
    def __init__(self):
        self.functions: list = []  # called with each new entry, while one of the modes is on


_observers = _Observers()


def observers() -> list:
    """Functions that are called with each entry that this thread records while a watching mode is on."""
    return _observers.functions


def recorded(inputs, outputs) -> None:
    """`outputs` have been computed from `inputs`; if an entry was made it is looked at."""
    e = core.get_field(outputs[0]._slot, core.ENTRY)
    if e < 0:
        return
    word = modes.word()
    for function in _observers.functions:
        function(e)
    if word & modes.ANOMALY:
        anomaly_mode.remember(e)
    if word & modes.SAVED_HOOKS:
        saved.pack_entry(e, inputs, outputs)


def writing(target) -> None:
    """An in-place operation is about to change `target`."""
    word = modes.word()
    if word & modes.ANOMALY:
        anomaly_mode.note_write(target._slot)
    if word & modes.SAVED_HOOKS:
        from tapegrad.autograd import graph

        graph.before_write(target)
