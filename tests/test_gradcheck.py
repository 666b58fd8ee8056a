"""gradcheck's reports: which comparison failed first, and in which words; forward mode where there is no derivative."""

import pytest

import tapegrad as tg
from tapegrad.autograd import Function, forward_ad, gradcheck
from tapegrad.autograd.gradcheck import GradcheckError


def wrong_tangent(x, y):
    if forward_ad._current_level >= 0:
        primal, tangent = forward_ad.unpack_dual(y)
        y = forward_ad.make_dual(primal, tangent * 1.1)
    return x + y, y


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dx, dy, part", [
    (tg.float64, tg.float64, ""), (tg.complex128, tg.float64, ""),
    (tg.float64, tg.complex128, "While considering the imaginary part of complex inputs only, "),
])
def test_forward_mode_is_checked_by_part_of_the_inputs(fast, dx, dy, part):
    x, y = tg.ones(2, dtype=dx, requires_grad=True), tg.ones(2, dtype=dy, requires_grad=True)
    assert gradcheck(lambda x, y: (x * y, y), (x, y), check_forward_ad=True, fast_mode=fast)
    with pytest.raises(GradcheckError, match=f"^{part}Jacobian computed with forward mode mismatch for output 0 with respect to input 1,"):
        gradcheck(wrong_tangent, (x, y), check_forward_ad=True, fast_mode=fast)


class Noisy(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        tg.randn_like(g)
        return g * 2

    @staticmethod
    def jvp(ctx, t):
        tg.randn_like(t)
        return t * 2


class Reading(Noisy):
    @staticmethod
    def backward(ctx, g):
        g.sum().item()
        return g * 2


@pytest.mark.parametrize("options", [{"check_batched_grad": True}, {"check_forward_ad": True, "check_batched_forward_grad": True}])
def test_what_a_batch_cannot_run_is_a_gradcheck_error(options):
    x = tg.ones(2, dtype=tg.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="^While computing batched gradients, got: vmap: We do not yet support calling random operations inside of vmap."):
        gradcheck(Noisy.apply, (x,), **options)
    assert not gradcheck(Noisy.apply, (x,), raise_exception=False, **options)


def test_values_that_a_batch_does_not_have():
    x = tg.ones(2, dtype=tg.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="got: Batching rule not implemented for aten::item. We could not generate a fallback."):
        gradcheck(Reading.apply, (x,), check_batched_grad=True)


@pytest.mark.parametrize("name, f", [
    ("igamma", lambda d: tg.igamma(d, d)), ("special_zeta", lambda d: tg.special.zeta(d + 1, d)), ("_unique2", tg.unique), ("geqrf", lambda d: tg.geqrf(d.outer(d))),
])
def test_forward_mode_of_what_has_no_derivative(name, f):
    with forward_ad.dual_level():
        d = forward_ad.make_dual(tg.ones(3), tg.ones(3))
        for _ in range(3):
            with pytest.raises(NotImplementedError, match=f"^Trying to use forward AD with {name} that does not support it because it has not been implemented yet."):
                f(d)


def test_forward_mode_of_what_torch_does_not_know():
    with forward_ad.dual_level():
        d = forward_ad.make_dual(tg.ones(3), tg.ones(3))
        for name, f in (("bincount", lambda: tg.bincount(tg.tensor([0, 1, 1]), d)), ("histogram", lambda: tg.histogram(d, 3)), ("floor_divide", lambda: d // 2)):
            with pytest.raises(NotImplementedError, match=f"^Trying to use forward AD with aten::{name} that does not support it.$"):
                f()


def test_a_tangent_lies_in_memory_as_its_primal_does():
    whole, tangent = tg.arange(5.0), tg.ones(4)
    with forward_ad.dual_level():
        own = forward_ad.unpack_dual(forward_ad.make_dual(whole[:4].detach(), tangent)).tangent
        assert own.untyped_storage().nbytes() == 20 and own.tolist() == [1.0] * 4
        own.mul_(2)
        assert tangent.tolist() == [1.0] * 4
        t = tg.ones(2, 3)
        assert forward_ad.unpack_dual(forward_ad.make_dual(tg.ones(3, 2).T, t)).tangent.stride() == (1, 2)
        assert forward_ad.unpack_dual(forward_ad.make_dual(tg.ones(2, 3), t)).tangent is t
        z = tg.ones(2, dtype=tg.complex64)
        own = forward_ad.unpack_dual(forward_ad.make_dual(z.conj(), z * 1j)).tangent
        assert own.is_conj() and own.tolist() == [1j, 1j]


def test_a_dual_number_prints_its_tangent_as_a_number():
    with forward_ad.dual_level():
        assert repr(forward_ad.make_dual(tg.tensor(2.0), tg.tensor(1.0))) == "tensor(2., tangent=1.0)"
        assert repr(forward_ad.make_dual(tg.ones(1), tg.ones(1))) == "tensor([1.], tangent=tensor([1.]))"


def test_grad_fn_under_its_private_name():
    y = tg.ones(2, requires_grad=True) * 2
    assert y._grad_fn is y.grad_fn
    with pytest.raises(RuntimeError, match="^_grad_fn can be only set to None$"):
        y._grad_fn = 3
    with pytest.raises(RuntimeError, match="^Deletion of _grad_fn not allowed. Detach tensor instead!$"):
        del y._grad_fn
    y._grad_fn = None
    assert y.is_leaf and not y.requires_grad
