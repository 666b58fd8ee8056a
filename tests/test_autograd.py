"""Owns the behaviour of backward, grad, hooks, custom functions, versions, views and in-place operations."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg


def leaf(*values):
    return tg.tensor(values, dtype=tg.float64, requires_grad=True)


def test_gradients_accumulate_until_they_are_cleared():
    x = leaf(1.0, 2.0)
    for _ in range(2):
        (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_second_backward_needs_retain_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    assert x.grad.tolist() == [8.0]


def test_inputs_limits_accumulation():
    x, y = leaf(2.0), leaf(3.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [3.0] and y.grad is None


def test_unused_inputs():
    x, y = leaf(2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match="not have been used"):
        tg.autograd.grad((x * 2).sum(), [x, y])
    assert tg.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)[1] is None
    assert tg.autograd.grad((x * 2).sum(), [x, y], materialize_grads=True)[1].tolist() == [0.0]


def test_scalar_root_or_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    (x * 2).backward(tg.tensor([1.0, 10.0], dtype=tg.float64))
    assert x.grad.tolist() == [2.0, 20.0]


def test_create_graph_to_third_order():
    x = leaf(2.0)
    y, expected = x**4, [32.0, 48.0, 48.0]
    for value in expected:
        (y,) = tg.autograd.grad(y.sum(), x, create_graph=True)
        assert y.tolist() == [value]


def test_gradient_of_an_intermediate():
    x = leaf(2.0)
    y = x * x
    (g,) = tg.autograd.grad((y * y).sum(), y)
    assert g.tolist() == [8.0]


def test_retain_grad():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0] and y.retains_grad


def test_tensor_hooks_change_gradients_and_can_be_removed():
    x = leaf(1.0)
    seen = []
    handle = x.register_hook(lambda g: g * 10)
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.sum().backward()
    assert x.grad.tolist() == [20.0] and seen == [[1.0]]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_post_accumulate_hook():
    x = leaf(1.0)
    seen = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 2).sum().backward()
    assert seen == [[2.0]]


class Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return scale * x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * ctx.scale * x**2, None


def test_custom_function_first_and_second_derivative():
    x = leaf(2.0)
    y = Cube.apply(x, 2.0)
    assert y.tolist() == [16.0]
    (g,) = tg.autograd.grad(y.sum(), x, create_graph=True)
    assert g.tolist() == [24.0]
    assert tg.autograd.grad(g.sum(), x)[0].tolist() == [24.0]


def test_saved_value_changed_in_place_is_refused():
    x = leaf(2.0)
    y = x * 1.0
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_value_that_is_not_saved_may_change():
    x = leaf(2.0)
    y = x * 3.0
    z = y + 1
    y.mul_(2)
    (z + y).sum().backward()
    assert x.grad.tolist() == [9.0]


def test_leaf_is_not_changed_in_place():
    x = leaf(2.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 3
    assert x.tolist() == [2.0] and x._version == 0


def test_base_sees_what_happens_to_a_view():
    x = leaf(1.0, 2.0, 3.0)
    base = x * 1.0
    base[1:].mul_(10)
    (base * base).sum().backward()
    assert x.grad.tolist() == [2.0, 400.0, 600.0]


def test_view_sees_what_happens_to_its_base():
    x = leaf(1.0, 2.0, 3.0)
    base = x * 1.0
    view = base[:2]
    base.mul_(2)
    (view * view).sum().backward()
    assert x.grad.tolist() == [8.0, 16.0, 0.0]


def test_versions_are_shared_by_views():
    x = tg.zeros(4)
    view = x[1:]
    view.add_(1)
    assert x._version == view._version == 1
    assert x.detach()._version == 1


def test_no_grad_and_detach():
    x = leaf(2.0)
    with tg.no_grad():
        assert not (x * 2).requires_grad
    y = x.detach() * x
    y.sum().backward()
    assert x.grad.tolist() == [2.0]


def test_multi_output_views_refuse_in_place():
    x = leaf(1.0, 2.0)
    a, _ = (x * 1.0).unbind(0)
    with pytest.raises(RuntimeError, match="returns multiple views"):
        a.mul_(2)


def test_graph_reads_as_torch_writes_it():
    x = leaf(1.0)
    y = (x * 2).sum()
    assert y.grad_fn.name() == "SumBackward0"
    assert y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    assert x.grad_fn is None and x.is_leaf and not y.is_leaf


def test_a_strided_broadcast_operand_is_differentiated_once():
    """The compiled sweep used to hand an entry to Python after it had dealt with the first input, which then counted twice."""
    x = tg.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=tg.float64, requires_grad=True)
    (g,) = tg.autograd.grad((x[..., 0:1] * x * x).sum(), x, create_graph=True)
    (h,) = tg.autograd.grad((g * g).sum(), x)

    def gradient(a, b):  # of a * a * a + a * b * b, the row's contribution
        return 3 * a * a + b * b, 2 * a * b

    for row, (a, b) in zip(h.tolist(), ((1.0, 2.0), (3.0, 5.0)), strict=True):
        ga, gb = gradient(a, b)
        assert row == [2 * ga * 6 * a + 2 * gb * 2 * b, 2 * ga * 2 * b + 2 * gb * 2 * a]


def test_a_view_used_after_its_base_changed_is_differentiated_through_the_change():
    """Also by ops that run in Python, and for views that show elements more than once."""
    a = tg.tensor([[1.0, 2.0]], dtype=tg.float64, requires_grad=True)
    base = a * 2
    view = base.expand(3, 2)
    base.add_(base)
    (view.max(0).values.sum() + (view * view).sum()).backward()
    np.testing.assert_allclose(a.grad.numpy(), 4 + 3 * 2 * 16 * a.detach().numpy())


def test_empty_tensors_leave_nothing_behind():
    """A backward pass over no elements notes no calls that a later pass would make."""
    for _ in range(3):
        x = tg.zeros(0, 3, requires_grad=True)
        y = x * 2
        (g,) = tg.autograd.grad((y * y * y).sum(), x, create_graph=True)
        (second,) = tg.autograd.grad((g * g).sum(), x)
        assert second.shape == (0, 3)


def switched(m, steps):
    """Gradients (leaf, partner) after `steps` on a leaf c, its partner w and a list of results."""
    w, c, results = m.tensor([1.0, 2.0], requires_grad=True), m.tensor([3.0, 4.0]), []
    for step in steps:
        if step == "use":
            results.append(w.sin() * c + (w * 2).unsqueeze(0).matmul(c.unsqueeze(1)).sum())
        else:
            c.requires_grad_(step == "on")
    for y in results:
        if y.requires_grad:
            y.sum().backward()
    return None if c.grad is None else c.grad.tolist(), w.grad.tolist()


@pytest.mark.torch
@pytest.mark.parametrize("steps", [["use", "on"], ["use", "on", "use"], ["on", "use", "off"], ["on", "use", "off", "on"], ["on", "use", "off", "use", "on"],
                                   ["on", "use", "off", "use", "on", "use"], ["use", "on", "off", "use"]], ids=" ".join)  # fmt: skip
def test_requires_grad_switched_after_use_is_torchs(steps, torch):
    ours, theirs = switched(tg, steps), switched(torch, steps)
    assert (ours[0] is None) == (theirs[0] is None)
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_requires_grad_switched_on_after_use_reads_nothing_that_was_not_saved(holds_nothing):
    w = tg.ones(100_000, requires_grad=True)
    c = tg.ones(100_000)
    y = w.sin() * c  # saves c, not the sine
    c.requires_grad_()
    y.sum().backward()
    assert c.grad is None and tg.allclose(w.grad, w.cos())
    a, b = tg.ones(3, 3, requires_grad=True), tg.ones(3, 3)
    z = (a * 2).mm(b)
    b.requires_grad_()
    z.sum().backward()
    assert b.grad is None and a.grad.tolist() == [[6.0] * 3] * 3
    del y, z, w, c, a, b


OVERWRITES = {
    "copy_": lambda y, c: y.copy_(c), "copy_ of a constant": lambda y, c: y.copy_(tg.ones(3)), "zero_": lambda y, c: y.zero_(),
    "fill_": lambda y, c: y.fill_(2.0), "fill_ with a tensor": lambda y, c: y.fill_(c[0]), "uniform_": lambda y, c: y.uniform_(),
    "bernoulli_": lambda y, c: y.bernoulli_(), "all by index": lambda y, c: y.__setitem__(slice(None), c),
    "a number by index": lambda y, c: y.__setitem__(Ellipsis, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERWRITES)
def test_an_overwritten_value_gets_a_gradient_of_zeros(name):
    """The graph goes on through an operation that replaces every element, as in PyTorch."""
    a, c = tg.ones(3, requires_grad=True), tg.full((3,), 2.0, requires_grad=True)
    y = a * 1
    OVERWRITES[name](y, c)
    assert y.requires_grad and not y.is_leaf
    (y * tg.arange(3.0)).sum().backward()
    assert a.grad.tolist() == [0.0, 0.0, 0.0]
    wanted = {"copy_": [0.0, 1.0, 2.0], "all by index": [0.0, 1.0, 2.0], "fill_ with a tensor": [3.0, 0.0, 0.0]}.get(name)
    assert (c.grad if c.grad is None else c.grad.tolist()) == wanted
    (second,) = tg.autograd.grad((y.detach() * a).sum(), a)  # a new graph is not disturbed
    assert second.shape == a.shape


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
def test_views_of_views_in_place(m):
    x = m.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        x.unsqueeze_(0)
    y = x.clone()
    v = y[0]
    v.unsqueeze_(0)
    v.mul_(3)
    v.t_()
    v.add_(m.tensor([[1.0], [2.0]]))
    assert tuple(v.shape) == (2, 1) and y.tolist() == [[4.0, 5.0], [1.0, 1.0]]
    (y * y).sum().backward()
    assert x.grad.tolist() == [[24.0, 30.0], [2.0, 2.0]]


@pytest.mark.parametrize("write", [lambda t: t.zero_(), lambda t: t.fill_(7), lambda t: t.copy_(tg.zeros(2)), lambda t: t.neg_(), lambda t: t.add_(1)])
@pytest.mark.parametrize("look", [lambda t: t.contiguous(), lambda t: t.to(tg.float32), lambda t: t.requires_grad_(False), lambda t: t.squeeze(), lambda t: t.cpu()])
def test_a_call_that_returns_its_argument_does_not_repeat_what_was_done_to_it(write, look):
    for _ in range(3):
        t = tg.tensor([1.0, 2.0])
        write(t)
        look(t)
        other = tg.tensor([3.0, 4.0])
        look(other)
        assert other.tolist() == [3.0, 4.0]


def test_grad_that_begins_in_compiled_code_and_goes_on_in_python():
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = tg.tensor(2.0, requires_grad=True)
    middle = x * w
    seen = []
    hooked = middle.exp()
    hooked.register_hook(lambda g: seen.append(g) or g * 2)
    loss = hooked.sort().values.sum()
    first, second, third = tg.autograd.grad(loss, [middle, x, middle], retain_graph=True)
    assert tg.equal(first, 2 * middle.exp()) and tg.equal(third, first) and tg.equal(second, 2 * w * middle.exp())
    assert len(seen) == 1 and x.grad is None and w.grad is None
    loss.backward()  # nothing of the call before is left in the tape
    assert tg.allclose(x.grad, 2 * w * middle.exp()) and middle.retains_grad is False
    with pytest.raises(RuntimeError, match="a second time"):
        tg.autograd.grad(loss, x)


def test_grad_that_fails_midway_leaves_nothing_behind():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    z = y.exp()
    loss = (z * z).sum()
    with tg.no_grad():
        z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        tg.autograd.grad(loss, [x, y])
    other = (y * x).sum()
    assert tg.equal(tg.autograd.grad(other, x, retain_graph=True)[0], 4 * x)
    other.backward()
    assert tg.equal(x.grad, 4 * x)


def test_grad_of_a_vector_weighed_by_a_gradient():
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weights = tg.tensor([1.0, 0.0, -1.0])
    assert tg.autograd.grad(x * x, x, weights)[0].tolist() == [2.0, 0.0, -6.0]
    assert tg.autograd.grad(x * x, x, tg.ones(6)[::2])[0].tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        tg.autograd.grad(x * x, x, tg.ones(2))
    with pytest.raises(RuntimeError, match="not have been used"):
        tg.autograd.grad((x * x).sum(), [x, tg.ones(2, requires_grad=True)])
    assert weights.tolist() == [1.0, 0.0, -1.0]


def test_a_root_that_leads_to_no_input_leaves_nothing_behind():
    x, y = tg.ones(3, requires_grad=True), tg.ones(3, requires_grad=True)
    p, q = x * 2, y * 3
    total = q.sum()
    for _ in range(3):  # by compiled code, once it is warm
        assert tg.autograd.grad(total, x, retain_graph=True, allow_unused=True) == (None,)
        assert tg.autograd.grad(q, x, tg.ones(3), retain_graph=True, allow_unused=True) == (None,)
        tg.autograd.grad([p, q], [x], [tg.ones(3), tg.ones(3)], retain_graph=True)
        assert tg.autograd.grad(total, y, retain_graph=True)[0].tolist() == [3.0] * 3
        assert tg.autograd.grad(q, y, tg.ones(3), retain_graph=True)[0].tolist() == [3.0] * 3


@pytest.mark.parametrize("call, name", [(lambda x: x // 2, "floor_divide"), (lambda x: 2 // x, "floor_divide"), (lambda x: tg.heaviside(x, x), "heaviside")])
def test_derivatives_that_torch_refuses(call, name):
    """A result that requires grad, and an error when its gradient is asked for, rather than silence."""
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    y = call(x)
    assert y.requires_grad and repr(y).endswith("grad_fn=<NotImplemented>)") and y.grad_fn.name() == "tapegrad::autograd::NotImplemented"
    for create in (False, True):
        with pytest.raises(RuntimeError, match=f"derivative for aten::{name} is not implemented"):
            tg.autograd.grad(y.sum() + x.sum(), x, create_graph=create)
    assert x.grad is None
    with pytest.raises(NotImplementedError, match=f"Trying to use forward AD with aten::{name} that does not support it"):
        tg.func.jvp(call, (x.detach(),), (tg.ones(2),))
    assert not call(x.detach()).requires_grad and tg.autograd.grad((x * 3).sum(), x)[0].tolist() == [3.0, 3.0]
