"""NumPy's ufuncs: the records that serve them, those composed of other ops, and the methods reduce, accumulate, outer and at."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tapegrad import dispatch, dtypes
from tapegrad.numpy_protocol import as_tensor, common, dtype_of, floating, lift, lowered
from tapegrad.ops.numpy_table.rows import tg
from tapegrad.ops.public import FUNCTIONS
from tapegrad.ops.registry import BY_CODE, BY_NAME, Elementwise

RENAMED = {"power": "pow", "rint": "round", "fabs": "abs", "equal": "eq", "invert": "bitwise_not", "left_shift": "bitwise_left_shift",
           "right_shift": "bitwise_right_shift", "degrees": "rad2deg", "radians": "deg2rad"}


@functools.cache
def ufuncs() -> dict[str, Elementwise]:
    """NumPy's ufunc names with the records that serve them."""
    found = {}
    for op in BY_CODE:
        if isinstance(op, Elementwise) and op.function:
            found |= {name: op for name in (op.name, *op.aliases) if isinstance(getattr(np, name, None), np.ufunc)}
    return found | {name: BY_NAME[op] for name, op in RENAMED.items()}


def elementwise(op, *operands):
    values = [lift(v) for v in operands]
    if not any(hasattr(v, "_slot") for v in values):
        values[0] = as_tensor(values[0])
    return dispatch.call(op, *values)


def divmod_(x, y):
    return elementwise(BY_NAME["floor_divide"], x, y), elementwise(BY_NAME["remainder"], x, y)


def modf(x):
    whole = elementwise(BY_NAME["trunc"], x)
    return x - whole, whole


def cbrt(x):
    x = floating(as_tensor(x))
    return x.sign() * x.abs() ** (1 / 3)


def matmul(a, b):
    a, b = common([as_tensor(a), as_tensor(b)])
    if a.dtype is dtypes.bool_:  # PyTorch has no products of them
        return tg("matmul")(a.to(dtypes.uint8).to(dtypes.int64), b.to(dtypes.int64)) != 0
    return tg("matmul")(a, b)


def vecdot(x1, x2, /, *, axis=-1):
    a, b = common([as_tensor(x1), as_tensor(x2)])
    if not a.ndim or not b.ndim:
        raise ValueError(f"vecdot: Input operand {1 if a.ndim else 0} does not have enough dimensions (has 0, gufunc core with signature (n),(n)->() requires 1)")
    return (a.conj() * b).sum(axis)


def special(name, *operands):
    """An op that takes tensors of one dtype only: numbers become tensors of it."""
    values = [lift(v) for v in operands]
    d = dispatch.result_dtype(values)
    return tg(name)(*(v.to(d) if hasattr(v, "_slot") else dispatch.number_slot(v, d) for v in values))


# Ufuncs that are no single record; those that have several outputs or work on vectors.
COMPOSED = {
    "divmod": divmod_, "modf": modf, "cbrt": cbrt, "positive": lambda x: +x, "conjugate": lambda x: as_tensor(x).conj(), "conj": lambda x: as_tensor(x).conj(),
    "matmul": matmul, "vecdot": vecdot,
    "heaviside": lambda x, y: special("heaviside", x, y), "gcd": lambda x, y: special("gcd", x, y), "lcm": lambda x, y: special("lcm", x, y),
    "nextafter": lambda x, y: special("nextafter", x, y),
    "float_power": lambda x, y: tg("float_power")(as_tensor(x), lift(y)), "ldexp": lambda x, y: tg("ldexp")(as_tensor(x), as_tensor(y)),
    "matvec": lambda a, v: matmul(a, as_tensor(v).unsqueeze(-1)).squeeze(-1),
    "vecmat": lambda v, a: matmul(as_tensor(v).conj().unsqueeze(-2), a).squeeze(-2),
}  # fmt: skip
REDUCE = {"add": "sum", "multiply": "prod", "maximum": "amax", "minimum": "amin", "logical_and": "all", "logical_or": "any",
          "logaddexp": "logsumexp"}  # fmt: skip
ACCUMULATE = {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin", "logaddexp": "logcumsumexp"}


def ufunc_method(name: str, method: str):
    """What runs `ufunc.method(...)`, None if nothing does."""
    op = ufuncs().get(name)
    if method == "__call__":
        return COMPOSED.get(name) or (functools.partial(elementwise, op) if op else None)
    if method == "reduce" and name in REDUCE:
        return functools.partial(reduce, REDUCE[name])
    if method == "accumulate" and ACCUMULATE.get(name) in FUNCTIONS:
        return functools.partial(accumulate, ACCUMULATE[name])
    if method == "outer" and op and len(op.inputs) == 2:
        return functools.partial(outer_of, COMPOSED.get(name) or functools.partial(elementwise, op))
    if method == "at" and name in ("add", "subtract"):
        return functools.partial(add_at, 1 if name == "add" else -1)
    return None


def reduce(name, array, axis=0, dtype=None, keepdims=False, initial=None, where=True):
    x = as_tensor(array)
    if initial is not None or where is not True:
        return in_terms_of(name, x, axis, dtype, keepdims, initial, where)
    if dtype is not None:
        x = x.to(dtype_of(dtype))
    if axis == ():  # NumPy reduces no dim; PyTorch takes an empty tuple for all of them
        return alone(name, x)
    if name == "prod" and axis is None:
        return x.prod().reshape((1,) * x.ndim) if keepdims else x.prod()
    dims = tuple(range(x.ndim)) if axis is None else axis
    if name == "prod" and isinstance(dims, tuple):
        for dim in sorted((normalize_axis_index(d, x.ndim) for d in dims), reverse=True):
            x = x.prod(dim, bool(keepdims))
        return x
    return tg(name)(x, dims, bool(keepdims)) if x.ndim or name != "logsumexp" else x.clone()


def alone(name, x):
    """What a reduction makes of each element by itself."""
    if name in ("all", "any"):
        return x != 0
    return x.to(dtypes.int64) if name in ("sum", "prod") and x.dtype.category < dtypes.FLOAT else x.clone()


def in_terms_of(name, x, axis, dtype, keepdims, initial, where):
    """A reduction that leaves elements out (`where`) or starts from a value (`initial`)."""
    neutral = {"sum": 0, "prod": 1, "all": True, "any": False, "logsumexp": -math.inf}
    combine = {"sum": "add", "prod": "mul", "amax": "maximum", "amin": "minimum", "logsumexp": "logaddexp", "all": "logical_and", "any": "logical_or"}
    if where is not True:
        fill = neutral.get(name, initial)
        if fill is None:
            raise ValueError(f"reduction operation '{name}' does not have an identity, so to use a where mask one has to specify 'initial'")
        x = tg("where")(as_tensor(where).to(dtypes.bool_), x, fill)
    out = reduce(name, x, axis, dtype, keepdims)
    return out if initial is None or name not in combine else dispatch.call(BY_NAME[combine[name]], out, as_tensor(initial).to(out.dtype))


def accumulate(name, array, axis=0, dtype=None):
    x = as_tensor(array) if dtype is None else as_tensor(array).to(dtype_of(dtype))
    out = tg(name)(x, axis)
    return out[0] if isinstance(out, tuple) else out


def outer_of(run, a, b, dtype=None):
    a, b = (as_tensor(x) if dtype is None else as_tensor(x).to(dtype_of(dtype)) for x in (a, b))
    return run(a.reshape((*a.shape, *[1] * b.ndim)), b)


def add_at(sign, target, index, values):
    """`np.add.at`: every occurrence of an index adds."""
    if not hasattr(target, "_slot"):
        raise TypeError("ufunc.at with a Tensor needs a Tensor to write to")
    values = as_tensor(values).to(target.dtype)
    places = as_tensor(np.arange(target.numel()).reshape(target.shape)[lowered(index)])  # of the elements in the flat tensor
    target.put_(places, (values if sign > 0 else -values).expand(places.shape), accumulate=True)
