"""Methods that are neither elementwise nor views: copies, fills, conversions by name, in-place forms, new_*."""

from __future__ import annotations

import contextlib

import numpy as np

from tapegrad import core, creation, dtypes, formats, geometry, modes
from tapegrad.autograd import bases, inplace
from tapegrad.autograd.node import record
from tapegrad.cautions import warn
from tapegrad.creation.data import COPY_CONSTRUCTED
from tapegrad.creation.elements import kernel_number
from tapegrad.engine import layout
from tapegrad.ops import choosing, diagonals, gathering, moves, permuting, reshaping, scans, strided
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import into, laid_out_as
from tapegrad.ops.public import FUNCTIONS, METHODS, function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import CONSTANT


@structural("clone_op", "Clone")
def clone_op(node, g):
    """clone: the gradient as it is."""
    return g


def clone_samples(level, f, input, *, memory_format=None):
    """The batch rule of clone."""
    if memory_format is not None and memory_format.name not in ("preserve_format", "contiguous_format"):
        kind = "".join(part.capitalize() for part in memory_format.name.split("_"))
        raise RuntimeError(
            "NYI: Tensor.clone(memory_format) inside vmap is only supported with memory_format torch.preserve_format or torch.contiguous_format "
            f"(got {kind})"
        )
    return level.wrap(f(level.front(input), memory_format=memory_format))


@function(method=True, batch=clone_samples, linear="input")
def clone(input, *, memory_format=None):
    """A copy in a memory format; the order of the dims in memory is kept if none is given."""
    plans.settled(input)
    return copied(input, geometry.geometry(tuple(input.shape), creation.like_strides("clone", input, memory_format)))


def copied(input, g: int):
    """A copy of the geometry `g`, recorded."""
    if core.get_field(input._slot, core.DTYPE) <= dtypes.PLAIN and moves.copies(input, g):
        return moves.copied(clone_op, input, g)
    result = creation.empty_of(geometry.shapes[g], input.dtype, geometry.strides[g])
    core.assign(result, input)
    record(clone_op, [input], [result])
    return result


@method(batch="in_order", linear="self")
def contiguous(self, memory_format=None):
    """The tensor itself if it is in row-major order (or in the memory format given), else a copy that is."""
    formats.check("contiguous", memory_format)
    if memory_format is None:
        if self.is_contiguous():
            return self
    elif self.is_contiguous(memory_format=memory_format):
        return self
    elif memory_format is formats.preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    plans.settled(self)
    return copied(self, geometry.geometry(tuple(self.shape), formats.strides(tuple(self.shape), memory_format)))


@method()
def copy_(self, src, non_blocking=False):
    """Write `src`, converted and broadcast, over this tensor."""
    inplace.settle_written(self)
    if isinstance(src, (int, float, complex)):
        src = creation.tensor(src)
    if not hasattr(src, "_slot"):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    plans.settled(src)
    target = tuple(self.shape)
    try:
        fits = geometry.broadcast_shapes(target, tuple(src.shape)) == target
    except RuntimeError:
        fits = False
    if not fits:
        inplace.check_writable(self, [src])
        raise _mismatch(self, src)
    recorder = None if inplace.copy_into(self, src) else inplace.overwrite_recorder(self, "CopyBackwards")
    plans.note_store(inplace.copy_op, self, core.get_field(self._slot, core.GEOMETRY), 0, src, src, recorder)
    return self


def _mismatch(a, b):
    try:
        shape = geometry.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    except RuntimeError as error:
        return error
    return RuntimeError(f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(shape)}")


@method()
def fill_(self, value):
    """Every element replaced by a number."""
    inplace.settle_written(self)
    return inplace.fill_(self, value)


@method()
def zero_(self):
    """Every element replaced by 0."""
    inplace.settle_written(self)
    if not inplace.is_recorded(self, ()) and geometry.flags_of(core.get_field(self._slot, core.GEOMETRY)) & layout.DENSE:
        inplace.check_writable(self)
        moves.cleared(inplace.copy_op, self)
        inplace.refresh_flag(self)
        return self
    return inplace.fill_(self, 0, "ZeroBackward0")


@method()
def masked_fill_(self, mask, value):
    """`value` written where `mask` is True."""
    if hasattr(mask, "_slot"):
        inplace.refuse_leaf(self)
        geometry.broadcast_shapes(tuple(self.shape), tuple(mask.shape))
    if inplace.is_repeated(self):
        inplace.warn_of_repeated("masked_fill_", "tensor[mask] = scalar")
        part, dims = inplace.once(self)
        _masked_fill_(part, mask.expand(tuple(self.shape)).amax(dims, keepdim=True), value)
        return self
    return _masked_fill_(self, mask, value)


_masked_fill_ = inplace.by_function(choosing.masked_fill, looked=1)

for _function in (gathering.scatter, gathering.scatter_add, gathering.index_add):
    method(name=_function.__name__ + "_")(inplace.by_function(_function, apart=True))
for _function in (scans.in_place(scans.cumsum), scans.in_place(scans.cumprod), diagonals.tril, diagonals.triu):
    method(name=_function.__name__ + "_")(inplace.by_function(_function))


def _reshaping(name, function):
    def run(self, *args, **kwargs):
        inplace.settle_written(self)
        inplace.check_writable(self, repeated=True)
        # What the tensor was so far lives on as the parent: a view stays a view of its base, by one more step.
        before = core.wrap(self._slot)
        before._base_object, before._parent, before._plan = self._base, self._parent, self._plan
        with modes.set_grad_enabled(modes.is_grad_enabled() or not self.is_leaf):  # the graph must know the new shape
            view = function(before, *args, **kwargs)
            view = view if view is before else in_place_name(before, view)
        if view is not before:
            if self._base is not None:
                self._parent, self._plan = before, view._plan
            bases.become_view(self, view)
        return self

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`{name[:-1]}` in place: only the sizes and strides change."
    return method(name=name)(run)


def in_place_name(x, view):
    """The view taken again under the name that its node has as an in-place operation: TransposeBackward1, SqueezeBackward3."""
    plan = view._plan
    if plan is None:
        return view
    name = plan.graph_name or plan.op.backward_name
    stem, number = name[:-1], int(name[-1])
    name = f"{stem}{number + (3 if stem == 'SqueezeBackward' else 1)}"

    def make(shape, steps):
        *place, parameters = plan.make(shape, steps)
        return (*place, parameters | {"graph_name": name})

    return plans.view(plan.op, x, (plan.key, "in place"), make)


for _name, _function in (
    ("unsqueeze_", reshaping.unsqueeze), ("squeeze_", reshaping.squeeze), ("transpose_", permuting.transpose), ("t_", permuting.t),
    ("swapaxes_", permuting.transpose), ("swapdims_", permuting.transpose), ("as_strided_", strided.as_strided),
):  # fmt: skip
    _reshaping(_name, _function)
FUNCTIONS["as_strided_"] = METHODS["as_strided_"]


def _conversion(name, d):
    def run(self, memory_format=None):
        return self.to(d, memory_format=memory_format)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"The tensor as {d.name}."
    return method(name=name)(run)


for _name, _d in (("float", dtypes.float32), ("double", dtypes.float64), ("long", dtypes.int64), ("int", dtypes.int32), ("short", dtypes.int16),
                  ("char", dtypes.int8), ("byte", dtypes.uint8), ("bool", dtypes.bool_), ("half", dtypes.float16), ("bfloat16", dtypes.bfloat16),
                  ("cfloat", dtypes.complex64), ("cdouble", dtypes.complex128), ("chalf", dtypes.complex32)):
    _conversion(_name, _d)


@method()
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    """A tensor of `data`, in this tensor's dtype unless another is given."""
    if hasattr(data, "_slot"):
        warn(COPY_CONSTRUCTED.format("tensor.new_tensor"), stacklevel=3)
    return creation.finish(creation.build(data if not hasattr(data, "_slot") else data.detach()._values(), dtype or self.dtype), requires_grad)


@method()
def new(self, *args, **kwargs):
    """torch's old constructor, in this tensor's dtype: of data, or uninitialised of sizes."""
    from tapegrad.legacy import of_dtype

    return of_dtype(self.dtype, args, kwargs)


def new_samples(level, f, self, *size, **named):
    """The batch rule of new_*: a tensor of each sample's own, so that it may be written to."""
    size = named.pop("size", size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size)
    return level.wrap(f(level.front(self), level.size, *size, **named))


def _new(name, make):
    def run(self, *size, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False, **named):
        creation.refuse_pinned(pin_memory)
        return make(self, named.get("size", size), dtype or self.dtype, requires_grad)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`tapegrad.{name[4:]}` in this tensor's dtype."
    return method(name=name, batch=new_samples, linear=CONSTANT)(run)


_new("new_zeros", lambda x, size, d, r: creation.filled("zeros", size, 0, d, None, r, like=x))
_new("new_ones", lambda x, size, d, r: creation.filled("ones", size, 1, d, None, r, like=x))
_new("new_empty", lambda x, size, d, r: creation.filled("empty", size, None, d, None, r, like=x))


def new_strided_samples(level, f, self, size, stride, *args, **named):
    """The batch rule of new_empty_strided: the samples' memories one after the other."""
    span = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return level.wrap(f(level.front(self), (level.size, *size), (span, *stride), *args, **named))


@method(batch=new_strided_samples, linear=CONSTANT)
def new_empty_strided(self, size, stride, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """`tapegrad.empty_strided` in this tensor's dtype."""
    return creation.empty_strided(size, stride, dtype=dtype or self.dtype, requires_grad=requires_grad)


def new_full_samples(level, f, self, size, fill_value, **named):
    """The batch rule of new_full."""
    if level.follows(fill_value):
        return level.wrap(level.front(self).new_empty(level.size, *size, **named)).fill_(fill_value)
    return level.wrap(f(level.front(self), (level.size, *size), fill_value, **named))


@method(batch=new_full_samples, linear=CONSTANT)
def new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """`tapegrad.full` in this tensor's dtype."""
    return creation.filled("full", (tuple(size),), fill_value, dtype or self.dtype, None, requires_grad, like=self)


def refuse_equal(level, f, *args, **kwargs):
    raise RuntimeError(
        "Batching rule not implemented for aten::equal. We could not generate a fallback." if f.__name__ == "equal" else
        "vmap over torch.allclose isn't supported yet. Please file an issue at https://github.com/pytorch/pytorch/issues if you need this feature."
    )


@function(method=True, batch=refuse_equal)
def equal(input, other):
    """Whether two tensors have the same size and elements."""
    return tuple(input.shape) == tuple(other.shape) and bool(np.array_equal(input._values(), other._values()))


def close_samples(level, f, input, other, *args, **kwargs):
    """The batch rule of isclose, which broadcasts."""
    rank = max(input.ndim, other.ndim)
    return level.wrap(f(level.aligned(input, rank), level.aligned(other, rank), *args, **kwargs))


def tolerances(input, other, rtol, atol) -> tuple[float, float]:
    """Both as numbers (0-d tensors stand for theirs), for tensors that can be compared."""
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype.scalar_name} did not match {other.dtype.scalar_name}")
    rtol, atol = float(rtol), float(atol)
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value:g}")
    geometry.broadcast_shapes(tuple(input.shape), tuple(other.shape))
    return rtol, atol


@function(method=True, batch=close_samples)
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """|input - other| <= atol + rtol * |other|, elementwise."""
    rtol, atol = tolerances(input, other, rtol, atol)
    if input.dtype.is_floating_point and not input.dtype.reduced:
        with modes.no_grad():
            x, y = input.detach(), other.detach()
            gap = (x - y).abs()
            close = (x == y) | (gap.isfinite() & (gap <= atol + (rtol * y).abs()))
            return close | (x.isnan() & y.isnan()) if equal_nan else close
    found = creation.from_array(np.isclose(input._values(), other._values(), rtol, atol, equal_nan), dtypes.bool_)
    return laid_out_as(input, found)


@function(method=True, batch=refuse_equal)
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether all elements are close."""
    rtol, atol = tolerances(input, other, rtol, atol)
    return bool(np.allclose(input._values(), other._values(), rtol, atol, equal_nan))


@function(method=True)
def positive(input):
    """The tensor itself; bool tensors are refused."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


method(name="__pos__")(positive)


@function(method=True)
def round(input, *, decimals=0, out=None):
    """The nearest integers, ties to even; `decimals` moves the place."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if input.dtype is dtypes.bool_:
        raise no_kernel("round_vml_cpu", input.dtype)
    if decimals == 0:
        return dispatch.call(BY_NAME["round"], input, out=out)
    if out is not None:
        return into(out, round(input, decimals=decimals), "round")
    scale = 10.0**abs(decimals)
    with contextlib.nullcontext() if input._level is not None else modes.no_grad():
        with_scale = input * scale if decimals > 0 else input / scale
        whole = dispatch.call(BY_NAME["round"], with_scale)
        result = whole / scale if decimals > 0 else whole * scale
    return result if input._level is not None else dispatch.recorded(BY_NAME["round_decimals"], [input], result)


@method()
def round_(self, *, decimals=0):
    """`round` in place."""
    return inplace.by_function(round)(self, decimals=decimals)


@function(method=True)
def addcmul(input, tensor1, tensor2, *, value=1, out=None):
    """input + value * tensor1 * tensor2."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if all(x.dtype is dtypes.bool_ for x in (input, tensor1, tensor2)):
        raise no_kernel("addcmul_cpu_out", dtypes.bool_)
    value = kernel_number(value, dispatch.result_dtype([input, tensor1, tensor2]))
    return dispatch.call(BY_NAME["addcmul"], input, tensor1 * value if value != 1 else tensor1, tensor2, out=out)


@function(method=True)
def addcdiv(input, tensor1, tensor2, *, value=1, out=None):
    """input + value * tensor1 / tensor2."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    if all(x.dtype.category <= dtypes.INTEGER for x in (tensor1, tensor2)):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a true division of tensor1 and tensor2. "
            "The historic addcdiv behavior can be implemented as (input + value * torch.trunc(tensor1 / tensor2)).to(input.dtype) for integer inputs and "
            "as (input + value * tensor1 / tensor2) for float inputs. The future addcdiv behavior is just the latter implementation: "
            "(input + value * tensor1 / tensor2), for all dtypes."
        )
    value = kernel_number(value, dispatch.result_dtype([input, tensor1, tensor2]))
    return dispatch.call(BY_NAME["addcdiv"], input, tensor1 * value if value != 1 else tensor1, tensor2, out=out)


method(name="addcmul_")(inplace.by_function(addcmul))
method(name="addcdiv_")(inplace.by_function(addcdiv))


@function(method=True)
def lerp(input, end, weight, *, out=None):
    """input + weight * (end - input)."""
    from tapegrad import dispatch
    from tapegrad.ops.registry import BY_NAME

    for name, x in (("end", end), ("weight", weight)):
        if hasattr(x, "_slot") and x.dtype is not input.dtype:
            raise RuntimeError(f"expected dtype {input.dtype.short} for `{name}` but got dtype {x.dtype.short}")
    if isinstance(weight, complex) and not input.dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {input.dtype.short} without overflow")
    if input.dtype.category <= dtypes.INTEGER:
        raise no_kernel(f"lerp_kernel_{'tensor' if hasattr(weight, '_slot') else 'scalar'}", input.dtype)
    if out is not None and not hasattr(weight, "_slot"):
        return into(out, dispatch.call(BY_NAME["lerp"], input, end, weight), "lerp_number")
    return dispatch.call(BY_NAME["lerp"], input, end, weight, out=out)


method(name="lerp_")(inplace.by_function(lerp))
