"""Tensors over memory that other objects own: NumPy arrays, DLPack, Python buffers; and `asarray`, which takes whatever can be a tensor."""

from __future__ import annotations

import warnings

import numpy as np

from tapegrad.cautions import warn_once
from tapegrad.creation.data import build
from tapegrad.creation.elements import check_dtype, finish, share, unsupported
from tapegrad.device import check as check_device
from tapegrad.dtypes import BY_NUMPY
from tapegrad.dtypes import dtype as Dtype
from tapegrad.ops.public import function

READ_ONLY = (
    "The given {} is not writable, and PyTorch does not support non-writable tensors. This means you can write to the underlying (supposedly "
    "non-writable) {} using the tensor. You may want to copy the {} to protect its data or make it writable before converting it to a tensor."
)


def warn_read_only(what: str) -> None:
    warn_once(READ_ONLY.format(what, what, what), stacklevel=4)


def over(array: np.ndarray, d: Dtype):
    """A tensor of dtype `d` over the memory of an array with elements of that size."""
    return share(array, array.ctypes.data, tuple(array.shape), tuple(s // d.itemsize for s in array.strides), d)


def check_layout(array: np.ndarray) -> None:
    """Refuse arrays that lie in memory as no tensor does."""
    if not array.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion between byte orders is currently not supported."
        )
    if BY_NUMPY.get(array.dtype) is None:
        raise unsupported(array)
    if any(s < 0 for s in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
            "(You can probably work around this by making a copy of your array  with array.copy().) "
        )
    if any(s % array.itemsize for s in array.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate the memory.")


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
    check_layout(array)
    if not array.flags.writeable:
        warn_read_only("NumPy array")
    return over(array, BY_NUMPY[array.dtype])


@function()
def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor that shares memory with anything that speaks the DLPack protocol (`__dlpack__`); `copy=True` copies."""
    from tapegrad.creation import dlpack

    array, d = dlpack.read(ext_tensor)
    if d is None:
        d = BY_NUMPY[array.dtype]
    else:
        array = np.ndarray(array.shape, d.numpy, array, 0, array.strides)
    return over(array, d).clone() if copy else over(array, d)


@function(tensors=False)
def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A vector over the memory of a Python buffer (`bytearray`, `array.array`, ...): `count` elements (all, if negative) from byte `offset` on.

    >>> import tapegrad as tg
    >>> tg.frombuffer(bytearray([1, 2, 3]), dtype=tg.uint8, offset=1)
    tensor([2, 3], dtype=tapegrad.uint8)
    """
    d = check_dtype(dtype, "frombuffer")
    if d is None:
        raise TypeError("frombuffer(): argument 'dtype' must be torch.dtype, not NoneType")
    try:
        view = memoryview(buffer)
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    size = view.nbytes
    if not size or not count:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) minus 1")
    if count < 0 and (size - offset) % d.itemsize:
        raise ValueError(f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of element size ({d.itemsize})")
    count = (size - offset) // d.itemsize if count < 0 else count
    if offset + count * d.itemsize > size:
        raise ValueError(
            f"requested buffer length ({count} * {d.itemsize} bytes) after offset ({offset} bytes) must not be greater than actual buffer length "
            f"({size} bytes)"
        )
    if view.readonly:
        warn_read_only("buffer")
    return finish(over(np.frombuffer(buffer, d.numpy, count, offset), d), requires_grad)


# --- whatever can be a tensor ---------------------------------------------------------------------------------------
@function()
def as_tensor(data, dtype=None, device=None):
    """`data` as a tensor: itself if it is one of that dtype, sharing memory with an array where that is possible."""
    check_device(device)
    d = check_dtype(dtype, "as_tensor")
    if hasattr(data, "_slot"):
        return data if d is None or data.dtype is d else data.to(d)
    if isinstance(data, np.ndarray):
        shared = from_numpy(data)
        return shared if d in (None, shared.dtype) else shared.to(d)
    return build(data, d)


def shared(obj, d):
    """A tensor over the memory of `obj`, None if it has none to share."""
    if hasattr(obj, "_slot"):
        return obj
    if isinstance(obj, np.ndarray):
        return from_numpy(obj)
    if isinstance(obj, np.generic):
        return None
    if hasattr(obj, "__dlpack__") or type(obj).__name__ == "PyCapsule":
        return from_dlpack(obj)
    try:
        memoryview(obj)
    except TypeError:
        return None
    from tapegrad.dtypes import default_dtype

    return frombuffer(obj, dtype=d or default_dtype())


@function(tensors=False)
def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=None):
    """A tensor of whatever can be one: a tensor, an array, a DLPack object, a buffer, a number or nested sequences of numbers.

    Shares memory and history with `obj` where that is possible; `copy=True` copies always, `copy=False` never (ValueError if it would have to).
    `requires_grad=False` detaches.
    """
    check_device(device)
    d = check_dtype(dtype, "asarray")
    found = shared(obj, d)
    if found is None:
        if copy is False:
            if isinstance(obj, np.generic):
                raise RuntimeError("can't alias NumPy scalars. Either remove copy=False or transform it in a ndarray. ")
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        return finish(build(obj, d), bool(requires_grad))
    if d is not None and found.dtype is not d:
        if copy is False:
            raise ValueError(f"can't alias tensor with dtype '{found.dtype.scalar_name}' into dtype '{d.scalar_name}'.")
        found = found.to(d)
    elif copy:
        found = found.clone()
    if requires_grad is None:
        if found.requires_grad:
            warnings.warn(
                "torch.asarray: unspecified requires_grad now defaults to obj.requires_grad instead of False. Pass requires_grad=False "
                "explicitly to get the old behavior and silence this warning.",
                UserWarning,
                stacklevel=2,
            )
        return found
    if not requires_grad:
        return found.detach() if found.requires_grad else found
    return found if found.requires_grad else found.requires_grad_()
