"""Owns the checks of modules that move elements - resampling, padding, shuffles - and of bags of embeddings, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg


def f(m):
    return m.nn.functional


L, I, V = (2, 3, 5), (2, 3, 4, 5), (1, 2, 3, 4, 2)  # noqa: E741 (lines, images, volumes)


def resized(shape, **options):
    return lambda m, x: f(m).interpolate(x, **options), [shape]


CASES = {
    "nearest line": resized(L, size=7), "nearest": resized(I, scale_factor=(1.7, 0.6)), "nearest volume": resized(V, size=(2, 5, 3)),
    "exact line": resized(L, size=3, mode="nearest-exact"), "exact": resized(I, scale_factor=1.3, mode="nearest-exact"),
    "linear": resized(L, size=8, mode="linear"), "linear aligned": resized(L, size=3, mode="linear", align_corners=True),
    "one element": resized(L, size=1, mode="linear", align_corners=True),
    "bilinear": resized(I, scale_factor=1.6, mode="bilinear"), "bilinear aligned": resized(I, size=(7, 3), mode="bilinear", align_corners=True),
    "recomputed": resized(I, scale_factor=1.6, mode="bilinear", recompute_scale_factor=True), "trilinear": resized(V, scale_factor=2, mode="trilinear"),
    "bicubic": resized(I, size=(6, 9), mode="bicubic"), "bicubic aligned": resized(I, scale_factor=0.7, mode="bicubic", align_corners=True),
    "area": resized(I, size=(2, 3), mode="area"), "area scaled": resized(L, scale_factor=0.5, mode="area"),
    "smooth": resized(I, size=(2, 3), mode="bilinear", antialias=True), "smooth cubic": resized(I, scale_factor=0.6, mode="bicubic", antialias=True),
    "smooth larger": resized(I, size=(7, 7), mode="bicubic", antialias=True, align_corners=True), "lanczos": resized((1, 1, 9, 8), size=(4, 3), mode="lanczos", antialias=True),
    "shuffle": (lambda m, x: f(m).pixel_shuffle(x, 2), [(2, 8, 2, 3)]), "unshuffle": (lambda m, x: f(m).pixel_unshuffle(x, 2), [(3, 4, 6)]),
    "channels": (lambda m, x: f(m).channel_shuffle(x, 2), [(2, 6, 3)]),
    "pads": (lambda m, x: [c(x) for c in (m.nn.ZeroPad1d(2), m.nn.ConstantPad1d((1, -1), 3.0), m.nn.ReflectionPad1d(2), m.nn.ReplicationPad1d((0, 2)), m.nn.CircularPad1d(1))], [L]),
    "pads of images": (lambda m, x: [c(x) for c in (m.nn.ZeroPad2d((1, 2, 0, 1)), m.nn.ReflectionPad2d(1), m.nn.ReplicationPad2d(1), m.nn.CircularPad2d((1, 0, 2, 1)))], [I]),
    "pads of volumes": (lambda m, x: [c(x) for c in (m.nn.ConstantPad3d(1, -1.0), m.nn.ReflectionPad3d(1), m.nn.ReplicationPad3d(1), m.nn.CircularPad3d(1))], [V]),
    "p-norms": (lambda m, x: [m.nn.LPPool1d(3, 2)(x[0] + 2), m.nn.LPPool2d(2, (2, 3), 1)(x + 2), m.nn.LPPool3d(1.5, 2, 1)((x + 2).unsqueeze(0))], [I]),
    "folds": (lambda m, x: m.nn.Fold((4, 5), 2, padding=1)(m.nn.Unfold(2, padding=1)(x)), [I]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_as_torch(name, rng):
    pytest.importorskip("torch")
    function, shapes = CASES[name]
    support.check_against_torch(function, [rng.uniform(-1, 1, s) for s in shapes], rng, layout=False, tolerance=1e-6)


def bag(m, weight, index, offsets=None, **options):
    return f(m).embedding_bag(m.tensor(index), weight, None if offsets is None else m.tensor(offsets), **options)


T = (5, 3)
BAGS = {
    "mean": (lambda m, w: bag(m, w, [[0, 2, 2], [1, 4, 0]]), [T]), "sum": (lambda m, w: bag(m, w, [0, 2, 2, 1], [0, 1, 1, 3], mode="sum"), [T]),
    "max": (lambda m, w: bag(m, w, [0, 2, 2, 1], [0, 3, 3], mode="max"), [T]), "last": (lambda m, w: bag(m, w, [0, 2, 2, 1], [0, 3, 4], include_last_offset=True), [T]),
    "padding": (lambda m, w: bag(m, w, [[0, 2, 2], [2, 2, 2]], padding_idx=2), [T]), "padding max": (lambda m, w: bag(m, w, [[0, 2, 1], [2, 2, 2]], padding_idx=-3, mode="max"), [T]),
    "frequency": (lambda m, w: bag(m, w, [[0, 0, 0], [1, 1, 1]], scale_grad_by_freq=True), [T]),
    "weights": (lambda m, w, s: bag(m, w, [[0, 2, 2], [1, 4, 0]], per_sample_weights=s, mode="sum"), [T, (2, 3)]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", BAGS)
def test_bags_as_torch(name, rng):
    pytest.importorskip("torch")
    function, shapes = BAGS[name]
    support.check_against_torch(function, [rng.uniform(-1, 1, s) for s in shapes], rng, second=False, layout=False)


TEXTS = [
    "LPPool1d(2, 3)", "LPPool2d(1.5, (3, 2), 1, True)",
    "ConstantPad2d(1, 2.5)", "ZeroPad2d((1, 2, 3, 4))", "ReflectionPad3d(1)", "CircularPad1d((1, 0))", "Unfold((2, 3), padding=1)", "Fold((4, 5), 2)", "PixelShuffle(2)",
    "PixelUnshuffle(3)", "ChannelShuffle(2)", "Upsample((3, 4))", "Upsample(scale_factor=(2, 3), mode='bilinear')", "UpsamplingNearest2d(scale_factor=2)",
    "UpsamplingBilinear2d((4, 4))", "EmbeddingBag(4, 3)", "EmbeddingBag(4, 3, max_norm=1.5, padding_idx=-1, mode='sum', scale_grad_by_freq=True)",
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("text", TEXTS)
def test_modules_as_torch(text):
    pytest.importorskip("torch")
    support.check_module_as_torch(text)


def image(m, dtype="float32"):
    return m.ones(1, 1, 3, 3, dtype=getattr(m, dtype))


ERRORS = {
    "neither": lambda m: f(m).interpolate(image(m)), "both": lambda m: f(m).interpolate(image(m), 2, 2), "sizes": lambda m: f(m).interpolate(image(m), (2, 2, 2)),
    "factors": lambda m: f(m).interpolate(image(m), scale_factor=(2,)), "aligned": lambda m: f(m).interpolate(image(m), 2, align_corners=True),
    "mode": lambda m: f(m).interpolate(image(m), 2, mode="linear"), "unknown": lambda m: f(m).interpolate(image(m), 2, mode="sinc"), "rank": lambda m: f(m).interpolate(m.ones(2, 2), ()),
    "smooth": lambda m: f(m).interpolate(image(m), 2, antialias=True), "kind": lambda m: f(m).interpolate(image(m), (2, 2.5)),
    "lanczos": lambda m: f(m).interpolate(image(m), 2, mode="lanczos"),
    "recompute": lambda m: f(m).interpolate(image(m), 2, recompute_scale_factor=True), "integers": lambda m: f(m).interpolate(image(m, "int32"), 2, mode="bicubic"),
    "nothing": lambda m: f(m).interpolate(image(m), (0, 2)), "no line": lambda m: f(m).interpolate(m.ones(1, 1, 0), 2),
    "shuffle": lambda m: f(m).pixel_shuffle(image(m), 2), "factor": lambda m: f(m).pixel_unshuffle(image(m), 0), "height": lambda m: f(m).pixel_unshuffle(image(m), 2),
    "rank of shuffle": lambda m: f(m).pixel_shuffle(m.ones(2), 2), "groups": lambda m: f(m).channel_shuffle(image(m), 2), "no groups": lambda m: f(m).channel_shuffle(image(m), 0),
    "bags": lambda m: bag(m, m.ones(3, 2), [0, 1]), "bag mode": lambda m: bag(m, m.ones(3, 2), [[0, 1]], mode="min"), 
    "end": lambda m: bag(m, m.ones(3, 2), [0, 1], [0, 5]), "bag weights": lambda m: bag(m, m.ones(3, 2), [[0, 1]], per_sample_weights=m.ones(1, 2)),
    "weights shape": lambda m: bag(m, m.ones(3, 2), [[0, 1]], per_sample_weights=m.ones(2), mode="sum"), "table": lambda m: bag(m, m.ones(3), [[0, 1]]),
    "max": lambda m: bag(m, m.ones(3, 2), [[0, 1]], mode="max", scale_grad_by_freq=True), "bag padding": lambda m: m.nn.EmbeddingBag(3, 2, padding_idx=3),
    "orthogonal": lambda m: m.nn.init.orthogonal_(m.ones(3)),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", ERRORS)
def test_errors_as_torch(name):
    pytest.importorskip("torch")
    support.check_error_as_torch(ERRORS[name])


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_dtypes_as_torch(dtype, rng):
    torch = pytest.importorskip("torch")
    values = rng.integers(0, 9, (1, 2, 5, 7)).tolist()
    for options in ({"scale_factor": 1.9}, {"size": (3, 11), "mode": "nearest-exact"}) + (({"size": (3, 11), "mode": "bilinear"},) if dtype != "uint8" else ()):
        found, expected = (f(m).interpolate(m.tensor(values, dtype=getattr(m, dtype)), **options) for m in (tg, torch))
        assert str(found.dtype).endswith(dtype)
        support.close(support.value(found), support.value(expected), 1e-6 if dtype in ("uint8", "float32") else 1e-2)


def test_orthogonal_matrices_and_dtypes_of_modules():
    for shape in ((3, 5), (5, 3), (4, 2, 2)):
        w = tg.nn.init.orthogonal_(tg.empty(*shape, dtype=tg.float64), gain=2).reshape(shape[0], -1)
        small = w @ w.mT if w.shape[0] <= w.shape[1] else w.mT @ w
        support.close(support.value(small), 4 * np.eye(min(w.shape)))
    module = tg.nn.Sequential(tg.nn.Linear(2, 2), tg.nn.BatchNorm1d(2))
    assert module.half()[0].weight.dtype is tg.float16 and module.bfloat16()[1].running_mean.dtype is tg.bfloat16
    assert module.to_empty(device="cpu")[0].weight.shape == (2, 2) and module[1].num_batches_tracked.dtype is tg.int64


def test_activations_in_place_have_names():
    for name, arguments in (("elu_", ()), ("celu_", ()), ("selu_", ()), ("leaky_relu_", (0.2,)), ("hardtanh_", ()), ("threshold_", (0.1, 5.0)), ("rrelu_", ())):
        x = tg.tensor([-2.0, 0.5])
        plain = getattr(tg.nn.functional, name[:-1])(x, *arguments)
        assert getattr(tg.nn.functional, name)(x, *arguments) is x
        support.close(support.value(x), support.value(plain))


def test_bags_begin_at_the_first_element_and_gradients_are_divided_by_frequency():
    with pytest.raises(RuntimeError, match="the first sequence in the mini-batch has to start from position 0. However, got 1"):
        bag(tg, tg.ones(3, 2), [0, 1], [1])
    w = tg.ones(3, 1, requires_grad=True)
    bag(tg, w, [[0, 2, 2], [1, 0, 2]], scale_grad_by_freq=True, mode="sum").sum().backward()
    assert w.grad.flatten().tolist() == [1.0, 1.0, 1.0]


def test_memory_formats_and_sizes_that_cannot_be():
    x = tg.ones(1, 2, 3, 4).contiguous(memory_format=tg.channels_last)
    for mode in ("nearest", "bilinear"):
        assert f(tg).interpolate(x, 5, mode=mode).is_contiguous(memory_format=tg.channels_last)
    for factor in (1e20, -1e20):
        with pytest.raises(RuntimeError):
            f(tg).interpolate(x, scale_factor=factor, mode="bilinear")
    with pytest.raises(RuntimeError, match="calculated shape of the array of sliding blocks as"):
        f(tg).fold(tg.ones(1, 12, 12), (4, 5), 2, dilation=8)
