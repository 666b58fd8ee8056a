"""Owns calls that come down to several plans: what the call cache answers for them is what Python would have done."""

from __future__ import annotations

import sys
import warnings

import pytest

import tapegrad as tg
from tapegrad.nn import functional
from tapegrad.ops import plan as plans

PROGRAMS = {
    "hstack": lambda x, y, v: tg.hstack((x, y)), "vstack": lambda x, y, v: tg.vstack((x, v)), "swapaxes": lambda x, y, v: x.swapaxes(0, 1),
    "movedim": lambda x, y, v: x.movedim(0, 1), "tile": lambda x, y, v: v.tile((2, 2)), "repeat": lambda x, y, v: x.repeat(2, 1),
    "broadcast_to": lambda x, y, v: tg.broadcast_to(v, (2, 4)), "unflatten": lambda x, y, v: v.unflatten(0, (2, 2)), "ravel": lambda x, y, v: x.ravel(),
    "ravel of a transpose": lambda x, y, v: x.t().ravel(), "atleast_2d": lambda x, y, v: tg.atleast_2d(v), "atleast_1d": lambda x, y, v: tg.atleast_1d(x),
    "unfold": lambda x, y, v: v.unfold(0, 2, 1), "meshgrid": lambda x, y, v: tg.meshgrid(v, v, indexing="ij"), "tensor_split": lambda x, y, v: x.tensor_split(3),
    "hsplit": lambda x, y, v: x.hsplit(2), "to": lambda x, y, v: x.to(tg.float32), "to itself": lambda x, y, v: x.to(tg.float64), "float": lambda x, y, v: x.float(),
    "outer": lambda x, y, v: tg.outer(v, v), "inner": lambda x, y, v: tg.inner(x, v), "tensordot": lambda x, y, v: tg.tensordot(x, y, dims=1),
    "einsum": lambda x, y, v: tg.einsum("ij,jk->ik", x, y), "einsum twice": lambda x, y, v: tg.einsum("ij,kj->ik", x, x), "kron": lambda x, y, v: tg.kron(v, v),
    "einsum of a diagonal": lambda x, y, v: tg.einsum("ii->i", x), "matrix_power": lambda x, y, v: tg.linalg.matrix_power(x, 3),
    "multi_dot": lambda x, y, v: tg.linalg.multi_dot((x, y, x)), "trapezoid": lambda x, y, v: tg.trapezoid(v), "diff": lambda x, y, v: v.diff(),
    "cov": lambda x, y, v: tg.cov(x), "matmul of batches": lambda x, y, v: tg.matmul(x.view(2, 2, 4), y), "clip": lambda x, y, v: x.clip(0.2, 0.5),
    "linear": lambda x, y, v: functional.linear(x, y, v), "linear of a vector": lambda x, y, v: functional.linear(v, y), "mse_loss": lambda x, y, v: functional.mse_loss(x, y),
    "huber_loss": lambda x, y, v: functional.huber_loss(x, y), "kl_div": lambda x, y, v: functional.kl_div(x, y, reduction="batchmean"),
    "softmax": lambda x, y, v: functional.softmax(x, dim=1), "normalize": lambda x, y, v: functional.normalize(x, dim=1), "softplus": lambda x, y, v: functional.softplus(x),
    "cosine_similarity": lambda x, y, v: functional.cosine_similarity(x, y, dim=1), "pixel_shuffle": lambda x, y, v: functional.pixel_shuffle(x.view(1, 4, 2, 2), 2),
    "norm": lambda x, y, v: tg.linalg.norm(x), "vector_norm": lambda x, y, v: tg.linalg.vector_norm(x, dim=1), "index of a row": lambda x, y, v: x[1, tg.tensor([2, 0])],
    "cat of itself": lambda x, y, v: tg.cat((x, x)), "view of a view": lambda x, y, v: x.t().movedim(0, 1), "to a tensor's": lambda x, y, v: x.type_as(v.float()),
    "nansum": lambda x, y, v: x.nansum(), "glu": lambda x, y, v: functional.glu(x), "addmv": lambda x, y, v: tg.addmv(v, x, v), "vdot": lambda x, y, v: tg.vdot(v, x[0]),
    "aminmax": lambda x, y, v: tg.aminmax(x), "largest": lambda x, y, v: x.norm(float("inf")), "baddbmm": lambda x, y, v: tg.baddbmm(x[None], x[None], y[None]),
    "trace": lambda x, y, v: x.trace(), "roll": lambda x, y, v: x.roll(3), "var_mean": lambda x, y, v: tg.var_mean(x, 1), "sort": lambda x, y, v: y.sort(1),
    "sort downwards": lambda x, y, v: y.sort(0, descending=True), "topk": lambda x, y, v: y.topk(2), "smallest": lambda x, y, v: y.topk(2, 0, largest=False),
    "median": lambda x, y, v: y.median(), "medians": lambda x, y, v: y.median(1, keepdim=True), "kthvalue": lambda x, y, v: y.kthvalue(3, 0), "msort": lambda x, y, v: tg.msort(y),
    "list": lambda x, y, v: x[[2, 0, 2]], "lists": lambda x, y, v: x[[2, 0], [-1, 1]], "list behind": lambda x, y, v: x[:, [1, 1]], "nanmedian": lambda x, y, v: y.nanmedian(0),
}  # fmt: skip


def operands(requires_grad=True):
    square = tg.arange(16, dtype=tg.float64).reshape(4, 4)
    return [x.requires_grad_(requires_grad) for x in (square / 20 + 0.1, square * 7 % 11 / 11 + 0.05, tg.tensor([0.3, 0.1, 0.8, 0.4], dtype=tg.float64))]


def rounded(t):
    """The values up to the last digits, in which the kernels may differ from call to call."""
    return [0.0 + round(v, 9 if t.dtype is tg.float64 else 5) for v in t.detach().reshape(-1).tolist()]


def described(result, inputs):
    """What can be told of the result of a call: values, geometry, graph, views, gradients."""
    found = []
    for r in result if isinstance(result, tuple) else (result,):
        base = None if r._base is None else [k for k, x in enumerate(inputs) if x is r._base] or "another"
        node = r.grad_fn
        names = [node and node.name(), node and [n and n.name() for n, _ in node.next_functions]]
        found += [rounded(r), r.shape, r.stride(), r.dtype, r.requires_grad, r.is_leaf, base, names, any(r is x for x in inputs), r._is_view()]
    return type(result), found


def gradients(result, inputs):
    results = [r for r in (result if isinstance(result, tuple) else (result,)) if r.requires_grad]
    total = sum((r * r).sum() for r in results)
    first = tg.autograd.grad(total, inputs, create_graph=True, allow_unused=True)
    second = tg.autograd.grad(sum((g * g).sum() for g in first if g is not None), inputs, allow_unused=True)
    return [None if g is None else rounded(g) for g in (*first, *second)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_answered_as_python_does(name):
    plans.forget()
    inputs = operands()
    program = PROGRAMS[name]
    wanted = described(program(*inputs), inputs), gradients(program(*inputs), inputs)
    for _ in range(3):
        assert described(program(*inputs), inputs) == wanted[0]
    assert gradients(program(*inputs), inputs) == wanted[1]
    with tg.no_grad():
        served = described(program(*inputs), inputs)
        plans.forget()
        assert served == described(program(*inputs), inputs)
    free = operands(False)
    for _ in range(3):
        assert described(program(*free), free)[1][0] == wanted[0][1][0]


@pytest.mark.parametrize("name", PROGRAMS)
def test_taught_without_a_graph(name):
    """What was taught under no_grad is recorded later as if it had not been."""
    inputs = operands()
    plans.forget()
    wanted = described(PROGRAMS[name](*inputs), inputs)
    plans.forget()
    with tg.no_grad():
        for _ in range(3):
            PROGRAMS[name](*inputs)
    assert described(PROGRAMS[name](*inputs), inputs) == wanted


def test_a_chain_is_learnt():
    x, y = operands(False)[:2]
    functional.linear(x, y)
    found = []
    remember, plans.remember = plans.remember, lambda plan, teach: (found.append(plan), remember(plan, teach))
    plans.forget()
    try:
        for _ in range(5):
            tg.tensordot(x, y, dims=1)
        assert [p for p in found if "steps" in p.parameters]
        found.clear()
        tg.tensordot(x, y, dims=1)
        assert not found
    finally:
        plans.remember = remember


def test_the_same_tensor_twice_is_another_call():
    x, y, _ = operands(False)
    for a, b in ((x, x), (x, y), (y, x), (x, x), (y, y)):
        for _ in range(3):
            assert tg.equal(tg.tensordot(a, b, dims=1), a.mm(b))
            assert tg.equal(tg.hstack((a, b, a)), tg.cat((a, b, a), 1))


def test_what_depends_on_elements_is_not_learnt():
    def chosen(x):
        return x.t() if x[0, 0].item() > 0 else x * 2

    from tapegrad.planned import teaching

    taught = teaching(chosen, 0)
    x = tg.ones(2, 2)
    for _ in range(3):
        assert taught(x).tolist() == x.t().tolist()
    assert taught(-x).tolist() == (-x * 2).tolist()


def test_warnings_are_given_at_every_call():
    x, y = tg.ones(2, 3), tg.ones(2, 1)
    for _ in range(4):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            functional.mse_loss(x, y)
        assert len(caught) == 1


def test_a_refused_index_within_a_chain_is_an_error():
    x = tg.arange(12.0).reshape(3, 4)
    for _ in range(3):
        assert x[1, tg.tensor([3, 0])].tolist() == [7, 4]
    with pytest.raises(IndexError, match="out of bounds"):
        x[1, tg.tensor([4, 0])]


def test_what_is_written_to_is_not_part_of_a_chain():
    from tapegrad.planned import teaching

    def program(x):
        y = x * 2
        y += 1
        return y.t()

    taught = teaching(program, 0)
    for _ in range(3):
        assert taught(tg.ones(2, 2)).tolist() == [[3, 3], [3, 3]]


def test_a_call_that_cannot_be_learnt_is_tried_again_now_and_then():
    from tapegrad import planned

    tries = []
    taught = planned.teaching(lambda x: tries.append(tg.core.get_mode() & tg.modes.TEACHING) or tg.tensor(x.tolist()), 0)
    for _ in range(planned.PATIENCE + planned.RETRY + 2):
        taught(tg.ones(2))
    assert tries[0] and not tries[planned.PATIENCE] and any(tries[planned.PATIENCE :])


def test_order_of_short_rows():
    """Kernels for short rows against NumPy: NaN is the largest value, ties keep their order."""
    numpy = pytest.importorskip("numpy")
    nan, inf = float("nan"), float("inf")
    rows = [[3.0, nan, -1.0, 3.0, nan, 0.0], [inf, -inf, inf, 2.0, 2.0, -inf], [nan] * 6, [-0.0, 0.0, -0.0, 1.0, 1.0, 1.0]]
    for d in (tg.float64, tg.float32, tg.float16, tg.bfloat16):
        x = tg.tensor(rows, dtype=d)
        for t, dim in ((x, 1), (x.t().contiguous(), 0), (x.t(), 0), (x.repeat(1, 2), 1)):
            array = t.double().numpy()
            index = numpy.argsort(array, dim, kind="stable")
            assert t.sort(dim).indices.numpy().tolist() == index.tolist()
            numpy.testing.assert_array_equal(t.sort(dim).values.double().numpy(), numpy.take_along_axis(array, index, dim))
            down = t.shape[dim] - 1 - numpy.flip(numpy.argsort(numpy.flip(array, dim), dim, kind="stable"), dim)
            assert t.sort(dim, descending=True).indices.numpy().tolist() == down.tolist()
            assert t.topk(4, dim).indices.numpy().tolist() == numpy.take(down, range(4), dim).tolist()
            assert t.kthvalue(3, dim).indices.numpy().tolist() == numpy.take(index, 2, dim).tolist()
        assert x.median(1).indices.tolist() == [1, 3, 0, 2]
        assert x.nanmedian(1).values.tolist()[0] == 0.0 and x.nanmedian(1).values.isnan().tolist() == [False, False, True, False]
    for d in (tg.int64, tg.uint8, tg.int8):
        x = tg.tensor([[5, 1, 4, 1], [0, 0, 7, 2]], dtype=d)
        assert x.sort(1).values.tolist() == [[1, 1, 4, 5], [0, 0, 2, 7]] and x.sort(1).indices.tolist() == [[1, 3, 2, 0], [0, 1, 3, 2]]
        assert x.topk(2).values.tolist() == [[5, 4], [7, 2]]
    assert tg.tensor([True, False, True]).sort().indices.tolist() == [1, 0, 2]
    assert tg.tensor(3.0).sort().values.item() == 3.0 and tg.ones(3).topk(0).values.shape == (0,)


def call_often(call) -> None:
    """Until it is answered from memory: other tests may have used up the patience with calls of the same functions."""
    from tapegrad import planned

    for _ in range(2 * planned.RETRY):
        call()


def frames_of(call) -> list[str]:
    """The functions in Python that a call runs."""
    frames = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: frames.append(frame.f_code.co_name) if event == "call" else None)
    try:
        call()
    finally:
        sys.setprofile(before)
    return frames[1:]  # the first is `call`


def test_a_constant_that_another_function_has_made():
    """Constants are kept from call to call and shared by functions: who did not make one may be taught all the same."""
    x = tg.rand(3)
    functional.hardtanh(x, -1.25, 1.75)
    call_often(lambda: functional.softplus(x, 1.25, 1.75))
    assert not frames_of(lambda: functional.softplus(x, 1.25, 1.75))


def test_a_number_before_the_tensor_that_it_goes_with():
    """`where(mask, 1.0, x)`: the number takes the dtype of what comes behind it, and is found again whatever was called before."""
    mask, x = tg.tensor([True, False]), tg.tensor([1.0, 2.0], dtype=tg.float64)
    call_often(lambda: [tg.where(mask, x, x), tg.where(mask, 1.0, x)])
    frames = frames_of(lambda: [tg.where(mask, x, x), tg.where(mask, 1.0, x)])
    assert not frames
    assert tg.where(mask, 2.5, x).tolist() == [2.5, 2.0] and tg.where(mask, 2.5, tg.tensor([1, 2])).tolist() == [2.5, 2.0]
