"""Activation modules: `nn.functional` with the parameters kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from tapegrad import creation
from tapegrad.nn import functional as F
from tapegrad.nn import init
from tapegrad.nn.modules.module import Module
from tapegrad.nn.parameter import Parameter


class _Activation(Module):
    """`function` of the input, then of what the attributes named in `options` hold; the repr shows these."""

    function: Callable
    options: tuple[str, ...] = ()

    def forward(self, input):
        """The function of the input."""
        return self.function(input, *[getattr(self, name) for name in self.options])

    def extra_repr(self):
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class _InPlace(_Activation):
    """An activation that can write over its input."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input):
        """The function of the input, over it if `inplace`."""
        return self.function(input, *[getattr(self, name) for name in self.options], inplace=self.inplace)

    def extra_repr(self):
        numbers = super().extra_repr()
        return ", ".join([numbers] * (numbers != "") + ["inplace=True"] * self.inplace)


class _AlongDim(_Activation):
    """A function of the elements along one dim; without `dim` functional chooses it, with a warning."""

    options = ("dim",)

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("dim", None)

    def forward(self, input):
        """The function along `dim`."""
        return self.function(input, self.dim, _stacklevel=5)


class Threshold(_InPlace):
    """x where x > threshold, `value` elsewhere."""

    function, options = staticmethod(F.threshold), ("threshold", "value")

    def __init__(self, threshold, value, inplace=False):
        super().__init__(inplace)
        self.threshold, self.value = threshold, value


class ReLU(_InPlace):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class RReLU(_InPlace):
    """leaky_relu with slopes drawn from [lower, upper) in training."""

    options = ("lower", "upper")

    def __init__(self, lower=1.0 / 8, upper=1.0 / 3, inplace=False):
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, input):
        """The function of the input, over it if `inplace`."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class Hardtanh(_InPlace):
    """x limited to [min_val, max_val]."""

    function, options = staticmethod(F.hardtanh), ("min_val", "max_val")

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None):
        super().__init__(inplace)
        for old, new, value in (("min_value", "min_val", min_value), ("max_value", "max_val", max_value)):
            if value is not None:
                warnings.warn(f"keyword argument `{old}` is deprecated and renamed to `{new}`", FutureWarning, stacklevel=2)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        if self.max_val <= self.min_val:
            raise AssertionError(f"max_val ({self.max_val}) must be greater than min_val ({self.min_val})")


class ReLU6(Hardtanh):
    """x limited to [0, 6]."""

    def __init__(self, inplace=False):
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self):
        return "inplace=True" if self.inplace else ""


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class Tanh(_Activation):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class LogSigmoid(_Activation):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Hardsigmoid(_InPlace):
    """relu6(x + 3) / 6."""

    function = staticmethod(F.hardsigmoid)

    def extra_repr(self):
        return ""


class SiLU(_InPlace):
    """x sigmoid(x)."""

    function = staticmethod(F.silu)


class Mish(_InPlace):
    """x tanh(softplus(x))."""

    function = staticmethod(F.mish)


class Hardswish(_InPlace):
    """x relu6(x + 3) / 6."""

    function = staticmethod(F.hardswish)

    def extra_repr(self):
        return ""


class ELU(_InPlace):
    """x where x > 0, alpha (exp(x) - 1) elsewhere."""

    function, options = staticmethod(F.elu), ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(inplace)
        self.alpha = alpha


class CELU(_InPlace):
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""

    function, options = staticmethod(F.celu), ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__(inplace)
        self.alpha = alpha


class SELU(_InPlace):
    """elu with the constants of self-normalising networks."""

    function = staticmethod(F.selu)


class LeakyReLU(_InPlace):
    """x where x > 0, negative_slope x elsewhere."""

    function, options = staticmethod(F.leaky_relu), ("negative_slope",)

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__(inplace)
        self.negative_slope = negative_slope


class GLU(_Activation):
    """a sigmoid(b) of the halves a, b along `dim`."""

    function, options = staticmethod(F.glu), ("dim",)

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim


class _Shrink(_Activation):
    options = ("lambd",)

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def extra_repr(self):
        return f"{self.lambd}"


class Hardshrink(_Shrink):
    """x where |x| > lambd, 0 elsewhere."""

    function = staticmethod(F.hardshrink)


class Softshrink(_Shrink):
    """x moved by lambd towards 0."""

    function = staticmethod(F.softshrink)


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta."""

    function, options = staticmethod(F.softplus), ("beta", "threshold")

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold


class GELU(_Activation):
    """x Phi(x), Phi the normal distribution function; approximate="tanh" replaces it by a formula with tanh."""

    function, options = staticmethod(F.gelu), ("approximate",)

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input):
        """The function of the input."""
        return F.gelu(input, approximate=self.approximate)


class PReLU(Module):
    """x where x > 0, a x elsewhere, with one learnt slope or one per channel."""

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(creation.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self):
        """Every slope `init` again."""
        init.constant_(self.weight, self.init)

    def forward(self, input):
        return F.prelu(input, self.weight)

    def extra_repr(self):
        return f"num_parameters={self.num_parameters}"


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along `dim`."""

    function = staticmethod(F.softmax)


class Softmin(_AlongDim):
    """softmax of -x along `dim`."""

    function = staticmethod(F.softmin)


class LogSoftmax(_AlongDim):
    """log(softmax(x)) along `dim`."""

    function = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """softmax over the channels of (C, H, W) or (N, C, H, W)."""

    def forward(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return F.softmax(input, -3, _stacklevel=5)
