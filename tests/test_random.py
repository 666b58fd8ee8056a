"""Random tensors: streams of every dtype and memory layout bit for bit as torch's, seeds and generators, records, errors."""

import copy
import pickle
import random

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.nn import functional as F


def bits(t):
    """The elements as bytes, in logical order."""
    t = t.detach()
    if hasattr(t, "_slot"):
        return np.ascontiguousarray(t._array()).tobytes()
    torch = pytest.importorskip("torch")
    return (t.contiguous().view(torch.int16) if t.dtype is torch.bfloat16 else t.contiguous()).numpy().tobytes()


# What torch 2.13 gives after manual_seed(0)
@pytest.mark.parametrize(
    "draw, expected",
    [
        (lambda: tg.zeros(4, dtype=tg.int64).random_(3, None), [900450186894289461, 3969543146641149126, 1895649597198586625, 827948490035658093]),
        (lambda: tg.zeros(4, dtype=tg.int8).random_(to=5), [4, 4, 3, 0]),
        (lambda: tg.zeros(2, 2).t().exponential_(), [[3.508326292037964, 0.615044116973877], [1.2303847074508667, 2.535118579864502]]),
        (lambda: tg.poisson(tg.tensor([0.0, 0.5, 5.0, 50.0])), [0.0, 2.0, 6.0, 49.0]),
        (lambda: tg.randint(300, (4,), dtype=tg.bfloat16), [148.0, 53.0, 69.0, 258.0]),
        (lambda: F.dropout(tg.ones((), dtype=tg.bfloat16), 0.4), 0.0),
    ],
)
@pytest.mark.filterwarnings("ignore:to - 1 is out of bounds")
def test_stored_values(draw, expected):
    tg.manual_seed(0)
    assert draw().tolist() == expected


TARGETS = ["zeros({s})", "zeros({s}).transpose(0, -1)", "zeros((*{s}, 2))[..., 0]", "zeros({s})[::2]"]
CALLS = [
    "rand({s})", "randn({s})", "randint(-7, 2**35, {s})", "randint(9, {s}, dtype=m.int8)", "randint(100, {s}, dtype=m.bfloat16)", "randperm(17)",
    "bernoulli(m.full({s}, 0.3))", "bernoulli(m.ones({s}), 0.6)", "poisson(m.full({s}, 2.5))", "poisson(m.full({s}, 40.0))",
    "normal(0.5, 2.0, {s})", "normal(m.ones({s}), 0.3)", "normal(m.ones({s}, dtype=m.bfloat16), m.full({s}, 1.5))",
    "normal(1.5, m.full({s}, 0.7, dtype=m.float16))", "rand_like(m.{t})", "randn_like(m.{t})", "randint_like(m.{t}, 3, 50)", "{t}.uniform_(-2, 3)",
    "{t}.normal_(1, 2)", "{t}.exponential_(3)", "{t}.cauchy_(1, 2)", "{t}.log_normal_(0, 0.5)", "{t}.geometric_(0.3)", "{t}.bernoulli_(0.3)",
    "{t}.bernoulli_(m.tensor(0.4))", "{t}.random_()", "{t}.random_(50)", "{t}.random_(3, None)", "{t}.to(m.bfloat16).uniform_(1, 2)",
    "{t}.to(m.float16).normal_()", "{t}.to(m.complex64).normal_()", "randn({s}, dtype=m.complex128)", "{t}.double().exponential_()",
    "nn.functional.dropout(m.{t} + 1, 0.4)", "nn.functional.rrelu(m.{t} - 1, training=True)", "nn.functional.rrelu(m.{t}.bfloat16() - 1, training=True)",
    "multinomial(m.tensor([[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]]), 4, True)", "get_rng_state()",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_interleaved_calls_match(seed):
    torch = pytest.importorskip("torch")
    choose = random.Random(seed)
    tg.manual_seed(seed)
    torch.manual_seed(seed)
    for _ in range(60):
        shape = tuple(choose.choice([2, 3, 5, 15, 16, 17]) for _ in range(choose.choice([1, 2, 2, 3])))
        call = choose.choice(CALLS).replace("{t}", choose.choice(TARGETS)).replace("{s}", str(shape))
        ours, theirs = (eval("m." + call, {"m": m}) for m in (tg, torch))
        assert bits(ours) == bits(theirs) and ours.stride() == theirs.stride(), call


def test_draws_are_recorded_with_zero_gradients():
    r = tg.full((3,), 0.5, requires_grad=True)
    for result, name in (
        (tg.normal(r, 1.0), "NormalBackward1"), (tg.normal(1.0, r), "NormalBackward2"), (tg.normal(r, r), "NormalBackward3"),
        (tg.bernoulli(r), "BernoulliBackward0"), (tg.poisson(r), "PoissonBackward0"),
    ):  # fmt: skip
        assert result.grad_fn.name() == name
        (g,) = tg.autograd.grad(result.sum(), r)
        assert g.tolist() == [0, 0, 0]
    assert (r * 1).random_().grad_fn.name() == "RandomBackward2" and (r * 1).bernoulli_(r.detach()).grad_fn.name() == "BernoulliBackward1"


def test_generators():
    g = tg.Generator().manual_seed(3)
    tg.randn(3, generator=g)
    for other in (g.clone_state(), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert other is not g and tg.rand(9, generator=other).equal(tg.rand(9, generator=tg.Generator().set_state(g.get_state())))
    assert repr(g).startswith("<tapegrad._C.Generator object at") and tg.manual_seed(1.5).initial_seed() == 1
    tg.manual_seed(0)
    with tg.random.fork_rng():
        tg.rand(5)
        tg.manual_seed(9)
    assert tg.rand(1).item() == pytest.approx(0.4963, abs=1e-4)
    with tg.random.fork_rng(enabled=False):
        tg.manual_seed(9)
    assert tg.initial_seed() == 9


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: tg.poisson(tg.tensor([-1.0])), RuntimeError, "invalid Poisson rate, expected rate to be non-negative"),
        (lambda: tg.poisson(tg.tensor([1])), NotImplementedError, "\"poisson_cpu\" not implemented for 'Long'"),
        (lambda: tg.poisson(3), TypeError, "poisson(): argument 'input' (position 1) must be Tensor, not int"),
        (lambda: tg.normal(tg.ones(2), -1.0), RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (lambda: tg.normal(tg.ones(2), -tg.ones(2)), RuntimeError, "normal expects all elements of std >= 0.0"),
        (lambda: tg.zeros(2, dtype=tg.complex64).normal_(0, -1), RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (lambda: tg.normal(tg.ones(2, dtype=tg.complex64, requires_grad=True), 1.0), RuntimeError, "normal does not support automatic differentiation"),
        (lambda: tg.ones(2).uniform_(from_=1), TypeError, "uniform_() got an unexpected keyword argument 'from_'"),
        (lambda: tg.ones(2).random_(2.5), TypeError, "random_() received an invalid combination of arguments"),
        (lambda: tg.randint(5), TypeError, "randint() received an invalid combination of arguments - got (int)"),
        (lambda: tg.normal(0.0, 1.0, 3), TypeError, "normal() received an invalid combination of arguments - got (float, float, int)"),
        (lambda: tg.ones(2).bernoulli_(tg.ones(3)), RuntimeError, "The expanded size of the tensor (2) must match the existing size (3)"),
        (lambda: tg.multinomial(tg.ones(3), 2, out=tg.zeros(2, dtype=tg.int32)), RuntimeError, "multinomial expects Long tensor out, got: Int"),
        (lambda: tg.set_rng_state(tg.zeros(3)), TypeError, "RNG state must be a tapegrad.ByteTensor"),
        (lambda: F.rrelu(tg.ones(2, dtype=tg.float16), training=True), NotImplementedError, "\"rrelu_with_noise_out_cpu\" not implemented for 'Half'"),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value).startswith(text)
