"""Structural ops by their plans: `apply` for Python, and the call cache that answers `x.sum()`, `x[2]`, `a @ b` without it."""

from tapegrad.engine import layout
from tapegrad.engine.layout import CALL_ROWS, GRAD, HAS_SAVED, NO_GRAD_VIEW, NO_INDEX, REQUIRES_GRAD, SAVED_ALL, SAVED_INPUT
from tapegrad.engine.native.capi import call_kernel, py_error_clear, py_error_occurred, py_incref, py_long_as_i64, raw_free, raw_malloc
from tapegrad.engine.native.checking import verify, watch
from tapegrad.engine.native.elementwise import ask_python, drop_unheld, run_kernel
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, go_slow, modes_ready, slot_of, wrap
from tapegrad.engine.native.pointers import (
    I64,
    Call,
    Plan,
    call_at,
    entry_row,
    external,
    load_i64,
    plan_get,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import link_input, link_output, new_slot, open_entry, view_slot
from tapegrad.engine.native.threadmodes import load_modes

py_tuple_new = external("PyTuple_New", I64, I64)
py_tuple_set = external("PyTuple_SetItem", I64, I64, I64, I64)
argument_words = stack_words(24)
pair_words = stack_words(4)
kernel_words = stack_words(72)
more_words = stack_words(72)
call_slots = stack_words(4)
check_words = stack_words(40)
CALL_SIZE = layout.CALL.size


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
    if the_state().check == 0 or Plan(address).shares != 0:
        return run_plan_unchecked(address, slots, inputs, made)
    words = check_words()
    watch(words, slots, inputs)
    if run_plan_unchecked(address, slots, inputs, made) == 0:
        return 0
    outputs = Plan(address).outputs
    if verify(words, slots, inputs, made, outputs):
        return 1
    for k in range(outputs):
        drop_unheld(load_i64(made + k * 8))
    return 0


@native("iiiii")
def run_plan_unchecked(address, slots, inputs, made):
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
