"""Ending a training whose validation metric no longer improves."""

from collections.abc import Mapping
from typing import Any, Self

from resnet_dist.config import TrainingConfig
from resnet_dist.training.plateau import PlateauCounter


class EarlyStopping:
    """Says when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    NaN is no improvement. A stopped run that is started again with a longer patience goes on.
    """

    def __init__(self, monitor: str, patience: int, min_delta: float) -> None:
        """`patience`: at least 1."""
        self._patience = patience
        self._counter = PlateauCounter(monitor, min_delta)

    @property
    def should_stop(self) -> bool:
        """Whether to end; ask before an epoch, too, since a resumed run may have been at its end."""
        return self._counter.waited >= self._patience

    def reason(self, epoch: int) -> str:
        """Why training ends after `epoch` epochs, for people; only where it should stop."""
        counter = self._counter
        epochs = f"{counter.waited} epoch{'' if counter.waited == 1 else 's'}"
        what = f"early stopping after epoch {epoch}: {counter.monitor}"
        if counter.best is None:
            return f"{what} was no number for {epochs}"
        least = f" by more than {counter.min_delta:g}" if counter.min_delta else ""
        since = f"since epoch {epoch - counter.waited} ({counter.best:.4f})"
        return f"{what} has not improved{least} for {epochs}, {since}"

    def update(self, metrics: Mapping[str, float]) -> None:
        """After each epoch's validation, with its metrics."""
        self._counter.update(metrics)

    def to_json(self) -> dict[str, Any]:
        """Plain values, exact."""
        return self._counter.to_json()

    @classmethod
    def from_json(cls, value: Mapping[str, Any], monitor: str, patience: int, min_delta: float) -> Self:
        """From what `to_json` made, with what the config says now; raises ValueError for anything else.

        Another monitor than the stored one begins anew.
        """
        stopping = cls(monitor, patience, min_delta)
        stopping._counter = PlateauCounter.from_json(value, monitor, min_delta)
        return stopping


def stopping_of(config: TrainingConfig, past: Mapping[str, Any] | None) -> EarlyStopping | None:
    """Early stopping as the config says now, None where it is off. `past`: what `to_json` gave, None at the start."""
    if not config.early_stopping:
        return None
    rule = config.early_stopping_monitor, config.early_stopping_patience, config.early_stopping_min_delta
    return EarlyStopping(*rule) if past is None else EarlyStopping.from_json(past, *rule)
