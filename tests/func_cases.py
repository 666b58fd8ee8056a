"""Owns sample functions of one tensor, `f(m, x)` with `m` tapegrad or torch, that between them call every family of ops: name -> (f, shape of x)."""

from __future__ import annotations

from tapegrad.ops.index_writes import with_elements


def _set(m, x):
    y = x * 1
    y[1] = x[0] * 2
    return y


def _set_slices(m, x):
    y = x * 1
    y[:, 1:3] = x[:, :2]
    y[0].add_(1)
    return y


def _set_rows(m, x):
    y = x * 1
    y[m.tensor([0, 2])] = x[1]
    return y


def _set_view(m, x):
    y = x * 1
    v = y.t()[1:]
    v.mul_(x.t()[1:])
    w = y[0]
    w[0] = x.sum()
    return y * v.sum()


CASES = {
    # views
    "index": (lambda m, x: x[-1, 1:], (3, 4)), "index none": (lambda m, x: x[None, ..., 0], (3, 4)), "view": (lambda m, x: x.view(-1), (3, 4)),
    "reshape": (lambda m, x: x.t().reshape(2, 6), (3, 4)), "permute": (lambda m, x: x.permute(2, 0, 1), (3, 4, 2)), "mT": (lambda m, x: x.mT, (3, 4)),
    "unsqueeze": (lambda m, x: x.unsqueeze(-1), (3, 4)), "squeeze": (lambda m, x: x.squeeze(), (3, 1)), "expand": (lambda m, x: x.expand(2, 3, 4), (3, 1)),
    "expand 0-d": (lambda m, x: x.expand(2, 3), ()), "movedim": (lambda m, x: x.movedim(0, -1), (3, 4, 2)), "flatten": (lambda m, x: x.flatten(1), (3, 4, 2)),
    "unflatten": (lambda m, x: x.unflatten(1, (2, 2)), (3, 4)), "diagonal": (lambda m, x: x.diagonal(1), (3, 4)),
    "unfold": (lambda m, x: x.unfold(0, 2, 1), (4, 3)), "as_strided": (lambda m, x: x.as_strided((2, 2), (1, 2)), (6,)),
    "split": (lambda m, x: x.split(2, -1), (3, 4)), "chunk": (lambda m, x: x.chunk(2), (3, 4)), "unbind": (lambda m, x: x.unbind(1), (3, 4)),
    "narrow": (lambda m, x: x.narrow(1, 1, 2), (3, 4)), "broadcast_tensors": (lambda m, x: m.broadcast_tensors(x, m.ones(2, 3).double()), (3,)),
    # advanced indexing
    "rows": (lambda m, x: x[m.tensor([0, 2])], (3, 4)), "columns": (lambda m, x: x[:, m.tensor([0, 2])], (3, 4)),
    "apart": (lambda m, x: x[m.tensor([0, 2]), :, m.tensor([1, 0])], (3, 4, 2)),
    "together": (lambda m, x: x[:, m.tensor([[0, 2], [1, 1]]), m.tensor([1, 0])], (3, 4, 2)),
    "own row": (lambda m, x: x[x.argsort(0)[0]], (3, 4)), "own column": (lambda m, x: x[:, x.argsort(1)[0]], (3, 4)),
    "own apart": (lambda m, x: x[x.argsort(0)[0, :2], :, m.tensor([1, 0])], (3, 3, 2)), "take": (lambda m, x: m.take(x, m.tensor([0, 5])), (3, 4)),
    "gather": (lambda m, x: x.gather(1, m.tensor([[0, 1], [2, 0], [1, 1]])), (3, 4)), "index_select": (lambda m, x: x.index_select(1, m.tensor([2, 0, 0])), (3, 4)),
    "own select": (lambda m, x: x.index_select(1, x.argsort(1)[0]), (3, 4)), "masked_select": (lambda m, x: x.masked_select(m.tensor([True, False, True])), (3,)),
    "scatter": (lambda m, x: x.scatter(1, m.tensor([[0, 1], [2, 0], [1, 3]]), 9.0), (3, 4)),
    "scatter_add": (lambda m, x: m.zeros(3, 4).double().scatter_add(1, m.tensor([[0, 1], [2, 0], [1, 1]]), x), (3, 2)),
    "index_add": (lambda m, x: m.zeros(3, 4).double().index_add(0, m.tensor([0, 0]), x), (2, 4)),
    "own index_add": (lambda m, x: m.zeros(4).double().index_add(0, x.argsort(0), x), (4,)),
    "index_put": (lambda m, x: m.zeros(3).double().index_put((m.tensor([0, 2]),), x), (2,)),
    "index_put apart": (lambda m, x: with_elements(m.ones(3, 4, 2).double(), (m.tensor([0, 2]), None, m.tensor([1, 0])), x), (2, 4)),
    "index_put last": (lambda m, x: with_elements(m.ones(2, 3).double(), (None, m.tensor([0, 2])), x, True), (2,)),
    # reductions
    "sum": (lambda m, x: x.sum(), (3, 4)), "sum keepdim": (lambda m, x: x.sum(-1, keepdim=True), (3, 4)), "sum 0-d": (lambda m, x: x.sum(0), ()),
    "mean": (lambda m, x: x.mean((0, 1)), (3, 4)), "prod": (lambda m, x: x.prod(), (3,)), "prod dim": (lambda m, x: x.prod(1), (3, 4)),
    "amax": (lambda m, x: x.amax(0), (3, 4)), "max": (lambda m, x: x.max(), (3, 4)), "max dim": (lambda m, x: m.max(x, 1)[0], (3, 4)),
    "max 0-d": (lambda m, x: m.max(x, 0)[0], ()), "min dim": (lambda m, x: tuple(m.min(x, 0)), (3, 4)), "argmax": (lambda m, x: x.argmax(), (3, 4)),
    "argmin dim": (lambda m, x: x.argmin(1), (3, 4)), "any": (lambda m, x: (x > 0.5).any(), (3, 4)), "all dim": (lambda m, x: (x > 0.5).all(0), (3, 4)),
    "logsumexp": (lambda m, x: x.logsumexp(0), (3, 4)), "logsumexp 0-d": (lambda m, x: x.logsumexp(0), ()), "var": (lambda m, x: x.var(), (3, 4)),
    "std": (lambda m, x: x.std(1, keepdim=True), (3, 4)), "var_mean": (lambda m, x: m.var_mean(x, 1), (3, 4)), "norm": (lambda m, x: x.norm(), (3, 4)),
    "norm 1": (lambda m, x: x.norm(1, dim=0), (3, 4)), "norm 3": (lambda m, x: x.norm(3, dim=-1), (3, 4)), "norm 0-d": (lambda m, x: x.norm(), ()),
    "count_nonzero": (lambda m, x: (x > 0.5).count_nonzero(0), (3, 2)), "sum_to_size": (lambda m, x: x.sum_to_size(1, 4), (3, 4)),
    # scans
    "cumsum": (lambda m, x: x.cumsum(0), (3, 4)), "cumsum 0-d": (lambda m, x: x.cumsum(0), ()), "cumprod": (lambda m, x: x.cumprod(-1), (3, 4)),
    "sort": (lambda m, x: tuple(x.sort(0, descending=True)), (3, 4)), "sort 0-d": (lambda m, x: x.sort(0)[0], ()), "topk": (lambda m, x: x.topk(2)[0], (3, 4)),
    "softmax": (lambda m, x: x.softmax(0), (3, 4)), "softmax 0-d": (lambda m, x: x.softmax(0), ()), "log_softmax": (lambda m, x: x.log_softmax(-1), (3, 4)),
    # joining and repeating
    "cat": (lambda m, x: m.cat([x, x * 2, m.ones(1, 4).double()]), (3, 4)), "stack": (lambda m, x: m.stack([x, m.ones(3, 4).double()], -1), (3, 4)),
    "repeat": (lambda m, x: x.repeat(2, 1, 2), (3, 4)), "tile": (lambda m, x: x.tile(2), (3, 4)), "flip": (lambda m, x: x.flip(0), (3, 4)),
    "roll": (lambda m, x: x.roll(1), (3, 4)), "roll dim": (lambda m, x: x.roll(1, 0), (3, 4)), "tril": (lambda m, x: x.tril(), (3, 4)),
    "diag_embed": (lambda m, x: m.diag_embed(x, 1), (3, 4)), "vstack": (lambda m, x: m.vstack([x, x]), (4,)),
    "meshgrid": (lambda m, x: m.meshgrid(x, x, indexing="ij"), (3,)),
    # products
    "mm": (lambda m, x: x @ x.t(), (3, 4)), "mv": (lambda m, x: x @ m.ones(4).double(), (3, 4)), "row times matrix": (lambda m, x: m.ones(3).double() @ x, (3, 4)),
    "dot": (lambda m, x: x @ x, (4,)), "bmm": (lambda m, x: x.bmm(x.transpose(1, 2)), (2, 3, 4)), "matmul": (lambda m, x: x @ m.ones(4, 2).double(), (2, 3, 4)),
    "outer": (lambda m, x: m.outer(x, x), (3,)), "addmm": (lambda m, x: m.addmm(m.ones(3, 3).double(), x, x.t(), alpha=2.0, beta=0.5), (3, 4)),
    "einsum": (lambda m, x: m.einsum("ij,kj->ik", x, x), (3, 4)),
    # elementwise
    "where": (lambda m, x: m.where(x > 0.5, x, -x), (3, 4)), "clamp": (lambda m, x: x.clamp(0.2, 0.7), (3, 4)),
    "clamp tensor": (lambda m, x: x.clamp(min=m.full((4,), 0.5).double()), (3, 4)), "masked_fill": (lambda m, x: x.masked_fill(x > 0.5, 0.0), (3, 4)),
    "pow": (lambda m, x: x**3 + x**x + 2**x, (3,)), "lerp": (lambda m, x: m.lerp(x, x * 2, 0.3), (3,)), "convert": (lambda m, x: (x.float() * 2).double(), (3,)),
    "broadcast": (lambda m, x: x[:, None] * x[None] + x.sum(), (3,)), "rank": (lambda m, x: x * m.ones(2, 1).double(), (3,)),
    "two": (lambda m, x: m.hypot(x, x + 1) + m.atan2(x, x + 1) + m.logaddexp(x, x), (3,)), "one": (lambda m, x: m.sinc(x) + x.sigmoid().tanh().erf(), (3,)),
    "remainder": (lambda m, x: x % 0.3, (3,)), "sign": (lambda m, x: x.sign() * x, (3,)), "isclose": (lambda m, x: x.isclose(x), (3,)),
    "integer division": (lambda m, x: x * ((x * 9).long() // m.tensor([1, 2, 3])), (3,)),
    # copies and writes
    "clone": (lambda m, x: x.clone() * 2, (3,)), "contiguous": (lambda m, x: x.t().contiguous(), (3, 4)), "zeros_like": (lambda m, x: m.zeros_like(x) + x, (3,)),
    "new_zeros": (lambda m, x: x.new_zeros(2, 3) + x, (3,)), "in place": (lambda m, x: x.clone().add_(x).mul_(2), (3,)),
    "copy_": (lambda m, x: x.clone().copy_(m.ones(3)), (3,)), "fill_": (lambda m, x: x.clone().fill_(2.0) + x, (3,)), "assign": (_set, (3,)),
    "assign slices": (_set_slices, (3, 4)), "assign rows": (_set_rows, (3, 4)), "write through views": (_set_view, (3, 4)),
    "unsqueeze_": (lambda m, x: x.clone().unsqueeze_(0) * 2, (3,)), "cumsum_": (lambda m, x: x.clone().cumsum_(0), (3, 2)),
    "clamp_": (lambda m, x: x.clone().clamp_(0.2, 0.7), (3, 2)),
}  # fmt: skip
