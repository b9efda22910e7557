"""What trainings and evaluations say of copies across splits, and labels ranked by the runs of a cross-validation."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_jobs import api
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.inspection.inspect import InspectOptions, run_inspect
from ray_jobs.job.config import JobConfig
from tests.textures import texture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]


@pytest.fixture
def textures_folder(tmp_path: Path) -> Path:
    """24 training, 12 val and 12 test images of two classes; three test images are copies of training images."""
    root, seed = tmp_path / "textures", 0
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for name in ("bent", "good"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                texture(seed, 40).save(root / split / name / f"{number:02d}.png")
    for number in range(3):
        shutil.copy(root / f"train/good/{number:02d}.png", root / f"test/good/copy{number}.png")
    return root


def on(job: JobConfig, folder: Path, **data: Any) -> JobConfig:
    """The job with other images."""
    return job.model_copy(update={"data": job.data.model_copy(update={"root": str(folder), **data})})


def test_a_training_says_or_refuses_leaks_and_an_evaluation_counts_them(
    make_job: Callable[..., JobConfig], textures_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = on(make_job("leaks", 1, {"training": {"epochs": 1}}), textures_folder)
    strict = on(job, textures_folder, leakage="error")
    with pytest.raises(ConfigError, match="data inspect"):
        api.train(strict)
    inspected = api.inspect(job)
    with pytest.raises(GateError, match=r"test/good/copy0\.png"):
        api.train(strict)
    runs = Path(job.storage.root) / "runs/leaks"
    assert not runs.exists(), "a refused job must leave nothing behind"

    outcome = api.train(job)
    log = json.loads((runs / "status.json").read_text())
    assert log["state"] == "done"
    said = "".join(path.read_text() for path in runs.rglob("*.log"))
    assert "3 of 15 test images have copies in another split" in said + capsys.readouterr().out

    evaluation = api.evaluate(outcome.run, split="test")
    found = evaluation.without_leaks
    assert found is not None
    assert (found.leaked, found.kept) == (3, 12)
    stored = json.loads((runs / "evaluation/test.json").read_text())["without_leaks"]
    assert stored["leaked"] == 3
    assert stored["metrics"] == found.metrics
    for gain, low, high in found.gains.values():
        assert low <= gain <= high
    assert evaluation.result.metrics["top1"] - found.metrics["top1"] == pytest.approx(found.gains["top1"][0])
    assert api.evaluate(outcome.run, split="val").without_leaks is None
    assert inspected.record.splits == {"train": 24, "val": 12, "test": 15}


def test_labels_are_ranked_by_the_folds_that_did_not_train_on_them(
    make_job: Callable[..., JobConfig], textures_folder: Path
) -> None:
    job = on(make_job("ranked", 1, {"training": {"epochs": 1}}), textures_folder, folds=2)
    plain = on(job, textures_folder, folds=None)
    with pytest.raises(ConfigError, match=r"folds\.json"):
        api.inspect(plain, predictions="ranked")
    api.cross_validate(job)
    outcome = api.inspect(plain, predictions="ranked")
    rows = (Path(outcome.place) / "relabel.csv").read_text().splitlines()
    assert rows[0].startswith("path,label,suggested,score,likely,split")
    assert len(rows) == 1 + 51
    assert all(row.split(",")[3] for row in rows[1:]), "train and val by the folds, test by the first of them"
    assert any(finding.code == "label-errors" for finding in outcome.record.findings)
    shutil.copy(textures_folder / "val/good/00.png", textures_folder / "val/good/new.png")
    with pytest.raises(ConfigError, match="other data"):
        api.inspect(plain, predictions="ranked")


def test_tasks_of_ray_find_what_one_machine_finds(
    make_job: Callable[..., JobConfig], textures_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(textures_folder / "val/good/01.png", textures_folder / "val/bent/relabelled.png")
    (textures_folder / "val/good/00.png").write_bytes(b"no image")
    alone = run_inspect(on(make_job("alone"), textures_folder), InspectOptions())
    job = on(make_job("tasks"), textures_folder, cache_dir=str(tmp_path / "other-cache"))
    # Within a session any address is that of the session.
    job = job.model_copy(update={"cluster": job.cluster.model_copy(update={"address": "auto"})})
    by_tasks = run_inspect(job, InspectOptions())
    without = {"findings": {"__all__": {"remedy"}}}  # commands name the cache
    assert by_tasks.record.model_dump(exclude=without) == alone.record.model_dump(exclude=without)
    assert by_tasks.decoded == alone.decoded == 51
    assert run_inspect(job, InspectOptions()).decoded == 0
