"""The memory format of results that NumPy computes: channels innermost where those of the operand are."""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes, formats


def format_of(t, images: bool = False):
    """The format of a tensor of images or, unless `images`, volumes; None for row-major memory."""
    if t.dim() not in ((4,) if images else (4, 5)):
        return None
    form = formats.suggested(tuple(t.shape), t.stride())
    return None if form is formats.contiguous_format else form


def laid_as(x, values, d=None, images: bool = False, form=None):
    """A tensor of `values` in the dtype `d` (x's), in a format (x's).  With `images` only images have one."""
    d = d or x.dtype
    form = form or format_of(x, images)
    if form is None or values.ndim != len(form.order):
        return creation.from_array(np.asarray(values), d)
    out = creation.empty(values.shape, dtype=d, memory_format=form)
    out._array()[...] = values if values.dtype == d.numpy else dtypes.to_stored(values, d)
    return out
