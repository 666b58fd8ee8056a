"""gradcheck: derivatives compared with differences.

The numerical Jacobian moves every element of every input by `eps` both ways; the analytical one applies the recorded derivative to
every unit vector.  With `fast_mode` both are reduced to one number by random vectors.  A complex element is moved along both axes,
which gives df/dx + i df/dy; the real and the imaginary parts of complex outputs are checked one after the other.
"""

from __future__ import annotations

import warnings

import numpy as np

from tapegrad import core, dtypes, modes
from tapegrad.autograd.functional import unit_vectors
from tapegrad.autograd.node import record
from tapegrad.ops.plan import Parameters
from tapegrad.ops.registry import structural
from tapegrad.tensor import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


BATCHED = (
    "gradcheck or gradgradcheck failed while testing batched gradient computation. This test is enabled by `check_batched_grad=True`."
)


UNDEFINED_IS_NEW = (
    "Backwards compatibility: New undefined gradient support checking feature is enabled by default, but it may break existing callers of this "
    'function. If this is true for you, you can call this function with "check_undefined_grad=False" to disable the feature'
)
UNDEFINED_NOTES = 'Please look at "Notes about undefined output gradients" in "tools/autograd/derivatives.yaml"'


class GradcheckError(RuntimeError):
    """A derivative that differs from its numerical estimate, or a check that could not be done."""


def _as_tuple(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _differentiable(value) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _check_inputs(inputs, atol, rtol) -> None:
    if not any(map(_differentiable, inputs)):
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for k, x in enumerate(inputs):
        if not _differentiable(x):
            continue
        if x.dtype not in (dtypes.float64, dtypes.complex128):
            warnings.warn(
                f"Input #{k} requires gradient and is not a double precision floating point or complex. This check will likely fail if all the "
                "inputs are not of double precision floating point or complex. ",
                UserWarning,
                stacklevel=4,
            )
        if any(step == 0 and size > 1 for step, size in zip(x.stride(), x.shape, strict=True)):
            raise RuntimeError(
                f"The {k}th input has a dimension with stride 0. gradcheck only supports inputs that are non-overlapping to be able to compute "
                "the numerical gradients correctly. You should call .contiguous on the input before passing it to gradcheck."
            )
        if not x.is_leaf:
            x.retain_grad()


def _outputs(func, inputs) -> list:
    return [out for out in _as_tuple(func(*inputs)) if out.requires_grad]


def _values(func, inputs) -> list:
    """The outputs, copied: an output may be a view of a perturbed input."""
    with modes.enable_grad():  # the function may itself differentiate
        return [out.detach().clone() for out in _as_tuple(func(*inputs)) if isinstance(out, Tensor)]


def _wide(x: Tensor) -> np.ndarray:
    """The elements as float64 or complex128."""
    return x.detach()._values().astype(np.complex128 if x.dtype.is_complex else np.float64)


def _random(random, like: Tensor) -> np.ndarray:
    """A random array of unit length in the shape of a tensor, complex if it is."""
    u = random.standard_normal(tuple(like.shape))
    if like.dtype.is_complex:
        u = u + 1j * random.standard_normal(tuple(like.shape))
    return u / (np.linalg.norm(u) or 1.0)


def _numerical(func, inputs, k, eps, places) -> list:
    """Per output (of those in `places`) the Jacobian by input `k`: input elements x output elements."""
    x = inputs[k]
    array = x._array()  # in place and unseen by the version counter: the graph of `x` stays as it is
    axes = (1, 1j) if x.dtype.is_complex else (1,)
    columns: list[list] = [[] for _ in places]
    for index in np.ndindex(*array.shape):
        slopes = [_slopes(func, inputs, x, array, index, eps, axis) for axis in axes]
        for column, place in zip(columns, places, strict=True):
            column.append(sum(axis * found[place] for axis, found in zip(axes, slopes, strict=True)).reshape(-1))
    return [np.array(c) if c else np.zeros((0, 0)) for c in columns]


def _slopes(func, inputs, x, array, index, eps, direction) -> list:
    """The change of every output per `eps` when the elements at `index` of the memory of `x` move by `eps * direction`."""
    kept = array[index].copy()
    start = dtypes.from_stored(kept, x.dtype)
    try:
        array[index] = dtypes.to_stored(np.asarray(start + eps * direction), x.dtype)
        above = _values(func, inputs)
        array[index] = dtypes.to_stored(np.asarray(start - eps * direction), x.dtype)
        below = _values(func, inputs)
    finally:
        array[index] = kept
    where = "" if index is ... else f"on index {index} "
    for a, b in zip(above, below, strict=True):
        for what, one, other in (("shape", b.shape, a.shape), ("dtype", b.dtype, a.dtype)):
            if one != other:
                raise AssertionError(
                    f"Expected `func` to return outputs with the same {what} when inputs are perturbed {where}by {eps}, but got: {what}s "
                    f"{one} and {other}."
                )
    return [(_numbers(a) - _numbers(b)) / (2 * eps) for a, b in zip(above, below, strict=True)]


def _numbers(out: Tensor) -> np.ndarray:
    return np.asarray(out._values(), np.complex128 if out.dtype.is_complex else np.float64)


def _analytical(out, inputs, unit) -> list:
    from tapegrad.autograd import grad

    return list(grad([out], inputs, [unit], retain_graph=True, allow_unused=True))


def _close(a, b, atol, rtol) -> bool:
    return bool(np.allclose(a, b, rtol, atol, equal_nan=True)) if a.shape == b.shape else a.size == b.size == 0


def _show(array, like) -> str:
    from tapegrad.creation import from_array

    array = np.ascontiguousarray(array)
    return repr(from_array(array, like.dtype.to_complex() if np.iscomplexobj(array) else like.dtype))


def _mismatch(a, n, output, k, like, part, text="") -> GradcheckError:
    prefix = f"While considering the {'imaginary' if part == 'imag' else part} part of complex outputs only, " if part else ""
    return GradcheckError(
        f"{prefix}Jacobian mismatch for output {output} with respect to input {k},\nnumerical:{_show(n, like)}\nanalytical:{_show(a, like)}\n{text}"
    )


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True, nondet_tol=0.0, check_undefined_grad=True,
              check_grad_dtypes=False, check_batched_grad=False, check_batched_forward_grad=False, check_forward_ad=False,
              check_backward_ad=True, fast_mode=False, masked=None):
    """Whether the gradients of `func` at `inputs` agree with central differences, within `atol + rtol * |numerical|`.

    Every floating-point input that requires grad is checked against every output that does; float64 inputs are what the default
    tolerances are for.  Raises `GradcheckError`, or returns False without `raise_exception`.

    check_undefined_grad: derivatives must treat missing output gradients as zeros.  nondet_tol: how much two runs of the derivative may
    differ.  check_batched_grad: gradients of a batch of vectors must be those of its rows.  check_forward_ad, check_backward_ad: which
    mode's derivatives are compared.  check_batched_forward_grad: the same as check_batched_grad for forward mode.  fast_mode: compare one
    random combination only.

    >>> import tapegrad as tg
    >>> tg.autograd.gradcheck(tg.sin, tg.ones(2, dtype=tg.float64, requires_grad=True))
    True
    """
    if not (check_backward_ad or check_forward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("Setting check_batched_forward_grad=True requires check_forward_ad to be True")
    try:
        if check_backward_ad:
            _check(func, _as_tuple(inputs), eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad, fast_mode)
        if check_forward_ad:
            if not check_backward_ad:
                _check_inputs(_as_tuple(inputs), atol, rtol)
            from tapegrad.autograd.gradcheck_forward import check_forward

            check_forward(func, _as_tuple(inputs), eps, atol, rtol, check_undefined_grad, check_batched_forward_grad, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(func, inputs, eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad, fast_mode):
    _check_inputs(inputs, atol, rtol)
    wanted = [k for k, x in enumerate(inputs) if _differentiable(x)]
    points = [inputs[k] for k in wanted]
    with modes.enable_grad():
        everything = [out for out in _as_tuple(func(*inputs)) if isinstance(out, Tensor)]
    places = [k for k, out in enumerate(everything) if out.requires_grad]
    outputs = [everything[k] for k in places]
    if not outputs:
        for k in wanted:
            for j, numerical in enumerate(_numerical(func, inputs, k, eps, range(len(everything)))):
                if numerical.any() and everything[j].dtype.differentiable:
                    raise GradcheckError("Numerical gradient for function expected to be zero")
        return
    check = _check_fast if fast_mode else _check_slow
    whole = [out.dtype.is_complex for out in everything]
    for part in ("imag", "real") if any(whole) else ("",):
        f = _part_of(func, part) if part else func
        with modes.enable_grad():
            parts = [out for out in _as_tuple(f(*inputs)) if isinstance(out, Tensor)] if part else everything
        names = [part if whole[k] else "" for k in places]
        check(f, inputs, wanted, points, [parts[k] for k in places], places, names, eps, atol, rtol, nondet_tol, check_grad_dtypes)
    if check_batched_grad:
        _check_batched(outputs, points, atol, rtol)
    if check_undefined_grad:
        _check_undefined(func, inputs, points)


def _part_of(func, part):
    """`func` with the real or the imaginary parts of its complex outputs."""

    def run(*args):
        return tuple(getattr(out, part) if isinstance(out, Tensor) and out.dtype.is_complex else out for out in _as_tuple(func(*args)))

    return run


def _check_slow(func, inputs, wanted, points, outputs, places, parts, eps, atol, rtol, nondet_tol, check_grad_dtypes):
    numerical = [_numerical(func, inputs, k, eps, places) for k in wanted]
    for j, out in enumerate(outputs):
        rows: list[list] = [[] for _ in points]
        for unit in unit_vectors(out):
            first, second = _analytical(out, points, unit), _analytical(out, points, unit)
            for i, (g, again, x) in enumerate(zip(first, second, points, strict=True)):
                if g is not None:
                    _check_gradient(g, x, wanted[i], check_grad_dtypes)
                    _check_again(g, again, nondet_tol)
                rows[i].append(np.zeros(x.numel()) if g is None else _wide(g).reshape(-1))
        for i, x in enumerate(points):
            analytical = np.array(rows[i]).T if rows[i] else np.zeros((x.numel(), 0))
            if not _close(analytical, numerical[i][j], atol, rtol):
                raise _mismatch(analytical, numerical[i][j], places[j], wanted[i], x, parts[j])


def _check_again(g, again, nondet_tol) -> None:
    if np.abs(_wide(g) - _wide(again)).max(initial=0) > nondet_tol:
        raise GradcheckError(
            "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives different values, although "
            f"analytical gradient matches numerical gradient.The tolerance for nondeterminism was {nondet_tol}."
        )


def _check_gradient(g, x, k, check_grad_dtypes) -> None:
    if g.shape != x.shape:
        raise GradcheckError("Analytical gradient has incorrect size")
    if check_grad_dtypes and g.dtype is not x.dtype:
        raise GradcheckError("Gradient has dtype mismatch")


def _check_fast(func, inputs, wanted, points, outputs, places, parts, eps, atol, rtol, nondet_tol, check_grad_dtypes):
    """u^T J v for random u of the input's and v of the output's shape, both ways."""
    from tapegrad.creation import from_array

    random = np.random.default_rng(0)
    for i, x in enumerate(points):
        u = _random(random, x)
        slopes = _slopes(func, inputs, x, x._array(), ..., eps, u)
        for j, out in enumerate(outputs):
            v = _random(random, out)
            vector = from_array(np.asarray(v), out.dtype)
            g, again = (_analytical(out, [x], vector)[0] for _ in range(2))
            analytical = 0.0 if g is None else float((_wide(g).conj() * u).sum().real)
            if g is not None:
                _check_gradient(g, x, wanted[i], check_grad_dtypes)
                _check_again(g, again, nondet_tol)
            numerical = float((slopes[places[j]] * v).sum())
            # The tolerance for a sum of products: as if all elements erred alike.
            slack = atol * float(np.abs(u).sum() * np.abs(v).sum())
            if not abs(analytical - numerical) <= slack + rtol * abs(numerical):
                raise _mismatch(
                    np.array(analytical), np.array(numerical), places[j], wanted[i], x, parts[j],
                    "The above quantities relating the numerical and analytical jacobians are computed in fast mode.",
                )


def _check_batched(outputs, points, atol, rtol) -> None:
    from tapegrad.autograd import grad
    from tapegrad.creation import from_array
    from tapegrad.ops.joining import stack

    random = np.random.default_rng(0)
    for j, out in enumerate(outputs):
        rows = [from_array(np.asarray(_random(random, out)), out.dtype) for _ in range(2)]
        single = [_analytical(out, points, row) for row in rows]
        try:
            batched = grad([out], points, [stack(rows)], retain_graph=True, allow_unused=True, is_grads_batched=True)
        except RuntimeError as error:
            raise GradcheckError(f"While computing batched gradients, got: {error}\n\n{BATCHED}") from error
        for i, found in enumerate(batched):
            for k in range(2):
                one = single[k][i]
                same = found is one is None or (
                    found is not None and one is not None and _close(_wide(found[k]), _wide(one), atol, rtol)
                )
                if not same:
                    got, expected = found[k] if found is not None else None, one
                    raise GradcheckError(f"For output {j} and input {i}:\n\n{BATCHED}\n\nGot:\n{got}\n\nExpected:\n{expected}")


@structural("undefined", "UndefinedGrad")
def undefined_op(node, g):
    """The identity, through which no gradient comes."""
    return None


def _undefined(x):
    """`x` as the output of an entry that passes no gradient on."""
    out = core.wrap(core.share_slot(x))
    record(undefined_op, [x], [out], Parameters(undefined_op, graph_name="UndefinedGrad"))
    return out


def _check_undefined(func, inputs, points) -> None:
    """A missing output gradient must count as zeros: of all outputs, and of one at a time."""
    for chosen in range(-1, len(_outputs(func, inputs)) if len(_outputs(func, inputs)) > 1 else 0):
        with modes.enable_grad():
            outputs = [_undefined(out) if k == chosen or chosen < 0 else out for k, out in enumerate(_outputs(func, inputs))]
        if not outputs:
            raise GradcheckError("Expected backward function to handle undefined output grads")
        _check_zero(outputs, points)


def _check_zero(outputs, points) -> None:
    """The gradients for zero gradients of `outputs` are zeros, or there are none."""
    from tapegrad.autograd import grad
    from tapegrad.creation import zeros_like

    try:
        found = grad(outputs, points, [zeros_like(out) for out in outputs], allow_unused=True)
    except RuntimeError as error:
        warnings.warn(UNDEFINED_IS_NEW, stacklevel=4)
        raise GradcheckError(f"Expected backward function to handle undefined output grads. {UNDEFINED_NOTES}") from error
    if any(g is not None and not (_wide(g) == 0).all() for g in found):
        warnings.warn(UNDEFINED_IS_NEW, stacklevel=4)
        raise GradcheckError(
            f"Expected all input grads to be undefined or zero when all output grads are undefined or zero. {UNDEFINED_NOTES}"
        )


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3, gen_non_contig_grad_outputs=False,
                  raise_exception=True, nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False, check_batched_grad=False,
                  check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False, masked=False):
    """`gradcheck` of the gradients: second derivatives with respect to the inputs and to `grad_outputs` (random if not given)."""
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    for name, wanted in (("check_undefined_grad", check_undefined_grad), ("check_batched_grad", check_batched_grad)):
        if wanted and not check_rev_over_rev:
            raise AssertionError(f"Setting {name}=True requires check_rev_over_rev to be True")
    from tapegrad.autograd import grad
    from tapegrad.creation import empty, from_array
    from tapegrad.ops.complexes import view_as_real

    inputs = _as_tuple(inputs)
    if grad_outputs is None:
        vectors = []
        with modes.enable_grad():
            outputs = _outputs(func, inputs)
        for out in outputs:  # from the default stream, as torch
            v = empty(tuple(out.shape), dtype=out.dtype)
            (view_as_real(v) if out.dtype.is_complex else v).uniform_(-1, 1)
            if gen_non_contig_grad_outputs and v.ndim:
                v = from_array(np.repeat(v._values(), 2, -1), out.dtype)[..., ::2]
            vectors.append(v.detach().requires_grad_())
        vectors = tuple(vectors)
    else:
        vectors = _as_tuple(grad_outputs)
    count = len(vectors)

    def gradient(*everything):
        weights = everything[-count:]
        points = [p.requires_grad_() if _differentiable(x) else p for p, x in zip(everything, inputs, strict=False)]  # forward mode detaches them
        outputs = _outputs(func, points)
        wanted = [x for x in points if _differentiable(x)]
        found = grad(outputs, wanted, weights, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    if not count:
        return True
    return gradcheck(
        gradient, inputs + vectors, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes, check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev, fast_mode=fast_mode,
    )
