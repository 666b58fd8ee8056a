"""vmap: a level whose tensors have a batch dim that the function does not see.

A `Batched` tensor holds a tensor of lower levels (`_value`) and which of its dims is the batch (`_bdim`).  The rules of families:
elementwise operands are aligned by their logical rank with the batch in front; a view applies what it does to shape and strides to the
dims behind the batch; other families have a rule beside the op (`batch=`, made by the helpers below).  What has no rule runs sample by
sample (`loop`), which is differentiable, and right for every op.
"""

from __future__ import annotations

import inspect

from tapegrad import core, dispatch, geometry
from tapegrad.ops import plan as plans
from tapegrad.ops.postponed import carried_out
from tapegrad.ops.transformable import Unhandled
from tapegrad.transforms import escaping
from tapegrad.transforms.wrappers import NO_BRANCH, NO_ITEM, NO_ITEM_IN_GRADIENTS, Level, Wrapper, in_body, make, run_body, view_of
from tapegrad.utils._pytree import tree_flatten, tree_unflatten

UNBATCHED_TARGET = (
    "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args that has more elements than "
    "`self`. This happened due to `other` being vmapped over but `self` not being vmapped over in a vmap. Please try to use out-of-place "
    "operators instead of inplace arithmetic. If said operator is being called inside the PyTorch framework, please file a bug report instead."
)

_logical: dict[tuple[int, int], int] = {}  # (geometry, batch dim) -> the geometry without that dim


def logical_geometry(g: int, bdim: int) -> int:
    found = _logical.get((g, bdim))
    if found is None:
        shape, steps = tuple(geometry.shapes[g]), geometry.strides[g]
        found = _logical[g, bdim] = geometry.geometry(shape[:bdim] + shape[bdim + 1 :], steps[:bdim] + steps[bdim + 1 :])
    return found


class Batched(Wrapper):
    """A tensor of a vmap level."""

    _kind = "BatchedTensorImpl"

    def item(self):
        raise Unhandled if in_body() else RuntimeError(NO_ITEM if self._level.public else NO_ITEM_IN_GRADIENTS)

    def __bool__(self):
        raise Unhandled if in_body() else RuntimeError(NO_BRANCH)

    def tolist(self):
        self.numpy()

    @property
    def data(self):
        raise RuntimeError("accessing `data` under vmap transform is not allowed")

    @data.setter
    def data(self, value):
        raise RuntimeError("mutating directly with `.data` under vmap transform is not allowed.")

    def storage_offset(self):
        return self._value.storage_offset()

    def detach(self):
        if not self._level.alive:
            self._level.escaped(self)
        return self._level.wrap(self._value.detach(), self._bdim)

    def is_contiguous(self, memory_format=None):
        if memory_format is not None and memory_format.name != "contiguous_format":
            raise RuntimeError("NYI: querying is_contiguous inside of vmap for memory_format other than torch.contiguous_format")
        return super().is_contiguous()

    def movedim_physical(self):
        """The value with the batch in front."""
        return self._value if self._bdim == 0 else self._value.movedim(self._bdim, 0)

    requires_grad = property(lambda self: self._value.requires_grad, Wrapper._refuse_grad)
    is_leaf = property(lambda self: self._value.is_leaf)
    grad_fn = property(lambda self: self._value.grad_fn)
    _version = property(lambda self: self._value._version)

    def register_hook(self, hook):
        """The hook sees the gradients of the whole batch, as a tensor of this level."""
        level, bdim = self._level, self._bdim

        def run(g):
            changed = hook(level.wrap(g, bdim))
            return None if changed is None else changed._value if level.follows(changed) else level.spread(changed).movedim(0, bdim)

        return self._value.register_hook(run)


class VmapLevel(Level):
    """One vmap under way: `size` samples."""

    kind = "vmap"
    _loops: set = set()  # functions whose bodies have turned out to need memory

    def __init__(self, size: int, randomness: str, public: bool = True):
        super().__init__()
        self.size, self.randomness, self.public = size, randomness, public

    # --- in and out -------------------------------------------------------------------------------------------------
    def wrap(self, value, bdim: int = 0):
        """`value` with its dim `bdim` as the batch."""
        value = carried_out(value)
        slot = value._slot
        result = make(Batched, self, core.view_slot(slot, logical_geometry(core.get_field(slot, core.GEOMETRY), bdim), 0))
        result._value, result._bdim = value, bdim
        return result

    def front(self, t):
        """The value of a tensor of this level with the batch as its first dim; other tensors as they are."""
        return t.movedim_physical() if self.follows(t) else t

    def spread(self, t):
        """Any tensor with a batch in front: repeated for every sample if it is not of this level."""
        return t.movedim_physical() if self.follows(t) else t.unsqueeze(0).expand(self.size, *t.shape)

    def sample(self, t, k: int):
        """Sample `k` of a tensor of this level; anything else as it is."""
        return t._value.select(t._bdim, k) if self.follows(t) else t

    def aligned(self, t, rank: int):
        """The value with the batch in front and the logical dims padded to `rank`, so that it broadcasts as the samples do."""
        if not self.follows(t):
            return t
        value = t.movedim_physical()
        for _ in range(rank + 1 - value.ndim):
            value = value.unsqueeze(1)
        return value

    @staticmethod
    def rule(given):
        """A rule, by name or as it is."""
        return RULES[given] if isinstance(given, str) else given

    def escaped(self, values, name=""):
        raise RuntimeError(escaping.text(name))

    # --- families ---------------------------------------------------------------------------------------------------
    def elementwise(self, op, tensors):
        if not self.alive:
            self.escaped(tensors)
        rank = max(t.ndim for t in tensors)
        return self.wrap(dispatch.finish(op, [self.aligned(t, rank) for t in tensors]))

    def view(self, op, x, key, make_view, multi):
        if not self.alive:
            self.escaped(x)
        value = x.movedim_physical()
        if op.sweep == "expand":  # the sizes of an expanded shape, and so its derivative, count from the last dim
            grown = make_view(tuple(x.shape), x.stride())[0]
            for _ in range(len(grown) - x.ndim):
                value = value.unsqueeze(1)
            return view_of(self.wrap(value.expand(self.size, *grown)), x, op, key, make_view)
        if op.retype and value.stride(0) % (op.retype(value.dtype).itemsize / value.dtype.itemsize):  # samples that do not begin at a whole element of the dtype shown
            value = value.contiguous()
        result = self.wrap(plans.view(op, value, ("batch", key), batched_view(op, make_view, value.dtype), multi))
        return view_of(result, x, op, key, make_view)

    @staticmethod
    def batched_view(op, make_view):
        """`make_view` for samples behind a batch dim."""
        return batched_view(op, make_view)

    def refuse_out(self, name: str):
        raise RuntimeError(f"Batching rule not implemented for aten::{name}.out; the fallback path doesn't work on out= or view ops.")

    def store(self, target, result):
        """Write `result` over `target`, in the memory below."""
        if not self.follows(target):
            if self.follows(result):
                raise RuntimeError(UNBATCHED_TARGET)
            return target.copy_(result)
        target.movedim_physical().copy_(self.aligned(result, target.ndim))
        return target

    def move(self, target, result):
        """Make the object `target` the tensor `result`."""
        target._value, target._bdim = result._value, result._bdim
        core.move_handle(target, result._slot)
        return target

    def compute(self, f, args, kwargs):
        if f.batch is not None:
            try:
                return self.rule(f.batch)(self, f, *args, **kwargs)
            except Unhandled:
                return self.loop(f, args, kwargs)
        if f not in self._loops:
            try:
                return run_body(f, args, kwargs)
            except Unhandled:
                self._loops.add(f)
        return self.loop(f, args, kwargs)

    def loop(self, f, args, kwargs):
        """`f` sample by sample, the results stacked."""
        from tapegrad.ops.joining import stack

        leaves, spec = tree_flatten((args, kwargs))
        if not self.size:
            return self._loop_over_nothing(f, leaves, spec)
        results = []
        for k in range(self.size):
            a, kw = tree_unflatten([sample_of(self, leaf, k) for leaf in leaves], spec)
            results.append(f(*a, **kw))
        columns, shapes = [], None
        for result in results:
            found, shapes = tree_flatten(result)
            columns.append(found)
        merged = []
        for parts in zip(*columns, strict=True):
            if hasattr(parts[0], "_slot"):
                merged.append(self.wrap(stack(parts)))
            elif all(p == parts[0] for p in parts):
                merged.append(parts[0])
            else:
                raise RuntimeError(NO_BRANCH)
        return tree_unflatten(merged, shapes)

    def _loop_over_nothing(self, f, leaves, spec):
        """The shapes of no results at all: those of the function on zeros."""
        a, kw = tree_unflatten([zero_sample(self, leaf) for leaf in leaves], spec)
        found, shapes = tree_flatten(f(*a, **kw))
        merged = [self.wrap(t.detach().unsqueeze(0)[:0]) if hasattr(t, "_slot") else t for t in found]
        return tree_unflatten(merged, shapes)


def sample_of(level, leaf, k):
    if type(leaf) is slice:
        return slice(*(level.sample(p, k) for p in (leaf.start, leaf.stop, leaf.step)))
    return level.sample(leaf, k)


def zero_sample(level, leaf):
    if not level.follows(leaf):
        return leaf
    return leaf._value.detach().new_zeros(tuple(leaf.shape))


# --- views ----------------------------------------------------------------------------------------------------------
def batched_view(op, make_view, d=None):
    """What a view does to (shape, strides), for the dims behind a first one that stays as it is; `d` is the dtype, which the view may change."""
    retype = getattr(op, "retype", None)
    old, new = (d.itemsize, retype(d).itemsize) if retype else (1, 1)

    def run(shape, steps):
        target, moves, offset, parameters = make_view(shape[1:], steps[1:])
        parameters = dict(parameters)
        if "order" in parameters:
            parameters["order"] = (0, *(d + 1 for d in parameters["order"]))
        if "own_shape" in parameters:  # windows: the places in memory, counted apart for every sample, even if the samples share memory
            own, reach = tuple(parameters["own_shape"]), lambda sizes, moves: sum((n - 1) * s for n, s in zip(sizes, moves, strict=True))
            count = 1 + max(0, reach(own, parameters["own_steps"]), parameters.get("offset", 0) + reach(parameters["target"], parameters["steps"]))
            parameters.update(
                own_shape=(shape[0], *own), own_steps=(count, *parameters["own_steps"]), target=(shape[0], *parameters["target"]),
                steps=(count, *parameters["steps"]),
            )
        return (shape[0], *target), (steps[0] * old // new, *moves), offset, parameters

    return run


# --- rules that records name ----------------------------------------------------------------------------------------
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
