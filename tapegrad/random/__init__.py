"""Random numbers: generators, seeds, and tensors drawn on torch's own CPU streams.

A `Generator` holds a stream; functions without `generator=` draw from `default_generator`.  Here are the functions that make tensors from sizes.
`tensors` has those of tensors and the methods that overwrite one, `gamma` the draws that follow their parameters; all go through `draws`, which
takes NumPy arrays from a `stream`, whose numbers `arithmetic` and `rejection` make.
"""

from __future__ import annotations

import contextlib
import operator

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.creation import check_dtype, check_options, only_size, size_of
from tapegrad.naming import known_as
from tapegrad.ops.public import function
from tapegrad.random.draws import BOUNDS, count, drawn, finished, float_dtype, kind, normal_elements, real_only, redrawn
from tapegrad.random.stream import DEFAULT_SEED, Stream
from tapegrad.transforms.randomness import draws, each_sample


@known_as("tapegrad._C.Generator")
class Generator:
    """A stream of random numbers of its own.

    >>> import tapegrad as tg
    >>> g = tg.Generator().manual_seed(0)
    >>> tg.rand(2, generator=g)
    tensor([0.4963, 0.7682])
    """

    __slots__ = ("_stream",)

    def __init__(self, device="cpu"):
        from tapegrad.device import check

        check(device)
        self._stream = Stream()
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
        if not hasattr(new_state, "_slot"):
            raise TypeError("expected a tapegrad.ByteTensor, but got " + type(new_state).__name__)
        if new_state.dtype is not dtypes.uint8:
            raise TypeError("RNG state must be a tapegrad.ByteTensor")
        self._stream.set_state(new_state._array())
        return self

    def clone_state(self):
        """A generator that continues as this one would."""
        return type(self)().set_state(self.get_state())

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self.clone_state()

    def __reduce__(self):
        return type(self), (), self._stream.get_state()

    def __repr__(self):
        return f"<tapegrad._C.Generator object at {id(self):#x}>"

    def __setstate__(self, state):
        self._stream.set_state(state)


default_generator = Generator()


def manual_seed(seed):
    """Start the default generator's stream for `seed`, which is made an int; the generator is returned."""
    return default_generator.manual_seed(int(seed))


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


@contextlib.contextmanager
def fork_rng(devices=None, enabled=True, _caller="fork_rng", _devices_kw="devices", device_type="cpu"):
    """In the `with` block the default generator may be used or seeded; after it, it continues as if it had not been.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> with tg.random.fork_rng():
    ...     _ = tg.rand(5)
    >>> tg.rand(1)
    tensor([0.4963])
    """
    from tapegrad.device import device

    device(device_type)
    before = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if before is not None:
            set_rng_state(before)


def stream_of(generator) -> Stream:
    return (generator or default_generator)._stream


@function(tensors=False)
@draws
def rand(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **named):
    """Uniform on [0, 1)."""
    check_options("rand", device, layout, pin_memory, dtype, out)
    shape = size_of("rand", only_size("rand", size, named))
    if out is not None:
        return redrawn(out, shape, "uniform_", generator=generator, requires_grad=requires_grad)
    d = float_dtype("check_uniform_bounds", dtype)
    return each_sample(lambda shape: finished(drawn(stream_of(generator).uniform, count(shape), d), shape, requires_grad, None, d), shape)


@function(tensors=False)
@draws
def randn(*size, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **named):
    """Standard normal."""
    check_options("randn", device, layout, pin_memory, dtype, out)
    shape = size_of("randn", only_size("randn", size, named))
    if out is not None:
        return redrawn(out, shape, "normal_", generator=generator, requires_grad=requires_grad)
    d = float_dtype("normal_kernel_cpu", dtype)
    return each_sample(lambda shape: finished(normal_elements(stream_of(generator), count(shape), d), shape, requires_grad, None, d), shape)


@function(tensors=False)
@draws
def randint(*bounds, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **named):
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`."""
    check_options("randint", device, layout, pin_memory, dtype, out)
    values, names = list(bounds), ["low", "high", "size"]
    if len(values) + len(named) < 3 and "low" not in named:
        names.remove("low")
    given = {**dict(zip(names, values, strict=False)), **named}
    if len(values) > len(names) or given.keys() - {"low", "high", "size"} or not given.keys() >= {"high", "size"} or not isinstance(given["size"], (tuple, list)):
        raise TypeError("randint() takes a high, or a low and a high, and a size")
    low, high = operator.index(given.get("low", 0)), operator.index(given["high"])
    shape = size_of("randint", (given["size"],))
    if out is not None:
        return redrawn(out, shape, "random_", low, high, generator=generator, requires_grad=requires_grad)
    d = check_dtype(dtype, "randint") or dtypes.int64
    real_only(d, BOUNDS)
    draw = lambda shape: stream_of(generator).randint(count(shape), low, high, kind(d))
    return each_sample(lambda shape: finished(draw(shape), shape, requires_grad, None, d), shape)


@function(tensors=False)
@draws
def randperm(n, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """A random permutation of 0 .. n - 1."""
    check_options("randperm", device, layout, pin_memory, dtype, out)
    d = check_dtype(dtype, "randperm") or (dtypes.int64 if out is None else out.dtype)
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    creation.room_for(n)
    real_only(d, "randperm")

    def permutations(shape):  # one for each sample, if there are any
        rows = [stream_of(generator).randperm(n, kind(d)) for _ in range(count(shape[:-1]))]
        return finished(np.stack(rows) if rows else np.empty(shape), shape, requires_grad, out, d)

    return each_sample(permutations, (n,))
