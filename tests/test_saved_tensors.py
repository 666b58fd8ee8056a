"""Owns saved tensors: hooks that pack and unpack them, mutation contexts, and what nodes show of them."""

from __future__ import annotations

import contextlib
import gc
import random
import threading

import numpy as np
import pytest
import random_programs
import support

import tapegrad as tg

graph = tg.autograd.graph


class Log:
    """Hooks that note their calls by the position of the tensor among known ones."""

    def __init__(self, *known):
        self.known, self.calls = known, []

    def pack(self, t):
        place = next((str(k) for k, x in enumerate(self.known) if x is t), "out" if t.grad_fn is not None else "other")
        self.calls.append("pack " + place)
        return place, t.detach()

    def unpack(self, packed):
        self.calls.append("unpack " + packed[0])
        return packed[1]


CASES = {
    "mul": (lambda m, a, b: a * b, ["pack 1", "pack 0", "unpack 1", "unpack 0"]),
    "pow": (lambda m, a, b: a**b, ["pack 1", "pack 0", "pack out", "unpack 1", "unpack 0", "unpack out"]),
    "mm": (lambda m, a, b: a @ b, ["pack 1", "pack 0", "unpack 1", "unpack 0"]),
    "addmm": (lambda m, a, b: m.addmm(a, a, b), ["pack 0", "pack 1", "unpack 0", "unpack 1"]),
    "exp": (lambda m, a, b: a.exp(), ["pack out", "unpack out"]),
    "index": (lambda m, a, b: a[m.tensor([0, 1])], ["pack other", "unpack other"]),
    "where": (lambda m, a, b: m.where(m.tensor([True, False]), a, b), ["pack other", "unpack other"]),
    "scalar": (lambda m, a, b: a * 2, []),
    "add": (lambda m, a, b: a + b, []),
    "sum": (lambda m, a, b: a.sum(0), []),
    "prod": (lambda m, a, b: a.prod(), ["pack 0", "pack out", "unpack 0", "unpack out"]),
    "in place": (lambda m, a, b: (a * 1).exp_(), ["pack out", "unpack out"]),
    "softmax": (lambda m, a, b: a.softmax(-1), ["pack out", "unpack out"]),
}


def run_case(m, f, packed=True):
    a = m.tensor([[1.0, 2.0], [0.5, 3.0]], requires_grad=True)
    b = m.tensor([[2.0, 1.0], [1.5, 0.5]], requires_grad=True)
    log = Log(a, b)
    if packed:
        with m.autograd.graph.saved_tensors_hooks(log.pack, log.unpack):
            y = f(m, a, b)
    else:
        y = f(m, a, b)
    y.backward(m.ones_like(y))
    return log.calls, [None if t.grad is None else t.grad.tolist() for t in (a, b)]


@pytest.mark.parametrize("name", CASES)
def test_order_and_number_of_calls(name):
    f, expected = CASES[name]
    calls, gradients = run_case(tg, f)
    assert calls == expected
    assert gradients == run_case(tg, f, packed=False)[1]


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_order_and_number_of_calls_are_torchs(name, torch):
    assert run_case(torch, CASES[name][0])[0] == run_case(tg, CASES[name][0])[0]


def test_the_derivative_reads_what_the_hook_brings_back():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t * 10, lambda t: t):
        y = x * x
    y.sum().backward()
    assert x.grad.tolist() == [20.0, 40.0]


def test_packed_values_are_not_kept():
    x = tg.ones(1000, requires_grad=True)
    before = tg.memory.statistics()["bytes_live"]
    with graph.saved_tensors_hooks(lambda t: None, lambda p: tg.ones(1000)):
        y = x.exp().exp()
    held = tg.memory.statistics()["bytes_live"] - before
    assert held <= 2 * 4096  # only y
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 1000


def test_unpacked_values_stay_in_the_graph():
    x = tg.tensor([0.5, 2.0], requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = (x * x * x).sum()
        z = x.exp().sum()
    (g,) = tg.autograd.grad(y + z, x, create_graph=True)
    (h,) = tg.autograd.grad(g.sum(), x)
    assert tg.allclose(h, 6 * x + x.exp())


def test_innermost_hooks_count_and_backward_may_run_twice():
    x = tg.tensor(3.0, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: 1 / 0, lambda t: t):
        with graph.saved_tensors_hooks(lambda t: t.detach(), lambda t: t * 0):
            y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 0.0
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_errors():
    x = tg.tensor([3.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="A saved tensor pack hook is modifying its input in place"):
        with graph.saved_tensors_hooks(lambda t: t.add_(1), lambda t: t):
            (x * 1).exp()
    with pytest.raises(ZeroDivisionError), graph.saved_tensors_hooks(lambda t: 1 / 0, lambda t: t):
        x.exp()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: 1):
        y = x * x
    with pytest.raises(TypeError, match="Output of saved tensor unpack_hook expected to be a Tensor but got result of type int"):
        y.backward()
    with pytest.raises(TypeError), graph.saved_tensors_hooks(1, 2):
        pass
    assert (x * x).item() == 9.0  # nothing is left active


def test_hooks_belong_to_their_thread():
    calls = []
    x = tg.ones(1, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: calls.append(1), lambda t: x):
        thread = threading.Thread(target=lambda: x.exp())
        thread.start()
        thread.join()
    assert calls == []


def test_disabling():
    with graph.disable_saved_tensors_hooks("not here"):
        with pytest.raises(RuntimeError, match="not here"), graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            pass
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        with pytest.raises(RuntimeError, match="not here"), graph.disable_saved_tensors_hooks("not here"):
            pass
    with graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        pass


def test_save_on_cpu():
    for pin in (False, True):
        x = tg.tensor([2.0], requires_grad=True)
        with graph.save_on_cpu(pin_memory=pin):
            y = x.exp() * x
        y.backward()
        assert tg.allclose(x.grad, 3 * x.exp())


def test_mutation_of_saved_tensors():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with graph.allow_mutation_on_saved_tensors():
        y = x.clone()
        z = y.sin()
        y.mul_(0)
        with tg.no_grad():
            y[:1].fill_(7)
        z.sum().backward()
        assert tg.allclose(x.grad, x.cos())
        w = x.exp()
        with pytest.raises(RuntimeError, match="cannot be nested"), graph.allow_mutation_on_saved_tensors():
            pass
    with pytest.raises(AssertionError, match="Trying to backward outside of the 'allow_mutation_on_saved_tensors' context"):
        w.sum().backward()


def test_mutation_of_a_tensor_by_itself():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with graph.allow_mutation_on_saved_tensors():
        y = x * 3
        y.mul_(y)
        y.sum().backward()
    assert tg.allclose(x.grad, 18 * x)


def run_random(function, arrays, context, second=True):
    """First and second derivatives of a random program whose values are recorded in `context`."""
    leaves = [support.leaf(tg, a) for a in arrays]
    with context:
        outputs = function(tg, *leaves)
        total = sum((out * out).sum() for out in outputs if out.requires_grad)
        if not isinstance(total, tg.Tensor):
            return []
        first = tg.autograd.grad(total, leaves, allow_unused=True, create_graph=True)
        again = sum((g * g).sum() for g in first if g is not None and g.requires_grad)
        second = tg.autograd.grad(again, leaves, allow_unused=True) if isinstance(again, tg.Tensor) and again.requires_grad else ()
    return [None if g is None else g.tolist() for g in (*first, *second)]


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_are_differentiated_alike_under_every_mode(seed):
    program = random_programs.Program(random.Random(seed), 1 + seed % 8)
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.uniform(-1.5, 1.5, shape)) for shape in program.leaves.values()]
    function = program.function()
    try:
        plain = run_random(function, arrays, contextlib.nullcontext())
    except RuntimeError:
        pytest.skip("overwrites a saved value")
    contexts = {
        "hooks": graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t.clone()),
        "numpy": graph.saved_tensors_hooks(lambda t: t.detach().contiguous().numpy().copy(), tg.tensor),
        "mutation": graph.allow_mutation_on_saved_tensors(),
        "anomaly": tg.autograd.set_detect_anomaly(True, check_nan=False),
    }
    for name, context in contexts.items():
        tg.autograd.set_detect_anomaly(name == "anomaly", check_nan=False)
        found = run_random(function, arrays, context)
        tg.autograd.set_detect_anomaly(False)
        for ours, expected in zip(found, plain, strict=True):
            assert (ours is None) == (expected is None), (name, program.text)
            if ours is not None:
                np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9, err_msg=f"{name}\n{program.text}")


def test_names_of_saved_values():
    x = tg.tensor([[1.0, 2.0]], requires_grad=True)
    y = tg.tensor([[3.0, 4.0]], requires_grad=True)
    node = (x * y).grad_fn
    assert node._saved_self is x and node._saved_other is y
    assert (x * 2).grad_fn._saved_self is None and (x * 2).grad_fn._saved_other.item() == 2.0
    assert x.exp().grad_fn._saved_result.tolist() == x.exp().tolist()
    assert (x**2).grad_fn._saved_exponent == 2 and (x**y).grad_fn._saved_exponent is y
    assert (x @ y.T).grad_fn._saved_mat2.shape == (2, 1)
    total = x.sum(1).grad_fn
    assert (total._saved_dim, total._saved_keepdim, tuple(total._saved_self_sym_sizes)) == ((1,), False, (1, 2))
    assert x.max(1)[0].grad_fn._saved_indices.tolist() == [1]
    assert x[tg.tensor([0])].grad_fn._saved_indices[0].tolist() == [0]
    assert {"_saved_self", "_raw_saved_other"} <= set(dir(node)) and not hasattr(node, "_saved_result")
    # What is not saved has no value, whatever the tape still has of it.
    with pytest.raises(AttributeError):
        _ = (x + 1).exp().grad_fn._saved_self
    with pytest.raises(AttributeError, match="is not writable"):
        node._saved_self = 1
    z = x * y
    z.sum().backward()
    with pytest.raises(RuntimeError, match="directly access saved tensors after they have already been freed"):
        _ = z.grad_fn._saved_self


def test_hooks_on_a_single_saved_value():
    x = tg.tensor([2.0], requires_grad=True)
    y = x * x
    y.grad_fn._raw_saved_self.register_hooks(lambda t: t * 2, lambda t: t / 2)
    y.grad_fn._raw_saved_other.register_hooks(lambda t: t * 2, lambda t: t)
    assert y.grad_fn._saved_self.item() == 2.0
    with pytest.raises(RuntimeError, match="whose hooks have already been set"):
        y.grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t)
    with pytest.raises(RuntimeError, match="with value None is forbidden"):
        (x * 2).grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t)
    y.backward()
    assert x.grad.item() == 6.0
    with pytest.raises(RuntimeError, match="after it has been freed"):
        y.grad_fn._raw_saved_self.register_hooks(lambda t: t, lambda t: t)


def test_an_index_changed_after_use_is_refused():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for use in (lambda i: x.gather(0, i), lambda i: x[i], lambda i: x.index_select(0, i), lambda i: x.scatter(0, i, 3.0)):
        index = tg.tensor([1, 0])
        y = use(index)
        index.zero_()
        with pytest.raises(RuntimeError, match=r"modified by an inplace operation: \[tapegrad.LongTensor \[2\]\] is at version 1"):
            y.sum().backward()


def test_nothing_is_left_behind(holds_nothing):
    x = tg.ones(3, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t.detach(), lambda t: t):
        y = x.exp() * x[tg.tensor([0, 1, 2])]
        y.sum().backward()
        z = x.exp()
    assert z is not None
    del y, z, x
    gc.collect()


def test_edges_stand_for_tensors():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    z = (y * 3).sum()
    edge = graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0
    assert tg.autograd.grad(z, edge, retain_graph=True)[0].tolist() == [3.0, 3.0]
    assert tg.autograd.grad(graph.get_gradient_edge(z), x, retain_graph=True)[0].tolist() == [6.0, 12.0]
    z.backward(inputs=[graph.get_gradient_edge(x)])
    assert x.grad.tolist() == [6.0, 12.0]
    with pytest.raises(RuntimeError, match="does not require gradients"):
        graph.get_gradient_edge(tg.ones(1))
    with pytest.raises(RuntimeError, match=r"`inputs` argument to `backward\(\)` cannot be empty."):
        (x * x).sum().backward(inputs=[])
    assert tg.autograd.grad((x * x).sum(), {"x": x})["x"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "run, expected",
    [
        (lambda x: x**2.5, {"exponent": 2.5}),
        (lambda x: x.square(), {"exponent": 2}),
        (lambda x: x.clamp(0.25, 0.8), {"min": 0.25, "max": 0.8}),
        (lambda x: tg.add(x, x, alpha=2), {"alpha": 2}),
        (lambda x: tg.lerp(x, x, 0.3), {"weight": 0.3}),
        (lambda x: tg.nn.functional.leaky_relu(x, 0.1), {"negative_slope": 0.1}),
        (lambda x: x.sum(), {"self_sym_sizes": (2, 3)}),
        (lambda x: x.mean(0), {"dim": (0,), "keepdim": False, "self_sym_sizes": (2, 3), "self_sym_numel": 6}),
        (lambda x: x.prod(1), {"dim": 1, "keepdim": False}),
        (lambda x: x.transpose(0, 1), {"dim0": 0, "dim1": 1}),
        (lambda x: x.permute(1, 0), {"dims": (1, 0)}),
        (lambda x: x[1], {"dim": 0, "index": 1, "self_sym_sizes": (2, 3)}),
        (lambda x: x[:, 1:3:2], {"dim": 1, "start": 1, "end": 3, "step": 2, "self_sym_sizes": (2, 3)}),
        (lambda x: x.roll(1, 0), {"shifts": (1,), "dims": (0,)}),
        (lambda x: x.clone(), {}),
        (lambda x: x.t(), {}),
    ],
)
def test_parameters_among_the_saved_values(run, expected):
    node = run(tg.rand(2, 3).requires_grad_()).grad_fn
    shown = {name.removeprefix("_saved_"): getattr(node, name) for name in dir(node) if name.startswith("_saved_")}
    assert {name: value for name, value in shown.items() if not hasattr(value, "_slot") and name not in ("self", "result")} == expected


# --- what a second backward pass needs --------------------------------------------------------------------------------
INDEX, PLACES, WEIGHTS = tg.tensor([1, 0]), tg.tensor([[0, 1, 2], [2, 0, 1]]), tg.tensor([[0.5, 0.25, 2.0], [1.0, 3.0, 0.1]])
SAVE_NOTHING = {
    "add alpha": lambda x: tg.add(WEIGHTS, x, alpha=3),
    "sub alpha": lambda x: tg.sub(WEIGHTS, x, alpha=0.5),
    "add_ alpha": lambda x: (WEIGHTS * 1).add_(x, alpha=3),
    "lerp": lambda x: tg.lerp(x, WEIGHTS, 0.3),
    "lerp to": lambda x: tg.lerp(WEIGHTS, x, 0.3),
    "scatter_add": lambda x: x.scatter_add(1, PLACES, WEIGHTS),
    "scatter_add part": lambda x: x.scatter_add(1, PLACES[:, :2], WEIGHTS),
    "index_add": lambda x: x.index_add(0, INDEX, WEIGHTS),
    "index_add alpha": lambda x: x.index_add(0, INDEX, WEIGHTS, alpha=2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "split": lambda x: x.split(2, 1)[0],
    "unbind": lambda x: x.unbind(1)[2],
}


@pytest.mark.parametrize("name", SAVE_NOTHING)
@pytest.mark.parametrize("hooked", [False, True])
def test_what_saves_no_tensor_may_be_differentiated_again(name, hooked):
    x = tg.tensor([[0.3, 0.7, 0.2], [0.9, 0.4, 0.6]], requires_grad=True)
    y = SAVE_NOTHING[name](x)
    if hooked:
        y.register_hook(lambda g: g * 1)
    loss = y.sum()
    loss.backward()
    first = x.grad.clone()
    loss.backward()
    assert first.any() and (x.grad == 2 * first).all()


def test_the_number_of_a_parameter_stays_as_long_as_its_entry():
    x = tg.ones(3, requires_grad=True)
    y = tg.add(tg.zeros(3), x, alpha=7.0)
    for k in range(3):
        y.sum().backward()
        assert x.grad.tolist() == [7.0 * (k + 1)] * 3
    assert y.grad_fn._saved_alpha == 7
