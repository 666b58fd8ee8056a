"""What layers with a weight and a bias share: how they get them and which values they start with."""

from __future__ import annotations

import math

from tapegrad import creation
from tapegrad.nn import init
from tapegrad.nn.modules.module import Module
from tapegrad.nn.parameter import Parameter


def new_parameter(*shape, device=None, dtype=None):
    """An uninitialised parameter."""
    return Parameter(creation.empty(shape, device=device, dtype=dtype))


class Weighted(Module):
    """A layer with a weight and, if wanted, a bias; both are registered in any case, so that code can ask for them."""

    def _give_parameters(self, weight, bias, device, dtype):
        """The parameters of these shapes (None: the layer has none), with their first values."""
        for name, shape in (("weight", weight), ("bias", bias)):
            self.register_parameter(name, None if shape is None else new_parameter(*shape, device=device, dtype=dtype))
        self.reset_parameters()


class Projection(Weighted):
    """A layer whose outputs are sums over `fan_in` products: uniform on [-1 / sqrt(fan_in), 1 / sqrt(fan_in)) at first."""

    def reset_parameters(self):
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)


class Affine(Weighted):
    """A layer that multiplies by the weight and adds the bias: 1 and 0 at first."""

    def reset_parameters(self):
        """Weight 1 and bias 0 again."""
        if self.weight is not None:
            init.ones_(self.weight)
        if getattr(self, "bias", None) is not None:
            init.zeros_(self.bias)
