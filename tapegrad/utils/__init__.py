"""Helpers around training: checkpointing."""

from tapegrad.utils import checkpoint  # noqa: F401
