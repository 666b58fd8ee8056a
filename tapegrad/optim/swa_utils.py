"""Averages of a model's weights along its training: AveragedModel, the rules of averaging, update_bn and the schedule SWALR.

Equal weights after Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018); exponential ones after Polyak.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from itertools import chain

from tapegrad import creation, dtypes, modes
from tapegrad.nn.modules.batchnorm import _BatchNorm
from tapegrad.nn.modules.module import Module
from tapegrad.optim.lr_base import LRScheduler, per_group

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn"]


# --- rules of averaging ----------------------------------------------------------------------------------------------
def _check_decay(decay) -> None:
    if decay < 0.0 or decay > 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_multi_avg_fn(decay=0.999):
    """The rule average <- decay average + (1 - decay) current, of lists of tensors in place."""
    _check_decay(decay)

    @modes.no_grad()
    def ema_update(ema_param_list, current_param_list, _):
        for average, current in zip(ema_param_list, current_param_list, strict=True):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(average * decay + current * (1 - decay))

    return ema_update


def get_swa_multi_avg_fn():
    """The rule average <- average + (current - average) / (num_averaged + 1), of lists of tensors in place."""

    @modes.no_grad()
    def swa_update(averaged_param_list, current_param_list, num_averaged):
        for average, current in zip(averaged_param_list, current_param_list, strict=True):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(current, 1 / (num_averaged + 1).to(average.dtype) if hasattr(num_averaged, "to") else 1 / (num_averaged + 1))
            else:
                average.copy_(average + (current - average) / (num_averaged + 1))

    return swa_update


def get_ema_avg_fn(decay=0.999):
    """The rule (average, current, number) -> decay average + (1 - decay) current."""
    _check_decay(decay)

    @modes.no_grad()
    def ema_update(ema_param, current_param, num_averaged):
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn():
    """The rule (average, current, number) -> average + (current - average) / (number + 1)."""

    @modes.no_grad()
    def swa_update(averaged_param, current_param, num_averaged):
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


# --- the averaged model ----------------------------------------------------------------------------------------------
class AveragedModel(Module):
    """A copy of `model` whose parameters become averages of those that `update_parameters` is shown.

    `avg_fn(average, current, number)` returns the next average of one tensor; `multi_avg_fn(averages, currents, number)` changes a list of
    them, all of one dtype.  Without either all models count alike.  With `use_buffers` buffers are averaged too, else the last are kept.

    >>> import tapegrad as tg
    >>> model = tg.nn.Linear(1, 1, bias=False)
    >>> averaged = tg.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     with tg.no_grad():
    ...         _ = model.weight.fill_(value)
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item(), averaged.n_averaged.item()
    (3.0, 3)
    """

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", creation.tensor(0, dtype=dtypes.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args, **kwargs):
        """What the averaged copy computes."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model) -> None:
        """Let the averages take in the parameters of `model`; the first are copied."""
        listed = (lambda m: chain(m.parameters(), m.buffers())) if self.use_buffers else lambda m: m.parameters()
        pairs = [(average.detach(), current.detach()) for average, current in zip(listed(self.module), listed(model), strict=False)]
        if self.n_averaged == 0:
            for average, current in pairs:
                average.copy_(current)
        elif self.avg_fn is not None:
            for average, current in pairs:
                average.copy_(self.avg_fn(average, current, self.n_averaged))
        else:
            groups = defaultdict(list)
            for pair in pairs:
                groups[pair[0].dtype].append(pair)
            update = self.multi_avg_fn or get_swa_multi_avg_fn()
            for group in groups.values():
                averages, currents = zip(*group, strict=True)
                update(list(averages), list(currents), self.n_averaged)
        if not self.use_buffers:
            for average, current in zip(self.module.buffers(), model.buffers(), strict=True):
                average.detach().copy_(current.detach())
        self.n_averaged += 1


@modes.no_grad()
def update_bn(loader, model, device=None) -> None:
    """Let the batch norms of `model` have the means and variances of the data in `loader`: of its tensors, or the first of its lists."""
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None  # all batches count alike
    for batch in loader:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(batch if device is None else batch.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


# --- the schedule ----------------------------------------------------------------------------------------------------
class SWALR(LRScheduler):
    """From the rates that there are to `swa_lr` (one, or one per group) within anneal_epochs, along half a cosine or a line, and on at that."""

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        for lr, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t):
        """The share of swa_lr at the part `t` of the way."""
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self):
        """The share of the way that this step makes, applied to the rates as they are: others may have set them."""
        rates = self._current()
        step = self._step_count - 1 if self.anneal_epochs else max(1, self._step_count - 1)
        share = lambda k: self.anneal_func(max(0, min(1, k / max(1, self.anneal_epochs))))
        before, now = share(step - 1), share(step)
        result = []
        for lr, group in zip(rates, self.optimizer.param_groups, strict=True):
            start = group["swa_lr"] if before == 1 else (lr - before * group["swa_lr"]) / (1 - before)
            result.append(group["swa_lr"] * now + start * (1 - now))
        return result
