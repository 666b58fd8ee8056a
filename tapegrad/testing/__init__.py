"""`tapegrad.testing`: what tests of numerical programs need - `assert_close` and `make_tensor`, as in torch."""

from tapegrad.testing.comparison import assert_allclose, assert_close
from tapegrad.testing.creation import make_tensor

__all__ = ["assert_allclose", "assert_close", "make_tensor"]
