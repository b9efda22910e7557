"""A real run and its tracker: it is shown what the run records, and its failure costs the run nothing."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train
from resnet_dist.run_records import Status

pytestmark = pytest.mark.usefixtures("shared_ray")


def recorded(run: RunDirectory) -> dict[tuple[str, int], float]:
    """The run's own training and validation metrics, by key and step."""
    return {
        (name, int(record["step"])): value
        for record in run.metrics()
        for name, value in record.items()
        if name.startswith(("train/", "val/"))
    }


def shown(folder: Path) -> dict[tuple[str, int], float]:
    """The scalars of all event files, by tag and step."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            found |= {
                (value.tag, event.step): value.simple_value
                for value in event.summary.value
                if value.WhichOneof("value") == "simple_value"
            }
    return found


def status_and_log(run: RunDirectory) -> tuple[Status, str]:
    status = run.read_status()
    assert status is not None
    return status, run.store.read(f"logs/generation-{status.generation:06d}.log").decode()


def test_tensorboard_is_shown_what_the_run_records(make_job: Callable[..., JobConfig]) -> None:
    pytest.importorskip("tensorboardX")
    job = make_job("shown", 1, {"tracker": {"kind": "tensorboard"}})
    run_train(job)
    run = RunDirectory.named(job.storage.root, "shown")
    folder = Path(run.uri) / "tracker/tensorboard"
    assert json.loads((Path(run.uri) / "status.json").read_text())["tracker"] == str(folder)
    own, events = recorded(run), shown(folder)
    assert {name for name, _ in own} >= {"train/loss", "train/learning_rate", "val/loss", "val/top1"}
    assert len([name for name, _ in own if name == "train/loss"]) == 6  # 47 images in batches of 16, twice
    assert {key: events[key] for key in own} == {key: float(np.float32(value)) for key, value in own.items()}
    assert {step for name, step in events if name == "train/epoch"} == {3, 6}


def closed_port(_: JobConfig) -> tuple[dict[str, Any], str]:
    pytest.importorskip("mlflow")
    return {"kind": "mlflow", "uri": "http://127.0.0.1:9", "finish_s": 60.0}, "127.0.0.1"


def a_file_in_the_way(job: JobConfig) -> tuple[dict[str, Any], str]:
    run = Path(RunDirectory.named(job.storage.root, job.name or "").uri)
    run.mkdir(parents=True)
    (run / "tracker").write_text("a folder must be here")
    return {"kind": "wandb"}, f"{run}/tracker/id could not be written"


@pytest.mark.slow
@pytest.mark.parametrize("failure", [closed_port, a_file_in_the_way])
def test_a_tracker_that_fails_costs_a_run_nothing(
    make_job: Callable[..., JobConfig],
    assert_same: Callable[..., None],
    undisturbed: Any,
    failure: Callable[[JobConfig], tuple[dict[str, Any], str]],
) -> None:
    tracker, reason = failure(make_job("tracked"))
    tracked = make_job("tracked", overrides={"tracker": tracker})
    assert run_train(tracked).metrics == undisturbed.outcome.metrics
    assert_same(undisturbed.job, tracked)
    status, log = status_and_log(RunDirectory.named(tracked.storage.root, "tracked"))
    assert (status.state, status.tracker) == ("done", "")
    assert log.count(f"tracker.kind={tracker['kind']} is off: ") == 1
    assert reason in log
    assert "training goes on without it" in log
