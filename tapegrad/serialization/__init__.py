"""`save` and `load`: torch's zip container, readable and writable by both libraries.

    archive/data.pkl        the object, pickled (protocol 2); a tensor is _rebuild_tensor_v2(storage, offset, size, stride, ...)
    archive/data/<key>      the bytes of each storage, once, however many tensors look into it
    archive/byteorder, version, ...

Names of torch stand in the pickle (`torch FloatStorage`, `torch._utils _rebuild_tensor_v2`); `writing.Pickler` and `reading.torch_globals`
say what they are here, so nothing of torch is imported.  Reading is restricted by default (`restricted.py`).
"""

from tapegrad.restricted import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals
from tapegrad.serialization.reading import load
from tapegrad.serialization.writing import save

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
