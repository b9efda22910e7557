"""A bundle whose model is not what bundle.json says, or does not behave, is refused: hashes and seal are right."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ray_jobs.prediction.rows import row_writer
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import load_engine
from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.predictor import NOT_FINITE, Prediction, Predictor
from tests import hostile_models as hostile

ONNX = "onnx/model.onnx"
XML, BIN = "openvino/model.xml", "openvino/model.bin"
IMAGES = np.zeros((2, 32, 32, 3), np.uint8)
Hostile = Callable[..., Bundle]


@pytest.fixture
def bundle_of(bundle_folder: Path, tmp_path: Path) -> Hostile:
    """A bundle with another ONNX model, or other files."""

    def make(model: onnx.ModelProto | None = None, change: Callable[[dict[str, Any]], object] = len, **files: bytes):
        given = {**({ONNX: model.SerializeToString()} if model else {}), **files}
        return Bundle.open(hostile.bundle_with(bundle_folder, tmp_path / "hostile", given, change))

    return make


def test_a_small_model_that_is_as_it_says_is_loaded(bundle_of: Hostile):
    assert load_engine(bundle_of(hostile.model()), "onnx", 1)(IMAGES).tolist() == [[0.0] * 3] * 2


U8, F32 = TensorProto.UINT8, TensorProto.FLOAT
WRONG = {
    "name of the input": (hostile.model(images=("pixels", U8, hostile.BATCH)), "takes pixels uint8"),
    "type of the input": (hostile.model(images=("images", F32, hostile.BATCH)), "takes images float32"),
    "size": (hostile.model(images=("images", U8, ("batch", 32, 31, 3))), r"takes images uint8 \[any, 32, 31, 3\], "),
    "any size": (hostile.model(images=("images", U8, ("batch", "h", "w", 3))), r"takes images uint8 \[any, any, any, "),
    "fixed batch": (hostile.model(images=("images", U8, (8, 32, 32, 3))), r"takes images uint8 \[8, 32, 32, 3\]"),
    "name of the output": (hostile.model(logits=[("scores", F32, ("batch", 3))]), "gives scores float32"),
    "two outputs": (
        hostile.model(logits=[("logits", F32, ("batch", 3)), ("more", F32, ("batch", 3))]),
        "gives logits .* and more .*, but",
    ),
    "fewer classes": (
        hostile.model(
            [helper.make_node("Slice", ["means", "0", "2", "1"], ["logits"])],
            {"0": np.array([0]), "1": np.array([1]), "2": np.array([2])},
            logits=[("logits", F32, ("batch", 2))],
        ),
        r"gives logits float32 \[any, 2\], but bundle\.json says logits float32 \[any, 3\]",
    ),
    "type of the output": (
        hostile.model(
            [helper.make_node("Cast", ["means"], ["logits"], to=TensorProto.DOUBLE)],
            logits=[("logits", TensorProto.DOUBLE, ("batch", 3))],
        ),
        "gives logits tensor.double. ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_model_of_another_interface_is_refused(bundle_of: Hostile, what: str):
    model, said = WRONG[what]
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(BundleError, match=rf"hostile/onnx/model\.onnx {said}"):
        load_engine(bundle_of(model), "onnx", 1)


def test_a_manifest_of_another_size_or_of_other_names_is_refused(
    bundle_of: Hostile, bundle_folder: Path, tmp_path: Path
):
    with pytest.raises(BundleError, match=r"preprocess\.json makes images of \[32, 32\].*takes \[64, 32\]"):
        bundle_of(None, lambda manifest: manifest["input"].update(height=64))
    other = hostile.bundle_with(
        bundle_folder, tmp_path / "other", {}, lambda manifest: manifest["output"].update(name="x")
    )
    for name in ("onnx", "openvino"):
        with pytest.raises(BundleError, match=f"other/{name}/model.* gives logits float32 .* says x float32"):
            load_engine(Bundle.open(other), name, 1)


def test_a_tensor_in_another_file_is_refused_though_the_file_is_there(
    bundle_of: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    with pytest.raises(BundleError, match=r"hostile/onnx/model\.onnx takes the tensor 'weight' from another file"):
        load_engine(bundle_of(hostile.external("weights.bin")), "onnx", 1)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"ORTM" * 50, hostile.model().SerializeToString()[:-9]])
def test_bytes_that_are_no_model_are_refused(bundle_of: Hostile, data: bytes):
    bundle = bundle_of(None, **{ONNX: data, XML: data})
    for name, place in (("onnx", ONNX), ("openvino", XML)):
        with pytest.raises(BundleError, match=f"hostile/{place} (is no ONNX file|cannot be loaded|is no OpenVINO IR)"):
            load_engine(bundle, name, 1)


def test_an_operator_that_nobody_knows_is_refused(bundle_of: Hostile):
    model = hostile.model([helper.make_node("Backdoor", ["means"], ["logits"], domain="evil")])
    model.opset_import.append(helper.make_opsetid("evil", 1))
    with pytest.raises(BundleError, match=r"onnx/model\.onnx cannot be loaded \(.*Backdoor"):
        load_engine(bundle_of(model), "onnx", 1)


def test_openvino_reads_its_own_xml_alone_and_both_files_of_the_manifest(
    bundle_of: Hostile, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It would read ONNX, too, with tensors in files that no hash covers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    foreign = bundle_of(None, **{XML: hostile.external("weights.bin").SerializeToString()})
    with pytest.raises(BundleError, match=r"openvino/model\.xml is no OpenVINO IR"):
        load_engine(foreign, "openvino", 1)

    def without_weights(manifest: dict[str, Any]) -> None:
        manifest["formats"]["openvino"]["files"] = [XML]

    alone = hostile.bundle_with(bundle_folder, tmp_path / "alone", {}, without_weights)
    monkeypatch.chdir(alone / "openvino")
    with pytest.raises(BundleError, match=r"alone/openvino/model\.xml: openvino reads 2 files, and the format has 1"):
        load_engine(Bundle.open(alone), "openvino", 1)
    short = hostile.bundle_with(bundle_folder, tmp_path / "short", {BIN: b"few"})
    with pytest.raises(BundleError, match=r"short/openvino/model\.xml cannot be loaded"):
        load_engine(Bundle.open(short), "openvino", 1)


def test_a_model_that_answers_other_than_it_says_is_refused(bundle_of: Hostile):
    engine = load_engine(bundle_of(hostile.fewer_rows()), "onnx", 1)
    assert engine(IMAGES[:1]).shape == (1, 3)
    with pytest.raises(BundleError, match=r"onnx answers 2 images by float32 \[1, 3\] instead of float32 \[2, 3\]"):
        engine(IMAGES)


def test_a_model_that_fails_says_so_with_its_file(bundle_of: Hostile):
    engine = load_engine(bundle_of(hostile.out_of_bounds()), "onnx", 1)
    with pytest.raises(BundleError, match=r"onnx/model\.onnx fails on a batch of 2 images \(.*"):
        engine(IMAGES)


def test_a_model_that_never_returns_is_ended_and_not_asked_again(bundle_of: Hostile):
    engine = load_engine(bundle_of(hostile.endless()), "onnx", 1, timeout_s=0.2)
    with pytest.raises(BundleError, match=r"onnx/model\.onnx did not answer a batch of 2 images in 0\.2 s: take"):
        engine(IMAGES)
    assert "model" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(BundleError, match="did not answer a batch of 2 images"):
        engine(IMAGES[:1])


def test_a_predictor_gives_up_a_model_that_never_returns(bundle_of: Hostile, image_files: Any):
    predictor = Predictor.of(bundle_of(hostile.endless()), threads=1, batch_timeout_s=0.2)
    with pytest.raises(BundleError, match="did not answer a batch of 4 images"):
        predictor.predict([image_files.photo(40, 30)] * 20, batch_size=4)


def test_logits_that_are_not_finite_are_rows_with_an_error_and_json_stays_json(bundle_of: Hostile, tmp_path: Path):
    bundle = bundle_of(hostile.not_finite())
    predictor = Predictor.of(bundle, threads=1)
    red = [np.full((32, 32, 3), (level, 7, 9), np.uint8) for level in (0, 100, 255, 30)]
    answers = predictor.predict(red, batch_size=4)
    assert [answer.error for answer in answers] == [NOT_FINITE, None, NOT_FINITE, None]
    assert answers[0] == answers[2] == Prediction(None, 0.0, (), NOT_FINITE)
    assert sum(answers[1].probabilities) == pytest.approx(1)
    with (tmp_path / "rows.jsonl").open("w") as stream:
        write = row_writer("jsonl", bundle.classes, True, stream)
        for answer in answers:
            write("image", answer)
    for line, answer in zip((tmp_path / "rows.jsonl").read_text().splitlines(), answers, strict=True):
        row = json.loads(line, parse_constant=pytest.fail)
        assert (row["error"], row["confidence"] is None) == (answer.error, answer.error is not None)
