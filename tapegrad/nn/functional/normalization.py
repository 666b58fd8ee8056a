"""Normalisations: batch, layer, group, instance, root mean square, local response."""

from __future__ import annotations

import math

import numpy as np

from tapegrad import dtypes, modes
from tapegrad.limits import finfo
from tapegrad.nn.functional.padding import pad
from tapegrad.nn.functional.pooling import avg_pool2d, avg_pool3d
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.normalisation import normalise
from tapegrad.ops.transformable import look_at, plain
from tapegrad.transforms.reverse import vmap_levels
from tapegrad.transforms.wrappers import levels, own_writes


def floats_only(kernel, input) -> None:
    if not input.dtype.is_floating_point:
        raise no_kernel(kernel, input.dtype)


def share_dtype(input, *parameters) -> None:
    """Parameters are of the input's dtype, or all of float32 beside a half-precision input."""
    given = [p for p in parameters if p is not None]
    if given and given[0].dtype is not input.dtype:
        if any(p.dtype is not dtypes.float32 for p in given):
            raise RuntimeError("mixed dtype (CPU): expect parameter to have scalar type of Float")
        if not input.dtype.reduced:
            raise RuntimeError("mixed dtype (CPU): all inputs must share same datatype.")
        return
    for p in given:
        if p.dtype is not input.dtype and input.dtype.is_floating_point:
            raise RuntimeError(f"expected scalar type {input.dtype.scalar_name} but found {p.dtype.scalar_name}")


def check_shape(normalized_shape, input, weight, bias) -> tuple:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got normalized_shape = {list(shape)}"
        )
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape {list(t.shape)} and normalized_shape = {list(shape)}"
            )
    if input.dim() < len(shape) or tuple(input.shape[input.dim() - len(shape) :]) != shape:
        wanted = ", ".join(map(str, ("*", *shape)))
        raise RuntimeError(f"Given normalized_shape={list(shape)}, expected input with shape [{wanted}], but got input of size{list(input.shape)}")
    return shape


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) over the last dims, of shape normalized_shape, times weight plus bias."""
    look_at("layer_norm", input, normalized_shape, weight, bias, eps)
    shape = check_shape(normalized_shape, input, weight, bias)
    share_dtype(input, weight, bias)
    floats_only("LayerNormKernelImpl", input)
    dims = tuple(range(input.dim() - len(shape), input.dim()))
    return normalise(input, weight, bias, tuple(input.shape), dims, (*[1] * (input.dim() - len(shape)), *shape), eps, "NativeLayerNormBackward0")[0]


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x^2) + eps) over the last dims, times weight."""
    look_at("rms_norm", input, normalized_shape, weight, eps)
    shape = check_shape(normalized_shape, input, weight, None)
    dims = tuple(range(input.dim() - len(shape), input.dim()))
    floats_only("rms_norm", input)
    x = input.to(dtypes.float32) if input.dtype.reduced else input
    result = x * (x.pow(2).mean(dims, True) + (finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return (result if weight is None else result * weight).to(input.dtype)


def check_spread(sizes, shown) -> None:
    if math.prod(sizes[:1] + sizes[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {shown}")


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """(x - mean) / sqrt(var + eps) per channel (dim 1), times weight plus bias.

    In training mean and variance are those of the input, and the running ones move towards them by `momentum`; else the running ones.
    """
    if training:
        check_spread(tuple(input.shape), input.shape)
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    elif eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    look_at("batch_norm", input, weight, bias, running_mean, running_var, training, momentum, eps, True)
    return per_channel(input, running_mean, running_var, weight, bias, training, momentum, eps)


def per_channel(input, running_mean, running_var, weight, bias, training, momentum, eps):
    """`batch_norm` of any eps."""
    axis = min(1, input.dim() - 1)
    channels = input.shape[axis]
    for name, t in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if t is None:
            if not training and name.startswith("running"):
                raise RuntimeError(f"{name} must be defined in evaluation mode")
        elif t.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {t.numel()}")
    floats_only("batch_norm", input)
    statistics = (running_mean, running_var)
    share_dtype(input, weight, *(statistics if training else (bias,)), *((bias,) if training else statistics))
    dims = tuple(d for d in range(input.dim()) if d != axis)
    affine = tuple(channels if d == axis else 1 for d in range(input.dim()))
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must either both be None or neither be None")
    moments = None if training else (running_mean.detach().reshape(affine), running_var.detach().reshape(affine))
    out, mean, var = normalise(input, weight, bias, tuple(input.shape), dims, affine, eps, "NativeBatchNormBackward0", moments)
    if training and running_mean is not None and input.numel():
        count = input.numel() // max(channels, 1)
        for running, value in ((running_mean, mean), (running_var, var * (count / max(count - 1, 1)))):
            follow(running, value.reshape(-1), momentum)
    return out


UNBATCHED = (
    "Batch norm got a batched tensor as input while the running_mean or running_var, which will be updated in place, were not batched.\nIf you are "
    "using a module and do not need eval mode, please set `track_running_stats` to be False.If you are using a prebuilt module and do not need eval "
    "mode, please see the functorch website for resources on how to patch your module to work with vmap"
)


def same_of_all(value):
    """The value that all samples of a batch share (a derivative's function may see its input repeated); a RuntimeError if they do not."""
    samples, depth = value.movedim_physical(), value._level.depth
    derived = any(level.kind != "vmap" and level.depth > depth for level in levels())
    if not derived or not bool(plain(samples == samples[:1]).all()):
        raise RuntimeError(UNBATCHED)
    return samples.select(0, 0)


def follow(running, value, momentum) -> None:
    """Move a running statistic towards `value`: an array, or a tensor if a transform follows it."""
    with modes.no_grad(), own_writes():
        if isinstance(value, np.ndarray) and running._level is None:
            running.copy_(running.new_tensor(value * momentum + running._values() * (1 - momentum)))
            return
        value = running.new_tensor(value) if isinstance(value, np.ndarray) else value.detach()
        own = vmap_levels([running])
        while value._level is not None and value._level not in own:
            value = same_of_all(value)
        running.copy_(value * momentum + running * (1 - momentum))


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalisation of each of num_groups groups of channels (dim 1) of each sample."""
    if input.dim() < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.dim()}")
    n, channels, *sizes = input.shape
    check_spread((n * channels // num_groups, num_groups, *sizes), [n * channels // num_groups, num_groups, *sizes])
    look_at("group_norm", input, num_groups, weight, bias, eps)
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(input.shape)} and "
            f"num_groups={num_groups}"
        )
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got {name} of shape {list(t.shape)} and input of "
                f"shape {list(input.shape)}"
            )
    share_dtype(input, weight, bias)
    floats_only("GroupNormKernelImpl", input)
    rows = (n, num_groups, channels // num_groups * math.prod(sizes))
    return normalise(input, weight, bias, rows, (2,), (1, channels, *[1] * len(sizes)), eps, "NativeGroupNormBackward0")[0]


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5):
    """Batch norm of each sample by itself."""
    if use_input_stats and math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    look_at("instance_norm", input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, True)
    if not use_input_stats and (running_mean is None or running_var is None):
        raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
    n, channels = input.shape[:2]
    repeated = lambda t: None if t is None else t.repeat(n)
    mean, var = repeated(running_mean), repeated(running_var)
    out = per_channel(input.reshape(1, n * channels, *input.shape[2:]), mean, var, repeated(weight), repeated(bias), use_input_stats, momentum, eps)
    if use_input_stats:
        with modes.no_grad(), own_writes():
            for running, value in ((running_mean, mean), (running_var, var)):
                if running is not None:
                    running.copy_(value.reshape(n, channels).mean(0))
    return out.view(input.shape)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """x / (k + alpha mean(x^2 over `size` neighbouring channels))^beta."""
    if input.dim() < 3:
        raise ValueError(f"Expected 3D or higher dimensionality                          input (got {input.dim()} dimensions)")
    if not input.numel():
        return input
    squares = input.mul(input)
    if input.dim() == 3:
        squares = avg_pool2d(pad(squares.unsqueeze(1), (0, 0, size // 2, (size - 1) // 2)), (size, 1), stride=1).squeeze(1)
    else:
        n, channels, rows = input.shape[:3]
        squares = pad(squares.view(n, 1, channels, rows, -1), (0, 0, 0, 0, size // 2, (size - 1) // 2))
        squares = avg_pool3d(squares, (size, 1, 1), stride=1).squeeze(1).view(input.shape)
    return input / squares.mul(alpha).add(k).pow(beta)
