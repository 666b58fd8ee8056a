"""The reverse sweep: go down the marked entries of the tape.

`sweep` handles elementwise entries here; at any other entry (a structural op, a hook, a custom Function) it returns the
position to Python, which adds the cotangents of that entry's inputs with `accumulate` and calls `sweep` again.
"""

from tapegrad.engine.layout import (
    ADDED,
    CAPTURED,
    CONTIGUOUS,
    DERIVATIVE_KERNEL,
    DERIVATIVE_SAME,
    DIRECT,
    ELEMENTWISE,
    FLOAT64,
    FREED,
    GRAD_MODES,
    HAS_SAVED,
    HOOKED,
    LEAF_GRAD,
    PLAIN,
    REQUIRES_GRAD,
    STRIDED,
)
from tapegrad.engine.native.checking import verify, watch
from tapegrad.engine.native.cotangents import (
    DONE,
    GRAPH_FREED,
    NEEDS_PYTHON,
    OUT_OF_MEMORY,
    PYTHON_ERROR,
    WRONG_VERSION,
    accumulate,
    exclusive,
    ordered,
    unbroadcast,
)
from tapegrad.engine.native.deferred import LEAST, cotangent_slot, defer, defer_over, flush, retire, spend
from tapegrad.engine.native.elementwise import address_of_run_blocks, find_broadcast, kernel_of, set_operand
from tapegrad.engine.native.marks import clear_mark, is_marked, last_mark
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    Plan,
    broadcast_get,
    broadcast_row,
    buffer_row,
    entry_row,
    external,
    geometry_row,
    load_i64,
    op_get,
    op_row,
    operand_row,
    slot_row,
    stack_words,
    store_i64,
    the_state,
    zero_bytes,
)
from tapegrad.engine.native.tables import drop, is_saved, new_slot, rewind_tape, view_slot
from tapegrad.engine.native.threadmodes import exchange_modes
from tapegrad.engine.native.tiles import RETIRED

sweep_planned = external("tg_sweep_planned", I64, I64)  # native/backward.py, which builds on this file
many_words = stack_words(32)
six_words = stack_words(8)
check_words = stack_words(40)


@native("ii")
def check_saved(e):
    """DONE if the values that entry `e` saved are there and as they were."""
    st = the_state()
    entry = entry_row(st.entries, e)
    flags = entry.flags
    if flags & HAS_SAVED:
        if flags & FREED:
            st.error_a = e
            return GRAPH_FREED
        for k in range(entry.inputs + entry.nout):
            if is_saved(flags, k):
                operand = operand_row(st.operands, entry.operand + k)
                if operand.version != buffer_row(st.buffers, slot_row(st.slots, operand.slot).buffer).version:
                    st.error_a = e
                    st.error_b = k
                    return WRONG_VERSION
    return DONE


@native("iSL")
def wants_cotangent(st, slot):
    flags = slot.flags
    if flags & REQUIRES_GRAD == 0:
        return False
    if flags & (LEAF_GRAD | CAPTURED):
        return True
    return slot.entry >= 0 and is_marked(st, slot.entry) != 0


@native("iiiiiii")
def derivative(e, k, g, plan, plain, into):
    """The cotangent of input `k` in the output's layout, as a new slot with one handle, or added to slot `into`; 0 on failure."""
    st = the_state()
    if st.check == 0:
        return derivative_unchecked(e, k, g, plan, plain, into)
    words = check_words()
    operands = words + 34 * 8
    entry = entry_row(st.entries, e)
    store_i64(operands, g)
    store_i64(operands + 40, 0)
    count = 1
    for j in range(entry.inputs + 1):  # the operands that are read, for the others may have been freed
        if (op_get(op_row(st.ops, entry.op), "reads", k) >> j) & 1:
            store_i64(operands + count * 8, operand_row(st.operands, entry.operand + j).slot)
            count = count + 1
    watch(words, operands, count)
    result = derivative_unchecked(e, k, g, plan, plain, into)
    if result:
        store_i64(operands + 40, result)
        if verify(words, operands, count, operands + 40, 1) == 0:
            if into == 0:
                drop(result)
            return 0
    return result


@native("iiiiiii")
def derivative_unchecked(e, k, g, plan, plain, into):
    st = the_state()
    entry = entry_row(st.entries, e)
    row = op_row(st.ops, entry.op)
    first = entry.operand
    inputs = entry.inputs
    kernel = kernel_of(entry.op, 1 + k, slot_row(st.slots, g).dtype)
    if kernel == 0:
        return 0
    out = slot_row(st.slots, operand_row(st.operands, first + inputs).slot)
    result = into
    if into == 0:
        result = cotangent_slot(out.geometry, out.dtype)
        if result == 0:
            st.error = OUT_OF_MEMORY
            return 0
    reads = op_get(row, "reads", k)
    n = geometry_row(st.geometries, slot_row(st.slots, result).geometry).numel
    target = slot_row(st.slots, result).data
    cotangent = slot_row(st.slots, g)
    if plain and into == 0:
        words = six_words()
        store_i64(words, target)
        store_i64(words + 8, cotangent.data)
        for j in range(inputs + 1):
            if (reads >> j) & 1:
                position = 5 if j == inputs else 2 + j
                store_i64(words + position * 8, slot_row(st.slots, operand_row(st.operands, first + j).slot).data)
        defer(kernel, words, 6, n, row.cost)
        return result
    size = load_i64(st.itemsize + cotangent.dtype * 8)
    add = kernel_of(st.add, 0, cotangent.dtype) if into else 0
    out_geometry = slot_row(st.slots, result).geometry
    reach = 0
    if slot_row(st.slots, g).geometry != out_geometry:
        reach = find_broadcast(out_geometry, slot_row(st.slots, g).geometry, 0)
        if reach == 0:
            if into == 0:
                drop(result)
            return 0
    cotangent = slot_row(st.slots, g)
    words = many_words()
    store_i64(words, kernel)
    store_i64(words + 8, 6)
    for j in range(6):
        set_operand(words, j, 0, DIRECT, 0, 0)
    if into:
        set_operand(words, 0, target, ADDED, add, size)
    else:
        set_operand(words, 0, target, DIRECT, 0, size)
    if reach == 0:
        set_operand(words, 1, cotangent.data, DIRECT, 0, size)
    else:
        cast = broadcast_row(reach, 0)
        if broadcast_get(cast, "mode", 1) == STRIDED:
            flush()  # noted calls may write what is read here in another order
        set_operand(words, 1, cotangent.data, broadcast_get(cast, "mode", 1), broadcast_get(cast, "walk", 1), size)
    cast = broadcast_row(plan, 0)
    for j in range(inputs):
        if (reads >> j) & 1:
            mode = DIRECT
            walk = 0
            if plan:
                mode = broadcast_get(cast, "mode", j)
                walk = broadcast_get(cast, "walk", j)
            operand = slot_row(st.slots, operand_row(st.operands, first + j).slot)
            set_operand(words, 2 + j, operand.data, mode, walk, load_i64(st.itemsize + operand.dtype * 8))
    if (reads >> inputs) & 1:
        set_operand(words, 5, slot_row(st.slots, operand_row(st.operands, first + inputs).slot).data, DIRECT, 0, size)
    defer(address_of_run_blocks(), words, 26, n, row.cost)
    return result


@native("ii")
def sweep_elementwise(e):
    """Send the cotangent of entry `e` to its inputs.  DONE, NEEDS_PYTHON or a failure."""
    status = sweep_entry(e)
    defer_over(0)
    return status


@native("ii")
def sweep_entry(e):
    st = the_state()
    status = check_saved(e)
    if status != DONE:
        return status
    entry = entry_row(st.entries, e)
    op = entry.op
    first = entry.operand
    inputs = entry.inputs
    out = slot_row(st.slots, operand_row(st.operands, first + inputs).slot)
    g = out.cotangent
    geometry = out.geometry
    dtype = out.dtype
    if dtype > FLOAT64:
        # Operands of another dtype (numbers beside half precision) are Python's business.
        for k in range(op_row(st.ops, op).mask, inputs):
            if (slot_row(st.slots, operand_row(st.operands, first + k).slot).dtype & PLAIN) != dtype:
                return NEEDS_PYTHON
    # The geometries of the inputs, and whether all are laid out alike.
    plain = (geometry_row(st.geometries, geometry).flags & CONTIGUOUS) != 0
    alike = plain
    shapes = six_words()
    store_i64(shapes + 8, 0)
    store_i64(shapes + 16, 0)
    for k in range(inputs):
        shape = slot_row(st.slots, operand_row(st.operands, first + k).slot).geometry
        store_i64(shapes + k * 8, shape)
        alike = alike and shape == geometry
    plan = 0
    if not alike:
        plan = find_broadcast(load_i64(shapes), load_i64(shapes + 8), load_i64(shapes + 16))
        if plan == 0:
            return PYTHON_ERROR
        if broadcast_row(plan, 0).output != geometry:
            return NEEDS_PYTHON
    n = geometry_row(st.geometries, geometry).numel
    defer_over(n if n >= LEAST and plain and st.check == 0 else 0)
    # Nothing may be accumulated before it is sure that no input needs Python, which would do them all.
    for k in range(inputs):
        slot = slot_row(st.slots, operand_row(st.operands, first + k).slot)
        if plan != 0 and wants_cotangent(st, slot):
            shape = geometry_row(st.geometries, slot.geometry)
            reduced = shape.numel != n
            if reduced and dtype > FLOAT64:
                return NEEDS_PYTHON
            if reduced or n == 0 or shape.ndim != geometry_row(st.geometries, geometry).ndim:
                if shape.contiguous == 0 or not plain or (reduced and (shape.flags & CONTIGUOUS) == 0):
                    return NEEDS_PYTHON
    for k in range(inputs):
        s = operand_row(st.operands, first + k).slot
        slot = slot_row(st.slots, s)
        if not wants_cotangent(st, slot):
            continue
        rule = op_get(op_row(st.ops, op), "rule", k)
        shape = geometry_row(st.geometries, slot.geometry)
        reduced = shape.numel != n
        moved = plan != 0 and (reduced or n == 0 or shape.ndim != geometry_row(st.geometries, geometry).ndim)
        if rule == DERIVATIVE_KERNEL:
            held = slot.cotangent
            into = 0
            if held != 0 and moved == 0 and plain:
                # A second use of a tensor: add block by block rather than in a pass of its own.
                if slot_row(st.slots, held).geometry == geometry and exclusive(st, slot_row(st.slots, held)):
                    into = held
            cotangent = derivative(e, k, g, plan, alike and slot_row(st.slots, g).geometry == geometry, into)
            if into != 0 and cotangent != 0:
                continue
        elif rule == DERIVATIVE_SAME:
            if moved:
                flush()
                cotangent = ordered(g, geometry)
            else:
                cotangent = g
                slot_row(st.slots, g).handles = slot_row(st.slots, g).handles + 1
        else:
            cotangent = new_slot(geometry, dtype)
            if cotangent:
                slot_row(st.slots, cotangent).handles = 1
                zero_bytes(slot_row(st.slots, cotangent).data, n * load_i64(st.itemsize + dtype * 8))
        if cotangent == 0:
            return PYTHON_ERROR
        if moved:
            if reduced:
                walk = 0
                flush()
                if broadcast_get(broadcast_row(plan, 0), "mode", k) == STRIDED:
                    walk = broadcast_get(broadcast_row(plan, 0), "walk", k)
                cotangent = unbroadcast(cotangent, s, walk)
                if cotangent == 0:
                    return OUT_OF_MEMORY
            else:
                view = view_slot(cotangent, geometry_row(st.geometries, slot_row(st.slots, s).geometry).contiguous, 0)
                slot_row(st.slots, view).handles = 1
                drop(cotangent)
                cotangent = view
        status = accumulate(s, cotangent)
        if status != DONE:
            return status
    return DONE


@native("vi")
def drop_cotangents(e):
    """Let go of the cotangents of entry `e`'s outputs, but for captured ones."""
    st = the_state()
    entry = entry_row(st.entries, e)
    for k in range(entry.nout):
        s = operand_row(st.operands, entry.operand + entry.inputs + k).slot
        if s:
            slot = slot_row(st.slots, s)
            if slot.cotangent and (slot.flags & CAPTURED) == 0:
                g = slot.cotangent
                slot.cotangent = 0
                retire(g)


@native("vi")
def finish_entry(e):
    """Entry `e` has been swept: let go of its outputs' cotangents and, unless the graph is retained, of what it saved."""
    drop_cotangents(e)
    if the_state().sweep_retain == 0:
        spend(e)


@native("ii")
def sees_nothing(e):
    """Whether Python must know that entry `e` gets no gradient: hooks and custom Functions are called all the same."""
    st = the_state()
    entry = entry_row(st.entries, e)
    if entry.payload != 0 and (entry.plan == 0 or Plan(entry.plan).payload != entry.payload):
        return 1
    for k in range(entry.inputs):
        slot = slot_row(st.slots, operand_row(st.operands, entry.operand + k).slot)
        if slot.flags & (LEAF_GRAD | HOOKED) == LEAF_GRAD | HOOKED:
            return 1
    return 0


@native("i")
def sweep():
    """Go on down the tape from `state.sweep_entry`: DONE, a barrier, or a failure."""
    status = sweep_marked()
    defer_over(0)
    return status


@native("i")
def sweep_marked():
    st = the_state()
    while True:
        e = last_mark(st.sweep_entry)
        if e < 0:
            return DONE
        st.sweep_entry = e
        clear_mark(e)
        entry = entry_row(st.entries, e)
        seeded = False
        hooked = False
        for k in range(entry.nout):
            s = operand_row(st.operands, entry.operand + entry.inputs + k).slot
            if s:
                slot = slot_row(st.slots, s)
                seeded = seeded or slot.cotangent != 0
                hooked = hooked or (slot.flags & HOOKED) != 0
        if seeded:
            if hooked:
                return e + 1
            if entry.plan:
                defer_over(0)
                status = sweep_planned(e)
            elif entry.payload or op_row(st.ops, entry.op).family != ELEMENTWISE:
                return e + 1
            else:
                status = sweep_entry(e)
            if status == NEEDS_PYTHON:
                return e + 1
            if status != DONE:
                return status
        elif hooked or sees_nothing(e):
            return e + 1
        finish_entry(e)


@native("v")
def end_sweep():
    """Whatever happened: no marks, no cotangents, and the tape may move again."""
    st = the_state()
    e = st.sweep_entry
    while e >= 0:
        if e < st.entry_count:
            clear_mark(e)
            drop_cotangents(e)
        e = last_mark(e)
    while st.leaves_count > 0:
        st.leaves_count = st.leaves_count - 1
        s = load_i64(st.leaves + st.leaves_count * 8)
        g = slot_row(st.slots, s).cotangent
        if g:
            slot_row(st.slots, s).cotangent = 0
            drop(g)
    st.sweeping = st.sweeping - 1
    if st.sweeping == 0:
        rewind_tape()


@native("vii")
def capture(slots, count):
    """Keep the cotangents of the slots in an array for the caller."""
    st = the_state()
    for k in range(count):
        slot = slot_row(st.slots, load_i64(slots + k * 8))
        slot.flags = slot.flags | CAPTURED


@native("vii")
def release_captured(slots, count):
    """The opposite of `capture`; drops the cotangents that are left."""
    st = the_state()
    for k in range(count):
        s = load_i64(slots + k * 8)
        slot = slot_row(st.slots, s)
        slot.flags = slot.flags & ~CAPTURED
        g = slot.cotangent
        if g:
            slot.cotangent = 0
            drop(g)


@native("viii")
def close_sweep(before, captured, count):
    """What ends a sweep that Python has driven: `end_sweep`, and the grad modes of the word `before`."""
    release_captured(captured, count)
    exchange_modes(GRAD_MODES, before & GRAD_MODES)
    end_sweep()


@native("iii")
def wants(e, k):
    """Whether the sweep under way needs the cotangent of input `k` of entry `e`."""
    st = the_state()
    s = operand_row(st.operands, entry_row(st.entries, e).operand + k).slot
    return wants_cotangent(st, slot_row(st.slots, s)) if s else 0


@native("v")
def abandon_sweep():
    """End the sweeps of a thread that is gone: this process has been forked from one where it ran.  Noted passes are not made."""
    st = the_state()
    for k in range(st.retired_count):
        drop(load_i64(st.deferred + RETIRED + k * 8))
    st.deferred_n = 0
    st.deferred_count = 0
    st.deferred_cost = 0
    st.retired_count = 0
    st.spent_count = 0
    st.sweeping = 1
    end_sweep()
