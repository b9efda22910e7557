"""Training in 8 bits on real workers: any number of them learns the same, and what it makes is what an export ships."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs import api
from ray_jobs.compression.request import PruneRequest, QuantizeRequest
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.run.compression_record import read_record
from ray_jobs.run.listing import list_runs
from resnet_dist.model.model_json import ranges_in
from tests.complaints import complains
from tests.compressed import Place, Tree, kill_when, same

ALWAYS = QuantizeRequest(always=True)
TWO_EPOCHS: Tree = {"training": {"epochs": 2}}


def ranges(place: Place, name: str, step: int | str = "last") -> dict[str, tuple[float, float]]:
    found = ranges_in(place.run(name).checkpoint(step).model_json())  # pyright: ignore[reportArgumentType]
    assert found is not None
    return {tensor: (each.low, each.high) for tensor, each in found.items()}


def test_two_workers_learn_in_8_bits_as_one_does(place: Place):
    outcomes = [
        api.compress_quantize("whole", ALWAYS, changes=place.changes(f"int8-{workers}", workers, **TWO_EPOCHS))
        for workers in (1, 2)
    ]
    assert same(place.learnt("int8-1"), place.learnt("int8-2"))
    assert not same(place.learnt("int8-1"), place.learnt("whole"))
    assert ranges(place, "int8-1") == ranges(place, "int8-2")
    assert [each.run.rpartition("/")[2] for each in outcomes] == ["int8-1", "int8-2"]
    assert "val" in outcomes[0].calibrated
    record = read_record(place.run("int8-1"))
    assert record is not None
    assert (record.phase, record.parent.run) == ("quantize", "whole")

    # The first epoch's ranges are those of the weights before; in the second half of the training they stay.
    steps = sorted(int(path.name[5:]) for path in (place.root / "runs/int8-1/checkpoints").glob("step-*"))
    assert len(steps) == 2
    assert ranges(place, "int8-1", steps[0]) == ranges(place, "int8-1", steps[1])


@pytest.mark.slow
def test_what_it_learnt_is_shown_beside_ranges_alone_and_ships(place: Place, tmp_path: Path):
    api.compress_quantize("whole", ALWAYS, changes=place.changes("int8"))
    where: Tree = {"storage": {"root": str(place.root)}}
    ladder = api.compress_show("int8", changes=where, seconds=0.2)
    assert [rung.phase for rung in ladder.rungs] == ["train", "calibrate", "quantize"]
    assert [set(rung.speeds) for rung in ladder.rungs] == [
        {"onnx", "openvino"},
        set(),
        {"onnxruntime_int8", "openvino_int8"},
    ]
    fp32, _, int8 = (sum(speed.megabytes for speed in rung.speeds.values()) for rung in ladder.rungs)
    assert int8 < 0.3 * fp32

    made = api.export("int8", changes=where, output=tmp_path / "bundle")
    assert set(made.parities) == {"onnxruntime_int8", "openvino_int8"}
    for parity in made.parities.values():
        assert parity.agreement == 1.0, parity
        assert parity.relative_logit_difference < 0.2, parity
    for formats in ("onnx", "openvino"):
        with pytest.raises(ConfigError) as caught:
            api.export("int8", changes={**where, "export": {"formats": [formats]}}, output=tmp_path / "other")
        complains(caught.value, f"export.formats={formats}", "floating point", "the run that it came from")


def test_nothing_is_trained_where_ranges_alone_do(place: Place):
    changes = place.changes("int8", export={"int8_max_loss": 1.0})
    outcome = api.compress_quantize("whole", QuantizeRequest(), changes=changes)
    assert outcome.training is None
    assert outcome.run == place.run("whole").uri
    assert not place.run("int8").exists()
    assert "top-1 on" in outcome.loss
    assert json.loads(place.run("int8").store.read("chain.json"))["result"] == outcome.run
    [row] = [row for row in list_runs(str(place.root)).rows if row.name == "int8"]
    assert row.state == "chain"


def test_a_loss_above_the_limit_ends_with_numbers(place: Place):
    with pytest.raises(GateError) as caught:
        api.compress_quantize("whole", QuantizeRequest(max_loss=1e-6), changes=place.changes("int8"))
    complains(caught.value, "top-1 on", "--max-loss 1e-06")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"freezing": {"freeze_depth": 2}}, ("freezing", "stem", "freezing.freeze_depth=0")),
        ({"freezing": {"layer1": "bn_frozen"}}, ("freezing", "layer1 bn_frozen", "freezing.freeze_depth=0")),
        ({"model": {"widths": "0.5"}}, ("model.widths=0.5", "compress distill")),
        ({"training": {"precision": "bf16"}}, ("training.precision=bf16", "fp32")),
        ({"training": {"compile": True}}, ("training.compile=true", "turn it off")),
        ({"export": {"formats": ["onnx"]}}, ("export.formats=onnx", "leave it out")),
        ({"model": {"arch": "resnet34"}}, ("model.arch=resnet34", "compress distill")),
        ({"data": {"image_size": 48}}, ("distillation.teacher=whole", "the teacher's [data]")),
        ({"data": {"folds": 3}}, ("data.folds=3", "data.fold")),
    ],
)
def test_what_cannot_be_quantised_is_refused_before_anything_is_written(
    place: Place, sections: Tree, words: tuple[str, ...]
):
    with pytest.raises(ConfigError) as caught:
        api.compress_quantize("whole", ALWAYS, changes=place.changes("int8", **sections))
    complains(caught.value, *words)
    assert not place.run("int8").exists()


def test_a_quantised_run_is_quantised_and_pruned_no_more(place: Place):
    api.compress_quantize("whole", ALWAYS, changes=place.changes("int8"))
    with pytest.raises(ConfigError) as caught:
        api.compress_quantize("int8", ALWAYS, changes=place.changes("again"))
    complains(caught.value, "int8", "8 bits", "resnet-dist export int8")
    with pytest.raises(ConfigError) as caught:
        api.compress_prune("int8", PruneRequest("macs=0.5"), changes=place.changes("small"))
    complains(caught.value, "int8", "8 bits", "the run that it came from")
    with pytest.raises(ConfigError, match="8 bits"):
        api.compress_plan("int8", PruneRequest("macs=0.5"), changes={"storage": {"root": str(place.root)}})
    (place.root / "runs/int8/compression.json").unlink()
    with pytest.raises(ConfigError, match="a run that quantisation did not make"):
        api.compress_quantize("whole", ALWAYS, changes=place.changes("int8"))


def start(place: Place, name: str) -> "subprocess.Popen[bytes]":
    """`compress quantize` with two workers as a process of its own, with its own Ray."""
    flags = [
        *("--name", name, "--storage.root", str(place.root), "--training.epochs", "3"),
        *("--checkpoint.every-steps", "1", "--cluster.cpus-per-worker", "1", "--cluster.num-workers", "2"),
        *("--cluster.local-cpus", "4"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    words = [sys.executable, "-m", "ray_jobs", "compress", "quantize", "whole", "--always", *flags]
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.mark.slow
def test_a_training_in_8_bits_that_is_killed_goes_on_to_the_bit(place: Place):
    def stored() -> int:
        return len([*(place.root / "runs/killed").glob("checkpoints/step-*/manifest.json")])

    kill_when(start(place, "killed"), lambda: stored() >= 1)  # in the first epoch: its ranges are in the checkpoint
    kill_when(start(place, "killed"), lambda: stored() >= 4)
    for name in ("killed", "undisturbed"):
        process = start(place, name)
        output = process.communicate(timeout=300)[0].decode()
        assert process.returncode == 0, output
    assert same(place.learnt("killed"), place.learnt("undisturbed"))
    assert ranges(place, "killed") == ranges(place, "undisturbed")
