"""`tapegrad.quasirandom`: Sobol' sequences, points that fill the unit cube more evenly than random ones.

A point of dimension d is d integers of `MAXBIT` bits; the next one differs in the direction number that belongs to the lowest zero bit of the
number of points so far (Antonov and Saleev 1979).  The direction numbers are those of Joe and Kuo (SIAM J. Sci. Comput. 30, 2008), which come
with SciPy; the scrambling is that of Owen in the form of Matousek (J. Complexity 14, 1998): random lower triangular matrices and a digital shift.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.random import Generator, randint

MAXBIT = 30


@functools.cache
def _polynomials() -> tuple[np.ndarray, np.ndarray]:
    """The primitive polynomials and the first direction numbers of every dimension."""
    spec = importlib.util.find_spec("scipy")
    assert spec is not None and spec.origin is not None
    with np.load(pathlib.Path(spec.origin).parent / "stats" / "_sobol_direction_numbers.npz") as data:
        return data["poly"].astype(np.int64), data["vinit"].astype(np.int64)


def directions(dimension: int) -> np.ndarray:
    """The direction numbers, (dimension, MAXBIT): v_k = 2^(MAXBIT - 1 - k) m_k, where m follows the recurrence of the polynomial."""
    polynomials, first = _polynomials()
    m = np.ones((dimension, MAXBIT), np.int64)
    for d in range(1, dimension):
        coefficients = int(polynomials[d])
        degree = coefficients.bit_length() - 1
        row = [int(v) for v in first[d, :degree]]
        for k in range(degree, MAXBIT):
            value = row[k - degree] ^ row[k - degree] << degree
            for i in range(1, degree):
                if coefficients >> (degree - i) & 1:
                    value ^= row[k - i] << i
            row.append(value)
        m[d] = row[:MAXBIT]
    return m << np.arange(MAXBIT - 1, -1, -1)


class SobolEngine:
    """A (scrambled) Sobol' sequence of points of `dimension` numbers in [0, 1).

    >>> import tapegrad as tg
    >>> tg.quasirandom.SobolEngine(dimension=2).draw(3)
    tensor([[0.0000, 0.0000],
            [0.5000, 0.5000],
            [0.7500, 0.2500]])
    """

    MAXBIT = MAXBIT
    MAXDIM = 21201

    def __init__(self, dimension, scramble=False, seed=None):
        if dimension > self.MAXDIM or dimension < 1:
            raise ValueError(f"Supported range of dimensionality for SobolEngine is [1, {self.MAXDIM}]")
        self.seed, self.scramble, self.dimension = seed, scramble, dimension
        self._state = directions(dimension)
        self._shift = self._scrambled() if scramble else np.zeros(dimension, np.int64)
        self._quasi = self._shift.copy()
        self.num_generated = 0

    sobolstate = property(lambda self: creation.from_array(self._state), doc="The direction numbers, (dimension, MAXBIT).")
    shift = property(lambda self: creation.from_array(self._shift), doc="The integers of the first point.")
    quasi = property(lambda self: creation.from_array(self._quasi), doc="The integers of the point drawn last.")

    def draw(self, n: int = 1, out=None, dtype=None):
        """The next `n` points, (n, dimension)."""
        d = dtype or dtypes.default_dtype()
        if (rest := n - (not self.num_generated)) < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {rest}: [{rest}, {self.dimension}]")
        integers = self._next(n)
        numbers = integers / 2**MAXBIT
        if not self.num_generated:
            numbers[0] = numbers[0].astype(dtypes.default_dtype().numpy)  # torch keeps the first point in the default dtype
        self.num_generated += n
        result = creation.from_array(numbers, d)
        return result if out is None else out.resize_as_(result).copy_(result)

    def draw_base2(self, m: int, out=None, dtype=None):
        """The next 2^m points; ValueError unless that makes the number of points a power of two."""
        n = 2**m
        total = self.num_generated + n
        if total & (total - 1):
            raise ValueError(
                f"The balance properties of Sobol' points require n to be a power of 2. {self.num_generated} points have been previously generated, "
                f"then: n={self.num_generated}+2**{m}={total}. If you still want to do this, please use 'SobolEngine.draw()' instead."
            )
        return self.draw(n=n, out=out, dtype=dtype)

    def reset(self):
        """Begin again."""
        self._quasi = self._shift.copy()
        self.num_generated = 0
        return self

    def fast_forward(self, n: int):
        """Leave out `n` points."""
        self._next(n)
        self.num_generated += n
        return self

    def _next(self, n: int) -> np.ndarray:
        """The integers of the next `n` points; the first point of all is the shift itself."""
        first = self.num_generated == 0
        steps = np.arange(self.num_generated - 1 + first, self.num_generated + n - 1, dtype=np.int64)
        lowest = np.bitwise_count(steps ^ (steps + 1)).astype(np.intp) - 1  # the place of the lowest zero bit
        points = np.bitwise_xor.accumulate(np.concatenate([self._quasi[None], self._state.T[lowest]]))
        self._quasi = points[-1].copy()
        return points[0 if first else 1 :]

    def _scrambled(self) -> np.ndarray:
        """Scramble the direction numbers; returns the shift."""
        generator = None if self.seed is None else Generator().manual_seed(self.seed)
        shift = randint(2, (self.dimension, MAXBIT), generator=generator)._array() @ (1 << np.arange(MAXBIT, dtype=np.int64))
        lower = np.tril(randint(2, (self.dimension, MAXBIT, MAXBIT), generator=generator)._array())
        lower[:, np.arange(MAXBIT), np.arange(MAXBIT)] = 1
        rows = lower @ (1 << np.arange(MAXBIT - 1, -1, -1, dtype=np.int64))  # (dimension, MAXBIT): each row of a matrix as an integer
        bits = np.bitwise_count(rows[:, :, None] & self._state[:, None, :]) & 1  # bit p, from the highest, of the number of a column
        self._state = (bits.astype(np.int64) << np.arange(MAXBIT - 1, -1, -1)[None, :, None]).sum(1)
        return shift

    def __repr__(self):
        shown = [f"dimension={self.dimension}"] + ["scramble=True"] * bool(self.scramble) + [f"seed={self.seed}"] * (self.seed is not None)
        return f"{type(self).__name__}({', '.join(shown)})"
