"""Adagrad."""

from __future__ import annotations

from tapegrad import creation, dtypes, modes
from tapegrad.optim import update
from tapegrad.optim.optimizer import Optimizer, check_lr, check_options, number


class Adagrad(Optimizer):
    """p <- p - lr g / (sqrt(s) + eps), s the sum of g^2; lr falls as 1 / (1 + (step - 1) lr_decay) (Duchi et al. 2011)."""

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *, maximize=False,
                 differentiable=False, fused=None):
        check_lr(lr)
        if not 0.0 <= lr_decay:
            raise ValueError(f"Invalid lr_decay value: {lr_decay}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if not 0.0 <= initial_accumulator_value:
            raise ValueError(f"Invalid initial_accumulator_value value: {initial_accumulator_value}")
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay, "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable, "fused": fused,
        })
        check_options(fused, foreach, differentiable)
        for group in self.param_groups:
            for p in group["params"]:
                self._start(p)

    def _start(self, p) -> None:
        state = self.state[p]
        state["step"] = creation.tensor(0.0, dtype=dtypes.default_dtype())
        state["sum"] = creation.full_like(p.detach(), self.defaults["initial_accumulator_value"])

    def step(self, closure=None):
        """Change every parameter by its gradient."""
        with modes.set_grad_enabled(self.defaults["differentiable"]):
            loss = self._loss(closure)
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group) -> None:
        decay = number(group["weight_decay"])
        text = "g = -g\n" * group["maximize"] + "g = g + p * decay\n" * (decay != 0) + "s = s + g * g\np = p - rate * g / (sqrt(s) + eps)\n"
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if not self.state[p]:
                self._start(p)
            state = self.state[p]
            with modes.no_grad():
                state["step"] += 1
            rate = number(group["lr"]) / (1 + (state["step"].item() - 1) * group["lr_decay"])
            update.run(text, {"p": p, "g": grad, "s": state["sum"]}, {"decay": decay, "rate": rate, "eps": group["eps"]}, group["differentiable"])
