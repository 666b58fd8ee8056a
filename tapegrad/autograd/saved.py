"""Saved values: what a derivative reads, and how hooks pack it; `saved_errors` says when it has changed.

An operand that an entry saves stays on the tape: its slot, and the version that its memory had.  Where hooks are active
(`graph.saved_tensors_hooks`, `SavedTensor.register_hooks`) the tape gives the value up and the entry's payload has what the pack hook
returned instead; such an entry is a barrier for the compiled sweep.  Tensors that are not operands (index tensors, what a custom
Function saves) are `SavedValue` objects from the start.  Start reading at `pack_entry` and `operand`.
"""

from __future__ import annotations

import threading
import weakref

from tapegrad import core, modes
from tapegrad.autograd import leaf_node, saved_errors
from tapegrad.autograd import node as nodes
from tapegrad.dispatch import refuse_inference
from tapegrad.engine import layout
from tapegrad.ops.registry import structural

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
    "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
    "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors after "
    "calling backward."
)
CHANGED_BY_HOOK = (
    "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook cannot be modified by in-place "
    "operations as this can lead to unexpected side-effects. Please open an issue if you need to perform in-place operations on the input "
    "to a pack hook."
)
HOOKS_AFTER_FREED = (
    "Calling register_hooks on a saved tensor after it has been freed. Saved intermediate values of the graph are freed when you call "
    ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if you need to "
    "access saved variables after calling backward."
)
DETACHED = (
    "Trying to use a saved tensor that has been detached in-place, i.e. with .detach_().This is not supported, please use out-of-place "
    "`.detach()` instead"
)


# --- the default hooks, per thread ----------------------------------------------------------------------------------
class _Defaults(threading.local):
    def __init__(self):
        self.pairs: list[tuple] = []  # (pack, unpack), innermost last
        self.refusal: str | None = None


_defaults = _Defaults()


def push_hooks(pack, unpack) -> None:
    """Make a pair of hooks the default of this thread."""
    if _defaults.refusal is not None:
        raise RuntimeError(_defaults.refusal)
    _defaults.pairs.append((pack, unpack))
    modes.set_bits(modes.SAVED_HOOKS, True)


def pop_hooks() -> None:
    if _defaults.pairs:  # else a backward pass inside the context has ended it
        _defaults.pairs.pop()
    if not _defaults.pairs:
        modes.set_bits(modes.SAVED_HOOKS, False)


def active_hooks() -> tuple:
    """The default hooks of this thread, to be put back by `put_back_hooks`."""
    return tuple(_defaults.pairs)


def put_back_hooks(pairs: tuple) -> None:
    """After a backward pass: what its hooks have done to the default hooks counts no more."""
    if tuple(_defaults.pairs) != pairs:
        _defaults.pairs[:] = pairs
        modes.set_bits(modes.SAVED_HOOKS, bool(pairs))


def refuse_hooks(message: str | None, even_active: bool = True) -> str | None:
    """Let default hooks raise `message` from now on (None: allow them); returns what was set before."""
    if message is not None and even_active and _defaults.pairs:
        raise RuntimeError(message)
    before, _defaults.refusal = _defaults.refusal, message
    return before


def default_hooks():
    return _defaults.pairs[-1] if _defaults.pairs else None


def call_pack(pack, tensor):
    """What the pack hook makes of `tensor`, which it must leave as it is."""
    version = core.version_of(tensor._slot)
    with modes.no_grad():
        packed = pack(tensor)
    if core.version_of(tensor._slot) != version:
        raise RuntimeError(CHANGED_BY_HOOK)
    return packed


def call_unpack(unpack, packed):
    from tapegrad.tensor import Tensor

    value = unpack(packed)
    if not isinstance(value, Tensor):
        raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(value).__name__}")
    return value


# --- operands of entries ----------------------------------------------------------------------------------------------
def is_saved(e: int, k: int) -> bool:
    """Whether the tape keeps the value of operand `k` of entry `e`."""
    flags = core.entry_field(e, core.ENTRY_FLAGS)
    return bool(flags & layout.SAVED_ALL or (k < 24 and flags & layout.SAVED_INPUT << k))


def check_inference(inputs, outputs) -> None:
    """Raise if the entry that has just been recorded, if any, saves a tensor that was made in inference mode."""
    e = core.get_field(outputs[0]._slot, core.ENTRY)
    if e >= 0:
        refuse_inference(t._slot for k, t in enumerate(inputs) if is_saved(e, k))


def torch_order(inputs: int, count: int) -> list[int]:
    """The operands in the order in which torch saves them: 'other' before 'self', outputs last."""
    return [*range(1, inputs), 0, *range(inputs, count)] if inputs else list(range(count))


def pack_entry(e: int, inputs, outputs) -> None:
    """Hand the values that the new entry `e` saves to the default hooks; `inputs` and `outputs` are its operands as objects."""
    tensors = [*inputs, *outputs]
    for k in torch_order(len(inputs), len(tensors)):
        if is_saved(e, k) and not core.get_field(tensors[k]._slot, core.FLAGS) & layout.WRAPPED:
            pack_operand(e, k, tensors[k], *default_hooks())


def pack_operand(e: int, k: int, tensor, pack, unpack) -> None:
    """Keep what `pack` makes of operand `k` of entry `e` in place of its value."""
    found = call_pack(pack, tensor)
    own = nodes.own_payload(e)
    own.packed = own.packed or {}
    own.packed[k] = (found, unpack)
    flags = core.entry_field(e, core.ENTRY_FLAGS)
    core.set_entry_flags(e, flags & ~(layout.SAVED_INPUT << k))
    core.unlink(core.operand_slot(e, k), 0, 1, 0)
    core.settle()


def operand(e: int, k: int, own=None):
    """Operand `k` of entry `e` as a tensor: unpacked if hooks have packed it."""
    slot = core.operand_slot(e, k)
    if own is not None and own.packed and k in own.packed:
        if own.unpacked is not None and k in own.unpacked:
            return own.unpacked[k]
        found, unpack = own.packed[k]
        return linked(call_unpack(unpack, found), slot)
    return core.wrap(slot) if slot else None


def forbid(slot: int) -> None:
    """The tensor of `slot` leaves the graph in place: entries that have saved it as an input can be differentiated no more."""

    def refuse(_):
        raise RuntimeError(DETACHED)

    start = max(core.get_field(slot, core.ENTRY), -1) + 1
    for e in range(start, core.entry_count.value):
        if core.entry_field(e, core.ENTRY_FLAGS) & layout.ALIVE:
            for k in range(core.entry_field(e, core.ENTRY_INPUTS)):
                if core.operand_slot(e, k) == slot and is_saved(e, k):
                    pack_operand(e, k, core.wrap(slot), lambda tensor: None, refuse)


class unpacked_values:
    """While the derivative of entry `e` runs: every packed value, unpacked once, in torch's order."""

    def __init__(self, e: int):
        self.e = e

    def __enter__(self):
        e, own, attributes = self.e, nodes.payload(self.e), nodes.attributes(self.e)
        self.opened = []
        if own is not None and own.packed:
            inputs = core.entry_field(e, core.ENTRY_INPUTS)
            order = torch_order(inputs, inputs + core.entry_field(e, core.ENTRY_NOUT))
            values = {k: operand(e, k, own) for k in order if k in own.packed}
            own.unpacked = values
            self.opened.append(own)
        kept = getattr(attributes, "saved", None)
        if kept:
            attributes.unpacked = {name: unpack_all(value, e) for name, value in kept.items()}
            self.opened.append(attributes)

    def __exit__(self, *exception):
        for holder in self.opened:
            holder.unpacked = None


def release(e: int) -> None:
    """A backward pass is through with entry `e`: let go of what Python keeps for it."""
    own = nodes.payload(e)
    if own is not None and own.packed:
        own.packed = None
    attributes = own.attributes if own is not None else core.payload_of(e)
    let_go = getattr(attributes, "let_go", None)
    if let_go is not None:
        let_go()


@structural("unpacked", "Unpacked")
def unpacked_op(node, g):
    """A value that a hook has brought back: it stands for the operand that was packed."""
    return g


def linked(tensor, slot: int):
    """`tensor`, come back from a hook, in the place of `slot` in the graph."""
    tensor = tensor.detach() if tensor.requires_grad else tensor
    if not slot or not core.get_field(slot, core.FLAGS) & layout.REQUIRES_GRAD:
        return tensor
    place = (core.BUFFER, core.GEOMETRY, core.DTYPE)
    if core.data_of(slot) == core.data_of(tensor._slot) and all(core.get_field(slot, f) == core.get_field(tensor._slot, f) for f in place):
        leaf = leaf_node.leaf_object(slot)
        return core.wrap(slot) if leaf is None else leaf
    fresh = core.wrap(core.share_slot(tensor))
    if modes.is_grad_enabled():
        nodes.record(unpacked_op, [core.wrap(slot)], [fresh])
    else:
        core.set_field(fresh._slot, core.FLAGS, core.get_field(fresh._slot, core.FLAGS) | layout.REQUIRES_GRAD)
    return fresh


# --- other tensors ----------------------------------------------------------------------------------------------------
class SavedTensor:
    """A saved tensor as nodes show it (`_raw_saved_self`): an object on which hooks can be registered.  Python cannot make one."""

    __slots__ = ()

    def __init__(self):
        raise RuntimeError("Trying to create a SavedTensor object from Python is forbidden.")


class SavedValue(SavedTensor):
    """A tensor kept for a backward pass, with the version that it had; or what the pack hook made of it.

    `place` is the operand of the entry that it is, if any.  An output of the entry itself is held weakly: the tape has its value.
    `linked`: unpacked from a hook, it is in the place in the graph that it had, though it is no operand.
    """

    __slots__ = ("tensor", "version", "place", "packed", "unpack_hook", "freed", "link", "__weakref__")

    def __init__(self, tensor, place: int | None = None, output: bool = False, linked: bool = False):
        self.place, self.freed = place, False
        self.packed = self.unpack_hook = None
        self.version = None if tensor is None else core.version_of(tensor._slot)
        pair = default_hooks()
        if pair is not None and tensor is not None:
            self.tensor = None
            self.packed, self.unpack_hook = call_pack(pair[0], tensor), pair[1]
            self.link = leaf_node.SlotReference(tensor._slot) if linked else None
        else:
            self.tensor, self.link = weakref.ref(tensor) if output else tensor, None

    def unpack(self, e: int | None = None):
        """The value; `e` is the entry that saved it."""
        if self.freed:
            raise RuntimeError(FREED)
        slot = core.operand_slot(e, self.place) if e is not None and self.place is not None else 0 if self.link is None else self.link._slot
        if self.unpack_hook is not None:
            return linked(call_unpack(self.unpack_hook, self.packed), slot)
        if self.version is None:
            return None
        tensor = self.tensor
        if isinstance(tensor, weakref.ref):
            tensor = tensor()
            if slot and (tensor is None or tensor._slot != slot):
                tensor = core.wrap(slot)
            if tensor is None:  # an output that is gone, and the entry with it
                raise RuntimeError(FREED)
        now = core.version_of(tensor._slot)
        if now != self.version:
            raise saved_errors.changed_error(tensor._slot, tensor.dtype, tensor.shape, saved_errors.current_producer(tensor._slot), now, self.version)
        return tensor

    def register_hooks(self, pack, unpack) -> None:
        """Replace the value by `pack(value)`, to be brought back by `unpack`."""
        check_hooks(pack, unpack)
        if self.freed:
            raise RuntimeError(HOOKS_AFTER_FREED)
        refuse_second(self.version is None, self.unpack_hook is not None)
        tensor = self.unpack()
        self.packed = call_pack(pack, tensor.detach())
        self.unpack_hook, self.tensor = unpack, None

    def let_go(self) -> None:
        self.freed = True
        self.tensor = self.packed = self.unpack_hook = None


def check_hooks(pack, unpack) -> None:
    if not callable(pack) or not callable(unpack):
        raise TypeError("register_hooks(): incompatible function arguments: pack_hook and unpack_hook must be callable")


def refuse_second(is_none: bool, hooked: bool) -> None:
    if is_none:
        raise RuntimeError("Calling register_hooks on a saved tensor with value None is forbidden")
    if hooked:
        raise RuntimeError(
            "Calling register_hooks on a saved tensor whose hooks have already been set. Hint: only one pair of hooks is allowed at a time."
        )


class SavedOperand(SavedTensor):
    """A saved operand of a node, as `node._raw_saved_self` shows it; `k` is None for one that was not saved."""

    def __init__(self, node, k: int | None):
        self._node, self._k = node, k

    def register_hooks(self, pack, unpack) -> None:
        """Replace the value by `pack(value)`, to be brought back by `unpack`."""
        check_hooks(pack, unpack)
        e = self._node._entry
        if core.entry_field(e, core.ENTRY_FLAGS) & layout.FREED:
            raise RuntimeError(HOOKS_AFTER_FREED)
        own = nodes.payload(e)
        refuse_second(self._k is None, own is not None and bool(own.packed) and self._k in own.packed)
        slot = core.operand_slot(e, self._k)
        pack_operand(e, self._k, core.wrap(slot).detach(), pack, unpack)


def unpack_all(value, e):
    """The value of a saved attribute: one tensor, or a tuple of which some are."""
    if isinstance(value, SavedValue):
        return value.unpack(e)
    return tuple(v.unpack(e) if isinstance(v, SavedValue) else v for v in value)


def keep_attributes(attributes, slots) -> bool:
    """Turn the tensors among an op's attributes into saved tensors; `slots` are the entry's inputs.  True if there is one."""
    from tapegrad.tensor import Tensor

    def saved(t):
        refuse_inference([t._slot])
        return SavedValue(t, slots.index(t._slot) if t._slot in slots else None)

    found = {}
    for name, value in list(vars(attributes).items()):
        if isinstance(value, Tensor):
            found[name] = saved(value)
        elif isinstance(value, tuple) and any(isinstance(v, Tensor) for v in value):
            found[name] = tuple(saved(v) if isinstance(v, Tensor) else v for v in value)
        else:
            continue
        del attributes.__dict__[name]
    if found:
        attributes.saved = found
    return bool(found)
