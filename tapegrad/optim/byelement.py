"""ByElement: optimizers whose step is a formula over the elements of a parameter, its gradient and its state (see `update`)."""

from __future__ import annotations

from tapegrad import creation, dtypes, modes
from tapegrad.optim import update
from tapegrad.optim.optimizer import Optimizer, number
from tapegrad.tensor import Tensor

DEVICES = ["cuda", "xpu", "hpu", "privateuseone", "xla"]  # where torch can capture a step


class ByElement(Optimizer):
    """The step of an optimizer that changes elements one by one.  A subclass gives `rule`, and where it needs to `first_state` and `advance`.

    `foreach` and `fused` are accepted and change nothing: every update is one loop already.  `capturable` is for other devices.
    """

    def __init__(self, params, defaults):
        super().__init__(params, defaults)
        if defaults.get("fused"):
            if defaults["differentiable"]:
                raise RuntimeError("`fused` does not support `differentiable`")
            if defaults["foreach"]:
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    def rule(self, group) -> tuple[str, dict, dict]:
        """(the update as text, its numbers by name, what it reads of the state: letter to name)."""
        raise NotImplementedError

    def first_state(self, p, group) -> dict:
        """The state before the first step: zeros for everything that the rule reads."""
        return {"step": creation.tensor(0.0, dtype=dtypes.default_dtype()), **{name: update.zeros(p) for name in self.rule(group)[2].values()}}

    def advance(self, numbers, count, group, state) -> None:
        """Set those of the numbers that depend on how many steps the parameter has made, this one included."""

    def step(self, closure=None):
        """Change every parameter by its gradient."""
        with modes.set_grad_enabled(self.defaults["differentiable"]):
            loss = self._loss(closure)
            for group in self.param_groups:
                self._step_group(group)
        return loss

    def _step_group(self, group) -> None:
        text, numbers, names = self.rule(group)
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            check_options(group, p)
            state = self.state[p]
            if not state:
                state.update(self.first_state(p, group))
            state["step"] += 1
            self.advance(numbers, number(state["step"]), group, state)
            tensors = {"p": p, "g": grad, **{letter: state[name] for letter, name in names.items()}}
            update.run(text, tensors, numbers, group["differentiable"])


def check_options(group, p) -> None:
    """Refuse options that torch accepts and cannot carry out."""
    if group.get("capturable"):
        raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {DEVICES}.")
    if group["foreach"] and group["differentiable"]:
        raise AssertionError("_foreach ops don't support autograd")
    if group.get("fused") and not p.is_floating_point():
        raise RuntimeError(
            "`fused=True` requires all the params to be floating point Tensors of supported devices: ['mps', 'cuda', 'xpu', 'hpu', 'cpu', 'mtia', "
            f"'privateuseone'] but {p.dtype} and {p.device.type}"
        )


def gradient(group, decay, decoupled: bool = False) -> str:
    """The start of every rule: the gradient turned round to maximize, then the weight decay, onto it or (decoupled) off the parameter."""
    shrunk = "p = p * kept\n" if decoupled else "g = g + p * decay\n"
    return "g = -g\n" * group["maximize"] + shrunk * bool(decay != 0)


def option(group, name):
    """An option as a number, or the tensor that a differentiable step is to be differentiated by."""
    return group[name] if group["differentiable"] else number(group[name])


def betas_of(group) -> tuple:
    """Both betas, as `option` gives an option."""
    return group["betas"] if group["differentiable"] else tuple(map(number, group["betas"]))


# --- what constructors ask of their arguments -----------------------------------------------------------------------
def check_lr(lr) -> None:
    """A number or one-element tensor, not negative."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not 0.0 <= lr:
        raise ValueError(f"Invalid learning rate: {lr}")


def check_positive(**values) -> None:
    """Every value at least 0."""
    for name, value in values.items():
        if not 0.0 <= value:
            raise ValueError(f"Invalid {name} value: {value}")


def check_betas(betas) -> None:
    """Both of [0, 1)."""
    for k in range(2):
        if not 0.0 <= betas[k] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")
