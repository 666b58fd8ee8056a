"""`make_tensor`: tensors of random elements for tests."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from tapegrad import dtypes, limits
from tapegrad.creation import empty
from tapegrad.ops.complexes import view_as_real
from tapegrad.random import randint


def make_tensor(*shape, dtype, device="cpu", low=None, high=None, requires_grad=False, noncontiguous=False, exclude_zero=False, memory_format=None):
    """A tensor of random elements, uniform in [low, high), drawn from the default generator.

    shape: sizes, or a sequence of them.
    low, high: by default [-9, 9) for floating-point and complex dtypes, -9 to 9 for integers, 0 to 9 for uint8, both truth values for bool;
    cut to what the dtype can hold.
    noncontiguous: every second element of twice as many, where there is more than one.  memory_format: the order in memory instead.
    exclude_zero: the dtype's smallest normal number, or 1, stands for zeros.
    ValueError: for bounds that are NaN, empty or outside of the dtype, for gradients of integers, for both kinds of memory order.

    >>> import tapegrad as tg
    >>> t = tg.testing.make_tensor(2, 3, dtype=tg.float64, low=0, high=1, noncontiguous=True)
    >>> t.shape, t.is_contiguous(), bool(((0 <= t) & (t < 1)).all())
    (tapegrad.Size([2, 3]), False, True)
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if noncontiguous and memory_format is not None:
        text = f"but got noncontiguous={noncontiguous!r} and memory_format={memory_format!r}"
        raise ValueError(f"The parameters `noncontiguous` and `memory_format` are mutually exclusive, {text}")
    if not isinstance(dtype, dtypes.dtype):
        raise TypeError(
            f"The requested dtype '{dtype}' is not supported by tapegrad.testing.make_tensor()."
            " To request support, file an issue at: https://github.com/pytorch/pytorch/issues"
        )
    real = dtype.is_floating_point or dtype.is_complex
    if requires_grad and not real:
        raise ValueError(f"`requires_grad=True` is not supported for boolean and integral dtypes, but got dtype={dtype!r}")
    noncontiguous = noncontiguous and math.prod(sizes) > 1
    if noncontiguous:
        sizes = (*sizes[:-1], 2 * sizes[-1])
    low, high = bounds(dtype, low, high)
    if real:
        result = empty(sizes, dtype=dtype, device=device)
        parts = view_as_real(result) if dtype.is_complex else result
        if high - low >= limits.finfo(dtype).max:
            parts.uniform_(low / 2, high / 2).mul_(2)
        else:
            parts.uniform_(low, high)
    else:
        result = randint(math.ceil(low), math.ceil(high), sizes, dtype=dtype, device=device)
    if noncontiguous:
        result = result[..., 1::2]
    elif memory_format is not None:
        result = result.clone(memory_format=memory_format)
    if exclude_zero:
        result[result == 0] = limits.finfo(dtype).tiny if real else 1
    return result.requires_grad_(requires_grad) if real else result


def bounds(dtype, low, high):
    """The interval asked for, cut to what `dtype` can hold."""
    if dtype is dtypes.bool_:
        lowest, highest, first, last = 0, 2, 0, 2
    elif dtype.is_floating_point or dtype.is_complex:
        lowest, highest, first, last = limits.finfo(dtype).min, limits.finfo(dtype).max, -9, 9
    else:
        lowest, highest, first, last = limits.iinfo(dtype).min, limits.iinfo(dtype).max + (dtype is not dtypes.int64), -9, 10
    low, high = first if low is None else low, last if high is None else high
    if any(isinstance(value, float) and math.isnan(value) for value in (low, high)):
        raise ValueError(f"`low` and `high` cannot be NaN, but got low={low!r} and high={high!r}")
    if low == high and (dtype.is_floating_point or dtype.is_complex):
        text = "is deprecated since 2.1 and will be removed in 2.3. Use `tapegrad.full(...)` instead."
        warnings.warn(f"Passing `low==high` to `tapegrad.testing.make_tensor` for floating or complex types {text}", FutureWarning, stacklevel=3)
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    elif high < lowest or low >= highest:
        text = f"but {dtype} only supports [{lowest}, {highest})"
        raise ValueError(f"The value interval specified by `low` and `high` is [{low}, {high}), {text}")
    return min(max(low, lowest), highest), min(max(high, lowest), highest)
