"""Indexing, gather and scatter, masks: what torch's own tests ask for beyond the table of ops."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

OVERLAP = "unsupported operation"


# --- x[...] ---------------------------------------------------------------------------------------------------------
def test_whole_indices_are_views():
    x = tg.arange(6.0).view(2, 3)
    y = x * tg.ones((), requires_grad=True)
    for index in (..., (), (slice(None), slice(None))):
        assert x[index] is not x and x[index]._base is x._base and y[index].grad_fn.name() == "AliasBackward0"
    x[...][0, 0] = 9
    assert x[0, 0] == 9


def test_bytes_as_masks_warn():
    x, mask = tg.zeros(3), tg.tensor([1, 0, 1], dtype=tg.uint8)
    with pytest.warns(UserWarning, match="torch.uint8 is now deprecated"):
        assert x[mask].shape == (2,)
    with pytest.warns(UserWarning, match="torch.uint8 is now deprecated"):
        x.index_put_((mask,), tg.ones(2))
    assert x.tolist() == [1, 0, 1]


def test_refused_indices():
    x = tg.zeros(3, 2)
    for index, error, words in [
        (slice(0, 2, 0), ValueError, "slice step cannot be zero"), (slice(None, None, -1), ValueError, "step must be greater than zero"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            x[index]
    with pytest.raises(IndexError, match="index is out of bounds for dimension with size 0"):
        tg.empty(10, 0)[:, [0, 1]]
    with pytest.raises(TypeError, match="does not support deleting items"):
        del x[0]
    with pytest.raises(RuntimeError, match="value tensor of shape .1. cannot be broadcast to indexing result of shape"):
        tg.zeros(()).index_put([], tg.ones(1), True)
    with pytest.raises(TypeError, match="must be tuple of Tensors, not Tensor"):
        x.index_put_(tg.tensor([0]), tg.ones(2))
    with pytest.raises(IndexError, match="tried to take from an empty tensor"):
        tg.zeros(0).take(tg.tensor([0]))


# --- memory ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("write", [
    lambda x, i: x.index_add_(0, i, x[:3]), lambda x, i: x.index_copy_(0, i, x[:3]), lambda x, i: x.put_(i, x[:3]),
    lambda x, i: x.scatter_(0, i, x[:3]), lambda x, i: x.index_put_((i,), x[:3]),
    lambda x, i: i.index_add_(0, i, i.clone()), lambda x, i: i.index_copy_(0, i.clone(), i), lambda x, i: i.put_(i, i),
    lambda x, i: i.index_put_((i,), i.clone()), lambda x, i: i.index_fill_(0, i, 0), lambda x, i: x[:3].addcmul_(x[1:4], x[:3]),
])  # fmt: skip
def test_operands_in_the_memory_that_is_written(write):
    x, index = tg.arange(6.0), tg.tensor([2, 1, 0])
    with pytest.raises(RuntimeError, match=OVERLAP):
        write(x, index)
    assert x.tolist() == [0, 1, 2, 3, 4, 5] and index.tolist() == [2, 1, 0]


def test_in_place_results_keep_the_shape():
    x = tg.zeros(2, 3)
    for write in (lambda: x.masked_fill_(tg.ones(4, 2, 3) > 0, 1), lambda: x.masked_scatter_(tg.ones(4, 2, 3) > 0, tg.ones(24))):
        with pytest.raises(RuntimeError, match="output with shape .2, 3. doesn't match the broadcast shape .4, 2, 3."):
            write()
    assert x.sum() == 0


# --- scatter and gather ---------------------------------------------------------------------------------------------
def test_scatter_reduces():
    index = tg.tensor([[0, 1, 2, 0], [0, 0, 0, 0]])
    x = tg.full((3, 4), 2.0)
    assert x.scatter(0, index, 3.0, reduce="multiply").tolist() == [[18, 6, 6, 18], [2, 6, 2, 2], [2, 2, 6, 2]]
    assert x.clone().scatter_(0, index, 3.0, reduce="add").tolist() == [[8, 5, 5, 8], [2, 5, 2, 2], [2, 2, 5, 2]]
    with pytest.raises(RuntimeError, match="reduce argument must be either add or multiply"):
        x.scatter(0, index, 3.0, reduce="mean")


@pytest.mark.parametrize("add, expected", [
    (lambda x, i, s: x.scatter_add(0, i, s), 10.0), (lambda x, i, s: x.index_add(0, i, s), 10.078125),
    (lambda x, i, s: x.index_put((i,), s, accumulate=True), 10.078125),
])  # fmt: skip
def test_half_precision_sums_round_where_torch_rounds(add, expected):
    result = add(tg.zeros(2).half(), tg.zeros(100, dtype=tg.int64), tg.full((100,), 0.1).half())
    assert result.tolist() == [expected, 0]


def test_errors_of_writes_by_index():
    x = tg.zeros(3, 2)
    for call, error, words in [
        (lambda: x.index_copy(0, tg.tensor([0, 5]), tg.ones(2, 2)), IndexError, r"index_copy_\(\): index 5 is out of bounds"),
        (lambda: x.index_fill(0, tg.tensor([[0]]), 1), RuntimeError, "Index has to be a vector/scalar"),
        (lambda: x.index_fill(0, tg.tensor([0]), 1j), RuntimeError, "Converting complex Scalar"),
        (lambda: x.index_add(0, tg.tensor([0]), tg.ones(1, 2), alpha=1j), RuntimeError, "value cannot be converted to type float without overflow"),
        (lambda: x.index_reduce(0, tg.tensor([0]), tg.ones(1, 2).int(), "prod"), RuntimeError, "must have the same scalar type"),
        (lambda: x.index_select(1, tg.tensor([2])), RuntimeError, "INDICES element is out of DATA bounds, id=2 axis_dim=2"),
    ]:
        with pytest.raises(error, match=words):
            call()


# --- masks ----------------------------------------------------------------------------------------------------------
def test_nonzero():
    x = tg.tensor([[1, 0], [2, 3]])
    assert x.nonzero().tolist() == [[0, 0], [1, 0], [1, 1]] and x.nonzero().stride() == (1, 3)
    with pytest.raises(RuntimeError, match="does not support the out kwarg when as_tuple is True"):
        tg.nonzero(x, as_tuple=True, out=tg.empty(0, dtype=tg.int64))
    with pytest.raises(RuntimeError, match="Expected out tensor to have scalar type Long"):
        tg.nonzero(x, out=tg.empty(0))


def test_clip_is_clamp():
    x = tg.arange(4.0)
    assert x.clip(1, 2).tolist() == [1, 1, 2, 2] == x.clone().clip_(1, 2).tolist() and tg.clip(x, max=1).tolist() == [0, 1, 1, 1]


def test_fill_diagonal():
    assert tg.zeros(5, 2).fill_diagonal_(1, wrap=True).tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert tg.zeros(2, 2, 2).fill_diagonal_(3).tolist() == [[[3, 0], [0, 0]], [[0, 0], [0, 3]]]
    x = tg.ones(2, 3, requires_grad=True)
    y = x * 2
    y.fill_diagonal_(0).sum().backward()
    assert x.grad.tolist() == [[0, 2, 2], [2, 0, 2]]
    for wrong, words in ((tg.zeros(3), "must larger than 1"), (tg.zeros(3, 3, 2), "equal length")):
        with pytest.raises(RuntimeError, match=words):
            wrong.fill_diagonal_(1)


def test_python_functions_of_elements():
    x, y = tg.arange(3.0), tg.ones(3)
    assert x.apply_(lambda a: 2 * a).tolist() == [0, 2, 4] and x.map_(y, lambda a, b: a + b).tolist() == [1, 3, 5]
    assert x.map2_(y, y, lambda a, b, c: a - b - c).tolist() == [-1, 1, 3]
    with pytest.raises(RuntimeError, match=r"Can't call apply_\(\) on Variable that requires grad"):
        tg.ones(2, requires_grad=True).apply_(abs)


def test_questions():
    x = tg.ones(2)
    assert x.is_same_size(tg.zeros(2)) and not tg.is_same_size(x, tg.ones(1)) and tg.ones(1).is_nonzero() and not x.is_pinned()
    assert x.new([1, 2]).tolist() == [1, 2] and x.new(2, 3).shape == (2, 3)


def test_lists_of_numbers_are_read_anew():
    x = tg.arange(4.0)
    for _ in range(2):
        assert x[[0, 2]].tolist() == [0, 2] and x[[True, False, True, False]].tolist() == [0, 2] and x[[1, 0]].tolist() == [1, 0]
    y = x.requires_grad_()[[0, 2]]
    y.grad_fn._saved_indices[0].fill_(3)
    assert x[[0, 2]].tolist() == [0, 2]
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 4"):
        x[[0, 5]]


def test_unravel_index():
    assert [t.tolist() for t in tg.unravel_index(tg.tensor([1, 5, 100]), (2, 3))] == [[0, 1, 1], [1, 2, 1]]
    for indices, shape, error, words in [
        (tg.tensor(0.5), (2, 2), TypeError, "expected 'indices' to be integer"), (tg.tensor(0), 1.5, TypeError, "expected 'shape' to be int or sequence"),
        (tg.tensor(0), (2, 0.5), TypeError, "only contain ints"), (tg.tensor(0), (2, -3), ValueError, "cannot have negative values"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            tg.unravel_index(indices, shape)


def test_contains():
    x = tg.arange(3)
    assert 1 in x and 5 not in x and tg.tensor(2) in x
    for wrong in ("foo", [1, 2]):
        with pytest.raises(RuntimeError, match="only supports Tensor or scalar"):
            wrong in x  # noqa: B015


@pytest.mark.parametrize("offset", [0, 2, -1])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 0), (0, 2)])
def test_diag_embed(offset, shape):
    values = np.arange(np.prod(shape), dtype=float).reshape(shape) + 1
    expected = np.zeros((*shape, 0)) if 0 in shape else np.array([np.diag(v, offset) for v in values.reshape(-1, shape[-1])])
    n = shape[-1] + abs(offset)
    for dtype in (tg.float64, tg.float32, tg.int16, tg.bool, tg.complex128):
        x = tg.tensor(values).to(dtype)
        assert x.diag_embed(offset).shape == (*shape[:-1], n, n)
        if 0 not in shape:
            assert x.diag_embed(offset).to(tg.float64 if not x.is_complex() else dtype).tolist() == (expected != 0 if dtype is tg.bool else expected).reshape(*shape[:-1], n, n).tolist()
    x = tg.tensor(values, requires_grad=True)
    y = (x * 1).diag_embed(offset)
    (y * y).sum().backward()
    assert x.grad.tolist() == (2 * values).tolist() and tg.autograd.gradcheck(lambda t: t.diag_embed(offset), [x])


def test_size_is_made_of_ints():
    assert tg.Size([2, tg.tensor(3)]) == (2, 3) and isinstance(tg.Size([1, 2])[:1], tg.Size)
    for wrong in (tg.ones(3), [1.5], ["a"]):
        with pytest.raises(TypeError, match="takes an iterable of 'int'"):
            tg.Size(wrong)
    with pytest.raises(TypeError, match=r"can only concatenate tuple \(not list\) to torch.Size"):
        tg.Size([1]) + [2]


@pytest.mark.filterwarnings("ignore:Use of index_put_")
def test_expanded_targets_take_one_value_and_indexed_writes():
    """As in PyTorch: whatever writes the same to every place of an element is allowed, with a warning if it goes by index."""
    x = tg.zeros(2, 1).expand(2, 3)
    assert x.fill_(2).tolist() == [[2.0] * 3] * 2 and x.zero_().tolist() == [[0.0] * 3] * 2
    with pytest.warns(UserWarning, match="Use of masked_fill_ on expanded tensors is deprecated"):
        x.masked_fill_(tg.tensor([True, False, False]), 3)
    assert x.tolist() == [[3.0] * 3] * 2
    with pytest.warns(UserWarning, match="Use of index_fill_ on expanded"):
        x.index_fill_(1, tg.tensor([1]), 4.0)
    assert x.tolist() == [[4.0] * 3] * 2
    with pytest.warns(UserWarning, match="Use of index_put_ on expanded"):
        x[tg.tensor([0])] = 5.0
    assert x.tolist() == [[5.0] * 3, [4.0] * 3]
    for write in (lambda: x.add_(1), lambda: x.copy_(tg.ones(2, 3)), lambda: x.__setitem__(slice(None), 7.0)):
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            write()
    assert x.tolist() == [[5.0] * 3, [4.0] * 3]


def test_floats_in_a_list_are_cut_to_integers():
    """torch's rule for lists, unlike that for tensors."""
    x = tg.arange(6)
    assert x[[0, 1.7]].tolist() == [0, 1] and x[[True, 1]].tolist() == [1, 1] and x[np.array([0.5])].tolist() == [0]
    x[[0, 1.7]] = 9
    assert x.tolist() == [9, 9, 2, 3, 4, 5]
    with pytest.raises(IndexError, match="tensors used as indices must be long, int, byte or bool tensors"):
        x[tg.tensor([0.5])]


def test_what_is_broadcast_may_be_a_part_of_what_it_is_assigned_to():
    index = [(1, lambda x: x[1, 1]), (slice(None), lambda x: x[1]), (slice(None), lambda x: x[2:3]), (True, lambda x: x[0]),
             ((slice(1, 3), slice(1, 3)), lambda x: x[2, 1:3]), ((..., slice(None, None, 2)), lambda x: x[1, 0])]  # fmt: skip
    for place, part in index:
        for source in (lambda x, part=part: part(x).clone(), part, part, part):  # the first teaches compiled code
            x, expected = tg.arange(12.0).view(3, 4), np.arange(12.0).reshape(3, 4)
            expected[place] = np.array(part(x).tolist())
            x[place] = source(x)
            assert x.tolist() == expected.tolist()
    for _ in range(3):
        x = tg.arange(12.0).view(3, 4)
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            x[0:2] = x[1:3]
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            x[1].copy_(x[1, 2])


def test_gradients_of_a_part_that_is_spread_over_what_it_came_from():
    for _ in range(3):
        start = tg.arange(6.0).view(2, 3).requires_grad_()
        x = start * 1
        x[1] = x[1, 0]
        x[:, 1] = x[0, 0]
        (x * tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).sum().backward()
        assert x.tolist() == [[0.0, 0.0, 2.0], [3.0, 0.0, 3.0]]
        assert start.grad.tolist() == [[8.0, 0.0, 3.0], [10.0, 0.0, 0.0]]
