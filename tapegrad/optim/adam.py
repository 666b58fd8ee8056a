"""Adam and AdamW."""

from __future__ import annotations

from tapegrad import creation, dtypes, modes
from tapegrad.optim import update
from tapegrad.optim.optimizer import Optimizer, check_lr, check_options, number
from tapegrad.tensor import Tensor


class Adam(Optimizer):
    """p <- p - lr m' / (sqrt(v') + eps): m and v are running means of g and g^2, primes correct their start at zero (Kingma and Ba 2015).

    `weight_decay` is added to the gradient, or with decoupled_weight_decay taken off the parameter; amsgrad uses the largest v so far.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None, maximize=False,
                 capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        check_lr(lr)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for k in range(2):
            if not 0.0 <= betas[k] < 1.0:
                raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if not (all(isinstance(b, float) for b in betas) or all(isinstance(b, Tensor) for b in betas)):
            raise ValueError("betas must be either both floats or both Tensors")
        super().__init__(params, {
            "lr": lr, "betas": tuple(map(number, betas)), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        })
        check_options(fused, foreach, differentiable)

    def step(self, closure=None):
        """Change every parameter by its gradient."""
        with modes.set_grad_enabled(self.defaults["differentiable"]):
            loss = self._loss(closure)
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group) -> None:
        lr, decay = number(group["lr"]), number(group["weight_decay"])
        beta1, beta2 = group["betas"]
        numbers = {"kept": 1 - lr * decay, "decay": decay, "fresh": 1 - beta1, "beta": beta2, "new": 1 - beta2, "eps": group["eps"]}
        text = "g = -g\n" * group["maximize"]
        if decay:
            text += "p = p * kept\n" if group["decoupled_weight_decay"] else "g = g + p * decay\n"
        text += "m = m + (g - m) * fresh\nv = v * beta + g * g * new\n"
        text += "w = where((v > w) | (v != v), v, w)\nd = sqrt(w) / root + eps\n" if group["amsgrad"] else "d = sqrt(v) / root + eps\n"
        text += "p = p - size * m / d\n"
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = creation.tensor(0.0, dtype=dtypes.default_dtype())
                state["exp_avg"], state["exp_avg_sq"] = update.zeros(p), update.zeros(p)
                if group["amsgrad"]:
                    state["max_exp_avg_sq"] = update.zeros(p)
            state["step"] += 1
            count = state["step"].item()
            numbers["root"], numbers["size"] = (1 - beta2**count) ** 0.5, lr / (1 - beta1**count)
            tensors = {"p": p, "g": grad, "m": state["exp_avg"], "v": state["exp_avg_sq"]}
            if group["amsgrad"]:
                tensors["w"] = state["max_exp_avg_sq"]
            update.run(text, tensors, numbers, group["differentiable"])


class AdamW(Adam):
    """Adam with the weight decay taken off the parameter: p <- p (1 - lr weight_decay) first (Loshchilov and Hutter 2019)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False, foreach=None,
                 capturable=False, differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
                         differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
