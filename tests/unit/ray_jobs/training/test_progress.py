"""What a person sees of a run."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.progress import ProgressView, _epoch_line, _live_numbers
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


def seen(folder: Path, prepared: PreparedData, terminal: bool, width: int = 130) -> str:
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
        with ProgressView(run, prepared, Console(file=text, force_terminal=terminal, width=width)) as view:
            view.refresh()
            run.store.write(path, b"hello\nthe tracker is off\n")
            run.write_status(replace(RUNNING, tracker="", messages=2))
            view.refresh()
    return text.getvalue()


def lives(text: str) -> list[str]:
    """The live lines of a terminal, without what colours and moves."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if re.match(r"epoch \d+/\d+ ", line)]


def test_a_terminal_has_a_live_line_with_the_numbers(tmp_path: Path, prepared: PreparedData) -> None:
    text = seen(tmp_path, prepared, terminal=True)
    assert "10/30  loss 1.234  lr 0.0125  321 images/s  waiting for data 3 %  ETA 0:01:20" in text


@pytest.mark.parametrize(
    ("width", "bar", "numbers"),
    [
        (80, 20, "10/30  loss 1.234  321 images/s  ETA 0:01:20"),
        (100, 25, "10/30  loss 1.234  321 images/s  ETA 0:01:20"),
        (110, 27, "10/30  loss 1.234  321 images/s  waiting for data 3 %  ETA 0:01:20"),
    ],
)
def test_the_bar_has_room_and_the_live_line_is_one(
    tmp_path: Path, prepared: PreparedData, width: int, bar: int, numbers: str
) -> None:
    lines = lives(seen(tmp_path, prepared, terminal=True, width=width))
    assert lines
    for line in lines:
        assert len(line.rstrip()) <= width
        assert line.rstrip().endswith(numbers)
        assert len(re.findall("[━╸╺]", line)) == bar


def test_numbers_are_left_out_by_what_matters_least() -> None:
    room = {len(text): text for text in (_live_numbers(RUNNING, columns) for columns in range(100))}
    kept = [re.sub(r"[\d./:]+", "", text).split() for _, text in sorted(room.items())]
    assert kept == [
        [],
        ["ETA"],
        ["loss", "ETA"],
        ["loss", "images/s".replace("/", ""), "ETA"],
        ["loss", "imagess", "waiting", "for", "data", "%", "ETA"],
        ["loss", "lr", "imagess", "waiting", "for", "data", "%", "ETA"],
    ]
    assert all(len(_live_numbers(RUNNING, columns)) <= max(columns, 5) for columns in range(100))


@given(
    loss=st.floats(allow_nan=True),
    value=st.floats(0.0, 1.0),
    share=st.floats(0.0, 1.0),
    speed=st.floats(0.0, 99_999.0),
    epoch=st.integers(1, 9999),
)
def test_an_epoch_fits_into_100_columns_whatever_its_numbers(
    loss: float, value: float, share: float, speed: float, epoch: int
) -> None:
    training = {"train/loss": loss, "train/learning_rate": value}
    training |= {"perf/images_per_second": speed, "perf/data_wait_share": share}
    record = {"epoch": float(epoch), "val/loss": -loss, "val/top1": value, "val/macro_f1": value}
    line = _epoch_line(record, training, 100)
    assert len(line) <= 100
    assert f"top-1 {value:.4f}  macro-F1 {value:.4f}" in line
    assert _epoch_line(record, training, 1000).startswith(line)


def test_a_usual_epoch_has_its_speed_and_its_waiting_at_100_columns(tmp_path: Path, prepared: PreparedData) -> None:
    text = seen(tmp_path, prepared, terminal=True, width=100)
    line = "epoch 1  loss 1.234, val 1  top-1 0.5000  macro-F1 0.4000  waiting for data 3 %  321 images/s"
    assert line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_before_the_first_step_it_says_that_workers_start_and_warns_once(
    tmp_path: Path, prepared: PreparedData
) -> None:
    run, text = RunDirectory(Store.open(str(tmp_path))), io.StringIO()
    run.store.write("logs/generation-000001.log", b"warning: few\nhello\n")
    with ProgressView(run, prepared, Console(file=text, width=80)) as view:
        view.warn(["warning: few"])
        view.show_start(2)
        run.write_status(replace(RUNNING, epoch=0, step=0, tracker="", messages=2))
        view.refresh()
    assert text.getvalue().splitlines()[1:] == ["warning: few", "starting 2 workers, which takes some seconds", "hello"]


def test_elsewhere_there_is_a_line_for_each_epoch_and_each_message_once(tmp_path: Path, prepared: PreparedData) -> None:
    heading, *lines = seen(tmp_path, prepared, terminal=False).strip().splitlines()
    assert "2 classes" in heading
    assert lines == [
        "hello",
        "tracker: /there",
        "epoch 1  loss 1.234, val 1  top-1 0.5000  macro-F1 0.4000  waiting for data 3 %  321 images/s  lr 0.0125",
        "the tracker is off",
    ]
