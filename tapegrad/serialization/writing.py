"""Writing: tensors pickled under torch's names, their memory as members of the container."""

from __future__ import annotations

import ctypes
import functools
import io
import os
import pickle
import sys
import uuid
import zipfile
from collections import OrderedDict
from typing import Any

from tapegrad import core, dtypes
from tapegrad.device import device as Device
from tapegrad.geometry import Size
from tapegrad.serialization.memory import POSTPONED, Storage, parameter_type, tensor_type

ALIGNMENT = 64


class Global:
    """A name in the pickle, written as it is."""

    def __init__(self, module: str, name: str):
        self.module, self.__name__ = module, name

    def __call__(self, *args):
        raise TypeError(f"{self.module}.{self.__name__} is only a name")


@functools.cache
def name(module: str, attribute: str) -> Global:
    return Global(module, attribute)


class Pickler(pickle._Pickler):  # the one written in Python: it lets names be written that cannot be imported here
    """Pickles an object with its tensors; `storages` is what they look into."""

    memo: Any
    write: Any
    get: Any

    def __init__(self, file, protocol: int):
        super().__init__(file, protocol)
        self.storages: dict[tuple, Storage] = {}

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self._once(obj, lambda: (self.write(pickle.GLOBAL + f"{obj.module}\n{obj.__name__}\n".encode()), self.memoize(obj)))
        elif isinstance(obj, dtypes.dtype):
            self.save(name("torch", obj.name))
        elif type(obj) is Size:
            self._once(obj, lambda: self.save_reduce(name("torch", "Size"), (tuple(obj),), obj=obj))
        elif isinstance(obj, Device):
            self._once(obj, lambda: self.save_reduce(name("torch", "device"), (str(obj),), obj=obj))
        elif hasattr(obj, "_slot") and isinstance(obj, tensor_type()):
            self._once(obj, lambda: self.save_reduce(*self._tensor(obj), obj=obj))
        elif obj is tensor_type():
            self.save(name("torch", "Tensor"))
        elif obj is parameter_type():
            self.save(name("torch.nn.parameter", "Parameter"))
        else:
            super().save(obj, save_persistent_id)

    def _once(self, obj, write) -> None:
        found = self.memo.get(id(obj))
        if found is None:
            write()
        else:
            self.write(self.get(found[0]))

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            if obj.dtype.name not in dtypes.STORAGES:
                return ("storage", name("torch.storage", "UntypedStorage"), obj.key, "cpu", obj.nbytes())
            return ("storage", name("torch", dtypes.STORAGES[obj.dtype.name]), obj.key, "cpu", obj.nbytes() // obj.dtype.itemsize)
        return None

    def _tensor(self, t) -> tuple:
        """(function, arguments) that rebuild a tensor."""
        kind = type(t)
        state = {k: v for k, v in t.__dict__.items() if k != "_version_offset"}
        if kind is parameter_type():
            parts: tuple = (t.detach(), t.requires_grad, OrderedDict())
            if state:
                return name("torch._utils", "_rebuild_parameter_with_state"), (*parts, state)
            return name("torch._utils", "_rebuild_parameter"), parts
        function = name("torch._utils", "_rebuild_tensor_v2")
        args: tuple = (self._storage(t), t.storage_offset(), tuple(t.shape), tuple(t.stride()), t.requires_grad, OrderedDict())
        if t.dtype.name not in dtypes.STORAGES:
            function, args = name("torch._utils", "_rebuild_tensor_v3"), (*args, t.dtype)
        metadata = {kind: True for kind, bit in POSTPONED.items() if core.get_field(t._slot, core.DTYPE) & bit}
        if metadata:
            args = (*args, metadata)
        if kind is tensor_type() and not state:
            return function, args
        return name("torch._tensor", "_rebuild_from_type_v2"), (function, kind, args, state)

    def _storage(self, t) -> Storage:
        made = Storage(t.detach(), "", t.dtype)
        place = (made.address(), 0) if made.nbytes() else (0, core.get_field(t._slot, core.BUFFER))
        found = self.storages.get(place)
        if found is None:
            made.key = str(len(self.storages))
            found = self.storages[place] = made
        if found.dtype is not t.dtype:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different types"
            )
        return found


def save(obj, f, pickle_module=pickle, pickle_protocol: int = 2, _use_new_zipfile_serialization: bool = True) -> None:
    """Write `obj` (tensors, and anything that can be pickled) to a path or to a file object with `write`.

    Tensors that share memory share it again after loading.  The format is torch's: `torch.load` reads the file.

    >>> import io
    >>> import tapegrad as tg
    >>> file = io.BytesIO()
    >>> tg.save({"w": tg.ones(2)}, file)
    >>> tg.load(io.BytesIO(file.getvalue()))
    {'w': tensor([1., 1.])}
    """
    if not _use_new_zipfile_serialization:
        raise ValueError("save writes the zip format only: leave _use_new_zipfile_serialization at True")
    if isinstance(f, (str, os.PathLike)):
        path = os.fspath(f)
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            raise RuntimeError(f"Parent directory {os.path.dirname(path)} does not exist.")
    elif not hasattr(f, "write"):
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute")
    data = io.BytesIO()
    pickler = Pickler(data, pickle_protocol)
    pickler.dump(obj)  # before the file is touched: an object that cannot be pickled leaves it as it was
    top = os.path.splitext(os.path.basename(path))[0] or "archive" if isinstance(f, (str, os.PathLike)) else "archive"
    with zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as archive:
        records = Records(archive, top)
        records.write("data.pkl", data.getvalue())
        records.write(".format_version", b"1")
        records.write(".storage_alignment", str(ALIGNMENT).encode())
        records.write("byteorder", sys.byteorder.encode())
        for storage in pickler.storages.values():
            records.write("data/" + storage.key, memory_of(storage))
        records.write("version", b"3\n")
        records.write(".data/serialization_id", str(uuid.uuid4().int).zfill(40)[:40].encode())


def memory_of(storage: Storage):
    nbytes = storage.nbytes()
    return memoryview((ctypes.c_char * nbytes).from_address(storage.address())) if nbytes else b""


class Records:
    """The members of the container, each beginning at a multiple of 64 bytes."""

    def __init__(self, archive: zipfile.ZipFile, top: str):
        self.archive, self.top = archive, top

    def write(self, record: str, data) -> None:
        info = zipfile.ZipInfo(f"{self.top}/{record}")
        size = len(data)
        large = size >= 2**31 - 1
        start = self.archive.start_dir + 30 + len(info.filename.encode()) + (20 if large else 0)
        padding = -(start + 4) % ALIGNMENT
        info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
        info.file_size = size
        with self.archive.open(info, "w", force_zip64=large) as member:
            member.write(data)
