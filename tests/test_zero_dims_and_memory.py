"""Owns corners where sizes and memory meet: 0-d indices beside 1-d tensors, empty views, `out=` whose dtype, layout or owner matters."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import tapegrad as tg

ZERO = tg.tensor(0)
ONE = tg.tensor(1)
X = [1.0, 2.0, 3.0]


def scatter_cases():
    """Per form: what is written at place 1 of (1, 2, 3), and the gradients of the weighted sum for the tensor and the source."""
    yield "scatter", lambda x, s: x.scatter(0, ONE, s), [1.0, 5.0, 3.0], [1.0, 0.0, 3.0], 2.0
    yield "scatter_add", lambda x, s: x.scatter_add(0, ONE, s), [1.0, 7.0, 3.0], [1.0, 2.0, 3.0], 2.0
    yield "scatter_reduce", lambda x, s: x.scatter_reduce(0, ONE, s, "prod"), [1.0, 10.0, 3.0], [1.0, 10.0, 3.0], 4.0


@pytest.mark.parametrize(("name", "call", "expected", "g_x", "g_s"), list(scatter_cases()), ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_0d_index_writes_one_place(name, call, expected, g_x, g_s, shape):
    for _ in range(3):
        x = tg.tensor(X, requires_grad=True)
        s = tg.full(shape, 5.0, requires_grad=True)
        y = call(x, s)
        assert y.tolist() == expected
        (y * tg.tensor([1.0, 2.0, 3.0])).sum().backward()
        assert x.grad.tolist() == g_x
        assert s.grad.reshape(()).item() == g_s and s.grad.shape == s.shape


def test_a_0d_index_picks_one_number():
    for _ in range(3):
        x = tg.tensor(X, requires_grad=True)
        y = x.gather(0, ONE)
        assert y.shape == () and y.item() == 2.0
        y.backward()
        assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_a_0d_source_for_one_index_in_a_vector():
    for _ in range(3):
        x, s = tg.tensor(X, requires_grad=True), tg.tensor(5.0, requires_grad=True)
        y = x.scatter(0, tg.tensor([2]), s)
        assert y.tolist() == [1.0, 2.0, 5.0]
        y.sum().backward()
        assert x.grad.tolist() == [1.0, 1.0, 0.0] and s.grad.shape == () and s.grad.item() == 1.0
    assert tg.tensor(X).scatter(0, tg.tensor([], dtype=tg.int64), tg.tensor(5.0)).tolist() == X
    with pytest.raises(RuntimeError, match=r"Expected index \[2\] to be no larger than self \[3\] apart from dimension 0 and to be no larger size than src \[\]"):
        tg.tensor(X).scatter(0, tg.tensor([0, 1]), tg.tensor(5.0))


@pytest.mark.parametrize(("shape", "sizes", "text"), [
    ((), [1], "Dimension specified as 0 but tensor has no dimensions"),
    ((0,), (2, -1, 0), r"cannot reshape tensor of 0 elements into shape \[2, -1, 0\] because the unspecified dimension size -1 can be any value"),
    ((3,), (3, -2), r"invalid shape dimension -2 at index 1 of shape \[3, -2\]"),
    ((4,), (-1, -1), "only one dimension can be inferred"),
])  # fmt: skip
def test_unflatten_refuses(shape, sizes, text):
    with pytest.raises(RuntimeError, match="unflatten got an unexpected error:\n" + text):
        tg.ones(shape).unflatten(0, sizes)


def test_permutations_of_all_that_a_dtype_holds():
    for n, d in ((256, tg.uint8), (128, tg.int8), (32768, tg.int16), (2049, tg.float16)):
        assert tg.randperm(n, dtype=d).long().sort().values.tolist() == list(range(n))
    for n, d in ((257, tg.uint8), (129, tg.int8), (32769, tg.int16)):
        with pytest.raises(RuntimeError, match="value cannot be converted to type"):
            tg.randperm(n, dtype=d)


def test_empty_views_hold_nothing_twice():
    t = tg.from_numpy(np.empty((0, 4)))
    t[:, 1::2] *= 1
    assert t.shape == (0, 4)
    assert tg.empty(0, 4).expand(3, 0, 4).add_(1).shape == (3, 0, 4)


# --- out= -----------------------------------------------------------------------------------------------------------
DRAWS = {
    "rand": (lambda out: tg.rand(20, out=out), lambda t: t.uniform_(), tg.float64),
    "rand complex": (lambda out: tg.rand(20, out=out), lambda t: t.uniform_(), tg.complex64),
    "randn": (lambda out: tg.randn(20, out=out), lambda t: t.normal_(), tg.float64),
    "randn complex": (lambda out: tg.randn(20, out=out), lambda t: t.normal_(), tg.complex128),
    "randint": (lambda out: tg.randint(3, 9, (20,), out=out), lambda t: t.random_(3, 9), tg.int16),
    "normal": (lambda out: tg.normal(1.0, 2.0, (20,), out=out), lambda t: t.normal_(1.0, 2.0), tg.float64),
    "normal of tensors": (lambda out: tg.normal(tg.zeros(20), tg.ones(20), out=out), lambda t: t.normal_(), tg.float64),
}


@pytest.mark.parametrize("name", DRAWS)
def test_out_decides_what_is_drawn(name):
    into, in_place, d = DRAWS[name]
    tg.manual_seed(3)
    expected = in_place(tg.empty(20, dtype=d))
    tg.manual_seed(3)
    out = tg.empty(20, dtype=d)
    assert into(out) is out
    assert tg.equal(out, expected)


def test_draws_refuse_out():
    with pytest.raises(NotImplementedError, match="\"check_uniform_bounds\" not implemented for 'Int'"):
        tg.rand(3, out=tg.empty(3, dtype=tg.int32))
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        tg.randn(3, out=tg.empty(3, requires_grad=True))


def test_an_empty_out_lies_in_memory_as_the_result():
    x = tg.rand(2, 3, 4).permute(1, 0, 2)
    for _ in range(3):
        assert tg.eq(x, x, out=tg.empty(0, dtype=tg.bool)).stride() == (4, 12, 1)
        assert tg.exp(x, out=tg.empty(0)).stride() == (4, 12, 1)
        out = tg.empty(0)
        assert tg.equal(tg.add(x, x, out=out), x + x) and out.stride() == (4, 12, 1)
        assert tg.sum(x, 0, out=tg.empty(0)).stride() == (4, 1)


# --- memory that NumPy looks into -----------------------------------------------------------------------------------
def test_memory_lent_to_numpy_is_not_resized():
    for look in (lambda t: t.numpy(), np.asarray, lambda t: t[1:].detach().numpy()):
        x = tg.arange(5.0)
        assert x.untyped_storage().resizable()
        array = look(x)
        assert not x.untyped_storage().resizable()
        for resize in (lambda x=x: x.resize_(1000), lambda x=x: x.untyped_storage().resize_(1000)):
            with pytest.raises(RuntimeError, match="Trying to resize storage that is not resizable"):
                resize()
        assert x.resize_(2).tolist() == [0.0, 1.0] and array[-1] == 4.0
    x = tg.empty(0)
    x.numpy()
    with pytest.raises(RuntimeError, match="Trying to resize storage that is not resizable"):
        tg.add(tg.ones(3), 1, out=x)


def test_lent_memory_is_given_back():
    for _ in range(3):
        tg.empty(37).numpy()
    assert tg.empty(37).untyped_storage().resizable()


def test_asarray_makes_its_argument_require_grad():
    x = tg.ones(2)
    assert tg.asarray(x, requires_grad=True) is x and x.requires_grad


# --- starting -------------------------------------------------------------------------------------------------------
def test_a_start_that_was_interrupted_begins_again():
    program = """
import tapegrad as tg
from tapegrad.engine import bind
engine = bind.Engine
def interrupted(*args):
    raise KeyboardInterrupt
bind.Engine = interrupted
for _ in range(2):
    try:
        tg.zeros(2)
    except KeyboardInterrupt:
        pass
bind.Engine = engine
print((tg.zeros(2) + 1).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[1.0, 1.0]\n", done.stderr


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_storage_is_one_object_as_long_as_someone_has_it():
    import gc
    import weakref

    x = tg.arange(4.0)
    storage = x.untyped_storage()
    storage.note = "mine"
    assert x[1:].untyped_storage() is storage
    assert x.detach().untyped_storage() is storage
    assert x.storage().untyped() is storage
    assert tg.arange(4.0).untyped_storage() is not storage
    assert x.clone().untyped_storage() is not storage
    gone = weakref.ref(storage)
    del storage
    gc.collect()
    assert gone() is None
    for k in range(50):  # memory that is used again has a storage of its own
        y = tg.full((3,), float(k))
        kept = y.untyped_storage()
        assert not hasattr(kept, "note")
        assert kept.nbytes() == 12
        assert tg.tensor([]).set_(kept, 0, (3,)).tolist() == [k] * 3
