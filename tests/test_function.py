"""Owns custom Functions: what `forward` may do and return, what `backward` may return, and the errors of misuse, as in PyTorch."""
# ruff: noqa: E501 (a table: one case per line)

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest
import support

import tapegrad as tg


def make(m, forward, backward=lambda ctx, *g: g[0], **more):
    return type("My", (m.autograd.Function,), dict(forward=staticmethod(forward), backward=staticmethod(backward), **more))


def leaf(m):
    return m.tensor([1.0, 2.0], requires_grad=True)


def gradient(m, function, *rest, start=lambda x: x):
    """x.grad after a backward pass through function.apply(start(x), *rest)."""
    x = leaf(m)
    y = function.apply(start(x), *rest)
    (y[0] if isinstance(y, tuple) else y).sum().backward()
    return None if x.grad is None else x.grad.tolist()


def twice(x):
    return x * 1


def marked(mark):
    """A forward that calls `mark(ctx, a)` and returns what that returns."""
    return lambda ctx, a: mark(ctx, a)


def changed_in_place(m):
    y = leaf(m) * 1
    z = make(m, lambda ctx, a: (ctx.mark_dirty(a), a.add_(1))[1]).apply(y)
    return z is y, z.grad_fn.name(), y._version, z.grad_fn.next_functions[0][0].name()


def view_changed_in_place(m):
    x = leaf(m)
    b = x * 1
    z = make(m, lambda ctx, a: (ctx.mark_dirty(a), a.mul_(3))[1], lambda ctx, g: g * 3).apply(b[:1])
    b.sum().backward()
    return z.tolist(), x.grad.tolist()


def result_changed(m, forward, start=twice):
    y = make(m, forward, lambda ctx, *g: g[0].sum()).apply(start(leaf(m)))
    (y[0] if isinstance(y, tuple) else y).add_(1)


def input_changed_after(m):
    z = leaf(m) * 1
    y = make(m, lambda ctx, a: a).apply(z)
    z.add_(1)
    return y.grad_fn


def materialized(m, materialize):
    found = []

    def forward(ctx, a):
        ctx.set_materialize_grads(materialize)
        return a * 1, a * 2

    y, z = make(m, forward, lambda ctx, g, h: (found.append(None if h is None else h.tolist()), g)[1]).apply(leaf(m))
    y.sum().backward()
    return found


def needs(m):
    found = []
    function = make(m, lambda ctx, a, b, c: (found.append(ctx.needs_input_grad), a * b)[1], lambda ctx, g: (found.append(ctx.needs_input_grad), (g, None, None))[1])
    function.apply(leaf(m), m.ones(2), 3).sum().backward()
    return found


def non_differentiable(m):
    def forward(ctx, a):
        y = a * 2
        ctx.mark_non_differentiable(y)
        return a * 1, y

    return [t.requires_grad for t in make(m, forward).apply(leaf(m))]


def setup(m, **more):
    methods = {
        "forward": staticmethod(lambda a: a * 2),
        "setup_context": staticmethod(lambda ctx, inputs, output: ctx.save_for_backward(inputs[0])),
        "backward": staticmethod(lambda ctx, g: g * ctx.saved_tensors[0]),
    }
    return gradient(m, type("My", (m.autograd.Function,), methods))


def only_once(m):
    once = m.autograd.function.once_differentiable
    x = leaf(m)
    y = make(m, lambda ctx, a: a * 2, once(lambda ctx, g: g * 2)).apply(x)
    (g,) = m.autograd.grad((y**2).sum(), x, create_graph=True)
    return type(g.grad_fn).__name__, g.tolist(), g.sum().backward()


def saved_is_changed(m):
    def forward(ctx, a):
        b = a * 2
        ctx.save_for_backward(a, b)
        ctx.b = b
        return b * 1

    y = make(m, forward, lambda ctx, g: g * ctx.saved_tensors[1]).apply(leaf(m))
    y.grad_fn.b.add_(1)
    y.sum().backward()


def again(m, save):
    x = leaf(m)
    y = make(m, lambda ctx, a: (ctx.save_for_backward(a) if save else None, a * 1)[1], lambda ctx, g: (ctx.saved_tensors, g)[1]).apply(x)
    y.sum().backward()
    y.sum().backward()
    return x.grad.tolist()


def hooked(m):
    log = []

    def forward(ctx, a, b):
        y = a * b
        ctx.save_for_backward(a, b, y, m.ones(1))
        return y

    def backward(ctx, g):
        a, b, y, one = ctx.saved_tensors
        return g * b, g * a

    x = leaf(m)
    with m.autograd.graph.saved_tensors_hooks(lambda t: (log.append("pack"), t.detach() * 1)[1], lambda t: (log.append("unpack"), t)[1]):
        y = make(m, forward, backward).apply(x, x)
    y.sum().backward()
    return log, x.grad.tolist()


def output_saved(m):
    def forward(ctx, a):
        y = a.exp()
        ctx.save_for_backward(y)
        return y

    x = leaf(m)
    y = make(m, forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(x)
    (g,) = m.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = m.autograd.grad(g.sum(), x, retain_graph=True)
    return y.grad_fn.saved_tensors[0].grad_fn is y.grad_fn, bool(m.allclose(h, x.exp()))


def repeated(m, forward):
    x = leaf(m)
    a, b = make(m, forward, lambda ctx, g, h: g * 2 + h * 3).apply(x * 1)
    (a + b).sum().backward()
    return a is b, a.output_nr, x.grad.tolist()


def dropped(m):
    x = leaf(m)
    y = make(m, lambda ctx, a: (a * 1, a * 2), lambda ctx, g, h: g + h * 5).apply(x)[0]
    y.sum().backward()
    return x.grad.tolist()


CUSTOM = "This view was created inside a custom Function (or because an input was returned as-is)"
CASES = {
    "dirty number": (lambda m: make(m, marked(lambda c, a: (c.mark_dirty(3), a * 1)[1])).apply(leaf(m)), "RuntimeError: mark_dirty can only accept variables, but argument "),
    "dirty, no input": (lambda m: gradient(m, make(m, marked(lambda c, a: (c.mark_dirty(a * 1), a * 1)[1]))), "RuntimeError: Some elements marked as dirty during the forward"),
    "dirty, not returned": (lambda m: gradient(m, make(m, marked(lambda c, a: (c.mark_dirty(a), a * 1)[1])), start=twice), "RuntimeError: Some elements marked as dirty"),
    "dirty leaf": (lambda m: gradient(m, make(m, marked(lambda c, a: (c.mark_dirty(a), a.add_(1))[1]))), "RuntimeError: a leaf Variable that requires grad has been used in an in-place operation."),
    "in place": (changed_in_place, (True, "MyBackward", 2, "MulBackward0")),
    "view in place": (view_changed_in_place, ([3.0], [3.0, 1.0])),
    "dirty view and another": (lambda m: make(m, lambda c, a: (c.mark_dirty(a), (a.add_(1), a * 2))[1]).apply((leaf(m) * 1)[:1]), "RuntimeError: If your Function modifies inplace an input that is a view"),
    "dirty, not differentiable": (lambda m: make(m, lambda c, a: (c.mark_dirty(a), c.mark_non_differentiable(a), a.add_(1))[2]).apply(leaf(m) * 1).requires_grad, False),
    "returns a number": (lambda m: make(m, lambda c, a: 3).apply(leaf(m)), 3),
    "returns more": (lambda m: make(m, lambda c, a: (a.sum(), 3, None)).apply(leaf(m))[1:], (3, None)),
    "too few gradients": (lambda m: gradient(m, make(m, lambda c, a, b: a * b, lambda c, g: g), 2.0), "RuntimeError: function MyBackward returned an incorrect number of gradients (expected 2, got 1)"),
    "too many gradients": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: (g, g))), "RuntimeError: function MyBackward returned an incorrect number of gradients (expected 1, got 2)"),
    "trailing None": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: (g, None, None))), [1.0, 1.0]),
    "gradient of a number": (lambda m: gradient(m, make(m, lambda c, a, b: a * 1, lambda c, g: (g, g)), 3), "RuntimeError: function MyBackward returned a gradient different than None at position 2"),
    "None": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: None)), None),
    "number as gradient": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: 3)), "RuntimeError: expected Variable or None (got int)"),
    "wrong shape": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: m.ones(3))), "RuntimeError: Function MyBackward returned an invalid gradient at index 0 - got [3] but expected shape compatible with [2]"),
    "wider shape": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: m.ones(3, 2))), [3.0, 3.0]),
    "other dtype": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: g.double())), [1.0, 1.0]),
    "saves a number": (lambda m: gradient(m, make(m, lambda c, a: (c.save_for_backward(a, 3), a * 1)[1])), "TypeError: save_for_backward can only save variables, but argument 1 is of type int"),
    "nothing saved": (lambda m: gradient(m, make(m, lambda c, a: a * 1, lambda c, g: g * len(c.saved_tensors) + 5)), [5.0, 5.0]),
    "number not differentiable": (lambda m: make(m, lambda c, a: (c.mark_non_differentiable(3), a * 1)[1]).apply(leaf(m)), "RuntimeError: mark_non_differentiable only accepts variable arguments, but got "),
    "non-differentiable": (non_differentiable, [True, False]),
    "input returned": (lambda m: gradient(m, make(m, lambda c, a: a, lambda c, g: g * 7)), [7.0, 7.0]),
    "view changed": (lambda m: result_changed(m, lambda c, a: a[:1]), "RuntimeError: Output 0 of My is a view and is being modified inplace. " + CUSTOM),
    "views changed": (lambda m: result_changed(m, lambda c, a: (a[:1], a[1:])), "RuntimeError: Output 0 of My is a view and is being modified inplace. This view is the output of a function that returns multiple views."),
    "returned input changed": (lambda m: result_changed(m, lambda c, a: a), "RuntimeError: Output 0 of My is a view and is being modified inplace. " + CUSTOM),
    "input changed after": (input_changed_after, "RuntimeError: Output 0 of My is a view and its base or another view of its base has been modified inplace. " + CUSTOM),
    "both derivatives": (lambda m: gradient(m, make(m, lambda c, a: a * 1, vjp=staticmethod(lambda c, g: g))), "RuntimeError: Implementing both 'backward' and 'vjp' for a custom Function is not allowed."),
    "vjp": (lambda m: gradient(m, type("My", (m.autograd.Function,), dict(forward=staticmethod(lambda c, a: a * 1), vjp=staticmethod(lambda c, g: g * 5)))), [5.0, 5.0]),
    "no derivative": (lambda m: gradient(m, type("My", (m.autograd.Function,), dict(forward=staticmethod(lambda c, a: a * 1)))), "NotImplementedError: You must implement either the backward or vjp method"),
    "keywords": (lambda m: make(m, lambda c, a, b=1: a * b).apply(leaf(m), b=3).tolist(), [3.0, 6.0]),
    "zeros": (lambda m: materialized(m, True), [[0.0, 0.0]]),
    "no zeros": (lambda m: materialized(m, False), [None]),
    "bad flag": (lambda m: materialized(m, 3), "TypeError: set_materialize_grads received an invalid combination of arguments"),
    "needs_input_grad": (needs, [(True, False, False)] * 2),
    "setup_context": (setup, [1.0, 2.0]),
    "once": (only_once, "RuntimeError: trying to differentiate twice a function that was marked with @once_differentiable"),
    "saved value changed": (saved_is_changed, "RuntimeError: one of the variables needed for gradient computation has been modified by an inplace operation"),
    "twice": (lambda m: again(m, True), "RuntimeError: Trying to backward through the graph a second time"),
    "twice, nothing saved": (lambda m: again(m, False), "RuntimeError: Trying to backward through the graph a second time"),
    "twice, nothing asked": (lambda m: [make(m, lambda c, a: a * 1).apply(x).sum().backward() for x in [leaf(m)] for _ in "ab"], [None, None]),
    "the same twice": (lambda m: repeated(m, lambda c, a: (lambda y: (y, y))(a * 2)), (True, 1, [6.0, 6.0])),
    "a changed input twice": (lambda m: repeated(m, lambda c, a: (c.mark_dirty(a), a.add_(1), (a, a))[2]), (True, 1, [6.0, 6.0])),
    "an input twice": (lambda m: repeated(m, lambda c, a: (a, a)), (False, 0, [5.0, 5.0])),
    "an output nobody keeps": (dropped, [1.0, 1.0]),
    "hooks": (hooked, (["pack"] * 4 + ["unpack"] * 4, [2.0, 4.0])),
    "output saved": (output_saved, (True, True)),
}  # fmt: skip


def outcome(case, m):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return case(m)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", CASES)
def test_case(name, m):
    case, expected = CASES[name]
    found = outcome(case, m)
    assert found.startswith(expected) if isinstance(expected, str) else found == expected, found


def test_a_saved_output_makes_no_cycle(holds_nothing):
    def forward(ctx, a):
        y = a.exp()
        ctx.save_for_backward(a, y)
        return y

    y = make(tg, forward).apply(leaf(tg))
    assert y.grad_fn.saved_tensors[1].tolist() == y.tolist()
    del y
    gc.collect()


def test_values_saved_by_a_function_go_with_the_backward_pass(statistics):
    x = leaf(tg)
    y = make(tg, lambda ctx, a: (ctx.save_for_backward(tg.ones(10000)), a * 1)[1]).apply(x)
    held = statistics()["bytes_live"]
    y.sum().backward()
    assert statistics()["bytes_live"] < held - 30000


VIEWS = {
    "multi": (lambda m, b: b.unbind(), lambda m, b: b.mul_(2), lambda u: u[0].grad_fn, "Output 0 of Unbind is a view and its base or another view of its base has been modified inplace. This view is the output"),
    "multi used": (lambda m, b: b.unbind(), lambda m, b: b.mul_(2), lambda u: u[0] * 2, "Output 0 of Unbind is a view and its base or another"),
    "no_grad": (lambda m, b: b[:1], lambda m, b: b.mul_(2), lambda v: v * 2, "A view was created in no_grad mode and its base or another view of its base has been modified inplace with grad mode enabled. Given"),
}  # fmt: skip


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", VIEWS)
def test_views_that_must_not_be_changed_notice_changes_of_their_base(name, m):
    view, change, use, text = VIEWS[name]
    b = leaf(m) * 1
    with m.set_grad_enabled(name != "no_grad"):
        v = view(m, b)
    change(m, b)
    with pytest.raises(RuntimeError) as error:
        use(v)
    assert str(error.value).startswith(text)
    assert name == "no_grad" or "grad_fn=<Invalid>" in repr(v)


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
def test_one_of_several_views_of_a_leaf(m):
    with pytest.raises(RuntimeError, match="Output 0 of Unbind is a view and is being modified inplace"):
        leaf(m).unbind()[0].add_(1)


class Exponential(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, g):
        (result,) = ctx.saved_tensors
        return g * result


def test_an_output_is_released_at_once_and_its_saved_value_is_not():
    """Without the cyclic collector: a call holds no cycle through its outputs."""
    x = tg.ones(2, dtype=tg.float64, requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        y = Exponential.apply(x)
        gone, loss = weakref.ref(y), y.sum()
        del y
        assert gone() is None
        loss.backward()
    finally:
        gc.enable()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(np.ones(2)))
    assert tg.autograd.gradgradcheck(Exponential.apply, x)


def test_results_of_integers_alone_are_in_no_graph():
    class IsOne(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x == 1

        @staticmethod
        def backward(ctx, g):
            return g

    x = tg.ones(1, requires_grad=True)
    y = IsOne.apply(x)
    assert y.grad_fn is None and not y.requires_grad
    for call in (y.backward, lambda: tg.autograd.grad(IsOne.apply(x), x, create_graph=True)):
        with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad"):
            call()
