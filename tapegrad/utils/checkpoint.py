"""Checkpointing: a part of a computation whose intermediate values are computed again in the backward pass instead of kept.

The part runs once with recording, to find out which tensors from outside it depends on (its arguments and what the function reaches by
closure); its entries are then given up, and one custom entry from those tensors to the results takes their place.  The derivative of
that entry runs the function again.
"""

from __future__ import annotations

import contextlib
import time
import warnings

from tapegrad import core, modes
from tapegrad.autograd.function import Function
from tapegrad.tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn"]


def noop_context_fn():
    """Two contexts that do nothing: for the first run and for the second."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def _tensors(result) -> list:
    """The tensors in nested tuples, lists and dicts, in order."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else ()
    return [t for part in parts for t in _tensors(part)]


def _replaced(result, fresh):
    """`result` with its tensors taken from the iterator `fresh`."""
    if isinstance(result, Tensor):
        return next(fresh)
    if isinstance(result, dict):
        return type(result)((key, _replaced(part, fresh)) for key, part in result.items())
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_replaced(part, fresh) for part in result))
    if isinstance(result, (tuple, list)):
        return type(result)(_replaced(part, fresh) for part in result)
    return result


def _outside(outputs, start: int) -> list:
    """The slots that require grad and that entries from position `start` on take from before it."""
    found, seen, stack = [], set(), [t._settle() for t in outputs]
    while stack:
        slot = stack.pop()
        if slot in seen or not core.get_field(slot, core.FLAGS) & 1:
            continue
        seen.add(slot)
        e = core.get_field(slot, core.ENTRY)
        if e < start:
            found.append(slot)
        else:
            stack.extend(core.operand_slot(e, k) for k in range(core.entry_field(e, core.ENTRY_INPUTS)))
    return found[::-1]


class CheckpointFunction(Function):
    """From the tensors outside to the results: the derivative runs the part again."""

    @staticmethod
    def forward(ctx, again, outputs, *outside):
        ctx.again = again
        ctx.save_for_backward(*outside)  # for the checks; hooks may hand out copies, which are no inputs of the part
        ctx.outside = outside
        ctx.set_materialize_grads(False)
        return tuple(t.detach() for t in outputs)

    @staticmethod
    def backward(ctx, *gs):
        from tapegrad.autograd import grad

        create = modes.is_grad_enabled()
        _, outside = ctx.saved_tensors, ctx.outside
        with modes.enable_grad():
            outputs = _tensors(ctx.again())
        if len(outputs) != len(gs):
            raise RuntimeError(f"checkpoint: the function returned {len(gs)} tensors at first and {len(outputs)} when it was run again")
        live = [(out, g) for out, g in zip(outputs, gs, strict=True) if g is not None and out.requires_grad]
        if not live:
            return (None, None, *(None for _ in outside))
        with _cut(outside):
            found = grad([out for out, _ in live], outside, [g for _, g in live], create_graph=create, allow_unused=True)
        return (None, None, *found)


@contextlib.contextmanager
def _cut(outside):
    """The tensors outside as leaves: one may be made from another, and that path belongs to the sweep that called, not to the part."""
    entries = [core.get_field(t._slot, core.ENTRY) for t in outside]
    for t in outside:
        core.set_field(t._slot, core.ENTRY, -1)
    try:
        yield
    finally:
        for t, e in zip(outside, entries, strict=True):
            core.set_field(t._slot, core.ENTRY, e)


def checkpoint(function, *args, use_reentrant=None, context_fn=noop_context_fn, determinism_check="default", debug=False, early_stop=True,
               preserve_rng_state=True, **kwargs):
    """`function(*args, **kwargs)`, keeping no intermediate values: the backward pass runs the function again.

    The random state is put back for the second run unless `preserve_rng_state=False`.  `use_reentrant` True takes no keyword arguments
    of the function's and wants an argument that requires grad; both kinds differentiate alike, to any order.

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
    if determinism_check not in ("default", "none"):
        raise ValueError(f"Got invalid determinism_check value {determinism_check!r}: it must be 'default' or 'none'")
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        if not any(isinstance(a, Tensor) and a.requires_grad for a in args):
            warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", UserWarning, stacklevel=2)
            with modes.no_grad():
                return function(*args)
    forward_context, second_context = context_fn()
    if not modes.is_grad_enabled():
        with forward_context:
            return function(*args, **kwargs)

    from tapegrad import random

    state = random.get_rng_state() if preserve_rng_state else None
    core.start()
    while not (depth := core.claim_sweep()):  # the tape keeps its positions meanwhile
        time.sleep(0.0001)
    if depth == 1:
        core.sweep_entry.value = -1  # no sweep of ours: a backward inside the function has no marks to put away
    try:
        start = core.entry_count.value
        with forward_context:
            result = function(*args, **kwargs)
        outputs = _tensors(result)
        outside = [core.wrap(slot) for slot in _outside(outputs, start)]
        made = [t.requires_grad and core.get_field(t._slot, core.ENTRY) >= start for t in outputs]
    finally:
        core.sweeping.value -= 1
    if not any(made):
        return result

    def again():
        with contextlib.ExitStack() as stack:
            if preserve_rng_state:
                stack.callback(random.set_rng_state, random.get_rng_state())
                random.set_rng_state(state)
            stack.enter_context(second_context)
            return function(*args, **kwargs)

    recorded = [t for t, inside in zip(outputs, made, strict=True) if inside]
    fresh = iter(CheckpointFunction.apply(_only(again, made), recorded, *outside))
    return _replaced(result, iter([next(fresh) if inside else t for t, inside in zip(outputs, made, strict=True)]))


def _only(again, wanted: list):
    """`again` reduced to the tensors that required grad in the first run."""

    def run():
        outputs = _tensors(again())
        return [t for t, chosen in zip(outputs, wanted, strict=True) if chosen] if len(outputs) == len(wanted) else outputs

    return run


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """Run functions one after another in `segments` parts, all but the last of them checkpointed."""
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
