"""How a run ends or does not begin: finished, held by another process, out of disk."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RunHeldError, StorageError
from cluster.storage.lease import read_history, take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.cli.app import main
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train
from resnet_dist.checkpoint.reading import load
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from tests.distributed.driver_process import steps_stored

pytestmark = [pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(600)]

MakeJob = Callable[..., JobConfig]


def test_a_finished_run_is_left_alone_and_can_be_continued(make_job: MakeJob, learnt: Callable[..., Any]) -> None:
    frozen = {"freezing": {"freeze_depth": 3}, "training": {"epochs": 1}}
    job = make_job("once", 1, frozen)
    first = run_train(job)
    again = run_train(job)
    assert not first.already_finished
    assert again.already_finished
    assert again.metrics == first.metrics
    assert again.best == first.best
    assert first.best is not None
    assert (first.best.epoch, first.best.step, first.best.value) == (1, 3, first.metrics[first.best.monitor])
    assert set(first.splits) == {"train", "val"}
    status = RunDirectory.named(job.storage.root, "once").read_status()
    assert status is not None
    assert status.message == f"finished after 1 epoch; best: {first.best}"
    log = "".join(path.read_text() for path in Path(first.run, "logs").glob("generation-*.log"))
    assert "warning: model.weights=none" in log
    assert "warning: val has few images of" in log

    before, after = build_model(Structure("resnet18"), 3, 0.2, job.seed).state_dict(), learnt(job)
    for name, value in before.items():
        is_frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert value.equal(after[name]) == (is_frozen or (name.endswith("num_batches_tracked") and is_frozen)), name

    with pytest.raises(ConfigError, match=r"optimizer.learning_rate: 0.02 -> 0.5"):
        run_train(make_job("once", 1, {**frozen, "optimizer": {"learning_rate": 0.5}}))
    longer = run_train(make_job("once", 2, {"freezing": {"freeze_depth": 3}, "training": {"epochs": 2}}))
    assert (longer.epochs, longer.steps) == (2, 6)


def test_a_second_process_is_refused_and_writes_nothing(make_job: MakeJob) -> None:
    job = make_job("held", 1, {"cluster": {"lease_ttl_s": 2.0}})
    store = Store.open(job.storage.root).child("runs/held")
    with take(store, submission="other", driver=ProcessIdentity.current(), ttl_s=2.0):
        with pytest.raises(RunHeldError, match="being trained by another process"):
            run_train(job)
        assert store.list("") == ["lease-copy.json", "lease.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_the_run_and_keeps_the_earlier_checkpoint(
    make_job: MakeJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.decode().strip()}")
    try:
        job = make_job("full", 1, {"storage": {"root": str(disk)}, "training": {"epochs": 3}})
        config = tmp_path / "full.toml"
        config.write_text(print_config(job))
        assert main(["train", "--config", str(config)]) == 3
        text = "".join(capfd.readouterr())
        assert "0.50 GiB are needed for checkpoints" in text
        assert list(disk.iterdir()) == []
        # It may fill up later, too.
        with pytest.raises(StorageError, match="no space"):
            run_train(job)
        assert "Traceback" not in "".join(capfd.readouterr())
        assert steps_stored(job) >= 3
        run = Store.open(str(disk)).child("runs/full")
        assert load(run, "last", read_history(run)).step >= 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)
