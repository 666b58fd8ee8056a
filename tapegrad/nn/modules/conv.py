"""Convolution layers."""

from __future__ import annotations

from tapegrad.nn import functional as F
from tapegrad.nn.functional.sizes import per_dim
from tapegrad.nn.modules.lazy import LazyModuleMixin
from tapegrad.nn.modules.weights import Projection
from tapegrad.nn.parameter import UninitializedParameter


class _ConvNd(Projection):
    """What all convolutions have, transposed or not."""

    dims = 0

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, transposed, output_padding, groups, bias, padding_mode,
                 device=None, dtype=None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        n = self.dims
        self.in_channels, self.out_channels, self.groups, self.transposed, self.padding_mode = in_channels, out_channels, groups, transposed, padding_mode
        self.kernel_size, self.stride, self.dilation = per_dim(kernel_size, n), per_dim(stride, n), per_dim(dilation, n)
        self.padding = padding if isinstance(padding, str) else per_dim(padding, n)
        self.output_padding = per_dim(output_padding, n)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of { {'same', 'valid'} }")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode must be one of { {'zeros', 'reflect', 'replicate', 'circular'} }, but got padding_mode='{padding_mode}'")
        if isinstance(padding, str):
            total = [d * (k - 1) * (padding == "same") for k, d in zip(self.kernel_size, self.dilation)]
            around = [(t // 2, t - t // 2) for t in total]
        else:
            around = [(p, p) for p in self.padding]
        self._reversed_padding_repeated_twice = [p for pair in around[::-1] for p in pair]
        rows = (in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)
        self._give_parameters((*rows, *self.kernel_size), (out_channels,) if bias else None, device, dtype)

    def extra_repr(self):
        n = self.dims
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, default in (("padding", (0,) * n), ("dilation", (1,) * n), ("output_padding", (0,) * n), ("groups", 1)):
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(_ConvNd):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros",
                 device=None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, False, 0, groups, bias, padding_mode, device, dtype)

    def forward(self, input):
        """The convolution of the input with the weight."""
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return convolve(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return convolve(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """`functional.conv1d` with learnt weight (out, in / groups, K) and bias."""

    dims = 1


class Conv2d(_Conv):
    """`functional.conv2d` with learnt weight (out, in / groups, KH, KW) and bias.

    >>> import tapegrad as tg
    >>> tg.nn.Conv2d(3, 8, 3, padding=1)(tg.ones(2, 3, 5, 5)).shape
    tapegrad.Size([2, 8, 5, 5])
    """

    dims = 2


class Conv3d(_Conv):
    """`functional.conv3d` with learnt weight (out, in / groups, KD, KH, KW) and bias."""

    dims = 3


class _ConvTransposeNd(_ConvNd):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1,
                 padding_mode="zeros", device=None, dtype=None):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, True, output_padding, groups, bias, padding_mode,
                         device, dtype)

    def forward(self, input, output_size=None):
        """The transposed convolution; `output_size` chooses among the sizes that the same input could come from."""
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dims - 1]
        extra = self.output_padding if output_size is None else self._output_padding(input, list(output_size))
        return convolve(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _output_padding(self, input, output_size):
        n = self.dims
        lead = 2 if input.dim() == n + 2 else 1
        if len(output_size) == lead + n:
            output_size = output_size[lead:]
        if len(output_size) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {lead + n} elements (got {len(output_size)})"
            )
        low = [(i - 1) * s - 2 * p + d * (k - 1) + 1
               for i, s, p, d, k in zip(input.shape[lead:], self.stride, self.padding, self.dilation, self.kernel_size)]
        high = [a + s - 1 for a, s in zip(low, self.stride)]
        if any(not a <= size <= b for size, a, b in zip(output_size, low, high)):
            raise ValueError(
                f"requested an output size of {output_size}, but valid sizes range from {low} to {high} (for an input of {input.shape[2:]})"
            )
        return [size - a for size, a in zip(output_size, low)]


class ConvTranspose1d(_ConvTransposeNd):
    """`functional.conv_transpose1d` with learnt weight (in, out / groups, K) and bias."""

    dims = 1


class ConvTranspose2d(_ConvTransposeNd):
    """`functional.conv_transpose2d` with learnt weight (in, out / groups, KH, KW) and bias."""

    dims = 2


class ConvTranspose3d(_ConvTransposeNd):
    """`functional.conv_transpose3d` with learnt weight (in, out / groups, KD, KH, KW) and bias."""

    dims = 3


# --- of channels that the first input tells ---------------------------------------------------------------------------
class _LazyConv(LazyModuleMixin):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros", device=None, dtype=None):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode)
        self._expect(out_channels, bias, device, dtype)

    def _expect(self, out_channels, bias, device, dtype) -> None:
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self):
        """Draw the parameters anew, if they are known."""
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input, *args, **kwargs):
        """Take in_channels from the input."""
        if self.in_channels:
            return
        alone = self.dims + 1
        if input.dim() not in (alone, alone + 1):
            raise RuntimeError(
                f"Expected {alone}D (unbatched) or {alone + 1}D (batched) input to {type(self).__name__}, but got input of size: {input.shape}"
            )
        self.in_channels = input.shape[input.dim() - alone]
        if self.in_channels % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        rows, columns = (self.in_channels, self.out_channels) if self.transposed else (self.out_channels, self.in_channels)
        if self.has_uninitialized_params():  # and not loaded
            self._materialized(weight=(rows, columns // self.groups, *self.kernel_size), bias=(self.out_channels,))


class _LazyConvTranspose(_LazyConv):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True, dilation=1, padding_mode="zeros",
                 device=None, dtype=None):
        LazyModuleMixin.__init__(self, 0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode)
        self._expect(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d):
    """A Conv1d whose in_channels are those of its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A Conv2d whose in_channels are those of its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A Conv3d whose in_channels are those of its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A ConvTranspose1d whose in_channels are those of its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A ConvTranspose2d whose in_channels are those of its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A ConvTranspose3d whose in_channels are those of its first input."""

    cls_to_become = ConvTranspose3d
