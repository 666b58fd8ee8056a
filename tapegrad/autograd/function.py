"""Custom differentiable functions: `Function` with static `forward` and `backward`.

`Function.apply` runs `forward` without recording and records one entry, whose payload is a `Call`: the context, where its operands are
among the arguments and the results, and the saved tensors.  What may be done with the results is torch's rule (`Call.settle`): an input
that was returned as it is, or a view, comes back as a view that refuses in-place operations; an input that was changed in place takes the
entry as its new place in the graph.
"""

from __future__ import annotations

import functools
import warnings

from tapegrad import core, modes
from tapegrad.autograd import inplace, saved
from tapegrad.autograd import node as nodes
from tapegrad.autograd.leaves import edges
from tapegrad.engine import layout
from tapegrad.ops.plan import Parameters
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import ACTIVE
from tapegrad.tensor import Tensor

NOT_RETURNED = (
    "Some elements marked as dirty during the forward method were not returned as output. The inputs that are modified inplace must all be "
    "outputs of the Function."
)
VIEW_AND_MORE = (
    "If your Function modifies inplace an input that is a view of another Tensor, your Function cannot return more than one Tensor. This is "
    "not supported by the current autograd engine. You should either make sure the input is not a view (using .clone() for example) or make "
    "your Function only return one Tensor (potentially splitting it into two Functions: one doing the inplace that returns a single Tensor "
    "and a second one that does the other operations). You can ask on the forum https://discuss.pytorch.org/ if you need help to do this "
    "change."
)


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, flags, and any attribute."""

    def __init__(self):
        self._to_save: tuple = ()
        self._for_forward: tuple = ()
        self._given: tuple | None = None  # what `saved_tensors` is while a transform runs `jvp` or `backward`
        self._dirty: tuple = ()
        self._constant: tuple = ()
        self._materialize = True
        self._outputs: tuple = ()  # the slots of the entry's outputs, once recorded; they do not keep it alive
        self._saved: list = []
        self._freed = False
        self.needs_input_grad: tuple = ()

    def save_for_backward(self, *tensors):
        """Keep tensors (or None) for `backward`; a second call replaces the first."""
        self._to_save = tensors

    def save_for_forward(self, *tensors):
        """Keep tensors for `jvp`."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise AssertionError(
                    "save_for_forward expects all arguments to be tensors; you should save non-tensors as attributes on ctx."
                )
        self._for_forward = tensors

    def mark_dirty(self, *tensors):
        """Inputs that `forward` has changed in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Outputs that have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value):
        """Whether missing output gradients reach `backward` as zeros (True) or None."""
        if not isinstance(value, bool):
            raise TypeError("set_materialize_grads received an invalid combination of arguments - got (), but expected (bool)")
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple:
        """The tensors saved by `save_for_backward` (in `jvp`, by `save_for_forward`), checked for later in-place changes."""
        if self._given is not None:
            return tuple(self._given)
        self._check_freed()
        e = self._entry()
        return tuple(kept.unpack(e) for kept in self._saved)

    def _entry(self) -> int | None:
        """Where on the tape the call is, None if it is not there or no longer."""
        for slot in self._outputs:
            e = core.get_field(slot, core.ENTRY)
            if 0 <= e < core.entry_count.value and getattr(nodes.attributes(e), "ctx", None) is self:  # the slot may be another value's by now
                return e
        return None

    def _check_freed(self) -> None:
        if self._freed:
            raise RuntimeError(saved.FREED)

    @property
    def saved_variables(self) -> tuple:
        warnings.warn("'saved_variables' is deprecated; use 'saved_tensors'", DeprecationWarning, stacklevel=2)
        return self.saved_tensors

    @property
    def _raw_saved_tensors(self) -> tuple:
        self._check_freed()
        return tuple(self._saved)

    def _keep(self, inputs, outputs) -> None:
        """Turn what `save_for_backward` was given into saved tensors, in its order."""
        slots = [t._slot for t in (*inputs, *outputs)]
        for k, t in enumerate(self._to_save):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type {type(t).__name__}")
        for t in self._to_save:
            place = slots.index(t._slot) if t is not None and t._slot in slots else None
            self._saved.append(saved.SavedTensor(t, place, output=place is not None and place >= len(inputs)))
        self._to_save = ()


class Call:
    """One call of a Function: the payload of its entry."""

    def __init__(self, function, ctx, arguments, results):
        self.function, self.ctx = function, ctx
        self.input_places = {k: tuple(t.shape) for k, t in enumerate(arguments) if isinstance(t, Tensor)}
        self.output_places = [k for k, out in enumerate(results) if isinstance(out, Tensor)]
        self.output_count = len(results)
        self.outputs = [(tuple(out.shape), out.dtype) for out in results if isinstance(out, Tensor)]
        self.graph_name = function.__name__ + "Backward"

    def let_go(self) -> None:
        """The backward pass is through with the entry: give up the saved tensors."""
        self.ctx._freed = True
        for kept in self.ctx._saved:
            kept.let_go()


@structural("custom_function", "CustomFunction")
def custom_function(node, *gs):
    """A user's Function: its own backward."""
    call = node.attributes
    ctx, name = call.ctx, call.graph_name
    if ctx._materialize:
        gs = [g if g is not None else _zeros(*made) for g, made in zip(gs, call.outputs, strict=True)]
    everywhere = [None] * call.output_count
    for place, g in zip(call.output_places, gs, strict=True):
        everywhere[place] = g
    found = call.function._derivative()(ctx, *everywhere)
    found = found if isinstance(found, tuple) else (found,)
    count = len(ctx.needs_input_grad)
    if len(found) > count and all(g is None for g in found[count:]):
        found = found[:count]
    if len(found) != count:
        raise RuntimeError(f"function {name} returned an incorrect number of gradients (expected {count}, got {len(found)})")
    result = []
    for k, g in enumerate(found):
        if k not in call.input_places:
            if g is not None:
                raise RuntimeError(
                    f"function {name} returned a gradient different than None at position {k + 1}, but the corresponding forward input was not a "
                    "Variable"
                )
            continue
        if g is not None and not isinstance(g, Tensor):
            raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
        result.append(g if g is None else _fitted(g, call.input_places[k], k, name))
    return result


def _fitted(g, shape, k, name):
    """A gradient that `backward` returned, summed to the shape of its input."""
    if tuple(g.shape) == shape:
        return g
    try:
        return g.sum_to_size(shape)
    except RuntimeError:
        raise RuntimeError(
            f"Function {name} returned an invalid gradient at index {k} - got {list(g.shape)} but expected shape compatible with {list(shape)}"
        ) from None


def _zeros(shape, dtype):
    from tapegrad.creation import zeros

    return zeros(shape, dtype=dtype)


class Function:
    """Subclass with static methods `forward(ctx, *args)` and `backward(ctx, *grads)`; call by `apply`.

    >>> import tapegrad as tg
    >>> class Square(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 2 * g * x
    >>> x = tg.tensor(3., requires_grad=True)
    >>> Square.apply(x).backward()
    >>> x.grad
    tensor(6.)
    """

    def __init__(self, *args, **kwargs):
        warnings.warn(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should invoke them on the class itself. "
            "Instantiating an autograd function will raise an error in a future version of PyTorch.",
            DeprecationWarning,
            stacklevel=2,
        )

    def __call__(self, *args, **kwargs):
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function with static forward "
            "method. (Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"
        )

    @staticmethod
    def forward(*args, **kwargs):
        """The value: `forward(ctx, *args)`, or `forward(*args)` where there is a `setup_context(ctx, inputs, output)`."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Fill `ctx` after `forward(*args)`; a Function without it gets the context in `forward`."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grads):
        """The gradients of the arguments, one for each (None for what has none), for those of the results."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD."
        )

    vjp = backward  # another name for it
    generate_vmap_rule = False  # whether vmap may run the methods on batched tensors

    @staticmethod
    def jvp(ctx, *tangents):
        """The tangents of the results, one for each (None for what has none), for those of the arguments."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @staticmethod
    def vmap(info, in_dims, *args):
        """(result, out_dims) of a batch: `info` has batch_size and randomness, `in_dims` says where the batch is in each argument."""
        raise NotImplementedError(
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or set generate_vmap_rule=True."
        )

    @classmethod
    def _derivative(cls):
        """`backward`, or `vjp` if the class has that instead."""
        if cls.vjp is Function.vjp:
            return cls.backward
        if cls.backward is not Function.backward:
            raise RuntimeError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only implement one of them."
            )
        return cls.vjp

    @classmethod
    def apply(cls, *args, **kwargs):
        """Run `forward` without recording, then record one entry whose derivative is `backward`."""
        if ACTIVE:
            from tapegrad.transforms import custom

            found = custom.apply(cls, args, kwargs)
            if found is not NotImplemented:
                return found
        return cls._run(args, kwargs)[0]

    @classmethod
    def _run(cls, args, kwargs):
        """(result, context) of a call on plain tensors."""
        ctx = FunctionCtx()
        for t in args:
            if isinstance(t, Tensor):
                t._settle()
        ctx.needs_input_grad = tuple(isinstance(t, Tensor) and t.requires_grad for t in args)
        recorded = bool(modes.word() & modes.GRAD) and any(ctx.needs_input_grad)
        before = modes.set_grad(False)
        try:
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        finally:
            modes.restore(before)
        outputs = result if isinstance(result, tuple) else (result,)
        outputs = _settle(cls, ctx, args, outputs, recorded)
        return tuple(outputs) if isinstance(result, tuple) else outputs[0], ctx


def _check_marks(ctx, outputs) -> None:
    for k, t in enumerate(ctx._dirty):
        if not isinstance(t, Tensor):
            raise RuntimeError(f"mark_dirty can only accept variables, but argument {k} is of type {type(t).__name__}")
    for t in ctx._constant:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"mark_non_differentiable only accepts variable arguments, but got {type(t).__name__}")
    if any(all(t is not out for out in outputs) for t in ctx._dirty):
        raise RuntimeError(NOT_RETURNED)


def _settle(cls, ctx, args, outputs, recorded: bool) -> list:
    """The results as the caller gets them: with their place in the graph, inputs that were changed in place moved to theirs."""
    _check_marks(ctx, outputs)
    inputs = [t for t in args if isinstance(t, Tensor)]
    call = Call(cls, ctx, args, outputs)
    if not ctx._dirty and not ctx._constant and all(_is_new(out, inputs) for out in outputs) and len({*map(id, outputs)}) == len(outputs):
        if recorded:
            _record(ctx, call, inputs, outputs, outputs, (1 << len(outputs)) - 1)
        ctx._keep(inputs, outputs)
        return list(outputs)
    results = [_Result(ctx, inputs, out) for out in outputs]
    made = [r for r in results if isinstance(r.out, Tensor)]
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
    if recorded:
        mask = sum(1 << bit for bit, r in enumerate(made) if r.differentiable)
        _record(ctx, call, inputs, [None if r.repeated else r.out for r in made], [r.holder for r in made], mask)
        ctx._to_save = tuple(next((r.holder for r in made if r.out is t and not r.dirty and not r.repeated), t) for t in ctx._to_save)
    views = [r for r in made if r.is_view and r.differentiable]
    for r in made:
        if r.dirty:
            core.bump_version(r.out._slot, 1)
            if recorded and r.differentiable:
                inplace.settle_target(r.out, r.holder)
    for r in views:
        mark = layout.FUNCTION_VIEW if sum(x.differentiable for x in made) == 1 else layout.MULTI_VIEW
        flags = core.get_field(r.holder._slot, core.FLAGS) & ~layout.RESTRICTED
        core.set_field(r.holder._slot, core.FLAGS, flags | mark)
    ctx._keep(inputs, [r.holder for r in made])
    results = [r.last or r for r in results]
    return [r.holder if isinstance(r.out, Tensor) and not r.dirty else r.out for r in results]


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
    nodes.record(custom_function, inputs, holders, call, saves=on_tape, differentiable=differentiable)
    ctx._outputs = tuple(t._slot for t in holders)


def _check_dirty(result, count: int) -> None:
    flags = core.get_field(result.out._slot, core.FLAGS)
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
        if not self.differentiable and out.requires_grad:
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


def once_differentiable(backward):
    """Decorate a `backward` that itself cannot be differentiated."""

    @functools.wraps(backward)
    def wrapper(ctx, *gs):
        with modes.no_grad():
            found = backward(ctx, *gs)
        if not modes.is_grad_enabled() or not any(isinstance(g, Tensor) and g.requires_grad for g in gs):
            return found
        outputs = found if isinstance(found, tuple) else (found,)
        outputs = tuple(_refused(g, [x for x in gs if isinstance(x, Tensor)]) if g is not None else None for g in outputs)
        return outputs if isinstance(found, tuple) else outputs[0]

    return wrapper


def _refused(value, gs):
    """`value` as a tensor that requires grad but whose derivative is an error."""
    out = core.wrap(core.share_slot(value))
    nodes.record(error_op, gs, [out], Parameters(error_op, graph_name="Error"))
    return out


@structural("error", "Error")
def error_op(node, g):
    """The derivative of what may be differentiated only once."""
    raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
