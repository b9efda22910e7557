"""What differs between two data sets, against definitions in plain loops over dicts."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.inspection.difference import Difference, Entry, Side, difference
from data_pipeline.inspection.hashing import hashes_of, reference_of
from data_pipeline.inspection.thumbnails import SIDE
from tests.laws import examples

IDS = ("a", "b", "c", "d", "e", "f")
ENTRIES = st.builds(
    Entry,
    label=st.sampled_from("xy"),
    split=st.sampled_from(["train", "val", "test", None]),
    content=st.sampled_from(["1", "2", None]),
)
SETS = st.dictionaries(st.sampled_from(IDS), ENTRIES).map(lambda entries: dict(sorted(entries.items())))


def compared(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Difference:
    return difference(Side(before, None), Side(after, None))


@given(SETS, SETS)
def test_images_that_came_went_changed_or_moved(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    renamed = []
    for content in ("1", "2"):
        old = [each for each in IDS if each in before and each not in after and before[each].content == content]
        new = [each for each in IDS if each in after and each not in before and after[each].content == content]
        renamed += zip(old, new, strict=False)
    both = [(each, each) for each in IDS if each in before and each in after]
    found = compared(before, after)
    assert found.renamed == tuple(sorted(renamed))
    assert found.removed == tuple(
        each for each in IDS if each in before and each not in after and each not in dict(renamed)
    )
    assert found.added == tuple(
        each for each in IDS if each in after and each not in before and each not in dict(renamed).values()
    )
    assert found.replaced == tuple(
        each
        for each, _ in both
        if None not in (before[each].content, after[each].content) and before[each].content != after[each].content
    )
    assert set(found.relabelled) == {
        (new, before[old].label, after[new].label)
        for old, new in both + renamed
        if before[old].label != after[new].label
    }
    assert set(found.moved) == {
        (new, before[old].split, after[new].split)
        for old, new in both + renamed
        if None not in (before[old].split, after[new].split) and before[old].split != after[new].split
    }
    for changes in (found.relabelled, found.moved):
        assert list(changes) == sorted(changes)
        assert len(set(changes)) == len(changes)
    assert (found.copies_of_first_test, found.copies_of_second_test, found.radius) == ((), (), None)


@given(SETS, SETS)
def test_each_image_is_told_of_once(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    found = compared(before, after)
    gone, come = [old for old, _ in found.renamed], [new for _, new in found.renamed]
    assert sorted([*found.removed, *gone]) == sorted(before.keys() - after.keys())
    assert sorted([*found.added, *come]) == sorted(after.keys() - before.keys())


@given(SETS, SETS)
def test_backwards_everything_is_the_other_way_round(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    found, back = compared(before, after), compared(after, before)
    assert (back.added, back.removed, back.replaced) == (found.removed, found.added, found.replaced)
    assert set(back.renamed) == {(new, old) for old, new in found.renamed}
    assert len(back.relabelled) == len(found.relabelled)
    assert len(back.moved) == len(found.moved)


@given(SETS, SETS)
def test_empty_means_that_nothing_differs(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    assert compared(before, before).is_empty
    found = compared(before, after)
    known = before.keys() == after.keys() and all(
        one == after[each] or (one.label == after[each].label and _unknown(one, after[each]))
        for each, one in before.items()
    )
    assert found.is_empty == known


def _unknown(one: Entry, other: Entry) -> bool:
    """Whether splits and contents agree, as far as both are known."""
    pairs = ((one.split, other.split), (one.content, other.content))
    return all(first == second or None in (first, second) for first, second in pairs)


def test_a_moved_and_renamed_image_is_called_by_its_new_name() -> None:
    found = compared(
        {"train/x/old.png": Entry("x", "train", "1"), "z": Entry("x", "val", "2")},
        {"test/y/new.png": Entry("y", "test", "1"), "z": Entry("x", "val", "2")},
    )
    assert found.renamed == (("train/x/old.png", "test/y/new.png"),)
    assert found.relabelled == (("test/y/new.png", "x", "y"),)
    assert found.moved == (("test/y/new.png", "train", "test"),)
    assert (found.added, found.removed, found.replaced) == ((), (), ())
    assert not found.is_empty


def test_of_several_with_the_same_bytes_the_first_ones_were_renamed() -> None:
    same = Entry("x", None, "1")
    found = compared(dict.fromkeys("abc", same), dict.fromkeys("de", same))
    assert (found.renamed, found.removed, found.added) == ((("a", "d"), ("b", "e")), ("c",), ())
    back = compared(dict.fromkeys("de", same), dict.fromkeys("abc", same))
    assert (back.renamed, back.removed, back.added) == ((("d", "a"), ("e", "b")), (), ("c",))


def test_changes_are_sorted_by_new_names() -> None:
    before = {"a": Entry("x", "train", "1"), "b": Entry("x", "train", "2"), "c": Entry("x", "train", "3")}
    after = {"c": Entry("y", "val", "3"), "d": Entry("y", "val", "2"), "e": Entry("y", "val", "1")}
    found = compared(before, after)
    assert found.renamed == (("a", "e"), ("b", "d"))
    assert [each for each, _, _ in found.relabelled] == ["c", "d", "e"] == [each for each, _, _ in found.moved]


def test_what_is_not_known_matches_nothing() -> None:
    found = compared({"old": Entry("x", None, None)}, {"new": Entry("x", None, None)})
    assert (found.removed, found.added, found.renamed) == (("old",), ("new",), ())


def side(thumbnails: Any, images: Mapping[str, tuple[Entry, int]], marks: Mapping[str, int] | None = None) -> Side:
    """Of images by sample id, each the texture with this seed; a seed below zero mirrors it.

    `marks`: how many eighths of a texture of its own an image adds to that.
    """
    entries, pictures = {}, [np.zeros((0, SIDE, SIDE), np.uint16)]
    for row, (sample_id, (entry, seed)) in enumerate(sorted(images.items())):
        own = thumbnails([100 + row])[0].astype(np.int64) - 128 * 256
        picture = thumbnails([abs(seed)])[0] + (marks or {}).get(sample_id, 0) * own // 8
        picture = np.clip(picture, 0, 255 * 256).astype(np.uint16)
        entries[sample_id] = entry
        pictures.append(picture[None, :, :: -1 if seed < 0 else 1])
    return Side(entries, np.concatenate(pictures))


IMAGES = st.tuples(st.sampled_from(["train", "val", "test"]), st.integers(-2, 2), st.integers(0, 4))


@settings(max_examples=examples(0.3))
@given(st.lists(IMAGES, min_size=1, max_size=8), st.lists(IMAGES, max_size=8), st.integers(0, 120))
def test_copies_of_test_images_are_the_nearest_within_the_radius(
    thumbnails: Any, before: list[tuple[str, int, int]], after: list[tuple[str, int, int]], radius: int
) -> None:
    sides = [
        side(
            thumbnails,
            {f"{name}{n}": (Entry("xy"[n % 2], split, None), seed) for n, (split, seed, _) in enumerate(images)},
            {f"{name}{n}": share for n, (_, _, share) in enumerate(images)},
        )
        for name, images in (("i", before), ("j", after))
    ]
    found = difference(*sides, radius)
    pictures = np.concatenate([sides[0].thumbnails, sides[1].thumbnails])
    reference = reference_of(pictures)
    hashes, mirrored = (hashes_of(pictures, reference, mirrored=each) for each in (False, True))
    images = [*enumerate([*sides[0].entries.items(), *sides[1].entries.items()])]
    count = len(sides[0].entries)

    def expected(tests: list[Any], others: list[Any]) -> list[tuple[str, str | None, int, set[str]]]:
        copies = []
        for row, (one, entry) in others:
            distances = {
                test: min(int(np.bitwise_count(hashes[row] ^ each[place]).sum()) for each in (hashes, mirrored))
                for place, (test, test_entry) in tests
                if test_entry.split == "test" != entry.split
            }
            nearest = min(distances.values(), default=257)
            if nearest <= radius:
                names = {test for test, distance in distances.items() if distance == nearest}
                copies.append((one, entry.split, nearest, names))
        return copies

    for copies, wanted in (
        (found.copies_of_first_test, expected(images[:count], images[count:])),
        (found.copies_of_second_test, expected(images[count:], images[:count])),
    ):
        assert [(each.sample_id, each.split, each.distance) for each in copies] == [each[:3] for each in wanted]
        assert all(each.test_id in names for each, (*_, names) in zip(copies, wanted, strict=True))
    assert found.radius is not None
    assert (found.radius.bits, found.radius.given) == (radius, True)


def told(copies: Sequence[Any]) -> list[tuple[Any, ...]]:
    """(sample id, split, test id, distance) of each."""
    return [astuple(each) for each in copies]


def train(content: str | None = None, label: str = "x", split: str | None = "train") -> Entry:
    return Entry(label, split, content)


def test_a_test_image_that_moved_to_train_is_a_copy(thumbnails: Any) -> None:
    first = side(thumbnails, {"a": (train("1", split="test"), 1), "b": (train("2"), 2)})
    second = side(thumbnails, {"a": (train("1"), 1), "b": (train("2"), 2)})
    found = difference(first, second, 20)
    assert found.moved == (("a", "test", "train"),)
    assert told(found.copies_of_first_test) == [("a", "train", "a", 0)]
    assert found.copies_of_second_test == ()
    assert told(difference(second, first, 20).copies_of_second_test) == [("a", "train", "a", 0)]


def test_a_test_image_in_a_set_without_splits_is_none(thumbnails: Any) -> None:
    first = side(thumbnails, {"a": (train("1", split="test"), 1), "b": (train("2"), 2)})
    for content in ("1", None):
        without = {"a": (train(content, split=None), 1), "b": (train("2", split=None), 2)}
        assert difference(first, side(thumbnails, without), 20).copies_of_first_test == ()
    replaced = {"a": (train("other bytes", split=None), 1)}
    found = difference(first, side(thumbnails, replaced), 20)
    assert told(found.copies_of_first_test) == [("a", None, "a", 0)]
    another = {"copy": (train("9", split=None), 1)}
    found = difference(first, side(thumbnails, another), 20)
    assert told(found.copies_of_first_test) == [("copy", None, "a", 0)]


def test_mirrored_copies_and_all_of_several_alike_are_found(thumbnails: Any) -> None:
    first = side(thumbnails, {"a": (train("1", split="test"), 1), "b": (train("2", split="test"), 2)})
    images = {f"copy {n}": (train(f"{n}", split=("train", "val")[n % 2]), 1) for n in range(3)}
    second = side(thumbnails, {**images, "mirrored": (train("m"), -2), "test": (train("t", split="test"), 1)})
    found = difference(first, second, 40)
    assert [(each.sample_id, each.split, each.test_id) for each in found.copies_of_first_test] == [
        ("copy 0", "train", "a"),
        ("copy 1", "val", "a"),
        ("copy 2", "train", "a"),
        ("mirrored", "train", "b"),
    ]
    assert found.copies_of_second_test == ()


def test_images_of_one_colour_are_no_copies(thumbnails: Any) -> None:
    sides = []
    for split in ("test", "train"):
        made = side(thumbnails, {"a": (train("1", split=split), 1), "b": (train("2", split=split), 2)})
        thumbs = made.thumbnails.copy()
        thumbs[1] = 9
        sides.append(replace(made, thumbnails=thumbs))
    found = difference(*sides, 30)
    assert [each.sample_id for each in found.copies_of_first_test] == ["a"]


def test_without_a_given_radius_one_is_found_from_both_sets(thumbnails: Any) -> None:
    images = {f"{n:02d}": (Entry("xy"[n % 2], "train", str(n)), n) for n in range(30)}
    first = side(thumbnails, {**images, "test": (train("t", split="test"), 90)})
    second = side(thumbnails, {f"new {n}": (Entry("xy"[n % 2], "train", str(n)), 90 + n) for n in range(30)})
    found = difference(first, second)
    assert found.radius is not None
    assert not found.radius.given
    assert found.radius.pairs > 1000
    assert [each.sample_id for each in found.copies_of_first_test] == ["new 0"]
    unknown = replace(second, thumbnails=None)
    for sides in ((first, unknown), (unknown, first)):
        assert (difference(*sides).radius, difference(*sides).copies_of_first_test) == (None, ())
