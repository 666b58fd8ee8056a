"""The op table: one record per op, from which everything else is made.

An *elementwise* record is a row of formulas: the forward value and one derivative per input, in terms of the inputs' names, `out`
and the incoming gradient `g`.  From the text follow what the derivative reads (so what must stay alive), the compiled kernels
(`tapegrad/kernels.py`), the derivative on Tensors for `create_graph` (`ops/formulas.py`), the tangent rule (the derivative is linear in
`g`), the methods, the tests (`samples`) and the reference page.  A *structural* op registers a derivative written in other ops.
Start reading at `Elementwise`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BY_NAME: dict[str, Any] = {}  # of Op; a name says which kind
BY_CODE: list[Op | None] = [None]  # code 0 is no op


UNKNOWN = "unknown"  # the derivative of an op that has one in principle, but which torch refuses to give


NOT_IMPLEMENTED = "NotImplemented"
UNRECORDED = "unrecorded"


def unknown_derivative(name: str) -> RuntimeError:
    """The error for an op of torch's that has neither a derivative nor a node; its `forward` is what forward mode says."""
    name = name.replace("_written", "_")  # in place, see `ops/arithmetic.py`
    error = RuntimeError(f"derivative for aten::{name} is not implemented")
    vars(error)["forward"] = f"Trying to use forward AD with aten::{name} that does not support it."
    return error


def no_derivative(what: str, name: str = "") -> NotImplementedError:
    """The same for an op that has a node, but no derivative (for `what`: "igamma: input")."""
    error = NotImplementedError(f"the derivative for '{what}' is not implemented.")
    vars(error)["forward"] = f"Trying to use forward AD with {name or what} that does not support it because it has not been implemented yet."
    return error


@dataclass(eq=False)
class Op:
    """What all ops have: a name, a number, and the name that torch's graph shows."""

    name: str
    graph_name: str = ""  # 'Mul' gives MulBackward0
    doc: str = ""
    shows_all: bool = False  # hooks of its nodes see the gradients of operands that require none, too
    code: int = field(default=0, init=False)

    def __post_init__(self):
        if self.name in BY_NAME:
            raise ValueError(f"op {self.name!r} is registered twice")
        self.code = len(BY_CODE)
        BY_CODE.append(self)
        BY_NAME[self.name] = self
        if not self.graph_name:
            self.graph_name = "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def backward_name(self) -> str:
        return self.graph_name if self.graph_name == NOT_IMPLEMENTED or "Backward" in self.graph_name else self.graph_name + "Backward0"


@dataclass(eq=False)
class Elementwise(Op):
    """An elementwise op.

    forward: the value, an expression in the names of `inputs`; `forward_bool`, `forward_int`, `forward_complex` replace it for those dtypes.
    grads: per input the derivative times `g`; "g" alone passes the gradient on, "0" is a zero gradient, None not differentiable, UNKNOWN
    refused when it is asked for.
    In complex dtypes the inputs and `out` stand for their conjugates there: a gradient is the conjugate Wirtinger derivative, so that
    the formula of a holomorphic function serves as it is.  Where it does not, `grads_complex` takes its place.
    kinds: the dtypes it computes in, F floating point, I integers, B bool, C complex; others are promoted: `promote="float"` sends
    integers to the default dtype.
    result: "bool" for predicates, "real" or "complex" for the dtype of the parts or the whole, else None: the dtype computed in.
    complex_form: the op that serves complex operands instead.
    refusal: what is said to complex operands, if it is not the usual text; kernel: the name in that text, if it is not <name>_cpu.
    operators: the special methods it serves, e.g. ("__mul__", "__rmul__", "__imul__").
    aliases: further public names.  method, function, inplace: which public forms exist; function="nn": only for `nn.functional`.
    public: the function that calls it, if that has another name.  exponent: the power that it is; those of `pow` stand in for it.
    keywords: further arguments of its forms ("alpha").
    numbers: how many of the last inputs are always Python numbers (a slope, a limit), which are no operands in the graph.
    mask: the first input is a bool mask (where).
    number_names: by input the name that torch's graph shows where that operand is a Python number, which is no operand there then.
    written_by: the op that a recorded in-place call runs instead; UNRECORDED: none, the graph does not notice.
    in_range: a number that the dtype does not hold is refused, where other binary ops convert it as they would a tensor.
    unrounded: a second operand that is a number or 0-d is not rounded to half precision.
    domain: per input the interval in which tests sample; `smooth` is False where finite differences do not apply.
    """

    inputs: tuple[str, ...] = ("x",)
    forward: str = ""
    grads: tuple[str | None, ...] = ()
    kinds: str = "F"
    promote: str = "float"
    result: str | None = None
    forward_bool: str = ""
    forward_int: str = ""
    forward_complex: str = ""
    grads_complex: tuple[str | None, ...] = ()
    complex_form: str = ""
    refusal: Exception | None = None
    kernel: str = ""
    operators: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    public: str = ""
    exponent: float | None = None
    keywords: tuple[str, ...] = ()
    method: bool = True
    function: bool | str = True
    inplace: bool = True
    mask: bool = False
    numbers: int = 0
    number_names: dict[str, str] = field(default_factory=dict)
    written_by: str = ""
    in_range: bool = False
    unrounded: bool = False
    domain: tuple[tuple[float, float], ...] = ()
    cost: int = 8
    check: Callable | None = None  # (op, operands): raises for operands that torch refuses
    parameters: tuple[str, ...] = ()  # public parameter names; ("input", "other") by default
    no_bools: bool = False  # bools are refused, where others compute them as int64
    bool_out: bool = False  # out= must be of bool
    steps: str = ""  # the operand of which the derivative is a function that is constant in pieces: a recorded one depends on it, with zeros
    scalars: str = "xy"  # which of two operands may be a Python number on the fast path

    def __post_init__(self):
        super().__post_init__()
        self.grads = tuple(self.grads)
        self.public = self.public or self.name
        if UNKNOWN in self.grads:
            self.graph_name = NOT_IMPLEMENTED
        self.parameters = self.parameters or ("input", "other", "third")[: len(self.inputs)]
        self.domain = self.domain or ((-3.0, 3.0),) * len(self.inputs)

    def forms(self) -> list[tuple[str, str]]:
        """(kind, public name) of the ways to call it: a function "f", a method "m", an in-place method "i", an operator "o", "r" reflected, "a" augmented."""
        names = [self.name, *self.aliases]
        found = [("f", name) for name in names if self.function]
        if self.method:
            found += [("m", name) for name in names if "." not in name]
            found += [("i", name + "_") for name in names if "." not in name and self.inplace]
        return found + list(zip("ora", self.operators, strict=False))

    def formula(self, which: int, kind: str = "F") -> Any:
        """The text of the forward value (0) or the derivative for input `which - 1`, for a dtype kind."""
        if which:
            return (self.grads_complex if kind == "C" and self.grads_complex else self.grads)[which - 1]
        special = {"B": self.forward_bool, "I": self.forward_int, "C": self.forward_complex}.get(kind)
        return special or self.forward

    def reads(self, k: int) -> set[str]:
        """The names, of the inputs and `out`, that the derivative for input `k` reads, in one dtype kind or another."""
        texts = [texts[k] for texts in (self.grads, self.grads_complex) if k < len(texts) and texts[k] is not None]
        return set().union(*map(names_in, texts)) & {*self.inputs, "out"}

    @property
    def differentiable(self) -> bool:
        return any(text is not None and text != UNKNOWN for text in self.grads)


@functools.cache
def names_in(text: str) -> frozenset[str]:
    """The names in an expression."""
    return frozenset(node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name))


@dataclass(eq=False)
class Structural(Op):
    """An op whose derivative is written in other ops.

    derivative: called as `derivative(node, *gs)` with the entry being swept (`autograd/node.py`: inputs, outputs, attributes) and the gradients of
    the outputs (None where there is none); returns the gradient of each input, None where there is none.
    sweep: for a view, how the compiled sweep does the same: "reshape", "permute" or "embed"; "" leaves it to `derivative`.
    retype: for a view of other elements in the same memory, from the dtype seen to the dtype shown.
    turns: for a view that postpones a conjugation or negation, its bit in the slot's dtype word; `sweep` then names the op that does it.
    flat: the derivative for the first input is constant in pieces, but depends on it in torch's graph (`autograd/flat.py`).
    """

    derivative: Callable | None = None
    sweep: str = ""
    retype: Callable | None = None
    turns: int = 0
    flat: bool = False


def structural(name: str, graph_name: str = "", **properties: Any) -> Callable[[Callable], Structural]:
    """Decorate the derivative of a structural op; the record takes its place."""

    def register(derivative):
        return Structural(name, graph_name, derivative.__doc__ or "", derivative=derivative, **properties)

    return register
