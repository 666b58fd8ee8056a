"""Owns what nodes show their hooks, callbacks at the end of a pass, passes inside passes, and modes for those who know what they do."""

from __future__ import annotations

import pytest

import tapegrad as tg
from tapegrad.autograd import graph
from tapegrad.autograd.function import BackwardCFunction, InplaceFunction


def test_a_node_of_two_outputs_takes_both_gradients():
    x = tg.rand(3, 4, dtype=tg.float64).requires_grad_()
    for f in (tg.var_mean, tg.std_mean):
        spread, mean = f(x, 0)
        assert spread.grad_fn is mean.grad_fn and (spread.output_nr, mean.output_nr) == (0, 1)
        assert [m.shape for m in mean.grad_fn._input_metadata] == [(4,), (4,)]
        seen = []
        mean.grad_fn.register_prehook(lambda gs: seen.append([g is None for g in gs]))
        (spread + mean).sum().backward(retain_graph=True)
        mean.sum().backward()
        assert seen == [[False, False], [True, False]]
        assert tg.autograd.gradcheck(lambda t, f=f: f(t, 1, keepdim=True), (x,))
        assert tg.autograd.gradgradcheck(lambda t, f=f: f(t), (x,))


def test_an_output_without_a_derivative_has_no_place_in_the_graph():
    x = tg.rand(2, 3, requires_grad=True)
    values, indices = x.max(0)
    assert indices.grad_fn is None and indices.is_leaf and not values.is_leaf
    seen = []
    values.grad_fn.register_prehook(lambda gs: seen.append(len(gs)))
    values.grad_fn.register_hook(lambda inputs, outputs: seen.append((len(inputs), len(outputs))))
    values.sum().backward(retain_graph=True)
    assert seen == [1, (1, 1)] and len(values.grad_fn._input_metadata) == 1
    assert values.grad_fn(tg.ones(3)).shape == (2, 3) and len(seen) == 2  # a call runs no hooks


def test_a_function_with_results_that_are_no_tensors():
    class Double(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, k, y):
            return x * k, k, y * k

        @staticmethod
        def backward(ctx, g, _, h):
            return g * 3, None, h * 3

    x, y = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    a, k, b = Double.apply(x, 3, y)
    seen = []

    def prehook(gs):
        seen.append(len(gs))
        return gs[0] * 2, None, gs[2] * 5

    a.grad_fn.register_prehook(prehook)
    (a + b).sum().backward()
    assert seen == [3] and k == 3 and x.grad.tolist() == [6.0, 6.0] and y.grad.tolist() == [15.0, 15.0]


def test_hooks_of_a_tensor_that_is_asked_for():
    log = []
    a = tg.tensor(1.0, requires_grad=True)
    b = a.clone()
    b.grad_fn.register_prehook(lambda gs: log.append("node") or tuple(g * 2 for g in gs))
    b.register_hook(lambda g: log.append("tensor") or g * 3)
    b.sum().backward(inputs=(b,))
    assert log == ["tensor", "node"] and b.grad.item() == 3.0


def test_the_hook_after_accumulation_sees_the_gradient_itself():
    x = tg.ones(2, requires_grad=True)
    node = x.view_as(x).grad_fn.next_functions[0][0]
    x.register_post_accumulate_grad_hook(lambda t: setattr(t.grad, "data", t.grad + 0.5))
    node.register_hook(lambda inputs, outputs: setattr(x, "grad", outputs[0] * 10))
    x.sum().backward()
    assert x.grad.tolist() == [15.0, 15.0]
    y = tg.ones(2, requires_grad=True)
    y.register_post_accumulate_grad_hook(lambda t: t.grad)
    with pytest.raises(RuntimeError, match="hooks should return None"):
        y.sum().backward()


def test_nodes_by_class():
    class Twice(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            assert isinstance(ctx, graph.Node)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = tg.ones(2, requires_grad=True)
    y = Twice.apply(x)
    assert type(y.grad_fn) is Twice._backward_cls and isinstance(y.grad_fn, BackwardCFunction)
    assert all(isinstance(n, graph.Node) for n in (y.grad_fn, y.grad_fn.next_functions[0][0])) and issubclass(type(y.grad_fn), graph.Node)
    assert not isinstance(3, graph.Node) and not isinstance(None, graph.Node)
    with pytest.warns(DeprecationWarning):
        assert InplaceFunction(True).inplace
    with pytest.raises(RuntimeError, match="Trying to create a SavedTensor object from Python is forbidden"):
        tg.autograd.SavedTensor()
    assert isinstance((x * x).grad_fn._raw_saved_self, tg.autograd.SavedTensor)


# --- passes -------------------------------------------------------------------------------------------------------------
def test_callbacks_at_the_end_of_a_pass():
    log = []
    queue = tg.autograd.Variable._execution_engine.queue_callback
    with pytest.raises(RuntimeError, match="Final callbacks can only be installed during backward pass"):
        queue(list)
    x = tg.ones(2, requires_grad=True)
    x.register_hook(lambda g: queue(lambda: log.append("first") or queue(lambda: log.append("second"))))
    x.register_post_accumulate_grad_hook(lambda t: log.append("leaf"))
    x.sum().backward()
    assert log == ["leaf", "first", "second"]


def test_passes_deep_inside_one_another():
    depth = []

    class Reentrant(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, level):
            ctx.level = level
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            depth.append(ctx.level)
            if ctx.level:
                with tg.enable_grad():
                    inner = tg.ones(1, requires_grad=True)
                    Reentrant.apply(inner, ctx.level - 1).sum().backward()
                assert inner.grad.item() == 1.0
            return g, None

    x = tg.tensor(1.0, requires_grad=True)
    Reentrant.apply(x, 300).backward()
    assert x.grad.item() == 1.0 and depth == list(range(300, -1, -1))
    x = tg.tensor(-1.0, requires_grad=True)  # and errors come through
    y = x * 1
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.backward()


def test_hooks_that_a_pass_leaves_active_count_no_more():
    context = graph.saved_tensors_hooks(lambda t: t, lambda t: context.__enter__() or t)
    x = tg.ones(2, requires_grad=True)
    with context:
        y = x.sin()
    y.sum().backward()
    assert (x * x).grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t) is None
    context.__exit__()  # once too often


def test_a_saved_input_that_left_the_graph():
    x = tg.ones(2, requires_grad=True).clone()
    y = x.sin()
    x.detach_()
    with pytest.raises(RuntimeError, match="Trying to use a saved tensor that has been detached in-place"):
        y.sum().backward()
    x = tg.ones(2, requires_grad=True).clone()
    y = x.exp()
    y.detach_()
    assert not y.requires_grad


# --- modes --------------------------------------------------------------------------------------------------------------
def test_view_replay():
    def changed():
        x = tg.ones(2, 3, requires_grad=True).clone()
        v = x.view(6)
        x.add_(1)
        return v.grad_fn.name()

    assert changed() == "AsStridedBackward0" and not tg.autograd.is_view_replay_enabled()
    with tg.autograd._force_original_view_tracking(True):
        assert changed() == "ViewBackward0" and tg.autograd.is_view_replay_enabled()
    assert changed() == "AsStridedBackward0"


def test_changes_that_are_not_counted():
    x = tg.ones(2).add_(1)
    with tg.autograd._unsafe_preserve_version_counter(x):
        x.mul_(2).mul_(3)
    assert x._version == 1 and x.tolist() == [12.0, 12.0]


def test_other_data_keeps_the_count():
    x = tg.ones(2).add_(1)
    x.data = tg.zeros(2)
    assert x._version == 1 and x.add_(1)._version == 2
    with pytest.raises(RuntimeError, match="Deleting tensor data is not allowed"):
        del x.data
    with pytest.raises(RuntimeError, match="requires_grad must be a bool"):
        del x.requires_grad
    x = tg.ones(2, 2)
    assert all(hasattr(x, name) for name in dir(x) if name != "imag")


def test_setup_context_sees_the_defaults_of_forward():
    class Power(tg.autograd.Function):
        @staticmethod
        def forward(x, y=3):
            return x**y

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, ctx.y = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx, g):
            return g * ctx.y * ctx.saved_tensors[0] ** (ctx.y - 1), None

    x = tg.tensor(2.0, requires_grad=True)
    Power.apply(x).backward()
    assert x.grad.item() == 12.0
    assert tg.autograd.grad(Power.apply(x, y=2), x)[0].item() == 4.0


def test_gradients_of_results_without_a_derivative_may_stay_none():
    class Two(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            constant = x.clone()
            ctx.mark_non_differentiable(constant)
            ctx._materialize_non_diff_grads = False
            return x.clone(), constant

        @staticmethod
        def backward(ctx, g, h):
            assert h is None
            return g

    x = tg.ones(2, requires_grad=True)
    Two.apply(x)[0].sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_what_mutation_of_saved_tensors_keeps():
    x = tg.ones(2, 3, requires_grad=True).clone()
    with graph.allow_mutation_on_saved_tensors() as context:
        y = x**2
        x.sin_()
        z = x**2
        tg.exp(x.detach(), out=x.data)
        x.sin_()
        assert len(context.cloned) == 2
        del y
        assert len(context.cloned) == 1
        del z
        assert not len(context.cloned)


# --- the edges of a node, which its hooks see -------------------------------------------------------------------------
MATRIX = tg.tensor([[0.9, 0.1, 0.7], [0.2, 0.8, 0.3], [0.4, 0.6, 0.5]])
ROWS = tg.tensor([[0, 1, 2]])
EDGES = {
    "where": (lambda x: tg.where(MATRIX > 0.5, x, MATRIX), [True, False]),
    "gather": (lambda x: x.gather(0, ROWS), [True]),
    "index_select": (lambda x: x.index_select(0, ROWS[0]), [True]),
    "scatter": (lambda x: x.scatter(0, ROWS, MATRIX), [True, False]),
    "index_add": (lambda x: MATRIX.index_add(0, ROWS[0], x), [False, True]),
    "masked_fill": (lambda x: x.masked_fill(MATRIX > 0.5, 0), [True]),
    "add a number": (lambda x: x + 1, [True, False]),
    "integers": (lambda x: x * ROWS, [True, False]),
    "lerp": (lambda x: x.lerp(MATRIX, 0.5), [True, False]),
    "nll": (lambda x: tg.nn.functional.nll_loss(x, ROWS[0]), [True]),
    "solve": (lambda x: tg.linalg.solve(MATRIX, x), [False, True]),
    "cat": (lambda x: tg.cat([MATRIX, x]), [True, True]),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_posthook_sees_one_gradient_per_edge(name, create_graph):
    make, there = EDGES[name]
    x, seen = (tg.eye(3) + 0.25).requires_grad_(), []
    y = make(x)
    y.grad_fn.register_hook(lambda before, after: seen.append((before, after)))
    tg.autograd.grad(y.sum(), x, create_graph=create_graph)
    (before, after), *rest = seen
    assert [g is not None for g in before] == there and len(after) == 1 and not rest
    assert len(y.grad_fn.next_functions) == len(there)


def test_a_posthook_sees_gradients_in_the_shape_of_the_operands():
    x, bias, seen = tg.ones(2, 3, requires_grad=True), tg.ones(3, requires_grad=True), []
    y = x * bias
    y.grad_fn.register_hook(lambda before, after: seen.append([tuple(g.shape) for g in before]))
    y.sum().backward()
    assert seen == [[(2, 3), (3,)]] and bias.grad.tolist() == [2, 2, 2]


def test_a_posthook_may_replace_the_gradient_of_one_edge():
    x = tg.ones(3, 3, requires_grad=True)
    y = tg.where(MATRIX > 0.5, x, MATRIX)
    y.grad_fn.register_hook(lambda before, after: (before[0] * 5, None))
    y.sum().backward()
    assert x.grad.unique().tolist() == [0, 5]


def test_outputs_without_a_gradient_are_none_of_the_node():
    a = (tg.eye(3) + 0.25).requires_grad_()
    assert len(tg.linalg.lu_factor(a)[0].grad_fn._input_metadata) == 1


def test_a_saved_input_that_is_returned_stays_the_input():
    class Same(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, g):
            kept.append(ctx)
            return g * ctx.saved_tensors[0]

    kept: list = []
    x = tg.full((2,), 3.0, requires_grad=True)
    y = Same.apply(x)
    assert y.grad_fn.saved_tensors[0] is x
    y.sum().backward(retain_graph=True)
    del y
    assert kept[0].saved_tensors[0] is x
    (g,) = tg.autograd.grad(Same.apply(x).sum(), x, create_graph=True)
    assert tg.autograd.grad(g.sum(), x)[0].tolist() == [1, 1]
