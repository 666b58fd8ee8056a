"""The complete path of an elementwise call: what the compiled fast path hands on.

`a * b` runs in compiled code when both are plain tensors of one dtype, or one is a Python number.  Everything else arrives here:
type promotion and conversion, NumPy operands, keywords, `out=`, in-place operations that must be recorded, modes, and every
error.  Steps: `operand` and `promoted` (check and convert) -> `finish` (run) -> `writing` (in place, out=).
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import numpy as np

from tapegrad import core, dtypes, geometry, modes, writing
from tapegrad.cautions import warn_once
from tapegrad.dtypes import FLOAT, INTEGER, OF_SLOT
from tapegrad.engine import layout
from tapegrad.ops import chains, checks
from tapegrad.ops import plan as plans
from tapegrad.ops.registry import BY_NAME as OPS
from tapegrad.ops.registry import UNRECORDED, Elementwise
from tapegrad.ops.transformable import ACTIVE, POSTPONED, level_of

NUMBERS = (bool, int, float, complex, np.number, np.bool_)


def tensor_type():
    from tapegrad.tensor import Tensor

    return Tensor


def dtype_of(slot: int) -> dtypes.dtype:
    return OF_SLOT[core.get_field(slot, core.DTYPE)]


def operand(op_name: str, value, position: int, parameter: str, numbers: bool = True):
    """A Tensor or Python number, or torch's TypeError."""
    if isinstance(value, tensor_type()):
        settle(value)
        return value
    if isinstance(value, np.ndarray):
        from tapegrad.creation import from_array

        return from_array(value)  # a copy: the tape may keep it, and would not notice that the array changes
    if numbers and isinstance(value, NUMBERS):
        return value.item() if isinstance(value, (np.number, np.bool_)) else value
    raise TypeError(f"{op_name}(): argument '{parameter}' (position {position}) must be Tensor, not {type(value).__name__}")


def settle(tensor) -> None:
    """Refuse uninitialised objects; bring a view whose base was changed in place up to date."""
    slot = tensor._slot
    if slot <= 0:
        raise RuntimeError("this Tensor object holds no value; make tensors with tapegrad.tensor, zeros, ...")
    if core.get_field(slot, core.FLAGS) & layout.VIEW and core.get_field(slot, core.VERSION) != core.version_of(slot):
        from tapegrad.autograd import bases

        bases.refresh_view(tensor)


def result_dtype(values) -> dtypes.dtype:
    """torch's result type of tensors and Python numbers."""
    classes: list[Any] = [None, None, None]  # of tensors with dims, 0-d tensors and numbers
    for value in values:
        if isinstance(value, NUMBERS):
            kind, d = 2, dtypes.of_number(value)
        else:
            wrapped = core.get_field(value._slot, core.FLAGS) & layout.WRAPPED
            kind, d = (2 if wrapped else 1 if value.ndim == 0 else 0), value.dtype
        classes[kind] = d if classes[kind] is None else dtypes.promote_types(classes[kind], d)
    return cast(dtypes.dtype, dtypes.combine(*classes))


def compute_dtype(op: Elementwise, values, target=None) -> dtypes.dtype:
    """The dtype that `op` computes in; a `target` that could not hold it is found out before an op that has no kernel for it, shapes before both."""
    d = result_dtype(values)
    if op.promote == "float" and d.category < FLOAT and "I" not in op.kinds:
        return dtypes.default_dtype()
    if d.kind not in op.kinds:
        if d.kind == "B" and "I" in op.kinds and not op.no_bools:
            return dtypes.int64
        if d.is_complex and op.refusal is not None:
            raise type(op.refusal)(*op.refusal.args)
        geometry.broadcast_shapes(*(tuple(v.shape) for v in values if not isinstance(v, NUMBERS)))
        if target is not None:
            writing.can_store(dtypes.bool_ if op.result == "bool" else d, target.dtype)
        raise checks.no_kernel(op.kernel or op.name + "_cpu", d)
    return d


def number_slot(value, d: dtypes.dtype) -> Any:
    """A 0-d tensor of dtype `d` with a Python number, weak in promotion."""
    from tapegrad.creation import scalar

    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise OverflowError("int too big to convert")
    tensor = scalar(value, d)
    core.set_field(tensor._slot, core.FLAGS, layout.WRAPPED)
    return chains.constant(tensor)


def operand_number(op: Elementwise, value, d: dtypes.dtype):
    """The number of a binary operation: cast as a tensor would be (int8 + 300 wraps, float32 * 1e300 is inf), where others check its range."""
    if len(op.inputs) == 2 and not op.in_range:
        if d.category == INTEGER and isinstance(value, int) and -(2**63) <= value < 2**64:
            bits, low = 8 * d.itemsize, -(1 << 8 * d.itemsize - 1) if d.is_signed else 0
            value = (value - low) % (1 << bits) + low
            if value == 0 and op.check is checks.nonzero_divisor:
                raise RuntimeError("ZeroDivisionError")
        elif d.is_floating_point and isinstance(value, (int, float)):
            try:
                return number_slot(value, d)
            except RuntimeError:
                value = math.copysign(math.inf, value)
    return number_slot(value, d)


def convert(tensor, d: dtypes.dtype):
    """`tensor` in dtype `d`, itself if it has it; recorded."""
    code = core.get_field(tensor._slot, core.DTYPE)
    if code == d.code:
        return tensor
    if code > dtypes.PLAIN:
        from tapegrad.ops import postponed

        return convert(postponed.carried_out(tensor), d)
    warn_of_loss(tensor.dtype, d)
    return finish(OPS["to_" + d.name], [tensor])


def warn_of_loss(source: dtypes.dtype, target: dtypes.dtype) -> None:
    """torch's warning, once, when complex values become real ones."""
    if source.is_complex and not target.is_complex and target is not dtypes.bool_:
        warn_once("Casting complex values to real discards the imaginary part", stacklevel=4)


FAILURES = {-1: "mixed", -2: "failed", -3: "memory"}


def finish(op: Elementwise, tensors):
    """Run an elementwise op on tensors that need no more promotion."""
    if ACTIVE:
        level = level_of(tensors)
        if level is not None:
            return level.elementwise(op, tensors)
        for t in tensors:  # the values of a level's tensors, which nobody has looked at
            settle(t)
    if POSTPONED:
        from tapegrad.ops import postponed

        tensors = [postponed.carried_out(t) for t in tensors]
    slots = [t._slot for t in tensors] + [0, 0]
    check_inference(op, tensors)
    if op.result in ("real", "complex"):
        return finish_retyped(op, tensors)
    out = core.elementwise(op.code, slots[0], slots[1], slots[2], 0)
    if out > 0:
        result = core.wrap(out)
        chains.step(op, tensors, result)
        word = modes.word()
        if word & modes.INFERENCE:
            core.set_field(result._slot, core.FLAGS, core.get_field(result._slot, core.FLAGS) | layout.INFERENCE)
        if word & modes.WATCHED:
            from tapegrad.autograd import watch

            watch.recorded(tensors, [result])
        return result
    if out == -2:
        raise RuntimeError(f"{op.name}: the kernel could not be run")
    if out == -3:
        raise_failed_allocation()
    if out == -1 and any(t.dtype.reduced for t in tensors):
        return finish_wider(op, tensors)
    raise TypeError(f"{op.name}: operands of dtypes {[str(t.dtype) for t in tensors]} reached the engine unpromoted")


def finish_retyped(op: Elementwise, tensors):
    """The same for an op whose value has another dtype: the parts of a complex number, or a complex number of parts."""
    from tapegrad.kernels import result_of

    slots = [t._slot for t in tensors]
    geometries = [core.get_field(s, core.GEOMETRY) for s in slots]
    alike = len(set(geometries)) == 1 and geometry.is_contiguous(geometries[0])
    plan = 0 if alike else core.find_broadcast(*(geometries + [0, 0])[:3])
    out = core.compute(op.code, result_of(op, tensors[0].dtype).code, plan, *(slots + [0, 0])[:3])
    if out == -3:
        raise_failed_allocation()
    return recorded(op, tensors, core.wrap(out))


def recorded(op: Elementwise, tensors, result):
    """Put an elementwise op that Python has run on the tape."""
    from tapegrad.autograd.node import record

    names = [*op.inputs, "out"]
    reads = set().union(*(op.reads(k) for k, t in enumerate(tensors) if t.requires_grad))
    record(op, tensors, [result], None, sum(1 << k for k, name in enumerate(names) if name in reads))
    if modes.word() & modes.INFERENCE:
        core.set_field(result._slot, core.FLAGS, core.get_field(result._slot, core.FLAGS) | layout.INFERENCE)
    return result


def finish_wider(op: Elementwise, tensors):
    """Half-precision operands beside a number (or 0-d tensor) that is not rounded to their dtype: computed in the wider one."""
    d = next(t.dtype for t in tensors if t.dtype.reduced)
    with modes.no_grad():
        wide = dtypes.BY_NAME[d.compute]
        result = convert(finish(op, [convert(t, wide) for t in tensors]), d)
    return recorded(op, tensors, result)


def raise_failed_allocation(*_):
    """Called where compiled code has found no memory; the state says for what."""
    nbytes, g = core.error_a.value, core.error_b.value
    if geometry.numels[g] > layout.MOST_ELEMENTS:
        nbytes = nbytes // layout.MOST_ELEMENTS * geometry.numels[g]
    if nbytes > geometry.LARGEST:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(geometry.shapes[g])}")
    raise_memory(nbytes)


def raise_memory(nbytes: int):
    """torch's error for memory that is not to be had."""
    raise RuntimeError(
        f"[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {nbytes} bytes. "
        "Error code 12 (Cannot allocate memory)"
    )


def captured(slot: int) -> bool:
    """Whether the tensor of `slot` was there before the function that is being transformed began."""
    from tapegrad.transforms import wrappers

    return wrappers.captured(slot)


def is_number(tensor) -> bool:
    """Whether the tensor stands for a Python number."""
    return bool(core.get_field(tensor._slot, core.FLAGS) & layout.WRAPPED)


def check_inference(op: Elementwise, tensors) -> None:
    """An inference tensor may not be saved by a recorded operation."""
    flags = [core.get_field(t._slot, core.FLAGS) for t in tensors]
    if not any(f & layout.INFERENCE for f in flags) or not modes.word() & modes.GRAD:
        return
    read = set().union(*(op.reads(k) for k, f in enumerate(flags) if f & layout.REQUIRES_GRAD))
    refuse_inference(t._slot for name, t in zip(op.inputs, tensors, strict=False) if name in read)


def refuse_inference(slots) -> None:
    """Raise if one of the tensors that are saved was made in inference mode, but for what the function of a transform has captured."""
    if any(core.get_field(s, core.FLAGS) & layout.INFERENCE and not (modes.word() & modes.FUNCTION and captured(s)) for s in slots):
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by "
            "autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
            "instead of `torch.inference_mode()`."
        )


def promoted(op: Elementwise, values, d: dtypes.dtype):
    tensors = []
    for k, value in enumerate(values):
        if d.reduced and d.is_floating_point and op.unrounded and unrounded(values, k, d):
            wide = dtypes.BY_NAME[d.compute]
            tensors.append(number_slot(value, wide) if isinstance(value, NUMBERS) else convert(value, wide))
        elif isinstance(value, NUMBERS):
            tensors.append(operand_number(op, value, d))
        elif op.mask and k == 0:
            tensors.append(value)
        else:
            tensors.append(convert(value, d))
    return tensors


def unrounded(values, k: int, d: dtypes.dtype) -> bool:
    """Whether an operand takes part with more digits than `d` has."""
    value = values[k]
    if isinstance(value, NUMBERS):
        return not isinstance(value, complex) and float(dtypes.from_stored(dtypes.to_stored(np.asarray(value, np.float64), d), d)) != value
    return k == 1 and value.ndim == 0 and value.dtype.is_floating_point and not value.dtype.reduced


def call(op: Elementwise, *operands, out=None):
    """An elementwise op on tensors, Python numbers and NumPy arrays, promoted as torch does."""
    modes.word()
    values = [operand(op.name, v, k + 1, op.parameters[k]) for k, v in enumerate(operands)]
    if op.check:
        op.check(op, values)
    if op.complex_form and result_dtype(values).is_complex:
        op = OPS[op.complex_form]
    d = compute_dtype(op, values[1:] if op.mask else values, out)
    if op.name == "pow":
        op, values, d = special_power(op, values, d)
    tensors = promoted(op, values, d)
    if out is not None:
        writing.check_out(op.public, values, out)
        return store_out(op, tensors, out)
    result = finish(op, tensors)
    note(op, values, tensors, result)
    return result


def note(op: Elementwise, values, tensors, result) -> None:
    """Let the call cache learn that `op` alone made `result` of `values`: no operand was converted, no check looked at its elements."""
    if op.check not in checks.OF_ELEMENTS and all(v is t or type(v) in (int, float) for v, t in zip(values, tensors, strict=True)):
        plans.note(op, values, result)


@functools.cache
def powers() -> dict[Any, Elementwise]:
    """Exponent -> the op that stands in for pow."""
    return {op.exponent: op for op in OPS.values() if isinstance(op, Elementwise) and op.public == "pow" and op.exponent is not None}


def special_power(op: Elementwise, values, d: dtypes.dtype):
    """(op, operands, dtype) of a power, some of which do without pow; bools have powers to a bool number only."""
    exponent = values[1]
    if d is dtypes.int64 and result_dtype(values) is dtypes.bool_:
        if not isinstance(exponent, bool):
            raise checks.no_kernel("pow", dtypes.bool_)
        return powers()[exponent], values[:1], dtypes.bool_
    if isinstance(exponent, NUMBERS) and not isinstance(exponent, (bool, complex)) and d.category >= FLOAT and exponent in powers():
        return powers()[exponent], values[:1], d
    return op, values, d


def store_out(op: Elementwise, tensors, out):
    """`out=`: the value goes into `out`, which is resized if its shape differs; nothing is recorded."""
    if op.bool_out and out.dtype is not dtypes.bool_:
        raise RuntimeError(f"{op.name} does not support non-boolean outputs.")
    writing.refuse_repeated(out)
    with modes.no_grad():
        result = finish(op, tensors)
    return writing.write_out(result, out, op.public)


def call_inplace(op: Elementwise, target, *others):
    """The in-place form: the value goes over `target`, recorded as a new version of it."""
    from tapegrad.autograd import inplace

    if not isinstance(target, tensor_type()):
        raise TypeError(f"{op.name}_(): argument 'input' (position 1) must be Tensor, not {type(target).__name__}")
    modes.word()
    if ACTIVE:
        level = level_of((target, *others))
        if level is not None:
            return level.write_elementwise(op, target, others)
    if op.written_by == UNRECORDED and modes.word() & modes.GRAD:
        with modes.no_grad():
            return call_inplace(op, target, *others)
    inplace.settle_written(target)
    if core.get_field(target._slot, core.DTYPE) > dtypes.PLAIN:
        from tapegrad.ops import postponed

        return postponed.written(target, lambda work: call_inplace(op, work, *others))
    values = [target] + [operand(op.name + "_", v, k + 2, op.parameters[k + 1]) for k, v in enumerate(others)]
    inplace.check_writable(target, values, op.name + "_.Tensor")
    if op.check:
        op.check(op, values)
    if op.complex_form and target.dtype.is_complex:
        raise RuntimeError(f"In-place {op.name} is not supported for complex tensors.")
    writing.refuse_overlap(target, values)
    shape = geometry.broadcast_shapes(*(tuple(v.shape) for v in values if not isinstance(v, NUMBERS)))
    if shape != tuple(target.shape):
        raise RuntimeError(
            f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(shape)}"
        )
    d = compute_dtype(op, values, target)
    if op.name == "pow":
        op, values, d = special_power(op, values, d)
    writing.can_store(dtypes.bool_ if op.result == "bool" else d, target.dtype)
    if op.written_by in OPS and d.is_floating_point and inplace.is_recorded(target, values):
        op = OPS[op.written_by]
    return inplace.run_elementwise(op, target, values, d)
