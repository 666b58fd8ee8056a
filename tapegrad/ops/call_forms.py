"""The forms in which functions and methods may be called.

The forms are data, `data/call_forms.txt`: a line for each way in which a name may be called; a method's begin with a dot and leave the tensor
itself out; a "~" marks what torch's Python calls inside a public function of the same name.  A form says what is wrong with a call in it, in
torch's words; which of the forms is meant, and what is said if none is, is seen to in `ops/arguments.py`.  Start reading at `Form.trouble`.
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

from tapegrad import naming
from tapegrad.device import device
from tapegrad.dtypes import dtype

# By torch's rule the names that NumPy has for a parameter are taken too.
ALIASES = {"dim": ("axis",), "keepdim": ("keepdims",), "input": ("x", "a", "x1"), "other": ("x2",)}
# Functions that take a Python number for any tensor.
TAKE_NUMBERS = {"add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "copy_"}
TAKE_NUMBERS |= {name + "_" for name in TAKE_NUMBERS}


def is_tensor(x) -> bool:
    return hasattr(x, "_slot")


def is_scalar_tensor(x) -> bool:
    return hasattr(x, "_slot") and x.ndim == 0 and not x.requires_grad


def is_whole(x) -> bool:
    """Whether a tensor holds integers (or truth values)."""
    return not x.dtype.is_floating_point and not x.dtype.is_complex


def is_long(x) -> bool:
    return type(x) is int or isinstance(x, numbers.Integral) and not isinstance(x, (bool, np.bool_))


def is_int(x) -> bool:
    return is_long(x) or (is_scalar_tensor(x) and is_whole(x) and x.dtype.name != "bool")


def is_size(x) -> bool:
    """An int that may be symbolic in torch: an integer tensor of one element too."""
    return is_index(x) or (hasattr(x, "_slot") and is_whole(x) and x.numel() == 1)


def is_index(x) -> bool:
    """What Python takes for an index, truth values excepted."""
    if type(x) is int:
        return True
    if isinstance(x, (bool, np.bool_)) or (isinstance(x, np.ndarray) and (x.ndim or x.dtype.kind not in "iu")):
        return False
    if hasattr(x, "_slot"):
        return is_whole(x) and x.numel() == 1
    return is_long(x) or hasattr(x, "__index__")


def is_real(x) -> bool:
    return isinstance(x, (int, float, np.number, np.bool_)) and not isinstance(x, complex)


def is_number(x) -> bool:
    return isinstance(x, (int, float, complex, np.number, np.bool_))


def kind_of(value):
    """What decides about an argument: its type; for ints in a tuple or list that they are ints."""
    kind = type(value)
    if kind in (tuple, list) and value and all(type(item) is int for item in value) and -(2**63) <= min(value) and max(value) < 2**63:
        return kind, int
    return kind


def is_list(item: Callable[[Any], bool], all_of_them: bool = False) -> Callable[[Any], bool]:
    """A tuple or list whose first item will do; or all of them."""
    return lambda x: isinstance(x, (tuple, list)) and (not x or (all(map(item, x)) if all_of_them else item(x[0])))


# kind -> (what errors call it, whether an argument will do)
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Tensor": ("Tensor", is_tensor),
    "Number": ("Number", lambda x: is_number(x) or is_scalar_tensor(x)),
    "complex": ("complex", lambda x: is_number(x) or is_scalar_tensor(x)),
    "float": ("float", lambda x: is_real(x) or is_scalar_tensor(x)),
    "int": ("int", is_int),
    "size": ("int", is_size),
    "bool": ("bool", lambda x: isinstance(x, bool)),
    "str": ("str", lambda x: isinstance(x, str)),
    "ints": ("tuple of ints", is_list(is_index)),
    "sizes": ("tuple of ints", is_list(is_size)),
    "floats": ("tuple of floats", is_list(lambda x: is_real(x) or isinstance(x, complex))),
    "Numbers": ("tuple of Scalars", is_list(is_number, all_of_them=True)),
    "Tensors": ("tuple of Tensors", lambda x: isinstance(x, (tuple, list))),
    "dtype": ("torch.dtype", lambda x: isinstance(x, dtype) or x in (float, int, bool, complex)),
    "layout": ("torch.layout", lambda x: type_name(x) == "torch.layout"),
    "memory_format": ("torch.memory_format", lambda x: type_name(x) == "torch.memory_format"),
    "device": ("torch.device", lambda x: isinstance(x, (str, device)) or is_long(x)),
    "generator": ("torch.Generator", lambda x: type_name(x) == "torch._C.Generator"),
    "Storage": ("torch.Storage", lambda x: type(x).__name__ in ("TypedStorage", "UntypedStorage")),
    "object": ("object", lambda x: True),
}  # fmt: skip
BY_VALUE = ("Number", "complex", "float", "int", "size", "ints", "sizes")  # kinds for which it depends on its value whether a tensor will do


class Late(TypeError):
    """Trouble that torch finds when it has settled on the form already."""


@dataclass
class Parameter:
    kind: str
    count: int  # of ints: a single one will do for them, if not 0
    name: str
    default: str | None
    none: bool  # None will do
    keyword: bool

    @property
    def text(self) -> str:
        return f"{KINDS[self.kind][0]} {self.name}" + ("" if self.default is None else f" = {self.default}")

    def fits(self, value, numbers_too: bool) -> bool:
        if self.count and is_size(value) or self.kind == "Tensor" and numbers_too and is_number(value):
            return True
        return KINDS[self.kind][1](value)

    def unpacked(self, name: str, number: int, value) -> None:
        """Look at the items of a list, which the choice of a form does not depend on."""
        if self.kind == "Tensors":
            for at, item in enumerate(value):
                if not is_tensor(item):
                    raise Late(f"expected Tensor as element {at} in argument {number}, but got {type_name(item)}")
        elif self.kind in ("ints", "sizes") and isinstance(value, (tuple, list)):
            for at, item in enumerate(value):
                words = "" if is_size(item) or isinstance(item, bool) else f"type must be tuple of ints,but got {type_name(item)}"
                if not words and type(item) is int and not -(2**63) <= item < 2**63:
                    words = "Overflow when unpacking long long"
                if words:
                    raise Late(f"{name}(): argument '{self.name}' failed to unpack the object at pos {at + 1} with error \"{words}\"")


@dataclass
class Form:
    """One way to call a function."""

    parameters: list[Parameter]
    deprecated: bool

    def __post_init__(self):
        self.least = sum(p.default is None for p in self.parameters)
        self.positional = sum(not p.keyword for p in self.parameters)
        # A single list of ints may be given one by one.
        self.many = self.positional == 1 and self.parameters[0].kind in ("ints", "sizes")

    @property
    def text(self) -> str:
        parts = [p.text for p in self.parameters]
        if self.positional < len(parts):
            parts.insert(self.positional, "*")
        return f"({', '.join(parts)})"

    def trouble(self, name: str, args: tuple, kwargs: dict) -> str | None:
        """What is wrong with a call in this form, None if nothing."""
        if len(args) > self.positional and not (self.many and KINDS[self.parameters[0].kind][1](args)):
            return self.too_many(name, len(args))
        left = len(kwargs)
        at = 0
        for number, p in enumerate(self.parameters):
            if by_position := at < len(args):
                if p.keyword:
                    return self.too_many(name, len(args))
                found, value = True, args[at]
            else:
                known = next((n for n in (p.name, *ALIASES.get(p.name, ())) if n in kwargs), None)
                found, value = known is not None, kwargs.get(known)
            if not found and p.default is not None or found and value is None and p.none:
                pass
            elif not found:
                missing = [f'"{q.name}"' for q in self.parameters[number:] if q.default is None]
                return f"{name}() missing {len(missing)} required positional argument{'s' * (len(missing) == 1)}: {', '.join(missing)}"
            elif p.fits(value, name in TAKE_NUMBERS):
                p.unpacked(name, number, value)
            elif by_position and self.many and KINDS[p.kind][1](args):
                p.unpacked(name, number, args)
                at = len(args)
                continue
            else:
                return self.unfit(name, p, value, at if by_position else None)
            at += by_position
            left -= found and not by_position
        if left:
            for extra in kwargs:
                names = [p.name for p in self.parameters]
                if extra not in names:
                    return f"{name}() got an unexpected keyword argument '{extra}'"
                if names.index(extra) < len(args):
                    return f"{name}() got multiple values for argument '{extra}'"
            return "invalid keyword arguments"
        return None

    def placed(self, args: tuple, kwargs: dict, method: bool) -> tuple[tuple, dict]:
        """The arguments of a call in this form, those by name at their places as far as none before them is left out: a body may have other names."""
        moved, left = list(args), dict(kwargs)
        for p in self.parameters[len(args) - method : self.positional]:
            known = next((n for n in (p.name, *ALIASES.get(p.name, ())) if n in left), None)
            if known is None:
                break
            moved.append(left.pop(known))
        return tuple(moved), left

    def by_value(self, name: str, args: tuple, kwargs: dict) -> bool:
        """Whether a call fits for more than the types of its arguments: items of lists matter, and tensors where numbers may be meant."""
        at = self.parameters[:1] * len(args) if self.many else self.parameters
        named = {n: p for p in self.parameters for n in (p.name, *ALIASES.get(p.name, ()))} if kwargs else {}
        given = [*zip(at, args), *((named[k], v) for k, v in kwargs.items() if k in named)]
        matters = False
        for p, v in given:
            if isinstance(v, (tuple, list)) and kind_of(v) is type(v) or (p.kind in BY_VALUE or p.count) and (is_tensor(v) or isinstance(v, np.ndarray)):
                matters = True
            elif not (p.fits(v, name in TAKE_NUMBERS) or v is None and p.none):
                return False  # not in this form, whatever the others are
        return matters

    def too_many(self, name: str, given: int) -> str:
        if self.least != self.positional:
            return f"{name}() takes from {self.least} to {self.positional} positional arguments but {given} were given"
        return f"{name}() takes {self.positional} positional argument{'s' * (self.positional != 1)} but {given} {'was' if given == 1 else 'were'} given"

    def unfit(self, name: str, p: Parameter, value, at: int | None) -> str:
        kind = KINDS[p.kind][0]
        where = f"{name}(): argument '{p.name}'" + ("" if at is None else f" (position {at + 1})") + f" must be {kind}"
        if at is not None and p.kind in ("ints", "sizes") and isinstance(value, (tuple, list)) and value:
            return f"{where}, but found element of type {type_name(value[0])} at pos 0"
        return f"{where}, not {type_name(value)}"

    def marked(self, args: tuple, kwargs: dict) -> str | None:
        """The types given, with a mark on each that does not fit; None unless there are as many as its text has parts.

        As in torch a "*" is such a part, and nothing fits a Number.
        """
        parts: list[Parameter | None] = list(self.parameters)
        if self.positional < len(parts):
            parts.insert(self.positional, None)
        parts = parts or [None]
        if len(args) + len(kwargs) != len(parts):
            return None
        named = {p.name: p for p in self.parameters}
        given = [("", p, v) for p, v in zip(parts, args)] + [(k + "=", named.get(k), v) for k, v in kwargs.items()]
        good = lambda p, v: p is not None and p.kind != "Number" and (p.kind != "device" or isinstance(v, device)) and (p.fits(v, False) or v is None and p.none)
        words = [f"{k}{items_name(v)}" if good(p, v) else f"{k}!{items_name(v)}!" for k, p, v in given]
        return ", ".join(words) + ", " * bool(kwargs)

    def has_room(self, args: tuple, kwargs: dict) -> bool:
        """Whether so many arguments could be meant."""
        return self.least <= len(args) + len(kwargs) <= len(self.parameters)


def parsed(line: str) -> Form:
    """`sum(Tensor input, *, dtype? dtype=None) deprecated` as a Form."""
    text, _, mark = line.partition("(")[2].rpartition(")")
    parameters: list[Parameter] = []
    keyword = False
    for part in re.split(r", (?![^()\[\]]*[)\]])", text) if text else ():
        if part == "*":
            keyword = True
            continue
        left, _, default = part.partition("=")
        kind, _, name = left.rpartition(" ")
        none = kind.endswith("?") or default == "None"
        kind, _, count = kind.rstrip("?").partition("[")
        parameters.append(Parameter(kind, int(count.rstrip("]") or 0), name, default or None, none, keyword))
    return Form(parameters, mark == " deprecated")


@functools.cache
def lines() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (pathlib.Path(__file__).parents[1] / "data" / "call_forms.txt").read_text().splitlines():
        found.setdefault(line.partition("(")[0], []).append(line)
    return found


@functools.cache
def forms(name: str, method: bool) -> list[Form]:
    """The forms in which the function, or the method, of that name may be called, deprecated ones last; [] if they are not known."""
    return sorted((parsed(line) for line in lines().get("." + name if method else name, ())), key=lambda form: form.deprecated)


def type_name(value) -> str:
    """What torch calls the type of an argument."""
    name = naming.type_name(value)
    return "torch" + name.removeprefix("tapegrad") if name.startswith("tapegrad.") else name


def items_name(value) -> str:
    """The type of an argument with those of its items."""
    if not isinstance(value, (tuple, list)):
        return type_name(value)
    items = ", ".join(map(type_name, value))
    return f"{type_name(value)} of " + (f"({items})" if isinstance(value, tuple) else f"[{items}]")
