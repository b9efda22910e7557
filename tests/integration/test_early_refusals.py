"""What cannot work is refused before torch, Ray or DALI is imported, each of which takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from tests.untrained_run import untrained_run

_SCRIPT = """
import contextlib, io, json, sys
from ray_jobs.cli.app import main
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(line)
    heavy = sorted({"torch", "ray", "nvidia.dali", "optuna"} & set(sys.modules))
    print(json.dumps([code, heavy, said.getvalue()]))
"""
SMALL = ("--data.root", "data", "--model.arch", "resnet18", "--model.weights", "none")


def refusals(folder: Path, *commands: tuple[str, ...]) -> list[tuple[int, list[str], str]]:
    """Of each command, in one new interpreter: exit code, what was imported that is slow, and what was said."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(commands)], capture_output=True, text=True, cwd=folder, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


WRONG = {
    ("train", "--data.root", "absent"): (3, "data.root=absent does not exist"),
    ("train",): (2, "data.root is not set"),
    ("train", "--config", "absent.toml"): (2, "absent.toml"),
    ("train", *SMALL, "--data.labels", "absent.csv"): (3, "absent.csv cannot be read"),
    ("train", "--data.root", "data", "--model.weights", "absent.pth"): (3, "weights file absent.pth does not exist"),
    ("train", "--data.root", "data", "--model.weights", "absent"): (3, "'absent' is no run"),
    ("train", *SMALL, "--distillation.teacher", "absent"): (3, "'absent' is no run"),
    ("train", *SMALL, "--distillation.temperature", "3"): (2, "distillation.teacher names none"),
    ("train", *SMALL, "--storage.root", "storage", "--distillation.teacher", "real"): (2, "size: 32 -> 224"),
    ("train", *SMALL, "--data.folds", "2", "--data.labels", "absent.csv"): (3, "absent.csv cannot be read"),
    ("train", *SMALL, "--checkpoint.keep-last", "99000000"): (3, "lower --checkpoint.keep-last=99000000"),
    ("tune", "--data.root", "absent"): (3, "data.root=absent does not exist"),
    ("tune", "--dry-run", "--data.root", "absent"): (3, "data.root=absent does not exist"),
    ("tune", *SMALL, "--distillation.teacher", "absent"): (3, "'absent' is no run"),
    ("tune", "--dry-run", *SMALL, "--distillation.teacher", "absent"): (3, "'absent' is no run"),
    ("tune", *SMALL, "--warm-start", "absent"): (2, "--warm-start absent"),
    ("tune", *SMALL, "--checkpoint.keep-last", "99000000"): (3, "lower --checkpoint.keep-last=99000000"),
    ("evaluate", "absent"): (3, "'absent' is no run"),
    ("evaluate", "real", "--checkpoint", "newest", "--storage.root", "storage"): (2, "--checkpoint newest"),
    ("evaluate", "real", "--data.root", "absent", "--storage.root", "storage"): (3, "data.root=absent does not exist"),
    ("export", "absent"): (3, "'absent' is no run"),
    ("report", "absent"): (3, "'absent' is no search"),
    ("benchmark", "absent"): (3, "has no bundle"),
    ("promote", "absent", "--as", "line7"): (3, "'absent' is no run"),
}


def test_what_is_not_there_is_refused_before_anything_slow_is_imported(folder: Path) -> None:
    untrained_run(folder, "real")
    for (command, (code, words)), (found, heavy, said) in zip(WRONG.items(), refusals(folder, *WRONG), strict=True):
        assert (found, heavy) == (code, []), f"{command}: {said}"
        assert words in said, command
        assert said.startswith("error: ")
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("command", ["train", "tune"])
def test_a_run_in_use_is_refused_before_anything_slow_is_imported(folder: Path, command: str) -> None:
    place = "runs/busy" if command == "train" else "searches/busy"
    # A heartbeat comes every quarter of an hour: it is not waited for.
    store = Store.open(str(folder / "outputs")).child(place)
    with take(store, submission="other", driver=ProcessIdentity.current(), ttl_s=3600.0):
        ((code, heavy, said),) = refusals(folder, (command, *SMALL, "--name", "busy"))
    assert (code, heavy) == (3, []), said
    assert "is being trained by another process" in said
