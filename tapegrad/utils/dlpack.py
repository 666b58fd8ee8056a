"""The functions of DLPack under PyTorch's older names: `to_dlpack`, `from_dlpack`."""

from __future__ import annotations

from tapegrad.creation import from_dlpack

__all__ = ["from_dlpack", "to_dlpack"]


def to_dlpack(tensor):
    """A capsule with the memory of `tensor`, which may be consumed once.

    >>> import tapegrad as tg
    >>> tg.from_dlpack(tg.utils.dlpack.to_dlpack(tg.ones(2)))
    tensor([1., 1.])
    """
    return tensor.__dlpack__()
