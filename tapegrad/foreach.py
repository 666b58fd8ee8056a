"""`_foreach_add` and its kind: one operation on every tensor of a list, as optimizers written for torch use them.

A function `_foreach_NAME(tensors, ...)` returns a tuple of what the method NAME gives for each tensor; `_foreach_NAME_` changes the tensors and
returns the list.  Other operands are one number or 0-d tensor for all tensors, or a list with one for each.
"""

from __future__ import annotations

from collections.abc import Callable

from tapegrad.dispatch import NUMBERS
from tapegrad.engine.bind import Handle
from tapegrad.naming import type_name

UNARY = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round rsqrt sigmoid sign sin sinh "
    "sqrt tan tanh trunc"
).split()
BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "clamp_min", "clamp_max")  # the first two take alpha=
OF_NUMBERS = {"maximum": "clamp_min", "minimum": "clamp_max"}  # what serves numbers
TERNARY = ("addcmul", "addcdiv")


def tensors_of(name: str, values, number: int = 0) -> list:
    """A list of tensors, or torch's errors."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name}(): argument {'self' if not number else number} must be tuple of Tensors, not {type(values).__name__}")
    for k, value in enumerate(values):
        if not isinstance(value, Handle):
            raise TypeError(f"expected Tensor as element {k} in argument {number}, but got {type_name(value)}")
    return list(values)


def same_count(first: list, *others: list) -> None:
    for other in others:
        if len(first) != len(other):
            raise RuntimeError(f"Tensor lists must have the same number of tensors, got {len(first)} and {len(other)}")
    if not first:
        raise RuntimeError("Tensor list must have at least one tensor.")


def others_of(name: str, tensors: list, other) -> list:
    """One operand for each tensor."""
    if isinstance(other, Handle):
        if other.ndim:
            raise RuntimeError(f"scalar tensor expected to be 0 dim but it has {other.ndim} dimensions and {other.numel()} elements.")
        other = [other] * len(tensors)
    elif isinstance(other, NUMBERS):
        other = [other] * len(tensors)
    elif not isinstance(other, (list, tuple)):
        raise TypeError(f"{name}(): argument 'other' (position 2) must be Number, Tensor, tuple of Scalars or tuple of Tensors, not {type(other).__name__}")
    elif other and isinstance(other[0], NUMBERS):
        if len(other) != len(tensors):
            raise RuntimeError("Tensor list must have same number of elements as scalar list.")
    else:
        other = tensors_of(name, other, 1)
    same_count(tensors, list(other))
    return list(other)


def unary(name: str, in_place: bool) -> Callable:
    def run(self):
        tensors = tensors_of(run.__name__, self)
        same_count(tensors)
        results = [getattr(t, name)() for t in tensors]
        return self if in_place else tuple(results)

    return run


def binary(name: str, in_place: bool) -> Callable:
    plain = name.removesuffix("_")
    takes_alpha = plain in BINARY[:2]

    def run(self, *args, **kwargs):
        alpha = kwargs.pop("alpha", None)
        for keyword in ("scalar", "scalars", "other", "exponent"):
            if not args and keyword in kwargs:
                args = (kwargs.pop(keyword),)
        if len(args) != 1 or kwargs or (alpha is not None and (not takes_alpha or isinstance(args[0], NUMBERS))):
            given = ", ".join([type(v).__name__ for v in (self, *args)] + [f"{k}={type(v).__name__}" for k, v in kwargs.items()])
            raise TypeError(f"{run.__name__}() received an invalid combination of arguments - got ({given})")
        if plain == "pow" and isinstance(self, NUMBERS) and not in_place:
            exponents = tensors_of(run.__name__, args[0], 1)
            return tuple(self**t for t in exponents)
        tensors = tensors_of(run.__name__, self)
        others = others_of(run.__name__, tensors, args[0])
        named = {} if alpha is None else {"alpha": alpha}
        method = lambda other: OF_NUMBERS.get(plain, plain) + "_" * in_place if isinstance(other, NUMBERS) else name
        results = [_combined(t, method(other), other, in_place, named) for t, other in zip(tensors, others, strict=True)]
        return self if in_place else tuple(results)

    return run


def _combined(t, method: str, other, in_place: bool, named: dict):
    """A binary method; an in-place one that Tensor has not as the plain one, copied over."""
    if in_place and not hasattr(t, method):
        return t.copy_(getattr(t, method[:-1])(other, **named))
    return getattr(t, method)(other, **named)


def ternary(name: str, in_place: bool) -> Callable:
    def run(self, tensor1, tensor2, scalar=1, *, value=None, scalars=None):
        first, second, third = (tensors_of(run.__name__, v, k) for k, v in enumerate((self, tensor1, tensor2)))
        same_count(first, second, third)
        factors = scalars if scalars is not None else scalar if value is None else value
        if isinstance(factors, Handle):
            factors = factors.tolist()
        if isinstance(factors, NUMBERS):
            factors = [factors] * len(first)
        if len(factors) != len(first):
            raise RuntimeError(f"Tensor list must have same number of elements as scalar list, got {len(first)} and {len(factors)}.")
        results = [getattr(a, name)(b, c, value=v) for a, b, c, v in zip(first, second, third, factors, strict=True)]
        return self if in_place else tuple(results)

    return run


def lerp(name: str, in_place: bool) -> Callable:
    def run(self, tensors1, weights):
        first, second = tensors_of(run.__name__, self), tensors_of(run.__name__, tensors1, 1)
        same_count(first, second)
        results = [getattr(a, name)(b, w) for a, b, w in zip(first, second, others_of(run.__name__, first, weights), strict=True)]
        return self if in_place else tuple(results)

    return run


def _foreach_norm(self, ord=2, dtype=None):
    """The vector norm of every tensor, all of its dims together."""
    from tapegrad.ops.norms import vector_norm

    tensors = tensors_of("_foreach_norm", self)
    same_count(tensors)
    return tuple(vector_norm(t, ord, dtype=dtype) for t in tensors)


def _foreach_max(self):
    """The largest element of every tensor."""
    tensors = tensors_of("_foreach_max", self)
    same_count(tensors)
    return tuple(t.max() for t in tensors)


def _foreach_copy_(self, src, non_blocking=False):
    """Every tensor overwritten by that of another list."""
    tensors, sources = tensors_of("_foreach_copy_", self), tensors_of("_foreach_copy_", src, 1)
    same_count(tensors, sources)
    for t, source in zip(tensors, sources, strict=True):
        t.copy_(source)
    return self


def _forms():
    """(name, function) of every function."""
    kinds = [(UNARY, unary), (BINARY, binary), (TERNARY, ternary), (("lerp",), lerp)]
    for names, make in kinds:
        for plain in names:
            for name in (plain, plain + "_"):
                yield name, make(name, name != plain)
    yield "zero_", unary("zero_", True)
    yield "clone", unary("clone", False)


FOREACH: dict[str, Callable] = {"_foreach_norm": _foreach_norm, "_foreach_max": _foreach_max, "_foreach_copy_": _foreach_copy_}
for _name, _function in _forms():
    _public = "_foreach_" + _name
    _function.__name__ = _function.__qualname__ = _public
    _function.__doc__ = f"`{_name}` of every tensor of a list{', which is returned' * _name.endswith('_')}."
    FOREACH[_public] = _function
