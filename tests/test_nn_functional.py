"""Owns the checks of nn.functional: values, gradients and second derivatives against PyTorch, graph names, errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import modes

F = tg.nn.functional
A, B = (3, 4), (2, 3, 4)
f = lambda m: m.nn.functional
labels = lambda m: m.tensor([1, 0, 3])
CASES = {
    "linear": (lambda m, x, w, b: f(m).linear(x, w, b), [A, (2, 4), (2,)]), "linear vector": (lambda m, x, w, b: f(m).linear(x, w, b), [(4,), (2, 4), (2,)]),
    "linear batch": (lambda m, x, w, b: f(m).linear(x, w, b) ** 2, [B, (2, 4), (2,)]), "linear no bias": (lambda m, x, w: f(m).linear(x, w), [B, (2, 4)]),
    "linear turned": (lambda m, x, w, b: f(m).linear(x.transpose(0, 1), w, b), [B, (2, 4), (2,)]),
    "bilinear": (lambda m, x, y, w, b: f(m).bilinear(x, y, w, b), [A, (3, 5), (2, 4, 5), (2,)]),
    "leaky_relu": (lambda m, x: f(m).leaky_relu(x, 0.2) ** 2, [A]), "elu": (lambda m, x: f(m).elu(x, 0.7), [A]), "celu": (lambda m, x: f(m).celu(x, 1.5), [A]),
    "selu": (lambda m, x: f(m).selu(x), [A]), "gelu": (lambda m, x: f(m).gelu(x), [A]), "gelu tanh": (lambda m, x: f(m).gelu(x, approximate="tanh"), [A]),
    "silu": (lambda m, x: f(m).silu(x), [A]), "mish": (lambda m, x: f(m).mish(x), [A]), "hardswish": (lambda m, x: f(m).hardswish(x * 4), [A]),
    "hardsigmoid": (lambda m, x: f(m).hardsigmoid(x * 4) ** 2, [A]), "logsigmoid": (lambda m, x: f(m).logsigmoid(x), [A]),
    "softplus": (lambda m, x: f(m).softplus(x, 2, 1.5), [A]), "hardtanh": (lambda m, x: f(m).hardtanh(x, -0.3, 0.4) ** 2, [A]),
    "relu6": (lambda m, x: f(m).relu6(x * 9) ** 2, [A]), "threshold": (lambda m, x: f(m).threshold(x, 0.1, 7.0) ** 2, [A]),
    "hardshrink": (lambda m, x: f(m).hardshrink(x, 0.3) ** 2, [A]), "softshrink": (lambda m, x: f(m).softshrink(x, 0.3) ** 2, [A]),
    "tanhshrink": (lambda m, x: f(m).tanhshrink(x), [A]), "softsign": (lambda m, x: f(m).softsign(x), [A]), "prelu": (lambda m, x, w: f(m).prelu(x, w), [B, (3,)]),
    "prelu one": (lambda m, x, w: f(m).prelu(x, w), [(4,), (1,)]), "glu": (lambda m, x: f(m).glu(x), [A]), "glu dim": (lambda m, x: f(m).glu(x, 0), [(4, 3)]),
    "rrelu": (lambda m, x: f(m).rrelu(x), [A]), "softmax": (lambda m, x: f(m).softmax(x, 1), [A]), "softmin": (lambda m, x: f(m).softmin(x, 0), [A]),
    "mse": (lambda m, x, y: f(m).mse_loss(x, y), [A, A]), "mse sum": (lambda m, x, y: f(m).mse_loss(x, y, reduction="sum"), [A, A]),
    "mse none": (lambda m, x, y: f(m).mse_loss(x, y, reduction="none") ** 2, [A, A]), "mse weight": (lambda m, x, y, w: f(m).mse_loss(x, y, weight=w * w), [A, A, A]),
    "mse turned": (lambda m, x, y: f(m).mse_loss(x.t(), y), [(4, 3), A]), "l1": (lambda m, x, y: f(m).l1_loss(x, y), [A, A]),
    "smooth_l1": (lambda m, x, y: f(m).smooth_l1_loss(x, y, beta=0.6), [A, A]), "huber": (lambda m, x, y: f(m).huber_loss(x, y, delta=0.6), [A, A]),
    "huber none": (lambda m, x, y: f(m).huber_loss(x, y, reduction="none", delta=0.6), [A, A]),
    "bce": (lambda m, x, y: f(m).binary_cross_entropy(x.sigmoid(), y.sigmoid()), [A, A]),
    "bce weight": (lambda m, x, y, w: f(m).binary_cross_entropy(x.sigmoid(), y.sigmoid().detach(), w.detach()), [A, A, (4,)]),
    "bce logits": (lambda m, x, y: f(m).binary_cross_entropy_with_logits(x * 3, y.sigmoid().detach()), [A, A]),
    "bce logits weights": (lambda m, x, y, w: f(m).binary_cross_entropy_with_logits(x * 3, y.sigmoid().detach(), w.exp().detach(), pos_weight=w.cos().detach()), [A, A, (4,)]),
    "kl": (lambda m, x, y: f(m).kl_div(x, y.exp(), reduction="batchmean"), [A, A]), "kl log": (lambda m, x, y: f(m).kl_div(x, y, reduction="sum", log_target=True), [A, A]),
    "nll": (lambda m, x: f(m).nll_loss(x, labels(m)), [A]), "nll weight": (lambda m, x, w: f(m).nll_loss(x * x, labels(m), w.detach().exp()), [A, (4,)]),
    "nll none": (lambda m, x: f(m).nll_loss(x * x, labels(m), reduction="none", ignore_index=0), [A]), "nll one": (lambda m, x: f(m).nll_loss(x * x, m.tensor(2)), [(4,)]),
    "nll planes": (lambda m, x: f(m).nll_loss(x * x, m.tensor([[0, 2, 1, 1], [1, 1, 0, 2]]), ignore_index=1), [B]),
    "cross_entropy": (lambda m, x: f(m).cross_entropy(x, labels(m)), [A]), "cross_entropy smooth": (lambda m, x: f(m).cross_entropy(x, labels(m), label_smoothing=0.2), [A]),
    "cross_entropy weight": (lambda m, x, w: f(m).cross_entropy(x, labels(m), w.detach().exp(), ignore_index=0, label_smoothing=0.2), [A, (4,)]),
    "cross_entropy soft": (lambda m, x, y: f(m).cross_entropy(x, y.softmax(1), label_smoothing=0.1), [A, A]),
    "poisson": (lambda m, x, y: f(m).poisson_nll_loss(x, y.exp() * 2, full=True), [A, A]), "gaussian": (lambda m, x, y, v: f(m).gaussian_nll_loss(x, y, v.exp(), full=True), [A, A, A]),
    "margin ranking": (lambda m, x, y: f(m).margin_ranking_loss(x, y, m.tensor([1.0, -1, 1, 1], dtype=m.float64), 0.3), [(4,), (4,)]),
    "hinge": (lambda m, x: f(m).hinge_embedding_loss(x, m.tensor([1.0, -1, -1, 1], dtype=m.float64)), [(4,)]),
    "cosine": (lambda m, x, y: f(m).cosine_embedding_loss(x, y, m.tensor([1.0, -1, 1], dtype=m.float64), 0.1), [A, A]),
    "triplet": (lambda m, x, y, z: f(m).triplet_margin_loss(x, y, z, swap=True), [A, A, A]), "multi margin": (lambda m, x: f(m).multi_margin_loss(x, labels(m), p=2), [A]),
    "multilabel margin": (lambda m, x: f(m).multilabel_margin_loss(x * x, m.tensor([[1, 3, -1, 0], [0, -1, 1, 1], [2, 1, 0, 3]])), [A]),
    "multilabel soft": (lambda m, x, y: f(m).multilabel_soft_margin_loss(x, y.sigmoid()), [A, A]), "soft margin": (lambda m, x, y: f(m).soft_margin_loss(x, y.sign().detach()), [A, A]),
    "normalize": (lambda m, x: f(m).normalize(x), [A]), "cosine_similarity": (lambda m, x, y: f(m).cosine_similarity(x, y), [A, A]),
    "pairwise": (lambda m, x, y: f(m).pairwise_distance(x, y), [A, A]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_as_torch(name, rng):
    pytest.importorskip("torch")
    function, shapes = CASES[name]
    arrays = [rng.uniform(-1, 1, s) for s in shapes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # PyTorch has no second derivative of the excepted ones.
        support.check_against_torch(function, arrays, rng, name not in ("hardsigmoid", "multi margin", "multilabel margin"), layout=False, tolerance=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_against_differences(name, rng):
    function, shapes = CASES[name]
    arrays = [rng.uniform(-1, 1, s) for s in shapes]
    if "detach" in function.__code__.co_names or "weight" in name:  # operands without a gradient of their own
        return
    support.check_against_differences(function, arrays, rng, smooth=False)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "logsigmoid", "softplus", "hardtanh",
                                  "relu6", "hardshrink", "softshrink", "relu"])  # fmt: skip
def test_special_values_as_torch(name):
    torch = pytest.importorskip("torch")
    special = np.array([0.0, -0.0, 0.5, -0.5, 1, -1, 3, -3, 6, 19, 21, 800, -800, np.inf, -np.inf, np.nan])
    results = []
    for m in (tg, torch):
        x = m.tensor(special, requires_grad=True)
        y = getattr(m.nn.functional, name)(x)
        (g,) = m.autograd.grad(y.sum(), x)
        results.append((support.value(y), support.value(g)))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-300)


NAMES = {
    "MmBackward0": lambda x: F.linear(x, tg.ones(2, 4)), "AddmmBackward0": lambda x: F.linear(x, tg.ones(2, 4), tg.ones(2)),
    "MseLossBackward0": lambda x: F.mse_loss(x, x * 2), "NllLossBackward0": lambda x: F.cross_entropy(x, tg.tensor([0, 1, 2])),
    "LeakyReluBackward0": lambda x: F.leaky_relu(x), "GeluBackward0": lambda x: F.gelu(x), "EluBackward0": lambda x: F.elu(x),
    "SoftplusBackward0": lambda x: F.softplus(x), "MulBackward0": lambda x: F.dropout(x), "PreluKernelBackward0": lambda x: F.prelu(x, tg.ones(1)),
    "GluBackward0": lambda x: F.glu(x), "HardtanhBackward0": lambda x: F.relu6(x), "MeanBackward0": lambda x: F.l1_loss(x, x * 2),
    "BinaryCrossEntropyWithLogitsBackward0": lambda x: F.binary_cross_entropy_with_logits(x, tg.ones(3, 4), weight=tg.ones(4)),
    "NllLoss2DBackward0": lambda x: F.nll_loss(x.reshape(1, 3, 4), tg.zeros(1, 4, dtype=tg.int64)),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_graph_names(name):
    assert NAMES[name](tg.ones(3, 4, requires_grad=True)).grad_fn.name() == name


def test_numbers_are_no_operands_in_the_graph():
    x = tg.ones(3, requires_grad=True)
    assert len(F.leaky_relu(x).grad_fn.next_functions) == len(F.elu(x).grad_fn.next_functions) == len(F.softplus(x).grad_fn.next_functions) == 1


ERRORS = {
    "target range": (lambda: F.cross_entropy(tg.ones(1, 3), tg.tensor([5])), IndexError, "Target 5 is out of bounds."),
    "batch": (lambda: F.cross_entropy(tg.ones(2, 3), tg.tensor([0])), ValueError, "Expected input batch_size (2) to match target batch_size (1)."),
    "integers": (lambda: F.leaky_relu(tg.tensor([1])), NotImplementedError, "\"leaky_relu_cpu\" not implemented for 'Long'"),
    "probability": (lambda: F.dropout(tg.ones(2), 1.5), ValueError, "dropout probability has to be between 0 and 1, but got 1.5"),
    "reduction": (lambda: F.mse_loss(tg.ones(2), tg.ones(2), reduction="x"), ValueError, "x is not a valid value for reduction"),
    "inner sizes": (lambda: F.linear(tg.ones(1, 4), tg.ones(2, 3), tg.ones(2)), RuntimeError, "mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2)"),
    "halves": (lambda: F.glu(tg.ones(3)), RuntimeError, "Halving dimension must be even, but dimension 0 is size 3"),
    "unit interval": (lambda: F.binary_cross_entropy(tg.ones(2) * 2, tg.ones(2)), RuntimeError, "all elements of input should be between 0 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    support.check_error(*ERRORS[name])


def test_losses_warn_of_sizes_that_broadcast():
    with pytest.warns(UserWarning, match="Using a target size"):
        F.mse_loss(tg.ones(2, 1), tg.ones(2))


@pytest.mark.torch
def test_dropout_draws_as_torch():
    torch = pytest.importorskip("torch")
    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout", "dropout2d", "rrelu"):
        values = []
        for m in (tg, torch):
            m.manual_seed(3)
            x = -m.ones(4, 5, 6, 2, requires_grad=True) if name == "rrelu" else m.ones(4, 5, 6, 2, requires_grad=True)
            y = getattr(m.nn.functional, name)(x, training=True)
            (g,) = m.autograd.grad(y.sum(), x)
            values.append((support.value(y), support.value(g)))
        for found, expected in zip(*values, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_inplace_forms():
    for name, arguments in (("relu", ()), ("leaky_relu", (0.1,)), ("elu", ()), ("hardtanh", ()), ("threshold", (0.1, 2.0)), ("silu", ())):
        x = tg.tensor([-1.0, 0.05, 2.0], requires_grad=True)
        start = x * 1.0
        result = getattr(F, name)(start, *arguments, inplace=True)
        assert result is start
        expected = getattr(F, name)(x, *arguments)
        np.testing.assert_array_equal(support.value(result), support.value(expected))
        assert tg.equal(tg.autograd.grad(result.sum(), x)[0], tg.autograd.grad(expected.sum(), x)[0])


def test_addmm_gradients_in_compiled_code(rng):
    """The rules of the compiled sweep against the derivative in Python, with every way in which the first operand broadcasts."""
    for shape in ((2,), (3, 2), (1, 2), (3, 1), (1,), ()):
        arrays = [rng.uniform(-1, 1, s) for s in (shape, (3, 4), (4, 2))]
        found = []
        for create in (False, True):
            tensors = [tg.tensor(a, requires_grad=True) for a in arrays]
            out = tg.addmm(*tensors) * tg.arange(6.0, dtype=tg.float64).reshape(3, 2)
            found.append([support.value(g) for g in tg.autograd.grad(out.sum(), tensors, create_graph=create)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_large_loss_is_reduced_apart():
    x = tg.ones(1 << 18, requires_grad=True)
    loss = F.mse_loss(x, tg.zeros(1 << 18))
    loss.backward()
    assert loss.item() == 1 and loss.grad_fn is not None and x.grad[0].item() == pytest.approx(2 / (1 << 18))
    with modes.no_grad():
        assert not F.mse_loss(x, tg.zeros(1 << 18)).requires_grad


@pytest.mark.parametrize("f", [
    F.relu, F.relu6, F.leaky_relu, F.hardtanh, F.hardshrink, F.softshrink, lambda x: F.threshold(x, 0.1, 0.0), lambda x: F.prelu(x, tg.tensor([0.25])),
])
def test_slopes_that_are_constant_in_pieces_have_a_derivative_of_zeros(f):
    """A gradient that depends on x by the piece alone depends on it: another derivative finds zeros, not an unused tensor."""
    x = tg.tensor([-2.0, 0.3, 4.0], requires_grad=True)
    for _ in range(3):
        (g,) = tg.autograd.grad(f(x).sum(), x, create_graph=True)
        assert g.requires_grad
        assert tg.autograd.grad(g.sum(), x)[0].tolist() == [0.0, 0.0, 0.0]
    w = tg.ones(3, requires_grad=True)
    (g,) = tg.autograd.grad((f(x) * w).sum(), x, create_graph=True)
    of_x, of_w = tg.autograd.grad(g.sum(), (x, w))
    assert of_x.tolist() == [0.0, 0.0, 0.0] and of_w.tolist() == tg.autograd.grad(f(x).sum(), x)[0].tolist()
    assert not tg.autograd.grad(f(x).sum(), x)[0].requires_grad


def test_the_tangent_of_a_table_whose_rows_are_shortened_stays():
    table, tangent = tg.arange(1.0, 9.0).view(4, 2), tg.ones(4, 2)
    out, found = tg.func.jvp(lambda t: F.embedding(tg.tensor([1, 2]), t, max_norm=1.0), (table,), (tangent,))
    assert found.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert out.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert table[1].norm().item() == pytest.approx(1.0)
    assert tg.equal(table[0], tg.tensor([1.0, 2.0]))


@pytest.mark.parametrize(("pool", "n"), [("avg", 3), ("max", 1), ("max", 2), ("max", 3)])
def test_adaptive_pools_of_no_channels(pool, n):
    f = getattr(F, f"adaptive_{pool}_pool{n}d")
    assert tuple(f(tg.ones(0, *[4] * n), 2).shape) == (0, *[2] * n)
    with pytest.raises(RuntimeError, match="with dimension 1 being empty"):
        f(tg.ones(0, *[0] * n), 2)


def test_packing_of_nothing():
    pack = tg.nn.utils.rnn.pack_padded_sequence
    for x, lengths in ((tg.ones(0, 0), []), (tg.ones(0, 1, 10), [0]), (tg.ones(3, 0), [])):
        with pytest.raises(RuntimeError, match="Cannot pack empty tensors."):
            pack(x, lengths)
    with pytest.raises(RuntimeError, match="'lengths' argument should be a 1D CPU int64 tensor, but got 2D cpu Long tensor"):
        pack(tg.ones(3, 2, 1), tg.tensor([[3, 1]]))
