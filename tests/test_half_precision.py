"""Owns the checks of layers in half precision against the same layers in float32: every family that computes in NumPy, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

F = tg.nn.functional
CASES = {
    "layer norm": lambda x: F.layer_norm(x, (5,)), "group norm": lambda x: F.group_norm(x, 2), "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "instance norm": F.instance_norm, "rms norm": lambda x: F.rms_norm(x, (5,)), "conv": lambda x: F.conv2d(x, x[:, :, :2, :2]),
    "conv transposed": lambda x: F.conv_transpose2d(x, x[:, :2].reshape(-1)[:32].reshape(4, 2, 2, 2)), "max pool": lambda x: F.max_pool2d(x, 2, 1, 1),
    "average pool": lambda x: F.avg_pool2d(x, 2, 1, 1), "adaptive average": lambda x: F.adaptive_avg_pool2d(x, 3),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, 3), "constant pad": lambda x: F.pad(x, (1, 1), value=2.0),
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), "unfold": lambda x: F.unfold(x, 2), "softshrink": F.softshrink,
    "fold": lambda x: F.fold(x.reshape(2, 8, 10), (3, 6), 2), "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "grid": lambda x: F.grid_sample(x, x[:, :2].detach().permute(0, 2, 3, 1), align_corners=False),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_layers_in_half_precision_agree_with_float32(name, dtype):
    f, data = CASES[name], np.random.default_rng(0).standard_normal((2, 4, 4, 5))
    rounded = tg.tensor(data, dtype=dtype)
    weights = None
    found = []
    for x in (rounded.clone().requires_grad_(), rounded.float().requires_grad_()):
        out = f(x)
        assert out.dtype is x.dtype
        weights = tg.tensor(np.random.default_rng(1).standard_normal(out.shape), dtype=tg.float32) if weights is None else weights
        (out.float() * weights).sum().backward()
        found.append((out.detach().float().numpy(), x.grad.float().numpy()))
    limit = 0.1 if dtype is tg.bfloat16 else 0.02
    for low, high in zip(*found, strict=True):
        np.testing.assert_allclose(low, high, rtol=limit, atol=limit)


def test_norms_of_mixed_precision_keep_the_input_s_dtype():
    x = tg.tensor([[1.0, 2.0, 4.0]], dtype=tg.bfloat16, requires_grad=True)
    w = tg.ones(3, requires_grad=True)
    out = F.layer_norm(x, (3,), w, tg.zeros(3))
    out.sum().backward()
    assert out.dtype is tg.bfloat16 and x.grad.dtype is tg.bfloat16 and w.grad.dtype is tg.float32
    np.testing.assert_allclose(w.grad.numpy(), [-1.0690, -0.2673, 1.3363], atol=1e-3)


@pytest.mark.parametrize("layer", ["MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"])
def test_pooling_keeps_channels_last_and_takes_an_empty_batch(layer):
    pool = getattr(tg.nn, layer)(2)
    x = tg.rand(2, 3, 4, 4).contiguous(memory_format=tg.channels_last)
    assert pool(x).is_contiguous(memory_format=tg.channels_last)
    empty = tg.ones(0, 3, 4, 4, requires_grad=True)
    pool(empty).sum().backward()
    assert empty.grad.shape == (0, 3, 4, 4) and pool(empty).shape == (0, 3, 2, 2)
