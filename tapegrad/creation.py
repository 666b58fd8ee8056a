"""Making tensors: from Python data, from NumPy (copied or shared), filled, and ranges."""

from __future__ import annotations

import builtins
import ctypes
import math
import warnings

import numpy as np

from tapegrad import core, dtypes, geometry, modes
from tapegrad.dtypes import BY_NUMPY
from tapegrad.dtypes import dtype as Dtype
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell
from tapegrad.ops.public import function

Number = (builtins.bool, builtins.int, builtins.float, builtins.complex)


def empty_of(shape: tuple, d: Dtype, steps: tuple | None = None):
    """An uninitialised tensor."""
    slot = core.new_slot(geometry.geometry(tuple(shape), steps), d.code)
    if slot <= 0:
        from tapegrad.dispatch import raise_memory

        raise_memory(core.error_a.value)
    return finish(core.wrap(slot))


def room_for(count: int) -> int:
    """Refuse a count of elements whose making, with NumPy's intermediate arrays of 8 bytes an element, would exhaust the machine."""
    limit = state_cell("bytes_limit").value
    if limit and 4 * 8 * count > limit:
        from tapegrad.dispatch import raise_memory

        raise_memory(8 * count)
    return count


def finish(tensor, requires_grad: bool = False):
    """The last step of every factory: inference mode, requires_grad."""
    if modes.word() & modes.INFERENCE:
        core.set_field(tensor._slot, core.FLAGS, core.get_field(tensor._slot, core.FLAGS) | layout.INFERENCE)
    if requires_grad is not False:
        if not isinstance(requires_grad, builtins.bool):
            raise TypeError(f"argument 'requires_grad' must be bool, not {type(requires_grad).__name__}")
        if not requires_grad:
            return tensor
        if not tensor.dtype.differentiable:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        tensor._require_grad()
    return tensor


def scalar(value, d: Dtype, name: str | None = None):
    """A 0-d tensor with a Python number."""
    return zero_dim(convert_number(value, d, name), d)


def zero_dim(value, d: Dtype):
    """A 0-d tensor with a number that is known to fit."""
    t = empty_of((), d)
    t._array()[...] = stored_number(value, d)
    return t


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
        if isinstance(value, builtins.float):
            if value != value or value in (float("inf"), float("-inf")):
                raise RuntimeError(f"value cannot be converted to type {name} without overflow")
            value = builtins.int(value)
        info = np.iinfo(d.numpy)
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


def cpp_name(d: Dtype) -> str:
    return {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t"}.get(d.name, d.short)


def check_dtype(d, name: str) -> Dtype | None:
    if d is None or isinstance(d, Dtype):
        return d
    if d in (builtins.float, builtins.int, builtins.bool, builtins.complex):
        return {builtins.float: dtypes.float64, builtins.int: dtypes.int64, builtins.bool: dtypes.bool_, builtins.complex: dtypes.complex128}[d]
    raise TypeError(f"{name}(): argument 'dtype' must be tapegrad.dtype, not {type(d).__name__}")


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


@function(tensors=False)
def from_numpy(array):
    """A tensor that shares memory with a NumPy array; the array stays alive as long as the tensor.

    >>> import numpy as np, tapegrad as tg
    >>> a = np.zeros(2)
    >>> t = tg.from_numpy(a)
    >>> a[0] = 7
    >>> t
    tensor([7., 0.], dtype=tapegrad.float64)
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    d = BY_NUMPY.get(array.dtype)
    if d is None:
        raise unsupported(array)
    if any(s < 0 for s in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
            "(You can probably work around this by making a copy of your array  with array.copy().) "
        )
    if any(s % d.itemsize for s in array.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate the memory.")
    return share(array, array.ctypes.data, tuple(array.shape), tuple(s // d.itemsize for s in array.strides), d)


@function()
def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor that shares memory with anything that speaks the DLPack protocol (`__dlpack__`); `copy=True` copies."""
    if copy:
        return from_array(np.from_dlpack(ext_tensor))
    return from_numpy(np.from_dlpack(ext_tensor))


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


# --- from Python data -----------------------------------------------------------------------------------------------
def infer_dtype(data) -> Dtype:
    """torch's inference: the widest of bool, int64, default float that the leaves need."""
    best = None
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, (list, tuple)):
            stack.extend(item)
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


def check_nested(data) -> tuple:
    """The shape of nested sequences; torch's errors for ragged ones and for strings."""
    shape, level = [], data
    while isinstance(level, (list, tuple)) or (hasattr(level, "__len__") and hasattr(level, "__getitem__") and not hasattr(level, "shape")):
        if isinstance(level, str):
            raise ValueError("too many dimensions 'str'")
        shape.append(len(level))
        if len(shape) > 128:
            raise ValueError(f"too many dimensions '{type(data).__name__}'")
        if not len(level):
            return tuple(shape)
        level = level[0]
    if hasattr(level, "shape"):
        shape.extend(level.shape)

    def verify(item, depth):
        if depth == len(shape):
            if isinstance(item, (list, tuple)):
                raise TypeError(f"must be real number, not {type(item).__name__}")
            return
        if hasattr(item, "shape") and depth + item.ndim == len(shape):
            if tuple(item.shape) != tuple(shape[depth:]):
                raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {item.shape[0] if item.ndim else 0})")
            return
        if not hasattr(item, "__len__"):
            raise TypeError("not a sequence")
        if len(item) != shape[depth]:
            raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(item)})")
        for child in item:
            verify(child, depth + 1)

    verify(data, 0)
    return tuple(shape)


def plain_data(data):
    """Nested data with tensors replaced by numbers or arrays."""
    if hasattr(data, "_slot"):
        return data.item() if data.ndim == 0 else data.detach()._values()
    if isinstance(data, (list, tuple)):
        return [plain_data(item) for item in data]
    return data


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
    d = check_dtype(dtype, "tensor")
    if hasattr(data, "_slot"):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than tapegrad.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
        result = data.detach().clone() if d is None else data.detach().to(d, copy=True)
        return finish(result, requires_grad)
    t = build(data, d)
    return made(t, requires_grad) if type(data) in (list, tuple, *Number) else finish(t, requires_grad)


def build(data, d: Dtype | None):
    if isinstance(data, np.ndarray):
        return from_array(data) if d is None or BY_NUMPY.get(data.dtype) is d else from_array(cast(data, d), d)
    if isinstance(data, np.generic):
        return build(np.asarray(data), d)
    if isinstance(data, Number):
        d = d or dtypes.of_number(data)
        return zero_dim(constructor_number(data, d), d)
    if isinstance(data, str):
        raise TypeError("new(): invalid data type 'str'")
    if isinstance(data, range) or (hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (list, tuple))):
        if hasattr(data, "__array__"):
            return build(np.asarray(data), d)
        data = [data[k] for k in range(len(data))]
    if not isinstance(data, (list, tuple)):
        if hasattr(data, "__array__"):
            return build(np.asarray(data), d)
        raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")
    shape = check_nested(data)
    d = d or infer_dtype(data)
    values = plain_data(data)
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


@function()
def as_tensor(data, dtype=None, device=None):
    """`data` as a tensor: itself if it is one of that dtype, sharing memory with an array where that is possible."""
    from tapegrad.device import check as check_device

    check_device(device)
    d = check_dtype(dtype, "as_tensor")
    if hasattr(data, "_slot"):
        return data if d is None or data.dtype is d else data.to(d)
    if isinstance(data, np.ndarray) and data.dtype in BY_NUMPY and d in (None, BY_NUMPY[data.dtype]):
        return from_numpy(data)
    return build(data, d)


function(name="asarray")(as_tensor)


# --- filled tensors -------------------------------------------------------------------------------------------------
def size_of(name: str, args: tuple) -> tuple:
    """The shape from (2, 3) or ((2, 3),); torch's errors for bad sizes."""
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = tuple(args[0])
    shape = []
    for k, size in enumerate(args):
        if hasattr(size, "_slot") and size.ndim == 0 and size.dtype.category <= dtypes.INTEGER:
            size = size.item()
        if isinstance(size, builtins.bool) or not hasattr(size, "__index__"):
            raise TypeError(
                f"{name}(): argument 'size' (position 1) must be tuple of ints, but found element of type {type(size).__name__} at pos {k}"
            )
        size = size.__index__()
        if size < 0:
            if name == "zeros":
                raise RuntimeError(f"{name}: Dimension size must be non-negative.")
            raise RuntimeError(f"Trying to create tensor with negative dimension {size}: {[int(s) for s in args]}")
        shape.append(size)
    if len(shape) > geometry.MAX_NDIM:
        raise RuntimeError(f"{name}: tensors have at most {geometry.MAX_NDIM} dims (got {len(shape)})")
    numel = 1
    for size in shape:
        numel *= size
    if numel >= 2**62:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={shape}")
    return tuple(shape)


def only_size(name: str, size: tuple, named: dict) -> tuple:
    """The sizes, given one by one, as a tuple or by keyword; other keywords are refused."""
    if not named:
        if not size:
            raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
        return size
    if size or named.keys() != {"size"}:
        extra = next(iter(named))
        raise TypeError(f"{name}() got multiple values for argument 'size'" if extra == "size" else f"{name}() got an unexpected keyword argument '{extra}'")
    return (named["size"],)


def check_options(name, device, layout=None, pin_memory=False, dtype=None, out=None) -> None:
    """Refuse what the keywords of a factory must not be."""
    if device is not None:
        from tapegrad.device import check as check_device

        check_device(device)
    if layout is not None and str(layout) != "tapegrad.strided":
        raise TypeError(f"{name}(): argument 'layout' must be torch.layout, not {type(layout).__name__}")
    if not isinstance(pin_memory, builtins.bool):
        raise TypeError(f"{name}(): argument 'pin_memory' must be bool, not {type(pin_memory).__name__}")
    if out is not None and dtype is not None and hasattr(out, "_slot") and check_dtype(dtype, name) is not out.dtype:
        raise RuntimeError(f"dtype {check_dtype(dtype, name).scalar_name} does not match dtype of out parameter ({out.dtype.scalar_name})")


def made_in(out, requires_grad, make):
    """The `out=` of a factory: what `make` gives for the dtype of `out`, stored in it."""
    from tapegrad.dispatch import write_out

    write_out(make(out.dtype), out)
    return out.requires_grad_() if requires_grad else out


def filled(name, size, value, dtype, device, requires_grad, out=None, like=None, layout=None, pin_memory=False):
    check_options(name, device, layout, pin_memory, dtype, out)
    d = check_dtype(dtype, name) or dtypes.default_dtype()
    shape = size_of(name, size)
    if out is not None:
        from tapegrad.dispatch import write_out

        return write_out(filled(name, shape, value, dtype or out.dtype, device, False), out)
    t = empty_of(shape, d)
    if value is not None:
        fill(t, value)
    return made(t, requires_grad, filled=True, like=like) if value is not None else finish(t, requires_grad)


def made(t, requires_grad, filled=False, like=None):
    """`finish`, for a tensor whose elements follow from the arguments alone: the call cache may make it again."""
    if not requires_grad:
        from tapegrad.ops import moves

        moves.note_made(t, like, filled)
    return finish(t, requires_grad)


def fill(t, value) -> None:
    """Write one number everywhere."""
    d = t.dtype
    value = convert_number(value, d)
    if t.numel() <= 64:
        t._array()[...] = stored_number(value, d)
    else:
        core.assign(t, scalar(value, d))


@function(tensors=False)
def zeros(*size, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **named):
    """A tensor of zeros.  `zeros(2, 3)` or `zeros((2, 3))`."""
    return filled("zeros", only_size("zeros", size, named), 0, dtype, device, requires_grad, out, layout=layout, pin_memory=pin_memory)


@function(tensors=False)
def ones(*size, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **named):
    """A tensor of ones."""
    return filled("ones", only_size("ones", size, named), 1, dtype, device, requires_grad, out, layout=layout, pin_memory=pin_memory)


@function(tensors=False)
def empty(*size, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, memory_format=None, **named):
    """An uninitialised tensor."""
    return filled("empty", only_size("empty", size, named), None, dtype, device, requires_grad, out, layout=layout, pin_memory=pin_memory)


@function()
def full(size, fill_value, *, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A tensor filled with `fill_value`, of its dtype (bool, int64 or the default float)."""
    if hasattr(fill_value, "_slot"):
        dtype = dtype or fill_value.dtype
        fill_value = fill_value.item()
    d = check_dtype(dtype, "full") or dtypes.of_number(fill_value)
    return filled("full", (size,) if not isinstance(size, (tuple, list)) else (tuple(size),), fill_value, d, device, requires_grad, out)


def like(name, value):
    def make(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False):
        if not hasattr(input, "_slot"):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        from tapegrad.device import check as check_device

        check_device(device)
        t = empty_of(tuple(input.shape), check_dtype(dtype, name) or input.dtype, dense_strides(input))
        if value is not None:
            fill(t, value)
        return made(t, requires_grad, filled=True, like=input) if value is not None else finish(t, requires_grad)

    make.__doc__ = f"A tensor of the shape, dtype and stride order of `input`, {'uninitialised' if value is None else f'filled with {value}'}."
    make.__name__ = make.__qualname__ = name
    return function(name=name, batch="leading")(make)


def dense_strides(t) -> tuple | None:
    """The strides of `t` if it is dense, else None (row-major)."""
    g = core.get_field(t._slot, core.GEOMETRY)
    flags = geometry.flags_of(g)
    if flags & DENSE and not flags & CONTIGUOUS:
        return geometry.strides[g]
    return None


DENSE, CONTIGUOUS = layout.DENSE, layout.CONTIGUOUS
zeros_like, ones_like, empty_like = like("zeros_like", 0), like("ones_like", 1), like("empty_like", None)


@function(batch="leading")
def full_like(input, fill_value, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None):
    """A tensor of the shape and dtype of `input` filled with `fill_value`."""
    t = empty_of(tuple(input.shape), check_dtype(dtype, "full_like") or input.dtype, dense_strides(input))
    fill(t, fill_value.item() if hasattr(fill_value, "_slot") else fill_value)
    return made(t, requires_grad, filled=True, like=input)


# --- ranges ---------------------------------------------------------------------------------------------------------
def number(name, value, parameter):
    if hasattr(value, "_slot"):
        return value.item()
    if isinstance(value, (np.number, np.bool_)):
        return value.item()
    if not isinstance(value, Number):
        raise TypeError(f"{name}(): argument '{parameter}' must be Number, not {type(value).__name__}")
    return value


def real_number(value):
    """torch's refusal of a complex number where a real one is meant."""
    if isinstance(value, builtins.complex):
        return convert_number(value, dtypes.float64)
    return value


@function(tensors=False)
def arange(*bounds, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **named):
    """Values from `start` (0) up to, not including, `end`, `step` (1) apart; int64 if all three are integers."""
    check_options("arange", device, layout, pin_memory, dtype, out)
    values = list(bounds)
    if "end" in named and len(values) <= 1:
        values = [named.pop("start", values[0] if values else 0), named.pop("end")]
    start, end, step = (0, values[0], 1) if len(values) == 1 else (values[0], values[1], values[2] if len(values) > 2 else 1)
    step = named.pop("step", step)
    if named or len(values) > 3:
        raise TypeError("arange() received an invalid combination of arguments")
    start, end, step = (real_number(number("arange", v, n)) for v, n in ((start, "start"), (end, "end"), (step, "step")))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if any(isinstance(v, builtins.float) and (v != v or v in (float("inf"), float("-inf"))) for v in (start, end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    d = check_dtype(dtype, "arange")
    if d is None:
        d = dtypes.default_dtype() if any(isinstance(v, builtins.float) for v in (start, end, step)) else dtypes.int64
    if d.is_complex:
        raise NotImplementedError(f'"arange_cpu" not implemented for \'{d.scalar_name}\'')
    if d is dtypes.int64:  # whole numbers before counting; narrower dtypes count first, as torch does
        start, end, step = builtins.int(start), builtins.int(end), builtins.int(step)
        if step == 0:
            raise ValueError("step must be nonzero")
    count = builtins.int(np.ceil((end - start) / step))
    t = empty_of((count,), d)  # refused here if it is absurdly large
    array = t._array()
    for at in builtins.range(0, count, 1 << 20):
        index = np.arange(at, builtins.min(at + (1 << 20), count))
        if d.is_floating_point:
            array[at : at + (1 << 20)] = dtypes.to_stored(start + step * index.astype(np.float64), d)
        else:
            array[at : at + (1 << 20)] = builtins.int(start) + builtins.int(step) * index
    if out is not None:
        from tapegrad.dispatch import write_out

        return write_out(t, out)
    return made(t, requires_grad)


@function(name="range", tensors=False)
def range_(start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """Values from `start` to `end` inclusive (deprecated, as in torch)."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's range builtin. "
        "Instead, use tapegrad.arange, which produces values in [start, end).",
        UserWarning,
        stacklevel=2,
    )
    if end is None:
        start, end = 0, start
    check_options("range", device, layout, dtype=dtype, out=out)
    if out is not None:
        return made_in(out, requires_grad, lambda d: range_(start, end, step, dtype=d))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    d = check_dtype(dtype, "range") or dtypes.default_dtype()
    count = room_for(builtins.int((end - start) / step + 1))
    return finish(from_array(start + step * np.arange(count, dtype=np.float64), d), requires_grad)


@function(tensors=False)
def linspace(start, end, steps, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """`steps` values evenly spaced from `start` to `end`, both included."""
    check_options("linspace", device, layout, dtype=dtype, out=out)
    if out is not None:
        return made_in(out, requires_grad, lambda d: linspace(start, end, steps, dtype=d))
    start, end = number("linspace", start, "start"), number("linspace", end, "end")
    if isinstance(steps, builtins.float) or not hasattr(steps, "__index__"):
        raise TypeError(f"linspace(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    room_for(steps)
    d = check_dtype(dtype, "linspace") or dtypes.default_dtype()
    if any(isinstance(v, builtins.complex) for v in (start, end)):
        if dtype is not None and not d.is_complex:
            raise RuntimeError(f"linspace(): inferred dtype {dtypes.default_dtype().to_complex()} can't be safely cast to passed dtype {d}")
        d = d.to_complex()
    kind = dtypes.BY_NAME[d.compute].numpy.type if d.category >= dtypes.FLOAT else np.float64
    if steps == 1:
        array = np.array([start], kind)
    else:
        # Symmetric, as torch: the second half counts back from the end.
        step = (kind(end) - kind(start)) / kind(steps - 1) if steps > 1 else kind(0)
        k = np.arange(steps)
        array = np.where(k < steps // 2, kind(start) + step * k.astype(kind), kind(end) - step * (steps - k - 1).astype(kind))
    return made(from_array(dtypes.to_stored(array, d), d), requires_grad)


@function()
def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False):
    """`base` to the power of `linspace(start, end, steps)`."""
    d = check_dtype(dtype, "logspace") or dtypes.default_dtype()
    wide = dtypes.complex128 if d.is_complex else dtypes.float64
    return finish(from_array(dtypes.to_stored(base ** linspace(start, end, steps, dtype=wide)._array(), d), d), requires_grad)


@function(tensors=False)
def eye(n, m=None, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """The identity: ones on the diagonal of an (n, m) matrix."""
    check_options("eye", device, layout, dtype=dtype, out=out)
    if out is not None:
        return made_in(out, requires_grad, lambda d: eye(n, m, dtype=d))
    d = check_dtype(dtype, "eye") or dtypes.default_dtype()
    for name, size in (("n", n), ("m", m)):
        if size is not None and size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    room_for(n * (n if m is None else m))
    return finish(from_array(np.eye(n, m, dtype=np.float32), d), requires_grad)
