"""In-place operations on recorded tensors, and views whose base changes.

The tape is in single-assignment form: an in-place operation makes a new slot over the same buffer, bumps the buffer's version, and the
Tensor object moves to the new slot.  If the tensor is a view, the base moves too (`CopySlices`: the base with the view's part
replaced), and every other view of that base is brought up to date when it is next used (`refresh_view`).
"""

from __future__ import annotations

import warnings

from tapegrad import core, dispatch, geometry, modes, writing
from tapegrad.autograd import hooks, saved
from tapegrad.autograd.node import entry_name, record, register_leaf, stem
from tapegrad.dtypes import PLAIN
from tapegrad.engine import layout
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable

LEAF = "a leaf Variable that requires grad is being used in an in-place operation."
LEAF_VIEW = "a view of a leaf Variable that requires grad is being used in an in-place operation."
OVERLAP = (
    "unsupported operation: more than one element of the written-to tensor refers to a single memory location. Please clone() the tensor "
    "before performing the operation."
)
INFERENCE = (
    "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal tensor before doing "
    "inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
)


RESTRICTED = layout.RESTRICTED
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


def flags_of(tensor) -> int:
    return core.get_field(tensor._slot, core.FLAGS)


def check_writable(target, values=(), name="copy_", repeated: bool = False) -> None:
    """Refuse in-place operations that torch refuses; raises before anything has changed.

    `repeated`: the operation may write to a tensor whose elements share memory (an expanded one), or writes no elements.
    """
    flags = flags_of(target)
    word = modes.word()
    if flags & layout.INFERENCE and not word & modes.INFERENCE:
        raise RuntimeError(INFERENCE)
    if word & modes.FUNCTION:
        from tapegrad.transforms import wrappers

        wrappers.refuse_captured(target, name)
    if word & modes.GRAD:
        grad = flags & layout.REQUIRES_GRAD
        base = target._base
        recorded = grad or (base is not None and base.requires_grad) or any(getattr(v, "requires_grad", False) for v in values)
        if flags & RESTRICTED and recorded:
            raise RuntimeError(restricted_text(target, "is being"))
        if base is not None and is_leaf(base) and (grad or flags_of(base) & layout.LEAF_GRAD):
            raise RuntimeError(LEAF_VIEW)
        if flags & layout.LEAF_GRAD:
            raise RuntimeError(LEAF)
    if not repeated and is_repeated(target):
        raise RuntimeError(OVERLAP)
    if word & modes.GRAD and recorded and flags & layout.HOOKED and base is not None and base.grad_fn is not None:
        take_again(target)  # the view's hooks see the gradient of what it was, not of what the operation makes of it
    if word & modes.WATCHED:
        from tapegrad.autograd import watch

        watch.writing(target)


def settle_written(target) -> None:
    """`dispatch.settle` for what is about to be written to: a view that must not be is refused as that, though its base has changed as well."""
    slot = target._slot
    if slot > 0 and flags_of(target) & RESTRICTED and modes.word() & modes.GRAD and core.get_field(slot, core.VERSION) != core.version_of(slot):
        base = target._base
        if base is not None and base.requires_grad:
            raise RuntimeError(restricted_text(target, "is being"))
    plans.settled(target)


def is_leaf(tensor) -> bool:
    return core.get_field(tensor._slot, core.ENTRY) < 0 or not flags_of(tensor) & layout.REQUIRES_GRAD


def is_repeated(tensor) -> bool:
    """Whether elements of the tensor surely share memory: a dim is repeated.  torch looks no further."""
    g = core.get_field(tensor._slot, core.GEOMETRY)
    if 0 not in geometry.strides[g] or not geometry.numels[g]:
        return False
    return any(n > 1 and step == 0 for n, step in zip(geometry.shapes[g], geometry.strides[g], strict=True))


def once(tensor) -> tuple:
    """The tensor with every repeated dim as one of size 1, and those dims."""
    dims = tuple(d for d, (n, step) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)) if n > 1 and step == 0)
    return tensor[tuple(slice(0, 1) if d in dims else slice(None) for d in range(tensor.ndim))], dims


def warn_of_repeated(name: str, example: str) -> None:
    warnings.warn(
        f"Use of {name} on expanded tensors is deprecated. Please clone() the tensor before performing this operation. This also applies to "
        f"advanced indexing e.g. {example}",
        UserWarning,
        stacklevel=4,
    )


def is_recorded(target, values) -> bool:
    if not modes.word() & modes.GRAD:
        return False
    base = target._base
    return target.requires_grad or (base is not None and base.requires_grad) or any(v.requires_grad for v in values if hasattr(v, "_slot"))


def run_elementwise(op, target, values, d):
    """The value of an elementwise op written over `target`."""
    tensors = dispatch.promoted(op, values, d)
    if not is_recorded(target, values):
        with modes.no_grad():
            result = dispatch.finish(op, tensors)
        core.assign(target, result)
        core.bump_version(target._slot, 1)
        refresh_flag(target)
        if result.dtype is target.dtype:
            dispatch.note(op, values, tensors, target)
        return target
    if any(op.inputs[0] in op.reads(k) for k, t in enumerate(tensors) if t.requires_grad):
        # The derivative reads the value that is about to be overwritten: it reads a copy (torch saves one too).
        tensors[0] = tensors[0].clone()
    result = dispatch.finish(op, tensors)
    if result.dtype is not target.dtype:
        result = dispatch.convert(result, target.dtype)
    replace(target, result)
    return target


def refresh_flag(target) -> None:
    """After an unrecorded write through a view of what needs no gradient, the view itself is up to date."""
    if flags_of(target) & layout.VIEW and not (target._base is not None and flags_of(target._base) & layout.REQUIRES_GRAD):
        core.set_field(target._slot, core.VERSION, core.version_of(target._slot))


def replace(target, result) -> None:
    """Make the freshly computed `result` the new value of `target`: its memory, its place in the graph."""
    if tuple(result.shape) != tuple(target.shape):
        result = result.expand(tuple(target.shape))
    before = target._slot
    if modes.word() & modes.SAVED_HOOKS:
        from tapegrad.autograd import watch

        watch.writing(target)  # again: the operation itself may have saved the target as an operand
    core.assign(target, result)
    core.bump_version(before, 1)
    moved = core.share_slot(target)
    holder = core.wrap(moved)
    adopt_producer(result, holder)
    settle_target(target, holder)


def adopt_producer(result, holder) -> None:
    """Let the entry that made `result` count as the producer of `holder` (same values, in the target's memory)."""
    e = core.get_field(result._slot, core.ENTRY)
    if e < 0:
        return
    record_move(result, holder)


def become_view(target, view) -> None:
    """Give `target` the sizes, the strides and the place in the graph of `view`, which is a view of it."""
    before = flags_of(target)
    kept = before & (RESTRICTED | layout.INFERENCE)
    if before & layout.LEAF_GRAD:
        kept |= layout.LEAF_GRAD | layout.REQUIRES_GRAD
    flags = flags_of(view) & ~(RESTRICTED | layout.VIEW) | kept | before & layout.VIEW
    core.set_field(view._slot, core.FLAGS, flags)
    hooks.move(target, view._slot)
    core.bump_version(target._slot, 1)
    core.set_field(target._slot, core.VERSION, core.version_of(target._slot))
    if kept & layout.LEAF_GRAD:
        register_leaf(target)


def record_move(result, holder) -> None:
    """Make `holder` the output of the entry that made `result`, which nobody else has seen."""
    e = core.get_field(result._slot, core.ENTRY)
    k = core.get_field(result._slot, core.OUTPUT_NR)
    inputs = core.entry_field(e, core.ENTRY_INPUTS)
    saved = core.entry_field(e, core.ENTRY_FLAGS) & (layout.SAVED_INPUT << (inputs + k) | layout.SAVED_ALL)
    core.retarget(e, inputs + k, result._slot, holder._slot, 1 if saved else 0)


def settle_target(target, holder) -> None:
    """Point `target` at its new slot; a view takes its base along."""
    flags = flags_of(holder)
    base = target._base
    if base is None:
        hooks.move(target, holder._slot)
        return
    view_flags = core.get_field(target._slot, core.FLAGS) & (layout.VIEW | RESTRICTED)
    new_base = core.wrap(core.share_slot(base))
    record(copy_slices, [base, holder], [new_base], plans.Parameters(copy_slices, graph_name="CopySlices", chain=view_chain(target)))
    hooks.move(base, new_base._slot)
    core.set_field(holder._slot, core.FLAGS, flags | view_flags)
    hooks.move(target, holder._slot, refreshed_later=True)
    core.set_field(target._slot, core.VERSION, core.version_of(target._slot) - 1)


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


@structural("copy_slices", "CopySlices")
def copy_slices(node, g):
    """A base with one view replaced: the base loses the gradient there, the view's new value gets it."""
    a = node.attributes
    base, view = node.inputs
    g = laid_out(g, core.get_field(base._slot, core.GEOMETRY))
    part = through(a.chain, g)
    rest = None
    if base.requires_grad:
        rest = without_part(g, a.chain)
    return rest, part.clone() if view.requires_grad else None


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


@structural("as_strided_view", "AsStrided")
def as_strided_view(node, g):
    """A view taken again from its changed base: zeros with the gradient in the view's place."""
    a = node.attributes
    base = node.inputs[0]
    if geometry.flags_of(core.get_field(node.outputs[0]._slot, core.GEOMETRY)) & layout.OVERLAPS:
        return sum_through(a.chain, base, g)
    return put_part(g, core.get_field(base._slot, core.GEOMETRY), base.dtype, a.chain)


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


def refresh_view(view) -> None:
    """Bring a view up to date after its base (or another view of it) was changed in place."""
    base = view._base
    version = core.version_of(view._slot)
    if base is None:
        core.set_field(view._slot, core.VERSION, version)
        return
    if not base.requires_grad:
        core.set_field(view._slot, core.VERSION, version)
        return
    if flags_of(view) & RESTRICTED:
        if not modes.word() & modes.GRAD:
            return  # nothing is recorded: its place in the graph is not asked for
        raise RuntimeError(restricted_text(view, "its base or another view of its base has been"))
    if base.grad_fn is None:
        core.set_field(view._slot, core.VERSION, version)
        return
    take_again(view)


def take_again(view) -> None:
    """Give a view a new place in the graph: looked up in its base as that is now."""
    base, version, flags = view._base, core.version_of(view._slot), flags_of(view) & (layout.VIEW | RESTRICTED)
    chain = view_chain(view)
    with modes.enable_grad():
        if modes.word() & modes.VIEW_REPLAY or core.get_field(view._slot, core.DTYPE) > PLAIN or view.dtype is not base.dtype:
            fresh = through(chain, base)
        elif chain and chain[0][0].name == "as_strided_op":  # which needs no element of the view to be one of the base as it is now
            fresh = core.wrap(core.share_slot(view))
            record(chain[0][0], [base], [fresh], plans.Parameters(chain[0][0], **chain[0][2](tuple(base.shape), base.stride())[3]))
        else:
            fresh = core.wrap(core.share_slot(view))
            record(as_strided_view, [base], [fresh], plans.Parameters(as_strided_view, chain=chain, graph_name="AsStridedBackward0"))
    core.set_field(fresh._slot, core.FLAGS, flags_of(fresh) | flags)
    hooks.move(view, fresh._slot)
    core.set_field(view._slot, core.VERSION, version)


# --- writes of other values ------------------------------------------------------------------------------------------
@structural("copy_op", "Copy")
def copy_op(node, g):
    """copy_: the source gets the gradient; what was there gets none."""
    return g.to(node.inputs[0].dtype)


@structural("overwrite_op", "Copy")
def overwrite_op(node, g):
    """Every element replaced: what was there gets zeros, the source, if there is one, gets the gradient."""
    old, *source = node.inputs
    return (g.new_zeros(tuple(g.shape)) if old.requires_grad else None, *(g.to(s.dtype) if s.requires_grad else None for s in source))


def overwritten(target, source=None, graph_name="CopyBackwards") -> None:
    """All elements of `target` have just been replaced, by those of `source` if the graph knows it: record that.

    A view's old value needs no gradient of its own: its base loses it by `copy_slices`.
    """
    holder = core.wrap(core.share_slot(target))
    sources = [] if source is None else [source]
    if target._base is None:
        record(overwrite_op, [target, *sources], [holder], plans.Parameters(overwrite_op, graph_name=graph_name))
    elif source is not None and source.requires_grad:
        record(copy_op, sources, [holder], plans.Parameters(copy_op, graph_name=graph_name))
    settle_target(target, holder)


def copy_into(target, source, graph_name="CopyBackwards", repeated: bool = False) -> bool:
    """target.copy_(source), recorded; true if there was nothing to record.  `repeated` as in `check_writable`."""
    if geometry.broadcast_shapes_or_none(tuple(target.shape), tuple(source.shape)) != tuple(target.shape):
        source = drop_leading_ones(source, target)
    check_writable(target, [source], repeated=repeated)
    writing.refuse_overlap(target, [source])
    dispatch.warn_of_loss(source.dtype, target.dtype)
    plain, place = source, target
    if core.get_field(plain._slot, core.BUFFER) == core.get_field(target._slot, core.BUFFER):
        plain = plain.clone()  # overlapping memory is read before it is written
    if repeated and 0 in target.stride():
        place = target.detach()[tuple(slice(None if step else 1) for step in target.stride())]  # each element once
    if not is_recorded(target, [source]):
        core.assign(place, plain)
        core.bump_version(target._slot, 1)
        refresh_flag(target)
        return True
    with modes.no_grad():
        core.assign(place, plain)
    core.bump_version(target._slot, 1)
    overwritten(target, source, graph_name)
    return False


def drop_leading_ones(source, target):
    """torch lets an assigned value have extra leading dims of size 1."""
    shape = tuple(source.shape)
    while len(shape) > target.ndim and shape[0] == 1:
        shape = shape[1:]
    return source.reshape(shape).expand(tuple(target.shape))


def put_into(target, advanced, values, accumulate) -> None:
    """target[index tensors] = values, recorded."""
    from tapegrad.ops import index_writes
    from tapegrad.ops.indexing import arrays_of

    check_writable(target, [values], repeated=True)
    if is_repeated(target):
        warn_of_repeated("index_put_", "tensor[indices] = tensor")
    values = dispatch.convert(values, target.dtype)
    if not accumulate and not is_recorded(target, [values]) and index_writes.put_by_kernel(target, advanced, values):
        refresh_flag(target)
        return
    array = target._array()
    recorded = is_recorded(target, [values])
    base = target.detach().clone() if recorded else None
    source = values.detach()._array()
    place = arrays_of(advanced, target.shape)
    wanted = array[place].shape
    while source.ndim > len(wanted) and source.shape[0] == 1:
        source = source[0]
    index_writes.put_array(array, advanced, target.shape, source, accumulate, target.dtype)
    del base
    core.bump_version(target._slot, 1)
    if not recorded:
        refresh_flag(target)
        return
    holder = core.wrap(core.share_slot(target))
    plan = plans.Parameters(index_writes.index_put_op, indices=tuple(advanced), accumulate=accumulate, values_shape=tuple(values.shape))
    record(index_writes.index_put_op, [target, values], [holder], plan)
    settle_target(target, holder)


def detach_inplace(tensor):
    """Tensor.detach_."""
    if flags_of(tensor) & layout.VIEW and tensor._base is not None:
        raise RuntimeError(
            "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for training, and "
            "gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence detach_() cannot be called on these "
            "gradients. To fix this error, please refer to the Optimizer.zero_grad() function in torch/optim/optimizer.py as the solution."
        )
    if core.get_field(tensor._slot, core.ENTRY) >= 0 or flags_of(tensor) & layout.REQUIRES_GRAD:
        if not tensor.is_leaf:
            saved.forbid(tensor._slot)
        core.move_handle(tensor, core.share_slot(tensor))
    return tensor


def fill_(tensor, value, graph_name="FillBackward2"):
    """Tensor.fill_: every element replaced by a number or 0-d tensor."""
    given = value
    if hasattr(value, "_slot"):
        if value.ndim:
            check_writable(tensor, [value], repeated=True)
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
        graph_name = "FillBackward3"
    else:
        value = dispatch.number_slot(dispatch.operand("fill_", value, 2, "value"), tensor.dtype)
    if copy_into(tensor, value, graph_name, repeated=True):
        plans.note_store(copy_op, tensor, core.get_field(tensor._slot, core.GEOMETRY), 0, value, given)
    return tensor


def by_function(function, apart: bool = False):
    """The in-place form of an op that has no kernel of its own: compute, then replace.

    Operands may be the tensor itself, unless they must be `apart`, but not a part of it.
    """

    def run(self, *args, **kwargs):
        settle_written(self)
        tensors = [a for a in args if hasattr(a, "_slot")]
        check_writable(self, tensors)
        writing.refuse_overlap(self, tensors, apart)
        source = self.clone() if is_recorded(self, tensors) else self
        result = function(source, *args, **kwargs)
        if result.shape != self.shape:
            raise RuntimeError(f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(result.shape)}")
        if result.dtype is not self.dtype:
            writing.can_store(result.dtype, self.dtype)
        if is_recorded(self, tensors) and result.requires_grad:
            if result._slot == self._slot or core.get_field(result._slot, core.BUFFER) == core.get_field(self._slot, core.BUFFER):
                result = result.clone()
            replace(self, dispatch.convert(result, self.dtype))
        else:
            core.assign(self, result)
            core.bump_version(self._slot, 1)
            refresh_flag(self)
            plans.note_written(result, self)
        return self

    run.__name__ = run.__qualname__ = function.__name__ + "_"
    run.__doc__ = f"`{function.__name__}` in place."
    return run


