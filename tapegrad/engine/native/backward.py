"""The compiled `backward()` and the derivatives of structural ops that their plans describe.

A structural entry whose plan has rules is swept here; the same derivative stands in Python beside the op (it is what `create_graph` and
hooks use), and the tests hold the two against each other.
"""

from tapegrad.engine.layout import (
    CAPTURED,
    CONTIGUOUS,
    FLOAT32,
    FLOAT64,
    FUNCTION,
    GRAD,
    HOOKED,
    LEAF_GRAD,
    PLAIN,
    REQUIRES_GRAD,
    SWEEP_EMBED,
    SWEEP_PYTHON,
    SWEEP_REDUCE,
    SWEEP_REPLACED,
    SWEEP_UNARY,
    SWEEP_VIEW,
)
from tapegrad.engine.native.capi import py_decref, py_error_occurred, py_incref, py_long_from_i64, py_type_alloc, py_vectorcall
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
    refused,
    unbroadcast,
)
from tapegrad.engine.native.elementwise import FAILED, assign, compute, find_broadcast
from tapegrad.engine.native.marks import mark, prune_marks
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, go_slow, modes_ready, slot_of, wrap
from tapegrad.engine.native.planned import SOURCE_SIZE, py_tuple_set, run_plan
from tapegrad.engine.native.pointers import (
    Plan,
    buffer_row,
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
from tapegrad.engine.native.threadmodes import load_modes

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
                return refused(fresh, PYTHON_ERROR)
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
    result = compute(st.multiply, dtype, cast, g, factor, 0) if cast else 0
    drop(factor)
    if result <= 0:
        return 0
    slot_row(st.slots, result).handles = 1
    return result


@native("iii")
def sweep_parts(e, parts):
    """Add the cotangents of entry `e`'s outputs, the views that the plans at `parts` make, into that of its input.  A status."""
    st = the_state()
    entry = entry_row(st.entries, e)
    s = operand_row(st.operands, entry.operand).slot
    if not wants_cotangent(st, slot_row(st.slots, s)):
        return DONE
    for k in range(entry.nout):
        piece = operand_row(st.operands, entry_row(st.entries, e).operand + 1 + k).slot
        if piece == 0:
            continue
        out = slot_row(st.slots, piece)
        if out.cotangent == 0:
            continue
        g = ordered(out.cotangent, geometry_row(st.geometries, out.geometry).contiguous)
        if g == 0:
            return PYTHON_ERROR
        sources = Plan(load_i64(parts + 8 + k * 8)).sources
        status = embed(s, g, load_i64(sources + 8), load_i64(sources + 16))
        if status != DONE:
            return refused(g, status)
        drop(g)
    return DONE


@native("iiiii")
def sweep_replaced(e, g, region, byte_offset):
    """The cotangents of a tensor and of what has replaced its `region`: `g` with zeros there, and that part of g.  A status.

    Where nobody else holds g its memory serves the tensor, so that a loop of writes costs what is written, not the tensor each time.
    """
    st = the_state()
    entry = entry_row(st.entries, e)
    first = entry.operand
    s = operand_row(st.operands, first).slot
    v = operand_row(st.operands, first + 1).slot
    out = slot_row(st.slots, operand_row(st.operands, first + 2).slot)
    whole = wants_cotangent(st, slot_row(st.slots, s))
    dtype = slot_row(st.slots, g).dtype
    part = view_slot(g, region, byte_offset)
    slot_row(st.slots, part).handles = 1
    if wants_cotangent(st, slot_row(st.slots, v)):
        taken = part
        if whole:
            taken = new_slot(geometry_row(st.geometries, region).contiguous, dtype)
            if taken == 0:
                return refused(part, OUT_OF_MEMORY)
            slot_row(st.slots, taken).handles = 1
            if assign(taken, part) <= 0:
                drop(taken)
                return refused(part, PYTHON_ERROR)
        else:
            slot_row(st.slots, part).handles = 2
        status = accumulate(v, taken)
        if status != DONE:
            return refused(part, status)
    drop(part)
    if whole == 0:
        return DONE
    rest = g
    held = 2 if out.cotangent == g else 1
    slot = slot_row(st.slots, g)
    if slot.handles != held or out.flags & CAPTURED or buffer_row(st.buffers, slot.buffer).references != 1:
        rest = new_slot(slot.geometry, dtype)
        if rest == 0:
            return OUT_OF_MEMORY
        slot_row(st.slots, rest).handles = 1
        if assign(rest, g) <= 0:
            return refused(rest, PYTHON_ERROR)
    else:
        slot.handles = slot.handles + 1
    shape = geometry_row(st.geometries, region)
    size = load_i64(st.itemsize + dtype * 8)
    if shape.flags & CONTIGUOUS:
        zero_bytes(slot_row(st.slots, rest).data + byte_offset, shape.numel * size)
    else:
        zero = new_slot(st.scalar_geometry, dtype)
        if zero == 0:
            return refused(rest, OUT_OF_MEMORY)
        zero_bytes(slot_row(st.slots, zero).data, size)
        slot_row(st.slots, zero).handles = 1
        part = view_slot(rest, region, byte_offset)
        slot_row(st.slots, part).handles = 1
        done = assign(part, zero)
        drop(part)
        drop(zero)
        if done <= 0:
            return refused(rest, PYTHON_ERROR)
    return accumulate(s, rest)


@native("ii")
def sweep_planned(e):
    """Send the cotangent of structural entry `e` to its inputs as its plan says.  A status; NEEDS_PYTHON if it says nothing."""
    st = the_state()
    entry = entry_row(st.entries, e)
    address = entry.plan
    plan = Plan(address)
    inputs = entry.inputs
    sources = plan.sources
    if plan.parts != 0 and entry.payload == plan.payload:
        return sweep_parts(e, plan.parts)
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
    if load_i64(sources) == SWEEP_REPLACED:
        status = sweep_replaced(e, g, load_i64(sources + 8), load_i64(sources + 16))
        if status != DONE:
            return refused(g, status)
        drop(g)
        return DONE
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
                    return refused(g, PYTHON_ERROR)
            seen = view_slot(source, target, offset)
            slot_row(st.slots, seen).handles = 1
            if source != g:
                drop(source)
            status = accumulate(s, seen)
        elif rule == SWEEP_REDUCE:
            slot_row(st.slots, g).handles = slot_row(st.slots, g).handles + 1
            total = unbroadcast(g, s, target)
            if total == 0:
                return refused(g, OUT_OF_MEMORY)
            status = accumulate(s, total)
        elif rule == SWEEP_UNARY:
            result = compute(target, slot_row(st.slots, g).dtype, 0, g, 0, 0)
            if result <= 0:
                return refused(g, PYTHON_ERROR if result == FAILED else OUT_OF_MEMORY)
            slot_row(st.slots, result).handles = 1
            status = accumulate(s, result)
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
                return refused(g, PYTHON_ERROR)
            slot_row(st.slots, load_i64(made)).handles = 1
            status = accumulate(s, load_i64(made))
        if status != DONE:
            return refused(g, status)
    drop(g)
    return DONE


@native("iSi")
def seed_of(st, root):
    """A held slot with the gradient 1 of the scalar slot `root`, whose entries are then marked; 0 without memory."""
    slot = slot_row(st.slots, root)
    dtype = slot.dtype
    seed = new_slot(geometry_row(st.geometries, slot.geometry).contiguous, dtype)
    if seed == 0:
        return 0
    if dtype == FLOAT32:
        store_f32(slot_row(st.slots, seed).data, 1.0)
    else:
        store_f64(slot_row(st.slots, seed).data, 1.0)
    slot_row(st.slots, seed).handles = 1
    return seed


@native("iSiii")
def run_sweep(st, root, seed, retain):
    """A sweep from slot `root` over what is marked, without recording; takes over the handle on `seed`.  A status of `sweep`."""
    st.mode = st.mode & ~GRAD
    st.sweeping = 1
    st.sweep_owner = st.thread
    st.sweep_retain = retain
    st.sweep_entry = st.entry_count
    status = accumulate(root, seed)
    return sweep() if status == DONE else status


@native("iiiii")
def resume_in_python(callable_, status, before, third):
    """Let Python go on from a status of the sweep: its result, 0 with an exception; the sweep has ended then.  `third`: captured inputs, or 0."""
    st = the_state()
    result = 0
    if py_error_occurred() == 0:  # Python code would run into an exception at its first call
        words = argument_words()
        store_i64(words, py_long_from_i64(status))
        store_i64(words + 8, py_long_from_i64(before))
        store_i64(words + 16, third)
        result = py_vectorcall(callable_, words, 3 if third else 2, 0)
        py_decref(load_i64(words))
        py_decref(load_i64(words + 8))
        load_modes()
    if result == 0 and st.sweeping != 0 and st.sweep_owner == st.thread:  # or it was interrupted before it had begun
        if third:
            release_inputs(third)
        end_sweep()
        st.mode = before
    return result


@native("vi")
def release_inputs(inputs):
    """The tensors in a tuple are captured no more, and lose the cotangents that they have."""
    st = the_state()
    for k in range(load_i64(inputs + 16)):
        slot = slot_row(st.slots, load_i64(load_i64(inputs + 24 + k * 8) + HANDLE_SLOT))
        g = slot.cotangent
        slot.flags = slot.flags & ~CAPTURED
        slot.cotangent = 0
        if g:
            drop(g)


@native("iSi")
def is_plain_root(st, root):
    """Whether slot `root` is a recorded real scalar, of which the gradient is 1."""
    slot = slot_row(st.slots, root)
    if slot.flags & REQUIRES_GRAD == 0 or slot.dtype > FLOAT64 or slot.entry < 0 or slot.flags & LEAF_GRAD:
        return False
    return geometry_row(st.geometries, slot.geometry).numel == 1


@native("iiiiii")
def backward(code, self, args, count, names):
    """Tensor.backward() of a scalar with no arguments; anything else, and every error, is Python's."""
    st = the_state()
    slow = st.slow_backward
    if names or count != 0 or not modes_ready(st) or st.sweeping != 0 or st.mode & FUNCTION:
        return go_slow(slow, code, self, args, count, names)
    root = slot_of(st, self)
    if root == 0 or not is_plain_root(st, root):
        return go_slow(slow, code, self, args, count, names)
    seed = seed_of(st, root)
    if seed == 0:
        return go_slow(slow, code, self, args, count, names)
    if mark(root) == 0:
        drop(seed)
        return go_slow(slow, code, self, args, count, names)
    before = st.mode
    status = run_sweep(st, root, seed, 0)
    if status == DONE and deposit() == 0:
        end_sweep()
        st.mode = before
        py_incref(st.none)
        return st.none
    return resume_in_python(st.resume_backward, status, before, 0)


@native("iii")
def seed_for(root, gradient):
    """The held slot of the gradient (a Tensor, or None for 1) that a sweep from slot `root` begins with; 0 if Python must see to it."""
    st = the_state()
    if gradient == st.none:
        return seed_of(st, root) if is_plain_root(st, root) else 0
    seed = slot_of(st, gradient)
    if seed == 0:
        return 0
    slot = slot_row(st.slots, root)
    g = slot_row(st.slots, seed)
    if slot.flags & REQUIRES_GRAD == 0 or slot.entry < 0 or slot.flags & LEAF_GRAD or g.flags & REQUIRES_GRAD or g.dtype != slot.dtype or g.dtype > PLAIN:
        return 0
    shape = geometry_row(st.geometries, slot.geometry)
    if geometry_row(st.geometries, g.geometry).contiguous != shape.contiguous or shape.contiguous == 0:
        return 0
    g.handles = g.handles + 1
    return seed


@native("iiiii")
def gradients(output, gradient, inputs, retain):
    """autograd.grad of one output (weighed by `gradient`) for a tuple of inputs, all plain: a tuple, with None for what was not met.

    None if it is Python's business.
    """
    st = the_state()
    root = 0
    if modes_ready(st) and st.sweeping == 0 and st.mode & FUNCTION == 0:
        root = slot_of(st, output)
    count = load_i64(inputs + 16)
    for k in range(count):
        s = slot_of(st, load_i64(inputs + 24 + k * 8)) if root else 0
        if s == 0 or slot_row(st.slots, s).flags & (REQUIRES_GRAD | HOOKED) != REQUIRES_GRAD:
            root = 0
        elif slot_row(st.slots, s).entry < 0 and slot_row(st.slots, s).flags & LEAF_GRAD == 0:
            root = 0  # a view made in no_grad mode, which no gradient reaches
    seed = seed_for(root, gradient) if root else 0
    if seed and mark(root) == 0:
        drop(seed)
        seed = 0
    if seed == 0:
        py_incref(st.none)
        return st.none
    for k in range(count):
        slot = slot_row(st.slots, load_i64(load_i64(inputs + 24 + k * 8) + HANDLE_SLOT))
        slot.flags = slot.flags | CAPTURED
    prune_marks(st.entry_count)
    before = st.mode
    status = run_sweep(st, root, seed, retain)
    if status != DONE:
        return resume_in_python(st.resume_gradients, status, before, inputs)
    result = py_type_alloc(st.tuple_type, count)
    for k in range(count):
        g = slot_row(st.slots, load_i64(load_i64(inputs + 24 + k * 8) + HANDLE_SLOT)).cotangent
        found = wrap(g) if g else st.none
        if g == 0:
            py_incref(found)
        py_tuple_set(result, k, found)
    release_inputs(inputs)
    left = slot_row(st.slots, root).cotangent
    if left:  # no input is above the root: nothing was visited
        slot_row(st.slots, root).cotangent = 0
        drop(left)
    end_sweep()
    st.mode = before
    return result
