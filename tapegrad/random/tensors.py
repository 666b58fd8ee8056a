"""Random tensors from tensors: torch's functions of probabilities, rates and moments, `*_like`, and the methods that overwrite a tensor.

Draws do not depend smoothly on anything: where a result is recorded, its gradient is zero.
"""

from __future__ import annotations

import numpy as np

from tapegrad import core, creation, dtypes, geometry, modes
from tapegrad.autograd import inplace, underived
from tapegrad.autograd.node import record
from tapegrad.creation import check_options, size_of
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.public import function, method
from tapegrad.ops.registry import structural
from tapegrad.random import stream_of
from tapegrad.random.arithmetic import CONTINUOUS
from tapegrad.random.draws import BOUNDS, count, drawn, finished, float_dtype, kind, laid_out, normal_elements, real_only, redrawn
from tapegrad.transforms.randomness import draws, each_sample, in_place, of_tensors, spread_over


@structural("drawn_op", "Bernoulli")
def drawn_op(node, g):
    """A draw: no gradient gets through."""
    zeros = tuple(creation.zeros(shape, dtype=g.dtype) for shape in node.attributes.shapes)
    return zeros if len(zeros) > 1 else zeros[0]


def recorded(name: str, inputs: list, result):
    """`result`, on the tape as a draw from `inputs`."""
    record(drawn_op, inputs, [result], plans.Parameters(drawn_op, graph_name=name, shapes=[tuple(t.shape) for t in inputs]))
    return result


# --- as another tensor ------------------------------------------------------------------------------------------------
def _like(name, draw, check, doc):
    def run(input, *, generator=None, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False):
        check_options(name, device, layout, pin_memory)
        target = creation.empty_like(spread_over(input.detach()), dtype=dtype, memory_format=memory_format)
        float_dtype(check, target.dtype)
        getattr(target, draw)(generator=generator)
        return creation.finish(target, requires_grad)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc
    return function(name=name, tensors=False)(draws(run))


_like("rand_like", "uniform_", "check_uniform_bounds", "Uniform on [0, 1), of the shape and dtype of `input`.")
_like("randn_like", "normal_", "normal_kernel_cpu", "Standard normal, of the shape and dtype of `input`.")


@function(tensors=False)
@draws
def randint_like(input, *bounds, generator=None, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, pin_memory=False, **named):
    """Integers in [low, high), of the shape and dtype of `input`: `randint_like(x, high)` or `randint_like(x, low, high)`."""
    check_options("randint_like", device, layout, pin_memory)
    given = {**dict(zip(("low", "high") if len(bounds) == 2 else ("low",) if "high" in named else ("high",), bounds, strict=False)), **named}
    if len(bounds) > 2 or "high" not in given:
        raise TypeError("randint_like() takes a high, or a low and a high")
    target = creation.empty_like(spread_over(input.detach()), dtype=dtype, memory_format=memory_format)
    target.random_(given.get("low", 0), given["high"], generator=generator)
    return creation.finish(target, requires_grad)


# --- from parameters --------------------------------------------------------------------------------------------------
@function(tensors=False)
@draws
def normal(mean, std=1.0, size=None, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Normal with tensor (or number) mean and standard deviation, which are broadcast; from numbers, of `size`."""
    check_options("normal", device, layout, pin_memory, dtype, out)
    if hasattr(mean, "_slot") or hasattr(std, "_slot"):
        return normal_of_tensors(mean, std, generator, out)
    if not isinstance(size, (tuple, list)):
        raise TypeError("normal() of numbers takes a size")
    shape = size_of("normal", (size,))
    if out is not None:
        return redrawn(out, shape, "normal_", mean, std, generator=generator, requires_grad=requires_grad)
    d = float_dtype("normal_kernel_cpu", dtype)
    return each_sample(lambda shape: finished(normal_elements(stream_of(generator), count(shape), d, mean, std), shape, requires_grad, None, d), shape)


@of_tensors
def normal_of_tensors(mean, std, generator, out):
    """A draw for each mean and standard deviation: torch's, times std, plus mean."""
    given = [t for t in (mean, std) if hasattr(t, "_slot")]
    if hasattr(std, "_slot"):
        if std.dtype.is_complex:
            raise RuntimeError("normal expects standard deviation to be non-complex")
        if std.numel() and not bool((std.detach() >= 0).all()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
    if modes.is_grad_enabled() and any(t.requires_grad for t in given) and given[0].dtype.is_complex:
        raise RuntimeError("normal does not support automatic differentiation for outputs with complex dtype.")
    with_out = [out] if out is not None and not hasattr(std, "_slot") else []  # whose sizes count as well, in torch
    shape, d = (), given[0].dtype
    for t in given + with_out:
        shape = geometry.broadcast_shapes(tuple(shape), tuple(t.shape))
    scale = 1.0 if hasattr(std, "_slot") else std
    with modes.no_grad():
        if out is not None:
            result = redrawn(out, tuple(shape), "normal_", 0.0, scale, generator=generator)
        else:
            result = finished(normal_elements(stream_of(generator), count(shape), d, 0.0, scale), tuple(shape), False, None, d)
        if hasattr(std, "_slot"):
            result.mul_(std)
        result.add_(mean if hasattr(mean, "_slot") else creation.full((), mean, dtype=d))
    if out is not None:
        return out
    name = {(True, False): 1, (False, True): 2, (True, True): 3}[hasattr(mean, "_slot"), hasattr(std, "_slot")]
    return recorded(f"NormalBackward{name}", given, result)


@function(method=True, tensors=False)
@of_tensors
def bernoulli(input, p=None, *, generator=None, out=None):
    """0 or 1 with the probabilities in `input` (or `p` everywhere)."""
    stream, shape, d = stream_of(generator), tuple(input.shape), input.dtype
    if p is not None:
        if 0 <= p <= 1 and input.numel():
            real_only(d, "bernoulli_scalar_cpu_")
        result = finished(stream.bernoulli(count(shape), parts(d), p), shape, False, out, d)
        underived.unknown("bernoulli", [input], [result])
        return result
    real_only(d, "bernoulli_tensor_cpu_self_")
    values = stream.bernoulli_array(np.ascontiguousarray(input.detach()._values()), kind(d))
    return recorded("BernoulliBackward0", [input], finished(values, shape, False, out, d))


@of_tensors
def bernoulli_like(input, p):
    """1 with probability `p`, else 0, in a tensor that lies in memory as `input` does."""
    with modes.no_grad():
        return creation.empty_like(input.detach()).bernoulli_(p)


@function(tensors=False)
@of_tensors
def poisson(input, generator=None):
    """Poisson counts with the rates in `input`, of its dtype."""
    d = input.dtype
    if not d.is_floating_point:
        raise no_kernel("poisson_cpu", d)
    rates = input.detach()._values().astype(np.float64).reshape(-1)
    return recorded("PoissonBackward0", [input], finished(stream_of(generator).poisson(rates), tuple(input.shape), False, None, d))


@function(method=True, tensors=False)
@draws
def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices drawn with the weights in each row of `input`."""
    if out is not None and out.dtype is not dtypes.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {out.dtype.scalar_name}")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype.scalar_name}")
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    return multinomial_rows(input, num_samples, replacement, generator, out)


@of_tensors
def multinomial_rows(input, num_samples, replacement, generator, out):
    """`multinomial` for weights of any number of dims."""
    weights = np.ascontiguousarray(input.detach()._values())
    rows = weights if weights.ndim <= 2 else weights.reshape(-1, weights.shape[-1])
    values = np.asarray(stream_of(generator).multinomial(rows, num_samples, replacement), np.int64).reshape(*weights.shape[:-1], num_samples)
    return finished(values, values.shape, False, out)


def parts(d):
    """What the streams take for a dtype or, so that they look at the other arguments, for the parts of a complex one."""
    return kind(d.to_real())


# --- in place ---------------------------------------------------------------------------------------------------------
def filler(name, draw, doc, variant=lambda *args, **kwargs: 0):
    """A method that overwrites a tensor with draws; `draw(stream, tensor, ...)` gives them in order, `variant(...)` the number of its node."""

    def run(self, *args, generator=None, **kwargs):
        inplace.check_writable(self)
        values = draw(stream_of(generator), self, *args, **kwargs)
        with modes.no_grad():
            core.assign(self, creation.from_array(laid_out(values, tuple(self.shape), tuple(self.stride())), self.dtype))
        core.bump_version(self._slot, 1)
        if inplace.is_recorded(self, ()):
            inplace.overwritten(self, graph_name=f"{name[:-1].title().replace('_', '')}Backward{variant(*args, **kwargs)}")
        else:
            inplace.refresh_flag(self)
        return self

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc
    method(name=name, tensors=False)(in_place(run))


def _uniform(stream, t, *args, **named):
    low, high = bounds(args, named, (0.0, 1.0))
    return drawn(stream.uniform, t.numel(), t.dtype, float(low), float(high))


def bounds(args, named, default):
    """The arguments `from` and `to`, the first of which is no name in Python."""
    given = {**dict(zip(("from", "to"), args, strict=False)), **named}
    if len(args) > 2 or given.keys() - {"from", "to"}:
        raise TypeError("takes from and to")
    return given.get("from", default[0]), given.get("to", default[1])


def _exponential(stream, t, lambd=1.0):
    real_only(t.dtype, CONTINUOUS.format("Exponential", t.dtype.scalar_name))
    return stream.exponential(t.numel(), kind(t.dtype), float(lambd))


def _cauchy(stream, t, median=0.0, sigma=1.0):
    real_only(t.dtype, CONTINUOUS.format("Cauchy", t.dtype.short))
    return stream.cauchy(t.numel(), kind(t.dtype), float(median), float(sigma))


def _log_normal(stream, t, mean=1.0, std=2.0):
    if std > 0:
        real_only(t.dtype, "log_normal_cpu")
    return stream.log_normal(t.numel(), parts(t.dtype), float(mean), float(std))


def _geometric(stream, t, p):
    if 0 < p < 1:
        real_only(t.dtype, "geometric_cpu")
    return stream.geometric(t.numel(), parts(t.dtype), p)


def _bernoulli(stream, t, p=0.5):
    tensor = hasattr(p, "_slot")
    real_only(t.dtype, "bernoulli_tensor_cpu_self_" if tensor else "bernoulli_scalar_cpu_")
    if not tensor:
        return stream.bernoulli(t.numel(), kind(t.dtype), p)
    order = geometry.stride_order(tuple(t.shape), [tuple(t.stride())])[::-1]
    return stream.bernoulli_array(np.ascontiguousarray(p.detach().expand(tuple(t.shape))._values().transpose(order)), kind(t.dtype))


def _random(stream, t, *args, **named):
    if not args and not named:
        real_only(t.dtype, "random_kernel_cpu")
        return stream.random(t.numel(), kind(t.dtype))
    if len(args) + len(named) == 1 and "from" not in named:
        args, named = (0, *args), named
    low, high = bounds(args, named, (0, None))
    real_only(t.dtype, BOUNDS if high is not None else BOUNDS.replace("check_random_bounds", "random_from_to_impl"))
    return stream.randint(t.numel(), low.__index__(), None if high is None else high.__index__(), kind(t.dtype))


filler("uniform_", _uniform, "Uniform on [from, to).")
filler("normal_", lambda s, t, mean=0.0, std=1.0: normal_elements(s, t.numel(), t.dtype, mean, std, t.is_contiguous()),
       "Normal with a mean and standard deviation.")
filler("exponential_", _exponential, "Exponential with a rate.")
filler("cauchy_", _cauchy, "Cauchy.")
filler("log_normal_", _log_normal, "exp of a normal.")
filler("geometric_", _geometric, "The number of trials until the first success.")
filler("bernoulli_", _bernoulli, "0 or 1 with probability `p` of 1.", lambda p=0.5: 1 if hasattr(p, "_slot") else 2)
filler("random_", _random, "Integers over the dtype's whole range, or in [from, to).", lambda *args, **named: 2 - len(args) - len(named))
