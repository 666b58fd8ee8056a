"""The public names: which functions the package has and which methods Tensor has, each registered where it is written.

`@function()` makes a function of the package; `@function(method=True)` a method as well; `@method()` only a method.  All of them are
transformable (`ops/transformable.py`), with the rules given as `batch` and `linear`, except those marked `tensors=False`, which make tensors
from other things, or see to transforms themselves.
"""

from __future__ import annotations

from tapegrad.ops.transformable import checked, module_of, transformable


class Names(dict):
    """Public callables by name; whatever is put in becomes transformable."""

    def __setitem__(self, name: str, f) -> None:
        super().__setitem__(name, made_public(f, name, self is METHODS) if callable(f) else f)


FUNCTIONS: dict[str, object] = Names()
METHODS: dict[str, object] = Names()


def function(method: bool = False, name: str | None = None, aliases: tuple[str, ...] = (), batch=None, linear=(), tensors: bool = True):
    """Register a function of the package, and with `method` of Tensor too."""

    def register(f):
        names = (name or f.__name__, *aliases)
        for public in names:
            for place in (FUNCTIONS, METHODS)[: 1 + method]:
                place[public] = made_public(f, public, place is METHODS, batch, linear, tensors)
        return FUNCTIONS[names[0]]

    return register


def method(name: str | None = None, aliases: tuple[str, ...] = (), batch=None, linear=(), tensors: bool = True):
    """Register a method of Tensor."""

    def register(f):
        names = (name or f.__name__, *aliases)
        for public in names:
            METHODS[public] = made_public(f, public, True, batch, linear, tensors)
        return METHODS[names[0]]

    return register


def made_public(f, name: str, method: bool, batch=None, linear=(), tensors: bool = True):
    """The callable that the public has as `name`: one for each name, as its errors say how it was called."""
    if getattr(f, "public", None) == (name, method):
        return f
    if not tensors or (hasattr(f, "public") and not hasattr(f, "linear")):
        public_f = checked(name, method)(getattr(f, "__wrapped__", f) if hasattr(f, "public") else f)
        public_f.batch, public_f.public = None, (name, method)  # it sees to transforms itself, or has nothing to do with them
    elif hasattr(f, "linear"):  # transformable already: the same under another name
        public_f = transformable(f.batch, f.linear, is_write(name), name, method)(f.__wrapped__)
    else:
        public_f = transformable(batch, linear, is_write(name), name, method)(f)
    if not method:
        public_f.__module__ = module_of(name)
    return public_f


def is_write(name: str) -> bool:
    """Whether the method or function of that name changes its tensor."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
