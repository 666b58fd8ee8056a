"""Matrix products: matmul and its named forms, through BLAS called by function pointer.

All forms are one batched kernel, (batch, m, k) @ (batch, k, n), with strides for transposed operands, so nothing is copied that BLAS can
read as it lies.
"""

from __future__ import annotations

import ctypes
import functools
import math

import numpy as np

from tapegrad import dtypes, geometry, modes
from tapegrad.autograd.node import record
from tapegrad.creation.elements import kernel_number
from tapegrad.engine.layout import DIRECT, STRIDED, SUMMED, SWEEP_APPLY, SWEEP_REDUCE, SWEEP_VIEW
from tapegrad.ops import loops
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import into, stored
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.reshaping import unsafe_view
from tapegrad.ops.views import tensor_argument

SMALL = 600  # multiply-adds below which plain loops beat the call of BLAS


@functools.cache
def blas(name: str) -> int:
    """The address of a BLAS function, from scipy."""
    from scipy.linalg import cython_blas

    from tapegrad import memory

    if memory.get_num_threads() != memory.default_threads():
        memory.limit_blas()

    capsule = cython_blas.__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))


def product(op, a, b, m, k, n, batch, result_shape, a_steps, b_steps, graph_name):
    """The kernel run: a_steps/b_steps are (batch strides..., row, column)."""
    d = a.dtype

    def make():
        (*a_batch, ar, ac), (*b_batch, br, bc) = a_steps, b_steps
        rules = ()
        if d.code in SUMMED:
            # g is (m, n), row-major, as the compiled sweep lays it out.  Operands of the rules: 1 g, 2 a, 3 b.
            g_batch = [m * n * s for s in geometry.contiguous_strides(batch)]
            a_rule = product_plan(op, d, tuple(a.shape), m, n, k, batch, (*g_batch, n, 1), (*b_batch, bc, br), operands=(1, 3))
            b_rule = product_plan(op, d, tuple(b.shape), k, m, n, batch, (*a_batch, ac, ar), (*g_batch, n, 1), operands=(2, 1))
            rules = [(SWEEP_APPLY, a_rule), (SWEEP_APPLY, b_rule)]
        return product_plan(op, d, result_shape, m, k, n, batch, a_steps, b_steps, saves=0b11, reads=(0b10, 0b01), rules=rules, graph_name=graph_name,
                            differentiable=-1 if d.differentiable else 0)

    return plans.run(op, [a, b], graph_name, make)


def product_plan(op, d, shape, m, k, n, batch, a_steps, b_steps, kernel=0, more=(), **others):
    """The plan of a batched product (m, k) @ (k, n) with given strides into a contiguous result of `shape`."""
    letter = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}.get(d.name)
    big = letter is not None and m * n * k >= SMALL
    (*a_batch, ar, ac), (*b_batch, br, bc) = a_steps, b_steps
    args = [blas(letter + "gemm") if big else 0, m, n, k, ar, ac, br, bc, len(batch), blas(letter + "gemv") if big else 0, d.itemsize,
            *batch, *a_batch, *b_batch, *more]
    count = 1
    for size in batch:
        count *= size
    return plans.Plan(op, [(geometry.geometry(shape), d.code)], kernel=kernel or loops.matmul(d), n=count if m * n else 0, args=args, **others)


def readable(x, dims=2):
    """`x` itself if BLAS can read its last two dims, else a contiguous copy; its strides."""
    steps, shape = x.stride(), x.shape
    row, column = (steps[-2], steps[-1]) if dims == 2 else (0, steps[-1])
    plain = column == 1 and (shape[-2] <= 1 or row >= max(shape[-1], 1)) if dims == 2 else True
    turned = dims == 2 and row == 1 and (shape[-1] <= 1 or column >= max(shape[-2], 1))
    return x if plain or turned else x.contiguous()


def settled_operands(name, a, b) -> None:
    tensor_argument(name, a)
    tensor_argument(name, b, 2, "mat2" if name in ("mm", "bmm") else "other")
    for x in (a, b):
        plans.settled(x)


def check_types(name, a, b, count=1) -> None:
    """Operands of one dtype, not bool; `count` products are summed.  PyTorch looks at the shapes first."""
    if a.dtype is not b.dtype:
        p, q = a.dtype, b.dtype
        raise RuntimeError({
            "dot": f"dot : expected both vectors to have same dtype, but found {p.scalar_name} and {q.scalar_name}",
            "mv": f"addmv input tensors must have the same dtype, but got {q.scalar_name}, {p.scalar_name}, and {q.scalar_name}",
            "mm": f"expected m1 and m2 to have the same dtype, but got: {p.short} != {q.short}",
            "bmm": "expected scalar type {} but found {}".format(*(x.scalar_name for x in ((p, q) if count < 400 else (q, p)))),
        }[name])
    if a.dtype.category == dtypes.BOOL and count:
        kernel = {"dot": "dot", "mv": "addmv_impl_cpu", "bmm": "bmm"}.get(name if count < 400 else "mm", "addmm_impl_cpu_")
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")


def in_wider(op):
    """Half-precision operands of a product are multiplied, and their products summed, in the dtype they are computed in."""

    def wrap(f):
        @functools.wraps(f)
        def run(a, b, *, out=None):
            d = getattr(a, "dtype", None)
            if d is None or not d.reduced or getattr(b, "dtype", None) is not d:
                return f(a, b, out=out)
            wide = dtypes.BY_NAME[d.compute]
            with modes.no_grad():
                result = f(a.detach().to(wide), b.detach().to(wide)).to(d)
            record(op, [a, b], [result], reads=(0b10, 0b01))
            return into(out, result, f.__name__)

        return run

    return wrap


def product_of_samples(left: int, right: int):
    """The batch rule of a product of operands with so many dims: matmul, whose leading dims are batches."""

    def rule(level, f, a, b, *, out=None):
        if a.ndim != left or b.ndim != right:
            raise RuntimeError(
                "Got wrong shapes for dot" if left == right == 1 else
                f"Shape mismatch: Got incorrect dims for {f.__name__}(a, b). a has dim {a.ndim}and b has dim {b.ndim}but expected them to have dim "
                f"{left} and dim {right}"
            )
        a, b = level.front(a), level.front(b)
        if left == 1:
            a = a.unsqueeze(-2)
        if right == 1:
            b = b.unsqueeze(-1)
        result = matmul(a, b)
        if right == 1:
            result = result.squeeze(-1)
        return level.wrap(result.squeeze(-1) if left == 1 else result)

    return rule


@structural("mm_op", "Mm")
def mm_op(node, g):
    """A B: g B^T and A^T g."""
    a, b = node.inputs
    return (g.mm(b.t().conj_physical()) if a.requires_grad else None), (a.t().conj_physical().mm(g) if b.requires_grad else None)


@function(method=True, batch=product_of_samples(2, 2), linear=("input", "mat2"))
@in_wider(mm_op)
def mm(input, mat2, *, out=None):
    """The product of two matrices: (n, k) @ (k, m)."""
    settled_operands("mm", input, mat2)
    if input.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if mat2.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    (m, k), (k2, n) = input.shape, mat2.shape
    if k != k2:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({m}x{k} and {k2}x{n})")
    check_types("mm", input, mat2, m * k * n)
    a, b = readable(input), readable(mat2)
    result = product(mm_op, a, b, m, k, n, (1,), (m, n), (0, *a.stride()), (0, *b.stride()), None)
    return into(out, result, "mm")


@structural("mv_op", "Mv")
def mv_op(node, g):
    """A v: the outer product of g and v, and A^T g."""
    a, v = node.inputs
    return (g.unsqueeze(1) * v.conj_physical() if a.requires_grad else None), (a.t().conj_physical().mv(g) if v.requires_grad else None)


@function(method=True, batch=product_of_samples(2, 1), linear=("input", "vec"))
@in_wider(mv_op)
def mv(input, vec, *, out=None):
    """Matrix times vector: (n, k) @ (k,)."""
    settled_operands("mv", input, vec)
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    if input.shape[1] != vec.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({input.shape[0]}), mat ({input.shape[0]}x{input.shape[1]}), vec ({vec.shape[0]})"
        )
    m, k = input.shape
    check_types("mv", input, vec, min(m * k, 1))
    a = readable(input)
    v = vec if vec.stride(0) > 0 else vec.contiguous()
    return into(out, product(mv_op, a, v, m, k, 1, (1,), (m,), (0, *a.stride()), (0, v.stride(0), 1), None), "mv")


@structural("dot_op", "Dot")
def dot_op(node, g):
    """dot: each vector times the gradient of the sum."""
    a, b = node.inputs
    return (g * b.conj_physical() if a.requires_grad else None), (g * a.conj_physical() if b.requires_grad else None)


@function(method=True, batch=product_of_samples(1, 1), linear=("input", "tensor"))
@in_wider(dot_op)
def dot(input, tensor, *, out=None):
    """The inner product of two vectors."""
    settled_operands("dot", input, tensor)
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    if input.shape != tensor.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{input.shape[0]}] and src [{tensor.shape[0]}] to have the same number of elements, but got "
            f"{input.shape[0]} and {tensor.shape[0]} elements respectively"
        )
    check_types("dot", input, tensor)
    k = input.shape[0]
    a = input if input.stride(0) > 0 else input.contiguous()
    b = tensor if tensor.stride(0) > 0 else tensor.contiguous()
    return into(out, product(dot_op, a, b, 1, k, 1, (1,), (), (0, max(k, 1) * a.stride(0), a.stride(0)), (0, b.stride(0), 1), None), "dot")


@structural("bmm_op", "Bmm")
def bmm_op(node, g):
    """A B per batch: g B^T and A^T g."""
    a, b = node.inputs
    return (g.bmm(b.transpose(1, 2).conj_physical()) if a.requires_grad else None), (a.transpose(1, 2).conj_physical().bmm(g) if b.requires_grad else None)


@function(method=True, batch=product_of_samples(3, 3), linear=("input", "mat2"))
@in_wider(bmm_op)
def bmm(input, mat2, *, out=None):
    """Batched matrix product: (b, n, k) @ (b, k, m)."""
    settled_operands("bmm", input, mat2)
    if input.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if mat2.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    (count, m, k), (count2, k2, n) = input.shape, mat2.shape
    if count != count2 or k != k2:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{count}, {k}] but got: [{count2}, {k2}]."
        )
    if count:
        check_types("bmm", input, mat2, m * k * n)
    a, b = readable(input), readable(mat2)
    return into(out, product(bmm_op, a, b, m, k, n, (count,), (count, m, n), a.stride(), b.stride(), None), "bmm")


@function(method=True, linear=("input", "other"))
def matmul(input, other, *, out=None):
    """The matrix product with NumPy's rules: vectors are rows or columns, leading dims are batches and broadcast."""
    tensor_argument("matmul", input)
    tensor_argument("matmul", other, 2, "other")
    na, nb = input.ndim, other.ndim
    if not na or not nb:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {na}D and {nb}D")
    if na == 1 and nb == 1:
        return into(out, input.dot(other), "matmul")
    if na == 2 and nb == 1:
        if input.shape[1] != other.shape[0] and input.dtype is other.dtype:
            raise RuntimeError(
                f"size mismatch, got input ({input.shape[0]}), mat ({input.shape[0]}x{input.shape[1]}), vec ({other.shape[0]})"
            )
        return into(out, input.mv(other), "matmul")
    if na == 1 and nb == 2:
        return into(out, input.unsqueeze(0).mm(other).squeeze_(0), "matmul")
    if na == 2 and nb == 2:
        return into(out, input.mm(other), "matmul")
    if folds(input, other):
        # A batch of matrices against one matrix or vector: the batch becomes rows.
        turned = nb > na
        many, one = (other.mT, input.t()) if turned else (input, other)
        lead = tuple(many.shape[:-1])
        rows = many.reshape(math.prod(lead), many.shape[-1])
        result = unsafe_view(rows.mv(one), lead) if one.ndim == 1 else unsafe_view(rows.mm(one), (*lead, one.shape[1]))
        return into(out, result.mT.contiguous() if turned and na == 2 else result, "matmul")
    a = input.unsqueeze(0) if na == 1 else input
    b = other.unsqueeze(-1) if nb == 1 else other
    batch = geometry.broadcast_shapes(tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    count = 1
    for size in batch:
        count *= size
    if k != k2:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{count}, {k}] but got: [{count}, {k2}].")
    a3 = a.expand(*batch, m, k).reshape(count, m, k)
    b3 = b.expand(*batch, k, n).reshape(count, k, n)
    shape = batch + ((m,) if na > 1 else ()) + ((n,) if nb > 1 else ())
    return into(out, unsafe_view(a3.bmm(b3), shape), "matmul")


def folds(input, other) -> bool:
    """Whether `matmul` multiplies the rows of a whole batch at once: where that needs no copy, or where the other operand's gradient,
    of the size of the batch if it were expanded, is worth one."""
    turned = other.ndim > input.ndim
    many, one = (other.mT, input) if turned else (input, other)
    if many.ndim < 3 or one.ndim > 2:
        return False
    if one.requires_grad:
        return True
    if input.ndim == 2:
        return False
    steps, shape = many.stride(), many.shape
    return not many.numel() or all(steps[k] == steps[k + 1] * shape[k + 1] for k in range(many.ndim - 2))


@method()
def __matmul__(self, other=None, *more):
    if more:
        return NotImplemented
    if hasattr(other, "_slot"):
        return matmul(self, other)
    return np.matmul(self, other) if isinstance(other, np.ndarray) else NotImplemented


@method()
def __rmatmul__(self, other=None, *more):
    if hasattr(other, "_slot") and not more:
        return matmul(other, self)
    return np.matmul(other, self) if isinstance(other, np.ndarray) and not more else NotImplemented


@function(method=True, aliases=("ger",))
@stored(None)
def outer(input, vec2):
    """The outer product of two vectors."""
    for k, x in enumerate((input, vec2)):
        if x.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {'self' if k == 0 else 'vec2'}, but got {x.ndim}-D")
    return input.unsqueeze(1) * vec2


@structural("addmm_op", "Addmm")
def addmm_op(node, g):
    """beta input + alpha A B: beta g, alpha g B^T and alpha A^T g."""
    a = node.attributes
    c, x, y = node.inputs
    alpha, beta = a.alpha.conjugate(), a.beta.conjugate()
    scaled = g * alpha if alpha != 1 else g
    return (
        (g * beta if beta != 1 else g) if c.requires_grad else None,
        scaled.mm(y.t().conj_physical()) if x.requires_grad else None,
        x.t().conj_physical().mm(scaled) if y.requires_grad else None,
    )


def check_addmm(input, mat1, mat2) -> None:
    for k, (x, name) in enumerate(((input, "input"), (mat1, "mat1"), (mat2, "mat2"))):
        tensor_argument("addmm", x, k + 1, name)
    for x, name in ((mat1, "mat1"), (mat2, "mat2")):
        if x.ndim != 2:
            raise RuntimeError(f"{name} must be a matrix, got {x.ndim}-D tensor")
    for x, name in ((input, "self"), (mat1, "mat1")):
        if x.dtype is not mat2.dtype and (name == "self" or mat1.dtype is not input.dtype):
            raise RuntimeError(f"{name} and mat2 must have the same dtype, but got {x.dtype.scalar_name} and {mat2.dtype.scalar_name}")
    (m, k), (k2, n) = mat1.shape, mat2.shape
    if k != k2:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({m}x{k} and {k2}x{n})")
    if mat1.dtype.category == dtypes.BOOL:
        raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")


def addmm_samples(level, f, input, mat1, mat2, *, beta=1, alpha=1, out=None):
    """The batch rule of addmm: its parts."""
    check_addmm(input, mat1, mat2)
    product = mat1.mm(mat2)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


@function(method=True, batch=addmm_samples)
def addmm(input, mat1, mat2, *, beta=1, alpha=1, out=None):
    """beta * input + alpha * (mat1 @ mat2); `input` broadcasts to the product's shape."""
    check_addmm(input, mat1, mat2)
    m, n, k, d = mat1.shape[0], mat2.shape[1], mat1.shape[1], mat1.dtype
    beta, alpha = kernel_number(beta, d), kernel_number(alpha, d)
    if d.reduced:
        compute = dtypes.BY_NAME[d.compute]
        with modes.no_grad():
            result = addmm(*(x.detach().to(compute) for x in (input, mat1, mat2)), beta=beta, alpha=alpha).to(d)
        record(addmm_op, [input, mat1, mat2], [result], plans.Parameters(addmm_op, alpha=alpha, beta=beta), reads=(0, 0b100, 0b010))
        return into(out, result, "addmm")
    wide = input.expand(m, n)
    a, b = readable(mat1), readable(mat2)

    def make():
        a_steps, b_steps, c_steps = (0, *a.stride()), (0, *b.stride()), wide.stride()
        rules = ()
        if d.code in SUMMED and alpha == 1 and beta == 1 and m * n:
            # Operands of the rules: 1 g, 2 input, 3 mat1, 4 mat2.
            g_steps = (0, n, 1)
            shown = geometry.geometry(tuple(input.shape))
            mode, sizes, moves = geometry.walk((m, n), geometry.expanded_strides((m, n), shown), [1, 0])
            words = np.array([len(sizes), *sizes, *moves], np.int64)
            added = (SWEEP_VIEW, shown) if mode == DIRECT else (SWEEP_REDUCE, words.ctypes.data if mode == STRIDED else 0)
            a_rule = product_plan(addmm_op, d, tuple(a.shape), m, n, k, (1,), g_steps, (0, b_steps[2], b_steps[1]), operands=(1, 4))
            b_rule = product_plan(addmm_op, d, tuple(b.shape), k, m, n, (1,), (0, a_steps[2], a_steps[1]), g_steps, operands=(3, 1))
            rules = {"rules": [added, (SWEEP_APPLY, a_rule), (SWEEP_APPLY, b_rule)], "walk": words}
        return product_plan(addmm_op, d, (m, n), m, k, n, (1,), a_steps, b_steps, kernel=loops.addmm(d, beta, alpha), more=c_steps, saves=0b110, reads=(0, 0b100, 0b010),
                            alpha=alpha, beta=beta, differentiable=-1 if d.differentiable else 0, **dict(rules))

    return into(out, plans.run(addmm_op, [input, a, b], (beta, alpha), make), "addmm")
