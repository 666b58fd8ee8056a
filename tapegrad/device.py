"""The one device there is."""

from __future__ import annotations

import enum


class DLDeviceType(enum.IntEnum):
    """Kinds of device by the numbers of the DLPack protocol."""

    kDLCPU = 1

    def __repr__(self):
        return f"<DLDeviceType.{self.name}: {self.value}>"


KNOWN = ("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla", "lazy", "vulkan", "mps", "meta", "hpu", "mtia",
         "privateuseone")  # fmt: skip


class device:
    """`device("cpu")`; any other name is refused."""

    __slots__ = ("type", "index")

    def __init__(self, type="cpu", index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        if isinstance(type, str) and ":" in type:
            type, _, number = type.partition(":")
            if not number.isdecimal():
                raise RuntimeError(f"Invalid device string: '{type}:{number}'")
            index = int(number)
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {type.__class__.__name__}")
        if type not in KNOWN:
            raise RuntimeError(f"Expected one of {', '.join(KNOWN)} device type at start of device string: {type}")
        if type != "cpu":
            raise RuntimeError(f"device {type!r} is not available: tapegrad computes on the CPU")
        self.type, self.index = type, index

    def __repr__(self):
        return f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)


CPU = device("cpu")


def check(chosen) -> None:
    """Raise for a device that is not the CPU."""
    if chosen is None or isinstance(chosen, device):
        return
    if isinstance(chosen, str):
        if chosen.partition(":")[0] == "cuda":
            raise AssertionError("Torch not compiled with CUDA enabled")
        device(chosen)
        return
    raise TypeError(f"device must be a string or a tapegrad.device, not {type(chosen).__name__}")
