"""Memory of a new tensor, and Python numbers in the form in which it holds them."""

from __future__ import annotations

import builtins
import ctypes

import numpy as np

from tapegrad import core, dtypes, geometry, modes
from tapegrad.dtypes import BY_NUMPY
from tapegrad.dtypes import dtype as Dtype
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell
from tapegrad.naming import type_name

Number = (builtins.bool, builtins.int, builtins.float, builtins.complex)


def empty_of(shape: tuple, d: Dtype, steps: tuple | None = None):
    """An uninitialised tensor."""
    return finish(core.wrap(core.allocate_slot(geometry.geometry(tuple(shape), steps), d.code)))


def room_for(count: int) -> int:
    """Refuse a count of elements whose making, with NumPy's intermediate arrays of 8 bytes an element, would exhaust the machine."""
    core.start()
    if 8 * count > geometry.LARGEST:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={[count]}")
    if 4 * 8 * count > state_cell("bytes_limit").value:
        from tapegrad.dispatch import raise_memory

        raise_memory(8 * count)
    return count


def finish(tensor, requires_grad: bool = False):
    """The last step of every factory: inference mode, requires_grad."""
    if modes.word() & modes.INFERENCE:
        core.set_field(tensor._slot, core.FLAGS, core.get_field(tensor._slot, core.FLAGS) | layout.INFERENCE)
    if requires_grad is not False and requires_grad is not None:
        if not isinstance(requires_grad, builtins.bool):
            raise TypeError(f"argument 'requires_grad' must be bool, not {type_name(requires_grad)}")
        if not tensor.dtype.differentiable:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        tensor._require_grad()
    return tensor


def made(t, requires_grad, filled=False, like=None):
    """`finish`, for a tensor whose elements follow from the arguments alone: the call cache may make it again."""
    if not requires_grad:
        from tapegrad.ops import moves

        moves.note_made(t, like, filled)
    return finish(t, requires_grad)


def from_array(array: np.ndarray, d: Dtype | None = None):
    """A tensor with a copy of `array` (numbers, or memory of `d` as it lies), contiguous."""
    d = d or BY_NUMPY.get(array.dtype)
    if d is None:
        raise unsupported(array)
    t = empty_of(array.shape, d)
    t._array()[...] = array if array.dtype == d.numpy or not (d.reduced or array.dtype.kind == "c") else dtypes.to_stored(array, d)
    return t


def unsupported(array) -> TypeError:
    return TypeError(
        f"can't convert np.ndarray of type numpy.{array.dtype.type.__name__}. The only supported types are: float64, float32, float16, "
        "complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
    )


def share(owner, address: int, shape: tuple, steps: tuple, d: Dtype):
    """A tensor over memory that `owner` keeps alive."""
    g = geometry.geometry(shape, steps)
    last = sum((size - 1) * step for size, step in zip(shape, steps, strict=True)) if 0 not in shape else 0
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    b = core.foreign_buffer(address, (last + 1) * d.itemsize, owner)
    slot = core.slot_index()
    row = core.slot_view()[slot]
    row["data"], row["buffer"], row["geometry"], row["dtype"] = address, b, g, d.code
    return finish(core.wrap(slot))


# --- numbers ---------------------------------------------------------------------------------------------------------
def scalar(value, d: Dtype, name: str | None = None):
    """A 0-d tensor with a Python number."""
    return zero_dim(convert_number(value, d, name), d)


def zero_dim(value, d: Dtype):
    """A 0-d tensor with a number that is known to fit."""
    t = empty_of((), d)
    t._array()[...] = stored_number(value, d)
    return t


def numbers(t) -> np.ndarray:
    """The elements of a tensor as numbers that NumPy can compute with; its memory itself where they lie so."""
    return dtypes.from_stored(t.detach()._array(), t.dtype)


def stored_number(value, d: Dtype):
    """A Python number in the form in which memory of `d` holds it."""
    return dtypes.to_stored(np.asarray(value), d) if d.reduced else value


MAXIMUM = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}  # the largest finite value


def convert_number(value, d: Dtype, name: str | None = None):
    """A Python number as `d` holds it; torch's overflow error, which calls the dtype `name`."""
    name = name or cpp_name(d)
    if isinstance(value, builtins.complex) and not d.is_complex:
        if value.imag and d.category != dtypes.BOOL:
            raise RuntimeError(f"value cannot be converted to type {name} without overflow")
        value = value.real if d.category != dtypes.BOOL else builtins.bool(value)
    if isinstance(value, builtins.int) and not -(2**63) <= value < 2**63 and d.category < dtypes.FLOAT:
        raise OverflowError("int too big to convert")
    if d.category == dtypes.INTEGER:
        info = np.iinfo(d.numpy)
        if isinstance(value, builtins.float):
            if not info.min <= value <= info.max:  # of unsigned dtypes all numbers below 0
                raise RuntimeError(f"value cannot be converted to type {name} without overflow")
            value = builtins.int(value)
        low = -info.max if not d.is_signed else info.min
        if not low <= value <= info.max:
            raise RuntimeError(f"value cannot be converted to type {name} without overflow")
        return value if value >= info.min else value + info.max + 1
    limit = MAXIMUM.get(d.to_real().name)
    if limit is not None and isinstance(value, Number):
        parts = (value.real, value.imag) if isinstance(value, builtins.complex) else (value,)
        if any(abs(part) > limit and abs(part) != float("inf") for part in parts):
            raise RuntimeError(f"value cannot be converted to type {d.short} without overflow")
    return value


def kernel_number(value, d: Dtype):
    """A number as a kernel of dtype `d` takes it: what lies behind the point is cut off for integers; torch's overflow errors."""
    value = value.item() if hasattr(value, "_slot") else value
    if isinstance(value, builtins.int):
        if not -(2**63) <= value < 2**64:
            raise OverflowError("int too big to convert")
        if value >= 2**63 and d.category == dtypes.INTEGER:
            raise RuntimeError(f"value cannot be converted to type {cpp_name(d)} without overflow")
    return builtins.bool(value) if d.category == dtypes.BOOL else convert_number(value, d)


def cpp_name(d: Dtype) -> str:
    return {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t"}.get(d.name, d.short)


def check_dtype(d, name: str) -> Dtype | None:
    if d is None or isinstance(d, Dtype):
        return d
    if d in (builtins.float, builtins.int, builtins.bool, builtins.complex):
        return {builtins.float: dtypes.float64, builtins.int: dtypes.int64, builtins.bool: dtypes.bool_, builtins.complex: dtypes.complex128}[d]
    raise TypeError(f"{name}(): argument 'dtype' must be tapegrad.dtype, not {type(d).__name__}")


def refuse_pinned(pin_memory) -> None:
    if pin_memory:
        raise RuntimeError("pin_memory=True requires a CUDA or other accelerator backend; no pinned memory allocator is available on this system.")
