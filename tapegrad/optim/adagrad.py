"""Adagrad and Adadelta."""

from __future__ import annotations

from tapegrad import creation
from tapegrad.optim.byelement import ByElement, check_lr, check_positive, gradient, option


class Adagrad(ByElement):
    """p <- p - lr g / (sqrt(s) + eps), s the sum of g^2; lr falls as 1 / (1 + (step - 1) lr_decay) (Duchi et al. 2011)."""

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *, maximize=False,
                 differentiable=False, fused=None):
        check_lr(lr)
        check_positive(lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, epsilon=eps)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay, "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable, "fused": fused,
        })
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = self.first_state(p, group)

    def rule(self, group):
        """s, then p <- p - rate g / (sqrt(s) + eps)."""
        decay = option(group, "weight_decay")
        return gradient(group, decay) + "s = s + g * g\np = p - rate * g / (sqrt(s) + eps)\n", {"decay": decay, "eps": group["eps"]}, {"s": "sum"}

    def first_state(self, p, group):
        """The sum has a value of its own at first."""
        start = self.defaults["initial_accumulator_value"]
        return {**super().first_state(p, group), "sum": creation.full_like(p.detach(), complex(start, start) if p.is_complex() else start)}

    def advance(self, numbers, count, group, state):
        """The rate of this step."""
        numbers["rate"] = option(group, "lr") / (1 + (count - 1) * group["lr_decay"])


class Adadelta(ByElement):
    """p <- p - lr g sqrt(u + eps) / sqrt(v + eps), v and u the running means of the squares of g and of the steps (Zeiler 2012)."""

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False, maximize=False,
                 differentiable=False):
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_positive(epsilon=eps, weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "capturable": capturable,
            "foreach": foreach, "differentiable": differentiable,
        })

    def rule(self, group):
        """v, the step d, u, then p."""
        rho, decay = group["rho"], option(group, "weight_decay")
        text = gradient(group, decay) + "v = v * rho + g * g * new\nd = sqrt(u + eps) / sqrt(v + eps) * g\n"
        numbers = {"lr": option(group, "lr"), "rho": rho, "new": 1 - rho, "eps": group["eps"], "decay": decay}
        return text + "u = u * rho + d * d * new\np = p - lr * d\n", numbers, {"v": "square_avg", "u": "acc_delta"}
