"""Deferred passes: consecutive elementwise steps of a sweep over large tensors run together, tile by tile.

Each derivative of a large tensor is a pass over memory, and memory is slower than arithmetic.  So while the sweep meets elementwise
entries over the same number of elements it only notes their kernel calls; `flush` then runs all calls on one tile, that stays in the
cache, before it goes to the next, and splits the tiles among the threads.  Every noted call reads and writes element i of its operands
(or values that no noted call writes), so the order of tiles does not matter.  Until `flush`, nothing that a call reads may be freed:
cotangents that are let go of are retired (and used again for new ones), and saved values of swept entries are given up afterwards.
"""

from tapegrad.engine.native.elementwise import run_kernel
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import buffer_row, copy_bytes, load_i64, slot_row, store_i64, the_state
from tapegrad.engine.native.tables import drop, free_saved, new_slot
from tapegrad.engine.native.tiles import (
    CALL_SIZE,
    CALLS,
    COUNT,
    PLACE_COUNT,
    RETIRED,
    RETIRED_ROOM,
    SCRATCH_COUNT,
    SPENT,
    SPENT_ROOM,
    WORDS,
    address_of_run_deferred,
    keep_in_scratch,
)

LEAST = 1 << 14  # elements from which passes are deferred


@native("viiiii")
def defer(kernel, words, count, n, cost):
    """Note a call of `kernel` with `count` argument words over 0 .. n, or make it at once if passes are not being deferred."""
    st = the_state()
    if st.deferred_n == 0 or st.deferred_n != n:
        run_kernel(kernel, words, n, cost, 0)
        return
    if st.deferred_count >= CALLS:
        flush()
    call = st.deferred + st.deferred_count * CALL_SIZE
    store_i64(call, kernel)
    store_i64(call + WORDS, count)
    copy_bytes(call + 8, words, count * 8)
    st.deferred_count = st.deferred_count + 1
    st.deferred_cost = st.deferred_cost + cost


@native("v")
def flush():
    """Make the noted calls and let go of what was kept for them."""
    st = the_state()
    if st.deferred_count == 0:
        return
    block = st.deferred
    store_i64(block + COUNT, st.deferred_count)
    store_i64(block + PLACE_COUNT, 0)
    store_i64(block + SCRATCH_COUNT, 0)
    for k in range(st.retired_count):
        slot = slot_row(st.slots, load_i64(block + RETIRED + k * 8))
        if unseen(st, slot):
            keep_in_scratch(block, slot.data, load_i64(st.itemsize + slot.dtype * 8))
    run_kernel(address_of_run_deferred(), block, st.deferred_n, st.deferred_cost, 0)
    st.deferred_count = 0
    st.deferred_cost = 0
    for k in range(st.retired_count):
        drop(load_i64(block + RETIRED + k * 8))
    st.retired_count = 0
    for k in range(st.spent_count):
        free_saved(load_i64(block + SPENT + k * 8))
    st.spent_count = 0


@native("vi")
def defer_over(n):
    """From here on defer passes over n elements; 0: no more."""
    st = the_state()
    if st.deferred_n != n:
        flush()
        st.deferred_n = n


@native("vi")
def retire(s):
    """Drop the handle on cotangent `s`, once no noted call can read it."""
    st = the_state()
    if st.deferred_count == 0:
        drop(s)
        return
    if st.retired_count >= RETIRED_ROOM:
        flush()
        drop(s)
        return
    store_i64(st.deferred + RETIRED + st.retired_count * 8, s)
    st.retired_count = st.retired_count + 1


@native("vi")
def spend(e):
    """Free what entry `e` saved, once no noted call can read it."""
    st = the_state()
    if st.deferred_count != 0 and st.spent_count >= SPENT_ROOM:
        flush()
    if st.deferred_count == 0:
        free_saved(e)
        return
    store_i64(st.deferred + SPENT + st.spent_count * 8, e)
    st.spent_count = st.spent_count + 1


@native("iSL")
def unseen(st, slot):
    """Whether nobody but the list of retired slots holds this one or its memory, all of which it takes up."""
    if slot.handles != 1 or slot.saves != 0 or slot.edges != 0 or slot.entry >= 0:
        return False
    buffer = buffer_row(st.buffers, slot.buffer)
    return buffer.references == 1 and buffer.memory == slot.data and buffer.size_class >= 0


@native("iii")
def cotangent_slot(geometry, dtype):
    """A slot with one handle for a cotangent that a noted call writes: a retired one of the same kind or a new one; 0 without memory."""
    st = the_state()
    k = st.retired_count - 1
    while k >= 0:
        s = load_i64(st.deferred + RETIRED + k * 8)
        slot = slot_row(st.slots, s)
        if slot.geometry == geometry and slot.dtype == dtype and unseen(st, slot):
            st.retired_count = st.retired_count - 1
            store_i64(st.deferred + RETIRED + k * 8, load_i64(st.deferred + RETIRED + st.retired_count * 8))
            return s
        k = k - 1
    s = new_slot(geometry, dtype)
    if s:
        slot_row(st.slots, s).handles = 1
    return s
