"""What both directions share: the memory that saved and loaded tensors look into."""

from __future__ import annotations

from tapegrad import core, dtypes

POSTPONED = {"conj": dtypes.CONJ, "neg": dtypes.NEG}  # torch's names for what `ops/postponed.py` keeps beside the dtype


class Storage:
    """The memory that a saved or loaded tensor looks into; `tensor` holds it, as bytes."""

    def __init__(self, tensor, key: str, dtype=None):
        self.tensor, self.key, self.dtype = tensor, key, dtype

    def nbytes(self) -> int:
        return core.memory_of(self.tensor._slot)[1]

    def address(self) -> int:
        return core.memory_of(self.tensor._slot)[0]


def tensor_type():
    from tapegrad.tensor import Tensor

    return Tensor


def parameter_type():
    from tapegrad.nn_parameter import Parameter

    return Parameter
