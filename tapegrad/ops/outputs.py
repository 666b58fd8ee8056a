"""`out=`: the results of a function stored in tensors that the caller gives.

`@stored()` gives a function its `out=`; the words say what its refusal of another dtype reads like, as torch has one per family.
`into` is for the functions that see to their `out=` themselves.
`return_type` makes the named tuples in which several results come back.
"""

from __future__ import annotations

import collections
import functools

from tapegrad import core, creation, out_rules
from tapegrad.naming import known_as

EXACT = "Expected out tensor to have dtype {want.short}, but got {got.short} instead"


APART = {"index_select", "gather", "take", "masked_select", "take_along_dim", "scatter_add", "index_add", "index_copy"}  # out= may not be an operand either


def store(name: str, result, out, words: str | None = EXACT, operands=()):
    """`result`, a tensor or a tuple of them, in `out`; with `words` of exactly its dtype, without them of any that it can be cast to.

    `operands`: what the result was computed from, of which `out` may not be a part.
    """
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)):
            raise TypeError(f"{name}(): argument 'out' must be tuple of Tensors, not {type(out).__name__}")
        if len(out) != len(result):
            raise TypeError(f"expected tuple of {len(result)} elements but got {len(out)}")
        stored_in = tuple(store(name, r, o, words, operands) for r, o in zip(result, out, strict=True))
        return stored_in if type(result) is tuple else type_of_stored(type(result))(*stored_in)
    from tapegrad.writing import check_out, refuse_overlap, write_out

    check_out(name, [result], out)
    refuse_overlap(out, operands, name in APART)
    if words and result.dtype is not out.dtype and name not in out_rules.EXACT:
        raise RuntimeError(words.format(name=name, want=result.dtype, got=out.dtype))
    return write_out(result.detach(), out, name)


def stored(words: str | None = EXACT):
    """Give a function `out=`: a tensor, or a tuple of them for several results."""

    def decorate(f):
        @functools.wraps(f)
        def run(*args, out=None, **kwargs):
            result = f(*args, **kwargs)
            return result if out is None else store(f.__name__.removesuffix("_legacy"), result, out, words, [v for v in (*args, *kwargs.values()) if hasattr(v, "_slot")])

        return run

    return decorate


def into(out, result, name, operands=()):
    """`result`, or `out` with it; `name` is the function's, for the texts of errors, `operands` as for `store`."""
    return result if out is None else store(name, result, out, None, operands)


def dtype_with(out, dtype):
    """The `dtype=` of a reduction that has an `out=`: by torch's rule that of `out`, which no other may contradict."""
    if out is None or not hasattr(out, "_slot"):
        return dtype
    if dtype is not None and dtype is not out.dtype:
        raise RuntimeError(EXACT.format(want=dtype, got=out.dtype))
    return out.dtype


@functools.cache
def type_of_stored(kind: type):
    """The type of several results that were stored in `out=`: another one, as in torch."""
    return return_type(kind.__name__ + "_out", *kind._fields)  # type: ignore[attr-defined]


def _values_of(name: str, count: int, given: tuple) -> tuple:
    """The values of a named tuple that is made from one argument."""
    if not given:
        raise TypeError("structseq() missing required argument 'sequence' (pos 1)")
    try:
        values = tuple(given[0])
    except TypeError:
        raise TypeError("constructor requires a sequence") from None
    if len(values) != count:
        raise TypeError(f"{name}() takes a {count}-sequence ({len(values)}-sequence given)")
    return values


RETURN_TYPES: dict[str, type] = {}


def return_type(name, *fields):
    """A named tuple that prints as torch's return types do; `tapegrad.return_types` has it under its name."""
    kind = collections.namedtuple(name, fields)

    class Result(kind):
        __slots__ = ()
        n_fields = n_sequence_fields = len(fields)
        n_unnamed_fields = 0

        def __new__(cls, *values):
            """From the values one by one, or all in a sequence, which is torch's way."""
            if len(values) <= 1:
                values = _values_of(f"tapegrad.return_types.{name}", len(fields), values)
            return tuple.__new__(cls, values)

        def __repr__(self):
            return f"tapegrad.return_types.{name}(\n" + ",\n".join(f"{f}={v!r}" for f, v in zip(fields, self, strict=True)) + ")"

    Result.__name__ = Result.__qualname__ = name
    RETURN_TYPES[name] = known_as(f"tapegrad.return_types.{name}", final=True)(Result)
    return Result


def laid_out_as(x, result):
    """The fresh, unrecorded `result` in the memory order of `x`, of the same shape, as torch lays out what it computes by element."""
    if x.is_contiguous() or result.shape != x.shape:
        return result
    return in_memory(result, creation.like_strides("clone", x, None))


def in_memory(result, steps: tuple):
    """The fresh, unrecorded `result` with these strides."""
    laid = creation.empty_of(tuple(result.shape), result.dtype, steps)
    core.assign(laid, result)
    return laid
