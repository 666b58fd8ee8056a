"""Levels, and the tensors that they follow.

A level is one vmap or one forward-mode pass that is under way.  Levels nest: each has a depth, greater than those of the levels around
it.  A `Wrapper` is a Tensor at a level; what it wraps are tensors of lower levels, at the bottom plain ones, which compute and which
the tape records.  Its slot shows the shape, dtype and strides that the function under the transform sees; the memory behind it is not
its own, so operations that do not know transforms are refused (`Unhandled`).
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from typing import Any

from tapegrad import core, dispatch, modes, overriding
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle, state_cell
from tapegrad.ops import plan as plans
from tapegrad.ops.transformable import ACTIVE, Unhandled, plain
from tapegrad.tensor import Tensor
from tapegrad.utils._pytree import tree_leaves

NO_ITEM = (
    "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, please try to rewrite what "
    "you're doing with other operations. If error is occurring somewhere inside PyTorch internals, please file a bug report."
)
NO_ITEM_IN_GRADIENTS = "Batching rule not implemented for aten::item. We could not generate a fallback."
NO_BRANCH = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that yet, please file an issue at "
    "https://github.com/pytorch/pytorch/issues ."
)


def unsupported(method: str, note: str = "") -> str:
    """The text that refuses a Tensor method in a function that is being transformed."""
    return (
        f"You are attempting to call Tensor.{method}() {note}inside of a function being transformed by a functorch transform. This is unsupported, "
        f"please attempt to use the functorch transforms (e.g. grad, vjp, jacrev, jacfwd, hessian) or call {method}() outside of a function being "
        "transformed instead."
    )


NO_REQUIRES_GRAD = unsupported("requires_grad_", "(or perhaps using torch.autograd.functional.* APIs) ")
NO_BACKWARD = (
    "backward() called inside a functorch transform. This is not supported, please use functorch.grad or functorch.vjp instead or call backward() "
    "outside of functorch transforms."
)
NO_SAVED_HOOKS = "torch.func.{grad, vjp, jacrev, hessian} don't yet support saved tensor hooks. Please open an issue with your use case."
NO_STORAGE = "Cannot access data pointer of Tensor that doesn't have storage"


class _Stack(threading.local):
    """The levels of this thread, outermost first."""

    def __init__(self):
        self.levels: list[Level] = []
        self.bodies = 0  # how many functions of the package run on wrappers: what those ask of values falls back, and is not the user's asking


_stack = _Stack()


def levels() -> list[Level]:
    """The levels that this thread is inside of, outermost first."""
    return _stack.levels


def run_body(f, args, kwargs):
    """The body of a transformable function on wrappers."""
    _stack.bodies += 1
    try:
        return f.__wrapped__(*args, **kwargs)
    finally:
        _stack.bodies -= 1


def in_body() -> bool:
    return _stack.bodies > 0


def own_leaf(leaf) -> None:
    """A leaf that requires grad was made, or is left by a transform that ended: it belongs to the innermost reverse-mode transform."""
    level = next((level for level in reversed(_stack.levels) if level.kind == "grad"), None)
    if level is not None:
        level.leaves.append(leaf)


def refuse_inside(text: str) -> None:
    """Raise in a function that is being transformed."""
    if any(level.public for level in _stack.levels):
        raise RuntimeError(text)


def born(slot: int) -> int:
    """How many function transforms had begun when the memory of `slot`, whose tensor no level follows, was made."""
    row = state_cell("buffers").value + core.get_field(slot, core.BUFFER) * layout.BUFFER.size
    return ctypes.c_int32.from_address(row + layout.BUFFER.offset["born"]).value


def captured(slot: int) -> bool:
    """Whether the tensor of `slot` was made before the innermost derivative's function began."""
    level = next((level for level in reversed(_stack.levels) if level.public and level.kind != "vmap"), None)
    return level is not None and born(slot) < level.serial


def refuse_captured(target, name: str) -> None:
    """Refuse to change a tensor that was there before a derivative's function began, unless it was given as an argument."""
    level = next((level for level in reversed(_stack.levels) if level.public and level.kind != "vmap"), None)
    if level is None:
        return
    if born(target._slot) < level.serial and core.get_field(target._slot, core.BUFFER) not in level.arguments:
        raise RuntimeError(
            f"During a grad (vjp, jvp, grad, etc) transform, the function provided attempted to call in-place operation (aten::{name}) that would "
            "mutate a captured Tensor. This is not supported; please rewrite the function being transformed to explicitly accept the mutated "
            "Tensor(s) as inputs."
        )


@contextlib.contextmanager
def own_writes():
    """An operation changes what it keeps between calls, which the function under a transform may have captured."""
    before = modes.set_bits(modes.FUNCTION, False) & modes.FUNCTION
    try:
        yield
    finally:
        modes.set_bits(modes.FUNCTION, bool(before))


class Ended:
    """Stands in `ACTIVE` for a level that has ended for as long as anything refers to it: its tensors may have escaped."""

    def __init__(self, level: Level):
        self.level = weakref.ref(level, self.forget)
        ACTIVE.append(self)

    def forget(self, reference):
        ACTIVE.remove(self)


class Level:
    """One transform under way; a context manager."""

    kind = ""
    public = True  # of a function transform, which forbids what would reach past it

    def __init__(self):
        self.depth = 0
        self.alive = False
        self.serial = 0  # which of all function transforms it is
        self.arguments: set[int] = set()  # the buffers of what its function was given
        self.originals: set[int] = set()  # the ids of those tensors
        self._mode = 0

    def given(self, tree):
        """Remember the arguments of the function, which it may change."""
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                self.arguments.add(core.get_field(plain(leaf)._slot, core.BUFFER))
                self.originals.add(id(plain(leaf)))
        return self

    def __enter__(self):
        stack = _stack.levels
        self.depth = stack[-1].depth + 1 if stack else 1
        self.alive = True
        stack.append(self)
        ACTIVE.append(self)
        if self.public:
            transforms = state_cell("transforms")
            transforms.value += 1
            self.serial = transforms.value
            self._mode = modes.set_bits(modes.FUNCTION, True) & modes.FUNCTION
        return self

    def __exit__(self, *exception):
        self.alive = False
        _stack.levels.remove(self)
        ACTIVE.remove(self)
        if self.public:
            modes.set_bits(modes.FUNCTION, bool(self._mode))
            if self.kind != "grad":
                Ended(self)

    def escaped(self, values, name: str = ""):
        """The operands of the operation `name` as they count after the level has ended; raises if they must not be used."""
        raise NotImplementedError

    def follows(self, value) -> bool:
        """Whether `value` is a tensor of this level."""
        return getattr(value, "_level", None) is self


    def stands_aside(self) -> bool:
        """Whether operations see what the level's tensors are without it."""
        return not self.alive

    def call(self, f, args, kwargs):
        """The transformable function `f` on operands of this level."""
        if self.stands_aside():
            args, kwargs = self.escaped((args, kwargs), f.__name__)
            return f(*args, **kwargs)
        if kwargs.get("out") is not None:
            self.refuse_out(f.__name__)
        if f.writes:
            from tapegrad.transforms import writes

            return writes.write(self, f, args, kwargs)
        return self.compute(f, args, kwargs)

    def write_elementwise(self, op, target, values):
        """The in-place form of an elementwise op."""
        from tapegrad.transforms import writes

        if self.stands_aside():
            return dispatch.call_inplace(op, *self.escaped((target, *values), op.name + "_"))
        return writes.elementwise(self, op, target, values)

    def compute(self, f, args, kwargs):
        raise NotImplementedError

    def refuse_out(self, name: str):
        """Raise for an `out=` that is, or would hold, a tensor of this level."""
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
    _hooks_refused: str | None = None  # the refusal of saved-tensor hooks around it
    _inference = False  # whether it is inference mode around it

    def __init__(self):
        super().__init__()
        self.points: list = []  # the names of its arguments by which it differentiates
        self.leaves: list = []  # those, and the leaves that its function makes: nothing around the transform depends on them

    def __enter__(self):
        from tapegrad.autograd import saved

        self._hooks_refused = saved.refuse_hooks(NO_SAVED_HOOKS)
        self._inference = bool(modes.set_bits(modes.INFERENCE, False) & modes.INFERENCE)
        return super().__enter__()

    def __exit__(self, *exception):
        from tapegrad.autograd import saved

        super().__exit__(*exception)
        modes.set_bits(modes.INFERENCE, self._inference)
        for leaf in (*self.points, *self.leaves):  # what the transform around this one made of its results depends on them
            if leaf.is_leaf:
                own_leaf(leaf)
        saved.refuse_hooks(self._hooks_refused, even_active=False)


class Wrapper(Tensor):
    """A tensor of a level."""

    _level: Any = None
    __torch_function__ = overriding.disabled

    def _array(self):
        raise Unhandled

    def _settle(self):
        return self._slot

    def numpy(self, *, force=False):
        raise Unhandled if in_body() else RuntimeError(NO_STORAGE)

    def data_ptr(self):
        raise RuntimeError(NO_STORAGE)

    def storage_offset(self):
        return 0

    _kind = "TensorWrapper"  # torch's name for such a tensor

    def _refuse_storage(self, *args):
        raise NotImplementedError(f"Cannot access storage of {self._kind}")

    __copy__ = __deepcopy__ = __reduce_ex__ = untyped_storage = _refuse_storage

    @property
    def data(self):
        return self.detach()

    @property
    def grad(self):
        return None

    def __repr__(self, *, tensor_contents=None):
        from tapegrad.transforms import showing

        return showing.text(self)

    def _refuse_grad(self, value=True):
        raise RuntimeError(NO_REQUIRES_GRAD)

    def requires_grad_(self, requires_grad=True):
        self._refuse_grad()


def view_of(result, x, op, key, make_view):
    """Tell a wrapper that it is a view of the wrapper `x`."""
    base = x._base
    result._base_object = x if base is None else base
    result._parent, result._plan = x, plans.Parameters(op, key=key, make=make_view)
    return result


def make(kind: type, level: Level, slot: int):
    """A wrapper object of class `kind` that holds `slot`."""
    core.set_field(slot, core.FLAGS, layout.TRACKED)
    result = Handle.__new__(kind)
    core.move_handle(result, slot)
    result._level = level
    return result
