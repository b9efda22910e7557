"""How near two hashes must be for their images to count as copies: from images that are known to differ."""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.hashing import BITS
from data_pipeline.views.randomness import Purpose, below, draw

WRONG_SHARE = 0.001
"""Share of the images that may be taken for a copy of an image that they are no copy of."""
_SAFETY = 100
"""Times that a false match must be rarer than that: distances have a heavier tail than a normal distribution, and one
false match joins two whole clusters (measured by benchmarks/near_copies.py)."""
MOST = 96
"""A radius beyond this would call images copies that have little in common."""
_FEWEST_PAIRS = 500
_PAIRS = 400_000
_QUANTILES = (0.1, 0.01)
"""Deeper ones would see copies that carry different labels, and take them for images that differ."""
_WIDEST = 16.0
"""Twice what independent bits have. A wider spread is of copies that carry different labels, many in a small set, or of
variants of a part that share most of what they show. Nobody can tell which, so only very near images are copies."""
_UNKNOWN_SPREAD = 12.0
"""Standard deviation of distances where there are too few pairs to tell; 8 if all bits were independent."""


@dataclass(frozen=True)
class Radius:
    """The largest distance of copies, in bits of 256."""

    bits: int
    given: bool
    """Whether a person chose it."""
    false_match_rate: float
    """Chance that two images that differ are that near, in either orientation."""
    median: float
    """Distance of images that are known to differ."""
    spread: float
    """Their standard deviation, by the wider of the nearest tenth and hundredth; at most 16."""
    pairs: int
    """Pairs of images known to differ that were looked at: those of different labels."""

    def lowered(self, bits: int) -> "Radius":
        """To fewer bits than were meant; nobody chose those."""
        return replace(self, bits=bits, given=False, false_match_rate=_false_match_rate(self.median, self.spread, bits))


def radius_of(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], keys: NDArray[np.uint64], given: int | None = None
) -> Radius:
    """For N images with hashes uint64 [N, 4], labels int64 [N] and keys uint64 [N]; the `given` one wins.

    Of N images, each is compared with N - 1 others in two orientations, so the chance of a false match may be
    WRONG_SHARE / (2 (N - 1)), and is chosen a hundred times as rare. The distances of a sample of pairs with different
    labels are taken for a normal distribution. Its median, and its spread among the nearest tenth and hundredth, tell
    where that chance lies.
    """
    distances = _distances_of_different(hashes, labels, keys)
    median, spread = BITS / 2, _UNKNOWN_SPREAD
    if len(distances) >= _FEWEST_PAIRS:
        median = float(np.median(distances))
        low = np.quantile(distances, _QUANTILES)
        spreads = [(median - near) / -NormalDist().inv_cdf(share) for near, share in zip(low, _QUANTILES, strict=True)]
        spread = min(max(1.0, *map(float, spreads)), _WIDEST)
    rate = WRONG_SHARE / _SAFETY / max(2 * (len(hashes) - 1), 1)
    bits = int(np.clip(np.floor(median + spread * NormalDist().inv_cdf(rate)), 0, MOST)) if given is None else given
    found = _false_match_rate(median, spread, bits)
    return Radius(bits, given is not None, found, median, spread, len(distances))


def _false_match_rate(median: float, spread: float, bits: int) -> float:
    return min(1.0, 2 * NormalDist(median, spread).cdf(bits + 0.5))


def _distances_of_different(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], keys: NDArray[np.uint64]
) -> NDArray[np.uint16]:
    """Of pairs of different labels, drawn by the images' keys: each image with as many others as make enough."""
    count = len(hashes)
    if count < 2:
        return np.zeros(0, np.uint16)
    partners = min(count - 1, -(-_PAIRS // count))
    others = below(draw(0, Purpose.INSPECTION, 0, keys, partners), count).ravel()
    rows = np.repeat(np.arange(count), partners)
    different = labels[rows] != labels[others]
    rows, others = rows[different], others[different]
    return np.bitwise_count(hashes[rows] ^ hashes[others]).sum(axis=1, dtype=np.uint16)
