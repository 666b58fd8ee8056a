"""How tensors look inside a function that is being transformed: the levels that follow a tensor are told around its value.

Batched and dual tensors know their level.  Reverse mode has no wrappers; what it follows is known from where the tensor comes from: whatever
was made after the level began, and its arguments under their new names.
"""

from __future__ import annotations

import textwrap

from tapegrad import core
from tapegrad.ops.transformable import plain
from tapegrad.transforms import reverse
from tapegrad.transforms.wrappers import born, levels


def text(t) -> str:
    """The repr of `t` at this place."""
    return _below(t, [level for level in levels() if level.public and level.kind != "vmap"], float("inf"))


def _below(t, following: list, ceiling: float) -> str:
    """The repr of `t` as levels under `ceiling` see it."""
    own = t._level
    if own is None:
        shown, depth = _bottom(t, following), 0
    else:
        inner, depth = _below(t._value, following, own.depth), own.depth
        shown = f"BatchedTensor(lvl={depth}, bdim={t._bdim}, value={_indented(inner)})" if own.kind == "vmap" else _tracked(depth if own.alive else -2, inner)
    for level in following:
        if depth < level.depth < ceiling and made_inside(t, level):
            shown = _tracked(level.depth, shown)
    return shown


def unwrap(t, recurse: bool):
    """`t` as the level around the highest one that follows it sees it, or as it is outside of all."""
    while t._level is not None:
        t = t._value
        if not recurse:
            return t
    return t.detach() if any(level.public and level.kind != "vmap" and made_inside(t, level) for level in levels()) else t


def made_inside(t, level) -> bool:
    """Whether `t` was made by the function that `level` differentiates, or is one of its arguments."""
    bottom = plain(t)
    if bottom._slot <= 0:
        return False
    return born(bottom._slot) >= level.serial or (id(bottom) not in level.originals and core.get_field(bottom._slot, core.BUFFER) in level.arguments)


def _tracked(depth: int, inner: str) -> str:
    return f"GradTrackingTensor(lvl={depth}, value={_indented(inner)})"


def _indented(inner: str) -> str:
    return f"\n{textwrap.indent(inner, '    ')}\n"


def _bottom(t, following: list) -> str:
    """A tensor with memory, as it was before reverse mode inside the levels `following` began to record."""
    points = [p for level in following if level.kind == "grad" for p in level.points if p.is_leaf]
    if not t.requires_grad or not any(made_inside(t, level) for level in following):
        return t._text()
    if not reverse.depends_on_others([t], points):
        return t.detach()._text()
    node = t.grad_fn
    while node is not None and node.name().startswith("Alias"):
        node = node.next_functions[0][0]
    leaf = getattr(node, "variable", None)
    return t._text() if leaf is None else leaf._text()
