"""The named tuples in which functions return several results: `isinstance(x.max(0), tapegrad.return_types.max)`."""

from __future__ import annotations

from typing import Any

from tapegrad.ops.outputs import RETURN_TYPES


def __getattr__(name: str) -> Any:
    try:
        return RETURN_TYPES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted(RETURN_TYPES)
