"""Convolutions, plain and transposed, in one to three dims."""

from __future__ import annotations

from tapegrad.cautions import warn_once
from tapegrad.nn.functional.sizes import per_dim
from tapegrad.ops import convolution
from tapegrad.ops.transformable import checked_in_nn
from tapegrad.ops.views import tensor_argument
from tapegrad.ops.windows import Window

AXES = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def check_list(name, value, n) -> tuple:
    found = per_dim(value, n)
    if len(found) != n:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {n} values to match the convolution dimensions, but got {name}={list(found)}"
        )
    return found


def check(input, weight, bias, stride, padding, dilation, groups, turned) -> None:
    if any(p < 0 for p in padding):
        raise RuntimeError("negative padding is not supported")
    if any(s <= 0 for s in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(d < 0 for d in dilation):
        raise RuntimeError("dilation should be greater than zero")
    shown = (1,) * (len(dilation) == 1) + tuple(dilation)  # one dim counts as the second of two
    if any(d <= 0 for d in dilation):
        by_axis = ", ".join(f"dilation_{axis}: {d}" for axis, d in zip(AXES[len(shown)], shown))
        raise RuntimeError(f"dilation should be greater than zero, but got {by_axis if turned else list(shown)}")
    if weight.dim() != input.dim():
        raise RuntimeError(
            f"Expected {weight.dim()}-dimensional input for {weight.dim()}-dimensional weight {list(weight.shape)}, but got {input.dim()}-dimensional "
            f"input of size {list(input.shape)} instead"
        )
    if weight.shape[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size {list(weight.shape)} instead"
        )
    if weight.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size [{list(weight.shape)}] instead"
        )
    wanted = weight.shape[0] if turned else weight.shape[1] * groups
    if input.shape[1] != wanted:
        raise RuntimeError(
            f"Given {'transposed=1' if turned else f'groups={groups}'}, weight of size {list(weight.shape)}, expected input{list(input.shape)} to have "
            f"{wanted} channels, but got {input.shape[1]} channels instead"
        )
    channels = weight.shape[1] * groups if turned else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (channels,):
        raise RuntimeError(
            f"Given {'transposed=1, ' if turned else ''}weight of size {list(weight.shape)}, expected bias to be 1-dimensional with {channels} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )
    if not turned:
        spans = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation)]
        sizes = [s + 2 * p for s, p in zip(input.shape[2:], padding)]
        if any(a < b for a, b in zip(sizes, spans)):
            show = lambda values: "(" + " x ".join(map(str, values)) + ")"
            raise RuntimeError(
                f"Calculated padded input size per channel: {show(sizes)}. Kernel size: {show(spans)}. Kernel size can't be greater than actual input size"
            )
    if input.dtype is not weight.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype.scalar_name} but found {weight.dtype.scalar_name}")
    if bias is not None and bias.dtype is not input.dtype and not turned:
        raise RuntimeError(f"Input type ({input.dtype.short}) and bias type ({bias.dtype.short}) should be the same")
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype.scalar_name} but found {bias.dtype.scalar_name}")
    kernel = (1,) * (len(dilation) == 1) + tuple(weight.shape[2:])
    if 0 in kernel and len(kernel) == 2:
        raise RuntimeError(f"kernel size should be greater than zero, but got kernel_height: {kernel[0]} kernel_width: {kernel[1]}")
    if 0 in kernel and not turned:
        raise RuntimeError(f"kernel size should be greater than zero, but got: {' x '.join(map(str, kernel))} (TxHxW)")
    if 0 in kernel:
        raise RuntimeError(
            "non-empty 5D (n_output_plane x n_input_plane x kernel_depth x kernel_height x kernel_width) tensor expected for weight, but got: "
            f"{list(weight.shape)}"
        )
    if turned and 0 in input.shape[2:]:
        whole = [*input.shape[:2], *(1,) * (len(dilation) == 1), *input.shape[2:]]
        raise RuntimeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {whole}")


def batched(name, input, n):
    """The input with a batch dim, and whether it was added."""
    tensor_argument(name, input)
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {list(input.shape)}")
    return (input, False) if input.dim() == n + 2 else (input.unsqueeze(0), True)


def spatial(weight) -> int:
    if weight.dim() < 3:
        raise RuntimeError("weight should have at least three dimensions")
    return weight.dim() - 2


def convolve(n, input, weight, bias, stride, padding, dilation, groups):
    input, added = batched(f"conv{n}d", input, n)
    m = spatial(weight)
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    stride, dilation = check_list("stride", stride, m), check_list("dilation", dilation, m)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(f"Invalid padding string: '{padding}'")
        if padding == "same" and any(s != 1 for s in stride):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        total = [d * (k - 1) * (padding == "same") for k, d in zip(weight.shape[2:], dilation)]
        if any(t % 2 for t in total):
            warn_once(
                "Using padding='same' with even kernel lengths and odd dilation may require a zero-padded copy of the input be created"
            )
        pads = tuple((t // 2, t - t // 2) for t in total)
        check(input, weight, bias, stride, total, dilation, groups, False)
    else:
        padding = check_list("padding", padding, m)
        check(input, weight, bias, stride, padding, dilation, groups, False)
        pads = tuple((p, p) for p in padding)
    out = convolution.forward(input, weight, bias, Window(tuple(weight.shape[2:]), stride, dilation, pads), groups)
    return out.squeeze(0) if added else out


def convolve_transposed(n, input, weight, bias, stride, padding, output_padding, groups, dilation):
    input, added = batched(f"conv_transpose{n}d", input, n)
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    m = spatial(weight)
    stride, padding, dilation = check_list("stride", stride, m), check_list("padding", padding, m), check_list("dilation", dilation, m)
    extra = check_list("output_padding", output_padding, m)
    check(input, weight, bias, stride, padding, dilation, groups, True)
    if any(e < 0 for e in extra):
        raise RuntimeError("negative output_padding is not supported")
    if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation)):
        flat = n == 1  # shown as the second of two dims
        parts = [f"{what}_{axis}: {v}" for what, values in (("output_padding", (0,) * flat + extra), ("stride", (1,) * flat + stride),
                 ("dilation", (1,) * flat + dilation)) for axis, v in zip(AXES[n + flat], values)]
        raise RuntimeError("output padding must be smaller than either stride or dilation, but got " + " ".join(parts))
    sizes = tuple((i - 1) * s - 2 * p + d * (k - 1) + e + 1
                  for i, s, p, d, k, e in zip(input.shape[2:], stride, padding, dilation, weight.shape[2:], extra))
    if any(s <= 0 for s in sizes):
        given, found = (" x ".join(map(str, (1,) * (n == 1) + tuple(shape))) for shape in (input.shape[2:], sizes))
        raise RuntimeError(f"Given input size per channel: ({given}). Calculated output size per channel: ({found}). Output size is too small")
    pads = tuple((p, p - e) for p, e in zip(padding, extra))
    out = convolution.transposed(input, weight, bias, sizes, Window(tuple(weight.shape[2:]), stride, dilation, pads), groups)
    return out.squeeze(0) if added else out


@checked_in_nn("conv1d")
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Sums of windows of input (N, C, L) weighted by weight (O, C / groups, K): (N, O, L')."""
    return convolve(1, input, weight, bias, stride, padding, dilation, groups)


@checked_in_nn("conv2d")
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Sums of windows of input (N, C, H, W) weighted by weight (O, C / groups, KH, KW): (N, O, H', W').

    H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1; padding="same" keeps H, for stride 1.

    >>> import tapegrad as tg
    >>> tg.nn.functional.conv2d(tg.ones(1, 1, 3, 3), tg.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    return convolve(2, input, weight, bias, stride, padding, dilation, groups)


@checked_in_nn("conv3d")
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Sums of windows of input (N, C, D, H, W) weighted by weight (O, C / groups, KD, KH, KW)."""
    return convolve(3, input, weight, bias, stride, padding, dilation, groups)


@checked_in_nn("conv_transpose1d")
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of `conv1d`: input (N, C, L), weight (C, O / groups, K)."""
    return convolve_transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@checked_in_nn("conv_transpose2d")
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of `conv2d`: input (N, C, H, W), weight (C, O / groups, KH, KW)."""
    return convolve_transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@checked_in_nn("conv_transpose3d")
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transpose of `conv3d`: input (N, C, D, H, W), weight (C, O / groups, KD, KH, KW)."""
    return convolve_transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
