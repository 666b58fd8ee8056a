"""Schedules that go up and down: CyclicLR, OneCycleLR and their momenta, and cosines with restarts."""

from __future__ import annotations

import math

from tapegrad.optim.lr_base import LRScheduler, check_optimizer, per_group, set_option, state_of


class _WithMomentum(LRScheduler):
    """A schedule that can move the momentum (SGD's, or beta1 of Adam) against the learning rate."""

    def _start_momentum(self, optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch) -> None:
        self.cycle_momentum = cycle_momentum
        if not cycle_momentum:
            return
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in optimizer.defaults
        self.base_momentums = per_group("base_momentum", optimizer, base_momentum)
        self.max_momentums = per_group("max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for low, high, group in zip(self.base_momentums, self.max_momentums, optimizer.param_groups, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group, value) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_WithMomentum):
    """Between base_lr and max_lr along straight lines, step_size_up steps up and step_size_down down, again and again (Smith 2017).

    The height of a cycle is scaled by `mode`: "triangular" not at all, "triangular2" by 1 / 2^(cycle - 1), "exp_range" by gamma^step; or by
    scale_fn of the cycle or the step, as scale_mode ("cycle" or "iterations") says.
    """

    def __init__(self, optimizer, base_lr, max_lr, step_size_up=2000, step_size_down=None, mode="triangular", gamma=1.0, scale_fn=None,
                 scale_mode="cycle", cycle_momentum=True, base_momentum=0.8, max_momentum=0.9, last_epoch=-1):
        check_optimizer(optimizer)
        base_lrs = per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for lr, group in zip(base_lrs, optimizer.param_groups, strict=True):
                set_option(group, "lr", lr)
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError("mode is invalid and scale_fn is None")
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x):
        """The factor of the height at a cycle or step."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return self._scale_fn_ref(x)

    @property
    def _scale_fn_ref(self):
        """The factor that the mode gives."""
        if self.mode == "exp_range":
            return lambda x: self.gamma**x
        return (lambda x: 1.0) if self.mode == "triangular" else lambda x: 1 / 2.0 ** (x - 1)

    def get_lr(self):
        """The rates at this place of the cycle; sets the momenta too."""
        self._current()
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        place = 1.0 + self.last_epoch / self.total_size - cycle
        height = place / self.step_ratio if place <= self.step_ratio else (place - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for low, high, group in zip(self.base_momentums, self.max_momentums, self.optimizer.param_groups, strict=True):
                self._set_momentum(group, high - (high - low) * height * scale)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self):
        """Everything but the optimizer; a callable object as scale_fn is kept by its attributes."""
        return {**super().state_dict(), "_scale_fn_custom": state_of(self._scale_fn_custom)}

    def load_state_dict(self, state_dict):
        """Take over a `state_dict`."""
        kept = state_dict["_scale_fn_custom"]
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_scale_fn_custom"})
        if kept is not None:
            self._scale_fn_custom.__dict__.update(kept)


class OneCycleLR(_WithMomentum):
    """Up from max_lr / div_factor to max_lr in the share pct_start of total_steps, then down to a final_div_factor-th of the start.

    Along half cosines or lines; `three_phase` returns to the start first, as fast as it went up (Smith and Topin 2019).
    """

    def __init__(self, optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3, anneal_strategy="cos",
                 cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0, final_div_factor=1e4, three_phase=False,
                 last_epoch=-1):
        check_optimizer(optimizer)
        given = [("total_steps", total_steps)] if total_steps is not None else [("epochs", epochs), ("steps_per_epoch", steps_per_epoch)]
        if any(value is None for _, value in given):
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        for name, value in given:
            if not isinstance(value, int) or value <= 0:
                raise ValueError(f"Expected positive integer {name}, but got {value}")
        self.total_steps = math.prod(value for _, value in given)
        if pct_start < 0 or pct_start > 1 or not isinstance(pct_start, float):
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_func_type = anneal_strategy
        up, end = pct_start * self.total_steps - 1, self.total_steps - 1
        phase = lambda until, lrs, momenta: {  # which keys of a group the phase goes between
            "end_step": until, "start_lr": lrs[0], "end_lr": lrs[1], "start_momentum": momenta[0], "end_momentum": momenta[1]
        }
        rising, falling = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
        self._schedule_phases = [phase(up, ("initial_lr", "max_lr"), rising)]
        if three_phase:
            self._schedule_phases += [phase(2 * up, ("max_lr", "initial_lr"), falling), phase(end, ("initial_lr", "min_lr"), ("max_momentum",) * 2)]
        else:
            self._schedule_phases += [phase(end, ("max_lr", "min_lr"), falling)]
        if last_epoch == -1:
            for lr, group in zip(per_group("max_lr", optimizer, max_lr), optimizer.param_groups, strict=True):
                group["initial_lr"], group["max_lr"] = lr / div_factor, lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _between(self, start, end, share):
        if self._anneal_func_type == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def get_lr(self):
        """The rates at this step; sets the momenta too."""
        self._current()
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")
        phases = self._schedule_phases
        turn = next((k for k, phase in enumerate(phases) if step <= phase["end_step"]), len(phases) - 1)
        begin = phases[turn - 1]["end_step"] if turn else 0.0
        phase = phases[turn]
        share = (step - begin) / (phase["end_step"] - begin)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[phase["start_lr"]], group[phase["end_lr"]], share))
            if self.cycle_momentum:
                self._set_momentum(group, self._between(group[phase["start_momentum"]], group[phase["end_momentum"]], share))
        return rates


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the initial rate down to eta_min along half a cosine of T_0 epochs, and again from the start, each time T_mult times as long
    (Loshchilov and Hutter 2017).  `step(epoch)` takes fractions of an epoch too."""

    def __init__(self, optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1):
        if T_0 <= 0 or not isinstance(T_0, int):
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if T_mult < 1 or not isinstance(T_mult, int):
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """The rates at the place in the present stretch."""
        self._current()
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch=None):
        """Set the learning rates of the next epoch, or of `epoch`."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            self._go_to(epoch)
        self._get_lr_called_within_step = True
        try:
            self.last_epoch = math.floor(epoch)
            values = self.get_lr()
        finally:
            self._get_lr_called_within_step = False
        self._assign(values)

    def _go_to(self, epoch) -> None:
        """Find the stretch that an epoch lies in, and the place in it."""
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            stretches = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            self.T_cur = epoch - self.T_0 * (self.T_mult**stretches - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**stretches
