"""The graph as Python sees it: `grad_fn` nodes over tape entries.

A `Node` refers to its entry through one of the entry's output slots, because positions on the tape move when it is compacted.
What Python has to say about an entry (attributes of a structural op, hooks, metadata) is the entry's payload.
"""

from __future__ import annotations

import weakref

from tapegrad import core
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.ops.registry import BY_CODE, Elementwise


class Payload:
    """What Python attached to one entry; `attributes` are the op's own."""

    __slots__ = ("attributes", "hooks", "prehooks", "posthooks", "retained", "metadata", "trace", "packed")

    def __init__(self, attributes=None):
        self.attributes = attributes
        self.hooks = {}  # output number -> {id: hook}
        self.prehooks = {}
        self.posthooks = {}
        self.retained = {}  # output number -> weak reference to the tensor whose .grad is kept
        self.metadata = {}
        self.trace = None
        self.packed = None


def payload(e: int) -> Payload | None:
    found = core.payload_of(e)
    return found if isinstance(found, Payload) else None


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


class SlotReference(Handle):
    """Keeps a slot, and with it the entry that made it, alive."""

    __slots__ = ()

    def __init__(self, slot: int):
        core.hold(slot)
        self._slot = slot


_nodes: weakref.WeakValueDictionary[int, Node] = weakref.WeakValueDictionary()
_classes: dict[str, type] = {}
_leaves: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()  # leaf slot -> its Tensor


class Node:
    """A recorded operation: what `tensor.grad_fn` returns."""

    __slots__ = ("_reference", "__weakref__", "__dict__")

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
        name = type(self).__name__
        return f"tapegrad::autograd::{name}" if name in ("CopySlices", "CopyBackwards") else name

    def __repr__(self):
        return f"<{type(self).__name__} object at {id(self):#x}>"

    @property
    def attributes(self):
        return attributes(self._entry)

    @property
    def inputs(self) -> list:
        """The operands as tensors; only those that the entry saved still have a value."""
        e = self._entry
        return [core.wrap(core.operand_slot(e, k)) for k in range(core.entry_field(e, core.ENTRY_INPUTS))]

    @property
    def outputs(self) -> list:
        e = self._entry
        first = core.entry_field(e, core.ENTRY_INPUTS)
        slots = [core.operand_slot(e, first + k) for k in range(core.entry_field(e, core.ENTRY_NOUT))]
        return [core.wrap(s) if s else None for s in slots]

    def input_slot(self, k: int) -> int:
        return core.operand_slot(self._entry, k)

    @property
    def next_functions(self) -> tuple:
        """Per operand that came from a tensor: (the node that made it, its output number), or (None, 0)."""
        e = self._entry
        result = []
        for k in range(core.entry_field(e, core.ENTRY_INPUTS)):
            slot = core.operand_slot(e, k)
            if isinstance(self.op, Elementwise) and core.get_field(slot, core.FLAGS) & layout.WRAPPED and len(self.op.inputs) > 2:
                continue
            result.append((gradient_node(slot), core.get_field(slot, core.OUTPUT_NR) if core.get_field(slot, core.ENTRY) >= 0 else 0))
        return tuple(result)

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

    def __getattr__(self, name: str):
        if name.startswith("_saved_"):
            return saved_value(self, name[len("_saved_") :])
        # The node of a custom Function shows what `forward` and `backward` keep in their ctx.
        context = getattr(self.attributes, "ctx", None) if not name.startswith("__") else None
        if context is not None and hasattr(context, name):
            return getattr(context, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


    def __setattr__(self, name: str, value):
        context = getattr(self.attributes, "ctx", None) if name != "_reference" else None
        if context is not None:
            setattr(context, name, value)
        else:
            object.__setattr__(self, name, value)


def saved_value(node: Node, name: str):
    """`grad_fn._saved_self` and its kind: the saved operands by torch's names."""
    op = node.op
    check_saved(node._entry)
    if name == "exponent" and op.graph_name == "Pow":
        from tapegrad.dispatch import POWERS

        by_name = {v: k for k, v in POWERS.items()} | {"square": 2}
        if op.name in by_name:
            return by_name[op.name]
    if name == "result":
        return node.outputs[0]
    order = {"self": 0, "other": 1, "exponent": 1}
    if name in order and order[name] < len(node.inputs):
        slot = node.input_slot(order[name])
        return _leaves.get(slot) or core.wrap(slot)
    raise AttributeError(f"'{type(node).__name__}' object has no attribute '_saved_{name}'")


def check_saved(e: int) -> None:
    if core.entry_field(e, core.ENTRY_FLAGS) & layout.FREED:
        from tapegrad.autograd.engine import FREED_MESSAGE

        raise RuntimeError(FREED_MESSAGE)


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
        found = node_class(entry_name(e))(key)
        _nodes[key] = found
    return found


def entry_name(e: int) -> str:
    """What the graph calls entry `e`."""
    own = attributes(e)
    name = getattr(own, "graph_name", None)
    return name or BY_CODE[core.entry_field(e, core.ENTRY_OP)].backward_name


class AccumulateGrad:
    """The node at a leaf: where its gradient is added to `.grad`."""

    def __init__(self, slot: int):
        self._reference = SlotReference(slot)

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad".replace("torch", "tapegrad")

    @property
    def variable(self):
        return _leaves.get(self._reference._slot) or core.wrap(self._reference._slot)

    next_functions = ()

    def __repr__(self):
        return f"<AccumulateGrad object at {id(self):#x}>"


_accumulators: weakref.WeakValueDictionary[int, AccumulateGrad] = weakref.WeakValueDictionary()


def gradient_node(slot: int):
    """The node that receives the gradient of `slot`: its producer, AccumulateGrad for a leaf that requires grad, None otherwise."""
    flags = core.get_field(slot, core.FLAGS)
    if not flags & layout.REQUIRES_GRAD:
        return None
    if core.get_field(slot, core.ENTRY) >= 0:
        return node_of(slot)
    found = _accumulators.get(slot)
    if found is None:
        found = _accumulators[slot] = AccumulateGrad(slot)
    return found


def register_leaf(tensor) -> None:
    """Remember which Tensor object a leaf slot belongs to."""
    _leaves[tensor._slot] = tensor


def leaf_object(slot: int):
    return _leaves.get(slot)


def record(op, inputs, outputs, attributes=None, saves: int = 0, differentiable: int = -1) -> None:
    """Put a structural op on the tape if an input requires grad and recording is on.

    saves: bit k says that the value of operand k (inputs, then outputs) must stay; -1 for all.
    differentiable: bit k says that output k gets a gradient.
    """
    from tapegrad import modes
    from tapegrad.ops.plan import settled

    if not modes.word() & modes.GRAD:
        return
    for t in inputs:
        settled(t)  # a view whose base has changed takes its new place in the graph first
    if not any(core.get_field(t._slot, core.FLAGS) & layout.REQUIRES_GRAD for t in inputs):
        return
    flags = 0
    if saves == -1:
        flags = layout.SAVED_ALL | layout.HAS_SAVED
    elif saves:
        flags = saves * layout.SAVED_INPUT | layout.HAS_SAVED
    e = core.open_entry(op.code, len(inputs), len(outputs), flags)
    core.set_payload(e, attributes)
    for k, t in enumerate(inputs):
        core.attach_input(e, k, t._slot, saves == -1 or saves >> k & 1)
    for k, t in enumerate(outputs):
        j = len(inputs) + k
        grad = layout.REQUIRES_GRAD if differentiable >> k & 1 else 0
        core.attach_output(e, k, t._slot, saves == -1 or saves >> j & 1, grad)
