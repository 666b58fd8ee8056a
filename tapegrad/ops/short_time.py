"""The short-time Fourier transform and its inverse: frames of a signal, each times a window, transformed; and the weighted sum of frames again."""

from __future__ import annotations

from tapegrad import creation
from tapegrad.cautions import warn_once
from tapegrad.ops.complexes import view_as_real
from tapegrad.ops.fourier import _fft_c2c, _fft_c2r, _fft_r2c
from tapegrad.ops.public import function
from tapegrad.ops.spellings import constant_pad_nd

NO_WINDOW = "A window was not provided. A rectangular window will be applied,which is known to cause spectral leakage. Other windows such as tapegrad.hann_window or tapegrad.hamming_window are recommended to reduce spectral leakage.To suppress this warning and use a rectangular window, explicitly set `window=tapegrad.ones(n_fft, device=<device>)`."  # noqa: E501
NO_WINDOW_BACK = "A window was not provided. A rectangular window will be applied.Please provide the same window used by stft to make the inversion lossless.To suppress this warning and use a rectangular window, explicitly set `window=tapegrad.ones(n_fft, device=<device>)`."  # noqa: E501
AS_PARTS = (
    "stft with return_complex=False is deprecated. In a future pytorch release, stft will return complex tensors for all inputs, and return_complex=False "
    "will raise an error.\nNote: you can still call torch.view_as_real on the complex output to recover the old return format."
)
SHORTER = "The length of signal is shorter than the length parameter. Result is being padded with zeros in the tail. Please check your center and hop_length settings."


def kind(tensor) -> str:
    """A tensor's type as torch's old names have it."""
    return tensor.dtype.type_name.replace("tapegrad", "torch")


def described(name: str, input, **facts) -> str:
    """The call, as errors have it."""

    def text(value):
        if hasattr(value, "_slot"):
            return f"{kind(value)}{{{list(value.shape)}}}"
        return str(int(value) if isinstance(value, bool) else value)

    return f"{name}({kind(input)}{list(input.shape)}, {', '.join(f'{k}={text(v)}' for k, v in facts.items())})"


def centred(window, n_fft: int, win_length: int, like):
    """The window with zeros around it; ones where there is none."""
    window = creation.ones(win_length, dtype=like) if window is None else window
    left = (n_fft - win_length) // 2
    return constant_pad_nd(window, (left, n_fft - win_length - left), 0) if win_length < n_fft else window


@function(method=True)
def stft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode="reflect", normalized=False, onesided=None, return_complex=None,
         align_to_window=None):  # fmt: skip
    """Fourier transforms of frames: X[..., w, m] = sum_k window[k] x[..., m hop_length + k] exp(-2 pi i w k / n_fft).

    input: (n,) or (batch, n), real or complex.  hop_length: n_fft // 4 by default.  window: of `win_length` (n_fft by default) elements, with zeros
    around it; ones by default.  center: the signal is padded by n_fft // 2 at both ends (`pad_mode`), so that frame m is about element m hop_length.
    normalized: divided by sqrt(n_fft).  onesided: the first n_fft // 2 + 1 frequencies, the default for real signals and windows.
    return_complex: required for real signals; False gives real and imaginary parts in a last dim.
    """
    signal_dim = input.ndim
    if center:
        from tapegrad.nn.functional import pad

        if align_to_window is not None:
            raise RuntimeError("stft align_to_window should only be set when center = false")
        input = pad(input.view((1,) * (3 - signal_dim) + tuple(input.shape)), (n_fft // 2, n_fft // 2), pad_mode)
        input = input.view(input.shape[-signal_dim:])
    hop_length = n_fft // 4 if hop_length is None else hop_length
    win_length = n_fft if win_length is None else win_length
    facts = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length, "window": window, "normalized": normalized, "onesided": onesided,
             "return_complex": return_complex, "align_to_window": align_to_window}  # fmt: skip

    def refuse(text):
        raise RuntimeError(f"{described('stft', input, **facts)} : {text}")

    if window is None:
        warn_once(NO_WINDOW)
    if not (input.dtype.is_complex or (window is not None and window.dtype.is_complex) if return_complex is None else return_complex):
        if return_complex is None:
            raise RuntimeError(
                "stft requires the return_complex parameter be given for real inputs, and will further require that return_complex=True in a future PyTorch release."
            )
        warn_once(AS_PARTS)
    if not input.dtype.differentiable:
        refuse("expected a tensor of floating point or complex values")
    if input.ndim not in (1, 2):
        refuse("expected a 1D or 2D tensor")
    frames = input if input.ndim == 2 else input.unsqueeze(0)
    if align_to_window:
        frames = constant_pad_nd(frames, ((n_fft - win_length) // 2,) * 2, 0)
    length = frames.shape[1]
    if not 0 < n_fft <= length:
        refuse(f"expected 0 < n_fft < {length}, but got n_fft={n_fft}")
    if hop_length <= 0:
        refuse(f"expected hop_length > 0, but got hop_length={hop_length}")
    if not 0 < win_length <= n_fft:
        refuse(f"expected 0 < win_length <= n_fft, but got win_length={win_length}")
    if window is not None and tuple(window.shape) != (win_length,):
        refuse(f"expected a 1D window tensor of size equal to win_length={win_length}, but got window with size {list(window.shape)}")
    frames = frames.unfold(1, n_fft, hop_length)
    if window is not None or win_length < n_fft:
        frames = frames * centred(window, n_fft, win_length, frames.dtype)
    scale = 1 if normalized else 0
    if frames.dtype.is_complex:
        if onesided:
            raise RuntimeError("Cannot have onesided output if window or input is complex")
        result = _fft_c2c(frames, [2], scale, True)
    else:
        result = _fft_r2c(frames, [2], scale, onesided is None or onesided)
    result = result.transpose(1, 2)
    result = result.squeeze(0) if signal_dim == 1 else result
    return result if return_complex or return_complex is None else view_as_real(result)


def added(frames, length: int, hop_length: int):
    """The signals, (batch, length), that are the sums of overlapping frames, (batch, m, n)."""
    batch, count, n = frames.shape
    places = (creation.arange(count).unsqueeze(1) * hop_length + creation.arange(n)).flatten()
    return frames.new_zeros((batch, length)).index_add(1, places, frames.reshape(batch, count * n))


@function(method=True)
def istft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False, onesided=None, length=None, return_complex=False):
    """The signal whose `stft` is nearest to `input` in the mean of squares: the frames' inverse transforms times the window are added, and
    divided by the sum of the windows' squares (Griffin and Lim, 1984).

    input: complex, (w, m) or (batch, w, m).  The other parameters are those of `stft`; `length` cuts the signal or pads it with zeros.
    """
    hop_length = n_fft // 4 if hop_length is None else hop_length
    win_length = n_fft if win_length is None else win_length
    facts = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length, "window": window, "center": center, "normalized": normalized,
             "onesided": onesided, "length": length, "return_complex": return_complex}  # fmt: skip

    def refuse(text, sign=" : "):
        raise RuntimeError(f"{described('istft', input, **facts)}{sign}{text}")

    if window is None:
        warn_once(NO_WINDOW_BACK)
    if not input.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with return_complex=True.")
    if input.ndim < 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-input.ndim - 1}, {input.ndim}], but got -3)")
    size, count = input.shape[-2:]
    if not input.numel():
        refuse("input tensor cannot be empty.")
    if input.ndim > 3:
        refuse(f"expected a tensor with 3 or 4 dimensions, but got {input.ndim + 1}")
    half = size != n_fft if onesided is None else onesided
    if size != (n_fft // 2 + 1 if half else n_fft):
        expected = "n_fft / 2 + 1 when onesided=True" if half else "n_fft when onesided=False"
        refuse(f"expected the frequency dimension (3rd to the last) of the input tensor to match {expected}, but got {size}")
    if not 0 < hop_length <= win_length:
        refuse("expected 0 < hop_length <= win_length")
    if not 0 < win_length <= n_fft:
        refuse("expected 0 < win_length <= n_fft")
    if window is not None and tuple(window.shape) != (win_length,):
        refuse("Invalid window shape. window has to be 1D and length of `win_length`")
    weights = centred(window, n_fft, win_length, input.dtype.to_real())
    frames = (input if input.ndim == 3 else input.unsqueeze(0)).transpose(1, 2)
    scale = 1 if normalized else 2
    if return_complex:
        if half:
            raise RuntimeError("Cannot have onesided output if window or input is complex")
        frames = _fft_c2c(frames, [2], scale, False)
    else:
        if window is not None and window.dtype.is_complex:
            raise RuntimeError("Complex windows are incompatible with return_complex=False")
        frames = _fft_c2r(frames.narrow(2, 0, n_fft // 2 + 1), [2], scale, n_fft)
    whole = n_fft + hop_length * (count - 1)
    result = added(frames * weights, whole, hop_length)
    overlaps = added(weights.pow(2).expand(1, count, n_fft), whole, hop_length)
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else whole - n_fft // 2 if center else whole
    result, overlaps = result[:, start:end], overlaps[:, start:end]
    if overlaps.abs().min() < 1e-11:
        refuse("window overlap add min: 1", " ")
    result = result / overlaps
    result = result.squeeze(0) if input.ndim == 2 else result
    if end > whole:
        warn_once(SHORTER)
        result = constant_pad_nd(result, (0, end - whole), 0)
    return result
