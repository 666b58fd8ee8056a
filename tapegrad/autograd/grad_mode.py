"""`torch.autograd.grad_mode` by name, and its modes that are for those who know what they do."""

from __future__ import annotations

from tapegrad import core, modes
from tapegrad.modes import enable_grad, inference_mode, no_grad, set_grad_enabled, set_multithreading_enabled
from tapegrad.tensor import Tensor

__all__ = ["enable_grad", "inference_mode", "no_grad", "set_grad_enabled", "set_multithreading_enabled"]


def is_view_replay_enabled() -> bool:
    """Whether a view whose base has changed is taken again step by step rather than as one node (AsStridedBackward0)."""
    return bool(modes.word() & modes.VIEW_REPLAY)


class _force_original_view_tracking(modes._Switch):
    """Switch view replay on or off, in this thread; as a context manager (or decorator), until its end."""

    bits = modes.VIEW_REPLAY


class _unsafe_preserve_version_counter(modes._ModeContext):
    """A context whose in-place changes of `tensors` are not counted: autograd will not notice that saved values have changed."""

    def __new__(cls, tensors):
        return super().__new__(cls)

    def __init__(self, tensors):
        self.tensors = (tensors,) if isinstance(tensors, Tensor) else tensors
        if not isinstance(self.tensors, tuple):
            raise AssertionError("Expected tensors to be a tuple")
        self.versions = tuple(t._version for t in self.tensors)

    def __enter__(self):
        pass

    def __exit__(self, *exception):
        for t, version in zip(self.tensors, self.versions, strict=True):
            core.bump_version(t._slot, version - t._version)

    def clone(self):
        return type(self)(self.tensors)
