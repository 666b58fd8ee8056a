"""`tapegrad.fft`: discrete Fourier transforms, differentiable to any order.

In one dim, y_k = c sum_j x_j exp(-2 pi i j k / n) forward, and with +2 pi i back; in several dims, one after the other.  `norm` says where the
scale c is: "backward" (the default) 1/n on the way back, "forward" 1/n on the way there, "ortho" 1/sqrt(n) on both, which makes them unitary.
The transforms of real signals (`rfft` and its kind) leave out the half of the spectrum that repeats the other, conjugated; `hfft` and its kind are
the same with the roles exchanged, for signals whose spectrum is real.

`n`, or `s` for several dims, cuts the signal or pads it with zeros first.  Integers are converted to the default dtype; float32, float64 and their
complex counterparts are transformed in their own precision.  See `ops/fourier.py` for the ops underneath.
"""

from __future__ import annotations

import math

from tapegrad import creation, dtypes
from tapegrad.ops.fourier import _fft_c2c, _fft_c2r, _fft_r2c
from tapegrad.ops.joining import roll
from tapegrad.ops.outputs import into
from tapegrad.ops.public import made_public
from tapegrad.ops.spellings import constant_pad_nd
from tapegrad.ops.views import wrap_dim

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn",
    "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip


# --- arguments ------------------------------------------------------------------------------------------------------
def promoted(input, to_complex: bool = False):
    """`input` in a dtype that can be transformed."""
    d = input.dtype
    if not d.is_complex and not d.is_floating_point:
        d = dtypes.default_dtype()
    if d.reduced:
        raise RuntimeError(f"Unsupported dtype {d.scalar_name}")
    return input.to(d.to_complex() if to_complex and not d.is_complex else d)


def normalization(norm, forward: bool) -> int:
    """0, 1 or 2 for a scale of 1, 1/sqrt(n) or 1/n."""
    if norm is None or norm == "backward":
        return 0 if forward else 2
    if norm == "forward":
        return 2 if forward else 0
    if norm == "ortho":
        return 1
    raise RuntimeError(f'Invalid normalization mode: "{norm}"')


def positive(n: int) -> int:
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def one_dim(input, dim: int) -> int:
    if not input.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return wrap_dim(dim, input.ndim)


def all_dims(input, s, dim) -> tuple[list[int], list[int]]:
    """(sizes, dims) of a transform of several dims."""
    s, dim = ([v] if isinstance(v, int) else v for v in (s, dim))
    if dim is not None:
        dims = [one_dim(input, d) for d in dim]
        if len(set(dims)) != len(dims):
            raise RuntimeError("FFT dims must be unique")
    if s is not None:
        if dim is None:
            if len(s) > input.ndim:
                raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {input.ndim} dimensions.")
            dims = list(range(input.ndim - len(s), input.ndim))
        elif len(s) != len(dims):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
        sizes = [input.shape[d] if n == -1 else n for n, d in zip(s, dims, strict=True)]
    else:
        dims = list(range(input.ndim)) if dim is None else dims
        sizes = [input.shape[d] for d in dims]
    for n in sizes:
        positive(n)
    return sizes, dims


def some_dims(name: str, input, s, dim) -> tuple[list[int], list[int]]:
    """The same, and at least one."""
    sizes, dims = all_dims(input, s, dim)
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")
    return sizes, dims


def half_dims(name: str, input, s, dim) -> tuple[list[int], list[int], int]:
    """The same for half a spectrum: (sizes, dims, size of the last dim of the signal)."""
    sizes, dims = some_dims(name, input, s, dim)
    given = [s] if isinstance(s, int) else s
    last = positive(2 * (input.shape[dims[-1]] - 1) if given is None or given[-1] == -1 else given[-1])
    sizes[-1] = last // 2 + 1
    return sizes, dims, last


def resized(input, sizes, dims):
    """Cut, or padded with zeros, at the end of each dim."""
    pads = [0] * (2 * input.ndim)
    for n, d in zip(sizes, dims, strict=True):
        if n < input.shape[d]:
            input = input.narrow(d, 0, n)
        pads[2 * (input.ndim - d) - 1] = n - input.shape[d]
    return constant_pad_nd(input, pads, 0) if any(pads) else input


def require_real(name: str, input, words: str = "real") -> None:
    if input.dtype.is_complex:
        raise RuntimeError(f"{name} expects a {words} input tensor, but got {input.dtype.scalar_name}")


def stored(name: str, result, out):
    """`result`, or `out` with it."""
    if out is not None and out.dtype.is_complex != result.dtype.is_complex or out is not None and not out.dtype.differentiable:
        kind = "complex" if result.dtype.is_complex else "floating point"
        raise RuntimeError(f"{name} expects a {kind} output tensor, but got {out.dtype.scalar_name}")
    return into(out, result, "fft_" + name)


# --- one dim --------------------------------------------------------------------------------------------------------
def of_length(input, n, dim):
    """`input` with `n` elements along `dim`, all that there are by default; the dim."""
    d = one_dim(input, dim)
    return resized(input, [positive(input.shape[d] if n is None else n)], [d]), d


def along_one(input, n, dim, norm, forward):
    """fft and ifft."""
    input, d = of_length(promoted(input), n, dim)
    scale = normalization(norm, forward)
    if input.dtype.is_complex:
        return _fft_c2c(input, [d], scale, forward)
    return _fft_r2c(input, [d], scale, False) if forward else _fft_r2c(input, [d], scale, False).conj()


def to_half(name, input, n, dim, norm, forward):
    """rfft and ihfft."""
    require_real(name, input)
    input, d = of_length(promoted(input), n, dim)
    result = _fft_r2c(input, [d], normalization(norm, forward), True)
    return result if forward else result.conj()


def from_half(input, n, dim, norm, forward):
    """irfft and hfft."""
    input = promoted(input, to_complex=True)
    d = one_dim(input, dim)
    last = positive(2 * (input.shape[d] - 1) if n is None else n)
    input = resized(input, [last // 2 + 1], [d]) if n is not None else input
    scale = normalization(norm, forward)
    return _fft_c2r(input.conj() if forward else input, [d], scale, last)


def fft(input, n=None, dim=-1, norm=None, *, out=None):
    """The transform forward along `dim`.

    >>> import tapegrad as tg
    >>> tg.fft.fft(tg.tensor([1.0, 0.0, -1.0, 0.0]))
    tensor([0.+0.j, 2.+0.j, 0.+0.j, 2.+0.j])
    """
    return stored("fft", along_one(input, n, dim, norm, True), out)


def ifft(input, n=None, dim=-1, norm=None, *, out=None):
    """The transform back along `dim`."""
    return stored("ifft", along_one(input, n, dim, norm, False), out)


def rfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The first n // 2 + 1 elements of the transform forward of a real signal."""
    return stored("rfft", to_half("rfft", input, n, dim, norm, True), out)


def irfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The real signal, of 2 (m - 1) elements unless `n` is given, of which `input` is the `rfft` of m."""
    return stored("irfft", from_half(input, n, dim, norm, False), out)


def hfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The real spectrum of a signal of which the first half is given, and the other is its conjugate."""
    return stored("hfft", from_half(input, n, dim, norm, True), out)


def ihfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The first half of the signal of which the real `input` is the `hfft`."""
    return stored("ihfft", to_half("ihfft", input, n, dim, norm, False), out)


# --- several dims ---------------------------------------------------------------------------------------------------
def along_all(input, s, dim, norm, forward):
    sizes, dims = all_dims(input, s, dim)
    return _fft_c2c(resized(promoted(input, to_complex=True), sizes, dims), dims, normalization(norm, forward), forward)


def fftn(input, s=None, dim=None, norm=None, *, out=None):
    """The transform forward along several dims, all by default."""
    return stored("fftn", along_all(input, s, dim, norm, True), out)


def ifftn(input, s=None, dim=None, norm=None, *, out=None):
    """The transform back along several dims, all by default."""
    return stored("fftn", along_all(input, s, dim, norm, False), out)


def rfftn(input, s=None, dim=None, norm=None, *, out=None):
    """`fftn` of a real signal, half of it along the last of the dims."""
    require_real("rfftn", input, "real-valued")
    sizes, dims = some_dims("rfftn", input, s, dim)
    return stored("rfftn", _fft_r2c(resized(promoted(input), sizes, dims), dims, normalization(norm, True), True), out)


def irfftn(input, s=None, dim=None, norm=None, *, out=None):
    """The real signal of which `input` is the `rfftn`."""
    sizes, dims, last = half_dims("irfftn", input, s, dim)
    return stored("irfftn", _fft_c2r(resized(promoted(input, to_complex=True), sizes, dims), dims, normalization(norm, False), last), out)


def hfftn(input, s=None, dim=None, norm=None, *, out=None):
    """`fftn` of a signal whose spectrum is real: the first half is given along the last of the dims."""
    sizes, dims, last = half_dims("hfftn", input, s, dim)
    scale = normalization(norm, True)
    x = resized(promoted(input, to_complex=True), sizes, dims)
    x = _fft_c2c(x, dims[:-1], scale, True) if len(dims) > 1 else x
    return stored("hfftn", _fft_c2r(x.conj(), dims[-1:], scale, last), out)


def ihfftn(input, s=None, dim=None, norm=None, *, out=None):
    """The first half, along the last of the dims, of the signal of which the real `input` is the `hfftn`."""
    sizes, dims = some_dims("ihfftn", input, s, dim)
    scale = normalization(norm, False)
    x = _fft_r2c(resized(promoted(input), sizes, dims), dims[-1:], scale, True).conj()
    return stored("ihfftn", _fft_c2c(x, dims[:-1], scale, False) if len(dims) > 1 else x, out)


def fft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`fftn` of the last two dims."""
    return fftn(input, s, dim, norm, out=out)


def ifft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`ifftn` of the last two dims."""
    return ifftn(input, s, dim, norm, out=out)


def rfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`rfftn` of the last two dims."""
    return rfftn(input, s, dim, norm, out=out)


def irfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`irfftn` of the last two dims."""
    return irfftn(input, s, dim, norm, out=out)


def hfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`hfftn` of the last two dims."""
    return hfftn(input, s, dim, norm, out=out)


def ihfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`ihfftn` of the last two dims."""
    return ihfftn(input, s, dim, norm, out=out)


# --- frequencies ----------------------------------------------------------------------------------------------------
def frequencies(name, numbers, n, d, out, dtype, options):
    """`numbers(dtype)` over n d."""
    kind = out.dtype if out is not None else dtype or dtypes.default_dtype()
    if not kind.differentiable:
        raise RuntimeError(f"{name} requires a floating point or complex dtype")
    result = numbers(kind) * (1.0 / (n * d) if n * d else math.inf)
    result = into(out, result, "fft_" + name)
    return result.requires_grad_() if options.get("requires_grad") else result


def fftfreq(n, d=1.0, *, out=None, dtype=None, **options):
    """The frequencies 0, 1, ..., -2, -1 over n d of the elements of `fft`; options as of `arange`.

    >>> import tapegrad as tg
    >>> tg.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """

    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")

    def numbers(kind):
        result = creation.arange(n, dtype=kind, **{**options, "requires_grad": False})
        result[(n + 1) // 2 :] -= n
        return result

    return frequencies("fftfreq", numbers, n, d, out, dtype, options)


def rfftfreq(n, d=1.0, *, out=None, dtype=None, **options):
    """The frequencies 0, 1, ..., n // 2 over n d of the elements of `rfft`."""
    return frequencies("rfftfreq", lambda kind: creation.arange(math.trunc(n / 2) + 1, dtype=kind, **{**options, "requires_grad": False}), n, d, out, dtype, options)


def shifted(input, dim, shift):
    dims = list(range(input.ndim)) if dim is None else [one_dim(input, k) for k in ([dim] if isinstance(dim, int) else dim)]
    return roll(input, [shift(input.shape[k]) for k in dims], dims)


def fftshift(input, dim=None):
    """The frequency 0 moved to the middle of each dim."""
    return shifted(input, dim, lambda n: n // 2)


def ifftshift(input, dim=None):
    """`fftshift` undone."""
    return shifted(input, dim, lambda n: (n + 1) // 2)


for _name in __all__:  # each under its own name, which its errors say
    globals()[_name] = made_public(globals()[_name], "fft." + _name, False, tensors="freq" not in _name)
