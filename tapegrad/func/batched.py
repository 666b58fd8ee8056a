"""vmap: a function of one sample as a function of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from tapegrad.tensor import Tensor
from tapegrad.transforms.batching import VmapLevel
from tapegrad.utils._pytree import Spec, broadcast_to_and_flatten, tree_flatten, tree_leaves, tree_unflatten


def name_of(func: Callable) -> str:
    """What messages call a function."""
    if hasattr(func, "__name__"):
        return func.__name__
    if isinstance(func, functools.partial):
        return f"functools.partial({name_of(func.func)}, ...)"
    return repr(func)


def debug_unwrap(tensor: Tensor, *, recurse: bool = True) -> Tensor:
    """What `tensor`, seen in a function that is being transformed, is outside: the whole batch, the values alone.

    To look at in a debugger; what is computed from it there has no meaning for the transform.
    recurse: through all transforms around, not only the innermost that follows the tensor.

    >>> import tapegrad as tg
    >>> seen = []
    >>> out = tg.vmap(lambda x: seen.append(tg.func.debug_unwrap(x)) or x)(tg.ones(2))
    >>> seen
    [tensor([1., 1.])]
    """
    from tapegrad.transforms import showing

    return showing.unwrap(tensor, recurse)


def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None) -> Callable:
    """`func` of one sample as a function of a batch of samples, computed at once.

    in_dims: which dim of each input holds the batch (None: the input is the same for every sample); an int, or a structure that
    matches the positional arguments.  Keyword arguments are mapped over dim 0.
    out_dims: where the batch goes in each output.
    randomness: what random operations do: "error" refuses them, "same" draws once for all samples, "different" for each.
    chunk_size: how many samples are computed at a time; None for all.

    Operations that depend on the values of a sample (`if x > 0`, `.item()`, boolean masks as indices) have no meaning for a batch and
    raise RuntimeError.

    >>> import tapegrad as tg
    >>> tg.vmap(tg.dot)(tg.ones(3, 2), tg.ones(3, 2))
    tensor([2., 2., 2.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def wrapped(*args, **kwargs):
        _check_out_dims(out_dims, func)
        size, dims, leaves, spec = inputs_of(in_dims, args, func)
        if chunk_size is None:
            return run(func, size, dims, leaves, spec, out_dims, randomness, kwargs)
        return _in_chunks(func, size, dims, leaves, spec, out_dims, randomness, chunk_size, kwargs)

    return wrapped


def _check_out_dims(out_dims: Any, func: Callable) -> None:
    for dim in tree_leaves(out_dims):
        if not isinstance(dim, int) and dim is not None:
            raise ValueError(
                f"vmap({name_of(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python collection of ints representing "
                "where in the outputs the vmapped dimension should appear."
            )


def inputs_of(in_dims: Any, args: tuple, func: Callable) -> tuple[int, list, list, Spec]:
    """(batch size, batch dim or None of each leaf, the leaves, their structure)."""
    name = name_of(func)
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
            f"of inputs, got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a function with no inputs. "
            "The latter is unsupported."
        )
    leaves, spec = tree_flatten(args)
    dims = broadcast_to_and_flatten(in_dims, spec)
    if dims is None:
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{tree_flatten(in_dims)[1]} but inputs has structure {spec}."
        )
    for k, (leaf, dim) in enumerate(zip(leaves, dims, strict=True)):
        if dim is None:
            continue
        start = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={dim} for"
        if not isinstance(dim, int):
            raise ValueError(f"{start} an input but in_dim must be either an integer dimension or None.")
        if not isinstance(leaf, Tensor):
            raise ValueError(
                f"{start} an input but the input is of type {type(leaf)}. We cannot vmap over non-Tensor arguments, please use None as the "
                "respective in_dim"
            )
        if not -leaf.ndim <= dim < leaf.ndim:
            raise ValueError(
                f"{start} some input, but that input is a Tensor of dimensionality {leaf.ndim} so expected in_dim to satisfy "
                f"-{leaf.ndim} <= in_dim < {leaf.ndim}."
            )
        dims[k] = dim % leaf.ndim
    return _size(dims, leaves), dims, leaves, spec


def _size(dims: list, leaves: list) -> int:
    sizes = [leaf.shape[dim] for leaf, dim in zip(leaves, dims, strict=True) if dim is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped dimension"
        )
    return sizes[0]


def run(func, size: int, dims: list, leaves: list, spec: Spec, out_dims: Any, randomness: str, kwargs: dict) -> Any:
    """One vmap over `size` samples."""
    with VmapLevel(size, randomness) as level:
        mapped = [leaf if dim is None else level.wrap(leaf, dim) for leaf, dim in zip(leaves, dims, strict=True)]
        return _outputs(func, level, func(*tree_unflatten(mapped, spec), **kwargs), out_dims)


def _outputs(func, level: VmapLevel, result: Any, out_dims: Any) -> Any:
    leaves, spec = tree_flatten(result)
    dims: list | None
    if isinstance(result, Tensor):
        dims = [out_dims] if out_dims is None or isinstance(out_dims, int) else list(out_dims) if isinstance(out_dims, tuple) and len(out_dims) == 1 else None
    else:
        dims = broadcast_to_and_flatten(out_dims, spec)
    if dims is None:
        raise ValueError(
            f"vmap({name_of(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of `outputs`. out_dims has "
            f"structure {tree_flatten(out_dims)[1]} but outputs has structure {spec}."
        )
    return tree_unflatten([_output(name_of(func), level, leaf, dim) for leaf, dim in zip(leaves, dims, strict=True)], spec)


def _output(name: str, level: VmapLevel, value: Any, dim: int | None) -> Any:
    from tapegrad.ops.views import wrap_dim

    if dim is None:
        if level.follows(value):
            raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
        return value
    if not isinstance(value, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(value)}. Did you mean to set out_dims= to None for output?"
        )
    at = wrap_dim(dim, value.ndim + 1)
    if level.follows(value):
        return value._value if value._bdim == at else value._value.movedim(value._bdim, at)
    return value.unsqueeze(at).expand(*value.shape[:at], level.size, *value.shape[at:])


# --- in chunks ------------------------------------------------------------------------------------------------------
def chunk_sizes(total: int, size: int) -> list[int]:
    """Chunks of `size` and what is left over."""
    return [size] * (total // size) + ([total % size] if total % size else [])


def _chunks(dims: list, leaves: list, sizes: list[int]) -> Iterator[list]:
    at = 0
    for size in sizes:
        yield [leaf if dim is None else leaf.narrow(dim, at, size) for leaf, dim in zip(leaves, dims, strict=True)]
        at += size


def _in_chunks(func, size, dims, leaves, spec, out_dims, randomness, chunk_size, kwargs):
    from tapegrad import random
    from tapegrad.ops.joining import cat

    state = random.get_rng_state() if randomness == "same" else None
    results = []
    for part in _chunks(dims, leaves, chunk_sizes(size, chunk_size)):
        if state is not None:
            random.set_rng_state(state)
        results.append(tree_flatten(run(func, _size(dims, part), dims, part, spec, out_dims, randomness, kwargs)))
    shape = results[0][1]
    merged = []
    for dim, column in zip(broadcast_to_and_flatten(out_dims, shape) or [], zip(*(leaves for leaves, _ in results), strict=True), strict=True):
        merged.append(cat(list(column), dim=dim))
    return tree_unflatten(merged, shape)
