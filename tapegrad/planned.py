"""The call cache: which functions and methods it serves, and how Python teaches it.

A served call runs no Python frame once its plan is known (`engine/native/calls.py`).  The first call with new arguments arrives here:
the Python form runs, and if its result is exactly what one plan made of the call's own tensors, the cache learns that.
A function that gives the same plan a different result from call to call must not be served.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from tapegrad import callables, core, geometry
from tapegrad.engine import bind, layout
from tapegrad.engine.native_codes import INPLACE, NUMBER_LAST, NUMBERS, VOID_RESULT
from tapegrad.ops import plan as plans
from tapegrad.ops import table
from tapegrad.ops.public import FUNCTIONS, METHODS
from tapegrad.ops.registry import BY_CODE, Elementwise
from tapegrad.overriding import state

SERVED: dict[str, int] = dict.fromkeys(
    (
        "sum", "mean", "amax", "amin", "t", "reshape", "view", "flatten", "unsqueeze", "squeeze", "transpose", "permute", "select", "narrow",
        "expand", "diagonal", "conj", "__getitem__", "matmul", "__matmul__", "mm", "mv", "dot", "bmm", "addmm",
        "max", "min", "argmax", "argmin", "any", "all", "prod", "logsumexp", "softmax", "log_softmax", "cumsum", "cumprod", "norm", "std", "var",
        "cat", "stack", "unbind", "split", "chunk", "flip", "roll", "clone", "contiguous", "tril", "triu",
        "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "arange", "linspace", "tensor", "new_zeros", "new_ones",
        "new_full", "gather", "scatter", "scatter_add", "index_select", "index_add",
    ),
    0,
) | dict.fromkeys(("where", "clamp", "masked_fill", "lerp"), NUMBERS) | dict.fromkeys(("clamp_", "masked_fill_", "lerp_"), INPLACE | NUMBERS) | dict.fromkeys(
    ("scatter_", "scatter_add_", "index_add_", "cumsum_", "cumprod_", "tril_", "triu_", "copy_", "zero_"), INPLACE
) | {"fill_": INPLACE | NUMBERS, "__setitem__": INPLACE | NUMBER_LAST | VOID_RESULT}
# name -> flags of its thunk

_pins: dict[int, object] = {}  # row of the cache -> objects whose addresses stand in its key
_kept: list = []  # Python callables whose addresses compiled code holds


SCALED = ("add", "sub")  # elementwise ops whose complete forms are served too, for alpha=


@functools.cache
def served() -> list[tuple[str, str, Callable, int]]:
    """(kind, name, Python callable, flags), a number of the cache each: "m" a method, "f" a function, "complete_..." a form of an elementwise op."""
    table.load()
    result: list[tuple] = []
    for kind, found in (("m", METHODS), ("f", FUNCTIONS)):
        bodies: dict[object, list[str]] = {}  # of one function, the names
        for name, callable_ in found.items():
            bodies.setdefault(body_of(callable_), []).append(name)
        for name, flags in SERVED.items():
            if name in found:
                result += [(kind, alias, found[alias], flags) for alias in bodies[body_of(found[name])]]
    for op, kind, name in elementwise_forms():
        if op.name in SCALED and kind in "fmi":
            result.append(("complete_" + kind, name, callables.complete(op, kind, name), NUMBERS | INPLACE * (kind == "i")))
    return result


def body_of(callable_):
    """The function that a public name is one of the names of."""
    return getattr(callable_, "__wrapped__", callable_)


@functools.cache
def elementwise_forms() -> list[tuple[Elementwise, str, str]]:
    """The forms of all ops that compiled code serves; their places are the numbers that thunks pass."""
    table.load()
    return [(op, *form) for op in BY_CODE if isinstance(op, Elementwise) and len(op.inputs) <= 2 for form in op.forms()]


def function_names() -> set[str]:
    """The functions of the package that the cache serves."""
    return {name for kind, name, _, _ in served() if kind == "f"}


def thunks() -> dict[str, tuple[str, int]]:
    """Symbol -> (compiled entry point, code) of every thunk."""
    return {f"{kind}_planned_{name}": ("tg_planned", number | flags) for number, (kind, name, _, flags) in enumerate(served())}


def operands_of(values, code: int) -> list:
    """The operands among arguments: tensors, and the numbers that the flags in `code` count; in the order of compiled code."""
    found: list = []
    for k, value in enumerate(values):
        number = code & NUMBERS or (code & NUMBER_LAST and k == len(values) - 1)
        if hasattr(value, "_slot") or (number and type(value) in (int, float)):
            found.append(value)
        elif type(value) in (tuple, list, geometry.Size):
            found += operands_of(value, NUMBERS if number else 0)
    return found


def strings_of(values) -> list:
    found = []
    for value in values:
        if type(value) is str:
            found.append(value)
        elif type(value) in (tuple, list):
            found += strings_of(value)
    return found


def teaching(callable_, code: int):
    """The Python form of a served callable, which teaches the cache the plan that it ends up with."""
    thread = bind.state_cell("teaching")

    def run(*args, **kwargs):
        mine, outer = core.thread_id(), thread.value
        try:  # from here on: an interruption may come with any call
            thread.value = mine
            plans.forget_last()  # what an earlier call did to the same tensor is no answer to this one
            result = callable_(*args, **kwargs)
        finally:
            thread.value = outer if outer == mine else 0  # never another thread's, which may be through by now
        values = (*args, *kwargs.values())
        if state.modes:
            return result  # of a mode, which another call may not ask
        plan = plans.answered(args[0] if code & VOID_RESULT else result, operands_of(values, code))
        if plan is not None:
            names = tuple(kwargs)
            plans.remember(plan, lambda: pinned(core.remember_call(code, values, names, plan.address), (names, *strings_of(values))))
        return result

    return run


def pinned(row: int, objects) -> None:
    if row >= 0:
        _pins[row] = objects


def slow_calls():
    """The table of the Python callables, by number of the call."""
    return (ctypes.c_int64 * layout.METHODS).from_address(bind.state_cell("calls").value + layout.CALL_ROWS * layout.CALL.size)


def start(engine, owner, functions: dict) -> None:
    """Hang the served callables on the class `owner` and in `functions`."""
    slow = slow_calls()
    forms = (ctypes.c_int64 * layout.FORMS).from_address(bind.state_cell("forms").value)
    for number, (kind, name, callable_, flags) in enumerate(served()):
        python = teaching(callable_, number | flags)
        _kept.append(python)
        slow[number] = id(python)
        doc = f"{name}({'$self' if kind == 'm' else '$module'}, *args, **kwargs)\n--\n\n{callable_.__doc__ or ''}"
        if kind == "m":
            setattr(owner, name, engine.method(owner, f"m_planned_{name}", name, doc))
        elif kind == "f":
            functions[name] = engine.function(f"f_planned_{name}", name, doc, keywords=True)
    taught = thunks()
    for number, (op, kind, name) in enumerate(elementwise_forms()):
        symbol = f"complete_{kind}_planned_{name}"
        python = engine.function(symbol, name, keywords=True) if symbol in taught else callables.complete(op, kind, name)
        _kept.append(python)
        forms[number] = id(python)
