"""The table from NumPy names to ops: what `np.sum(tensor)` and `np.sin(tensor)` run.

Ufuncs follow from the elementwise records, whose names and aliases are mostly NumPy's (`RENAMED` has the others).  Functions are rows
here: `@row(samples...)` under a function with NumPy's name and parameters.  The samples are argument texts; tests evaluate each on arrays,
for the value, and on tensors, for value and derivatives.  An argument that only NumPy has raises `NoCounterpart`: the call is NumPy's.
"""

from __future__ import annotations

import functools

import numpy as np

from tapegrad import dispatch, dtypes
from tapegrad.numpy_protocol import as_tensor, common, dtype_of, floating, lift, store
from tapegrad.ops.public import FUNCTIONS
from tapegrad.ops.registry import BY_CODE, BY_NAME, Elementwise


class NoCounterpart(Exception):
    """The call has an argument that no op takes."""


def only_numpy(*values) -> None:
    """Raise NoCounterpart unless the values are left out."""
    if any(v is not None and v is not np._NoValue for v in values):
        raise NoCounterpart


def given(value, default):
    return default if value is np._NoValue or value is None else value


# --- ufuncs ---------------------------------------------------------------------------------------------------------
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
    return tg("matmul")(*common([as_tensor(a), as_tensor(b)]))


def vecdot(x1, x2, /, *, axis=-1):
    a, b = common([as_tensor(x1), as_tensor(x2)])
    return (a * b).sum(axis)


def special(name, *operands):
    """An op that takes tensors of one dtype only: numbers become tensors of it."""
    values = [lift(v) for v in operands]
    d = dispatch.result_dtype(values)
    return tg(name)(*(v.to(d) if hasattr(v, "_slot") else dispatch.number_slot(v, d) for v in values))


# Ufuncs that are no single record; those that have several outputs or work on vectors.
COMPOSED = {
    "divmod": divmod_, "modf": modf, "cbrt": cbrt, "positive": lambda x: +x, "conjugate": lambda x: x, "matmul": matmul, "vecdot": vecdot,
    "heaviside": lambda x, y: special("heaviside", x, y), "gcd": lambda x, y: special("gcd", x, y), "lcm": lambda x, y: special("lcm", x, y),
    "nextafter": lambda x, y: special("nextafter", x, y),
    "float_power": lambda x, y: tg("float_power")(as_tensor(x), lift(y)), "ldexp": lambda x, y: tg("ldexp")(as_tensor(x), as_tensor(y)),
    "matvec": lambda a, v: matmul(a, as_tensor(v).unsqueeze(-1)).squeeze(-1),
    "vecmat": lambda v, a: matmul(as_tensor(v).unsqueeze(-2), a).squeeze(-2),
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
        return functools.partial(outer_of, op)
    if method == "at" and name in ("add", "subtract"):
        return functools.partial(add_at, 1 if name == "add" else -1)
    return None


def reduce(name, array, axis=0, dtype=None, keepdims=False, initial=None, where=True):
    x = as_tensor(array)
    if initial is not None or where is not True:
        return in_terms_of(name, x, axis, dtype, keepdims, initial, where)
    if dtype is not None:
        x = x.to(dtype_of(dtype))
    if name == "prod" and axis is None or axis == ():
        return x.prod() if axis is None else x.clone()
    dims = tuple(range(x.ndim)) if axis is None else axis
    return tg(name)(x, dims, bool(keepdims)) if x.ndim or name != "logsumexp" else x.clone()


def in_terms_of(name, x, axis, dtype, keepdims, initial, where):
    """A reduction that leaves elements out (`where`) or starts from a value (`initial`)."""
    neutral = {"sum": 0, "prod": 1, "all": True, "any": False}
    combine = {"sum": "add", "prod": "mul", "amax": "maximum", "amin": "minimum", "logsumexp": "logaddexp"}
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


def outer_of(op, a, b):
    a, b = as_tensor(a), as_tensor(b)
    return dispatch.call(op, a.reshape(*a.shape, *[1] * b.ndim), b)


def add_at(sign, target, index, values):
    """`np.add.at`: every occurrence of an index adds."""
    if not hasattr(target, "_slot"):
        raise TypeError("ufunc.at with a Tensor needs a Tensor to write to")
    values = as_tensor(values).to(target.dtype)
    target.index_put_(tuple(map(as_tensor, index if isinstance(index, tuple) else (index,))), values if sign > 0 else -values, accumulate=True)


# --- functions ------------------------------------------------------------------------------------------------------
ROWS: dict[str, tuple] = {}  # NumPy name (dotted) -> (function, samples)


def row(*samples: str, name: str | None = None, also: tuple[str, ...] = ()):
    """Register a function as the counterpart of the NumPy function of its name."""

    def register(f):
        for n in (name or f.__name__.rstrip("_"), *also):
            ROWS[n] = (f, samples)
        return f

    return register


@functools.cache
def functions() -> dict:
    """NumPy's functions with their counterparts; names that this NumPy does not have are left out."""
    found = {}
    for name, (f, _) in ROWS.items():
        target = functools.reduce(lambda m, part: getattr(m, part, None), name.split("."), np)
        if target is not None and not isinstance(target, np.ufunc):
            found[target] = f
    return found


def tg(name):
    """A function of the package, which may be compiled."""
    import tapegrad

    return getattr(tapegrad, name)


# --- reductions -----------------------------------------------------------------------------------------------------
def reduction(name, numpy_names, samples, float_only=False):
    def run(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, initial=np._NoValue, where=np._NoValue):
        x = floating(as_tensor(a)) if float_only and dtype is None else as_tensor(a)
        return store(reduce(name, x, axis, dtype, given(keepdims, False), given(initial, None), given(where, True)), out)

    run.__name__ = name
    row(*samples, name=numpy_names[0], also=numpy_names[1:])(run)


reduction("sum", ("sum",), ("x", "x, axis=0", "x, axis=(0, 1), keepdims=True", "x, axis=1, initial=2.0", "x, where=c", "x, axis=-1, dtype=np.float64"))
reduction("prod", ("prod",), ("x", "x, axis=1", "x, axis=1, keepdims=True", "x, where=c"))


def extremum(name, numpy_names):
    def run(a, axis=None, out=None, keepdims=np._NoValue, initial=np._NoValue, where=np._NoValue):
        return store(reduce(name, a, axis, None, given(keepdims, False), given(initial, None), given(where, True)), out)

    row("x", "x, axis=1", "x, 0, keepdims=True", "x, axis=1, initial=0.1", name=numpy_names[0], also=numpy_names[1:])(run)


extremum("amax", ("max", "amax"))
extremum("amin", ("min", "amin"))


@row("x", "x, axis=0", "x, axis=1, keepdims=True", "i", "x, where=c")
def mean(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, *, where=np._NoValue):
    x = floating(as_tensor(a)) if dtype is None else as_tensor(a).to(dtype_of(dtype))
    if given(where, True) is not True:
        mask = as_tensor(where).expand(x.shape)
        total = reduce("sum", x, axis, None, given(keepdims, False), None, mask)
        return store(total / reduce("sum", mask, axis, None, given(keepdims, False)), out)
    return store(x.mean(axis, given(keepdims, False)), out)


def deviation(name):
    def run(a, axis=None, dtype=None, out=None, ddof=0, keepdims=np._NoValue, *, where=np._NoValue, mean=np._NoValue, correction=np._NoValue):
        only_numpy(where, mean)
        x = floating(as_tensor(a)) if dtype is None else as_tensor(a).to(dtype_of(dtype))
        return store(tg(name)(x, dim=axis, correction=given(correction, ddof), keepdim=given(keepdims, False)), out)

    row("x", "x, axis=0", "x, axis=1, ddof=1, keepdims=True", name=name)(run)


deviation("std")
deviation("var")


@row("x", "x, axis=1", "x, axis=0, keepdims=True")
def ptp(a, axis=None, out=None, keepdims=np._NoValue):
    keep = given(keepdims, False)
    return store(reduce("amax", a, axis, None, keep) - reduce("amin", a, axis, None, keep), out)


@row("x", "x, axis=1", "x, axis=1, weights=w", "x, weights=p", "x, axis=0, weights=p, returned=True")
def average(a, axis=None, weights=None, returned=False, *, keepdims=np._NoValue):
    x, keep = floating(as_tensor(a)), given(keepdims, False)
    if weights is None:
        out = x.mean(axis, keep)
        return (out, tg("full_like")(out, x.numel() // max(out.numel(), 1))) if returned else out
    weights = as_tensor(weights)
    if tuple(weights.shape) != tuple(x.shape):
        if axis is None or isinstance(axis, tuple):
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        weights = weights.reshape([-1 if d == axis % x.ndim else 1 for d in range(x.ndim)]).expand(x.shape)
    total = reduce("sum", weights, axis, None, keep)
    out = reduce("sum", x * weights, axis, None, keep) / total
    return (out, total.expand(out.shape)) if returned else out


def truth(name):
    def run(a, axis=None, out=None, keepdims=np._NoValue, *, where=np._NoValue):
        return store(reduce(name, a, axis, None, given(keepdims, False), None, given(where, True)), out)

    row("c", "c, axis=1", "x, 0, keepdims=True", name=name)(run)


truth("any")
truth("all")


def position(name):
    def run(a, axis=None, out=None, *, keepdims=np._NoValue):
        return store(tg(name)(as_tensor(a), axis, given(keepdims, False)), out)

    row("x", "x, axis=1", "x, axis=0, keepdims=True", name=name)(run)


position("argmax")
position("argmin")


@row("c", "i, axis=1")
def count_nonzero(a, axis=None, *, keepdims=False):
    return reduce("sum", as_tensor(a) != 0, axis, None, keepdims)


def running(name, numpy_name):
    def run(a, axis=None, dtype=None, out=None):
        x = as_tensor(a)
        x = x.reshape(-1) if axis is None else x
        return store(tg(name)(x, 0 if axis is None else axis, dtype=dtype_of(dtype)), out)

    row("x", "x, axis=1", "x, axis=0, dtype=np.float64", name=numpy_name)(run)


running("cumsum", "cumsum")
running("cumprod", "cumprod")


# --- shapes ---------------------------------------------------------------------------------------------------------
def in_c_order(order) -> None:
    if order not in ("C", "K", "A", None):
        raise NoCounterpart


@row("x, (2, 6)", "x, -1", "x, (4, -1)")
def reshape(a, /, shape, order="C", *, copy=None):
    in_c_order(order)
    out = as_tensor(a).reshape(shape)
    return out.clone() if copy else out


@row("x", "x.T")
def ravel(a, order="C"):
    in_c_order(order)
    return as_tensor(a).reshape(-1)


@row("x", "t, (2, 0, 1)", "t, (1, -1, 0)", also=("permute_dims",))
def transpose(a, axes=None):
    x = as_tensor(a)
    return x.permute(tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))


@row("t, 0, 2", "x, 0, -1")
def swapaxes(a, axis1, axis2):
    return as_tensor(a).transpose(axis1, axis2)


@row("t, 0, 2", "t, (0, 1), (2, 0)")
def moveaxis(a, source, destination):
    return as_tensor(a).movedim(source, destination)


@row("t, 2", "t, 2, 1", "t, 0, 3")
def rollaxis(a, axis, start=0):
    x = as_tensor(a)
    axis, start = axis % x.ndim, start + x.ndim if start < 0 else start
    return x.movedim(axis, start - 1 if start > axis else start)


@row("x[None]", "x[None, :, None], axis=0", "x[None, :, None], axis=(0, 2)")
def squeeze(a, axis=None):
    x = as_tensor(a)
    if axis is None:
        return x.squeeze()
    for d in (axis,) if isinstance(axis, int) else axis:
        if x.shape[d] != 1:
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return x.squeeze(axis)


@row("x, 0", "x, (0, -1)")
def expand_dims(a, axis):
    x = as_tensor(a)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = x.ndim + len(axes)
    for d in sorted(d % ndim for d in axes):
        x = x.unsqueeze(d)
    return x


@row("v, (3, 4)", "x, (2, 3, 4)")
def broadcast_to(array, shape, subok=False):
    return as_tensor(array).expand((shape,) if isinstance(shape, int) else tuple(shape))


@row("x, v")
def broadcast_arrays(*args, subok=False):
    return tg("broadcast_tensors")(*map(as_tensor, args))


def at_least(name):
    def run(*arys):
        return tg(name)(*map(as_tensor, arys))

    row("v", "x", "v, x", name=name)(run)


at_least("atleast_1d")
at_least("atleast_2d")


def joined(arrays):
    return common([as_tensor(a) for a in arrays])


@row("(x, u)", "[x, u], axis=1", "[x, u, x], axis=None", also=("concat",))
def concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    tensors = joined(arrays)
    if axis is None:
        tensors, axis = [t.reshape(-1) for t in tensors], 0
    result = tg("cat")(tensors, axis)
    return store(result if dtype is None else result.to(dtype_of(dtype)), out)


@row("[x, u]", "(x, u), axis=-1")
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    result = tg("stack")(joined(arrays), axis)
    return store(result if dtype is None else result.to(dtype_of(dtype)), out)


def stacked(name, *samples):
    def run(tup, *, dtype=None, casting="same_kind"):
        result = tg(name)(joined(tup))
        return result if dtype is None else result.to(dtype_of(dtype))

    row(*samples, name=name)(run)


stacked("vstack", "[x, u]", "[v, w]")
stacked("hstack", "[x, u]", "[v, w]")


@row("x, u, axis=0", "x, v")
def append(arr, values, axis=None):
    return concatenate((arr, values), axis=axis)


def pieces(x, indices_or_sections, axis, even):
    """The parts of `np.split`: of equal size, or between indices."""
    size = x.shape[axis]
    if hasattr(indices_or_sections, "__len__"):
        bounds = [0, *(int(b) + size if b < 0 else min(int(b), size) for b in indices_or_sections), size]
    else:
        count = int(indices_or_sections)
        if even and size % count:
            raise ValueError("array split does not result in an equal division")
        small, extra = divmod(size, count)
        bounds = [k * small + min(k, extra) for k in range(count + 1)]
    return [x.narrow(axis, a, max(b - a, 0)) for a, b in zip(bounds, bounds[1:])]


@row("x, 2, axis=1", "x, [1], 0", "v, [1, 3]")
def split(ary, indices_or_sections, axis=0):
    return pieces(as_tensor(ary), indices_or_sections, axis, True)


@row("v, 3", "x, 3, axis=1")
def array_split(ary, indices_or_sections, axis=0):
    return pieces(as_tensor(ary), indices_or_sections, axis, False)


@row("x, 2", "v, [1, 2]")
def hsplit(ary, indices_or_sections):
    x = as_tensor(ary)
    return pieces(x, indices_or_sections, 1 if x.ndim > 1 else 0, True)


@row("x, 3", "x, [1]")
def vsplit(ary, indices_or_sections):
    return pieces(as_tensor(ary), indices_or_sections, 0, True)


@row("x", "x, axis=1")
def unstack(x, /, *, axis=0):
    return as_tensor(x).unbind(axis)


@row("x, 2", "x, (2, 1)", "v, (2, 1, 2)")
def tile(A, reps):
    x, reps = as_tensor(A), (reps,) if isinstance(reps, int) else tuple(reps)
    return x.repeat((1,) * (x.ndim - len(reps)) + reps)


@row("x, 2", "x, 2, axis=1", "x, [1, 0, 2], axis=0")
def repeat(a, repeats, axis=None):
    x = as_tensor(a)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    counts = np.broadcast_to(np.asarray(repeats), x.shape[axis])
    return x.index_select(axis, as_tensor(np.repeat(np.arange(x.shape[axis]), counts)))


@row("x, 1", "x, 1, axis=0", "x, (1, 2), axis=(0, 1)")
def roll(a, shift, axis=None):
    return as_tensor(a).roll(shift, axis)


@row("x", "x, 0", "x, (0, 1)")
def flip(m, axis=None):
    x = as_tensor(m)
    return x.flip(tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis))


@row("x")
def fliplr(m):
    return as_tensor(m).flip(1)


@row("x")
def flipud(m):
    return as_tensor(m).flip(0)


@row("x", "x, 2", "x, -1", "t, 1, (0, 2)")
def rot90(m, k=1, axes=(0, 1)):
    x = as_tensor(m)
    a, b = axes
    k %= 4
    if k == 2:
        return x.flip((a, b))
    return x.transpose(a, b).flip(a) if k == 1 else x.flip(a).transpose(a, b) if k == 3 else x.clone()


@row("v", "x", "v, 1", "x, k=-1")
def diag(v, k=0):
    return tg("diag")(as_tensor(v), k)


@row("x", "x, 1", "t, 0, 0, 2")
def diagonal(a, offset=0, axis1=0, axis2=1):
    return as_tensor(a).diagonal(offset, axis1, axis2)


@row("v", "x, 1")
def diagflat(v, k=0):
    return tg("diag_embed")(as_tensor(v).reshape(-1), k)


@row("x", "x, 1", "t, 0, 0, 2")
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return store(as_tensor(a).diagonal(offset, axis1, axis2).sum(-1, dtype=dtype_of(dtype)), out)


def triangle(name):
    def run(m, k=0):
        return tg(name)(as_tensor(m), k)

    row("x", "x, 1", "t, -1", name=name)(run)


triangle("tril")
triangle("triu")


@row("v, w", "v, w, indexing='ij'")
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if sparse:
        raise NoCounterpart
    return tg("meshgrid")(*(as_tensor(x).reshape(-1) for x in xi), indexing=indexing)


@row("x")
def copy(a, order="K", subok=False):
    return as_tensor(a).clone()


@row("x, np.float64")
def astype(x, dtype, /, *, copy=True, device=None):
    return as_tensor(x).to(dtype_of(dtype), copy=copy)


# --- choosing and indexing ------------------------------------------------------------------------------------------
@row("c, x, u", "c, x, 0.0", "c, 1.0, x", "x > 0, x, v")
def where(condition, *choices):
    condition = as_tensor(condition)
    condition = condition if condition.dtype is dtypes.bool_ else condition != 0
    return tg("where")(condition, *map(lift, choices))


@row("x, -0.5, 0.5", "x, None, 0.5", "x, 0.2, None", "x, v, 2.0", "x, min=-0.4, max=0.4")
def clip(a, a_min=np._NoValue, a_max=np._NoValue, out=None, *, min=np._NoValue, max=np._NoValue, **kwargs):
    only_numpy(*kwargs.values())
    low, high = given(min, given(a_min, None)), given(max, given(a_max, None))
    x = as_tensor(a)
    if low is None and high is None:
        return store(x.clone(), out)
    return store(x.clamp(None if low is None else lift(low), None if high is None else lift(high)), out)


@row("x, [0, 2], axis=1", "x, 1", "x, [[0, 5], [11, 3]]", "x, 1, axis=0")
def take(a, indices, axis=None, out=None, mode="raise"):
    if mode != "raise":
        raise NoCounterpart
    x, index = as_tensor(a), as_tensor(indices)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
    flat = index.reshape(-1)
    picked = x.index_select(axis, tg("where")(flat < 0, flat + x.shape[axis], flat))
    return store(picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), out)


@row("x, np.array([[0], [2], [1]]), axis=1", "x, np.array([[0, 1, 2, 0]]), 0")
def take_along_axis(arr, indices, axis=-1):
    x, index = as_tensor(arr), as_tensor(indices)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
    shape = np.broadcast_shapes(*(tuple(1 if d == axis else s for d, s in enumerate(t.shape)) for t in (x, index)))
    index = index.expand([index.shape[axis] if d == axis else s for d, s in enumerate(shape)])
    x = x.expand([x.shape[axis] if d == axis else s for d, s in enumerate(shape)])
    return x.gather(axis, tg("where")(index < 0, index + x.shape[axis], index))


@row("[True, False, True], x, axis=0", "c.reshape(-1), x")
def compress(condition, a, axis=None, out=None):
    x = as_tensor(a)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return store(x.index_select(axis, as_tensor(condition).nonzero().reshape(-1)), out)


@row("c, x")
def extract(condition, arr):
    return as_tensor(arr)[as_tensor(condition).to(dtypes.bool_)]


@row("c")
def nonzero(a):
    return as_tensor(a).nonzero(as_tuple=True)


@row("c")
def argwhere(a):
    return as_tensor(a).nonzero()


@row("c")
def flatnonzero(a):
    return as_tensor(a).reshape(-1).nonzero().reshape(-1)


@row("x", "x, axis=0", "x, axis=None")
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    only_numpy(order)
    x = as_tensor(a)
    return x.reshape(-1).sort(0).values if axis is None else x.sort(axis).values


@row("x", "x, axis=0")
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    only_numpy(order)
    x = as_tensor(a)
    return x.reshape(-1).argsort(0) if axis is None else x.argsort(axis)


@row("x")
def real(val):
    return as_tensor(val).real


@row("x", "x, 2", "x, decimals=1", also=("round_", "around"))
def round_(a, decimals=0, out=None):
    return store(tg("round")(as_tensor(a), decimals=decimals), out)


@row("x")
def fix(x, out=None):
    return store(as_tensor(x).trunc(), out)


@row("x")
def sinc(x):
    return tg("sinc")(as_tensor(x))


@row("x", "x, n=2", "x, axis=0")
def diff(a, n=1, axis=-1, prepend=np._NoValue, append=np._NoValue):
    x = as_tensor(a)
    ends = []
    for end in (prepend, append):
        end = None if end is np._NoValue else as_tensor(end)
        if end is not None and end.ndim == 0:
            end = end.expand([1 if d == axis % x.ndim else s for d, s in enumerate(x.shape)])
        ends.append([] if end is None else [end])
    x = concatenate([*ends[0], x, *ends[1]], axis) if any(ends) else x
    for _ in range(n):
        size = x.shape[axis]
        x = x.narrow(axis, 1, size - 1) - x.narrow(axis, 0, size - 1)
    return x


@row("x, dx=0.5", "x, v", "x, axis=0")
def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = floating(as_tensor(y))
    size = y.shape[axis]
    if x is not None:
        x = as_tensor(x)
        dx = diff(x) if x.ndim == 1 else diff(x, axis=axis)
        dx = dx.reshape([-1 if d == axis % y.ndim else 1 for d in range(y.ndim)]) if x.ndim == 1 else dx
    return (dx * (y.narrow(axis, 1, size - 1) + y.narrow(axis, 0, size - 1)) / 2).sum(axis)


# --- products -------------------------------------------------------------------------------------------------------
@row("v, w", "x, v", "x, x.T", "t, x.T", "x, 2.0")
def dot(a, b, out=None):
    a, b = common([as_tensor(a), as_tensor(b)])
    if not a.ndim or not b.ndim:
        return store(a * b, out)
    if b.ndim == 1 or a.ndim <= 2 and b.ndim <= 2:
        return store(a.matmul(b), out)
    return store(tensordot(a, b, ([-1], [-2])), out)


@row("v, w", "x, u")
def vdot(a, b, /):
    a, b = common([as_tensor(a).reshape(-1), as_tensor(b).reshape(-1)])
    return a.dot(b)


@row("v, w", "x, u", "x, 2.0")
def inner(a, b, /):
    a, b = common([as_tensor(a), as_tensor(b)])
    return tensordot(a, b, ([-1], [-1])) if a.ndim and b.ndim else a * b


@row("v, w", "x, v")
def outer(a, b, out=None):
    return store(as_tensor(a).reshape(-1, 1) * as_tensor(b).reshape(1, -1), out)


@row("x, x.T, 1", "x, u, 2", "t, x, axes=([1, 2], [0, 1])", "t, u, axes=(2, 1)")
def tensordot(a, b, axes=2):
    a, b = common([as_tensor(a), as_tensor(b)])
    if isinstance(axes, int):
        left, right = list(range(a.ndim - axes, a.ndim)), list(range(axes))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in axes)
    left, right = [d % a.ndim for d in left], [d % b.ndim for d in right]
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise ValueError("shape-mismatch for sum")
    kept_a, kept_b = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    shape = [*(a.shape[d] for d in kept_a), *(b.shape[d] for d in kept_b)]
    size = int(np.prod([a.shape[d] for d in left], dtype=np.int64))
    rows, columns = (int(np.prod([t.shape[d] for d in kept], dtype=np.int64)) for t, kept in ((a, kept_a), (b, kept_b)))
    return a.permute(*kept_a, *left).reshape(rows, size).mm(b.permute(*right, *kept_b).reshape(size, columns)).reshape(shape)


@row("'ij,kj->ik', x, u", "'ij->j', x", "'tij,ij', t, x", "'i,j', v, w")
def einsum(subscripts, *operands, out=None, **kwargs):
    if not isinstance(subscripts, str):
        raise NoCounterpart
    only_numpy(*(v for k, v in kwargs.items() if k != "optimize"))
    return store(tg("einsum")(subscripts, *joined(operands)), out)


@row("x, u", "v, w")
def kron(a, b):
    a, b = common([as_tensor(a), as_tensor(b)])
    ndim = max(a.ndim, b.ndim)
    a, b = (t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in (a, b))
    pairs = [s for d in range(ndim) for s in (a.shape[d], 1)], [s for d in range(ndim) for s in (1, b.shape[d])]
    return (a.reshape(pairs[0]) * b.reshape(pairs[1])).reshape([p * q for p, q in zip(a.shape, b.shape)])


@row("v, 2.0", "v, x", "[1.0, 2.0, 3.0], v")
def polyval(p, x):
    p, x = as_tensor(p), lift(x)
    total = x * 0
    for k in range(p.shape[0]):
        total = total * x + p[k]
    return total


# --- statistics -----------------------------------------------------------------------------------------------------
METHODS = {"linear": "linear", "lower": "lower", "higher": "higher", "midpoint": "midpoint", "nearest": "nearest"}


def quantiles(name, numpy_name, scale):
    def run(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None, interpolation=None):
        only_numpy(weights, interpolation)
        if method not in METHODS or isinstance(axis, tuple):
            raise NoCounterpart
        x = floating(as_tensor(a))
        q = as_tensor(q).to(x.dtype) / scale
        result = tg(name)(x, q.reshape(-1), axis, keepdims, interpolation=method)
        return store(result.reshape(tuple(q.shape) + tuple(result.shape[1:])), out)

    argument = "0.3" if scale == 1 else "30"
    several = "[0.2, 0.7]" if scale == 1 else "[20.0, 70.0]"
    row(f"x, {argument}", f"x, {several}, axis=1", f"x, {argument}, axis=0, keepdims=True, method='lower'", name=numpy_name)(run)


quantiles("quantile", "quantile", 1)
quantiles("nanquantile", "nanquantile", 1)
quantiles("quantile", "percentile", 100)
quantiles("nanquantile", "nanpercentile", 100)


def middle(name, numpy_name):
    def run(a, axis=None, out=None, overwrite_input=False, keepdims=False):
        if isinstance(axis, tuple):
            raise NoCounterpart
        return store(tg(name)(floating(as_tensor(a)), 0.5, axis, given(keepdims, False)), out)

    row("x", "x, axis=1", "x[:, :3], axis=-1, keepdims=True", name=numpy_name)(run)


middle("quantile", "median")
middle("nanquantile", "nanmedian")


def without_nan(name):
    def run(a, axis=None, dtype=None, out=None, keepdims=np._NoValue, **kwargs):
        only_numpy(*kwargs.values())
        x = as_tensor(a) if name == "nansum" else floating(as_tensor(a))
        return store(tg(name)(x, axis, keepdim=given(keepdims, False), dtype=dtype_of(dtype)), out)

    row("x", "x, axis=1", "np.where(c, x, np.nan), axis=1, keepdims=True", name=name)(run)


without_nan("nansum")
without_nan("nanmean")


@row("np.where(c, x, np.nan)", "x", "np.where(c, x, np.inf), posinf=2.0")
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    only_numpy(None if copy else copy)
    return tg("nan_to_num")(as_tensor(x), nan, posinf, neginf)


@row("x", "x.T, rowvar=False", "x, bias=True", "x, ddof=0", "v")
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    only_numpy(y, dtype)
    x = floating(as_tensor(m))
    x = x if rowvar or x.ndim < 2 else x.t()
    weight = lambda w: None if w is None else as_tensor(w)
    return tg("cov")(x, correction=(0 if bias else 1) if ddof is None else ddof, fweights=weight(fweights), aweights=weight(aweights))


@row("x", "x.T, rowvar=False")
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    only_numpy(y, dtype)
    x = floating(as_tensor(x))
    return tg("corrcoef")(x if rowvar or x.ndim < 2 else x.t())


@row("v", "x, axis=1", "x, 0.5, axis=0", "v, np.array([0.0, 1.0, 3.0, 3.5])", "v, edge_order=2")
def gradient(f, *varargs, axis=None, edge_order=1):
    x = floating(as_tensor(f))
    dims = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    steps = [lift(v) for v in varargs] or [1.0]
    steps = steps * len(dims) if len(steps) == 1 else steps
    found = tg("gradient")(x, spacing=steps, dim=dims, edge_order=edge_order)
    return found[0] if len(dims) == 1 else found


@row("x, axis=0", "v", "x, axis=1, include_initial=True")
def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    x = as_tensor(x)
    axis = 0 if axis is None and x.ndim == 1 else axis
    if axis is None:
        raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
    total = x.cumsum(axis, dtype=dtype_of(dtype))
    if include_initial:
        total = tg("cat")([total.narrow(axis, 0, 1) * 0, total], axis)
    return store(total, out)


@row("x")
def i0(x):
    return tg("i0")(floating(as_tensor(x)))


at_least("atleast_3d")
stacked("dstack", "[x, u]", "[v, w]")
stacked("column_stack", "[v, w]", "[x, v[:3]]")


# --- numpy.linalg ---------------------------------------------------------------------------------------------------
def linalg(name, *samples, same=None):
    """The function of `tapegrad.linalg` of that name, its operands promoted as in NumPy."""

    def run(*operands, **kwargs):
        import tapegrad.linalg

        operands = [v if isinstance(v, (bool, int, float, str)) or v is None else floating(as_tensor(v)) for v in operands]
        tensors = iter(common([v for v in operands if hasattr(v, "_slot")]))
        return getattr(tapegrad.linalg, same or name)(*(next(tensors) if hasattr(v, "_slot") else v for v in operands), **kwargs)

    row(*samples, name=f"linalg.{name}")(run)


linalg("inv", "s", "np.stack([s, d])")
linalg("det", "s", "np.stack([s, d])")
linalg("slogdet", "s")
linalg("solve", "s, x", "s, v[:3]", "d, s")
linalg("tensorinv", "t[:, :2] + np.eye(4).reshape(2, 2, 4) * 3")
linalg("tensorsolve", "np.eye(4).reshape(2, 2, 4) * 3 + x[0, 0], x[:2, :2]")
linalg("matrix_power", "s, 3", "s, -2")
linalg("svdvals", "x")
linalg("diagonal", "t", "t, offset=1")


@row("x @ x.T", name="linalg.eigvalsh")
def eigvalsh(a, UPLO="L"):
    return tg("linalg").eigvalsh(floating(as_tensor(a)), UPLO)


@row(name="linalg.eigh")
def eigh(a, UPLO="L"):
    return tg("linalg").eigh(floating(as_tensor(a)), UPLO)


@row("x @ x.T + np.eye(3)", name="linalg.cholesky")
def cholesky(a, /, *, upper=False):
    return tg("linalg").cholesky(floating(as_tensor(a)), upper=upper)


@row("x", "x, mode='r'", name="linalg.qr")
def qr(a, mode="reduced"):
    if mode == "raw":
        raise NoCounterpart
    found = tg("linalg").qr(floating(as_tensor(a)), "reduced" if mode == "r" else mode)
    return found.R if mode == "r" else found


@row("x, compute_uv=False", name="linalg.svd")
def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    x = floating(as_tensor(a))
    return tg("linalg").svd(x, full_matrices) if compute_uv else tg("linalg").svdvals(x)


@row("x", "np.stack([s, d])", "x, rcond=1e-3", name="linalg.pinv")
def pinv(a, rcond=None, hermitian=False, *, rtol=np._NoValue):
    return tg("linalg").pinv(floating(as_tensor(a)), rtol=given(rtol, 1e-15 if rcond is None else rcond), hermitian=hermitian)


@row("s", "s, 'fro'", "s, 1", "s, -np.inf", name="linalg.cond")
def cond(x, p=None):
    return tg("linalg").cond(floating(as_tensor(x)), p)


@row("x", "v", "x, 'fro'", "x, 'nuc'", "x, 2", "x, np.inf", "x, axis=1", "x, 3, axis=0, keepdims=True", "t, 1, (0, 2)", "t", name="linalg.norm")
def norm(x, ord=None, axis=None, keepdims=False):
    return tg("linalg").norm(floating(as_tensor(x)), ord, axis, keepdims)


@row("x", "x, axis=1", "x, ord=3", name="linalg.vector_norm")
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    return tg("linalg").vector_norm(floating(as_tensor(x)), ord, axis, keepdims)


@row("t", "t, ord='nuc'", name="linalg.matrix_norm")
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    return tg("linalg").matrix_norm(floating(as_tensor(x)), ord, keepdim=keepdims)


@row("x", "x[:, :1] * v", name="linalg.matrix_rank")
def matrix_rank(A, tol=None, hermitian=False, *, rtol=None):
    return tg("linalg").matrix_rank(floating(as_tensor(A)), atol=tol, rtol=0.0 if tol is not None else rtol, hermitian=hermitian)


@row("[x, x.T, x]", "[v, x.T, s]", name="linalg.multi_dot")
def multi_dot(arrays, *, out=None):
    return store(tg("linalg").multi_dot(joined(arrays)), out)


@row("v[:3], w[:3]", "x.T, u.T", "s, v[:3]", name="cross", also=("linalg.cross",))
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    a, b = common([as_tensor(a), as_tensor(b)])
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = a.movedim(axisa, -1), b.movedim(axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise NoCounterpart
    ndim = max(a.ndim, b.ndim)
    a, b = (t.reshape((1,) * (ndim - t.ndim) + tuple(t.shape)) for t in (a, b))
    return tg("linalg").cross(a, b, dim=-1).movedim(-1, axisc)


@row("v", "v, 3", "v, increasing=True")
def vander(x, N=None, increasing=False):
    x = as_tensor(x)
    count = x.shape[0] if N is None else N
    powers = stack([x**k for k in range(count)], 1) if count else x.new_zeros((x.shape[0], 0))
    return powers if increasing else powers.flip(1)


for _name, _f in (("outer", outer), ("tensordot", tensordot), ("matmul", matmul), ("trace", lambda x, /, *, offset=0, dtype=None: trace(x, offset, -2, -1, dtype)),
                  ("vecdot", vecdot), ("matrix_transpose", lambda x, /: as_tensor(x).mT)):  # fmt: skip
    row(*{"outer": ("v, w",), "trace": ("t",), "matrix_transpose": ("t",), "vecdot": ("x, u",), "tensordot": ("x, x.T, axes=1",)}.get(_name, ("x, x.T",)), name=f"linalg.{_name}")(_f)
row("t", name="matrix_transpose")(lambda x, /: as_tensor(x).mT)


# --- what is not differentiated -------------------------------------------------------------------------------------
@row("x")
def shape(a):
    return tuple(as_tensor(a).shape)


@row("x")
def ndim(a):
    return as_tensor(a).ndim


@row("x", "x, 1")
def size(a, axis=None):
    x = as_tensor(a)
    return x.numel() if axis is None else x.shape[axis]


@row("x, x + 1e-9", "x, u")
def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    return bool(isclose(a, b, rtol, atol, equal_nan).all())


@row("x, x + 1e-9", "x, u")
def isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    a, b = common([as_tensor(a), as_tensor(b)])
    return tg("isclose")(*tg("broadcast_tensors")(a, b), rtol=rtol, atol=atol, equal_nan=equal_nan)


@row("x, x", "x, u")
def array_equal(a1, a2, equal_nan=False):
    a, b = as_tensor(a1).detach().numpy(), as_tensor(a2).detach().numpy()
    return bool(np.array_equal(a, b, equal_nan=equal_nan))


@row("x")
def iscomplexobj(x):
    return as_tensor(x).is_complex()


def like(name):
    def run(a, *fill, dtype=None, order="K", subok=True, shape=None, device=None):
        only_numpy(shape)
        return tg(name)(as_tensor(a), *fill, dtype=dtype_of(dtype))

    row("x, 2.5" if name == "full_like" else "x", name=name)(run)


for _name in ("zeros_like", "ones_like", "full_like"):
    like(_name)
row(name="empty_like")(lambda prototype, dtype=None, order="K", subok=True, shape=None, device=None: tg("empty_like")(prototype, dtype=dtype_of(dtype)))
