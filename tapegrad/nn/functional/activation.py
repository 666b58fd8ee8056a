"""Activation functions."""

from __future__ import annotations

import functools
import math

import numpy as np

from tapegrad import dispatch, dtypes, modes
from tapegrad.cautions import warn
from tapegrad.creation.elements import kernel_number
from tapegrad.install import NN
from tapegrad.limits import finfo
from tapegrad.ops import chains, joining, softmaxes
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import stored
from tapegrad.ops.registry import BY_NAME, structural
from tapegrad.ops.transformable import checked_in_nn, look_at, transformable
from tapegrad.ops.views import tensor_argument, wrap_dim
from tapegrad.tensor import Tensor
from tapegrad.transforms import randomness


@functools.lru_cache(4096)
def _constant(value, sign, d):
    return dispatch.number_slot(value, d)


def with_numbers(name, x, *numbers, inplace=False):
    """An op on a tensor and Python numbers; constants are kept, so that a call makes no tensors for them."""
    op = BY_NAME[name]
    if inplace:
        return dispatch.call_inplace(op, x, *numbers)
    if type(x) is not Tensor or modes.word() & (modes.WATCHED | modes.INFERENCE | modes.TRANSFORM) or x.dtype.name not in ("float32", "float64"):
        return dispatch.call(op, x, *numbers)
    plans.settled(x)
    d = x.dtype
    return dispatch.finish(op, [x, *[chains.constant(_constant(v, math.copysign(1.0, v), d)) for v in numbers]])


def relu(input, inplace=False):
    """max(x, 0)."""
    if not isinstance(input, Tensor):
        look_at("relu_" if inplace else "relu", input)
    return input.relu_() if inplace else input.relu()


def relu_(input):
    """`relu` in place."""
    if not isinstance(input, Tensor):
        look_at("relu_", input)
    return input.relu_()


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where x > 0, negative_slope x elsewhere."""
    if inplace:
        look_at("leaky_relu_", input, negative_slope)
    return with_numbers("leaky_relu", input, negative_slope, inplace=True) if inplace else NN.leaky_relu(input, negative_slope)


def elu(input, alpha=1.0, inplace=False):
    """x where x > 0, alpha (exp(x) - 1) elsewhere."""
    if inplace:
        look_at("elu_", input, alpha)
    return with_numbers("elu", input, alpha, inplace=True) if inplace else NN.elu(input, alpha)


def celu(input, alpha=1.0, inplace=False):
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""
    look_at("celu_" if inplace else "celu", input, alpha)
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return with_numbers("celu", input, alpha, inplace=True) if inplace else NN.celu(input, alpha)


def _unary(name, doc):
    def run(input, inplace=False):
        if inplace:
            look_at(name + "_", input)
        return dispatch.call_inplace(BY_NAME[name], input) if inplace else getattr(NN, name)(input)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc
    return run


selu = _unary("selu", "1.0507 times elu with alpha 1.6733: the fixed point of self-normalising networks.")
silu = _unary("silu", "x sigmoid(x).")
mish = _unary("mish", "x tanh(softplus(x)).")
hardswish = _unary("hardswish", "x relu6(x + 3) / 6.")
hardsigmoid = _unary("hardsigmoid", "relu6(x + 3) / 6.")


@checked_in_nn("log_sigmoid")
@stored()
def logsigmoid(input):
    """log(sigmoid(x))."""
    return NN.log_sigmoid(input)


@checked_in_nn("gelu")
@stored()
def gelu(input, *, approximate="none"):
    """x Phi(x), Phi the normal distribution function; approximate="tanh" replaces it by a formula with tanh."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return NN.gelu(input) if approximate == "none" else NN.gelu_tanh(input)


@checked_in_nn("softplus")
@stored()
def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta; x where beta x > threshold."""
    return with_numbers("softplus_scaled", input, beta, threshold)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """x limited to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    look_at("hardtanh_" if inplace else "hardtanh", input, min_val, max_val)
    _no_bools(input)
    return with_numbers("hardtanh", input, *_like(input, min_val, max_val), inplace=inplace)


def _no_bools(input) -> None:
    if input.dtype is dtypes.bool_:
        raise RuntimeError("Bool inputs not supported for hardtanh")


def _like(input, *numbers):
    """Numbers in the category of the tensor: a limit of 1.0 does not make integers floating-point."""
    if isinstance(input, Tensor) and input.dtype.category == dtypes.INTEGER:
        return [kernel_number(v, input.dtype) for v in numbers]
    return numbers


def relu6(input, inplace=False):
    """x limited to [0, 6]."""
    look_at("relu6_" if inplace else "relu6", input)
    _no_bools(input)
    return with_numbers("hardtanh", input, *_like(input, 0.0, 6.0), inplace=inplace)


def threshold(input, threshold, value, inplace=False):
    """x where x > threshold, `value` elsewhere."""
    look_at("threshold_" if inplace else "threshold", input, threshold, value)
    if input.dtype is dtypes.bool_:
        raise no_kernel("threshold_cpu", input.dtype)
    return with_numbers("threshold", input, *_like(input, threshold, value), inplace=inplace)


@checked_in_nn("hardshrink")
@stored()
def hardshrink(input, lambd=0.5):
    """x where |x| > lambd, 0 elsewhere."""
    return NN.hardshrink(input, lambd)


@checked_in_nn("softshrink")
@stored()
def softshrink(input, lambd=0.5):
    """x moved by lambd towards 0, 0 where |x| <= lambd."""
    tensor_argument("softshrink", input)
    largest = finfo(input.dtype).max if input.dtype.is_floating_point else 0
    if not 0 <= lambd <= largest and input.dtype.is_floating_point:
        raise RuntimeError(f"lambda must be in range [0, {largest:g}] for input dtype {input.dtype.scalar_name}, but found {lambd:g}")
    return NN.softshrink(input, lambd)


def tanhshrink(input):
    """x - tanh(x)."""
    return input - input.tanh()


def softsign(input):
    """x / (1 + |x|)."""
    return input / (input.abs() + 1)


def tanh(input):
    """tanh(x)."""
    return input.tanh()


def sigmoid(input):
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


@checked_in_nn("prelu")
def prelu(input, weight):
    """x where x > 0, weight x elsewhere, with one weight or one per channel (dim 1)."""
    if weight.dim() > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.dim()}")
    if input.dtype is not weight.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype.scalar_name} and {weight.dtype.scalar_name}")
    channels = input.shape[1] if input.dim() > 1 else 1
    if weight.numel() != 1:
        if not input.dim():
            raise RuntimeError("Not allow zero-dim input tensor.")
        if channels != weight.numel():
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.numel()} and channel size = {channels}."
            )
    if input.dim() != weight.dim() or input.dim() > 1:
        shape = [1] * input.dim()
        if input.dim() > 1:
            shape[1] = weight.numel()
        elif input.dim() == 1:
            shape[0] = weight.numel()
        weight = weight.reshape(shape)
    return NN.prelu_kernel(input, weight)


@structural("glu_op", "Glu")
def glu_op(node, g):
    """glu: g sigmoid(b), and g a sigmoid(b) (1 - sigmoid(b)), side by side."""
    a, b = node.inputs[0].chunk(2, node.attributes.dim)
    s = b.sigmoid()
    return joining.cat([g * s, g * a * s * (1 - s)], node.attributes.dim)


@transformable("along")
def glu(input, dim=-1):
    """a sigmoid(b), where a and b are the halves of the input along `dim`."""
    look_at("glu", input, dim)
    from tapegrad.autograd.node import record

    if input.dim() == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    d = wrap_dim(dim, input.dim())
    if input.shape[d] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {input.shape[d]}")
    with modes.no_grad():
        a, b = input.detach().chunk(2, d)
        out = a * b.sigmoid()
    record(glu_op, [input], [out], plans.Parameters(glu_op, dim=d), 0b1)
    return out


@structural("rrelu_op", "RreluWithNoise", flat=True)
def rrelu_op(node, g):
    """rrelu: g times the slopes that were drawn."""
    return g * node.attributes.noise


@transformable()
def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """leaky_relu whose slopes are drawn from [lower, upper) in training, and their mean otherwise."""
    look_at("rrelu_" if inplace else "rrelu", input, lower, upper, training)
    from tapegrad.autograd import inplace as writing
    from tapegrad.autograd.node import record
    from tapegrad.creation import from_array
    from tapegrad.random import stream_of

    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")

    def run(x):
        d = x.dtype
        values = x.detach()._values()
        negative = values <= 0
        slopes = np.ones_like(values)
        low, high = (float(values.dtype.type(bound)) for bound in (lower, upper))
        slopes[negative] = stream_of(None).uniform(int(negative.sum()), np.float64, low, high) if training else (lower + upper) / 2
        out = from_array(np.asarray(values * slopes), d)
        record(rrelu_op, [x], [out], plans.Parameters(rrelu_op, noise=from_array(slopes, d)))
        return out

    randomness.refuse("rrelu")
    d = tensor_argument("rrelu", input).dtype
    if not d.is_floating_point or training and d is dtypes.float16:
        raise no_kernel("rrelu_with_noise_out_cpu" if training else "leaky_relu_cpu", d)
    return writing.by_function(run)(input) if inplace else run(input)


# --- along a dim ----------------------------------------------------------------------------------------------------
def _implicit_dim(name, ndim, stacklevel):
    warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.", stacklevel=stacklevel
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`."""
    return softmaxes.softmax(input, _implicit_dim("softmax", input.dim(), _stacklevel) if dim is None else dim, dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax of -x."""
    return softmaxes.softmax(-input, _implicit_dim("softmin", input.dim(), _stacklevel) if dim is None else dim, dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log(softmax(x)) along `dim`."""
    return softmaxes.log_softmax(input, _implicit_dim("log_softmax", input.dim(), _stacklevel) if dim is None else dim, dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """softmax of the logits plus Gumbel noise, over tau; `hard` makes it one-hot, with the gradient of the soft one."""
    if eps != 1e-10:
        warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    from tapegrad import creation

    noise = -creation.empty_like(logits).detach().exponential_().log()
    soft = softmaxes.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    return creation.zeros_like(logits).scatter_(dim, index, 1.0) - soft.detach() + soft


# --- in place, by names of their own --------------------------------------------------------------------------------
@checked_in_nn("threshold_")
def threshold_(input, threshold_, value):
    """`threshold` in place."""
    return threshold(input, threshold_, value, inplace=True)


@checked_in_nn("hardtanh_")
def hardtanh_(input, min_val=-1.0, max_val=1.0):
    """`hardtanh` in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


@checked_in_nn("elu_")
def elu_(input, alpha=1.0):
    """`elu` in place."""
    return elu(input, alpha, inplace=True)


@checked_in_nn("celu_")
def celu_(input, alpha=1.0):
    """`celu` in place."""
    return celu(input, alpha, inplace=True)


@checked_in_nn("selu_")
def selu_(input):
    """`selu` in place."""
    return selu(input, inplace=True)


@checked_in_nn("leaky_relu_")
def leaky_relu_(input, negative_slope=0.01):
    """`leaky_relu` in place."""
    return leaky_relu(input, negative_slope, inplace=True)


@checked_in_nn("rrelu_")
def rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False):
    """`rrelu` in place."""
    return rrelu(input, lower, upper, training, inplace=True)
