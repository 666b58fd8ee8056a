"""Owns the half-precision and complex dtypes: rounding, conversions, kernels, gradients, views of parts, refusals, memory, printing."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import cautions, core, dispatch, dtypes, install, kernels
from tapegrad.engine import bind, layout
from tapegrad.ops.registry import BY_NAME

core.start()
HALVES = (tg.float16, tg.bfloat16)
OPS = [op for op in install.elementwise_ops() if not op.name.startswith("to_")]
REAL = [op for op in OPS if "F" in op.kinds]
COMPLEX = [op for op in OPS if "C" in op.kinds]
GRADIENTS = [op for op in COMPLEX if op.differentiable and not op.mask]
name_of = lambda x: x.name  # noqa: E731


def call(op, *operands):
    """The op on tensors, public or not."""
    return dispatch.call(op, *operands) if len(op.inputs) <= 2 else dispatch.finish(op, list(operands))


def general(rng, shape):
    """Complex numbers off the axes, where the branch cuts are."""
    return rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape) + 1j * rng.uniform(0.3, 1.5, shape)


def to_bfloat16(values):
    """Rounded to nearest even in the upper half of a float32, by another way than the library's."""
    low = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    high = ((values.view(np.uint32) & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    with np.errstate(all="ignore"):
        beyond = np.where(np.isinf(high), np.copysign(np.float64(2.0**128), high), high.astype(np.float64))
        a, b = np.abs(values.astype(np.float64) - low), np.abs(values.astype(np.float64) - beyond)
    odd = (values.view(np.uint32) >> 16) & 1
    return np.where(np.isfinite(values), np.where((b < a) | ((a == b) & (odd == 1)), high, low), values)


# --- the table ------------------------------------------------------------------------------------------------------
def test_every_row_is_known_everywhere():
    from tapegrad.engine.native import elements

    assert [d.code for d in dtypes.BY_CODE] == list(range(len(dtypes.BY_CODE))) and len(dtypes.BY_CODE) <= layout.DTYPES
    assert {d.name for d in dtypes.BY_CODE} == set(elements.TYPES)
    first = bind.state_cell("convert").value
    for d in dtypes.BY_CODE:
        assert BY_NAME["to_" + d.name].code == first + d.code
        assert getattr(tg, d.name) is d and tg.ones(2, dtype=d).element_size() == d.itemsize and pickle.loads(pickle.dumps(d)) is d
        assert d.is_complex or isinstance(tg.ones(1, dtype=d), getattr(tg, d.legacy))
    assert [dtypes.BY_CODE[c].name for c in (layout.FLOAT32, layout.FLOAT64, layout.INT64, layout.BOOL)] == ["float32", "float64", "int64", "bool"]


def test_finfo_and_iinfo():
    for d in (tg.float16, tg.float32, tg.float64):
        info, expected = tg.finfo(d), np.finfo(d.numpy)
        assert (info.eps, info.max, info.min, info.tiny, info.bits) == (expected.eps, expected.max, expected.min, expected.tiny, expected.bits)
    assert (tg.finfo(tg.bfloat16).eps, tg.finfo(tg.bfloat16).tiny) == (2.0**-7, 2.0**-126) and tg.finfo(tg.complex128) == tg.finfo(tg.float64)
    assert (tg.iinfo(tg.int8).min, tg.iinfo(tg.uint8).max) == (-128, 255)
    assert repr(tg.finfo(tg.float16)) == (
        "finfo(resolution=0.001, min=-65504, max=65504, eps=0.000976562, smallest_normal=6.10352e-05, tiny=6.10352e-05, dtype=float16)"
    )
    with pytest.raises(TypeError, match="requires a floating point input type"):
        tg.finfo(tg.int8)
    with pytest.raises(TypeError, match="requires an integer input type"):
        tg.iinfo(tg.float16)


# --- half precision -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("d", HALVES, ids=name_of)
def test_rounding_to_nearest_even(d, rng):
    special = [0.0, -0.0, 1.0, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65504.0, 65519.9, 65520.0, 3.4e38, 6e-8, 2.9e-8, 1e-40, np.inf, -np.inf, np.nan]
    bits = rng.integers(0, 2**32, 5000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([np.array(special, np.float32), bits])
    with np.errstate(all="ignore"):
        expected = values.astype(np.float16).astype(np.float32) if d is tg.float16 else to_bfloat16(values)
        doubles = values.astype(np.float64)
    x = tg.tensor(values)
    for made in (x.to(d), tg.tensor(values, dtype=d), tg.tensor(doubles).to(d), tg.tensor(doubles.tolist(), dtype=d)):
        assert made.dtype is d
        np.testing.assert_array_equal(made.float().numpy(), expected)
        np.testing.assert_array_equal(np.signbit(made.float().numpy()[~np.isnan(expected)]), np.signbit(expected[~np.isnan(expected)]))


@pytest.mark.parametrize("op", REAL, ids=name_of)
@pytest.mark.parametrize("d", HALVES, ids=name_of)
def test_half_precision_is_float32_rounded_once(op, d, rng):
    """Value and layout; the derivative in compiled code, in every layout the same."""
    shapes = [(4, 6), (6,), (4, 1)]
    arrays = [rng.uniform(*op.domain[k], shapes[k]) for k in range(len(op.inputs))]
    if op.name == "polar" or (op.name == "complex" and d is tg.bfloat16):
        values = tg.ones(2, dtype=d)
        with pytest.raises(NotImplementedError if d is tg.float16 else RuntimeError, match="polar_cpu|Expected both inputs to be Half, Float or Double"):
            getattr(tg, op.name)(values, values)
        return
    narrow = [tg.tensor(a > 0) if op.mask and k == 0 else tg.tensor(a, dtype=d) for k, a in enumerate(arrays)]
    wide = [t if t.dtype is tg.bool else t.float() for t in narrow]
    result, expected = call(op, *narrow), call(op, *wide)
    assert result.dtype is kernels.result_of(op, d)
    np.testing.assert_array_equal(support.value(result), support.value(expected.to(result.dtype)))
    turned = call(op, narrow[0].t(), *(x.t() for x in narrow[1:])) if len(op.inputs) == 1 else call(op, *[x.expand(4, 6).t() for x in narrow])
    np.testing.assert_array_equal(support.value(turned), support.value(result).T)
    if op.differentiable and op.result is None and not op.mask:
        leaves = [x.detach().expand(4, 6).clone().requires_grad_(text is not None) for x, text in zip(narrow, op.grads, strict=True)]
        wanted = [x for x in leaves if x.requires_grad]
        found = tg.autograd.grad(call(op, *leaves).sum(), wanted)
        doubles = [x.detach().float().requires_grad_(x.requires_grad) for x in leaves]
        exact = tg.autograd.grad(call(op, *doubles).sum(), [x for x in doubles if x.requires_grad])
        for a, b in zip(found, exact, strict=True):
            assert a.dtype is d
            np.testing.assert_allclose(support.value(a), support.value(b), rtol=0.02 if d is tg.float16 else 0.1, atol=0.02 if d is tg.float16 else 0.1)


@pytest.mark.parametrize("d", HALVES, ids=name_of)
def test_numbers_are_not_rounded_where_torch_does_not(d):
    x = tg.arange(1, 200, dtype=d).requires_grad_()
    exact = lambda f: f(x.detach().float()).to(d).tolist()  # noqa: E731
    rounded = lambda f: f(x.detach().float(), tg.tensor(0.1, dtype=d).float()).to(d).tolist()  # noqa: E731
    for _ in range(2):  # the second call may be answered by the call cache
        assert (x * 0.1).tolist() == (0.1 * x).tolist() == (x * tg.tensor(0.1)).tolist() == exact(lambda t: t * 0.1)
        assert (x / 0.3).tolist() == exact(lambda t: t / 0.3) and x.detach().clone().mul_(0.1).tolist() == exact(lambda t: t * 0.1)
        assert (x + 0.1).tolist() == (0.1 + x).tolist() == rounded(lambda t, n: t + n)
    (x * 0.1).sum().backward()
    assert x.grad.dtype is d and set(x.grad.tolist()) == {tg.tensor(0.1, dtype=d).item()}
    assert (x * 0.1).grad_fn.name() == "MulBackward0"


@pytest.mark.parametrize("d", HALVES, ids=name_of)
def test_sums_are_kept_in_float32(d):
    x = tg.ones(3000, 3, dtype=d)
    assert x.sum(0).tolist() == x.t().sum(1).tolist() == x.t().contiguous().sum(-1).tolist() == [tg.tensor(3000.0, dtype=d).item()] * 3
    assert x.sum().item() == tg.tensor(9000.0, dtype=d).item() and tg.ones(70000, dtype=d).mean().item() == 1.0
    assert x.cumsum(0)[-1].tolist() == [tg.tensor(3000.0, dtype=d).item()] * 3
    assert (x.t() @ x).tolist() == [[tg.tensor(3000.0, dtype=d).item()] * 3] * 3


STRUCTURAL = {
    "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(0), "logsumexp": lambda x: x.logsumexp(1), "var": lambda x: x.var(0),
    "std": lambda x: x.std(), "norm": lambda x: x.norm(), "norm 3": lambda x: x.norm(3, 1), "mean": lambda x: x.mean(0), "prod": lambda x: x.prod(1),
    "amax": lambda x: x.amax(0), "max": lambda x: x.max(1).values, "cumsum": lambda x: x.cumsum(0), "cumprod": lambda x: x.cumprod(1),
    "matmul": lambda x: x @ x.t(), "mv": lambda x: x @ x[0], "bmm": lambda x: x[None] @ x.t()[None], "sort": lambda x: x.sort(1).values,
    "index": lambda x: x[tg.tensor([0, 0, 1])], "gather": lambda x: x.gather(1, tg.tensor([[0, 1], [2, 2], [1, 0]])), "flip": lambda x: x.flip(0),
    "cat": lambda x: tg.cat([x, x.t()], 1), "stack": lambda x: tg.stack([x, x], 1), "repeat": lambda x: x.repeat(2, 1), "tril": lambda x: x.tril(),
    "expand": lambda x: x[:, :1].expand(3, 5) * 2, "where": lambda x: tg.where(x > 0, x, 0.5), "clamp": lambda x: x.clamp(-0.5, 0.5),
    "masked_fill": lambda x: x.masked_fill(x > 0, 2.0), "roll": lambda x: x.roll(1, 0), "diagonal": lambda x: x.diagonal(), "einsum": lambda x: tg.einsum("ij,kj->ik", x, x),
    "index_put": lambda x: x.index_put((tg.tensor([0, 0]),), x[:2], accumulate=True), "scatter": lambda x: x.scatter(0, tg.tensor([[0, 1, 2]]), x[2:]),
    "setitem": lambda x: write(x.clone()), "addmm": lambda x: tg.addmm(x, x, x, beta=0.5, alpha=2), "addcmul": lambda x: x.addcmul(x, x, value=0.5),
}  # fmt: skip


def write(x):
    x[0] = x[1] * 2
    x[1:, 0].mul_(3)
    return x


@pytest.mark.parametrize("name", STRUCTURAL)
@pytest.mark.parametrize("d", HALVES, ids=name_of)
def test_structural_ops_in_half_precision(name, d, rng):
    f = STRUCTURAL[name]
    x = tg.tensor(rng.uniform(-1, 1, (3, 3)), dtype=d).requires_grad_()
    y = x.detach().double().requires_grad_()
    found, expected = f(x), f(y)
    assert found.dtype is d
    bound = dict(rtol=4e-3, atol=4e-3) if d is tg.float16 else dict(rtol=4e-2, atol=4e-2)
    np.testing.assert_allclose(support.value(found), support.value(expected), **bound)
    (a,), (b,) = tg.autograd.grad((found * 2).sum(), [x]), tg.autograd.grad((expected * 2).sum(), [y])
    assert a.dtype is d
    np.testing.assert_allclose(support.value(a), support.value(b), **{k: 3 * v for k, v in bound.items()})


# --- complex numbers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", COMPLEX, ids=name_of)
def test_complex_kernels_equal_their_plain_twins(op, rng):
    arrays = [general(rng, (3, 4)) for _ in op.inputs]
    if op.mask:
        arrays[0] = arrays[0].real > 0
    with np.errstate(all="ignore"):
        expected = np.asarray(kernels.plain(op, tg.complex128, 0, **dict(zip(op.inputs, arrays, strict=True))))
    tensors = [tg.tensor(a) for a in arrays]
    for transform in (lambda t: t, lambda t: t.t().contiguous().t()):
        result = call(op, *map(transform, tensors))
        assert result.dtype is kernels.result_of(op, tg.complex128)
        support.close(support.value(result), expected.astype(support.value(result).dtype), 1e-12, op.name)
    single = call(op, *[t if t.dtype is tg.bool else t.cfloat() for t in tensors])
    support.close(support.value(single), expected.astype(support.value(single).dtype), 2e-5, op.name)


@pytest.mark.parametrize("op", GRADIENTS, ids=name_of)
def test_complex_derivatives(op, rng):
    """Against differences, twice; the compiled derivative, the recorded one and that of complex64 agree."""
    if op.name == "logaddexp" or "pow_0" in op.name:
        return
    arrays = [general(rng, (2,)) * (0.4 if op.name in ("asin", "acos", "atan", "atanh") else 1) for _ in op.inputs]
    leaves = [tg.tensor(a, requires_grad=True) for a in arrays]
    f = lambda *xs: call(op, *xs)  # noqa: E731
    assert tg.autograd.gradcheck(f, leaves) and tg.autograd.gradgradcheck(f, leaves)
    g = tg.tensor(general(rng, (2,))) if not op.result else tg.ones(2, dtype=tg.float64)
    compiled, recorded = tg.autograd.grad(f(*leaves), leaves, g), tg.autograd.grad(f(*leaves), leaves, g, create_graph=True)
    single = [x.detach().cfloat().requires_grad_() for x in leaves]
    narrow = tg.autograd.grad(f(*single), single, g.to(tg.float32 if op.result else tg.complex64))
    for a, b, c in zip(compiled, recorded, narrow, strict=True):
        support.close(support.value(a), support.value(b), 1e-12, op.name)
        support.close(support.value(c), support.value(a), 1e-4, op.name)
        assert a.dtype is tg.complex128 and c.dtype is tg.complex64


COMPLEX_STRUCTURAL = {name: STRUCTURAL[name] for name in (
    "logsumexp", "var", "norm", "norm 3", "mean", "prod", "cumsum", "cumprod", "matmul", "mv", "bmm", "index", "gather", "flip", "cat", "stack",
    "repeat", "tril", "expand", "roll", "diagonal", "einsum", "index_put", "scatter", "setitem", "addmm", "addcmul")} | {
    "real": lambda x: x.real * x.imag, "view_as_real": lambda x: tg.view_as_real(x).square(), "abs": lambda x: x.abs(), "angle": lambda x: x.angle(),
    "conj": lambda x: x.conj() * x, "adjoint": lambda x: x.mH @ x, "vdot": lambda x: tg.vdot(x[0], x[1]), "outer": lambda x: x[0].outer(x[1]),
    "masked_fill": lambda x: x.masked_fill(x.real > 0, 2j), "where": lambda x: tg.where(x.imag > 0.8, x, 1j), "sum": lambda x: x.sum(0),
    "part written": lambda x: write_part(x.clone()), "lerp": lambda x: x.lerp(x * x, 0.3 + 0.2j), "mixed": lambda x: x * x.abs() + x.real,
    "prod with zero": lambda x: (x * tg.tensor([0.0, 1.0, 1.0], dtype=tg.float64)).prod(1), "alpha": lambda x: tg.add(x, x * x, alpha=2j),
}  # fmt: skip


def write_part(x):
    x.real.mul_(2)
    x.imag[0] = x.real[1] * 3
    return x * x


@pytest.mark.parametrize("name", COMPLEX_STRUCTURAL)
def test_complex_derivatives_of_structural_ops(name, rng):
    f = COMPLEX_STRUCTURAL[name]
    x = tg.tensor(general(rng, (3, 3)), requires_grad=True)
    assert tg.autograd.gradcheck(f, x) and tg.autograd.gradgradcheck(f, x)


def test_parts_make_complex_numbers_and_get_their_gradients(rng):
    x, y = (tg.tensor(rng.uniform(0.2, 1, (3,)), requires_grad=True) for _ in range(2))
    for f in (tg.complex, tg.polar, lambda a, b: tg.view_as_complex(tg.stack([a, b], -1)), lambda a, b: a * 1j + b):
        assert f(x, y).dtype is tg.complex128 and tg.autograd.gradcheck(f, [x, y]) and tg.autograd.gradgradcheck(f, [x, y])


def test_real_operands_get_the_real_part():
    x, z = tg.tensor([2.0], requires_grad=True), tg.tensor([1 + 3j], requires_grad=True)
    for create in (False, True):
        gx, gz = tg.autograd.grad((x * z).real.sum() + (x * z).imag.sum(), [x, z], create_graph=create)
        assert gx.dtype is tg.float32 and gx.tolist() == [4.0] and gz.dtype is tg.complex64 and gz.tolist() == [2 + 2j]


def test_gradients_descend():
    z = tg.tensor([1 + 2j, -0.5 + 1j], dtype=tg.complex128, requires_grad=True)
    for _ in range(200):
        loss = (z - (3 - 1j)).abs().square().sum()
        loss.backward()
        with tg.no_grad():
            z -= 0.1 * z.grad
        z.grad = None
    assert loss.item() < 1e-12


def test_seeds_of_complex_outputs():
    z = tg.ones(2, dtype=tg.complex64, requires_grad=True)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for real scalar outputs but got tapegrad.complex64"):
        z.sum().backward()
    for f, seed in ((lambda: z.sum(), tg.tensor(1.0)), (lambda: z.abs().sum(), tg.tensor(1j))):
        with pytest.raises(RuntimeError, match="For complex Tensors, both grad_output and output are required to have the same dtype"):
            f().backward(seed)
    z.sum().backward(tg.tensor(1j))
    assert z.grad.tolist() == [1j, 1j]


def test_views_of_parts_share_memory():
    z = tg.tensor([1 + 2j, 3 + 4j])
    z.real.add_(10)
    z.imag = tg.tensor([5.0, 6.0])
    tg.view_as_real(z)[1, 0] = 0
    assert z.tolist() == [11 + 5j, 6j] and z.real.data_ptr() == z.data_ptr() and z.real.stride() == (2,) and z._version == 3
    z.real = 7
    assert z.real.tolist() == [7, 7] and tg.view_as_complex(tg.view_as_real(z)).data_ptr() == z.data_ptr()
    x = tg.ones(2)
    assert x.real is x and x.conj() is x and z.conj().is_conj() and z.isreal().tolist() == [False, False]


def test_conversions_between_all_dtypes():
    for a, b in itertools.product(dtypes.BY_CODE, dtypes.BY_CODE):
        x = tg.tensor([[0, 1, 3], [2, 5, 1]], dtype=a)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for view in (x, x.t(), x[:, 1:], x[0, 1]):
                y = view.to(b)
                expected = view.tolist() if b is not tg.bool else (view != 0).tolist()
                assert y.dtype is b and y.tolist() == expected, (a, b)
    assert tg.tensor([1j, 0, 2]).bool().tolist() == [True, False, True]


def test_the_imaginary_part_is_discarded_with_one_warning():
    tg.set_warn_always(False)
    cautions._given.clear()
    z = tg.ones(2, dtype=tg.complex64)
    with pytest.warns(UserWarning, match="Casting complex values to real discards the imaginary part"):
        z.float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z.double()
        z.requires_grad_()
        z.bool()
        (z * tg.ones(2, requires_grad=True)).abs().sum().backward()


REFUSALS = [
    ("tg.ones(2, dtype=tg.complex64) < 1", NotImplementedError, "\"lt_cpu\" not implemented for 'ComplexFloat'"),
    ("tg.ones(2, dtype=tg.complex128).max()", NotImplementedError, "\"max_all\" not implemented for 'ComplexDouble'"),
    ("tg.ones(2, dtype=tg.complex64).max(0)", RuntimeError, "max(): does not support complex input"),
    ("tg.ones(2, dtype=tg.complex64).sort()", RuntimeError, " Sort does not support complex dtypes on CPU"),
    ("tg.ones(2, dtype=tg.complex64).clamp(0, 1)", NotImplementedError, "clamp is not supported for complex types"),
    ("tg.ones(2, dtype=tg.complex64).floor()", NotImplementedError, "floor is not supported for complex inputs"),
    ("tg.ones(2, dtype=tg.complex64).softmax(0)", NotImplementedError, "\"softmax_lastdim_kernel_impl\" not implemented for 'ComplexFloat'"),
    ("tg.ones(2, dtype=tg.complex64).abs_()", RuntimeError, "In-place abs is not supported for complex tensors."),
    ("tg.ones(2).imag", RuntimeError, "imag is not implemented for tensors with non-complex dtypes."),
    ("tg.ones(2, dtype=tg.float16) & 1", NotImplementedError, "\"bitwise_and_cpu\" not implemented for 'Half'"),
    ("~tg.ones(2, dtype=tg.bfloat16)", TypeError, "~ (operator.invert) is only implemented on integer and Boolean-type tensors"),
    ("tg.tensor([1j], dtype=tg.float32)", TypeError, "must be real number, not complex"),
    ("tg.full((2,), 70000.0, dtype=tg.float16)", RuntimeError, "value cannot be converted to type c10::Half without overflow"),
    ("tg.ones(2).fill_(1j)", RuntimeError, "value cannot be converted to type float without overflow"),
    ("tg.ones(2, dtype=tg.bfloat16).numpy()", TypeError, "Got unsupported ScalarType BFloat16"),
    ("float(tg.tensor(1j))", RuntimeError, "value cannot be converted to type double without overflow"),
    ("tg.complex(tg.ones(2), tg.ones(2).double())", RuntimeError, "Expected object of scalar type Float but got scalar type Double for second argument"),
    ("tg.view_as_complex(tg.ones(3))", RuntimeError, "Tensor must have a last dimension of size 2"),
    ("tg.arange(3, dtype=tg.complex64)", NotImplementedError, "\"arange_cpu\" not implemented for 'ComplexFloat'"),
    ("tg.ones(1, 1) @ tg.ones(1, 1).half()", RuntimeError, "expected m1 and m2 to have the same dtype, but got: float != c10::Half"),
    ("tg.add(tg.ones(2), 1, alpha=1j)", RuntimeError, "For non-complex input tensors, argument alpha must not be a complex number."),
    ("tg.set_default_dtype(tg.complex64)", TypeError, "only floating-point types are supported as the default type"),
]


@pytest.mark.parametrize("source,kind,text", REFUSALS, ids=[row[0] for row in REFUSALS])
def test_refusals(source, kind, text):
    with pytest.raises(kind) as caught:
        eval(source)
    assert str(caught.value) == text


# --- in and out -----------------------------------------------------------------------------------------------------
def test_printing():
    assert repr(tg.tensor([1.5, float("nan")], dtype=tg.bfloat16)) == "tensor([1.5000,    nan], dtype=tapegrad.bfloat16)"
    assert repr(tg.tensor([1e-5, 3e4], dtype=tg.float16)) == "tensor([1.0014e-05, 3.0000e+04], dtype=tapegrad.float16)"
    assert repr(tg.tensor([1 + 2j, 3.5 - 1j])) == "tensor([1.0000+2.j, 3.5000-1.j])"
    assert repr(tg.tensor(2j, dtype=tg.complex128)) == "tensor(0.+2.j, dtype=tapegrad.complex128)"


@pytest.mark.parametrize("d", [tg.float16, tg.bfloat16, tg.complex32, tg.complex64, tg.complex128], ids=name_of)
def test_numbers_go_in_and_come_out(d):
    x = tg.tensor([[1.5, -2.0], [0.0, 4.0]], dtype=d).requires_grad_()
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone(), tg.tensor(x.tolist(), dtype=d)):
        assert y.dtype is d and y.tolist() == x.tolist() == [[1.5, -2.0], [0.0, 4.0]]
    assert pickle.loads(pickle.dumps(x)).requires_grad and x[0, 0].item() == 1.5 and x.equal(x) and tg.allclose(x, x)
    assert x.new_tensor([1]).dtype is tg.zeros_like(x).dtype is d and x.detach().fill_(3).tolist() == [[3, 3], [3, 3]]
    if not d.foreign:
        shared = tg.from_numpy(x.detach().numpy())
        assert shared.data_ptr() == x.data_ptr() == tg.from_dlpack(x.detach()).data_ptr()


def test_python_scalars_of_complex_tensors():
    z = tg.tensor(3 + 0j)
    assert (z.item(), float(z), int(z), complex(z), bool(z)) == (3 + 0j, 3.0, 3, 3 + 0j, True) and bool(tg.tensor(1j))
    assert tg.tensor([-0.0], dtype=tg.bfloat16).any().item() is False and tg.tensor([1j]).any().item() is True


def test_random_numbers_in_every_dtype():
    for d in (tg.float16, tg.bfloat16, tg.complex64, tg.complex128):
        x, y = tg.randn(4000, dtype=d), tg.rand(4000, dtype=d)
        assert x.dtype is y.dtype is d and abs(x.to(tg.complex128).abs().square().mean().item() - 1) < 0.1
        assert 0.45 < y.real.double().mean().item() < 0.55


def test_complex_half_follows():
    z = tg.tensor([1 + 2j, 3 - 1j], dtype=tg.complex32, requires_grad=True)
    assert (tg.ones(2, dtype=tg.float16) + 1j).dtype is tg.complex32 and (z * z).tolist() == [-3 + 4j, 8 - 6j]
    (z * z.conj()).real.sum().backward()
    assert z.grad.dtype is tg.complex32 and z.grad.tolist() == [2 + 4j, 6 - 2j] and z.real.dtype is tg.float16


@pytest.mark.parametrize("source", [tg.float32, tg.float64, tg.bfloat16])
def test_numbers_beyond_the_range_of_integers(source):
    """As PyTorch has it on x86: the least int32, the low bytes of that for narrower types."""
    least = -(2**31)
    x = tg.tensor([3e9, -3e9, 1e30, float("nan"), float("-inf"), -1.5, 300.0] * 5, dtype=source)
    assert x.to(tg.int32).tolist() == ([least] * 5 + [-1, 300]) * 5
    assert x.to(tg.int16).tolist() == ([0] * 5 + [-1, 300]) * 5
    assert x.to(tg.int8).tolist() == ([0] * 5 + [-1, 44]) * 5
    assert x.to(tg.int64).tolist()[2:5] == [-(2**63)] * 3
