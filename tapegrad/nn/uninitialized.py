"""Parameters and buffers whose shape is not known yet: what lazy modules hold until their first input.

They know their dtype and nothing else; whatever needs more is refused.  `materialize(shape)` turns the object itself into an ordinary one,
so that whoever has it (an optimizer, say) has the right one.
"""

from __future__ import annotations

from typing import Any

from tapegrad import creation, overriding
from tapegrad.nn_parameter import Parameter
from tapegrad.tensor import Tensor

ALLOWED = frozenset("__hash__ size copy_ is_complex is_floating_point half float double char short int long cpu to get_device".split())


class UninitializedTensorMixin:
    """What uninitialised parameters and buffers share."""

    __module__ = "tapegrad.nn.parameter"
    cls_to_become: Any = None
    def materialize(self, shape, device=None, dtype=None):
        """Become an ordinary parameter or buffer of that shape, with values that are still to be set."""
        data = creation.empty(shape, device=device, dtype=self.data.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become
        self.data = data

    @property
    def shape(self):
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in `load_state_dict` when trying to load an "
            "uninitialized parameter into an initialized one. Call `forward` to initialize the parameters before accessing their attributes."
        )

    def share_memory_(self):
        """Refused: there is no memory yet."""
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters before calling "
            "`module.share_memory()`."
        )

    def __repr__(self):
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol):
        return type(self), (self.requires_grad,)

    def __deepcopy__(self, memo):
        memo[id(self)] = copy = type(self)(self.requires_grad, dtype=self.data.dtype)
        return copy

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with overriding.DisableTorchFunctionSubclass():
            if type(func).__name__ == "method-wrapper":  # a property
                return func(*args, **(kwargs or {}))
            if getattr(func, "__name__", "") in ALLOWED:
                plain = [a.as_subclass(Tensor) if is_lazy(a) else a for a in args]
                result = func(*plain, **(kwargs or {}))
                if result is plain[0]:
                    return args[0]
                return result.as_subclass(cls) if isinstance(result, Tensor) and not issubclass(cls, Parameter) else result
        raise ValueError(
            f"Attempted to use an uninitialized parameter in {func}. This error happens when you are using a `LazyModule` or explicitly manipulating "
            f"`tapegrad.nn.parameter.{cls.__name__}` objects. When using LazyModules Call `forward` with a dummy batch to initialize the parameters "
            "before calling tapegrad functions"
        )


class UninitializedParameter(UninitializedTensorMixin, Parameter):  # type: ignore[misc]
    """A parameter whose shape is still unknown.

    >>> import tapegrad as tg
    >>> p = tg.nn.UninitializedParameter()
    >>> p
    <UninitializedParameter>
    >>> p.materialize((2, 3))
    >>> type(p), p.shape
    (<class 'tapegrad.nn.parameter.Parameter'>, tapegrad.Size([2, 3]))
    """

    __module__ = "tapegrad.nn.parameter"
    cls_to_become = Parameter

    def __new__(cls, requires_grad=True, device=None, dtype=None):
        return Tensor._make_subclass(cls, creation.empty(0, device=device, dtype=dtype), requires_grad)

    def __init__(self, requires_grad=True, device=None, dtype=None):
        pass


class UninitializedBuffer(UninitializedTensorMixin, Tensor):  # type: ignore[misc]
    """A buffer whose shape is still unknown."""

    __module__ = "tapegrad.nn.parameter"
    cls_to_become = Tensor

    def __new__(cls, requires_grad=False, device=None, dtype=None, persistent=True):
        self = Tensor._make_subclass(cls, creation.empty(0, device=device, dtype=dtype), requires_grad)
        self.persistent, self._is_buffer = persistent, True
        return self

    def __init__(self, requires_grad=False, device=None, dtype=None, persistent=True):
        pass


def is_lazy(param) -> bool:
    """Whether `param` is an uninitialised parameter or buffer."""
    return isinstance(param, UninitializedTensorMixin)
