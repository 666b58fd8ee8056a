"""The Python callables of elementwise ops, behind the compiled fast paths: function, method, operator.

They sort arguments out - keywords, alpha, rounding modes, what is not a tensor - and hand over to `dispatch`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from tapegrad import dtypes
from tapegrad.creation import tensor
from tapegrad.dispatch import NUMBERS, call, call_inplace, result_dtype
from tapegrad.dtypes import BOOL, FLOAT, INTEGER
from tapegrad.engine.bind import Handle
from tapegrad.ops.arguments import checker
from tapegrad.ops.registry import BY_NAME as OPS
from tapegrad.ops.registry import Elementwise
from tapegrad.overriding import met, taken


def complete(op: Elementwise, kind: str, name: str):
    """The Python callable of a form of `op` (`Elementwise.forms`)."""
    if kind in OPERATORS:
        return functools.partial(OPERATORS[kind], op, name)
    return functools.partial(function, op, name, kind != "f", kind == "i")


def operands_in(op: Elementwise, args, kwargs):
    """(the operands among the arguments, alpha, rounding_mode, out); the rest is refused."""
    values = list(args)
    for name in op.parameters[len(values) :]:
        if name in kwargs:
            values.append(kwargs.pop(name))
    alpha = kwargs.pop("alpha", None) if "alpha" in op.keywords else None
    rounding = kwargs.pop("rounding_mode", None) if "rounding_mode" in op.keywords else None
    out = kwargs.pop("out", None)
    if kwargs:
        raise TypeError(f"{op.name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
    if len(values) > len(op.parameters):
        raise TypeError(f"{op.name}() takes {len(op.inputs)} positional arguments but {len(values)} were given")
    if len(values) < len(op.parameters):
        missing = ", ".join(f'"{n}"' for n in op.parameters[len(values) :])
        raise TypeError(f"{op.name}() missing {len(op.parameters) - len(values)} required positional arguments: {missing}")
    return values, alpha, rounding, out


def function(op: Elementwise, name: str, method: bool, in_place: bool, /, *args, **kwargs):
    """An elementwise op called as the function or method `name`."""
    found = met(args, kwargs)
    if found is not None:
        return taken(name, method, found, args, kwargs)
    look = checker(name, method)
    if look is not None:
        args, kwargs = look(args, kwargs)
    values, alpha, rounding, out = operands_in(op, args, kwargs)
    chosen = op if rounding is None else rounded_division(rounding)
    if alpha is not None and (alpha != 1 or isinstance(alpha, bool)):
        chosen, values = scaled(op, values, alpha)
    if in_place:
        return call_inplace(chosen, *values)
    if look is not None and not any(isinstance(v, (Handle, np.ndarray)) for v in values):  # numbers, which fit some forms
        values[0] = tensor(values[0])
    elif not isinstance(values[0], (Handle, np.ndarray)) and not (len(values) > 1 and isinstance(values[0], NUMBERS) and isinstance(values[1], Handle)):
        raise TypeError(f"{op.name}(): argument '{op.parameters[0]}' (position 1) must be Tensor, not {type(values[0]).__name__}")
    return call(chosen, *values, out=out)


def rounded_division(mode: str):
    if mode == "floor":
        return OPS["round_divide"]
    if mode == "trunc":
        return OPS["trunc_divide"]
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'")


def scaled(op: Elementwise, values, alpha):
    """(the op, its values) for x + alpha * y and x - alpha * y, with torch's refusals."""
    if op.check is not None:
        op.check(op, values)
    d = result_dtype([v for v in values if isinstance(v, (*NUMBERS, Handle))])
    kind = alpha.dtype.category if hasattr(alpha, "_slot") else dtypes.of_number(alpha).category
    if kind == BOOL and d.category != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if d.category <= INTEGER and kind >= FLOAT:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if not d.is_complex and kind > FLOAT:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    if d.category == BOOL:
        return op, [values[0], values[1] & bool(alpha)]
    if type(alpha) not in (int, float, complex):
        return op, [values[0], values[1] * alpha]
    return OPS[op.name + "_scaled"], [*values, alpha]


def operator(op: Elementwise, name: str, self, *others, reflected: bool = False, **named):
    """An operator: NotImplemented for operands it does not know."""
    found = met((self, *others))
    if found is not None:
        return offered(name, found, self, *others)
    if len(op.inputs) == 1 and (others or named):
        name = OWN_NAMES.get(op.name, op.name)
        raise TypeError(f"Tensor.{name}() takes no " + ("keyword arguments" if named else f"arguments ({len(others)} given)"))
    if named and not reflected:
        return by_name(op, op.name, (self, *others), named)
    if named or len(others) != len(op.inputs) - 1 or not isinstance((*others, 0)[0], (Handle, np.ndarray, *NUMBERS)):
        return NotImplemented
    if op.name == "bitwise_not" and self.dtype.category > INTEGER:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return call(op, *((others[0], self) if reflected else (self, *others)))


def by_name(op: Elementwise, name: str, operands, named):
    """An operator called with names, as `x.__add__(y, alpha=2)`: as the method; NotImplemented for what fits none of its forms."""
    try:
        return function(op, name, True, name.endswith("_"), *operands, **named)
    except TypeError:
        return NotImplemented


OWN_NAMES = {"bitwise_not": "__invert__"}  # of operators that are no method under another name


def offered(name: str, found, *operands):
    """An operator that others may take over: NotImplemented if that ends in a TypeError."""
    try:
        return taken(name, True, found, operands, {})
    except TypeError:
        if len(operands) == 1:
            raise
        return NotImplemented


def augmented(op: Elementwise, name: str, self, *others, **named):
    """An augmented assignment: NotImplemented for operands it does not know."""
    found = met((self, *others))
    if found is not None:
        return offered(name, found, self, *others)
    if named:
        return by_name(op, op.name + "_", (self, *others), named)
    if len(others) != 1 or not isinstance(others[0], (Handle, np.ndarray, *NUMBERS)):
        return NotImplemented
    return call_inplace(op, self, *others)


OPERATORS: dict[str, Callable] = {"o": operator, "r": functools.partial(operator, reflected=True), "a": augmented}
