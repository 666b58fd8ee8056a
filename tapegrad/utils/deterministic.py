"""`tapegrad.utils.deterministic.fill_uninitialized_memory`: whether new memory is filled while deterministic algorithms are on."""

from __future__ import annotations

import sys
import types

from tapegrad import determinism


class _Deterministic(types.ModuleType):
    @property
    def fill_uninitialized_memory(self) -> bool:
        """True: NaN, the largest integer or True fills what `empty` and its kind make."""
        return determinism.fill_uninitialized_memory

    @fill_uninitialized_memory.setter
    def fill_uninitialized_memory(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise RuntimeError(f"expected a bool, but got {type(mode).__name__}")
        determinism.fill_uninitialized_memory = mode


sys.modules[__name__].__class__ = _Deterministic
