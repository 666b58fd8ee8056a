"""The old home of `tapegrad.func.functional_call`."""

from __future__ import annotations

import warnings

from tapegrad.func.modules import call_with

DEPRECATED = (
    "`tapegrad.nn.utils.stateless.functional_call` is deprecated as of PyTorch 2.0 and will be removed in a future version of PyTorch. Please use "
    "`tapegrad.func.functional_call` instead which is a drop-in replacement."
)


def functional_call(module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """`tapegrad.func.functional_call` with a single dict."""
    warnings.warn(DEPRECATED, FutureWarning, stacklevel=2)
    return call_with(module, parameters_and_buffers, args, kwargs, tie_weights, strict)
