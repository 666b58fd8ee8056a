"""The parallel launcher: a pool of POSIX threads that run any kernel, called by address, on sub-ranges.

The range is cut into a segment per thread, each of several shares.  The calling thread and the workers take the shares of their own
segments, so that a thread meets the same part of a tensor in one launch after another, and its cache still holds it; who is done takes
from the end of the others' segments, so that a thread held up by other programs costs little.  Shares are claimed without a lock: a
segment's word holds its first and its last unclaimed share, and whoever changes it by compare-and-swap has the share.  A worker looks for
a new job for a while and then sleeps on a condition variable, so an idle pool costs nothing.  `state.pool` is a block: the mutex and the
condition variables for sleeping, then words, those that different threads write on cache lines of their own.  Launches do not nest.
"""

from tapegrad.engine.layout import POOL_BYTES
from tapegrad.engine.native.capi import call_kernel
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap,
    external,
    least,
    load_i64,
    most,
    store_i64,
    symbol_address,
    the_state,
)

pthread_create = external("pthread_create", I64, I64, I64, I64, I64)
pthread_detach = external("pthread_detach", I64, I64)
mutex_init = external("pthread_mutex_init", I64, I64, I64)
mutex_lock = external("pthread_mutex_lock", I64, I64)
mutex_unlock = external("pthread_mutex_unlock", I64, I64)
cond_init = external("pthread_cond_init", I64, I64, I64)
cond_wait = external("pthread_cond_wait", I64, I64, I64)
cond_signal = external("pthread_cond_signal", I64, I64)
cond_broadcast = external("pthread_cond_broadcast", I64, I64)

LINE = 128  # bytes: two threads that write to the same one wait for each other
MOST = 64  # threads
MUTEX, WORK, DONE, JOB = (LINE * k for k in range(4))  # byte offsets in the pool block
KERNEL, ARGS, TOTAL, SHARES, SEGMENTS, STARTED, HANDLE = (JOB + 8 * k for k in range(7))
LAUNCHES, PENDING, WAITING, SLEEPING, WORKERS = (JOB + LINE * (1 + k) for k in range(5))
UNCLAIMED = JOB + LINE * 6  # a line per segment: the first unclaimed share, and in the upper half the end of them
assert UNCLAIMED + LINE * MOST <= POOL_BYTES
LOOKS = 200_000  # some 100 us: waking a sleeping thread takes half as long
EACH, SHORTEST = 16, 5000  # shares per segment at most, and the ns of work that one should be
FEWEST = 2048  # elements: a share of a long range begins at a multiple of this
address_of_worker = symbol_address("tg_worker_main", I64, I64)


@native("ii")
def worker_main(pool):
    """What a worker thread does for ever: wait for a job, take shares until none is left."""
    mine = atomic_add(pool + WORKERS, 1) + 1
    seen = 0
    while True:
        if differs(pool + LAUNCHES, seen) == 0:
            sleep(pool, seen, mine)
        seen = atomic_load(pool + LAUNCHES)
        if mine < load_i64(pool + SEGMENTS):  # there may be more workers than threads are wanted now
            take_shares(pool, mine)
    return 0


@native("iii")
def differs(word, value):
    """Look for a while whether a word stops being `value`."""
    for k in range(LOOKS):
        if atomic_load(word) != value:
            return 1
    return 0


@native("viii")
def sleep(pool, seen, mine):
    """Sleep until there is another launch than `seen`.  A worker that is not wanted is not woken by launches like the last one."""
    wanted = 1 if mine < load_i64(pool + SEGMENTS) else 0
    mutex_lock(pool + MUTEX)
    atomic_add(pool + SLEEPING, wanted)
    while atomic_load(pool + LAUNCHES) == seen:
        cond_wait(pool + WORK, pool + MUTEX)
    atomic_add(pool + SLEEPING, 0 - wanted)
    mutex_unlock(pool + MUTEX)


@native("iiii")
def boundary(total, k, shares):
    """Where share k of 0 .. total begins: at a multiple of FEWEST elements if there are that many."""
    start = total * k // shares
    return start if k == shares or total < shares * FEWEST else start & ~(FEWEST - 1)


@native("iii")
def claim(pool, mine):
    """The next share of segment `mine`, or the last of another's; -1 if there is none."""
    segments = load_i64(pool + SEGMENTS)
    for i in range(segments):
        word = pool + UNCLAIMED + (mine + i) % segments * LINE
        while True:
            value = atomic_load(word)
            first = value & 0xFFFFFFFF
            end = value >> 32
            if first >= end:
                break
            if i == 0:
                if atomic_swap(word, value, value + 1):
                    return first
            elif atomic_swap(word, value, value - (1 << 32)):
                return end - 1
    return -1


@native("vii")
def take_shares(pool, mine):
    """Run shares of the current job until all are claimed.  What the job is, is read once a share is claimed: it stays until that is done."""
    while True:
        k = claim(pool, mine)
        if k < 0:
            return
        total = load_i64(pool + TOTAL)
        shares = load_i64(pool + SHARES)
        call_kernel(load_i64(pool + KERNEL), load_i64(pool + ARGS), boundary(total, k, shares), boundary(total, k + 1, shares))
        if atomic_add(pool + PENDING, -1) == 1 and atomic_load(pool + WAITING):
            mutex_lock(pool + MUTEX)
            cond_signal(pool + DONE)
            mutex_unlock(pool + MUTEX)


@native("vi")
def await_workers(pool):
    """Return when all shares of the job are done."""
    left = atomic_load(pool + PENDING)
    while left and differs(pool + PENDING, left):
        left = atomic_load(pool + PENDING)
    if left == 0:
        return
    atomic_store(pool + WAITING, 1)
    mutex_lock(pool + MUTEX)
    while atomic_load(pool + PENDING):
        cond_wait(pool + DONE, pool + MUTEX)
    mutex_unlock(pool + MUTEX)
    atomic_store(pool + WAITING, 0)


@native("viiii")
def launch(kernel, args, n, work):
    """Run `kernel(args, ...)` over 0 .. n, some `work` ns, on `state.threads` threads and return when all is done."""
    st = the_state()
    pool = st.pool
    segments = least(least(st.threads, MOST), n)
    if pool == 0 or segments < 2 or atomic_load(pool + PENDING):
        call_kernel(kernel, args, 0, n)
        return
    while load_i64(pool + STARTED) < segments - 1:
        if pthread_create(pool + HANDLE, 0, address_of_worker(), pool) != 0:
            break
        pthread_detach(load_i64(pool + HANDLE))
        store_i64(pool + STARTED, load_i64(pool + STARTED) + 1)
    each = most(1, least(least(EACH, work // (segments * SHORTEST)), n // segments))
    more = segments > load_i64(pool + SEGMENTS)
    store_i64(pool + KERNEL, kernel)
    store_i64(pool + ARGS, args)
    store_i64(pool + TOTAL, n)
    store_i64(pool + SHARES, segments * each)
    store_i64(pool + SEGMENTS, segments)
    atomic_store(pool + PENDING, segments * each)
    for j in range(segments):
        atomic_store(pool + UNCLAIMED + j * LINE, j * each | (j + 1) * each << 32)
    atomic_add(pool + LAUNCHES, 1)
    if more or atomic_load(pool + SLEEPING):
        mutex_lock(pool + MUTEX)
        cond_broadcast(pool + WORK)
        mutex_unlock(pool + MUTEX)
    take_shares(pool, 0)
    await_workers(pool)


@native("vi")
def start_pool(pool):
    """Prepare a zeroed pool block; workers are started by the first launch that wants them."""
    mutex_init(pool + MUTEX, 0)
    cond_init(pool + WORK, 0)
    cond_init(pool + DONE, 0)
    the_state().pool = pool
