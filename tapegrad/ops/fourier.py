"""Discrete Fourier transforms: one op for each kind of ends - complex to complex, real to half a spectrum, half a spectrum to real.

With N the number of elements along `dim`, the sum of each op is multiplied by 1, 1/sqrt(N) or 1/N (`normalization` 0, 1, 2).  Values come from
SciPy's pocketfft.  The functions of `tapegrad.fft` cut or pad their input and are then one or two of these ops.
"""

from __future__ import annotations

import numpy as np

from tapegrad import core, creation
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.joining import cat
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable
from tapegrad.ops.views import tensor_argument, wrap_dim

# SciPy's name of the scale by `normalization`, for transforms that go forward and for those that go back.
FORWARD, BACK = ("backward", "ortho", "forward"), ("forward", "ortho", "backward")


@structural("fft_c2c_op", "FftC2C")
def fft_c2c_op(node, g):
    """The transform in the other direction, with the same scale."""
    a = node.attributes
    return _fft_c2c(g, a.dim, a.normalization, not a.forward)


@structural("fft_r2c_op", "FftR2C")
def fft_r2c_op(node, g):
    """The real part of the transform back of the spectrum, with zeros for the half that was not given."""
    a = node.attributes
    last = a.dim[-1]
    if a.onesided and g.shape[last] != a.size:
        sizes = list(g.shape)
        sizes[last] = a.size - g.shape[last]
        g = cat([g, g.new_zeros(sizes)], last)
    return _fft_c2c(g, a.dim, a.normalization, False).real


@structural("fft_c2r_op", "FftC2R")
def fft_c2r_op(node, g):
    """Half the spectrum of the gradient, doubled where the other half repeats it."""
    a = node.attributes
    last = a.dim[-1]
    half = _fft_r2c(g, a.dim, a.normalization, True)
    doubled = g.shape[last] - half.shape[last]
    if doubled > 0:
        weights = np.ones(half.shape[last])
        weights[1 : 1 + doubled] = 2
        half = half * creation.from_array(weights.reshape([-1 if d == last else 1 for d in range(half.ndim)]), g.dtype)
    return half


def fft_samples(level, f, input, dim, *args):
    """The batch rule: the dims move up by one."""
    return level.wrap(f(level.front(input), [wrap_dim(d, input.ndim) + 1 for d in dim], *args))


def transformed(op, input, dim, array, d, order, **attributes):
    """The result, in memory whose slowest dim is the first of `order`."""
    strides, count = [0] * input.ndim, 1
    for k in reversed(order):
        strides[k] = count
        count *= max(array.shape[k], 1)
    result = creation.empty_of(tuple(array.shape), d, tuple(strides))
    core.assign(result, creation.from_array(array, d))
    record(op, [input], [result], plans.Parameters(op, dim=tuple(dim), **attributes))
    return result


def order_after(steps, dim, last=()) -> list[int]:
    """The order of dims in memory that PyTorch leaves: those that are not transformed, then `dim`, both by the input's steps, then `last`."""
    by_steps = sorted(range(len(steps)), key=lambda k: -steps[k])
    return [*(k for k in by_steps if k not in dim and k not in last), *(k for k in by_steps if k in dim), *last]


def computed(name: str, input, dim, norm: str, last: int, d, **sizes):
    """The values of SciPy's transform `name`; of an input without elements zeros, `last` along the last of the dims."""
    array = input.detach()._values()
    if array.size:
        from scipy import fft

        return getattr(fft, name)(array, axes=tuple(dim), norm=norm, **sizes)
    shape = list(array.shape)
    shape[dim[-1]] = last
    return np.zeros(shape, d.numpy)


def arguments(name: str, input, dim, kind: str = "complex") -> list[int]:
    """The dims, of an input of this kind of dtype."""
    dim = [wrap_dim(d, tensor_argument(name, input).ndim) for d in dim]
    if not (input.dtype.is_complex if kind == "complex" else input.dtype.is_floating_point):
        raise RuntimeError(f"Only supports {kind} dtypes, but found: {input.dtype.scalar_name}")
    return dim


@transformable(batch=fft_samples, linear="input")
def _fft_c2c(input, dim, normalization, forward):
    """The sum over `dim` of x exp(-+2 pi i j k / n); minus forward."""
    dim = arguments("_fft_c2c", input, dim)
    if not dim:
        return input.clone()
    d = input.dtype
    array = computed("fftn" if forward else "ifftn", input, dim, (FORWARD if forward else BACK)[normalization], input.shape[dim[-1]], d)
    return transformed(fft_c2c_op, input, dim, array, d, order_after(input.stride(), dim), normalization=normalization, forward=bool(forward))


@transformable(batch=fft_samples, linear="input")
def _fft_r2c(input, dim, normalization, onesided):
    """The transform forward of real numbers; `onesided` without the elements of the last dim that are conjugates of others."""
    dim = arguments("_fft_r2c", input, dim, "floating-point")
    d, size = input.dtype.to_complex(), input.shape[dim[-1]]
    array = computed("rfftn" if onesided else "fftn", input, dim, FORWARD[normalization], size // 2 + 1 if onesided else size, d)
    array += 0.0  # where SciPy has -0, as in the imaginary part of the mean
    order = order_after(input.stride(), dim[:-1], dim[-1:])
    return transformed(fft_r2c_op, input, dim, array, d, order, normalization=normalization, onesided=bool(onesided), size=size)


@transformable(batch=fft_samples, linear="input")
def _fft_c2r(input, dim, normalization, last_dim_size):
    """The transform back of half a spectrum to real numbers, of which the last dim has `last_dim_size`."""
    dim = arguments("_fft_c2r", input, dim)
    d, sizes = input.dtype.to_real(), [*(input.shape[k] for k in dim[:-1]), last_dim_size]
    array = computed("irfftn", input, dim, BACK[normalization], last_dim_size, d, s=sizes)
    steps = input.stride()
    if len(dim) > 1:  # the other dims in a pass of their own
        order = order_after(steps, dim[:-1])
        steps = [-order.index(k) for k in range(input.ndim)]
    return transformed(fft_c2r_op, input, dim, array, d, order_after(steps, (), dim[-1:]), normalization=normalization)
