"""Each finding of files, classes, copies, properties and labels appears exactly when it should, as it should."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.inspection.copies import Cluster, Copies, CopyPairs, Photographs, find_copies
from data_pipeline.inspection.cue_findings import cue_findings, cues_of
from data_pipeline.inspection.facts import FACTS
from data_pipeline.inspection.facts_cache import FactsCache
from data_pipeline.inspection.findings import (
    EXAMPLES,
    FEWEST_IMAGES,
    Finding,
    Inspected,
    Severity,
    class_findings,
    copy_findings,
    counted,
    file_findings,
    leaking_pairs,
)
from data_pipeline.inspection.hashing import BITS, Reference
from data_pipeline.inspection.label_findings import label_finding, ranked_labels
from data_pipeline.inspection.radius import Radius
from data_pipeline.listing.index import Dataset, index_folder
from data_pipeline.listing.samples import Samples, key_of, sample_id_of
from data_pipeline.listing.scan import Readers
from resnet_dist.runtime.image_file import decode_rgb, image_header, image_kind

NAMES = ("bent", "good")
RANK = {"train": 0, None: 0, "val": 1, "test": 2}
Change = Callable[[Inspected], Inspected]


def copies_of(clusters: Sequence[Sequence[int]], count: int, exact: Sequence[bool] = ()) -> Copies:
    """As they are found, but for pairs, which no finding looks at."""
    none = np.zeros(0, np.int64)
    cluster_of = np.full(count, -1)
    for place, members in enumerate(clusters):
        cluster_of[list(members)] = place
    return Copies(
        reference=Reference(np.zeros(BITS), np.zeros((0, BITS)), count),
        radius=Radius(80, False, 1e-6, 128.0, 8.0, 5000),
        lowered_from=None,
        pairs=CopyPairs(none, none, none, none.astype(np.bool_), none.astype(np.bool_)),
        clusters=tuple(
            Cluster(np.array(members), members[0], bool(exact) and exact[place])
            for place, members in enumerate(clusters)
        ),
        cluster_of=cluster_of,
    )


def inspected(
    thumbnails: Any,
    labels: Sequence[int],
    splits: Sequence[str | None] | None = None,
    clusters: Sequence[Sequence[int]] = (),
    exact: Sequence[bool] = (),
) -> Inspected:
    """JPEGs of 64 x 48 pixels that nothing is wrong with, as 000.jpg, 001.jpg and so on."""
    count = len(labels)
    ids = tuple(f"{row:03d}.jpg" for row in range(count))
    facts = np.zeros(count, FACTS)
    facts["bytes"], facts["format"], facts["mode"], facts["bits"], facts["orientation"] = 9000, b"JPEG", b"RGB", 8, 1
    facts["sums"], facts["sharpness"] = 128 * 64 * 48, 50.0
    facts["thumbnail"] = thumbnails(row % 20 for row in range(count))
    samples = Samples(
        root="/data",
        classes=NAMES,
        sample_ids=ids,
        keys=np.array([key_of(sample_id) for sample_id in ids], np.uint64),
        labels=np.array(labels, np.int64),
        sizes=np.tile(np.array([64, 48], np.int32), (count, 1)),
        plain=np.ones(count, np.bool_),
        content=tuple(f"{row:032x}" for row in range(count)),
    )
    dataset = Dataset(samples, tuple(splits or ["train"] * count), (None,) * count, (), 0)
    return Inspected(dataset, dataset.splits, facts, copies_of(clusters, count, exact))


def all_findings(found: Inspected) -> list[Finding]:
    return [
        *file_findings(found),
        *class_findings(found.dataset),
        *copy_findings(found, "the command"),
        *cue_findings(cues_of(found), len(found.dataset)),
    ]


def only(findings: list[Finding], code: str) -> Finding:
    (finding,) = [each for each in findings if each.code == code]
    return finding


def codes(findings: Sequence[Finding]) -> list[str]:
    return [each.code for each in findings]


def with_dataset(**changes: Any) -> Change:
    return lambda found: replace(found, dataset=replace(found.dataset, **changes))


def with_facts(column: str, values: dict[int, Any]) -> Change:
    def change(found: Inspected) -> Inspected:
        facts = found.facts.copy()
        for row, value in values.items():
            facts[column][row] = value
        return replace(found, facts=facts)

    return change


def with_sizes(sizes: dict[int, tuple[int, int]]) -> Change:
    def change(found: Inspected) -> Inspected:
        samples = found.dataset.samples
        changed = samples.sizes.copy()
        for row, size in sizes.items():
            changed[row] = size
        return with_dataset(samples=replace(samples, sizes=changed))(found)

    return change


def with_names(names: dict[int, str]) -> Change:
    def change(found: Inspected) -> Inspected:
        samples = found.dataset.samples
        ids = tuple(names.get(row, each) for row, each in enumerate(samples.sample_ids))
        return with_dataset(samples=replace(samples, sample_ids=ids))(found)

    return change


@pytest.fixture
def clean(thumbnails: Any) -> Inspected:
    return inspected(thumbnails, [0, 1] * 12)


def test_of_good_data_nothing_is_found(clean: Inspected) -> None:
    assert all_findings(clean) == []


@pytest.mark.parametrize(
    ("code", "severity", "count", "examples", "change"),
    [
        ("unreadable", 0, 1, ("a/x.png: empty file",), with_dataset(unreadable=(("a/x.png", "empty file"),))),
        ("format-left-out", 1, 5, (), with_dataset(left_out=(("", 9), (".cr2", 2), (".heic", 3), (".txt", 4)))),
        ("blank", 1, 2, ("003.jpg", "005.jpg"), with_facts("thumbnail", {5: 25600, 3: 0})),
        ("tiny", 1, 2, ("002.jpg", "004.jpg"), with_sizes({2: (31, 99), 4: (99, 1)})),
        ("large", 2, 1, ("023.jpg",), with_sizes({23: (64 * 16 + 1, 48)})),
        ("wrong-extension", 2, 1, ("006.jpg",), with_facts("format", {6: b"PNG"})),
        ("rotated", 2, 2, ("007.jpg", "008.jpg"), with_facts("orientation", {7: 2, 8: 8})),
        ("mixed-modes", 2, 3, (), with_facts("mode", {1: b"L", 2: b"L", 9: b"CMYK"})),
        ("mixed-depths", 1, 1, (), with_facts("bits", {1: 16})),
    ],
)
def test_each_fault_of_a_file_is_found_alone(
    clean: Inspected, code: str, severity: int, count: int, examples: tuple[str, ...], change: Change
) -> None:
    (finding,) = all_findings(change(clean))
    assert (finding.code, finding.severity, finding.count) == (code, severity, count)
    assert finding.examples == examples
    assert finding.sentence
    assert finding.remedy


@pytest.mark.parametrize(
    "change",
    [
        with_dataset(left_out=((".txt", 4), ("", 2), (".db", 1))),
        with_sizes({2: (32, 32), 3: (32, 900)}),
        with_sizes({23: (64 * 16, 48)}),
        with_facts("mode", dict.fromkeys(range(24), b"L")),
        with_facts("bits", dict.fromkeys(range(24), 16)),
        with_names({0: "a/b.JPG", 1: "c.jpeg", 2: "d.Jpeg"}),
        with_facts("format", {5: b"ODD"}),
    ],
)
def test_what_is_no_fault_is_not_found(clean: Inspected, change: Change) -> None:
    assert all_findings(change(clean)) == []


@pytest.mark.parametrize(
    ("file_format", "ends"),
    [
        ("JPEG", (".jpg", ".jpeg")),
        ("PNG", (".png",)),
        ("BMP", (".bmp",)),
        ("TIFF", (".tif", ".tiff")),
        ("WEBP", (".webp",)),
        ("PPM", (".ppm", ".pgm")),
        ("GIF", (".gif",)),
    ],
)
def test_formats_have_their_own_extensions(clean: Inspected, file_format: str, ends: tuple[str, ...]) -> None:
    every = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", "")
    named = with_names(
        {row: f"{row:03d}{end}" for row, end in enumerate((*every, *every[:10], ".JPG", ".TIF", ".PNG"))}
    )
    found = named(with_facts("format", dict.fromkeys(range(24), file_format.encode()))(clean))
    wrong = [name for name in found.dataset.samples.sample_ids if not name.lower().endswith(ends)]
    finding = only(file_findings(found), "wrong-extension")
    assert (finding.count, list(finding.examples)) == (len(wrong), wrong[:EXAMPLES])


def test_the_sentence_names_formats_modes_and_depths(clean: Inspected) -> None:
    left_out = all_findings(with_dataset(left_out=((".heic", 3), (".txt", 4)))(clean))[0]
    assert "3 .heic" in left_out.sentence
    assert ".txt" not in left_out.sentence
    assert "22 RGB, 2 L" in all_findings(with_facts("mode", {1: b"L", 2: b"L"})(clean))[0].sentence
    assert "23 of 8 bits, 1 of 16 bits" in all_findings(with_facts("bits", {1: 16})(clean))[0].sentence


def test_no_more_examples_are_named_than_a_person_reads(thumbnails: Any) -> None:
    everywhere = dict.fromkeys(range(60), 6)
    found = inspected(thumbnails, [0, 1] * 30, clusters=[(row, row + 1) for row in range(0, 60, 2)])
    found = with_facts("orientation", everywhere)(with_facts("format", dict.fromkeys(range(60), b"GIF"))(found))
    found = with_facts("thumbnail", dict.fromkeys(range(60), 5))(with_sizes(dict.fromkeys(range(60), (9, 9)))(found))
    found = with_dataset(unreadable=tuple((f"{n:02d}", "no") for n in range(15)))(found)
    findings = all_findings(found)
    assert {"unreadable", "blank", "tiny", "wrong-extension", "rotated", "copies-across-labels", "near-copies"} == set(
        codes(findings)
    )
    for finding in findings:
        assert len(finding.examples) == EXAMPLES
        assert finding.count >= 15
        assert list(finding.examples) == sorted(finding.examples)


@pytest.mark.parametrize(("many", "few", "times"), [(240, 12, 20), (239, 12, None), (999, 12, 83), (12, 12, None)])
def test_imbalance(thumbnails: Any, many: int, few: int, times: int | None) -> None:
    found = class_findings(inspected(thumbnails, [1] * many + [0] * few).dataset)
    if times is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.code, finding.severity, finding.count) == ("imbalance", Severity.WARNING, times)
    assert f"'good' ({many})" in finding.sentence
    assert f"'bent' ({few})" in finding.sentence


def test_a_class_without_images_is_no_imbalance_but_few_images(thumbnails: Any) -> None:
    (finding,) = class_findings(inspected(thumbnails, [1] * 500).dataset)
    assert (finding.code, finding.examples) == ("few-images", ("bent in train (0)",))


def test_few_images_of_a_class_in_a_split(thumbnails: Any) -> None:
    enough, fewer = [0, 1] * FEWEST_IMAGES, [0, 1] * (FEWEST_IMAGES - 1)
    found = inspected(thumbnails, [*enough, *fewer, *enough, 1], ["train"] * 20 + ["val"] * 18 + ["test"] * 21)
    (finding,) = class_findings(found.dataset)
    assert (finding.code, finding.severity, finding.count) == ("few-images", Severity.WARNING, 2)
    assert finding.examples == ("bent in val (9)", "good in val (9)")
    torn = inspected(thumbnails, [*enough, 0, 1, 1], ["train"] * 19 + ["val"] * 2 + ["test"] * 2)
    (finding,) = class_findings(torn.dataset)
    assert (finding.count, len(finding.examples)) == (2, 5), "classes are counted, and named by split"
    without_val = inspected(thumbnails, enough * 2, ["train"] * 20 + ["test"] * 20)
    assert class_findings(without_val.dataset) == []


def test_of_many_classes_with_few_images_the_first_are_named(thumbnails: Any) -> None:
    found = inspected(thumbnails, [0] * 14)
    names = tuple(f"class {n:02d}" for n in range(14))
    samples = replace(found.dataset.samples, classes=names, labels=np.arange(14))
    (finding,) = class_findings(replace(found.dataset, samples=samples))
    assert (finding.count, len(finding.examples)) == (14, EXAMPLES)


SPLITS = ["train"] * 12 + ["val"] * 12 + ["test"] * 12


@pytest.mark.parametrize(
    ("clusters", "exact", "expected"),
    [
        ([], (), {}),
        ([(0, 2)], (), {"near-copies": (2, "000.jpg (bent, train) = 002.jpg (bent, train)")}),
        ([(0, 2, 4)], (True,), {"exact-copies": (3, "000.jpg (bent, train) = 002.jpg (bent, train)")}),
        (
            [(0, 1)],
            (),
            {
                "copies-across-labels": (2, "000.jpg (bent, train) = 001.jpg (good, train)"),
                "near-copies": (2, "000.jpg (bent, train) = 001.jpg (good, train)"),
            },
        ),
        (
            [(0, 2, 12, 14, 24)],
            (True,),
            {
                "copies-across-splits": (3, "000.jpg (bent, train) = 012.jpg (bent, val)"),
                "exact-copies": (5, "000.jpg (bent, train) = 002.jpg (bent, train)"),
            },
        ),
        (
            [(12, 24), (26, 28)],
            (False, True),
            {
                "copies-across-splits": (1, "012.jpg (bent, val) = 024.jpg (bent, test)"),
                "exact-copies": (2, "026.jpg (bent, test) = 028.jpg (bent, test)"),
                "near-copies": (2, "012.jpg (bent, val) = 024.jpg (bent, test)"),
            },
        ),
    ],
)
def test_copies(
    thumbnails: Any, clusters: list[tuple[int, ...]], exact: tuple[bool, ...], expected: dict[str, tuple[int, str]]
) -> None:
    found = inspected(thumbnails, [0, 1] * 18, SPLITS, clusters, exact)
    findings = copy_findings(found, "the command")
    assert {each.code: (each.count, each.examples[0]) for each in findings} == expected
    severities = {"copies-across-splits": 0, "copies-across-labels": 0, "exact-copies": 1, "near-copies": 2}
    assert all(each.severity == severities[each.code] for each in findings)
    repaired = {each.code for each in findings if each.remedy == "the command"}
    leaks = "copies-across-splits" in expected
    assert repaired == ({"copies-across-splits", "near-copies"} & expected.keys() if leaks else set())
    assert [each for each in all_findings(found) if each.code != "few-images"] == findings


def test_sentences_count_clusters(thumbnails: Any) -> None:
    found = inspected(thumbnails, [0, 1] * 18, SPLITS, [(0, 2), (4, 6)])
    (finding,) = copy_findings(found, "")
    assert "in 2 clusters" in finding.sentence
    assert (counted(1, "cluster"), counted(2, "cluster"), counted(0, "cluster")) == (
        "1 cluster",
        "2 clusters",
        "0 clusters",
    )


@st.composite
def clustered(draw: st.DrawFn) -> tuple[list[str | None], list[list[int]]]:
    splits = draw(st.lists(st.sampled_from(["train", "val", "test", None]), min_size=1, max_size=25))
    names = [draw(st.integers(0, 6)) for _ in splits]
    groups = [[row for row, name in enumerate(names) if name == each] for each in set(names)]
    return splits, draw(st.permutations([group for group in groups if len(group) > 1]))


@given(clustered())
def test_leaking_pairs_are_all_images_with_a_copy_nearer_to_training(
    data: tuple[list[str | None], list[list[int]]],
) -> None:
    splits, clusters = data
    expected = []
    for row, split in enumerate(splits):
        copies = [other for members in clusters if row in members for other in members]
        nearer = [other for other in copies if RANK[splits[other]] < RANK[split]]
        if nearer:
            nearest = min(RANK[splits[other]] for other in nearer)
            expected.append((row, next(other for other in nearer if RANK[splits[other]] == nearest)))
    assert leaking_pairs(splits, [np.array(members) for members in clusters]) == expected


def test_a_folder_is_inspected_from_its_files(tmp_path: Path, image_files: Any, picture: Any) -> None:
    """Twelve good images of each class in train, eleven in test, and one of each fault."""
    root = tmp_path / "parts"
    seed = 0
    for split, count in (("train", 12), ("test", 11)):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                file = image_files.encode(picture(seed), "PNG")
                (root / split / name / f"{number:02d}.png").write_bytes(file)
                seed += 1
    bent = root / "train" / "bent"
    (bent / "jpeg.png").write_bytes(image_files.encode(picture(900), "JPEG"))
    (bent / "turned.jpg").write_bytes(image_files.turned(picture(901), "JPEG", 6))
    (bent / "grey.png").write_bytes(image_files.encode(picture(902)[:, :, 0].copy(), "PNG"))
    deep = picture(905)[:, :, :1].astype(np.uint16) * 257
    (bent / "deep.png").write_bytes(image_files.png(deep, 16, 0))
    (bent / "white.png").write_bytes(image_files.encode(np.full((64, 64, 3), 255, np.uint8), "PNG"))
    (bent / "small.png").write_bytes(image_files.encode(picture(903)[:40, :31].copy(), "PNG"))
    (bent / "wide.png").write_bytes(image_files.encode(picture(904, 64 * 17)[:64].copy(), "PNG"))
    (bent / "half.png").write_bytes(image_files.damaged()["half a PNG"])
    (bent / "photo.HEIC").write_bytes(b"heic")
    (bent / "notes.txt").write_text("of the shift")
    (root / "test" / "good" / "leak.png").write_bytes((bent / "03.png").read_bytes())

    data = DataConfig(root=str(root), cache_dir=str(tmp_path / "cache"), bit_depth=16, on_unreadable="skip")
    cache = FactsCache(None, partial(image_kind, max_pixels=10**6))
    ids = [sample_id_of(str(path.relative_to(root)).encode()) for path in _listed(root)]
    readers = Readers(
        partial(decode_rgb, bit_depth=16, max_pixels=10**6),
        partial(image_header, max_pixels=10**6),
        see=lambda row, content, pixels: cache.see(ids[row], content, pixels),
    )
    dataset = index_folder(data, readers, memory=cache)
    facts = np.concatenate([cache.facts[sample_id] for sample_id in dataset.samples.sample_ids])
    samples = dataset.samples
    copies = find_copies(Photographs(facts["thumbnail"], samples.content, samples.labels, samples.keys))
    findings = [*file_findings(found := Inspected(dataset, dataset.splits, facts, copies)), *copy_findings(found, "")]
    named = {each.code: [example.rpartition("/")[2] for example in each.examples] for each in findings}
    assert named == {
        "unreadable": named["unreadable"],
        "format-left-out": [],
        "blank": ["white.png"],
        "tiny": ["small.png"],
        "large": ["wide.png"],
        "wrong-extension": ["jpeg.png"],
        "rotated": ["turned.jpg"],
        "mixed-modes": [],
        "mixed-depths": [],
        "copies-across-splits": ["03.png (bent, train)"],
        "copies-across-labels": ["03.png (bent, train)"],
        "exact-copies": ["03.png (bent, train)"],
    }
    (example,) = only(findings, "copies-across-splits").examples
    assert example == "test/good/leak.png (good, test) = train/bent/03.png (bent, train)"
    assert only(findings, "unreadable").examples[0].startswith("train/bent/half.png: ")
    assert "1 .heic" in only(findings, "format-left-out").sentence
    assert dataset.left_out == ((".heic", 1), (".txt", 1))
    modes = only(findings, "mixed-modes").sentence
    assert all(each in modes for each in (f"{len(dataset) - 2} RGB", "1 L", "1 I;16"))


def _listed(root: Path) -> list[Path]:
    """The images in the order in which a folder is listed."""
    folders = [root / split / name for split in ("test", "train") for name in NAMES]
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".jpg")]


def with_cue(found: Inspected, column: str, strong: bool = True) -> Inspected:
    """`column` is far higher in class 1, or not."""
    facts = found.facts.copy()
    chance = np.random.default_rng(0).random(len(facts))
    shift = found.dataset.samples.labels if strong else 0
    values = 1000 * (1 + chance + 3 * shift)
    facts[column] = values[:, None] if column == "sums" else values
    return replace(found, facts=facts)


@pytest.mark.parametrize(
    ("column", "name", "code", "severity"),
    [
        ("sums", "brightness", "cue", Severity.WARNING),
        ("sharpness", "sharpness", "cue", Severity.WARNING),
        ("bytes", "bytes", "cue-unseen", Severity.NOTE),
    ],
)
def test_a_property_that_predicts_the_class_is_found(
    thumbnails: Any, column: str, name: str, code: str, severity: Severity
) -> None:
    labels = np.random.default_rng(5).integers(0, 2, 120).tolist()
    found = inspected(thumbnails, labels)
    assert cue_findings(cues_of(found), 120) == []
    assert cue_findings(cues_of(with_cue(found, column, strong=False)), 120) == []
    cues = cues_of(with_cue(found, column))
    assert cues[0].name == name
    assert [cue.interval[0] for cue in cues] == sorted((cue.interval[0] for cue in cues), reverse=True)
    (finding,) = cue_findings(cues, 120)
    assert (finding.code, finding.severity, finding.count) == (code, severity, 120)
    assert name in finding.sentence


@pytest.mark.parametrize(
    ("change", "code", "name"),
    [
        (lambda row, label: with_sizes({row: (64 + 16 * label, 48)}), "cue", "width"),
        (lambda row, label: with_sizes({row: (64, 48 + 16 * label)}), "cue", "height"),
        (lambda row, label: with_facts("format", {row: (b"JPEG", b"PNG")[label]}), "cue-unseen", "format"),
        (lambda row, label: with_facts("mode", {row: (b"L", b"RGB")[label]}), "cue-unseen", "mode"),
        (lambda row, label: with_names({row: f"{'xy'[label]}{row:03d}.jpg"}), "cue-unseen", "name prefix"),
    ],
)
def test_sizes_formats_and_names_are_properties(thumbnails: Any, change: Any, code: str, name: str) -> None:
    labels = np.random.default_rng(5).integers(0, 2, 120).tolist()
    found = inspected(thumbnails, labels)
    for row, label in enumerate(labels):
        found = change(row, label)(found)
    area = found.dataset.samples.sizes.prod(axis=1)
    facts = found.facts.copy()
    facts["sums"] = (np.random.default_rng(1).integers(90, 170, 120) * area)[:, None]
    found = replace(found, facts=facts)
    findings = cue_findings(cues_of(found), 120)
    assert any(each.code == code and f" {name} alone" in each.sentence for each in findings)
    assert not any("brightness" in each.sentence for each in findings)


def test_of_few_images_no_property_is_tried(thumbnails: Any) -> None:
    found = [with_cue(inspected(thumbnails, [0, 1] * half), "sums") for half in (24, 25)]
    assert cues_of(found[0]) == []
    assert "brightness" in [cue.name for cue in cues_of(found[1])]


def test_copies_are_one_image_to_a_property(thumbnails: Any) -> None:
    """Two classes, each of four clusters of 30 copies: eight pictures tell nothing, 240 would tell much."""
    labels = [0, 1] * 120
    alone = with_cue(inspected(thumbnails, labels), "sums")
    clusters = [list(range(start, 240, 8)) for start in range(8)]
    copies = replace(alone, copies=copies_of(clusters, 240))
    assert "cue" in codes(cue_findings(cues_of(alone), 240))
    assert cue_findings(cues_of(copies), 240) == []
    (before,) = [cue for cue in cues_of(alone) if cue.name == "brightness"]
    (after,) = [cue for cue in cues_of(copies) if cue.name == "brightness"]
    assert after.interval[0] < before.interval[0] - 0.2


def predictions(found: Inspected, wrong: Sequence[int] = ()) -> dict[str, NDArray[np.float32]]:
    """Of a model that is sure of itself, and contradicts the labels of some rows; all scores differ."""
    table = {}
    for row, (sample_id, label) in enumerate(
        zip(found.dataset.samples.sample_ids, found.dataset.samples.labels.tolist(), strict=True)
    ):
        sure = 0.9 + 0.001 * row
        of_first = sure if (label == 0) != (row in wrong) else 1 - sure
        table[sample_id] = np.array([of_first, 1 - of_first], np.float32)
    return table


def test_labels_that_a_model_contradicts_are_ranked_first(clean: Inspected) -> None:
    ranked = ranked_labels(clean, predictions(clean, wrong=[3, 8]))
    assert ranked.rows[:2].tolist() == [8, 3], "the surer, the more suspicious"
    assert sorted(ranked.rows.tolist()) == list(range(24))
    assert ranked.likely.tolist() == [True, True] + [False] * 22
    assert ranked.suggested.tolist() == (1 - clean.dataset.samples.labels[ranked.rows]).tolist()
    assert (np.diff(ranked.score) <= 0).all()
    assert ranked.score[:2] == pytest.approx([0.908, 0.903], abs=1e-5)
    assert ranked.share == pytest.approx(2 / 24)
    finding = label_finding(clean, ranked, "the list")
    assert (finding.code, finding.severity, finding.count) == ("label-errors", Severity.WARNING, 2)
    assert finding.remedy == "the list"
    assert "of 24 labels" in finding.sentence
    assert len(finding.examples) == EXAMPLES
    assert finding.examples[:2] == ("008.jpg: bent, rather good (0.91)", "003.jpg: good, rather bent (0.90)")


def test_only_images_with_predictions_are_ranked(clean: Inspected) -> None:
    every = predictions(clean, wrong=[5])
    some = {sample_id: row for sample_id, row in every.items() if sample_id in ("002.jpg", "005.jpg", "007.jpg")}
    ranked = ranked_labels(clean, {**some, "elsewhere.jpg": np.array([0.5, 0.5], np.float32)})
    assert ranked.rows.tolist() == [5, 2, 7]
    assert "of 3 labels" in label_finding(clean, ranked, "").sentence
    with pytest.raises(DataError, match="none of these images"):
        ranked_labels(clean, {"elsewhere.jpg": np.array([0.5, 0.5], np.float32)})


def test_a_model_that_agrees_is_a_note(clean: Inspected) -> None:
    agreed = label_finding(clean, ranked_labels(clean, predictions(clean)), "the list")
    assert (agreed.code, agreed.severity, agreed.count) == ("label-errors", Severity.NOTE, 0)
    assert agreed.remedy == "the list"


def test_a_model_that_contradicts_too_much_is_too_weak_to_judge(clean: Inspected) -> None:
    ranked = ranked_labels(clean, predictions(clean, wrong=range(8)))
    assert ranked.share == pytest.approx(8 / 24)
    weak = label_finding(clean, ranked, "the list")
    assert (weak.code, weak.severity, weak.count, len(weak.examples)) == ("label-errors", Severity.NOTE, 8, EXAMPLES)
    assert "33 %" in weak.sentence
    assert "too weak" in weak.sentence
    strong = label_finding(clean, ranked_labels(clean, predictions(clean, wrong=range(7))), "the list")
    assert (strong.severity, strong.count) == (Severity.WARNING, 7)
