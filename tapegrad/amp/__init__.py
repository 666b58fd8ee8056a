"""Training in reduced precision: `GradScaler`, which keeps small gradients from vanishing in it."""

from __future__ import annotations

from tapegrad.amp.grad_scaler import GradScaler

__all__ = ["GradScaler"]
