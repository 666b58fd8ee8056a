"""Chains: a call that comes down to several plans, one after the other, kept as one plan.

While Python teaches the call cache (`tapegrad/planned.py`) there is a `Trail`: every plan and elementwise op that runs adds a step to it, with
where each of its operands came from - an operand of the call, the output of an earlier step, or a constant.  If the result of the call follows
from its operands by such steps alone, they become a plan that compiled code runs (`engine/native/calls.py`).

A tensor whose origin is not known (made by NumPy, written to, drawn at random) has no place on the trail, nor has what is computed from it.
Whoever reads the elements of a tensor that has a place breaks the trail: what happens next may depend on them.
"""

from __future__ import annotations

import weakref

from tapegrad import core, modes
from tapegrad.engine import layout

OPERAND, CONSTANT, OUTPUT = 0, 1, 2  # what a reference refers to: its lowest byte
WHOLE = 255  # as the item of a step that has one output
MOST_STEPS, MOST_OPERANDS = 30, 30

_trail: Trail | None = None


class Trail:
    """The steps of the call that is being taught; `operands` are the tensors among its arguments."""

    def __init__(self, operands):
        self.operands = operands
        self.versions = [core.version_of(t._slot) for t in operands]
        self.thread, self.grad = core.thread_id(), modes.word() & modes.GRAD
        self.steps: list[tuple] = []  # (plan or elementwise op, references of its operands, flags)
        self.records: dict[int, list[int]] = {}  # step -> the steps that put its outputs on the tape
        self.constants: dict[int, object] = {}
        self.broken = False
        self.places = {id(t): (weakref.ref(t), reference(OPERAND, k), version) for k, (t, version) in enumerate(zip(operands, self.versions, strict=True))}
        self._buffers: dict[int, list] = {}  # buffer -> tensors with a place that lie in it
        for t in operands:
            self._at(t)

    def _at(self, t):
        self._buffers.setdefault(core.get_field(t._slot, core.BUFFER), []).append(weakref.ref(t))

    def reference(self, t) -> int | None:
        """Where tensor `t` came from, None if that is not known."""
        place = self.places.get(id(t))
        if place is not None and place[0]() is t and core.version_of(t._slot) == place[2]:
            return place[1]
        return reference(CONSTANT, t._slot) if id(t) in self.constants else None

    def step(self, what, operands, out):
        found = [self.reference(t) for t in operands]
        word = modes.word()
        if None in found or word & modes.GRAD > self.grad or len(found) > MOST_OPERANDS:
            return
        several = isinstance(out, tuple)
        for k, t in enumerate(out if several else (out,)):
            self.places[id(t)] = weakref.ref(t), reference(OUTPUT, len(self.steps), k if several else WHOLE), core.version_of(t._slot)
            self._at(t)
        self.steps.append((what, found, layout.UNRECORDED_STEP if word & layout.UNRECORDED else 0))

    def record(self, make, inputs, outputs):
        """`outputs`, so far unrecorded, have been put on the tape with `inputs`; `make()` gives the plan of that, None if there is none."""
        found = [self.reference(t) for t in (*inputs, *outputs)]
        makers = {one >> 8 & 0xFFFFFF for one in found[len(inputs) :] if one is not None and one & 255 == OUTPUT}
        word = modes.word()
        known = None not in found and len(makers) == len({*found[len(inputs) :]}) and len(found) <= MOST_OPERANDS
        if known and word & modes.GRAD == self.grad and not word & layout.UNRECORDED and all(self.steps[k][2] for k in makers) and (plan := make()) is not None:
            for k in makers:
                self.records.setdefault(k, []).append(len(self.steps))
            self.steps.append((plan, found, layout.RECORDING_STEP))
        else:
            for t in outputs:
                self.places.pop(id(t), None)

    def looked(self, t):
        if any(ref() is not None for ref in self._buffers.get(core.get_field(t._slot, core.BUFFER), ())):
            self.broken = True

    def holds(self, written: bool) -> bool:
        """Whether the call came to its result without a look at the elements of its operands, and without a change of them unless they are `written`."""
        return not self.broken and (written or [core.version_of(t._slot) for t in self.operands] == self.versions)

    def found(self, result):
        """(the steps that lead to `result`, the references of its tensors, constants), or None if that is not known to be all there is."""
        references = [self.reference(t) for t in (result if isinstance(result, tuple) else (result,))]
        wanted: set[int] = set()
        waiting = list(references)
        while waiting:
            one = waiting.pop()
            if one is None:
                return None
            made = one >> 8 & 0xFFFFFF
            for k in (made, *self.records.get(made, ())) if one & 255 == OUTPUT else ():
                if k not in wanted:
                    wanted.add(k)
                    waiting += self.steps[k][1]
        if len(wanted) > MOST_STEPS or len(references) > MOST_OPERANDS or any(one & 255 == CONSTANT for one in references):
            return None
        new = {k: number for number, k in enumerate(sorted(wanted))}

        def moved(one):
            return one if one & 255 != OUTPUT else reference(OUTPUT, new[one >> 8 & 0xFFFFFF], one >> 32)

        steps = [(self.steps[k][0], [moved(one) for one in self.steps[k][1]], self.steps[k][2]) for k in sorted(wanted)]
        slots = {one >> 8 for _, inputs, _ in steps for one in inputs if one & 255 == CONSTANT}
        return steps, [moved(one) for one in references], [t for t in self.constants.values() if t._slot in slots]


def reference(kind: int, number: int, item: int = 0) -> int:
    return kind | number << 8 | item << 32


def begin(operands) -> Trail | None:
    """Follow a call of this thread; None if one is followed already, or if it cannot be."""
    global _trail
    if _trail is not None or any(t._level is not None for t in operands):
        return None
    _trail = trail = Trail(operands)
    return trail


def end(trail) -> None:
    global _trail
    if _trail is trail:
        _trail = None


def here() -> Trail | None:
    """The trail of the running thread."""
    trail = _trail
    return trail if trail is not None and trail.thread == core.thread_id() else None


def step(what, operands, out) -> None:
    """A plan or elementwise op has made `out` of the tensors `operands`."""
    if _trail is not None and (trail := here()):
        trail.step(what, operands, out)


def record(make, inputs, outputs) -> None:
    """`outputs` have been given a derivative of their own, whatever made their values."""
    if _trail is not None and (trail := here()):
        trail.record(make, inputs, outputs)


def constant(t):
    """`t`, whose elements nobody changes and which follow from the other arguments of the call than tensors."""
    if _trail is not None and (trail := here()):
        trail.constants[id(t)] = t
    return t


def looked(t) -> None:
    """Somebody has the elements of `t` in hand."""
    if _trail is not None and (trail := here()):
        trail.looked(t)
