"""Checkpointing: a part of a computation whose intermediate values are computed again in the backward pass instead of kept.

Without reentrance the part records the graph as ever, but what its operations save is computed again when the backward pass asks for it
(`recompute.py`).  With reentrance the part runs unrecorded as one custom Function, whose derivative runs it again and calls `backward`.
"""

from __future__ import annotations

import contextlib
import warnings

from tapegrad import modes
from tapegrad.autograd import underway
from tapegrad.autograd.function import Function
from tapegrad.tensor import Tensor
from tapegrad.utils import recompute
from tapegrad.utils.recompute import CheckpointError

__all__ = [
    "CheckpointError", "CheckpointFunction", "check_backward_validity", "checkpoint", "checkpoint_sequential", "detach_variable",
    "noop_context_fn", "set_checkpoint_debug_enabled", "set_checkpoint_early_stop",
]  # fmt: skip

_early_stop: bool | None = None  # set for all checkpoints, if not None
_debug: bool | None = None


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool):
    """While active, whether a checkpointed function stops as soon as all that was saved is computed again: before `early_stop=`."""
    global _early_stop
    before, _early_stop = _early_stop, enable
    try:
        yield
    finally:
        _early_stop = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None):
    """While active, counts in place of `debug=`; None leaves it to the argument."""
    global _debug
    before, _debug = _debug, enabled
    try:
        yield
    finally:
        _debug = before


def noop_context_fn():
    """Two contexts that do nothing: for the first run and for the second."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def detach_variable(inputs: tuple) -> tuple:
    """The tensors of a tuple as leaves of the same memory that require grad if they did; other values as they are."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(f"Only tuple of tensors is supported. Got Unsupported input type: {type(inputs).__name__}")
    return tuple(t.detach().requires_grad_(t.requires_grad) if isinstance(t, Tensor) else t for t in inputs)


def check_backward_validity(inputs) -> None:
    """Warn if no tensor among `inputs` requires grad."""
    if not any(t.requires_grad for t in inputs if isinstance(t, Tensor)):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", UserWarning, stacklevel=2)


def _state_now():
    from tapegrad import random

    return random.get_rng_state()


@contextlib.contextmanager
def _random_state(state):
    """The random state as it was when `state` was taken (None: as it is), and afterwards as it is now."""
    if state is None:
        yield
        return
    from tapegrad import random

    before = _state_now()
    random.set_rng_state(state)
    try:
        yield
    finally:
        random.set_rng_state(before)


class CheckpointFunction(Function):
    """The reentrant kind: one node whose derivative runs the function again, with recording, and then backward through that."""

    @staticmethod
    def forward(ctx, run_function, preserve_rng_state, *args):
        check_backward_validity(args)
        ctx.run_function = run_function
        ctx.state = _state_now() if preserve_rng_state else None
        ctx.places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.inputs = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*(args[k] for k in ctx.places))
        with modes.no_grad():
            return run_function(*args)

    @staticmethod
    def backward(ctx, *gs):
        from tapegrad import autograd

        if not underway.is_checkpoint_valid():
            raise RuntimeError(
                "When use_reentrant=True, tapegrad.utils.checkpoint is incompatible with .grad() or passing an `inputs` parameter to "
                ".backward(). To resolve this error, you can either set use_reentrant=False, or call .backward() without passing the "
                "`inputs` argument."
            )
        inputs = list(ctx.inputs)
        for k, t in zip(ctx.places, ctx.saved_tensors, strict=True):
            inputs[k] = t
        detached = detach_variable(tuple(inputs))
        with _random_state(ctx.state), modes.enable_grad():
            outputs = ctx.run_function(*detached)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        live = [(out, g) for out, g in zip(outputs, gs, strict=False) if isinstance(out, Tensor) and out.requires_grad]
        if not live:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        autograd.backward([out for out, _ in live], [g for _, g in live])
        return (None, None, *(t.grad if isinstance(t, Tensor) else None for t in detached))


def checkpoint(function, *args, use_reentrant=None, context_fn=noop_context_fn, determinism_check="default", debug=False, early_stop=True,
               **kwargs):
    """`function(*args, **kwargs)`, keeping no intermediate values: the backward pass runs the function again.

    The random state is put back for the second run unless `preserve_rng_state=False`.  Without reentrance: `context_fn()` gives the
    contexts of the first and of the second run; `determinism_check` "default" compares shapes and dtypes of what both runs save, "none"
    does not; `early_stop` ends the second run as soon as all that was saved is there; `debug` adds the operations of both runs to the
    error of a mismatch.  `use_reentrant` True takes no keyword arguments of the function's, wants an argument that requires grad, and
    works with `backward()` without `inputs` only.

    >>> import tapegrad as tg
    >>> x = tg.tensor([3.], requires_grad=True)
    >>> checkpoint(lambda t: t * t, x, use_reentrant=False).backward()
    >>> x.grad
    tensor([6.])
    """
    if use_reentrant is None:
        warnings.warn(
            "tapegrad.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, calling checkpoint "
            "without use_reentrant will raise an exception. use_reentrant=False is recommended, but if you need to preserve the current default "
            "behavior, you can pass use_reentrant=True. Refer to docs for more details on the differences between the two variants.",
            UserWarning,
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        return CheckpointFunction.apply(function, preserve, *args)
    return _without_reentrance(function, args, kwargs, preserve, context_fn, determinism_check, debug, early_stop)


def _without_reentrance(function, args, kwargs, preserve, context_fn, determinism_check, debug, early_stop):
    report = None
    if debug if _debug is None else _debug:
        if context_fn is not noop_context_fn:
            raise ValueError("debug=True is incompatible with non-default context_fn")
        logs = recompute.Log(), recompute.Log()
        context_fn, report = lambda: logs, lambda: recompute.report(*logs)
    if determinism_check not in recompute.CHECKS:
        raise ValueError(f"determinism_check should be one of {list(recompute.CHECKS)}, but got {determinism_check}")
    forward_context, second_context = context_fn()
    state = _state_now() if preserve else None

    def run(*arguments):
        with _random_state(state), second_context:
            function(*arguments, **kwargs)

    if not modes.is_grad_enabled():
        return function(*args, **kwargs)
    frame = recompute.Frame(run, early_stop if _early_stop is None else _early_stop, recompute.CHECKS[determinism_check], report)
    frame.keep(args)
    with recompute.forward_hooks(frame), forward_context:
        result = function(*args, **kwargs)
        frame.complete = True
        return result
    raise RuntimeError(
        "tapegrad.utils.checkpoint: the forward context provided by context_fn suppressed an exception raised during the checkpointed "
        "forward. This is not supported because checkpoint cannot return a value for a failed forward."
    )


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """Run functions one after another in `segments` parts, all but the last of them checkpointed."""
    if use_reentrant is None:
        warnings.warn(
            "tapegrad.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. In version 2.9 we will "
            "raise an exception if use_reentrant is not passed. use_reentrant=False is recommended, but if you need to preserve the current "
            "default behavior, you can pass use_reentrant=True. Refer to docs for more details on the differences between the two variants.",
            UserWarning,
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    functions = list(functions.children()) if hasattr(functions, "children") else list(functions)

    def part(first, last):
        def run(value):
            for f in functions[first:last]:
                value = f(value)
            return value

        return run

    size, at = max(len(functions) // segments, 1), 0
    for _ in range(segments - 1):
        if at + size >= len(functions):
            break
        input = checkpoint(part(at, at + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        at += size
    return part(at, len(functions))(input)
