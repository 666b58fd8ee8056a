"""The names of kernel text over NumPy arrays: what `kernels.plain` evaluates a formula in."""

from __future__ import annotations

import types

import numpy as np

from tapegrad.engine.native import elements

OPERATIONS = {
    "where": np.where, "fabs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "nearest": np.rint, "sqrt": np.sqrt,
    "copysign": np.copysign, "fmod": np.fmod, "inf": np.inf,
}  # fmt: skip


def namespace(dtype: str) -> dict:
    """Globals in which a formula of `dtype` runs on NumPy arrays."""
    space = dict(OPERATIONS, real=getattr(np, dtype, np.float64), wide=np.float64)
    from tapegrad.maths import library

    maths = library.plain("float32" if dtype == "float32" else "float64")  # lazy: a merge of dicts would lose its entries
    space.update({name: maths[name] for name in (*library.UNARY, *library.BINARY)})
    helpers = elements._HELPERS["float" if dtype.startswith("float") else "int"]
    for name, function in helpers.items():
        own = types.FunctionType(function.__code__, dict(OPERATIONS), name)
        # A loop over bits has a length per element.
        space[name] = np.vectorize(own, otypes=[dtype]) if name == "integer_power" else own
    return space
