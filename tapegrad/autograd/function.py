"""Custom differentiable functions: `Function` with static `forward` and `backward`."""

from __future__ import annotations

import functools
import warnings

from tapegrad import core, modes
from tapegrad.autograd import node as nodes
from tapegrad.engine import layout
from tapegrad.ops.registry import structural
from tapegrad.tensor import Tensor


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, flags, and any attribute."""

    def __init__(self):
        self._to_save = ()
        self._dirty: tuple = ()
        self._constant: tuple = ()
        self._materialize = True
        self.needs_input_grad: tuple = ()

    def save_for_backward(self, *tensors):
        """Keep tensors for `backward`; a second call replaces the first."""
        for k, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type {type(t).__name__}")
        self._to_save = tensors

    def save_for_forward(self, *tensors):
        self._for_forward = tensors

    def mark_dirty(self, *tensors):
        """Inputs that `forward` has changed in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Outputs that have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value):
        """Whether missing output gradients reach `backward` as zeros (True) or None."""
        self._materialize = value

    @property
    def saved_tensors(self):
        """The tensors saved by `save_for_backward`, checked for later in-place changes."""
        entry = self._position()
        if entry is not None:
            nodes.check_saved(entry)
        result = []
        for t, version in zip(self._to_save, self._versions, strict=True):
            if t is not None and core.version_of(t._slot) != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"[tapegrad.{t.dtype.legacy} {list(t.shape)}] is at version {core.version_of(t._slot)}; expected version {version} instead. "
                    "Hint: enable anomaly detection to find the operation that failed to compute its gradient, with "
                    "tapegrad.autograd.set_detect_anomaly(True, check_nan=False)."
                )
            result.append(t)
        return tuple(result)

    def _position(self):
        reference = self.__dict__.get("_reference")
        found = reference() if reference else None
        return found._entry if found is not None else None


class _Attributes:
    """The payload of a custom entry."""

    def __init__(self, function, ctx, input_places, output_count):
        self.function, self.ctx, self.input_places, self.output_count = function, ctx, input_places, output_count
        self.graph_name = function.__name__ + "Backward"


@structural("custom_function", "CustomFunction")
def custom_function(node, *gs):
    """A user's Function: its own backward."""
    a = node.attributes
    outputs = node.outputs
    if a.ctx._materialize:
        gs = [g if g is not None else _zeros(out) for g, out in zip(gs, outputs, strict=True)]
    found = a.function.backward(a.ctx, *_spread(a, gs))
    found = found if isinstance(found, tuple) else (found,)
    names = a.graph_name
    count = len(a.ctx.needs_input_grad)
    if len(found) > count and all(g is None for g in found[count:]):
        found = found[:count]
    if len(found) != count:
        raise RuntimeError(f"function {names} returned an incorrect number of gradients (expected {count}, got {len(found)})")
    result = []
    for k, g in enumerate(found):
        if k not in a.input_places:
            if g is not None:
                raise RuntimeError(
                    f"function {names} returned a gradient different than None at position {k + 1}, but the corresponding forward input was not a "
                    "Variable"
                )
            continue
        if g is not None:
            if not isinstance(g, Tensor):
                raise TypeError(f"function {names} returned a {type(g).__name__} at position {k + 1}, expected a Tensor or None")
            shape = a.input_places[k]
            if tuple(g.shape) != shape:
                try:
                    g = g.sum_to_size(shape)
                except RuntimeError:
                    raise RuntimeError(
                        f"Function {names} returned an invalid gradient at index {k} - got {list(g.shape)} but expected shape compatible with "
                        f"{list(shape)}"
                    ) from None
        result.append(g)
    return result


def _zeros(out):
    from tapegrad.creation import zeros

    return zeros(tuple(out.shape), dtype=out.dtype) if out is not None else None


def _spread(a, gs):
    """The gradients at the places of all outputs; non-tensors have None."""
    result = [None] * a.output_count
    for place, g in zip(a.output_places, gs, strict=True):
        result[place] = g
    return result


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
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD."
        )

    @classmethod
    def apply(cls, *args):
        """Run `forward` without recording, then record one entry whose derivative is `backward`."""
        ctx = FunctionCtx()
        for t in args:
            if isinstance(t, Tensor):
                t._settle()
        ctx.needs_input_grad = tuple(isinstance(t, Tensor) and t.requires_grad for t in args)
        recorded = modes.is_grad_enabled() and any(ctx.needs_input_grad)
        with modes.no_grad():
            if "setup_context" in {name for kind in cls.__mro__[:-2] for name in vars(kind)}:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        outputs = result if isinstance(result, tuple) else (result,)
        tensors = [t for t in args if isinstance(t, Tensor)]
        if recorded:
            outputs = cls._record(ctx, args, tensors, outputs)
        ctx._versions = [None if t is None else core.version_of(t._slot) for t in ctx._to_save]
        return tuple(outputs) if isinstance(result, tuple) else outputs[0]

    @classmethod
    def _record(cls, ctx, args, tensors, outputs):
        dirty = {id(t) for t in ctx._dirty}
        constant = {id(t) for t in ctx._constant}
        fresh, holders, places = [], [], []
        for k, out in enumerate(outputs):
            if not isinstance(out, Tensor):
                fresh.append(out)
                continue
            places.append(k)
            if id(out) in dirty:
                holders.append(core.wrap(core.share_slot(out)))
                fresh.append(out)
            else:
                holder = core.wrap(core.share_slot(out)) if any(out is t for t in tensors) or out.requires_grad or not out.is_leaf else out
                holders.append(holder)
                fresh.append(holder)
        attributes = _Attributes(cls, ctx, {k: tuple(t.shape) for k, t in enumerate(args) if isinstance(t, Tensor)}, len(outputs))
        attributes.output_places = places
        mask = 0
        for bit, k in enumerate(places):
            if id(outputs[k]) not in constant and holders[bit].dtype.is_floating_point:
                mask |= 1 << bit
        nodes.record(custom_function, tensors, holders, attributes, saves=0, differentiable=mask)
        e = core.get_field(holders[0]._slot, core.ENTRY) if holders else -1
        if e >= 0:
            if ctx._to_save:
                core.set_entry_flags(e, layout.ALIVE | layout.HAS_SAVED)
            import weakref

            ctx._reference = weakref.ref(nodes.node_of(holders[0]._slot))
        from tapegrad.autograd import inplace

        for bit, k in enumerate(places):
            if id(outputs[k]) in dirty:
                core.bump_version(outputs[k]._slot, 1)
                inplace.settle_target(outputs[k], holders[bit])
        return fresh


def once_differentiable(backward):
    """Decorate a `backward` that itself cannot be differentiated."""

    @functools.wraps(backward)
    def wrapper(ctx, *gs):
        with modes.no_grad():
            found = backward(ctx, *gs)
        if not modes.is_grad_enabled() or not any(isinstance(g, Tensor) and g.requires_grad for g in gs):
            return found
        outputs = found if isinstance(found, tuple) else (found,)
        outputs = tuple(_Refuse.apply(g, *[x for x in gs if isinstance(x, Tensor)]) if g is not None else None for g in outputs)
        return outputs if isinstance(found, tuple) else outputs[0]

    return wrapper


class _Refuse(Function):
    @staticmethod
    def forward(ctx, value, *gs):
        return value.detach()

    @staticmethod
    def backward(ctx, *gs):
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
