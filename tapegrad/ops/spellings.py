"""Functions that are others in a spelling of their own: in place, under an old name, with arguments in another order."""

from __future__ import annotations

from tapegrad import creation, dtypes
from tapegrad.ops.outputs import stored
from tapegrad.ops.public import FUNCTIONS, METHODS, function, method
from tapegrad.ops.views import ints

# --- in place --------------------------------------------------------------------------------------------------------
FUNCTIONS["addmv_"] = METHODS["addmv_"]
FUNCTIONS["clip_"], FUNCTIONS["ldexp_"] = METHODS["clip_"], METHODS["ldexp_"]


# --- others -----------------------------------------------------------------------------------------------------------
@function(method=True)
@stored()
def nonzero_static(input, *, size, fill_value=-1):
    """The first `size` rows of `nonzero`, (size, ndim), filled up with `fill_value`.

    >>> import tapegrad as tg
    >>> tg.nonzero_static(tg.tensor([1, 0, 2]), size=3).tolist()
    [[0], [2], [-1]]
    """
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer (got {size})")
    found = input.nonzero()[:size]
    result = creation.filled("full", ((size, input.ndim),), fill_value, dtypes.int64, None, False)
    result[: found.shape[0]] = found
    return result


@function()
def constant_pad_nd(input, pad, value=0):
    """The ends of the last dims filled up with a number, or cut off: `pad` is (before, after) of the last dim, of the one before it, ..."""
    from tapegrad.nn.functional import pad as padded

    return padded(input, tuple(pad), "constant", value)


@function()
def dropout(input, p, train):
    """Elements zeroed with probability `p` and the rest scaled by 1 / (1 - p), if `train`."""
    from tapegrad.nn.functional import dropout as of_functional

    return of_functional(input, p, train)


@function()
def embedding(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    """Rows of a matrix by their numbers; the row `padding_idx`, if not negative, gets no gradient."""
    from tapegrad.nn.functional import embedding as of_functional

    return of_functional(indices, weight, padding_idx if padding_idx >= 0 else None, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse)


@method()
def prelu(self, weight):
    """x where x > 0, weight x elsewhere; one weight, or one for each channel (dim 1)."""
    from tapegrad.nn.functional import prelu as of_functional

    return of_functional(self, weight)


@function(tensors=False)
def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, pin_memory=False, requires_grad=False):
    """An uninitialised tensor whose dims lie in memory in the order `physical_layout`, the slowest first.

    >>> import tapegrad as tg
    >>> tg.empty_permuted((2, 3, 4), (0, 2, 1)).stride()
    (12, 1, 3)
    """
    order, sizes = ints("empty_permuted", (physical_layout,)), ints("empty_permuted", (size,))
    if len(order) != len(sizes):
        raise RuntimeError(
            "Number of dimensions in size does not match the length of the physical_layout; i.e. "
            f"len(size) = {len(sizes)} is not equal to len(physical_layout) = {len(order)}"
        )
    for k, d in enumerate(order):
        if not 0 <= d < len(sizes):
            raise RuntimeError(
                f"Dimension out of range (expected to be between 0 and {len(sizes) - 1}, but got {d} at index {k}).  NB: negative dims not currently "
                "supported; file an issue if you want it."
            )
    if len(set(order)) != len(order):
        raise RuntimeError("Duplicate dim not allowed")
    steps, step = [0] * len(sizes), 1
    for d in reversed(order):
        steps[d], step = step, step * max(sizes[d], 1)
    return FUNCTIONS["empty_strided"](sizes, steps, dtype=dtype, layout=layout, device=device, pin_memory=pin_memory, requires_grad=requires_grad)


@function()
def pdist(input, p=2.0):
    """The p-norm distance of every two rows of a matrix, (n (n - 1) / 2,): of rows 0 and 1, 0 and 2, ... 1 and 2, ...

    >>> import tapegrad as tg
    >>> tg.pdist(tg.tensor([[0., 0.], [3., 4.], [0., 1.]]))
    tensor([5.0000, 1.0000, 4.2426])
    """
    from tapegrad.ops.norms import vector_norm

    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if not input.dtype.is_floating_point:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = FUNCTIONS["triu_indices"](input.shape[0], input.shape[0], 1).unbind(0)
    if not input.shape[1] or not first.numel():
        return input.new_zeros(first.numel()) + 0 * input.sum()
    return vector_norm(input.index_select(0, first) - input.index_select(0, second), p, 1)


# --- division, as Python 2 called it -------------------------------------------------------------------------------
@method()
def __div__(self, other):
    """`self / other`."""
    return self / other


@method()
def __rdiv__(self, other):
    """`other / self`."""
    return self.reciprocal() * other


@method()
def __idiv__(self, other):
    """`self /= other`."""
    return self.__itruediv__(other)
