"""In which order an epoch visits its samples, and how that order is cut into microbatches.

Both are pure: the order is a function of (seed, epoch, sample keys), the cut of three sizes. Neither knows how
many workers there are; a worker only takes some of the microbatches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.views.randomness import Purpose, draw

_CLASSES = 2**64 - 1
"""The occurrence that classes draw with."""


def epoch_order(seed: int, epoch: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """A permutation of the rows: int64 [len(keys)]. Samples keep their place whatever row they are listed in."""
    bits = draw(seed, Purpose.ORDER, epoch, keys, 1)[:, 0]
    return np.lexsort((keys, bits)).astype(np.int64)


def block_order(
    seed: int, epoch: int, keys: NDArray[np.uint64], block_rows: int, window_blocks: int
) -> NDArray[np.int64]:
    """Blocks of consecutive rows shuffled, then rows shuffled inside windows of `window_blocks` blocks.

    int64 [len(keys)]. A window's rows lie in few contiguous stretches of storage, so that a set too large for
    memory is read almost in sequence; the result depends on the rows' listed order, the same for folder and shards.
    """
    rows = len(keys)
    blocks = np.arange(-(-rows // block_rows), dtype=np.uint64)
    shuffled = epoch_order(seed, epoch, blocks)
    windows: list[NDArray[np.int64]] = []
    for first in range(0, len(shuffled), window_blocks):
        members = np.concatenate(
            [
                np.arange(block * block_rows, min((block + 1) * block_rows, rows), dtype=np.int64)
                for block in shuffled[first : first + window_blocks]
            ]
        )
        windows.append(members[epoch_order(seed, epoch, keys[members])])
    return np.concatenate(windows) if windows else np.empty(0, dtype=np.int64)


def balanced_order(
    seed: int, epoch: int, keys: NDArray[np.uint64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """As many visits as there are samples, shared out evenly among the classes: rows int64 [N], occurrences uint64 [N].

    Each class present in `labels` (int64 [N]) is visited N / classes times; where that is no whole number, some that
    the epoch draws come once more. A class goes through its samples round by round, each round a permutation of its
    own, so that none is seen again before all are; a visit's occurrence is its round, from 0 on. All visits are then
    shuffled. A pure function of its arguments, in which samples keep their places whatever row they are listed in.
    """
    classes, class_of_row = np.unique(labels, return_inverse=True)
    if not len(classes):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
    each, once_more = divmod(len(keys), len(classes))
    # A class is no sample: it draws what no round of a sample does.
    lots = draw(seed, Purpose.ORDER, epoch, classes.astype(np.uint64), 1, _CLASSES)[:, 0]
    visits = np.full(len(classes), each)
    visits[np.lexsort((classes, lots))[:once_more]] += 1
    rows: list[NDArray[np.int64]] = []
    rounds: list[NDArray[np.uint64]] = []
    for place, wanted in enumerate(visits.tolist()):
        members = np.flatnonzero(class_of_row == place)
        for occurrence in range(-(-wanted // len(members))):
            bits = draw(seed, Purpose.ORDER, epoch, keys[members], 1, occurrence)[:, 0]
            seen = members[np.lexsort((keys[members], bits))[: wanted - occurrence * len(members)]]
            rows.append(seen.astype(np.int64))
            rounds.append(np.full(len(seen), occurrence, dtype=np.uint64))
    row, occurrence = np.concatenate(rows), np.concatenate(rounds)
    # The second word: the first has decided the rounds, and says who of a class is early.
    places = draw(seed, Purpose.ORDER, epoch, keys[row], 2, occurrence)[:, 1]
    order = np.lexsort((keys[row], occurrence, places))
    return row[order], occurrence[order]


def occurrence_keys(keys: NDArray[np.uint64], occurrences: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The keys of visits: a sample's own for its first in an epoch, another for each repeat. uint64 [N].

    Whatever is drawn for a visit (view, dropout mask, mixing factor) is drawn for its key, so that a sample that comes
    twice is not seen twice alike. The key of occurrence n > 0 is the third word of the bits for (seed 0, order, epoch
    0, key, n): the same in every run and epoch.
    """
    repeats = draw(0, Purpose.ORDER, 0, keys, 3, occurrences)[:, 2]
    return np.where(occurrences == 0, keys, repeats)


@dataclass(frozen=True)
class MicrobatchCut:
    """Positions [start, stop) of one microbatch in the epoch's order, and its place in its step."""

    step: int
    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Samples in the microbatch."""
        return self.stop - self.start


@dataclass(frozen=True)
class EpochCut:
    """How an epoch of `samples` is cut into steps of at most `global_batch_size` and microbatches of a fixed size.

    The last microbatch may be smaller. A lone last sample joins the microbatch before it, in the global batch
    before if need be, since BatchNorm has no statistics of one sample. `drop_last` leaves out the last global
    batch when it is partial.
    """

    samples: int
    global_batch_size: int
    microbatch_size: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.microbatch_size % 2 or self.global_batch_size % self.microbatch_size:
            raise ValueError(
                f"microbatch_size={self.microbatch_size} must be even and divide "
                f"global_batch_size={self.global_batch_size}"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        if self.drop_last:
            return self.samples // self.global_batch_size
        whole, rest = divmod(self.samples, self.global_batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    @property
    def largest_microbatch(self) -> int:
        """Samples in the largest microbatch: one more than the size where a lone sample joins."""
        return max((cut.size for cut in self._tail()), default=0)

    def step(self, step: int) -> list[MicrobatchCut]:
        """The microbatches of a step in their global order; raises IndexError beyond the last."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of an epoch with {self.steps}")
        first = step * self.global_batch_size
        last = step == self.steps - 1
        end = first + self.global_batch_size
        stop = (end if self.drop_last else self.samples) if last else end
        starts = list(range(first, min(stop, end), self.microbatch_size))
        if len(starts) > 1 and stop - starts[-1] == 1:
            starts.pop()
        stops = [*starts[1:], stop]
        return [MicrobatchCut(step, i, a, b) for i, (a, b) in enumerate(zip(starts, stops, strict=True))]

    def from_step(self, first_step: int) -> Iterator[list[MicrobatchCut]]:
        """The steps of the epoch from `first_step` on."""
        return (self.step(step) for step in range(first_step, self.steps))

    def _tail(self) -> list[MicrobatchCut]:
        return [cut for step in {0, self.steps - 1} if 0 <= step < self.steps for cut in self.step(step)]


def of_rank(cuts: list[MicrobatchCut], rank: int, world_size: int) -> list[MicrobatchCut]:
    """The whole microbatches that `rank` of `world_size` computes: every world_size-th, none where there are fewer."""
    return cuts[rank::world_size]
