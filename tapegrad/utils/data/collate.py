"""Samples put together to a batch: numbers and tensors are stacked, containers keep their form."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.ops.joining import stack
from tapegrad.tensor import Tensor

REFUSED = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
NO_NUMBERS = "SaUO"  # kinds of NumPy dtypes that no tensor has


def has_numbers(array: np.ndarray) -> bool:
    return not any(letter in array.dtype.str for letter in NO_NUMBERS)


def mapped(old: Mapping, items: dict) -> Mapping:
    """A mapping like `old` with other values."""
    try:
        if isinstance(old, MutableMapping):
            new = copy.copy(old)
            new.update(items)
            return new
        return type(old)(items)  # type: ignore[call-arg]
    except TypeError:  # a class that does not take a dict
        return items


def listed(old: Sequence, items: list) -> Sequence:
    """A sequence like `old` with other elements; a tuple becomes a list."""
    if isinstance(old, tuple):
        return type(old)(*items) if hasattr(old, "_fields") else items
    try:
        if isinstance(old, MutableSequence):
            new = copy.copy(old)
            for i, item in enumerate(items):
                new[i] = item
            return new
        return type(old)(items)  # type: ignore[call-arg]
    except TypeError:  # a class that does not take a list
        return items


def default_convert(data):
    """`data` with its NumPy arrays and numbers as tensors, in containers too; everything else as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)) and not isinstance(data, (np.str_, np.bytes_)):
        return creation.as_tensor(data) if isinstance(data, np.generic) or has_numbers(data) else data
    if isinstance(data, Mapping):
        return mapped(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return listed(data, [default_convert(item) for item in data])
    return data


def default_collate(batch):
    """A list of samples as one batch: tensors, arrays and numbers get a new first dimension; floats become float64.

    Containers are gone into: a list of pairs becomes a list of two batches, a list of dicts a dict of batches.  Strings stay a list.
    Raises RuntimeError for containers of different sizes, TypeError for anything else.

    >>> default_collate([(1, 0.5), (2, 1.5)])
    [tensor([1, 2]), tensor([0.5000, 1.5000], dtype=tapegrad.float64)]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(batch, 0)
    if isinstance(first, np.ndarray):
        if not has_numbers(first):
            raise TypeError(REFUSED.format(first.dtype))
        return default_collate([creation.as_tensor(b) for b in batch])
    if type(first) is not float and isinstance(first, (np.bool_, np.number, np.object_)):
        return creation.as_tensor(batch)
    if isinstance(first, float):
        return creation.tensor(batch, dtype=dtypes.float64)
    if isinstance(first, int):
        return creation.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return mapped(first, {key: default_collate([d[key] for d in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return listed(first, [default_collate(samples) for samples in zip(*batch)])
    if isinstance(first, Sequence):
        if any(len(other) != len(first) for other in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return listed(first, [default_collate(samples) for samples in zip(*batch)])
    raise TypeError(REFUSED.format(type(first)))
