"""Conjugates and negatives that are views: the memory is shared, and the work is done by whoever reads it.

The dtype word of a slot has two bits above the element type's code, CONJ and NEG (`dtypes.py`): the tensor's value is the conjugate, the
negative, or both, of what its memory holds.  Compiled code serves the element types' own codes only, so a tensor with such a bit is the
business of Python, and one without pays nothing.  Here the work is done in one place: `called`, which public functions meet once such a
tensor has been made (`ops/transformable.py`), replaces operands by what they stand for (`carried_out`), and writes the result of an
in-place operation back through `copy_`.  Functions that are only views (`VIEWS`) let the bits pass.  See docs/design/011.
"""

from __future__ import annotations

from tapegrad import core, creation, dispatch, dtypes, geometry, modes
from tapegrad.autograd.node import record
from tapegrad.dtypes import CONJ, NEG, PLAIN
from tapegrad.ops import plan as plans
from tapegrad.ops import transformable
from tapegrad.ops.public import function
from tapegrad.ops.registry import BY_NAME, structural
from tapegrad.ops.views import tensor_argument


def bits_of(tensor) -> int:
    """CONJ, NEG, both or 0: what is yet to be done to the elements of a tensor."""
    return core.get_field(tensor._slot, core.DTYPE) & ~PLAIN if tensor._slot > 0 else 0


def with_bits(tensor, bits: int):
    """The memory of a tensor, outside of the graph, seen with these bits."""
    if bits:
        look_at_operands()
    slot = core.share_slot(tensor)
    core.set_field(slot, core.DTYPE, core.get_field(slot, core.DTYPE) & PLAIN | bits)
    return core.wrap(slot)


def look_at_operands() -> None:
    """From now on there may be tensors with bits: public functions look for them."""
    if not transformable.POSTPONED:
        transformable.POSTPONED.append(called)


# --- doing what was postponed ----------------------------------------------------------------------------------------
@structural("resolve_op", "Clone")
def resolve_op(node, g):
    """resolve_conj, resolve_neg: the same value, now in memory."""
    return g


def carried_out(tensor, op=None):
    """A tensor with the value of `tensor` in memory of its own, in the same order; recorded (as `op`, or unseen).  Itself if nothing is postponed."""
    if not bits_of(tensor):
        return tensor
    plans.settled(tensor)
    result = creation.empty_of(tensor.shape, tensor.dtype, creation.like_strides("clone", tensor, None))
    core.assign(result, tensor)
    record(op or BY_NAME["carried_out_op"], [tensor], [result])
    return result


def assign(target: int, source: int, _) -> None:
    """Write slot `source` over slot `target`, one of which has bits; compiled code calls this.

    Both operations undo themselves, so what is written to the target's memory is the source's memory with the bits in which they differ.
    """
    for slot in (target, source):
        core.hold(slot)
    into, value = core.wrap(core.view_slot(target, core.get_field(target, core.GEOMETRY), 0)), core.wrap(core.view_slot(source, core.get_field(source, core.GEOMETRY), 0))
    for slot in (target, source):
        core.drop(slot)
    bits = bits_of(into) ^ bits_of(value)
    into, value = with_bits(into, 0), with_bits(value, 0)
    with modes.no_grad():
        if bits & CONJ and value.dtype.is_complex and into.dtype.is_complex:
            value = dispatch.finish(BY_NAME["conj_physical_op"], [value])
        if bits & NEG:
            if value.dtype is dtypes.bool_:
                raise NotImplementedError("\"neg_cpu\" not implemented for 'Bool'")
            value = dispatch.finish(BY_NAME["neg"], [value])
        core.assign(into, value)


def called(f, writes: bool, args: tuple, kwargs: dict):
    """`f` called with operands in whose memory their values are."""
    target = args[0] if writes and args and hasattr(args[0], "_slot") and args[0]._level is None and bits_of(args[0]) else None
    if target is None:
        return f(*map(read, args), **{name: value if name == "out" else read(value) for name, value in kwargs.items()})
    return written(target, lambda work: f(work, *map(read, args[1:]), **{name: read(value) for name, value in kwargs.items()}))


def written(target, write):
    """An in-place operation on a tensor with bits: `write` changes a copy with its value, which is then copied back."""
    from tapegrad.autograd import inplace

    inplace.check_writable(target, repeated=True)
    work = carried_out(target)
    result = write(work)
    target.copy_(work)
    plans.forget_last()
    return target if result is work else result


def read(value):
    """An argument with every tensor in it carried out."""
    kind = type(value)
    if hasattr(value, "_slot"):
        return carried_out(value) if value._level is None else value
    if kind is slice:
        return slice(read(value.start), read(value.stop), read(value.step))
    if kind in (tuple, list, geometry.Size):
        items = [read(item) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else kind(items)
    return {name: read(item) for name, item in value.items()} if kind is dict else value


# --- the views -------------------------------------------------------------------------------------------------------
@structural("conj_view", "Conj", sweep="conj_physical_op", turns=CONJ)
def conj_view(node, g):
    """conj: the conjugate of the gradient."""
    return g.conj_physical()


@structural("neg_view", "NegView", sweep="neg", turns=NEG)
def neg_view(node, g):
    """_neg_view: the negative of the gradient."""
    return -g


def turned(op, input):
    """The view of all elements by `op`."""
    look_at_operands()
    return plans.view(op, input, None, _same)


def _same(shape, steps):
    return shape, steps, 0, {}


@function(method=True)
def conj(input):
    """The complex conjugate, a view whose elements are conjugated when they are read; a real tensor itself.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1 + 2j])
    >>> x.conj(), x.conj().is_conj(), x.conj().data_ptr() == x.data_ptr()
    (tensor([1.-2.j]), True, True)
    """
    if not tensor_argument("conj", input).dtype.is_complex:
        return input
    return dispatch.call(BY_NAME["conj_op"], input) if input._level is not None else turned(conj_view, input)


@function(method=True)
def _neg_view(input):
    """The negative, a view whose elements are negated when they are read."""
    return dispatch.call(BY_NAME["neg"], input) if input._level is not None else turned(neg_view, input)


@function(method=True)
def resolve_conj(input):
    """The tensor itself, or with its conjugation carried out if that was postponed: a copy."""
    return carried_out(input, resolve_op) if is_conj(input) else input


@function(method=True)
def resolve_neg(input):
    """The tensor itself, or with its negation carried out if that was postponed: a copy."""
    return carried_out(input, resolve_op) if is_neg(input) else input


@function(method=True)
def is_conj(input):
    """Whether the tensor's conjugation is postponed: it is the `conj` of a complex tensor, or a view of it."""
    return bool(bits_of(tensor_argument("is_conj", input)) & CONJ)


@function(method=True)
def is_neg(input):
    """Whether the tensor's negation is postponed: it is the imaginary part of a `conj`, or a view of it."""
    return bool(bits_of(tensor_argument("is_neg", input)) & NEG)
