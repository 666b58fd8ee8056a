"""Hanging the compiled fast paths on Tensor and on the package, from the op table.

Which thunks there are follows from the records: one per elementwise op and form (function or method, operator, reflected, in place).
"""

from __future__ import annotations

import ctypes
import functools
import sys
from inspect import getattr_static

from tapegrad import core, dispatch, dtypes, geometry, kernels, planned
from tapegrad.engine import bind, layout
from tapegrad.engine.bind import Handle
from tapegrad.engine.native_codes import FORM, INPLACE, REFLECTED
from tapegrad.nn_parameter import Parameter
from tapegrad.ops import checks, postponed, table
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import BY_CODE, BY_NAME, Elementwise
from tapegrad.ops.transformable import checked, under_name
from tapegrad.tensor import Tensor

_kept: list = []  # Python callables whose addresses compiled code holds
FUNCTIONS: dict[str, object] = {}  # public functions with a compiled fast path


class _Private:
    """Compiled functions that are not public names of the package, as attributes; the first one asked for starts the engine."""

    def __getattr__(self, name):
        if name.startswith("_") or name in self.__dict__:
            raise AttributeError(name)
        core.start()
        return self.__dict__[name]


NN = _Private()  # of `nn.functional`


def elementwise_ops() -> list[Elementwise]:
    table.load()
    return [op for op in BY_CODE if isinstance(op, Elementwise)]


# Methods that are functions of the package as well, as in torch: those that write to their tensor, and a few others.
METHODS_AS_FUNCTIONS = (
    "abs_ acos_ acosh_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_ asinh_ atan_ atanh_ ceil_ clamp_ clamp_max_ clamp_min_ "
    "conj_physical_ cos_ cosh_ deg2rad_ detach_ erf_ erfc_ exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ index_put_ lcm_ log10_ log1p_ "
    "log2_ log_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ resize_as_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ "
    "tan_ tanh_ trunc_ xlogy_ zero_ detach is_signed"
).split()


def thunks() -> dict[str, tuple[str, int]]:
    """Symbol -> (compiled entry point, code) of every thunk."""
    result = {}
    for number, (op, kind, name) in enumerate(planned.elementwise_forms()):
        flags = INPLACE if kind in "ia" else REFLECTED if kind == "r" else 0
        result[f"{kind}_{name}"] = ("tg_unary" if len(op.inputs) == 1 else "tg_binary", op.code | flags | number << FORM)
    result |= planned.thunks()
    result["backward"] = ("tg_backward", 0)
    result |= {"call_" + name: ("tg_call_" + name, layout.METHODS - 1 - k) for k, name in enumerate(bind.CALLS)}
    return result


def probe_offsets() -> None:
    """Where CPython keeps the Python slots that compiled code fills for views."""
    probe = Handle.__new__(Tensor)  # type: ignore[call-overload]  # mypy takes the metaclass's
    for field, name in (("parent_offset", "_parent_object"), ("plan_offset", "_plan_object"), ("base_offset", "_base_object"), ("grad_offset", "_grad_object")):
        mark = object()
        setattr(probe, name, mark)
        words = (ctypes.c_size_t * (Tensor.__basicsize__ // 8)).from_address(id(probe))
        bind.state_cell(field).value = list(words).index(id(mark)) * 8


def fill_rows() -> None:
    """Tell compiled code about every op."""
    rows = layout.OP.view(bind.state_cell("ops").value, bind.OPS)
    for op in elementwise_ops():
        row = rows[op.code]
        retypes = op.result in ("real", "complex")  # computed by Python's dispatcher only
        converts = op.result not in (None, "bool") and not retypes
        row["family"] = layout.STRUCTURAL if converts or retypes else layout.ELEMENTWISE
        row["inputs"] = len(op.inputs)
        row["result"] = -1 if op.result is None or retypes else dtypes.BY_NAME[op.result].code
        row["mask"] = op.mask
        row["kinds"] = 0 if retypes else sum(1 << d.code for d in dtypes.BY_CODE if d.kind in op.kinds)
        row["cost"] = op.cost
        row["scalars"] = sum(1 << k for k, name in enumerate("xy") if name in op.scalars)
        row["renamed"] = bool(op.written_by)
        row["checked"] = op.check is checks.nonzero_divisor
        reads, rules = [0] * 4, [0] * 4
        names = [*op.inputs, "out"]
        for k, text in enumerate(op.grads):
            if text is None or (converts and not dtypes.BY_NAME[str(op.result)].differentiable):
                rule = layout.DERIVATIVE_NONE
            elif text == "g" and not op.grads_complex:
                rule = layout.DERIVATIVE_SAME
            elif text == "0" and not op.grads_complex:
                rule = layout.DERIVATIVE_ZERO
            else:
                rule = layout.DERIVATIVE_KERNEL
            rules[k] = rule
            reads[k] = sum(1 << j for j, name in enumerate(names) if name in op.reads(k))
        rules[3] = int(any(rules[:3]))
        row["reads"], row["rule"] = reads, rules


def need_kernel(code: int, dtype_code: int, which: int) -> None:
    """Compile and load a kernel; called by compiled code at its first use."""
    op, dtype = BY_CODE[code], dtypes.BY_CODE[dtype_code]
    assert isinstance(op, Elementwise)
    address = kernels.load_kernel(op, dtype, which)
    rows = layout.OP.view(bind.state_cell("ops").value, bind.OPS)
    if which == 0:
        rows["forward"][code, dtype_code] = address
    else:
        rows["derivative"][code, (which - 1) * layout.DTYPES + dtype_code] = address


def signature(op: Elementwise, method: bool) -> str:
    names = list(op.parameters)
    names = ["$self", *names[1:]] if method else ["$module", *names]
    return f"{op.name}({', '.join(names)}, /)\n--\n\n"


CHECKS = ("", "was written past its end", "was changed by a kernel that only reads it", "holds elements that no kernel has written")


def check_failed(what: int, slot: int) -> None:
    """Called in checking mode (TAPEGRAD_CHECK=1) when a kernel has done what it must not."""
    g = core.get_field(slot, core.GEOMETRY)
    raise RuntimeError(f"TAPEGRAD_CHECK: slot {slot}, a tensor of shape {list(geometry.shapes[g])}, {CHECKS[what]}")


def resume(status: int, before: int) -> None:
    """Go on with a backward that compiled code began."""
    from tapegrad.autograd.engine import Sweep

    Sweep(False, False).resume(status, before)


def resume_gradients(status: int, before: int, inputs: tuple) -> tuple:
    """Go on with an `autograd.grad` that compiled code began."""
    from tapegrad.autograd.engine import Sweep

    return tuple(Sweep(False, False).resume(status, before, [x._slot for x in inputs]))


def hang_attributes(engine) -> None:
    """The attributes and small methods of Tensor in compiled form; Python's own complete what these do not know."""
    for name in bind.GETTERS:
        setattr(Tensor, name, engine.attribute(Tensor, name, getattr_static(Tensor, name)))
    slow = planned.slow_calls()
    for k, name in enumerate(bind.CALLS):
        name = "__len__" if name == "len" else name
        python = getattr_static(Tensor, name)
        complete = checked(name, method=True)(python)
        _kept.append(complete)
        slow[layout.METHODS - 1 - k] = id(complete)
        code = python.__code__
        arguments = [n + "=None" for n in code.co_varnames[1 : code.co_argcount]] + ["*args", "**kwargs"] * bool(code.co_kwonlyargcount)
        for alias in [n for part in Tensor.__mro__ for n, f in vars(part).items() if f is python]:
            doc = f"{alias}({', '.join(['$self', *arguments])})\n--\n\n{python.__doc__ or ''}"
            setattr(Tensor, alias, engine.method(Tensor, f"call_{bind.CALLS[k]}", alias, doc))


def start(engine) -> None:
    """Everything that must wait for the compiled engine."""
    plans.PLAIN.update((Tensor, Parameter))
    fill_rows()
    for field, callable_ in (
        ("need_kernel", need_kernel),
        ("need_broadcast", geometry.fill_broadcast),
        ("assign_postponed", postponed.assign),
        ("raise_memory", dispatch.raise_failed_allocation),
        ("check_failed", check_failed),
        ("slow_backward", Tensor.backward),
        ("resume_backward", resume),
        ("resume_gradients", resume_gradients),
    ):
        _kept.append(callable_)
        bind.state_cell(field).value = id(callable_)
    bind.state_cell("tensor_type").value = id(Tensor)
    bind.state_cell("parameter_type").value = id(Parameter)
    bind.state_cell("size_type").value = id(geometry.Size)
    bind.state_cell("dtype_type").value = id(dtypes.dtype)
    bind.state_cell("power").value = BY_NAME["pow"].code
    bind.state_cell("power_first").value = BY_NAME["pow_0"].code
    bind.state_cell("multiply").value = BY_NAME["mul"].code
    bind.state_cell("add").value = BY_NAME["add"].code
    for field, name in (("conjugate", "conj_physical_op"), ("negate", "neg"), ("carry_out", "carried_out_op")):
        bind.state_cell(field).value = BY_NAME[name].code
    bind.state_cell("convert").value = BY_NAME["to_float32"].code
    probe_offsets()
    planned.start(engine, Tensor, FUNCTIONS)
    hang_attributes(engine)
    backward = engine.method(Tensor, "backward", "backward", f"backward($self, *args, **kwargs)\n--\n\n{Tensor.backward.__doc__}")
    Tensor.backward = backward  # type: ignore[method-assign]
    for op, kind, name in planned.elementwise_forms():
        doc = signature(op, kind != "f") + op.doc
        if kind != "f":
            setattr(Tensor, name, engine.method(Tensor, f"{kind}_{name}", name, doc))
        else:
            place = FUNCTIONS if op.function is True else NN.__dict__
            place[name] = engine.function(f"f_{name}", name, doc, keywords=True)
    for name in METHODS_AS_FUNCTIONS:
        FUNCTIONS[name] = under_name(getattr(Tensor, name), name)
    vars(sys.modules["tapegrad"]).update({name: f for name, f in FUNCTIONS.items() if "." not in name})


def started() -> None:
    """The engine runs: what was imported before it gets its compiled functions."""
    planned.started()


@functools.cache
def method_names() -> set[str]:
    """The methods of Tensor that compiled code serves, known before it runs."""
    return {name for _, kind, name in planned.elementwise_forms() if kind != "f"}


@functools.cache
def function_names() -> set[str]:
    """The public functions that compiled code serves, known before it runs."""
    return {*METHODS_AS_FUNCTIONS, *planned.function_names()} | {name for op, kind, name in planned.elementwise_forms() if kind == "f" and op.function is True}
