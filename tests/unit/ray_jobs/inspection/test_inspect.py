"""`resnet-dist data inspect`, through the command line, on real files."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from cluster.errors import StorageError
from data_pipeline.errors import DataError
from data_pipeline.inspection.thumbnails import SIDE
from ray_jobs.inspection.inspect import InspectOptions, run_inspect
from ray_jobs.inspection.look import looked_at
from ray_jobs.inspection.record import InspectionRecord, find_inspection
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from tests.complaints import complains
from tests.textures import texture

CLASSES = ("bent", "good")
EACH = 20

Inspect = Callable[..., int]


def job_of(folder: Path, tmp_path: Path, **data: Any) -> JobConfig:
    given = {"root": str(folder), "source": "reference", "cache_dir": str(tmp_path / "cache"), **data}
    return check({"data": given, "storage": {"root": str(tmp_path / "storage")}})


def record_in(tmp_path: Path) -> tuple[Path, InspectionRecord]:
    """The only record."""
    (folder,) = (tmp_path / "storage/inspections").iterdir()
    return folder, InspectionRecord.model_validate_json((folder / "inspection.json").read_bytes())


def codes(record: InspectionRecord) -> dict[str, int]:
    return {finding.code: finding.count for finding in record.findings}


def plant(parts: Path) -> None:
    """One of each fault."""
    good, bent = parts / "good", parts / "bent"
    shutil.copy(bent / "03.png", good / "copy.png")
    ImageOps.mirror(Image.open(good / "05.png")).save(good / "mirror.png")
    Image.fromarray((np.asarray(Image.open(bent / "07.png")) * 0.8 + 10).astype(np.uint8)).save(bent / "darker.png")
    (bent / "whole.jpg").write_bytes((good / "09.png").read_bytes())
    (good / "phone.heic").write_bytes(b"of a phone")
    whole = io.BytesIO()
    texture(5000).save(whole, "JPEG", quality=95)
    (good / "cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    Image.new("L", (64, 64), 90).save(good / "blank.png")
    texture(5001, 24).save(good / "tiny.png")
    texture(5002, 400).save(good / "large.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    texture(5003).save(good / "turned.jpg", exif=exif, quality=95)
    Image.merge("RGB", [texture(5004)] * 3).save(good / "colour.png")
    Image.fromarray(np.asarray(texture(5005)).astype(np.uint16) * 16).save(good / "deep.png")


def test_everything_that_is_wrong_is_found_and_recorded(
    parts: Path, tmp_path: Path, inspect: Inspect, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(parts)
    assert inspect(parts, "--data.bit-depth", "12") == 0
    folder, record = record_in(tmp_path)
    assert folder.name == f"parts-{record.fingerprint[:12]}"
    found = codes(record)
    once = ("unreadable", "format-left-out", "blank", "tiny", "large", "rotated")
    assert {code: found.get(code) for code in once} == dict.fromkeys(once, 1)
    assert found["wrong-extension"] == 1
    assert found["copies-across-labels"] == 4  # one pair of the same bytes under two labels, and whole.jpg with 09.png
    assert found["exact-copies"] == 4
    assert found["near-copies"] == 4
    assert found["mixed-depths"] == 1
    assert found["mixed-modes"] == 2
    clusters = {frozenset(cluster.members) for cluster in record.clusters}
    assert clusters == {
        frozenset({"bent/03.png", "good/copy.png"}),
        frozenset({"good/05.png", "good/mirror.png"}),
        frozenset({"bent/07.png", "bent/darker.png"}),
        frozenset({"bent/whole.jpg", "good/09.png"}),
    }
    severities = [finding.severity for finding in record.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    said = capsys.readouterr().out
    assert all(code in said for code in found)
    assert "good/cut.jpg" in said
    assert ".heic" in said
    assert str(folder) in said

    table = pq.read_table(folder / "images.parquet").to_pylist()
    assert [row["sample_id"] for row in table] == sorted(row["sample_id"] for row in table)
    assert len(table) == record.images == 2 * EACH + 10
    row = next(row for row in table if row["sample_id"] == "good/turned.jpg")
    assert (row["format"], row["orientation"], row["bits"]) == ("JPEG", 6, 8)
    assert len(row["thumbnail"]) == 2 * SIDE * SIDE
    pixels = np.asarray(Image.open(parts / "bent/00.png").convert("RGB"), np.uint64)
    row = next(row for row in table if row["sample_id"] == "bent/00.png")
    assert [row[f"sum_{name}"] for name in ("red", "green", "blue")] == pixels.sum(axis=(0, 1)).tolist()
    # As the labels, so the reference knows no label: the two pairs with two labels each were found.
    assert record.reference.images > 0


def test_what_was_seen_is_not_decoded_again(parts: Path, tmp_path: Path) -> None:
    job = job_of(parts, tmp_path)
    count = 2 * EACH
    first = run_inspect(job, InspectOptions())
    assert first.decoded == count
    again = run_inspect(job, InspectOptions())
    assert again.decoded == 0
    assert again.record == first.record
    os.utime(parts / "good/04.png", (1, 1))
    assert run_inspect(job, InspectOptions()).decoded == 1
    assert run_inspect(job, InspectOptions(reread=True)).decoded == count
    assert run_inspect(job, InspectOptions()).decoded == 0
    # A part that was cut off is read again, and is an error to nobody.
    for part in (tmp_path / "cache/inspection").rglob("*.npz"):
        part.write_bytes(part.read_bytes()[:1000])
    assert run_inspect(job, InspectOptions()).decoded == count


def test_an_interrupted_inspection_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(100):
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(root / name / f"{number}.png")
    job = job_of(root, tmp_path)

    def interrupt(done: int, _: int) -> None:
        if done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        looked_at(job, job.data, interrupt)
    _, cache = looked_at(job, job.data, lambda *_: None)
    assert 0 < cache.seen <= 200 - 64


def test_files_that_change_meanwhile_are_findings(parts: Path, tmp_path: Path) -> None:
    for number in range(60):
        texture(7000 + number, 32).save(parts / "bent" / f"more{number}.png")
    job = job_of(parts, tmp_path, on_unreadable="skip")
    gone = [parts / "good" / f"{number:02d}.png" for number in range(15, EACH)]

    def remove(_: int, __: int) -> None:
        for path in gone:
            path.unlink(missing_ok=True)

    dataset, cache = looked_at(job, job.data, remove)
    # The next chunk may have been read before the files went: what was read counts, what was gone is said.
    unreadable = {sample_id for sample_id, _ in dataset.unreadable}
    assert unreadable | set(dataset.samples.sample_ids) == set(cache.facts) | unreadable
    assert all("No such file" in reason for _, reason in dataset.unreadable)
    assert len(dataset) + len(unreadable) == 2 * EACH + 60


def test_training_need_not_decode_what_an_inspection_has_seen(parts: Path, tmp_path: Path) -> None:
    job = job_of(parts, tmp_path)
    run_inspect(job, InspectOptions())
    (scan,) = (tmp_path / "cache/scan").iterdir()
    assert len(json.loads(scan.read_bytes())) == 2 * EACH


def test_odd_names_and_circles_of_links(parts: Path, tmp_path: Path, inspect: Inspect) -> None:
    (parts / "good/loop").symlink_to(parts / "good", target_is_directory=True)
    (parts / "good/up").symlink_to(parts, target_is_directory=True)
    shutil.copy(parts / "bent/01.png", parts / "good" / 'a\nb, ="c".png')
    shutil.copy(parts / "good/00.png", os.fsdecode(os.fsencode(parts) + b"/good/\xff.png"))
    assert inspect(parts) == 0
    _, record = record_in(tmp_path)
    assert record.images == 2 * EACH + 2
    assert {frozenset(cluster.members) for cluster in record.clusters} == {
        frozenset({"good/00.png", r"good/\xff.png"}),
        frozenset({"bent/01.png", 'good/a\nb, ="c".png'}),
    }


def test_a_labels_file_beside_class_folders_says_which_images_there_are(
    parts: Path, tmp_path: Path, inspect: Inspect
) -> None:
    rows = [f"{name}/{number:02d}.png,{'ab'[number % 2]}" for name in CLASSES for number in range(10)]
    (parts / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert inspect(parts, "--data.labels", "labels.csv") == 0
    _, record = record_in(tmp_path)
    assert record.classes == ("a", "b")
    assert record.images == 20
    assert record.labels == "labels.csv"


def test_what_is_no_data_set_is_refused(
    tmp_path: Path, parts: Path, inspect: Inspect, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(tmp_path / "nowhere") == 3
    assert inspect(parts, "--radius", "200") == 2
    said = capsys.readouterr().err
    assert complains(said, "--radius", 200, remedy="leave")
    shutil.rmtree(parts / "good")
    assert inspect(parts) == 3


def test_a_full_disk_loses_the_memory_and_no_record_is_half(
    tmp_path_factory: pytest.TempPathFactory, small_disk: Path
) -> None:
    root = tmp_path_factory.mktemp("images")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(EACH):
            texture(1000 * label + number, 32).save(root / name / f"{number:02d}.png")
    fill(small_disk / "filler")
    job = job_of(root, tmp_path_factory.mktemp("outside"), cache_dir=str(small_disk / "cache"))
    assert run_inspect(job, InspectOptions()).decoded == 2 * EACH
    assert run_inspect(job, InspectOptions()).decoded == 2 * EACH, "nothing can have been remembered"
    assert list(small_disk.rglob("*.npz")) == []
    there = job.model_copy(update={"storage": job.storage.model_copy(update={"root": str(small_disk / "storage")})})
    with pytest.raises(StorageError, match="no space is left"):
        run_inspect(there, InspectOptions())
    assert list(small_disk.rglob("inspection.json")) == []
    (small_disk / "filler").unlink()
    outcome = run_inspect(there, InspectOptions())
    assert find_inspection(str(small_disk / "storage"), outcome.record.fingerprint) == outcome.record


def fill(file: Path) -> None:
    """Until nothing more goes on the disk."""
    for size in (65536, 4096, 1):
        with suppress(OSError), file.open("ab", buffering=0) as stream:
            while stream.write(bytes(size)):
                pass


def test_labels_are_ranked_by_predictions_and_written_as_a_labels_file(parts: Path, tmp_path: Path) -> None:
    job = job_of(parts, tmp_path)
    (parts / "good/00.png").rename(parts / "bent/flipped.png")
    # A model that knows: the class that the picture was made for, with some doubt.
    truth = {"bent/flipped.png": 1}
    ids = [f"{name}/{path.name}" for name in CLASSES for path in (parts / name).iterdir()]
    doubt = np.random.default_rng(0).uniform(0.02, 0.2, len(ids))
    said = {}
    doubt[ids.index("bent/flipped.png")] = 0.01  # surer than of most
    for sample_id, each in zip(ids, doubt.tolist(), strict=True):
        own = truth.get(sample_id, CLASSES.index(sample_id.partition("/")[0]))
        said[sample_id] = np.array([each, 1 - each] if own else [1 - each, each], np.float32)
    outcome = run_inspect(job, InspectOptions(predictions=lambda _: said))
    finding = next(each for each in outcome.record.findings if each.code == "label-errors")
    assert (finding.count, finding.severity) == (1, "warning")
    assert finding.examples[0].startswith("bent/flipped.png: bent, rather good")
    file = Path(outcome.place) / "relabel.csv"
    assert str(file) in finding.remedy
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["path"] == "bent/flipped.png"
    assert (rows[0]["label"], rows[0]["suggested"], rows[0]["likely"]) == ("bent", "good", "yes")
    assert {row["path"] for row in rows} == set(ids)
    # It is a labels file as it is, and names the same data.
    same = run_inspect(job_of(parts, tmp_path, labels=str(file)), InspectOptions())
    assert same.record.images == len(ids)
    with pytest.raises(DataError):
        run_inspect(job, InspectOptions(predictions=lambda _: {"other.png": said["bent/flipped.png"]}))
