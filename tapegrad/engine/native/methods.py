"""What Python calls: the fast paths of Tensor methods and functions, in CPython's METH_FASTCALL convention.

`binary` and `unary` serve every elementwise op; a generated thunk per op and form passes the op code (see `engine/bind.py`).
A call that is not the plain case (other types, mixed dtypes, keywords, an active mode) goes on, arguments untouched, to the
op's Python callable, which knows every rule and raises every error.
"""

from tapegrad.engine.layout import FLOAT64
from tapegrad.engine.native.capi import py_error_clear, py_error_occurred, py_float_as_f64, py_incref
from tapegrad.engine.native.elementwise import FAILED, MIXED, elementwise
from tapegrad.engine.native.inplace import inplace
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import go_slow, modes_ready, scalar_slot, slot_of, wrap
from tapegrad.engine.native.pointers import load_i64, op_row, slot_row, the_state
from tapegrad.engine.native.postponed import elementwise_of_values
from tapegrad.engine.native.tables import drop
from tapegrad.engine.native_codes import FORM, INPLACE, REFLECTED


@native("ii")
def fixed_power(value):
    """Which of the powers 0, 1, 2, 3, 1/2, -1, -2, -1/2 a Python number is, -1 for none."""
    st = the_state()
    kind = load_i64(value + 8)
    if kind != st.float_type and kind != st.int_type:
        return -1
    x = py_float_as_f64(value)
    if x == -1.0 and py_error_occurred() != 0:
        py_error_clear()
        return -1
    if x == 2.0:
        return 2
    if x == 3.0 or x == 1.0 or x == 0.0:
        return int(x)
    if x == 0.5:
        return 4
    if x == -1.0:
        return 5
    if x == -2.0:
        return 6
    return 7 if x == -0.5 else -1


@native("iiiiiiii")
def written_over(status, slow, code, self, args, count, names):
    """The result of a call in place, of which `inplace` has said how it went: the tensor itself, the first argument."""
    if status == 1:
        x = self if self else load_i64(args)
        py_incref(x)
        return x
    return 0 if status == FAILED else go_slow(slow, code, self, args, count, names)


@native("iiiiii")
def binary(code, self, args, count, names):
    """A call of a two-operand elementwise op: operator, method or function."""
    st = the_state()
    op = code & 0xFFFF
    row = op_row(st.ops, op)
    slow = load_i64(st.forms + (code >> FORM) * 8)
    x = self
    y = load_i64(args)
    wanted = 1
    if self == 0:
        x = y
        y = load_i64(args + 8) if count == 2 else 0
        wanted = 2
    if names or count != wanted or not modes_ready(st):
        return go_slow(slow, code, self, args, count, names)
    if code & REFLECTED:
        x, y = y, x
    a = slot_of(st, x)
    b = slot_of(st, y)
    scalar = 0
    if a == 0 or b == 0:
        if op == st.power and a != 0:
            if slot_row(st.slots, a).dtype > FLOAT64:
                return go_slow(slow, code, self, args, count, names)
            fixed = fixed_power(y)
            if fixed >= 0 and code & INPLACE:
                return written_over(inplace(st.power_first + fixed, a, 0, x), slow, code, self, args, count, names)
            if fixed >= 0:
                out = elementwise(st.power_first + fixed, a, 0, 0, 0)
                if out > 0:
                    return wrap(out)
                return 0 if out == FAILED else go_slow(slow, code, self, args, count, names)
        if (row.scalars >> (0 if a == 0 else 1)) & 1 == 0 or (op == st.power and code & INPLACE != 0):
            return go_slow(slow, code, self, args, count, names)
        if a:
            scalar = scalar_slot(y, slot_row(st.slots, a).dtype)
            b = scalar
        elif b:
            scalar = scalar_slot(x, slot_row(st.slots, b).dtype)
            a = scalar
        if scalar == 0:
            return go_slow(slow, code, self, args, count, names)
    if row.checked != 0 and slot_row(st.slots, a).dtype > FLOAT64:
        if scalar:
            drop(scalar)
        return go_slow(slow, code, self, args, count, names)
    if code & INPLACE:
        status = inplace(op, a, b, x)
        if scalar:
            drop(scalar)
        return written_over(status, slow, code, self, args, count, names)
    out = elementwise(op, a, b, 0, 0)
    if out == MIXED:
        out = elementwise_of_values(op, a, b)
    if scalar:
        drop(scalar)
    if out > 0:
        return wrap(out)
    if out == FAILED:
        return 0
    return go_slow(slow, code, self, args, count, names)


@native("iiiiii")
def unary(code, self, args, count, names):
    """A call of a one-operand elementwise op."""
    st = the_state()
    op = code & 0xFFFF
    slow = load_i64(st.forms + (code >> FORM) * 8)
    x = self
    wanted = 0
    if self == 0:
        x = load_i64(args) if count == 1 else 0
        wanted = 1
    if names or count != wanted or not modes_ready(st):
        return go_slow(slow, code, self, args, count, names)
    a = slot_of(st, x)
    if a == 0:
        return go_slow(slow, code, self, args, count, names)
    if code & INPLACE:
        return written_over(inplace(op, a, 0, x), slow, code, self, args, count, names)
    out = elementwise(op, a, 0, 0, 0)
    if out == MIXED:
        out = elementwise_of_values(op, a, 0)
    if out > 0:
        return wrap(out)
    if out == FAILED:
        return 0
    return go_slow(slow, code, self, args, count, names)
