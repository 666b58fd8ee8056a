"""tapegrad: PyTorch's tensor semantics and autograd for the CPU, on a flat tape replayed by compiled kernels.

    import tapegrad as tg
    x = tg.tensor([1., 2.], requires_grad=True)
    (x ** 2).sum().backward()
    x.grad                                  # tensor([2., 4.])

Importing compiles and loads nothing; the engine starts with the first tensor.
"""

from __future__ import annotations

import builtins as _builtins
import math as _math
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from tapegrad import cautions as _cautions, core, dtypes
from tapegrad.cautions import is_warn_always_enabled, set_warn_always
from tapegrad.assertions import CHECKS as _CHECKS
from tapegrad.determinism import (
    are_deterministic_algorithms_enabled,
    get_deterministic_debug_mode,
    is_deterministic_algorithms_warn_only_enabled,
    set_deterministic_debug_mode,
    use_deterministic_algorithms,
)
from tapegrad.device import device
from tapegrad.dtypes import dtype
from tapegrad.formats import channels_last, channels_last_3d, contiguous_format, layout, memory_format, preserve_format, strided
from tapegrad.geometry import Size
from tapegrad.limits import finfo, iinfo
from tapegrad.modes import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from tapegrad.ops import plan as _plan
from tapegrad.ops import table as _table
from tapegrad.printing import get_printoptions, printoptions, set_printoptions
from tapegrad.settings import (
    get_float32_matmul_precision,
    get_num_interop_threads,
    set_float32_matmul_precision,
    set_flush_denormal,
    set_num_interop_threads,
)
from tapegrad.tensor import Tensor

_table.load()

from tapegrad import autograd, random, utils  # noqa: E402 (they need the op table)
from tapegrad.autograd.anomaly_mode import is_anomaly_check_nan_enabled, is_anomaly_enabled, set_anomaly_enabled  # noqa: E402
from tapegrad.random import gamma as _gamma, tensors as _tensors  # noqa: E402
from tapegrad import install as _install  # noqa: E402
from tapegrad.foreach import FOREACH as _FOREACH  # noqa: E402
from tapegrad.legacy import TYPES as _TYPES  # noqa: E402
from tapegrad.memory import get_num_threads, set_num_threads  # noqa: E402
from tapegrad.ops.public import FUNCTIONS as _FUNCTIONS  # noqa: E402
from tapegrad.ops.public import made_public as _made_public  # noqa: E402
from tapegrad import storage as _storages  # noqa: E402
from tapegrad.storage import TypedStorage, UntypedStorage, is_storage  # noqa: E402
from tapegrad.tape import Tape  # noqa: E402
from tapegrad.ops.public import METHODS as _METHODS  # noqa: E402
from tapegrad.random import Generator, default_generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state  # noqa: E402


__version__ = "0.1.0"

globals().update(dtypes.BY_NAME)
for _name, _target in dtypes.ALIASES.items():
    globals()[_name] = dtypes.BY_NAME[_target]
globals().update({n: f for n, f in _FUNCTIONS.items() if n not in _install.function_names() or n in globals()})  # `tensor` is a module's name too
globals().update(_TYPES)
globals().update(_CHECKS)
globals().update(_FOREACH)
globals().update(_storages.LEGACY)
for _name, _value in _METHODS.items():
    setattr(Tensor, _name, _value)

nan, inf, pi, e = _math.nan, _math.inf, _math.pi, _math.e
newaxis = None


def set_default_dtype(d: dtype) -> None:
    """The dtype of tensors made from Python floats: float32 at first, or float64."""
    dtypes.set_default(d)
    _plan.forget()  # what calls without a dtype have made


def set_default_device(chosen) -> None:
    """The device of tensors made without one: there is only the CPU."""
    from tapegrad.device import check

    check(chosen)


def get_default_device():
    """The device of tensors made without one."""
    from tapegrad.device import CPU

    return CPU


def set_default_tensor_type(t) -> None:
    """The old form of `set_default_dtype`: a constructor such as `DoubleTensor`, or its name."""
    _cautions.warn_once(
        "tapegrad.set_default_tensor_type() is deprecated as of PyTorch 2.1, please use tapegrad.set_default_dtype() and "
        "tapegrad.set_default_device() as alternatives."
    )
    kind = _TYPES.get(t.rpartition(".")[2]) if isinstance(t, str) else t
    if kind is None or kind not in _TYPES.values():
        raise TypeError("invalid type object")
    set_default_dtype(kind.dtype)


def get_device(input) -> _builtins.int:
    """The number of a tensor's device: -1, as there is only the CPU."""
    return input.get_device()


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats."""
    return dtypes.default_dtype()


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that both can be converted to."""
    return dtypes.promote_types(type1, type2)


def can_cast(from_: dtype, to: dtype) -> _builtins.bool:
    """Whether a conversion keeps to its category or goes to a higher one."""
    return dtypes.can_cast(from_, to)


def result_type(tensor1, tensor2) -> dtype:
    """The dtype of an operation on the two (tensors or Python numbers)."""
    from tapegrad.dispatch import result_dtype

    return result_dtype([tensor1, tensor2])


def is_nonzero(input) -> _builtins.bool:
    """Whether a one-element tensor is not zero."""
    return _builtins.bool(input)


for _name in ("is_grad_enabled", "is_inference_mode_enabled", "is_anomaly_enabled", "is_anomaly_check_nan_enabled", "get_default_dtype", "get_num_threads",
              "promote_types", "can_cast", "result_type", "is_nonzero", "get_device"):
    globals()[_name] = _made_public(globals()[_name], _name, method=False, tensors=False)

# What many programs never use is imported at its first use.
_MODULES = ("_C", "amp", "backends", "cuda", "distributions", "fft", "func", "linalg", "nn", "optim", "overrides", "quasirandom", "return_types", "serialization", "special", "testing")
_NAMES = {"GradScaler": "amp", "load": "serialization", "save": "serialization", "typename": "nn.naming", "vmap": "func"}
_OF_NN = (
    "adaptive_avg_pool1d avg_pool1d bilinear celu conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity "
    "channel_shuffle hardshrink layer_norm group_norm max_pool1d max_pool2d max_pool3d pairwise_distance pixel_shuffle pixel_unshuffle prelu rms_norm rrelu selu threshold"
)
_NAMES |= dict.fromkeys(_OF_NN.split(), "nn.functional")
if _TYPE_CHECKING:
    from tapegrad.creation import tensor
    from tapegrad import amp, backends, cuda, distributions, fft, func, linalg, nn, optim, overrides, quasirandom, return_types, serialization, special, testing
    from tapegrad.amp import GradScaler
    from tapegrad.func import vmap
    from tapegrad.serialization import load, save


def __getattr__(name: str):
    if name in _MODULES:
        return _import_module("tapegrad." + name)
    if name in _NAMES:
        value = getattr(_import_module("tapegrad." + _NAMES[name]), name)
        value = globals()[name] = _made_public(value, name, method=False, tensors=False) if _NAMES[name] == "nn.functional" else value
        return value
    # Elementwise functions are compiled builtins, which exist once the engine runs.
    if not name.startswith("_"):
        if name in _install.function_names():
            core.start()
            return globals()[name]
    raise AttributeError(f"module 'tapegrad' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES, *(name for name in _install.function_names() if "." not in name)})
