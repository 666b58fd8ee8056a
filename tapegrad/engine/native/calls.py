"""Planned calls: x.sum(0), x[1:, 2], cat((a, b), 1), zeros(3): whatever a plan answers, without a Python frame.

A call is turned into words (`encode`): a tensor is its geometry and dtype, a number its value, a tuple its items, and so on.  The words
lead to a plan (`find_plan`), which `produce` runs and records.  A call that is not found, or that cannot be turned into words, goes on to
Python, which teaches the cache what it came to (`remember_call`, see `tapegrad/install.py`).
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import BOOL, CALL_ROWS, FLOAT32, FUNCTION, GRAD, RECORDING_STEP, REQUIRES_GRAD, UNRECORDED_STEP, VIEW
from tapegrad.engine.native.capi import (
    py_decref,
    py_error_clear,
    py_error_occurred,
    py_incref,
    py_long_as_i64,
    py_type_alloc,
    raw_free,
    raw_malloc,
)
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, go_slow, modes_ready, scalar_slot, slot_of
from tapegrad.engine.native.planned import REFUSED, produce, py_tuple_set, record_plan
from tapegrad.engine.native.pointers import (
    I64,
    Call,
    Plan,
    buffer_row,
    call_at,
    copy_bytes,
    external,
    load_f64,
    load_i64,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop
from tapegrad.engine.native_codes import INPLACE, NUMBER_LAST, NUMBERS, VOID_RESULT

CALL_SIZE = layout.CALL.size
FLOAT32_MAX = 3.4028235677973366e38  # what still rounds to a float32
key_words = stack_words(100)
operand_words = stack_words(72)
chain_words = stack_words(32)
input_words = stack_words(32)
write_recorded = external("tg_write_recorded", I64, I64, I64, I64)  # native/writes.py, which builds on this file

# A key is: how many words, their hash, the words.  Operands are: how many slots, which of them are temporary (a bit each), the object of the
# first tensor, the dtype that numbers take, the slots, and as many words further the objects of the tensors.
KEY_ROOM = 96
SLOT_ROOM = 32
FIRST_SLOT = 32  # byte offset of the slots
OBJECTS = FIRST_SLOT + (SLOT_ROOM - 1) * 8  # where the objects lie, counted from 1
# What a word begins with; an object that is its own word has 0 in its lowest bits.
A_TENSOR, AN_INT, A_FLOAT, A_NUMBER, A_SLICE, A_TUPLE, A_LIST = 1, 2, 3, 4, 5, 6, 7
A_WRITE = 8  # a first word that no call has: those with a second one say how many arguments were given
AN_OPERAND, A_CONSTANT, WHOLE = 0, 1, 255  # references of a chain (`ops/chains.py`)
TUPLE_ITEMS, LIST_ITEMS, SIZE_OF, FLOAT_VALUE, SLICE_PARTS = 24, 24, 16, 16, 16  # byte offsets in CPython's objects


@native("iii")
def append(key, word):
    """One more word; 0 if there is no room."""
    count = load_i64(key)
    if count >= KEY_ROOM:
        return 0
    store_i64(key + 16 + count * 8, word)
    h = (load_i64(key + 8) ^ word) * 0x2545F4914F6CDD1D
    store_i64(key + 8, h ^ (h >> 31))
    store_i64(key, count + 1)
    return 1


@native("iiii")
def append_slot(operands, s, value):
    """One more operand, the object `value` (0 for a number); 0 if there is no room."""
    count = load_i64(operands)
    if s == 0 or count >= SLOT_ROOM:
        return 0
    store_i64(operands + FIRST_SLOT + count * 8, s)
    store_i64(operands, count + 1)
    store_i64(operands + OBJECTS + (count + 1) * 8, value)
    return 1


@native("iii")
def same_as(value, operands):
    """The number, from 1 on, of an earlier operand that is the same tensor as the last, `value`; 0 if there is none."""
    for k in range(1, load_i64(operands)):
        if load_i64(operands + OBJECTS + k * 8) == value:
            return k
    return 0


@native("iiiii")
def encode_value(value, key, operands, number):
    """Append what stands for one argument; 0 if nothing does.  With `number`, ints and floats are operands rather than part of the key."""
    st = the_state()
    kind = load_i64(value + 8)
    if kind == st.tensor_type or kind == st.parameter_type:
        s = slot_of(st, value)
        if append_slot(operands, s, value) == 0:
            return 0
        slot = slot_row(st.slots, s)
        if load_i64(operands) == 1:
            store_i64(operands + 16, value)
        if slot.dtype != BOOL and load_i64(operands + 24) < 0:
            store_i64(operands + 24, slot.dtype)
        return append(key, A_TENSOR | slot.geometry << 8 | slot.dtype << 40 | same_as(value, operands) << 48)
    if kind == st.int_type or kind == st.float_type:
        if number:
            dtype = load_i64(operands + 24)
            if dtype == FLOAT32 and kind == st.float_type:
                x = load_f64(value + FLOAT_VALUE)
                if (x > FLOAT32_MAX or x < -FLOAT32_MAX) and x - x == 0.0:
                    return 0  # Python refuses it
            s = scalar_slot(value, dtype) if dtype >= 0 else 0
            if append_slot(operands, s, 0) == 0:
                if s:
                    drop(s)
                return 0
            store_i64(operands + 8, load_i64(operands + 8) | 1 << (load_i64(operands) - 1))
            return append(key, A_NUMBER)
        if kind == st.float_type:
            append(key, A_FLOAT)
            return append(key, load_i64(value + FLOAT_VALUE))
        i = py_long_as_i64(value)
        if i == -1 and py_error_occurred() != 0:
            py_error_clear()
            return 0
        append(key, AN_INT)
        return append(key, i)
    if value == st.none or value == st.ellipsis or kind == st.bool_type or kind == st.str_type or kind == st.dtype_type:
        return append(key, value)
    if kind == st.slice_type:
        if append(key, A_SLICE) == 0:
            return 0
        for k in range(3):
            part = load_i64(value + SLICE_PARTS + k * 8)
            if load_i64(part + 8) == st.tensor_type or load_i64(part + 8) == st.parameter_type:
                return 0  # its value counts, not its shape
            if encode_value(part, key, operands, 0) == 0:
                return 0
        return 1
    if kind != st.tuple_type and kind != st.list_type and kind != st.size_type:
        return 0
    count = load_i64(value + SIZE_OF)
    items = load_i64(value + LIST_ITEMS) if kind == st.list_type else value + TUPLE_ITEMS
    if append(key, (A_LIST if kind == st.list_type else A_TUPLE) | count << 8) == 0:
        return 0
    for k in range(count):
        if encode_value(load_i64(items + k * 8), key, operands, number) == 0:
            return 0
    return 1


@native("vSiii")
def settle_number_dtype(st, args, count, operands):
    """The dtype that numbers take: that of the first tensor that is no mask, before it or behind it."""
    for k in range(count):
        value = load_i64(args + k * 8)
        kind = load_i64(value + 8)
        if load_i64(operands + 24) < 0 and (kind == st.tensor_type or kind == st.parameter_type):
            s = slot_of(st, value)
            if s and slot_row(st.slots, s).dtype != BOOL:
                store_i64(operands + 24, slot_row(st.slots, s).dtype)


@native("iiiiiiii")
def encode(code, self, args, count, names, key, operands):
    """The words and operands of a call; 0 if it has none."""
    extra = 0
    if names:
        extra = load_i64(names + SIZE_OF)
    store_i64(key, 0)
    store_i64(key + 8, 0)
    store_i64(operands, 0)
    store_i64(operands + 8, 0)
    store_i64(operands + 16, 0)
    store_i64(operands + 24, -1)
    given = count + extra
    if self:
        given = given + 1
    append(key, (code & 0xFFFF) | given << 16 | extra << 32)
    if self:
        if encode_value(self, key, operands, 0) == 0:
            return 0
    if code & NUMBERS:
        settle_number_dtype(the_state(), args, count + extra, operands)
    for k in range(count + extra):
        number = code & NUMBERS
        if code & NUMBER_LAST and k == count - 1 and load_i64(operands) > 0:
            number = 1  # of the dtype that it is written to
            store_i64(operands + 24, slot_row(the_state().slots, load_i64(operands + FIRST_SLOT)).dtype)
        if encode_value(load_i64(args + k * 8), key, operands, number) == 0:
            return 0
    for k in range(extra):
        if append(key, load_i64(names + TUPLE_ITEMS + k * 8)) == 0:
            return 0
    return 1


@native("iii")
def call_row(key, other):
    """The address of the cache row for a key, or of the `other` one."""
    h = load_i64(key + 8)
    return call_at(the_state().calls, ((h ^ (h >> 17)) & (CALL_ROWS - 1)) ^ other).pointer


@native("ii")
def find_plan(key):
    """The address of the plan of a call, 0 if it is not known."""
    plan = plan_in(key, call_row(key, 0))
    return plan if plan else plan_in(key, call_row(key, 1))


@native("iii")
def plan_in(key, address):
    """The plan in the cache row at `address`, 0 if that is another key's."""
    row = Call(address)
    if row.plan == 0 or row.hash != load_i64(key + 8):
        return 0
    count = load_i64(key)
    words = row.words
    if load_i64(words) != count:
        return 0
    for k in range(count):
        if load_i64(words + 8 + k * 8) != load_i64(key + 16 + k * 8):
            return 0
    return row.plan


@native("viii")
def encode_write(key, base, view):
    """The words that stand for a write to the view slot `view` of slot `base`."""
    st = the_state()
    origin = slot_row(st.slots, base)
    part = slot_row(st.slots, view)
    store_i64(key, 0)
    store_i64(key + 8, 0)
    append(key, A_WRITE)
    append(key, origin.geometry << 32 | origin.dtype)
    append(key, part.geometry << 32 | part.dtype)
    append(key, part.data - origin.data)


@native("iii")
def recorder_of(base, view):
    """The plan by which a write to the view slot `view` of slot `base` is recorded, 0 if it is not known."""
    key = key_words()
    encode_write(key, base, view)
    return find_plan(key)


@native("iiii")
def remember_recorder(base, view, plan):
    """Let `recorder_of` know `plan`."""
    key = key_words()
    encode_write(key, base, view)
    return remember_words(key, plan)


@native("vi")
def release_numbers(operands):
    """Let go of the operands that were made for numbers."""
    temporary = load_i64(operands + 8)
    k = 0
    while temporary:
        if temporary & 1:
            drop(load_i64(operands + FIRST_SLOT + k * 8))
        temporary = temporary >> 1
        k = k + 1


@native("iii")
def may_write(address, operands):
    """Whether a plan may change its first operand: nothing is to be recorded, and a kernel that writes reads nothing else of that memory."""
    st = the_state()
    slots = operands + FIRST_SLOT
    first = slot_row(st.slots, load_i64(slots))
    flags = 0
    for k in range(load_i64(operands)):
        slot = slot_row(st.slots, load_i64(slots + k * 8))
        flags = flags | slot.flags
        if k > 0 and slot.buffer == first.buffer and Plan(address).writes != 0:
            return 0
    if st.mode & FUNCTION:
        return 0
    if st.mode & GRAD:
        if flags & REQUIRES_GRAD:
            return 0
        if first.flags & VIEW:
            base = load_i64(load_i64(operands + 16) + st.base_offset)
            if base == 0 or base == st.none:
                return 0
            s = load_i64(base + HANDLE_SLOT)
            if s <= 0 or slot_row(st.slots, s).flags & REQUIRES_GRAD:
                return 0
    return 1


@native("iiii")
def referred(reference, operands, made):
    """The tensor object that a reference in a chain means; 0 for a constant, which has none."""
    kind = reference & 255
    k = (reference >> 8) & 0xFFFFFF
    if kind == AN_OPERAND:
        return load_i64(operands + OBJECTS + 8 + k * 8)
    if kind == A_CONSTANT:
        return 0
    result = load_i64(made + k * 8)
    item = reference >> 32
    return result if item == WHOLE else load_i64(result + TUPLE_ITEMS + item * 8)


@native("iii")
def run_chain(address, operands):
    """Run the steps of a chain: a new reference to its result, 0 with an exception, or REFUSED."""
    st = the_state()
    plan = Plan(address)
    steps = load_i64(plan.chain)
    results = load_i64(plan.chain + 8)
    at = plan.chain + 24
    made = chain_words()
    slots = input_words()
    result = REFUSED
    done = 0
    for number in range(steps):
        step = load_i64(at)
        inputs = load_i64(at + 8)
        flags = load_i64(at + 16)
        parent = 0
        changed = 0
        for k in range(inputs):
            reference = load_i64(at + 24 + k * 8)
            tensor = referred(reference, operands, made)
            s = load_i64(tensor + HANDLE_SLOT) if tensor else reference >> 8
            store_i64(slots + k * 8, s)
            if tensor == 0:  # a constant, which somebody may have found among the saved tensors of a node
                changed = changed | buffer_row(st.buffers, slot_row(st.slots, s).buffer).version
            if k == 0 and (Plan(step).view_flags != 0 or Plan(step).parts != 0):
                parent = tensor
        at = at + 24 + inputs * 8
        if changed != 0:
            result = REFUSED
        elif flags == RECORDING_STEP:
            if st.mode & GRAD:
                outputs = Plan(step).outputs
                record_plan(step, slots, inputs - outputs, slots + (inputs - outputs) * 8)
            py_incref(st.none)
            result = st.none
        elif flags == UNRECORDED_STEP:
            before = st.mode & GRAD
            st.mode = st.mode & ~GRAD
            result = produce(step, slots, inputs, parent, 0)
            st.mode = st.mode | before
        else:
            result = produce(step, slots, inputs, parent, 0)
        if result == 0 or result == REFUSED:
            break
        store_i64(made + number * 8, result)
        done = number + 1
    if done == steps:
        result = collected(at, results, load_i64(plan.chain + 16), plan.result_type, operands, made)
    for number in range(done):
        py_decref(load_i64(made + number * 8))
    return result


@native("iiiiiii")
def collected(references, count, several, kind, operands, made):
    """The result of a chain: one tensor, or with `several` a tuple of type `kind`."""
    if several == 1:
        result = referred(load_i64(references), operands, made)
        py_incref(result)
        return result
    result = py_type_alloc(kind, count)
    for k in range(count):
        tensor = referred(load_i64(references + k * 8), operands, made)
        py_incref(tensor)
        py_tuple_set(result, k, tensor)
    return result


@native("iiiiii")
def planned(code, self, args, count, names):
    """A call that the cache may know."""
    st = the_state()
    slow = load_i64(st.calls + CALL_ROWS * CALL_SIZE + (code & 0xFFFF) * 8)
    if not modes_ready(st):
        return go_slow(slow, code, self, args, count, names)
    key = key_words()
    operands = operand_words()
    result = REFUSED
    if encode(code, self, args, count, names, key, operands):
        plan = find_plan(key)
        if plan == 0:
            result = REFUSED
        elif code & INPLACE != 0 and may_write(plan, operands) == 0:
            result = write_recorded(plan, operands, code & VOID_RESULT)
        else:
            if Plan(plan).chain:
                result = run_chain(plan, operands)
            else:
                parent = load_i64(operands + 16)
                result = produce(plan, operands + FIRST_SLOT, load_i64(operands), parent, code & INPLACE)
    if load_i64(operands + 8):
        release_numbers(operands)
    if result == REFUSED:
        return go_slow(slow, code, self, args, count, names)
    if code & VOID_RESULT and result != 0:
        py_decref(result)
        py_incref(st.none)
        return st.none
    return result


@native("iiiii")
def remember_call(code, args, names, plan):
    """Let the cache answer the call (tuple of arguments, tuple of the last ones' names) with `plan`.  The number of its row, -1 if that cannot be."""
    extra = load_i64(names + SIZE_OF)
    key = key_words()
    operands = operand_words()
    usable = encode(code, 0, args + TUPLE_ITEMS, load_i64(args + SIZE_OF) - extra, names if extra else 0, key, operands)
    release_numbers(operands)
    return remember_words(key, plan) if usable else -1


@native("iii")
def remember_words(key, plan):
    """Let the cache answer the words of a key with `plan`.  The number of its row, -1 if that cannot be."""
    st = the_state()
    row = Call(call_row(key, 0))
    if row.plan != 0 and row.hash != load_i64(key + 8):
        row = Call(call_row(key, 1))
    size = (load_i64(key) + 1) * 8
    words = raw_malloc(size)
    if words == 0:
        return -1
    store_i64(words, load_i64(key))
    copy_bytes(words + 8, key + 16, size - 8)
    if row.words:
        raw_free(row.words)
    row.words = words
    row.hash = load_i64(key + 8)
    row.plan = plan
    return (row.pointer - st.calls) // CALL_SIZE
