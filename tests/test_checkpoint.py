"""Owns checkpointed parts whose inputs depend on one another: each path of the graph counts once."""

from __future__ import annotations

import tapegrad as tg
from tapegrad.utils.checkpoint import checkpoint


def leaves():
    return tg.tensor([2.0, 3.0], requires_grad=True), tg.tensor([5.0, 7.0], requires_grad=True)


def test_a_tensor_of_the_closure_that_the_argument_was_made_from():
    w, x = leaves()
    h = w + x
    checkpoint(lambda t: w * t, h, use_reentrant=False).sum().backward()
    assert w.grad.tolist() == [9.0, 13.0]  # h + w
    assert x.grad.tolist() == [2.0, 3.0]


def test_the_values_saved_before_the_part_are_kept_for_the_sweep_that_called():
    w, x = leaves()
    h = w * x
    checkpoint(lambda t: w * t, h, use_reentrant=False).sum().backward()
    assert w.grad.tolist() == [20.0, 42.0]  # 2 w x
    assert x.grad.tolist() == [4.0, 9.0]


def test_second_derivatives_through_both_paths():
    w, x = leaves()
    h = w * x
    out = checkpoint(lambda t: w * t * h, h, use_reentrant=False)  # w**3 x**2
    (first,) = tg.autograd.grad(out.sum(), w, create_graph=True)
    assert first.tolist() == [3 * 4 * 25.0, 3 * 9 * 49.0]
    assert tg.autograd.grad(first.sum(), w)[0].tolist() == [6 * 2 * 25.0, 6 * 3 * 49.0]


def test_inside_saved_tensor_hooks():
    w, _ = leaves()
    with tg.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        out = checkpoint(lambda t: t * t, w * w, use_reentrant=False)
    out.sum().backward()
    assert w.grad.tolist() == [32.0, 108.0]  # 4 w**3
