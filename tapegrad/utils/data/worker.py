"""The processes that load batches for a DataLoader with `num_workers` > 0: what one of them does, and what it knows about itself."""

from __future__ import annotations

import dataclasses
import os
import queue
import random
import traceback
from typing import Any

import numpy as np

from tapegrad.memory import set_num_threads
from tapegrad.random import manual_seed

POLL = 5.0  # seconds after which each side looks whether the other is alive


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What `get_worker_info()` gives in a worker process: its number, their count, the seed it started with, its copy of the data."""

    id: int
    num_workers: int
    seed: int
    dataset: Any
    worker_method: str = "multiprocessing"


_here: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The worker process this is called in; None in the main process."""
    return _here


class Verbatim(str):
    """A text that is shown as it is where its repr is asked for, as KeyError does with its argument."""

    __repr__ = str.__str__


class Failure:
    """An exception of a worker, to be raised again in the main process."""

    def __init__(self, error: BaseException, where: str):
        self.kind, self.where, self.text = type(error), where, traceback.format_exc()

    def reraise(self):
        """Raise an exception of the same type that names the process and the original place."""
        message = f"Caught {self.kind.__name__} {self.where}.\nOriginal {self.text}"
        try:
            error = self.kind(Verbatim(message) if self.kind is KeyError else message)
        except Exception:  # a type with other arguments
            raise RuntimeError(message) from None
        raise error


@dataclasses.dataclass(frozen=True)
class Ended:
    """A worker's iterable has no more samples."""


@dataclasses.dataclass(frozen=True)
class Again:
    """To a worker: start another pass.  From it: started."""


def numpy_seed(base_seed: int, worker_id: int) -> list[int]:
    """The seed of NumPy's stream, that of torch's workers: a hash of both numbers (M. O'Neill's seed_seq, as in NumPy's SeedSequence)."""
    mask = 0xFFFFFFFF
    state = 0x43B0D7E5

    def hashed(value):
        nonlocal state
        value = (value ^ state) & mask
        state = state * 0x931E8875 & mask
        value = value * state & mask
        return value ^ value >> 16

    def mixed(x, y):
        value = ((0xCA01F9DD * x & mask) - (0x4973F715 * y & mask)) & mask
        return value ^ value >> 16

    pool = [hashed(word) for word in (worker_id, base_seed & mask, base_seed >> 32, 0)]
    for i in range(4):
        for k in range(4):
            if i != k:
                pool[k] = mixed(pool[k], hashed(pool[i]))
    out, state_b = [], 0x8B51F9DD
    for word in pool:
        word = (word ^ state_b) & mask
        state_b = state_b * 0x58F38DED & mask
        word = word * state_b & mask
        out.append(word ^ word >> 16)
    return out


def run(make_fetcher, dataset, tasks, results, base_seed, init_fn, worker_id, num_workers) -> None:
    """A worker's life: take (number, indices) from `tasks`, put (number, batch) into `results`, until None or the parent's end."""
    global _here
    parent = os.getppid()
    set_num_threads(1)
    seed = base_seed + worker_id
    random.seed(seed)
    manual_seed(seed)
    np.random.seed(numpy_seed(base_seed, worker_id))
    _here = WorkerInfo(worker_id, num_workers, seed, dataset)
    where = f"in DataLoader worker process {worker_id}"
    failure, fetcher = None, None
    try:
        if init_fn is not None:
            init_fn(worker_id)
        fetcher = make_fetcher(dataset)
    except Exception as error:
        failure = Failure(error, where)
    while os.getppid() == parent:
        try:
            task = tasks.get(timeout=POLL)
        except queue.Empty:
            continue
        if task is None:
            return
        if isinstance(task, Again):
            fetcher = make_fetcher(dataset)
            results.put((worker_id, task))
            continue
        number, indices = task
        if fetcher is None:
            results.put((number, failure))
            continue
        try:
            batch = fetcher.fetch(indices)
        except StopIteration:
            batch = Ended()
        except Exception as error:
            batch = Failure(error, where)
        results.put((number, batch))
