"""Reverse-mode differentiation: backward, grad, modes, custom Functions."""

from __future__ import annotations

import warnings

from tapegrad import core, modes
from tapegrad.autograd.engine import Sweep
from tapegrad.engine import layout
from tapegrad.modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from tapegrad.tensor import Tensor

__all__ = ["backward", "grad", "Function", "Variable", "no_grad", "enable_grad", "set_grad_enabled", "inference_mode"]

NO_GRAD_FN = "element 0 of tensors does not require grad and does not have a grad_fn"


def _as_tuple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


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
                f"Mismatch in shape: grad_output[{k}] has a shape of {g.shape} and output[{k}] has a shape of {out.shape}."
            )
        result.append(g if g.dtype is out.dtype else g.to(out.dtype))
    return result


def _check_roots(outputs) -> None:
    for k, out in enumerate(outputs):
        if not out.requires_grad and out.grad_fn is None:
            raise RuntimeError(NO_GRAD_FN.replace("element 0", f"element {k}"))


def _ones(self):
    """A tensor of ones of this tensor's geometry (its gradient seed)."""
    from tapegrad import creation

    t = creation.empty_of(tuple(self.shape), self.dtype)
    t._array()[...] = 1
    return t


Tensor._ones = _ones


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Add the gradients of `tensors` to the `.grad` of the leaves they depend on (or of `inputs` only).

    `grad_tensors` weighs each output; scalars need none.  The saved values are freed unless `retain_graph`.
    """
    outputs = _as_tuple(tensors)
    if grad_variables is not None and grad_tensors is None:
        grad_tensors = grad_variables
    gradients = _gradients(outputs, grad_tensors)
    if inputs is not None:
        inputs = _as_tuple(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward` cannot be empty.")
    for out in outputs:
        out._settle()
    if create_graph:
        warnings.warn(
            "Using backward() with create_graph=True will create a reference cycle between the parameter and its gradient which can cause a "
            "memory leak. We recommend using autograd.grad when creating the graph to avoid this. If you have to use this function, make sure "
            "to reset the .grad fields of your parameters to None after use to break the cycle and avoid the leak.",
            UserWarning,
            stacklevel=3,
        )
    seeds = _seed(outputs, gradients)
    _check_roots(outputs)
    retain = create_graph if retain_graph is None else retain_graph
    captured = None
    if inputs is not None:
        for k, x in enumerate(inputs):
            if not x.requires_grad:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
        captured = [x._settle() for x in inputs]
    Sweep(bool(retain), bool(create_graph)).run(outputs, seeds, captured)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
         is_grads_batched=False, materialize_grads=False):
    """The gradients of `outputs` with respect to `inputs`, as a tuple; `.grad` fields are not touched.

    >>> import tapegrad as tg
    >>> x = tg.tensor([3.], requires_grad=True)
    >>> tg.autograd.grad(x ** 2, x)
    (tensor([6.]),)
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    outs = _as_tuple(outputs)
    wanted = _as_tuple(inputs)
    gradients = _gradients(outs, grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        rows = [tuple(None if g is None else g[k] for g in gradients) for k in range(len(gradients[0]))]
        found = [
            grad(outs, wanted, row, True if k < len(rows) - 1 else retain, create_graph, only_inputs, allow_unused, False, materialize_grads)
            for k, row in enumerate(rows)
        ]
        from tapegrad.ops.joining import stack

        return tuple(None if column[0] is None else stack(column) for column in zip(*found, strict=True))
    for t in (*outs, *wanted):
        if not isinstance(t, Tensor):
            raise TypeError(f"grad(): expected tensors, got {type(t).__name__}")
        t._settle()
    seeds = _seed(outs, gradients)
    _check_roots(outs)
    for x in wanted:
        if not x.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    slots = [x._slot for x in wanted]
    result = Sweep(bool(retain), bool(create_graph)).run(outs, seeds, slots, accumulate=False)
    for k, g in enumerate(result):
        if g is None:
            if not allow_unused:
                raise RuntimeError(
                    f"The differentiated Tensor at index {k} appears to not have been used in the graph. Set allow_unused=True if this is the "
                    "desired behavior."
                )
            if materialize_grads:
                from tapegrad.creation import zeros_like

                result[k] = zeros_like(wanted[k])
        elif not create_graph and g.requires_grad:
            result[k] = g.detach()
    return tuple(result)


class _VariableType(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """torch's old wrapper: a tensor that shares the data of another."""

    def __new__(cls, data=None, requires_grad=False, volatile=False):
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        result = data.detach()
        if requires_grad:
            result.requires_grad_()
        return result


from tapegrad.autograd import functional, graph  # noqa: E402 (they need Tensor's autograd to be complete)
from tapegrad.autograd.function import Function  # noqa: E402
from tapegrad.autograd.gradcheck import gradcheck, gradgradcheck  # noqa: E402
