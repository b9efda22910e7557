"""Copies across splits: what a training says, refuses or ignores, how `data split` repairs it, and what a result is
without them."""

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ray_jobs.cli.app import main
from ray_jobs.data.prepare import prepare_data
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.inspection.leakage import check_leakage, leaked_samples
from ray_jobs.inspection.record import find_inspection
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from tests.complaints import complains
from tests.textures import texture


@pytest.fixture
def split_parts(tmp_path: Path) -> Path:
    """Three splits of two classes; two test images and one val image have copies in train, one test image in val."""
    root = tmp_path / "split-parts"
    seed = 0
    for split, count in (("train", 12), ("val", 12), ("test", 12)):
        for name in ("bent", "good"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                texture(seed).save(root / split / name / f"{number:02d}.png")
    shutil.copy(root / "train/bent/03.png", root / "test/bent/same.png")
    ImageOps.mirror(Image.open(root / "train/good/05.png")).save(root / "test/good/mirror.png")
    shutil.copy(root / "train/good/07.png", root / "val/good/same.png")
    darker = (np.asarray(Image.open(root / "val/bent/01.png")) * 0.8 + 10).astype(np.uint8)
    Image.fromarray(darker).save(root / "test/bent/darker.png")
    return root


LEAKING = {"test/bent/same.png", "test/good/mirror.png", "val/good/same.png", "test/bent/darker.png"}


def job_of(root: Path, tmp_path: Path, leakage: str = "warn", **data: Any) -> JobConfig:
    given = {"root": str(root), "source": "reference", "cache_dir": str(tmp_path / "cache"), "leakage": leakage, **data}
    return check({"data": given, "storage": {"root": str(tmp_path / "storage")}})


def lines(job: JobConfig) -> tuple[str, ...]:
    return check_leakage(job, prepare_data(job).dataset)


def test_without_an_inspection(split_parts: Path, tmp_path: Path) -> None:
    assert lines(job_of(split_parts, tmp_path, "ignore")) == ()
    (line,) = lines(job_of(split_parts, tmp_path))
    assert f"resnet-dist data inspect {split_parts}" in line
    with pytest.raises(ConfigError) as caught:
        lines(job_of(split_parts, tmp_path, "error"))
    assert complains(caught, "data.leakage", "error", str(split_parts), remedy="make")
    command = str(caught.value).partition("make one with: ")[2]
    assert main(shlex.split(command)[1:]) == 0
    with pytest.raises(GateError):
        lines(job_of(split_parts, tmp_path, "error"))


def test_leaks_are_said_refused_or_ignored(split_parts: Path, tmp_path: Path, inspect: Callable[..., int]) -> None:
    assert inspect(split_parts) == 0
    warning, *_ = lines(job_of(split_parts, tmp_path))
    assert complains(warning, "1 of 25 val images and 3 of 27 test images", remedy="put")
    with pytest.raises(GateError) as caught:
        lines(job_of(split_parts, tmp_path, "error"))
    said = str(caught.value)
    assert all(repr(sample_id) in said for sample_id in LEAKING)
    assert f"resnet-dist data split {split_parts} --groups duplicates" in said
    assert lines(job_of(split_parts, tmp_path, "ignore")) == ()


def test_an_inspection_of_other_data_says_nothing(
    split_parts: Path, tmp_path: Path, inspect: Callable[..., int]
) -> None:
    assert inspect(split_parts) == 0
    texture(999).save(split_parts / "train/good/new.png")
    with pytest.raises(ConfigError):
        lines(job_of(split_parts, tmp_path, "error"))


def test_the_command_that_is_named_repairs_it(
    split_parts: Path, tmp_path: Path, inspect: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    output = split_parts / "split.csv"
    cache = ["--data.source", "reference", "--data.cache-dir", str(tmp_path / "cache")]
    assert main(["data", "split", str(split_parts), "--groups", "duplicates", "--output", str(output), *cache]) == 0
    assert "4 groups" in capsys.readouterr().out
    with output.open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    # Copies are where the one furthest from training was; nothing else has moved.
    assert rows["train/bent/03.png"]["split"] == rows["train/good/05.png"]["split"] == "test"
    assert rows["train/good/07.png"]["split"] == "val"
    assert rows["val/bent/01.png"]["split"] == "test"
    moved = {path for path, row in rows.items() if row["split"] != path.partition("/")[0]}
    assert moved == {"train/bent/03.png", "train/good/05.png", "train/good/07.png", "val/bent/01.png"}
    assert inspect(split_parts, "--data.labels", "split.csv") == 0
    repaired = job_of(split_parts, tmp_path, "error", labels="split.csv")
    assert not any("copies in another split" in line for line in lines(repaired))


def test_copies_join_the_groups_of_a_labels_file(tmp_path: Path, parts: Path) -> None:
    shutil.copy(parts / "bent/00.png", parts / "good/copy.png")
    names = [f"{name}/{number:02d}.png" for name in ("bent", "good") for number in range(20)]
    rows = [f"{name},{name[:4]},part{n // 2}" for n, name in enumerate(names)]
    (parts / "labels.csv").write_text("\n".join(["path,label,group", *rows, "good/copy.png,good,part19"]))
    output = tmp_path / "out.csv"
    flags = ["--labels", str(parts / "labels.csv"), "--data.source", "reference"]
    flags += ["--data.cache-dir", str(tmp_path / "cache")]
    assert main(["data", "split", str(parts), "--groups", "duplicates", "--output", str(output), *flags]) == 0
    with output.open(newline="") as file:
        group = {row["path"]: row["group"] for row in csv.DictReader(file)}
    # part0 holds bent/00.png, whose copy is in part19: all of both are one group.
    joined = {"bent/00.png", "bent/01.png", "good/copy.png", "good/18.png", "good/19.png"}
    assert {path for path, name in group.items() if name == group["bent/00.png"]} == joined
    assert len(set(group.values())) == 19


def test_a_damaged_record_is_named(
    split_parts: Path, tmp_path: Path, inspect: Callable[..., int], place: list[str]
) -> None:
    assert inspect(split_parts) == 0
    (file,) = (tmp_path / "storage/inspections").glob("*/inspection.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(Exception, match=r"inspection\.json .*version"):
        lines(job_of(split_parts, tmp_path))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(Exception, match=r"inspection\.json .*inspect the data again"):
        lines(job_of(split_parts, tmp_path))
    # A sound record of the same images, under another name, counts.
    assert main(["data", "inspect", f"{split_parts}/.", "--data.source", "reference", *place]) == 0
    moved = file.parent.rename(file.parent.with_name(f"aaa-{file.parent.name.rpartition('-')[2]}"))
    assert main(["data", "inspect", str(split_parts), "--data.source", "reference", *place]) == 0
    (moved / "inspection.json").write_bytes(b"{")
    assert "copies in another split" in lines(job_of(split_parts, tmp_path))[0]


def test_copies_never_take_a_class_out_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "parts"
    for split, count in (("train", 3), ("val", 3), ("test", 3)):
        for label, name in enumerate(("bent", "good")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed = 100 * label + 10 * len(split) + number
                texture(seed if name == "bent" or split != "test" else 140 + 10 + number).save(
                    root / split / name / f"{number}.png"
                )
    for number in range(3):
        shutil.copy(root / f"train/good/{number}.png", root / f"test/good/{number}.png")
    flags = ["--data.source", "reference", "--data.cache-dir", str(tmp_path / "cache")]
    output = tmp_path / "split.csv"
    assert main(["data", "split", str(root), "--groups", "duplicates", "--output", str(output), *flags]) == 3
    assert complains(capsys.readouterr().err, "--groups duplicates", "good", remedy="add")
    assert not output.exists()


def test_which_judged_images_leak(split_parts: Path, tmp_path: Path, inspect: Callable[..., int]) -> None:
    assert inspect(split_parts) == 0
    dataset = prepare_data(job_of(split_parts, tmp_path)).dataset
    record = find_inspection(str(tmp_path / "storage"), dataset.fingerprint)
    assert record is not None
    ids = dataset.samples.sample_ids
    split_of = {each: split or "" for each, split in zip(ids, dataset.splits, strict=True)}
    for judged in ("train", "val", "test"):
        own = [each for each in ids if split_of[each] == judged]
        leaked = leaked_samples(record, own, split_of)
        found = {each for each, is_leaked in zip(own, leaked.tolist(), strict=True) if is_leaked}
        assert found == {each for each in LEAKING if each.startswith(judged)}
