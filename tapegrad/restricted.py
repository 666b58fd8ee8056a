"""The restricted unpickler behind `load(weights_only=True)`: only globals on a list, only opcodes that plain data needs.

A pickle is a program; what makes one dangerous is which callables it may name and which objects it may change.  Here a GLOBAL must be
on the list (`ALLOWED`, plus `add_safe_globals`), REDUCE and NEWOBJ must call something on it, and BUILD, APPEND and SETITEM work on a few types
only.  The opcodes that remain build tuples, lists, dicts, strings and numbers.
"""

from __future__ import annotations

import _codecs
import pickle
from collections import Counter, OrderedDict
from typing import ClassVar

MODULES_REFUSED = ("sys", "os", "posix", "nt")
_safe: set = set()

ALLOWED: dict[str, object] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "_codecs.encode": _codecs.encode,  # bytes
    "builtins.bytearray": bytearray,
    "builtins.set": set,
    "builtins.complex": complex,
}
PYTHON_2 = {"copy_reg": "copyreg", "__builtin__": "builtins"}


def add_safe_globals(safe_globals) -> None:
    """Let `load(weights_only=True)` use these classes and functions; an item may be (object, its full path in the file)."""
    _safe.update(safe_globals)


def get_safe_globals() -> list:
    """What `add_safe_globals` has been given."""
    return list(_safe)


def clear_safe_globals() -> None:
    """Forget what `add_safe_globals` has been given."""
    _safe.clear()


class safe_globals:
    """`add_safe_globals` until the end of a with block."""

    def __init__(self, safe_globals):
        self.safe_globals = list(safe_globals)

    def __enter__(self):
        add_safe_globals(self.safe_globals)

    def __exit__(self, *exception):
        _safe.difference_update(self.safe_globals)


def added() -> dict[str, object]:
    """Full path -> object of what the user allows."""
    result = {}
    for item in _safe:
        if isinstance(item, tuple):
            if len(item) != 2:
                raise ValueError(f"Expected tuple of length 2 (global, str of callable full path), but got tuple of length: {len(item)}")
            if type(item[1]) is not str:
                raise TypeError(f"Expected second item in tuple to be str of callable full path, but got: {type(item[1])}")
            result[item[1]] = item[0]
        else:
            result[f"{item.__module__}.{item.__qualname__}"] = item
    return result


class Unpickler(pickle._Unpickler):  # the one written in Python: its opcodes can be replaced
    """Reads plain data; `storage` brings what a persistent id names."""

    dispatch: ClassVar[dict] = {}

    def __init__(self, file, allowed: dict, storage):
        super().__init__(file, encoding="utf-8")
        self.storage = storage
        self.allowed = {**ALLOWED, **allowed, **added()}
        self.callables = [c for c in self.allowed.values() if callable(c)]

    def load(self):
        try:
            return super().load()
        except pickle.UnpicklingError:
            raise
        except KeyError as error:
            raise pickle.UnpicklingError(f"Unsupported operand {error}") from error
        except (EOFError, IndexError, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise pickle.UnpicklingError(f"The pickled data are damaged ({type(error).__name__}: {error})") from error

    def persistent_load(self, pid):
        return self.storage(pid)

    def find_class(self, module, name):
        module = PYTHON_2.get(module, module)
        path = f"{module}.{name}"
        if module in MODULES_REFUSED:
            raise pickle.UnpicklingError(f"Trying to load unsupported GLOBAL {path} whose module {module} is blocked.")
        if path not in self.allowed:
            path = path.removeprefix("builtins.")
            raise pickle.UnpicklingError(
                f"Unsupported global: GLOBAL {path} was not an allowed global by default. Please use "
                f"`tapegrad.serialization.add_safe_globals([{path}])` or the `tapegrad.serialization.safe_globals([{path}])` context manager to "
                "allowlist this global if you trust this class/function."
            )
        return self.allowed[path]

    def _called(self, function) -> None:
        if not any(function is c for c in self.callables):
            raise pickle.UnpicklingError(f"Trying to call reduce for unrecognized function {function}")

    def load_reduce(self):
        self._called(self.stack[-2])
        super().load_reduce()

    def load_newobj(self):
        if not any(self.stack[-2] is c for c in self.callables):
            raise pickle.UnpicklingError(
                "Can only create new object for nn.Parameter or classes allowlisted via `add_safe_globals` but got "
                f"{self.stack[-2]}"
            )
        super().load_newobj()

    def load_build(self):
        state, instance = self.stack[-1], self.stack[-2]
        if type(instance) is OrderedDict:
            if not isinstance(state, dict):
                raise pickle.UnpicklingError("the state of an OrderedDict must be a dict")
            instance.__dict__.update(state)
            self.stack.pop()
        elif type(instance) in added().values():
            super().load_build()
        else:
            raise pickle.UnpicklingError(
                f"Can only build Tensor, Parameter, OrderedDict or types allowlisted via `add_safe_globals`, but got {type(instance)}"
            )

    def _list(self, target, verb) -> None:
        if type(target) is not list:
            raise pickle.UnpicklingError(f"Can only {verb} lists, but got {type(target)}")

    def load_append(self):
        self._list(self.stack[-2], "append to")
        super().load_append()

    def load_appends(self):
        self._list(self.metastack[-1][-1], "extend")
        super().load_appends()

    def _dict(self, target, opcode) -> None:
        if type(target) not in (dict, OrderedDict, Counter):
            raise pickle.UnpicklingError(
                f"Can only {opcode} for dict, collections.OrderedDict, collections.Counter, but got {type(target)}"
            )

    def load_setitem(self):
        self._dict(self.stack[-3], "SETITEM")
        super().load_setitem()

    def load_setitems(self):
        self._dict(self.metastack[-1][-1], "SETITEMS")
        super().load_setitems()

    def load_binpersid(self):
        key = self.stack[-1]
        if type(key) is not tuple or len(key) != 5 or key[0] != "storage":
            raise pickle.UnpicklingError("Only persistent_load of storage is allowed")
        super().load_binpersid()


PLAIN_OPCODES = (
    "PROTO EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT "
    "BINUNICODE SHORT_BINSTRING BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1 STOP GLOBAL"
).split()
Unpickler.dispatch = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in PLAIN_OPCODES}
for _name in ("REDUCE", "NEWOBJ", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPERSID"):
    Unpickler.dispatch[getattr(pickle, _name)[0]] = getattr(Unpickler, "load_" + _name.lower())
