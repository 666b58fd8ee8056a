"""The memory layout of the engine: every row that compiled code and Python both read.

One *state* row holds the counters, the modes and the addresses of the tables; it never moves.  The tables are:

    slots       one row per live tensor value: where its data is, its geometry, who needs it
    buffers     one row per piece of memory: address, size, reference count, version counter
    geometries  one row per distinct (shape, strides): interned, so that equal shapes are equal integers
    ops         one row per op code: kernel addresses by dtype, what the derivative reads
    tape        one row per recorded entry, with the operand stream (slot, version) beside it

`Struct` lays out the fields; compiled code reads them as `slot.geometry` (see `native/pointers.py`), Python as a NumPy
structured array (`Struct.view`).  Nothing here imports numba: a warm start needs the layout but no compiler.
Start reading at `SLOT`, then `ENTRY`.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tapegrad.dtypes import BY_NAME
from tapegrad.dtypes import CODES as CODES
from tapegrad.dtypes import PLAIN as PLAIN

SIZES = {"i64": 8, "f64": 8, "i32": 4, "u8": 1}
C: dict[str, Any] = {"i64": ctypes.c_int64, "f64": ctypes.c_double, "i32": ctypes.c_int32, "u8": ctypes.c_uint8}
NUMPY = {"i64": "<i8", "f64": "<f8", "i32": "<i4", "u8": "u1"}


class Struct:
    """A C struct: `fields` maps a name to a scalar type, or to (scalar type, count) for an inline array; `row.from_address` reads and writes one."""

    def __init__(self, name: str, **fields):
        self.name = name
        self.offset: dict[str, int] = {}
        self.kind: dict[str, str] = {}
        self.count: dict[str, int] = {}
        at = 0
        for field, spec in fields.items():
            kind, count = spec if isinstance(spec, tuple) else (spec, 1)
            at = -(-at // SIZES[kind]) * SIZES[kind]
            self.offset[field], self.kind[field], self.count[field] = at, kind, count
            at += SIZES[kind] * count
        self.size = -(-at // 8) * 8
        parts = [(f, C[self.kind[f]] * self.count[f] if self.count[f] > 1 else C[self.kind[f]]) for f in self.offset]
        self.row: Any = type(name, (ctypes.Structure,), {"_fields_": parts})
        self.dtype = np.dtype(
            {
                "names": list(self.offset),
                "formats": [(NUMPY[self.kind[f]], (self.count[f],)) if self.count[f] > 1 else NUMPY[self.kind[f]] for f in self.offset],
                "offsets": list(self.offset.values()),
                "itemsize": self.size,
            }
        )

    def view(self, address: int, rows: int) -> np.ndarray:
        """The rows at `address` as a structured array that shares their memory (valid until the table moves)."""
        return memory(address, rows * self.size).view(self.dtype)


def memory(address: int, nbytes: int) -> np.ndarray:
    """`nbytes` bytes at `address` as a uint8 array that shares them."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)) if nbytes else np.empty(0, np.uint8)


# --- slots: one row per live tensor value ---------------------------------------------------------------------------
SLOT = Struct(
    "Slot",
    data="i64",  # address of the first element (buffer address + offset); 0 once the value has been given up
    buffer="i32",
    geometry="i32",
    dtype="i32",  # code of the element type; the bits above it (CONJ, NEG in dtypes.py) are what is yet to be done to the elements
    flags="i32",
    handles="i32",  # Python Tensors (and grad fields, cotangents) that hold this value
    saves="i32",  # live entries whose derivative reads the value; the buffer goes when handles and saves are 0
    edges="i32",  # live entries that have this slot as an input; the row goes when handles, saves and edges are 0
    entry="i32",  # the tape entry that produced it, -1 for a leaf
    grad="i32",  # slot of the accumulated .grad, 0 for none
    cotangent="i32",  # during a backward sweep: slot of the incoming gradient, 0 for none
    version="i32",  # a view: the buffer's version when its place in the graph was last settled
    output_nr="i32",  # which output of its entry it is
    spare="i64",  # pads the row to a cache line
)

# slot flags
REQUIRES_GRAD = 1
LEAF_GRAD = 2  # a leaf that requires grad: a sweep accumulates into it
VIEW = 4  # shares its buffer with another tensor by a differentiable view
WRAPPED = 8  # a Python number: weaker in type promotion
HOOKED = 16  # has tensor hooks, retains its grad, or is captured: the sweep returns to Python for it
INFERENCE = 32  # made in inference mode
NO_GRAD_VIEW = 64  # a view made in no_grad mode, or of such a view
MULTI_VIEW = 128  # one of several views made at once (unbind, split, chunk)
SUBCLASS = 256  # the Python tensor is of a subclass: dispatch in Python
TRACKED = 512  # carries a transform (dual number, batched): dispatch in Python
FUNCTION_VIEW = 2048  # a view made inside a custom Function, or an input that one returned as it is
INFERENCE_VIEW = 8192  # a view made in inference mode of a tensor that was not
RESTRICTED = NO_GRAD_VIEW | MULTI_VIEW | FUNCTION_VIEW | INFERENCE_VIEW  # one at most: a view that must not be changed in place, and why
CAPTURED = 1024  # an input of the sweep under way: its cotangent is kept for the caller

BUFFER = Struct(
    "Buffer",
    memory="i64",
    nbytes="i64",
    owner="i64",  # foreign memory: the PyObject that keeps it alive, one reference ours; 0 for our own
    references="i32",
    version="i32",
    size_class="i32",
    guard="i32",  # bytes of known content behind the memory, in checking mode
    hidden="i64",  # bytes at the end that a storage made smaller no longer has
    born="i32",  # how many function transforms had begun when it was made
    lent="i32",  # a NumPy array looks into it, or did: it stays where it is, and of its size
)

GEOMETRY = Struct(
    "Geometry",
    numel="i64",
    sizes="i64",  # address of ndim sizes, then ndim strides (in elements), int64
    ndim="i32",
    flags="i32",
    contiguous="i32",  # the geometry of the same shape in row-major order, 0 until it has been asked for
    spare="i32",
    shape="i64",  # the Size and the tuple of strides that Python gets
    strides="i64",
)
CONTIGUOUS = 1
MOST_ELEMENTS = 2**59 - 1  # what a row's `numel` says at most: the bytes of more would not fit an int64, and cannot be allocated
DENSE = 2  # non-overlapping and dense: some permutation of the dims is row-major
OVERLAPS = 4  # two indices may reach the same element

DTYPES = 16  # room in the dtype table
FLOAT32, FLOAT64, INT64, BOOL = (BY_NAME[name].code for name in ("float32", "float64", "int64", "bool"))  # those that compiled code names
FLOATING, COMPLEX = (sum(1 << d.code for d in BY_NAME.values() if getattr(d, what)) for what in ("is_floating_point", "is_complex"))  # a bit each
SUMMED = (FLOAT32, FLOAT64)  # whose gradients compiled code sums and scales; Python does the others'
MAX_INPUTS = 3  # of an elementwise op
OP = Struct(
    "Op",
    forward=("i64", DTYPES),  # kernel address by compute dtype, 0 until compiled
    derivative=("i64", DTYPES * MAX_INPUTS),  # kernel address by (input, compute dtype)
    reads=("i32", MAX_INPUTS + 1),  # bit k of reads[i]: the derivative for input i reads operand k (inputs, then output); [3]: union
    rule=("i32", MAX_INPUTS + 1),  # how the cotangent of input i is made: a DERIVATIVE_* below
    inputs="i32",
    family="i32",
    result="i32",  # dtype code of the result, -1: the compute dtype
    mask="i32",  # the first operand is a bool mask; the second one's dtype decides
    kinds="i32",  # bit per dtype code: computed as it is (others are promoted in Python)
    renamed="i32",  # in place and recorded it is another op's, which Python knows
    checked="i32",  # operands of integer dtypes are looked at in Python first (division by zero)
    scalars="i32",  # bit 0: the first operand may be a Python number, bit 1: the second (else that is Python's business, or an error)
    cost="i32",  # ns per 16 elements, rough: decides when threads pay
)
DERIVATIVE_NONE = 0  # not differentiable: no cotangent
DERIVATIVE_KERNEL = 1
DERIVATIVE_SAME = 2  # the cotangent is the incoming one ("g")
DERIVATIVE_ZERO = 3  # differentiable with derivative 0 everywhere (floor, sign)

# families: who interprets an entry in a backward sweep
STRUCTURAL = 0  # a plan's rules, or a Python rule: a barrier.  Records that are imported after the start need nothing else.
ELEMENTWISE = 1

# --- the tape -------------------------------------------------------------------------------------------------------
ENTRY = Struct(
    "Entry",
    op="i32",
    flags="i32",
    inputs="i32",
    outputs="i32",  # how many outputs are alive
    operand="i32",  # first row in the operand stream: inputs, then outputs
    nout="i32",
    payload="i64",  # a PyObject that belongs to the entry (plan, context of a custom Function), one reference ours; 0 for none
    plan="i64",  # address of the plan that made a structural entry, 0 otherwise
)
OPERAND = Struct("Operand", slot="i32", version="i32")
# entry flags
ALIVE = 1
FREED = 2  # a backward pass without retain_graph has given up the saved values
SAVED_INPUT = 16  # bit (SAVED_INPUT << k): operand k's value is saved, for the first 24 operands; beyond: all
SAVED_ALL = 4  # every operand is saved
HAS_SAVED = 8

# --- plans ----------------------------------------------------------------------------------------------------------
# How the elements of one operand are reached while the loop runs over 0 .. n-1 in the output's order.
DIRECT, SCALAR, STRIDED = 0, 1, 2
ADDED = 3  # an output that is added to, in the output's order; its walk is the address of the addition kernel
STREAMED = 4  # a large output, in the output's order, that is written past the caches
BROADCAST = Struct(
    "Broadcast",  # what the broadcast cache points at: the plan for one combination of operand geometries
    first="i32",
    second="i32",
    third="i32",
    output="i32",  # geometry of the output
    n="i64",
    mode=("i32", 4),  # DIRECT, SCALAR or STRIDED per operand: the inputs, then the output
    walk=("i64", 4),  # for STRIDED: address of ndim, sizes.., strides..
)
BROADCAST_ROWS = 1 << 12

# A plan row: what one call does for one (op, geometries, parameters); see native/calls.py
PLAN = Struct(
    "Plan",
    kernel="i64",  # address, 0 for a pure view or an elementwise op
    op="i32",
    outputs="i32",
    shares="i32",  # a view: the outputs share the first input's buffer
    elementwise="i32",  # `op` is an elementwise op, on the operands in the order that `operands` gives
    writes="i32",  # the kernel changes its first input in place, and there are no outputs
    differentiable="i32",  # bit k: output k
    saves="i32",  # bit k: operand k is saved (inputs, then outputs) if the derivative of an input that requires grad reads it
    reads=("i32", 4),  # which of them the derivative of input k reads, for up to four inputs
    view_flags="i32",
    n="i64",  # range of the outermost loop
    finish="i64",  # address of a kernel that runs once after that, 0 for none
    scratch="i64",  # bytes of memory that the two work in; its address follows that of the arguments
    cost="i64",  # ns for the whole kernel, rough
    payload="i64",  # PyObject kept by entries
    args="i64",  # address of the int64 arguments that follow the operand addresses; a kernel that refuses stores 1 in the word before
    results="i64",  # per output RESULT_WORDS int64: geometry, dtype, byte offset of a view
    sources="i64",  # per input SOURCE_WORDS int64: rule, its target, a byte offset, the geometry in which the kernel reads it (below)
    operands="i64",  # which operands a rule's or an elementwise plan is applied to, a byte each from the lowest: 1 g, 2 input 0, 3 input 1 ...
    scale="f64",
    chain="i64",  # address of the words of a plan that runs others one after the other (`run_chain` in native/calls.py)
    parts="i64",  # several plans applied to one input (split, unbind): address of their count and addresses
    spread="i64",  # of a plan that writes: the plan of the entry by which one element becomes the region that is written, or 0
    recorder="i64",  # of a plan that writes to a part of its first input: the plan of the entry that records it, 0 if Python must
    result_type="i64",  # the tuple type of several outputs, 0 for tuple itself
)
RESULT_WORDS = 3
SOURCE_WORDS = 4
# How the sweep makes the cotangent of an input without Python.
SWEEP_PYTHON = 0  # the derivative runs in Python
SWEEP_VIEW = 1  # g, times `scale`, seen as geometry `target` (strides may be 0) from the byte offset
SWEEP_EMBED = 2  # g added into the region `target` at the byte offset of the input's (contiguous) cotangent
SWEEP_APPLY = 3  # the plan `target` applied to its operands
SWEEP_REDUCE = 4  # g summed over what was repeated; `target` is the address of the walk from g's elements to the input's, 0 for one
SWEEP_UNARY = 5  # the elementwise op `target` of g
SWEEP_REPLACED = 6  # g with zeros in the region `target` at the byte offset; the second input gets that region of g
# The geometry in which a kernel reads an input: AS_IS, or one of the same memory (dims in another order), of which a contiguous copy is made
# if it is not contiguous.
AS_IS = 0

# How a step of a chain runs: as it is, with recording off, or not at all: it puts what others have computed on the tape.
UNRECORDED_STEP, RECORDING_STEP = 1, 2

# The cache from a call to its plan, in one of two rows by the hash of the words that stand for the arguments; see native/calls.py
CALL = Struct(
    "Call",
    hash="i64",
    words="i64",  # address of the number of words and the words
    plan="i64",  # 0: row unused
)
CALL_ROWS = 1 << 17  # loops over indices are as many calls as indices
METHODS = 512  # room for methods that the cache serves
FORMS = 4096  # room for forms of elementwise ops

DEFERRED_BYTES = 8192  # the block of noted passes: native/tiles.py
POOL_BYTES = 128 * (10 + 64)  # of the threads' pool; see native/threads.py
BLOCK = 512  # elements that are gathered, computed and scattered at a time when an operand is not DIRECT
STATE = Struct(
    "State",
    mode="i64",  # MODE_* bits
    tensor_type="i64",  # PyTypeObject* of Tensor
    parameter_type="i64",
    none="i64",  # Py_None
    not_implemented="i64",
    float_type="i64",
    int_type="i64",
    bool_type="i64",
    thread="i64",  # id of the thread whose modes are loaded (CPython's, never used again)
    thread_modes="i64",  # mode words of the other threads, by id; 0 for one not seen yet
    thread_room="i64",
    thread_start="i64",  # mode bits with which a thread that has not been seen begins, beside GRAD and SEEN
    raise_memory="i64",  # Python callable that raises for a failed allocation of n bytes
    need_kernel="i64",  # Python callable (op, dtype, which) that compiles a kernel
    need_broadcast="i64",  # Python callable that fills a row of the broadcast cache
    assign_postponed="i64",  # Python callable (target, source) that assigns where a conjugation or negation is postponed
    slots="i64",
    slot_count="i64",
    slot_room="i64",
    slot_free="i64",
    slot_live="i64",
    buffers="i64",
    buffer_count="i64",
    buffer_room="i64",
    buffer_free="i64",
    geometries="i64",
    scalar_geometry="i64",
    ops="i64",
    entries="i64",
    entry_count="i64",
    entry_room="i64",
    entry_live="i64",
    operands="i64",
    operand_count="i64",
    operand_room="i64",
    marks="i64",  # two-level bitmap of entries marked by a sweep
    marks_room="i64",
    stack="i64",  # work stack of the release cascade and of marking
    stack_room="i64",
    graveyard="i64",  # PyObjects to release once the tables are consistent
    graveyard_count="i64",
    graveyard_room="i64",
    broadcasts="i64",
    free_lists="i64",  # heads by size class
    cached_bytes="i64",  # in the free lists of large classes
    cached_limit="i64",
    bytes_limit="i64",  # of live bytes: beyond it an allocation fails as if the system had refused it
    bytes_live="i64",
    bytes_peak="i64",
    slab="i64",
    slab_left="i64",
    itemsize="i64",  # address of CODES int64
    dtypes="i64",  # address of CODES dtype objects
    default_dtype="i64",
    allocations="i64",
    threads="i64",
    parallel_cost="i64",  # ns of work from which threads pay
    streamed_bytes="i64",  # of an elementwise result, from which it is written past the caches
    pool="i64",
    leaves="i64",  # leaves (and captured slots) that have a cotangent, in the order in which it came
    leaves_count="i64",
    leaves_room="i64",
    sweeping="i64",  # sweeps under way: the tape keeps its positions
    sweep_owner="i64",  # id of the thread whose sweep it is
    sweep_entry="i64",  # positions from here on have been visited
    sweep_retain="i64",
    deferred="i64",  # what native/deferred.py keeps: noted kernel calls, retired slots, spent entries
    deferred_n="i64",  # elements that a noted call runs over; 0: passes run at once
    deferred_count="i64",
    deferred_cost="i64",  # ns per 16 elements of the noted calls
    retired_count="i64",
    spent_count="i64",
    forms="i64",  # the Python callables that complete a call of an elementwise op, by the number of its form (function, method, operator ...)
    calls="i64",  # the cache of planned method calls
    slice_type="i64",
    tuple_type="i64",
    list_type="i64",
    size_type="i64",  # geometry.Size
    dtype_type="i64",
    str_type="i64",
    ellipsis="i64",
    parent_offset="i64",  # byte offsets of Python slots in a Tensor object
    plan_offset="i64",
    grad_offset="i64",
    base_offset="i64",
    slow_backward="i64",  # Python's Tensor.backward
    resume_backward="i64",  # Python callable that goes on with a sweep from a barrier
    resume_gradients="i64",  # the same for autograd.grad
    power="i64",  # op codes of pow and of the first of the powers with a fixed exponent
    power_first="i64",
    multiply="i64",  # op code of multiplication
    add="i64",  # op code of addition, for accumulating
    conjugate="i64",  # op codes
    negate="i64",
    carry_out="i64",
    convert="i64",  # op code of the conversion to dtype code 0; the others follow
    check="i64",  # TAPEGRAD_CHECK: bytes of guard behind every buffer, 0 when off
    check_failed="i64",  # Python callable that raises for a buffer written past its end
    error="i64",  # detail of the last failure, for the Python side
    error_a="i64",
    error_b="i64",
    recorded="i64",  # entries ever recorded
    transforms="i64",  # function transforms ever begun
)

# state.mode bits
GRAD = 1
SLOW = 2  # a feature is active that only the Python dispatcher knows: one of the bits above SEEN
SEEN = 4  # the thread's word has been set up
FUNCTION = 8  # inside a function that is being transformed: in-place operations and backward are looked at in Python
SHOWN = 16  # in inference mode, where nothing is recorded: what is_grad_enabled says
FEATURES = ~0xFF  # the bits of such features
INFERENCE_MODE = 1 << 8
UNRECORDED = 1 << 16  # of a call that is taught to the call cache: it is within a no_grad of its own
GRAD_MODES = GRAD | SHOWN | INFERENCE_MODE | UNRECORDED
