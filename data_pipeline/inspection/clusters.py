"""Clusters of near images: what chains of pairs join, and the image in the middle of each."""

import numpy as np
from numpy.typing import NDArray

_MOST_COMPARED = 1000
_BLOCK = 512  # members compared at once


def single_linkage(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected component of each of `count` rows, int64 [count], of the pairs (first, second), int64 [P] each.

    Components are numbered from 0 in the order of their smallest rows. In each round every root that is paired with a
    smaller one is hooked to the smallest of these, and pointers jump until all rows point to roots (after Shiloach and
    Vishkin, "An O(log n) parallel connectivity algorithm", 1982). Two rounds join each component that can grow with
    another, so that there are few. Raises ValueError for lists of different lengths, or a row that is not from 0 to
    count - 1.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first has shape {list(first.shape)} and second {list(second.shape)}; each pair has one of both"
        )
    for name, rows in (("first", first), ("second", second)):
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            raise ValueError(f"{name} has rows from {rows.min()} to {rows.max()}; they must lie from 0 to {count - 1}")
    roots = np.arange(count)
    while True:
        low, high = np.minimum(roots[first], roots[second]), np.maximum(roots[first], roots[second])
        apart = np.flatnonzero(low != high)
        if not len(apart):
            break
        first, second = first[apart], second[apart]
        np.minimum.at(roots, high[apart], low[apart])
        while np.any((jumped := roots[roots]) != roots):
            roots = jumped
    return (np.cumsum(roots == np.arange(count)) - 1)[roots]


def clusters(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each component of at least two, ascending, int64: largest first, then by the smallest row.

    `labels`: as of `single_linkage`, int64 [N].
    """
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    ends = np.cumsum(sizes)
    components = np.flatnonzero(sizes >= 2)
    components = components[np.argsort(-sizes[components], kind="stable")]
    return [order[ends[component] - sizes[component] : ends[component]] for component in components.tolist()]


def medoid(hashes: NDArray[np.uint64], members: NDArray[np.int64], mirrored_hashes: NDArray[np.uint64]) -> int:
    """The member whose distances to the others have the least sum; of several, the smallest row.

    `hashes` and `mirrored_hashes`, of the images and of their mirror images: uint64 [N, 4]; `members`: int64 [M] rows,
    M > 0. The distance of two images is the number of bits in which the hash of one differs from that of the other or
    of its mirror image, the lesser. In a cluster above 1,000, members are compared with the first 1,000 alone.
    """
    compared = members[:_MOST_COMPARED]
    sums = np.zeros(len(members), dtype=np.int64)
    for start in range(0, len(members), _BLOCK):
        some = hashes[members[start : start + _BLOCK]]
        direct, mirrored = (_distances(some, side[compared]) for side in (hashes, mirrored_hashes))
        sums[start : start + _BLOCK] = np.minimum(direct, mirrored).sum(axis=1, dtype=np.int64)
    # A member is at distance 0 of itself, so that its own place in what it is compared with adds nothing.
    return int(members[sums == sums.min()].min())


def _distances(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int16]:
    """[M, L] for uint64 [M, 4] and [L, 4]."""
    distances = np.zeros((len(hashes), len(others)), dtype=np.int16)
    for word in range(hashes.shape[1]):
        distances += np.bitwise_count(hashes[:, None, word] ^ others[None, :, word])
    return distances
