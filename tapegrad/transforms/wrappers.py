"""Levels, and the tensors that they follow.

A level is one vmap or one forward-mode pass that is under way.  Levels nest: each has a depth, greater than those of the levels around
it.  A `Wrapper` is a Tensor at a level; what it wraps are tensors of lower levels, at the bottom plain ones, which compute and which
the tape records.  Its slot shows the shape, dtype and strides that the function under the transform sees; the memory behind it is not
its own, so operations that do not know transforms are refused (`Unhandled`).
"""

from __future__ import annotations

import threading
from typing import Any

from tapegrad import core
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.ops import plan as plans
from tapegrad.ops.transformable import ACTIVE, Unhandled
from tapegrad.tensor import Tensor

NO_ITEM = (
    "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, please try to rewrite what "
    "you're doing with other operations. If error is occurring somewhere inside PyTorch internals, please file a bug report."
)
NO_BRANCH = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that yet, please file an issue at "
    "https://github.com/pytorch/pytorch/issues ."
)
NO_STORAGE = "Cannot access data pointer of Tensor that doesn't have storage"


class _Stack(threading.local):
    """The levels of this thread, outermost first."""

    def __init__(self):
        self.levels: list[Level] = []


_stack = _Stack()


def levels() -> list[Level]:
    """The levels that this thread is inside of, outermost first."""
    return _stack.levels


class Level:
    """One transform under way; a context manager."""

    kind = ""

    def __init__(self):
        self.depth = 0
        self.alive = False

    def __enter__(self):
        stack = _stack.levels
        self.depth = stack[-1].depth + 1 if stack else 1
        self.alive = True
        stack.append(self)
        ACTIVE.append(self)
        return self

    def __exit__(self, *exception):
        self.alive = False
        _stack.levels.remove(self)
        ACTIVE.remove(self)

    def follows(self, value) -> bool:
        """Whether `value` is a tensor of this level."""
        return getattr(value, "_level", None) is self


    def call(self, f, args, kwargs):
        """The transformable function `f` on operands of this level."""
        if f.writes:
            from tapegrad.transforms import writes

            return writes.write(self, f, args, kwargs)
        return self.compute(f, args, kwargs)

    def write_elementwise(self, op, target, values):
        """The in-place form of an elementwise op."""
        from tapegrad.transforms import writes

        return writes.elementwise(self, op, target, values)

    def compute(self, f, args, kwargs):
        raise NotImplementedError

    def prepared(self, target, value):
        """`target` ready to be written with `value`."""
        return target


    def twin(self, t):
        """Another object that is the same tensor of this level."""
        result = make(type(t), self, core.share_slot(t))
        result.__dict__.update(t.__dict__)
        return result


class GradLevel(Level):
    """A reverse-mode transform: no wrappers, but what depends on the nesting asks for it."""

    kind = "grad"


class Wrapper(Tensor):
    """A tensor of a level."""

    _level: Any = None

    def _array(self):
        raise Unhandled

    def _settle(self):
        return self._slot

    def numpy(self, *, force=False):
        raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage")

    def data_ptr(self):
        raise RuntimeError(NO_STORAGE)

    def storage_offset(self):
        return 0

    def __deepcopy__(self, memo):
        return self.clone()

    @property
    def data(self):
        return self.detach()

    @property
    def grad(self):
        return None

    def backward(self, *args, **kwargs):
        from tapegrad import autograd

        autograd.backward(self)

    def _refuse_grad(self, value=True):
        from tapegrad.transforms.reverse import NO_REQUIRES_GRAD

        raise RuntimeError(NO_REQUIRES_GRAD)

    def requires_grad_(self, requires_grad=True):
        self._refuse_grad()


def view_of(result, x, op, key, make_view):
    """Tell a wrapper that it is a view of the wrapper `x`."""
    base = x._base
    result._base = x if base is None else base
    result._parent, result._plan = x, plans.Parameters(op, key=key, make=make_view)
    return result


def make(kind: type, level: Level, slot: int):
    """A wrapper object of class `kind` that holds `slot`."""
    core.set_field(slot, core.FLAGS, layout.TRACKED)
    result = Handle.__new__(kind)
    core.move_handle(result, slot)
    result._level = level
    return result
