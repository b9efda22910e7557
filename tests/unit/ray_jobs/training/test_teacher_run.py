"""A teacher is found, and compared with the job, before anything starts; each refusal says what to do."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.prepare import prepare_data
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.early_checks import check_training
from ray_jobs.training.resolve import resolved_job
from ray_jobs.training.teacher_network import TeacherNetwork
from ray_jobs.training.teacher_run import TeacherRun
from ray_jobs.training.warning_lines import taught_images
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.errors import RunError
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from tests.untrained_run import CLASSES, SPLITS, untrained_run


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("taught")
    untrained_run(folder, "large", epochs=1)
    return folder


@pytest.fixture
def folder(taught: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(taught, tmp_path / "copy"))


def student(folder: Path, tree: dict[str, Any] | None = None) -> JobConfig:
    sections: dict[str, Any] = {
        "name": "small",
        "data": {"root": str(folder / "images"), "image_size": 32, "source": "reference"},
        "model": {"arch": "resnet18", "weights": "none"},
        "distillation": {"teacher": "large"},
        "storage": {"root": str(folder / "storage")},
        "training": {"epochs": 2},
    }
    return check(merged(sections, tree or {}))


def resolved(job: JobConfig) -> JobConfig:
    return resolved_job(job, RunDirectory.named(job.storage.root, job.name or ""), prepare_data(job), use_gpu=False)


def large(folder: Path, tree: dict[str, Any] | None = None) -> JobConfig:
    """The teacher's own job, with changes."""
    job = RunDirectory.named(str(folder / "storage"), "large").read_config()
    here = {"data": {"root": str(folder / "images")}, "storage": {"root": str(folder / "storage")}}
    return check(merged(merged(job.model_dump(), here), tree or {}))


def store(job: JobConfig, epoch: int, seed: int = 0, dropout: float = 0.0) -> None:
    """Begin the run, or go on with it: a checkpoint at an epoch's end, with the weights of a seed."""
    run, data = RunDirectory.named(job.storage.root, job.name or ""), prepare_data(job)
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        run.write_records(job, data.summary(), write_split_csv(data.split_rows()))
        model = build_model(Structure("resnet18"), len(CLASSES), dropout, seed)
        progress = Progress(step=10 * epoch, epoch=epoch, step_in_epoch=0, microbatches=Microbatches(4, 0))
        snapshot = Snapshot(describe(model), model.state_dict(), {}, progress)
        write_checkpoint(run.store, snapshot, lease.claim, lease.confirm, run.records.origin())


def test_its_digest_becomes_the_students_and_its_weights_are_its_best(taught: Path) -> None:
    job = student(taught)
    found = TeacherRun.of(job)
    assert found is not None
    done = resolved(job)
    assert done.distillation.teacher_digest == found.digest
    assert done.distillation.teacher == "large"
    network = TeacherNetwork.of(done)
    assert network is not None
    stored = found.run.checkpoint("best").weights()
    assert network.weights.keys() == stored.keys()
    assert all(torch.equal(value, stored[name]) for name, value in network.weights.items())
    assert network.teacher(with_maps=True).with_maps
    assert TeacherRun.of(student(taught, {"distillation": {"teacher": None}})) is None


def test_it_is_named_by_name_path_or_address_alike(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(taught)
    place = taught / "storage/runs/large"
    for name in ("./storage/runs/large", str(place), f"file://{place}"):
        done = resolved(student(taught, {"distillation": {"teacher": name}}))
        assert done.distillation.teacher == (name if "://" in name else str(place))
        assert done.distillation.teacher_digest == resolved(student(taught)).distillation.teacher_digest


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no such run": ({"distillation": {"teacher": "lrage"}}, RunError, "'lrage' is no run: .* runs there: large"),
    "itself": ({"name": "large"}, ConfigError, "is the run itself, .*; choose another --name"),
    "mean": ({"data": {"mean": [0.5, 0.5, 0.5]}}, ConfigError, r"prepared otherwise .*\nmean: \[0.485"),
    "std": ({"data": {"std": [0.5, 0.5, 0.5]}}, ConfigError, r"\nstd: \[0.229"),
    "size": ({"data": {"image_size": 64}}, ConfigError, r"\nsize: 32 -> 64$"),
    "width": ({"data": {"image_width": 64}}, ConfigError, r"\nsize: 32 -> \[32, 64\]$"),
    "resize": ({"data": {"resize": "letterbox"}}, ConfigError, r"\nmode: whole -> letterbox$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_early(taught: Path, case: str) -> None:
    tree, kind, words = REFUSED[case]
    with pytest.raises(kind, match=f"(?s)distillation.teacher=.*{words}"):
        check_training(student(taught, tree), None)


def test_the_run_itself_is_known_by_any_address(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "storage/runs")
    for name in (f"file://{folder}/storage/runs/large", f"{folder}/link/large/", f"{folder}/storage/../link/large"):
        with pytest.raises(ConfigError, match="is the run itself"):
            TeacherRun.of(student(folder, {"name": "large", "distillation": {"teacher": name}}))


def test_bounds_that_change_no_image_may_differ(taught: Path) -> None:
    check_training(student(taught, {"data": {"max_pixels": 10**6}}), None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"class_order": ["hole", "good", "crack"]}, "in the order crack, good, hole"),
        ({"rename_classes": ["hole=void"]}, "the teacher alone has hole; the job alone has void"),
        ({"ignore_classes": ["crack"]}, "the teacher alone has crack;"),
    ],
)
def test_other_classes_are_refused_once_the_images_are_listed(taught: Path, data: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"distillation.teacher=large has other classes than this job: .*{words}"):
        resolved(student(taught, {"data": data}))


def test_a_teacher_that_is_not_finished_or_has_no_checkpoint_is_refused(folder: Path) -> None:
    checkpoints = folder / "storage/runs/large/checkpoints"
    (manifest,) = checkpoints.glob("*/manifest.json")
    whole = manifest.read_bytes()
    manifest.unlink()
    with pytest.raises(RunError, match=r"has no whole checkpoint; train it first"):
        check_training(student(folder), None)
    manifest.write_bytes(whole)
    store(large(folder, {"training": {"epochs": 3}}), 2)
    with pytest.raises(RunError, match="is not finished, with 2 of 3 epochs done"):
        check_training(student(folder), None)


def test_damaged_weights_are_refused_before_anything_starts(folder: Path) -> None:
    job = resolved(student(folder))
    (weights,) = (folder / "storage/runs/large/checkpoints").glob("*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(RunError, match=r"damaged: weights.safetensors"):
        TeacherNetwork.of(job)


def test_a_teacher_that_was_trained_further_is_another_one(folder: Path) -> None:
    job = resolved(student(folder))
    store(job, 1)
    store(large(folder), 2, seed=5)
    before, now = job.distillation.teacher_digest, TeacherRun.of(job)
    assert now is not None
    assert now.digest != before
    with pytest.raises(ConfigError, match=f"distillation.teacher_digest: {before} -> {now.digest}"):
        resolved(student(folder))
    with pytest.raises(ConfigError, match=f"teacher_digest={before} is not that of distillation.teacher=large"):
        resolved(student(folder, {"distillation": {"teacher_digest": before}}))
    with pytest.raises(ConfigError, match="changed while this command started"):
        TeacherNetwork.of(job)
    pinned = student(folder, {"name": "other", "distillation": {"teacher_digest": now.digest}})
    assert resolved(pinned).distillation.teacher_digest == now.digest


@pytest.mark.parametrize("change", ["model.json", "preprocess.json"])
def test_the_digest_stands_for_whatever_decides_an_answer(folder: Path, change: str) -> None:
    before = TeacherRun.of(student(folder))
    if change == "model.json":
        store(large(folder, {"name": "other"}), 1, dropout=0.1)
        after = TeacherRun.of(student(folder, {"distillation": {"teacher": "other"}}))
    else:
        depth = {"data": {"bit_depth": 12}}
        store(large(folder, {"name": "other", **depth}), 1)
        after = TeacherRun.of(student(folder, {"distillation": {"teacher": "other"}, **depth}))
    assert before is not None
    assert after is not None
    assert before.digest != after.digest


def test_a_teacher_that_vanished_is_needed_until_the_student_is_done(folder: Path) -> None:
    job = resolved(student(folder))
    store(job, 1)
    shutil.move(folder / "storage/runs/large", folder / "moved")
    for refuse in (lambda: check_training(student(folder), None), lambda: resolved(student(folder))):
        with pytest.raises(RunError, match=r"distillation.teacher=large: 'large' is no run.* restore it, or name"):
            refuse()
    moved = student(folder, {"distillation": {"teacher": str(folder / "moved")}})
    check_training(moved, None)
    assert resolved(moved).distillation.teacher_digest == job.distillation.teacher_digest
    store(job, 2)
    check_training(student(folder), None)
    assert resolved(student(folder)) == job


def test_a_run_cannot_go_on_without_its_teacher(folder: Path) -> None:
    job = resolved(student(folder))
    store(job, 1)
    digest = job.distillation.teacher_digest
    with pytest.raises(ConfigError, match=f"distillation.teacher_digest: {digest} -> None"):
        resolved(student(folder, {"distillation": {"teacher": None}}))


def test_images_of_val_that_the_teacher_has_learnt_are_counted(folder: Path) -> None:
    same = student(folder)
    assert taught_images(same, prepare_data(same)) == []
    rows = "\n".join(
        f"{split}/{label}/{number:02d}.png,{label},{other}"
        for split, other in (("train", "val"), ("val", "train"))
        for label in CLASSES
        for number in range(SPLITS[split])
    )
    (folder / "images/labels.csv").write_text(f"path,label,split\n{rows}\n")
    job = student(folder, {"data": {"labels": "labels.csv"}})
    (line,) = taught_images(job, prepare_data(job))
    count = SPLITS["train"] * len(CLASSES)
    assert line.startswith(f"warning: distillation.teacher=large was trained on {count} of the {count} images of val")
    plain = student(folder, {"data": {"labels": "labels.csv"}, "distillation": {"teacher": None}})
    assert taught_images(plain, prepare_data(plain)) == []
