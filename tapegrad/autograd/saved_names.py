"""`grad_fn._saved_self` and its kind: what a node has saved, under the names that torch gives it.

Tensors are operands of the entry; `_raw_saved_<name>` is the same as an object on which hooks can be registered.  Everything else
(`_saved_dim`, `_saved_self_sym_sizes`) is a parameter of the op.
"""

from __future__ import annotations

import numpy as np

from tapegrad import core, geometry
from tapegrad.autograd import leaf_node, saved, saved_errors
from tapegrad.autograd import node as nodes
from tapegrad.dtypes import float32
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
    "Lerp": ("self", "end", "weight", "result"),
    "Elu": ("self", "alpha", "result"),
    "LeakyRelu": ("self", "negative_slope", "result"),
    "Softplus": ("self", "beta", "threshold", "result"),
    "Hardtanh": ("self", "min_val", "max_val", "result"),
    "Threshold": ("self", "threshold", "result"),
    "PreluKernel": ("self", "weight", "result"),
    "MseLoss": ("self", "target", "result"),
    "SmoothL1Loss": ("self", "target", "result"),
    "HuberLoss": ("self", "target", "result"),
    "BinaryCrossEntropy": ("self", "target", "weight", "result"),
    "BinaryCrossEntropyWithLogits": ("self", "target", "weight", "result"),
    "Convolution": ("input", "weight", "bias", "result"),
    "NativeBatchNorm": ("input", "weight", "bias", "result"),
    "NativeLayerNorm": ("input", "weight", "bias", "result"),
    "MaxPool2DWithIndices": ("self", "result0", "result1"),
    "LinalgInvEx": ("A", "inverse"),
    "LinalgDet": ("A", "result"),
    "LinalgSolveEx": ("A", "B", "result"),
    "LinalgCholeskyEx": ("self", "L"),
    "LinalgSvd": ("A", "U", "S", "Vh"),
}
WHOLE = ("SumBackward0", "MeanBackward0", "ProdBackward0", "MaxBackward1", "MinBackward1", "MedianBackward0")  # reductions of all dims: none is named
WITHOUT_SIZES = {
    "T", "Transpose", "Permute", "Unsqueeze", "Flip", "Roll", "Clone", "Tril", "Triu", "Softmax", "LogSoftmax", "Unbind", "AsStrided", "Cumsum", "Glu",
    "Lgamma", "Digamma", "Erfinv", "MaxPool2DWithIndices", "LinalgInvEx", "LinalgCholeskyEx",
}  # nodes whose derivative asks for no sizes of the operand
PARAMETERS = ("dim", "dims", "keepdim", "alpha", "beta", "ord", "correction", "offset", "dim1", "dim2", "dim0", "shifts", "repeats", "index", "indices", "split_size",
              "split_sizes")  # fmt: skip


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
        if isinstance(op, Elementwise) and is_number(node, k):
            continue
        packed = own is not None and own.packed and k in own.packed
        if packed or saved.is_saved(e, k):
            found[name] = k
        elif isinstance(op, Elementwise):
            names = [*op.inputs, "out"]
            if any(names[k] in op.reads(j) for j in range(len(op.inputs)) if not is_number(node, j)):
                found[name] = None
    return found


def is_number(node, k: int) -> bool:
    """Whether operand `k` of an elementwise entry is a Python number and shown as one."""
    return k < len(node.op.inputs) and nodes.is_number(node._entry, node.op, k)


def number_of(slot: int):
    """The number in `slot` as the caller has written it, though its dtype may have fewer digits."""
    value = core.item(slot)
    return float(str(np.float32(value))) if core.get_field(slot, core.DTYPE) == float32.code and isinstance(value, float) else value


def plain(value):
    """A factor as the caller would have written it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def numbers(node) -> dict:
    """Name -> value of the operands that were given as Python numbers and that the derivative reads."""
    op, e = node.op, node._entry
    names = operand_names(node)
    found = {}
    for k, operand in enumerate(op.inputs):
        slot = core.operand_slot(e, k)
        read = any(operand in op.reads(j) for j in range(len(op.inputs)) if not is_number(node, j))
        if is_number(node, k) and read and core.data_of(slot):
            found[names[k]] = number_of(slot)
    return found


def of_view(kind: str, attributes) -> dict:
    """What a view's plan says of the dims that it took."""
    order = getattr(attributes, "order", None)
    if order is not None and kind == "PermuteBackward":
        return {"dims": tuple(order)}
    if order is not None and kind == "TransposeBackward":
        moved = [d for d, place in enumerate(order) if d != place] or [0, 0]
        return {"dim0": moved[0], "dim1": moved[-1]}
    key = getattr(attributes, "key", None)
    if kind in ("SelectBackward", "SliceBackward") and isinstance(key, tuple) and isinstance(key[0], tuple):
        shape = attributes.input_shape
        for d, part in enumerate(key[0][: len(shape)]):
            if isinstance(part, int) and kind == "SelectBackward":
                return {"dim": d, "index": part}
            if isinstance(part, tuple) and kind == "SliceBackward" and part != (0, shape[d], 1):
                return {"dim": d, "start": part[0], "end": part[1], "step": part[2]}
    return {}


def parameters(node) -> dict:
    """Name -> value of what is no tensor of the tape."""
    op, e = node.op, node._entry
    if isinstance(op, Elementwise):
        if op.exponent is not None:
            return {"exponent": op.exponent}
        if op.name in ("add_scaled", "sub_scaled"):
            factor = core.operand_slot(e, 2)
            return {"alpha": plain(number_of(factor))} if core.data_of(factor) else {}
        return {"alpha": 1} if "alpha" in op.keywords else numbers(node)
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
    kind = type(node).__name__
    values.update(of_view(kind.rstrip("0123456789"), attributes))
    values = {name: tuple(value) if type(value) is list else value for name, value in values.items()}
    if kind in WHOLE:
        values.pop("dim", None), values.pop("keepdim", None)
    elif kind == "ProdBackward1":
        (values["dim"],) = values["dim"]
    if core.entry_field(e, core.ENTRY_INPUTS) == 1 and nodes.stem(kind).rstrip("12345") not in WITHOUT_SIZES and operand_names(node)[0] not in tensors(node):
        shape = geometry.shapes[core.get_field(core.operand_slot(e, 0), core.GEOMETRY)]
        values["self_sym_sizes"] = tuple(shape)
        if kind.startswith("Mean"):
            values["self_sym_numel"] = shape.numel()
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
            raise saved_errors.version_error(e, k)
        leaf = leaf_node.leaf_object(core.operand_slot(e, k))
        own = nodes.payload(e)
        return leaf if leaf is not None and not (own is not None and own.packed and k in own.packed) else saved.operand(e, k, own)
    values = parameters(node) if not raw else {}
    if name in values:
        return values[name]
    raise AttributeError(f"'{type(node).__name__}' object has no attribute '{attribute}'")
