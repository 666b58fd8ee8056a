"""Products that are sums of others: addmv, addbmm, baddbmm, addr; inner, vdot, kron, tensordot; powers in float64, scaled sums."""

from __future__ import annotations

import math

import numpy as np

from tapegrad import creation, dispatch, dtypes
from tapegrad.autograd import inplace
from tapegrad.autograd.node import record
from tapegrad.creation.elements import kernel_number
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.linear import addmm, matmul
from tapegrad.ops.outputs import into, laid_out_as, return_type, store
from tapegrad.ops.public import FUNCTIONS, METHODS, function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.reshaping import unsafe_view
from tapegrad.ops.transformable import ACTIVE, level_of, look_at
from tapegrad.ops.views import tensor_argument, wrap_dim


# --- beta * input + alpha * product ---------------------------------------------------------------------------------
def scaled(g, factor):
    return g if factor == 1 else g * factor


BOOL_KERNELS = {"addmv": "addmv_impl_cpu", "baddbmm": "baddbmm", "addbmm": "addmm_impl_cpu_"}  # torch's, which have no code for truth values


def added(op, name, input, x, y, product, shape, beta, alpha, out):
    """beta * input + alpha * product, recorded as one op; `input` must broadcast to `shape`."""
    from tapegrad import modes

    d = x.dtype
    if input.dtype is not d:
        raise RuntimeError(f"self and {'mat2' if name != 'addr' else 'vec2'} must have the same dtype, but got {input.dtype.short} and {d.short}")
    if d is dtypes.bool_ and name != "addr":
        raise no_kernel(BOOL_KERNELS[name], d)
    beta, alpha = kernel_number(beta, d), kernel_number(alpha, d)
    if tuple(input.shape) != shape:
        input = input.expand(shape)
    if ACTIVE and level_of((input, x, y)) is not None:
        result = scaled(product(x, y), alpha)
        return result + scaled(input, beta) if beta != 0 else result
    with modes.no_grad():
        result = scaled(product(x.detach(), y.detach()), alpha)
        result = result + scaled(input.detach(), beta) if beta != 0 else result
    record(op, [input, x, y], [result], plans.Parameters(op, alpha=alpha, beta=beta), reads=(0, 0b100, 0b010))
    return into(out, result, name)


def added_back(node, g, by_x, by_y):
    """The gradients of `added`, those of the product's factors given as functions of the scaled gradient."""
    a = node.attributes
    input, x, y = node.inputs
    alpha, beta = a.alpha.conjugate(), a.beta.conjugate()
    return (
        scaled(g, beta) if input.requires_grad else None, by_x(scaled(g, alpha)) if x.requires_grad else None, by_y(scaled(g, alpha)) if y.requires_grad else None,
    )


@structural("addmv_op", "Addmv")
def addmv_op(node, g):
    """beta input + alpha A v: beta g, alpha g v^T, alpha A^T g."""
    _, x, v = node.inputs
    return added_back(node, g, lambda g: g.unsqueeze(1) * conj(v), lambda g: x.mH.mv(g))


def conj(x):
    return x.conj_physical() if x.dtype.is_complex else x


@function(method=True)
def addmv(input, mat, vec, *, beta=1, alpha=1, out=None):
    """beta * input + alpha * (mat @ vec)."""
    mat.size(0)
    if mat.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {input.ndim}, {mat.ndim}, {vec.ndim}")
    m, n = mat.shape
    if n != vec.shape[0] or tuple(input.shape) not in ((m,), (1,), ()):
        raise RuntimeError(f"size mismatch, got input ({input.numel()}), mat ({m}x{n}), vec ({vec.shape[0]})")
    return added(addmv_op, "addmv", input, mat, vec, lambda x, v: x.mv(v), (m,), beta, alpha, out)


@structural("baddbmm_op", "Baddbmm")
def baddbmm_op(node, g):
    """beta input + alpha A B: beta g, alpha g B^T, alpha A^T g."""
    _, x, y = node.inputs
    return added_back(node, g, lambda g: g.bmm(y.mH), lambda g: x.mH.bmm(g))


def check_batches(batch1, batch2, dims=(0, 1)):
    for d in dims:  # before all else, as torch finds the shape that the input is expanded to
        batch1.size(d)
    batch2.size(2)
    if batch1.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if batch2.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    (b, m, k), (b2, k2, n) = batch1.shape, batch2.shape
    if b != b2 or k != k2:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {k}] but got: [{b2}, {k2}].")
    return b, m, n


@function(method=True)
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1, out=None):
    """beta * input + alpha * (batch1 @ batch2), batch by batch."""
    b, m, n = check_batches(batch1, batch2)
    return added(baddbmm_op, "baddbmm", input, batch1, batch2, lambda x, y: x.bmm(y), (b, m, n), beta, alpha, out)


@structural("addbmm_op", "Addbmm")
def addbmm_op(node, g):
    """beta input + alpha sum(A_i B_i): beta g, alpha g B_i^T, alpha A_i^T g."""
    _, x, y = node.inputs
    wide = lambda g: g.unsqueeze(0).expand(x.shape[0], *g.shape)
    return added_back(node, g, lambda g: wide(g).bmm(y.mH), lambda g: x.mH.bmm(wide(g)))


@function(method=True)
def addbmm(input, batch1, batch2, *, beta=1, alpha=1, out=None):
    """beta * input + alpha * the sum of batch1 @ batch2 over the batch."""
    _, m, n = check_batches(batch1, batch2, (1,))
    return added(addbmm_op, "addbmm", input, batch1, batch2, lambda x, y: x.bmm(y).sum(0).to(x.dtype), (m, n), beta, alpha, out)


@structural("addr_op", "Addr")
def addr_op(node, g):
    """beta input + alpha v w^T: beta g, alpha g w, alpha g^T v."""
    _, v, w = node.inputs
    return added_back(node, g, lambda g: g.mv(conj(w)), lambda g: g.t().mv(conj(v)))


@function(method=True)
def addr(input, vec1, vec2, *, beta=1, alpha=1, out=None):
    """beta * input + alpha * the outer product of vec1 and vec2."""
    for k, x in enumerate((vec1, vec2)):
        if x.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument vec{k + 1}, but got {x.ndim}-D")
    d = dispatch.result_dtype([input, vec1, vec2])
    for number, what in ((beta, "beta"), (alpha, "alpha")):
        if isinstance(number, bool) and d is not dtypes.bool_:
            raise RuntimeError(f"Boolean {what} only supported for Boolean results.")
        if d.category <= dtypes.INTEGER and isinstance(number, (float, complex)):
            raise RuntimeError(f"For integral input tensors, argument {what} must not be a floating point number.")
    input, vec1, vec2 = (dispatch.convert(t, d) for t in (input, vec1, vec2))
    shape = (vec1.shape[0], vec2.shape[0])
    return added(addr_op, "addr", input, vec1, vec2, lambda v, w: v.unsqueeze(1) * w, shape, beta, alpha, out)


# --- products in other shapes ---------------------------------------------------------------------------------------
@function(method=True)
def inner(input, other, *, out=None):
    """The products of the last dims summed; scalars multiply."""
    if not input.ndim or not other.ndim:
        return into(out, input * other, "inner")
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input.shape)} and {list(other.shape)}"
        )
    return into(out, tensordot(input, other, ([-1], [-1])), "inner")


@function()
def tensordot(a, b, dims=2, out=None):
    """The sum of products over pairs of dims: `dims` is how many (the last of a, the first of b), or two lists.

    >>> import tapegrad as tg
    >>> tg.tensordot(tg.ones(2, 3), tg.ones(3, 4), 1).shape
    tapegrad.Size([2, 4])
    """
    tensor_argument("tensordot", a, 1, "a")
    tensor_argument("tensordot", b, 2, "b")
    if hasattr(dims, "_slot"):
        dims = dims.tolist()
        dims = dims[0] if isinstance(dims, list) and len(dims) == 1 else dims
    counted = isinstance(dims, int)
    if not counted and not (isinstance(dims, (tuple, list)) and len(dims) == 2):
        raise RuntimeError(f"tensordot expects dims to be int or tuple[list[int], list[int]] or list[list[int]] containing two lists, but got dims={dims}")
    if counted:
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(left) != len(right):
        raise RuntimeError(f"both dimension lists should have same length, got {len(left)} and {len(right)}")
    if a.dtype is not b.dtype:
        raise RuntimeError("both inputs should have same dtype")
    left, right = [wrap_dim(d, a.ndim) for d in left], [wrap_dim(d, b.ndim) for d in right]
    for p, q in zip(left, right):
        if a.shape[p] != b.shape[q]:
            if a.shape[p] != 1 and b.shape[q] != 1:
                raise RuntimeError(
                    f"contracted dimensions need to match, but first has size {a.shape[p]} in dim {p - a.ndim if counted else p} and second has size {b.shape[q]} in dim {q}"
                )
            a, b = (a.sum(p, True), b) if b.shape[q] == 1 else (a, b.sum(q, True))
    kept_a, kept_b = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    count = lambda t, kept: math.prod(t.shape[d] for d in kept)
    rows, inside, columns = count(a, kept_a), count(a, left), count(b, kept_b)
    product = matmul(a.permute(*kept_a, *left).reshape(rows, inside), b.permute(*right, *kept_b).reshape(inside, columns))
    return into(out, product.reshape([a.shape[d] for d in kept_a] + [b.shape[d] for d in kept_b]), "tensordot")


@function(method=True)
def kron(input, other, *, out=None):
    """The Kronecker product: every element of `input` times the whole of `other`."""
    ndim = max(input.ndim, other.ndim)
    a, b = (t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in (input, other))
    wide = a.reshape([s for n in a.shape for s in (n, 1)]) * b.reshape([s for n in b.shape for s in (1, n)])
    return into(out, unsafe_view(wide, tuple(p * q for p, q in zip(a.shape, b.shape))), "kron")


# --- arithmetic made of other ops -----------------------------------------------------------------------------------
@function(method=True)
def float_power(input, exponent, *, out=None):
    """input ** exponent in float64, or complex128."""
    lift = lambda v: v.to(dtypes.complex128 if v.dtype.is_complex else dtypes.float64) if hasattr(v, "_slot") else v
    if not hasattr(input, "_slot"):
        input = creation.tensor(input, dtype=dtypes.float64)
    result = lift(input) ** lift(exponent)
    exact(out, result)
    return into(out, result, "float_power")


@method()
def float_power_(self, exponent):
    """`float_power` in place, which a float64 (or complex128) tensor only can hold."""
    wide = dtypes.complex128 if dispatch.result_dtype([self, exponent]).is_complex else dtypes.float64
    if self.dtype is not wide:
        words = "ComplexDouble" if wide.is_complex else "Double"
        raise RuntimeError(f"the base given to float_power_ has dtype {self.dtype.scalar_name} but the operation's result requires dtype {words}")
    return self.pow_(exponent.to(wide) if hasattr(exponent, "_slot") else exponent)


def exact(out, result):
    """`out=` must have the dtype of the result itself."""
    if out is not None and out.dtype is not result.dtype:
        raise RuntimeError(f"the output given to float_power has dtype {out.dtype.scalar_name} but the operation's result requires dtype Double")


@structural("rsub_op", "Rsub")
def rsub_op(node, g):
    """other - alpha input: -alpha g and g."""
    a = node.attributes
    return -scaled(g, a.alpha).sum_to_size(a.shapes[0]), g.sum_to_size(a.shapes[1])


@function()
def rsub(input, other, *, alpha=1):
    """other - alpha * input."""
    from tapegrad import modes

    d = dispatch.result_dtype([input, other])
    if d is not dtypes.bool_ and isinstance(alpha, bool):
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if d.category <= dtypes.INTEGER and isinstance(alpha, (float, complex)):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if not d.is_complex and isinstance(alpha, complex):
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    if ACTIVE and level_of((input, other)) is not None:
        return other - scaled(input, alpha)
    with modes.no_grad():
        result = dispatch.call(dispatch.OPS["sub"], detached(other), scaled(input.detach(), alpha))
    if hasattr(other, "_slot"):
        tensors = [dispatch.convert(t, result.dtype) for t in (input, other)]
    else:
        tensors = [dispatch.convert(input, result.dtype), creation.tensor(other, dtype=result.dtype)]
    shapes = [tuple(t.shape) for t in tensors]
    record(rsub_op, tensors, [result], plans.Parameters(rsub_op, "RsubBackward0" if hasattr(other, "_slot") else "RsubBackward1", alpha=alpha, shapes=shapes))
    return result


def detached(x):
    return x.detach() if hasattr(x, "_slot") else x


@function(method=True)
def ldexp(input, other, *, out=None):
    """input * 2**other."""
    tensor_argument("ldexp", input)
    tensor_argument("ldexp", other, 2, "other")
    two = creation.tensor(2.0, dtype=input.dtype if input.dtype.is_floating_point else dtypes.default_dtype())
    return into(out, input * two**other, "ldexp")


METHODS["ldexp_"] = inplace.by_function(ldexp)
FrexpResult = return_type("frexp", "mantissa", "exponent")


@structural("frexp_op", "Frexp")
def frexp_op(node, g, _):
    """frexp: the mantissa is the input over a power of two that does not change nearby."""
    return g / node.outputs[1].to(g.dtype).exp2()


@function(method=True)
def frexp(input, *, out=None):
    """(mantissa, exponent) with input = mantissa * 2**exponent and 0.5 <= |mantissa| < 1; floating-point only.

    >>> import tapegrad as tg
    >>> tg.frexp(tg.tensor([6.0, -0.25]))
    tapegrad.return_types.frexp(
    mantissa=tensor([ 0.7500, -0.5000]),
    exponent=tensor([ 3, -1], dtype=tapegrad.int32))
    """
    if not input.dtype.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    if out is not None and out[1].dtype is not dtypes.int32:
        raise RuntimeError(f"torch.frexp() expects exponent to have int dtype but got {out[1].dtype.short}")
    if out is not None and out[0].dtype is not input.dtype:
        raise RuntimeError(f"torch.frexp() expects mantissa to have dtype {input.dtype.short} but got {out[0].dtype.short}")
    mantissa, exponent = np.frexp(input.detach()._values())
    parts = creation.from_array(np.asarray(mantissa), input.dtype), creation.from_array(np.asarray(exponent, np.int32), dtypes.int32)
    result = FrexpResult(*(laid_out_as(input, part) for part in parts))
    record(frexp_op, [input], result, plans.Parameters(frexp_op), saves=0b100, differentiable=1)
    return result if out is None else store("frexp", result, out)


@function()
def block_diag(*tensors):
    """A matrix with the tensors (scalars and vectors count as rows) on its diagonal."""
    from tapegrad.ops.joining import cat, promote, sequence

    tensors = sequence("block_diag", tensors) or [creation.empty((1, 0))]
    for k, t in enumerate(tensors):
        if t.ndim > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {k} has {t.ndim} dimensions")
    blocks = promote([t.reshape(1, -1) if t.ndim < 2 else t for t in tensors])
    width, at, rows = sum(t.shape[1] for t in blocks), 0, []
    for t in blocks:
        parts = [t.new_zeros((t.shape[0], at)), t, t.new_zeros((t.shape[0], width - at - t.shape[1]))]
        rows.append(cat(parts, 1))
        at += t.shape[1]
    return cat(rows, 0)


@function()
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    """The p-norm distances of every row of x1 (..., m, k) to every row of x2 (..., n, k)."""
    look_at("~cdist", x1, x2, p)
    from tapegrad.ops.norms import vector_norm

    if x1.ndim < 2 or x2.ndim < 2:
        k, x = (1, x1) if x1.ndim < 2 else (2, x2)
        raise RuntimeError(f"cdist only supports at least 2D tensors, X{k} got: {x.ndim}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    for k, x in ((1, x1), (2, x2)):
        if not x.dtype.is_floating_point:
            raise RuntimeError(f"cdist only supports floating-point dtypes, X{k} got: {x.dtype.scalar_name}")
    if x1.dtype is not x2.dtype and not x1.dtype.reduced:
        raise RuntimeError(f"expected scalar type {x1.dtype.scalar_name} but found {x2.dtype.scalar_name}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if compute_mode not in ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"):
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    if x1.dtype.reduced:
        raise no_kernel("cdist", x1.dtype)
    return vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


@function(method=True)
def dist(input, other, p=2):
    """The p-norm of input - other."""
    from tapegrad.ops.norms import vector_norm

    return vector_norm(input - other, p)


for _function in (addmm, addmv, addr, addbmm, baddbmm):
    METHODS[_function.__name__ + "_"] = inplace.by_function(_function, looked=None if _function is addr else 0)
FUNCTIONS["addmv_"] = METHODS["addmv_"]
