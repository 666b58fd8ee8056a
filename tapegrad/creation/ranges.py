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
from tapegrad.ops.checks import no_kernel
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


def fused(x, y, added):
    """x * y + added, rounded once, as torch's compiler contracts it: in the next wider type; `y` is real."""
    if np.iscomplexobj(added):
        return fused(x.real, y, added.real) + fused(x.imag, y, added.imag) * added.dtype.type(1j)
    wide = np.float64 if np.asarray(added).dtype == np.float32 else np.longdouble
    return (np.asarray(x, wide) * np.asarray(y, wide) + np.asarray(added, wide)).astype(np.asarray(added).dtype)


LANES = {"float32": 8, "float64": 4, "float16": 16, "bfloat16": 16}  # numbers that torch's kernel makes at a time, from the first of them, rounded; twice in a turn


def rounded(array, d):
    """Numbers as `d` holds them, in the dtype that it is computed in."""
    return dtypes.from_stored(dtypes.to_stored(array, d), d)


def counted(start, step, index, count: int, d):
    """The elements of arange at `index` in float64, rounded where torch's kernel rounds."""
    exact = fused(step, index, np.float64(start))
    lanes = LANES.get(d.name)
    if lanes is None:
        return exact
    lane = index % lanes
    first = rounded(fused(step, index - lane, np.float64(start)), d).astype(np.float64)
    return np.where(index < count // (2 * lanes) * (2 * lanes), fused(step, lane, first), exact)


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
        raise no_kernel("arange_cpu", d)
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
            array[at : at + (1 << 20)] = dtypes.to_stored(counted(start, step, index, count, d), d)
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


def spaced(name, start, end, steps, dtype, wide=False):
    """(`steps` NumPy numbers evenly spaced from `start` to `end`, the dtype of the result); with `wide` counted in float64."""
    if hasattr(steps, "_slot") and not steps.ndim and steps.dtype.category == dtypes.INTEGER:
        steps = steps.item()
    if isinstance(steps, builtins.float) or not hasattr(steps, "__index__"):
        raise TypeError(f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    ranks = [v.ndim if hasattr(v, "_slot") else 0 for v in (start, end)]
    if any(ranks):
        both = f"start with {ranks[0]} dimension(s)" + f" and end with {ranks[1]} dimension(s)" * all(hasattr(v, "_slot") for v in (start, end))
        raise RuntimeError(f"{name} only supports 0-dimensional start and end tensors, but got {both if hasattr(start, '_slot') else f'end with {ranks[1]} dimension(s)'}.")
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
    if d is dtypes.bool_ and steps > 1:
        raise no_kernel(f"{name}_cpu", d)
    kind = dtypes.BY_NAME[d.compute].numpy.type if d.category >= dtypes.FLOAT and (d.is_complex or not wide) else np.float64
    if steps == 1:
        return np.array([start], kind), d
    # Symmetric, as torch: the second half counts back from the end.
    step = (kind(end) - kind(start)) / kind(steps - 1) if steps > 1 else kind(0)
    k = np.arange(steps)
    with np.errstate(invalid="ignore", over="ignore"):
        if d.reduced and not d.is_complex and not wide:  # every operation rounds
            start, end = rounded(kind(start), d), rounded(kind(end), d)
            step = rounded(rounded(end - start, d) / rounded(kind(steps - 1), d), d)
            along = lambda n: rounded(step * rounded(n.astype(kind), d), d)  # noqa: E731
            return np.where(k < steps // 2, start + along(k), end - along(steps - k - 1)), d
        return np.where(k < steps // 2, fused(step, k, kind(start)), fused(-step, steps - k - 1, kind(end))), d


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
    exponents, d = spaced("logspace", start, end, steps, dtype, wide=True)
    base = number("logspace", base, "base")
    if not isinstance(base, builtins.complex) and not np.iscomplexobj(exponents):
        values = np.array([power(builtins.float(base), x) for x in exponents.tolist()], np.float64)  # as the C library has it: NumPy's differ in the last bit
    else:
        values = base ** exponents.astype(np.complex128)
    return made(from_array(dtypes.to_stored(values, d), d), requires_grad)


def power(base: builtins.float, exponent: builtins.float) -> builtins.float:
    """C's pow, which does not raise."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan


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
