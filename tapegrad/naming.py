"""What classes are called: `tapegrad.dtype` in Python's own error texts, whatever file the class is written in.

Python's texts about an object ("'torch.dtype' object is not callable") use the name in its type, which for types written in C, as PyTorch's
are, holds the module.  `known_as` gives a class such a name.  Where it lies in a type is checked when this module is loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

TP_NAME = 24  # byte offset of the name in PyTypeObject
_kept: list[ctypes.c_char_p] = []


def _cell(kind: type) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(id(kind) + TP_NAME)


def _is_there() -> bool:
    """Whether the name of a class made here is where it is looked for."""
    text = ctypes.pythonapi.PyUnicode_AsUTF8
    text.restype, text.argtypes = ctypes.c_void_p, [ctypes.py_object]
    probe = type("probe", (), {})
    return text(probe.__name__) == _cell(probe).value


KNOWN = _is_there()


def known_as(name: str, final: bool = False) -> Callable[[Any], Any]:
    """Let a class be called `name`, module and all; a `final` one is no base of others.

    >>> import tapegrad as tg
    >>> type(tg.float32)
    <class 'tapegrad.dtype'>
    """

    def rename(kind):
        kind.__module__ = name.rpartition(".")[0]
        if KNOWN:
            text = ctypes.c_char_p(name.encode())
            _kept.append(text)
            _cell(kind).value = ctypes.cast(text, ctypes.c_void_p).value
        if final:
            kind.__init_subclass__ = classmethod(_refuse(name))
        return kind

    return rename


def _refuse(name: str):
    def refuse(cls, **kwargs):
        raise TypeError(f"type '{name}' is not an acceptable base type")

    return refuse


def type_name(value) -> str:
    """What Python's own texts call the type of a value."""
    name = _cell(type(value)).value if KNOWN else None
    return ctypes.string_at(name).decode() if name else type(value).__name__
