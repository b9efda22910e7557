"""Pairs of images whose 256-bit hashes differ in few bits: all of them, mostly without comparing all with all.

Few hashes are compared all with all; for many, `hash_bands` finds the candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.hash_bands import COMPARISON_NS, Band, PackedHashes, Pairs, cheapest_bands, pack

BITS = 256
"""Of a hash."""

_WORDS = BITS // 64
_TILE_ROWS, _TILE_COLUMNS = 16, 4096  # compared at once, so that what is between stays in a core's cache
_FEW = 32  # where fewer than one pair in so many is left, it is quicker to go on with those alone


@dataclass(frozen=True)
class NearPairs:
    """P pairs of rows, sorted by (first, second)."""

    first: NDArray[np.int64]
    """[P] rows."""
    second: NDArray[np.int64]
    """[P] rows."""
    distance: NDArray[np.int16]
    """[P] bits in which the two hashes differ."""
    radius: int
    """The largest distance that was looked for: up to it no pair is missing."""
    lowered_from: int | None
    """The radius that was asked for, where that would have taken too much; None: it is `radius`."""


def near_pairs(
    hashes: NDArray[np.uint64], radius: int, *, most_candidates: int = 2_000_000_000, most_pairs: int = 50_000_000
) -> NearPairs:
    """Pairs first < second of N hashes, uint64 [N, 4], that differ in at most `radius` bits.

    Equal hashes count as one: the first of m equal rows stands for all of them. It is paired with each of the others,
    m - 1 pairs of distance 0, and they with nothing else. So the rows that a chain of pairs joins are the same as if
    every pair were listed; `near_pairs(hashes, 0)` says for whom a row stands.

    Where every way to find the pairs makes more than `most_candidates` lookups and comparisons, the radius is lowered
    to the largest at which one does not; where more than `most_pairs` pairs of unequal hashes are found, to the largest
    at which they are not. `NearPairs.lowered_from` says so. Equal hashes are always found.

    Raises ValueError for another dtype or shape, or a radius that is not from 0 to 256.
    """
    _refuse(radius, hashes=hashes)
    representatives = _representatives(hashes)
    rows = np.flatnonzero(representatives == np.arange(len(hashes)))
    copies = np.flatnonzero(representatives != np.arange(len(hashes)))
    found = _Found(radius, most_pairs)
    _search(hashes[rows], None, most_candidates, found)
    return found.pairs(rows, rows, representatives[copies], copies)


def near_pairs_between(
    hashes: NDArray[np.uint64],
    others: NDArray[np.uint64],
    radius: int,
    *,
    most_candidates: int = 2_000_000_000,
    most_pairs: int = 50_000_000,
) -> NearPairs:
    """Pairs (row of `hashes`, row of `others`), uint64 [N, 4] and [M, 4], that differ in at most `radius` bits.

    On either side the first of equal rows stands for all of them, and only those first rows are paired; for whom they
    stand, `near_pairs` of that side says. The limits and errors are those of `near_pairs`.
    """
    _refuse(radius, hashes=hashes, others=others)
    representatives = _representatives(np.concatenate([hashes, others]))
    rows = np.flatnonzero(representatives[: len(hashes)] == np.arange(len(hashes)))
    of_others, other_rows = np.unique(representatives[len(hashes) :], return_index=True)
    other_rows = other_rows.astype(np.int64)
    found = _Found(radius, most_pairs)
    _search(hashes[rows], others[other_rows], most_candidates, found)
    equal = of_others < len(hashes)
    return found.pairs(rows, other_rows, of_others[equal], other_rows[equal])


def _refuse(radius: int, **sides: NDArray[np.uint64]) -> None:
    for name, hashes in sides.items():
        if hashes.dtype != np.uint64 or hashes.ndim != 2 or hashes.shape[1] != _WORDS:
            raise ValueError(
                f"{name} is {hashes.dtype} {list(hashes.shape)}; it must be uint64 [N, {_WORDS}], {BITS} bits a row: "
                "view the bytes of each hash as four words"
            )
    if not 0 <= radius <= BITS:
        raise ValueError(f"radius={radius} must lie from 0 to {BITS}, the bits of a hash; 0 finds equal ones")


def _representatives(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first row that equals it: int64 [N]."""
    order = np.lexsort(hashes.T)  # stable, so equal rows stay in order
    ordered = hashes[order]
    starts = np.flatnonzero(np.append(True, np.any(ordered[1:] != ordered[:-1], axis=1))[: len(hashes)])
    representatives = np.empty(len(hashes), dtype=np.int64)
    representatives[order] = np.repeat(order[starts], np.diff(np.append(starts, len(hashes))))
    return representatives


class _Found:
    """Pairs found so far. Where there are too many, the radius is lowered and those beyond it are dropped."""

    def __init__(self, radius: int, most: int) -> None:
        self.asked = self.radius = radius
        self._most = most
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int16]]] = []  # 10 bytes a pair
        self._by_distance = np.zeros(BITS + 1, dtype=np.int64)

    def add(self, first: NDArray[np.int64], second: NDArray[np.int64], distance: NDArray[np.int16]) -> None:
        """`distance`: from 1 to the radius; equal hashes are not searched for."""
        if not len(distance):
            return
        self._by_distance += np.bincount(distance, minlength=BITS + 1)
        self._parts.append((first.astype(np.int32), second.astype(np.int32), distance))
        within = np.cumsum(self._by_distance[: self.radius + 1])
        if within[-1] > self._most:
            self.lower(int(np.flatnonzero(within <= self._most)[-1]))

    def lower(self, radius: int) -> None:
        """Look for less from now on, and drop what lies beyond."""
        self.radius = radius
        for place, (first, second, distance) in enumerate(self._parts):
            kept = distance <= radius
            self._parts[place] = (first[kept], second[kept], distance[kept])

    def pairs(
        self,
        rows: NDArray[np.int64],
        other_rows: NDArray[np.int64],
        equal: NDArray[np.int64],
        other_equal: NDArray[np.int64],
    ) -> NearPairs:
        """What was found, as rows of the caller's, with the pairs of equal ones."""
        first = np.concatenate([*(rows[part[0]] for part in self._parts), equal])
        second = np.concatenate([*(other_rows[part[1]] for part in self._parts), other_equal])
        distance = np.concatenate([*(part[2] for part in self._parts), np.zeros(len(equal), dtype=np.int16)])
        self._parts.clear()
        order = np.argsort(first * (second.max(initial=0) + 1) + second)
        lowered_from = None if self.radius == self.asked else self.asked
        return NearPairs(first[order], second[order], distance[order], self.radius, lowered_from)


def _search(hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None, most_candidates: int, found: _Found) -> None:
    """Find the pairs of different hashes; each side has every hash once."""
    packed = pack(hashes, others)
    if found.radius == 0 or not packed.entropy:
        return
    bands = _plan(packed, found.radius, most_candidates)
    if bands is None:
        # A smaller radius takes less work, so the largest possible one is found by bisection.
        possible, impossible, bands = 0, found.radius, ()
        while impossible - possible > 1:
            radius = (possible + impossible) // 2
            attempt = _plan(packed, radius, most_candidates)
            if attempt is None:
                impossible = radius
            else:
                possible, bands = radius, attempt
        found.lower(possible)
        if possible == 0:
            return
    for pairs in _look_up(packed, bands, found) if bands else _compare_all(packed, found):
        found.add(*pairs)
        if found.radius == 0:
            return


def _plan(packed: PackedHashes, radius: int, most_candidates: int) -> tuple[Band, ...] | None:
    """The bands to use, none where comparing all with all costs less; None: whatever is done takes too much."""
    if packed.pairs > most_candidates:
        return cheapest_bands(packed, radius, most_candidates, inf) or None
    return cheapest_bands(packed, radius, most_candidates, packed.pairs * COMPARISON_NS)


def _compare_all(packed: PackedHashes, found: _Found) -> Iterator[Pairs]:
    """Near pairs by comparing all with all."""
    left, right = packed.left, packed.left if packed.right is None else packed.right
    for row in range(0, left.shape[1], _TILE_ROWS):
        rows = left[:, row : row + _TILE_ROWS, None]
        for column in range(row if packed.right is None else 0, right.shape[1], _TILE_COLUMNS):
            columns = right[:, None, column : column + _TILE_COLUMNS]
            distance = np.bitwise_count(rows[0] ^ columns[0]).astype(np.int16)
            words = 1
            while words < len(left) and np.count_nonzero(distance <= found.radius) * _FEW > distance.size:
                distance += np.bitwise_count(rows[words] ^ columns[words])
                words += 1
            first, second = np.nonzero(distance <= found.radius)
            distance = distance[first, second]
            first, second = first + row, second + column
            if packed.right is None:
                above = first < second
                first, second, distance = first[above], second[above], distance[above]
            yield _near(packed, (first, second, distance), words, found.radius)


def _look_up(packed: PackedHashes, bands: tuple[Band, ...], found: _Found) -> Iterator[Pairs]:
    """Near pairs among the candidates of the bands, each from the first band that finds it."""
    for number, band in enumerate(bands):
        for candidates in band.near(packed, found.radius):
            first, second, distance = _near(packed, candidates, 1, found.radius)
            new = np.ones(len(first), dtype=np.bool_)
            for earlier in bands[:number]:
                new &= ~earlier.finds(first, second)
            first, second, distance = first[new], second[new], distance[new]
            if packed.right is None:
                first, second = np.minimum(first, second), np.maximum(first, second)
            yield first, second, distance


def _near(packed: PackedHashes, pairs: Pairs, words: int, radius: int) -> Pairs:
    """Those of the pairs whose hashes differ, in at most `radius` bits; the distance holds the first `words` words."""
    first, second, distance = pairs
    right = packed.left if packed.right is None else packed.right
    for word in range(words, len(right)):
        distance = distance + np.bitwise_count(packed.left[word][first] ^ right[word][second])
        near = np.flatnonzero(distance <= radius)
        first, second, distance = first[near], second[near], distance[near]
    kept = (distance > 0) & (distance <= radius)  # the radius may have been lowered since the first word
    return first[kept], second[kept], distance[kept]
