"""Elementwise work: run a kernel over any combination of geometries.

Kernels see contiguous elements only: `kernel(args, start, stop)` with `args` pointing at the operands' addresses, output first.
Operands that are not contiguous in the output's order are gathered through blocks of `layout.BLOCK` elements that stay in the
L1 cache (a broadcast scalar is filled in once), so one vectorised loop per op and dtype serves every stride pattern.
How each operand is walked comes from the broadcast cache, filled by Python for a new combination of geometries.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import (
    ADDED,
    BLOCK,
    BOOL,
    CONTIGUOUS,
    DIRECT,
    ELEMENTWISE,
    GRAD,
    HAS_SAVED,
    PLAIN,
    REQUIRES_GRAD,
    SAVED_INPUT,
    SCALAR,
    STREAMED,
    STRIDED,
    WRAPPED,
)
from tapegrad.engine.native.capi import call_kernel, py_decref, py_long_from_i64, py_vectorcall
from tapegrad.engine.native.checking import verify, watch
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import (
    I64,
    VOID,
    broadcast_get,
    broadcast_row,
    copy_bytes,
    fence,
    geometry_row,
    least,
    load_i32,
    load_i64,
    load_u8,
    op_get,
    op_row,
    slot_row,
    stack_words,
    store_i32,
    store_i64,
    store_u8,
    stream_line,
    symbol_address,
    the_state,
)
from tapegrad.engine.native.tables import drop, link_input, link_output, new_slot, open_entry
from tapegrad.engine.native.threadmodes import load_modes
from tapegrad.engine.native.threads import launch

# results of `elementwise` that are not slots
MIXED = -1  # operand dtypes differ or need promotion: Python decides
FAILED = -2  # a Python exception is set
NO_MEMORY = -3
WIDEST = 16  # bytes of an element
STREAMED_BLOCK, STREAMED_COST = 128, 10  # elements of a block that is written past the caches, and the most that an op's element may cost for it

walk_words = stack_words(64)
scratch_words = stack_words(7 * BLOCK * 2)
small_words = stack_words(8)
block_words = stack_words(32)
call_words = stack_words(8)
check_words = stack_words(40)
address_of_run_blocks = symbol_address("tg_run_blocks", VOID, I64, I64, I64)


@native("iiiii")
def ask_python(callable_, a, b, c):
    """Call a Python function with three ints; 1 if it returned, 0 if it raised.

    Python may let other threads run, which load their own modes: the running thread's are loaded again before this returns.  Rows of
    tables may have moved.
    """
    words = call_words()
    store_i64(words, py_long_from_i64(a))
    store_i64(words + 8, py_long_from_i64(b))
    store_i64(words + 16, py_long_from_i64(c))
    result = py_vectorcall(callable_, words, 3, 0)
    for k in range(3):
        py_decref(load_i64(words + k * 8))
    if result:
        py_decref(result)
    load_modes()
    return 1 if result else 0


@native("v")
def no_memory():
    """Set the exception for an allocation that has just failed."""
    ask_python(the_state().raise_memory, 0, 0, 0)


@native("iii")
def allocate_slot(geometry, dtype):
    """`new_slot` as Python calls it: with an exception if there is no memory."""
    s = new_slot(geometry, dtype)
    if s == 0:
        no_memory()
    return s


@native("iiii")
def broadcast_hash(first, second, third):
    return (first * 0x9E3779B1 + second * 0x85EBCA77 + third * 0xC2B2AE3D) >> 7


@native("iiii")
def find_broadcast(first, second, third):
    """The address of the broadcast row of these geometries (0 stands for no operand); 0 if they do not fit (exception set)."""
    st = the_state()
    h = broadcast_hash(first, second, third)
    for attempt in range(100):  # other threads may have replaced the row before this one looks again
        for probe in range(2):
            address = load_i64(st.broadcasts + ((h ^ probe) & (layout.BROADCAST_ROWS - 1)) * 8)
            if address:
                row = broadcast_row(address, 0)
                if row.first == first and row.second == second and row.third == third:
                    return address
        if ask_python(st.need_broadcast, first, second, third) == 0:
            return 0
    return 0


@native("viii")
def copy_element(target, source, size):
    if size == 8:
        store_i64(target, load_i64(source))
    elif size == 4:
        store_i32(target, load_i32(source))
    elif size == 1:
        store_u8(target, load_u8(source))
    elif size == 16:
        store_i64(target, load_i64(source))
        store_i64(target + 8, load_i64(source + 8))
    else:
        copy_bytes(target, source, size)


@native("viiii")
def fill_elements(target, source, count, size):
    """`count` copies of the element at `source`."""
    if size == 8:
        value = load_i64(source)
        for k in range(count):
            store_i64(target + k * 8, value)
    elif size == 4:
        value = load_i32(source)
        for k in range(count):
            store_i32(target + k * 4, value)
    else:
        for k in range(count):
            copy_element(target + k * size, source, size)


@native("viiiii")
def copy_strided(target, target_step, source, source_step, count_size):
    """Copy `count_size >> 8` elements of `count_size & 255` bytes between two byte strides."""
    size = count_size & 255
    count = count_size >> 8
    if size == 8:
        for k in range(count):
            store_i64(target + k * target_step, load_i64(source + k * source_step))
    elif size == 4:
        for k in range(count):
            store_i32(target + k * target_step, load_i32(source + k * source_step))
    else:
        for k in range(count):
            copy_element(target + k * target_step, source + k * source_step, size)


@native("viiiiii")
def transfer(block, base, walk, start, count, size_scatter):
    """Elements `start .. start+count` of a strided operand into the contiguous `block`, or with the scatter bit (256) back."""
    size = size_scatter & 255
    scatter = size_scatter >> 8
    ndim = load_i64(walk)
    sizes = walk + 8
    strides = sizes + ndim * 8
    index = walk_words()
    rest = start
    position = base
    for d in range(ndim - 1, -1, -1):
        extent = load_i64(sizes + d * 8)
        i = rest % extent
        rest = rest // extent
        store_i64(index + d * 8, i)
        position = position + i * load_i64(strides + d * 8) * size
    inner = load_i64(sizes + (ndim - 1) * 8)
    step = load_i64(strides + (ndim - 1) * 8) * size
    done = 0
    i = load_i64(index + (ndim - 1) * 8)
    while done < count:
        run = least(inner - i, count - done)
        place = block + done * size
        if scatter:
            if step == size:
                copy_bytes(position, place, run * size)
            else:
                copy_strided(position, step, place, size, (run << 8) | size)
        elif step == size:
            copy_bytes(place, position, run * size)
        elif step == 0:
            fill_elements(place, position, run, size)
        else:
            copy_strided(place, size, position, step, (run << 8) | size)
        done = done + run
        # step the outer dims as an odometer
        position = position - i * step
        i = 0
        d = ndim - 2
        while d >= 0:
            k = load_i64(index + d * 8) + 1
            stride = load_i64(strides + d * 8) * size
            if k < load_i64(sizes + d * 8):
                store_i64(index + d * 8, k)
                position = position + stride
                break
            position = position - (k - 1) * stride
            store_i64(index + d * 8, 0)
            d = d - 1


@native("viii")
def stream(target, source, nbytes):
    """Copy from one 64-byte boundary to another without keeping the copy in the caches."""
    whole = nbytes & ~63 if (target | source) & 63 == 0 else 0
    for k in range(whole >> 6):
        stream_line(target + k * 64, source + k * 64)
    copy_bytes(target + whole, source + whole, nbytes - whole)


# The arguments of `run_blocks`: kernel, number of operands, then (address, mode, walk, itemsize) each, the output first.
@native("viii")
def run_blocks(args, start, stop):
    """Run a kernel block by block over operands of any stride; has the kernel signature itself, so it can be launched on threads."""
    kernel = load_i64(args)
    count = load_i64(args + 8)
    scratch = (scratch_words() + 63) & ~63
    inner = small_words()
    sums = call_words()
    longest = least(STREAMED_BLOCK if load_i64(args + 16 + 8) == STREAMED else BLOCK, stop - start)
    for k in range(count):
        operand = args + 16 + k * 32
        if load_i64(operand + 8) == SCALAR and load_i64(operand) != 0:
            place = scratch + k * BLOCK * 16
            fill_elements(place, load_i64(operand), longest, load_i64(operand + 24))
            store_i64(inner + k * 8, place)
    i = start
    while i < stop:
        m = least(longest, stop - i)
        for k in range(count):
            operand = args + 16 + k * 32
            mode = load_i64(operand + 8)
            size = load_i64(operand + 24)
            if mode == DIRECT:
                store_i64(inner + k * 8, load_i64(operand) + i * size)
            elif mode >= STRIDED:  # or ADDED or STREAMED
                place = scratch + k * BLOCK * 16
                store_i64(inner + k * 8, place)
                if k > 0:
                    transfer(place, load_i64(operand), load_i64(operand + 16), i, m, size)
        call_kernel(kernel, inner, 0, m)
        if load_i64(args + 16 + 8) == ADDED:
            target = load_i64(args + 16) + i * load_i64(args + 16 + 24)
            store_i64(sums, target)
            store_i64(sums + 8, target)
            store_i64(sums + 16, load_i64(inner))
            call_kernel(load_i64(args + 32), sums, 0, m)
        size = load_i64(args + 16 + 24)
        if load_i64(args + 16 + 8) == STRIDED:
            transfer(load_i64(inner), load_i64(args + 16), load_i64(args + 32), i, m, size | 256)
        elif load_i64(args + 16 + 8) == STREAMED:
            stream(load_i64(args + 16) + i * size, load_i64(inner), m * size)
        i = i + m
    if load_i64(args + 16 + 8) == STREAMED:
        fence()


@native("viiiiii")
def set_operand(words, k, address, mode, walk, size):
    operand = words + 16 + k * 32
    store_i64(operand, address)
    store_i64(operand + 8, mode)
    store_i64(operand + 16, walk)
    store_i64(operand + 24, size)


@native("iiii")
def kernel_of(op, which, dtype):
    """The address of a kernel: which 0 is forward, 1 + k the derivative for input k.  0 with an exception set if it cannot be had."""
    st = the_state()
    row = op_row(st.ops, op)
    for attempt in range(2):
        if which == 0:
            kernel = op_get(row, "forward", dtype)
        else:
            kernel = op_get(row, "derivative", (which - 1) * layout.DTYPES + dtype)
        if kernel:
            return kernel
        if ask_python(st.need_kernel, op, dtype, which) == 0:
            return 0
    return 0


@native("viiiii")
def run_kernel(kernel, args, n, cost, unused):
    """Run over 0 .. n, on threads when the work is worth it; `cost` is in ns per 16 elements."""
    st = the_state()
    if st.threads > 1 and n * cost >= st.parallel_cost * 16:
        launch(kernel, args, n, n * cost >> 4)
    else:
        call_kernel(kernel, args, 0, n)


@native("iiiiiii")
def compute(op, out_dtype, plan, a, b, c):
    """A new slot with op's forward value over operands of one dtype; `plan` is a broadcast row, or 0 if all are contiguous alike."""
    if the_state().check == 0:
        return compute_unchecked(op, out_dtype, plan, a, b, c)
    words = check_words()
    operands = words + 34 * 8
    store_i64(operands, a)
    store_i64(operands + 8, b)
    store_i64(operands + 16, c)
    watch(words, operands, 3)
    out = compute_unchecked(op, out_dtype, plan, a, b, c)
    if out > 0:
        store_i64(operands + 24, out)
        if verify(words, operands, 3, operands + 24, 1) == 0:
            drop_unheld(out)
            return FAILED
    return out


@native("iiiiiii")
def compute_unchecked(op, out_dtype, plan, a, b, c):
    st = the_state()
    first = slot_row(st.slots, a)
    row = op_row(st.ops, op)
    dtype = slot_row(st.slots, b).dtype if row.mask else first.dtype
    kernel = kernel_of(op, 0, dtype)
    if kernel == 0:
        return FAILED
    first = slot_row(st.slots, a)
    if plan == 0:
        out = new_slot(first.geometry, out_dtype)
        if out == 0:
            return NO_MEMORY
        n = geometry_row(st.geometries, slot_row(st.slots, a).geometry).numel
        if n * WIDEST >= st.streamed_bytes and row.cost <= STREAMED_COST:
            fill_blocks(kernel, out, 0, a, b, c, n, row.cost)
            return out
        words = small_words()
        store_i64(words, slot_row(st.slots, out).data)
        store_i64(words + 8, slot_row(st.slots, a).data)
        if b:
            store_i64(words + 16, slot_row(st.slots, b).data)
            if c:
                store_i64(words + 24, slot_row(st.slots, c).data)
        run_kernel(kernel, words, n, row.cost, 0)
        return out
    cast = broadcast_row(plan, 0)
    out = new_slot(cast.output, out_dtype)
    if out == 0:
        return NO_MEMORY
    fill_blocks(kernel, out, plan, a, b, c, cast.n, row.cost)
    return out


@native("viiiiiiii")
def fill_blocks(kernel, out, plan, a, b, c, n, cost):
    """Run `kernel` over the operands as the broadcast row `plan` walks them (0: all in order), into slot `out`."""
    st = the_state()
    words = block_words()
    count = 1
    store_i64(words, kernel)
    target = slot_row(st.slots, out)
    cast = broadcast_row(plan, 0)
    mode = broadcast_get(cast, "mode", 3) if plan else DIRECT
    size = load_i64(st.itemsize + target.dtype * 8)
    if mode == DIRECT and n * size >= st.streamed_bytes and cost <= STREAMED_COST and target.data & 63 == 0:
        mode = STREAMED
    set_operand(words, 0, target.data, mode, broadcast_get(cast, "walk", 3) if plan else 0, size)
    for k in range(3):
        s = a if k == 0 else (b if k == 1 else c)
        if s:
            slot = slot_row(st.slots, s)
            size = load_i64(st.itemsize + slot.dtype * 8)
            mode = broadcast_get(cast, "mode", k) if plan else DIRECT
            set_operand(words, count, slot.data, mode, broadcast_get(cast, "walk", k) if plan else 0, size)
            count = count + 1
    store_i64(words + 8, count)
    run_kernel(address_of_run_blocks(), words, n, cost, 0)


@native("iiiiii")
def elementwise(op, a, b, c, unused):
    """Run an elementwise op on slots, record it if it must be, and return the new slot (or MIXED, FAILED, NO_MEMORY)."""
    st = the_state()
    load_modes()
    row = op_row(st.ops, op)
    first = slot_row(st.slots, a)
    flags = first.flags
    common = flags
    dtype = slot_row(st.slots, b).dtype if row.mask else first.dtype
    if (row.kinds >> dtype) & 1 == 0:
        return MIXED
    geometry = first.geometry
    plan = 0
    # Strides of dims of one element may be any: a computed result has the plain ones, a converted one those of its operand.
    shape = geometry_row(st.geometries, geometry)
    same = shape.contiguous == geometry or (row.family != ELEMENTWISE and (shape.flags & CONTIGUOUS) != 0)
    second_geometry = 0
    third_geometry = 0
    if b:
        second = slot_row(st.slots, b)
        if second.dtype != dtype or (row.mask != 0 and first.dtype != BOOL):
            return MIXED
        flags = flags | second.flags
        common = common & second.flags
        second_geometry = second.geometry
        same = same and second_geometry == geometry
        if c:
            third = slot_row(st.slots, c)
            if third.dtype != dtype:
                return MIXED
            flags = flags | third.flags
            common = common & third.flags
            third_geometry = third.geometry
            same = same and third_geometry == geometry
    if not same:
        plan = find_broadcast(geometry, second_geometry, third_geometry)
        if plan == 0:
            return FAILED
    out = compute(op, dtype if row.result < 0 else row.result, plan, a, b, c)
    if out > 0 and (flags & REQUIRES_GRAD) != 0 and (st.mode & GRAD) != 0:
        if op_get(row, "rule", 3):
            if record_elementwise(op, a, b, c, out) == 0:
                drop_unheld(out)
                return NO_MEMORY
    if common & WRAPPED and out > 0:  # what is made of numbers alone is one
        slot_row(st.slots, out).flags = slot_row(st.slots, out).flags | WRAPPED
    return out


@native("vi")
def drop_unheld(s):
    """Free a slot that nobody has taken hold of yet."""
    st = the_state()
    slot = slot_row(st.slots, s)
    slot.handles = slot.handles + 1
    drop(s)


@native("iiiiii")
def record_elementwise(op, a, b, c, out):
    """Append the entry of an elementwise op; what it saves is what the derivatives of the inputs that require grad read."""
    st = the_state()
    row = op_row(st.ops, op)
    count = 1 + (1 if b else 0) + (1 if c else 0)
    reads = 0
    if slot_row(st.slots, a).flags & REQUIRES_GRAD:
        reads = op_get(row, "reads", 0)
    if b and slot_row(st.slots, b).flags & REQUIRES_GRAD:
        reads = reads | op_get(row, "reads", 1)
    if c and slot_row(st.slots, c).flags & REQUIRES_GRAD:
        reads = reads | op_get(row, "reads", 2)
    flags = reads * SAVED_INPUT
    values = reads
    if c and slot_row(st.slots, c).flags & WRAPPED:
        values = reads & ~4  # a number in that place is a parameter (alpha, a weight): it stays for a second backward pass
    if values:
        flags = flags | HAS_SAVED
    e = open_entry(op, count, 1, flags)
    if e < 0:
        return 0
    link_input(st, e, 0, a, reads & 1)
    if b:
        link_input(st, e, 1, b, reads & 2)
        if c:
            link_input(st, e, 2, c, reads & 4)
    link_output(st, e, 0, out, reads & (1 << count), REQUIRES_GRAD)
    return 1


@native("iii")
def assign(target, source):
    """Write the elements of slot `source`, converted and broadcast, over slot `target`, of any strides.  1, or FAILED."""
    st = the_state()
    t = slot_row(st.slots, target)
    if (t.dtype | slot_row(st.slots, source).dtype) > PLAIN:
        return 1 if ask_python(st.assign_postponed, target, source, 0) else FAILED
    kernel = kernel_of(st.convert + t.dtype, 0, slot_row(st.slots, source).dtype)
    if kernel == 0:
        return FAILED
    plan = find_broadcast(slot_row(st.slots, target).geometry, slot_row(st.slots, source).geometry, 0)
    if plan == 0:
        return FAILED
    t = slot_row(st.slots, target)
    s = slot_row(st.slots, source)
    cast = broadcast_row(plan, 0)
    words = block_words()
    store_i64(words, kernel)
    store_i64(words + 8, 2)
    set_operand(words, 0, t.data, broadcast_get(cast, "mode", 0), broadcast_get(cast, "walk", 0), load_i64(st.itemsize + t.dtype * 8))
    set_operand(words, 1, s.data, broadcast_get(cast, "mode", 1), broadcast_get(cast, "walk", 1), load_i64(st.itemsize + s.dtype * 8))
    if cast.n > 0:
        run_kernel(address_of_run_blocks(), words, cast.n, 4, 0)
    return 1
