"""Reverse mode under transforms: it runs on the tape, below all levels.

A function under `grad` gets fresh aliases of its inputs.  The gradient of values that levels wrap is taken level by level (`pull`): of
batched values, that of the physical ones, for a sample's result depends on that sample's alias only (aliases are batched at every level
that is under way); of dual values y = yp + eps yt with cotangents v = vp + eps vt,

    the gradient is vjp(yp; vp), and its tangent vjp(yp; vt) + vjp(yt; vp).

Cotangents may be of levels that the values know nothing of (a vmapped vjp): they pass the derivatives' formulas as they are.
"""

from __future__ import annotations

from tapegrad import core
from tapegrad.autograd.node import record
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import plain
from tapegrad.transforms.wrappers import levels


@structural("alias_op", "Alias")
def alias_op(node, g):
    """alias: the same value under another name."""
    return g


def depth_of(t) -> int:
    return 0 if t._level is None else t._level.depth


def vmap_levels(values=None) -> list:
    """The vmap levels that this thread is inside of, or those that tensors among `values` belong to; lowest first."""
    if values is None:
        return [level for level in levels() if level.kind == "vmap"]
    found = set()
    stack = list(values)
    while stack:
        t = stack.pop()
        level = getattr(t, "_level", None)
        if level is None:
            continue
        stack.append(t._value)
        if level.kind == "vmap":
            found.add(level)
        else:
            stack.append(t._tangent)
    return sorted(found, key=lambda level: level.depth)


def batched_at(t, level):
    """`t` with a batch at vmap `level`: repeated if its value (the tangents of duals do not count) has none."""
    if t._level is level:
        return t
    if t._level is None or t._level.depth < level.depth:
        return level.wrap(t.unsqueeze(0).expand(level.size, *t.shape))
    inner = batched_at(t._value, level)
    return t._level.wrap(inner, t._bdim) if t._level.kind == "vmap" else t._level.wrap(inner, t._tangent)


# --- inputs and outputs of a function that is differentiated --------------------------------------------------------
def alias(t, inside, connected: bool):
    """A new name for `t` to differentiate by: batched at the vmap levels `inside`, and on the tape still connected to `t` if it requires
    grad and that is `connected`."""
    for level in inside:
        t = batched_at(t, level)
    return bottom(t, lambda x: _alias(x, connected))


def _alias(t, connected: bool):
    result = core.wrap(core.share_slot(t))
    if connected and t.requires_grad:
        record(alias_op, [t], [result])
    else:
        if not (t.dtype.is_floating_point or t.dtype.is_complex):
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        result._require_grad()
    return result


def another(t, connected: bool):
    """`t` as another object, which may be changed in place without `t` becoming part of the graph of a transform."""

    def one(x):
        result = core.wrap(core.share_slot(x))
        if connected and x.requires_grad:
            record(alias_op, [x], [result])
        return result

    return bottom(t, one)


def bottom(t, function):
    """`t` with the plain tensor below its wrappers (values, not tangents) replaced."""
    level = t._level
    if level is None:
        return function(t)
    inner = bottom(t._value, function)
    return level.wrap(inner, t._bdim) if level.kind == "vmap" else level.wrap(inner, t._tangent)


def parts_of(t) -> list:
    """All plain tensors below the wrappers, tangents included."""
    if t._level is None:
        return [t]
    return parts_of(t._value) + (parts_of(t._tangent) if t._level.kind == "jvp" else [])


def detached(t):
    """`t` without a graph, wrappers kept."""
    level = t._level
    if level is None:
        return t.detach() if t.requires_grad else t
    if level.kind == "vmap":
        return level.wrap(detached(t._value), t._bdim)
    return level.wrap(detached(t._value), detached(t._tangent))


def depends_on_others(outputs, points) -> bool:
    """Whether outputs depend on anything that requires grad besides the aliases `points`."""
    from tapegrad.autograd.engine import Sweep

    roots = [p for out in outputs for p in parts_of(out) if p.requires_grad]
    return bool(roots) and Sweep(True, False).reaches_others(roots, [plain(p)._slot for p in points])


# --- gradients of wrapped values ------------------------------------------------------------------------------------
def pull(outputs, points, cotangents, create: bool) -> list:
    """The gradient of `outputs` weighed by `cotangents`, by each of `points`; None where there is none."""
    top = max((t for t in (*outputs, *points) if t._level is not None), key=depth_of, default=None)
    if top is None:
        return _pull_plain(outputs, points, cotangents, create)
    level = top._level
    return _pull_batched(level, outputs, points, cotangents, create) if level.kind == "vmap" else _pull_dual(level, outputs, points, cotangents, create)


def _pull_plain(outputs, points, cotangents, create):
    from tapegrad import autograd

    live = [(out, v) for out, v in zip(outputs, cotangents, strict=True) if out.requires_grad]
    if not live:
        return [None] * len(points)
    return list(autograd.grad([out for out, _ in live], points, [v for _, v in live], True, create, allow_unused=True))


def _pull_batched(level, outputs, points, cotangents, create):
    values, weights = [], []
    for out, v in zip(outputs, cotangents, strict=True):
        if level.follows(out):  # what is not of this level does not depend on the points, which are
            values.append(out._value)
            weights.append(strip(v, level).movedim(0, out._bdim))
    found = pull(values, [p._value if level.follows(p) else p for p in points], weights, create)
    return [
        g if g is None or not level.follows(p) else insert(g, level, p._bdim) for g, p in zip(found, points, strict=True)
    ]


def _pull_dual(level, outputs, points, cotangents, create):
    below = [level.value(p) for p in points]
    first: list = []
    second: list = []
    for out, v in zip(outputs, cotangents, strict=True):
        value, tangent = level.value(out), level.tangent(out)
        v_value, v_tangent = split(v, level)
        first.append((value, v_value))
        if v_tangent is not None:
            second.append((value, v_tangent))
        if tangent is not None:
            second.append((tangent, v_value))
    gradients = pull([y for y, _ in first], below, [v for _, v in first], create)
    tangents = pull([y for y, _ in second], below, [v for _, v in second], create) if second else [None] * len(points)
    return [join(g, t, level) for g, t in zip(gradients, tangents, strict=True)]


def transposed(out, points, tangents, inside, create: bool):
    """J t for out = f(points): the derivative of u -> J^T u by u, applied to the tangents."""
    from tapegrad.creation import zeros_like

    u = alias(detached(zeros_like(out)), inside, False)
    pulled = pull([out], points, [u], True)
    live = [(g, t) for g, t in zip(pulled, tangents, strict=True) if g is not None]
    found = pull([g for g, _ in live], [u], [t for _, t in live], create)[0] if live else None
    if found is None:
        return zeros_like(out)
    return found if create else detached(found)


# --- commuting with the wrappers of higher levels -------------------------------------------------------------------
def strip(v, level):
    """`v` without its wrapper of vmap `level`: the batch becomes a first dim (repeated if `v` was not batched there)."""
    if v._level is level:
        return level.front(v)
    if v._level is None or v._level.depth < level.depth:
        return v.unsqueeze(0).expand(level.size, *v.shape)
    if v._level.kind == "vmap":
        return v._level.wrap(strip(v._value, level), v._bdim + 1)
    return v._level.wrap(strip(v._value, level), strip(v._tangent, level))


def insert(g, level, bdim: int):
    """Dim `bdim` of `g` as the batch of vmap `level`, below the wrappers of higher levels."""
    if g._level is None or g._level.depth < level.depth:
        return level.wrap(g, bdim)
    outer = g._level
    if outer.kind == "vmap":
        at = bdim if bdim < g._bdim else bdim + 1
        return outer.wrap(insert(g._value, level, at), g._bdim - (at < g._bdim))
    return outer.wrap(insert(g._value, level, bdim), insert(g._tangent, level, bdim))


def split(v, level):
    """(value, tangent or None) of `v` at a forward-mode level, below the wrappers of higher levels."""
    if v._level is None or v._level.depth < level.depth:
        return v, None
    if v._level is level:
        return v._value, v._tangent
    outer = v._level
    value, tangent = split(v._value, level)
    if outer.kind == "vmap":
        return outer.wrap(value, v._bdim), None if tangent is None else outer.wrap(tangent, v._bdim)
    value2, tangent2 = split(v._tangent, level)
    if tangent is None and tangent2 is None:
        return v, None
    from tapegrad.creation import zeros_like

    tangent = zeros_like(value) if tangent is None else tangent
    return outer.wrap(value, value2), outer.wrap(tangent, zeros_like(value2) if tangent2 is None else tangent2)


def join(value, tangent, level):
    """The dual tensor of a forward-mode level from parts that may be of higher levels; None stands for zeros."""
    if tangent is None:
        return value
    if value is None:
        from tapegrad.creation import zeros_like

        value = zeros_like(tangent)
    top = max(value, tangent, key=depth_of)
    if depth_of(top) < level.depth:
        return level.wrap(value, tangent)
    outer = top._level
    if outer.kind == "vmap":
        return outer.wrap(join(outer.spread(value), outer.spread(tangent), level))
    value2, tangent2 = outer.tangent(value), outer.tangent(tangent)
    return outer.wrap(join(outer.value(value), outer.value(tangent), level), join(value2, tangent2, level))




def zeros_of(t):
    """Zeros of the shape of `t`, without a graph."""
    from tapegrad.creation import zeros_like

    return detached(zeros_like(t))


def ones_of(t):
    from tapegrad.creation import ones_like

    return detached(ones_like(t))
