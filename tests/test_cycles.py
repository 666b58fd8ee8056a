"""Owns reference cycles through the graph: the garbage collector finds those that only a tensor or a node of their own keeps alive."""

from __future__ import annotations

import gc
import weakref

import pytest

import tapegrad as tg


class Keeps(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, sentinel, count):
        out = [x * (k + 2) for k in range(count)]
        ctx.out, ctx.sentinel = out[0], sentinel
        ctx.save_for_backward(x, out[0])
        return tuple(out)

    @staticmethod
    def backward(ctx, *gs):
        assert len(ctx.saved_tensors) == 2
        return sum((k + 2) * g for k, g in enumerate(gs)), None, None


def context(x, o):
    (y,) = Keeps.apply(x, o, 1)
    return y


def context_of_two(x, o):
    return Keeps.apply(x, o, 2)[0]


def node_hook(x, o):
    y = x * 2
    y.grad_fn.register_hook(lambda before, after: (y, o) and None)
    return y


def node_prehook_with_the_node(x, o):
    y = x.clone()
    node = y.grad_fn
    node.register_prehook(lambda gs: (node, o) and None)
    return y


def tensor_hook(x, o):
    y = x.exp()
    y.register_hook(lambda g: (y, o) and None)
    return y


def leaf_hook(x, o):
    x.register_hook(lambda g: (x, o) and None)
    return x * 2


def accumulate_hook(x, o):
    y = x.expand_as(x)
    y.grad_fn.next_functions[0][0].register_hook(lambda before, after: (x, o) and None)
    return y


def after_accumulation(x, o):
    x.register_post_accumulate_grad_hook(lambda leaf: (x, o) and None)
    return x * 2


def metadata(x, o):
    y = x * x
    y.grad_fn.metadata["y"] = (y, o)
    return y


def saved_hooks(x, o):
    y = x.exp()
    y.grad_fn._raw_saved_result.register_hooks(lambda t: (t, y, o), lambda packed: packed[0])
    return y


MAKERS = [context, context_of_two, node_hook, node_prehook_with_the_node, tensor_hook, leaf_hook, accumulate_hook, after_accumulation, metadata, saved_hooks]


class Sentinel:
    pass


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("make", MAKERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("backward", [False, True])
def test_cycles_are_collected_and_not_before_they_are_garbage(make, backward, no_gc):
    def scope():
        x, o = tg.ones(2, requires_grad=True), Sentinel()
        y = make(x, o)
        return (y * 1).sum(), x, weakref.ref(o)

    end, x, ref = scope()
    gc.collect()
    assert ref() is not None
    if backward:
        end.backward()
        gc.collect()
        assert x.grad is not None and (ref() is not None or make is saved_hooks)  # which lets go of what was saved
    del end, x
    gc.collect()
    assert ref() is None


def test_what_a_hook_holds_lives_while_the_graph_does(no_gc):
    calls = []

    def scope():
        x = tg.ones(1, requires_grad=True)
        y = x.clone()
        node, o = y.grad_fn, Sentinel()
        node.register_hook(lambda before, after: calls.append((node, o)))
        return y.clone(), weakref.ref(o)

    out, ref = scope()
    for _ in range(2):
        gc.collect()
        out.backward(retain_graph=True)
    assert len(calls) == 2 and calls[0][1] is ref()
    calls.clear()
    del out
    gc.collect()
    assert ref() is None


def test_a_tensor_shows_its_payload_if_nothing_else_keeps_it():
    y = context(tg.ones(2, requires_grad=True), None)
    shown = lambda: sum(type(r) is type(y.grad_fn.attributes) for r in gc.get_referents(y))  # noqa: E731
    node = y.grad_fn
    assert not shown()
    del node
    z = y * 2
    assert not shown()
    del z
    assert shown() == 1
