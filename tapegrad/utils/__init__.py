"""Helpers: checkpointing, DLPack."""

from tapegrad.utils import checkpoint, deterministic, dlpack  # noqa: F401
