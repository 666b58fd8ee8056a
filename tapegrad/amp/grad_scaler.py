"""The gradient scaler: a factor on the loss that grows while all gradients are finite and shrinks when one is not.

Between two calls of `update` a scaler notes for each optimizer how far it is (`Progress`), so that gradients are divided by the factor once.
"""

from __future__ import annotations

import enum
import inspect
import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tapegrad import creation, dtypes, modes
from tapegrad.tensor import Tensor

NO_SCALE = (
    "Attempted {} but _scale is None.  This may indicate your script did not use scaler.scale(loss or outputs) earlier in the iteration."
)
ONE_NUMBER = "new_scale should be a float or a 1-element torch.cuda.FloatTensor or torch.FloatTensor with requires_grad=False."
PASSES_ITSELF = (
    "GradScaler is going to stop passing itself as a keyword argument to the passed optimizer. In the near future GradScaler registers "
    "`grad_scale: Tensor` and `found_inf: Tensor` to the passed optimizer and let the optimizer use them directly."
)


class OptState(enum.Enum):
    """What has been done with an optimizer since the last `update`."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class Progress:
    """How far an optimizer is in this iteration, and whether a gradient of its was not finite: a 0-d tensor, 1 if so."""

    def __init__(self):
        self.stage, self.found_inf = OptState.READY, None


class GradScaler:
    """Scales losses so that gradients in reduced precision do not vanish, and skips steps in which one of them is not finite.

    `scale(loss)` multiplies the loss by the current factor; `step(optimizer)` divides the gradients by it and calls `optimizer.step()`, unless
    one of them is infinite or NaN; `update()` multiplies the factor by `backoff_factor` if a step was skipped, and by `growth_factor` after
    `growth_interval` iterations in a row without one.  With `enabled=False`, and for the device "cuda", of which there is none, nothing is done
    but `optimizer.step()`.

    >>> import tapegrad as tg
    >>> w = tg.ones(2, requires_grad=True)
    >>> optimizer, scaler = tg.optim.SGD([w], lr=0.5), tg.amp.GradScaler("cpu", init_scale=4.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> w.grad
    tensor([8., 8.])
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w
    tensor([0., 0.], requires_grad=True)
    """

    def __init__(self, device="cuda", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000, enabled=True):
        self._device, self._enabled = device, enabled
        if device == "cuda" and enabled:
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.", stacklevel=2)
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._init_scale, self._init_growth_tracker = init_scale, 0
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._scale: Tensor | None = None  # a tensor from the first call of `scale` on
        self._growth_tracker: Tensor | None = None  # iterations since the factor has changed
        self._per_optimizer_states: dict[int, Progress] = defaultdict(Progress)

    # --- the factor ---------------------------------------------------------------------------------------------------
    def scale(self, outputs):
        """The tensor, or all in an iterable of tensors however nested, times the current factor."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._scale = creation.full((), self._init_scale, dtype=dtypes.float32)
                self._growth_tracker = creation.full((), self._init_growth_tracker, dtype=dtypes.int32)
            return outputs * self._scale
        if not isinstance(outputs, Iterable):
            raise ValueError("outputs must be a Tensor or an iterable of Tensors")
        scaled = map(self.scale, outputs)
        return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled  # type: ignore[call-arg]

    def _started(self, name: str) -> Tensor:
        if self._scale is None:
            raise AssertionError(NO_SCALE.format(name))
        return self._scale

    def get_scale(self) -> float:
        """The current factor; 1.0 of a scaler that is not enabled."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def _get_scale_async(self):
        return self._scale

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else int(self._growth_tracker.item())

    # --- an iteration -------------------------------------------------------------------------------------------------
    def _divide(self, optimizer, inverse) -> Tensor | None:
        """Multiply the gradients of an optimizer by `inverse`; 1 if one of them is not finite, else 0; None if there are none."""
        bad = None
        with modes.no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.grad.dtype is dtypes.float16 and inverse is not None:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    bad = bool(bad) or not p.grad.isfinite().all().item()
                    if inverse is not None:
                        p.grad.mul_(inverse)
        return None if bad is None else creation.full((), float(bad), dtype=dtypes.float32)

    def unscale_(self, optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the factor now, to clip or look at them; `step` does it otherwise."""
        if not self._enabled:
            return
        scale, progress = self._started("unscale_"), self._per_optimizer_states[id(optimizer)]
        if progress.stage is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if progress.stage is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        progress.found_inf = self._divide(optimizer, scale.double().reciprocal().float())
        progress.stage = OptState.UNSCALED

    def _check_inf_per_device(self, optimizer) -> dict:
        """Look for gradients that are not finite, and leave them as they are."""
        self._per_optimizer_states[id(optimizer)].found_inf = self._divide(optimizer, None)
        return self._found_inf_per_device(optimizer)

    def _found_inf_per_device(self, optimizer) -> dict:
        found = self._per_optimizer_states[id(optimizer)].found_inf
        return {} if found is None else {found.device: found}

    def step(self, optimizer, *args, **kwargs):
        """`optimizer.step(*args, **kwargs)` with gradients divided by the factor; None, and no step, if one of them is not finite.

        An optimizer with the attribute `_step_supports_amp_scaling` divides them itself: it finds the factor in its attribute `grad_scale`, or None
        if they are divided already, and whether one is not finite in `found_inf`.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        progress = self._per_optimizer_states[id(optimizer)]
        if progress.stage is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            result = self._step_of_its_own(optimizer, progress, args, kwargs)
        else:
            if progress.stage is OptState.READY:
                self.unscale_(optimizer)
            if progress.found_inf is None:
                raise AssertionError("No inf checks were recorded for this optimizer.")
            result = None if progress.found_inf.item() else optimizer.step(*args, **kwargs)
        progress.stage = OptState.STEPPED
        return result

    def _step_of_its_own(self, optimizer, progress, args, kwargs):
        if "grad_scaler" in inspect.signature(optimizer.step).parameters:
            warnings.warn(PASSES_ITSELF, FutureWarning, stacklevel=3)
            return optimizer.step(*args, **kwargs, grad_scaler=self)
        if progress.stage is OptState.READY:
            self._check_inf_per_device(optimizer)
        given = getattr(optimizer, "grad_scale", None)
        if progress.stage is not OptState.UNSCALED:
            given = self._scale * (1 if given is None else given)
        optimizer.grad_scale, optimizer.found_inf = given, progress.found_inf
        result = optimizer.step(*args, **kwargs)
        del optimizer.grad_scale, optimizer.found_inf
        return result

    def update(self, new_scale=None) -> None:
        """End an iteration: adapt the factor to what was found, or set it to `new_scale`, a float or a tensor of one element."""
        if not self._enabled:
            return
        scale = self._started("update")
        if new_scale is None:
            self._adapt(scale)
        elif isinstance(new_scale, float):
            scale.fill_(new_scale)
        else:
            if new_scale.device.type != self._device or new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError(ONE_NUMBER)
            scale.copy_(new_scale)
        self._per_optimizer_states = defaultdict(Progress)

    def _adapt(self, scale) -> None:
        found = [p.found_inf for p in self._per_optimizer_states.values() if p.found_inf is not None]
        if not found:
            raise AssertionError("No inf checks were recorded prior to update.")
        tracker = self._growth_tracker
        assert tracker is not None
        if any(f.item() for f in found):
            scale.mul_(self._backoff_factor)
            tracker.zero_()
        elif tracker.item() + 1 != self._growth_interval:
            tracker.add_(1)
        else:
            larger = scale * self._growth_factor
            if larger.isfinite().item():
                scale.copy_(larger)
            tracker.zero_()

    # --- its parameters -----------------------------------------------------------------------------------------------
    def get_growth_factor(self) -> float:
        """What the factor is multiplied by when it grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Another growth factor."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the factor is multiplied by when it shrinks."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Another backoff factor."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good iterations in a row let the factor grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Another growth interval."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether the scaler does anything."""
        return self._enabled

    # --- its state ----------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """The factor, its parameters and the count of good iterations; {} of a scaler that is not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._init_scale, self._init_growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        if self._scale is not None and self._growth_tracker is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._enabled:
            if self._per_optimizer_states:
                raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after scaler.update().")
            state |= {"_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker(), "_scale": None, "_growth_tracker": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
