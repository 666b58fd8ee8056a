"""Owns `out=` beside the elementwise operations: results land in the tensor given, and what torch refuses is refused."""

from __future__ import annotations

import pytest

import tapegrad as tg

M = tg.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
I = tg.tensor([0, 1, 1])  # noqa: E741
V = tg.tensor([1.0, 2.0, 3.0])
CALLS = {
    "diag": (M,),
    "tril": (M,),
    "triu": (M,),
    "index_select": (M, 0, I),
    "gather": (M, 0, I.reshape(1, 3)),
    "take": (M, I),
    "masked_select": (M, M > 2),
    "nonzero": (M,),
    "argmax": (M, 1),
    "argmin": (M,),
    "max": (M,),
    "min": (M,),
    "softmax": (M, 1),
    "log_softmax": (M, 1),
    "addcmul": (M, M, M),
    "addcdiv": (M, M, M + 1),
    "outer": (V, V),
    "hstack": ([M, M],),
    "vstack": ([M, M],),
    "chain_matmul": (M,),
    "index_add": (M, 0, I, M),
    "index_copy": (M, 0, tg.tensor([2, 0, 1]), M),
    "scatter": (M, 0, I.reshape(1, 3), M),
    "scatter_add": (M, 0, I.reshape(1, 3), M),
    "eye": (3,),
    "linspace": (0, 5, 3),
    "range": (0, 5),
}


@pytest.mark.filterwarnings("ignore:torch.range")
@pytest.mark.parametrize("name", CALLS)
def test_the_result_is_stored_in_out(name):
    f = getattr(tg, name)
    expected = f(*CALLS[name])
    out = tg.empty(0, dtype=expected.dtype)
    assert f(*CALLS[name], out=out) is out
    assert out.shape == expected.shape and out.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["sort", "topk"])
def test_two_results_are_stored(name):
    args = (M,) if name == "sort" else (M, 2)
    out = tg.empty(0), tg.empty(0, dtype=tg.int64)
    result = getattr(tg, name)(*args, out=out)
    assert result.values is out[0] and result.indices is out[1]
    assert [x.tolist() for x in out] == [x.tolist() for x in getattr(tg, name)(*args)]
    with pytest.raises(RuntimeError, match="Expected out tensor to have dtype long int, but got int instead"):
        getattr(tg, name)(*args, out=(tg.empty(0), tg.empty(0, dtype=tg.int32)))


@pytest.mark.parametrize(
    "name, words",
    [
        ("diag", "Expected out tensor to have dtype float, but got double instead"),
        ("take", "expected to have the same dtype, but got self.dtype = Float and out.dtype = Double"),
    ],
)
def test_another_dtype_is_refused(name, words):
    with pytest.raises(RuntimeError, match=words):
        getattr(tg, name)(*CALLS[name], out=tg.empty(0, dtype=tg.float64))


def test_a_product_may_be_stored_wider_but_not_narrower():
    out = tg.empty(0, dtype=tg.float64)
    assert tg.outer(V, V, out=out).dtype is tg.float64
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        tg.addcmul(M, M, M, out=tg.empty(0, dtype=tg.int64))


@pytest.mark.parametrize("name", ["gather", "index_select", "tril", "take", "index_add"])
def test_no_gradient_passes_through_out(name):
    first, *rest = CALLS[name]
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        getattr(tg, name)(first.detach().requires_grad_(), *rest, out=tg.empty(0))


@pytest.mark.parametrize("make", [lambda **k: tg.eye(2, **k), lambda **k: tg.linspace(0, 1, 2, **k), lambda **k: tg.zeros(2, **k)])
def test_a_factory_takes_the_dtype_of_out(make):
    assert make(out=tg.empty(0, dtype=tg.int64)).dtype is tg.int64
    with pytest.raises(RuntimeError, match=r"dtype Double does not match dtype of out parameter \(Float\)"):
        make(out=tg.empty(0), dtype=tg.float64)


def test_gradients_are_refused_before_dtypes_but_where_the_dtype_is_looked_at_first():
    x, wide = tg.ones(4, requires_grad=True), tg.empty(0, dtype=tg.float64)
    for call in (lambda: tg.gather(x, 0, tg.tensor([0]), out=wide), lambda: tg.amax(x, 0, out=wide), lambda: tg.amin(x, 0, out=wide)):
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            call()
    with pytest.raises(RuntimeError, match="Expected the dtype for input and out to match, but got Float for input's dtype and Double for out's dtype"):
        tg.amax(x.detach(), 0, out=wide)
    with pytest.raises(RuntimeError, match="out tensor must be same dtype as the input tensor"):
        tg.quantile(x, 0.5, out=wide.requires_grad_())
    assert tg.softmax(x, 0, out=tg.empty(0)).tolist() == [0.25] * 4  # of an operand that requires a gradient, as copies are
