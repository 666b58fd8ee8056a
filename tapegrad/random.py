"""Random tensors: torch's functions over a `Generator` that draws torch's own CPU streams (`generator.py`)."""

from __future__ import annotations

import numpy as np

from tapegrad import core, creation, dtypes, geometry, modes
from tapegrad.creation import check_dtype, check_options, only_size, size_of
from tapegrad.dtypes import BY_NUMPY
from tapegrad.generator import Generator as _Stream
from tapegrad.ops.public import function, method
from tapegrad.transforms.randomness import each_sample, in_place, of_tensors, refuse_out

BOUNDS = "check_random_bounds handles only integral, floating-point and boolean types"
DEFAULT_SEED = 67280421310721  # torch's, until manual_seed or seed is called


class Generator:
    """A stream of random numbers of its own.

    >>> import tapegrad as tg
    >>> g = tg.Generator().manual_seed(0)
    >>> tg.rand(2, generator=g)
    tensor([0.4963, 0.7682])
    """

    def __init__(self, device="cpu"):
        from tapegrad.device import check

        check(device)
        self._stream = _Stream()
        self._stream.manual_seed(DEFAULT_SEED)

    @property
    def device(self):
        from tapegrad.device import CPU

        return CPU

    def manual_seed(self, seed):
        """Start the stream that belongs to `seed`; returns the generator."""
        self._stream.manual_seed(seed)
        return self

    def seed(self):
        """Start a stream from the operating system's randomness; returns the seed."""
        return self._stream.seed()

    def initial_seed(self):
        """The seed of the stream."""
        return self._stream.initial_seed()

    def get_state(self):
        """The state as a uint8 tensor."""
        return creation.from_array(self._stream.get_state(), dtypes.uint8)

    def set_state(self, new_state):
        """Continue from a state."""
        if not hasattr(new_state, "_slot") or new_state.dtype is not dtypes.uint8:
            raise TypeError("expected a tapegrad.ByteTensor, but got " + type(new_state).__name__)
        self._stream.set_state(new_state._array())
        return self


default_generator = Generator()


def manual_seed(seed):
    """Start the default generator's stream for `seed`; the generator is returned."""
    return default_generator.manual_seed(seed)


def seed():
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed():
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state():
    """The state of the default generator."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Continue the default generator from a state."""
    default_generator.set_state(new_state)


def stream_of(generator) -> _Stream:
    return (generator or default_generator)._stream


def float_dtype(name, dtype):
    d = check_dtype(dtype, name) or dtypes.default_dtype()
    if not d.differentiable:
        raise NotImplementedError(f'"{name}" not implemented for \'{d.scalar_name}\'')
    return d


def memory(d) -> np.dtype:
    """The NumPy type in which elements of `d` are drawn."""
    return dtypes.BY_NAME[d.compute].numpy if d.foreign else d.numpy


def real_only(d, kernel: str):
    """torch's refusal of complex tensors: the name of its kernel, or the whole text."""
    if d.is_complex and " " in kernel:
        raise RuntimeError(kernel)
    if d.is_complex:
        raise NotImplementedError(f'"{kernel}" not implemented for \'{d.scalar_name}\'')


def drawn(draw, n, d, *args):
    """`n` elements of `d` from one of a stream's functions, complex ones part by part."""
    if not d.is_complex:
        return draw(n, memory(d), *args)
    d = dtypes.BY_NAME[d.compute]
    return np.asarray(draw(2 * n, d.to_real().numpy, *args)).view(d.numpy)


def normal_elements(stream, n, d, mean=0.0, std=1.0, *args):
    """Normal elements of `d`; each part of a complex one has the mean and half of the variance."""
    if d.is_complex:
        std = float(std) * 0.5**0.5
    rows = n & ~15
    if d is not dtypes.bfloat16 or n < 16 or rows == n or args == (False,):
        return drawn(stream.normal, n, d, float(mean), float(std), *args)
    # As for float16: whole rows of 16 are drawn, the last of which ends with the tensor.
    values = drawn(stream.normal, rows + 16, d, float(mean), float(std), *args)
    return np.concatenate([values[: n - 16], values[rows:]])


def finished(array, shape, requires_grad, out=None, d=None):
    if out is not None:
        refuse_out()
    t = creation.from_array(np.asarray(array).reshape(shape), d or BY_NUMPY[array.dtype])
    if out is not None:
        from tapegrad.writing import write_out

        return write_out(t, out)
    return creation.finish(t, requires_grad)


def count(shape) -> int:
    n = 1
    for size in shape:
        n *= size
    return creation.room_for(n)


@function(tensors=False)
def rand(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **named):
    """Uniform on [0, 1)."""
    check_options("rand", device, layout, pin_memory, dtype, out)
    shape = size_of("rand", only_size("rand", size, named))
    d = float_dtype("check_uniform_bounds", dtype)
    return each_sample(lambda shape: finished(drawn(stream_of(generator).uniform, count(shape), d), shape, requires_grad, out, d), shape)


@function(tensors=False)
def randn(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **named):
    """Standard normal."""
    check_options("randn", device, layout, pin_memory, dtype, out)
    shape = size_of("randn", only_size("randn", size, named))
    d = float_dtype("normal_kernel_cpu", dtype)
    return each_sample(lambda shape: finished(normal_elements(stream_of(generator), count(shape), d), shape, requires_grad, out, d), shape)


@function(tensors=False)
def randint(*bounds, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, **named):
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    check_options("randint", device, layout, False, dtype, out)
    values = list(bounds)
    shape = named.get("size")
    if not named.keys() <= {"size", "low", "high"}:
        raise TypeError(f"randint() got an unexpected keyword argument '{next(iter(named))}'")
    if shape is None:
        shape = values.pop()
    low, high = (0, values[0]) if len(values) == 1 and "high" not in named else (named.get("low", values[0] if values else 0), named.get("high", values[-1] if len(values) > 1 else None))
    d = check_dtype(dtype, "randint") or dtypes.int64
    shape = size_of("randint", (shape,))
    real_only(d, BOUNDS)
    draw = lambda shape: stream_of(generator).randint(count(shape), low, high, memory(d))
    return each_sample(lambda shape: finished(draw(shape), shape, requires_grad, out, d), shape)


@function(tensors=False)
def randperm(n, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False):
    """A random permutation of 0 .. n - 1."""
    check_options("randperm", device, layout, False, dtype, out)
    d = check_dtype(dtype, "randperm") or dtypes.int64
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    creation.room_for(n)
    real_only(d, "randperm")

    def permutations(shape):  # one for each sample, if there are any
        rows = [stream_of(generator).randperm(n, memory(d)) for _ in range(count(shape[:-1]))]
        return finished(np.stack(rows) if rows else np.empty(shape, memory(d)), shape, requires_grad, out, d)

    return each_sample(permutations, (n,))


def laid_out(name, input, memory_format, draw):
    """A tensor of the shape of `input` in a memory format: `draw(shape)` gives the numbers in the order in which memory holds them."""
    shape = tuple(input.shape)
    if input._level is not None:
        return draw(shape)
    steps = creation.like_strides(name, input, memory_format)
    if geometry.is_contiguous(geometry.geometry(shape, steps)):
        return draw(shape)
    order = geometry.stride_order(shape, [steps])[::-1]
    drawn = draw(tuple(shape[d] for d in order))
    result = creation.empty_of(shape, drawn.dtype, steps)
    with modes.no_grad():
        core.assign(result.permute(order), drawn.detach())
    return creation.finish(result, drawn.requires_grad)


def _like(name, draw):
    def run(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, generator=None):
        d = check_dtype(dtype, name) or input.dtype
        return laid_out(name, input, memory_format, lambda shape: draw(shape, dtype=d, requires_grad=requires_grad, generator=generator))

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"`{name[:-5]}` of the shape and dtype of `input`."
    return function(name=name, tensors=False)(run)


_like("rand_like", rand)
_like("randn_like", randn)


@function(tensors=False)
def randint_like(input, low, high=None, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None, generator=None):
    """`randint` of the shape and dtype of `input`."""
    low, high = (0, low) if high is None else (low, high)
    d = dtype or input.dtype
    draw = lambda shape: randint(low, high, shape, dtype=d, requires_grad=requires_grad, generator=generator)
    return laid_out("randint_like", input, memory_format, draw)


@function(tensors=False)
def normal(mean, std=1.0, size=None, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Normal with tensor (or number) mean and standard deviation."""
    check_options("normal", device, layout, pin_memory, dtype, out)
    if hasattr(std, "_slot") and std.dtype.is_complex:
        raise RuntimeError("normal expects standard deviation to be non-complex")
    if hasattr(mean, "_slot") or hasattr(std, "_slot"):
        if hasattr(std, "_slot") and not hasattr(mean, "_slot"):
            mean = creation.full_like(std, float(mean))
        if hasattr(mean, "_slot") and not hasattr(std, "_slot"):
            if std < 0:
                raise RuntimeError(f"normal expects std >= 0.0, but found std {float(std)}")
            std = creation.full_like(mean, float(std))
        return normal_of_tensors(mean, std, generator, out)
    shape, d = size_of("normal", (size,)), float_dtype("normal", dtype)
    return each_sample(lambda shape: finished(normal_elements(stream_of(generator), count(shape), d, mean, std), shape, requires_grad, out, d), shape)


@of_tensors
def normal_of_tensors(mean, std, generator, out):
    """A draw for each mean and standard deviation."""
    from tapegrad.geometry import broadcast_shapes

    stream, shape = stream_of(generator), broadcast_shapes(tuple(mean.shape), tuple(std.shape))
    if mean.dtype.is_complex:
        noise = normal_elements(stream, count(shape), mean.dtype).reshape(shape)
        values = mean.detach()._values() + std.detach()._values() * noise
        return finished(values, shape, False, out, mean.dtype)
    values = stream.normal_arrays(np.broadcast_to(mean.detach()._values(), shape), np.broadcast_to(std.detach()._values(), shape))
    return finished(np.ascontiguousarray(values), shape, False, out, mean.dtype)


@function(method=True, tensors=False)
@of_tensors
def bernoulli(input, p=None, *, generator=None, out=None):
    """0 or 1 with the probabilities in `input` (or `p` everywhere)."""
    stream = stream_of(generator)
    shape, d = tuple(input.shape), input.dtype
    real_only(d, "bernoulli_tensor_cpu_self_" if p is None else "bernoulli_scalar_cpu_")
    if p is not None:
        return finished(stream.bernoulli(count(shape), memory(d), p), shape, False, out, d)
    return finished(np.asarray(stream.bernoulli_array(np.ascontiguousarray(input.detach()._values()), memory(d))), shape, False, out, d)


@function(method=True, tensors=False)
def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices drawn with the weights in each row of `input`."""
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


# --- in place ---------------------------------------------------------------------------------------------------------
CONTINUOUS = " distribution is a continuous probability distribution. dtype must be a floating point but you specified "
REAL_ONLY = {
    "exponential_": lambda d: "Exponential" + CONTINUOUS + d.scalar_name, "cauchy_": lambda d: "Cauchy" + CONTINUOUS + d.short,
    "log_normal_": lambda d: "log_normal_cpu", "geometric_": lambda d: "geometric_cpu",
}  # fmt: skip


def filler(name, draw, doc):
    """A method that overwrites a tensor with draws."""

    def run(self, *args, generator=None, **kwargs):
        from tapegrad.autograd import inplace

        if name in REAL_ONLY:
            real_only(self.dtype, REAL_ONLY[name](self.dtype))
        inplace.check_writable(self)
        values = draw(stream_of(generator), self, *args, **kwargs)
        with modes.no_grad():
            fresh = creation.from_array(np.asarray(values).reshape(tuple(self.shape)), self.dtype)
            core.assign(self, fresh)
        core.bump_version(self._slot, 1)
        if inplace.is_recorded(self, ()):
            inplace.overwritten(self, graph_name="BernoulliBackward2" if name == "bernoulli_" else f"{name[:-1].title().replace('_', '')}Backward0")
        else:
            inplace.refresh_flag(self)
        return self

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc
    method(name=name, tensors=False)(in_place(run))


def _uniform(stream, t, from_=0.0, to=1.0, **named):
    low, high = float(named.get("from", named.get("a", from_))), float(named.get("b", to))
    return drawn(stream.uniform, t.numel(), t.dtype, low, high)


filler("uniform_", _uniform, "Uniform on [from, to).")
filler("normal_", lambda s, t, mean=0.0, std=1.0: normal_elements(s, t.numel(), t.dtype, mean, std, t.is_contiguous()),
       "Normal with a mean and standard deviation.")
filler("exponential_", lambda s, t, lambd=1.0: s.exponential(t.numel(), memory(t.dtype), float(lambd)), "Exponential with a rate.")
filler("cauchy_", lambda s, t, median=0.0, sigma=1.0: s.cauchy(t.numel(), memory(t.dtype), float(median), float(sigma)), "Cauchy.")
filler("log_normal_", lambda s, t, mean=1.0, std=2.0: s.log_normal(t.numel(), memory(t.dtype), float(mean), float(std)),
       "exp of a normal.")
filler("geometric_", lambda s, t, p: s.geometric(t.numel(), memory(t.dtype), p), "The number of trials until the first success.")


def _bernoulli(stream, t, p=0.5):
    real_only(t.dtype, "bernoulli_tensor_cpu_self_" if hasattr(p, "_slot") else "bernoulli_scalar_cpu_")
    if hasattr(p, "_slot"):
        return stream.bernoulli_array(np.ascontiguousarray(np.broadcast_to(p.detach()._values(), tuple(t.shape))), memory(t.dtype))
    return stream.bernoulli(t.numel(), memory(t.dtype), p)


filler("bernoulli_", _bernoulli, "0 or 1 with probability `p` of 1.")


def _random(stream, t, from_=None, to=None):
    real_only(t.dtype, "random_kernel_cpu" if from_ is None and to is None else BOUNDS)
    if from_ is None and to is None:
        return stream.random(t.numel(), memory(t.dtype))
    low, high = (0, from_) if to is None else (from_, to)
    return stream.randint(t.numel(), low, high, memory(t.dtype))


filler("random_", _random, "Integers over the dtype's whole range, or in [from, to).")
