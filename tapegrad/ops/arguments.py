"""The words for calls whose arguments fit no form of a function: torch's TypeErrors.

The forms are data, `data/call_forms.txt`: a line for each way in which a name may be called.  Nothing of this is looked at by a call that
succeeds.  One that fails, in whatever way, comes here: if its arguments fit none of the forms, that is what the user is told (`misfit`); if
they do, the error was about values and stays as it is.  Two kinds of argument are looked at before (`check_keywords`), since any object would do
for them: truth values and dtypes.

As in torch, the text is about one parameter if one form only could be meant, by the number of arguments; else it lists the forms.
"""

from __future__ import annotations

import functools
import numbers
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapegrad.device import device
from tapegrad.dtypes import dtype

# By torch's rule the other names that NumPy has for a parameter are taken too.
ALIASES = {"dim": ("axis",), "keepdim": ("keepdims",), "input": ("self", "x", "a", "x1"), "other": ("x2",)}
# Functions that take a Python number for any tensor.
TAKE_NUMBERS = {"add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "copy"}


def is_tensor(x) -> bool:
    return hasattr(x, "_slot") or isinstance(x, np.ndarray)


def is_int(x) -> bool:
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, numbers.Integral) or (hasattr(x, "_slot") and x.ndim == 0 and not x.dtype.is_floating_point and not x.dtype.is_complex)


def is_number(x) -> bool:
    return isinstance(x, (numbers.Number, np.bool_)) or (hasattr(x, "_slot") and x.ndim == 0 and not x.requires_grad)


def is_ints(x) -> bool:
    return isinstance(x, (tuple, list)) and (not x or is_int(x[0]))


FITS: dict[str, Callable[[Any], bool]] = {
    "Tensor": is_tensor,
    "Number": is_number,
    "int": is_int,
    "float": lambda x: is_number(x) and not isinstance(x, complex),
    "bool": lambda x: isinstance(x, (bool, np.bool_)),
    "str": lambda x: isinstance(x, str),
    "tuple of ints": is_ints,
    "tuple of ints?": lambda x: is_ints(x) or is_int(x),
    "tuple of Tensors": lambda x: isinstance(x, (tuple, list)),
    "torch.dtype": lambda x: isinstance(x, dtype) or x in (float, int, bool, complex),
    "torch.device": lambda x: isinstance(x, (str, device)) or is_int(x),
    "torch.Generator": lambda x: hasattr(x, "_stream"),  # the public class is made above this layer
}  # fmt: skip


class Late(str):
    """Trouble that torch finds when it has settled on the form already."""


@dataclass
class Parameter:
    kind: str
    name: str
    required: bool
    optional: bool  # None will do
    keyword: bool
    many: bool = False  # the ints may be given one by one

    def fits(self, value, numbers_too: bool) -> bool:
        if value is None and self.optional:
            return True
        if self.kind == "Tensor" and numbers_too and is_number(value):
            return True
        return FITS.get(self.kind, lambda _: True)(value)


@dataclass
class Form:
    """One way to call a function."""

    text: str
    parameters: list[Parameter]
    deprecated: bool

    @property
    def counts(self) -> range:
        """How many arguments it may have."""
        return range(sum(p.required for p in self.parameters), len(self.parameters) + 1)

    def trouble(self, name: str, args: tuple, kwargs: dict, first: int) -> str | None:
        """What is wrong with a call in this form, None if nothing; arguments are counted from `first`."""
        positional = [p for p in self.parameters if not p.keyword]
        many = next((k for k, p in enumerate(positional) if p.many), len(args))
        if many < len(args) and is_int(args[many]):
            args = (*args[:many], tuple(args[many:]))
        if len(args) > len(positional):
            count = len(positional)
            return f"{name}() takes {count} positional argument{'s' if count != 1 else ''} but {len(args)} were given"
        left = dict(kwargs)
        for k, p in enumerate(self.parameters):
            if not p.keyword and k < len(args):
                value, where = args[k], f" (position {k + first})"
            else:
                known = next((n for n in (p.name, *ALIASES.get(p.name, ())) if n in left), None)
                if known is None:
                    if p.required:
                        missing = [q.name for q in self.parameters[k:] if q.required and q.name not in kwargs]
                        return f"{name}() missing {len(missing)} required positional argument{'s' * (len(missing) == 1)}: " + ", ".join(f'"{m}"' for m in missing)
                    continue
                value, where = left.pop(known), ""
            if not p.fits(value, name.rstrip("_") in TAKE_NUMBERS):
                kind = p.kind.rstrip("?")
                if kind == "tuple of ints" and isinstance(value, (tuple, list)):
                    return f"{name}(): argument '{p.name}'{where} must be {kind}, but found element of type {type(value[0]).__name__} at pos 0"
                return f"{name}(): argument '{p.name}'{where} must be {kind}, not {type(value).__name__}"
            if p.kind.startswith("tuple of ints") and isinstance(value, (tuple, list)):
                for at, item in enumerate(value):
                    if not is_int(item):
                        return Late(f"{name}(): argument '{p.name}' failed to unpack the object at pos {at + 1} with error \"type must be tuple of ints,but got {type(item).__name__}\"")
            if p.kind == "tuple of Tensors" and isinstance(value, (tuple, list)):
                for at, item in enumerate(value):
                    if not is_tensor(item):
                        return Late(f"expected Tensor as element {at} in argument {k}, but got {type(item).__name__}")
        for extra in left:
            if extra in (p.name for p in self.parameters):
                return f"{name}() got multiple values for argument '{extra}'"
            return f"{name}() got an unexpected keyword argument '{extra}'"
        return None


def parsed(line: str) -> Form:
    """`sum(Tensor input, *, torch.dtype dtype=None) deprecated` as a Form."""
    text, _, mark = line.partition("(")[2].rpartition(")")
    parameters: list[Parameter] = []
    keyword = False
    for part in re.split(r", (?![^()]*\))", text) if text else ():
        if part == "*":
            keyword = True
            continue
        left, _, default = part.partition("=")
        kind, _, name = left.rpartition(" ")
        many = kind == "*ints"
        optional = name.endswith("?") or default == "None"
        parameters.append(Parameter("tuple of ints" if many else kind, name.rstrip("?"), not default, optional, keyword, many))
    return Form(f"({text.replace('?', '').replace('*ints', 'tuple of ints').replace('=', ' = ')})", parameters, mark == " deprecated")


@functools.cache
def lines() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (pathlib.Path(__file__).parents[1] / "data" / "call_forms.txt").read_text().splitlines():
        found.setdefault(line.partition("(")[0], []).append(line)
    return found


@functools.cache
def forms(name: str) -> list[Form]:
    """The forms in which `name` may be called; an in-place method has those of its function but for out=."""
    found = lines().get(name)
    if found is None and name.endswith("_") and not name.endswith("__"):
        without = (re.sub(r"(, \*)?, (Tensor|tuple of Tensors) out=None(?=\))", "", line) for line in lines().get(name[:-1], ()))
        found = [line.replace(", Tensor out=None", "") for line in without]
    return [parsed(line) for line in found or ()]


def has_forms(name: str) -> bool:
    return bool(forms(name))


def type_name(value) -> str:
    """What torch calls the type of an argument."""
    return "Tensor" if hasattr(value, "_slot") else "torch.dtype" if isinstance(value, dtype) else type(value).__name__


def misfit(name: str, args: tuple, kwargs: dict, method: bool = False) -> TypeError | None:
    """The error for a call that fits no form of `name`, None if it fits one or there is none; `method` says that the first is the tensor itself."""
    ways = forms(name)
    if not ways:
        return None
    troubles = [form.trouble(name, args, kwargs, 0 if method else 1) for form in ways]
    settled = next((t for t in troubles if t is None or isinstance(t, Late)), "")
    if settled != "":
        return None if settled is None else TypeError(settled)
    count = len(args) + len(kwargs)
    meant = [text for form, text in zip(ways, troubles) if count in form.counts and not form.deprecated]
    if len(ways) == 1 or len(meant) == 1:
        return TypeError(troubles[0] if len(ways) == 1 else meant[0])
    named = [f"{k}={type_name(v)}" for k, v in kwargs.items()]
    got = ", ".join([*map(type_name, args[method:]), *named]) + ", " * (bool(named) and len(args) == method)
    listed = [form.text for form in ways if not form.deprecated]
    expected = "one of:" + "".join(f"\n * {text}" for text in listed) + "\n" if len(listed) > 1 else listed[0]
    return TypeError(f"{name}() received an invalid combination of arguments - got ({got}), but expected {expected}")


STRICT = {"keepdim": (bool, np.bool_), "dtype": (dtype, type(None), type)}  # of keywords that a body would take anything for


def check_keywords(name: str, args: tuple, kwargs: dict) -> None:
    """Raise for an argument that should be a truth value or a dtype and is not."""
    for key, value in kwargs.items():
        if key in STRICT and not isinstance(value, STRICT[key]):
            error = misfit(name, args, kwargs)
            if error is not None:
                raise error
