"""Loading the op table: the files of records, in the order that fixes the op codes."""

from __future__ import annotations


def load() -> None:
    """Import every file of records."""
    from tapegrad.ops import arithmetic, indexing, joining, linear, reductions, scans, strided, tensor_methods, transcendental, views  # noqa: F401
