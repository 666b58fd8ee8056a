"""How error messages name things."""

from __future__ import annotations

import types

from tapegrad.tensor import Tensor


def typename(value) -> str:
    """The type of a value as messages have it: 'int', 'tapegrad.FloatTensor', 'tapegrad.nn.modules.linear.Linear'."""
    if isinstance(value, Tensor):
        return value.type()
    kind = value if isinstance(value, type) else type(value)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__builtin__", "", None) else f"{module}.{kind.__qualname__}"


BASES = ("Nd", "_BatchNorm", "_InstanceNorm", "_Loss", "_WeightedLoss")  # ends of names of bases that torch has too


def torch_owner(kind: str, name: str) -> str:
    """The class whose method it is in torch."""
    if kind.startswith("BatchNorm"):
        return "_BatchNorm"
    if name == "__init__" and kind in ("RNN", "LSTM", "GRU"):
        return "RNNBase"
    if name == "forward" and kind[:-2].endswith("Pad"):
        return f"_{kind[:-2].replace('Zero', 'Constant')}Nd"
    return kind


def named_apart(kinds) -> None:
    """Let each class's constructor and `forward` say in Python's errors what they are called in torch, though one base has them for several."""
    for kind in kinds:
        for name in ("__init__", "forward"):
            f = getattr(kind, name)
            owner = f.__qualname__.partition(".")[0]
            if torch_owner(kind.__name__, name) not in (kind.__name__, owner) or owner.startswith("_") and not owner.endswith(BASES) or owner[:-2] == kind.__name__[:-2] != kind.__name__:
                own = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
                own.__kwdefaults__, own.__doc__, own.__qualname__ = f.__kwdefaults__, f.__doc__, f"{torch_owner(kind.__name__, name)}.{name}"
                setattr(kind, name, own)
