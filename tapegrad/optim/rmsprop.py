"""RMSprop and Rprop."""

from __future__ import annotations

from tapegrad import creation
from tapegrad.optim.byelement import ByElement, check_lr, check_positive, gradient, option
from tapegrad.optim.optimizer import number


class RMSprop(ByElement):
    """p <- p - lr g / (sqrt(v) + eps), v the running mean of g^2; centred by the square of the mean of g, and with momentum, on request."""

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False, foreach=None,
                 maximize=False, differentiable=False):
        check_lr(lr)
        check_positive(epsilon=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
        })

    def rule(self, group):
        """v, then p <- p - lr g / d, or p - lr b with b <- momentum b + g / d."""
        alpha, decay, momentum = group["alpha"], option(group, "weight_decay"), group["momentum"]
        names = {"v": "square_avg"}
        text = gradient(group, decay) + "v = v * alpha + g * g * fresh\n"
        if momentum > 0:
            names["b"] = "momentum_buffer"
        if group["centered"]:
            names["c"] = "grad_avg"
        text += "c = c + (g - c) * fresh\nd = sqrt(v - c * c) + eps\n" if group["centered"] else "d = sqrt(v) + eps\n"
        text += "b = b * mu + g / d\np = p - b * lr\n" if momentum > 0 else "p = p - lr * g / d\n"
        return text, {"lr": option(group, "lr"), "alpha": alpha, "fresh": 1 - alpha, "decay": decay, "mu": momentum, "eps": group["eps"]}, names


class Rprop(ByElement):
    """p <- p - sign(g) z: each element's own step z grows by etas[1] while its gradient keeps its sign and shrinks by etas[0] when it turns,
    which also holds the element still for a step (Riedmiller and Braun 1993)."""

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, capturable=False, foreach=None, maximize=False,
                 differentiable=False):
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable,
        })

    def rule(self, group):
        """Whether the sign was kept, the step within its limits, then p."""
        text = gradient(group, 0) + "s = g * q\nz = where(s > 0, z * up, where(s < 0, z * down, z))\n"
        text += "z = where(z < low, low, where(z > high, high, z))\nq = where(s < 0, 0.0, g)\np = p - sign(q) * z\n"
        (down, up), (low, high) = group["etas"], group["step_sizes"]
        return text, {"up": up, "down": down, "low": low, "high": high}, {"q": "prev", "z": "step_size"}

    def first_state(self, p, group):
        """The steps are lr at first."""
        lr = number(group["lr"])
        return {**super().first_state(p, group), "step_size": creation.full_like(p.detach(), complex(lr, lr) if p.is_complex() else lr)}
