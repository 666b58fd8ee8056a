"""Owns save and load: what comes back, who shares memory, files of both libraries, the restricted reader, damaged files."""

from __future__ import annotations

import io
import math
import pickle
import random
import zipfile
from collections import Counter, OrderedDict

import pytest

import tapegrad as tg
from tapegrad.nn_parameter import Parameter


def written(obj, save=tg.save, **keywords) -> bytes:
    file = io.BytesIO()
    save(obj, file, **keywords)
    return file.getvalue()


def round_trip(obj, load=tg.load, **keywords):
    return load(io.BytesIO(written(obj)), **keywords)


def same(a, b) -> bool:
    return a.dtype is b.dtype and a.shape == b.shape and a.stride() == b.stride() and bool((a == b).all())


class Thing:
    def __init__(self, tensor):
        self.tensor = tensor


class Special(tg.Tensor):
    pass


PLAIN = [
    None, True, 1, -(10**40), 1.5, math.inf, "ü", b"abc", bytearray(b"x"), 1 + 2j, (1, (2,)), [1, [2]], {"a": {1: 2}}, {1, 2},
    OrderedDict(a=1), Counter("aab"), tg.float32, tg.Size([2, 3]), tg.device("cpu"),
]  # fmt: skip


@pytest.mark.parametrize("obj", PLAIN, ids=repr)
def test_plain_objects(obj):
    found = round_trip(obj)
    assert found == obj and type(found) is type(obj)


@pytest.mark.parametrize("dtype", tg.dtypes.BY_CODE, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0)], ids=str)
def test_tensors_of_all_dtypes(dtype, shape):
    x = tg.ones(shape, dtype=dtype)
    assert same(round_trip(x), x)


def test_views_share_memory_again():
    x = tg.arange(6.0).view(2, 3)
    found = round_trip({"x": x, "row": x[1], "t": x.t(), "wide": x[:1].expand(4, 3), "again": x})
    assert all(same(found[k], v) for k, v in {"x": x, "row": x[1], "t": x.t(), "wide": x[:1].expand(4, 3)}.items())
    assert found["again"] is found["x"]
    found["x"][1, 0] = 100
    assert found["row"][0] == found["t"][0, 1] == 100
    assert x[1, 0] == 3


def test_a_view_brings_its_whole_storage():
    x = tg.arange(100.0)
    assert len(zipfile.ZipFile(io.BytesIO(written(x[:1]))).read("archive/data/0")) == 400


def test_gradients_parameters_subclasses_attributes():
    x = tg.ones(2, requires_grad=True)
    leaf, inner = round_trip([x, x * 2])
    assert leaf.requires_grad and inner.requires_grad and inner.is_leaf
    p = Parameter(tg.ones(2))
    p.note = "kept"
    found = round_trip(p)
    assert type(found) is Parameter and found.requires_grad and found.note == "kept"
    y = tg.ones(2)
    y.note = [1]
    assert round_trip(y).note == [1]
    special = tg.ones(2).as_subclass(Special)
    assert type(round_trip(special, weights_only=False)) is Special
    with pytest.raises(pickle.UnpicklingError):
        round_trip(special)


def test_paths(tmp_path):
    for path in (tmp_path / "a.pt", str(tmp_path / "b.pt")):
        tg.save([tg.ones(2)], path)
        assert tg.load(path)[0].tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="Parent directory .*none does not exist."):
        tg.save(1, tmp_path / "none" / "c.pt")
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "d.pt")
    with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like object with a 'write' attribute"):
        tg.save(1, 3)
    with pytest.raises(AttributeError, match="You can only tapegrad.load from a file that is seekable"):
        tg.load(3)
    tg.save(1, tmp_path / "a.pt")
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        tg.save(lambda: 1, tmp_path / "a.pt")
    assert tg.load(tmp_path / "a.pt") == 1  # what could not be pickled has not touched the file


def test_file_may_begin_anywhere():
    file = io.BytesIO()
    tg.save(tg.ones(3), file)
    file.seek(0)
    assert tg.load(file).tolist() == [1.0] * 3


def test_records_are_aligned():
    data = written([tg.ones(5), tg.zeros(7)])
    for info in zipfile.ZipFile(io.BytesIO(data)).infolist():
        start = info.header_offset + 30 + len(info.filename) + int.from_bytes(data[info.header_offset + 28 : info.header_offset + 30], "little")
        assert start % 64 == 0 and info.compress_type == zipfile.ZIP_STORED


def test_forbidden_globals():
    data = written(Thing(tg.ones(1)))
    with pytest.raises(pickle.UnpicklingError) as error:
        tg.load(io.BytesIO(data))
    text = "Unsupported global: GLOBAL test_serialization.Thing was not an allowed global by default. Please use `tapegrad.serialization."
    assert str(error.value).startswith("Weights only load failed. This file can still be loaded") and text in str(error.value)
    with tg.serialization.safe_globals([Thing]):
        assert tg.load(io.BytesIO(data)).tensor.tolist() == [1.0]
    tg.serialization.add_safe_globals([Thing])
    assert tg.serialization.get_safe_globals() == [Thing]
    tg.serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        tg.load(io.BytesIO(data))
    assert tg.load(io.BytesIO(data), weights_only=False).tensor.tolist() == [1.0]
    with pytest.raises(RuntimeError, match="Can not safely load weights when explicit pickle_module is specified"):
        tg.load(io.BytesIO(data), pickle_module=pickle, weights_only=True)


def archive_with(pickled: bytes, storage: bytes = b"\0" * 8) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {"data.pkl": pickled, "version": b"3\n", "data/0": storage}.items():
            archive.writestr("archive/" + name, data)
    file.seek(0)
    return file


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"


def rebuilt(offset: bytes, size: bytes, stride: bytes) -> bytes:
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + offset + size + stride + b"\x89}tR."


def test_a_file_cannot_run_code_or_look_beyond_its_storage():
    good = rebuilt(b"K\x00", b"K\x02\x85", b"K\x01\x85")
    assert tg.load(archive_with(good)).tolist() == [0.0, 0.0]
    for bad in (
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch\nTensor\n)\x81}X\x05\x00\x00\x00_slotK\x05sb.",  # BUILD
        b"\x80\x02]\x94.",  # an opcode that plain data does not need
        b"\x80\x02X\x01\x00\x00\x00xQ.",
        b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00xa.",  # APPEND to a dict
        b"\x80\x02" + STORAGE + b")R.",
        rebuilt(b"K\x00", b"K\x03\x85", b"K\x01\x85"),
        rebuilt(b"K\x01", b"K\x02\x85", b"K\x01\x85"),
        rebuilt(b"K\x00", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
        rebuilt(b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85"),
        rebuilt(b"K\x00", b"K\x02\x85", b"K\x01K\x01\x86"),
        rebuilt(b"K\x00", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", b"K\x00\x85"),
    ):
        with pytest.raises((pickle.UnpicklingError, RuntimeError)):
            tg.load(archive_with(bad))
    with pytest.raises(RuntimeError, match=r"record size \(4 bytes\) does not match expected size"):
        tg.load(archive_with(good, b"\0" * 4))


def test_damaged_files():
    data = written({"a": tg.arange(6.0), "b": [1, "x"]})
    with pytest.raises(EOFError):
        tg.load(io.BytesIO(b""))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        tg.load(io.BytesIO(b"hello world"))
    with pytest.raises(RuntimeError, match="PytorchStreamReader failed reading zip archive: failed finding central directory"):
        tg.load(io.BytesIO(data[: len(data) // 2]))
    chance = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            tg.load(io.BytesIO(bytes(damaged[: chance.choice((len(data), chance.randrange(4, len(data))))])))
        except (RuntimeError, pickle.UnpicklingError):
            pass


def test_map_location():
    data = written(tg.ones(2))
    for where in ("cpu", tg.device("cpu"), {"cpu": "cpu"}, lambda storage, location: storage, lambda storage, location: None):
        assert tg.load(io.BytesIO(data), map_location=where).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        tg.load(io.BytesIO(data), map_location="cuda")
    with pytest.raises(TypeError, match="'int' object is not callable"):
        tg.load(io.BytesIO(data), map_location=3)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_torch_reads_ours(torch):
    x = tg.arange(6.0).view(2, 3)
    obj = {"x": x, "t": x.t(), "p": Parameter(x[0]), "plain": [1, 2.5, "ü", None, (1,), b"abc", tg.Size([2]), tg.float64], "e": tg.zeros(0, 2)}
    found = torch.load(io.BytesIO(written(obj)), weights_only=True)
    assert found["t"].tolist() == x.t().tolist() and found["t"].data_ptr() == found["x"].data_ptr()
    assert isinstance(found["p"], torch.nn.Parameter) and found["e"].shape == (0, 2)
    assert found["plain"] == [1, 2.5, "ü", None, (1,), b"abc", torch.Size([2]), torch.float64]
    for dtype in tg.dtypes.BY_CODE:
        assert torch.load(io.BytesIO(written(tg.ones(2, dtype=dtype)))).dtype is getattr(torch, dtype.name)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_we_read_torchs(torch):
    x = torch.arange(6.0).view(2, 3)
    obj = {"x": x, "t": x.t(), "p": torch.nn.Parameter(x[0]), "s": x.shape, "d": torch.int8, "m": torch.nn.Linear(2, 1).state_dict(), "r": x.clone().requires_grad_()}
    found = tg.load(io.BytesIO(written(obj, torch.save)))
    assert found["t"].tolist() == x.t().tolist() and found["t"].data_ptr() == found["x"].data_ptr()
    assert type(found["p"]) is Parameter and found["s"] == tg.Size([2, 3]) and found["d"] is tg.int8 and found["r"].requires_grad
    assert list(found["m"]) == ["weight", "bias"] and found["m"]._metadata[""] == {"version": 1}
    for dtype in tg.dtypes.BY_CODE:
        assert tg.load(io.BytesIO(written(torch.ones(2, dtype=getattr(torch, dtype.name)), torch.save))).dtype is dtype
    old = written(x, torch.save, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="before PyTorch 1.6"):
        tg.load(io.BytesIO(old))
