"""torch's old constructors: Tensor(2, 3), FloatTensor([1.]), and isinstance by dtype."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.determinism import uninitialised
from tapegrad.device import check as check_device
from tapegrad.engine.bind import Handle
from tapegrad.geometry import Size
from tapegrad.ops.arguments import misfit
from tapegrad.ops.call_forms import forms, type_name


def construct(cls, args, kwargs):
    """`Tensor(2, 3)` uninitialised, `Tensor([1, 2])` from data, `Tensor()` empty: in the default dtype."""
    result = of_dtype(dtypes.default_dtype(), args, kwargs, strict=False)
    return result if cls.__name__ == "Tensor" else result.as_subclass(cls)


def of_dtype(d, args, kwargs, strict=True):
    """A tensor of dtype `d` from sizes, data, a storage or a tensor (of that dtype, if `strict`)."""
    listed = len(args) == 1 and not kwargs.keys() - {"device"} and isinstance(args[0], (list, tuple, np.ndarray)) and not isinstance(args[0], Size)
    form = forms("new", False)[-1] if listed else misfit("new", args, kwargs)
    if isinstance(form, TypeError):
        raise form
    check_device(kwargs.get("device"))
    meant = form.parameters[0].name
    if meant == "device":
        return creation.empty_of((0,), d)
    given = kwargs[meant] if meant in kwargs else args[0]
    if meant == "size":
        return uninitialised(creation.empty_of(creation.size_of("empty", (given,) if meant in kwargs else args), d))
    if meant == "storage":
        return creation.empty_of((0,), d).set_(given)
    if meant == "other":
        if given.dtype is not d and strict:
            raise TypeError(f"expected {described(d)} (got {described(given.dtype)})")
        return given.detach()
    if not hasattr(given, "__len__") or isinstance(given, (dict, set, frozenset)):
        raise TypeError(f"new(): data must be a sequence (got {type_name(given)})")
    return creation.build(list(given) if isinstance(given, range) else given, d)


def described(d) -> str:
    """How torch's refusal of a tensor of another dtype calls it."""
    return (
        f"TensorOptions(dtype={d.short}, device=cpu, layout=Strided, requires_grad=false (default), pinned_memory=false (default), "
        "memory_format=(nullopt))"
    )


class _LegacyType(type):
    """isinstance(x, FloatTensor) asks for the dtype."""

    def __new__(meta, name, bases, names):
        if bases:
            raise TypeError(f"type 'tapegrad.{bases[0].__name__}' is not an acceptable base type")
        return super().__new__(meta, name, bases, names)

    def __instancecheck__(cls, instance):
        return isinstance(instance, Handle) and getattr(instance, "dtype", None) is cls.dtype


def legacy_type(d):
    def new(cls, *args, **kwargs):
        return of_dtype(d, args, kwargs)

    return _LegacyType(d.legacy, (), {"__new__": new, "dtype": d, "__module__": "tapegrad", "__doc__": f"The old constructor of {d.name} tensors."})


TYPES = {d.legacy: legacy_type(d) for d in dtypes.BY_CODE}
