"""Forward-mode differentiation by hand: tensors that carry a tangent inside a level.

    with dual_level():
        x = make_dual(primal, tangent)
        y, product = unpack_dual(f(x))       # product: the Jacobian of f times tangent
"""

from __future__ import annotations

from typing import NamedTuple

from tapegrad import modes
from tapegrad.tensor import Tensor

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]

NO_BATCHES = "Batching rule not implemented for aten::_make_dual; the fallback path doesn't work on out= or view ops."
_entered: list = []  # one at most, as in torch
_current_level = -1  # the number of the level that is entered, under torch's name


class UnpackedDualTensor(NamedTuple):
    """What `unpack_dual` returns."""

    primal: Tensor
    tangent: Tensor | None


def refuse_nested() -> None:
    """Raise in a level that was entered by hand: nothing else of forward mode begins there."""
    if _entered:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")


def refuse_in_transforms() -> None:
    """Raise in a function under jvp, whose level torch has entered for it."""
    from tapegrad.transforms.wrappers import levels

    if any(level.kind == "jvp" for level in levels()):
        raise RuntimeError("Nested forward mode AD is not supported at the moment")


def enter_dual_level() -> int:
    """Enter the level in which `make_dual` and `unpack_dual` work; returns its number, 0."""
    from tapegrad.transforms.forward import DualLevel

    refuse_nested()
    refuse_in_transforms()
    _entered.append(DualLevel(restores=True))
    _entered[-1].__enter__()
    globals()["_current_level"] = 0
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Leave the level: the tangents of its tensors are gone."""
    current = len(_entered) - 1
    if not _entered and level in (None, -1):
        raise RuntimeError("Dual level must be a positive number.")
    if (current if level is None else level) != current:
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not supported.")
    globals()["_current_level"] = -1
    _entered.pop().__exit__()


def check_dual(tensor, tangent) -> None:
    """torch's errors for what cannot be a primal with its tangent."""
    for name, t in (("primal", tensor), ("tangent", tangent)):
        if not (t.is_floating_point() or t.is_complex()):
            raise ValueError(f"Expected {name} to be floating point or complex, but got: {t.dtype}")
    if tangent.shape != tensor.shape:
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not supported. Tensor is of "
            f"size {list(tensor.shape)} while the given forward gradient is of size {list(tangent.shape)}."
        )


def laid_out(tangent, tensor):
    """`tangent`, copied if it does not lie in memory as `tensor` does, or is not conjugated or negated where that is: views of both must agree."""
    if tangent._level is not None or tensor._level is not None or not tensor.numel():
        return tangent
    if described(tangent) == described(tensor):
        return tangent
    from tapegrad.creation import zeros

    result = zeros(elements_of_storage(tensor), dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    if tensor.is_conj():
        result = result.conj()
    if tensor.is_neg():
        result = result._neg_view()
    return result.copy_(tangent)


def described(t) -> tuple:
    return t.stride(), t.storage_offset(), t.is_conj(), t.is_neg(), elements_of_storage(t)


def elements_of_storage(t) -> int:
    return t.untyped_storage().nbytes() // t.element_size()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor with the values of `tensor` that carries `tangent`."""
    number = len(_entered) - 1 if level is None else level
    if number < 0 or not _entered:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first.")
    check_dual(tensor, tangent)
    own = _entered[-1]
    if any(level is not None and level.kind == "vmap" and level.public and level.depth < own.depth for level in (tensor._level, tangent._level)):
        raise RuntimeError(NO_BATCHES)
    if own.follows(tensor):
        raise RuntimeError(f"Making a dual Tensor based on a Tensor that already has a forward gradient at the same level {number} is not supported.")
    if own.follows(tangent):
        raise RuntimeError(f"Setting a forward grad that itself has a forward gradient at the same level{number} is not supported.")
    result = own.wrap(tensor, laid_out(tangent, tensor))
    result._shared = True  # in-place operations change the tangent itself
    return result


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(primal, tangent) of a tensor; the tangent is None if it carries none."""
    if not _entered:
        return UnpackedDualTensor(tensor, None)
    own = _entered[-1]
    value = own.value(tensor)
    return UnpackedDualTensor(value.view_as(value) if own.follows(tensor) else value, own.tangent(tensor))


def _is_fwd_grad_enabled() -> bool:
    """Whether operations on dual tensors compute tangents."""
    return not modes.word() & modes.UNFOLLOWED


class _set_fwd_grad_enabled(modes._ModeContext):
    """Whether operations on dual tensors compute tangents: at once, and as a context manager until its end."""

    def __init__(self, mode):
        self.mode = mode
        self._before.append(modes.set_bits(modes.UNFOLLOWED, not mode))

    def __enter__(self):
        modes.set_bits(modes.UNFOLLOWED, not self.mode)

    def __exit__(self, *exception):
        modes.set_bits(modes.UNFOLLOWED, bool(self._before[0] & modes.UNFOLLOWED))


class dual_level(modes._ModeContext):
    """The level as a context manager (and decorator).

    >>> import tapegrad as tg
    >>> from tapegrad.autograd import forward_ad
    >>> with forward_ad.dual_level():
    ...     x = forward_ad.make_dual(tg.tensor(3.), tg.tensor(1.))
    ...     forward_ad.unpack_dual(x * x).tangent
    tensor(6.)
    """

    def __enter__(self):
        return enter_dual_level()

    def __exit__(self, *exception):
        exit_dual_level()
