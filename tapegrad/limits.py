"""`finfo` and `iinfo`: what numbers a dtype can hold."""

from __future__ import annotations

import numpy as np

from tapegrad import dtypes
from tapegrad.naming import known_as, type_name


class _Info:
    """Compared by dtype."""

    __slots__ = ("_dtype",)
    _dtype: dtypes.dtype

    def __eq__(self, other):
        return type(self) is type(other) and self._dtype is other._dtype

    __hash__ = None  # type: ignore[assignment]

    @property
    def dtype(self) -> str:
        """The name of the dtype."""
        return self._dtype.name

    @property
    def bits(self) -> int:
        """The size of an element in bits."""
        return 8 * self._dtype.itemsize


PYTHON_TYPES = {bool: dtypes.bool_, int: dtypes.int64, float: dtypes.float64, complex: dtypes.complex128}


def _dtype_argument(name, given):
    given = PYTHON_TYPES.get(given, given) if isinstance(given, type) else given
    if not isinstance(given, dtypes.dtype):
        raise TypeError(f"{name}(): argument 'type' (position 1) must be tapegrad.dtype, not {type_name(given)}")
    return given


@known_as("tapegrad.finfo", final=True)
class finfo(_Info):
    """The limits of a floating-point dtype (the default one if none is given); of a complex dtype those of its parts.

    >>> import tapegrad as tg
    >>> tg.finfo(tg.float16).max
    65504.0
    """

    __slots__ = ("_digits", "_exponents")

    def __init__(self, type=None):
        d = dtypes.default_dtype() if type is None else _dtype_argument("finfo", type).to_real()
        if not d.is_floating_point:
            raise TypeError("tapegrad.finfo() requires a floating point input type. Use tapegrad.iinfo to handle 'tapegrad.finfo'")
        self._dtype = d
        if d is dtypes.bfloat16:
            self._digits, self._exponents = 7, (-126, 128)  # bits after the point; of the smallest normal number, beyond the largest
        else:
            info = np.finfo(d.numpy)
            self._digits, self._exponents = int(info.nmant), (int(info.minexp), int(info.maxexp))

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number."""
        return 2.0**-self._digits

    @property
    def max(self) -> float:
        """The largest number."""
        return (2.0 - self.eps) * 2.0 ** (self._exponents[1] - 1)

    @property
    def min(self) -> float:
        """The most negative number."""
        return -self.max

    @property
    def tiny(self) -> float:
        """The smallest positive number of full precision."""
        return 2.0 ** self._exponents[0]

    smallest_normal = tiny

    @property
    def resolution(self) -> float:
        """The decimal resolution: 10 to the minus number of decimal digits."""
        return float(f"1e-{int(self._digits * np.log10(2.0))}")

    def __repr__(self):
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{name}={getattr(self, name):g}' for name in names)}, dtype={self.dtype})"


@known_as("tapegrad.iinfo", final=True)
class iinfo(_Info):
    """The limits of an integer dtype.

    >>> import tapegrad as tg
    >>> tg.iinfo(tg.uint8)
    iinfo(min=0, max=255, dtype=uint8)
    """

    __slots__ = ()

    def __init__(self, type):
        d = _dtype_argument("iinfo", type)
        if d.category > dtypes.INTEGER:
            raise TypeError("tapegrad.iinfo() requires an integer input type. Use tapegrad.finfo to handle 'tapegrad.iinfo'")
        if d.category == dtypes.BOOL:
            raise TypeError("tapegrad.bool is not supported by tapegrad.iinfo")
        self._dtype = d

    @property
    def min(self) -> int:
        """The smallest number."""
        return int(np.iinfo(self._dtype.numpy).min)

    @property
    def max(self) -> int:
        """The largest number."""
        return int(np.iinfo(self._dtype.numpy).max)

    def __repr__(self):
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
