"""The reverse sweep: mark what the roots reach, then go down the tape.

Marks are a two-level bitmap over tape positions, so a small graph at the end of a long tape costs what it is, not what the tape
is.  `sweep` handles elementwise entries here; at any other entry (a structural op, a hook, a custom Function) it returns the
position to Python, which adds the cotangents of that entry's inputs with `accumulate` and calls `sweep` again.
A cotangent is a slot like any other, of any strides, shared until it must be written.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import (
    ADDED,
    CAPTURED,
    CONTIGUOUS,
    DERIVATIVE_KERNEL,
    DERIVATIVE_SAME,
    DIRECT,
    ELEMENTWISE,
    FREED,
    HAS_SAVED,
    HOOKED,
    LEAF_GRAD,
    REQUIRES_GRAD,
    SCALAR,
    STRIDED,
)
from tapegrad.engine.native.capi import raw_realloc
from tapegrad.engine.native.elementwise import (
    address_of_run_blocks,
    compute,
    fill_elements,
    find_broadcast,
    kernel_of,
    run_kernel,
    set_operand,
    transfer,
)
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    broadcast_get,
    broadcast_row,
    buffer_row,
    copy_bytes,
    entry_row,
    external,
    geometry_row,
    leading_zeros,
    least,
    load_f32,
    load_f64,
    load_i64,
    op_get,
    op_row,
    operand_row,
    slot_row,
    stack_words,
    store_f32,
    store_f64,
    store_i64,
    the_state,
    trailing_zeros,
    zero_bytes,
)
from tapegrad.engine.native.tables import drop, free_saved, is_saved, new_slot, pop_work, push_work, rewind_tape, view_slot
from tapegrad.engine.native.threadmodes import thread_id

FLOAT32, FLOAT64 = 0, 1  # dtype codes

# results of `sweep`: 0 is done, a positive number is a barrier at that entry + 1, a negative one is a failure
DONE = 0
PYTHON_ERROR = -1
OUT_OF_MEMORY = -2
GRAPH_FREED = -3  # state.error_a: entry
WRONG_VERSION = -4  # state.error_a: entry, error_b: operand
NEEDS_PYTHON = -5

sweep_planned = external("tg_sweep_planned", I64, I64)  # native/backward.py, which builds on this file
many_words = stack_words(32)
six_words = stack_words(8)


# --- marks ----------------------------------------------------------------------------------------------------------
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


# --- cotangents -----------------------------------------------------------------------------------------------------
@native("iSL")
def exclusive(st, slot):
    return slot.handles == 1 and buffer_row(st.buffers, slot.buffer).references == 1


@native("iii")
def add_into(region, g):
    """Add slot `g` (broadcast) to slot `region`, of any strides without overlap.  1, or 0 with an exception."""
    st = the_state()
    kernel = kernel_of(st.add, 0, slot_row(st.slots, region).dtype)
    plan = find_broadcast(slot_row(st.slots, region).geometry, slot_row(st.slots, g).geometry, 0)
    if kernel == 0 or plan == 0:
        return 0
    r = slot_row(st.slots, region)
    cast = broadcast_row(plan, 0)
    words = many_words()
    size = load_i64(st.itemsize + r.dtype * 8)
    mode = broadcast_get(cast, "mode", 0)
    walk = broadcast_get(cast, "walk", 0)
    store_i64(words, kernel)
    store_i64(words + 8, 3)
    set_operand(words, 0, r.data, mode, walk, size)
    set_operand(words, 1, r.data, mode, walk, size)
    set_operand(words, 2, slot_row(st.slots, g).data, broadcast_get(cast, "mode", 1), broadcast_get(cast, "walk", 1), size)
    if cast.n > 0:
        run_kernel(address_of_run_blocks(), words, cast.n, 6, 0)
    return 1


@native("iii")
def accumulate(s, g):
    """Add slot `g` to the cotangent of slot `s`; takes over the caller's handle on g.  DONE or a failure."""
    st = the_state()
    slot = slot_row(st.slots, s)
    old = slot.cotangent
    if old == 0:
        slot.cotangent = g
        if slot.flags & (LEAF_GRAD | CAPTURED):
            if st.leaves_count >= st.leaves_room:
                st.leaves_room = st.leaves_room * 2
                st.leaves = raw_realloc(st.leaves, st.leaves_room * 8)
            store_i64(st.leaves + st.leaves_count * 8, s)
            st.leaves_count = st.leaves_count + 1
        return DONE
    mine = slot_row(st.slots, old)
    yours = slot_row(st.slots, g)
    shape = geometry_row(st.geometries, mine.geometry)
    if shape.flags & CONTIGUOUS and exclusive(st, mine):
        if add_into(old, g) == 0:
            return PYTHON_ERROR
        drop(g)
        return DONE
    if mine.geometry == yours.geometry and shape.flags & CONTIGUOUS and exclusive(st, yours):
        if add_into(g, old) == 0:
            return PYTHON_ERROR
        slot_row(st.slots, s).cotangent = g
        drop(old)
        return DONE
    plan = 0
    dtype = mine.dtype
    if mine.geometry != yours.geometry or shape.flags & CONTIGUOUS == 0:
        plan = find_broadcast(mine.geometry, yours.geometry, 0)  # may run Python, and with it other threads: rows are read again
        if plan == 0:
            return PYTHON_ERROR
    total = compute(st.add, dtype, plan, old, g, 0)
    if total < 0:
        return PYTHON_ERROR if total == -2 else OUT_OF_MEMORY
    slot_row(st.slots, total).handles = 1
    slot_row(st.slots, s).cotangent = total
    drop(old)
    drop(g)
    return DONE


@native("iii")
def ordered(g, geometry):
    """Slot `g` laid out as `geometry` (of the same shape): itself, or a copy.  The caller gets a handle; 0 on failure."""
    st = the_state()
    slot = slot_row(st.slots, g)
    if slot.geometry == geometry:
        slot.handles = slot.handles + 1
        return g
    plan = find_broadcast(geometry, slot.geometry, 0)
    if plan == 0:
        return 0
    copy = new_slot(geometry, slot_row(st.slots, g).dtype)
    if copy == 0:
        return 0
    target = slot_row(st.slots, copy)
    target.handles = 1
    slot = slot_row(st.slots, g)
    cast = broadcast_row(plan, 0)
    size = load_i64(st.itemsize + slot.dtype * 8)
    mode = broadcast_get(cast, "mode", 1)
    if mode == SCALAR:
        fill_elements(target.data, slot.data, cast.n, size)
    elif mode == DIRECT:
        copy_bytes(target.data, slot.data, cast.n * size)
    elif cast.n > 0:
        transfer(target.data, slot.data, broadcast_get(cast, "walk", 1), 0, cast.n, size)
    return copy


@native("viii", reassociate=True)
def add_run(target, source, step_count):
    """Add `count` float64 to float64 targets `step` apart (step_count is count * 2 + step, step 0 or 1)."""
    count = step_count >> 1
    if step_count & 1:
        for k in range(count):
            store_f64(target + k * 8, load_f64(target + k * 8) + load_f64(source + k * 8))
    else:
        total = 0.0
        for k in range(count):
            total += load_f64(source + k * 8)
        store_f64(target, load_f64(target) + total)


@native("viii")
def widen(target, source, count):
    for k in range(count):
        store_f64(target + k * 8, load_f32(source + k * 4))


@native("viii")
def narrow(target, source, count):
    for k in range(count):
        store_f32(target + k * 4, load_f64(source + k * 8))


@native("iiii")
def unbroadcast(g, s, walk):
    """The sum of slot `g` (in the output's order) over what was broadcast from slot `s`; sums are kept in float64.

    `walk` says where each element of g came from in s (0: s is one element).  Takes over the handle on g; 0 on failure.
    """
    st = the_state()
    geometry = geometry_row(st.geometries, slot_row(st.slots, s).geometry).contiguous
    dtype = slot_row(st.slots, g).dtype
    result = new_slot(geometry, dtype)
    wide = new_slot(geometry, FLOAT64)
    block = new_slot(st.scalar_geometry, FLOAT64)
    if result == 0 or wide == 0 or block == 0:
        return 0
    n = geometry_row(st.geometries, slot_row(st.slots, g).geometry).numel
    count = geometry_row(st.geometries, geometry).numel
    target = slot_row(st.slots, wide).data
    source = slot_row(st.slots, g).data
    zero_bytes(target, count * 8)
    if walk == 0:
        add_block(target, source, n, 0, dtype)
    else:
        scatter_add(target, source, walk, n, dtype)
    if dtype == FLOAT32:
        narrow(slot_row(st.slots, result).data, target, count)
        target = wide
    else:
        target = result
        result = wide
    slot_row(st.slots, target).handles = 1
    drop(target)
    slot_row(st.slots, block).handles = 1
    drop(block)
    slot_row(st.slots, result).handles = 1
    drop(g)
    return result


wide_words = stack_words(layout.BLOCK)


@native("viiiii")
def add_block(target, source, n, step, dtype):
    """Add n elements to float64 targets `step` (0 or 1) apart."""
    if dtype == FLOAT64:
        add_run(target, source, n * 2 + step)
        return
    words = wide_words()
    done = 0
    while done < n:
        m = least(n - done, layout.BLOCK)
        widen(words, source + done * 4, m)
        add_run(target + done * 8 * step, words, m * 2 + step)
        done = done + m


odometer_words = stack_words(64)


@native("viiiii")
def scatter_add(target, source, walk, n, dtype):
    """Add the n elements at `source` to the float64 at `target` that `walk` sends each to."""
    ndim = load_i64(walk)
    sizes = walk + 8
    strides = sizes + ndim * 8
    index = odometer_words()
    for d in range(ndim):
        store_i64(index + d * 8, 0)
    inner = load_i64(sizes + (ndim - 1) * 8)
    step = load_i64(strides + (ndim - 1) * 8)
    size = 4 if dtype == FLOAT32 else 8
    position = 0
    done = 0
    while done < n:
        if step <= 1:
            add_block(target + position * 8, source + done * size, inner, step, dtype)
        else:
            for k in range(inner):
                add_block(target + (position + k * step) * 8, source + (done + k) * size, 1, 0, dtype)
        done = done + inner
        d = ndim - 2
        while d >= 0:
            k = load_i64(index + d * 8) + 1
            stride = load_i64(strides + d * 8)
            if k < load_i64(sizes + d * 8):
                store_i64(index + d * 8, k)
                position = position + stride
                break
            position = position - (k - 1) * stride
            store_i64(index + d * 8, 0)
            d = d - 1


# --- one elementwise entry ------------------------------------------------------------------------------------------
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
        result = new_slot(out.geometry, out.dtype)
        if result == 0:
            st.error = OUT_OF_MEMORY
            return 0
        slot_row(st.slots, result).handles = 1
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
        run_kernel(kernel, words, n, row.cost, 0)
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
    run_kernel(address_of_run_blocks(), words, n, row.cost, 0)
    return result


@native("ii")
def sweep_elementwise(e):
    """Send the cotangent of entry `e` to its inputs.  DONE, NEEDS_PYTHON or a failure."""
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
    # Nothing may be accumulated before it is sure that no input needs Python, which would do them all.
    for k in range(inputs):
        slot = slot_row(st.slots, operand_row(st.operands, first + k).slot)
        if plan != 0 and wants_cotangent(st, slot):
            shape = geometry_row(st.geometries, slot.geometry)
            reduced = shape.numel != n
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
                drop(g)


@native("vi")
def finish_entry(e):
    """Entry `e` has been swept: let go of its outputs' cotangents and, unless the graph is retained, of what it saved."""
    drop_cotangents(e)
    if the_state().sweep_retain == 0:
        free_saved(e)


@native("i")
def sweep():
    """Go on down the tape from `state.sweep_entry`: DONE, a barrier, or a failure."""
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
                status = sweep_planned(e)
            elif entry.payload or op_row(st.ops, entry.op).family != ELEMENTWISE:
                return e + 1
            else:
                status = sweep_elementwise(e)
            if status == NEEDS_PYTHON:
                return e + 1
            if status != DONE:
                return status
        finish_entry(e)


@native("i")
def deposit():
    """Move the cotangents of leaves to their .grad; returns how many leaves are left for Python (moved to the front)."""
    st = the_state()
    left = 0
    for i in range(st.leaves_count):
        s = load_i64(st.leaves + i * 8)
        slot = slot_row(st.slots, s)
        g = slot.cotangent
        if g == 0:  # a nested sweep has deposited it
            continue
        fresh = slot_row(st.slots, g)
        done = False
        if slot.flags & (HOOKED | CAPTURED) == 0 and fresh.dtype == slot.dtype and fresh.geometry == slot.geometry:
            if slot.grad == 0:
                if exclusive(st, fresh) and (geometry_row(st.geometries, slot.geometry).flags & layout.DENSE) != 0:
                    slot.grad = g
                    done = True
            else:
                held = slot_row(st.slots, slot.grad)
                plain = (geometry_row(st.geometries, held.geometry).flags & layout.DENSE) != 0
                if plain and held.geometry == slot.geometry and held.dtype == slot.dtype and held.flags & REQUIRES_GRAD == 0:
                    kernel = kernel_of(st.add, 0, held.dtype)
                    if kernel:
                        words = six_words()
                        store_i64(words, held.data)
                        store_i64(words + 8, held.data)
                        store_i64(words + 16, fresh.data)
                        run_kernel(kernel, words, geometry_row(st.geometries, held.geometry).numel, 8, 0)
                        buffer = buffer_row(st.buffers, held.buffer)
                        buffer.version = buffer.version + 1
                        drop(g)
                        done = True
        if done:
            slot_row(st.slots, s).cotangent = 0
        else:
            store_i64(st.leaves + left * 8, s)
            left = left + 1
    st.leaves_count = left
    return left


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


@native("iii")
def wants(e, k):
    """Whether the sweep under way needs the cotangent of input `k` of entry `e`."""
    st = the_state()
    s = operand_row(st.operands, entry_row(st.entries, e).operand + k).slot
    return wants_cotangent(st, slot_row(st.slots, s)) if s else 0


@native("i")
def claim_sweep():
    """Begin a sweep in this thread: the depth of nesting, or 0 while another thread's sweep is under way."""
    st = the_state()
    if st.sweeping != 0 and st.sweep_owner != thread_id():
        return 0
    st.sweeping = st.sweeping + 1
    st.sweep_owner = thread_id()
    return st.sweeping
