"""Loading the op table: the files of records, in the order that fixes the op codes."""

from __future__ import annotations


def load() -> None:
    """Import every file of records."""
    from tapegrad.ops import (  # noqa: F401
        activations,
        arithmetic,
        choosing,
        complexes,
        determinants,
        diagonals,
        differences,
        einsum,
        extrema,
        factorizations,
        gathering,
        index_writes,
        indexing,
        joining,
        least_squares,
        linear,
        losses,
        matrices,
        norms,
        ordering,
        permuting,
        pieces,
        postponed,
        products,
        queries,
        rearranging,
        reductions,
        reflectors,
        reshaping,
        scans,
        scattering,
        short_time,
        softmaxes,
        solves,
        special,
        spectra,
        spellings,  # noqa: F401  (other names for functions of the files above)
        statistics,
        storages,
        strided,
        symmetric,
        tensor_methods,
        transcendental,
        variances,
        views,
    )
