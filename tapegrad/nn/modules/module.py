"""Module: the base of all layers and models.

A module's parameters, buffers and children live in three dicts and look like attributes.  How it is called is in `calling`, how its
state is saved in `state`; here is what it holds: registration, attribute access, iteration, modes, conversion and printing.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections import OrderedDict

from tapegrad import creation, dtypes, modes
from tapegrad.nn.modules.calling import (
    Calling,
    HoldsGlobalHooks,
    hang,
    register_module_backward_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from tapegrad.nn.modules.state import Stateful
from tapegrad.nn.naming import typename
from tapegrad.nn.parameter import Buffer, Parameter
from tapegrad.ops.transformable import look_at
from tapegrad.tensor import Tensor

sys.modules[__name__].__class__ = HoldsGlobalHooks

_global_buffer_registration_hooks: dict = OrderedDict()
_global_module_registration_hooks: dict = OrderedDict()
_global_parameter_registration_hooks: dict = OrderedDict()

__all__ = [  # the names by which hooks of every module are known
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]
COMPLEX = (
    "Complex modules are a new feature under active development whose design may change, and some modules might not work as expected when using "
    "complex tensors as parameters or buffers. Please file an issue at https://github.com/pytorch/pytorch/issues/new?template=bug-report.yml if a "
    "complex module does not work as expected."
)
HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def register_module_buffer_registration_hook(hook):
    """Call `hook(module, name, buffer)` for every buffer that a module is given; what it returns takes its place."""
    return hang(_global_buffer_registration_hooks, hook)


def register_module_module_registration_hook(hook):
    """Call `hook(module, name, submodule)` for every submodule that a module is given; what it returns takes its place."""
    return hang(_global_module_registration_hooks, hook)


def register_module_parameter_registration_hook(hook):
    """Call `hook(module, name, parameter)` for every parameter that a module is given; what it returns takes its place."""
    return hang(_global_parameter_registration_hooks, hook)


def _announced(hooks, module, name, value):
    for hook in hooks.values():
        changed = hook(module, name, value)
        value = value if changed is None else changed
    return value


class Module(Calling, Stateful):
    """The base of all layers: assign Parameters and Modules in `__init__`, compute in `forward`, call the module.

    >>> import tapegrad as tg
    >>> class Double(tg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = tg.nn.Parameter(tg.tensor(2.))
    ...     def forward(self, x):
    ...         return self.scale * x
    >>> Double()(tg.ones(2))
    tensor([2., 2.], grad_fn=<MulBackward0>)
    """

    training: bool
    call_super_init = False
    dump_patches = False

    def __init__(self, *args, **kwargs):
        if not self.call_super_init and kwargs:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if not self.call_super_init and args:
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        own = self.__dict__
        own["training"] = True
        own["_parameters"], own["_buffers"], own["_non_persistent_buffers_set"], own["_modules"] = {}, {}, set(), {}
        own["_is_full_backward_hook"] = None
        for name in HOOKS:
            own[name] = OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    # --- registration ---------------------------------------------------------------------------------------------------
    def _check_name(self, kind, name, held, shown=False) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
        checks = [
            ("." in name, f'{kind} name can\'t contain "."' + (f", got: {name}" if shown else "")),
            (name == "", f'{kind} name can\'t be empty string ""'),
            (hasattr(self, name) and name not in held, f"attribute '{name}' already exists"),
        ]
        for wrong, message in (checks[-1:] + checks[:-1] if shown else checks):
            if wrong:
                raise KeyError(message)

    def register_buffer(self, name, tensor, persistent=True):
        """Add a tensor (or None) that is state but no parameter; only persistent ones are in the state_dict."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not (isinstance(tensor, Tensor) or hasattr(type(tensor), "__torch_function__")):
            raise TypeError(f"cannot assign '{typename(tensor)}' object to buffer '{name}' (tapegrad Tensor or None required)")
        self._buffers[name] = _announced(_global_buffer_registration_hooks, self, name, tensor)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_parameter(self, name, param):
        """Add a Parameter (or None)."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is None:
            self._parameters[name] = None
            return
        if not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{typename(param)}' object to parameter '{name}' (tapegrad.nn.Parameter or None required)")
        if param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To express '{name}' as a "
                "function of another Tensor, compute the value in the forward() method."
            )
        self._parameters[name] = _announced(_global_parameter_registration_hooks, self, name, param)

    def add_module(self, name, module):
        """Add a child module (or None)."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{typename(module)} is not a Module subclass")
        self._check_name("module", name, self._modules, shown=True)
        self._modules[name] = _announced(_global_module_registration_hooks, self, name, module)

    def register_module(self, name, module):
        """`add_module`."""
        self.add_module(name, module)

    # --- attributes -----------------------------------------------------------------------------------------------------
    def __getattr__(self, name):
        own = self.__dict__
        for place in ("_parameters", "_buffers", "_modules"):
            held = own.get(place)
            if held is not None and name in held:
                return held[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        own = self.__dict__
        parameters = own.get("_parameters")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_buffers", "_modules")
            self.register_parameter(name, value)
        elif parameters is not None and name in parameters:
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as parameter '{name}' (tapegrad.nn.Parameter or None expected)")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            modules = own.get("_modules")
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_parameters", "_buffers")
            modules[name] = _announced(_global_module_registration_hooks, self, name, value)
        elif name in own.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{typename(value)}' as child module '{name}' (tapegrad.nn.Module or None expected)")
            own["_modules"][name] = _announced(_global_module_registration_hooks, self, name, value)
        elif name in own.get("_buffers", ()) or isinstance(value, Buffer):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{typename(value)}' as buffer '{name}' (tapegrad.nn.Buffer, tapegrad.Tensor or None expected)")
            kept = value.persistent if isinstance(value, Buffer) else name not in self._non_persistent_buffers_set
            self._register_of_subclass(name, value, kept)
        else:
            super().__setattr__(name, value)

    def _register_of_subclass(self, name, value, persistent) -> None:
        """`register_buffer`, which a subclass may have replaced by one that knows nothing of `persistent`."""
        own = type(self).register_buffer
        if own is Module.register_buffer or "persistent" in inspect.signature(own).parameters:
            self.register_buffer(name, value, persistent)
        elif not persistent:
            raise RuntimeError(
                "Registering a non-persistent buffer with a Module subclass that implements register_buffer() without the persistent argument is "
                "not allowed."
            )
        else:
            self.register_buffer(name, value)

    def _forget(self, name, *places) -> None:
        own = self.__dict__
        own.pop(name, None)
        for place in places:
            own[place].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name):
        for held in (self._parameters, self._buffers, self._modules):
            if name in held:
                del held[name]
                if held is self._buffers:
                    self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __setstate__(self, state):
        self.__dict__.update(state)
        for name in HOOKS:  # pickled before the hook kind existed
            self.__dict__.setdefault(name, OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        self.__dict__.setdefault("_is_full_backward_hook", None)

    def __dir__(self):
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted(n for n in names if not n[0].isdigit())

    # --- by dotted name -------------------------------------------------------------------------------------------------
    def get_submodule(self, target):
        """The submodule of a dotted name; AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target, module, strict=False):
        """Put a module at a dotted name; with `strict` only in place of one that is there."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _member(self, target):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        return module, name, getattr(module, name)

    def get_parameter(self, target):
        """The parameter of a dotted name; AttributeError if there is none."""
        _, name, found = self._member(target)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    def get_buffer(self, target):
        """The buffer of a dotted name; AttributeError if there is none."""
        module, name, found = self._member(target)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    # --- iteration ------------------------------------------------------------------------------------------------------
    def _named_members(self, get_members_fn, prefix="", recurse=True, remove_duplicate=True):
        seen = set()
        for path, module in self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]:
            for name, value in get_members_fn(module):
                if value is None or value in seen:
                    continue
                if remove_duplicate:
                    seen.add(value)
                yield (path + "." if path else "") + name, value

    def parameters(self, recurse=True):
        """The parameters, those of submodules included; each once."""
        for _, value in self.named_parameters(recurse=recurse):
            yield value

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """(dotted name, parameter) pairs."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """The buffers, those of submodules included; each once."""
        for _, value in self.named_buffers(recurse=recurse):
            yield value

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """(dotted name, buffer) pairs."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self):
        """The immediate submodules; each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self):
        """(name, submodule) pairs of the immediate submodules."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self, remove_duplicate=True):
        """The module itself and all submodules; each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """(dotted name, module) pairs, the module itself first, with the name ''."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, prefix + ("." if prefix else "") + name, remove_duplicate)

    # --- conversion -----------------------------------------------------------------------------------------------------
    def _apply(self, fn, recurse=True):
        """Put `fn(tensor)` in the place of every parameter's data, its gradient and every buffer."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is not None:
                with modes.no_grad():
                    grad = param.grad
                    changed = fn(param)
                    changed_grad = None if grad is None else fn(grad)
                    param.grad = None
                    param.data = changed
                    if grad is not None:
                        grad.data = changed_grad
                        param.grad = grad
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def apply(self, fn):
        """Call `fn` with every submodule, children first, then with the module itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args, **kwargs):
        """Floating-point parameters and buffers in another dtype, in place: `to(dtype)`, `to(tensor)`, `to(device)`."""
        from tapegrad.device import check

        look_at("~to", *args, **kwargs)
        if kwargs.get("copy") or args and len(args) > (2 if isinstance(args[0], (dtypes.dtype, Tensor)) else 3):
            raise RuntimeError(".to() does not accept copy argument")
        dtype, form = kwargs.pop("dtype", None), kwargs.pop("memory_format", None)
        for a in args:
            if isinstance(a, dtypes.dtype):
                dtype = a
            elif isinstance(a, Tensor):
                dtype = a.dtype
            elif a is not None and not isinstance(a, bool):
                check(a)
        check(kwargs.pop("device", None))
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")
        if dtype is None and form is None:
            return self
        if dtype is not None and dtype.is_complex:
            warnings.warn(COMPLEX, UserWarning, stacklevel=2)
        fits = lambda t: form if t.dim() in (4, 5) else None  # torch asks no more of the format than that
        return self._apply(lambda t: t.to(dtype if t.is_floating_point() or t.is_complex() else None, memory_format=fits(t)))

    def float(self):
        """Floating-point parameters and buffers as float32, in place."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self):
        """Floating-point parameters and buffers as float64, in place."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self):
        """Floating-point parameters and buffers as float16, in place."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    def bfloat16(self):
        """Floating-point parameters and buffers as bfloat16, in place."""
        return self._apply(lambda t: t.bfloat16() if t.is_floating_point() else t)

    def to_empty(self, *, device, recurse=True):
        """Every parameter and buffer as an uninitialised one of its shape, in place."""
        return self._apply(lambda t: creation.empty_like(t, device=device), recurse)

    def type(self, dst_type):
        """Every parameter and buffer in a dtype, in place."""
        return self._apply(lambda t: t.type(dst_type))

    def cpu(self):
        """The module itself: there is no other device."""
        return self._apply(lambda t: t.cpu())

    # --- modes ----------------------------------------------------------------------------------------------------------
    def train(self, mode=True):
        """Set training mode, which dropout and normalisation look at."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self):
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Switch recording for every parameter."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Forget the gradients of every parameter, or fill them with zeros."""
        for p in self.parameters():
            reset_grad(p, set_to_none)

    # --- printing -------------------------------------------------------------------------------------------------------
    def _get_name(self):
        return type(self).__name__

    def extra_repr(self):
        """What `repr` shows of the module besides its children."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [f"({name}): " + indented(repr(module)) for name, module in self._modules.items()]
        if len(extra_lines) == 1 and not child_lines:
            return f"{self._get_name()}({extra_lines[0]})"
        lines = extra_lines + child_lines
        return self._get_name() + "(" + ("\n  " + "\n  ".join(lines) + "\n" if lines else "") + ")"


def indented(text: str) -> str:
    """`text` with every line but the first indented by two spaces."""
    first, *rest = text.split("\n")
    return "\n".join([first, *("  " + line if line.strip() else "" for line in rest)])


def reset_grad(p, set_to_none: bool) -> None:
    """Forget the gradient of a parameter, or fill it with zeros."""
    grad = p.grad
    if grad is None:
        return
    if set_to_none:
        p.grad = None
        return
    if grad.grad_fn is not None:
        grad.detach_()
    else:
        grad.requires_grad_(False)
    grad.zero_()
