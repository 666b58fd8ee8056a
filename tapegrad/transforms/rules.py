"""Rules by which ops of a kind run over a batch, as their records name them, and what rules do with a call: its arguments by name."""

from __future__ import annotations

import inspect

from tapegrad.ops.transformable import Unhandled
from tapegrad.utils._pytree import tree_flatten, tree_unflatten

_signatures: dict = {}  # function -> (signature, defaults by name, names given by position, names given by keyword); () with *args


def _signature(f):
    found = _signatures.get(f)
    if found is None:
        signature = inspect.signature(f)
        kinds = {name: p.kind for name, p in signature.parameters.items()}
        if any(k in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) for k in kinds.values()):
            found = signature, {}, (), ()
        else:
            last = [name for name, k in kinds.items() if k is inspect.Parameter.KEYWORD_ONLY]
            found = signature, {n: p.default for n, p in signature.parameters.items()}, [n for n in kinds if n not in last], last
        _signatures[f] = found
    return found


def arguments(f, args, kwargs) -> dict:
    """The arguments of a call by name, defaults included."""
    signature, defaults, positional, _ = _signature(f)
    if defaults and len(args) <= len(positional):
        named = {**defaults, **dict(zip(positional, args, strict=False)), **kwargs}
        if len(named) == len(defaults) and not any(v is inspect.Parameter.empty for v in named.values()):
            return named
    bound = signature.bind(*args, **kwargs)  # raises if the call is wrong
    bound.apply_defaults()
    return bound.arguments


def again(f, named: dict):
    """Call `f` with arguments by name."""
    signature, defaults, positional, last = _signature(f)
    if defaults:
        return f(*[named[name] for name in positional], **{name: named[name] for name in last})
    given: list = []
    keywords: dict = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            given.extend(named[name])
        elif parameter.kind is parameter.VAR_KEYWORD:
            keywords.update(named[name])
        elif parameter.kind is parameter.KEYWORD_ONLY:
            keywords[name] = named[name]
        else:
            given.append(named[name])
    return f(*given, **keywords)


def wrapped(level, result):
    """The tensors of a result as tensors of the level."""
    leaves, spec = tree_flatten(result)
    return tree_unflatten([level.wrap(t) if hasattr(t, "_slot") else t for t in leaves], spec)


def flattened(level, result, size):
    """The tensors of a result whose samples are 0-d but were given one dim."""
    leaves, spec = tree_flatten(result)
    return tree_unflatten([level.wrap(t.reshape(size)) if hasattr(t, "_slot") else t for t in leaves], spec)


def over(level, f, *args, **kwargs):
    """Ops over `dims` (normalised) of their first tensor: the dims move up by one."""
    named = arguments(f, args, kwargs)
    name = "x" if "x" in named else "input"
    x, dims = named[name], named["dims"]
    named[name] = level.front(x) if x.ndim else level.front(x).unsqueeze(1)
    named["dims"] = tuple(d + 1 for d in dims) if x.ndim else (1,)
    result = again(f, named)
    return wrapped(level, result) if x.ndim else flattened(level, result, level.size)


def along(level, f, *args, **kwargs):
    """Ops along one `dim`, all of whose tensors have the same dims."""
    from tapegrad.ops.views import wrap_dim

    named = arguments(f, args, kwargs)
    tensors = {name: t for name, t in named.items() if hasattr(t, "_slot")}
    ndim = max(t.ndim for t in tensors.values())
    named["dim"] = wrap_dim(named["dim"], ndim) + 1
    for name, t in tensors.items():
        named[name] = level.spread(t) if t.ndim or not ndim else level.spread(t).unsqueeze(1)
        if not ndim:
            named[name] = named[name].unsqueeze(1)
    result = again(f, named)
    return wrapped(level, result) if ndim else flattened(level, result, level.size)


def leading(level, f, *args, **kwargs):
    """Ops that take any number of leading dims as they are."""
    leaves, spec = tree_flatten((args, kwargs))
    a, kw = tree_unflatten([level.front(leaf) for leaf in leaves], spec)
    return wrapped(level, f(*a, **kw))


def sequence(level, f, tensors, dim=0, *, extra=0, **kwargs):
    """cat and stack: every piece with the batch in front."""
    from tapegrad.ops.views import wrap_dim

    tensors = list(tensors)
    if f.__name__ == "cat":  # empty vectors join whatever the others are
        tensors = [t for t in tensors if tuple(t.shape) != (0,)] or tensors
    ndim = max(t.ndim for t in tensors) + (f.__name__ == "stack")
    return level.wrap(f([level.spread(t) for t in tensors], wrap_dim(kwargs.pop("axis", None) or dim, ndim) + 1, **kwargs))


def refused(text):
    """A rule that raises: the op has no meaning under vmap."""

    def rule(level, f, *args, **kwargs):
        raise RuntimeError(text)

    return rule


def matrices(level, f, input, *args, **kwargs):
    """Ops on the last two dims."""
    return leading(level, f, input, *args, **kwargs) if input.ndim >= 2 else f.__wrapped__(input, *args, **kwargs)


def first_leading(level, f, A, *args, **kwargs):
    """`matrices` where the first tensor is the only one."""
    if A.ndim < 2 or any(hasattr(v, "_slot") for v in (*args, *kwargs.values())):
        raise Unhandled
    return wrapped(level, f(level.front(A), *args, **kwargs))


def spread_list(level, f, op, tensors, *args):
    """Elementwise ops on a list of tensors of one shape."""
    return wrapped(level, f(op, [level.spread(t) for t in tensors], *args))


def in_order(level, f, self, memory_format=None):
    """contiguous: of the samples."""
    return self if self.is_contiguous(memory_format) else level.wrap(f(level.front(self)))


RULES = {"in_order": in_order, "spread_list": spread_list, "first_leading": first_leading, "matrices": matrices, "over": over, "along": along, "leading": leading, "sequence": sequence}
