"""`_check` and its kind: conditions that a program states, and the errors for those that do not hold."""

from __future__ import annotations

import warnings

from tapegrad.engine.bind import Handle

NO_TEXT = "Expected cond to be True, but got False. (Could this error message be improved? If so, please report an enhancement request to PyTorch.)"
OF_TENSORS = "For tensor conditions, use torch._check_tensor_all() to assert that all elements are true."


def _check_with(error_type: type[Exception], cond: bool, message=None) -> None:
    """Raise `error_type` with the text that `message()` gives unless `cond`."""
    if not isinstance(cond, bool):
        if isinstance(cond, Handle):
            raise TypeError(f"cond must be a bool, but got a Tensor. {OF_TENSORS}")
        raise TypeError(f"cond must be a bool, but got {type(cond)}")
    if not cond:
        if message is not None and not callable(message):
            raise TypeError("message must be a callable")
        raise error_type(NO_TEXT if message is None else str(message()))


def _check(cond: bool, message=None) -> None:
    """RuntimeError unless `cond`; `message` is a function that gives the text."""
    _check_with(RuntimeError, cond, message)


def _check_index(cond: bool, message=None) -> None:
    """IndexError unless `cond`."""
    _check_with(IndexError, cond, message)


def _check_value(cond: bool, message=None) -> None:
    """ValueError unless `cond`."""
    _check_with(ValueError, cond, message)


def _check_type(cond: bool, message=None) -> None:
    """TypeError unless `cond`."""
    _check_with(TypeError, cond, message)


def _check_not_implemented(cond: bool, message=None) -> None:
    """NotImplementedError unless `cond`."""
    _check_with(NotImplementedError, cond, message)


def _check_is_size(i, message=None, *, max=None) -> None:
    """RuntimeError unless 0 <= i (<= max)."""
    _check(i >= 0, message)
    warnings.warn(
        "_check_is_size will be removed in a future PyTorch release along with guard_size_oblivious.     Use _check(i >= 0) instead.",
        FutureWarning, stacklevel=2,
    )  # fmt: skip
    if max is not None:
        _check(i <= max, message)


def _check_tensor_all_with(error_type: type[Exception], cond, message=None) -> None:
    """Raise `error_type` unless every element of the bool tensor `cond` is true."""
    if not isinstance(cond, Handle):
        raise TypeError(f"cond must be a tensor, but got {type(cond)}")
    if cond.dtype.name != "bool":
        raise TypeError(f"cond tensor must have dtype torch.bool, but got torch.{cond.dtype.name}")
    _check_with(error_type, bool(cond.all().item()), message)


def _check_tensor_all(cond, message=None) -> None:
    """RuntimeError unless every element of the bool tensor `cond` is true."""
    _check_tensor_all_with(RuntimeError, cond, message)


def _assert(condition, message: str) -> None:
    """AssertionError unless `condition`, a truth value or tensor of one element."""
    assert condition, message


def _assert_async(input, assert_msg: str | None = None) -> None:
    """RuntimeError unless the one element of a tensor is nonzero."""
    if not bool(input):
        raise RuntimeError(assert_msg if assert_msg is not None else "Expected Tensor with single nonzero value, but got zero")


CHECKS = {
    f.__name__: f
    for f in (
        _check_with, _check, _check_index, _check_value, _check_type, _check_not_implemented, _check_is_size, _check_tensor_all_with,
        _check_tensor_all, _assert, _assert_async,
    )
}  # fmt: skip
