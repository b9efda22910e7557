"""How long calls take, and what many of them come to. Torch-free."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

_FEWEST_RUNS = 2


@dataclass(frozen=True)
class Turn:
    """What one process measured in one round."""

    batch: int
    """Images of each run."""
    seconds: tuple[float, ...]
    """Of each run."""
    peak_bytes: int
    """The most memory that the process has had resident until then."""

    @property
    def images_per_second(self) -> float:
        """By the median run."""
        return self.batch / median(self.seconds)


@dataclass(frozen=True)
class Timing:
    """What all rounds come to at one batch size."""

    batch: int
    """Images of each run."""
    runs: int
    p50_ms: float
    """Milliseconds of a run: the median, and the percentiles below. Few runs make a 99th percentile of the slowest."""
    p90_ms: float
    p99_ms: float
    images_per_second: float
    """The median of the rounds."""
    peak_mb: float
    """The most memory, in 10^6 bytes, that the process had resident by the time it had run such batches."""
    ratio: float | None
    """Times as many images per second as the reference: the median of the rounds' ratios; None without a reference."""


def time_calls(call: Callable[[], object], seconds: float) -> tuple[float, ...]:
    """Seconds of each call, for about `seconds` in all, after one that does not count: other work came before it."""
    call()
    found: list[float] = []
    end = perf_counter() + seconds
    while len(found) < _FEWEST_RUNS or perf_counter() < end:
        begin = perf_counter()
        call()
        found.append(perf_counter() - begin)
    return tuple(found)


def summary(turns: Sequence[Turn], peak_bytes: int, reference: Sequence[Turn] | None) -> Timing:
    """A process's turns, and its ratio to those of the reference in the same rounds."""
    milliseconds = 1000 * np.array([each for turn in turns for each in turn.seconds])
    p50, p90, p99 = (float(np.percentile(milliseconds, share)) for share in (50, 90, 99))
    ratio = None
    if reference is not None:
        pairs = zip(turns, reference, strict=True)
        ratio = median(own.images_per_second / other.images_per_second for own, other in pairs)
    speed = median(turn.images_per_second for turn in turns)
    return Timing(turns[0].batch, len(milliseconds), p50, p90, p99, speed, peak_bytes / 1e6, ratio)
