"""`resnet-dist data diff`: folders, labels files and runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from ray_jobs.cli.app import main
from tests.textures import texture
from tests.untrained_run import untrained_run


def diff(first: Path | str, second: Path | str, tmp_path: Path, *flags: str) -> dict[str, object]:
    output = tmp_path / "difference.json"
    where = [
        "--data.source",
        "reference",
        "--data.cache-dir",
        str(tmp_path / "cache"),
        "--storage.root",
        str(tmp_path / "storage"),
    ]
    assert main(["data", "diff", str(first), str(second), "--output", str(output), *where, *flags]) == 0
    return json.loads(output.read_text())


def test_what_came_went_and_changed(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(parts, other)
    assert diff(parts, other, tmp_path)["difference"]["added"] == []
    assert "no difference" in capsys.readouterr().out
    (other / "bent/00.png").unlink()
    texture(900).save(other / "good/new.png")
    (other / "bent/01.png").rename(other / "bent/again.png")
    (other / "bent/02.png").rename(other / "good/relabelled.png")
    texture(901).save(other / "good/05.png")
    found = diff(parts, other, tmp_path)["difference"]
    assert found["added"] == ["good/new.png"]
    assert found["removed"] == ["bent/00.png"]
    assert found["renamed"] == [["bent/01.png", "bent/again.png"], ["bent/02.png", "good/relabelled.png"]]
    assert found["replaced"] == ["good/05.png"]
    assert found["relabelled"] == [["good/relabelled.png", "bent", "good"]]
    said = capsys.readouterr().out
    assert "good/relabelled.png: bent -> good" in said


def test_copies_of_the_others_test_images(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place, seed in ((first, 0), (second, 500)):
        for split in ("train", "test"):
            for label, name in enumerate(("bent", "good")):
                (place / split / name).mkdir(parents=True)
                for number in range(20):
                    start = seed + 100 * label + 200 * (split == "test")
                    texture(start + number).save(place / split / name / f"{number:02d}.png")
    ImageOps.mirror(Image.open(first / "test/good/03.png")).save(second / "train/good/mirror.png")
    shutil.copy(second / "test/bent/04.png", first / "train/bent/same.png")
    found = diff(first, second, tmp_path)["difference"]
    assert [(each["sample_id"], each["test_id"]) for each in found["copies_of_first_test"]] == [
        ("train/good/mirror.png", "test/good/03.png")
    ]
    assert [(each["sample_id"], each["test_id"], each["distance"]) for each in found["copies_of_second_test"]] == [
        ("train/bent/same.png", "test/bent/04.png", 0)
    ]


def test_a_labels_file_names_what_is_in_its_folder(parts: Path, tmp_path: Path) -> None:
    names = [f"{name}/{number:02d}.png" for name in ("bent", "good") for number in range(20)]
    (parts / "labels.csv").write_text("\n".join(["path,label", *(f"{name},{name[:4]}" for name in names[:-1])]))
    found = diff(parts, parts / "labels.csv", tmp_path)["difference"]
    assert found["removed"] == ["good/19.png"]
    assert found["added"] == found["relabelled"] == []


def test_a_run_is_compared_by_its_records(
    tmp_path: Path, inspect: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = untrained_run(tmp_path, "parts")
    images = tmp_path / "images"
    assert storage == tmp_path / "storage"
    found = diff("parts", images, tmp_path)
    assert found["difference"]["radius"] is None
    assert "never inspected" in capsys.readouterr().out
    assert inspect(images) == 0
    shutil.copy(images / "test/crack/00.png", images / "train/crack/copy.png")
    (images / "val/good/00.png").unlink()
    found = diff("parts", images, tmp_path)["difference"]
    assert found["removed"] == ["val/good/00.png"]
    assert found["added"] == ["train/crack/copy.png"]
    assert ("train/crack/copy.png", "test/crack/00.png") in [
        (each["sample_id"], each["test_id"]) for each in found["copies_of_first_test"]
    ]
