"""Plans of calls that take several steps (`ops/chains.py`), and of the steps that are no plans yet: elementwise ops, entries that Python records."""

from __future__ import annotations

import dataclasses

from tapegrad import core, dtypes
from tapegrad.engine import layout
from tapegrad.ops.plan import PLAIN, READS, Plan, keep, kept

PLAIN_ATTRIBUTES = (int, float, complex, bool, str, type(None), dtypes.dtype)


def chain_plan(trail, result):
    """The plan of the steps by which the call that `trail` has followed came to `result`, or None."""
    results = result if isinstance(result, tuple) else (result,)
    if not results or any(type(t) not in PLAIN for t in (*trail.operands, *results)):
        return None
    if any(core.get_field(r._slot, core.FLAGS) & layout.LEAF_GRAD and not any(r is t for t in trail.operands) for r in results):
        return None
    found = trail.found(result)
    if found is None:
        return None
    steps, references, constants = found
    parts = [what if isinstance(what, Plan) else step_plan(what, len(inputs)) for what, inputs, _ in steps]
    words = [len(parts), len(references), 1 + (len(references) if isinstance(result, tuple) else 0)]
    for part, (_, inputs, flags) in zip(parts, steps, strict=True):
        words += [part.address, len(inputs), flags, *inputs]
    kind = type(result) if isinstance(result, tuple) else None
    place = ("chain", kind, *words, *references)
    return kept(place) or keep(place, Plan(None, [], chain=[*words, *references], result_type=kind, steps=parts, constants=constants), ())


def step_plan(op, count: int):
    """The plan of an elementwise op on `count` operands in order."""
    place = (op.code, "elementwise", tuple(range(1, count + 1)))
    return kept(place) or keep(place, Plan(op, [], elementwise=True, operands=place[2]), ())


def record_plan(op, inputs, outputs, attributes, saves: int, differentiable: int, reads: tuple):
    """The plan of what `autograd.node.record` does with these arguments; None if the attributes say more than the arguments of the call."""
    found = vars(attributes) if attributes is not None else {}
    parameters = {name: value for name, value in found.items() if name not in ("op", "graph_name", "saved", "unpacked")}
    if found.get("saved") or not all(map(follows, parameters.values())) or (reads and len(inputs) > len(READS)):
        return None
    shown = tuple((core.get_field(t._slot, core.GEOMETRY), core.get_field(t._slot, core.DTYPE)) for t in outputs)
    name = found.get("graph_name")
    place = ("record", op.code, len(inputs), shown, saves, differentiable, tuple(reads), name, repr(parameters))
    if (plan := kept(place)) is None:
        every = saves
        for needed in reads:
            every |= needed
        needs = [saves | needed for needed in reads] + [saves] * (min(len(inputs), len(READS)) - len(reads))
        plan = keep(place, Plan(op, shown, saves=every, differentiable=differentiable, reads=needs, graph_name=name, **parameters), ())
    return plan


def follows(value) -> bool:
    """Whether an attribute is made of numbers, names and the like, as opposed to data."""
    if isinstance(value, (tuple, list)):
        return all(map(follows, value))
    return isinstance(value, PLAIN_ATTRIBUTES) or (dataclasses.is_dataclass(value) and follows([getattr(value, f.name) for f in dataclasses.fields(value)]))
