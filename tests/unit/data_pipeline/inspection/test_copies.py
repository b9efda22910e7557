"""Copies that were planted among pictures that are all different, and clusters against comparing all with all."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import idctn

from data_pipeline.inspection import copies as copies_module
from data_pipeline.inspection.copies import Copies, Photographs, find_copies
from data_pipeline.inspection.hamming_join import near_pairs
from data_pipeline.inspection.hashing import BITS, Reference, hashes_of, reference_of, shows_something
from data_pipeline.inspection.thumbnails import SIDE, look_at
from data_pipeline.listing.samples import key_of
from tests.laws import examples

ORIGINALS = 70


def photographs(thumbnails: NDArray[np.uint16], content: Sequence[str], labels: Sequence[int]) -> Photographs:
    keys = np.array([key_of(f"{row}.png") for row in range(len(content))], np.uint64)
    return Photographs(thumbnails, content, np.array(labels, np.int64), keys)


def in_order(images: Photographs, order: Sequence[int]) -> Photographs:
    rows = np.array(order)
    content = [images.content[row] for row in order]
    return Photographs(images.thumbnails[rows], content, images.labels[rows], images.keys[rows])


def sets(copies: Copies) -> set[frozenset[int]]:
    return {frozenset(cluster.members.tolist()) for cluster in copies.clusters}


def pair_of(copies: Copies, first: int, second: int) -> tuple[int, bool, bool]:
    """(distance, mirrored, exact) of a pair."""
    pairs = copies.pairs
    (place,) = np.flatnonzero((pairs.first == first) & (pairs.second == second))
    return int(pairs.distance[place]), bool(pairs.mirrored[place]), bool(pairs.exact[place])


@pytest.fixture(scope="module")
def planted(picture: Any) -> tuple[Photographs, dict[str, tuple[int, ...]]]:
    """Pictures of 100 px, then copies of some, each under the other label: (images, rows by what was done)."""
    wide = [picture(seed, 101) for seed in range(ORIGINALS)]
    pixels = [each[:100, :100] for each in wide]
    content = [str(seed) for seed in range(ORIGINALS)]
    labels = [seed % 2 for seed in range(ORIGINALS)]
    rows: dict[str, tuple[int, ...]] = {}

    def plant(name: str, original: int, copy: NDArray[np.uint8], same_bytes: bool = False) -> None:
        rows[name] = (*rows.get(name, (original,)), len(pixels))
        pixels.append(np.ascontiguousarray(copy))
        content.append(content[original] if same_bytes else name + str(len(pixels)))
        labels.append(1 - labels[original])

    plant("same bytes", 3, pixels[3], same_bytes=True)
    plant("mirrored", 4, pixels[4][:, ::-1])
    plant("re-exposed", 5, np.rint(0.3 * pixels[5] + 50).astype(np.uint8))
    plant("shifted to the side", 6, wide[6][:100, 1:])
    plant("shifted down", 7, wide[7][1:, :100])
    plant("several", 8, pixels[8], same_bytes=True)
    plant("several", 8, np.rint(0.4 * pixels[8]).astype(np.uint8))
    plant("several", 8, pixels[8][:, ::-1])
    thumbnails = np.stack([look_at(each).thumbnail for each in pixels])
    return photographs(thumbnails, content, labels), rows


def test_planted_copies_are_found_under_two_labels_and_nothing_else_is(planted: Any) -> None:
    images, rows = planted
    copies = find_copies(images)
    assert sets(copies) == set(map(frozenset, rows.values()))
    assert not copies.radius.given
    assert copies.radius.bits > 60
    assert copies.lowered_from is None
    assert copies.reference.digest == reference_of(images.thumbnails).digest


def test_pairs_say_how_near_they_are_and_how(planted: Any) -> None:
    images, rows = planted
    copies = find_copies(images)
    pairs = copies.pairs
    assert (pairs.first < pairs.second).all()
    assert len(set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))) == len(pairs.first)
    assert (pairs.distance <= copies.radius.bits).all()
    assert pair_of(copies, *rows["same bytes"]) == (0, False, True)
    hashes, turned = (hashes_of(images.thumbnails, copies.reference, mirrored=each) for each in (False, True))
    for name in ("re-exposed", "shifted to the side", "shifted down"):
        first, second = rows[name]
        distance = int(np.bitwise_count(hashes[first] ^ hashes[second]).sum())
        assert pair_of(copies, first, second) == (distance, False, False)
        assert distance > 0
    first, second = rows["mirrored"]
    either = [int(np.bitwise_count(hashes[a] ^ turned[b]).sum()) for a, b in ((first, second), (second, first))]
    assert pair_of(copies, first, second) == (min(either), True, False)
    first, same, darker, mirrored = rows["several"]
    assert pair_of(copies, first, same)[1:] == (False, True)
    assert pair_of(copies, first, darker)[1:] == (False, False)
    assert pair_of(copies, first, mirrored)[1:] == (True, False)


def test_clusters_are_described(planted: Any) -> None:
    images, rows = planted
    copies = find_copies(images)
    assert frozenset(copies.clusters[0].members.tolist()) == frozenset(rows["several"]), "the largest is first"
    exact = {frozenset(cluster.members.tolist()): cluster.exact for cluster in copies.clusters}
    assert exact == {frozenset(each): name == "same bytes" for name, each in rows.items()}
    expected = np.full(len(images.content), -1)
    for place, cluster in enumerate(copies.clusters):
        assert cluster.medoid in cluster.members
        assert (np.diff(cluster.members) > 0).all()
        expected[cluster.members] = place
    assert np.array_equal(copies.cluster_of, expected)


def test_the_order_of_rows_changes_no_cluster(planted: Any) -> None:
    images, _ = planted
    expected = sets(find_copies(images))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(images.content)).tolist()
        copies = find_copies(in_order(images, order))
        assert {frozenset(order[row] for row in each) for each in sets(copies)} == expected


def test_a_given_radius_wins(planted: Any) -> None:
    images, rows = planted
    none = find_copies(images, radius=0)
    assert (none.radius.bits, none.radius.given) == (0, True)
    assert frozenset(rows["same bytes"]) in sets(none)
    assert not any(frozenset(rows["shifted down"]) <= each for each in sets(none))
    everything = find_copies(images, radius=140)
    assert sets(everything) == {frozenset(range(len(images.content)))}


def test_parts_on_a_fixture_are_no_copies(picture: Any) -> None:
    """One picture, to which each part adds marks of a few levels: only a part that was photographed twice is a copy."""
    fixture = picture(1000, 100).astype(np.float64)
    parts = [0.75 * fixture + 0.05 * (picture(seed, 100) - 128.0) + 20 for seed in range(200)]
    parts.append(0.8 * parts[17] + 30)
    thumbnails = np.stack([look_at(np.rint(each).astype(np.uint8)).thumbnail for each in parts])
    nothing = Reference(np.zeros(BITS), np.zeros((0, BITS)), 0)
    plain = hashes_of(thumbnails, nothing)
    images = photographs(thumbnails, [str(row) for row in range(201)], [row % 3 for row in range(201)])
    copies = find_copies(images)
    assert sets(copies) == {frozenset((17, 200))}
    apart = np.bitwise_count(plain[:-1] ^ plain[1:]).sum(axis=1)
    assert np.median(apart) < copies.radius.bits, "their plain hashes are those of copies"
    levels = thumbnails.reshape(201, -1).astype(np.float64)
    assert np.corrcoef(levels).min() > 0.95


def test_images_of_one_colour_are_copies_by_their_bytes_only(thumbnails: Any) -> None:
    blank = np.full((5, SIDE, SIDE), 255 * 256, np.uint16)
    blank[3:] = 0
    both = np.concatenate([thumbnails([0]), blank, thumbnails([0, 1])])
    images = photographs(both, ["a", "white", "white", "other white", "black", "black", "b", "c"], [0, 1] * 4)
    copies = find_copies(images)
    assert sets(copies) == {frozenset((0, 6)), frozenset((1, 2)), frozenset((4, 5))}
    assert [cluster.exact for cluster in copies.clusters] == [False, True, True]
    assert copies.radius.pairs < 20, "they are not compared"


def test_only_images_of_one_colour() -> None:
    copies = find_copies(photographs(np.zeros((4, SIDE, SIDE), np.uint16), ["a", "b", "a", "c"], [0, 0, 1, 1]))
    assert sets(copies) == {frozenset((0, 2))}
    assert copies.cluster_of.tolist() == [0, -1, 0, -1]


def test_of_the_same_bytes_only_pairs_with_the_first_are_listed(thumbnails: Any) -> None:
    images = photographs(thumbnails([0, 1, 0, 0, 2, 0]), ["a", "b", "a", "a", "c", "other"], [0] * 6)
    pairs = find_copies(images).pairs
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 2), (0, 3), (0, 5)]
    assert pairs.exact.tolist() == [True, True, False]
    assert not pairs.distance.any()
    assert not pairs.mirrored.any()


@pytest.mark.parametrize(("more", "distance", "mirrored"), [(0, 62, False), (-3, 59, False), (2, 60, True)])
def test_a_pair_is_mirrored_only_where_that_is_nearer(more: int, distance: int, mirrored: bool) -> None:
    """A mirror turns the 124 waves that are odd from left to right; the copy has half of them turned, and some more."""
    size = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)
    lowest = [divmod(place, SIDE) for place in np.argsort(size.ravel(), kind="stable")[1 : BITS + 1].tolist()]
    odd = [at for at in lowest if at[1] % 2]
    even = [at for at in lowest if not at[1] % 2]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (SIDE, SIDE))
    waves = np.zeros((2, SIDE, SIDE))
    for at in odd + even:
        waves[:, *at] = signs[at]
    for at in odd[: len(odd) // 2 + more]:
        waves[1, *at] *= -1
    pictures = idctn(waves, type=2, axes=(1, 2), norm="ortho")
    pictures = np.rint((128 + 100 * pictures / np.abs(pictures).max()) * 256).astype(np.uint16)
    pairs = find_copies(photographs(pictures, ["a", "b"], [0, 1]), radius=70).pairs
    assert (pairs.distance.tolist(), pairs.mirrored.tolist()) == ([distance], [mirrored])


def test_a_symmetric_picture_is_no_copy_of_itself(thumbnails: Any) -> None:
    symmetric = thumbnails([0, 1]).copy()
    symmetric[0] = np.maximum(symmetric[0], symmetric[0, :, ::-1])
    copies = find_copies(photographs(symmetric, ["a", "b"], [0, 1]))
    assert copies.clusters == ()
    assert len(copies.pairs.first) == 0


def brute_force(images: Photographs, radius: int) -> set[frozenset[int]]:
    """Components of the pairs that are near in either orientation, or have the same bytes."""
    reference, telling = reference_of(images.thumbnails), shows_something(images.thumbnails)
    hashes, turned = (hashes_of(images.thumbnails, reference, mirrored=each) for each in (False, True))
    component = list(range(len(images.content)))
    for one, other in itertools.combinations(range(len(images.content)), 2):
        sides = ((hashes[one], hashes[other]), (hashes[one], turned[other]), (turned[one], hashes[other]))
        near = min(int(np.bitwise_count(a ^ b).sum()) for a, b in sides) <= radius
        if images.content[one] == images.content[other] or (near and telling[one] and telling[other]):
            old, new = component[other], component[one]
            component = [new if each == old else each for each in component]
    together = [frozenset(row for row, each in enumerate(component) if each == name) for name in set(component)]
    return {each for each in together if len(each) > 1}


@settings(max_examples=examples(0.7))
@given(
    st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 3), st.booleans()), min_size=1, max_size=24),
    st.integers(0, 125),
)
def test_clusters_are_those_of_comparing_all_with_all(
    thumbnails: Any, parts: list[tuple[int, bool, int, bool]], radius: int
) -> None:
    """Pictures of few kinds, mirrored or not, more or less like their neighbours', or of one colour."""
    rows, content = [], []
    for row, (kind, mirrored, share, blank) in enumerate(parts):
        values = thumbnails([kind])[0].astype(np.int64)
        values = values + share * (thumbnails([100 + row])[0].astype(np.int64) - 128 * 256) // 8
        values = np.clip(values[:, ::-1] if mirrored else values, 0, 255 * 256).astype(np.uint16)
        rows.append(np.full_like(values, 77 * kind) if blank and share == 0 else values)
        content.append(f"{kind} {'blank' if blank else mirrored}" if share == 0 else str(row))
    images = photographs(np.stack(rows), content, [row % 2 for row in range(len(parts))])
    assert sets(find_copies(images, radius)) == brute_force(images, radius)


@pytest.mark.parametrize("most", [0, 2])
def test_where_there_are_too_many_pairs_a_lower_radius_is_used_and_said(
    monkeypatch: pytest.MonkeyPatch, planted: Any, most: int
) -> None:
    images, rows = planted
    meant = find_copies(images)
    monkeypatch.setattr(copies_module, "near_pairs", partial(near_pairs, most_pairs=most))
    copies = find_copies(images)
    assert copies.lowered_from == meant.radius.bits
    assert copies.radius.bits < meant.radius.bits
    assert copies.radius.false_match_rate < meant.radius.false_match_rate
    assert frozenset(rows["same bytes"]) in sets(copies)
    assert len(copies.clusters) < len(meant.clusters)
