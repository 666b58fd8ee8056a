"""Owns hooks: their order, what they may return, where they stay when a tensor is changed in place, and gradients of chosen inputs."""
# ruff: noqa: E501 (a table: one case per line)

from __future__ import annotations

import warnings

import pytest
import support

import tapegrad as tg


def leaf(m):
    return m.tensor([1.0, 2.0], requires_grad=True)


def lists(*found):
    return [t.tolist() if hasattr(t, "tolist") else t for t in found]


def hooks_stay(m):
    x, log = leaf(m), []
    y = x * 2
    y.register_hook(lambda g: log.append(("old", g.tolist())))
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.add_(1)
    y.register_hook(lambda g: log.append(("new", g.tolist())))
    (y * 3).sum().backward()
    return log, x.grad.tolist(), y.grad.tolist(), y.retains_grad


def retained_through(m, change, use=lambda y, v: y):
    """(grad of y, of its view v, of x), what they retain, after `change(y, v)`; both retain."""
    x = leaf(m)
    y = x * 2
    v = y[:1]
    y.retain_grad()
    v.retain_grad()
    change(y, v)
    use(y, v).sum().backward()
    return lists(y.grad, v.grad, x.grad), y.retains_grad, v.retains_grad


def view_hook(m, change):
    x, log = leaf(m), []
    y = x * 2
    v = y[:1]
    w = v * 5
    v.register_hook(lambda g: log.append(("view", g.tolist())))
    y.register_hook(lambda g: log.append(("base", g.tolist())))
    change(y, v)
    (y.sum() + w.sum()).backward()
    return sorted(log), x.grad.tolist()


def captured(m, names, retain=False):
    x = leaf(m)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    if retain:
        y.retain_grad()
    found = m.autograd.grad((y * 3).sum(), [{"x": x, "y": y}[n] for n in names])
    return lists(*found), lists(y.grad) if retain else None


def inputs(m, names, again=False):
    x = leaf(m)
    y = x * 2
    z = (y * 3).sum()
    z.backward(inputs=[{"x": x, "y": y}[n] for n in names], retain_graph=True)
    if again:
        z.backward()
    return lists(x.grad, y.grad), y.retains_grad


def after_accumulation(m):
    x, log = leaf(m), []
    x.register_post_accumulate_grad_hook(lambda p: log.append((p is x, p.grad.tolist(), m.is_grad_enabled())))
    x.register_hook(lambda g: log.append("before"))
    (x * 2).sum().backward()
    m.autograd.grad((x * 2).sum(), x)
    (x * 2).sum().backward(inputs=[x])
    return log


def order(m):
    x, log = leaf(m), []
    y = x * 2
    y.grad_fn.register_hook(lambda i, o: log.append(("after", len(i), len(o))))
    y.grad_fn.register_prehook(lambda o: log.append(("before", len(o))))
    y.register_hook(lambda g: log.append("tensor"))
    y.retain_grad()
    y.register_hook(lambda g: log.append("tensor again"))
    y.sum().backward()
    return log


def with_hook(m, hook, kind="register_hook"):
    x = leaf(m)
    y = x * 2
    getattr(y if kind == "register_hook" else y.grad_fn, kind.replace("node_", "register_"))(hook)
    y.sum().backward()
    return lists(x.grad)


def accumulator(m):
    x, log = leaf(m), []
    node = x.view_as(x).grad_fn.next_functions[0][0]
    node.register_hook(lambda i, o: log.append((i, lists(*o))))
    node.register_prehook(lambda o: (o[0] * 2,))
    y = (x * 3).sum()
    del node
    y.backward()
    return log, x.grad.tolist()


def remove(m):
    y = leaf(m) * 2
    handle = y.register_hook(lambda g: g * 2)
    handle.remove()
    handle.remove()
    with y.register_hook(lambda g: g * 3):
        pass
    return m.autograd.grad(y.sum(), y)[0].tolist()


def several(m):
    a, b, log = leaf(m), leaf(m), []
    c, d = a * b, a * b
    handle = m.autograd.graph.register_multi_grad_hook((a, b, c, d), lambda gs: log.append([g is not None for g in gs]))
    c.sum().backward(retain_graph=True)
    c.sum().backward(inputs=(a,), retain_graph=True)
    c.sum().backward(inputs=(b,), retain_graph=True)
    (c + d).sum().backward(retain_graph=True)
    handle.remove()
    c.sum().backward()
    return log


def any_of_several(m):
    a, b, log = leaf(m), leaf(m), []
    c = a * b
    m.autograd.graph.register_multi_grad_hook((a, m.ones(1), b, c), lambda g: log.append(g.tolist()), mode="any")
    c.sum().backward(retain_graph=True)
    (c * 2).sum().backward()
    return log


def call_node(m, *gs):
    return lists(*[(leaf(m) ** 2).grad_fn(*gs)])


def new_data(m):
    x = leaf(m)
    y = x * x
    x.data = m.tensor([3.0, 4.0])
    y.sum().backward()
    return lists(x, x.grad)


CASES = {
    "hooks stay, retain_grad moves": (hooks_stay, ([("new", [3.0, 3.0]), ("old", [3.0, 3.0])], [60.0, 60.0], [3.0, 3.0], True)),
    "retain, changed twice": (lambda m: retained_through(m, lambda y, v: y.mul_(3).mul_(5)), ([[1.0, 1.0], None, [30.0, 30.0]], True, True)),
    "retain, view changed": (lambda m: retained_through(m, lambda y, v: v.mul_(3)), ([[1.0, 1.0], None, [6.0, 2.0]], True, True)),
    "retain, view changed and used": (lambda m: retained_through(m, lambda y, v: v.mul_(3), lambda y, v: v), ([[1.0, 0.0], [1.0], [6.0, 0.0]], True, True)),
    "retain, base changed, view used": (lambda m: retained_through(m, lambda y, v: y.mul_(3), lambda y, v: v), ([[1.0, 0.0], [1.0], [6.0, 0.0]], True, True)),
    "hook of a view that is changed": (lambda m: view_hook(m, lambda y, v: v.mul_(3)), ([("base", [8.0, 1.0]), ("view", [5.0])], [16.0, 2.0])),
    "hook of a base that is changed": (lambda m: view_hook(m, lambda y, v: y.mul_(3)), ([("base", [8.0, 3.0]), ("view", [5.0])], [16.0, 6.0])),
    "captured alone": (lambda m: captured(m, "y"), ([[30.0, 30.0]], None)),
    "captured on the way": (lambda m: captured(m, "yx"), ([[3.0, 3.0], [60.0, 60.0]], None)),
    "captured and retained": (lambda m: captured(m, "y", True), ([[30.0, 30.0]], [[30.0, 30.0]])),
    "passed and retained": (lambda m: captured(m, "x", True), ([[60.0, 60.0]], [[30.0, 30.0]])),
    "inputs, no leaf": (lambda m: inputs(m, "y"), ([None, [3.0, 3.0]], True)),
    "inputs, both": (lambda m: inputs(m, "yx"), ([[6.0, 6.0], [3.0, 3.0]], True)),
    "inputs, again": (lambda m: inputs(m, "y", True), ([[6.0, 6.0], [6.0, 6.0]], True)),
    "inputs, twice the same": (lambda m: inputs(m, "xx"), ([[6.0, 6.0], None], False)),
    "inputs without grad": (lambda m: leaf(m).sum().backward(inputs=[m.ones(2)]), "RuntimeError: can't retain_grad on Tensor that has requires_grad=False"),
    "inputs of another kind": (lambda m: leaf(m).sum().backward(inputs=[3]), "RuntimeError: all inputs have to be Tensors or GradientEdges, but got int"),
    "after accumulation": (after_accumulation, ["before", (True, [2.0, 2.0], False), "before", "before", (True, [4.0, 4.0], False)]),
    "after accumulation, no leaf": (lambda m: (leaf(m) * 2).register_post_accumulate_grad_hook(print), "RuntimeError: post accumulate grad hooks cannot be registered on non-leaf tensors"),
    "order": (order, ["tensor", "tensor again", ("before", 1), ("after", 2, 1)]),
    "number": (lambda m: with_hook(m, lambda g: 3), "TypeError: expected Variable, but hook returned 'int'"),
    "shape": (lambda m: with_hook(m, lambda g: m.ones(3)), "RuntimeError: hook '<lambda>' has changed the size of value"),
    "dtype": (lambda m: with_hook(m, lambda g: g.double()), "RuntimeError: hook '<lambda>' has changed the type of value (was tapegrad.FloatTensor got tapegrad.DoubleTensor)"),
    "in place": (lambda m: with_hook(m, lambda g: g.clone().mul_(5)), [[10.0, 10.0]]),
    "node": (lambda m: with_hook(m, lambda i, o: (i[0] * 5, None), "node_hook"), [[10.0, 10.0]]),
    "node, a tensor": (lambda m: with_hook(m, lambda i, o: i[0], "node_hook"), "TypeError: expected tuple, but hook returned 'Tensor'"),
    "node, too many": (lambda m: with_hook(m, lambda i, o: (i[0],) * 3, "node_hook"), "RuntimeError: hook '<lambda>' has returned an incorrect number of values (got 3, but expected 2)"),
    "before node": (lambda m: with_hook(m, lambda o: (o[0] * 5,), "node_prehook"), [[10.0, 10.0]]),
    "before node, none": (lambda m: with_hook(m, lambda o: (None,), "node_prehook"), [None]),
    "before node, a tensor": (lambda m: with_hook(m, lambda o: o[0], "node_prehook"), "TypeError: expected tuple, but hook returned 'Tensor'"),
    "before node, too many": (lambda m: with_hook(m, lambda o: (o[0],) * 3, "node_prehook"), "RuntimeError: hook '<lambda>' has returned an incorrect number of values (got 3, but expected 1)"),
    "accumulator": (accumulator, ([((), [[6.0, 6.0]])], [6.0, 6.0])),
    "several": (several, [[True, True, True, False], [True, False, True, False], [False, True, True, False], [True, True, True, True]]),
    "any of several": (any_of_several, [[1.0, 1.0], [2.0, 2.0]]),
    "several, one without grad": (lambda m: m.autograd.graph.register_multi_grad_hook((m.ones(1),), print), "AssertionError: Expected gradient function to be set"),
    "call": (lambda m: call_node(m, m.ones(2)), [[2.0, 4.0]]),
    "call with too many": (lambda m: call_node(m, m.ones(2), m.ones(2)), "TypeError: expected 1 arguments, got 2 instead"),
    "call with none": (lambda m: call_node(m), "TypeError: expected 1 arguments, got 0 instead"),
    "new data": (new_data, [[3.0, 4.0], [6.0, 8.0]]),
    "new data of ints": (lambda m: setattr(leaf(m), "data", m.ones(2, dtype=m.int64)), "RuntimeError: data set to a tensor that requires gradients must be floating point or complex dtype"),
    "versions": (lambda m: [(f(x), x._version)[1] for x in [m.ones(1, 3)] for f in (lambda x: x.add_(1), lambda x: x.squeeze_(0), lambda x: x.unsqueeze_(0), lambda x: x.data.add_(1))], [1, 2, 3, 3]),
    "remove": (remove, [1.0, 1.0]),
}  # fmt: skip


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", CASES)
def test_case(name, m):
    case, expected = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = case(m)
        except Exception as error:
            found = f"{type(error).__name__}: {error}".replace("torch", "tapegrad")
    assert found == expected, found


def test_hooks_leave_nothing_behind(holds_nothing):
    accumulator(tg)
    hooks_stay(tg)
    retained_through(tg, lambda y, v: v.mul_(3))


def test_the_dicts_of_global_hooks_can_be_read_and_replaced():
    module = tg.nn.modules.module
    calls = []
    before, old = module._global_forward_hooks, tg.nn.Sigmoid()
    try:
        handle = module.register_module_forward_hook(lambda m, args, out: calls.append("first"), always_call=True)
        assert list(module._global_forward_hooks) == [handle.id] == list(module._global_forward_hooks_always_called)
        old(tg.ones(2))
        module._global_forward_hooks = type(before)()
        old(tg.ones(2))
        assert calls == ["first"]
        module.register_module_forward_hook(lambda m, args, out: out * 0)
        assert old(tg.ones(2)).tolist() == [0.0, 0.0]
    finally:
        before.clear()
        module._global_forward_hooks = before
        module._global_forward_hooks_always_called.clear()
    with pytest.raises(AttributeError, match="has no attribute '_global_hooks'"):
        _ = module._global_hooks
