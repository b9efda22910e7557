"""What runs in a cluster for `submit`: the command's output and end are kept, and what is final is not tried again."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from cluster.jobs import HeldGpus
from cluster.storage.store import Store
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverBegin, DriverLog, read_begin, read_end, read_log
from ray_jobs.submission import attempts
from ray_jobs.submission.entrypoint import commands_left, final_end
from ray_jobs.submission.usage_record import read_usage
from resnet_dist.run_records import Status

WITH_PAUSE = """
import sys
from ray_jobs.submission import attempts, entrypoint
attempts._FIRST_PAUSE_S = {pause_s}
sys.exit(entrypoint.main(sys.argv[1:]))
"""


def start(
    run: Path,
    *arguments: str,
    submission: str = "abc-1",
    module: str = "ray_jobs.submission.entrypoint",
    retries: str = "0",
    pause_s: float = 60.0,
) -> "subprocess.Popen[str]":
    environment = {**os.environ, "RESNET_DIST_SUBMISSION": submission, "RESNET_DIST_RUN": str(run)}
    environment["RESNET_DIST_RETRIES"] = retries
    how = ["-m", module] if retries == "0" else ["-c", WITH_PAUSE.format(pause_s=pause_s)]
    command = [sys.executable, *how, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def test_the_entry_point_of_release_0_1_is_the_present_one(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    code, out = finish(start(run, "train", "--optimizer.learning-rate", "-1", module="ray_jobs.submitted"))
    assert code == 2
    assert "--optimizer.learning-rate=-1" in out
    end = read_end(Store.open(str(run)), "abc-1")
    assert end is not None
    assert (end.exit_code, end.attempt, end.verb) == (2, 1, "train")


def test_a_final_exit_code_is_kept_and_not_tried_again(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    code, out = finish(start(run, "train", "--optimizer.learning-rate", "-1"))
    assert code == 2
    assert "--optimizer.learning-rate=-1" in out
    end = read_end(Store.open(str(run)), "abc-1")
    assert end is not None
    assert (end.exit_code, end.attempt, end.verb) == (2, 1, "train")
    assert "--optimizer.learning-rate=-1" in end.last_line
    assert read_log(Store.open(str(run)), "abc-1") in out

    code, out = finish(start(run, "train", "--version"))
    assert code == 2
    assert "ended with exit code 2 before" in out
    assert "--optimizer.learning-rate=-1" in out  # the first attempt's own words

    code, out = finish(start(run, "train", "--print-config", submission="abc-2"))
    assert code == 0, out
    assert "[optimizer]" in out


def test_where_the_queue_is_known_it_is_recorded_how_long_each_attempt_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, held = tmp_path / "runs" / "a", HeldGpus("team-a", "vision", "a", "nvidia.com/gpu", 4)
    code, _ = finish(start(run, "train", "--version"))
    assert code == 0
    assert list(read_usage(Store.open(str(run)))) == []
    monkeypatch.setenv("RESNET_DIST_HELD_GPUS", held.to_json())
    code, _ = finish(start(run, "train", "--optimizer.learning-rate", "-1", submission="abc-2"))
    assert code == 2
    (record,) = read_usage(Store.open(str(run)))
    assert record is not None
    assert (record.held, record.has_ended) == (held, True)
    assert 0 <= (record.seen - record.began).total_seconds() < 120


def test_the_status_of_a_run_says_as_much(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path / "run")))
    run.write_status(Status(state="failed", submission="abc-1", exit_code=3))
    assert finish(start(tmp_path / "run", "train"))[0] == 3
    run.write_status(Status(state="failed", submission="abc-1", exit_code=1))
    assert finish(start(tmp_path / "run", "train", "--print-config"))[0] == 0


@pytest.mark.parametrize(
    ("sent", "ended", "said"),
    [
        (signal.SIGTERM, 143, "ended from outside (SIGTERM); the same command resumes"),
        (signal.SIGINT, 130, "interrupted; the same command resumes"),
    ],
)
def test_a_signal_reaches_the_command_and_its_end_is_kept(
    tmp_path: Path, sent: signal.Signals, ended: int, said: str
) -> None:
    # A fifo as the config file: the command waits in it, so that the signal always finds it there.
    fifo = tmp_path / "job.toml"
    os.mkfifo(fifo)
    process = start(tmp_path / "run", "train", "--config", str(fifo))
    with fifo.open("w") as writer:  # returns when the command has opened it
        process.send_signal(sent)
        code, out = finish(process)
        writer.close()
    assert code == ended, out
    assert said in out
    end = read_end(Store.open(str(tmp_path / "run")), "abc-1")
    assert end is not None
    assert end.exit_code == ended
    assert final_end(Store.open(str(tmp_path / "run")), "abc-1") is None  # another try resumes


def test_a_killed_command_leaves_its_record(tmp_path: Path) -> None:
    fifo = tmp_path / "job.toml"
    os.mkfifo(fifo)
    process = start(tmp_path / "run", "train", "--config", str(fifo))
    with fifo.open("w"):
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        code, out = finish(process)
    assert code == 137
    assert "ended by SIGKILL" in out
    end = read_end(Store.open(str(tmp_path / "run")), "abc-1")
    assert end is not None
    assert (end.exit_code, end.last_line) == (137, "error: the command was ended by SIGKILL")


def test_a_command_that_failed_starts_again_and_a_final_one_does_not(tmp_path: Path) -> None:
    fifo, store = tmp_path / "job.toml", Store.open(str(tmp_path / "run"))
    os.mkfifo(fifo)
    for _ in range(4):  # of pods that have ended: they use up no attempt
        earlier = DriverLog.begin(store, "abc-1", "train")
        earlier.add(b"epoch 1\n")
        earlier.end(143)
    process = start(tmp_path / "run", "train", "--config", str(fifo), retries="2", pause_s=0.1)
    with fifo.open("w"):
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        child.wait()
    with fifo.open("w") as writer:  # returns when the second attempt has opened it
        end = read_end(store, "abc-1")
        assert end is not None
        assert (end.exit_code, end.attempt) == (137, 5)
        writer.write("[optimizer]\nlearning_rate = -1\n")
    code, out = finish(process)
    assert code == 2, out
    assert "attempt 1 of 3 ended with exit code 137; the next begins in 0.1 s" in out
    end = read_end(store, "abc-1")
    assert end is not None
    assert (end.exit_code, end.attempt) == (2, 6)
    assert read_log(store, "abc-1").startswith("error: ")


def test_there_is_no_other_attempt_for_a_job_that_is_to_end(tmp_path: Path) -> None:
    fifo = tmp_path / "job.toml"
    os.mkfifo(fifo)
    process = start(tmp_path / "run", "train", "--config", str(fifo), retries="2")
    with fifo.open("w"):
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        child.wait()
        assert process.stdout is not None
        assert any("the next begins in 60 s" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 137


def test_where_its_pod_ends_the_command_does_and_the_entry_point_waits(tmp_path: Path) -> None:
    """If it ended, too, its job would count as failed, and would not be submitted to the next head."""
    fifo, store = tmp_path / "job.toml", Store.open(str(tmp_path / "run"))
    os.mkfifo(fifo)
    process = start(tmp_path / "run", "train", "--config", str(fifo), retries="2")
    with fifo.open("w") as writer:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert any("ended from outside (SIGTERM); the same command resumes" in line for line in process.stdout)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 143
        writer.close()
    end = read_end(store, "abc-1")
    assert end is not None
    assert (end.exit_code, end.attempt) == (143, 1)
    assert final_end(store, "abc-1") is None


def test_a_second_command_follows_the_first(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "run"))
    code, out = finish(start(tmp_path / "run", "train", "--print-config", "--then", "export", "--help"))
    assert code == 0, out
    assert out.index("[optimizer]") < out.index("train is done; export begins") < out.index("Usage: resnet-dist export")
    assert "Usage: resnet-dist export" in read_log(store, "abc-1")
    end = read_end(store, "abc-1")
    assert end is not None
    assert (end.verb, end.attempt, end.exit_code) == ("export", 2, 0)

    bad = ("train", "--optimizer.learning-rate", "-1", "--then", "export", "--help")
    code, out = finish(start(tmp_path / "run", *bad, submission="abc-2"))
    assert code == 2
    assert "export" not in out

    code, out = finish(
        start(tmp_path / "run", "train", "--print-config", "--then", "export", "a/b", submission="abc-3")
    )
    assert code == 3, out
    assert final_end(store, "abc-3") is not None


def test_a_later_start_goes_on_with_the_command_that_was_not_done(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "run"))
    words = ["train", "--config", "a", "--then", "export", "b"]
    train, export = ["train", "--config", "a"], ["export", "b"]
    assert commands_left(words, read_end(store, "abc-1")) == [train, export]
    for verb, code, left in (
        ("train", 143, [train, export]),
        ("train", 0, [export]),
        ("export", 143, [export]),
        ("export", 0, [export]),
        ("tune", 0, [train, export]),
    ):
        DriverLog.begin(store, "abc-1", verb).end(code)
        assert commands_left(words, read_end(store, "abc-1")) == left, (verb, code)
    DriverLog.begin(store, "abc-1", "train").end(0)
    assert commands_left(train, read_end(store, "abc-1")) == [train]
    code, out = finish(start(tmp_path / "run", "train", "--print-config", "--then", "export", "--help"))
    assert code == 0
    assert "[optimizer]" not in out


def test_that_an_attempt_runs_is_stored_as_soon_as_storage_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_EVERY_S", 0.05)
    (tmp_path / "run").write_text("no folder")  # nothing can be stored
    store = Store.open(str(tmp_path / "run"))
    log = DriverLog(store, "abc-1", "train", 2)
    stored = attempts._Storing(log, partial(log.begun, 2, 4), None)
    (tmp_path / "run").unlink()
    deadline = time.monotonic() + 60
    while read_begin(store, "abc-1") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    stored.end(0)
    assert read_begin(store, "abc-1") == DriverBegin("train", 2, 2, 4)


@pytest.mark.parametrize("retries", ["-1", "many", "1000"])
def test_retries_are_a_small_number(tmp_path: Path, retries: str) -> None:
    code, out = finish(start(tmp_path / "run", "train", retries=retries))
    assert code == 2
    assert "a number in RESNET_DIST_RETRIES" in out


def test_without_its_environment_it_says_who_starts_it(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path / "run", "train", submission="../../etc"))
    assert code == 2
    assert "`resnet-dist submit` starts this" in out
    assert not (tmp_path / "run").exists()


def test_a_log_that_cannot_be_kept_is_said_and_stops_no_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out = finish(start(tmp_path / "file" / "run", "train", "--print-config"))
    assert code == 0, out
    assert out.count("warning: this output cannot be stored: ") == 1


def test_a_place_that_is_none_is_unusable() -> None:
    environment = {**os.environ, "RESNET_DIST_SUBMISSION": "abc", "RESNET_DIST_RUN": "nowhere://bucket/run"}
    command = [sys.executable, "-m", "ray_jobs.submission.entrypoint", "train"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 3
    assert "storage 'nowhere://bucket/run' cannot be opened" in done.stderr
