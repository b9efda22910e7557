"""`resnet-dist export` as it is typed: what is promised of classes is kept, counted alike everywhere, or refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.cli.app import main
from resnet_dist.runtime.predictor import Predictor
from tests.untrained_run import SPLITS, untrained_run

Export = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(tmp_path_factory.mktemp("untrained"), "line")


@pytest.fixture
def export(storage: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Export:
    """Runs the verb into tmp_path / "bundle"; exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        place = ("--storage.root", str(storage), "--output", str(tmp_path / "bundle"))
        code = main(["export", "line", "--formats", "onnx", *place, *arguments])
        return code, *capfd.readouterr()

    return run


def test_a_recall_is_kept_beside_a_reject_class_and_counted_alike_everywhere(
    export: Export, storage: Path, tmp_path: Path
):
    code, out, err = export("--export.recall", "crack=0.95", "--export.reject-below", "0.6")
    assert (code, err) == (0, "")
    judged = json.loads((tmp_path / "bundle" / "parity.json").read_text())["judged"]
    crack = judged["val"]["classes"]["crack"]
    assert crack["found"] >= 0.95 * SPLITS["val"]
    assert crack["recall"] >= crack["asked_recall"] == 0.95
    assert judged["val"]["rejected"] > 0, "nothing was at stake"
    # What production answers from files is what is stated.
    images = storage.parent / "images" / "val"
    labels = {
        name: [answer.label for answer in Predictor.from_bundle(tmp_path / "bundle").predict(sorted(files))]
        for name in ("crack", "good", "hole")
        if (files := list((images / name).glob("*.png")))
    }
    card = (tmp_path / "bundle" / "README.md").read_text()
    for name, answers in labels.items():
        of = judged["val"]["classes"][name]
        found, rejected = answers.count(name), answers.count(None)
        alarms = sum(others.count(name) for label, others in labels.items() if label != name)
        assert (of["images"], of["found"], of["rejected"], of["false_alarms"]) == (20, found, rejected, alarms)
        assert of["missed"] == 20 - found - rejected
        counts = (20, found, 20 - found - rejected, rejected, alarms)
        assert f"| {name} | {' | '.join(map(str, counts))} | {5 * found:.1f} % |" in card
        assert re.search(rf"^ *{name} +{' +'.join(map(str, counts))} +{found / 20:.4f}", out, re.M)


def test_recalls_that_exclude_each_other_end_with_4_and_write_nothing(export: Export, tmp_path: Path):
    code, _, err = export("--export.recall", "crack=1.0", "--export.recall", "good=1.0")
    assert code == 4
    assert re.search(r"missed by the trained model on val: \d+ of 20 images of \w+ are found \(.* %\), 100 % are", err)
    assert "ask less of one class" in err
    assert not (tmp_path / "bundle" / "bundle.json").exists()
