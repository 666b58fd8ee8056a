"""The public names: which functions the package has and which methods Tensor has, each registered where it is written.

`@function()` makes a function of the package; `@function(method=True)` a method as well; `@method()` only a method.
"""

from __future__ import annotations

FUNCTIONS: dict[str, object] = {}
METHODS: dict[str, object] = {}


def function(method: bool = False, name: str | None = None, aliases: tuple[str, ...] = ()):
    """Register a function of the package, and with `method` of Tensor too."""

    def register(f):
        for public in (name or f.__name__, *aliases):
            FUNCTIONS[public] = f
            if method:
                METHODS[public] = f
        return f

    return register


def method(name: str | None = None, aliases: tuple[str, ...] = ()):
    """Register a method of Tensor."""

    def register(f):
        for public in (name or f.__name__, *aliases):
            METHODS[public] = f
        return f

    return register
