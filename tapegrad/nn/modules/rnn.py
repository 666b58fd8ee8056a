"""Recurrent layers and cells: RNN, LSTM, GRU."""

from __future__ import annotations

import math
import numbers
import warnings

from tapegrad import creation
from tapegrad.nn import init
from tapegrad.nn.functional.linear import linear
from tapegrad.nn.functional.recurrent import STEPS, recurrent
from tapegrad.nn.modules.module import Module
from tapegrad.nn.modules.weights import new_parameter
from tapegrad.nn.utils.rnn import PackedSequence


class _Uniform(Module):
    """Parameters uniform on [-1 / sqrt(hidden_size), 1 / sqrt(hidden_size)) at first."""

    def reset_parameters(self):
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)


class RNNBase(_Uniform):
    """Layers of recurrent cells along sequences, the output of one the input of the next; `bidirectional` runs a second cell backwards.

    Inputs are (T, N, input_size), with `batch_first` (N, T, input_size), without a batch (T, input_size), or a `PackedSequence`.
    """

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0,
                 device=None, dtype=None):
        super().__init__()
        if not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater than 1, but got "
                f"dropout={dropout} and num_layers={num_layers}", UserWarning, stacklevel=2,
            )
        for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int), ("hidden_size", hidden_size, int)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in STEPS:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode, self.input_size, self.hidden_size, self.num_layers, self.bias = mode, input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional, self.proj_size = batch_first, float(dropout), bidirectional, proj_size
        gates, directions, out = STEPS[mode][1] * hidden_size, 1 + bool(bidirectional), proj_size or hidden_size
        self._all_weights = []
        for k in range(num_layers * directions):
            rows = input_size if k < directions else out * directions
            shapes = {"weight_ih": (gates, rows), "weight_hh": (gates, out)}
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)} if bias else {}
            shapes |= {"weight_hr": (proj_size, hidden_size)} if proj_size else {}
            suffix = f"_l{k // directions}" + "_reverse" * (k % directions)
            for name, shape in shapes.items():
                setattr(self, name + suffix, new_parameter(*shape, device=device, dtype=dtype))
            self._all_weights.append([name + suffix for name in shapes])
        self.reset_parameters()

    @property
    def all_weights(self):
        """The parameters of every layer and direction, a list of lists."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self):
        """Nothing: the parameters are read where they lie.  (On a GPU PyTorch would lay them side by side.)"""

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        return text + "".join(f", {name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default)

    # --- what is asked of the arguments ---------------------------------------------------------------------------------
    def _states(self) -> list[tuple[str, int]]:
        """What each tensor of the state is called in errors, and its size."""
        return [("hidden", self.proj_size or self.hidden_size)]

    def _check_rank(self, state, batched) -> None:
        if state[0].ndim != (3 if batched else 2):
            kind = "For batched 3-D input, hx should also be 3-D" if batched else "For unbatched 2-D input, hx should also be 2-D"
            raise RuntimeError(f"{kind} but got {state[0].ndim}-D tensor")

    def _check(self, data, packed, state, rows) -> None:
        weight = getattr(self, self._all_weights[0][0])
        if data.dtype is not weight.dtype:
            raise ValueError(
                f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype}). Convert input: input.to({weight.dtype}), or convert "
                f"model: model.to({data.dtype})"
            )
        if data.ndim != (2 if packed else 3):
            raise RuntimeError(f"input must have {2 if packed else 3} dimensions, got {data.ndim}")
        if data.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}")
        for s, (name, size) in zip(state, self._states(), strict=True):
            expected = (self.num_layers * (1 + bool(self.bidirectional)), rows, size)
            if tuple(s.shape) != expected:
                raise RuntimeError(f"Expected {name} size {expected}, got {list(s.shape)}")

    def _run(self, input, state):
        """(output, tensors of the last state) from a state of tensors or None."""
        packed, sizes = isinstance(input, PackedSequence), None
        directions, data, batched = 1 + bool(self.bidirectional), input, True
        if packed:
            data, sizes = input.data, input.batch_sizes.tolist()
        elif data.ndim not in (2, 3):
            kind = type(self).__name__
            raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {data.ndim}D {'tensor ' * (kind == 'RNN')}instead")
        else:
            batched = data.ndim == 3
            if state is not None:
                self._check_rank(state, batched)
                state = state if batched else [s.unsqueeze(1) for s in state]
            data = data if batched else data.unsqueeze(0 if self.batch_first else 1)
        rows = sizes[0] if packed else data.shape[0 if self.batch_first else 1]
        if state is None:
            state = [creation.zeros(self.num_layers * directions, rows, size, dtype=data.dtype) for _, size in self._states()]
        elif packed and input.sorted_indices is not None:
            state = [s.index_select(1, input.sorted_indices) for s in state]
        self._check(data, packed, state, rows)
        turned = self.batch_first and not packed
        weights = [w[:2] + (w[2:] if self.bias else [None, None, *w[2:]]) for w in self.all_weights]
        output, last = recurrent(self.mode, data.transpose(0, 1) if turned else data, sizes, state, weights, directions, self.dropout if self.training else 0)
        if packed:
            last = [s if input.unsorted_indices is None else s.index_select(1, input.unsorted_indices) for s in last]
            return PackedSequence(output, *input[1:]), last
        output = output.transpose(0, 1) if turned else output
        return (output, last) if batched else (output.squeeze(0 if self.batch_first else 1), [s.squeeze(1) for s in last])

    def forward(self, input, hx=None):
        """(the outputs (T, N, directions * H), the last state (layers * directions, N, H)); `hx` is the state before, zeros without."""
        output, last = self._run(input, None if hx is None else [hx])
        return output, last[0]


class RNN(RNNBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it, along sequences.

    >>> import tapegrad as tg
    >>> output, h = tg.nn.RNN(3, 5)(tg.ones(7, 2, 3))
    >>> output.shape, h.shape
    (tapegrad.Size([7, 2, 5]), tapegrad.Size([1, 2, 5]))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0, bidirectional=False,
                 device=None, dtype=None, **kwargs):
        _refuse_projection(kwargs)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         device=device, dtype=dtype, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory along sequences (`functional.recurrent.lstm_step`); the state is a pair (h, c); `proj_size` > 0 projects h.

    >>> import tapegrad as tg
    >>> output, (h, c) = tg.nn.LSTM(3, 5, bidirectional=True, batch_first=True)(tg.ones(2, 7, 3))
    >>> output.shape, h.shape
    (tapegrad.Size([2, 7, 10]), tapegrad.Size([2, 2, 5]))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0,
                 device=None, dtype=None):
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)

    def _states(self):
        return [("hidden[0]", self.proj_size or self.hidden_size), ("hidden[1]", self.hidden_size)]

    def _check_rank(self, state, batched):
        ranks = tuple(s.ndim for s in state)
        if ranks != ((3, 3) if batched else (2, 2)):
            kind = "For batched 3-D input, hx and cx should also be 3-D" if batched else "For unbatched 2-D input, hx and cx should also be 2-D"
            raise RuntimeError(f"{kind} but got ({ranks[0]}-D, {ranks[1]}-D) tensors")

    def forward(self, input, hx=None):
        """(the outputs (T, N, directions * H), the last state (h, c)), each (layers * directions, N, H); `hx` is the pair before."""
        output, last = self._run(input, None if hx is None else list(hx))
        return output, tuple(last)


class GRU(RNNBase):
    """Gated recurrent units along sequences (`functional.recurrent.gru_step`)."""

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, device=None,
                 dtype=None, **kwargs):
        _refuse_projection(kwargs)
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype, **kwargs)


def _refuse_projection(options) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


# --- cells ----------------------------------------------------------------------------------------------------------
class RNNCellBase(_Uniform):
    """One step of a recurrent layer: input (N, input_size) or (input_size,), state likewise of hidden_size."""

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        for name, shape in (("weight_ih", (rows, input_size)), ("weight_hh", (rows, hidden_size)), ("bias_ih", (rows,)), ("bias_hh", (rows,))):
            there = bias or name.startswith("weight")
            self.register_parameter(name, new_parameter(*shape, device=device, dtype=dtype) if there else None)
        self.reset_parameters()

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}" + (f", bias={self.bias}" if self.bias is not True else "")
        nonlinearity = getattr(self, "nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else f"{text}, nonlinearity={nonlinearity}"

    def _step(self, mode, input, state):
        """The state after one step, from a list of named tensors or None."""
        kind = type(self).__name__
        for name, t in [("input", input), *(state or ())]:
            if t.ndim not in (1, 2):
                raise ValueError(f"{kind}: Expected {name} to be 1D or 2D, got {t.ndim}D instead")
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if x.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        if state is None:
            zeros = creation.zeros(x.shape[0], self.hidden_size, dtype=x.dtype)
            tensors = [zeros] * (2 if mode == "LSTM" else 1)
        else:
            tensors = [t if batched else t.unsqueeze(0) for _, t in state]
        for k, t in enumerate(tensors):
            if x.shape[0] != t.shape[0]:
                raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{k} batch size {t.shape[0]}")
            if t.shape[1] != self.hidden_size:
                raise RuntimeError(f"hidden{k} has inconsistent hidden_size: got {t.shape[1]}, expected {self.hidden_size}")
        result = STEPS[mode][0](linear(x, self.weight_ih, self.bias_ih), tensors, self.weight_hh, self.bias_hh)
        return result if batched else tuple(t.squeeze(0) for t in result)


class RNNCell(RNNCellBase):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        """The next state; the state before is zero without `hx`."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step("RNN_" + self.nonlinearity.upper(), input, None if hx is None else [("hidden", hx)])[0]


class LSTMCell(RNNCellBase):
    """One step of long short-term memory.

    >>> import tapegrad as tg
    >>> h, c = tg.nn.LSTMCell(3, 5)(tg.ones(2, 3))
    >>> h.shape
    tapegrad.Size([2, 5])
    """

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input, hx=None):
        """The next (h, c); both are zero before without `hx`."""
        return self._step("LSTM", input, None if hx is None else [(f"hx[{k}]", t) for k, t in enumerate(hx)])


class GRUCell(RNNCellBase):
    """One step of a gated recurrent unit."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input, hx=None):
        """The next state; the state before is zero without `hx`."""
        return self._step("GRU", input, None if hx is None else [("hidden", hx)])[0]
