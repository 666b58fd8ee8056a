"""Owns what NumPy does with Tensors: every row of the NumPy table, values against NumPy, derivatives against finite differences."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad.ops import numpy_table

SHAPES = {"x": (3, 4), "u": (3, 4), "v": (4,), "w": (4,), "p": (3, 4), "t": (2, 3, 4)}
SAMPLES = [(name, sample) for name, (_, samples) in sorted(numpy_table.ROWS.items()) for sample in samples]


def arrays(rng) -> dict:
    """The names that samples use: vectors v, w, matrices x, u, p (positive), s (square), d (positive definite), t of three dims, integers, masks."""
    named = {k: rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape) for k, shape in SHAPES.items()}
    named["p"], named["w"] = np.abs(named["p"]), np.abs(named["w"])
    named["s"] = rng.uniform(-1, 1, (3, 3)) + 2 * np.eye(3)
    named["d"] = named["s"] @ named["s"].T
    named["i"], named["c"] = rng.integers(0, 3, (3, 4)), rng.integers(0, 2, (3, 4)).astype(bool)
    named["c"][:, 0] = True
    return named


def numpy_function(name):
    return functools.reduce(lambda m, part: getattr(m, part, None), name.split("."), np)


def compare(found, expected, name):
    if isinstance(expected, (tuple, list)):
        assert len(found) == len(expected), name
        for a, b in zip(found, expected):
            compare(a, b, name)
        return
    if not isinstance(expected, (np.ndarray, np.generic)):
        assert type(found) is type(expected) and found == expected, name
        return
    assert isinstance(found, tg.Tensor), f"{name} is a {type(found).__name__}"
    if expected.dtype.kind in "ib" or found.dtype.is_floating_point and found.dtype is not tg.float32:
        assert found.detach().numpy().dtype == expected.dtype, name
    support.close(support.value(found), np.asarray(expected), 1e-10 if found.dtype is tg.float64 else 1e-6, name)


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated:DeprecationWarning")  # NumPy 2.5's, of its own function
@pytest.mark.parametrize("name,sample", SAMPLES, ids=[f"{n}({s})" for n, s in SAMPLES])
def test_values_and_derivatives(name, sample, rng):
    """A row gives what NumPy gives on arrays, as a Tensor, and differentiates."""
    function = numpy_function(name)
    if function is None:
        pytest.skip("not in this NumPy")
    named = arrays(rng)
    used = sorted(set(compile(f"f({sample})", "", "eval").co_names) & set(named))
    evaluate = lambda f, values: eval(f"f({sample})", {"f": f, "np": np, **values})
    expected = evaluate(function, {k: named[k] for k in used})
    found = evaluate(function, {k: tg.tensor(named[k], requires_grad=named[k].dtype.kind == "f") for k in used})
    compare(found, expected, name)
    real = [k for k in used if named[k].dtype.kind == "f"]
    others = {k: tg.tensor(named[k]) for k in used if k not in real}
    first = next((t for t in (found if isinstance(found, (tuple, list)) else [found]) if hasattr(t, "_slot")), None)
    if real and first is not None and first.requires_grad:
        f = lambda m, *tensors: evaluate(function, {**dict(zip(real, tensors)), **others})
        support.check_against_differences(f, [named[k] for k in real], rng, smooth=name not in ("round", "around", "fix"))


UFUNCS = sorted(numpy_table.ufuncs())


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs(name, rng):
    """Each ufunc on tensors, on a tensor and an array, and on a tensor and a NumPy scalar."""
    op, ufunc = numpy_table.ufuncs()[name], getattr(np, name)
    kind = np.float64 if "F" in op.kinds else np.int64
    operands = [rng.uniform(*op.domain[k], (2, 3)).astype(kind) for k in range(ufunc.nin)]
    expected = ufunc(*operands)
    for lifted in range(1, 2**ufunc.nin):
        values = [tg.tensor(a, requires_grad=kind is np.float64) if lifted >> k & 1 else a for k, a in enumerate(operands)]
        compare(ufunc(*values), expected, name)
    if ufunc.nin == 2:
        compare(ufunc(tg.tensor(operands[0]), operands[1][0, 0]), ufunc(operands[0], operands[1][0, 0]), name)
        compare(ufunc(operands[0][0, 0], tg.tensor(operands[1])), ufunc(operands[0][0, 0], operands[1]), name)
    if kind is np.float64 and op.differentiable:
        x = [tg.tensor(a, requires_grad=True) for a in operands]
        y = [tg.tensor(a, requires_grad=True) for a in operands]
        found = tg.autograd.grad((ufunc(*x) * 1.5).sum(), x, allow_unused=True)
        expected = tg.autograd.grad((tapegrad_call(op, y) * 1.5).sum(), y, allow_unused=True)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a.numpy(), b.numpy())


def tapegrad_call(op, tensors):
    return getattr(tg, op.name)(*tensors)


@pytest.mark.parametrize("name", sorted(set(numpy_table.COMPOSED) - {"gcd", "lcm", "ldexp", "nextafter", "heaviside", "divmod"}))
def test_composed_ufuncs(name, rng):
    ufunc = getattr(np, name, None)
    if ufunc is None:
        pytest.skip("not in this NumPy")
    shapes = {"matmul": [(2, 3), (3, 2)], "matvec": [(2, 3), (3,)], "vecmat": [(3,), (3, 2)], "vecdot": [(2, 3), (2, 3)]}.get(name, [(2, 3)] * ufunc.nin)
    operands = [rng.uniform(0.3, 2, shape) for shape in shapes]
    compare(ufunc(*[tg.tensor(a) for a in operands]), ufunc(*operands), name)
    support.check_against_differences(lambda m, *xs: ufunc(*xs), operands, rng, smooth=name != "divmod")


def test_divmod():
    x, y = tg.tensor([7.0, -7.0, 2.5]), np.array([2.0, 2.0, 0.5])
    compare(np.divmod(x, y), np.divmod(x.numpy().astype(float), y), "divmod")


@pytest.mark.parametrize("name", sorted(numpy_table.REDUCE))
@pytest.mark.parametrize("arguments", [{}, {"axis": 1}, {"axis": None}, {"axis": (0, 1), "keepdims": True}], ids=str)
def test_reduce(name, arguments, rng):
    x = rng.uniform(0.5, 2, (3, 4))
    reduce = getattr(np, name).reduce
    if name == "logaddexp" and arguments.get("axis", 0) not in (0, 1):
        return  # NumPy's has one axis only
    if name.startswith("logical"):
        x = x > 1
    compare(reduce(tg.tensor(x), **arguments), reduce(x, **arguments), name)
    if x.dtype == np.float64:
        support.check_against_differences(lambda m, t: reduce(t, **arguments), [x], rng)


@pytest.mark.parametrize("name", sorted(n for n in numpy_table.ACCUMULATE if numpy_table.ufunc_method(n, "accumulate")))
def test_accumulate_and_outer(name, rng):
    x, y = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, (2,))
    ufunc = getattr(np, name)
    for axis in (0, 1):
        compare(ufunc.accumulate(tg.tensor(x), axis), ufunc.accumulate(x, axis), name)
        support.check_against_differences(lambda m, t: ufunc.accumulate(t, axis), [x], rng)
    compare(ufunc.outer(tg.tensor(x), y), ufunc.outer(x, y), name)


def test_operators_with_arrays_on_either_side():
    a, t = np.array([1.0, 2.0]), tg.tensor([3.0, 4.0], dtype=tg.float64, requires_grad=True)
    for f in (lambda p, q: p * q, lambda p, q: p + q, lambda p, q: p / q, lambda p, q: p**q, lambda p, q: p @ q, lambda p, q: p - q):
        for result, expected in ((f(a, t), f(a, t.detach().numpy())), (f(t, a), f(t.detach().numpy(), a))):
            assert isinstance(result, tg.Tensor) and result.requires_grad
            np.testing.assert_allclose(support.value(result), expected, rtol=1e-15)
    assert ((a < t).dtype, (t == a).tolist()) == (tg.bool, [False, False])


def test_dtypes_are_torch_promotion():
    t = tg.ones(2)
    assert (np.ones(2) * t).dtype is tg.float64 and (np.ones(2, np.float32) * t).dtype is tg.float32
    assert (np.float64(2) * t).dtype is tg.float32 and (t * np.float64(2)).dtype is tg.float32
    assert (np.array(2.0) * t).dtype is tg.float32  # a 0-d array is a 0-d tensor
    assert (np.int64(2) * t).dtype is tg.float32 and (np.arange(2) * t).dtype is tg.float32
    assert np.sin(tg.tensor([1, 2])).dtype is tg.float32
    assert np.concatenate([t, np.ones(2)]).dtype is tg.float64
    assert (np.eye(2) @ t).dtype is tg.float64 and (t @ np.eye(2)).dtype is tg.float64


def test_an_array_that_changes_later_does_not_change_the_gradient():
    a, t = np.array([1.0, 2.0]), tg.ones(2, dtype=tg.float64, requires_grad=True)
    y, z = t * a, np.multiply(a, t)
    a[:] = 100
    (y + z).sum().backward()
    assert t.grad.tolist() == [2.0, 4.0]


def test_out():
    t, out, array = tg.tensor([1.0, 2.0]), tg.zeros(2), np.zeros(2)
    assert np.add(t, 1, out=out) is out and out.tolist() == [2.0, 3.0]
    assert np.add(t, 1, out=array) is array and array.tolist() == [2.0, 3.0]
    assert np.sum(t, out=(sink := tg.zeros(()))) is sink and sink.item() == 3
    array += t
    assert array.tolist() == [3.0, 5.0]
    x = tg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        np.add(x, 1, out=out)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\)"):
        array += x


def test_what_has_no_counterpart():
    """It runs in NumPy and returns NumPy's result; with requires_grad it is refused."""
    t = tg.tensor([3.0, 1.0, 3.0])
    found = np.unique(t)
    assert isinstance(found, np.ndarray) and found.tolist() == [1.0, 3.0]
    assert isinstance(np.spacing(t), np.ndarray)
    assert isinstance(np.add(t, 1, where=[True, False, True], out=np.zeros(3)), np.ndarray)
    x = t.clone().requires_grad_()
    for call in (lambda: np.unique(x), lambda: np.spacing(x), lambda: np.add.reduceat(x, [0, 1]), lambda: np.sum(x.reshape(3), where=[1, 2], foo=1)):
        with pytest.raises((RuntimeError, TypeError), match=r"Use tensor.detach\(\)|unexpected keyword"):
            call()
    with tg.no_grad():
        assert np.unique(x).tolist() == [1.0, 3.0]


def test_writes_through_numpy_are_seen_by_backward():
    """A NumPy function that writes into a tensor counts as an in-place change."""
    t, w = tg.ones(3), tg.ones(3, requires_grad=True)
    y = w * t
    np.copyto(t, np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    t = tg.zeros(3)
    np.add.at(t, [0, 0, 1], 2.0)
    np.multiply.at(t, [0], 3.0)
    assert t.tolist() == [12.0, 2.0, 0.0] and t._version == 2


def test_lists_of_tensors():
    x = tg.tensor(2.0, requires_grad=True)
    y = np.sum(np.stack([x, x * 3]))
    y.backward()
    assert x.grad.item() == 4


def test_conjugates_and_reductions_with_initial_values():
    z = tg.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    for out in (np.conj(z), np.conjugate(z)):
        assert out.tolist() == [1 - 2j, 3 + 1j] and out.requires_grad
    a = np.array([[1.0, 4.0, 2.0], [3.0, 0.5, 1.0]])
    t = tg.from_numpy(a)
    for f, initial in ((np.logaddexp, 1.0), (np.logical_or, True), (np.logical_and, False), (np.add, 2.0), (np.maximum, 3.5)):
        for where in (True, a > 1):
            got = f.reduce(t, axis=0, initial=initial, where=where)
            assert np.allclose(np.asarray(got), f.reduce(a, axis=0, initial=initial, where=where)), (f, where)
