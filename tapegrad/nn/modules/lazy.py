"""LazyModuleMixin: modules that learn the shapes of their parameters from their first input.

Until then they hold uninitialised parameters (`nn.uninitialized`).  A pre-hook of `forward` calls `initialize_parameters` with the input,
takes itself away and lets the module become an object of the class that it stands for (`cls_to_become`).
"""

from __future__ import annotations

import warnings
from itertools import chain
from typing import Any

from tapegrad import modes
from tapegrad.nn.uninitialized import is_lazy

NEW = "Lazy modules are a new feature under heavy development so changes to the API or functionality can happen at any moment."


class LazyModuleMixin:
    """Put before a module class; the subclass gives `initialize_parameters` and, in `__init__`, uninitialised parameters.

    >>> import tapegrad as tg
    >>> import warnings; warnings.simplefilter("ignore")
    >>> layer = tg.nn.LazyLinear(2)
    >>> layer.weight
    <UninitializedParameter>
    >>> layer(tg.ones(4, 3)).shape, layer
    (tapegrad.Size([4, 2]), Linear(in_features=3, out_features=2, bias=True))
    """

    cls_to_become: Any = None  # the class of the module once it is initialised

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)  # type: ignore[attr-defined]
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)  # type: ignore[attr-defined]
        warnings.warn(NEW, UserWarning, stacklevel=2)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for name, value in self._local_state().items():  # type: ignore[attr-defined]
            destination[prefix + name] = value if keep_vars or is_lazy(value) else value.detach()

    def _held(self):
        return chain(self._parameters.items(), self._buffers.items())  # type: ignore[attr-defined]

    def _lazy_load_hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        """What is loaded says which shapes the parameters have."""
        for name, held in self._held():
            given = state_dict.get(prefix + name)
            if given is not None and is_lazy(held) and not is_lazy(given):
                with modes.no_grad():
                    held.materialize(given.shape)

    def initialize_parameters(self, *args, **kwargs):
        """Materialize the parameters for the arguments that `forward` is about to be called with."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of the module itself is not initialised."""
        return any(is_lazy(held) for _, held in self._held())

    def _materialized(self, **shapes) -> None:
        """Give those of the parameters and buffers that there are these shapes, and all their first values."""
        with modes.no_grad():
            for name, shape in shapes.items():
                held = getattr(self, name)
                if held is not None:
                    held.materialize(shape)
            self.reset_parameters()  # type: ignore[attr-defined]

    def _infer_parameters(self, module, args, kwargs=None):
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")  # type: ignore[attr-defined]
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become
