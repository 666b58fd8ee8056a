"""The public names: which functions the package has and which methods Tensor has, each registered where it is written.

`@function()` makes a function of the package; `@function(method=True)` a method as well; `@method()` only a method.  All of them are
transformable (`ops/transformable.py`), with the rules given as `batch` and `linear`, except those marked `tensors=False`, which make tensors
from other things, or see to transforms themselves.
"""

from __future__ import annotations

from tapegrad.ops.transformable import explained, transformable


class Names(dict):
    """Public callables by name; whatever is put in becomes transformable."""

    def __setitem__(self, name: str, f) -> None:
        super().__setitem__(name, f if hasattr(f, "batch") or not callable(f) else transformable(writes=is_write(name), name=name, method=self is METHODS)(f))


FUNCTIONS: dict[str, object] = Names()
METHODS: dict[str, object] = Names()


def function(method: bool = False, name: str | None = None, aliases: tuple[str, ...] = (), batch=None, linear=(), tensors: bool = True):
    """Register a function of the package, and with `method` of Tensor too."""

    def register(f):
        public_f = made_public(f, batch, linear, False, tensors, name or f.__name__, False)
        for public in (name or f.__name__, *aliases):
            FUNCTIONS[public] = public_f
            if method:
                METHODS[public] = public_f
        return public_f

    return register


def method(name: str | None = None, aliases: tuple[str, ...] = (), batch=None, linear=(), tensors: bool = True):
    """Register a method of Tensor."""

    def register(f):
        public_f = made_public(f, batch, linear, is_write(name or f.__name__), tensors, name or f.__name__, True)
        for public in (name or f.__name__, *aliases):
            METHODS[public] = public_f
        return public_f

    return register


def made_public(f, batch, linear, writes: bool, tensors: bool, name: str, method: bool):
    if hasattr(f, "batch"):
        return f
    if tensors:
        return transformable(batch, linear, writes, name, method)(f)
    public_f = explained(name, method)(f)
    public_f.batch = None  # it sees to transforms itself, or has nothing to do with them
    return public_f


def is_write(name: str) -> bool:
    """Whether the method of that name changes its tensor."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
