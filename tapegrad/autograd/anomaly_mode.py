"""Anomaly mode: where a failing derivative was recorded, and which one made a nan.

While the mode is on every entry remembers the Python stack of its forward call (in its metadata, as in torch), the backward pass runs
entry by entry in Python, and an error there is preceded by a warning that shows that stack.  The mode belongs to all threads.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import warnings

from tapegrad import core, modes
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout

TRACE, PARENT = "traceback_", "parent_"
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
OWN = (PACKAGE, "<formula>")
_check_nan = True
_writes: dict[int, str] = {}  # buffer -> the line of the last in-place operation on it, while the mode is on


class _Evaluating(threading.local):
    def __init__(self):
        self.nodes: list = []  # the nodes whose derivatives run in this thread, innermost last


_evaluating = _Evaluating()


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on."""
    return bool(modes.word() & modes.ANOMALY)


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode, when it is on, looks for nan in gradients."""
    return _check_nan


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Switch anomaly mode, for all threads."""
    global _check_nan
    modes.set_everywhere(modes.ANOMALY, bool(mode))
    _check_nan = bool(check_nan)
    if not mode:
        _writes.clear()


class detect_anomaly:
    """A context manager in which errors of the backward pass show the forward call that led to them.

    With `check_nan` a derivative that returns nan is an error.

    >>> import warnings
    >>> import tapegrad as tg
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     with tg.autograd.detect_anomaly():
    ...         x = tg.tensor([-1.], requires_grad=True)
    ...         x.sqrt().backward()
    Traceback (most recent call last):
    RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output.
    """

    def __init__(self, check_nan=True):
        self.prev = is_anomaly_enabled()
        self.check_nan = check_nan
        self.prev_check_nan = is_anomaly_check_nan_enabled()
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.",
            stacklevel=2,
        )

    def __enter__(self):
        set_anomaly_enabled(True, self.check_nan)

    def __exit__(self, *exception):
        set_anomaly_enabled(self.prev, self.prev_check_nan)


class set_detect_anomaly:
    """Switch anomaly mode on or off; as a context manager, until its end."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self.prev = is_anomaly_enabled()
        self.prev_check_nan = is_anomaly_check_nan_enabled()
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self):
        pass

    def __exit__(self, *exception):
        set_anomaly_enabled(self.prev, self.prev_check_nan)


# --- while recording --------------------------------------------------------------------------------------------------
def user_stack() -> list[str]:
    """The stack as text, down to the innermost line outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    return traceback.format_stack(frame)


def remember(e: int) -> None:
    """Note where the new entry `e` is recorded, and during whose derivative."""
    own = nodes.own_payload(e)
    stack = user_stack()
    _mark(own.metadata, stack)
    for k in range(core.entry_field(e, core.ENTRY_INPUTS)):
        slot = core.operand_slot(e, k)
        if core.get_field(slot, core.FLAGS) & layout.LEAF_GRAD:
            accumulator = nodes.gradient_node(slot)
            if TRACE not in accumulator.metadata:
                _mark(accumulator.metadata, stack)
            own.accumulators.append(accumulator)


def _mark(metadata: dict, stack: list[str]) -> None:
    metadata[TRACE] = stack
    if _evaluating.nodes:
        metadata[PARENT] = _evaluating.nodes[-1]


def note_write(slot: int) -> None:
    """An in-place operation is about to write to the memory of `slot`."""
    _writes[core.get_field(slot, core.BUFFER)] = short(user_stack())


def last_write(buffer: int) -> str:
    return _writes.get(buffer, "")


def short(stack: list[str]) -> str:
    """The innermost line of a stack: file:line and its text."""
    if not stack:
        return ""
    place, _, text = stack[-1].strip().partition("\n")
    parts = place.split(", ")
    file, line = parts[0].removeprefix("File ").strip('"'), parts[1].removeprefix("line ")
    return f"{file}:{line}" + (f": {text.strip()}" if text.strip() else "")


def line_of(e: int) -> str:
    """The user's line that recorded entry `e` in anomaly mode, '' if it is not known."""
    own = nodes.payload(e)
    return short(own.metadata.get(TRACE, [])) if own is not None else ""


# --- during a backward pass -------------------------------------------------------------------------------------------
class evaluating:
    """While the derivative of `node` runs: its errors are explained."""

    def __init__(self, node):
        self.node = node

    def __enter__(self):
        _evaluating.nodes.append(self.node)

    def __exit__(self, kind, error, trace):
        _evaluating.nodes.pop()
        if isinstance(error, Exception):
            explain(self.node)


def explain(node) -> None:
    """Warn with the forward stack of `node`, and with those of the nodes whose derivatives led to it."""
    _show(node, "Error detected in {}. ", "Traceback of forward call that caused the error:\n")
    parent = node.metadata.get(PARENT)
    while parent is not None:
        _show(
            parent, "\n\nPrevious calculation was induced by {}. ", "Traceback of forward call that induced the previous calculation:\n"
        )
        parent = parent.metadata.get(PARENT)


def _show(node, opening: str, title: str) -> None:
    stack = node.metadata.get(TRACE)
    if stack:
        text = opening.format(node.name()) + title + "".join(stack)
    else:
        text = (
            f"Error detected in {node.name()}. No forward pass information available. Enable detect anomaly during forward pass for more "
            "information."
        )
    warnings.warn(text, UserWarning, stacklevel=_depth())


def _depth() -> int:
    """The stacklevel, seen from the caller, of the innermost frame outside of this package."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OWN):
        depth, frame = depth + 1, frame.f_back
    return depth


def check_values(name: str, gradients) -> None:
    """Raise for a nan among the gradients that a derivative returned."""
    if not _check_nan:
        return
    for k, g in enumerate(gradients):
        if g is not None and bool(g.detach().isnan().any()):
            raise RuntimeError(f"Function '{name}' returned nan values in its {k}th output.")
