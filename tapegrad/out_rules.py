"""What torch's kernels refuse as `out=`, by the name of the function: one table of dtypes, one of gradients.

Without a line here a result goes into any dtype that it can be cast to, and neither `out` nor an operand may require a gradient.  Functions of
`linalg` have their own lines where they differ from those of the package.  Read by `writing` and `ops/outputs.py`.
"""

from __future__ import annotations

from tapegrad import dtypes


def by_name(table: dict[str, str]) -> dict[str, str]:
    """words -> "names ..." turned into name -> words."""
    return {name: words for words, names in table.items() for name in names.split()}


# The dtype must be that of the result.
EXACT = by_name({
    "Expected out tensor to have dtype {want.short}, but got {got.short} instead":
        "addmv bmm matmul mm mv renorm addmm baddbmm argmax argmin cross gather inverse isin take_along_dim index_reduce scatter_reduce alias_copy vector_norm msort "
        "linalg.cross linalg.inv linalg.cholesky linalg.det linalg.eigvalsh linalg.ldl_solve linalg.lu_solve linalg.solve linalg.svdvals lu_solve",
    "Found dtype {got.scalar_name} but expected {want.scalar_name}":
        "abs ceil floor frac lerp neg sgn sign trunc conj_physical bitwise_not round clamp_number gelu hardshrink softplus softshrink",
    "result dtype {got.scalar_name} does not match input dtype {want.scalar_name}": "dot vdot",
    "Expected object of scalar type {want.scalar_name} but got scalar type {got.scalar_name} for argument 'out'": "complex polar",
    "torch.searchsorted(): output tensor's dtype is wrong, it can only be Int(int32) or Long(int64) depending on whether out_int32 flag is True, "
    "but we got output tensor's dtype {got.scalar_name} and out_int32 flag is {narrow}": "searchsorted",
    "self and mat2 must have the same dtype, but got {got.scalar_name} and {want.scalar_name}": "addbmm",
    "{name}(): self and result must have the same scalar type": "index_select masked_select",
    "torch.histogram: input tensor and hist tensor should have the same dtype, but got input {want.short} and hist {got.short}": "histc",
    "torch.ormqr: Expected input and result to have the same dtype, but input has dtype{want.scalar_name} and result has dtype {got.scalar_name}": "ormqr",
    "tensordot: Expected the output tensor to have dtype {want.scalar_name}, but got an output tensor with dtype {got.scalar_name}": "tensordot",
    "{name} expected out tensor dtype {want.scalar_name} but got: {got.scalar_name}": "linalg.matrix_norm linalg.norm",
    "multi_dot(): expected out tensor to have dtype {want.short} but got {got.short}": "linalg.multi_dot",
    "expected scalar type {want.scalar_name} but found {got.scalar_name}": "linalg.solve_triangular",
    "linalg.vecdot: Expected out of dtype{want.scalar_name} but found {got.scalar_name}": "vecdot",
    "nan_to_num: dtype of out: {got.scalar_name} should be same as input: {want.scalar_name}": "nan_to_num",
    "Expected out type to be {want.scalar_name} but got {got.scalar_name}": "where",
    "heaviside is not yet implemented for tensors with different dtypes.": "heaviside",
    "Expected the dtype for input and out to match, but got {want.scalar_name} for input's dtype and {got.scalar_name} for out's dtype.": "amax amin",
    "quantile() out tensor must be same dtype as the input tensor": "quantile nanquantile",
    "nonzero_static: Expected out tensor to have scalar type {want.scalar_name} but got scalar type{got.scalar_name}": "nonzero_static",
    "Expected self.dtype() == output.dtype() to be true, but got false.  (Could this error message be improved?  If so, please report an enhancement "
    "request to PyTorch.)": "narrow_copy",
})  # fmt: skip

# The result must be castable to it.
CASTS = by_name({
    "{name}: Expected result to be safely castable from {want.scalar_name} dtype, but got result with dtype {got.scalar_name}":
        "matrix_power cholesky cholesky_inverse cholesky_solve linalg.cond linalg.pinv tensorinv tensorsolve",
    "torch.{name}: Expected result to be safely castable from {want.scalar_name} dtype, but got result with dtype {got.scalar_name}":
        "linalg.householder_product linalg.matrix_rank",
    "torch.linalg.eigvals: Expected eigenvalues to be safely castable from {want.scalar_name} dtype, but got eigenvalues with dtype {got.scalar_name}":
        "linalg.eigvals",
    "logsumexp(): Expected floating point type for result tensor, but got: {got.scalar_name}": "logsumexp",
    "mvlgamma: result type {want.scalar_name} can't be cast to the desired output type {got.scalar_name}": "mvlgamma",
    "ldexp can't be cast to the desired output type {got.scalar_name}": "ldexp",
})  # fmt: skip
CAN_BE_CAST = "result type {want.scalar_name} can't be cast to the desired output type {got.scalar_name}"

FIRST = set("argmax argmin isin nanquantile quantile searchsorted".split())  # the dtype is looked at before the gradients

# What the refusal of gradients calls the function, if not by its name.
SHOWN = by_name({
    "aten::{name}":
        "alias_copy arange as_strided_copy bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor conj_physical "
        "detach_copy diagonal_copy expand_copy eye floor_divide full gcd heaviside lcm linspace log_softmax logspace nonzero_static ones permute_copy randint "
        "scatter slice_copy softmax "
        "squeeze_copy t_copy transpose_copy unfold_copy unsqueeze_copy view_copy zeros",
    "special_{name}": "entr erfcx i0e i1 i1e log_ndtr ndtri xlog1py zeta",
    "linalg_cross": "cross linalg.cross", "aten::diagonal_copy": "diag", "sub": "diff", "div": "true_divide", "mul": "inner kron outer",
    "linalg_inv_ex": "inverse linalg.inv", "linalg_cholesky_ex": "linalg.cholesky", "_linalg_det": "linalg.det", "aten::linalg_eigvals": "linalg.eigvals",
    "_linalg_eigh": "linalg.eigvalsh", "linalg_householder_product": "linalg.householder_product", "aten::linalg_ldl_solve": "linalg.ldl_solve",
    "linalg_lu_solve": "linalg.lu_solve lu_solve", "sum": "linalg.matrix_rank vecdot", "mm": "linalg.multi_dot", "_linalg_solve_ex": "linalg.solve",
    "linalg_solve_triangular": "linalg.solve_triangular", "_linalg_svd": "linalg.svdvals", "linalg_vector_norm": "vector_norm", "sort": "msort",
    "nansum": "nanmean", "pow": "square", "gather": "take_along_dim", "clamp": "clamp_number", "lerp": "lerp_number",
})  # fmt: skip

# Operands may require gradients: of copies, of comparisons, and where torch computes the result before it writes it.
UNFOLLOWED = set(
    "alias_copy as_strided_copy conj_physical detach_copy diag diagonal_copy expand_copy floor_divide round_divide heaviside histc linalg.cond linalg.ldl_solve "
    "linalg.matrix_norm linalg.matrix_rank linalg.norm linalg.pinv linspace matrix_power nanquantile permute_copy quantile scatter slice_copy ndtr "
    "softmax log_softmax squeeze_copy t_copy tensordot transpose_copy unfold_copy unsqueeze_copy view_copy".split()
)
# So may `out`.
FREE = set(
    "eq ge gt le lt ne logical_and logical_not logical_or logical_xor airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_i0 modified_bessel_i1 "
    "modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 scaled_modified_bessel_k1 spherical_bessel_j0".split()
)
LEAF = set("linalg.cond linalg.matrix_norm linalg.norm linalg.pinv matrix_power nanquantile quantile ndtr".split())  # refused as in-place writing is
WRITTEN = "a leaf Variable that requires grad is being used in an in-place operation."


def of_linalg(name: str) -> str:
    """The name under which there are rules for a function of `linalg`."""
    own = "linalg." + name
    return own if any(own in table for table in (EXACT, CASTS, SHOWN, UNFOLLOWED)) else name


def refuse_dtype(name: str, want: dtypes.dtype, got: dtypes.dtype) -> None:
    """Raise if a result of dtype `want` must not go into an `out` of dtype `got`."""
    words = EXACT.get(name)
    if words is not None and want is not got or words is None and not dtypes.can_cast(want, got):
        words = words or CASTS.get(name, CAN_BE_CAST)
        raise RuntimeError(words.format(name=name, want=want, got=got, narrow=want is dtypes.int32))


def refuse_gradients(name: str, followed: bool, out_followed: bool) -> None:
    """Raise if an operand (`followed`) or `out` requires a gradient that torch could not follow."""
    if name in FREE or not out_followed and (not followed or name in UNFOLLOWED):
        return
    if out_followed and name in LEAF:
        raise RuntimeError(WRITTEN)
    shown = SHOWN.get(name, "{name}").format(name=name)
    raise RuntimeError(f"{shown}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments requires grad.")
