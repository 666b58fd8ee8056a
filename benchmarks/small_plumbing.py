"""The calls around the arithmetic that `small_ops.py` times: attributes, conversions, modes, custom functions, modules, optimisers, transforms."""

from __future__ import annotations

import copy
import io

import numpy as np
from small_cases import MATRIX, VECTOR


def scaler(m):
    class Scale(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2.0

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2.0

    return Scale


def plumbing(m):
    """name -> function of no arguments: the calls around the arithmetic."""
    x = m.tensor(VECTOR, requires_grad=True)
    plain = m.tensor(VECTOR)
    number, parameter = m.tensor(0.7, requires_grad=True), m.tensor(VECTOR, requires_grad=True)
    gradient, fixed = m.tensor(VECTOR), m.tensor(MATRIX)
    x.grad = m.tensor(VECTOR)
    integer, truth = m.tensor(3), m.tensor(True)
    Scale = scaler(m)

    def mode():
        with m.no_grad():
            pass

    def update():
        with m.no_grad():
            parameter.sub_(gradient, alpha=1e-9)

    def update_operator():
        nonlocal parameter
        with m.no_grad():
            parameter -= 1e-9 * gradient

    def custom():
        Scale.apply(x)

    def custom_backward():
        Scale.apply(x).sum().backward()
        x.grad = None

    def hooked():
        y = x * 2.0
        y.register_hook(lambda g: g)
        y.sum().backward()
        x.grad = None

    def cleared():
        x.grad = gradient
        x.grad = None

    def leaf():
        plain.detach().requires_grad_()

    def gradients():
        m.autograd.grad((x * x).sum(), x)

    def required():
        plain.requires_grad = True
        plain.requires_grad = False

    def enabled():
        with m.enable_grad():
            pass

    def set_enabled():
        with m.set_grad_enabled(False):
            pass

    def inferred():
        with m.inference_mode():
            pass

    @m.no_grad()
    def undifferentiated():
        pass

    def seeded():
        (x * 2.0).backward(gradient)
        x.grad = None

    def graphed():
        m.autograd.grad((x * x * x).sum(), x, create_graph=True)

    def twice():
        (first,) = m.autograd.grad((x * x * x).sum(), x, create_graph=True)
        m.autograd.grad(first.sum(), x)

    def unused():
        m.autograd.grad((x * x).sum(), [x, parameter], allow_unused=True)

    def chain():
        z = x
        for _ in range(20):
            z = z * x
        z.sum().backward()
        x.grad = None

    def retained():
        y = x * 2.0
        y.retain_grad()
        y.sum().backward()
        x.grad = None

    return {
        "s.item()": lambda: number.item(), "float(s)": lambda: float(number), "bool(s > 0)": lambda: bool(number > 0), "x.shape": lambda: x.shape,
        "x.ndim": lambda: x.ndim, "x.dtype": lambda: x.dtype, "len(x)": lambda: len(x), "x.numel()": lambda: x.numel(), "x.size(0)": lambda: x.size(0),
        "x.requires_grad": lambda: x.requires_grad, "x.grad": lambda: x.grad, "x.is_leaf": lambda: x.is_leaf, "x.detach()": lambda: x.detach(),
        "x.numpy()": lambda: plain.numpy(), "x.detach().numpy()": lambda: x.detach().numpy(), "x.tolist()": lambda: plain.tolist(),
        "requires_grad_()": leaf, "no_grad": mode, "p.sub_(g, alpha) in no_grad": update, "p -= lr * g in no_grad": update_operator,
        "x.grad = g; x.grad = None": cleared, "x.data": lambda: x.data, "custom Function": custom, "custom Function, backward": custom_backward,
        "hook, backward": hooked, "retain_grad, backward": retained, "autograd.grad": gradients, "is_grad_enabled": lambda: m.is_grad_enabled(),
        "x is contiguous": lambda: x.is_contiguous(), "fixed.T.contiguous()": lambda: fixed.T.contiguous(), "for row in m": lambda: [r for r in fixed],
        "x.to(dtype), same": lambda: x.to(x.dtype), "len of m[0]": lambda: len(fixed[0]),
        "int(k)": lambda: int(integer), "[0][k]": lambda: [0, 1, 2, 3][integer], "m.tolist()": lambda: fixed.tolist(), "np.asarray(x)": lambda: np.asarray(plain),
        "bool(b)": lambda: bool(truth), "k.item()": lambda: integer.item(), "for number in v": lambda: [float(e) for e in plain], "enumerate(m)": lambda: sum(k for k, _ in enumerate(fixed)),
        "x in mode": lambda: m.is_tensor(x), "isinstance": lambda: isinstance(x, m.Tensor), "x.stride()": lambda: x.stride(), "x.size()": lambda: x.size(),
        "x.dim()": lambda: x.dim(), "x.element_size()": lambda: x.element_size(), "x.data_ptr()": lambda: x.data_ptr(), "x.device": lambda: x.device,
        "x.T": lambda: fixed.T, "x._version": lambda: x._version, "x.grad_fn": lambda: x.grad_fn, "x.is_floating_point()": lambda: x.is_floating_point(),
        "(x * 2).grad_fn": lambda: (x * 2).grad_fn, "x.shape[0]": lambda: x.shape[0], "x.new_empty(3)": lambda: x.new_empty(3), "hash(x)": lambda: hash(x),
        "x.cpu()": lambda: x.cpu(), "x.to('cpu')": lambda: x.to("cpu"), "x.contiguous()": lambda: x.contiguous(), "x.detach().clone()": lambda: x.detach().clone(),
        "x.requires_grad = True": required, "repr(v)": lambda: repr(plain), "repr(s)": lambda: repr(number), "f'{s:.3f}'": lambda: f"{number:.3f}", "copy.copy": lambda: copy.copy(plain),
        "deepcopy": lambda: copy.deepcopy(plain), "enable_grad": enabled, "set_grad_enabled": set_enabled, "inference_mode": inferred, "@no_grad": undifferentiated,
        "manual_seed": lambda: m.manual_seed(0), "get_default_dtype": m.get_default_dtype, "x.backward(gradient)": seeded, "autograd.grad(create_graph)": graphed,
        "grad of grad": twice, "grad(allow_unused)": unused, "autograd.backward": lambda: m.autograd.backward((x * x).sum()), "z = z * x loop of 20": chain,
        "save": lambda: m.save(plain, io.BytesIO()), "finfo": lambda: m.finfo(m.float32).eps, "promote": lambda: m.promote_types(m.int32, m.float32),
        **transforms(m), **modules(m), **optimisers(m),
    }


def transforms(m):
    """Whole derivatives of small functions."""
    x, ones = m.tensor(VECTOR), m.ones(8, dtype=m.float64)
    matrix = m.tensor(MATRIX)
    f, vector = lambda x: (x * x.sin()).sum(), lambda x: x * x.sin()
    gradient, mapped, both = m.func.grad(f), m.func.vmap(lambda row: (row * row).sum()), m.func.vmap(m.func.grad(f))
    reverse, forward, second, loss = m.func.jacrev(vector), m.func.jacfwd(vector), m.func.hessian(f), m.func.grad_and_value(f)
    functional = m.autograd.functional
    return {
        "func.grad": lambda: gradient(x), "func.vmap": lambda: mapped(matrix), "vmap(grad)": lambda: both(matrix), "func.jacrev": lambda: reverse(x),
        "func.jacfwd": lambda: forward(x), "func.hessian": lambda: second(x), "grad_and_value": lambda: loss(x), "func.vjp": lambda: m.func.vjp(vector, x)[1](ones),
        "func.jvp": lambda: m.func.jvp(vector, (x,), (ones,)), "functional.jacobian": lambda: functional.jacobian(vector, x),
        "functional.hessian": lambda: functional.hessian(f, x), "functional.hvp": lambda: functional.hvp(f, x, ones), "functional.vjp": lambda: functional.vjp(vector, x, ones),
        "make grad, call": lambda: m.func.grad(f)(x),
    }


def modules(m):
    """Calling modules on a batch of 4."""
    nn = m.nn
    batch, image = m.tensor(MATRIX).float(), m.zeros(1, 2, 6, 6)
    linear, norm, pool, recurrent = nn.Linear(4, 4), nn.LayerNorm(4), nn.MaxPool2d(2), nn.LSTMCell(4, 4)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
    conv, batchnorm, relu, drop, embed = nn.Conv2d(2, 3, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.0).eval(), nn.Embedding(8, 4)
    gru, wide, criterion, where = nn.GRU(4, 4), nn.LSTM(4, 4), nn.CrossEntropyLoss(), m.tensor([1, 2])
    target, attention = m.tensor([1, 0, 3, 2]), nn.MultiheadAttention(4, 2, batch_first=True).eval()

    class Identity(nn.Module):
        def forward(self, x):
            return x

    identity = Identity()

    def trained():
        criterion(net(batch), target).backward()
        net.zero_grad()

    return {
        "Module.__call__": lambda: identity(batch), "nn.Linear": lambda: linear(batch), "nn.Sequential": lambda: net(batch), "nn.ReLU": lambda: relu(batch),
        "nn.LayerNorm": lambda: norm(batch), "nn.BatchNorm1d": lambda: batchnorm(batch), "nn.Conv2d": lambda: conv(image), "nn.MaxPool2d": lambda: pool(image),
        "nn.Dropout(eval)": lambda: drop(batch), "nn.Embedding": lambda: embed(where), "nn.LSTMCell": lambda: recurrent(batch), "nn.GRU": lambda: gru(batch),
        "nn.LSTM": lambda: wide(batch), "nn.CrossEntropyLoss": lambda: criterion(batch, target), "nn.MultiheadAttention": lambda: attention(batch, batch, batch),
        "net, loss, backward, zero_grad": trained, "zero_grad": net.zero_grad, "list(parameters())": lambda: list(net.parameters()), "state_dict": net.state_dict,
        "net.train()": net.train, "net[0].weight": lambda: net[0].weight, "functional_call": lambda: m.func.functional_call(net, dict(net.named_parameters()), (batch,)),
        "nn.Linear(4, 4)": lambda: nn.Linear(4, 4), "nn.Parameter": lambda: nn.Parameter(batch), "clip_grad_norm_": clipped(m, net, batch),
        "parameters_to_vector": lambda: nn.utils.parameters_to_vector(net.parameters()),
    }


def clipped(m, net, batch):
    net(batch).sum().backward()
    gradients = [p.grad for p in net.parameters()]

    def run():
        for p, g in zip(net.parameters(), gradients, strict=True):
            p.grad = g
        m.nn.utils.clip_grad_norm_(net.parameters(), 1.0)

    return run


def optimisers(m):
    """A step on a dozen small parameters."""
    settings = {
        "SGD": {}, "SGD momentum": {"momentum": 0.9}, "SGD nesterov, decay": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "Adam": {}, "AdamW": {}, "RMSprop": {},
        "Adagrad": {}, "NAdam": {}, "RAdam": {}, "Adamax": {}, "Adadelta": {}, "Rprop": {}, "ASGD": {}, "Adam amsgrad": {"amsgrad": True},
    }  # fmt: skip
    result = {}
    for name, options in settings.items():
        kind = getattr(m.optim, name.split()[0], None)
        if kind is None:
            continue
        parameters = [m.tensor(VECTOR, requires_grad=True) for _ in range(12)]
        for p in parameters:
            p.grad = m.tensor(VECTOR)
        chosen = kind(parameters, lr=1e-6, **options)
        result[name + ".step()"] = chosen.step
    spare = m.optim.SGD([m.tensor(VECTOR, requires_grad=True) for _ in range(12)], lr=1e-3)
    result["optimizer.zero_grad()"] = spare.zero_grad
    schedule = m.optim.lr_scheduler.StepLR(spare, 1000)
    spare.step()
    result["StepLR.step()"] = schedule.step
    return result
