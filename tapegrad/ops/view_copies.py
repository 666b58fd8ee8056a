"""Functions that copy what a view shows: `unsqueeze_copy`, `split_copy` and their kind."""

from __future__ import annotations

from tapegrad.formats import contiguous_format
from tapegrad.ops.outputs import store
from tapegrad.ops.pieces import copies
from tapegrad.ops.public import FUNCTIONS, METHODS, function
from tapegrad.ops.views import wrap_dim


def _copy_of(name, view, doc=""):
    """Register the function that gives a copy of what `view` gives."""

    def run(input, *args, out=None, **kwargs):
        found = view(input, *args, **kwargs)
        result = copies(found, suffix="_copy") if isinstance(found, tuple) else found.clone(memory_format=contiguous_format)
        if out is None:
            return result
        stored = store(name + "_copy", result, out)
        return None if isinstance(found, tuple) else stored  # as torch has it

    run.__name__ = run.__qualname__ = name + "_copy"
    run.__doc__ = doc or f"`{name}`, but a copy."
    function(method=name == "narrow", name=name + "_copy")(run)


def _slice(input, dim=0, start=None, end=None, step=1):
    dim = wrap_dim(dim, input.ndim)
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    return input[(slice(None),) * dim + (slice(start, end, step),)]


for _name in ("as_strided", "diagonal", "expand", "narrow", "permute", "select", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
              "unfold", "unsqueeze", "view", "view_as_complex", "view_as_real"):  # fmt: skip
    _copy_of(_name, METHODS[_name] if _name in METHODS else FUNCTIONS[_name])
_copy_of("alias", lambda input: input, "A copy.")
_copy_of("detach", lambda input: input.detach(), "A copy outside of the graph.")
_copy_of("slice", _slice, """A copy of the entries start, start + step, ... before `end` of a dim.

    >>> import tapegrad as tg
    >>> tg.slice_copy(tg.arange(5), 0, 1, 4, 2)
    tensor([1, 3])
    """)
