"""Plans: what a structural op does for one combination of geometries, worked out once.

`core.apply(plan.address, *tensors)` allocates the outputs (or views the first input), runs the kernel and records the entry, in one
compiled call.  The plan object is the entry's payload, so a derivative finds its parameters there.
"""

from __future__ import annotations

import ctypes
import weakref

from tapegrad import core, geometry, modes
from tapegrad.dtypes import OF_SLOT
from tapegrad.dtypes import PLAIN as PLAIN_CODE
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell
from tapegrad.ops import chains
from tapegrad.ops.registry import BY_NAME as OPS
from tapegrad.ops.transformable import ACTIVE, Unhandled

_cache: dict[tuple, Plan] = {}
DTYPE, GEOMETRY, FLAGS = core.DTYPE, core.GEOMETRY, core.FLAGS
VIEW, TRACKED = layout.VIEW, layout.TRACKED
LOOK = VIEW | TRACKED  # slots of these kinds may have to be seen to before they are used


READS = (-1,) * layout.PLAN.count["reads"]  # unless the op says what each derivative reads: everything


def words(values):
    """int64 in memory that compiled code reads."""
    return (ctypes.c_int64 * len(values))(*values)


class Plan:
    """A filled `layout.PLAN` row and the Python-side parameters of the op."""

    def __init__(self, op, outputs, *, kernel=0, finish=0, scratch=0, view=False, byte_offset=0, n=0, cost=0, args=(), differentiable=-1, saves=0, reads=None,
                 graph_name=None, view_flags=VIEW, rules=(), packs=(), scale=1.0, operands=(), elementwise=False, writes=False, parts=(),
                 recorder=None, spread=None, chain=(), result_type=None, **parameters):
        """`outputs`: (geometry, dtype code) of each output.  `rules`: per input (SWEEP_*, geometry or Plan[, byte offset]) for the compiled
        sweep.  `packs`: per input `layout.AS_IS`, or the geometry in which the kernel wants it, as a row-major copy.  `operands`: for a plan
        that a rule or an elementwise call applies, which operands (1: g or the first, 2 ...).  A plan that writes (with neither op nor
        outputs) runs a kernel that changes its inputs; nothing is recorded, but by `recorder`, the plan of the entry for it, after `spread` where
        one element is written to many.
        """
        self.op = op
        self.graph_name = graph_name
        self.writes, self.recorder, self.spread = writes, recorder, spread
        self.parameters = parameters
        lists = {"args": [0, *args, 0], "results": [word for g, d in outputs for word in (g, d, byte_offset)]}
        if rules or packs:
            self._rules = rules
            lists["sources"] = sources = []
            for k in range(max(len(rules), len(packs))):
                rule, target, *offset = rules[k] if k < len(rules) else (0, 0)
                sources += [rule, target.address if isinstance(target, Plan) else target, *(offset or [0]), packs[k] if k < len(packs) else 0]
        if parts:
            self._parts = parts
            lists["parts"] = [len(parts), *(part.address for part in parts)]
        if chain:
            lists["chain"] = chain
        self._words = words([word for found in lists.values() for word in found])
        self._row = row = layout.PLAN.row(
            kernel=kernel, finish=finish, scratch=scratch, op=op.code if op else 0, outputs=len(outputs), shares=view, n=n, cost=cost, elementwise=elementwise, writes=writes,
            differentiable=differentiable, saves=saves, view_flags=view_flags, payload=id(self), scale=scale,
            operands=sum(which << 8 * k for k, which in enumerate(operands)), reads=(*reads, *READS[len(reads) :]) if reads else READS,
            recorder=recorder.address if recorder else 0, spread=spread.address if spread else 0, result_type=0 if result_type is None else id(result_type),
        )  # fmt: skip
        at = ctypes.addressof(self._words)
        for name, found in lists.items():
            setattr(row, name, at)
            at += 8 * len(found)
        row.args += 8
        self.address = ctypes.addressof(row)

    def __getattr__(self, name):
        try:
            return self.__dict__["parameters"][name]
        except KeyError:
            raise AttributeError(name) from None


class Parameters:
    """What the derivative of an op that runs in Python needs to know: the payload of its entry."""

    def __init__(self, op, graph_name=None, **parameters):
        self.op = op
        self.graph_name = graph_name
        self.saved: dict = {}  # tensors among the parameters, once they are saved for the derivative (`autograd/saved.py`)
        self.unpacked: dict | None = None  # their values while it runs
        self.__dict__.update(parameters)

    def __getattr__(self, name):
        saved = self.__dict__.get("saved", {})
        if name not in saved:
            raise AttributeError(name)
        if self.unpacked is not None:
            return self.unpacked[name]
        from tapegrad.autograd.saved import unpack_all

        return unpack_all(saved[name], None)

    def let_go(self):
        """The backward pass is through with the entry: give up the saved tensors."""
        for value in self.saved.values():
            for t in value if isinstance(value, tuple) else (value,):
                if hasattr(t, "let_go"):
                    t.let_go()


def settled(x) -> int:
    """The slot of `x`, brought up to date if its base was changed in place."""
    s = x._slot
    if s > 0:
        flags = core.get_field(s, FLAGS)
        if not flags & LOOK:
            return s
        if flags & TRACKED:
            raise Unhandled
        if core.get_field(s, core.VERSION) == core.version_of(s):
            return s
    from tapegrad.dispatch import settle

    settle(x)
    return x._slot


def view_plan(op, g, d, key, make, multi=False, fresh=False):
    """The plan of a view (see `view`) of tensors of geometry `g` and dtype code `d`."""
    place = (op.code, g, d, key, multi)
    plan = _cache.get(place)
    if plan is not None:
        return plan
    shape, steps, offset, parameters = make(tuple(geometry.shapes[g]), geometry.strides[g])
    target = geometry.geometry(tuple(shape), tuple(steps))
    size = OF_SLOT[d].itemsize
    shown = (op.retype(OF_SLOT[d]).code | d & ~PLAIN_CODE if op.retype else d) ^ op.turns
    flags = 0 if fresh else VIEW | (layout.MULTI_VIEW if multi else 0)
    plan = Plan(op, [(target, shown)], view=True, view_flags=flags, byte_offset=offset * size, input_shape=tuple(geometry.shapes[g]),
                make=make, key=key, viewed=g, **view_rule(op, OF_SLOT[d], tuple(geometry.shapes[g]), tuple(shape), make, parameters), **parameters)
    return keep(place, plan, ((g, d),))


def view(op, x, key, make, multi=False, fresh=False):
    """A view of `x`: `make(shape, strides)` gives (shape, strides, element offset, parameters), computed once per geometry and key.

    `fresh`: `x` is a result that nobody else will see, and so its view counts as a tensor of its own.
    """
    if ACTIVE and x._level is not None:
        return x._level.view(op, x, key, make, multi)
    s = settled(x)
    plan = view_plan(op, core.get_field(s, GEOMETRY), core.get_field(s, DTYPE), key, make, multi, fresh)
    flags, word = core.get_field(s, FLAGS), modes.word()
    out = _apply_view(plan, x, flags)
    note(plan, (x,), out)
    chains.step(plan, (x,), out)
    return _shown(out, plan, x, flags, word, fresh)


def views(plan, x) -> tuple:
    """The views of `x` (see `view`) that the plans among the parts of `plan` make, recorded as one entry."""
    flags, word = core.get_field(x._slot, FLAGS), modes.word()
    found = _apply_view(plan, x, flags)
    note(plan, (x,), found)
    chains.step(plan, (x,), tuple(found))
    return tuple([_shown(out, part, x, flags, word, False) for out, part in zip(found, plan._parts, strict=True)])


def _apply_view(plan, x, flags: int):
    if not flags & layout.INFERENCE:
        found = core.apply(plan.address, x)
    else:
        with modes.no_grad():
            found = core.apply(plan.address, x)
    if modes.word() & modes.WATCHED:
        _watch([x], found if isinstance(found, tuple) else [found])
    return found


def _shown(out, plan, x, flags: int, word: int, fresh: bool):
    """The view `out` of `x`, which had `flags`, as the caller in the modes `word` gets it: it knows where it came from."""
    if not fresh and not flags & layout.INFERENCE:
        base = x._base
        out._base_object = x if base is None else base
        out._parent, out._plan = x, plan
    if not word & modes.GRAD or flags & (layout.RESTRICTED | layout.INFERENCE):
        own = core.get_field(out._slot, FLAGS)
        base = flags if fresh or flags & layout.INFERENCE else core.get_field(out._base_object._slot, FLAGS)
        core.set_field(out._slot, FLAGS, view_flags(own, flags, word, fresh, base))
    return out


def view_flags(own: int, flags: int, word: int, fresh: bool, base: int) -> int:
    """The flags of a view that by itself would have `own`, of a tensor with `flags`, whose base has `base`, in the modes `word`."""
    if flags & layout.INFERENCE:
        return own & ~(VIEW | layout.RESTRICTED) | layout.INFERENCE  # such a tensor has no views, only memory in common
    if fresh:
        return own
    if not word & modes.GRAD:
        why = layout.INFERENCE_VIEW if word & modes.INFERENCE else layout.NO_GRAD_VIEW
        return own & ~layout.RESTRICTED | why | base & layout.REQUIRES_GRAD
    return own if own & layout.RESTRICTED else own | flags & layout.RESTRICTED


def view_rule(op, d, shape, target, make, parameters) -> dict:
    """How the compiled sweep takes a gradient back through a view of elements of `d`."""
    if op.sweep == "reshape":
        return {"rules": [(layout.SWEEP_VIEW, geometry.geometry(shape))]}
    if op.sweep == "permute":
        steps = geometry.contiguous_strides(target)
        back = [0] * len(shape)
        for k, d in enumerate(parameters["order"]):
            back[d] = steps[k]
        return {"rules": [(layout.SWEEP_VIEW, geometry.geometry(shape, tuple(back)))]}
    if op.sweep == "expand":
        mode, sizes, moves = geometry.walk(target, geometry.expanded_strides(target, geometry.geometry(shape)), list(range(len(target)))[::-1])
        if mode == layout.DIRECT:
            return {"rules": [(layout.SWEEP_VIEW, geometry.geometry(shape))]} if 0 not in target else {}
        if d.code not in layout.SUMMED:
            return {}
        walk = words([len(sizes), *sizes, *moves])
        return {"rules": [(layout.SWEEP_REDUCE, ctypes.addressof(walk) if mode == layout.STRIDED else 0)], "walk": walk}
    if op.sweep == "embed":
        _, steps, offset, _ = make(shape, geometry.contiguous_strides(shape))
        return {"rules": [(layout.SWEEP_EMBED, geometry.geometry(target, tuple(steps)), offset * d.itemsize)]}
    if op.turns:
        return {"rules": [(layout.SWEEP_UNARY, OPS[op.sweep].code)]}
    return {}


_last: tuple = (None, (), ())  # the plan (or elementwise op) that ran last from Python, its operands, and weak references to its outputs


def forget_last() -> None:
    """Before a call that is to teach the cache: no plan has run yet."""
    global _last
    _last = (None, (), ())


def note(plan, operands, out) -> None:
    """Remember what made `out`; operands are tensors, or Python numbers of an elementwise op."""
    global _last
    _last = (plan, tuple(v if type(v) in (int, float) else id(v) for v in operands), tuple(map(weakref.ref, out if isinstance(out, tuple) else (out,))))


def note_written(result, target, source=None) -> None:
    """The value of `target` is now `result`, which the plan that ran last may have made, of the copy `source` of what it was."""
    global _last
    plan, inputs, out = _last
    if len(out) == 1 and out[0]() is result:
        _last = (plan, tuple(id(target) if source is not None and v == id(source) else v for v in inputs), (weakref.ref(target),))


def note_given(value, number) -> None:
    """The operand `value` of the plan that ran last was given by the caller as a number."""
    global _last
    plan, inputs, out = _last
    if type(number) in (int, float):
        _last = (plan, tuple(number if v == id(value) else v for v in inputs), out)


def note_store(op, target, region, offset: int, value, given, recorder=None) -> None:
    """`value` (`given` by the caller, perhaps as a number) has been written over the geometry `region` of `target`, `offset` elements on.

    `recorder`: the plan of the entry that records this.
    """
    s = target._slot
    g, d = core.get_field(s, GEOMETRY), core.get_field(s, DTYPE)
    other = (core.get_field(value._slot, GEOMETRY), core.get_field(value._slot, DTYPE))
    if geometry.flags_of(region) & layout.OVERLAPS:  # an expanded tensor: compiled code would write each element more than once
        return
    if not geometry.numels[region] or len(geometry.shapes[other[0]]) > len(geometry.shapes[region]):
        return
    place = (op.code, g, d, other, region, offset, recorder.graph_name if recorder else None)
    plan = _cache.get(place)
    if plan is None:
        one = d in layout.SUMMED and geometry.numels[other[0]] == 1
        spread = Plan(op, [(region, d)], rules=[(layout.SWEEP_REDUCE, 0)], graph_name="CopyBackwards") if one else None
        plan = Plan(op, [(region, d)], byte_offset=offset * OF_SLOT[d].itemsize, writes=True, recorder=recorder, spread=spread)
        plan = keep(place, plan, ((g, d), other))
    note(plan, (target, given), target)


def note_detached(x, out) -> None:
    """`out` is `x`, apart from the graph."""
    shown = core.get_field(x._slot, GEOMETRY), core.get_field(x._slot, DTYPE)
    place = ("detached", *shown)
    chains.step(kept(place) or keep(place, Plan(None, [shown], view=True, view_flags=0, differentiable=0), (shown,)), (x,), out)


def answered(result, operands):
    """The plan that made `result` out of exactly `operands` (the tensors of a call, and those of its numbers that are operands), or None."""
    plan, inputs, out = _last
    results = result if isinstance(result, tuple) else (result,)
    if len(out) != len(results) or not all(ref() is r for ref, r in zip(out, results, strict=True)) or not results:
        return None
    if len(out) == 1 and isinstance(result, tuple) != hasattr(plan, "_parts"):  # a piece of its own in a tuple, or taken from one
        return None
    tensors = [v for v in operands if hasattr(v, "_slot")]
    if any(type(t) not in PLAIN for t in (*tensors, *results)) or any(
        core.get_field(r._slot, FLAGS) & layout.LEAF_GRAD and not any(r is t for t in tensors) for r in results
    ):
        return None
    named = [v if type(v) in (int, float) else id(v) for v in operands]
    if isinstance(plan, Plan):
        return plan if list(inputs) == named else None
    return elementwise_plan(plan, inputs, named)


def elementwise_plan(op, inputs, named):
    """The plan of an elementwise op on the operands of a call (ids and numbers), in whatever order, or None."""
    if len(set(named)) != len(named) or sorted(map(str, named)) != sorted(map(str, inputs)):
        return None
    order = tuple(named.index(v) + 1 for v in inputs)
    place = (op.code, "elementwise", order)
    plan = _cache.get(place)
    return plan if plan is not None else keep(place, Plan(op, [], elementwise=True, operands=order), ())


LIMIT = 50_000  # plans kept; a program with ever new shapes starts over
_retired: dict[tuple, Plan] = {}  # the generation before: a call under way may still hold the address of one


def keep(place, plan, inputs):
    """The plan for `place`: `plan`, unless another thread was first.  Only a kept plan may be pointed at by compiled code."""
    plan.place, plan.inputs = place, inputs
    if len(_cache) >= LIMIT:
        forget()
    return _cache.setdefault(place, plan)


def kept(place):
    """The plan that is kept for `place`, or None."""
    return _cache.get(place)


def forget() -> None:
    """Drop every cached plan; entries and views keep those they need."""
    global _cache, _retired
    with geometry.lock:
        _cache, _retired = {}, _cache
        if state_cell("calls").value:
            layout.CALL.view(state_cell("calls").value, layout.CALL_ROWS)["plan"] = 0


def remember(plan, teach) -> None:
    """Let the call cache answer by `plan` itself, which `teach()` tells it, if the plan is still kept."""
    with geometry.lock:
        if _cache.get(plan.place) is plan:
            teach()


def cached(op, tensors, key, make):
    """The plan of a computing op, made by `make()` at first use of these geometries, dtypes and parameters."""
    place = (op.code, *((core.get_field(t._slot, GEOMETRY), core.get_field(t._slot, DTYPE)) for t in tensors), key)
    plan = _cache.get(place)
    if plan is None:
        assert all(d <= PLAIN_CODE for _, d in place[1:-1]), f"{op.name}: an operand whose conjugation or negation is postponed"
        plan = keep(place, make(), place[1:-1])
    return plan


def run(op, tensors, key, make, refused=None):
    """Run a computing op by its plan; `refused()` raises the error if its kernel refuses the operands."""
    for t in tensors:
        settled(t)
    plan = cached(op, tensors, key, make)
    out = core.apply(plan.address, *tensors)
    if out is None:
        assert refused is not None
        refused()
    note(plan, tensors, out)
    if not plan.writes:
        chains.step(plan, tensors, out)
    word = modes.word()
    if word & modes.INFERENCE and not plan.writes:
        for t in out if isinstance(out, tuple) else (out,):
            core.set_field(t._slot, FLAGS, core.get_field(t._slot, FLAGS) | layout.INFERENCE)
    if word & modes.GRAD and any(core.get_field(t._slot, FLAGS) & layout.INFERENCE for t in tensors):
        _refuse_inference(tensors, out if isinstance(out, tuple) else (out,))
    if word & modes.WATCHED:
        _watch(tensors, out if isinstance(out, tuple) else (out,))
    return out


def _refuse_inference(inputs, outputs) -> None:
    from tapegrad.autograd import saved

    saved.check_inference(inputs, outputs)


def _watch(inputs, outputs) -> None:
    from tapegrad.autograd import watch

    watch.recorded(inputs, outputs)


PLAIN: set[type] = set()
