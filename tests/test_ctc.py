"""The CTC loss: by summing over all paths, its gradient by differences, and PyTorch's answers."""

import importlib
import itertools

import numpy as np
import pytest

import tapegrad as tg
import tapegrad.nn.functional as F

TARGETS, FLAT = [[1, 2, 2], [3, 1, 0], [4, 0, 0]], [1, 2, 2, 3, 1, 4]
CALLS = [f"ctc(x, {targets}, il, tl, reduction='{reduction}')" for targets in ("targets", "flat") for reduction in ("none", "mean", "sum")] + [
    "ctc(x, targets, [7, 6, 5], (3, 2, 1))", "ctc(x, targets, t([2, 6, 5]), tl, reduction='none')", "ctc(x, targets, t([2, 6, 5]), tl, reduction='none', zero_infinity=True)",
    "ctc(x, targets, il, t([3, 0, 1]), reduction='none')", "ctc(x, targets, t([0, 6, 5]), t([0, 2, 1]), reduction='none')", "ctc(x[:, 0], targets[0], il[0], tl[0])",
    "ctc(x[:, 0], targets[0], il[0], tl[0], reduction='none')", "ctc(x, targets.int(), il, tl)", "ctc(x, t([[1, 2, 2], [3, 1, 0], [0, 0, 0]]), il, tl, blank=4)",
]  # fmt: skip
REFUSED = (
    "ctc(x, targets, t([8, 6, 5]), tl)", "ctc(x, targets, t([7, 6]), tl)", "ctc(x, targets, il, t([4, 2, 1]))", "ctc(x, targets, il, tl, blank=5)", "ctc(x.half(), targets, il, tl)",
    "ctc(x, targets, il.double(), tl)", "ctc(x, targets, il, t([-1, 2, 1]))", "ctc(x, targets, il, tl, reduction='odd')", "ctc(x[:0], targets, il, tl)", "ctc(x[0, 0], targets, il, tl)",
    "ctc(x, t([1, 2]), il, tl)", "ctc(x, targets[None], il, tl)", "ctc(x.long(), targets, il, tl)", "grad(grad(ctc(x, targets, il, tl), x, create_graph=True)[0].sum(), x)",
)  # fmt: skip


def outcome(module: str, call: str):
    library = importlib.import_module(module)
    t = library.tensor
    x = t(np.random.default_rng(0).standard_normal((7, 3, 5))).log_softmax(-1).detach().requires_grad_()
    names = {"t": t, "x": x, "targets": t(TARGETS), "flat": t(FLAT), "il": t([7, 6, 5]), "tl": t([3, 2, 1]), "grad": library.autograd.grad}
    names["ctc"] = importlib.import_module(module + ".nn.functional").ctc_loss
    try:
        loss = eval(call, names)
        (g,) = library.autograd.grad((loss * library.arange(1.0, loss.numel() + 1).reshape(loss.shape)).sum(), x)
        return loss.detach().numpy(), g.numpy(), type(loss.grad_fn).__name__
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def test_all_paths():
    x = tg.randn(4, 1, 3, dtype=tg.float64).log_softmax(-1)
    for labels in ([1], [1, 2], [2, 2], [1, 2, 1], []):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            if [k for k, _ in itertools.groupby(path) if k] == labels:
                total += np.exp(sum(float(x[t, 0, k]) for t, k in enumerate(path)))
        found = F.ctc_loss(x, tg.tensor([labels], dtype=tg.int64).reshape(1, -1), [4], [len(labels)], reduction="sum")
        assert np.allclose(float(found), -np.log(total)), labels


def test_the_gradient():
    logits = tg.randn(6, 2, 4, dtype=tg.float64, requires_grad=True)
    loss = tg.nn.CTCLoss(reduction="sum")
    assert tg.autograd.gradcheck(lambda z: loss(z.log_softmax(-1), tg.tensor([[1, 2], [3, 3]]), [6, 5], [2, 2]), (logits,))


def test_batches_of_vmap():
    x = tg.randn(5, 6, 2, 4, dtype=tg.float64).log_softmax(-1)
    f = lambda x: F.ctc_loss(x, tg.tensor([[1, 2], [3, 3]]), [6, 5], [2, 2])  # noqa: E731
    assert tg.allclose(tg.vmap(f)(x), tg.stack([f(part) for part in x]))


def test_refusals():
    for call in REFUSED:
        assert "Error: " in outcome("tapegrad", call), call
    assert "Expected targets to have values from 0 to 4" in outcome("tapegrad", "ctc(x, targets + 9, il, tl)")
    assert outcome("tapegrad", "ctc(x, [1], il, tl)").startswith("TypeError")


@pytest.mark.torch
@pytest.mark.parametrize("call", [*CALLS, *REFUSED])
def test_as_torch(call):
    pytest.importorskip("torch")
    found, expected = outcome("tapegrad", call), outcome("torch", call)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert np.allclose(found[0], expected[0]) and np.allclose(found[1], expected[1], equal_nan=True) and found[2] == expected[2]
