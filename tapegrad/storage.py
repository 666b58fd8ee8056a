"""Storages: the memory of tensors as Python objects.

An `UntypedStorage` is the whole memory of a tensor as bytes, a `TypedStorage` the same as a vector of elements.  Both hold a tensor of their own
over the buffer; how much memory there is they ask the engine, as another storage may have resized it.  `FloatStorage` and its kind are the old
constructors of typed storages.  What tensors do with storages (`set_`, `resize_`) is in `ops/storages.py`.

Memory grows by moving: every tensor over the buffer follows.  The old memory is never given back, as arrays may look at it (`_outgrown`).
Memory shrinks by hiding its end.
"""

from __future__ import annotations

import ctypes
import operator
import sys
import weakref
from typing import Any

import numpy as np

from tapegrad import core, creation, dtypes, geometry
from tapegrad.cautions import warn_once
from tapegrad.engine.bind import Handle
from tapegrad.naming import known_as

NOT_RESIZABLE = "Trying to resize storage that is not resizable"
DEPRECATED = (
    "TypedStorage is deprecated. It will be removed in the future and UntypedStorage will be the only storage class. This should only matter to you "
    "if you are using storages directly.  To access UntypedStorage directly, use tensor.untyped_storage() instead of tensor.storage()"
)
_known: weakref.WeakValueDictionary[int, UntypedStorage] = weakref.WeakValueDictionary()  # buffer -> the storage that users have
_outgrown: list = []  # tensors over memory that has been moved elsewhere


# --- memory ---------------------------------------------------------------------------------------------------------
def whole(tensor, d):
    """All the memory of a tensor, as a vector of `d`."""
    return core.looking_at(tensor, d, geometry.geometry((core.memory_of(tensor._slot)[1] // d.itemsize,)), 0)


def is_resizable(slot: int) -> bool:
    """Whether memory belongs to the engine, to one buffer, and is not lent to NumPy."""
    rows = core.buffer_view()
    row = rows[core.get_field(slot, core.BUFFER)]
    shared = (rows["memory"] == row["memory"]) & (rows["references"] > 0)
    return not row["owner"] and not row["lent"] and int(shared.sum()) == 1


def resize(slot: int, nbytes: int) -> None:
    """Give the memory that a slot looks into another size, under every tensor that looks into it."""
    if nbytes < 0:
        raise RuntimeError(f"size must be non-negative (got {nbytes})")
    if not is_resizable(slot):
        raise RuntimeError(NOT_RESIZABLE)
    b = core.get_field(slot, core.BUFFER)
    row = core.buffer_view()[b]
    if nbytes <= row["nbytes"]:
        row["hidden"] = row["nbytes"] - nbytes
        return
    larger = creation.empty_of((nbytes,), dtypes.uint8)
    buffers, slots = core.buffer_view(), core.slot_view()
    row, other = buffers[b], buffers[core.get_field(larger._slot, core.BUFFER)]
    old, new = int(row["memory"]), int(other["memory"])
    ctypes.memmove(new, old, int(row["nbytes"] - row["hidden"]))
    row["hidden"] = 0
    for field in ("memory", "nbytes", "size_class", "guard"):
        row[field], other[field] = other[field].copy(), row[field].copy()
    slots["data"][(slots["buffer"] == b) & (slots["data"] != 0)] += new - old
    core.set_field(larger._slot, core.GEOMETRY, geometry.geometry((0,)))
    slots["data"][larger._slot] = old
    _outgrown.append(larger)


# --- both kinds -----------------------------------------------------------------------------------------------------
class _StorageBase:
    """What both kinds of storage have in common."""

    _holder: Handle  # a tensor over the memory
    _dtype: Any = None  # of the elements; None of bytes

    def _vector(self):
        """The memory as a vector of the storage's elements."""
        return whole(self._holder, self._dtype or dtypes.uint8)

    @classmethod
    def _over(cls, tensor, d=None):
        """The storage of a tensor; of elements of `d` if it is typed."""
        self = object.__new__(cls)
        self._holder, self._dtype = tensor.detach(), d
        return self

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return core.memory_of(self._holder._slot)[0] if self.nbytes() else 0

    @property
    def _cdata(self) -> int:
        """A number that storages of the same memory have in common."""
        return core.get_field(self._holder._slot, core.BUFFER)

    def nbytes(self) -> int:
        """How many bytes there are."""
        return core.memory_of(self._holder._slot)[1]

    def size(self) -> int:
        """How many elements there are."""
        return self.nbytes() // self.element_size()

    def __len__(self) -> int:
        return self.size()

    def element_size(self) -> int:
        """Bytes of an element."""
        return self._vector().dtype.itemsize

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes()

    device = property(lambda self: self._holder.device, doc="Where the memory is: the CPU.")
    is_cuda = is_hpu = is_sparse = is_sparse_csr = property(lambda self: False)
    filename = property(lambda self: None, doc="The file that the memory is mapped from: none.")

    def get_device(self) -> int:
        """The number of the device: -1."""
        return -1

    def is_shared(self) -> bool:
        """Whether other processes see the memory: never."""
        return False

    def is_pinned(self, device=None) -> bool:
        """Whether the memory is pinned for a GPU: never."""
        return False

    def resizable(self) -> bool:
        """Whether `resize_` can work: the memory is not somebody else's."""
        return is_resizable(self._holder._slot)

    def resize_(self, size: int):
        """Another number of elements, for every tensor that looks at this memory; those that stay are kept."""
        resize(self._holder._slot, operator.index(size) * self.element_size())
        return self

    def copy_(self, source, non_blocking=None):
        """The bytes of a storage of the same size."""
        if source.nbytes() != self.nbytes():
            raise RuntimeError(f"size does not match, self was {self.nbytes()} bytes but src was {source.nbytes()} bytes")
        if self.nbytes():
            ctypes.memmove(self.data_ptr(), source.data_ptr(), self.nbytes())
        return self

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._vector().tolist()

    def fill_(self, value):
        """Every element replaced by a number."""
        self[0 : len(self)] = value
        return self

    def clone(self):
        """A storage with a copy of the memory."""
        return type(self)._over(whole(self._holder, dtypes.uint8).clone(), self._dtype)

    def cpu(self):
        """The storage itself: it is on the CPU."""
        return self

    def _at(self, k):
        size = self.size()
        if not -size <= k < size:
            raise IndexError(f"index {k} out of range for storage of size {size}")
        return k % size

    def __setitem__(self, k, value) -> None:
        if isinstance(value, _StorageBase):
            raise RuntimeError(f"cannot set item with value type {type(value)}")
        if not isinstance(k, (int, slice)):
            raise RuntimeError(f"can't index a {type(self)} with {type(k)}")
        vector = self._vector()
        if isinstance(value, (list, tuple)):
            raise TypeError(f"can't assign a {type(value).__name__} to a {vector.type()}")
        vector[k if isinstance(k, slice) else self._at(k)] = value

    def __iter__(self):
        return iter(self.tolist())

    def __copy__(self):
        return self.clone()

    def __deepcopy__(self, memo):
        known = memo.setdefault("tapegrad", {})
        address = self.data_ptr()
        if address not in known:
            known[address] = whole(self._holder, dtypes.uint8).clone()
        return type(self)._over(known[address], self._dtype)

    def __reduce__(self):
        return _unpickled, (type(self), np.array(whole(self._holder, dtypes.uint8)._array()), self._dtype)

    def __repr__(self):
        kind = f"dtype={self._dtype}, " if isinstance(self, TypedStorage) else ""
        return " " + "\n ".join(map(str, self.tolist())) + f"\n[tapegrad.storage.{type(self).__name__}({kind}device=cpu) of size {self.size()}]"

    def _to(self, d):
        """The elements converted, in a storage of their own."""
        return TypedStorage._over(self._vector().to(d, copy=True), d)


def _unpickled(kind, memory, d):
    return kind._over(creation.from_array(memory, dtypes.uint8), d)


def _converter(name: str, d):
    def convert(self):
        return self._to(d)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"The elements converted to {d.name}, in a storage of their own."
    return convert


CONVERSIONS = {
    "double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16", "char": "int8", "byte": "uint8",
    "bool": "bool", "bfloat16": "bfloat16", "complex_double": "complex128", "complex_float": "complex64",
}  # fmt: skip
for _name, _dtype in CONVERSIONS.items():
    setattr(_StorageBase, _name, _converter(_name, dtypes.BY_NAME[_dtype]))


# --- bytes ----------------------------------------------------------------------------------------------------------
@known_as("tapegrad.storage.UntypedStorage")
class UntypedStorage(_StorageBase):
    """The memory of a tensor as bytes: `t.untyped_storage()`, or `UntypedStorage(size)`, or of a sequence of bytes.

    >>> import tapegrad as tg
    >>> tg.ones(2).untyped_storage().nbytes()
    8
    """

    def __init__(self, *args, device=None, **kwargs):
        if kwargs or len(args) > 1:
            given = ", ".join([*(type(a).__name__ for a in args), *(f"{k}={type(v).__name__}, " for k, v in kwargs.items())])
            raise TypeError(
                f"torch.UntypedStorage() received an invalid combination of arguments - got ({given}), but expected one of:\n"
                " * (*, int allocator = None, torch.device device = None)\n * (int size, *, int allocator = None, torch.device device = None)\n"
                " * (object sequence, *, int allocator = None, torch.device device = None)\n"
            )
        if device is not None and str(device).partition(":")[0] != "cpu":
            raise RuntimeError(f"torch.UntypedStorage(): Storage device not recognized: {str(device).partition(':')[0]}")
        self._holder = _bytes(args[0] if args else 0)

    @classmethod
    def _of(cls, tensor):
        """The storage of a tensor: one and the same object for all tensors over the memory, as long as anything has it."""
        buffer = core.get_field(tensor._slot, core.BUFFER)
        found = _known.get(buffer)
        if found is None:
            found = _known[buffer] = cls._over(tensor)
        return found

    def untyped(self):
        """The storage itself."""
        return self

    def type(self, dtype=None, non_blocking=False):
        """The name of the class."""
        return "tapegrad.storage.UntypedStorage" if dtype is None else self

    def new(self):
        """An empty storage."""
        return UntypedStorage()

    def byteswap(self, dtype) -> None:
        """The bytes of every element (or part of a complex one) of `dtype` in the opposite order, in place."""
        parts = dtype.to_real().itemsize
        if parts > 1:
            whole(self._holder, dtypes.uint8)._array().view(f"u{parts}").byteswap(inplace=True)

    @classmethod
    def from_buffer(cls, buffer, byte_order=None, count=-1, offset=0, *, dtype):
        """A copy of the memory of a Python buffer: `count` elements of `dtype` from byte `offset` on, given in "little", "big" or "native" order."""
        view = memoryview(buffer)
        if byte_order is None and dtype.itemsize > 1:
            raise RuntimeError("function missing required argument 'byte_order' (pos 2)")
        if byte_order not in (None, "big", "little", "native"):
            raise ValueError(f"invalid byte_order '{byte_order}' (expected 'big', 'little', or 'native')")
        size = view.nbytes
        if not 0 <= offset <= size:
            raise ValueError(f"offset must be non-negative and no greater than buffer length ({offset}) , but got {size}")
        if count < 0 and (size - offset) % dtype.itemsize:
            raise ValueError(f"buffer size ({size}) must be a multiple of element size ({dtype.itemsize})")
        count = (size - offset) // dtype.itemsize if count < 0 else count
        if offset + count * dtype.itemsize > size:
            raise ValueError(f"buffer has only {size - offset} elements after offset {offset}, but specified a size of {count}")
        found = np.frombuffer(view, np.uint8, count * dtype.itemsize, offset)
        made = cls._over(creation.from_array(found != 0 if dtype.name == "bool" else found, dtypes.uint8))
        if byte_order not in (None, "native", sys.byteorder):
            made.byteswap(dtype)
        return made

    def __getitem__(self, k):
        if isinstance(k, slice):
            if k.step not in (None, 1):
                raise RuntimeError(f"Trying to slice with a step of {k.step}, but only a step of 1 is supported")
            return UntypedStorage._over(self._vector()[k].clone())
        if not isinstance(k, int):
            raise TypeError(f"can't index a tapegrad.UntypedStorage with {type(k).__name__}")
        return self._vector()[self._at(k)].item()

    def __bytes__(self) -> bytes:
        return ctypes.string_at(self.data_ptr(), self.nbytes()) if self.nbytes() else b""

    def __eq__(self, other):
        return isinstance(other, UntypedStorage) and self._cdata == other._cdata

    def __hash__(self):
        return hash(self._cdata)


def _bytes(data):
    """A tensor of a number of bytes, or of the bytes in a sequence."""
    if isinstance(data, int):
        if data < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {data}: [{data}]")
        return creation.empty_of((data,), dtypes.uint8)
    if isinstance(data, Handle) or not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise RuntimeError(f"torch.UntypedStorage(): Expected a sequence type, but got {type(data).__name__}")
    for item in data:
        if not isinstance(item, int):
            raise RuntimeError(
                f"torch.UntypedStorage(): tried to construct a storage from a sequence ({type(data).__name__}), but one of the items was of type "
                f"{type(item).__name__} instead of int"
            )
    return creation.build([item % 256 for item in data], dtypes.uint8)


# --- elements -------------------------------------------------------------------------------------------------------
FORMS = (
    "TypedStorage.__init__ received an invalid combination of arguments. Expected one of:\n * (*, torch.device device, torch.dtype dtype)\n"
    " * (int size, *, torch.device device, torch.dtype dtype)\n * (Sequence data, *, torch.device device, torch.dtype dtype)\n"
    " * (*, UntypedStorage wrap_storage, torch.dtype dtype)"
)
LEGACY_FORMS = "{}.__new__ received an invalid combination of arguments. Expected one of:\n * no arguments\n * (int size)\n * (Sequence data)\n * (*, UntypedStorage wrap_storage)"


def _elements(forms: str, args, wrap_storage, d):
    """A tensor over the memory that a constructor of typed storages means."""
    if wrap_storage is not None:
        if args:
            raise RuntimeError(f"{forms}\nNo positional arguments should be given when using 'wrap_storage'")
        if d is None:
            raise RuntimeError(f"{forms}\nArgument 'dtype' must be specified")
        if not isinstance(d, dtypes.dtype):
            raise TypeError(f"{forms}\nArgument 'dtype' must be torch.dtype, not {type(d)}")
        if not isinstance(wrap_storage, UntypedStorage):
            raise TypeError(f"{forms}\nArgument 'wrap_storage' must be UntypedStorage, but got {type(wrap_storage)}")
        return wrap_storage._holder
    if len(args) > 1:
        raise RuntimeError(f"{forms}\nToo many positional arguments")
    if not args or isinstance(args[0], int):
        size = args[0] if args else 0
        if size < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {size}: [{size}]")
        return creation.empty_of((size,), d)
    if isinstance(args[0], (Handle, UntypedStorage)) or not hasattr(args[0], "__len__"):
        raise TypeError(f"{forms}\nArgument type not recognized: {type(args[0])}")
    if isinstance(args[0], str):
        raise TypeError("new(): invalid data type 'str'")
    return creation.build(list(args[0]), d)


@known_as("tapegrad.storage.TypedStorage")
class TypedStorage(_StorageBase):
    """The memory of a tensor as a vector of its dtype: `t.storage()`, `TypedStorage(size, dtype=...)`, of a sequence, or over other memory.

    >>> import tapegrad as tg
    >>> tg.TypedStorage([1, 2], dtype=tg.int32).tolist()
    [1, 2]
    """

    def __init__(self, *args, device=None, dtype=None, wrap_storage=None):
        warn_once(DEPRECATED)
        if wrap_storage is not None and device is not None:
            raise RuntimeError(f"{FORMS}\nArgument 'device' should not be specified when 'wrap_storage' is given")
        if device is not None and str(device).partition(":")[0] != "cpu":
            raise RuntimeError(f"torch.UntypedStorage(): Storage device not recognized: {str(device).partition(':')[0]}")
        if wrap_storage is None and dtype is not None and not isinstance(dtype, dtypes.dtype):
            raise RuntimeError(f"expected torch.dtype, but got {type(dtype)}")
        self._dtype = dtype if wrap_storage is not None else dtype or dtypes.default_dtype()
        self._holder = _elements(FORMS, args, wrap_storage, self._dtype)

    dtype = property(lambda self: self._dtype, doc="The element type.")

    def untyped(self):
        """The same memory as bytes."""
        return UntypedStorage._of(self._holder)

    _untyped_storage = property(untyped)

    def type(self, dtype=None, non_blocking=False):
        """The name of the old constructor; or the elements converted to that of another (or its name)."""
        if dtype is None:
            return f"tapegrad.{self.pickle_storage_type()}"
        name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
        kind = LEGACY.get(name.rpartition(".")[2])
        if kind is None:
            raise ValueError(f"invalid type: {name!r}")
        return self if kind.dtype is self._dtype else self._to(kind.dtype)

    def pickle_storage_type(self) -> str:
        """The name of the old constructor."""
        if self._dtype.name not in dtypes.STORAGES:
            raise KeyError(f"dtype {self._dtype} is not recognized")
        return dtypes.STORAGES[self._dtype.name]

    def __getitem__(self, k):
        if isinstance(k, slice):
            raise RuntimeError("slices are only supported in UntypedStorage.__getitem__")
        if not isinstance(k, int):
            raise RuntimeError(f"can't index a {type(self)} with {type(k)}")
        return self._vector()[self._at(k)].item()


class _LegacyMeta(type):
    """isinstance(storage, FloatStorage) asks for the dtype."""

    dtype: dtypes.dtype

    def __instancecheck__(cls, instance):
        if cls is _LegacyStorage:
            return isinstance(instance, TypedStorage)
        return isinstance(instance, TypedStorage) and instance._dtype is cls.dtype


class _LegacyStorage(TypedStorage, metaclass=_LegacyMeta):
    """The base of the old constructors, `FloatStorage` and its kind: they make a TypedStorage."""

    def __new__(cls, *args, wrap_storage=None, **kwargs):
        if cls is _LegacyStorage:
            raise RuntimeError("Only child classes of _LegacyStorage can be instantiated")
        forms = LEGACY_FORMS.format(cls)
        for name in ("device", "dtype"):
            if name in kwargs:
                raise RuntimeError(f"{forms}\nKeyword argument '{name}' cannot be specified")
        if kwargs:
            raise TypeError(f"TypedStorage.__new__() got an unexpected keyword argument '{next(iter(kwargs))}'")
        warn_once(DEPRECATED)
        return TypedStorage._over(_elements(forms, args, wrap_storage, cls.dtype), cls.dtype)

    @classmethod
    def from_buffer(cls, *args, **kwargs):
        """A copy of the memory of a Python buffer; see `UntypedStorage.from_buffer`."""
        return TypedStorage._over(UntypedStorage.from_buffer(*args, dtype=cls.dtype, **kwargs)._holder, cls.dtype)


LEGACY = {
    name: _LegacyMeta(name, (_LegacyStorage,), {"dtype": dtypes.BY_NAME[d], "__module__": "tapegrad", "__doc__": f"The old constructor of {d} storages."})
    for d, name in dtypes.STORAGES.items()
}


def is_storage(obj, /) -> bool:
    """Whether an object is a storage."""
    return isinstance(obj, _StorageBase)
