"""`tapegrad.special`: special functions, most of which are rows of `ops/special.py`; some are elementwise ops with kernels of their own."""

from __future__ import annotations

from tapegrad.ops.public import FUNCTIONS
from tapegrad.ops.registry import BY_CODE, Elementwise
from tapegrad.ops.special import SPECIAL
from tapegrad.ops.transformable import checked, under_name

# Compiled functions that are here too; they exist once the engine runs.
COMPILED = {name: name for name in ("round", "softmax", "log_softmax", "logsumexp")} | {
    alias[len("special.") :]: alias for op in BY_CODE if isinstance(op, Elementwise) for alias in op.aliases if alias.startswith("special.")
}

__all__ = sorted({*SPECIAL, *COMPILED})  # noqa: PLE0605


def compiled(name: str):
    from tapegrad import core, install

    core.start()
    return FUNCTIONS.get(name) or install.FUNCTIONS[name]


def __getattr__(name: str):
    if name in SPECIAL:
        return SPECIAL[name]
    if name in COMPILED:
        under = checked("special." + name) if "softmax" in name else lambda f: under_name(f, "special." + name)  # the softmaxes have no out= here
        globals()[name] = under(compiled(COMPILED[name]))
        return globals()[name]
    raise AttributeError(f"module 'tapegrad.special' has no attribute {name!r}")


def __dir__():
    return __all__
