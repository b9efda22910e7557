"""A checkpoint is complete or absent, whatever happens to its files."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.storage import Store
from resnet_dist.checkpoint import (
    Best,
    CheckpointWriter,
    Progress,
    Snapshot,
    better,
    latest_verified,
    load,
    prune,
    write_checkpoint,
)
from resnet_dist.errors import RunError

CLAIM = (1, "token")
FILES = ("model.json", "weights.safetensors", "training_state.pt", "progress.json", "manifest.json")


def snapshot(step: int, top1: float | None = None) -> Snapshot:
    value = torch.arange(6.0).reshape(2, 3) + step
    metrics = None if top1 is None else {"val/top1": top1, "val/loss": float("nan")}
    return Snapshot(
        model={"arch": "tiny"},
        weights={"weight": value},
        training_state={"raw_weights": {"weight": value}, "optimizer": {"state": {0: {"moment": value}}}},
        progress=Progress(step=step, epoch=1, step_in_epoch=0, microbatch_size=4, metrics=metrics, best=Best(2, 0.5)),
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
    assert found.progress.best == Best(2, 0.5)
    assert found.progress.metrics is not None
    assert found.progress.metrics["val/loss"] != found.progress.metrics["val/loss"]
    assert load(two, "best", {CLAIM}).step == 10
    assert load(two, 10, {CLAIM}).model_json() == {"arch": "tiny"}
    with pytest.raises(RunError, match="no checkpoint of step 15; there are 10, 20"):
        load(two, 15, {CLAIM})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    if found.step == 20:
        # Only the manifest's own insignificant parts (its metrics, a number's spelling) may change unnoticed.
        assert name == "manifest.json"
        assert torch.equal(found.weights()["weight"], snapshot(20).weights["weight"])
    else:
        assert found.step == 10
        assert len(said) == 1
        assert "step-00000020" in said[0]
    for each, original in kept.items():
        (folder / each).write_bytes(original)


def test_a_claim_outside_the_history_is_not_believed(two: Store) -> None:
    write(two, 30, claim=(2, "stolen"))
    said: list[str] = []
    found = latest_verified(two, {CLAIM}, said.append)
    assert found is not None
    assert found.step == 20
    assert "had lost the run" in said[0]


def test_confirm_comes_before_the_manifest(two: Store) -> None:
    def lost() -> None:
        raise RunError("not ours any more")

    with pytest.raises(RunError, match="not ours"):
        write_checkpoint(two, snapshot(30), CLAIM, lost)
    assert load(two, "last", {CLAIM}).step == 20


def test_pruning_keeps_the_newest_and_the_best(two: Store) -> None:
    for step in (30, 40, 50):
        write(two, step, 0.9)
    prune(two, 2, "val/top1")
    assert two.list("checkpoints") == ["step-00000010", "step-00000040", "step-00000050"]
    assert better("val/loss", 1.0, 2.0)
    assert not better("val/top1", 0.9, 0.9)
    assert not better("val/top1", float("nan"), 0.1)


def write_for_ever(root: str, started: object) -> None:
    store = Store.open(root)
    step = 100
    while True:
        write(store, step)
        started.set()  # type: ignore[attr-defined]
        step += 1


@pytest.mark.parametrize("delay_ms", [1, 7, 13, 29])
def test_a_writer_killed_at_any_moment_leaves_checkpoints_whole_or_absent(two: Store, delay_ms: int) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=write_for_ever, args=(two.uri, started))
    process.start()
    assert started.wait(60)
    process.join(delay_ms / 1000)
    process.kill()
    process.join()
    found = latest_verified(two, {CLAIM}, lambda _: None)
    assert found is not None
    assert found.step >= 100
    assert torch.equal(found.weights()["weight"], snapshot(found.step).weights["weight"])


class Harmful:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {HARM}",)


HARM = "/tmp/resnet-dist-test-harm"


def test_pickled_code_in_a_training_state_is_not_run(two: Store) -> None:
    Path(HARM).unlink(missing_ok=True)
    folder = Path(two.uri) / "checkpoints" / "step-00000020"
    data = pickle.dumps(Harmful())
    (folder / "training_state.pt").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["training_state.pt"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = load(two, "last", {CLAIM})
    with pytest.raises(RunError, match="more than tensors"):
        found.training_state()
    buffer = io.BytesIO()
    torch.save(Harmful(), buffer)
    assert not Path(HARM).exists()


def test_a_failed_write_surfaces_and_leaves_the_earlier_ones(two: Store) -> None:
    def full() -> None:
        raise OSError("no space")

    writer = CheckpointWriter(two, CLAIM, full, keep_last=2, monitor="val/top1")
    with pytest.raises(OSError, match="no space"), writer:
        writer.submit(snapshot(30))
    assert load(two, "last", {CLAIM}).step == 20
    shutil.rmtree(two.uri)
