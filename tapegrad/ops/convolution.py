"""Convolutions of any number of dims: windows laid out as columns, then one matrix product per sample and group.

Convolution is linear in the input x and in the weight w.  The inner product of a convolution with g is a form in (x, w, g); its derivatives
in x and w are the other two ops here, and the derivatives of those are among the three again, so every order exists.  Gradients of complex
tensors are conjugate: the operand that stays is conjugated.
"""

from __future__ import annotations

import math

import numpy as np

from tapegrad import creation
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops.complexes import conj_physical
from tapegrad.ops.layouts import format_of, laid_as
from tapegrad.ops.registry import structural
from tapegrad.ops.transformable import transformable


def columns(x, window, groups):
    """(N, groups, channels * kernel, places) of an array (N, C, ...)."""
    cut = window.cut(x)
    n = len(window.kernel)
    places = math.prod(cut.shape[cut.ndim - n :])
    return cut.reshape(x.shape[0], groups, x.shape[1] // groups * math.prod(window.kernel), places)


def split(a, groups):
    """A weight (O, C / groups, *kernel) as (groups, O / groups, C / groups * kernel)."""
    return a.reshape(groups, a.shape[0] // groups, -1)


def finished(values, x, op, inputs, **parameters):
    out = laid_as(x, values, form=format_of(x) or format_of(inputs[1]))
    differentiable = -1 if x.dtype.is_floating_point or x.dtype.is_complex else 0
    record(op, inputs, [out], plans.Parameters(op, **parameters), 0b11, differentiable)
    return out


def folded(level, t):
    """(B, N, C, ...) as (N, B * C, ...)."""
    t = level.spread(t).transpose(0, 1)
    return t.reshape(t.shape[0], -1, *t.shape[3:])


def flattened(level, t):
    """(B, O, ...) as (B * O, ...)."""
    t = level.spread(t)
    return t.reshape(-1, *t.shape[2:])


def samples(level, out):
    """The batch rule's result: (N, B * O, ...) as a batch."""
    return level.wrap(out.reshape(out.shape[0], level.size, -1, *out.shape[2:]), 1)


def forward_samples(level, f, x, w, bias, window, groups):
    """The batch rule: more samples where only x is batched; else more groups."""
    if not level.follows(w) and not level.follows(bias):
        out = f(flattened(level, x), w, bias, window, groups)
        return level.wrap(out.reshape(level.size, -1, *out.shape[1:]))
    bias = None if bias is None else flattened(level, bias)
    return samples(level, f(folded(level, x), flattened(level, w), bias, window, groups * level.size))


def transposed_samples(level, f, g, w, bias, sizes, window, groups):
    """The same for the transposed convolution."""
    if not level.follows(w) and not level.follows(bias):
        out = f(flattened(level, g), w, bias, sizes, window, groups)
        return level.wrap(out.reshape(level.size, -1, *out.shape[1:]))
    bias = None if bias is None else flattened(level, bias)
    return samples(level, f(folded(level, g), flattened(level, w), bias, sizes, window, groups * level.size))


def weight_samples(level, f, x, g, window, groups):
    """The same for the gradient of the weight: a group for each sample."""
    out = f(folded(level, x), folded(level, g), window, groups * level.size)
    return level.wrap(out.reshape(level.size, -1, *out.shape[1:]))


def without_bias(first):
    """Bilinear, unless there is a bias."""
    return lambda named: (first, "w") if named["bias"] is None else ()


@transformable(forward_samples, without_bias("x"))
def forward(x, w, bias, window, groups):
    """The convolution of x (N, C, *S) with w (O, C / groups, *kernel)."""
    a, b = creation.numbers(x), creation.numbers(w)
    places = window.counts(a.shape[2:])
    if a.size and b.size:
        out = np.matmul(split(b, groups), columns(a, window, groups)).reshape(a.shape[0], b.shape[0], *places)
    else:
        out = np.zeros((a.shape[0], b.shape[0], *places), a.dtype)
    if bias is not None:
        out += creation.numbers(bias).reshape(-1, *[1] * len(places))
    return finished(out, x, convolution, [x, w] if bias is None else [x, w, bias], window=window, groups=groups)


@transformable(transposed_samples, without_bias("g"))
def transposed(g, w, bias, sizes, window, groups):
    """The gradient of a convolution for its input of `sizes`: windows of w weighted by g, added at their places."""
    a, b = creation.numbers(g), creation.numbers(w)
    shape = (a.shape[0], b.shape[1] * groups, *sizes)
    if a.size and b.size:
        rows = a.reshape(a.shape[0], groups, a.shape[1] // groups, -1)
        cut = np.matmul(split(b, groups).swapaxes(1, 2), rows)
        out = window.add(cut.reshape(*shape[:2], *window.kernel, *a.shape[2:]), sizes)
    else:
        out = np.zeros(shape, a.dtype)
    if bias is not None:
        out += creation.numbers(bias).reshape(-1, *[1] * len(sizes))
    return finished(out, g, convolution_transposed, [g, w] if bias is None else [g, w, bias], window=window, groups=groups)


@transformable(weight_samples, ("x", "g"))
def of_weight(x, g, window, groups):
    """The gradient of a convolution for its weight: products of windows of x with g, over samples and places."""
    a, b = creation.numbers(x), creation.numbers(g)
    shape = (b.shape[1], a.shape[1] // groups, *window.kernel)
    if a.size and b.size:
        rows = b.reshape(b.shape[0], groups, b.shape[1] // groups, -1)
        out = np.matmul(rows, columns(a, window, groups).swapaxes(2, 3)).sum(0).reshape(shape)
    else:
        out = np.zeros(shape, a.dtype)
    return finished(out, x, convolution_of_weight, [x, g], window=window, groups=groups)


def bias_gradient(g):
    return g.sum([0, *range(2, g.ndim)])


@structural("convolution", "Convolution")
def convolution(node, g):
    """convolution: transposed for the input, products with windows for the weight, sums for the bias."""
    a, (x, w, *bias) = node.attributes, node.inputs
    return (
        transposed(g, conj_physical(w), None, tuple(x.shape[2:]), a.window, a.groups) if x.requires_grad else None,
        of_weight(conj_physical(x), g, a.window, a.groups) if w.requires_grad else None,
        *(bias_gradient(g) if b.requires_grad else None for b in bias),
    )


@structural("convolution_transposed", "Convolution")
def convolution_transposed(node, h):
    """transposed convolution: a convolution for its input, products with windows for the weight."""
    a, (g, w, *bias) = node.attributes, node.inputs
    return (
        forward(h, conj_physical(w), None, a.window, a.groups) if g.requires_grad else None,
        of_weight(h, conj_physical(g), a.window, a.groups) if w.requires_grad else None,
        *(bias_gradient(h) if b.requires_grad else None for b in bias),
    )


@structural("convolution_of_weight", "Convolution")
def convolution_of_weight(node, h):
    """the weight's gradient: a transposed convolution and a convolution with h for the weight."""
    a, (x, g) = node.attributes, node.inputs
    return (
        transposed(conj_physical(g), h, None, tuple(x.shape[2:]), a.window, a.groups) if x.requires_grad else None,
        forward(conj_physical(x), h, None, a.window, a.groups) if g.requires_grad else None,
    )
