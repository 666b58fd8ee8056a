"""Owns how tensors look inside a transform, and what becomes of those that leave it."""

from __future__ import annotations

import gc
import pickle

import pytest

import tapegrad as tg
from tapegrad.autograd import forward_ad, functional
from tapegrad.func import debug_unwrap, grad, hessian, jvp, vjp, vmap

X = tg.tensor([1.0, 2.0])


def shown(transform, *args) -> list[str]:
    """The reprs, without spaces, that `look` was given in the function that `transform(look)` makes."""
    seen: list[str] = []

    def look(*tensors):
        seen.extend("".join(repr(t).split()) for t in tensors)
        return tensors[0]

    transform(look)(*args)
    return seen


# --- printing -------------------------------------------------------------------------------------------------------
def test_arguments_and_results_print_the_levels_that_follow_them():
    value = lambda text, level=1: f"GradTrackingTensor(lvl={level},value={text})"
    assert shown(lambda look: grad(lambda x: look(x.sum(), x, x > 1, x.detach(), tg.ones(2))), X) == [
        value("tensor(3.)"), value("tensor([1.,2.])"), value("tensor([False,True])"), value("tensor([1.,2.])"), value("tensor([1.,1.])"),
    ]
    assert shown(lambda look: lambda x: jvp(look, (x,), (x,)), X) == [value("tensor([1.,2.])")]
    assert shown(lambda look: lambda x: vjp(look, x), X) == [value("tensor([1.,2.])")]
    assert shown(lambda look: vmap(look), X) == ["BatchedTensor(lvl=1,bdim=0,value=tensor([1.,2.]))"]
    assert shown(lambda look: vmap(grad(look)), X) == [value("BatchedTensor(lvl=1,bdim=0,value=tensor([1.,2.]))", 2)]
    assert shown(lambda look: grad(lambda x: vmap(look)(x).sum()), X) == [f"BatchedTensor(lvl=2,bdim=0,value={value('tensor([1.,2.])')})"]
    assert shown(lambda look: grad(grad(lambda x: look(x * 2))), X[0]) == [value(value("tensor(2.)"), 2)]


def test_what_the_function_has_captured_prints_as_it_is():
    captured = tg.tensor([5.0], requires_grad=True)
    assert shown(lambda look: grad(lambda x: look(x.sum(), captured)), X)[1] == "tensor([5.],requires_grad=True)"
    inner = shown(lambda look: grad(lambda x: grad(lambda y: look(x * y, x))(tg.tensor(3.0))), X[0])
    assert inner == ["GradTrackingTensor(lvl=2,value=GradTrackingTensor(lvl=1,value=tensor(3.)))", "GradTrackingTensor(lvl=1,value=tensor(1.))"]


def test_the_graph_around_a_transform_shows_in_the_value():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert shown(lambda look: grad(lambda x: look(x.sum(), x)), x) == [
        "GradTrackingTensor(lvl=1,value=tensor(3.,grad_fn=<SumBackward0>))", "GradTrackingTensor(lvl=1,value=tensor([1.,2.],requires_grad=True))",
    ]


def test_debug_unwrap_gives_the_tensor_outside():
    seen = []
    x = tg.randn(2, 3)
    vmap(vmap(lambda x: seen.extend([debug_unwrap(x), debug_unwrap(x, recurse=False)]) or x))(x)
    assert seen[0] is x and tuple(seen[1].shape) == (3,)
    grad(lambda x: seen.append(debug_unwrap(x)) or x.sum())(X)
    assert seen[2].tolist() == X.tolist() and not seen[2].requires_grad
    assert debug_unwrap(X) is X


# --- tensors that leave their transform -----------------------------------------------------------------------------
def kept(transform):
    """The argument of a function under `transform`, after it."""
    found = []
    transform(lambda x: found.append(x) or x.sum())
    return found[0]


@pytest.mark.parametrize(("use", "where"), [
    (lambda e: e.sin(), "gen_vmap_plumbing"), (lambda e: e + 1, "gen_vmap_plumbing"), (lambda e: e.sum(), "boxed_reduction_batch_rule"),
    (lambda e: e.mul_(2), "gen_vmap_inplace_plumbing"), (lambda e: e.sin_(), "boxed_tensor_inputs_batch_rule"), (lambda e: e[0], "gen_vmap_plumbing"),
    (lambda e: e.cumsum(0), "boxed_reduction_batch_rule"), (lambda e: e.prod(), "gen_vmap_plumbing"), (lambda e: e.normal_(), "boxed_tensor_inputs_batch_rule"),
    (lambda e: e.view(-1), "gen_vmap_plumbing"), (lambda e: tg.stack([e, e]), "gen_vmap_plumbing"),
    (lambda e: e.detach(), "gen_vmap_plumbing"), (lambda e: vmap(lambda x: x + e)(X), "gen_vmap_plumbing"),
])
def test_a_sample_that_has_left_its_vmap_is_refused(use, where):
    e = kept(lambda f: vmap(f)(X))
    with pytest.raises(RuntimeError, match=f"your tensor may have escaped from inside a function being vmapped.*{where}"):
        use(e)
    assert repr(e).startswith("BatchedTensor(lvl=1")


def test_a_dual_that_has_left_its_level_is_its_value():
    x = X.clone()
    e = kept(lambda f: jvp(f, (x,), (x,)))
    assert e.sin().tolist() == X.sin().tolist() and e.numpy().tolist() == [1.0, 2.0] and tg.stack([e, e]).tolist() == [[1.0, 2.0]] * 2
    assert e[1].item() == 2.0 and e.view(-1).tolist() == [1.0, 2.0] and (e.clone() + e).sum().item() == 6.0
    assert "".join(repr(e).split()) == "GradTrackingTensor(lvl=-2,value=tensor([1.,2.]))"
    assert e.mul_(2).tolist() == [2.0, 4.0]


def test_an_argument_that_has_left_grad_is_not_recorded():
    e = kept(lambda f: grad(f)(X))
    assert not e.sin().requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        e.sum().backward()
    assert kept(lambda f: vmap(grad(f))(tg.ones(2, 3))) is not None


def test_nothing_is_left_when_the_wrappers_are_gone():
    from tapegrad.ops.transformable import ACTIVE

    gc.collect()
    before = len(ACTIVE)
    vmap(lambda x: x.sin())(X), jvp(tg.sin, (X,), (X,)), hessian(lambda x: (x**3).sum())(X)
    e = kept(lambda f: vmap(f)(X))
    assert len(ACTIVE) == before + 1
    del e
    assert len(ACTIVE) == before


# --- rules of vmap --------------------------------------------------------------------------------------------------
def test_as_strided_of_samples():
    x = tg.arange(12.0).view(3, 4)
    assert vmap(lambda x: x.as_strided((2,), (1,), 1))(x).tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    assert vmap(lambda x: x.as_strided((2,), (4,), 1), 1)(x).tolist() == [[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]]
    assert vmap(lambda x: x.as_strided((2,), (1,)))(x[:, 1:]).tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    assert vmap(vmap(lambda x: x.as_strided((2,), (1,), 5)))(tg.arange(24.0).view(2, 3, 4)[:, 1:]).tolist() == [
        [[5.0, 6.0], [9.0, 10.0]], [[17.0, 18.0], [21.0, 22.0]],
    ]
    with pytest.raises(RuntimeError, match=r"memory in range \[3, 5\], but `tensor` can only access some memory in range \[0, 4\]"):
        vmap(lambda x: x.as_strided((2,), (1,), 3))(x)
    with pytest.raises(RuntimeError, match="size and stride must have the same length"):
        vmap(lambda x: x.as_strided((2,), (1, 1)))(x)
    assert vmap(grad(lambda x: (x.as_strided((2, 2), (1, 1)) ** 2).sum()))(x)[1].tolist() == [8.0, 20.0, 12.0, 0.0]


def test_storage_and_strides_of_samples():
    seen = []
    vmap(lambda x: seen.append(x.storage_offset()) or x)(tg.arange(24.0).view(2, 12)[:, 4:])
    assert seen == [4]
    assert vmap(lambda x: x.new_empty_strided((2, 3), (10, 2)))(X).stride() == (15, 10, 2)
    with pytest.raises(RuntimeError, match="only supported with memory_format torch.preserve_format or torch.contiguous_format"):
        vmap(lambda x: x.clone(memory_format=tg.channels_last))(tg.ones(3))
    assert tuple(vmap(lambda a: tg.cat([a, tg.ones(0)]))(tg.ones(3, 2, 3)).shape) == (3, 2, 3)


def test_refusals_of_vmap():
    with pytest.raises(RuntimeError, match="we do not yet support aten::rrelu"):
        vmap(lambda x: tg.rrelu(x), randomness="different")(X)
    with pytest.raises(RuntimeError, match="mutating directly with `.data` under vmap"):
        vmap(lambda x: setattr(x, "data", tg.ones(())))(X)
    with pytest.raises(RuntimeError, match="Batching rule not implemented for aten::_make_dual"):
        vmap(lambda x: functional.jacobian(tg.sin, x, strategy="forward-mode", vectorize=True))(tg.ones(3, 3))
    with pytest.raises(RuntimeError, match=r"Dimension is out of range \(expected to be in range of \[-1, 0\], but got \[1\]"):
        vmap(lambda x: x.squeeze(1))(X)
    with forward_ad.dual_level():  # a batch inside the level is well
        assert vmap(lambda t: forward_ad.unpack_dual(forward_ad.make_dual(X[0], t) * 2).tangent)(X).tolist() == [2.0, 4.0]


def test_numbers_have_dims_of_their_own():
    assert vmap(lambda x: x.movedim(0, -1))(X).tolist() == tg.tensor(X.tolist()).tolist() and tg.tensor(1.0).movedim(-1, 0).item() == 1.0
    with pytest.raises(IndexError, match="Dimension out of range"):
        tg.tensor(1.0).flatten(3)
    with pytest.raises(IndexError, match="Dimension out of range"):
        tg.tensor(1.0).unbind(3)


def test_return_types_are_public():
    found = tg.ones(2, 3).max(0)
    assert isinstance(found, tg.return_types.max) and isinstance(vmap(tg.max, (0, None))(tg.ones(2, 3), 0), tg.return_types.max)
    assert pickle.loads(pickle.dumps(found)).values.tolist() == [1.0] * 3 and "topk" in dir(tg.return_types)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tg.return_types.nothing  # noqa: B018


# --- leaves and Functions inside transforms ---------------------------------------------------------------------------
def test_parameters_may_be_made_inside_a_transform():
    assert vmap(lambda x: x * tg.nn.Parameter(tg.ones(2)))(X).tolist() == [[1.0, 1.0], [2.0, 2.0]]
    result = grad(lambda x: tg.nn.Linear(2, 3)(x).sum() * 0)(X)
    assert result.tolist() == [0.0, 0.0] and not result.requires_grad  # nothing around the transform depends on that layer
    assert not grad(lambda x: (x * tg.ones(2, requires_grad=True)).sum())(X).requires_grad
    assert vmap(tg.nn.Parameter)(X).tolist() == [1.0, 2.0]
    outside = tg.ones(2, requires_grad=True)
    assert grad(lambda x: (x * outside * tg.ones(2, requires_grad=True)).sum())(X).requires_grad


class Identity(tg.autograd.Function):
    @staticmethod
    def forward(x):
        return x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, g):
        return g + 0 * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, t):
        return t.view_as(t)


class SavesForForward(Identity):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(output)


class Dirty(Identity):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_dirty(inputs[0])
        ctx.save_for_backward(output)


@pytest.mark.parametrize("function", [Identity, SavesForForward])
def test_an_input_returned_as_it_is_cannot_be_saved_by_setup_context(function):
    for use in (function.apply, grad(lambda x: function.apply(x.clone())), lambda x: jvp(lambda x: function.apply(x.clone()), (x,), (x,))):
        with pytest.raises(RuntimeError, match="An input that has been returned as-is as output is being saved for backward"):
            use(tg.tensor(2.0))


def test_what_is_saved_of_a_dirty_input_is_what_it_became():
    a = tg.tensor(2.0, requires_grad=True)
    Dirty.apply(a.clone()).backward()
    assert a.grad.item() == 1.0 and grad(lambda x: Dirty.apply(x.clone()))(tg.tensor(2.0)).item() == 1.0


def test_tensors_by_keyword_are_refused_by_vmap():
    class Sum(tg.autograd.Function):
        @staticmethod
        def forward(x, *, y):
            return x + y

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, x, *, y):
            return x + y, 0

    for f in (lambda: vmap(Sum.apply)(X, y=X), lambda: vmap(lambda x: Sum.apply(X, y=x))(X)):
        with pytest.raises(NotImplementedError, match="kwarg-only Tensor args"):
            f()


# --- randomness -----------------------------------------------------------------------------------------------------
def test_draws_like_a_captured_tensor_differ_by_sample():
    for draw in (tg.rand_like, tg.randn_like, lambda c: tg.randint_like(c, 1000)):
        different = vmap(lambda x: draw(tg.ones(4)) + 0 * x, randomness="different")(X)
        assert tuple(different.shape) == (2, 4) and different[0].tolist() != different[1].tolist()
        same = vmap(lambda x: draw(tg.ones(4)) + 0 * x, randomness="same")(X)
        assert same[0].tolist() == same[1].tolist()
    assert tuple(vmap(vmap(lambda x: tg.rand_like(tg.ones(3)), randomness="different"), randomness="different")(tg.ones(2, 4)).shape) == (2, 4, 3)
    with pytest.raises(RuntimeError, match="do not support calling out variants of random operations"):
        vmap(lambda x: tg.randn(2, out=tg.empty(2)))(X)
    with pytest.raises(RuntimeError, match=r"inplace bernoulli\(self"):
        vmap(lambda p: tg.ones(()).bernoulli_(p), randomness="different")(X / 4)


def test_results_of_nested_gradients_are_plain():
    """The inner transform's alias of what the outer one knows nothing of is no tensor around the outer one that requires grad."""
    f = lambda q, v: (q * v * v).sum()
    q, v = tg.tensor([1.0, 2.0]), tg.tensor([3.0, 5.0])
    inner = {"grad": lambda q: tg.func.grad(f, 1)(q, v), "jacrev": lambda q: tg.func.jacrev(f, 1)(q, v), "vjp": lambda q: tg.func.vjp(lambda v: f(q, v), v)[1](tg.tensor(1.0))[0]}
    for g in inner.values():
        x = tg.func.grad(lambda q: g(q).sum())(q)
        assert x.tolist() == [6.0, 10.0] and not x.requires_grad
        x = tg.func.jacrev(g)(q)
        assert x.tolist() == [[6.0, 0.0], [0.0, 10.0]] and not x.requires_grad
    w = v.clone().requires_grad_()
    x = tg.func.grad(lambda q: tg.func.grad(f, 1)(q, w).sum())(q)
    x.sum().backward()
    assert w.grad.tolist() == [2.0, 2.0]


# --- tensors made like one that a transform follows -------------------------------------------------------------------
@pytest.mark.parametrize("make", [
    tg.zeros_like, tg.empty_like, lambda x: tg.full_like(x, 2.0), lambda x: x.new_zeros(2), lambda x: x.new_full((2,), 1.0),
    lambda x: x.new_empty_strided((2,), (1,)),
])
def test_a_tensor_made_like_a_dual_one_is_of_the_vmaps_below(make):
    samples = tg.stack([X, X * 3])
    value, tangent = vmap(lambda x: jvp(lambda x: make(x * 2).copy_(x * x), (x,), (x,)))(samples)
    assert value.tolist() == (samples**2).tolist() and tangent.tolist() == (2 * samples**2).tolist()


@pytest.mark.parametrize("name, at", [("select_scatter", (0, 1)), ("diagonal_scatter", ()), ("slice_scatter", (0, 0, 1))])
def test_views_written_into_a_copy_are_pulled_back_in_a_batch(name, at):
    view = {"select_scatter": tg.select, "diagonal_scatter": tg.diagonal, "slice_scatter": lambda x, d, a, b: x[a:b]}[name]
    f = lambda x: getattr(tg, name)(x, view(x, *at) * 2, *at)
    x = tg.arange(4.0).view(2, 2)
    assert tg.func.jacrev(f)(x).tolist() == tg.func.jacfwd(f)(x).tolist()
