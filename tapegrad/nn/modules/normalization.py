"""Normalisation layers."""

from __future__ import annotations

import warnings

from tapegrad import creation, dtypes, modes
from tapegrad.nn import functional as F
from tapegrad.nn.modules.module import Module
from tapegrad.nn.modules.weights import Affine, new_parameter


class _Norm(Affine):
    """Running statistics and affine parameters of batch and instance norm."""

    allowed: tuple[int, ...] = ()

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine, self.track_running_stats = num_features, eps, momentum, affine, track_running_stats
        placed = {"device": device, "dtype": dtype}
        self.register_buffer("running_mean", creation.empty(num_features, **placed) if track_running_stats else None)
        self.register_buffer("running_var", creation.empty(num_features, **placed) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", creation.tensor(0, dtype=dtypes.int64) if track_running_stats else None)
        if track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        self._give_parameters((num_features,) if affine else None, (num_features,) if affine and bias else None, device, dtype)

    _version = 2  # since which num_batches_tracked is saved

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.track_running_stats:
            count = self.num_batches_tracked if self.num_batches_tracked is not None else creation.tensor(0, dtype=dtypes.int64)
            state_dict.setdefault(prefix + "num_batches_tracked", count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def reset_running_stats(self):
        """Mean 0 and variance 1 again."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        """Weight 1, bias 0 and the running statistics as they were at first."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_input_dim(self, input):
        if input.dim() not in self.allowed:
            wanted = " or ".join(f"{n}D" for n in self.allowed)
            raise ValueError(f"expected {wanted} input (got {input.dim()}D input)")

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    def forward(self, input):
        """The input normalised per channel."""
        self._check_input_dim(input)
        share = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            with modes.no_grad():
                self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1.0 / self.num_batches_tracked.item()
        of_batch = self.training or (self.running_mean is None and self.running_var is None)
        kept = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        return F.batch_norm(input, mean, var, self.weight, self.bias, of_batch, share, self.eps)


class _InstanceNorm(_Norm):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None, dtype=None, *,
                 bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input):
        """Each sample normalised per channel."""
        self._check_input_dim(input)
        alone = input.dim() == self.allowed[0]
        channel = 0 if alone else 1
        if input.shape[channel] != self.num_features:
            if self.affine:
                found = input.shape[channel]
                raise ValueError(f"expected input's size at dim={channel} to match num_features ({self.num_features}), but got: {found}.")
            warnings.warn(
                f"input's size at dim={channel} does not match num_features. You can silence this warning by not passing in num_features, which is "
                "not used because affine=False",
                UserWarning, stacklevel=2,
            )
        rows = input.unsqueeze(0) if alone else input
        of_input = self.training or not self.track_running_stats
        share = 0.0 if self.momentum is None else self.momentum
        out = F.instance_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, of_input, share, self.eps)
        return out.squeeze(0) if alone else out


class BatchNorm1d(_BatchNorm):
    """`functional.batch_norm` of (N, C, L) or (N, C), with running statistics."""

    allowed = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`functional.batch_norm` of (N, C, H, W), with running statistics."""

    allowed = (4,)


class BatchNorm3d(_BatchNorm):
    """`functional.batch_norm` of (N, C, D, H, W), with running statistics."""

    allowed = (5,)


class InstanceNorm1d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, L)."""

    allowed = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, H, W)."""

    allowed = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, D, H, W)."""

    allowed = (4, 5)


class LayerNorm(Affine):
    """`functional.layer_norm` with learnt weight and bias.

    >>> import tapegrad as tg
    >>> tg.nn.LayerNorm(2)(tg.tensor([1., 3.]))
    tensor([-1.0000,  1.0000], grad_fn=<NativeLayerNormBackward0>)
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        affine = self.normalized_shape if elementwise_affine else None
        self._give_parameters(affine, affine if bias else None, device, dtype)

    def forward(self, input):
        """The input normalised over its last dims."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        bias = self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={bias}"


class RMSNorm(Affine):
    """`functional.rms_norm` with a learnt weight."""

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.register_parameter("weight", new_parameter(*self.normalized_shape, device=device, dtype=dtype) if elementwise_affine else None)
        self.reset_parameters()

    def forward(self, input):
        """The input over its root mean square."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Affine):
    """`functional.group_norm` with learnt weight and bias per channel."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, bias=True):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._give_parameters((num_channels,) if affine else None, (num_channels,) if affine and bias else None, device, dtype)

    def forward(self, input):
        """Groups of channels normalised."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """`functional.local_response_norm`."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
