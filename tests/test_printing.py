"""Owns the checks of tapegrad.printing: stored texts, the print options, and a random comparison with PyTorch."""

from math import inf, nan

import numpy as np
import pytest
from numpy import arange, array, full, zeros

from tapegrad import printing
from tapegrad.printing import format_tensor, get_printoptions, printoptions, set_printoptions

DEFAULTS = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}

# Elements, dtype, further arguments, print options, and PyTorch's text with its module name replaced.
CASES = [
    (array([1.0, 2.0, 3.0]), "float32", {}, {}, "tensor([1., 2., 3.])"),
    (array([[1.0, 2.0], [3.0, 4.0]]), "float64", {"grad_fn": "MulBackward0"}, {},
     ("tensor([[1., 2.],\n"
     "        [3., 4.]], dtype=tapegrad.float64, grad_fn=<MulBackward0>)")),
    (array(1.5), "float32", {}, {}, "tensor(1.5000)"),
    (array(-0.0), "float32", {}, {}, "tensor(-0.)"),
    (array(3), "int64", {}, {}, "tensor(3)"),
    (array(True), "bool", {}, {}, "tensor(True)"),
    (array(nan), "float64", {}, {}, "tensor(nan, dtype=tapegrad.float64)"),
    (array(1 - 2.5j), "complex64", {}, {}, "tensor(1.-2.5000j)"),
    (array([0.1, 0.25, -1.0]), "float32", {}, {}, "tensor([ 0.1000,  0.2500, -1.0000])"),
    (array([-0.0, 1.5]), "float32", {}, {}, "tensor([-0.0000, 1.5000])"),
    (array([0.0, nan, inf]), "float32", {}, {}, "tensor([0., nan, inf])"),
    (array([1.0, nan, -inf]), "float32", {}, {}, "tensor([1., nan, -inf])"),
    (array([1.5, nan, -inf]), "float32", {}, {}, "tensor([1.5000,    nan,   -inf])"),
    (array([1e-05, 1.0]), "float32", {}, {}, "tensor([1.0000e-05, 1.0000e+00])"),
    (array([1.0, 1000.0]), "float32", {}, {}, "tensor([   1., 1000.])"),
    (array([1.0, 1001.0]), "float32", {}, {}, "tensor([1.0000e+00, 1.0010e+03])"),
    (array([0.5, 500.5]), "float64", {}, {}, "tensor([5.0000e-01, 5.0050e+02], dtype=tapegrad.float64)"),
    (array([1e8]), "float32", {}, {}, "tensor([100000000.])"),
    (array([1.1e8]), "float32", {}, {}, "tensor([1.1000e+08])"),
    (array([1e-4]), "float32", {}, {}, "tensor([1.0000e-04])"),
    (array([1e-4]), "float64", {}, {}, "tensor([0.0001], dtype=tapegrad.float64)"),
    (array([1e-05, nan, inf, 0.0]), "float32", {}, {}, "tensor([1.0000e-05,        nan,        inf, 0.0000e+00])"),
    (array([-1e-10, 1e-10]), "float32", {}, {}, "tensor([-1.0000e-10,  1.0000e-10])"),
    (array([5e-324, 1e308]), "float64", {}, {}, "tensor([4.9407e-324, 1.0000e+308], dtype=tapegrad.float64)"),
    (array([123456.789, 123457.5]), "float64", {}, {}, "tensor([123456.7890, 123457.5000], dtype=tapegrad.float64)"),
    (array([0.1, 65504.0]), "float16", {}, {}, "tensor([9.9976e-02, 6.5504e+04], dtype=tapegrad.float16)"),
    (array([0.10009765625, 3.140625]), "bfloat16", {}, {}, "tensor([0.1001, 3.1406], dtype=tapegrad.bfloat16)"),
    (array([1, -20, 300]), "int64", {}, {}, "tensor([  1, -20, 300])"),
    (array([1, -20, 100]), "int8", {}, {}, "tensor([  1, -20, 100], dtype=tapegrad.int8)"),
    (array([0, 255]), "uint8", {}, {}, "tensor([  0, 255], dtype=tapegrad.uint8)"),
    (array([[True, False], [False, False]]), "bool", {}, {},
     ("tensor([[ True, False],\n"
     "        [False, False]])")),
    (array([1 + 2j, -3.5 - 1j]), "complex64", {}, {}, "tensor([ 1.0000+2.j, -3.5000-1.j])"),
    (array([1 + 2j, -3 - 10j]), "complex128", {}, {}, "tensor([ 1.+2.j, -3.-10.j], dtype=tapegrad.complex128)"),
    (array([complex(nan, inf), complex(0, -0.0)]), "complex64", {}, {}, "tensor([nan+infj, 0.-0.j])"),
    (array([complex(1e-6, 1), complex(1, nan)]), "complex64", {}, {}, "tensor([1.0000e-06+1.j, 1.0000e+00+nanj])"),
    (arange(12.0).reshape(2, 2, 3), "float32", {}, {},
     ("tensor([[[ 0.,  1.,  2.],\n"
     "         [ 3.,  4.,  5.]],\n"
     "\n"
     "        [[ 6.,  7.,  8.],\n"
     "         [ 9., 10., 11.]]])")),
    (arange(4.0).reshape(1, 2, 1, 2), "float32", {"requires_grad": True}, {},
     ("tensor([[[[0., 1.]],\n"
     "\n"
     "         [[2., 3.]]]], requires_grad=True)")),
    (arange(30), "int64", {}, {},
     ("tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
     "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])")),
    (arange(24) / 7, "float32", {"requires_grad": True}, {},
     ("tensor([0.0000, 0.1429, 0.2857, 0.4286, 0.5714, 0.7143, 0.8571, 1.0000, 1.1429,\n"
     "        1.2857, 1.4286, 1.5714, 1.7143, 1.8571, 2.0000, 2.1429, 2.2857, 2.4286,\n"
     "        2.5714, 2.7143, 2.8571, 3.0000, 3.1429, 3.2857], requires_grad=True)")),
    (arange(60.0).reshape(2, 30), "float32", {}, {},
     ("tensor([[ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12., 13.,\n"
     "         14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27.,\n"
     "         28., 29.],\n"
     "        [30., 31., 32., 33., 34., 35., 36., 37., 38., 39., 40., 41., 42., 43.,\n"
     "         44., 45., 46., 47., 48., 49., 50., 51., 52., 53., 54., 55., 56., 57.,\n"
     "         58., 59.]])")),
    (arange(1001), "int64", {}, {}, "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (arange(1001) / 3, "float32", {"grad_fn": "CloneBackward0"}, {},
     ("tensor([0.0000e+00, 3.3333e-01, 6.6667e-01,  ..., 3.3267e+02, 3.3300e+02,\n"
     "        3.3333e+02], grad_fn=<CloneBackward0>)")),
    (arange(10000).reshape(100, 100), "int32", {}, {},
     ("tensor([[   0,    1,    2,  ...,   97,   98,   99],\n"
     "        [ 100,  101,  102,  ...,  197,  198,  199],\n"
     "        [ 200,  201,  202,  ...,  297,  298,  299],\n"
     "        ...,\n"
     "        [9700, 9701, 9702,  ..., 9797, 9798, 9799],\n"
     "        [9800, 9801, 9802,  ..., 9897, 9898, 9899],\n"
     "        [9900, 9901, 9902,  ..., 9997, 9998, 9999]], dtype=tapegrad.int32)")),
    (arange(2000.0).reshape(2, 1000), "float32", {}, {},
     ("tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 9.9700e+02, 9.9800e+02,\n"
     "         9.9900e+02],\n"
     "        [1.0000e+03, 1.0010e+03, 1.0020e+03,  ..., 1.9970e+03, 1.9980e+03,\n"
     "         1.9990e+03]])")),
    (arange(60).reshape(5, 3, 4), "int64", {}, {"threshold": 10, "edgeitems": 1},
     ("tensor([[[ 0,  ...,  3],\n"
     "         ...,\n"
     "         [ 8,  ..., 11]],\n"
     "\n"
     "        ...,\n"
     "\n"
     "        [[48,  ..., 51],\n"
     "         ...,\n"
     "         [56,  ..., 59]]])")),
    (zeros((1, 1, 1, 0)), "complex128", {"grad_fn": "MulBackward0"}, {},
     "tensor([], size=(1, 1, 1, 0), dtype=tapegrad.complex128, grad_fn=<MulBackward0>)"),
    (arange(1001) * (1 + 0.5j), "complex64", {}, {},
     ("tensor([   0.+0.0000j,    1.+0.5000j,    2.+1.0000j,  ...,\n"
     "         998.+499.0000j,  999.+499.5000j, 1000.+500.0000j])")),
    (zeros((0,)), "float32", {}, {}, "tensor([])"),
    (zeros((0,)), "int64", {}, {}, "tensor([], dtype=tapegrad.int64)"),
    (zeros((0, 3)), "float32", {}, {}, "tensor([], size=(0, 3))"),
    (zeros((2, 0, 3)), "bool", {}, {}, "tensor([], size=(2, 0, 3), dtype=tapegrad.bool)"),
    (zeros((0, 3)), "float64", {"requires_grad": True}, {},
     "tensor([], size=(0, 3), dtype=tapegrad.float64, requires_grad=True)"),
    (zeros((0,)), "complex64", {}, {}, "tensor([], dtype=tapegrad.complex64)"),
    (array([1.0, 2.0]), "float32", {"default_dtype": "float64"}, {}, "tensor([1., 2.], dtype=tapegrad.float32)"),
    (array([1.0, 2.0]), "float64", {"default_dtype": "float64"}, {}, "tensor([1., 2.])"),
    (array([1j]), "complex64", {"default_dtype": "float64"}, {}, "tensor([0.+1.j], dtype=tapegrad.complex64)"),
    (array([1j]), "complex64", {"default_dtype": "float16"}, {}, "tensor([0.+1.j])"),
    (array([1.0]), "float32", {"requires_grad": True}, {}, "tensor([1.], requires_grad=True)"),
    (array([1.0, 2.0]), "float32", {"tangent": "tensor([3., 4.])"}, {}, "tensor([1., 2.], tangent=tensor([3., 4.]))"),
    (array([1.0, 2.0]), "float64", {"requires_grad": True, "prefix": "Weights("}, {},
     "Weights([1., 2.], dtype=tapegrad.float64, requires_grad=True)"),
    (array([1.0]), "float64", {"tensor_contents": "..."}, {}, "tensor(..., dtype=tapegrad.float64)"),
    (full((3, 9), 0.123456), "float64", {"requires_grad": True}, {},
     ("tensor([[0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235],\n"
     "        [0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235],\n"
     "        [0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235, 0.1235]],\n"
     "       dtype=tapegrad.float64, requires_grad=True)")),
    (array([[1.25] * 8]), "float64", {"grad_fn": "CloneBackward0"}, {},
     ("tensor([[1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500]],\n"
     "       dtype=tapegrad.float64, grad_fn=<CloneBackward0>)")),
    (array([1.23456, 1.0]), "float32", {}, {"precision": 2}, "tensor([1.23, 1.00])"),
    (array([1.5, 2.5]), "float32", {}, {"precision": 0}, "tensor([2, 2])"),
    (array([1.0, 2.0]), "float32", {}, {"sci_mode": True}, "tensor([1.0000e+00, 2.0000e+00])"),
    (array([1e-6, 1.5, 1e6]), "float32", {}, {"sci_mode": False},
     "tensor([      0.0000,       1.5000, 1000000.0000])"),
    (zeros(2), "float32", {}, {"sci_mode": True}, "tensor([0., 0.])"),
    (arange(10), "int64", {}, {"threshold": 5}, "tensor([0, 1, 2,  ..., 7, 8, 9])"),
    (arange(10), "int32", {}, {"threshold": 5, "edgeitems": 1}, "tensor([0,  ..., 9], dtype=tapegrad.int32)"),
    (arange(10), "int32", {}, {"threshold": 5, "edgeitems": 0}, "tensor([...], size=(10,), dtype=tapegrad.int32)"),
    (arange(4.0).reshape(2, 2), "float32", {}, {"threshold": 0, "edgeitems": 0}, "tensor([...], size=(2, 2))"),
    (arange(2.0), "float64", {}, {"edgeitems": 0}, "tensor([0., 1.], size=(2,), dtype=tapegrad.float64)"),
    (arange(8.0), "float64", {"requires_grad": True}, {"linewidth": 20},
     ("tensor([0., 1., 2.,\n"
     "        3., 4., 5.,\n"
     "        6., 7.],\n"
     "       dtype=tapegrad.float64,\n"
     "       requires_grad=True)")),
    (arange(3), "int64", {}, {"linewidth": 1},
     ("tensor([0,\n"
     "        1,\n"
     "        2])")),
    (arange(36.0).reshape(6, 6) / 7, "float32", {}, {"profile": "short", "threshold": 20},
     ("tensor([[0.00, 0.14,  ..., 0.57, 0.71],\n"
     "        [0.86, 1.00,  ..., 1.43, 1.57],\n"
     "        ...,\n"
     "        [3.43, 3.57,  ..., 4.00, 4.14],\n"
     "        [4.29, 4.43,  ..., 4.86, 5.00]])")),
    (arange(1001).reshape(1, 1001) % 2, "int64", {}, {"profile": "full", "linewidth": 1000, "threshold": 1000},
     "tensor([[0, 1, 0,  ..., 0, 1, 0]])"),
]


@pytest.fixture(autouse=True)
def default_options():
    set_printoptions(profile="default")
    yield
    set_printoptions(profile="default")


@pytest.mark.parametrize(("values", "dtype", "arguments", "options", "expected"), CASES)
def test_stored_text(values, dtype, arguments, options, expected):
    values = np.asarray(values).astype("float32" if dtype == "bfloat16" else dtype)
    with printoptions(**options):
        assert format_tensor(values, dtype=dtype, **arguments) == expected


def test_transposed_and_strided_arrays():
    values = arange(12).reshape(3, 4)
    assert format_tensor(values.T[::2], dtype="int64") == "tensor([[ 0,  4,  8],\n        [ 2,  6, 10]])"


def test_grad_fn_replaces_requires_grad():
    assert format_tensor(array([1.5]), dtype="float64", default_dtype="float64", requires_grad=True,
                         grad_fn="NegBackward0", tangent="tensor([1.])") == \
        "tensor([1.5000], grad_fn=<NegBackward0>, tangent=tensor([1.]))"


def test_module_name_is_not_counted_when_breaking_lines():
    text = format_tensor(zeros((10, 10, 1, 0)), dtype="complex128", grad_fn="MulBackward0")
    assert "\n" not in text and len(text) > get_printoptions()["linewidth"]
    assert f"dtype={printing.MODULE}.complex128" in text


def test_printing_large_summarised_arrays_reads_only_the_edges():
    values = np.broadcast_to(np.float32(1), (1 << 20, 1 << 20))
    assert format_tensor(values, dtype="float32").startswith("tensor([[1., 1., 1.,  ..., 1., 1., 1.],\n")


def test_profiles_and_single_options():
    assert get_printoptions() == DEFAULTS
    set_printoptions(profile="short", sci_mode=True)
    assert get_printoptions() == {**DEFAULTS, "precision": 2, "edgeitems": 2, "sci_mode": True}
    set_printoptions(profile="full", linewidth=100)
    assert get_printoptions() == {**DEFAULTS, "threshold": inf, "linewidth": 100}
    set_printoptions(profile="no such profile", precision=7)
    assert get_printoptions() == {**DEFAULTS, "threshold": inf, "linewidth": 100, "precision": 7}
    set_printoptions(profile="default")
    assert get_printoptions() == DEFAULTS


def test_sci_mode_is_reset_by_every_call():
    set_printoptions(sci_mode=False)
    assert get_printoptions()["sci_mode"] is False
    set_printoptions(precision=4)
    assert get_printoptions()["sci_mode"] is None


def test_options_are_a_copy():
    get_printoptions()["precision"] = 9
    assert get_printoptions() == DEFAULTS


def test_context_restores_options_after_an_error():
    set_printoptions(precision=6, sci_mode=True)
    before = get_printoptions()
    with pytest.raises(ZeroDivisionError), printoptions(profile="short"):
        assert get_printoptions() == {**DEFAULTS, "precision": 2, "edgeitems": 2}
        raise ZeroDivisionError
    assert get_printoptions() == before
    with pytest.raises(TypeError), printoptions(colour=True):
        pass
    assert get_printoptions() == before


SHAPES = [(40, 40), (2, 600), (600, 2), (1, 1, 1200), (11, 10, 10), (7, 6, 5, 6), (3, 3, 3, 4, 10), (1001, 1), (1000,), (1001,)]
FLOATS = ["float16", "bfloat16", "float32", "float64"]
COMPLEXES = {"complex64": "float32", "complex128": "float64"}
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def random_shape(rng):
    kind = rng.integers(8)
    if kind == 0:
        return ()
    if kind == 1:
        return tuple(rng.integers(0, 3, rng.integers(1, 5)).tolist())
    if kind == 2:
        return (int(rng.integers(1, 60)),)
    if kind == 3:
        return SHAPES[rng.integers(len(SHAPES))]
    return tuple(rng.integers(1, 9, rng.integers(1, 5)).tolist())


def random_floats(rng, shape, dtype):
    """Floats of one of many kinds: magnitudes, whole numbers, values at the edges of the notation rules."""
    kinds = [
        lambda: rng.standard_normal(shape),
        lambda: rng.standard_normal(shape) * 10.0 ** rng.integers(-12, 13),
        lambda: rng.integers(-1000, 1000, shape).astype(float),
        lambda: rng.integers(0, 10, shape) * 10.0 ** rng.integers(0, 10),
        lambda: zeros(shape) * rng.choice([1, -1]),
        lambda: np.exp(rng.uniform(-12, 12, shape)),
        lambda: rng.choice([1.0, 1000.0, 1000.0001, 1001.0, -1.0, 0.0, -0.0], shape),
        lambda: rng.choice([1e-4, 1e8, 1.0000001e-4, 100000008.0, 0.5], shape),
        lambda: rng.choice([5e-324, 1e-45, 1e-310, 1e308, 3e38, 6e-8, 65504.0], shape),
        lambda: rng.choice([-0.0, 0.0, 1.5, 0.5, 2.5], shape),
        lambda: rng.integers(0, 2, shape) + 0.99999,
        lambda: rng.uniform(0, 1, shape) * rng.choice([1, 10, 100, 1000]),
    ]
    values = np.asarray(kinds[rng.integers(len(kinds))]())
    if rng.random() < 0.3:
        values = np.where(rng.random(shape) < rng.choice([0.1, 0.9, 1]), rng.choice([nan, inf, -inf], shape), values)
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def random_array(rng, dtype):
    shape = random_shape(rng)
    if dtype in COMPLEXES:
        values = np.empty(shape, dtype)
        values.real, values.imag = (random_floats(rng, shape, COMPLEXES[dtype]) for _ in range(2))
    elif dtype in FLOATS:
        values = random_floats(rng, shape, "float32" if dtype == "bfloat16" else dtype)
    elif dtype == "bool":
        values = np.asarray(rng.random(shape) < 0.5)
    else:
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -int(rng.integers(1, 100))), int(rng.integers(1, 120))
        if rng.random() < 0.3:
            low, high = limits.min, limits.max
        values = np.asarray(rng.integers(low, high, shape, dtype=dtype, endpoint=True))
    return values.T if rng.random() < 0.2 else values


def random_options(rng):
    choices = {
        "profile": ["default", "short", "full", "no such profile"],
        "precision": list(range(12)),
        "threshold": [0, 5, 20, 50, 1000, 1e9, inf],
        "edgeitems": list(range(7)),
        "linewidth": [1, 10, 20, 40, 60, 75, 79, 80, 81, 100, 120, 200],
        "sci_mode": [True, False],
    }
    wanted = rng.choice([0.0, 0.4])
    return {name: values[rng.integers(len(values))] for name, values in choices.items() if rng.random() < wanted}


def random_history(torch, rng, tensor):
    """The tensor with some autograd state, the arguments that describe it, and a tangent for it or None."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor, {}, None
    arguments, tangent = {}, None
    kind = rng.integers(5)
    if kind == 1:
        tensor, arguments = tensor.requires_grad_(), {"requires_grad": True}
    elif kind == 2:
        operation = [torch.clone, torch.t_copy if tensor.ndim == 2 else torch.clone, lambda x: x.unsqueeze(0)][rng.integers(3)]
        tensor = operation(tensor.requires_grad_())
        arguments = {"requires_grad": True, "grad_fn": type(tensor.grad_fn).__name__}
    elif kind == 3:
        tangent = torch.ones_like(tensor)
    return tensor, arguments, tangent


@pytest.mark.parametrize("seed", range(4))
def test_random_arrays_against_torch(seed):
    torch = pytest.importorskip("torch")
    forward = torch.autograd.forward_ad
    rng = np.random.default_rng(seed)
    for _ in range(1500):
        dtype = str(rng.choice([*FLOATS, *COMPLEXES, *INTEGERS, "bool"]))
        tensor = torch.from_numpy(random_array(rng, dtype)).to(getattr(torch, dtype))
        tensor, arguments, tangent = random_history(torch, rng, tensor)
        contents = "contents" if rng.random() < 0.05 else None
        default_dtype = str(rng.choice(["float32", *FLOATS]))
        options = random_options(rng)
        torch.set_default_dtype(getattr(torch, default_dtype))
        try:
            with torch._tensor_str.printoptions(**options), printoptions(**options), forward.dual_level():
                assert get_printoptions() == torch._tensor_str.get_printoptions()
                shown = tensor
                if tangent is not None:
                    shown = forward.make_dual(tensor, tangent)
                    arguments["tangent"] = format(tangent).replace("torch.", "tapegrad.")
                expected = torch._tensor_str._str(shown, tensor_contents=contents).replace("torch.", "tapegrad.")
                values = tensor.detach()
                values = (values.float() if dtype == "bfloat16" else values).numpy()
                text = format_tensor(values, dtype=dtype, default_dtype=default_dtype, tensor_contents=contents, **arguments)
        finally:
            torch.set_default_dtype(torch.float32)
        assert text == expected, (dtype, values.shape, options, arguments)
