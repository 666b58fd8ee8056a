"""Owns `utils.data`: data sets, the order of samples, batches, and the processes that load them.  Values are those of torch 2.13."""

from __future__ import annotations

import collections
import random

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.utils import data
from tapegrad.utils.data import DataLoader, TensorDataset

Pair = collections.namedtuple("Pair", "a b")


class Drawing(data.Dataset):
    """Samples that say which process made them and draw from its streams."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        worker = data.get_worker_info()
        return i, tg.rand(()), random.random(), np.random.rand(), worker.id if worker else -1


class Counting(data.IterableDataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n - 1

    def __iter__(self):
        worker = data.get_worker_info()
        return iter(range(self.n)) if worker is None else iter(range(worker.id, self.n, worker.num_workers))


class Failing(data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {0: 0}[i]


def test_a_seed_gives_torchs_order():
    tg.manual_seed(0)
    whole = TensorDataset(tg.arange(20.0), tg.arange(20))
    parts = data.random_split(whole, [0.5, 0.27, 0.23])
    assert [p.indices for p in parts] == [[4, 5, 13, 19, 7, 14, 3, 6, 9, 17, 11], [2, 16, 18, 10, 12], [15, 8, 1, 0]]
    passes = [[y.tolist() for _, y in DataLoader(parts[0], 4, shuffle=True)] for _ in range(2)]
    assert passes == [[[13, 5, 3, 9], [14, 7, 19, 6], [4, 11, 17]], [[17, 3, 13, 9], [7, 11, 6, 19], [14, 5, 4]]]
    assert tg.rand(1).item() == pytest.approx(0.0362, abs=1e-4)


def test_samplers():
    tg.manual_seed(1)
    twice = list(data.RandomSampler(range(4), num_samples=8))
    assert sorted(twice[:4]) == sorted(twice[4:]) == [0, 1, 2, 3]
    assert len(list(data.RandomSampler(range(4), replacement=True, num_samples=40))) == 40
    assert sorted(data.SubsetRandomSampler([3, 1, 4])) == [1, 3, 4]
    assert set(data.WeightedRandomSampler([0.0, 1.0, 1.0], 20)) == {1, 2}
    assert list(data.BatchSampler(data.SequentialSampler(range(7)), 3, True)) == [[0, 1, 2], [3, 4, 5]]
    shares = [list(data.DistributedSampler(range(5), 2, k, shuffle=False)) for k in range(2)]
    assert shares == [[0, 2, 4], [1, 3, 0]]


def test_batches_keep_the_form_of_samples():
    sample = {"n": 1, "f": 0.5, "a": np.arange(2, dtype=np.int32), "t": tg.ones(2), "s": "x", "p": Pair(1, [2, 3.0]), "l": (1, 2)}
    batch = data.default_collate([sample, sample])
    assert batch["n"].tolist() == [1, 1] and batch["f"].dtype is tg.float64 and batch["a"].dtype is tg.int32
    assert batch["t"].shape == (2, 2) and batch["s"] == ["x", "x"] and isinstance(batch["l"], list)
    assert isinstance(batch["p"], Pair) and batch["p"].b[1].tolist() == [3.0, 3.0]
    converted = data.default_convert({"a": np.arange(2), "b": (1, np.float32(2)), "s": np.array("x")})
    assert converted["a"].tolist() == [0, 1] and converted["b"][1].dtype is tg.float32 and isinstance(converted["s"], np.ndarray)


def test_data_sets_of_data_sets():
    a, b = TensorDataset(tg.arange(3)), TensorDataset(tg.arange(10, 12))
    assert [x.item() for (x,) in a + b] == [0, 1, 2, 10, 11] and (a + b)[-1][0].item() == 11
    assert data.Subset(b, [1])[0][0].item() == 11
    assert data.StackDataset(x=range(3), y=range(3, 6))[1] == {"x": 1, "y": 4}
    assert list(DataLoader(data.StackDataset(range(3), "abc"), 3, collate_fn=list)) == [[(0, "a"), (1, "b"), (2, "c")]]
    assert [x.tolist() for x in DataLoader(Counting(3) + Counting(2), 2, drop_last=True)] == [[0, 1], [2, 0]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_batches_of_torch(workers):
    tg.manual_seed(3)
    drawn = [[part.tolist() for part in batch] for batch in DataLoader(Drawing(), 2, num_workers=workers)]
    assert [batch[0] for batch in drawn] == [[0, 1], [2, 3], [4, 5]]
    assert [batch[4] for batch in drawn] == [[k % workers] * 2 for k in range(3)]
    loader = DataLoader(Counting(5), 2, num_workers=workers, persistent_workers=True)
    for _ in range(2):
        assert sorted(i for x in loader for i in x.tolist()) == [0, 1, 2, 3, 4]
    next(iter(loader))  # a pass that is given up
    assert sorted(i for x in loader for i in x.tolist()) == [0, 1, 2, 3, 4]


def test_a_workers_streams_are_seeded_as_torchs():
    from tapegrad.utils.data.worker import numpy_seed

    assert numpy_seed(2**40 + 5, 3) == [3453014069, 1603536151, 2410470037, 3509082754]
    tg.manual_seed(3)
    base = tg.empty((), dtype=tg.int64).random_().item()
    tg.manual_seed(3)
    (index, drawn, by_python, _, _), *_ = DataLoader(Drawing(), 2, num_workers=1)
    assert by_python[0].item() == random.Random(base).random()
    assert drawn[0].item() == tg.rand((), generator=tg.Generator().manual_seed(base)).item()


@pytest.mark.parametrize("call, error, text", [
    (lambda d: list(DataLoader(Failing(), num_workers=1)), KeyError, "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback"),
    (lambda d: DataLoader(d, shuffle=True, sampler=[1]), ValueError, "sampler option is mutually exclusive with shuffle"),
    (lambda d: DataLoader(d, batch_sampler=[[1]], batch_size=3), ValueError, "batch_sampler option is mutually exclusive with batch_size"),
    (lambda d: DataLoader(d, batch_size=0), ValueError, "batch_size should be a positive integer value, but got batch_size=0"),
    (lambda d: DataLoader(d, batch_size=None, drop_last=True), ValueError, "batch_size=None option disables auto-batching"),
    (lambda d: DataLoader(Counting(2), shuffle=True), ValueError, "expected unspecified shuffle option, but got shuffle=True"),
    (lambda d: DataLoader([], shuffle=True), ValueError, "num_samples should be a positive integer value, but got num_samples=0"),
    (lambda d: setattr(DataLoader(d), "batch_size", 3), ValueError, "batch_size attribute should not be set after DataLoader is initialized"),
    (lambda d: DataLoader(d, num_workers=-1), ValueError, "num_workers option should be non-negative"),
    (lambda d: DataLoader(d, prefetch_factor=3), ValueError, "prefetch_factor option could only be specified in multiprocessing"),
    (lambda d: data.random_split(d, [1, 2]), ValueError, "Sum of input lengths does not equal the length of the input dataset!"),
    (lambda d: data.default_collate([[1, 2], [1]]), RuntimeError, "each element in list of batch should be of equal size"),
    (lambda d: data.default_collate([object()]), TypeError, "batch must contain tensors, numpy arrays, numbers, dicts or lists; found <class 'object'>"),
    (lambda d: TensorDataset(tg.ones(2), tg.ones(3)), AssertionError, "Size mismatch between tensors"),
])  # fmt: skip
def test_what_is_refused(call, error, text):
    with pytest.raises(error) as caught:
        call(TensorDataset(tg.arange(4)))
    assert text in str(caught.value)


def test_lengths():
    d = TensorDataset(tg.arange(7))
    assert [len(DataLoader(d, 3)), len(DataLoader(d, 3, drop_last=True)), len(DataLoader(d, None)), len(DataLoader(Counting(8), 3))] == [3, 2, 7, 3]
    loader = DataLoader(Counting(3))
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="was reported to be 2"):
        list(loader)
