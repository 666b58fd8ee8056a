"""Owns checkpointing: gradients (each path of the graph counts once), when the function runs again, and what differs between the runs."""

from __future__ import annotations

import contextlib

import pytest

import tapegrad as tg
from tapegrad.utils.checkpoint import CheckpointError, checkpoint, set_checkpoint_debug_enabled, set_checkpoint_early_stop


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


# --- hooks, passes, early stop ------------------------------------------------------------------------------------------
def test_a_hook_of_a_leaf_used_inside_and_outside_runs_once():
    w, x = leaves()
    calls = []
    w.register_hook(lambda g: calls.append(g.tolist()))
    checkpoint(lambda t: w * t, w * x, use_reentrant=False).sum().backward()
    assert calls == [[20.0, 42.0]]


def counted(stop=True, **options):
    """How often the last operation of a checkpointed function has run by the end of the backward pass."""
    calls = []

    def f(x):
        y = x.sin().cos()
        calls.append(1)
        return y.clone()  # saves nothing

    w, _ = leaves()
    with set_checkpoint_early_stop(stop):
        out = checkpoint(f, w, use_reentrant=False, **options)
    out.sum().backward()
    return len(calls)


def test_the_second_run_ends_when_all_that_was_saved_is_there():
    assert counted() == 1
    assert counted(stop=False) == 2
    assert counted(stop=None, early_stop=False) == 2


@pytest.mark.parametrize("early", [True, False])
def test_nested_checkpoints_with_derivatives_inside(early):
    def f(x):
        return x.sin().exp().sin()

    def inner(x):
        return checkpoint(f, x, use_reentrant=False)

    def slope(g):
        def run(x):
            return tg.autograd.grad(g(x), x, create_graph=True)[0]

        return run

    def again(g):
        return lambda x: checkpoint(g, x, use_reentrant=False)

    x = tg.tensor(0.3, dtype=tg.float64, requires_grad=True)
    with set_checkpoint_early_stop(early):
        for ours in (slope(slope(inner)), slope(again(slope(inner))), again(slope(slope(inner)))):
            assert ours(x).item() == pytest.approx(slope(slope(f))(x).item(), rel=1e-12)


def test_each_pass_computes_again_and_each_value_is_handed_out_once():
    runs = []

    def f(x):
        runs.append(1)
        return x.exp()

    w, _ = leaves()
    out = checkpoint(f, w, use_reentrant=False)
    assert out.grad_fn._saved_result.tolist() == out.tolist()
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert len(runs) == 4
    with pytest.raises(RuntimeError, match="already been freed"):
        _ = out.grad_fn._saved_result

    class Twice(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            _ = ctx.saved_tensors
            return ctx.saved_tensors[0] * g

    with pytest.raises(CheckpointError, match="already unpacked once"):
        checkpoint(lambda t: Twice.apply(t.sin()), w, use_reentrant=False).sum().backward()


# --- a second run that differs ------------------------------------------------------------------------------------------
def mismatch(first, second, **options):
    w, _ = leaves()
    parts = iter([first, second])
    out = checkpoint(lambda t: next(parts)(t), w, use_reentrant=False, **options)
    out.sum().backward()


def test_a_second_run_that_saves_other_tensors_is_an_error():
    with pytest.raises(CheckpointError, match="A different number of tensors was saved during the original forward and recomputation"):
        mismatch(lambda t: t.sin().exp(), lambda t: t.sin())
    with pytest.raises(CheckpointError, match="trying to save more tensors during recomputation"):
        mismatch(lambda t: t.sin(), lambda t: t.sin().exp(), early_stop=False)
    with pytest.raises(CheckpointError, match="have different metadata than during the forward pass"):
        mismatch(lambda t: t.sin(), lambda t: t[:1].sin())
    mismatch(lambda t: t[:1].sin(), lambda t: (t[:1] * 1).sin(), determinism_check="none")
    with pytest.raises(ValueError, match="determinism_check should be one of"):
        mismatch(tg.sin, tg.sin, determinism_check="strict")


def test_debug_shows_the_operations_of_both_runs():
    with pytest.raises(CheckpointError, match="(?s)SinBackward0   \\(1 of 2 in original\\).*ExpBackward0.*2. Stack traces"):
        mismatch(lambda t: t.sin().exp(), lambda t: t.sin(), debug=True)
    with set_checkpoint_debug_enabled(True), pytest.raises(ValueError, match="debug=True is incompatible"):
        mismatch(tg.sin, tg.sin, context_fn=lambda: (contextlib.nullcontext(), contextlib.nullcontext()))


def test_contexts_of_both_runs():
    log = []

    @contextlib.contextmanager
    def noted(name):
        log.append(name)
        yield

    w, _ = leaves()
    out = checkpoint(lambda t: t.exp(), w, use_reentrant=False, context_fn=lambda: (noted("first"), noted("second")))
    assert log == ["first"]
    out.sum().backward()
    assert log == ["first", "second"]


# --- with reentrance ----------------------------------------------------------------------------------------------------
def test_the_reentrant_kind_works_with_backward_only():
    w, _ = leaves()
    with pytest.raises(RuntimeError, match="incompatible with .grad\\(\\) or passing an `inputs` parameter"):
        tg.autograd.grad(checkpoint(tg.exp, w, use_reentrant=True).sum(), w)
    checkpoint(tg.exp, w, use_reentrant=True).sum().backward()
    assert w.grad.tolist() == w.detach().exp().tolist()

    def unrecorded(t):
        with tg.no_grad():
            return t * 2

    with pytest.raises(RuntimeError, match="none of output has requires_grad=True"):
        checkpoint(unrecorded, w, use_reentrant=True).sum().backward()
