"""Derivatives that do not exist: results that require grad, as in torch, and a backward pass that says why there is none.

For results of Python functions.  An elementwise record says the same with `UNKNOWN` (`ops/registry.py`), whose error and graph name these share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tapegrad import core
from tapegrad.autograd.node import record
from tapegrad.ops.plan import Parameters
from tapegrad.ops.registry import NOT_IMPLEMENTED, no_derivative, structural, unknown_derivative


@structural("underived", "Error")
def underived_op(node, *gs):
    """Raises what the entry was given to say."""
    raise node.attributes.error()


def refuse(inputs, outputs, error: Callable[[], Exception], graph_name: str = "Error") -> None:
    """Record `outputs` as made of `inputs` by something whose derivative raises what `error` makes."""
    mask = sum(1 << k for k, out in enumerate(outputs) if out.dtype.differentiable)
    record(underived_op, inputs, outputs, Parameters(underived_op, graph_name=graph_name, error=error), differentiable=mask)


def unknown(name: str, inputs, outputs) -> None:
    """The same for an op of torch's that has neither a derivative nor a node of its own."""
    refuse(inputs, outputs, functools.partial(unknown_derivative, name), NOT_IMPLEMENTED)


def not_implemented(name: str, inputs, outputs) -> None:
    """The same for one that has a node: `_unique2` gives Unique2Backward0."""
    graph_name = "".join(part.capitalize() for part in name.split("_")) + "Backward0"
    refuse(inputs, outputs, functools.partial(no_derivative, name), graph_name)


def refused(values: list, inputs, text: str) -> list:
    """`values` as tensors that were made of `inputs`, but whose derivative is an error."""
    outputs = [core.wrap(core.share_slot(value)) for value in values]
    refuse(inputs, outputs, functools.partial(RuntimeError, text))
    return outputs
