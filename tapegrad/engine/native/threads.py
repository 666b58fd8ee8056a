"""The parallel launcher: a pool of POSIX threads that run any kernel, called by address, on sub-ranges.

The range is cut into a segment per thread, each of several shares.  The calling thread and the workers take the shares of their own
segments, so that a thread meets the same part of a tensor in one launch after another, and its cache still holds it; who is done takes
from the end of the others' segments, so that a thread held up by other programs costs little.  A worker sleeps on a condition variable, so
an idle pool costs nothing.  `state.pool` is a block: mutex, two condition variables, then the job.  Launches do not nest.
"""

from tapegrad.engine.native.capi import call_kernel
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import I64, external, least, load_i64, store_i64, symbol_address, the_state

pthread_create = external("pthread_create", I64, I64, I64, I64, I64)
pthread_detach = external("pthread_detach", I64, I64)
mutex_init = external("pthread_mutex_init", I64, I64, I64)
mutex_lock = external("pthread_mutex_lock", I64, I64)
mutex_unlock = external("pthread_mutex_unlock", I64, I64)
cond_init = external("pthread_cond_init", I64, I64, I64)
cond_wait = external("pthread_cond_wait", I64, I64, I64)
cond_signal = external("pthread_cond_signal", I64, I64)
cond_broadcast = external("pthread_cond_broadcast", I64, I64)

MUTEX, WORK, DONE = 0, 128, 256  # byte offsets in the pool block, of 2048 bytes
KERNEL, ARGS, TOTAL, SHARES, SEGMENTS, UNCLAIMED, PENDING, STARTED, WORKERS, HANDLE = (384 + 8 * k for k in range(10))
MOST = 64  # threads
NEXT, END = 512, 512 + 8 * MOST  # per segment: the first and the end of its unclaimed shares
LOOKS = 1000
EACH, FEWEST = 4, 2048  # shares per segment, and the elements from which a range is cut so finely
address_of_worker = symbol_address("tg_worker_main", I64, I64)


@native("ii")
def worker_main(pool):
    """What a worker thread does for ever: wait for a job, take shares until none is left."""
    mutex_lock(pool + MUTEX)
    mine = load_i64(pool + WORKERS) + 1
    store_i64(pool + WORKERS, mine)
    while True:
        linger(pool, UNCLAIMED, 0)
        while load_i64(pool + UNCLAIMED) == 0 or mine >= load_i64(pool + SEGMENTS):  # there may be more workers than threads are wanted now
            cond_wait(pool + WORK, pool + MUTEX)
        take_share(pool, mine)
    return 0


@native("iiii")
def linger(pool, field, value):
    """Look for some 50 us whether a field of the pool stops being `value`: waking a sleeping thread takes as long."""
    for k in range(LOOKS):
        if load_i64(pool + field) != value:
            return 1
        mutex_unlock(pool + MUTEX)
        mutex_lock(pool + MUTEX)
    return 0


@native("iiii")
def boundary(total, k, shares):
    """Where share k of 0 .. total begins: at a multiple of FEWEST elements if there are that many."""
    start = total * k // shares
    return start if k == shares or total < shares * FEWEST else start & ~(FEWEST - 1)


@native("iii")
def claim(pool, mine):
    """The next share of segment `mine`, or the last of another's; there is one."""
    segments = load_i64(pool + SEGMENTS)
    for i in range(segments):
        j = (mine + i) % segments
        first = load_i64(pool + NEXT + j * 8)
        end = load_i64(pool + END + j * 8)
        if first < end:
            store_i64(pool + UNCLAIMED, load_i64(pool + UNCLAIMED) - 1)
            if i == 0:
                store_i64(pool + NEXT + j * 8, first + 1)
                return first
            store_i64(pool + END + j * 8, end - 1)
            return end - 1
    return 0


@native("vii")
def take_share(pool, mine):
    """Run one share of the current job; the mutex is held on entry and on return."""
    k = claim(pool, mine)
    kernel = load_i64(pool + KERNEL)
    args = load_i64(pool + ARGS)
    total = load_i64(pool + TOTAL)
    shares = load_i64(pool + SHARES)
    mutex_unlock(pool + MUTEX)
    call_kernel(kernel, args, boundary(total, k, shares), boundary(total, k + 1, shares))
    mutex_lock(pool + MUTEX)
    left = load_i64(pool + PENDING) - 1
    store_i64(pool + PENDING, left)
    if left == 0:
        cond_signal(pool + DONE)


@native("viii")
def launch(kernel, args, n):
    """Run `kernel(args, ...)` over 0 .. n on `state.threads` threads and return when all is done."""
    st = the_state()
    pool = st.pool
    segments = least(least(st.threads, MOST), n)
    if pool == 0 or segments < 2 or load_i64(pool + PENDING) > 0:
        call_kernel(kernel, args, 0, n)
        return
    each = EACH if n >= segments * EACH * FEWEST else 1
    shares = segments * each
    mutex_lock(pool + MUTEX)
    while load_i64(pool + STARTED) < segments - 1:
        if pthread_create(pool + HANDLE, 0, address_of_worker(), pool) != 0:
            break
        pthread_detach(load_i64(pool + HANDLE))
        store_i64(pool + STARTED, load_i64(pool + STARTED) + 1)
    store_i64(pool + KERNEL, kernel)
    store_i64(pool + ARGS, args)
    store_i64(pool + TOTAL, n)
    store_i64(pool + SHARES, shares)
    store_i64(pool + SEGMENTS, segments)
    for j in range(segments):
        store_i64(pool + NEXT + j * 8, j * each)
        store_i64(pool + END + j * 8, (j + 1) * each)
    store_i64(pool + UNCLAIMED, shares)
    store_i64(pool + PENDING, shares)
    cond_broadcast(pool + WORK)
    while load_i64(pool + UNCLAIMED) > 0:
        take_share(pool, 0)
    while load_i64(pool + PENDING) > 0:
        # The last share may have been done while the mutex was free: its signal does not come again.
        if linger(pool, PENDING, load_i64(pool + PENDING)) == 0 and load_i64(pool + PENDING) > 0:
            cond_wait(pool + DONE, pool + MUTEX)
    mutex_unlock(pool + MUTEX)


@native("vi")
def start_pool(pool):
    """Prepare a zeroed pool block; workers are started by the first launch that wants them."""
    mutex_init(pool + MUTEX, 0)
    cond_init(pool + WORK, 0)
    cond_init(pool + DONE, 0)
    the_state().pool = pool
