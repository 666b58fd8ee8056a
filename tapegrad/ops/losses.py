"""Losses that compare element by element, reduced in the same kernel.

A `PointwiseLoss` is a row like an elementwise op: the loss of one element and its derivatives.  From it follow an elementwise op
(reduction "none") and an op that sums or averages in one kernel, with the derivative in another.
"""

from __future__ import annotations

import types

from tapegrad import core, dispatch, geometry, kernels, modes
from tapegrad.autograd.node import record
from tapegrad.engine.layout import SWEEP_APPLY
from tapegrad.ops import formulas, loops
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import floats_only
from tapegrad.ops.postponed import carried_out
from tapegrad.ops.registry import Elementwise, Structural
from tapegrad.ops.transformable import ACTIVE, level_of, plain

VALUE = """
def kernel(args, start, stop):
    result = load_i64(args)
    at_x = load_i64(args + 8)
    at_y = load_i64(args + 16)
    n = load_i64(load_i64(args + 24))
    total = wide(0)
    for i in range(n):
        x = get_{dtype}(at_x, i)
        y = get_{dtype}(at_y, i)
        total = total + ({formula})
    put_{dtype}(result, 0, {finish})
{refuse}"""
DERIVATIVE = """
def kernel(args, start, stop):
    result = load_i64(args)
    g = get_{dtype}(load_i64(args + 8), 0)
    at_x = load_i64(args + 16)
    at_y = load_i64(args + 24)
    n = load_i64(load_i64(args + 32))
    {scale}
    for i in range(start, stop):
        x = get_{dtype}(at_x, i)
        y = get_{dtype}(at_y, i)
        put_{dtype}(result, i, {formula})
"""
REFUSE = """
    for i in range(n):
        x = get_{dtype}(at_x, i)
        if not ({within}):
            store_i64(load_i64(args + 24) - 8, 1)
"""
IN_ONE_KERNEL = 1 << 17  # elements up to which one thread's kernel beats an elementwise pass and a shared reduction


class PointwiseLoss:
    """`loss(x, y, reduction, *numbers)`: the record of a pointwise loss, callable.  forward and grads are formulas of x, y (and z, a number).

    `within`: (low, high, the words of the error if an element of x is not between them).
    """

    def __init__(self, name, graph_name, forward, grads, numbers=0, kernel=None, domain=(), doc="", within=None):
        self.within = within
        inputs = ("x", "y", "z")[: 2 + numbers]
        self.elementwise = Elementwise(name, graph_name, doc, inputs=inputs, forward=forward, grads=(*grads, *(None,) * numbers), numbers=numbers,
                                       method=False, function="nn", inplace=False, check=floats_only(kernel or f"{name}_cpu"), kernel=kernel or "", cost=20,
                                       domain=domain, parameters=("input", "target", "beta")[: 2 + numbers])
        self.reduced = Structural(name + "_reduced", graph_name, doc, derivative=self.derivative)

    def __call__(self, x, y, reduction, *numbers):
        if reduction == "none":
            self.check(x)
            return dispatch.call(self.elementwise, x, y, *numbers)
        if ACTIVE and level_of((x, y)) is not None:
            self.check(x)
            each = dispatch.call(self.elementwise, x, y, *numbers)
            return each.mean() if reduction == "mean" else each.sum()
        x, y = carried_out(x), carried_out(y)
        s, t = plans.settled(x), plans.settled(y)
        g, d = core.get_field(s, core.GEOMETRY), x.dtype
        if (
            core.get_field(t, core.GEOMETRY) == g and y.dtype is d and d.name in ("float32", "float64") and geometry.is_contiguous(g)
            and 0 < geometry.numels[g] <= IN_ONE_KERNEL
        ):
            return plans.run(self.reduced, [x, y], (reduction, *numbers), lambda: self.plan(g, d, reduction, numbers), lambda: self.check(x))
        self.check(x)
        with modes.no_grad():
            each = dispatch.call(self.elementwise, x.detach(), y.detach(), *numbers)
            out = (each.mean() if reduction == "mean" else each.sum()).detach()
        record(self.reduced, [x, y], [out], plans.Parameters(self.reduced, reduction=reduction, numbers=numbers, count=each.numel()), 0b11)
        return out

    def check(self, x) -> None:
        """Refuse elements out of bounds; the kernel of a plan finds them itself."""
        if self.within is not None:
            low, high, error = self.within
            values = plain(x).detach()._values()
            if not ((values >= low) & (values <= high)).all():
                raise RuntimeError(error)

    def text(self, which, d, numbers) -> str:
        text = kernels.expression(self.elementwise, d, which)
        for name, value in zip(("z",), numbers):
            text = text.replace(name, f"real({float(value)!r})") if name in kernels.names_in_source(text) else text
        return text

    def plan(self, g, d, reduction, numbers):
        n = geometry.numels[g]
        mean = reduction == "mean"
        refuse = ""
        if self.within is not None:
            refuse = REFUSE.format(dtype=d.name, within="x >= {} and x <= {}".format(*self.within))
        value = VALUE.format(dtype=d.name, formula=self.text(0, d, numbers), finish="total / n" if mean else "total", refuse=refuse)
        rules = []
        for k in (1, 2):
            text = DERIVATIVE.format(dtype=d.name, formula=self.text(k, d, numbers), scale="g = g * real(1.0 / n)" if mean else "")
            back = plans.Plan(self.reduced, [(g, d.code)], kernel=loops.compiled(text, d, d), n=n, cost=n * 2, args=(n,), operands=(1, 2, 3))
            rules.append((SWEEP_APPLY, back))
        return plans.Plan(self.reduced, [(geometry.geometry(()), d.code)], kernel=loops.compiled(value, d, d, True), n=1, args=(n,), saves=0b11,
                          rules=rules, reduction=reduction, numbers=numbers, count=n)

    def derivative(self, node, g):
        """The elementwise derivative, with the gradient of the sum or mean for every element."""
        a = node.attributes
        x, y = node.inputs
        g = g / a.count if a.reduction == "mean" else g
        shape = geometry.broadcast_shapes(tuple(x.shape), tuple(y.shape))
        constants = [dispatch.number_slot(v, x.dtype) for v in a.numbers]
        return formulas.derivative(self.elementwise, types.SimpleNamespace(inputs=[x, y, *constants], outputs=None), g.expand(shape))[:2]


mse_loss = PointwiseLoss("mse_loss", "MseLoss", "(x - y) * (x - y)", ("g * (2 * (x - y))", "g * (2 * (y - x))"), kernel="mse_cpu",
                         doc="(x - y)^2.")
smooth_l1_loss = PointwiseLoss(
    "smooth_l1_loss", "SmoothL1Loss", "where(fabs(x - y) < z, 0.5 * (x - y) * (x - y) / z, fabs(x - y) - 0.5 * z)",
    ("g * where(fabs(x - y) >= z, sign(x - y), (x - y) / z)", "g * where(fabs(x - y) >= z, sign(y - x), (y - x) / z)"), 1, "smooth_l1_cpu",
    ((-3, 3), (-3, 3), (0.5, 1.5)), "(x - y)^2 / (2 beta) near 0, |x - y| - beta / 2 beyond.")
huber_loss = PointwiseLoss(
    "huber_loss", "HuberLoss", "where(fabs(x - y) <= z, 0.5 * (x - y) * (x - y), z * (fabs(x - y) - 0.5 * z))",
    ("g * where(fabs(x - y) >= z, z * sign(x - y), x - y)", "g * where(fabs(x - y) >= z, z * sign(y - x), y - x)"), 1, "huber_cpu",
    ((-3, 3), (-3, 3), (0.5, 1.5)), "(x - y)^2 / 2 near 0, delta (|x - y| - delta / 2) beyond.")
binary_cross_entropy = PointwiseLoss(
    "binary_cross_entropy", "BinaryCrossEntropy",
    "(y - 1) * where(log1p(-x) < -100, -100.0, log1p(-x)) - y * where(log(x) < -100, -100.0, log(x))",
    ("g * (x - y) / where((1 - x) * x < 9.999999960041972e-13, 9.999999960041972e-13, (1 - x) * x)",  # 1e-12 in float32
     "g * (log1p(-x) - log(x))"),
    kernel="binary_cross_entropy", domain=((0.1, 0.9), (0, 1)), doc="-(y log(x) + (1 - y) log(1 - x)), the logarithms at least -100.",
    within=(0, 1, "all elements of input should be between 0 and 1"))
binary_cross_entropy_with_logits = PointwiseLoss(
    "binary_cross_entropy_with_logits", "BinaryCrossEntropyWithLogits", "(1 - y) * x - (where(x < 0, x, 0.0) - log1p(exp(-fabs(x))))",
    ("g * (sigmoid(x) - y)", "g * -x"), kernel="log_sigmoid_cpu", doc="(1 - y) x - log sigmoid(x).")
soft_margin_loss = PointwiseLoss(
    "soft_margin_loss", "SoftMarginLoss", "softplus(-y * x)", ("g * (-y * sigmoid(-y * x))", "g * (-x * sigmoid(-y * x))"), kernel="soft_margin_cpu",
    doc="log(1 + exp(-y x)).")
