"""Whatever a record in storage holds, it is read, passed over, or refused with the error of its kind."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage.lease import read_history, take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from data_pipeline.errors import DataError
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache
from data_pipeline.splits.assign import SplitRow, read_split_csv, write_split_csv
from ray_jobs.bundles.registry import PRODUCTION, BundleRegistry, PromotedVersion
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import check
from ray_jobs.prediction.parts import PartFolder
from ray_jobs.prediction.tally import Tally
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverLog, read_end
from ray_jobs.run.records import CONFIG, DATASET, PREPROCESS, SEAL, SPLIT
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.trackers.high_water_mark import HighWaterMark
from resnet_dist.checkpoint.manifest import read_manifest
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress, progress_of
from resnet_dist.errors import RunError
from resnet_dist.run_records import MetricLog, Status, read_metrics
from resnet_dist.runtime.errors import BundleError
from tests.fuzzing import cases, damaged, damaged_json, fuzz

CLAIM = (1, "token")
HOW = {"bundle": "b"}
FILES = {"model.json": {"size": 1, "sha256": "0" * 64}}
WORDS = (
    b"null",
    b"NaN",
    b"1e999",
    b"{",
    b"[" * 3000,
    b"9" * 400,
    b"9" * 5000,
    b'"',
    b"\xff",
    b"\\ud800",
    b"-1",
    b"true",
)


def written(folder: Path) -> dict[str, bytes]:
    """The records of a run, a search, a prediction and this machine, as the code itself writes them, by path."""
    store = Store.open(str(folder))
    with take(store, submission="s", driver=ProcessIdentity.current(), ttl_s=60.0):
        pass
    status = Status(state="running", submission="s", metrics={"val/loss": 0.5, "x": float("nan")})
    RunDirectory(store).write_status(status)
    metrics = MetricLog(store, CLAIM)
    metrics.append({"step": 1, "val/loss": 0.5})
    metrics.flush()
    DriverLog.begin(store, "s", "train").end(0)
    trial = TrialRecord(number=0, params={"a.b": 1.5}, is_default=True, history=({"epoch": 1, "val/loss": 0.5},))
    SearchDirectory(store.child("search")).write_trial(trial)
    parts = PartFolder.claim(store.child("parts"), "csv", HOW, ["a.png", "b.png"], 1)
    parts.write(0, b"", Tally())
    HighWaterMark(folder / "told.json").record(1, ["val/loss"])
    ScanCache(folder / "scan.json").save({("a.png", 1, 1): ReadableFile("0" * 32, 1, 1, True)})
    registry = BundleRegistry(str(folder), "b")
    registry.set_production(PromotedVersion(1, "0" * 64, None, "run"))
    manifest = {"schema": 1, "step": 1, "generation": 1, "token": "token", "metrics": {"val/loss": 0.5}, "files": FILES}
    store.write("checkpoints/step-00000001/manifest.json", json.dumps(manifest).encode())
    progress = Progress(1, 0, 1, Microbatches(8, 0), best=Best(1, 0.5, "val/loss"), metrics={"val/loss": 0.5})
    store.write("progress.json", json.dumps(progress.to_json()).encode())
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.json*")]
    return {path: (folder / path).read_bytes() for path in sorted(paths)}


def claimed(store: Store, second: str = "b.png") -> PartFolder:
    return PartFolder.claim(store.child("parts"), "csv", HOW, ["a.png", second], 1)


Reader = Callable[[Store], object]
READERS: dict[str, tuple[str, Reader, tuple[type[Exception], ...]]] = {
    "lease": ("lease.json", read_history, (StorageError,)),
    "status": ("status.json", lambda store: RunDirectory(store).read_status(), ()),
    "metrics": ("metrics/part-000001-000000.jsonl", lambda store: read_metrics(store, {CLAIM}), (RunError,)),
    "driver log": ("logs/driver-s.json", lambda store: read_end(store, "s"), ()),
    "trial": ("trials/*/trial.json", lambda store: SearchDirectory(store.child("search")).read_trials(), (RunError,)),
    "parts": ("_state/manifest.json", claimed, (StorageError, DataError)),
    "part's list": ("list/00001.json", lambda store: claimed(store, "c.png"), (StorageError, DataError)),
    "part's paths": ("list/00001.json", lambda store: claimed(store).paths(1), (StorageError,)),
    "part's counts": ("done/00000.json", lambda store: claimed(store).tally(), (StorageError,)),
    "mark": ("told.json", lambda store: HighWaterMark(Path(store.uri) / "told.json"), ()),
    "scan": ("scan.json", lambda store: ScanCache(Path(store.uri) / "scan.json").load(), ()),
    "production": (PRODUCTION, lambda store: BundleRegistry(store.uri, "b").production(), (BundleError,)),
    "manifest": ("step-00000001/manifest.json", lambda store: read_manifest(store, 1, {CLAIM}), (RunError,)),
    "progress": ("progress.json", lambda store: progress_of("step-1", 1, store.read("progress.json")), (RunError,)),
}
"""By kind: the file, what reads it, and the errors that say it cannot."""


def sealed_anew(chance: random.Random, text: str) -> str:
    """The record with a hash of its own that fits what was changed, where it is one that can be hashed."""
    try:
        value = json.loads(text)
        value.pop("sha256", None)
        if chance.random() < 0.2:
            return json.dumps(value)
        hashed = json.dumps(value, indent=2) + "\n" if chance.random() < 0.5 else json.dumps(value)
        return json.dumps({**value, "sha256": hashlib.sha256(hashed.encode()).hexdigest()}, indent=2) + "\n"
    except (ValueError, RecursionError, AttributeError, TypeError):
        return text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with all records, and these; a test leaves them as they are."""
    folder = tmp_path_factory.mktemp("records")
    return folder, written(folder)


@pytest.mark.parametrize("kind", READERS)
def test_a_record_is_read_passed_over_or_refused(kind: str, made: tuple[Path, dict[str, bytes]]):
    pattern, read, allowed = READERS[kind]
    folder, records = made
    store = Store.open(str(folder))
    (path,) = [path for path in records if Path(path).match(pattern)]
    # What was copied for safety is damaged alike.
    places = [each for each in (path, "lease-copy.json") if each == path or path == "lease.json"]
    lines = records[path].decode().splitlines() if path.endswith(".jsonl") else []

    def make(chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return damaged(chance, records[path], WORDS)
        if lines:
            at = chance.randrange(len(lines))
            changed = damaged_json(chance, json.loads(lines[at]))
            return "\n".join([*lines[:at], changed, *lines[at + 1 :], ""]).encode("utf-8", "surrogatepass")
        text = damaged_json(chance, json.loads(records[path]))
        return sealed_anew(chance, text).encode("utf-8", "surrogatepass")

    def read_again(data: bytes) -> object:
        for place in places:
            (folder / place).write_bytes(data)
        return read(store)

    numbers = cases(40, 700)
    try:
        good = fuzz(f"record {kind}", numbers, make, read_again, allowed)
    finally:
        for place in places:
            (folder / place).write_bytes(records[place])
    assert good == len(numbers) if not allowed else good < len(numbers)


def test_a_run_with_a_damaged_record_is_read_or_refused(tmp_path: Path):
    """Sealed, sealed anew, or as runs of before that were not."""
    run = RunDirectory(Store.open(str(tmp_path)))
    split = write_split_csv([SplitRow("a.png", "train", "good", None, None), SplitRow("b.png", "val", "bad", "g", 1)])
    run.write_records(
        check({"name": "r", "data": {"root": "/d"}}), {"classes": ["bad", "good"], "fingerprint": "f"}, split
    )
    whole = {name: (tmp_path / name).read_bytes() for name in (SEAL, CONFIG, DATASET, SPLIT, PREPROCESS)}

    def make(chance: random.Random) -> dict[str, bytes]:
        name = chance.choice(list(whole))
        if name.endswith(".json") and chance.random() < 0.7:
            text = damaged_json(chance, json.loads(whole[name]))
            data = (sealed_anew(chance, text) if name == SEAL else text).encode("utf-8", "surrogatepass")
        else:
            data = damaged(chance, whole[name], WORDS, most=2)
        written = {**whole, name: data}
        if name != SEAL and chance.random() < 0.6:
            del written[SEAL]
        return written

    def read(files: dict[str, bytes]) -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        again = RunDirectory(Store.open(str(tmp_path)))
        again.identity()
        again.read_config()
        again.read_dataset()
        again.read_preprocess()
        read_split_csv(again.read_split_csv())

    numbers = cases(100, 3000)
    assert fuzz("run", numbers, make, read, (RunError, ConfigError, DataError)) < len(numbers)
