"""Owns the checks of ops that are not elementwise: values, layouts, gradients and second derivatives from one table of lambdas."""

from __future__ import annotations

import pytest
import support

import tapegrad as tg

A, B, V, T = (3, 4), (4, 2), (4,), (2, 3, 4)
CASES = {
    "sum": (lambda m, x: x.sum(), [A]), "sum dim": (lambda m, x: x.sum(0), [A]), "sum dims": (lambda m, x: x.sum((0, -1), keepdim=True), [T]),
    "sum of transposed": (lambda m, x: x.t().sum(1) * x.sum(0), [A]), "mean": (lambda m, x: x.mean() * x, [A]),
    "mean dims": (lambda m, x: x.mean((1, 2)) ** 2, [T]), "prod": (lambda m, x: x.prod(), [V]), "prod dim": (lambda m, x: x.prod(1, keepdim=True), [A]),
    "max": (lambda m, x: x.max() ** 2, [A]), "min": (lambda m, x: x.min() ** 2, [A]), "max dim": (lambda m, x: x.max(1)[0] ** 2, [A]),
    "max indices": (lambda m, x: x.max(1)[1], [A]), "min dim": (lambda m, x: x.min(0, keepdim=True)[0] ** 3, [A]),
    "amax": (lambda m, x: x.amax((0, 2)) ** 2, [T]), "amin": (lambda m, x: x.amin(1) ** 2, [A]), "argmax": (lambda m, x: x.argmax(1), [A]),
    "argmin": (lambda m, x: x.argmin(), [A]), "logsumexp": (lambda m, x: m.logsumexp(x, 1), [A]),
    "logsumexp dims": (lambda m, x: m.logsumexp(x, (0, 2), keepdim=True), [T]), "norm": (lambda m, x: x.norm(), [A]),
    "norm dim": (lambda m, x: x.norm(dim=1), [A]), "norm 3": (lambda m, x: x.norm(3), [A]), "norm 1": (lambda m, x: x.norm(1, dim=0), [A]),
    "var": (lambda m, x: x.var(), [A]), "var dim": (lambda m, x: x.var(1, unbiased=False, keepdim=True), [A]), "std": (lambda m, x: x.std(0), [A]),
    "cumsum": (lambda m, x: x.cumsum(1) ** 2, [A]), "cumprod": (lambda m, x: x.cumprod(0), [A]), "softmax": (lambda m, x: x.softmax(-1), [A]),
    "log_softmax": (lambda m, x: x.log_softmax(0), [A]),
    "matmul": (lambda m, x, y: x @ y, [A, B]), "matrix vector": (lambda m, x, y: x @ y, [A, V]), "vector matrix": (lambda m, x, y: x @ y, [V, B]),
    "dot": (lambda m, x, y: m.dot(x, y), [V, V]), "batched": (lambda m, x, y: x @ y, [T, B]), "batched broadcast": (lambda m, x, y: x @ y, [(2, 1, 3, 4), T[:1] + B]),
    "vector batch": (lambda m, x, y: x @ y, [(3,), T]), "mm": (lambda m, x, y: m.mm(x.t(), y), [(4, 3), B]), "mv": (lambda m, x, y: m.mv(x, y), [A, V]),
    "bmm": (lambda m, x, y: m.bmm(x, y), [T, (2, 4, 2)]), "outer": (lambda m, x, y: m.outer(x, y), [V, (3,)]),
    "addmm": (lambda m, c, x, y: m.addmm(c, x, y, beta=0.5, alpha=2), [(2,), A, B]), "einsum": (lambda m, x, y: m.einsum("bij,jk->bki", x, y), [T, B]),
    "gram": (lambda m, x: x @ x.t(), [A]), "strided matmul": (lambda m, x, y: x[:, ::2] @ y[::2], [A, B]),
    "reshape": (lambda m, x: x.reshape(2, -1) ** 2, [A]), "reshape copy": (lambda m, x: x.t().reshape(-1) ** 2, [A]), "view": (lambda m, x: x.view(4, 3) ** 2, [A]),
    "permute": (lambda m, x: x.permute(2, 0, 1) ** 2, [T]), "transpose": (lambda m, x: x.transpose(0, -1) ** 2, [T]), "t": (lambda m, x: x.t() ** 2, [A]),
    "expand": (lambda m, x: x.expand(2, -1, 4) ** 2, [(3, 1)]), "squeeze": (lambda m, x: x.squeeze() ** 2, [(1, 3, 1)]),
    "squeeze dim": (lambda m, x: x.squeeze(0) ** 2, [(1, 3, 1)]), "unsqueeze": (lambda m, x: x.unsqueeze(-1) ** 2, [A]),
    "flatten": (lambda m, x: x.flatten(1) ** 2, [T]), "cat": (lambda m, x, y: m.cat([x, y, x], 0) ** 2, [A, (1, 4)]), "stack": (lambda m, x, y: m.stack([x, y], 1) ** 2, [A, A]),
    "split": (lambda m, x: [p ** 2 for p in x.split(2)], [A]), "split sizes": (lambda m, x: [p ** 2 for p in x.split([1, 3], 1)], [A]),
    "chunk": (lambda m, x: [p ** 2 for p in x.chunk(3, 1)], [A]), "unbind": (lambda m, x: [p ** 2 for p in x.unbind(1)], [A]),
    "repeat": (lambda m, x: x.repeat(2, 1) ** 2, [A]), "flip": (lambda m, x: x.flip(0, 1) ** 2, [A]), "roll": (lambda m, x: x.roll(1, 0) ** 2, [A]),
    "tril": (lambda m, x: x.tril() ** 2, [A]), "triu": (lambda m, x: x.triu(1) ** 2, [A]), "diagonal": (lambda m, x: x.diagonal() ** 2, [A]),
    "diag": (lambda m, x: m.diag(x) ** 2, [V]), "row": (lambda m, x: x[1] ** 2, [A]), "negative": (lambda m, x: x[-1, 1:] ** 2, [A]), "step": (lambda m, x: x[::2, ::3] ** 2, [A]),
    "none and ellipsis": (lambda m, x: x[None, ..., 1] ** 2, [T]), "list": (lambda m, x: x[[0, 2, 0]] ** 2, [A]), "two lists": (lambda m, x: x[[0, 2], [1, 1]] ** 2, [A]),
    "mask": (lambda m, x: x[x > 0] ** 2, [A]), "mixed": (lambda m, x: x[:, [0, 1]] ** 2, [T]), "index_select": (lambda m, x: x.index_select(1, m.tensor([3, 0, 3])) ** 2, [A]),
    "gather": (lambda m, x: x.gather(1, m.tensor([[0, 0], [1, 3], [2, 2]])) ** 2, [A]), "take": (lambda m, x: m.take(x, m.tensor([0, 5, 5])) ** 2, [A]),
    "scatter_add": (lambda m, x, y: x.scatter_add(1, m.tensor([[0, 0], [1, 3], [2, 2]]), y) ** 2, [A, (3, 2)]),
    "scatter": (lambda m, x, y: x.scatter(1, m.tensor([[0, 1], [1, 3], [2, 0]]), y) ** 2, [A, (3, 2)]),
    "index_add": (lambda m, x, y: x.index_add(0, m.tensor([2, 2]), y) ** 2, [A, (2, 4)]), "masked_fill": (lambda m, x: x.masked_fill(x > 0, 0.5) ** 2, [A]),
    "where": (lambda m, x, y: m.where(x > 0, x * y, y) ** 2, [A, V]), "sort": (lambda m, x: x.sort(1)[0] ** 3, [A]), "topk": (lambda m, x: x.topk(2, 1)[0] ** 2, [A]),
    "addcmul": (lambda m, x, y, z: m.addcmul(x, y, z, value=0.5), [A, V, (3, 1)]), "lerp": (lambda m, x, y: m.lerp(x, y, 0.25) ** 2, [A, V]),
}  # fmt: skip


def _write(index, binary=False):
    def f(m, x, y):
        z = x * 2
        z[index] = y.sin()
        return z * z

    return f


WRITES = {
    "row": (1, V), "broadcast": (slice(None), V), "column": ((slice(None), 2), (3,)), "step": ((slice(None, None, 2), slice(1, 3)), (2, 2)),
    "list": ([0, 2], (2, 4)), "element": ((1, 2), ()), "everything": (Ellipsis, ()),
}  # fmt: skip
for _name, (_index, _shape) in WRITES.items():
    CASES["write " + _name] = (_write(_index), [A, _shape])


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name, rng):
    f, shapes = CASES[name]
    support.check_against_differences(f, support.random_arrays(shapes, rng), rng)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, dtype, rng, torch):
    f, shapes = CASES[name]
    arrays = [a.astype(dtype) for a in support.random_arrays(shapes, rng)]
    support.check_against_torch(f, arrays, rng, tolerance=1e-9 if dtype == "float64" else 2e-4)


@pytest.mark.torch
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("needs", ["10", "01", "11"])
def test_matmul_folds_where_torch_does(needs, turned, torch, rng):
    """Which operand a product holds on to shows when one is overwritten before the backward pass."""
    import tapegrad as tg

    def outcome(m, a, b, overwritten):
        operands = [m.tensor(v) for v in (a, b)]
        if turned:
            operands = [t.mT.contiguous().mT if t.ndim > 1 else t for t in operands]
        x, y = (t.requires_grad_() * 1 if n == "1" else t for t, n in zip(operands, needs, strict=True))
        out = m.matmul(x, y)
        (x, y)[overwritten].mul_(2)
        try:
            out.sum().backward()
        except RuntimeError as error:
            return str(error)[:90]
        return out.grad_fn.name()

    shapes = [((2, 3), (4, 3, 2)), ((4, 2, 3), (3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((4, 2, 3), (4, 3, 2)), ((5, 1, 2, 3), (4, 3, 2))]
    for a, b in shapes:
        a, b = rng.uniform(size=a), rng.uniform(size=b)
        for overwritten in (0, 1):
            assert outcome(tg, a, b, overwritten) == outcome(torch, a, b, overwritten), (a.shape, b.shape, overwritten)


TURNS = {
    "transpose_": lambda v: v.transpose_(0, 1), "t_": lambda v: v.t_(), "unsqueeze_": lambda v: v.unsqueeze_(0).squeeze_(0), "twice": lambda v: v.t_().unsqueeze_(1),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNS)
def test_a_view_turned_in_place_is_written_through(name, rng):
    """The base gets the new values, and the gradient, at the places that the turned view shows."""

    def f(m, x, y):
        base = x * 1
        view = base.view(2, 3)
        TURNS[name](view)
        view *= y.reshape(view.shape)
        return [base * base, view]

    arrays = [rng.uniform(-1, 1, 6), rng.uniform(1, 2, 6)]
    support.check_against_torch(f, arrays, rng)
    support.check_against_differences(f, arrays, rng)


@pytest.mark.parametrize("index,expected", [([[1, 2], [0, 3]], [4.0, 11.0]), ([slice(1, 3), 0], [4.0, 8.0]), ([None, 0], [[0.0, 1.0, 2.0, 3.0]]),
                                            ([[1, 2, 3], [0]], [4.0, 8.0, 12.0])])  # fmt: skip
def test_a_list_of_sequences_is_a_tuple_of_indices(index, expected):
    x = tg.arange(16.0).view(4, 4)
    with pytest.warns(UserWarning, match="Using a non-tuple sequence for multidimensional indexing"):
        assert x[index].tolist() == expected
    assert x[[0, 1]].shape == (2, 4)


def test_sizes_given_as_tensors_leave_no_trace():
    """A tensor among the sizes was interned as it was, and made (3,) and (2,) broadcast."""
    assert [x.tolist() for x in tg.ones(4).split(tg.tensor(2))] == [[1, 1], [1, 1]]
    assert all(type(size) is int for size in tg.ones(4).split(tg.tensor(2))[0].shape)
    with pytest.raises(RuntimeError, match="must match the size"):
        tg.ones(3) + tg.ones(2)
    assert repr(tg.empty(True + 1, 1).expand(2, True + 2).shape) == "tapegrad.Size([2, 3])"
    assert repr(tg.ones(11, True).shape) == "tapegrad.Size([11, 1])"


def test_sizes_below_zero_are_refused():
    for make in (lambda: tg.ones(1).expand(-5), lambda: tg.ones(2, 1).expand(-1, -3), lambda: tg.ones(()).expand(-1), lambda: tg.broadcast_to(tg.ones(1), (-2,))):
        with pytest.raises(RuntimeError, match="numel: integer multiplication overflow"):
            make()


def test_bytes_seen_as_another_dtype():
    """The memory and the version counter are shared, the graph is not; what does not fit is refused in PyTorch's words."""
    x = tg.ones(4, requires_grad=True)
    y = x * 1
    loss = (y * y).sum()
    seen = y.view(tg.int16)
    assert seen.shape == (8,) and not seen.requires_grad and y.view(tg.float32) is not y and not y.view(tg.float32).requires_grad
    seen.zero_()
    assert y._version == 1 and y.tolist() == [0.0] * 4
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert tg.zeros(3, 2)[:, :1].view(tg.int16).stride() == (4, 1) and tg.zeros(3, 6)[:, :2].view(tg.float64).stride() == (3, 1)
    for make, words in (
        (lambda: tg.tensor(1.0).view(tg.int8), "self.dim.. cannot be 0 to view Float as Char"),
        (lambda: tg.zeros(2, 3).view(tg.float64), "self.size.-1. must be divisible by 2 to view Float as Double .different element sizes., but got 3"),
        (lambda: tg.zeros(4, 4).t().view(tg.float64), "self.stride.-1. must be 1 to view Float as Double .different element sizes., but got 4"),
        (lambda: tg.zeros(2, 3)[:, :2].view(tg.complex64), "self.stride.0. must be divisible by 2 to view Float as ComplexFloat"),
    ):
        with pytest.raises(RuntimeError, match=words):
            make()
