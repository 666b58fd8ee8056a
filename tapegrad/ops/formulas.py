"""Elementwise derivatives on Tensors: the op table's formulas evaluated with Tensor operands.

The same text that is compiled into kernels runs here when a derivative must itself be recorded (`create_graph=True`), which gives
derivatives of every order.
"""

from __future__ import annotations

import functools
from math import inf

from tapegrad.kernels import NAMES
from tapegrad.ops.registry import BY_NAME, UNKNOWN, Elementwise, unknown_derivative


@functools.cache
def _code(text: str):
    return compile(text, "<formula>", "eval")


@functools.cache
def namespace() -> dict:
    from tapegrad import creation, dispatch

    space = dict(NAMES)

    def lift(op):
        return lambda *xs: dispatch.call(op, *xs) if any(hasattr(x, "_slot") for x in xs) else dispatch.call(op, *map(creation.tensor, xs))

    for name in ("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "sigmoid",
                 "floor", "ceil", "trunc", "sign", "atan", "asin", "acos", "erf", "erfc", "copysign", "pow", "fmod", "remainder"):
        space[name] = lift(BY_NAME[name])
    space["fabs"], space["nearest"] = lift(BY_NAME["abs"]), lift(BY_NAME["round"])
    for scalar in ("sqrt", "exp", "log"):
        space[scalar] = _scalar_or(scalar, space[scalar])
    space["where"] = lambda c, a, b: (a if c else b) if isinstance(c, bool) else dispatch.call(BY_NAME["where"], c, a, b)
    for name in ("sgn", "modulus"):
        space[name] = lift(BY_NAME[name])
    space["re"], space["im"], space["conj"] = (lambda x: x.real), (lambda x: x.imag), (lambda x: x.conj_physical())
    space["softplus"] = lambda x: dispatch.call(BY_NAME["softplus_scaled"], x, 1.0, inf)
    return space


def _scalar_or(name, function):
    import math

    plain = getattr(math, name)
    return lambda x: function(x) if hasattr(x, "_slot") else plain(x)


def derivative(op: Elementwise, node, g) -> list:
    """Per input the gradient, before un-broadcasting; None where there is none."""
    inputs = node.inputs
    operands = dict(zip(op.inputs, inputs, strict=True))
    if any("out" in op.reads(k) for k in range(len(op.grads))):
        operands["out"] = node.outputs[0]
    kind = "C" if any(x.dtype.is_complex for x in operands.values()) else "F"
    texts = [op.formula(1 + k, kind) if x.requires_grad else None for k, x in enumerate(inputs)]
    if kind == "C":
        # Conjugated, as in kernels; only what is read, as other operands may have given up their values.
        read = set().union(*(op.reads(k) for k, text in enumerate(texts) if text is not None))
        operands = {name: x.conj_physical() for name, x in operands.items() if name in read}
    if op.name == "pow" and texts[0] is not None and _is_number(inputs[1]):
        operands["y"] = operands["y"].item()  # a number stays one: no graph shows that a condition was asked of it
    operands["g"] = g
    result: list = []
    for text in texts:
        if text is None:
            result.append(None)
        elif text == UNKNOWN:
            raise unknown_derivative(op.name)
        else:
            result.append(_partial(text, operands))
    if op.steps and result[0] is not None:
        result[0] = _depending(result[0], operands[op.steps])
    return result


def _is_number(tensor) -> bool:
    from tapegrad import dispatch

    return dispatch.is_number(tensor)


def _depending(value, x):
    """`value`, which a recorded derivative of zeros connects to `x`."""
    from tapegrad import dispatch, modes

    return dispatch.call(BY_NAME["slope"], value, x) if x.requires_grad and modes.is_grad_enabled() else value


def _partial(text: str, operands: dict):
    if text == "g":
        return operands["g"]
    found = 0 if text == "0" else eval(_code(text), namespace(), operands)
    return found if hasattr(found, "_slot") else operands["g"] * found


def tangent(op: Elementwise, inputs, out, tangents):
    """The tangent of `out`: the derivatives are linear in g, so each input's adds its own with its tangent for g.  None if nothing moves."""
    operands = dict(zip(op.inputs, inputs, strict=True))
    operands["out"] = out
    total = None
    for text, g in zip(op.grads, tangents, strict=True):
        if text is None or g is None:
            continue
        if text == UNKNOWN:
            raise NotImplementedError(vars(unknown_derivative(op.name))["forward"])
        operands["g"] = g
        term = _partial(text, operands)
        total = term if total is None else total + term
    if total is None:
        return None
    total = total.to(out.dtype)
    return total if total.shape == out.shape else total.expand(tuple(out.shape))
