"""Forward mode: a level whose tensors carry a tangent.

A `Dual` tensor holds a value of lower levels and its tangent.  The tangent of an elementwise op is the sum of the op table's partial
formulas with tangents for `g`; of a view, the same view of the tangent; of an op that is linear in the parameters that its record names,
the op on the tangent.  Every other op is differentiated twice on the tape: u -> J^T u is linear in u, and its transpose applied to
the tangent is J t.  So whatever has a derivative has a tangent.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import weakref

from tapegrad import core, dispatch, modes
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle, state_cell
from tapegrad.ops import formulas
from tapegrad.ops import plan as plans
from tapegrad.ops.postponed import carried_out
from tapegrad.ops.transformable import CONSTANT, Unhandled
from tapegrad.tensor import Tensor
from tapegrad.transforms import rules
from tapegrad.transforms.wrappers import NO_STORAGE, Level, Wrapper, in_body, make, run_body, view_of
from tapegrad.utils._pytree import tree_flatten, tree_unflatten


class Dual(Wrapper):
    """A tensor of a forward-mode level.  A view has no tangent of its own: it is the view of the tangent of what it looks at."""

    @property
    def _tangent(self):
        origin = self.__dict__.get("_origin")
        if origin is None:
            return self._given
        base, chain = origin
        whole = base._tangent
        if self.__dict__.get("_seen") is not whole:
            from tapegrad.autograd import bases

            self._seen = whole
            # The view counts in the strides of the value.
            self._given = bases.through(chain, bases.laid_out(whole, geometry_of(base._value)))
        return self._given

    def _set_tangent(self, tangent):
        origin = self.__dict__.get("_origin")
        if origin is None:
            self._given = tangent
            return
        from tapegrad.autograd import bases
        from tapegrad.transforms import reverse

        base, chain = origin
        whole = base._tangent
        for level in reverse.vmap_levels([tangent]):
            whole = reverse.batched_at(whole, level)
        whole = bases.laid_out(whole.clone(), geometry_of(base._value))
        bases.through(chain, whole).copy_(tangent)
        base._set_tangent(whole)

    def _seen_value(self):
        """The value, as the user may look at it; what an op makes of it may depend on the tangent."""
        if in_body():
            raise Unhandled
        return self._value

    def item(self):
        return self._seen_value().item()

    def __bool__(self):
        return bool(self._value)

    def tolist(self):
        return self._seen_value().tolist()

    def _stored(self):
        """The value, whose memory the user may see if forward mode was entered by hand."""
        value = self._seen_value()
        if self._level.public and self._level.alive:
            raise RuntimeError(NO_STORAGE)
        return value

    def numpy(self, *, force=False):
        return self._stored().numpy(force=force)

    def data_ptr(self):
        return self._stored().data_ptr()

    def _refuse_storage(self, *args):
        if self._level.public:
            super()._refuse_storage()

    def untyped_storage(self):
        self._refuse_storage()
        return self._value.untyped_storage()

    def __copy__(self):
        self._refuse_storage()
        return copy.copy(self._value)

    def __deepcopy__(self, memo):
        self._refuse_storage()
        return copy.deepcopy(self._value, memo)

    def __reduce_ex__(self, protocol):
        self._refuse_storage()
        return self._value.__reduce_ex__(protocol)

    def storage_offset(self):
        return self._value.storage_offset()

    def _array(self):
        if not self._level.alive:
            return self._value._array()
        raise Unhandled

    def __repr__(self, *, tensor_contents=None):
        if self._level.public:
            return super().__repr__()
        text = repr(self._value)
        return text if not self._level.alive else f"{text[:-1]}, tangent={self._tangent})"

    def detach(self):
        """The value alone: tangents end here, as gradients do."""
        return self._seen_value().detach()

    def detach_(self):
        return self._level.move(self, self.detach())

    def requires_grad_(self, requires_grad=True):
        if not self._level.restores:  # a function transform's
            return super().requires_grad_(requires_grad)
        self._value.requires_grad_(requires_grad)
        return self

    requires_grad = property(lambda self: self._value.requires_grad or self._tangent.requires_grad, Wrapper._refuse_grad)
    is_leaf = property(lambda self: self._value.is_leaf)
    grad_fn = property(lambda self: self._value.grad_fn)
    _version = property(lambda self: self._value._version)


class DualLevel(Level):
    """One forward-mode pass under way."""

    kind = "jvp"

    def __init__(self, restores: bool = False):
        super().__init__()
        self.public = not restores
        self.restores = restores  # whether its tensors, which the user may keep, become plain when it ends
        self.became: list = []

    def wrap(self, value, tangent):
        """The dual tensor value + eps * tangent; the value itself without a tangent."""
        if tangent is None:
            return value
        value = carried_out(value)
        result = make(Dual, self, core.share_slot(value))
        result._value, result._given = value, tangent
        if self.restores:
            self.became.append((weakref.ref(result), Tensor))
        return result

    def value(self, t):
        return t._value if self.follows(t) else t

    def tangent(self, t):
        return t._tangent if self.follows(t) else None

    def escaped(self, values, name=""):
        return self._values(values)

    def stands_aside(self) -> bool:
        return not self.alive or bool(modes.word() & modes.UNFOLLOWED)

    def elementwise(self, op, tensors):
        if self.stands_aside():
            return dispatch.finish(op, self.escaped(tensors))
        values = [self.value(t) for t in tensors]
        if op.result == "complex" or any(v.dtype.is_complex for v in values):  # the formulas are of gradients, which are conjugate
            return self.transpose(_run_elementwise, (op, *tensors), {})
        out = dispatch.finish(op, values)
        if not has_tangent(out):
            return out
        tangents = [self.tangent(t) for t in tensors]
        found = formulas.tangent(op, values, out, tangents)
        return self.wrap(out, found.clone() if found is not None and any(found is t for t in tangents) else found)

    def view(self, op, x, key, make_view, multi):
        if not self.alive:
            return plans.view(op, x._value, key, make_view, multi)
        value = plans.view(op, x._value, key, make_view, multi)
        result = make(Dual, self, core.share_slot(value))
        result._value = value
        result._origin = (x, [(op, key, make_view)])
        return view_of(result, x, op, key, make_view)

    def refuse_out(self, name: str):
        raise NotImplementedError(f"Trying to use forward AD with {name}_out that does not support it because it is an out= function")

    # --- in place ---------------------------------------------------------------------------------------------------
    def prepared(self, target, value):
        return self.own(target) if self.follows(value) else target

    def store(self, target, result):
        """Write over `target`: the value in its memory, the tangent anew."""
        tangent = self.tangent(result)
        if tangent is None and not self.follows(target):
            return target.copy_(result)
        target = self.own(target)
        target._value.copy_(self.value(result))
        if tangent is None:
            from tapegrad.creation import zeros_like

            tangent = zeros_like(target._value)
        if tangent.shape != target.shape:
            tangent = tangent.expand(tuple(target.shape))
        given = target.__dict__.get("_given")
        if target.__dict__.get("_shared") and given._level is None and tangent._level is None:
            given.copy_(tangent)  # the tangent that the user gave changes with its tensor
        else:
            tangent = tangent.to(target.dtype)
            target._set_tangent(tangent.clone() if tangent is self.tangent(result) else tangent)
        return target

    def move(self, target, result):
        """Make the object `target` the tensor `result`, which may have lost its tangent (detach_)."""
        if not self.follows(result):
            target.__dict__.clear()
            target.__class__ = Tensor
            core.move_handle(target, result._slot)
            return target
        for name in ("_value", "_given", "_origin", "_seen"):
            target.__dict__.pop(name, None)
            if name in result.__dict__:
                target.__dict__[name] = result.__dict__[name]
        core.move_handle(target, result._slot)
        return target

    def own(self, target):
        """Make the tensor object `target`, which something dual is written to, a dual one itself (its base, if it is a view)."""
        from tapegrad.autograd import bases
        from tapegrad.creation import zeros_like

        if self.follows(target):
            return target
        base, chain = target._base, None
        if base is not None:
            chain = bases.view_chain(target)
            base = self.own(base)
            if self.follows(target):  # among the views of the base
                return target
        value = Handle.__new__(type(target))
        core.move_handle(value, target._slot)
        for name in ("_base_object", "_parent_object", "_plan_object", "_hooks_dict", "_grad_object"):
            if getattr(target, name, None) is not None:
                setattr(value, name, getattr(target, name))
        value.__dict__.update(target.__dict__)
        self.became.append((weakref.ref(target), type(target)))
        target.__dict__.clear()
        target.__class__ = Dual
        slot = core.share_slot(value)
        core.set_field(slot, core.FLAGS, layout.TRACKED)
        core.move_handle(target, slot)
        target._level, target._value = self, value
        if base is None:
            target._given = zeros_like(value)
            for view in views_of(target):
                self.own(view)
        else:
            target._origin = (base, chain)
        return target

    def __exit__(self, *exception):
        super().__exit__(*exception)
        for reference, kind in self.became:  # what was plain before is plain again
            target = reference()
            if self.follows(target):
                value = target._value
                target.__dict__.clear()
                target.__class__ = kind
                core.move_handle(target, value._slot)
                target.__dict__.update(value.__dict__)
        self.became.clear()

    def compute(self, f, args, kwargs):
        if f.linear is CONSTANT:
            args, kwargs = self._values((args, kwargs))
            return f(*args, **kwargs)
        if f.linear:
            named = rules.arguments(f, args, kwargs)
            linear = f.linear(named) if callable(f.linear) else f.linear
            if linear and all(self._is_plain(v) for name, v in named.items() if name not in linear):
                return self._linear(f, named, linear)
        if f not in _transposed:
            try:
                return run_body(f, args, kwargs)
            except Unhandled:
                _transposed.add(f)
        return self.transpose(f, args, kwargs)

    def _is_plain(self, value) -> bool:
        return not any(self.follows(leaf) for leaf in tree_flatten(value)[0])

    def _linear(self, f, named, linear):
        """The op on the tangent of each parameter in turn, summed; a list of tensors counts as one parameter."""
        plain = {name: self._values(v) for name, v in named.items()}
        out = rules.again(f, plain)
        total = None
        for name in linear:
            given = named[name]
            if self._is_plain(given):
                continue
            tangent = self._tangents(given)
            term = rules.again(f, {**plain, name: tangent})
            total = term if total is None else total + term
        return self.wrap(out, total) if has_tangent(out) else out

    def _values(self, tree):
        leaves, spec = tree_flatten(tree)
        return tree_unflatten([self.value(leaf) for leaf in leaves], spec)

    def _tangents(self, given):
        from tapegrad.creation import zeros_like

        if isinstance(given, (tuple, list)):
            return [t._tangent if self.follows(t) else zeros_like(t) for t in given]
        return given._tangent

    def transpose(self, f, args, kwargs):
        """`f` by the transpose of its recorded derivative."""
        from tapegrad.transforms import reverse

        leaves, spec = tree_flatten((args, kwargs))
        inside = reverse.vmap_levels(leaves)
        wanted = [k for k, leaf in enumerate(leaves) if self.follows(leaf)]
        tangents = [leaves[k]._tangent for k in wanted]
        before = modes.is_grad_enabled()
        recorded = before and any(t.requires_grad for t in leaves if hasattr(t, "_slot"))
        own = None
        if inside:  # the aliases may have batches that only tangents have: the value is computed apart
            a, kw = tree_unflatten([self.value(leaf) for leaf in leaves], spec)
            own = tree_flatten(f(*a, **kw))[0]
        with modes.enable_grad():
            points = [reverse.alias(leaves[k]._value, inside, before) for k in wanted]
            for k, point in zip(wanted, points, strict=True):
                leaves[k] = point
            a, kw = tree_unflatten(leaves, spec)
            outputs, shape = tree_flatten(f(*a, **kw))
            results = []
            for k, out in enumerate(outputs):
                value = out if own is None else own[k]
                if hasattr(out, "_slot") and has_tangent(out) and out.requires_grad:
                    tangent = _transposed_or_refused(out, points, tangents, inside, recorded)
                    value = self.wrap(value if recorded or own is not None else reverse.detached(value), tangent)
                results.append(value)
        return tree_unflatten(results, shape)


def _transposed_or_refused(*arguments):
    """`reverse.transposed`; what has no derivative is refused in the words for forward mode."""
    from tapegrad.transforms import reverse

    try:
        return reverse.transposed(*arguments)
    except RuntimeError as error:
        if "forward" in vars(error):
            raise NotImplementedError(vars(error)["forward"]) from None
        raise


def views_of(base) -> list:
    """The tensors that are views of `base`.  Nobody keeps a list of them: where its memory has other names, the collector knows who refers to it."""
    layers, t = 1, base
    while t._level is not None:
        layers, t = layers + 1, t._value
    row = state_cell("buffers").value + core.get_field(t._slot, core.BUFFER) * layout.BUFFER.size
    if ctypes.c_int32.from_address(row + layout.BUFFER.offset["references"]).value <= layers:
        return []
    return [r for r in gc.get_referrers(base) if isinstance(r, Tensor) and r._base is base]


def geometry_of(t) -> int:
    return core.get_field(t._slot, core.GEOMETRY)


def has_tangent(t) -> bool:
    return t.dtype.is_floating_point or t.dtype.is_complex


def _run_elementwise(op, *tensors):
    return dispatch.finish(op, list(tensors))


_transposed: set = set()  # functions whose bodies have turned out to need memory
