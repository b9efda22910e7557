"""What a person should know of a data set before training: findings, worst first, each with its remedy."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.copies import Cluster, Copies
from data_pipeline.inspection.hashing import shows_something
from data_pipeline.listing.image_folder import SPLITS
from data_pipeline.listing.index import Dataset

EXAMPLES = 10
"""Sample ids that a finding names."""
FEWEST_IMAGES = 10
"""Of a class in a split, to say anything of it."""
_IMBALANCE = 20
"""Times as many images in the largest class as in the smallest."""
_TINY = 32
"""Pixels of a shorter side."""
_LARGE = 16
"""Times the median number of pixels."""
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm"),
    "GIF": (".gif",),
}
_IMAGE_SUFFIXES = {
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jp2",
    ".j2k",
    ".jpf",
    ".jfif",
    ".jpe",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".orf",
    ".rw2",
    ".raw",
    ".raf",
    ".psd",
    ".tga",
    ".svg",
    ".eps",
    ".ico",
    ".exr",
    ".hdr",
    ".dcm",
    ".pnm",
    ".pbm",
    ".apng",
    ".fits",
}
"""Ends of names of images that nothing here reads."""


class Severity(IntEnum):
    """How much a finding matters; lower is worse."""

    ERROR = 0
    """Results cannot be believed, or images are lost."""
    WARNING = 1
    """Results may be worse, or better, than they seem."""
    NOTE = 2
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    code: str
    """A stable word for programs, such as `unreadable`."""
    severity: Severity
    count: int
    """Images, or what else the sentence counts."""
    sentence: str
    remedy: str
    examples: tuple[str, ...] = ()
    """The first of the sample ids; pairs are one text, "a = b"."""


@dataclass(frozen=True)
class Inspected:
    """What is known of N images."""

    dataset: Dataset
    """With a split for each image."""
    given_splits: tuple[str | None, ...]
    """[N] those that the data have themselves."""
    facts: NDArray[np.void]
    """[N] of `data_pipeline.inspection.facts.FACTS`."""
    copies: Copies


def file_findings(inspected: Inspected) -> list[Finding]:
    """Of files and pixels, one by one."""
    dataset, facts, ids = inspected.dataset, inspected.facts, inspected.dataset.samples.sample_ids
    found: list[Finding] = []
    if dataset.unreadable:
        reasons = tuple(f"{sample_id}: {reason}" for sample_id, reason in dataset.unreadable[:EXAMPLES])
        remedy = 'repair or remove them; data.on_unreadable="skip" trains without them'
        found.append(
            Finding("unreadable", Severity.ERROR, len(dataset.unreadable), "images cannot be read", remedy, reasons)
        )
    others = [(suffix, count) for suffix, count in dataset.left_out if suffix in _IMAGE_SUFFIXES]
    if others:
        named = ", ".join(f"{count} {suffix}" for suffix, count in others)
        count = sum(count for _, count in others)
        remedy = "convert them to PNG or JPEG, or move them away"
        sentence = f"files of formats that are not read are left out ({named})"
        found.append(Finding("format-left-out", Severity.WARNING, count, sentence, remedy))

    def add(code: str, severity: Severity, rows: NDArray[np.bool_], sentence: str, remedy: str) -> None:
        if rows.any():
            first: list[int] = np.flatnonzero(rows)[:EXAMPLES].tolist()
            examples = tuple(ids[row] for row in first)
            found.append(Finding(code, severity, int(rows.sum()), sentence, remedy, examples))

    sizes = dataset.samples.sizes.astype(np.int64)
    pixels, shorter = sizes.prod(axis=1), sizes.min(axis=1, initial=2**31)
    median = float(np.median(pixels)) if len(pixels) else 0.0
    add("blank", Severity.WARNING, ~shows_something(facts["thumbnail"]), "images show one colour", "remove them")
    add("tiny", Severity.WARNING, shorter < _TINY, f"images are narrower than {_TINY} pixels", "replace or remove them")
    sentence = f"images have more than {_LARGE} times the pixels of the median image"
    add(
        "large",
        Severity.NOTE,
        pixels > _LARGE * median,
        sentence,
        "see whether they are of the same camera; scale them",
    )
    sentence = "images are of another format than their name says"
    add("wrong-extension", Severity.NOTE, _misnamed(ids, facts), sentence, "rename them; they are read all the same")
    turned = facts["orientation"] > 1
    sentence = "images are stored turned and set upright by EXIF"
    add("rotated", Severity.NOTE, turned, sentence, "nothing: they are shown and trained upright; other tools may not")
    found += _mixed(facts)
    return found


def class_findings(dataset: Dataset) -> list[Finding]:
    """Of how many images classes have."""
    names, found = dataset.samples.classes, list[Finding]()
    counts = np.bincount(dataset.samples.labels, minlength=len(names))
    filled = counts[counts > 0]
    if len(filled) and filled.max() >= _IMBALANCE * filled.min():
        most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
        sentence = f"times as many images of {names[most]!r} ({counts[most]}) as of {names[least]!r} ({counts[least]})"
        remedy = "--data.sampling balanced or --training.class-weights balanced, and judge by macro-F1"
        found.append(
            Finding("imbalance", Severity.WARNING, int(counts[most] // max(counts[least], 1)), sentence, remedy)
        )
    few: list[str] = []
    classes: set[str] = set()
    for split in SPLITS:
        rows = dataset.rows(split)
        if len(rows):
            own = np.bincount(dataset.samples.labels[rows], minlength=len(names))
            short = [(name, count) for name, count in zip(names, own.tolist(), strict=True) if count < FEWEST_IMAGES]
            few += [f"{name} in {split} ({count})" for name, count in short]
            classes.update(name for name, _ in short)
    if few:
        sentence = f"classes have fewer than {FEWEST_IMAGES} images in a split: too few to judge them by"
        remedy = "add images, merge classes (data.rename_classes), or judge by cross-validation (data.folds)"
        found.append(Finding("few-images", Severity.WARNING, len(classes), sentence, remedy, tuple(few[:EXAMPLES])))
    return found


def copy_findings(inspected: Inspected, repair: str) -> list[Finding]:
    """Of images that are copies of others. `repair`: the command that puts copies on one side."""
    dataset, clusters = inspected.dataset, inspected.copies.clusters
    ids, labels, names = dataset.samples.sample_ids, dataset.samples.labels, dataset.samples.classes
    found: list[Finding] = []

    def named(row: int) -> str:
        return f"{ids[row]} ({names[int(labels[row])]}, {dataset.splits[row] or 'no split'})"

    def add(finding: Finding, chosen: Sequence[Cluster], kind_of: Callable[[int], object] = lambda row: row) -> None:
        """With an example of each of the first clusters: its first image, and the first that is of another kind."""
        if chosen:
            members: list[list[int]] = [each.members.tolist() for each in chosen[:EXAMPLES]]
            pairs = [(rows[0], next(row for row in rows if kind_of(row) != kind_of(rows[0]))) for rows in members]
            found.append(replace(finding, examples=tuple(f"{named(one)} = {named(other)}" for one, other in pairs)))

    leaks = leaking_pairs(dataset.splits, [each.members for each in clusters])
    splits_of = [{dataset.splits[int(row)] for row in each.members} for each in clusters]
    across = [each for each, splits in zip(clusters, splits_of, strict=True) if len(splits) > 1]
    sentence = "of val and test have copies in another split, so results look better than they are"
    add(
        Finding("copies-across-splits", Severity.ERROR, len(leaks), sentence, repair),
        across,
        dataset.splits.__getitem__,
    )
    torn = [each for each in clusters if len(set(labels[each.members].tolist())) > 1]
    sentence = f"images in {counted(len(torn), 'cluster')} of copies carry different labels"
    remedy = "look at them; correct the labels, or remove images that show no single class"
    add(Finding("copies-across-labels", Severity.ERROR, _images(torn), sentence, remedy), torn, labels.__getitem__)
    exact = [each for each in clusters if each.exact]
    sentence = f"images in {counted(len(exact), 'cluster')} have the same bytes"
    add(Finding("exact-copies", Severity.WARNING, _images(exact), sentence, "keep one of each"), exact)
    near = [each for each in clusters if not each.exact]
    sentence = f"images in {counted(len(near), 'cluster')} are near copies: they say less than as many parts would"
    remedy = repair if leaks else "nothing while they stay in one split, as now"
    add(Finding("near-copies", Severity.NOTE, _images(near), sentence, remedy), near)
    return found


def leaking_pairs(splits: Sequence[str | None], clusters: Sequence[NDArray[np.int64]]) -> list[tuple[int, int]]:
    """(row, copy) for each row of val that has a copy in train, and of test that has one in train or val, ascending.

    `clusters`: rows that are copies. The copy is the first in the split that is nearest to training.
    """
    found: list[tuple[int, int]] = []
    for cluster in clusters:
        members: list[int] = cluster.tolist()
        far = {row: SPLITS.index(splits[row] or "train") for row in members}
        first = min(members, key=lambda row: (far[row], row))
        found += [(row, first) for row in members if far[row] > far[first]]
    return sorted(found)


def counted(count: int, noun: str) -> str:
    """ "1 cluster", "2 clusters"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _images(clusters: Sequence[Cluster]) -> int:
    return sum(len(each.members) for each in clusters)


def _misnamed(ids: Sequence[str], facts: NDArray[np.void]) -> NDArray[np.bool_]:
    formats = facts["format"].astype(str).tolist()
    return np.array(
        [
            not sample_id.lower().endswith(_SUFFIXES.get(own, ("",)))
            for sample_id, own in zip(ids, formats, strict=True)
        ],
        np.bool_,
    )


def _mixed(facts: NDArray[np.void]) -> list[Finding]:
    """Several modes or bit depths in one set."""
    found: list[Finding] = []
    modes: Counter[str] = Counter(facts["mode"].astype(str).tolist())
    depths: Counter[int] = Counter(facts["bits"].tolist())
    if len(modes) > 1:
        named = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
        count = len(facts) - modes.most_common(1)[0][1]
        remedy = "see that no class has a mode of its own; all are trained as RGB"
        found.append(Finding("mixed-modes", Severity.NOTE, count, f"images differ in mode ({named})", remedy))
    if len(depths) > 1:
        named = ", ".join(f"{count} of {bits} bits" for bits, count in depths.most_common())
        count = len(facts) - depths.most_common(1)[0][1]
        remedy = "export all images with one depth; 16 bits are scaled by data.bit_depth"
        found.append(Finding("mixed-depths", Severity.WARNING, count, f"images differ in depth ({named})", remedy))
    return found
