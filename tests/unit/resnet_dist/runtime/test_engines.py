"""Engines answer batches of the right kind alike, and refuse all others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import Engine, load_engine
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def engine(request: pytest.FixtureRequest, bundle_folder: Path) -> Engine:
    return load_engine(Bundle.open(bundle_folder), request.param, threads=1)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "images",
    [
        noise(1).astype(np.float32),
        noise(1).astype(np.int8),
        noise(1)[0],
        noise(1)[:, :31],
        noise(1)[..., :2],
        noise(1).transpose(0, 3, 1, 2),
        noise(0),
        np.zeros((1025, 32, 32, 3), dtype=np.uint8),
    ],
    ids=lambda images: f"{images.dtype}{list(images.shape)}",
)
def test_what_is_no_batch_is_refused(engine: Engine, images: Any):
    with pytest.raises(ValueError, match=r"a batch is uint8 \[N, 32, 32, 3\] with N in 1..1024"):
        engine(images)


def test_the_largest_batch_is_answered_as_its_images_alone_are(engine: Engine):
    images = noise(1024)
    together = engine(images)
    assert (together.shape, together.dtype) == ((1024, 3), np.float32)
    alone = np.concatenate([engine(images[at : at + 1]) for at in (0, 500, 1023)])
    np.testing.assert_allclose(together[[0, 500, 1023]], alone, atol=1e-3 * np.abs(together).max())


def test_images_that_lie_elsewhere_in_memory_are_answered_alike(engine: Engine):
    images = noise(8)
    np.testing.assert_array_equal(engine(images[::2]), engine(images[::2].copy()))


def test_an_answer_is_not_overwritten_by_the_next(engine: Engine):
    first = engine(noise(2))
    before = first.copy()
    engine(255 - noise(2))
    np.testing.assert_array_equal(first, before)


def test_formats_answer_alike(bundle_folder: Path):
    bundle = Bundle.open(bundle_folder)
    one, other = (load_engine(bundle, name)(noise(16)) for name in ("onnx", "openvino"))
    np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())


@pytest.mark.parametrize(
    ("runtime", "error", "said"),
    [
        ("torch", BundleError, "can hold code that loading it would run.*--format openvino"),
        ("tensorrt", RuntimeMissingError, "needs TensorRT.*--format openvino"),
    ],
)
def test_what_the_runtime_does_not_load_is_refused_with_what_it_does(
    bundle_folder: Path, runtime: Any, error: type[Exception], said: str
):
    bundle = Bundle.open(bundle_folder)
    known = bundle.formats["onnx"]
    bundle.formats = bundle.formats | {"onnx": type(known)(**(vars(known) | {"runtime": runtime}))}
    with pytest.raises(error, match=said):
        load_engine(bundle, "onnx")


@pytest.mark.parametrize("hints", [{"CACHE_DIR": "cache"}, {"INFERENCE_PRECISION_HINT": "dynamic"}])
def test_a_bundle_tells_openvino_nothing_but_the_precision(
    bundle_folder: Path, hints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(bundle_folder)
    known = bundle.formats["openvino"]
    bundle.formats = bundle.formats | {"openvino": type(known)(**(vars(known) | {"hints": hints}))}
    with pytest.raises(BundleError, match="INFERENCE_PRECISION_HINT alone"):
        load_engine(bundle, "openvino")
    assert not list(tmp_path.iterdir())
