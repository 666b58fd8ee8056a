"""Owns einsum: every form of an equation against NumPy's, derivatives against finite differences, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg

SHAPES = {"s": (), "v": (3,), "m": (2, 3), "n": (3, 3), "t": (2, 3, 3), "o": (1, 3), "e": (0, 3)}
FORMS = [
    ("ii", "n"), ("ii->i", "n"), ("ij", "m"), ("ji", "m"), ("bA", "m"), ("i,i", "vv"), ("i,j", "vv"), (",", "ss"), (",ij", "sm"), ("ij,jk,kl->il", "mnn"),
    ("ijj", "t"), ("ijj->ij", "t"), ("...ii", "t"), ("...ii->...i", "t"), ("i...->...", "t"), ("a...->...a", "t"), ("...ij,...jk", "tt"),
    ("...j,j->...", "tv"), ("ij,ij->", "oo"), ("ij,kj->ik", "om"), ("ij,ij->i", "mo"), ("ij,jk->ik", "en"), ("ij->j", "e"), (" i j , j -> i ", "mv"), ("", "s"),
    ("i,i,i->i", "vvv"), ("ii,jj->", "nn"), ("ii,i", "nv"),
]  # fmt: skip

@pytest.mark.parametrize("equation,names", FORMS, ids=[f"{e}({n})" for e, n in FORMS])
def test_values_and_derivatives(equation, names, rng):
    arrays = [rng.uniform(-1, 1, SHAPES[name]) for name in names]
    found = tg.einsum(equation, *map(tg.tensor, arrays))
    np.testing.assert_allclose(found.numpy(), np.einsum(equation.replace(" ", ""), *arrays), rtol=1e-12, atol=1e-14)
    assert tuple(found.shape) == np.einsum(equation.replace(" ", ""), *arrays).shape
    np.testing.assert_allclose(tg.einsum(equation, [tg.tensor(a) for a in arrays]).numpy(), found.numpy())
    support.check_against_differences(lambda m, *xs: tg.einsum(equation, *xs), arrays, rng)


def test_lists_of_subscripts(rng):
    x, y = (tg.tensor(rng.uniform(-1, 1, (2, 3)), requires_grad=True) for _ in range(2))
    assert tg.equal(tg.einsum(x, [0, 1], y, [2, 1], [2, 0]), tg.einsum("ab,cb->ca", x, y))
    assert tg.equal(tg.einsum(x, [0, 1], y, [2, 1]), x @ y.T)
    assert tg.equal(tg.einsum(x, [26, 0]), x.T)  # capitals first
    assert tg.equal(tg.einsum(x, [..., 1], y, [..., 1], [...]), (x * y).sum(1))
    assert tg.einsum(x, [0, 1], []).shape == () and tg.equal(tg.einsum("...->", x), x.sum())  # NumPy has no such ellipsis


@pytest.mark.parametrize("call,kind,words", [
    ("3, X", TypeError, "einsum(): argument 'equation' (position 1) must be str, not int"), ("'ij,jk', X, 3", TypeError, "expected Tensor as element 1 in argument 1, but got int"),
    ("X, [0, 60]", ValueError, "einsum(): subscript in subscript list is not within the valid range [0, 52)"),
    ("'ij'", ValueError, "einsum(): must specify the equation string and at least one operand"), ("'ij', []", ValueError, "einsum(): must specify the equation string"),
    ("'ij,ij->i', X, X.double()", RuntimeError, "expected scalar type Float but found Double"), ("'ij,ij->i', X.bool(), X.bool()", NotImplementedError, "\"bmm\" not implemented for 'Bool'"),
    ("'i...j...', T", RuntimeError, "einsum(): found '.' for operand 0 for which an ellipsis was already found"),
    ("'i.j', T", RuntimeError, "einsum(): found '.' for operand 0 that is not part of any ellipsis"),
    ("'ij->i.j', X", RuntimeError, "einsum(): found '.' for output that is not part of any ellipsis (...)"),
    ("'ij->i...j...', X", RuntimeError, "einsum(): found '.' for output but an ellipsis (...) was already found"),
    ("'ijkl...', T", RuntimeError, "einsum(): the number of subscripts in the equation (4) is more than the number of dimensions (3) for operand 0"),
    ("'ij', T", RuntimeError, "einsum(): the number of subscripts in the equation (2) does not match the number of dimensions (3) for operand 0 and no ellipsis was given"),
    ("'ij,jk', X", RuntimeError, "einsum(): fewer operands were provided"), ("'ij', X, X", RuntimeError, "einsum(): more operands were provided"),
    ("'ij->ji->ij', X", RuntimeError, "einsum(): invalid subscript given at index 6"),
    ("'ii', X", RuntimeError, "einsum(): subscript i is repeated for operand 0 but the sizes don't match, 3 != 2"),
    ("'...i,...i', X, tg.ones(5, 3)", RuntimeError, "einsum(): dimension 0 covered by ellipsis in operand 1has size 5 which does not broadcast with previously seen ellipsis with size 2"),
])  # fmt: skip
def test_refusals(call, kind, words):
    with pytest.raises(kind) as caught:
        eval(f"tg.einsum({call})", {"tg": tg, "X": tg.ones(2, 3), "T": tg.ones(2, 2, 2)})
    assert words in str(caught.value)

@pytest.mark.parametrize("call,kind,words", [
    ("tg.mm(b, b.t())", NotImplementedError, "\"addmm_impl_cpu_\" not implemented for 'Bool'"), ("tg.mv(b, b[0])", NotImplementedError, "\"addmv_impl_cpu\" not implemented for 'Bool'"),
    ("tg.dot(b[0], b[0])", NotImplementedError, "\"dot\" not implemented for 'Bool'"), ("tg.bmm(b[None], b.t()[None])", NotImplementedError, "\"bmm\" not implemented for 'Bool'"),
    ("tg.bmm(x[None], x.double().t()[None])", RuntimeError, "expected scalar type Float but found Double"),
    ("tg.mv(x, x[0].double())", RuntimeError, "addmv input tensors must have the same dtype, but got Double, Float, and Double"),
    ("tg.mm(x, tg.ones(4, 3).double())", RuntimeError, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x3)"),
])  # fmt: skip
def test_products_of_dtypes_that_have_none(call, kind, words):
    with pytest.raises(kind) as caught:
        eval(call, {"tg": tg, "x": tg.ones(2, 3), "b": tg.ones(2, 3, dtype=tg.bool)})
    assert words in str(caught.value)
