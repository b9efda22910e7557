"""The loss scale of fp16, whose small gradients would otherwise round to zero."""

from collections.abc import Mapping
from typing import Any

import torch

_FIRST = 2.0**16
_GROWTH = 2.0
_BACKOFF = 0.5
_INTERVAL = 2000
"""torch's defaults, stated since they are part of what a run computes. All are powers of two, so that scaling is exact
wherever nothing over- or underflows."""


class LossScale:
    """torch.amp.GradScaler without its optimizer step, which asks the device; switched off it does nothing.

    In a step: `scale` each microbatch's loss, reduce gradients over the ranks, `unscale`, leave the optimizer's step
    out where a gradient is not finite (resnet_dist.training.optimizer.step_unless), `update`. Ranks see the same
    gradients, so they agree on the scale without asking each other.
    """

    def __init__(self, device: torch.device, enabled: bool) -> None:
        self._scaler = torch.amp.GradScaler(
            device.type,
            init_scale=_FIRST,
            growth_factor=_GROWTH,
            backoff_factor=_BACKOFF,
            growth_interval=_INTERVAL,
            enabled=enabled,
        )
        # The scaler makes its tensors when it first scales something, and a rank without microbatches scales nothing.
        self._scaler.scale(torch.zeros((), device=device))

    @property
    def enabled(self) -> bool:
        """Whether there is a scale."""
        return self._scaler.is_enabled()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, on the scaler's device, times the scale; the loss itself when switched off."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide all gradients by the scale, in place, once a step, after they are reduced and before they are clipped.

        Any that was infinite or NaN stays so, for the step's own check, and is remembered for `update`. Does not wait
        for the device.
        """
        self._scaler.unscale_(optimizer)

    def update(self) -> None:
        """At the end of a step: halve the scale after one with such a gradient, double it after 2000 without."""
        self._scaler.update()

    def to_json(self) -> dict[str, Any]:
        """Plain values, exact; none when switched off. Between steps only, and it waits for the device."""
        if not self.enabled:
            return {}
        state = self._scaler.state_dict()
        return {"scale": state["scale"], "good_steps": state["_growth_tracker"]}

    def restore(self, value: Mapping[str, Any]) -> None:
        """Take what `to_json` made; raises ValueError for anything else, also with another `enabled`."""
        expected = {"scale", "good_steps"} if self.enabled else set[str]()
        if set(value) != expected:
            raise ValueError(f"a stored loss scale has the fields {sorted(value)}, not {sorted(expected)}")
        if not self.enabled:
            return
        scale, good_steps = value["scale"], value["good_steps"]
        positive = isinstance(scale, float) and 0.0 < scale < float("inf")
        if not positive or type(good_steps) is not int or not 0 <= good_steps < _INTERVAL:
            raise ValueError(f"a stored loss scale is damaged: {dict(value)}")
        self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": good_steps})
