"""Buffers: the allocator.

Sizes up to 4 KiB fall into power-of-two classes, carved from slabs; larger ones into four classes per power of two, taken from
the system and kept in free lists up to `state.cached_limit` bytes in all.  Every address is 64-byte aligned.  A buffer's
references are slots; foreign memory (`owner`) is released by dropping our reference to its Python owner.
"""

import sys

from tapegrad.engine import layout
from tapegrad.engine.native.capi import py_decref, raw_free, raw_malloc, raw_realloc
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    buffer_row,
    external,
    leading_zeros,
    load_i64,
    load_u8,
    store_i64,
    store_u8,
    the_state,
    zero_bytes,
)

BUFFER_SIZE = layout.BUFFER.size
SMALL_CLASSES = 7
SLAB = 1 << 18
HUGE_PAGE, HUGE = 1 << 21, 1 << 22  # bytes of a page, and from which buffers begin at one
MADV_HUGEPAGE = 14 if sys.platform == "linux" else 0  # what madvise calls it there
madvise = external("madvise", I64, I64, I64, I64)
POISON, GUARD = 0xFF, 0xA5


@native("ii")
def aligned_malloc(nbytes):
    """`nbytes` at a 64-byte boundary; the address that the system gave lies just before it.  What is cached goes back before this fails."""
    raw = raw_malloc(nbytes + 64)
    if raw == 0:
        trim_cache()
        raw = raw_malloc(nbytes + 64)
        if raw == 0:
            return 0
    address = (raw + 64) & ~63
    store_i64(address - 8, raw)
    return address


@native("iii")
def size_class(nbytes, want_size):
    """The class of a size, or with want_size the bytes that the class holds."""
    if nbytes <= 4096:
        if nbytes <= 64:
            return 64 if want_size else 0
        exponent = 64 - leading_zeros(nbytes - 1)
        return 1 << exponent if want_size else exponent - 6
    exponent = 63 - leading_zeros(nbytes - 1)
    quarter = 1 << (exponent - 2)
    k = (nbytes + quarter - 1) // quarter
    return k * quarter if want_size else SMALL_CLASSES + (exponent - 12) * 4 + (k - 5)


@native("ii")
def grow_buffers(unused):
    """Double the buffer table; 0 if the system has no memory."""
    st = the_state()
    room = st.buffer_room * 2
    table = raw_realloc(st.buffers, room * BUFFER_SIZE)
    if table == 0:
        return 0
    zero_bytes(table + st.buffer_room * BUFFER_SIZE, st.buffer_room * BUFFER_SIZE)
    st.buffers = table
    st.buffer_room = room
    return 1


@native("i")
def buffer_index():
    """A free row of the buffer table, 0 if there is no memory."""
    st = the_state()
    b = st.buffer_free
    if b:
        st.buffer_free = buffer_row(st.buffers, b).nbytes
        return b
    if st.buffer_count >= st.buffer_room:
        if grow_buffers(0) == 0:
            return 0
    b = st.buffer_count
    st.buffer_count = b + 1
    return b


@native("ii")
def fresh_memory(nbytes):
    """Memory of the class of `nbytes` from slab or system."""
    st = the_state()
    size = size_class(nbytes, 1)
    if size <= 4096:
        if st.slab_left < size:
            slab = aligned_malloc(SLAB)
            if slab == 0:
                return 0
            st.slab = slab
            st.slab_left = SLAB
        address = st.slab
        st.slab = address + size
        st.slab_left = st.slab_left - size
        return address
    return aligned_malloc(size) if size < HUGE or MADV_HUGEPAGE == 0 else in_huge_pages(size)


@native("ii")
def in_huge_pages(size):
    """Memory that begins at a huge page, for which the system is asked: fewer faults and fewer misses of the table of pages."""
    raw = aligned_malloc(size + HUGE_PAGE)
    if raw == 0:
        return 0
    address = (raw + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1)
    store_i64(address - 8, load_i64(raw - 8))
    madvise(address, size & ~(HUGE_PAGE - 1), MADV_HUGEPAGE)
    return address


@native("ii")
def new_buffer(nbytes):
    """A buffer of at least `nbytes`, with one reference; 0 if there is no memory (then `state.error_a` is the size)."""
    st = the_state()
    if nbytes > st.bytes_limit - st.bytes_live:
        st.error_a = nbytes
        return 0
    b = buffer_index()
    guard = st.check
    k = size_class(nbytes + guard, 0)
    head = st.free_lists + k * 8
    address = load_i64(head)
    if address:
        store_i64(head, load_i64(address))
        if k >= SMALL_CLASSES:
            st.cached_bytes = st.cached_bytes - size_class(nbytes + guard, 1)
    else:
        address = fresh_memory(nbytes + guard)
    if b == 0 or address == 0:
        st.error_a = nbytes
        if b:
            buffer_row(st.buffers, b).nbytes = st.buffer_free
            st.buffer_free = b
        return 0
    row = buffer_row(st.buffers, b)
    row.memory = address
    row.nbytes = nbytes
    row.owner = 0
    row.references = 1
    row.version = 0
    row.size_class = k
    row.guard = guard
    row.born = st.transforms
    row.hidden = 0
    row.lent = 0
    if guard:
        poison(address, nbytes, POISON)
        poison(address + nbytes, guard, GUARD)
    st.allocations = st.allocations + 1
    live = st.bytes_live + nbytes
    st.bytes_live = live
    if live > st.bytes_peak:
        st.bytes_peak = live
    return b


@native("viii")
def poison(address, count, byte):
    """Fill with a byte: 0xFF reads as NaN, so that the use of memory nobody has written shows."""
    for k in range(count):
        store_u8(address + k, byte)


@native("ii")
def guard_holds(b):
    """Whether what lies behind buffer `b` is as it was put there."""
    row = buffer_row(the_state().buffers, b)
    for k in range(row.guard):
        if load_u8(row.memory + row.nbytes + k) != GUARD:
            return 0
    return 1


@native("iiii")
def foreign_buffer(address, nbytes, owner):
    """A buffer over memory that the PyObject `owner` keeps alive (its reference becomes ours)."""
    st = the_state()
    b = buffer_index()
    row = buffer_row(st.buffers, b)
    row.memory = address
    row.nbytes = nbytes
    row.owner = owner
    row.references = 1
    row.version = 0
    row.size_class = -1
    row.guard = 0
    row.born = st.transforms
    row.hidden = 0
    row.lent = 0
    return b


@native("vi")
def bury(owner):
    """Note a PyObject for release at the next quiet moment: releasing it now could run Python code on half-changed tables."""
    st = the_state()
    if st.graveyard_count >= st.graveyard_room:
        table = raw_realloc(st.graveyard, st.graveyard_room * 16)
        if table == 0:
            return  # the object is never released, which harms less than anything else that could be done here
        st.graveyard = table
        st.graveyard_room = st.graveyard_room * 2
    store_i64(st.graveyard + st.graveyard_count * 8, owner)
    st.graveyard_count = st.graveyard_count + 1


@native("v")
def drain_graveyard():
    """Release what `bury` noted."""
    st = the_state()
    while st.graveyard_count > 0:
        st.graveyard_count = st.graveyard_count - 1
        py_decref(load_i64(st.graveyard + st.graveyard_count * 8))


@native("vi")
def free_buffer(b):
    """Give the memory of buffer `b` back; called when its last reference goes."""
    st = the_state()
    row = buffer_row(st.buffers, b)
    address = row.memory
    k = row.size_class
    if k < 0:
        bury(row.owner)
    else:
        st.bytes_live = st.bytes_live - row.nbytes
        if row.guard:
            poison(address, row.nbytes + row.guard, POISON)
        keep = k < SMALL_CLASSES
        if not keep:
            size = size_class(row.nbytes + row.guard, 1)
            if st.cached_bytes + size <= st.cached_limit:
                st.cached_bytes = st.cached_bytes + size
                keep = True
        if keep:
            head = st.free_lists + k * 8
            store_i64(address, load_i64(head))
            store_i64(head, address)
        else:
            raw_free(load_i64(address - 8))
    row.memory = 0
    row.references = 0
    row.nbytes = st.buffer_free
    st.buffer_free = b


@native("v")
def trim_cache():
    """Return the cached large blocks to the system."""
    st = the_state()
    for k in range(SMALL_CLASSES, 256):
        head = st.free_lists + k * 8
        address = load_i64(head)
        while address:
            following = load_i64(address)
            raw_free(load_i64(address - 8))
            address = following
        store_i64(head, 0)
    st.cached_bytes = 0


@native("vSi")
def release_buffer(st, b):
    row = buffer_row(st.buffers, b)
    row.references = row.references - 1
    if row.references == 0:
        free_buffer(b)
