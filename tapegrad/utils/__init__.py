"""Helpers: checkpointing, DLPack, and `data`, which is imported at its first use."""

from __future__ import annotations

from importlib import import_module as _import_module

from tapegrad.utils import checkpoint, deterministic, dlpack  # noqa: F401


def __getattr__(name: str):
    if name == "data":
        return _import_module("tapegrad.utils.data")
    raise AttributeError(f"module 'tapegrad.utils' has no attribute {name!r}")
