"""Recurrent layers: one step of each kind of cell, and layers of cells run along sequences.

The products of the inputs with their weights need no state, so they are done for all steps at once.
"""

from __future__ import annotations

from functools import partial

from tapegrad.nn.functional.dropout import dropout as drop
from tapegrad.nn.functional.linear import linear
from tapegrad.ops.joining import cat, stack


def rnn_step(activation, x, state, weight, bias):
    """h' = activation(x + W h + b); x is the input's share, W_ih x + b_ih."""
    return (getattr(x + linear(state[0], weight, bias), activation)(),)


def lstm_step(x, state, weight, bias, projection=None):
    """c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c') for (i, f, g, o) = x + W h + b (Hochreiter and Schmidhuber 1997)."""
    h, c = state
    i, f, g, o = (x + linear(h, weight, bias)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return h if projection is None else linear(h, projection), c


def gru_step(x, state, weight, bias):
    """h' = n + z (h - n), n = tanh(x_n + r (W_n h + b_n)), with the gates (r, z) = sigmoid(x + W h + b) (Cho et al. 2014)."""
    h = state[0]
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), linear(h, weight, bias).chunk(3, -1)
    n = (xn + (xr + hr).sigmoid() * hn).tanh()
    return (n + (xz + hz).sigmoid() * (h - n),)


STEPS = {"RNN_TANH": (partial(rnn_step, "tanh"), 1), "RNN_RELU": (partial(rnn_step, "relu"), 1), "LSTM": (lstm_step, 4), "GRU": (gru_step, 3)}


def along(step, inputs, state, backwards):
    """(the output of every step, the last state of every sequence).

    `inputs` has a tensor per time step, with as many rows as sequences are that long; the longest come first.  Forwards, sequences end
    on the way; backwards, they begin on the way.
    """
    now = tuple(s[: inputs[-1].shape[0]] for s in state) if backwards else state
    outputs, ended = [], []
    for x in reversed(inputs) if backwards else inputs:
        rows, before = x.shape[0], now[0].shape[0]
        if rows < before:
            ended.append(tuple(s[rows:] for s in now))
            now = tuple(s[:rows] for s in now)
        elif rows > before:
            now = tuple(cat([s, first[before:rows]], 0) for s, first in zip(now, state, strict=True))
        now = step(x, now)
        outputs.append(now[0])
    last = tuple(cat(parts, 0) for parts in zip(now, *reversed(ended), strict=True)) if ended else now
    return outputs[::-1] if backwards else outputs, last


def recurrent(mode, data, sizes, state, weights, directions, dropout):
    """(the outputs of the last layer, the last states (layers * directions, N, H)).

    data: (T, N, I), or packed with the batch sizes `sizes`.  state: tensors (layers * directions, N, H).  weights: for every layer and
    direction W_ih, W_hh, b_ih and b_hh (or None), and what else the step takes.  dropout: between layers, 0 outside of training.
    """
    if not data.shape[0]:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    step, _ = STEPS[mode]
    states, last = list(zip(*(s.unbind(0) for s in state), strict=True)), []
    for k in range(0, len(weights), directions):
        if k and dropout:
            data = drop(data, dropout)
        sides = []
        for side in range(directions):
            w_ih, w_hh, b_ih, b_hh, *more = weights[k + side]
            shares = linear(data, w_ih, b_ih)
            inputs = shares.unbind(0) if sizes is None else shares.split(sizes)
            cell = lambda x, s, w=w_hh, b=b_hh, more=more: step(x, s, w, b, *more)
            outputs, final = along(cell, inputs, states[k + side], side == 1)
            sides.append(stack(outputs, 0) if sizes is None else cat(outputs, 0))
            last.append(final)
        data = sides[0] if directions == 1 else cat(sides, -1)
    return data, tuple(stack(parts, 0) for parts in zip(*last, strict=True))
