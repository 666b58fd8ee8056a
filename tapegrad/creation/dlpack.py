"""DLPack: memory shared with other libraries through capsules.

NumPy makes and reads the capsules.  A dtype that it has not (bfloat16, complex32) passes it as an integer of the same size, and the dtype in
the capsule is rewritten here.  The layout is that of DMLC's `dlpack.h`: a DLTensor, behind 32 bytes of header if the capsule is versioned, has
its dtype (code, bits, lanes) after data (8 bytes), device (8) and ndim (4).
"""

from __future__ import annotations

import ctypes

import numpy as np

from tapegrad import dtypes

HEADERS = {b"dltensor": 0, b"dltensor_versioned": 32}
DTYPE_AT = 20
BITS = {dtypes.bfloat16: (4, 16), dtypes.complex32: (5, 32)}  # dtype -> (kind, bits) of what NumPy cannot tell
INTEGERS: dict[int, np.dtype] = {16: np.dtype(np.uint16), 32: np.dtype(np.uint32)}
UNSIGNED = 1
USED = (
    "from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so you might have already constructed a tensor "
    "from it once."
)

_api = ctypes.pythonapi
_api.PyCapsule_IsValid.argtypes = _api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p


def _dtype_fields(capsule):
    """(kind, bits) in a capsule, as an array over its memory."""
    for name, header in HEADERS.items():
        if _api.PyCapsule_IsValid(capsule, name):
            return (ctypes.c_uint8 * 2).from_address(_api.PyCapsule_GetPointer(capsule, name) + header + DTYPE_AT)
    raise RuntimeError(USED)


def export(t, options: dict):
    """A capsule with the memory of `t`."""
    if t.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if t.is_conj() or t.is_neg():
        raise BufferError(f"Can't export tensors with the {'conjugate' if t.is_conj() else 'negative'} bit set")
    if t.dtype not in BITS:
        return t.numpy().__dlpack__(**options)
    array, (kind, bits) = t._array(), BITS[t.dtype]
    capsule = np.ndarray(array.shape, INTEGERS[bits], array, 0, array.strides).__dlpack__(**options)
    _dtype_fields(capsule)[:] = kind, bits
    return capsule


class _Source:
    """A capsule as an object that NumPy asks for it."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **options):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


def read(source):
    """(array, dtype) over the memory of a capsule, or of an object that makes one."""
    if hasattr(source, "__dlpack__"):
        capsule = source.__dlpack__()
    elif type(source).__name__ == "PyCapsule":
        capsule = source
    else:
        raise RuntimeError(USED)
    fields = _dtype_fields(capsule)
    d = next((d for d, own in BITS.items() if own == tuple(fields)), None)
    if d is not None:
        fields[0] = UNSIGNED
    array = np.from_dlpack(_Source(capsule))
    return array, d
