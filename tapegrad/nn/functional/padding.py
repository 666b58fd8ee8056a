"""Padding: constants, reflections, repeated edges, circular."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.joining import cat
from tapegrad.ops.layouts import laid_as
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import look_at, transformable

UNSUPPORTED = """Padding size {} is not supported for {}D input tensor.
Supported combinations for non-constant padding:
  - 2D or 3D input: padding size = 2 (pads last dimension)
  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)
  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"""


@structural("constant_pad", "ConstantPadNd")
def constant_pad_op(node, g):
    """constant_pad: the part of the gradient where the input lies."""
    return constant_pad(g, [-p for p in node.attributes.pads], 0)


@transformable("leading", lambda named: ("input",) if named["value"] == 0 else ())
def constant_pad(input, pads, value):
    """`pads`: (before, after) of the last dim, then of the one before it ...; negative ones cut off."""
    if len(pads) % 2:
        raise RuntimeError("Length of pad must be even but instead it equals " + str(len(pads)))
    array = input.detach()._array()
    shape, source, target = list(array.shape), [slice(None)] * array.ndim, [slice(None)] * array.ndim
    for k in range(len(pads) // 2):
        d = array.ndim - 1 - k
        before, after = pads[2 * k], pads[2 * k + 1]
        size = array.shape[d] + before + after
        if size < 0 or array.shape[d] + min(before, 0) + min(after, 0) < 0:
            if size < 0 and min(before, after) < 0:
                raise RuntimeError("narrow(): length must be non-negative.")
            raise RuntimeError(
                f"The input size {array.shape[d]}, plus negative padding {before} and {after} resulted in a negative output size, which is invalid. "
                f"Check dimension {d} of your input."
            )
        shape[d] = size
        source[d] = slice(max(-before, 0), array.shape[d] - max(-after, 0))
        target[d] = slice(max(before, 0), size - max(after, 0))
    values = np.full(shape, creation.stored_number(value, input.dtype), array.dtype)
    values[tuple(target)] = array[tuple(source)]
    out = laid_as(input, values)
    record(constant_pad_op, [input], [out], plans.Parameters(constant_pad_op, pads=list(pads)))
    return out


@structural("mirrored_pad", "ReflectionPad1D", flat=True)
def mirrored_pad_op(node, g):
    """reflection and replication: the gradient is added where the elements came from."""
    a = node.attributes
    for d, index in a.sources:
        shape = list(g.shape)
        shape[d] = a.shape[d]
        g = creation.zeros(tuple(shape), dtype=g.dtype).index_add(d, creation.from_array(index, dtypes.int64), g)
    return g


@transformable(linear="input")
def mirrored(input, pads, mode):
    n = len(pads) // 2
    if any(size == 0 for size in input.shape[input.dim() - n - 1 :]):
        raise RuntimeError(
            f"Expected {n + 1}D or {n + 2}D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but got: "
            f"{list(input.shape)}"
        )
    array = input.detach()._array()
    sources = []
    for k in range(n):
        d, (before, after) = input.dim() - 1 - k, pads[2 * k : 2 * k + 2]
        size = array.shape[d]
        if mode == "reflect" and (before >= size or after >= size):
            raise RuntimeError(
                f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) at dimension {d} "
                f"of input {list(input.shape)}"
            )
        if size + before + after < 1:
            sizes = input.shape[input.dim() - n :]
            shown = [" ".join(f"{name}: {s}" for name, s in zip("DHW"[3 - n :], values, strict=True)) for values in
                     (sizes, [s + sum(pads[2 * (n - 1 - j) : 2 * (n - j)]) for j, s in enumerate(sizes)])]
            raise RuntimeError(f"input ({shown[0]}) is too small. Calculated output {shown[1]}")
        index = np.arange(-before, size + after)
        if mode == "reflect":
            index = np.abs(index)
            index = np.where(index >= size, 2 * (size - 1) - index, index)
        else:
            index = np.clip(index, 0, size - 1)
        sources.append((d, index))
        array = np.take(array, index, d)
    out = laid_as(input, array)
    title = ("Reflection" if mode == "reflect" else "Replication") + f"Pad{n}DBackward0"
    record(mirrored_pad_op, [input], [out], plans.Parameters(mirrored_pad_op, title, sources=sources[::-1], shape=tuple(input.shape)))
    return out


def circular(input, pads):
    for k in range(len(pads) // 2):
        d, (before, after) = input.dim() - 1 - k, pads[2 * k : 2 * k + 2]
        size = input.shape[d]
        if before > size or after > size:
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if size + before + after < 0:
            raise RuntimeError("Negative padding value is resulting in an empty dimension")
        middle = input.narrow(d, max(-before, 0), size - max(-before, 0) - max(-after, 0))
        parts = [middle]
        if before > 0:
            parts.insert(0, middle.narrow(d, middle.shape[d] - before, before))
        if after > 0:
            parts.append(middle.narrow(d, 0, after))
        input = cat(parts, d) if len(parts) > 1 else middle
    return input if any(p > 0 for p in pads) else input.clone()  # never a view of the input


def pad(input, pad, mode="constant", value=None):
    """The input with more elements around it: pad is (before, after) of the last dim, then of the one before it, and so on."""
    look_at("pad", input, pad, mode, value)
    pads = list(pad)
    if len(pads) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pads) > 2 * input.dim():
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got padding length {len(pads)} and input of dimension "
            f"{input.dim()}"
        )
    if mode == "constant":
        return constant_pad(input, pads, 0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f"Padding mode '{mode}' doesn't take in value argument")
    if mode in ("reflect", "replicate", "circular") and (len(pads) not in (2, 4, 6) or input.dim() not in (len(pads) // 2 + 1, len(pads) // 2 + 2)):
        raise NotImplementedError(UNSUPPORTED.format(len(pads), input.dim()))
    if mode in ("reflect", "replicate"):
        return mirrored(input, pads, mode)
    if mode == "circular":
        return circular(input, pads)
    raise NotImplementedError(f"Unrecognised padding mode {mode}")
