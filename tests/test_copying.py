"""Pickles, shallow and deep copies of tensors: what they keep, and what they share."""

import copy
import pickle

import pytest

import tapegrad as tg
from tapegrad import nn


def through_pickle(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("again", [through_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "x",
    [
        tg.arange(6.0).view(2, 3).t(), tg.arange(6.0)[2:4], tg.ones(1).expand(3), tg.zeros(0, 3), tg.tensor(1.5, dtype=tg.bfloat16),
        tg.tensor([1 + 2j]), tg.tensor([True, False]), tg.arange(24).view(2, 3, 4)[:, ::2, 1:],
    ],
)  # fmt: skip
def test_values_and_layout(again, x):
    y = again(x)
    assert y is not x and y.equal(x) and y.dtype is x.dtype and (y.shape, y.stride(), y.storage_offset()) == (x.shape, x.stride(), x.storage_offset())


class Named(tg.Tensor):
    pass


@pytest.mark.parametrize("again", [through_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [lambda: tg.ones(2), lambda: nn.Parameter(tg.ones(2)), lambda: tg.ones(2).as_subclass(Named)])
def test_attributes(again, make):
    x = make().requires_grad_()
    x.tag = [1]
    y = again(x)
    assert type(y) is type(x) and y.requires_grad and y.is_leaf and y.tolist() == [1, 1]
    if type(x) is nn.Parameter and again is copy.deepcopy:
        assert not hasattr(y, "tag")  # as in torch
    else:
        assert y.tag == [1] and (y.tag is x.tag) == (again is copy.copy)


def test_pickles():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(tg.arange(3.0), protocol)).tolist() == [0, 1, 2]
    y = tg.ones(2, requires_grad=True) * 2
    assert through_pickle(y).is_leaf and through_pickle(y).requires_grad
    a, b = through_pickle((x := tg.arange(2.0), x))
    assert a is b
    hooked = tg.ones(2, requires_grad=True)
    hooked.register_hook(lambda g: g)
    with pytest.warns(UserWarning, match="backward hook .* on tensor will not be serialized"):
        pickle.dumps(hooked)


def test_shallow_copies_share_memory_and_leave_the_graph():
    x = tg.ones(2, requires_grad=True) * 2
    y = copy.copy(x)
    assert y.is_leaf and y.requires_grad and y.grad_fn is None
    a = tg.zeros(3)
    copy.copy(a)[0] = 5
    assert a.tolist() == [5, 0, 0]


def test_deep_copies_share_what_was_shared():
    x = tg.arange(4.0)
    a, b, c = copy.deepcopy((x, x[1:3], x))
    a[1] = 9
    assert b.tolist() == [9, 2] and a is c and x.tolist() == [0, 1, 2, 3]
    leaf = tg.ones(2, requires_grad=True)
    leaf.grad = tg.full((2,), 3.0)
    y, g = copy.deepcopy([leaf, leaf.grad])
    assert y.grad.tolist() == [3, 3] and y.grad is not leaf.grad
    g[0] = 7
    assert y.grad.tolist() == [7, 3]
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(leaf * 2)


def test_an_array_holds_the_tensor_it_looks_into():
    arrays = [(tg.full((4096,), float(k)) + 0)._array() for k in range(20)]
    assert all((array == k).all() for k, array in enumerate(arrays))


def test_public_functions_are_pickled_by_name():
    """As in torch, a function may be sent to another process."""
    tg.ones(1)
    for name in dir(tg):
        f = getattr(tg, name)
        if callable(f) and not isinstance(f, type) and not name.startswith("_"):
            assert f.__name__.isidentifier(), name
            assert pickle.loads(pickle.dumps(f)) is f, name
