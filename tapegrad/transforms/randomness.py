"""Random operations under vmap: refused, drawn once for all samples, or drawn for each, as the innermost vmap says, then the next one.

A batch is drawn in one call for its physical shape, as in torch, so equal seeds give equal numbers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from tapegrad.ops.transformable import ACTIVE
from tapegrad.transforms.batching import UNBATCHED_TARGET
from tapegrad.transforms.wrappers import Level, levels

ERROR = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' randomness flags on vmap or perform "
    "the randomness operation out of vmap"
)
ERROR_IN_GRADIENTS = (
    "vmap: We do not yet support calling random operations inside of vmap. Please perform random operations outside of vmap as a workaround"
)
SAME = "Vmap does not currently support same randomness with a batched tensor input. Please file an issue with functorch"
DIFFERENT = (
    "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same randomness. If this is necessary for "
    "your usage, please file an issue with functorch."
)
_done: list[Level] = []  # levels that the draw under way has dealt with


def draws(f):
    """Declare that the results of `f` are random, which all that goes through functions (tests, docs) reads as `f.random`."""
    f.random = True
    return f


def refuse_out() -> None:
    """Random numbers are not drawn into given memory in a vmap."""
    if any(level.kind == "vmap" for level in levels()):
        raise RuntimeError(
            "vmap: We do not support calling out variants of random operations inside of vmap. Please use non-out variants as a workaround"
        )


def refuse(name: str) -> None:
    """Raise in a vmap for a random operation that has no batching rule."""
    if ACTIVE and any(level.kind == "vmap" for level in levels()):
        raise RuntimeError(f"vmap: we do not yet support aten::{name}. Please file an issue")


def innermost():
    """The vmap level that decides about a draw, None if there is none (left); its refusal."""
    level = next((level for level in reversed(levels()) if level.kind == "vmap" and level not in _done), None)
    if level is not None and level.randomness == "error":
        raise RuntimeError(ERROR if level.public else ERROR_IN_GRADIENTS)
    return level


@contextlib.contextmanager
def without(level: Level) -> Iterator[None]:
    """The levels around `level` decide."""
    _done.append(level)
    try:
        yield
    finally:
        _done.pop()


def spread_over(t):
    """`t` repeated for each sample of the vmaps that draw differently, if it is not of theirs: what is filled with draws in its place."""
    for level in levels() if ACTIVE else ():
        if level.kind == "vmap" and level not in _done and level.randomness == "different" and not _is_of(t, level):
            t = level.wrap(t.unsqueeze(0).expand(level.size, *t.shape))
    return t


def _is_of(t, level) -> bool:
    while t._level is not None:
        if t._level is level:
            return True
        t = t._value
    return False


def each_sample(draw: Callable, shape: tuple, out=None):
    """`draw(shape)`, or a batch of such draws; `out` is where they would go, which a vmap refuses first of all."""
    if ACTIVE and out is not None:
        refuse_out()
    level = innermost() if ACTIVE else None
    if level is None:
        return draw(shape)
    with without(level):
        if level.randomness == "same":
            return each_sample(draw, shape)
        return level.wrap(each_sample(draw, (level.size, *shape)))


def of_tensors(f: Callable) -> Callable:
    """Make a random function of tensors follow transforms."""

    @draws
    @functools.wraps(f)
    def run(*args, **kwargs):
        if not ACTIVE:
            return f(*args, **kwargs)
        args = tuple(_value(a) for a in args)
        level = innermost()
        if level is None:
            return f(*args, **kwargs)
        if level.randomness == "same":
            if any(level.follows(a) for a in args):
                raise RuntimeError(SAME)
            with without(level):
                return run(*args, **kwargs)
        args = tuple(level.spread(a) if hasattr(a, "_slot") else a for a in args)
        with without(level):
            return level.wrap(run(*args, **kwargs))

    return run


def _value(a):
    """Random numbers have no tangent."""
    level = getattr(a, "_level", None)
    return _value(a._value) if level is not None and level.kind == "jvp" else a


def in_place(f: Callable) -> Callable:
    """Make a method that fills a tensor with draws follow transforms."""

    @draws
    @functools.wraps(f)
    def run(self, *args, **kwargs):
        if not ACTIVE:
            return f(self, *args, **kwargs)
        own = self._level
        if own is not None and own.kind == "jvp":
            run(self._value, *args, **kwargs)
            self._set_tangent(self._tangent * 0)
            return self
        if own is not None and not own.alive:
            own.escaped((self,), f.__name__)
        args, kwargs = tuple(_value(a) for a in args), {name: _value(a) for name, a in kwargs.items()}
        level = innermost()
        if level is None:
            return f(self, *args, **kwargs)
        if any(level.follows(a) for a in (*args, *kwargs.values())):
            if level.randomness == "same":
                raise RuntimeError(SAME)
            if not level.follows(self):
                name = "bernoulli" if f.__name__.startswith("bernoulli") else "arithmetic"
                raise RuntimeError(UNBATCHED_TARGET.replace("arithmetic", name))
            rank = self.ndim
            args, kwargs = tuple(level.aligned(a, rank) for a in args), {name: level.aligned(a, rank) for name, a in kwargs.items()}
        with without(level):
            if not level.follows(self):
                if level.randomness == "different":
                    raise RuntimeError(DIFFERENT)
                return run(self, *args, **kwargs)
            if level.randomness == "different":
                run(self.movedim_physical(), *args, **kwargs)
            else:
                level.store(self, run(self._value.detach().select(self._bdim, 0).clone(), *args, **kwargs))
            return self

    return run
