"""Loading the op table: the files of records, in the order that fixes the op codes."""

from __future__ import annotations


def load() -> None:
    """Import every file of records."""
    from tapegrad.ops import (  # noqa: F401
        activations,
        arithmetic,
        complexes,
        differences,
        extrema,
        factorizations,
        indexing,
        joining,
        linear,
        losses,
        matrices,
        norms,
        ordering,
        products,
        rearranging,
        reductions,
        scans,
        scattering,
        solves,
        special,
        statistics,
        strided,
        tensor_methods,
        transcendental,
        variances,
        views,
    )
