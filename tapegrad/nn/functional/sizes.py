"""One int or one per dim: how sizes of windows are given."""

from __future__ import annotations

from collections.abc import Iterable


def pair(value) -> tuple:
    """`value` as a pair; what has elements as it is."""
    return tuple(value) if isinstance(value, Iterable) else (value, value)


def per_dim(value, n: int) -> tuple:
    """`value` for each of n dims."""
    if isinstance(value, (tuple, list)):
        return tuple(value) * n if len(value) == 1 else tuple(value)
    return (value,) * n
