"""Pooling: maxima, averages and p-norms over windows, and over even shares of the input."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tapegrad import dtypes
from tapegrad.modes import is_grad_enabled
from tapegrad.nn.functional import window_checks
from tapegrad.nn.functional.sizes import per_dim
from tapegrad.ops import pooling
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import stored
from tapegrad.ops.transformable import checked_in_nn, look_at
from tapegrad.ops.windows import Window


def spans(n, kernel, stride, padding, dilation) -> tuple:
    """The arguments of a pooling for each of its dims; without a stride, windows lie side by side."""
    kernel = per_dim(kernel, n)
    return kernel, kernel if stride is None or stride == () or stride == [] else per_dim(stride, n), per_dim(padding, n), per_dim(dilation, n)


def window_of(input, n, kernel, stride, padding, dilation, ceil_mode):
    """The window of a pooling, with more padding behind where ceil_mode lets a last window reach over the edge; torch's checks."""
    kernel, stride, padding, dilation = spans(n, kernel, stride, padding, dilation)
    window_checks.positive(kernel, stride, padding, dilation)
    sizes = input.shape[input.dim() - n :]
    pads, counts = [], []
    for size, k, s, p, d in zip(sizes, kernel, stride, padding, dilation):
        room = size + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= size + p:
            count -= 1  # the last window would begin in the padding behind
        counts.append(count)
        pads.append((p, max((count - 1) * s + d * (k - 1) + 1 - size - p, -p) if ceil_mode else p))
    if any(c < 1 for c in counts):
        show = lambda values: "x".join(map(str, values))
        channels = input.shape[input.dim() - n - 1] if input.dim() > n else 1
        raise RuntimeError(
            f"Given input size: ({channels}x{show(sizes)}). Calculated output size: ({channels}x{show(max(c, 0) for c in counts)}). Output size is too small"
        )
    return Window(kernel, stride, dilation, tuple((a, max(b, 0)) for a, b in pads))


def check_dims(input, n) -> None:
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"non-empty {n + 1}D or {n + 2}D (batch mode) tensor expected for input")


def _max_pool(n, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    if n == 1 and (return_indices or input.requires_grad and is_grad_enabled()):  # with two results, it is checked as two dims are
        window_checks.reaching(*spans(1, kernel_size, stride, padding, dilation))
    if n == 1:
        window_checks.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode)
        if not return_indices and not input.requires_grad and not input.dtype.is_floating_point:
            raise no_kernel("max_pool1d_impl", input.dtype)
    else:
        window_checks.in_dims(f"max_pool{n}d", n, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
        check_dims(input, n)
    if input.dtype is dtypes.bool_ or input.dtype.is_complex:
        raise no_kernel(f"max_pool{n}d", input.dtype)
    if n > 1:
        window_checks.reaching(*spans(n, kernel_size, stride, padding, dilation))
        window_checks.filled("max_pool3d_with_indices_out_cpu_template", input, n)
    window = window_of(input, n, kernel_size, stride, padding, dilation, ceil_mode)
    if n > 1:
        out, index = pooling.max_pool(input, window, f"MaxPool{n}DWithIndicesBackward0")
    else:  # one dim is pooled as two, as torch's graph shows
        window = Window((1, *window.kernel), (1, *window.stride), (1, *window.dilation), ((0, 0), *window.padding))
        out, index = (t.squeeze(-2) for t in pooling.max_pool(input.unsqueeze(-2), window, "MaxPool2DWithIndicesBackward0"))
    return (out, index) if return_indices else out


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of (N, C, L); with return_indices also its place."""
    look_at("max_pool1d_with_indices" if return_indices else "max_pool1d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of (N, C, H, W); the stride is the kernel's size unless given.

    >>> import tapegrad as tg
    >>> tg.nn.functional.max_pool2d(tg.arange(16.).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    look_at("max_pool2d_with_indices" if return_indices else "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of each window of (N, C, D, H, W)."""
    look_at("max_pool3d_with_indices" if return_indices else "max_pool3d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(n, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    window_checks.in_dims(f"avg_pool{n}d", n, kernel_size=kernel_size, stride=stride, padding=padding)
    if n == 2 and input.dim() != 4:
        input.size(-3)
    if n == 3:
        check_dims(input, n)
    elif input.dim() not in (3, 4):
        raise RuntimeError(f"Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got:{list(input.shape)}")
    window_checks.reaching(*spans(n, kernel_size, stride, padding, 1))
    window_checks.filled(f"avg_pool{n}d", input, n)
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    if n == 3:
        window_checks.image(input, per_dim(kernel_size, 3))
    window = window_of(input, n, kernel_size, stride, padding, 1, ceil_mode)
    if input.dtype is not dtypes.int64 and (not input.dtype.is_floating_point or n == 3 and input.dtype.reduced):
        raise no_kernel("avg_pool2d" if n == 2 else "avg_pool3d_out_frame", input.dtype)
    pads, real = per_dim(padding, n), dtypes.BY_NAME[input.dtype.compute].numpy
    sizes = tuple(input.shape[input.dim() - n :])
    if divisor_override is not None:
        divisor = np.asarray(divisor_override, real)
    else:  # how many elements of a window count: those of the input, and of the padding that was asked for
        counted = tuple(s + 2 * p * count_include_pad for s, p in zip(sizes, pads))
        beyond = tuple((a - p * count_include_pad, max(b - p * count_include_pad, 0)) for (a, b), p in zip(window.padding, pads))
        places = Window(window.kernel, window.stride, window.dilation, beyond)
        divisor = places.cut(np.ones(counted, real)).sum(tuple(range(n)))
        divisor = divisor[tuple(slice(0, c) for c in window.counts(sizes))]
    return pooling.average(input, window, divisor, f"AvgPool{n}DBackward0")


@checked_in_nn("avg_pool1d")
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window of (N, C, L)."""
    one = "{name}() argument '{what}' should contain one int (got {given})"
    window_checks.two_or_three_dims("avg_pool1d", input)
    for what, value in (("kernel_size", kernel_size), ("stride", stride), ("padding", padding)):
        window_checks.in_one_dim("avg_pool1d", what, value, one)
    kernel, step = per_dim(kernel_size, 1), None if stride is None or not window_checks.items(stride) else per_dim(stride, 1)
    out = _avg_pool(2, input.unsqueeze(-2), (1, *kernel), None if step is None else (1, *step), (0, *per_dim(padding, 1)), ceil_mode,
                    count_include_pad, None)
    return out.squeeze(-2)


@checked_in_nn("avg_pool2d")
@stored()
def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of each window of (N, C, H, W); padding counts unless count_include_pad is off."""
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@checked_in_nn("avg_pool3d")
@stored()
def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of each window of (N, C, D, H, W)."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# --- even shares ----------------------------------------------------------------------------------------------------
def shares_of(input, n, output_size) -> tuple:
    sizes = per_dim(output_size, n)
    return tuple(s if p is None else p for p, s in zip(sizes, input.shape[input.dim() - n :]))


def sizes_or_input(output_size, input):
    """`output_size`, with the input's sizes where it has None."""
    sizes = input.size()
    if isinstance(output_size, int):
        return output_size
    if len(sizes) <= len(output_size):
        raise ValueError(f"Input dimension should be at least {len(output_size) + 1}")
    return [s if p is None else p for p, s in zip(output_size, sizes[-len(output_size) :])]


def _adaptive_avg(n, input, output_size):
    if len(window_checks.items(output_size)) not in (1, n) or isinstance(output_size, (tuple, list)) and len(output_size) != n:
        raise RuntimeError(f"adaptive_avg_pool{n}d: output_size must be {n}")
    parts = shares_of(input, n, output_size)
    window_checks.adaptive(f"adaptive_avg_pool{n}d", n, input, parts)
    if all(p == 1 for p in parts) and n > 1:
        return input.mean(tuple(range(input.dim() - n, input.dim())), keepdim=True)
    maps = [pooling.averaging(s, p, dtypes.BY_NAME[input.dtype.compute].numpy.str) for s, p in zip(input.shape[input.dim() - n :], parts)]
    return pooling.along_dims(input, maps, f"AdaptiveAvgPool{n}DBackward0")


@checked_in_nn("adaptive_avg_pool1d")
def adaptive_avg_pool1d(input, output_size):
    """Means of output_size even shares of (N, C, L)."""
    window_checks.two_or_three_dims("adaptive_avg_pool1d", input)
    window_checks.in_one_dim("adaptive_avg_pool1d", "output_size", output_size, "{name}() argument '{what}' should contain one int (got {given})")
    return _adaptive_avg(2, input.unsqueeze(-2), (1, *per_dim(output_size, 1))).squeeze(-2)


def adaptive_avg_pool2d(input, output_size):
    """Means of even shares of (N, C, H, W); None keeps a size."""
    look_at("adaptive_avg_pool2d", input, sizes_or_input(output_size, input))
    return _adaptive_avg(2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """Means of even shares of (N, C, D, H, W)."""
    look_at("adaptive_avg_pool3d", input, sizes_or_input(output_size, input))
    return _adaptive_avg(3, input, output_size)


def _adaptive_max(n, input, output_size, return_indices):
    if isinstance(output_size, (tuple, list)) and len(output_size) != n:
        raise RuntimeError(f"adaptive_max_pool{n}d(): internal error: output_size.size() must be {n}")
    parts = shares_of(input, n, output_size)
    window_checks.adaptive(f"adaptive_max_pool{n}d", n, input, parts)
    out, index = pooling.adaptive_max(input, parts, f"AdaptiveMaxPool{n}DBackward0")
    return (out, index) if return_indices else out


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The largest elements of even shares of (N, C, L)."""
    look_at("adaptive_max_pool1d", input, output_size)
    window_checks.two_or_three_dims("adaptive_max_pool1d", input)
    window_checks.in_one_dim("adaptive_max_pool1d", "output_size", output_size, "{name}() argument '{what}' should contain one int (got {given})")
    window_checks.adaptive("adaptive_max_pool1d", 1, input, per_dim(output_size, 1) if min(per_dim(output_size, 1)) >= 0 else ())
    out, index = (t.squeeze(-2) for t in _adaptive_max(2, input.unsqueeze(-2), (1, *per_dim(output_size, 1)), True))
    return (out, index) if return_indices else out


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """The largest elements of even shares of (N, C, H, W)."""
    look_at("adaptive_max_pool2d", input, sizes_or_input(output_size, input))
    return _adaptive_max(2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """The largest elements of even shares of (N, C, D, H, W)."""
    look_at("adaptive_max_pool3d", input, sizes_or_input(output_size, input))
    return _adaptive_max(3, input, output_size, return_indices)


def _lp_pool(average, n, input, norm_type, kernel_size, stride, ceil_mode):
    kernel = tuple(kernel_size) if isinstance(kernel_size, Iterable) and n > 1 else (kernel_size,) * n
    if len(kernel) != n:
        few = f"not enough values to unpack (expected {n}, got {len(kernel)})"
        raise ValueError(few if len(kernel) < n else f"too many values to unpack (expected {n})")
    out = average(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    count = math.prod(per_dim(kernel_size, n))
    return (out.sign() * out.abs().relu()).mul(count).pow(1.0 / norm_type)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(sum x^p)^(1/p) of each window of (N, C, L)."""
    return _lp_pool(avg_pool1d, 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(sum x^p)^(1/p) of each window of (N, C, H, W)."""
    return _lp_pool(avg_pool2d, 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(sum x^p)^(1/p) of each window of (N, C, D, H, W)."""
    return _lp_pool(avg_pool3d, 3, input, norm_type, kernel_size, stride, ceil_mode)


for _f in (max_pool1d, max_pool2d, max_pool3d, adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d):
    _f.__qualname__ = "_" + _f.__name__  # as Python's errors call them in torch
