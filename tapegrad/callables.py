"""The Python callables of elementwise ops, behind the compiled fast paths: function, operator and in-place method.

They sort arguments out - keywords, alpha, rounding modes, what is not a tensor - and hand over to `dispatch`.
"""

from __future__ import annotations

import numpy as np

from tapegrad.dispatch import NUMBERS, call, call_inplace, result_dtype
from tapegrad.dtypes import BOOL, INTEGER
from tapegrad.engine.bind import Handle
from tapegrad.ops.registry import BY_NAME as OPS
from tapegrad.ops.registry import Elementwise
from tapegrad.ops.transformable import explained


def too_many(op: Elementwise, count: int):
    raise TypeError(f"{op.name}() takes {len(op.inputs)} positional arguments but {count} were given")


def function(op: Elementwise):
    """The Python form of the function and method, complete with keywords."""
    names = op.parameters

    @explained(op.name)
    def run(*args, **kwargs):
        out = kwargs.pop("out", None)
        alpha = kwargs.pop("alpha", None) if op.name in ("add", "sub") else None
        rounding = kwargs.pop("rounding_mode", None) if op.name == "div" else None
        values = list(args)
        for name in names[len(values) :]:
            if name in kwargs:
                values.append(kwargs.pop(name))
        if not values and "self" in kwargs:
            values.append(kwargs.pop("self"))
        if kwargs:
            raise TypeError(f"{op.name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if len(values) != len(names):
            if len(values) > len(names):
                too_many(op, len(values))
            missing = " ".join(f'"{n}"' for n in names[len(values) :])
            raise TypeError(f"{op.name}() missing {len(names) - len(values)} required positional arguments: {missing}")
        chosen = op
        if alpha is not None and alpha != 1:
            chosen, values = scaled(op, values, alpha)
        if rounding is not None:
            chosen = rounded_division(rounding)
        if not any(isinstance(v, (Handle, np.ndarray)) for v in values[:1]):
            if isinstance(values[0], NUMBERS) and len(values) > 1 and isinstance(values[1], Handle):
                return call(chosen, *values, out=out)
            raise TypeError(
                f"{op.name}(): argument '{names[0]}' (position 1) must be Tensor, not {type(values[0]).__name__}"
            )
        return call(chosen, *values, out=out)

    run.__name__ = run.__qualname__ = op.name
    run.__doc__ = op.doc
    return run


def rounded_division(mode: str):
    """The op of a division rounded as torch calls it."""
    if mode == "floor":
        return OPS["round_divide"]
    if mode == "trunc":
        return OPS["trunc_divide"]
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'")


def scaled(op: Elementwise, values, alpha):
    """(the op, its values) for x + alpha * y and x - alpha * y, with torch's refusals."""
    d = result_dtype([v for v in values if isinstance(v, (*NUMBERS, Handle))])
    if isinstance(alpha, bool) and d.category != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if d.category <= INTEGER and isinstance(alpha, (float, complex)):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if not d.is_complex and isinstance(alpha, complex):
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    if d.category == BOOL or type(alpha) not in (int, float, complex):
        return op, [values[0], values[1] * alpha]
    return OPS[op.name + "_scaled"], [*values, alpha]


def operator(op: Elementwise, reflected: bool):
    """The Python form of an operator: NotImplemented for operands it does not know."""

    def run(self, *others):
        if others and not isinstance(others[0], (Handle, np.ndarray, *NUMBERS)):
            return NotImplemented
        if op.name == "bitwise_not" and self.dtype.category > INTEGER:
            raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
        return call(op, *((others[0], self) if reflected else (self, *others)))

    run.__name__ = op.name
    return run


def inplace_function(op: Elementwise):
    """The Python form of the in-place method."""

    @explained(op.name + "_", method=True)
    def run(target, *others, **kwargs):
        alpha = kwargs.pop("alpha", None) if op.name in ("add", "sub") else None
        rounding = kwargs.pop("rounding_mode", None) if op.name == "div" else None
        others = list(others)
        for name in op.parameters[1 + len(others) :]:
            if name in kwargs:
                others.append(kwargs.pop(name))
        if kwargs:
            raise TypeError(f"{op.name}_() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if len(others) != len(op.inputs) - 1:
            raise TypeError(f"{op.name}_() takes {len(op.inputs) - 1} arguments ({len(others)} given)")
        chosen = rounded_division(rounding) if rounding is not None else op
        if alpha is not None and alpha != 1:
            chosen, (_, *others) = scaled(op, [target, *others], alpha)
        return call_inplace(chosen, target, *others)

    run.__name__ = run.__qualname__ = op.name + "_"
    return run
