"""One job trains and then exports, as its entry point runs on a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.training import job_for, write_images
from cluster.storage.store import Store
from ray_jobs.job.toml import print_config
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import read_end, read_log
from resnet_dist.runtime.bundle import Bundle

pytestmark = pytest.mark.slow


def entry_point(folder: Path, submission: str, *then: str) -> tuple[int, str]:
    run = folder / "outputs/runs/tiles"
    config = ("--config", str(folder / "job.toml"))
    words = ("train", *config, "--then", "export", str(run), *then, *config)
    environment = {**os.environ, "RESNET_DIST_SUBMISSION": submission, "RESNET_DIST_RUN": str(run)}
    command = [sys.executable, "-m", "ray_jobs.submission.entrypoint", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    return done.returncode, done.stdout + done.stderr


def test_a_trained_run_is_exported_and_a_refused_export_is_the_jobs_end(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    job = job_for(tmp_path, tmp_path / "outputs", "tiles", epochs=2)
    (tmp_path / "job.toml").write_text(print_config(job))
    code, out = entry_point(tmp_path, "abc-1", "--formats", "onnx")
    assert code == 0, out
    run = RunDirectory.named(str(tmp_path / "outputs"), "tiles")
    status = run.read_status()
    assert status is not None
    assert (status.state, status.epoch) == ("done", 2)
    assert set(Bundle.open(tmp_path / "outputs/runs/tiles/bundle").formats) == {"onnx"}
    end = read_end(run.store, "abc-1")
    assert end is not None
    assert (end.verb, end.exit_code) == ("export", 0)

    # Another submission of the same: nothing is trained again, and an export that is refused ends the job for good.
    store = Store.open(str(tmp_path / "outputs/runs/tiles"))
    code, out = entry_point(tmp_path, "abc-2", "--formats", "tflite")
    assert code == 2, out
    assert "epoch 1" not in read_log(store, "abc-2")
    end = read_end(store, "abc-2")
    assert end is not None
    assert (end.verb, end.exit_code) == ("export", code)
