"""Helpers: checkpointing, DLPack."""

from tapegrad.utils import checkpoint, dlpack  # noqa: F401
