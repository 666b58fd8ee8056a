"""Activation modules: `nn.functional` with the parameters kept."""

from __future__ import annotations

import warnings

from tapegrad import creation
from tapegrad.nn import functional as F
from tapegrad.nn import init
from tapegrad.nn.modules.module import Module
from tapegrad.nn.parameter import Parameter


class _InPlace(Module):
    """What activations with an `inplace` switch share: their numbers and the switch, in the repr too."""

    shown: tuple[str, ...] = ()

    def _keep(self, inplace, **numbers):
        for name, value in numbers.items():
            setattr(self, name, value)
        self.inplace = inplace

    def extra_repr(self):
        numbers = [f"{name}={getattr(self, name)}" for name in self.shown]
        return ", ".join([*numbers, "inplace=True"] if self.inplace else numbers)


class Threshold(_InPlace):
    """x where x > threshold, `value` elsewhere."""

    shown = ("threshold", "value",)

    def __init__(self, threshold, value, inplace=False):
        super().__init__()
        self._keep(inplace, threshold=threshold, value=value)

    def forward(self, input):
        return F.threshold(input, self.threshold, self.value, inplace=self.inplace)


class ReLU(_InPlace):
    """max(x, 0)."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.relu(input, inplace=self.inplace)


class RReLU(_InPlace):
    """leaky_relu with slopes drawn from [lower, upper) in training."""

    shown = ("lower", "upper")

    def __init__(self, lower=1.0 / 8, upper=1.0 / 3, inplace=False):
        super().__init__()
        self._keep(inplace, lower=lower, upper=upper)

    def forward(self, input):
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class Hardtanh(_InPlace):
    """x limited to [min_val, max_val]."""

    shown = ("min_val", "max_val")

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None):
        super().__init__()
        for old, new, value in (("min_value", "min_val", min_value), ("max_value", "max_val", max_value)):
            if value is not None:
                warnings.warn(f"keyword argument `{old}` is deprecated and renamed to `{new}`", FutureWarning, stacklevel=2)
        min_val = min_val if min_value is None else min_value
        max_val = max_val if max_value is None else max_value
        self._keep(inplace, min_val=min_val, max_val=max_val)
        if max_val <= min_val:
            raise AssertionError(f"max_val ({max_val}) must be greater than min_val ({min_val})")

    def forward(self, input):
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)


class ReLU6(Hardtanh):
    """x limited to [0, 6]."""

    shown = ()

    def __init__(self, inplace=False):
        super().__init__(0.0, 6.0, inplace)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input):
        return F.sigmoid(input)


class Tanh(Module):
    """tanh(x)."""

    def forward(self, input):
        return F.tanh(input)


class LogSigmoid(Module):
    """log(sigmoid(x))."""

    def forward(self, input):
        return F.logsigmoid(input)


class Softsign(Module):
    """x / (1 + |x|)."""

    def forward(self, input):
        return F.softsign(input)


class Tanhshrink(Module):
    """x - tanh(x)."""

    def forward(self, input):
        return F.tanhshrink(input)


class Hardsigmoid(_InPlace):
    """relu6(x + 3) / 6."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.hardsigmoid(input, inplace=self.inplace)

    def extra_repr(self):
        return ""


class SiLU(_InPlace):
    """x sigmoid(x)."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.silu(input, inplace=self.inplace)


class Mish(_InPlace):
    """x tanh(softplus(x))."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.mish(input, inplace=self.inplace)


class Hardswish(_InPlace):
    """x relu6(x + 3) / 6."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.hardswish(input, inplace=self.inplace)

    def extra_repr(self):
        return ""


class ELU(_InPlace):
    """x where x > 0, alpha (exp(x) - 1) elsewhere."""

    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self._keep(inplace, alpha=alpha)

    def forward(self, input):
        return F.elu(input, self.alpha, inplace=self.inplace)


class CELU(_InPlace):
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""

    shown = ("alpha",)

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self._keep(inplace, alpha=alpha)

    def forward(self, input):
        return F.celu(input, self.alpha, inplace=self.inplace)


class SELU(_InPlace):
    """elu with the constants of self-normalising networks."""

    def __init__(self, inplace=False):
        super().__init__()
        self._keep(inplace)

    def forward(self, input):
        return F.selu(input, inplace=self.inplace)


class LeakyReLU(_InPlace):
    """x where x > 0, negative_slope x elsewhere."""

    shown = ("negative_slope",)

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self._keep(inplace, negative_slope=negative_slope)

    def forward(self, input):
        return F.leaky_relu(input, self.negative_slope, inplace=self.inplace)


class GLU(Module):
    """a sigmoid(b) of the halves a, b along `dim`."""

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, input):
        return F.glu(input, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"


class Hardshrink(Module):
    """x where |x| > lambd, 0 elsewhere."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def forward(self, input):
        return F.hardshrink(input, self.lambd)

    def extra_repr(self):
        return f"{self.lambd}"


class Softshrink(Module):
    """x moved by lambd towards 0."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def forward(self, input):
        return F.softshrink(input, self.lambd)

    def extra_repr(self):
        return f"{self.lambd}"


class Softplus(Module):
    """log(1 + exp(beta x)) / beta."""

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input):
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self):
        return f"beta={self.beta}, threshold={self.threshold}"


class GELU(Module):
    """x Phi(x), Phi the normal distribution function; approximate="tanh" replaces it by a formula with tanh."""

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input):
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


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


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`."""

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("dim", None)

    def forward(self, input):
        return F.softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmin(Module):
    """softmax of -x along `dim`."""

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("dim", None)

    def forward(self, input):
        return F.softmin(input, self.dim, _stacklevel=5)

    def extra_repr(self):
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along `dim`."""

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("dim", None)

    def forward(self, input):
        return F.log_softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self):
        return f"dim={self.dim}"


class Softmax2d(Module):
    """softmax over the channels of (C, H, W) or (N, C, H, W)."""

    def forward(self, input):
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead")
        return F.softmax(input, -3, _stacklevel=5)
