"""What a person reads when a training or an evaluation is done."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ray_jobs.cli.next_command import run_words
from ray_jobs.cli.show import show_evaluation, show_training
from ray_jobs.cli.show_bundles import _show_judged
from ray_jobs.cli.show_runs import show_run
from ray_jobs.evaluation.evaluate import EvaluationOutcome
from ray_jobs.run.listing import RunRow, RunView
from ray_jobs.run.outcome import BestEpoch, TrainOutcome
from resnet_dist.evaluation.judge import report
from resnet_dist.evaluation.judged_answers import judge_answers
from resnet_dist.runtime.operating_point import OperatingPoint

OUTCOME = TrainOutcome(
    run=f"{Path.cwd()}/outputs/runs/tiles",
    steps=60,
    epochs=6,
    metrics={"val/top1": 0.9, "val/loss": 0.3},
    images_per_second=20.0,
    already_finished=False,
    best=BestEpoch(4, 40, "val/top1", 0.9),
    splits={"train": 30, "val": 10, "test": 10},
)
STOPPED = "early stopping after epoch 6: val/loss has not improved for 2 epochs, since epoch 4 (0.3000)"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_trained_run_says_which_epoch_is_best_and_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    show_training(OUTCOME)
    said = lines(capsys)
    assert said[:2] == [f"{OUTCOME.run} finished: 6 epochs, 60 steps", "best: epoch 4, by val/top1 0.9000"]
    assert said[-1] == "next: resnet-dist evaluate tiles --split test"
    assert OUTCOME.ending == "finished after 6 epochs; best: epoch 4, by val/top1 0.9000"


def test_a_run_that_ended_early_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    stopped = replace(OUTCOME, ended_early=STOPPED, splits={"train": 30, "val": 10})
    show_training(stopped)
    said = lines(capsys)
    assert said[1] == STOPPED
    assert said[-1] == "next: resnet-dist evaluate tiles --split val"
    assert stopped.ending == f"{STOPPED}; best: epoch 4, by val/top1 0.9000"
    best = json.loads(json.dumps(stopped.to_json(), allow_nan=False))["best"]
    assert best == {"epoch": 4, "step": 40, "monitor": "val/top1", "value": 0.9}


def test_without_a_best_epoch_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    show_training(replace(OUTCOME, best=None, metrics={}))
    assert not any(line.startswith("best:") for line in lines(capsys))
    assert str(replace(OUTCOME, best=BestEpoch(None, 40, "val/top1", 0.9)).best) == "step 40, by val/top1 0.9000"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (f"{Path.cwd()}/outputs/runs/a", "a --force"),
        ("/mnt/shared/runs/a", "a --force --storage.root /mnt/shared"),
        ("s3://bucket/p/runs/a?region=eu&x=1", "a --force --storage.root 's3://bucket/p?region=eu&x=1'"),
        ("/mnt/my files/runs/a", "a --force --storage.root '/mnt/my files'"),
        ("/mnt/copies/a", "/mnt/copies/a --force"),
        ("/mnt/runs/a/copy", "/mnt/runs/a/copy --force"),
    ],
)
def test_the_next_command_names_the_run_as_commands_find_it(uri: str, words: str) -> None:
    assert run_words("export", uri, "--force") == f"resnet-dist export {words}"


def judged(classes: int) -> EvaluationOutcome:
    """The first class has nine images, all others ten."""
    labels = np.arange(10 * classes)[1:] % classes
    logits = np.eye(classes, dtype=np.float32)[labels]
    result = report(logits, labels, tuple("abcdefghijklmnopqrstuvwxyz"[:classes]), seed=0, bootstrap_samples=100)
    where = "/mnt/shared/runs/tiles"
    return EvaluationOutcome(where, "test", "step-00000040", result, (), f"{where}/evaluation/test.predictions.parquet")


def test_an_evaluation_names_its_predictions_the_next_command_and_classes_of_few_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_evaluation(judged(3))
    said = lines(capsys)
    assert said[-2:] == [
        "predictions: /mnt/shared/runs/tiles/evaluation/test.predictions.parquet",
        "next: resnet-dist export tiles --storage.root /mnt/shared",
    ]
    assert [line.split()[0] for line in said if line.endswith("too few images to judge")] == ["a"]
    assert not any("top5" in line for line in said)


def test_above_five_classes_there_is_top5(capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluation(judged(6))
    assert any(line.split()[:1] == ["top5"] for line in lines(capsys))


def test_an_export_marks_classes_of_few_images_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    labels = np.array([0] * 9 + [1] * 10)
    counts = judge_answers(OperatingPoint(1.0), np.eye(2, dtype=np.float32)[labels], labels, ("nine", "ten"), {})
    _show_judged("val", counts, set())
    assert [line.split()[0] for line in lines(capsys) if line.endswith("too few images to judge")] == ["nine"]


def test_the_address_of_a_runs_bundle_keeps_the_options_of_its_uri_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = RunRow("tiles", "s3://bucket/runs/tiles?region=eu", "done")
    show_run(RunView(row, None, has_bundle=True))
    assert "  bundle: s3://bucket/runs/tiles/bundle?region=eu" in lines(capsys)
