"""Elementwise ops in place, recorded or not.

The tape is in single-assignment form (`autograd/inplace.py`): a tensor that is written to holds a new slot of the same memory afterwards, and
where it is a view its base does too.  What is refused, and every unusual case, is left to Python.
"""

from tapegrad.engine.layout import CONTIGUOUS, DENSE, FLOAT64, FUNCTION, GRAD, REQUIRES_GRAD, VIEW
from tapegrad.engine.native.capi import py_decref
from tapegrad.engine.native.checking import verify, watch
from tapegrad.engine.native.elementwise import (
    FAILED,
    elementwise,
    fill_blocks,
    find_broadcast,
    kernel_of,
    record_elementwise,
    run_kernel,
)
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import moved
from tapegrad.engine.native.pointers import (
    broadcast_row,
    buffer_row,
    geometry_row,
    op_get,
    op_row,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, written_slot
from tapegrad.engine.native.writes import may_replace, replace

pair_words = stack_words(4)
check_words = stack_words(40)


@native("iiiii")
def inplace(op, a, b, tensor):
    """Write op's value over slot `a`, which `tensor` holds; 1 if it was done, 0 if Python must see to it."""
    if the_state().check == 0:
        return inplace_unchecked(op, a, b, tensor)
    words = check_words()
    operands = words + 34 * 8
    store_i64(operands, a)
    store_i64(operands + 8, b)
    watch(words, operands, 2)
    status = inplace_unchecked(op, a, b, 0)
    if status == 1 and verify(words, operands, 2, operands, 1) == 0:
        return FAILED
    return status


@native("iiiii")
def inplace_unchecked(op, a, b, tensor):
    """`inplace`; what must be recorded is left to Python where `tensor` is 0."""
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
    recorded = (flags & REQUIRES_GRAD) != 0 and (st.mode & GRAD) != 0
    if st.mode & FUNCTION or row.result >= 0 or (row.kinds >> dtype) & 1 == 0:
        return 0
    if recorded:
        if tensor == 0 or dtype > FLOAT64 or target.flags & ~(REQUIRES_GRAD | VIEW) or target.grad != 0:
            return 0
        if op_get(row, "rule", 3) == 0 or row.renamed != 0:
            return 0
        if b != 0 and slot_row(st.slots, b).buffer == target.buffer:
            return 0
        if target.flags & VIEW:
            return record_view_inplace(op, a, b, tensor)
    if target.flags & VIEW and (st.mode & GRAD) != 0:
        return 0
    kernel = kernel_of(op, 0, dtype)
    if kernel == 0:
        return FAILED
    target = slot_row(st.slots, a)
    shape = geometry_row(st.geometries, target.geometry)
    if shape.flags & (CONTIGUOUS if recorded else DENSE) == 0:
        return 0
    if recorded:
        plan = 0
        if b != 0 and g != target.geometry:
            plan = find_broadcast(target.geometry, g, 0)
            if plan == 0:
                return FAILED
            if broadcast_row(plan, 0).output != slot_row(st.slots, a).geometry:
                return 0
        return record_inplace(op, a, b, plan, tensor)
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


@native("iiii")
def overwritten_operand(op, a, b):
    """What stands for slot `a`, about to be written over, in the entry of the op: a copy if a derivative reads it.  Held; 0 for Python, or FAILED."""
    st = the_state()
    row = op_row(st.ops, op)
    reads = op_get(row, "reads", 0) if slot_row(st.slots, a).flags & REQUIRES_GRAD else 0
    if b != 0 and slot_row(st.slots, b).flags & REQUIRES_GRAD:
        reads = reads | op_get(row, "reads", 1)
    old = a
    if reads & 1:
        old = elementwise(st.carry_out, a, 0, 0, 0)
        if old <= 0:
            return FAILED if old == FAILED else 0
    slot_row(st.slots, old).handles = slot_row(st.slots, old).handles + 1
    return old


@native("iiiiii")
def record_inplace(op, a, b, plan, tensor):
    """The recorded value of op over slot `a`, which `tensor` then holds no more: it holds a slot of the same memory.  Broadcast as `plan` says.

    1, 0 for Python, or FAILED.
    """
    st = the_state()
    row = op_row(st.ops, op)
    kernel = kernel_of(op, 0, slot_row(st.slots, a).dtype)
    if kernel == 0:
        return FAILED
    old = overwritten_operand(op, a, b)
    if old <= 0:
        return old
    new = written_slot(a)
    status = 0
    if new:
        n = geometry_row(st.geometries, slot_row(st.slots, new).geometry).numel
        if plan:
            fill_blocks(kernel, new, plan, new, b, 0, n, row.cost)
        else:
            words = pair_words()
            store_i64(words, slot_row(st.slots, new).data)
            store_i64(words + 8, slot_row(st.slots, new).data)
            if b:
                store_i64(words + 16, slot_row(st.slots, b).data)
            run_kernel(kernel, words, n, row.cost, 0)
        record_elementwise(op, old, b, 0, new)
        py_decref(moved(tensor, new))
        status = 1
    drop(old)
    return status


@native("iiiii")
def record_view_inplace(op, a, b, tensor):
    """`record_inplace` for the view `tensor`, of strides of any kind: computed, then written."""
    if may_replace(tensor, a) == 0:
        return 0
    old = overwritten_operand(op, a, b)
    if old <= 0:
        return old
    value = elementwise(op, old, b, 0, 0)
    drop(old)
    if value <= 0:
        return FAILED if value == FAILED else 0
    return replace(tensor, a, value)
