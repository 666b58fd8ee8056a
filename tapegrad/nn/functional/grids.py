"""grid_sample and affine_grid: reading an image (or a volume) at places given in coordinates from -1 to 1.

A place is brought into elements of the input, then inside it as the padding mode says (`inside`), and read as a weighted sum of the elements
around it (`around`).  All of it is written in recorded ops on the places, dim by dim, so the derivatives of every order follow.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

from tapegrad import creation
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.choosing import where
from tapegrad.ops.composite import composite
from tapegrad.ops.joining import stack
from tapegrad.tensor import Tensor

MODES, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
CHANGED = (
    "Default {} behavior has changed to align_corners=False since 1.3.0. Please specify align_corners=True if the old behavior is desired. "
    "See the documentation of grid_sample for details."
)
CUBIC = -0.75  # the parameter of Keys' kernel, as for `interpolate`


def clipped(at, size: int):
    """The place within 0 .. size - 1; no derivative at and beyond the ends, and 0 for NaN."""
    within = (at > 0) & (at < size - 1)
    return where(within, at, where(at >= size - 1, at.new_tensor(float(size - 1)), at.new_tensor(0.0)))


def reflected(at, size: int, align_corners: bool):
    """The place reflected until it lies in the input: by the centres of the outermost elements, or by their edges."""
    low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
    if span == 0:
        return at.new_zeros(at.shape)
    distance = where(at < low, low - at, at - low)
    rest = distance - (distance.detach() / (2 * span)).trunc() * (2 * span)
    return where(rest > span, 2 * span - rest, rest) + low


def inside(at, size: int, padding: str, align_corners: bool):
    """The place as the padding mode has it."""
    if padding == "zeros":
        return at
    return clipped(reflected(at, size, align_corners) if padding == "reflection" else at, size)


def cubic_weights(t) -> list:
    """The weights of the elements at -1, 0, 1, 2 for a place t in [0, 1) after element 0 (Keys 1981)."""
    near = lambda x: ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = lambda x: ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def around(at, size: int, mode: str, padding: str, align_corners: bool) -> list:
    """[(the index of an element, its weight or None for 1, whether it is there or None for always)] of a dim."""
    if mode == "bicubic":
        low = at.detach().floor()
        taps = list(zip((low + k for k in (-1, 0, 1, 2)), cubic_weights(at - low), strict=True))
        taps = [(inside(index, size, padding, align_corners), weight) for index, weight in taps]
    elif mode == "nearest":
        taps = [(inside(at, size, padding, align_corners).detach().round(), None)]
    else:
        at = inside(at, size, padding, align_corners)
        low = at.detach().floor()
        taps = [(low, low + 1 - at), (low + 1, at - low)]
    result = []
    for index, weight in taps:
        there = (index >= 0) & (index <= size - 1)  # False for NaN
        result.append((where(there, index, index.new_tensor(0.0)).long(), weight, there))
    return result


def sample(input, grid, mode: str, padding: str, align_corners: bool):
    """The values of `input` (N, C, *sizes) at the places `grid` (N, *out, len(sizes)), the last dim of the input first."""
    wide, places = (input.float(), grid.float()) if input.dtype.reduced else (input, grid)
    n, channels = input.shape[:2]
    sizes, out = list(input.shape[2:]), list(grid.shape[1:-1])
    count = math.prod(out)
    values = wide.reshape(n, channels, math.prod(sizes))
    total: Any = None
    taps = []
    for d, size in enumerate(sizes):
        at = places[..., len(sizes) - 1 - d].reshape(n, count)
        at = (at + 1) * ((size - 1) / 2) if align_corners else (at + 1) * (size / 2) - 0.5
        taps.append(around(at, size, mode, padding, align_corners))
    for chosen in itertools.product(*taps):
        flat: Any = 0
        weight: Any = None
        there: Any = None
        for (index, share, exists), size in zip(chosen, sizes, strict=True):
            flat = flat * size + index
            weight = share if weight is None else weight if share is None else weight * share
            there = exists if there is None else there & exists
        part = values.gather(2, flat.unsqueeze(1).expand(n, channels, count))
        part = where(there.unsqueeze(1), part, part.new_tensor(0.0))
        part = part if weight is None else part * weight.unsqueeze(1)
        total = part if total is None else total + part
    return total.reshape(n, channels, *out).to(input.dtype)


SAMPLE = {k: composite(f"grid_sampler_{k}d", f"GridSampler{k}D", zeros=True)(sample) for k in (2, 3)}


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """The input at the places of a grid: out[n, :, i, j] = input[n, :] at grid[n, i, j] = (x, y), from -1 (first) to 1 (last element).

    input: (N, C, H, W) or (N, C, D, H, W); grid: (N, *out, 2) or (N, *out, 3), the last dim of the input first; the result is (N, C, *out).
    mode: "bilinear" (trilinear in volumes), "nearest", "bicubic" (images only).  padding_mode says what lies outside: "zeros", "border" (the
    outermost element), "reflection".  With align_corners -1 and 1 are the centres of the outermost elements, else their outer edges.

    >>> import tapegrad as tg
    >>> image = tg.arange(4.).reshape(1, 1, 2, 2)
    >>> tg.nn.functional.grid_sample(image, tg.tensor([[[[0., 0.], [1., -1.]]]]), align_corners=True)
    tensor([[[[1.5000, 1.0000]]]])
    """
    if mode not in MODES:
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in PADDINGS:
        raise ValueError(
            f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: '{padding_mode}'"
        )
    if align_corners is None:
        warnings.warn(CHANGED.format("grid_sample and affine_grid"), UserWarning, stacklevel=2)
    for k, (name, value) in enumerate((("input", input), ("grid", grid)), 1):
        if not isinstance(value, Tensor):
            raise TypeError(f"grid_sampler(): argument '{name}' (position {k}) must be Tensor, not {type(value).__name__}")
    check(input, grid, mode)
    return SAMPLE[input.dim() - 2](input, grid, mode=mode, padding=padding_mode, align_corners=bool(align_corners))


def check(input, grid, mode) -> None:
    """What torch says of an input and a grid that do not fit."""
    n, sizes, places = input.dim() - 2, list(input.shape), list(grid.shape)
    if sizes[:1] != places[:1]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes {sizes} and grid with sizes {places}"
        )
    if places[-1] != n:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with sizes {places}")
    for d in range(2, n + 2):
        if sizes[d] <= 0:
            raise RuntimeError(
                f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes {sizes} with dimension {d} being empty"
            )
    if n not in (2, 3) or grid.dim() != input.dim():
        raise RuntimeError(
            f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with sizes {sizes} and grid with "
            f"sizes {places}"
        )
    if n == 3 and mode == "bicubic":
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if not input.dtype.is_floating_point:
        raise no_kernel(f"grid_sampler_{n}d_cpu{'_kernel_impl' * (n == 2)}", input.dtype)
    if input.dtype is not grid.dtype:
        raise RuntimeError(f"expected scalar type {input.dtype.scalar_name} but found {grid.dtype.scalar_name}")


def spread(theta, sizes, align_corners):
    """The places of the elements of an output of `sizes`, moved by the affine maps theta (N, k, k + 1): (N, *sizes, k)."""
    steps = []
    for size in reversed(sizes):
        ends = 1.0 if align_corners else (size - 1) / size
        steps.append(creation.linspace(-ends, ends, size, dtype=theta.dtype) if size > 1 else creation.zeros(1, dtype=theta.dtype))
    k = len(sizes)
    shaped = [s.reshape([-1 if d == k - 1 - place else 1 for d in range(k)]).expand(sizes) for place, s in enumerate(steps)]
    base = stack([*shaped, creation.ones(sizes, dtype=theta.dtype)], -1).reshape(1, -1, k + 1)
    n = theta.shape[0]
    return base.expand(n, -1, -1).bmm(theta.transpose(1, 2)).reshape(n, *sizes, k)


SPREAD = composite("affine_grid_generator", "AffineGridGenerator")(spread)


def affine_grid(theta, size, align_corners=None):
    """The grid by which `grid_sample` moves images (or volumes) along affine maps: theta (N, 2, 3) for size (N, C, H, W), (N, 3, 4) for 5 sizes.

    >>> import tapegrad as tg
    >>> tg.nn.functional.affine_grid(tg.tensor([[[1., 0., 0.], [0., 1., 0.]]]), (1, 1, 1, 2), align_corners=True)
    tensor([[[[-1.,  0.],
              [ 1.,  0.]]]])
    """
    if align_corners is None:
        warnings.warn(CHANGED.format("grid_sample and affine_grid"), UserWarning, stacklevel=2)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if len(size) not in (4, 5):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size " + str(size) + "."
        )
    k = len(size) - 2
    if theta.dim() != 3 or tuple(theta.shape[1:]) != (k, k + 1):
        raise ValueError(f"Expected a batch of {k}D affine matrices of shape Nx{k}x{k + 1} for size {size}. Got {theta.shape}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    if size[0] != theta.shape[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{size[0]}, {k + 1}] but got: [{theta.shape[0]}, {k + 1}]."
        )
    return SPREAD(theta, sizes=tuple(int(s) for s in size[2:]), align_corners=bool(align_corners))
