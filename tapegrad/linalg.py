"""`tapegrad.linalg`: linear algebra on batches of matrices, through LAPACK, differentiable to any order.

Triangular factors are in `ops/factorizations.py`, eigenvalues and singular values in `ops/spectra.py`, systems in `ops/solves.py`, functions of
matrices and their norms in `ops/matrices.py`.
"""

from __future__ import annotations

from tapegrad import planned as _planned
from tapegrad.ops.determinants import det, slogdet
from tapegrad.ops.factorizations import (
    cholesky,
    cholesky_ex,
    lu,
    lu_factor,
    lu_factor_ex,
    qr,
)
from tapegrad.ops.least_squares import lstsq, pinv
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
from tapegrad.ops.public import made_public
from tapegrad.ops.reflectors import householder_product
from tapegrad.ops.solves import inv, inv_ex, lu_solve, solve, solve_ex, solve_triangular
from tapegrad.ops.spectra import eig, eigh, eigvals, eigvalsh, svd, svdvals
from tapegrad.ops.symmetric import ldl_factor, ldl_factor_ex, ldl_solve

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh",
    "householder_product", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lstsq", "lu", "lu_factor", "lu_factor_ex",
    "lu_solve", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_ex", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]  # fmt: skip

for _name in __all__:  # each under its own name, which its errors say
    if _name != "LinAlgError":
        globals()[_name] = made_public(globals()[_name], "linalg." + _name, False, tensors=hasattr(globals()[_name], "public"))
_planned.serve("linalg", globals())
