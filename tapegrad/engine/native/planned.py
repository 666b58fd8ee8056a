"""Running plans: structural ops, views, planned elementwise calls.  `apply` is for Python; `native/calls.py` finds plans without it."""

from tapegrad.engine.layout import (
    AS_IS,
    GRAD,
    HAS_SAVED,
    NO_GRAD_VIEW,
    REQUIRES_GRAD,
    RESTRICTED,
    RESULT_WORDS,
    SAVED_ALL,
    SAVED_INPUT,
    SOURCE_WORDS,
    VIEW,
)
from tapegrad.engine.native.capi import (
    call_kernel,
    py_error_occurred,
    py_incref,
    py_long_as_i64,
    py_type_alloc,
    raw_free,
    raw_malloc,
)
from tapegrad.engine.native.checking import verify, watch
from tapegrad.engine.native.cotangents import ordered
from tapegrad.engine.native.elementwise import FAILED, assign, drop_unheld, elementwise, no_memory, run_kernel
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, wrap
from tapegrad.engine.native.pointers import (
    I64,
    Plan,
    buffer_row,
    entry_row,
    external,
    geometry_row,
    load_i64,
    plan_get,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, link_input, link_output, new_slot, open_entry, view_slot
from tapegrad.engine.native.threadmodes import load_modes

RESULT_SIZE, SOURCE_SIZE = RESULT_WORDS * 8, SOURCE_WORDS * 8
REFUSED = 1  # in place of the address of a result: Python must do the call

py_tuple_set = external("PyTuple_SetItem", I64, I64, I64, I64)
kernel_words = stack_words(72)
copy_words = stack_words(32)
slots_words = stack_words(72)
made_words = stack_words(8)
check_words = stack_words(40)


@native("iii")
def packed(s, geometry):
    """Slot `s` seen as `geometry` (over the same memory) in row-major order: a copy unless it lies so.  A held slot, 0 on failure."""
    seen = view_slot(s, geometry, 0)
    slot_row(the_state().slots, seen).handles = 1
    result = ordered(seen, geometry_row(the_state().geometries, geometry).contiguous)
    drop(seen)
    return result


@native("vii")
def drop_copies(copies, copied):
    """Let go of the slots in an array that the bits of `copied` name."""
    k = 0
    while copied >> k:
        if (copied >> k) & 1:
            drop(load_i64(copies + k * 8))
        k = k + 1


@native("iiiii")
def run_plan(address, slots, inputs, made):
    """Run a plan on `slots` (an array of int64), its outputs' slots to `made`.  1, -1 if the kernel refuses, or 0 with a Python exception."""
    if the_state().check == 0 or Plan(address).shares != 0 or Plan(address).writes != 0:
        return run_plan_unchecked(address, slots, inputs, made)
    words = check_words()
    watch(words, slots, inputs)
    status = run_plan_unchecked(address, slots, inputs, made)
    if status != 1:
        return status
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
    results = plan.results
    if plan.shares:
        s = view_slot(load_i64(slots), load_i64(results), load_i64(results + 16))
        slot_row(st.slots, s).flags = plan.view_flags
        slot_row(st.slots, s).dtype = load_i64(results + 8)
        store_i64(made, s)
        return 1
    copies = copy_words()
    copied = 0
    if plan.n > 0 and plan.sources != 0 and inputs <= 24:
        for k in range(inputs):
            geometry = load_i64(plan.sources + k * SOURCE_SIZE + 24)
            if geometry != AS_IS:
                copy = packed(load_i64(slots + k * 8), geometry)
                if copy == 0:
                    if py_error_occurred() == 0:
                        no_memory()
                    drop_copies(copies, copied)
                    return 0
                store_i64(copies + k * 8, copy)
                copied = copied | (1 << k)
    for k in range(outputs):
        s = new_slot(load_i64(results + k * RESULT_SIZE), load_i64(results + k * RESULT_SIZE + 8))
        if s == 0:
            no_memory()
            for j in range(k):
                drop_unheld(load_i64(made + j * 8))
            drop_copies(copies, copied)
            return 0
        store_i64(made + k * 8, s)
    status = 1
    if plan.kernel != 0 and plan.n > 0:
        words = kernel_words() + 8
        heap = 0
        if inputs + outputs > 60:
            heap = raw_malloc((inputs + outputs + 8) * 8)
            words = heap + 8
        store_i64(words - 8, plan.args)  # for kernels of any number of inputs, which would not know where to look
        for k in range(outputs):
            store_i64(words + k * 8, slot_row(st.slots, load_i64(made + k * 8)).data)
        for k in range(inputs):
            s = load_i64(slots + k * 8)
            if k < 32 and (copied >> k) & 1:
                s = load_i64(copies + k * 8)
            store_i64(words + (outputs + k) * 8, slot_row(st.slots, s).data)
        store_i64(words + (inputs + outputs) * 8, plan.args)
        scratch = 0
        if plan.finish:
            scratch = raw_malloc(plan.scratch + 64)
            if scratch == 0:
                no_memory()
                status = 0
            store_i64(words + (inputs + outputs + 1) * 8, (scratch + 63) & ~63)
        if status == 0:
            pass
        elif st.threads > 1 and plan.cost >= st.parallel_cost:
            run_kernel(plan.kernel, words, plan.n, 1 + plan.cost * 16 // plan.n, 0)
        else:
            call_kernel(plan.kernel, words, 0, plan.n)
        if scratch:
            call_kernel(plan.finish, words, 0, 1)
            raw_free(scratch)
        if heap:
            raw_free(heap)
        if load_i64(plan.args - 8):
            store_i64(plan.args - 8, 0)
            status = -1
        if status != 1:
            for k in range(outputs):
                drop_unheld(load_i64(made + k * 8))
    if copied:
        drop_copies(copies, copied)
    return status


@native("viiii")
def record_plan(address, slots, inputs, made):
    """Append the entry of a structural op if an input requires grad."""
    st = the_state()
    plan = Plan(address)
    wanted = 0
    reads = 0
    for k in range(inputs):
        if slot_row(st.slots, load_i64(slots + k * 8)).flags & REQUIRES_GRAD:
            wanted = 1
            reads = reads | (plan_get(plan, "reads", k) if k < 4 else -1)
    if wanted == 0:
        return
    saves = plan.saves
    if saves != -1:
        saves = saves & reads
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


@native("iiii")
def chosen(slots, operands, k):
    """The slot of operand `k` of an elementwise plan, 0 if it has fewer."""
    which = (operands >> (8 * k)) & 255
    return load_i64(slots + (which - 1) * 8) if which else 0


@native("iii")
def changed(s, tensor):
    """A new reference to `tensor`, whose slot `s` has been written over without recording."""
    st = the_state()
    slot = slot_row(st.slots, s)
    buffer = buffer_row(st.buffers, slot.buffer)
    buffer.version = buffer.version + 1
    if (slot.flags & (VIEW | REQUIRES_GRAD)) != VIEW | REQUIRES_GRAD:  # such a view takes a new place in the graph when it is used
        slot.version = buffer.version
    py_incref(tensor)
    return tensor


@native("iiii")
def overwrite(s, value, tensor):
    """Write the unheld slot `value` over slot `s` of the same shape and dtype; `changed`, 0 or REFUSED."""
    st = the_state()
    slot_row(st.slots, value).handles = 1
    old = slot_row(st.slots, s)
    new = slot_row(st.slots, value)
    result = REFUSED
    if old.dtype == new.dtype and geometry_row(st.geometries, old.geometry).contiguous == geometry_row(st.geometries, new.geometry).contiguous:
        result = changed(s, tensor) if assign(s, value) > 0 else 0
    drop(value)
    return result


@native("iiiii")
def store_into(address, s, value, tensor):
    """Write slot `value`, converted and broadcast, over the region of slot `s` that a plan describes; `changed`, or 0 with an exception."""
    results = Plan(address).results
    region = view_slot(s, load_i64(results), load_i64(results + 16))
    slot_row(the_state().slots, region).handles = 1
    done = assign(region, value)
    drop(region)
    return changed(s, tensor) if done > 0 else 0


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


@native("viiii")
def settle_view(result, source, parent, plan):
    """What Python does for a view of slot `source` (the object `parent`) that it makes: its origin, and why it must not be written to."""
    st = the_state()
    remember_view(result, parent, plan)
    slot = slot_row(st.slots, load_i64(result + HANDLE_SLOT))
    flags = slot_row(st.slots, source).flags
    if st.mode & GRAD == 0:
        base = load_i64(load_i64(result + st.base_offset) + HANDLE_SLOT)
        if base > 0:  # the base says whether such a view requires grad
            flags = slot_row(st.slots, base).flags
        slot.flags = (slot.flags & ~RESTRICTED) | NO_GRAD_VIEW | (flags & REQUIRES_GRAD)
    elif flags & RESTRICTED and slot.flags & RESTRICTED == 0:
        slot.flags = slot.flags | (flags & RESTRICTED)


@native("iiii")
def produce_parts(address, slots, parent):
    """Several views of one tensor as a tuple, recorded as one entry; 0 with an exception."""
    st = the_state()
    plan = Plan(address)
    source = load_i64(slots)
    count = load_i64(plan.parts)
    made = slots_words()
    heap = 0
    if count > 60:
        heap = raw_malloc(count * 8)
        made = heap
    for k in range(count):
        run_plan_unchecked(load_i64(plan.parts + 8 + k * 8), slots, 1, made + k * 8)
    if st.mode & GRAD and slot_row(st.slots, source).flags & REQUIRES_GRAD:
        e = open_entry(plan.op, 1, count, 0)
        if e >= 0:
            entry = entry_row(st.entries, e)
            py_incref(plan.payload)
            entry.payload = plan.payload
            entry.plan = address
            link_input(st, e, 0, source, 0)
            for k in range(count):
                link_output(st, e, k, load_i64(made + k * 8), 0, REQUIRES_GRAD)
    result = py_type_alloc(st.tuple_type, count)
    for k in range(count):
        piece = wrap(load_i64(made + k * 8))
        py_tuple_set(result, k, piece)
        if parent:
            settle_view(piece, source, parent, Plan(load_i64(plan.parts + 8 + k * 8)).payload)
    if heap:
        raw_free(heap)
    return result


@native("iiiiii")
def produce(address, slots, inputs, parent, written):
    """Run a plan and record it.  A new reference to its result, 0 with an exception, or REFUSED.

    `parent` is the first operand's object, or 0 if Python will tell a view its parent; `written` says to write the result over that operand.
    """
    st = the_state()
    plan = Plan(address)
    if plan.elementwise:
        a = chosen(slots, plan.operands, 0)
        b = chosen(slots, plan.operands, 1)
        c = chosen(slots, plan.operands, 2)
        out = elementwise(plan.op, a, b, c, 0)
        if out <= 0:
            return 0 if out == FAILED else REFUSED
        return overwrite(load_i64(slots), out, parent) if written else wrap(out)
    if plan.parts:
        return produce_parts(address, slots, parent)
    if plan.writes != 0 and plan.kernel == 0:
        return store_into(address, load_i64(slots), load_i64(slots + 8), parent)
    made = made_words()
    status = run_plan(address, slots, inputs, made)
    if status != 1:
        return REFUSED if status == -1 else 0
    if plan.writes:
        return changed(load_i64(slots), parent)
    if written:
        return overwrite(load_i64(slots), load_i64(made), parent)
    if plan.differentiable != 0 and (st.mode & GRAD) != 0:
        record_plan(address, slots, inputs, made)
    if plan.outputs == 1:
        s = load_i64(made)
        result = wrap(s)
        if plan.shares != 0 and result != 0 and parent != 0:
            settle_view(result, load_i64(slots), parent, plan.payload)
        return result
    result = py_type_alloc(plan.result_type if plan.result_type else st.tuple_type, plan.outputs)
    for k in range(plan.outputs):
        py_tuple_set(result, k, wrap(load_i64(made + k * 8)))
    return result


@native("iiiiii")
def apply(code, self, args, count, names):
    """apply(plan, *tensors): what `produce` makes of them, apart from what Python remembers of views; None if the kernel refuses."""
    st = the_state()
    load_modes()
    inputs = count - 1
    words = slots_words()
    heap = 0
    if inputs > 60:
        heap = raw_malloc(inputs * 8)
        words = heap
    for k in range(inputs):
        store_i64(words + k * 8, load_i64(load_i64(args + (k + 1) * 8) + HANDLE_SLOT))
    address = py_long_as_i64(load_i64(args))
    result = produce(address, words, inputs, load_i64(args + 8) if Plan(address).writes else 0, 0)
    if heap:
        raw_free(heap)
    if result == REFUSED:
        py_incref(st.none)
        return st.none
    return result
