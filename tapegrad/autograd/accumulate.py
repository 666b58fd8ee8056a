"""What a backward pass leaves behind: gradients in the `.grad` of leaves, and of tensors that retain theirs."""

from __future__ import annotations

from tapegrad import core, geometry, modes
from tapegrad.autograd import hooks as hooking
from tapegrad.autograd import inplace, leaf_node
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout
from tapegrad.ops.plan import Parameters


def store_grad(slot: int, g, create: bool) -> None:
    """What AccumulateGrad does at a leaf: its node's hooks, `.grad`, the hooks after it."""
    node = leaf_node.hooked_leaf(slot)
    if node is not None and node.prehooks:
        (g,) = hooking.run_on_node(node.prehooks, [g])
    if g is not None:
        fresh = not core.get_field(slot, core.GRAD)
        add_grad(slot, g, create)
        g = core.wrap(core.get_field(slot, core.GRAD)) if fresh else g
    leaf = leaf_node.leaf_object(slot)
    if leaf is not None and leaf._post_hooks:
        with modes.no_grad():
            hooking.run_after_accumulation(leaf._post_hooks, leaf)
    if node is not None and node.posthooks:
        hooking.run_on_node(node.posthooks, [], (g,))


def add_grad(slot: int, g, create: bool) -> None:
    """Add `g` to the gradient that the leaf of `slot` holds."""
    held = core.get_field(slot, core.GRAD)
    if held == 0:
        g = own_copy(slot, g, create)
        core.hold(g._slot)
        core.set_field(slot, core.GRAD, g._slot)
        return
    old = core.wrap(held)
    if create:
        g = old + g
        core.hold(g._slot)
        core.set_field(slot, core.GRAD, g._slot)
        core.drop(held)
    else:
        with modes.no_grad():  # in place: the gradient stays the tensor that the user may have, with the graph that it may have
            old.add_(g)


def own_copy(slot, g, create: bool):
    """The gradient as a tensor that shares memory with nothing, laid out like the leaf where that is dense."""
    layout_of = core.get_field(slot, core.GEOMETRY)
    if not geometry.flags_of(layout_of) & layout.DENSE:
        layout_of = geometry.geometry(tuple(geometry.shapes[layout_of]))
    fresh = core.allocate_slot(layout_of, core.get_field(g._slot, core.DTYPE))
    result = core.wrap(fresh)
    core.assign(result, g)
    if create and g.requires_grad:
        before = core.wrap(core.share_slot(result))  # as in torch's graph, where what was copied over is an input too
        nodes.record(inplace.overwrite_op, [before, g], [result], Parameters(inplace.overwrite_op, graph_name="CopyBackwards"))
    return result


def retain_into(tensor, g, create: bool) -> None:
    """Keep the gradient of a non-leaf tensor that asked for it."""
    slot = tensor._slot
    held = core.get_field(slot, core.GRAD)
    kept = g if create else g.detach()
    if held:
        kept = core.wrap(held) + kept
    elif not create:
        kept = kept.clone()
    core.hold(kept._slot)
    core.set_field(slot, core.GRAD, kept._slot)
    if held:
        core.drop(held)
