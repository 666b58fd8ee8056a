"""The parallel launcher: a pool of POSIX threads that run any kernel, called by address, on sub-ranges.

The calling thread takes the first share and the workers the others; a worker sleeps on a condition variable, so an idle pool
costs nothing.  `state.pool` is a block: mutex, two condition variables, then the job.  Launches do not nest.
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

MUTEX, WORK, DONE = 0, 128, 256  # byte offsets in the pool block
KERNEL, ARGS, TOTAL, SHARES, NEXT, PENDING, GENERATION, WORKERS = (384 + 8 * k for k in range(8))
POOL_SIZE = 512
address_of_worker = symbol_address("tg_worker_main", I64, I64)


@native("ii")
def worker_main(pool):
    """What a worker thread does for ever: wait for a job, take shares until none is left."""
    mutex_lock(pool + MUTEX)
    while True:
        while load_i64(pool + NEXT) >= load_i64(pool + SHARES):
            cond_wait(pool + WORK, pool + MUTEX)
        take_share(pool)
    return 0


@native("vi")
def take_share(pool):
    """Run one share of the current job; the mutex is held on entry and on return."""
    k = load_i64(pool + NEXT)
    store_i64(pool + NEXT, k + 1)
    kernel = load_i64(pool + KERNEL)
    args = load_i64(pool + ARGS)
    total = load_i64(pool + TOTAL)
    shares = load_i64(pool + SHARES)
    mutex_unlock(pool + MUTEX)
    call_kernel(kernel, args, total * k // shares, total * (k + 1) // shares)
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
    shares = least(st.threads, n)
    if pool == 0 or shares < 2 or load_i64(pool + PENDING) > 0:
        call_kernel(kernel, args, 0, n)
        return
    mutex_lock(pool + MUTEX)
    while load_i64(pool + WORKERS) < shares - 1:
        if pthread_create(pool + 480, 0, address_of_worker(), pool) != 0:
            break
        pthread_detach(load_i64(pool + 480))
        store_i64(pool + WORKERS, load_i64(pool + WORKERS) + 1)
    store_i64(pool + KERNEL, kernel)
    store_i64(pool + ARGS, args)
    store_i64(pool + TOTAL, n)
    store_i64(pool + NEXT, 0)
    store_i64(pool + PENDING, shares)
    store_i64(pool + SHARES, shares)
    cond_broadcast(pool + WORK)
    while load_i64(pool + NEXT) < load_i64(pool + SHARES):
        take_share(pool)
    while load_i64(pool + PENDING) > 0:
        cond_wait(pool + DONE, pool + MUTEX)
    store_i64(pool + SHARES, 0)
    mutex_unlock(pool + MUTEX)


@native("vi")
def start_pool(pool):
    """Prepare a zeroed pool block; workers are started by the first launch that wants them."""
    mutex_init(pool + MUTEX, 0)
    cond_init(pool + WORK, 0)
    cond_init(pool + DONE, 0)
    the_state().pool = pool
