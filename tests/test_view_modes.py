"""Owns what a view remembers of how it was made (in no_grad or inference mode, by a multi-view function, in a custom Function): when it may
be changed in place, what it says of requires_grad, and what in-place views and resizing keep."""

from __future__ import annotations

import pytest

import tapegrad as tg

NO_GRAD = "A view was created in no_grad mode and is being modified inplace with grad mode enabled. .* inside the no_grad block"
INFERENCE = "which was created in inference mode and is being modified inplace in normal mode. .* inside the inference_mode block"
MULTI = "Output {} of {} is a view and is being modified inplace. This view is the output of a function that returns multiple views."


def base():
    return tg.zeros(2, 3, requires_grad=True).clone()


def test_a_view_made_in_no_grad_mode():
    x = base()
    with tg.no_grad():
        v = x.view(3, 2)
    assert v.requires_grad and v.is_leaf and v._is_view() and (v * 2).requires_grad
    with pytest.raises(RuntimeError, match=NO_GRAD):
        v.mul_(2)
    w = v.view(6)
    with pytest.raises(RuntimeError, match="Output 0 of View is a view of a view which was created in no_grad mode and is being modified"):
        w.mul_(2)
    with tg.no_grad():
        v.mul_(2)
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode and its base or another view of its base has been modified"):
        _ = v.grad_fn
    assert repr(v).endswith("grad_fn=<Invalid>)")


def test_a_view_of_what_needs_no_gradient_remembers_too():
    x = tg.zeros(2)
    with tg.no_grad():
        v = x.view(2)
    v.add_(1)  # nothing is recorded
    with pytest.raises(RuntimeError, match=NO_GRAD):
        v.mul_(tg.ones(2, requires_grad=True))
    v.requires_grad_()
    with pytest.raises(RuntimeError, match=NO_GRAD):
        v.add_(1)
    with pytest.raises(RuntimeError, match="a view of a view which was created in no_grad mode"):
        v.view(2).add_(1)


def test_a_view_made_in_inference_mode():
    x = base()
    with tg.inference_mode():
        v = x.view(3, 2)
    assert v.requires_grad and v._is_view() and not v.is_inference()
    with pytest.raises(RuntimeError, match=INFERENCE):
        v.view(6).add_(1)
    x.add_(1)
    with pytest.raises(RuntimeError, match="in inference mode and its base or another view of its base has been modified inplace in normal"):
        _ = v.grad_fn


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda x: x.split(1)[1], "Split"),
        (lambda x: x.split_with_sizes([1, 1])[1], "SplitWithSizes"),
        (lambda x: x.chunk(2)[1], "Split"),
        (lambda x: x.unbind(0)[1], "Unbind"),
    ],
)
def test_views_made_several_at_once(make, name):
    with pytest.raises(RuntimeError, match=MULTI.format(1, name)):
        make(base()).mul_(2)
    v = make(base())
    with pytest.raises(RuntimeError, match=MULTI.format(0, "View")):
        v.view(-1).mul_(2)  # what a view of it is made from counts
    x = base()
    v = make(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="its base or another view of its base has been modified inplace. This view is the output of a"):
        _ = v.grad_fn
    x = base()
    with tg.no_grad():
        v = make(x)
    with pytest.raises(RuntimeError, match=NO_GRAD):
        v.mul_(2)
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode and is being .* returns multiple views"):
        make(tg.zeros(2, 3)).mul_(tg.ones(1, requires_grad=True))


def test_a_view_made_in_a_function_of_what_needs_no_gradient():
    class View(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view(3, 2)

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(RuntimeError, match="This view was created inside a custom Function"):
        View.apply(tg.zeros(2, 3)).mul_(tg.ones(1, requires_grad=True))


def test_pieces_that_may_be_changed():
    x = tg.ones(3, 3, requires_grad=True)
    for pieces in ((x * 2).unsafe_split(1), (x * 2).unsafe_split_with_sizes([1, 1, 1]), (x * 2).unsafe_chunk(3)):
        x.grad = None
        pieces[0].mul_(pieces[1])
        pieces[0].sum().backward()
        assert x.grad.tolist() == [[4.0] * 3, [4.0] * 3, [0.0] * 3]


# --- in place: other sizes over the same memory -------------------------------------------------------------------------
@pytest.mark.parametrize(
    "call, name",
    [
        (lambda y: y.squeeze_(), "SqueezeBackward3"),
        (lambda y: y.squeeze_(-1), "SqueezeBackward4"),
        (lambda y: y.squeeze_((-1,)), "SqueezeBackward5"),
        (lambda y: y.unsqueeze_(0), "UnsqueezeBackward1"),
        (lambda y: y.transpose_(0, 1), "TransposeBackward1"),
        (lambda y: y.swapaxes_(0, 1), "TransposeBackward1"),
        (lambda y: y.swapdims_(0, 1), "TransposeBackward1"),
        (lambda y: y.as_strided_((2, 2), (1, 1)), "AsStridedBackward1"),
    ],
)
def test_in_place_views(call, name):
    x = tg.arange(6.0).view(2, 3, 1).requires_grad_()
    y = x.clone()
    assert call(y) is y
    assert y.grad_fn.name() == name and y._version == 1 and not y._is_view()
    (y * y).sum().backward()
    if name[0] == "A":
        assert x.grad.flatten().tolist() == [0.0, 4.0, 4.0, 0.0, 0.0, 0.0]
    else:
        assert x.grad.flatten().tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


def test_in_place_views_of_leaves_and_of_views():
    x = tg.zeros(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.t_()
    with tg.no_grad():
        x.t_()
    assert x.shape == (3, 2) and x.requires_grad and x.is_leaf
    (x * 2).sum().backward()
    assert x.grad.tolist() == [[2.0, 2.0]] * 3
    x = base()
    v = x.view(3, 2)
    v.t_()
    v.mul_(3)
    assert v._is_view() and v._base is x
    x.sum().backward()


def test_resizing_counts_as_a_change():
    x = tg.rand(1)
    x.resize_((1, 2))
    assert x._version == 1
    x.resize_as_(tg.rand(3))
    assert x._version == 2
    x.resize_((3,))
    assert x._version == 2
    x.resize_(2)
    assert x._version == 3


# --- inference mode -----------------------------------------------------------------------------------------------------
def test_inference_tensors_stay_what_they_are():
    with tg.inference_mode():
        x = tg.ones(1, 2, 3, requires_grad=True)
        for change in (lambda t: t.transpose_(0, 1), lambda t: t.unsqueeze_(0), lambda t: t.resize_(1, 2), lambda t: t.copy_(tg.ones(1, 2))):
            change(x)
            assert x.is_inference() and x.requires_grad
        v = x.view(-1)
        assert v.is_inference() and not v.requires_grad and not v._is_view()
        assert all(t.is_inference() for t in x.split(1))
    v = x.view(-1)
    assert v.is_inference() and not v.requires_grad and not v._is_view() and v.is_leaf
    for change in (lambda t: t.t_(), lambda t: t.resize_(3), lambda t: t.zero_()):
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode is not allowed"):
            change(x.detach())
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor outside InferenceMode"):
        tg.nn.Parameter(x)


@pytest.mark.parametrize(
    "use",
    [
        lambda w, x: w @ x["value"].T,
        lambda w, x: tg.nn.functional.mse_loss(w, x["value"]),
        lambda w, x: w[x["rows"]],
        lambda w, x: w.gather(1, x["columns"]),
        lambda w, x: tg.where(x["mask"], w, w),
        lambda w, x: tg.addcmul(x["value"], w, x["value"]),
        lambda w, x: w.clone().mul_(x["value"]),
    ],
)
def test_inference_tensors_are_not_saved(use):
    with tg.inference_mode():
        value = tg.zeros(2, 3)
        x = {"value": value, "rows": value[0].long(), "columns": value.long(), "mask": value > 0}
    w = tg.ones(2, 3, requires_grad=True)
    assert (w + value).requires_grad
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        use(w, x)


def test_numpy_of_a_tensor_that_requires_grad_in_no_grad_mode():
    x = tg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="Can't call numpy"):
        x.numpy()
    with tg.no_grad():
        assert x.numpy().tolist() == [1.0, 1.0]


def test_no_gradient_reaches_a_view_made_in_no_grad_mode():
    x = tg.ones(2, requires_grad=True)
    with tg.no_grad():
        v = x.view(2)
        assert not (v * 2).requires_grad and not v.detach().requires_grad and v.view(1, 2).requires_grad
    v.sum().backward()
    assert x.grad is None and v.grad is None
    assert (v * x).grad_fn.next_functions[0] == (None, 0)
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        v.backward(tg.ones(2))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="The differentiated Tensor at index 0 appears to not have been used"):
            tg.autograd.grad((v * x).sum(), [v])
    assert tg.autograd.grad((v * x).sum(), [x])[0].tolist() == [1.0, 1.0]
