"""Linear layers."""

from __future__ import annotations

import math

from tapegrad.nn import functional as F
from tapegrad.nn import init
from tapegrad.nn.modules.lazy import LazyModuleMixin
from tapegrad.nn.modules.module import Module
from tapegrad.nn.modules.weights import Projection, Weighted
from tapegrad.nn.parameter import UninitializedParameter


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


class LazyLinear(LazyModuleMixin, Linear):
    """A Linear whose in_features are the last dim of its first input."""

    cls_to_become = Linear

    def __init__(self, out_features, bias=True, device=None, dtype=None):
        super().__init__(0, 0, False)
        self.out_features = out_features
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self):
        """Draw the parameters anew, if they are known."""
        if not self.has_uninitialized_params() and self.in_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input):
        """Take in_features from the input, or from a weight that was loaded."""
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self._materialized(weight=(self.out_features, self.in_features), bias=(self.out_features,))
        if self.in_features == 0:
            if input.shape[-1] != self.weight.shape[-1]:
                raise AssertionError(
                    f"The in_features inferred from input: {input.shape[-1]} is not equal to in_features from self.weight: {self.weight.shape[-1]}"
                )
            self.in_features = input.shape[-1]


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
