"""Powers, exponentials, logarithms, trigonometric, hyperbolic and error functions: one row per op."""

from tapegrad.ops.checks import floats_only, no_bool_relu
from tapegrad.ops.registry import Elementwise

XY = ("x", "y")
XYZ = ("x", "y", "z")

Elementwise("sqrt", forward="sqrt(x)", grads=("g / (2 * out)",), domain=((0.1, 4),), cost=20, kinds="FC")
Elementwise("rsqrt", forward="1 / sqrt(x)", grads=("-0.5 * g * (out * out * out)",), domain=((0.1, 4),), cost=30, kinds="FC")
Elementwise("exp", forward="exp(x)", grads=("g * out",), cost=12, kinds="FC")
Elementwise("exp2", forward="exp2(x)", grads=("g * out * ln2",), cost=12, kinds="FC", aliases=("special.exp2",))
Elementwise("expm1", forward="expm1(x)", grads=("g * (out + 1)",), cost=16, kinds="FC", aliases=("special.expm1",))
Elementwise("log", forward="log(x)", grads=("g / x",), domain=((0.1, 5),), cost=14, kinds="FC")
Elementwise("log2", forward="log2(x)", grads=("g / (x * ln2)",), domain=((0.1, 5),), cost=14, kinds="FC")
Elementwise("log10", forward="log10(x)", grads=("g / (x * ln10)",), domain=((0.1, 5),), cost=14, kinds="FC")
Elementwise("log1p", graph_name="Log1P", forward="log1p(x)", grads=("g / (x + 1)",), domain=((-0.9, 5),), cost=18, kinds="FC", aliases=("special.log1p",))
Elementwise("sin", forward="sin(x)", grads=("g * cos(x)",), cost=16, kinds="FC")
Elementwise("cos", forward="cos(x)", grads=("g * -sin(x)",), cost=16, kinds="FC")
Elementwise("tan", forward="tan(x)", grads=("g * (1 + out * out)",), domain=((-1.2, 1.2),), cost=30, kinds="FC")
Elementwise("asin", forward="asin(x)", grads=("g / sqrt(1 - x * x)",), domain=((-0.9, 0.9),), aliases=("arcsin",), cost=30, kinds="FC")
Elementwise("acos", forward="acos(x)", grads=("-g / sqrt(1 - x * x)",), domain=((-0.9, 0.9),), aliases=("arccos",), cost=30, kinds="FC")
Elementwise("atan", forward="atan(x)", grads=("g / (x * x + 1)",), aliases=("arctan",), cost=30, kinds="FC")
Elementwise("atan2", inputs=XY, scalars="", forward="atan2(x, y)", aliases=("arctan2",), cost=40,
            grads=("where((x == 0) & (y == 0), 0.0, g * (y / (x * x + y * y)))", "where((x == 0) & (y == 0), 0.0, g * (-x / (x * x + y * y)))"))
Elementwise("sinh", forward="sinh(x)", grads=("g * cosh(x)",), cost=24, kinds="FC")
Elementwise("cosh", forward="cosh(x)", grads=("g * sinh(x)",), cost=24, kinds="FC")
Elementwise("tanh", forward="tanh(x)", grads=("g * (1 - out * out)",), cost=18, kinds="FC")
Elementwise("asinh", forward="asinh(x)", grads=("g / sqrt(x * x + 1)",), aliases=("arcsinh",), cost=40, kinds="FC")
Elementwise("acosh", forward="acosh(x)", grads=("g / sqrt(x * x - 1)",), domain=((1.2, 5),), aliases=("arccosh",), cost=40, kinds="FC",
            grads_complex=("g / (sqrt(x + 1) * sqrt(x - 1))",))
Elementwise("atanh", forward="atanh(x)", grads=("g / (1 - x * x)",), domain=((-0.9, 0.9),), aliases=("arctanh",), cost=40, kinds="FC")
Elementwise("sigmoid", forward="sigmoid(x)", grads=("g * (1 - out) * out",), aliases=("special.expit",), cost=18, kinds="FC")
Elementwise("relu", check=no_bool_relu, forward="where(x < 0, 0.0, x)", forward_int="where(x < 0, 0, x)", kinds="FI", grads=("where(out <= 0, 0.0, g)",), steps="out", cost=4,
            refusal=NotImplementedError("clamp is not supported for complex types"))
Elementwise("erf", forward="erf(x)", grads=("g * (2 / sqrt(pi) * exp(-(x * x)))",), aliases=("special.erf",), cost=32,
            kernel="erf_vml_cpu")
Elementwise("erfc", forward="erfc(x)", grads=("g * (-2 / sqrt(pi) * exp(-(x * x)))",), aliases=("special.erfc",), cost=40,
            kernel="erfc_vml_cpu")
Elementwise("logaddexp", check=floats_only("logaddexp_cpu"), inputs=XY, scalars="", inplace=False, cost=40,
            forward="where(x == y, x + ln2, where(x > y, x, y) + log1p(exp(-fabs(x - y))))",
            grads=("g * sigmoid(x - y)", "g * sigmoid(y - x)"), kinds="FC",
            forward_complex="log_add_exp(x, y)")
Elementwise("hypot", check=floats_only("hypot_cpu"), inputs=XY, scalars="", cost=20, grads=("g * (x / out)", "g * (y / out)"),
            forward="where((fabs(x) == inf) | (fabs(y) == inf), inf, where(fabs(x) > fabs(y), fabs(x) * sqrt(1 + (y / x) * (y / x)), where(y == 0, fabs(x), fabs(y) * sqrt(1 + (x / y) * (x / y)))))")
Elementwise("xlogy", inputs=XY, forward="where(y != y, y, where(x == 0, 0.0, x * log(y)))", cost=20, aliases=("special.xlogy",), number_names={"x": "XlogyBackward1", "y": "XlogyBackward2"},
            grads=("g * where((x == 0) & (y <= 0), 0.0, log(y))", "g * (x / y)"), domain=((-3, 3), (0.2, 3)))
Elementwise("lerp", inputs=XYZ, forward="where(fabs(z) < 0.5, x + z * (y - x), y - (y - x) * (1 - z))", function=False, method=False, inplace=False,
            grads=("g * (1 - z)", "g * z", "g * (y - x)"), parameters=("input", "end", "weight"), kinds="FC", graph_name="LerpBackward1", number_names={"z": "LerpBackward0"},
            forward_complex="where(re(z) * re(z) + im(z) * im(z) < 0.25, x + z * (y - x), y - (y - x) * (1 - z))")
Elementwise("copysign", inputs=XY, scalars="y", forward="copysign(x, y)", cost=8, number_names={"y": "CopysignBackward1"},
            grads=("where(x == 0, 0.0, g * (out / x))", "0"))
Elementwise("softplus_scaled", graph_name="Softplus", inputs=XYZ, function=False, method=False, inplace=False, cost=30,
            forward="where(x * y > z, x, softplus(x * y) / y)",
            grads=("where(x * y > z, g, g * sigmoid(x * y))", None, None), domain=((-3, 3), (1, 2), (20, 20)), numbers=2, check=floats_only("softplus_cpu"), kernel="softplus_cpu")
Elementwise("logit", forward="log(x / (1 - x))", grads=("where((x < 0) | (x > 1), nan, g / (x * (1 - x)))",), domain=((0.1, 0.9),), cost=20,
            function=False, method=False)
Elementwise("sinc", forward="where(x == 0, 1.0, sin(pi * x) / (pi * x))", cost=30, aliases=("special.sinc",),
            grads=("where(x == 0, 0.0, g * ((pi * x * cos(pi * x) - sin(pi * x)) / (pi * x * x)))",), domain=((0.2, 2),), kinds="FC")
Elementwise("logaddexp2", check=floats_only("logaddexp2_cpu"), inputs=XY, scalars="", inplace=False, cost=40,
            forward="where((x == y) & (fabs(x) == inf), x, where(x > y, x, y) + log1p(exp2(-fabs(x - y))) * (1 / ln2))",
            grads=("g * sigmoid((x - y) * ln2)", "g * sigmoid((y - x) * ln2)"))
