"""RMSprop."""

from __future__ import annotations

from tapegrad import creation, dtypes, modes
from tapegrad.optim import update
from tapegrad.optim.optimizer import Optimizer, check_lr, number


class RMSprop(Optimizer):
    """p <- p - lr g / (sqrt(v) + eps), v the running mean of g^2; centred by the square of the mean of g, and with momentum, on request."""

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False, foreach=None,
                 maximize=False, differentiable=False):
        check_lr(lr)
        for name, value in (("epsilon", eps), ("momentum", momentum), ("weight_decay", weight_decay), ("alpha", alpha)):
            if not 0.0 <= value:
                raise ValueError(f"Invalid {name} value: {value}")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
        })

    def step(self, closure=None):
        """Change every parameter by its gradient."""
        with modes.set_grad_enabled(self.defaults["differentiable"]):
            loss = self._loss(closure)
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group) -> None:
        alpha, decay, momentum = group["alpha"], number(group["weight_decay"]), group["momentum"]
        numbers = {"lr": number(group["lr"]), "alpha": alpha, "fresh": 1 - alpha, "decay": decay, "mu": momentum, "eps": group["eps"]}
        text = "g = -g\n" * group["maximize"] + "g = g + p * decay\n" * (decay != 0) + "v = v * alpha + g * g * fresh\n"
        text += "c = c + (g - c) * fresh\nd = sqrt(v - c * c) + eps\n" if group["centered"] else "d = sqrt(v) + eps\n"
        text += "b = b * mu + g / d\np = p - b * lr\n" if momentum > 0 else "p = p - lr * g / d\n"
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = creation.tensor(0.0, dtype=dtypes.default_dtype())
                state["square_avg"] = update.zeros(p)
                if momentum > 0:
                    state["momentum_buffer"] = update.zeros(p)
                if group["centered"]:
                    state["grad_avg"] = update.zeros(p)
            with modes.no_grad():
                state["step"] += 1
            tensors = {"p": p, "g": grad, "v": state["square_avg"]}
            tensors |= ({"b": state["momentum_buffer"]} if momentum > 0 else {}) | ({"c": state["grad_avg"]} if group["centered"] else {})
            update.run(text, tensors, numbers, group["differentiable"])
