"""Checking mode (TAPEGRAD_CHECK=1): what is verified around every kernel.

`watch` before and `verify` after a kernel: nothing was written past the end of a buffer (the guards hold), no input was changed (alias),
and no output holds the poison that fresh and freed memory is filled with unless an input did (every element was written, none was
computed from memory that nobody has written).
"""

from tapegrad.engine.layout import FLOAT32, FLOAT64
from tapegrad.engine.native.capi import py_decref, py_long_from_i64, py_vectorcall
from tapegrad.engine.native.memory import guard_holds
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import buffer_row, least, load_i32, load_i64, load_u8, slot_row, stack_words, store_i64, the_state

WATCHED = 30  # inputs looked at; `words` has room for one more word, that says whether any held poison
PAST_END, INPUT_CHANGED, UNWRITTEN = 1, 2, 3
call_words = stack_words(4)


@native("ii")
def checksum(s):
    """A number that changes when the memory behind slot `s` does."""
    st = the_state()
    buffer = buffer_row(st.buffers, slot_row(st.slots, s).buffer)
    total = buffer.nbytes
    for k in range(buffer.nbytes >> 3):
        total = total * 31 + load_i64(buffer.memory + k * 8)
    for k in range(buffer.nbytes & ~7, buffer.nbytes):
        total = total * 31 + load_u8(buffer.memory + k)
    return total


@native("ii")
def has_poison(s):
    """Whether the buffer behind a float slot holds an element of poison."""
    st = the_state()
    slot = slot_row(st.slots, s)
    buffer = buffer_row(st.buffers, slot.buffer)
    if slot.dtype == FLOAT64:
        for k in range(buffer.nbytes >> 3):
            if load_i64(buffer.memory + k * 8) == -1:
                return 1
    elif slot.dtype == FLOAT32:
        for k in range(buffer.nbytes >> 2):
            if load_i32(buffer.memory + k * 4) == -1:
                return 1
    return 0


@native("viii")
def watch(words, slots, count):
    """Note how the inputs of a kernel are before it runs; `slots` is an array of int64."""
    poisoned = 0
    for k in range(least(count, WATCHED)):
        s = load_i64(slots + k * 8)
        if s:
            store_i64(words + (1 + k) * 8, checksum(s))
            poisoned = poisoned | has_poison(s)
    store_i64(words, poisoned | (count > WATCHED))


@native("iiiiii")
def verify(words, slots, count, made, outputs):
    """Look at everything after the kernel; 0 with an exception if something is wrong."""
    st = the_state()
    for k in range(outputs):
        s = load_i64(made + k * 8)
        if guard_holds(slot_row(st.slots, s).buffer) == 0:
            return complain(PAST_END, s)
        if load_i64(words) == 0 and has_poison(s):
            return complain(UNWRITTEN, s)
    for k in range(least(count, WATCHED)):
        s = load_i64(slots + k * 8)
        if s:
            b = slot_row(st.slots, s).buffer
            ours = False
            for j in range(outputs):
                ours = ours or slot_row(st.slots, load_i64(made + j * 8)).buffer == b
            if guard_holds(b) == 0:
                return complain(PAST_END, s)
            if not ours and checksum(s) != load_i64(words + (1 + k) * 8):
                return complain(INPUT_CHANGED, s)
    return 1


@native("iii")
def complain(what, s):
    """Raise by way of Python; 0."""
    st = the_state()
    words = call_words()
    store_i64(words, py_long_from_i64(what))
    store_i64(words + 8, py_long_from_i64(s))
    result = py_vectorcall(st.check_failed, words, 2, 0)
    py_decref(load_i64(words))
    py_decref(load_i64(words + 8))
    if result:
        py_decref(result)
    return 0
