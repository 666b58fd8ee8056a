"""Sequences of numbers (arange, linspace, logspace) and the identity."""

from __future__ import annotations

import builtins
import math
import operator

import numpy as np

from tapegrad import dtypes
from tapegrad.cautions import warn
from tapegrad.creation.elements import Number, check_dtype, convert_number, empty_of, finish, from_array, made, room_for
from tapegrad.creation.filling import check_options, made_in
from tapegrad.ops.public import function


def number(name, value, parameter):
    if hasattr(value, "_slot") and not value.ndim:
        return value.item()
    if isinstance(value, (np.number, np.bool_)):
        return value.item()
    if not isinstance(value, Number):
        raise TypeError(f"{name}(): argument '{parameter}' must be Number, not {type(value).__name__}")
    return value


def real_number(value):
    """torch's refusal of a complex number where a real one is meant."""
    if isinstance(value, builtins.complex):
        return convert_number(value, dtypes.float64)
    return value


def check_steps(start, end, step) -> None:
    """torch's errors for bounds and steps that lead nowhere."""
    if not (step > 0 or step < 0):
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")


@function(tensors=False)
def arange(*bounds, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **named):
    """Values from `start` (0) up to, not including, `end`, `step` (1) apart; int64 if all three are integers."""
    check_options("arange", device, layout, pin_memory, dtype, out)
    values = list(bounds)
    if "end" in named and len(values) <= 1:
        values = [named.pop("start", values[0] if values else 0), named.pop("end")]
    start, end, step = (0, values[0], 1) if len(values) == 1 else (values[0], values[1], values[2] if len(values) > 2 else 1)
    step = named.pop("step", step)
    if named or len(values) > 3:
        raise TypeError("arange() received an invalid combination of arguments")
    start, end, step = (real_number(number("arange", v, n)) for v, n in ((start, "start"), (end, "end"), (step, "step")))
    check_steps(start, end, step)
    d = check_dtype(dtype, "arange") or (None if out is None else out.dtype)
    if d is None:
        d = dtypes.default_dtype() if any(isinstance(v, builtins.float) for v in (start, end, step)) else dtypes.int64
    if d.is_complex or d is dtypes.bool_:
        raise NotImplementedError(f'"arange_cpu" not implemented for \'{d.scalar_name}\'')
    if d is dtypes.int64:  # whole numbers before counting; narrower dtypes count first, as torch does
        start, end, step = builtins.int(start), builtins.int(end), builtins.int(step)
        if step == 0:
            raise ValueError("step must be nonzero")
    span = (end - start) / step
    if abs(span) >= 2**63:
        raise RuntimeError("invalid size, possible overflow?")
    count = math.ceil(span)
    t = empty_of((count,), d)  # refused here if it is absurdly large
    array = t._array()
    for at in builtins.range(0, count, 1 << 20):
        index = np.arange(at, builtins.min(at + (1 << 20), count))
        if d.is_floating_point:
            array[at : at + (1 << 20)] = dtypes.to_stored(start + step * index.astype(np.float64), d)
        else:
            array[at : at + (1 << 20)] = builtins.int(start) + builtins.int(step) * index
    if out is not None:
        if out.numel() not in (0, count):
            warn(
                f"The number of elements in the out tensor of shape {list(out.shape)} is {out.numel()} which does not match the computed number of "
                f"elements {count}. Note that this may occur as a result of rounding error. The out tensor will be resized to a tensor of shape ({count},).",
                    stacklevel=2,
            )
        return made_in("arange", out, requires_grad, lambda _: t)
    return made(t, requires_grad)


@function(name="range", tensors=False)
def range_(start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """Values from `start` to `end` inclusive (deprecated, as in torch)."""
    warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's range builtin. "
        "Instead, use tapegrad.arange, which produces values in [start, end).",
        stacklevel=2,
    )
    if end is None:
        start, end = 0, start
    check_options("range", device, layout, dtype=dtype, out=out)
    if out is not None:
        return made_in("range", out, requires_grad, lambda d: range_(start, end, step, dtype=d))
    check_steps(start, end, step)
    d = check_dtype(dtype, "range") or dtypes.default_dtype()
    count = room_for(builtins.int((end - start) / step + 1))
    return finish(from_array(start + step * np.arange(count, dtype=np.float64), d), requires_grad)


def spaced(name, start, end, steps, dtype):
    """(`steps` NumPy numbers evenly spaced from `start` to `end`, the dtype of the result)."""
    if isinstance(steps, builtins.float) or not hasattr(steps, "__index__"):
        raise TypeError(f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    ranks = [v.ndim if hasattr(v, "_slot") else 0 for v in (start, end)]
    if any(ranks):
        raise RuntimeError(
            f"{name} only supports 0-dimensional start and end tensors, but got start with {ranks[0]} dimension(s) and end with {ranks[1]} dimension(s)."
        )
    start, end = number(name, start, "start"), number(name, end, "end")
    steps = operator.index(steps)  # which may come as a tensor
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    room_for(steps)
    d = check_dtype(dtype, name) or dtypes.default_dtype()
    if any(isinstance(v, builtins.complex) for v in (start, end)):
        if dtype is not None and not d.is_complex:
            inferred = dtypes.default_dtype().to_complex().short
            raise RuntimeError(f"torch.{name}(): inferred dtype {inferred} can't be safely cast to passed dtype {d.scalar_name}")
        d = d.to_complex()
    kind = dtypes.BY_NAME[d.compute].numpy.type if d.category >= dtypes.FLOAT else np.float64
    if steps == 1:
        return np.array([start], kind), d
    # Symmetric, as torch: the second half counts back from the end.
    step = (kind(end) - kind(start)) / kind(steps - 1) if steps > 1 else kind(0)
    k = np.arange(steps)
    return np.where(k < steps // 2, kind(start) + step * k.astype(kind), kind(end) - step * (steps - k - 1).astype(kind)), d


@function(tensors=False)
def linspace(start, end, steps, *, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """`steps` values evenly spaced from `start` to `end`, both included."""
    check_options("linspace", device, layout, pin_memory, dtype, out)
    if out is not None:
        return made_in("linspace", out, requires_grad, lambda d: linspace(start, end, steps, dtype=d))
    array, d = spaced("linspace", start, end, steps, dtype)
    return made(from_array(dtypes.to_stored(array, d), d), requires_grad)


@function(tensors=False)
def logspace(start, end, steps, base=10.0, *, out=None, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """`base` to the power of `linspace(start, end, steps)`."""
    check_options("logspace", device, layout, pin_memory, dtype, out)
    if out is not None:
        return made_in("logspace", out, requires_grad, lambda d: logspace(start, end, steps, base, dtype=d))
    exponents, d = spaced("logspace", start, end, steps, dtype)
    wide = exponents.astype(np.complex128 if d.is_complex else np.float64)
    return made(from_array(dtypes.to_stored(number("logspace", base, "base") ** wide, d), d), requires_grad)


@function(tensors=False)
def eye(n, m=None, *, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """The identity: ones on the diagonal of an (n, m) matrix."""
    check_options("eye", device, layout, dtype=dtype, out=out)
    if out is not None:
        return made_in("eye", out, requires_grad, lambda d: eye(n, n if m is None else m, dtype=d))
    d = check_dtype(dtype, "eye") or dtypes.default_dtype()
    for name, size in (("n", n), ("m", m)):
        if size is not None and size < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {size}")
    room_for(n * (n if m is None else m))
    return finish(from_array(np.eye(n, m, dtype=np.float32), d), requires_grad)
