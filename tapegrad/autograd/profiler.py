"""Labelled ranges of time: `record_function` marks one, `profile` collects those that pass while it is active.

Single operations are not events here: most take a tenth of a microsecond, less than it takes to look at a clock.  Label what is of
interest, or use `print(tg.Tape())` to see what was recorded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ContextDecorator
from dataclasses import dataclass, field

_active: list[profile] = []  # of all threads
_lock = threading.Lock()


@dataclass
class FunctionEvent:
    """One range: its name, thread, begin and end in microseconds, and how many ranges it lies in."""

    name: str
    thread: int
    start: float
    end: float = 0.0
    depth: int = 0

    @property
    def cpu_time(self) -> float:
        """The length in microseconds."""
        return self.end - self.start


@dataclass
class FunctionEventAvg:
    """All ranges of one name."""

    key: str
    count: int = 0
    cpu_time_total: float = 0.0

    @property
    def cpu_time(self) -> float:
        """The mean length in microseconds."""
        return self.cpu_time_total / self.count if self.count else 0.0


@dataclass
class EventList:
    """Averages, with a table for printing."""

    averages: list[FunctionEventAvg] = field(default_factory=list)

    def __iter__(self) -> Iterator[FunctionEventAvg]:
        return iter(self.averages)

    def __len__(self) -> int:
        return len(self.averages)

    def __getitem__(self, k: int) -> FunctionEventAvg:
        return self.averages[k]

    def table(self, sort_by: str | None = None, row_limit: int = 100) -> str:
        """The rows as text; `sort_by` is "cpu_time_total", "cpu_time" or "count", the largest first."""
        if sort_by not in (None, "cpu_time_total", "cpu_time", "count"):
            raise AttributeError(f"'FunctionEventAvg' object has no attribute '{sort_by}'")
        rows = sorted(self.averages, key=lambda a: -getattr(a, sort_by)) if sort_by else self.averages
        width = max([4, *(len(a.key) for a in rows)])
        lines = [f"{'Name':<{width}}  {'CPU total':>12}  {'CPU time avg':>12}  {'# of Calls':>10}"]
        lines += [f"{a.key:<{width}}  {_time(a.cpu_time_total):>12}  {_time(a.cpu_time):>12}  {a.count:>10}" for a in rows[:row_limit]]
        return "\n".join(lines)


def _time(us: float) -> str:
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


class record_function(ContextDecorator):
    """A range with a name, as a context manager or a decorator; an event of every `profile` that is active meanwhile.

    >>> import tapegrad as tg
    >>> with tg.autograd.profiler.profile() as p:
    ...     with tg.autograd.profiler.record_function("step"):
    ...         y = tg.ones(2) * 2
    >>> [(a.key, a.count) for a in p.key_averages()]
    [('step', 1)]
    """

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args
        self._open: list[tuple[FunctionEvent, list[profile]]] = []

    def __enter__(self):
        if _active:
            event = FunctionEvent(self.name, threading.get_ident(), time.perf_counter_ns() / 1e3, depth=len(_stack()))
            _stack().append(event)
            self._open.append((event, list(_active)))
        else:
            self._open.append((FunctionEvent(self.name, 0, 0.0), []))
        return self

    def __exit__(self, *exception):
        event, listeners = self._open.pop()
        if listeners:
            event.end = time.perf_counter_ns() / 1e3
            _stack().remove(event)
            with _lock:
                for listener in listeners:
                    listener.function_events.append(event)
        return False


_local = threading.local()


def _stack() -> list:
    if not hasattr(_local, "stack"):
        _local.stack = []
    return _local.stack


class profile:
    """Collects the ranges that `record_function` marks, in all threads, between entering and leaving."""

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self.function_events: list[FunctionEvent] = []

    def __enter__(self):
        if self.enabled:
            if self in _active:
                raise RuntimeError("Profiler context manager is not reentrant")
            with _lock:
                _active.append(self)
        return self

    def __exit__(self, *exception):
        if self.enabled:
            with _lock:
                _active.remove(self)
        return False

    def key_averages(self) -> EventList:
        """One row per name, in order of first appearance."""
        found: dict[str, FunctionEventAvg] = {}
        for event in sorted(self.function_events, key=lambda e: e.start):
            row = found.setdefault(event.name, FunctionEventAvg(event.name))
            row.count += 1
            row.cpu_time_total += event.cpu_time
        return EventList(list(found.values()))

    def total_average(self) -> FunctionEventAvg:
        """All outermost ranges together."""
        outer = [e for e in self.function_events if e.depth == 0]
        return FunctionEventAvg("Total", len(outer), sum(e.cpu_time for e in outer))
