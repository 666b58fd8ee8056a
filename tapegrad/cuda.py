"""What programs ask before they choose a device: there is no CUDA here."""

from __future__ import annotations


def is_available() -> bool:
    """Whether CUDA can be used: never.

    >>> import tapegrad as tg
    >>> tg.device("cuda" if tg.cuda.is_available() else "cpu")
    device(type='cpu')
    """
    return False


def is_initialized() -> bool:
    """Whether CUDA has been started: never."""
    return False


def device_count() -> int:
    """The number of CUDA devices: 0."""
    return 0


def manual_seed(seed: int) -> None:
    """Seed the generator of the current CUDA device: there is none."""


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all CUDA devices: there are none."""


def empty_cache() -> None:
    """Give back unused CUDA memory: there is none."""
