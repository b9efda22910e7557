"""A run that was really trained becomes a bundle; what is wrong with it, or with what is asked for, is said."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ray_jobs.cli.app import main
from ray_jobs.job.toml import check
from ray_jobs.training.driver import run_train
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.predictor import Predictor

pytestmark = pytest.mark.slow

CLASSES = ("one", "two", "zero")
Export = Callable[..., int]


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of three classes: 40 to train on, 20 to validate and 20 to test of each."""
    root = tmp_path_factory.mktemp("shown")
    digits: Any = load_digits()
    for label, name in ((1, "one"), (2, "two"), (0, "zero")):
        for number, pixels in enumerate(digits.images[digits.target == label][:80]):
            path = root / ("train" if number < 40 else "val" if number < 60 else "test") / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).resize((24, 24)).save(path)
    return root


@pytest.fixture(scope="session")
def trained(shared_ray: None, tmp_path_factory: pytest.TempPathFactory, shown: Path) -> Path:  # noqa: ARG001
    """The storage root of a run "digits" that knows its classes well."""
    root = tmp_path_factory.mktemp("trained")
    job = check(
        {
            "name": "digits",
            "data": {"root": str(shown), "image_size": 32, "cache_dir": str(root / "cache")},
            "augmentation": {"horizontal_flip": 0.0, "crop_area": (0.8, 1.0)},
            "model": {"arch": "resnet18", "weights": "none"},
            "optimizer": {"learning_rate": 0.02},
            "training": {"epochs": 6, "global_batch_size": 16, "microbatch_size": 8},
            "storage": {"root": str(root / "storage")},
            "cluster": {"local_cpus": 4},
        }
    )
    assert run_train(job).metrics["val/top1"] > 0.9
    return root / "storage"


@pytest.fixture
def storage(trained: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(trained, tmp_path / "storage")


@pytest.fixture
def export(storage: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the verb; exit code, stdout and stderr."""

    def run(*arguments: str, run: str = "digits") -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["export", run, "--storage.root", str(storage), *arguments])
        return code, *capfd.readouterr()

    return run


def bundle_of(storage: Path) -> Path:
    return storage / "runs" / "digits" / "bundle"


def test_a_run_becomes_a_bundle_that_answers_as_the_run_does(export: Any, storage: Path, shown: Path):
    code, out, err = export("--formats", "onnx, openvino_fp16,torchscript", "--export.recall", "two=1.0")
    assert (code, err) == (0, "")
    assert "onnx: passed" in out
    assert "next: resnet-dist predict" in out

    place = bundle_of(storage)
    bundle = Bundle.open(storage / "runs" / "digits")
    bundle.verify()
    assert bundle.classes == CLASSES
    assert set(bundle.formats) == {"onnx", "openvino_fp16", "torchscript"}
    assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == {
        *("bundle.json", "preprocess.json", "parity.json", "README.md", "sbom.cdx.json", "onnx/model.onnx"),
        *("openvino_fp16/model.xml", "openvino_fp16/model.bin", "torchscript/model.pt"),
    }
    assert bundle.provenance["run"] == "digits"
    assert bundle.provenance["config"]["training.global_batch_size"] == 16
    assert re.fullmatch(r"[0-9a-f]{8,}", bundle.provenance["data_fingerprint"])
    assert bundle.provenance["packages"]["torch"]
    # Nothing in it says where it was made.
    for file in ("bundle.json", "README.md", "parity.json", "sbom.cdx.json"):
        text = (place / file).read_text()
        assert str(storage.parent) not in text
        assert str(Path(__file__).parents[2]) not in text
        assert "file:" not in text
    components = json.loads((place / "sbom.cdx.json").read_text())
    assert "torch" in {each["name"] for each in components["components"]}

    images = sorted((shown / "test").rglob("*.png"))
    truth = [path.parent.name for path in images]
    judged = json.loads((place / "parity.json").read_text())["judged"]["test"]
    assert judged["samples"] == len(images)
    for name in ("onnx", "openvino_fp16"):
        answers = Predictor.from_bundle(place, name).predict(images)
        right = np.mean([each.label == label for each, label in zip(answers, truth, strict=True)])
        assert right == pytest.approx(judged["metrics"]["top1"], abs=0.02)
        assert all(sum(each.probabilities) == pytest.approx(1.0) for each in answers)
    assert judged["classes"]["two"]["recall"] > 0.9

    with pytest.raises(BundleError, match="can hold code"):
        Predictor.from_bundle(place, "torchscript")


def test_exporting_again_replaces_the_bundle_and_leaves_nothing_of_the_old_one(export: Any, storage: Path):
    assert export("--formats", "onnx,openvino")[0] == 0
    assert export("--formats", "onnx")[0] == 0
    assert set(Bundle.open(bundle_of(storage)).formats) == {"onnx"}
    assert not (bundle_of(storage) / "openvino" / "model.xml").exists()


def test_ranges_from_black_images_are_caught_by_the_gate(export: Any, storage: Path, tmp_path: Path):
    black = tmp_path / "black"
    black.mkdir()
    for number in range(16):
        Image.new("RGB", (32, 32)).save(black / f"{number}.png")
    code, _, err = export("--formats", "onnx,onnxruntime_int8", "--export.calibration-root", str(black))
    assert code == 4
    assert re.search(r"onnxruntime_int8 is not published: top-1 falls by \d+\.\d+ points \(\d", err)
    bundle = Bundle.open(bundle_of(storage))
    assert set(bundle.formats) == {"onnx"}
    assert bundle.refused["onnxruntime_int8"].startswith("top-1 falls by")
    assert not (bundle_of(storage) / "onnxruntime_int8").exists()
    report = json.loads((bundle_of(storage) / "parity.json").read_text())["formats"]["onnxruntime_int8"]
    assert report["verdict"] == "refused"
    assert report["top1_difference"] > 0.1
    with pytest.raises(BundleError, match="it was refused, top-1 falls"):
        Predictor.from_bundle(bundle_of(storage), "onnxruntime_int8")

    assert export("--formats", "onnx,onnxruntime_int8", "--export.calibration-images", "64")[0] == 0
    assert Bundle.open(bundle_of(storage)).formats["onnxruntime_int8"].verdict == "inconclusive"


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_converter_that_fails_costs_its_own_format_only(
    export: Any, storage: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
):
    def fails(*_: Any) -> None:
        raise error("no such operator")

    # By its name: what converts stands behind imports of its own.
    monkeypatch.setattr("resnet_dist.export.formats.onnx_graph.write_onnx", fails)
    code, _, err = export("--formats", "torchscript,onnx")
    assert code == 4
    assert f"onnx is not published: it could not be built ({error.__name__}: no such operator)" in err
    assert set(Bundle.open(bundle_of(storage)).formats) == {"torchscript"}


def test_a_signed_bundle_is_checked_by_its_key(export: Any, storage: Path, tmp_path: Path):
    keys = {}
    for name in ("own", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        keys[name] = (private, public)
    assert export("--formats", "onnx", "--export.signing-key", str(keys["own"][0]))[0] == 0
    place = bundle_of(storage)
    Bundle.open(place, keys["own"][1])
    assert str(tmp_path) not in (place / "bundle.json").read_text()
    with pytest.raises(BundleError, match=r"is not what the owner of .*other\.pub signed"):
        Bundle.open(place, keys["other"][1])
    (place / "README.md").write_text("something else")
    with pytest.raises(BundleError, match=r"is not what the owner of .*own\.pub signed"):
        Bundle.open(place, keys["own"][1])
    assert export("--formats", "onnx")[0] == 0
    with pytest.raises(BundleError, match=r"is not signed: it has no model\.sig"):
        Bundle.open(place, keys["own"][1])

    code, _, err = export("--formats", "onnx", "--export.signing-key", str(keys["own"][1]))
    assert (code, "cannot sign" in err) == (2, True)


def test_a_resize_in_the_graph_takes_images_of_any_size(export: Any, storage: Path, shown: Path):
    assert export("--formats", "onnx,onnx_resize")[0] == 0
    images = sorted((shown / "test").rglob("*.png"))
    plain, own = (Predictor.from_bundle(bundle_of(storage), name).predict(images) for name in ("onnx", "onnx_resize"))
    assert [each.label for each in own] == [each.label for each in plain]
    assert max(abs(a.confidence - b.confidence) for a, b in zip(own, plain, strict=True)) < 0.02


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--formats", "caffe"], 2, r"formats.*caffe"),
        (["--export.opset", "12"], 2, r"export\.opset=12"),
        (["--formats", "tensorrt"], 2, r"export\.formats=tensorrt: .*trtexec"),
        (["--formats", "onnx", "--export.recall", "scratch=0.9"], 3, r"class 'scratch'; the run learnt one, two, zero"),
        (["--formats", "onnx", "--export.signing-key", "/no/such.pem"], 2, r"signing_key=/no/such\.pem is no file"),
        (["--checkpoint", "7777"], 3, r"7777"),
        (["--formats", "onnxruntime_int8", "--export.calibration-root", "/no/where"], 3, r"has no readable image"),
    ],
)
def test_what_cannot_be_exported_is_said(export: Any, storage: Path, arguments: list[str], code: int, words: str):
    found, _, err = export(*arguments)
    assert found == code
    assert re.search(words, err)
    assert not (bundle_of(storage) / "bundle.json").exists()


def test_a_run_without_a_checkpoint_or_with_a_damaged_one_is_refused(export: Any, storage: Path):
    checkpoints = storage / "runs" / "digits" / "checkpoints"
    for weights in checkpoints.glob("*/weights.safetensors"):
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
    assert export("--formats", "onnx")[0] == 3
    shutil.rmtree(checkpoints)
    code, _, err = export("--formats", "onnx")
    assert (code, "checkpoint" in err) == (3, True)
    code, _, err = export("--formats", "onnx", run="nothing")
    assert (code, "'nothing' is no run" in err) == (3, True)


def test_a_folder_that_holds_something_else_is_left_alone(export: Any, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    code, _, err = export("--formats", "onnx", "--output", str(tmp_path / "mine"))
    assert (code, "holds 'letter.txt' and no bundle" in err) == (2, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]

    code, _, err = export("--formats", "onnx", "--output", "/proc/nowhere")
    assert (code, "could not be written" in err) == (3, True)

    assert export("--formats", "onnx", "--output", str(tmp_path / "own"))[0] == 0
    assert set(Bundle.open(tmp_path / "own").formats) == {"onnx"}
