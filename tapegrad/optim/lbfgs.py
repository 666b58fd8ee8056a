"""L-BFGS: a quasi-Newton method with limited memory (Nocedal and Wright, Numerical Optimization, ch. 7), after Schmidt's minFunc."""

from __future__ import annotations

from tapegrad import modes
from tapegrad.ops.complexes import view_as_real
from tapegrad.ops.joining import cat
from tapegrad.optim.byelement import check_lr
from tapegrad.optim.line_search import strong_wolfe
from tapegrad.optim.optimizer import Optimizer, number


def as_real(t):
    """Real and imaginary parts as elements of their own."""
    return view_as_real(t.resolve_conj()) if t.is_complex() else t


class LBFGS(Optimizer):
    """Steps along -H g, where H approximates the inverse Hessian from the last `history_size` changes of the gradient.

    One `step(closure)` makes up to `max_iter` iterations and calls the closure at each; `line_search_fn="strong_wolfe"` searches along
    the direction, else the step is `lr`.
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=100, line_search_fn=None):
        check_lr(lr)
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval, "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change, "history_size": history_size, "line_search_fn": line_search_fn,
        })
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def _gather_flat_grad(self):
        return cat([as_real(p.new_zeros(p.shape) if p.grad is None else p.grad).reshape(-1) for p in self._params], 0)

    def _add_grad(self, step_size, direction) -> None:
        at = 0
        for p in map(as_real, self._params):
            p.add_(direction[at : at + p.numel()].view_as(p), alpha=step_size)
            at += p.numel()

    def _direction(self, group, state, gradient):
        """-H g by the two-loop recursion; the history is extended by the last step."""
        y = gradient - state["prev_flat_grad"]
        s = state["d"] * state["t"]
        ys = y.dot(s).item()
        old_dirs, old_stps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        if ys > 1e-10:
            if len(old_dirs) == group["history_size"]:
                for history in (old_dirs, old_stps, ro):
                    history.pop(0)
            old_dirs.append(y)
            old_stps.append(s)
            ro.append(1.0 / ys)
            state["H_diag"] = ys / y.dot(y).item()
        q = -gradient
        weights = [0.0] * len(old_dirs)
        for k in reversed(range(len(old_dirs))):
            weights[k] = old_stps[k].dot(q).item() * ro[k]
            q.add_(old_dirs[k], alpha=-weights[k])
        r = q * state["H_diag"]
        for k in range(len(old_dirs)):
            r.add_(old_stps[k], alpha=weights[k] - old_dirs[k].dot(r).item() * ro[k])
        return r

    @modes.no_grad()
    def step(self, closure):
        """Iterate until the tolerances, `max_iter` or `max_eval` are reached; returns the loss before the first iteration."""
        closure = modes.enable_grad()(closure)
        group = self.param_groups[0]
        lr, tolerance = number(group["lr"]), group["tolerance_change"]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = closure()
        loss = float(first_loss)
        evaluations = 1
        state["func_evals"] += 1
        gradient = self._gather_flat_grad()
        if gradient.abs().max().item() <= group["tolerance_grad"]:
            return first_loss
        for n in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                state["old_dirs"], state["old_stps"], state["ro"], state["H_diag"] = [], [], [], 1
                state["d"] = -gradient
                step = min(1.0, (1.0 / gradient.abs().sum()).item()) * lr
            else:
                state["d"] = self._direction(group, state, gradient)
                step = lr
            direction = state["d"]
            state["prev_flat_grad"], previous = gradient.clone(), loss
            state["t"], state["prev_loss"] = step, previous
            slope = gradient.dot(direction).item()
            if slope > -tolerance:
                break
            used = 0
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                loss, gradient, step, used = strong_wolfe(
                    self._along(closure, direction), step, direction, loss, gradient, slope, max_evaluations=group["max_eval"] - evaluations
                )
                self._add_grad(step, direction)
            else:
                self._add_grad(step, direction)
                if n != group["max_iter"]:
                    loss = float(closure())
                    gradient = self._gather_flat_grad()
                    used = 1
            state["t"] = step
            evaluations += used
            state["func_evals"] += used
            if (
                evaluations >= group["max_eval"] or gradient.abs().max().item() <= group["tolerance_grad"]
                or (direction * step).abs().max().item() <= tolerance or abs(loss - previous) < tolerance
            ):
                break
        return first_loss

    def _along(self, closure, direction):
        """The loss and gradient at a distance along the direction; the parameters are put back."""
        start = [p.clone() for p in self._params]

        def evaluate(distance):
            self._add_grad(distance, direction)
            loss = float(closure())
            gradient = self._gather_flat_grad()
            for p, value in zip(self._params, start):
                p.copy_(value)
            return loss, gradient

        return evaluate
