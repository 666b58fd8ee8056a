"""`tapegrad.testing`: what assert_close finds and says, what make_tensor makes; and that torch does the same."""

import importlib
import warnings

import numpy as np
import pytest

import tapegrad as tg

REPORT = """Tensor-likes are not close!

Mismatched elements: 2 / 3 (66.7%)
Greatest absolute difference: 0.5 at index (1,) (up to 1e-07 allowed)
Greatest relative difference: 0.2 at index (1,) (up to 1e-07 allowed)"""
PASSING = (
    "t([1.0, 2.0]), t([1.0, 2.0 + 1e-6])", "None, None", "True, np.bool_(True)", "1.0, 2.0, rtol=1, atol=0", "[], []", "[1], (1,)", "t([]), t([])",
    "nan, nan, equal_nan=True", "1, 1.0, check_dtype=False", "t([1.0]), t([1.0], dtype=T.float64), check_dtype=False", "T.ones(2, 3), T.ones(3, 2).t()",
    "np.array([1.0, 2.0]), np.array([1.0, 2.0])", "T.nn.Parameter(T.ones(2)), T.ones(2)",
)  # fmt: skip
FAILING = (
    "t([1.0, 2.0]), [1.0, 2.0]",     "t([1.0, 2.0, 3.0]), t([1.0, 2.5, 3.1])", "t(1.0), t(2.0)", "t([1, 2]), t([1, 3])", "t([1.0]), t([1.0], dtype=T.float64)", "t([1.0]), t([[1.0]])",
    "[1, 2], [1]", "{'a': 1}, {'b': 1}", "{'a': [1, t([1.0])]}, {'a': [1, t([2.0])]}", "1, 1.0", "None, 1", "True, False", "nan, nan", "t([nan]), t([nan])",
    "object, object", "1.0, 2.0, rtol=0.1", "t([1.0]), 1.0", "t([1.0]), t([3.0]), msg='mine'", "t([1.0]), t([3.0]), msg=str.upper", "[1], [1, 2], msg='mine'",
    "T.ones(2, 3), T.ones(3, 2).t(), check_stride=True", "t([1 + 1j, 2]), t([1 + 2j, 2])", "t([True, False]), t([True, True])", "1.0, 0.0", "t([1.0]), t([0.0])",
    "3 + 4j, 3 + 5j", "np.float32(1.0), np.float32(1.5)", "{1: 2, 'a': 3}, {1: 2, 'a': 4}", "t([[1, 2], [3, 4]]), t([[1, 2], [3, 5]]), rtol=0, atol=0",
    "T.nn.Parameter(T.ones(2)), T.ones(2), allow_subclasses=False", "t([1, 2], dtype=T.uint8), t([3, 1], dtype=T.uint8)",
)  # fmt: skip
MADE = (
    "3, 4", "(3, 4), noncontiguous=True", "(3, 4), low=0, high=2", "(3, 4), low=-1, high=3, exclude_zero=True", "(), requires_grad=True", "2, low=5, high=5",
    "2, low=nan", "2, low=-500, high=500", "2, low=1e60, high=1e61", "(1, 2, 3, 4), memory_format=T.channels_last", "[2], noncontiguous=True, memory_format=T.contiguous_format",
)  # fmt: skip
DTYPES = "float32 float64 float16 bfloat16 int64 int8 uint8 bool complex64 complex128".split()


def outcome(module: str, call: str) -> str:
    """What a call gives or says, without the library's name."""
    library = importlib.import_module(module)
    names = {"T": library, "t": library.tensor, "np": np, "nan": float("nan"), "object": object(), **vars(importlib.import_module(module + ".testing"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            found = eval(call, names)
            found = f"{found!r} {found.stride()}" if hasattr(found, "stride") else repr(found)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
    return found.replace(module, "T")


@pytest.mark.parametrize("arguments", PASSING)
def test_what_is_close(arguments):
    assert outcome("tapegrad", f"assert_close({arguments})") == "None"


@pytest.mark.parametrize("arguments", FAILING)
def test_what_is_not(arguments):
    incomparable = ("object, object", "t([1.0]), 1.0", "t([1.0, 2.0]), [1.0, 2.0]", "T.nn.Parameter(T.ones(2)), T.ones(2), allow_subclasses=False")
    kind = "TypeError" if arguments in incomparable else "ValueError" if arguments == "1.0, 2.0, rtol=0.1" else "AssertionError"
    assert outcome("tapegrad", f"assert_close({arguments})").startswith(kind + ": ")


def test_the_report():
    with pytest.raises(AssertionError) as error:
        tg.testing.assert_close(tg.tensor([1.0, 2.0, 3.0], dtype=tg.float64), tg.tensor([1.0, 2.5, 3.1], dtype=tg.float64))
    assert str(error.value) == REPORT
    x = tg.tensor([1.0], requires_grad=True)
    tg.testing.assert_close(x * 2, x + 1)
    assert x.grad is None and x._version == 0


def test_the_old_form():
    with pytest.warns(FutureWarning, match="deprecated since 1.12"):
        tg.testing.assert_allclose([1.0, 2.0], [1.0, 2.00001])
    with pytest.warns(FutureWarning), pytest.raises(AssertionError, match="not close"):
        tg.testing.assert_allclose(tg.ones(2), [1.0, 2.0])


@pytest.mark.parametrize("name", DTYPES)
def test_made_tensors(name, rng):
    d = getattr(tg, name)
    tg.manual_seed(0)
    t = tg.testing.make_tensor(5, 7, dtype=d, device="cpu", exclude_zero=True, noncontiguous=True)
    assert t.dtype is d and t.shape == (5, 7) and t.stride() == (14, 2) and t.storage_offset() == 1 and bool((t != 0).all())
    if d.is_floating_point:
        t = tg.testing.make_tensor((50,), dtype=d, low=2, high=3, requires_grad=True)
        assert t.requires_grad and t.is_leaf and 2 <= t.min() < t.max() <= 3
    elif not d.is_complex:
        with pytest.raises(ValueError, match="not supported for boolean and integral dtypes"):
            tg.testing.make_tensor(2, dtype=d, requires_grad=True)


@pytest.mark.torch
@pytest.mark.parametrize("arguments", PASSING + FAILING)
def test_comparison_as_torch(arguments):
    pytest.importorskip("torch")
    assert outcome("tapegrad", f"assert_close({arguments})") == outcome("torch", f"assert_close({arguments})")


@pytest.mark.torch
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("arguments", MADE)
def test_creation_as_torch(arguments, name):
    torch = pytest.importorskip("torch")
    found = []
    for library in (tg, torch):
        library.manual_seed(3)
        found.append(outcome(library.__name__, f"make_tensor({arguments}, dtype=T.{name}, device='cpu')"))
    assert found[0] == found[1]
