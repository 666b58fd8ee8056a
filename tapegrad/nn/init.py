"""Initial values of parameters, drawn from torch's own random streams."""

from __future__ import annotations

import math
import warnings

from tapegrad import modes
from tapegrad import overriding as _overriding


def calculate_gain(nonlinearity, param=None):
    """The factor by which a nonlinearity shrinks the spread of its input: sqrt(2) for relu, 5/3 for tanh ..."""
    if nonlinearity in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"):
        return 1
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity not in gains:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return gains[nonlinearity]


@modes.no_grad()
def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Uniform on [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@modes.no_grad()
def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Normal with a mean and standard deviation."""
    return tensor.normal_(mean, std, generator=generator)


@modes.no_grad()
def constant_(tensor, val):
    """`val` everywhere."""
    return tensor.fill_(val)


@modes.no_grad()
def ones_(tensor):
    """1 everywhere."""
    return tensor.fill_(1.0)


@modes.no_grad()
def zeros_(tensor):
    """0 everywhere."""
    return tensor.zero_()


@modes.no_grad()
def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal, drawn again until the values lie in [a, b]."""
    from tapegrad import creation
    from tapegrad.ops.choosing import where

    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect.", UserWarning, stacklevel=3
        )
    below = lambda x: (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0
    fresh = lambda: creation.empty_like(tensor)
    if below((b - mean) / std) - below((a - mean) / std) > 0.3:  # most draws are kept: draw the others again
        low, high = tensor.new_tensor(a).item(), tensor.new_tensor(b).item()
        result = tensor.normal_(mean, std, generator=generator)
        while True:
            outside = (result < low) | (result > high)
            if not outside.any():
                break
            result = where(outside, fresh().normal_(mean, std, generator=generator), result)
        return tensor.copy_(result) if result is not tensor else tensor
    # Rejection from a uniform draw, by the logarithm of the density over its peak.
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    density = lambda x: ((x - mean) / std).pow(2) * -0.5 - peak
    tensor.uniform_(a, b, generator=generator)
    pending = fresh().uniform_(generator=generator).log_().gt(density(tensor))
    result = tensor
    while pending.any():
        candidates = fresh().uniform_(a, b, generator=generator)
        result = where(pending, candidates, result)
        pending = where(pending, fresh().uniform_(generator=generator).log_().gt(density(candidates)), pending)
    return tensor.copy_(result) if result is not tensor else tensor


@modes.no_grad()
def eye_(tensor):
    """The identity matrix."""
    from tapegrad import creation

    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(creation.eye(*tensor.shape, dtype=tensor.dtype))


@modes.no_grad()
def dirac_(tensor, groups=1):
    """The kernel of a convolution that keeps its input, as far as there are channels for it."""
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = tensor.shape[0] // groups
    tensor.zero_()
    middle = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for d in range(min(per_group, tensor.shape[1])):
            tensor[(group * per_group + d, d, *middle)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor):
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_correct_fan(tensor, mode):
    mode = mode.lower()
    modes_ = ["fan_in", "fan_out"]
    if mode not in modes_:
        raise ValueError(f"Mode {mode} not supported, please use one of {modes_}")
    return _calculate_fan_in_and_fan_out(tensor)[modes_.index(mode)]


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform with standard deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    std = gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))
    a = math.sqrt(3.0) * std
    return uniform_(tensor, -a, a, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor)))), generator)


def _kaiming_std(tensor, a, mode, nonlinearity):
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=3)
        return None
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform with standard deviation gain / sqrt(fan) (He et al. 2015)."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else uniform_(tensor, -(math.sqrt(3.0) * std), math.sqrt(3.0) * std, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal with standard deviation gain / sqrt(fan) (He et al. 2015)."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0, std, generator)


@modes.no_grad()
def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Normal, with a share `sparsity` of each column set to 0."""
    from tapegrad import random

    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[random.randperm(rows)[:zeros], column] = 0
    return tensor


@modes.no_grad()
def orthogonal_(tensor, gain=1, generator=None):
    """A (semi-)orthogonal matrix times gain, by QR of a normal one (Saxe et al. 2014); the dims after the first count as columns."""
    from tapegrad import creation, linalg

    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    drawn = creation.empty(rows, columns, dtype=tensor.dtype).normal_(0, 1, generator=generator)
    q, r = linalg.qr(drawn.t() if rows < columns else drawn)
    q = q * r.diagonal().sign()  # which makes the factorization unique, and the distribution uniform
    return tensor.copy_((q.t() if rows < columns else q).reshape(tensor.shape)).mul_(gain)


_overriding.space(globals())
