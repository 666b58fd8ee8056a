"""weight_norm and spectral_norm as hooks: a weight computed anew before every call of its module, from parameters of other names.

The older form of `parametrizations.weight_norm` and `.spectral_norm`, kept because saved states have its names.
"""

from __future__ import annotations

import warnings

from tapegrad import linalg, modes
from tapegrad.nn import functional as F
from tapegrad.nn.parameter import Parameter, is_lazy
from tapegrad.nn.utils.parametrizations import matrix_of, norm_except, rescaled, spectral_dim

OLD = "`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`."


def _find(hooks, kind, name):
    """The id of the hook of a kind for the tensor `name`."""
    return next((k for k, hook in hooks.items() if isinstance(hook, kind) and hook.name == name), None)


class WeightNorm:
    """The hook of `weight_norm`: weight = g v / |v|."""

    def __init__(self, name, dim):
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module):
        """The weight from the lengths `<name>_g` and the directions `<name>_v`."""
        return rescaled(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    def __call__(self, module, inputs):
        setattr(module, self.name, self.compute_weight(module))


def refuse_lazy(rule: str, what: str, weight) -> None:
    """Raise for a weight whose shape is not known yet."""
    if is_lazy(weight):
        raise ValueError(
            f"The module passed to `{rule}` can't have uninitialized parameters. Make sure to run the dummy forward before applying {what} "
            "normalization"
        )


def weight_norm(module, name="weight", dim=0):
    """Split a weight into lengths `<name>_g` and directions `<name>_v` (deprecated: `parametrizations.weight_norm`); returns the module."""
    warnings.warn(OLD, FutureWarning, stacklevel=2)
    if _find(module._forward_pre_hooks, WeightNorm, name) is not None:
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    hook, weight = WeightNorm(name, dim), getattr(module, name)
    refuse_lazy("WeightNorm", "weight", weight)
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(norm_except(weight, hook.dim).data))
    module.register_parameter(name + "_v", Parameter(weight.data))
    hook(module, None)
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module, name="weight"):
    """Make the weight an ordinary parameter again, with the value that it has; returns the module."""
    k = _find(module._forward_pre_hooks, WeightNorm, name)
    if k is None:
        raise ValueError(f"weight_norm of '{name}' not found in {module}")
    weight = module._forward_pre_hooks.pop(k).compute_weight(module)
    delattr(module, name)
    del module._parameters[name + "_g"], module._parameters[name + "_v"]
    setattr(module, name, Parameter(weight.data))
    return module


class SpectralNorm:
    """The hook of `spectral_norm`: weight = original / its largest singular value."""

    _version = 1

    def __init__(self, name="weight", n_power_iterations=1, dim=0, eps=1e-12):
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute_weight(self, module, do_power_iteration):
        """The weight, after steps of the power method (in place, in the module's buffers) if wanted."""
        weight, u, v = (getattr(module, self.name + end) for end in ("_orig", "_u", "_v"))
        matrix = matrix_of(weight, self.dim)
        if do_power_iteration:
            with modes.no_grad():
                for _ in range(self.n_power_iterations):
                    F.normalize(matrix.t().mv(u), dim=0, eps=self.eps, out=v)
                    F.normalize(matrix.mv(v), dim=0, eps=self.eps, out=u)
                u, v = u.clone(), v.clone()
        return weight / u.dot(matrix.mv(v))

    def __call__(self, module, inputs):
        setattr(module, self.name, self.compute_weight(module, module.training))


class _SavedVersion:
    """Notes in a state's metadata by which version of the hook it was written."""

    def __init__(self, hook):
        self.hook, self.name = hook, hook.name

    def __call__(self, module, state_dict, prefix, local_metadata):
        versions, key = local_metadata.setdefault("spectral_norm", {}), self.name + ".version"
        if key in versions:
            raise RuntimeError(f"Unexpected key in metadata['spectral_norm']: {key}")
        versions[key] = self.hook._version


class _LoadedVersion:
    """Finds the right singular vector for states that were written without it."""

    def __init__(self, hook):
        self.hook, self.name = hook, hook.name

    def __call__(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs):
        version = local_metadata.get("spectral_norm", {}).get(self.name + ".version")
        if version is not None and version >= 1:
            return
        key = prefix + self.name
        if version is None and key not in state_dict and all(key + end in state_dict for end in ("_orig", "_u", "_v")):
            return
        absent = [key + end for end in ("_orig", "", "_u") if key + end not in state_dict]
        if absent:
            missing_keys.extend(absent if strict else ())
            return
        with modes.no_grad():
            original, u = state_dict[key + "_orig"], state_dict[key + "_u"]
            sigma = (original / state_dict.pop(key)).mean()
            matrix = matrix_of(original, self.hook.dim)
            v = linalg.pinv(matrix.t() @ matrix) @ (matrix.t() @ u)
            state_dict[key + "_v"] = v * (sigma / u.dot(matrix.mv(v)))


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """Divide a weight by its largest singular value before every call (see also `parametrizations.spectral_norm`); returns the module."""
    if _find(module._forward_pre_hooks, SpectralNorm, name) is not None:
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    hook = SpectralNorm(name, n_power_iterations, spectral_dim(module, dim), eps)
    weight = module._parameters[name]
    if weight is None:
        raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    refuse_lazy("SpectralNorm", "spectral", weight)
    with modes.no_grad():
        u, v = (F.normalize(weight.new_empty(size).normal_(0, 1), dim=0, eps=eps) for size in matrix_of(weight, hook.dim).size())
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.data)  # what code that reads it before the first call finds
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    module.register_forward_pre_hook(hook)
    module._register_state_dict_hook(_SavedVersion(hook))
    module._register_load_state_dict_pre_hook(_LoadedVersion(hook))
    return module


def remove_spectral_norm(module, name="weight"):
    """Make the weight an ordinary parameter again, with the value that it has; returns the module."""
    k = _find(module._forward_pre_hooks, SpectralNorm, name)
    if k is None:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    with modes.no_grad():
        weight = module._forward_pre_hooks.pop(k).compute_weight(module, False)
    for end in ("", "_u", "_v", "_orig"):
        delattr(module, name + end)
    module.register_parameter(name, Parameter(weight.detach()))
    for hooks, kind in ((module._state_dict_hooks, _SavedVersion), (module._load_state_dict_pre_hooks, _LoadedVersion)):
        hooks.pop(_find(hooks, kind, name), None)
    return module
