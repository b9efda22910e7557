"""What is to be stored while storage is away: the newest checkpoint waits, metrics lose nothing."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from cluster.errors import RunHeldError, StorageOutageError
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from resnet_dist.checkpoint.background_writer import BackgroundWriter
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.manifest import stored_steps
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.reading import latest_verified, load
from resnet_dist.checkpoint.writing import CheckpointFolder
from resnet_dist.run_records import MetricLog, read_metrics
from tests.outages import file_system, moved_away, read_only

CLAIM = (1, "token")


class Training:
    """Records and stores as a run does: metrics at each step, a checkpoint at some."""

    def __init__(self, root: Path, outage_s: float = 60.0, confirm: Callable[[], None] = lambda: None) -> None:
        root.mkdir(exist_ok=True)
        self.store = Store.open(str(root)).settled()
        self.said: list[str] = []
        self.metrics = MetricLog(self.store, CLAIM)
        self.folder = CheckpointFolder(self.store, CLAIM, {CLAIM}, confirm, 10, "val/top1")
        patience = Patience(outage_s, self.said.append, confirm)
        self.writer = BackgroundWriter(("metrics", "checkpoint"), patience.wait_out)

    def step(self, number: int, *, checkpoint: bool = True) -> None:
        self.writer.raise_failure()
        self.metrics.append({"step": number})
        if checkpoint:
            self.writer.wait_for("checkpoint")
        self.writer.put("metrics", self.metrics.flush)
        if checkpoint:
            progress = Progress(number, 0, number, Microbatches(4, 0))
            weights = {"weight": torch.full((3,), float(number))}
            snapshot = Snapshot({"arch": "tiny"}, weights, {"raw_weights": weights}, progress)
            self.writer.put("checkpoint", lambda: self.folder.write(snapshot))

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_training_goes_on_while_storage_is_away_and_the_newest_checkpoint_is_stored_afterwards(tmp_path: Path) -> None:
    root = tmp_path / "run"
    training = Training(root)
    with training.writer:
        training.step(1)
        training.writer.drain()
        with moved_away(root):
            for number in range(2, 8):
                training.step(number)  # waits for no storage but at the first checkpoint, until that has failed
            training.until(lambda: training.said)
        training.writer.drain()
        training.step(8)
    stored = stored_steps(training.store)
    assert stored == [1, 7, 8]
    for step in stored:
        assert load(training.store, step, {CLAIM}).weights()["weight"].tolist() == [float(step)] * 3
    assert [record["step"] for record in read_metrics(training.store, {CLAIM})] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [line.partition(" (")[0].partition(" after")[0] for line in training.said] == [
        "storage is away",
        "storage is there again",
    ]


def test_the_end_of_training_waits_for_the_last_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "run"
    training = Training(root)
    ended = threading.Event()

    def train() -> None:
        with training.writer:
            training.step(1)
        ended.set()

    thread = threading.Thread(target=train)
    with moved_away(root):
        thread.start()
        training.until(lambda: training.said)
        assert not ended.is_set()
    thread.join(20)
    assert ended.is_set()
    assert stored_steps(training.store) == [1]


def test_a_file_system_that_turns_read_only_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "8m") as disk:
        training = Training(disk / "run")
        with training.writer:
            for number in range(1, 10):
                expected = len(training.said) + (number in (3, 6))
                with read_only(disk) if number in (3, 6) else nullcontext():
                    training.step(number, checkpoint=number % 3 == 0)
                    training.until(lambda count=expected: len(training.said) >= count)
                training.writer.drain()
        newest = latest_verified(training.store, {CLAIM}, print)
        assert newest is not None
        assert stored_steps(training.store) == [3, 6, 9]
        assert newest.step == 9
        assert [record["step"] for record in read_metrics(training.store, {CLAIM})] == [*range(1, 10)]
        assert not [name for folder in os.walk(disk) for name in folder[2] if name.startswith(".part-")]


def test_who_was_replaced_in_an_outage_writes_nothing_more(tmp_path: Path) -> None:
    root, is_lost = tmp_path / "run", threading.Event()

    def confirm() -> None:
        if is_lost.is_set():
            raise RunHeldError("taken over")

    training = Training(root, confirm=confirm)

    def train() -> None:
        with training.writer:
            training.step(1)
            training.writer.drain()
            with moved_away(root):
                training.step(2)
                training.until(lambda: training.said)
                is_lost.set()
            training.writer.drain()

    with pytest.raises(RunHeldError):
        train()
    assert stored_steps(training.store) == [1]
    assert [record["step"] for record in read_metrics(training.store, {CLAIM})] == [1]


@pytest.mark.parametrize("surface", ["step", "end"])
def test_an_outage_that_lasts_too_long_ends_training(tmp_path: Path, surface: str) -> None:
    root = tmp_path / "run"
    training = Training(root, outage_s=0.2)

    def train() -> None:
        with moved_away(root), training.writer:
            training.step(1)
            number = 1
            while surface == "step":
                number += 1
                training.step(number)

    with pytest.raises(StorageOutageError, match=r"storage\.outage_s=0\.2"):
        train()


def test_after_an_error_of_training_nobody_waits_for_storage(tmp_path: Path) -> None:
    root = tmp_path / "run"
    training = Training(root)

    def train() -> None:
        with moved_away(root), training.writer:
            training.step(1)
            training.until(lambda: training.said)
            raise ZeroDivisionError

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError) as caught:
        train()
    assert time.monotonic() - began < 10
    assert "what was to be stored could not be" in caught.value.__notes__[0]


def test_metrics_come_before_the_checkpoint_that_waits_with_them(tmp_path: Path) -> None:
    training, may_go_on, order = Training(tmp_path / "run"), threading.Event(), list[str]()
    with training.writer as writer:
        writer.put("metrics", lambda: order.append(f"first {may_go_on.wait(20)}"))
        writer.put("checkpoint", lambda: order.append("checkpoint"))
        training.until(lambda: writer._tries)
        writer.put("metrics", lambda: order.append("second"))
        may_go_on.set()
    assert order == ["first True", "second", "checkpoint"]
