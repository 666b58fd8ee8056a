"""Custom differentiable functions: `Function` with static `forward` and `backward`.

`Function.apply` runs `forward` without recording and records one entry, whose payload is a `Call`: the context, where its operands are
among the arguments and the results, and the saved tensors.  What may be done with the results is torch's rule (`results.py`).
"""

from __future__ import annotations

import functools
import inspect
import warnings

from tapegrad import core, modes
from tapegrad.autograd import node as nodes
from tapegrad.autograd import results, saved, underived
from tapegrad.autograd.node import BackwardCFunction, Node
from tapegrad.ops.registry import Structural, structural
from tapegrad.ops.transformable import ACTIVE
from tapegrad.tensor import Tensor


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, flags, and any attribute."""

    _to_save: tuple = ()
    _for_forward: tuple = ()
    _given: tuple | None = None  # what `saved_tensors` is while a transform runs `jvp` or `backward`
    _dirty: tuple = ()
    _constant: tuple = ()
    _materialize = True
    _materialize_non_diff_grads = True
    _outputs: tuple = ()  # the slots of the entry's outputs, once recorded; they do not keep it alive
    _freed = False
    needs_input_grad: tuple = ()

    def __init__(self):
        self._saved: list = []

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

    def _keep(self, inputs, outputs, recorded: bool) -> None:
        """Turn what `save_for_backward` was given into saved tensors, in its order; there are none where nothing is recorded."""
        if not recorded:
            self._to_save = ()
            return
        slots = [t._slot for t in (*inputs, *outputs)]
        for k, t in enumerate(self._to_save):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type {type(t).__name__}")
        for t in self._to_save:
            place = slots.index(t._slot) if t is not None and t._slot in slots else None
            self._saved.append(saved.SavedValue(t, place, output=place is not None and place >= len(inputs)))
        self._to_save = ()


class Call:
    """One call of a Function: the payload of its entry."""

    op: Structural  # custom_function, below

    def __init__(self, function, ctx, arguments, results):
        self.function, self.ctx = function, ctx
        self.input_places = {k: tuple(t.shape) for k, t in enumerate(arguments) if isinstance(t, Tensor)}
        self.output_places = [k for k, out in enumerate(results) if isinstance(out, Tensor)]
        self.output_count = len(results)
        self.outputs = [(tuple(out.shape), out.dtype) for out in results if isinstance(out, Tensor)]
        self.differentiable = -1  # bit k: whether output k is
        self.graph_name = function.__name__ + "Backward"
        self.node_class = function._backward_cls

    def everywhere(self, gs) -> list:
        """Gradients of the outputs, one per result: None for what is no tensor."""
        result = [None] * self.output_count
        for place, g in zip(self.output_places, gs, strict=True):
            result[place] = g
        return result

    def let_go(self) -> None:
        """The backward pass is through with the entry: give up the saved tensors."""
        self.ctx._freed = True
        for kept in self.ctx._saved:
            kept.let_go()


@structural("custom_function", "CustomFunction", shows_all=True)
def custom_function(node, *gs):
    """A user's Function: its own backward."""
    call = node.attributes
    ctx, name = call.ctx, call.graph_name
    if ctx._materialize:
        wanted = call.differentiable if not ctx._materialize_non_diff_grads else -1
        gs = [g if g is not None or not wanted >> k & 1 else _zeros(*made) for k, (g, made) in enumerate(zip(gs, call.outputs, strict=True))]
    found = call.function._derivative()(ctx, *call.everywhere(gs))
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


Call.op = custom_function


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

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._backward_cls = type(cls.__name__ + "Backward", (BackwardCFunction,), {"__slots__": ()})

    _backward_cls: type[Node] = BackwardCFunction
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
    def _signature(cls) -> inspect.Signature:
        """The signature of `forward`, which takes longer to find than a call."""
        known = cls.__dict__.get("_known_signature")
        if known is None or known[0] is not cls.forward:
            known = cls._known_signature = cls.forward, inspect.signature(cls.forward)
        return known[1]

    @classmethod
    def apply(cls, *args, **kwargs):
        """Run `forward` without recording, then record one entry whose derivative is `backward`."""
        if cls.setup_context is not Function.setup_context:  # it sees the defaults of `forward` too
            signature = cls._signature()
            if kwargs or len(args) != len(signature.parameters):
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                args, kwargs = bound.args, bound.kwargs
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
        before = modes.word()
        try:
            modes.set_grad(False)
            if cls.setup_context is not Function.setup_context:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        finally:
            core.exchange_modes(modes.GRAD_MODES, before & modes.GRAD_MODES)  # without a Python frame, in which a KeyboardInterrupt could come first
        outputs = result if isinstance(result, tuple) else (result,)
        if (ctx._to_save or ctx._for_forward) and cls.setup_context is not Function.setup_context:
            results.refuse_returned(ctx, args, outputs)
        outputs = results.settled(ctx, Call(cls, ctx, args, outputs), args, outputs, recorded)
        return tuple(outputs) if isinstance(result, tuple) else outputs[0], ctx


class InplaceFunction(Function):
    """torch's old base class for Functions that may work in place."""

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace


ONCE = "trying to differentiate twice a function that was marked with @once_differentiable"


def once_differentiable(backward):
    """Decorate a `backward` that itself cannot be differentiated."""

    @functools.wraps(backward)
    def wrapper(ctx, *gs):
        with modes.no_grad():
            found = backward(ctx, *gs)
        if not modes.is_grad_enabled() or not any(isinstance(g, Tensor) and g.requires_grad for g in gs):
            return found
        given = found if isinstance(found, tuple) else (found,)
        placeholder = core.wrap(core.share_slot(gs[0]))  # stands for a gradient that is None in the graph
        inputs = [placeholder if g is None else g.detach().requires_grad_() for g in given]
        refused = iter(underived.refused([g for g in given if g is not None], inputs, ONCE))
        outputs = tuple(None if g is None else next(refused) for g in given)
        return outputs if isinstance(found, tuple) else outputs[0]

    return wrapper
