"""Complex tensors: views of their parts, conjugates, and questions about them.

A complex element is two real ones side by side, so `view_as_real` and `view_as_complex` are views; `real` and `imag` select from the
former.  A conjugate is a view too: `postponed.py`.
"""

from __future__ import annotations

from tapegrad import dispatch, dtypes, modes
from tapegrad.autograd import inplace
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import into
from tapegrad.ops.postponed import conj, is_conj, neg_view, turned
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import BY_NAME, structural
from tapegrad.ops.views import tensor_argument


@structural("view_as_real_op", "ViewAsReal", retype=lambda d: d.to_real())
def view_as_real_op(node, g):
    """view_as_real: the gradient's pairs as complex numbers."""
    return view_as_complex(g.contiguous())


@function()
def view_as_real(input):
    """A view of a complex tensor as a real one with a last dim of size 2: (real part, imaginary part).

    >>> import tapegrad as tg
    >>> tg.view_as_real(tg.tensor([1 + 2j]))
    tensor([[1., 2.]])
    """
    if not tensor_argument("view_as_real", input).dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    if is_conj(input):
        raise RuntimeError(
            "view_as_real doesn't work on unresolved conjugated tensors.  To resolve the conjugate tensor so you can view it as real, use "
            "self.resolve_conj(); however, be warned that the resulting tensor will NOT alias the original."
        )
    return plans.view(view_as_real_op, input, None, _as_real)


def _as_real(shape, steps):
    return (*shape, 2), (*(2 * s for s in steps), 1), 0, {}


@structural("view_as_complex_op", "ViewAsComplex", retype=lambda d: d.to_complex())
def view_as_complex_op(node, g):
    """view_as_complex: the gradient's parts."""
    return view_as_real(g.contiguous())


@function()
def view_as_complex(input):
    """A view of a real tensor whose last dim holds (real part, imaginary part) as a complex one.

    >>> import tapegrad as tg
    >>> tg.view_as_complex(tg.tensor([[1., 2.]]))
    tensor([1.+2.j])
    """
    d = tensor_argument("view_as_complex", input).dtype
    if d not in (dtypes.float16, dtypes.float32, dtypes.float64):
        raise RuntimeError(f"view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar type: {d.scalar_name}")
    if not input.ndim:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if input.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    *steps, last = input.stride()
    if last != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s in steps):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if input.storage_offset() % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return plans.view(view_as_complex_op, input, None, _as_complex)


def _as_complex(shape, steps):
    return shape[:-1], tuple(s // 2 for s in steps[:-1]), 0, {}


@function()
def real(input):
    """The real parts, as a view; a real tensor itself."""
    if not tensor_argument("real", input).dtype.is_complex:
        return input
    return view_as_real(conj(input) if is_conj(input) else input).select(-1, 0)


@function()
def imag(input):
    """The imaginary parts, as a view; complex tensors only."""
    if not tensor_argument("imag", input).dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    if is_conj(input):
        return turned(neg_view, view_as_real(conj(input))).select(-1, 1)
    return view_as_real(input).select(-1, 1)


@function(method=True)
def conj_physical(input, *, out=None):
    """The complex conjugate, a copy; a real tensor itself."""
    if out is not None:
        return into(out, conj_physical(input), "conj_physical")
    return dispatch.call(BY_NAME["conj_physical_op"], input) if tensor_argument("conj_physical", input).dtype.is_complex else input


_untouched = inplace.by_function(lambda x: x)


@method()
def conj_physical_(self):
    """`conj` in place."""
    return dispatch.call_inplace(BY_NAME["conj_physical_op"], self) if self.dtype.is_complex else _untouched(self)


@function(method=True)
def isreal(input):
    """Where the imaginary part is 0."""
    from tapegrad.creation import ones_like

    if not tensor_argument("isreal", input).dtype.is_complex:
        return ones_like(input, dtype=dtypes.bool_)
    return imag(input) == 0


@function(method=True)
def adjoint(input):
    """Matrices transposed and conjugated."""
    if input.ndim == 1:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return input.transpose(-2, -1).conj() if input.ndim else input.conj()


@structural("vdot_op", "Vdot")
def vdot_op(node, g):
    """vdot: linear in the second vector, conjugate linear in the first."""
    x, y = node.inputs
    return (g.conj_physical() * y if x.requires_grad else None), (g * x if y.requires_grad else None)


def vdot_samples(level, f, input, other, *, out=None):
    """The batch rule of vdot: dot with the first vector conjugated."""
    return conj_physical(input).dot(other) if input.ndim == other.ndim == 1 else f.__wrapped__(input, other)


@function(method=True, batch=vdot_samples)
def vdot(input, other, *, out=None):
    """The inner product of two vectors, the first conjugated."""
    for k, (x, name) in enumerate(((input, "input"), (other, "other")), 1):
        tensor_argument("vdot", x, k, name)
    if input.ndim != 1 or other.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {other.ndim}D tensors")
    if input.dtype is not other.dtype:
        raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {input.dtype.scalar_name} and {other.dtype.scalar_name}")
    with modes.no_grad():
        result = conj_physical(input.detach()).dot(other.detach())
    record(vdot_op, [input, other], [result], reads=(0b10, 0b01))
    return into(out, result, "vdot")
