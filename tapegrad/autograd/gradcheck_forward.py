"""gradcheck of forward mode: tangents compared with differences.

Complex inputs are checked part by part, first as functions of their imaginary parts, then of their real parts; outputs may be complex.
"""

from __future__ import annotations

import numpy as np

from tapegrad import modes
from tapegrad.autograd.gradcheck import GradcheckError, _as_tuple, _close, _differentiable, _mismatch, _numerical, _random, _wide
from tapegrad.tensor import Tensor

BATCHED_FORWARD = (
    "gradcheck failed while testing batched gradient computation with forward-mode AD. This test is enabled automatically when both "
    "`check_batched_grad=True` and `check_forward_ad=True`, but can be disabled with `check_batched_forward_grad=False`."
)


class _Forward:
    """The function on dual tensors: every input that is checked has a tangent, zero unless it is the one that moves."""

    def __init__(self, func, inputs, places):
        from tapegrad.autograd import forward_ad

        self.func, self.inputs, self.places = func, inputs, places
        self.level = forward_ad.dual_level()

    def __enter__(self):
        from tapegrad.autograd.forward_ad import make_dual, unpack_dual
        from tapegrad.creation import zeros_like

        self.level.__enter__()
        self.duals = [make_dual(x.detach(), zeros_like(x.detach())) if _differentiable(x) else x for x in self.inputs]
        self.tangents = {k: unpack_dual(self.duals[k]).tangent for k, x in enumerate(self.inputs) if _differentiable(x)}
        return self

    def __exit__(self, *exception):
        self.level.__exit__()

    def push(self, k, tangent) -> list:
        """The tangents (None where there is none) of the outputs when input `k` moves along the array `tangent`."""
        moved = self.tangents[k]._array()
        moved[...] = tangent.reshape(moved.shape)
        try:
            return [None if t is None else _wide(t).reshape(-1) for t in self.run(self.duals)]
        finally:
            moved[...] = 0

    def run(self, points) -> list:
        """The tangents of the outputs at `points`."""
        from tapegrad.autograd.forward_ad import unpack_dual

        outputs = [out for out in _as_tuple(self.func(*points)) if isinstance(out, Tensor)]
        return [unpack_dual(outputs[place]).tangent for place in self.places]


def check_forward(func, inputs, eps, atol, rtol, undefined: bool, batched: bool, fast_mode: bool) -> None:
    """Tangents against differences, for every unit vector of every input (or one random vector); complex inputs part by part."""
    random = np.random.default_rng(0)
    with modes.enable_grad():
        everything = [out for out in _as_tuple(func(*inputs)) if isinstance(out, Tensor)]
    places = [k for k, out in enumerate(everything) if out.dtype.differentiable]
    wanted = [k for k, x in enumerate(inputs) if _differentiable(x)]
    whole = [k for k, x in enumerate(inputs) if isinstance(x, Tensor) and x.dtype.is_complex]
    for part in ("imag", "real") if whole else ("",):
        f, points = _of_part(func, inputs, whole, part) if part else (func, inputs)
        _compare(f, points, wanted, everything, places, {k: part for k in whole}, eps, atol, rtol, random if fast_mode else None)
    if undefined and places:
        _check_undefined_forward(func, inputs, wanted, places, random)
    if batched:
        for k in wanted:
            _check_batched_forward(func, inputs, k, places, random, atol, rtol)


def _of_part(func, inputs, whole, part: str):
    """`func` as a function of one part of its complex inputs, and that part of them."""

    def run(*points):
        points = list(points)
        for k in whole:
            x = inputs[k].detach()
            points[k] = points[k] + x.imag * 1j if part == "real" else x.real + points[k] * 1j
        return func(*points)

    with modes.enable_grad():
        return run, tuple(getattr(x, part) if k in whole else x for k, x in enumerate(inputs))


def _compare(f, inputs, wanted, everything, places, parts, eps, atol, rtol, random) -> None:
    """Tangents against differences; for one random vector per input if there is a generator."""
    found = []  # (input, place, tangents, differences)
    for k in wanted:
        x = inputs[k]
        units = np.eye(x.numel())
        if random is not None:
            units = random.standard_normal((1, x.numel()))
            units = units / (np.linalg.norm(units) or 1.0)
        numerical = [n if not n.size or random is None else units @ n for n in _numerical(f, inputs, k, eps, places)]
        with _Forward(f, inputs, places) as forward:
            moves = [forward.push(k, unit) for unit in units]
        for j, place in enumerate(places):
            zero = np.zeros(everything[place].numel())
            rows = [zero if m[j] is None else m[j] for m in moves]
            found.append((k, place, np.array(rows) if rows else np.zeros((0, zero.size)), numerical[j]))
    if random is None:
        found.sort(key=lambda one: one[1])  # output by output, as PyTorch reports them
    for k, place, analytical, numerical in found:
        if not _close(analytical, numerical, atol, rtol):
            text = str(_mismatch(analytical, numerical, place, k, inputs[k], parts.get(k, "")))
            text = text.replace("Jacobian mismatch", "Jacobian computed with forward mode mismatch", 1)
            raise GradcheckError(text.replace("part of complex outputs only", "part of complex inputs only", 1))


def _check_undefined_forward(func, inputs, wanted, places, random) -> None:
    """An input without a tangent must count as one whose tangent is zero."""
    from tapegrad.autograd.forward_ad import make_dual
    from tapegrad.creation import zeros_like

    with _Forward(func, inputs, places) as forward:
        for k in wanted:
            forward.tangents[k]._array()[...] = _random(random, inputs[k])
        for k in wanted:
            points, x = list(forward.duals), inputs[k].detach()
            points[k] = make_dual(x, zeros_like(x))
            found = forward.run(points)
            points[k] = inputs[k].detach()
            for j, (one, other) in enumerate(zip(found, forward.run(points), strict=True)):
                if one is not None and other is not None and not np.allclose(_wide(one), _wide(other)):
                    raise GradcheckError(
                        f"Mismatch in tangent values for output with index: {places[j]} when input: {inputs[k]} has an undefined tangent value.  "
                        f"Got: {one} but expected: {other}"
                    )


def _check_batched_forward(func, inputs, k, places, random, atol, rtol) -> None:
    """The tangents for a batch of vectors are those of its rows."""
    from tapegrad.autograd import forward_ad
    from tapegrad.creation import from_array
    from tapegrad.ops.joining import stack
    from tapegrad.transforms.batching import VmapLevel

    x = inputs[k]
    vectors = [_random(random, x) for _ in range(2)]
    batch = stack([from_array(np.asarray(v), x.dtype) for v in vectors])
    try:
        with VmapLevel(2, "error", public=False) as level, forward_ad.dual_level():
            points = [p.detach() if _differentiable(p) else p for p in inputs]
            points[k] = forward_ad.make_dual(points[k], level.wrap(batch))
            outputs = [out for out in _as_tuple(func(*points)) if isinstance(out, Tensor)]
            tangents = [forward_ad.unpack_dual(outputs[place]).tangent for place in places]
            found = [None if t is None else level.spread(t) for t in tangents]
    except RuntimeError as error:
        raise GradcheckError(f"While computing batched gradients, got: {error}\n\n{BATCHED_FORWARD}") from error
    for row, v in enumerate(vectors):
        with forward_ad.dual_level():
            points = [p.detach() if _differentiable(p) else p for p in inputs]
            points[k] = forward_ad.make_dual(points[k], from_array(np.asarray(v), x.dtype))
            single = _Forward(func, inputs, places).run(points)
        for place, t, rows in zip(places, single, found, strict=True):
            got = np.zeros(0) if rows is None else _wide(rows[row]).reshape(-1)
            expected = np.zeros_like(got) if t is None else _wide(t).reshape(-1)
            if not _close(got if rows is not None else np.zeros_like(expected), expected, atol, rtol):
                raise GradcheckError(f"\nFor output {place} and input {k}:\n\n{BATCHED_FORWARD}\n\nGot:\n{got}\n\nExpected:\n{expected}\n")
