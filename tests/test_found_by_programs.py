"""Owns what random programs found: each is a program of a few lines that computed or refused wrongly."""

from __future__ import annotations

import fractions
import math

import pytest

import tapegrad as tg

X = tg.tensor([[0.2, 0.4, 0.6], [0.8, 1.0, 1.2]], dtype=tg.float64)


def changed_through_another_view(a):
    """A view of `a` that has to take its new place in the graph, another view of the same memory having been changed."""
    b = a * 1
    v = b.view(2, 3)
    b.flatten()[1:3].tanh_()
    return v


TRANSFORMS = {
    "vmap": (lambda f, v: tg.vmap(f)(v), lambda f, v: tg.stack([f(t) for t in v.unbind()])),
    "jvp": (lambda f, v: tg.func.jvp(f, (v,), (v.detach(),))[1], lambda f, v: v.cos() * v.detach()),
    "vjp": (lambda f, v: tg.func.vjp(f, v)[1](tg.ones(2, 3, dtype=tg.float64))[0], lambda f, v: v.cos()),
    "captured": (lambda f, v: tg.vmap(lambda t: t * f(v).sum())(v), lambda f, v: v * f(v).sum()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_a_view_whose_base_was_changed(name):
    transform, by_hand = TRANSFORMS[name]
    grads = []
    for compute in (transform, by_hand):
        a = X.clone().requires_grad_()
        grads.append(tg.autograd.grad((compute(tg.sin, changed_through_another_view(a)) ** 2).sum(), a)[0])
    assert tg.allclose(*grads, rtol=1e-10, atol=1e-12)


def test_second_derivative_through_a_changed_flat_view():
    def f(a, change):
        v = a * 0.5
        if change:
            v.flatten()[0:1].tanh_()
        else:
            v = tg.cat([v.flatten()[:1].tanh(), v.flatten()[1:]]).view(3, 3)
        return (v @ v).sum() + (v.t() @ v.exp()).sum()

    seconds = []
    for change in (True, False):
        a = (tg.arange(9.0, dtype=tg.float64).view(3, 3) / 9).requires_grad_()
        (g,) = tg.autograd.grad(f(a, change), a, create_graph=True)
        seconds.append(tg.autograd.grad((g * g).sum(), a)[0])
    assert tg.allclose(*seconds, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("f", [
    lambda v: tg.addmm(v, v, tg.ones(2, 2)), lambda v: tg.addmv(v[0], v, tg.ones(2)), lambda v: tg.addr(v, v[0], tg.ones(2)),
    lambda v: tg.baddbmm(v[None], v[None], tg.ones(1, 2, 2)), lambda v: tg.addbmm(v, v[None], tg.ones(1, 2, 2)), lambda v: tg.vdot(v[0], tg.ones(2)),
    lambda v: v.bfloat16() @ tg.ones(2, 2, dtype=tg.bfloat16),
])  # fmt: skip
def test_only_what_a_wanted_gradient_reads_is_saved(f):
    a = tg.ones(2, 2, requires_grad=True)
    v = a * 2
    out = f(v)
    v.zero_()
    out.sum().backward()
    assert a.grad is not None


def test_factors_of_sums_of_products_are_conjugated():
    x, y, z = (tg.full(shape, 1 + 1j, dtype=tg.complex128, requires_grad=True) for shape in ((2,), (2, 3), (3,)))
    out = tg.addmv(x, y, z, beta=2j, alpha=1j)
    grads = tg.autograd.grad(out, (x, y, z), tg.ones(2, dtype=tg.complex128))
    by_hand = tg.autograd.grad(2j * x + 1j * (y @ z), (x, y, z), tg.ones(2, dtype=tg.complex128))
    for g, expected in zip(grads, by_hand, strict=True):
        assert g.tolist() == expected.tolist()


def test_trace_of_half_precision():
    for d in (tg.bfloat16, tg.float16):
        assert tg.trace(tg.ones(3, 3, dtype=d)).dtype is d


def test_one_of_several_views_changed_without_grad_is_not_usable():
    for write in (lambda v: v.zero_(), lambda v: v.mul_(2), lambda v: v.fill_(1.0)):
        for _ in range(3):  # the call is compiled after the first time
            a = tg.ones(3, requires_grad=True)
            v = (a * 1).chunk(3)[0]
            with tg.no_grad():
                write(v)
            with pytest.raises(RuntimeError, match="is a view and its base or another view of its base has been modified inplace"):
                v - 1


def test_written_elements_have_the_dtype_of_the_target():
    x, v = tg.zeros(3), tg.ones(2, dtype=tg.float64)
    for index in (tg.tensor([0, 1]), [0, 1], (tg.tensor([0, 1]),), tg.tensor([True, True, False])):
        with pytest.raises(RuntimeError, match="Index put requires the source and destination dtypes match, got Float for the destination and Double"):
            x[index] = v
    x[tg.tensor([True, False, True])] = tg.tensor(2.0, dtype=tg.float64)
    x[1:2] = v[:1]
    assert x.tolist() == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("d", [tg.uint8, tg.int8, tg.int16, tg.int32, tg.int64])
def test_remainders_of_the_ends_of_integers(d):
    """An unsigned 250 is no negative number, and the least integer over -1 is no trap of the processor."""
    ends = [tg.iinfo(d).min, tg.iinfo(d).max, 5]
    for by in (3, -3, -1, 7):
        if d is tg.uint8 and by < 0:
            continue
        expected = [math.trunc(fractions.Fraction(x, by)) for x in ends]
        found = tg.fmod(tg.tensor(ends, dtype=d), by), tg.fmod(tg.tensor(ends, dtype=d), tg.tensor(by, dtype=d))
        for f in found:
            assert f.tolist() == [x - by * q for x, q in zip(ends, expected)]
    least = tg.tensor(ends[:1], dtype=d)
    if d is not tg.uint8:
        assert tg.div(least, -1, rounding_mode="trunc").tolist() == tg.div(least, -1, rounding_mode="floor").tolist() == ends[:1]


PLACES = {
    "slice": lambda t, i: t[i : i + 3], "open": lambda t, i: t[i:], "step": lambda t, i: t[:30:i], "second": lambda t, i: t.view(2, 20)[:, i - 3 :],
    "diag": lambda t, i: tg.diag(t, i), "linspace": lambda t, i: tg.linspace(0, 1, i),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_places_given_as_tensors_are_read_at_each_call(name):
    """Their shapes are equal at each call, so a call that is answered from memory would take the first value again."""
    t = tg.arange(40.0)
    for i in tg.tensor([3, 7, 11, 5]):
        got, expected = PLACES[name](t, i), PLACES[name](t, int(i))
        assert got is expected is None or tg.equal(got, expected)


def test_writing_at_places_given_as_tensors():
    t = tg.zeros(12)
    for i in tg.tensor([0, 4, 8]):
        t[i : i + 2] = 1.0
    assert t.tolist() == [1, 1, 0, 0] * 3


def test_gradgradcheck_draws_from_the_default_stream():
    x = tg.tensor([0.5, 0.2], dtype=tg.float64, requires_grad=True)
    tg.manual_seed(0)
    tg.autograd.gradgradcheck(tg.sin, x)
    after = tg.rand(2)
    tg.manual_seed(0)
    tg.empty(2, dtype=tg.float64).uniform_(-1, 1)
    assert tg.equal(after, tg.rand(2))


@pytest.mark.parametrize("d", [tg.float16, tg.bfloat16, tg.float32, tg.float64])
def test_functions_that_ask_for_the_limits_of_their_dtype(d):
    x, eps, tiny = tg.tensor([1.0, math.inf, 0.0, -1.0, 1.0, math.nan, 1.0], dtype=d), tg.finfo(d).eps, tg.finfo(d).tiny * tg.finfo(d).eps
    y = tg.tensor([2.0, 0.0, -1.0, 0.0, 1.0, 0.0, math.nan], dtype=d)
    found = tg.nextafter(x, y)
    assert found.dtype is d and found.tolist()[:5] == [1 + eps, tg.finfo(d).max, -tiny, -1 + eps / 2, 1.0] and found[5:].isnan().all()
    assert tg.nn.functional.softshrink(tg.tensor([1.0, -1.0, 0.25, math.inf], dtype=d)).tolist() == [0.5, -0.5, 0.0, math.inf]
    small = tg.full((2, 2), 1e-4, dtype=d)
    wide = small.double() if d is tg.float64 else small.float()
    expected = wide / (wide**2 + tg.finfo(wide.dtype).eps).sqrt()
    found = tg.nn.functional.rms_norm(small, (2,), tg.tensor([1.0, 2.0], dtype=d))
    assert found.dtype is d and tg.allclose(found.double(), (expected * tg.tensor([1.0, 2.0])).double(), rtol=4 * eps)


def test_signs_of_zeros():
    signs = lambda t: tg.signbit(t).tolist()
    x = tg.tensor([0.0, -0.0])
    assert signs(tg.erfinv(x)) == [False, True] and signs(tg.nn.functional.softshrink(-x - 0.25)) == [False, False]
    assert tg.special.spherical_bessel_j0(tg.tensor([math.inf, -math.inf, 0.0])).tolist() == [0.0, 0.0, 1.0]


def test_transforms_record_in_inference_mode():
    with tg.inference_mode():
        x, w = tg.tensor(0.5, dtype=tg.float64), tg.tensor(2.0, dtype=tg.float64)
        assert tg.func.grad(tg.sin)(x).item() == pytest.approx(math.cos(0.5))
        assert tg.func.grad(tg.func.grad(lambda t: w * t**3))(x).item() == pytest.approx(6.0)
        assert tg.func.jvp(tg.func.grad(lambda t: w * t**3), (x,), (x,))[1].item() == pytest.approx(3.0)
        assert tg.func.hessian(lambda t: (t**3).sum())(tg.stack([x, w])).diagonal().tolist() == pytest.approx([3.0, 12.0])
        assert tg.func.vjp(lambda t: t.clone().mul_(w), x)[1](w)[0].item() == 4.0
        assert tg.is_inference_mode_enabled() and not tg.is_grad_enabled()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
        tg.ones((), dtype=tg.float64, requires_grad=True) * w


@pytest.mark.parametrize("cut", [
    lambda x: x.hsplit(1), lambda x: x.tensor_split(1), lambda x: tg.tensor_split(x, []), lambda x: tg.vsplit(x.view(3, 1), 1), lambda x: tg.hsplit(x, 1),
])  # fmt: skip
def test_one_piece_is_a_tuple_at_every_call(cut):
    x = tg.arange(3.0, requires_grad=True)
    for _ in range(4):
        pieces = cut(x)
        assert type(pieces) is tuple and len(pieces) == 1 and pieces[0].flatten().tolist() == [0.0, 1.0, 2.0]
        assert pieces[0].grad_fn.name() == "SliceBackward0"
        assert tg.autograd.grad((pieces[0] ** 2).sum(), x)[0].tolist() == [0.0, 2.0, 4.0]


def test_a_view_made_in_no_grad_mode_asks_its_base():
    flat = tg.arange(6.0)
    leaf = flat[1:].requires_grad_()
    for _ in range(3):
        with tg.no_grad():
            views = leaf[1:], leaf.view(5), leaf.chunk(2)[0], leaf.expand(2, 5)
        assert not any(v.requires_grad or (v * 2).requires_grad for v in views)
        with tg.no_grad():
            views = leaf.clone().requires_grad_()[1:], leaf.clone().requires_grad_().view(5)
        assert all(v.requires_grad for v in views)


def test_the_graph_of_a_power_shows_a_product():
    for exponent in (4, 3.5, -3, 2.5):
        x = tg.tensor([2.0, 1.5], dtype=tg.float64, requires_grad=True)
        (g,) = tg.autograd.grad((x**exponent).sum(), x, create_graph=True)
        (h,) = tg.autograd.grad(g.sum(), x)
        assert g.grad_fn.name() == "MulBackward0" and tg.allclose(g, exponent * x.detach() ** (exponent - 1))
        assert tg.allclose(h, exponent * (exponent - 1) * x.detach() ** (exponent - 2))


@pytest.mark.parametrize("name, first", [("elu", 1.0), ("celu", 1.0), ("selu", 1.0507009873554805 * 1.6732632423543772)])
def test_second_derivative_at_the_kink(name, first):
    x = tg.tensor([0.0, -1.0], dtype=tg.float64, requires_grad=True)
    (g,) = tg.autograd.grad(getattr(tg.nn.functional, name)(x).sum(), x, create_graph=True)
    (h,) = tg.autograd.grad(g.sum(), x)
    assert g.tolist() == pytest.approx([first, first * math.exp(-1)]) and h.tolist() == pytest.approx([0.0, first * math.exp(-1)])


def test_losses_of_nan_have_gradient_nan():
    for loss in (tg.nn.functional.smooth_l1_loss, tg.nn.functional.huber_loss):
        x = tg.tensor([math.nan, 0.5, 3.0], requires_grad=True)
        (g,) = tg.autograd.grad(loss(x, tg.zeros(3), reduction="sum"), x)
        assert math.isnan(g[0]) and g[1:].tolist() == [0.5, 1.0]


def test_binary_cross_entropy_by_the_target_has_no_bound():
    p, y = tg.tensor([0.0, 1.0, 0.2]), tg.tensor([0.0, 1.0, 0.5], requires_grad=True)
    (g,) = tg.autograd.grad(tg.nn.functional.binary_cross_entropy(p, y, reduction="sum"), y)
    assert g[:2].tolist() == [math.inf, -math.inf] and g[2].item() == pytest.approx(math.log(0.8) - math.log(0.2))


def test_norms_of_nothing():
    for _ in range(3):
        with pytest.raises(RuntimeError, match="cannot compute the inf norm on an empty tensor because the operation does not have an identity"):
            tg.zeros(0).norm(math.inf)
        with pytest.raises(RuntimeError, match="cannot compute the -inf norm on the dimension 0because this dimension is empty"):
            tg.linalg.vector_norm(tg.zeros(0, 3), -math.inf, 0)
        assert tg.linalg.vector_norm(tg.zeros(0, 3), math.inf, 1).shape == (0,) and tg.zeros(0).norm().item() == 0
    x = tg.tensor([math.nan, 0.0, 2.0], requires_grad=True)
    assert tg.autograd.grad(x.norm(0), x)[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("call, words", [
    (lambda F, x: F.max_pool2d(x, 2, padding=-1), "pad must be non-negative, but got pad: -1"), (lambda F, x: F.avg_pool2d(x, 2, padding=4), "got pad=4, kernel_size=2 and dilation=1"),
    (lambda F, x: F.max_pool3d(x[None], 2, padding=4), "pad should be at most half of effective"), (lambda F, x: F.avg_pool3d(x[None], 2, padding=-1), "but got pad: -1"),
    (lambda F, x: F.max_pool1d(x, 2, padding=-1, return_indices=True), "pad must be non-negative, but got pad: -1"),
    (lambda F, x: F.max_pool1d(x, 2, padding=-1), "max_pool1d.. padding must be non-"),
])  # fmt: skip
def test_windows_are_looked_at_before_the_input(call, words):
    with pytest.raises(RuntimeError, match=words):
        call(tg.nn.functional, tg.ones(0, 1, 49))


def test_indices_are_looked_at_last():
    far = tg.full((2, 2), 9)
    with pytest.raises(RuntimeError, match="Index tensor must have the same number of dimensions as src tensor"):
        tg.zeros(3, 5).scatter(0, far, tg.zeros(2, 5, 2))
    with pytest.raises(RuntimeError, match="Expected self.dtype to be equal to src.dtype"):
        tg.zeros(3, 5).scatter_add(0, far, tg.zeros(2, 5, dtype=tg.uint8))
    with pytest.raises(RuntimeError, match="gather.*: Expected dtype int32/int64 for index"):
        tg.ones(2, 2).gather(1, tg.zeros(2, 2, 2))
    with pytest.raises(RuntimeError, match="index 9 is out of bounds for dimension 0 with size 3"):
        tg.zeros(3, 5).scatter(0, far, tg.zeros(2, 5))


def test_a_part_may_be_written_over_the_whole_where_it_is_read_first():
    def x():
        return tg.arange(1.0, 4.0)

    for _ in range(3):
        assert (a := x()).fill_(a[1]).tolist() == [2.0, 2.0, 2.0] and (a := x()).masked_fill_(a > 1, a[0]).tolist() == [1.0, 1.0, 1.0]
        assert (a := x()).index_fill_(0, tg.tensor([0]), a[2]).tolist() == [3.0, 2.0, 3.0] and (a := x()).masked_scatter_(a > 1, a).tolist() == [1.0, 1.0, 2.0]
        assert (a := x())[:1].addmv_(a.view(1, 3), a).tolist() == [15.0]
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            (a := x())[1:].copy_(a[:-1])
    leaf = x().requires_grad_()
    b = leaf * 1
    b.fill_(b[1])
    assert b.tolist() == [2.0, 2.0, 2.0] and tg.autograd.grad((b * x()).sum(), leaf)[0].tolist() == [0.0, 6.0, 0.0]


@pytest.mark.parametrize("name, result", [("eq", [0.0, 1.0]), ("ne", [1.0, 0.0]), ("lt", [1.0, 0.0]), ("le", [1.0, 1.0]), ("gt", [0.0, 0.0]), ("ge", [0.0, 1.0])])
def test_a_comparison_written_over_a_tensor_leaves_it_in_the_graph(name, result):
    for other, number in ((2.0, 0), (tg.tensor([2.0, 2.0], requires_grad=True), 1)):
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = x * 1
        getattr(y, name + "_")(other)
        assert y.tolist() == result and y.requires_grad and y.grad_fn.name() == f"{name.title()}Backward{number}"
        assert tg.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 0.0]
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            getattr(x, name + "_")(other)


def test_the_graph_does_not_notice_logic_in_place():
    for name in ("logical_not_", "logical_and_", "logical_or_", "logical_xor_"):
        x = tg.tensor([0.0, 2.0], requires_grad=True)
        y = x * 3
        arguments = () if name == "logical_not_" else (tg.ones(2),)
        getattr(y, name)(*arguments)
        assert y.grad_fn.name() == "MulBackward0" and tg.autograd.grad(y.sum(), x)[0].tolist() == [3.0, 3.0]
        getattr(x, name)(*arguments)
        assert x.is_leaf and x.requires_grad and x._version == 1


def test_dtypes_that_kernels_have_and_have_not():
    assert tg.bucketize(tg.tensor([1.0, 3.0], dtype=tg.float64), tg.tensor([1, 2])).tolist() == [0, 2]
    assert tg.searchsorted(tg.tensor([1.0, 2.0]).half(), tg.tensor([1, 3])).tolist() == [0, 2]
    for d in (tg.float16, tg.bfloat16):
        found = tg.histc(tg.tensor([0.0, 1, 1, 2, 0.3], dtype=d), 4, 0, 2)
        assert found.dtype is d and found.tolist() == [2.0, 0.0, 2.0, 1.0]
    half, logits = tg.ones(2, dtype=tg.float16), tg.nn.functional.binary_cross_entropy_with_logits
    for call, kernel in ((lambda: tg.polar(half, half), "polar_cpu"), (lambda: tg.ones(2, dtype=tg.complex64).kthvalue(1), "kthvalue_cpu"),
                         (lambda: tg.nn.functional.threshold(half > 1, 0.1, 0.2), "threshold_cpu"), (lambda: logits(tg.ones(2).long(), tg.ones(2)), "log_sigmoid_cpu")):  # fmt: skip
        with pytest.raises(NotImplementedError, match=kernel):
            call()
    assert tg.zeros(0, dtype=tg.int8).median().item() == 0 and tg.zeros(0, dtype=tg.int64).median().item() == -(2**63)


@pytest.mark.parametrize("change", [
    lambda x: x.index_put_((tg.tensor([0, 0]),), tg.ones(5)), lambda x: x.__setitem__(tg.ones(4) > 0, 1.0), lambda x: x.abs_() if x.is_complex() else x.sub_(x > 0),
    lambda x: x.fill_(1j) if not x.is_complex() else x.abs_(), lambda x: x.masked_fill_(tg.ones(4) > 0, 1), lambda x: x.index_put_((tg.tensor([0]),) * 2, x),
])  # fmt: skip
def test_a_leaf_is_not_written_to_whatever_else_is_wrong(change):
    for d in (tg.float32, tg.complex64):
        with pytest.raises(RuntimeError, match="^a leaf Variable that requires grad"):
            change(tg.ones(3, dtype=d, requires_grad=True))


def test_writes_by_index_of_the_same_memory():
    for write in (lambda x: x.__setitem__([0, 2], x), lambda x: x.__setitem__(tg.tensor([0, 1, 2]), x), lambda x: x.index_put_((tg.tensor([0, 1, 2]),), x)):
        for _ in range(3):
            with pytest.raises(RuntimeError, match="refer to a single memory location"):
                write(tg.ones(3))
    with pytest.raises(RuntimeError, match="Number of indices .2. should be equal to source.size"):
        (x := tg.ones(3)).index_add_(0, tg.tensor([0, 1]), x)
    for join in (tg.cat, tg.stack):
        with pytest.raises(RuntimeError, match="functions with out=... arguments don't support automatic differentiation"):
            join([tg.ones(2, requires_grad=True), tg.ones(2, 2)], out=tg.ones(3))


@pytest.mark.parametrize("call, words", [
    (lambda: tg.ones(2, 3)[None, ..., 7], "index 7 is out of bounds for dimension 2 with size 3"), (lambda: tg.ones(0)[..., 0], "dimension 1 with size 0"),
    (lambda: tg.ones(2, 3).masked_fill_(tg.ones(4) > 0, 1), r"size of tensor a \(3\) must match the size of tensor b \(4\)"),
    (lambda: tg.ones(2, 0).argmin(-1), "argmin.*reduction dim 1 to"), (lambda: tg.ones(2, 0).aminmax(dim=-1), "aminmax: Expected reduction dim 1"),
    (lambda: tg.ones(2, 3, dtype=tg.bfloat16).expand(3), r"expand\(CPUBFloat16Type\{\[2, 3\]\}, size"), (lambda: tg.ones(2, 3).expand(3), r"expand\(tapegrad.FloatTensor\{"),
    (lambda: tg.ones(2, 3).bool().expand(3), "CPUBoolType"), (lambda: tg.polygamma(1, tg.ones(2, dtype=tg.complex64)), "\"trigamma\" not implemented"),
])  # fmt: skip
def test_words_of_refusals(call, words):
    with pytest.raises((RuntimeError, IndexError), match=words):
        call()


def test_hooks_that_change_the_kind_of_a_gradient():
    for change, words in ((lambda g: tg.ones(3).bfloat16(), "type of value .was tapegrad.FloatTensor got CPUBFloat16Type"), (lambda g: tg.ones(3), "the size of value")):
        y = tg.ones(2, requires_grad=True) * 1
        y.register_hook(change)
        with pytest.raises(RuntimeError, match=words):
            y.sum().backward()


def test_floor_division_in_place_is_named_so():
    x = tg.tensor([3.0, 5.0], requires_grad=True)
    for change, name in ((lambda y: y.floor_divide_(2), "floor_divide_"), (lambda y: y // 2, "floor_divide")):
        y = x * 1
        assert change(y).tolist() == [1.0, 2.0]
        with pytest.raises(RuntimeError, match=f"derivative for aten::{name} is not"):
            tg.autograd.grad((change(y) * 2).sum(), x)


def test_wide_powers_and_kinks():
    z = tg.tensor([1 + 1j], dtype=tg.complex64)
    assert z.float_power(2).dtype is tg.float_power(2, z).dtype is tg.complex128 and tg.ones(2).float_power(2).dtype is tg.float64
    assert tg.cumulative_trapezoid(tg.ones(2, 0, dtype=tg.int64)).dtype is tg.float32
    x = tg.tensor([0.5, 0.2], dtype=tg.float64, requires_grad=True)
    (g,) = tg.autograd.grad(tg.nn.functional.huber_loss(x, tg.zeros(2, dtype=tg.float64), "sum", 0.5), x, create_graph=True)
    assert g.tolist() == [0.5, 0.2] and tg.autograd.grad(g.sum(), x)[0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("change, name", [
    (lambda y: y.cumsum_(0), "CumsumBackward0"), (lambda y: y.lerp_(tg.ones(3), 0.5), "LerpBackward0"), (lambda y: y.index_add_(0, tg.tensor([0]), tg.ones(1)), "IndexAddBackward0"),
    (lambda y: y.sin_(), "SinBackward0"), (lambda y: tg.nn.functional.silu(y, True), "SiluBackward0"), (lambda y: y.div_(2, rounding_mode="trunc"), "DivBackward2"),
    (lambda y: y.scatter_(0, tg.tensor([0]), 2.0), "ScatterBackward1"), (lambda y: y.index_fill_(0, tg.tensor([0]), tg.tensor(2.0)), "IndexFillBackward1"),
    (lambda y: y.index_put_((tg.tensor([0]),), tg.ones(1)), "IndexPutBackward0"),
])  # fmt: skip
def test_the_graph_of_a_change_in_place_leads_to_what_was_changed(change, name):
    for _ in range(3):
        x = tg.tensor([0.5, 1.0, 2.0], dtype=tg.float32, requires_grad=True)
        y = x * 3
        before = y.grad_fn
        change(y)
        assert y.grad_fn.name() == name and y.grad_fn.next_functions[0][0] is before
        z = (x * 3).clone()
        assert tg.allclose(tg.autograd.grad(y.sum(), x)[0], tg.autograd.grad(change(z).sum(), x)[0])


def test_a_number_may_be_copied():
    for _ in range(3):
        assert tg.ones(2, dtype=tg.int64).copy_(2.5).tolist() == [2, 2] and tg.ones(2).copy_(True).tolist() == [1.0, 1.0]
    x = tg.ones(2, requires_grad=True)
    y = (x * 3).copy_(0.5)
    assert y.tolist() == [0.5, 0.5] and tg.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 0.0]
    with pytest.raises(IndexError, match="Dimension specified as 0 but tensor has no dimensions"):
        tg.zeros(3).index_add(0, tg.tensor([0, 0]), tg.ones(()))
    with pytest.raises(RuntimeError, match="^Only Tensors of floating point and complex dtype can require"):
        tg.nn.Parameter(tg.tensor([1, 2]))
