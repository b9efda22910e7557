"""Whatever dies, the same command ends with the weights of the undisturbed run, to the bit."""

import random
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.terminal.watcher import watched
from ray_jobs.training.driver import run_train
from tests.distributed.driver_process import start_command, wait_for_step

pytestmark = [pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(600)]

EVERY_STEP: dict[str, Any] = {"checkpoint": {"every_steps": 1}}
MakeJob = Callable[..., JobConfig]


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


def damage_weights(store: Store, step: int) -> None:
    path = f"step-{step:08d}/weights.safetensors"
    content = store.read(path)
    store.write(path, content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        pytest.param(3, "resuming at step 3", marks=pytest.mark.slow),
        pytest.param(0, "starting over from the initial weights", marks=pytest.mark.slow),
    ],
)
def test_damaged_weights_are_trained_again(
    make_job: MakeJob,
    assert_same: Callable[..., None],
    undisturbed: Any,
    capsys: pytest.CaptureFixture[str],
    whole: int,
    said: str,
) -> None:
    """Of a run that was done, and of one whose only checkpoint is damaged, which its record does not tell."""
    job = make_job("undisturbed", 1)
    run = Path(job.storage.root) / "runs/undisturbed"
    shutil.copytree(Path(undisturbed.job.storage.root) / "runs/undisturbed", run)
    checkpoints = Store.open(str(run / "checkpoints"))
    if whole:
        damage_weights(checkpoints, 6)
    else:
        checkpoints.delete("step-00000006")
        damage_weights(checkpoints, 3)
    with watched():
        outcome = run_train(job)
    assert not outcome.already_finished
    assert outcome == replace(undisturbed.outcome, run=outcome.run, images_per_second=outcome.images_per_second)
    assert_same(job, undisturbed.job)
    printed = capsys.readouterr().out
    assert said in printed
    assert f"step-{6 if whole else 3:08d} is damaged: weights.safetensors" in printed


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "workers"), [(signal.SIGINT, 2), *((signal.SIGKILL, workers) for workers in (1, 2, 3))]
)
def test_a_driver_that_is_interrupted_or_killed_costs_nothing_but_time(
    make_job: MakeJob,
    assert_same: Callable[..., None],
    undisturbed: Any,
    tmp_path: Path,
    sent: signal.Signals,
    workers: int,
) -> None:
    kill_at = random.randint(1, 3)
    print(f"{sent.name} at step {kill_at}")
    job = make_job(f"driverless-{sent.name}-{workers}", workers, EVERY_STEP)
    with start_command(job, tmp_path) as driver:
        try:
            wait_for_step(job, kill_at, lambda: driver.poll() is None)
            driver.send_signal(sent)
            text = driver.communicate(timeout=120)[0].decode()
        finally:
            driver.kill()
    if sent == signal.SIGINT:
        assert driver.returncode == 130, text
        status = RunDirectory.named(job.storage.root, job.name or "").read_status()
        assert status is not None
        assert (status.state, status.exit_code) == ("stopped", 130)
    run_train(job)
    assert_same(job, undisturbed.job)
