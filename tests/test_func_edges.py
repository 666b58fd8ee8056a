"""Owns the edges of transforms: memory under them, randomness, what they refuse, and the options of autograd.functional."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest

import tapegrad as tg
from tapegrad.autograd import forward_ad, functional
from tapegrad.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, vjp, vmap

X, T = tg.tensor([1.0, 2.0, 3.0]), tg.tensor([0.5, -1.0, 2.0])


# --- forward mode and memory ----------------------------------------------------------------------------------------
def test_views_made_before_their_base_becomes_dual_carry_its_tangent():
    def f(x, y):
        x = x.clone()
        row, part = x[0], x[0][1:]
        x.copy_(y)
        return row, x, part

    x, y, t = tg.zeros(2, 3), tg.arange(6.0).view(2, 3), tg.arange(6.0).view(2, 3) * 10
    values, tangents = jvp(functools.partial(f, x), (y,), (t,))
    assert tangents[0].tolist() == t[0].tolist() and tangents[1].tolist() == t.tolist() and tangents[2].tolist() == t[0, 1:].tolist()
    assert values[2].tolist() == [1.0, 2.0]

    def g(x, y):
        x = x.clone()
        row, other = x[0], x[0]
        row[1:].copy_(y[0, 1:])
        return x, other

    tangents = jvp(functools.partial(g, x), (y,), (t,))[1]
    assert tangents[0].tolist() == [[0.0, 10.0, 20.0], [0.0, 0.0, 0.0]] and tangents[1].tolist() == [0.0, 10.0, 20.0]
    batched = vmap(lambda x, y, t: jvp(functools.partial(f, x), (y,), (t,))[1][0])(tg.stack([x, x]), tg.stack([y, y]), tg.stack([t, 2 * t]))
    assert batched.tolist() == [t[0].tolist(), (2 * t[0]).tolist()]


def test_detach_ends_tangents():
    assert jvp(lambda x: x.detach() * x, (X,), (T,))[1].tolist() == (X * T).tolist()
    assert jvp(lambda x: x.data * 2, (X,), (T,))[1].tolist() == [0.0, 0.0, 0.0]
    assert vmap(lambda x, t: jvp(lambda x: x.detach() * 2, (x,), (t,))[1])(X, T).tolist() == [0.0, 0.0, 0.0]
    with forward_ad.dual_level():
        x = forward_ad.make_dual(X, T)
        assert forward_ad.unpack_dual(x.detach()).tangent is None
        assert forward_ad.unpack_dual(copy.copy(x)).tangent is None and forward_ad.unpack_dual(copy.deepcopy(x)).tangent is None
        assert pickle.loads(pickle.dumps(x)).tolist() == X.tolist()
    with pytest.raises(RuntimeError, match="strict=True"):
        jvp(lambda x: x.detach(), (X,), (T,), strict=True)


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps, lambda x: x.untyped_storage()])
def test_wrappers_have_no_storage(use):
    with pytest.raises(NotImplementedError, match="Cannot access storage of BatchedTensorImpl"):
        vmap(use)(X)
    with pytest.raises(NotImplementedError, match="Cannot access storage of TensorWrapper"):
        jvp(use, (X,), (T,))


# --- vmap -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("f", [lambda x, out: tg.abs(x, out=out), lambda x, out: tg.sum(x, 0, out=out), lambda x, out: tg.cat([x, x], out=out),
                               lambda x, out: tg.mm(x[None], x[:, None], out=out)])  # fmt: skip
def test_out_is_refused(f):
    out = tg.zeros(3)
    with pytest.raises(RuntimeError, match=r"Batching rule not implemented for aten::\w+\.out; the fallback path doesn't work on out= or view ops\."):
        vmap(lambda x: f(x, out))(tg.ones(2, 3))
    with pytest.raises(NotImplementedError, match=r"Trying to use forward AD with \w+_out that does not support it because it is an out= function"):
        jvp(lambda x: f(x, out), (X,), (T,))
    assert out.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name, f", [("_unique2", tg.unique), ("unique_consecutive", tg.unique_consecutive), ("where", tg.where), ("nonzero", tg.nonzero)])
def test_shapes_that_depend_on_values_are_refused(name, f):
    with pytest.raises(RuntimeError, match=f"can output dynamic shape. Attempted to vmap over aten::{name}"):
        vmap(f)(tg.ones(2, 3))


def test_products_of_wrong_ranks():
    for f, text in ((tg.mm, "Got incorrect dims for mm"), (tg.mv, "Got incorrect dims for mv"), (tg.dot, "Got wrong shapes for dot")):
        with pytest.raises(RuntimeError, match=text):
            vmap(f)(tg.ones(2, 3, 3, 3), tg.ones(2, 3, 3, 3))


def test_bodies_that_ask_for_memory_run_sample_by_sample():
    counts = vmap(lambda x: tg.bincount(x, minlength=3))(tg.tensor([[0, 1, 1], [2, 2, 0]]))
    assert counts.tolist() == [[1, 2, 0], [1, 0, 2]]


def test_samples_in_order_are_contiguous():
    x = tg.arange(24.0).view(3, 2, 4).movedim(0, 1)
    assert vmap(tg.Tensor.contiguous, in_dims=1, out_dims=1)(x) is x
    assert not vmap(lambda t: tg.tensor(float(t.is_contiguous())), in_dims=1)(tg.zeros(2, 3, 4)).any()


def test_parts_of_complex_samples_are_views():
    x = tg.zeros(3, 5, dtype=tg.complex64)
    vmap(lambda t: t.real.add_(1))(x)
    assert tg.view_as_real(x)[..., 0].tolist() == [[1.0] * 5] * 3 and not x.imag.any()


def test_dropout_of_samples():
    x = tg.ones(64)
    different = vmap(lambda _: tg.nn.functional.dropout(x), randomness="different")(tg.zeros(4))
    same = vmap(tg.nn.functional.dropout, randomness="same")(tg.ones(4, 64))
    assert not (different == different[0]).all() and (same == same[0]).all()
    assert set(different.flatten().tolist()) == {0.0, 2.0}


def test_generators_fit_their_argument():
    g = tg.Generator()
    with pytest.raises(RuntimeError, match="randomness error mode"):
        vmap(lambda x: x + tg.randn(3, generator=g))(tg.zeros(2, 3))
    with pytest.raises(TypeError, match="argument 'generator' must be"):
        tg.multinomial(tg.ones(3), 1, generator=3)
    assert tg.normal(0.0, 1.0, (2,), generator=g, device="cpu", requires_grad=True).requires_grad


def test_bernoulli_with_probabilities_of_samples():
    p = tg.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert vmap(lambda x, p: x.bernoulli_(p), randomness="different")(tg.zeros(2, 2), p).tolist() == p.tolist()
    with pytest.raises(RuntimeError, match="same randomness with a batched tensor input"):
        vmap(lambda x, p: x.bernoulli_(p), randomness="same")(tg.zeros(2, 2), p)
    with pytest.raises(RuntimeError, match="there exists a Tensor `other` in extra_args"):
        vmap(lambda p: tg.zeros(2).bernoulli_(p), randomness="different")(p)
    with pytest.raises(RuntimeError, match="calling out variants of random operations"):
        vmap(lambda x: tg.randn(2, out=tg.zeros(2)), randomness="same")(p)


def test_values_are_not_for_control_flow():
    for f, text in ((lambda x: x.is_nonzero() and x, "data-dependent control flow"), (lambda x: 3.0 in x, "calling .item"),
                    (lambda x: x.data, "accessing `data` under vmap")):  # fmt: skip
        with pytest.raises(RuntimeError, match=text):
            vmap(f)(X)


# --- refusals of malformed calls ------------------------------------------------------------------------------------
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_are_of_real_functions(jacobian):
    name = jacobian.__name__
    with pytest.raises(RuntimeError, match=f"{name}: Expected all inputs to be real but received complex tensor at flattened input idx: 1"):
        jacobian(lambda x, y: x)(X, X.to(tg.complex64))
    with pytest.raises(RuntimeError, match=f"{name}: Expected all outputs to be real but received complex tensor at flattened input idx: 0"):
        jacobian(lambda x: x * 1j)(X)
    with pytest.raises(RuntimeError, match="Expected tensors, got unsupported type <class 'int'>"):
        jacobian(lambda x: (x, [x, 1]), has_aux=True)(X)


def test_gradients_of_complex_values_are_refused():
    for transform in (grad, grad_and_value):
        with pytest.raises(RuntimeError, match="only for real scalar outputs but got tapegrad.complex64"):
            transform(lambda x: x.sum() * 1j)(X)
    with pytest.raises(TypeError, match="gradients can be either Tensors or None, but got int"):
        vjp(lambda x: x, X)[1](3)


def test_methods_that_reach_past_a_transform_are_refused():
    def keeps(x):
        y = x.sin()
        y.retain_grad()
        return y.sum()

    with pytest.raises(RuntimeError, match=r"attempting to call Tensor.retain_grad\(\) inside of a function being transformed"):
        grad(keeps)(X)

    def saves(x):
        with tg.autograd.graph.save_on_cpu():
            return x.sin().sum()

    for transform in (grad, grad_and_value, jacrev, hessian, lambda f: lambda x: vjp(f, x)):
        with pytest.raises(RuntimeError, match="don't yet support saved tensor hooks"):
            transform(saves)(X)
        with pytest.raises(RuntimeError, match="don't yet support saved tensor hooks"), tg.autograd.graph.save_on_cpu():
            transform(lambda x: x.sin().sum())(X)
    with tg.autograd.graph.save_on_cpu():  # and nothing is left refused
        X.clone().requires_grad_().sin().sum().backward()


def test_requires_grad_is_a_bool():
    with pytest.raises(TypeError, match=r"requires_grad_\(\): argument 'requires_grad' \(position 1\) must be bool, not int"):
        tg.zeros(2).requires_grad_(1)
    with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
        tg.zeros(2).requires_grad = 1


# --- autograd.functional --------------------------------------------------------------------------------------------
def unrelated(x):
    return x.detach().clone().requires_grad_().clone()


@pytest.mark.parametrize("name, f, options, text", [
    ("jvp", unrelated, {}, "output of the user-provided function is independent of input 0"),
    ("jvp", lambda x: x * 3, {"create_graph": True}, "jacobian of the user-provided function is independent of input 0"),
    ("vjp", unrelated, {}, "output of the user-provided function is independent of input 0"),
    ("hessian", lambda x: x.detach().sum(), {}, "Output 0 of the user-provided function does not require gradients"),
    ("hessian", lambda x: unrelated(x).sum(), {}, "jacobian of the user-provided function with respect to input 0"),
    ("vhp", lambda x: (x * 3).sum(), {}, "found that the jacobian of the user-provided function with respect to input 0 is independent"),
    ("vhp", lambda x: (x * x).sum(), {"create_graph": True}, "The hessian of the user-provided function is independent of input 0"),
    ("hvp", lambda x: x.detach(), {}, "Output 0 of the user-provided function does not require gradients"),
    ("jacobian", lambda x: x.detach(), {"vectorize": True}, "Output 0 of the user-provided function does not require gradients"),
    ("jacobian", lambda x: x, {"vectorize": True}, "`strict=True` and `vectorized=True` are not supported together"),
    ("jacobian", lambda x: x, {"strategy": "forward-mode"}, '`strict=True` and `strategy="forward-mode"` are not supported together'),
])  # fmt: skip
def test_strict_mode(name, f, options, text):
    vector = () if name in ("jacobian", "hessian") else (tg.ones(3),)
    with pytest.raises(RuntimeError, match=text):
        getattr(functional, name)(f, X, *vector, strict=True, **options)


def test_forward_mode_jacobians_are_shaped_as_in_torch():
    both = lambda x, y: (x * y, (x + y).sum())
    rows = functional.jacobian(both, (X, T), vectorize=True, strategy="forward-mode")
    assert type(rows) is list and [type(row) for row in rows] == [list, list]
    assert rows[0][1].tolist() == tg.diag(X).tolist() and rows[1][0].tolist() == [1.0, 1.0, 1.0]
    assert type(functional.jacobian(lambda x: (x, x), X, vectorize=True, strategy="forward-mode")) is tuple
    constant = functional.jacobian(lambda x: tg.ones(2), X, vectorize=True, strategy="forward-mode")
    assert constant.tolist() == [[0.0] * 3] * 2


def test_the_vector_may_be_part_of_the_graph():
    x, v = X.clone().requires_grad_(), T.clone().requires_grad_()
    product = functional.vjp(lambda x: x * x, x, v, create_graph=True)[1]
    assert tg.autograd.grad(product.sum(), v)[0].tolist() == (2 * X).tolist()
    assert not functional.vjp(lambda x: x * x, x, v)[1].requires_grad


def test_complex_outputs_have_no_implicit_gradient():
    for f in (functional.jacobian, functional.hessian, functional.vjp):
        with pytest.raises(RuntimeError, match="grad can be implicitly created only for real scalar outputs"):
            f(lambda x: (x * 1j).sum(), X)


# --- values and tangents that were wrong ----------------------------------------------------------------------------
def test_tangents_of_views_of_primals_with_gaps():
    wide, t, y = tg.arange(30.0).view(2, 5, 3), tg.arange(10.0).view(2, 5), tg.ones(4, 5)
    for k in range(3):
        x = wide.select(2, k)
        tangent = jvp(lambda x: x.unsqueeze(-2) * y, (x,), (t,))[1]
        assert tangent.tolist() == (t.unsqueeze(-2) * y).tolist()
        assert jvp(lambda x: x.t()[1:].unfold(0, 2, 1), (x,), (t,))[1].tolist() == t.t()[1:].unfold(0, 2, 1).tolist()


def test_real_tensors_made_complex():
    r, a = tg.tensor([1.0, 2.0]), tg.tensor([0.3, 0.4])
    tr, ta = tg.tensor([0.5, -1.0]), tg.tensor([2.0, 1.5])
    product = jvp(tg.polar, (r, a), (tr, ta))[1]
    unit = tg.polar(tg.ones(2), a)
    assert tg.allclose(product, unit * tr + unit * r * ta * 1j)
    assert jvp(tg.complex, (r, a), (tr, ta))[1].tolist() == tg.complex(tr, ta).tolist()


def test_derivatives_of_a_norm_at_zero():
    for p in (2, 3, 1.5):
        norm = lambda x, p=p: tg.linalg.vector_norm(x, p)
        assert jvp(norm, (tg.zeros(3),), (X,))[1].item() == 0
        if p >= 2:
            assert jvp(lambda x: vjp(norm, x)[1](tg.tensor(1.0))[0], (tg.zeros(3),), (X,))[1].tolist() == [0.0] * 3


def test_differences_of_order_zero_have_no_ends():
    assert tg.diff(X, 0, prepend=X, append=X).tolist() == X.tolist()
    assert tg.linalg.vander(tg.tensor(2.0), N=3).tolist() == [[1.0, 2.0, 4.0]]


def ensemble():
    tg.manual_seed(0)
    nets = [tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.BatchNorm1d(4)) for _ in range(2)]
    for net in nets:
        net[1].running_mean.uniform_()
    return nets, tg.randn(5, 3)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_an_ensemble(training):
    nets, x = ensemble()
    parameters, buffers = tg.func.stack_module_state(nets)
    net = copy.deepcopy(nets[0]).train(training)
    call = lambda p, b: tg.func.functional_call(net, (p, b), (x,))
    out = vmap(call)(parameters, buffers)
    slopes = vmap(grad(lambda p, b: call(p, b).pow(2).sum()))(parameters, {name: t.clone() for name, t in buffers.items()})
    for k, one in enumerate(nets):
        one.train(training)
        expected = one(x)
        assert tg.allclose(out[k], expected, atol=1e-6)
        assert tg.allclose(buffers["1.running_mean"][k], one[1].running_mean) and tg.allclose(buffers["1.running_var"][k], one[1].running_var)
        if training:
            wanted = tg.autograd.grad(expected.pow(2).sum(), one[1].weight)[0]
            assert tg.allclose(slopes["1.weight"][k], wanted, atol=1e-5)


def test_batch_norm_moves_captured_statistics():
    norm = functools.partial(tg.nn.functional.batch_norm, training=True)
    x, t = tg.tensor([[1.0], [3.0]]), tg.tensor([[1.0], [0.0]])
    for transform in (lambda f: grad(lambda x: f(x).pow(3).sum())(x), lambda f: jvp(f, (x,), (t,)), lambda f: hessian(lambda x: f(x).pow(3).sum())(x)):
        mean, var = tg.zeros(1), tg.ones(1)
        transform(lambda x, mean=mean, var=var: norm(x, mean, var))
        assert mean.item() == pytest.approx(0.2) and var.item() == pytest.approx(1.1)
    with pytest.raises(RuntimeError, match="Batch norm got a batched tensor as input while the running_mean or running_var"):
        vmap(lambda x: norm(x, tg.zeros(1), tg.ones(1)))(tg.stack([x, x]))
    with pytest.raises(ValueError, match="must either both be None or neither be None"):
        norm(x, tg.zeros(1), None)
    assert vmap(tg.nn.functional.instance_norm)(tg.randn(2, 2, 3, 4)).shape == (2, 2, 3, 4)


@pytest.mark.parametrize("weight", [False, True])
def test_a_vjp_taken_without_recording_can_be_differentiated(weight):
    x = tg.tensor(3.0, requires_grad=True)
    w = tg.tensor(2.0, requires_grad=weight)
    with tg.no_grad():
        out, pull = tg.func.vjp(lambda a: a**2 * w, x)
        (silent,) = pull(tg.tensor(1.0))
    (y,) = pull(tg.tensor(1.0))
    assert not out.requires_grad
    assert not silent.requires_grad
    assert y.item() == 12.0
    gradients = tg.autograd.grad(y, [x, w] if weight else [x])
    assert [g.item() for g in gradients] == ([4.0, 6.0] if weight else [4.0])
    with tg.inference_mode():
        assert tg.func.vjp(lambda a: a**2, tg.tensor(3.0))[1](tg.tensor(1.0))[0].item() == 6.0


def test_derivatives_in_inference_mode():
    """A transform leaves inference mode: its function is recorded, its results are ordinary tensors."""
    seen = []

    def cubes(a):
        seen.append((tg.is_inference_mode_enabled(), tg.is_grad_enabled(), a.is_inference(), (a * 1).is_inference()))
        return (a**3).sum()

    for _ in range(3):
        with tg.inference_mode():
            x, w = tg.tensor([3.0, 1.0]), tg.tensor([2.0, 5.0])
            assert grad(cubes)(x).tolist() == [27.0, 3.0]
            assert jacrev(lambda a: a**3)(x).tolist() == [[27.0, 0.0], [0.0, 3.0]]
            assert hessian(cubes)(x).tolist() == [[18.0, 0.0], [0.0, 6.0]]
            assert grad(lambda a: grad(cubes)(a).sum())(x).tolist() == [18.0, 6.0]
            assert vmap(grad(cubes))(x).tolist() == [27.0, 3.0]
            assert grad(lambda a: (a * w * w).sum())(x).tolist() == [4.0, 25.0]
            assert grad(lambda a, b: (a.exp() * b).sum(), argnums=1)(x, w).tolist() == x.exp().tolist()
            assert not any(t.is_inference() for t in grad_and_value(cubes)(x))
            pull = vjp(lambda a: a * w * a, x)[1]
            assert pull(w)[0].tolist() == [24.0, 50.0]
            assert tg.is_inference_mode_enabled()
        assert grad(lambda a: (a * w * a).sum())(tg.tensor([3.0, 1.0])).tolist() == [12.0, 10.0]
        assert pull(tg.ones(2))[0].tolist() == [12.0, 10.0]
    assert set(seen) == {(False, True, False, False)}


def test_what_a_function_makes_in_inference_mode_is_still_refused():
    def cube(a):
        with tg.inference_mode():
            square = a * a
        return (a * square).sum()

    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        grad(cube)(tg.ones(2))
    with tg.inference_mode():
        w = tg.ones(2)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        tg.ones(2, requires_grad=True) * w
