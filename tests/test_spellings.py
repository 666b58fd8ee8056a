"""Owns functions that are others in a spelling of their own, and small refusals that belong to tensors as such."""

from __future__ import annotations

import math

import pytest

import tapegrad as tg


@pytest.mark.parametrize("name, operands", [
    ("addmm", [(2, 2), (2, 3), (3, 2)]), ("addmv", [(2,), (2, 3), (3,)]), ("addr", [(2, 3), (2,), (3,)]), ("baddbmm", [(2, 2, 2), (2, 2, 3), (2, 3, 2)]),
    ("addbmm", [(2, 2), (3, 2, 3), (3, 3, 2)]),
])  # fmt: skip
def test_products_in_place(name, operands):
    x, a, b = (tg.rand(*shape, dtype=tg.float64) for shape in operands)
    wanted = getattr(x, name)(a, b, beta=0.5, alpha=2)
    y = x.clone()
    assert getattr(y, name + "_")(a, b, beta=0.5, alpha=2) is y and tg.equal(y, wanted) and y._version > 0
    x.requires_grad_(), a.requires_grad_()
    assert tg.autograd.gradcheck(lambda x, a: getattr(x.clone(), name + "_")(a, b, alpha=3), (x, a))
    with pytest.raises(RuntimeError, match="leaf Variable"):
        getattr(x, name + "_")(a, b)


def test_copies_and_old_names():
    x = tg.arange(6.0).reshape(2, 3).requires_grad_()
    n = x.narrow_copy(1, 1, 2)
    n.sum().backward()
    assert n.tolist() == [[1, 2], [4, 5]] and n._base is None and x.grad.tolist() == [[0, 1, 1], [0, 1, 1]]
    assert tg.slice_copy(x, 1, -2).tolist() == n.tolist() and not tg.detach_copy(x).requires_grad and tg.detach_copy(x).data_ptr() != x.data_ptr()
    out = tg.empty(0, dtype=tg.int64)
    assert tg.slice_copy(tg.arange(5), 0, 1, 4, 2, out=out) is out and out.tolist() == [1, 3]
    assert tg.alias_copy(tg.ones(2, 3).t()).stride() == tg.detach_copy(tg.ones(2, 3).t()).stride() == tg.narrow_copy(tg.ones(2, 3).t(), 0, 0, 3).stride() == (2, 1)
    row = tg.tensor([1.0, 2.0, 3.0])
    assert tg.slice_copy(row, 0, 1, out=row[:2]).tolist() == [2, 3] and row.tolist() == [2, 3, 3]  # a copy comes between
    for copied in (tg.detach_copy, tg.slice_copy, tg.alias_copy):
        with pytest.raises(RuntimeError, match="Expected out tensor to have dtype float, but got double instead"):
            copied(row, out=tg.empty(3, dtype=tg.float64))
        with pytest.raises(RuntimeError, match=f"aten::{copied.__name__}..: functions with out="):
            copied(row, out=tg.empty(3, requires_grad=True))
    with pytest.raises(RuntimeError, match="nonzero_static: Expected out tensor to have scalar type Long but got scalar typeFloat"):
        tg.nonzero_static(row, size=2, out=tg.empty(0))
    assert tg.ger(tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0])).tolist() == tg.tensor([1.0, 2.0]).ger(tg.tensor([3.0, 4.0])).tolist() == [[3, 4], [6, 8]]
    assert tg.clip_(tg.arange(4), 1, 2).tolist() == [1, 1, 2, 2] and tg.ldexp_(tg.ones(2), tg.tensor([1, 2])).tolist() == [2, 4]
    assert tg.nonzero_static(tg.tensor([[1, 0], [2, 3]]), size=4, fill_value=9).tolist() == [[0, 0], [1, 0], [1, 1], [9, 9]]
    assert tg.tensor([1, 1, 1]).nonzero_static(size=2).tolist() == [[0], [1]] and tg.nonzero_static(tg.ones(2), size=0).shape == (0, 1)
    assert tg.constant_pad_nd(tg.ones(2), (1, -1), 3.0).tolist() == [3, 1] and tg.ones(2, 2).neg().prelu(tg.tensor(0.5)).tolist() == [[-0.5] * 2] * 2
    assert tg.dropout(tg.ones(3), 0.5, False).tolist() == [1, 1, 1] and set(tg.dropout(tg.ones(99), 0.5, True).tolist()) == {0.0, 2.0}
    assert tg.embedding(tg.eye(2), tg.tensor([1])).tolist() == [[0, 1]] and tg.pixel_shuffle(tg.ones(1, 4, 1, 1), 2).shape == (1, 1, 2, 2)


def test_empty_permuted():
    assert tg.empty_permuted((2, 3, 4), (0, 2, 1)).stride() == (12, 1, 3) and tg.empty_permuted((2, 3), (1, 0), dtype=tg.int32).dtype is tg.int32
    for order, words in (((0, 0), "Duplicate dim not allowed"), ((0,), "does not match the length of the physical_layout"), ((0, 2), "got 2 at index 1"), ((-1, 0), "got -1")):
        with pytest.raises(RuntimeError, match=words):
            tg.empty_permuted((2, 3), order)


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, math.inf])
def test_pdist(p):
    x = tg.tensor([[0.0, 0.3], [3.0, 4.0], [1.0, -1.0], [0.5, 0.2]], dtype=tg.float64, requires_grad=True)
    found = tg.pdist(x, p)
    assert tg.allclose(found, tg.cdist(x, x, p)[tuple(tg.triu_indices(4, 4, 1))]) and tg.equal(found, tg.nn.functional.pdist(x, p))
    assert not p or tg.autograd.gradcheck(lambda x: tg.pdist(x, p), x)


def test_pdist_of_little():
    for shape, n in (((0, 3), 0), ((1, 3), 0), ((3, 0), 3), ((0, 0), 0)):
        x = tg.ones(*shape, requires_grad=True)
        assert tg.pdist(x).tolist() == [0] * n
        tg.pdist(x).sum().backward()
        assert x.grad.shape == shape
    same = tg.ones(2, 2, requires_grad=True)
    tg.pdist(same).sum().backward()
    assert same.grad.tolist() == [[0, 0], [0, 0]]
    for x, p, words in ((tg.ones(2), 2, "only supports 2D tensors, got: 1D"), (tg.ones(2, 2).int(), 2, "floating-point"), (tg.ones(2, 2), -1, "non-negative p")):
        with pytest.raises(RuntimeError, match=words):
            tg.pdist(x, p)


def test_refusals():
    class Wild:
        def __radd__(self, other):
            return ("wild", other)

    assert tg.Size([1]) + Wild() == ("wild", (1,)) and tg.Size([1]) + (2,) == (1, 2)
    for call, error, words in [
        (lambda: tg.Size([1]) + 3, TypeError, "can only concatenate tuple .not int. to torch.Size"), (lambda: type("X", (tg.FloatTensor,), {}), TypeError, "not an acceptable base type"),
        (lambda: tg.set_num_threads(2**65), ValueError, "Overflow"), (lambda: tg.gradient(tg.ones(3).byte()), RuntimeError, "does not support uint8"),
        (lambda: tg.zeros(()).index_add_(0, tg.tensor([0]), tg.ones(1, 1)), RuntimeError, "source tensor shape must match self tensor shape"),
        (lambda: tg.ones(2, 2).unflatten("a", (1, 2)), TypeError, r"unflatten\(\): argument 'dim' \(position 1\) must be int, not str"),
        (lambda: tg.cummax(tg.ones(3), 0, out=(tg.ones(3).short(), tg.ones(3).long())), RuntimeError, "expected scalar_type Float but found Short"),
        (lambda: tg.cummin(tg.ones(3), 0, out=(tg.ones(3), tg.ones(3))), RuntimeError, "expected scalar_type Long but found Float"),
        (lambda: tg.zeros(3).set_(tg.arange(6.0).untyped_storage(), 100, (3,)), RuntimeError, "storage size of 412 are out of bounds for storage of size 24"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            call()
    storage = tg.arange(6.0).untyped_storage()
    assert tg.zeros(3).set_(storage, 4, (2, 2)).shape == (2, 2) and storage.nbytes() == 32  # other sizes make the memory grow
