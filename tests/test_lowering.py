"""Owns the translation of native functions: what it makes of Python's operators and statements is what Python does."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapegrad.engine import build
from tapegrad.engine.native import lowering
from tapegrad.engine.native.pointers import F64, I64

LIMIT = 7


def arithmetic(x, y):
    return (x + y) * 3 - (x & y) + (x | 5) - (x ^ y) + (-x) + (~y) + (x << 2) + (y >> 1)


def divisions(x, y):
    return (x // y) * 1000 + x % y if y != 0 else -1


def choices(x, y):
    a = x if x > y else y
    b = x and y
    c = x or y
    d = not x
    e = x < y and not (x == 3 or y == 4)
    return a * 1_000_000 + b * 10_000 + c * 100 + d * 10 + e


def chained(x, y):
    return (0 <= x < y) + 2 * (x != y) + 4 * (y >= LIMIT) + 8 * (x <= -LIMIT)


def loops(x, y):
    total = 0
    for k in range(x):
        if k == y:
            continue
        if k > 20:
            break
        for j in range(k, -1, -1):
            total = total + j * k
        k = 100  # must not disturb the iteration
    while x > 0:
        x = x - 2
        if x == 5:
            break
        total += 1
    for k in range(y, y + 3):
        total = total * 2 + k
    return total


def swapped(x, y):
    x, y = y, x
    if x < 0:
        if y < 0:
            return 1
        else:
            return 2
    elif y < 0:
        return 3
    return x - y


def real(x, y):
    total = 0.5
    for k in range(4):
        total = total * x - y / (1.0 + k)
    return total if total == total and not total > 1e6 else -total


def side_effects(x, y):
    count = 0
    if x > 0 and divides(y, x):
        count = count + 1
    if y == 0 or divides(x, y):
        count = count + 2
    return count


def divides(x, y):
    return x % y == 0


INTEGER = (arithmetic, divisions, choices, chained, loops, swapped)
small = st.integers(-30, 30)


@pytest.fixture(scope="module")
def compiled():
    functions = {f.__name__: (f, I64, [I64, I64], False) for f in INTEGER}
    functions |= {"real": (real, F64, [F64, F64], False)}
    address = build.load(build.compile_module(lowering.module(functions), set(functions)))
    whole, number = ctypes.c_int64, ctypes.c_double
    result = {f.__name__: ctypes.CFUNCTYPE(whole, whole, whole)(address(f.__name__)) for f in INTEGER}
    return result | {"real": ctypes.CFUNCTYPE(number, number, number)(address("real"))}


@pytest.mark.parametrize("function", INTEGER, ids=lambda f: f.__name__)
@settings(max_examples=60, deadline=None)
@given(x=small, y=small)
def test_integers(compiled, function, x, y):
    assert compiled[function.__name__](x, y) == function(x, y)


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-4, 4), y=st.floats(-4, 4))
def test_reals(compiled, x, y):
    assert compiled["real"](x, y) == pytest.approx(real(x, y), rel=1e-12, abs=1e-12)


def unknown_name(x, y):
    return x + nobody  # noqa: F821


def a_list(x, y):
    return [x, y]


def a_python_call(x, y):
    return max(x, y)


def a_row_as_number(x, y):
    return x.geometry


@pytest.mark.parametrize("function", [unknown_name, a_list, a_python_call, a_row_as_number, side_effects], ids=lambda f: f.__name__)
def test_what_is_not_in_the_subset_is_refused_by_name_and_line(function):
    with pytest.raises(SyntaxError, match=f"{function.__name__}, line [0-9]+: "):
        lowering.module({"f": (function, I64, [I64, I64], False)})
