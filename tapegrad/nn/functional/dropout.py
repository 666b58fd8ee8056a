"""Dropout: elements or whole channels set to zero at random, on torch's own random streams."""

from __future__ import annotations

import math
import warnings

from tapegrad import creation, modes
from tapegrad.ops.transformable import look_at
from tapegrad.random.tensors import bernoulli_like

ALPHA = 1.7580993408473766  # minus what a dropped element of a self-normalising network becomes


def _check(p) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _drop(input, p, training, inplace, feature=False, alpha=False):
    if p == 0 or not training or not input.numel():
        return input
    if p == 1:
        return input.mul_(creation.zeros(())) if inplace else input * creation.zeros((), dtype=input.dtype)
    with modes.no_grad():
        if feature and input.dim() < 2:
            raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
        shape = (*input.shape[:2], *[1] * (input.dim() - 2)) if feature else tuple(input.shape)
        fresh = feature or input._level is not None  # under a transform, noise does not follow the input
        noise = bernoulli_like(creation.empty(shape, dtype=input.dtype) if fresh else input, 1 - p)
    if not alpha:
        noise.div_(1 - p)
        return input.mul_(noise) if inplace else input * noise
    scale = 1 / math.sqrt((ALPHA * ALPHA * p + 1) * (1 - p))
    shift = noise.sub(1).mul_(ALPHA * scale).add_(ALPHA * scale * p)
    noise.mul_(scale)
    return input.mul_(noise).add_(shift) if inplace else (input * noise).add_(shift)


def dropout(input, p=0.5, training=True, inplace=False):
    """Elements set to 0 with probability `p`, the others divided by 1 - p; the identity unless `training`.

    >>> import tapegrad as tg
    >>> _ = tg.manual_seed(0)
    >>> tg.nn.functional.dropout(tg.ones(6))
    tensor([0., 0., 2., 0., 0., 0.])
    """
    _check(p)
    look_at("dropout_" if inplace else "dropout", input, p, training)
    return _drop(input, p, training, inplace)


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance of self-normalising networks."""
    _check(p)
    look_at("alpha_dropout_" if inplace else "alpha_dropout", input, p, training)
    return _drop(input, p, training, inplace, alpha=True)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """`alpha_dropout` of whole channels."""
    _check(p)
    look_at("feature_alpha_dropout_" if inplace else "feature_alpha_dropout", input, p, training)
    return _drop(input, p, training, inplace, feature=True, alpha=True)


def _features(input, p, training, inplace):
    look_at("feature_dropout_" if inplace else "feature_dropout", input, p, training)
    return _drop(input, p, training, inplace, feature=True)


def _channels(input, p, training, inplace, batched):
    if batched:
        return _features(input, p, training, inplace)
    out = _features(input.unsqueeze(0), p, training, inplace)
    return input if inplace else out.squeeze(0)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Dropout of whole channels of (C, L) or (N, C, L)."""
    _check(p)
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that dropout1d exists to provide channel-wise dropout on "
            "inputs with 1 spatial dimension, a channel dimension, and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return _channels(input, p, training, inplace, input.dim() == 3)


def _warn_dims(name, ndim, spatial) -> None:
    warnings.warn(
        f"{name}: Received a {ndim}-D input to {name}, which is deprecated and will result in an error in a future release. To retain the behavior and "
        f"silence this warning, please use dropout instead. Note that {name} exists to provide channel-wise dropout on inputs with {spatial} spatial "
        f"dimensions, a channel dimension, and an optional batch dimension (i.e. {spatial + 1}D or {spatial + 2}D inputs).", UserWarning, stacklevel=3,
    )


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Dropout of whole channels of (N, C, H, W)."""
    _check(p)
    if input.dim() not in (3, 4):
        _warn_dims("dropout2d", input.dim(), 2)
    if input.dim() == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - input is interpreted as shape "
            "(N, C, L), where C is the channel dim. This behavior will change in a future release to interpret the input as one without a batch "
            "dimension, i.e. shape (C, H, W). To maintain the 1D channel-wise dropout behavior, please switch to using dropout1d instead.",
            UserWarning, stacklevel=2,
        )
    return _features(input, p, training, inplace)


def dropout3d(input, p=0.5, training=True, inplace=False):
    """Dropout of whole channels of (C, D, H, W) or (N, C, D, H, W)."""
    _check(p)
    if input.dim() not in (4, 5):
        _warn_dims("dropout3d", input.dim(), 3)
    return _channels(input, p, training, inplace, input.dim() == 5)
