"""The functions behind the commands: each command has one, and none prints."""

import inspect
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import sklearn  # noqa: F401 - its OpenMP sets variables of this process when it is first loaded
from cyclopts import App

from cluster.kube.client.kinds import RAY_JOB
from data_pipeline.config import DataConfig
from ray_jobs import api
from ray_jobs.cli.app import app
from ray_jobs.job.team_toml import example_team
from ray_jobs.job.toml import check
from ray_jobs.submission.command import PoolFlags, SubmitCommand
from ray_jobs.submission.watch import JobPlace
from ray_jobs.terminal.console import progress_console
from ray_jobs.terminal.watcher import note, watched
from tests.kube_server.operators import Operators
from tests.kube_server.server import KubeServer

OTHER_NAMES = {
    "data sample": "sample",
    "data inspect": "inspect",
    "data diff": "diff",
    "data split": "split",
    "submit": "submit_to_pool",
}
"""Commands whose function is not simply called after them."""
TILES = check({"name": "tiles", "data": {"root": "s3://bucket/tiles"}, "storage": {"root": "s3://bucket/out"}})


@pytest.fixture(autouse=True)
def nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> Generator[None]:
    yield
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def server(kube_server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeServer:
    monkeypatch.setenv("KUBECONFIG", str(kube_server.kubeconfig(tmp_path)))
    return kube_server


def commands(program: App, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name in program:
        if name.startswith("-"):
            continue
        below = program[name]
        found += commands(below, f"{name} ") if below.default_command is None else [f"{prefix}{name}"]
    return found


def test_every_command_has_a_function_that_is_described() -> None:
    names = commands(app)
    assert {"train", "jobs wait", "queue show", "data split", "doctor"} <= set(names)
    for name in names:
        if name == "completion":
            continue  # it prints what the command line itself is
        function = getattr(api, OTHER_NAMES.get(name, name.replace(" ", "_")))
        assert inspect.getdoc(function)
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())


def test_a_sample_is_written_and_split(tmp_path: Path) -> None:
    api.sample("digits", tmp_path / "digits")
    done = api.split(DataConfig(root=str(tmp_path / "digits")), tmp_path / "split.csv", seed=3)
    assert sum(done.counts.values()) == 1797
    assert (tmp_path / "split.csv").is_file()


def test_a_bundle_answers_images(bundle_folder: Path, image_files: Any, tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(image_files.encode(image_files.photo(48, 40, seed=seed), "PNG"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = dict(api.predict(str(bundle_folder), [str(tmp_path)]))
    assert [Path(path).name for path in found] == ["0.png", "1.png", "2.png", "broken.png"]
    assert [answer.error is None for answer in found.values()] == [True, True, True, False]


def test_a_machine_is_checked(tmp_path: Path) -> None:
    job = check({"model": {"weights": "none"}, "storage": {"root": str(tmp_path)}})
    found = api.doctor(job)
    assert found
    assert {each.node for each in found} == {""}


def test_objects_need_no_cluster() -> None:
    manifest = api.job_objects(SubmitCommand("train", TILES), PoolFlags(team="vision"))
    assert manifest.ray_job["metadata"]["namespace"] == "vision"
    assert "name: vision" in api.queue_objects(example_team("vision")).as_yaml()


def test_a_job_is_submitted_looked_at_and_waited_for(server: KubeServer) -> None:
    place, lines = JobPlace(), list[str]()
    job = api.submit_to_pool(SubmitCommand("train", TILES), PoolFlags())
    assert (job.namespace, job.view.name) == ("default", "tiles")
    assert [view.name for view in api.jobs_list(place)] == ["tiles"]
    operators = Operators(server)
    operators.start("tiles")
    operators.run("tiles")
    operators.say("tiles", "epoch 1")
    assert list(api.jobs_logs("tiles", place)) == ["epoch 1"]
    operators.fail("tiles", 3)
    assert api.jobs_wait("tiles", place, say=lines.append) == 3
    assert lines[-1].startswith("tiles: failed")
    assert api.jobs_stop("tiles", place).state == "stopped"
    assert server.store.objects(RAY_JOB, "default") == []


def test_progress_is_shown_to_who_watches_only(capfd: pytest.CaptureFixture[str]) -> None:
    progress_console().print("to nobody")
    note("to nobody")
    with watched():
        with watched():
            pass
        progress_console().print("to a person")
        note("to a person, too")
    note("to nobody again")
    assert capfd.readouterr() == ("to a person\n", "to a person, too\n")
