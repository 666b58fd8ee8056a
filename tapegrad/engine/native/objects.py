"""Tensor objects and slots: wrapping one, letting it go, what the garbage collector sees, reading a call's operands, handing it to Python."""

from tapegrad.engine.layout import FLOAT64, INFERENCE, INT64, SLOW, SUBCLASS, TRACKED, VIEW, WRAPPED
from tapegrad.engine.native.capi import (
    py_decref,
    py_error_clear,
    py_error_fetch,
    py_error_occurred,
    py_error_restore,
    py_float_as_f64,
    py_incref,
    py_long_as_i64,
    py_type_alloc,
    py_vectorcall,
    raw_free,
    raw_malloc,
)
from tapegrad.engine.native.memory import drain_graveyard
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    VOID,
    buffer_row,
    call_pointer,
    entry_row,
    load_i64,
    slot_row,
    stack_words,
    store_f32,
    store_f64,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, new_slot
from tapegrad.engine.native.threadmodes import load_modes

HANDLE_SLOT = 16  # byte offset of the slot number in a Tensor object
TYPE_FREE = 320  # byte offset of tp_free in a PyTypeObject, verified when the engine starts
ODD = VIEW | INFERENCE | SUBCLASS | TRACKED
call_free = call_pointer(VOID, I64)
call_visit = call_pointer(I64, I64, I64)  # visitproc(object, argument), an int in the lower half
argument_words = stack_words(24)
pair_words = stack_words(4)


@native("ii")
def wrap(s):
    """A new Tensor object that holds slot `s`."""
    st = the_state()
    slot = slot_row(st.slots, s)
    slot.handles = slot.handles + 1
    tensor = py_type_alloc(st.tensor_type, 0)
    if tensor:
        store_i64(tensor + HANDLE_SLOT, s)
    else:
        drop(s)
    return tensor


@native("vi")
def dealloc(tensor):
    """tp_dealloc of the handle type: let go of the slot, then free the object."""
    st = the_state()
    s = load_i64(tensor + HANDLE_SLOT)
    if s > 0:
        store_i64(tensor + HANDLE_SLOT, 0)
        drop(s)
    kind = load_i64(tensor + 8)
    call_free_of(tensor)
    py_decref(kind)
    if st.graveyard_count:
        flush_graveyard()


# What an entry refers to (a hook, the context of a custom Function) may refer to a tensor or a node that keeps the entry alive.  The
# collector finds such a cycle if the object that alone keeps the entry alive shows it the entry's payload as its own.
@native("ii")
def owned_entry(tensor):
    """The entry that nothing but the object `tensor` keeps alive, -1 if there is none."""
    st = the_state()
    s = load_i64(tensor + HANDLE_SLOT)
    if s <= 0:
        return -1
    slot = slot_row(st.slots, s)
    if slot.handles != 1 or slot.edges != 0 or slot.entry < 0:
        return -1
    return slot.entry if entry_row(st.entries, slot.entry).outputs == 1 else -1


@native("iiii")
def traverse(tensor, visit, argument):
    """tp_traverse of the handle type."""
    status = call_visit(visit, load_i64(tensor + 8), argument) & 0xFFFFFFFF
    e = owned_entry(tensor)
    if status == 0 and e >= 0:
        payload = entry_row(the_state().entries, e).payload
        if payload:
            status = call_visit(visit, payload, argument) & 0xFFFFFFFF
    return status


@native("ii")
def clear(tensor):
    """tp_clear of the handle type: the object is in a cycle that nobody can reach, so its entry has no use for the payload."""
    e = owned_entry(tensor)
    if e >= 0:
        entry = entry_row(the_state().entries, e)
        payload = entry.payload
        if payload:
            entry.payload = 0
            py_decref(payload)
    return 0


@native("vi")
def call_free_of(tensor):
    call_free(load_i64(load_i64(tensor + 8) + TYPE_FREE), tensor)


@native("v")
def flush_graveyard():
    """Release buried objects with any exception in flight put aside."""
    words = pair_words()
    py_error_fetch(words, words + 8, words + 16)
    drain_graveyard()
    py_error_restore(load_i64(words), load_i64(words + 8), load_i64(words + 16))


@native("iS")
def modes_ready(st):
    """Load this thread's modes; true if none of them needs Python."""
    load_modes()
    return st.mode & SLOW == 0


@native("iSi")
def slot_of(st, tensor):
    """The slot of a plain Tensor, 0 for anything that Python must look at."""
    kind = load_i64(tensor + 8)
    if kind != st.tensor_type and kind != st.parameter_type:
        return 0
    s = load_i64(tensor + HANDLE_SLOT)
    slot = slot_row(st.slots, s)
    if slot.flags & ODD:
        if slot.flags & (INFERENCE | SUBCLASS | TRACKED):
            return 0
        if slot.version != buffer_row(st.buffers, slot.buffer).version:
            return 0
    return s


@native("iii")
def moved(tensor, s):
    """A new reference to `tensor`, which holds slot `s`, of which it takes over a handle, in place of its own."""
    old = load_i64(tensor + HANDLE_SLOT)
    store_i64(tensor + HANDLE_SLOT, s)
    drop(old)
    py_incref(tensor)
    return tensor


@native("iii")
def scalar_slot(value, dtype):
    """A held 0-d slot with the Python number `value` in `dtype`; 0 if that is not the plain case."""
    st = the_state()
    kind = load_i64(value + 8)
    if dtype <= FLOAT64:
        if kind == st.float_type:
            x = py_float_as_f64(value)
        elif kind == st.int_type:
            x = py_float_as_f64(value)
            if x == -1.0 and py_error_occurred() != 0:
                py_error_clear()
                return 0
            if x >= 9223372036854775808.0 or x < -9223372036854775808.0:  # beyond int64: Python knows what torch says
                return 0
        else:
            return 0
        s = new_slot(st.scalar_geometry, dtype)
        if s == 0:
            return 0
        if dtype == FLOAT64:
            store_f64(slot_row(st.slots, s).data, x)
        else:
            store_f32(slot_row(st.slots, s).data, x)
    elif dtype == INT64 and kind == st.int_type:
        i = py_long_as_i64(value)
        if i == -1 and py_error_occurred() != 0:
            py_error_clear()
            return 0
        s = new_slot(st.scalar_geometry, dtype)
        if s == 0:
            return 0
        store_i64(slot_row(st.slots, s).data, i)
    else:
        return 0
    slot = slot_row(st.slots, s)
    slot.flags = WRAPPED
    slot.handles = 1
    return s


@native("iiiiiii")
def go_slow(callable_, code, self, args, count, names):
    """Hand a call to Python: with `self` in front if there is one, swapped if reflected."""
    extra = 0
    if names:
        extra = load_i64(names + 16)  # ob_size of the tuple of keyword names
    if self == 0:
        return py_vectorcall(callable_, args, count, names)
    words = argument_words()
    heap = 0
    if count + extra > 20:
        heap = raw_malloc((count + extra + 1) * 8)
        words = heap
    store_i64(words, self)
    for k in range(count + extra):
        store_i64(words + (k + 1) * 8, load_i64(args + k * 8))
    result = py_vectorcall(callable_, words, count + 1, names)
    if heap:
        raw_free(heap)
    return result
