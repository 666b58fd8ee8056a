"""The compiled `backward()` and the derivatives of structural ops that their plans describe.

A structural entry whose plan has rules is swept here; the same derivative stands in Python beside the op (it is what `create_graph` and
hooks use), and the tests hold the two against each other.
"""

from tapegrad.engine.layout import (
    FLOAT32,
    FLOAT64,
    FUNCTION,
    GRAD,
    LEAF_GRAD,
    REQUIRES_GRAD,
    SWEEP_EMBED,
    SWEEP_PYTHON,
    SWEEP_REDUCE,
    SWEEP_VIEW,
)
from tapegrad.engine.native.capi import py_decref, py_incref, py_long_from_i64, py_vectorcall
from tapegrad.engine.native.cotangents import (
    DONE,
    NEEDS_PYTHON,
    OUT_OF_MEMORY,
    PYTHON_ERROR,
    accumulate,
    add_into,
    deposit,
    exclusive,
    ordered,
    unbroadcast,
)
from tapegrad.engine.native.elementwise import assign, compute, find_broadcast
from tapegrad.engine.native.marks import mark
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import go_slow, modes_ready, slot_of
from tapegrad.engine.native.planned import SOURCE_SIZE, run_plan
from tapegrad.engine.native.pointers import (
    Plan,
    entry_row,
    geometry_row,
    load_i64,
    operand_row,
    slot_row,
    stack_words,
    store_f32,
    store_f64,
    store_i64,
    the_state,
    zero_bytes,
)
from tapegrad.engine.native.sweep import check_saved, end_sweep, sweep, wants_cotangent
from tapegrad.engine.native.tables import drop, new_slot, view_slot

slot_words = stack_words(8)
made_words = stack_words(4)
argument_words = stack_words(4)


@native("iiiii")
def embed(s, g, geometry, byte_offset):
    """Add `g` into a region of the cotangent of slot `s`, which is made (zeros) or copied if it is shared.  A status."""
    st = the_state()
    slot = slot_row(st.slots, s)
    old = slot.cotangent
    whole = geometry_row(st.geometries, slot.geometry).contiguous
    fresh = 0
    if old:
        held = slot_row(st.slots, old)
        if held.geometry != whole or not exclusive(st, held):
            fresh = new_slot(whole, held.dtype)
            if fresh == 0:
                return OUT_OF_MEMORY
            slot_row(st.slots, fresh).handles = 1
            if assign(fresh, old) < 0:
                return PYTHON_ERROR
            slot_row(st.slots, s).cotangent = fresh
            drop(old)
            old = fresh
    else:
        old = new_slot(whole, slot_row(st.slots, g).dtype)
        if old == 0:
            return OUT_OF_MEMORY
        held = slot_row(st.slots, old)
        held.handles = 1
        zero_bytes(held.data, geometry_row(st.geometries, whole).numel * load_i64(st.itemsize + held.dtype * 8))
        status = accumulate(s, old)
        if status != DONE:
            return status
    if geometry_row(st.geometries, geometry).numel == 0:
        return DONE
    region = view_slot(old, geometry, byte_offset)
    slot_row(st.slots, region).handles = 1
    added = add_into(region, g)
    drop(region)
    return DONE if added else PYTHON_ERROR


@native("iii")
def scaled(g, address):
    """Slot `g` times the scale of a plan, held; 0 with an exception."""
    st = the_state()
    plan = Plan(address)
    dtype = slot_row(st.slots, g).dtype
    factor = new_slot(st.scalar_geometry, dtype)
    if factor == 0:
        return 0
    slot_row(st.slots, factor).handles = 1
    if dtype == FLOAT32:
        store_f32(slot_row(st.slots, factor).data, plan.scale)
    else:
        store_f64(slot_row(st.slots, factor).data, plan.scale)
    shape = slot_row(st.slots, g).geometry
    cast = find_broadcast(shape, st.scalar_geometry, 0)
    if cast == 0:
        return 0
    result = compute(st.multiply, dtype, cast, g, factor, 0)
    drop(factor)
    if result <= 0:
        return 0
    slot_row(st.slots, result).handles = 1
    return result


@native("ii")
def sweep_planned(e):
    """Send the cotangent of structural entry `e` to its inputs as its plan says.  A status; NEEDS_PYTHON if it says nothing."""
    st = the_state()
    entry = entry_row(st.entries, e)
    address = entry.plan
    plan = Plan(address)
    inputs = entry.inputs
    sources = plan.sources
    if entry.payload != plan.payload or (entry.nout != 1 and plan.differentiable != 1) or sources == 0:
        return NEEDS_PYTHON
    for k in range(inputs):
        slot = slot_row(st.slots, operand_row(st.operands, entry.operand + k).slot)
        if load_i64(sources + k * SOURCE_SIZE) == SWEEP_PYTHON and wants_cotangent(st, slot):
            return NEEDS_PYTHON
    status = check_saved(e)
    if status != DONE:
        return status
    out = slot_row(st.slots, operand_row(st.operands, entry.operand + inputs).slot)
    g = ordered(out.cotangent, geometry_row(st.geometries, out.geometry).contiguous)
    if g == 0:
        return PYTHON_ERROR
    for k in range(inputs):
        entry = entry_row(st.entries, e)
        s = operand_row(st.operands, entry.operand + k).slot
        if not wants_cotangent(st, slot_row(st.slots, s)):
            continue
        rule = load_i64(sources + k * SOURCE_SIZE)
        target = load_i64(sources + k * SOURCE_SIZE + 8)
        offset = load_i64(sources + k * SOURCE_SIZE + 16)
        if rule == SWEEP_EMBED:
            status = embed(s, g, target, offset)
        elif rule == SWEEP_VIEW:
            source = g
            if plan.scale != 1.0:
                source = scaled(g, address)
                if source == 0:
                    drop(g)
                    return PYTHON_ERROR
            seen = view_slot(source, target, offset)
            slot_row(st.slots, seen).handles = 1
            if source != g:
                drop(source)
            status = accumulate(s, seen)
        elif rule == SWEEP_REDUCE:
            slot_row(st.slots, g).handles = slot_row(st.slots, g).handles + 1
            total = unbroadcast(g, s, target)
            if total == 0:
                drop(g)
                return OUT_OF_MEMORY
            status = accumulate(s, total)
        else:
            words = slot_words()
            chosen = Plan(target).operands
            count = 0
            while chosen:
                which = chosen & 255
                store_i64(words + count * 8, g if which == 1 else operand_row(st.operands, entry.operand + which - 2).slot)
                chosen = chosen >> 8
                count = count + 1
            made = made_words()
            if run_plan(target, words, count, made) != 1:
                drop(g)
                return PYTHON_ERROR
            slot_row(st.slots, load_i64(made)).handles = 1
            status = accumulate(s, load_i64(made))
        if status != DONE:
            drop(g)
            return status
    drop(g)
    return DONE


@native("iiiiii")
def backward(code, self, args, count, names):
    """Tensor.backward() of a scalar with no arguments; anything else, and every error, is Python's."""
    st = the_state()
    slow = st.slow_backward
    if names or count != 0 or not modes_ready(st) or st.sweeping != 0 or st.mode & FUNCTION:
        return go_slow(slow, code, self, args, count, names)
    root = slot_of(st, self)
    if root == 0:
        return go_slow(slow, code, self, args, count, names)
    slot = slot_row(st.slots, root)
    shape = geometry_row(st.geometries, slot.geometry)
    if slot.flags & REQUIRES_GRAD == 0 or shape.numel != 1 or slot.dtype > FLOAT64 or slot.entry < 0 or slot.flags & LEAF_GRAD:
        return go_slow(slow, code, self, args, count, names)
    seed = new_slot(shape.contiguous, slot.dtype)
    if seed == 0 or mark(root) == 0:
        return go_slow(slow, code, self, args, count, names)
    if slot_row(st.slots, root).dtype == FLOAT32:
        store_f32(slot_row(st.slots, seed).data, 1.0)
    else:
        store_f64(slot_row(st.slots, seed).data, 1.0)
    slot_row(st.slots, seed).handles = 1
    before = st.mode
    st.mode = before & ~GRAD
    st.sweeping = 1
    st.sweep_owner = st.thread
    st.sweep_retain = 0
    st.sweep_entry = st.entry_count
    status = accumulate(root, seed)
    if status == DONE:
        status = sweep()
    if status == DONE and deposit() == 0:
        end_sweep()
        st.mode = before
        py_incref(st.none)
        return st.none
    words = argument_words()
    store_i64(words, py_long_from_i64(status))
    store_i64(words + 8, py_long_from_i64(before))
    result = py_vectorcall(st.resume_backward, words, 2, 0)
    py_decref(load_i64(words))
    py_decref(load_i64(words + 8))
    return result
