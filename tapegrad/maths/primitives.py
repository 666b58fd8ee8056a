"""The few operations every formula in this package is written in, once for NumPy arrays and once for compiled code.

The module-level functions work on NumPy arrays (and NumPy float64 scalars); `compiled_primitives()` returns functions of the same
names and meanings for numba, each a single LLVM instruction or intrinsic that the loop vectoriser knows. Formula sources import the
plain ones, so they run as they stand on arrays; `library` rebinds the names to compile the same source.
"""

from __future__ import annotations

import numpy as np

_UPPER_HALF = -(1 << 27)  # mask clearing the low 27 bits of a float64: what is left times another such half is exact


def where(condition, if_true, if_false):
    """Both sides are evaluated; a select, never a branch."""
    return np.where(condition, if_true, if_false)


def bits(x):
    """The bit pattern of a float64 as an int64."""
    return np.asarray(x, np.float64).view(np.int64)


def from_bits(i):
    return np.asarray(i, np.int64).view(np.float64)


def nearest(x):
    """Round to the nearest integer, ties to even."""
    return np.rint(x)


def fabs(x):
    return np.fabs(x)


def copysign(magnitude, sign):
    return np.copysign(magnitude, sign)


def sqrt(x):
    return np.sqrt(x)


def two_sum(a, b):
    """The rounded sum and its exact error (Knuth, TAOCP vol. 2, 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def product(a, b):
    """The rounded product and its exact error (Dekker 1971 here; one fused multiply-add where compiled)."""
    total = a * b
    a_high = from_bits(bits(a) & _UPPER_HALF)
    b_high = from_bits(bits(b) & _UPPER_HALF)
    a_low, b_low = a - a_high, b - b_high
    return total, ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low


def minus_product(x, a, b):
    """x - a * b, exact wherever the difference is representable (as it is in argument reduction)."""
    total, error = product(a, b)
    return (x - total) - error


def wide(x):
    return np.asarray(x, np.float64)


def narrow(x):
    return np.asarray(x, np.float64).astype(np.float32)


def compiled_primitives() -> dict:
    """The same names for numba. Imports numba."""
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    double, int64 = ir.DoubleType(), ir.IntType(64)

    def llvm(name: str, arity: int):
        def generate(context, builder, signature, arguments):
            kind = ir.FunctionType(double, [double] * arity)
            return builder.call(builder.module.declare_intrinsic(name, [double], kind), arguments)

        if arity == 1:
            return intrinsic(lambda typing, x: (types.float64(types.float64), generate))
        if arity == 2:
            return intrinsic(lambda typing, x, y: (types.float64(types.float64, types.float64), generate))
        return intrinsic(lambda typing, x, y, z: (types.float64(types.float64, types.float64, types.float64), generate))

    def cast(source, target, operation: str, target_ir):
        def generate(context, builder, signature, arguments):
            return getattr(builder, operation)(arguments[0], target_ir)

        return intrinsic(lambda typing, x: (target(source), generate))

    @intrinsic
    def select(typing, condition, if_true, if_false):
        def generate(context, builder, signature, arguments):
            return builder.select(*arguments)

        kind = if_true if if_true == if_false and if_true in (types.float64, types.int64) else types.float64
        return kind(types.boolean, kind, kind), generate

    fma = llvm("llvm.fma", 3)

    # No fast-math flag on these: contracting a product into one of the sums would make the "error" that of another operation.
    # Said outright, as numba would otherwise hand down the flags of the caller.
    exact = njit(forceinline=True, error_model="numpy", fastmath=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

    def product_compiled(a, b):
        total = a * b
        return total, fma(a, b, -total)

    def minus_product_compiled(x, a, b):
        return fma(-a, b, x)

    return {
        "where": select,
        "bits": cast(types.float64, types.int64, "bitcast", int64),
        "from_bits": cast(types.int64, types.float64, "bitcast", double),
        "nearest": llvm("llvm.rint", 1),
        "fabs": llvm("llvm.fabs", 1),
        "copysign": llvm("llvm.copysign", 2),
        "sqrt": llvm("llvm.sqrt", 1),
        "two_sum": exact(two_sum),
        "product": exact(product_compiled),
        "minus_product": exact(minus_product_compiled),
        "wide": cast(types.float32, types.float64, "fpext", double),
        "narrow": cast(types.float64, types.float32, "fptrunc", ir.FloatType()),
    }
