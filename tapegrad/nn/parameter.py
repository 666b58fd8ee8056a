"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from tapegrad.nn.uninitialized import UninitializedBuffer, UninitializedParameter, UninitializedTensorMixin, is_lazy
from tapegrad.nn_parameter import Parameter
from tapegrad.tensor import Tensor


class _BufferType(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(metaclass=_BufferType):
    """A tensor that becomes a buffer of the module that it is assigned to: state that is no parameter.

    >>> import tapegrad as tg
    >>> m = tg.nn.Module()
    >>> m.count = tg.nn.Buffer(tg.zeros(2))
    >>> m.state_dict()
    OrderedDict([('count', tensor([0., 0.]))])
    """

    def __new__(cls, data=None, *, persistent=True):
        from tapegrad import creation

        tensor = (creation.empty(0) if data is None else data).detach()
        if data is not None and data.requires_grad:
            tensor.requires_grad_()
        tensor.persistent = persistent
        tensor._is_buffer = True
        return tensor


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "UninitializedTensorMixin", "is_lazy"]
