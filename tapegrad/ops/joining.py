"""Joining and repeating: cat, stack, repeat, tile, roll, flip and their derivatives."""

from __future__ import annotations

import math

import numpy as np

from tapegrad import core, dtypes, geometry, modes
from tapegrad.autograd.node import record
from tapegrad.cautions import warn_once
from tapegrad.naming import type_name
from tapegrad.ops import moves
from tapegrad.ops import plan as plans
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import look_at
from tapegrad.ops.views import ints, wrap_dim


@structural("cat_op", "Cat", shows_all=True)
def cat_op(node, g):
    """cat: each piece gets its part."""
    a = node.attributes
    result, at = [], 0
    for shape in a.shapes:
        if shape == (0,) and len(a.shape) != 1:
            result.append(g.new_zeros((0,)))
            continue
        result.append(g.narrow(a.dim, at, shape[a.dim]))
        at += shape[a.dim]
    return result


def sequence(name, tensors):
    if hasattr(tensors, "_slot"):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    tensors = list(tensors)
    for k, x in enumerate(tensors):
        if not hasattr(x, "_slot"):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type_name(x)}")
    return tensors


def refuse_gradients(name, tensors, out) -> None:
    """What is stored in `out` is not recorded, which is said before anything else is looked at."""
    if hasattr(out, "_slot"):
        from tapegrad import modes, out_rules

        if modes.is_grad_enabled():
            out_rules.refuse_gradients(name, any(t.requires_grad for t in tensors), out.requires_grad)


def promote(tensors):
    """The tensors in their common dtype."""
    from tapegrad import dispatch

    if len({core.get_field(t._slot, core.DTYPE) for t in tensors}) == 1:
        return tensors
    d = dispatch.result_dtype(tensors)
    return [dispatch.convert(t, d) for t in tensors]


@function(aliases=("concat", "concatenate"), batch="sequence", linear="tensors")
def cat(tensors, dim=0, *, out=None, axis=None):
    """The tensors one after the other along `dim`; sizes of the other dims must agree."""
    tensors = sequence("cat", tensors)
    if not tensors:
        raise ValueError("tapegrad.cat(): expected a non-empty list of Tensors")
    refuse_gradients("cat", tensors, out)
    for x in tensors:
        plans.settled(x)
    tensors = promote(tensors)
    shapes = [tuple(x.shape) for x in tensors]
    for k, shape in enumerate(shapes):
        if shape == ():
            raise RuntimeError(f"zero-dimensional tensor (at position {k}) cannot be concatenated")
    model = next((s for s in shapes if s != (0,)), shapes[0])
    dim = dim if axis is None else axis
    dim = 0 if model == (0,) and len(shapes) > 1 else wrap_dim(dim, len(model))  # torch: empty vectors join along any dim
    for k, shape in enumerate(shapes):
        if shape == (0,):
            continue
        if len(shape) != len(model):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(model)} and {len(shape)}")
        for d, (a, b) in enumerate(zip(model, shape, strict=True)):
            if d != dim and a != b:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {a} but got size {b} for tensor number {k} in the list."
                )
    length = sum(s[dim] for s in shapes if s != (0,) or len(model) == 1)
    shape = model[:dim] + (length,) + model[dim + 1 :]
    step = geometry.contiguous_strides(shape)
    places, at = [], 0
    for s in shapes:
        places.append(at * step[dim])
        at += s[dim] if s != (0,) or len(model) == 1 else 0
    strides = [step if s != (0,) or len(model) == 1 else (1,) for s in shapes]
    result = moves.joined(cat_op, tensors, shape, places, strides, dim=dim, shapes=shapes, outer=math.prod(shape[:dim]))
    if out is not None:
        from tapegrad.writing import check_out, refuse_overlap, write_out

        check_out("cat", tensors, out)
        refuse_overlap(out, tensors, same_too=True)
        joinable(result, out)
        return write_out(result, out)
    return result


def joinable(result, out) -> None:
    if not dtypes.can_cast(result.dtype, out.dtype):
        raise TypeError(f"torch.cat(): input types can't be cast to the desired output type {out.dtype.scalar_name}")


@structural("stack_op", "Stack", shows_all=True)
def stack_op(node, g):
    """stack: each piece gets its slice."""
    return list(g.unbind(node.attributes.dim))


@function(batch="sequence", linear="tensors")
def stack(tensors, dim=0, *, out=None):
    """The tensors, all of one shape, along a new dim."""
    tensors = sequence("stack", tensors)
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    refuse_gradients("stack", tensors, out)
    for x in tensors:
        plans.settled(x)
    tensors = promote(tensors)
    first = tuple(tensors[0].shape)
    for k, x in enumerate(tensors):
        if tuple(x.shape) != first:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(x.shape)} at entry {k}")
    dim = wrap_dim(dim, len(first), 1)
    shape = first[:dim] + (len(tensors),) + first[dim:]
    step = geometry.contiguous_strides(shape)
    places = [k * step[dim] for k in range(len(tensors))]
    strides = [step[:dim] + step[dim + 1 :]] * len(tensors)
    result = moves.joined(stack_op, tensors, shape, places, strides, dim=dim, outer=math.prod(first[:dim]))
    if out is not None:
        from tapegrad.writing import check_out, write_out

        check_out("stack", tensors, out)
        joinable(result, out)
        return write_out(result, out)
    return result


def nonempty_sequence(name, tensors):
    if not (tensors := sequence(name, tensors)):
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return tensors


def _stacker(name, at_least, dim):
    def run(tensors, *, out=None):
        return cat([at_least(x) for x in nonempty_sequence(name, tensors)], dim, out=out)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"numpy.{name} for tensors."
    return function(name=name)(run)


def at_least_1d(x):
    return x.reshape(1) if x.ndim == 0 else x


def at_least_2d(x):
    return x.reshape(1, 1) if x.ndim == 0 else x.unsqueeze(0) if x.ndim == 1 else x


vstack = _stacker("vstack", at_least_2d, 0)


@function()
def hstack(tensors, *, out=None):
    """numpy.hstack for tensors."""
    tensors = [at_least_1d(x) for x in nonempty_sequence("hstack", tensors)]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1, out=out)


def _at_least(name, convert):
    def run(*tensors):
        tensors = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
        found = tuple(convert(x) for x in sequence(name, tensors))
        return found[0] if len(found) == 1 else found

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"The tensors with {name[-2]} dims at least."
    return function(name=name)(run)


atleast_1d, atleast_2d = _at_least("atleast_1d", at_least_1d), _at_least("atleast_2d", at_least_2d)


@structural("repeat_op", "Repeat")
def repeat_op(node, g):
    """repeat: summed over the copies."""
    a = node.attributes
    parts = []
    for r, s in zip(a.repeats, a.part, strict=True):
        parts.extend((r, s))
    return g.reshape(parts).sum(tuple(range(0, len(parts), 2))).reshape(a.part[len(a.part) - node.inputs[0].ndim :]) if parts else g


def repeat_samples(level, f, self, *sizes, repeats=None):
    """The batch rule of repeat: one copy of the batch."""
    sizes = ints("repeat", sizes if repeats is None else (repeats,), "repeats")
    if len(sizes) < self.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return level.wrap(f(level.aligned(self, len(sizes)), 1, *sizes))


@method(batch=repeat_samples, linear="self")
def repeat(self, *sizes, repeats=None):
    """Copied `sizes[d]` times along each dim (numpy.tile)."""
    sizes = ints("repeat", sizes if repeats is None else (repeats,), "repeats")
    if len(sizes) < self.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    from tapegrad.creation import from_array, room_for

    lead = len(sizes) - self.ndim
    shape = (1,) * lead + tuple(self.shape)
    if min(sizes, default=0) < 0:
        full = [r * s for r, s in zip(sizes, shape)]
        raise RuntimeError(f"Trying to create tensor with negative dimension {next(s for s in full if s < 0)}: {full}")
    count = room_for(math.prod(sizes) * self.numel())
    if sizes and moves.movable(self) and count < moves.TABLED:
        plans.settled(self)
        steps = (0,) * lead + tuple(self.stride())
        tables = [[i * step for i in range(n)] * r for n, r, step in zip(shape, sizes, steps, strict=True)]
        whole = tuple(n * r for n, r in zip(shape, sizes, strict=True))
        return moves.taken(repeat_op, self, whole, tables, key=sizes, repeats=sizes, part=shape)
    result = from_array(np.tile(self.detach()._array().reshape(shape), sizes), self.dtype)
    record(repeat_op, [self], [result], plans.Parameters(repeat_op, repeats=sizes, part=shape))
    return result


@function(method=True)
def tile(input, *axes, dims=None):
    """numpy.tile: copied along each dim."""
    dims = ints("tile", axes if dims is None else (dims,), "dims")
    return input.repeat((1,) * (input.ndim - len(dims)) + dims)


@structural("flip_op", "Flip")
def flip_op(node, g):
    """flip: flipped back."""
    return flip(g, node.attributes.dims)


def flip_samples(level, f, input, *axes, dims=None):
    """The batch rule of flip: the dims move up by one."""
    dims = ints("flip", axes if dims is None else (dims,), "dims")
    return level.wrap(f(level.front(input), tuple(wrap_dim(d, input.ndim) + 1 for d in dims) if input.ndim else ()))


@function(method=True, batch=flip_samples, linear="input")
def flip(input, *axes, dims=None):
    """Reversed along dims (a copy)."""
    from tapegrad import creation

    if not axes and dims is None:
        raise TypeError('flip() missing 1 required positional arguments: "dims"')
    dims = axes if dims is None else (dims,)
    dims = tuple(wrap_dim(d, input.ndim) for d in ints("flip", dims, "dims"))
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims")
    plans.settled(input)
    shape, steps = tuple(input.shape), input.stride()
    dims = dims if shape else ()
    kept = creation.like_strides("flip", input)
    if shape and moves.movable(input) and input.numel() < moves.TABLED:
        turn = lambda steps: [[(n - 1 - k if d in dims else k) * step for k in range(n)] for d, (n, step) in enumerate(zip(shape, steps, strict=True))]  # noqa: E731
        order = sorted(range(len(shape)), key=lambda k: (-kept[k], k))
        return moves.taken(flip_op, input, shape, turn(steps), turn(geometry.contiguous_strides(shape)), dims, order, dims=dims)
    result = creation.empty_of(shape, input.dtype, kept)
    if input.numel():
        # Read backwards: a view with negative strides, which only this copy ever sees.
        start = sum((shape[d] - 1) * steps[d] for d in dims)
        turned = geometry.geometry(shape, tuple(-s if d in dims else s for d, s in enumerate(steps)))
        core.assign(result, core.wrap(core.view_slot(input._slot, turned, start * input.dtype.itemsize)))
    record(flip_op, [input], [result], plans.Parameters(flip_op, dims=dims))
    return result


@structural("roll_op", "Roll")
def roll_op(node, g):
    """roll: rolled back."""
    a = node.attributes
    return roll(g, [-s for s in a.shifts], a.dims)


def roll_samples(level, f, input, shifts, dims=None):
    """The batch rule of roll: the dims move up by one; without dims a sample is rolled as if flat."""
    value = level.front(input)
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        shift = shifts[0] if isinstance(shifts, (tuple, list)) else shifts
        return level.wrap(f(value.reshape(level.size, input.numel()), shift, 1).reshape(value.shape))
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    return level.wrap(f(value, shifts, [wrap_dim(d, input.ndim) + 1 for d in dims]))


@function(method=True, batch=roll_samples, linear="input")
def roll(input, shifts, dims=None):
    """Elements moved along dims, those that fall off coming in at the other end."""
    from tapegrad.creation import from_array

    shifts = list(ints("roll", (shifts,), "shifts"))
    dims = [] if dims is None else list(ints("roll", (dims,), "dims"))
    if not shifts:
        raise RuntimeError("`shifts` required")
    if (dims or len(shifts) > 1) and len(dims) != len(shifts):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if len(dims) == 1 and not input.numel():
        return input.clone()
    if dims:
        if not input.ndim:
            raise IndexError(f"Dimension specified as {dims[0]} but tensor has no dimensions")
        dims = [wrap_dim(d, input.ndim) for d in dims]
        shape = tuple(input.shape)
        if shape and moves.movable(input) and input.numel() < moves.TABLED:
            plans.settled(input)
            by = [sum(s for s, other in zip(shifts, dims, strict=True) if other == d) for d in range(input.ndim)]
            turn = lambda steps, sign: [  # noqa: E731
                [(k - sign * by[d]) % n * step for k in range(n)] for d, (n, step) in enumerate(zip(shape, steps, strict=True))
            ]
            key = (tuple(shifts), tuple(dims))
            return moves.taken(roll_op, input, shape, turn(input.stride(), 1), turn(geometry.contiguous_strides(shape), -1), key, shifts=shifts, dims=dims)
    if not dims and input.ndim:
        with modes.no_grad():
            result = input.detach().reshape(-1).roll(shifts[0], 0).reshape(tuple(input.shape)).clone()
    else:
        array = input.detach()._array()
        result = from_array(np.roll(array, shifts, tuple(dims)) if dims else array, input.dtype)
    record(roll_op, [input], [result], plans.Parameters(roll_op, shifts=shifts, dims=dims or None))
    return result


@function()
def meshgrid(*tensors, indexing=None):
    """Coordinate grids of 1-D tensors."""
    tensors = sequence("meshgrid", tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors)
    if indexing is None:
        warn_once("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.")
        indexing = "ij"
    look_at("~meshgrid", tensors, indexing=indexing)
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for x in tensors:
        if x.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x}")
    if len({x.dtype for x in tensors}) > 1:
        raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if indexing == "xy" and len(tensors) > 1:
        tensors[0], tensors[1] = tensors[1], tensors[0]
    shape = tuple(x.numel() for x in tensors)
    grids = [x.reshape((1,) * k + (-1,) + (1,) * (len(tensors) - k - 1)).expand(shape) for k, x in enumerate(tensors)]
    if indexing == "xy" and len(tensors) > 1:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)
