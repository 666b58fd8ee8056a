"""Marks: which tape entries a sweep has to visit.

A two-level bitmap over tape positions, so a small graph at the end of a long tape costs what it is, not what the tape is.
"""

from tapegrad.engine.layout import CAPTURED, REQUIRES_GRAD
from tapegrad.engine.native.capi import raw_realloc
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    entry_row,
    leading_zeros,
    least,
    load_i64,
    operand_row,
    slot_row,
    store_i64,
    the_state,
    trailing_zeros,
    zero_bytes,
)
from tapegrad.engine.native.tables import pop_work, push_work


@native("iSi")
def is_marked(st, e):
    return (load_i64(st.marks + (e >> 6) * 8) >> (e & 63)) & 1


@native("iS")
def summary_of(st):
    return st.marks + (st.marks_room >> 6) * 8


@native("vi")
def set_mark(e):
    st = the_state()
    word = st.marks + (e >> 6) * 8
    store_i64(word, load_i64(word) | (1 << (e & 63)))
    word = summary_of(st) + (e >> 12) * 8
    store_i64(word, load_i64(word) | (1 << ((e >> 6) & 63)))


@native("vi")
def clear_mark(e):
    st = the_state()
    word = st.marks + (e >> 6) * 8
    bits = load_i64(word) & ~(1 << (e & 63))
    store_i64(word, bits)
    if bits == 0:
        word = summary_of(st) + (e >> 12) * 8
        store_i64(word, load_i64(word) & ~(1 << ((e >> 6) & 63)))


@native("ii")
def last_mark(below):
    """The highest marked position under `below`, -1 if there is none."""
    st = the_state()
    if below <= 0:
        return -1
    top = least(below, st.marks_room) - 1
    word = top >> 6
    shift = 63 - (top & 63)
    bits = (load_i64(st.marks + word * 8) << shift)
    if bits:
        return top - leading_zeros(bits)
    summary = summary_of(st)
    group = word >> 6
    shift = 64 - (word & 63)
    bits = 0 if shift == 64 else load_i64(summary + group * 8) << shift
    if bits:
        word = word - 1 - leading_zeros(bits)
    else:
        group = group - 1
        while group >= 0 and load_i64(summary + group * 8) == 0:
            group = group - 1
        if group < 0:
            return -1
        word = group * 64 + 63 - leading_zeros(load_i64(summary + group * 8))
    return word * 64 + 63 - leading_zeros(load_i64(st.marks + word * 8))


@native("iii")
def next_mark(start, limit):
    """The lowest marked position in start .. limit, -1 if there is none."""
    st = the_state()
    word = start >> 6
    bits = load_i64(st.marks + word * 8) & (-1 << (start & 63))
    while bits == 0:
        word = word + 1
        if word * 64 >= limit:
            return -1
        bits = load_i64(st.marks + word * 8)
    return word * 64 + trailing_zeros(bits)


@native("ii")
def mark(root):
    """Mark every entry that slot `root` depends on through slots that require grad; 0 if there is no memory."""
    st = the_state()
    if st.marks_room < st.entry_room:
        room = (st.entry_room + 4095) & ~4095
        size = (room >> 6) * 8 + (room >> 12) * 8
        table = raw_realloc(st.marks, size)
        if table == 0:
            return 0
        zero_bytes(table, size)
        st.marks = table
        st.marks_room = room
    e = slot_row(st.slots, root).entry
    if e < 0 or is_marked(st, e):
        return 1
    set_mark(e)
    push_work(e)
    while load_i64(st.stack) > 0:
        e = pop_work(st)
        entry = entry_row(st.entries, e)
        first = entry.operand
        for k in range(entry.inputs):
            s = operand_row(st.operands, first + k).slot
            if s:
                slot = slot_row(st.slots, s)
                p = slot.entry
                if p >= 0 and (slot.flags & REQUIRES_GRAD) != 0 and not is_marked(st, p):
                    set_mark(p)
                    push_work(p)
    return 1


@native("ii")
def marked_leaves(limit):
    """1 if a marked entry has a leaf among its inputs that requires grad and is not captured."""
    st = the_state()
    e = next_mark(0, limit)
    while e >= 0:
        entry = entry_row(st.entries, e)
        for k in range(entry.inputs):
            s = operand_row(st.operands, entry.operand + k).slot
            if s:
                slot = slot_row(st.slots, s)
                if slot.entry < 0 and (slot.flags & (REQUIRES_GRAD | CAPTURED)) == REQUIRES_GRAD:
                    return 1
        e = next_mark(e + 1, limit) if e + 1 < limit else -1
    return 0


@native("vi")
def prune_marks(limit):
    """Keep only the marked entries that lead to a captured slot."""
    st = the_state()
    e = next_mark(0, limit)
    while e >= 0:
        entry = entry_row(st.entries, e)
        wanted = False
        for k in range(entry.inputs):
            s = operand_row(st.operands, entry.operand + k).slot
            if s:
                slot = slot_row(st.slots, s)
                wanted = wanted or (slot.flags & CAPTURED) != 0
                if slot.entry >= 0 and (slot.flags & REQUIRES_GRAD) != 0:
                    wanted = wanted or is_marked(st, slot.entry) != 0
        if not wanted:
            clear_mark(e)
        e = next_mark(e + 1, limit) if e + 1 < limit else -1
