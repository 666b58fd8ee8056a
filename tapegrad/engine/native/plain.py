"""Kernels un-jitted: the names of kernel text over NumPy arrays, and whole kernels run by the interpreter on the same memory."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np

from tapegrad.engine.native import elements

OPERATIONS = {
    "where": np.where, "fabs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "nearest": np.rint, "sqrt": np.sqrt,
    "copysign": np.copysign, "fmod": np.fmod, "inf": np.inf,
}  # fmt: skip


REAL = {"float32": np.float32, "float64": np.float64, "complex64": np.float32, "complex128": np.float64, "int64": np.int64}


def namespace(dtype: str) -> dict:
    """Globals in which a formula of `dtype` runs on NumPy arrays."""
    space = dict(OPERATIONS, real=REAL.get(dtype, np.float64), wide=np.float64, pack=lambda x, y: x + 1j * y)
    from tapegrad.maths import complex as complex_maths
    from tapegrad.maths import library

    if dtype.startswith("complex"):
        return space | complex_maths.PLAIN
    maths = library.plain("float32" if dtype == "float32" else "float64")  # lazy: a merge of dicts would lose its entries
    space.update({name: maths[name] for name in (*library.UNARY, *library.BINARY)})
    helpers = elements._HELPERS["float" if dtype.startswith("float") else "int"]
    for name, function in helpers.items():
        own = types.FunctionType(function.__code__, dict(OPERATIONS), name)
        # A loop over bits has a length per element.
        space[name] = np.vectorize(own, otypes=[dtype]) if name == "integer_power" else own
    return space


# --- whole kernels ------------------------------------------------------------------------------------------------------
def kernel(text: str, dtype: str, result: str, extra=()):
    """`kernel(args, start, stop)` of a text kernel, run by the interpreter: it takes the same addresses as the compiled one."""
    space = namespace(dtype) | {
        "load_i64": lambda address: ctypes.c_int64.from_address(int(address)).value,
        "store_i64": lambda address, value: setattr(ctypes.c_int64.from_address(int(address)), "value", int(value)),
        "copy_bytes": lambda target, source, count: ctypes.memmove(int(target), int(source), int(count)),
        "where": lambda c, a, b: a if c else b,
    }
    space["wide"] = np.float64 if result.startswith("float") else np.int64
    for name in {dtype, result, *extra, "bool", "float64", "float32", "int64"}:
        space[f"get_{name}"], space[f"put_{name}"] = _element(name)
    exec(text, space)
    return space["kernel"]


def _element(name: str):
    kind: np.dtype = np.dtype(name)

    def place(base: int, index: int) -> np.ndarray:
        memory: Any = (ctypes.c_char * kind.itemsize).from_address(base + index * kind.itemsize)
        return np.frombuffer(memory, kind)

    def get(base, index):
        return place(int(base), int(index))[0]

    def put(base, index, value):
        place(int(base), int(index))[0] = value

    return get, put
