"""Differentiable transforms of samples, with inverses and the logarithms of their Jacobians' determinants.

`y = t(x)`, `t.inv(y)`, `t.log_abs_det_jacobian(x, y)`.

>>> import tapegrad as tg
>>> t = AffineTransform(1.0, 2.0)
>>> t(tg.tensor(3.0)), t.inv(tg.tensor(7.0)), t.log_abs_det_jacobian(tg.tensor(3.0), tg.tensor(7.0)).exp()
(tensor(7.), tensor(3.), tensor(2.))
"""

from __future__ import annotations

from tapegrad.distributions.elementwise_transforms import (
    AbsTransform,
    AffineTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    TanhTransform,
)
from tapegrad.distributions.transform import ComposeTransform, IndependentTransform, Transform, identity_transform
from tapegrad.distributions.vector_transforms import (
    CatTransform,
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    ReshapeTransform,
    SoftmaxTransform,
    StackTransform,
    StickBreakingTransform,
)

__all__ = [
    "AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform", "CumulativeDistributionTransform",
    "ExpTransform", "IndependentTransform", "LowerCholeskyTransform", "PositiveDefiniteTransform", "PowerTransform", "ReshapeTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StackTransform", "StickBreakingTransform", "TanhTransform", "Transform",
    "identity_transform",
]  # fmt: skip
