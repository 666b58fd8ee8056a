"""Slots and the tape: who holds what, and what happens when nobody does.

A slot row lives while a Python handle or a live entry's edge needs it; its *value* (the buffer) while a handle or a saving
entry needs it.  An entry lives while one of its outputs does.  `settle` runs the cascade with an explicit stack, so a chain of
a million operations dies without recursion.  Entries at the end of the tape that have died are taken back at once; holes in the
middle are closed by `compact_tape` when the table would have to grow, so positions stay in topological order.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import ALIVE, FREED, HAS_SAVED, LEAF_GRAD, PLAIN, REQUIRES_GRAD, SAVED_ALL, SAVED_INPUT
from tapegrad.engine.native.capi import raw_realloc
from tapegrad.engine.native.memory import bury, new_buffer, release_buffer
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    buffer_row,
    copy_bytes,
    entry_row,
    geometry_row,
    load_i64,
    operand_row,
    slot_row,
    store_i64,
    the_state,
    zero_bytes,
)

SLOT_SIZE = layout.SLOT.size
ENTRY_SIZE = layout.ENTRY.size
OPERAND_SIZE = layout.OPERAND.size
ZOMBIE = 1 << 12  # an output that only its own, still living entry needs


@native("i")
def slot_index():
    """A zeroed slot row; 0 if there is no memory."""
    st = the_state()
    s = st.slot_free
    if s:
        st.slot_free = slot_row(st.slots, s).geometry
    else:
        if st.slot_count >= st.slot_room:
            room = st.slot_room * 2
            table = raw_realloc(st.slots, room * SLOT_SIZE)
            if table == 0:
                return 0
            st.slots = table
            st.slot_room = room
        s = st.slot_count
        st.slot_count = s + 1
    zero_bytes(slot_row(st.slots, s).pointer, SLOT_SIZE)
    slot_row(st.slots, s).entry = -1
    st.slot_live = st.slot_live + 1
    return s


@native("iii")
def new_slot(geometry, dtype):
    """A slot with memory of its own, uninitialised, unheld; 0 if there is no memory (then `state.error_b` is the geometry).

    `dtype` may be the code of another slot: nothing is postponed in the new one.
    """
    st = the_state()
    g = geometry_row(st.geometries, geometry)
    b = new_buffer(g.numel * load_i64(st.itemsize + dtype * 8))
    if b == 0:
        st.error_b = geometry
        return 0
    s = slot_index()
    if s == 0:
        release_buffer(st, b)
        return 0
    slot = slot_row(st.slots, s)
    slot.data = buffer_row(st.buffers, b).memory
    slot.buffer = b
    slot.geometry = geometry
    slot.dtype = dtype & PLAIN
    return s


@native("iiii")
def view_slot(source, geometry, byte_offset):
    """A slot of another geometry over the memory of `source`, unheld."""
    st = the_state()
    s = slot_index()
    origin = slot_row(st.slots, source)
    slot = slot_row(st.slots, s)
    b = origin.buffer
    row = buffer_row(st.buffers, b)
    row.references = row.references + 1
    slot.data = origin.data + byte_offset
    slot.buffer = b
    slot.geometry = geometry
    slot.dtype = origin.dtype
    slot.version = row.version
    return s


@native("vSL")
def give_up_value(st, slot):
    if slot.buffer:
        b = slot.buffer
        slot.buffer = 0
        slot.data = 0
        release_buffer(st, b)


@native("vSiL")
def free_slot(st, s, slot):
    give_up_value(st, slot)
    slot.flags = -1
    slot.geometry = st.slot_free
    st.slot_free = s
    st.slot_live = st.slot_live - 1


@native("vi")
def push_work(s):
    """Push a slot on the work stack; its depth is kept in the word before the stack."""
    st = the_state()
    depth = load_i64(st.stack)
    if depth + 2 >= st.stack_room:
        table = raw_realloc(st.stack, st.stack_room * 16)
        if table == 0:
            return  # the slot is never freed
        st.stack = table
        st.stack_room = st.stack_room * 2
    store_i64(st.stack + (depth + 1) * 8, s)
    store_i64(st.stack, depth + 1)


@native("iS")
def pop_work(st):
    depth = load_i64(st.stack)
    store_i64(st.stack, depth - 1)
    return load_i64(st.stack + depth * 8)


@native("iii")
def is_saved(flags, k):
    if flags & SAVED_ALL:
        return True
    return k < 24 and (flags & (SAVED_INPUT << k)) != 0


@native("viiii")
def unlink(s, edges, saves, handles):
    """Take away some of the reasons for which slot `s` lives; pushes it as work when none is left."""
    st = the_state()
    slot = slot_row(st.slots, s)
    slot.edges = slot.edges - edges
    slot.saves = slot.saves - saves
    slot.handles = slot.handles - handles
    if slot.handles == 0:
        if slot.edges == 0:
            if (slot.flags & ZOMBIE) == 0 or slot.saves == 0:
                push_work(s)
        elif slot.saves == 0 and (slot.flags & LEAF_GRAD) == 0:
            give_up_value(st, slot)


@native("vii")
def bury_entry(e, dying):
    """The last output of entry `e` has died (slot `dying`): release its inputs, saved values and payload."""
    st = the_state()
    entry = entry_row(st.entries, e)
    flags = entry.flags
    inputs = entry.inputs
    first = entry.operand
    for k in range(inputs):
        s = operand_row(st.operands, first + k).slot
        if s:
            unlink(s, 1, 1 if (flags & FREED) == 0 and is_saved(flags, k) else 0, 0)
    for k in range(entry.nout):
        s = operand_row(st.operands, first + inputs + k).slot
        if s and s != dying:
            output = slot_row(st.slots, s)
            if output.handles > 0:  # Python is looking at a saved output: it stays, as a leaf
                output.entry = -1
                output.saves = 0
                output.flags = output.flags & ~(ZOMBIE | REQUIRES_GRAD)
            else:
                free_slot(st, s, output)
    if entry.payload:
        bury(entry.payload)
        entry.payload = 0
    entry.flags = 0
    st.entry_live = st.entry_live - 1
    if st.sweeping == 0:
        rewind_tape()


@native("v")
def rewind_tape():
    """Take back dead entries at the end of the tape."""
    st = the_state()
    e = st.entry_count
    while e > 0:
        last = entry_row(st.entries, e - 1)
        if last.flags & ALIVE:
            break
        e = e - 1
        st.operand_count = last.operand
    st.entry_count = e


@native("v")
def settle():
    """Run the release cascade until the work stack is empty."""
    st = the_state()
    while load_i64(st.stack) > 0:
        s = pop_work(st)
        slot = slot_row(st.slots, s)
        if slot.grad:
            unlink(slot.grad, 0, 0, 1)
            slot.grad = 0
        e = slot.entry
        if e < 0:
            free_slot(st, s, slot)
            continue
        entry = entry_row(st.entries, e)
        output = operand_row(st.operands, entry.operand + entry.inputs + slot.output_nr)
        if slot.flags & ZOMBIE:
            output.slot = 0
            free_slot(st, s, slot)
            continue
        entry.outputs = entry.outputs - 1
        if entry.outputs == 0:
            bury_entry(e, s)
            slot = slot_row(st.slots, s)
            free_slot(st, s, slot)
        elif slot.saves > 0:
            slot.flags = slot.flags | ZOMBIE
        else:
            output.slot = 0
            free_slot(st, s, slot)


@native("vi")
def drop(s):
    """A Python handle (or a cotangent, or a grad field) lets go of slot `s`."""
    unlink(s, 0, 0, 1)
    st = the_state()
    if load_i64(st.stack) > 0:
        settle()


@native("ii")
def written_slot(s):
    """A slot with a handle for what the memory of slot `s` will hold once it has been written to, which is a new version; 0 without memory."""
    st = the_state()
    new = view_slot(s, slot_row(st.slots, s).geometry, 0)
    if new:
        slot = slot_row(st.slots, new)
        slot.handles = 1
        buffer = buffer_row(st.buffers, slot.buffer)
        buffer.version = buffer.version + 1
    return new


@native("v")
def compact_tape():
    """Close the holes: move live entries down, keeping their order, and their operands with them."""
    st = the_state()
    to = 0
    operand = 0
    for e in range(st.entry_count):
        entry = entry_row(st.entries, e)
        if entry.flags & ALIVE:
            count = entry.inputs + entry.nout
            copy_down(st.operands + operand * OPERAND_SIZE, st.operands + entry.operand * OPERAND_SIZE, count)
            entry.operand = operand
            for k in range(entry.nout):
                s = operand_row(st.operands, operand + entry.inputs + k).slot
                if s:
                    slot_row(st.slots, s).entry = to
            if to != e:
                copy_bytes(entry_row(st.entries, to).pointer, entry.pointer, ENTRY_SIZE)
            operand = operand + count
            to = to + 1
    st.entry_count = to
    st.operand_count = operand


@native("viii")
def copy_down(target, source, words):
    if target != source:
        for k in range(words):
            store_i64(target + k * 8, load_i64(source + k * 8))


@native("ii")
def make_room(operands):
    """Room for one more entry ; 0 if there is no memory.  Moves the tables, so rows must be read again."""
    st = the_state()
    full = st.entry_count >= st.entry_room
    full |= st.operand_count + operands > st.operand_room
    if full and st.sweeping == 0 and st.entry_live * 2 < st.entry_count:
        compact_tape()
    if st.entry_count >= st.entry_room:
        table = raw_realloc(st.entries, st.entry_room * 2 * ENTRY_SIZE)
        if table == 0:
            return 0
        st.entries = table
        st.entry_room = st.entry_room * 2
    while st.operand_count + operands > st.operand_room:
        table = raw_realloc(st.operands, st.operand_room * 2 * OPERAND_SIZE)
        if table == 0:
            return 0
        st.operands = table
        st.operand_room = st.operand_room * 2
    return 1


@native("iiiii")
def open_entry(op, inputs, nout, flags):
    """Append an entry; the caller then fills its operands with `link_input` and `link_output`.  -1 if there is no memory."""
    st = the_state()
    count = inputs + nout
    if st.entry_count >= st.entry_room or st.operand_count + count > st.operand_room:
        if make_room(count) == 0:
            return -1
    e = st.entry_count
    entry = entry_row(st.entries, e)
    entry.op = op
    entry.flags = flags | ALIVE
    entry.inputs = inputs
    entry.outputs = nout
    entry.operand = st.operand_count
    entry.nout = nout
    entry.payload = 0
    entry.plan = 0
    st.entry_count = e + 1
    st.operand_count = st.operand_count + count
    st.entry_live = st.entry_live + 1
    st.recorded = st.recorded + 1
    return e


@native("vSiiii")
def link_input(st, e, k, s, saved):
    """Operand `k` of entry `e` is slot `s`."""
    entry = entry_row(st.entries, e)
    operand = operand_row(st.operands, entry.operand + k)
    slot = slot_row(st.slots, s)
    operand.slot = s
    slot.edges = slot.edges + 1
    if slot.flags & ZOMBIE:  # a derivative that is recorded reads it: it counts as an output again
        slot.flags = slot.flags & ~ZOMBIE
        producer = entry_row(st.entries, slot.entry)
        producer.outputs = producer.outputs + 1
    if saved:
        slot.saves = slot.saves + 1
        operand.version = buffer_row(st.buffers, slot.buffer).version


@native("vSiiiii")
def link_output(st, e, k, s, saved, flags):
    """Output `k` of entry `e` is slot `s`, which now requires grad."""
    entry = entry_row(st.entries, e)
    operand = operand_row(st.operands, entry.operand + entry.inputs + k)
    slot = slot_row(st.slots, s)
    operand.slot = s
    slot.entry = e
    slot.output_nr = k
    slot.flags = slot.flags | flags
    if saved:
        slot.saves = slot.saves + 1
        operand.version = buffer_row(st.buffers, slot.buffer).version


@native("vi")
def free_saved(e):
    """A backward pass is through with entry `e`: give up the values it saved."""
    st = the_state()
    entry = entry_row(st.entries, e)
    flags = entry.flags
    if (flags & HAS_SAVED) == 0 or (flags & FREED) != 0:
        return
    entry.flags = flags | FREED
    first = entry.operand
    for k in range(entry.inputs + entry.nout):
        if is_saved(flags, k):
            s = operand_row(st.operands, first + k).slot
            if s:
                unlink(s, 0, 1, 0)
    if load_i64(st.stack) > 0:
        settle()
