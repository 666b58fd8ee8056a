"""torch's TypeErrors for calls that fit none of the forms of a name.

`checker` gives what looks at the arguments of a call before its body runs, for whatever is called through Python: a body sees only arguments of
the kinds that its forms (`ops/call_forms.py`) name, by position if they have one.  The types of a call that passed are remembered, so that the next
one costs a look-up; calls of compiled code are not looked at.

As in torch, the first form that fits is meant.  If none does, the text is about one parameter if one form only could be meant, by the number of
arguments; else it lists the forms.
"""

from __future__ import annotations

import functools

from tapegrad import dtypes
from tapegrad.cautions import warn_once
from tapegrad.ops.call_forms import ALIASES, Form, Late, forms, kind_of, type_name


def modern(name: str, form: Form, ways: list[Form], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments of a call in a deprecated form, as `add(x, 2, y)`, in the form that took its place: `add(x, y, alpha=2)`.  Warns once."""
    words = "".join(f"\n\t{name}{way.text}" for way in ways if not way.deprecated)
    warn_once(
        f"This overload of {name} is deprecated:\n\t{name}{form.text}\nConsider using one of the following signatures instead:{words}",
        about="overload of " + name, stacklevel=5,
    )  # fmt: skip
    given = {p.name: value for p, value in zip(form.parameters, args)} | kwargs
    first = [p.name for p in next(way for way in ways if not way.deprecated).parameters if not p.keyword]
    return tuple(given.pop(p) for p in first), given


def misfit(name: str, args: tuple, kwargs: dict, method: bool = False) -> TypeError | Form:
    """The error for a call that fits no form of `name`, else the first form that it fits; `method` says that the first argument is the tensor itself."""
    ways = forms(name, method)
    args = args[method:]
    name = name.replace(".", "_").removeprefix("~")
    if len(ways) == 1 and not ways[0].parameters:
        owner = "Tensor" if method else "torch"
        if kwargs:
            return TypeError(f"{owner}.{name}() takes no keyword arguments")
        return TypeError(f"{owner}.{name}() takes no arguments ({len(args)} given)") if args else ways[0]
    try:
        troubles = []
        for form in ways:
            troubles.append(form.trouble(name, args, kwargs))
            if troubles[-1] is None:
                return form
    except Late as late:
        return TypeError(str(late))
    listed = [form for form in ways if not form.deprecated]
    meant = [text for form, text in zip(ways, troubles) if form.has_room(args, kwargs) and not form.deprecated]
    if len(ways) == 1 or len(meant) == 1:
        return TypeError(troubles[0] if len(ways) == 1 else meant[0])
    return TypeError(f"{name}() received an invalid combination of arguments - {described(args, kwargs, listed)}")


def described(args: tuple, kwargs: dict, listed: list[Form]) -> str:
    """The arguments given, and the forms that they do not fit."""
    got = ", ".join([*map(type_name, args), *(f"{k}={type_name(v)}" for k, v in kwargs.items())]) + ", " * (bool(kwargs) and not args)
    unknown = lambda form: [k for k in kwargs if k not in [p.name for p in form.parameters]]
    if len(listed) == 1:
        form = listed[0]
        if unknown(form):
            return "got unrecognized keyword arguments: " + ", ".join(unknown(form))
        return f"got ({form.marked(args, kwargs) or got}), but expected {form.text}"
    expected = ""
    for form in listed:
        expected += f" * {form.text}\n"
        marked = form.marked(args, kwargs)
        if marked is not None and unknown(form):
            expected += f"      didn't match because some of the keywords were incorrect: {', '.join(unknown(form))}\n"
        elif marked is not None:
            expected += f"      didn't match because some of the arguments have invalid types: ({marked})\n"
    return f"got ({got}), but expected one of:\n{expected}"


def as_dtype(value):
    """The dtype that a Python type means; anything else as it is."""
    return dtypes.BY_NAME[PYTHON_DTYPES[value]] if isinstance(value, type) and value in PYTHON_DTYPES else value


PYTHON_DTYPES: dict[type, str] = {float: "float64", int: "int64", bool: "bool", complex: "complex128"}


class Checker:
    """What raises for a call that fits no form of a name, and returns its arguments, keywords under their own names."""

    def __init__(self, name: str, method: bool):
        self.name, self.method, self.ways = name, method, forms(name, method)
        self.passed: dict[tuple, Form] = {}  # the types of calls that fit, where no more than the types matters -> the form meant
        known = {p.name for form in self.ways for p in form.parameters}
        self.renamed = {alias: p for p, aliases in ALIASES.items() for alias in aliases if p in known and alias not in known}
        self.renamed |= {"self": "input"} if "self" in known and not method else {}
        self.takes_dtype = any(p.kind == "dtype" for form in self.ways for p in form.parameters)

    def __call__(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        types: tuple = (*map(type, args), *kwargs, *map(type, kwargs.values())) if kwargs else (*map(type, args),)
        if tuple in types or list in types:
            types = (*map(kind_of, args), *kwargs, *map(kind_of, kwargs.values()))
        form = self.passed.get(types)
        if form is None:
            meant = misfit(self.name, args, kwargs, self.method)
            if isinstance(meant, TypeError):
                raise meant
            own = args[self.method :]
            if meant.deprecated:
                rest, kwargs = modern(self.name, meant, self.ways, own, kwargs)
                return args[: self.method] + rest, kwargs
            form = meant
            if self.takes_dtype and type in types:
                args, kwargs = tuple(map(as_dtype, args)), {k: as_dtype(v) for k, v in kwargs.items()}
            elif not any(way.by_value(self.name, own, kwargs) for way in self.ways[: self.ways.index(form) + 1]):
                self.passed[types] = form
        if kwargs:
            args, kwargs = form.placed(args, kwargs, self.method)
            if not self.renamed.keys().isdisjoint(kwargs):
                kwargs = {self.renamed.get(k, k): v for k, v in kwargs.items()}
        return args, kwargs


@functools.cache
def checker(name: str, method: bool) -> Checker | None:
    """The checker of a function or method; None if its forms are not known."""
    return Checker(name, method) if forms(name, method) else None
