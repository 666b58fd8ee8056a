"""Owns the special functions: each row's derivatives against finite differences, its values and derivatives against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad.ops import special

ROWS = [op for op in special.ROWS.values() if op.kinds == "F" and op.name not in ("nextafter",)]
name_of = lambda op: op.name
PARAMETERS = {"polygamma": [0, 1, 3], "mvlgamma": [1, 3]}


def public(m, op):
    """The function of `m` that the row describes, for one parameter each."""
    if op.name == "airy_ai_prime":
        return [lambda x: special.call(op, x)] if m is tg else []
    place, name = (m.special, op.names[0][8:]) if op.names and op.names[0].startswith("special.") else (m, op.name)
    function = getattr(place, name)
    if op.name == "polygamma":
        return [lambda x, n=n: function(n, x) for n in PARAMETERS["polygamma"]]
    return [lambda x, p=p: function(x, p) for p in PARAMETERS[op.name]] if op.parameter else [function]


def points(op, rng, shapes):
    domain = op.domain if len(op.domain) == len(op.inputs) else op.domain * len(op.inputs)
    return [rng.uniform(*d, s) for d, s in zip(domain, shapes)]


@pytest.mark.parametrize("op", ROWS, ids=name_of)
def test_derivatives_against_differences(op, rng):
    for function in public(tg, op):
        for shapes in ([(2, 3), (3,)], [(), ()]):
            arrays = points(op, rng, shapes[: len(op.inputs)])
            fixed = [tg.tensor(a) for a, text in zip(arrays, op.grads) if text is None]  # the first ones
            support.check_against_differences(lambda m, *xs: function(*fixed, *xs), arrays[len(fixed) :], rng)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("op", ROWS, ids=name_of)
def test_values_as_torch(op, dtype, rng, torch):
    for function, other in zip(public(tg, op), public(torch, op)):
        arrays = [a.round().clip(1 + op.inputs.index(n)).astype(dtype) if dtype == "int64" else a.astype(dtype)
                  for n, a in zip(op.inputs, points(op, rng, [(3, 4)] * 2))]  # fmt: skip
        if not op.promotes and dtype == "int64":
            continue
        if op.name == "mvlgamma" and dtype == "int64":
            arrays = [a + 3 for a in arrays]
        found, expected = function(*[tg.tensor(a) for a in arrays]), other(*[torch.tensor(a) for a in arrays])
        assert str(found.dtype).rpartition(".")[2] == str(expected.dtype).rpartition(".")[2]
        # torch's own Bessel functions are good to 1e-7
        rough = "bessel" in op.name or op.name == "airy_ai" or dtype != "float64"
        support.close(support.value(found), support.value(expected), 1e-5 if rough else 1e-8 if op.name == "polygamma" else 1e-10, op.name)


@pytest.mark.torch
def test_poles_and_ends_as_torch(torch):
    special_values = [0.0, -0.0, -1.0, -1.5, float("inf"), -float("inf"), float("nan"), 1.0, -2.0]
    for name in ("digamma", "lgamma", "erfinv", "i0", "special.i1", "special.ndtr", "special.ndtri", "special.entr", "special.log_ndtr"):
        find = lambda m: getattr(m.special, name[8:]) if name.startswith("special.") else getattr(m, name)
        x, y = tg.tensor(special_values, dtype=tg.float64), torch.tensor(special_values, dtype=torch.float64)
        np.testing.assert_allclose(find(tg)(x).numpy(), find(torch)(y).numpy(), rtol=1e-12, err_msg=name)


def test_forms():
    x = tg.tensor([0.5, 1.5])
    assert x.lgamma().tolist() == tg.lgamma(x).tolist() == tg.special.gammaln(x).tolist() == x.clone().lgamma_().tolist()
    assert x.polygamma(1).tolist() == tg.polygamma(1, x).tolist()
    sink = tg.zeros(2)
    assert tg.digamma(x, out=sink) is sink and sink.tolist() == x.digamma().tolist()
    assert tg.gcd(tg.tensor([12, 18]), tg.tensor([8, 12])).tolist() == [4, 6]
    assert tg.special.expit(x).tolist() == x.sigmoid().tolist() and tg.special.erf(x).tolist() == x.erf().tolist()
    for name in tg.special.__all__:
        assert callable(getattr(tg.special, name)), name


def test_errors():
    x = tg.tensor([0.5, 1.5], requires_grad=True)
    with pytest.raises(RuntimeError, match="does not support negative n"):
        tg.polygamma(-1, x)
    with pytest.raises(RuntimeError, match="p has to be greater than or equal to 1"):
        x.mvlgamma(0)
    with pytest.raises(NotImplementedError, match="derivative for 'igamma: input' is not implemented"):
        tg.igamma(x, x.detach()).sum().backward()
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        tg.gcd(tg.tensor([1]), 2)
    with pytest.raises(NotImplementedError, match="not implemented for 'Float'"):
        tg.gcd(x.detach(), x.detach())
