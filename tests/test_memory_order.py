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
