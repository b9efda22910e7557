"""A checkpoint is complete or absent, whatever happens to its files."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import StorageError
from cluster.storage.store import Store
from resnet_dist.checkpoint.background_writer import BackgroundWriter
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.manifest import Origin, newest_origin
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress, best_stored, better, latest_progress
from resnet_dist.checkpoint.reading import latest_verified, load
from resnet_dist.checkpoint.writing import CheckpointFolder, prune, write_checkpoint
from resnet_dist.errors import RunError
from tests.laws import examples

CLAIM = (1, "token")
BEST = Best(2, 0.5, "val/top1")
FILES = ("model.json", "weights.safetensors", "training_state.pt", "progress.json", "manifest.json")


def snapshot(step: int, top1: float | None = None, *, owed: bool = False) -> Snapshot:
    value = torch.arange(6.0).reshape(2, 3) + step
    metrics = None if top1 is None else {"val/top1": top1, "val/loss": float("nan")}
    return Snapshot(
        model={"arch": "tiny"},
        weights={"weight": value},
        training_state={"raw_weights": {"weight": value}, "optimizer": {"state": {0: {"moment": value}}}},
        progress=Progress(
            step=step,
            epoch=1,
            step_in_epoch=0,
            microbatches=Microbatches(4, 0),
            validation_owed=owed,
            metrics=metrics,
            best=BEST,
        ),
    )


def write(store: Store, step: int, top1: float | None = None, claim: tuple[int, str] = CLAIM) -> None:
    write_checkpoint(store, snapshot(step, top1), claim, lambda: None)


@pytest.fixture
def two(tmp_path: Path) -> Store:
    """A store with the checkpoints of steps 10 and 20."""
    store = Store.open(str(tmp_path / "run"))
    write(store, 10, 0.9)
    write(store, 20, 0.8)
    return store


def test_round_trip(two: Store) -> None:
    found = load(two, "last", {CLAIM})
    assert (found.step, found.name) == (20, "step-00000020")
    assert torch.equal(found.weights()["weight"], snapshot(20).weights["weight"])
    assert found.training_state()["optimizer"]["state"][0]["moment"].sum() == 135
    assert found.progress.best == BEST
    assert found.progress.metrics is not None
    assert found.progress.metrics["val/loss"] != found.progress.metrics["val/loss"]
    assert load(two, "best", {CLAIM}).step == 10
    assert load(two, 10, {CLAIM}).model_json() == {"arch": "tiny"}
    with pytest.raises(RunError, match="no checkpoint of step 15; there are 10, 20"):
        load(two, 15, {CLAIM})


def test_a_manifest_says_what_the_checkpoint_was_trained_as(two: Store) -> None:
    assert load(two, "last", {CLAIM}).origin is None
    assert newest_origin(two, {CLAIM}) is None
    origin = Origin("ab" * 32, {"seed": 0, "data.mean": [0.5, 0.25]})
    write_checkpoint(two, snapshot(15), CLAIM, lambda: None, origin)
    assert load(two, 15, {CLAIM}).origin == origin
    assert newest_origin(two, {CLAIM}) == origin, "the newest one says nothing"
    assert newest_origin(two, {(2, "other")}) is None
    path = "checkpoints/step-00000015/manifest.json"
    two.write(path, two.read(path).replace(b'"seed": 0', b'"seed": 1'))
    assert newest_origin(two, {CLAIM}) is None


@settings(max_examples=examples(0.4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_the_newest_falls_back_to_the_one_before_and_says_so(two: Store, data: st.DataObject) -> None:
    folder = Path(two.uri) / "checkpoints" / "step-00000020"
    kept = {name: (folder / name).read_bytes() for name in FILES}
    name = data.draw(st.sampled_from(FILES))
    content = bytearray(kept[name])
    match data.draw(st.sampled_from(["truncate", "flip", "delete"])):
        case "truncate":
            (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        case "flip":
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] ^= 1 << data.draw(st.integers(0, 7))
            (folder / name).write_bytes(content)
        case _:
            for each in FILES[FILES.index(name) :]:
                (folder / each).unlink()
    said: list[str] = []
    found = latest_verified(two, {CLAIM}, said.append)
    assert found is not None
    assert found.step == 10
    assert torch.equal(found.weights()["weight"], snapshot(10).weights["weight"])
    assert len(said) == 1
    assert "step-00000020" in said[0]
    for each, original in kept.items():
        (folder / each).write_bytes(original)


@pytest.mark.parametrize(
    ("written", "changed"), [(b'"val/top1": 0.8', b'"val/top1": 0.9'), (b'"val/top1"', b'"val/top3"'), (b"\n", b" \n")]
)
def test_a_manifest_that_was_changed_is_not_gone_by(two: Store, written: bytes, changed: bytes) -> None:
    path = "checkpoints/step-00000020/manifest.json"
    content = two.read(path)
    assert written in content
    two.write(path, content.replace(written, changed, 1))
    said: list[str] = []
    found = latest_verified(two, {CLAIM}, said.append)
    assert found is not None
    assert found.step == 10
    assert "step-00000020 has a damaged manifest: its own hash does not fit" in said[0]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_progress_is_that_of_the_newest_record_that_is_whole_and_does_not_tell_of_weights(
    two: Store, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FILES))
    path = Path(two.uri) / "checkpoints" / "step-00000020" / name
    kept = path.read_bytes()
    place = data.draw(st.integers(0, len(kept) - 1))
    path.write_bytes(bytes(byte ^ (number == place) for number, byte in enumerate(kept)))
    found = latest_progress(two, {CLAIM})
    assert found is not None
    assert found.step == (10 if name in ("progress.json", "manifest.json") else 20)
    assert found.best == BEST
    path.write_bytes(kept)


def test_progress_of_a_stranger_is_not_believed_and_none_is_none(two: Store, tmp_path: Path) -> None:
    write(two, 30, claim=(2, "stolen"))
    found = latest_progress(two, {CLAIM})
    assert found is not None
    assert found.step == 20
    assert latest_progress(two, set()) is None
    assert latest_progress(Store.open(str(tmp_path / "absent")), {CLAIM}) is None


def test_progress_is_read_without_the_weights(two: Store) -> None:
    class Reads(Store):
        """Remembers what is read."""

        paths: list[str]

        def read(self, path: str, most: int | None = None) -> bytes:
            self.paths.append(path)
            return super().read(path, most)

    store = Reads.open(two.uri)
    store.paths = []
    assert latest_progress(store, {CLAIM}) is not None
    assert store.paths == [f"checkpoints/step-00000020/{name}" for name in ("manifest.json", "progress.json")]


def test_a_claim_outside_the_history_is_not_believed(two: Store) -> None:
    write(two, 30, claim=(2, "stolen"))
    said: list[str] = []
    found = latest_verified(two, {CLAIM}, said.append)
    assert found is not None
    assert found.step == 20
    assert "had lost the run" in said[0]


def lost() -> None:
    raise RunError("not ours any more")


def lost_at_second_look() -> Callable[[], None]:
    """What confirms the lease at first, and then says that it is lost."""
    looks = iter(["ours"])

    def confirm() -> None:
        if next(looks, "lost") == "lost":
            lost()

    return confirm


def test_who_has_lost_the_run_touches_nothing(two: Store) -> None:
    with pytest.raises(RunError, match="not ours"):
        write_checkpoint(two, snapshot(20, 0.1), (2, "late"), lost)
    found = load(two, "last", {CLAIM})
    assert found.progress.metrics == pytest.approx({"val/top1": 0.8, "val/loss": float("nan")}, nan_ok=True)


def test_who_loses_the_run_while_writing_leaves_no_manifest(two: Store) -> None:
    with pytest.raises(RunError, match="not ours"):
        write_checkpoint(two, snapshot(30), CLAIM, lost_at_second_look())
    assert set(two.list("checkpoints/step-00000030")) == set(FILES) - {"manifest.json"}
    assert load(two, "last", {CLAIM}).step == 20


def test_a_damaged_best_one_is_not_replaced_by_another_in_silence(two: Store) -> None:
    two.write("checkpoints/step-00000010/weights.safetensors", b"damaged")
    with pytest.raises(RunError, match=r"step-00000010 is damaged.*there are 10, 20: choose another one"):
        load(two, "best", {CLAIM})
    assert load(two, "last", {CLAIM}).step == 20


def test_without_any_validated_one_the_best_is_the_newest(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    with pytest.raises(RunError, match="no whole checkpoint among none; train first"):
        load(store, "best", {CLAIM})
    write(store, 1)
    write(store, 2, float("nan"))
    assert load(store, "best", {CLAIM}).step == 2


@given(value=st.floats(), other=st.floats(), monitor=st.sampled_from(["val/top1", "val/loss"]))
def test_better_is_strict_and_never_not_a_number(value: float, other: float, monitor: str) -> None:
    assert not (better(monitor, value, other) and better(monitor, other, value))
    assert not better(monitor, value, value)
    if value < other:
        assert better(monitor, value, other) == (monitor == "val/loss")
    if value != value:
        assert not better(monitor, value, other)


def test_pruning_keeps_the_newest_and_the_best(two: Store) -> None:
    for step in (30, 40, 50):
        write(two, step, 0.9)
    prune(two, {CLAIM}, newest=50, keep_last=2, monitor="val/top1")
    assert two.list("checkpoints") == ["step-00000010", "step-00000040", "step-00000050"]


@settings(max_examples=examples(0.4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["whole", "stranger's", "unfinished"]), min_size=3, max_size=6),
    values=st.lists(st.sampled_from([0.1, 0.5, None]), min_size=6, max_size=6),
    keep_last=st.integers(1, 3),
    data=st.data(),
)
def test_pruning_never_costs_what_could_be_resumed_from(
    tmp_path: Path, kinds: list[str], values: list[float | None], keep_last: int, data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    store = Store.open(str(tmp_path / "run"))
    newest = data.draw(st.integers(1, len(kinds)))
    kinds[newest - 1] = "whole"
    for step, kind in enumerate(kinds, start=1):
        write(store, step, values[step - 1], claim=(9, "stranger") if kind == "stranger's" else CLAIM)
        if kind == "unfinished":
            store.delete(f"checkpoints/step-{step:08d}/manifest.json")
    prune(store, {CLAIM}, newest, keep_last, "val/top1")
    left = {int(name.removeprefix("step-")) for name in store.list("checkpoints")}
    whole = [step for step in range(1, newest + 1) if kinds[step - 1] == "whole"]
    validated = [step for step in whole if values[step - 1] is not None]
    best = max(validated, key=lambda step: (values[step - 1] or 0.0, -step), default=newest)
    later = range(newest + 1, len(kinds) + 1)
    assert left == {*whole[-keep_last:], best, *later}
    for step in {*whole[-keep_last:], best}:
        assert load(store, step, {CLAIM}).step == step


def kill_writers(root: str) -> None:
    """In a process of its own: start writers one after the other and kill each at some moment."""
    for round_ in range(12):
        told, tell = os.pipe()
        writer = os.fork()
        if writer == 0:
            store = Store.open(root)
            for step in range(100 * (round_ + 1), 100 * (round_ + 2)):
                write(store, step % 7 + 100 * (round_ + 1))  # new steps first, then over whole ones
                os.write(tell, b".")
            os._exit(0)
        os.read(told, 1)
        time.sleep(round_ / 1000)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        found = latest_verified(Store.open(root), {CLAIM}, lambda _: None)
        assert found is not None
        assert torch.equal(found.weights()["weight"], snapshot(found.step).weights["weight"])


def test_a_writer_killed_at_any_moment_leaves_checkpoints_whole_or_absent(two: Store) -> None:
    process = multiprocessing.get_context("spawn").Process(target=kill_writers, args=(two.uri,))
    process.start()
    process.join(100)
    assert process.exitcode == 0


class Harmful:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def zipped(harmful: Harmful) -> bytes:
    buffer = io.BytesIO()
    torch.save({"optimizer": harmful}, buffer)
    return buffer.getvalue()


def pickled(harmful: Harmful) -> bytes:
    return pickle.dumps(harmful, protocol=2)


@pytest.mark.parametrize("encode", [pickled, zipped])
def test_pickled_code_in_a_training_state_is_not_run(
    two: Store, tmp_path: Path, encode: Callable[[Harmful], bytes]
) -> None:
    proof = tmp_path / "proof"
    data = encode(Harmful(proof))
    forge(two, "training_state.pt", data)
    assert_not_loaded(two)
    assert not proof.exists()
    with suppress(RuntimeError):
        torch.load(io.BytesIO(data), weights_only=False)
    assert proof.exists()  # it would have been harmful


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "progress.json"])
def test_what_has_its_hash_and_cannot_be_read_is_passed_over(two: Store, name: str) -> None:
    forge(two, name, pickle.dumps({"weight": 1}))
    assert_not_loaded(two)


def assert_not_loaded(store: Store) -> None:
    """The one before is taken, aloud; who asks for this very one hears why not."""
    said: list[str] = []
    found = latest_verified(store, {CLAIM}, said.append)
    assert found is not None
    assert found.step == 10
    assert len(said) == 1
    with pytest.raises(RunError, match=r"step-00000020 was not loaded: .*cannot be read"):
        load(store, 20, {CLAIM})


def test_equal_snapshots_have_equal_bytes(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        write(Store.open(str(root)), 10, 0.5)
    for name in FILES:
        one, other = ((root / "checkpoints" / "step-00000010" / name).read_bytes() for root in roots)
        assert one == other, name


def forge(store: Store, name: str, data: bytes) -> None:
    """Replace a file of step 20, with a manifest that says so."""
    folder = "checkpoints/step-00000020"
    manifest = json.loads(store.read(f"{folder}/manifest.json"))
    manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    manifest["sha256"] = hashlib.sha256(encoded(manifest)).hexdigest()
    store.write(f"{folder}/{name}", data)
    store.write(f"{folder}/manifest.json", encoded(manifest))


def encoded(manifest: dict[str, object]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()


class CheckpointWriter(BackgroundWriter):
    """Stores snapshots as a run's recorder does."""

    def __init__(self, folder: CheckpointFolder) -> None:
        super().__init__(("checkpoint",))
        self.folder = folder

    def submit(self, snapshot: Snapshot) -> None:
        self.wait_for("checkpoint")
        self.put("checkpoint", lambda: self.folder.write(snapshot))


def writer_to(store: Store, confirm: Callable[[], None] = lambda: None, keep_last: int = 2) -> CheckpointWriter:
    return CheckpointWriter(CheckpointFolder(store, CLAIM, {CLAIM}, confirm, keep_last, "val/top1"))


def test_the_best_that_is_stored_can_be_asked_for_by_another_metric(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    for step, loss in ((10, 0.9), (20, 0.3), (30, 0.1)):
        each = snapshot(step, 0.5 + step / 100)
        metrics = {"val/top1": 0.5 + step / 100, "val/loss": loss}
        write_checkpoint(store, replace(each, progress=replace(each.progress, metrics=metrics)), CLAIM, lambda: None)
    write(store, 15)  # not validated
    assert best_stored(store, {CLAIM}, 20, "val/loss") == Best(20, 0.3, "val/loss")
    assert best_stored(store, {CLAIM}, 30, "val/top1") == Best(30, 0.8, "val/top1")
    assert best_stored(store, {CLAIM}, 9, "val/top1") is None
    assert best_stored(store, {(7, "other")}, 30, "val/top1") is None


def test_submitting_returns_at_once_and_what_was_submitted_is_stored_at_the_end(two: Store) -> None:
    may_go_on = threading.Event()
    with writer_to(two, lambda: assert_true(may_go_on.wait(30))) as writer:
        writer.submit(snapshot(30))
        assert load(two, "last", {CLAIM}).step == 20  # it waits, and training would go on
        may_go_on.set()
        writer.submit(snapshot(40))
        assert load(two, 30, {CLAIM}).step == 30  # one at a time
    assert load(two, "last", {CLAIM}).step == 40
    assert two.list("checkpoints") == ["step-00000010", "step-00000030", "step-00000040"]
    assert not any(thread.name == "background-writer" for thread in threading.enumerate())


def test_replacing_a_checkpoint_after_its_validation_never_leaves_none(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    with writer_to(store, keep_last=1) as writer:
        writer.submit(snapshot(1))
        writer.submit(snapshot(2, owed=True))
    # The run ends after the old manifest is gone and before the new one is there.
    with pytest.raises(RunError, match="not ours"), writer_to(store, lost_at_second_look(), keep_last=1) as writer:
        writer.submit(snapshot(2, 0.5))
    assert load(store, "last", {CLAIM}).step == 1
    with writer_to(store, keep_last=1) as writer:
        writer.submit(snapshot(2, 0.5))
    assert store.list("checkpoints") == ["step-00000002"]


@pytest.mark.parametrize("surface", ["submit", "drain", "exit"])
def test_a_failed_write_surfaces_once_and_leaves_the_earlier_ones(two: Store, surface: str) -> None:
    def fail() -> None:
        with writer_to(two, lost) as writer:
            writer.submit(snapshot(30))
            if surface == "submit":
                writer.submit(snapshot(40))
            elif surface == "drain":
                writer.drain()

    with pytest.raises(RunError, match="not ours"):
        fail()
    assert load(two, "last", {CLAIM}).step == 20
    assert two.list("checkpoints") == ["step-00000010", "step-00000020"]


def test_an_error_of_training_is_not_hidden_by_one_of_writing(two: Store) -> None:
    def fail() -> None:
        with writer_to(two, lost) as writer:
            writer.submit(snapshot(30))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert caught.value.__notes__ == ["and what was to be stored could not be: not ours any more"]


def test_after_an_error_what_is_being_stored_is_finished(two: Store) -> None:
    may_go_on = threading.Event()

    def fail() -> None:
        with writer_to(two, lambda: assert_true(may_go_on.wait(30))) as writer:
            writer.submit(snapshot(30))
            threading.Timer(0.1, may_go_on.set).start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert load(two, "last", {CLAIM}).step == 30


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_the_writer_and_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
    try:
        store = Store.open(str(tmp_path))
        big = replace(snapshot(2), weights={"weight": torch.zeros(300_000)})
        with pytest.raises(
            StorageError, match=r"no space is left there \(.* MB free\); what was stored before is intact"
        ):
            store_both(store, big)
        assert store.list("checkpoints") == ["step-00000001"]  # what did fit of it does not fill the disk
        assert load(store, "last", {CLAIM}).step == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def store_both(store: Store, second: Snapshot) -> None:
    with writer_to(store) as writer:
        writer.submit(snapshot(1))
        writer.submit(second)


def assert_true(value: bool) -> None:
    assert value
