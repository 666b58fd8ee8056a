"""Writes that are recorded: `x[index] = y` and the in-place forms of planned calls, and how a written view takes its base along.

The tape is in single-assignment form (`autograd/inplace.py`): a tensor that is written to holds a new slot of the same memory afterwards.  A
write through a view gives its base a new value too, by the plan that `autograd/bases.write_recorder` has made for the region; the view is then
looked up in the base again.  What is refused, and every unusual case, is left to Python.
"""

from tapegrad.engine.layout import FLOAT64, FUNCTION, GRAD, HAS_SAVED, OVERLAPS, REQUIRES_GRAD, SAVED_INPUT, VIEW
from tapegrad.engine.native.access import retarget
from tapegrad.engine.native.calls import FIRST_SLOT, recorder_of
from tapegrad.engine.native.capi import py_decref, py_incref
from tapegrad.engine.native.elementwise import FAILED, assign, elementwise
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, moved
from tapegrad.engine.native.planned import REFUSED, chosen, record_plan, run_plan
from tapegrad.engine.native.pointers import (
    Plan,
    buffer_row,
    entry_row,
    geometry_row,
    load_i64,
    op_get,
    op_row,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, view_slot, written_slot

pair_words = stack_words(2)
result_words = stack_words(1)
input_words = stack_words(32)
MOST_INPUTS = 32


@native("ii")
def base_of(tensor):
    """The base object of the view `tensor` if compiled code may give it a new value, or 0."""
    st = the_state()
    base = load_i64(tensor + st.base_offset)
    if base == 0 or base == st.none:
        return 0
    s = load_i64(base + HANDLE_SLOT)
    if s <= 0 or slot_row(st.slots, s).flags & ~REQUIRES_GRAD or slot_row(st.slots, s).grad != 0:
        return 0
    return base


@native("iii")
def may_replace(tensor, a):
    """Whether slot `a` of `tensor` may get a new value that is recorded."""
    st = the_state()
    slot = slot_row(st.slots, a)
    if st.mode & (GRAD | FUNCTION) != GRAD or st.check != 0 or slot.dtype > FLOAT64 or slot.flags & ~(REQUIRES_GRAD | VIEW) or slot.grad != 0:
        return 0
    if geometry_row(st.geometries, slot.geometry).flags & OVERLAPS:
        return 0
    if slot.flags & VIEW:
        base = base_of(tensor)
        return 1 if base != 0 and recorder_of(load_i64(base + HANDLE_SLOT), a) != 0 else 0
    return 1


@native("iiii")
def replace(tensor, a, value):
    """Make the unheld, freshly computed slot `value` the new value of slot `a` of `tensor`, in its memory.  1, 0 if it does not fit, or FAILED."""
    st = the_state()
    slot = slot_row(st.slots, value)
    slot.handles = 1
    target = slot_row(st.slots, a)
    whole = geometry_row(st.geometries, target.geometry).contiguous
    if slot.dtype != target.dtype or whole == 0 or geometry_row(st.geometries, slot.geometry).contiguous != whole:
        drop(value)
        return 0
    written = written_slot(a)
    if assign(written, value) <= 0:
        drop(value)
        drop(written)
        return FAILED
    e = slot_row(st.slots, value).entry
    if e >= 0:  # its output is what now lies in the target
        entry = entry_row(st.entries, e)
        k = entry.inputs + slot_row(st.slots, value).output_nr
        retarget(e, k, value, written, (entry.flags & HAS_SAVED != 0) and (entry.flags & SAVED_INPUT << k != 0))
    drop(value)
    if slot_row(st.slots, a).flags & VIEW == 0:
        py_decref(moved(tensor, written))
        return 1
    base = base_of(tensor)
    recorder = recorder_of(load_i64(base + HANDLE_SLOT), a)
    new = renew_base(base, recorder, written)
    look_again(tensor, new, Plan(recorder).recorder)
    drop(written)
    return 1


@native("iiii")
def renew_base(base, recorder, value):
    """Record that slot `value` has replaced a region of the object `base`, which then holds the slot that is returned."""
    st = the_state()
    s = load_i64(base + HANDLE_SLOT)
    slots = pair_words()
    made = result_words()
    store_i64(slots, s)
    store_i64(slots + 8, value)
    new = view_slot(s, slot_row(st.slots, s).geometry, 0)
    slot_row(st.slots, new).handles = 1
    store_i64(made, new)
    record_plan(recorder, slots, 2, made)
    py_decref(moved(base, new))
    return new


@native("viii")
def look_again(tensor, base, plan):
    """Let the view `tensor` hold a slot that is recorded, by `plan`, as a view of slot `base`."""
    st = the_state()
    a = load_i64(tensor + HANDLE_SLOT)
    slots = pair_words()
    made = result_words()
    again = view_slot(a, slot_row(st.slots, a).geometry, 0)
    slot_row(st.slots, again).handles = 1
    store_i64(slots, base)
    store_i64(made, again)
    record_plan(plan, slots, 1, made)
    slot_row(st.slots, again).flags = slot_row(st.slots, again).flags | VIEW
    py_decref(moved(tensor, again))


@native("iiii")
def write_recorded(address, operands, assignment):
    """A planned call that writes to its first operand, recorded.  A new reference to that, 0 with an exception, or REFUSED."""
    plan = Plan(address)
    if plan.writes != 0 and plan.kernel == 0:
        return store_recorded(address, operands)
    if assignment or plan.writes != 0 or plan.shares != 0 or plan.parts != 0 or plan.chain != 0:
        return REFUSED
    return call_recorded(address, operands)


@native("iii")
def store_recorded(address, operands):
    """Write the second operand over a region of the first and put that on the tape."""
    st = the_state()
    tensor = load_i64(operands + 16)
    plan = Plan(address)
    slots = operands + FIRST_SLOT
    s = load_i64(slots)
    v = load_i64(slots + 8)
    target = slot_row(st.slots, s)
    value = slot_row(st.slots, v)
    view = target.flags & VIEW
    if target.dtype != value.dtype or (view == 0 and plan.recorder == 0) or load_i64(operands) != 2 or may_replace(tensor, s) == 0:
        return REFUSED
    region = load_i64(plan.results)
    there = value.buffer == target.buffer  # x[i] += y ends with the view being written over itself
    if there and (value.geometry != region or value.data != target.data + load_i64(plan.results + 16)):
        return REFUSED
    spread = 0
    if value.flags & REQUIRES_GRAD and geometry_row(st.geometries, value.geometry).contiguous != geometry_row(st.geometries, region).contiguous:
        spread = plan.spread  # what is broadcast has an entry of its own
        if spread == 0:
            return REFUSED
    part = view_slot(s, region, load_i64(plan.results + 16))
    slot_row(st.slots, part).handles = 1
    recorder = plan.recorder
    if view:
        recorder = recorder_of(load_i64(base_of(tensor) + HANDLE_SLOT), part)
    if recorder == 0:
        drop(part)
        return REFUSED
    done = 1 if there else assign(part, v)
    buffer = buffer_row(st.buffers, slot_row(st.slots, part).buffer)
    buffer.version = buffer.version + 1
    if done > 0 and spread != 0:
        made = result_words()
        store_i64(made, part)
        record_plan(spread, operands + FIRST_SLOT + 8, 1, made)
        v = part
    if done <= 0:
        drop(part)
        return 0
    if view:
        base = base_of(tensor)
        again = Plan(recorder_of(load_i64(base + HANDLE_SLOT), s)).recorder
        look_again(tensor, renew_base(base, recorder, v), again)
    else:
        renew_base(tensor, recorder, v)
    drop(part)
    py_incref(tensor)
    return tensor


@native("iii")
def call_recorded(address, operands):
    """Compute what a plan makes of a copy of the first operand and of the others, and write it over the first."""
    st = the_state()
    tensor = load_i64(operands + 16)
    plan = Plan(address)
    count = load_i64(operands)
    a = load_i64(operands + FIRST_SLOT)
    if count > MOST_INPUTS or may_replace(tensor, a) == 0:
        return REFUSED
    if plan.elementwise:
        if op_get(op_row(st.ops, plan.op), "rule", 3) == 0 or op_row(st.ops, plan.op).renamed != 0:
            return REFUSED
    elif plan.outputs != 1 or plan.differentiable == 0 or plan.kernel == 0:
        return REFUSED
    for k in range(1, count):
        if slot_row(st.slots, load_i64(operands + FIRST_SLOT + k * 8)).buffer == slot_row(st.slots, a).buffer:
            return REFUSED
    old = elementwise(st.carry_out, a, 0, 0, 0)
    if old <= 0:
        return 0 if old == FAILED else REFUSED
    slot_row(st.slots, old).handles = 1
    slots = input_words()
    store_i64(slots, old)
    for k in range(1, count):
        store_i64(slots + k * 8, load_i64(operands + FIRST_SLOT + k * 8))
    if plan.elementwise:
        value = elementwise(plan.op, chosen(slots, plan.operands, 0), chosen(slots, plan.operands, 1), chosen(slots, plan.operands, 2), 0)
        status = 1 if value > 0 else (0 if value == FAILED else -1)
    else:
        made = result_words()
        status = run_plan(address, slots, count, made)
        value = load_i64(made)
        if status == 1:
            record_plan(address, slots, count, made)
    drop(old)
    if status == 1:
        status = replace(tensor, a, value)
        if status == 1:
            py_incref(tensor)
            return tensor
        return 0 if status == FAILED else REFUSED
    return REFUSED if status == -1 else 0
