"""The locks of what all threads share, which a fork waits for: a child's copy of a lock that another thread held would never open.

A thread takes them in the order of `order`, as a fork does.
"""

from __future__ import annotations

import functools
import os
import threading

starting = threading.RLock()  # whoever loads the engine: a second thread waits until it is whole; the first may ask again while it starts
tables = threading.RLock()  # whoever adds to a table that compiled code reads
compiler = threading.RLock()  # whoever imports the compiler or compiles
order: list = [starting, tables, compiler]  # `engine.build` adds LLVM's, which finalizers take anywhere


def _take() -> None:
    for lock in order:
        lock.__enter__()


def _give() -> None:
    for lock in reversed(order):
        lock.__exit__(None, None, None)


os.register_at_fork(before=_take, after_in_parent=_give, after_in_child=_give)


def holding(lock):
    """A decorator: the function runs in one thread at a time."""

    def wrap(f):
        @functools.wraps(f)
        def run(*args, **kwargs):
            with lock:
                return f(*args, **kwargs)

        return run

    return wrap
