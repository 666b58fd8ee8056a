"""How error messages name things."""

from __future__ import annotations

from tapegrad.tensor import Tensor


def typename(value) -> str:
    """The type of a value as messages have it: 'int', 'tapegrad.FloatTensor', 'tapegrad.nn.modules.linear.Linear'."""
    if isinstance(value, Tensor):
        return value.type()
    kind = value if isinstance(value, type) else type(value)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__builtin__", "", None) else f"{module}.{kind.__qualname__}"
