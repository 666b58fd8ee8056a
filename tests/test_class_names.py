"""Owns what the package's classes are called, in Python's texts and in the package's own, and which of them can be made or built upon."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tapegrad as tg
from tapegrad.naming import type_name

X = tg.ones(3)
NAMES = {
    "tapegrad.dtype": tg.float32,
    "tapegrad.Size": X.shape,
    "tapegrad.device": X.device,
    "tapegrad.layout": X.layout,
    "tapegrad.memory_format": tg.channels_last,
    "tapegrad.finfo": tg.finfo(tg.float32),
    "tapegrad.iinfo": tg.iinfo(tg.int8),
    "tapegrad._C.Generator": tg.Generator(),
    "tapegrad.return_types.max": X.max(0),
    "tapegrad.storage.UntypedStorage": X.untyped_storage(),
}
FINAL = [name for name in NAMES if not name.endswith(("Generator", "Storage"))]


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    value = NAMES[name]
    kind = type(value)
    assert repr(kind) == f"<class '{name}'>" and f"{kind.__module__}.{kind.__qualname__}" == name and kind.__name__ == name.rpartition(".")[2]
    assert type_name(value) == name
    with pytest.raises(AttributeError, match=f"^'{name}' object has no attribute 'foo'$"):
        value.foo  # noqa: B018
    if name not in ("tapegrad.device", "tapegrad.return_types.max", "tapegrad.Size") and "Storage" not in name:
        with pytest.raises(TypeError, match=f"unsupported operand type\\(s\\) for \\+: 'Tensor' and '{name}'"):
            X + value
    with pytest.raises(TypeError, match=f"'{name}' object is not callable") if name == "tapegrad.dtype" else pytest.raises((TypeError, AttributeError)):
        value(1, 2, 3, 4)


@pytest.mark.parametrize("name", FINAL)
def test_no_base_of_others(name):
    with pytest.raises(TypeError, match=f"type '{name}' is not an acceptable base type"):
        type("Derived", (type(NAMES[name]),), {})


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith(("finfo", "iinfo", "Storage"))])
def test_copies_and_pickles(name):
    value = NAMES[name]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert type(pickle.loads(pickle.dumps(value, protocol))) is type(value)
    assert type(copy.deepcopy(value)) is type(value) and type(copy.copy(value)) is type(value)
    assert pickle.loads(pickle.dumps(type(value))) is type(value)


def test_names_of_other_types():
    assert [type_name(v) for v in (1, None, X, np.ones(1), np.float64(1), pytest)] == ["int", "NoneType", "Tensor", "numpy.ndarray", "numpy.float64", "module"]

    class Mine:
        pass

    assert type_name(Mine()) == "Mine"


@pytest.mark.parametrize(("call", "text"), [
    (lambda: tg.tensor(tg.float32), "Could not infer dtype of tapegrad.dtype"),
    (lambda: tg.tensor([tg.float32]), "Could not infer dtype of tapegrad.dtype"),
    (lambda: X[tg.device("cpu")], r"are valid indices \(got tapegrad.device\)"),
    (lambda: tg.finfo(tg.device("cpu")), "must be tapegrad.dtype, not tapegrad.device"),
    (lambda: tg.sort(X.max(0)), r"sort\(\): argument 'input' \(position 1\) must be Tensor, not torch.return_types.max"),
    (lambda: tg.device(1.5), r"got \(float\), but expected one of:\n \* \(torch.device device\)\n      didn't match because .*: \(!float!\)\n"),
    (lambda: tg.device([1]), r"\(!list of \[int\]!\)"),
    (lambda: tg.device(index=1), r"got \(index=int, \), but .*\n.*\n      didn't match because some of the keywords were incorrect: index\n"),
    (lambda: tg.layout(), "cannot create 'tapegrad.layout' instances"),
    (lambda: tg.memory_format("a"), "cannot create 'tapegrad.memory_format' instances"),
    (lambda: tg.return_types.max(), "missing required argument 'sequence'"),
    (lambda: tg.return_types.max(3), "constructor requires a sequence"),
    (lambda: tg.return_types.max([1]), r"tapegrad.return_types.max\(\) takes a 2-sequence \(1-sequence given\)"),
])  # fmt: skip
def test_texts(call, text):
    with pytest.raises((TypeError, RuntimeError, IndexError), match=text):
        call()


def test_return_types_are_made_of_sequences():
    made = tg.return_types.max([1, 2])
    assert made == (1, 2) and made.values == 1 and made.indices == 2
    assert (made.n_fields, made.n_sequence_fields, made.n_unnamed_fields) == (2, 2, 0)


def test_no_attributes_of_ones_own():
    for value in (X.shape, tg.Generator(), X.max(0), tg.float32):
        with pytest.raises(AttributeError):
            value.foo = 1
