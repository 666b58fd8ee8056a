"""`grad_fn._saved_self` and its kind: what a node has saved, under the names that torch gives it.

Tensors are operands of the entry; `_raw_saved_<name>` is the same as an object on which hooks can be registered.  Everything else
(`_saved_dim`, `_saved_self_sym_sizes`) is a parameter of the op.
"""

from __future__ import annotations

from tapegrad import core, geometry
from tapegrad.autograd import node as nodes
from tapegrad.autograd import saved
from tapegrad.ops.registry import Elementwise

# Names of the operands, inputs then outputs, where they are not (self, other, ..., result, indices).
OPERANDS = {
    "Mm": ("self", "mat2", "result"),
    "Bmm": ("self", "mat2", "result"),
    "Mv": ("self", "vec", "result"),
    "Dot": ("self", "tensor", "result"),
    "Addmm": ("self", "mat1", "mat2", "result"),
    "Gather": ("self", "index", "result"),
    "Index": ("self",),
    "IndexSelect": ("self", "index", "result"),
    "IndexAdd": ("self", "index", "source", "result"),
    "Scatter": ("self", "index", "src", "result"),
    "ScatterAdd": ("self", "index", "src", "result"),
    "NllLoss": ("self", "target", "weight"),
    "NllLoss2D": ("self", "target", "weight"),
    "Pow": ("self", "exponent", "result"),
    "Clamp": ("self", "min", "max", "result"),
    "Where": ("condition", "self", "other", "result"),
}
PARAMETERS = ("dim", "dims", "keepdim", "alpha", "beta", "ord", "correction", "offset", "dim1", "dim2", "dim0", "shifts", "repeats", "index", "indices")


def operand_names(node) -> tuple:
    """What torch calls the operands of the node's entry."""
    op = node.op
    name = nodes.stem(type(node).__name__).rstrip("12345")
    if name in OPERANDS:
        listed = OPERANDS[name]
        return listed if not isinstance(op, Elementwise) else listed[: len(op.inputs)] + ("result",)
    if isinstance(op, Elementwise):
        return tuple("self" if name == "input" else name for name in op.parameters[: len(op.inputs)]) + ("result",)
    e = node._entry
    inputs = ("self", "other", "third")[: core.entry_field(e, core.ENTRY_INPUTS)]
    return inputs + ("result", "indices")[: core.entry_field(e, core.ENTRY_NOUT)]


def tensors(node) -> dict:
    """Name -> number of the operand, None for one that this entry has no need of."""
    op, e = node.op, node._entry
    own = nodes.payload(e)
    found: dict = {}
    for k, name in enumerate(operand_names(node)):
        packed = own is not None and own.packed and k in own.packed
        if packed or saved.is_saved(e, k):
            found[name] = k
        elif isinstance(op, Elementwise):
            names = [*op.inputs, "out"]
            if any(names[k] in op.reads(j) for j in range(len(op.inputs))):
                found[name] = None
    return found


def parameters(node) -> dict:
    """Name -> value of what is no tensor of the tape."""
    op, e = node.op, node._entry
    if isinstance(op, Elementwise):
        if op.graph_name == "Pow":
            from tapegrad.dispatch import POWERS

            by_name = {v: k for k, v in POWERS.items()}
            return {"exponent": by_name[op.name]} if op.name in by_name else {}
        if op.name in ("add_scaled", "sub_scaled"):
            factor = core.operand_slot(e, 2)
            return {"alpha": core.item(factor)} if core.data_of(factor) else {}
        return {"alpha": 1} if op.name in ("add", "sub") else {}
    attributes = node.attributes
    values = {name: getattr(attributes, name) for name in PARAMETERS if hasattr(attributes, name)}
    if "keepdim" in values and "dims" in values:  # a reduction
        values["dim"] = values.pop("dims")
    if op.name == "index_op":
        from tapegrad.ops.indexing import indices_of

        values["indices"] = indices_of(node)
    if isinstance(values.get("indices"), tuple):
        while values["indices"] and values["indices"][-1] is None:
            values["indices"] = values["indices"][:-1]
    if core.entry_field(e, core.ENTRY_INPUTS) == 1:
        values["self_sym_sizes"] = tuple(geometry.shapes[core.get_field(core.operand_slot(e, 0), core.GEOMETRY)])
    return values


def names(node) -> list[str]:
    """The attributes that `dir(node)` shows."""
    if getattr(node.attributes, "ctx", None) is not None:
        return []
    operands = tensors(node)
    return [f"_saved_{name}" for name in (*operands, *parameters(node))] + [f"_raw_saved_{name}" for name in operands]


def get(node, attribute: str):
    """The value of `node.<attribute>`."""
    raw = attribute.startswith("_raw_")
    name = attribute.partition("_saved_")[2]
    operands = tensors(node)
    if name in operands:
        k, e = operands[name], node._entry
        if raw:
            return saved.SavedOperand(node, k)
        nodes.check_saved(e)
        if k is None:
            return None
        core_status = core.check_saved(e)
        if core_status < 0 and core.error_b.value == k:
            raise saved.version_error(e, k)
        leaf = nodes.leaf_object(core.operand_slot(e, k))
        own = nodes.payload(e)
        return leaf if leaf is not None and not (own is not None and own.packed and k in own.packed) else saved.operand(e, k, own)
    values = parameters(node) if not raw else {}
    if name in values:
        return values[name]
    raise AttributeError(f"'{type(node).__name__}' object has no attribute '{attribute}'")
