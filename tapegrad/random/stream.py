"""Random number generation: `Stream` draws torch's own CPU streams bit for bit, as contiguous NumPy arrays in torch's fill order.

It owns the Mersenne Twister, the second normal of a pair that waits for the next call, the state's byte layout (torch's, so that
states can be exchanged with it) and torch's checks and error texts; `arithmetic` makes samples of them.  Sources: torch's
MT19937RNGEngine.h, CPUGeneratorImpl.cpp, DistributionsHelper.h, DistributionTemplates.h (both), Distributions.cpp and
TensorFactories.cpp, release 2.13.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os

import numpy as np

from tapegrad.random import arithmetic, rejection

DEFAULT_SEED = 67280421310721

_SHIFT, _UNIT53 = np.uint64(32), 2.0**-53
_UNITS: tuple = (np.float32, np.uint64(2**24 - 1), np.float32(2.0**-24)), (np.float64, np.uint64(2**53 - 1), _UNIT53)
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "key", "normal_y", "has_normal_y", "float_normal", "has_float_normal"],
        "formats": ["<u8", "<i4", "<i4", "<u8", ("<u8", 624), "<f8", "<i4", "<f4", "u1"],
        "offsets": [0, 8, 12, 16, 24, 5024, 5040, 5048, 5052],
        "itemsize": 5056,
    }
)


class Stream:
    """A stream of random numbers.  Draw methods take the number of elements (or arrays) and a NumPy dtype."""

    def __init__(self):
        self._bits = np.random.MT19937(0)
        self._raw = self._bits.random_raw  # k 32-bit draws, held in uint64
        self.manual_seed(DEFAULT_SEED)

    # Seeding and state

    def manual_seed(self, seed) -> Stream:
        """Restart the stream; a negative seed counts from 2**64."""
        if isinstance(seed, (bool, np.bool_)) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = operator.index(seed)
        if not arithmetic.INT64_MIN <= seed < 2**64:
            raise ValueError("Overflow when unpacking long long")
        self._seed = seed % 2**64
        self._next_normal: float | None = None
        np.random.RandomState(self._bits).seed(self._seed & 0xFFFFFFFF)
        return self

    def seed(self) -> int:
        """Restart the stream from a seed of the operating system, and return that."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def get_state(self) -> np.ndarray:
        """The state as 5056 bytes in torch's layout."""
        twister = self._bits.state["state"]
        key, position = twister["key"], twister["pos"]
        state = np.zeros((), _STATE)
        state["seed"], state["seeded"], state["key"] = self._seed, 1, key
        unused = position == 624 and int(key[0]) == self._seed & 0xFFFFFFFF  # just seeded
        state["next"], state["left"] = (0, 1) if unused else (position, 625 - position)
        if self._next_normal is not None:
            state["normal_y"], state["has_normal_y"] = self._next_normal, 1
        return np.frombuffer(state.tobytes(), np.uint8).copy()

    def set_state(self, array) -> Stream:
        """Continue from a state made by `get_state`, or by torch."""
        if not isinstance(array, np.ndarray):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(array).__name__}")
        if array.dtype != np.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        if array.size != _STATE.itemsize:
            expected = _STATE.itemsize
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {expected} but found the input RNG state size to be {array.size}")
        state = np.frombuffer(array.tobytes(), _STATE)[0]
        left, position = int(state["left"]), int(state["next"])
        if state["seeded"] != 1 or not 0 < left <= 624 or position > 624:
            raise RuntimeError("Invalid mt19937 state")
        self._seed = int(state["seed"])
        self._next_normal = float(state["normal_y"]) if state["has_normal_y"] else None
        key = state["key"].astype(np.uint32)
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624 if left == 1 else position}}
        return self

    def __getstate__(self):
        return self.get_state()

    def __setstate__(self, state):
        self.__init__()
        self.set_state(state)

    # Raw streams

    def _raw64(self, n: int) -> np.ndarray:
        draws = self._raw(2 * n)
        high = draws[0::2] << _SHIFT
        high |= draws[1::2]
        return high

    def _unit(self, n: int, double: bool = True) -> np.ndarray:
        """Uniforms on [0, 1), float64 or float32: the lowest bits of draws, as many as these have digits."""
        draws = self._raw64(n) if double else self._raw(n)
        kind, mask, scale = _UNITS[double]
        draws &= mask
        out = draws.view(np.int64).astype(kind)
        out *= scale
        return out

    def _serial_normals(self, n: int) -> np.ndarray:
        """Standard normals by twos; an odd one is kept for the next call."""
        kept: list = [] if self._next_normal is None or n == 0 else [self._next_normal]
        pairs = (n - len(kept) + 1) // 2
        if pairs < 8:
            draws = iter(self._raw(4 * pairs).tolist())
            for a, b, c, d in zip(draws, draws, draws, draws, strict=True):
                theta = 2.0 * math.pi * (((a & 0x1FFFFF) << 32 | b) * _UNIT53)
                radius = math.sqrt(-2.0 * math.log1p(((c & 0x1FFFFF) << 32 | d) * -_UNIT53))
                kept += radius * math.cos(theta), radius * math.sin(theta)
            values = np.array(kept)
        else:
            values = np.concatenate((kept, arithmetic.normal_pairs(self._unit(2 * pairs))))
        if n:
            self._next_normal = float(values[n]) if values.size > n else None
        return values[:n]

    # Continuous distributions

    def uniform(self, n: int, dtype=np.float32, low=0.0, high=1.0) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        arithmetic.require_float(dtype, "check_uniform_bounds")
        if low == 0.0 and high == 1.0 and dtype.itemsize >= 4:
            return self._unit(n, dtype.itemsize == 8)
        smallest, greatest = arithmetic.limits(dtype)
        if not smallest <= low <= greatest:
            raise arithmetic.out_of_bounds("from", dtype)
        if not smallest <= high <= greatest:
            raise arithmetic.out_of_bounds("to", dtype)
        if not low <= high:
            raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
        if not high - low <= greatest:
            raise RuntimeError(
                f"uniform_ expects to-from <= std::numeric_limits<{arithmetic.NAMES[dtype.name][0]}>::max(), "
                f"but found to={high:g} and from={low:g} which result in to-from to exceed the limit"
            )
        if dtype == np.float64:
            out = arithmetic.fma64(self._unit(n), high - low, low)
        else:
            out = arithmetic.convert(arithmetic.scale32(self._unit(n, False), low, high), dtype)
        out[out == arithmetic.convert(np.asarray(high), dtype)] = low
        return out

    def normal(self, n: int, dtype=np.float32, mean=0.0, std=1.0, contiguous=True) -> np.ndarray:
        """`contiguous=False` draws as torch does into a tensor that is not contiguous."""
        dtype = arithmetic.kind_of(dtype)
        if not std >= 0.0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        if n:
            arithmetic.require_float(dtype, "normal_kernel_cpu")
        if n < 16 or not contiguous:
            values = self._serial_normals(n)
            if mean != 0.0 or std != 1.0:
                values = arithmetic.fma64(values, float(std), float(mean))
            return arithmetic.convert(values, dtype)
        main = n & ~15
        total = n if main == n else main + 16
        # torch draws all n (of 2-byte types: whole rows only), then 16 anew for the last 16 elements of an n that 16 does not divide
        drawn = total if main == n or dtype.itemsize == 2 else n + 16
        u = self._unit(drawn, dtype == np.float64)
        if drawn != total:
            u[main:total] = u[n:]
        transform = arithmetic.box_muller64 if dtype == np.float64 else arithmetic.box_muller32
        values = transform(u[:total].reshape(-1, 16), float(mean), float(std)).ravel()
        return arithmetic.convert(values if total == n else np.concatenate((values[: n - 16], values[main:])), dtype)

    def log_normal(self, n: int, dtype=np.float32, mean=1.0, std=2.0) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        arithmetic.require_positive("log_normal_", "std", std)
        arithmetic.require_float(dtype, "log_normal_cpu")
        return arithmetic.convert(arithmetic.exp(arithmetic.fma64(self._serial_normals(n), float(std), float(mean)), dtype == np.float64), dtype)

    def exponential(self, n: int, dtype=np.float32, lambd=1.0) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        arithmetic.require_positive("exponential_", "lambda", lambd)
        arithmetic.require_continuous(dtype, "Exponential", 0)
        return arithmetic.convert(arithmetic.exponential(self._unit(n), float(lambd), dtype == np.float64), dtype)

    def cauchy(self, n: int, dtype=np.float32, median=0.0, sigma=1.0) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        arithmetic.require_positive("cauchy_", "sigma", sigma)
        arithmetic.require_continuous(dtype, "Cauchy", 1)
        return arithmetic.convert(arithmetic.cauchy(self._unit(n), float(median), float(sigma), dtype == np.float64), dtype)

    # Discrete distributions

    def geometric(self, n: int, dtype, p) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        if not 0 < p < 1:
            raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
        if dtype.kind == "b":
            raise arithmetic.not_implemented(dtype, "geometric_cpu")
        with np.errstate(divide="ignore"):
            return arithmetic.convert(np.ceil(np.log(self._unit(n)) / math.log1p(-p)), dtype)

    def bernoulli(self, n: int, dtype, p) -> np.ndarray:
        """Draws that are 1 with probability `p`, a number."""
        if not 0 <= p <= 1:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return arithmetic.convert(self._unit(n) < p, dtype)

    def bernoulli_array(self, p: np.ndarray, dtype) -> np.ndarray:
        """One draw for each probability of `p`, of its shape (broadcast it first where the result is larger)."""
        arithmetic.require_float(p.dtype, "bernoulli_tensor_cpu_p_")
        if p.size and not (p.min() >= 0 and p.max() <= 1):
            raise RuntimeError(
                "Expected p_in >= 0 && p_in <= 1 to be true, but got false.  "
                "(Could this error message be improved?  If so, please report an enhancement request to PyTorch.)"
            )
        u = self._unit(p.size, p.dtype == np.float64)
        return arithmetic.convert(u.reshape(p.shape) < p, dtype)

    def poisson(self, rates: np.ndarray) -> np.ndarray:
        """A draw for each rate (float64); they take from the stream one after the other."""
        with self._one_by_one() as (uniform, _):
            return np.array([rejection.poisson(rate, uniform) for rate in rates.tolist()], np.float64)

    def gamma(self, shapes: np.ndarray) -> np.ndarray:
        """A standard gamma draw, in float64, for each shape (float32 or float64)."""
        with self._one_by_one() as (uniform, normal):
            return np.array([rejection.gamma(alpha, uniform, normal) for alpha in scalars(shapes)], np.float64)

    def binomial(self, counts: np.ndarray, p: np.ndarray) -> np.ndarray:
        """A draw for each count and probability, arrays of one size and dtype."""
        with self._one_by_one() as (uniform, _):
            drawn = [rejection.binomial(count, q, uniform) for count, q in zip(scalars(counts), scalars(p), strict=True)]
            return np.array(drawn, counts.dtype)

    @contextlib.contextmanager
    def _one_by_one(self):
        """Functions that draw one uniform and one standard normal, in float64; the stream goes on after what they have used."""
        start, used = self._bits.state, 0

        def uniforms():
            nonlocal used
            while True:
                for u in self._unit(1024).tolist():
                    used += 1
                    yield u

        uniform = uniforms().__next__

        def normal() -> float:
            value, self._next_normal = self._next_normal, None
            if value is None:
                theta = 2.0 * math.pi * uniform()
                radius = math.sqrt(-2.0 * math.log1p(-uniform()))
                value, self._next_normal = radius * math.cos(theta), radius * math.sin(theta)
            return value

        try:
            yield uniform, normal
        finally:
            self._bits.state = start
            self._raw(2 * used)

    def randint(self, n: int, low: int, high: int | None, dtype=np.int64) -> np.ndarray:
        """Integers of [low, high); without `high`, up to the greatest of the dtype (of a float: the last exact integer)."""
        dtype = arithmetic.kind_of(dtype)
        if not arithmetic.INT64_MIN <= low <= arithmetic.INT64_MAX or (high is not None and not arithmetic.INT64_MIN <= high <= arithmetic.INT64_MAX):
            raise ValueError("Overflow when unpacking long long")
        if high is not None:
            if low >= high:
                raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
            if dtype.kind == "f":
                low, high = arithmetic.float_low(low, dtype), arithmetic.float_high(high, dtype)
                if low >= high:
                    raise RuntimeError(
                        f"random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, but got from={low} >= to={high}"
                    )
            arithmetic.check_range(low, high - 1, dtype)
        elif low == arithmetic.INT64_MIN:
            if dtype.name in ("bool", "float16", "uint16", "uint32", "uint64"):
                raise arithmetic.not_implemented(dtype, "random_full_64_bits_range_kernel_cpu")
            if dtype.name not in ("int64", "float64", "float32", "bfloat16"):
                raise RuntimeError("random_full_64_bits_range_kernel_cpu handles only int64, double, float and bfloat16")
            return arithmetic.convert(self._raw64(n).view(np.int64), dtype)
        else:
            last = arithmetic.limits(dtype)[1]
            if dtype.kind == "f":
                last, low = 2 ** arithmetic.DIGITS[dtype.name], arithmetic.float_low(low, dtype)
                if low >= last:
                    raise RuntimeError(
                        "random_ expects 'from' casted to dtype to be less than or equal to 'to_inc' casted to dtype, "
                        f"but got from={low} > to_inc={last}"
                    )
            arithmetic.check_range(low, last, dtype)
            high = last + 1
        draws = self._raw64(n) if high - low >= 2**28 else self._raw(n)
        draws %= np.uint64(high - low)
        draws += np.uint64(low % 2**64)
        return arithmetic.convert(draws.view(np.int64), dtype)

    def random(self, n: int, dtype=np.int64) -> np.ndarray:
        """tensor.random_() without bounds: [0, greatest of the dtype], for a float [0, 2**digits]."""
        dtype = arithmetic.kind_of(dtype)
        if dtype.name in ("uint16", "uint32", "uint64"):
            raise arithmetic.not_implemented(dtype, "random_kernel_cpu")
        draws = self._raw64(n) if dtype.itemsize == 8 else self._raw(n)
        draws %= np.uint64((2 ** arithmetic.DIGITS[dtype.name] if dtype.kind == "f" else arithmetic.limits(dtype)[1]) + 1)
        return arithmetic.convert(draws.view(np.int64), dtype)

    def randperm(self, n: int, dtype=np.int64) -> np.ndarray:
        dtype = arithmetic.kind_of(dtype)
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
        if dtype.kind == "f":
            if dtype is not arithmetic.BFLOAT16 and n > 2 ** arithmetic.DIGITS[dtype.name] + 1:
                limit = "2049" if dtype == np.float16 else f"2^{arithmetic.DIGITS[dtype.name]}+1"
                raise RuntimeError(f"n cannot be greater than {limit} for {arithmetic.NAMES[dtype.name][0]} type.")
        elif dtype.name in ("bool", "uint16", "uint32", "uint64"):
            raise arithmetic.not_implemented(dtype, "randperm")
        elif n - 1 > arithmetic.limits(dtype)[1]:
            raise RuntimeError(f"value cannot be converted to type {arithmetic.NAMES[dtype.name][2]} without overflow")
        return arithmetic.convert(arithmetic.permute(self._raw(max(n - 1, 0)), n), dtype)

    def multinomial(self, weights: np.ndarray, num_samples: int, replacement=False) -> np.ndarray:
        """Indices (int64) drawn by the weights of the last axis, shaped (num_samples,) or (rows, num_samples)."""
        if weights.ndim not in (1, 2):
            raise RuntimeError("prob_dist must be 1 or 2 dim")
        if weights.dtype.kind != "f":
            raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {arithmetic.NAMES[weights.dtype.name][0]}")
        if num_samples <= 0:
            raise RuntimeError("cannot sample n_sample <= 0 samples")
        categories = weights.shape[-1]
        if not replacement and num_samples > categories:
            raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
        if categories > 2**24:
            raise RuntimeError("number of categories cannot exceed 2^24")
        rows = weights.reshape(1, -1) if weights.ndim == 1 else weights
        if len(rows) == 0:
            return np.empty((0, num_samples), np.int64)
        if replacement and num_samples > 1:
            if not (rows >= 0).all():
                raise RuntimeError("invalid multinomial distribution (encountering probability entry < 0)")
            if not np.isfinite(rows).all():
                raise RuntimeError("invalid multinomial distribution (encountering probability entry = infinity or NaN)")
            chosen = arithmetic.sample_rows(rows, self._unit(len(rows) * num_samples).reshape(len(rows), num_samples))
        else:
            if not (rows.max() < np.inf and rows.min() >= 0):
                raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
            if not rows.any(axis=1).all():
                raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                chosen = arithmetic.largest(rows / self.exponential(rows.size, rows.dtype).reshape(rows.shape), num_samples)
        return chosen.reshape(weights.shape[:-1] + (num_samples,))


def scalars(array: np.ndarray):
    """The elements as scalars of their own precision: Python's float is the faster float64."""
    return array.tolist() if array.dtype == np.float64 else list(array)
