"""The loader: batches of a data set in a sampler's order, fetched here or by worker processes.

`DataLoader` holds the choices; each pass over it is an iterator of its own, `Here` (no processes) or `Workers`.
"""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
import os
import queue
import warnings
import weakref
from multiprocessing.context import BaseContext
from typing import Any, Generic

from tapegrad.utils.data import worker
from tapegrad.utils.data.collate import default_collate, default_convert
from tapegrad.utils.data.dataset import Item, IterableDataset
from tapegrad.utils.data.fetching import IterableFetcher, MapFetcher
from tapegrad.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler, drawn_seed

FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class Endless:
    """The sampler of iterable data, where only the number of indices counts."""

    def __iter__(self):
        return itertools.repeat(None)


class DataLoader(Generic[Item]):
    """Batches of `dataset`: `for batch in loader`, each pass anew.

    batch_size: how many samples make a batch; None gives single samples.  shuffle: a random order, else the data's own; or `sampler`, the
    order of single indices; or `batch_sampler`, that of lists of them.  drop_last: no batch that is not full.  collate_fn: makes a batch of
    a list of samples (`default_collate`).  generator: what the order is drawn from.  num_workers: as many processes fetch batches, each
    `prefetch_factor` (2) ahead, in order unless in_order=False; they start with worker_init_fn(number) and are given up after a pass unless
    persistent_workers; a batch may take `timeout` seconds (0: any time).  pin_memory has no effect, as there is only the CPU.

    Raises ValueError for choices that exclude each other.

    >>> import tapegrad as tg
    >>> from tapegrad.utils.data import TensorDataset
    >>> [x.tolist() for x, in DataLoader(TensorDataset(tg.arange(5)), batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    _initialized = False

    def __init__(self, dataset, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0, collate_fn=None, pin_memory=False,
                 drop_last=False, timeout=0, worker_init_fn=None, multiprocessing_context=None, generator=None, *, prefetch_factor=None,
                 persistent_workers=False, pin_memory_device="", in_order=True):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing.let num_workers > 0 to enable multiprocessing, otherwise set "
                "prefetch_factor to None."
            )
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.timeout, self.worker_init_fn = dataset, num_workers, timeout, worker_init_fn
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory, self.pin_memory_device, self.in_order = pin_memory, pin_memory_device, in_order
        self.multiprocessing_context = multiprocessing_context
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            wrong = {"shuffle": shuffle if shuffle not in (False, None) else None, "sampler": sampler, "batch_sampler": batch_sampler}
            for name, given in wrong.items():
                if given is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={given}")
        if sampler is not None and shuffle and not self._iterable:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            sampler = Endless() if self._iterable else RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler, self.generator = batch_size, drop_last, sampler, batch_sampler, generator
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self.persistent_workers = persistent_workers
        self._announced: int | None = None  # the length that `len` gave of iterable data
        self._kept: Workers | None = None
        self._initialized = True
        self.check_worker_number_rationality()

    def __setattr__(self, name, value):
        if self._initialized and name in FIXED:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self):
        """How the worker processes are started: a context of `multiprocessing`, or None for Python's own choice."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context):
        if context is not None:
            if not self.num_workers:
                raise ValueError(
                    "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
                    f"num_workers={self.num_workers}"
                )
            if isinstance(context, str):
                methods = multiprocessing.get_all_start_methods()
                if context not in methods:
                    raise ValueError(
                        f"multiprocessing_context option should specify a valid start method in {methods!r}, but got "
                        f"multiprocessing_context={context!r}"
                    )
                context = multiprocessing.get_context(context)
            if not isinstance(context, BaseContext):
                raise TypeError(
                    "multiprocessing_context option should be a valid context object or a string specifying the start method, but got "
                    f"multiprocessing_context={context}"
                )
        self._context = context

    @property
    def _index_sampler(self):
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _fetcher(self):
        """A function of a data set that makes what fetches its batches; it is sent to the workers."""
        kind = IterableFetcher if self._iterable else MapFetcher
        return functools.partial(kind, batched=self.batch_sampler is not None, collate_fn=self.collate_fn, drop_last=self.drop_last)

    def __iter__(self):
        if not self.num_workers:
            return Here(self)
        if not self.persistent_workers:
            self.check_worker_number_rationality()
            return Workers(self)
        if self._kept is None:
            self._kept = Workers(self)
        else:
            self._kept.restart(self)
        return self._kept

    def __len__(self):
        if not self._iterable:
            return len(self._index_sampler)
        length = self._announced = len(self.dataset)
        if self.batch_size is not None:
            length = length // self.batch_size if self.drop_last else math.ceil(length / self.batch_size)
        return length

    def check_worker_number_rationality(self) -> None:
        """Warn if there are more workers than processors."""
        suggested = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if self.num_workers and (suggested is None or self.num_workers > suggested):
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. Our suggested max number of worker in current system is "
                f"{suggested}, which is smaller than what this DataLoader is going to create. Please be aware that excessive worker creation might "
                "get DataLoader running slow or even freeze, lower the worker number to avoid potential slowness/freeze if necessary.", stacklevel=2,
            )  # fmt: skip


class Pass:
    """One pass over a loader.  Like torch's it draws a number from the generator, which the workers' seeds are made of."""

    def __init__(self, loader: DataLoader):
        if loader.pin_memory:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used.", stacklevel=2
            )
        self.loader = loader
        self.begin()
        self.base_seed = drawn_seed(loader.generator)

    def begin(self) -> None:
        self.indices, self.given = iter(self.loader._index_sampler), 0

    def __iter__(self):
        return self

    def __len__(self):
        return len(self.loader._index_sampler)

    def next_batch(self) -> Any:
        raise NotImplementedError

    def __next__(self):
        batch = self.next_batch()
        self.given += 1
        announced = self.loader._announced
        if self.loader._iterable and announced is not None and self.given > announced:
            warnings.warn(
                f"Length of IterableDataset {self.loader.dataset} was reported to be {announced} (when accessing len(dataloader)), but {self.given} "
                "samples have been fetched. ", stacklevel=2,
            )  # fmt: skip
        return batch


class Here(Pass):
    """Batches fetched by the process that asks for them."""

    def __init__(self, loader):
        super().__init__(loader)
        self.fetcher = loader._fetcher()(loader.dataset)

    def next_batch(self):
        return self.fetcher.fetch(next(self.indices))


def stopped(processes: list, queues: list) -> None:
    """Have worker processes end."""
    for q in queues:
        q.put(None)
    for process in processes:
        process.join(timeout=worker.POLL)
        if process.is_alive():
            process.terminate()
            process.join()
    for q in queues:
        q.cancel_join_thread()
        q.close()


class Workers(Pass):
    """Batches fetched by processes: task k goes to the next worker in turn, its batch is given out as the k-th (in_order)."""

    def __init__(self, loader):
        super().__init__(loader)
        context = loader.multiprocessing_context or multiprocessing.get_context()
        self.results = context.Queue()
        self.queues = [context.Queue() for _ in range(loader.num_workers)]
        self.processes = []
        for k, tasks in enumerate(self.queues):
            arguments = (loader._fetcher(), loader.dataset, tasks, self.results, self.base_seed, loader.worker_init_fn, k, loader.num_workers)
            process = context.Process(target=worker.run, args=arguments, daemon=True)
            process.start()
            self.processes.append(process)
        self.stop = weakref.finalize(self, stopped, self.processes, self.queues)
        self.fill()

    def fill(self) -> None:
        """Give out the first tasks of a pass."""
        self.sent = self.next_number = 0
        self.waiting: dict[int, int] = {}  # the worker that has a task
        self.early: dict[int, Any] = {}  # batches that came before their turn
        self.active = [True] * len(self.queues)
        self.turn = itertools.cycle(range(len(self.queues)))
        for _ in range(self.loader.prefetch_factor * len(self.queues)):
            self.give_task()

    def restart(self, loader) -> None:
        """Another pass with the same processes."""
        while self.waiting:  # what an abandoned pass has left
            self.waiting.pop(self.receive()[0])
        self.begin()
        for q in self.queues:
            q.put(worker.Again())
        for _ in self.queues:
            self.receive()
        self.fill()

    def give_task(self) -> None:
        """The next indices, to the next worker that still has samples; without batches in order, to one that is not behind."""
        most = self.loader.prefetch_factor * len(self.queues)
        try:
            indices = next(self.indices)
        except StopIteration:
            return
        for _ in self.queues:
            k = next(self.turn)
            load = sum(other == k for other in self.waiting.values())
            if self.active[k] and (self.loader.in_order or load < most // sum(self.active)):
                self.queues[k].put((self.sent, indices))
                self.waiting[self.sent] = k
                self.sent += 1
                return

    def receive(self) -> tuple:
        """What a worker sends next."""
        timeout = self.loader.timeout
        while True:
            try:
                return self.results.get(timeout=timeout or worker.POLL)
            except queue.Empty:
                if timeout:
                    raise RuntimeError(f"DataLoader timed out after {timeout} seconds") from None
                dead = [str(p.pid) for p, active in zip(self.processes, self.active) if active and not p.is_alive()]
                if dead:
                    raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(dead)}) exited unexpectedly") from None

    def next_batch(self):
        while True:
            while self.next_number < self.sent and self.next_number not in self.waiting and self.next_number not in self.early:
                self.next_number += 1  # given out, or not there as its worker had no more samples
            if self.next_number in self.early:
                return self.given_out(self.early.pop(self.next_number))
            if not self.waiting:
                if not self.loader.persistent_workers:
                    self.stop()
                raise StopIteration
            number, batch = self.receive()
            k = self.waiting.pop(number)
            if isinstance(batch, worker.Ended):
                self.active[k] = False
                self.give_task()
            elif self.loader.in_order and number != self.next_number:
                self.early[number] = batch
            else:
                return self.given_out(batch)

    def given_out(self, batch):
        self.give_task()
        if isinstance(batch, worker.Failure):
            batch.reraise()
        return batch
