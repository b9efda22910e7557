"""What differs between two data sets: images that came, went or were relabelled, and copies of test images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.hamming_join import near_pairs_between
from data_pipeline.inspection.hashing import hashes_of_waves, reference_of_waves, shows_something, waves_of
from data_pipeline.inspection.radius import Radius, radius_of
from data_pipeline.listing.samples import key_of


@dataclass(frozen=True)
class Entry:
    """One image of a data set."""

    label: str
    split: str | None
    content: str | None
    """Digest of its file; None: not known."""


@dataclass(frozen=True)
class Side:
    """A data set: N images by sample id, sorted."""

    entries: Mapping[str, Entry]
    thumbnails: NDArray[np.uint16] | None
    """[N, SIDE, SIDE] in the order of sample ids; None: not known."""


@dataclass(frozen=True)
class TestCopy:
    """An image of one set that is a copy of a test image of the other."""

    sample_id: str
    split: str | None
    test_id: str
    """In the other set."""
    distance: int
    """Bits of 256 in which their hashes differ."""


@dataclass(frozen=True)
class Difference:
    """From a first data set to a second one; sample ids are sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    """(before, after): of a removed and an added image with the same bytes, which are in neither list."""
    replaced: tuple[str, ...]
    """Under the same name other bytes."""
    relabelled: tuple[tuple[str, str, str], ...]
    """(sample id in the second set, label before, label after)."""
    moved: tuple[tuple[str, str, str], ...]
    """(sample id in the second set, split before, split after), where both sets have splits."""
    copies_of_first_test: tuple[TestCopy, ...]
    """Images of the second set, outside its test, that are copies of the first one's test images."""
    copies_of_second_test: tuple[TestCopy, ...]
    radius: Radius | None
    """How near copies are; None where the images of a side are not known."""

    @property
    def is_empty(self) -> bool:
        """Whether the two hold the same images under the same names, labels and splits."""
        return not any((self.added, self.removed, self.renamed, self.replaced, self.relabelled, self.moved))


def difference(first: Side, second: Side, radius: int | None = None) -> Difference:
    """What differs. Images are matched by sample id, then by the digests of their files.

    Copies are found as in one data set, see `find_copies`: all thumbnails are hashed against one reference, made of
    both sets. A test image that the other set has in train is one, too; in a set without splits it is not.
    """
    before, after = first.entries, second.entries
    removed, added = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    renamed = _renamed(before, after, removed, added)
    gone, come = {old for old, _ in renamed}, {new for _, new in renamed}
    same = [(each, each) for each in sorted(before.keys() & after.keys())]
    pairs = sorted([*same, *renamed], key=lambda pair: pair[1])
    copies: tuple[tuple[TestCopy, ...], tuple[TestCopy, ...]] = ((), ())
    found: Radius | None = None
    if first.thumbnails is not None and second.thumbnails is not None:
        thumbnails = np.concatenate([first.thumbnails, second.thumbnails])
        copies, found = _test_copies(first, second, thumbnails, radius)
    return Difference(
        added=tuple(each for each in added if each not in come),
        removed=tuple(each for each in removed if each not in gone),
        renamed=tuple(renamed),
        replaced=tuple(each for each, _ in same if _differ(before[each].content, after[each].content)),
        relabelled=tuple(
            (new, before[old].label, after[new].label) for old, new in pairs if before[old].label != after[new].label
        ),
        moved=tuple(
            (new, before[old].split or "", after[new].split or "")
            for old, new in pairs
            if _differ(before[old].split, after[new].split)
        ),
        copies_of_first_test=copies[0],
        copies_of_second_test=copies[1],
        radius=found,
    )


def _differ(one: str | None, other: str | None) -> bool:
    """None is not known."""
    return one is not None and other is not None and one != other


def _renamed(
    before: Mapping[str, Entry], after: Mapping[str, Entry], removed: list[str], added: list[str]
) -> list[tuple[str, str]]:
    """Removed and added images with the same bytes, each once, in the order of names."""
    by_content: dict[str, list[str]] = {}
    for each in reversed(removed):
        if (content := before[each].content) is not None:
            by_content.setdefault(content, []).append(each)
    pairs: list[tuple[str, str]] = []
    for each in added:
        content = after[each].content
        if content is not None and by_content.get(content):
            pairs.append((by_content[content].pop(), each))
    return sorted(pairs)


@dataclass(frozen=True)
class _Both:
    """The images of both sets that show something, in one list."""

    ids: list[str]
    entries: list[Entry]
    is_first: NDArray[np.bool_]
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]

    def copies(self, bits: int, *, of_first: bool) -> tuple[TestCopy, ...]:
        """Images of one set, outside its test, that are near test images of the other: the nearest of them."""
        is_test = np.array([entry.split == "test" for entry in self.entries], np.bool_)
        tests = np.flatnonzero((self.is_first == of_first) & is_test)
        others = np.flatnonzero((self.is_first != of_first) & ~is_test)
        nearest: dict[int, tuple[int, int]] = {}
        for hashes in (self.hashes, self.mirrored):
            for row, test, distance in _all_pairs(self.hashes[others], hashes[tests], bits):
                one, other = int(others[row]), int(tests[test])
                if not self._is_itself(one, other):
                    nearest[one] = min(nearest.get(one, (distance, other)), (distance, other))
        return tuple(
            TestCopy(self.ids[row], self.entries[row].split, self.ids[test], distance)
            for row, (distance, test) in sorted(nearest.items())
        )

    def _is_itself(self, one: int, test: int) -> bool:
        """A test image of the one set that the other has, too, without saying of which split it is."""
        same = self.ids[one] == self.ids[test] and not _differ(self.entries[one].content, self.entries[test].content)
        return same and self.entries[one].split is None


def _all_pairs(hashes: NDArray[np.uint64], others: NDArray[np.uint64], bits: int) -> Iterator[tuple[int, int, int]]:
    """(row, row of the others, distance) of every pair, equal hashes too, which a join counts as one."""
    distinct, rows_of = np.unique(hashes, axis=0, return_inverse=True)
    distinct_others, others_of = np.unique(others, axis=0, return_inverse=True)
    members, others_members = _members(rows_of, len(distinct)), _members(others_of, len(distinct_others))
    found = near_pairs_between(distinct, distinct_others, bits)
    pairs: Iterator[tuple[int, int, int]] = zip(
        found.first.tolist(), found.second.tolist(), found.distance.tolist(), strict=True
    )
    for first, second, distance in pairs:
        for row in members[first]:
            for other in others_members[second]:
                yield row, other, distance


def _members(place_of: NDArray[np.integer], places: int) -> list[list[int]]:
    """The rows at each place."""
    found: list[list[int]] = [[] for _ in range(places)]
    places_of: list[int] = place_of.ravel().tolist()
    for row, place in enumerate(places_of):
        found[place].append(row)
    return found


def _test_copies(
    first: Side, second: Side, thumbnails: NDArray[np.uint16], radius: int | None
) -> tuple[tuple[tuple[TestCopy, ...], tuple[TestCopy, ...]], Radius]:
    rows = np.flatnonzero(shows_something(thumbnails))
    waves = waves_of(thumbnails[rows])
    reference = reference_of_waves(waves)
    all_ids, all_entries = [*first.entries, *second.entries], [*first.entries.values(), *second.entries.values()]
    ids, entries = [all_ids[row] for row in rows.tolist()], [all_entries[row] for row in rows.tolist()]
    both = _Both(
        ids=ids,
        entries=entries,
        is_first=rows < len(first.entries),
        hashes=hashes_of_waves(waves, reference),
        mirrored=hashes_of_waves(waves, reference, mirrored=True),
    )
    names = {name: at for at, name in enumerate(sorted({entry.label for entry in entries}))}
    labels = np.array([names[entry.label] for entry in entries], np.int64)
    keys = np.array([key_of(each) for each in ids], np.uint64)
    chosen = radius_of(both.hashes, labels, keys, radius)
    return (both.copies(chosen.bits, of_first=True), both.copies(chosen.bits, of_first=False)), chosen
