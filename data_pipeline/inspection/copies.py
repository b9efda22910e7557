"""Which images of a set are copies: the same bytes, or one photograph re-exposed, shifted, mirrored or saved again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.clusters import clusters, medoid, single_linkage
from data_pipeline.inspection.hamming_join import NearPairs, near_pairs, near_pairs_between
from data_pipeline.inspection.hashing import (
    Reference,
    hashes_of_waves,
    reference_of_waves,
    shows_something,
    waves_of,
)
from data_pipeline.inspection.radius import Radius, radius_of


@dataclass(frozen=True)
class CopyPairs:
    """P pairs of images that are copies, first < second."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    """Bits of 256 in which their hashes differ; 0 for the same bytes."""
    mirrored: NDArray[np.bool_]
    """Whether one is as a mirror shows the other."""
    exact: NDArray[np.bool_]
    """Whether the files have the same bytes."""


@dataclass(frozen=True)
class Cluster:
    """Images that are linked by copies: each is near one of the others (single linkage)."""

    members: NDArray[np.int64]
    """Rows, ascending; at least two."""
    medoid: int
    """The member that is nearest to all: for display."""
    exact: bool
    """Whether all have the same bytes."""


@dataclass(frozen=True)
class Copies:
    """The copies of a set of N images."""

    reference: Reference
    radius: Radius
    lowered_from: int | None
    """The radius that was meant, where so many images lie within it that a lower one was used."""
    pairs: CopyPairs
    """Of images with equal hashes, or the same bytes, only those with the first of them."""
    clusters: tuple[Cluster, ...]
    """Largest first."""
    cluster_of: NDArray[np.int64]
    """[N] place in `clusters`; -1: the image is alone."""


@dataclass(frozen=True)
class Photographs:
    """N images as their copies are sought."""

    thumbnails: NDArray[np.uint16]
    """[N, SIDE, SIDE], see `data_pipeline.inspection.thumbnails`."""
    content: Sequence[str]
    """Digest of each file."""
    labels: NDArray[np.int64]
    keys: NDArray[np.uint64]


def find_copies(images: Photographs, radius: int | None = None) -> Copies:
    """The copies among N images: by the same bytes, and by hashes at most `radius` bits apart, in either orientation.

    Without a `radius` one is chosen, see `radius_of`. An image of one colour is a copy by its bytes only.
    """
    telling = np.flatnonzero(shows_something(images.thumbnails))
    waves = waves_of(images.thumbnails[telling])
    reference = reference_of_waves(waves)
    hashes = hashes_of_waves(waves, reference)
    mirrored = hashes_of_waves(waves, reference, mirrored=True)
    chosen = radius_of(hashes, images.labels[telling], images.keys[telling], radius)
    upright = near_pairs(hashes, chosen.bits)
    turned = near_pairs_between(hashes, mirrored, upright.radius)
    found = _joined(_same_bytes(images.content), _within(upright, turned.radius), turned, telling)
    labels = single_linkage(len(images.content), found.first, found.second)
    place = {row: at for at, row in enumerate(telling.tolist())}
    members = clusters(labels)
    cluster_of = np.full(len(images.content), -1, np.int64)
    for at, rows in enumerate(members):
        cluster_of[rows] = at
    lowest = min(upright.radius, turned.radius)
    return Copies(
        reference=reference,
        radius=chosen if lowest == chosen.bits else chosen.lowered(lowest),
        lowered_from=None if lowest == chosen.bits else chosen.bits,
        pairs=found,
        clusters=tuple(_cluster(rows, images.content, place, hashes, mirrored) for rows in members),
        cluster_of=cluster_of,
    )


def _cluster(
    rows: NDArray[np.int64],
    content: Sequence[str],
    place: dict[int, int],
    hashes: NDArray[np.uint64],
    mirrored: NDArray[np.uint64],
) -> Cluster:
    exact = len({content[row] for row in rows.tolist()}) == 1
    if exact:
        return Cluster(rows, int(rows[0]), exact)
    # All of them have hashes: an image without one is linked by its bytes alone, to images without one.
    places = np.array([place[row] for row in rows.tolist()], np.int64)
    middle = medoid(hashes, places, mirrored)
    return Cluster(rows, int(rows[int(np.flatnonzero(places == middle)[0])]), exact)


def _same_bytes(content: Sequence[str]) -> tuple[list[int], list[int]]:
    """Pairs of the first image with each later one of the same bytes."""
    seen: dict[str, int] = {}
    first: list[int] = []
    second: list[int] = []
    for row, digest in enumerate(content):
        before = seen.setdefault(digest, row)
        if before != row:
            first.append(before)
            second.append(row)
    return first, second


def _within(pairs: NearPairs, radius: int) -> NearPairs:
    """Those at most so far apart, where the other join had to use a smaller radius."""
    near = pairs.distance <= radius
    return replace(pairs, first=pairs.first[near], second=pairs.second[near], distance=pairs.distance[near])


def _joined(
    same: tuple[list[int], list[int]], upright: NearPairs, turned: NearPairs, telling: NDArray[np.int64]
) -> CopyPairs:
    """All pairs, each once: by bytes before upright, upright before mirrored unless that is nearer."""
    first = np.concatenate([np.array(same[0], np.int64), telling[upright.first], telling[turned.first]])
    second = np.concatenate([np.array(same[1], np.int64), telling[upright.second], telling[turned.second]])
    kinds = np.repeat([0, 1, 2], [len(same[0]), len(upright.first), len(turned.first)])
    distance = np.concatenate([np.zeros(len(same[0]), np.int64), upright.distance, turned.distance]).astype(np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((kinds, distance, kinds != 0, high, low))
    low, high, kinds, distance = low[order], high[order], kinds[order], distance[order]
    # A symmetric image is near its own mirror image, and each mirrored pair is found from both sides.
    keep = low != high
    keep[1:] &= (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return CopyPairs(low[keep], high[keep], distance[keep], kinds[keep] == 2, kinds[keep] == 0)
