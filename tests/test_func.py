"""Owns the transforms of `tapegrad.func`: vmap against a loop, forward against reverse mode, compositions against PyTorch, errors."""

from __future__ import annotations

import func_cases
import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import func
from tapegrad.transforms import forward
from tapegrad.utils._pytree import tree_leaves

CASES = func_cases.CASES


def sample(shape, rng):
    """Distinct elements away from the kinks of the cases."""
    return rng.uniform(0.1, 0.95, shape)


def arrays(result) -> list:
    return [support.value(t) for t in tree_leaves(result)]


def same(found, expected, name=""):
    found, expected = arrays(found), arrays(expected)
    assert len(found) == len(expected)
    for k, (a, b) in enumerate(zip(found, expected)):
        support.close(a, b, 1e-6 if name == "convert" else 1e-9, f"{name} output {k}")


def of(f, m):
    return lambda x: f(m, x)


def scalar(f, m):
    """The sum of squares of the floating-point outputs."""
    return lambda x: sum((out * out).sum() for out in tree_leaves(f(m, x)) if out.is_floating_point())


def real(f, shape) -> bool:
    return any(t.is_floating_point() for t in tree_leaves(f(tg, tg.tensor(np.full(shape, 0.5)))))


REAL = [name for name, (f, shape) in CASES.items() if name not in ("argmax", "argmin dim", "any", "all dim", "count_nonzero", "isclose")]


@pytest.mark.parametrize("name", CASES)
def test_vmap_is_a_loop(name, rng):
    f, shape = CASES[name]
    for dim, out_dim in ((0, 0), (-1, -1)) if name != "as_strided" else ((0, 0),):  # which counts in the strides of the sample
        xs = sample((*shape, 2) if dim else (2, *shape), rng)
        expected = [f(tg, tg.tensor(np.take(xs, k, dim))) for k in range(2)]
        columns = list(zip(*map(tree_leaves, expected)))
        found = tg.vmap(of(f, tg), in_dims=dim, out_dims=out_dim)(tg.tensor(xs))
        same(found, [tg.stack(list(c), out_dim) for c in columns], name)


@pytest.mark.parametrize("name", CASES)
def test_vmap_of_vmap_is_two_loops(name, rng):
    if name == "as_strided":
        return
    f, shape = CASES[name]
    xs = sample((2, 3, *shape), rng)
    rows = [[f(tg, tg.tensor(xs[j, k])) for j in range(2)] for k in range(3)]
    columns = [[list(zip(*map(tree_leaves, row)))] for row in rows]
    expected = [tg.stack([tg.stack(list(row[0][c])) for row in columns]) for c in range(len(columns[0][0]))]
    same(tg.vmap(tg.vmap(of(f, tg)), in_dims=1)(tg.tensor(xs)), expected, name)


@pytest.mark.parametrize("name", REAL)
def test_forward_mode_is_the_transpose_of_reverse_mode(name, rng):
    forward._transposed.clear()  # what is known of an op from an earlier call must not hide how the first one goes
    f, shape = CASES[name]
    x, t = tg.tensor(sample(shape, rng)), tg.tensor(rng.uniform(-1, 1, shape))
    g = lambda x: [out for out in tree_leaves(f(tg, x)) if out.is_floating_point()]
    out, product = func.jvp(g, (x,), (t,))
    values, pull = func.vjp(g, x)
    same(out, values)
    same(out, g(x))
    weights = [tg.tensor(rng.uniform(-1, 1, tuple(v.shape)), dtype=v.dtype) for v in values]
    (gradient,) = pull(weights)
    left = sum(float((w * p).sum()) for w, p in zip(weights, product))
    assert left == pytest.approx(float((gradient * t).sum()), rel=1e-6 if name == "convert" else 1e-9, abs=1e-9)
    with pytest.warns(UserWarning, match="constants of the linear function"):
        linear = func.linearize(g, x)
    same(linear[0], values)
    same(linear[1](t), product)


@pytest.mark.parametrize("name", REAL)
def test_jacobians_and_hessians_agree(name, rng):
    f, shape = CASES[name]
    if name in ("max dim", "min dim", "sort"):  # with indices: not all outputs are real
        f = (lambda g: lambda m, x: tree_leaves(g(m, x))[0])(f)
    x = tg.tensor(sample(shape, rng))
    same(func.jacfwd(of(f, tg))(x), func.jacrev(of(f, tg))(x))
    s = scalar(f, tg)
    hessian = func.hessian(s)(x)
    same(func.jacrev(func.jacrev(s))(x), hessian)
    same(func.jacrev(func.jacfwd(s))(x), hessian)
    same(func.jacfwd(func.jacfwd(s))(x), hessian)


@pytest.mark.parametrize("name", REAL)
def test_gradients_per_sample(name, rng):
    f, shape = CASES[name]
    xs = tg.tensor(sample((2, *shape), rng))
    s = scalar(f, tg)
    same(tg.vmap(func.grad(s))(xs), tg.stack([func.grad(s)(x) for x in xs]), name)
    forward = lambda x: func.jvp(s, (x,), (x,))[1]
    same(tg.vmap(forward)(xs), tg.stack([forward(x) for x in xs]), name)
    same(tg.vmap(func.hessian(s))(xs), tg.stack([func.hessian(s)(x) for x in xs]), name)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", REAL)
def test_compositions_as_torch(name, rng, torch):
    f, shape = CASES[name]
    if name in ("index_put apart", "index_put last"):
        return  # PyTorch takes no None among the indices
    xs, t = sample((2, *shape), rng), rng.uniform(-1, 1, shape)
    outcomes = []
    for m, fn in ((tg, func), (torch, torch.func)):
        s = scalar(f, m)
        x = m.tensor(xs)
        compositions = [
            lambda: fn.grad(s)(x[0]), lambda: m.vmap(fn.grad(s))(x), lambda: fn.jvp(s, (x[0],), (m.tensor(t),)), lambda: fn.jacrev(fn.grad(s))(x[1]),
            lambda: m.vmap(lambda x: fn.jvp(fn.grad(s), (x,), (m.tensor(t),))[1])(x),
        ]
        if name in ("in place", "clamp_", "write through views"):  # PyTorch refuses to batch what only a tangent batches
            del compositions[-1]
        outcomes.append([run() for run in compositions])
    same(*outcomes, name)


# --- every function of the package ----------------------------------------------------------------------------------
UNORDERED = {"empty_like", "new_empty", "from_dlpack"}  # nothing to compare
REFUSED = {"equal", "allclose", "nonzero", "argwhere", "where", "unique", "unique_consecutive"}  # results of a shape or a Python value that depend on the sample
REFUSED |= {"resize_as_", "as_strided_"}  # memory is not the samples' own
REFUSED |= {"heaviside"}  # takes a number only where compiled code answers
REFUSED |= {"linalg.ldl_factor", "linalg.ldl_factor_ex"}  # no derivative, in PyTorch either
FORMS = [lambda x: (x,), lambda x: (x, 0), lambda x: (x, x * 1.5), lambda x: (x, 1, 0), lambda x: (x, 0, tg.tensor([0, 1])), lambda x: ([x, x],)]
MATRIX = np.array([[4.0, 1.0, 0.5], [1.0, 5.0, 0.25], [0.5, 0.25, 3.0]])  # symmetric and positive definite


def public_functions() -> dict:
    from tapegrad import core, install
    from tapegrad.ops.public import FUNCTIONS

    core.start()
    found = {n: f for n, f in FUNCTIONS.items() if "creation" not in getattr(f, "__module__", "").split(".")}
    found |= {"linalg." + n: getattr(tg.linalg, n) for n in tg.linalg.__all__}
    found |= {op.name: getattr(tg, op.name) for op in install.elementwise_ops() if op.function and hasattr(tg, op.name)}
    return {n: f for n, f in sorted(found.items()) if n not in UNORDERED | REFUSED}


def is_random(f) -> bool:
    """Whether the function declares that it draws (`transforms.randomness.draws`)."""
    return getattr(f, "random", False)


DETERMINISTIC = [name for name, f in public_functions().items() if not is_random(f)]
RANDOM = [name for name, f in public_functions().items() if is_random(f)]


def tensors_of(f, form, array):
    """The results as tensors if `f` takes these arguments, else None."""
    try:
        leaves = tree_leaves(f(*form(tg.tensor(array))))
    except Exception:
        return None
    return leaves if leaves and all(isinstance(t, tg.Tensor) for t in leaves) else None


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_function(name, rng):
    """vmap is the loop, and the tangent the transpose of the gradient, for whatever can be called with simple arguments."""
    f = public_functions()[name]
    samples = [MATRIX, MATRIX + 0.5 * np.eye(3)]
    for form in FORMS:
        expected = [tensors_of(f, form, a) for a in samples]
        if None in expected or any(a.shape != b.shape for a, b in zip(*expected)):
            continue
        found = tree_leaves(tg.vmap(lambda x: f(*form(x)))(tg.tensor(np.stack(samples))))
        for k, t in enumerate(found):
            support.close(support.value(t), np.stack([support.value(row[k]) for row in expected]), 1e-9, name)
        real = [k for k, t in enumerate(expected[0]) if t.is_floating_point()]
        g = lambda x: [tree_leaves(f(*form(x.clone())))[k] for k in real]  # which may be written to
        x, t = tg.tensor(samples[0]), tg.tensor(rng.uniform(-1, 1, (3, 3)))
        if real:
            try:
                outputs, pull = func.vjp(g, x)
                weights = [tg.tensor(rng.uniform(-1, 1, tuple(out.shape)), dtype=out.dtype) for out in outputs]
                (gradient,) = pull(weights)
            except (NotImplementedError, RuntimeError) as error:  # no derivative
                assert "not implemented" in str(error)
                return
            products = func.jvp(g, (x,), (t,))[1]
            left, right = sum(float((w * p).sum()) for w, p in zip(weights, products)), float((gradient * t).sum())
            assert left == pytest.approx(right, rel=1e-6, abs=1e-8, nan_ok=True)
        return


@pytest.mark.parametrize("name", RANDOM)
def test_every_random_function(name):
    """vmap decides about draws, of functions that take a tensor or sizes."""
    f, xs = public_functions()[name], tg.tensor(np.stack([MATRIX, MATRIX / 2]) / 6)
    forms = [*FORMS, lambda x: (x, 1), lambda x: (x, 9), lambda x: (x, 1, 9), lambda x: (9, (9, 9)), lambda x: (99,)]
    form = next(form for form in forms if tensors_of(f, form, xs[0].numpy()))
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        tg.vmap(lambda x: f(*form(x)) + 0 * x.sum())(xs)
    drawn = tg.vmap(lambda x: f(*form(xs[0])) + 0 * x.sum(), randomness="same")(xs)
    assert tg.equal(drawn[0], drawn[1])
    drawn = tg.vmap(lambda x: f(*form(x)), randomness="different")(xs)
    assert drawn.shape[0] == 2


# --- neural networks ------------------------------------------------------------------------------------------------
def _images(rng):
    return tg.tensor(rng.uniform(0.1, 1, (3, 2, 4, 6, 6))), tg.tensor(rng.uniform(-1, 1, (3, 6, 2, 3, 3))), tg.tensor(rng.uniform(-1, 1, (3, 6)))


F = tg.nn.functional
LAYERS = {
    "conv2d": lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1, groups=2), "conv2d without bias": lambda x, w, b: F.conv2d(x, w, None, groups=2),
    "conv_transpose2d": lambda x, w, b: F.conv_transpose2d(x.repeat(1, 3, 1, 1)[:, :6], w, b[:4], groups=2), "max_pool2d": lambda x, w, b: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x, w, b: F.avg_pool2d(x, 2, padding=1), "adaptive_avg_pool2d": lambda x, w, b: F.adaptive_avg_pool2d(x, (2, 3)),
    "adaptive_max_pool2d": lambda x, w, b: F.adaptive_max_pool2d(x, (2, 3)), "layer_norm": lambda x, w, b: F.layer_norm(x, (6,), b, b * 2),
    "group_norm": lambda x, w, b: F.group_norm(x, 2), "batch_norm": lambda x, w, b: F.batch_norm(x, None, None, b[:4], b[:4], training=True),
    "batch_norm frozen": lambda x, w, b: F.batch_norm(x, tg.zeros(4).double(), tg.ones(4).double() * 2), "pad": lambda x, w, b: F.pad(x, (1, 2, 0, 1)),
    "reflect": lambda x, w, b: F.pad(x, (1, 2, 0, 1), mode="reflect"), "unfold": lambda x, w, b: F.unfold(x, 2), "glu": lambda x, w, b: F.glu(x, 1),
    "cross_entropy": lambda x, w, b: F.cross_entropy(x[:, :, 0, 0], tg.tensor([0, 3])),
    "cross_entropy of the sample": lambda x, w, b: F.cross_entropy(x[:, :, 0, 0], x[:, :, 1, 0].argmax(1), ignore_index=2),
    "embedding": lambda x, w, b: F.embedding(tg.tensor([0, 1, 1]), x[0, 0]), "embedding of the sample": lambda x, w, b: F.embedding(x[0, 0].argmax(1), w[:, 0, 0]),
    "mse_loss": lambda x, w, b: F.mse_loss(x, x.flip(0)), "smooth_l1_loss": lambda x, w, b: F.smooth_l1_loss(x * 3, x.flip(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, rng):
    f, (xs, ws, bs) = LAYERS[name], _images(rng)
    total = lambda x, w, b: (f(x, w, b) ** 2).sum()
    for dims in ((0, 0, 0), (0, None, None), (None, 0, None)):
        pick = lambda k: [t[k] if d == 0 else t[0] for t, d in zip((xs, ws, bs), dims)]
        given = [t if d == 0 else t[0] for t, d in zip((xs, ws, bs), dims)]
        same(tg.vmap(f, in_dims=dims)(*given), tg.stack([f(*pick(k)) for k in range(3)]), name)
        gradient = func.grad(total, argnums=(0, 1, 2))
        expected = [tg.stack(list(c)) for c in zip(*(gradient(*pick(k)) for k in range(3)))]
        same(tg.vmap(gradient, in_dims=dims)(*given), expected, name)
    out, product = func.jvp(f, (xs[0], ws[0], bs[0]), (xs[1], ws[1], bs[1]))
    gradients = func.vjp(f, xs[0], ws[0], bs[0])[1](out)
    left, right = float((product * out).sum()), sum(float((g * t[1]).sum()) for g, t in zip(gradients, (xs, ws, bs)))
    assert left == pytest.approx(right, rel=1e-9)


def test_gradients_per_sample_of_a_module():
    tg.manual_seed(0)
    net = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))
    x, y = tg.randn(5, 3), tg.randn(5, 1)

    def loss(parameters, x, y):
        return ((func.functional_call(net, parameters, (x,)) - y) ** 2).sum()

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    per_sample = tg.vmap(func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
    loss(dict(net.named_parameters()), x, y).backward()
    for name, p in net.named_parameters():
        assert per_sample[name].shape == (5, *p.shape) and not per_sample[name].requires_grad
        np.testing.assert_allclose(support.value(per_sample[name].sum(0)), support.value(p.grad), rtol=2e-5, atol=1e-6)
    before = net[0].weight
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): 'nothing'"):
        func.functional_call(net, {"nothing": x}, (x,), strict=True)
    assert net[0].weight is before
    stacked, _ = func.stack_module_state([net, net])
    assert stacked["0.weight"].shape == (2, 4, 3) and stacked["0.weight"].is_leaf and stacked["0.weight"].requires_grad


def test_levels_leave_nothing_behind(holds_nothing):
    x = tg.randn(3, 2)
    f = lambda x: (x.sin() * x.sum()).prod()
    tg.vmap(func.hessian(f))(x)
    func.jacrev(func.jacfwd(f))(x[0])
    with pytest.raises(RuntimeError, match=r"\.item\(\)"):
        tg.vmap(func.grad(lambda x: x.sum() * x[0].item()))(x)
    y = tg.zeros(2)
    _, pull = func.vjp(f, x[0])
    pull(tg.ones(()))
    assert type(y) is tg.Tensor and not y.requires_grad
    del x, y, pull


def test_a_tensor_written_in_a_forward_pass_is_plain_afterwards():
    kept = []

    def f(x):
        y = tg.zeros(2)
        y[0] = x
        kept.append(y)
        return y.sum()

    assert func.jvp(f, (tg.tensor(3.0),), (tg.tensor(2.0),))[1].item() == 2.0
    assert type(kept[0]) is tg.Tensor and kept[0].tolist() == [3.0, 0.0]
    with tg.autograd.forward_ad.dual_level():
        d = tg.autograd.forward_ad.make_dual(tg.ones(2), tg.ones(2))
        e = d * 2
    assert type(e) is tg.Tensor and (e + 1).tolist() == [3.0, 3.0]


def test_modes_and_levels_are_restored_after_errors():
    with pytest.raises(ZeroDivisionError):
        func.grad(lambda x: 1 / 0)(tg.ones(()))
    y = tg.ones(2)
    y.add_(1)
    y.requires_grad_()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 4.0]


def test_the_tangent_of_a_view_of_an_expanded_value():
    """The view's tangent has strides of its own: an expanded value has fewer elements in memory than it shows."""
    f = lambda x: (x.max() ** 2).sum()
    x = tg.tensor([0.1, 0.7, 0.3], dtype=tg.float64)
    product = lambda x: func.jvp(func.hessian(f), (x,), (x * 0.5 + 1,))[1]
    same(func.jacfwd(product)(x), func.jacrev(product)(x))


class _Cube(tg.autograd.Function):
    factor = 3

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3 * g * ctx.saved_tensors[0] ** 2

    @classmethod
    def jvp(cls, ctx, t):
        return cls.factor * t * ctx.saved_tensors[0] ** 2


class _WrongCube(_Cube):
    factor = 2


def test_gradcheck_of_forward_mode():
    check = tg.autograd.gradcheck
    x = tg.tensor([0.5, -0.7], dtype=tg.float64, requires_grad=True)
    z = tg.tensor([1 + 2j, 0.5 - 1j], dtype=tg.complex128, requires_grad=True)
    assert check(lambda x: (x[:, None] @ x[None]).logsumexp(0), x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert check(lambda z: (z * z.conj() + z.exp(), z.abs()), z, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert check(_Cube.apply, x, check_forward_ad=True, check_batched_grad=True) and check(_Cube.apply, x, check_forward_ad=True, fast_mode=True)
    assert tg.autograd.gradgradcheck(lambda x: x.sin() * x.sum(), x, check_fwd_over_rev=True, check_batched_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian computed with forward mode mismatch for output 0 with respect to input 0"):
        check(_WrongCube.apply, x, check_forward_ad=True)
    assert not check(_WrongCube.apply, x, check_forward_ad=True, fast_mode=True, raise_exception=False)
    with pytest.raises(AssertionError, match="check_batched_forward_grad=True requires check_forward_ad"):
        check(tg.sin, x, check_batched_forward_grad=True)


@pytest.mark.parametrize("f", [
    lambda z: z.real * z.imag, lambda z: tg.view_as_real(z) * 2, lambda z: tg.view_as_complex(tg.view_as_real(z).flip(0)), lambda z: z.abs(),
    lambda z: z[:, None] @ z[None].conj(), lambda z: z**3 / z.conj(),
])  # fmt: skip
def test_complex_numbers(f):
    z = tg.tensor([1 + 2j, 0.5 - 1j], dtype=tg.complex128, requires_grad=True)
    assert tg.autograd.gradcheck(f, z, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    rows = z.detach()[None] * tg.tensor([[1.0], [0.5j]])
    expected = tg.stack([f(row) for row in rows])
    np.testing.assert_allclose(tg.vmap(f)(rows).numpy(), expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(tg.vmap(f, in_dims=1, out_dims=-1)(rows.t().contiguous()).movedim(-1, 0).numpy(), expected.numpy(), rtol=1e-12)


def test_what_a_function_of_the_package_asks_of_values_is_no_branch_of_the_user():
    x = tg.tensor(np.array([[0.3, 0.1, 0.9], [0.5, 0.8, 0.2]]))
    f = lambda x: x.quantile(0.4)
    same(tg.vmap(f)(x), tg.stack([f(row) for row in x]))
    forward = lambda x: func.jvp(f, (x,), (x * x,))[1]
    same(tg.vmap(forward)(x), tg.stack([forward(row) for row in x]))
    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        tg.vmap(lambda x: forward(x) if x.sum() > 0 else x.sum())(x)
