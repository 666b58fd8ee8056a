"""Reverse-mode differentiation: backward, grad, modes, custom Functions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from operator import index

from tapegrad import core, modes, overriding
from tapegrad.autograd.engine import Sweep, is_reached
from tapegrad.autograd.underway import Engine
from tapegrad.cautions import warn_once
from tapegrad.engine import layout
from tapegrad.modes import enable_grad, inference_mode, is_multithreading_enabled, no_grad, set_grad_enabled, set_multithreading_enabled
from tapegrad.ops.transformable import ACTIVE, level_of
from tapegrad.tensor import Tensor

__all__ = ["backward", "grad", "Function", "Variable", "no_grad", "enable_grad", "set_grad_enabled", "inference_mode"]

UNUSED = "The differentiated Tensor at index {} appears to not have been used in the graph. Set allow_unused=True if this is the desired behavior."
NO_GRAD_FN = "element 0 of tensors does not require grad and does not have a grad_fn"


def _inputs(inputs, caller: str) -> tuple:
    """The wanted inputs as a tuple of tensors and edges; a dict stands for its values."""
    if isinstance(inputs, (Tensor, graph.GradientEdge)):
        return (inputs,)
    if type(inputs) is dict:
        found = tuple(inputs.values())
    elif isinstance(inputs, Mapping):
        raise TypeError(
            f"`inputs` argument to `{caller}` must be a dict, not {type(inputs).__name__}. Other Mapping types are not supported."
        )
    else:
        found = tuple(inputs)
    if not found:
        raise RuntimeError(f"`inputs` argument to `{caller}` cannot be empty.")
    return found


def _outputs(outputs) -> tuple:
    """The roots as tensors; an edge is the (perhaps valueless) tensor whose gradient arrives on it."""
    found = (outputs,) if isinstance(outputs, (Tensor, graph.GradientEdge)) else tuple(outputs)
    if not all(isinstance(t, (Tensor, graph.GradientEdge)) for t in found):
        raise AssertionError("Expected output to be a tapegrad.Tensor")
    return tuple(core.wrap(graph.edge_slot(t)) if isinstance(t, graph.GradientEdge) else t for t in found)


def _slots(inputs, accumulate: bool = False) -> list[int]:
    """The slots whose gradients are wanted; to `accumulate` them in `.grad`, tensors that are no leaves must retain theirs."""
    result = []
    for x in inputs:
        if isinstance(x, graph.GradientEdge):
            result.append(graph.edge_slot(x))
            continue
        if not isinstance(x, Tensor):
            raise RuntimeError(f"all inputs have to be Tensors or GradientEdges, but got {type(x).__name__}")
        if accumulate:
            x.retain_grad()
        result.append(x._settle())
        if not x.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    return result


def _gradients(outputs, given) -> tuple:
    """One gradient (or None) per output; what lies beyond the outputs is only looked at."""
    gradients = (None,) * len(outputs) if given is None else (given,) if isinstance(given, Tensor) else tuple(given)
    for g in gradients:
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if len(gradients) < len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    return gradients[: len(outputs)]


def _seed(outputs, gradients) -> list:
    """The gradient of each output: given, or 1 for a scalar."""
    result = []
    for k, (out, g) in enumerate(zip(outputs, gradients, strict=True)):
        if g is None:
            if out.requires_grad:
                if out.numel() != 1:
                    raise RuntimeError("grad can be implicitly created only for scalar outputs")
                if not out.dtype.is_floating_point:
                    raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {out.dtype}")
                result.append(out._ones())
            else:
                result.append(None)
            continue
        if g.shape != out.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{gradients.index(g)}] has a shape of {g.shape} and output[{k}] has a shape of {out.shape}."
            )
        if g.dtype is not out.dtype and (g.dtype.is_complex or out.dtype.is_complex):
            raise RuntimeError(
                "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
                f"grad_output[{k}] has a dtype of {g.dtype} and output[{k}] has a dtype of {out.dtype}."
            )
        result.append(g if g.dtype is out.dtype else g.to(out.dtype))
    return result


def _flag(value) -> bool:
    """What torch takes for a switch: any integer."""
    if value is True or value is False:
        return value
    number = index(value)
    if not 0 <= number < 256:
        raise OverflowError(f"unsigned byte integer is {'less than minimum' if number < 0 else 'greater than maximum'}")
    return number != 0


def _check_roots(outputs) -> None:
    for k, out in enumerate(outputs):
        if out._level is None and not is_reached(out._slot):
            raise RuntimeError(NO_GRAD_FN.replace("element 0", f"element {k}"))


def _ones(self):
    """A tensor of ones of this tensor's geometry (its gradient seed)."""
    from tapegrad import creation

    t = creation.empty_of(tuple(self.shape), self.dtype)
    creation.fill(t, 1)
    return t


Tensor._ones = _ones


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Add the gradients of `tensors` to the `.grad` of the leaves they depend on (or of `inputs` only).

    `grad_tensors` weighs each output; scalars need none.  The saved values are freed unless `retain_graph`.  Roots and inputs may be
    `graph.GradientEdge`s; `inputs` may be a dict, of which the values count.
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", FutureWarning, stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError(
                "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`. Please only use `grad_tensors`."
            )
        grad_tensors = grad_variables
    if ACTIVE:
        from tapegrad.transforms import wrappers

        wrappers.refuse_inside(wrappers.NO_BACKWARD)
    wanted = None if inputs is None else _inputs(inputs, "backward()")
    outputs = _outputs(tensors)
    gradients = _gradients(outputs, grad_tensors)
    for out in outputs:
        out._settle()
    seeds = _seed(outputs, gradients)
    _check_roots(outputs)
    if create_graph:
        warn_once(
            "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which can cause a "
            "memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to use this function, make sure "
            "to reset the .grad fields of your parameters to None after use to break the cycle and avoid the leak.",
            stacklevel=3,
        )
    retain = create_graph if retain_graph is None else retain_graph
    captured = None if wanted is None else _slots(wanted, accumulate=True)
    Sweep(_flag(retain), _flag(create_graph)).run(outputs, seeds, captured)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of `outputs` with respect to `inputs`, as a tuple (a dict for a dict of inputs); `.grad` fields are not touched.

    >>> import tapegrad as tg
    >>> x = tg.tensor([3.], requires_grad=True)
    >>> tg.autograd.grad(x ** 2, x)
    (tensor([6.]),)
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    allow_unused = _flag(materialize_grads if allow_unused is None else allow_unused)
    if type(outputs) is Tensor and create_graph is False and (retain_graph is None or type(retain_graph) is bool) and not ( is_grads_batched or materialize_grads or ACTIVE) and only_inputs:
        found = _plain_gradients(outputs, inputs, grad_outputs, retain_graph)
        if found is not None:
            if not allow_unused:
                for k, g in enumerate(found):
                    if g is None:
                        raise RuntimeError(UNUSED.format(k))
            return found
    outs = _outputs(outputs)
    wanted = _inputs(inputs, "grad()")
    if not only_inputs:
        warnings.warn(
            "only_inputs argument is deprecated and is ignored now (defaults to True). To accumulate gradient for other parts of the graph, "
            "please use tapegrad.autograd.backward.",
            FutureWarning,
            stacklevel=2,
        )
    gradients = _gradients(outs, grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        _check_batch(outs, gradients)
        return _grad_batched(outs, inputs, gradients, retain, create_graph, allow_unused, materialize_grads)
    if ACTIVE and level_of((*outs, *wanted)) is not None:
        return tuple(_grad_wrapped(outs, wanted, gradients, create_graph, allow_unused))
    for t in outs:
        if not isinstance(t, Tensor):
            raise TypeError(f"grad(): expected tensors, got {type(t).__name__}")
        t._settle()
    seeds = _seed(outs, gradients)
    _check_roots(outs)
    result = Sweep(_flag(retain), _flag(create_graph)).run(outs, seeds, _slots(wanted), accumulate=False)
    for k, g in enumerate(result):
        if g is None:
            if not allow_unused:
                raise RuntimeError(UNUSED.format(k))
            if materialize_grads:
                from tapegrad.creation import zeros_like

                if isinstance(wanted[k], graph.GradientEdge):
                    raise RuntimeError("materialize_grads cannot be used when the given input is a GradientEdge")
                result[k] = zeros_like(wanted[k], requires_grad=bool(create_graph))
        elif not create_graph and g.requires_grad:
            result[k] = g.detach()
    return dict(zip(inputs, result, strict=True)) if type(inputs) is dict else tuple(result)


def _plain_gradients(output, inputs, gradient, retain):
    """`grad` of one tensor in compiled code: a tuple with None for what is not met; None if anything asks for more than the plain case."""
    kind = type(inputs)
    wanted = (inputs,) if kind is Tensor else inputs if kind is tuple else tuple(inputs) if kind is list else ()
    if type(gradient) in (tuple, list) and len(gradient) == 1:
        (gradient,) = gradient
    return core.gradients(output, gradient, wanted, bool(retain)) if wanted and type(gradient) in (Tensor, type(None)) else None


def _grad_batched(outputs, inputs, gradients, retain, create_graph, allow_unused, materialize_grads):
    """`grad` for each of a batch of gradients, as a vmap over them."""
    from tapegrad.transforms.batching import VmapLevel

    size = next((g.shape[0] for g in gradients if g is not None), None)
    if size is None:
        raise RuntimeError("grad can be implicitly created only for scalar outputs")
    with VmapLevel(size, "error", public=False) as level:
        rows = [None if g is None else level.wrap(g) for g in gradients]
        found = grad(outputs, inputs, rows, retain, create_graph, True, allow_unused, False, materialize_grads)
        spread = lambda g: None if g is None else level.spread(g)
        return {k: spread(g) for k, g in found.items()} if type(found) is dict else tuple(map(spread, found))


def _grad_wrapped(outputs, inputs, gradients, create_graph, allow_unused) -> list:
    """`grad` of tensors that transforms follow."""
    from tapegrad.transforms import reverse

    seeds = [reverse.ones_of(out) if g is None else g for out, g in zip(outputs, gradients, strict=True)]
    found = reverse.pull(list(outputs), list(inputs), seeds, bool(create_graph))
    unused = next((k for k, g in enumerate(found) if g is None), None)
    if unused is not None and not allow_unused:
        raise RuntimeError(UNUSED.format(unused))
    return found


def _check_batch(outputs, gradients) -> None:
    for k, (out, g) in enumerate(zip(outputs, gradients, strict=True)):
        if g is not None and (not g.ndim or g.shape[1:] != out.shape):
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch dimension. The sizes of the "
                "remaining dimensions are expected to match the shape of corresponding output, but a mismatch was detected: "
                f"grad_output[{k}] has a shape of {g.shape[1:]} and output[{k}] has a shape of {out.shape}. If you only want some tensors in "
                "`grad_output` to be considered batched, consider using vmap."
            )


class _VariableType(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """torch's old wrapper: a tensor that shares the data of another."""

    _execution_engine = Engine()

    def __new__(cls, data=None, requires_grad=False, volatile=False):
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        result = data.detach()
        if requires_grad:
            result.requires_grad_()
        return result


# They need Tensor's autograd to be complete.
from tapegrad.autograd import anomaly_mode, forward_ad, functional, grad_mode, graph  # noqa: E402
from tapegrad.autograd.anomaly_mode import detect_anomaly, set_detect_anomaly  # noqa: E402
from tapegrad.autograd.function import Function  # noqa: E402
from tapegrad.autograd.grad_mode import _force_original_view_tracking, _unsafe_preserve_version_counter, is_view_replay_enabled  # noqa: E402
from tapegrad.autograd.gradcheck import gradcheck, gradgradcheck  # noqa: E402
from tapegrad.autograd.saved import SavedTensor  # noqa: E402

overriding.space(globals(), ("backward", "grad"))


def __getattr__(name: str):
    if name == "profiler":  # imported at its first use
        return import_module("tapegrad.autograd.profiler")
    raise AttributeError(f"module 'tapegrad.autograd' has no attribute {name!r}")
