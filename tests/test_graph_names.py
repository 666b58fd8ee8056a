"""What the graph calls ops whose name depends on how they are called, and whether their results are views: as torch has it."""

import pytest

import tapegrad as tg

NAMES = {
    "tg.clamp_min(a, 0)": "ClampMinBackward0", "tg.clamp_min(a, b)": "ClampMinBackward1", "a.clamp(min=0)": "ClampBackward1", "a.clamp(max=b)": "ClampBackward0",
    "tg.clamp_max(a, 0)": "ClampMaxBackward0", "a.clamp_max(b)": "ClampMaxBackward1", "tg.lerp(a, b, 0.5)": "LerpBackward0", "tg.lerp(a, b, b)": "LerpBackward1",
    "tg.copysign(a, 1.0)": "CopysignBackward1", "tg.copysign(a, b)": "CopysignBackward0", "tg.round(a, decimals=1)": "RoundBackward1", "a.round()": "RoundBackward0",
    "tg.addcmul(a, b, b)": "AddcmulBackward0", "tg.addcmul(a, b, b, value=2)": "AddcmulBackward0", "tg.addcdiv(a, b, b, value=0.5)": "AddcdivBackward0",
    "tg.deg2rad(a)": "Deg2RadBackward0", "tg.rad2deg(a)": "Rad2DegBackward0", "tg.diag(a)": "DiagEmbedBackward0", "tg.diag_embed(a)": "DiagEmbedBackward0",
    "a @ m": "SqueezeBackward4", "tg.nn.functional.linear(a, m)": "SqueezeBackward4", "tg.quantile(a, 0.5)": "SqueezeBackward4", "b.__rdiv__(a)": "MulBackward0",
    "a.__rmatmul__(b)": "DotBackward0", "a.__div__(2)": "DivBackward0",
}  # fmt: skip


@pytest.mark.parametrize("call", NAMES)
def test_names(call):
    values = {"tg": tg, "a": tg.tensor([0.5, 1.5], requires_grad=True), "b": tg.tensor([2.0, 0.5]), "m": tg.tensor([[1.0, 2.0], [3.0, 4.0]])}
    for _ in range(3):
        result = eval(call, values)
        assert type(result.grad_fn).__name__ == NAMES[call] and not result._is_view()


def test_the_values_stay():
    a, b = tg.tensor([1.25, -2.5], requires_grad=True), tg.tensor([2.0, 4.0], requires_grad=True)
    assert tg.addcmul(a, b, b, value=2).tolist() == [9.25, 29.5] and tg.addcdiv(a, a, b, value=2).tolist() == [2.5, -3.75]
    assert [g.tolist() for g in tg.autograd.grad(tg.addcmul(a, b, a, value=2).sum(), (a, b))] == [[5.0, 9.0], [2.5, -5.0]]
    assert [g.tolist() for g in tg.autograd.grad(tg.addcdiv(a, a, b, value=2).sum(), (a, b))] == [[2.0, 1.5], [-0.625, 0.3125]]
    assert tg.autograd.grad(tg.round(a, decimals=1).sum(), a)[0].tolist() == [0.0, 0.0]
    assert tg.addcmul(tg.tensor([1]), tg.tensor([2]), tg.tensor([3]), value=0.5).tolist() == [1]  # a number of the product's dtype
    with pytest.raises(RuntimeError, match="without overflow"):
        tg.addcmul(a, b, b, value=1j)


@pytest.mark.parametrize(
    ("call", "name", "count"),
    [
        (lambda x: x.fmod(2), "FmodBackward0", 1),
        (lambda x: x % 2, "RemainderBackward0", 1),
        (lambda x: x**2.3, "PowBackward0", 1),
        (lambda x: 2.0**x, "PowBackward2", 1),
        (lambda x: x**2, "PowBackward0", 1),
        (lambda x: 1 - x, "RsubBackward1", 1),
        (lambda x: x.clamp_min(1.0), "ClampMinBackward0", 1),
        (lambda x: x.clamp(max=1.0), "ClampBackward1", 1),
        (lambda x: x.clamp(1.0, 2.0), "ClampBackward1", 1),
        (lambda x: x.copysign(2.0), "CopysignBackward1", 1),
        (lambda x: tg.xlogy(x, 2.0), "XlogyBackward2", 1),
        (lambda x: tg.xlogy(2.0, x), "XlogyBackward1", 1),
        (lambda x: x * 2, "MulBackward0", 2),
        (lambda x: x - 1, "SubBackward0", 2),
        (lambda x: tg.where(x > 1, x, 1.0), "WhereBackward0", 2),
        (lambda x: x.masked_fill(x > 1, 1.0), "MaskedFillBackward0", 1),
    ],
)
def test_a_number_is_a_parameter_of_nodes_that_have_a_form_for_it(call, name, count):
    """It is no operand, of which there would be an edge."""
    x = tg.tensor([1.5, 2.5], requires_grad=True)
    out, shown = call(x), []
    assert out.grad_fn.name() == name and len(out.grad_fn.next_functions) == count
    out.grad_fn.register_hook(lambda before, after: shown.append(len(before)))
    out.sum().backward()
    assert shown == [count]
