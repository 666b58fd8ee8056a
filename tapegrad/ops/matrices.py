"""Functions of matrices: norms, condition, rank, powers, the exponential, chains of products, tensor equations."""

from __future__ import annotations

import builtins

import numpy as np

from tapegrad import creation, dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.least_squares import tolerances
from tapegrad.ops.matrix_checks import broadcast_batches, floating, matrix, square, values, with_out
from tapegrad.ops.norms import vector_norm, widened_to
from tapegrad.ops.outputs import into
from tapegrad.ops.public import function
from tapegrad.ops.registry import structural
from tapegrad.ops.solves import inv, solve
from tapegrad.ops.spectra import eigvalsh, svdvals
from tapegrad.ops.transformable import look_at, transformable
from tapegrad.ops.views import wrap_dim

INF = float("inf")


# --- norms ----------------------------------------------------------------------------------------------------------
def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None, out=None):
    """A norm of matrices in two dims: "fro", "nuc" (sum of singular values), inf, -inf (rows), 1, -1 (columns), 2, -2 (singular values)."""
    name = "linalg.matrix_norm"
    if isinstance(ord, str) and ord not in ("fro", "nuc") or not isinstance(ord, str) and abs(ord) not in (1, 2, INF):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    matrix(name, A)
    if not A.dtype.reduced or ord in ("nuc", 2, -2):
        floating(name, A)
    dim = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {' '.join(map(str, dim))}" if len(dim) != 1 else f"{name}: dim must be a 2-tuple. Got {dim[0]}")
    first, second = wrap_dim(dim[0], A.ndim), wrap_dim(dim[1], A.ndim)
    if first == second:
        raise RuntimeError(f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    A = widened_to(dtype, A, name)
    if ord == "fro":
        return into(out, vector_norm(A, 2, (first, second), keepdim), "linalg.matrix_norm")
    if ord in ("nuc", 2, -2):
        moved = A.movedim((first, second), (-2, -1))
        s = svdvals(moved)
        result = s.sum(-1, keepdim) if ord == "nuc" else s.amax(-1, keepdim) if ord == 2 else s.amin(-1, keepdim)
        if keepdim:
            result = result.unsqueeze(-1).movedim((-2, -1), (first, second))
        return into(out, result, "linalg.matrix_norm")
    if abs(ord) == 1:
        first, second = second, first  # the norm of the transposed
    sums = vector_norm(A, 1, second, keepdim)
    rows = first - builtins.int(not keepdim and first > second)
    return into(out, sums.amax(rows, keepdim) if ord > 0 else sums.amin(rows, keepdim), "linalg.matrix_norm")


def norm(A, ord=None, dim=None, keepdim=False, *, out=None, dtype=None):
    """A vector norm for one dim or none, a matrix norm for two dims, or for a matrix and an order."""
    if out is not None:
        return into(out, norm(A, ord, dim, keepdim, dtype=dtype), "linalg.norm")
    if dim is not None:
        dim = (dim,) if isinstance(dim, int) else tuple(dim)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        if dim is not None and len(dim) != 2:
            raise RuntimeError(f"linalg.norm: If ord is specified as {ord}, dim must be of length 2 if specified. Got {list(dim)}")
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if dim is not None and len(dim) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dim)}")
    if dim is None and A.ndim not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D.")
    if dim is not None and len(dim) == 2 or dim is None and A.ndim == 2:
        return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


@function(name="norm", method=True)
def norm_legacy(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    """The p-norm over `dim`, all elements counting as a vector; "fro" is 2, "nuc" the sum of singular values."""
    if isinstance(p, str):
        if p == "nuc":
            return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype, out=out)
        if p != "fro":
            raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
        p = 2
    look_at("linalg.vector_norm", input, 2 if p is None else p, dim, keepdim, dtype=dtype)
    return vector_norm(input, 2 if p is None else p, dim, keepdim, dtype=dtype, out=out)


@with_out
def cond(A, p=None):
    """|A| |A^-1| in the norm `p`; for None, 2 and -2 by singular values, which non-square matrices have too."""
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if isinstance(p, str) and p not in ("fro", "nuc") or not isinstance(p, str) and p is not None and abs(p) not in (1, 2, INF):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}" if isinstance(p, str) else f"linalg.cond got an invalid norm type: {float(p)}")
    if p in (None, 2, -2):
        s = svdvals(A)
        if not s.numel():
            return s.sum(-1)
        first, last = s.narrow(-1, 0, 1), s.narrow(-1, s.shape[-1] - 1, 1)
        return (last / first if p == -2 else first / last).squeeze(-1)
    if A.shape[-1] != A.shape[-2]:
        raise RuntimeError("linalg.cond: A must be batches of square matrices, but they are " f"{A.shape[-2]} by {A.shape[-1]} matrices")
    if not A.numel():
        return A.new_zeros(tuple(A.shape[:-2]))
    from tapegrad.ops.solves import inv_ex

    inverse, info = inv_ex(A)
    singular = (info != 0).unsqueeze(-1).unsqueeze(-1)
    inverse = inverse.masked_fill(singular, INF) if builtins.bool(singular.any()) else inverse
    return matrix_norm(A, p) * matrix_norm(inverse, p)


@with_out
def matrix_rank(A, tol=None, hermitian=False, *, atol=None, rtol=None):
    """How many singular values are above max(atol, rtol * the largest)."""
    matrix("torch.linalg.matrix_rank", A, "input")
    if not (A.dtype.is_floating_point or A.dtype.is_complex) or A.dtype.reduced:
        raise RuntimeError("This function doesn't handle types other than float and double")
    if tol is not None:
        atol, rtol = tol, 0.0
    if not A.numel():
        return creation.zeros(tuple(A.shape[:-2]), dtype=dtypes.int64)
    x = A.detach()
    s = np.abs(values(eigvalsh(x))) if hermitian else values(svdvals(x))
    least = np.asarray(tolerances("matrix_rank", atol, rtol, s.max(-1), A.shape, A.dtype))
    return creation.from_array(np.asarray((s > least[..., None]).sum(-1), np.int64), dtypes.int64)


# --- powers and the exponential -------------------------------------------------------------------------------------
@function(method=True)
@with_out
def matrix_power(A, n):
    """The n-th power of square matrices, by repeated squaring; a negative n takes the inverse.

    >>> import tapegrad as tg
    >>> tg.linalg.matrix_power(tg.tensor([[1.0, 1.0], [0.0, 1.0]]), 3)
    tensor([[1., 3.],
            [0., 1.]])
    """
    square("linalg.matrix_power", A)
    if n == 0:
        zeros = A.masked_fill(creation.ones(tuple(A.shape), dtype=dtypes.bool_), 0)  # the gradient of A is zero, not missing
        return zeros + creation.eye(A.shape[-1], dtype=A.dtype)
    if n == 1:
        return A.clone()
    if n == -1:
        return inv(A)
    if n < 0:
        A, n = inv(A), -n
    result = None
    while n:
        n, odd = divmod(n, 2)
        if odd:
            result = A if result is None else result @ A
        A = A @ A if n else A
    return result


@structural("matrix_exp_op", "LinalgMatrixExp")
def matrix_exp_op(node, g):
    """The upper right block of exp([[A^H, g], [0, A^H]])."""
    from tapegrad.ops.joining import cat

    a = node.inputs[0].mH
    n = a.shape[-1]
    upper, lower = cat([a, g], -1), cat([a * 0, a], -1)
    return matrix_exp(cat([upper, lower], -2)).narrow(-2, 0, n).narrow(-1, n, n)


@function(method=True, batch="matrices")
def matrix_exp(A):
    """The exponential of square matrices (scaling and squaring of Padé approximations: Al-Mohy and Higham, 2009)."""
    square("linalg.matrix_exp", A)
    floating("linalg.matrix_exp", A)
    array = values(A)
    if array.size:
        from scipy.linalg import expm

        array = expm(array.astype(np.promote_types(array.dtype, np.float64)))  # rounded once
    result = creation.from_array(array, A.dtype)
    record(matrix_exp_op, [A], [result], saves=0b01)
    return result


# --- chains of products ---------------------------------------------------------------------------------------------
@with_out
def multi_dot(tensors):
    """The product of matrices in the cheapest order; the first and the last may be vectors."""
    tensors = list(tensors)
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    first, last = tensors[0], tensors[-1]
    if first.ndim not in (1, 2):
        raise RuntimeError(f"multi_dot(): the first tensor must be 1D or 2D but got {first.ndim}D")
    if last.ndim not in (1, 2):
        raise RuntimeError(f"multi_dot(): the last tensor must be 1D or 2D but got {last.ndim}D")
    chain = [first.unsqueeze(0) if first.ndim == 1 else first, *tensors[1:-1], last.unsqueeze(-1) if last.ndim == 1 else last]
    for k, x in enumerate(chain):
        if x.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {k} must be 2D but got {x.ndim}D")
        if x.dtype is not first.dtype:
            raise RuntimeError(f"multi_dot(): all tensors must have be the same dtype but got tensor {k} of dtype {x.dtype.scalar_name} and tensor 0 of dtype {first.dtype.scalar_name}")
    for k in range(len(chain) - 1):
        if chain[k].shape[1] != chain[k + 1].shape[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {k} and {k + 1} with shapes {list(chain[k].shape)} and {list(chain[k + 1].shape)} cannot be multiplied"
            )
    shape = ([] if first.ndim == 1 else [chain[0].shape[0]]) + ([] if last.ndim == 1 else [chain[-1].shape[1]])
    return cheapest(chain).reshape(shape)


def cheapest(chain):
    """The product of a chain with the fewest multiplications (dynamic programming over where it is cut)."""
    sizes = [chain[0].shape[0], *(x.shape[1] for x in chain)]
    count = len(chain)
    cost, cut = [[0] * count for _ in chain], [[0] * count for _ in chain]
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i][j] = builtins.min(options)
            cut[i][j] = i + options.index(cost[i][j])

    return product_of(chain, cut, 0, count - 1)


def product_of(chain, cut, i, j):
    return chain[i] if i == j else product_of(chain, cut, i, cut[i][j]).mm(product_of(chain, cut, cut[i][j] + 1, j))


@function()
def chain_matmul(*matrices, out=None):
    """`tapegrad.linalg.multi_dot` of its arguments."""
    warn_once(
        "torch.chain_matmul is deprecated and will be removed in a future PyTorch release. Use torch.linalg.multi_dot instead, which accepts a "
        "list of two or more tensors rather than multiple parameters."
    )
    look_at("~chain_matmul", matrices)
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    return into(out, matrices[0], "chain_matmul") if len(matrices) == 1 else multi_dot(matrices, out=out)


# --- vectors --------------------------------------------------------------------------------------------------------
@structural("linalg_cross", "LinalgCross")
def cross_op(node, g):
    """a x b: b x g and g x a."""
    a, b = node.inputs
    dim = node.attributes.dim
    conj = lambda x: x.conj_physical() if x.dtype.is_complex else x
    return (cross(conj(b), g, dim=dim) if a.requires_grad else None), (cross(g, conj(a), dim=dim) if b.requires_grad else None)


@transformable("along")
def cross(input, other, *, dim=-1, out=None):
    """The cross product of vectors of three elements along `dim`."""
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    axis = wrap_dim(dim, input.ndim)
    if input.shape[axis] != 3 or other.shape[axis] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[axis]} and {other.shape[axis]}")
    a, b = broadcast_batches(input, other, dims=0)
    d = input.dtype
    if d is dtypes.bool_ and a.numel():
        raise no_kernel("cross", d)
    if other.dtype is not d and a.numel():
        raise RuntimeError(f"expected scalar type {d.scalar_name} but found {other.dtype.scalar_name}")
    x, y = np.moveaxis(a.detach()._values(), axis, 0), np.moveaxis(b.detach()._values(), axis, 0)
    product = np.stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]], axis)
    result = creation.from_array(product, d)
    record(cross_op, [a, b], [result], plans.Parameters(cross_op, dim=axis), reads=(0b10, 0b01))
    return into(out, result, "cross")


@function(name="cross", method=True)
def cross_legacy(input, other, dim=None, *, out=None):
    """`tapegrad.linalg.cross` along `dim`, or along the first dim of size 3."""
    if dim is None:
        warn_once(
            "Using torch.cross without specifying the dim arg is deprecated.\nPlease either pass the dim explicitly or simply use torch.linalg.cross."
            "\nThe default value of dim will change to agree with that of linalg.cross in a future release."
        )
        dim = next((d for d, s in enumerate(input.shape) if s == 3), None)
        if dim is None:
            raise RuntimeError("no dimension of size 3 in input")
    return cross(input, other, dim=dim, out=out)


def vecdot(x, y, *, dim=-1, out=None):
    """The inner product of vectors along `dim`, the first conjugated."""
    from tapegrad.ops.matrix_checks import same_dtype

    if x.dtype.category <= dtypes.INTEGER:
        floating("linalg.vecdot", x)
    same_dtype("linalg.vecdot", x, y, "x", "y")
    first = x.conj_physical() if x.dtype.is_complex else x
    return into(out, (first * y).sum(dim), "vecdot")


def vander(x, *, N=None):
    """Powers 0 .. N - 1 of the elements of x in a new last dim."""
    if x.dtype is dtypes.bool_ or x.dtype.reduced:
        raise RuntimeError(f"linalg.vander supports floating point, complex, and integer tensors, but got {x.dtype.scalar_name}")
    x = x.unsqueeze(0) if not x.ndim else x
    count = x.shape[-1] if N is None else N
    if count <= 1:
        raise RuntimeError("N must be greater than 1.")
    if not x.dtype.is_floating_point and not x.dtype.is_complex:
        x = x.to(dtypes.int64)
    x = x if x.ndim else x.reshape(1)
    powers = x.unsqueeze(-1).expand(*x.shape, count - 1).cumprod(-1)
    from tapegrad.ops.joining import cat

    return cat([creation.ones(*x.shape, 1, dtype=x.dtype), powers], -1)


def diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """`tapegrad.diagonal` of matrices in the last two dims."""
    return A.diagonal(offset, dim1, dim2)


@structural("trace_op", "Trace")
def trace_op(node, g):
    """The gradient on the diagonal."""
    n, m = node.attributes.shape
    return g * creation.eye(n, m, dtype=g.dtype)


def trace_samples(level, f, input):
    """The batch rule of trace: the sum of the diagonal."""
    return input.diagonal().sum() if input.ndim == 2 else f.__wrapped__(input)


@function(method=True, batch=trace_samples, linear="input")
def trace(input):
    """The sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    if input.dtype is dtypes.bool_:
        raise no_kernel("trace", input.dtype)
    with modes.no_grad():
        result = input.detach().diagonal().sum()
    record(trace_op, [input], [result], plans.Parameters(trace_op, shape=tuple(input.shape)))
    return result


# --- tensor equations -----------------------------------------------------------------------------------------------
@with_out
def tensorinv(A, ind=2):
    """The inverse of A as a map from its last dims to its first `ind` dims."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    shape = tuple(A.shape)
    if ind > len(shape):
        raise RuntimeError(f"ArrayRef: invalid slice, N = {ind}; size = {len(shape)}")
    lead, rest = shape[:ind], shape[ind:]
    rows, columns = int(np.prod(lead, dtype=np.int64)), int(np.prod(rest, dtype=np.int64))
    if rows != columns:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{columns} != {rows}"
        )
    return inv(A.reshape(rows, columns)).reshape(*rest, *lead)


@with_out
def tensorsolve(A, B, dims=None):
    """X with tensordot(A, X, X.ndim) = B, after moving `dims` of A to the end."""
    if dims is not None:
        dims = [wrap_dim(d, A.ndim) for d in dims]
        A = A.movedim(dims, list(range(-len(dims), 0)))
    lead, rest = tuple(A.shape[: B.ndim]), tuple(A.shape[B.ndim :])
    rows, columns = int(np.prod(rest, dtype=np.int64)), int(np.prod(tuple(B.shape), dtype=np.int64))
    if rows != columns or int(np.prod(lead, dtype=np.int64)) != columns:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but got "
            f"{rows} != {int(np.prod(lead, dtype=np.int64))}"
        )
    return solve(A.reshape(columns, rows), B.reshape(-1)).reshape(rest)

