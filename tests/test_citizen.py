"""Tensor and its kin as Python objects: Size, dtypes, devices, layouts, conversions by name, the text of subclasses."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import nn


class Sub(tg.Tensor):
    pass


class SubSub(Sub):
    pass


def test_sizes():
    size = tg.Size([1, 2, 3])
    for other in ((9,) + size, size + (9,), size[1:], size * 2, pickle.loads(pickle.dumps(size)), copy.copy(size)):
        assert type(other) is tg.Size
    assert (9,) + size == (9, 1, 2, 3) and tg.Size([tg.tensor(2), True]) == (2, 1) and tg.Size(tg.tensor([1, 2])) == (1, 2)
    assert tg.Size((np.int64(3),)) == (3,) and repr(tg.Size([])) == "tapegrad.Size([])"


def test_layouts_and_formats_are_singletons():
    assert isinstance(tg.strided, tg.layout) and tg.ones(1).layout is tg.strided
    for one in (tg.strided, tg.channels_last, tg.float32, tg.bfloat16):
        assert pickle.loads(pickle.dumps(one)) is one and copy.deepcopy(one) is one


def test_limits():
    assert repr(tg.iinfo(tg.int32)) == "iinfo(min=-2.14748e+09, max=2.14748e+09, dtype=int32)"
    assert tg.iinfo(int) == tg.iinfo(tg.int64) and tg.finfo(float) == tg.finfo(tg.float64)


def test_to():
    x = tg.ones(3)
    assert x.to(tg.float32, False, True) is not x and x.to(tg.float32, True) is x and x.to("cpu", tg.float64, False, True).dtype is tg.float64
    assert x.to(int).dtype is tg.int64 and x.to(tg.ones(1, dtype=tg.half), True, True).dtype is tg.half and x.to(None) is x


def test_text_of_subclasses():
    assert repr(tg.ones(2).as_subclass(Sub)) == "Sub([1., 1.])"
    assert repr(tg.zeros(2, 2, dtype=tg.int8).as_subclass(Sub)) == "Sub([[0, 0],\n     [0, 0]], dtype=tapegrad.int8)"

    class Named(nn.Parameter):
        pass

    assert repr(Named(tg.ones(2))) == "Parameter containing:\nParameter(Named([1., 1.], requires_grad=True))"
    assert (tg.Tensor.__module__, nn.Parameter.__module__) == ("tapegrad", "tapegrad.nn.parameter")
    assert repr(tg.FloatTensor) == "<class 'tapegrad.FloatTensor'>"


def test_results_of_subclasses():
    x, y = tg.ones(2).as_subclass(Sub), tg.ones(2).as_subclass(SubSub)
    assert type(x + y) is type(y + x) is SubSub
    best = tg.ones(2, 2).as_subclass(Sub).max(0)
    assert type(best).__name__ == "max" and type(best.values) is Sub


def test_tensors_of_arrays():
    a = np.arange(6.0).reshape(2, 3)
    assert tg.tensor(a.T).stride() == (1, 3) and tg.tensor(a.T, dtype=tg.int8).tolist() == a.T.tolist()
    t = tg.tensor(a[:, ::2])
    a[0, 0] = 9
    assert t.tolist() == [[0, 2], [3, 5]] and t.is_leaf
    assert tg.tensor(10**40, dtype=tg.float32).item() == float("inf")


def test_devices_of_programs():
    assert tg.device("cuda" if tg.cuda.is_available() else "cpu") == tg.get_default_device() and tg.cuda.device_count() == 0
    tg.set_default_device("cpu")
    with pytest.warns(UserWarning, match="set_default_tensor_type"):
        tg.set_default_tensor_type(tg.DoubleTensor)
    with pytest.warns(UserWarning, match="set_default_tensor_type"):
        assert tg.ones(1).dtype is tg.float64 and tg.set_default_tensor_type("torch.FloatTensor") is None
    assert tg.ones(1).dtype is tg.float32 and tg.get_device(tg.ones(1)) == -1 and tg.device(device="cpu") == tg.device("cpu")


@pytest.mark.parametrize("name", ["T", "mT", "H", "mH"])
def test_transposes_of_0d(name):
    with pytest.warns(UserWarning, match=f"Tensor.{name} is deprecated on 0-D tensors"):
        assert getattr(tg.tensor(1.5), name).item() == 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(tg.ones(2, 3), name)


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: tg.Size([1.5]), TypeError, "torch.Size() takes an iterable of 'int' (item 0 is 'float')"),
        (lambda: tg.Size([1, np.float64(2)]), TypeError, "torch.Size() takes an iterable of 'int' (item 1 is 'numpy.float64')"),
        (lambda: tg.Size([1]) + [2], TypeError, "can only concatenate tuple (not list) to torch.Size"),
        (lambda: tg.ones(2).size("a"), TypeError, "size(): argument 'dim' (position 1) must be int, not str"),
        (lambda: tg.ones(()).size(0), IndexError, "Dimension specified as 0 but tensor has no dimensions"),
        (lambda: tg.ones(2).stride(1.5), TypeError, "stride(): argument 'dim' (position 1) must be int, not float"),
        (lambda: tg.dtype("float32"), TypeError, "cannot create 'tapegrad.dtype' instances"),
        (lambda: hash(tg.finfo(tg.float32)), TypeError, "unhashable type"),
        (lambda: tg.device("cpu:00"), RuntimeError, "Invalid device string: 'cpu:00'"),
        (lambda: tg.device("cpu", -1), RuntimeError, "Device index must not be negative"),
        (lambda: tg.device("cpu", 1.5), TypeError, "device(): argument 'index' (position 2) must be int, not float"),
        (lambda: tg.device(""), RuntimeError, "Device string must not be empty"),
        (lambda: tg.device(), TypeError, "device() received an invalid combination of arguments - got ()"),
        (lambda: tg.device("cpu:0", 0), RuntimeError, "type (string) must not include an index because index was passed explicitly: cpu:0"),
        (lambda: setattr(tg.device("cpu"), "type", "x"), AttributeError, "attribute 'type' of 'tapegrad.device' objects is not writable"),
        (lambda: tg.ones(3).to(tg.float32, tg.float64), TypeError, "to()"),
        (lambda: tg.ones(3).type(3), TypeError, "dtype must be a type, str, or dtype object"),
        (lambda: tg.ones(3).type(float), ValueError, "invalid type: 'float'"),
        (lambda: tg.ones(3).type_as(3), TypeError, "type_as(): argument 'other' (position 1) must be Tensor, not int"),
        (lambda: tg.ones(3).numpy(force=1), TypeError, "numpy(): argument 'force' must be bool, not int"),
        (lambda: None in tg.ones(3), RuntimeError, "Tensor.__contains__ only supports Tensor or scalar, but you passed in a <class 'NoneType'>."),
        (lambda: pow(tg.ones(2), 2, 3), TypeError, "unsupported operand type(s) for ** or pow(): 'Tensor', 'int', 'int'"),
        (lambda: tg.tensor(np.ones(3)[::-1]), ValueError, "At least one stride in the given numpy array is negative"),
        (lambda: tg.tensor(np.ones(3, ">f8")), ValueError, "given numpy array has byte order different from the native byte order."),
        (lambda: tg.tensor(10**400, dtype=tg.float32), OverflowError, "int too large to convert to float"),
        (lambda: tg.Tensor(1.5), TypeError, "new(): data must be a sequence (got float)"),
        (lambda: format(nn.Parameter(tg.tensor(2.5)), ".1f"), TypeError, "unsupported format string passed to Parameter.__format__"),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value).startswith(text)
