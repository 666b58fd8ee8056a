"""Linear maps: linear, bilinear; distances between vectors."""

from __future__ import annotations

import math

from tapegrad.ops.linear import addmm
from tapegrad.ops.transformable import checked_in_nn, look_at
from tapegrad.ops.views import tensor_argument


def linear(input, weight, bias=None):
    """input @ weight.T + bias.  input: (..., in), weight: (out, in), bias: (out,); the result is (..., out).

    >>> import tapegrad as tg
    >>> tg.nn.functional.linear(tg.ones(1, 2), tg.tensor([[1., 2.], [3., 4.]]), tg.tensor([0., 1.]))
    tensor([[3., 8.]])
    """
    try:
        return product(input, weight, bias)
    except (AttributeError, TypeError):  # after the fact, as a look at every call would cost a tenth of a small one
        look_at("linear", input, weight, bias)
        raise


def product(input, weight, bias):
    ndim = tensor_argument("linear", input).ndim
    if not ndim or not weight.dim():
        raise RuntimeError(f"both arguments to linear need to be at least 1D, but they are {ndim}D and {weight.dim()}D")
    if bias is None:
        return input.matmul(weight.t())
    if ndim == 2:
        return bias.addmm(input, weight.t())
    if (ndim == 1 or input.is_contiguous()) and weight.dim() == 2:
        flat = addmm(bias, input.view(-1, input.shape[-1]) if input.shape[-1] else input.view(math.prod(input.shape[:-1]), 0), weight.t())
        return flat.view(*input.shape[:-1], weight.shape[0])
    return input.matmul(weight.t()) + bias


@checked_in_nn("bilinear")
def bilinear(input1, input2, weight, bias=None):
    """x1^T A_k x2 + b_k for every k: weight (out, in1, in2), inputs (..., in1) and (..., in2)."""
    if input1.dim() != input2.dim():
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {input1.dim()} and {input2.dim()}")
    for k in range(input1.dim() - 1):
        if input1.shape[k] != input2.shape[k]:
            raise RuntimeError(f"bilinear(): input batch dimensions do not match at dim {k}: got {input1.shape[k]} and {input2.shape[k]}")
    for k, x in ((1, input1), (2, input2)):
        if x.shape[-1] != weight.shape[k]:
            raise RuntimeError(f"bilinear(): input{k} size does not match weight size: got {x.shape[-1]} but expected {weight.shape[k]}")
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise RuntimeError(f"bilinear(): bias size does not match weight size: got {bias.shape[0]} but expected {weight.shape[0]}")
    kinds = [x.dtype for x in (input1, input2, weight, *(() if bias is None else (bias,)))]
    if any(d is not kinds[0] for d in kinds):
        named = ", ".join(f"{name}: {d.short}" for name, d in zip(("input1", "input2", "weight", "bias"), kinds))
        raise RuntimeError(f"All tensors must have the same dtype, got {named}")
    shape = tuple(input1.shape[:-1])
    a, b = input1.reshape(-1, weight.shape[1]), input2.reshape(-1, weight.shape[2])
    out, first, second = weight.shape
    middle = a.mm(weight.permute(1, 0, 2).reshape(first, out * second)).reshape(-1, out, second)
    result = (middle * b.unsqueeze(1)).sum(2).reshape(*shape, out)
    return result if bias is None else result + bias
