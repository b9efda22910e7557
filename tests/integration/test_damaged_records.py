"""Commands on a finished run whose records were damaged: made anew, or refused by name, and never believed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Never

import numpy as np
import pytest
from PIL import Image

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.cli.app import main
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.toml import read_job
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.records import RECORDS
from ray_jobs.training.driver import check_start
from ray_jobs.training.resolve import resolved_job
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.sealed_json import sealed, unsealed
from tests.complaints import complains

JOB = """
name = "line"
data = { root = "data", image_size = 32, cache_dir = "cache", source = "reference" }
model = { arch = "resnet18", weights = "none" }
training = { epochs = 1, global_batch_size = 8, microbatch_size = 4 }
cluster = { num_workers = 1, cpus_per_worker = 1, local_cpus = 2 }
"""
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a run that has trained its one epoch: a network that has learnt nothing."""
    folder = tmp_path_factory.mktemp("made")
    for label in ("bad", "good"):
        (folder / "data" / label).mkdir(parents=True)
        for number in range(12):
            level = np.random.default_rng([number, len(label)]).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(level).save(folder / "data" / label / f"{number}.png")
    (folder / "job.toml").write_text(JOB)
    before = Path.cwd()
    os.chdir(folder)
    try:
        job = read_job(folder / "job.toml", {})
        run = RunDirectory.named("outputs", "line")
        data = prepare_data(job)
        job = resolved_job(job, run, data, use_gpu=False)
    finally:
        os.chdir(before)
    run.write_records(job, data.summary(), write_split_csv(data.split_rows()))
    model, metrics = (
        build_model(Structure("resnet18"), 2, 0.0, 0),
        {"val/top1": 0.5, "val/macro_f1": 0.5, "val/loss": 0.7},
    )
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        best = Best(2, metrics[job.checkpoint.monitor], job.checkpoint.monitor)
        progress = Progress(2, 1, 0, Microbatches(4, 0), metrics=metrics, best=best)
        snapshot = Snapshot(describe(model), dict(model.state_dict()), {}, progress)
        write_checkpoint(run.store, snapshot, lease.claim, lease.confirm, run.records.origin())
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run in a copy of that folder, which is the working directory. Files are links: none is written into."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / "runs" / "line"
    # The data lie elsewhere now, which is no other identity.
    moved = (run / "config.toml").read_text().replace(str(made), str(tmp_path))
    directory = RunDirectory.find(str(run), "")
    data = prepare_data(read_job(tmp_path / "job.toml", {}))
    (tmp_path / "moved.toml").write_text(moved)
    directory.write_records(read_job(tmp_path / "moved.toml", {}), data.summary(), write_split_csv(data.split_rows()))
    return run


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Command:
    """A command's exit code, and all that it says. No Ray may start."""

    def start(*_: object, **__: object) -> Never:
        raise AssertionError("a Ray was to start")

    monkeypatch.setattr("ray.init", start)

    def give(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        caplog.clear()
        code = main(list(words))
        return code, "".join([*capfd.readouterr(), caplog.text])

    return give


def damage(path: Path, *, old: bytes = b"", new: bytes = b"") -> None:
    """Replace a file by one in which something else is written, or by its first half."""
    whole = path.read_bytes()
    assert old in whole
    path.unlink()
    path.write_bytes(whole.replace(old, new, 1) if old else whole[: len(whole) // 2])


def test_a_digit_of_the_preprocessing_is_neither_believed_nor_shipped(run: Path, command: Command) -> None:
    whole = (run / "preprocess.json").read_bytes()
    damage(run / "preprocess.json", old=b"0.485", new=b"0.085")
    code, said = command("export", "line", "--formats", "torchscript")
    assert code == 0, said
    complains(said, "preprocess.json", remedy="restore")
    assert json.loads((run / "bundle" / "preprocess.json").read_bytes()) == json.loads(whole)
    assert "0.085" in (run / "preprocess.json").read_text(), "a reader writes no records"
    code, said = command("train", "--config", "job.toml")
    assert code == 0
    assert "preprocess.json was missing or changed: it is made anew" in said
    assert (run / "preprocess.json").read_bytes() == whole


@pytest.mark.parametrize("verb", ["evaluate", "export"])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.toml", b"crop_fraction = 0.875", b"crop_fraction = 0.975"),
        ("config.toml", b"", b""),
        ("dataset.json", b'"bad"', b'"bat"'),
        ("dataset.json", b"", b""),
        ("split.csv", b",train,", b",test,"),
        ("split.csv", b"", b""),
        ("records.json", b"0.875", b"0.975"),
        ("records.json", b"", b""),
    ],
)
def test_a_record_that_others_do_not_tell_is_refused_by_name_until_train_makes_it_anew(
    run: Path, command: Command, verb: str, name: str, old: bytes, new: bytes
) -> None:
    whole = (run / name).read_bytes()
    damage(run / name, old=old, new=new)
    code, said = command(verb, "line")
    assert code == 3, said
    complains(said, name, remedy="restore")
    assert "Traceback" not in said
    if verb == "export":
        code, said = command("train", "--config", "job.toml")
        assert (code, "was finished before" in said) == (0, True)
        assert (run / name).read_bytes() == whole


@pytest.mark.parametrize("lost", [("config.toml",), ("config.toml", "records.json"), (*RECORDS, "records.json")])
def test_a_lost_config_does_not_make_the_name_free(run: Path, command: Command, lost: tuple[str, ...]) -> None:
    kept = {name: (run / name).read_bytes() for name in (*RECORDS, "records.json")}
    for name in lost:
        (run / name).unlink()
    code, said = command("train", "--config", "job.toml", "--optimizer.learning-rate", "0.5")
    assert code == 2
    assert "optimizer.learning_rate: 0.01 -> 0.5" in said
    assert {name for name in kept if not (run / name).exists()} == set(lost), "a refused start writes nothing"
    assert command("evaluate", "line")[0] == 3
    assert command("train", "--config", "job.toml")[0] == 0
    assert {name: (run / name).read_bytes() for name in kept} == kept


@pytest.mark.parametrize("name", ["dataset.json", "split.csv", "config.toml", "preprocess.json", "records.json"])
def test_a_truncated_record_does_not_block_a_resume(run: Path, name: str) -> None:
    damage(run / name)
    check_start(read_job(Path("job.toml"), {"training": {"epochs": 2}}))


def test_other_images_are_another_run_though_the_record_of_them_is_damaged(run: Path, command: Command) -> None:
    damage(run / "dataset.json")
    Path("data/good/0.png").unlink()
    code, said = command("train", "--config", "job.toml")
    assert code == 2
    assert "data fingerprint: " in said


def test_a_run_of_before_is_sealed_by_its_next_start_with_a_warning(run: Path, command: Command) -> None:
    """Its checkpoints have no origin either."""
    (run / "records.json").unlink()
    manifest = next(run.glob("checkpoints/*/manifest.json"))
    before = unsealed(manifest.read_bytes())
    del before["origin"]
    manifest.unlink()
    manifest.write_bytes(sealed(before))
    damage(run / "preprocess.json", old=b"0.485", new=b"0.085")
    code, said = command("export", "line", "--formats", "torchscript")
    assert code == 3
    assert said.count("line has no records.json: an earlier version began the run") == 1
    complains(said, "preprocess.json", remedy="restore")
    code, said = command("train", "--config", "job.toml")
    assert code == 0
    assert "which did not seal records: this start does" in said
    assert '"origin"' not in manifest.read_text()
    code, said = command("train", "--config", "job.toml")
    assert (code, "did not seal" in said) == (0, False)


def test_a_finished_run_stays_usable_with_damaged_metrics(run: Path, command: Command) -> None:
    assert command("train", "--config", "job.toml")[0] == 0
    result = (run / "result.json").read_bytes()
    (run / "metrics").mkdir()
    (run / "metrics/part-000001-000000.jsonl").write_bytes(b"{")
    code, said = command("train", "--config", "job.toml")
    assert code == 0
    assert "metrics/part-000001-000000.jsonl is damaged" in said
    assert (run / "result.json").read_bytes() == result, "what was known stays"
    (run / "result.json").unlink()
    assert command("train", "--config", "job.toml")[0] == 0
    assert json.loads((run / "result.json").read_bytes())["steps"] == 2


def test_results_of_a_finished_run_are_made_anew(run: Path, command: Command) -> None:
    for content in (None, b'{"steps": 9}'):
        (run / "result.json").unlink(missing_ok=True)
        if content is not None:
            (run / "result.json").write_bytes(content)
        assert command("train", "--config", "job.toml")[0] == 0
        assert json.loads((run / "result.json").read_bytes())["steps"] == 2
