"""Attributes of a Tensor and the small methods that only look at it: getset and method descriptors that run no Python frame.

A getter is CPython's `getter(self, closure)`, a setter `setter(self, value, closure)`; the closure is the address of the Python callables
(get, set, delete) that complete what is not the plain case: a view whose base has changed, a warning, an error.  A method has the
convention of `native/methods.py` and finds its Python callable by its number, as planned calls do.
"""

from tapegrad.engine import layout
from tapegrad.engine.layout import (
    BOOL,
    COMPLEX,
    CONTIGUOUS,
    FLOAT32,
    FLOAT64,
    FLOATING,
    INT64,
    MOST_ELEMENTS,
    PLAIN,
    REQUIRES_GRAD,
    TRACKED,
    VIEW,
)
from tapegrad.engine.native.access import item
from tapegrad.engine.native.calls import CALL_SIZE
from tapegrad.engine.native.capi import (
    py_bool_from_i64,
    py_decref,
    py_error_clear,
    py_error_occurred,
    py_float_from_f64,
    py_incref,
    py_list_new,
    py_long_as_i64,
    py_long_from_i64,
    py_vectorcall,
)
from tapegrad.engine.native.memory import foreign_buffer
from tapegrad.engine.native.native import native
from tapegrad.engine.native.objects import HANDLE_SLOT, flush_graveyard, go_slow, modes_ready, wrap
from tapegrad.engine.native.pointers import (
    Slot,
    buffer_row,
    geometry_row,
    load_f32,
    load_f64,
    load_i64,
    load_u8,
    slot_row,
    stack_words,
    store_i64,
    the_state,
)
from tapegrad.engine.native.tables import drop, slot_index, view_slot

SLOW_CALLS = layout.CALL_ROWS * CALL_SIZE
ITEMS = 24  # byte offset of a list's items in CPython's object
GET, SET, DELETE = 0, 8, 16  # byte offsets in a closure
pair_words = stack_words(4)


@native("ii")
def row_of(tensor):
    """The address of the slot row of a Tensor object."""
    return slot_row(the_state().slots, load_i64(tensor + HANDLE_SLOT)).pointer


@native("iii")
def ask(self, callable_):
    """What Python's getter says."""
    words = pair_words()
    store_i64(words, self)
    return py_vectorcall(callable_, words, 1, 0)


@native("ii")
def unsettled(row):
    """Whether a slot may have to be brought up to date before its place in the graph is known."""
    slot = Slot(row)
    if slot.flags & (VIEW | TRACKED) == 0:
        return 0
    return (slot.flags & TRACKED) != 0 or slot.version != buffer_row(the_state().buffers, slot.buffer).version


# --- attributes -----------------------------------------------------------------------------------------------------
@native("iii")
def get_shape(self, closure):
    shape = geometry_row(the_state().geometries, Slot(row_of(self)).geometry).shape
    if shape == 0:
        return ask(self, load_i64(closure + GET))
    py_incref(shape)
    return shape


@native("iii")
def get_ndim(self, closure):
    return py_long_from_i64(geometry_row(the_state().geometries, Slot(row_of(self)).geometry).ndim)


@native("iii")
def get_dtype(self, closure):
    found = load_i64(the_state().dtypes + Slot(row_of(self)).dtype * 8)
    py_incref(found)
    return found


@native("iii")
def get_requires_grad(self, closure):
    row = row_of(self)
    wanted = Slot(row).flags & REQUIRES_GRAD
    if wanted == 0 and unsettled(row):
        return ask(self, load_i64(closure + GET))
    return py_bool_from_i64(wanted)


@native("iii")
def get_is_leaf(self, closure):
    row = row_of(self)
    if load_i64(self + HANDLE_SLOT) <= 0 or unsettled(row):
        return ask(self, load_i64(closure + GET))
    return py_bool_from_i64(Slot(row).entry < 0 or Slot(row).flags & REQUIRES_GRAD == 0)


@native("iii")
def get_grad(self, closure):
    st = the_state()
    row = row_of(self)
    held = Slot(row).grad
    if held == 0 and Slot(row).entry < 0 and unsettled(row) == 0:
        py_incref(st.none)
        return st.none
    known = load_i64(self + st.grad_offset)
    if held == 0 or known == 0 or known == st.none or load_i64(known + HANDLE_SLOT) != held:
        return ask(self, load_i64(closure + GET))
    py_incref(known)
    return known


@native("ii")
def data_slot(source):
    """A slot, unheld, over the memory of slot `source`, in a buffer with a version counter of its own.  0 with an exception.

    The buffer belongs to whom that memory belongs to: its own foreign owner, else a tensor that is made to keep it.
    """
    st = the_state()
    owner = buffer_row(st.buffers, slot_row(st.slots, source).buffer).owner
    if owner:
        py_incref(owner)
    else:
        owner = wrap(view_slot(source, slot_row(st.slots, source).geometry, 0))
        if owner == 0:
            return 0
    s = slot_index()
    origin = slot_row(st.slots, source)
    slot = slot_row(st.slots, s)
    buffer = buffer_row(st.buffers, origin.buffer)
    slot.buffer = foreign_buffer(buffer.memory, buffer.nbytes, owner)
    slot.data = origin.data
    slot.geometry = origin.geometry
    slot.dtype = origin.dtype
    return s


@native("iii")
def get_data(self, closure):
    """The same memory with a version counter of its own."""
    st = the_state()
    row = row_of(self)
    if not modes_ready(st) or Slot(row).flags & TRACKED != 0 or geometry_row(st.geometries, Slot(row).geometry).numel == 0:
        return ask(self, load_i64(closure + GET))
    s = data_slot(load_i64(self + HANDLE_SLOT))
    return wrap(s) if s else 0


@native("iiii")
def set_python(self, value, closure):
    """An assignment, or without a value a deletion, as Python does it."""
    words = pair_words()
    store_i64(words, self)
    store_i64(words + 8, value)
    result = py_vectorcall(load_i64(closure + (SET if value else DELETE)), words, 2 if value else 1, 0)
    if result == 0:
        return -1
    py_decref(result)
    return 0


@native("iiii")
def set_grad(self, value, closure):
    """x.grad = None, and a plain gradient of the same dtype and shape."""
    st = the_state()
    row = row_of(self)
    given = 0
    if value == 0 or load_i64(self + HANDLE_SLOT) <= 0:
        return set_python(self, value, closure)
    if value != st.none:
        kind = load_i64(value + 8)
        if kind != st.tensor_type and kind != st.parameter_type or value == self:
            return set_python(self, value, closure)
        given = load_i64(value + HANDLE_SLOT)
        other = slot_row(st.slots, given)
        first = geometry_row(st.geometries, Slot(row).geometry)
        if given <= 0 or other.dtype != Slot(row).dtype or geometry_row(st.geometries, other.geometry).contiguous != first.contiguous:
            return set_python(self, value, closure)
        other.handles = other.handles + 1
        py_incref(value)
    held = Slot(row).grad
    Slot(row).grad = given
    known = load_i64(self + st.grad_offset)
    store_i64(self + st.grad_offset, value if given else 0)
    if held:
        drop(held)
    if known:
        py_decref(known)
    if st.graveyard_count:
        flush_graveyard()
    return 0


# --- methods --------------------------------------------------------------------------------------------------------
@native("iiiiii")
def complete(code, self, args, count, names):
    """The call in Python."""
    return go_slow(load_i64(the_state().calls + SLOW_CALLS + (code & 0xFFFF) * 8), code, self, args, count, names)


@native("iii")
def wrapped_dim(value, ndim):
    """The dim that an int object means, -1 for anything else and for one that is out of range."""
    if load_i64(value + 8) != the_state().int_type:
        return -1
    d = py_long_as_i64(value)
    if d == -1 and py_error_occurred() != 0:
        py_error_clear()
        return -1
    if d < 0:
        d = d + ndim
    return d if d < ndim and d >= 0 else -1


@native("iiiiii")
def call_size(code, self, args, count, names):
    g = geometry_row(the_state().geometries, Slot(row_of(self)).geometry)
    if names or count > 1 or g.shape == 0:
        return complete(code, self, args, count, names)
    if count == 0:
        py_incref(g.shape)
        return g.shape
    d = wrapped_dim(load_i64(args), g.ndim)
    return complete(code, self, args, count, names) if d < 0 else py_long_from_i64(load_i64(g.sizes + d * 8))


@native("iiiiii")
def call_stride(code, self, args, count, names):
    g = geometry_row(the_state().geometries, Slot(row_of(self)).geometry)
    if names or count > 1 or g.strides == 0:
        return complete(code, self, args, count, names)
    if count == 0:
        py_incref(g.strides)
        return g.strides
    d = wrapped_dim(load_i64(args), g.ndim)
    return complete(code, self, args, count, names) if d < 0 else py_long_from_i64(load_i64(g.sizes + (g.ndim + d) * 8))


@native("iiiiii")
def call_dim(code, self, args, count, names):
    if names or count:
        return complete(code, self, args, count, names)
    return get_ndim(self, 0)


@native("iiiiii")
def call_numel(code, self, args, count, names):
    numel = geometry_row(the_state().geometries, Slot(row_of(self)).geometry).numel
    if names or count or numel == MOST_ELEMENTS:
        return complete(code, self, args, count, names)
    return py_long_from_i64(numel)


@native("iiiiii")
def call_len(code, self, args, count, names):
    g = geometry_row(the_state().geometries, Slot(row_of(self)).geometry)
    if names or count or g.ndim == 0:
        return complete(code, self, args, count, names)
    return py_long_from_i64(load_i64(g.sizes))


@native("iiiiii")
def call_is_contiguous(code, self, args, count, names):
    if names or count:
        return complete(code, self, args, count, names)
    return py_bool_from_i64(geometry_row(the_state().geometries, Slot(row_of(self)).geometry).flags & CONTIGUOUS)


@native("iiiiii")
def call_data_ptr(code, self, args, count, names):
    slot = Slot(row_of(self))
    if names or count:
        return complete(code, self, args, count, names)
    return py_long_from_i64(slot.data if geometry_row(the_state().geometries, slot.geometry).numel else 0)


@native("iiiiiii")
def has_dtype(mask, code, self, args, count, names):
    """Whether the tensor's dtype is one of a mask's."""
    if names or count or not modes_ready(the_state()):
        return complete(code, self, args, count, names)
    return py_bool_from_i64((mask >> (Slot(row_of(self)).dtype & PLAIN)) & 1)


@native("iiiiii")
def call_is_floating_point(code, self, args, count, names):
    return has_dtype(FLOATING, code, self, args, count, names)


@native("iiiiii")
def call_is_complex(code, self, args, count, names):
    return has_dtype(COMPLEX, code, self, args, count, names)


@native("iiiiii")
def call_element_size(code, self, args, count, names):
    st = the_state()
    if names or count or not modes_ready(st):
        return complete(code, self, args, count, names)
    return py_long_from_i64(load_i64(st.itemsize + (Slot(row_of(self)).dtype & PLAIN) * 8))


@native("iiiiii")
def call_cpu(code, self, args, count, names):
    if names or count or not modes_ready(the_state()):
        return complete(code, self, args, count, names)
    py_incref(self)
    return self


@native("ii")
def listed(dtype):
    """Whether `number_at` knows a dtype."""
    return dtype == FLOAT64 or dtype == FLOAT32 or dtype == INT64 or dtype == BOOL


@native("iiiiii")
def call_item(code, self, args, count, names):
    slot = Slot(row_of(self))
    st = the_state()
    if names or count or geometry_row(st.geometries, slot.geometry).numel != 1 or listed(slot.dtype) == 0 or not modes_ready(st):
        return complete(code, self, args, count, names)
    return item(load_i64(self + HANDLE_SLOT))


@native("iii")
def number_at(address, dtype):
    """The element at an address as a Python number."""
    if dtype == FLOAT64:
        return py_float_from_f64(load_f64(address))
    if dtype == FLOAT32:
        return py_float_from_f64(load_f32(address))
    if dtype == INT64:
        return py_long_from_i64(load_i64(address))
    return py_bool_from_i64(load_u8(address))


@native("iiiiiii")
def nested(address, dtype, itemsize, sizes, dims, ndim):
    """The elements from `address` on as lists in lists; `sizes` points at the size of the outermost of the `dims` dims that are left."""
    if dims == 0:
        return number_at(address, dtype)
    count = load_i64(sizes)
    step = load_i64(sizes + ndim * 8) * itemsize
    result = py_list_new(count)
    if result == 0:
        return 0
    for k in range(count):
        value = nested(address + k * step, dtype, itemsize, sizes + 8, dims - 1, ndim)
        if value == 0:
            py_decref(result)
            return 0
        store_i64(load_i64(result + ITEMS) + k * 8, value)
    return result


@native("iiiiii")
def call_tolist(code, self, args, count, names):
    st = the_state()
    slot = Slot(row_of(self))
    if names or count or listed(slot.dtype) == 0 or not modes_ready(st):
        return complete(code, self, args, count, names)
    g = geometry_row(st.geometries, slot.geometry)
    return nested(slot.data, slot.dtype, load_i64(st.itemsize + slot.dtype * 8), g.sizes, g.ndim, g.ndim)
