"""interpolate: signals, images and volumes of another size.  Every mode is linear and works dim by dim: an element is a weighted sum of a few."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.engine.bind import Handle
from tapegrad.formats import suggested
from tapegrad.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from tapegrad.ops.checks import no_kernel

LINEAR = {"linear": 3, "bilinear": 4, "trilinear": 5}  # the dims that the input of a mode must have
ALIGNED = "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"
SHAPES = (
    "Input and {} must have the same number of spatial dimensions, but got input with spatial dimensions of {} and {} of {}. Please provide input "
    "tensor in (N, C, d1, d2, ...,dK) format and {} in {} format."
)


def places(size: int, out: int, scale, align_corners: bool, real) -> np.ndarray:
    """Where in the input the centres of the output's elements lie."""
    to = np.arange(out, dtype=real)
    if align_corners:
        return to * real((size - 1) / (out - 1) if out > 1 else 0)
    return ratio(size, out, scale, real) * (to + real(0.5)) - real(0.5)


def ratio(size: int, out: int, scale, real):
    """How many elements of the input one of the output stands for."""
    return real(1 / scale) if scale else real(size / out) if out else real(0)


def taps(mode: str, size: int, out: int, scale, align_corners: bool, real) -> list:
    """[(indices, weights), ...]: the element of the output at k is the sum of weights[k] times the input's at indices[k]; weights None is 1."""
    last = size - 1
    if mode == "nearest":
        return [(np.minimum(np.floor(np.arange(out, dtype=np.float32) * np.float32(ratio(size, out, scale, np.float32))).astype(np.int64), last), None)]
    if mode == "nearest-exact":
        centres = (np.arange(out, dtype=np.float32) + np.float32(0.5)) * ratio(size, out, scale, np.float32)
        return [(np.minimum(np.floor(centres).astype(np.int64), last), None)]
    at = places(size, out, scale, align_corners, real)
    if mode != "bicubic":
        at = np.clip(at, 0, None)
        low = np.minimum(np.floor(at).astype(np.int64), last)
        share = np.minimum(at - low, real(1))
        return [(low, 1 - share), (np.minimum(low + 1, last), share)]
    low = np.floor(at).astype(np.int64)
    distance = at - low
    return [(np.clip(low + k, 0, last), cubic(np.abs(distance - k), -0.75)) for k in (-1, 0, 1, 2)]


def cubic(x, a):
    """Keys' cubic convolution kernel (1981)."""
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


FILTERS = {  # for smaller images, each as wide as the elements that one of the output stands for: (function, reach)
    "bilinear": (lambda x: np.clip(1 - np.abs(x), 0, None), 1), "bicubic": (lambda x: cubic(np.abs(x), -0.5), 2),
    "lanczos": (lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 3),
}  # fmt: skip


def smoothing(mode: str, size: int, out: int, scale, align_corners: bool, real) -> np.ndarray:
    """The matrix (out, size) of the weights of an antialiased mode."""
    kernel, reach = FILTERS[mode]
    step = real((size - 1) / (out - 1) if out > 1 else 0) if align_corners else ratio(size, out, scale, real)
    support, inverse = reach * max(step, 1), 1 / max(step, 1)
    result = np.zeros((out, size), real)
    for k in range(out):
        centre = step * (k + 0.5)
        begin, end = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        weights = kernel((np.arange(begin, end) - centre + 0.5) * inverse)
        result[k, begin:end] = weights / weights.sum()
    return result


def resample(input, d: int, mode: str, out: int, scale, align_corners: bool, antialias: bool):
    """The input with `out` elements along dim d."""
    real, size = input.dtype.numpy.type if input.is_floating_point() else np.float32, input.shape[d]
    if antialias:
        matrix = creation.from_array(smoothing(mode, size, out, scale, align_corners, real), input.dtype)
        return (input.transpose(d, -1) @ matrix.mT).transpose(d, -1)
    shape, total = [1] * d + [-1] + [1] * (input.dim() - 1 - d), None
    for index, weights in taps(mode, size, out, scale, align_corners, real):
        part = input.index_select(d, creation.from_array(index, dtypes.int64))
        part = part if weights is None else part * creation.from_array(weights.astype(real), input.dtype).reshape(shape)
        total = part if total is None else total + part
    return total


def sizes_of(input, size, scale_factor, recompute) -> tuple[list, list]:
    """(the sizes, the scale factors or None) of the spatial dims."""
    spatial, n = list(input.shape[2:]), input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    given, what = (size, "output size") if size is not None else (scale_factor, "scale_factor")
    if isinstance(given, (list, tuple)):
        if len(given) != n:
            shown = given if size is not None else f"shape {given}"
            raise ValueError(SHAPES.format("output" if size is not None else what, spatial, what, shown, what, "(o1, o2, ...,oK)" if size is not None else "(s1, s2, ...,sK)"))
        given = list(given)
    else:
        given = [given] * n
    if size is not None:
        if not all(isinstance(s, (int, np.integer)) or isinstance(s, Handle) and not s.is_floating_point() for s in given):
            raise TypeError(
                "expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got size with types "
                f"{[type(s) for s in given]}"
            )
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        return [int(s) for s in given], [None] * n
    sizes = [int(s * f) for s, f in zip(spatial, given, strict=True)]
    return sizes, [None] * n if recompute else given


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False):
    """The input (N, C, d1, ..., dK) with other sizes of the last K = 1, 2 or 3 dims: `size`, or scale_factor times what they are.

    mode: "nearest", "nearest-exact" (of the centres), "linear" / "bilinear" / "trilinear", "bicubic", "area" (means); with align_corners the
    outermost elements stay where they are.  antialias widens the kernels of "bilinear", "bicubic" and "lanczos" for smaller images.

    >>> import tapegrad as tg
    >>> tg.nn.functional.interpolate(tg.tensor([[[1., 3.]]]), scale_factor=2, mode="linear")
    tensor([[[1.0000, 1.5000, 2.5000, 3.0000]]])
    """
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(ALIGNED)
    align_corners = bool(align_corners)
    sizes, scales = sizes_of(input, size, scale_factor, recompute_scale_factor or (mode == "area" and size is None))
    if antialias and not (mode in FILTERS and input.dim() == 4):
        raise ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input")
    if mode == "lanczos" and input.dim() == 4:
        if align_corners:
            raise ValueError("Lanczos mode does not support align_corners=True")
        if not antialias:
            raise ValueError("Lanczos mode requires antialias=True")
    n = input.dim()
    if mode in LINEAR and n in (3, 4, 5) and n != LINEAR[mode]:
        raise NotImplementedError(f"Got {n}D input, but {mode} mode needs {LINEAR[mode]}D input")
    known = mode in ("nearest", "nearest-exact", "area") and n in (3, 4, 5) or LINEAR.get(mode) == n or mode in ("bicubic", "lanczos") and n == 4
    if not known:
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {n}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | "
            f"lanczos | area | nearest-exact (got {mode})"
        )
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 3](input, sizes)
    if not input.is_floating_point() and not (input.dtype is dtypes.uint8 and mode.startswith("nearest")):
        kind = "nearest" if mode.startswith("nearest") else "linear" if mode in LINEAR else "cubic"
        raise no_kernel(f"compute_indices_weights_{kind}", input.dtype)
    if min(sizes) <= 0 or min(input.shape[2:]) <= 0:
        named = lambda values: ", ".join(f"{name}: {v}" for name, v in zip("DHW"[5 - n :], values, strict=True))
        joint = " and " if n == 3 else " "
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input ({named(input.shape[2:])}){joint}output ({named(sizes)})")
    if max(sizes) > 2**31 - 1:
        raise RuntimeError("value cannot be converted to type int64_t without overflow")
    wide = input.float() if input.dtype.reduced else input
    for k in reversed(range(n - 2)):
        wide = resample(wide, k + 2, mode, sizes[k], scales[k], align_corners, antialias)
    form = suggested(tuple(input.shape), tuple(input.stride()))
    return wide.to(input.dtype).contiguous(memory_format=form)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """`interpolate`, by its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """`interpolate` by the nearest element."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """`interpolate` between four elements, with the corners aligned."""
    return interpolate(input, size, scale_factor, "bilinear", True)
