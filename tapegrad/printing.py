"""Owns the text of a tensor: the print options and the rules that turn a NumPy array into its repr.

The text is PyTorch's, character for character, apart from the module name in front of a dtype. Everything here
works on plain NumPy arrays and dtype names, so it needs no other part of the package; a bfloat16 tensor is handed
over as a float32 array together with dtype="bfloat16".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["MODULE", "format_tensor", "get_printoptions", "printoptions", "set_printoptions"]

MODULE = "tapegrad"

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}

_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors are printed.

    A profile ("default", "short" or "full"; any other name is ignored) is applied first, then each option that is
    not None. `sci_mode` is always replaced, so leaving it out goes back to choosing the notation by magnitude.

    precision: digits after the point. threshold: more elements than this are summarised. edgeitems: elements kept
    at each end of a summarised dimension. linewidth: columns before a line is broken. sci_mode: force scientific
    notation on (True) or off (False).
    """
    _options.update(_PROFILES.get(profile or "", {}))
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options.update((name, value) for name, value in given.items() if value is not None)
    _options["sci_mode"] = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The current options, in a dictionary that `set_printoptions(**options)` accepts."""
    return dict(_options)


@contextlib.contextmanager
def printoptions(**kwargs: Any) -> Iterator[None]:
    """Apply `set_printoptions(**kwargs)` inside a `with` block and put the old options back afterwards."""
    before = get_printoptions()
    set_printoptions(**kwargs)
    try:
        yield
    finally:
        set_printoptions(**before)


def format_tensor(
    array: np.ndarray,
    *,
    dtype: str,
    default_dtype: str = "float32",
    requires_grad: bool = False,
    grad_fn: str | None = None,
    tangent: str | None = None,
    prefix: str = "tensor(",
    tensor_contents: str | None = None,
) -> str:
    """The whole repr of a tensor holding `array`.

    dtype and default_dtype are names without a module. grad_fn is the name of the function that made the tensor and
    takes the place of requires_grad. tangent is the text of a dual tensor's tangent as `format` gives it: a bare
    number for a 0-d tensor, the repr for any other. tensor_contents, when given, stands in for the elements' text.
    """
    array = np.asarray(array)
    default_complex = "complex128" if default_dtype == "float64" else "complex64"
    # With no elements to look at, nothing but the default dtype can be inferred, and only shape (0,) is shown by "[]".
    inferred = (default_dtype,) if array.size == 0 else (default_dtype, default_complex, "int64", "bool")
    show_size = array.ndim != 1 if array.size == 0 else not _options["edgeitems"]

    suffixes = []
    if show_size:
        suffixes.append(f"size={array.shape}")
    if dtype not in inferred:
        suffixes.append(f"dtype={MODULE}.{dtype}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    if tangent is not None:
        suffixes.append(f"tangent={tangent}")

    contents = _elements_text(array, len(prefix)) if tensor_contents is None else tensor_contents
    return _with_suffixes(prefix + contents, suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """Close the repr after its suffixes, starting a new line before each one that would pass the line width."""
    # The elements count as two columns longer than they are; a line begun by a suffix counts exactly.
    column = _columns(text[text.rfind("\n") + 1:]) + 2
    for suffix in suffixes:
        if column + _columns(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * indent + suffix
            column = indent + _columns(suffix)
        else:
            text += ", " + suffix
            column += _columns(suffix) + 2
    return text + ")"


def _columns(text: str) -> int:
    """The length of `text` with each module name as short as "torch", so that lines break where PyTorch's do."""
    return len(text.replace(f"{MODULE}.", "torch."))


class _RealStyle:
    """How the elements of one real-valued array are written: one notation and one width for all of them."""

    def __init__(self, sample: np.ndarray) -> None:
        self.spec, self.mark = "", ""
        if sample.dtype.kind == "f":
            # Zeros, infinities and nans take part neither in the choice of notation nor in the width.
            sample = sample[np.isfinite(sample) & (sample != 0)]
            self.spec, self.mark = _float_notation(sample)
        self.width = max((len(self._bare(value)) for value in sample.ravel().tolist()), default=1)

    def _bare(self, value: float) -> str:
        text = format(value, self.spec)
        return text + self.mark if self.mark and math.isfinite(value) else text

    def write(self, value: float) -> str:
        return self._bare(value).rjust(self.width)


class _ComplexStyle:
    """How complex elements are written: the real parts in one style, the imaginary parts in another."""

    def __init__(self, sample: np.ndarray) -> None:
        self.real, self.imag = _RealStyle(sample.real), _RealStyle(sample.imag)
        self.width = self.real.width + self.imag.width + 1

    def write(self, value: complex) -> str:
        imag = self.imag.write(value.imag).lstrip() + "j"
        return self.real.write(value.real) + ("" if imag[0] in "+-" else "+") + imag


def _float_notation(values: np.ndarray) -> tuple[str, str]:
    """The format spec for finite non-zero floats, and the mark that follows each finite one.

    Magnitudes are compared in float64 whatever the array's dtype: float32's 1e-4 lies below the float64 one.
    """
    if values.size == 0:
        return ".0f", "."
    scientific = _options["sci_mode"]
    if scientific is None:
        magnitudes = np.abs(values).astype(np.float64)
        smallest, largest = float(magnitudes.min()), float(magnitudes.max())
        scientific = largest / smallest > 1000.0 or largest > 1.0e8 or smallest < 1.0e-4
    if scientific:
        return f".{_options['precision']}e", ""
    if np.all(values == np.ceil(values)):
        return ".0f", "."
    return f".{_options['precision']}f", ""


def _elements_text(array: np.ndarray, indent: int) -> str:
    """The bracketed elements, whose first bracket stands in column `indent`."""
    if array.size == 0:
        return "[]"
    summarize = array.size > _options["threshold"]
    sample = array
    if summarize:
        kept = (_kept(length, summarize) for length in array.shape)
        sample = np.asarray(array[np.ix_(*([*head, *tail] for head, tail in kept))])
    style = _ComplexStyle(sample) if array.dtype.kind == "c" else _RealStyle(sample)
    if array.ndim == 0:
        return style.write(array.item())
    per_line = max(1, math.floor((_options["linewidth"] - indent - array.ndim + 1) / (style.width + 2)))
    return _nested_text(array, indent, summarize, style.write, per_line)


def _kept(length: int, summarize: bool) -> tuple[range, range]:
    """The positions printed before and after the "..." of a dimension; the second is empty if all are printed."""
    edge = _options["edgeitems"]
    if summarize and length > 2 * edge:
        return range(edge), range(length - edge, length)
    return range(length), range(0)


def _nested_text(array: np.ndarray, indent: int, summarize: bool, write: Callable[[Any], str], per_line: int) -> str:
    """The text of an array of one dimension or more; innermost rows hold at most `per_line` items a line."""
    head, tail = _kept(len(array), summarize)
    continued = " " * (indent + 1)
    if array.ndim == 1:
        texts = [write(value) for value in array[head.start:head.stop].tolist()]
        if len(head) < len(array):
            texts.append(" ..." if head else "...")
            texts += [write(value) for value in array[tail.start:tail.stop].tolist()]
        lines = [", ".join(texts[i:i + per_line]) for i in range(0, len(texts), per_line)]
        return "[" + f",\n{continued}".join(lines) + "]"
    texts = [_nested_text(array[i], indent + 1, summarize, write, per_line) for i in head]
    if len(head) < len(array):
        texts.append("...")
        texts += [_nested_text(array[i], indent + 1, summarize, write, per_line) for i in tail]
    return "[" + ("," + "\n" * (array.ndim - 1) + continued).join(texts) + "]"
