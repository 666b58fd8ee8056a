"""Layouts and memory formats: the names of the orders in which dense memory may hold the dims, and the strides that follow from them.

`channels_last` keeps the channels of images (n, c, h, w) innermost, `channels_last_3d` those of volumes; `preserve_format` is the order of
the tensor that something is made like.
"""

from __future__ import annotations

from tapegrad import geometry
from tapegrad.naming import known_as


@known_as("tapegrad.layout", final=True)
class layout:
    """How a tensor lies in memory: `strided` is the one layout there is."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self):
        return f"tapegrad.{self.name}"

    def __reduce__(self):
        return self.name


strided = layout("strided")


@known_as("tapegrad.memory_format", final=True)
class memory_format:
    """A memory format: `contiguous_format`, `preserve_format`, `channels_last` or `channels_last_3d`."""

    def __init__(self, name: str, word: str, order: tuple = ()):
        self.name, self.word, self.order = name, word, order  # order: the dims from the innermost one to the outermost

    def __repr__(self):
        return f"tapegrad.{self.name}"

    def __reduce__(self):
        return self.name


contiguous_format, preserve_format = memory_format("contiguous_format", "Contiguous"), memory_format("preserve_format", "Preserve")
channels_last = memory_format("channels_last", "ChannelsLast", (1, 3, 2, 0))
channels_last_3d = memory_format("channels_last_3d", "ChannelsLast3d", (1, 4, 3, 2, 0))


def _refuse(cls, *args, **kwargs):
    raise TypeError(f"cannot create 'tapegrad.{cls.__name__}' instances")


layout.__new__ = memory_format.__new__ = _refuse  # type: ignore[method-assign]


def check(name: str, value) -> None:
    """Refuse what is neither a memory format nor None."""
    if value is not None and not isinstance(value, memory_format):
        raise TypeError(f"{name}(): argument 'memory_format' must be torch.memory_format, not {type(value).__name__}")


def strides(shape: tuple, form: memory_format | None) -> tuple:
    """The strides of a new tensor in a format that does not depend on another tensor; row-major without one."""
    if form is None or not form.order:
        return geometry.contiguous_strides(shape)
    if len(shape) != len(form.order):
        raise RuntimeError(f"required rank {len(form.order)} tensor to use {form.name} format")
    result, step = [0] * len(shape), 1
    for d in form.order:
        result[d] = step
        step *= shape[d]
    return tuple(result)


def like(shape: tuple, steps: tuple, form: memory_format | None = None) -> tuple:
    """The strides of a tensor made like one with these; its own order of dims by default."""
    if form not in (None, preserve_format):
        return strides(shape, form)
    if geometry.flags_of(geometry.geometry(shape, steps)) & geometry.DENSE:
        return steps
    result, step = [0] * len(shape), 1
    for d in geometry.stride_order(shape, [steps]):
        result[d] = step
        step *= max(shape[d], 1)
    return tuple(result)


def fits(shape: tuple, steps: tuple, form: memory_format) -> bool:
    """Whether a tensor is dense in a format."""
    if not form.order:
        return geometry.is_contiguous(geometry.geometry(shape, steps))
    return len(shape) == len(form.order) and all(
        shape[d] == 1 or steps[d] == step for d, step in enumerate(strides(shape, form))
    )


def suggested(shape: tuple, steps: tuple) -> memory_format:
    """The format that strides look like; contiguous where they could be either, as in torch's `suggest_memory_format`."""
    form = {4: channels_last, 5: channels_last_3d}.get(len(shape))
    if form is None or steps[1] == 0:
        return contiguous_format
    least = 0
    for d in form.order:
        if shape[d] == 0 or steps[d] < least or (d == 0 and least == steps[1]):
            return contiguous_format
        least = steps[d] * max(shape[d], 1)
    return form


AMBIGUOUS = "The tensor does not have unique dim order, or cannot map to exact one of the given memory formats."


def dim_order(shape: tuple, steps: tuple, ambiguity_check=False) -> tuple:
    """The dims from the slowest in memory to the fastest; `ambiguity_check` refuses strides that several orders (or formats listed) fit."""
    listed = isinstance(ambiguity_check, list) and all(isinstance(form, memory_format) for form in ambiguity_check)
    if not isinstance(ambiguity_check, bool) and not listed:
        raise TypeError("The ambiguity_check argument must be a bool or a list of memory formats.")
    if listed and sum(fits(shape, steps, form) for form in ambiguity_check) != 1:
        raise RuntimeError(AMBIGUOUS)
    if ambiguity_check is True and (len(set(steps)) < len(steps) or 1 in shape):
        raise RuntimeError(AMBIGUOUS)
    return tuple(geometry.stride_order(shape, [steps])[::-1])
