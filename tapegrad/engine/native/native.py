"""`@native`: the one decorator that compiles engine functions.

A native function is written in Python over int64 and float64, calls other native functions by name, and becomes the C symbol
`tg_<name>`.  `registry` keeps them in definition order; `lowering.py` translates all into one module.  Inside another
native function the name is a call of the symbol, and LLVM inlines within the module.
"""

from __future__ import annotations

from tapegrad.engine.native.pointers import F64, I64, VOID, SlotPointer, StatePointer, external

KINDS = {"i": I64, "f": F64, "v": VOID, "S": StatePointer, "L": SlotPointer}
registry: dict[str, tuple] = {}  # name -> (function, result, arguments, reassociate)


def native(signature: str, reassociate: bool = False):
    """Compile as the C function `tg_<name>`; `signature` is result then arguments, one letter each: i int64, f float64, v void,
    S pointer to the state, L pointer to a slot row.

    `reassociate` lets a reduction's sum be vectorised.
    """
    result, *arguments = (KINDS[letter] for letter in signature)

    def register(function):
        registry[function.__name__] = (function, result, arguments, reassociate)
        return external("tg_" + function.__name__, result, *arguments)

    return register
