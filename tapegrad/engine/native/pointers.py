"""Typed pointers, raw memory and C calls for native functions: the thin layer below which addresses live.

`Slot(address)` is a pointer to a `layout.SLOT` row; `s.geometry` loads a field, `s.geometry = g` stores one.  Every integer
field loads as int64, so compiled code has one integer type.  `slot_row(base, i)` is the i-th row of a table.
`external("PyLong_AsLongLong", I64, I64)` declares a C function, resolved when the object is loaded.  A `Primitive` is what a native
function may call: `emit(builder, arguments)` writes its LLVM code (see `lowering.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tapegrad.engine import layout

_i64 = ir.IntType(64)
_IR = {"i64": _i64, "i32": ir.IntType(32), "u8": ir.IntType(8), "f64": ir.DoubleType(), "f32": ir.FloatType()}
_ALIGNMENT = {"i64": 8, "i32": 4, "u8": 1, "f64": 8, "f32": 4}


@dataclass(frozen=True, eq=False)
class Type:
    """A type of native code."""

    name: str
    llvm: Any


I64, F64, BOOL, VOID = Type("int64", _i64), Type("float64", ir.DoubleType()), Type("bool", ir.IntType(1)), Type("void", ir.VoidType())


class Row(Type):
    """A pointer to a row of a table; its value is the address."""

    struct: layout.Struct

    def __init__(self, struct: layout.Struct):
        super().__init__(f"{struct.name}*", _i64)
        object.__setattr__(self, "struct", struct)

    def field(self, name: str) -> Type:
        return F64 if self.struct.kind[name] in ("f64", "f32") else I64

    def place(self, builder, base, name, index=None):
        offset = builder.add(base, ir.Constant(_i64, self.struct.offset[name]))
        if index is not None:
            offset = builder.add(offset, builder.mul(index, ir.Constant(_i64, layout.SIZES[self.struct.kind[name]])))
        return builder.inttoptr(offset, _IR[self.struct.kind[name]].as_pointer())

    def load(self, builder, base, name, index=None):
        return _load(builder, self.place(builder, base, name, index), self.struct.kind[name])

    def store(self, builder, base, name, value, index=None) -> None:
        _store(builder, self.place(builder, base, name, index), value, self.struct.kind[name])


@dataclass(frozen=True, eq=False)
class Cast:
    """What makes a row of an address."""

    row: Row


@dataclass(frozen=True, eq=False)
class Primitive:
    """What a native function may call."""

    name: str
    result: Type
    arguments: tuple
    emit: Callable

    def __call__(self, *arguments):
        raise TypeError(f"{self.name} exists in compiled code only")


def _load(builder, pointer, kind):
    value = builder.load(pointer, align=_ALIGNMENT[kind])
    if kind == "u8":
        return builder.zext(value, _i64)
    if kind == "f32":
        return builder.fpext(value, ir.DoubleType())
    return builder.sext(value, _i64) if kind == "i32" else value


def _store(builder, pointer, value, kind) -> None:
    if kind in ("i32", "u8"):
        value = builder.trunc(value, _IR[kind])
    if kind == "f32":
        value = builder.fptrunc(value, ir.FloatType())
    builder.store(value, pointer, align=_ALIGNMENT[kind])


def declared(module, name: str, kind):
    """The C function `name` of a module, declared if it is not yet there."""
    return module.globals.get(name) or ir.Function(module, kind, name)


def _pointer(struct: layout.Struct):
    """For one struct: the cast from an address, the row of a table, the element of an inline array (its field given by name)."""
    row = Row(struct)
    size = ir.Constant(_i64, struct.size)
    return (
        Cast(row),
        Primitive(f"{struct.name}_row", row, (I64, I64), lambda b, a: b.add(a[0], b.mul(a[1], size))),
        Primitive(f"{struct.name}_get", I64, (row, I64), lambda b, a, name: row.load(b, a[0], name, a[1])),
        Primitive(f"{struct.name}_put", VOID, (row, I64, I64), lambda b, a, name: row.store(b, a[0], name, a[2], a[1])),
    )


Slot, slot_row, _, _ = _pointer(layout.SLOT)
Buffer, buffer_row, _, _ = _pointer(layout.BUFFER)
Geometry, geometry_row, _, _ = _pointer(layout.GEOMETRY)
Op, op_row, op_get, op_put = _pointer(layout.OP)
Entry, entry_row, _, _ = _pointer(layout.ENTRY)
Operand, operand_row, _, _ = _pointer(layout.OPERAND)
Broadcast, broadcast_row, broadcast_get, _ = _pointer(layout.BROADCAST)
Plan, _, plan_get, _ = _pointer(layout.PLAN)
Call, call_at, _, _ = _pointer(layout.CALL)
State, _, _, _ = _pointer(layout.STATE)
StatePointer, SlotPointer = State.row, Slot.row


def _state(builder, arguments):
    variable = builder.module.globals.get("tg_state") or ir.GlobalVariable(builder.module, _i64, "tg_state")
    return builder.ptrtoint(variable, _i64)


the_state = Primitive("the_state", StatePointer, (), _state)  # the address of the symbol `tg_state`, bound when the object is loaded


def _element(builder, address, kind: str):
    """`base + offset` as a pointer of a kind: LLVM vectorises loops over offsets from a pointer, not over sums of integers."""
    pointer = _IR[kind].as_pointer()
    if getattr(address, "opname", None) != "add":
        return builder.inttoptr(address, pointer)
    base, offset = address.operands
    place = builder.gep(builder.inttoptr(base, ir.IntType(8).as_pointer()), [offset])
    return builder.bitcast(place, pointer)


def _loader(kind: str) -> Primitive:
    result = F64 if kind in ("f64", "f32") else I64
    return Primitive(f"load_{kind}", result, (I64,), lambda b, a: _load(b, _element(b, a[0], kind), kind))


def _storer(kind: str) -> Primitive:
    value = F64 if kind in ("f64", "f32") else I64
    return Primitive(f"store_{kind}", VOID, (I64, value), lambda b, a: _store(b, _element(b, a[0], kind), a[1], kind))


load_i64, load_i32, load_u8, load_f64, load_f32 = map(_loader, ("i64", "i32", "u8", "f64", "f32"))
store_i64, store_i32, store_u8, store_f64, store_f32 = map(_storer, ("i64", "i32", "u8", "f64", "f32"))


def _word(builder, address):
    return builder.inttoptr(address, _i64.as_pointer())


def _swap(builder, arguments):
    word, expected, value = arguments
    return builder.extract_value(builder.cmpxchg(_word(builder, word), expected, value, "seq_cst"), 1)


# Words that several threads read and write; every access is ordered after those before it.
atomic_load = Primitive("atomic_load", I64, (I64,), lambda b, a: b.load_atomic(_word(b, a[0]), "seq_cst", 8))
atomic_store = Primitive("atomic_store", VOID, (I64, I64), lambda b, a: b.store_atomic(a[1], _word(b, a[0]), "seq_cst", 8))
atomic_add = Primitive("atomic_add", I64, (I64, I64), lambda b, a: b.atomic_rmw("add", _word(b, a[0]), a[1], "seq_cst"))  # what was there
atomic_swap = Primitive("atomic_swap", BOOL, (I64, I64, I64), _swap)  # (word, expected, value): whether the value took its place


def symbol_address(name: str, result: Type, *arguments: Type) -> Primitive:
    """The address of a C function."""
    kind = ir.FunctionType(result.llvm, [a.llvm for a in arguments])
    return Primitive(f"address of {name}", I64, (), lambda b, a: b.ptrtoint(declared(b.module, name, kind), _i64))


def external(name: str, result: Type, *arguments: Type) -> Primitive:
    """Declare the C function `name`; calls are resolved when the object is loaded."""
    kind = ir.FunctionType(result.llvm, [a.llvm for a in arguments])
    return Primitive(name, result, arguments, lambda b, a: b.call(declared(b.module, name, kind), a))


def call_pointer(result: Type, *arguments: Type) -> Primitive:
    """`f(address, *arguments)` calls the C function at `address`."""
    pointer = ir.FunctionType(result.llvm, [a.llvm for a in arguments]).as_pointer()
    return Primitive("call_pointer", result, (I64, *arguments), lambda b, a: b.call(b.inttoptr(a[0], pointer), a[1:]))


def stack_words(count: int) -> Primitive:
    """The address of `count` int64 on the caller's stack, allocated once per call."""

    def emit(builder, arguments):
        with builder.goto_entry_block():
            return builder.ptrtoint(builder.alloca(ir.ArrayType(_i64, count)), _i64)

    return Primitive(f"stack_{count}", I64, (), emit)


def _memory(name: str, *pointers: int):
    """A call of one of LLVM's memory intrinsics; `pointers` says which arguments are addresses."""
    byte = ir.IntType(8).as_pointer()

    def emit(builder, arguments):
        values = [builder.inttoptr(a, byte) if k in pointers else a for k, a in enumerate(arguments)]
        if name == "llvm.memset":
            values.insert(1, ir.Constant(ir.IntType(8), 0))
        kinds = [byte, byte, _i64] if name == "llvm.memcpy" else [byte, _i64]
        declaration = builder.module.declare_intrinsic(name, kinds)
        builder.call(declaration, [*values, ir.Constant(ir.IntType(1), 0)])

    return emit


_no = ir.Constant(ir.IntType(1), 0)
least = Primitive("least", I64, (I64, I64), lambda b, a: b.select(b.icmp_signed("<", *a), *a))  # the smaller one
most = Primitive("most", I64, (I64, I64), lambda b, a: b.select(b.icmp_signed(">", *a), *a))  # the larger one
leading_zeros = Primitive("leading_zeros", I64, (I64,), lambda b, a: b.ctlz(a[0], _no))
trailing_zeros = Primitive("trailing_zeros", I64, (I64,), lambda b, a: b.cttz(a[0], _no))
def _stream_line(builder, arguments):
    """64 bytes from an aligned address to another, past the caches: what is not read again soon need not displace what is."""
    line = ir.VectorType(_i64, 8).as_pointer()
    target, source = (builder.inttoptr(a, line) for a in arguments)
    store = builder.store(builder.load(source, align=64), target, align=64)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


stream_line = Primitive("stream_line", VOID, (I64, I64), _stream_line)  # target, source
fence = Primitive("fence", VOID, (), lambda b, a: b.fence("seq_cst"))  # what was streamed is seen by other threads
copy_bytes = Primitive("copy_bytes", VOID, (I64, I64, I64), _memory("llvm.memcpy", 0, 1))  # target, source, count
zero_bytes = Primitive("zero_bytes", VOID, (I64, I64), _memory("llvm.memset", 0))
