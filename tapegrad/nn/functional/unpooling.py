"""max_unpool: putting the maxima that a pooling found back to their places, with zeros between them."""

from __future__ import annotations

import math

from tapegrad.ops.checks import no_kernel
from tapegrad.ops.composite import composite


def sizes_of(input, kernel, stride, padding, output_size) -> list:
    """The spatial sizes of the result: those asked for, if a pooling can have come from them."""
    n = len(kernel)
    before = input.shape[input.dim() - n :]
    default = [(before[d] - 1) * stride[d] + kernel[d] - 2 * padding[d] for d in range(n)]
    if output_size is None:
        return default
    if len(output_size) == n + 2:
        output_size = output_size[2:]
    if len(output_size) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(output_size)}'")
    for d in range(n):
        least, most = default[d] - stride[d], default[d] + stride[d]
        if not least < output_size[d] < most:
            raise ValueError(f'invalid output_size "{output_size}" (dim {d} must be between {least} and {most})')
    return list(output_size)


def check(input, indices, sizes, stride, n) -> None:
    """torch's checks, in its words."""
    if indices.dtype.name != "int64":
        raise RuntimeError("elements in indices should be type int64" + (f" but got: {indices.dtype.scalar_name}" if n == 2 else ""))
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"Input to max_unpooling{n}d should be a {n + 1}d or {n + 2}d Tensor, but got a tensor with {input.dim()} dimensions.")
    if len(sizes) != n:
        named = ("two", "height, width") if n == 2 else ("three", "depth, height, width")
        raise RuntimeError(f"There should be exactly {named[0]} elements ({named[1]}) in output_size, but got {len(sizes)} elements.")
    if n == 3 and min(stride) <= 0:
        raise RuntimeError(f"strides should be greater than zero, but got stride: {list(stride)}")
    if input.shape != indices.shape:
        raise RuntimeError(
            f"Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got indices tensor with shape: "
            f"{list(indices.shape)}"
        )
    for d in range(1, input.dim()):
        if input.shape[d] == 0:
            raise RuntimeError(
                f"max_unpooling{n}d_forward_out_cpu(): Expected input to have non-zero size for non-batch dimensions, but got "
                f"{list(input.shape)} with dimension {d} being empty."
            )
    if not input.dtype.is_floating_point:
        raise no_kernel(f"max_unpool{n}d", input.dtype)
    if not math.prod(sizes):
        return
    flat = indices.reshape(-1)
    wrong = flat[(flat < 0) | (flat >= math.prod(sizes))]
    if wrong.numel():
        shown = "x".join(map(str, sizes))
        raise RuntimeError(f"Found an invalid max index: {wrong[0].item()} (output volumes are of size {shown})")


def put(input, indices, sizes):
    """`input` scattered into zeros of `sizes`, plane by plane."""
    outer = list(input.shape[: input.dim() - len(sizes)])
    places = math.prod(input.shape[input.dim() - len(sizes) :])
    planes = [math.prod(outer), places]
    if not math.prod(sizes):
        return input.new_zeros([*outer, *sizes])
    zeros = input.new_zeros([planes[0], math.prod(sizes)])
    return zeros.scatter(1, indices.reshape(planes), input.reshape(planes)).reshape([*outer, *sizes])


PUT = {k: composite(f"max_unpool{k}d", f"MaxUnpool{k}D")(put) for k in (2, 3)}


def unpool(n, input, indices, kernel_size, stride, padding, output_size):
    each = lambda value: tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    kernel = each(kernel_size)
    stride = kernel if stride is None else each(stride)
    sizes = sizes_of(input, kernel, stride, each(padding), output_size)
    if n == 1:
        input, indices, sizes, stride, n = input.unsqueeze(-1), indices.unsqueeze(-1), [*sizes, 1], (*stride, 1), 2
        check(input, indices, sizes, stride, n)
        return PUT[2](input, indices, sizes=sizes).squeeze(-1)
    check(input, indices, sizes, stride, n)
    return PUT[n](input, indices, sizes=sizes)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The inverse of `max_pool1d` as far as there is one: the maxima (N, C, L) at their `indices`, zeros elsewhere."""
    return unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The inverse of `max_pool2d` as far as there is one: the maxima (N, C, H, W) at their `indices`, zeros elsewhere.

    The sizes are the least from which the pooling gives those of the input, unless output_size (of the spatial dims, or all) says otherwise.

    >>> import tapegrad as tg
    >>> F = tg.nn.functional
    >>> F.max_unpool2d(*F.max_pool2d(tg.tensor([[[1., 2.], [4., 3.]]]), 2, return_indices=True), 2)
    tensor([[[0., 0.],
             [4., 0.]]])
    """
    return unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The inverse of `max_pool3d` as far as there is one: the maxima (N, C, D, H, W) at their `indices`, zeros elsewhere."""
    return unpool(3, input, indices, kernel_size, stride, padding, output_size)
