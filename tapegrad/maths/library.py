"""What the rest of the package takes from here: the functions compiled for numba, the same over NumPy arrays, and their digest.

Use in a kernel builder::

    table = compiled("float64")            # lazy: a function is made when first asked for, compiled when a kernel calls it
    exp = table["exp"]                     # for i in range(start, stop): out[i] = exp(x[i])   vectorises

The entries of `UNARY` take one argument, those of `BINARY` two (`atan2(y, x)`, `pow(x, y)`). They have no wrapper for calls from
Python; they are for other compiled code only, and always inlined.

sin, cos and tan are right for |x| <= limit only, `FIXUP = {"sin": ("limit", limit), ...}`: an exact reduction of larger angles takes a
branch, which would stop the loop from vectorising. A kernel runs its cheap loop first, also noting whether any |x| > limit, and if so
a second, scalar one over the same elements::

    large = False
    for i in range(start, stop):
        large |= abs(x[i]) > limit
        out[i] = sin(x[i])
    if large:
        for i in range(start, stop):
            out[i] = sin_fixup(x[i], out[i])

`sin_fixup(x, y)` returns y where |x| <= limit (and where x is inf or NaN), sin(x) elsewhere. In a fused expression the second loop
evaluates the whole expression again with `sin_fixup(u, sin(u))` in place of `sin(u)`. `plain` does all that itself.
"""

from __future__ import annotations

import hashlib
import types
from functools import lru_cache
from importlib import import_module
from pathlib import Path

UNARY = (
    "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "sigmoid", "softplus", "erf", "erfc",
)
BINARY = ("atan2", "pow")
FIXUP = {name: ("limit", 1099511627776.0) for name in ("sin", "cos", "tan")}
_NAMES = frozenset(UNARY + BINARY + tuple(f"{name}_fixup" for name in FIXUP))
_DTYPES = ("float64", "float32")
# Contraction only (a * b + c in one rounding): reassociation would delete the rounding tricks, "no NaNs" the special cases.
_FASTMATH = {"contract"}


def _source(dtype: str):
    if dtype not in _DTYPES:
        raise ValueError(f"maths functions exist for {_DTYPES}, not for {dtype!r}")
    return import_module(f"tapegrad.maths.{dtype}")


class _Lazy(dict):
    """A mapping over `names` whose entries are made by `make(name)` when first read."""

    def __init__(self, make, names=_NAMES):
        super().__init__()
        self._make = make
        self._names = names

    def __missing__(self, name: str):
        if name not in self._names:
            raise KeyError(name)
        self[name] = made = self._make(name)
        return made

    def __contains__(self, name) -> bool:
        return name in self._names


@lru_cache(maxsize=None)
def _primitives() -> dict:
    from tapegrad.maths.primitives import compiled_primitives

    return compiled_primitives()


class _Compiler:
    """Makes numba functions of one source module, each over a namespace of compiled primitives and siblings."""

    def __init__(self, source):
        self.source = source
        self.made: dict = {}

    def function(self, name: str):
        if name not in self.made:
            from numba import njit

            original = getattr(self.source, name)
            namespace = {"__builtins__": __builtins__, "__name__": original.__module__}
            for used in original.__code__.co_names:
                if (value := self.resolve(used)) is not None:
                    namespace[used] = value
            rebound = types.FunctionType(original.__code__, namespace, name)
            # A fix-up is scalar and rarely reached: a call, not a copy in every kernel.
            self.made[name] = njit(
                forceinline=not name.endswith("_fixup"), error_model="numpy", fastmath=_FASTMATH,
                no_cpython_wrapper=True, no_cfunc_wrapper=True,
            )(rebound)
        return self.made[name]

    def resolve(self, name: str):
        primitives = _primitives()
        if name in primitives:
            return primitives[name]
        value = getattr(self.source, name, None)
        if isinstance(value, types.FunctionType):
            return _compiler(value.__module__.rpartition(".")[2]).function(value.__name__)
        return value


@lru_cache(maxsize=None)
def _compiler(dtype: str) -> _Compiler:
    return _Compiler(_source(dtype))


@lru_cache(maxsize=None)
def compiled(dtype: str) -> dict:
    """Name -> numba function of scalars of `dtype`, for calls from other numba code."""
    return _Lazy(_compiler(dtype).function)


@lru_cache(maxsize=None)
def plain(dtype: str) -> dict:
    """Name -> the same function over NumPy arrays or scalars, returning arrays of `dtype`; without numba, for any angle."""
    import numpy as np

    source = _source(dtype)

    def make(name: str):
        function = getattr(source, name)
        fixup = getattr(source, f"{name}_fixup", None)

        def call(*arguments):
            arrays = [np.asarray(argument, dtype) for argument in arguments]
            with np.errstate(all="ignore"):
                result = np.asarray(function(*arrays))
                if fixup is not None:
                    large = np.isfinite(arrays[0]) & (np.abs(arrays[0]) > FIXUP[name][1])
                    if large.any():
                        result = result.copy()
                        result[large] = [fixup(x, y) for x, y in zip(arrays[0][large], result[large])]
            return result

        call.__name__, call.__doc__ = name, function.__doc__
        return call

    return _Lazy(make)


@lru_cache(maxsize=None)
def source_digest() -> str:
    """sha256 of this package's sources: part of the key of anything cached that was compiled from them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
