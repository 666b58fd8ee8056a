"""vmap: a level whose tensors have a batch dim that the function does not see.

A `Batched` tensor holds a tensor of lower levels (`_value`) and which of its dims is the batch (`_bdim`).  The rules of families:
elementwise operands are aligned by their logical rank with the batch in front; a view applies what it does to shape and strides to the
dims behind the batch; other families have a rule beside the op (`batch=`, often one of `rules.py`).  What has no rule runs sample by
sample (`loop`), which is differentiable, and right for every op.
"""

from __future__ import annotations

from tapegrad import core, dispatch, geometry
from tapegrad.ops import plan as plans
from tapegrad.ops.postponed import carried_out
from tapegrad.ops.transformable import Unhandled
from tapegrad.transforms import escaping, rules
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
        return rules.RULES[given] if isinstance(given, str) else given

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
