"""InGraph: a tensor's place in the graph - whether it is recorded, its gradient, its hooks, and leaving."""

from __future__ import annotations

from tapegrad import core, modes
from tapegrad.core import DTYPE, ENTRY, FLAGS, GEOMETRY, GRAD
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.naming import type_name
from tapegrad.ops import chains
from tapegrad.ops.transformable import ACTIVE


class InGraph(Handle):
    """The attributes and methods of Tensor that autograd is about."""

    __slots__ = ()

    def _require_grad(self):
        from tapegrad.autograd import leaf_node

        core.set_field(self._slot, FLAGS, core.get_field(self._slot, FLAGS) | layout.REQUIRES_GRAD | layout.LEAF_GRAD)
        leaf_node.register_leaf(self)
        if ACTIVE:
            from tapegrad.transforms import wrappers

            wrappers.own_leaf(self)

    @property
    def requires_grad(self):
        """Whether operations on the tensor are recorded."""
        flags = core.get_field(self._slot, FLAGS)
        if flags & layout.VIEW and not flags & layout.REQUIRES_GRAD:
            base = self._base
            return base is not None and self.dtype.differentiable and core.get_field(base._slot, FLAGS) & layout.REQUIRES_GRAD != 0
        return bool(flags & layout.REQUIRES_GRAD)

    @requires_grad.setter
    def requires_grad(self, value):
        self._change_requires_grad(value, "only Tensors of floating point and complex dtype can require gradients", setter=True)

    @requires_grad.deleter
    def requires_grad(self):
        raise RuntimeError("requires_grad must be a bool")

    def requires_grad_(self, requires_grad=True):
        """Switch recording for a leaf; returns the tensor."""
        if not isinstance(requires_grad, bool):
            raise TypeError(f"requires_grad_(): argument 'requires_grad' (position 1) must be bool, not {type_name(requires_grad)}")
        self._change_requires_grad(requires_grad, "only Tensors of floating point dtype can require gradients")
        return self

    def _change_requires_grad(self, value, refusal, setter=False):
        if not isinstance(value, bool):
            raise RuntimeError("requires_grad must be a bool")
        if ACTIVE:
            from tapegrad.transforms import wrappers

            wrappers.refuse_inside(wrappers.NO_REQUIRES_GRAD)
        if not self.is_leaf:
            if value and not setter:
                return
            if value:
                raise RuntimeError("you can only change requires_grad flags of leaf variables.")
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that doesn't "
                "require differentiation use var_no_grad = var.detach()."
            )
        from tapegrad.autograd import leaves

        on = core.get_field(self._slot, FLAGS) & layout.LEAF_GRAD
        if value:
            self._check_may_require_grad(refusal)
            if not on:
                leaves.switch_on(self)
            self._require_grad()
        elif on:
            leaves.switch_off(self)

    def _check_may_require_grad(self, refusal):
        if not self.dtype.differentiable:
            raise RuntimeError(refusal)
        if self.is_inference() and not modes.is_inference_mode_enabled():
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")

    def _settle(self):
        from tapegrad.ops import plan

        return plan.settled(self)

    def _is_view(self):
        """Whether the tensor is a view that shares its base's place in the graph."""
        return self._base is not None

    @property
    def is_leaf(self):
        """Whether the tensor was made by the user rather than by a recorded operation."""
        slot = self._settle()
        return core.get_field(slot, ENTRY) < 0 or not core.get_field(slot, FLAGS) & layout.REQUIRES_GRAD

    @property
    def grad_fn(self):
        """The node that made the tensor, None for a leaf."""
        from tapegrad.autograd import node

        slot = self._settle()
        return node.node_of(slot) if core.get_field(slot, FLAGS) & layout.REQUIRES_GRAD else None  # an index that came along has none

    @property
    def _grad_fn(self):
        """torch's other name for `grad_fn`; may be set to None, which detaches the tensor."""
        return self.grad_fn

    @_grad_fn.setter
    def _grad_fn(self, value):
        if value is not None:
            raise RuntimeError("_grad_fn can be only set to None")
        self.detach_()

    @_grad_fn.deleter
    def _grad_fn(self):
        raise RuntimeError("Deletion of _grad_fn not allowed. Detach tensor instead!")

    @property
    def output_nr(self):
        """Which output of its node the tensor is."""
        return core.get_field(self._slot, core.OUTPUT_NR) if core.get_field(self._slot, FLAGS) & layout.REQUIRES_GRAD else 0

    @property
    def grad(self):
        """The accumulated gradient of a leaf, None before the first backward."""
        held = core.get_field(self._slot, GRAD)
        if not held:
            if not self.is_leaf and not self.retains_grad:
                import warnings

                warnings.warn(
                    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated during "
                    "autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use .retain_grad() on the "
                    "non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf Tensor instead. See "
                    "github.com/pytorch/pytorch/pull/30531 for more information.",
                    UserWarning,
                    stacklevel=2,
                )
            return None
        cached = self._grad_held
        if cached is None or cached._slot != held:
            cached = self._grad_held = core.wrap(held)
        return cached

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, Handle):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{value.dtype.short}' to a tensor with grad_dtype "
                    f"'{self.dtype.scalar_name}'. The gradient must match the tensor's grad_dtype (defaults to the tensor's dtype). You can set "
                    "the tensor's grad_dtype attribute with a specific dtype, or None to allow any dtype. Set grad_dtype with caution. "
                    "Diverging the dtypes of a tensor and its gradient may break downstream systems that assume they match."
                )
            if value.shape != self.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size '{list(self.shape)}'. Please ensure that "
                    "the gradient and the tensor are the same size"
                )
            core.hold(value._slot)
        held = core.get_field(self._slot, GRAD)
        core.set_field(self._slot, GRAD, 0 if value is None else value._slot)
        self._grad_held = value
        if held:
            core.drop(held)

    @grad.deleter
    def grad(self):
        self.grad = None

    _grad = grad  # torch's other name for it

    @property
    def retains_grad(self):
        """Whether a non-leaf keeps its gradient."""
        if self.is_leaf:
            return False
        from tapegrad.autograd import node

        payload = node.payload(core.get_field(self._slot, ENTRY))
        return payload is not None and core.get_field(self._slot, core.OUTPUT_NR) in payload.retained

    def retain_grad(self):
        """Keep the gradient of this non-leaf in `.grad` during backward."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        from tapegrad.transforms import wrappers

        wrappers.refuse_inside(wrappers.unsupported("retain_grad"))
        if self.is_leaf or self.retains_grad:
            return
        from tapegrad.autograd import hooks

        hooks.retain(self)

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Differentiate this tensor with respect to the leaves it was computed from; gradients are added to their `.grad`."""
        from tapegrad import autograd

        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def register_hook(self, hook):
        """Call `hook(grad)` whenever the gradient of this tensor is known; a returned tensor replaces it."""
        from tapegrad.autograd import hooks

        return hooks.register(self, hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call `hook(tensor)` after a gradient has been added to the `.grad` of this leaf."""
        from tapegrad.autograd import hooks

        return hooks.register_post_accumulate(self, hook)

    def detach(self):
        """The same memory, apart from the graph."""
        out = core.wrap(core.share_slot(self))
        flags = core.get_field(self._slot, FLAGS) & layout.INFERENCE
        if flags:
            core.set_field(out._slot, FLAGS, flags)
        if chains.here():
            from tapegrad.ops import plan as plans

            plans.note_detached(self, out)
        return out

    def detach_(self):
        """Leave the graph, in place."""
        from tapegrad.autograd import inplace

        return inplace.detach_inplace(self)

    @property
    def data(self):
        """The same memory with a version counter of its own: changes through it are not noticed."""
        if not self.numel():
            return self.detach()
        out = core.wrap(core.data_slot(self._slot))
        core.set_field(out._slot, FLAGS, core.get_field(self._slot, FLAGS) & layout.INFERENCE)
        return out

    @data.deleter
    def data(self):
        raise RuntimeError("Deleting tensor data is not allowed. Delete tensor instead!")

    @data.setter
    def data(self, value):
        if not isinstance(value, Handle):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        version = 0 if self.is_inference() else self._version
        self._take_data(value)
        if not self.is_inference():
            self.__dict__["_version_offset"] = core.version_of(self._slot) - version  # the count is the tensor's, not the memory's

    def _take_data(self, value):
        flags = core.get_field(self._slot, FLAGS)
        if flags & layout.REQUIRES_GRAD and not (value.dtype.is_floating_point or value.dtype.is_complex):
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        if all(core.get_field(self._slot, f) == core.get_field(value._slot, f) for f in (GEOMETRY, DTYPE)):
            self._exchange_memory(core.wrap(core.share_slot(value)))
            return
        held = core.get_field(self._slot, GRAD)
        fresh = core.share_slot(value)
        core.set_field(fresh, FLAGS, flags & (layout.REQUIRES_GRAD | layout.LEAF_GRAD))
        if held:
            core.hold(held)
            core.set_field(fresh, GRAD, held)
        core.move_handle(self, fresh)
        if flags & layout.LEAF_GRAD:
            self._require_grad()

    def _exchange_memory(self, other):
        """Take the memory of `other`, which has the same geometry and dtype and gets this one's: the place in the graph stays."""
        rows = core.slot_view()
        for field in ("data", "buffer"):
            mine, its = int(rows[field][self._slot]), int(rows[field][other._slot])
            rows[field][self._slot], rows[field][other._slot] = its, mine
