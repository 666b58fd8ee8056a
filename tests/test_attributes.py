"""Attributes and small methods in compiled code: the same before and after the engine starts, and what goes on to Python."""

import gc
import inspect
import subprocess
import sys
import weakref

import numpy as np
import pytest

import tapegrad as tg


def test_sizes_and_strides():
    x = tg.zeros(2, 3, 4).permute(2, 0, 1)
    assert x.shape == (4, 2, 3) and type(x.shape) is tg.Size and x.shape is x.size()
    assert [x.size(d) for d in range(-3, 3)] == [4, 2, 3] * 2 and x.size(dim=1) == 2
    assert x.stride() == (1, 12, 4) and [x.stride(d) for d in range(-3, 3)] == [1, 12, 4] * 2
    assert (x.ndim, x.dim(), x.ndimension(), len(x), x.numel(), x.nelement()) == (3, 3, 3, 4, 24, 24)
    assert not x.is_contiguous() and x.contiguous().is_contiguous() and x.dtype is tg.float32
    assert tg.zeros(0, 2).data_ptr() == 0 and x[1].data_ptr() == x.data_ptr() + 4
    for call in (x.size, x.stride):
        for d in (3, -4, 1 << 70):
            with pytest.raises((IndexError, OverflowError, TypeError, RuntimeError, ValueError)):
                call(d)
    with pytest.raises(TypeError, match="0-d tensor"):
        len(tg.tensor(1.0))
    assert "dim" in inspect.signature(tg.Tensor.size).parameters and tg.Tensor.shape.__doc__


@pytest.mark.parametrize("dtype", [tg.float32, tg.float64, tg.int64, tg.bool, tg.int32, tg.uint8, tg.float16, tg.bfloat16, tg.complex64])
def test_tolist_and_item(dtype):
    values = np.array([[0, 1, 2], [3, 0, 5]])
    x = tg.tensor(values).to(dtype)
    expected = (values != 0).tolist() if dtype is tg.bool else values.tolist()
    kind = bool if dtype is tg.bool else complex if dtype.is_complex else float if dtype.is_floating_point else int
    assert x.tolist() == expected and x.T.tolist() == [list(row) for row in zip(*expected, strict=True)]
    assert type(x[1, 2].item()) is type(x[1, 2].tolist()) is type(x.tolist()[0][0]) is kind
    assert x[0, :0].tolist() == [] and x[:0].tolist() == [] and x[:, :0].tolist() == [[], []]
    with pytest.raises(RuntimeError, match="a Tensor with 6 elements cannot be converted to Scalar"):
        x.item()


def test_a_view_knows_its_base_has_changed():
    w = tg.ones(3, requires_grad=True)
    base = tg.zeros(3)
    view = base[1:]
    assert view.is_leaf and not view.requires_grad and view.grad is None
    base.mul_(w)
    assert view.requires_grad and not view.is_leaf and base.requires_grad and not base.is_leaf
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert view.grad is None


def test_grad_is_one_object_and_is_let_go():
    x = tg.ones(3, requires_grad=True)
    x.sum().backward()
    assert x.grad is x.grad and x.grad.tolist() == [1.0] * 3
    g = tg.zeros(3)
    x.grad = g
    assert x.grad is g
    (2 * x).sum().backward()
    assert x.grad is g and g.tolist() == [2.0] * 3
    gone = weakref.ref(g)
    x.grad = g = None
    gc.collect()
    assert gone() is None and x.grad is None
    x.grad = tg.ones(3)
    del x.grad
    assert x.grad is None


def test_grad_of_another_kind_is_refused():
    x = tg.ones(2, 3, requires_grad=True)
    x.grad = tg.ones(3, 2).T
    assert x.grad.stride() == (1, 2)
    for value, error, words in (
        (1.0, TypeError, "expected to be a Tensor or None but got grad of type float"),
        (x, RuntimeError, "its own grad"),
        (tg.ones(2, 3, dtype=tg.float64), RuntimeError, "dtype"),
        (tg.ones(3, 2), RuntimeError, "size"),
    ):
        with pytest.raises(error, match=words):
            x.grad = value
    assert x.grad.stride() == (1, 2)


def test_what_cannot_be_written():
    x = tg.ones(2)
    for name in ("shape", "ndim", "dtype", "is_leaf"):
        with pytest.raises(AttributeError):
            setattr(x, name, None)
    with pytest.raises(RuntimeError, match="must be a bool"):
        x.requires_grad = "yes"
    x.requires_grad = True
    assert x.requires_grad and x.is_leaf
    x.requires_grad = False
    assert not x.requires_grad


def test_attributes_of_a_subclass_can_be_its_own():
    class Named(tg.Tensor):
        shape = property(lambda self: "mine")

    x = tg.ones(2).as_subclass(Named)
    assert x.shape == "mine" and x.size() == (2,) and x.ndim == 1


def test_data_has_a_version_counter_of_its_own():
    x = tg.arange(6.0).reshape(2, 3).requires_grad_()
    y = x.t().data
    assert type(tg.nn.Parameter(y).data) is tg.Tensor and not y.requires_grad and y.data_ptr() == x.data_ptr() and y.stride() == (1, 3)
    y.mul_(2)
    assert (y._version, x._version) == (1, 0) and x.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
    del x
    gc.collect()
    assert [tg.ones(6).tolist() for _ in range(9)] and y.data.data.tolist() == [[0.0, 6.0], [2.0, 8.0], [4.0, 10.0]]
    assert tg.ones(0, 2).data.shape == (0, 2)
    with tg.inference_mode():
        assert not y.data.is_inference() and tg.ones(2).data.is_inference()


def test_to_the_same_dtype_is_the_tensor_itself():
    x = tg.ones(2)
    assert x.to(tg.float32) is x and x.to("cpu") is x and x.to(tg.float64).dtype is tg.float64
    assert x.to(tg.float32, copy=True) is not x


def test_the_type_knows_its_methods_before_the_engine_runs():
    """`methods = [Tensor.exp, Tensor.add]` at import, hasattr, dir: in a new process."""
    code = (
        "import tapegrad as tg; from tapegrad import core\n"
        "assert not core.started() and not hasattr(tg.Tensor, 'no_such') and not core.started()\n"
        "assert tg.Tensor.exp(tg.tensor(0.0)).item() == 1.0 and core.started()\n"
        "assert tg.Tensor.__add__(tg.tensor(1.0), 2).item() == 3.0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.run([sys.executable, "-c", "import tapegrad as tg; assert {'exp', 'exp_', 'sum', '__mul__'} <= set(dir(tg.Tensor))"], check=True)


def test_methods_that_are_functions_too():
    x = tg.tensor([1.0, -2.0])
    assert tg.exp_(x) is x and tg.allclose(x, tg.tensor([1.0, -2.0]).exp())
    assert tg.zero_(x).tolist() == [0.0, 0.0] and tg.detach(x).data_ptr() == x.data_ptr()
    leaf = tg.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        tg.sin_(leaf)
    assert tg.clamp_(leaf * 3, max=2.0).tolist() == [2.0, 2.0] and tg.conv2d(tg.ones(1, 1, 3, 3), tg.ones(1, 1, 2, 2)).shape == (1, 1, 2, 2)
