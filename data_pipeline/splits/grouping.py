"""Groups of images that show the same part and so stay in one split: found in names, and put in order."""

import re
from collections.abc import Sequence

import numpy as np

from data_pipeline.listing.samples import key_of
from data_pipeline.views.randomness import Purpose, draw


def groups_by_pattern(sample_ids: Sequence[str], pattern: re.Pattern[str]) -> tuple[str | None, ...]:
    """For each image what the pattern's first group finds in its id, or the whole match of a pattern without groups.

    Without white space around it, which a labels file must not have; None, alone, where it finds nothing.
    """
    found = [pattern.search(sample_id) for sample_id in sample_ids]
    place = 1 if pattern.groups else 0
    return tuple(((match.group(place) or "").strip() or None) if match else None for match in found)


def groups_by_gap(sample_ids: Sequence[str], classes: Sequence[str], gap: int) -> tuple[str | None, ...]:
    """For each image the chain of its class that it is part of: numbers that lie within `gap` of the next one.

    An image's number is the last run of digits in its file's name, without the extension: photographs of one part
    carry neighbouring numbers. None, alone, where there is none. Groups are called CLASS FIRST-LAST.
    """
    members: dict[str, list[tuple[int, int]]] = {}
    for row, (sample_id, name) in enumerate(zip(sample_ids, classes, strict=True)):
        stem = sample_id.rpartition("/")[2].rpartition(".")[0] or sample_id.rpartition("/")[2]
        if digits := re.findall(r"[0-9]+", stem):
            members.setdefault(name, []).append((int(digits[-1]), row))
    groups: list[str | None] = [None] * len(sample_ids)
    for name, numbered in members.items():
        chain: list[tuple[int, int]] = []
        for number, row in (*sorted(numbered), (None, -1)):
            if chain and (number is None or number - chain[-1][0] > gap):
                for _, member in chain:
                    groups[member] = f"{name} {chain[0][0]}-{chain[-1][0]}"
                chain = []
            if number is not None:
                chain.append((number, row))
    return tuple(groups)


def joined_groups(one: Sequence[str | None], other: Sequence[str | None]) -> tuple[str | None, ...]:
    """For each image a group that holds whoever shares a group with it in one of two groupings, or with those.

    It is called like the first of its images' groups, of `one` rather than of `other`; None, alone in both.
    """
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, second in zip(one, other, strict=True):
        if first is not None and second is not None:
            low, high = sorted((root((0, first)), root((1, second))))
            parent[high] = low
    nodes = [(0, a) if a is not None else (1, b) if b is not None else None for a, b in zip(one, other, strict=True)]
    return tuple(None if node is None else root(node)[1] for node in nodes)


def largest_groups_first(groups: Sequence[str | None], seed: int, word: int) -> list[list[int]]:
    """The rows of each group, in the order in which groups are placed: by size, and by the seed where sizes agree.

    `word`: which of a group's random words decides, so that splits do not show in folds.
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            members.setdefault(group, []).append(row)
    names = sorted(members)
    keys = np.array([key_of(name) for name in names], dtype=np.uint64)
    bits = draw(seed, Purpose.SPLIT, 0, keys, word + 1)[:, word]
    order = sorted(range(len(names)), key=lambda place: (-len(members[names[place]]), bits[place]))
    return [members[names[place]] for place in order]
