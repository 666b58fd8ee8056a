"""Owns linear algebra: values and derivatives of every function on batches, against finite differences and PyTorch; the errors."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg


def regular(x):
    """A matrix from any matrix whose singular values are far from zero."""
    n = min(x.shape[-2:])
    return x + 3 * tg_eye(x, n)


def tg_eye(x, n):
    import importlib

    m = importlib.import_module(type(x).__module__.partition(".")[0])
    return m.eye(*x.shape[-2:], dtype=x.dtype)


def positive(x):
    return x @ x.mT + tg_eye(x @ x.mT, 0)


def symmetric(x):
    return x + x.mT


def orthogonal_outputs(*outputs):
    """What does not depend on the signs of vectors."""
    return [o * o for o in outputs]


def lu_parts(m, x, **kwargs):
    result = m.linalg.lu(x, **kwargs)
    return [result[1], result[2]]


S, B, W, H, Q, V = (3, 3), (2, 3, 3), (2, 3), (4, 3), (2, 1, 3, 3), (3,)
def spread(m, x):
    """A matrix with well separated eigenvalues, two of them complex."""
    n = x.shape[-1]
    base = np.diag(np.arange(3.0, 3 + n)) * 2
    base[:2, :2] = [[1, -4], [4, 1]]
    return m.tensor(base) + x * 0.3


CASES = {
    "inv": (lambda m, x: m.linalg.inv(regular(x)), [B]),
    "inverse": (lambda m, x: regular(x).inverse(), [S]),
    "inv_ex": (lambda m, x: m.linalg.inv_ex(regular(x))[0], [S]),
    "det": (lambda m, x: m.linalg.det(x), [B]),
    "det 1": (lambda m, x: x.det(), [(1, 1)]),
    "slogdet": (lambda m, x: m.linalg.slogdet(x)[1], [B]),
    "logdet": (lambda m, x: positive(x).logdet(), [S]),
    "solve": (lambda m, x, y: m.linalg.solve(regular(x), y), [B, (2, 3, 2)]),
    "solve vector": (lambda m, x, y: m.linalg.solve(regular(x), y), [S, V]),
    "solve vectors": (lambda m, x, y: m.linalg.solve(regular(x), y), [B, (2, 3)]),
    "solve broadcast": (lambda m, x, y: m.linalg.solve(regular(x), y), [Q, (2, 3, 1)]),
    "solve right": (lambda m, x, y: m.linalg.solve(regular(x), y, left=False), [S, W]),
    "solve_ex": (lambda m, x, y: m.linalg.solve_ex(regular(x), y)[0], [S, (3, 2)]),
    "solve_triangular": (lambda m, x, y: m.linalg.solve_triangular(regular(x), y, upper=True), [B, (3, 2)]),
    "solve_triangular lower right": (lambda m, x, y: m.linalg.solve_triangular(regular(x), y, upper=False, left=False), [S, W]),
    "solve_triangular unit": (lambda m, x, y: m.linalg.solve_triangular(x, y, upper=False, unitriangular=True), [S, (3, 2)]),
    "triangular_solve": (lambda m, x, y: m.triangular_solve(y, regular(x), upper=False, transpose=True)[0], [S, (3, 2)]),
    "cholesky": (lambda m, x: m.linalg.cholesky(positive(x)), [B]),
    "cholesky upper": (lambda m, x: m.linalg.cholesky(positive(x), upper=True), [S]),
    "cholesky_ex": (lambda m, x: m.linalg.cholesky_ex(positive(x))[0], [S]),
    "cholesky_solve": (lambda m, x, y: m.cholesky_solve(y, regular(x).tril()), [S, (3, 2)]),
    "cholesky_solve upper": (lambda m, x, y: m.cholesky_solve(y, regular(x).triu(), upper=True), [B, (3, 2)]),
    "cholesky_inverse": (lambda m, x: m.cholesky_inverse(regular(x).tril()), [S]),
    "cholesky_inverse upper": (lambda m, x: m.cholesky_inverse(regular(x).triu(), True), [B]),
    "qr": (lambda m, x: orthogonal_outputs(*m.linalg.qr(x)), [B]),
    "qr tall": (lambda m, x: orthogonal_outputs(*m.linalg.qr(x)), [H]),
    "qr wide": (lambda m, x: orthogonal_outputs(*m.linalg.qr(x)), [(2, 2, 4)]),
    "qr complete": (lambda m, x: orthogonal_outputs(*m.linalg.qr(x, "complete")), [W]),
    "eigh": (lambda m, x: orthogonal_outputs(*m.linalg.eigh(symmetric(x))), [B]),
    "eigvalsh": (lambda m, x: m.linalg.eigvalsh(symmetric(x)), [S]),
    "svd": (lambda m, x: orthogonal_outputs(*m.linalg.svd(x, full_matrices=False)), [B]),
    "svd tall": (lambda m, x: orthogonal_outputs(*m.linalg.svd(x, False)), [H]),
    "svd wide": (lambda m, x: orthogonal_outputs(*m.linalg.svd(x, False)), [W]),
    "svd product": (lambda m, x: (lambda u, s, v: u @ v)(*m.linalg.svd(x, False)), [H]),
    "svdvals": (lambda m, x: m.linalg.svdvals(x), [(2, 2, 3)]),
    "torch svd": (lambda m, x: orthogonal_outputs(*m.svd(x)), [H]),
    "pinv": (lambda m, x: m.linalg.pinv(x), [B]),
    "pinv tall": (lambda m, x: m.linalg.pinv(x), [H]),
    "pinv wide": (lambda m, x: x.pinverse(), [W]),
    "pinv hermitian": (lambda m, x: m.linalg.pinv(positive(x), hermitian=True), [S]),
    "lstsq": (lambda m, x, y: m.linalg.lstsq(x, y)[0], [H, (4, 2)]),
    "lstsq wide": (lambda m, x, y: m.linalg.lstsq(x, y)[0], [W, (2, 2)]),
    "lstsq vectors": (lambda m, x, y: m.linalg.lstsq(x, y)[0], [(2, 4, 3), (2, 4)]),
    "lstsq residuals": (lambda m, x, y: m.linalg.lstsq(x, y, driver="gelsd")[:2], [H, (4, 2)]),
    "lstsq gelss": (lambda m, x, y: m.linalg.lstsq(x, y, driver="gelss")[0], [B, (2, 3, 1)]),
    "lstsq gels": (lambda m, x, y: m.linalg.lstsq(x, y, driver="gels")[0], [H, (4, 2)]),
    "lu": (lu_parts, [B]),
    "lu tall": (lu_parts, [H]),
    "lu wide": (lu_parts, [(2, 2, 4)]),
    "lu no pivot": (lambda m, x: lu_parts(m, positive(x)), [S]),
    "lu_factor": (lambda m, x: m.linalg.lu_factor(x)[0], [B]),
    "lu_factor tall": (lambda m, x: m.linalg.lu_factor(x)[0], [H]),
    "lu_factor wide": (lambda m, x: m.lu(x)[0], [W]),
    "lu_solve": (lambda m, x, y: m.linalg.lu_solve(*m.linalg.lu_factor(x), y), [B, (3, 2)]),
    "lu_solve adjoint": (lambda m, x, y: m.linalg.lu_solve(*m.linalg.lu_factor(x), y, adjoint=True), [S, (3, 2)]),
    "lu_solve right": (lambda m, x, y: m.linalg.lu_solve(*m.linalg.lu_factor(x), y, left=False), [S, W]),
    "lu_solve right adjoint": (lambda m, x, y: m.linalg.lu_solve(*m.linalg.lu_factor(x), y, left=False, adjoint=True), [S, W]),
    "lu_unpack": (lambda m, x: list(m.lu_unpack(*m.linalg.lu_factor(x))[1:]), [H]),
    "matrix_exp": (lambda m, x: m.linalg.matrix_exp(x), [B]),
    "matrix_power": (lambda m, x: m.linalg.matrix_power(x, 5), [S]),
    "matrix_power negative": (lambda m, x: regular(x).matrix_power(-3), [B]),
    "matrix_power 0": (lambda m, x: m.linalg.matrix_power(x, 0), [B]),
    "matrix_power 1": (lambda m, x: m.linalg.matrix_power(x, 1), [S]),
    "multi_dot": (lambda m, x, y, z: m.linalg.multi_dot([x, y, z]), [(2, 4), (4, 5), (5, 3)]),
    "multi_dot vectors": (lambda m, x, y, z: m.linalg.multi_dot([x, y, z]), [(3,), S, (3,)]),
    "fro": (lambda m, x: m.linalg.matrix_norm(x), [B]),
    "nuc": (lambda m, x: m.linalg.matrix_norm(x, "nuc"), [(2, 2, 3)]),
    "norm 2": (lambda m, x: m.linalg.norm(x, 2), [S]),
    "norm -2": (lambda m, x: m.linalg.matrix_norm(x, -2, (0, 2), keepdim=True), [B]),
    "norm inf": (lambda m, x: m.linalg.matrix_norm(x, float("inf"), (2, 0)), [B]),
    "norm -inf": (lambda m, x: m.linalg.norm(x, -float("inf")), [W]),
    "norm 1": (lambda m, x: m.linalg.norm(x, 1, (0, 1), keepdim=True), [B]),
    "norm -1": (lambda m, x: m.linalg.norm(x, -1), [W]),
    "vector norm": (lambda m, x: m.linalg.norm(x, 3.5, dim=1), [W]),
    "cond": (lambda m, x: m.linalg.cond(x), [B]),
    "cond fro": (lambda m, x: m.linalg.cond(x, "fro"), [S]),
    "eig": (lambda m, x: [t.abs() for t in m.linalg.eig(spread(m, x))], [S]),
    "eig batch": (lambda m, x: [t.abs() for t in m.linalg.eig(spread(m, x))], [(2, 3, 3)]),
    "eigvals": (lambda m, x: m.view_as_real(m.linalg.eigvals(spread(m, x))), [S]),
    "cross": (lambda m, x, y: m.linalg.cross(x, y), [W, (1, 3)]),
    "cross dim": (lambda m, x, y: m.cross(x, y, dim=0), [(3, 2), (3, 2)]),
    "vecdot": (lambda m, x, y: m.linalg.vecdot(x, y), [W, W]),
    "vander": (lambda m, x: m.linalg.vander(x, N=4), [W]),
    "trace": (lambda m, x: m.trace(x) ** 2, [W]),
    "tensorinv": (lambda m, x: m.linalg.tensorinv(regular(x.reshape(4, 4)).reshape(2, 2, 4)), [(2, 2, 4)]),
    "tensorsolve": (lambda m, x, y: m.linalg.tensorsolve(regular(x.reshape(4, 4)).reshape(2, 2, 4), y), [(2, 2, 4), (2, 2)]),
    "householder_product": (lambda m, x, t: m.linalg.householder_product(x, t), [H, (2,)]),
    "householder_product batch": (lambda m, x, t: m.linalg.householder_product(x, t), [(2, 4, 3), (2, 3)]),
    "ormqr": (lambda m, x, t, c: m.ormqr(x, t, c), [H, (3,), (4, 2)]),
    "ormqr transposed": (lambda m, x, t, c: m.ormqr(x, t, c, transpose=True), [H, (3,), (4, 2)]),
    "ormqr right": (lambda m, x, t, c: m.ormqr(x, t, c, left=False), [S, (3,), (2, 3)]),
    "diagonal": (lambda m, x: m.linalg.diagonal(x) ** 2, [B]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name, rng):
    f, shapes = CASES[name]
    support.check_against_differences(f, support.random_arrays(shapes, rng), rng, smooth=False)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:torch")
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, rng, torch):
    f, shapes = CASES[name]
    support.check_against_torch(f, support.random_arrays(shapes, rng), rng, tolerance=1e-7, layout=False)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(0, 0), (0, 3, 3), (2, 0, 0), (3, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky", "qr", "eigh",
                                  "eigvalsh", "svd", "svdvals", "pinv", "matrix_exp", "lu", "lu_factor", "matrix_norm", "matrix_rank"])
def test_empty_as_torch(name, shape, torch):
    outcomes = []
    for m in (tg, torch):
        try:
            result = getattr(m.linalg, name)(m.zeros(shape))
            outcomes.append([(tuple(t.shape), str(t.dtype).rpartition(".")[2]) for t in support.outputs_of(result)])
        except (RuntimeError, IndexError) as error:
            outcomes.append(type(error).__name__)
    assert outcomes[0] == outcomes[1]


@pytest.mark.torch
def test_layout_as_torch(torch, rng):
    """Factors are column-major, as LAPACK and torch leave them."""
    x = positive(tg.tensor(rng.uniform(-1, 1, (2, 3, 3)))).numpy()
    for name in ("inv", "cholesky", "qr", "eigh", "lu_factor", "svd"):
        for a, b in zip(support.outputs_of(getattr(tg.linalg, name)(tg.tensor(x))), support.outputs_of(getattr(torch.linalg, name)(torch.tensor(x)))):
            assert a.stride() == b.stride(), name


def test_singular_determinants_have_gradients(rng):
    """The cofactors of a singular matrix, alone and in a batch with a regular one."""
    single = np.array([[1.0, 2.0], [2.0, 4.0]])
    for array in (single, np.stack([single, np.eye(2)]), np.zeros((3, 3)), np.diag([1.0, 2.0, 0.0])):
        x = tg.tensor(array, requires_grad=True)
        tg.linalg.det(x).sum().backward()
        cofactors = [[np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) * (-1) ** (i + j) for i in range(len(a)) for j in range(len(a))]
                     for a in array.reshape(-1, *array.shape[-2:])]  # fmt: skip
        np.testing.assert_allclose(x.grad.numpy(), np.reshape(cofactors, array.shape), atol=1e-12)


ERRORS = [
    (lambda m: m.linalg.inv(m.zeros(2, 2)), "LinAlg", "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input matrix is singular."),
    (lambda m: m.linalg.inv(m.zeros(3, 2, 2)), "LinAlg", "linalg.inv: (Batch element 0): The diagonal element 1 is zero"),
    (lambda m: m.linalg.inv_ex(m.zeros(2, 2), check_errors=True), "LinAlg", "linalg.inv_ex: The diagonal element 1 is zero"),
    (lambda m: m.linalg.inv(m.ones(2, 3)), "Runtime", "linalg.inv: A must be batches of square matrices, but they are 2 by 3 matrices"),
    (lambda m: m.linalg.det(m.ones(3)), "Runtime", "linalg.det: The input tensor A must have at least 2 dimensions."),
    (lambda m: m.linalg.inv(m.ones(2, 2, dtype=m.int64)), "Runtime", "linalg.inv: Expected a floating point or complex tensor as input. Got Long"),
    (lambda m: m.linalg.solve(m.zeros(2, 2), m.eye(2)), "LinAlg", "linalg.solve: The solver failed because the input matrix is singular."),
    (lambda m: m.linalg.solve(m.eye(2), m.ones(3)), "Runtime", "linalg.solve: Incompatible shapes of A and B for the equation AX = B (2x2 and 3x1)"),
    (lambda m: m.linalg.solve(m.eye(2), m.eye(2).double()), "Runtime",
     "linalg.solve: Expected A and B to have the same dtype, but found A of type Float and B of type Double instead"),
    (lambda m: m.linalg.cholesky(-m.eye(2)), "LinAlg",
     "linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the leading minor of order 1 is not positive-definite)."),
    (lambda m: m.linalg.cholesky(-m.eye(2).expand(3, 2, 2)), "LinAlg", "linalg.cholesky: (Batch element 0): The factorization could not"),
    (lambda m: m.linalg.qr(m.eye(2), "foo"), "Runtime", "qr received unrecognized mode 'foo' but expected one of 'reduced' (default), 'r', or 'complete'"),
    (lambda m: m.linalg.eigh(m.eye(2), "Q"), "Runtime", "Expected UPLO argument to be 'L' or 'U', but got Q"),
    (lambda m: m.linalg.matrix_norm(m.eye(2), 3), "Runtime", "linalg.matrix_norm: Order 3 not supported."),
    (lambda m: m.linalg.multi_dot([m.eye(2)]), "Runtime", "multi_dot(): expected at least 2 tensors but got 1"),
    (lambda m: m.linalg.lu_factor(m.zeros(2, 2)), "Runtime", "linalg.lu_factor: U[1,1] is zero and using it on lu_solve would result in a division by zero."),
    (lambda m: m.linalg.solve_triangular(m.eye(3), m.ones(2, 2), upper=True), "Runtime",
     "linalg.solve_triangular: Incompatible shapes of A and B for the equation AX = B (3x3 and 2x2)"),
    (lambda m: m.linalg.qr(m.eye(3, 2).requires_grad_(), "complete")[0].sum().backward(), "Runtime",
     "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."),
    (lambda m: m.linalg.cross(m.eye(2), m.eye(2)), "Runtime", "linalg.cross: inputs dimension -1 must have length 3. Got 2 and 2"),
    (lambda m: m.trace(m.ones(3)), "Runtime", "trace: expected a matrix, but got tensor with dim 1"),
]  # fmt: skip


@pytest.mark.parametrize("call,kind,text", ERRORS, ids=[text[:40] for _, _, text in ERRORS])
def test_errors_in_torch_words(call, kind, text):
    for m in support.MODULES:
        with pytest.raises(m.linalg.LinAlgError if kind == "LinAlg" else RuntimeError) as info:
            call(m)
        assert text in str(info.value)
    assert tg.linalg.LinAlgError.__name__ == "_LinAlgError" and issubclass(tg.linalg.LinAlgError, RuntimeError)


def test_names_in_the_graph():
    w, v = tg.eye(2, requires_grad=True) * 2, tg.ones(2)
    found = [t.grad_fn.name() for t in (tg.linalg.inv(w), tg.linalg.det(w), tg.linalg.solve(w, v), tg.linalg.cholesky(w), *tg.linalg.qr(w), tg.linalg.svdvals(w))]
    names = ["InvEx", "Det", "SolveEx", "CholeskyEx", "Qr", "Qr", "Svd"]
    assert found == [f"Linalg{n}Backward0" for n in names]


def test_outputs_that_nobody_holds_stay_while_derivatives_read_them(holds_nothing):
    """U and Vh have been dropped when the derivative of S is recorded; the second derivative goes through them."""
    for k in range(20):
        x = tg.tensor(np.random.default_rng(k).normal(size=(5, 5)), requires_grad=True)
        total = tg.linalg.svd(x).S * 1.0
        c = tg.ones(5, dtype=tg.float64, requires_grad=True)
        (g,) = tg.autograd.grad(total, x, c, create_graph=True)
        del total
        again = tg.autograd.grad(g.sum(), [x, c])
        assert all(np.isfinite(t.numpy()).all() for t in again)


def test_out():
    a, sink = tg.eye(2) * 2, tg.zeros(2, 2)
    assert tg.linalg.inv(a, out=sink) is sink and sink.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    q, r = tg.zeros(2, 2), tg.zeros(2, 2)
    tg.linalg.qr(a, out=(q, r))
    assert (q @ r - a).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_eigenvectors_are_what_they_are_called(dtype, rng):
    a = tg.tensor(rng.uniform(-1, 1, (2, 4, 4)), dtype=getattr(tg, dtype))
    eigenvalues, v = tg.linalg.eig(a)
    z = a.to(v.dtype)
    tolerance = 1e-4 if "64" not in str(a.dtype) or dtype == "complex64" else 1e-10
    support.close(support.value(z @ v), support.value(v * eigenvalues.unsqueeze(-2)), tolerance)
    support.close(support.value(v.abs().square().sum(-2)), np.ones((2, 4)), tolerance)
    assert v.dtype.is_complex and v.stride() == (16, 1, 4)


def test_a_loss_that_depends_on_the_phase_of_eigenvectors_is_refused(rng):
    z = tg.tensor(rng.uniform(-1, 1, (3, 3)) + 1j * rng.uniform(-1, 1, (3, 3)), requires_grad=True)
    with pytest.raises(RuntimeError, match="linalg_eig_backward: The eigenvectors in the complex case are specified up to multiplication"):
        tg.linalg.eig(z).eigenvectors.imag.sum().backward()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("hermitian", [False, True])
def test_symmetric_indefinite_systems(dtype, hermitian, rng):
    a = rng.uniform(-1, 1, (2, 4, 4)) + (1j * rng.uniform(-1, 1, (2, 4, 4)) if "complex" in dtype else 0)
    a[..., 0, 0] = 0  # a 2 x 2 block comes first
    a = a + (a.conj() if hermitian else a).swapaxes(-1, -2)
    A, B = tg.tensor(a, dtype=getattr(tg, dtype)), tg.ones(4, 2, dtype=getattr(tg, dtype))
    packed, pivots, info = tg.linalg.ldl_factor_ex(A, hermitian=hermitian)
    assert pivots.dtype is tg.int32 and not info.any() and packed.stride() == (16, 1, 4)
    x = tg.linalg.ldl_solve(packed, pivots, B, hermitian=hermitian)
    support.close(support.value(A @ x), np.ones((2, 4, 2)), 1e-9 if dtype in ("float64", "complex128") else 1e-4)
    with pytest.raises(RuntimeError, match="torch.linalg.ldl_factor: Unknown error code: 1."):
        tg.linalg.ldl_factor(tg.zeros(3, 3))
    with pytest.raises(RuntimeError, match="derivative for aten::linalg_ldl_factor_ex is not implemented"):
        tg.linalg.ldl_factor(tg.eye(3, requires_grad=True)).LD.sum().backward()
    with pytest.raises(RuntimeError, match="pivots with shape .2. instead"):
        tg.linalg.ldl_solve(packed[0], pivots[0, :2], B)


def test_powers_of_a_scalar():
    assert tg.linalg.vander(tg.tensor(2.0), N=3).tolist() == [[1.0, 2.0, 4.0]]
    with pytest.raises(RuntimeError, match="integer tensors, but got Bool"):
        tg.linalg.vander(tg.tensor([True, False]))


def test_pivots_that_name_no_row_are_refused():
    """LAPACK would write to the rows that they name."""
    a, b = tg.eye(3) * 2, tg.ones(3, 2)
    rows = lambda *p: tg.tensor(p, dtype=tg.int32)
    for solve in (lambda p: tg.linalg.lu_solve(a, p, b), lambda p: tg.lu_solve(b, a, p)):
        assert solve(rows(1, 2, 3)).tolist() == [[0.5, 0.5]] * 3
        for low in (0, -1):
            with pytest.raises(RuntimeError, match="Pivots given to lu_solve must all be greater or equal to 1. Did you properly pass the result of lu_factor"):
                solve(rows(1, low, 3))
        with pytest.raises(RuntimeError, match="Pivots given to lu_solve must all be smaller or equal to LU.size.-2.. Did you properly"):
            solve(rows(1, 4, 3))
    with pytest.raises(RuntimeError, match="Pivots given to ldl_solve must all satisfy .pivot. >= 1. Did you properly pass the result of ldl_factor"):
        tg.linalg.ldl_solve(a, rows(0, 2, 3), b)
    with pytest.raises(RuntimeError, match="Pivots given to ldl_solve must all satisfy .pivot. <= LD.size.-2.. Did you properly"):
        tg.linalg.ldl_solve(a, rows(-4, -4, 3), b)
    for alone in ((-1, 2, 3), (1, 2, -3), (-2, -2, -3)):
        with pytest.raises(RuntimeError, match="Pivots given to ldl_solve must be negative in pairs"):
            tg.linalg.ldl_solve(a, rows(*alone), b)
    for bad in (0, -1, 4):
        with pytest.raises(RuntimeError, match="pivots passed to lu_unpack must be between 1 and LU.size.-2. inclusive."):
            tg.lu_unpack(a, rows(1, bad, 3))
