"""The graph as Python sees it: `grad_fn` nodes over tape entries.

A `Node` refers to its entry through one of the entry's output slots, because positions on the tape move when it is compacted.
What Python has to say about an entry (attributes of a structural op, hooks, metadata) is the entry's payload.
"""

from __future__ import annotations

import re
import weakref

from tapegrad import core, dtypes, modes
from tapegrad.autograd.leaf_node import InputMetadata, SlotReference, accumulator
from tapegrad.dispatch import refuse_inference
from tapegrad.dtypes import OF_SLOT as DTYPES
from tapegrad.engine import layout
from tapegrad.ops import chains
from tapegrad.ops.chain_plans import record_plan
from tapegrad.ops.plan import Parameters, settled
from tapegrad.ops.registry import BY_CODE, Elementwise


class Payload:
    """What Python attached to one entry; `attributes` are the op's own."""

    __slots__ = ("attributes", "hooks", "prehooks", "posthooks", "retained", "waiting", "metadata", "accumulators", "packed", "unpacked")

    def __init__(self, attributes=None):
        self.attributes = attributes
        self.hooks = {}  # output number -> {id: hook}
        self.prehooks = {}
        self.posthooks = {}
        self.retained = {}  # output number -> weak reference to the tensor whose .grad is kept
        self.waiting = {}  # the same for a view that was changed in place: it is retained where it is found at its next use
        self.metadata = {}
        self.accumulators = []  # nodes of leaves, kept while this entry lives because they carry metadata
        self.packed = None  # operand number -> (what the pack hook made of its value, unpack hook)
        self.unpacked = None  # operand number -> value, while the derivative runs


def payload(e: int) -> Payload | None:
    found = core.payload_of(e)
    return found if isinstance(found, Payload) else None


def gradients_taken(e: int) -> int:
    """How many gradients the node of entry `e` takes: one per output, up to the last that is differentiable."""
    first, count = core.entry_field(e, core.ENTRY_INPUTS), core.entry_field(e, core.ENTRY_NOUT)
    own = attributes(e)
    row = getattr(own, "_row", None)
    mask = row.differentiable if row is not None else getattr(own, "differentiable", -1)
    while count > 1:
        slot = core.operand_slot(e, first + count - 1)
        if mask >> (count - 1) & 1 and not (slot and not core.get_field(slot, core.FLAGS) & layout.REQUIRES_GRAD):
            break
        count -= 1
    return count


def is_number(e: int, op: Elementwise, k: int) -> bool:
    """Whether operand `k` of an elementwise entry is a Python number and a parameter in torch's graph."""
    if k >= len(op.inputs) - op.numbers:
        return True
    parameter = op.inputs[k] in op.number_names or (len(op.inputs) > 2 and not op.mask)
    return parameter and bool(core.get_field(core.operand_slot(e, k), core.FLAGS) & layout.WRAPPED)


def edges(e: int) -> list[int]:
    """The operands of entry `e` that torch's graph has an edge for, in its order: tensors, but no masks, indices or numbers that are parameters.

    A number before a tensor comes behind it: torch turns `2 * x` into `x * 2`.
    """
    op, count = BY_CODE[core.entry_field(e, core.ENTRY_OP)], core.entry_field(e, core.ENTRY_INPUTS)
    if isinstance(op, Elementwise):
        found = [k for k in range(count) if not (is_number(e, op, k) or op.mask and k == 0)]
        return found[::-1] if len(found) == count == 2 and core.get_field(core.operand_slot(e, 0), core.FLAGS) & layout.WRAPPED else found
    if getattr(attributes(e), "ctx", None) is not None:  # a custom Function may be given what it likes
        return list(range(count))
    return [k for k in range(count) if DTYPES[core.get_field(core.operand_slot(e, k), core.DTYPE)].category >= dtypes.FLOAT]


def attributes(e: int):
    """The op's own attributes of entry `e`."""
    found = core.payload_of(e)
    return found.attributes if isinstance(found, Payload) else found


def own_payload(e: int) -> Payload:
    """The entry's Payload, made if it has none of its own."""
    found = core.payload_of(e)
    if not isinstance(found, Payload):
        found = Payload(found)
        core.set_payload(e, found)
    return found


_nodes: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
_classes: dict[str, type] = {}


class Node:
    """A recorded operation: what `tensor.grad_fn` returns."""

    __slots__ = ("_reference", "__weakref__")

    def __init__(self, slot: int):
        self._reference = SlotReference(slot)

    @property
    def _entry(self) -> int:
        return core.get_field(self._reference._slot, core.ENTRY)

    @property
    def op(self):
        return BY_CODE[core.entry_field(self._entry, core.ENTRY_OP)]

    def name(self) -> str:
        """'MulBackward0'; with a prefix for the nodes that are not a function's derivative."""
        return full_name(type(self).__name__)

    def __repr__(self):
        return f"<{type(self).__name__} object at {id(self):#x}>"

    @property
    def attributes(self):
        return attributes(self._entry)

    @property
    def inputs(self) -> list:
        """The operands as tensors; only those that the entry saved still have a value."""
        from tapegrad.autograd import saved

        e = self._entry
        own = payload(e)
        return [saved.operand(e, k, own) for k in range(core.entry_field(e, core.ENTRY_INPUTS))]

    @property
    def outputs(self) -> list:
        from tapegrad.autograd import saved

        e = self._entry
        own = payload(e)
        first = core.entry_field(e, core.ENTRY_INPUTS)
        return [saved.operand(e, first + k, own) for k in range(core.entry_field(e, core.ENTRY_NOUT))]

    @property
    def next_functions(self) -> tuple:
        """Per operand that came from a tensor: (the node that made it, its output number), or (None, 0)."""
        e = self._entry
        slots = [asked_for(core.operand_slot(e, k)) for k in edges(e)]
        return tuple([(gradient_node(s), core.get_field(s, core.OUTPUT_NR) if core.get_field(s, core.ENTRY) >= 0 else 0) for s in slots])

    @property
    def metadata(self) -> dict:
        """A dict of the user's, kept with the node."""
        return own_payload(self._entry).metadata

    @property
    def saved_tensors(self):
        context = getattr(self.attributes, "ctx", None)
        if context is not None:
            return context.saved_tensors
        check_saved(self._entry)
        return tuple(self.inputs)

    def register_hook(self, hook):
        """Call `hook(grad_inputs, grad_outputs)` after the node has run; a returned tuple replaces grad_inputs."""
        from tapegrad.autograd.hooks import RemovableHandle

        return RemovableHandle(own_payload(self._entry).posthooks, hook)

    def register_prehook(self, hook):
        """Call `hook(grad_outputs)` before the node runs; a returned tuple replaces grad_outputs."""
        from tapegrad.autograd.hooks import RemovableHandle

        return RemovableHandle(own_payload(self._entry).prehooks, hook)

    @property
    def _input_metadata(self) -> tuple:
        """Shape and dtype of each gradient that the node takes: of the outputs of its operation."""
        e = self._entry
        first = core.entry_field(e, core.ENTRY_INPUTS)
        return tuple(InputMetadata.of(core.operand_slot(e, first + k)) for k in range(gradients_taken(e)))

    def _sequence_nr(self) -> int:
        """A number that orders nodes as they were recorded."""
        return self._entry

    requires_grad = True

    def __call__(self, *gs):
        """The gradients of the inputs for gradients of the outputs, as a backward pass would compute them."""
        from tapegrad.autograd.engine import call_node

        return call_node(self, gs)

    def __getattr__(self, name: str):
        # The node of a custom Function shows what `forward` and `backward` keep in their ctx.
        context = getattr(self.attributes, "ctx", None) if not name.startswith("__") else None
        if context is not None:
            return getattr(context, name)
        if name.startswith(("_saved_", "_raw_saved_")):
            from tapegrad.autograd import saved_names

            return saved_names.get(self, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value):
        context = getattr(self.attributes, "ctx", None) if name != "_reference" else None
        if context is not None:
            setattr(context, name, value)
        elif name == "_reference":
            object.__setattr__(self, name, value)
        elif name in dir(self):
            raise AttributeError(f"attribute '{name}' of '{type(self).__name__}' objects is not writable")
        else:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __dir__(self):
        from tapegrad.autograd import saved_names

        return sorted({*object.__dir__(self), *saved_names.names(self)})


class BackwardCFunction(Node):
    """The node of a custom Function: each Function has its own kind (`Function._backward_cls`)."""

    __slots__ = ()


def check_saved(e: int) -> None:
    if core.entry_field(e, core.ENTRY_FLAGS) & layout.FREED:
        from tapegrad.autograd.saved import FREED

        raise RuntimeError(FREED)


def full_name(name: str) -> str:
    """A node's class name with the prefix of those that are not a function's derivative."""
    return f"tapegrad::autograd::{name}" if name in ("CopySlices", "CopyBackwards", "NotImplemented", "Error") else name


def node_class(name: str) -> type:
    found = _classes.get(name)
    if found is None:
        found = _classes[name] = type(name, (Node,), {"__slots__": ()})
    return found


def node_of(slot: int) -> Node | None:
    """The node of the entry that produced `slot`, None for a leaf."""
    e = core.get_field(slot, core.ENTRY)
    if e < 0:
        return None
    first = core.entry_field(e, core.ENTRY_INPUTS)
    for k in range(core.entry_field(e, core.ENTRY_NOUT)):
        key = core.operand_slot(e, first + k)
        if key:
            break
    found = _nodes.get(key)
    if found is None:
        found = (getattr(attributes(e), "node_class", None) or node_class(entry_name(e)))(key)
        _nodes[key] = found
    return found


def entry_name(e: int) -> str:
    """What the graph calls entry `e`."""
    own = attributes(e)
    name = getattr(own, "graph_name", None)
    if name:
        return name
    op = BY_CODE[core.entry_field(e, core.ENTRY_OP)]
    for k, operand in enumerate(op.inputs if isinstance(op, Elementwise) and op.number_names else ()):
        if core.get_field(core.operand_slot(e, k), core.FLAGS) & layout.WRAPPED and operand in op.number_names:
            return op.number_names[operand]
    return op.backward_name


def stem(name: str) -> str:
    """A node's name as torch's messages shorten it: Exp for ExpBackward0, Prod1 for ProdBackward1."""
    return re.sub(r"Backward0?(\d*)$", r"\1", name)


def asked_for(slot: int) -> int:
    """The slot that the user gave as an operand: an op that read `slot` itself may have needed its conjugation carried out first."""
    e = core.get_field(slot, core.ENTRY)
    return core.operand_slot(e, 0) if e >= 0 and BY_CODE[core.entry_field(e, core.ENTRY_OP)].name == "carried_out_op" else slot


def gradient_node(slot: int):
    """The node that receives the gradient of `slot`: its producer, AccumulateGrad for a leaf that requires grad, None otherwise."""
    flags = core.get_field(slot, core.FLAGS)
    if not flags & layout.REQUIRES_GRAD:
        return None
    if core.get_field(slot, core.ENTRY) >= 0:
        return node_of(slot)
    if not flags & layout.LEAF_GRAD:
        return None  # a view made in no_grad mode: it requires grad because its base does
    return accumulator(slot)


def record(op, inputs, outputs, attributes=None, saves: int = 0, differentiable: int = -1, reads: tuple = ()) -> None:
    """Put a structural op on the tape if an input requires grad and recording is on.

    saves: bit k says that the value of operand k (inputs, then outputs) must stay; -1 for all.
    differentiable: bit k says that output k gets a gradient.
    reads: per input the operands, as bits, that its gradient alone needs; what no wanted gradient needs is not kept.
    """
    chains.record(lambda: record_plan(op, inputs, outputs, attributes, saves, differentiable, reads), inputs, outputs)
    word = modes.word()
    if not word & modes.GRAD:
        return
    for t in inputs:
        settled(t)  # a view whose base has changed takes its new place in the graph first
    slots = [t._slot for t in inputs]
    found = [core.get_field(s, core.FLAGS) for s in slots]
    if not any([f & layout.REQUIRES_GRAD for f in found]):
        return
    for t, needed in zip(inputs, reads, strict=False):
        if core.get_field(t._slot, core.FLAGS) & layout.REQUIRES_GRAD:
            saves |= needed
    flags = 0
    if saves == -1:
        flags = layout.SAVED_ALL | layout.HAS_SAVED
    elif saves:
        flags = saves * layout.SAVED_INPUT | layout.HAS_SAVED
    if type(attributes) is Parameters:
        from tapegrad.autograd.saved import keep_attributes

        attributes.differentiable = differentiable

        if keep_attributes(attributes, slots):
            flags |= layout.HAS_SAVED
    if any([f & layout.INFERENCE for f in found]):
        refuse_inference(s for k, s in enumerate(slots) if saves == -1 or saves >> k & 1)
    count = len(slots)
    e = core.open_entry(op.code, count, len(outputs), flags)
    core.set_payload(e, attributes)
    for k, s in enumerate(slots):
        core.attach_input(e, k, s, saves == -1 or saves >> k & 1)
    for k, t in enumerate(outputs):
        grad = layout.REQUIRES_GRAD if differentiable >> k & 1 else 0
        core.attach_output(e, k, t._slot, saves == -1 or saves >> (count + k) & 1, grad)
    if word & modes.WATCHED:
        from tapegrad.autograd import watch

        watch.recorded(inputs, outputs)
