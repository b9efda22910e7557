"""`runs` and `searches`: what storage holds, with what is damaged in rows of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from ray_jobs.cli.app import main
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.toml import print_search, read_search_text
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.run_records import Status
from tests.untrained_run import untrained_run

SEARCH = 'trials = 3\n[space]\n"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }\n'


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and searches in every state."""
    root = untrained_run(tmp_path_factory.mktemp("listings"), "tiles")
    tiles = RunDirectory.named(str(root), "tiles")
    tiles.write_status(Status("done", "s", step=2, epoch=1, epochs=1, message="finished after 1 epoch"))
    progress = Progress(2, 1, 0, Microbatches(4, 0), best=Best(2, 0.875, "val/top1"))
    with take(tiles.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        write_checkpoint(tiles.store, Snapshot({}, {}, {}, progress), lease.claim, lease.confirm)
    for name in ("empty", "folded", "garbled", "begun"):
        (root / "runs" / name).mkdir()
    (root / "runs" / "folded" / "folds.json").write_text("{}")
    (root / "runs" / "begun" / "config.toml").write_text("name = 3")
    (root / "runs" / "garbled" / "config.toml").write_text("")
    (root / "runs" / "garbled" / "status.json").write_bytes(b"\xff{")
    killed = RunDirectory.named(str(root), "killed")
    killed.write_status(Status("running", "s", epoch=1, epochs=9))
    # A lease whose holder has ended without a word.
    holder = "from cluster.storage.lease import take; from cluster.storage.process_identity import ProcessIdentity; "
    holder += "from cluster.storage.store import Store; import os, sys; me = ProcessIdentity.current(); "
    holder += "take(Store.open(sys.argv[1]), submission='s', driver=me, ttl_s=30.0); os._exit(0)"
    subprocess.run([sys.executable, "-c", holder, str(root / "runs/killed")], check=True)
    failed = Status("failed", "s", epoch=2, epochs=9, message="no room\nmore")
    RunDirectory.named(str(root), "broken").write_status(failed)

    config, space = read_search_text(SEARCH, "a test")
    for name in ("rates", "torn"):
        search = SearchDirectory.named(str(root), name)
        search.store.write("search.toml", print_search(config, space).encode())
        search.claim({"a": 1}, 1.8e9)
        for number, value in enumerate((0.5, 0.75)):
            params = {"optimizer.learning_rate": 0.01 * (number + 1)}
            history = ({"epoch": 1.0, "val/macro_f1": value},)
            record = TrialRecord(number, params, number == 0, "finished", (value,), history, ended_s=60.0 * number)
            search.write_trial(record)
    (torn,) = [each for each in (root / "searches/torn/trials").glob("*/trial.json") if b"0.75" in each.read_bytes()]
    torn.write_bytes(b"{}")
    (root / "searches" / "empty").mkdir()
    old = SearchDirectory.named(str(root), "old")  # as an early version wrote it: without a seal
    old.store.write("search.toml", print_search(config, space).encode())
    old.store.write("identity.json", b'{"schema": 1, "began": NaN, "identity": {}}')
    return root


def answer(capsys: pytest.CaptureFixture[str], storage: Path, *words: str) -> Any:
    assert main([*words, "--json", "--storage.root", str(storage)]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_run_is_a_row_whatever_state_it_is_in(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, storage, "runs", "list")
    assert found["left_out"] == 0
    rows = {row["name"]: row for row in found["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "tiles": "done",
        "broken": "failed",
        "killed": "interrupted",
        "begun": "unknown",
        "empty": "damaged",
        "folded": "folds",
        "garbled": "damaged",
    }
    assert (rows["broken"]["epoch"], rows["broken"]["epochs"], rows["broken"]["problem"]) == (2, 9, "no room")
    assert {row["name"] for row in found["rows"][:3]} == {"tiles", "broken", "killed"}, "the last updated come first"
    assert "status.json" in rows["garbled"]["problem"]
    assert main(["runs", "list", "--storage.root", str(storage)]) == 0
    shown = capsys.readouterr().out
    assert "empty: it has no config.toml" in shown
    assert "broken: no room" in shown
    assert "finished after 1 epoch" not in shown, "what went well is no problem"
    assert "2/9" in shown
    assert "top1 0.8750" in shown


def test_only_so_many_are_read_and_the_others_are_counted(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, storage, "runs", "list", "--limit", "2")
    assert ({row["name"] for row in found["rows"]}, found["left_out"]) == ({"begun", "broken"}, 5)
    assert main(["runs", "list", "--limit", "2", "--storage.root", str(storage)]) == 0
    assert "5 more are not read; --limit 7 reads all" in capsys.readouterr().out
    assert main(["runs", "list", "--limit", "0", "--storage.root", str(storage)]) == 2
    assert main(["runs", "list", "--storage.root", str(storage / "nowhere")]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_a_run_is_shown_with_what_is_stored_of_it(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, storage, "runs", "show", "tiles")
    assert (found["arch"], found["classes"], found["checkpoints"]) == ("resnet18", ["crack", "good", "hole"], [1, 2])
    assert (found["row"]["state"], found["problems"], found["has_bundle"]) == ("done", [], False)
    assert main(["runs", "show", "tiles", "--storage.root", str(storage)]) == 0
    shown = capsys.readouterr().out
    assert "tiles: done" in shown
    assert "best: top1 0.8750 at step 2" in shown
    assert "3 classes: crack, good, hole" in shown
    assert main(["runs", "show", "begun", "--storage.root", str(storage)]) == 0
    assert "damaged: " in capsys.readouterr().out
    assert main(["runs", "show", "absent", "--storage.root", str(storage)]) == 3
    assert "'absent' is no run" in capsys.readouterr().err


def test_every_search_is_a_row(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, storage, "searches", "list")
    rows = {row["name"]: row for row in found["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "rates": "unfinished",
        "torn": "damaged",
        "empty": "damaged",
        "old": "damaged",
    }
    rates = rows["rates"]
    assert (rates["trials"], rates["wanted"], rates["epochs"], rates["best"]) == (2, 3, 2, 0.75)
    assert (rates["objective"], rates["updated"]) == ("val/macro_f1", "2027-01-15T08:01:00+00:00")
    assert "trial.json is damaged" in rows["torn"]["problem"]
    assert main(["searches", "list", "--storage.root", str(storage)]) == 0
    shown = capsys.readouterr().out
    assert "macro_f1 0.7500" in shown
    assert "empty: it has no search.toml" in shown
