"""softmax and log_softmax: in one kernel by rows, or step by step."""

from __future__ import annotations

from tapegrad import dtypes, modes
from tapegrad.autograd.node import record
from tapegrad.ops import plan as plans
from tapegrad.ops import rows
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
    return run_softmax(x, dim)


def by_rows(op, x, dim, name):
    """softmax or log_softmax in one kernel, None if there is none for `x`."""
    lie = rows.of(x, (dim,) if x.ndim else (), same_shape=True)
    kept = name == "softmax" and x.dtype.reduced  # the kernel keeps unfinished values, rounded, in the result
    if not x.dtype.is_floating_point or kept or not rows.usable(x, lie):
        return None
    make = lambda: rows.plan(op, x, lie, name, [(lie.whole, x.dtype.code)], back=name + "_back", reads=("out",), saves=0b10, cost=4, dim=dim)  # noqa: E731
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
        raise NotImplementedError(f'"{kernel}" not implemented for \'{x.dtype.scalar_name}\'')
    return x


def run_softmax(x, dim):
    dim = wrap_dim(dim, x.ndim)
    found = by_rows(softmax_op, x, dim, "softmax")
    if found is not None:
        return found
    with modes.no_grad():
        y = widened(comparable("softmax", x, dim))
        e = (y - y.amax(dim, True)).exp() if x.numel() else y
        result = (e / e.sum(dim, True) if x.numel() else e).to(x.dtype).detach()
    record(softmax_op, [x], [result], plans.Parameters(softmax_op, dim=dim), saves=0b10)
    return result


@structural("log_softmax_op", "LogSoftmax")
def log_softmax_op(node, g):
    """log_softmax: g - softmax * sum(g)."""
    return g - node.outputs[0].exp() * g.sum(node.attributes.dim, True)


@function(method=True, batch="along")
@stored()
def log_softmax(input, dim, dtype=None):
    """input - logsumexp(input) along `dim`."""
    x = input if dtype is None else input.to(dtype)
    dim = wrap_dim(dim, x.ndim)
    found = by_rows(log_softmax_op, x, dim, "log_softmax")
    if found is not None:
        return found
    with modes.no_grad():
        y = widened(comparable("log_softmax", x, dim))
        result = (y - y.logsumexp(dim, True) if x.numel() else y).to(x.dtype).detach()
    record(log_softmax_op, [x], [result], plans.Parameters(log_softmax_op, dim=dim), saves=0b10)
    return result
