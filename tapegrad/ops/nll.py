"""The negative log-likelihood: minus the weight at each target's place times the log-probability there, one kernel forward and one back."""

from __future__ import annotations

import functools
import math

from tapegrad import dtypes, geometry, modes
from tapegrad.engine.layout import AS_IS, SWEEP_APPLY, SWEEP_PYTHON
from tapegrad.ops import loops, moves
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable

# p: classes, elements inside the dim of classes, the target that is ignored, how many targets.  The kernels' other operands are the
# log-probabilities (back: the gradient), the targets and, if there are any, the weights of the classes.
HEAD = """
def kernel(args, start, stop):
    p = load_i64(args - 8)
    classes = load_i64(p)
    inner = load_i64(p + 8)
    ignored = load_i64(p + 16)
    n = load_i64(p + 24)
    result = load_i64(args)
    source = load_i64(args + 8)
    targets = load_i64(args + 16)
    {weights}
    total = wide(0)
"""
PLACE = "(r // inner * classes + t) * inner + r % inner"
FORWARD = HEAD + """
    for r in range(n):
        t = get_{I}(targets, r)
        if (t != ignored) & ((t < 0) | (t >= classes)):
            store_i64(p - 8, 1)
            return
    loss = wide(0)
    for r in range(n):
        t = get_{I}(targets, r)
        value = real(0)
        if t != ignored:
            value = -get_{T}(source, {place}) * {weight}
            total = total + {weight}
        loss = loss + value
        {each}
    {finish}
"""
BACK = HEAD + """
    for k in range(n * classes):
        put_{T}(result, k, 0)
    {total}
    for r in range(n):
        t = get_{I}(targets, r)
        if t != ignored:
            put_{T}(result, {place}, {g} * {weight})
"""
TOTAL = """for r in range(n):
        t = get_{I}(targets, r)
        if t != ignored:
            total = total + {weight}
"""


@functools.cache
def kernel(text: str, reduction: str, weighted: bool, d, index) -> int:
    """The address of the kernel `text` for log-probabilities of `d` and targets of `index`."""
    parts = {
        "{weights}": "weights = load_i64(args + 24)" if weighted else "",
        "{total}": TOTAL if reduction == "mean" else "",
        "{each}": "put_{T}(result, r, value)" if reduction == "none" else "",
        "{finish}": {"none": "", "sum": "put_{T}(result, 0, real(loss))", "mean": "put_{T}(result, 0, real(loss / total))"}[reduction],
        "{g}": {"none": "-get_{T}(source, r)", "sum": "-get_{T}(source, 0)", "mean": "-(get_{T}(source, 0) / real(total))"}[reduction],
        "{weight}": "get_{T}(weights, t)" if weighted else "real(1)",
        "{place}": PLACE, "{T}": d.name, "{I}": index.name,
    }  # fmt: skip
    for name, part in parts.items():
        text = text.replace(name, part)
    return loops.compiled(text, d, d, extra=(index.name,))


@structural("nll_loss", "NllLoss", flat=True)
def nll_op(node, g, *_):
    """nll_loss: minus the weight at each target's place."""
    from tapegrad.creation import zeros

    a = node.attributes
    target, *weight = node.inputs[1:]
    scale, ignored, safe = scales(target, weight[0] if weight else None, a.ignore_index, g.dtype)
    g = -(g if a.reduction == "none" else (g / scale.sum() if a.reduction == "mean" else g).expand(target.shape))
    g = (g * scale).masked_fill(ignored, 0)
    return zeros(a.shape, dtype=g.dtype).scatter(a.dim, safe.unsqueeze(a.dim), g.unsqueeze(a.dim)), None, *[None] * len(weight)


def scales(target, weight, ignore_index, dtype):
    """The weight of every target (0 where it is ignored), which are ignored, and the targets with 0 in their place."""
    ignored = target == ignore_index
    safe = target.to(dtypes.int64).masked_fill(ignored, 0)
    scale = (safe == safe).to(dtype) if weight is None else weight[safe]
    return scale.masked_fill(ignored, 0), ignored, safe


def nll_of_samples(level, f, x, target, weight, reduction, ignore_index, dim, graph_name):
    """The batch rule of nll: in other ops."""
    scale, ignored, safe = scales(target, weight, ignore_index, x.dtype)
    loss = -(x.gather(dim, safe.unsqueeze(dim)).squeeze(dim) * scale).masked_fill(ignored, 0)
    return loss if reduction == "none" else loss.sum() / scale.sum() if reduction == "mean" else loss.sum()


@transformable(nll_of_samples, "x")
def nll(x, target, weight, reduction, ignore_index, dim, graph_name):
    """-weight[target] * x[target] along `dim`, reduced; "mean" divides by the sum of the weights."""
    d, kind = x.dtype, target.dtype
    if not d.is_floating_point:
        raise no_kernel(f"nll_loss{'2d' if x.ndim > 2 else ''}_out_frame", d)
    if weight is not None:
        if weight.dtype is not d:
            raise RuntimeError(f"expected scalar type {d.scalar_name} but found {weight.dtype.scalar_name}")
        if weight.requires_grad and modes.word() & modes.GRAD:
            raise RuntimeError(
                f"The function 'nll_loss{'2d' if x.ndim > 2 else ''}_forward' is not differentiable with respect to argument 'weight'. This input "
                "cannot have requires_grad True."
            )
    tensors = [x, target] if weight is None else [x, target, weight]

    def make():
        shape, weighted = tuple(x.shape), weight is not None
        args = (shape[dim], math.prod(shape[dim + 1 :]), ignore_index, target.numel())
        packs = [moves.pack(t) for t in tensors]
        back = plans.Plan(nll_op, [(geometry.geometry(shape), d.code)], kernel=kernel(BACK, reduction, weighted, d, kind), n=1, args=args,
                          cost=2 * x.numel(), operands=(1, *range(3, 2 + len(tensors))), packs=[AS_IS, *packs[1:]])
        rules = [(SWEEP_APPLY, back), *[(SWEEP_PYTHON, 0)] * (len(tensors) - 1)]
        out = geometry.geometry(tuple(target.shape) if reduction == "none" else ())
        return plans.Plan(nll_op, [(out, d.code)], kernel=kernel(FORWARD, reduction, weighted, d, kind), n=1, args=args, cost=4 * target.numel(),
                          rules=rules, packs=packs, saves=0b10 if weight is None else 0b110, graph_name=graph_name, shape=shape, dim=dim, reduction=reduction,
                          ignore_index=ignore_index)

    def refused():
        known = ((target >= 0) & (target < x.shape[dim])) | (target == ignore_index)
        raise IndexError(f"Target {target[~known][0].item()} is out of bounds.")

    return plans.run(nll_op, tensors, (reduction, ignore_index, dim), make, refused)
