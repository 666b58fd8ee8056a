"""Derivatives that do not exist: the results require grad, and a backward pass through them says why there is none."""

import pytest

import tapegrad as tg
from tapegrad.autograd.function import Function, once_differentiable

X = [3.0, 1.0, 1.0, 2.0]
PLACES = [0, 1, 1, 2]


def matrix():
    return tg.tensor([[3.0, 1.0], [1.0, 2.0]], requires_grad=True)


def ldl_solve(x):
    LD, pivots = tg.linalg.ldl_factor(tg.eye(4))
    return tg.linalg.ldl_solve(LD, pivots, x.unsqueeze(1))


UNKNOWN = [
    ("bincount", lambda x: tg.bincount(tg.tensor(PLACES), x)),
    ("histogram", lambda x: tg.histogram(x, 3).hist),
    ("histogram", lambda x: tg.histogram(x.detach(), 3, weight=x).hist),
    ("bernoulli", lambda x: tg.bernoulli(x, 0.5)),
    ("bernoulli", lambda x: x.bernoulli(0.5)),
    ("binomial", lambda x: tg.binomial(x, tg.full_like(x, 0.5))),
    ("linalg_ldl_solve", ldl_solve),
    ("floor_divide", lambda x: x // 2),
]
NOT_IMPLEMENTED = [
    ("_unique2", "Unique2Backward0", lambda x: tg.unique(x)),
    ("_unique2", "Unique2Backward0", lambda x: x.unique(return_counts=True)[0]),
    ("unique_dim", "UniqueDimBackward0", lambda x: tg.unique(x, dim=0)),
    ("unique_consecutive", "UniqueConsecutiveBackward0", lambda x: tg.unique_consecutive(x)),
    ("geqrf", "GeqrfBackward0", lambda x: tg.geqrf(x.reshape(2, 2)).tau),
]


@pytest.mark.parametrize("name, f", UNKNOWN)
def test_an_op_that_has_neither_derivative_nor_node(name, f):
    x = tg.tensor(X, requires_grad=True)
    for _ in range(3):  # a repeated call may be answered by compiled code
        out = f(x)
        assert out.requires_grad and type(out.grad_fn).__name__ == "NotImplemented"
        with pytest.raises(RuntimeError, match=f"^derivative for aten::{name} is not implemented$"):
            out.sum().backward()
    assert x.grad is None
    assert not f(x.detach()).requires_grad
    with tg.no_grad():
        assert not f(x).requires_grad


@pytest.mark.parametrize("name, node, f", NOT_IMPLEMENTED)
def test_an_op_whose_node_has_no_derivative(name, node, f):
    x = tg.tensor(X, requires_grad=True)
    for _ in range(3):
        out = f(x)
        assert type(out.grad_fn).__name__ == node
        with pytest.raises(NotImplementedError, match=f"^the derivative for '{name}' is not implemented.$"):
            out.sum().backward()
    assert not f(x.detach()).requires_grad


def test_places_and_counts_do_not_require_grad():
    _, inverse, counts = tg.unique(matrix(), return_inverse=True, return_counts=True)
    assert not inverse.requires_grad and not counts.requires_grad


@pytest.mark.parametrize("name, source, reduce", [("scatter_reduce", "src", tg.Tensor.scatter_reduce), ("index_reduce", "source", tg.Tensor.index_reduce)])
def test_a_product_by_index_of_two_zeros_has_no_second_derivative(name, source, reduce):
    index = tg.tensor([0, 0, 1])
    a = tg.tensor([0.0, 0.0, 2.0], requires_grad=True)
    out = reduce(tg.ones(3), 0, index, a, "prod")
    (g,) = tg.autograd.grad(out.sum(), a, create_graph=True)
    assert g.tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(RuntimeError, match=rf"^{name}\(\): Double backward is unsupported for {source} when >1 zeros in {source} are scattered to the same"):
        tg.autograd.grad(g.sum(), a)
    b = tg.tensor([0.0, 3.0, 2.0], requires_grad=True)  # one zero is no trouble
    (g,) = tg.autograd.grad(reduce(tg.ones(3), 0, index, b, "prod").sum(), b, create_graph=True)
    assert g.tolist() == [3.0, 0.0, 1.0]
    assert tg.autograd.grad(g.sum(), b)[0].tolist() == [1.0, 1.0, 0.0]


class Product(Function):
    @staticmethod
    def forward(ctx, x, number, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, None, g * x


def test_once_differentiable_gives_one_error_for_all_gradients():
    x, y = tg.tensor([2.0], requires_grad=True), tg.tensor([3.0], requires_grad=True)
    grads = tg.autograd.grad(Product.apply(x, 2, y).pow(2).sum(), [x, y], create_graph=True)
    assert [g.tolist() for g in grads] == [[36.0], [24.0]]
    assert grads[0].grad_fn is grads[1].grad_fn and type(grads[0].grad_fn).__name__ == "Error"
    assert [type(node).__name__ for node, _ in grads[0].grad_fn.next_functions] == ["AccumulateGrad", "NoneType", "AccumulateGrad"]
    with pytest.raises(RuntimeError, match="^trying to differentiate twice a function that was marked with @once_differentiable$"):
        grads[0].sum().backward()
