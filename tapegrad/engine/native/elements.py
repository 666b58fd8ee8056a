"""What kernel text may use: typed element access and the branch-free scalar operations that have no operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

I64, VOID = types.int64, types.void
_i64, _i16, _i32 = ir.IntType(64), ir.IntType(16), ir.IntType(32)
_float, _double, _half = ir.FloatType(), ir.DoubleType(), ir.HalfType()


@intrinsic
def load_i64(typingctx, address):
    """The int64 at an address."""
    return I64(I64), lambda context, builder, sig, args: builder.load(builder.inttoptr(args[0], _i64.as_pointer()))


@intrinsic
def store_i64(typingctx, address, value):
    """Write an int64 at an address."""

    def generate(context, builder, sig, args):
        builder.store(args[1], builder.inttoptr(args[0], _i64.as_pointer()))
        return context.get_dummy_value()

    return VOID(I64, I64), generate


@intrinsic
def copy_bytes(typingctx, target, source, count):
    """Copy bytes between places that do not overlap."""

    def generate(context, builder, sig, args):
        pointer = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], pointer), builder.inttoptr(args[1], pointer), args[2], 1)
        return context.get_dummy_value()

    return VOID(I64, I64, I64), generate


@intrinsic
def stack_lanes(typingctx):
    """The address of 24 KiB on the stack."""

    def generate(context, builder, sig, args):
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(_i64, 3072))
            place.align = 64
            return builder.ptrtoint(place, _i64)

    return I64(), generate


def _loose(sign=None):
    """An operation on two real numbers that the loop vectoriser may take in any order: their sum, or the larger or smaller, neither of them nan."""

    @intrinsic
    def function(typingctx, x, y):
        common = typingctx.unify_types(x, y)

        def generate(context, builder, sig, args):
            a, b = (context.cast(builder, value, kind, common) for value, kind in zip(args, sig.args, strict=True))
            if sign is None:
                return builder.fadd(a, b, flags=("reassoc",))
            flags = ("nnan", "nsz")
            return builder.select(builder.fcmp_ordered(sign, a, b, flags=flags), a, b, flags=flags)

        return common(x, y), generate

    return function


loose_sum, larger, smaller = _loose(), _loose(">"), _loose("<")


# name: (the type that kernels compute with, the type in memory)
TYPES = {
    "float32": (types.float32, _float),
    "float64": (types.float64, _double),
    "int64": (types.int64, _i64),
    "int32": (types.int32, _i32),
    "int16": (types.int16, _i16),
    "int8": (types.int8, ir.IntType(8)),
    "uint8": (types.uint8, ir.IntType(8)),
    "bool": (types.boolean, ir.IntType(8)),
    "float16": (types.float32, _half),
    "bfloat16": (types.float32, _i16),
    "complex64": (types.complex64, ir.LiteralStructType([_float, _float])),
    "complex128": (types.complex128, ir.LiteralStructType([_double, _double])),
    "complex32": (types.complex64, ir.LiteralStructType([_half, _half])),
}


def _each_part(builder, value, result, convert):
    """A complex value with both parts converted."""
    whole = ir.Constant(result, ir.Undefined)
    for k in (0, 1):
        whole = builder.insert_value(whole, convert(builder.extract_value(value, k)), k)
    return whole


def _widen(builder, value, name):
    """What memory holds as what kernels compute with."""
    if name == "bool":
        return builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0))
    if name == "float16":
        return builder.fpext(value, _float)
    if name == "bfloat16":
        return builder.bitcast(builder.shl(builder.zext(value, _i32), ir.Constant(_i32, 16)), _float)
    if name == "complex32":
        return _each_part(builder, value, ir.LiteralStructType([_float, _float]), lambda part: builder.fpext(part, _float))
    return value


def _narrow(builder, value, name):
    """The other way: rounded to nearest even."""
    if name == "bool":
        return builder.zext(value, ir.IntType(8))
    if name == "float16":
        return builder.fptrunc(value, _half)
    if name == "bfloat16":
        bits = builder.bitcast(value, _i32)
        upper = builder.lshr(bits, ir.Constant(_i32, 16))
        up = builder.add(builder.and_(upper, ir.Constant(_i32, 1)), ir.Constant(_i32, 0x7FFF))
        rounded = builder.trunc(builder.lshr(builder.add(bits, up), ir.Constant(_i32, 16)), _i16)
        return builder.select(builder.fcmp_unordered("uno", value, value), ir.Constant(_i16, 0x7FC0), rounded)
    if name == "complex32":
        return _each_part(builder, value, TYPES[name][1], lambda part: builder.fptrunc(part, _half))
    return value


def _to_int32(builder, value):
    """A real number cut off to an int32; the least one for what is out of range or nan, as x86's instruction has it."""
    bound = ir.Constant(value.type, 2.0**31)
    fits = builder.and_(builder.fcmp_ordered(">=", value, ir.Constant(value.type, -(2.0**31))), builder.fcmp_ordered("<", value, bound))
    whole = builder.fptosi(builder.select(fits, value, ir.Constant(value.type, 0.0)), _i32)
    return builder.select(fits, whole, ir.Constant(_i32, -(2**31)))


def _element(name):
    kind, llvm_type = TYPES[name]
    alignment = {"complex64": 4, "complex128": 8, "complex32": 2}.get(name)

    def pointer(builder, base, index):
        return builder.gep(builder.inttoptr(base, llvm_type.as_pointer()), [index])

    @intrinsic
    def get(typingctx, base, index):
        def generate(context, builder, sig, args):
            return _widen(builder, builder.load(pointer(builder, *args), align=alignment), name)

        return kind(I64, I64), generate

    @intrinsic
    def put(typingctx, base, index, value):
        def generate(context, builder, sig, args):
            element, given = args[2], sig.args[2]
            if isinstance(given, types.Float) and isinstance(kind, types.Integer):
                # By way of a wider type, so that negative numbers wrap; which one shows in what is out of range.
                if name in ("int32", "int16", "int8"):
                    element, given = _to_int32(builder, element), types.int32
                else:
                    element, given = context.cast(builder, element, given, types.int64), types.int64
            element = _narrow(builder, context.cast(builder, element, given, kind), name)
            builder.store(element, pointer(builder, args[0], args[1]), align=alignment)
            return context.get_dummy_value()

        return VOID(I64, I64, value), generate

    return get, put


@intrinsic
def where(typingctx, condition, a, b):
    """`a` where the condition holds, else `b`: a select, never a branch."""
    common = typingctx.unify_types(a, b)

    def generate(context, builder, sig, args):
        x = context.cast(builder, args[1], sig.args[1], common)
        y = context.cast(builder, args[2], sig.args[2], common)
        c = context.cast(builder, args[0], sig.args[0], types.boolean)
        return builder.select(c, x, y)

    return common(condition, a, b), generate


def _llvm_unary(name):
    @intrinsic
    def function(typingctx, x):
        def generate(context, builder, sig, args):
            kind = args[0].type
            suffix = "f32" if kind == ir.FloatType() else "f64"
            declared = builder.module.declare_intrinsic(f"llvm.{name}", [kind], ir.FunctionType(kind, [kind]))
            assert suffix in declared.name
            return builder.call(declared, args)

        return x(x), generate

    return function


fabs, floor, ceil, trunc, nearest, sqrt = map(_llvm_unary, ("fabs", "floor", "ceil", "trunc", "nearbyint", "sqrt"))


@intrinsic
def copysign(typingctx, x, y):
    def generate(context, builder, sig, args):
        kind = args[0].type
        declared = builder.module.declare_intrinsic("llvm.copysign", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(declared, [args[0], context.cast(builder, args[1], sig.args[1], x)])

    return x(x, y), generate


@intrinsic
def fmod(typingctx, x, y):
    """C's remainder: the sign of the dividend."""

    def generate(context, builder, sig, args):
        return builder.frem(*args)

    return x(x, y), generate




def _blas(prefix, real):
    """Calls of gemm and gemv by address, Fortran convention: every argument by pointer."""
    gemm_type = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()] * 13)
    gemv_type = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()] * 11)
    byte = ir.IntType(8).as_pointer()

    def constant(value):
        parts = getattr(real, "elements", None)
        return ir.Constant(real, value) if parts is None else ir.Constant(real, [ir.Constant(parts[0], value), ir.Constant(parts[1], 0.0)])

    def by_pointer(builder, value, kind):
        with builder.goto_entry_block():
            place = builder.alloca(kind)
        builder.store(value, place)
        return builder.bitcast(place, byte)

    def order(builder, row_step, column_step, rows, columns):
        """(transposed flag, leading dimension) of a matrix for a column-major library: unit column step reads as transposed."""
        one = ir.Constant(_i64, 1)
        plain = builder.icmp_signed("==", column_step, one)
        flag = builder.select(plain, ir.Constant(ir.IntType(8), ord("N")), ir.Constant(ir.IntType(8), ord("T")))
        lead = builder.select(plain, row_step, column_step)
        least = builder.select(plain, columns, rows)
        lead = builder.select(builder.icmp_signed("<", lead, least), least, lead)
        lead = builder.select(builder.icmp_signed("<", lead, one), one, lead)
        return flag, lead

    def as_int(builder, value):
        return by_pointer(builder, builder.trunc(value, ir.IntType(32)), ir.IntType(32))

    @intrinsic
    def gemm(typingctx, address, words, m, n, k, a, a_row, a_column, b, b_row, b_column, out):
        def generate(context, builder, sig, args):
            address, _, m, n, k, a, a_row, a_column, b, b_row, b_column, out = args
            # Row-major C = A B is column-major C^T = B^T A^T.
            b_flag, b_lead = order(builder, b_row, b_column, k, n)
            a_flag, a_lead = order(builder, a_row, a_column, m, k)
            one, zero = by_pointer(builder, constant(1.0), real), by_pointer(builder, constant(0.0), real)
            pointer = lambda value: builder.inttoptr(value, byte)
            builder.call(builder.inttoptr(address, gemm_type.as_pointer()), [
                by_pointer(builder, b_flag, ir.IntType(8)), by_pointer(builder, a_flag, ir.IntType(8)),
                as_int(builder, n), as_int(builder, m), as_int(builder, k), one, pointer(b), as_int(builder, b_lead),
                pointer(a), as_int(builder, a_lead), zero, pointer(out), as_int(builder, n),
            ])
            return context.get_dummy_value()

        return VOID(*[I64] * 12), generate

    @intrinsic
    def gemv(typingctx, address, words, m, k, a, a_row, a_column, x, x_step, out):
        def generate(context, builder, sig, args):
            address, words, m, k, a, a_row, a_column, x, x_step, out = args
            # A row-major matrix is its column-major transpose.
            flag, lead = order(builder, a_row, a_column, m, k)
            plain = builder.icmp_signed("==", a_column, ir.Constant(_i64, 1))
            flag = builder.select(plain, ir.Constant(ir.IntType(8), ord("T")), ir.Constant(ir.IntType(8), ord("N")))
            rows, columns = builder.select(plain, k, m), builder.select(plain, m, k)
            one, zero = by_pointer(builder, constant(1.0), real), by_pointer(builder, constant(0.0), real)
            pointer = lambda value: builder.inttoptr(value, byte)
            builder.call(builder.inttoptr(words, gemv_type.as_pointer()), [
                by_pointer(builder, flag, ir.IntType(8)), as_int(builder, rows), as_int(builder, columns), one, pointer(a),
                as_int(builder, lead), pointer(x), as_int(builder, x_step), zero, pointer(out), as_int(builder, ir.Constant(_i64, 1)),
            ])
            return context.get_dummy_value()

        return VOID(*[I64] * 10), generate

    return gemm, gemv


def namespace(dtype: str, result: str, extra=()) -> dict:
    """Globals for a kernel that reads `dtype` and writes `result`."""
    space = {"load_i64": load_i64, "store_i64": store_i64, "copy_bytes": copy_bytes, "where": where, "inf": np.inf,
             "stack_lanes": stack_lanes, "loose_sum": loose_sum, "larger": larger, "smaller": smaller}
    for name in {dtype, result, *extra, "bool", "float64", "float32", "int64"}:
        space[f"get_{name}"], space[f"put_{name}"] = _element(name)
    kind = TYPES[dtype][0]
    if isinstance(kind, (types.Float, types.Complex)):
        space["real"] = np.float32 if kind in (types.float32, types.complex64) else np.float64
    if isinstance(kind, types.Complex):
        space["wide"] = np.complex128
        space.update(fabs=fabs, copysign=copysign)
        parts = ir.FloatType() if kind == types.complex64 else ir.DoubleType()
        space[f"blas_gemm_{dtype}"], space[f"blas_gemv_{dtype}"] = _blas(dtype, ir.LiteralStructType([parts, parts]))
    elif isinstance(kind, types.Float):
        space["wide"] = np.float64
        space.update(fabs=fabs, floor=floor, ceil=ceil, trunc=trunc, nearest=nearest, sqrt=sqrt, copysign=copysign, fmod=fmod)
        real = ir.FloatType() if kind == types.float32 else ir.DoubleType()
        space[f"blas_gemm_{dtype}"], space[f"blas_gemv_{dtype}"] = _blas(dtype, real)
    else:
        space["wide"] = np.complex128 if result.startswith("complex") else np.float64 if "float" in result else np.int64
        # Integer products take the plain loops; the names must exist.
        space[f"blas_gemm_{dtype}"], space[f"blas_gemv_{dtype}"] = _blas(dtype, ir.DoubleType())
    return space


# --- helpers with more than one line; each is compiled only into kernels that name it --------------------------------
def sign(x):
    return where(x > 0, 1, where(x < 0, -1, 0))


def remainder_float(x, y):
    r = fmod(x, y)
    return where((r != 0) & ((r < 0) != (y < 0)), r + y, r)


def remainder_int(x, y):
    d = where(y == 0, 1, y)
    r = where(d == -1, 0, x % where(d == -1, 1, d))
    return r


def fmod_int(x, y):
    d = where(y == 0, 1, y)
    d = where(d == -1, 1, d)  # the remainders are the same, and the least integer over -1 is more than the processor can hold
    r = x % d
    return where((r != 0) & ((r < 0) != (x < 0)), r - d, r)


def floor_divide_float(x, y):
    r = fmod(x, y)
    q = (x - r) / y
    q = where((r != 0) & ((r < 0) != (y < 0)), q - 1, q)
    whole = floor(q)
    whole = where(q - whole > 0.5, whole + 1, whole)
    return where(y == 0, x / y, where(q == 0, copysign(q, x / y), whole))


def floor_divide_int(x, y):
    d = where(y == 0, 1, y)
    return where(d == -1, -x, x // where(d == -1, 1, d))


def trunc_divide_int(x, y):
    d = where(y == 0, 1, y)
    q = where(d == -1, -x, x // where(d == -1, 1, d))
    return where((q < 0) & (d != -1) & (q * d != x), q + 1, q)


def integer_power_int(x, y):
    result = 1
    base = x
    exponent = y
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    negative = where(x == 1, 1, where(x == -1, where(y & 1 == 0, 1, -1), 0))
    return where(y < 0, negative, result)


def shift_left_int(x, y):
    return where((y < 0) | (y >= 64), 0, x << where((y < 0) | (y >= 64), 0, y))


def shift_right_int(x, y):
    return x >> where((y < 0) | (y >= 63), 63, y)


_HELPERS: dict[str, dict[str, Callable]] = {
    "float": {
        "sign": sign,
        "remainder": remainder_float,
        "floor_divide": floor_divide_float,
    },
    "int": {
        "remainder": remainder_int,
        "fmod": fmod_int,
        "floor_divide": floor_divide_int,
        "trunc_divide": trunc_divide_int,
        "integer_power": integer_power_int,
        "shift_left": shift_left_int,
        "shift_right": shift_right_int,
    },
}


def helper(dtype: str, name: str):
    """The compiled helper `name` for kernels of `dtype`, None if there is none."""
    function = _HELPERS["float" if dtype.startswith("float") else "int"].get(name)
    return function and njit(error_model="numpy", forceinline=True)(function)
