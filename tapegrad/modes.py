"""Grad modes, per thread: no_grad, enable_grad, set_grad_enabled, inference_mode.

The mode word lives in the engine (`engine/native/threadmodes.py`), which keeps one per thread and loads the running thread's.
"""

from __future__ import annotations

import ctypes
import functools
import warnings

from tapegrad import core
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell

GRAD, SLOW, FUNCTION = layout.GRAD, layout.SLOW, layout.FUNCTION
INFERENCE, SHOWN, GRAD_MODES = layout.INFERENCE_MODE, layout.SHOWN, layout.GRAD_MODES
ANOMALY = 1 << 9
SAVED_HOOKS = 1 << 10
TRANSFORM = 1 << 11
SERIAL = 1 << 12  # backward passes of this thread use no other threads
VIEW_REPLAY = 1 << 13  # a view whose base has changed is taken again step by step
UNFOLLOWED = 1 << 17  # forward mode computes values only
TEACHING = 1 << 15  # a served callable runs in Python: what it calls must too, so that the plans that it ends up with are seen
WATCHED = ANOMALY | SAVED_HOOKS  # an entry is looked at in Python as soon as it has been recorded (`autograd/watch.py`)


def word() -> int:
    """The running thread's modes."""
    return core.get_mode()


def set_bits(bits: int, on: bool) -> int:
    """Switch mode bits of the running thread; returns the word before."""
    return core.exchange_modes(bits, bits if on else 0)


def restore(before: int) -> None:
    """Put the grad modes back to those of an earlier word; what else was switched meanwhile stays."""
    core.exchange_modes(GRAD_MODES, before & GRAD_MODES)


def set_grad(on: bool) -> int:
    """Switch recording of the running thread; returns the word before."""
    found = core.get_mode()
    if found & TEACHING and not found & INFERENCE:
        return core.exchange_modes(GRAD | layout.UNRECORDED, GRAD if on else layout.UNRECORDED)
    return set_bits(SHOWN if found & INFERENCE else GRAD, on)


def set_everywhere(bits: int, on: bool) -> None:
    """Switch mode bits of every thread, those to come included."""
    set_bits(bits, on)
    rows = state_cell("thread_room").value
    words: ctypes.Array = (ctypes.c_int64 * rows).from_address(state_cell("thread_modes").value)
    for thread, found in enumerate(words):
        if found:
            found = found | bits if on else found & ~bits
            words[thread] = found | SLOW if found & layout.FEATURES else found & ~SLOW
    start = state_cell("thread_start")
    start.value = (start.value | bits | SLOW) if on else 0


def is_grad_enabled() -> bool:
    """Whether operations of this thread are recorded."""
    found = word()
    return bool(found & (SHOWN if found & INFERENCE else GRAD))


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside inference_mode."""
    return bool(word() & INFERENCE)


class _ModeContext:
    """A context manager that is also a decorator (of functions and generators) and may be used without parentheses."""

    on = False

    def __new__(cls, function=None):
        self = super().__new__(cls)
        self._before = []
        return self(function) if callable(function) else self

    def __init__(self, function=None):
        pass

    def __enter__(self):
        self._before.append(set_grad(self.on))

    def __exit__(self, *exception):
        restore(self._before.pop())

    def clone(self):
        return type(self)()

    def __call__(self, function):
        import inspect

        if inspect.isclass(function):
            warnings.warn(
                "Decorating classes is deprecated and will be disabled in future versions. You should only decorate functions or methods. To "
                "preserve the current behavior of class decoration, you can directly decorate the `__init__` method and nothing else.",
                FutureWarning,
                stacklevel=2,
            )
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args, **kwargs):
                source = function(*args, **kwargs)
                send, value = source.send, None
                while True:
                    try:
                        with self.clone():
                            item = send(value)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        value, send = (yield item), source.send
                    except GeneratorExit:
                        with self.clone():
                            source.close()
                        raise
                    except BaseException as error:
                        value, send = error, source.throw

            return generator

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with self.clone():
                return function(*args, **kwargs)

        return wrapper


class no_grad(_ModeContext):
    """Operations inside are not recorded.  Context manager or decorator.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    __module__ = "tapegrad.autograd.grad_mode"


class enable_grad(_ModeContext):
    """Operations inside are recorded, even within no_grad."""

    __module__ = "tapegrad.autograd.grad_mode"

    on = True


class set_grad_enabled(_ModeContext):
    """Switch recording at once; as a context manager, until its end."""

    __module__ = "tapegrad.autograd.grad_mode"

    def __new__(cls, mode):
        return object.__new__(cls)

    def __init__(self, mode: bool):
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}")
        self.mode = mode
        self._before = [set_grad(mode)]

    def __enter__(self):
        if not self._before:
            self._before.append(set_grad(self.mode))

    def __call__(self, function):
        restore(self._before.pop())
        return super().__call__(function)

    def clone(self):
        return type(self)(self.mode)

    def __repr__(self):
        return f"tapegrad.autograd.grad_mode.set_grad_enabled(mode={self.mode})"


class inference_mode(_ModeContext):
    """Like no_grad, and the tensors made inside may not enter a recorded computation afterwards."""

    __module__ = "tapegrad.autograd.grad_mode"

    def __new__(cls, mode=True):
        self = object.__new__(cls)
        self._before = []
        if callable(mode):
            self.mode = True
            return self(mode)
        return self

    def __init__(self, mode=True):
        self.mode = bool(mode)

    def __enter__(self):
        before = set_bits(GRAD | SHOWN, False)
        set_bits(INFERENCE, self.mode)
        if not self.mode:
            set_bits(GRAD, True)
        self._before.append(before)

    def clone(self):
        return type(self)(self.mode)


def is_multithreading_enabled() -> bool:
    """Whether backward passes of this thread may use the threads of the pool."""
    return not word() & SERIAL


class _Switch(_ModeContext):
    """Switch `bits` on or off at once; as a context manager, until its end."""

    bits = 0
    inverted = False  # whether the bits mean the opposite

    def __new__(cls, mode):
        return object.__new__(cls)

    def __init__(self, mode: bool):
        self.mode = mode
        self._before = [bool(set_bits(self.bits, bool(mode) is not self.inverted) & self.bits)]

    def __enter__(self):
        pass

    def __exit__(self, *exception):
        set_bits(self.bits, self._before[0])

    def clone(self):
        return type(self)(self.mode)


class set_multithreading_enabled(_Switch):
    """Let backward passes of this thread use one thread only (False) or all; as a context manager, until its end."""

    bits, inverted = SERIAL, True
