"""Owns the checks of nn.Module and its subclasses: registration, state, hooks, printing; against PyTorch where it is installed."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import warnings
import weakref

import numpy as np
import pytest
import support

import tapegrad as tg

nn = tg.nn


def net(m):
    class Net(m.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = m.nn.Linear(3, 4)
            self.rest = m.nn.Sequential(m.nn.ReLU(), m.nn.Linear(4, 2, bias=False))
            self.register_buffer("count", m.zeros(2))
            self.register_buffer("hidden", m.ones(1), persistent=False)
            self.again = self.first

        def forward(self, x, scale=1.0):
            return self.rest(self.first(x)) * scale

    m.manual_seed(0)
    return Net()


def both(torch, f):
    """What `f(module)` gives in tapegrad and in torch, as comparable values."""
    return [plain(f(m)) for m in (tg, torch)]


def plain(value):
    if hasattr(value, "detach"):
        return np.round(support.value(value).astype(float), 6).tolist()
    if isinstance(value, (list, tuple, dict)):
        items = value.items() if isinstance(value, dict) else value
        return [plain(v) for v in items]
    return str(value).replace("torch", "tapegrad")


OBSERVED = {
    "parameters": lambda m: list(net(m).named_parameters()), "without duplicates": lambda m: [n for n, _ in net(m).named_parameters(remove_duplicate=False)],
    "buffers": lambda m: list(net(m).named_buffers()), "children": lambda m: [n for n, _ in net(m).named_children()],
    "modules": lambda m: [n for n, _ in net(m).named_modules()], "all modules": lambda m: [n for n, _ in net(m).named_modules(remove_duplicate=False)],
    "state": lambda m: net(m).state_dict(), "metadata": lambda m: dict(net(m).state_dict()._metadata), "repr": lambda m: repr(net(m)),
    "forward": lambda m: net(m)(m.ones(2, 3), scale=2.0), "get": lambda m: [net(m).get_submodule("rest.1"), net(m).get_parameter("rest.1.weight"), net(m).get_buffer("count")],
    "to": lambda m: [str(p.dtype) for p in net(m).to(m.float64).parameters()], "names": lambda m: [k for k in dir(net(m)) if k in ("first", "rest", "count", "hidden")],
    "loaded": lambda m: net(m).load_state_dict(net(m).state_dict()), "partly": lambda m: net(m).load_state_dict({"count": m.ones(2), "x": m.ones(1)}, strict=False),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", OBSERVED)
def test_as_torch(name):
    torch = pytest.importorskip("torch")
    found, expected = both(torch, OBSERVED[name])
    assert found == expected


REPRS = [
    "Linear(2, 3)", "Bilinear(2, 3, 4, bias=False)", "Identity(5)", "ReLU(inplace=True)", "LeakyReLU(0.2, inplace=True)", "ELU()", "CELU(2.0)", "SELU()", "GELU()",
    "GELU('tanh')", "SiLU()", "Mish()", "Softplus()", "Sigmoid()", "Tanh()", "Softmax(1)", "Softmax()", "LogSoftmax(dim=1)", "Hardtanh()", "ReLU6()", "Hardswish(True)",
    "Hardsigmoid()", "Threshold(0.1, 20)", "Hardshrink()", "Softshrink(0.1)", "PReLU(3)", "RReLU()", "GLU()", "Flatten()", "Unflatten(1, (2, 3))", "Dropout(0.2)",
    "Dropout2d()", "MSELoss()", "CrossEntropyLoss()", "ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU()])", "ModuleList()", "ModuleDict({'b': nn.ReLU(), 'a': nn.Tanh()})",
    "ParameterList([m.ones(2), m.ones(2, 3)])", "ParameterDict({'w': m.ones(2, 3), 'n': 5})", "Sequential(nn.Sequential(nn.Linear(1, 2)), nn.ReLU())", "Module()", "Sequential()",
    "Softmin(0)", "LogSigmoid()", "Softsign()", "Tanhshrink()", "AlphaDropout()", "PairwiseDistance()", "CosineSimilarity()", "HuberLoss()", "Softmax2d()",
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("text", REPRS)
def test_repr_as_torch(text):
    torch = pytest.importorskip("torch")
    found, expected = [repr(eval("nn." + text, {"nn": m.nn, "m": m})) for m in (tg, torch)]
    assert found == expected.replace("torch", "tapegrad")


FAILURES = {
    "no init": lambda m: type("M", (m.nn.Module,), {"__init__": lambda s: setattr(s, "l", m.nn.Linear(1, 1))})(),
    "no init parameter": lambda m: type("M", (m.nn.Module,), {"__init__": lambda s: setattr(s, "l", m.nn.Parameter(m.ones(1)))})(),
    "no init buffer": lambda m: type("M", (m.nn.Module,), {"__init__": lambda s: s.register_buffer("l", m.ones(1))})(),
    "arguments": lambda m: m.nn.Module(1), "keyword": lambda m: m.nn.Module(x=1), "no forward": lambda m: m.nn.Module()(1), "no attribute": lambda m: m.nn.Module().x,
    "parameter type": lambda m: setattr(m.nn.Linear(1, 1), "weight", 5), "parameter tensor": lambda m: setattr(m.nn.Linear(1, 1), "weight", m.ones(1)),
    "module type": lambda m: setattr(m.nn.Sequential(m.nn.ReLU()), "0", 5), "buffer type": lambda m: setattr(net(m), "count", 5),
    "dot": lambda m: m.nn.Module().register_parameter("a.b", None), "empty": lambda m: m.nn.Module().register_buffer("", None), "taken": lambda m: net(m).register_buffer("first", None),
    "name type": lambda m: m.nn.Module().register_parameter(5, None), "no parameter": lambda m: m.nn.Module().register_parameter("w", m.ones(1)),
    "non-leaf": lambda m: m.nn.Module().register_parameter("w", net(m).first.weight * 2), "no module": lambda m: m.nn.Module().add_module("w", 5),
    "module dot": lambda m: m.nn.Module().add_module("a.b", None), "missing": lambda m: net(m).load_state_dict({"first.weight": m.ones(4, 3), "foo": m.ones(1)}),
    "size": lambda m: m.nn.Linear(2, 1).load_state_dict({"weight": m.ones(2, 2), "bias": m.ones(1)}),
    "no tensor": lambda m: m.nn.Linear(2, 1).load_state_dict({"weight": 5, "bias": m.ones(1)}),
    "no dict": lambda m: m.nn.Linear(2, 1).load_state_dict(5), "integers": lambda m: net(m).to(m.int64), "train": lambda m: net(m).train(5),
    "submodule": lambda m: net(m).get_submodule("rest.7"),
    "no buffer": lambda m: net(m).get_buffer("first"), "no such parameter": lambda m: net(m).get_parameter("first.x"), "set": lambda m: net(m).set_submodule("", m.nn.ReLU()),
    "index": lambda m: m.nn.Sequential(m.nn.ReLU())[3], "extend": lambda m: m.nn.ModuleList(5), "times": lambda m: m.nn.Sequential() * 0, "plus": lambda m: m.nn.Sequential() + 5,
    "called": lambda m: m.nn.ParameterList()(1), "key": lambda m: m.nn.ParameterDict({5: m.ones(1)}), "pair": lambda m: m.nn.ModuleDict([(1, 2, 3)]),
    "mixed hooks": lambda m: (lambda x: [x.register_full_backward_hook(print), x.register_backward_hook(print)])(net(m)), "inner": lambda m: net(m)(m.ones(2, 5)),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", FAILURES)
def test_errors_as_torch(name):
    pytest.importorskip("torch")
    support.check_error_as_torch(FAILURES[name])


# --- hooks ------------------------------------------------------------------------------------------------------------
def calls_of(m, register):
    """What hooks see, as (name, values), while a small model runs forward and backward."""
    model = net(m)
    seen = []
    register(m, model, seen)
    x = m.ones(2, 3, requires_grad=True)
    model(x, scale=2.0).sum().backward()
    return [seen, [p.grad for p in model.parameters()], x.grad]


def grads(values):
    return [v for v in values if v is not None]


HOOKS = {
    "forward": lambda m, n, seen: n.rest.register_forward_hook(lambda mod, args, out: seen.append([type(mod).__name__, args, out])),
    "forward changes": lambda m, n, seen: n.first.register_forward_hook(lambda mod, args, out: out * 2),
    "forward kwargs": lambda m, n, seen: n.register_forward_hook(lambda mod, args, kw, out: seen.append([args, kw, out]), with_kwargs=True),
    "pre": lambda m, n, seen: n.first.register_forward_pre_hook(lambda mod, args: args[0] * 3),
    "pre kwargs": lambda m, n, seen: n.register_forward_pre_hook(lambda mod, args, kw: (args, {"scale": kw["scale"] + 1}), with_kwargs=True),
    "prepend": lambda m, n, seen: [n.first.register_forward_hook(lambda *a: seen.append("late")), n.first.register_forward_hook(lambda *a: seen.append("early"), prepend=True)],
    "full backward": lambda m, n, seen: n.rest.register_full_backward_hook(lambda mod, gi, go: seen.append([gi, go])),
    "full backward changes": lambda m, n, seen: n.rest.register_full_backward_hook(lambda mod, gi, go: (gi[0] * 2,)),
    "backward pre": lambda m, n, seen: n.rest.register_full_backward_pre_hook(lambda mod, go: (go[0] * 2,)),
    "whole": lambda m, n, seen: n.register_full_backward_hook(lambda mod, gi, go: seen.append([grads(gi), go])),
    "both": lambda m, n, seen: [n.first.register_full_backward_pre_hook(lambda mod, go: seen.append(go)), n.first.register_full_backward_hook(lambda mod, gi, go: seen.append(gi))],
    "removed": lambda m, n, seen: n.first.register_forward_hook(lambda *a: seen.append(1)).remove(),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", HOOKS)
def test_hooks_as_torch(name):
    torch = pytest.importorskip("torch")
    found, expected = both(torch, lambda m: calls_of(m, HOOKS[name]))
    assert found == expected


def test_hooks_of_every_module():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(type(m).__name__))
    nn.Sequential(nn.ReLU())(tg.ones(1))
    handle.remove()
    nn.ReLU()(tg.ones(1))
    assert seen == ["ReLU", "Sequential"]


def test_a_full_backward_hook_without_inputs_that_require_grad_warns():
    m, seen = nn.Linear(1, 1, bias=False), []
    m.register_full_backward_hook(lambda mod, gi, go: seen.append((gi, go)))
    with pytest.warns(UserWarning, match="Full backward hook is firing"):
        m(tg.ones(1, 1)).sum().backward()
    assert seen[0][0] == (None,) and seen[0][1][0].tolist() == [[1.0]]


def test_backward_hooks_of_the_last_node_warn():
    m = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    seen = []
    m.register_backward_hook(lambda mod, gi, go: seen.append(go))
    with pytest.warns(FutureWarning, match="when the forward contains multiple autograd Nodes"):
        m(tg.ones(1, 1, requires_grad=True)).sum().backward()
    assert len(seen) == 1


def test_always_called_hooks_see_failures():
    m, seen = nn.Linear(2, 1), []
    m.register_forward_hook(lambda mod, args, out: seen.append(out), always_call=True)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        m(tg.ones(1, 5))
    assert seen == [None]


# --- state ------------------------------------------------------------------------------------------------------------
def test_copies_and_pickles():
    model = net(tg).rest
    x = tg.ones(1, 4)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert tg.equal(other(x), model(x)) and other[1].weight is not model[1].weight and other[1].weight.requires_grad
        assert isinstance(other[1].weight, nn.Parameter)
    shared = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    shared[1].weight = shared[0].weight
    again = copy.deepcopy(shared)
    assert again[0].weight is again[1].weight
    assert io.BytesIO(pickle.dumps(nn.ParameterDict({"w": tg.ones(1)}))).getvalue()


def test_conversion_keeps_the_objects_and_gradients():
    m = nn.Linear(2, 1)
    w = m.weight
    m(tg.ones(1, 2)).sum().backward()
    m.double()
    assert m.weight is w and w.dtype is tg.float64 and w.grad.dtype is tg.float64 and w.requires_grad and w.is_leaf
    m(tg.ones(1, 2, dtype=tg.float64)).sum().backward()
    assert w.grad.tolist() == [[2.0, 2.0]]


def test_buffers_and_freezing():
    m = nn.Module()
    m.a, m.b = nn.Buffer(tg.ones(1)), nn.Buffer(tg.ones(1), persistent=False)
    assert list(m.state_dict()) == ["a"] and [n for n, _ in m.named_buffers()] == ["a", "b"]
    m.a = None
    assert list(m.state_dict()) == []
    n = nn.Linear(1, 1).requires_grad_(False)
    assert not n(tg.ones(1)).requires_grad
    n.requires_grad_()
    n(tg.ones(1)).backward()
    n.zero_grad(set_to_none=False)
    assert n.weight.grad.item() == 0
    n.zero_grad()
    assert n.weight.grad is None


def test_extra_state_and_load_hooks():
    class Extra(nn.Module):
        kept = None

        def get_extra_state(self):
            return {"n": 3}

        def set_extra_state(self, state):
            self.kept = state

    m, seen = Extra(), []
    assert m.state_dict() == {"_extra_state": {"n": 3}}
    m.register_load_state_dict_post_hook(lambda mod, keys: seen.append(keys))
    m.load_state_dict(m.state_dict())
    assert m.kept == {"n": 3} and repr(seen[0]) == "<All keys matched successfully>"
    with pytest.raises(RuntimeError, match="Missing key"):
        m.load_state_dict({})


def test_assigning_a_state_dict():
    m = nn.Linear(2, 1)
    fresh = {"weight": tg.ones(1, 2), "bias": tg.zeros(1)}
    m.load_state_dict(fresh, assign=True)
    assert m.weight.data_ptr() == fresh["weight"].data_ptr() and isinstance(m.weight, nn.Parameter)


@pytest.mark.torch
@pytest.mark.parametrize("call", ["kaiming_uniform_(w)", "kaiming_normal_(w, mode='fan_out', nonlinearity='relu')", "xavier_uniform_(w, gain=2)", "xavier_normal_(w)",
                                  "uniform_(w, -1, 2)", "normal_(w, 1, 2)", "constant_(w, 3)", "trunc_normal_(w)", "trunc_normal_(w, 0, 1, 1.5, 2)", "eye_(w)",
                                  "sparse_(w, 0.3)", "ones_(w)", "zeros_(w)"])  # fmt: skip
def test_initial_values_as_torch(call):
    torch = pytest.importorskip("torch")
    results = []
    for m in (tg, torch):
        m.manual_seed(5)
        results.append(support.value(eval("init." + call, {"init": m.nn.init, "w": m.empty(5, 7)})))
    np.testing.assert_array_equal(*results)


class Counting(nn.Module):
    """A layer under two names, and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.a = self.b = nn.Linear(2, 1)
        self.register_buffer("calls", tg.zeros(1))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.b(x)


def test_functional_call():
    m, w = nn.Linear(2, 1), tg.ones(1, 2, requires_grad=True)
    call = tg.func.functional_call
    out = call(m, {"weight": w, "bias": tg.zeros(1)}, tg.ones(1, 2))
    assert out.item() == 2 and m.weight is not w
    out.sum().backward()
    assert w.grad is not None and m.weight.grad is None
    assert not hasattr(m, "x") and call(m, {"x": w, "weight": w, "bias": None}, tg.ones(1, 2)).item() == 2 and not hasattr(m, "x")
    with pytest.raises(RuntimeError, match="Error.s. in reparametrizing for Linear:\n\tUnexpected key.s.: 'x'.\n\tMissing key.s.: 'bias'."):
        call(m, {"weight": w, "x": w}, tg.ones(1, 2), strict=True)
    with pytest.raises(TypeError, match="3.0 is not an instance of tapegrad.Tensor"):
        call(m, {"weight": 3.0}, tg.ones(1, 2))
    with pytest.warns(FutureWarning, match="is deprecated as of PyTorch 2.0"):
        assert nn.utils.stateless.functional_call(m, {"weight": w, "bias": tg.ones(1)}, tg.ones(1, 2)).item() == 3


def test_functional_call_of_tied_weights_and_assigned_buffers():
    m = Counting()
    given = {"a.weight": tg.ones(1, 2), "a.bias": tg.zeros(1), "calls": tg.tensor([5.0])}
    assert tg.func.functional_call(m, given, tg.ones(1, 2)).item() == 2
    assert given["calls"].item() == 6 and m.calls.item() == 0
    with pytest.raises(ValueError, match="which are tied"):
        tg.func.functional_call(m, {"a.weight": tg.ones(1, 2), "b.weight": tg.zeros(1, 2)}, tg.ones(1, 2))


@pytest.mark.torch
def test_clipping_as_torch():
    torch = pytest.importorskip("torch")
    for kind in (2.0, 1, float("inf")):
        values = []
        for m in (tg, torch):
            a, b = m.tensor([3.0, 4.0], requires_grad=True), m.tensor(2.0, requires_grad=True)
            ((a * a).sum() + b * b).backward()
            norm = m.nn.utils.clip_grad_norm_([a, b], 1.0, norm_type=kind)
            m.nn.utils.clip_grad_value_([a], 0.5)
            values.append([support.value(t) for t in (norm, a.grad, b.grad, m.nn.utils.parameters_to_vector([a, b]))])
        for found, expected in zip(*values, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_containers():
    s = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3))
    assert isinstance(s[1:], nn.Sequential) and len(s[1:]) == 2 and s[-1].out_features == 3
    del s[1]
    assert list(s._modules) == ["0", "1"]
    s.insert(1, nn.Tanh())
    s += nn.Sequential(nn.Sigmoid())
    assert [type(m).__name__ for m in s] == ["Linear", "Tanh", "Linear", "Sigmoid"] and len(s * 2) == 8
    items = nn.ModuleList([nn.ReLU()])
    items.append(nn.Tanh())
    items.insert(0, nn.Identity())
    assert [type(m).__name__ for m in items] == ["Identity", "ReLU", "Tanh"] and isinstance(items.pop(-1), nn.Tanh)
    p = nn.ParameterDict({"b": tg.ones(1)}) | {"a": tg.zeros(2)}
    assert list(p) == ["b", "a"] and isinstance(p["a"], nn.Parameter) and p.pop("b").item() == 1 and p.popitem()[0] == "a" and not len(p)
    q = nn.ParameterList([tg.ones(1), 5])
    assert len(list(q.parameters())) == 1 and q[1] == 5 and q[-2].requires_grad


def test_modules_forward_as_functions(rng):
    x = tg.tensor(rng.uniform(-1, 1, (3, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("ReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus", "Sigmoid", "Tanh", "LogSigmoid", "Hardtanh", "Softmax"):
            module = getattr(nn, name)()
            function = {"LogSigmoid": "logsigmoid"}.get(name, name.lower())
            np.testing.assert_allclose(support.value(module(x)), support.value(getattr(nn.functional, function)(x)), rtol=1e-14)


def test_loading_leaves_no_cycles():
    m = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    m.load_state_dict(m.state_dict())
    there = weakref.ref(m)
    gc.disable()
    try:
        del m
        assert there() is None
    finally:
        gc.enable()


def test_an_old_state_of_batch_norm_has_no_count():
    m = nn.BatchNorm1d(2)
    state = m.state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    m.load_state_dict(state)
    assert m.num_batches_tracked.item() == 0


def test_what_to_takes():
    m = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="does not accept copy argument"):
        m.to("cpu", copy=True)
    with pytest.warns(UserWarning, match="Complex modules are a new feature"):
        m.to(tg.complex64)
    assert m.weight.dtype is tg.complex64


def test_grad_has_another_name():
    x = tg.ones(2, requires_grad=True)
    x._grad = tg.tensor([1.0, 2.0])
    assert x.grad.tolist() == x._grad.tolist() == [1.0, 2.0]


def test_a_norm_of_nothing_and_of_no_eps():
    assert nn.LayerNorm(()).weight.shape == ()
    x = tg.tensor([[[1.0, 3.0]]])
    assert nn.InstanceNorm1d(1, eps=0)(x).tolist() == [[[-1.0, 1.0]]]


def test_log_softmax_beside_a_large_top(rng):
    x = tg.tensor(rng.integers(0, 100, (16, 4)), dtype=tg.float32)
    np.testing.assert_array_equal(support.value(tg.log_softmax(x, -1)), support.value(tg.log_softmax(x + 1e7, -1)))


def test_padding_by_nothing_copies():
    x = tg.zeros(1, 1, 3, 3)
    for mode in ("constant", "reflect", "replicate", "circular"):
        nn.functional.pad(x, (0, 0, 0, 0), mode).fill_(4)
    assert not x.any()


@pytest.mark.parametrize(
    ("one", "other"),
    [("Conv2d", "Conv1d"), ("Conv3d", "Conv1d"), ("Conv1d", "ConvTranspose1d"), ("Fold", "Unfold"), ("InstanceNorm1d", "BatchNorm1d")],
)
def test_kinds_of_layers_are_told_apart(one, other):
    assert not issubclass(getattr(tg.nn, one), getattr(tg.nn, other))
    assert not issubclass(getattr(tg.nn, other), getattr(tg.nn, one))


def test_bases_of_layers():
    modules = tg.nn.modules
    assert isinstance(tg.nn.Conv2d(1, 1, 1), modules.conv._ConvNd)
    assert isinstance(tg.nn.ConvTranspose2d(1, 1, 1), modules.conv._ConvTransposeNd)
    assert isinstance(tg.nn.BatchNorm3d(1), modules.batchnorm._BatchNorm)
    assert isinstance(tg.nn.InstanceNorm2d(1), modules.instancenorm._InstanceNorm)
    assert not isinstance(tg.nn.InstanceNorm2d(1), modules.batchnorm._BatchNorm)
