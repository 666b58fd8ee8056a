"""Activation functions as `nn.functional` has them: one row per op.

`numbers` counts the trailing inputs that are Python numbers, such as a slope: they are no operands in the graph.  `function="nn"` gives the
compiled function to `nn.functional` (`install.NN`) instead of the package.
"""

from tapegrad import dispatch
from tapegrad.ops.checks import floats_only
from tapegrad.ops.public import method
from tapegrad.ops.registry import BY_NAME, Elementwise

XY = ("x", "y")
XYZ = ("x", "y", "z")


def activation(name, forward, *grads, kernel=None, inputs=("x",), kinds="F", cost=12, **others):
    """A record of this family: neither method nor function of the package."""
    grads = (*grads, *(None,) * (len(inputs) - len(grads)))
    others.setdefault("numbers", len(inputs) - 1)
    return Elementwise(name, inputs=inputs, forward=forward, grads=grads, kinds=kinds, kernel=kernel or "", cost=cost, method=False, function="nn", inplace=False,
                       check=floats_only(kernel or f"{name}_cpu") if "I" not in kinds else None, **others)


activation("leaky_relu", "where(x > 0, x, x * y)", "where(x > 0, g, g * y)", inputs=XY, steps="x", cost=6, domain=((-3, 3), (0.01, 0.5)))
activation("elu", "where(x <= 0, expm1(x) * y, x)", "where(x > 0, g, g * (y * exp(where(x >= 0, 0.0, x))))", inputs=XY, domain=((-3, 3), (0.5, 2)))
activation("celu", "where(x <= 0, expm1(x / y) * y, x)", "where(x > 0, g, g * exp(where(x >= 0, 0.0, x) / y))", inputs=XY,
           kernel="elu_cpu", domain=((-3, 3), (0.5, 2)))
activation("selu", "where(x <= 0, expm1(x) * 1.7580993408473766, x * 1.0507009873554805)",
           "where(x > 0, g * 1.0507009873554805, g * (1.7580993408473766 * exp(where(x >= 0, 0.0, x))))", kernel="elu_cpu", graph_name="Elu")
activation("gelu", "0.5 * x * erfc(-x * 0.7071067811865476)",
           "g * (0.5 * erfc(-x * 0.7071067811865476) + x * (exp(-0.5 * (x * x)) * 0.3989422804014327))", kernel="GeluKernelImpl", cost=40)
TANH = "tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x)))"
activation("gelu_tanh", f"0.5 * x * (1 + {TANH})",
           f"g * (0.5 * (1 + {TANH}) + 0.5 * x * (1 - {TANH} * {TANH}) * (0.7978845608028654 * (1 + 0.134145 * (x * x))))", kernel="GeluKernelImpl",
           graph_name="Gelu", cost=30)
activation("silu", "x * sigmoid(x)", "g * (sigmoid(x) * (1 + x * (1 - sigmoid(x))))", cost=20, kinds="FC")
activation("mish", "x * tanh(softplus(x))", "g * (tanh(softplus(x)) + x * sigmoid(x) * (1 - tanh(softplus(x)) * tanh(softplus(x))))", cost=40)
activation("hardswish", "x * where(x < -3, 0.0, where(x > 3, 6.0, x + 3)) / 6", "where(x <= -3, 0.0, where(x >= 3, g, g * (x / 3 + 0.5)))", cost=8)
activation("hardsigmoid", "where(x < -3, 0.0, where(x > 3, 6.0, x + 3)) / 6", "where((x > -3) & (x < 3), g / 6, 0.0)", cost=8)
activation("log_sigmoid", "where(x < 0, x, 0.0) - log1p(exp(-fabs(x)))", "g * sigmoid(-x)", cost=30)
activation("hardtanh", "where(x < y, y, where(x > z, z, x))", "where((x > y) & (x < z), g, 0.0)", inputs=XYZ, kinds="FI",
           forward_int="where(x < y, y, where(x > z, z, x))", steps="x", cost=6, domain=((-3, 3), (-1.5, -1), (1, 1.5)))
activation("threshold", "where(x <= y, z, x)", "where(x <= y, 0.0, g)", inputs=XYZ, kinds="FI", forward_int="where(x <= y, z, x)", steps="x", cost=6,
           domain=((-3, 3), (-1, 1), (-1, 1)))
activation("hardshrink", "where((x >= -y) & (x <= y), 0.0, x)", "where((x < -y) | (x > y), g, 0.0)", inputs=XY, steps="x", cost=6, domain=((-3, 3), (0.2, 1)))
activation("softshrink", "where(x > y, x - y, where(x < -y, x + y, where(x != x, x, 0.0)))", "where((x < -y) | (x > y), g, 0.0)", inputs=XY, steps="x", cost=6, kernel="softshrink_check",
           domain=((-3, 3), (0.2, 1)))
activation("prelu_kernel", "where(x > 0, x, x * y)", "where(x > 0, g, g * y)", "where(x > 0, 0.0, g * x)", inputs=XY, numbers=0, steps="x", cost=6)
activation("slope", "x", "g", "0", inputs=XY, numbers=0, cost=1, graph_name="ThresholdBackwardBackward0")  # see `Elementwise.steps`


@method()
def hardshrink(self, lambd=0.5):
    """x where |x| > lambd, 0 elsewhere."""
    return dispatch.call(BY_NAME["hardshrink"], self, lambd)
