"""Connectionist temporal classification: the probability of a sequence of labels, of which the time of each is unknown.

With blanks between the labels, l' = (blank, l_1, blank, ..., l_S, blank), the logarithms alpha_t(s) of the probability of all paths that are at l'_s
at time t follow from those at t - 1 (Graves et al., "Connectionist Temporal Classification", 2006); beta_t(s) those of the rest of the path.
"""

from __future__ import annotations

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd import underived
from tapegrad.autograd.node import record
from tapegrad.nn.functional.loss import reduced
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.choosing import where
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable

WHERE = "(while checking arguments for ctc_loss_allocate_outputs)"


@structural("ctc_loss_op", "CtcLoss")
def ctc_loss_op(node, g):
    """exp(log_probs) minus the share of each label at each time in the probability; as PyTorch's, for log_probs that are a log_softmax."""
    log_probs, a = node.inputs[0], node.attributes
    array, factor = log_probs.detach()._array(), g.detach()._array()
    result = creation.from_array(gradient(array, a.labels, a.input_lengths, a.target_lengths, a.alpha, a.losses, factor, a.zero_infinity), log_probs.dtype)
    if g.requires_grad or log_probs.requires_grad:
        underived.unknown("_ctc_loss_backward", [g, log_probs], [result])
    return result


def log_sum(*terms):
    """log(sum(exp)) of arrays; -inf of nothing but -inf."""
    top = np.max(terms, axis=0)
    top = np.where(np.isneginf(top), 0, top)
    with np.errstate(divide="ignore"):
        return top + np.log(sum(np.exp(term - top) for term in terms))


def moved(array, by: int):
    """Along the last dim, -inf coming in."""
    result = np.full_like(array, -np.inf)
    if by > 0:
        result[:, by:] = array[:, :-by]
    else:
        result[:, :by] = array[:, -by:]
    return result


def with_blanks(targets, blank: int):
    labels = np.full((len(targets), 2 * targets.shape[1] + 1), blank)
    labels[:, 1::2] = targets
    return labels


def forward(log_probs, labels, input_lengths, target_lengths):
    """(alpha, (time, batch, 2 S + 1); minus the logarithm of the probabilities, (batch,))."""
    steps, batch, _ = log_probs.shape
    rows = np.arange(batch)
    emitted = np.take_along_axis(log_probs, np.broadcast_to(labels, (steps, *labels.shape)), 2)
    alpha = np.full(emitted.shape, -np.inf, log_probs.dtype)
    skips = np.zeros(labels.shape, bool)
    skips[:, 2:] = labels[:, 2:] != labels[:, :-2]
    if steps:
        alpha[0, :, 0] = emitted[0, :, 0]
        if labels.shape[1] > 1:
            alpha[0, :, 1] = np.where(target_lengths > 0, emitted[0, :, 1], -np.inf)
    for t in range(1, steps):
        before = alpha[t - 1]
        alpha[t] = log_sum(before, moved(before, 1), np.where(skips, moved(before, 2), -np.inf)) + emitted[t]
    last = alpha[input_lengths - 1, rows] if steps else alpha.sum(0)
    ends = last[rows, 2 * target_lengths], np.where(target_lengths > 0, last[rows, 2 * target_lengths - 1], -np.inf)
    nothing = np.where(target_lengths == 0, 0.0, np.inf)
    return alpha, np.where(input_lengths == 0, nothing, -log_sum(*ends)).astype(log_probs.dtype)


def gradient(log_probs, labels, input_lengths, target_lengths, alpha, losses, factor, zero_infinity):
    steps, batch, _ = log_probs.shape
    rows = np.arange(batch)
    shares = np.full(log_probs.shape, -np.inf, log_probs.dtype)
    skips = np.zeros(labels.shape, bool)
    skips[:, :-2] = labels[:, 2:] != labels[:, :-2]
    within = np.arange(labels.shape[1]) <= 2 * target_lengths[:, None]
    ends = within & (np.arange(labels.shape[1]) >= np.maximum(2 * target_lengths - 1, 0)[:, None])
    beta = np.full(labels.shape, -np.inf, log_probs.dtype)
    for t in range(steps - 1, -1, -1):
        emitted = log_probs[t][rows[:, None], labels]
        carried = log_sum(beta, moved(beta, -1), np.where(skips, moved(beta, -2), -np.inf)) + emitted
        beta = np.where((t == input_lengths - 1)[:, None], np.where(ends, emitted, -np.inf), np.where(within, carried, -np.inf))
        beta = np.where((t < input_lengths)[:, None], beta, -np.inf)
        np.logaddexp.at(shares[t], (rows[:, None], labels), alpha[t] + beta)
    with np.errstate(invalid="ignore", over="ignore"):
        result = (np.exp(log_probs) - np.exp(shares + losses[:, None] - log_probs)) * factor[:, None]
    if zero_infinity:
        result[:, np.isposinf(losses)] = 0
    result[np.arange(steps)[:, None] >= input_lengths] = 0
    return result


def integers(name: str, lengths, batch: int):
    """Lengths as an array of (batch,)."""
    if hasattr(lengths, "_slot"):
        if lengths.dtype.category > dtypes.INTEGER or lengths.dtype is dtypes.bool_:
            raise RuntimeError(f"{name} must be integral")
        lengths = lengths.detach().numpy().reshape(-1)
    array = np.asarray(lengths, np.int64)
    if array.shape != (batch,):
        raise RuntimeError(f"{name} must be of size batch_size")
    return array


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """Minus the logarithm of the probability of `targets` under `log_probs`, whatever the times of the labels.

    log_probs: (T, N, C) or (T, C), logarithms of probabilities (of `log_softmax`), float32 or float64.  targets: (N, S), or all of them one after
    the other, labels other than `blank`.  input_lengths, target_lengths: (N,), tensors or sequences of ints.
    reduction: "none", "sum", or "mean" of the losses each over its target's length.  zero_infinity: 0, with gradient 0, where no path is long enough.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    for argument in (log_probs, targets):
        if not hasattr(argument, "_slot"):
            kinds = ", ".join(type(x).__name__ for x in (log_probs, targets, input_lengths, target_lengths))
            raise TypeError(f"ctc_loss() received an invalid combination of arguments - got ({kinds}), but log_probs and targets must be Tensors")
    batched = log_probs.ndim == 3
    if log_probs.numel() == 0:
        raise RuntimeError("log_probs tensor must not be empty")
    if not log_probs.dtype.is_floating_point or log_probs.dtype.reduced:
        raise no_kernel("ctc_loss_cpu", log_probs.dtype)
    probs = log_probs if batched else log_probs.unsqueeze(1)
    if probs.ndim != 3:
        raise RuntimeError(f"Expected 3-dimensional tensor, but got {probs.ndim}-dimensional tensor for argument #1 'log_probs' {WHERE}")
    steps, batch, classes = probs.shape
    input_lengths, target_lengths = integers("input_lengths", input_lengths, batch), integers("target_lengths", target_lengths, batch)
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    if not batched and targets.ndim == 1:
        targets = targets.unsqueeze(0)
    if not 1 <= targets.ndim <= 2:
        raise RuntimeError(f"Expected 1 to 2 dimensions, but got {targets.ndim}-dimensional tensor for argument #2 'targets' {WHERE}")
    for name, lengths, most in (("input_lengths", input_lengths, steps), ("target_lengths", target_lengths, None)):
        if lengths.min() < 0:
            raise RuntimeError(f"Expected {name} to have value at least 0, but got value {lengths.min()} {WHERE}")
        if most is not None and lengths.max() > most:
            raise RuntimeError(f"Expected {name} to have value at most {most}, but got value {lengths.max()} {WHERE}")
    given, longest = targets.detach().numpy().astype(np.int64), int(target_lengths.max())
    if targets.ndim == 1:
        if len(given) != target_lengths.sum():
            raise RuntimeError(f"Expected tensor to have size {target_lengths.sum()} at dimension 0, but got size {len(given)} for argument #2 'targets' {WHERE}")
        rows = np.full((batch, longest), blank)
        rows[np.arange(longest) < target_lengths[:, None]] = given
    elif given.shape[1] < longest:
        raise RuntimeError(f"Expected tensor to have size at least {longest} at dimension 1, but got size {given.shape[1]} for argument #2 'targets' {WHERE}")
    else:
        rows = np.where(np.arange(longest) < target_lengths[:, None], given[:, :longest], blank)
    if rows.size and not 0 <= rows.min() <= rows.max() < classes:
        raise RuntimeError(f"Expected targets to have values from 0 to {classes - 1}, but got values from {rows.min()} to {rows.max()} {WHERE}")
    result = losses(probs, with_blanks(rows, blank), input_lengths, target_lengths, bool(zero_infinity))
    if zero_infinity:
        result = where(result.detach() == float("inf"), 0.0, result)
    if reduction == "mean":
        result = result / creation.from_array(np.maximum(target_lengths, 1), dtypes.int64).to(result.dtype)
    return reduced(result if batched or reduction != "none" else result.squeeze(0), reduction)


@transformable()
def losses(log_probs, labels, input_lengths, target_lengths, zero_infinity):
    """The loss of each sequence."""
    alpha, found = forward(log_probs.detach()._array(), labels, input_lengths, target_lengths)
    result = creation.from_array(found, log_probs.dtype)
    plan = plans.Parameters(ctc_loss_op, labels=labels, input_lengths=input_lengths, target_lengths=target_lengths, alpha=alpha, losses=found, zero_infinity=zero_infinity)
    record(ctc_loss_op, [log_probs], [result], plan, saves=0b1)
    return result
