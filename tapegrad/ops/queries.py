"""Questions about a tensor with a Python value for an answer, and methods that call a Python function for every element."""

from __future__ import annotations

from tapegrad import creation
from tapegrad.autograd import inplace
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function, method
from tapegrad.ops.views import tensor_argument


@function()
def is_tensor(obj):
    """Whether `obj` is a Tensor."""
    return hasattr(obj, "_slot")


@function()
def is_inference(input):
    """Whether the tensor was made in inference mode."""
    return input.is_inference()


@function()
def is_floating_point(input):
    """Whether the dtype is a floating-point type."""
    return input.dtype.is_floating_point


@function()
def is_complex(input):
    """Whether the dtype is complex."""
    return input.dtype.is_complex


@function()
def numel(input):
    """The number of elements."""
    return input.numel()


@function(method=True)
def is_same_size(input, other):
    """Whether both have the same shape."""
    return tensor_argument("is_same_size", input).shape == tensor_argument("is_same_size", other, 2, "other").shape


@method(tensors=False)
def is_nonzero(self):
    """Whether the one element is not zero."""
    return bool(self)


@method()
def is_pinned(self, device=None):
    """Whether the memory is pinned for transfers to another device: never."""
    return False


@method()
def is_shared(self):
    """Whether other processes see the memory: never."""
    return False


# --- Python functions of elements -----------------------------------------------------------------------------------
def replaced(name, self, others, f):
    """Every element replaced by `f` of it and of the same elements of `others`, in place and unrecorded."""
    plans.settled(self)
    if not callable(f):
        raise TypeError(f"{name}(): '{type(f).__name__}' object is not callable")
    if any(t.requires_grad for t in (self, *others) if hasattr(t, "_slot")):
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    for other in others:
        if tensor_argument(name, other, 1, "other").dtype is not self.dtype:
            raise TypeError(f"{name}(): expected all tensors to be {self.dtype}, but got {other.dtype}")
    inplace.check_writable(self, others)
    rows = [t.detach().expand(self.shape)._values().reshape(-1).tolist() for t in (self, *others)]
    found = [f(*values) for values in zip(*rows)]
    if wrong := next((v for v in found if isinstance(v, str)), None):
        raise TypeError(f"{name}(): the function must give a number, not {type(wrong).__name__}")
    result = creation.tensor(found, dtype=self.dtype) if found else self
    self.copy_(result.view(self.shape))
    return self


@method()
def apply_(self, callable):
    """Every element replaced by `callable(element)`: slow, for functions that nothing else can do."""
    return replaced("apply_", self, (), callable)


@method()
def map_(self, tensor, callable):
    """Every element x replaced by `callable(x, y)`, y the same element of `tensor`."""
    return replaced("map_", self, (tensor,), callable)


@method()
def map2_(self, tensor1, tensor2, callable):
    """Every element x replaced by `callable(x, y, z)`, y and z the same elements of the two tensors."""
    return replaced("map2_", self, (tensor1, tensor2), callable)
