"""Whatever bundle.json and preprocess.json hold, also sealed anew, a bundle opens or is refused with a BundleError."""

import contextlib
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from resnet_dist.runtime.bundle import MANIFEST, PREPROCESS, Bundle, seal
from resnet_dist.runtime.errors import BundleError
from tests.fuzzing import cases, damaged, damaged_json, fuzz

WORDS = (b"null", b"NaN", b"1e999", b"{", b"[" * 3000, b"9" * 400, b"9" * 5000, b'"', b"\xff", b"\\ud800", b"-1", b"..")


def rewritten(folder: Path, name: str, data: bytes) -> None:
    """Replace a file; others may be links to the same one."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(data)


def sealed_anew(value: Any, text: str) -> bytes:
    """bundle.json with a seal that fits what was changed, where that is something that can be sealed."""
    try:
        return seal({key: each for key, each in value.items() if key != "seal"})
    except (ValueError, RecursionError, AttributeError):
        return text.encode("utf-8", "surrogatepass")


def as_json(text: str) -> Any:
    """Its value; None for what Python cannot read either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def test_a_manifest_is_read_or_refused(bundle_copy: Path):
    whole = (bundle_copy / MANIFEST).read_bytes()
    value = json.loads(whole)

    def make(chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return damaged(chance, whole, WORDS)
        text = damaged_json(chance, value)
        return sealed_anew(as_json(text), text)

    def read(data: bytes) -> None:
        rewritten(bundle_copy, MANIFEST, data)
        bundle = Bundle.open(bundle_copy)
        assert len(bundle.classes) == bundle.output.classes
        with contextlib.suppress(BundleError):  # of no format
            bundle.format(None)

    numbers = cases(150, 5000)
    assert 0 < fuzz("bundle.json", numbers, make, read, BundleError) < len(numbers)


def test_preprocessing_is_read_or_refused(bundle_copy: Path):
    """The manifest says that the damaged file is the one that was exported."""
    manifest, whole = json.loads((bundle_copy / MANIFEST).read_bytes()), (bundle_copy / PREPROCESS).read_bytes()
    value = json.loads(whole)

    def make(chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return damaged(chance, whole, WORDS)
        return damaged_json(chance, value, most=2).encode("utf-8", "surrogatepass")

    def read(data: bytes) -> None:
        rewritten(bundle_copy, PREPROCESS, data)
        manifest["files"][PREPROCESS] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest.pop("seal", None)
        rewritten(bundle_copy, MANIFEST, seal(manifest))
        assert max(Bundle.open(bundle_copy).preprocess.input_size) <= 16_384

    numbers = cases(150, 5000)
    assert 0 < fuzz("preprocess.json", numbers, make, read, BundleError) < len(numbers)


@pytest.mark.parametrize("name", [MANIFEST, PREPROCESS, ".onnx"])
@pytest.mark.timeout(30)
def test_a_pipe_among_the_files_is_not_waited_for(name: str, bundle_copy: Path):
    paths = [path.relative_to(bundle_copy).as_posix() for path in bundle_copy.rglob("*.onnx")]
    name = paths[0] if name.endswith(".onnx") else name
    (bundle_copy / name).unlink()
    os.mkfifo(bundle_copy / name)
    with pytest.raises(BundleError, match=r"no regular file|is no bundle"):
        Bundle.open(bundle_copy).verify()
