"""Multi-index hashing: which of many hashes may differ in few bits, found by what they share.

The bits are divided into bands. Hashes that differ in few bits differ in very few of some band, so that looking up
each band with every pattern of so many flipped bits misses no pair (Norouzi, Punjani and Fleet, "Fast search in Hamming
space with multi-index hashing", 2012, arXiv:1307.2982).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

COMPARISON_NS, LOOKUP_NS, CANDIDATE_NS = 8.0, 12.0, 30.0
"""What plans are weighed by: a pair where all are compared with all, and the two kinds of work with bands. Measured on
one core of a server of 2023; only their ratios matter, and not much."""

_MOST_BITS = 24  # of a band: the table of its buckets has an entry for each value
_SPARE_BITS = 4  # more than would number all hashes do not pay for the table
_CHUNK = 1 << 18  # candidates held at once

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int16]]
"""Rows, rows of the other side, and in how many bits they differ."""


@dataclass(frozen=True)
class PackedHashes:
    """Hashes without the bits that all share, those of the highest entropy first, as columns of W words."""

    left: NDArray[np.uint64]
    """[W, N], W from 0 to 4."""
    right: NDArray[np.uint64] | None
    """[W, M]; None: the hashes are compared with one another."""
    entropy: tuple[float, ...]
    """Of each bit that is left, in bits."""

    @property
    def pairs(self) -> int:
        """How many pairs there are, near or not."""
        count = self.left.shape[1]
        return count * (count - 1) // 2 if self.right is None else count * self.right.shape[1]


@dataclass(frozen=True)
class Band:
    """Some of the bits, as a number for each hash. In candidates these differ in at most `flips` bits."""

    width: int
    """Number of bits, up to 24."""
    flips: int
    keys: NDArray[np.uint32]
    """[N]."""
    others: NDArray[np.uint32] | None
    """[M]; None: the hashes are compared with one another."""

    def count_candidates(self) -> int:
        """The exact number of candidates, from the sizes of the buckets alone."""
        others = self.keys if self.others is None else self.others
        within = [np.bincount(others, minlength=1 << self.width).astype(np.int32)]
        within += [np.zeros_like(within[0]) for _ in range(self.flips)]
        for bit in range(self.width):  # within[n][key]: hashes whose keys differ in n of the bits up to this one
            for flips in range(self.flips, 0, -1):
                more = within[flips].reshape(-1, 2, 1 << bit)
                fewer = within[flips - 1].reshape(-1, 2, 1 << bit)
                more[:, 0] += fewer[:, 1]
                more[:, 1] += fewer[:, 0]
        total = sum(int(counts[self.keys].sum(dtype=np.int64)) for counts in within)
        return total if self.others is not None else (total - len(self.keys)) // 2

    def near(self, hashes: PackedHashes, radius: int) -> Iterator[Pairs]:
        """The candidates that differ in at most `radius` bits of the first word, the distance that of this word.

        Some at a time, in any order, each pair once, as (row, row) of the two sides.
        """
        order = np.argsort(self.keys)
        keys, words = self.keys[order].astype(np.int64), hashes.left[0][order]
        other_order, others, other_words = order, keys, words
        if self.others is not None and hashes.right is not None:
            other_order = np.argsort(self.others)
            others, other_words = self.others[other_order], hashes.right[0][other_order]
        for first, second in self._places(keys, np.bincount(others, minlength=1 << self.width)):
            distance = np.bitwise_count(words[first] ^ other_words[second])
            near = np.flatnonzero(distance <= radius)
            yield order[first[near]], other_order[second[near]], distance[near].astype(np.int16)

    def _places(
        self, keys: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Candidates as places in the order of their keys. `sizes`: how many others have each key."""
        ends = np.cumsum(sizes)
        taken = sizes > 0
        places = np.arange(len(keys))
        if self.others is None:
            yield from _expand(places, places + 1, ends[keys] - places - 1)
        else:
            yield from _expand(places, ends[keys] - sizes[keys], sizes[keys])
        for highest in range(self.width if self.flips else 0):
            if self.others is None:  # a pair is found from the key with the lower number, which lacks this bit
                places = np.flatnonzero(keys >> highest & 1 == 0)
            some = keys[places]
            for number in range(self.flips):
                for bits in combinations(range(highest), number):
                    partners = some ^ sum(1 << bit for bit in (*bits, highest))
                    found = np.flatnonzero(taken[partners])
                    partners, counts = partners[found], sizes[partners[found]]
                    yield from _expand(places[found], ends[partners] - counts, counts)

    def finds(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the pairs of rows are candidates of this band."""
        others = self.keys if self.others is None else self.others
        return np.bitwise_count(self.keys[first] ^ others[second]) <= self.flips


def pack(hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None) -> PackedHashes:
    """The hashes, uint64 [N, 4] and [M, 4], without the bits that all share; others: as in the result."""
    sides = [np.ascontiguousarray(side.T) for side in (hashes, others) if side is not None]
    count = sum(side.shape[1] for side in sides)
    bits = range(64 * hashes.shape[1])
    ones = np.array([sum(int(np.count_nonzero(_bit(side, bit))) for side in sides) for bit in bits])
    varying = np.flatnonzero((ones > 0) & (ones < count))
    share = ones[varying] / max(count, 1)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    ranking = np.argsort(-entropy, kind="stable")
    order: list[int] = varying[ranking].tolist()
    words = [order[start : start + 64] for start in range(0, len(order), 64)]
    packed = [
        np.array([_number(side, word) for word in words], dtype=np.uint64).reshape(len(words), side.shape[1])
        for side in sides
    ]
    return PackedHashes(packed[0], None if others is None else packed[1], tuple(entropy[ranking].tolist()))


def cheapest_bands(hashes: PackedHashes, radius: int, most_work: int, most_ns: float) -> tuple[Band, ...]:
    """The bands that find all pairs at most `radius` bits apart at the least cost; empty where none keeps the limits.

    `most_work`: lookups and candidates together; `most_ns`: what they may cost.
    """
    best: tuple[Band, ...] = ()
    for flips in range(radius + 1):  # with each there are fewer and wider bands: more lookups for fewer candidates
        shares = deal_bits(hashes, radius // (flips + 1) + 1)
        allowed = flips_of_bands(radius, len(shares))
        patterns = [
            sum(comb(len(bits), n) for n in range(most + 1)) for bits, most in zip(shares, allowed, strict=True)
        ]
        lookups = hashes.left.shape[1] * sum(patterns) // (2 if hashes.right is None else 1)
        most_candidates = min(most_work - lookups, (most_ns - lookups * LOOKUP_NS) / CANDIDATE_NS)
        if most_candidates < 0:
            break
        # If keys were spread evenly. Real ones meet more often: where these are too many, counting is in vain.
        expected = sum(hashes.pairs * many / 2 ** len(bits) for bits, many in zip(shares, patterns, strict=True))
        bands = None if expected > most_candidates else _counted(hashes, shares, allowed, most_candidates)
        if bands is not None:
            best, most_ns = bands[0], lookups * LOOKUP_NS + bands[1] * CANDIDATE_NS
    return best


def deal_bits(hashes: PackedHashes, bands: int) -> list[list[int]]:
    """Bits for each band, so that all have about the same entropy; where bands are full, the least telling are left."""
    count = max(side.shape[1] for side in (hashes.left, hashes.right) if side is not None)
    most = min(count.bit_length() + _SPARE_BITS, _MOST_BITS)
    dealt: list[list[int]] = [[] for _ in range(bands)]
    open_bands = [(0.0, band) for band in range(bands)]
    for bit, entropy in enumerate(hashes.entropy):
        if open_bands:
            held, band = heappop(open_bands)
            dealt[band].append(bit)
            if len(dealt[band]) < most:
                heappush(open_bands, (held + entropy, band))
    return dealt


def flips_of_bands(radius: int, bands: int) -> list[int]:
    """The bits that may differ in each of 1 to radius + 1 bands, so that no pair is missed (proposition 2).

    Each with one more, they add up to radius + 1: hashes that differ in more bits of every band differ in more than
    `radius`.
    """
    return [(radius + 1 + band) // bands - 1 for band in range(bands)]


def make_band(hashes: PackedHashes, bits: Sequence[int], flips: int) -> Band:
    """A band of some of the bits."""
    others = None if hashes.right is None else _number(hashes.right, bits).astype(np.uint32)
    return Band(len(bits), flips, _number(hashes.left, bits).astype(np.uint32), others)


def _counted(
    hashes: PackedHashes, shares: list[list[int]], allowed: list[int], most_candidates: float
) -> tuple[tuple[Band, ...], int] | None:
    """The bands and how many candidates they have; None: too many."""
    bands, candidates = list[Band](), 0
    for bits, flips in zip(shares, allowed, strict=True):
        bands.append(make_band(hashes, bits, flips))
        candidates += bands[-1].count_candidates()
        if candidates > most_candidates:
            return None
    return tuple(bands), candidates


def _bit(words: NDArray[np.uint64], bit: int) -> NDArray[np.uint64]:
    """Bit 64 n + b is bit b of word n."""
    return (words[bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)


def _number(words: NDArray[np.uint64], bits: Sequence[int]) -> NDArray[np.uint64]:
    """A number for each hash of words uint64 [W, N]: the first of the bits is its lowest."""
    number = np.zeros(words.shape[1], dtype=np.uint64)
    for place, bit in enumerate(bits):
        number |= _bit(words, bit) << np.uint64(place)
    return number


def _expand(
    places: NDArray[np.int64], begins: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(places[i], begins[i] + n) for all n < counts[i], so many at a time that they stay in a core's cache."""
    totals = np.cumsum(counts)
    start = done = 0
    while start < len(places):
        end = max(int(np.searchsorted(totals, done + _CHUNK, side="right")), start + 1)
        made = int(totals[end - 1]) - done
        shifts = begins[start:end] - (totals[start:end] - counts[start:end] - done)
        yield np.repeat(places[start:end], counts[start:end]), np.repeat(shifts, counts[start:end]) + np.arange(made)
        start, done = end, done + made
