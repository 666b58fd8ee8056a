"""Non-reentrant checkpointing: saved tensors that are computed again when a backward pass asks for them.

While the function runs under `forward_hooks`, every tensor that an operation saves is packed into a `_Holder` with nothing in it.  The
first holder that a backward pass unpacks runs the function again under `_recomputation_hooks`, which fill the holders in the same order
and stop the function when the last one is full.  What a pass computed again belongs to that pass alone (`task`), and is let go as it is
unpacked.  Checkpoints nest: the arguments of an inner one are tensors that the outer one has saved.
"""

from __future__ import annotations

import contextlib
import itertools
import traceback
import weakref
from collections import defaultdict

from tapegrad import modes
from tapegrad.autograd import anomaly_mode, saved, underway, watch
from tapegrad.autograd import node as nodes
from tapegrad.autograd.graph import saved_tensors_hooks
from tapegrad.tensor import Tensor

TIP = (
    "\nTip: To see a more detailed error message, either pass `debug=True` to\n`tapegrad.utils.checkpoint.checkpoint(...)` or wrap the code "
    "block\nwith `with tapegrad.utils.checkpoint.set_checkpoint_debug_enabled(True):` to\nenable checkpoint-debug mode globally.\n"
)
_outside_ids = itertools.count(-2, -1)  # stand for the pass when a saved tensor is looked at outside of all


class CheckpointError(RuntimeError):
    """The second run of a checkpointed function did not do what the first one did."""


class _StopRecomputation(Exception):
    """All that was saved has been computed again."""


class _Key:
    """Names one tensor that was computed again; the tensor lives as long as the key."""

    __slots__ = ("__weakref__",)


class _Holder:
    """What stands on the tape for a saved tensor."""

    def __init__(self):
        self.keys: dict[int, _Key | None] = {}  # by pass; None once unpacked


def _metadata(x) -> dict:
    return {"shape": x.shape, "dtype": x.dtype, "device": x.device}


CHECKS = {"default": _metadata, "none": lambda _: None}


class Frame:
    """One checkpointed call: how to run it again, and the holders of what it saved."""

    def __init__(self, run, early_stop, metadata, report):
        self.run, self.early_stop, self.metadata, self.report = run, early_stop, metadata, report
        self.arguments: list = []
        self.holders: list[weakref.ref] = []
        self.found: list = []  # the metadata of what was saved
        self.computed: dict[int, weakref.WeakKeyDictionary] = defaultdict(weakref.WeakKeyDictionary)  # by pass: key -> tensor
        self.count: dict[int, int] = defaultdict(int)  # by pass: how many tensors the second run has saved
        self.done: set[int] = set()  # passes that have run the function
        self.complete = self.differs = False  # the first run is over; a backward inside it makes counts differ

    def keep(self, arguments) -> None:
        """Save the arguments, as an operation would: in the hands of an outer checkpoint if there is one."""
        self.arguments = [saved.SavedValue(a, linked=True) if isinstance(a, Tensor) else a for a in arguments]

    def again(self, task: int) -> None:
        """Run the function a second time to fill the holders for pass `task`."""
        arguments = [a.unpack() if isinstance(a, saved.SavedValue) else a for a in self.arguments]
        with contextlib.suppress(_StopRecomputation), _recomputation_hooks(weakref.ref(self), task), modes.enable_grad():
            self.run(*arguments)
        self.done.add(task)
        self._compare(task)

    def _compare(self, task: int) -> None:
        if self.differs:
            return
        if len(self.holders) != self.count[task]:
            raise CheckpointError(
                "tapegrad.utils.checkpoint: A different number of tensors was saved during the original forward and recomputation.\n"
                f"Number of tensors saved during forward: {len(self.holders)}\n"
                f"Number of tensors saved during recomputation: {self.count[task]}.\n{TIP}"
            )
        text = ""
        for k, reference in enumerate(self.holders):
            holder = reference()
            if holder is not None:
                now = self.metadata(self.computed[task][holder.keys[task]])
                if now != self.found[k]:
                    text += f"tensor at position {k}:\nsaved metadata: {self.found[k]}\nrecomputed metadata: {now}\n"
        if text:
            raise CheckpointError(
                "tapegrad.utils.checkpoint: Recomputed values for the following tensors have different metadata than during the forward "
                f"pass.\n{text}.\n{TIP}"
            )

    def take(self, holder, task: int):
        """The tensor that `holder` stands for, once per pass."""
        if task not in self.done:
            self.again(task)
        key = holder.keys[task]
        if key is None:
            raise CheckpointError(
                "tapegrad.utils.checkpoint: Unpack is being triggered for a tensor that was already unpacked once. If you are calling "
                "ctx.saved_tensors in backward, make sure to do so only once. Otherwise please open an issue with details on your use case."
            )
        holder.keys[task] = None
        return self.computed[task][key]


class forward_hooks(saved_tensors_hooks):
    """During the first run: holders in place of tensors."""

    def __init__(self, frame: Frame):
        def pack(x):
            holder = _Holder()
            frame.holders.append(weakref.ref(holder))
            frame.found.append(frame.metadata(x))
            return holder

        def unpack(holder):
            task = underway.current_task()
            try:
                return frame.take(holder, next(_outside_ids) if task < 0 else task)
            except CheckpointError as error:
                if frame.report is None:
                    raise
                raise CheckpointError(frame.report()) from error

        super().__init__(pack, unpack)


class _recomputation_hooks(saved_tensors_hooks):
    """During the second run: what is saved goes into the holders too."""

    def __init__(self, reference, task: int):
        def pack(x):
            x = x.detach() if x.requires_grad else x
            frame = reference()
            k = frame.count[task]
            frame.count[task] += 1
            if k >= len(frame.holders):
                if not frame.complete:  # a backward inside the function, which is still in its first run
                    frame.differs = True
                    return x
                raise CheckpointError(
                    "tapegrad.utils.checkpoint: trying to save more tensors during recomputation than during the original forward pass.\n"
                    f"{TIP}"
                )
            holder = frame.holders[k]()
            if holder is not None:  # else a backward inside the function is through with it
                key = holder.keys[task] = _Key()
                frame.computed[task][key] = x
            if frame.early_stop and frame.count[task] == len(frame.holders):
                raise _StopRecomputation
            return x

        super().__init__(pack, lambda x: x)


# --- debug=True -------------------------------------------------------------------------------------------------------
class Log:
    """The operations that a run recorded, with their stacks."""

    def __init__(self):
        self.operations: list[tuple[str, str]] = []

    def __enter__(self):
        self.operations = []
        watch.observers().append(self._note)

    def __exit__(self, *exception):
        watch.observers().remove(self._note)

    def _note(self, e: int) -> None:
        self.operations.append((nodes.entry_name(e), "".join(traceback.StackSummary.from_list(_lines()).format())))

    def names(self) -> str:
        return "\n".join(name for name, _ in self.operations)

    def traces(self, label: str) -> str:
        total = len(self.operations)
        return "".join(f"{name}   ({k} of {total} in {label})\n\n{stack}\n\n" for k, (name, stack) in enumerate(self.operations, 1))


def _lines() -> list:
    """The user's frames of the present stack."""
    return [frame for frame in traceback.extract_stack() if not frame.filename.startswith(anomaly_mode.OWN)]


def report(forward: Log, second: Log) -> str:
    """What `debug=True` says of a mismatch."""
    return (
        " An error happened while unpacking tensors; dumping logs of latest computation because you passed `debug=True` to "
        "`tapegrad.utils.checkpoint.checkpoint()`.\n\n"
        f"1. Stack traces of the operators that ran in the original forward\n\n{forward.traces('original')}\n"
        f"2. Stack traces of the operators that ran during recomputation\n\n{second.traces('recompute')}\n"
        "3. Log of operators in the original forward and recomputation\n\n"
        f"Operations executed during the original forward:\n\n{forward.names()}\n\n"
        f"Operations executed during recomputation:\n\n{second.names()}\n\n"
        " ERROR: Detected non-determinism while running activation checkpointing\n\n"
        " You are seeing this error because you passed `debug=True` to checkpoint and tensors to be saved during the original forward and "
        "differ between those saved during recomputation. This can happen if different operators were ran in the original forward and in "
        "the recomputation.\n"
    )
