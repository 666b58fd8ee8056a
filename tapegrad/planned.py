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
from tapegrad.ops.arguments import check_keywords
from tapegrad.ops.public import FUNCTIONS, METHODS
from tapegrad.ops.registry import BY_NAME, Elementwise

SERVED: dict[str, int] = dict.fromkeys(
    (
        "sum", "mean", "amax", "amin", "t", "reshape", "view", "flatten", "unsqueeze", "squeeze", "transpose", "permute", "select", "narrow",
        "expand", "diagonal", "__getitem__", "matmul", "__matmul__", "mm", "mv", "dot", "bmm", "addmm",
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
def served() -> list[tuple[str, Callable, list[str], list[str], int]]:
    """(symbol of the thunk, Python callable, its names as a method, its names as a function, flags), a number of the cache each."""
    table.load()
    result: dict[object, tuple] = {}
    for name, flags in SERVED.items():
        for form, found in (("m", METHODS), ("f", FUNCTIONS)):
            callable_ = found.get(name)
            if callable_ is not None and callable_ not in result:
                methods = [n for n, f in METHODS.items() if f is callable_]
                functions = [n for n, f in FUNCTIONS.items() if f is callable_]
                result[callable_] = (f"{form}_planned_{name}", callable_, methods, functions, flags)
    for name in SCALED:
        op = BY_NAME[name]
        assert isinstance(op, Elementwise)
        for make, field, flags in ((callables.function, "slow", NUMBERS), (callables.inplace_function, "slow_inplace", NUMBERS | INPLACE)):
            result[name, field] = (f"{field}_{name}", make(op), [], [], flags)
    return list(result.values())


def function_names() -> set[str]:
    """The functions of the package that the cache serves."""
    return {name for _, _, _, functions, _ in served() for name in functions}


def thunks() -> dict[str, tuple[str, int]]:
    """Symbol -> (compiled entry point, code) of every thunk."""
    return {symbol: ("tg_planned", number | flags) for number, (symbol, _, _, _, flags) in enumerate(served())}


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

    @functools.wraps(callable_)
    def run(*args, **kwargs):
        if kwargs:
            check_keywords(callable_.__name__, args, kwargs)
        mine, outer = core.thread_id(), thread.value
        thread.value = mine
        plans.forget_last()  # what an earlier call did to the same tensor is no answer to this one
        try:
            result = callable_(*args, **kwargs)
        finally:
            thread.value = outer if outer == mine else 0  # never another thread's, which may be through by now
        values = (*args, *kwargs.values())
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
    rows = layout.OP.view(bind.state_cell("ops").value, bind.OPS)
    for number, (symbol, callable_, method_names, function_names, flags) in enumerate(served()):
        python = teaching(callable_, number | flags)
        _kept.append(python)
        slow[number] = id(python)
        doc = f"{callable_.__name__}({{}}, *args, **kwargs)\n--\n\n{callable_.__doc__ or ''}"
        for name in method_names:
            setattr(owner, name, engine.method(owner, symbol, name, doc.replace("{}", "$self", 1)))
        for name in function_names:
            functions[name] = engine.function(symbol, name, doc.replace("{}", "$module", 1), keywords=True)
        field, _, name = symbol.rpartition("_")
        if field in layout.OP.offset:
            complete = engine.function(symbol, name, keywords=True)
            _kept.append(complete)
            rows[field][BY_NAME[name].code] = id(complete)
