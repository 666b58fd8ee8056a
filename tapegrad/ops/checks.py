"""Refusals that belong to single ops, in torch's words; an op record names its check."""

from __future__ import annotations

from tapegrad import dtypes
from tapegrad.ops.transformable import plain


def _dtype(operand):
    return operand.dtype if hasattr(operand, "dtype") else dtypes.of_number(operand)


def no_bool_sub(op, operands):
    kinds = [_dtype(o).category == dtypes.BOOL for o in operands]
    if all(kinds):
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead."
        )
    if any(kinds):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. "
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )


def no_bool_neg(op, operands):
    if _dtype(operands[0]).category == dtypes.BOOL:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. "
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
        )


def nonzero_divisor(op, operands):
    """Integer division by zero is an error; by a zero anywhere in a divisor tensor."""
    if any(_dtype(o).category > dtypes.INTEGER for o in operands) or all(_dtype(o).category == dtypes.BOOL for o in operands):
        return
    divisor = operands[1]
    zero = (plain(divisor).detach()._array() == 0).any() if hasattr(divisor, "_array") else divisor == 0
    if zero:
        raise RuntimeError("ZeroDivisionError")


def powers(op, operands):
    base, exponent = operands
    halves = [_dtype(o) is dtypes.float16 for o in operands]
    number = next((o for o in operands if not hasattr(o, "dtype")), None)
    if halves[0] and isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) > 65504 and number - number == 0:
        raise RuntimeError("value cannot be converted to type c10::Half without overflow")
    if any(halves) and isinstance(number, complex) and not (halves[1] and number == 1):
        raise NotImplementedError("\"pow\" not implemented for 'ComplexHalf'")
    if _dtype(base).category <= dtypes.INTEGER and not hasattr(exponent, "dtype") and isinstance(exponent, int) and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")


def no_complex_clamp(op, operands):
    if _dtype(operands[0]).is_complex and not (len(operands) > 1 and hasattr(operands[1], "_slot")):
        raise NotImplementedError("clamp is not supported for complex types")


def bound(kernel: str):
    """The refusal of clamp with one bound; `kernel` is that for numbers, which bools have not."""

    def check(op, operands):
        no_complex_clamp(op, operands)
        if isinstance(operands[1], bool) and _dtype(operands[0]) is dtypes.bool_:
            raise no_kernel(kernel, dtypes.bool_)

    return check


def parts(op, operands):
    """What `complex` and `polar` make a complex number of: two tensors of one dtype, of which there is a complex dtype of parts."""
    for k, x in enumerate(operands):
        if not hasattr(x, "_slot"):
            raise TypeError(f"{op.name}(): argument '{op.parameters[k]}' (position {k + 1}) must be Tensor, not {type(x).__name__}")
    first, second = _dtype(operands[0]), _dtype(operands[1])
    if any(d not in (dtypes.float16, dtypes.float32, dtypes.float64) for d in (first, second)):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {first.scalar_name} and {second.scalar_name}")
    if first is not second:
        raise RuntimeError(f"Expected object of scalar type {first.scalar_name} but got scalar type {second.scalar_name} for second argument")
    if op.name == "polar" and first is dtypes.float16:
        raise no_kernel("polar_cpu", first)


def no_kernel(name: str, d) -> NotImplementedError:
    """The error for a dtype that the kernel of that name (torch's) has no code for."""
    return NotImplementedError(f'"{name}" not implemented for \'{d.scalar_name}\'')


def outside(array, low: int, size: int):
    """The first index in a NumPy array that is below `low` or not below `size`, None if there is none."""
    bad = array[(array < low) | (array >= size)]
    return bad[0] if bad.size else None


def floats_only(kernel: str):
    """The refusal of an op that has floating-point kernels only; `kernel` is the name that torch's message gives."""

    def check(op, operands):
        d = max((_dtype(x) for x in operands[: len(operands) - op.numbers]), key=lambda d: d.category)
        if d.category <= dtypes.INTEGER:
            raise NotImplementedError(f'"{kernel}" not implemented for \'{d.scalar_name}\'')

    return check


def no_bool_relu(op, operands):
    if _dtype(operands[0]).category == dtypes.BOOL:
        raise RuntimeError("Boolean inputs not supported for relu")


def same_dtypes(op, operands):
    if any(_dtype(x).is_complex for x in operands):
        raise RuntimeError(f"{op.name} is not yet implemented for complex tensors.")
    for k, operand in enumerate(operands):
        if not hasattr(operand, "dtype"):
            raise TypeError(f"{op.name}(): argument '{op.parameters[k]}' (position {k + 1}) must be Tensor, not {type(operand).__name__}")
    if _dtype(operands[0]) is not _dtype(operands[1]):
        raise RuntimeError(f"{op.name} is not yet implemented for tensors with different dtypes.")


OF_ELEMENTS = (nonzero_divisor, powers)  # those that must look again at every call, whatever the dtypes
