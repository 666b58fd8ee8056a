"""The call cache: which functions and methods it serves, and how Python teaches it.

A served call runs no Python frame once its plan is known (`engine/native/calls.py`).  The first call with new arguments arrives here:
the Python form runs, and if its result is exactly what one plan made of the call's own tensors, the cache learns that.
A function that gives the same plan a different result from call to call must not be served.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from inspect import getattr_static

from tapegrad import callables, cautions, core, geometry, modes, overriding
from tapegrad.engine import bind, layout
from tapegrad.engine.native_codes import INPLACE, NUMBER_LAST, NUMBERS, VOID_RESULT
from tapegrad.ops import chains, table
from tapegrad.ops import plan as plans
from tapegrad.ops.chain_plans import chain_plan
from tapegrad.ops.public import FUNCTIONS, METHODS
from tapegrad.ops.registry import BY_CODE, Elementwise
from tapegrad.tensor import Tensor

SERVED: dict[str, int] = dict.fromkeys(
    (
        "sum", "mean", "amax", "amin", "t", "reshape", "view", "flatten", "unsqueeze", "squeeze", "transpose", "permute", "select", "narrow",
        "expand", "diagonal", "conj", "__getitem__", "matmul", "__matmul__", "mm", "mv", "dot", "bmm", "addmm",
        "max", "min", "argmax", "argmin", "any", "all", "prod", "logsumexp", "softmax", "log_softmax", "cumsum", "cumprod", "norm", "std", "var",
        "cat", "stack", "unbind", "split", "chunk", "flip", "roll", "clone", "contiguous", "tril", "triu",
        "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "arange", "linspace", "tensor", "new_zeros", "new_ones",
        "new_full", "gather", "scatter", "scatter_add", "index_select", "index_add",
        "hstack", "vstack", "dstack", "column_stack", "swapaxes", "movedim", "adjoint", "rot90", "fliplr", "flipud", "tile", "repeat",
        "repeat_interleave", "broadcast_to", "expand_as", "view_as", "reshape_as", "unflatten", "ravel", "atleast_1d", "atleast_2d", "atleast_3d",
        "unfold", "meshgrid", "tensor_split", "hsplit", "vsplit", "dsplit", "double", "float", "half", "bfloat16", "int",
        "long", "short", "bool", "char", "byte", "trace", "diag", "diag_embed", "vdot", "inner", "outer", "addmv", "addr", "baddbmm",
        "addbmm", "tensordot", "einsum", "kron", "chain_matmul", "matrix_power", "trapezoid", "cumulative_trapezoid", "diff", "cov",
        "isclose", "std_mean", "var_mean", "nansum", "nanmean", "count_nonzero", "aminmax", "renorm", "dist",
        "clip", "addcmul", "addcdiv", "logspace", "scalar_tensor", "new_tensor", "sort", "argsort", "topk", "msort", "median", "nanmedian", "kthvalue",
        "as_tensor", "block_diag", "cartesian_prod", "vander", "view_as_real", "view_as_complex", "cdist", "cholesky", "unsafe_chunk", "unsafe_split",
    ),
    0,
) | dict.fromkeys(("where", "clamp", "masked_fill", "lerp"), NUMBERS) | dict.fromkeys(("clamp_", "masked_fill_", "lerp_"), INPLACE | NUMBERS) | dict.fromkeys(
    ("scatter_", "scatter_add_", "index_add_", "cumsum_", "cumprod_", "tril_", "triu_", "copy_", "zero_"), INPLACE
) | {"fill_": INPLACE | NUMBERS, "__setitem__": INPLACE | NUMBER_LAST | VOID_RESULT}
# name -> flags of its thunk

ON_TENSOR = ("to", "type_as")  # methods that the class itself has
IN_MODULES = {
    "nn.functional": (
        "linear bilinear softmax softmin log_softmax mse_loss l1_loss smooth_l1_loss huber_loss kl_div binary_cross_entropy "
        "binary_cross_entropy_with_logits nll_loss cross_entropy poisson_nll_loss gaussian_nll_loss soft_margin_loss hinge_embedding_loss "
        "margin_ranking_loss cosine_embedding_loss triplet_margin_loss cosine_similarity normalize pairwise_distance rms_norm "
        "glu gelu logsigmoid softplus hardtanh softsign tanhshrink pixel_shuffle pixel_unshuffle"
    ).split(),
    "linalg": "norm vector_norm matrix_norm cholesky multi_dot matrix_power vecdot diagonal vander".split(),
}  # module -> functions
_modules: dict[str, tuple[dict, dict]] = {}  # module -> (its namespace, the Python forms of the functions in it)

_pins: dict[int, object] = {}  # row of the cache -> objects whose addresses stand in its key
_kept: list = []  # Python callables whose addresses compiled code holds


@functools.cache
def served() -> list[tuple[str, str, Callable, int]]:
    """(kind, name, Python callable, flags), a number of the cache each: "m" a method, "f" a function, "complete_..." a form of an elementwise op."""
    table.load()
    result: list[tuple] = []
    result += [("m", name, getattr_static(Tensor, name), 0) for name in ON_TENSOR]
    for kind, found in (("m", METHODS), ("f", FUNCTIONS)):
        bodies: dict[object, list[str]] = {}  # of one function, the names
        for name, callable_ in found.items():
            bodies.setdefault(body_of(callable_), []).append(name)
        for name, flags in SERVED.items():
            if name in found:
                result += [(kind, alias, found[alias], flags) for alias in bodies[body_of(found[name])]]
    result += [(module, name, functools.partial(late, module, name), 0) for module, names in IN_MODULES.items() for name in names]
    for op, kind, name in elementwise_forms():
        if "alpha" in op.keywords and kind in "fmi":  # complete forms
            result.append(("complete_" + kind, name, callables.complete(op, kind, name), NUMBERS | INPLACE * (kind == "i")))
    return result


def late(module: str, name: str, /, *args, **kwargs):
    """Call a function of a module, which has been imported: who else could have had the compiled form?"""
    namespace, forms = _modules[module]
    skip = overriding.state.skip
    found = overriding.met(args, kwargs)
    if found is not None:
        return overriding.handle(namespace[name], found, args, kwargs)
    overriding.state.skip = skip and module == "linalg"  # whose functions look once more
    return forms[name](*args, **kwargs)


def serve(module: str, namespace: dict) -> None:
    """Called by a module of `IN_MODULES` when it has been imported: put the compiled forms of its functions in place."""
    _modules[module] = namespace, {name: namespace[name] for name in IN_MODULES[module]}
    if core.started():
        hang(module)


def hang(module: str) -> None:
    namespace, found = _modules[module]
    for name, python in found.items():
        namespace[name] = core.engine.function(f"{module}_planned_{name}", name, description(name, python), keywords=True)


def started() -> None:
    """The engine runs."""
    for module in _modules:
        hang(module)


def description(name: str, python, first: str = "$module") -> str:
    """The docstring of a compiled function, in the form that tells its signature."""
    return f"{name}({first}, *args, **kwargs)\n--\n\n{python.__doc__ or ''}"


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


PATIENCE, RETRY = 8, 200  # how often a call is followed in vain, and how many calls pass until the next attempts


def teaching(callable_, code: int):
    """The Python form of a served callable, which teaches the cache the plan that it ends up with."""

    patience = PATIENCE

    def run(*args, **kwargs):
        nonlocal patience
        if patience <= 0:  # not for ever: what is taught depends on the arguments
            patience = PATIENCE - 1 if patience <= -RETRY else patience - 1
            return callable_(*args, **kwargs)
        outer = modes.word()
        values = (*args, *kwargs.values())
        operands = operands_of(values, code)
        tensors = [v for v in operands if hasattr(v, "_slot")]
        trail, before = None, cautions.count
        try:  # from here on: an interruption may come with any call
            modes.set_bits(modes.TEACHING, True)
            plans.forget_last()  # what an earlier call did to the same tensor is no answer to this one
            if not outer & modes.SLOW:
                trail = chains.begin(tensors)
            result = callable_(*args, **kwargs)
        finally:
            chains.end(trail)
            if not outer & modes.TEACHING:
                modes.set_bits(modes.TEACHING, False)
        if trail is None or overriding.state.modes or cautions.count != before:
            return result  # of a mode, which another call may not ask; or with a warning, which another call gives too
        plan = None
        if trail.holds(bool(code & INPLACE)):
            plan = plans.answered(args[0] if code & VOID_RESULT else result, operands)
            if plan is None and not code & INPLACE and len(tensors) == len(operands):
                plan = chain_plan(trail, result)
        patience = PATIENCE if plan is not None else patience - 1
        if plan is not None:
            names = tuple(kwargs)
            if code & INPLACE:
                plans.settled(tensors[0])  # a view that was written to is no operand until it has been looked up in its base again
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
        if kind == "m":
            setattr(owner, name, engine.method(owner, f"m_planned_{name}", name, description(name, callable_, "$self")))
        elif kind == "f":
            functions[name] = engine.function(f"f_planned_{name}", name, description(name, callable_), keywords=True)
    taught = thunks()
    for number, (op, kind, name) in enumerate(elementwise_forms()):
        symbol = f"complete_{kind}_planned_{name}"
        python = engine.function(symbol, name, keywords=True) if symbol in taught else callables.complete(op, kind, name)
        _kept.append(python)
        forms[number] = id(python)
