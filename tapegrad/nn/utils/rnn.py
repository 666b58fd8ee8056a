"""Sequences of different lengths: padded to one tensor, or packed, all first elements before all second ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tapegrad import creation, dtypes
from tapegrad.engine.bind import Handle
from tapegrad.ops.joining import cat, stack

UNSORTED = (
    "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass `enforce_sorted=False` to pack_padded_sequence "
    "and/or pack_sequence to sidestep this requirement if you do not need ONNX exportability."
)


class _Fields(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


def _as(d):
    """The method that converts to dtype d."""
    def convert(self):
        return self.to(dtype=d)

    convert.__doc__ = f"The sequences as {d.name}."
    return convert


class PackedSequence(_Fields):
    """Sequences, the longest first: `data` (sum of lengths, ...) has step after step, `batch_sizes` how many sequences each step still has.

    `sorted_indices` is the order in which the sequences stood before, `unsorted_indices` leads back to it.  Made by `pack_sequence`.
    """

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        """The sequences in another dtype."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else type(self)(data, *self[1:])

    double, float, half = _as(dtypes.float64), _as(dtypes.float32), _as(dtypes.float16)
    long, int, short, char, byte = _as(dtypes.int64), _as(dtypes.int32), _as(dtypes.int16), _as(dtypes.int8), _as(dtypes.uint8)

    def cpu(self):
        """Themselves: there is no other device."""
        return self

    is_cuda = False


def invert_permutation(permutation):
    """The permutation that takes `permutation` back; None for None."""
    if permutation is None:
        return None
    result = creation.empty_like(permutation)
    return result.scatter_(0, permutation, creation.arange(permutation.numel()))


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """The packed form of padded sequences (T, N, ...), or (N, T, ...) with `batch_first`, of the given lengths.

    >>> import tapegrad as tg
    >>> packed = pack_padded_sequence(tg.tensor([[1, 2], [3, 0]]), [2, 1])
    >>> packed.data, packed.batch_sizes
    (tensor([1, 2, 3]), tensor([2, 1]))
    """
    lengths = lengths.to(dtypes.int64) if isinstance(lengths, Handle) else creation.tensor(lengths, dtype=dtypes.int64)
    order = None
    if not enforce_sorted:
        lengths, order = lengths.sort(descending=True)
        input = input.index_select(0 if batch_first else 1, order)
    if batch_first:
        input = input.transpose(0, 1)
    if not input.numel():
        raise RuntimeError("Cannot pack empty tensors.")
    if lengths.dim() != 1:
        raise RuntimeError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.dim()}D cpu Long tensor")
    counts = lengths.tolist()
    if len(counts) != input.size(1):
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(counts)} (batch_size={input.size(1)})")
    if counts and min(counts) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if counts != sorted(counts, reverse=True):
        raise RuntimeError(UNSORTED)
    sizes = [sum(n > t for n in counts) for t in range(counts[0])]
    data = cat([input[t, :n] for t, n in enumerate(sizes[: input.shape[0]])], 0)
    return PackedSequence(data, creation.tensor(sizes, dtype=dtypes.int64), order)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """(padded sequences (T, N, ...), or (N, T, ...) with `batch_first`, lengths) of packed ones, in the order they had before."""
    sizes = sequence.batch_sizes.tolist()
    if total_length is not None and total_length < len(sizes):
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, but got "
            f"total_length={total_length} and max sequence length being {len(sizes)}"
        )
    data, most = sequence.data, sizes[0]
    filler = lambda rows: data.new_full((rows, *data.shape[1:]), padding_value)
    steps = [part if n == most else cat([part, filler(most - n)], 0) for part, n in zip(data.split(sizes), sizes, strict=True)]
    steps += [filler(most)] * ((total_length or len(sizes)) - len(sizes))
    padded, lengths = stack(steps, 1 if batch_first else 0), creation.tensor([sum(n > b for n in sizes) for b in range(most)], dtype=dtypes.int64)
    order = sequence.unsorted_indices
    return (padded, lengths) if order is None else (padded.index_select(0 if batch_first else 1, order), lengths[order])


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Sequences (L_i, ...) in one tensor (T, N, ...), or (N, T, ...) with `batch_first`, the shorter ones filled up to the longest."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    longest, padded = max(s.shape[0] for s in sequences), []
    for s in sequences:
        filler = s.new_full((longest - s.shape[0], *sequences[0].shape[1:]), padding_value)
        padded.append(cat([s, filler] if padding_side == "right" else [filler, s], 0))
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The list of the sequences in a padded tensor."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


def pack_sequence(sequences, enforce_sorted=True):
    """The packed form of a list of sequences (L_i, ...)."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """The list of the sequences in a packed form."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)
