"""`tapegrad.overrides`: the tools for `__torch_function__`, as `torch.overrides` has them (see `overriding` for how calls are taken over).

A type with a class method `__torch_function__(cls, func, types, args=(), kwargs=None)` is asked whenever one of its instances is an argument of
a public function or method; `func` is that function, `types` are the types that are asked.  A subclass of Tensor inherits one that makes the
results of operations tensors of the subclass.

>>> import tapegrad as tg
>>> class Counted(tg.Tensor):
...     calls = []
...     @classmethod
...     def __torch_function__(cls, func, types, args=(), kwargs=None):
...         cls.calls.append(tg.overrides.resolve_name(func))
...         return super().__torch_function__(func, types, args, kwargs)
>>> x = tg.ones(2).as_subclass(Counted)
>>> type(tg.exp(x) * 2).__name__, Counted.calls
('Counted', ['tapegrad.exp', 'tapegrad.Tensor.mul'])
"""

from __future__ import annotations

import functools
import types as _types
import warnings
from inspect import getattr_static

from tapegrad import overriding
from tapegrad.overriding import DisableTorchFunction, DisableTorchFunctionSubclass

__all__ = [
    "BaseTorchFunctionMode", "TorchFunctionMode", "get_default_nowrap_functions", "get_ignored_functions", "get_overridable_functions",
    "handle_torch_function", "has_torch_function", "has_torch_function_unary", "has_torch_function_variadic", "is_tensor_like",
    "is_tensor_method_or_property", "redispatch_function", "resolve_name", "wrap_torch_function",
]  # fmt: skip
__all__ += ["DisableTorchFunction", "DisableTorchFunctionSubclass"]


def has_torch_function(relevant_args) -> bool:
    """Whether a mode is on or one of some arguments has a `__torch_function__` that would be asked."""
    state = overriding.state
    if state.all_off:
        return False
    return bool(state.modes) or (not state.subclasses_off and any(overriding.overrides(type(value)) for value in relevant_args))


def has_torch_function_unary(obj) -> bool:
    """`has_torch_function` for one argument."""
    return has_torch_function((obj,))


def has_torch_function_variadic(*args) -> bool:
    """`has_torch_function` for arguments given one by one."""
    return has_torch_function(args)


def handle_torch_function(public_api, relevant_args, *args, **kwargs):
    """Offer the call `public_api(*args, **kwargs)` to the modes that are on and the `__torch_function__` of some arguments.

    TypeError if all of them return NotImplemented.

    >>> import tapegrad as tg
    >>> def twice(x):
    ...     if tg.overrides.has_torch_function_unary(x):
    ...         return tg.overrides.handle_torch_function(twice, (x,), x)
    ...     return x + x
    """
    found: list = []
    if not overriding.state.subclasses_off and not overriding.state.all_off:
        for value in relevant_args:
            if overriding.overrides(type(value)):
                overriding.add(found, value)
    return overriding.handle(public_api, found, args, kwargs)


def wrap_torch_function(dispatcher):
    """Decorate a function so that it may be overridden; `dispatcher`, called with its arguments, returns those to ask."""

    def decorate(func):
        @functools.wraps(func)
        def wrapped(*args, **kwargs):
            relevant = dispatcher(*args, **kwargs)
            if has_torch_function(relevant):
                return handle_torch_function(wrapped, relevant, *args, **kwargs)
            return func(*args, **kwargs)

        return wrapped

    return decorate


def is_tensor_like(inp) -> bool:
    """Whether something is a Tensor or has a `__torch_function__`."""
    return hasattr(inp, "__torch_function__")


def redispatch_function(func, types, args, kwargs):
    """Call `func` itself, without asking anyone about this call; calls inside it are looked at."""
    state = overriding.state
    state.skip = True
    try:
        return func(*args, **(kwargs or {}))
    finally:
        state.skip = False


class TorchFunctionMode:
    """A context manager whose `__torch_function__` is asked about every call of a public function inside, before any argument is.

    While it answers it is off, so that it may call what it is asked about.  A subclass gives `__torch_function__`.

    >>> import tapegrad as tg
    >>> class Log(tg.overrides.TorchFunctionMode):
    ...     def __torch_function__(self, func, types, args=(), kwargs=None):
    ...         print(tg.overrides.resolve_name(func))
    ...         return func(*args, **(kwargs or {}))
    >>> with Log():
    ...     x = tg.ones(2).sum()
    tapegrad.ones
    tapegrad.Tensor.sum
    """

    def __init__(self) -> None:
        pass

    def __torch_function__(self, func, types, args=(), kwargs=None):
        raise NotImplementedError

    def __enter__(self):
        overriding.switch((*overriding.state.modes, self))
        return self

    def __exit__(self, *exception):
        overriding.switch(overriding.state.modes[:-1])

    @classmethod
    def push(cls, *args, **kwargs):
        """The old way to make one."""
        warnings.warn("`Mode.push()` is no longer necessary and can be replaced with just `with Mode()`", stacklevel=2)
        return cls(*args, **kwargs)


class BaseTorchFunctionMode(TorchFunctionMode):
    """A mode that changes nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def _get_current_function_mode():
    return overriding.state.modes[-1] if overriding.state.modes else None


def _get_current_function_mode_stack() -> list:
    return list(overriding.state.modes)


# --- lists of functions ---------------------------------------------------------------------------------------------
IGNORED = (
    "arange as_tensor asarray can_cast empty empty_strided empty_permuted enable_grad eye finfo frombuffer from_dlpack from_numpy full "
    "get_default_device get_default_dtype get_device get_num_threads get_printoptions get_rng_state iinfo inference_mode initial_seed is_grad_enabled "
    "is_inference_mode_enabled is_tensor kaiser_window linspace load logspace manual_seed no_grad normal ones printoptions promote_types rand "
    "randint randn randperm range save scalar_tensor seed set_default_device set_default_dtype set_default_tensor_type set_grad_enabled "
    "set_num_threads set_printoptions set_rng_state tensor tril_indices triu_indices vmap zeros"
).split()  # of the package: what has no tensor among its arguments


def get_default_nowrap_functions() -> set:
    """The functions whose results Tensor's `__torch_function__` gives as they are."""
    return overriding.unconverted()


def get_ignored_functions() -> set:
    """The public functions that no argument can override."""
    import tapegrad

    return {getattr(tapegrad, name) for name in IGNORED if hasattr(tapegrad, name)} | {tapegrad.Tensor.as_subclass, tapegrad.Tensor.__new__}


def _spaces() -> dict:
    import tapegrad

    return {"tapegrad": tapegrad, "tapegrad.linalg": tapegrad.linalg, "tapegrad.special": tapegrad.special}


def _entries():
    """(namespace, public name, function) of everything that may be overridden."""
    from tapegrad.tensor import Tensor

    ignored = get_ignored_functions()
    for prefix, space in _spaces().items():
        for name in dir(space):
            f = getattr(space, name)
            if not name.startswith("_") and name[0].islower() and callable(f) and not isinstance(f, (type, _types.ModuleType)) and f not in ignored:
                if prefix != "tapegrad" or not getattr(f, "__module__", None) or overriding.looks(name):
                    yield space, f"{prefix}.{name}", f
    for name in dir(Tensor):
        f = getattr_static(Tensor, name, None)
        if f is None or name.startswith("_") and name not in overriding.SPECIAL and not overriding.looks_method(name) or name in overriding.ALONE:
            continue
        if not callable(f) and hasattr(f, "__get__") and not isinstance(f, (classmethod, staticmethod)):
            yield Tensor, f"tapegrad.Tensor.{name}.__get__", f.__get__
        elif callable(f):
            yield Tensor, f"tapegrad.Tensor.{name}", f


def get_overridable_functions() -> dict:
    """Namespace -> the functions in it that a `__torch_function__` may take over; of Tensor, methods and the getters of attributes."""
    found: dict = {}
    for space, _, f in _entries():
        found.setdefault(space, []).append(f)
    return found


def resolve_name(f) -> str | None:
    """The public name of a function that a `__torch_function__` is asked about; None for others.

    >>> import tapegrad as tg
    >>> tg.overrides.resolve_name(tg.Tensor.add)
    'tapegrad.Tensor.add'
    """
    return next((name for _, name, known in _entries() if known is f or known == f), None)


def is_tensor_method_or_property(func) -> bool:
    """Whether a function is a method of Tensor, or the getter or setter of one of its attributes."""
    from tapegrad.tensor import Tensor

    return getattr(func, "__name__", "") in ("__get__", "__set__") or any(space is Tensor and (known is func or known == func) for space, _, known in _entries())
