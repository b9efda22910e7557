"""Notices when steps are left out again and again because their numbers are not finite."""

from collections.abc import Callable, Sequence

import torch

from resnet_dist.errors import DivergedError

_LOOK_EVERY = 10
"""Steps between two looks at a GPU's counts; each look waits for the device."""
_NAMED = 20


class DivergenceWatch:
    """Ends training after too many steps in a row; `names` gives the sample ids of (epoch, step in it)."""

    def __init__(self, most: int, names: Callable[[int, int], Sequence[str]]) -> None:
        self._most = most
        self._names = names
        self._counts: list[tuple[int, int, torch.Tensor]] = []

    def add(self, epoch: int, step_in_epoch: int, in_a_row: torch.Tensor) -> None:
        """After a step, with the scalar of how many up to it were left out. Raises DivergedError for too many."""
        self._counts.append((epoch, step_in_epoch, in_a_row))
        if in_a_row.device.type == "cpu" or len(self._counts) >= _LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Look at the counts now; also at the end of an epoch."""
        counts, self._counts = self._counts, []
        if not counts:
            return
        values: list[float] = torch.stack([count for _, _, count in counts]).tolist()  # pyright: ignore[reportUnknownVariableType]
        for (epoch, step_in_epoch, _), value in zip(counts, values, strict=True):
            if value > self._most:
                raise self._diverged(epoch, step_in_epoch, int(value))

    def _diverged(self, epoch: int, step_in_epoch: int, in_a_row: int) -> DivergedError:
        names = self._names(epoch, step_in_epoch)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return DivergedError(
            f"{in_a_row} steps in a row had a loss or gradient that is not finite (training.max_skipped_steps="
            f"{self._most}), the last one in epoch {epoch + 1}, step {step_in_epoch + 1}, on the images "
            f"{', '.join(repr(name) for name in names[:_NAMED])}{more}; lower optimizer.learning_rate, set "
            "optimizer.clip_norm, or use training.precision bf16 or fp32; the checkpoints before are intact"
        )
