"""Whatever dies, the same command ends with the weights of the undisturbed run, to the bit."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cluster.errors import RunHeldError
from cluster.lease import take
from cluster.processes import ProcessIdentity
from cluster.storage import Store
from ray_jobs.config import JobConfig
from ray_jobs.errors import ConfigError
from ray_jobs.job_file import print_config
from ray_jobs.train import run_train
from resnet_dist.model.resnet import build_model

pytestmark = [pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(600)]

EVERY_STEP: dict[str, Any] = {"checkpoint": {"every_steps": 1}}
MakeJob = Callable[..., JobConfig]


def steps_stored(job: JobConfig) -> int:
    names = Store.open(job.storage.root).list(f"runs/{job.name}/checkpoints")
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def wait_for_step(job: JobConfig, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + 200
    while steps_stored(job) < step:
        assert time.monotonic() < deadline, f"step {step} was not reached"
        assert alive(), "ended early"
        time.sleep(0.02)


def actors_below(process: psutil.Process, kind: str) -> list[psutil.Process]:
    found = []
    for child in process.children(recursive=True):
        try:
            if kind in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def listening_on(processes: list[psutil.Process]) -> set[str]:
    pids = {process.pid for process in processes}
    connections = psutil.net_connections("tcp")
    return {
        each.laddr.ip.removeprefix("::ffff:")
        for each in connections
        if each.pid in pids and each.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        pytest.param("RayTrainWorker", 1, marks=pytest.mark.slow),
        ("RayTrainWorker", 2),
        pytest.param("RayTrainWorker", 3, marks=pytest.mark.slow),
        pytest.param(
            "TrainController", 3, marks=pytest.mark.slow
        ),  # of four CPUs: nothing starts again before the dead one's places are free
    ],
)
def test_a_killed_actor_costs_nothing_but_time(
    make_job: MakeJob, assert_same: Callable[..., None], undisturbed: Any, kind: str, workers: int
) -> None:
    kill_at = random.randint(1, 5)
    print(f"kill at step {kill_at}")
    job = make_job(f"killed-{kind}-{workers}", workers, EVERY_STEP)
    outcome: list[object] = []
    thread = threading.Thread(target=lambda: outcome.append(run_train(job)))
    thread.start()
    wait_for_step(job, kill_at, thread.is_alive)
    assert len(actors_below(psutil.Process(), "RayTrainWorker")) >= workers
    victims = actors_below(psutil.Process(), kind)
    assert listening_on(victims) <= {"127.0.0.1", "::1"}  # the rendezvous of torch's process group, too
    random.choice(victims).kill()
    thread.join()
    assert outcome
    assert_same(job, undisturbed.job)


@pytest.mark.slow
def test_overlapped_reduction_resumes_to_the_bit_at_three_workers(
    make_job: MakeJob, assert_same: Callable[..., None]
) -> None:
    overlapped = {"training": {"reduction": "overlapped"}}
    undisturbed = make_job("overlapped", 3, overlapped)
    run_train(undisturbed)
    both = make_job("halves", 3, overlapped)
    run_train(both)
    # As if it had been killed after the first epoch.
    store = Store.open(both.storage.root).child("runs/halves/checkpoints")
    store.delete("step-00000006")
    assert store.list("") == ["step-00000003"]
    run_train(both)
    assert_same(both, undisturbed)


@pytest.mark.slow
def test_what_changes_by_epoch_resumes_to_the_bit(make_job: MakeJob, learnt: Callable[..., Any]) -> None:
    options = {
        "freezing": {"preset": "gradual"},
        "schedule": {"kind": "plateau", "plateau_patience": 0, "plateau_min_delta": 10.0},
        "training": {"epochs": 3, "ema_decay": 0.9, "precision": "fp16", "early_stopping": True, "mixup_alpha": 0.4},
    }
    job = make_job("by-epoch", 2, options)
    first = run_train(job)
    undisturbed = learnt(job)
    store = Store.open(job.storage.root).child("runs/by-epoch/checkpoints")
    newest = "step-00000009"
    progress = store.read(f"{newest}/progress.json")
    assert b'"factor": 0.09' in progress  # the plateau has acted twice
    # As if it had been killed after the second epoch.
    store.delete(newest)
    assert run_train(job).metrics == first.metrics
    assert store.read(f"{newest}/progress.json") == progress
    resumed = learnt(job)
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(value, undisturbed[name]) for name, value in resumed.items())


@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_killed_driver_costs_nothing_but_time(
    make_job: MakeJob, assert_same: Callable[..., None], undisturbed: Any, tmp_path: Path, workers: int
) -> None:
    kill_at = random.randint(1, 5)
    print(f"kill at step {kill_at}")
    job = make_job(f"driverless-{workers}", workers, EVERY_STEP)
    driver = start_command(job, tmp_path)
    wait_for_step(job, kill_at, lambda: driver.poll() is None)
    driver.kill()
    driver.wait()
    run_train(job)
    assert_same(job, undisturbed.job)


def test_ctrl_c_stops_at_once_and_the_next_start_resumes(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("interrupted", 2, {"checkpoint": {"every_steps": 1}, "training": {"epochs": 50}})
    driver = start_command(job, tmp_path)
    wait_for_step(job, 2, lambda: driver.poll() is None)
    start = time.monotonic()
    driver.send_signal(signal.SIGINT)
    said = driver.communicate(timeout=60)[0].decode()
    print(f"stopped after {time.monotonic() - start:.1f} s, saying:\n{said}")
    assert driver.returncode == 130
    status = (Path(job.storage.root) / "runs/interrupted/status.json").read_text()
    assert '"stopped"' in status
    assert '"exit_code": 130' in status
    reached = steps_stored(job)
    shorter = make_job("interrupted", 2, {"training": {"epochs": 1 + reached // 3}, "schedule": {"epochs": 50}})
    assert run_train(shorter).steps == 3 * (1 + reached // 3)


def test_a_finished_run_is_left_alone_and_can_be_continued(make_job: MakeJob, learnt: Callable[..., Any]) -> None:
    frozen = {"freezing": {"freeze_depth": 3}, "training": {"epochs": 1}}
    job = make_job("once", 1, frozen)
    first = run_train(job)
    again = run_train(job)
    assert not first.already_finished
    assert again.already_finished
    assert again.metrics == first.metrics

    before, after = build_model("resnet18", 3, 0.2, job.seed).state_dict(), learnt(job)
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
def test_a_full_disk_stops_the_run_and_keeps_the_earlier_checkpoint(make_job: MakeJob, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.decode().strip()}")
    try:
        job = make_job("full", 1, {"storage": {"root": str(disk)}, "training": {"epochs": 3}})
        code, text = finish_command(job, tmp_path)
        assert code == 3, text
        assert "no space" in text
        assert "Traceback" not in text
        assert steps_stored(job) >= 3
        from cluster.lease import read_history  # noqa: PLC0415
        from resnet_dist.checkpoint import load  # noqa: PLC0415

        run = Store.open(str(disk)).child("runs/full")
        assert load(run, "last", read_history(run)).step >= 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def start_command(job: JobConfig, folder: Path) -> subprocess.Popen[bytes]:
    """`resnet-dist train` as a process of its own with its own Ray."""
    config = folder / f"{job.name}.toml"
    config.write_text(print_config(job))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "ray_jobs.cli", "train", "--config", str(config)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish_command(job: JobConfig, folder: Path) -> tuple[int, str]:
    process = start_command(job, folder)
    text = process.communicate(timeout=300)[0].decode()
    return process.returncode, text
