"""Pickles and copies of tensors: what `pickle`, `copy.copy` and `copy.deepcopy` make of a Tensor.

All three keep dtype, sizes, strides, requires_grad and attributes, and forget the graph.  A pickle holds the whole memory that the tensor looks
into, as torch's does; a shallow copy looks into the same memory; among deep copies made together, tensors that shared memory share it again.
"""

from __future__ import annotations

import copy as copying
import ctypes
import warnings

import numpy as np

from tapegrad import core, creation, dtypes, geometry

NOT_A_LEAF = (
    "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you were attempting "
    "to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
    "https://github.com/pytorch/pytorch/pull/103001"
)


def duplicate(address: int, nbytes: int):
    """A uint8 tensor with a copy of some memory."""
    made = creation.empty_of((nbytes,), dtypes.uint8)
    ctypes.memmove(core.data_of(made._slot), address, nbytes)
    return made


def looking_into(memory, d, offset: int, shape: tuple, strides: tuple):
    """A tensor over the memory of another, which holds bytes."""
    return core.looking_at(memory, d, geometry.geometry(tuple(shape), tuple(strides)), offset * d.itemsize if memory.numel() else 0)


def attributes(tensor) -> dict:
    """What the user has set on a tensor."""
    return {name: value for name, value in tensor.__dict__.items() if name != "_version_offset"}


# --- pickles ----------------------------------------------------------------------------------------------------------
def reduced(tensor) -> tuple:
    """`Tensor.__reduce_ex__`."""
    for hook in (tensor._hooks or {}).values():
        warnings.warn(f"backward hook {hook!r} on tensor will not be serialized.", UserWarning, stacklevel=3)
    address, nbytes = core.memory_of(tensor._slot)
    memory = np.frombuffer(ctypes.string_at(address, nbytes), np.uint8) if nbytes else np.empty(0, np.uint8)
    place = tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())
    postponed = core.get_field(tensor._slot, core.DTYPE) & ~dtypes.PLAIN
    return rebuild, (type(tensor), memory, tensor.dtype, *place, tensor.requires_grad, postponed), attributes(tensor) or None


def rebuild(kind: type, memory: np.ndarray, d, offset: int, shape: tuple, strides: tuple, requires_grad: bool, postponed: int = 0):
    """Unpickle a tensor."""
    held = duplicate(memory.ctypes.data, memory.nbytes)
    return as_kind(with_bits(looking_into(held, d, offset, shape, strides), postponed), kind, requires_grad)


def with_bits(tensor, bits: int):
    from tapegrad.ops import postponed

    return postponed.with_bits(tensor, bits) if bits else tensor


def carried_out(tensor):
    from tapegrad.ops import postponed

    return postponed.carried_out(tensor)


def as_kind(tensor, kind: type, requires_grad: bool):
    """A fresh tensor as an object of `kind`, a leaf that requires grad or does not."""
    from tapegrad.nn_parameter import Parameter
    from tapegrad.tensor import Tensor

    if kind is Parameter:
        return Parameter(tensor, requires_grad)
    result = tensor if kind is Tensor else tensor.as_subclass(kind)
    if requires_grad:
        result.requires_grad_()
    return result


# --- copies -----------------------------------------------------------------------------------------------------------
def shallow(tensor):
    """`copy.copy`: a leaf over the same memory."""
    result = as_kind(tensor.data, type(tensor), tensor.requires_grad)
    result.__dict__.update(attributes(tensor))
    return result


def deep(tensor, memo: dict):
    """`copy.deepcopy` of a leaf: memory, gradient and attributes copied once for all the tensors that share them."""
    if id(tensor) in memo:
        return memo[id(tensor)]
    if not tensor.is_leaf:
        raise RuntimeError(NOT_A_LEAF)
    address, nbytes = core.memory_of(tensor._slot)
    copies = memo.setdefault("tapegrad", {})
    if address not in copies:
        copies[address] = duplicate(address, nbytes)
    place = tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())
    result = looking_into(copies[address], tensor.dtype, *place)
    postponed = core.get_field(tensor._slot, core.DTYPE) & ~dtypes.PLAIN
    result = as_kind(carried_out(with_bits(result, postponed)) if postponed else result, type(tensor), tensor.requires_grad)
    memo[id(tensor)] = result
    held = core.get_field(tensor._slot, core.GRAD)
    if held:
        result.grad = deep(core.wrap(held).detach(), memo)
    result.__dict__.update(copying.deepcopy(attributes(tensor), memo))
    return result
