"""Owns what the test files share: finite differences, second derivatives, comparison with PyTorch, counts of the engine.

A function under test is `f(m, *tensors)`, where `m` is tapegrad or torch.
"""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import memory

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None

MODULES = [tg] if torch is None else [tg, torch]


def counts() -> dict:
    """Live slots, entries and bytes."""
    held = memory.statistics()
    return {name: held[name] for name in ("slots_live", "entries_live", "bytes_live")}


def random_arrays(shapes, rng):
    """Elements of either sign, none near zero, where many functions have kinks."""
    return [np.asarray(rng.uniform(0.3, 1.5, s) * rng.choice([-1, 1], s)) for s in shapes]


def leaf(m, array, requires_grad=True):
    """A leaf of module `m` with the array's elements, dtype, shape and strides."""
    array = np.asarray(array)
    steps = tuple(s // array.itemsize for s in array.strides)
    dtype = getattr(m, array.dtype.name)
    dense = array.size and all(s > 0 for s, n in zip(steps, array.shape) if n > 1)
    order = sorted(range(array.ndim), key=lambda k: -abs(steps[k])) if dense else list(range(array.ndim))
    back = [order.index(k) for k in range(array.ndim)]
    base = m.tensor(np.array(array.transpose(order), order="C"), dtype=dtype)
    base = base.detach().permute(back) if order != back or order != sorted(order) else base
    base = base.detach()
    return base.requires_grad_() if requires_grad and array.dtype.kind == "f" else base


def value(t):
    """The elements as a NumPy array; as float32 or complex64 where NumPy has no such dtype."""
    if str(getattr(t, "dtype", "")).endswith(("bfloat16", "complex32")):
        t = t.detach().to(getattr(tg if isinstance(t, tg.Tensor) else torch, "float32" if t.dtype.is_floating_point else "complex64"))
    return np.array(t.detach().numpy(force=True)) if hasattr(t, "detach") else np.asarray(t)


def close(a, b, tolerance=1e-9, name=""):
    """Equal up to rounding, with the same shape and the same places of nan and inf."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, f"{name}: shape {a.shape}, expected {b.shape}"
    if a.dtype.kind in "fc" or b.dtype.kind in "fc":
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)
    else:
        np.testing.assert_array_equal(a, b, err_msg=name)


def steps_that_matter(t) -> tuple:
    """The strides of the dims that have more than one element."""
    return tuple(s for s, n in zip(t.stride(), t.shape) if n > 1) if t.numel() else ()


def outputs_of(result) -> list:
    return [t for t in result] if isinstance(result, (tuple, list)) else [result]


def weighted(m, outputs, weights):
    """The scalar sum of the floating-point outputs times fixed weights."""
    terms = [(t * leaf(m, w.astype(value(t).dtype), False)).sum() for t, w in zip(outputs, weights) if t.requires_grad]
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def derivatives(m, f, arrays, weights, directions, second=True):
    """(output values, outputs' dtypes and strides, gradients, second derivatives in one direction) of `f` in module `m`."""
    leaves = [leaf(m, a) for a in arrays]
    outputs = outputs_of(f(m, *leaves))
    layouts = [(str(t.dtype).rpartition(".")[2], tuple(t.shape), steps_that_matter(t)) for t in outputs]
    values = [value(t) for t in outputs]
    wanted = [x for x in leaves if x.requires_grad]
    total = weighted(m, outputs, weights)
    if total is None or not wanted:
        return values, layouts, None, None
    first = m.autograd.grad(total, wanted, create_graph=second, allow_unused=True)
    gradients = [None if g is None else value(g) for g in first]
    seconds = None
    if second:
        terms = [(g * leaf(m, d, False)).sum() for g, d in zip(first, directions) if g is not None and g.requires_grad]
        if terms:
            again = m.autograd.grad(sum(terms[1:], terms[0]), wanted, allow_unused=True)
            seconds = [None if g is None else value(g) for g in again]
    return values, layouts, gradients, seconds


def zero_filled(gradients, arrays):
    return [np.zeros(a.shape) if g is None else g for g, a in zip(gradients, arrays)]


def difference(scalar, arrays, directions):
    """The directional derivative of `scalar(arrays)` and an estimate of its error (five-point formula at two steps)."""
    at = lambda h: scalar([a + h * d for a, d in zip(arrays, directions)])
    estimate = lambda h: (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    coarse, fine = estimate(2e-4), estimate(1e-4)
    return fine, abs(coarse - fine)


def random_like(arrays, rng):
    return [rng.uniform(-1, 1, np.shape(a)).astype(np.float64) for a in arrays]


def check_against_differences(f, arrays, rng, second=True, smooth=True, tolerance=2e-6):
    """First and second derivatives of `f` (of tapegrad, in float64) against finite differences in one random direction.

    Where the differences themselves are uncertain (a kink is near) nothing is concluded, unless `smooth` says that there is none.
    """
    arrays = [np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in arrays]
    real = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    outputs = outputs_of(f(tg, *[leaf(tg, a, False) for a in arrays]))
    weights = random_like([value(t) for t in outputs], rng)
    directions, seconds = random_like([arrays[k] for k in real], rng), random_like([arrays[k] for k in real], rng)

    def place(parts):
        whole = list(arrays)
        for k, a in zip(real, parts):
            whole[k] = a
        return whole

    def scalar(parts):
        outputs = outputs_of(f(tg, *[leaf(tg, a, False) for a in place(parts)]))
        return sum(float((value(t) * w).sum()) for t, w in zip(outputs, weights) if value(t).dtype.kind == "f")

    def slope(parts):
        _, _, gradients, _ = derivatives(tg, f, place(parts), weights, seconds, False)
        return 0.0 if gradients is None else sum(float((g * d).sum()) for g, d in zip(zero_filled(gradients, parts), seconds))

    parts = [arrays[k] for k in real]
    _, _, gradients, again = derivatives(tg, f, arrays, weights, seconds, second)
    _compare(scalar, gradients, parts, directions, smooth, tolerance, "first derivative")
    if second:
        _compare(slope, again, parts, directions, smooth, tolerance, "second derivative")


def _compare(function, gradients, parts, directions, smooth, tolerance, name):
    expected, doubt = difference(function, parts, directions)
    found = 0.0 if gradients is None else sum(float((g * d).sum()) for g, d in zip(zero_filled(gradients, parts), directions))
    allowed = tolerance * (1 + abs(expected))
    if not np.isfinite(expected) or doubt > allowed:
        assert not smooth, f"{name}: the differences are uncertain: {expected} +- {doubt}"
        return
    assert abs(found - expected) <= allowed, f"{name} is {found}, finite differences say {expected} +- {doubt}"


def check_against_torch(f, arrays, rng, second=True, layout=True, tolerance=1e-9):
    """Values, dtypes, shapes, strides, gradients and second derivatives of `f` against PyTorch."""
    if torch is None:
        return
    try:
        shapes = [value(t) for t in outputs_of(f(torch, *[leaf(torch, a, False) for a in arrays]))]
        weights = random_like(shapes, rng)
        directions = random_like([a for a in arrays if np.asarray(a).dtype.kind == "f"], rng)
        directions = [d.astype(np.asarray(a).dtype) for d, a in zip(directions, [a for a in arrays if np.asarray(a).dtype.kind == "f"])]
        expected = derivatives(torch, f, arrays, weights, directions, second)
    except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
        refused(f, arrays, error)
        return
    found = derivatives(tg, f, arrays, weights, directions, second)
    for k, (a, b) in enumerate(zip(found[0], expected[0], strict=True)):
        close(a, b, tolerance, f"output {k}")
    for k, (a, b) in enumerate(zip(found[1], expected[1], strict=True)):
        assert a[:2] == b[:2] and (a == b or not layout), f"output {k} is {a}, torch has {b}"
    real = [a for a in arrays if np.asarray(a).dtype.kind == "f"]
    for name, a, b in (("gradient", found[2], expected[2]), ("second derivative", found[3], expected[3])):
        a = [np.zeros(x.shape) for x in real] if a is None else zero_filled(a, real)
        b = [np.zeros(x.shape) for x in real] if b is None else zero_filled(b, real)
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            close(x, y, tolerance, f"{name} {k}")


def refused(f, arrays, error):
    """What PyTorch refuses, tapegrad refuses with the same type of exception."""
    if "modified by an inplace operation" in str(error):
        return  # tapegrad saves less, so it may accept the program; finite differences judge the result
    try:
        outputs = f(tg, *[leaf(tg, a) for a in arrays])
        sum(t.sum() for t in outputs_of(outputs)).backward()
    except type(error):
        return
    except Exception as other:
        raise AssertionError(f"torch raises {error!r}, tapegrad {other!r}") from other
    raise AssertionError(f"torch raises {error!r}, tapegrad nothing")


def check_error_as_torch(call):
    """`call(m)` raises in tapegrad what it raises in torch, in the same words."""
    found, expected = (error_of(call, m) for m in (tg, torch))
    assert found == expected


def check_module_as_torch(text: str):
    """`nn.<text>` has torch's repr, initial parameters and buffers for a seed."""
    found = []
    for m in (tg, torch):
        m.manual_seed(1)
        module = eval("nn." + text, {"nn": m.nn})
        found.append((repr(module), {k: value(v).tolist() for k, v in module.state_dict().items()}))
    assert found[0] == found[1]


def error_of(call, m):
    """(type's name, text) of the exception that `call(m)` raises, with the library's own name left out of the text."""
    with pytest.raises(Exception) as caught:
        call(m)
    return caught.type.__name__, str(caught.value).replace("tapegrad", "torch").replace("torch.Tensor", "Tensor").replace("torch Tensor", "Tensor")


def check_error(call, kind, text):
    """`call()` raises an exception of this type with exactly this text."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
