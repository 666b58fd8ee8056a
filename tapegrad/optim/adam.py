"""Adam and its kin: AdamW, Adamax, NAdam, RAdam."""

from __future__ import annotations

from tapegrad import creation, dtypes
from tapegrad.optim.byelement import ByElement, betas_of, check_betas, check_lr, check_positive, gradient, option
from tapegrad.optim.optimizer import number
from tapegrad.tensor import Tensor

MEANS = "m = m + (g - m) * fresh\nv = v * beta + g * g * new\n"  # the running means of g and g^2
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def constants(group) -> dict:
    """The numbers that the rules below share."""
    decay = option(group, "weight_decay")
    beta1, beta2 = betas_of(group)
    return {"kept": 1 - option(group, "lr") * decay, "decay": decay, "fresh": 1 - beta1, "beta": beta2, "new": 1 - beta2, "eps": group["eps"]}


def check_moments(lr, betas, eps, weight_decay) -> None:
    check_lr(lr)
    check_positive(epsilon=eps)
    check_betas(betas)
    check_positive(weight_decay=weight_decay)


class Adam(ByElement):
    """p <- p - lr m' / (sqrt(v') + eps): m and v are running means of g and g^2, primes correct their start at zero (Kingma and Ba 2015).

    `weight_decay` is added to the gradient, or with decoupled_weight_decay taken off the parameter; amsgrad uses the largest v so far.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None, maximize=False,
                 capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_moments(lr, betas, eps, weight_decay)
        if not (all(isinstance(b, float) for b in betas) or all(isinstance(b, Tensor) for b in betas)):
            raise ValueError("betas must be either both floats or both Tensors")
        for k, beta in enumerate(betas):
            if isinstance(beta, Tensor):
                if foreach and not capturable:
                    raise ValueError(f"betas[{k}] as a Tensor is not supported for capturable=False and foreach=True")
                if beta.numel() != 1:
                    raise ValueError(f"Tensor betas[{k}] must be 1-element")
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        })

    def rule(self, group):
        """m, v, then p <- p - size m / (sqrt(v) / root + eps)."""
        text = gradient(group, option(group, "weight_decay"), group["decoupled_weight_decay"]) + MEANS
        largest = "w = where((v > w) | (v != v), v, w)\n"
        text += largest + "d = sqrt(w) / root + eps\n" if group["amsgrad"] else "d = sqrt(v) / root + eps\n"
        names = {**MOMENTS, "w": "max_exp_avg_sq"} if group["amsgrad"] else MOMENTS
        return text + "p = p - size * m / d\n", constants(group), names

    def advance(self, numbers, count, group, state):
        """The corrections of the means for their start at zero."""
        beta1, beta2 = betas_of(group)
        numbers["root"], numbers["size"] = (1 - beta2**count) ** 0.5, option(group, "lr") / (1 - beta1**count)


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


class Adamax(ByElement):
    """p <- p - lr m' / u with u <- max(beta2 u, |g| + eps), Adam's variant for the infinity norm (Kingma and Ba 2015, section 7.1)."""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False, differentiable=False,
                 capturable=False):
        check_moments(lr, betas, eps, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        })

    def rule(self, group):
        """m, the decaying maximum u, then p <- p - size m / u."""
        text = gradient(group, option(group, "weight_decay")) + "m = m + (g - m) * fresh\nu = u * beta\nh = fabs(g) + eps\n"
        return text + "u = where((h > u) | (h != h), h, u)\np = p - size * m / u\n", constants(group), {"m": "exp_avg", "u": "exp_inf"}

    def advance(self, numbers, count, group, state):
        """The correction of m for its start at zero."""
        numbers["size"] = option(group, "lr") / (1 - betas_of(group)[0] ** count)


class NAdam(ByElement):
    """Adam with Nesterov's momentum: p <- p - lr (mu_next m' + (1 - mu) g') / (sqrt(v') + eps) (Dozat 2016).

    mu = beta1 (1 - 0.96^(t momentum_decay) / 2) grows towards beta1; the primes divide by one minus products of the mu.
    """

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, decoupled_weight_decay=False, *,
                 foreach=None, maximize=False, capturable=False, differentiable=False):
        check_moments(lr, betas, eps, weight_decay)
        check_positive(momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable,
        })

    def rule(self, group):
        """m, v, then p <- p - (now g + ahead m) / (sqrt(v / corrected) + eps)."""
        text = gradient(group, option(group, "weight_decay"), group["decoupled_weight_decay"]) + MEANS
        return text + "d = sqrt(v / corrected) + eps\np = p - now * g / d - ahead * m / d\n", constants(group), MOMENTS

    def first_state(self, p, group):
        """Zeros, and 1 for the product of the mu."""
        return {**super().first_state(p, group), "mu_product": creation.tensor(1.0, dtype=dtypes.default_dtype())}

    def advance(self, numbers, count, group, state):
        """The weights of the gradient and of the mean."""
        beta1, beta2 = betas_of(group)
        mu, following = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (count, count + 1))
        state["mu_product"] *= mu
        product = state["mu_product"].clone() if group["differentiable"] else number(state["mu_product"])  # the next step writes over it
        lr = option(group, "lr")
        numbers["corrected"] = 1 - beta2**count
        numbers["now"], numbers["ahead"] = lr * (1 - mu) / (1 - product), lr * following / (1 - product * following)


class RAdam(ByElement):
    """Adam whose step is rectified for the variance of 1 / sqrt(v), and is p <- p - lr m' while that cannot be estimated (Liu et al. 2020)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False):
        check_moments(lr, betas, eps, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable,
        })

    def rule(self, group):
        """m, v, then p <- p - size m (plain + root / (sqrt(v) + eps)), one of plain and root being zero."""
        text = gradient(group, option(group, "weight_decay"), group["decoupled_weight_decay"]) + MEANS
        return text + "p = p - size * m * (plain + root / (sqrt(v) + eps))\n", constants(group), MOMENTS

    def advance(self, numbers, count, group, state):
        """Which of the two steps, and how long."""
        beta1, beta2 = betas_of(group)
        corrected, longest = 1 - beta2**count, 2 / (1 - beta2) - 1
        length = longest - 2 * count * beta2**count / corrected
        rectified = length > 5
        share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) if rectified else 0.0
        numbers["size"] = option(group, "lr") / (1 - beta1**count)
        numbers["plain"], numbers["root"] = float(not rectified), (corrected * share) ** 0.5
