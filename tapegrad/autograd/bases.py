"""Views and their bases when one of them is changed in place.

The tape is in single-assignment form, so a write through a view gives its base a new value too: an entry `CopySlices`, the base with the
view's part replaced (`settle_target`).  Every other view of that base is brought up to date when it is next used (`refresh_view`): it takes a
new place in the graph, looked up in the base by the steps that led from it to the view (`view_chain`).  Views that must not be changed, or not
while their base changes, are marked (`layout.RESTRICTED`).
"""

from __future__ import annotations

from tapegrad import core, dispatch, geometry, modes
from tapegrad.autograd import hooks
from tapegrad.autograd.leaf_node import register_leaf
from tapegrad.autograd.node import entry_name, record, stem
from tapegrad.dtypes import PLAIN
from tapegrad.engine import layout
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable

AMBIGUOUS = (
    " Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and the "
    "inplace either both inside the {0} block (if you don't want the inplace to be tracked) or both outside (if you want the inplace to be "
    "tracked)."
)
WHY_RESTRICTED = {
    layout.MULTI_VIEW: (
        " This view is the output of a function that returns multiple views. Such functions do not allow the output views to be modified "
        "inplace. You should replace the inplace operation by an out-of-place one."
    ),
    layout.FUNCTION_VIEW: (
        " This view was created inside a custom Function (or because an input was returned as-is) and the autograd logic to handle "
        "view+inplace would override the custom backward associated with the custom Function, leading to incorrect gradients. This behavior "
        "is forbidden. You can fix this by cloning the output of the custom Function."
    ),
    layout.NO_GRAD_VIEW: AMBIGUOUS.format("no_grad"),
    layout.INFERENCE_VIEW: AMBIGUOUS.format("inference_mode"),
}


def flags_of(tensor) -> int:
    return core.get_field(tensor._slot, core.FLAGS)


def view_chain(view) -> list:
    """The view steps from the base to `view`, each (op, key, make); one by strides if a tensor on the way has been turned in place since."""
    steps, one, base = [], view, view._base
    dtype = lambda t: core.get_field(t._slot, core.DTYPE)  # noqa: E731
    while one._parent is not None:
        plan, one = one._plan, one._parent
        steps.append((plan.op, plan.key, plan.make))
        viewed = getattr(plan, "viewed", None)
        if viewed is None or one._slot <= 0 or core.get_field(one._slot, core.GEOMETRY) == viewed:
            continue
        if dtype(view) == dtype(base):
            return [by_strides(base, view)]
        if dtype(one) == dtype(base):
            return [by_strides(base, one, viewed), *steps[::-1]]
    return steps[::-1]


def by_strides(base, view, g: int | None = None) -> tuple:
    """The step from `base` to `view`, in geometry `g` if it has been another, as `as_strided` makes it."""
    from tapegrad.ops.strided import step

    g = core.get_field(view._slot, core.GEOMETRY) if g is None else g
    return step(geometry.shapes[g], geometry.strides[g], view.storage_offset() - base.storage_offset())


def through(chain, x):
    for op, key, make in chain:
        x = plans.view(op, x, key, make)
    return x


def laid_out(t, model: int):
    """`t` with the strides of geometry `model`, those of the base that a chain of views counts in; a copy if it has others."""
    from tapegrad.creation import empty_of

    own, flags = core.get_field(t._slot, core.GEOMETRY), geometry.flags_of(model)
    if own == model:
        return t
    if t._level is not None or flags & layout.OVERLAPS:
        return t.contiguous()
    shape, steps = geometry.shapes[model], geometry.strides[model]
    if flags & layout.DENSE:
        return empty_of(shape, t.dtype, steps).copy_(t)
    span = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if geometry.numels[model] else 0
    return empty_of((span,), t.dtype).as_strided(shape, steps).copy_(t)


def settle_target(target, holder, value=None) -> None:
    """Point `target` at its new slot; a view takes its base along.  `value`: what a view has been overwritten with, if that is all there is to say."""
    flags = flags_of(holder)
    base = target._base
    if base is None:
        hooks.move(target, holder._slot)
        return
    view_flags = core.get_field(target._slot, core.FLAGS) & (layout.VIEW | layout.RESTRICTED)
    for view in (target, target._parent):  # in v[1] = y it is v that is used again
        recorder = write_recorder(base, view, make=True) if view is not base else None
        if recorder:
            plans.remember(recorder, lambda view=view, plan=recorder: core.remember_recorder(base._slot, view._slot, plan.address))
    new_base = core.wrap(core.share_slot(base))
    record(copy_slices, [base, holder if value is None else value], [new_base], plans.Parameters(copy_slices, graph_name="CopySlices", steps=view_chain(target)))
    hooks.move(base, new_base._slot)
    core.set_field(holder._slot, core.FLAGS, flags | view_flags)
    hooks.move(target, holder._slot, refreshed_later=True)
    core.set_field(target._slot, core.VERSION, core.version_of(target._slot) - 1)


def become_view(target, view) -> None:
    """Give `target` the sizes, the strides and the place in the graph of `view`, which is a view of it."""
    before = flags_of(target)
    kept = before & (layout.RESTRICTED | layout.INFERENCE)
    if before & layout.LEAF_GRAD:
        kept |= layout.LEAF_GRAD | layout.REQUIRES_GRAD
    flags = flags_of(view) & ~(layout.RESTRICTED | layout.VIEW) | kept | before & layout.VIEW
    core.set_field(view._slot, core.FLAGS, flags)
    hooks.move(target, view._slot)
    core.bump_version(target._slot, 1)
    core.set_field(target._slot, core.VERSION, core.version_of(target._slot))
    if kept & layout.LEAF_GRAD:
        register_leaf(target)


@structural("copy_slices", "CopySlices")
def copy_slices(node, g):
    """A base with one view replaced: the base loses the gradient there, the view's new value gets it."""
    a = node.attributes
    base, view = node.inputs
    g = laid_out(g, core.get_field(base._slot, core.GEOMETRY))
    part = through(a.steps, g)
    rest = None
    if base.requires_grad:
        rest = without_part(g, a.steps)
    return rest, part.clone() if view.requires_grad else None


_written: set[tuple] = set()  # the regions that have been written to, each with what it is a part of


def write_recorder(base, view, make: bool = False):
    """The plan by which compiled code records a write to `view` of the tensor `base`, which is no view; None if it must be left to Python.

    To `make` it is for who records one now: it is made at the second time.  Its own recorder is the plan by which the view is then looked up
    in the base again.
    """
    g, d = (core.get_field(base._slot, field) for field in (core.GEOMETRY, core.DTYPE))
    region = core.get_field(view._slot, core.GEOMETRY)
    if view._base is not base or core.get_field(view._slot, core.DTYPE) != d or d not in layout.SUMMED or not geometry.is_contiguous(g) or geometry.flags_of(region) & layout.OVERLAPS:
        return None
    offset = core.data_of(view._slot) - core.data_of(base._slot)
    place = (copy_slices.code, g, d, region, offset)
    if (plan := plans.kept(place)) is None and make:
        if place not in _written:  # many are written once: a plan is for the second time
            if len(_written) >= plans.LIMIT:
                _written.clear()
            _written.add(place)
            return None
        steps, rule = view_chain(view), (layout.SWEEP_REPLACED, region, offset)
        again = plans.Plan(as_strided_view, [(region, d)], rules=[(layout.SWEEP_EMBED, region, offset)], graph_name="AsStridedBackward0", steps=steps)
        plan = plans.Plan(copy_slices, [(g, d)], rules=[rule, rule], recorder=again, graph_name="CopySlices", steps=steps)
        plan = plans.keep(place, plan, ((g, d),))
    return plan


@structural("without_part", "CopySlices")
def without_part_op(node, g):
    """The derivative is the same: zero where the view looks."""
    return without_part(laid_out(g, node.attributes.model), node.attributes.chain)


@transformable(linear="g")
def without_part(g, chain):
    """`g` with zeros where the view looks."""
    plans.settled(g)
    with modes.no_grad():
        rest = g.detach().clone()
        core.assign(through(chain, rest), dispatch.number_slot(0, g.dtype))
    model = core.get_field(g._slot, core.GEOMETRY)
    record(without_part_op, [g], [rest], plans.Parameters(without_part_op, chain=chain, model=model))
    return rest


def refresh_view(view) -> None:
    """Bring a view up to date after its base (or another view of it) was changed in place."""
    base = view._base
    if base is not None and base.requires_grad:
        if flags_of(view) & layout.RESTRICTED:
            if not modes.word() & modes.GRAD:
                return  # nothing is recorded: its place in the graph is not asked for
            raise RuntimeError(restricted_text(view, "its base or another view of its base has been"))
        if base.grad_fn is not None:
            take_again(view)
            return
    core.set_field(view._slot, core.VERSION, core.version_of(view._slot))


def take_again(view) -> None:
    """Give a view a new place in the graph: looked up in its base as that is now."""
    base, version, flags = view._base, core.version_of(view._slot), flags_of(view) & (layout.VIEW | layout.RESTRICTED)
    chain = view_chain(view)
    with modes.enable_grad():
        if modes.word() & modes.VIEW_REPLAY or core.get_field(view._slot, core.DTYPE) > PLAIN or view.dtype is not base.dtype:
            fresh = through(chain, base)
        elif chain and chain[0][0].name == "as_strided_op":  # which needs no element of the view to be one of the base as it is now
            fresh = core.wrap(core.share_slot(view))
            record(chain[0][0], [base], [fresh], plans.Parameters(chain[0][0], **chain[0][2](tuple(base.shape), base.stride())[3]))
        else:
            fresh = core.wrap(core.share_slot(view))
            record(as_strided_view, [base], [fresh], plans.Parameters(as_strided_view, steps=chain, graph_name="AsStridedBackward0"))
    core.set_field(fresh._slot, core.FLAGS, flags_of(fresh) | flags)
    hooks.move(view, fresh._slot)
    core.set_field(view._slot, core.VERSION, version)


@structural("as_strided_view", "AsStrided")
def as_strided_view(node, g):
    """A view taken again from its changed base: zeros with the gradient in the view's place."""
    a = node.attributes
    base = node.inputs[0]
    if geometry.flags_of(core.get_field(node.outputs[0]._slot, core.GEOMETRY)) & layout.OVERLAPS:
        return sum_through(a.steps, base, g)
    return put_part(g, core.get_field(base._slot, core.GEOMETRY), base.dtype, a.steps)


def sum_through(chain, base, g):
    """The gradient of a base through views that show elements more than once (expand): by differentiating the views again."""
    from tapegrad import autograd
    from tapegrad.creation import zeros

    recorded = modes.is_grad_enabled()
    with modes.enable_grad():
        probe = zeros(tuple(base.shape), dtype=base.dtype, requires_grad=True)
        return autograd.grad(through(chain, probe), probe, g, create_graph=recorded)[0]


@structural("put_part", "CopySlices")
def put_part_op(node, g):
    """The derivative is the view."""
    return through(node.attributes.chain, laid_out(g, node.attributes.model))


@transformable(linear="g")
def put_part(g, model, dtype, chain):
    """Zeros of geometry `model` with `g` where the view looks."""
    plans.settled(g)
    with modes.no_grad():
        out = laid_out(g.new_zeros(tuple(geometry.shapes[model]), dtype=dtype), model)
        core.assign(through(chain, out), g)
    record(put_part_op, [g], [out], plans.Parameters(put_part_op, chain=chain, model=model))
    return out


def restricted_text(view, what: str) -> str:
    """Why the view, or its base (`what` "is being" or "... has been" modified), must not be changed in place."""
    flags = flags_of(view)
    e = core.get_field(view._slot, core.ENTRY)
    by_mode = flags & (layout.NO_GRAD_VIEW | layout.INFERENCE_VIEW)
    output = f"Output {view.output_nr} of {stem(entry_name(e))} is a view" if e >= 0 else ""
    if output and not by_mode:
        text = f"{output} and {what} modified inplace."
    else:
        text = f"{output} of a view which was created in" if output else "A view was created in"
        if flags & layout.INFERENCE_VIEW:
            text += f" inference mode and {what} modified inplace in normal mode."
        else:
            text += f" no_grad mode and {what} modified inplace with grad mode enabled."
    return text + next(reason for flag, reason in WHY_RESTRICTED.items() if flags & flag)
