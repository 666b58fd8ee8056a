"""What an optimizer does to one parameter, as text: assignments to `p` (the parameter), `g` (its gradient), the state and temporaries.

    m = m * mu + g
    p = p - m * lr

The same text is compiled into one loop over the elements (plain float32 and float64 tensors that lie alike in memory), and run on
tensors for everything else: other dtypes and strides, subclasses, `differentiable=True`.
"""

from __future__ import annotations

import ast
import functools

import numpy as np

from tapegrad import core, geometry, modes
from tapegrad.engine import layout
from tapegrad.kernels import typed_constants
from tapegrad.ops import formulas, loops
from tapegrad.ops import plan as plans
from tapegrad.ops.complexes import view_as_real
from tapegrad.tensor import Tensor

COMPILED = ("float32", "float64")
ODD = layout.VIEW | layout.INFERENCE | layout.TRACKED  # slots of these kinds may have to be seen to


@functools.lru_cache(1024)
def parsed(text: str, tensors: tuple):
    """(the code, which of the tensors it writes)."""
    tree = ast.parse(text)
    written = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    return compile(tree, "<update>", "exec"), [name for name in tensors if name in written and name != "g"]


@functools.lru_cache(1024)
def kernel(text: str, tensors: tuple, numbers: tuple, d) -> int:
    """The address of the loop: args are the addresses of `tensors`, then that of the numbers as float64."""
    _, written = parsed(text, tensors)
    typed = typed_constants(ast.parse(text))
    lines = ["def kernel(args, start, stop):", f"    numbers = load_i64(args + {8 * len(tensors)})"]
    lines += [f"    at_{name} = load_i64(args + {8 * k})" for k, name in enumerate(tensors)]
    lines += [f"    {name} = real(get_float64(numbers, {k}))" for k, name in enumerate(numbers)]
    lines += ["    for i in range(start, stop):", *(f"        {name} = get_{d.name}(at_{name}, i)" for name in tensors)]
    lines += ["        " + line for line in typed.splitlines()]
    lines += [f"        put_{d.name}(at_{name}, i, {name})" for name in written]
    return loops.compiled("\n".join(lines) + "\n", d, d)


@functools.lru_cache(4096)
def plan_of(text: str, tensors: tuple, numbers: tuple, g: int, d):
    """The plan that runs the loop over tensors of geometry `g`, and its numbers, to be written before each run."""
    n = geometry.numels[g]
    plan = plans.Plan(None, [], kernel=kernel(text, tensors, numbers, d), n=n, cost=n * len(tensors), args=(0,) * max(len(numbers), 1),
                      differentiable=0, writes=True)
    return plan, np.frombuffer(plan._words, np.float64)[1 : 1 + len(numbers)]


def run(text: str, tensors: dict, numbers: dict, differentiable: bool = False) -> None:
    """Change the tensors (by name, "p" first, "g" among them) as the text says; `numbers` are the options by name."""
    values = list(tensors.values())
    first = values[0]
    d = first.dtype
    if d.is_complex:  # real and imaginary parts are elements of their own
        return run(text, {name: view_as_real(t.resolve_conj()) for name, t in tensors.items()}, numbers, differentiable)
    g = core.get_field(first._slot, core.GEOMETRY)
    compiled = d.name in COMPILED and not differentiable and first.is_contiguous() and not modes.word() & modes.TRANSFORM
    if compiled and all(plain(g, d.code, t) for t in values):
        plan, place = plan_of(text, tuple(tensors), tuple(numbers), g, d)
        place[:] = tuple(numbers.values())
        core.apply(plan.address, *values)
        for name in parsed(text, tuple(tensors))[1]:
            if name != "p":  # whose version `apply` has raised
                core.bump_version(tensors[name]._slot, 1)
        return
    code, written = parsed(text, tuple(tensors))
    space = {**formulas.namespace(), **numbers, **tensors}
    if differentiable:  # what a derivative needs of the old values must outlive their being written over
        space.update((name, tensors[name].clone()) for name in written)
    exec(code, space)
    for name in written:
        tensors[name].copy_(space[name])


def plain(g: int, code: int, tensor) -> bool:
    """Whether compiled code can take the tensor as it is."""
    s = tensor._slot
    return (
        type(tensor) in plans.PLAIN and core.get_field(s, core.GEOMETRY) == g and core.get_field(s, core.DTYPE) == code
        and not core.get_field(s, core.FLAGS) & ODD
    )


def zeros(p) -> Tensor:
    """A piece of state: zeros like the parameter."""
    from tapegrad.creation import zeros_like

    return zeros_like(p.detach())
