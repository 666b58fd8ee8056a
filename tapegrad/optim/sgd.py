"""Stochastic gradient descent: SGD with momentum, ASGD with an average."""

from __future__ import annotations

from tapegrad import creation, dtypes
from tapegrad.optim import update
from tapegrad.optim.byelement import ByElement, check_lr, check_positive, gradient, option
from tapegrad.optim.optimizer import number


class SGD(ByElement):
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
        check_positive(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize,
            "foreach": foreach, "differentiable": differentiable, "fused": fused,
        })

    def _step_group(self, group) -> None:
        """There is no count of steps, and no state without momentum, whose first value is the first gradient, not dampened."""
        momentum, decay = option(group, "momentum"), option(group, "weight_decay")
        numbers = {"lr": option(group, "lr"), "mu": momentum, "fresh": 1 - group["dampening"], "decay": decay}
        ahead = "g = g + m * mu\n" if group["nesterov"] else "g = m\n" if momentum else ""
        begin, end = gradient(group, decay), ahead + "p = p - g * lr\n"
        start, later = begin + "m = g\n" * (momentum != 0) + end, begin + "m = m * mu + g * fresh\n" + end
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            tensors, text = {"p": p, "g": grad}, start
            if momentum:
                state = self.state[p]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = update.zeros(p)
                else:
                    text = later
                tensors["m"] = state["momentum_buffer"]
            update.run(text, tensors, numbers, group["differentiable"])


class ASGD(ByElement):
    """p <- p (1 - lambd eta) - eta g, eta falling as lr / (1 + lambd lr step)^alpha; the state `ax` averages p from step t0 on.

    After Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
    """

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, foreach=None, maximize=False, differentiable=False,
                 capturable=False):
        check_lr(lr)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        })

    def rule(self, group):
        """The step, then the average a <- a (1 - mu) + p mu."""
        decay = option(group, "weight_decay")
        return gradient(group, decay) + "p = p * kept - g * eta\na = a * old + p * mu\n", {"decay": decay}, {"a": "ax"}

    def first_state(self, p, group):
        """Zeros; eta is lr, mu 1 at first."""
        d = dtypes.default_dtype()
        return {**super().first_state(p, group), "eta": creation.tensor(number(group["lr"]), dtype=d), "mu": creation.tensor(1.0, dtype=d)}

    def advance(self, numbers, count, group, state):
        """eta and mu of this step; those of the next go into the state."""
        eta, mu = number(state["eta"]), number(state["mu"])
        numbers.update(kept=1 - group["lambd"] * eta, eta=eta, old=1 - mu, mu=mu)
        lr = number(group["lr"])
        state["eta"].fill_(lr / (1 + group["lambd"] * lr * count) ** group["alpha"])
        state["mu"].fill_(1 / max(1, count - group["t0"]))
