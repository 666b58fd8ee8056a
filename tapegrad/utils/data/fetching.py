"""What turns indices into batches: by index from a map, in turn from an iterable."""

from __future__ import annotations

import itertools


class MapFetcher:
    """Batches of a data set with indices."""

    def __init__(self, dataset, batched: bool, collate_fn, drop_last: bool):
        self.dataset, self.batched, self.collate_fn = dataset, batched, collate_fn

    def fetch(self, index):
        """The batch at a list of indices, or the sample at one."""
        if not self.batched:
            return self.collate_fn(self.dataset[index])
        if getattr(self.dataset, "__getitems__", None):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])


class IterableFetcher:
    """Batches of a data set that is gone through: only the number of indices counts."""

    def __init__(self, dataset, batched: bool, collate_fn, drop_last: bool):
        self.samples, self.batched, self.collate_fn, self.drop_last = iter(dataset), batched, collate_fn, drop_last
        self.ended = False

    def fetch(self, index):
        """The next batch (the next sample, without batches); StopIteration at the end."""
        if self.ended:
            raise StopIteration
        if not self.batched:
            return self.collate_fn(next(self.samples))
        batch = list(itertools.islice(self.samples, len(index)))
        self.ended = len(batch) < len(index)
        if not batch or (self.drop_last and self.ended):
            raise StopIteration
        return self.collate_fn(batch)
