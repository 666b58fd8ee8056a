"""In-place operations on recorded tensors.

The tape is in single-assignment form: an in-place operation makes a new slot over the same buffer, bumps the buffer's version, and the
Tensor object moves to the new slot.  If the tensor is a view, the base moves too (`bases.settle_target`).
"""

from __future__ import annotations

import warnings

from tapegrad import core, dispatch, geometry, modes, writing
from tapegrad.autograd import saved
from tapegrad.autograd.bases import flags_of, restricted_text, settle_target, take_again
from tapegrad.autograd.node import record
from tapegrad.dtypes import PLAIN
from tapegrad.engine import layout
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import BY_NAME, structural

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
        if flags & layout.RESTRICTED and recorded:
            raise RuntimeError(restricted_text(target, "is being"))
        refuse_leaf(target)
    if not repeated and is_repeated(target):
        raise RuntimeError(OVERLAP)
    if word & modes.GRAD and recorded and flags & layout.HOOKED and base is not None and base.grad_fn is not None:
        take_again(target)  # the view's hooks see the gradient of what it was, not of what the operation makes of it
    if word & modes.WATCHED:
        from tapegrad.autograd import watch

        watch.writing(target)


def refuse_leaf(target) -> None:
    """Where operations are recorded, a leaf that requires grad is not written to, nor a view of one."""
    if modes.word() & modes.GRAD:
        flags, base = flags_of(target), target._base
        if base is not None and is_leaf(base) and (flags & layout.REQUIRES_GRAD or flags_of(base) & layout.LEAF_GRAD):
            raise RuntimeError(LEAF_VIEW)
        if flags & layout.LEAF_GRAD:
            raise RuntimeError(LEAF)


def settle_written(target) -> None:
    """`dispatch.settle` for what is about to be written to: a view that must not be is refused as that, though its base has changed as well."""
    slot = target._slot
    if slot > 0 and flags_of(target) & layout.RESTRICTED and modes.word() & modes.GRAD and core.get_field(slot, core.VERSION) != core.version_of(slot):
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
    given = tensors = dispatch.promoted(op, values, d)
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
        tensors = [hidden_copy(tensors[0]), *tensors[1:]]
    result = dispatch.finish(op, tensors)
    if result.dtype is not target.dtype:
        result = dispatch.convert(result, target.dtype)
    replace(target, result)
    dispatch.note(op, values, given, target)
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
    holder = core.wrap(core.share_slot(target))
    adopt_producer(result, holder)
    settle_target(target, holder)


def adopt_producer(result, holder) -> None:
    """Make `holder` the output of the entry, if there is one, that made `result`, which nobody else has seen: the same values, in the target's memory."""
    e = core.get_field(result._slot, core.ENTRY)
    if e < 0:
        return
    k = core.get_field(result._slot, core.OUTPUT_NR)
    inputs = core.entry_field(e, core.ENTRY_INPUTS)
    saved = core.entry_field(e, core.ENTRY_FLAGS) & (layout.SAVED_INPUT << (inputs + k) | layout.SAVED_ALL)
    core.retarget(e, inputs + k, result._slot, holder._slot, 1 if saved else 0)


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
        if source.dtype is target.dtype and source.shape == target.shape:
            return settle_target(target, holder, source)
        record(copy_op, sources, [holder], plans.Parameters(copy_op, graph_name=graph_name))
    settle_target(target, holder)


def overwrite_recorder(target, graph_name: str):
    """The plan by which compiled code records that all of `target` has been replaced; None if that must be left to Python, or `target` is a view."""
    g, d = (core.get_field(target._slot, field) for field in (core.GEOMETRY, core.DTYPE))
    if target._base is not None or d not in layout.SUMMED or not geometry.is_contiguous(g):
        return None
    place, rule = (overwrite_op.code, g, d, graph_name), (layout.SWEEP_REPLACED, g, 0)
    return plans.kept(place) or plans.keep(place, plans.Plan(overwrite_op, [(g, d)], rules=[rule, rule], graph_name=graph_name), ((g, d),))


def copy_into(target, source, graph_name="CopyBackwards", repeated: bool = False, assigned: bool = False) -> bool:
    """target.copy_(source), recorded; true if there was nothing to record.  `repeated` as in `check_writable`.

    `assigned`, by x[index] = source: what is broadcast may be a part of the target, as in x[1] = x[1, 0].
    """
    if geometry.broadcast_shapes_or_none(tuple(target.shape), tuple(source.shape)) != tuple(target.shape):
        source = drop_leading_ones(source, target)
    check_writable(target, [source], repeated=repeated)
    if not (repeated or assigned and source.shape != target.shape):  # such elements are read first
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
    recorded = is_recorded(target, [values])
    if not accumulate and not recorded and index_writes.put_by_kernel(target, advanced, values):
        refresh_flag(target)
        return
    array, source = target._array(), values.detach()._array()
    wanted = array[arrays_of(advanced, target.shape)].ndim
    while source.ndim > wanted and source.shape[0] == 1:
        source = source[0]
    index_writes.put_array(array, advanced, target.shape, source, accumulate, target.dtype)
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
        check_writable(tensor, [value])  # a number may be written to an expanded tensor, a tensor may not
        graph_name = "FillBackward3"
    else:
        refuse_leaf(tensor)
        value = dispatch.number_slot(dispatch.operand("fill_", value, 2, "value"), tensor.dtype)
    recorder = None if copy_into(tensor, value, graph_name, repeated=True) else overwrite_recorder(tensor, graph_name)
    plans.note_store(copy_op, tensor, core.get_field(tensor._slot, core.GEOMETRY), 0, value, given, recorder)
    return tensor


def hidden_copy(tensor):
    """A copy that the graph does not show (`node.asked_for`)."""
    if tensor._level is not None or core.get_field(tensor._slot, core.DTYPE) > PLAIN:
        return tensor.clone()
    return dispatch.finish(BY_NAME["carried_out_op"], [tensor])


def by_function(function, apart: bool = False, looked: int | None = None):
    """The in-place form of an op that has no kernel of its own: compute, then replace.

    Operands may be the tensor itself, unless they must be `apart`, but not a part of it; of that, torch looks at the first `looked` of them only.
    """

    def run(self, *args, **kwargs):
        settle_written(self)
        tensors = [a for a in args if hasattr(a, "_slot")]
        check_writable(self, tensors)
        if not apart:
            writing.refuse_overlap(self, tensors[:looked])
        source = hidden_copy(self) if is_recorded(self, tensors) else self
        result = function(source, *args, **kwargs)
        if apart:  # what the function asks of its arguments comes first
            writing.refuse_overlap(self, tensors[:looked], True)
        if result.shape != self.shape:
            raise RuntimeError(f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(result.shape)}")
        if result.dtype is not self.dtype:
            writing.can_store(result.dtype, self.dtype)
        if is_recorded(self, tensors) and result.requires_grad:
            if result._slot == self._slot or core.get_field(result._slot, core.BUFFER) == core.get_field(self._slot, core.BUFFER):
                result = result.clone()
            replace(self, dispatch.convert(result, self.dtype))
            plans.note_written(result, self, source)
        else:
            core.assign(self, result)
            core.bump_version(self._slot, 1)
            refresh_flag(self)
            plans.note_written(result, self)
        return self

    run.__name__ = run.__qualname__ = function.__name__ + "_"
    run.__doc__ = f"`{function.__name__}` in place."
    return run


