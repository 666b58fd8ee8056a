"""Batch norm, and the running statistics that it shares with instance norm."""

from __future__ import annotations

from tapegrad import creation, dtypes, modes
from tapegrad.nn import functional as F
from tapegrad.nn.modules.lazy import LazyModuleMixin
from tapegrad.nn.modules.weights import Affine
from tapegrad.nn.parameter import UninitializedBuffer, UninitializedParameter


class _NormBase(Affine):
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


class _BatchNorm(_NormBase):
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


class BatchNorm1d(_BatchNorm):
    """`functional.batch_norm` of (N, C, L) or (N, C), with running statistics."""

    allowed = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`functional.batch_norm` of (N, C, H, W), with running statistics."""

    allowed = (4,)


class BatchNorm3d(_BatchNorm):
    """`functional.batch_norm` of (N, C, D, H, W), with running statistics."""

    allowed = (5,)


# --- of channels that the first input tells ---------------------------------------------------------------------------
class _LazyNormBase(LazyModuleMixin, _NormBase):
    def __init__(self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *, bias=True):
        super().__init__(0, eps, momentum, False, False)
        self.affine, self.track_running_stats = affine, track_running_stats
        placed = {"device": device, "dtype": dtype}
        if affine:
            self.weight = UninitializedParameter(**placed)
            if bias:
                self.bias = UninitializedParameter(**placed)
        if track_running_stats:
            self.running_mean, self.running_var = UninitializedBuffer(**placed), UninitializedBuffer(**placed)
            self.num_batches_tracked = creation.tensor(0, dtype=dtypes.int64)

    def reset_parameters(self):
        """First values again, if the parameters are known."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input):
        """Take num_features from the input."""
        if self.num_features:
            return
        self.num_features = input.shape[1]
        if self.has_uninitialized_params():  # and not loaded
            self._materialized(**dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (self.num_features,)))


class LazyBatchNorm1d(_LazyNormBase, BatchNorm1d):
    """A BatchNorm1d whose num_features are the channels of its first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNormBase, BatchNorm2d):
    """A BatchNorm2d whose num_features are the channels of its first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNormBase, BatchNorm3d):
    """A BatchNorm3d whose num_features are the channels of its first input."""

    cls_to_become = BatchNorm3d
