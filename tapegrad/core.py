"""The engine as Python uses it: compiled functions by name, started at first use.

`core.allocate_slot(...)`, `core.elementwise(...)` are builtin functions over slot numbers.  The first access starts the engine (8 ms with a
warm cache; compiling it takes seconds once per machine), so importing tapegrad compiles and loads nothing.
"""

from __future__ import annotations

import ctypes
import os

from tapegrad import dtypes, geometry, locks
from tapegrad.engine import bind, build, layout
from tapegrad.engine.bind import EXPORTS, state_cell

mode = state_cell("mode")
sweeping = state_cell("sweeping")
sweep_owner = state_cell("sweep_owner")
sweep_entry = state_cell("sweep_entry")
sweep_retain = state_cell("sweep_retain")
error_a = state_cell("error_a")
error_b = state_cell("error_b")
leaves_count = state_cell("leaves_count")
entry_count = state_cell("entry_count")
entry_live = state_cell("entry_live")
slot_live = state_cell("slot_live")
bytes_live = state_cell("bytes_live")
threads = state_cell("threads")

GEOMETRY = layout.SLOT.offset["geometry"]
DTYPE = layout.SLOT.offset["dtype"]
FLAGS = layout.SLOT.offset["flags"]
ENTRY = layout.SLOT.offset["entry"]
GRAD = layout.SLOT.offset["grad"]
COTANGENT = layout.SLOT.offset["cotangent"]
VERSION = layout.SLOT.offset["version"]
OUTPUT_NR = layout.SLOT.offset["output_nr"]
BUFFER = layout.SLOT.offset["buffer"]
DATA = layout.SLOT.offset["data"]
ENTRY_OP = layout.ENTRY.offset["op"]
ENTRY_FLAGS = layout.ENTRY.offset["flags"]
ENTRY_INPUTS = layout.ENTRY.offset["inputs"]
ENTRY_NOUT = layout.ENTRY.offset["nout"]

_started = False
_inside: list[bool] = []


def __getattr__(name: str):
    if not _started and (name in EXPORTS or name in ("apply", "engine")):
        start()
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module 'tapegrad.core' has no attribute {name!r}")


def started() -> bool:
    """Whether the engine runs."""
    return _started


def start() -> None:
    """Load the compiled engine and hang the fast paths on Tensor."""
    if not _started:
        with locks.starting:
            if not _started and not _inside:
                _inside.append(True)
                try:
                    _start()
                finally:  # interrupted while it compiled, it begins again
                    _inside.clear()


@build.no_collection()
def _start() -> None:
    global _started
    from tapegrad import install, memory

    engine = bind.Engine(install.thunks())
    for name in EXPORTS:
        globals()[name] = engine.function("py_" + name, name)
    globals()["apply"] = engine.function("py_apply", "apply", keywords=True)
    globals()["engine"] = engine
    state_cell("check").value = 64 if os.environ.get("TAPEGRAD_CHECK", "0") not in ("", "0") else 0
    sizes = (ctypes.c_int64 * dtypes.CODES).from_address(state_cell("itemsize").value)
    objects = (ctypes.c_int64 * dtypes.CODES).from_address(state_cell("dtypes").value)
    for code, d in enumerate(dtypes.OF_SLOT):
        sizes[code], objects[code] = d.itemsize, id(d)
    geometry.start()
    install.start(engine)
    memory.start()
    _started = True
    install.started()


def slot_view():
    """The slot table as a structured array (valid until it grows)."""
    return layout.SLOT.view(state_cell("slots").value, state_cell("slot_count").value)


def buffer_view():
    return layout.BUFFER.view(state_cell("buffers").value, state_cell("buffer_count").value)


def buffer_of(slot: int):
    """The row of the buffer that a slot looks into (valid until the table moves)."""
    return layout.BUFFER.row.from_address(state_cell("buffers").value + get_field(slot, BUFFER) * layout.BUFFER.size)  # type: ignore[name-defined]  # noqa: F821  # compiled


def memory_of(slot: int) -> tuple[int, int]:
    """(address, bytes) of the memory that a slot looks into."""
    row = buffer_of(slot)
    return row.memory, row.nbytes - row.hidden


def looking_at(tensor, d, g: int, offset: int):
    """A tensor of dtype `d` and geometry `g` over the memory of `tensor`, from byte `offset` of it on."""
    slot = view_slot(tensor._slot, g, memory_of(tensor._slot)[0] + offset - data_of(tensor._slot))  # type: ignore[name-defined]  # noqa: F821
    set_field(slot, DTYPE, d.code)  # type: ignore[name-defined]  # noqa: F821
    return wrap(slot)  # type: ignore[name-defined]  # noqa: F821


def entry_view():
    return layout.ENTRY.view(state_cell("entries").value, entry_count.value)


def leaves() -> list[int]:
    """The slots that the sweep under way has left for Python."""
    count = leaves_count.value
    return list((ctypes.c_int64 * count).from_address(state_cell("leaves").value))
