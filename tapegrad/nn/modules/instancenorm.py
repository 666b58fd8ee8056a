"""Instance norm: every sample normalised on its own."""

from __future__ import annotations

import warnings

from tapegrad.nn import functional as F
from tapegrad.nn.modules.batchnorm import _LazyNormBase, _NormBase


class _InstanceNorm(_NormBase):
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


class InstanceNorm1d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, L)."""

    allowed = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, H, W)."""

    allowed = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """`functional.instance_norm` of (N, C, D, H, W)."""

    allowed = (4, 5)


class LazyInstanceNorm1d(_LazyNormBase, InstanceNorm1d):
    """An InstanceNorm1d whose num_features are the channels of its first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNormBase, InstanceNorm2d):
    """An InstanceNorm2d whose num_features are the channels of its first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNormBase, InstanceNorm3d):
    """An InstanceNorm3d whose num_features are the channels of its first input."""

    cls_to_become = InstanceNorm3d
