"""Parameter: a leaf tensor that modules recognise."""

from __future__ import annotations

from tapegrad import overriding
from tapegrad.tensor import Tensor, _TensorType


class _ParameterType(_TensorType):
    """The type of Parameter: a tensor of another subclass is one too if it was made by `Parameter(tensor)`."""

    def __instancecheck__(cls, instance):
        if type.__instancecheck__(cls, instance):
            return True
        return cls is Parameter and isinstance(instance, Tensor) and getattr(instance, "_is_param", False)


class Parameter(Tensor, metaclass=_ParameterType):
    """A tensor that is a module's parameter when assigned to it; requires grad by default."""

    __module__ = "tapegrad.nn.parameter"
    __slots__ = ()
    __torch_function__ = overriding.disabled  # type: ignore[assignment]

    def __new__(cls, data=None, requires_grad=True):
        from tapegrad import core, creation
        from tapegrad.engine import layout

        if data is None:
            data = creation.empty(0)
        if overriding.overrides(type(data)):
            return _of_subclass(data, requires_grad)
        self = Tensor.__new__(cls)
        source = data.detach()
        if source._level is not None:  # a wrapper has the class of its level
            return source
        core.move_handle(self, core.share_slot(source))
        core.set_field(self._slot, core.FLAGS, core.get_field(source._slot, core.FLAGS) & layout.INFERENCE)
        if requires_grad:
            _record_from_here(self)
        return self

    def __init__(self, data=None, requires_grad=True):
        pass

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo):
        copy = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = copy
        return copy


def _record_from_here(parameter) -> None:
    """`requires_grad_`, which functions under a transform may not call, for a parameter that they make."""
    parameter._check_may_require_grad("Only Tensors of floating point and complex dtype can require gradients")
    parameter._require_grad()


def _of_subclass(data, requires_grad: bool):
    """A tensor of a subclass as a parameter: it stays of its class."""
    made = data.detach().requires_grad_(requires_grad)
    if type(made) is not type(data):
        raise RuntimeError(
            f"Creating a Parameter from an instance of type {type(data).__name__} requires that detach() returns an instance of the same type, but "
            f"return type {type(made).__name__} was found instead. To use the type as a Parameter, please correct the detach() semantics "
            "defined by its __torch_dispatch__() implementation."
        )
    made._is_param = True
    return made
