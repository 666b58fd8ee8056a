"""state_dict and load_state_dict: a module's parameters and buffers by dotted name, saved and restored."""

from __future__ import annotations

import collections
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Mapping

from tapegrad import modes
from tapegrad.nn.modules.calling import hang
from tapegrad.nn.uninitialized import is_lazy
from tapegrad.nn_parameter import Parameter
from tapegrad.tensor import Tensor

EXTRA = "_extra_state"


class _IncompatibleKeys(collections.namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load_state_dict` returns."""

    __slots__ = ()

    def __repr__(self):
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


def _no_extra_state(method):
    raise RuntimeError(f"Reached a code path in Module.{method}() that should never be called.")


class Stateful:
    """The part of Module that saves and restores its state."""

    _parameters: dict
    _buffers: dict
    _modules: dict
    _non_persistent_buffers_set: set
    _load_state_dict_pre_hooks: dict

    _version = 1

    def get_extra_state(self):
        """What a subclass wants to keep in the state_dict besides tensors; goes with `set_extra_state`."""
        _no_extra_state("get_extra_state")

    def set_extra_state(self, state):
        """Take back what `get_extra_state` gave."""
        _no_extra_state("set_extra_state")

    def _local_state(self) -> dict:
        kept = [(k, v) for k, v in self._buffers.items() if k not in self._non_persistent_buffers_set]
        return {k: v for k, v in (*self._parameters.items(), *kept) if v is not None}

    # --- saving ---------------------------------------------------------------------------------------------------------
    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        for name, value in self._local_state().items():
            destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        """Every parameter and persistent buffer by dotted name, detached (unless `keep_vars`) and sharing memory, in an OrderedDict."""
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead. Refer to "
                "https://pytorch.org/docs/main/generated/torch.nn.Module.html#torch.nn.Module.state_dict for details.",
                FutureWarning, stacklevel=2,
            )
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            changed = hook(self, destination, prefix, metadata)
            if changed is not None:
                if getattr(hook, "_from_public_api", False):
                    raise RuntimeError("state_dict post-hook must return None")
                destination = changed
        return destination

    def _register_state_dict_hook(self, hook):
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was previously registered via register_state_dict_post_hook"
            )
        return hang(self._state_dict_hooks, hook)

    def register_state_dict_post_hook(self, hook):
        """Call `hook(module, state_dict, prefix, local_metadata)` once the module's state is in the dict; it may change the dict."""
        hook._from_public_api = True
        return hang(self._state_dict_hooks, hook)

    def register_state_dict_pre_hook(self, hook):
        """Call `hook(module, prefix, keep_vars)` before the module's state is collected."""
        return hang(self._state_dict_pre_hooks, hook)

    # --- loading --------------------------------------------------------------------------------------------------------
    def _register_load_state_dict_pre_hook(self, hook, with_module=False):
        return hang(self._load_state_dict_pre_hooks, _Bound(hook, self) if with_module else hook)

    def register_load_state_dict_pre_hook(self, hook):
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` before loading."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook):
        """Call `hook(module, incompatible_keys)` after loading; it may change the two lists."""
        return hang(self._load_state_dict_post_hooks, hook)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs) -> None:
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        local = self._local_state()
        for name, held in local.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            given = state_dict[key]
            if not isinstance(given, Tensor):
                error_msgs.append(
                    f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint but received {type(given)}'
                )
                continue
            if is_lazy(held):  # and so is what is given, or a lazy module's hook would have seen to it
                pass
            elif held.ndim == 0 and tuple(given.shape) == (1,):
                given = given[0]
            if not is_lazy(held) and given.shape != held.shape:
                error_msgs.append(
                    f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, the shape in current model is {held.shape}."
                )
                continue
            try:
                with modes.no_grad():
                    if local_metadata.get("assign_to_params_buffers", False):
                        self._adopt(name, held, given)
                    else:
                        held.copy_(given)
            except Exception as error:
                error_msgs.append(
                    f'While copying the parameter named "{key}", whose dimensions in the model are {held.size()} and whose dimensions in the '
                    f"checkpoint are {given.size()}, an exception occurred : {error.args}."
                )
        extra = prefix + EXTRA
        if type(self).set_extra_state is not Stateful.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    first, *deeper = key[len(prefix) :].split(".", 1)
                    if first not in (self._modules if deeper else local):
                        unexpected_keys.append(key)

    def _adopt(self, name, held, given) -> None:
        if isinstance(held, Parameter):
            if isinstance(given, Parameter):
                given.requires_grad_(held.requires_grad)
            else:
                given = Parameter(given, requires_grad=held.requires_grad)
        setattr(self, name, given)

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy a state_dict into the module's own tensors; with `assign` its tensors take their place.

        Returns the missing and the unexpected keys; `strict` makes them, like a shape that differs, a RuntimeError.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata

        _load(self, state_dict, "", metadata, assign, missing, unexpected, errors)
        if strict:
            for what, keys in (("Unexpected", unexpected), ("Missing", missing)):
                if keys:
                    errors.insert(0, f"{what} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in keys) + ". ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return _IncompatibleKeys(missing, unexpected)


def _load(module, state, prefix, metadata, assign, missing, unexpected, errors) -> None:
    """Load a module and its children, whose keys start with `prefix`; what goes wrong is added to the lists."""
    local = {} if metadata is None else metadata.get(prefix[:-1], {})
    if assign:
        local["assign_to_params_buffers"] = assign
    module._load_from_state_dict(state, prefix, local, True, missing, unexpected, errors)
    for name, child in module._modules.items():
        if child is not None:
            start = prefix + name + "."
            _load(child, {k: v for k, v in state.items() if k.startswith(start)}, start, metadata, assign, missing, unexpected, errors)
    for hook in module._load_state_dict_post_hooks.values():
        if hook(module, _IncompatibleKeys(missing, unexpected)) is not None:
            raise AssertionError(
                "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new values, if incompatible_keys "
                "need to be modified, it should be done inplace."
            )


class _Bound:
    """A hook with its module, which it does not keep alive, before the other arguments; picklable, unlike a closure."""

    def __init__(self, hook, module):
        self.hook, self.module = hook, weakref.ref(module)

    def __call__(self, *args):
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return self.hook(module, *args)

    def __getstate__(self):
        return self.hook, self.module()

    def __setstate__(self, state):
        self.hook, module = state
        if module is None:
            raise RuntimeError("You are trying to revive the hook of a dead Module!")
        self.module = weakref.ref(module)
