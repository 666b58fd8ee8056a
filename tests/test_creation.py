"""Making tensors: what `asarray`, `frombuffer` and `tensor` take, `out=` of factories, sequences of numbers, windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tapegrad as tg


# --- from other objects ---------------------------------------------------------------------------------------------
def test_asarray_shares_what_can_be_shared():
    array, bytes_, t = np.zeros(2), bytearray([1, 2]), tg.ones(2)
    shared, copied = tg.asarray(array), tg.asarray(array, copy=True)
    array[0] = bytes_[0] = 7
    assert shared.tolist() == [7, 0] and copied.tolist() == [0, 0] and tg.asarray(bytes_, dtype=tg.uint8).tolist() == [7, 2]
    assert tg.asarray(t) is t and tg.asarray(t, copy=True) is not t and tg.asarray([1, 2], dtype=tg.float64).dtype is tg.float64
    for wrong in (lambda: tg.asarray([1, 2], copy=False), lambda: tg.asarray(t, dtype=tg.float64, copy=False)):
        with pytest.raises(ValueError, match="can't alias"):
            wrong()
    with pytest.raises(RuntimeError, match="can't alias NumPy scalars"):
        tg.asarray(np.float32(1), copy=False)


def test_asarray_and_the_graph():
    y = tg.ones(2, requires_grad=True) * 2
    assert tg.asarray(y, requires_grad=True) is y and not tg.asarray(y, requires_grad=False).requires_grad
    assert tg.asarray([1.0], requires_grad=True).is_leaf
    with pytest.warns(UserWarning, match="unspecified requires_grad"):
        assert tg.asarray(y) is y


def test_frombuffer():
    memory = bytearray(b"\x01\x02\x03\x04")
    t = tg.frombuffer(memory, dtype=tg.int16, offset=2)
    memory[2] = 5
    assert t.tolist() == [5 + 4 * 256] and tg.frombuffer(memory, dtype=tg.uint8, count=3).tolist() == [1, 2, 5]
    for wrong, words in [(dict(count=3), "requested buffer length"), (dict(offset=5), "offset"), (dict(offset=1), "multiple"), (dict(count=0), "0")]:
        with pytest.raises(ValueError, match=words):
            tg.frombuffer(memory, dtype=tg.int16, **wrong)
    with pytest.raises(ValueError, match="buffer protocol"):
        tg.frombuffer([1], dtype=tg.int8)
    with pytest.warns(UserWarning, match="not writable"):
        tg.frombuffer(bytes(memory), dtype=tg.uint8)


def test_what_tensor_takes():
    assert tg.tensor([tg.ones(1), tg.ones(1, 1)]).shape == (2,) and tg.tensor([[], [1]]).shape == (2, 0)
    assert tg.tensor(memoryview(b"ab")).tolist() == [97, 98]
    for data in ({}, {1: 2}, None, [None], [{}]):
        with pytest.raises(RuntimeError, match="Could not infer dtype of"):
            tg.tensor(data)
    with pytest.raises(ValueError, match="only one element tensors"):
        tg.tensor([tg.ones(2), tg.ones(2)])
    with pytest.raises(TypeError, match="only integer tensors of a single element"):
        tg.tensor([tg.arange(2)])
    with pytest.raises(TypeError, match="invalid data type 'bytes'"):
        tg.tensor(b"ab")
    with pytest.raises(ValueError, match="byte order different"):
        tg.from_numpy(np.ones(2, ">f8"))


# --- factories ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [
    lambda out: tg.arange(4, out=out), lambda out: tg.linspace(0, 3, 4, out=out), lambda out: tg.logspace(0, 3, 4, base=1, out=out),
])  # fmt: skip
def test_sequences_fill_the_shape_of_out(make):
    x, fresh = tg.zeros(2, 3), tg.empty(0)
    made = make(x[:, 1:])
    assert made.tolist() == make(fresh).reshape(2, 2).tolist() and x[:, 1:].tolist() == made.tolist() and x[:, 0].tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        make(tg.empty(1).expand(4))
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        make(tg.zeros(4, requires_grad=True))


def test_out_of_full_decides_the_dtype():
    assert tg.full((2,), 1.5, out=tg.empty(2, dtype=tg.int64)).tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="dtype Float does not match dtype of out parameter"):
        tg.full((2,), 1.5, dtype=tg.float32, out=tg.empty(2, dtype=tg.int64))
    with pytest.raises(TypeError, match="must be tuple of ints, not int"):
        tg.full(2, 3)
    assert tg.zeros(2, 3, out=tg.empty(2)).shape == (2, 3)


def test_logspace():
    assert tg.logspace(0.5, 1, 1).item() == pytest.approx(10**0.5)  # its one number was read from memory that had been given back
    assert tg.logspace(0, 1j, 3).dtype is tg.complex64 and tg.logspace(0, 3, 4, dtype=tg.int64).tolist() == [1, 10, 100, 1000]
    with pytest.raises(RuntimeError, match=r"torch.logspace\(\): inferred dtype"):
        tg.logspace(0, 1j, 3, dtype=tg.float32)


def test_strided_and_scalars():
    x = tg.empty_strided((2, 3), (1, 2), dtype=tg.int32)
    assert x.stride() == (1, 2) and x.dtype is tg.int32 and x.new_empty_strided((2,), (5,)).stride() == (5,)
    with pytest.raises(RuntimeError, match="dimensionality of sizes"):
        tg.empty_strided((2, 3), (1,))
    assert tg.scalar_tensor(3).dtype is tg.float32 and tg.scalar_tensor(True, dtype=tg.bool).item() is True


@pytest.mark.parametrize("name, numpys", [("hann", np.hanning), ("hamming", np.hamming), ("blackman", np.blackman), ("bartlett", np.bartlett)])
def test_windows(name, numpys):
    window = getattr(tg, name + "_window")
    assert np.allclose(window(7, False, dtype=tg.float64), numpys(7)) and np.allclose(window(6, dtype=tg.float64), numpys(7)[:-1])
    assert window(1).tolist() == [1] and window(0).shape == (0,)
    with pytest.raises(RuntimeError, match="requires non-negative window_length"):
        window(-1)
    with pytest.raises(RuntimeError, match="expects floating point dtypes"):
        window(5, dtype=tg.int64)


def test_kaiser_window():
    assert np.allclose(tg.kaiser_window(6, False, 5.0, dtype=tg.float64), np.kaiser(6, 5.0))


# --- joining and arranging ------------------------------------------------------------------------------------------
def test_empty_operands():
    assert tg.block_diag().shape == (1, 0) and tg.cat([tg.zeros(0), tg.zeros(0)], 2).shape == (0,)
    for call in (tg.meshgrid, tg.cartesian_prod):
        with pytest.raises(RuntimeError, match="meshgrid expects a non-empty TensorList"):
            call()
    with pytest.raises(RuntimeError, match="same dtype"):
        tg.meshgrid(tg.ones(1), tg.arange(2))


def test_roll_refuses_what_does_not_align():
    x = tg.arange(4)
    for shifts, dims, words in [((), None, "`shifts` required"), ((), (), "`shifts` required"), ((1, 2), None, "must align"), ((1, 2), (0,), "must align")]:
        with pytest.raises(RuntimeError, match=words):
            x.roll(shifts, dims)
    with pytest.raises(IndexError, match="Dimension specified as 0 but tensor has no dimensions"):
        tg.tensor(5).roll(1, 0)
    with pytest.raises(TypeError, match="must be tuple of ints, not float"):
        x.roll(2.5)


def test_vander():
    x = tg.tensor([1.0, 2.0, 3.0], dtype=tg.float64, requires_grad=True)
    assert tg.vander(x).tolist() == np.vander([1, 2, 3]).tolist() and tg.vander(tg.tensor([2]), 4, True).tolist() == [[1, 2, 4, 8]]
    tg.vander(x).sum().backward()
    assert x.grad.tolist() == [3, 5, 7] and tg.vander(x, 0).shape == (3, 0)
    with pytest.raises(RuntimeError, match="one-dimensional"):
        tg.vander(tg.ones(2, 2))


def test_triangle_indices_are_integers():
    assert tg.tril_indices(2, 2).tolist() == [[0, 1, 1], [0, 0, 1]] and not math.isnan(tg.triu_indices(2, 3, dtype=tg.int32).sum())
    with pytest.raises(NotImplementedError, match="\"triu_indices\" not implemented for 'Float'"):
        tg.triu_indices(2, 2, dtype=tg.float32)


def test_repeat_takes_any_layout():
    x = tg.arange(6.0, requires_grad=True)
    for view in (x.view(2, 3), x.view(3, 2).t(), x.view(2, 3)[:, :1].expand(2, 3)):
        y = view.repeat(2, 1, 2)
        assert y.detach().numpy().tolist() == np.tile(view.detach().numpy(), (2, 1, 2)).tolist()
        weights = tg.arange(float(y.numel())).view(y.shape)
        (gradient,) = tg.autograd.grad((y * weights).sum(), view, retain_graph=True)
        assert gradient.tolist() == weights.view(2, 2, 2, 3).sum((0, 2)).tolist()
    assert x.repeat(0).shape == (0,) and tg.tensor(3).repeat(2, 1).tolist() == [[3], [3]] and tg.arange(2).tile(dims=(2,)).tolist() == [0, 1, 0, 1]


def test_arange_of_more_elements_than_there_can_be():
    with pytest.raises(RuntimeError, match="possible overflow"):
        tg.arange(1e-38, 3e38)


def test_what_stands_for_a_default_and_for_a_size():
    """As in torch None stands for False, and a truth value for a size unless it is the first."""
    for t in (tg.ones(1, requires_grad=None), tg.rand(1, requires_grad=None), tg.empty_like(tg.ones(1), requires_grad=None), tg.ones(1, pin_memory=None)):
        assert not t.requires_grad
    assert tuple(tg.ones(3, True).shape) == (3, 1) == tuple(tg.zeros([3, True]).shape)


def test_an_empty_sequence_counts_as_floats():
    assert tg.tensor([[], [1]]).dtype is tg.float32 and tuple(tg.tensor([[], [True]]).shape) == (2, 0)


def test_legacy_constructors_take_keywords():
    assert tuple(tg.Tensor(size=(2,)).shape) == (2,) and tg.Tensor(data=[1, 2]).tolist() == [1.0, 2.0]
    assert tg.Tensor([1, 2], device="cpu").tolist() == [1.0, 2.0] and tuple(tg.FloatTensor(2, True).shape) == (2, 1)
    assert tg.ones(2).new([1, 2]).dtype is tg.float32 and tuple(tg.ones(2).new(2, 3).shape) == (2, 3)


def test_sequences_are_rounded_as_torch_rounds_them():
    """Multiplied and added with one rounding, arange from the first of each 8 (or 4) elements."""
    assert tg.linspace(0, 7, 23)[5].item() == 1.5909090042114258
    assert tg.arange(0, 50, 0.3)[[11, 12, 14]].tolist() == [3.3000001907348633, 3.6000001430511475, 4.200000286102295]
    assert tg.linspace(0, 1, tg.tensor(3)).tolist() == [0.0, 0.5, 1.0]
    assert tg.logspace(-1, 1, 5, base=0.0, dtype=tg.float64).tolist() == [math.inf, math.inf, 1.0, 0.0, 0.0]
    assert tg.logspace(0, 400, 3, dtype=tg.float64).tolist() == [1.0, 1e200, math.inf]
    with pytest.raises(NotImplementedError, match="not implemented for 'Bool'"):
        tg.linspace(0, 1, 5, dtype=tg.bool)
    with pytest.raises(RuntimeError, match=r"start with 0 dimension\(s\) and end with 1 dimension"):
        tg.linspace(tg.tensor(0.0), tg.tensor([1.0]), 3)
    with pytest.raises(RuntimeError, match=r"but got end with 1 dimension\(s\)\."):
        tg.linspace(0, tg.tensor([1.0]), 3)
