"""Cotangents: a slot like any other, of any strides, shared until it must be written.

`accumulate` adds one to what a slot has so far, `unbroadcast` sums it over what broadcasting repeated, `deposit` makes it `.grad`.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import CAPTURED, CONTIGUOUS, DIRECT, FLOAT32, FLOAT64, HOOKED, LEAF_GRAD, REQUIRES_GRAD, SCALAR, STRIDED
from tapegrad.engine.native.capi import raw_realloc
from tapegrad.engine.native.deferred import cotangent_slot, defer, flush, retire
from tapegrad.engine.native.elementwise import (
    FAILED,
    address_of_run_blocks,
    assign,
    compute,
    drop_unheld,
    fill_elements,
    find_broadcast,
    kernel_of,
    run_kernel,
    set_operand,
    transfer,
)
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    broadcast_get,
    broadcast_row,
    buffer_row,
    copy_bytes,
    geometry_row,
    least,
    load_f32,
    load_f64,
    load_i64,
    slot_row,
    stack_words,
    store_f32,
    store_f64,
    store_i64,
    the_state,
    zero_bytes,
)
from tapegrad.engine.native.tables import drop, new_slot

# results of `sweep`: 0 is done, a positive number is a barrier at that entry + 1, a negative one is a failure
DONE = 0
PYTHON_ERROR = -1
OUT_OF_MEMORY = -2
GRAPH_FREED = -3  # state.error_a: entry
WRONG_VERSION = -4  # state.error_a: entry, error_b: operand
NEEDS_PYTHON = -5

many_words = stack_words(32)
six_words = stack_words(8)


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
def refused(g, status):
    """Let go of cotangent `g`, which could not be added; the status."""
    drop(g)
    return status


@native("iii")
def accumulate(s, g):
    """Add slot `g` to the cotangent of slot `s`; takes over the caller's handle on g, whatever comes of it.  DONE or a failure."""
    st = the_state()
    slot = slot_row(st.slots, s)
    old = slot.cotangent
    if old == 0:
        slot.cotangent = g
        if slot.flags & (LEAF_GRAD | CAPTURED):
            if st.leaves_count >= st.leaves_room:
                table = raw_realloc(st.leaves, st.leaves_room * 16)
                if table == 0:
                    slot.cotangent = 0
                    drop(g)
                    return OUT_OF_MEMORY
                st.leaves = table
                st.leaves_room = st.leaves_room * 2
            store_i64(st.leaves + st.leaves_count * 8, s)
            st.leaves_count = st.leaves_count + 1
        return DONE
    mine = slot_row(st.slots, old)
    yours = slot_row(st.slots, g)
    shape = geometry_row(st.geometries, mine.geometry)
    if st.deferred_n != 0:
        if mine.dtype == yours.dtype and shape.numel == st.deferred_n:
            status = defer_sum(s, old, g)
            if status == DONE:
                return DONE
            if status != NEEDS_PYTHON:
                return refused(g, status)
            mine = slot_row(st.slots, old)
            yours = slot_row(st.slots, g)
            shape = geometry_row(st.geometries, mine.geometry)
        flush()
    if shape.flags & CONTIGUOUS and exclusive(st, mine):
        if add_into(old, g) == 0:
            return refused(g, PYTHON_ERROR)
        drop(g)
        return DONE
    if mine.geometry == yours.geometry and shape.flags & CONTIGUOUS and exclusive(st, yours):
        if add_into(g, old) == 0:
            return refused(g, PYTHON_ERROR)
        slot_row(st.slots, s).cotangent = g
        drop(old)
        return DONE
    plan = 0
    dtype = mine.dtype
    if mine.geometry != yours.geometry or shape.flags & CONTIGUOUS == 0:
        plan = find_broadcast(mine.geometry, yours.geometry, 0)  # may run Python, and with it other threads: rows are read again
        if plan == 0:
            return refused(g, PYTHON_ERROR)
    total = compute(st.add, dtype, plan, old, g, 0)
    if total < 0:
        return refused(g, PYTHON_ERROR if total == FAILED else OUT_OF_MEMORY)
    slot_row(st.slots, total).handles = 1
    slot_row(st.slots, s).cotangent = total
    drop(old)
    drop(g)
    return DONE


@native("iiii")
def defer_sum(s, old, g):
    """`accumulate` as a deferred pass; NEEDS_PYTHON if the two are not both in order or one repeated element.

    The sum goes where nobody else looks, or to a slot of its own.
    """
    st = the_state()
    dtype = slot_row(st.slots, old).dtype
    geometry = slot_row(st.slots, old).geometry
    kernel = kernel_of(st.add, 0, dtype)
    if kernel == 0:
        return PYTHON_ERROR
    plan = 0
    if slot_row(st.slots, g).geometry != geometry or geometry_row(st.geometries, geometry).flags & CONTIGUOUS == 0:
        plan = find_broadcast(geometry, slot_row(st.slots, g).geometry, 0)
        if plan == 0:
            return PYTHON_ERROR
        cast = broadcast_row(plan, 0)
        geometry = cast.output
        strided = broadcast_get(cast, "mode", 0) == STRIDED or broadcast_get(cast, "mode", 1) == STRIDED
        if strided or cast.n != st.deferred_n or geometry_row(st.geometries, geometry).flags & CONTIGUOUS == 0:
            return NEEDS_PYTHON
    total = old
    if slot_row(st.slots, total).geometry != geometry or not exclusive(st, slot_row(st.slots, total)):
        total = g
        if slot_row(st.slots, total).geometry != geometry or not exclusive(st, slot_row(st.slots, total)):
            total = cotangent_slot(geometry, dtype)
            if total == 0:
                return OUT_OF_MEMORY
    target = slot_row(st.slots, total).data
    first = slot_row(st.slots, old).data
    second = slot_row(st.slots, g).data
    if plan == 0:
        words = six_words()
        store_i64(words, target)
        store_i64(words + 8, first)
        store_i64(words + 16, second)
        defer(kernel, words, 3, st.deferred_n, 8)
    else:
        cast = broadcast_row(plan, 0)
        size = load_i64(st.itemsize + dtype * 8)
        words = many_words()
        store_i64(words, kernel)
        store_i64(words + 8, 3)
        set_operand(words, 0, target, DIRECT, 0, size)
        set_operand(words, 1, first, broadcast_get(cast, "mode", 0), 0, size)
        set_operand(words, 2, second, broadcast_get(cast, "mode", 1), 0, size)
        defer(address_of_run_blocks(), words, 14, st.deferred_n, 8)
    slot_row(st.slots, s).cotangent = total
    if total != old:
        retire(old)
    if total != g:
        retire(g)
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
    if wide == 0:
        if result:
            drop_unheld(result)
        return refused(g, 0)
    if result == 0:
        drop_unheld(wide)
        return refused(g, 0)
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


@native("ii")
def deposit_into(s):
    """Move the cotangent of leaf slot `s` to its .grad; 0 if Python must do it."""
    st = the_state()
    slot = slot_row(st.slots, s)
    g = slot.cotangent
    fresh = slot_row(st.slots, g)
    shape = geometry_row(st.geometries, slot.geometry)
    if slot.flags & (HOOKED | CAPTURED) or fresh.dtype != slot.dtype or geometry_row(st.geometries, fresh.geometry).contiguous != shape.contiguous:
        return 0
    if shape.flags & layout.DENSE == 0:
        return 0
    held = slot.grad
    if held == 0:
        if fresh.geometry == slot.geometry and exclusive(st, fresh):
            slot.grad = g
            return 1
        copy = new_slot(slot.geometry, slot.dtype)
        if copy == 0:
            return 0
        slot_row(st.slots, copy).handles = 1
        if assign(copy, g) <= 0:
            drop(copy)
            return 0
        slot_row(st.slots, s).grad = copy
        drop(g)
        return 1
    old = slot_row(st.slots, held)
    if old.geometry != slot.geometry or old.dtype != slot.dtype or old.flags & REQUIRES_GRAD:
        return 0
    if fresh.geometry == old.geometry:
        kernel = kernel_of(st.add, 0, old.dtype)
        if kernel == 0:
            return 0
        old = slot_row(st.slots, held)
        words = six_words()
        store_i64(words, old.data)
        store_i64(words + 8, old.data)
        store_i64(words + 16, slot_row(st.slots, g).data)
        run_kernel(kernel, words, shape.numel, 8, 0)
    elif add_into(held, g) == 0:
        return 0
    buffer = buffer_row(st.buffers, slot_row(st.slots, held).buffer)
    buffer.version = buffer.version + 1
    drop(g)
    return 1


@native("i")
def deposit():
    """Move the cotangents of leaves to their .grad; returns how many leaves are left for Python (moved to the front)."""
    st = the_state()
    left = 0
    for i in range(st.leaves_count):
        s = load_i64(st.leaves + i * 8)
        if slot_row(st.slots, s).cotangent == 0:  # a nested sweep has deposited it
            continue
        if deposit_into(s):
            slot_row(st.slots, s).cotangent = 0
        else:
            store_i64(st.leaves + left * 8, s)
            left = left + 1
    st.leaves_count = left
    return left
