"""How a counterpart of a NumPy function is registered, and what the rooms of the table share."""

from __future__ import annotations

import functools

import numpy as np

from tapegrad.numpy_protocol import as_tensor, common


class NoCounterpart(Exception):
    """The call has an argument that no op takes."""


def only_numpy(*values) -> None:
    """Raise NoCounterpart unless the values are left out."""
    if any(v is not None and v is not np._NoValue for v in values):
        raise NoCounterpart


def given(value, default):
    return default if value is np._NoValue or value is None else value


ROWS: dict[str, tuple] = {}  # NumPy name (dotted) -> (function, samples)


def row(*samples: str, name: str | None = None, also: tuple[str, ...] = ()):
    """Register a function as the counterpart of the NumPy function of its name."""

    def register(f):
        for n in (name or f.__name__.rstrip("_"), *also):
            ROWS[n] = (f, samples)
        return f

    return register


@functools.cache
def functions() -> dict:
    """NumPy's functions with their counterparts; names that this NumPy does not have are left out."""
    found = {}
    for name, (f, _) in ROWS.items():
        target = functools.reduce(lambda m, part: getattr(m, part, None), name.split("."), np)
        if target is not None and not isinstance(target, np.ufunc):
            found[target] = f
    return found


def tg(name):
    """A function of the package, which may be compiled."""
    import tapegrad

    return getattr(tapegrad, name)


def joined(arrays):
    return common([as_tensor(a) for a in arrays])
