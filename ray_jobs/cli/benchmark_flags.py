"""What `benchmark` is told on the command line, as values."""

from collections.abc import Sequence

from ray_jobs.errors import ConfigError
from resnet_dist.export.benchmarking.speed_gate import SpeedGate


def numbers_of(flag: str, text: str | None) -> tuple[int, ...]:
    """Whole numbers with commas between them. Raises ConfigError."""
    try:
        return () if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{flag} {text}: give whole numbers with commas between them, such as 1,2") from error


def gates_of(texts: Sequence[str]) -> tuple[SpeedGate, ...]:
    """Gates, several in a text with commas between them or not. Raises ConfigError."""
    try:
        return tuple(SpeedGate.parse(part) for text in texts for part in text.split(","))
    except ValueError as error:
        raise ConfigError(str(error)) from error
