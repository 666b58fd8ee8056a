"""Reading: what torch's names stand for here, tensors over the members of the container, and the refusals of files that hold more."""

from __future__ import annotations

import ctypes
import functools
import io
import math
import os
import pickle
import sys
import zipfile

from tapegrad import core, dtypes, geometry, restricted
from tapegrad.device import device as Device
from tapegrad.geometry import Size
from tapegrad.serialization.memory import POSTPONED, Storage, parameter_type, tensor_type

CORRUPTED = (
    "This is an internal miniz error. If you are seeing this error, there is a high likelihood that your checkpoint file is corrupted. This "
    "can happen if the checkpoint was not saved properly, was transferred incorrectly, or the file was modified after saving."
)
UNSAFE = (
    "In PyTorch 2.6, we changed the default value of the `weights_only` argument in `tapegrad.load` from `False` to `True`. Re-running "
    "`tapegrad.load` with `weights_only` set to `False` will likely succeed, but it can result in arbitrary code execution. Do it only if you "
    "got the file from a trusted source."
)
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files begin that torch wrote before 1.6


@functools.cache
def torch_globals() -> dict[str, object]:
    """Full path in a file -> what it is here."""
    result: dict[str, object] = {
        "torch._utils._rebuild_tensor_v2": rebuild_tensor,
        "torch._utils._rebuild_tensor_v3": rebuild_typed_tensor,
        "torch._utils._rebuild_parameter": rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": rebuild_parameter,
        "torch._tensor._rebuild_from_type_v2": rebuild_from_type,
        "torch.nn.parameter.Parameter": parameter_type(),
        "torch.Tensor": tensor_type(),
        "torch.Size": rebuild_size,
        "torch.device": Device,
        "torch.storage.UntypedStorage": None,
    }
    for d in dtypes.BY_CODE:
        result["torch." + d.name] = d
        if d.name in dtypes.STORAGES:
            result["torch." + dtypes.STORAGES[d.name]] = d
    return result


def rebuild_size(values=()):
    return Size(tuple(int(v) for v in values))


def rebuild_tensor(storage, storage_offset, size, stride, requires_grad, backward_hooks=None, metadata=None):
    """A tensor that looks into a loaded storage; raises if it would look beyond it."""
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise pickle.UnpicklingError("a tensor must be rebuilt from a storage")
    return looking_into(storage, storage.dtype, storage_offset, size, stride, requires_grad, metadata)


def rebuild_typed_tensor(storage, storage_offset, size, stride, requires_grad, backward_hooks, dtype, metadata=None):
    """The same for a storage of bytes."""
    if not isinstance(storage, Storage) or not isinstance(dtype, dtypes.dtype):
        raise pickle.UnpicklingError("a tensor must be rebuilt from a storage")
    return looking_into(storage, dtype, storage_offset, size, stride, requires_grad, metadata)


def looking_into(storage, d, offset, size, stride, requires_grad, metadata=None):
    """A tensor over a loaded storage; `metadata` says whether its conjugation or negation is postponed."""
    if metadata is not None and not isinstance(metadata, dict):
        raise pickle.UnpicklingError("the metadata of a tensor must be a dict")
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or len(size) > geometry.MAX_NDIM:
        raise pickle.UnpicklingError("mismatch in length of strides and shape")
    if any(type(n) is not int or n < 0 for n in (*size, *stride, offset)):
        raise pickle.UnpicklingError(f"sizes {size}, strides {stride} and offset {offset} must be non-negative ints")
    if math.prod(size) >= 2**62:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={size}")
    needed = 0 if 0 in size else (offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))) * d.itemsize
    if needed > storage.nbytes():
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {d.itemsize} requiring a storage "
            f"size of {needed} are out of bounds for storage of size {storage.nbytes()}"
        )
    slot = core.view_slot(storage.tensor._slot, geometry.geometry(size, stride), offset * d.itemsize if needed else 0)
    core.set_field(slot, core.DTYPE, d.code)
    result = core.wrap(slot)
    bits = sum(bit for kind, bit in POSTPONED.items() if metadata and metadata.get(kind) and (kind == "neg" or d.is_complex))
    if bits:
        from tapegrad.ops import postponed

        result = postponed.with_bits(result, bits)
    if requires_grad:
        result.requires_grad_()
    return result


def rebuild_parameter(data, requires_grad, backward_hooks=None, state=None):
    """A Parameter over loaded data."""
    result = parameter_type()(data, bool(requires_grad))
    return _with_state(result, state)


def rebuild_from_type(function, kind, args, state):
    """A tensor of a subclass, or with attributes."""
    if function not in (rebuild_tensor, rebuild_typed_tensor) or not isinstance(kind, type) or not issubclass(kind, tensor_type()):
        raise pickle.UnpicklingError("a tensor must be rebuilt as a tensor")
    result = function(*args)
    return _with_state(result if kind is tensor_type() else result.as_subclass(kind), state)


def _with_state(tensor, state):
    if state:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("the state of a tensor must be a dict of attributes")
        tensor.__dict__.update(state)
    return tensor


class _Unrestricted:
    """find_class for trusted files: torch's names as above, everything else by import."""

    def find_class(self, module, attribute):
        found = torch_globals()
        return found[f"{module}.{attribute}"] if f"{module}.{attribute}" in found else super().find_class(module, attribute)


def load(f, map_location=None, pickle_module=None, *, weights_only: bool | None = None, mmap: bool | None = None, **pickle_load_args):
    """Read what `save` (or torch.save) has written, from a path or a seekable file object.

    With `weights_only` (the default) only tensors and plain data are read, and classes named by `add_safe_globals`; anything else raises
    `pickle.UnpicklingError`.  Without it the file may run any code.  `map_location`: a device, a dict or a function from locations
    to such; everything is on the CPU.
    """
    weights_only = pickle_module is None if weights_only is None else bool(weights_only)
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, map_location, pickle_module or pickle, weights_only, pickle_load_args)
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    for attribute in ("seek", "tell", "read"):
        if not hasattr(f, attribute):
            raise AttributeError(
                f"'{type(f).__name__}' object has no attribute '{attribute}'. You can only tapegrad.load from a file that is seekable. Please "
                "pre-load the data into a buffer like io.BytesIO and try to load from it instead."
            )
    return _load(f, map_location, pickle_module or pickle, weights_only, pickle_load_args)


def _load(file, map_location, pickle_module, weights_only: bool, arguments: dict):
    start = file.tell()
    head = file.read(len(LEGACY))
    file.seek(start)
    if not head:
        raise EOFError("Ran out of input")
    if head.startswith(LEGACY):
        raise RuntimeError("this file has the format that torch.save wrote before PyTorch 1.6; load it there and save it again")
    if not head.startswith(b"PK\x03\x04"):
        raise pickle.UnpicklingError(f"Weights only load failed. The file is no archive of tapegrad.save (it begins with {head[:8]!r}).")
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # zipfile raises many kinds for a damaged directory
        raise RuntimeError(f"PytorchStreamReader failed reading zip archive: failed finding central directory. {CORRUPTED}") from error
    with archive:
        return Reader(archive, map_location).load(pickle_module, weights_only, arguments)


class Reader:
    """An open container: its records, and the storages that have been read."""

    def __init__(self, archive: zipfile.ZipFile, map_location):
        self.archive, self.map_location = archive, map_location
        names = archive.namelist()
        self.top = names[0].partition("/")[0] if names else ""
        self.storages: dict[str, Storage] = {}
        if f"{self.top}/version" not in names:
            raise RuntimeError('Expected hasRecord("version") to be true, but got false.')
        if map_location is not None and not isinstance(map_location, (str, Device, dict)) and not callable(map_location):
            raise TypeError(f"'{type(map_location).__name__}' object is not callable")
        order = self.record("byteorder").decode("ascii", "replace") if f"{self.top}/byteorder" in names else sys.byteorder
        if order not in ("little", "big"):
            raise ValueError(f"Unknown endianness type: {order}")
        self.swapped = order != sys.byteorder

    def record(self, record: str) -> bytes:
        try:
            return self.archive.read(f"{self.top}/{record}")
        except KeyError:
            raise RuntimeError(f"PytorchStreamReader failed locating file {record}: file not found. {CORRUPTED}") from None
        except Exception as error:
            raise RuntimeError(f"PytorchStreamReader failed reading file {record}: {error}. {CORRUPTED}") from error

    def load(self, pickle_module, weights_only: bool, arguments: dict):
        data = io.BytesIO(self.record("data.pkl"))
        if not weights_only:
            load_storage = staticmethod(self.storage)
            kind = type("Unpickler", (_Unrestricted, pickle_module.Unpickler), {"persistent_load": load_storage})
            return kind(data, **arguments).load()
        try:
            return restricted.Unpickler(data, torch_globals(), self.storage).load()
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(explained(str(error))) from None

    def storage(self, key) -> Storage:
        """The storage of a persistent id ('storage', type, key, location, number of elements)."""
        _, d, key, location, count = key
        if (d is not None and not isinstance(d, dtypes.dtype)) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError(f"a storage must be named by its type, key, location and size, but got {(d, key, location, count)}")
        found = self.storages.get(key)
        if found is None:
            size = 1 if d is None else d.itemsize
            data = self.record("data/" + key)
            if len(data) != count * size:
                raise RuntimeError(
                    f"record size ({len(data)} bytes) does not match expected size ({count * size} bytes = {count} elements * {size} "
                    "bytes/element)"
                )
            found = self.storages[key] = Storage(bytes_tensor(data if not self.swapped else swapped(data, d)), key, d)
        elif found.dtype is not d:
            found = Storage(found.tensor, key, d)
        return self.placed(found, location)

    def placed(self, storage, location):
        where = self.map_location
        if callable(where) and not isinstance(where, (str, Device, dict)):
            result = where(storage, location)
            if result is not None and not isinstance(result, Storage):
                raise TypeError(f"map_location must return a storage or None, but returned {type(result).__name__}")
            return storage if result is None else result
        if isinstance(where, dict):
            where = where.get(location, location)
        where = location if where is None else where
        if str(where).partition(":")[0] == "cuda":
            raise RuntimeError(
                "Attempting to deserialize object on a CUDA device but tapegrad.cuda.is_available() is False. If you are running on a CPU-only "
                "machine, please use tapegrad.load with map_location=tapegrad.device('cpu') to map your storages to the CPU."
            )
        Device(where)
        return storage


def bytes_tensor(data: bytes):
    """A uint8 tensor with a copy of `data`."""
    tensor = core.wrap(core.allocate_slot(geometry.geometry((len(data),)), dtypes.uint8.code))
    ctypes.memmove(core.data_of(tensor._slot), data, len(data))
    return tensor


def swapped(data: bytes, d) -> bytes:
    """The bytes of elements of `d` written on a machine of the other byte order."""
    import numpy as np

    size = d.itemsize // 2 if d.is_complex else d.itemsize
    return np.frombuffer(data, np.uint8).reshape(-1, size)[:, ::-1].tobytes()


def explained(message: str) -> str:
    """The error of a restricted load, with torch's advice."""
    if "Unsupported global" in message:
        return (
            "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only if you trust the "
            f"source of the checkpoint. \n\t(1) {UNSAFE}\n\t(2) Alternatively, to load with `weights_only=True` please check the recommended "
            f"steps in the following error message.\n\tWeightsUnpickler error: {message}"
        )
    return f"Weights only load failed. {UNSAFE}\n\nWeightsUnpickler error: {message}"
