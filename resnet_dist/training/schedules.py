"""The learning rate: a pure function of the step, times the factor of a plateau where the schedule has one."""

from collections.abc import Mapping
from math import ceil, cos, pi
from typing import Any, Self, assert_never

from resnet_dist.config import ScheduleConfig
from resnet_dist.training.plateau import PlateauCounter


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of optimizer step `step` (from 0) of a schedule over `epochs`; after its end, the final rate.

    What is used is this times `Plateau.factor`, which is 1 for schedules without a plateau.
    """
    total = steps_per_epoch * epochs
    if config.kind == "one_cycle":
        rise = max(round(config.one_cycle_rise * total), 1)
        if step < rise:
            return peak * _cosine(config.initial_factor, 1.0, step, rise)
        return peak * _cosine(1.0, config.final_factor, step - rise, total - 1 - rise)
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return peak * _line(config.initial_factor, 1.0, step, warmup)
    since, last = step - warmup, total - 1 - warmup
    match config.kind:
        case "constant" | "plateau":
            factor = 1.0
        case "cosine" | "cosine_then_plateau":
            factor = _cosine(1.0, config.final_factor, since, last)
        case "step":
            length = max(round(config.step_epochs * steps_per_epoch), 1)
            factor = config.step_factor ** (max(min(since, last), 0) // length)
        case "polynomial":
            factor = _polynomial(1.0, config.final_factor, since, last, config.polynomial_power)
        case _:
            assert_never(config.kind)
    return peak * factor


class Plateau:
    """The factor that falls when the monitored metric stands still; constant 1 for schedules without a plateau.

    kind plateau: judged from the end of warm-up on, down to `final_factor`. kind cosine_then_plateau: from the cosine's
    end on, its last validation being what later ones must beat; the rate starts from the cosine's final one, so
    `final_factor` should be well above 0 (0.01 to 0.1), and falls to `plateau_floor` times that.
    """

    def __init__(self, config: ScheduleConfig, epochs: int) -> None:
        """`epochs`: those that the schedule spans, as `learning_rate` has them."""
        self._config = config
        match config.kind:
            case "plateau":
                self._first, self._floor = min(ceil(config.warmup_epochs), epochs), config.final_factor
            case "cosine_then_plateau":
                self._first, self._floor = epochs, config.plateau_floor
            case "cosine" | "one_cycle" | "constant" | "step" | "polynomial":
                self._first = None
            case _:
                assert_never(config.kind)
        self._counter = PlateauCounter(config.plateau_monitor, config.plateau_min_delta)
        self._factor = 1.0

    @property
    def factor(self) -> float:
        """What the schedule's rate is multiplied by, in 0..1."""
        return self._factor

    def update(self, metrics: Mapping[str, float], epochs_done: int) -> None:
        """After each epoch's validation, with its metrics and the number of epochs that are now done (1 at first).

        More than `plateau_patience` epochs in a row without an improvement lower the factor, as those of
        torch.optim.lr_scheduler.ReduceLROnPlateau with an absolute threshold do.
        """
        if self._first is None or epochs_done < self._first:
            return
        self._counter.update(metrics)
        if self._counter.waited > self._config.plateau_patience:
            self._counter.waited = 0
            self._factor = max(self._factor * self._config.plateau_factor, self._floor)

    def to_json(self) -> dict[str, Any]:
        """Plain values, exact."""
        return {"factor": self._factor, **self._counter.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], config: ScheduleConfig, epochs: int) -> Self:
        """The plateau that `to_json` was called of; raises ValueError for anything else."""
        fields = dict(value)
        factor = fields.pop("factor", None)
        if not isinstance(factor, float) or not 0.0 <= factor <= 1.0:
            raise ValueError(f"plateau.factor={factor!r} is not a number in 0..1; the stored state is damaged")
        plateau = cls(config, epochs)
        plateau._counter = PlateauCounter.from_json(fields, config.plateau_monitor, config.plateau_min_delta)
        plateau._factor = factor
        return plateau


def _line(first: float, last: float, step: int, length: int) -> float:
    return last if step >= length else first + (last - first) * step / length


def _cosine(first: float, last: float, step: int, length: int) -> float:
    return last if step >= length else last + (first - last) * (1.0 + cos(pi * step / length)) / 2.0


def _polynomial(first: float, last: float, step: int, length: int, power: float) -> float:
    return last if step >= length else last + (first - last) * (1.0 - step / length) ** power
