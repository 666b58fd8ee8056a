"""Calling a module: forward and its hooks.

A module without hooks calls `forward` and nothing else (`Calling.__call__`).  Full backward hooks put an identity node before and after
`forward` (`BackwardHook`), whose hooks see the gradients of the module's inputs and outputs.
"""

from __future__ import annotations

import functools
import types
import warnings
import weakref
from collections import OrderedDict

from tapegrad import modes
from tapegrad.autograd.function import Function
from tapegrad.autograd.hooks import RemovableHandle
from tapegrad.tensor import Tensor

# Hooks of every module, in the order of registration.
_global_forward_pre_hooks: dict = OrderedDict()
_global_forward_hooks: dict = OrderedDict()
_global_forward_hooks_with_kwargs: dict = OrderedDict()
_global_forward_hooks_always_called: dict = OrderedDict()
_global_backward_pre_hooks: dict = OrderedDict()
_global_backward_hooks: dict = OrderedDict()
_global_is_full_backward_hook: bool | None = None



class HoldsGlobalHooks(types.ModuleType):
    """A Python module that shows the dicts of hooks above as its own, to be read and to be replaced (`nn.modules.module`)."""

    def __getattr__(self, name):
        if name.startswith("_global_") and name in globals():
            return globals()[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name, value):
        if name.startswith("_global_") and name in globals():
            globals()[name] = value
        else:
            super().__setattr__(name, value)


MIXED = "Cannot use both regular backward hooks and full backward hooks {}. Please use only one of them."
FIRING = (
    "Full backward hook is firing when gradients are computed with respect to module outputs since no inputs require gradients. See "
    "https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html#torch.nn.Module.register_full_backward_hook for more details."
)


def hang(hooks: OrderedDict, hook, marks=(), prepend: bool = False) -> RemovableHandle:
    """Register `hook`; `marks` are dicts in which its id is set to True as long as it is there."""
    handle = RemovableHandle(hooks, hook, marks)
    for mark in marks:
        mark[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


class BackwardHookFunction(Function):
    """The identity, whose node the gradients of a module's inputs or outputs pass together."""

    @staticmethod
    def forward(ctx, *args):
        ctx.mark_non_differentiable(*[a for a in args if not a.requires_grad])
        return args

    @staticmethod
    def backward(ctx, *args):
        return args


class BackwardHook:
    """The full backward hooks of one call: collects the gradients of the outputs, and runs the hooks once those of the inputs are there."""

    def __init__(self, module, hooks, pre_hooks):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs = None
        self.inputs = self.outputs = None  # the places of tensors, None where no gradient is computed
        self.input_count = self.output_count = 0

    @staticmethod
    def spread(places, values, count) -> tuple:
        result = [None] * count
        for place, value in zip(places, values, strict=True):
            result[place] = value
        return tuple(result)

    def through_node(self, args, hook):
        """`args` after an identity node with `hook`, and the places of its tensors; None if nothing requires grad."""
        places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        if not (modes.is_grad_enabled() and any(args[k].requires_grad for k in places)):
            return args, None
        fresh = BackwardHookFunction.apply(*[args[k] for k in places])
        next(t.grad_fn for t in fresh if t.grad_fn is not None).register_hook(hook)
        result = list(args)
        for place, value in zip(places, fresh, strict=True):
            result[place] = value
        return (tuple(result) if type(args) is tuple else type(args)(*result)), places

    def watch_inputs(self, args):
        def hook(grad_input, _):
            if self.grad_outputs is None:
                return None  # the gradient did not come through the module's outputs (double backward)
            found = self.spread(self.inputs, grad_input, self.input_count)
            for user in self.hooks:
                changed = user(self.module, found, self.grad_outputs)
                if changed is None:
                    continue
                changed = changed if isinstance(changed, (tuple, list)) else (changed,)
                if len(changed) != len(found):
                    raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(changed)}, but expected {len(found)}")
                found = changed
            self.grad_outputs = None
            return tuple(found[k] for k in self.inputs)

        self.input_count = len(args)
        args, self.inputs = self.through_node(args, hook)
        return args

    def watch_outputs(self, result):
        def hook(_, grad_output):
            self.grad_outputs = self.spread(self.outputs, grad_output, self.output_count)
            for user in self.pre_hooks:
                changed = user(self.module, self.grad_outputs)
                if changed is None:
                    continue
                changed = changed if isinstance(changed, (tuple, list)) else (changed,)
                if len(changed) != self.output_count:
                    raise RuntimeError(
                        f"Backward pre hook returned an invalid number of grad_output, got {len(changed)}, but expected {self.output_count}"
                    )
                self.grad_outputs = changed
            outputs = self.grad_outputs
            if self.inputs is None:
                self.fire_without_inputs()
            return tuple(outputs[k] for k in self.outputs)

        single = not isinstance(result, tuple)
        args = (result,) if single else result
        self.output_count = len(args)
        args, self.outputs = self.through_node(args, hook)
        return args[0] if single else args

    def fire_without_inputs(self) -> None:
        warnings.warn(FIRING, UserWarning, stacklevel=4)
        for user in self.hooks:
            changed = user(self.module, (None,) * self.input_count, self.grad_outputs)
            if changed is not None and not (isinstance(changed, tuple) and all(g is None for g in changed)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None for all gradients."
                )
        self.grad_outputs = None


def forward_unimplemented(self, *input) -> None:
    """What the module computes; every subclass has its own."""
    raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')


class Calling:
    """The part of Module that runs `forward` and its hooks."""

    _forward_hooks: OrderedDict
    _forward_hooks_with_kwargs: OrderedDict
    _forward_hooks_always_called: OrderedDict
    _forward_pre_hooks: OrderedDict
    _forward_pre_hooks_with_kwargs: OrderedDict
    _backward_hooks: OrderedDict
    _backward_pre_hooks: OrderedDict

    forward = forward_unimplemented
    forward.__name__ = "forward"

    def __call__(self, *args, **kwargs):
        """Run `forward`, with the hooks around it."""
        if not (
            self._backward_hooks or self._backward_pre_hooks or self._forward_hooks or self._forward_pre_hooks
            or _global_backward_pre_hooks or _global_backward_hooks or _global_forward_hooks or _global_forward_pre_hooks
        ):
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)

    def _call_with_hooks(self, args, kwargs):
        called: set[int] = set()
        held: dict = {"result": None, "args": args, "kwargs": kwargs}
        try:
            return self._run_with_hooks(held, called)
        except Exception:
            self._run_always_called(held, called)
            raise

    def _run_with_hooks(self, held, called):
        full, partial = self._get_backward_hooks()
        pre_hooks = self._get_backward_pre_hooks()
        self._run_pre_hooks(held)
        backward = None
        if full or pre_hooks:
            backward = BackwardHook(self, full, pre_hooks)
            held["args"] = backward.watch_inputs(held["args"])
        held["result"] = self.forward(*held["args"], **held["kwargs"])
        for number, hook in (*_global_forward_hooks.items(), *self._forward_hooks.items()):
            if number in self._forward_hooks_always_called or number in _global_forward_hooks_always_called:
                called.add(number)
            changed = self._run_forward_hook(number, hook, held)
            if changed is not None:
                held["result"] = changed
        result = held["result"]
        if backward is not None:
            if not isinstance(result, (Tensor, tuple)):
                warnings.warn(
                    f"For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but received {type(result)}",
                    UserWarning, stacklevel=4,
                )
            result = backward.watch_outputs(result)
        if partial:
            self._hang_partial(partial, held["args"], result)
        return result

    def _run_pre_hooks(self, held) -> None:
        for number, hook in (*_global_forward_pre_hooks.items(), *self._forward_pre_hooks.items()):
            if number in self._forward_pre_hooks_with_kwargs:
                changed = hook(self, held["args"], held["kwargs"])
                if changed is None:
                    continue
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
                held["args"], held["kwargs"] = changed
            else:
                changed = hook(self, held["args"])
                if changed is not None:
                    held["args"] = changed if isinstance(changed, tuple) else (changed,)

    def _run_forward_hook(self, number, hook, held):
        if number in self._forward_hooks_with_kwargs or number in _global_forward_hooks_with_kwargs:
            return hook(self, held["args"], held["kwargs"], held["result"])
        return hook(self, held["args"], held["result"])

    def _run_always_called(self, held, called) -> None:
        """Hooks that want to run although `forward` failed."""
        for where, hooks, always in (
            ("global module", _global_forward_hooks, _global_forward_hooks_always_called),
            ("module", self._forward_hooks, self._forward_hooks_always_called),
        ):
            for number, hook in hooks.items():
                if number in called or number not in always:
                    continue
                try:
                    changed = self._run_forward_hook(number, hook, held)
                    if changed is not None:
                        held["result"] = changed
                except Exception as error:
                    warnings.warn(
                        f"{where} forward hook with ``always_call=True`` raised an exception that was silenced as another error was raised in "
                        f"forward: {error}", UserWarning, stacklevel=4,
                    )

    # --- backward hooks on the last node only, as early torch had them ----------------------------------------------------
    def _hang_partial(self, hooks, args, result) -> None:
        found = result
        while not isinstance(found, Tensor):
            found = next(v for v in found.values() if isinstance(v, Tensor)) if isinstance(found, dict) else found[0]
        node = found.grad_fn
        if node is None:
            return
        for hook in hooks:
            node.register_hook(_held_weakly(hook, self))
        warn_partial(args, result, node)

    def _get_backward_hooks(self) -> tuple[list, list]:
        full: list = []
        partial: list = []
        for hooks, is_full in ((_global_backward_hooks, _global_is_full_backward_hook), (self._backward_hooks, self._is_full_backward_hook)):
            if is_full is not None:
                (full if is_full else partial).extend(hooks.values())
        return full, partial

    def _get_backward_pre_hooks(self) -> list:
        return [*_global_backward_pre_hooks.values(), *self._backward_pre_hooks.values()]

    # --- registration ---------------------------------------------------------------------------------------------------
    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call `hook(module, args)` before `forward`; what it returns replaces the arguments.

        With `with_kwargs` the hook is `hook(module, args, kwargs)` and returns None or (args, kwargs).
        """
        return hang(self._forward_pre_hooks, hook, [self._forward_pre_hooks_with_kwargs] if with_kwargs else (), prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call `hook(module, args, output)` after `forward`; what it returns replaces the output.

        With `with_kwargs` the hook is `hook(module, args, kwargs, output)`; with `always_call` it runs even if `forward` raised.
        """
        marks = [d for d, on in ((self._forward_hooks_with_kwargs, with_kwargs), (self._forward_hooks_always_called, always_call)) if on]
        return hang(self._forward_hooks, hook, marks, prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call `hook(module, grad_output)` before the module's gradient is computed; what it returns replaces grad_output."""
        return hang(self._backward_pre_hooks, hook, (), prepend)

    def register_backward_hook(self, hook):
        """Call `hook(module, grad_input, grad_output)` at the module's last node (deprecated: use `register_full_backward_hook`)."""
        if self._is_full_backward_hook is True:
            raise RuntimeError(MIXED.format("on a single Module"))
        self._is_full_backward_hook = False
        return hang(self._backward_hooks, hook)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call `hook(module, grad_input, grad_output)` when the gradients of the module's inputs are known.

        What it returns replaces grad_input.  Forward then sees views of its arguments, and the caller views of the outputs.
        """
        if self._is_full_backward_hook is False:
            raise RuntimeError(MIXED.format("on a single Module"))
        self._is_full_backward_hook = True
        return hang(self._backward_hooks, hook, (), prepend)


def _held_weakly(hook, module):
    reference = weakref.ref(module)

    def run(*gradients):
        found = reference()
        if found is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        return hook(found, *gradients)

    return functools.update_wrapper(run, hook) if hasattr(hook, "__name__") else run


def warn_partial(inputs, result, node) -> None:
    """What a hook on the last node alone will miss."""
    deprecated = "Using {} is deprecated and will be removed in future versions. This hook will be missing some {}."
    say = lambda what, missing, more="": warnings.warn(deprecated.format(what, missing) + more, FutureWarning, stacklevel=6)
    documented = " Please use register_full_backward_hook to get the documented behavior."
    result = (result,) if isinstance(result, Tensor) else result
    if not (isinstance(result, tuple) and all(isinstance(r, Tensor) for r in result)):
        return say("non-full backward hooks on a Module that does not return a single Tensor or a tuple of Tensors", "of the grad_output", documented)
    if not all(isinstance(i, Tensor) for i in inputs):
        return say("non-full backward hooks on a Module that does not take as input a single Tensor or a tuple of Tensors", "of the grad_input", documented)
    nodes = {r.grad_fn for r in result if r.grad_fn is not None}
    if not nodes or (len(nodes) == 1 and node not in nodes):
        return say("a non-full backward hook when outputs are nested in python data structure", "grad_output")
    if len(nodes) > 1:
        return say("a non-full backward hook when outputs are generated by different autograd Nodes", "grad_output", documented)
    if {i.grad_fn for i in inputs if i.grad_fn is not None} != {n for n, _ in node.next_functions}:
        say("a non-full backward hook when the forward contains multiple autograd Nodes", "grad_input", documented)


# --- hooks of every module ----------------------------------------------------------------------------------------------
def register_module_forward_pre_hook(hook):
    """Call `hook(module, args)` before the `forward` of every module."""
    return hang(_global_forward_pre_hooks, hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    """Call `hook(module, args, output)` after the `forward` of every module."""
    marks = [d for d, on in ((_global_forward_hooks_with_kwargs, with_kwargs), (_global_forward_hooks_always_called, always_call)) if on]
    return hang(_global_forward_hooks, hook, marks)


def register_module_backward_hook(hook):
    """The backward hook of the last node of every module."""
    global _global_is_full_backward_hook
    if _global_is_full_backward_hook is True:
        raise RuntimeError(MIXED.format("as a global Module hook"))
    _global_is_full_backward_hook = False
    return hang(_global_backward_hooks, hook)


def register_module_full_backward_pre_hook(hook):
    """The full backward pre-hook of every module."""
    return hang(_global_backward_pre_hooks, hook)


def register_module_full_backward_hook(hook):
    """The full backward hook of every module."""
    global _global_is_full_backward_hook
    if _global_is_full_backward_hook is False:
        raise RuntimeError(MIXED.format("as a global Module hook"))
    _global_is_full_backward_hook = True
    return hang(_global_backward_hooks, hook)
