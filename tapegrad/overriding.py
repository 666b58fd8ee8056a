"""`__torch_function__`: how types and modes take calls of the public functions over; `tapegrad.overrides` is its public face.

A call that compiled code answers has plain tensors and numbers only and no mode is on, so it overrides nothing and is not looked at.  The
Python form of every public function and method first asks `met` for the arguments whose types have a `__torch_function__` of their own, and
`handle` offers them the call, the most derived type first.  Tensor's own `__torch_function__` (`default`) runs the function with subclasses
disabled and makes its results tensors of the subclass.

A mode (`tapegrad.overrides.TorchFunctionMode`) is asked before the arguments.  While one is on, a bit of the mode word sends every call of the
thread through Python.

Attributes and the small methods that are not functions have no Python form that looks: a subclass with a `__torch_function__` of its own gets
descriptors that do (`hang`).
"""

from __future__ import annotations

import functools
import sys
import threading
import warnings
from inspect import getattr_static
from types import FunctionType

MODE = 1 << 14  # of the mode word: a mode is on


class _State(threading.local):
    subclasses_off = False
    all_off = False
    skip = False  # the next call looks at nothing
    modes: tuple = ()
    running: tuple = ()  # the functions that `default` runs


state = _State()
QUIET: set[type] = {int, float, bool, complex, str, bytes, type(None), slice, type(...), dict, range}  # types that override nothing


def disabled(func, types, args=(), kwargs=None):
    """A `__torch_function__` that overrides nothing: subclasses that have it are treated as plain tensors."""
    return func(*args, **(kwargs or {}))


def overrides(kind: type) -> bool:
    """Whether arguments of a type are asked.  PyTorch's own tensors, which override its functions, are not."""
    if kind in QUIET or getattr(kind, "__torch_function__", disabled) is disabled:
        return False
    torch = sys.modules.get("torch")
    return torch is None or not issubclass(kind, getattr(torch, "Tensor", ()))


def met(args, kwargs=None):
    """The arguments of a call that override it, in the order in which they are asked; None if neither they nor a mode do."""
    found: list = []
    for value in args:
        kind = type(value)
        if kind in QUIET:
            continue
        if kind is list or kind is tuple:
            if value and type(value[0]) not in (int, float):
                for item in value:
                    if overrides(type(item)):
                        add(found, item)
        elif overrides(kind):
            add(found, value)
    if kwargs:
        inner = met(kwargs.values())
        for value in inner or ():
            add(found, value)
    if not found and not state.modes:
        return None
    if state.skip:
        state.skip = False
        return None
    if state.all_off:
        return None
    if state.subclasses_off:
        found = []
    return found if found or state.modes else None


def add(found: list, value) -> None:
    """One more argument that is asked, unless one of its type is already; a subclass comes before its bases."""
    kind = type(value)
    if any(type(other) is kind for other in found):
        return
    place = next((k for k, other in enumerate(found) if issubclass(kind, type(other))), len(found))
    found.insert(place, value)


def handle(func, found, args, kwargs):
    """Offer a call of the public `func` to the modes that are on and to the arguments found."""
    arm()
    types = tuple(map(type, found))
    rest = (kwargs,) if kwargs else ()
    if state.modes:
        with without_top() as mode:
            result = mode.__torch_function__(func, types, args, *rest)
        if result is not NotImplemented:
            return result
    for value in found:
        method = value.__torch_function__
        if getattr(method, "__self__", None) is value:
            warnings.warn(
                "Defining your `__torch_function__` as a plain method is deprecated and will be an error in future, please define it as a classmethod.",
                DeprecationWarning, stacklevel=3,
            )  # fmt: skip
        result = method(func, types, args, *rest)
        if result is not NotImplemented:
            return result
    raise TypeError(
        f"no implementation found for '{name_of(func)}' on types that implement __torch_function__: {list(types)}"
        + (f" nor in mode {state.modes[-1]}" if state.modes else "")
    )


def name_of(func) -> str:
    """The name of a public function in an error."""
    owner = getattr(func, "__objclass__", None)
    prefix = "tapegrad.Tensor" if owner is not None else getattr(func, "__module__", None) or "tapegrad"
    return f"{prefix}.{getattr(func, '__name__', func)}"


# A call is looked at under its public name: the operators that torch offers under the name of the function they are.
OPERATORS = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add_", "__sub__": "sub", "__isub__": "sub_", "__mul__": "mul", "__rmul__": "mul",
    "__imul__": "mul_", "__truediv__": "div", "__itruediv__": "div_", "__mod__": "remainder", "__imod__": "remainder_", "__pow__": "pow",
    "__ipow__": "pow_", "__ifloordiv__": "floor_divide_", "__matmul__": "matmul", "__rand__": "bitwise_and", "__ror__": "bitwise_or",
    "__rxor__": "bitwise_xor", "__ne__": "ne", "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge", "__neg__": "neg",
    "__pos__": "positive", "__abs__": "abs",
}  # fmt: skip
BY_BODY = ("tensor", "as_tensor", "asarray", "from_numpy", "is_tensor", "is_storage")  # what only a mode may take over


def public(name: str, method: bool):
    """The public callable of a name: the one that a user compares with."""
    import tapegrad

    if method:
        return getattr_static(tapegrad.Tensor, OPERATORS.get(name, name))
    found: object = tapegrad
    for part in name.split("."):
        found = getattr(found, part)
    return found


def taken(name: str, method: bool, found, args, kwargs):
    """`handle` for the function or method of a name."""
    return handle(public(name, method), found, args, kwargs)


# --- switches -------------------------------------------------------------------------------------------------------
class _Off:
    """A context manager that switches a field of the thread's state on."""

    field = ""

    def __enter__(self):
        self._before = getattr(state, self.field)
        setattr(state, self.field, True)
        return self

    def __exit__(self, *exception):
        setattr(state, self.field, self._before)


class DisableTorchFunctionSubclass(_Off):
    """Inside, the `__torch_function__` of arguments is not asked: subclasses are plain tensors.  Modes still are.

    >>> import tapegrad as tg
    >>> class Mine(tg.Tensor):
    ...     pass
    >>> with tg._C.DisableTorchFunctionSubclass():
    ...     type(tg.ones(2).as_subclass(Mine) + 1).__name__
    'Tensor'
    """

    field = "subclasses_off"


class DisableTorchFunction(_Off):
    """Inside, neither arguments nor modes are asked."""

    field = "all_off"


class without_top:
    """Inside, the mode that was switched on last is off."""

    def __enter__(self):
        self._before = state.modes
        switch(self._before[:-1])
        return self._before[-1]

    def __exit__(self, *exception):
        switch(self._before)


def switch(stack: tuple) -> None:
    """Make `stack` the modes of the thread, the last one asked first."""
    from tapegrad import modes

    arm()
    state.modes = stack
    modes.set_bits(MODE, bool(stack))


# --- Tensor's own ---------------------------------------------------------------------------------------------------
def default(cls, func, types, args=(), kwargs=None):
    """The body of `Tensor.__torch_function__`: the function's results as tensors of `cls`."""
    if not all(issubclass(cls, kind) for kind in types) or func in state.running:
        return NotImplemented  # a function that asks again what it has just asked is PyTorch's own, which knows nothing of these tensors
    before, state.running = state.running, (*state.running, func)
    try:
        with DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            return result if func in unconverted() else converted(result, cls)
    finally:
        state.running = before


def unconverted() -> set:
    """What gives a tensor as it was given: getters of the graph."""
    from tapegrad.tensor import Tensor

    return {getattr_static(Tensor, name).__get__ for name in ("grad", "_base")}


def converted(result, cls):
    """The tensors in a result as tensors of `cls`; a view stays the view that it is."""
    from tapegrad.tensor import Tensor

    if cls is Tensor:
        return result
    if isinstance(result, Tensor) and not isinstance(result, cls):
        made = result.as_subclass(cls)
        made._base_object, made._parent, made._plan = result._base, result._parent, result._plan
        return made
    if isinstance(result, (tuple, list)):
        items = [converted(item, cls) for item in result]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)
    return result


# --- functions that do not look by themselves -----------------------------------------------------------------------
_spaces: list[tuple] = []  # namespaces of such functions
ARMED: list[bool] = []  # something may override functions


def space(names: dict, only: tuple = ()) -> None:
    """Register a namespace of plain Python functions (or `only` some of them): they look from the moment on that something may override them.

    Until then they are as they are written, so that what is not used costs nothing.
    """
    _spaces.append((names, only))
    if ARMED:
        _arm(names, only)


def arm() -> None:
    """Something may override functions: there is a subclass of Tensor, a mode, or an argument with a `__torch_function__`."""
    if not ARMED:
        ARMED.append(True)
        for found in _spaces:
            _arm(*found)


def _arm(names: dict, only: tuple) -> None:
    for name, f in list(names.items()):
        if (name in only if only else not name.startswith("_")) and isinstance(f, FunctionType) and f.__module__.startswith(names["__name__"]):
            names[name] = Looking(f)


class Looking:
    """A function that looks; equal to the function that it was before."""

    def __init__(self, f):
        functools.update_wrapper(self, f)

    def __call__(self, *args, **kwargs):
        found = met(args, kwargs)
        return self.__wrapped__(*args, **kwargs) if found is None else handle(self, found, args, kwargs)

    def __eq__(self, other):
        return other is self or other is self.__wrapped__

    def __hash__(self):
        return hash(self.__wrapped__)

    def __repr__(self):
        return repr(self.__wrapped__)

    def __reduce__(self):
        return self.__qualname__


# --- attributes of subclasses -----------------------------------------------------------------------------------------
SPECIAL = (
    "__len__ __repr__ __format__ __contains__ __bool__ __float__ __int__ __complex__ __index__ __reversed__ __array__ __copy__ __deepcopy__ __reduce_ex__ "
    "__dir__ _version __dlpack__ __dlpack_device__"
).split()
ALONE = ("as_subclass", "data_slot")  # of the object itself


def hang(cls: type) -> None:
    """Give a subclass with a `__torch_function__` of its own descriptors that ask it, for what it has of Tensor and has not redefined."""
    from tapegrad.ops.public import METHODS
    from tapegrad.tensor import Tensor

    arm()
    own = cls.__mro__[: cls.__mro__.index(Tensor)]
    for part in Tensor.__mro__[:-1]:
        for name, value in list(vars(part).items()):
            if (name.startswith("_") and name not in SPECIAL) or name in ALONE or name in METHODS or any(name in vars(c) for c in own):
                continue
            if hasattr(value, "__get__") and not callable(value):
                setattr(cls, name, _Attribute(name))
            elif callable(value) and not isinstance(value, (classmethod, staticmethod)) and not (hasattr(value, "__objclass__") and served(name)):
                setattr(cls, name, _method(name))
            elif not callable(value) and not isinstance(value, (classmethod, staticmethod)):
                setattr(cls, name, _Attribute(name))


def looks(name: str) -> bool:
    """Whether the function of the package of that name asks."""
    from tapegrad import install
    from tapegrad.ops.public import FUNCTIONS

    return name in FUNCTIONS or name in install.function_names()


def looks_method(name: str) -> bool:
    """Whether the method of that name, as Tensor has it, asks."""
    from tapegrad.ops.public import METHODS

    return name in METHODS or served(name)


def served(name: str) -> bool:
    """Whether the Python form of a compiled method looks by itself."""
    from tapegrad import install

    return name in install.method_names()


class _Attribute:
    """An attribute of Tensor whose reading and writing `__torch_function__` may take over."""

    def __init__(self, name: str):
        self.name = name

    @property
    def plain(self):
        from tapegrad.tensor import Tensor

        found = getattr_static(Tensor, self.name)
        return found if hasattr(found, "__get__") else _constant(self.name, found)

    def __get__(self, instance, owner=None):
        getter = self.plain.__get__
        if instance is None:
            return getter(None, owner)
        found = met((instance,))
        return getter(instance) if found is None else handle(getter, found, (instance,), {})

    def __set__(self, instance, value):
        plain = self.plain
        if not hasattr(plain, "__set__"):
            raise AttributeError(f"attribute '{self.name}' of 'Tensor' objects is not writable")
        found = met((instance,))
        if found is None:
            plain.__set__(instance, value)
        else:
            handle(plain.__set__, found, (instance, value), {})

    def __delete__(self, instance):
        self.plain.__delete__(instance)


class _constant:
    """The getter of what is one value for all tensors."""

    def __init__(self, name, value):
        self.__name__, self.value = name, value

    def __get__(self, instance, owner=None):
        return self.value


def _method(name: str):
    """A method of Tensor that `__torch_function__` may take over."""

    def method(self, *args, **kwargs):
        from tapegrad.tensor import Tensor

        plain = getattr_static(Tensor, name)
        found = met((self, *args), kwargs)
        return plain(self, *args, **kwargs) if found is None else handle(plain, found, (self, *args), kwargs)

    method.__name__ = method.__qualname__ = name
    return method
