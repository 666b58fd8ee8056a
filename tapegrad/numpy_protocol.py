"""NumPy's calls on Tensors: `np.sin(t)`, `np.sum(t, axis=0)`, `ndarray * t` run, record and differentiate as tapegrad's own ops do.

NumPy hands a call over by `__array_ufunc__` (ufuncs and their methods) or `__array_function__` (all else).  `ops/numpy_table` says
which op serves which NumPy name.  Arrays among the operands are copied into tensors of their dtype, because the tape may keep them; NumPy
scalars count as Python numbers.  What the table does not have runs in NumPy on the tensors' memory and returns what NumPy returns, unless
a tensor requires grad, which is refused: the derivative would be lost.
"""

from __future__ import annotations

import functools

import numpy as np

from tapegrad import core, creation, dispatch, dtypes, writing

# NumPy functions that write into their first argument.
WRITERS = {"copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"}


def lift(value):
    """An operand as a tensor or Python number: arrays and lists are copied, NumPy scalars become numbers."""
    if hasattr(value, "_slot"):
        dispatch.settle(value)
        return value
    if isinstance(value, (np.number, np.bool_)):
        return value.item()
    if isinstance(value, (bool, int, float, complex)):
        return value
    if isinstance(value, (np.ndarray, list, tuple)):
        return as_tensor(value)
    raise TypeError(f"an operand of type {type(value).__name__} has no tensor counterpart")


def as_tensor(value):
    """A tensor of a tensor, array, nested list (of tensors too) or number; numbers take NumPy's dtype for them."""
    if hasattr(value, "_slot"):
        dispatch.settle(value)
        return value
    if isinstance(value, (list, tuple)) and holds_tensor(value):
        from tapegrad.ops.joining import stack

        return stack(common([as_tensor(v) for v in value]))
    return creation.from_array(np.asarray(value))


def holds_tensor(value) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(holds_tensor, value))
    return hasattr(value, "_slot")


def common(tensors):
    """The tensors in the dtype that torch promotes them to, as NumPy's functions do before they compute."""
    d = dispatch.result_dtype(tensors)
    return [dispatch.convert(t, d) for t in tensors]


def floating(x):
    """`x`, in the default dtype if it holds integers, as torch's floating-point ops have it."""
    return x if x.dtype.category >= dtypes.FLOAT else x.to(dtypes.default_dtype())


def dtype_of(value):
    """A tapegrad dtype of what NumPy takes for one."""
    if value is None or isinstance(value, dtypes.dtype):
        return value
    found = dtypes.BY_NUMPY.get(np.dtype(value))
    if found is None:
        raise TypeError(f"tapegrad has no dtype {np.dtype(value)}")
    return found


# --- what the table does not have -----------------------------------------------------------------------------------
def tensors_in(value):
    """The tensors in arguments, in lists and dicts too."""
    if hasattr(value, "_slot"):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from tensors_in(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)


def lowered(value):
    """The arguments with NumPy arrays over the memory of the tensors."""
    if hasattr(value, "_slot"):
        return value.numpy()
    if isinstance(value, dtypes.dtype):
        return value.numpy
    if isinstance(value, dict):
        return {k: lowered(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [lowered(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def in_numpy(name: str, function, args, kwargs, written=()):
    """Run `function` in NumPy; `written` are the tensors that it changes."""
    from tapegrad import modes

    if any(t.requires_grad for t in tensors_in((args, kwargs))) and modes.is_grad_enabled():
        raise RuntimeError(
            f"Can't call numpy.{name} on Tensor that requires grad: the result would have no gradient. Use tensor.detach() instead."
        )
    with modes.no_grad():
        result = function(*lowered(detached(args)), **lowered(detached(kwargs)))
    for t in written:
        core.bump_version(t._slot, 1)
    return result


def detached(value):
    if hasattr(value, "_slot"):
        return value.detach()
    if isinstance(value, dict):
        return {k: detached(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [detached(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


# --- the two protocols ----------------------------------------------------------------------------------------------
@functools.cache
def table():
    from tapegrad.ops import numpy_table

    return numpy_table


def store(result, out, name="out="):
    """Put a result into `out=`, a tensor or an array."""
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if out is None:
        return result
    if isinstance(out, np.ndarray):
        np.copyto(out, in_numpy(name, np.asarray, (result,), {}), casting="same_kind")
        return out
    writing.check_out(name, [result], out)
    return writing.write_out(result.detach(), out, name)


def array_ufunc(self, ufunc, method: str, *inputs, out=None, **kwargs):
    """`Tensor.__array_ufunc__`."""
    if not all(v is None or known(type(v)) for v in (*inputs, *(out or ()))):
        return NotImplemented
    name = ufunc.__name__
    outs = [t for t in out or () if hasattr(t, "_slot")]
    dtype = kwargs.pop("dtype", None) if method == "__call__" else None
    run = table().ufunc_method(name, method)
    if method == "at":
        outs = [inputs[0]] if hasattr(inputs[0], "_slot") else []
    if run is not None and not (method == "__call__" and kwargs):
        if dtype is not None:
            inputs = tuple(as_tensor(v).to(dtype_of(dtype)) for v in inputs)
        result = run(*inputs, **kwargs)
        if out is None or method == "at":
            return result
        if isinstance(result, tuple):
            return tuple(store(r, o, name) for r, o in zip(result, out, strict=True))
        return store(result, out, name)
    if dtype is not None:
        kwargs["dtype"] = dtype
    if out is not None:
        kwargs["out"] = out
    call = getattr(ufunc, method)
    result = in_numpy(name if method == "__call__" else f"{name}.{method}", call, inputs, kwargs, outs)
    return outs[0] if outs and out is not None and len(out) == 1 else result


def array_function(self, function, types, args, kwargs):
    """`Tensor.__array_function__`."""
    if not all(known(t) for t in types):
        return NotImplemented
    run = table().functions().get(function)
    name = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
    if run is not None:
        try:
            return run(*args, **kwargs)
        except table().NoCounterpart:
            pass  # an argument that only NumPy has
    written = [t for t in tensors_in(kwargs.get("out"))]
    if function.__name__ in WRITERS:
        written += list(tensors_in(args[:1]))
    result = in_numpy(name, function, args, kwargs, written)
    return kwargs["out"] if hasattr(kwargs.get("out"), "_slot") else result


NUMBERS = (bool, int, float, complex, np.generic, list, tuple)


def known(kind: type) -> bool:
    """Types that a call with tensors may have besides: arrays (not their subclasses with rules of their own) and numbers."""
    return issubclass(kind, dispatch.tensor_type()) or kind is np.ndarray or kind is np.memmap or issubclass(kind, NUMBERS)
