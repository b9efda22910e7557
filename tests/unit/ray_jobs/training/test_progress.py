"""What a person sees of a run."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.progress import ProgressView
from resnet_dist.run_records import MetricLog, Status

RUNNING = Status(
    state="running",
    submission="s",
    generation=1,
    step=10,
    epoch=1,
    epochs=3,
    steps_per_epoch=10,
    metrics={"train/loss": 1.2345},
    images_per_second=321.0,
    learning_rate=0.0125,
    data_wait_share=0.03,
    eta_s=80.0,
    tracker="/there",
    messages=1,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    root = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(10):
            pixels = np.random.default_rng(number + 100 * (name == "dog")).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return prepare_data(JobConfig.model_validate({"data": {"root": str(root)}}))


def seen(folder: Path, prepared: PreparedData, terminal: bool) -> str:
    run = RunDirectory(Store.open(str(folder)))
    text = io.StringIO()
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=60.0) as lease:
        log = MetricLog(run.store, lease.claim)
        perf = {"perf/images_per_second": 321.0, "perf/data_wait_share": 0.03, "train/learning_rate": 0.0125}
        log.append({"step": 10, "epoch": 0, "train/loss": 1.2345, **perf})
        log.append({"step": 10, "epoch": 1, "val/loss": 1.0, "val/top1": 0.5, "val/macro_f1": 0.4})
        log.flush()
        path = "logs/generation-000001.log"
        run.store.write(path, b"hello\n")
        run.write_status(RUNNING)
        with ProgressView(run, prepared, Console(file=text, force_terminal=terminal, width=120)) as view:
            view.refresh()
            run.store.write(path, b"hello\nthe tracker is off\n")
            run.write_status(replace(RUNNING, tracker="", messages=2))
            view.refresh()
    return text.getvalue()


def test_a_terminal_has_a_live_line_with_the_numbers(tmp_path: Path, prepared: PreparedData) -> None:
    line = seen(tmp_path, prepared, terminal=True)
    assert "10/30  loss 1.234  lr 0.0125  321 images/s  waiting 3%  ETA 0:01:20" in line


def test_elsewhere_there_is_a_line_for_each_epoch_and_each_message_once(tmp_path: Path, prepared: PreparedData) -> None:
    heading, *lines = seen(tmp_path, prepared, terminal=False).strip().splitlines()
    assert "2 classes" in heading
    assert lines == [
        "hello",
        "tracker: /there",
        "epoch 1  train loss 1.2345  val loss 1.0000  val top-1 0.5000  val macro-F1 0.4000  lr 0.0125  321 images/s"
        "  waiting 3%",
        "the tracker is off",
    ]
