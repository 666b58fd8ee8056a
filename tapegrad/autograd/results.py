"""The results of a custom Function as its caller gets them: their place in the graph, and what may be done with them.

torch's rules: an input that was returned as it is, or a view, comes back as a view that refuses in-place operations; an input that was
changed in place takes the entry as its new place in the graph; a tensor returned twice gets its gradient at the last of its places.
"""

from __future__ import annotations

import warnings

from tapegrad import core, modes
from tapegrad.autograd import bases, inplace, saved
from tapegrad.autograd import node as nodes
from tapegrad.autograd.leaves import edges
from tapegrad.engine import layout
from tapegrad.tensor import Tensor

NOT_RETURNED = (
    "Some elements marked as dirty during the forward method were not returned as output. The inputs that are modified inplace must all be "
    "outputs of the Function."
)
SAVED_INPUT = (
    "An input that has been returned as-is as output is being saved for backward. This is not supported if you override setup_context. You should "
    "return and save a view of the input instead, e.g. with x.view_as(x) or setup ctx inside the forward function itself."
)
VIEW_AND_MORE = (
    "If your Function modifies inplace an input that is a view of another Tensor, your Function cannot return more than one Tensor. This is "
    "not supported by the current autograd engine. You should either make sure the input is not a view (using .clone() for example) or make "
    "your Function only return one Tensor (potentially splitting it into two Functions: one doing the inplace that returns a single Tensor "
    "and a second one that does the other operations). You can ask on the forum https://discuss.pytorch.org/ if you need help to do this "
    "change."
)


def _check_marks(ctx, outputs) -> None:
    for k, t in enumerate(ctx._dirty):
        if not isinstance(t, Tensor):
            raise RuntimeError(f"mark_dirty can only accept variables, but argument {k} is of type {type(t).__name__}")
    for t in ctx._constant:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"mark_non_differentiable only accepts variable arguments, but got {type(t).__name__}")
    if any(all(t is not out for out in outputs) for t in ctx._dirty):
        raise RuntimeError(NOT_RETURNED)


def settled(ctx, call, args, outputs, recorded: bool) -> list:
    """The results as the caller gets them: with their place in the graph, inputs that were changed in place moved to theirs."""
    _check_marks(ctx, outputs)
    inputs = [t for t in args if isinstance(t, Tensor)]
    if not ctx._dirty and not ctx._constant and all(_is_new(out, inputs) for out in outputs) and len({*map(id, outputs)}) == len(outputs):
        if recorded:
            _record(ctx, call, inputs, outputs, outputs, (1 << len(outputs)) - 1)
        ctx._keep(inputs, outputs, recorded)
        return list(outputs)
    results = [_Result(ctx, inputs, out) for out in outputs]
    made = [r for r in results if isinstance(r.out, Tensor)]
    for t in {id(r.out): r.out for r in made if r.dirty}.values():  # before anything is saved: what is saved is the tensor as it was changed
        core.bump_version(t._slot, 1)
    for k, r in enumerate(made):
        r.repeated = (r.dirty or not r.is_input) and any(r.out is later.out for later in made[k + 1 :])
    for r in made:
        if recorded and r.dirty and r.differentiable:
            _check_dirty(r, len(made))
        r.place(recorded)
    for r in made:
        if r.repeated:  # the same tensor again: its gradient arrives at the last of its places
            r.last = next(other for other in reversed(made) if other.out is r.out)
            r.dirty, r.is_view, r.holder = False, False, core.wrap(core.share_slot(r.out)) if recorded else r.last.holder
    mask = sum(1 << bit for bit, r in enumerate(made) if r.differentiable)
    if recorded and mask:
        _record(ctx, call, inputs, [None if r.repeated else r.out for r in made], [r.holder for r in made], mask)
        ctx._to_save = tuple(next((r.holder for r in made if r.out is t and not (r.dirty or r.repeated or r.is_input)), t) for t in ctx._to_save)
    views = [r for r in made if r.is_view and r.differentiable]
    for r in made:
        if r.dirty and recorded and r.differentiable:
            bases.settle_target(r.out, r.holder)
    for r in views:
        mark = layout.FUNCTION_VIEW if sum(x.differentiable for x in made) == 1 else layout.MULTI_VIEW
        flags = core.get_field(r.holder._slot, core.FLAGS) & ~layout.RESTRICTED
        core.set_field(r.holder._slot, core.FLAGS, flags | mark)
    ctx._keep(inputs, [r.holder for r in made], recorded)
    results = [r.last or r for r in results]
    return [r.holder if isinstance(r.out, Tensor) and not r.dirty else r.out for r in results]


def refuse_returned(ctx, args, outputs) -> None:
    """Raise for an input that came back as it is and was saved by `setup_context`, which cannot tell it from the result."""
    for t in (*ctx._to_save, *ctx._for_forward):
        if isinstance(t, Tensor) and all(any(t is v for v in group) for group in (args, outputs)) and all(t is not d for d in ctx._dirty):
            raise RuntimeError(SAVED_INPUT)


def _is_new(out, inputs) -> bool:
    """Whether a result is a differentiable tensor that `forward` has made, with no place in a graph: it stands for itself."""
    if not isinstance(out, Tensor) or not out.dtype.differentiable or any(out is t for t in inputs):
        return False
    s = out._slot
    return core.get_field(s, core.ENTRY) < 0 and not core.get_field(s, core.FLAGS) & (layout.LEAF_GRAD | layout.VIEW) and not edges(s)


def _record(ctx, call, inputs, outs, holders, differentiable: int) -> None:
    """Put the call on the tape; `outs` are the results as `forward` gave them, which it may have saved, `holders` those that stand for them."""
    keep = ctx._to_save if saved.default_hooks() is None else ()
    on_tape = sum(1 << (len(inputs) + bit) for bit, out in enumerate(outs) if any(t is out for t in keep if t is not None))
    call.differentiable = differentiable
    nodes.record(call.op, inputs, holders, call, saves=on_tape, differentiable=differentiable)
    ctx._outputs = tuple(t._slot for t in holders)


def _check_dirty(result, count: int) -> None:
    flags = core.get_field(result.out._slot, core.FLAGS)
    base = result.out._base
    if base is not None and result.out.requires_grad:
        if flags & layout.RESTRICTED:
            raise RuntimeError(bases.restricted_text(result.out, "is being"))
        if inplace.is_leaf(base):
            raise RuntimeError(inplace.LEAF_VIEW)
    if flags & layout.LEAF_GRAD:
        raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
    if not result.is_input:
        warnings.warn(
            "Only input Tensors should be given to ctx.mark_dirty(). If a Tensor is not an input, there is no need to pass it to mark_dirty().",
            UserWarning,
            stacklevel=4,
        )
    if flags & layout.VIEW and result.out._base is not None and count > 1:
        raise RuntimeError(VIEW_AND_MORE)


class _Result:
    """One result of `forward`, and the tensor that stands for it in the graph (`holder`)."""

    def __init__(self, ctx, inputs, out):
        self.out, self.holder = out, out
        self.dirty = self.differentiable = self.is_input = self.is_view = self.repeated = False
        self.last = None  # of its places, if it is repeated
        if isinstance(out, Tensor):
            self.dirty = any(out is t for t in ctx._dirty)
            self.is_input = any(out is t for t in inputs)
            self.differentiable = out.dtype.differentiable and all(out is not t for t in ctx._constant)

    def place(self, recorded: bool) -> None:
        """Choose the holder: a view of an input that came back as it is, a slot of its own for one that is changed, else the result."""
        out = self.out
        if out.requires_grad and not (self.differentiable and (recorded or not self.is_input and out._base is not None)):
            self.holder, self.dirty = out.detach(), False
        elif self.dirty:
            self.holder = core.wrap(core.share_slot(out)) if recorded and self.differentiable else out
        elif self.is_input:
            with modes.no_grad():
                self.holder = out.view_as(out)
            self.is_view = True
        elif core.get_field(out._slot, core.ENTRY) >= 0 or core.get_field(out._slot, core.FLAGS) & layout.LEAF_GRAD or edges(out._slot):
            self.holder = core.wrap(core.share_slot(out))  # it has a place in another graph
        else:
            self.is_view = bool(core.get_field(out._slot, core.FLAGS) & layout.VIEW) and out._base is not None
