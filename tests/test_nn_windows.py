"""Owns the checks of convolutions, pooling, normalisation, padding and look-ups: against PyTorch and finite differences; their modules."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg

f = lambda m: m.nn.functional
X, Y, Z = (2, 4, 5), (2, 4, 6, 5), (1, 2, 4, 3, 4)
CASES = {
    "conv1d": (lambda m, x, w, b: f(m).conv1d(x, w, b, 2, 1), [X, (3, 4, 2), (3,)]),
    "conv2d": (lambda m, x, w, b: f(m).conv2d(x, w, b), [Y, (3, 4, 2, 3), (3,)]),
    "conv2d all": (lambda m, x, w, b: f(m).conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2), [Y, (6, 2, 2, 2), (6,)]),
    "conv2d depthwise": (lambda m, x, w: f(m).conv2d(x, w, groups=4), [Y, (4, 1, 2, 2)]),
    "conv2d same": (lambda m, x, w: f(m).conv2d(x, w, padding="same"), [Y, (2, 4, 3, 3)]),
    "conv2d one": (lambda m, x, w: f(m).conv2d(x, w), [(4, 3, 3), (2, 4, 1, 1)]),
    "conv3d": (lambda m, x, w: f(m).conv3d(x, w, padding=1, stride=2), [Z, (2, 2, 2, 2, 2)]),
    "conv2d turned": (lambda m, x, w: f(m).conv2d(x.transpose(2, 3), w), [Y, (3, 4, 2, 2)]),
    "transposed": (lambda m, x, w, b: f(m).conv_transpose2d(x, w, b, 2, 1, 1), [(2, 4, 3, 2), (4, 3, 3, 2), (3,)]),
    "transposed 1d": (lambda m, x, w: f(m).conv_transpose1d(x, w, groups=2, dilation=2), [X, (4, 2, 2)]),
    "max_pool2d": (lambda m, x: f(m).max_pool2d(x, 2), [Y]),
    "max_pool2d all": (lambda m, x: f(m).max_pool2d(x, (3, 2), 2, 1, (1, 2), True), [Y]),
    "max_pool1d": (lambda m, x: f(m).max_pool1d(x, 2, 1), [X]),
    "max_pool3d": (lambda m, x: f(m).max_pool3d(x, 2), [Z]), "max indices": (lambda m, x: f(m).max_pool2d(x, 3, 2, 1, return_indices=True), [Y]),
    "avg_pool2d": (lambda m, x: f(m).avg_pool2d(x, 2), [Y]),
    "avg_pool2d all": (lambda m, x: f(m).avg_pool2d(x, 3, 2, 1, True, False), [Y]),
    "avg pad": (lambda m, x: f(m).avg_pool2d(x, 3, 2, 1, True), [Y]),
    "avg divisor": (lambda m, x: f(m).avg_pool2d(x, 2, divisor_override=3), [Y]),
    "avg_pool1d": (lambda m, x: f(m).avg_pool1d(x, 2, 2, 1), [X]),
    "avg_pool3d": (lambda m, x: f(m).avg_pool3d(x, 2, 1), [Z]),
    "adaptive": (lambda m, x: f(m).adaptive_avg_pool2d(x, (4, 3)), [Y]),
    "adaptive one": (lambda m, x: f(m).adaptive_avg_pool2d(x, 1), [Y]),
    "adaptive none": (lambda m, x: f(m).adaptive_avg_pool2d(x, (None, 2)), [Y]),
    "adaptive 1d": (lambda m, x: f(m).adaptive_avg_pool1d(x, 2), [X]),
    "adaptive max": (lambda m, x: f(m).adaptive_max_pool2d(x, (4, 3), True), [Y]),
    "lp": (lambda m, x: f(m).lp_pool2d(x * x + 1, 3, 2), [Y]),
    "batch_norm": (lambda m, x, w, b: f(m).batch_norm(x, None, None, w, b, True), [Y, (4,), (4,)]),
    "batch_norm eval": (lambda m, x, w, b: f(m).batch_norm(x, m.ones(4, dtype=m.float64), m.ones(4, dtype=m.float64) * 2, w, b), [X, (4,), (4,)]),
    "layer_norm": (lambda m, x, w, b: f(m).layer_norm(x, (6, 5), w, b), [Y, (6, 5), (6, 5)]),
    "layer_norm plain": (lambda m, x: f(m).layer_norm(x, (5,)), [X]),
    "group_norm": (lambda m, x, w, b: f(m).group_norm(x, 2, w, b), [Y, (4,), (4,)]),
    "instance_norm": (lambda m, x, w, b: f(m).instance_norm(x, weight=w, bias=b), [X, (4,), (4,)]),
    "rms": (lambda m, x, w: f(m).rms_norm(x, (5,), w, 1e-3), [X, (5,)]),
    "local": (lambda m, x: f(m).local_response_norm(x, 3, 0.5), [Y]),
    "pad": (lambda m, x: f(m).pad(x, (1, 2, -1, 0), value=2.0), [Y]),
    "reflect": (lambda m, x: f(m).pad(x, (2, 1, 1, 3), "reflect"), [Y]),
    "replicate": (lambda m, x: f(m).pad(x, (2, 1), "replicate"), [X]),
    "circular": (lambda m, x: f(m).pad(x, (2, 1, -1, 1), "circular"), [Y]),
    "unfold": (lambda m, x: f(m).unfold(x, (2, 3), padding=1, stride=2), [Y]),
    "fold": (lambda m, x: f(m).fold(x, (4, 3), 2), [(2, 8, 6)]),
    "embedding": (lambda m, w: f(m).embedding(m.tensor([[0, 2], [2, 1]]), w), [(4, 3)]),
    "embedding padding": (lambda m, w: f(m).embedding(m.tensor([0, 2, 2]), w, padding_idx=0, scale_grad_by_freq=True), [(4, 3)]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_as_torch(name, rng):
    pytest.importorskip("torch")
    function, shapes = CASES[name]
    second = name not in ("embedding padding", "embedding")  # scaled by frequency once more, in PyTorch
    support.check_against_torch(function, [rng.uniform(-1, 1, s) for s in shapes], rng, second, layout=False)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_against_differences(name, rng):
    if name == "embedding padding":  # not the derivative: the padding row has none
        return
    function, shapes = CASES[name]
    support.check_against_differences(function, [rng.uniform(-1, 1, s) for s in shapes], rng, smooth=False)


NAMES = {
    "ConvolutionBackward0": lambda x: f(tg).conv2d(x, tg.ones(1, 2, 2, 2)), "MaxPool2DWithIndicesBackward0": lambda x: f(tg).max_pool2d(x, 2),
    "AvgPool2DBackward0": lambda x: f(tg).avg_pool2d(x, 2),
    "MeanBackward1": lambda x: f(tg).adaptive_avg_pool2d(x, 1),
    "AdaptiveAvgPool2DBackward0": lambda x: f(tg).adaptive_avg_pool2d(x, 3),
    "NativeLayerNormBackward0": lambda x: f(tg).layer_norm(x, (4,)),
    "NativeBatchNormBackward0": lambda x: f(tg).batch_norm(x, None, None, training=True),
    "ConstantPadNdBackward0": lambda x: f(tg).pad(x, (1, 1)), "ReflectionPad2DBackward0": lambda x: f(tg).pad(x, (1, 1, 1, 1), "reflect"),
    "EmbeddingBackward0": lambda x: f(tg).embedding(tg.tensor([0]), x[0, 0]), "Im2ColBackward0": lambda x: f(tg).unfold(x, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_graph_names(name):
    assert NAMES[name](tg.ones(1, 2, 4, 4, requires_grad=True)).grad_fn.name() == name


ERRORS = {
    "channels": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 3, 2, 2)),
    "dims": lambda m: f(m).conv2d(m.ones(3, 3), m.ones(1, 2, 2, 2)),
    "kernel": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 2, 5, 5)),
    "bias": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 2, 2, 2), m.ones(2)),
    "stride": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 2, 2, 2), stride=0),
    "same": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 2, 2, 2), padding="same", stride=2),
    "groups": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(3, 1, 2, 2), groups=2),
    "dtypes": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3).double(), m.ones(1, 2, 2, 2)),
    "strides": lambda m: f(m).conv2d(m.ones(1, 2, 3, 3), m.ones(1, 2, 2, 2), stride=(1, 1, 1)),
    "output_padding": lambda m: f(m).conv_transpose2d(m.ones(1, 2, 3, 3), m.ones(2, 3, 2, 2), output_padding=1),
    "pool": lambda m: f(m).max_pool2d(m.ones(1, 2, 4, 4), 6),
    "pool pad": lambda m: f(m).max_pool2d(m.ones(1, 2, 4, 4), 2, padding=2),
    "divisor": lambda m: f(m).avg_pool2d(m.ones(1, 2, 4, 4), 2, divisor_override=0),
    "one value": lambda m: f(m).batch_norm(m.ones(1, 3), None, None, training=True),
    "running": lambda m: f(m).batch_norm(m.ones(2, 3), None, None),
    "elements": lambda m: f(m).batch_norm(m.ones(2, 3), m.zeros(4), m.ones(3), training=True),
    "shape": lambda m: f(m).layer_norm(m.ones(2, 3), (4,)),
    "weight": lambda m: f(m).layer_norm(m.ones(2, 3), (3,), m.ones(2)),
    "integers": lambda m: f(m).layer_norm(m.ones(2, 3, dtype=m.int64), (3,)),
    "split": lambda m: f(m).group_norm(m.ones(2, 4, 3), 3),
    "odd": lambda m: f(m).pad(m.ones(2, 3), (1,)),
    "long": lambda m: f(m).pad(m.ones(2), (1,) * 4),
    "range": lambda m: f(m).embedding(m.tensor([5]), m.ones(2, 3)),
    "padding row": lambda m: f(m).embedding(m.tensor([1]), m.ones(2, 3), padding_idx=5),
    "classes": lambda m: f(m).one_hot(m.tensor([2]), 2),
    "module groups": lambda m: m.nn.Conv2d(3, 4, 1, groups=2),
    "module mode": lambda m: m.nn.ConvTranspose2d(1, 1, 1, padding_mode="reflect"),
    "module dims": lambda m: m.nn.BatchNorm2d(2)(m.ones(2, 2)),
    "output size": lambda m: m.nn.ConvTranspose2d(1, 1, 2, 2)(m.ones(1, 1, 2, 2), output_size=[9, 9]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", ERRORS)
def test_errors_as_torch(name):
    pytest.importorskip("torch")
    support.check_error_as_torch(ERRORS[name])


REPRS = ["Conv2d(2, 4, 3)", "Conv1d(2, 4, 3, 2, 1, 2, 2, False)", "Conv3d(2, 2, 1, padding='same', padding_mode='reflect')",
        "ConvTranspose2d(2, 4, 3, 2, output_padding=1)", "MaxPool2d(2)",
         "MaxPool1d(2, 1, 1)", "AvgPool2d(2)", "AvgPool1d(2)", "AdaptiveAvgPool2d((1, 1))", "AdaptiveMaxPool1d(3)",
        "BatchNorm2d(3)", "BatchNorm1d(3, affine=False, track_running_stats=False)",
         "InstanceNorm2d(3)", "LayerNorm(3)", "LayerNorm((2, 3), bias=False)", "GroupNorm(2, 4)", "LocalResponseNorm(2)",
        "Embedding(3, 2, padding_idx=1, max_norm=2.0)", "RMSNorm(3)"]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("text", REPRS)
def test_modules_as_torch(text):
    pytest.importorskip("torch")
    support.check_module_as_torch(text)


@pytest.mark.torch
def test_running_statistics_as_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.uniform(-1, 1, (3, 4, 5, 2)).astype(np.float32)
    for text in ("BatchNorm2d(4)", "BatchNorm2d(4, momentum=None)", "InstanceNorm2d(4, track_running_stats=True, affine=True)"):
        found = []
        for m in (tg, torch):
            module = eval("nn." + text, {"nn": m.nn})
            outs = [support.value(module(m.tensor(x))), support.value(module(m.tensor(x * 2)))]
            module.eval()
            found.append([*outs, support.value(module(m.tensor(x))), *(support.value(b) for b in module.buffers())])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_embedding_shortens_rows():
    w = tg.tensor([[3.0, 4.0], [0.3, 0.4]])
    out = f(tg).embedding(tg.tensor([0, 1]), w, max_norm=1.0)
    np.testing.assert_allclose(support.value(out), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-5)
    np.testing.assert_allclose(support.value(w[0]), [0.6, 0.8], rtol=1e-5)


def test_a_small_network_learns():
    tg.manual_seed(0)
    model = tg.nn.Sequential(tg.nn.Conv2d(1, 4, 3, padding=1), tg.nn.BatchNorm2d(4), tg.nn.ReLU(), tg.nn.MaxPool2d(2), tg.nn.Flatten(), tg.nn.Linear(16, 2))
    x = tg.randn(8, 1, 4, 4)
    y = (x.mean((1, 2, 3)) > 0).long()
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = f(tg).cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(("convolve", "shape"), [
    (tg.conv1d, (3, 2, 2)), (tg.conv_transpose1d, (2, 3, 2)), (lambda x, w: tg.conv1d(x, w, stride=2, padding=1), (3, 2, 2)),
])
def test_gradients_of_complex_convolutions(convolve, shape):
    tg.manual_seed(0)
    x, w = tg.randn(2, 2, 5, dtype=tg.complex128, requires_grad=True), tg.randn(*shape, dtype=tg.complex128, requires_grad=True)
    assert tg.autograd.gradcheck(convolve, (x, w)) and tg.autograd.gradgradcheck(convolve, (x, w))
