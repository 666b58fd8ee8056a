"""Plans: what a structural op does for one combination of geometries, worked out once.

`core.apply(plan.address, *tensors)` allocates the outputs (or views the first input), runs the kernel and records the entry, in one
compiled call.  The plan object is the entry's payload, so a derivative finds its parameters there.
"""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from tapegrad import core, geometry, modes
from tapegrad.dtypes import BY_CODE
from tapegrad.engine import layout
from tapegrad.engine.bind import state_cell

_cache: dict[tuple, Plan] = {}
DTYPE, GEOMETRY, FLAGS = core.DTYPE, core.GEOMETRY, core.FLAGS
VIEW = layout.VIEW


class Plan:
    """A filled `layout.PLAN` row and the Python-side parameters of the op."""

    def __init__(self, op, outputs, *, kernel=0, view=False, byte_offset=0, n=0, cost=0, args=(), differentiable=-1, saves=0,
                 graph_name=None, view_flags=VIEW, rules=(), back_offset=0, scale=1.0, operands=0, **parameters):
        """`outputs`: (geometry, dtype code) of each output.  `rules`: per input (SWEEP_*, geometry or Plan) for the compiled sweep."""
        self.op = op
        self.graph_name = graph_name
        self.parameters = parameters
        self._args = np.array([*args, 0], np.int64)
        self._row = row = np.zeros(1, layout.PLAN.dtype)
        row["kernel"], row["op"], row["outputs"], row["shares"] = kernel, op.code, len(outputs), view
        row["byte_offset"], row["n"], row["cost"] = byte_offset, n, cost
        row["differentiable"], row["saves"], row["view_flags"] = differentiable, saves, view_flags
        row["payload"], row["args"] = id(self), self._args.ctypes.data
        row["back_offset"], row["scale"], row["operands"] = back_offset, scale, operands
        self._rules = rules
        for k, (rule, target) in enumerate(rules):
            row["rule"][0, k], row["backward"][0, k] = rule, target.address if isinstance(target, Plan) else target
        for k, (g, d) in enumerate(outputs):
            row["geometry"][0, k], row["dtype"][0, k] = g, d
        self.address = row.ctypes.data

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
    if s <= 0 or (core.get_field(s, FLAGS) & VIEW and core.get_field(s, core.VERSION) != core.version_of(s)):
        from tapegrad.dispatch import settle

        settle(x)
    return x._slot


def view(op, x, key, make, multi=False):
    """A view of `x`: `make(shape, strides)` gives (shape, strides, element offset, parameters), computed once per geometry and key."""
    s = settled(x)
    g, d = core.get_field(s, GEOMETRY), core.get_field(s, DTYPE)
    place = (op.code, g, d, key)
    plan = _cache.get(place)
    if plan is None:
        shape, steps, offset, parameters = make(tuple(geometry.shapes[g]), geometry.strides[g])
        target = geometry.geometry(tuple(shape), tuple(steps))
        size = BY_CODE[d].itemsize
        plan = Plan(op, [(target, d)], view=True, byte_offset=offset * size, input_shape=tuple(geometry.shapes[g]),
                                    make=make, key=key, **view_rule(op, tuple(geometry.shapes[g]), tuple(shape), make, size, parameters), **parameters)
        plan = keep(place, plan, ((g, d),))
    out = core.apply(plan.address, x)
    note(plan, (x,), out)
    base = x._base
    out._base = x if base is None else base
    out._parent, out._plan = x, plan
    flags = core.get_field(s, FLAGS)
    word = modes.word()
    extra = (layout.MULTI_VIEW if multi else 0) | (flags & layout.NO_GRAD_VIEW)
    if not word & modes.GRAD and flags & layout.REQUIRES_GRAD:
        extra |= layout.NO_GRAD_VIEW
    if word & modes.INFERENCE or flags & layout.INFERENCE:
        extra |= layout.INFERENCE
    if extra:
        core.set_field(out._slot, FLAGS, core.get_field(out._slot, FLAGS) | extra)
    if word & modes.WATCHED:
        _watch([x], [out])
    kind = type(x)
    return out if kind in PLAIN else adapt(out, kind)


def view_rule(op, shape, target, make, size, parameters) -> dict:
    """How the compiled sweep takes a gradient back through a view."""
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
        words = np.array([len(sizes), *sizes, *moves], np.int64)
        return {"rules": [(layout.SWEEP_REDUCE, words.ctypes.data if mode == layout.STRIDED else 0)], "walk": words}
    if op.sweep == "embed":
        _, steps, offset, _ = make(shape, geometry.contiguous_strides(shape))
        return {"rules": [(layout.SWEEP_EMBED, geometry.geometry(target, tuple(steps)))], "back_offset": offset * size}
    return {}


_last: tuple = (None, (), None)  # the last plan that ran from Python, its inputs, and a weak reference to its output


def note(plan, tensors, out) -> None:
    global _last
    _last = (plan, tuple(map(id, tensors)), None if type(out) is tuple else weakref.ref(out))


def answered(result, operands):
    """The plan that made `result` out of exactly `operands` and nothing else since, or None."""
    plan, inputs, out = _last
    return plan if out is not None and out() is result and inputs == tuple(map(id, operands)) else None


LIMIT = 50_000  # plans kept; a program with ever new shapes starts over
_retired: dict[tuple, Plan] = {}  # the generation before: a call under way may still hold the address of one


def keep(place, plan, inputs):
    """The plan for `place`: `plan`, unless another thread was first.  Only a kept plan may be pointed at by compiled code."""
    plan.place, plan.inputs = place, inputs
    if len(_cache) >= LIMIT:
        forget()
    return _cache.setdefault(place, plan)


def forget() -> None:
    """Drop every cached plan; entries and views keep those they need."""
    global _cache, _retired
    with geometry.lock:
        _cache, _retired = {}, _cache
        ctypes.memset(state_cell("calls").value, 0, layout.CALL_ROWS * layout.CALL.size)


def remember(plan, method: int, second: int, dtype: int, key) -> None:
    """Let compiled code answer a call (see `install.remember`) by `plan` itself, if it is still kept."""
    with geometry.lock:
        if _cache.get(plan.place) is plan:
            core.remember_call(method, plan.inputs[0][0], second, dtype, *key, plan.address)


def cached(op, tensors, key, make):
    """The plan of a computing op, made by `make()` at first use of these geometries, dtypes and parameters."""
    place = (op.code, *((core.get_field(t._slot, GEOMETRY), core.get_field(t._slot, DTYPE)) for t in tensors), key)
    plan = _cache.get(place)
    return plan if plan is not None else keep(place, make(), place[1:-1])


def run(op, tensors, key, make):
    """Run a computing op by its plan."""
    for t in tensors:
        settled(t)
    plan = cached(op, tensors, key, make)
    out = core.apply(plan.address, *tensors)
    note(plan, tensors, out)
    word = modes.word()
    if word & modes.INFERENCE:
        for t in out if isinstance(out, tuple) else (out,):
            core.set_field(t._slot, FLAGS, core.get_field(t._slot, FLAGS) | layout.INFERENCE)
    if word & modes.WATCHED:
        _watch(tensors, out if isinstance(out, tuple) else (out,))
    for t in tensors:
        if type(t) not in PLAIN:
            return adapt(out, type(t))
    return out


def _watch(inputs, outputs) -> None:
    from tapegrad.autograd import watch

    watch.recorded(inputs, outputs)


PLAIN: set[type] = set()


def adapt(out, kind):
    if isinstance(out, tuple):
        return tuple(adapt(t, kind) for t in out)
    kept = out._base, out._parent, out._plan
    out = out.as_subclass(kind)
    out._base, out._parent, out._plan = kept
    return out
