"""Owns the checks of sizes beyond all memory and beyond 64 bits: an exception of torch's kind, and nothing is written."""

from __future__ import annotations

import pytest

import tapegrad as tg

STORAGE, NUMEL, MEMORY = "Storage size calculation overflowed", "numel: integer multiplication overflow", "can't allocate memory"


def repeated(*size, dtype=tg.float32):
    """One element, expanded."""
    return tg.zeros(1, dtype=dtype).expand(*size)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: tg.empty(2**61), STORAGE),
        (lambda: tg.empty(2**60, dtype=tg.float64), STORAGE),
        (lambda: tg.zeros(2**61, dtype=tg.float64), STORAGE),
        (lambda: tg.ones(2**60), MEMORY),
        (lambda: tg.zeros(3).new_empty(2**61), STORAGE),
        (lambda: repeated(2**31, 2**31) + 1, STORAGE),
        (lambda: repeated(2**31, 2**30) + 1, STORAGE),
        (lambda: repeated(2**30, 2**31, dtype=tg.float64) * 2.0, STORAGE),
        (lambda: repeated(2**31, 1) + repeated(1, 2**31), STORAGE),
        (lambda: repeated(2**32, 1) + repeated(1, 2**32), STORAGE),
        (lambda: repeated(2**62).clone(), STORAGE),
        (lambda: repeated(2**62).contiguous(), STORAGE),
        (lambda: repeated(2**61).to(tg.float64), STORAGE),
        (lambda: repeated(2**60).to(tg.complex128), STORAGE),
        (lambda: tg.zeros_like(repeated(2**62)), STORAGE),
        (lambda: tg.empty_like(repeated(2**62)), STORAGE),
        (lambda: repeated(*[2] * 62) + 1, STORAGE),
        (lambda: tg.zeros(3).resize_(2**62), STORAGE),
        (lambda: tg.zeros(3).resize_(2**50), MEMORY),
        (lambda: tg.zeros(3).resize_(2**32, 2**32), NUMEL),
        (lambda: repeated(2**40, 2**40), NUMEL),
        (lambda: tg.zeros(3).as_strided((2**40, 2**40), (0, 0)), NUMEL),
        (lambda: tg.zeros(0, 2**40, 2**40), "Stride calculation overflowed"),
        (lambda: repeated(2**40)[tg.tensor([2**39, -(2**40)])], MEMORY),
        (lambda: tg.eye(2**32), STORAGE),
        (lambda: tg.linspace(0, 1, 2**62), STORAGE),
        (lambda: tg.zeros(1).repeat(2**62), STORAGE),
        (lambda: tg.randperm(2**61), STORAGE),
    ],
)
def test_what_cannot_be_allocated_is_refused(call, text):
    with pytest.raises(RuntimeError, match=text):
        call()


def test_an_out_tensor_that_cannot_be_resized_stays_as_it_is():
    out = tg.empty(0)
    with pytest.raises(RuntimeError, match=STORAGE):
        tg.add(repeated(2**62), 1, out=out)
    assert tuple(out.shape) == (0,)


def test_views_of_any_size_are_views():
    x = repeated(2**31, 2**31)
    assert x.numel() == 2**62 and x[5, 7].item() == 0.0
    assert x[2:4, :3].sum().item() == 0.0
    assert repeated(2**59).numel() == 2**59


def test_sizes_are_python_ints_whoever_made_the_shape_first():
    import numpy as np

    tg.zeros(2, 6143).reshape(np.int64(6143), np.int64(2))
    assert [type(size) for size in tg.zeros(6143, 2).shape] == [int, int]
