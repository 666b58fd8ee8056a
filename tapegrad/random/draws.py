"""Draws of any dtype: what lies between tensors and a `Stream`, which knows NumPy's dtypes only.

Complex elements are drawn part by part.  A tensor that is not contiguous is filled in the order of its memory, as torch's iterator goes.
"""

from __future__ import annotations

import math

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.dtypes import BY_NUMPY
from tapegrad.geometry import stride_order
from tapegrad.ops.checks import no_kernel
from tapegrad.random import arithmetic

BOUNDS = "check_random_bounds handles only integral, floating-point and boolean types"


def kind(d):
    """What the streams take for a dtype."""
    return arithmetic.BFLOAT16 if d is dtypes.bfloat16 else d.numpy


def float_dtype(name, dtype):
    d = creation.check_dtype(dtype, name) or dtypes.default_dtype()
    if not d.differentiable:
        raise no_kernel(name, d)
    return d


def real_only(d, kernel: str):
    """torch's refusal of complex tensors: the name of its kernel, or the whole text."""
    if d.is_complex and " " in kernel:
        raise RuntimeError(kernel)
    if d.is_complex:
        raise no_kernel(kernel, d)


def count(shape) -> int:
    n = 1
    for size in shape:
        n *= size
    return creation.room_for(n)


def drawn(draw, n, d, *args):
    """`n` elements of `d` from one of a stream's functions, complex ones part by part."""
    if not d.is_complex:
        return draw(n, kind(d), *args)
    d = dtypes.BY_NAME[d.compute]
    return np.asarray(draw(2 * n, d.to_real().numpy, *args)).view(d.numpy)


def normal_elements(stream, n, d, mean=0.0, std=1.0, *args):
    """Normal elements of `d`; each part of a complex one has the mean and half of the variance."""
    if d.is_complex:
        if not std >= 0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        std = float(std) / math.sqrt(2.0)
    return drawn(stream.normal, n, d, float(mean), float(std), *args)


def laid_out(values: np.ndarray, shape: tuple, strides: tuple) -> np.ndarray:
    """Draws in their order as an array of `shape`, for memory of `strides`."""
    order = stride_order(shape, [strides])[::-1]
    return np.asarray(values).reshape([shape[k] for k in order]).transpose(np.argsort(order))


def redrawn(out, shape: tuple, draw: str, *args, requires_grad=False, **kwargs):
    """A draw for `out=`: the memory, of the sizes asked for, is overwritten by the method `draw`, so that its dtype decides what is drawn."""
    from tapegrad.transforms.randomness import refuse_out

    refuse_out()
    getattr(out.resize_(shape), draw)(*args, **kwargs)
    return out.requires_grad_() if requires_grad else out


def finished(array, shape, requires_grad=False, out=None, d=None):
    """The tensor of freshly drawn elements, stored in `out` if that is given."""
    from tapegrad.transforms.randomness import refuse_out

    if out is not None:
        refuse_out()
    t = creation.from_array(np.asarray(array).reshape(shape), d or BY_NUMPY[array.dtype])
    if out is not None:
        from tapegrad.writing import write_out

        return write_out(t, out)
    return creation.finish(t, requires_grad)
