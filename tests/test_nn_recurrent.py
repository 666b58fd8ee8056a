"""Owns the checks of recurrent layers and packed sequences: values, gradients, state, texts and refusals, against PyTorch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import support

import tapegrad as tg

LAYERS = {
    "rnn": ("RNN", {}), "relu": ("RNN", {"nonlinearity": "relu", "num_layers": 2}), "lstm": ("LSTM", {}), "gru": ("GRU", {}),
    "deep lstm": ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}), "projected": ("LSTM", {"proj_size": 2, "bidirectional": True, "num_layers": 2}),
    "deep gru": ("GRU", {"num_layers": 3, "bidirectional": True, "bias": False}), "no bias": ("LSTM", {"bias": False, "proj_size": 1}),
    "rnn both ways": ("RNN", {"bidirectional": True, "batch_first": True}),
}  # fmt: skip


def layer(m, name):
    """A layer with torch's initial values."""
    kind, options = LAYERS[name]
    m.manual_seed(3)
    return getattr(m.nn, kind)(3, 4, dtype=m.float64, **options)


def flat(result):
    """The tensors of an output and a state, packed or not."""
    if isinstance(result, (tuple, list)):
        return [t for part in result for t in flat(part)]
    return [] if result is None else [result]


def state_of(m, module, rows, rng):
    """A state for so many sequences."""
    count = module.num_layers * (1 + module.bidirectional)
    sizes = [module.proj_size or 4] + [4] * (module.mode == "LSTM")
    state = tuple(m.tensor(rng.uniform(-1, 1, (count, rows, size)), requires_grad=True) for size in sizes)
    return state if module.mode == "LSTM" else state[0]


def run(m, name, form):
    """The outputs of a layer, and the gradients of a loss of them in its parameters, input and state."""
    module, rng = layer(m, name), np.random.default_rng(5)
    x = m.tensor(rng.uniform(-1, 1, (4, 5, 3)), requires_grad=True)
    given, state = x, None
    if form == "state":
        state = state_of(m, module, 4 if module.batch_first else 5, rng)
    elif form == "alone":
        given = x[0]
    elif form in ("packed", "unsorted"):
        lengths = [4, 4, 2, 1, 1] if form == "packed" else [1, 4, 2, 4, 3]
        given = m.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=form == "packed")
        state = state_of(m, module, 5, rng)
    out = module(given, state)
    tensors = [t for t in flat(out) if t.is_floating_point()]
    loss = sum((t * t.cos()).sum() for t in tensors)
    leaves = [*module.parameters(), x, *flat(state)]
    return [support.value(t) for t in flat(out)], [support.value(g) for g in m.autograd.grad(loss, leaves)], [t.stride() for t in tensors]


@pytest.mark.torch
@pytest.mark.parametrize("form", ["plain", "state", "alone", "packed", "unsorted"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_torch(name, form):
    torch = pytest.importorskip("torch")
    (found, gradients, strides), (expected, theirs, _) = run(tg, name, form), run(torch, name, form)
    for a, b in zip([*found, *gradients], [*expected, *theirs], strict=True):
        support.close(a, b, 1e-10)
    assert all(len(s) for s in strides)


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_texts_and_state_as_torch(name):
    torch = pytest.importorskip("torch")
    mine, theirs = layer(tg, name), layer(torch, name)
    assert repr(mine) == repr(theirs)
    assert [(k, v.tolist()) for k, v in mine.state_dict().items()] == [(k, v.tolist()) for k, v in theirs.state_dict().items()]
    assert [len(w) for w in mine.all_weights] == [len(w) for w in theirs.all_weights]
    x = tg.ones(2, 2, 3, dtype=tg.float64)
    np.testing.assert_array_equal(support.value(pickle.loads(pickle.dumps(mine))(x)[0]), support.value(mine(x)[0]))


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_as_torch(kind, bias):
    torch = pytest.importorskip("torch")
    results = []
    for m in (tg, torch):
        m.manual_seed(3)
        cell, state, values = getattr(m.nn, kind)(3, 4, bias), None, []
        for n in range(3):
            state = cell(m.ones(2, 3) * n, state)
        values += [support.value(t) for t in flat(state)]
        sum(t.sum() for t in flat(state)).backward()
        values += [support.value(p.grad) for p in cell.parameters()]
        values += [support.value(t) for t in flat(cell(m.ones(3)))]
        results.append((values, repr(cell)))
    assert results[0][1] == results[1][1]
    for a, b in zip(results[0][0], results[1][0], strict=True):
        support.close(a, b, 1e-5)


@pytest.mark.torch
def test_dropout_between_layers_as_torch():
    torch = pytest.importorskip("torch")
    outputs = []
    for m in (tg, torch):
        m.manual_seed(1)
        module = m.nn.GRU(3, 4, num_layers=3, dropout=0.5)
        m.manual_seed(2)
        outputs.append([support.value(module(m.ones(5, 2, 3))[0]), support.value(module.eval()(m.ones(5, 2, 3))[0])])
    for a, b in zip(*outputs, strict=True):
        support.close(a, b, 1e-5)


def test_second_derivatives_of_an_lstm(rng):
    module = tg.nn.LSTM(2, 3, dtype=tg.float64)
    x = tg.tensor(rng.uniform(-1, 1, (3, 2, 2)), requires_grad=True)
    assert tg.autograd.gradcheck(lambda x: module(x)[0], x) and tg.autograd.gradgradcheck(lambda x: module(x)[1][1], x)


@pytest.mark.torch
def test_packing_as_torch():
    torch = pytest.importorskip("torch")
    results = []
    for m in (tg, torch):
        r, parts = m.nn.utils.rnn, [m.arange(n * 2.0).reshape(n, 2) for n in (2, 4, 1)]
        packed = r.pack_sequence(parts, enforce_sorted=False)
        values = [*packed, *r.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0, total_length=6), *r.unpack_sequence(packed)]
        values += [r.pad_sequence(parts, batch_first=True, padding_side="left"), r.pad_sequence(parts, padding_value=7.0), packed.double().data]
        results.append([(v.tolist(), str(v.dtype).rpartition(".")[2]) for v in values])
    assert results[0] == results[1]


ERRORS = {
    "rank": lambda m: m.nn.RNN(2, 3)(m.ones(2)), "lstm rank": lambda m: m.nn.LSTM(2, 3)(m.ones(1, 1, 1, 2)), "size": lambda m: m.nn.GRU(2, 3)(m.ones(4, 1, 3)),
    "dtype": lambda m: m.nn.GRU(2, 3)(m.ones(4, 1, 2, dtype=m.float64)), "state": lambda m: m.nn.GRU(2, 3)(m.ones(4, 1, 2), m.ones(1, 2, 3)),
    "state rank": lambda m: m.nn.GRU(2, 3)(m.ones(4, 1, 2), m.ones(2, 3)), "alone": lambda m: m.nn.RNN(2, 3)(m.ones(4, 2), m.ones(1, 1, 3)),
    "cell state": lambda m: m.nn.LSTM(2, 3)(m.ones(4, 1, 2), (m.ones(1, 1, 3), m.ones(1, 1, 2))), "pair": lambda m: m.nn.LSTM(2, 3)(m.ones(4, 1, 2), (m.ones(1, 3), m.ones(1, 3))),
    "empty": lambda m: m.nn.RNN(2, 3)(m.ones(0, 1, 2)), "projection": lambda m: m.nn.GRU(2, 3, proj_size=2), "large projection": lambda m: m.nn.LSTM(2, 3, proj_size=3),
    "nonlinearity": lambda m: m.nn.RNN(2, 3, nonlinearity="sin"), "layers": lambda m: m.nn.RNN(2, 3, 0), "hidden": lambda m: m.nn.LSTM(2, 0),
    "type": lambda m: m.nn.LSTM(2, 3.0), "dropout": lambda m: m.nn.LSTM(2, 3, dropout=2), "cell rank": lambda m: m.nn.GRUCell(2, 3)(m.ones(1, 1, 2)),
    "cell size": lambda m: m.nn.LSTMCell(2, 3)(m.ones(1, 3)), "cell rows": lambda m: m.nn.RNNCell(2, 3)(m.ones(2, 2), m.ones(1, 3)),
    "cell width": lambda m: m.nn.GRUCell(2, 3)(m.ones(1, 2), m.ones(1, 2)), "cell nonlinearity": lambda m: m.nn.RNNCell(2, 3, nonlinearity="x")(m.ones(1, 2)),
    "unsorted": lambda m: m.nn.utils.rnn.pack_padded_sequence(m.ones(3, 2), [1, 2]), "zero": lambda m: m.nn.utils.rnn.pack_padded_sequence(m.ones(3, 2), [1, 0]),
    "lengths": lambda m: m.nn.utils.rnn.pack_padded_sequence(m.ones(3, 2), [1]), "nothing": lambda m: m.nn.utils.rnn.pad_sequence([]),
    "side": lambda m: m.nn.utils.rnn.pad_sequence([m.ones(2)], padding_side="up"),
    "total": lambda m: m.nn.utils.rnn.pad_packed_sequence(m.nn.utils.rnn.pack_sequence([m.ones(3)]), total_length=2),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", ERRORS)
def test_errors_as_torch(name):
    pytest.importorskip("torch")
    support.check_error_as_torch(ERRORS[name])


def test_dropout_of_one_layer_warns():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        tg.nn.LSTM(2, 3, dropout=0.5)
