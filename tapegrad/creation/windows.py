"""Window functions for spectra: hann, hamming, blackman, bartlett, kaiser.

A window of n points is a function of k / (n - 1); a periodic one (the default) is the first n points of that of n + 1.
"""

from __future__ import annotations

import numpy as np

from tapegrad import dtypes
from tapegrad.creation.elements import check_dtype, finish, from_array, made, room_for
from tapegrad.creation.filling import check_options
from tapegrad.ops.public import function


def register(name: str, parameters: dict, text: str):
    """Make the window `name` public: `f(x, *parameters)` gives its values for x = k / (n - 1) in [0, 1]."""

    def decorate(f):
        def window(window_length, periodic=True, *args, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False, **named):
            values = dict(zip(parameters, args)) | named
            if len(args) > len(parameters) or not named.keys() <= parameters.keys():
                raise TypeError(f"{name}() received an invalid combination of arguments")
            if isinstance(window_length, (bool, float)) or not hasattr(window_length, "__index__"):
                raise TypeError(f"{name}(): argument 'window_length' (position 1) must be int, not {type(window_length).__name__}")
            check_options(name, device, layout, pin_memory, dtype)
            d = check_dtype(dtype, name) or dtypes.default_dtype()
            if not d.is_floating_point:
                raise RuntimeError(f"{name} expects floating point dtypes, got: {d}")
            count = window_length.__index__()
            if count < 0:
                raise RuntimeError(f"{name} requires non-negative window_length, got window_length={count}")
            room_for(count)
            if count < 2:
                return finish(from_array(np.ones(count), d), requires_grad)
            x = np.arange(count) / (count if periodic else count - 1)
            return made(from_array(dtypes.to_stored(f(x, **(parameters | values)), d), d), requires_grad)

        window.__name__ = window.__qualname__ = name
        window.__doc__ = f"""{text}, at `window_length` points x = k / n; with `periodic=False` at x = k / (n - 1).

    A vector in the default dtype, or in a floating-point `dtype`.
    """
        return function(name=name, tensors=False)(window)

    return decorate


@register("hann_window", {}, "0.5 - 0.5 cos(2 pi x)")
def hann_window(x):
    return 0.5 - 0.5 * np.cos(2 * np.pi * x)


@register("hamming_window", {"alpha": 0.54, "beta": 0.46}, "alpha - beta cos(2 pi x)")
def hamming_window(x, alpha, beta):
    return alpha - beta * np.cos(2 * np.pi * x)


@register("blackman_window", {}, "0.42 - 0.5 cos(2 pi x) + 0.08 cos(4 pi x)")
def blackman_window(x):
    return 0.42 - 0.5 * np.cos(2 * np.pi * x) + 0.08 * np.cos(4 * np.pi * x)


@register("bartlett_window", {}, "1 - |2 x - 1|, a triangle")
def bartlett_window(x):
    return 1 - np.abs(2 * x - 1)


@register("kaiser_window", {"beta": 12.0}, "I0(beta sqrt(1 - (2 x - 1)^2)) / I0(beta), I0 the modified Bessel function of order 0")
def kaiser_window(x, beta):
    return np.i0(beta * np.sqrt(np.maximum(1 - (2 * x - 1) ** 2, 0))) / np.i0(beta)
