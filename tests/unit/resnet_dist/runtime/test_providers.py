"""What an ONNX format runs on is what was named, and is said."""

from pathlib import Path

import numpy as np
import pytest

from resnet_dist.runtime import providers
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import load_engine
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.predictor import Predictor

onnxruntime = pytest.importorskip("onnxruntime")
HAS_GPU_PACKAGE = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
needs_cpu_package = pytest.mark.skipif(HAS_GPU_PACKAGE, reason="this ONNX Runtime knows GPUs")

PHOTO = np.zeros((20, 30, 3), dtype=np.uint8)


@needs_cpu_package
def test_by_default_it_is_what_is_installed_and_every_answer_says_so(bundle_folder: Path):
    predictor = Predictor.from_bundle(bundle_folder, threads=1)
    assert predictor.runs_on == "ONNX Runtime on cpu"
    answer, damaged = predictor.predict([PHOTO, b"no image"])
    assert answer.runs_on == "ONNX Runtime on cpu"
    assert damaged.runs_on == ""


@needs_cpu_package
def test_a_provider_that_is_not_there_is_an_error_that_names_the_extra(bundle_folder: Path):
    with pytest.raises(RuntimeMissingError) as caught:
        Predictor.from_bundle(bundle_folder, providers=("tensorrt", "cuda"))
    for word in ("tensorrt, cuda can be had", "resnet-dist[gpu-runtime]", "name cpu, too"):
        assert word in str(caught.value)


@needs_cpu_package
def test_what_was_passed_over_is_said_and_not_the_answers_business(bundle_folder: Path):
    predictor = Predictor.from_bundle(bundle_folder, providers=("cuda", "cpu"))
    assert predictor.runs_on.startswith("ONNX Runtime on cpu; not on cuda: this ONNX Runtime has no such provider")
    assert predictor.predict([PHOTO])[0].runs_on == "ONNX Runtime on cpu"


def test_openvino_is_not_asked_for_a_gpu(bundle_folder: Path):
    bundle = Bundle.open(bundle_folder)
    with pytest.raises(RuntimeMissingError, match=r"format 'openvino' runs on the CPU alone, and providers are cuda"):
        load_engine(bundle, "openvino", 1, providers=("cuda",))
    assert load_engine(bundle, "openvino", 1, providers=("cuda", "cpu")).runs_on == (
        "OpenVINO on cpu; not on cuda: OpenVINO's formats run on the CPU alone"
    )


def test_a_provider_that_fails_to_start_is_said_in_its_own_words_and_never_on_stdout(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Another provider of the same package plays a GPU whose libraries do not load."""
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {name}")
    monkeypatch.setitem(providers._NAMES, "cuda", name)

    def refuse(*_: object) -> None:
        raise RuntimeError("Please install the libraries")

    monkeypatch.setattr(onnxruntime.InferenceSession, "_register_ep_custom_ops", refuse)
    bundle = Bundle.open(bundle_folder)
    with pytest.raises(
        RuntimeMissingError, match=r"cuda: it does not run this file here \(Please install the libraries"
    ):
        load_engine(bundle, "onnx", 1, providers=("cuda",))
    assert capfd.readouterr().out == ""
