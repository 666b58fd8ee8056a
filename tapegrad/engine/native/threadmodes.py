"""The mode word, per thread: grad mode and the features that need Python.

The engine reads one word, that of the thread that ran last.  Every entry from Python calls `load_modes`; two comparisons when the
thread is the same.  All of this happens under the GIL without running Python, so threads cannot see each other's modes.
"""

from tapegrad.engine.layout import FEATURES, GRAD, SEEN, SLOW
from tapegrad.engine.native.capi import py_thread_id, py_thread_state, raw_realloc
from tapegrad.engine.native.native import native
from tapegrad.engine.native.pointers import load_i64, store_i64, the_state, zero_bytes


@native("i")
def thread_id():
    return py_thread_id(py_thread_state())


@native("v")
def load_modes():
    """Make the running thread's mode word the loaded one."""
    st = the_state()
    thread = thread_id()
    if st.thread != thread:
        swap_modes(thread)


@native("vi")
def swap_modes(thread):
    st = the_state()
    if thread >= st.thread_room or st.thread >= st.thread_room:
        room = 64 + 2 * (thread if thread > st.thread else st.thread)
        table = raw_realloc(st.thread_modes, room * 8)
        zero_bytes(table + st.thread_room * 8, (room - st.thread_room) * 8)
        st.thread_modes = table
        st.thread_room = room
    store_i64(st.thread_modes + st.thread * 8, st.mode)
    word = load_i64(st.thread_modes + thread * 8)
    st.mode = word if word else st.thread_start | GRAD | SEEN
    st.thread = thread


@native("i")
def get_mode():
    """The running thread's mode word."""
    load_modes()
    return the_state().mode


@native("iii")
def exchange_modes(mask, bits):
    """Give the running thread's mode bits in `mask` the values in `bits`; returns the word before."""
    load_modes()
    st = the_state()
    before = st.mode
    word = before & ~mask | bits | SEEN
    st.mode = word | SLOW if word & FEATURES else word & ~SLOW
    return before
