"""What memory is to a tensor: memory formats, strides of new tensors, storages, set_ and resize_."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest

import tapegrad as tg

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
IMAGE = (2, 3, 4, 5)
LAST = (60, 1, 15, 3)


# --- memory formats -------------------------------------------------------------------------------------------------
def test_formats_have_names_and_survive_pickle():
    assert repr(tg.channels_last) == "tapegrad.channels_last" and isinstance(tg.preserve_format, tg.memory_format)
    assert pickle.loads(pickle.dumps(tg.channels_last_3d)) is tg.channels_last_3d


def test_new_tensors_in_a_format():
    assert tg.empty(*IMAGE, memory_format=tg.channels_last).stride() == LAST
    assert tg.empty(2, 3, 4, 5, 6, memory_format=tg.channels_last_3d).stride() == (360, 1, 90, 18, 3)
    with pytest.raises(RuntimeError, match="required rank 4 tensor to use channels_last format"):
        tg.empty(2, 3, memory_format=tg.channels_last)
    with pytest.raises(RuntimeError, match="unsupported memory format Preserve"):
        tg.empty(2, 3, memory_format=tg.preserve_format)
    with pytest.raises(TypeError, match="'memory_format' must be torch.memory_format, not str"):
        tg.empty(2, memory_format="channels_last")


@pytest.mark.parametrize("copy", [
    lambda x: x.contiguous(memory_format=tg.channels_last), lambda x: x.clone(memory_format=tg.channels_last),
    lambda x: x.to(memory_format=tg.channels_last), lambda x: x.to(tg.float64, memory_format=tg.channels_last),
    lambda x: x.double(memory_format=tg.channels_last),
])  # fmt: skip
def test_conversions_to_a_format(copy):
    x = tg.arange(120.0).view(IMAGE).requires_grad_()
    y = copy(x)
    assert y.stride() == LAST and y.tolist() == x.tolist() and not y.is_contiguous()
    assert y.is_contiguous(memory_format=tg.channels_last) and y.contiguous(memory_format=tg.channels_last) is y
    (y * y).sum().backward()
    assert x.grad.tolist() == (2 * x).tolist()


@pytest.mark.parametrize("make", [
    tg.empty_like, tg.zeros_like, tg.ones_like, lambda x, **k: tg.full_like(x, 3, **k), tg.rand_like, tg.randn_like,
    lambda x, **k: tg.randint_like(x, 5, **k), tg.clone,
])  # fmt: skip
def test_like_another_tensor(make):
    last = tg.rand(IMAGE).to(memory_format=tg.channels_last)
    assert make(last).stride() == LAST
    assert make(last, memory_format=tg.contiguous_format).stride() == (60, 20, 5, 1)
    assert make(last.contiguous(), memory_format=tg.channels_last).stride() == LAST
    # neither dense nor overlapping: the order of the dims is kept
    assert make(tg.ones(3, 5, 4).permute(2, 0, 1)[::2]).stride() == (1, 10, 2)


def test_the_format_of_a_module():
    conv = tg.nn.Conv2d(3, 2, 2).to(memory_format=tg.channels_last)
    assert conv.weight.stride() == (12, 1, 6, 3) and isinstance(conv.weight, tg.nn.Parameter)


def test_dim_order():
    assert tg.empty(IMAGE, memory_format=tg.channels_last).dim_order() == (0, 2, 3, 1)
    assert tg.empty(2, 3, 5).transpose(0, 1).dim_order() == (1, 0, 2)
    with pytest.raises(RuntimeError, match="does not have unique dim order"):
        tg.empty(2, 3, 1, 1).dim_order(ambiguity_check=True)


# --- storages -------------------------------------------------------------------------------------------------------
def test_storages_are_the_memory():
    x = tg.arange(4.0)
    s, u = x[1:].storage(), x.untyped_storage()
    assert s.tolist() == [0, 1, 2, 3] and s.data_ptr() == u.data_ptr() == x.data_ptr() and (len(s), u.nbytes()) == (4, 16)
    s[0] = 7
    assert x[0] == 7 and s[0] == 7.0 and u.clone().tolist() == list(bytes(u))
    u.fill_(0)
    assert x.tolist() == [0, 0, 0, 0]
    assert tg.UntypedStorage([1, 2]).tolist() == [1, 2] and tg.TypedStorage([1, 2], dtype=tg.int32).dtype is tg.int32


def test_set():
    x, source = tg.zeros(3), tg.arange(6.0)
    x.set_(source, 1, (2, 2), (2, 1))
    assert x.tolist() == [[1, 2], [3, 4]] and x._version == 1
    x.fill_(9)
    assert source.tolist() == [0, 9, 9, 9, 9, 5]
    assert x.set_(source).is_set_to(source) and not x.is_set_to(source[1:])
    assert x.set_(source.storage(), 2).tolist() == [9, 9, 9, 5] and x.set_().shape == (0,)
    for wrong in (tg.ones(2, dtype=tg.int64), tg.ones(2, dtype=tg.int64).storage()):
        with pytest.raises(RuntimeError, match="of type"):
            x.set_(wrong)
    with pytest.raises(RuntimeError, match="invalid storage offset -1"):
        x.set_(source, -1, (2,))
    x.set_(source, 4, (3,))  # the memory grows, as torch has it
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        tg.ones(2, requires_grad=True).set_(source)
    assert x.shape == (3,) and x.tolist()[:2] == [9, 5] and len(source.storage()) == 7


def test_resize():
    x = tg.ones(3, 4)
    assert x.resize_(IMAGE, memory_format=tg.channels_last).stride() == LAST
    assert x.resize_as_(tg.ones(1, 2, 3, 4).to(memory_format=tg.channels_last), memory_format=tg.preserve_format).stride() == (24, 1, 8, 2)
    before = x.clone()
    for sizes, words in (((2, 4, 2**29, 2**29), "Storage size"), ((8, 8, 2**29, 2**29), "numel"), ((0, 4, 2**61), "Stride"), ((2, -3), "numel")):
        with pytest.raises(RuntimeError, match=words):
            x.resize_(sizes)  # the first of these used to end the process
    with pytest.raises(RuntimeError, match="not resizable"):
        tg.from_numpy(before.numpy()[0]).resize_(1000)
    assert x.shape == before.shape


# --- the same memory, seen otherwise --------------------------------------------------------------------------------
@pytest.mark.parametrize("change, name", [
    (lambda y: y.squeeze_(), "SqueezeBackward3"), (lambda y: y.squeeze_(0), "SqueezeBackward4"), (lambda y: y.squeeze_((0, 2)), "SqueezeBackward5"),
    (lambda y: y.unsqueeze_(dim=0), "UnsqueezeBackward1"), (lambda y: y.swapdims_(0, 1), "TransposeBackward1"),
    (lambda y: y.swapaxes_(0, 1), "TransposeBackward1"), (lambda y: y.as_strided_((3,), (1,)), "AsStridedBackward1"),
])  # fmt: skip
def test_the_sizes_change_in_place(change, name):
    x = tg.ones(1, 3, 1, requires_grad=True)
    y = x * 2
    assert change(y) is y and y.grad_fn.name() == name
    (y * 3).sum().backward()
    assert x.grad.flatten().tolist() == [6, 6, 6]


def test_no_object_of_another_class_becomes_a_tensor():
    x = tg.tensor(0)
    for cls in (int, object):  # this used to write over the memory of whatever they made
        with pytest.raises(TypeError, match="does not inherit from Tensor"):
            x.as_subclass(cls)
    with pytest.raises(TypeError, match="cls must be a type"):
        x.as_subclass(None)


def test_new_dims_of_an_expanded_tensor_have_torchs_strides():
    assert tg.ones(5).expand(1, 1, 5).stride() == (5, 5, 1) and tg.ones(2, 5).expand(3, 1, 2, 5).stride() == (0, 10, 5, 1)
    assert tg.ones(()).expand(1, 1).stride() == (0, 0)


def test_a_reshaped_copy_is_no_view():
    x = tg.ones(2, 3, requires_grad=True)
    y = (x * 1).t().reshape(6)
    assert not y._is_view() and y.grad_fn.name() == "UnsafeViewBackward0" and y.grad_fn.next_functions[0][0].name() == "CloneBackward0"
    y.mul_(2).sum().backward()
    assert x.grad.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_copies_of_views_into_given_tensors():
    a, b = tg.empty(2), tg.empty(2)
    assert tg.split_copy(tg.arange(4.0), 2, out=(a, b)) is None and (a.tolist(), b.tolist()) == ([0, 1], [2, 3])
    assert tg.diagonal_copy(tg.ones(2, 2), out=a) is a and a.tolist() == [1, 1]
    assert tg.tensor(3.0).flip(0).item() == 3 and tg.ones(2, 3).swapaxes(axis0=0, axis1=1).shape == (3, 2)


def test_storages_ask_the_engine_how_much_there_is():
    x = tg.arange(6.0).reshape(2, 3)
    row, u, s = x[1], x.untyped_storage(), x.storage()
    assert u == x.untyped_storage() and u._cdata == s._cdata and u != tg.ones(6).untyped_storage() and s.resizable() and len(u) == 24
    u.resize_(4096)  # moves the memory: every tensor follows
    assert u.nbytes() == x.untyped_storage().nbytes() == 4096 and s.size() == 1024
    assert x.data_ptr() == u.data_ptr() == row.data_ptr() - 12 and x.tolist() == [[0, 1, 2], [3, 4, 5]]
    x.add_(1)
    row.mul_(2)
    assert x.tolist() == [[1, 2, 3], [8, 10, 12]] and s[5] == 12 and x.resize_(1000)[:6].tolist() == [1, 2, 3, 8, 10, 12]
    u.resize_(8)
    assert u.nbytes() == 8 and len(x.storage()) == 2 and row.tolist() == [8, 10, 12]
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 8"):
        row.as_strided((3,), (1,), 0)
    assert u.resize_(16).nbytes() == 16 and u.resize_(0).tolist() == []
    a = tg.ones(2, requires_grad=True)
    y = a * 3
    y.untyped_storage().resize_(400)
    (y * y).sum().backward()
    assert a.grad.tolist() == [18, 18]
    for t in (tg.from_numpy(np.ones(3)), x.data):
        assert not t.untyped_storage().resizable() or t is x
        with pytest.raises(RuntimeError, match="Trying to resize storage that is not resizable"):
            t.untyped_storage().resize_(10**4)


def test_typed_storages():
    s = tg.IntStorage([-1, 0, 2])
    assert type(s) is tg.TypedStorage and isinstance(s, tg.IntStorage) and not isinstance(s, tg.FloatStorage) and s.dtype is tg.int32 and tg.is_storage(s)
    for name, d in (("double", "float64"), ("half", "float16"), ("bool", "bool"), ("byte", "uint8"), ("complex_float", "complex64"), ("bfloat16", "bfloat16")):
        made = getattr(s, name)()
        assert made.dtype is getattr(tg, d) and made.tolist() == tg.tensor([-1, 0, 2], dtype=tg.int32).to(made.dtype).tolist()
    assert s.type() == "tapegrad.IntStorage" and s.type("tapegrad.LongStorage").dtype is tg.int64 and tg.ones(2).storage_type() is tg.FloatStorage
    s[0], s[1:] = 5, 7
    assert s.tolist() == [5, 7, 7] and s.fill_(3).tolist() == [3, 3, 3] and s.copy_(tg.IntStorage([1, 2, 3]))[-1] == 3
    assert tg.Tensor(tg.FloatStorage([1, 2])).tolist() == [1, 2] and tg.tensor(s).tolist() == [1, 2, 3]
    assert tg.TypedStorage(wrap_storage=tg.UntypedStorage(8), dtype=tg.float64).size() == 1 and sum(s) == 6
    for call, error, words in [
        (lambda: s[9], IndexError, "index 9 out of range for storage of size 3"), (lambda: s[0:1], RuntimeError, "slices are only supported in UntypedStorage"),
        (lambda: s["a"], RuntimeError, "can't index a"), (lambda: s.__setitem__(slice(0, 1), [1]), TypeError, "can't assign a list"),
        (lambda: s.fill_(s), RuntimeError, "cannot set item"), (lambda: s.copy_(tg.IntStorage(1)), RuntimeError, "self was 12 bytes but src was 4 bytes"),
        (lambda: tg.storage._LegacyStorage(), RuntimeError, "Only child classes"), (lambda: tg.IntStorage(device="cpu"), RuntimeError, "'device' cannot be specified"),
        (lambda: tg.IntStorage(1, 2), RuntimeError, "Too many positional"), (lambda: tg.IntStorage("x"), TypeError, "invalid data type"),
        (lambda: tg.IntStorage(tg.ones(1)), TypeError, "Argument type not recognized"), (lambda: tg.IntStorage(x=1), TypeError, "unexpected keyword"),
        (lambda: tg.IntStorage(0, wrap_storage=s.untyped()), RuntimeError, "No positional arguments"), (lambda: tg.IntStorage(wrap_storage=s), TypeError, "must be UntypedStorage"),
        (lambda: tg.TypedStorage(wrap_storage=s.untyped()), RuntimeError, "'dtype' must be specified"), (lambda: tg.UntypedStorage("x"), RuntimeError, "of type str instead of int"),
        (lambda: tg.TypedStorage(wrap_storage=s.untyped(), dtype=0), TypeError, "'dtype' must be torch.dtype"), (lambda: tg.UntypedStorage(1, 2), TypeError, "invalid combination"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            call()


def test_storages_of_buffers_and_copies():
    raw = bytearray([1, 2, 3, 4])
    for kind, order, found in ((tg.ByteStorage, "native", [1, 2, 3, 4]), (tg.ShortStorage, "big", [258, 772]), (tg.ShortStorage, "little", [513, 1027])):
        assert kind.from_buffer(raw, order).tolist() == found
    assert tg.BoolStorage.from_buffer(bytearray([0, 7]), "big").tolist() == [False, True]
    assert tg.IntStorage.from_buffer(raw * 2, "native", offset=4, count=1).size() == 1
    for call, error in ((lambda: tg.IntStorage.from_buffer(raw), RuntimeError), (lambda: tg.IntStorage.from_buffer(raw, "mid"), ValueError),
                        (lambda: tg.LongStorage.from_buffer(raw, "big"), ValueError), (lambda: tg.IntStorage.from_buffer(3, "big"), TypeError)):  # fmt: skip
        with pytest.raises(error):
            call()
    x = tg.arange(4.0)
    u = x.untyped_storage()
    both = copy.deepcopy([x, u, x.storage()])
    assert both[0].data_ptr() == both[1].data_ptr() == both[2].data_ptr() != x.data_ptr() and copy.copy(u) != u and bytes(copy.copy(u)) == bytes(u)
    assert pickle.loads(pickle.dumps(x.storage())).tolist() == [0, 1, 2, 3] and bytes(pickle.loads(pickle.dumps(u))) == bytes(u)
    before = x.tolist()
    u.byteswap(tg.float32)
    u.byteswap(tg.float32)
    assert x.tolist() == before and u[2:4].tolist() == list(bytes(u))[2:4] and sys.getsizeof(u) > 16
