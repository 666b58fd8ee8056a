"""Making tensors.

`elements` owns memory and the numbers in it, `data` what is made from Python data, `buffers` what
shares memory with other objects, `filling` tensors of one number, `ranges` sequences of numbers and the identity, `windows` the windows of spectra.
"""

from __future__ import annotations

from tapegrad.creation.buffers import as_tensor, asarray, from_dlpack, from_numpy, frombuffer
from tapegrad.creation.data import build, tensor
from tapegrad.creation.elements import (
    check_dtype,
    convert_number,
    empty_of,
    finish,
    from_array,
    made,
    numbers,
    refuse_pinned,
    room_for,
    scalar,
    share,
    stored_number,
)
from tapegrad.creation.filling import (
    check_options,
    empty,
    empty_like,
    empty_strided,
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
from tapegrad.creation.windows import hann_window
