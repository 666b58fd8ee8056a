"""Owns DLPack: memory shared through capsules, dtypes that NumPy has not included."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.utils.dlpack import from_dlpack, to_dlpack

DTYPES = [tg.float32, tg.float64, tg.float16, tg.bfloat16, tg.complex32, tg.complex64, tg.int8, tg.int64, tg.uint8, tg.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", [lambda t: t, to_dlpack, lambda t: t.__dlpack__(max_version=(1, 0))])
def test_memory_is_shared(dtype, make):
    for t in (tg.arange(6).view(2, 3).to(dtype), tg.arange(6).view(2, 3).to(dtype).t(), tg.zeros(0, 3, dtype=dtype), tg.ones((), dtype=dtype)):
        back = from_dlpack(make(t))
        assert back.dtype is t.dtype and back.shape == t.shape and (back.stride() == t.stride() or not t.numel())
        back.fill_(1)
        assert t.tolist() == back.tolist()


def test_a_copy_is_not_shared():
    t = tg.zeros(2, dtype=tg.bfloat16)
    tg.from_dlpack(t, copy=True).fill_(1)
    assert t.tolist() == [0.0, 0.0]


def test_refusals():
    with pytest.raises(BufferError, match="require gradient"):
        tg.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(AssertionError, match="stream should be None on cpu"):
        tg.ones(2).__dlpack__(stream=1)
    capsule = to_dlpack(tg.ones(2))
    from_dlpack(capsule)
    for given in (capsule, 3):
        with pytest.raises(RuntimeError, match="invalid capsule"):
            from_dlpack(given)


def test_numpy_reads_and_is_read():
    t = tg.ones(3)
    np.from_dlpack(t)[0] = 5
    assert t.tolist() == [5.0, 1.0, 1.0] and tg.from_dlpack(np.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("name", ["bfloat16", "complex32", "float16", "complex128"])
def test_torch_reads_and_is_read(name):
    torch = pytest.importorskip("torch")
    ours, theirs = tg.ones(2, 2, dtype=getattr(tg, name)), torch.ones(2, 2, dtype=getattr(torch, name))
    read = torch.from_dlpack(ours)
    assert read.dtype is theirs.dtype and bool((read.to(torch.complex64) == 1).all())
    assert tg.from_dlpack(theirs).dtype is ours.dtype and tg.from_dlpack(theirs).tolist() == ours.tolist()


def test_membership():
    t = tg.arange(3)
    assert 2 in t and 5 not in t and tg.tensor(1) in t
    for element in ("a", None, [1]):
        with pytest.raises(RuntimeError, match="Tensor.__contains__ only supports Tensor or scalar, but you passed in a"):
            t.__contains__(element)


def test_sizes():
    size = tg.Size([2, 3])
    assert type((1,) + size) is tg.Size and (1,) + size == (1, 2, 3) and tg.Size([tg.tensor(2), np.int64(3), True]) == (2, 3, 1)
    for sizes, name in (((1.5,), "float"), ("ab", "str"), ([None], "NoneType")):
        with pytest.raises(TypeError, match=rf"Size\(\) takes an iterable of 'int' \(item 0 is '{name}'\)"):
            tg.Size(sizes)
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        size + [1]


def test_truth_values_have_no_gradient():
    x = tg.ones(2, requires_grad=True)
    assert not x.bool().requires_grad and not x.to(tg.bool).requires_grad and not x.sum().bool().requires_grad
