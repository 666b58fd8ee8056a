"""Writing results into memory that is there already, `out=` and in place: whether it may be done, and doing it unrecorded."""

from __future__ import annotations

from tapegrad import core, dtypes, geometry, modes, out_rules
from tapegrad.engine import layout
from tapegrad.engine.bind import Handle
from tapegrad.ops.transformable import ACTIVE, level_of


def can_store(source: dtypes.dtype, target: dtypes.dtype) -> None:
    if not dtypes.can_cast(source, target):
        raise RuntimeError(f"result type {source.scalar_name} can't be cast to the desired output type {target.scalar_name}")


PARTIAL = (
    "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. "
    "Please clone() the tensor before performing the operation."
)


def refuse_overlap(target, values, same_too=False):
    """Raise if the memory that is written to is a part of an operand's, but not (or `same_too`) the same elements in the same order."""
    buffer = core.get_field(target._slot, core.BUFFER)
    for value in values:
        if value is target and not same_too or not isinstance(value, Handle) or core.get_field(value._slot, core.BUFFER) != buffer:
            continue
        layouts = [core.get_field(t._slot, core.GEOMETRY) for t in (target, value)]
        if not all(geometry.flags_of(g) & layout.DENSE and geometry.numels[g] for g in layouts):
            continue  # which elements they share is too much to find out
        (a, a_end), (b, b_end) = ((s := core.data_of(t._slot), s + geometry.numels[g] * t.dtype.itemsize) for t, g in zip((target, value), layouts, strict=True))
        same = a == b and a_end == b_end
        if same_too or geometry.strides[layouts[0]] != geometry.strides[layouts[1]] if same else a < b_end and b < a_end:
            raise RuntimeError(PARTIAL)


def check_out(name, tensors, out):
    if not isinstance(out, Handle):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    level = level_of((out, *tensors)) if ACTIVE else None
    if level is not None:
        level.refuse_out(name)
    refuse_overlap(out, tensors)
    if name in out_rules.FIRST and tensors:
        out_rules.refuse_dtype(name, tensors[0].dtype, out.dtype)
    if modes.is_grad_enabled():
        out_rules.refuse_gradients(name, any(t.requires_grad for t in tensors if isinstance(t, Handle)), out.requires_grad)


def refuse_repeated(out):
    """Raise if elements of the tensor that is written to share memory."""
    if geometry.flags_of(core.get_field(out._slot, core.GEOMETRY)) & layout.OVERLAPS:
        from tapegrad.autograd.inplace import OVERLAP

        raise RuntimeError(OVERLAP)


def write_out(result, out, name=""):
    """Put `result` of the function `name` into `out`, resizing it with torch's warning where it has elements."""
    out_rules.refuse_dtype(name, result.dtype, out.dtype)
    if out.is_inference() and not modes.is_inference_mode_enabled():
        from tapegrad.autograd.inplace import INFERENCE

        raise RuntimeError(INFERENCE)
    if out.shape == result.shape:  # else it gets memory of its own
        refuse_repeated(out)
    if modes.word() & modes.WATCHED:
        from tapegrad.autograd import watch

        watch.writing(out)
    if out.shape != result.shape:
        if out.numel():
            import warnings

            warnings.warn(
                f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not match the required "
                f"output shape {list(result.shape)}. This behavior is deprecated, and in a future PyTorch release outputs will not be resized "
                "unless they have zero elements. You can explicitly reuse an out tensor t by resizing it, inplace, to zero elements with "
                "t.resize_(0).",
                UserWarning,
                stacklevel=3,
            )
        row = core.buffer_of(out._slot)
        if row.lent and row.nbytes < result.numel() * out.dtype.itemsize:
            raise RuntimeError("Trying to resize storage that is not resizable")
        g = core.get_field(result._slot, core.GEOMETRY)
        dense = geometry.flags_of(g) & layout.DENSE  # then `out` lies in memory as the result does
        fresh = core.allocate_slot(g if dense else geometry.geometry(tuple(result.shape)), out.dtype.code)
        core.move_handle(out, fresh)
    core.assign(out, result)
    core.bump_version(out._slot, 1)
    return out
