"""What Python reads and writes in the tables, a function per field or small step."""

from tapegrad.engine.layout import BOOL, FLOAT32, FLOAT64, INT64, REQUIRES_GRAD
from tapegrad.engine.native.capi import py_bool_from_i64, py_float_from_f64, py_incref, py_long_from_i64
from tapegrad.engine.native.memory import bury
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT
from tapegrad.engine.native.pointers import (
    buffer_row,
    entry_row,
    load_f32,
    load_f64,
    load_i32,
    load_i64,
    load_u8,
    operand_row,
    slot_row,
    store_i32,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, link_input, link_output, view_slot


@native("vii")
def set_payload(e, payload):
    """Give entry `e` its payload, a PyObject of which it takes a reference."""
    entry = entry_row(the_state().entries, e)
    if entry.payload:
        bury(entry.payload)
        entry.payload = 0
    if payload:
        py_incref(payload)
        entry.payload = payload


@native("ii")
def item(s):
    """The Python number in a one-element slot of a basic dtype; 0 (no exception) for other dtypes."""
    st = the_state()
    slot = slot_row(st.slots, s)
    data = slot.data
    dtype = slot.dtype
    if dtype == FLOAT64:
        return py_float_from_f64(load_f64(data))
    if dtype == FLOAT32:
        return py_float_from_f64(load_f32(data))
    if dtype == INT64:
        return py_long_from_i64(load_i64(data))
    if dtype == BOOL:
        return py_bool_from_i64(load_u8(data))
    return 0


@native("vi")
def hold(s):
    """One more handle on slot `s`."""
    slot = slot_row(the_state().slots, s)
    slot.handles = slot.handles + 1


@native("iii")
def get_field(s, offset):
    """An int32 field of a slot row, by byte offset."""
    return load_i32(slot_row(the_state().slots, s).pointer + offset)


@native("viii")
def set_field(s, offset, value):
    store_i32(slot_row(the_state().slots, s).pointer + offset, value)


@native("ii")
def data_of(s):
    return slot_row(the_state().slots, s).data


@native("ii")
def version_of(s):
    st = the_state()
    return buffer_row(st.buffers, slot_row(st.slots, s).buffer).version


@native("vii")
def bump_version(s, by):
    st = the_state()
    buffer = buffer_row(st.buffers, slot_row(st.slots, s).buffer)
    buffer.version = buffer.version + by


@native("viiii")
def attach_input(e, k, s, saved):
    link_input(the_state(), e, k, s, saved)


@native("viiiii")
def attach_output(e, k, s, saved, flags):
    link_output(the_state(), e, k, s, saved, flags)


@native("iii")
def operand_slot(e, k):
    """The slot of operand `k` of entry `e`."""
    st = the_state()
    return operand_row(st.operands, entry_row(st.entries, e).operand + k).slot


@native("iii")
def entry_field(e, offset):
    """An int32 field of an entry row, by byte offset."""
    return load_i32(entry_row(the_state().entries, e).pointer + offset)


@native("ii")
def payload_of(e):
    """The entry's payload as a new reference, None if it has none."""
    st = the_state()
    payload = entry_row(st.entries, e).payload
    if payload == 0:
        payload = st.none
    py_incref(payload)
    return payload


@native("iii")
def move_handle(tensor, s):
    """Make the Tensor object `tensor` hold slot `s` (unheld or held elsewhere) in place of its own."""
    st = the_state()
    old = load_i64(tensor + HANDLE_SLOT)
    slot = slot_row(st.slots, s)
    slot.handles = slot.handles + 1
    store_i64(tensor + HANDLE_SLOT, s)
    if old > 0:
        drop(old)
    return s


@native("ii")
def share_slot(source):
    """A new unheld slot with the value and geometry of `source` and no place in the graph."""
    return view_slot(source, slot_row(the_state().slots, source).geometry, 0)


@native("viiiii")
def retarget(e, k, old, new, saved):
    """Make slot `new` the output (operand `k`) of entry `e` in place of `old`: an in-place op's value has moved to its target's memory."""
    st = the_state()
    operand = operand_row(st.operands, entry_row(st.entries, e).operand + k)
    source = slot_row(st.slots, old)
    target = slot_row(st.slots, new)
    operand.slot = new
    operand.version = buffer_row(st.buffers, target.buffer).version
    target.entry = e
    target.output_nr = source.output_nr
    target.flags = target.flags | REQUIRES_GRAD
    source.entry = -1
    if saved:
        source.saves = source.saves - 1
        target.saves = target.saves + 1


@native("vii")
def set_entry_flags(e, flags):
    """Replace the flags of an entry."""
    entry_row(the_state().entries, e).flags = flags
