"""Parametrizations: a parameter or buffer of a module that is computed from another whenever it is read.

`register_parametrization` moves the tensor into a `ParametrizationList` under `module.parametrizations`, gives the module a class of its own
(`Parametrized...`, derived from the one it had) and puts a property in the tensor's place.  Reading it calls the parametrizations on the
original, writing it calls their `right_inverse` in reverse.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence

from tapegrad import modes
from tapegrad.nn.modules import ModuleDict, ModuleList
from tapegrad.nn.parameter import Parameter
from tapegrad.tensor import Tensor

_cached: dict = {}  # (id of the module, name) -> the value, while `cached` is active
_depth = [0]

UNSAVED = (
    "Serialization of parametrized modules is only supported through state_dict(). See:\n"
    "https://pytorch.org/tutorials/beginner/saving_loading_models.html#saving-loading-a-general-checkpoint-for-inference-and-or-resuming-training"
)
CHANGES = "Registering a parametrization may not change the {0} of the tensor, unless {1} flag is enabled.\n{2}: {3}\n{4}: {5}"


@contextlib.contextmanager
def cached():
    """Within it every parametrized tensor is computed once, when it is first read."""
    _depth[0] += 1
    try:
        yield
    finally:
        _depth[0] -= 1
        if not _depth[0]:
            _cached.clear()


def _hold(module, name, tensor) -> None:
    (module.register_parameter if isinstance(tensor, Parameter) else module.register_buffer)(name, tensor)


def _kind(value) -> str:
    return type(value).__name__


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, with the tensor that they start from.

    That is `original`, or `original0`, `original1` ... if the last `right_inverse` gives several.  Made by `register_parametrization`.
    """

    def __init__(self, modules, original, unsafe=False):
        if not len(modules):
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with modes.no_grad():
            new = original
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    with contextlib.suppress(NotImplementedError):
                        new = module.right_inverse(new)
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError(f"'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got {_kind(new)}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            self._start_from_one(original, new)
        else:
            self._start_from_several(original, new)
        if not unsafe:
            self._check(shape, dtype)

    def _start_from_one(self, original, new) -> None:
        if new.dtype is not original.dtype:
            raise ValueError(
                f"When `right_inverse` outputs one tensor, it may not change the dtype.\noriginal.dtype: {original.dtype}\n"
                f"right_inverse(original).dtype: {new.dtype}"
            )
        with modes.no_grad():
            original.set_(new)
        _hold(self, "original", original)

    def _start_from_several(self, original, new) -> None:
        for k, each in enumerate(new):
            if not isinstance(each, Tensor):
                raise ValueError(
                    f"'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got element {k} of the sequence with type "
                    f"{_kind(each)}."
                )
            if isinstance(original, Parameter):
                each = Parameter(each, original.requires_grad)
            _hold(self, f"original{k}", each.requires_grad_(original.requires_grad))

    def _check(self, shape, dtype) -> None:
        value = self()
        if not isinstance(value, Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {_kind(value)}.")
        for what, before, after in (("dtype", dtype, value.dtype), ("shape", shape, value.shape)):
            if before != after:
                raise ValueError(CHANGES.format(what, "`unsafe`", f"unparametrized {what}", before, f"parametrized {what}", after))

    def right_inverse(self, value):
        """Set the originals so that the parametrizations give `value`, as far as their inverses know how."""
        with modes.no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {_kind(module)} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {_kind(value)}")
                if value.dtype is not self.original.dtype:
                    raise ValueError(
                        f"The tensor returned by `right_inverse` has dtype {value.dtype} while `original` has dtype {self.original.dtype}"
                    )
                self.original.set_(value)
                return
            if not isinstance(value, Sequence):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {_kind(value)}.")
            if len(value) != self.ntensors:
                raise ValueError(
                    f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of length {len(value)}."
                )
            for k, each in enumerate(value):
                held = getattr(self, f"original{k}")
                if not isinstance(each, Tensor):
                    raise ValueError(f"'right_inverse' must return a sequence of tensors. Got element {k} of type {_kind(each)}")
                if each.dtype is not held.dtype:
                    raise ValueError(f"Tensor {k} returned by `right_inverse` has dtype {each.dtype} while `original{k}` has dtype {held.dtype}")
                held.set_(each)

    def forward(self):
        """The tensor that the parametrizations give."""
        first, *rest = self
        x = first(*([self.original] if self.is_tensor else [getattr(self, f"original{k}") for k in range(self.ntensors)]))
        for module in rest:
            x = module(x)
        return x


def _copy_apart(self, memo):
    """Copy a parametrized module: the copy shares its class."""
    if id(self) in memo:
        return memo[id(self)]
    made = self.__new__(type(self))
    memo[id(self)] = made
    made.__dict__ = copy.deepcopy(self.__dict__, memo)
    return made


def _refuse_pickling(self):
    raise RuntimeError(UNSAVED)


def _own_class(module) -> None:
    """Give the module a class of its own, for the properties."""
    kind = type(module)
    methods: dict = {"__getstate__": _refuse_pickling}
    if not hasattr(kind, "__deepcopy__"):
        methods["__deepcopy__"] = _copy_apart
    module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), methods)


def _put_property(module, name) -> None:
    def read(self):
        if not _depth[0]:
            return self.parametrizations[name]()
        key = id(self), name
        if key not in _cached:
            _cached[key] = self.parametrizations[name]()
        return _cached[key]

    setattr(type(module), name, property(read, lambda self, value: self.parametrizations[name].right_inverse(value)))


def _check_next(module, name, parametrization) -> None:
    """A further parametrization keeps shape and dtype, and so does its inverse."""
    before = getattr(module, name)
    after = parametrization(before)
    if not isinstance(after, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {_kind(after)}.")
    for what in ("dtype", "shape"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            raise ValueError(CHANGES.format(what, "the `unsafe`", f"module.{name}.{what}", old, f"parametrization(module.{name}).{what}", new))
    if not hasattr(parametrization, "right_inverse"):
        return
    try:
        back = parametrization.right_inverse(after)
    except NotImplementedError:
        return
    if not isinstance(back, Tensor):
        raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {_kind(back)}")
    for what in ("dtype", "shape"):
        old, new = getattr(before, what), getattr(back, what)
        if old != new:
            raise ValueError(
                f"The tensor returned by parametrization.right_inverse must have the same {what} as module.{name}, unless the `unsafe` flag is "
                f"enabled.\nmodule.{name}.{what}: {old}\nreturned {what}: {new}"
            )


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Let `module.<tensor_name>` be `parametrization(original)` from now on; returns the module.

    A parametrization may have a `right_inverse`, which says what original gives a value that is assigned.  Several apply one after the other.
    `unsafe` allows a parametrization to change shape or dtype.

    >>> import tapegrad as tg
    >>> class Symmetric(tg.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).mT
    >>> layer = register_parametrization(tg.nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.mT).all())
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        held = module.parametrizations[tensor_name]
        held.append(parametrization)
        held.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _own_class(module)
            module.parametrizations = ModuleDict()
        _put_property(module, tensor_name)
        module.parametrizations[tensor_name] = made
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name '{tensor_name}'")
    return module


def is_parametrized(module, tensor_name=None):
    """Whether a module has a parametrization (of one tensor)."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make a tensor an ordinary one again: with the value that it has, or with the original's; returns the module."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    held = module.parametrizations[tensor_name]
    if held.is_tensor:
        original = held.original
        if leave_parametrized:
            with modes.no_grad():
                original.set_(getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value) if value.requires_grad else value
    else:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a sequence of tensors."
        )
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _hold(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module):
    """The class that a module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Give one module the parametrizations of another, and its originals; returns it."""
    if not is_parametrized(from_module):
        return to_module
    for name in from_module.parametrizations if tensor_name is None else [tensor_name]:
        source = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name)))
        for parametrization in source:
            register_parametrization(to_module, name, parametrization)
        target = to_module.parametrizations[name]
        for held in ["original"] if hasattr(source, "original") else [f"original{k}" for k in range(source.ntensors)]:
            setattr(target, held, getattr(source, held))
    return to_module
