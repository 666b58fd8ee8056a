"""Warnings that are given once in a process, as torch gives most of its own."""

from __future__ import annotations

import warnings

_given: set[str] = set()
_always = False
count = 0  # of warnings


def set_warn_always(b: bool, /) -> None:
    """Give what is given once each time instead (for tests); `is_warn_always_enabled` tells.

    >>> import tapegrad as tg
    >>> tg.set_warn_always(False)
    >>> tg.is_warn_always_enabled()
    False
    """
    global _always
    if not isinstance(b, bool):
        raise RuntimeError(f"setWarnOnlyOnce expects a bool, but got {type(b).__name__}")
    _always = b
    from tapegrad.ops import plan

    plan.forget()  # the calls that would warn now, and that compiled code answers


def is_warn_always_enabled() -> bool:
    """Whether what is given once is given each time."""
    return _always


def warn_once(text: str, about: str | None = None, stacklevel: int = 3) -> None:
    """Warn unless it has been done; `about` names the warning if its text varies."""
    if _always or (about or text) not in _given:
        _given.add(about or text)
        warn(text, stacklevel + 1)


def warn(text: str, stacklevel: int = 3) -> None:
    """Warn each time: compiled code is not taught a call that has warned."""
    global count
    count += 1
    warnings.warn(text, UserWarning, stacklevel=stacklevel + 1)
