"""Functions that copy instead of giving a view: what it shows (`unsqueeze_copy`, `split_copy`), or the whole with it written over (`select_scatter`)."""

from __future__ import annotations

from tapegrad import core, creation, dispatch, geometry, modes, storage
from tapegrad.autograd.node import record
from tapegrad.engine import layout
from tapegrad.formats import contiguous_format
from tapegrad.ops import chains
from tapegrad.ops import plan as plans
from tapegrad.ops.outputs import store
from tapegrad.ops.pieces import copies
from tapegrad.ops.public import FUNCTIONS, METHODS, function
from tapegrad.ops.registry import structural
from tapegrad.ops.views import tensor_argument, wrap_dim


# --- what a view shows ----------------------------------------------------------------------------------------------
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


# --- the whole, with a view written over ----------------------------------------------------------------------------
def _into_view(name, graph_name, view, parameters):
    """Register the function that gives a copy with other values where `view` looks."""

    @structural(name + "_op", graph_name)
    def derivative(node, g):
        a = node.attributes
        zeros = g.new_zeros(a.shape)
        return public(g, zeros, *a.arguments), view(g, *a.arguments)

    derivative.doc = "The base loses the part that was overwritten, the source gets it."

    def run(input, src, *arguments, **named):
        arguments = tuple(named.pop(p, default) if k >= len(arguments) else arguments[k] for k, (p, default) in enumerate(parameters))
        if named:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(named))}'")
        tensor_argument(name, input)
        tensor_argument(name, src, 2, "src")
        with modes.no_grad():
            result = twin(input)
            part = view(result, *arguments)
            if tuple(part.shape) != tuple(src.shape):
                raise RuntimeError(
                    f"expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = {list(part.shape)}"
                )
            core.assign(part, src)
        record(derivative, [input, dispatch.convert(src, input.dtype)], [result], plans.Parameters(derivative, shape=tuple(src.shape), arguments=arguments))
        return result

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"A copy of `input` with `src` written over the view `{name.removesuffix('_scatter')}` of it."
    public = function(method=True, name=name)(run)


def twin(x):
    """A copy of all the memory that `x` lies in, seen as `x` sees it, so that strides and offset stay; a plain copy if elements of `x` overlap."""
    if x._level is not None or geometry.flags_of(core.get_field(x._slot, core.GEOMETRY)) & layout.OVERLAPS or x.is_conj() or x.is_neg():
        return creation.from_array(x.detach()._array(), x.dtype)
    s = plans.settled(x)
    result = core.looking_at(storage.whole(x, x.dtype).clone(), x.dtype, core.get_field(s, core.GEOMETRY), core.data_of(s) - core.memory_of(s)[0])
    chains.looked(result)  # it will be written to
    return result


_into_view("select_scatter", "SelectScatter", lambda x, dim, index: x.select(dim, index), (("dim", None), ("index", None)))
_into_view("slice_scatter", "SliceScatter", _slice, (("dim", 0), ("start", None), ("end", None), ("step", 1)))
_into_view("diagonal_scatter", "DiagonalScatter", lambda x, offset, a, b: x.diagonal(offset, a, b), (("offset", 0), ("dim1", 0), ("dim2", 1)))
_into_view("as_strided_scatter", "AsStridedScatter", lambda x, size, stride, offset: x.as_strided(size, stride, offset),
           (("size", None), ("stride", None), ("storage_offset", None)))  # fmt: skip
