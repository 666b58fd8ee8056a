"""The one device there is."""

from __future__ import annotations

import enum

from tapegrad.naming import known_as, type_name


class DLDeviceType(enum.IntEnum):
    """Kinds of device by the numbers of the DLPack protocol."""

    kDLCPU = 1

    def __repr__(self):
        return f"<DLDeviceType.{self.name}: {self.value}>"


KNOWN = ("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla", "lazy", "vulkan", "mps", "meta", "hpu", "mtia",
         "privateuseone")  # fmt: skip


def arguments(*args, **kwargs):
    """The type (or device) and index of a call of `device`."""
    given = {**dict(zip(("type", "index"), args, strict=False)), **kwargs}
    if "device" in given and "type" not in given and "index" not in given:
        given["type"] = given.pop("device")
    if len(args) > 2 or "type" not in given or given.keys() - {"type", "index"}:
        raise refused(args, kwargs)
    if len(args) == 1 and not kwargs and not isinstance(args[0], (str, int, device)):
        item = f"list of [{', '.join(map(type_name, args[0]))}]" if isinstance(args[0], list) else type_name(args[0])
        raise refused(args, kwargs, f"      didn't match because some of the arguments have invalid types: (!{item}!)\n")
    return given["type"], given.get("index")


def refused(args: tuple, kwargs: dict, why: str = "") -> TypeError:
    """torch's error for arguments of `device` that fit neither of its forms."""
    named = ", ".join([*map(type_name, args), *(f"{k}={type_name(v)}" for k, v in kwargs.items())]) + (", " if kwargs else "")
    if kwargs and not args and not why:
        why = f"      didn't match because some of the keywords were incorrect: {', '.join(kwargs)}\n"
    return TypeError(
        f"device() received an invalid combination of arguments - got ({named}), but expected one of:\n * (torch.device device)\n{why}"
        " * (str type, int index = -1)\n"
    )


@known_as("tapegrad.device", final=True)
class device:
    """`device("cpu")`; any other name is refused."""

    __slots__ = ("type", "index")

    def __init__(self, *args, **kwargs):
        type, index = arguments(*args, **kwargs)
        if isinstance(type, device):
            type, index = type.type, type.index
        if type == "":
            raise RuntimeError("Device string must not be empty")
        if isinstance(type, str) and ":" in type:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {type}")
            type, _, number = type.partition(":")
            if not number.isdecimal() or str(int(number)) != number:
                raise RuntimeError(f"Invalid device string: '{type}:{number}'")
            index = int(number)
        if not isinstance(type, str):
            if isinstance(type, int):
                raise RuntimeError("Cannot access accelerator device when none is available.")
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {type.__class__.__name__}")
        if index is not None and not isinstance(index, int):
            raise TypeError(f"device(): argument 'index' (position 2) must be int, not {index.__class__.__name__}")
        if index is not None and index < 0:
            raise RuntimeError("Device index must not be negative")
        if type not in KNOWN:
            raise RuntimeError(f"Expected one of {', '.join(KNOWN)} device type at start of device string: {type}")
        if type != "cpu":
            raise RuntimeError(f"device {type!r} is not available: tapegrad computes on the CPU")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "index", index)

    def __setattr__(self, name, value):
        if name in device.__slots__:
            raise AttributeError(f"attribute '{name}' of 'tapegrad.device' objects is not writable")
        raise AttributeError(f"'tapegrad.device' object has no attribute '{name}'")

    def __repr__(self):
        return f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self):
        return hash((self.type, self.index))

    def __enter__(self):
        return self  # tensors made inside are on it, as all are

    def __exit__(self, *exception):
        pass

    def __call__(self, function):
        return function

    def __reduce__(self):
        return device, (self.type, self.index)


CPU = device("cpu")


def check(chosen) -> None:
    """Raise for a device that is not the CPU."""
    if chosen is None or isinstance(chosen, device):
        return
    if isinstance(chosen, int):
        raise RuntimeError("Cannot access accelerator device when none is available.")
    if isinstance(chosen, str):
        if chosen.partition(":")[0] == "cuda":
            raise AssertionError("Torch not compiled with CUDA enabled")
        device(chosen)
        return
    raise TypeError(f"device must be a string or a tapegrad.device, not {type_name(chosen)}")
