"""Owns the checks of how layers and modules refuse, and of what their hooks and state promise, found by running torch's own tests."""

from __future__ import annotations

import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest

import tapegrad as tg

nn, F = tg.nn, tg.nn.functional


def kept(*args):
    """A hook that can be pickled."""


def test_a_load_hook_does_not_keep_its_module_alive_and_is_pickled_with_it():
    module = nn.Linear(2, 2)
    module.register_load_state_dict_pre_hook(kept)
    again = pickle.loads(pickle.dumps(module))
    again.load_state_dict(module.state_dict())
    found = weakref.ref(module)
    gc.disable()
    try:
        del module
        assert found() is None
    finally:
        gc.enable()


def test_a_handle_shows_the_hooks_among_which_it_is():
    module = nn.Sigmoid()
    handles = [module.register_forward_hook(lambda *a: None) for _ in range(2)]
    assert [h.id in h.hooks_dict_ref() for h in handles] == [True, True]
    handles[0].remove()
    assert list(handles[1].hooks_dict_ref()) == [handles[1].id]


def test_batch_norm_keeps_its_count_if_an_old_state_has_none_and_an_empty_batch_moves_nothing():
    norm = nn.BatchNorm1d(3)
    norm.num_batches_tracked = tg.tensor(10)
    norm.load_state_dict({}, strict=False)
    assert norm.num_batches_tracked.item() == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norm(tg.ones(0, 3, 2)).sum().backward()
    np.testing.assert_array_equal(norm.running_mean.numpy(), [0, 0, 0])
    np.testing.assert_array_equal(norm.running_var.numpy(), [1, 1, 1])
    np.testing.assert_array_equal(norm.weight.grad.numpy(), [0, 0, 0])


def test_buffers_go_through_a_register_buffer_that_knows_no_persistent():
    class Old(nn.Module):
        def register_buffer(self, name, value):
            super().register_buffer(name, value, True)

    module = Old()
    module.a = nn.Buffer(tg.ones(2))
    assert "a" in module.state_dict()
    with pytest.raises(RuntimeError, match="without the persistent argument is not allowed"):
        module.b = nn.Buffer(tg.ones(2), persistent=False)


def test_what_has_torch_function_may_be_a_buffer():
    class Like:
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise NotImplementedError

    module, like = nn.Module(), Like()
    module.register_buffer("a", like)
    assert module.a is like


REFUSED = {
    "to": (TypeError, "received an invalid combination of arguments - got", lambda: nn.Linear(1, 1).to(tg.device("cpu"), True)),
    "copy": (RuntimeError, "does not accept copy argument", lambda: nn.Linear(1, 1).to(tg.float64, copy=True)),
    "cosine": (RuntimeError, "eps must be non-negative, got: -1", lambda: F.cosine_similarity(tg.ones(2), tg.ones(2), dim=0, eps=-1.0)),
    "whole numbers": (RuntimeError, "expected common dtype to be floating point, yet common dtype is Long",
                      lambda: F.cosine_similarity(tg.ones(2).long(), tg.ones(2).long(), dim=0)),
    "shuffle": (ValueError, "upscale factor is too large", lambda: F.pixel_shuffle(tg.ones(1, 16, 2, 2), 545460846592)),
    "reflection": (RuntimeError, "Expected 2D or 3D .batch mode. tensor with possibly 0 batch size", lambda: F.pad(tg.ones(3, 0, 4), (1, 1), "reflect")),
    "replication": (RuntimeError, "Expected 3D or 4D .batch mode.", lambda: F.pad(tg.ones(2, 2, 0, 4), (1, 1, 1, 1), "replicate")),
    "padding": (NotImplementedError, "Padding size 2 is not supported for 4D input tensor", lambda: nn.ReflectionPad1d(1)(tg.ones(1, 2, 3, 4))),
    "circular": (NotImplementedError, "Padding size 4 is not supported for 2D input tensor", lambda: F.pad(tg.ones(2, 3), (1, 1, 1, 1), "circular")),
    "too small": (RuntimeError, r"input \(W: 4\) is too small. Calculated output W: -1", lambda: F.pad(tg.ones(2, 3, 4), (-1, -4), "reflect")),
    "kl": (RuntimeError, "kl_div: Integral inputs not supported", lambda: F.kl_div(tg.ones(3), tg.ones(3).long(), reduction="sum")),
    "margin": (RuntimeError, r"Expected target size \[3\], but got \[2\]. Input has shape \[3, 4\]", lambda: F.multi_margin_loss(tg.ones(3, 4), tg.ones(2).long())),
    "classes": (RuntimeError, "target out of range", lambda: F.multi_margin_loss(tg.ones(3, 4), tg.tensor([0, 4, 0]))),
    "slopes": (RuntimeError, "Lower bound should be less than or equal to the upper bound", lambda: F.rrelu(tg.ones(2), 2, 1)),
    "channels": (ValueError, r"input's size at dim=1 to match num_features \(5\), but got: 3", lambda: nn.InstanceNorm1d(5, affine=True)(tg.ones(2, 3, 4))),
    "rms": (NotImplementedError, '"rms_norm" not implemented for \'Long\'', lambda: F.rms_norm(tg.ones(2, 3).long(), (3,))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_torch_s_words(name):
    kind, words, call = REFUSED[name]
    for _ in range(3):
        with pytest.raises(kind, match=words):
            call()


def test_probabilities_of_no_class_and_probabilities_in_half_precision():
    assert F.cross_entropy(tg.ones(5, 0), tg.ones(5, 0)).isnan() and F.cross_entropy(tg.ones(5, 0), tg.ones(5, 0), reduction="sum") == 0
    loss = F.binary_cross_entropy(tg.tensor([0.5], dtype=tg.bfloat16), tg.tensor([1.0], dtype=tg.bfloat16))
    assert abs(loss.item() - 0.6931) < 0.01


def test_whole_numbers_are_averaged_as_whole_numbers():
    assert F.avg_pool2d(tg.tensor([[[1, 2], [2, -9]]]), 2).tolist() == [[[-1]]]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 3, 2), nn.ConvTranspose2d(4, 3, 2), nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.ReflectionPad2d(1), nn.ZeroPad2d(1)], ids=str
)
def test_layers_keep_channels_last(layer):
    x = tg.rand(2, 4, 5, 6)
    last = x.contiguous(memory_format=tg.channels_last)
    out = layer.eval()(last)
    assert out.is_contiguous(memory_format=tg.channels_last) and not out.is_contiguous()
    np.testing.assert_allclose(out.detach().numpy(), layer(x).detach().numpy(), rtol=1e-5, atol=1e-6)
