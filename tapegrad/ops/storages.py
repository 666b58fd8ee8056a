"""What a tensor's memory is: storages, and the tensor told to look elsewhere in memory (set_, resize_)."""

from __future__ import annotations

import ctypes

from tapegrad import core, creation, determinism, dtypes, formats, geometry, modes
from tapegrad.autograd import inplace
from tapegrad.engine.bind import Handle
from tapegrad.ops import plan as plans
from tapegrad.ops.public import FUNCTIONS, METHODS, method
from tapegrad.ops.views import ints

NOT_RESIZABLE = "Trying to resize storage that is not resizable"


def storage_of(slot: int) -> tuple[int, int]:
    """(address, bytes) of the memory that a slot looks into."""
    row = core.buffer_view()[core.get_field(slot, core.BUFFER)]
    return int(row["memory"]), int(row["nbytes"])


def looking_at(tensor, d, g: int, offset: int):
    """A tensor of dtype `d` and geometry `g` over the memory of `tensor`, from byte `offset` of the storage on."""
    slot = core.view_slot(tensor._slot, g, storage_of(tensor._slot)[0] + offset - core.data_of(tensor._slot))
    core.set_field(slot, core.DTYPE, d.code)
    return core.wrap(slot)


# --- storages -------------------------------------------------------------------------------------------------------
class _Storage:
    """The whole memory of a tensor as a vector; tensors that are views of one another have the same."""

    _memory: object  # the vector

    def data_ptr(self) -> int:
        """The address of the first byte."""
        return storage_of(self._memory._slot)[0] if self.nbytes() else 0

    def nbytes(self) -> int:
        """How many bytes there are."""
        return storage_of(self._memory._slot)[1]

    def size(self) -> int:
        """How many elements there are."""
        return self._memory.shape[0]

    __len__ = size

    def element_size(self) -> int:
        """Bytes of an element."""
        return self._memory.dtype.itemsize

    device = property(lambda self: self._memory.device)
    is_cuda = False

    def is_shared(self) -> bool:
        """Whether other processes see the memory: never."""
        return False

    def cpu(self):
        """The storage itself."""
        return self

    def tolist(self) -> list:
        """The elements as Python numbers."""
        return self._memory.tolist()

    def fill_(self, value):
        """Every element replaced by a number."""
        self._memory.fill_(value)
        return self

    def clone(self):
        """A storage with a copy of the memory."""
        return type(self)._over(self._memory.clone())

    def __getitem__(self, k):
        found = self._memory[k]
        return type(self)._over(found) if isinstance(k, slice) else found.item()

    def __setitem__(self, k, value):
        self._memory[k] = value

    def __iter__(self):
        return iter(self.tolist())

    def __repr__(self):
        kind = f"dtype={self._memory.dtype}, " if isinstance(self, TypedStorage) else ""
        return "\n".join(f" {v}" for v in self.tolist()) + f"\n[tapegrad.storage.{type(self).__name__}({kind}device=cpu) of size {self.size()}]"

    @classmethod
    def _over(cls, memory):
        self = object.__new__(cls)
        self._memory = memory
        return self


class UntypedStorage(_Storage):
    """The memory of a tensor as bytes: `t.untyped_storage()`, or `UntypedStorage(size)`, or of a sequence of bytes."""

    def __init__(self, data=0):
        self._memory = creation.empty_of((data,), dtypes.uint8) if isinstance(data, int) else creation.tensor(data, dtype=dtypes.uint8)

    def untyped(self):
        """The storage itself."""
        return self

    def __bytes__(self):
        return ctypes.string_at(self.data_ptr(), self.nbytes()) if self.nbytes() else b""

    def __eq__(self, other):
        return isinstance(other, UntypedStorage) and bytes(self) == bytes(other)

    __hash__ = object.__hash__


class TypedStorage(_Storage):
    """The memory of a tensor as a vector of its dtype: `t.storage()`, or `TypedStorage(data, dtype=...)`."""

    def __init__(self, data=0, *, dtype=None):
        d = dtype or dtypes.default_dtype()
        self._memory = creation.empty_of((data,), d) if isinstance(data, int) else creation.tensor(data, dtype=d)

    dtype = property(lambda self: self._memory.dtype)

    def untyped(self):
        """The same memory as bytes."""
        return self._memory.untyped_storage()


def whole(tensor, d):
    """All the memory of a tensor, as a vector of `d`."""
    tensor = tensor.detach()
    return looking_at(tensor, d, geometry.geometry((storage_of(tensor._slot)[1] // d.itemsize,)), 0)


@method()
def untyped_storage(self):
    """The memory behind the tensor, as bytes."""
    plans.settled(self)
    return UntypedStorage._over(whole(self, dtypes.uint8))


@method()
def storage(self):
    """The memory behind the tensor, as a vector of its dtype."""
    plans.settled(self)
    return TypedStorage._over(whole(self, self.dtype))


@method()
def is_set_to(self, tensor):
    """Whether both look at the same memory in the same way."""
    a, b = (plans.settled(t) for t in (self, tensor))
    return core.data_of(a) == core.data_of(b) and all(core.get_field(a, f) == core.get_field(b, f) for f in (core.BUFFER, core.GEOMETRY, core.DTYPE))


# --- looking elsewhere ----------------------------------------------------------------------------------------------
LIMIT = 2**63


def check_sizes(sizes: tuple) -> None:
    """torch's errors for sizes that no memory has."""
    numel = step = 1
    for n in sizes:
        numel *= n
        if n < 0 or numel >= 2 * LIMIT:
            raise RuntimeError("numel: integer multiplication overflow")
    for n in sizes:
        step *= max(n, 1)
        if step >= LIMIT:
            raise RuntimeError("Stride calculation overflowed" if not numel else f"Storage size calculation overflowed with sizes={list(sizes)}")


def sized(sizes: tuple, steps: tuple, itemsize: int, offset: int = 0) -> int:
    """The bytes that memory must have for sizes and strides."""
    if any(s < 0 for s in steps):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(sizes)} and strides={list(steps)}")
    nbytes = 0 if 0 in sizes else (offset + 1 + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))) * itemsize
    if nbytes >= LIMIT:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(sizes)}")
    return nbytes


def is_source(x) -> bool:
    return hasattr(x, "_slot") or isinstance(x, _Storage)


@method()
def set_(self, source=None, storage_offset=None, size=None, stride=None):
    """Look at the memory of a tensor or storage instead: all of it, or by offset, sizes and strides; without a source at nothing."""
    plans.settled(self)
    inplace.check_writable(self)
    if inplace.is_recorded(self, [source]):
        raise RuntimeError("the derivative for 'set_' is not implemented")
    if source is None:
        inplace.become_view(self, creation.empty_of((0,), self.dtype))
        return self
    if not is_source(source):
        raise TypeError(f"set_(): argument 'source' (position 1) must be Tensor or Storage, not {type(source).__name__}")
    if hasattr(source, "_slot"):
        plans.settled(source)
        if source.dtype is not self.dtype:
            raise RuntimeError(f"Could not set tensor of type {source.dtype.short} to a tensor of type {self.dtype.short}")
        first = source.storage_offset()
        if size is None and storage_offset is None:
            size, stride = tuple(source.shape), source.stride()
        elif not source.is_contiguous():
            raise RuntimeError("passed in tensor to be used as storage must be contiguous")
        memory = source.detach()
    else:
        memory, first = source._memory, 0
        if isinstance(source, TypedStorage) and source.dtype is not self.dtype:
            raise RuntimeError(
                f"Expected a Storage of type {self.dtype.short} or an UntypedStorage, but got type {source.dtype.scalar_name} for argument 1 'storage'"
            )
        if size is None:
            size = (source.nbytes() // self.dtype.itemsize - (storage_offset or 0),)
    if (storage_offset or 0) < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {storage_offset}")
    size = ints("set_", (size,))
    first += storage_offset or 0
    if stride is not None and len(stride) != len(size):
        raise RuntimeError(f"unequal size length ({len(size)}) and stride length ({len(stride)})")
    check_sizes(size)
    steps = geometry.contiguous_strides(size) if stride is None else ints("set_", (tuple(stride),), "stride")
    if sized(size, steps, self.dtype.itemsize, first) > storage_of(memory._slot)[1]:
        raise RuntimeError(NOT_RESIZABLE)
    seen = looking_at(memory, self.dtype, geometry.geometry(size, steps), first * self.dtype.itemsize)
    core.set_field(seen._slot, core.DTYPE, core.get_field(self._slot, core.DTYPE))  # with what is postponed
    inplace.become_view(self, seen)
    return self


@method()
def resize_(self, *sizes, memory_format=None):
    """Other sizes in place, row-major or in a memory format: over the same memory if it suffices, else over larger memory that begins with
    the old elements (of which views of the old memory know nothing)."""
    size = ints("resize_", sizes)
    formats.check("resize_", memory_format)
    if self.requires_grad and not self.is_inference():
        raise RuntimeError("cannot resize variables that require grad")
    check_sizes(size)
    if memory_format is formats.preserve_format:
        raise RuntimeError("Unsupported memory formatPreserve")
    slot = plans.settled(self)
    if tuple(self.shape) == size and memory_format is None:
        return self
    if self.is_inference() and not modes.is_inference_mode_enabled():
        raise RuntimeError(inplace.INFERENCE)
    start, (address, nbytes) = self.storage_offset(), storage_of(slot)
    steps = formats.strides(size, memory_format)
    needed = sized(size, steps, self.dtype.itemsize, start)
    target = geometry.geometry(size, steps)
    if needed <= nbytes:
        inplace.become_view(self, core.wrap(core.view_slot(slot, target, 0)))
        return self
    owner = int(core.buffer_view()[core.get_field(slot, core.BUFFER)]["owner"])
    if owner and not isinstance(ctypes.cast(owner, ctypes.py_object).value, Handle):  # the memory of x.data belongs to a tensor
        raise RuntimeError(NOT_RESIZABLE)
    fresh = creation.empty_of(size, self.dtype, steps)
    ctypes.memmove(core.data_of(fresh._slot), address + start * self.dtype.itemsize, max(nbytes - start * self.dtype.itemsize, 0))
    core.set_field(fresh._slot, core.DTYPE, core.get_field(slot, core.DTYPE))
    version = core.version_of(slot)
    inplace.become_view(self, determinism.uninitialised(fresh, max(nbytes // self.dtype.itemsize - start, 0)))
    core.bump_version(self._slot, version)
    return self


@method()
def resize_as_(self, the_template, *, memory_format=None):
    """`resize_` to the sizes of another tensor, and with `preserve_format` to its memory format."""
    if memory_format is formats.preserve_format:
        memory_format = formats.suggested(tuple(the_template.shape), the_template.stride())
    return self.resize_(tuple(the_template.shape), memory_format=memory_format)


FUNCTIONS["resize_as_"] = METHODS["resize_as_"]
