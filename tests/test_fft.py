"""`tapegrad.fft`: values by NumPy's transforms, derivatives by differences and by torch, transforms of functions, refusals."""

import importlib
import itertools

import numpy as np
import pytest

import tapegrad as tg

ONE = "fft ifft rfft irfft hfft ihfft".split()
SEVERAL = [kind + end for kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft") for end in ("2", "n")]
IN_NUMPY = [*ONE, *(name for name in SEVERAL if not name.lstrip("i").startswith("hfft"))]
REAL = ("rfft", "ihfft")
OF_ONE = ({}, {"n": 3}, {"n": 8}, {"dim": 0}, {"norm": "ortho"}, {"norm": "forward", "n": 1})
OF_SEVERAL = ({}, {"s": (3, 4)}, {"s": (7,), "dim": (0,)}, {"dim": (1, 0)}, {"norm": "ortho"}, {"norm": "forward", "s": (-1, 3), "dim": (0, 1)})
CASES = [(f, kw) for f in ONE for kw in OF_ONE] + [(f, kw) for f in SEVERAL for kw in OF_SEVERAL]
REFUSED = (
    "fft(x, norm='odd')", "fft(x, 0)", "fft(x, n=1.5)", "fft(x, dim=3)", "fft(t(1.0))", "fft([1.0])", "fft(x.half())", "rfft(z)", "ihfft(z)", "rfftn(z)", "irfft(z[:, :1])",
    "fftn(x, s=(1, 2, 3))", "fftn(x, s=(1,), dim=(0, 1))", "fftn(x, dim=(0, 0))", "rfftn(x, dim=())", "irfft2(x, dim=())", "fft2(t([1.0]))", "fft(x, out=T.empty(3))",
    "irfft(z, out=T.empty(3, dtype=T.complex64))", "ifftn(x, out=T.empty(2, dtype=T.int64))", "fftfreq(-1)", "fftfreq(1.5)", "rfftfreq(3, dtype=T.int64)",
    "fftshift(x, dim=5)", "fftshift(t(1.0))", "rfftn(x.half(), dim=(0, 0))",
)  # fmt: skip


def sample(name: str, library=tg):
    draws = np.random.default_rng(5).standard_normal((2, 4, 5))
    return library.tensor(draws[0] if name.startswith(REAL) else draws[0] + 1j * draws[1])


@pytest.mark.parametrize("name", IN_NUMPY)
def test_values(name):
    x = sample(name)
    for kw in OF_ONE if name in ONE else OF_SEVERAL:
        if -1 in kw.get("s", ()):
            continue
        ours = {"axis" if name in ONE and k == "dim" else "axes" if k == "dim" else k: v for k, v in kw.items()}
        if "s" in ours:
            ours.setdefault("axes", (-2, -1))
        assert np.allclose(getattr(tg.fft, name)(x, **kw).resolve_conj().numpy(), getattr(np.fft, name)(x.numpy(), **ours)), kw
    single = getattr(tg.fft, name)(x.to(tg.float32 if name.startswith(REAL) else tg.complex64))
    assert single.dtype in (tg.float32, tg.complex64)


def test_there_and_back():
    x, z = sample("rfft"), sample("fft")
    assert tg.allclose(tg.fft.irfft(tg.fft.rfft(x), 5), x) and tg.allclose(tg.fft.irfftn(tg.fft.rfftn(x), (4, 5)), x)
    assert tg.allclose(tg.fft.ihfft2(tg.fft.hfft2(tg.fft.ihfft2(x), (4, 5)), (4, 5)), tg.fft.ihfft2(x)) and tg.allclose(tg.fft.ifft2(tg.fft.fft2(z)), z)
    assert tg.fft.fft(tg.arange(4)).dtype is tg.complex64 and tg.equal(tg.fft.ifftshift(tg.fft.fftshift(x)), x)
    assert tg.fft.fftfreq(5, 0.5).tolist() == pytest.approx(np.fft.fftfreq(5, 0.5).tolist()) and tg.fft.rfftfreq(5).tolist() == pytest.approx(np.fft.rfftfreq(5).tolist())
    assert tg.fft.fftshift(tg.fft.fftfreq(5)).tolist() == pytest.approx(sorted(np.fft.fftfreq(5).tolist()))
    out = tg.empty(0, dtype=tg.complex128)
    assert tg.fft.fft(x, out=out) is out and tg.equal(out, tg.fft.fft(x))


@pytest.mark.parametrize(("name", "kw"), CASES)
def test_derivatives(name, kw):
    f, x = getattr(tg.fft, name), sample(name).requires_grad_()
    assert tg.autograd.gradcheck(lambda t: f(t, **kw), (x,), check_forward_ad=True, fast_mode=True)
    assert tg.autograd.gradgradcheck(lambda t: f(t, **kw), (x,), fast_mode=True)


@pytest.mark.parametrize("name", ONE + SEVERAL)
def test_transforms(name):
    x = sample(name)
    f = getattr(tg.fft, name) if name in ONE else lambda t: getattr(tg.fft, name)(t.unsqueeze(0))
    for dim in (0, 1):
        found, expected = tg.vmap(f, in_dims=dim)(x), tg.stack([f(part) for part in x.unbind(dim)])
        assert tg.allclose(found, expected)
    value, tangent = tg.func.jvp(f, (x[0],), (x[1],))
    assert tg.allclose(value, f(x[0])) and tg.allclose(tangent, f(x[1]))


def outcome(module: str, call: str) -> str:
    library = importlib.import_module(module)
    names = {"T": library, "t": library.tensor, "x": sample("rfft", library), "z": sample("fft", library), **vars(importlib.import_module(module + ".fft"))}
    try:
        return repr(eval(call, names))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


@pytest.mark.parametrize("call", REFUSED)
def test_refusals(call):
    assert "Error: " in outcome("tapegrad", call)


@pytest.mark.torch
@pytest.mark.parametrize("call", REFUSED)
def test_refusals_as_torch(call):
    pytest.importorskip("torch")
    assert outcome("tapegrad", call) == outcome("torch", call)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "kw"), CASES)
def test_as_torch(name, kw):
    """Values, memory order, names in the graph, gradients, for inputs of any order in memory."""
    torch = pytest.importorskip("torch")
    for order in itertools.permutations(range(2)):
        found = []
        for library in (tg, torch):
            x = sample(name, library).permute(order).requires_grad_()
            y = getattr(library.fft, name)(x, **kw)
            weights = library.arange(1.0, y.numel() + 1).reshape(y.shape)
            g = library.autograd.grad((y * weights).sum().abs(), x)[0]
            found.append((y.detach().resolve_conj().numpy(), g.resolve_conj().numpy(), (y.dtype.itemsize, y.stride(), y.is_conj(), type(y.grad_fn).__name__)))
        (y, g, facts), (y_torch, g_torch, facts_torch) = found
        assert np.allclose(y, y_torch) and np.allclose(g, g_torch) and facts == facts_torch


def test_zeros_of_a_real_signals_spectrum_are_positive():
    assert repr(tg.fft.fft(tg.arange(4.0))) == "tensor([ 6.+0.j, -2.+2.j, -2.+0.j, -2.-2.j])"
    assert tg.fft.fft(tg.ones(2, 3)).imag[:, 0].signbit().tolist() == [False, False]
