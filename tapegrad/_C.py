"""The few names of torch's `_C` that programs with Tensor subclasses use."""

from __future__ import annotations

from tapegrad.overriding import DisableTorchFunction, DisableTorchFunctionSubclass
from tapegrad.overriding import disabled as _disabled_torch_function_impl
from tapegrad.random import Generator

__all__ = ["DisableTorchFunction", "DisableTorchFunctionSubclass", "Generator", "_disabled_torch_function_impl"]
