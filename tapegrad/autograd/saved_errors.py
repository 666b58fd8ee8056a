"""What is said of a saved value that has been overwritten: whose it is, its versions, and who wrote to it."""

from __future__ import annotations

from tapegrad import core
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout

HINT = (
    " Hint: enable anomaly detection to find the operation that failed to compute its gradient, with "
    "tapegrad.autograd.set_detect_anomaly(True, check_nan=False)."
)
ANOMALY_HINT = (
    " Hint: the backtrace further above shows the operation that failed to compute its gradient. The variable in question was changed in "
    "there or anywhere later. Good luck!"
)


def current_producer(slot: int) -> int:
    """The entry that the tensor of `slot` comes from today: an in-place operation has made its memory another entry's output."""
    best = core.get_field(slot, core.ENTRY)
    if core.get_field(slot, core.FLAGS) & layout.VIEW:
        return best
    fields = (core.BUFFER, core.GEOMETRY)
    for e in range(core.entry_count.value - 1, best, -1):
        if core.entry_field(e, core.ENTRY_FLAGS) & layout.ALIVE:
            first = core.entry_field(e, core.ENTRY_INPUTS)
            for k in range(core.entry_field(e, core.ENTRY_NOUT)):
                other = core.operand_slot(e, first + k)
                if not other or core.data_of(other) != core.data_of(slot) or core.get_field(other, core.FLAGS) & layout.VIEW:
                    continue
                if all(core.get_field(other, f) == core.get_field(slot, f) for f in fields):
                    return e
    return best


def changed_error(slot: int, dtype, shape, producer: int, now: int, expected: int) -> RuntimeError:
    """torch's words for a saved value that was overwritten, and as the error's note who did it, where that is known."""
    from tapegrad.autograd import anomaly_mode

    origin = ""
    if producer >= 0:
        name = nodes.stem(nodes.full_name(nodes.entry_name(producer)))
        if core.get_field(slot, core.FLAGS) & layout.VIEW:
            name = "AsStrided"  # torch takes a view whose base has changed from the base again
        number = core.get_field(slot, core.OUTPUT_NR) if producer == core.get_field(slot, core.ENTRY) else 0
        origin = f", which is output {number} of {name},"
    text = (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{dtype.type_name} {list(shape)}]{origin} is at version {now}; expected version {expected} instead."
    )
    text += ANOMALY_HINT if anomaly_mode.is_anomaly_enabled() else HINT
    error = RuntimeError(text)
    note = overwriter_text(slot)
    if note:
        error.add_note(note)
    return error


def overwriter_text(slot: int) -> str:
    """The operation that wrote last to the memory of `slot`, and its line, as far as they are known."""
    from tapegrad.autograd import anomaly_mode

    writer, line = "", anomaly_mode.last_write(core.get_field(slot, core.BUFFER))
    for e in range(core.entry_count.value - 1, core.get_field(slot, core.ENTRY), -1):
        if core.entry_field(e, core.ENTRY_FLAGS) & layout.ALIVE and not writer:
            first = core.entry_field(e, core.ENTRY_INPUTS)
            for k in range(core.entry_field(e, core.ENTRY_NOUT)):
                other = core.operand_slot(e, first + k)
                same = other and core.get_field(other, core.BUFFER) == core.get_field(slot, core.BUFFER) != 0
                if same and not is_view_entry(e, other):
                    writer = nodes.stem(nodes.entry_name(e))
                    line = line or anomaly_mode.line_of(e)
    if not writer and not line:
        return ""
    return f"The value was overwritten{' by ' + writer if writer else ''}{' at ' + line if line else ''}."


def is_view_entry(e: int, slot: int) -> bool:
    """Whether entry `e` only looks at the memory of its output: a view, not a write."""
    return bool(core.get_field(slot, core.FLAGS) & layout.VIEW) and core.entry_field(e, core.ENTRY_INPUTS) == 1 \
        and core.get_field(core.operand_slot(e, 0), core.BUFFER) in (0, core.get_field(slot, core.BUFFER))


def version_error(e: int, k: int) -> RuntimeError:
    """Operand `k` that entry `e` saved was overwritten."""
    slot = core.operand_slot(e, k)
    tensor = core.wrap(slot)
    own_output = k >= core.entry_field(e, core.ENTRY_INPUTS)
    producer = e if own_output else current_producer(slot)
    return changed_error(slot, tensor.dtype, tensor.shape, producer, core.version_of(slot), _operand_version(e, k))


def _operand_version(e: int, k: int) -> int:
    from tapegrad.engine.bind import state_cell

    entry = core.entry_view()[e]
    rows = layout.OPERAND.view(state_cell("operands").value, state_cell("operand_count").value)
    return int(rows["version"][entry["operand"] + k])
