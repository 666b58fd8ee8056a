"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from tapegrad import modes
from tapegrad.optim import update
from tapegrad.optim.optimizer import Optimizer, check_lr, check_options, number


class SGD(Optimizer):
    """p <- p - lr m with m <- momentum m + (1 - dampening) g, or p - lr g without momentum; nesterov looks ahead: g + momentum m.

    >>> import tapegrad as tg
    >>> w = tg.tensor([1.], requires_grad=True)
    >>> (w * w).backward()
    >>> tg.optim.SGD([w], lr=0.1).step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, foreach=None,
                 differentiable=False, fused=None):
        check_lr(lr)
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize,
            "foreach": foreach, "differentiable": differentiable, "fused": fused,
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
        momentum, decay = number(group["momentum"]), number(group["weight_decay"])
        numbers = {"lr": number(group["lr"]), "mu": momentum, "fresh": 1 - group["dampening"], "decay": decay}
        shrink = "g = -g\n" * group["maximize"] + "g = g + p * decay\n" * (decay != 0)
        start = shrink + ("m = g\n" + ("g = g + m * mu\n" if group["nesterov"] else "") if momentum else "") + "p = p - g * lr\n"
        later = shrink + "m = m * mu + g * fresh\n" + ("g = g + m * mu\n" if group["nesterov"] else "g = m\n") + "p = p - g * lr\n"
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if not momentum:
                update.run(start, {"p": p, "g": grad}, numbers, group["differentiable"])
                continue
            state = self.state[p]
            first = state.get("momentum_buffer") is None
            if first:
                state["momentum_buffer"] = update.zeros(p)
            update.run(start if first else later, {"p": p, "g": grad, "m": state["momentum_buffer"]}, numbers, group["differentiable"])
