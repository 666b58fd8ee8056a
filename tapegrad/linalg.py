"""`tapegrad.linalg`: linear algebra on batches of matrices, through LAPACK, differentiable to any order.

Factorizations are in `ops/factorizations.py`, systems and determinants in `ops/solves.py`, norms and functions of matrices in
`ops/matrices.py`.
"""

from __future__ import annotations

from tapegrad.ops.factorizations import (
    cholesky,
    cholesky_ex,
    eigh,
    eigvalsh,
    householder_product,
    lu,
    lu_factor,
    lu_factor_ex,
    qr,
    svd,
    svdvals,
)
from tapegrad.ops.linear import matmul
from tapegrad.ops.matrices import (
    cond,
    cross,
    diagonal,
    matrix_exp,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    norm,
    tensorinv,
    tensorsolve,
    vander,
    vecdot,
)
from tapegrad.ops.matrix_checks import LinAlgError
from tapegrad.ops.norms import vector_norm
from tapegrad.ops.solves import det, inv, inv_ex, lstsq, lu_solve, pinv, slogdet, solve, solve_ex, solve_triangular

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "householder_product", "inv", "inv_ex",
    "lstsq", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot",
    "norm", "pinv", "qr", "slogdet", "solve", "solve_ex", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot",
    "vector_norm",
]  # fmt: skip
