"""Owns the functions on lists of tensors, `_foreach_add` and its kind."""

from __future__ import annotations

import pytest

import tapegrad as tg
from tapegrad.foreach import BINARY, FOREACH, UNARY


def lists():
    return [tg.tensor([0.25, 0.5]), tg.tensor([[0.75]])], [tg.tensor([2.0, 3.0]), tg.tensor([[4.0]])]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    a, _ = lists()
    wanted = [getattr(t, name)() for t in a]
    found = getattr(tg, "_foreach_" + name)(a)
    assert type(found) is tuple and all(map(tg.equal, found, wanted))
    assert getattr(tg, f"_foreach_{name}_")(a) is a and all(map(tg.equal, a, wanted))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    plain = {"maximum": "clamp_min", "minimum": "clamp_max"}.get(name, name)
    f, in_place = getattr(tg, "_foreach_" + name), getattr(tg, f"_foreach_{name}_")
    a, b = lists()
    for other, each in ((0.5, [0.5, 0.5]), ([0.5, 2.0], [0.5, 2.0]), (b, b), (tuple(b), b)):
        wanted = [getattr(t, plain if isinstance(o, float) else name)(o) for t, o in zip(a, each, strict=True)]
        assert all(map(tg.equal, f(a, other), wanted))
        c = [t.clone() for t in a]
        assert in_place(c, other) is c and all(map(tg.equal, c, wanted))
    if name in ("add", "sub"):
        assert all(map(tg.equal, f(a, b, alpha=2), [getattr(t, name)(o, alpha=2) for t, o in zip(a, b, strict=True)]))
    for call, error, words in [
        (lambda: f([], b), RuntimeError, "same number of tensors, got 0 and 2"), (lambda: f(a, b[:1]), RuntimeError, "got 2 and 1"),
        (lambda: f(a, [1.0]), RuntimeError, "same number of elements as scalar list"), (lambda: f(a, tg.ones(2)), RuntimeError, "expected to be 0 dim"),
        (lambda: f(a, [b[0], 1]), TypeError, "expected Tensor as element 1 in argument 1, but got int"), (lambda: f(tg.ones(1), 1), TypeError, "tuple of Tensors"),
        (lambda: f(a), TypeError, "invalid combination"), (lambda: f(a, "x"), TypeError, "other"), (lambda: f([], []), RuntimeError, "at least one tensor"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            call()


def test_the_others():
    a, b = lists()
    for name in ("addcmul", "addcdiv"):
        for given, each in (((), (1, 1)), ((2,), (2, 2)), (([1, 3],), (1, 3)), ((tg.tensor([1.0, 3.0]),), (1, 3))):
            wanted = [getattr(x, name)(y, y, value=v) for x, y, v in zip(a, b, each, strict=True)]
            assert all(map(tg.equal, getattr(tg, "_foreach_" + name)(a, b, b, *given), wanted))
        c = [t.clone() for t in a]
        assert all(map(tg.equal, getattr(tg, f"_foreach_{name}_")(c, b, b, value=2), [getattr(x, name)(y, y, value=2) for x, y in zip(a, b, strict=True)]))
    assert all(map(tg.equal, tg._foreach_lerp(a, b, 0.25), [x.lerp(y, 0.25) for x, y in zip(a, b, strict=True)]))
    assert all(map(tg.equal, tg._foreach_lerp_([t.clone() for t in a], b, b), [x.lerp(y, y) for x, y in zip(a, b, strict=True)]))
    assert [t.item() for t in tg._foreach_norm(b, 1)] == [5, 4] and tg._foreach_norm(b, dtype=tg.float64)[0].dtype is tg.float64
    assert [t.item() for t in tg._foreach_max(b)] == [3, 4] and [t.tolist() for t in tg._foreach_pow(2, b)] == [[4, 8], [[16]]]
    c = tg._foreach_clone(a)
    assert tg._foreach_copy_(c, b) is c and all(map(tg.equal, c, b)) and not any(map(tg.any, tg._foreach_zero_(c)))
    assert tg._foreach_mul([tg.ones(2, dtype=tg.int32)], 1.5)[0].dtype is tg.float32
    with pytest.raises(RuntimeError, match="can't be cast"):
        tg._foreach_mul_([tg.ones(2, dtype=tg.int32)], 1.5)


def test_gradients_and_names():
    a, b = (tg.rand(3, requires_grad=True) for _ in range(2))
    sum(t.sum() for t in tg._foreach_mul([a, b], [b, a])).backward()
    assert tg.allclose(a.grad, 2 * b) and tg.allclose(b.grad, 2 * a)
    torch = pytest.importorskip("torch")
    assert {n for n in dir(torch) if n.startswith("_foreach_")} - FOREACH.keys() <= {"_foreach_powsum", "_foreach_mm"}
