"""Tensors of zeros, ones, any one number, or of what memory holds; of sizes given, or like another tensor."""

from __future__ import annotations

import builtins
from types import NoneType

import numpy as np

from tapegrad import core, dtypes, formats, geometry
from tapegrad.creation.elements import Number, check_dtype, convert_number, empty_of, finish, made, refuse_pinned, scalar, stored_number
from tapegrad.determinism import uninitialised
from tapegrad.ops.public import function
from tapegrad.ops.transformable import CONSTANT


# --- the arguments of factories --------------------------------------------------------------------------------------
def size_of(name: str, args: tuple) -> tuple:
    """The shape from (2, 3) or ((2, 3),); torch's errors for bad sizes."""
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = tuple(args[0])
    shape = []
    for k, size in enumerate(args):
        if hasattr(size, "_slot") and size.ndim == 0 and size.dtype.category <= dtypes.INTEGER:
            size = size.item()
        if (isinstance(size, builtins.bool) and k == 0) or not hasattr(size, "__index__"):
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
    if not isinstance(pin_memory, (builtins.bool, NoneType)):
        raise TypeError(f"{name}(): argument 'pin_memory' must be bool, not {type(pin_memory).__name__}")
    refuse_pinned(pin_memory)
    wanted = check_dtype(dtype, name) if out is not None and hasattr(out, "_slot") else None
    if wanted is not None and wanted is not out.dtype:
        raise RuntimeError(f"dtype {wanted.scalar_name} does not match dtype of out parameter ({out.dtype.scalar_name})")


def made_in(name, out, requires_grad, make):
    """The `out=` of a factory: what `make` gives for the dtype of `out`, stored in it; a sequence keeps the shape of `out` if it fits."""
    from tapegrad.writing import check_out, write_out

    check_out(name, [], out)
    result = make(out.dtype)
    if result.ndim == 1 and out.numel() == result.numel():
        result = result.view(out.shape)
    elif out.shape != result.shape:
        out.resize_(tuple(result.shape))
    write_out(result, out)
    return out.requires_grad_() if requires_grad else out


# --- filled tensors --------------------------------------------------------------------------------------------------
def filled(name, size, value, dtype, device, requires_grad, out=None, like=None, layout=None, pin_memory=False, memory_format=None):
    """What `zeros`, `ones`, `empty` and `full` have in common; `value` None leaves memory as it is."""
    check_options(name, device, layout, pin_memory, dtype, out)
    d = check_dtype(dtype, name) or dtypes.default_dtype()
    shape = size_of(name, size)
    if out is not None:
        if out.shape != shape:
            out.resize_(shape)
        return made_in(name, out, requires_grad, lambda d: filled(name, shape, value, d, device, False))
    t = empty_of(shape, d, memory_format and formats.strides(shape, memory_format))
    if value is not None:
        fill(t, value)
    return made(t, requires_grad, filled=True, like=like) if value is not None else uninitialised(finish(t, requires_grad))


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
    formats.check("empty", memory_format)
    if memory_format is formats.preserve_format:
        raise RuntimeError("unsupported memory format Preserve")
    return filled("empty", only_size("empty", size, named), None, dtype, device, requires_grad, out, None, layout, pin_memory, memory_format)


@function()
def full(size, fill_value, *, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A tensor filled with `fill_value`, of its dtype (bool, int64 or the default float)."""
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    check_options("full", device, layout, pin_memory, dtype, out)
    if hasattr(fill_value, "_slot") and not fill_value.ndim:
        dtype = dtype or fill_value.dtype
        fill_value = fill_value.item()
    if not isinstance(fill_value, (*Number, np.number, np.bool_)):
        raise TypeError(f"full(): argument 'fill_value' (position 2) must be Number, not {type(fill_value).__name__}")
    d = check_dtype(dtype, "full") or (dtypes.of_number(fill_value) if out is None else out.dtype)
    return filled("full", (tuple(size),), fill_value, d, device, requires_grad, out)


@function(tensors=False)
def scalar_tensor(s, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """A 0-d tensor with a number, in the default dtype unless another is given."""
    if not isinstance(s, (*Number, np.number, np.bool_)) and not (hasattr(s, "_slot") and not s.ndim):
        raise TypeError(f"scalar_tensor(): argument 's' (position 1) must be Number, not {type(s).__name__}")
    return filled("scalar_tensor", ((),), s.item() if hasattr(s, "item") else s, dtype, device, requires_grad, layout=layout, pin_memory=pin_memory)


@function(tensors=False)
def empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """An uninitialised tensor of sizes and strides, which may leave gaps in memory or overlap."""
    check_options("empty_strided", device, layout, pin_memory, dtype)
    shape, steps = size_of("empty_strided", (size,)), tuple(stride)
    if len(shape) != len(steps):
        raise RuntimeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides ({len(steps)})")
    if any(step < 0 for step in steps):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)} and strides={list(steps)}")
    d = check_dtype(dtype, "empty_strided") or dtypes.default_dtype()
    span = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if 0 not in shape else 0
    memory = empty_of((span,), d)
    return uninitialised(finish(core.wrap(core.view_slot(memory._slot, geometry.geometry(shape, steps), 0)), requires_grad))


@function(tensors=False)
def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """An uninitialised dense tensor whose dims lie in memory in the order `physical_layout`, from the slowest to the fastest.

    >>> import tapegrad as tg
    >>> tg.empty_permuted((2, 3, 4), (0, 2, 1)).stride()
    (12, 1, 3)
    """
    check_options("empty_permuted", device, layout, pin_memory, dtype)
    shape, order = size_of("empty_permuted", (size,)), tuple(physical_layout)
    if len(order) != len(shape):
        raise RuntimeError(f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = {len(shape)} is not "
                           f"equal to len(physical_layout) = {len(order)}")
    for k, d in enumerate(order):
        if not 0 <= d < len(shape):
            raise RuntimeError(f"Dimension out of range (expected to be between 0 and {len(shape) - 1}, but got {d} at index {k}).  NB: negative "
                               "dims not currently supported; file an issue if you want it.")
        if d in order[:k]:
            raise RuntimeError("Duplicate dim not allowed")
    steps, step = [0] * len(shape), 1
    for d in reversed(order):
        steps[d], step = step, step * max(shape[d], 1)
    return uninitialised(finish(empty_of(shape, check_dtype(dtype, "empty_permuted") or dtypes.default_dtype(), tuple(steps)), requires_grad))


def like(name, value):
    def make(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False):
        tensor_argument(name, input)
        from tapegrad.device import check as check_device

        check_device(device)
        refuse_pinned(pin_memory)
        t = empty_of(tuple(input.shape), check_dtype(dtype, name) or input.dtype, like_strides(name, input, memory_format))
        if value is not None:
            fill(t, value)
        return made(t, requires_grad, filled=True, like=input) if value is not None else uninitialised(finish(t, requires_grad))

    make.__doc__ = f"A tensor of the shape, dtype and stride order of `input`, {'uninitialised' if value is None else f'filled with {value}'}."
    make.__name__ = make.__qualname__ = name
    return function(name=name, batch="leading", linear=CONSTANT)(make)




def tensor_argument(name: str, input) -> None:
    if not hasattr(input, "_slot"):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")


def like_strides(name: str, t, memory_format=None) -> tuple:
    """The strides of a tensor made like `t`."""
    formats.check(name, memory_format)
    g = core.get_field(t._slot, core.GEOMETRY)
    return formats.like(tuple(geometry.shapes[g]), geometry.strides[g], memory_format)


zeros_like, ones_like, empty_like = like("zeros_like", 0), like("ones_like", 1), like("empty_like", None)


@function(batch="leading", linear=CONSTANT)
def full_like(input, fill_value, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None):
    """A tensor of the shape and dtype of `input` filled with `fill_value`."""
    tensor_argument("full_like", input)
    t = empty_of(tuple(input.shape), check_dtype(dtype, "full_like") or input.dtype, like_strides("full_like", input, memory_format))
    fill(t, fill_value.item() if hasattr(fill_value, "_slot") else fill_value)
    return made(t, requires_grad, filled=True, like=input)
