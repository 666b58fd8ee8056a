"""Owns the checks that follow from the op table: each elementwise record against its plain twin, PyTorch and finite differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import core, dispatch, dtypes, install, kernels
from tapegrad.ops.registry import Elementwise

core.start()
OPS: list[Elementwise] = install.elementwise_ops()
PUBLIC = [op for op in OPS if op.function is True or op.method]
DIFFERENTIABLE = [op for op in OPS if op.differentiable and not all(text in (None, "0") for text in op.grads)]
# Derivatives that are step functions of an input, or that PyTorch defines apart from the value (fmod: the divisor's steps).
LAYOUTS = ["contiguous", "transposed", "strided", "broadcast", "scalar", "empty"]
SHAPES = {"scalar": (), "empty": (0, 3)}
name_of = lambda op: op.name


def call(op: Elementwise, *operands):
    """The op on tensors, public or not."""
    return dispatch.call(op, *operands) if len(op.inputs) <= 2 else dispatch.finish(op, list(operands))


def has_kind(op, kind):
    return kind in op.kinds


def sample(op: Elementwise, k: int, dtype: str, shape, rng):
    """Elements for input `k` from the record's domain."""
    low, high = op.domain[k]
    if op.mask and k == 0 or dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith(("int", "uint")):
        low, high = max(int(np.ceil(low)), 0 if dtype.startswith("u") else -9), max(int(high), int(np.ceil(low)) + 1)
        return rng.integers(low, high + 1, shape).astype(dtype)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def operands(op: Elementwise, dtype: str, layout: str, rng) -> list:
    """Arrays of one layout for every input."""
    result = []
    for k in range(len(op.inputs)):
        if layout in SHAPES:
            result.append(sample(op, k, dtype, SHAPES[layout], rng))
        elif layout == "contiguous":
            result.append(sample(op, k, dtype, (3, 5), rng))
        elif layout == "transposed":
            result.append(sample(op, k, dtype, (5, 3), rng).T)
        elif layout == "strided":
            result.append(sample(op, k, dtype, (3, 10), rng)[:, ::2])
        else:
            result.append(sample(op, k, dtype, [(3, 5), (5,), (3, 1)][k], rng))
    return result


def view(m, array):
    """A tensor of module `m` that shares the layout of the array, strides included."""
    whole = array if array.base is None else array.base
    base = m.tensor(np.array(whole, order="C"), dtype=getattr(m, whole.dtype.name))
    if array.base is None or whole.shape == array.shape and whole.strides == array.strides:
        return base
    if whole.shape == array.shape[::-1] and array.ndim == 2 and whole.shape[0] == array.shape[1] and array.strides == whole.strides[::-1]:
        return base.t()
    return base[:, ::2]


DTYPES = {"F": ("float32", "float64"), "I": ("int64", "int32", "uint8"), "B": ("bool",)}
CASES = [(op, dtype) for op in OPS for kind, names in DTYPES.items() if has_kind(op, kind) for dtype in names]  # fmt: skip


def twin(op: Elementwise, dtype: str, arrays):
    """The record's formula run on NumPy arrays."""
    if dtype == "float32":  # the exact value: the formula in float64
        dtype, arrays = "float64", [a if a.dtype == bool else a.astype(np.float64) for a in arrays]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = kernels.plain(op, dtypes.BY_NAME[dtype], 0, **dict(zip(op.inputs, np.broadcast_arrays(*arrays), strict=True)))
    return np.asarray(result)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op,dtype", CASES, ids=[f"{op.name}-{dtype}" for op, dtype in CASES])
def test_value_dtype_and_layout(op, dtype, layout, rng):
    arrays = operands(op, dtype, layout, rng)
    tensors = [view(tg, a) for a in arrays]
    before = [a.copy() for a in arrays]
    result = call(op, *tensors)
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    assert tuple(result.shape) == shape
    assert result.dtype is kernels.result_of(op, dtypes.BY_NAME[dtype])
    for t, a in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(support.value(t), a, err_msg="an operand has changed")
    if np.prod(shape, dtype=int):
        expected = dtypes.from_stored(dtypes.to_stored(twin(op, dtype, arrays), result.dtype), result.dtype)
        support.close(support.value(result), np.broadcast_to(expected, shape), 2e-6 if dtype == "float32" else 1e-12, op.name)


def torch_function(op: Elementwise, torch):
    names = {"to_" + d: (lambda d: lambda x: x.to(getattr(torch, d)))(d) for d in dtypes.BY_NAME}
    names |= {"where": torch.where, "masked_fill": None, "clamp_both": torch.clamp, "round": torch.round, "logit": torch.special.logit,
              "xlogy": torch.special.xlogy, "trunc_divide": lambda x, y: torch.div(x, y, rounding_mode="trunc")}  # fmt: skip
    return None if op.function == "nn" else names.get(op.name) or getattr(torch, op.name, None)


@pytest.mark.torch
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op,dtype", CASES, ids=[f"{op.name}-{dtype}" for op, dtype in CASES])
def test_as_torch(op, dtype, layout, rng, torch):
    function = torch_function(op, torch)
    if function is None or op.name in ("masked_fill", "positive") or op.name.startswith("to_"):  # no such function, or no copy
        return
    arrays = operands(op, dtype, layout, rng)
    result = call(op, *[view(tg, a) for a in arrays])
    expected = function(*[view(torch, a) for a in arrays])
    assert str(result.dtype).rpartition(".")[2] == str(expected.dtype).rpartition(".")[2]
    assert support.steps_that_matter(result) == support.steps_that_matter(expected), op.name
    tolerance = 3e-5 if dtype == "float32" else 1e-11
    support.close(support.value(result), support.value(expected), tolerance, op.name)


@pytest.mark.torch
@pytest.mark.parametrize("op", PUBLIC, ids=name_of)
def test_special_values_as_torch(op, torch):
    """Signed zeros, infinities and nan, value and gradient."""
    function = torch_function(op, torch)
    if function is None or op.name in ("sign", "sgn", "remainder", "fmod", "hypot") or "F" not in op.kinds or len(op.inputs) > 2 or op.mask:
        return
    special = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 2.5, np.inf, -np.inf, np.nan, 1e-300, -1e-300, 700.0, -700.0, 1e300, 3.0])
    arrays = [special] if len(op.inputs) == 1 else [a.ravel() for a in np.meshgrid(special, special)]
    result, expected = call(op, *[tg.tensor(a) for a in arrays]), function(*[torch.tensor(a) for a in arrays])
    a, b = support.value(result), support.value(expected)
    if op.name in ("pow", "sigmoid", "expm1"):  # subnormal results may be flushed
        b, a = np.where(np.abs(b) < 1e-305, 0, b), np.where(np.abs(a) < 1e-305, 0, a)
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=(1e-16 if op.name == "logaddexp2" else 1e-300) if b.dtype.kind == "f" else 0, err_msg=op.name)


def points(op, rng, shapes=None):
    return [sample(op, k, "float64", (shapes or [(2, 3)] * 3)[k], rng) for k in range(len(op.inputs))]


def far_from_kinks(op, arrays):
    """Move the samples off the places where the function is not smooth: integers, equal operands, zero."""
    if op.name in ("frac", "abs", "relu", "sign"):
        return [np.where(np.abs(a - np.round(a)) < 0.05, a + 0.1, a) for a in arrays]
    if op.name in ("remainder", "fmod"):
        q = np.divide(*np.broadcast_arrays(*arrays))
        return [np.where(np.abs(q - np.round(q)) < 0.05, arrays[0] + 0.2 * np.abs(arrays[1]), arrays[0]), arrays[1]]
    return arrays


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=name_of)
@pytest.mark.parametrize("form", ["same", "broadcast", "scalar"])
def test_derivatives_against_differences(op, form, rng):
    if op.result not in (None, "float64") or "F" not in op.kinds:
        return
    shapes = {"same": None, "broadcast": [(2, 3), (3,), (2, 1)], "scalar": [(), (), ()]}[form]
    arrays = far_from_kinks(op, points(op, rng, shapes))
    count = len(arrays) - op.numbers
    fixed = [tg.tensor(a) for a in arrays[count:]]
    kinked = op.function == "nn" or op.name in ("clamp_both", "round")
    support.check_against_differences(lambda m, *xs: call(op, *xs, *fixed), arrays[:count], rng, smooth=not kinked)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=name_of)
def test_float32_derivative_is_close_to_float64(op, rng):
    if op.result is not None or op.mask or "F" not in op.kinds:
        return
    arrays = far_from_kinks(op, points(op, rng))
    found = []
    for dtype in (tg.float32, tg.float64):
        tensors = [tg.tensor(a.astype(np.float32), dtype=dtype) for a in arrays]
        wanted = [t.requires_grad_() for t, text in zip(tensors, op.grads, strict=True) if text is not None]
        result = call(op, *tensors)
        gradients = tg.autograd.grad(result.sum(), wanted)
        assert all(g.dtype is dtype for g in gradients)
        found.append([support.value(g) for g in gradients])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


INPLACE = [op for op in OPS if op.method and op.inplace and len(op.inputs) <= 2]


@pytest.mark.parametrize("op", INPLACE, ids=name_of)
def test_inplace_equals_functional(op, rng):
    dtype = "float64" if "F" in op.kinds else "int64"
    arrays = operands(op, dtype, "contiguous", rng)
    first, *rest = [tg.tensor(a) for a in arrays]
    expected = call(op, first, *rest)
    pointer, version = first.data_ptr(), first._version
    result = getattr(first, op.name + "_")(*rest)
    assert result is first and first.data_ptr() == pointer and first._version == version + 1
    np.testing.assert_array_equal(support.value(first), support.value(expected).astype(dtype))
    if op.differentiable and op.result is None and dtype == "float64":
        gradients = []
        for inplace in (False, True):
            tensors = [tg.tensor(a, requires_grad=True) for a in arrays]
            start = tensors[0] * 1.0
            value = getattr(start, op.name + "_")(*tensors[1:]) if inplace else call(op, start, *tensors[1:])
            if value.requires_grad:
                gradients.append([support.value(g) for g in tg.autograd.grad((value * value).sum(), tensors, allow_unused=True) if g is not None])
        for a, b in zip(*gradients, strict=True) if gradients else ():
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("op", [op for op in PUBLIC if len(op.inputs) == 2 and op.method and not op.mask], ids=name_of)
@pytest.mark.parametrize("number", [2, 2.0, True, 0.5], ids=str)
def test_python_numbers_as_torch(op, number, torch, rng):
    """A number on the right, of each type, with tensors of each kind."""
    if not hasattr(torch, op.name) or (op.name, number) == ("pow", True):
        return
    for dtype in ("float32", "int64", "uint8", "bool"):
        a = sample(op, 0, dtype, (4,), rng)
        outcomes = []
        for m in (tg, torch):
            try:
                result = getattr(m.tensor(a), op.name)(number)
                outcomes.append((str(result.dtype).rpartition(".")[2], support.value(result)))
            except (TypeError, RuntimeError, ZeroDivisionError) as error:
                outcomes.append((type(error).__name__, np.zeros(0)))
        found, expected = outcomes
        if expected[0] == "NotImplementedError":  # torch has no kernel for the dtype
            continue
        if expected[0] == "TypeError" and not isinstance(found[0], type) and found[0] not in ("TypeError", "RuntimeError"):
            continue  # torch takes only tensors here; tapegrad accepts the number
        assert found[0] == expected[0], (op.name, dtype, number)
        np.testing.assert_allclose(found[1], expected[1], rtol=3e-5, err_msg=f"{op.name} {dtype}")


@pytest.mark.parametrize("op", [op for op in OPS if op.operators], ids=name_of)
def test_operators_are_the_op(op, rng):
    dtype = "float64" if "F" in op.kinds else "int64"
    arrays = operands(op, dtype, "broadcast", rng)
    tensors = [tg.tensor(a) for a in arrays]
    expected = support.value(call(op, *tensors))
    for k, operator in enumerate(op.operators):
        first, *rest = tensors if k != 1 else tensors[::-1]
        if k == 2:
            first = first.clone()
        np.testing.assert_array_equal(support.value(getattr(first, operator)(*rest)), expected)


def test_every_record_has_gradients_for_its_inputs():
    for op in OPS:
        assert len(op.grads) == len(op.inputs), op.name
        assert len(op.domain) == len(op.inputs), op.name
        assert op.forward, op.name
