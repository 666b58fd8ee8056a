"""Windows as columns and back: unfold, fold; channels as pixels and in another order: shuffles."""

from __future__ import annotations

import math

import numpy as np

from tapegrad import creation
from tapegrad.autograd.node import record
from tapegrad.formats import contiguous_format
from tapegrad.nn.functional import window_checks
from tapegrad.nn.functional.sizes import pair, per_dim
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import checked_in_nn, look_at, transformable
from tapegrad.ops.windows import Window


@structural("im2col", "Im2Col")
def im2col_op(node, g):
    """unfold: fold."""
    return _fold(g, node.attributes.window, node.attributes.sizes)


@structural("col2im", "Col2Im")
def col2im_op(node, g):
    """fold: unfold."""
    return _unfold(g, node.attributes.window)


def _unfold_samples(level, f, x, *rest):
    """The batch rule of fold and unfold: more samples."""
    value = level.front(x)
    out = f(value.reshape(-1, *value.shape[2:]), *rest)
    return level.wrap(out.reshape(level.size, -1, *out.shape[1:]))


@transformable(_unfold_samples, "x")
def _unfold(x, window):
    array = creation.numbers(x)
    cut = window.cut(array)
    values = cut.reshape(array.shape[0], array.shape[1] * math.prod(window.kernel), math.prod(window.counts(array.shape[2:])))
    out = creation.from_array(np.ascontiguousarray(values), x.dtype)
    record(im2col_op, [x], [out], plans.Parameters(im2col_op, window=window, sizes=tuple(array.shape[2:])))
    return out


@transformable(_unfold_samples, "x")
def _fold(x, window, sizes):
    array = creation.numbers(x)
    channels = array.shape[1] // math.prod(window.kernel)
    cut = array.reshape(array.shape[0], channels, *window.kernel, *window.counts(sizes))
    out = creation.from_array(window.add(cut, sizes), x.dtype)
    record(col2im_op, [x], [out], plans.Parameters(col2im_op, window=window))
    return out


def _window(kernel_size, dilation, padding, stride):
    return Window(per_dim(kernel_size, 2), per_dim(stride, 2), per_dim(dilation, 2), tuple((p, p) for p in per_dim(padding, 2)))


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The windows of (N, C, H, W) as columns: (N, C * kernel, places)."""
    look_at("im2col", input, *(pair(v) for v in (kernel_size, dilation, padding, stride)))
    window_checks.folding(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)
    if input.dim() not in (3, 4) or any(s == 0 for s in input.shape[-3:]):
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but got: {list(input.shape)}"
        )
    window = _window(kernel_size, dilation, padding, stride)
    counts = window.counts(input.shape[-2:])
    if any(c < 1 for c in counts):
        raise RuntimeError(
            f"Given input with spatial size ({input.shape[-2]}, {input.shape[-1]}), kernel_size={window.kernel}, dilation={window.dilation}, "
            f"padding={tuple(a for a, _ in window.padding)}, calculated shape of the array of sliding blocks as {counts}, but its components must be at "
            "least one."
        )
    return _unfold(input, window) if input.dim() == 4 else _unfold(input.unsqueeze(0), window).squeeze(0)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """The transpose of `unfold`: columns (N, C * kernel, places) added at their places in (N, C, *output_size)."""
    look_at("col2im", input, *(pair(v) for v in (output_size, kernel_size, dilation, padding, stride)))
    window_checks.folding(output_size=output_size, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)
    window, sizes = _window(kernel_size, dilation, padding, stride), per_dim(output_size, 2)
    if input.dim() not in (2, 3):
        raise RuntimeError(f"Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for input, but got: {list(input.shape)}")
    rows, places = input.shape[-2:]
    if rows % math.prod(window.kernel):
        raise RuntimeError(
            f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got input.size(1)={rows} and "
            f"kernel_size={window.kernel}."
        )
    counts = window.counts(sizes)
    if any(c < 1 for c in counts):
        raise RuntimeError(
            f"Given output_size={sizes}, kernel_size={window.kernel}, dilation={window.dilation}, padding={tuple(a for a, _ in window.padding)}, "
            f"stride={window.stride}, calculated shape of the array of sliding blocks as {counts}, but its components must be at least one."
        )
    if places != math.prod(counts):
        raise RuntimeError(
            f"Given output_size={sizes}, kernel_size={window.kernel}, dilation={window.dilation}, padding={tuple(a for a, _ in window.padding)}, "
            f"stride={window.stride}, expected size of input's dimension 2 to match the calculated number of sliding blocks "
            f"{' * '.join(map(str, counts))} = {math.prod(counts)}, but got input.size(2)={places}."
        )
    return _fold(input, window, sizes) if input.dim() == 3 else _fold(input.unsqueeze(0), window, sizes).squeeze(0)


def _check_shuffle(name, input, what, factor) -> None:
    if input.dim() < 3:
        raise RuntimeError(f"{name} expects input to have at least 3 dimensions, but got input with {input.dim()} dimension(s)")
    if factor <= 0:
        raise RuntimeError(f"{name} expects a positive {what}, but got {factor}")


@checked_in_nn("pixel_shuffle")
def pixel_shuffle(input, upscale_factor):
    """(..., C r^2, H, W) to (..., C, H r, W r): r^2 channels become a square of pixels (Shi et al. 2016).

    >>> import tapegrad as tg
    >>> pixel_shuffle(tg.arange(4).reshape(1, 4, 1, 1), 2)
    tensor([[[[0, 1],
              [2, 3]]]])
    """
    r = upscale_factor
    _check_shuffle("pixel_shuffle", input, "upscale_factor", r)
    if r * r >= 2**63:
        raise ValueError(f"upscale factor is too large, (upscale_factor)^2 overflowed: upscale_factor={r}")
    *batch, channels, h, w = input.shape
    if channels % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
            f"input.size(-3)={channels} is not divisible by {r * r}"
        )
    c, n = channels // (r * r), len(batch)
    parts = input.reshape(*batch, c, r, r, h, w).permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return apart(parts.reshape(*batch, c, h * r, w * r), input)


def apart(result, input):
    """`result` in memory of its own, where shuffling has left all elements of `input` where they were."""
    return result.clone(memory_format=contiguous_format) if result._is_view() else result


@checked_in_nn("pixel_unshuffle")
def pixel_unshuffle(input, downscale_factor):
    """(..., C, H r, W r) to (..., C r^2, H, W): `pixel_shuffle` back."""
    r = downscale_factor
    _check_shuffle("pixel_unshuffle", input, "downscale_factor", r)
    *batch, c, h, w = input.shape
    for name, size, at in (("height", h, -2), ("width", w, -1)):
        if size % r:
            raise RuntimeError(f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but input.size({at})={size} is not divisible by {r}")
    n = len(batch)
    parts = input.reshape(*batch, c, h // r, r, w // r, r).permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return apart(parts.reshape(*batch, c * r * r, h // r, w // r), input)


@checked_in_nn("channel_shuffle")
def channel_shuffle(input, groups):
    """The channels of (N, C, ...) dealt out: the first of each of `groups` groups, then the second of each, ... (Zhang et al. 2018)."""
    if input.dim() <= 2:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    count, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {channels} channels and {groups} groups.")
    return apart(input.reshape(count, groups, channels // groups, *rest).transpose(1, 2).reshape(input.shape), input)
