"""Small real bundles, made by the code that makes them in production: ResNet-18 at 32 px, three classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch

from resnet_dist.export.bundle_writer import BundleContent, write_bundle
from resnet_dist.export.config import ExportConfig, Format
from resnet_dist.export.formats.build import BuiltFormat, Calibration, build, write_graph
from resnet_dist.export.parity import Parity
from resnet_dist.model.model_json import describe
from resnet_dist.model.resnet import build_model
from resnet_dist.runtime.bundle import MANIFEST, seal
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess

SIZE = 32
CLASSES = ("bolt", "crack", "nut")
FORMATS: tuple[Format, ...] = ("torchscript", "onnx", "openvino")
_PASSED = Parity("passed", "", 4, 1.0, 0.0, (-0.01, 0.01), 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.1, 44.7, 1.0)
"""What a parity check would say, which is not what these tests are about."""


def contract() -> Preprocess:
    """Whole images of `SIZE`."""
    return Preprocess("whole", SIZE, 1.0, (0, 0, 0), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), None, 10**6)


def make_bundle(folder: Path, formats: tuple[Format, ...] = FORMATS, key: Path | None = None) -> Path:
    """Write a bundle of a network with random weights into `folder`; the network itself into `folder`-network."""
    model, preprocess, point = build_model("resnet18", len(CLASSES), 0.0, 0).eval(), contract(), OperatingPoint()
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.zeros(4, dtype=np.int64)
    write_graph(model, preprocess, folder, ExportConfig().opset)
    built: list[BuiltFormat] = []
    parities: dict[str, Parity] = {}
    for name in formats:
        made = build(name, model, preprocess, folder, ExportConfig(), Calibration([images], [images], labels))
        built.append(made)
        parities[name] = _PASSED
    provenance = {"run": "line", "checkpoint": "step-00000001", "arch": "resnet18", "packages": {}}
    content = BundleContent("line", CLASSES, preprocess, point, provenance, {"val": _judged()})
    write_bundle(folder, content, built, parities, {}, key)
    beside = folder.with_name(f"{folder.name}-network")
    beside.mkdir()
    (beside / "model.json").write_text(json.dumps(describe(model)))
    safetensors.torch.save_file(model.state_dict(), beside / "weights.safetensors")
    return folder


def changed(bundle: Path, folder: Path, **parts: object) -> Path:
    """A copy of a bundle whose bundle.json says something else, and is sealed again."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["seal"]
    (folder / MANIFEST).write_bytes(seal(manifest | parts))
    return folder


def inconclusive(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle of which nobody can tell whether one of its formats loses too much."""
    formats = json.loads((bundle / MANIFEST).read_bytes())["formats"]
    formats[name]["verdict"] = "inconclusive"
    formats[name]["parity"]["reason"] = "top-1 falls by 0.40 points (-0.10 .. 0.90), 0.50 are allowed"
    return changed(bundle, folder, formats=formats)


def digest_of(bundle: Path) -> str:
    """The seal of a bundle."""
    return json.loads((bundle / MANIFEST).read_bytes())["seal"]


def as_run(bundle: Path, root: Path, name: str) -> Path:
    """A copy of a bundle as the one of a run under a storage root; of the run there is no more than its config."""
    run = root / "runs" / name
    shutil.copytree(bundle, run / "bundle")
    (run / "config.toml").write_text(f'name = "{name}"\n')
    return run


def _judged() -> dict[str, object]:
    each = {"recall": 1.0, "precision": 1.0, "support": 1}
    return {"samples": 4, "metrics": {"top1": 1.0}, "rejected": 0.0, "classes": dict.fromkeys(CLASSES, each)}
