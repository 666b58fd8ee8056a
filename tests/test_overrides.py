"""Owns `__torch_function__`: subclasses of Tensor, other types that take calls over, modes."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

import tapegrad as tg
from tapegrad.nn import functional as F


class Plain(tg.Tensor):
    """A subclass with Tensor's own rule."""


class Deeper(Plain):
    pass


class Other(tg.Tensor):
    pass


class Logged(tg.Tensor):
    calls: list = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls.append(func)
        return super().__torch_function__(func, types, args, kwargs)


class Diagonal:
    """Not a tensor: it answers for some functions."""

    handled: dict = {}

    def __init__(self, n, value):
        self.n, self.value = n, value

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return cls.handled[func](*args, **(kwargs or {})) if func in cls.handled else NotImplemented


class SubDiagonal(Diagonal):
    handled: dict = {}


Diagonal.handled.update({
    tg.mean: lambda x: x.value / x.n, tg.mm: lambda a, b: 0, tg.add: lambda a, b, alpha=1: ("add", alpha), tg.cat: lambda ts, dim=0: ("cat", len(ts), dim),
    F.relu: lambda x, inplace=False: "relu", tg.linalg.inv: lambda x: "inv", tg.Tensor.mul: lambda a, b: "mul",
})  # fmt: skip
SubDiagonal.handled.update({tg.mm: lambda a, b: 1, tg.add: lambda *a: NotImplemented})


@pytest.fixture
def x():
    return tg.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]).as_subclass(Plain).requires_grad_()


@pytest.mark.parametrize("call", [
    lambda x: x + 1, lambda x: 2 - x, lambda x: 2 / x, lambda x: x @ x.T, lambda x: tg.exp(x), lambda x: x.sum(), lambda x: x[0], lambda x: x.T, lambda x: x.real,
    lambda x: x.detach(), lambda x: x.data, lambda x: x.double(), lambda x: x.view(-1), lambda x: x.unbind()[0], lambda x: x.max(0)[1], lambda x: tg.sort(x)[0],
    lambda x: tg.stack([tg.ones(2, 3), x])[0], lambda x: F.relu(x), lambda x: F.mse_loss(x, tg.ones(2, 3)), lambda x: F.layer_norm(x, (3,)),
    lambda x: F.linear(x, tg.ones(4, 3), tg.ones(4)), lambda x: tg.nn.Linear(3, 2)(x), lambda x: tg.zeros_like(x), lambda x: x.new_zeros(2),
    lambda x: tg.linalg.svd(x)[1], lambda x: tg.special.erf(x), lambda x: tg.einsum("ij,kj->ik", x, x), lambda x: x.split(1)[1],
    lambda x: tg.autograd.grad((x * x).sum(), x)[0], lambda x: copy.copy(x), lambda x: copy.deepcopy(x), lambda x: pickle.loads(pickle.dumps(x)),
    lambda x: x.add_(1) if not x.requires_grad else x.detach().add_(1), lambda x: tg.nn.Parameter(x), lambda x: tg.Tensor._make_subclass(Plain, tg.ones(2)),
])  # fmt: skip
def test_results_are_of_the_subclass(x, call):
    assert type(call(x)) is Plain


def test_values_and_gradients_of_a_subclass(x):
    (x * x).sum().backward()
    assert type(x.grad) is tg.Tensor and tg.equal(x.grad, 2 * x.detach().as_subclass(tg.Tensor))
    assert tg.equal(F.relu(x).as_subclass(tg.Tensor), tg.tensor([[1.0, 0.0, 3.0], [4.0, 5.0, 0.0]]))
    v = tg.ones(3, requires_grad=True)
    c = (v * 1).as_subclass(Plain)
    c[0] *= 5
    d = c.view(3)
    d.mul_(2)
    c.sum().backward()
    assert v.grad.tolist() == [10.0, 2.0, 2.0]
    y = tg.ones(2, requires_grad=True).as_subclass(Plain).view(2)
    assert type(y) is Plain and y.grad_fn.name() == "ViewBackward0"


def test_which_subclass_wins(x):
    deep = tg.ones(2, 3).as_subclass(Deeper)
    assert type(x + deep) is Deeper and type(deep + x) is Deeper and type(tg.ones(3) + deep) is Deeper
    with pytest.raises(TypeError, match="unsupported operand type"):
        x + tg.ones(2, 3).as_subclass(Other)
    with pytest.raises(TypeError, match="no implementation found for 'tapegrad.add' on types that implement __torch_function__"):
        tg.add(x, tg.ones(2, 3).as_subclass(Other))


def test_parameters_are_plain_tensors():
    class Mine(tg.nn.Parameter):
        pass

    assert type(Mine(tg.ones(2)) * 2) is tg.Tensor and type(tg.nn.Parameter(tg.ones(2)) * 2) is tg.Tensor
    p = tg.nn.Parameter(tg.ones(2).as_subclass(Plain))
    assert isinstance(p, tg.nn.Parameter) and p.requires_grad and not isinstance(tg.ones(2).as_subclass(Plain), tg.nn.Parameter)
    m = tg.nn.Module()
    m.p = p
    assert [type(q) for q in m.parameters()] == [Plain]


def test_what_a_subclass_is_asked_about():
    x = tg.tensor([[4.0, 1.0], [1.0, 3.0]]).as_subclass(Logged)
    t = tg.Tensor
    for call, func in [
        (lambda: x + 1, t.add), (lambda: 1 + x, t.add), (lambda: 1 - x, t.__rsub__), (lambda: x / 2, t.div), (lambda: x // 2, t.__floordiv__),
        (lambda: x @ x, t.matmul), (lambda: x == 1, t.__eq__), (lambda: x < 1, t.lt), (lambda: -x, t.neg), (lambda: x[0], t.__getitem__),
        (lambda: len(x), t.__len__), (lambda: repr(x), t.__repr__), (lambda: x.shape, t.shape.__get__), (lambda: x.requires_grad, t.requires_grad.__get__),
        (lambda: x.T, t.T.__get__), (lambda: x.size(), t.size), (lambda: x.sum(), t.sum), (lambda: tg.sum(x), tg.sum), (lambda: tg.cat([tg.ones(1, 2), x]), tg.cat),
        (lambda: F.relu(x), F.relu), (lambda: F.dropout(x, p=0.5), F.dropout), (lambda: tg.linalg.inv(x), tg.linalg.inv), (lambda: x.tolist(), t.tolist),
        (lambda: tg.special.erf(x), tg.special.erf), (lambda: tg.add(input=tg.ones(2), other=x), tg.add), (lambda: x.device, t.device.__get__),
        (lambda: tg.nn.init.ones_(x), tg.nn.init.ones_),
    ]:  # fmt: skip
        Logged.calls.clear()
        call()
        assert Logged.calls == [func], (Logged.calls, func)
    Logged.calls.clear()
    x.requires_grad = True
    assert Logged.calls == [t.requires_grad.__set__]
    Logged.calls.clear()
    y = tg.ones(2).as_subclass(Logged)
    y += 1
    assert Logged.calls == [t.add_]


def test_types_that_are_no_tensors():
    d, s = Diagonal(5, 2), SubDiagonal(5, 2)
    assert tg.mean(d) == 0.4 and tg.mm(d, tg.ones(2, 2)) == 0 and tg.mm(tg.ones(2, 2), d) == 0 and tg.mm(d, s) == 1
    assert tg.add(d, s) == ("add", 1) and tg.add(1, d, alpha=3) == ("add", 3) and tg.cat([d, tg.ones(2)], dim=1) == ("cat", 2, 1)
    assert F.relu(d) == "relu" and tg.linalg.inv(d) == "inv" and tg.ones(2) * d == "mul"
    with pytest.raises(TypeError, match=r"no implementation found for .*mul' on types that implement __torch_function__: \[<class .*SubDiagonal'>\]"):
        tg.mul(s, s)
    with pytest.raises(TypeError, match="unsupported operand"):
        tg.ones(2) - d

    class Raises:
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        tg.exp(Raises())

    class Instance:
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return types

    with pytest.warns(DeprecationWarning, match="plain method is deprecated"):
        assert tg.exp(Instance()) == (Instance,)


def test_disabled():
    x = tg.ones(2).as_subclass(Logged)
    Logged.calls.clear()
    with tg._C.DisableTorchFunctionSubclass():
        assert type(x + 1) is tg.Tensor and x.shape == (2,)
        assert not tg.overrides.has_torch_function_unary(x)
    assert not Logged.calls and tg.overrides.has_torch_function((1, x)) and not tg.overrides.has_torch_function_variadic(1, tg.ones(2))

    class Off(tg.Tensor):
        __torch_function__ = tg._C._disabled_torch_function_impl

    assert type(tg.ones(2).as_subclass(Off) * 2) is tg.Tensor


class Names(tg.overrides.TorchFunctionMode):
    def __init__(self):
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_modes():
    with Names() as outer, Names() as inner:
        a = tg.ones(2)
        b = F.relu(a + 1)
        tg.cat([a, b])
        b.sin_()
        b[0]
    assert outer.names == inner.names == ["ones", "add", "relu", "cat", "sin_", "__getitem__"]
    tg.ones(2) + 1
    assert len(outer.names) == 6

    class Double(tg.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **{**(kwargs or {}), **({"dtype": tg.float64} if func in (tg.ones, tg.zeros) else {})})

    with Double():
        assert tg.ones(2).dtype is tg.zeros(2).dtype is tg.ones(3, 5, 7).dtype is tg.float64
    assert tg.ones(2).dtype is tg.ones(3, 5, 7).dtype is tg.float32  # what was answered in the mode is not remembered for calls outside

    class Refuses(tg.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return NotImplemented

    with pytest.raises(TypeError, match="nor in mode"), Refuses():
        tg.add(tg.ones(1), 1)
    assert tg.ones(1) + 1 == 2


def test_tools():
    o = tg.overrides

    def twice(a, b=None):
        if o.has_torch_function((a, b)):
            return o.handle_torch_function(twice, (a, b), a, b=b)
        return a + a

    Diagonal.handled[twice] = lambda a, b=None: ("twice", b)
    assert twice(Diagonal(1, 1), 3) == ("twice", 3) and tg.equal(twice(tg.ones(1)), tg.tensor([2.0]))
    with pytest.raises(TypeError, match="no implementation found for"):
        twice(SubDiagonal(1, 1))

    @o.wrap_torch_function(lambda a: (a,))
    def thrice(a):
        return 3 * a

    Diagonal.handled[thrice] = lambda a: "thrice"
    assert thrice(Diagonal(1, 1)) == "thrice" and thrice(2) == 6
    assert o.is_tensor_like(Diagonal(1, 1)) and o.is_tensor_like(tg.ones(1)) and not o.is_tensor_like(1)
    assert o.resolve_name(tg.add) == "tapegrad.add" and o.resolve_name(tg.Tensor.add) == "tapegrad.Tensor.add" and o.resolve_name(len) is None
    assert o.is_tensor_method_or_property(tg.Tensor.add) and o.is_tensor_method_or_property(tg.Tensor.shape.__get__) and not o.is_tensor_method_or_property(tg.add)
    known = o.get_overridable_functions()
    assert tg.add in known[tg] and tg.Tensor.add in known[tg.Tensor] and tg.linalg.inv in known[tg.linalg] and tg.zeros not in known[tg]
    assert tg.zeros in o.get_ignored_functions() and tg.Tensor.grad.__get__ in o.get_default_nowrap_functions()

    class Skips(tg.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return o.redispatch_function(func, types, args, kwargs)

    assert type(tg.ones(2).as_subclass(Skips) + 1) is tg.Tensor


def test_tensors_of_torch_override_nothing():
    torch = pytest.importorskip("torch")
    assert tg.from_dlpack(torch.ones(2)).tolist() == tg.as_tensor(torch.ones(2)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="must be Tensor, not Tensor"):
        tg.exp(torch.ones(2))


def test_functions_of_torch_refuse_our_tensors():
    torch = pytest.importorskip("torch")
    x = tg.ones(3)
    for call in (lambda: torch.sin(x), lambda: torch.cat([x, torch.ones(3)]), lambda: torch.nn.functional.relu(x), lambda: torch.ones(3) + x):
        with pytest.raises(TypeError, match="torch_function|unsupported operand"):
            call()
    assert tg.sin(x).shape == (3,)


def test_as_torch():
    torch = pytest.importorskip("torch")
    told = {}
    for lib in (torch, tg):
        calls: list = []

        class S(lib.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None, calls=calls):
                calls.append((func.__name__, [t.__name__ for t in types], len(args), bool(kwargs)))
                return super().__torch_function__(func, types, args, kwargs)

        x, p = lib.ones(2, 2).as_subclass(S), lib.ones(2, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            p + x, x - p, x.pow(2), x % 2, 2 % x, x.clone(), x.max(0), lib.where(p > 0, x, p), lib.stack((p, x), 1), lib.nn.functional.linear(x, p)  # noqa: B018
            x.grad, x.dtype, x.mT, x.numel(), lib.zeros_like(x), bool(x[0, 0]), x.is_contiguous(), x.fill_(2), lib.add(x, 1, alpha=2)  # noqa: B018
        told[lib] = calls
    assert told[tg] == told[torch]


@pytest.mark.parametrize("name", ["gelu", "logsigmoid", "one_hot", "conv2d", "avg_pool2d"])
def test_functions_of_nn_hand_over_to_other_types(name):
    """Under their own names, whether the package has a function of that name or not."""

    class Other:
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return func

    func = getattr(tg.nn.functional, name)(Other())
    assert func == getattr(tg.nn.functional, name)
    assert func.__name__ == name
