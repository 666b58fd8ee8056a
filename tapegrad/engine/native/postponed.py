"""Elementwise calls on conjugates and negatives that are views (`ops/postponed.py`): their values are made first, without Python."""

from tapegrad.dtypes import CONJ, NEG
from tapegrad.engine.layout import GRAD, PLAIN, REQUIRES_GRAD
from tapegrad.engine.native.elementwise import MIXED, elementwise, record_elementwise
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import slot_row, the_state
from tapegrad.engine.native.tables import drop, view_slot


@native("ii")
def carried_out(s):
    """A held slot with the value of slot `s` in its memory, recorded: `s` itself if nothing is postponed.  0 if it cannot be had."""
    st = the_state()
    dtype = slot_row(st.slots, s).dtype
    if dtype <= PLAIN:
        slot_row(st.slots, s).handles = slot_row(st.slots, s).handles + 1
        return s
    held = view_slot(s, slot_row(st.slots, s).geometry, 0)
    slot_row(st.slots, held).dtype = dtype & PLAIN
    slot_row(st.slots, held).handles = 1
    for k in range(2):
        if dtype & (NEG if k else CONJ):
            out = elementwise(st.negate if k else st.conjugate, held, 0, 0, 0)
            drop(held)
            if out <= 0:
                return 0
            slot_row(st.slots, out).handles = 1
            held = out
    if (slot_row(st.slots, s).flags & REQUIRES_GRAD) != 0 and (st.mode & GRAD) != 0:
        record_elementwise(st.carry_out, s, 0, 0, held)
    return held


@native("iiii")
def elementwise_of_values(op, a, b):
    """`elementwise` where a conjugation or negation of an operand is postponed; MIXED if none is, or Python must see to it."""
    st = the_state()
    if (slot_row(st.slots, a).dtype | (slot_row(st.slots, b).dtype if b else 0)) <= PLAIN:
        return MIXED
    first = carried_out(a)
    second = carried_out(b) if first != 0 and b != 0 else 0
    out = MIXED
    if first != 0 and (second != 0 or b == 0):
        out = elementwise(op, first, second, 0, 0)
    if first:
        drop(first)
    if second:
        drop(second)
    return out
