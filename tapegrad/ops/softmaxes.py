"""softmax and log_softmax: in one kernel by rows, or step by step."""

from __future__ import annotations

from tapegrad import dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import stored
from tapegrad.ops.public import function
from tapegrad.ops.reductions import widened
from tapegrad.ops.registry import structural
from tapegrad.ops.views import wrap_dim


@function(method=True, batch="along")
@stored()
def softmax(input, dim, dtype=None):
    """exp(input) / sum(exp(input)) along `dim`."""
    x = input if dtype is None else input.to(dtype)
    return run(softmax_op, "softmax", x, dim, softmax_value)


def by_rows(op, x, dim, name):
    """softmax or log_softmax in one kernel, None if there is none for `x`."""
    lie = rows.of(x, (dim,) if x.ndim else (), same_shape=True)
    kept = name == "softmax" and x.dtype.reduced  # the kernel keeps unfinished values, rounded, in the result
    if not x.dtype.is_floating_point or kept or not rows.usable(x, lie, name):
        return None
    make = lambda: rows.plan(op, x, lie, name, [(lie.whole, x.dtype.code)], back=name + "_back", reads=("out",), saves=0b10, dim=dim)  # noqa: E731
    return plans.run(op, [x], dim, make)


@structural("softmax_op", "Softmax")
def softmax_op(node, g):
    """softmax: out * (g - sum(g * out))."""
    out = node.outputs[0]
    return out * (g - (g * out).sum(node.attributes.dim, True))


def comparable(name, x, dim):
    """torch's refusal of complex operands."""
    if x.dtype.category != dtypes.FLOAT:
        kernel = f"{name}_{'lastdim_' if dim == max(x.ndim, 1) - 1 else ''}kernel_impl"
        raise no_kernel(kernel, x.dtype)
    return x


def run(op, name, x, dim, value):
    """By a kernel along rows, else `value(x, dim)` of what is not empty."""
    dim = wrap_dim(dim, x.ndim)
    found = by_rows(op, x, dim, name)
    if found is not None:
        return found
    with modes.no_grad():
        y = widened(comparable(name, x, dim))
        result = (value(y, dim) if x.numel() else y).to(x.dtype).detach()
    record(op, [x], [result], plans.Parameters(op, dim=dim), saves=0b10)
    return result


def softmax_value(x, dim):
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum(dim, True)


@structural("log_softmax_op", "LogSoftmax")
def log_softmax_op(node, g):
    """log_softmax: g - softmax * sum(g)."""
    return g - node.outputs[0].exp() * g.sum(node.attributes.dim, True)


@function(method=True, batch="along")
@stored()
def log_softmax(input, dim, dtype=None):
    """input - logsumexp(input) along `dim`."""
    x = input if dtype is None else input.to(dtype)
    return run(log_softmax_op, "log_softmax", x, dim, lambda x, dim: x - x.logsumexp(dim, True))
