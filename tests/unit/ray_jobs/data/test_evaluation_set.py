"""Which images an evaluation judges."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import DataError
from ray_jobs.data.evaluation_set import EvaluationSet, evaluation_set_of_folder, evaluation_set_of_run
from ray_jobs.data.prepare import PreparedData, index_data, prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check

CLASSES = ("bent", "chipped", "good")


def write_images(root: Path, count: int, classes: tuple[str, ...] = CLASSES, shade: int = 0) -> Path:
    for label, name in enumerate(classes):
        for number in range(count):
            path = root / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), shade + 16 * label + number, np.uint8)).save(path)
    return root


@pytest.fixture
def job_for(tmp_path: Path) -> Callable[[Path], JobConfig]:
    return lambda root: check({"data": {"root": str(root), "cache_dir": str(tmp_path / "cache")}})


@pytest.fixture
def trained(tmp_path: Path, job_for: Callable[[Path], JobConfig]) -> PreparedData:
    return prepare_data(job_for(write_images(tmp_path / "parts", 20)))


def judged(trained: PreparedData, job: JobConfig, asked: str | None) -> EvaluationSet:
    return evaluation_set_of_run(index_data(job), CLASSES, trained.dataset.fingerprint, trained.split_rows(), asked)


def test_the_runs_own_split_is_the_one_it_stored(
    trained: PreparedData, job_for: Callable[[Path], JobConfig], tmp_path: Path
) -> None:
    for asked, split in ((None, "test"), ("val", "val"), ("train", "train")):
        found = judged(trained, job_for(tmp_path / "parts"), asked)
        assert (found.split, found.record, found.notes) == (split, split, ())
        assert found.samples.sample_ids == trained.split(split).sample_ids


def test_images_that_came_or_went_move_no_other_image_to_another_split(
    trained: PreparedData, job_for: Callable[[Path], JobConfig], tmp_path: Path
) -> None:
    before = trained.split("test").sample_ids
    for number in range(20, 60):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "parts" / "good" / f"{number}.png")
    (tmp_path / "parts" / before[0]).unlink()
    anew = prepare_data(job_for(tmp_path / "parts")).split("test").sample_ids
    assert set(anew) & set(trained.split("train").sample_ids)  # what drawing the splits anew would have done
    found = judged(trained, job_for(tmp_path / "parts"), None)
    assert found.samples.sample_ids == before[1:]
    assert len(found.notes) == 1
    assert "40 images came" in found.notes[0]
    assert "1 are gone" in found.notes[0]


def test_a_class_that_is_gone_does_not_move_the_labels_of_the_others(
    trained: PreparedData, job_for: Callable[[Path], JobConfig], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "parts" / "bent")
    found = judged(trained, job_for(tmp_path / "parts"), None)
    assert found.samples.classes == CLASSES
    assert {name.split("/")[0]: label for name, label in zip(found.samples.sample_ids, found.samples.labels.tolist(),
                                                             strict=True)} == {"chipped": 1, "good": 2}  # fmt: skip
    assert "are gone" in found.notes[0]


def test_another_folder_of_class_folders_is_judged_whole(job_for: Callable[[Path], JobConfig], tmp_path: Path) -> None:
    root = write_images(tmp_path / "line 2", 3, ("bent", "good"), shade=90)
    found = evaluation_set_of_folder(index_data(job_for(root)), CLASSES, None)
    assert (found.split, found.record, len(found.samples)) == ("all", "line-2.all", 6)
    assert found.samples.classes == CLASSES
    assert found.samples.labels.tolist() == [0, 0, 0, 2, 2, 2]  # the run's labels, not the folder's
    with pytest.raises(DataError, match="only class folders, no split 'test'"):
        evaluation_set_of_folder(index_data(job_for(root)), CLASSES, "test")


def test_another_folder_need_not_have_every_class_that_the_settings_name(tmp_path: Path) -> None:
    settings = {"rename_classes": ["chipped=defect", "bent=defect"], "class_order": ["good", "defect"]}
    data = {"cache_dir": str(tmp_path / "cache"), **settings}
    trained = index_data(check({"data": {"root": str(write_images(tmp_path / "parts", 3)), **data}}))
    root = write_images(tmp_path / "other", 2, ("bent", "good"), shade=90)
    other = check({"data": {"root": str(root), **data}})
    found = evaluation_set_of_folder(index_data(other, may_lack_classes=True), trained.samples.classes, None)
    assert found.samples.classes == ("good", "defect")
    assert found.samples.labels.tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match=r"data\.rename_classes names 'chipped'"):
        index_data(other)


def test_another_labels_file_need_not_have_the_folds_of_the_settings(tmp_path: Path) -> None:
    root = write_images(tmp_path / "parts", 4)
    names = [f"{label}/{number:02d}.png" for label in CLASSES for number in range(4)]

    def job(name: str, fold: Callable[[int], object]) -> JobConfig:
        lines = [f"{path},{path.split('/')[0]},train,{fold(number)}" for number, path in enumerate(names)]
        (root / name).write_text("\n".join(["path,label,split,fold", *lines]))
        return check({"data": {"root": str(root), "labels": name, "folds": 2, "cache_dir": str(tmp_path / "cache")}})

    own, other = job("own.csv", lambda number: number % 2), job("other.csv", lambda number: number % 3)
    index = index_data(own)
    assert index_data(own, may_lack_classes=True).fingerprint == index.fingerprint
    found = evaluation_set_of_folder(index_data(other, may_lack_classes=True), CLASSES, "train")
    assert len(found.samples) == len(names)
    with pytest.raises(DataError, match=r"fold='2'; with data\.folds=2"):
        index_data(other)


def test_another_folders_splits_are_its_own(job_for: Callable[[Path], JobConfig], tmp_path: Path) -> None:
    root = tmp_path / "split"
    write_images(root / "train", 2)
    write_images(root / "test", 1, shade=100)
    found = evaluation_set_of_folder(index_data(job_for(root)), CLASSES, None)
    assert (found.split, found.record, len(found.samples)) == ("test", "split.test", 3)
    with pytest.raises(DataError, match=r"no images of split 'val'; there are train, test"):
        evaluation_set_of_folder(index_data(job_for(root)), CLASSES, "val")


def test_a_class_the_run_did_not_learn_is_refused(job_for: Callable[[Path], JobConfig], tmp_path: Path) -> None:
    root = write_images(tmp_path / "more", 2, ("bent", "rusty"))
    with pytest.raises(DataError, match="rusty cannot be judged"):
        evaluation_set_of_folder(index_data(job_for(root)), CLASSES, None)


def test_a_split_without_images_is_refused(
    trained: PreparedData, job_for: Callable[[Path], JobConfig], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "parts" / "good")
    rows = [row for row in trained.split_rows() if row.split != "test"]
    with pytest.raises(DataError, match=r"no images of split 'test'; there are train, val"):
        evaluation_set_of_run(
            index_data(job_for(tmp_path / "parts")), CLASSES, trained.dataset.fingerprint, rows, "test"
        )
