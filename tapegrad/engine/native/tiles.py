"""Running noted passes tile by tile, with scratch memory for what lives no longer than a tile.

A block of noted calls is laid out here; `deferred` fills it.  A cotangent that the calls first write and that nobody will look at
afterwards need not exist in memory: `keep_in_scratch` notes where the calls name its address, and each thread then puts the address of
a tile of its own there, so that its elements never leave the core's cache.
"""

from tapegrad.engine.layout import ADDED, DEFERRED_BYTES, DIRECT
from tapegrad.engine.native.capi import call_kernel, raw_free, raw_malloc
from tapegrad.engine.native.elementwise import address_of_run_blocks
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import I64, VOID, copy_bytes, least, load_i64, stack_words, store_i64, symbol_address

TILE = 2048  # elements: a dozen float64 operands fit in a core's second-level cache
WIDEST = 16  # bytes of an element
CALLS, CALL_SIZE = 16, 256  # a noted call: the kernel, its argument words, and at WORDS how many these are
WORDS = CALL_SIZE - 8
RETIRED_ROOM, SPENT_ROOM, PLACES_ROOM = 48, 16, 64
RETIRED = CALLS * CALL_SIZE  # byte offset of the retired slots
SPENT = RETIRED + RETIRED_ROOM * 8  # of the entries whose saved values are to be given up
PLACES = SPENT + SPENT_ROOM * 8  # of the places that name scratch memory: (byte offset, number of the scratch tile, bytes of an element)
COUNT = PLACES + PLACES_ROOM * 24  # the number of calls,
PLACE_COUNT, SCRATCH_COUNT = COUNT + 8, COUNT + 16  # of places and of scratch tiles
assert COUNT + 24 <= DEFERRED_BYTES
address_of_run_deferred = symbol_address("tg_run_deferred", VOID, I64, I64, I64)
own_calls = stack_words(CALLS * CALL_SIZE // 8)


@native("viii")
def run_deferred(block, start, stop):
    """Run the noted calls over elements start .. stop; has the signature of a kernel, so it can be launched on threads."""
    count = load_i64(block + COUNT)
    places = load_i64(block + PLACE_COUNT)
    calls = block
    memory = 0
    if places:
        memory = raw_malloc(load_i64(block + SCRATCH_COUNT) * TILE * WIDEST + 64)
        if memory:  # otherwise the cotangents' own memory serves
            calls = own_calls()
            copy_bytes(calls, block, count * CALL_SIZE)
    scratch = (memory + 63) & ~63
    i = start
    while i < stop:
        end = least(i + TILE, stop)
        if memory:
            for k in range(places):
                place = block + PLACES + k * 24
                tile = scratch + load_i64(place + 8) * TILE * WIDEST
                store_i64(calls + load_i64(place), tile - i * load_i64(place + 16))
        for k in range(count):
            call = calls + k * CALL_SIZE
            call_kernel(load_i64(call), call + 8, i, end)
        i = end
    if memory:
        raw_free(memory)


@native("iiii")
def keep_in_scratch(block, address, size):
    """Let a tile of scratch memory stand for the elements of `size` bytes at `address`, if the calls write them before they read them.

    1, or 0 where that is not so.
    """
    places = load_i64(block + PLACE_COUNT)
    written = 0
    for k in range(load_i64(block + COUNT)):
        call = block + k * CALL_SIZE
        in_blocks = load_i64(call) == address_of_run_blocks()
        operands = load_i64(call + 16) if in_blocks else load_i64(call + WORDS)
        reads = 0
        writes = 0
        for j in range(operands):
            word = call + 24 + j * 32 if in_blocks else call + 8 + j * 8
            if load_i64(word) == address:
                mode = load_i64(word + 8) if in_blocks else DIRECT
                if places >= PLACES_ROOM or (mode != DIRECT and mode != ADDED):
                    return 0
                if j == 0 and mode == DIRECT:
                    writes = 1
                else:
                    reads = 1
                place = block + PLACES + places * 24
                store_i64(place, word - block)
                store_i64(place + 8, load_i64(block + SCRATCH_COUNT))
                store_i64(place + 16, size)
                places = places + 1
        if reads and written == 0:
            return 0
        written = written | writes
    if written == 0:
        return 0
    store_i64(block + PLACE_COUNT, places)
    store_i64(block + SCRATCH_COUNT, load_i64(block + SCRATCH_COUNT) + 1)
    return 1
