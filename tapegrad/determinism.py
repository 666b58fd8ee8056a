"""Deterministic algorithms: the switch, what refuses while it is on, and the filling of memory that would hold whatever was there before.

Every operation here gives the same bits for the same operands on the same number of threads, but for the few that leave it open which of several
values is written to one place; those ask `alert`.
"""

from __future__ import annotations

import warnings

_modes = ("default", "warn", "error")
_mode = 0  # an index of these
fill_uninitialized_memory = True  # while the switch is on; public as `tapegrad.utils.deterministic.fill_uninitialized_memory`


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Let operations whose results may differ from run to run raise a RuntimeError, or warn if `warn_only`; new memory is filled.

    >>> import tapegrad as tg
    >>> tg.use_deterministic_algorithms(True)
    >>> tg.empty(2)
    tensor([nan, nan])
    >>> tg.use_deterministic_algorithms(False)
    """
    global _mode
    for name, value in (("'mode' (position 1)", mode), ("'warn_only'", warn_only)):
        if not isinstance(value, bool):
            raise TypeError(f"_set_deterministic_algorithms(): argument {name} must be bool, not {type(value).__name__}")
    _mode = (1 if warn_only else 2) if mode else 0


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` is on."""
    return _mode > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it is on and only warns."""
    return _mode == 1


def set_deterministic_debug_mode(debug_mode) -> None:
    """The same as a number or name: 0 "default" (off), 1 "warn", 2 "error"."""
    global _mode
    if not isinstance(debug_mode, (int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in _modes:
            raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}")
        debug_mode = _modes.index(debug_mode)
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    _mode = int(debug_mode)


def get_deterministic_debug_mode() -> int:
    """0 off, 1 warn, 2 raise."""
    return _mode


def alert(name: str) -> None:
    """Called by an operation that is not deterministic."""
    if not _mode:
        return
    about = "to help us prioritize adding deterministic support for this operation."
    if _mode == 1:
        warnings.warn(
            f"{name} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True, warn_only=True)'. "
            f"You can file an issue at https://github.com/pytorch/pytorch/issues {about}", UserWarning, stacklevel=3,
        )  # fmt: skip
    else:
        raise RuntimeError(
            f"{name} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'. You can turn off "
            "determinism just for this operation, or you can use the 'warn_only=True' option, if that's acceptable for your application. You can "
            f"also file an issue at https://github.com/pytorch/pytorch/issues {about}"
        )


def uninitialised(t, first: int = 0):
    """A fresh tensor over memory that holds anything: with NaN, the largest integer or True in it if the switch is on.

    `first`: how many elements, in memory's order, hold something already.
    """
    if _mode and fill_uninitialized_memory:
        from tapegrad import modes
        from tapegrad.limits import iinfo

        d = t.dtype
        with modes.no_grad():
            whole = t.as_strided((t.untyped_storage().nbytes() // d.itemsize,), (1,), 0)[t.storage_offset() + first :]
            whole.fill_(float("nan") if d.differentiable else True if d.name == "bool" else iinfo(d).max)
    return t
