"""Losses."""

from __future__ import annotations

import math

from tapegrad import creation, dtypes, geometry
from tapegrad.cautions import warn
from tapegrad.nn.functional.activation import logsigmoid
from tapegrad.nn.functional.distance import pairwise_distance
from tapegrad.ops import losses, nll
from tapegrad.ops.checks import no_bool_neg, no_kernel
from tapegrad.ops.choosing import where
from tapegrad.ops.composite import composite
from tapegrad.ops.transformable import look_at


# --- reductions -----------------------------------------------------------------------------------------------------
def chosen_reduction(size_average, reduce, reduction):
    """The reduction by name; the arguments that came before it in torch's history are translated with a warning."""
    if size_average is not None or reduce is not None:
        average, reduces = size_average is None or size_average, reduce is None or reduce
        reduction = "mean" if average and reduces else "sum" if reduces else "none"
        warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=4)
    if reduction not in ("none", "mean", "sum"):
        if reduction == "elementwise_mean":
            warn("reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.", stacklevel=4)
            return "mean"
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(loss, reduction):
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def check_sizes(input, target) -> None:
    if target.size() != input.size():
        warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to incorrect results due "
            "to broadcasting. Please ensure they have the same size.", stacklevel=3,
        )


def weighted(errors, input, weight, reduction, divisor=None):
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    total = errors * weight
    if reduction == "mean":
        return total.sum() / divisor if divisor is not None else total.mean()
    return reduced(total, reduction)


# --- regression -----------------------------------------------------------------------------------------------------
def broadcast(input, target):
    if input.size() == target.size():
        return input, target
    shape = geometry.broadcast_shapes(tuple(input.shape), tuple(target.shape))
    return input.expand(shape), target.expand(shape)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(input - target)^2, averaged, summed or as it is; `weight` weighs each element.

    >>> import tapegrad as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1., 2.]), tg.tensor([1., 4.]))
    tensor(2.)
    """
    check_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    x, y = broadcast(input, target)
    look_at("mse_loss", input, target, 1)
    return losses.mse_loss(x, y, reduction) if weight is None else weighted((x - y) ** 2, input, weight, reduction, weight.sum())


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|input - target|, reduced."""
    check_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    x, y = broadcast(input, target)
    errors = (x - y).abs()
    return reduced(errors, reduction) if weight is None else weighted(errors, input, weight, reduction, weight.sum())


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """(input - target)^2 / (2 beta) where the difference is below beta, |input - target| - beta / 2 elsewhere, reduced."""
    check_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    x, y = broadcast(input, target)
    look_at("smooth_l1_loss", input, target, 1, beta)
    if beta == 0:
        return reduced((x - y).abs(), reduction)
    if not beta >= 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return losses.smooth_l1_loss(x, y, reduction, beta)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """(input - target)^2 / 2 where the difference is below delta, delta (|input - target| - delta / 2) elsewhere, reduced."""
    check_sizes(input, target)
    x, y = broadcast(input, target)
    look_at("huber_loss", input, target, 1, delta)
    if not delta > 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    if weight is not None:
        return weighted(losses.huber_loss(x, y, "none", delta), input, weight, reduction)
    return losses.huber_loss(x, y, chosen_reduction(None, None, reduction), delta)


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """exp(input) - target input (or input - target log(input + eps)), reduced; `full` adds Stirling's approximation of log(target!)."""
    if reduction not in ("none", "mean", "sum") and size_average is None and reduce is None:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("poisson_nll_loss", input, target, log_input, full, eps, 1)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """(log(var) + (input - target)^2 / var) / 2, reduced; `full` adds log(2 pi) / 2."""
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * creation.ones_like(input)
    elif (var < 0).any():
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif not (input.dim() == var.ndim and sum(b for a, b in zip(input.shape, var.shape) if a != b) == 1):
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    from tapegrad import modes

    var = var.clone()
    with modes.no_grad():
        var.clamp_(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# --- probabilities --------------------------------------------------------------------------------------------------
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target (log(target) - input), the divergence of input (log-probabilities) from target, reduced; "batchmean" sums and divides by the batch."""
    if size_average is None and reduce is None:
        if reduction == "mean":
            warn(
                "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' divides only by the batch size, and "
                "aligns with the KL div math definition.'mean' will be changed to behave the same as 'batchmean' in the next major release.",
                stacklevel=2,
            )
    kind = "sum" if reduction == "batchmean" else chosen_reduction(size_average, reduce, reduction)
    look_at("kl_div", input, target, 1, log_target=log_target)
    for x in (input, target):
        if not x.dtype.is_floating_point:
            raise RuntimeError(f"kl_div: {'Complex' if x.dtype.is_complex else 'Integral'} inputs not supported.")
    each = target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    result = reduced(each, kind)
    return result / input.shape[0] if reduction == "batchmean" and input.dim() else result


@composite("weighted_binary_cross_entropy", "BinaryCrossEntropy")
def _weighted_bce(input, target, weight, *, reduction):
    return reduced(losses.binary_cross_entropy(input, target, "none") * weight, reduction)


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(target log(input) + (1 - target) log(1 - input)), reduced; input in [0, 1]."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    if target.size() != input.size():
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please ensure they have the same "
            "size."
        )
    look_at("binary_cross_entropy", input, target, weight, 1)
    if target.dtype is not input.dtype:
        raise RuntimeError(f"Found dtype {target.dtype.scalar_name} but expected {input.dtype.scalar_name}")
    if weight is None:
        return losses.binary_cross_entropy(input, target, reduction)
    weight = weight.expand(geometry.broadcast_shapes(tuple(target.shape), tuple(weight.shape)))
    return _weighted_bce(input, target, weight, reduction=reduction)


@composite("weighted_binary_cross_entropy_with_logits", "BinaryCrossEntropyWithLogits")
def _weighted_bce_with_logits(input, target, weight, pos_weight, *, reduction):
    scale = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * input - scale * logsigmoid(input)
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """Binary cross entropy of sigmoid(input), computed without overflow; pos_weight weighs the positive targets."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    if target.size() != input.size():
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    look_at("binary_cross_entropy_with_logits", input, target, weight, pos_weight, 1)
    if input.dtype.category <= dtypes.INTEGER:
        raise no_kernel("log_sigmoid_cpu", input.dtype)
    if weight is None and pos_weight is None:
        return losses.binary_cross_entropy_with_logits(input, target, reduction)
    return _weighted_bce_with_logits(input, target, weight, pos_weight, reduction=reduction)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-weight[target] input[target] per sample: input (C,), (N, C) or (N, C, ...) log-probabilities, target the class numbers."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("nll_loss_nd", input, target, weight, 1, ignore_index)
    n = input.dim()
    if n < 1:
        raise ValueError(f"Expected 1 or more dimensions (got {n})")
    if n != 1 and input.shape[0] != (target.shape[0] if target.dim() else 1):
        raise ValueError(f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0] if target.dim() else 1}).")
    if n in (1, 2) and target.dim() > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {target.dtype.scalar_name}")
    dim = 0 if n == 1 else 1
    if n > 2:
        wanted = (input.shape[0], *input.shape[2:])
        if tuple(target.shape) != wanted:
            if n == 4 and target.dim() == 3:
                raise RuntimeError(f"size mismatch (got input: {list(input.shape)} , target: {list(target.shape)}")
            raise RuntimeError(f"Expected target size {list(wanted)}, got {list(target.shape)}")
    classes = input.shape[dim]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of shape: {list(weight.shape)}"
        )
    if n == 1:
        if target.dim() == 1 and target.shape[0] != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target.shape[0]}")
        target = target.reshape(())
    return nll.nll(input, target, weight, reduction, ignore_index, dim, "NllLossBackward0" if n <= 2 else "NllLoss2DBackward0")


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """nll_loss of log_softmax(input); the target may hold class probabilities instead of class numbers.

    >>> import tapegrad as tg
    >>> tg.nn.functional.cross_entropy(tg.zeros(1, 4), tg.tensor([2]))
    tensor(1.3863)
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("cross_entropy_loss", input, target, weight, 1, ignore_index, label_smoothing)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    dim = 0 if input.dim() == 1 else 1
    if input.size() == target.size():
        if not target.dtype.is_floating_point:
            raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype.scalar_name}")
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _soft_targets(input.log_softmax(dim), target, weight, reduction, label_smoothing, dim)
    logs = input.log_softmax(dim)
    loss = nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
    return _smoothed(logs, loss, target, weight, ignore_index, reduction, label_smoothing, dim) if label_smoothing else loss


def _per_class(weight, ndim, dim):
    shape = [1] * ndim
    shape[dim] = -1
    return weight.reshape(shape)


def _soft_targets(logs, target, weight, reduction, smoothing, dim):
    classes = logs.shape[dim]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of shape: "
            f"{list(weight.shape)}"
        )
    if smoothing:
        target = target * (1 - smoothing) + smoothing / max(classes, 1)
    each = logs * target if weight is None else logs * target * _per_class(weight, logs.ndim, dim)
    if reduction == "none":
        return -each.sum(dim)
    if not logs.numel():
        return -each.sum() * (1 if reduction == "sum" else float("nan"))
    return -each.sum() if reduction == "sum" else -each.sum() / (logs.numel() // classes)


def _smoothed(logs, loss, target, weight, ignore_index, reduction, smoothing, dim):
    """Label smoothing: a part of the target spread evenly over all classes."""
    classes = logs.shape[dim]
    smooth = -(logs if weight is None else logs * _per_class(weight, logs.ndim, dim)).sum(dim)
    kept = target.reshape(smooth.shape) != ignore_index
    smooth = smooth.masked_fill(~kept, 0.0)
    if reduction == "sum":
        smooth = smooth.sum()
    elif reduction == "mean":
        if weight is None:
            smooth = smooth.sum() / kept.sum().to(logs.dtype)
        else:
            held = weight[target.masked_fill(~kept, 0)].reshape(smooth.shape)
            smooth = smooth.sum() / held.masked_fill(~kept, 0.0).sum()
    return loss * (1 - smoothing) + smooth * (smoothing / classes)


# --- margins --------------------------------------------------------------------------------------------------------
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target (input1 - input2) + margin), reduced."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    if input1.dim() != input2.dim() or input1.dim() != target.dim():
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.shape}, input2: {input2.shape}, "
            f"target: {target.shape} "
        )
    look_at("margin_ranking_loss", input1, input2, target, margin, 1)
    return reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """input where target is 1, max(0, margin - input) where it is -1, reduced."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("hinge_embedding_loss", input, target, margin, 1)
    zero = creation.zeros_like(input).detach()
    apart, near = where(target != 1, (margin - input).clamp_min(0), zero), where(target != -1, input, zero)
    return reduced(apart + near, reduction)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target input)), reduced."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("soft_margin_loss", input, target, 1)
    if input.dtype is dtypes.bool_:
        no_bool_neg(None, [input])
    geometry.broadcast_shapes(tuple(input.shape), tuple(target.shape))
    if target.dim() > input.dim() or any(s != 1 and s != r for s, r in zip(reversed(target.shape), reversed(input.shape))):
        whole = geometry.broadcast_shapes(tuple(input.shape), tuple(target.shape))
        raise RuntimeError(f"output with shape {list(input.shape)} doesn't match the broadcast shape {list(whole)}")
    return losses.soft_margin_loss(*broadcast(input, target), reduction)


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross entropy of sigmoid(input), averaged over the classes (the last dim), reduced."""
    if size_average is not None or reduce is not None:
        reduction = chosen_reduction(size_average, reduce, reduction)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    loss = loss.sum(-1) / input.size(-1)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    return reduced(loss, reduction)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1, reduced."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    look_at("cosine_embedding_loss", input1, input2, target, margin, 1)
    if target.dim() not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.dim() == 1:
        if input1.dim() != 2:
            raise RuntimeError(f"1D target tensor expects 2D input tensors, but found inputs with sizes {list(input1.shape)} and {list(input2.shape)}.")
    elif input1.dim() != 1:
        raise RuntimeError(f"0D target tensor expects 1D input tensors, but found inputs with sizes {list(input1.shape)} and {list(input2.shape)}.")
    dim, eps = target.dim(), 1e-12
    product = (input1 * input2).sum(dim)
    cosine = product / (((input1 * input1).sum(dim) + eps) * ((input2 * input2).sum(dim) + eps)).sqrt()
    zero = creation.zeros_like(cosine).detach()
    near, apart = where(target == 1, 1 - cosine, zero), where(target == -1, (cosine - margin).clamp_min(0), zero)
    return reduced(near + apart, reduction)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
    """max(0, |anchor - positive|_p - |anchor - negative|_p + margin), reduced."""
    look_at("triplet_margin_loss", anchor, positive, negative, margin, p, eps, swap, 1)
    reduction = chosen_reduction(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    return _triplet(anchor, positive, negative, lambda a, b: pairwise_distance(a, b, p, eps), margin, swap, reduction)


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
    """`triplet_margin_loss` with any distance."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(anchor, positive, negative, distance, margin, swap, reduction):
    if not anchor.dim() == positive.dim() == negative.dim():
        raise RuntimeError(
            f"The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor {anchor.dim()}D, positive "
            f"{positive.dim()}D, and negative {negative.dim()}D inputs"
        )
    near, apart = distance(anchor, positive), distance(anchor, negative)
    if swap:
        apart = apart.minimum(distance(positive, negative))
    return reduced((margin + near - apart).clamp_min(0), reduction)


@composite("multi_margin_loss", "MultiMarginLoss")
def _multi_margin(input, weight, *, target, p, margin, reduction):
    rows = input if input.dim() == 2 else input.reshape(1, -1)
    index = target.reshape(-1, 1)
    own = rows.gather(1, index)
    each = (margin - own + rows).clamp_min(0)
    each = each * each if p == 2 else each
    if weight is not None:
        each = each * weight[index]
    apart = creation.ones_like(each).detach().scatter(1, index, creation.zeros_like(own).detach())
    loss = (each * apart).sum(1) / rows.shape[1]
    return reduced(loss.reshape(target.shape), reduction)


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """sum_j max(0, margin - input[target] + input[j])^p / C over the other classes j, reduced."""
    look_at("multi_margin_loss", input, target, p, margin, weight, 1)
    reduction = chosen_reduction(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.dim() != 1:
        raise ValueError("weight must be one-dimensional")
    if input.dim() > 2 or input.dim() and not input.shape[-1]:
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    rows = input.shape[0] if input.dim() == 2 else 1
    if target.dim() > 1 or target.numel() != rows:
        raise RuntimeError(
            "multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples (batch size). Expected target size "
            f"[{rows}], but got {list(target.shape)}. Input has shape {list(input.shape)}."
        )
    if not input.dtype.is_floating_point:
        raise no_kernel("multi_margin_loss_cpu_kernel", input.dtype)
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.scalar_name}")
    if bool(((target < 0) | (target >= (input.shape[-1] if input.dim() else 1))).any()):
        raise RuntimeError("target out of range")
    return _multi_margin(input, weight, target=target, p=p, margin=margin, reduction=reduction)


@composite("multilabel_margin_loss", "MultilabelMarginLoss")
def _multilabel_margin(input, *, target, reduction):
    rows = input.reshape(-1, input.shape[-1] if input.dim() else 1)
    labels = target.reshape(rows.shape)
    listed = (labels < 0).long().cumsum(1) == 0  # the labels of a row end at its first -1
    wanted = creation.zeros(rows.shape, dtype=rows.dtype).scatter_add(1, labels.clamp_min(0), listed.to(rows.dtype)) > 0
    each = (1 - rows.gather(1, labels.clamp_min(0)).unsqueeze(2) + rows.unsqueeze(1)).clamp_min(0)
    counted = listed.unsqueeze(2) & ~wanted.unsqueeze(1)
    loss = each.masked_fill(~counted, 0.0).sum((1, 2)) / rows.shape[1]
    return reduced(loss.reshape(input.shape[:-1]), reduction)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """sum of max(0, 1 - (input[j] - input[i])) / C over labels j and other classes i, reduced; a row of `target` lists labels up to -1."""
    look_at("multilabel_margin_loss", input, target, 1)
    reduction = chosen_reduction(size_average, reduce, reduction)
    if input.dim() > 2 or input.dim() and not input.shape[-1]:
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    if target.size() != input.size() and not (input.numel() == target.numel() == 1):
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    return _multilabel_margin(input, target=target, reduction=reduction)
