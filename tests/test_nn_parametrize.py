"""Owns parametrizations: weights that are functions of others, the ready-made ones, and the older hooks that do the same."""

from __future__ import annotations

import copy
import pickle

import pytest

import tapegrad as tg
from tapegrad import nn
from tapegrad.nn.utils import parametrizations, parametrize, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT


class Exp(nn.Module):
    def forward(self, x):
        return x.exp()

    def right_inverse(self, y):
        return y.log()


class Rank1(nn.Module):
    def forward(self, a, b):
        return a[:, None] * b

    def right_inverse(self, w):
        return w[:, 0] / w[0, 0], w[0]


def test_a_weight_is_a_function_of_its_original():
    m = nn.Linear(3, 3)
    before = m.weight.detach().clone()
    assert parametrize.register_parametrization(m, "weight", Symmetric()) is m and parametrize.is_parametrized(m, "weight")
    assert type(m).__name__ == "ParametrizedLinear" and parametrize.type_before_parametrizations(m) is nn.Linear
    assert tg.equal(m.weight, before.triu() + before.triu(1).mT) and list(m.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert "(weight): ParametrizationList(\n      (0): Symmetric()" in repr(m)
    m(tg.ones(1, 3)).sum().backward()
    assert m.parametrizations.weight.original.grad.tolist() == [[1, 2, 2], [0, 1, 2], [0, 0, 1]]
    with pytest.raises(RuntimeError, match="parametrization Symmetric does not implement right_inverse"):
        m.weight = before
    other = copy.deepcopy(m)
    other.load_state_dict(m.state_dict())
    assert tg.equal(other.weight, m.weight) and other.parametrizations.weight.original is not m.parametrizations.weight.original
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(m)
    assert tg.equal(parametrize.remove_parametrizations(m, "weight", leave_parametrized=False).weight, before)
    parametrize.remove_parametrizations(parametrize.register_parametrization(m, "weight", Symmetric()), "weight")
    assert type(m) is nn.Linear and tg.equal(m.weight, before.triu() + before.triu(1).mT) and [n for n, _ in m.named_parameters()] == ["bias", "weight"]


def test_chains_assignments_and_caching():
    m = nn.Linear(2, 2)
    with tg.no_grad():
        m.weight.fill_(2.0)
    parametrize.register_parametrization(m, "weight", Exp())
    parametrize.register_parametrization(m, "weight", Exp(), unsafe=True)
    assert m.weight.tolist() == tg.full((2, 2), 2.0).exp().tolist()
    m.weight = tg.full((2, 2), 5.0)
    assert tg.allclose(m.weight, tg.tensor(5.0)) and tg.allclose(m.parametrizations.weight.original, tg.tensor(5.0).log().log())
    assert m.weight is not m.weight
    with parametrize.cached():
        assert m.weight is m.weight
    r = parametrize.register_parametrization(nn.Linear(2, 3), "weight", Rank1(), unsafe=True)
    r.weight = tg.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    assert r.weight.tolist() == [[1, 2], [2, 4], [3, 6]] and r.parametrizations.weight.original0.tolist() == [1, 2, 3]
    fresh = parametrize.transfer_parametrizations_and_params(m, nn.Linear(2, 2))
    assert fresh.parametrizations.weight.original is m.parametrizations.weight.original


class Answers(nn.Module):
    def __init__(self, answer, inverse=None):
        super().__init__()
        self.answer = answer
        if inverse:
            self.right_inverse = inverse

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize("function, text", [
    (Answers(lambda x: x[:1]), "may not change the shape of the tensor"), (Answers(lambda x: x.double()), "may not change the dtype of the tensor"),
    (Answers(lambda x: 3), "A parametrization must return a tensor. Got int"), (Answers(lambda x: x, lambda y: 3), "'right_inverse' must return a Tensor or a Sequence"),
    (Answers(lambda x: x, lambda y: y.double()), "it may not change the dtype"),
])  # fmt: skip
def test_functions_that_do_not_fit(function, text):
    m = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=text):
        parametrize.register_parametrization(m, "weight", function)
    assert type(m) is nn.Linear
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized element with name 'w'"):
        parametrize.register_parametrization(m, "w", Symmetric())


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivial", [True, False])
def test_orthogonal_weights_stay_so(shape, kind, trivial):
    tg.manual_seed(0)
    m = parametrizations.orthogonal(nn.Linear(*shape).double(), orthogonal_map=kind, use_trivialization=trivial)
    target, optimizer = tg.randn(7, shape[1], dtype=tg.float64), tg.optim.SGD(m.parameters(), 0.1)
    x = tg.randn(7, shape[0], dtype=tg.float64)
    losses = []
    for _ in range(8):
        loss = (m(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        W = m.weight if shape[0] <= shape[1] else m.weight.mT
        assert tg.allclose(W.mT @ W, tg.eye(min(shape), dtype=tg.float64))
    assert losses[-1] < losses[0]
    if trivial or kind == "householder":
        Q = tg.linalg.qr(tg.randn(max(shape), min(shape), dtype=tg.float64))[0]
        m.weight = Q if shape[1] >= shape[0] else Q.mT
        assert tg.allclose(m.weight, Q if shape[1] >= shape[0] else Q.mT)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_lengths_times_directions(dim):
    m = nn.Conv2d(2, 3, 2).double()
    x, before = tg.randn(1, 2, 4, 4, dtype=tg.float64), m.weight.detach().clone()
    old, new = weight_norm(copy.deepcopy(m), dim=dim), parametrizations.weight_norm(copy.deepcopy(m), dim=dim)
    assert tg.allclose(new.weight, before) and tg.allclose(old(x), m(x)) and tg.allclose(new(x), m(x))
    lengths = new.parametrizations.weight.original0
    expected = before.norm() if dim is None else before.norm(dim=[k for k in range(4) if k != dim], keepdim=True)
    assert tg.allclose(lengths, expected) and tg.equal(old.weight_g, lengths)
    for n in (old, new):
        n(x).square().sum().backward()
    assert tg.allclose(old.weight_g.grad, lengths.grad) and tg.allclose(old.weight_v.grad, new.parametrizations.weight.original1.grad)
    with tg.no_grad():
        old.weight_g.mul_(2)
    new.load_state_dict(old.state_dict())
    assert tg.allclose(new.weight, 2 * before)
    assert tg.allclose(remove_weight_norm(old).weight, 2 * before) and [n for n, _ in old.named_parameters()] == ["bias", "weight"]
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found"):
        remove_weight_norm(old)


def test_vectors_have_one_dim():
    with pytest.raises(IndexError, match="Dimension out of range"):
        parametrizations.weight_norm(nn.BatchNorm1d(3), dim=1)
    m = parametrizations.weight_norm(nn.BatchNorm1d(3))
    assert m.parametrizations.weight.original0.tolist() == [1.0, 1.0, 1.0]
    assert spectral_norm(nn.BatchNorm1d(4))(tg.eye(4)).shape == (4, 4)  # a matrix of one column


def test_largest_singular_values():
    tg.manual_seed(0)
    m = nn.Linear(4, 3).double()
    s = tg.linalg.matrix_norm(m.weight, 2).item()
    old, new = spectral_norm(copy.deepcopy(m), n_power_iterations=40), parametrizations.spectral_norm(copy.deepcopy(m), n_power_iterations=40)
    x = tg.eye(4, dtype=tg.float64)
    for n in (old, new):
        a = n(x) - n.bias
        assert tg.allclose(a, m.weight.mT / s)
        loss = n(x).sum() - n(2 * x).sum()  # the second call changes the vectors before the backward pass of the first
        loss.backward()
    assert tg.allclose(old.weight_orig.grad, new.parametrizations.weight.original.grad)
    u = new.parametrizations.weight[0]._u.clone()
    new.eval()(x)
    assert tg.equal(new.parametrizations.weight[0]._u, u)
    assert list(old.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    with pytest.raises(RuntimeError, match="Cannot register two spectral_norm hooks"):
        spectral_norm(old)
    assert tg.allclose(remove_spectral_norm(old).weight, m.weight / s) and list(old.state_dict()) == ["bias", "weight"]
    for make in (spectral_norm, parametrizations.spectral_norm):
        with pytest.raises(ValueError, match="Expected n_power_iterations to be positive"):
            make(nn.Linear(2, 2), n_power_iterations=0)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["parametrizations.spectral_norm", "parametrizations.weight_norm", "parametrizations.orthogonal", "weight_norm", "spectral_norm"])
def test_training_as_torch(name, torch):
    runs = []
    for m in (tg, torch):
        m.manual_seed(0)
        utils = m.nn.utils
        make = getattr(utils.parametrizations, name[17:]) if "." in name else getattr(utils, name)
        net = m.nn.Sequential(make(m.nn.Linear(3, 4)), m.nn.Tanh(), make(m.nn.Linear(4, 2)))
        optimizer, x = m.optim.SGD(net.parameters(), 0.1), m.randn(5, 3)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = net(x).square().sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        runs.append((losses, list(net.state_dict())))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-4) and runs[0][1] == runs[1][1]
