"""Owns statistics, orderings, scattering, differences and rearranging: values, gradients and second derivatives from one table of lambdas."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg

A, V, T = (3, 4), (4,), (2, 3, 4)
INDEX, ROWS = [[0, 0, 2, 1], [1, 0, 0, 2]], [2, 0]
NAN = float("nan")


def with_nan(m, x):
    return m.where(m.tensor([True, False, False, False]), m.tensor(NAN, dtype=m.float64), x)


CASES = {
    "addmv": (lambda m, c, x, v: m.addmv(c, x, v, beta=0.5, alpha=2), [(3,), A, V]),
    "addbmm": (lambda m, c, x, y: m.addbmm(c, x, y, beta=0.5, alpha=2), [(3, 2), T, (2, 4, 2)]),
    "baddbmm": (lambda m, c, x, y: m.baddbmm(c, x, y, beta=0.5, alpha=2), [(3, 1), T, (2, 4, 2)]),
    "addr": (lambda m, c, v, w: m.addr(c, v, w, beta=0.5, alpha=2), [(4,), (3,), V]),
    "inner": (lambda m, x, y: m.inner(x, y), [T, A]),
    "tensordot": (lambda m, x, y: m.tensordot(x, y, ([1, 2], [0, 1])), [T, A]),
    "tensordot 1": (lambda m, x, y: m.tensordot(x, y.t(), 1), [T, A]),
    "kron": (lambda m, x, y: m.kron(x, y), [(2, 3), (2,)]),
    "vdot": (lambda m, x, y: m.vdot(x, y), [V, V]),
    "float_power": (lambda m, x: m.float_power(x, 3), [A]),
    "rsub": (lambda m, x, y: m.rsub(x, y, alpha=3), [A, V]),
    "ldexp": (lambda m, x: m.ldexp(x, m.tensor([1, 2, 3, 0])), [A]),
    "block_diag": (lambda m, x, y: m.block_diag(x, y), [(2, 3), (2,)]),
    "cdist": (lambda m, x, y: m.cdist(x, y, p=3.0), [(2, 3, 4), (5, 4)]),
    "cdist 2": (lambda m, x, y: m.cdist(x, y) ** 2, [(3, 2), (2, 2)]),
    "dist": (lambda m, x, y: m.dist(x, y, 2), [A, A]),
    "cummax": (lambda m, x: m.cummax(x, 1)[0] ** 2, [A]),
    "cummin": (lambda m, x: list(m.cummin(x, 0)), [A]),
    "logcumsumexp": (lambda m, x: m.logcumsumexp(x, 1), [A]),
    "diff": (lambda m, x: x.diff(n=2) ** 2, [A]),
    "diff ends": (lambda m, x, y: m.diff(x, dim=0, prepend=y), [A, (2, 4)]),
    "trapezoid": (lambda m, x: m.trapezoid(x, dx=0.5, dim=0) ** 2, [A]),
    "trapezoid x": (lambda m, y, x: m.trapezoid(y, x) ** 2, [A, V]),
    "cumulative_trapezoid": (lambda m, y, x: m.cumulative_trapezoid(y, x), [A, A]),
    "gradient": (lambda m, x: [g**2 for g in m.gradient(x, spacing=0.5)], [A]),
    "gradient 2": (lambda m, x: m.gradient(x, dim=1, edge_order=2), [A]),
    "gradient x": (lambda m, x: m.gradient(x, spacing=(m.tensor([0.0, 1.0, 3.0, 3.5], dtype=m.float64),), dim=1, edge_order=2), [A]),
    "index_copy": (lambda m, x, y: x.index_copy(0, m.tensor(ROWS), y) ** 2, [A, (2, 4)]),
    "index_fill": (lambda m, x, v: x.index_fill(1, m.tensor([1, 3]), v) ** 2, [A, ()]),
    "take_along_dim": (lambda m, x: m.take_along_dim(x, m.tensor([[0], [3], [1]]), 1) ** 2, [A]),
    "put": (lambda m, x, y: x.put(m.tensor([0, 5]), y) ** 2, [A, (2,)]),
    "put add": (lambda m, x, y: x.put(m.tensor([5, 5]), y, accumulate=True) ** 2, [A, (2,)]),
    "masked_scatter": (lambda m, x, y: x.masked_scatter(x > 0, y) ** 2, [A, (20,)]),
    **{f"scatter_reduce {r} {s}": ((lambda r, s: lambda m, x, y: x.scatter_reduce(0, m.tensor(INDEX), y, r, include_self=s) ** 2)(r, s), [A, (2, 4)])
       for r in ("sum", "prod", "mean", "amax", "amin") for s in (True, False)},
    **{f"index_reduce {r}": ((lambda r: lambda m, x, y: m.index_reduce(x, 1, m.tensor([0, 0, 3]), y, r) ** 2)(r), [A, (3, 3)]) for r in ("prod", "mean", "amax", "amin")},
    "select_scatter": (lambda m, x, y: m.select_scatter(x, y, 0, 1) ** 2, [A, V]),
    "slice_scatter": (lambda m, x, y: m.slice_scatter(x, y, 1, 0, 4, 2) ** 2, [A, (3, 2)]),
    "diagonal_scatter": (lambda m, x, y: m.diagonal_scatter(x, y, 1) ** 2, [A, (3,)]),
    "median": (lambda m, x: x.median() ** 2, [A]),
    "median dim": (lambda m, x: list(x.median(1)), [A]),
    "nanmedian": (lambda m, x: with_nan(m, x).nanmedian(1, True)[0] ** 2, [A]),
    "kthvalue": (lambda m, x: x.kthvalue(2, 0)[0] ** 2, [A]),
    "mode": (lambda m, x: x.mode(1)[0] ** 2, [A]),
    "msort": (lambda m, x: m.msort(x) ** 2, [A]),
    "quantile": (lambda m, x: m.quantile(x, 0.3), [A]),
    "quantiles": (lambda m, x, q: m.quantile(x, q.abs() / 2, dim=1, keepdim=True) ** 2, [A, (2,)]),
    **{f"quantile {i}": ((lambda i: lambda m, x: x.quantile(0.4, 0, interpolation=i) ** 2)(i), [A]) for i in ("lower", "higher", "midpoint", "nearest")},
    "nanquantile": (lambda m, x: m.nanquantile(with_nan(m, x), 0.3, 1) ** 2, [A]),
    "nansum": (lambda m, x: with_nan(m, x).nansum(0) ** 2, [A]),
    "nanmean": (lambda m, x: with_nan(m, x).nanmean(1, keepdim=True) ** 2, [A]),
    "nan_to_num": (lambda m, x: with_nan(m, x).nan_to_num(2.0) ** 2, [A]),
    "aminmax": (lambda m, x: [t**2 for t in m.aminmax(x, dim=1)], [A]),
    "renorm": (lambda m, x: m.renorm(x, 2, 0, 1.0), [A]),
    "fill": (lambda m, v: m.fill(m.ones(2, 2, dtype=m.float64), v) ** 2, [()]),
    "cov": (lambda m, x: m.cov(x), [A]),
    "cov weights": (lambda m, x, w: m.cov(x, correction=0, fweights=m.tensor([1, 2, 1, 3]), aweights=w.abs()), [A, V]),
    "corrcoef": (lambda m, x: m.corrcoef(x) ** 2, [A]),
    "dstack": (lambda m, x, y: m.dstack([x, y]) ** 2, [A, A]),
    "column_stack": (lambda m, x, y: m.column_stack([x, y]) ** 2, [A, (3,)]),
    "atleast_3d": (lambda m, x: m.atleast_3d(x) ** 2, [A]),
    "tensor_split": (lambda m, x: [p**2 for p in x.tensor_split(3, 1)], [A]),
    "hsplit": (lambda m, x: [p**2 for p in x.hsplit([1, 2])], [A]),
    "rot90": (lambda m, x: m.rot90(x, 3, (0, 2)) ** 2, [T]),
    "repeat_interleave": (lambda m, x: x.repeat_interleave(m.tensor([1, 0, 2]), 0) ** 2, [A]),
    "repeat_interleave n": (lambda m, x: x.repeat_interleave(2) ** 2, [A]),
    "diagflat": (lambda m, x: m.diagflat(x, 1) ** 2, [(2, 2)]),
    "cartesian_prod": (lambda m, x, y: m.cartesian_prod(x, y) ** 2, [V, (2,)]),
    "combinations": (lambda m, x: m.combinations(x, 3) ** 2, [V]),
    "logaddexp2": (lambda m, x, y: m.logaddexp2(x, y), [A, V]),
    "logit": (lambda m, x: m.logit(x.sigmoid(), 0.3), [A]),
    "unfold_copy": (lambda m, x: m.unfold_copy(x, 1, 2, 1) ** 2, [A]),
    "unique": (lambda m, x: m.unique((x * 2).round().detach(), return_inverse=True, return_counts=True), [A]),
    "unique rows": (lambda m, x: m.unique(x.round().detach(), dim=0), [A]),
    "unique_consecutive": (lambda m, x: m.unique_consecutive((x * 0.7).round().detach(), return_inverse=True, return_counts=True), [V]),
    "searchsorted": (lambda m, x, y: m.searchsorted(x.sort(-1)[0].detach(), y.detach(), right=True), [A, (3, 2)]),
    "bucketize": (lambda m, x, b: m.bucketize(x.detach(), b.sort()[0].detach()), [A, V]),
    "isin": (lambda m, x: m.isin(x.round(), m.tensor([1.0], dtype=m.float64)), [A]),
    "histc": (lambda m, x: m.histc(x.detach(), 5), [A]),
    "histogram": (lambda m, x: list(m.histogram(x.detach(), 4, range=(-1.0, 1.0))), [A]),
    "bincount": (lambda m, x: m.bincount(m.tensor([1, 3, 3]), m.tensor([0.5, 1.0, 2.0])), [V]),
    "tril_indices": (lambda m, x: m.tril_indices(3, 4, 1), [V]),
    "heaviside": (lambda m, x: m.heaviside(x.detach(), x.detach()), [V]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name, rng):
    f, shapes = CASES[name]
    support.check_against_differences(f, support.random_arrays(shapes, rng), rng, smooth=False)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, rng, torch):
    f, shapes = CASES[name]
    support.check_against_torch(f, support.random_arrays(shapes, rng), rng, layout=False, second="cdist" not in name)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_as_torch(dtype, torch, rng):
    """What moves elements keeps their bits; what computes goes through float32."""
    x = rng.uniform(-2, 2, (3, 4)).round(2)
    calls = [lambda m, t: t.index_fill(0, m.tensor([1]), 0.5), lambda m, t: t.index_copy(0, m.tensor([0]), t[1:2]), lambda m, t: t.put(m.tensor([1, 1]), t[0, :2], accumulate=True),
             lambda m, t: t.masked_scatter(t > 0, t), lambda m, t: t.scatter_reduce(0, m.tensor(INDEX), t[:2], "amax"), lambda m, t: m.rot90(t), lambda m, t: t.median(),
             lambda m, t: t.sort(1)[0].kthvalue(2)[0], lambda m, t: m.digamma(t), lambda m, t: m.select_scatter(t, t[0], 0, 1), lambda m, t: t.cummax(0)[0]]  # fmt: skip
    for k, call in enumerate(calls):
        found, expected = (call(m, m.tensor(x, dtype=getattr(m, dtype))) for m in (tg, torch))
        assert str(found.dtype).rpartition(".")[2] == dtype
        np.testing.assert_allclose(found.float().numpy(), expected.float().numpy(), rtol=1e-2, err_msg=str(k))


ERRORS = [
    (lambda m: m.kthvalue(m.ones(3), 4), RuntimeError, "selected number k out of range for dimension 0"),
    (lambda m: m.quantile(m.ones(3), 1.5), RuntimeError, "q must be in the range [0, 1] but got 1.5"),
    (lambda m: m.index_copy(m.ones(3), 0, m.tensor([0, 1]), m.ones(3)), IndexError, "Number of indices (2) should be equal to source.size(dim) (3)"),
    (lambda m: m.masked_scatter(m.ones(3), m.tensor([True] * 3), m.ones(2)), RuntimeError, "Number of elements of source < number of ones in mask"),
    (lambda m: m.diff(m.tensor(1.0)), RuntimeError, "diff expects input to be at least one-dimensional"),
    (lambda m: m.rot90(m.ones(3)), RuntimeError, "expected total dims >= 2, but got total dims = 1"),
    (lambda m: m.tensor_split(m.ones(3), 0), RuntimeError, "number of sections must be larger than 0, got 0"),
    (lambda m: m.bincount(m.tensor([-1])), RuntimeError, "bincount only supports 1-d non-negative integral inputs."),
    (lambda m: m.inner(m.ones(2), m.ones(3)), RuntimeError, "inner() the last dimension must match on both input tensors but got shapes [2] and [3]"),
    (lambda m: m.cdist(m.ones(2), m.ones(2, 2)), RuntimeError, "cdist only supports at least 2D tensors, X1 got: 1D"),
    (lambda m: m.renorm(m.ones(3), 2, 0, 1), RuntimeError, "renorm: input needs at least 2 dimensions, got 1 dimensions"),
    (lambda m: m.addr(m.ones(2, 2), m.ones(2, 2), m.ones(2)), RuntimeError, "addr: Expected 1-D argument vec1, but got 2-D"),
]  # fmt: skip


@pytest.mark.parametrize("call,kind,text", ERRORS, ids=[text[:40] for _, _, text in ERRORS])
def test_errors_in_torch_words(call, kind, text):
    for m in support.MODULES:
        with pytest.raises(kind) as info:
            call(m)
        assert text in str(info.value)
