"""Corners of the graph, found by comparing random programs with PyTorch: what is refused first, what keeps its identity, who is named."""

import pytest

import tapegrad as tg
from tapegrad.autograd import Function
from tapegrad.autograd.graph import register_multi_grad_hook


class Same(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 3


class Doubled(Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Viewed(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view(-1)

    @staticmethod
    def backward(ctx, g):
        return g.view(2, 3)


def leaf():
    return tg.ones(2, 3, requires_grad=True)


# --- custom Functions that record nothing ----------------------------------------------------------------------------
def test_without_recording_an_input_comes_back_detached():
    a = leaf()
    with tg.no_grad():
        for f in (Same, Doubled):
            y = f.apply(a)
            assert y is not a and not y.requires_grad and y._base is None and y.data_ptr() == a.data_ptr()
        y = Viewed.apply(a)
        assert y.requires_grad and y._base is a
        y = Same.apply(a)
        y.copy_(tg.zeros(2, 3))
    assert y.grad_fn is None and a.sum() == 0


def test_what_must_not_be_marked_dirty():
    a = leaf()
    with pytest.raises(RuntimeError, match="^a leaf Variable that requires grad has been used in an in-place operation.$"):
        Doubled.apply(a)
    assert a._version == 2  # by the operation, and by the mark
    with pytest.raises(RuntimeError, match="^a view of a leaf Variable that requires grad is being used in an in-place operation.$"):
        Doubled.apply(leaf().view(-1))
    with pytest.raises(RuntimeError, match="^Output 0 of Unbind is a view and is being modified inplace. This view is the output of a function that returns"):
        Doubled.apply((leaf() * 2).unbind(0)[0])


# --- gradients that have a graph -------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_gradient_with_a_graph_is_added_to_in_place():
    p = tg.ones(2, requires_grad=True)
    p.pow(2).sum().backward(create_graph=True)
    g = p.grad
    (p * 3).sum().backward()
    assert p.grad is g and g.tolist() == [5.0, 5.0] and g.requires_grad
    (p * 3).sum().backward(create_graph=True)
    assert p.grad is not g and p.grad.tolist() == [8.0, 8.0] and type(p.grad.grad_fn).__name__ == "AddBackward0"


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_gradient_that_keeps_its_graph_is_a_copy_in_it():
    p = tg.tensor([3.0], requires_grad=True)
    p.pow(3).sum().backward(create_graph=True)
    assert [None if f is None else type(f).__name__ for f, _ in p.grad.grad_fn.next_functions] == [None, "MulBackward0"]
    assert tg.autograd.grad(p.grad.sum(), p)[0].tolist() == [18.0]


def test_a_tensor_may_be_listed_twice_for_a_hook_of_several():
    x, y, seen = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True), []
    register_multi_grad_hook((x, x), lambda gs: seen.append([None if g is None else g.tolist() for g in gs]))
    register_multi_grad_hook((x, y, x), lambda gs: seen.append([None if g is None else g.tolist() for g in gs]))
    (x * 2).sum().backward()
    assert seen == [[[2.0, 2.0]] * 2, [[2.0, 2.0], None, [2.0, 2.0]]]
    seen.clear()
    (x * 2 + y).sum().backward()
    assert sorted(seen, key=len) == [[[2.0, 2.0]] * 2, [[2.0, 2.0], [1.0, 1.0], [2.0, 2.0]]]


# --- leaving the graph -----------------------------------------------------------------------------------------------
def test_a_leaf_that_left_the_graph_still_has_its_value():
    a, b = tg.ones(2, requires_grad=True), tg.ones(2, requires_grad=True)
    out = a * (b / (b + 9))
    b.detach_()
    out.sum().backward()
    assert a.grad.tolist() == pytest.approx([0.1, 0.1]) and b.grad is None
    c = b.clone().requires_grad_() * 2
    d = c * c
    c.detach_()
    with pytest.raises(RuntimeError, match="saved tensor that has been detached in-place"):
        d.sum().backward()


# --- what is said first ----------------------------------------------------------------------------------------------
LEAF = "^a leaf Variable that requires grad is being used in an in-place operation.$"
LEAF_VIEW = "^a view of a leaf Variable that requires grad is being used in an in-place operation.$"


@pytest.mark.parametrize("write", [lambda a: a.copy_(tg.ones(5)), lambda a: a.fill_(tg.ones(7)), lambda a: a.add_(tg.ones(5)), lambda a: a.copy_(tg.ones(2, 2, 3))])
def test_a_leaf_is_refused_before_shapes(write):
    with pytest.raises(RuntimeError, match=LEAF):
        write(leaf())
    with pytest.raises(RuntimeError, match=LEAF_VIEW):
        write(leaf()[0])


def test_a_view_of_what_has_become_a_leaf():
    c = leaf() * 2
    view = c.t()
    c.detach_()
    for write in (lambda: view.mul_(2), lambda: view.unsqueeze_(0)):
        with pytest.raises(RuntimeError, match=LEAF_VIEW):
            write()
    view = tg.ones(2, 2).t().requires_grad_()
    with pytest.raises(RuntimeError, match=LEAF_VIEW):
        view.mul_(2)


def test_an_assigned_value_is_expanded_before_the_target_is_looked_at():
    with pytest.raises(RuntimeError, match=r"^The expanded size of the tensor \(2\) must match the existing size \(3\)"):
        leaf()[..., 0] = tg.ones(3)
    with pytest.raises(RuntimeError, match=LEAF_VIEW):
        leaf()[..., 0] = tg.ones(2)
    row = (leaf() * 2).unbind(0)[0]
    with pytest.raises(RuntimeError, match="^Output 0 of Unbind is a view and is being modified inplace"):
        row[tg.tensor([0])] = tg.ones(2)


WRITES = {
    "mul_": lambda u: u.mul_(2), "copy_": lambda u: u.copy_(tg.ones(3)), "fill_": lambda u: u.fill_(1), "zero_": lambda u: u.zero_(), "relu_": lambda u: u.relu_(),
    "clamp_": lambda u: u.clamp_(0, 1), "unsqueeze_": lambda u: u.unsqueeze_(0), "masked_fill_": lambda u: u.masked_fill_(tg.ones(3) > 0, 1),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_restricted_view_of_a_changed_base_is_refused_for_what_is_done_to_it(name):
    k = leaf() * 2
    u = k.unbind(0)[0]
    with tg.no_grad():
        v = k.view(-1)
    k.mul_(2)
    with pytest.raises(RuntimeError, match="^Output 0 of Unbind is a view and is being modified inplace."):
        WRITES[name](u)
    if name not in ("copy_", "masked_fill_"):  # of another shape
        with pytest.raises(RuntimeError, match="^A view was created in no_grad mode and is being modified inplace with grad mode enabled."):
            WRITES[name](v)
    with pytest.raises(RuntimeError, match="^Output 0 of Unbind is a view and its base or another view of its base has been modified"):
        u + 1


def test_a_changed_leaf_is_not_named_after_its_views():
    b = tg.ones(2, 2, requires_grad=True)
    out = b * b
    views = b.view_as(b), b.squeeze()
    b.detach().add_(1)
    with pytest.raises(RuntimeError, match=r"inplace operation: \[tapegrad.FloatTensor \[2, 2\]\] is at version 1; expected version 0 instead."):
        out.sum().backward()
    del views


# --- shapes that do not fit ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("a, b, sizes, dim", [((2, 3), (3, 2), (3, 2), 1), ((4, 3, 2), (5, 2, 2), (3, 2), 1), ((2, 3), (3, 2, 2), (3, 2), 2), ((2, 3), (4, 3), (2, 4), 0)])
def test_the_last_dim_that_does_not_fit_is_named(a, b, sizes, dim):
    text = r"^The size of tensor a \({}\) must match the size of tensor b \({}\) at non-singleton dimension {}$".format(*sizes, dim)
    x, y = tg.ones(a), tg.ones(b)
    for call in (lambda: x + y, lambda: tg.maximum(x, y), lambda: x > y, lambda: tg.where(x > 0, x, y), lambda: x.lerp(y, 0.5), lambda: tg.broadcast_tensors(x, y)):
        for _ in range(3):
            with pytest.raises(RuntimeError, match=text):
                call()


def test_the_shape_of_a_source_that_is_too_large():
    for write in (tg.Tensor.copy_, tg.Tensor.add_):
        with pytest.raises(RuntimeError, match=r"^output with shape \[2, 3\] doesn't match the broadcast shape \[2, 2, 3\]$"):
            write(tg.ones(2, 3), tg.ones(2, 2, 3))


# --- derivatives that are constant in pieces -------------------------------------------------------------------------
F = tg.nn.functional
FLAT = {
    "ThresholdBackwardBackward0": tg.relu, "MaxPool2DWithIndicesBackwardBackward0": lambda x: F.max_pool2d(x, 2),
    "AvgPool2DBackwardBackward0": lambda x: F.avg_pool2d(x, 2), "AdaptiveAvgPool2DBackwardBackward0": lambda x: F.adaptive_avg_pool2d(x, (1, 2)),
    "ReflectionPad2DBackwardBackward0": lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), "NllLoss2DBackwardBackward0": lambda x: F.nll_loss(x, tg.zeros(1, 2, 4, dtype=tg.int64)),
}


@pytest.mark.parametrize("name", FLAT)
def test_the_gradient_of_what_is_linear_in_pieces_has_a_graph(name):
    x = tg.tensor([[[[0.3, -0.7, 1.2, 0.2], [2.1, 0.4, -1.5, 0.1]]]], dtype=tg.float64, requires_grad=True)
    out = FLAT[name](x).sum()
    (plain,) = tg.autograd.grad(out, x, retain_graph=True)
    (g,) = tg.autograd.grad(out, x, create_graph=True)
    assert g.requires_grad and type(g.grad_fn).__name__ == name and g.tolist() == plain.tolist()
    (second,) = tg.autograd.grad(g.sum(), x, retain_graph=True)
    assert second.shape == x.shape and not second.any()
    weights = tg.rand(out.shape, dtype=tg.float64).requires_grad_()
    (g,) = tg.autograd.grad(out, x, weights, create_graph=True)  # linear in what comes in
    assert tg.autograd.grad(g, weights, plain)[0] == pytest.approx(float((plain * plain).sum()))


def test_the_gradient_of_an_absolute_value_needs_none_of_that():
    x = tg.tensor([1.0, -2.0], requires_grad=True)
    (g,) = tg.autograd.grad(x.clamp(0, 1).sum(), x, create_graph=True)
    assert not g.requires_grad


class Saving(Function):
    context = None

    @staticmethod
    def forward(ctx, x):
        Saving.context = ctx
        ctx.save_for_backward(x, None)
        return x.exp()

    @staticmethod
    def backward(ctx, g):
        return g


def test_nothing_is_saved_where_nothing_is_recorded():
    packed = []
    with tg.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        Saving.apply(tg.ones(2))
        with tg.no_grad():
            Saving.apply(tg.ones(2, requires_grad=True))
        assert Saving.context.saved_tensors == () and not packed
        Saving.apply(tg.ones(2, requires_grad=True))
        assert len(Saving.context.saved_tensors) == 2 and len(packed) == 1


@pytest.mark.parametrize("call", [lambda x: 2 * x, lambda x: x * 2, lambda x: 2 + x, lambda x: x + 2, lambda x: x / 2], ids="2x x2 2+x x+2 x/2".split())
def test_a_number_is_the_second_edge(call):
    """As in torch, which turns `2 * x` into `x * 2`; hooks of the node see the gradients in that order."""
    x = tg.tensor([1.0, 3.0], requires_grad=True)
    y = call(x)
    (first, _), (second, _) = y.grad_fn.next_functions
    assert type(first).__name__ == "AccumulateGrad" and second is None
    seen = []
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append(inputs))
    y.sum().backward()
    ((first, second),) = seen
    assert second is None and first.tolist() == x.grad.tolist()
