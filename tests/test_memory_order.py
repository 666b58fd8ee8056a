"""The memory order of results: by element that of the input, row-major where torch makes a copy first; strides are torch's."""

from __future__ import annotations

import pytest

import tapegrad as tg


def turned():
    """(2, 4, 3) elements whose last two dims lie the other way round."""
    return tg.arange(24.0).reshape(2, 3, 4).mT


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.sort(1), lambda x: x.sort(-1, descending=True), lambda x: x.frexp(), lambda x: x.index_fill(0, tg.tensor([1]), 3.0), lambda x: x.nan_to_num(),
        lambda x: tg.isclose(x, x), lambda x: tg.isclose(x.long(), x.long()), lambda x: x.argsort(), lambda x: x.requires_grad_().sort(0),
    ],
)  # fmt: skip
def test_kept_by_what_works_element_by_element(call):
    for _ in range(3):
        x = turned()
        results, straight = call(x), call(x.detach().contiguous())
        for r, s in zip(*((v if isinstance(v, tuple) else (v,)) for v in (results, straight)), strict=True):
            assert r.stride() == (12, 1, 4) and r.tolist() == s.tolist()


def test_masked_fill_is_row_major():
    x, wide = turned(), tg.arange(8.0).reshape(2, 1, 4).expand(2, 3, 4)
    for _ in range(3):
        assert x.masked_fill(x > 3, 5.0).stride() == (12, 3, 1)
        assert tg.zeros(2, 4, 3).masked_fill(x > 3, 5.0).stride() == (12, 3, 1)
        filled = wide.masked_fill(tg.arange(24.0).reshape(2, 3, 4) > 3, 1.0)
        assert filled.stride() == (12, 4, 1) and filled.sum() == 26
        y = turned().requires_grad_()
        y.masked_fill(y > 3, tg.tensor(2.0)).sum().backward()
        assert y.grad.sum() == 4


def test_masked_fill_names_its_nodes():
    for x in (turned(), tg.ones(2, 4, 3)):
        x.requires_grad_()
        assert x.masked_fill(x > 3, 2.0).grad_fn.name() == "MaskedFillBackward0"
        assert x.masked_fill(x > 3, tg.tensor(2.0)).grad_fn.name() == "MaskedFillBackward1"


def test_sorted_gradients_of_turned_tensors():
    x = tg.tensor([[3.0, 1.0, 2.0], [6.0, 5.0, 4.0]]).t().requires_grad_()
    (x.sort(0).values * tg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum().backward()
    assert x.grad.tolist() == [[5.0, 6.0], [1.0, 4.0], [3.0, 2.0]]


def test_of_what_index_tensors_pick():
    """The dims in the order of the tensor's memory, then of the indices'."""
    for _ in range(3):
        x = tg.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)
        assert x[tg.tensor([0, 2])].stride() == (6, 3, 1) and x[:, tg.tensor([1])].stride() == (1, 4, 4)
        assert x[..., tg.tensor([2, 0])].stride() == (2, 8, 1) and x[tg.tensor([0]), :, tg.tensor([1])].stride() == (2, 1)
        assert x.contiguous()[tg.tensor([[0, 1], [2, 3]]).t()].stride() == (6, 12, 3, 1)
        assert x[tg.tensor([2])].tolist() == [[[2.0, 6.0, 10.0], [14.0, 18.0, 22.0]]]
    y = tg.arange(6.0).reshape(2, 3).t().requires_grad_()
    (y[tg.tensor([0, 2, 2])] * tg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum().backward()
    assert y.grad.tolist() == [[1.0, 2.0], [0.0, 0.0], [8.0, 10.0]]


def test_of_dims_without_a_say():
    """Dims of one element and empty tensors may have any strides; results get the plain ones."""
    for _ in range(3):
        x = tg.arange(12.0).reshape(3, 4)
        thin = x.as_strided((1, 4), (7, 1))
        assert (thin * thin).stride() == (4, 1) == (-thin).stride() and (thin + 1).tolist() == [[1.0, 2.0, 3.0, 4.0]]
        none = tg.ones(2, 3, 0, 5).permute(2, 0, 1, 3)
        assert none.exp().stride() == (none * none).stride() == (30, 15, 5, 1)
        assert thin.clone().requires_grad_().mul(2).sum().backward() is None


@pytest.mark.parametrize(
    "call",
    [
        lambda x: tg.select_scatter(x, x.select(0, 0) + 1, 0, 0), lambda x: tg.slice_scatter(x, x[:1] + 1, 0, 0, 1),
        lambda x: tg.diagonal_scatter(x, x.diagonal() + 1), lambda x: tg.as_strided_scatter(x, x + 1, x.shape, x.stride(), x.storage_offset()),
    ],
)  # fmt: skip
def test_scattered_views_keep_their_place_in_memory(call):
    whole = tg.arange(60.0).reshape(3, 4, 5)
    for x in (whole, whole[1:], whole[:, ::2], whole.mT, whole[1:].mT):
        result, straight = call(x), call(x.contiguous())
        assert (result.stride(), result.storage_offset()) == (x.stride(), x.storage_offset()) and not result._is_view()
        assert result.tolist() == straight.tolist()
    assert whole.tolist() == tg.arange(60.0).reshape(3, 4, 5).tolist()


def test_memory_seen_as_another_dtype():
    x = tg.arange(24.0).reshape(2, 3, 4)
    a, b, c = x[1].view(tg.uint8), x[:, 1:2, 2:].view(tg.float64), x[1].mT.view(tg.int32)
    assert (tuple(a.shape), a.stride(), a.storage_offset()) == ((3, 16), (16, 1), 48)
    assert (tuple(b.shape), b.stride(), b.storage_offset()) == ((2, 1, 1), (6, 2, 1), 3)
    assert (c.stride(), c.storage_offset()) == ((1, 4), 12)
    c.zero_()
    assert x[1].sum() == 0 and x._version == 1
    for wrong, d, words in (
        (x[:, :, ::2], tg.float64, r"self.stride\(-1\) must be 1 to view Float as Double \(different element sizes\), but got 2"),
        (x[0, 0, 1:3], tg.float64, r"self.storage_offset\(\) must be divisible by 2 to view Float as Double \(different element sizes\), but got 1"),
        (x[0, :, :3], tg.float64, r"self.size\(-1\) must be divisible by 2 to view Float as Double \(different element sizes\), but got 3"),
        (x.as_strided((2, 2), (3, 1)), tg.float64, r"self.stride\(0\) must be divisible by 2 to view Float as Double \(different element sizes\), but got 3"),
        (x.mT, tg.uint8, r"self.stride\(-1\) must be 1 to view Float as Byte \(different element sizes\), but got 4"),
        (x[0, 0, 0], tg.uint8, r"self.dim\(\) cannot be 0 to view Float as Byte \(different element sizes\)"),
    ):
        with pytest.raises(RuntimeError, match=words):
            wrong.view(d)


def test_results_that_are_no_views():
    """Writing to what was shuffled does not write to the input, even where nothing has moved."""
    F = tg.nn.functional
    x = tg.arange(6.0).reshape(1, 1, 2, 3)
    for shuffle in (F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle):
        shuffle(x, 1).add_(1)
    assert x.tolist() == [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]] and not tg.kron(x, x)._is_view()


# --- views of what is turned in place ---------------------------------------------------------------------------------
def start():
    leaf = tg.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]], requires_grad=True)
    return leaf, leaf * 1


def turned_view():
    leaf, a = start()
    v = a.T
    w = v.unsqueeze(0)
    v.swapdims_(0, 1)
    return leaf, (w * tg.arange(6.0).reshape(1, 3, 2)).sum() + (v * tg.arange(6.0).reshape(2, 3)).sum(), [[0.0, 3.0, 6.0], [4.0, 7.0, 10.0]]


def expanded_before():
    leaf, a = start()
    wide = a.expand(2, -1, -1)
    a.t_()
    return leaf, (wide * tg.arange(12.0).reshape(2, 2, 3)).sum() + (a * a).sum(), [[8.0, 4.0, 16.0], [13.0, 22.0, 13.0]]


def flattened_before():
    leaf, a = start()
    flat = a.flatten()
    a.t_()
    return leaf, (flat * tg.arange(6.0)).sum() + (a * a).sum(), [[2.0, -3.0, 8.0], [4.0, 12.0, 2.0]]


def windows_of_what_is_cut():
    leaf, a = start()
    windows = a.unfold(1, 2, 1)
    a.as_strided_((2,), (1,))
    return leaf, windows.sum() + a.sum(), [[2.0, 3.0, 0.0], [0.0, 0.0, 0.0]]


def written_after():
    leaf, a = start()
    row = a[0]
    a.t_()
    row.mul_(2)
    assert row.tolist() == [2.0, -4.0, 6.0] and a.tolist() == [[2.0, 0.5], [-4.0, 4.0], [6.0, -1.5]]
    return leaf, a.sum() + row.sum(), [[4.0, 4.0, 4.0], [1.0, 1.0, 1.0]]


def negatives():
    leaf, a = start()
    v = tg._neg_view(a)
    a.t_()
    return leaf, (v * tg.arange(6.0).reshape(2, 3)).sum(), [[0.0, -1.0, -2.0], [-3.0, -4.0, -5.0]]


@pytest.mark.parametrize("program", [turned_view, expanded_before, flattened_before, windows_of_what_is_cut, written_after, negatives])
def test_views_look_where_they_did(program):
    """What was a view before its base was turned in place still shows the same memory, and its gradient goes there; as in torch."""
    for _ in range(3):
        leaf, loss, expected = program()
        loss.backward()
        assert leaf.grad.tolist() == expected


def test_repeated_elements_may_be_turned_in_place():
    x = tg.ones(2, 3)
    assert x.expand(4, 2, 3).unsqueeze_(0).shape == (1, 4, 2, 3) and tuple(x[:, :1].expand(2, 3).t_().shape) == (3, 2)


def test_converted_elements_stay_where_they_lie():
    thin = tg.zeros(2, 16)[::2]
    for _ in range(3):
        assert thin.to(tg.float16).stride() == thin.double().stride() == thin.clone().stride() == (32, 1) and thin.abs().stride() == (16, 1)


# --- out= -------------------------------------------------------------------------------------------------------------
SHARED = "some elements of the input tensor and the written-to tensor refer to a single memory location"


@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: tg.index_select(x, 0, i[0], out=x), lambda x, i: tg.gather(x, 0, i, out=x), lambda x, i: tg.take(x, i, out=x),
        lambda x, i: tg.masked_select(x, x > 0, out=x), lambda x, i: tg.cat([x], out=x), lambda x, i: tg.scatter_add(x, 0, i, x, out=x),
        lambda x, i: tg.index_add(x, 0, i[0], x, out=x), lambda x, i: tg.index_copy(x, 0, i[0], x, out=x), lambda x, i: tg.take_along_dim(x, i, 0, out=x),
        lambda x, i: tg.gather(x.t(), 0, i, out=x), lambda x, i: tg.sort(x.t(), 0, out=(x, tg.empty(0, dtype=tg.int64))),
    ],
)  # fmt: skip
def test_what_picks_elements_is_not_stored_in_its_operand(call):
    for _ in range(3):
        x = tg.tensor([[3.0, 1.0], [2.0, 4.0]])
        with pytest.raises(RuntimeError, match=SHARED):
            call(x, tg.tensor([[0, 1], [1, 0]]))
        assert x.tolist() == [[3.0, 1.0], [2.0, 4.0]]
    tg.sort(x, 0, out=(x, tg.empty(0, dtype=tg.int64)))
    assert x.tolist() == [[2.0, 1.0], [3.0, 4.0]]


def test_reshaped_views_of_what_is_not_contiguous():
    for _ in range(3):
        x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        column = (x * 1)[:, :1].reshape(2)
        assert column.grad_fn.name() == column.unsqueeze(0).flatten().grad_fn.next_functions[0][0].next_functions[0][0].name() == "ReshapeAliasBackward0"
        (column * tg.tensor([5.0, 6.0])).sum().backward()
        assert x.grad.tolist() == [[5.0, 0.0], [6.0, 0.0]] and column._is_view()


def test_numbers_have_no_dims_to_embed_or_split():
    x = tg.tensor(3.0)
    for call, error, words in (
        (lambda: x.diag_embed(), IndexError, r"expected to be in range of \[-1, 0\], but got -2"),
        (lambda: x.unflatten(0, (1, -1)), RuntimeError, "unflatten got an unexpected error:\nDimension specified as 0 but tensor has no dimensions"),
        (lambda: tg.unique(x, dim=0), IndexError, "Dimension specified as 0 but tensor has no dimensions"),
        (lambda: tg.unique_consecutive(x, dim=-1), IndexError, "Dimension specified as -1 but tensor has no dimensions"),
    ):
        with pytest.raises(error, match=words):
            call()
