"""What Python calls: the fast paths of Tensor methods and functions, in CPython's METH_FASTCALL convention.

`binary` and `unary` serve every elementwise op; a generated thunk per op and form passes the op code (see `engine/bind.py`).
A call that is not the plain case (other types, mixed dtypes, keywords, an active mode) goes on, arguments untouched, to the
op's Python callable, which knows every rule and raises every error.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import (
    CALL_ROWS,
    DENSE,
    GRAD,
    HAS_SAVED,
    INFERENCE,
    NO_GRAD_VIEW,
    NO_INDEX,
    REQUIRES_GRAD,
    SAVED_ALL,
    SAVED_INPUT,
    SLOW,
    SUBCLASS,
    TRACKED,
    VIEW,
    WRAPPED,
)
from tapegrad.engine.native.capi import (
    call_kernel,
    py_bool_from_i64,
    py_decref,
    py_error_clear,
    py_error_fetch,
    py_error_occurred,
    py_error_restore,
    py_float_as_f64,
    py_float_from_f64,
    py_incref,
    py_long_as_i64,
    py_long_from_i64,
    py_type_alloc,
    py_vectorcall,
    raw_free,
    raw_malloc,
)
from tapegrad.engine.native.elementwise import (
    FAILED,
    ask_python,
    drop_unheld,
    elementwise,
    fill_blocks,
    find_broadcast,
    kernel_of,
    run_kernel,
)
from tapegrad.engine.native.memory import bury, drain_graveyard, guard_holds
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    VOID,
    Call,
    Plan,
    broadcast_row,
    buffer_row,
    call_at,
    call_pointer,
    entry_row,
    external,
    geometry_row,
    load_f32,
    load_f64,
    load_i32,
    load_i64,
    load_u8,
    op_row,
    operand_row,
    plan_get,
    slot_row,
    stack_words,
    store_f32,
    store_f64,
    store_i32,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, link_input, link_output, new_slot, open_entry, view_slot
from tapegrad.engine.native.threadmodes import load_modes
from tapegrad.engine.native_codes import INPLACE, OPERATOR, REFLECTED

HANDLE_SLOT = 16  # byte offset of the slot number in a Tensor object
TYPE_FREE = 320  # byte offset of tp_free in a PyTypeObject, verified when the engine starts
FLOAT32, FLOAT64, INT64, BOOL = 0, 1, 2, 7
ODD = VIEW | INFERENCE | SUBCLASS | TRACKED

call_free = call_pointer(VOID, I64)
py_tuple_new = external("PyTuple_New", I64, I64)
py_tuple_set = external("PyTuple_SetItem", I64, I64, I64, I64)
argument_words = stack_words(24)
pair_words = stack_words(4)
kernel_words = stack_words(72)
more_words = stack_words(72)
call_slots = stack_words(4)
CALL_SIZE = layout.CALL.size


@native("ii")
def wrap(s):
    """A new Tensor object that holds slot `s`."""
    st = the_state()
    slot = slot_row(st.slots, s)
    slot.handles = slot.handles + 1
    if st.check != 0 and slot.buffer != 0 and guard_holds(slot.buffer) == 0:
        ask_python(st.check_failed, s, 0, 0)
        return 0
    tensor = py_type_alloc(st.tensor_type, 0)
    if tensor:
        store_i64(tensor + HANDLE_SLOT, s)
    else:
        drop(s)
    return tensor


@native("vi")
def dealloc(tensor):
    """tp_dealloc of the handle type: let go of the slot, then free the object."""
    st = the_state()
    s = load_i64(tensor + HANDLE_SLOT)
    if s > 0:
        store_i64(tensor + HANDLE_SLOT, 0)
        drop(s)
    kind = load_i64(tensor + 8)
    call_free_of(tensor)
    py_decref(kind)
    if st.graveyard_count:
        flush_graveyard()


@native("vi")
def call_free_of(tensor):
    call_free(load_i64(load_i64(tensor + 8) + TYPE_FREE), tensor)


@native("v")
def flush_graveyard():
    """Release buried objects with any exception in flight put aside."""
    words = pair_words()
    py_error_fetch(words, words + 8, words + 16)
    drain_graveyard()
    py_error_restore(load_i64(words), load_i64(words + 8), load_i64(words + 16))


@native("iS")
def modes_ready(st):
    """Load this thread's modes; true if none of them needs Python."""
    load_modes()
    return st.mode & SLOW == 0


@native("iSi")
def slot_of(st, tensor):
    """The slot of a plain Tensor, 0 for anything that Python must look at."""
    kind = load_i64(tensor + 8)
    if kind != st.tensor_type and kind != st.parameter_type:
        return 0
    s = load_i64(tensor + HANDLE_SLOT)
    slot = slot_row(st.slots, s)
    if slot.flags & ODD:
        if slot.flags & (INFERENCE | SUBCLASS | TRACKED):
            return 0
        if slot.version != buffer_row(st.buffers, slot.buffer).version:
            return 0
    return s


@native("iii")
def scalar_slot(value, dtype):
    """A held 0-d slot with the Python number `value` in `dtype`; 0 if that is not the plain case."""
    st = the_state()
    kind = load_i64(value + 8)
    if dtype <= FLOAT64:
        if kind == st.float_type:
            x = py_float_as_f64(value)
        elif kind == st.int_type:
            x = py_float_as_f64(value)
            if x == -1.0 and py_error_occurred() != 0:
                py_error_clear()
                return 0
        else:
            return 0
        s = new_slot(st.scalar_geometry, dtype)
        if s == 0:
            return 0
        if dtype == FLOAT64:
            store_f64(slot_row(st.slots, s).data, x)
        else:
            store_f32(slot_row(st.slots, s).data, x)
    elif dtype == INT64 and kind == st.int_type:
        i = py_long_as_i64(value)
        if i == -1 and py_error_occurred() != 0:
            py_error_clear()
            return 0
        s = new_slot(st.scalar_geometry, dtype)
        if s == 0:
            return 0
        store_i64(slot_row(st.slots, s).data, i)
    else:
        return 0
    slot = slot_row(st.slots, s)
    slot.flags = WRAPPED
    slot.handles = 1
    return s


@native("iiiiiii")
def go_slow(callable_, code, self, args, count, names):
    """Hand a call to Python: with `self` in front if there is one, swapped if reflected."""
    extra = 0
    if names:
        extra = load_i64(names + 16)  # ob_size of the tuple of keyword names
    if self == 0:
        return py_vectorcall(callable_, args, count, names)
    words = argument_words()
    heap = 0
    if count + extra > 20:
        heap = raw_malloc((count + extra + 1) * 8)
        words = heap
    store_i64(words, self)
    for k in range(count + extra):
        store_i64(words + (k + 1) * 8, load_i64(args + k * 8))
    result = py_vectorcall(callable_, words, count + 1, names)
    if heap:
        raw_free(heap)
    return result


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


@native("iiiiii")
def binary(code, self, args, count, names):
    """A call of a two-operand elementwise op: operator, method or function."""
    st = the_state()
    op = code & 0xFFFF
    row = op_row(st.ops, op)
    slow = row.slow
    if code & INPLACE:
        slow = row.slow_inplace
    elif code & OPERATOR:
        slow = row.slow_reflected if code & REFLECTED else row.slow_operator
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
        if op == st.power and a != 0 and code & INPLACE == 0:
            if slot_row(st.slots, a).dtype > FLOAT64:
                return go_slow(slow, code, self, args, count, names)
            fixed = fixed_power(y)
            if fixed >= 0:
                out = elementwise(st.power_first + fixed, a, 0, 0, 0)
                if out > 0:
                    return wrap(out)
                return 0 if out == FAILED else go_slow(slow, code, self, args, count, names)
        if row.no_scalars != 0 and (code & INPLACE != 0 or a == 0):
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
        if status == 1:
            py_incref(x)
            return x
        if status == FAILED:
            return 0
        return go_slow(slow, code, self, args, count, names)
    out = elementwise(op, a, b, 0, 0)
    if scalar:
        drop(scalar)
    if out > 0:
        return wrap(out)
    if out == FAILED:
        return 0
    return go_slow(slow, code, self, args, count, names)


@native("iiiii")
def inplace(op, a, b, unused):
    """Write op's value over slot `a` when that needs no recording; 1 if it was done, 0 if Python must see to it."""
    st = the_state()
    target = slot_row(st.slots, a)
    flags = target.flags
    row = op_row(st.ops, op)
    dtype = target.dtype
    g = 0
    if b:
        other = slot_row(st.slots, b)
        flags = flags | other.flags
        if other.dtype != dtype or (other.buffer == target.buffer and (other.geometry != target.geometry or other.data != target.data)):
            return 0
        g = other.geometry
    if (flags & REQUIRES_GRAD) != 0 and (st.mode & GRAD) != 0:
        return 0
    if row.result >= 0 or (row.kinds >> dtype) & 1 == 0:
        return 0
    if target.flags & VIEW and (st.mode & GRAD) != 0:
        return 0
    kernel = kernel_of(op, 0, dtype)
    if kernel == 0:
        return FAILED
    target = slot_row(st.slots, a)
    shape = geometry_row(st.geometries, target.geometry)
    if shape.flags & DENSE == 0:
        return 0
    if b == 0 or g == target.geometry:
        words = pair_words()
        store_i64(words, target.data)
        store_i64(words + 8, target.data)
        if b:
            store_i64(words + 16, slot_row(st.slots, b).data)
        run_kernel(kernel, words, shape.numel, row.cost, 0)
    else:
        plan = find_broadcast(target.geometry, g, 0)
        if plan == 0:
            return FAILED
        target = slot_row(st.slots, a)
        if broadcast_row(plan, 0).output != target.geometry:
            return 0
        fill_blocks(kernel, a, plan, a, b, 0, shape.numel, row.cost)
    buffer = buffer_row(st.buffers, target.buffer)
    buffer.version = buffer.version + 1
    return 1


@native("iiiiii")
def unary(code, self, args, count, names):
    """A call of a one-operand elementwise op."""
    st = the_state()
    op = code & 0xFFFF
    row = op_row(st.ops, op)
    slow = row.slow_inplace if code & INPLACE else row.slow
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
        status = inplace(op, a, 0, x)
        if status == 1:
            py_incref(x)
            return x
        if status == FAILED:
            return 0
        return go_slow(slow, code, self, args, count, names)
    out = elementwise(op, a, 0, 0, 0)
    if out > 0:
        return wrap(out)
    if out == FAILED:
        return 0
    return go_slow(slow, code, self, args, count, names)


@native("iiiiii")
def apply(code, self, args, count, names):
    """apply(plan, *tensors): run a structural op as its plan says, record it, return its output or a tuple of outputs."""
    st = the_state()
    load_modes()
    plan = Plan(py_long_as_i64(load_i64(args)))
    inputs = count - 1
    words = kernel_words()
    heap = 0
    if inputs + plan.outputs > 60:
        heap = raw_malloc((inputs + plan.outputs + 8) * 8)
        words = heap
    for k in range(inputs):
        store_i64(words + k * 8, load_i64(load_i64(args + (k + 1) * 8) + HANDLE_SLOT))
    made = pair_words()
    done = run_plan(plan.pointer, words, inputs, made)
    if done and plan.differentiable != 0 and (st.mode & GRAD) != 0:
        record_plan(plan.pointer, words, inputs, made)
    if heap:
        raw_free(heap)
    if done == 0:
        return 0
    outputs = plan.outputs
    if outputs == 1:
        return wrap(load_i64(made))
    result = py_tuple_new(outputs)
    for k in range(outputs):
        py_tuple_set(result, k, wrap(load_i64(made + k * 8)))
    return result


@native("iiiii")
def run_plan(address, slots, inputs, made):
    """Run a plan on `slots` (an array of int64), its outputs' slots to `made`; 0 with a Python exception if there is no memory."""
    st = the_state()
    plan = Plan(address)
    outputs = plan.outputs
    if plan.shares:
        s = view_slot(load_i64(slots), plan_get(plan, "geometry", 0), plan.byte_offset)
        slot_row(st.slots, s).flags = plan.view_flags
        store_i64(made, s)
        return 1
    for k in range(outputs):
        s = new_slot(plan_get(plan, "geometry", k), plan_get(plan, "dtype", k))
        if s == 0:
            for j in range(k):
                drop_unheld(load_i64(made + j * 8))
            ask_python(st.raise_memory, st.error_a, 0, 0)
            return 0
        store_i64(made + k * 8, s)
    if plan.kernel != 0 and plan.n > 0:
        words = more_words()
        heap = 0
        if inputs + outputs > 60:
            heap = raw_malloc((inputs + outputs + 8) * 8)
            words = heap
        for k in range(outputs):
            store_i64(words + k * 8, slot_row(st.slots, load_i64(made + k * 8)).data)
        for k in range(inputs):
            store_i64(words + (outputs + k) * 8, slot_row(st.slots, load_i64(slots + k * 8)).data)
        store_i64(words + (inputs + outputs) * 8, plan.args)
        if st.threads > 1 and plan.cost >= st.parallel_cost:
            run_kernel(plan.kernel, words, plan.n, 1 + plan.cost * 16 // plan.n, 0)
        else:
            call_kernel(plan.kernel, words, 0, plan.n)
        if heap:
            raw_free(heap)
    return 1


@native("viiii")
def record_plan(address, slots, inputs, made):
    """Append the entry of a structural op if an input requires grad."""
    st = the_state()
    wanted = 0
    for k in range(inputs):
        wanted = wanted | slot_row(st.slots, load_i64(slots + k * 8)).flags
    if wanted & REQUIRES_GRAD == 0:
        return
    plan = Plan(address)
    saves = plan.saves
    outputs = plan.outputs
    flags = HAS_SAVED if saves else 0
    if saves == -1:
        flags = flags | SAVED_ALL
    else:
        flags = flags | saves * SAVED_INPUT
    e = open_entry(plan.op, inputs, outputs, flags)
    if e < 0:
        return
    entry = entry_row(st.entries, e)
    py_incref(plan.payload)
    entry.payload = plan.payload
    entry.plan = address
    for k in range(inputs):
        link_input(st, e, k, load_i64(slots + k * 8), saves == -1 or (k < 24 and ((saves >> k) & 1) != 0))
    for k in range(outputs):
        j = inputs + k
        grad = REQUIRES_GRAD if (plan.differentiable >> k) & 1 else 0
        link_output(st, e, k, load_i64(made + k * 8), saves == -1 or (j < 24 and ((saves >> j) & 1) != 0), grad)


# --- planned calls: x.sum(), x[2], x[1:], a @ b ------------------------------------------------------------------------
@native("iii")
def index_key(value, place):
    """Put the integers that stand for an index object at `place`; 0 if it is not an int or a slice of ints."""
    st = the_state()
    kind = load_i64(value + 8)
    store_i64(place + 8, 0)
    store_i64(place + 16, 0)
    if kind == st.int_type:
        i = py_long_as_i64(value)
        if i == -1 and py_error_occurred() != 0:
            py_error_clear()
            return 0
        store_i64(place, i)
        return 1
    if kind != st.slice_type:
        return 0
    for k in range(3):
        part = load_i64(value + 16 + k * 8)
        if part == st.none:
            i = NO_INDEX
        elif load_i64(part + 8) == st.int_type:
            i = py_long_as_i64(part)
            if i == -1 and py_error_occurred() != 0:
                py_error_clear()
                return 0
        else:
            return 0
        store_i64(place + k * 8, i)
    return 2


@native("iiii")
def call_row(key, geometries, dtype):
    """The address of the cache row of a call: key is (method, a, b, c), geometries packed first | second << 32."""
    st = the_state()
    h = load_i64(key) * 0x9E3779B1 + load_i64(key + 8) * 0x85EBCA77 + load_i64(key + 16) * 0xC2B2AE3D + geometries * 0x27D4EB2F + dtype
    h = h ^ (h >> 29)
    return call_at(st.calls, h & (CALL_ROWS - 1)).pointer


@native("iiiiii")
def planned(code, self, args, count, names):
    """A method call that a plan serves: up to three ints (sum(), reshape(2, 3)), an index (getitem), or a second tensor (matmul)."""
    st = the_state()
    method = code & 0xFFFF
    slow = load_i64(st.calls + CALL_ROWS * CALL_SIZE + method * 8)
    kind = code >> 16  # 0: ints, 1: index, 2: tensor
    given = args
    x = self
    y = load_i64(args) if count > 0 else 0
    if self == 0:
        x = y
        y = load_i64(args + 8) if count > 1 else 0
        count = count - 1
        given = args + 8
    if names or count < 0 or count > 3 or (kind != 0 and count != 1) or not modes_ready(st):
        return go_slow(slow, code, self, args, count + (1 if self == 0 else 0), names)
    a = slot_of(st, x)
    b = 0
    key = argument_words()
    store_i64(key + 8, 0)
    store_i64(key + 16, 0)
    store_i64(key + 24, 0)
    usable = a
    if kind == 1 and a:
        index = index_key(y, key + 8)
        usable = index
        method_key = method + (index << 16)
        store_i64(key, method_key)
    elif kind == 2 and a:
        store_i64(key, method)
        b = slot_of(st, y)
        usable = b
    else:
        store_i64(key, method + ((count + 3) << 16))
        for k in range(count):
            value = load_i64(given + k * 8)
            if load_i64(value + 8) != st.int_type:
                usable = 0
            elif usable:
                i = py_long_as_i64(value)
                if i == -1 and py_error_occurred() != 0:
                    py_error_clear()
                    usable = 0
                store_i64(key + 8 + k * 8, i)
    if usable == 0:
        return go_slow(slow, code, self, args, count + (1 if self == 0 else 0), names)
    first = slot_row(st.slots, a)
    geometries = first.geometry
    dtype = first.dtype
    if b:
        second = slot_row(st.slots, b)
        geometries = geometries | (second.geometry << 32)
        dtype = dtype | (second.dtype << 8)
    row = Call(call_row(key, geometries, dtype))
    if (
        row.plan == 0
        or row.method != load_i64(key)
        or row.first != (geometries & 0xFFFFFFFF)
        or row.second != (geometries >> 32)
        or row.dtype != dtype
        or row.a != load_i64(key + 8)
        or row.b != load_i64(key + 16)
        or row.c != load_i64(key + 24)
    ):
        return go_slow(slow, code, self, args, count + (1 if self == 0 else 0), names)
    plan = Plan(row.plan)
    words = call_slots()
    store_i64(words, a)
    store_i64(words + 8, b)
    made = pair_words()
    inputs = 2 if b else 1
    if run_plan(plan.pointer, words, inputs, made) == 0:
        return 0
    if plan.differentiable != 0 and (st.mode & GRAD) != 0:
        record_plan(plan.pointer, words, inputs, made)
    s = load_i64(made)
    result = wrap(s)
    if plan.shares != 0 and result != 0:
        remember_view(result, x, plan.payload)
        flags = slot_row(st.slots, a).flags
        if flags & NO_GRAD_VIEW or (flags & REQUIRES_GRAD and st.mode & GRAD == 0):
            made_slot = slot_row(st.slots, s)
            made_slot.flags = made_slot.flags | NO_GRAD_VIEW
    return result


@native("viii")
def remember_view(result, parent, plan):
    """Fill the Python slots by which a view knows its parent, its plan and its base."""
    st = the_state()
    py_incref(parent)
    store_i64(result + st.parent_offset, parent)
    py_incref(plan)
    store_i64(result + st.plan_offset, plan)
    base = load_i64(parent + st.base_offset)
    if base == 0 or base == st.none:
        base = parent
    py_incref(base)
    store_i64(result + st.base_offset, base)


@native("viiiiiiii")
def remember_call(method, first, second, dtype, a, b, c, plan):
    """Let the call cache answer a call with `plan` (the address of a row that lives until the cache is cleared)."""
    key = argument_words()
    store_i64(key, method)
    store_i64(key + 8, a)
    store_i64(key + 16, b)
    store_i64(key + 24, c)
    row = Call(call_row(key, first | (second << 32), dtype))
    row.method = method
    row.first = first
    row.second = second
    row.dtype = dtype
    row.a = a
    row.b = b
    row.c = c
    row.plan = plan


@native("vii")
def set_payload(e, payload):
    """Give entry `e` its payload, a PyObject of which it takes a reference."""
    entry = entry_row(the_state().entries, e)
    if entry.payload:
        bury(entry.payload)
        entry.payload = 0
    if payload:
        py_incref(payload)
        entry.payload = payload


@native("ii")
def item(s):
    """The Python number in a one-element slot of a basic dtype; 0 (no exception) for other dtypes."""
    st = the_state()
    slot = slot_row(st.slots, s)
    data = slot.data
    dtype = slot.dtype
    if dtype == FLOAT64:
        return py_float_from_f64(load_f64(data))
    if dtype == FLOAT32:
        return py_float_from_f64(load_f32(data))
    if dtype == INT64:
        return py_long_from_i64(load_i64(data))
    if dtype == BOOL:
        return py_bool_from_i64(load_u8(data))
    return 0


@native("vi")
def hold(s):
    """One more handle on slot `s`."""
    slot = slot_row(the_state().slots, s)
    slot.handles = slot.handles + 1


@native("iii")
def get_field(s, offset):
    """An int32 field of a slot row, by byte offset."""
    return load_i32(slot_row(the_state().slots, s).pointer + offset)


@native("viii")
def set_field(s, offset, value):
    store_i32(slot_row(the_state().slots, s).pointer + offset, value)


@native("ii")
def data_of(s):
    return slot_row(the_state().slots, s).data


@native("ii")
def version_of(s):
    st = the_state()
    return buffer_row(st.buffers, slot_row(st.slots, s).buffer).version


@native("vii")
def bump_version(s, by):
    st = the_state()
    buffer = buffer_row(st.buffers, slot_row(st.slots, s).buffer)
    buffer.version = buffer.version + by


@native("viiii")
def attach_input(e, k, s, saved):
    link_input(the_state(), e, k, s, saved)


@native("viiiii")
def attach_output(e, k, s, saved, flags):
    link_output(the_state(), e, k, s, saved, flags)


@native("iii")
def operand_slot(e, k):
    """The slot of operand `k` of entry `e`."""
    st = the_state()
    return operand_row(st.operands, entry_row(st.entries, e).operand + k).slot


@native("iii")
def entry_field(e, offset):
    """An int32 field of an entry row, by byte offset."""
    return load_i32(entry_row(the_state().entries, e).pointer + offset)


@native("ii")
def payload_of(e):
    """The entry's payload as a new reference, None if it has none."""
    st = the_state()
    payload = entry_row(st.entries, e).payload
    if payload == 0:
        payload = st.none
    py_incref(payload)
    return payload


@native("iii")
def move_handle(tensor, s):
    """Make the Tensor object `tensor` hold slot `s` (unheld or held elsewhere) in place of its own."""
    st = the_state()
    old = load_i64(tensor + HANDLE_SLOT)
    slot = slot_row(st.slots, s)
    slot.handles = slot.handles + 1
    store_i64(tensor + HANDLE_SLOT, s)
    if old > 0:
        drop(old)
    return s


@native("ii")
def share_slot(source):
    """A new unheld slot with the value and geometry of `source` and no place in the graph."""
    return view_slot(source, slot_row(the_state().slots, source).geometry, 0)


@native("viiiii")
def retarget(e, k, old, new, saved):
    """Make slot `new` the output (operand `k`) of entry `e` in place of `old`: an in-place op's value has moved to its target's memory."""
    st = the_state()
    operand = operand_row(st.operands, entry_row(st.entries, e).operand + k)
    source = slot_row(st.slots, old)
    target = slot_row(st.slots, new)
    operand.slot = new
    operand.version = buffer_row(st.buffers, target.buffer).version
    target.entry = e
    target.output_nr = source.output_nr
    target.flags = target.flags | REQUIRES_GRAD
    source.entry = -1
    if saved:
        source.saves = source.saves - 1
        target.saves = target.saves + 1


@native("vii")
def set_entry_flags(e, flags):
    """Replace the flags of an entry."""
    entry_row(the_state().entries, e).flags = flags
