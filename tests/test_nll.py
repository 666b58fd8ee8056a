"""The negative log-likelihood: its kernels against the formula, what is ignored, weights, dtypes, refusals."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.nn import functional as F

SHAPES = {"one": ((4,), ()), "rows": ((3, 4), (3,)), "planes": ((2, 4, 3), (2, 3)), "images": ((2, 4, 2, 3), (2, 2, 3))}


def by_hand(x, target, weight, ignore_index, reduction):
    """nll_loss and its gradient for a gradient of ones, in NumPy."""
    dim = 0 if x.ndim == 1 else 1
    used = target != ignore_index
    safe = np.where(used, target, 0)
    scale = np.where(used, 1.0 if weight is None else weight[safe], 0.0)
    total = scale.sum() if reduction == "mean" else 1.0
    place = np.expand_dims(safe, dim)
    loss = -np.take_along_axis(x, place, dim).squeeze(dim) * scale
    gradient = np.zeros_like(x)
    np.put_along_axis(gradient, place, np.expand_dims(-scale / total, dim), dim)
    return loss if reduction == "none" else loss.sum() / total, gradient


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [tg.float64, tg.float32, tg.bfloat16])
def test_value_and_gradient(shapes, reduction, weighted, dtype):
    rng = np.random.default_rng(0)
    values, target = rng.integers(-8, 8, shapes[0]) / 4, rng.integers(1, 4, shapes[1])
    weight = np.array([0.5, 1.0, 2.0, 0.25]) if weighted else None
    if target.ndim:
        target.flat[0] = 0  # ignored
    expected, gradient = by_hand(values, target, weight, 0, reduction)
    x = tg.tensor(values).to(dtype).requires_grad_()
    w = None if weight is None else tg.tensor(weight).to(dtype)
    loss = F.nll_loss(x, tg.tensor(target), w, ignore_index=0, reduction=reduction)
    assert loss.dtype is dtype
    tolerance = {"rtol": 1e-2 if dtype is tg.bfloat16 else 1e-6}
    np.testing.assert_allclose(loss.detach().to(tg.float64).numpy(), expected, **tolerance)
    ones = tg.ones_like(loss)
    (compiled,) = tg.autograd.grad(loss, x, ones, retain_graph=True)
    (recorded,) = tg.autograd.grad(loss, x, ones, create_graph=True)
    for found in (compiled, recorded):
        np.testing.assert_allclose(found.detach().to(tg.float64).numpy(), gradient, **tolerance)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_second_derivative_and_layouts(reduction):
    target = tg.tensor([[0, 3], [2, 2], [1, 7]])[:, 0]
    weight = tg.tensor([0.5, 9.0, 1.0, 9.0, 2.0, 9.0], dtype=tg.float64)[::2]
    x = tg.randn(3, 3, dtype=tg.float64, generator=tg.Generator().manual_seed(0)).requires_grad_()
    loss = lambda x: F.nll_loss((x * x).t(), target, weight, reduction=reduction)  # noqa: E731
    assert tg.autograd.gradcheck(loss, x) and tg.autograd.gradgradcheck(loss, x)


def test_cross_entropy_of_logits():
    x = tg.randn(5, 3, dtype=tg.float64, generator=tg.Generator().manual_seed(1)).requires_grad_()
    target = tg.tensor([0, 1, -100, 2, 1])
    assert tg.autograd.gradcheck(lambda x: F.cross_entropy(x, target), x)
    F.cross_entropy(x, target).backward()
    soft = x.detach().softmax(1).numpy()
    rows = np.array([0, 1, 3, 4])
    soft[rows, target.numpy()[rows]] -= 1
    soft[2] = 0
    np.testing.assert_allclose(x.grad.numpy(), soft / 4, atol=1e-12)


def test_when_all_are_ignored_the_gradient_is_zero():
    x, target = tg.ones(2, 3, requires_grad=True), tg.tensor([-100, -100])
    for reduction, value in (("mean", float("nan")), ("sum", 0.0)):
        loss = F.nll_loss(x, target, reduction=reduction)
        np.testing.assert_equal(loss.item(), value)
        for graph in (False, True):
            assert not tg.autograd.grad(loss, x, retain_graph=True, create_graph=graph)[0].detach().numpy().any()


def test_targets_changed_after_use_are_refused():
    x, target = tg.ones(2, 3, requires_grad=True), tg.tensor([0, 1])
    loss = F.nll_loss(x, target)
    assert loss.grad_fn._saved_target is not None
    target[0] = 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_refusals():
    x, target = tg.ones(2, 3), tg.tensor([0, 1])
    for arguments, error, words in (
        ((x, tg.tensor([0, 5])), IndexError, "Target 5 is out of bounds."),
        ((x, tg.tensor([-1, 5])), IndexError, "Target -1 is out of bounds."),
        ((x.long(), target), NotImplementedError, "\"nll_loss_out_frame\" not implemented for 'Long'"),
        ((x, target, tg.ones(3, dtype=tg.float64)), RuntimeError, "expected scalar type Float but found Double"),
        ((x, target, tg.ones(3, requires_grad=True)), RuntimeError, "'nll_loss_forward' is not differentiable with respect to argument 'weight'"),
    ):
        with pytest.raises(error, match=words):
            F.nll_loss(*arguments)
    with tg.no_grad():
        assert F.nll_loss(x, target, tg.ones(3, requires_grad=True)).item() == -1
    assert F.nll_loss(x, target.to(tg.uint8)).item() == -1
    with pytest.raises(IndexError):
        F.nll_loss(x, tg.tensor([0, 5]))
    assert F.nll_loss(x, target).item() == -1  # a refused call leaves nothing behind


def test_over_a_batch():
    x = tg.arange(24.0).reshape(2, 3, 4)
    target = tg.tensor([[0, 1, -100], [3, -100, 2]])
    for reduction in ("none", "sum", "mean"):
        found = tg.func.vmap(lambda x, t: F.nll_loss(x, t, reduction=reduction))(x, target)  # noqa: B023
        expected = [F.nll_loss(x[k], target[k], reduction=reduction).tolist() for k in range(2)]
        np.testing.assert_allclose(found.numpy(), expected)
    gradient = tg.func.grad(lambda x: F.nll_loss(x, target[0]))(x[0])
    assert gradient.sum().item() == -1
