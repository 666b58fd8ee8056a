"""Owns what indices, writes at indices and views of parts share with PyTorch down to the errors: found by comparing many expressions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tapegrad as tg


def base():
    return tg.arange(24).view(2, 3, 4)


MISMATCH = [  # index, shape of the values, shape of the result
    (tg.tensor([0, 1]), (4, 3), [2, 3, 4]), (tg.tensor([True, False]), (5,), [1, 3, 4]), (tg.tensor(False), (4, 3), [0, 2, 3, 4]), ([], (0,), [0, 3, 4]),
    ((0, tg.tensor([0, 1])), (3, 4), [2, 4]), (tg.ones(2, 3, 4, dtype=tg.bool), (4,), [24]), ((slice(None), tg.tensor([0, 1])), (3, 4), [2, 2, 4]),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(MISMATCH)))
def test_shapes_are_refused_before_dtypes(k):
    index, shape, result = MISMATCH[k]
    x = base().clone()
    text = rf"shape mismatch: value tensor of shape \{list(shape)} cannot be broadcast to indexing result of shape \{result}".replace("]", r"\]")
    with pytest.raises(RuntimeError, match=text):
        x[index] = tg.ones(shape)  # of another dtype too
    assert tg.equal(x, base())
    with pytest.raises(RuntimeError, match="Index put requires the source and destination dtypes match, got Long for the destination and Float"):
        x[tg.tensor([0, 1])] = tg.ones(3, 4)


def test_values_are_refused_before_places():
    with pytest.raises(RuntimeError, match="shape mismatch: value tensor of shape"):
        base().index_put((tg.tensor([3]),), tg.ones(5, dtype=tg.int64))


def test_a_truth_value_is_all_or_nothing():
    x = base().clone()
    x[True] = tg.tensor([1.0, 2, 3, 4])  # copied, and so converted
    assert x[1, 2].tolist() == [1, 2, 3, 4]
    x[False] = tg.ones(7)
    assert x[1, 2].tolist() == [1, 2, 3, 4]
    with pytest.raises(RuntimeError, match=r"The expanded size of the tensor \(4\) must match the existing size \(2\) at non-singleton dimension 3"):
        x[True] = tg.tensor([1, 2])


def test_one_value_at_a_mask_may_be_of_another_dtype():
    x = base().clone()
    assert x.index_put((tg.tensor([True, False]),), tg.tensor(7.0))[0].tolist() == [[7] * 4] * 3
    assert x.index_put((tg.tensor(True),), tg.tensor(7)).tolist() == [[[7] * 4] * 3] * 2 and x.index_put((tg.tensor(False),), tg.tensor(7)).equal(x)


def test_indices():
    x = base()
    assert x[np.array(1)].storage_offset() == 12 and x[np.array(1)]._base is not None
    with pytest.raises(ValueError, match="Overflow when unpacking long long"):
        x[2**63]
    with pytest.raises(IndexError, match=r"The shape of the mask \[2\] at index 0 does not match the shape of the indexed tensor \[3, 4\] at index 0"):
        x[0, tg.tensor([True, False])]
    with pytest.raises(IndexError, match=r"The shape of the mask \[2\] at index 0 does not match the shape of the indexed tensor \[1, 3, 4\] at index 1"):
        x[1:, tg.tensor([True, False])]
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):  # of the indexed dims, the first
        x[:, tg.tensor([0, 3])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert x[tg.tensor(1, dtype=tg.uint8)].shape == (1, 2, 3, 4)


def test_empty_views_lie_where_they_begin():
    x = base()
    assert [v.storage_offset() for v in (x[5:1], x.narrow(0, 2, 0), x[:, 3:], x[..., 2:2])] == [24, 24, 12, 2]
    assert [v.storage_offset() for v in x.tensor_split(5, 1)] == [0, 4, 8, 12, 12]
    for start in (tg.tensor([1]), tg.tensor(1.0)):
        with pytest.raises(RuntimeError, match="start must be an 0-dim integral Tensor."):
            x.narrow(0, start, 1)


def test_only_repeated_dims_are_refused():
    x = tg.arange(6.0)
    overlapping = x.as_strided((2, 2), (1, 1))
    overlapping.copy_(tg.ones(2, 2))
    assert x.tolist() == [1, 1, 1, 3, 4, 5]
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"):
        tg.zeros(1, 3).expand(2, 3).add_(1)


@pytest.mark.parametrize("name", ["masked_fill_", "index_fill_"])
def test_fills_of_repeated_dims_warn_once(name):
    x = tg.zeros(1, 3)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if name == "masked_fill_":
            x.expand(2, 3).masked_fill_(tg.tensor([[True, False, True], [False, False, True]]), 1)
        else:
            x.expand(2, 3).index_fill_(0, tg.tensor([1]), 1).index_fill_(1, tg.tensor([1]), 0)
    assert x.tolist() == [[1, 0, 1]] and {str(w.message).split()[2] for w in found} == {name}


def test_products_in_place():
    one = lambda *shape: tg.ones(*shape)  # noqa: E731
    assert one(2, 2).addmm_(one(2, 3), one(3, 2), beta=2, alpha=3).tolist() == [[11, 11], [11, 11]]
    assert one(2).addmv_(one(2, 3), one(3)).tolist() == [4, 4] == tg.addmv_(one(2), one(2, 3), one(3)).tolist()
    assert one(2, 3).addr_(one(2), one(3), alpha=2, beta=0).tolist() == [[2] * 3] * 2 and tg.ger(one(2), one(3)).tolist() == [[1] * 3] * 2
    assert one(2, 3).addbmm_(one(2, 2, 2), one(2, 2, 3))[0, 0] == 5 and one(2, 2, 3).baddbmm_(one(2, 2, 2), one(2, 2, 3))[0, 0, 0] == 3
    a = one(2, 3).requires_grad_()
    (one(2, 2) * 2).addmm_(a, one(3, 2), alpha=3).sum().backward()
    assert a.grad.tolist() == [[6] * 3] * 2
    with pytest.raises(RuntimeError):
        one(2).addmm_(one(2, 3), one(3, 2))


def test_small_ones():
    assert tg.empty_permuted((2, 3, 4), (0, 2, 1)).stride() == (12, 1, 3)
    with pytest.raises(RuntimeError, match="Duplicate dim not allowed"):
        tg.empty_permuted((2, 3), (0, 0))
    assert base().narrow_copy(1, 1, 2).tolist() == base()[:, 1:].tolist() and tg.view_as_real_copy(tg.tensor([1 + 2j])).tolist() == [[1, 2]]
    with pytest.raises(RuntimeError, match="Boolean alpha only supported for Boolean results"):
        tg.add(1, 1, alpha=True)
    with pytest.raises(RuntimeError, match=r"Attempting to broadcast a dimension of length 3 at -1! Mismatching argument at index 1 had \(3,\)"):
        tg.broadcast_shapes((2,), (3,))
    with pytest.raises(RuntimeError, match="unflatten: sizes must be non-empty"):
        base().unflatten(2, ())
    found = base().nonzero(as_tuple=True)
    assert [t.storage_offset() for t in found] == [0, 23, 46] and not found[0].requires_grad
    assert tg.asarray(tg.utils.dlpack.to_dlpack(tg.ones(2))).tolist() == [1, 1]


def test_the_first_index_out_of_range_is_named():
    x, ones = tg.arange(12.0).reshape(3, 4), tg.ones(3)
    for index, bad in ((tg.tensor([1, 9, -7]), 9), (tg.tensor([1, -7, 9]), -7)):
        for call in (lambda: x[index], lambda: x.index_copy(0, index, x), lambda: x.index_fill(0, index, 1.0)):
            with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension 0 with size 3"):
                call()
        for call in (lambda: x[0].take(index), lambda: x[0].clone().put_(index, ones)):
            with pytest.raises(IndexError, match=f"tried to access index {bad} on a tensor of 4 elements"):
                call()
        with pytest.raises(IndexError, match="index out of range in self"):
            x.index_reduce(0, index, x, "prod")
    assert tg.take_along_dim(x, tg.tensor([[0, -9, 9, 4]]), 1)[1].tolist() == [4, 7, 5, 4]
