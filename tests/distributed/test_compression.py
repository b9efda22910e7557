"""Pruning on real workers: any number of them learns the same, and what was interrupted goes on to the bit."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs import api
from ray_jobs.compression.request import PruneRequest
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.evaluation.answers import answers_of
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.compression_record import INITIAL, RECORD, read_record
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import run_tune
from resnet_dist.errors import UnreachableTargetError
from resnet_dist.model.model_json import rebuild, structure_of
from tests.complaints import complains
from tests.compressed import Place, Tree, kill_when, same

HALF = PruneRequest("parameters=0.5", rounds=1, score_microbatches=4)


def test_three_workers_prune_as_one_does_and_the_result_is_a_run_like_any_other(place: Place):
    outcomes = [
        api.compress_prune("whole", HALF, changes=place.changes(f"small-{workers}", workers)) for workers in (1, 3)
    ]
    assert same(place.learnt("small-1"), place.learnt("small-3"))
    assert outcomes[0].training.metrics == outcomes[1].training.metrics

    run = place.run("small-1")
    best = run.checkpoint("best")
    model = rebuild(best.model_json())
    model.load_state_dict(best.weights())
    parameters = sum(value.numel() for value in model.parameters())
    whole = rebuild(place.run("whole").checkpoint("best").model_json())
    assert 0.4 < parameters / sum(value.numel() for value in whole.parameters()) <= 0.5
    record = read_record(run)
    assert record is not None
    assert (record.phase, record.parent.run, record.teacher.run) == ("prune", "whole", "whole")
    assert record.plan["widths"] == structure_of(best.model_json()).layer_widths.to_json()

    again = api.compress_prune("whole", HALF, changes=place.changes("small-1"))
    assert again.training.already_finished
    (place.root / "runs/small-1" / RECORD).rename(place.root / "record")
    with pytest.raises(ConfigError, match="is a run that pruning did not make"):
        api.compress_prune("whole", HALF, changes=place.changes("small-1"))
    (place.root / "record").rename(place.root / "runs/small-1" / RECORD)
    exported = api.export("small-1", changes={"storage": {"root": str(place.root)}, "export": {"formats": ["onnx"]}})
    assert "onnx" in exported.parities
    assert not exported.refused


def test_another_pruning_under_the_name_is_refused(place: Place):
    api.compress_prune("whole", HALF, changes=place.changes("small"))
    with pytest.raises(ConfigError) as caught:
        api.compress_prune("whole", PruneRequest("macs=0.6", rounds=1), changes=place.changes("small"))
    assert "target: parameters=0.5 -> macs=0.6" in str(caught.value)
    # Also where it was interrupted before its training began: other views might have cut other channels.
    for path in (place.root / "runs/small").iterdir():
        if path.name not in (RECORD, INITIAL):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ConfigError, match=r"augmentation\.horizontal_flip: .* -> 0\.25"):
        api.compress_prune("whole", HALF, changes=place.changes("small", augmentation={"horizontal_flip": 0.25}))
    with pytest.raises(ConfigError, match="is the run itself"):
        api.compress_prune("whole", HALF, changes=place.changes("whole"))
    shutil.copytree(place.root / "runs/whole", place.root / "runs/trained")
    with pytest.raises(ConfigError, match="is a run that pruning did not make; choose another --name"):
        api.compress_prune("whole", HALF, changes=place.changes("trained"))


@pytest.mark.parametrize(
    ("request_", "sections", "error", "words"),
    [
        (PruneRequest("parameters=0.01"), {}, UnreachableTargetError, ("parameters=0.01", "the nearest is")),
        (HALF, {"freezing": {"freeze_depth": 3}}, ConfigError, ("layer1", "--freezing.freeze-depth 0")),
        (HALF, {"model": {"arch": "resnet34"}}, ConfigError, ("model.arch=resnet34", "compress distill")),
        (HALF, {"model": {"squeeze_excite": True}}, ConfigError, ("model.squeeze_excite=True",)),
        (HALF, {"model": {"widths": "0.5"}}, ConfigError, ("model.widths=0.5",)),
        (HALF, {"data": {"image_size": 48}}, ConfigError, ("distillation.teacher", "size")),
        (HALF, {"data": {"folds": 3}}, ConfigError, ("data.folds=3", "data.fold")),
        (HALF, {"data": {"mean": [0.5, 0.5, 0.5]}}, ConfigError, ("distillation.teacher", "mean")),
        (HALF, {"data": {"ignore_classes": ["digit 2"]}}, ConfigError, ("distillation.teacher", "digit 2")),
        (HALF, {"data": {"root": "TRAIN", "val_fraction": 0.0}}, ConfigError, ("split val", "data.val_fraction")),
    ],
)
def test_what_cannot_be_pruned_is_refused_before_anything_is_written(
    place: Place,
    digits_folder: Path,
    tmp_path: Path,
    request_: PruneRequest,
    sections: Tree,
    error: type[Exception],
    words: tuple[str, ...],
):
    if "root" in sections.get("data", {}):  # class folders alone, without a split val
        shutil.copytree(digits_folder / "train", tmp_path / "train")
        sections = merged(sections, {"data": {"root": str(tmp_path / "train")}})
    with pytest.raises(error) as caught:
        api.compress_prune("whole", request_, changes=place.changes("small", **sections))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert sorted(path.name for path in (place.root / "runs").iterdir()) == ["whole"]


def test_a_student_that_is_the_teacher_itself_is_refused(place: Place):
    with pytest.raises(ConfigError) as caught:
        api.compress_distill("whole", changes=place.changes("student"))
    assert complains(caught, "--model.widths", remedy="name")


def test_more_loss_than_is_allowed_ends_with_numbers(place: Place):
    # What is the student's alone must not matter where the teacher is judged.
    own: Tree = {"distillation": {"temperature": 3.0}, "checkpoint": {"monitor": "val/loss"}}
    changes = place.changes("student", model={"widths": "0.25", "weights": "none"}, **own)
    with pytest.raises(GateError, match=r"top-1 on val \(11 images\) fell by .* points .* --max-loss 0\.5"):
        api.compress_distill("whole", changes=changes, max_loss=0.5)
    ladder = api.compress_show("student", changes={"storage": {"root": str(place.root)}}, seconds=0)
    assert [(rung.run, rung.phase) for rung in ladder.rungs] == [("whole", "train"), ("student", "distill")]
    first, second = ladder.rungs
    assert first.top1_loss is None
    assert second.top1_loss is not None
    assert second.top1_loss.value == pytest.approx(first.top1 - second.top1)
    assert second.top1_loss.low <= second.top1_loss.value <= second.top1_loss.high
    stored = json.loads((place.root / "runs/student/compression/ladder.json").read_text())
    assert stored == json.loads(json.dumps(ladder.to_json()))


def test_a_run_is_judged_by_its_own_images_alone(place: Place, tmp_path: Path):
    whole = place.run("whole")
    other = tmp_path / "other"
    shutil.copytree(whole.read_config().data.root, other)
    assert len(answers_of(whole, "val", {"data": {"root": str(other)}}).labels) == 11  # a copy
    shutil.rmtree(place.root / "runs/whole/evaluation")
    next(other.rglob("*.png")).unlink()
    with pytest.raises(ConfigError, match=r"data\.root and data\.labels name other images"):
        answers_of(whole, "val", {"data": {"root": str(other)}})


ROUNDS = ("--target", "parameters=0.4", "--rounds", "2", "--score-microbatches", "4")


def start(place: Place, name: str) -> "subprocess.Popen[bytes]":
    """`compress prune` as a process of its own, with its own Ray."""
    flags = [
        *("--name", name, "--storage.root", str(place.root), "--training.epochs", "2"),
        *("--checkpoint.every-steps", "1", "--cluster.cpus-per-worker", "1"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    words = [sys.executable, "-m", "ray_jobs", "compress", "prune", "whole", *ROUNDS, *flags]
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.mark.slow
def test_a_pruning_that_is_killed_in_each_phase_goes_on_to_the_bit(place: Place):
    one, last = place.root / "runs/killed-round1", place.root / "runs/killed"
    moments: list[Callable[[], bool]] = [
        (one / INITIAL).exists,  # before or while the record is written
        (one / RECORD).exists,  # before the round is trained
        lambda: any(one.glob("checkpoints/step-*/manifest.json")),
        (last / RECORD).exists,
        lambda: any(last.glob("checkpoints/step-*/manifest.json")),
    ]
    for moment in moments:
        kill_when(start(place, "killed"), moment)
    for name in ("killed", "undisturbed"):
        process = start(place, name)
        output = process.communicate(timeout=300)[0].decode()
        assert process.returncode == 0, output
    for suffix in ("-round1", ""):
        assert same(place.learnt(f"undisturbed{suffix}"), place.learnt(f"killed{suffix}"))


@pytest.mark.slow
def test_a_chain_of_two_phases_goes_on_where_it_was(place: Place, tmp_path: Path):
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        '[[phase]]\nkind = "distill"\nwidths = "0.75"\nepochs = 1\n'
        '[[phase]]\nkind = "prune"\ntarget = "macs=0.7"\nrounds = 1\nepochs = 1\n'
    )
    changes = {name: value for name, value in place.changes("chained").items() if name != "training"}
    outcome = api.compress_chain("whole", str(recipe), changes=changes)
    assert [each.phase for each in outcome.phases] == ["distill", "prune"]
    assert outcome.run.endswith("/runs/chained")
    again = api.compress_chain("whole", str(recipe), changes=changes)
    assert all(each.training.already_finished for each in again.phases)
    ladder = api.compress_show("chained", changes={"storage": {"root": str(place.root)}}, seconds=0.2)
    assert [rung.phase for rung in ladder.rungs] == ["train", "distill", "prune"]
    assert ladder.rungs[0].parameters > ladder.rungs[1].parameters > ladder.rungs[2].parameters
    assert all(rung.speeds.keys() == {"onnx", "openvino"} for rung in ladder.rungs)


@pytest.mark.slow
def test_the_smallest_within_a_limit_is_searched_on_val(place: Place, tmp_path: Path):
    recipe = tmp_path / "least.toml"
    recipe.write_text(
        '[[phase]]\nkind = "smallest"\ntarget = "parameters"\nrounds = 1\ntries = 2\nmax_loss = 100.0\nepochs = 1\n'
    )
    changes = {name: value for name, value in place.changes("least").items() if name != "training"}
    outcome = api.compress_chain("whole", str(recipe), changes=changes)
    assert [each.share for each in outcome.tries] == [0.5, 0.275]
    assert all(each.is_small_enough for each in outcome.tries)
    assert outcome.run.endswith("/runs/least-275permille")
    stored = json.loads((place.root / "runs/least/chain.json").read_text())
    assert stored == json.loads(json.dumps(outcome.to_json()))
    rows = {row.name: row.state for row in api.runs_list(storage_root=str(place.root)).rows}
    assert rows["least"] == "chain"


@pytest.mark.slow
def test_trials_of_several_widths_are_judged_by_one_latency_table(place: Place, make_job: Callable[..., JobConfig]):
    job = make_job(
        "search",
        1,
        {"storage": {"root": str(place.root)}, "distillation": {"teacher": "whole"}, "training": {"epochs": 1}},
    )
    text = """
        objectives = ["val/top1", "latency_onnx_ms"]
        trials = 3
        sampler = "random"
        max_concurrent_trials = 1
        [space]
        "model.widths" = { categorical = ["0.25", "0.5", "0.75"] }
        "model.weights" = { categorical = ["whole"] }
    """
    outcome = run_tune(job, *read_search_text(text, "a test"))
    assert {record.state for record in outcome.records} == {"finished"}
    by_widths = {str(record.params.get("model.widths")): record.values[1] for record in outcome.records}
    assert all(value is not None for value in by_widths.values())
    (table,) = (place.root / "latency-tables").iterdir()
    before = table.read_bytes()
    milliseconds = [value for _, value in sorted(by_widths.items()) if value is not None]
    assert len(milliseconds) > 1
    plan = api.compress_plan(
        "whole", PruneRequest("latency=0.9x@onnx", threads=1), changes={"storage": {"root": str(place.root)}}
    )
    assert table.read_bytes() == before, "the table is measured once"
    assert plan.plan.costs_before.milliseconds is not None
    assert max(milliseconds) <= plan.plan.costs_before.milliseconds
