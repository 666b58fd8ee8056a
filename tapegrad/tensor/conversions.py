"""Conversions: a tensor as numbers, lists, NumPy arrays, and in other dtypes."""

from __future__ import annotations

import ctypes

import numpy as np

from tapegrad import core, dtypes, formats, geometry, modes
from tapegrad.cautions import warn_once
from tapegrad.core import DTYPE, FLAGS, GEOMETRY
from tapegrad.dtypes import BY_CODE, CONJ, OF_SLOT, PLAIN
from tapegrad.engine.bind import Handle
from tapegrad.ops import chains


class _Exporter:
    """Gives NumPy the memory of a tensor and keeps the tensor alive while an array looks at it."""

    __slots__ = ("__array_interface__", "tensor")

    def __init__(self, tensor, interface):
        self.tensor = tensor
        self.__array_interface__ = interface


kind_of = type  # which is the name of a method below


class Conversions(Handle):
    """The methods of Tensor that give its elements in another form."""

    __slots__ = ()

    def _array(self) -> np.ndarray:
        """The elements as a NumPy array over the same memory, whatever the grad state; over a copy if that holds their conjugates or negatives."""
        chains.looked(self)
        if core.get_field(self._slot, DTYPE) > PLAIN:
            return self._carried_out()
        g = core.get_field(self._slot, GEOMETRY)
        d = OF_SLOT[core.get_field(self._slot, DTYPE)]
        shape, steps = geometry.shapes[g], geometry.strides[g]
        if geometry.numels[g] == 0:
            return np.empty(shape, d.numpy)
        span = 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
        memory = (ctypes.c_char * (span * d.itemsize)).from_address(core.data_of(self._slot))
        memory.holder = self  # the array keeps a tensor alive that nothing else does
        return np.ndarray(tuple(shape), d.numpy, memory, 0, tuple(s * d.itemsize for s in steps))

    def _carried_out(self) -> np.ndarray:
        from tapegrad.ops import postponed

        array = postponed.carried_out(self.detach())._array()
        array.flags.writeable = False  # a write would be lost
        return array

    def _values(self) -> np.ndarray:
        """The elements as numbers NumPy can compute with: `_array`, or a wider copy for the half-precision dtypes."""
        return dtypes.from_stored(self._array(), OF_SLOT[core.get_field(self._slot, DTYPE)])

    def to(self, *args, dtype=None, device=None, copy=False, non_blocking=False, memory_format=None):
        """The tensor in another dtype; itself if nothing changes."""
        from tapegrad import dispatch
        from tapegrad.creation import check_dtype
        from tapegrad.device import check as check_device

        if isinstance(dtype, Handle) or len(args) > 4:
            raise TypeError("to() takes a device, a dtype or a tensor")
        rest = list(args)
        first = rest[0] if rest else None
        if isinstance(first, Handle):  # to(other, non_blocking, copy)
            dtype = rest.pop(0).dtype
        elif isinstance(first, (dtypes.dtype, type)):  # to(dtype, non_blocking, copy)
            dtype = rest.pop(0)
        elif rest:  # to(device, dtype, non_blocking, copy)
            check_device(rest.pop(0))
            dtype = rest.pop(0) if rest else dtype
        if not all(isinstance(flag, bool) for flag in rest) or len(rest) > 2:
            raise TypeError("to() takes truth values after the device and the dtype")
        copy = rest[1] if len(rest) == 2 else copy
        check_device(device)
        dtype = check_dtype(dtype, "to")
        formats.check("to", memory_format)
        self._settle()
        if dtype is None or dtype is self.dtype:
            kept = memory_format in (None, formats.preserve_format) or formats.suggested(tuple(self.shape), self.stride()) is memory_format
            return self if kept and not copy else self.clone(memory_format=memory_format)
        result = dispatch.convert(self, dtype)
        return result if memory_format in (None, formats.preserve_format) else result.contiguous(memory_format=memory_format)

    def type(self, dtype=None, non_blocking=False):
        """The legacy type name, or the tensor converted to a dtype given as such or by legacy name."""
        if dtype is None:
            return f"tapegrad.{self.dtype.legacy}"
        if isinstance(dtype, dtypes.dtype):
            return self.to(dtype)
        if not isinstance(dtype, (str, type)):
            raise TypeError("dtype must be a type, str, or dtype object")
        name = dtype.rpartition(".")[2] if isinstance(dtype, str) else dtype.__name__
        if name == "Tensor":
            return self.to(dtypes.default_dtype())
        for d in BY_CODE:
            if d.legacy == name:
                return self.to(d)
        raise ValueError(f"invalid type: '{dtype if isinstance(dtype, str) else name}'")

    def type_as(self, other):
        """The tensor in the dtype of another."""
        if not isinstance(other, Handle):
            raise TypeError(f"type_as(): argument 'other' (position 1) must be Tensor, not {kind_of(other).__name__}")
        return self.to(other.dtype)

    def cpu(self, memory_format=None):
        return self

    def item(self):
        """The value of a one-element tensor as a Python number."""
        if geometry.numels[core.get_field(self._slot, GEOMETRY)] != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        if core.get_field(self._slot, DTYPE) in (0, 1, 2, 7):
            chains.looked(self)
            return core.item(self._slot)
        return self._values().item()

    def tolist(self):
        """The elements as nested lists of Python numbers."""
        return self._values().tolist()

    def numpy(self, *, force=False):
        """The elements as a NumPy array over the same memory."""
        if not isinstance(force, bool):
            raise TypeError(f"numpy(): argument 'force' must be bool, not {kind_of(force).__name__}")
        if force:
            return self.detach().resolve_conj().resolve_neg().numpy()
        if self.requires_grad and modes.is_grad_enabled():
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        postponed = core.get_field(self._slot, DTYPE) & ~PLAIN
        if postponed:
            name, whole = ("conj", "conjugate") if postponed & CONJ else ("neg", "negative")
            raise RuntimeError(f"Can't call numpy() on Tensor that has {whole} bit set. Use tensor.resolve_{name}().numpy() instead.")
        d = self.dtype
        if d.foreign:
            raise TypeError(f"Got unsupported ScalarType {d.scalar_name}")
        core.buffer_of(self._slot).lent = 1
        if not self.numel():
            return np.empty(tuple(self.shape), d.numpy)
        interface = {
            "data": (core.data_of(self._slot), False),
            "shape": tuple(self.shape),
            "strides": tuple(s * d.itemsize for s in self.stride()),
            "typestr": d.numpy.str,
            "version": 3,
        }
        chains.looked(self)
        # A second handle holds the memory: this Tensor object may move to another slot.
        return np.asarray(_Exporter(self.detach(), interface))

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from tapegrad import numpy_protocol

        return numpy_protocol.array_ufunc(self, ufunc, method, *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        from tapegrad import numpy_protocol

        return numpy_protocol.array_function(self, function, types, args, kwargs)

    def __dlpack__(self, *, stream=None, **kwargs):
        from tapegrad.creation import dlpack

        assert stream in (None, -1), "stream should be None on cpu."
        return dlpack.export(self, kwargs)

    def __dlpack_device__(self):
        from tapegrad.device import DLDeviceType

        return DLDeviceType.kDLCPU, 0

    def as_subclass(self, cls):
        """The same slot as an object of a Tensor subclass."""
        if not isinstance(cls, type):
            raise TypeError(f"cls must be a type (got {type(cls).__name__})")
        if not issubclass(cls, Conversions):
            raise TypeError(
                "Creating a Tensor subclass from a class that does not inherit from Tensor is not possible. Make sure your class inherits from Tensor."
            )
        result = Handle.__new__(cls)
        core.move_handle(result, self._slot)
        core.set_field(result._slot, FLAGS, core.get_field(result._slot, FLAGS))
        return result

    @staticmethod
    def _make_subclass(cls, data, require_grad=False):
        """A leaf over the memory of `data` as an object of the Tensor subclass `cls`."""
        from tapegrad.overriding import DisableTorchFunctionSubclass

        if not isinstance(cls, type):
            raise TypeError(f"cls must be a type (got {type(cls).__name__})")
        if not isinstance(data, Handle):
            raise TypeError(f"_make_subclass(): argument 'data' (position 2) must be Tensor, not {type(data).__name__}")
        with DisableTorchFunctionSubclass():
            result = data.detach().as_subclass(cls)
            return result.requires_grad_() if require_grad else result

    # --- numbers of the standard library ------------------------------------------------------------------------------------
    def __bool__(self):
        n = self.numel()
        if n != 1:
            if n == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    __nonzero__ = __bool__

    def _number(self):
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __float__(self):
        self._discourage()
        return float(self._real_number(dtypes.float64))

    def __int__(self):
        return int(self._real_number(dtypes.int64))

    def _discourage(self):
        if self.requires_grad and modes.is_grad_enabled():
            warn_once(
                "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\nConsider using tensor.detach() first.",
                stacklevel=4,
            )

    def _real_number(self, d):
        value = self._number()
        if isinstance(value, complex):
            from tapegrad.creation import convert_number

            return convert_number(value if value.imag else value.real, d)
        return value

    def __complex__(self):
        self._discourage()
        return complex(self._number())

    def __index__(self):
        if self.dtype.category > dtypes.INTEGER or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())
