"""Nested tuples, named tuples, lists, dicts and OrderedDicts as flat lists of leaves and back.

A structure (`Spec`) prints as torch's.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

Spec = namedtuple("Spec", ["kind", "context", "children"])
Spec.__doc__ = "The structure of a tree: the container's type, what rebuilding needs (keys, the named tuple's type), the children's specs."


def _show(spec: Spec, indent: int = 0) -> str:
    if spec.kind is None:
        return "*"
    context = None if spec.kind in (tuple, list) else list(spec.context) if spec.kind in (dict, OrderedDict) else spec.context
    lines = [_show(child, indent + 2) for child in spec.children]
    text = lines[0] + ("," if len(lines) > 1 else "") + ",".join("\n" + " " * (indent + 2) + line for line in lines[1:]) if lines else ""
    kind = "namedtuple" if isinstance(context, type) else spec.kind.__name__
    return f"TreeSpec({kind}, {context}, [{text}])"


def sketch(spec: Spec) -> str:
    """The structure as Python would write it, `*` for each leaf."""
    parts = [sketch(child) for child in spec.children]
    if spec.kind is None:
        return "*"
    if spec.kind is list:
        return "[" + ", ".join(parts) + "]"
    if spec.kind in (dict, OrderedDict):
        text = "{" + ", ".join(f"{key!r}: {part}" for key, part in zip(spec.context, parts, strict=True)) + "}"
        return text if spec.kind is dict else f"OrderedDict({text})"
    text = "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
    return text if spec.kind is tuple else spec.kind.__name__ + text


Spec.__str__ = Spec.__repr__ = _show  # type: ignore[assignment]
LEAF = Spec(None, None, ())


def _open(tree: Any):
    """(container type, context, children) of a container, None of a leaf."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind, None, list(tree)
    if kind is dict or kind is OrderedDict:
        return kind, tuple(tree), list(tree.values())
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return kind, kind, list(tree)
    return None


def tree_flatten(tree: Any) -> tuple[list, Spec]:
    """(leaves, spec) of a tree.

    >>> leaves, spec = tree_flatten({"a": 1, "b": (2, [3])})
    >>> leaves, sketch(spec)
    ([1, 2, 3], "{'a': *, 'b': (*, [*])}")
    """
    leaves: list = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list) -> Spec:
    found = _open(tree)
    if found is None:
        leaves.append(tree)
        return LEAF
    kind, context, children = found
    return Spec(kind, context, tuple(_flatten(child, leaves) for child in children))


def tree_unflatten(leaves: Any, spec: Spec) -> Any:
    """The tree of a structure with other leaves."""
    return _build(iter(leaves), spec)


def _build(leaves, spec: Spec) -> Any:
    if spec.kind is None:
        return next(leaves)
    children = [_build(leaves, child) for child in spec.children]
    if spec.kind in (dict, OrderedDict):
        return spec.kind(zip(spec.context, children, strict=True))
    return spec.kind(*children) if spec.context is not None else spec.kind(children)


def tree_map(function: Callable, tree: Any) -> Any:
    """The tree with `function` applied to every leaf."""
    leaves, spec = tree_flatten(tree)
    return tree_unflatten([function(leaf) for leaf in leaves], spec)


def tree_leaves(tree: Any) -> list:
    """The leaves of a tree."""
    return tree_flatten(tree)[0]


def broadcast_to_and_flatten(tree: Any, spec: Spec) -> list | None:
    """The leaves of `tree` repeated over the structure `spec`, of which it is a prefix; None if it is not one."""
    result: list = []
    return result if _broadcast(tree, spec, result) else None


def _broadcast(tree: Any, spec: Spec, result: list) -> bool:
    found = _open(tree)
    if spec.kind is None:
        result.append(tree)
        return found is None
    if found is None:
        result.extend([tree] * _count(spec))
        return True
    kind, context, children = found
    if kind is not spec.kind or len(children) != len(spec.children):
        return False
    if kind in (dict, OrderedDict):
        if set(context) != set(spec.context):
            return False
        children = [tree[key] for key in spec.context]
    return all(_broadcast(child, below, result) for child, below in zip(children, spec.children, strict=True))


def _count(spec: Spec) -> int:
    return 1 if spec.kind is None else sum(map(_count, spec.children))
