"""Switches that programs set and ask: those of no consequence on the CPU here are remembered, so that they read as they were set."""

from __future__ import annotations

import os

from tapegrad.cautions import warn_once

_precision = "highest"
_interop = 0


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` has said; products of float32 matrices are computed in float32 always."""
    return _precision


def set_float32_matmul_precision(precision: str) -> None:
    """Allow products of float32 matrices to be less exact: "highest", "high" or "medium"."""
    global _precision
    if not isinstance(precision, str):
        raise RuntimeError(f"set_float32_matmul_precision expects a str, but got {type(precision).__name__}")
    if precision not in ("highest", "high", "medium"):
        warn_once(f"{precision} is not one of 'highest', 'high', or 'medium'; the currentsetFloat32MatmulPrecision call has no effect.")
        return
    _precision = precision


def set_flush_denormal(mode: bool) -> bool:
    """Ask for denormal numbers to become zero; False: that is not done here."""
    if not isinstance(mode, bool):
        raise RuntimeError(f"flush_denormal expects a bool, but got {type(mode).__name__}")
    return False


def check_threads(name: str, count) -> None:
    """torch's refusals of what is no number of threads."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise RuntimeError(f"{name} expects an int, but got {type(count).__name__}")
    if count >= 2**63:
        raise ValueError("Overflow when unpacking long long")
    if count < 1:
        raise RuntimeError(f"{name} expects a positive integer")


def get_num_interop_threads() -> int:
    """What `set_num_interop_threads` has said, at first the number of cores; operations run one after the other always."""
    return _interop or os.cpu_count() or 1


def set_num_interop_threads(count: int) -> None:
    """Allow `count` operations at a time; once only, as in torch."""
    global _interop
    check_threads("set_num_interop_threads", count)
    if _interop:
        raise RuntimeError("Error: cannot set number of interop threads after parallel work has started or set_num_interop_threads called")
    _interop = count
