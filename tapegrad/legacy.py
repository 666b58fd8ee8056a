"""torch's old constructors: Tensor(2, 3), FloatTensor([1.]), and isinstance by dtype."""

from __future__ import annotations

from tapegrad import creation, dtypes
from tapegrad.engine.bind import Handle


def construct(cls, args, kwargs):
    """`Tensor(2, 3)` uninitialised, `Tensor([1, 2])` from data, `Tensor()` empty: in the default dtype."""
    result = of_dtype(dtypes.default_dtype(), args, strict=False)
    return result if cls.__name__ == "Tensor" else result.as_subclass(cls)


def of_dtype(d, args, strict=True):
    if not args:
        return creation.empty_of((0,), d)
    if len(args) == 1 and not isinstance(args[0], int):
        data = args[0]
        if isinstance(data, tuple) and type(data).__name__ == "Size":
            return creation.empty_of(tuple(data), d)
        if hasattr(data, "_slot"):
            if data.dtype is not d and strict:
                raise TypeError(f"expected tapegrad.{d.legacy} (got tapegrad.{data.dtype.legacy})")
            return data.detach()
        if not hasattr(data, "__len__"):
            raise TypeError(f"new(): data must be a sequence (got {type(data).__name__})")
        return creation.build(data if not isinstance(data, range) else list(data), d)
    return creation.empty_of(creation.size_of("empty", args), d)


class _LegacyType(type):
    """isinstance(x, FloatTensor) asks for the dtype."""

    def __instancecheck__(cls, instance):
        return isinstance(instance, Handle) and getattr(instance, "dtype", None) is cls.dtype


def legacy_type(d):
    def new(cls, *args):
        return of_dtype(d, args)

    return _LegacyType(d.legacy, (), {"__new__": new, "dtype": d, "__module__": "tapegrad", "__doc__": f"The old constructor of {d.name} tensors."})


TYPES = {d.legacy: legacy_type(d) for d in dtypes.BY_CODE}
