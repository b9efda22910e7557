"""A search on real workers: it ends whatever its sizes are, survives what happens meanwhile, and its best repeats."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pyarrow import parquet

from cluster.storage.lease import read_history
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config, read_job
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import SearchOutcome, run_tune
from ray_jobs.training.driver import run_train

pytestmark = pytest.mark.timeout(600)

MakeJob = Callable[..., JobConfig]
ROOT = Path(__file__).parents[2]
EASY = """
[space]
"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }
"""


def search(job: JobConfig, text: str) -> SearchOutcome:
    return run_tune(job, *read_search_text(text, "a test"))


def command(tmp_path: Path, job: JobConfig, text: str, *flags: str) -> subprocess.Popen[bytes]:
    """`resnet-dist tune` in a process and a session of its own."""
    (tmp_path / "job.toml").write_text(print_config(job))
    (tmp_path / "search.toml").write_text(text)
    files = ["--config", str(tmp_path / "job.toml"), "--search", str(tmp_path / "search.toml")]
    log = (tmp_path / "log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "ray_jobs", "tune", *files, *flags],
        cwd=ROOT,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )


def trials_of(job: JobConfig) -> list[TrialRecord]:
    return SearchDirectory.named(job.storage.root, job.name or "").read_trials()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("cpus", "workers", "at_a_time"),
    [
        pytest.param(1, 1, 1, marks=pytest.mark.slow),
        pytest.param(2, 1, 2, marks=pytest.mark.slow),
        pytest.param(3, 1, 3, marks=pytest.mark.slow),
        pytest.param(2, 2, 1, marks=pytest.mark.slow),
        pytest.param(3, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_no_size_deadlocks(make_job: MakeJob, tmp_path: Path, cpus: int, workers: int, at_a_time: int) -> None:
    overrides = {"cluster": {"local_cpus": cpus}, "training": {"epochs": 1}}
    job = make_job("sizes", workers, overrides)
    process = command(tmp_path, job, f"trials = 3\n{EASY}")
    assert process.wait(timeout=400) == 0, (tmp_path / "log").read_text()[-3000:]
    assert [record.state for record in trials_of(job)] == ["finished"] * 3
    assert trials_of(job)[0].is_default
    record = json.loads((tmp_path / "storage/searches/sizes/search.json").read_text())
    assert record["pool"]["slots"] == at_a_time


@pytest.mark.slow
def test_a_killed_driver_loses_nothing(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("killed", 1, {"training": {"epochs": 2}, "cluster": {"local_cpus": 2}})
    text = f'trials = 5\nscheduler = "none"\n{EASY}'
    process = command(tmp_path, job, text)
    log = tmp_path / "log"
    wait_for(lambda: any(record.is_over for record in trials_of(job)), process, log)
    delay = random.random() * 2.0
    print(f"kill {delay:.3f} s after the first trial")
    time.sleep(delay)  # at a random time, not for luck: whatever it meets must hold
    process.kill()
    process.wait()
    before = {record.digest: record for record in trials_of(job)}
    over = {digest for digest, record in before.items() if record.is_over}
    claims = {digest: claims_of(job, digest) for digest in over}
    again = command(tmp_path, job, text)
    assert again.wait(timeout=400) == 0, log.read_text()[-3000:]
    after = {record.digest: record for record in trials_of(job)}
    assert len(after) == 5
    assert {record.state for record in after.values()} == {"finished"}
    assert before.keys() <= after.keys()  # what was begun was gone on with
    for digest in over:  # and what was over, left alone
        assert after[digest] == before[digest]
        assert claims_of(job, digest) == claims[digest]
    table = parquet.read_table(tmp_path / "storage/searches/killed/trials.parquet")
    assert table.num_rows == 5


def claims_of(job: JobConfig, digest: str) -> frozenset[tuple[int, str]]:
    return read_history(SearchDirectory.named(job.storage.root, job.name or "").trial(digest))


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_with_the_best_so_far_and_goes_on(
    make_job: MakeJob, tmp_path: Path, sent: signal.Signals
) -> None:
    job = make_job("interrupted", 1, {"training": {"epochs": 2}, "cluster": {"local_cpus": 2}})
    text = f"trials = 4\n{EASY}"
    process = command(tmp_path, job, text)
    log = tmp_path / "log"
    wait_for(lambda: any(record.state == "finished" for record in trials_of(job)), process, log)
    process.send_signal(sent)
    assert process.wait(timeout=120) == 128 + sent, log.read_text()[-3000:]
    place = tmp_path / "storage/searches/interrupted"
    assert read_job(place / "best.toml", {}).model.arch == "resnet18"
    assert json.loads((place / "search.json").read_text())["best"] is not None
    assert "<html" in (place / "report/index.html").read_text()
    assert {record.ended_by for record in trials_of(job) if not record.is_over} <= {"interrupt"}
    assert command(tmp_path, job, text).wait(timeout=400) == 0, log.read_text()[-3000:]
    assert len(trials_of(job)) == 4
    assert all(record.is_over for record in trials_of(job))
    finished = command(tmp_path, job, text)
    assert finished.wait(timeout=100) == 0
    assert "was finished before, nothing to do" in log.read_text()


@pytest.mark.slow
def test_a_signal_stores_checkpoints_of_trials_in_the_middle_of_an_epoch(make_job: MakeJob, tmp_path: Path) -> None:
    never = {"checkpoint": {"every_epochs": 10000, "every_minutes": None}, "training": {"epochs": 10000}}
    job = make_job("halfway", 1, {**never, "schedule": {"epochs": 1}, "cluster": {"local_cpus": 2}})
    text = f'trials = 2\nscheduler = "none"\nmax_concurrent_trials = 1\n{EASY}'
    process, log = command(tmp_path, job, text), tmp_path / "log"

    def run() -> RunDirectory:
        (record,) = trials_of(job)
        return RunDirectory(SearchDirectory.named(job.storage.root, "halfway").trial(record.digest))

    def trains() -> bool:
        status = run().read_status() if len(trials_of(job)) == 1 else None
        return status is not None and status.step >= 1

    wait_for(trains, process, log)
    assert run().progress() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143, log.read_text()[-3000:]
    progress, status = run().progress(), run().read_status()
    assert progress is not None
    assert status is not None
    assert progress.step >= status.step >= 1
    assert (status.state, status.message) == ("stopped", "ended by the search (interrupt)")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_it_starts_ray_again_and_goes_on_with_its_trials(make_job: MakeJob, tmp_path: Path, server: str) -> None:
    job = make_job("deaths", 1, {"training": {"epochs": 2}, "cluster": {"local_cpus": 2}})
    text = f'trials = 4\nscheduler = "none"\n{EASY}'
    process, log = command(tmp_path, job, text), tmp_path / "log"
    wait_for(lambda: any(record.is_over for record in trials_of(job)), process, log)
    (victim,) = [each for each in psutil.Process(process.pid).children() if each.name() == server]
    victim.kill()
    assert process.wait(timeout=400) == 0, log.read_text()[-3000:]
    said = log.read_text()
    assert "Ray has died: its" in said
    assert "and going on with the trials" in said
    assert "Traceback" not in said
    assert [record.state for record in trials_of(job)] == ["finished"] * 4


@pytest.mark.usefixtures("shared_ray")
def test_the_best_trains_again_to_the_bit_and_features_are_shared(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("best", 1, {"augmentation": {"brightness": 0.1}, "freezing": {"freeze_depth": 5}})
    text = f"""
        trials = 4
        sampler = "random"
        scheduler = "none"
        reuse = "on"
        reuse_folder = "{tmp_path / "features"}"
        max_concurrent_trials = 1
        [space]
        "optimizer.learning_rate" = {{ log_uniform = [0.001, 0.1] }}
        "freezing.freeze_depth" = {{ categorical = [5] }}
    """
    outcome = search(job, text)
    assert [record.state for record in outcome.records] == ["finished"] * 4
    assert outcome.best is not None
    first, *others = (record.reuse or {} for record in outcome.records)
    assert first["misses"] > 0
    assert all(each["misses"] == 0 and each["hits"] > 0 for each in others)

    best = read_job(Path(outcome.best_file), {})
    again = run_train(best)
    metric = max(epoch["val/macro_f1"] for epoch in outcome.best.history)
    assert again.metrics["val/macro_f1"] == metric == outcome.best.values[0]
    trial = RunDirectory(SearchDirectory.named(job.storage.root, "best").trial(outcome.best.digest))
    run = RunDirectory.named(job.storage.root, best.name or "")
    checkpoints = [each.checkpoint("last") for each in (trial, run)]
    assert all(each.records.are_whole() for each in (trial, run))
    assert checkpoints[0].origin == trial.records.origin() != run.records.origin() == checkpoints[1].origin
    one, other = (each.weights() for each in checkpoints)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    # Losing trials keep metrics and lose checkpoints.
    kept = {record.digest for record in outcome.records if trial_has_checkpoints(job, record)}
    assert kept == {outcome.best.digest, outcome.records[0].digest}


def trial_has_checkpoints(job: JobConfig, record: TrialRecord) -> bool:
    return bool(SearchDirectory.named(job.storage.root, job.name or "").trial(record.digest).list("checkpoints"))


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_trials_that_diverge_or_fail_do_not_stop_it(make_job: MakeJob) -> None:
    overrides: dict[str, Any] = {"training": {"epochs": 1, "max_skipped_steps": 0}, "data": {"drop_last": True}}
    job = make_job("states", 1, overrides)
    text = """
        trials = 9
        sampler = "random"
        [space]
        "optimizer.learning_rate" = { categorical = [0.02, 1e30] }
        "training.global_batch_size" = { categorical = [16, 64] }
    """  # 47 images make no batch of 64
    outcome = search(job, text)
    states = {tuple(record.params.values()): record.state for record in outcome.records}
    print(states)
    assert states[(0.02, 16)] == "finished"
    assert {state for params, state in states.items() if params[1] == 64} == {"failed"}
    assert {state for params, state in states.items() if params[0] == 1e30 and params[1] == 16} <= {"diverged"}
    assert sum(1 + record.repeats for record in outcome.records) == 9  # equal parameters are trained once
    failed = next(record for record in outcome.records if record.state == "failed")
    assert "no global batch of 64" in failed.error
    assert outcome.best is not None
    assert outcome.best.params["training.global_batch_size"] == 16

    # Another space under the name is refused with the difference.
    with pytest.raises(ConfigError, match=r"space optimizer.learning_rate.*0.03"):
        search(job, text.replace("0.02", "0.03"))
    # An earlier search seeds a new one: its best is tried second.
    warm = job.model_copy(update={"name": "warm"})
    config, space = read_search_text(text.replace("trials = 9", "trials = 2"), "a test")
    seeded = run_tune(warm, config, space, warm_start="states")
    assert [record.state for record in seeded.records] == ["finished"]  # the default was the best: an equal trial
    with pytest.raises(ConfigError, match="no trial that is over"):
        run_tune(job.model_copy(update={"name": "cold"}), config, space, warm_start="nothing")


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_several_objectives_make_a_front(make_job: MakeJob) -> None:
    text = """
        objectives = ["val/macro_f1", "latency_ms", "parameters"]
        trials = 3
        max_concurrent_trials = 1
        [space]
        "model.arch" = { categorical = ["resnet18", "resnet34"] }
        "model.dropout" = { uniform = [0.0, 0.5] }
    """
    job = make_job("front", 1, {"training": {"epochs": 1}})
    outcome = search(job, text)
    assert [record.state for record in outcome.records] == ["finished"] * 3
    for record in outcome.records:
        _, latency, parameters = record.values
        assert latency is not None
        assert latency > 0
        assert parameters is not None
        assert (parameters > 15e6) == (record.params["model.arch"] == "resnet34")
    found = json.loads(Store.open(outcome.uri).read("search.json"))
    assert found["front"]
    assert found["latency"]["how"].startswith("ONNX Runtime fp32, CPU")


def processes_of(process: subprocess.Popen[bytes], title: str = "ray::keep_serving") -> list[psutil.Process]:
    """Those below a command with this in their title, which Ray makes of the task that a process runs; by default
    those that keep a slot's workers alive."""
    found: list[psutil.Process] = []
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if title in " ".join(each.cmdline()):
                found.append(each)
    return found


@pytest.mark.slow
def test_a_supervisor_that_is_killed_is_replaced_and_its_trial_goes_on(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("supervised", 1, {"training": {"epochs": 3}, "cluster": {"local_cpus": 1}})
    process = command(tmp_path, job, f'trials = 2\nscheduler = "none"\n{EASY}')
    log = tmp_path / "log"
    wait_for(lambda: any(claims_of(job, record.digest) for record in trials_of(job)), process, log)
    (supervisor,) = processes_of(process)
    supervisor.kill()
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    assert [record.state for record in trials_of(job)] == ["finished"] * 2
    assert "slot 0: its supervisor ended" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("ray::Dispatcher", "the search's Dispatcher has ended"),
        ("ray::KnownTrials", "the search's KnownTrials has ended"),
        ("ray::ResourceTrainable", "the process that followed trial 0 has ended"),
    ],
)
def test_an_actor_that_is_killed_costs_a_search_nothing(
    make_job: MakeJob, tmp_path: Path, title: str, said: str
) -> None:
    job = make_job("acted", 1, {"training": {"epochs": 3}, "cluster": {"local_cpus": 1}})
    process = command(tmp_path, job, f'trials = 2\nscheduler = "none"\n{EASY}')
    log = tmp_path / "log"
    wait_for(lambda: any(claims_of(job, record.digest) for record in trials_of(job)), process, log)
    (victim,) = processes_of(process, title)
    victim.kill()
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    assert f"{said}; starting it again in 1 s, and going on with the trials" in log.read_text()
    assert [record.state for record in trials_of(job)] == ["finished"] * 2


@pytest.mark.slow
def test_a_search_whose_supervisors_are_killed_again_and_again_says_so_and_goes_on_later(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("hopeless", 1, {"training": {"epochs": 1}, "cluster": {"local_cpus": 1}})
    text = f"trials = 2\n{EASY}"
    process = command(tmp_path, job, text)
    log = tmp_path / "log"
    deadline = time.monotonic() + 240
    while process.poll() is None:
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        for supervisor in processes_of(process):
            with suppress(psutil.Error):
                supervisor.kill()
        time.sleep(0.05)
    assert process.returncode == 1, log.read_text()[-3000:]
    said = log.read_text()
    assert "no worker group is left" in said
    assert "the same command goes on" in said
    assert [(record.state, record.ended_by) for record in trials_of(job)] == [("running", "workers")]
    assert command(tmp_path, job, text).wait(timeout=300) == 0, log.read_text()[-3000:]
    assert [(record.state, record.ended_by) for record in trials_of(job)] == [("finished", None)] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_trial_says_what_ended_it(make_job: MakeJob) -> None:
    job = make_job("endings", 1, {"training": {"epochs": 3}, "optimizer": {"learning_rate": 0.02}})
    text = """
        trials = 4
        total_epochs = 4
        sampler = "random"
        reduction_factor = 2
        max_concurrent_trials = 1
        [space]
        "optimizer.learning_rate" = { categorical = [1e-9, 2e-9, 3e-9] }
    """
    outcome = search(job, text)
    assert outcome.best is not None
    assert [(record.state, record.ended_by) for record in outcome.records] == [
        ("finished", None),
        ("stopped", "scheduler"),
    ]
    assert said_by(job, outcome.records[1]) == "ended by the search (scheduler)"

    # Two at a time, a budget of one training ends both of them.
    both = job.model_copy(update={"name": "budget"})
    text = text.replace("total_epochs = 4", "total_epochs = 3").replace("trials = 1", "trials = 2")
    text = text.replace("reduction_factor = 2", 'scheduler = "none"')
    outcome = search(both, text)
    left = [record for record in outcome.records if not record.is_over]
    assert left
    assert {record.ended_by for record in left} == {"total_epochs"}
    assert all(record.started_s is not None and record.ended_s is not None for record in left)
    # A worker that is amid a longer epoch than the search waits for is ended without a word; its record says why.
    told = "ended by the search (total_epochs)"
    said = {said_by(both, record) for record in left}
    assert told in said
    # One may have come to its own end by then, before the search heard of it.
    assert all(each in (told, "") or each.startswith("finished after 3 epochs; best: ") for each in said)
    store = Store.open(outcome.uri)
    states = json.loads(store.read("search.json"))["trials"]
    assert [each["ended_by"] for each in states] == [record.ended_by for record in outcome.records]
    journal = store.read("study.journal").decode()
    told = [json.loads(line) for line in journal.splitlines()]
    assert sum("state" in each and each["state"] == 2 for each in told) == 0  # of Optuna's states, pruned

    outcome = search(both, text.replace("total_epochs = 3", ""))
    assert {(record.state, record.ended_by) for record in outcome.records} == {("finished", None)}


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_trial_whose_metrics_are_damaged_is_trained_again(make_job: MakeJob) -> None:
    job = make_job("undamaged", 1, {"training": {"epochs": 3}})
    text = f'trials = 2\nmax_concurrent_trials = 1\nscheduler = "none"\n{EASY}'
    undisturbed = search(job, text).records

    damaged = job.model_copy(update={"name": "damaged"})
    search(damaged, f"total_epochs = 4\n{text}")
    directory = SearchDirectory.named(damaged.storage.root, "damaged")
    (left,) = (record for record in directory.read_trials() if not record.is_over)
    store = directory.trial(left.digest)
    part = store.list("metrics")[0]
    store.write(f"metrics/{part}", b"{")
    records = search(damaged, text).records
    assert {record.state for record in records} == {"finished"}
    assert [record.history for record in records] == [record.history for record in undisturbed]
    assert store.list("metrics/damaged") == [part]


def said_by(job: JobConfig, record: TrialRecord) -> str:
    status = RunDirectory(SearchDirectory.named(job.storage.root, job.name or "").trial(record.digest)).read_status()
    assert status is not None
    return status.message
