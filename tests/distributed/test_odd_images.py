"""Images of odd shapes under odd names, from the folder to the stored predictions, and judging another folder."""

import csv
import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from data_pipeline.errors import DataError
from data_pipeline.listing.samples import relative_path_of, sample_id_of
from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.splits.assign import read_split_csv
from ray_jobs.cli.show import show_evaluation
from ray_jobs.data.prepare import decoder, prepare_data
from ray_jobs.evaluation.evaluate import EvaluationOutcome, run_evaluate
from ray_jobs.exit_codes import ExitCode, exit_code_of
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.training.driver import run_train

pytestmark = pytest.mark.usefixtures("shared_ray")

MakeJob = Callable[..., JobConfig]
Folder = tuple[Path, set[bytes]]

CLASSES = [b"[red] left", b'say "yes", or no', b"\xff two\nlines"]
SIZES = [(1, 1), (16, 16), (64, 16), (16, 64), (200, 50), (1, 40), (3, 2)]
NAMES = [
    b" two  spaces ",
    b'it\'s "quoted", with a comma',
    b"new\nline\rand return",
    b"\xff\xfe\x80",
    b"back\\slash",
    b"\\xff",
    b"-rf",
    "é e\u0301 日本".encode(),
    b"deep/dots ../0/1/2/3",
    b"=1+1",
    b"100%",
    b"#[bold]",
    b"{name}",
    b"two.dots..",
]
HIDDEN = [b".hidden.png", b".git/object.png", b"inside/.thumbs/small.jpg"]
KINDS = {b".jpg": "JPEG", b".PNG": "PNG"}


def write(root: Path, path: bytes, data: bytes) -> None:
    file = Path(os.fsdecode(os.fsencode(root) + b"/" + path))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def fill(root: Path, image_files: Any, splits: dict[bytes, list[bytes]], classes: list[bytes]) -> set[bytes]:
    """Every size in both kinds, spread over splits, classes and names; relative paths of the images."""
    made: set[bytes] = set()
    for split, names in splits.items():
        for place, class_name in enumerate(classes):
            for number, name in enumerate(names):
                width, height = SIZES[(number + place) % len(SIZES)]
                for extension, kind in KINDS.items():
                    path = b"/".join([split, class_name, name + extension])
                    photo = image_files.photo(width, height, seed=len(made))
                    write(root, path, image_files.encode(photo, kind))
                    made.add(path)
            for name in HIDDEN:
                write(root, b"/".join([split, class_name, name]), b"hidden entries do not exist")
    return made


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory, image_files: Any) -> Folder:
    """A folder whose own name is odd too, with train/ and val/ of three classes."""
    root = tmp_path_factory.mktemp("odd") / 'a folder\'s "näme"\n[b]'
    return root, fill(root, image_files, {b"train": NAMES, b"val": NAMES[:7]}, CLASSES)


MAX_PIXELS = 100_000
"""More than the 1 x 40 strip has when its shorter side is resized for a centre crop."""


@pytest.fixture(scope="module")
def make_odd_job(odd_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    """A job of one epoch on the odd folder."""
    place = tmp_path_factory.mktemp("runs")

    def make(window: str, resize: str = "whole", workers: int = 1) -> JobConfig:
        data = {"root": str(odd_folder[0]), "image_size": 32, "resize": resize, "max_pixels": MAX_PIXELS}
        return check(
            {
                "name": window,
                "data": {**data, "cache_dir": str(place / "cache"), "source": "dali"},
                "augmentation": {"window": window, "quarter_turns": True},
                "model": {"arch": "resnet18", "weights": "none"},
                "training": {"epochs": 1, "global_batch_size": 32, "microbatch_size": 8},
                "storage": {"root": str(place / "storage")},
                "cluster": {"num_workers": workers, "cpus_per_worker": 1, "local_cpus": 4},
            }
        )

    return make


@pytest.fixture(scope="module")
def trained(make_odd_job: MakeJob, shared_ray: None) -> JobConfig:  # noqa: ARG001
    """The job of a finished run of two workers."""
    job = make_odd_job("random_resized_crop", workers=2)
    run_train(job)
    return job


def judge(job: JobConfig, split: str | None, **data: object) -> EvaluationOutcome:
    where = {"storage": {"root": job.storage.root}, "evaluation": {"batch_size": 16}}
    where |= {"cluster": {"num_workers": 2, "cpus_per_worker": 1, "local_cpus": 4}}
    return run_evaluate(job.name or "", split, "last", {**where, "data": data} if data else where)


def stored(outcome: EvaluationOutcome, record: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The result of an evaluation and its table of predictions."""
    folder = Path(outcome.run) / "evaluation"
    table = pq.read_table(folder / f"{record}.predictions.parquet").to_pydict()
    return json.loads((folder / f"{record}.json").read_text()), table


def ids_below(paths: set[bytes], split: str) -> list[str]:
    return sorted(sample_id_of(path) for path in paths if path.startswith(split.encode() + b"/"))


@pytest.mark.parametrize(
    ("window", "resize", "workers"),
    [
        ("random_resized_crop", "whole", 2),
        pytest.param("whole", "center_crop", 1, marks=pytest.mark.slow),
        pytest.param("letterbox", "letterbox", 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("trained")
def test_odd_images_are_trained_on_and_judged(
    make_odd_job: MakeJob, odd_folder: Folder, window: str, resize: str, workers: int
) -> None:
    root, paths = odd_folder
    job = make_odd_job(window, resize, workers)
    outcome = run_train(job)
    assert outcome.already_finished == (window == "random_resized_crop")
    expected = {split: ids_below(paths, split) for split in ("train", "val")}
    assert {split: len(ids) for split, ids in expected.items()} == {"train": 84, "val": 42}
    assert (outcome.epochs, outcome.steps) == (1, 3)  # of 32, 32 and 20 images
    assert all(np.isfinite(value) for value in outcome.metrics.values())

    run = Path(outcome.run)
    dataset = json.loads((run / "dataset.json").read_text())
    assert dataset["splits"] == {"train": 84, "val": 42}
    assert dataset["classes"] == sorted(sample_id_of(name) for name in CLASSES)
    assert (dataset["unreadable"], dataset["ignored_files"]) == ([], 0)
    text = (run / "split.csv").read_bytes().decode()
    rows = read_split_csv(text)
    for split, ids in expected.items():
        assert [row.sample_id for row in rows if row.split == split] == ids
    # Any other reader of CSV sees the same names.
    assert [line["sample_id"] for line in csv.DictReader(StringIO(text, newline=""))] == [row.sample_id for row in rows]

    for split, ids in expected.items():
        result, table = stored(judge(job, split), split)
        assert result["samples"] == len(ids)
        assert table["sample_id"] == ids
        for sample_id, label in zip(table["sample_id"], table["label"], strict=True):
            path = relative_path_of(sample_id)
            assert path in paths
            assert os.path.exists(os.fsencode(root) + b"/" + path)  # noqa: PTH110 - bytes
            assert sample_id_of(path.split(b"/")[1]) == label
        probabilities = np.array(table["probabilities"])
        assert np.abs(probabilities.sum(axis=1) - 1.0).max() < 1e-5
        assert table["prediction"] == [dataset["classes"][place] for place in probabilities.argmax(axis=1)]


@pytest.mark.parametrize("window", ["random_resized_crop", "whole", "letterbox"])
def test_an_epoch_shows_every_sample_once_as_the_reference_sees_it(make_odd_job: MakeJob, window: str) -> None:
    job = make_odd_job(window)
    samples = prepare_data(job).split("train")
    batch, microbatch = job.training.global_batch_size, job.training.microbatch_size
    seen: list[list[int]] = []
    shown: list[torch.Tensor] = []
    for source in ("dali", "reference"):
        data = job.data.model_copy(update={"source": source})
        spec = SourceSpec(data, decoder(job), job.augmentation, job.seed)
        with training_source(spec, samples, batch, microbatch, RankShare()) as training:
            parts = [
                (each.keys.tolist(), each.images.clone()) for step in training.epoch(0) for each in step.microbatches
            ]
        seen.append([key for keys, _ in parts for key in keys])
        shown.append(torch.cat([images for _, images in parts]))
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == sorted(samples.keys.tolist())
    assert len(set(seen[0])) == 84
    levels = ((shown[0] - shown[1]).abs() * torch.tensor(job.data.std).reshape(1, 3, 1, 1) * 255).numpy()
    print(f"{window}: mean {levels.mean():.3f} levels, 99.9 % within {np.quantile(levels, 0.999):.1f}")
    assert levels.mean() <= 0.5
    assert np.quantile(levels, 0.999) <= 16.0


def test_class_names_are_printed_as_they_are(trained: JobConfig, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = judge(trained, "val")
    capsys.readouterr()
    show_evaluation(outcome)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for name in CLASSES:
        for part in sample_id_of(name).splitlines():
            assert any(line.startswith(part.strip()) for line in lines), part  # the table's first column


@pytest.mark.slow
def test_another_folder_is_judged_when_it_is_asked_for(trained: JobConfig, tmp_path: Path, image_files: Any) -> None:
    other = tmp_path / "other's\tfolder"
    names = [b"only here", b"and \xfe here", b"new\nline\rand return"]
    paths = fill(other, image_files, {b"train": names[:1], b"val": names, b"test": names[1:]}, CLASSES)
    own = stored(judge(trained, "val"), "val")
    for asked, split in (("val", "val"), (None, "test"), ("train", "train")):
        judged = judge(trained, asked, root=str(other))
        assert judged.split == split
        result, table = stored(judged, f"other-s-folder.{split}")
        assert result["data"] == str(other)
        assert result["samples"] == judged.result.samples == len(ids_below(paths, split))
        assert table["sample_id"] == ids_below(paths, split)
    assert stored(judge(trained, "val"), "val") == own  # and the run still knows its own


def test_a_folder_of_other_classes_is_refused_by_name(trained: JobConfig, tmp_path: Path, image_files: Any) -> None:
    known = [sample_id_of(name) for name in CLASSES]
    for number, classes in enumerate(([*CLASSES, b"never \xfdseen"], [b"up", CLASSES[0]], [b"up", b"down"])):
        other = tmp_path / f"other-{number}"
        fill(other, image_files, {b"train": [b"1"], b"val": [b"1"]}, classes)
        with pytest.raises(DataError) as refused:
            judge(trained, "val", root=str(other))
        assert exit_code_of(refused.value) == ExitCode.UNUSABLE == 3
        text = str(refused.value)
        assert str(other) in text
        for name in (*known, *(sample_id_of(name) for name in classes)):
            assert name in text
        unknown = sorted({sample_id_of(name) for name in classes} - set(known))
        assert f"{', '.join(unknown)} cannot be judged" in text
        assert not list(Path(trained.storage.root).glob(f"runs/*/evaluation/other-{number}*"))


def test_some_of_the_classes_are_judged_by_the_runs_labels(
    trained: JobConfig, tmp_path: Path, image_files: Any
) -> None:
    some = sorted(CLASSES)[1:]
    paths = fill(tmp_path / "some", image_files, {b"train": [b"1"], b"val": [b"1", b"2"]}, some)
    result, table = stored(judge(trained, "val", root=str(tmp_path / "some")), "some.val")
    assert table["sample_id"] == ids_below(paths, "val")
    assert table["label"] == [sample_id_of(relative_path_of(name).split(b"/")[1]) for name in table["sample_id"]]
    assert result["samples"] == 8


def test_larger_images_are_judged_when_they_are_allowed(trained: JobConfig, tmp_path: Path, image_files: Any) -> None:
    """The bound against decompression bombs says nothing of what was trained on, so it may be raised."""
    other = tmp_path / "large"
    paths = fill(other, image_files, {b"train": [b"1"], b"val": [b"1"]}, CLASSES)
    large = b"val/" + CLASSES[0] + b"/large.png"
    write(other, large, image_files.encode(image_files.photo(400, 300), "PNG"))
    with pytest.raises(DataError, match=f"data.max_pixels={MAX_PIXELS}"):
        judge(trained, "val", root=str(other))
    _, table = stored(judge(trained, "val", root=str(other), max_pixels=10 * MAX_PIXELS), "large.val")
    assert table["sample_id"] == ids_below(paths | {large}, "val")


@pytest.mark.slow
def test_a_folder_below_home_is_judged_too(
    make_job: MakeJob, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(digits_folder.parent))
    job = make_job("home", 1, {"data": {"root": f"~/{digits_folder.name}"}, "training": {"epochs": 1}})
    run_train(job)
    assert judge(job, "val").result.samples == 11
