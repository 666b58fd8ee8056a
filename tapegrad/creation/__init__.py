"""Making tensors.

`elements` owns memory and the numbers in it, `data` what is made from Python data and NumPy arrays, `filling` tensors of one number, `ranges`
sequences of numbers and the identity.
"""

from __future__ import annotations

from tapegrad.creation.data import as_tensor, build, from_dlpack, from_numpy, tensor
from tapegrad.creation.elements import (
    check_dtype,
    convert_number,
    empty_of,
    finish,
    from_array,
    made,
    room_for,
    scalar,
    share,
    stored_number,
)
from tapegrad.creation.filling import (
    check_options,
    empty,
    empty_like,
    fill,
    filled,
    full,
    full_like,
    like_strides,
    made_in,
    ones,
    ones_like,
    only_size,
    size_of,
    zeros,
    zeros_like,
)
from tapegrad.creation.ranges import arange, eye, linspace, logspace
