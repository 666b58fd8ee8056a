"""Owns the checks of parametrized weights: reading, assigning, saving and removing, and the norms and orthogonal matrices built on them."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.nn.utils import parametrizations, parametrize

nn = tg.nn


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, value):
        return value.triu()


class Split(nn.Module):
    def forward(self, scale, direction):
        return scale * direction

    def right_inverse(self, value):
        return value.norm(), value / value.norm()


def test_a_parametrized_weight_is_computed_when_read_and_inverted_when_assigned():
    layer = nn.Linear(3, 3)
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert parametrize.is_parametrized(layer, "weight") and type(layer).__name__ == "ParametrizedLinear"
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert set(layer.state_dict()) == {"bias", "parametrizations.weight.original"}
    wanted = tg.tensor([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    layer.weight = wanted
    np.testing.assert_array_equal(layer.weight.detach().numpy(), wanted.numpy())
    layer(tg.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None
    with parametrize.cached():
        assert layer.weight is layer.weight
    again = copy.deepcopy(layer)
    np.testing.assert_array_equal(again.weight.detach().numpy(), wanted.numpy())
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and isinstance(layer.weight, nn.Parameter) and set(layer.state_dict()) == {"weight", "bias"}
    np.testing.assert_array_equal(layer.weight.detach().numpy(), wanted.numpy())


def test_one_tensor_from_several_originals():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Split())
    before = layer.weight.detach().clone()
    assert {"parametrizations.weight.original0", "parametrizations.weight.original1"} <= set(layer.state_dict())
    layer.weight = before * 2
    np.testing.assert_allclose(layer.weight.detach().numpy(), before.numpy() * 2, rtol=1e-5)
    with pytest.raises(ValueError, match="Cannot leave unparametrized"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def test_parametrizations_refuse_what_changes_shape_or_is_not_there():
    class Wider(nn.Module):
        def forward(self, x):
            return x.new_zeros(5)

    with pytest.raises(ValueError, match="may not change the shape of the tensor, unless `unsafe` flag is enabled"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Wider())
    assert parametrize.register_parametrization(nn.Linear(2, 2), "weight", Wider(), unsafe=True).weight.shape == (5,)
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized element with name 'no'"):
        parametrize.register_parametrization(nn.Linear(2, 2), "no", Wider())
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Symmetric())
    with pytest.raises(ValueError, match="unless the `unsafe` flag is enabled"):
        parametrize.register_parametrization(layer, "weight", Wider())


def test_weight_norm_in_both_forms():
    x, layer = tg.rand(2, 3), nn.Linear(3, 4)
    wanted = layer(x).detach().numpy()
    new = parametrizations.weight_norm(copy.deepcopy(layer))
    np.testing.assert_allclose(new(x).detach().numpy(), wanted, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.utils.weight_norm(copy.deepcopy(layer))
        with pytest.raises(RuntimeError, match="Cannot register two weight_norm hooks"):
            nn.utils.weight_norm(old)
    np.testing.assert_allclose(old(x).detach().numpy(), wanted, rtol=1e-5)
    assert dict(old.named_parameters())["weight_g"].shape == (4, 1)
    new.load_state_dict(old.state_dict())  # by its old names
    nn.utils.remove_weight_norm(old)
    assert set(old.state_dict()) == {"weight", "bias"}


def test_spectral_norm_in_both_forms():
    tg.manual_seed(1)
    for make in (parametrizations.spectral_norm, nn.utils.spectral_norm):
        layer = make(nn.Linear(5, 7))
        for _ in range(50):
            layer(tg.ones(1, 5)).sum().backward()
        assert abs(tg.linalg.matrix_norm(layer.weight.detach(), 2).item() - 1) < 1e-3
        again = make(nn.Linear(5, 7))
        again.load_state_dict(layer.state_dict())
        layer.eval(), again.eval()
        np.testing.assert_allclose(again(tg.ones(1, 5)).detach().numpy(), layer(tg.ones(1, 5)).detach().numpy(), rtol=1e-6)
    nn.utils.remove_spectral_norm(layer)
    assert set(layer.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("how", ["matrix_exp", "cayley", "householder"])
def test_orthogonal_weights_stay_orthogonal(shape, how):
    layer = parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=how)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(tg.rand(2, shape[0])).pow(2).sum().backward()
        optimizer.step()
    w = layer.weight.detach()
    q = w if w.shape[0] >= w.shape[1] else w.mT
    np.testing.assert_allclose((q.mT @ q).numpy(), np.eye(q.shape[1]), atol=1e-5)
