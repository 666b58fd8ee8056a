"""Owns operations with several outputs in the graph: one node, output numbers, gradients that are missing, pieces that are views."""

from __future__ import annotations

import gc

import pytest

import tapegrad as tg

PIECES = {
    "split": (lambda x: x.split(2, 1), "SplitBackward0", 2),
    "sizes": (lambda x: x.split([1, 3], -1), "SplitWithSizesBackward0", 2),
    "chunk": (lambda x: x.chunk(4, 1), "SplitBackward0", 4),
    "unbind": (lambda x: x.unbind(1), "UnbindBackward0", 4),
    "iteration": (lambda x: tuple(x), "UnbindBackward0", 3),
    "unsafe_split": (lambda x: tg.unsafe_split(x, 2, 1), "UnsafeSplitBackward0", 2),
    "unsafe_chunk": (lambda x: tg.unsafe_chunk(x, 2, 1), "UnsafeSplitBackward0", 2),
    "unsafe_split_with_sizes": (lambda x: tg.unsafe_split_with_sizes(x, [1, 2]), "UnsafeSplitWithSizesBackward0", 2),
    "split_copy": (lambda x: tg.split_copy(x, 1), "SplitBackward0_copy", 3),
    "unbind_copy": (lambda x: tg.unbind_copy(x), "UnbindBackward0_copy", 3),
}


def matrix():
    return tg.arange(12.0).reshape(3, 4).clone().requires_grad_()


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize("again", range(2))
def test_pieces_are_the_outputs_of_one_node(name, again):
    make, graph_name, count = PIECES[name]
    x = matrix()
    parts = make(x * 1)
    node = parts[0].grad_fn
    assert type(node).__name__ == graph_name and len(parts) == count
    assert all(p.grad_fn is node for p in parts) and [p.output_nr for p in parts] == list(range(count))
    assert len(node.next_functions) == 1 and len(node._input_metadata) == count
    last = parts[-1] * 2
    assert last.grad_fn.next_functions[0] == (node, count - 1)


@pytest.mark.parametrize("name", PIECES)
def test_their_gradients(name):
    make, _, count = PIECES[name]
    for wanted in (range(count), [count - 1], [0]):
        x = matrix()
        parts = make(x)
        sum((parts[k] * (k + 1.0)).sum() for k in wanted).backward()
        y = matrix()
        (g,) = tg.autograd.grad(sum((p * (k + 1.0)).sum() for k, p in enumerate(make(y)) if k in wanted), y, create_graph=True)
        assert x.grad.tolist() == g.tolist()
    assert tg.autograd.gradgradcheck(lambda x: tuple(p.sin() for p in make(x)), matrix().detach().double().requires_grad_())


def test_one_node_sees_all_gradients_and_none_for_those_missing():
    x = matrix()
    parts = (x * 1).split(1)
    node, seen = parts[0].grad_fn, []
    node.register_prehook(lambda gs: seen.append(["pre", *[g is not None for g in gs]]))
    node.register_hook(lambda before, after: seen.append(["post", *[g is not None for g in after]]))
    parts[0].register_hook(lambda g: seen.append(g))
    parts[2].sum().backward()
    assert seen == [None, ["pre", False, False, True], ["post", False, False, True]]
    assert x.grad.tolist() == [[0] * 4, [0] * 4, [1] * 4]


def test_a_prehook_of_all_gradients_may_replace_them():
    x = matrix()
    parts = (x * 1).unbind(1)
    parts[1].grad_fn.register_prehook(lambda gs: tuple(g * k for k, g in enumerate(gs)))
    sum(p.sum() for p in parts).backward()
    assert x.grad.tolist() == [[0, 1, 2, 3]] * 3


def test_many_pieces():
    x = tg.arange(300.0, requires_grad=True)
    for _ in range(2):
        parts = x.unbind()
        sum(p * k for k, p in enumerate(parts)).backward()
        assert x.grad.tolist() == list(range(300))
        x.grad = None


def test_pieces_that_are_gone_leave_the_others():
    x = matrix()
    last = (x * 1).unbind()[2]
    gc.collect()
    assert last.output_nr == 2 and last.grad_fn.next_functions[0][0].name() == "MulBackward0"
    last.sum().backward()
    assert x.grad.sum() == 4


def test_parameters_of_the_nodes():
    x = matrix()
    node = x.split(3, 1)[0].grad_fn
    assert (node._saved_split_size, node._saved_dim, node._saved_self_sym_sizes) == (3, 1, (3, 4))
    assert x.split([1, 3], 1)[0].grad_fn._saved_split_sizes == (1, 3)


def test_copies_may_be_written_to_and_views_may_not():
    x = matrix()
    part = tg.unsafe_split(x * 1, 2, 1)[1]
    part.mul_(3)
    part.sum().backward()
    assert x.grad.tolist() == [[0, 0, 3, 3]] * 3
    with pytest.raises(RuntimeError, match="Output 1 of Split is a view and is being modified inplace.* returns multiple views"):
        (x * 1).split(2, 1)[1].mul_(3)


def test_outputs_without_a_gradient_have_number_0():
    values, indices = matrix().sort()
    assert (values.output_nr, indices.output_nr, indices.grad_fn) == (0, 0, None)
    assert [t.output_nr for t in tg.linalg.svd(matrix(), full_matrices=False)] == [0, 1, 2]


# --- gradients that are missing ---------------------------------------------------------------------------------------
class Nothing(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return None


class Seen(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, materialize, seen):
        ctx.set_materialize_grads(materialize)
        ctx.seen = seen
        return x * 1

    @staticmethod
    def backward(ctx, g):
        ctx.seen.append(None if g is None else g.tolist())
        return g, None, None


def test_nodes_above_one_that_gives_nothing_run_all_the_same():
    x, seen = tg.ones(2, requires_grad=True), []
    a, b, c = Seen.apply(x, True, seen), Seen.apply(x, False, seen), x.clone()
    c.register_hook(lambda g: seen.append(("hook", g)))
    c.grad_fn.register_prehook(lambda gs: seen.append(("pre", gs)))
    c.grad_fn.register_hook(lambda gi, go: seen.append(("post", gi, go)))
    Nothing.apply(a + b + c).sum().backward()
    assert seen == [("hook", None), ("pre", (None,)), ("post", (None,), (None,)), None, [0, 0]]
    assert x.grad.tolist() == [0, 0]


def test_hooks_of_a_leaf_that_gets_nothing():
    x, seen = tg.ones(2, requires_grad=True), []
    x.register_hook(seen.append)
    x.register_post_accumulate_grad_hook(lambda x: seen.append("after"))
    Nothing.apply(x * 2).sum().backward()
    assert seen == [None, "after"] and x.grad is None
    assert tg.autograd.grad(Nothing.apply(x).sum(), x, allow_unused=True) == (None,)
    (Nothing.apply(x) + x).sum().backward()
    assert [getattr(s, "shape", s) for s in seen[3:]] == [(2,), "after"]


@pytest.mark.parametrize("hook", ["tensor", "pre", "post"])
def test_a_hook_cannot_make_a_gradient_out_of_nothing(hook):
    x = matrix()
    a, b = (x * tg.ones(4))[:2].unbind()
    if hook == "tensor":
        b.register_hook(lambda g: tg.ones(4))
    elif hook == "pre":
        b.grad_fn.register_prehook(lambda gs: (gs[0], tg.ones(4)))
    else:
        b.grad_fn.next_functions[0][0].next_functions[0][0].register_hook(lambda gi, go: (gi[0], tg.ones(3, 4)))
    with pytest.raises(RuntimeError, match="can't replace a None gradient with a non-None value"):
        a.sum().backward()


@pytest.mark.parametrize("fast", [True, False])
def test_gradcheck_with_undefined_gradients(fast):
    def fails(x):
        y = x.clone()

        def hook(g):
            if g is None:
                raise RuntimeError("undefined")

        y.register_hook(hook)
        return y

    x = tg.ones(1, dtype=tg.float64, requires_grad=True)
    with (
        pytest.warns(UserWarning, match="New undefined gradient support checking feature"),
        pytest.raises(RuntimeError, match="Expected backward function to handle undefined output grads"),
    ):
        tg.autograd.gradcheck(fails, (x,), fast_mode=fast)
    assert tg.autograd.gradcheck(fails, (x,), fast_mode=fast, check_undefined_grad=False)
    assert tg.autograd.gradcheck(lambda x: x.split([1, 2]), tg.ones(3, dtype=tg.float64, requires_grad=True), fast_mode=fast)
