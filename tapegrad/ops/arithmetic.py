"""Arithmetic, comparison, logic, bits, conversions and complex numbers: one row per op."""

from dataclasses import replace

from tapegrad import dtypes
from tapegrad.ops import checks
from tapegrad.ops.registry import UNKNOWN, UNRECORDED, Elementwise

XY = ("x", "y")
XYZ = ("x", "y", "z")

# --- arithmetic -----------------------------------------------------------------------------------------------------
Elementwise("add", inputs=XY, forward="x + y", forward_bool="x | y", grads=("g", "g"), kinds="FIBC", cost=6,
            operators=("__add__", "__radd__", "__iadd__"), keywords=("alpha",))
Elementwise("sub", inputs=XY, forward="x - y", grads=("g", "-g"), kinds="FIC", cost=6, check=checks.no_bool_sub, number_names={"x": "RsubBackward1"},
            operators=("__sub__", "__rsub__", "__isub__"), aliases=("subtract",), keywords=("alpha",))
# With alpha= a number: dispatch chooses them, the graph shows Add and Sub.
Elementwise("add_scaled", public="add", graph_name="Add", inputs=XYZ, forward="x + y * z", grads=("g", "g * z", "g * y"), kinds="FIC", cost=6,
            function=False, method=False, inplace=False)
Elementwise("sub_scaled", public="sub", graph_name="Sub", inputs=XYZ, forward="x - y * z", grads=("g", "-(g * z)", "-(g * y)"), kinds="FIC", cost=6,
            function=False, method=False, inplace=False)
Elementwise("mul", inputs=XY, forward="x * y", forward_bool="x & y", grads=("g * y", "g * x"), kinds="FIBC", cost=6,
            operators=("__mul__", "__rmul__", "__imul__"), aliases=("multiply",), unrounded=True)
Elementwise("div", inputs=XY, forward="x / y", grads=("g / y", "-g * ((x / y) / y)"), cost=10,
            operators=("__truediv__", "__rtruediv__", "__itruediv__"), aliases=("divide", "true_divide"), domain=((-3, 3), (0.5, 3)), kinds="FC",
            number_names={"x": "MulBackward0"}, keywords=("rounding_mode",), unrounded=True)
Elementwise("floor_divide", no_bools=True, inputs=XY, forward="floor_divide(x, y)", forward_int="floor_divide(x, y)", grads=(UNKNOWN, UNKNOWN), kinds="FI",
            operators=("__floordiv__", "__rfloordiv__", "__ifloordiv__"), check=checks.nonzero_divisor, domain=((-9, 9), (1, 4)), cost=20,
            kernel="div_floor_cpu", unrounded=True, written_by="floor_divide_written")
Elementwise("floor_divide_written", no_bools=True, inputs=XY, forward="floor_divide(x, y)", grads=(UNKNOWN, UNKNOWN), function=False, method=False,
            inplace=False, domain=((-9, 9), (1, 4)), cost=20, kernel="div_floor_cpu")  # in place over what requires grad
Elementwise("round_divide", public="div", inputs=XY, forward="floor_divide(x, y)", forward_int="floor_divide(x, y)", grads=("0", "0"), kinds="FI",
            method=False, function=False, inplace=False, graph_name="DivBackward2", check=checks.nonzero_divisor, domain=((-9, 9), (1, 4)), cost=20,
            kernel="div_floor_cpu")
Elementwise("trunc_divide", public="div", inputs=XY, forward="trunc(x / y)", forward_int="trunc_divide(x, y)", grads=("0", "0"), kinds="FI", method=False,
            function=False, inplace=False, graph_name="DivBackward2", check=checks.nonzero_divisor, domain=((-9, 9), (1, 4)), cost=20,
            kernel="div_trunc_cpu")
Elementwise("remainder", no_bools=True, inputs=XY, forward="remainder(x, y)", forward_int="remainder(x, y)", grads=("g", "-g * floor(x / y)"), kinds="FI",
            operators=("__mod__", "__rmod__", "__imod__"), graph_name="RemainderBackward1", number_names={"y": "RemainderBackward0"}, check=checks.nonzero_divisor, domain=((-9, 9), (1, 4)), cost=60)
Elementwise("fmod", no_bools=True, inputs=XY, scalars="y", forward="fmod(x, y)", forward_int="fmod(x, y)", grads=("g", "-g * trunc(x / y)"), kinds="FI",
            graph_name="FmodBackward1", number_names={"y": "FmodBackward0"}, check=checks.nonzero_divisor, domain=((-9, 9), (1, 4)), cost=60)
Elementwise("pow", inputs=XY, forward="pow(x, y)", forward_int="integer_power(x, y)", kinds="FIC", cost=60, scalars="y",
            graph_name="PowBackward1", number_names={"x": "PowBackward2", "y": "PowBackward0"},
            grads=("where(y == 0, 0.0, g * (y * pow(x, y - 1)))", "g * where((x == 0) & (y >= 0), 0.0, out * log(x))"),
            operators=("__pow__", "__rpow__", "__ipow__"), domain=((0.2, 3), (-2, 2)), check=checks.powers,
            grads_complex=("where(y == 0, 0.0, g * (y * pow(x, y - 1)))", "g * where((x == 0) & (re(y) >= 0) & (im(y) == 0), 0.0, out * log(x))"))
# Powers with a Python number for exponent that need no pow: dispatch chooses them, the graph shows Pow.
for name, exponent, forward, grad in (
    ("pow_0", 0, "where(x == x, 1.0, 1.0)", "g * 0"),
    ("pow_1", 1, "x", "g"),
    ("pow_2", 2, "x * x", "g * (2 * x)"),
    ("pow_3", 3, "x * x * x", "g * (3 * (x * x))"),
    ("pow_half", 0.5, "sqrt(x)", "g * (0.5 / sqrt(x))"),
    ("pow_minus_1", -1, "1 / x", "g * -(1 / (x * x))"),
    ("pow_minus_2", -2, "1 / (x * x)", "g * (-2 / (x * x * x))"),
    ("pow_minus_half", -0.5, "1 / sqrt(x)", "g * (-0.5 / (x * sqrt(x)))"),
):
    whole = exponent in (0, 1)  # of bools, too
    Elementwise(name, public="pow", exponent=exponent, graph_name="Pow", kinds="FCB" if whole else "FC", promote="same" if whole else "float", forward=forward,
                grads=(grad,), forward_bool="x == x" if exponent == 0 else "", function=False, method=False, domain=((0.3, 3),))
Elementwise("neg", forward="-x", grads=("-g",), kinds="FIC", check=checks.no_bool_neg, operators=("__neg__",), aliases=("negative",), cost=4)
Elementwise("abs", no_bools=True, forward="fabs(x)", forward_int="where(x < 0, -x, x)", grads=("g * sign(x)",), kinds="FI", aliases=("absolute",),
            operators=("__abs__",), cost=4, complex_form="modulus")
Elementwise("sign", forward="sign(x)", forward_int="where(x > 0, 1, where(x < 0, -1, 0))", forward_bool="x", grads=("0",), kinds="FIB",
            refusal=NotImplementedError("Unlike NumPy, tapegrad.sign is not intended to support complex numbers. Please use tapegrad.sgn instead."))
Elementwise("sgn", forward="sign(x)", forward_int="where(x > 0, 1, where(x < 0, -1, 0))", forward_bool="x", grads=("0",), kinds="FIBC",
            forward_complex="sgn(x)", grads_complex=("where(x == 0, 0.0, (g - re(g * out) * conj(out)) / modulus(x))",))
Elementwise("square", exponent=2, graph_name="Pow", forward="x * x", grads=("g * (2 * x)",), kinds="FIC", cost=4)
Elementwise("reciprocal", forward="1 / x", grads=("-g * (out * out)",), domain=((0.5, 3),), cost=10, kinds="FC")
Elementwise("floor", no_bools=True, kernel="floor_vml_cpu", forward="floor(x)", forward_int="x", grads=("0",), kinds="FI",
            refusal=NotImplementedError("floor is not supported for complex inputs"))
Elementwise("ceil", no_bools=True, kernel="ceil_vml_cpu", forward="ceil(x)", forward_int="x", grads=("0",), kinds="FI",
            refusal=NotImplementedError("ceil is not supported for complex inputs"))
Elementwise("trunc", no_bools=True, kernel="trunc_vml_cpu", forward="trunc(x)", forward_int="x", grads=("0",), kinds="FI", aliases=("fix",),
            refusal=NotImplementedError("trunc is not supported for complex inputs"))
Elementwise("round", forward="nearest(x)", forward_int="x", grads=("0",), kinds="FI", method=False, function=False,
            kernel="round_vml_cpu")
Elementwise("round_decimals", graph_name="RoundBackward1", forward="x", forward_int="x", grads=("0",), kinds="FI", method=False, function=False, inplace=False,
            doc="`round` to a number of decimals: what the graph shows.")
Elementwise("addcmul", inputs=XYZ, forward="x + y * z", grads=("g", "g * z", "g * y"), kinds="FIC", cost=6, function=False, method=False, inplace=False)
Elementwise("addcdiv", inputs=XYZ, forward="x + y / z", grads=("g", "g / z", "-g * ((y / z) / z)"), kinds="FC", cost=12, function=False, method=False, inplace=False,
            domain=((-3, 3), (-3, 3), (0.5, 3)))
Elementwise("frac", forward="x - trunc(x)", grads=("g",), check=checks.floats_only("frac_cpu"))
Elementwise("deg2rad", graph_name="Deg2Rad", forward="x * (pi / 180)", grads=("g * (pi / 180)",),
            refusal=RuntimeError("deg2rad is not supported for complex tensors."))
Elementwise("rad2deg", graph_name="Rad2Deg", forward="x * (180 / pi)", grads=("g * (180 / pi)",),
            refusal=RuntimeError("rad2deg is not supported for complex tensors."))

# --- choosing -------------------------------------------------------------------------------------------------------
Elementwise("maximum", inputs=XY, scalars="", kinds="FIB", forward="where(x != x, x, where(y != y, y, where(x > y, x, y)))",
            forward_int="where(x > y, x, y)", forward_bool="x | y", inplace=False,
            grads=("where(x == y, g / 2, where(x < y, 0.0, g))", "where(x == y, g / 2, where(x > y, 0.0, g))"),
            refusal=RuntimeError("maximum not implemented for complex tensors."))
Elementwise("minimum", inputs=XY, scalars="", kinds="FIB", forward="where(x != x, x, where(y != y, y, where(x < y, x, y)))",
            forward_int="where(x < y, x, y)", forward_bool="x & y", inplace=False,
            grads=("where(x == y, g / 2, where(x > y, 0.0, g))", "where(x == y, g / 2, where(x < y, 0.0, g))"),
            refusal=RuntimeError("minimum not implemented for complex tensors."))
Elementwise("fmax", inputs=XY, scalars="", kinds="FIB", forward="where(x != x, y, where(y != y, x, where(x >= y, x, y)))",
            forward_int="where(x > y, x, y)", forward_bool="x | y", inplace=False,
            grads=("where((x >= y) | (y != y), g, 0.0)", "where((x >= y) | (y != y), 0.0, g)"),
            refusal=RuntimeError("fmax not implemented for complex tensors."))
Elementwise("fmin", inputs=XY, scalars="", kinds="FIB", forward="where(x != x, y, where(y != y, x, where(x <= y, x, y)))",
            forward_int="where(x < y, x, y)", forward_bool="x & y", inplace=False,
            grads=("where((x <= y) | (y != y), g, 0.0)", "where((x <= y) | (y != y), 0.0, g)"),
            refusal=RuntimeError("fmin not implemented for complex tensors."))
low = Elementwise("clamp_min", inputs=XY, scalars="y", kinds="FIB", forward_bool="x | y", forward="where(x != x, x, where(y != y, y, where(x < y, y, x)))",
                  forward_int="where(x < y, y, x)", grads=("where(x >= y, g, 0.0)", "where(x < y, g, 0.0)"), parameters=("input", "min"),
                  graph_name="ClampMinBackward1", number_names={"y": "ClampMinBackward0"}, kernel="maximum_cpu", check=checks.bound("clamp_min_scalar_cpu"), in_range=True)
high = Elementwise("clamp_max", inputs=XY, scalars="y", kinds="FIB", forward_bool="x & y", forward="where(x != x, x, where(y != y, y, where(x > y, y, x)))",
                   forward_int="where(x > y, y, x)", grads=("where(x <= y, g, 0.0)", "where(x > y, g, 0.0)"), parameters=("input", "max"),
                   graph_name="ClampMaxBackward1", number_names={"y": "ClampMaxBackward0"}, kernel="minimum_cpu", check=checks.bound("clamp_max_scalar_cpu"), in_range=True)
for name, bound in (("clamp_below", low), ("clamp_above", high)):  # the same as `clamp` with one bound
    replace(bound, name=name, graph_name="Clamp", number_names={"y": "ClampBackward1"}, function=False, method=False, inplace=False)
Elementwise("clamp_both", graph_name="Clamp", number_names={"y": "ClampBackward1"}, inputs=XYZ, kinds="FI", method=False, function=False, inplace=False,
            forward="where(x != x, x, where(y != y, y, where(z != z, z, where(where(x < y, y, x) > z, z, where(x < y, y, x)))))",
            forward_int="where(where(x < y, y, x) > z, z, where(x < y, y, x))",
            grads=("where((x >= y) & (x <= z), g, 0.0)", "where((x < y) & (y < z), g, 0.0)", "where((x > z) | (y > z), g, 0.0)"),
            domain=((-3, 3), (-1, -0.5), (0.5, 1)),
            refusal=NotImplementedError("clamp is not supported for complex types"))
Elementwise("where", inputs=("c", "x", "y"), kinds="FIBC", forward="where(c, x, y)", mask=True, function=False, method=False, inplace=False,
            grads=(None, "where(c, g, 0.0)", "where(c, 0.0, g)"), parameters=("condition", "input", "other"))
Elementwise("masked_fill", inputs=("c", "x", "y"), kinds="FIBC", forward="where(c, y, x)", mask=True, function=False, method=False,
            inplace=False, grads=(None, "where(c, 0.0, g)", "where(c, g, 0.0)"), parameters=("mask", "input", "value"), graph_name="MaskedFillBackward1",
            number_names={"y": "MaskedFillBackward0"})

Elementwise("heaviside", inputs=XY, scalars="", kinds="FIB", forward="where(x == 0, y, where(x > 0, 1.0, 0.0))", forward_int="where(x == 0, y, where(x > 0, 1, 0))",
            forward_bool="x | y", grads=(UNKNOWN, UNKNOWN), check=checks.same_dtypes)

# --- comparison -----------------------------------------------------------------------------------------------------
for name, sign, operator, alias in (("eq", "==", "__eq__", ()), ("ne", "!=", "__ne__", ("not_equal",)), ("lt", "<", "__lt__", ("less",)),
                                    ("le", "<=", "__le__", ("less_equal",)), ("gt", ">", "__gt__", ("greater",)),
                                    ("ge", ">=", "__ge__", ("greater_equal",))):
    Elementwise(name, inputs=XY, scalars="y", forward=f"x {sign} y", kinds="FIBC" if name in ("eq", "ne") else "FIB", result="bool", grads=(None, None),
                operators=(operator,), aliases=alias, written_by=name + "_written", cost=4)
    # What `eq_` and its kind write over a tensor that requires grad, which goes on doing so.
    Elementwise(name + "_written", inputs=XY, scalars="y", forward=f"where(x {sign} y, 1.0, 0.0)", grads=("0", "0"), function=False, method=False, inplace=False,
                graph_name=name.title() + "Backward1", number_names={"y": name.title() + "Backward0"}, cost=4)
Elementwise("isnan", forward="x != x", kinds="FIBC", result="bool", grads=(None,), inplace=False)
Elementwise("isinf", forward="fabs(x) == inf", forward_int="x != x", forward_bool="x != x", kinds="FIBC", result="bool", grads=(None,), inplace=False,
            forward_complex="(fabs(re(x)) == inf) | (fabs(im(x)) == inf)")
Elementwise("isposinf", bool_out=True, forward="x == inf", forward_int="x != x", forward_bool="x != x", kinds="FIB", result="bool", grads=(None,), inplace=False,
            refusal=RuntimeError("isposinf does not support complex inputs."))
Elementwise("isneginf", bool_out=True, forward="x == -inf", forward_int="x != x", forward_bool="x != x", kinds="FIB", result="bool", grads=(None,), inplace=False,
            refusal=RuntimeError("isneginf does not support complex inputs."))
Elementwise("isfinite", forward="fabs(x) < inf", forward_int="x == x", forward_bool="x == x", kinds="FIBC", result="bool", grads=(None,),
            inplace=False, forward_complex="(fabs(re(x)) < inf) & (fabs(im(x)) < inf)")
Elementwise("signbit", bool_out=True, forward="copysign(1.0, x) < 0", forward_int="x < 0", forward_bool="x != x", kinds="FIB", result="bool", grads=(None,),
            inplace=False,
            refusal=NotImplementedError("signbit is not implemented for complex tensors."))

# --- logic and bits -------------------------------------------------------------------------------------------------
Elementwise("logical_and", inputs=XY, scalars="", written_by=UNRECORDED, forward="(x != 0) & (y != 0)", kinds="FIBC", result="bool", grads=(None, None))
Elementwise("logical_or", inputs=XY, scalars="", written_by=UNRECORDED, forward="(x != 0) | (y != 0)", kinds="FIBC", result="bool", grads=(None, None))
Elementwise("logical_xor", inputs=XY, scalars="", written_by=UNRECORDED, forward="(x != 0) ^ (y != 0)", kinds="FIBC", result="bool", grads=(None, None))
Elementwise("logical_not", written_by=UNRECORDED, forward="x == 0", kinds="FIBC", result="bool", grads=(None,))
Elementwise("bitwise_and", inputs=XY, forward="x & y", kinds="IB", grads=(None, None), operators=("__and__", "__rand__", "__iand__"),
            promote="same")
Elementwise("bitwise_or", inputs=XY, forward="x | y", kinds="IB", grads=(None, None), operators=("__or__", "__ror__", "__ior__"),
            promote="same")
Elementwise("bitwise_xor", inputs=XY, forward="x ^ y", kinds="IB", grads=(None, None), operators=("__xor__", "__rxor__", "__ixor__"),
            promote="same")
Elementwise("bitwise_not", forward="~x", forward_bool="x == 0", kinds="IB", grads=(None,), operators=("__invert__",),
            promote="same")
Elementwise("bitwise_left_shift", no_bools=True, inputs=XY, forward="shift_left(x, y)", kinds="I", grads=(None, None), kernel="lshift_cpu", promote="same",
            operators=("__lshift__", "__rlshift__", "__ilshift__"), domain=((0, 9), (0, 3)))
Elementwise("bitwise_right_shift", no_bools=True, inputs=XY, forward="shift_right(x, y)", kinds="I", grads=(None, None), kernel="rshift_cpu", promote="same",
            operators=("__rshift__", "__rrshift__", "__irshift__"), domain=((0, 9), (0, 3)))

# --- conversion: one op per target dtype, in the order of the dtype codes -------------------------------------------
for d in dtypes.BY_CODE:
    Elementwise(f"to_{d.name}", graph_name="ToCopy", forward="x", kinds="FIBC", result=d.name, grads=("g" if d.differentiable else None,), method=False,
                forward_complex="x" if d.is_complex else "x != 0" if d.name == "bool" else "re(x)", function=False, inplace=False, cost=4)

# --- complex numbers ------------------------------------------------------------------------------------------------
Elementwise("modulus", graph_name="Abs", kinds="C", forward="modulus(x)", grads=("g * conj(sgn(x))",), result="real", method=False, function=False)
Elementwise("argument", graph_name="Angle", kinds="C", forward="argument(x)", grads=("where(x == 0, 0.0, g * 1j / x)",), result="real",
            method=False, function=False)
Elementwise("angle", kinds="F", forward="where(x != x, x, where(x < 0, pi, 0.0))", grads=("0",), inplace=False, complex_form="argument")
for name, graph_name in (("conj_op", "Conj"), ("conj_physical_op", "ConjPhysical")):
    Elementwise(name, graph_name=graph_name, kinds="C", forward="conj(x)", grads=("conj(g)",), method=False, function=False)
Elementwise("carried_out_op", graph_name="Clone", doc="A postponed conjugation or negation done.  The graph does not show it (`Node.next_functions`).",
            forward="x", kinds="FIBC", promote="same", grads=("g",), method=False, function=False, inplace=False, cost=4)
Elementwise("complex", inputs=XY, forward="pack(x, y)", grads=("re(g)", "im(g)"), result="complex", method=False, inplace=False,
            check=checks.parts, parameters=("real", "imag"))
Elementwise("polar", inputs=XY, forward="pack(x * cos(y), x * sin(y))", grads=("re(g * sgn(out))", "re(g * out * -1j)"), result="complex",
            method=False, inplace=False, check=checks.parts, parameters=("abs", "angle"))
