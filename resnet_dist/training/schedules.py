"""The learning rate as a pure function of the step."""

from math import cos, pi
from typing import assert_never

from resnet_dist.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of optimizer step `step` (from 0) of a schedule over `epochs`; after its end, the final rate."""
    total = steps_per_epoch * epochs
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    match config.kind:
        case "constant":
            factor = _line(config.initial_factor, 1.0, step, warmup)
        case "cosine":
            if step < warmup:
                factor = _line(config.initial_factor, 1.0, step, warmup)
            else:
                factor = _cosine(1.0, config.final_factor, step - warmup, total - 1 - warmup)
        case "one_cycle":
            rise = max(round(config.one_cycle_rise * total), 1)
            if step < rise:
                factor = _cosine(config.initial_factor, 1.0, step, rise)
            else:
                factor = _cosine(1.0, config.final_factor, step - rise, total - 1 - rise)
        case _:
            assert_never(config.kind)
    return peak * factor


def _line(first: float, last: float, step: int, length: int) -> float:
    return last if step >= length else first + (last - first) * step / length


def _cosine(first: float, last: float, step: int, length: int) -> float:
    return last if step >= length else last + (first - last) * (1.0 + cos(pi * step / length)) / 2.0
