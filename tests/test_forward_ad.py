"""Owns dual tensors as the user makes them: what they share with primal and tangent, in-place operations, custom Functions, gradcheck's
forward mode."""

from __future__ import annotations

import pytest

import tapegrad as tg
from tapegrad.autograd import Function, gradcheck, gradgradcheck
from tapegrad.autograd import forward_ad as fw


def dual(tangent=None):
    return fw.make_dual(tg.ones(2), tg.ones(2) if tangent is None else tangent)


def test_in_place_operations_change_the_tangent_that_was_given():
    t = tg.ones(2)
    with fw.dual_level():
        d = dual(t)
        y = d + 1  # its tangent is another tensor
        d *= 2
        assert t.tolist() == [2.0, 2.0] and fw.unpack_dual(d).tangent is t and fw.unpack_dual(y).tangent.tolist() == [1.0, 1.0]
        y.mul_(3)
        z = tg.zeros(2)
        z.copy_(d)
        z.mul_(5)
        assert t.tolist() == [2.0, 2.0] and fw.unpack_dual(z).tangent.tolist() == [10.0, 10.0]
        d.copy_(tg.ones(2))
        assert t.tolist() == [0.0, 0.0]
        assert fw.unpack_dual(d).primal is not fw.unpack_dual(d).primal


def test_detach_in_place_ends_the_tangent():
    x = tg.ones(2, requires_grad=True)
    with fw.dual_level():
        d = fw.make_dual(x, tg.ones(2)).clone()
        d.detach_()
        assert fw.unpack_dual(d * 2).tangent is None and not d.requires_grad
    assert d.tolist() == [1.0, 1.0]


def test_levels():
    assert fw._current_level == -1
    with fw.dual_level() as number:
        assert number == fw._current_level == 0
        with pytest.raises(RuntimeError, match="Setting a forward grad that itself has a forward gradient at the same level"):
            dual(dual())
        with pytest.raises(RuntimeError, match="Making a dual Tensor based on a Tensor that already has a forward gradient"):
            fw.make_dual(dual(), tg.ones(2))
    with pytest.raises(RuntimeError, match="Dual level must be a positive number"):
        fw.exit_dual_level()


# --- custom Functions -----------------------------------------------------------------------------------------------------
def function(forward, jvp):
    return type("Own", (Function,), {"forward": staticmethod(forward), "jvp": staticmethod(jvp)})


def dirty(ctx, x):
    ctx.mark_dirty(x)
    return x.mul_(2)


@pytest.mark.parametrize(
    "forward, jvp, text",
    [
        (dirty, lambda ctx, t: t * 2, "jvp function must modify the corresponding gradient inplace"),
        (dirty, lambda ctx, t: t, "jvp function must modify the corresponding gradient inplace"),
        (lambda ctx, x: x, lambda ctx, t: t * 2, "is returning a view .or an input as-is. but the jvp is not returning a view"),
        (lambda ctx, x: x[:1], lambda ctx, t: t[:1].clone(), "is returning a view .or an input as-is. but the jvp is not returning a view"),
        (lambda ctx, x: x[:1], lambda ctx, t: t.clone()[:1], "is not returning a view of the given grad input"),
        (lambda ctx, x: (x.clone(), x.long()), lambda ctx, t: (t, t), "You should return None at that position instead"),
        (lambda ctx, x: (x.clone(), x.clone()), lambda ctx, t: t, "invalid number of forward gradients .expected 2 but got 1"),
    ],
)
def test_what_a_jvp_must_return(forward, jvp, text):
    with fw.dual_level(), pytest.raises(RuntimeError, match=text):
        function(forward, jvp).apply(dual())


def test_a_jvp_of_a_view_of_a_view():
    own = function(lambda ctx, x: x[:1], lambda ctx, t: t.clone()[:1])
    with fw.dual_level(), pytest.raises(RuntimeError, match="not returning a view of the same base as the given grad input"):
        d = dual()
        own.apply(d.view_as(d))


def test_a_function_in_place():
    t = tg.ones(2)
    with fw.dual_level():
        d = dual(t)
        out = function(dirty, lambda ctx, tangent: tangent.mul_(2)).apply(d)
        assert out is d and fw.unpack_dual(out).tangent is t and t.tolist() == [2.0, 2.0]
        own = function(lambda ctx, x: x[:1], lambda ctx, tangent: tangent[:1])
        assert fw.unpack_dual(own.apply(dual())).tangent.tolist() == [1.0]


# --- gradcheck --------------------------------------------------------------------------------------------------------------
def points():
    tg.manual_seed(0)
    return tuple(tg.rand(3, dtype=tg.float64).requires_grad_() for _ in range(2))


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck_and_gradgradcheck_in_both_ways(fast):
    for f in (lambda a, b: a * b, lambda a, b: a.sin() * b, lambda a, b: a @ b, lambda a, b: (a * 2 + b, b.exp())):
        assert gradgradcheck(f, points(), fast_mode=fast, check_fwd_over_rev=True)
        assert gradcheck(f, points(), fast_mode=fast, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    z = tg.rand(2, dtype=tg.complex128).requires_grad_()
    assert gradcheck(lambda a, b: (a * b, b), (z, points()[0][:2].detach().requires_grad_()), fast_mode=fast, check_forward_ad=True)


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck_finds_a_wrong_tangent(fast):
    def wrong(a, b):
        if fw._current_level >= 0:
            primal, tangent = fw.unpack_dual(b)
            b = fw.make_dual(primal, tangent * 1.1)
        return a + b, b

    for point in (points(), tuple(tg.rand(2, dtype=tg.complex128).requires_grad_() for _ in range(2))):
        with pytest.raises(RuntimeError, match="Jacobian computed with forward mode mismatch for output 0 with respect to input 1"):
            gradcheck(wrong, point, check_forward_ad=True, fast_mode=fast)


def test_how_often_the_jvp_runs():
    count = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, y):
            if fw._current_level >= 0:
                assert not x.requires_grad and not y.requires_grad
            return x.clone(), y.clone()

        @staticmethod
        def jvp(ctx, s, t):
            count.append(1)
            return s, t

    x, y = tg.rand(1, dtype=tg.float64).requires_grad_(), tg.rand(1, dtype=tg.float64).requires_grad_()
    expected = iter([2, 6, 12, 5])
    for point, undefined, batched in (((x, y), False, False), ((x, y), True, False), ((x, y), True, True), ((x, y.detach()), True, True)):
        count.clear()
        gradcheck(Two.apply, point, check_forward_ad=True, check_backward_ad=False, check_undefined_grad=undefined, check_batched_forward_grad=batched)
        assert len(count) == next(expected)


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck_refuses_functions_that_change(fast):
    x = tg.ones(1, dtype=tg.float64, requires_grad=True)
    with pytest.raises(AssertionError, match="return outputs with the same shape when inputs are perturbed"):
        gradcheck(lambda t: tg.cat([t, t]) if bool((t >= 1).all()) else t, x, fast_mode=fast)
    with pytest.raises(AssertionError, match="return outputs with the same dtype when inputs are perturbed"):
        gradcheck(lambda t: t.to(tg.float32) if bool((t >= 1).all()) else t, x, fast_mode=fast)

    class Jitter(Function):
        @staticmethod
        def forward(ctx, t):
            return t

        @staticmethod
        def backward(ctx, g):
            return g * (1 + tg.rand_like(g) * 1e-6)

    with pytest.raises(RuntimeError, match="Backward is not reentrant"):
        gradcheck(Jitter.apply, x, fast_mode=fast)
    assert gradcheck(Jitter.apply, x, nondet_tol=1e-5, fast_mode=fast)


# --- levels inside each other, and operations that compute no tangents --------------------------------------------------
def test_levels_by_hand_do_not_nest():
    x = tg.ones(2)
    nested = pytest.raises(RuntimeError, match="Nested forward mode AD is not supported at the moment")
    for transform in (lambda: tg.func.jvp(tg.sin, (x,), (x,)), lambda: tg.func.jacfwd(tg.sin)(x), lambda: tg.func.linearize(tg.sin, x)):
        with fw.dual_level(), nested:
            transform()

    def enters(x):
        with fw.dual_level():
            return x

    for f in (enters, lambda x: tg.func.linearize(tg.sin, x)[0]):
        with nested:
            tg.func.jvp(f, (x,), (x,))
    with pytest.raises(RuntimeError, match="Batching rule not implemented for aten::_make_dual"):
        tg.func.vmap(lambda x: tg.func.linearize(tg.sin, x)[0])(x)
    assert tg.func.jvp(lambda y: tg.func.jvp(tg.sin, (y,), (x,))[1], (x,), (x,))[1].tolist() == (-x.sin()).tolist()


def test_switched_off_operations_compute_values_only():
    x = tg.tensor([0.3, 0.5])

    def f(x):
        with fw._set_fwd_grad_enabled(False):
            assert not fw._is_fwd_grad_enabled()
            constant = (x**2).clone().mul_(3)
        return x**2 - constant

    for _ in range(3):
        value, tangent = tg.func.jvp(f, (x,), (tg.ones(2),))
        assert value.tolist() == (x**2 - x**2 * 3).tolist() and tangent.tolist() == (2 * x).tolist()
    with fw._set_fwd_grad_enabled(False):  # a transform switches it on again
        assert tg.func.jvp(lambda x: tg.func.jvp(f, (x,), (tg.ones(2),))[1], (x,), (tg.ones(2),))[1].tolist() == [2.0, 2.0]
        assert not fw._is_fwd_grad_enabled()
    assert fw._is_fwd_grad_enabled()
