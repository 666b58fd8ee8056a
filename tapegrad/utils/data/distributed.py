"""One process's share of the samples, when several processes go over the same data."""

from __future__ import annotations

import math

from tapegrad.random import Generator, randperm
from tapegrad.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index, from `rank` on, of an order that all processes draw alike (from `seed` and the epoch).

    The order is lengthened by its own start (drop_last: shortened) to a length that all shares divide.
    """

    def __init__(self, dataset, num_replicas, rank, shuffle=True, seed=0, drop_last=False):
        if rank >= num_replicas or rank < 0:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank, self.epoch, self.drop_last = dataset, num_replicas, rank, 0, drop_last
        size = len(dataset)
        self.num_samples = math.ceil((size - num_replicas) / num_replicas) if drop_last and size % num_replicas else math.ceil(size / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle, self.seed = shuffle, seed

    def __iter__(self):
        order = list(range(len(self.dataset)))
        if self.shuffle:
            order = randperm(len(order), generator=Generator().manual_seed(self.seed + self.epoch)).tolist()
        if not self.drop_last:
            order *= math.ceil(self.total_size / len(order))
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self):
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """What the order of the next pass is drawn from, besides the seed."""
        self.epoch = epoch
