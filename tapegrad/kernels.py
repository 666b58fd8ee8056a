"""Kernels of elementwise ops: written out from the op's formula, compiled at first use, kept in the object cache.

A kernel is `kernel(args, start, stop)` over contiguous operands.  Forward: args are the addresses of out and the inputs.  A
derivative: the addresses of the result, g, three inputs and out (those it does not read are absent).  `plain` runs the same text
un-jitted on NumPy arrays.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import numpy as np

from tapegrad import dtypes, locks
from tapegrad.engine import build
from tapegrad.maths import library
from tapegrad.ops.registry import UNKNOWN, Elementwise, names_in, unknown_derivative

MATHS = {*library.UNARY, *library.BINARY, *(f"{name}_fixup" for name in library.FIXUP)}
NAMES = {"pi": np.pi, "ln2": np.log(2.0), "ln10": np.log(10.0), "inf": np.inf, "nan": np.nan}


class _TypedConstants(ast.NodeTransformer):
    """Numbers in a formula take the kernel's own type: a bare 2.0 would turn a float32 computation into float64."""

    def visit_Constant(self, node):
        return ast.Call(ast.Name("real", ast.Load()), [node], []) if isinstance(node.value, (int, float)) else node

    def visit_Name(self, node):
        if node.id in NAMES:
            return ast.Call(ast.Name("real", ast.Load()), [ast.Constant(float(NAMES[node.id]))], [])
        return node


class _Quotients(ast.NodeTransformer):
    """Complex division by a function of its own."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        return ast.Call(ast.Name("quotient", ast.Load()), [node.left, node.right], []) if isinstance(node.op, ast.Div) else node


def result_of(op: Elementwise, dtype):
    """The dtype of the value of an op that computes in `dtype`."""
    if op.result == "real":
        return dtype.to_real()
    if op.result == "complex":
        return dtype.to_complex()
    return dtypes.BY_NAME[op.result] if op.result else dtype


def typed_constants(tree) -> str:
    """The text of a formula with its numbers in the kernel's type."""
    return ast.unparse(ast.fix_missing_locations(_TypedConstants().visit(tree)))


def expression(op: Elementwise, dtype, which: int) -> str:
    """The formula as it stands in a kernel of `dtype`."""
    text = op.formula(which, dtype.kind)
    if text == UNKNOWN:
        raise unknown_derivative(op.name)
    if dtype.category < dtypes.FLOAT:
        return text
    tree = _TypedConstants().visit(ast.parse(text, mode="eval"))
    return ast.unparse(ast.fix_missing_locations(_Quotients().visit(tree) if dtype.is_complex else tree))


def source(op: Elementwise, dtype, which: int) -> str:
    """The text of a kernel: which 0 is forward, 1 + k the derivative for input k."""
    text = expression(op, dtype, which)
    used = names_in(op.formula(which, dtype.kind))
    result = dtype.name if which else result_of(op, dtype).name
    offset = 1 if which == 0 else 2
    places = {name: offset + k for k, name in enumerate(op.inputs)} | {"g": 1, "out": 5}
    lines = ["def kernel(args, start, stop):", "    result = load_i64(args)"]
    loads = []
    for name, place in places.items():
        if name in used and (name in op.inputs or which):
            lines.append(f"    at_{name} = load_i64(args + {8 * place})")
            kind = "bool" if op.mask and name == op.inputs[0] else dtype.name
            element = f"get_{kind}(at_{name}, i)"
            conjugate = which and dtype.is_complex and kind != "bool" and name != "g"
            loads.append(f"        {name} = conj({element})" if conjugate else f"        {name} = {element}")
    loop = ["    for i in range(start, stop):", *loads]
    bounded = _Bounded(not dtype.is_complex)
    exact = ast.unparse(bounded.visit(ast.parse(text, mode="eval")))
    if bounded.limits:
        # sin, cos and tan of huge arguments need a branch, which would keep the loop from being vectorised: such a range takes another.
        lines += ["    huge = False", *loop, *(f"        huge = huge | {test}" for test in bounded.limits), "    if huge:"]
        lines += ["    " + line for line in [*loop, f"        put_{result}(result, i, {exact})"]]
        lines += ["        return"]
    lines += [*loop, f"        put_{result}(result, i, {text})"]
    return "\n".join(lines) + "\n"


class _Bounded(ast.NodeTransformer):
    """Rewrites sin(u) as sin_fixup(u, sin(u)), right for every u, and collects the tests that say when this is needed."""

    def __init__(self, real: bool):
        self.real = real
        self.limits: list[str] = []

    def visit_Call(self, node):
        self.generic_visit(node)
        name = getattr(node.func, "id", None)
        if name not in library.FIXUP or not self.real:
            return node
        argument = ast.unparse(node.args[0])
        self.limits.append(f"(fabs({argument}) > {library.FIXUP[name][1]!r})")
        return ast.Call(ast.Name(f"{name}_fixup", ast.Load()), [node.args[0], node], [])


@functools.cache
def support_digest() -> str:
    """What every kernel's code depends on besides its own text."""
    folder = Path(__file__).parent
    files = (Path(__file__), folder / "engine" / "build.py", folder / "engine" / "native" / "elements.py")
    return library.source_digest() + "".join(f.read_text() for f in files)


def machine_code(op: Elementwise, dtype, which: int) -> bytes:
    """The kernel's object, from the cache or compiled."""
    text = source(op, dtype, which)
    name = "kernel-" + build.key(text, dtype.name, support_digest())
    body = build.load_cached(name)
    if body is None:
        body = compile_kernel(text, dtype, result=result_of(op, dtype))
        build.store_cached(name, body)
    return body


@locks.holding(locks.compiler)
def compile_kernel(text: str, dtype, reassociate: bool = False, result=None, extra=()) -> bytes:
    """Compile the text of `kernel` with the elements and maths of a dtype in scope."""
    from tapegrad.engine.native import elements

    namespace = elements.namespace(dtype.name, (result or dtype).name, extra)
    from tapegrad.maths import complex as complex_maths

    known, compiled = (complex_maths.NAMES, complex_maths.compiled) if dtype.is_complex else (MATHS, library.compiled)
    for name in names_in_source(text):
        if name not in namespace:
            function = complex_maths.compiled((result or dtype).compute)[name] if name == "pack" else elements.helper(dtype.compute, name)
            if function is None and name in known:
                function = compiled(dtype.compute if dtype.category >= dtypes.FLOAT else "float32")[name]
            if function is not None:
                namespace[name] = function
    code = compile(text, "<kernel>", "exec")
    exec(code, namespace)
    kernel = namespace["kernel"]
    # A formula rounds after every operation, as its operations one by one would; only the maths functions contract.
    kernel.fastmath = {"contract", "reassoc", "nsz"} if reassociate else False
    return build.compile_functions({"kernel": (kernel, elements.VOID, [elements.I64] * 3)})


def names_in_source(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def load_kernel(op: Elementwise, dtype, which: int) -> int:
    """The address of a kernel, ready to run."""
    return build.load(machine_code(op, dtype, which))("kernel")


def plain(op: Elementwise, dtype, which: int, **operands):
    """The formula run un-jitted on NumPy arrays: the twin of the kernel, for tests and the debugger."""
    from tapegrad.engine.native.plain import namespace

    return eval(expression(op, dtype, which), namespace(dtype.compute), operands)
