"""Linear layers."""

from __future__ import annotations

import math

from tapegrad.nn import functional as F
from tapegrad.nn import init
from tapegrad.nn.modules.module import Module
from tapegrad.nn.modules.weights import Projection, Weighted


class Identity(Module):
    """The input as it is; arguments of the constructor are ignored."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        """The input."""
        return input


class Linear(Projection):
    """x W^T + b, x: (..., in_features).  Parameters are uniform on [-1 / sqrt(in_features), 1 / sqrt(in_features)) at first.

    >>> import tapegrad as tg
    >>> tg.nn.Linear(3, 2)(tg.ones(4, 3)).shape
    tapegrad.Size([4, 2])
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._give_parameters((out_features, in_features), (out_features,) if bias else None, device, dtype)

    def forward(self, input):
        """x W^T + b."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Weighted):
    """x1^T A x2 + b, x1: (..., in1_features), x2: (..., in2_features)."""

    def __init__(self, in1_features, in2_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self._give_parameters((out_features, in1_features, in2_features), (out_features,) if bias else None, device, dtype)

    def reset_parameters(self):
        """Draw the parameters anew."""
        if self.in1_features <= 0:
            raise ValueError(f"in1_features must be > 0, but got (in1_features={self.in1_features})")
        bound = 1 / math.sqrt(self.weight.shape[1])
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1, input2):
        """x1^T A x2 + b."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self):
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )
