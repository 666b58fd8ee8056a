"""Owns modules whose parameters wait for their first input: shapes, values, states, copies, and what is refused until then."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

import tapegrad as tg
from tapegrad import nn
from tapegrad.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")

LAYERS = {  # lazy class: (its arguments, what the plain class takes before them, shape of the input)
    "LazyLinear": ((4,), (6,), (5, 6)), "LazyConv1d": ((4, 2), (6,), (2, 6, 5)), "LazyConv2d": ((4, 3), (6,), (6, 5, 5)), "LazyConv3d": ((4, 2), (6,), (2, 6, 3, 3, 3)),
    "LazyConvTranspose1d": ((4, 2), (6,), (2, 6, 5)), "LazyConvTranspose2d": ((4, 2, 2), (6,), (2, 6, 5, 5)),
    "LazyConvTranspose3d": ((4, 2), (6,), (2, 6, 3, 3, 3)), "LazyBatchNorm1d": ((), (6,), (3, 6)), "LazyBatchNorm2d": ((), (6,), (3, 6, 2, 2)),
    "LazyBatchNorm3d": ((), (6,), (3, 6, 2, 2, 2)), "LazyInstanceNorm1d": ((1e-5, 0.1), (6, 1e-5, 0.1, True, True), (3, 6, 2)),
    "LazyInstanceNorm2d": ((1e-5, 0.1), (6, 1e-5, 0.1, True, True), (3, 6, 2, 2)), "LazyInstanceNorm3d": ((1e-5, 0.1), (6, 1e-5, 0.1, True, True), (3, 6, 2, 2, 2)),
}  # fmt: skip


def pair(name):
    arguments, first, shape = LAYERS[name]
    plain = getattr(nn, name.removeprefix("Lazy"))
    made = plain(*first, *arguments) if "Instance" not in name else plain(*first)
    return getattr(nn, name)(*arguments), made, tg.arange(1.0, 1 + tg.Size(shape).numel()).reshape(shape)


@pytest.mark.parametrize("through", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["itself", "copied", "pickled"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_first_input_makes_it_the_plain_layer(name, through):
    lazy, plain, x = pair(name)
    lazy = through(lazy)
    assert lazy.has_uninitialized_params()
    assert any(is_lazy(p) for p in lazy.parameters())
    parameters = list(lazy.parameters())
    lazy(x)
    assert type(lazy) is type(plain)
    assert repr(lazy) == repr(plain)
    assert [p is q for p, q in zip(parameters, lazy.parameters(), strict=True)] == [True] * len(parameters)
    assert all(type(p) is nn.Parameter for p in parameters)
    lazy.load_state_dict(plain.state_dict())
    assert tg.equal(lazy.eval()(x), plain.eval()(x))
    lazy(x).sum().backward()
    plain(x).sum().backward()
    assert all(tg.equal(p.grad, q.grad) for p, q in zip(lazy.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_states_go_from_plain_to_lazy_and_not_back(name):
    lazy, plain, x = pair(name)
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized parameter or buffer"):
        plain.load_state_dict(lazy.state_dict())
    lazy.load_state_dict(getattr(nn, name)(*LAYERS[name][0]).state_dict())
    assert lazy.has_uninitialized_params()
    lazy.load_state_dict(plain.state_dict())
    assert not lazy.has_uninitialized_params()
    assert tg.equal(lazy(x), plain(x))
    assert repr(lazy) == repr(plain)


def test_values_are_drawn_as_the_plain_layer_draws_them():
    tg.manual_seed(3)
    plain = nn.Linear(6, 4)
    lazy = nn.LazyLinear(4)
    tg.manual_seed(3)
    lazy(tg.ones(2, 6))
    assert tg.equal(lazy.weight, plain.weight)
    assert tg.equal(lazy.bias, plain.bias)


def test_what_is_not_initialised_knows_its_dtype_only():
    for p in (UninitializedParameter(dtype=tg.float64), UninitializedBuffer(dtype=tg.float64)):
        assert (p.dtype, p.is_floating_point(), repr(p)) == (tg.float64, True, f"<{type(p).__name__}>")
        assert p.cpu() is p
        for use in (lambda: p + 1, lambda: tg.empty_like(p), lambda: p.sum(), lambda: p.detach(), lambda: nn.functional.linear(tg.ones(2, 2), p)):
            with pytest.raises(ValueError, match="Attempted to use an uninitialized parameter in"):
                use()
        with pytest.raises(RuntimeError, match="Can't share memory on an uninitialized parameter or buffer"):
            p.share_memory_()
        p.materialize((2, 3))
        assert (tuple(p.shape), p.dtype, is_lazy(p)) == ((2, 3), tg.float64, False)
    layer = nn.LazyLinear(2).half()
    layer.weight.materialize((2, 3))
    assert layer.weight.dtype is tg.float16


def test_optimizers_keep_parameters_that_come_to_be():
    layer = nn.LazyLinear(2, bias=False)
    optimizer = tg.optim.SGD(layer.parameters(), lr=1.0)
    layer(tg.ones(1, 3)).sum().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert tg.equal(layer.weight, before - 1)


def test_own_modules():
    class Scale(nn.modules.lazy.LazyModuleMixin, nn.Module):
        def __init__(self, known):
            super().__init__()
            self.known, self.weight = known, UninitializedParameter()

        def initialize_parameters(self, input):
            if self.known:
                self.weight.materialize(input.shape[-1:])
                nn.init.ones_(self.weight)

        def forward(self, input):
            return input * self.weight

    with pytest.warns(UserWarning, match="Lazy modules are a new feature under heavy development"):
        module = Scale(True)
    calls = []
    module.register_forward_pre_hook(lambda m, args: calls.append(m.has_uninitialized_params()))
    assert module(tg.ones(2)).tolist() == module(tg.ones(2)).tolist() == [1.0, 1.0]
    assert calls == [False, False]
    with pytest.raises(RuntimeError, match="module Scale has not been fully initialized"):
        Scale(False)(tg.ones(2))
    with pytest.raises(NotImplementedError, match="initialize_parameters is not implemented for Base"):
        type("Base", (nn.modules.lazy.LazyModuleMixin, nn.Module), {})()(tg.ones(2))


def test_errors_of_layers():
    with pytest.raises(RuntimeError, match=r"Expected 3D \(unbatched\) or 4D \(batched\) input to LazyConv2d, but got input of size"):
        nn.LazyConv2d(2, 1)(tg.ones(2, 2))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        nn.LazyConv1d(2, 1, groups=2)(tg.ones(1, 3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for norm in (nn.utils.weight_norm, nn.utils.spectral_norm):
            with pytest.raises(ValueError, match="can't have uninitialized parameters. Make sure to run the dummy forward"):
                norm(nn.LazyLinear(2))
