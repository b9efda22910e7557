"""The GPU benchmark as a script, on a tiny network: every section, its file, merging, and what breaks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_job import Job, make_training, noise
from benchmarks.gpu_measuring import Row, Settings, Turns, Variant, take_turns
from benchmarks.gpu_results import read
from benchmarks.gpu_training import flops_per_image
from resnet_dist.training.train_step import train_step

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"
SECTIONS = ["full", "precision", "frozen", "cached", "options", "dali", "inference", "parity"]
CPU = torch.device("cpu")
SETTINGS = Settings(
    device=CPU,
    tiny=True,
    repeats=3,
    steps=2,
    warm_up=1,
    arch="resnet18",
    image_size=32,
    batches=(4,),
    batch=4,
    compiler="aot_eager",
    images=None,
    threads=1,
)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "CXX"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env=variables | environment, capture_output=True, text=True
    )


def rows(results: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in results["sections"][section]["rows"]}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """All sections where there is no C++ compiler to be found."""
    file = tmp_path_factory.mktemp("results") / "deep" / "all.json"
    return run("--tiny", "--compiler", "inductor", "--out", file, PATH=""), file


@pytest.mark.slow
def test_every_section_is_in_the_table_and_in_the_file(
    everything: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, file = everything
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert list(results["sections"]) == SECTIONS
    for name, section in results["sections"].items():
        assert section["status"] in ("done", "skipped"), section["reason"]
        printed = [line for line in done.stdout.splitlines() if line.startswith(name + " ")]
        assert len(printed) == len(section["rows"]) + (section["status"] == "skipped")
        assert section["rows"] or section["reason"]
        assert {"date", "driver", "torch", "cuda"} <= section["environment"].keys()
        assert section["environment"]["torch"] == torch.__version__
        assert section["settings"]["arch"] == "resnet18"
        assert section["settings"]["repeats"] == 1
        for row in section["rows"]:
            assert (row["value"] is None) == bool(row["note"] and not row["repeats"] and row["met"] is None), row


@pytest.mark.slow
def test_figures_agree_with_each_other(everything: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    results = json.loads(everything[1].read_text())
    full = rows(results, "full")
    rate, operations = (full[what]["value"] for what in ("bf16 matrix product", "operations of a training step"))
    share = 100 * full["batch 4, eager"]["value"] * operations / 1000 / rate
    assert full["batch 4, eager: of the bf16 rate"]["value"] == pytest.approx(share)
    # 32 pixels leave [512, 1, 1] behind layer4; bf16 takes two bytes.
    assert rows(results, "cached")["depth 5 (through layer4): bf16 features of 10,000 images"]["value"] == 0.01024
    # Only a head of 513,000 numbers is left to train.
    assert rows(results, "cached")["depth 5 (through layer4), eager"]["value"] > 2
    parity = rows(results, "parity")
    assert len(parity) >= 2
    assert all(row["met"] for row in parity.values() if row["value"] is not None)


@pytest.mark.slow
def test_without_a_compiler_compiled_rows_say_so(everything: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    results = json.loads(everything[1].read_text())
    compiled = [
        row
        for section in ("full", "frozen", "cached", "inference")
        for what, row in rows(results, section).items()
        if "compiled" in what or "AOTInductor" in what
    ]
    assert len(compiled) > 10
    assert all(row["value"] is None and "no C++ compiler" in row["note"] for row in compiled)


@pytest.mark.slow
def test_a_section_is_added_to_the_file_and_one_that_fails_leaves_the_others(
    everything: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("nvidia.dali")
    file, missing = tmp_path / "results.json", tmp_path / "nowhere"
    before = json.loads(everything[1].read_text())["sections"]
    file.write_text(everything[1].read_text())
    done = run("--tiny", "--only", "dali", "cached", "--images", missing, "--out", file)
    assert done.returncode == 1
    after = json.loads(file.read_text())["sections"]
    assert list(after) == SECTIONS
    assert {name for name in SECTIONS if after[name] != before[name]} == {"dali", "cached"}
    assert (after["dali"]["status"], after["cached"]["status"]) == ("failed", "done")
    assert f"failed: ValueError: --images {missing} is no folder" in done.stdout
    # Traced by torch.compile, without a break in the graph.
    (traced,) = (row for row in after["cached"]["rows"] if row["what"] == "depth 3 (through layer2), compiled")
    assert traced["value"] > 0
    assert {line.split()[0] for line in done.stdout.splitlines()[1:-2]} == set(SECTIONS)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("no JSON", "is no file of this benchmark"),
        ('{"schema": 1, "device": "another GPU", "tiny": true, "sections": {}}', "another GPU"),
        ('{"schema": 1, "device": "CPU", "tiny": false, "sections": {}}', "name another file with --out"),
    ],
)
def test_figures_of_something_else_are_not_mixed_in(tmp_path: Path, held: str, message: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(held)
    with pytest.raises(ValueError, match=message):
        read(file, SETTINGS)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_cpu_is_measured_only_to_try_the_script(tmp_path: Path) -> None:
    refused = run("--out", tmp_path / "results.json")
    assert refused.returncode == 2
    assert "no CUDA GPU" in refused.stderr
    assert "--tiny" in refused.stderr
    assert not list(tmp_path.iterdir())


# Taking turns


def test_variants_take_turns_and_one_that_cannot_go_on_says_so() -> None:
    calls: list[str] = []

    def variant(name: str, error: Exception | None = None, after: int = 0) -> Callable[[], Variant]:
        def step() -> None:
            calls.append(name)
            if error is not None and calls.count(name) > after:
                raise error

        return lambda: Variant(step)

    def unmakeable() -> Variant:
        raise torch.OutOfMemoryError("too much")

    found = take_turns(
        SETTINGS,
        {
            "a": variant("a"),
            "large": unmakeable,
            "late": variant("late", torch.OutOfMemoryError("too much"), after=4),
            "broken": variant("broken", ValueError("no such kernel\nmore")),
            "b": variant("b"),
        },
    )
    turn = ["a"] * 3 + ["b"] * 3  # one untimed, two timed
    assert [name for name in calls if name in "ab"] == ["a", "b"] + turn * 3
    assert [len(found[name].seconds) for name in found] == [3, 0, 1, 0, 3]
    assert {name: (turns.problem, turns.broken) for name, turns in found.items()} == {
        "a": ("", False),
        "b": ("", False),
        "large": ("out of memory", False),
        "late": ("out of memory", False),
        "broken": ("failed: ValueError: no such kernel", True),
    }
    assert found["late"].row("x", "s", found["late"].seconds) == Row("x", None, "s", note="out of memory")
    assert found["a"].ratio("a over late", found["late"]).note == "out of memory"
    assert found["broken"].ratio("broken over a", found["a"]).failed


def test_a_ratio_is_the_median_of_the_turns() -> None:
    row = Turns(seconds=[1.0, 2.0, 10.0]).ratio("fast", Turns(seconds=[2.0, 6.0, 10.0]))
    assert (row.value, row.repeats) == (2.0, (2.0, 3.0, 1.0))


def test_operations_are_those_of_resnet_50() -> None:
    """24.3 GFLOP: three times the 8.2 of a forward pass, less the first convolution's gradient by its images."""
    counted = flops_per_image(Settings(**{**vars(SETTINGS), "arch": "resnet50", "image_size": 224}))
    assert counted == pytest.approx(24.3e9, rel=1e-3)


def test_checkpointed_stages_learn_the_same() -> None:
    """What saves memory is computed twice, BatchNorm's statistics included."""
    learnt = []
    for checkpointing in (False, True):
        source = noise(SETTINGS, 4)
        step = next(source.epoch(0))
        images = next(next(source.epoch(0)).microbatches).images
        job = Job(bf16=False, checkpointing=checkpointing, reduction="exact")
        state, recipe = make_training(SETTINGS, job, images[:2])
        train_step(state, recipe, step, 0.01)
        learnt.append({name: value.clone() for name, value in state.model.state_dict().items()})
    assert all(torch.equal(learnt[0][name], learnt[1][name]) for name in learnt[0])
