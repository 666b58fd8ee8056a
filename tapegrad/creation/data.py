"""Tensors with a copy of Python data: numbers, nested sequences, arrays."""

from __future__ import annotations

import builtins
import math
import warnings

import numpy as np

from tapegrad import dtypes
from tapegrad.creation.elements import (
    MAXIMUM,
    Number,
    check_dtype,
    convert_number,
    cpp_name,
    empty_of,
    finish,
    from_array,
    made,
    refuse_pinned,
    unsupported,
    zero_dim,
)
from tapegrad.dtypes import BY_NUMPY
from tapegrad.dtypes import dtype as Dtype
from tapegrad.naming import type_name
from tapegrad.ops.public import function
from tapegrad.overriding import DisableTorchFunctionSubclass


def infer_dtype(data) -> Dtype:
    """torch's inference: the widest of bool, int64, default float that the leaves need."""
    best = None
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(item)
            if not item:
                best = dtypes.promote_types(best or dtypes.bool_, dtypes.default_dtype())
            continue
        d = item.dtype if hasattr(item, "_slot") else None
        if d is None:
            if isinstance(item, (np.ndarray, np.generic)):
                d = BY_NUMPY.get(item.dtype)
                if d is None:
                    raise unsupported(np.asarray(item))
            else:
                d = dtypes.of_number(item)
        best = d if best is None else dtypes.promote_types(best, d)
    return best or dtypes.default_dtype()


def nested_shape(data) -> tuple:
    """The shape of nested sequences, in which tensors are numbers, by their first elements."""
    shape, level = [], data
    while isinstance(level, (list, tuple)) or is_sequence(level):
        if isinstance(level, str):
            raise ValueError("too many dimensions 'str'")
        if isinstance(level, bytes):
            raise TypeError("new(): invalid data type 'bytes'")
        shape.append(len(level))
        if len(shape) > 128:
            raise ValueError(f"too many dimensions '{type(data).__name__}'")
        if not len(level):
            return tuple(shape)
        level = level[0]
    if isinstance(level, np.ndarray):
        shape.extend(level.shape)
    return tuple(shape)


def refusal(item, d: Dtype) -> TypeError:
    """Python's error for what is no number."""
    kind = type(item).__name__
    return TypeError(f"'{kind}' object cannot be interpreted as an integer" if d.category <= dtypes.INTEGER else f"must be real number, not {kind}")


def check_nested(data, shape: tuple, d: Dtype) -> None:
    """torch's errors for nested sequences that are ragged, and for leaves that are no numbers."""

    def verify(item, depth):
        if depth == len(shape):
            if not hasattr(item, "_slot") and not hasattr(item, "__float__") and not hasattr(item, "__index__") and not isinstance(item, complex):
                raise refusal(item, d)
            return
        if isinstance(item, np.ndarray) and depth + item.ndim == len(shape):
            if tuple(item.shape) != tuple(shape[depth:]):
                raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {item.shape[0] if item.ndim else 0})")
            return
        if hasattr(item, "_slot") or not hasattr(item, "__len__"):
            raise TypeError("not a sequence")
        if len(item) != shape[depth]:
            raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(item)})")
        for child in item:
            verify(child, depth + 1)

    verify(data, 0)


def is_sequence(data) -> bool:
    """Whether `data`, neither a list nor a tuple, has elements by number."""
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not hasattr(data, "_slot") and not isinstance(data, (dict, np.ndarray, np.generic))


def plain_data(data, d: Dtype):
    """Nested data with tensors of one element replaced by numbers."""
    if hasattr(data, "_slot"):
        if data.numel() != 1:
            if d.category <= dtypes.INTEGER:
                raise TypeError("only integer tensors of a single element can be converted to an index")
            raise ValueError("only one element tensors can be converted to Python scalars")
        return data.item()
    if isinstance(data, (list, tuple)):
        return [plain_data(item, d) for item in data]
    return data


COPY_CONSTRUCTED = (
    "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
    "sourceTensor.detach().clone().requires_grad_(True), rather than {}(sourceTensor)."
)


@function()
def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A leaf tensor with a copy of `data` (numbers, nested sequences, arrays, tensors).

    The dtype is inferred: bool, int64, or the default floating-point dtype; arrays keep theirs.

    >>> import tapegrad as tg
    >>> tg.tensor([[1., 2.], [3., 4.]], requires_grad=True)
    tensor([[1., 2.],
            [3., 4.]], requires_grad=True)
    """
    from tapegrad.device import check as check_device

    check_device(device)
    refuse_pinned(pin_memory)
    d = check_dtype(dtype, "tensor")
    if hasattr(data, "_slot"):
        warnings.warn(COPY_CONSTRUCTED.format("tapegrad.tensor"), UserWarning, stacklevel=2)
        with DisableTorchFunctionSubclass():
            result = data.detach().clone() if d is None else data.detach().to(d, copy=True)
        return finish(result, requires_grad)
    t = build(data, d)
    return made(t, requires_grad) if type(data) in (list, tuple, *Number) else finish(t, requires_grad)


def build(data, d: Dtype | None):
    if isinstance(data, np.ndarray):
        if not data.dtype.isnative or (not data.flags.c_contiguous and data.dtype in BY_NUMPY):
            from tapegrad.creation.buffers import check_layout, over

            check_layout(data)
            return over(data, BY_NUMPY[data.dtype]).to(d or BY_NUMPY[data.dtype], copy=True)  # which keeps the order of the dims
        return from_array(data) if d is None or BY_NUMPY.get(data.dtype) is d else from_array(cast(data, d), d)
    if isinstance(data, np.generic):
        return build(np.asarray(data), d)
    if isinstance(data, Number):
        d = d or dtypes.of_number(data)
        return zero_dim(constructor_number(data, d), d)
    if isinstance(data, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'")
    if not isinstance(data, (list, tuple)) and not hasattr(data, "__array__") and is_sequence(data):
        try:
            data = [data[k] for k in range(len(data))]
        except Exception:
            raise ValueError(f"could not determine the shape of object type '{type(data).__name__}'") from None
    if not isinstance(data, (list, tuple)):
        if hasattr(data, "__array__"):
            return build(np.asarray(data), d)
        raise RuntimeError(f"Could not infer dtype of {type_name(data)}") if d is None else refusal(data, d)
    shape = nested_shape(data)
    d = d or infer_dtype(data)
    if 0 in shape:
        return empty_of(shape, d)
    check_nested(data, shape, d)
    values = plain_data(data, d)
    if d.category == dtypes.INTEGER:
        values = truncate(values, d)
    if d.category == dtypes.FLOAT and holds_complex(values):
        raise TypeError("must be real number, not complex")
    try:
        if d.category == dtypes.BOOL:
            array = np.array(values).astype(builtins.bool)
        else:
            with np.errstate(over="ignore"):
                array = dtypes.to_stored(np.array(values, np.float64 if d.is_floating_point else np.complex128), d) if d.reduced else np.array(values, d.numpy)
    except (TypeError, ValueError) as error:
        raise TypeError(f"new(): invalid data ({error})") from None
    except OverflowError:
        if d.is_floating_point:
            raise OverflowError("int too large to convert to float") from None
        raise RuntimeError(f"value cannot be converted to type {cpp_name(d)} without overflow") from None
    return from_array(array.reshape(shape), d)


def truncate(values, d):
    if isinstance(values, list):
        return [truncate(v, d) for v in values]
    if isinstance(values, np.ndarray):
        return cast(values, d)
    return constructor_number(values, d)


def holds_complex(values) -> bool:
    if isinstance(values, list):
        return any(map(holds_complex, values))
    return isinstance(values, (builtins.complex, np.complexfloating))


def constructor_number(value, d):
    """`convert_number` with the texts of `tensor`, which lets floats overflow to infinity in half precision."""
    if isinstance(value, builtins.complex) and d.category in (dtypes.INTEGER, dtypes.FLOAT):
        raise TypeError("must be real number, not complex" if d.is_floating_point else "'complex' object cannot be interpreted as an integer")
    if d.is_floating_point and type(value) is builtins.int:
        value = builtins.float(value)
    if d.reduced:
        return value
    if d is dtypes.float32 and isinstance(value, builtins.float) and abs(value) > MAXIMUM[d.name]:
        return math.copysign(math.inf, value)
    try:
        return convert_number(value, d, d.name)
    except OverflowError:
        raise ValueError("Overflow when unpacking long long") from None


def cast(array: np.ndarray, d: Dtype) -> np.ndarray:
    return dtypes.to_stored(array, d)
