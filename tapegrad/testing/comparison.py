"""`assert_close`: comparison of tensors, numbers and containers of them, with a report of what differs.

Both values are first taken apart into pairs of leaves, which reveals differences in structure; then the leaves are compared in order, and the
first that differs is reported with its place.
"""

from __future__ import annotations

import cmath
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from tapegrad import dtypes, modes
from tapegrad.creation import as_tensor, tensor
from tapegrad.ops.tensor_methods import isclose

TOLERANCES = {  # dtype: (rtol, atol)
    dtypes.float16: (1e-3, 1e-5), dtypes.bfloat16: (1.6e-2, 1e-5), dtypes.float32: (1.3e-6, 1e-5), dtypes.float64: (1e-7, 1e-7),
    dtypes.complex32: (1e-3, 1e-5), dtypes.complex64: (1.3e-6, 1e-5), dtypes.complex128: (1e-7, 1e-7),
}  # fmt: skip
TOLERANCES_OF_ALLCLOSE = {dtypes.float16: (1e-3, 1e-3), dtypes.float32: (1e-4, 1e-5), dtypes.float64: (1e-5, 1e-8)}
OF_NUMBERS = {bool: dtypes.int64, int: dtypes.int64, float: dtypes.float64, complex: dtypes.complex128}


def assert_close(actual, expected, *, allow_subclasses=True, rtol=None, atol=None, equal_nan=False, check_device=True, check_dtype=True,
                 check_layout=True, check_stride=False, msg=None):  # fmt: skip
    r"""Raise AssertionError unless `|actual - expected| <= atol + rtol |expected|` for every element, and the attributes agree.

    actual, expected: tensors, what `as_tensor` takes, numbers, None, or sequences and mappings of these, nested to any depth.
    rtol, atol: given together or not at all; by default the larger ones of the two dtypes: (1.3e-6, 1e-5) for float32, (1e-7, 1e-7) for
    float64, (1e-3, 1e-5) for float16, (1.6e-2, 1e-5) for bfloat16, as their parts for complex numbers, and 0 for integers and bools.
    equal_nan: NaN equals NaN.  check_dtype: else both are promoted first.  check_stride: the strides must agree too.
    allow_subclasses: without it, the types must be the same.
    msg: the text of the error, or a function of the text that would be given.

    >>> import tapegrad as tg
    >>> tg.testing.assert_close(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 2.0 + 1e-6]))
    >>> tg.testing.assert_close({"a": [1, 2.0]}, {"a": [1, 2.5]})
    Traceback (most recent call last):
    AssertionError: Scalars are not close!
    <BLANKLINE>
    Expected 2.5 but got 2.0.
    Absolute difference: 0.5 (up to 1e-07 allowed)
    Relative difference: 0.2 (up to 1e-07 allowed)
    <BLANKLINE>
    The failure occurred for item ['a'][1]
    """
    __tracebackhide__ = True
    checks = {"device": check_device, "dtype": check_dtype, "layout": check_layout, "stride()": check_stride}
    try:
        pairs = list(leaves(actual, expected, (), allow_subclasses))
        pairs = [(compare, a, b, tolerances(a, b, rtol, atol, place), place) for compare, a, b, place in pairs]
    except Difference as difference:  # of the structure: a message of the user's is for values
        raise difference.error(None) from None
    try:
        for compare, a, b, (relative, absolute), place in pairs:
            compare(a, b, relative, absolute, equal_nan, checks, place)
    except Difference as difference:
        raise difference.error(msg) from None


def assert_allclose(actual, expected, rtol=None, atol=None, equal_nan=True, msg=""):
    """The old form of `assert_close`, for tensors of any dtypes; deprecated."""
    text = (
        "`tapegrad.testing.assert_allclose()` is deprecated since 1.12 and will be removed in a future release. "
        "Please use `tapegrad.testing.assert_close()` instead. You can find detailed upgrade instructions in https://github.com/pytorch/pytorch/issues/61844."
    )
    warnings.warn(text, FutureWarning, stacklevel=2)
    if not hasattr(actual, "_slot"):
        actual = tensor(actual)
    if not hasattr(expected, "_slot"):
        expected = tensor(expected, dtype=actual.dtype)
    if rtol is None and atol is None:
        rtol, atol = map(max, *(TOLERANCES_OF_ALLCLOSE.get(t.dtype, (0.0, 0.0)) for t in (actual, expected)))
    assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, check_dtype=False, msg=msg or None)


class Difference(Exception):
    """What differs, and where: the keys and indices that lead to it."""

    def __init__(self, text: str, place: tuple, kind: type = AssertionError):
        super().__init__(text)
        self.text, self.place, self.kind = text, place, kind

    def error(self, msg) -> Exception:
        if isinstance(msg, str):
            return self.kind(msg)
        text = self.text + ("\n\nThe failure occurred for item " + "".join(str([item]) for item in self.place) if self.place else "")
        return self.kind(msg(text) if callable(msg) else text)


def leaves(actual, expected, place, allow_subclasses):
    """(compare, actual, expected, place) of each pair of leaves."""
    if all(isinstance(value, Sequence) and not isinstance(value, str) for value in (actual, expected)):
        if len(actual) != len(expected):
            raise Difference(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", place)
        for k in range(len(actual)):
            yield from leaves(actual[k], expected[k], (*place, k), allow_subclasses)
    elif all(isinstance(value, Mapping) for value in (actual, expected)):
        missing, additional = expected.keys() - actual.keys(), actual.keys() - expected.keys()
        if missing or additional:
            text = f"Missing keys in the actual mapping: {sorted(missing)}\nAdditional keys in the actual mapping: {sorted(additional)}"
            raise Difference(f"The keys of the mappings do not match:\n{text}", place)
        try:
            keys = sorted(actual)
        except TypeError:
            keys = list(actual)
        for key in keys:
            yield from leaves(actual[key], expected[key], (*place, key), allow_subclasses)
    else:
        yield *leaf(actual, expected, place, allow_subclasses), place


def leaf(actual, expected, place, allow_subclasses):
    """How a pair is compared, and as what."""
    if actual is None or expected is None:
        return compare_none, actual, expected
    pair = actual, expected
    if all(isinstance(value, (bool, np.bool_)) for value in pair):
        return compare_bools, *map(bool, pair)
    if all(isinstance(value, (int, float, complex, np.number)) for value in pair):
        return compare_numbers, *(value.item() if isinstance(value, np.number) else value for value in pair)
    related = isinstance(actual, type(expected)) or isinstance(expected, type(actual))
    if related and (allow_subclasses or type(actual) is type(expected)):
        try:
            return compare_tensors, *(value if hasattr(value, "_slot") else as_tensor(value) for value in pair)
        except Exception:  # whatever keeps a value from being a tensor, it cannot be compared
            pass
    raise Difference(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.", place, TypeError)


def tolerances(actual, expected, rtol, atol, place) -> tuple[float, float]:
    if actual is None or expected is None or isinstance(actual, bool) and isinstance(expected, bool):
        return 0.0, 0.0
    if (rtol is None) != (atol is None):
        text = f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {'rtol' if rtol is None else 'atol'}."
        raise Difference(text, place, ValueError)
    if rtol is not None:
        return rtol, atol
    kinds = [value.dtype if hasattr(value, "_slot") else next(d for kind, d in OF_NUMBERS.items() if isinstance(value, kind)) for value in (actual, expected)]
    first, second = (TOLERANCES.get(kind, (0.0, 0.0)) for kind in kinds)
    return max(first[0], second[0]), max(first[1], second[1])


def compare_none(actual, expected, rtol, atol, equal_nan, checks, place):
    if actual is not expected:
        raise Difference(f"None mismatch: {actual} is not {expected}", place)


def compare_bools(actual, expected, rtol, atol, equal_nan, checks, place):
    if actual is not expected:
        raise Difference(f"Booleans mismatch: {actual} is not {expected}", place)


def compare_numbers(actual, expected, rtol, atol, equal_nan, checks, place):
    if checks["dtype"] and type(actual) is not type(expected):
        raise Difference(f"The (d)types do not match: {type(actual)} != {type(expected)}.", place)
    if actual == expected or equal_nan and cmath.isnan(actual) and cmath.isnan(expected):
        return
    difference = abs(actual - expected)
    if not cmath.isfinite(difference) or difference > atol + rtol * abs(expected):
        raise Difference(of_numbers(actual, expected, rtol, atol), place)


def compare_tensors(actual, expected, rtol, atol, equal_nan, checks, place):
    for name in ("shape", "layout", "stride()", "device", "dtype"):
        a, b = (t.stride() if name == "stride()" else getattr(t, name) for t in (actual, expected))
        if checks.get(name, True) and a != b:
            raise Difference(f"The values for attribute '{name}' do not match: {a} != {b}.", place)
    with modes.no_grad():
        d = dtypes.promote_types(actual.dtype, expected.dtype)
        actual, expected = actual.detach().to(d), expected.detach().to(d)
        matches = isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan)
        if not matches.all():
            found = of_numbers(actual.item(), expected.item(), rtol, atol) if not actual.ndim else of_tensors(actual, expected, matches, rtol, atol)
            raise Difference(found, place)


def of_numbers(actual, expected, rtol, atol) -> str:
    difference = abs(actual - expected)
    relative = float("inf") if expected == 0 else difference / abs(expected)
    return report("Scalars", f"Expected {expected} but got {actual}.", (difference, ""), (relative, ""), rtol, atol)


def of_tensors(actual, expected, matches, rtol, atol) -> str:
    d = actual.dtype
    if not d.is_floating_point and not d.is_complex:
        actual, expected = actual.long(), expected.long()
    difference = (actual - expected).abs().masked_fill(matches, 0)
    relative = (difference / expected.abs()).masked_fill(matches, 0)
    wrong = int((~matches).sum())
    extra = f"Mismatched elements: {wrong} / {matches.numel()} ({wrong / matches.numel():.1%})"

    def greatest(values):
        value, k = values.flatten().max(0)
        return value.item(), f" at index {tuple(int(i) for i in np.unravel_index(int(k), tuple(matches.shape)))}"

    return report("Tensor-likes", extra, greatest(difference), greatest(relative), rtol, atol)


def report(what: str, extra: str, absolute: tuple, relative: tuple, rtol, atol) -> str:
    equal = rtol == 0 and atol == 0
    lines = []
    for name, (value, where), bound in (("absolute", absolute, atol), ("relative", relative, rtol)):
        head = f"Greatest {name}" if where else name.title()
        lines.append(f"{head} difference: {value}{where}" + ("" if equal else f" (up to {bound} allowed)"))
    return "\n".join([f"{what} are not {'equal' if equal else 'close'}!\n", extra, *lines])
