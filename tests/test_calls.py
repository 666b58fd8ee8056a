"""Owns the call cache: what it must tell apart, and that an answered call is the call of Python."""

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import modes
from tapegrad.ops import plan as plans

ROUNDS = range(3)  # the first call teaches, some only the second; the others are answered


def test_arguments_are_told_apart():
    x = tg.arange(24.0).reshape(2, 3, 4)
    for _ in ROUNDS:
        assert x.sum(1).shape == (2, 4) and x.sum((1,)).shape == (2, 4) and x.sum(1, True).shape == (2, 1, 4)
        assert x.sum(dim=1, keepdim=True).shape == (2, 1, 4) and x.sum(keepdim=True, dim=0).shape == (1, 3, 4)
        assert x[1].shape == (3, 4) and x[1:].shape == (1, 3, 4) and x[1, None].shape == (1, 3, 4) and x[..., 1].shape == (2, 3)
        assert x[(0, 1)].shape == (4,) and x[[0, 1]].shape == (2, 3, 4) and x[True].shape == (1, 2, 3, 4)
        assert [p.shape[1] for p in x.split(2, 1)] == [2, 1] and [p.shape[1] for p in x.split([1, 2], 1)] == [1, 2]
        assert x.argmax().item() == 23 and x.max(2).indices.tolist() == [[3] * 3] * 2


def test_zeros_of_either_sign_and_bools_are_not_numbers():
    for _ in ROUNDS:
        assert np.signbit(tg.tensor([-0.0]).numpy()[0]) and not np.signbit(tg.tensor([0.0]).numpy()[0])
        assert tg.tensor([1]).dtype is tg.int64 and tg.tensor([True]).dtype is tg.bool and tg.tensor([1.0]).dtype is tg.float32


def test_a_list_is_its_items():
    parts = [tg.ones(2), tg.zeros(2)]
    data = [1.0, 2.0]
    for k in ROUNDS:
        assert tg.cat(parts).shape == (4 + 2 * k,)
        parts.append(tg.ones(2))
        assert tg.tensor(data).tolist() == data
        data[0] += 1.0


def test_numbers_are_operands():
    x, mask = tg.arange(4.0), tg.tensor([True, False, True, False])
    for k in range(5):
        assert tg.where(mask, x, k + 0.5).tolist() == [0.0, k + 0.5, 2.0, k + 0.5]
        assert x.clamp(min=k * 0.5).tolist() == [max(v, k * 0.5) for v in range(4)]
        assert x.clamp(max=2.0, min=1.0 + 0.1 * k).max().item() == 2.0
        assert x.add(x, alpha=k).tolist() == [(1 + k) * v for v in range(4)]
        y = x.clone()
        y[1] = k + 0.25
        y[mask] = float(-k)
        assert y.tolist() == [-k, k + 0.25, -k, 3.0]
        assert y.fill_(k).tolist() == [float(k)] * 4


def test_a_number_too_large_for_the_dtype_is_refused_each_time():
    x, mask = tg.zeros(2), tg.tensor([True, False])
    for _ in ROUNDS:
        assert x.masked_fill(mask, 1.0).tolist() == [1.0, 0.0]
        with pytest.raises(RuntimeError, match="overflow"):
            x.masked_fill(mask, 1e300)


def test_a_bool_target_takes_the_truth_of_a_number():
    for _ in ROUNDS:
        x = tg.zeros(3, dtype=tg.bool)
        x[tg.tensor([0, 2])] = 5
        assert x.view(tg.uint8).tolist() == [1, 0, 1]


def test_made_tensors_are_new_and_leaves_only_if_asked():
    for _ in ROUNDS:
        a = tg.zeros(3)
        a[0] = 5.0
        assert tg.zeros(3).tolist() == [0.0] * 3 and not tg.zeros(3).requires_grad and tg.zeros(3, requires_grad=True).requires_grad
        b = tg.tensor([1.0, 2.0])
        b.zero_()
        assert tg.tensor([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_the_default_dtype_is_no_argument():
    for _ in ROUNDS:
        assert tg.zeros(2).dtype is tg.float32 and tg.tensor([0.5]).dtype is tg.float32
    tg.set_default_dtype(tg.float64)
    try:
        assert tg.zeros(2).dtype is tg.float64 and tg.tensor([0.5]).dtype is tg.float64
    finally:
        tg.set_default_dtype(tg.float32)
    assert tg.zeros(2).dtype is tg.float32


def test_indices_out_of_range_are_refused_by_answered_calls():
    x, index = tg.arange(6.0).reshape(2, 3), tg.tensor([0, 1])
    for _ in ROUNDS:
        assert x[index].shape == (2, 3) and x.gather(1, index.reshape(2, 1)).shape == (2, 1) and x.index_select(0, index).shape == (2, 3)
    far = tg.tensor([0, 3])
    before = x.clone()
    for _ in ROUNDS:
        with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 2"):
            x[far]
        with pytest.raises(IndexError, match="out of bounds"):
            x[far] = 1.0
        with pytest.raises(IndexError, match="index out of range in self"):
            x.index_select(0, far)
        with pytest.raises(RuntimeError, match="out of bounds"):
            x.gather(1, far.reshape(2, 1))
    assert x.equal(before)


@pytest.mark.parametrize(
    "write",
    [lambda x: x.zero_(), lambda x: x.fill_(2.0), lambda x: x.copy_(tg.ones(3)), lambda x: x.__setitem__(0, 1.0), lambda x: x.clamp_(0.0, 1.0),
     lambda x: x.__setitem__(tg.tensor([0]), 1.0), lambda x: x.index_add_(0, tg.tensor([0]), tg.ones(1)), lambda x: x.add_(tg.ones(3), alpha=2)],
)  # fmt: skip
def test_writes_are_refused_on_leaves_and_seen_by_versions(write):
    leaf, plain = tg.ones(3, requires_grad=True), tg.ones(3)
    for _ in ROUNDS:
        with tg.no_grad():
            write(leaf)
        write(plain)
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write(leaf)
        version = plain._version
        write(plain)
        assert plain._version == version + 1
        x = tg.ones(3, requires_grad=True)
        y = x * 2.0
        loss = (y * y).sum()
        write(y.detach())
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_writes_through_views_reach_the_base():
    for _ in ROUNDS:
        x = tg.zeros(3, 4)
        x[:, 1].zero_()
        x[1].fill_(2.0)
        x.t()[0] = tg.ones(3)
        x[:, ::2][2] = 7.0
        assert x.tolist() == [[1, 0, 0, 0], [1, 2, 2, 2], [7, 0, 7, 0]]


def test_a_result_that_another_operation_touched_is_not_taught():
    from tapegrad.planned import teaching

    x = tg.arange(3.0)
    found = []
    answered, plans.answered = plans.answered, lambda *args: found.append(answered(*args)) or found[-1]
    try:
        for program in (lambda x: -x.reshape(3, 1).reshape(3), lambda x: x.neg().reshape(3, 1), lambda x: x.reshape(3, 1).neg()):
            teaching(program, 0)(x)
            assert found[-1] is None
        teaching(lambda x: x.reshape(3, 1), 0)(x)
        assert found[-1] is not None
    finally:
        plans.answered = answered


def test_what_depends_on_the_place_in_memory_is_not_taught():
    """The same shape and strides in another memory: what fits one is beyond the other, or not aligned."""
    memory = tg.arange(10.0)
    for _ in ROUNDS:
        assert memory[:4].as_strided((8,), (1,)).tolist() == list(range(8)) and memory[2:4].as_strided((2,), (1,), 0).tolist() == [0.0, 1.0]
        assert tg.view_as_complex(memory[2:6].view(2, 2)).tolist() == [2 + 3j, 4 + 5j] and memory[2:4].view(tg.int64).shape == (1,)
    with pytest.raises(RuntimeError, match="storage offset 0, and itemsize 4 requiring a storage size of 32 are out of bounds for storage of size 16"):
        tg.arange(4.0).as_strided((8,), (1,))
    assert memory[4:6].as_strided((2,), (1,), 0).tolist() == [0.0, 1.0]
    with pytest.raises(RuntimeError, match="storage_offset divisible by 2"):
        tg.view_as_complex(memory[3:7].view(2, 2))
    with pytest.raises(RuntimeError, match="storage_offset.. must be divisible by 2 to view Float as Long .different element sizes., but got 3"):
        memory[3:5].view(tg.int64)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_elements_out_of_bounds_are_refused_by_answered_calls(reduction):
    loss = lambda x: tg.nn.functional.binary_cross_entropy(x, tg.tensor([0.5, 1.0]), reduction=reduction)
    for _ in ROUNDS:
        assert loss(tg.tensor([0.25, 1.0])).isfinite().all()
    for bad in (1.5, -0.5, float("nan")):
        with pytest.raises(RuntimeError, match="all elements of input should be between 0 and 1"):
            loss(tg.tensor([0.25, bad]))


def test_calls_that_look_before_they_run_one_plan_are_not_taught():
    from tapegrad.planned import teaching

    def looks(x):
        if x.min().item() < 0:
            raise ValueError
        return x.t()

    def writes(x):
        with tg.no_grad():
            x.clamp_(max=1.0)
        return x.t()

    looking, writing, viewing = teaching(looks, 0), teaching(writes, 0), teaching(lambda x: x.t(), 0)
    x, large = tg.ones(2, 2), [tg.full((2, 2), 2.0) for _ in ROUNDS]
    found = []
    remember, plans.remember = plans.remember, lambda plan, teach: found.append(plan)
    try:
        for y in large:
            looking(x)
            writing(y)
        assert not found
        viewing(x)
        assert found
    finally:
        plans.remember = remember


def test_copies_taught_without_a_gradient_are_recorded_as_themselves():
    for _ in ROUNDS:
        tg.ones(4).unsafe_split(2)
    assert [part.grad_fn.name() for part in tg.ones(4, requires_grad=True).unsafe_split(2)] == ["UnsafeSplitBackward0"] * 2


def test_gradients_of_answered_calls():
    x = tg.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5]], dtype=tg.float64)
    index = tg.tensor([1, 0, 1])
    programs = [
        lambda x: tg.cat((x, x[:1] * 2), 0), lambda x: tg.stack([x[0], x[1]], 1), lambda x: x.softmax(1), lambda x: x.cumsum(0), lambda x: x.max(1).values,
        lambda x: x[index], lambda x: x.std(1), lambda x: x.permute(1, 0).logsumexp(0), lambda x: x.roll(1, 1), lambda x: x.flip(0), lambda x: x.prod(1),
    ]  # fmt: skip
    for program in programs:
        for _ in ROUNDS:
            tg.autograd.gradcheck(program, x.clone().requires_grad_())


def test_a_function_that_calls_another_served_one_is_taught_too():
    plans.forget()  # whatever other tests have taught
    a, b = tg.ones(3, 5), tg.ones(5, 3)
    for _ in ROUNDS:
        a.mm(b)
    taught = []
    remember, plans.remember = plans.remember, lambda plan, teach: (taught.append(plan), remember(plan, teach))
    try:
        for _ in ROUNDS:
            tg.matmul(a, b)
    finally:
        plans.remember = remember
    assert taught and len(taught) <= 2  # at the first call alone


def test_an_interruption_while_the_cache_is_taught_does_not_switch_it_off(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    x = tg.ones(4, 9)
    monkeypatch.setattr(plans, "forget_last", interrupted)
    with pytest.raises(KeyboardInterrupt):
        x.logsumexp(1)
    monkeypatch.undo()
    assert not modes.word() & modes.TEACHING


def test_deprecated_forms_are_taken_with_a_warning():
    """torch's forms of old, with the factors before what they multiply."""
    x, m, b = tg.tensor([1.0, 2.0]), tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.ones(1, 2, 2)
    calls = {
        "add": (lambda: tg.add(x, 2, x), 3 * x), "Tensor.add": (lambda: x.add(2, x), 3 * x), "sub": (lambda: x.sub(2, 3), x - 6),
        "addmm": (lambda: tg.addmm(2, m, 3, m, m), 2 * m + 3 * m @ m), "Tensor.addmm": (lambda: m.addmm(2, m, m), 2 * m + m @ m),
        "addmv": (lambda: tg.addmv(2, x, m, x), 2 * x + m @ x), "addcmul": (lambda: tg.addcmul(x, 2, x, x), x + 2 * x * x),
        "addcdiv": (lambda: x.addcdiv(2, x, x), x + 2), "addbmm": (lambda: tg.addbmm(2, m, b, b), 2 * m + 2), "baddbmm": (lambda: b.baddbmm(2, b, b), b * 4),
        "add_": (lambda: x.clone().add_(2, x), 3 * x), "addr": (lambda: tg.addr(2, m, 3, x, x), 2 * m + 3 * x[:, None] * x),
    }  # fmt: skip
    for name, (call, expected) in calls.items():
        with pytest.warns(UserWarning, match=f"This overload of {name.rpartition('.')[2]} is deprecated"):
            assert call().equal(expected), name
    assert tg.add(input=x, alpha=2, other=x).equal(3 * x)  # all by keyword: today's form
    with pytest.raises(TypeError, match=r"add\(\) takes 2 positional arguments but 3 were given"):
        tg.add(x, x, 2)
