"""The records of a run are read as they were written, or refused by name; no kill leaves one that is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import difference, identity
from ray_jobs.job.preprocessing import preprocess_of
from ray_jobs.job.toml import check, print_config
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.records import RECORDS, SEAL
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import sealed
from tests.laws import examples

SPLIT = "sample_id,split,label,group,fold\r\na.png,train,left,,\r\n"


def job(**training: Any) -> JobConfig:
    return check({"name": "line", "training": training})


def dataset(ignored: int = 0, fingerprint: str = "f") -> dict[str, Any]:
    return {"schema": 1, "classes": ["left", "right"], "fingerprint": fingerprint, "ignored_files": ignored}


# What starts of one run may differ in: how long it trains, which images are too large, what else lies beside them.
STARTS = [
    (job(epochs=4), dataset()),
    (job(epochs=9), dataset(ignored=2)),
    (check({"name": "line", "data": {"max_pixels": 1000}, "training": {"epochs": 4}}), dataset()),
]


def start(run: RunDirectory, number: int) -> None:
    started, images = STARTS[number]
    run.write_records(started, images, SPLIT)


def make_unsealed(run: RunDirectory) -> None:
    """Make the run one of before records were sealed."""
    run.store.delete(SEAL)


def write_a_checkpoint(run: RunDirectory, step: int = 3) -> None:
    weights = {"weight": torch.zeros(2)}
    progress = Progress(step=step, epoch=1, step_in_epoch=0, microbatches=Microbatches(4, 0))
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        snapshot = Snapshot({"arch": "tiny"}, weights, {"raw_weights": weights}, progress)
        write_checkpoint(run.store, snapshot, lease.claim, lease.confirm, run.records.origin())


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(Store.open(str(tmp_path / "line")))
    start(run, 0)
    return run


@pytest.fixture
def trained(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run with a checkpoint."""
    monkeypatch.setattr("cluster.storage.lease._SETTLE_S", 0.0)  # nobody else is here to take it
    write_a_checkpoint(run)
    return run


READERS: dict[str, Callable[[RunDirectory], object]] = {
    "config.toml": RunDirectory.read_config,
    "dataset.json": RunDirectory.read_dataset,
    "split.csv": RunDirectory.read_split_csv,
    "preprocess.json": RunDirectory.read_preprocess,
}


def test_what_is_written_is_sealed_and_read(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    written = STARTS[0][0]
    assert run.read_config() == written
    assert (run.read_dataset().classes, run.read_dataset().fingerprint) == (("left", "right"), "f")
    assert run.read_split_csv() == SPLIT
    assert run.read_preprocess() == preprocess_of(written)
    assert run.identity() == identity(written, "f")
    seal = json.loads(run.store.read(SEAL))
    assert seal["records"].keys() == set(RECORDS)
    assert seal["identity"] == identity(written, "f")
    assert run.records.are_whole()
    assert not caplog.records


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("damage", ["digit", "truncated", "gone"])
def test_a_record_that_was_changed_is_made_anew_or_refused_by_name(
    run: RunDirectory, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run.store.read(name)
    match damage:
        case "digit":
            place = next(place for place, letter in enumerate(whole) if letter in b"0123456789abcdef"[1:])
            run.store.write(name, whole[:place] + b"0" + whole[place + 1 :])
        case "truncated":
            run.store.write(name, whole[: len(whole) // 2])
        case _:
            run.store.delete(name)
    assert not run.records.are_whole()
    if name == "preprocess.json":
        assert run.read_preprocess() == preprocess_of(STARTS[0][0])
        assert "preprocess.json" in caplog.text
        assert "config.toml is gone by" in caplog.text
    else:
        with pytest.raises(RunError, match=rf"/{name} is not as it was sealed|has no {name}") as refused:
            READERS[name](run)
        assert "restore it, or start the command" in str(refused.value)
    assert run.identity() == identity(STARTS[0][0], "f"), "no damage hides what the run is"
    start(run, 0)
    assert run.store.read(name) == whole
    assert run.records.are_whole()
    assert f"{name} was missing or changed: it is made anew" in caplog.text


def test_preprocessing_is_not_believed_when_config_and_file_were_both_changed(run: RunDirectory) -> None:
    for name in ("config.toml", "preprocess.json"):
        run.store.write(name, run.store.read(name).replace(b"0.485", b"0.475"))
    with pytest.raises(RunError, match=r"config\.toml is not as it was sealed"):
        run.read_preprocess()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema": ' + b"9" * 5000 + b"}",
        b'{"schema": 1e999}',
        b'{"schema": NaN}',
        sealed({}),
        sealed({"schema": 2, "identity": {}, "records": {}}),
        sealed({"schema": 1, "identity": [], "records": {}}),
        sealed({"schema": 1, "identity": {}, "records": ["config.toml"]}),
        sealed({"schema": 1, "identity": {}, "records": {}, "replaced": 3}),
    ],
)
def test_a_damaged_seal_is_refused_by_name_and_made_anew(run: RunDirectory, content: bytes) -> None:
    whole = run.store.read(SEAL)
    run.store.write(SEAL, content)
    for read in READERS.values():
        with pytest.raises(RunError, match=r"/records\.json cannot be used") as refused:
            read(run)
        assert len(str(refused.value)) < 500
    assert not run.records.are_whole()
    start(run, 0)
    assert run.store.read(SEAL) == whole


def test_one_changed_letter_of_the_seal_is_detected(run: RunDirectory) -> None:
    run.store.write(SEAL, run.store.read(SEAL).replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(RunError, match="its own hash does not fit"):
        run.read_config()


def test_a_seal_that_checkpoints_name_cannot_be_lost(trained: RunDirectory) -> None:
    """Else a deleted file would make a sealed run one of before."""
    trained.store.delete(SEAL)
    for read in READERS.values():
        with pytest.raises(RunError, match=r"has no records\.json, which its checkpoints name"):
            read(trained)
    start(trained, 1)
    assert trained.read_config() == STARTS[1][0]
    assert trained.checkpoint("last").step == 3


@pytest.mark.parametrize("lost", [("config.toml",), (SEAL,), ("config.toml", SEAL), (*RECORDS, SEAL)])
def test_a_run_stays_what_it_is_whatever_records_are_lost(trained: RunDirectory, lost: tuple[str, ...]) -> None:
    for name in lost:
        trained.store.delete(name)
    found = trained.identity()
    assert found is not None
    assert difference(found, identity(job(epochs=9), "f")) == []
    assert difference(found, identity(job(epochs=4), "g")) == ["data fingerprint: f -> g"]


def test_the_manifest_names_the_seal_of_its_time(trained: RunDirectory) -> None:
    named = trained.checkpoint("last").origin
    assert named is not None
    assert named.records == hashlib.sha256(trained.store.read(SEAL)).hexdigest()
    assert named.identity == identity(STARTS[0][0], "f")
    start(trained, 1)  # more epochs: another config.toml, and the same run
    assert named.records != hashlib.sha256(trained.store.read(SEAL)).hexdigest()
    assert trained.checkpoint("last").step == 3


def test_records_of_another_run_are_refused(trained: RunDirectory, tmp_path: Path) -> None:
    other = RunDirectory(Store.open(str(tmp_path / "other")))
    other.write_records(check({"name": "line", "optimizer": {"learning_rate": 0.5}}), dataset(), SPLIT)
    for name in (*RECORDS, SEAL):
        trained.store.write(name, other.store.read(name))
    with pytest.raises(RunError, match=r"records\.json is of another run than step-00000003") as refused:
        trained.checkpoint("last")
    assert "optimizer.learning_rate: 0.01 -> 0.5" in str(refused.value)
    found = trained.identity()
    assert found is not None
    assert found["optimizer.learning_rate"] == 0.01, "the weights say what the run is"


def test_a_run_of_before_is_read_with_a_warning_and_sealed_by_its_next_start(
    run: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    make_unsealed(run)
    for read in READERS.values():
        read(run)
    assert [record.message for record in caplog.records] == [
        f"{run.uri} has no records.json: an earlier version began the run, and whether its records have changed since "
        "cannot be told; its next start seals them"
    ]
    assert run.identity() == identity(STARTS[0][0], "f")
    assert run.records.origin() is None
    caplog.clear()
    start(run, 0)
    assert "was begun by an earlier version" in caplog.text
    assert run.records.are_whole()
    caplog.clear()
    start(run, 0)
    assert not caplog.records


def test_in_a_run_of_before_preprocessing_must_follow_from_the_config(run: RunDirectory) -> None:
    make_unsealed(run)
    run.store.write("preprocess.json", run.store.read("preprocess.json").replace(b"0.485", b"0.475"))
    with pytest.raises(RunError, match=r"preprocess\.json is not what follows from config\.toml"):
        run.read_preprocess()


NONSENSE = [
    b"\xff\xfe",
    b"[" * 100_000,
    b"a = " + b"[" * 100_000,
    b"3",
    b'{"classes": 3, "fingerprint": 4}',
    b'{"classes": ' + b"9" * 5000 + b"}",
    b'training = { epochs = "many" }',
    b"seed = " + b"9" * 5000,
    b"seed = 1e999",
]


@pytest.mark.parametrize("name", ["config.toml", "dataset.json", "preprocess.json"])
@pytest.mark.parametrize("content", NONSENSE)
def test_nonsense_in_an_unsealed_record_is_one_message(run: RunDirectory, name: str, content: bytes) -> None:
    make_unsealed(run)
    run.store.write(name, content)
    with pytest.raises(RunError) as refused:
        READERS[name](run)
    assert name in str(refused.value)
    assert len(str(refused.value)) < 1500


def test_a_run_of_before_without_its_config_is_refused(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.storage.lease._SETTLE_S", 0.0)
    make_unsealed(run)
    write_a_checkpoint(run)
    assert run.identity() is not None
    run.store.delete("config.toml")
    with pytest.raises(RunError, match=r"has checkpoints and no config\.toml; restore it"):
        run.identity()


@pytest.mark.parametrize("name", ["config.toml", "dataset.json"])
def test_what_a_run_of_before_is_cannot_be_told_from_half_a_record(run: RunDirectory, name: str) -> None:
    """A start cannot make it anew, so the remedy is another one."""
    make_unsealed(run)
    run.store.write(name, b'{"')
    with pytest.raises(RunError, match=rf"{name} can(.|\n)*; restore it, or choose another --name: "):
        run.identity()


class StartedMeanwhile(Store):
    """A folder in which another start replaces the records right after config.toml was read."""

    has_started = False

    def read(self, path: str, most: int | None = None) -> bytes:
        data = super().read(path, most)
        if path == "config.toml" and not self.has_started:
            self.has_started = True
            start(RunDirectory(Store.open(self.uri)), 1)
        return data


def test_who_reads_while_a_start_replaces_the_records_reads_the_new_ones(run: RunDirectory) -> None:
    store = StartedMeanwhile.open(run.uri)
    assert RunDirectory(store).read_config() == STARTS[1][0]
    assert store.has_started


def test_an_identity_of_a_version_that_knew_fewer_fields_is_the_same_one(run: RunDirectory) -> None:
    known = json.loads(run.store.read(SEAL))
    del known["sha256"], known["identity"]["training.logit_adjustment"]
    run.store.write(SEAL, sealed(known))
    found = run.identity()
    assert found is not None
    assert difference(found, identity(STARTS[0][0], "f")) == []
    start(run, 0)
    assert json.loads(run.store.read(SEAL))["identity"] == identity(STARTS[0][0], "f")


def test_a_start_that_changes_nothing_writes_nothing(run: RunDirectory) -> None:
    folder = Path(run.uri)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    start(run, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


class Killed(BaseException):
    """The process is gone."""


class DyingStore(Store):
    """A folder whose writer is killed before its write number `left`."""

    left = 0

    def write(self, path: str, data: bytes) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().write(path, data)


def killed_start(folder: Path, number: int, writes: int) -> bool:
    """Whether a start was killed before it had written all."""
    store = DyingStore.open(str(folder))
    store.left = writes
    try:
        start(RunDirectory(store), number)
    except Killed:
        return True
    return False


def assert_readable(folder: Path, started: list[int]) -> None:
    """Every reader reads what one of the starts wrote."""
    run = RunDirectory(Store.open(str(folder)))
    if run.exists():
        jobs, images = zip(*(STARTS[number] for number in started), strict=True)
        assert run.read_config() in jobs
        assert run.read_preprocess() in [preprocess_of(each) for each in jobs]
        assert json.loads(run.records.read("dataset.json")) in images
        assert run.read_split_csv() == SPLIT


@pytest.mark.parametrize("sealed_before", [True, False])
@pytest.mark.parametrize("second", [0, 1, 2])
def test_a_kill_between_any_two_writes_refuses_nothing(tmp_path: Path, second: int, *, sealed_before: bool) -> None:
    most = 0
    for writes in range(6):
        folder = tmp_path / str(writes)
        run = RunDirectory(Store.open(str(folder)))
        start(run, 0)
        if not sealed_before:
            make_unsealed(run)
        was_killed = killed_start(folder, second, writes)
        assert_readable(folder, [0, second])
        start(run, 1)
        assert run.records.are_whole()
        assert "replaced" not in json.loads(run.store.read(SEAL))
        most += was_killed
    assert most == {(True, 0): 0, (False, 0): 1}.get((sealed_before, second), 4)


@settings(max_examples=examples(0.4))
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=4), st.integers(0, 2))
def test_however_many_starts_are_killed_the_next_one_makes_the_run_whole(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[int, int]], last: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for number, writes in kills:
        killed_start(folder, number, writes)
        assert_readable(folder, [number for number, _ in kills])
    run = RunDirectory(Store.open(str(folder)))
    start(run, last)
    assert run.read_config() == STARTS[last][0]
    assert run.records.are_whole()
    assert run.store.read("config.toml") == print_config(STARTS[last][0]).encode()
