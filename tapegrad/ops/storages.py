"""A tensor's storage, and the tensor told to look elsewhere in memory (set_, resize_)."""

from __future__ import annotations

import ctypes

from tapegrad import core, creation, determinism, dtypes, formats, geometry, modes
from tapegrad.autograd import bases, inplace
from tapegrad.cautions import warn_once
from tapegrad.engine.bind import Handle
from tapegrad.ops import plan as plans
from tapegrad.ops.public import FUNCTIONS, METHODS, method
from tapegrad.ops.views import ints
from tapegrad.storage import (
    DEPRECATED,
    LEGACY,
    NOT_RESIZABLE,
    TypedStorage,
    UntypedStorage,
    is_storage,
    resize,
)


@method()
def untyped_storage(self):
    """The memory behind the tensor, as bytes."""
    plans.settled(self)
    return UntypedStorage._of(self)


@method()
def storage(self):
    """The memory behind the tensor, as a vector of its dtype."""
    warn_once(DEPRECATED)
    return typed_storage_of(self)


@method()
def _typed_storage(self):
    """`storage`, without its warning."""
    return typed_storage_of(self)


def typed_storage_of(tensor):
    """The memory itself, whether or not its conjugation is postponed."""
    plans.settled(tensor)
    return TypedStorage._over(tensor, tensor.dtype)


@method()
def storage_type(self):
    """The old constructor of storages like this tensor's."""
    return LEGACY[dtypes.STORAGES[self.dtype.name]]


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
    return hasattr(x, "_slot") or is_storage(x)


@method()
def set_(self, source=None, storage_offset=None, size=None, stride=None):
    """Look at the memory of a tensor or storage instead: all of it, or by offset, sizes and strides; without a source at nothing."""
    plans.settled(self)
    inplace.check_writable(self, repeated=True)
    if inplace.is_recorded(self, [source]):
        raise RuntimeError("the derivative for 'set_' is not implemented")
    if source is None:
        bases.become_view(self, creation.empty_of((0,), self.dtype))
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
        memory, first = source._holder, 0
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
    needed, itemsize, nbytes = sized(size, steps, self.dtype.itemsize, first), self.dtype.itemsize, core.memory_of(memory._slot)[1]
    if needed > nbytes:
        if size == tuple(self.shape) and (stride is None or steps == tuple(self.stride())):  # as torch: only other sizes make memory grow
            raise RuntimeError(
                f"setStorage: sizes {list(size)}, strides {[] if stride is None else list(steps)}, storage offset {first}, and itemsize {itemsize} "
                f"requiring a storage size of {needed} are out of bounds for storage of size {nbytes}"
            )
        resize(memory._slot, needed)
    seen = core.looking_at(memory, self.dtype, geometry.geometry(size, steps), first * self.dtype.itemsize)
    core.set_field(seen._slot, core.DTYPE, core.get_field(self._slot, core.DTYPE))  # with what is postponed
    bases.become_view(self, seen)
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
    start, (address, nbytes) = self.storage_offset(), core.memory_of(slot)
    steps = formats.strides(size, memory_format)
    needed = sized(size, steps, self.dtype.itemsize, start)
    target = geometry.geometry(size, steps)
    if needed <= nbytes:
        bases.become_view(self, core.wrap(core.view_slot(slot, target, 0)))
        return self
    row = core.buffer_of(slot)
    if row.lent or row.owner and not isinstance(ctypes.cast(row.owner, ctypes.py_object).value, Handle):  # the memory of x.data belongs to a tensor
        raise RuntimeError(NOT_RESIZABLE)
    fresh = creation.empty_of(size, self.dtype, steps)
    ctypes.memmove(core.data_of(fresh._slot), address + start * self.dtype.itemsize, max(nbytes - start * self.dtype.itemsize, 0))
    core.set_field(fresh._slot, core.DTYPE, core.get_field(slot, core.DTYPE))
    version = core.version_of(slot)
    bases.become_view(self, determinism.uninitialised(fresh, max(nbytes // self.dtype.itemsize - start, 0)))
    core.bump_version(self._slot, version)
    return self


@method()
def resize_as_(self, the_template, *, memory_format=None):
    """`resize_` to the sizes of another tensor, and with `preserve_format` to its memory format."""
    if memory_format is formats.preserve_format:
        memory_format = formats.suggested(tuple(the_template.shape), the_template.stride())
    return self.resize_(tuple(the_template.shape), memory_format=memory_format)


FUNCTIONS["resize_as_"] = METHODS["resize_as_"]
