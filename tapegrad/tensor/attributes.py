"""Attributes: what a tensor says of itself - shape, strides, dtype, memory - and its parts and transposes as attributes."""

from __future__ import annotations

import types

from tapegrad import core, formats, geometry
from tapegrad.cautions import warn_once
from tapegrad.core import DTYPE, FLAGS, GEOMETRY
from tapegrad.device import CPU
from tapegrad.dtypes import OF_SLOT
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.ops import chains
from tapegrad.ops.transformable import checked


def _part(name: str) -> property:
    def get(self):
        from tapegrad.ops import complexes

        return getattr(complexes, name)(self)

    def assign(self, value):
        if not isinstance(value, (Handle, bool, int, float, complex)):
            raise TypeError(f"can't assign a {type(value).__name__} to a torch.{self.dtype.legacy}")
        get(self).copy_(value if isinstance(value, Handle) else self.new_tensor(value, dtype=self.dtype.to_real()))

    return property(get, assign, doc=f"The {name} parts, as a view; may be assigned to.")


def read_only(name: str, get) -> property:
    """An attribute that refuses assignment in torch's words."""

    def refuse(self, value):
        raise AttributeError(f"attribute {name!r} of {type(self).__name__!r} objects is not writable")

    return property(get, refuse, doc=get.__doc__)


def close(owner: type) -> None:
    """Make the attributes of a part of Tensor that have no setter read-only, and its methods Tensor's by name."""
    for name, value in list(vars(owner).items()):
        if isinstance(value, property) and value.fset is None:
            setattr(owner, name, read_only(name, value.fget))
        elif isinstance(value, types.FunctionType):
            value.__qualname__ = f"Tensor.{value.__name__}"  # as Python's errors have it
            if name in ("is_complex", "is_floating_point", "is_signed", "is_inference", "get_device", "element_size", "storage_offset", "numpy", "cpu", "retain_grad"):
                setattr(owner, name, checked(name, method=True)(value))


def _constant(name: str, value) -> property:
    return read_only(name, lambda self: value)


class Attributes(Handle):
    """The attributes of Tensor that do not concern the graph."""

    __slots__ = ()

    @property
    def shape(self):
        """The sizes, a `Size`."""
        return geometry.shapes[core.get_field(self._slot, GEOMETRY)]

    def size(self, dim=None):
        """The shape, or the size of one dim."""
        from tapegrad.ops.views import wrap_dim

        return self.shape if dim is None else self.shape[wrap_dim(self._dim_argument("size", dim), self.ndim)]

    def _dim_argument(self, name: str, dim):
        if isinstance(dim, bool) or not hasattr(dim, "__index__"):
            raise TypeError(f"{name}(): argument 'dim' (position 1) must be int, not {type(dim).__name__}")
        if not self.ndim:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        return dim

    def stride(self, dim=None):
        """The strides in elements, or one of them."""
        from tapegrad.ops.views import wrap_dim

        steps = geometry.strides[core.get_field(self._slot, GEOMETRY)]
        return steps if dim is None else steps[wrap_dim(self._dim_argument("stride", dim), len(steps))]

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
        return OF_SLOT[core.get_field(self._slot, DTYPE)]

    @property
    def device(self):
        return CPU

    is_cpu, name, layout = _constant("is_cpu", True), _constant("name", None), _constant("layout", formats.strided)
    for _kind in "cuda sparse sparse_csr quantized meta mkldnn nested mps xpu ipu vulkan".split():
        vars()["is_" + _kind] = _constant("is_" + _kind, False)
    del _kind

    def is_contiguous(self, memory_format=None):
        """Whether the elements lie in row-major order, or densely in the order of a memory format."""
        g = core.get_field(self._slot, GEOMETRY)
        if memory_format is None:
            return geometry.is_contiguous(g)
        formats.check("is_contiguous", memory_format)
        return formats.fits(tuple(geometry.shapes[g]), geometry.strides[g], memory_format)

    def dim_order(self, *, ambiguity_check=False):
        """The dims from the slowest in memory to the fastest."""
        return formats.dim_order(tuple(self.shape), self.stride(), ambiguity_check)

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
        chains.looked(self)
        return core.data_of(self._slot) if self.numel() else 0

    def storage_offset(self):
        """How many elements before the first one the memory begins."""
        chains.looked(self)  # what a call makes of it follows from no geometry
        return (core.data_of(self._slot) - core.memory_of(self._slot)[0]) // self.dtype.itemsize

    def element_size(self):
        return self.dtype.itemsize

    itemsize = property(element_size)
    nbytes = property(lambda self: self.numel() * self.dtype.itemsize)

    def get_device(self):
        return -1

    def _warn_about_0d(self, name: str) -> None:
        if not self.ndim:
            instead = "Consider using x.conj()." if name in ("H", "mH") else "This function is the identity in these cases."
            warn_once(f"Tensor.{name} is deprecated on 0-D tensors. {instead}", stacklevel=3)

    @property
    def T(self):
        """The dims reversed."""
        self._warn_about_0d("T")
        if self.ndim not in (0, 2):
            warn_once(
                "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will throw an error in a "
                "future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*tapegrad.arange(x.ndim - 1, -1, -1))` to "
                "reverse the dimensions of a tensor."
            )
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def mT(self):
        """Matrices transposed."""
        self._warn_about_0d("mT")
        if not self.ndim:
            return self.view_as(self)
        if self.ndim < 2:
            raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
        return self.transpose(-2, -1)

    @property
    def H(self):
        """A matrix transposed and conjugated."""
        self._warn_about_0d("H")
        if self.ndim not in (0, 2):
            batches = " For batches of matrices, consider using tensor.mH" if self.ndim > 2 else ""
            raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor.{batches}")
        return self.adjoint()

    @property
    def mH(self):
        """Matrices transposed and conjugated."""
        self._warn_about_0d("mH")
        if self.ndim == 1:
            raise RuntimeError("tensor.mH is only supported on matrices or batches of matrices. Got 1-D tensor.")
        return self.adjoint()

    real, imag = _part("real"), _part("imag")

    @property
    def _version(self):
        if core.get_field(self._slot, FLAGS) & layout.INFERENCE:
            raise RuntimeError("Inference tensors do not track version counter.")
        return core.version_of(self._slot) - self.__dict__.get("_version_offset", 0) if self.__dict__ else core.version_of(self._slot)
