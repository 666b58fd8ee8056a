"""Tensor: the Python face of a slot.

An object holds a slot number and what only Python needs.  Operators and elementwise methods are compiled descriptors (`install.py`);
structural methods come from the files of `ops/`; here is what belongs to the object itself: attributes, conversions, autograd methods,
the Python protocol.
"""

from __future__ import annotations

import ctypes

import numpy as np

from tapegrad import core, dtypes, geometry, modes
from tapegrad.device import CPU
from tapegrad.dtypes import BY_CODE
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.ops.transformable import ACTIVE

GEOMETRY, DTYPE, FLAGS, ENTRY, GRAD = core.GEOMETRY, core.DTYPE, core.FLAGS, core.ENTRY, core.GRAD


class _Exporter:
    """Gives NumPy the memory of a tensor and keeps the tensor alive while an array looks at it."""

    __slots__ = ("__array_interface__", "tensor")

    def __init__(self, tensor, interface):
        self.tensor = tensor
        self.__array_interface__ = interface


class _TensorType(type):
    """Legacy constructors are types with which isinstance asks for a dtype."""


class Tensor(Handle, metaclass=_TensorType):
    """A multi-dimensional array that records what is done with it.  Made by `tapegrad.tensor`, `zeros` and their kind."""

    __slots__ = ("_grad_object", "_base_object", "_parent_object", "_plan_object", "_hooks_dict", "_post_hooks_dict", "__weakref__", "__dict__")

    def __new__(cls, *args, **kwargs):
        if args or kwargs or cls is Tensor:
            from tapegrad import legacy

            return legacy.construct(cls, args, kwargs)
        return Handle.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    # --- what only Python knows; unset slots read as None -----------------------------------------------------------
    def _optional(name):
        def get(self):
            try:
                return getattr(self, name)
            except AttributeError:
                return None

        return property(get, lambda self, value: setattr(self, name, value))

    _level = None  # of a transform that follows the tensor (transforms/wrappers.py)
    _base = _optional("_base_object")
    _parent = _optional("_parent_object")
    _plan = _optional("_plan_object")
    _hooks = _optional("_hooks_dict")
    _post_hooks = _optional("_post_hooks_dict")
    _grad = _optional("_grad_object")
    del _optional

    def _array(self) -> np.ndarray:
        """The elements as a NumPy array over the same memory, whatever the grad state."""
        g = core.get_field(self._slot, GEOMETRY)
        d = BY_CODE[core.get_field(self._slot, DTYPE)]
        shape, steps = geometry.shapes[g], geometry.strides[g]
        if geometry.numels[g] == 0:
            return np.empty(shape, d.numpy)
        span = 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
        memory = (ctypes.c_char * (span * d.itemsize)).from_address(core.data_of(self._slot))
        return np.ndarray(tuple(shape), d.numpy, memory, 0, tuple(s * d.itemsize for s in steps))

    def _values(self) -> np.ndarray:
        """The elements as numbers NumPy can compute with: `_array`, or a wider copy for the half-precision dtypes."""
        return dtypes.from_stored(self._array(), BY_CODE[core.get_field(self._slot, DTYPE)])

    # --- attributes -----------------------------------------------------------------------------------------------------
    @property
    def shape(self):
        """The sizes, a `Size`."""
        return geometry.shapes[core.get_field(self._slot, GEOMETRY)]

    def size(self, dim=None):
        """The shape, or the size of one dim."""
        from tapegrad.ops.views import wrap_dim

        return self.shape if dim is None else self.shape[wrap_dim(dim, self.ndim)]

    def stride(self, dim=None):
        """The strides in elements, or one of them."""
        from tapegrad.ops.views import wrap_dim

        steps = geometry.strides[core.get_field(self._slot, GEOMETRY)]
        return steps if dim is None else steps[wrap_dim(dim, len(steps))]

    @property
    def ndim(self):
        """The number of dims."""
        return len(geometry.shapes[core.get_field(self._slot, GEOMETRY)])

    def dim(self):
        """The number of dims."""
        return self.ndim

    ndimension = dim

    def numel(self):
        """The number of elements."""
        return geometry.numels[core.get_field(self._slot, GEOMETRY)]

    nelement = numel

    @property
    def dtype(self):
        """The element type."""
        return BY_CODE[core.get_field(self._slot, DTYPE)]

    @property
    def device(self):
        return CPU

    is_cpu, is_cuda, is_sparse, is_quantized, is_meta, is_mkldnn = True, False, False, False, False, False
    names = property(lambda self: (None,) * self.ndim)

    @property
    def layout(self):
        from tapegrad import strided

        return strided

    def is_contiguous(self, memory_format=None):
        """Whether the elements lie in row-major order."""
        return geometry.is_contiguous(core.get_field(self._slot, GEOMETRY))

    def is_floating_point(self):
        return self.dtype.is_floating_point

    def is_complex(self):
        return self.dtype.is_complex

    def is_signed(self):
        return self.dtype.is_signed

    def is_inference(self):
        """Whether the tensor was made in inference mode."""
        return bool(core.get_field(self._slot, FLAGS) & layout.INFERENCE)

    def data_ptr(self):
        """The address of the first element."""
        return core.data_of(self._slot) if self.numel() else 0

    def storage_offset(self):
        """How many elements before the first one the memory begins."""
        row = core.buffer_view()[core.get_field(self._slot, core.BUFFER)]
        return (core.data_of(self._slot) - int(row["memory"])) // self.dtype.itemsize

    def element_size(self):
        return self.dtype.itemsize

    itemsize = property(element_size)
    nbytes = property(lambda self: self.numel() * self.dtype.itemsize)

    def get_device(self):
        return -1

    @property
    def T(self):
        """The dims reversed."""
        if self.ndim not in (0, 2):
            import warnings

            warnings.warn(
                "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will throw an error in a "
                "future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*tapegrad.arange(x.ndim - 1, -1, -1))` to "
                "reverse the dimensions of a tensor.",
                UserWarning,
                stacklevel=2,
            )
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def mT(self):
        """Matrices transposed."""
        if self.ndim < 2:
            raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
        return self.transpose(-2, -1)

    @property
    def H(self):
        """A matrix transposed and conjugated."""
        if self.ndim not in (0, 2):
            batches = " For batches of matrices, consider using tensor.mH" if self.ndim > 2 else ""
            raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.{batches}")
        return self.adjoint()

    @property
    def mH(self):
        """Matrices transposed and conjugated."""
        if self.ndim == 1:
            raise RuntimeError("tensor.mH is only supported on matrices or batches of matrices. Got 1-D tensor.")
        return self.adjoint()

    def _part(name):
        def get(self):
            from tapegrad.ops import complexes

            return getattr(complexes, name)(self)

        def assign(self, value):
            get(self).copy_(value if isinstance(value, Tensor) else self.new_tensor(value, dtype=self.dtype.to_real()))

        return property(get, assign, doc=f"The {name} parts, as a view; may be assigned to.")

    real, imag = _part("real"), _part("imag")
    del _part

    @property
    def _version(self):
        if self.is_inference():
            raise RuntimeError("Inference tensors do not track version counter.")
        return core.version_of(self._slot) - self.__dict__.get("_version_offset", 0) if self.__dict__ else core.version_of(self._slot)

    # --- autograd -------------------------------------------------------------------------------------------------------
    def _require_grad(self):
        from tapegrad.autograd import node

        core.set_field(self._slot, FLAGS, core.get_field(self._slot, FLAGS) | layout.REQUIRES_GRAD | layout.LEAF_GRAD)
        node.register_leaf(self)

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
        self._change_requires_grad(value, "only Tensors of floating point and complex dtype can require gradients")

    def requires_grad_(self, requires_grad=True):
        """Switch recording for a leaf; returns the tensor."""
        if not isinstance(requires_grad, bool):
            raise TypeError(f"requires_grad_(): argument 'requires_grad' (position 1) must be bool, not {type(requires_grad).__name__}")
        self._change_requires_grad(requires_grad, "only Tensors of floating point dtype can require gradients")
        return self

    def _change_requires_grad(self, value, refusal):
        if not isinstance(value, bool):
            raise RuntimeError("requires_grad must be a bool")
        if ACTIVE:
            from tapegrad.transforms import wrappers

            wrappers.refuse_inside(wrappers.NO_REQUIRES_GRAD)
        if not self.is_leaf:
            if value:
                return
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that doesn't "
                "require differentiation use var_no_grad = var.detach()."
            )
        if value and not self.dtype.differentiable:
            raise RuntimeError(refusal)
        if value and self.is_inference() and not modes.is_inference_mode_enabled():
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        from tapegrad.autograd import leaves

        on = core.get_field(self._slot, FLAGS) & layout.LEAF_GRAD
        if value:
            if not on:
                leaves.switch_on(self)
            self._require_grad()
        elif on:
            leaves.switch_off(self)

    def _settle(self):
        from tapegrad.ops import plan

        return plan.settled(self)

    def _is_view(self):
        """Whether the tensor is a view that shares its base's place in the graph."""
        return self._base is not None

    @property
    def is_leaf(self):
        """Whether the tensor was made by the user rather than by a recorded operation."""
        return core.get_field(self._settle(), ENTRY) < 0

    @property
    def grad_fn(self):
        """The node that made the tensor, None for a leaf."""
        from tapegrad.autograd import node

        return node.node_of(self._settle())

    @property
    def output_nr(self):
        """Which output of its node the tensor is."""
        number = self._plan and self._plan.parameters.get("number")
        return number if number is not None else core.get_field(self._slot, core.OUTPUT_NR)

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
                    "github.com/pytorch/pytorch/pull/30531 for more informations.",
                    UserWarning,
                    stacklevel=2,
                )
            return None
        cached = self._grad
        if cached is None or cached._slot != held:
            cached = self._grad = core.wrap(held)
        return cached

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, Tensor):
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
        self._grad = value
        if held:
            core.drop(held)

    @grad.deleter
    def grad(self):
        self.grad = None

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
        return out if type(self) in (Tensor,) else self._detached(out)

    def _detached(self, out):
        from tapegrad.nn_parameter import Parameter

        return out if type(self) is Parameter else out.as_subclass(type(self))

    def detach_(self):
        """Leave the graph, in place."""
        from tapegrad.autograd import inplace

        return inplace.detach_inplace(self)

    @property
    def data(self):
        """The same memory with a version counter of its own: changes through it are not noticed."""
        from tapegrad.creation import share

        if not self.numel():
            return self.detach()
        return share(self.detach(), core.data_of(self._slot), tuple(self.shape), self.stride(), self.dtype)

    @data.setter
    def data(self, value):
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
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

    # --- copies and conversions -----------------------------------------------------------------------------------------
    def to(self, *args, dtype=None, device=None, copy=False, non_blocking=False, memory_format=None):
        """The tensor in another dtype; itself if nothing changes."""
        from tapegrad import dispatch
        from tapegrad.device import check as check_device

        for a in args:
            if isinstance(a, dtypes.dtype):
                dtype = a
            elif isinstance(a, Tensor):
                dtype = a.dtype
            elif isinstance(a, bool):
                pass
            else:
                check_device(a)
        check_device(device)
        if dtype is not None and not isinstance(dtype, dtypes.dtype):
            from tapegrad.creation import check_dtype

            dtype = check_dtype(dtype, "to")
        self._settle()
        if dtype is None or dtype is self.dtype:
            return self.clone() if copy else self
        return dispatch.as_subclass_of([self], dispatch.convert(self, dtype))

    def type(self, dtype=None, non_blocking=False):
        """The legacy type name, or the tensor converted to a dtype given as such or by legacy name."""
        if dtype is None:
            return f"tapegrad.{self.dtype.legacy}"
        if isinstance(dtype, dtypes.dtype):
            return self.to(dtype)
        name = dtype.rpartition(".")[2] if isinstance(dtype, str) else getattr(dtype, "__name__", "")
        for d in BY_CODE:
            if d.legacy == name:
                return self.to(d)
        raise ValueError(f"invalid type: '{dtype}'")

    def type_as(self, other):
        return self.to(other.dtype)

    def cpu(self, memory_format=None):
        return self

    def item(self):
        """The value of a one-element tensor as a Python number."""
        if geometry.numels[core.get_field(self._slot, GEOMETRY)] != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        if core.get_field(self._slot, DTYPE) in (0, 1, 2, 7):
            return core.item(self._slot)
        return self._values().item()

    def tolist(self):
        """The elements as nested lists of Python numbers."""
        return self._values().tolist()

    def numpy(self, *, force=False):
        """The elements as a NumPy array over the same memory."""
        if force:
            return self.detach().numpy()
        if self.requires_grad and modes.is_grad_enabled():
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        d = self.dtype
        if d.foreign:
            raise TypeError(f"Got unsupported ScalarType {d.scalar_name}")
        if not self.numel():
            return np.empty(tuple(self.shape), d.numpy)
        interface = {
            "data": (core.data_of(self._slot), False),
            "shape": tuple(self.shape),
            "strides": tuple(s * d.itemsize for s in self.stride()),
            "typestr": d.numpy.str,
            "version": 3,
        }
        # A second handle holds the memory: this Tensor object may move to another slot.
        return np.asarray(_Exporter(self.detach(), interface))

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from tapegrad import numpy_protocol

        return numpy_protocol.array_ufunc(self, ufunc, method, *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        from tapegrad import numpy_protocol

        return numpy_protocol.array_function(self, function, types, args, kwargs)

    def __dlpack__(self, *, stream=None, **kwargs):
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self):
        from tapegrad.device import DLDeviceType

        return DLDeviceType.kDLCPU, 0

    def as_subclass(self, cls):
        """The same slot as an object of a Tensor subclass."""
        result = Handle.__new__(cls)
        core.move_handle(result, self._slot)
        core.set_field(result._slot, FLAGS, core.get_field(result._slot, FLAGS))
        return result

    # --- the Python protocol --------------------------------------------------------------------------------------------
    def __repr__(self, *, tensor_contents=None):
        from tapegrad import printing

        try:
            node = self.grad_fn
            name = node.name() if node is not None else None
        except RuntimeError:  # a view that must not be used any more
            node, name = self, "Invalid"
        return printing.format_tensor(
            self._values(), dtype=self.dtype.name, default_dtype=dtypes.default_dtype().name, requires_grad=self.requires_grad and node is None,
            grad_fn=name.removeprefix("tapegrad::autograd::") if name else None, tensor_contents=tensor_contents,
        )

    def __str__(self):
        return repr(self)

    def __format__(self, spec):
        if self.ndim == 0:
            return format(self.item(), spec)
        return object.__format__(self, spec) if not spec else self._refuse_format(spec)

    def _refuse_format(self, spec):
        raise TypeError(f"unsupported format string passed to {type(self).__name__}.__format__")

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __bool__(self):
        n = self.numel()
        if n != 1:
            if n == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def is_nonzero(self):
        """Whether a one-element tensor is not zero."""
        return bool(self)

    def _number(self):
        if self.numel() != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __float__(self):
        return float(self._real_number(dtypes.float64))

    def __int__(self):
        return int(self._real_number(dtypes.int64))

    def _real_number(self, d):
        value = self._number()
        if isinstance(value, complex):
            from tapegrad.creation import convert_number

            return convert_number(value if value.imag else value.real, d)
        return value

    def __complex__(self):
        return complex(self._number())

    def __index__(self):
        if self.dtype.category > dtypes.INTEGER or self.numel() != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __contains__(self, element):
        return (self == element).any().item()

    def __hash__(self):
        return id(self)

    def __reversed__(self):
        return self.flip(0) if self.ndim else self

    def __copy__(self):
        return self.as_subclass(type(self))

    def __deepcopy__(self, memo):
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  If you were attempting "
                "to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
                "https://github.com/pytorch/pytorch/pull/103001"
            )
        if id(self) in memo:
            return memo[id(self)]
        result = self.detach().clone()
        if self.requires_grad:
            result.requires_grad_()
        held = core.get_field(self._slot, GRAD)
        if held:
            result.grad = core.wrap(held).clone()
        if self.__dict__:
            import copy

            result.__dict__.update(copy.deepcopy(self.__dict__, memo))
        memo[id(self)] = result
        return result

    def __reduce_ex__(self, protocol):
        return rebuild, (self.detach().contiguous()._array().copy(), self.requires_grad, self.dtype)

    def __dir__(self):
        return sorted({*object.__dir__(self)})


def rebuild(array, requires_grad, d=None):
    """Unpickle a tensor."""
    from tapegrad.creation import finish, from_array

    return finish(from_array(array, d), requires_grad)
