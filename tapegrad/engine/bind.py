"""Starting the engine and giving compiled functions to Python.

Compiled code reaches Python without ctypes in between: an LLVM thunk per function in CPython's METH_FASTCALL convention, made into
a builtin function or a method descriptor by the C API.  A call of `a * b` thus runs no Python frame: 55 ns against 170 ns through
a numba dispatcher (measured; see docs/design/001-native-methods.md).  `Handle` is the base of Tensor: an object whose only
content is a slot number, which its deallocator releases; to the garbage collector it shows what it alone keeps on the tape.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from tapegrad.engine import build, layout

api = ctypes.pythonapi
METH_FASTCALL, METH_KEYWORDS = 0x80, 0x02
TP_DEALLOC, TP_TRAVERSE, TP_CLEAR, TP_FREE = 48, 184, 192, 320  # byte offsets in PyTypeObject
HANDLE_SLOT = 16


class _TypeSlot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _TypeSpec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_TypeSlot)),
    ]


class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


class _GetSet(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("get", ctypes.c_void_p), ("set", ctypes.c_void_p), ("doc", ctypes.c_char_p), ("closure", ctypes.c_void_p)]


_kept: list = []  # C structures that CPython goes on pointing at

_type_from_spec = api.PyType_FromSpec
_type_from_spec.restype, _type_from_spec.argtypes = ctypes.py_object, [ctypes.c_void_p]
_new_descriptor = api.PyDescr_NewMethod
_new_descriptor.restype, _new_descriptor.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
_new_getset = api.PyDescr_NewGetSet
_new_getset.restype, _new_getset.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
_new_function = api.PyCFunction_NewEx
_new_function.restype, _new_function.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_raw_malloc = api.PyMem_RawMalloc
_raw_malloc.restype, _raw_malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]

_PY_TP_CLEAR, _PY_TP_DEALLOC, _PY_TP_TRAVERSE, _PY_TP_MEMBERS, _PY_TP_FREE = 51, 52, 71, 72, 74  # slot ids of CPython's typeslots.h
_T_LONGLONG = 17
_TPFLAGS_BASETYPE = 1 << 10


def _make_type(name: str, slots: list[tuple[int, int]], flags: int = _TPFLAGS_BASETYPE) -> type:
    table = (_TypeSlot * (len(slots) + 1))(*[_TypeSlot(k, f) for k, f in slots], _TypeSlot(0, None))
    spec = _TypeSpec(name.encode(), HANDLE_SLOT + 8, 0, flags, table)
    _kept.extend((table, spec))
    return _type_from_spec(ctypes.addressof(spec))


_members = (_Member * 2)(_Member(b"_slot", _T_LONGLONG, HANDLE_SLOT, 0, b"The slot number; 0 for an uninitialised object."), _Member())
Handle: Any = _make_type("tapegrad.Handle", [(_PY_TP_MEMBERS, ctypes.addressof(_members))])


def _check_type_layout() -> None:
    """Compiled functions are patched into Handle at byte offsets: make sure that these are where CPython keeps them."""
    slots = {TP_CLEAR: _PY_TP_CLEAR, TP_DEALLOC: _PY_TP_DEALLOC, TP_TRAVERSE: _PY_TP_TRAVERSE, TP_FREE: _PY_TP_FREE}
    probe = _make_type("tapegrad.Probe", [(slot, 0x1000 + offset) for offset, slot in slots.items()])
    if any(ctypes.c_void_p.from_address(id(probe) + offset).value != 0x1000 + offset for offset in slots):
        raise ImportError("tapegrad does not know the type layout of this Python interpreter")


# --- state ----------------------------------------------------------------------------------------------------------
state_memory = ctypes.create_string_buffer(layout.STATE.size)
STATE_ADDRESS = ctypes.addressof(state_memory)


def state_cell(field: str) -> ctypes.c_int64:
    """The int64 of a state field; `.value` reads and writes it."""
    return ctypes.c_int64.from_address(STATE_ADDRESS + layout.STATE.offset[field])


def allocate(nbytes: int) -> int:
    """Zeroed memory from the allocator that compiled code reallocates with."""
    address = _raw_malloc(nbytes)
    ctypes.memset(address, 0, nbytes)
    return address


ROOMS = {"slot": 4096, "buffer": 4096, "entry": 4096, "operand": 16384}
OPS = 1024


def _memory_limit() -> int:
    """Nine tenths of the machine's memory: the system grants more than it has and ends the process when it is touched."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10
    except (AttributeError, ValueError, OSError):
        return 1 << 46


def _last_cache() -> int:
    """The bytes of the last cache before memory."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().rstrip("K\n")) << 10
    except (OSError, ValueError):
        return 1 << 25


def _prepare_state() -> None:
    put = lambda field, value: setattr(state_cell(field), "value", value)
    for name, struct in (("slot", layout.SLOT), ("buffer", layout.BUFFER), ("operand", layout.OPERAND)):
        put(name + "s", allocate(ROOMS[name] * struct.size))
        put(name + "_room", ROOMS[name])
    put("entries", allocate(ROOMS["entry"] * layout.ENTRY.size))
    put("entry_room", ROOMS["entry"])
    # Row 0 of slots, buffers and geometries stands for "none".
    put("slot_count", 1)
    put("buffer_count", 1)
    put("ops", allocate(OPS * layout.OP.size))
    put("broadcasts", allocate(layout.BROADCAST_ROWS * 8))
    put("forms", allocate(layout.FORMS * 8))
    put("calls", allocate(layout.CALL_ROWS * layout.CALL.size + layout.METHODS * 8))
    put("free_lists", allocate(256 * 8))
    put("stack", allocate(4096 * 8))
    put("stack_room", 4096)
    put("deferred", allocate(layout.DEFERRED_BYTES))
    put("leaves", allocate(256 * 8))
    put("leaves_room", 256)
    put("graveyard", allocate(256 * 8))
    put("graveyard_room", 256)
    put("cached_limit", 1 << 29)
    put("bytes_limit", _memory_limit())
    put("threads", 1)
    put("parallel_cost", 1 << 62)
    put("streamed_bytes", _last_cache() // 2)
    put("mode", layout.GRAD | layout.SEEN)
    put("thread_modes", allocate(64 * 8))
    put("thread_room", 64)
    put("itemsize", allocate(layout.CODES * 8))
    put("dtypes", allocate(layout.CODES * 8))
    known = {"none": None, "not_implemented": NotImplemented, "ellipsis": Ellipsis, "float_type": float, "int_type": int, "bool_type": bool,
             "slice_type": slice, "tuple_type": tuple, "list_type": list, "str_type": str}
    for name, value in known.items():
        put(name, id(value))


# --- the compiled engine --------------------------------------------------------------------------------------------
def _native_sources() -> str:
    folder = Path(__file__).parent
    files = [folder / "layout.py", folder / "build.py", *sorted((folder / "native").glob("*.py"))]
    codes = repr([layout.PLAIN, layout.FLOAT32, layout.FLOAT64, layout.INT64, layout.BOOL])
    return "\n".join([codes, repr(VISIBLE), *(f.read_text() for f in files)])


def _compile_engine() -> bytes:
    from tapegrad.engine.native import access, attributes, backward, lowering, methods, writes  # noqa: F401 (with what they import: fills the registry)
    from tapegrad.engine.native.native import registry

    functions = {"tg_" + name: parts for name, parts in registry.items()}
    return build.compile_module(lowering.module(functions), {"tg_" + name for name in VISIBLE})


def _object(name: str, make) -> bytes:
    body = build.load_cached(name)
    if body is None:
        body = make()
        build.store_cached(name, body)
    return body


# --- thunks ---------------------------------------------------------------------------------------------------------
# What Python may call: name -> kinds of the arguments and of the result.  i: int; t: a Tensor, passed as its slot (a temporary one lives
# as long as the call, which a bare slot number would not guarantee); o: any object,
# passed as its address; result v: None, i: int, o: an object.
EXPORTS = {
    "allocate_slot": "ii:i",
    "view_slot": "iii:i",
    "foreign_buffer": "iio:i",
    "slot_index": ":i",
    "wrap": "i:o",
    "drop": "i:v",
    "elementwise": "iiiii:i",
    "compute": "iiiiii:i",
    "find_broadcast": "iii:i",
    "mark": "i:i",
    "prune_marks": "i:v",
    "marked_leaves": "i:i",
    "last_mark": "i:i",
    "set_mark": "i:v",
    "clear_mark": "i:v",
    "accumulate": "ii:i",
    "check_saved": "i:i",
    "sweep": ":i",
    "gradients": "oooi:o",
    "sweep_elementwise": "i:i",
    "finish_entry": "i:v",
    "sees_nothing": "i:i",
    "free_saved": "i:v",
    "deposit": ":i",
    "capture": "ii:v",
    "release_captured": "ii:v",
    "close_sweep": "iii:v",
    "abandon_sweep": ":v",
    "open_entry": "iiii:i",
    "set_payload": "io:v",
    "item": "i:o",
    "assign": "tt:i",
    "hold": "i:v",
    "get_field": "ii:i",
    "set_field": "iii:v",
    "data_of": "i:i",
    "data_slot": "i:i",
    "version_of": "i:i",
    "bump_version": "ii:v",
    "attach_input": "iiii:v",
    "attach_output": "iiiii:v",
    "operand_slot": "ii:i",
    "entry_field": "ii:i",
    "payload_of": "i:o",
    "move_handle": "oi:i",
    "share_slot": "t:i",
    "set_entry_flags": "ii:v",
    "retarget": "iiiii:v",
    "get_mode": ":i",
    "exchange_modes": "ii:i",
    "wants": "ii:i",
    "thread_id": ":i",
    "remember_call": "iooi:i",
    "remember_recorder": "iii:i",
    "unlink": "iiii:v",
    "settle": ":v",
}


GETTERS = ("shape", "ndim", "dtype", "requires_grad", "is_leaf", "grad", "data")
SETTERS = {"requires_grad": "set_python", "grad": "set_grad", "data": "set_python"}
CALLS = tuple("size stride dim numel len is_contiguous data_ptr item tolist is_floating_point is_complex element_size cpu".split())  # methods, `call_<name>`
ENTRIES = ("binary", "unary", "apply", "planned", "backward", *("call_" + name for name in CALLS))  # in the convention of METH_FASTCALL
VISIBLE = (*ENTRIES, *("get_" + name for name in GETTERS), "set_python", "set_grad", "dealloc", "traverse", "clear", "run_blocks",
           "run_deferred", "worker_main", "start_pool", *EXPORTS)  # fmt: skip


def _export_ir(name: str, kinds: str) -> str:
    arguments, result = kinds.split(":")
    lines = [f'define i64 @"py_{name}"(i64 %self, i64 %args, i64 %count) {{']
    lines.append(f"  %ok = icmp eq i64 %count, {len(arguments)}\n  br i1 %ok, label %run, label %bad\nbad:")
    lines.append("  %e = call i64 @PyErr_BadArgument()\n  ret i64 0\nrun:")
    values = []
    for k, kind in enumerate(arguments):
        lines.append(f"  %d{k} = add i64 %args, {8 * k}\n  %p{k} = inttoptr i64 %d{k} to ptr\n  %o{k} = load i64, ptr %p{k}")
        if kind == "i":
            lines.append(f"  %a{k} = call i64 @PyLong_AsLongLong(i64 %o{k})")
            values.append(f"i64 %a{k}")
        elif kind == "t":
            lines.append(f"  %h{k} = add i64 %o{k}, {HANDLE_SLOT}\n  %q{k} = inttoptr i64 %h{k} to ptr\n  %a{k} = load i64, ptr %q{k}")
            values.append(f"i64 %a{k}")
        else:
            values.append(f"i64 %o{k}")
    back = "void" if result == "v" else "i64"
    call = f'call {back} @"tg_{name}"({", ".join(values)})'
    if result == "v":
        lines.append(f"  {call}\n  call void @Py_IncRef(i64 {id(None)})\n  ret i64 {id(None)}\n}}".replace(str(id(None)), "ptrtoint (ptr @_Py_NoneStruct to i64)"))
    elif result == "i":
        # A Python callback may have failed on the way.
        lines.append(f"  %r = {call}\n  %f = call i64 @PyErr_Occurred()\n  %clean = icmp eq i64 %f, 0\n  br i1 %clean, label %good, label %raise")
        lines.append("raise:\n  ret i64 0\ngood:\n  %q = call i64 @PyLong_FromLongLong(i64 %r)\n  ret i64 %q\n}")
    else:
        lines.append(f"  %r = {call}\n  ret i64 %r\n}}")
    declared = ", ".join("i64" for _ in arguments)
    return f'declare {back} @"tg_{name}"({declared})\n' + "\n".join(lines)


def _method_ir(symbol: str, target: str, code: int) -> str:
    return (
        f'define i64 @"{symbol}"(i64 %self, i64 %args, i64 %count, i64 %names) {{\n'
        f'  %r = tail call i64 @"{target}"(i64 {code}, i64 %self, i64 %args, i64 %count, i64 %names)\n  ret i64 %r\n}}'
    )


_PRELUDE = """
@_Py_NoneStruct = external global i64
declare i64 @PyErr_BadArgument()
declare i64 @PyErr_Occurred()
declare i64 @PyLong_AsLongLong(i64)
declare i64 @PyLong_FromLongLong(i64)
declare void @Py_IncRef(i64)
""" + "\n".join(f"declare i64 @tg_{name}(i64, i64, i64, i64, i64)" for name in ENTRIES)


class Engine:
    """The running engine: the address of every compiled symbol, and builtin functions made of them."""

    def __init__(self, methods: dict[str, tuple[str, int]]):
        """`methods` maps a thunk's symbol to (entry point, code), for the thunks of ops."""
        _check_type_layout()
        _prepare_state()
        llvm.add_symbol("tg_state", STATE_ADDRESS)
        build.target()
        name = "engine-" + build.key(_native_sources())
        self.address = build.load(_object(name, _compile_engine))
        source = "\n".join(
            [_PRELUDE, *(_export_ir(n, k) for n, k in EXPORTS.items()), _method_ir("py_apply", "tg_apply", 0)]
            + [_method_ir(symbol, *target) for symbol, target in methods.items()]
        )
        for symbol in VISIBLE:
            llvm.add_symbol("tg_" + symbol, self.address("tg_" + symbol))
        self.thunk = build.load(_object("methods-" + build.key(source), lambda: build.compile_ir(source)))
        for offset, function in ((TP_DEALLOC, "dealloc"), (TP_TRAVERSE, "traverse"), (TP_CLEAR, "clear")):
            ctypes.c_void_p.from_address(id(Handle) + offset).value = self.address("tg_" + function)
        pool = allocate(layout.POOL_BYTES)
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.address("tg_start_pool"))(pool)
        os.register_at_fork(after_in_child=lambda: state_cell("pool").__setattr__("value", 0))

    def function(self, symbol: str, name: str, doc: str = "", keywords: bool = False):
        """A builtin function `name` of the thunk `symbol`."""
        return _new_function(ctypes.addressof(self._definition(symbol, name, doc, keywords)), None, None)

    def method(self, owner: type, symbol: str, name: str, doc: str = "", keywords: bool = True):
        """A method descriptor of `owner`."""
        return _new_descriptor(owner, ctypes.addressof(self._definition(symbol, name, doc, keywords)))

    def attribute(self, owner: type, name: str, python: property):
        """A getset descriptor of `owner`, which goes on to the property `python` where it is not the plain case."""
        callables = (python.fget, python.__set__, python.__delete__)
        closure = (ctypes.c_int64 * 3)(*map(id, callables))
        setter = self.address("tg_" + SETTERS[name]) if name in SETTERS else None
        definition = _GetSet(name.encode(), self.address("tg_get_" + name), setter, (python.__doc__ or "").encode(), ctypes.addressof(closure))
        _kept.append((callables, closure, definition))
        return _new_getset(owner, ctypes.addressof(definition))

    def _definition(self, symbol, name, doc, keywords):
        flags = METH_FASTCALL | (METH_KEYWORDS if keywords else 0)
        definition = _MethodDef(name.encode(), self.thunk(symbol), flags, doc.encode())
        _kept.append(definition)
        return definition
