"""Sliding windows over the last dims of NumPy arrays: what convolutions, poolings and unfold are made of.

A `Window` says how it slides; `cut` shows every window, `add` is its transpose: it adds windows back where they were cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """kernel, stride, dilation: one int per dim; padding: (before, after) per dim; negative ones behind leave elements out."""

    kernel: tuple
    stride: tuple
    dilation: tuple
    padding: tuple

    def extents(self) -> tuple:
        """How many elements a window spans in each dim."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    def counts(self, sizes) -> tuple:
        """How many windows fit into the padded sizes."""
        return tuple((n + a + b - e) // s + 1 for n, (a, b), e, s in zip(sizes, self.padding, self.extents(), self.stride))

    def padded(self, array, fill=0):
        n = len(self.kernel)
        if not any(a or b for a, b in self.padding):
            return array
        if any(b < 0 for _, b in self.padding):
            array = array[(..., *(slice(None, b) if b < 0 else slice(None) for _, b in self.padding))]
        return np.pad(array, [(0, 0)] * (array.ndim - n) + [(a, max(b, 0)) for a, b in self.padding], constant_values=fill)

    def cut(self, array, fill=0):
        """A view of shape (..., *kernel, *counts) of the padded array."""
        n = len(self.kernel)
        counts = self.counts(array.shape[array.ndim - n :])
        array = self.padded(array, fill)
        steps = array.strides[array.ndim - n :]
        strides = (*array.strides[: array.ndim - n], *(s * d for s, d in zip(steps, self.dilation)), *(s * t for s, t in zip(steps, self.stride)))
        return np.lib.stride_tricks.as_strided(array, (*array.shape[: array.ndim - n], *self.kernel, *counts), strides, writeable=False)

    def add(self, windows, sizes):
        """The sum of windows (..., *kernel, *counts) at their places in an array of (..., *sizes)."""
        n = len(self.kernel)
        lead = windows.shape[: windows.ndim - 2 * n]
        counts = windows.shape[windows.ndim - n :]
        total = np.zeros((*lead, *(s + a + max(b, 0) for s, (a, b) in zip(sizes, self.padding))), windows.dtype)
        for place in np.ndindex(*self.kernel):
            start = [p * d for p, d in zip(place, self.dilation)]
            region = tuple(slice(a, a + (c - 1) * s + 1, s) if c else slice(0, 0) for a, c, s in zip(start, counts, self.stride))
            total[(..., *region)] += windows[(..., *place, *[slice(None)] * n)]
        return np.ascontiguousarray(total[(..., *(slice(a, a + s) for s, (a, _) in zip(sizes, self.padding)))])
