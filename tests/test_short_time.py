"""stft and istft: by their definition, as each other's inverses, derivatives, refusals; and torch's answers."""

import importlib
import warnings

import numpy as np
import pytest

import tapegrad as tg

CALLS = (
    "stft(x, 8, window=h, return_complex=True)", "stft(b, 8, 3, 6, window=h[:6], return_complex=True)", "stft(x, 8, center=False, return_complex=True)",
    "stft(x, 8, pad_mode='constant', normalized=True, return_complex=True)", "stft(x, 8, onesided=False, return_complex=True)", "stft(z, 8)", "stft(x, 8, window=h * 1j)",
    "stft(x, 8, return_complex=False)", "stft(x, 8, 2, 4, center=False, align_to_window=True, return_complex=True)", "stft(x, 9, 4, return_complex=True)",
    "istft(s, 8, window=h)", "istft(s, 8, window=h, length=13)", "istft(s, 8, window=h, length=50)", "istft(w, 8, onesided=False)", "istft(w, 8, return_complex=True)",
    "istft(s, 8, 2, 6)", "istft(s, 8, normalized=True)", "istft(s, 8, center=False)", "istft(s, 9)",
)  # fmt: skip
REFUSED = (
    "stft(x, 8)", "stft(z, 8, onesided=True)", "stft(x, 100, center=False, return_complex=True)", "stft(x, 0, return_complex=True)", "stft(x, 8, 0, return_complex=True)",
    "stft(x, 8, 2, 9, return_complex=True)", "stft(x, 8, 2, 4, window=h, return_complex=True)", "stft(T.ones(2, 3, 4), 2, return_complex=True)",
    "stft(T.ones(10, dtype=T.int64), 2, return_complex=True)", "stft(x, 8, align_to_window=True, return_complex=True)", "stft(x, 100, return_complex=True)",
    "istft(s, 8, return_complex=True)", "istft(s, 8, window=h * 1j)", "istft(s, 8, window=h, center=False)", "istft(s, 8, onesided=False)", "istft(x, 8)", "istft(s, 8, 9)",
    "istft(s, 8, 2, 9)", "istft(s, 8, 0)", "istft(s, 8, 2, 4, window=h)", "istft(s[0], 8)", "istft(s[:, :0], 8)", "istft(s[None, None], 8)",
)  # fmt: skip


def outcome(module: str, call: str):
    library = importlib.import_module(module)
    draws = np.random.default_rng(3).standard_normal(200)
    x, b = library.tensor(draws[:40]), library.tensor(draws[40:100].reshape(2, 30))
    z, h = library.tensor(draws[100:132] + 1j * draws[132:164]), library.hann_window(8, dtype=library.float64)
    names = {"T": library, "x": x, "b": b, "z": z, "h": h, "stft": library.stft, "istft": library.istft}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names["s"] = library.stft(x, 8, window=h, return_complex=True)
        names["w"] = library.stft(x, 8, onesided=False, return_complex=True)
        try:
            return eval(call, names)
        except Exception as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}".replace("tapegrad", "torch")


def test_the_definition():
    x, h = tg.arange(20.0, dtype=tg.float64).sin(), tg.hann_window(6, dtype=tg.float64)
    found = tg.stft(x, 8, 3, 6, window=h, center=False, return_complex=True)
    window = np.pad(h.numpy(), 1)
    for m in range(found.shape[1]):
        assert np.allclose(found[:, m].numpy(), np.fft.rfft(window * x.numpy()[3 * m : 3 * m + 8]))
    with pytest.warns(UserWarning, match="A window was not provided"):
        assert tg.stft(x, 8, return_complex=True).shape == (5, 11)


def test_the_inverse():
    x, h = tg.randn(2, 50, dtype=tg.float64), tg.hann_window(16, dtype=tg.float64)
    for options in ({}, {"normalized": True}, {"onesided": False}, {"pad_mode": "constant"}):
        spectrum = tg.stft(x, 16, 4, window=h, return_complex=True, **options)
        options.pop("pad_mode", None)
        assert tg.allclose(tg.istft(spectrum, 16, 4, window=h, length=50, **options), x)


def test_derivatives():
    x, h = tg.randn(24, dtype=tg.float64, requires_grad=True), (tg.hann_window(8, dtype=tg.float64) + 0.1).requires_grad_()
    assert tg.autograd.gradcheck(lambda x, h: tg.stft(x, 8, window=h, return_complex=True), (x, h))
    spectrum = tg.stft(x, 8, window=h, return_complex=True).detach().requires_grad_()
    assert tg.autograd.gradcheck(lambda s, h: tg.istft(s, 8, window=h), (spectrum, h))
    assert tg.autograd.gradgradcheck(lambda s, h: tg.istft(s, 8, window=h), (spectrum, h))


@pytest.mark.parametrize("call", REFUSED)
def test_refusals(call):
    assert "Error: " in outcome("tapegrad", call)


@pytest.mark.torch
@pytest.mark.parametrize("call", CALLS + REFUSED)
def test_as_torch(call):
    pytest.importorskip("torch")
    found, expected = outcome("tapegrad", call), outcome("torch", call)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert found.stride() == expected.stride() and np.allclose(found.resolve_conj().numpy(), expected.resolve_conj().numpy())
