"""Threads and memory: how many threads large work uses, what the allocator holds."""

from __future__ import annotations

from tapegrad import core
from tapegrad.engine.bind import state_cell
from tapegrad.settings import check_threads

# Work (in ns, by the op's rough cost) from which a second thread pays: waking a worker costs about 10 us.
PARALLEL_COST = 60_000
_threads = state_cell("threads")


def get_num_threads() -> int:
    """How many threads large operations use."""
    return max(1, _threads.value)


def set_num_threads(count: int) -> None:
    """Let large operations use `count` threads; BLAS follows."""
    check_threads("set_num_threads", count)
    core.start()
    _threads.value = count
    state_cell("parallel_cost").value = PARALLEL_COST if count > 1 else 1 << 62
    limit_blas()


def limit_blas() -> None:
    """Make every BLAS library that is loaded follow `set_num_threads`; called again when one is loaded."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(_threads.value, user_api="blas")


def default_threads() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start() -> None:
    """Use the cores that this process may use."""
    count = default_threads()
    _threads.value = count
    state_cell("parallel_cost").value = PARALLEL_COST if count > 1 else 1 << 62


def statistics() -> dict:
    """What the engine holds: live bytes, peak, cached bytes, live slots and entries, tape length."""
    cell = lambda name: state_cell(name).value
    return {
        "bytes_live": cell("bytes_live"),
        "bytes_peak": cell("bytes_peak"),
        "bytes_cached": cell("cached_bytes"),
        "slots_live": cell("slot_live"),
        "entries_live": cell("entry_live"),
        "tape_length": cell("entry_count"),
        "recorded": cell("recorded"),
    }
