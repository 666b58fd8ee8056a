"""Typed pointers, raw memory and C calls for code compiled by numba: the thin layer below which addresses live.

`Slot(address)` is a pointer to a `layout.SLOT` row; `s.geometry` loads a field, `s.geometry = g` stores one.  Every integer
field loads as int64, so compiled code has one integer type.  `row(Slot, base, i)` is the i-th row of a table.
`external("PyLong_AsLongLong", I64, I64)` declares a C function, resolved when the object is loaded.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model

from tapegrad.engine import layout

I64, F64, VOID = types.int64, types.float64, types.void
_i64 = ir.IntType(64)
_IR = {"i64": _i64, "i32": ir.IntType(32), "u8": ir.IntType(8), "f64": ir.DoubleType(), "f32": ir.FloatType()}
_LLVM = {I64: _i64, F64: ir.DoubleType(), VOID: ir.VoidType()}


class PointerType(types.Type):
    def __init__(self, struct: layout.Struct):
        self.struct = struct
        super().__init__(name=f"{struct.name}*")


@register_model(PointerType)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _i64)


@infer_getattr
class _PointerAttributes(AttributeTemplate):
    key = PointerType

    def generic_resolve(self, typ, attr):
        if attr == "pointer":
            return I64
        return F64 if typ.struct.kind[attr] == "f64" else I64


def _field(builder, struct, base, attr, index=None):
    offset = builder.add(base, ir.Constant(_i64, struct.offset[attr]))
    if index is not None:
        offset = builder.add(offset, builder.mul(index, ir.Constant(_i64, layout.SIZES[struct.kind[attr]])))
    return builder.inttoptr(offset, _IR[struct.kind[attr]].as_pointer())


def _load(builder, pointer, kind):
    value = builder.load(pointer, align=1 if kind == "u8" else layout.SIZES.get(kind, 4))
    if kind == "u8":
        return builder.zext(value, _i64)
    if kind == "f32":
        return builder.fpext(value, ir.DoubleType())
    return builder.sext(value, _i64) if kind == "i32" else value


def _store(builder, pointer, value, kind):
    if kind in ("i32", "u8"):
        value = builder.trunc(value, _IR[kind])
    if kind == "f32":
        value = builder.fptrunc(value, ir.FloatType())
    builder.store(value, pointer)


@lower_getattr_generic(PointerType)
def _getattr(context, builder, typ, value, attr):
    if attr == "pointer":
        return value
    return _load(builder, _field(builder, typ.struct, value, attr), typ.struct.kind[attr])


@lower_setattr_generic(PointerType)
def _setattr(context, builder, sig, args, attr):
    target, value = args
    struct = sig.args[0].struct
    value = context.cast(builder, value, sig.args[1], F64 if struct.kind[attr] == "f64" else I64)
    _store(builder, _field(builder, struct, target, attr), value, struct.kind[attr])


def _pointer(struct: layout.Struct):
    """The intrinsics of one struct: cast from an address, row of a table, element of an inline array."""
    kind = PointerType(struct)

    @intrinsic
    def cast(typingctx, address):
        return kind(I64), lambda context, builder, sig, args: args[0]

    @intrinsic
    def row(typingctx, base, index):
        def generate(context, builder, sig, args):
            return builder.add(args[0], builder.mul(args[1], ir.Constant(_i64, struct.size)))

        return kind(I64, I64), generate

    @intrinsic(prefer_literal=True)
    def get(typingctx, pointer, field, index):
        name = field.literal_value

        def generate(context, builder, sig, args):
            return _load(builder, _field(builder, struct, args[0], name, args[2]), struct.kind[name])

        return I64(kind, field, I64), generate

    @intrinsic(prefer_literal=True)
    def put(typingctx, pointer, field, index, value):
        name = field.literal_value

        def generate(context, builder, sig, args):
            _store(builder, _field(builder, struct, args[0], name, args[2]), args[3], struct.kind[name])
            return context.get_dummy_value()

        return VOID(kind, field, I64, I64), generate

    return cast, row, get, put


Slot, slot_row, _, _ = _pointer(layout.SLOT)
Buffer, buffer_row, _, _ = _pointer(layout.BUFFER)
Geometry, geometry_row, _, _ = _pointer(layout.GEOMETRY)
Op, op_row, op_get, op_put = _pointer(layout.OP)
Entry, entry_row, _, _ = _pointer(layout.ENTRY)
Operand, operand_row, _, _ = _pointer(layout.OPERAND)
Broadcast, broadcast_row, broadcast_get, _ = _pointer(layout.BROADCAST)
Plan, _, _, _ = _pointer(layout.PLAN)
Call, call_at, _, _ = _pointer(layout.CALL)
State, _, _, _ = _pointer(layout.STATE)
StatePointer = PointerType(layout.STATE)
SlotPointer = PointerType(layout.SLOT)
_LLVM[StatePointer] = _LLVM[SlotPointer] = _i64


@intrinsic
def the_state(typingctx):
    """The state row: the address of the symbol `tg_state`, bound when the object is loaded."""

    def generate(context, builder, sig, args):
        name = "tg_state"
        variable = builder.module.globals.get(name) or ir.GlobalVariable(builder.module, _i64, name)
        return builder.ptrtoint(variable, _i64)

    return StatePointer(), generate


def _loader(kind):
    @intrinsic
    def load(typingctx, address):
        def generate(context, builder, sig, args):
            return _load(builder, builder.inttoptr(args[0], _IR[kind].as_pointer()), kind)

        return (F64 if kind in ("f64", "f32") else I64)(I64), generate

    return load


def _storer(kind):
    real = F64 if kind in ("f64", "f32") else I64

    @intrinsic
    def store(typingctx, address, value):
        def generate(context, builder, sig, args):
            _store(builder, builder.inttoptr(args[0], _IR[kind].as_pointer()), args[1], kind)
            return context.get_dummy_value()

        return VOID(I64, real), generate

    return store


load_i64, load_i32, load_u8, load_f64, load_f32 = map(_loader, ("i64", "i32", "u8", "f64", "f32"))
store_i64, store_i32, store_u8, store_f64, store_f32 = map(_storer, ("i64", "i32", "u8", "f64", "f32"))


def symbol_address(name, result, *arguments):
    """An intrinsic that returns the address of a C function."""
    kind = ir.FunctionType(_LLVM[result], [_LLVM[a] for a in arguments])

    def generate(context, builder, sig, args):
        return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, name), _i64)

    return _fixed_arity(0, I64(), generate, name)


def external(name, result, *arguments):
    """Declare the C function `name`; calls are resolved when the object is loaded."""
    kind = ir.FunctionType(_LLVM[result], [_LLVM[a] for a in arguments])
    count = len(arguments)

    def generate(context, builder, sig, args):
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        value = builder.call(function, args)
        return context.get_dummy_value() if result is VOID else value

    return _fixed_arity(count, result(*arguments), generate, name)


def call_pointer(result, *arguments):
    """An intrinsic `f(address, *arguments)` that calls the C function at `address`."""
    kind = ir.FunctionType(_LLVM[result], [_LLVM[a] for a in arguments])

    def generate(context, builder, sig, args):
        value = builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value() if result is VOID else value

    return _fixed_arity(len(arguments) + 1, result(I64, *arguments), generate, "call_pointer")


def _fixed_arity(count, signature, generate, name):
    # `intrinsic` reads the arity off the Python signature, so one is written out.
    names = ", ".join(f"a{k}" for k in range(count))
    space = {"signature": signature, "generate": generate}
    exec(f"def stub(typingctx{', ' if names else ''}{names}):\n    return signature, generate\n", space)
    stub = space["stub"]
    stub.__name__ = name
    return intrinsic(stub)


def stack_words(count: int):
    """An intrinsic that returns the address of `count` int64 on the caller's stack, allocated once per call."""

    def generate(context, builder, sig, args):
        with builder.goto_entry_block():
            return builder.ptrtoint(builder.alloca(ir.ArrayType(_i64, count)), _i64)

    return _fixed_arity(0, I64(), generate, f"stack_{count}")


@intrinsic
def least(typingctx, x, y):
    """The smaller of two int64."""

    def generate(context, builder, sig, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return I64(I64, I64), generate


@intrinsic
def leading_zeros(typingctx, value):
    def generate(context, builder, sig, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return I64(I64), generate


@intrinsic
def trailing_zeros(typingctx, value):
    def generate(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return I64(I64), generate


@intrinsic
def copy_bytes(typingctx, target, source, count):
    def generate(context, builder, sig, args):
        pointer = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], pointer), builder.inttoptr(args[1], pointer), args[2], 1)
        return context.get_dummy_value()

    return VOID(I64, I64, I64), generate


@intrinsic
def zero_bytes(typingctx, target, count):
    def generate(context, builder, sig, args):
        cgutils.memset(builder, builder.inttoptr(args[0], ir.IntType(8).as_pointer()), args[1], 0)
        return context.get_dummy_value()

    return VOID(I64, I64), generate
