"""A real bundle for all tests of export."""

from pathlib import Path

import pytest

from tests.real_bundle import make_bundle


@pytest.fixture(scope="session")
def real_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with the formats torchscript, onnx and openvino; its network lies beside it."""
    return make_bundle(tmp_path_factory.mktemp("real") / "bundle")
